"""The maximisation: scipy.optimize's methods in the metric's coordinates, and when they stop.

`fitting` and all that maximises under constraints or for a comparison stand on it. It stands on `certificate`,
`refined`, `blocks` and `metric`.

Everything is measured in the coordinates of `MetricCoordinates`, on the mean loss, so nothing depends on the units of
X or the number of samples. The methods stop by a callback when the gradient's norm is at most `tol`; then
`certificate.polish` takes Newton steps while they shrink, and certifies the last point.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import OptimizeResult, leastsq, minimize

from csoftmax.blocks import ClassBlocks, blocks_cost, blocks_serve
from csoftmax.certificate import (
    CERTIFIED_RANGE,
    DENSE_COST,
    DENSE_LIMIT,
    NEAR,
    PATIENT,
    Certificate,
    MeanLoss,
    NewtonSteps,
    hessian_cost,
    length,
    polish,
)
from csoftmax.metric import MetricCoordinates
from csoftmax.refined import RefinedCoordinates
from csoftmax.samples import Array, blocks_of

SOLVERS = ("lm", "trust-exact", "Newton-CG", "trust-ncg", "trust-krylov", "L-BFGS-B")

DEFAULT_TOL = 1e-8
DEFAULT_MAX_ITER = 1000

# A gradient along a left-out direction of collinear columns that is more than rounding of exactly collinear ones.
HIDDEN_GRADIENT = 1e-12
# What rounding leaves of the scaled gradient, as a rule.
_LEAST_GRADIENT = 1e-15
# Iterations without progress after which a method is left.
_MAX_IDLE = 5
# Ten times as many evaluations are still what MINPACK's and L-BFGS-B's counters, of 32 bits, hold.
_MOST_ITERATIONS = 100_000_000
# Points at most from which the logits are refined.
_MAX_REFINED = 4
# Gradients that a Hessian may cost for L-BFGS-B to go on in its metric; beyond that in its blocks'.
_DEAR_HESSIAN = 20.0
# Hessians in whose metric L-BFGS-B goes on before Newton steps take over, once the gradient is small; and times that
# the blocks are taken before a Hessian is.
_MAX_METRICS = 4
# The mean loss times this is what Newton-CG is given.
_NEWTON_CG_SCALE = 1e4
# The scaled gradient from which Newton steps take over where a Hessian takes no longer than the calls around it: of zoo
# (101 x 16 x 7) two of them stand for 4 iterations in 22 and a tenth of the time. From 1e-4 on they find no way where a
# maximum is far off.
_HAND_OVER = 1e-5
# "auto" takes lm up to so many coordinates and so many multiplications of a gradient, about 0.05 ms of them.
_LM_COORDINATES = 60
_LM_WORK = 100_000


class ConvergenceWarning(UserWarning):
    """The maximisation stopped before its certificate held."""


class History(NamedTuple):
    """What each iteration reached; the last entry is after the Newton steps at the end.

    Attributes
    ----------
    penalized_log_likelihood, gradient_norm : ndarray of shape (n_iter + 1,)
        What is maximised, and the scaled gradient's norm.
    """

    penalized_log_likelihood: Array
    gradient_norm: Array


@dataclass
class Maximum:
    """What `maximize` found: in the metric's coordinates, and `params` in the units of X."""

    u: Array
    params: Array
    log_likelihood: float
    penalized_log_likelihood: float
    certificate: Certificate
    n_iter: int
    message: str
    optimize_result: OptimizeResult
    ended_by_itself: bool  # neither by max_iter nor by the callback
    history: History

    @property
    def success(self) -> bool:
        return self.certificate.holds


@dataclass(frozen=True)
class IterationState:
    """What a callback is given after each iteration."""

    n_iter: int
    log_likelihood: float
    penalized_log_likelihood: float
    gradient_norm: float
    params: Array


def check_solver(solver: str) -> None:
    """Raise ValueError unless `solver` is "auto" or one of the methods."""
    if solver not in ("auto", *SOLVERS):
        raise ValueError(f"solver is {solver!r}; one of 'auto', {', '.join(map(repr, SOLVERS))} is wanted")


