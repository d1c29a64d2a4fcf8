"""The certificate: what proves that a maximum was reached, and the Newton steps that lead there.

`maximize`, and what finds a maximum of another kind, stand on it. It stands on `blocks`, `metric` and `_entries`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import lapack
from scipy.sparse.linalg import LinearOperator, cg

from csoftmax import _entries
from csoftmax.blocks import ClassBlocks, blocks_serve
from csoftmax.metric import MetricCoordinates
from csoftmax.samples import Array

# The logit range of one Newton step at which a fit is certified.
CERTIFIED_RANGE = 1e-6
# The range, by a bound from gradient and smallest eigenvalue, at which no step is asked for where each costs many
# products.
_SETTLED_RANGE = 1e-8
# Scaled gradient below which Newton steps are tried.
NEAR = 1e-3
# The change of logits, in all, after which the Hessian is formed anew: until then a step with the old one leaves a
# tenth of the range, for a gradient's cost.
_MOVED = 0.1
# The change of logits up to which the Hessian's blocks of a class are a preconditioner elsewhere too.
_BLOCKS_MOVED = 1.0
# The Newton step is by a formed Hessian up to this many coordinates and this many times the cost of a gradient;
# beyond that by conjugate gradients, which take about that many products.
DENSE_LIMIT = 3000
DENSE_COST = 60.0
_MAX_PRODUCTS = 1000
# Where a Hessian costs more gradients than this, that of a point whose logits differ by at most so much serves as
# preconditioner of conjugate gradients, which then take 5 to 30 products; the farther point, which leaves no bound on
# the eigenvalues, where it costs more than DENSE_COST.
_NEAR_COST = 20.0
_NEAR_RANGE = 6.0
_FAR_RANGE = 30.0
_MAX_NEAR_PRODUCTS = 60
# Newton steps at the most, and the patience that goes with a maximum that is known to exist.
_MAX_POLISH = 300
PATIENT = 200
# Logit range of a Newton step from which on steps shrink fast, or are rounding error: patience is of no use then.
_CLOSE = 0.1
_EPS = float(np.finfo(np.float64).eps)
# h(1) = (exp(-rho) + rho - 1) / rho^2 at rho = 1; see Certificate's notes.
_H1 = float(np.exp(-1.0))


@dataclass(frozen=True)
class Certificate:
    """What proves that the maximum was reached.

    Attributes
    ----------
    gradient_norm : float
        Of the mean penalised log-likelihood, in the metric: free of the units of X.
    newton_range : float
        r, the largest range over classes of any row's change of logits under one more Newton step; nan where the
        gradient is too large for it to be looked at. Where the Hessian is too large to be formed and the gradient tiny,
        at most 1e-8: what it is at the most, by the gradient and the smallest eigenvalue. Where no
        Hessian nearby bounds that, it is an estimate, up to 34 times too large where the two were compared: a start
        off the maximum along the flattest direction alone had a range of 2e-8 where this said 9e-9.
    newton_decrement : float
        lambda = sqrt(g' H^-1 g) of the summed loss: about lambda^2 / 2 is still to gain. Or a bound, as of r.
    gap_bound : float
        A bound on the penalised log-likelihood still to gain; nan where it is not proved (see Notes), as where the
        Hessian is too large to be formed.
    condition_number : float
        Of the Hessian in the metric's coordinates, scaled to unit diagonal: LAPACK's estimate in the 1-norm. Where the
        Hessian was not formed, an estimate of 1 / its smallest eigenvalue.
    holds : bool
        newton_range <= 1e-6, gradient_norm <= tol, and newton_decrement^2 <= 1e-12 times the total mass: the first
        implies the likelihood's part of the last (a row's is at most its mass r^2 / 4), not the penalty's, which may
        still gain from coefficients that move no logit.

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

    K^2 <= 2 max_j x~_j' P^-1 x~_j / mu with mu the smallest eigenvalue of H in the metric P. Where H is that of a point
    from which the logits have moved by at most rho, lambda^2 and K^2 are taken times exp(rho).

    Rounding is part of the bound, estimated for independent errors (`MetricCoordinates.rounding`): of each logit, an
    error of delta; beside what follows from that, of the gradient one of norm e and of the Hessian one of norm f; and
    of the parameters returned, which are within h of those of the coordinates, in the metric, where the mean loss's
    Hessian is at most 1. With row j's logits wrong by delta_j, of a range of 2 delta at most, and J_j the mass times
    softmax's Jacobian, the gradient is wrong by s = sum_j J_j delta_j x~_j', and as H is at least that of the rows,

        s' H^-1 s <= sum_j delta_j' J_j delta_j <= W delta^2,

    a variance being at most a quarter of its range's square, however small the eigenvalues are; and H is between
    exp(-2 delta) and exp(2 delta) times that of the exact logits. With W the total mass and 1 - kappa =
    exp(-2 delta) - f / mu at least 1/2, lambda is taken to be (lambda + sqrt(W) (delta + e / sqrt(mu))) /
    sqrt(1 - kappa), and W (|g| + e + delta + h / 2) h is added. So the bound is one for the parameters as they are, in
    exact arithmetic; where a log-likelihood is computed in float64 its own rounding (about 1e-16 times its size) comes
    on top. Directions left out as collinear are no part of the model. A penalty that is quadratic, whatever its matrix,
    adds to the second derivative and not to the third: all of it stays.

    With l1 > 0 (`csoftmax.lasso`) the gradient is the subgradient of least norm, in its own diagonal metric; the step,
    the decrement and the condition number are of the parameters that are not 0, and the bound is `Lasso.gap_bound`'s.
    """

    gradient_norm: float
    newton_range: float
    newton_decrement: float
    gap_bound: float
    condition_number: float
    holds: bool


class MeanLoss:
    """The mean loss in the metric's coordinates; remembers the last point, which methods ask for in parts."""

    def __init__(self, coordinates: MetricCoordinates) -> None:
        self.coordinates = coordinates
        self._point: bytes | None = None
        self._value: tuple[float, Array] = (np.nan, np.empty(0))

    def both(self, u: Array) -> tuple[float, Array]:
        point = u.tobytes()  # 0.3 us, where comparing arrays takes 2
        if point != self._point:
            self._value = self.coordinates.loss_and_gradient(u)
            self._point = point
        return self._value

    def loss(self, u: Array) -> float:
        return self.both(u)[0]

    def gradient(self, u: Array) -> Array:
        return self.both(u)[1].copy()


