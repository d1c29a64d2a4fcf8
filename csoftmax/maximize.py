"""The maximisation: scipy.optimize's methods in the metric's coordinates, a stopping rule, and a certificate.

`fitting` and `inference` stand on it. It stands on `metric`.

Everything is measured in the coordinates of `MetricCoordinates`, on the mean loss, so nothing depends on the units of
X or the number of samples. The methods stop by a callback when the gradient's norm is at most `tol`; then Newton
steps are taken while they shrink, and the last one is the certificate.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import linalg
from scipy.optimize import OptimizeResult, minimize
from scipy.sparse.linalg import LinearOperator, cg

from csoftmax.metric import MetricCoordinates
from csoftmax.samples import Array

SOLVERS = ("trust-exact", "Newton-CG", "trust-ncg", "trust-krylov", "L-BFGS-B")

DEFAULT_TOL = 1e-8
DEFAULT_MAX_ITER = 1000

# The logit range of one Newton step at which a fit is certified.
CERTIFIED_RANGE = 1e-6
# h(1) = (exp(-rho) + rho - 1) / rho^2 at rho = 1; see Certificate.gap_bound.
_H1 = float(np.exp(-1.0))
# The certificate's Newton step is by a formed Hessian up to this many coordinates and this many times the cost of a
# gradient; beyond that by conjugate gradients, which take about that many products.
_DENSE_LIMIT = 3000
_DENSE_COST = 100.0
_MAX_POLISH = 60
# Scaled gradient below which Newton steps are tried, and iterations without progress after which a method is left.
_NEAR = 1e-3
_MAX_IDLE = 5


class ConvergenceWarning(UserWarning):
    """The maximisation stopped before its certificate held."""


@dataclass(frozen=True)
class Certificate:
    """What proves that the maximum was reached.

    Attributes
    ----------
    gradient_norm : float
        Of the mean penalised log-likelihood, in the metric: free of the units of X.
    newton_range : float
        r, the largest range over classes of any row's change of logits under one more Newton step; nan where the
        gradient is too large for it to be looked at.
    newton_decrement : float
        lambda^2 = g' H^-1 g of the summed loss: about twice what is still to gain.
    gap_bound : float
        A bound on the penalised log-likelihood still to gain; nan where it is not proved (see Notes).
    condition_number : float
        Of the Hessian in the metric's coordinates; nan where it was not formed.
    holds : bool
        newton_range <= 1e-6 and gradient_norm <= tol.

    Notes
    -----
    Along a direction whose logits have the range rho on every row the loss's third derivative is at most rho times
    the second (the third central moment of a variable is at most its range times its variance), so with
    h(rho) = (exp(-rho) + rho - 1) / rho^2, decreasing,

        loss(theta + v) >= loss(theta) + g'v + h(rho(v)) v'Hv.

    Let K be such that rho(v) <= K |v|_H. If K lambda < h(1), no minimiser lies where rho > 1: on the ray to it the
    point with rho = 1 would have loss <= loss(theta), hence |v|_H <= lambda / h(1) and rho <= K lambda / h(1) < 1.
    Within rho <= 1 the right side is at least -lambda^2 / (4 h(1)), so

        loss(theta) - min loss <= lambda^2 / (4 h(1)) = 0.68 lambda^2.

    K^2 <= 2 max_j x~_j' P^-1 x~_j / mu with mu the smallest eigenvalue of H in the metric P. Rounding of the loss
    itself (about 1e-16 times its size) comes on top.
    """

    gradient_norm: float
    newton_range: float
    newton_decrement: float
    gap_bound: float
    condition_number: float
    holds: bool


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
    coordinates: MetricCoordinates

    @property
    def success(self) -> bool:
        return self.certificate.holds


@dataclass(frozen=True)
class IterationState:
    """What a callback is given after each iteration."""

    n_iter: int
    log_likelihood: float
    gradient_norm: float
    params: Array


class _MeanLoss:
    """The mean loss in the metric's coordinates; remembers the last point, which methods ask for in parts."""

    def __init__(self, coordinates: MetricCoordinates) -> None:
        self.coordinates = coordinates
        self._point: Array | None = None
        self._value: tuple[float, Array] = (np.nan, np.empty(0))

    def both(self, u: Array) -> tuple[float, Array]:
        if self._point is None or not np.array_equal(u, self._point):
            self._value = self.coordinates.loss_and_gradient(u)
            self._point = u.copy()
        return self._value

    def loss(self, u: Array) -> float:
        return self.both(u)[0]

    def gradient(self, u: Array) -> Array:
        return self.both(u)[1].copy()