def check_stopping(tol: Any, max_iter: Any) -> None:
    """Raise ValueError unless `tol` is in (0, 1e-3] and `max_iter` a whole number from 1."""
    is_number = isinstance(tol, numbers.Real) and not isinstance(tol, bool)
    if not (is_number and 0 < tol <= NEAR):
        too_large = is_number and tol > NEAR
        raise ValueError(f"tol is {tol!r}; a positive number up to {NEAR:g} is wanted"
                         f"{': from a larger gradient no Newton steps are tried at the end' if too_large else ''}")
    if isinstance(max_iter, bool) or not hasattr(max_iter, "__index__") or not 1 <= int(max_iter) <= _MOST_ITERATIONS:
        raise ValueError(f"max_iter is {max_iter!r}; a whole number from 1 is wanted, up to {_MOST_ITERATIONS}")


def choose_solver(coordinates: MetricCoordinates) -> str:
    """Return the method for `solver="auto"`.

    "lm" for small problems, where what scipy.optimize does around a gradient takes longer than the gradient: it
    does least. "L-BFGS-B" for the others, in the metric and then in the Hessian's, or its blocks': a Hessian costs many
    gradients.
    """
    n_classes, p = coordinates.objective.samples.params_shape
    work = float(coordinates.objective.samples.n_samples) * n_classes * p
    return "lm" if coordinates.n_coordinates <= _LM_COORDINATES and work <= _LM_WORK else "L-BFGS-B"


def maximize(coordinates: MetricCoordinates, *, solver: str = "auto", tol: float = DEFAULT_TOL,
             max_iter: int = DEFAULT_MAX_ITER, init: Array | None = None, exists: bool = False,
             stop_where_separated: bool = False, callback: Callable[[IterationState], Any] | None = None,
             before: Maximum | None = None) -> Maximum:
    """Maximise the penalised log-likelihood by scipy.optimize.

    Parameters
    ----------
    coordinates : MetricCoordinates
    solver : {"auto", "lm", "trust-exact", "Newton-CG", "trust-ncg", "trust-krylov", "L-BFGS-B"}
    tol : float
        The norm of the mean loss's gradient, in the metric, at which the method stops.
    max_iter : int
    init : ndarray of shape (n_classes, p), optional
        The start; zero by default, and where the loss is less there.
    exists : bool
        The maximum is known to exist: Newton steps are taken for longer.
    stop_where_separated : bool
        Stop once the loss shows that every row is in its class, where there is no penalty and no offset.
    callback : callable, optional
        Called with an `IterationState` after each iteration; may raise StopIteration.
    before : Maximum, optional
        What to go on from, in place of `init`: its iterations count.

    Raises
    ------
    ValueError
        If `solver` is not one of the methods.
    """
    check_solver(solver)
    method = choose_solver(coordinates) if solver == "auto" else solver
    loss = MeanLoss(coordinates)
    if before is not None:
        u = before.u
    else:
        u = np.zeros(coordinates.n_coordinates) if init is None else coordinates.coordinates(init)
    with Iterations(callback, lambda: coordinates.params(u), before) as iterations:
        separated_loss = _separated_loss(coordinates) if stop_where_separated else 0.0
        return _maximize(method, loss, u, _Stopper(coordinates, tol, iterations, separated_loss), max_iter, exists)


