"""Firth's bias reduction: the maximum of the log-likelihood penalised by Jeffreys' prior.

`fitting` and `profile` stand on it. It stands on `maximize`, `leverage`, `restricted` and `metric`.

    L*(theta) = L(theta) + 1/2 log det I(theta),    I = sum_j m_j S_j (x) x~_j x~_j',    S_j = diag(p_j) - p_j p_j'

(Firth 1993, doi:10.1093/biomet/80.1.27), I on the rows of all classes but one; another one in its place, or other
units, change log det I by a constant. The bias of its maximum is of order 1/n^2.

The gradient. With Sigma the inverse of I, h_j[i, l] = x~_j' Sigma_il x~_j is row j's hat block. By its logit a_k

    d/da_k 1/2 log det I = 1/2 tr(Sigma dI/da_k) = m_j/2 sum_il h_j[i, l] kappa_j[i, l, k],
    kappa_j[i, l, k] = dS_j[i, l]/da_k = E (e_i - p_i)(e_l - p_l)(e_k - p_k),

the third cumulant of e, the indicator of a class drawn from p_j. Where that is class c,
sum_il h[i, l] (e_i - p_i)(e_l - p_l) = sum_l p_l d[c, l] less what does not depend on c, with d the variances of
differences of logits (`leverage`). So, with s_jk = sum_l p_jl d_j[k, l],

    d/da_k 1/2 log det I = m_j/2 p_jk (s_jk - sum_l p_jl s_jl) = c_jk - p_jk sum_l c_jl,    c_jk = m_j/2 p_jk s_jk >= 0.

That is the score of counts c: the penalised score is the score of the data with c_jk added to each count (Kosmidis &
Firth 2011, doi:10.1093/biomet/asr026). So the kernels that sum the score do this too, a block of rows at a time.

The step. v = H*^-1 (penalised score), where H* is the information of the data with those pseudo-counts, held fixed.
H* >= I, so it steps less far than Fisher scoring: with two classes and a cell of one sample H* = 2 I is the exact
Hessian, where Fisher scoring swings to and fro for ever. It converges linearly, at a rate of about the ratio of
parameters to samples; at 0.5 on 100 irises that are all but separated.

The maximum exists whatever the data, separated or not. Let theta go to infinity, its direction tending to V, not
constant over classes on every row. On each row the classes of less than the largest V-logit lose all probability, so
V'IV = sum_j m_j Var_{p_j}(x~_j'V_k) -> 0 while I stays bounded: det I -> 0, and L <= 0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.optimize import OptimizeResult, minimize

from csoftmax._threads import map_blocks, row_blocks
from csoftmax.certificate import CERTIFIED_RANGE, NEAR, Certificate, length
from csoftmax.leverage import contrast_variances
from csoftmax.maximize import (
    DEFAULT_MAX_ITER,
    DEFAULT_TOL,
    HIDDEN_GRADIENT,
    Iterations,
    IterationState,
    Maximum,
    maximize,
)
from csoftmax.metric import MetricCoordinates
from csoftmax.restricted import RestrictedCoordinates, everywhere
from csoftmax.samples import Array

SOLVERS = ("auto", "trust-exact")

# The scaled gradient at which scipy's method, which compares function values, hands over to scoring steps: what is
# to be gained there, about 1e-12, is still well above the rounding of the mean loss.
_HANDOVER = 1e-6
# The logit range of a step that is rounding error, or next to it; steps at the most; and those that may fail to shrink.
_LEAST_RANGE = 1e-12
_MAX_STEPS = 300
# By how much, relative to it, the mean loss may seem to rise where it falls by less than it is rounded.
_LOSS_ROUNDING = 1e-12
# Logit range within which the maxima of L and of L* are taken for one hill's.
_ONE_HILL = 0.5
_PATIENCE = 3


class _Root:
    """A symmetric matrix by its Cholesky factor.

    Attributes
    ----------
    condition : float
        The condition number, estimated in the 1-norm; inf where the matrix is singular up to rounding.
    """

    def __init__(self, matrix: Array) -> None:
        self.condition = np.inf
        self._lower: Array | None = None
        try:
            self._lower = linalg.cholesky(matrix, lower=True)
        except (linalg.LinAlgError, ValueError):  # singular, or not finite
            return
        norm = np.abs(matrix).sum(axis=0).max(initial=0.0)
        reciprocal = float(linalg.lapack.dpocon(self._lower, norm, uplo="L")[0]) if matrix.size else 1.0
        if reciprocal > len(matrix) * np.finfo(float).eps:
            self.condition = 1.0 / reciprocal

    def log_det(self) -> float:
        if self._lower is None or self.condition == np.inf:
            return -np.inf
        return 2.0 * float(np.log(self._lower.diagonal()).sum())

    def solve(self, right: Array) -> Array:
        """Return the solution; nan where there is no factor."""
        if self._lower is None:
            return np.full_like(right, np.nan)
        solution: Array = linalg.cho_solve((self._lower, True), right)
        return solution


class _Point:
    """The penalised mean loss at one point, and what derives from it.

    The information is that of all parameters, of the whole space, also on a plane of constraints.

    Attributes
    ----------
    mass : float
        W and the pseudo-counts' sum: one for each parameter, as sum_j m_j tr(h_j S_j) = tr(Sigma I). Divided by it the
        penalised score is of order 1 where weights are small, too.
    plain_loss : float
        -L / W.
    log_det : float
        Of I / W in the metric's coordinates; -inf where that is singular up to rounding.
    loss : float
        -(L + 1/2 log_det) / mass.
    """

    def __init__(self, coordinates: RestrictedCoordinates, u: Array) -> None:
        self.coordinates = coordinates
        self.u = u.copy()
        self._whole, self._at = coordinates.whole, coordinates.point(u)
        self.mass = coordinates.total_mass + len(self._at)
        self._share = coordinates.total_mass / self.mass
        self.plain_loss, self._plain_gradient = self._whole.loss_and_gradient(self._at)
        self._information = self._whole.hessian(self._at)
        self._root = _Root(self._information)
        self.log_det = self._root.log_det()
        self.loss = self._share * self.plain_loss - 0.5 * self.log_det / self.mass

    @functools.cached_property
    def _pseudo(self) -> tuple[Array, Array]:
        inverse = self._root.solve(np.eye(len(self._at))) / self._whole.total_mass
        return pseudo_counts_score(self._whole, self._at, 0.5 * (inverse + inverse.T))

    @functools.cached_property
    def gradient(self) -> Array:
        """Of `loss`."""
        return self.coordinates.along(self._share * self._plain_gradient
                                      - self._whole.pulled(self._pseudo[0]) / self.mass)

    @functools.cached_property
    def scoring_matrix(self) -> Array:
        """H* / mass; I / mass where that is singular, and where H* <= 1.1 I."""
        mass = self._whole.objective.samples.mass()
        matrix = self._share * self._information
        if self.log_det > -np.inf and not np.all(self._pseudo[1] <= 1.1 * (1.0 if mass is None else mass)):
            matrix = self._share * self._whole.hessian(self._at, self._pseudo[1])
        return self.coordinates.on_plane(matrix)

    def log_likelihoods(self) -> tuple[float, float]:
        """L, and L + 1/2 log det I on the rows of all classes but one in the units of X."""
        value = -self.plain_loss * self._whole.total_mass
        log_det = self.log_det + len(self._at) * np.log(self._whole.total_mass)
        return value, float(value + 0.5 * log_det + self._whole.log_volume)

    def certificate(self, scoring: _Root, tol: float) -> tuple[Certificate, Array]:
        """Return the certificate, and the step by that scoring matrix."""
        step = -scoring.solve(self.gradient)
        norm, step_range = float(np.linalg.norm(self.gradient)), self.coordinates.logit_range(step)
        squared_decrement = max(-float(self.gradient @ step), 0.0) * self.mass
        return Certificate(norm, step_range, float(np.sqrt(squared_decrement)), np.nan, scoring.condition,
                           step_range <= CERTIFIED_RANGE and norm <= tol), step


def _as_plane(coordinates: MetricCoordinates) -> RestrictedCoordinates:
    if isinstance(coordinates, RestrictedCoordinates):
        return coordinates
    return RestrictedCoordinates(coordinates, everywhere(coordinates))


def penalized_score(coordinates: MetricCoordinates, u: Array) -> Array:
    """Return the gradient of L + 1/2 log det I by u, of shape (n_coordinates,)."""
    point = _Point(_as_plane(coordinates), u)
    return -point.mass * point.gradient


def pseudo_counts_score(coordinates: MetricCoordinates, u: Array, covariance: Array) -> tuple[Array, Array]:
    """Return the gradient of 1/2 log det I by the standardised rows, and each row's mass with its pseudo-counts.

    Parameters
    ----------
    coordinates : MetricCoordinates
    u : ndarray of shape (n_coordinates,)
    covariance : ndarray of shape (n_coordinates, n_coordinates)
        The inverse of I there.

    Returns
    -------
    gradient : ndarray of shape (n_classes, p)
        sum_j (c_jk - p_jk sum_l c_jl) x~_j.
    mass : ndarray of shape (n_samples,)
        m_j + sum_k c_jk.
    """
    samples = coordinates.objective.samples
    params, factors = coordinates.standardized_rows(u), coordinates.contrast_factors(covariance)
    mass = np.ones(samples.n_samples) if samples.mass() is None else np.array(samples.mass())
    shape = samples.params_shape

    def block(start: int, stop: int) -> Array:
        rows: slice | NDArray[np.intp] = slice(start, stop)
        if not mass[rows].all():  # what is far off in a row of no mass counts for nothing, not for 0 * inf
            rows = start + np.flatnonzero(mass[rows])
        part = samples.part(rows)
        p = part.row_results("probability", params, np.empty((part.n_samples, shape[0]))).T
        s = np.zeros_like(p)
        for i, k, variances in contrast_variances(part, factors):
            s[i] += p[k] * variances
            s[k] += p[i] * variances
        counts = np.ascontiguousarray((0.5 * mass[rows] * p * s).T)
        mass[rows] += counts.sum(axis=1)
        return part.replace(codes=None, counts=counts, weights=None).log_likelihood_and_gradient(params)[1]

    gradient = np.zeros(shape)
    for part in map_blocks(block, row_blocks(samples.n_samples, sum(shape)), samples.n_threads, gradient.nbytes):
        gradient += part
    return gradient, mass


def check_solver(solver: str) -> None:
    """Raise ValueError unless `solver` is one that bias reduction has."""
    if solver not in SOLVERS:
        raise ValueError(f"solver is {solver!r}; with bias_reduction='firth' one of {', '.join(map(repr, SOLVERS))} is "
                         f"wanted")


def maximize_penalized(coordinates: MetricCoordinates, *, tol: float = DEFAULT_TOL, max_iter: int = DEFAULT_MAX_ITER,
                       init: Array | None = None,
                       callback: Callable[[IterationState], Any] | None = None) -> Maximum:
    """Maximise L + 1/2 log det I by scipy's trust-exact, with H* for the Hessian, and scoring steps.

    Parameters
    ----------
    coordinates : MetricCoordinates
        Without an l2 penalty. Of a plane: I is that of all parameters even so.
    tol, max_iter, init, callback
        As for `maximize`.

    Returns
    -------
    Maximum
        `penalized_log_likelihood` is L + 1/2 log det I, I on the rows of all classes but one in the units of X; with
        collinear columns it is the product of I's positive eigenvalues that counts.

    Notes
    -----
    The certificate's `newton_range` is that of one more scoring step. L* need not be concave: the certificate
    proves that the penalised score is zero up to rounding, not that this is the only such point or the
    highest. No step that lowers L* was taken, so it is no lower than the start; and `gap_bound`, a bound that rests on
    concavity, is nan.

    Without `init` there are two starts, 0 and about the maximum of L, unless the first leads next to the second, and
    the higher maximum is kept. Of 300 tables of 8 to 30 rows, most with an outlier, 0 alone missed the highest that ten
    starts found in 30, the maximum of L alone in 48, and both in 6.
    """
    points = _Points(_as_plane(coordinates))
    u = np.zeros(coordinates.n_coordinates) if init is None else coordinates.coordinates(init)
    one_start = init is not None
    if not np.isfinite(points.at(u).loss):
        # no information: an init far off, or an offset of 1000. A few steps towards the maximum of L find some.
        u, one_start = _near_likeliest(coordinates), True
    with Iterations(callback, lambda: coordinates.params(u)) as iterations:
        maximum = _maximize(points, u, tol, max_iter, iterations)
        if one_start or not maximum.ended_by_itself:
            return maximum
        other = _near_likeliest(coordinates)
        if coordinates.logit_range(other - maximum.u) > _ONE_HILL and np.isfinite(points.at(other).loss):
            second = _maximize(points, other, tol, max_iter, iterations)
            value = maximum.penalized_log_likelihood
            if second.penalized_log_likelihood > value + _LOSS_ROUNDING * abs(value):
                return second
            maximum = replace(maximum, n_iter=iterations.n_iter,
                              history=iterations.history(value, maximum.certificate.gradient_norm))
        return maximum


def _near_likeliest(coordinates: MetricCoordinates) -> Array:
    """Return a point near the maximum of L, or some way towards it."""
    return maximize(coordinates, tol=1e-2, max_iter=50).u


def _maximize(points: _Points, u: Array, tol: float, max_iter: int, iterations: Iterations) -> Maximum:
    start = points.at(u)
    if not np.isfinite(start.loss):
        answer = OptimizeResult(x=u, fun=np.inf, success=False, status=1, nit=0, message="no information at the start")
    elif _is_near(start, tol):
        answer = OptimizeResult(x=u, fun=start.loss, success=True, status=0, nit=0,
                                message="the start is the maximum")
    else:
        def reached(intermediate_result: OptimizeResult) -> None:
            point = points.at(intermediate_result.x)
            log_likelihood, penalized = point.log_likelihoods()
            iterations.note(penalized, length(point.gradient), lambda: log_likelihood,
                            lambda: point.coordinates.params(point.u))
            if _is_near(point, tol):
                raise StopIteration

        # as in `maximize`: its own rule set where it cannot fire before ours
        with np.errstate(all="ignore"):  # a point of no information, loss inf, is refused
            answer = minimize(lambda u: points.at(u).loss, u, jac=lambda u: points.at(u).gradient.copy(),
                              hess=lambda u: points.at(u).scoring_matrix, method="trust-exact", callback=reached,
                              options={"maxiter": max_iter - iterations.n_iter, "gtol": 0.1 * tol,
                                       "initial_trust_radius": 10.0, "max_trust_radius": 1e10})
        if not iterations.stopped_by_callback and _is_near(points.at(np.asarray(answer.x)), tol):
            answer.success, answer.message = True, "the gradient is small enough"
    n_iter = iterations.n_iter
    may_step = not iterations.stopped_by_callback and n_iter < max_iter
    point, certificate = _score(points.at(np.asarray(answer.x)), tol, may_step)
    coordinates = point.coordinates
    hidden = coordinates.hidden_gradient(point.u)
    if certificate.holds and hidden > HIDDEN_GRADIENT:
        certificate = replace(certificate, holds=False)
    log_likelihood, penalized = point.log_likelihoods()
    return Maximum(point.u, coordinates.params(point.u), log_likelihood, penalized, certificate, n_iter,
                   _message(certificate, tol, n_iter, max_iter, iterations, hidden), answer, may_step,
                   iterations.history(penalized, certificate.gradient_norm))


def _is_near(point: _Point, tol: float) -> bool:
    """Whether scoring steps take over."""
    return not point.u.size or length(point.gradient) <= max(tol, _HANDOVER)


def _score(point: _Point, tol: float, may_step: bool) -> tuple[_Point, Certificate]:
    """Take scoring steps while they shrink; return the point of the smallest, and its certificate."""
    if not point.u.size:
        return point, Certificate(0.0, 0.0, 0.0, np.nan, 1.0, True)
    if not np.isfinite(point.loss):
        return point, Certificate(np.inf, np.nan, np.nan, np.nan, np.inf, False)
    scoring = _Root(point.scoring_matrix)
    certificate, step = point.certificate(scoring, tol)
    best, stalled, moved = (point, certificate), 0, 0.0
    for _ in range(_MAX_STEPS if may_step and certificate.gradient_norm <= NEAR else 0):
        if certificate.newton_range <= _LEAST_RANGE or stalled >= _PATIENCE:
            break
        point = _Point(point.coordinates, point.u + step / max(1.0, certificate.newton_range))
        if not point.loss <= best[0].loss + _LOSS_ROUNDING * max(1.0, abs(best[0].loss)):
            break
        moved += certificate.newton_range
        if moved > 1e-3:  # while the logits have moved by less the matrix serves again
            scoring, moved = _Root(point.scoring_matrix), 0.0
        certificate, step = point.certificate(scoring, tol)
        if certificate.newton_range < best[1].newton_range:
            best = point, certificate
        else:
            stalled += 1
    return best


class _Points:
    """Remembers the last point, which scipy's methods ask for in parts."""

    def __init__(self, coordinates: RestrictedCoordinates) -> None:
        self._coordinates = coordinates
        self._last: _Point | None = None

    def at(self, u: Array) -> _Point:
        if self._last is None or not np.array_equal(u, self._last.u):
            self._last = _Point(self._coordinates, u)
        return self._last


def _message(certificate: Certificate, tol: float, n_iter: int, max_iter: int, iterations: Iterations,
             hidden: float) -> str:
    if not np.isfinite(certificate.gradient_norm):
        return "the information is singular up to rounding at the start; another init is wanted"
    figures = (f"scaled gradient {certificate.gradient_norm:.2g} (tol {tol:g}), one more scoring step would move a "
               f"logit by {certificate.newton_range:.2g} (at most {CERTIFIED_RANGE:g} is certified)")
    if certificate.holds:
        return f"the penalised score is zero up to rounding: {figures}"
    if iterations.stopped_by_callback:
        return f"stopped by the callback after {n_iter} iterations: {figures}"
    if n_iter >= max_iter:
        return f"stopped at max_iter={max_iter} iterations: {figures}; raise max_iter"
    if hidden > HIDDEN_GRADIENT:
        return (f"columns of X are so nearly collinear that double precision cannot tell their effects apart (gradient "
                f"{hidden:.2g} along what was left out): put differences of such columns in their place; {figures}")
    return f"not converged after {n_iter} iterations: {figures}; try another init"