def length(v: Array) -> float:
    """Return |v|: 0.9 us, where `v @ v` takes 1.9 and np.linalg.norm more."""
    return math.sqrt(v.dot(v))


def hessian_cost(coordinates: MetricCoordinates) -> float:
    """The cost in gradients of a Hessian and its factors: n C^2 p^2 / 2 multiplications at a better rate, and m^3."""
    n_classes, p = coordinates.objective.samples.params_shape
    gradient = 4.0 * coordinates.objective.samples.n_samples * n_classes * p
    return (n_classes - 1) * (p + 1) / 14.0 + float(coordinates.n_coordinates) ** 3 / gradient


class NewtonSteps:
    """Newton steps -H^-1 g with the Hessian at one point, formed, or by its products alone.

    Parameters
    ----------
    coordinates : MetricCoordinates
    u : ndarray of shape (n_coordinates,)
    form : bool
    near : NewtonSteps, optional
        Those of a formed Hessian nearby: the preconditioner of products, with a bound on the eigenvalues. Without, the
        Hessian's blocks on the diagonal are the preconditioner, if they are to be had.
    blocks : ClassBlocks, optional
        Those of a point from which the logits differ little, which then serve.
    hessian : ndarray of shape (n_coordinates, n_coordinates), optional
        That of u, where it is known; it is overwritten.

    Attributes
    ----------
    u : ndarray of shape (n_coordinates,)
        The point.
    smallest : float
        Not above the smallest eigenvalue of a formed Hessian, up to rounding: H - smallest I has a Cholesky factor.
        Over a change of logits of range rho each eigenvalue changes by at most the factor exp(rho), so that of a
        Hessian nearby gives a bound too. An estimate without either.
    condition : float
        Of a formed Hessian, here or nearby, scaled to unit diagonal, LAPACK's estimate in the 1-norm; 1 / smallest
        without.
    residual : float
        A bound on |H step + g| of the last step by products.
    factorized : bool
        Whether a formed Hessian has a Cholesky factor, so that it can serve as a metric.
    moved : float
        The sum of logit ranges by which the point has moved since the Hessian was formed.
    """

    def __init__(self, coordinates: MetricCoordinates, u: Array, form: bool, near: NewtonSteps | None = None,
                 blocks: ClassBlocks | None = None, hessian: Array | None = None) -> None:
        self.coordinates = coordinates
        self.u = u
        self.formed = form and near is None
        self._near = near is not None
        self.moved = self.residual = 0.0
        self.factorized = False
        self.condition, self.smallest = np.inf, 0.0
        self._squared_reach: float | None = None
        self._preconditioner: LinearOperator | None = None
        if self.formed:
            self._factorize(coordinates.hessian(u) if hessian is None else hessian)
            return
        self._operator = self._linear(lambda v: coordinates.hessian_product(u, v))
        if near is not None:
            self._preconditioner = self._linear(lambda v: near.step(-v))
            self.condition = near.condition
            self.smallest = near.smallest * math.exp(-coordinates.logit_range(u - near.u))
        else:
            if blocks is None or coordinates.logit_range(u - blocks.u) > _BLOCKS_MOVED:
                blocks = ClassBlocks(coordinates, u) if blocks_serve(coordinates) else None
            if blocks is not None and blocks.factorized:
                self._preconditioner = self._linear(blocks.precondition)
            self.smallest = self._smallest_by_products()
            if self.smallest > 0:
                self.condition = 1.0 / self.smallest

    def _linear(self, function: Callable[[Array], Array]) -> LinearOperator:
        return LinearOperator(2 * (len(self.u),), matvec=function, dtype=np.float64)

    def _factorize(self, hessian: Array) -> None:
        # A Cholesky factor's error, and so whether there is one, is governed by the condition of the matrix scaled to
        # unit diagonal (Demmel 1989). LAPACK itself: its wrappers look for nan and take 0.1 ms around each call.
        self._scale = np.empty(len(hessian))
        norm = _entries.to_unit_diagonal(hessian, self._scale)
        self._factor, failed = lapack.dpotrf(hessian.T)
        self.factorized = not failed
        if failed:
            return
        reciprocal, failed = lapack.dpocon(self._factor, norm)
        if failed or not reciprocal > 0:
            return
        self.condition = 1.0 / reciprocal
        # 1 / |H^-1|_1, estimated, is not above the smallest eigenvalue; the factor proves it
        smallest = 0.5 * reciprocal * norm
        hessian.flat[::len(hessian) + 1] -= smallest
        if not lapack.dpotrf(hessian.T, overwrite_a=True)[1]:
            self.smallest = smallest * float(self._scale.min()) ** 2

    def _smallest_by_products(self) -> float:
        # A random right side has a part along a flat direction too, and is then not to be solved for (Lanczos
        # iterations can miss a flat direction: they stop at an eigenvalue well above it). The solution lies mostly
        # along the smallest eigenvalues, so its Rayleigh quotient is next to the smallest.
        b = np.random.default_rng(0).standard_normal(len(self.u))
        # a preconditioner of separated samples is almost singular
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            x, failed = cg(self._operator, b, rtol=1e-3, maxiter=_MAX_PRODUCTS, M=self._preconditioner)
            quotient = float(np.divide(x @ b, x @ x))
        return quotient if not failed and quotient > 0 else 0.0

    @property
    def bounded(self) -> bool:
        """Whether `smallest` is a bound."""
        return self.formed or self._near

    @property
    def positive_definite(self) -> bool:
        """Whether no direction is flat, up to rounding: along a flat one a step tells nothing."""
        return self.condition < 1.0 / (len(self.u) * _EPS)

    def squared_reach(self) -> float:
        """Return the bound on K^2 of `Certificate`'s notes; infinite where no bound on the eigenvalues is proved."""
        if self.smallest == 0:
            return np.inf
        if self._squared_reach is None:
            leverage = self.coordinates.largest_leverage
            self._squared_reach = 2.0 * leverage / (self.smallest * self.coordinates.total_mass)
        return self._squared_reach

    @property
    def n_own(self) -> int:
        """The length of v."""
        return len(self.u)

    def from_own_metric(self, v: Array) -> Array:
        """Return R^-1 v, R'R the formed Hessian."""
        return lapack.dtrtrs(self._factor, v)[0] / self._scale

    def to_own_metric(self, gradient: Array) -> Array:
        """Return R'^-1 gradient."""
        return lapack.dtrtrs(self._factor, gradient / self._scale, trans=1)[0]

    def range_bound(self, norm: float) -> float:
        """Return a bound on the range of logits of the step from a gradient of that norm: as good as `smallest` is."""
        if not self.smallest > 0:
            return math.inf
        return math.sqrt(2.0 * self.coordinates.largest_leverage) * norm / self.smallest

    def step(self, gradient: Array) -> Array:
        """Return -H^-1 gradient; nan where conjugate gradients do not find it."""
        if self.formed:
            return lapack.dpotrs(self._factor, -gradient / self._scale)[0] / self._scale
        # What is left of the residual is to move no logit by half the range that is settled, unless that is below
        # rounding; and is a hundredth of the step at the most.
        norm = length(gradient)
        self.residual = min(max(0.5 * _SETTLED_RANGE / self.range_bound(1.0), 1e-10 * norm), 1e-2 * norm)
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            step, failed = cg(self._operator, -gradient, rtol=0.0, atol=self.residual, M=self._preconditioner,
                              maxiter=_MAX_NEAR_PRODUCTS if self._near else _MAX_PRODUCTS)
        return np.full_like(step, np.nan) if failed else step