def _maximize(method: str, loss: MeanLoss, u: Array, stopper: _Stopper, max_iter: int, exists: bool) -> Maximum:
    coordinates, tol = loss.coordinates, stopper.tol
    metric: NewtonSteps | ClassBlocks | None = None
    if np.count_nonzero(u):
        # from far off, where probabilities are 0 or 1 to rounding, methods may find no way back
        at_zero = loss.loss(np.zeros_like(u))
        if not loss.loss(u) <= at_zero:
            u = np.zeros_like(u)
    else:
        # Without offset and penalty the Hessian at 0 is 2 / C: a Newton step for one gradient.
        at_zero, gradient = loss.both(u)
        first = -0.5 * coordinates.n_classes * gradient
        if loss.loss(first) < at_zero:
            u = first
    if length(loss.gradient(u)) <= tol * 1e-4:
        answer = OptimizeResult(x=u, fun=loss.loss(u), success=True, status=0, nit=0,
                                message="the start is the maximum")
    elif method == "lm":
        answer, metric = _lm(loss, u, stopper, max_iter)
        if not stopper.finished and stopper.n_iter < max_iter:
            answer, metric = _lbfgs(loss, answer.x, stopper, max_iter)
    elif method == "L-BFGS-B":
        if coordinates.held_whole:
            stopper.enough = max(tol, _HAND_OVER)
        answer, metric = _lbfgs(loss, u, stopper, max_iter)
    else:
        answer = _minimize(method, loss, u, stopper, max_iter)
    if not stopper.finished and stopper.n_iter < max_iter and method != "trust-exact" and (
            length(loss.gradient(answer.x)) > NEAR and hessian_cost(coordinates) <= DENSE_COST):
        # far from a maximum the method finds no step, as L-BFGS-B in the metric of a Hessian that is almost singular
        answer, metric = _minimize("trust-exact", loss, answer.x, stopper, max_iter), None
    if stopper.finished:  # by an exception, which scipy's methods tell of in several ways or take for a failure
        answer.success, answer.message = stopper.outcome
    n_iter = stopper.n_iter
    may_step = not stopper.iterations.stopped_by_callback and (n_iter < max_iter or stopper.outcome[0])
    newton, blocks = (metric, None) if isinstance(metric, NewtonSteps) else (None, metric)
    form = newton is not None or method in ("lm", "trust-exact")
    exists = exists or coordinates.penalized
    dear = not form and hessian_cost(coordinates) > DENSE_COST and coordinates.n_coordinates <= DENSE_LIMIT
    u, mean_loss, certificate = polish(loss, np.asarray(answer.x), tol, form=form, newton=newton, blocks=blocks,
                                       may_step=may_step, patience=PATIENT if exists and not dear else 3)
    if may_step and not certificate.holds and exists and dear:
        # what conjugate gradients do not find a Cholesky factor may
        other = polish(loss, np.asarray(answer.x), tol, form=True, may_step=True, patience=PATIENT)
        if other[2].holds or other[1] <= mean_loss:
            u, mean_loss, certificate = other
    if may_step and not certificate.holds and exists and type(coordinates) is MetricCoordinates:
        u, mean_loss, certificate = _refined(coordinates, u, mean_loss, certificate, tol)
    params = coordinates.params(u)
    penalized = -mean_loss * coordinates.total_mass
    hidden = coordinates.hidden_gradient(u)
    if certificate.holds and hidden > HIDDEN_GRADIENT:
        certificate = replace(certificate, holds=False)
    return Maximum(u, params, penalized + coordinates.penalty(u), penalized, certificate, n_iter,
                   _message(certificate, tol, n_iter, max_iter, stopper.iterations, hidden, coordinates.penalized),
                   answer, may_step, stopper.iterations.history(penalized, certificate.gradient_norm))


def _refined(coordinates: MetricCoordinates, u: Array, mean_loss: float, certificate: Certificate,
             tol: float) -> tuple[Array, float, Certificate]:
    """Take Newton steps from a point of small gradient whose logits are rounded; return what is better."""
    for _ in range(_MAX_REFINED):
        if certificate.holds or not (certificate.gradient_norm <= tol and np.isfinite(certificate.newton_range)):
            break
        refined = RefinedCoordinates(coordinates, u)
        v, refined_loss, other = polish(MeanLoss(refined), np.zeros(len(u)), tol, form=True, may_step=True)
        if not other.newton_range < certificate.newton_range:
            break
        u, mean_loss, certificate = u + v, refined_loss, other
    return u, mean_loss, certificate


def _lifted(hessian: Array) -> Array:
    """Return the Hessian (eigenvalues in [0, 1], in place) with 1e-12 added to each eigenvalue.

    Where samples are separated some are 0 up to rounding, of either sign, and on such a matrix scipy's subproblem can
    iterate for ever in what it takes for the hard case. No fit notices: the Newton steps at its end use the Hessian
    itself.
    """
    hessian.flat[::len(hessian) + 1] += 1e-12
    return hessian