def choose_solver(coordinates: MetricCoordinates) -> str:
    """Return the method for `solver="auto"`.

    Exact Newton (trust-exact) takes about 10 iterations, each a Hessian: (C - 1) p / 8 times the cost of a gradient.
    L-BFGS-B in the metric takes on the order of 100 gradients. So: Newton while the Hessian is small and costs less
    than some ten gradients, or where all of it is small against the overhead of an iteration; else L-BFGS-B.
    """
    samples = coordinates.objective.samples
    work = float(samples.n_samples) * np.square(float(np.prod(samples.params_shape)))
    if coordinates.n_coordinates <= 1000 and (_hessian_cost(coordinates) <= 30.0 or work <= 1e9):
        return "trust-exact"
    return "L-BFGS-B"


def _hessian_cost(coordinates: MetricCoordinates) -> float:
    """The cost of a Hessian in gradients: n p^2 C^2 / 2 multiplications over 4 n p C."""
    n_classes, p = coordinates.objective.samples.params_shape
    return n_classes * p / 8.0


def maximize(coordinates: MetricCoordinates, *, solver: str = "auto", tol: float = DEFAULT_TOL,
             max_iter: int = DEFAULT_MAX_ITER, init: Array | None = None,
             callback: Callable[[IterationState], Any] | None = None) -> Maximum:
    """Maximise the penalised log-likelihood by scipy.optimize.

    Parameters
    ----------
    coordinates : MetricCoordinates
    solver : {"auto", "trust-exact", "Newton-CG", "trust-ncg", "trust-krylov", "L-BFGS-B"}
    tol : float
        The norm of the mean loss's gradient, in the metric, at which the method stops.
    max_iter : int
    init : ndarray of shape (n_classes, p), optional
        The start; zero by default.
    callback : callable, optional
        Called with an `IterationState` after each iteration; may raise StopIteration.

    Raises
    ------
    ValueError
        If `solver` is not one of the methods.
    """
    if solver not in ("auto", *SOLVERS):
        raise ValueError(f"solver is {solver!r}; one of 'auto', {', '.join(map(repr, SOLVERS))} is wanted")
    method = choose_solver(coordinates) if solver == "auto" else solver
    loss = _MeanLoss(coordinates)
    u = np.zeros(coordinates.n_coordinates) if init is None else coordinates.coordinates(init)
    stopper = _Stopper(loss, tol, callback)
    if np.linalg.norm(loss.gradient(u)) <= tol * 1e-4:
        answer = OptimizeResult(x=u, fun=loss.loss(u), success=True, status=0, nit=0,
                                message="the start is the maximum")
    else:
        answer = _minimize(method, loss, u, tol, max_iter, stopper)
    n_iter = int(answer.get("nit", stopper.n_iter))
    u, mean_loss, certificate = _polish(loss, np.asarray(answer.x), tol,
                                        may_step=not stopper.stopped_by_callback and n_iter < max_iter)
    params = coordinates.params(u)
    penalized = -mean_loss * coordinates.total_mass
    log_likelihood = penalized
    rows = coordinates.standardized_rows(u)
    if coordinates.objective.l2.any():
        d = coordinates.objective.samples.n_features
        log_likelihood += 0.5 * float(np.sum(coordinates.objective.l2 * rows[:, :d] ** 2))
    return Maximum(u, params, log_likelihood, penalized, certificate, n_iter,
                   _message(certificate, tol, n_iter, max_iter, stopper), answer, coordinates)