def polish(loss: MeanLoss, u: Array, tol: float, *, may_step: bool, form: bool, newton: NewtonSteps | None = None,
           blocks: ClassBlocks | None = None, patience: int = 3) -> tuple[Array, float, Certificate]:
    """Take Newton steps while they shrink; return the best point, the mean loss and the certificate there.

    Parameters
    ----------
    loss : MeanLoss
    u : ndarray of shape (n_coordinates,)
    tol : float
    may_step : bool
        False looks at the point without leaving it.
    form : bool
        Form the Hessian even where it is dear.
    newton : NewtonSteps, optional
        Those of a point nearby, whose Hessian may serve again.
    blocks : ClassBlocks, optional
        Those of a point nearby.
    patience : int
        Steps in all that may fail to halve the logit range. A maximum that exists is worth `PATIENT`: while the logits
        are far from it a Newton step moves them by about 1.
    """
    coordinates = loss.coordinates
    value, gradient = loss.both(u)
    if not u.size:
        return u, value, Certificate(0.0, 0.0, 0.0, 0.0, 1.0, True)
    norm = length(gradient)
    unknown = Certificate(norm, np.nan, np.nan, np.nan, np.nan, False)
    if norm > (NEAR if may_step else tol):
        return u, value, unknown
    cost = hessian_cost(coordinates)
    form = len(u) <= DENSE_LIMIT and (form or cost <= DENSE_COST)
    near = None
    if newton is not None and not newton.positive_definite:
        newton = None
    if newton is not None:
        newton.moved = coordinates.logit_range(u - newton.u)
        if newton.moved > _MOVED:
            far = newton.moved > (_NEAR_RANGE if cost < DENSE_COST else _FAR_RANGE)
            near = newton if cost > _NEAR_COST and not far else None
            newton = None
    certificate, exists = unknown, coordinates.penalized or patience >= PATIENT
    stalled, smallest_range = 0, np.inf
    for taken in range(_MAX_POLISH + 1):
        if newton is None:
            newton = NewtonSteps(coordinates, u, form, near, blocks)
        certificate, step = _certificate(newton, gradient, tol)
        certified = newton, u
        newton_range = certificate.newton_range
        if not np.isfinite(newton_range):
            if near is None:
                break
            near = newton = None  # once more with the Hessian of this point
            continue
        if newton_range <= _CLOSE < smallest_range:
            stalled = 0
            patience = min(patience, 3)
        stalled += not newton_range <= 0.5 * smallest_range
        if step is None or not may_step or taken == _MAX_POLISH or stalled >= patience or (
                certificate.holds and (stalled or newton_range <= 1e-10)):
            break  # steps that do not shrink: rounding error is reached, or there is no maximum
        smallest_range = min(smallest_range, newton_range)
        # Where a maximum exists the whole step if the loss falls as it should: it does where the logits move by less
        # than 1. Else more may be on the way to infinity.
        least, slope = 1.0 / max(1.0, newton_range), float(gradient @ step)
        share = 1.0 if exists else least
        while True:
            trial = u + share * step
            new_value, new_gradient = loss.both(trial)
            if share <= least or new_value <= value + 0.1 * share * slope:
                break
            share = max(0.5 * share, least)
        new_norm = length(new_gradient)
        if not (new_norm < norm or new_value < value):
            break
        u, value, gradient, norm = trial, new_value, new_gradient, new_norm
        # Over a change of logits of range rho each eigenvalue of the Hessian changes by at most the factor exp(rho):
        # while that is next to 1 the Hessian serves again.
        newton.moved += share * newton_range
        if newton.moved > _MOVED:
            newton = None
    return u, value, _bounded(certificate, *certified)