class Iterations:
    """The iterations of a method: their history, the caller's callback, and where they have got to.

    As a context: a KeyboardInterrupt carries the parameters of the last iteration away, as its `params`.

    Parameters
    ----------
    callback : callable, optional
        Called with an `IterationState` after each; may raise StopIteration.
    start : callable
        Gives the parameters at the start, of shape (n_classes, p) in the units of X.
    before : Maximum, optional
        Whose iterations these follow.
    """

    def __init__(self, callback: Callable[[IterationState], Any] | None, start: Callable[[], Array],
                 before: Maximum | None = None) -> None:
        self._callback = callback
        self._params = start
        self._reached: list[tuple[float, float]] = []
        if before is not None:
            self._reached = list(zip(*(values[:-1].tolist() for values in before.history), strict=True))
        self.stopped_by_callback = False

    @property
    def n_iter(self) -> int:
        return len(self._reached)

    def note(self, penalized_log_likelihood: float, gradient_norm: float, log_likelihood: Callable[[], float],
             params: Callable[[], Array]) -> None:
        """Note an iteration; raises StopIteration where the callback does."""
        self._reached.append((penalized_log_likelihood, gradient_norm))
        self._params = params
        if self._callback is None:
            return
        try:
            self._callback(IterationState(self.n_iter, log_likelihood(), penalized_log_likelihood, gradient_norm,
                                          params()))
        except StopIteration:
            self.stopped_by_callback = True
            raise

    def history(self, penalized_log_likelihood: float, gradient_norm: float) -> History:
        """Return what was reached, and last what is given."""
        values, norms = np.array([*self._reached, (penalized_log_likelihood, gradient_norm)]).T
        return History(values, norms)

    def __enter__(self) -> Iterations:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, KeyboardInterrupt):
            error.params = self._params()  # type: ignore[attr-defined]
            error.add_note("csoftmax.fit was interrupted; the parameters reached, rows [w_k, b_k], are this "
                           "exception's `params`, and fit(..., init=error.params) goes on from there")


def _separated_loss(coordinates: MetricCoordinates) -> float:
    """Return the mean loss below which the samples are completely separated: going on is of no use.

    A sum of losses -m_j log p_j below log 2 times the least mass leaves each p_j above 1/2: every row is in its class.
    A row of several classes, such as one of soft labels, is in none, and its loss may be less than that.
    """
    samples = coordinates.objective.samples
    if coordinates.penalized or samples.offset is not None:
        return 0.0
    mass = samples.mass()
    if samples.counts is not None:
        assert mass is not None
        for first, counts in blocks_of(samples.counts):
            if ((counts > 0).sum(axis=1)[mass[first:first + len(counts)] > 0] > 1).any():
                return 0.0
    least = 1.0 if mass is None else float(mass[mass > 0].min())
    return float(np.log(2.0)) * least / coordinates.total_mass


class _Stopper:
    """Notes iterations, and stops a method where the gradient is small enough."""

    def __init__(self, coordinates: MetricCoordinates, tol: float, iterations: Iterations,
                 separated_loss: float) -> None:
        self.tol = self.enough = tol
        self.iterations, self._separated_loss = iterations, separated_loss
        self.finished = False  # a method has nothing more to do
        self.outcome: tuple[bool, str] = (False, "")
        self._coordinates = coordinates
        self._least = np.inf
        self._idle = 0

    @property
    def n_iter(self) -> int:
        return self.iterations.n_iter

    def reached(self, u: Array, value: float, norm: float) -> None:
        """Note an iteration that ended at u, with that loss and gradient's norm; StopIteration where it is the last."""
        coordinates = self._coordinates
        penalized = -value * coordinates.total_mass
        try:
            self.iterations.note(penalized, norm, lambda: penalized + coordinates.penalty(u),
                                 lambda: coordinates.params(u))
        except StopIteration:
            self.finished, self.outcome = True, (False, "stopped by the callback")
            raise
        # Methods that compare function values cannot go on where those differ by rounding only (a gradient of about
        # 1e-8); Newton steps, which look at the gradient, can.
        self._idle = 0 if value < self._least - 1e-15 * abs(value) else self._idle + 1
        self._least = min(self._least, value)
        if norm <= self.enough or (self._idle >= _MAX_IDLE and norm <= NEAR):
            self.finished, self.outcome = True, (True, "the gradient is small enough")
        elif value < self._separated_loss:
            self.finished, self.outcome = True, (False, "each row is in its class: the samples are separated")
        if self.finished:
            raise StopIteration