class _Stopper:
    """The callback: stops a method where the gradient is small enough, and passes the state on."""

    def __init__(self, loss: _MeanLoss, tol: float, callback: Callable[[IterationState], Any] | None) -> None:
        self._loss, self._tol, self._callback = loss, tol, callback
        self.n_iter = 0
        self.stopped_by_callback = False
        self._least = np.inf
        self._idle = 0

    def __call__(self, intermediate_result: OptimizeResult) -> None:
        self.n_iter += 1
        u = intermediate_result.x
        value, gradient = self._loss.both(u)
        norm = float(np.linalg.norm(gradient))
        if self._callback is not None:
            coordinates = self._loss.coordinates
            state = IterationState(self.n_iter, -value * coordinates.total_mass, norm, coordinates.params(u))
            try:
                self._callback(state)
            except StopIteration:
                self.stopped_by_callback = True
                raise
        # Methods that compare function values cannot go on where those differ by rounding only (a gradient of about
        # 1e-8); Newton steps, which look at the gradient, can.
        self._idle = 0 if value < self._least - 4 * np.finfo(float).eps * abs(value) else self._idle + 1
        self._least = min(self._least, value)
        if norm <= self._tol or (self._idle >= _MAX_IDLE and norm <= _NEAR):
            raise StopIteration


def _minimize(method: str, loss: _MeanLoss, u: Array, tol: float, max_iter: int, stopper: _Stopper) -> OptimizeResult:
    # Each method's own rule is set where it cannot fire before ours: xtol and ftol are no gradient rules, and a
    # trust region of radius 1 would take many steps to reach logits of 50.
    options: dict[str, Any] = {"maxiter": max_iter}
    derivatives: dict[str, Any] = {}
    if method == "L-BFGS-B":
        options.update(ftol=0.0, gtol=0.0, maxcor=20, maxfun=10 * max_iter + 100)
    elif method == "Newton-CG":
        options.update(xtol=0.0)
        derivatives["hessp"] = loss.coordinates.hessian_product
    else:
        options.update(gtol=0.1 * tol, initial_trust_radius=10.0, max_trust_radius=1e10)
        key = "hess" if method == "trust-exact" else "hessp"
        derivatives[key] = getattr(loss.coordinates, "hessian" if key == "hess" else "hessian_product")
    with np.errstate(all="ignore"):  # on separated samples trust-krylov overflows on its way; the certificate tells
        return minimize(loss.loss, u, jac=loss.gradient, method=method, callback=stopper, options=options,
                        **derivatives)


# -------------------------------------------------------------------------------------------------- the certificate

class _NewtonSteps:
    """Newton steps -H^-1 g with the Hessian at one point, by its Cholesky factor or by conjugate gradients."""

    def __init__(self, coordinates: MetricCoordinates, u: Array) -> None:
        self.coordinates = coordinates
        self.u = u
        self.smallest = self.condition = np.nan
        self._factor: Any = None
        self._squared_reach: float | None = None
        self.dense = len(u) <= _DENSE_LIMIT and _hessian_cost(coordinates) <= _DENSE_COST
        if self.dense:
            hessian = coordinates.hessian(u)
            values, vectors = linalg.eigh(hessian)
            self.smallest = float(values[0])
            self.condition = float(values[-1] / values[0]) if values[0] > 0 else np.inf
            self._factor = values, vectors

    @property
    def positive_definite(self) -> bool:
        return not self.dense or self.smallest > len(self.u) * np.finfo(float).eps * self._factor[0][-1]

    def squared_reach(self) -> float:
        """Return the bound on K^2 of `Certificate`'s notes."""
        if self._squared_reach is None:
            leverage = self.coordinates.largest_leverage()
            self._squared_reach = 2.0 * leverage / (self.smallest * self.coordinates.total_mass)
        return self._squared_reach

    def step(self, gradient: Array) -> Array:
        if self.dense:
            values, vectors = self._factor
            return -vectors @ ((vectors.T @ gradient) / values)
        return _conjugate_gradients(lambda v: self.coordinates.hessian_product(self.u, v), -gradient)


def _conjugate_gradients(product: Callable[[Array], Array], b: Array, rtol: float = 1e-3) -> Array:
    operator = LinearOperator((len(b), len(b)), matvec=product, dtype=np.float64)
    return cg(operator, b, rtol=rtol, maxiter=min(10 * len(b), 500))[0]