def _certificate(newton: NewtonSteps, gradient: Array, tol: float) -> tuple[Certificate, Array | None]:
    """Return the certificate of the point with that gradient, as yet without a bound, and the Newton step from it.

    Where a step costs many products and the gradient is so small that none is wanted, bounds on range and decrement in
    place of theirs, and no step.
    """
    coordinates = newton.coordinates
    norm, mass = length(gradient), coordinates.total_mass
    if not newton.formed and norm <= tol and newton.positive_definite and newton.range_bound(norm) <= _SETTLED_RANGE:
        decrement = norm * math.sqrt(mass * math.exp(newton.moved) / newton.smallest)
        if decrement <= CERTIFIED_RANGE * math.sqrt(mass):
            newton.residual = 0.0
            return Certificate(norm, newton.range_bound(norm), decrement, math.nan, newton.condition, True), None
    # A penalised Hessian is positive definite, and where its eigenvalues are lost in rounding a step still descends.
    stepping = newton.positive_definite or (newton.factorized and coordinates.penalized)
    step = newton.step(gradient) if stepping else np.full_like(gradient, np.nan)
    newton_range = coordinates.logit_range(step)
    squared_decrement = max(-float(gradient.dot(step)), 0.0) * mass * math.exp(newton.moved)
    holds = bool(newton.positive_definite and newton_range <= CERTIFIED_RANGE and norm <= tol
                 and squared_decrement <= CERTIFIED_RANGE ** 2 * mass)
    return Certificate(norm, newton_range, math.sqrt(squared_decrement), math.nan, newton.condition, holds), step