def _lm(loss: MeanLoss, u: Array, stopper: _Stopper, max_iter: int) -> tuple[OptimizeResult, NewtonSteps]:
    """Find the root of the gradient by MINPACK's method of Levenberg and Marquardt, with the Hessian as its derivative.

    The loss is convex, so that the root is its minimum. An iteration is an evaluation that makes the gradient smaller.
    Also returns the last Hessian.
    """
    best, least = u, np.inf
    at, last = u, loss.coordinates.hessian(u)

    def hessian(u: Array) -> Array:
        nonlocal at, last
        if u.tobytes() != at.tobytes():  # leastsq asks for that of the start twice
            at, last = u.copy(), loss.coordinates.hessian(u)
        return last

    def gradient(u: Array) -> Array:
        nonlocal best, least
        value, gradient = loss.both(u)
        norm = length(gradient)
        if norm < least:
            if stopper.n_iter >= max_iter:
                raise StopIteration
            best, least = u.copy(), norm
            stopper.reached(best, value, norm)
        return gradient

    try:
        # The first step may move the coordinates by 10; the scale of all of them is 1 in the metric. Where steps shrink
        # the gradient's square by less than a tenth, and are to, another method takes over. Rows of a Hessian are its
        # columns: col_deriv, for MINPACK wants those, spares a transposed copy.
        _, _, found, message, status = leastsq(gradient, u, Dfun=hessian, col_deriv=True, full_output=True, ftol=0.1,
                                               xtol=1e-12, maxfev=10 * max_iter, factor=10.0, diag=np.ones(len(u)))
        answer = OptimizeResult(success=status in (1, 2, 3, 4), status=status, message=message, nfev=found["nfev"])
    except StopIteration:
        answer = OptimizeResult(success=False, status=99, message="max_iter was reached")
    answer.x = best
    return answer, NewtonSteps(loss.coordinates, at, form=True, hessian=last)


class _OwnMetric:
    """The loss by v, where u = origin + R^-1 v and R'R is the metric; without one by u - origin."""

    def __init__(self, loss: MeanLoss, origin: Array, metric: NewtonSteps | ClassBlocks | None) -> None:
        self._mean_loss, self._origin, self._metric = loss, origin, metric
        self._key, self._point = self.start().tobytes(), origin

    def start(self) -> Array:
        """Return the v of the origin."""
        return np.zeros(len(self._origin) if self._metric is None else self._metric.n_own)

    def point(self, v: Array) -> Array:
        """Return u."""
        key = v.tobytes()
        if key != self._key:  # a method asks for loss, gradient and callback at the point that it evaluated last
            self._point = self._origin + (v if self._metric is None else self._metric.from_own_metric(v))
            self._key = key
        return self._point

    def loss(self, v: Array) -> float:
        return self._mean_loss.loss(self.point(v))

    def gradient(self, v: Array) -> Array:
        """Return the gradient by v."""
        gradient = self._mean_loss.gradient(self.point(v))
        return gradient if self._metric is None else self._metric.to_own_metric(gradient)

    def report(self, v: Array, stopper: _Stopper) -> None:
        """Tell the stopper of an iteration that ended at v."""
        u = self.point(v)
        value, gradient = self._mean_loss.both(u)
        stopper.reached(u, value, length(gradient))


def _lbfgs(loss: MeanLoss, u: Array, stopper: _Stopper, max_iter: int
           ) -> tuple[OptimizeResult, NewtonSteps | ClassBlocks | None]:
    """Minimise by L-BFGS-B, in the metric and then, while that is slow, in that of the Hessian where it has got to.

    A metric is left after a third of the gradients that the next one costs. Where a Hessian is dear its blocks on the
    diagonal take its place, while they help: they are taken after as many gradients as they cost, and left after twice
    as many. Also returns the last metric.
    """
    coordinates = loss.coordinates
    forever = 10 * max_iter
    cost, dense = hessian_cost(coordinates), coordinates.n_coordinates <= DENSE_LIMIT
    by_blocks = blocks_serve(coordinates) and (cost > _DEAR_HESSIAN or not dense)
    to_blocks, to_hessian = max(10, round(blocks_cost(coordinates))), max(8, round(cost / 3))
    budget = to_blocks if by_blocks else to_hessian if dense else forever
    metric: NewtonSteps | ClassBlocks | None = None
    nfev = n_metrics = 0
    while True:
        before = loss.loss(u)
        own = _OwnMetric(loss, u, metric)
        # loss and gradient apart: remembering both at once, as scipy does for jac=True, takes 30 us an iteration
        answer = minimize(own.loss, own.start(), jac=own.gradient, method="L-BFGS-B",
                          callback=lambda v, own=own: own.report(v, stopper),
                          options={"maxiter": max_iter - stopper.n_iter, "ftol": 0.0, "gtol": 0.0, "maxcor": 20,
                                   "maxfun": budget})
        nfev += answer.nfev
        u = own.point(answer.x)
        if stopper.finished or stopper.n_iter >= max_iter:
            break
        # the metric itself may be left without progress, another one not: it would be entered for ever
        stuck = n_metrics > 0 and not loss.loss(u) < before
        if by_blocks and dense and (stuck or n_metrics == _MAX_METRICS):
            by_blocks, n_metrics, budget = False, 0, to_hessian
        elif stuck:
            if metric is None or cost <= DENSE_COST or length(loss.gradient(u)) <= NEAR:
                break
            # far from a maximum a step in the metric of a Hessian that is almost singular is too long for any search
            metric, budget, n_metrics = None, forever, n_metrics + 1
            continue
        n_metrics += 1
        metric = ClassBlocks(coordinates, u) if by_blocks else NewtonSteps(coordinates, u, form=True)
        if by_blocks:
            budget = 2 * to_blocks
        if not metric.factorized:
            budget, metric = forever, None
        elif coordinates.penalized and n_metrics >= _MAX_METRICS and length(loss.gradient(u)) <= NEAR:
            break  # Newton steps have the digits
    answer.x, answer.nfev = u, nfev
    return answer, metric