def certify(coordinates: MetricCoordinates, params: Array, tol: float = DEFAULT_TOL) -> Certificate:
    """Return the certificate of any parameters of shape (n_classes, p), in the units of X."""
    loss = _MeanLoss(coordinates)
    return _polish(loss, coordinates.coordinates(params), tol, may_step=False, look_anyway=True)[2]


def _polish(loss: _MeanLoss, u: Array, tol: float, may_step: bool,
            look_anyway: bool = False) -> tuple[Array, float, Certificate]:
    """Take Newton steps while they shrink; return the best point, the mean loss and the certificate there.

    Where the step's logit range is small the Hessian of the last point serves again: over a change of logits of range
    rho each of its eigenvalues changes by at most the factor exp(rho).
    """
    coordinates = loss.coordinates
    value, gradient = loss.both(u)
    if not u.size:
        return u, value, Certificate(0.0, 0.0, 0.0, 0.0, 1.0, True)
    norm = float(np.linalg.norm(gradient))
    certificate = _certificate(coordinates, norm, np.nan, np.nan, None, tol)
    if norm > (_NEAR if may_step else tol) and not look_anyway:
        return u, value, certificate
    newton: _NewtonSteps | None = None
    stalled, smallest_range, held = 0, np.inf, False
    for _ in range(_MAX_POLISH):
        if newton is None:
            newton = _NewtonSteps(coordinates, u)
        if not newton.positive_definite:
            break
        step = newton.step(gradient)
        newton_range = coordinates.logit_range(step)
        decrement = -float(gradient @ step) * coordinates.total_mass
        certificate = _certificate(coordinates, norm, newton_range, decrement, newton, tol)
        stalled += not newton_range <= 0.5 * smallest_range
        if not may_step or stalled >= 3 or (certificate.holds and (held or stalled or newton_range <= 1e-10)):
            break  # three steps that do not shrink: rounding error is reached, or there is no maximum
        held, smallest_range = certificate.holds, min(smallest_range, newton_range)
        trial = u + step / max(1.0, newton_range)
        new_value, new_gradient = loss.both(trial)
        new_norm = float(np.linalg.norm(new_gradient))
        if not (new_norm < norm or new_value < value):
            break
        u, value, gradient, norm = trial, new_value, new_gradient, new_norm
        if newton_range > 1e-3 or not newton.dense:
            newton = None
    return u, value, certificate


def _certificate(coordinates: MetricCoordinates, norm: float, newton_range: float, decrement: float,
                 newton: _NewtonSteps | None, tol: float) -> Certificate:
    bound = condition = np.nan
    if newton is not None and newton.dense:
        condition = newton.condition
        if newton.positive_definite and newton.squared_reach() * max(decrement, 0.0) < _H1 * _H1:
            bound = max(decrement, 0.0) / (4.0 * _H1)
    return Certificate(norm, newton_range, decrement, bound, condition,
                       newton_range <= CERTIFIED_RANGE and norm <= tol)


def _message(certificate: Certificate, tol: float, n_iter: int, max_iter: int, stopper: _Stopper) -> str:
    figures = f"scaled gradient {certificate.gradient_norm:.2g} (tol {tol:g})"
    if not np.isnan(certificate.newton_range):
        figures += (f", one more Newton step would move a logit by {certificate.newton_range:.2g} (at most "
                    f"{CERTIFIED_RANGE:g} is certified)")
    if certificate.holds:
        return f"the maximum was reached: {figures}"
    if stopper.stopped_by_callback:
        return f"stopped by the callback after {n_iter} iterations: {figures}"
    if n_iter >= max_iter:
        return f"stopped at max_iter={max_iter} iterations: {figures}; raise max_iter"
    return f"not converged after {n_iter} iterations: {figures}; try another solver, or l2 > 0"


def accepts_state(callback: Any) -> Any:
    """Return `callback` checked to be callable with one argument."""
    if callback is not None and not callable(callback):
        raise TypeError(f"callback is {callback!r}; a callable of one argument is wanted")
    if callback is not None:
        try:
            inspect.signature(callback).bind(None)
        except ValueError:
            pass
        except TypeError as error:
            raise TypeError(f"callback cannot be called with one argument: {error}") from None
    return callback