def _bounded(certificate: Certificate, newton: NewtonSteps, u: Array) -> Certificate:
    """Return the certificate of u with the bound of its notes, where that is proved; once, for it takes 20 us."""
    if not newton.bounded or not newton.positive_definite:
        return certificate
    return replace(certificate, gap_bound=_gap_bound(certificate, newton, u))


def _gap_bound(certificate: Certificate, newton: NewtonSteps, u: Array) -> float:
    coordinates, mass, factor = newton.coordinates, newton.coordinates.total_mass, math.exp(newton.moved)
    rounding = coordinates.rounding(u)
    solving = 10.0 * len(u) ** 2 * _EPS  # a Cholesky factor's error
    smallest = newton.smallest * math.exp(-2.0 * min(rounding.logit, 1.0)) - rounding.hessian - solving
    if not smallest > 0.5 * newton.smallest:
        return float("nan")
    kept = smallest / newton.smallest
    error = math.sqrt(factor * mass) * (
        rounding.logit + (rounding.gradient + newton.residual) / math.sqrt(newton.smallest))
    decrement = (certificate.newton_decrement + error) ** 2 / kept
    if not newton.squared_reach() / kept * factor * decrement < _H1 * _H1:
        return float("nan")
    slope = certificate.gradient_norm + rounding.gradient + rounding.logit
    return float(decrement / (4.0 * _H1) + mass * (slope + 0.5 * rounding.params) * rounding.params)