def _minimize(method: str, loss: MeanLoss, u: Array, stopper: _Stopper, max_iter: int) -> OptimizeResult:
    # Each method's own rule is set where it cannot fire before ours: xtol is no gradient rule, and a trust region of
    # radius 1 would take many steps to reach logits of 50.
    options: dict[str, Any] = {"maxiter": max_iter - stopper.n_iter}
    derivatives: dict[str, Any] = {}
    scale, product = 1.0, loss.coordinates.hessian_product
    if method == "Newton-CG":
        # Its conjugate gradients end where p'Hp < 7e-16, and p is at first the gradient: of 1e-5 and an eigenvalue of
        # 1e-6 no step is left. With 1e4 times each p'Hp is 1e12 times that; yet from gradients of 1e-5 on the system is
        # still solved to less than a half, without which steps converge linearly.
        scale = _NEWTON_CG_SCALE
        options.update(xtol=0.0)
        derivatives["hessp"] = lambda u, v: scale * product(u, v)
    else:
        options.update(gtol=0.1 * stopper.tol, initial_trust_radius=10.0, max_trust_radius=1e10)
        if method == "trust-exact":
            derivatives["hess"] = lambda u: _lifted(loss.coordinates.hessian(u))
        else:
            derivatives["hessp"] = product
    with np.errstate(all="ignore"):  # on separated samples trust-krylov overflows on its way; the certificate tells
        answer = minimize(lambda u: scale * loss.loss(u), u, jac=lambda u: scale * loss.gradient(u), method=method,
                          options=options, callback=lambda u: stopper.reached(u, loss.loss(u), length(loss.both(u)[1])),
                          **derivatives)
    answer.fun, answer.jac = answer.fun / scale, answer.jac / scale
    return answer


def _message(certificate: Certificate, tol: float, n_iter: int, max_iter: int, iterations: Iterations,
             hidden: float, penalized: bool) -> str:
    figures = f"scaled gradient {certificate.gradient_norm:.2g} (tol {tol:g})"
    if not np.isnan(certificate.newton_range):
        figures += (f", one more Newton step would move a logit by {certificate.newton_range:.2g} (at most "
                    f"{CERTIFIED_RANGE:g} is certified)")
    if certificate.holds:
        return f"the maximum was reached: {figures}"
    if iterations.stopped_by_callback:
        return f"stopped by the callback after {n_iter} iterations: {figures}"
    if n_iter >= max_iter:
        return f"stopped at max_iter={max_iter} iterations: {figures}; raise max_iter"
    if hidden > HIDDEN_GRADIENT:
        return (f"columns of X are so nearly collinear that double precision cannot tell their effects apart, yet the "
                f"data do (gradient {hidden:.2g} along what was left out): put differences of such columns in their "
                f"place; {figures}")
    if tol < _LEAST_GRADIENT and tol < certificate.gradient_norm < 1e3 * _LEAST_GRADIENT:
        return (f"not converged after {n_iter} iterations: {figures}; rounding leaves a gradient of about "
                f"{_LEAST_GRADIENT:g}: a larger tol is wanted")
    if certificate.gradient_norm <= tol and not np.isnan(certificate.newton_range):
        return (f"columns of X are so ill-conditioned that double precision does not settle the logits: {figures}; "
                f"drop columns that are nearly collinear with others, put differences in their place, or raise a "
                f"penalty")
    remedy = "another solver" if penalized else "another solver, or l2 > 0"
    return f"not converged after {n_iter} iterations: {figures}; try {remedy}"
