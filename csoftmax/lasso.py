"""The maximisation with an L1 penalty: exact zeros by scipy.optimize's L-BFGS-B, then Newton steps on what is not 0.

`fitting` and `path` stand on it. It stands on `maximize`, `certificate` and `objective`.

    F(theta) = -L(theta) + 1/2 sum_ki l2_ki w_ki^2 + sum_ki l1_ki |w_ki|       (to minimise; intercepts not penalised)

The samples are seen standardised (`DenseSamples.standardized`: an intercept absorbs the centring exactly), and the
mean of F is minimised in variables z with params = unit * z, unit_ki^-2 = s_k (1 - s_k) m_i + l2_ki / W: the diagonal
of the Hessian where all coefficients are 0 (s the shares of the classes, m_i the second moment of column i, W the total
mass). So nothing depends on the units of X. L1 allows no metric that is not diagonal.

L-BFGS-B works on z = z+ - z-, z+ and z- at least 0 (its bounds make the zeros exact), until it has about found which
coefficients are 0; then Newton steps in those that are not, projected on their signs, reach rounding error. Where a
coefficient that is 0 has |dL/dw| > l1 it joins them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.optimize import OptimizeResult, minimize
from scipy.sparse.linalg import LinearOperator, cg

from csoftmax._threads import row_blocks
from csoftmax.certificate import CERTIFIED_RANGE, Certificate
from csoftmax.maximize import History, Iterations, IterationState
from csoftmax.objective import SoftmaxObjective
from csoftmax.samples import Array, DenseSamples, blocks_of

Mask = NDArray[np.bool_]

# Free parameters up to which the Newton step is by a formed Hessian; beyond that by conjugate gradients.
_DENSE_LIMIT = 2000
_MAX_NEWTON = 50
# Iterations of L-BFGS-B after which Newton steps are tried, however far it is.
_STAGE = 100
# Steps on one quadratic model.
_MAX_INNER = 50
# Mean scaled gradient beyond l1 at which a coefficient leaves 0: some roundings of sums of terms of size 1.
_ENTER = 1e-13
# Reciprocal condition number of the Hessian, of the free parameters, at which it counts as singular.
_SINGULAR = 1e-14
_EPS = float(np.finfo(float).eps)
# Entries of X gathered at a time where few columns are active: 32 MB.
_GATHERED = 1 << 22


@dataclass
class LassoMaximum:
    """What `maximize_lasso` found; `params` in the units of X."""

    params: Array
    log_likelihood: float
    penalized_log_likelihood: float
    certificate: Certificate
    n_iter: int
    message: str
    optimize_result: OptimizeResult | None
    n_params: int
    effective_df: float
    ended_by_itself: bool  # neither by max_iter nor by the callback
    history: History

    @property
    def success(self) -> bool:
        return self.certificate.holds


class LassoData:
    """Samples in standardised units, and what every penalty needs of them; made once for a path."""

    def __init__(self, samples: DenseSamples) -> None:
        self.samples = samples.standardized(samples.column_totals())
        assert self.samples.shift is not None and self.samples.scale is not None
        self.shift, self.scale = self.samples.shift, self.samples.scale
        self.total_mass = samples.total_mass()
        self.class_totals = samples.class_totals()
        self.moments = np.append(self._second_moments(), [1.0] * samples.fit_intercept)

    def _second_moments(self) -> Array:
        """Return the mean square of each column in standardised units, weighted by mass."""
        samples = self.samples
        mass, total = samples.mass(), np.zeros(samples.n_features)
        for start, stop in row_blocks(samples.n_samples, samples.n_features):
            rows = samples.rows_of_mass(slice(start, stop))
            x = samples.part(rows).design()[:, :samples.n_features]
            total += (np.ones(len(x)) if mass is None else mass[rows]) @ (x * x)
        return total / self.total_mass

    def offset_range(self) -> float:
        """The largest range over classes of any row's offset."""
        if self.samples.offset is None:
            return 0.0
        return max((float(np.ptp(rows, axis=1).max()) for _, rows in blocks_of(self.samples.offset)), default=0.0)

    def standardized_params(self, params: Array) -> Array:
        rows, d = params.copy(), self.samples.n_features
        if self.samples.fit_intercept:
            rows[:, d] += rows[:, :d] @ self.shift
        rows[:, :d] /= self.scale
        return rows

    def raw_params(self, rows: Array) -> Array:
        raw, d = rows.copy(), self.samples.n_features
        raw[:, :d] *= self.scale
        if self.samples.fit_intercept:
            raw[:, d] -= raw[:, :d] @ self.shift
            raw[:, d] -= raw[:, d].mean()
        return raw


class Lasso:
    """The mean of F, in the variables z of shape (n_classes, p).

    Parameters
    ----------
    data : LassoData
    l1, l2 : ndarray of shape (n_features,) or (n_classes, n_features)
        In the units of X, on sums.
    """

    def __init__(self, data: LassoData, l1: Array, l2: Array) -> None:
        self.data = data
        samples, mass = data.samples, data.total_mass
        d = samples.n_features
        l2 = l2 * data.scale * data.scale
        self.objective = SoftmaxObjective.from_samples(samples, l2)
        share = data.class_totals / mass
        curvature = (share * (1.0 - share))[:, np.newaxis] * data.moments
        curvature[:, :d] += l2 / mass
        self.unit = 1.0 / np.sqrt(np.where(curvature > 0, curvature, 1.0))
        self.l1 = np.zeros(samples.params_shape)
        with np.errstate(over="ignore"):
            # |x| <= 1, so from 1 on all coefficients are 0: no l1 is too large
            self.l1[:, :d] = np.minimum(l1 * data.scale / mass, 1e6)
        self.l1 *= self.unit
        self.l2 = np.zeros(samples.params_shape)
        self.l2[:, :d] = l2 / mass
        self.l2 *= self.unit * self.unit
        self.movable = np.broadcast_to((data.moments > 0), samples.params_shape)
        self._point: Array | None = None
        self._value: tuple[float, Array] = (np.nan, np.empty(0))

    def smooth(self, z: Array) -> tuple[float, Array]:
        """Return the mean loss, with l2 and without l1, and its gradient; remembers the last point."""
        if self._point is None or not np.array_equal(z, self._point):
            loss, gradient = self.objective.loss_and_gradient((self.unit * z).ravel())
            mass = self.data.total_mass
            self._value = loss / mass, gradient.reshape(z.shape) * (self.unit / mass)
            self._point = z.copy()
        return self._value

    def value(self, z: Array) -> float:
        """Return the mean of F."""
        return self.smooth(z)[0] + float(np.sum(self.l1 * np.abs(z)))

    def subgradient(self, z: Array) -> Array:
        """Return the subgradient of least norm: 0 exactly where the KKT conditions hold."""
        return _least_subgradient(z, self.smooth(z)[1], self.l1)

    def centred(self, z: Array) -> Array:
        """Return z with the common part of features that have no 0 and no l2 at a (weighted) median, if it is not."""
        for i in np.flatnonzero((z != 0).all(axis=0) & ~self.l2.any(axis=0) & self.l1.any(axis=0)):
            rows = self.unit[:, i] * z[:, i]
            low, high = _median_interval(rows, self.l1[:, i] / self.unit[:, i])
            shift = low if low > 0 else high if high < 0 else 0.0
            if shift:
                z = z.copy()
                z[:, i] = (rows - shift) / self.unit[:, i]
        return z

    def free(self, z: Array) -> Mask:
        """Which parameters a Newton step moves: those that are not 0, without l1, or whose KKT condition fails."""
        gradient = self.smooth(z)[1]
        return self.movable & ((z != 0) | (self.l1 == 0) | (np.abs(gradient) > self.l1 + _ENTER))

    def hessian(self, z: Array, free: Mask) -> Array:
        """Return the mean loss's Hessian by the free parameters (all others are 0), in their order in z."""
        samples = self.data.samples
        columns = np.flatnonzero(free[:, :samples.n_features].any(axis=0))
        narrow = np.append(columns, [samples.n_features] * samples.fit_intercept).astype(np.intp)
        params = np.ascontiguousarray((self.unit * z)[:, narrow])
        size = params.size
        full = np.zeros((size, size))
        for part in _of_columns(samples, columns):
            full -= part.hessian(params).reshape(size, size)
        chosen = np.flatnonzero(free[:, narrow].ravel())
        unit = self.unit[free]
        hessian = full[np.ix_(chosen, chosen)] * (unit[:, np.newaxis] * unit / self.data.total_mass)
        hessian[np.diag_indices_from(hessian)] += self.l2[free]
        return hessian

    def gauges(self, free: Mask) -> Iterator[Array]:
        """Yield unit vectors of the free parameters along which the loss is constant: a column's common change."""
        for i in np.flatnonzero(free.all(axis=0) & ~self.l2.any(axis=0)):
            direction = np.zeros(free.shape)
            direction[:, i] = 1.0 / self.unit[:, i]
            yield direction[free] / linalg.norm(direction[:, i])

    def params(self, z: Array) -> Array:
        """Return the parameters in the units of X; a common part of a feature that nothing determines is the midpoint.

        With l1 alone the common part of a feature's rows is a (weighted) median. Where that is an interval its
        midpoint is taken; without any penalty the mean.
        """
        rows = self.unit * z
        for i in np.flatnonzero(~self.l2.any(axis=0)):
            if not self.l1[:, i].any():
                rows[:, i] -= rows[:, i].mean()
                continue
            low, high = _median_interval(rows[:, i], self.l1[:, i] / self.unit[:, i])
            if low < high:
                rows[:, i] -= 0.5 * (low + high)
        return self.data.raw_params(rows)

    def n_params(self, z: Array) -> int:
        """Count the parameters that are not 0; a column without a 0 counts n_classes - 1, its common part being none.

        That is the lasso's degrees of freedom (Zou, Hastie & Tibshirani 2007, doi:10.1214/009053607000000127).
        """
        moved = (z != 0) | ((self.l1 == 0) & self.movable)
        return int(np.minimum(moved.sum(axis=0), len(z) - 1).sum())

    def gap_bound(self, z: Array) -> float:
        """Return a proved bound on F(theta) - min F, a sum over samples; nan where a coefficient has no penalty.

        F is convex, so with r the subgradient of least norm and theta* a minimiser

            F(theta) - F(theta*) <= sum |r_ki| |w_ki - w*_ki| + sum_k |r_k| |b_k - b*_k|.

        -L >= 0, so sum l1 |w*| <= F(theta*) <= F(theta) =: F and l2 w*^2 / 2 <= F: this bounds the first sum, and
        S = sum |w*|. Each sample of class k gives -L at least a_m - a_k, for any m, and |x_i| <= 1 in these units: so
        b*_m - b*_k <= F / N_k + S + the range of the offset, N_k the class's total. The intercepts' common part being
        free, |b_k - b*_k| is at most half the sum of the ranges of b and b*.
        """
        mass, d = self.data.total_mass, self.data.samples.n_features
        rows = self.unit * z
        residual = mass * np.abs(self.subgradient(z)) / self.unit
        l1, l2 = mass * self.l1 / self.unit, mass * self.l2 / self.unit / self.unit
        if (self.movable[:, :d] & ((l1 + l2)[:, :d] == 0)).any():
            return float("nan")
        total = mass * self.value(z)
        by_l1, by_l2 = l1 > 0, (l1 == 0) & (l2 > 0)
        reach = np.sqrt(2.0 * total / l2[by_l2])
        bound = float(np.sum((residual * np.abs(rows))[:, :d])) + float(residual[by_l2] @ reach)
        size = float(reach.sum())
        if by_l1.any():
            bound += total * float((residual[by_l1] / l1[by_l1]).max())
            size += total / float(l1[by_l1].min())
        if self.data.samples.fit_intercept:
            spread = total / float(self.data.class_totals.min()) + size + self.data.offset_range()
            bound += float(residual[:, d].sum()) * 0.5 * (float(np.ptp(rows[:, d])) + spread)
        return bound


def _least_subgradient(z: Array, gradient: Array, l1: Array) -> Array:
    outside = np.sign(gradient) * np.maximum(np.abs(gradient) - l1, 0.0)
    return np.where(z != 0, gradient + l1 * np.sign(z), outside)


def _median_interval(values: Array, weight: Array) -> tuple[float, float]:
    """Return the ends of the interval of c that minimise sum weight |values - c|."""
    order = np.argsort(values)
    below = np.cumsum(weight[order])
    below /= below[-1]
    return float(values[order[np.argmax(below >= 0.5 - 1e-12)]]), float(values[order[np.argmax(below > 0.5 + 1e-12)]])


def _projected(trial: Array, sign: Array, l1: Array) -> Array:
    """Return the trial point with 0 in place of what has l1 and has left its sign."""
    trial[(l1 > 0) & (trial * sign <= 0)] = 0.0
    return trial


class _NewtonSteps:
    """Newton steps in the free parameters, with the Hessian at one point: formed, or by its products alone."""

    def __init__(self, lasso: Lasso, z: Array, free: Mask) -> None:
        self.lasso, self.free = lasso, free
        self.size = int(free.sum())
        # it is formed of all classes of the columns that have a free one
        self.formed = self.size <= _DENSE_LIMIT and len(free) * int(free.any(axis=0).sum()) <= 2 * _DENSE_LIMIT
        gauges = list(lasso.gauges(free))
        self._last: tuple[Mask, Any, float] | None = None
        if self.formed:
            self._hessian = lasso.hessian(z, free)
            for gauge in gauges:
                place = np.flatnonzero(gauge)
                self._hessian[np.ix_(place, place)] += np.outer(gauge[place], gauge[place])
        else:
            params, scale = lasso.unit * z, lasso.unit[free]

            def product(v: Array) -> Array:
                direction = np.zeros(free.shape)
                direction[free] = scale * v
                image = lasso.objective.loss_hessian_product(params.ravel(), direction.ravel()).reshape(free.shape)
                return image[free] * scale / lasso.data.total_mass + sum(
                    (gauge * (gauge @ v) for gauge in gauges), np.zeros(self.size))

            self._operator = LinearOperator((self.size, self.size), matvec=product, dtype=np.float64)

    @property
    def condition(self) -> float:
        """Condition number of the Hessian; inf where it is singular, nan where it was not formed."""
        return self._factor(np.ones(self.size, dtype=bool))[1] if self.formed else float("nan")

    @property
    def singular(self) -> bool:
        return bool(np.isinf(self.condition))

    def _factor(self, active: Mask) -> tuple[Any, float]:
        """Return a Cholesky factor of the active part, damped where it is singular, and the condition number."""
        if self._last is None or not np.array_equal(self._last[0], active):
            part = self._hessian if active.all() else self._hessian[np.ix_(active, active)]
            factor, condition = None, 1.0
            damping = 0.0
            while len(part) and factor is None:
                # LAPACK itself: scipy's wrappers cost more than the work on small problems
                root, failed = linalg.lapack.dpotrf(part)
                reciprocal = 0.0
                if not failed:
                    reciprocal = float(linalg.lapack.dpocon(root, np.abs(part).sum(axis=0).max())[0])
                if reciprocal > _SINGULAR or damping >= 1.0:
                    factor, condition = root, 1.0 / reciprocal if not damping else np.inf
                else:
                    # along flat directions, where l1 alone decides, a damped step goes far and ends at zeros
                    damping = 100.0 * damping or 1e-10
                    part = part + damping * np.diag(np.maximum(part.diagonal(), 1e-10))
            self._last = active, factor, condition
        return self._last[1:]

    def solve(self, right: Array, active: Mask | None = None) -> Array:
        """Return H^-1 right over the active of the free parameters (all by default).

        nan where conjugate gradients do not find it.
        """
        if not len(right):
            return right
        if not self.formed:
            answer, failed = cg(self._operator, right, rtol=1e-6, maxiter=500)
            return np.full_like(answer, np.nan) if failed else answer
        factor = self._factor(np.ones(self.size, dtype=bool) if active is None else active)[0]
        return linalg.lapack.dpotrs(factor, right)[0]

    def flat_range(self) -> float:
        """The largest range of any row's logits along a direction of unit length in which a singular H is flattest."""
        direction = np.zeros(self.free.shape)
        direction[self.free] = self.solve(self.solve(np.random.default_rng(0).standard_normal(self.size)))
        direction *= self.lasso.unit / linalg.norm(direction)
        return self.lasso.data.samples.row_maximum("logit_range", direction)

    def step(self, z: Array, gradient: Array) -> Array:
        """Return s that about minimises gradient's + s'Hs / 2 + sum l1 |z + s|, over the free parameters.

        By projected Newton steps on that model, which take no pass over the data: one where no sign changes.
        """
        start, inner, l1 = z[self.free], gradient[self.free], self.lasso.l1[self.free]
        if not self.formed:
            return -self.solve(_least_subgradient(start, inner, l1))
        point, slope, first = start, inner, np.inf
        for _ in range(_MAX_INNER):
            residual = _least_subgradient(point, slope, l1)
            norm = float(linalg.norm(residual))
            first = min(first, norm)
            if (norm <= 1e-3 * first and point is not start) or norm <= 1e-16 * np.sqrt(len(start)):
                break
            active = (point != 0) | (residual != 0) | (l1 == 0)
            move = np.zeros_like(point)
            move[active] = -self.solve(residual[active], active)
            sign = np.where(point != 0, np.sign(point), -np.sign(slope))
            for t in 0.5 ** np.arange(8):
                trial = _projected(point + t * move, sign, l1)
                change = trial - point
                image = self._hessian @ change
                gained = float(slope @ change + 0.5 * (change @ image) + l1 @ (np.abs(trial) - np.abs(point)))
                if gained < 1e-4 * float(residual @ change):
                    break
            else:
                break
            point, slope = trial, slope + image
        return point - start

    def effective_df(self, n_params: int) -> float:
        """Return tr(I H^-1) over the free parameters, I without the penalty and H with it; nan where not formed."""
        if not len(self.lasso.l2[self.free]) or not self.lasso.l2[self.free].any():
            return float(n_params)
        if not self.formed:
            return float("nan")
        inverse = self.solve(np.eye(self.size))
        size = self.size - sum(1 for _ in self.lasso.gauges(self.free))
        return float(size - self.lasso.l2[self.free] @ inverse.diagonal())


def maximize_lasso(lasso: Lasso, *, tol: float, max_iter: int, init: Array | None = None,
                   callback: Callable[[IterationState], Any] | None = None) -> LassoMaximum:
    """Maximise the log-likelihood less l1 and l2 penalties.

    Parameters
    ----------
    lasso : Lasso
    tol : float
        The norm of the mean subgradient of least norm, in the variables z, at which the certificate holds.
    max_iter : int
        Of L-BFGS-B.
    init : ndarray of shape (n_classes, p), optional
        The start, in the units of X; the shares of the classes by default.
    callback : callable, optional
        As for `maximize`.
    """
    data = lasso.data
    if init is None:
        z = np.zeros(lasso.unit.shape)
        if data.samples.fit_intercept:
            z[:, -1] = np.log(data.class_totals / data.class_totals.mean()) / lasso.unit[:, -1]
    else:
        z = lasso.movable * data.standardized_params(init) / lasso.unit
    with Iterations(callback, lambda: lasso.params(z)) as iterations:
        # With an offset the intercepts move: first in the model where every penalised coefficient is 0.
        return _maximize(lasso, z, tol, init is not None, _Stopper(lasso, max_iter, iterations))


def _maximize(lasso: Lasso, z: Array, tol: float, enter: bool, stopper: _Stopper) -> LassoMaximum:
    data, iterations = lasso.data, stopper.iterations
    answer: OptimizeResult | None = None
    z, certificate, unique = _polish(lasso, z, tol, enter=enter)
    enough = 1e-2 * float(linalg.norm(lasso.subgradient(z)))
    while not certificate.holds and not stopper.ended:
        z, answer = _lbfgsb(lasso, z, max(enough, 0.1 * tol), stopper)
        if not stopper.ended:
            z, certificate, unique = _polish(lasso, z, tol)
        if enough <= 0.1 * tol and answer.nit < _STAGE:
            break
        enough = max(0.03 * enough, 0.1 * tol)
    if stopper.ended:
        z, certificate, unique = _polish(lasso, z, tol, may_step=False)
    penalized = -lasso.value(z) * data.total_mass
    smooth = 0.5 * float(np.sum(lasso.l2 * z * z)) + float(np.sum(lasso.l1 * np.abs(z)))
    n_params = lasso.n_params(z)
    df = float(n_params) if not lasso.l2.any() else _NewtonSteps(lasso, z, lasso.free(z)).effective_df(n_params)
    return LassoMaximum(lasso.params(z), penalized + smooth * data.total_mass, penalized, certificate, stopper.n_iter,
                        _message(certificate, tol, unique, stopper), answer, n_params, df, not stopper.ended,
                        iterations.history(penalized, certificate.gradient_norm))


def _polish(lasso: Lasso, z: Array, tol: float, *, enter: bool = True,
            may_step: bool = True) -> tuple[Array, Certificate, bool]:
    """Take Newton steps in the free parameters while they help; return the point, its certificate, if it is unique.

    A step that would change a sign ends at 0 (projected). Without `enter` what is 0 stays 0 as long as steps help.
    """
    newton: _NewtonSteps | None = None
    stalled = 0
    for n_steps in range(_MAX_NEWTON + 1):
        free = lasso.free(z)
        residual = lasso.subgradient(z)
        norm = float(linalg.norm(residual))
        inner = lasso.movable & ((z != 0) | (lasso.l1 == 0))
        inner_norm = float(linalg.norm(residual[inner]))
        if not enter and inner_norm > 1e-15 and stalled < 2:
            free, residual, norm = inner, np.where(inner, residual, 0.0), inner_norm
        elif not enter and norm > tol:
            break
        if newton is None or (newton.free != free).any():
            newton = _NewtonSteps(lasso, z, free)
        step = np.zeros(z.shape)
        step[free] = newton.step(z, lasso.smooth(z)[1])
        squared_decrement = -float(np.sum(residual * step))
        if not np.isfinite(squared_decrement) or not may_step or stalled >= 2 or n_steps == _MAX_NEWTON:
            break
        if norm <= 1e-15 * np.sqrt(len(residual)):
            break
        trial = _line_search(lasso, z, step, residual)
        if trial is None:
            break
        value, new_value = lasso.value(z), lasso.value(trial)
        new_residual = lasso.subgradient(trial)
        stalled += not (new_value < value - 8.0 * _EPS * abs(value) or
                        float(linalg.norm(new_residual if enter else new_residual[inner])) <= 0.5 * norm)
        z = trial
        if squared_decrement > 1e-6:  # else the Hessian serves again
            newton = None
    free, residual = lasso.free(z), lasso.subgradient(z)
    norm = float(linalg.norm(residual))
    if norm > max(tol, 1e-6):
        return z, Certificate(norm, np.nan, np.nan, np.nan, np.nan, False), True
    if newton is None or (newton.free != free).any():
        newton = _NewtonSteps(lasso, z, free)
    step = np.zeros(z.shape)
    step[free] = -newton.solve(residual[free])
    newton_range = lasso.data.samples.row_maximum("logit_range", lasso.unit * step)
    decrement = float(np.sqrt(max(-float(np.sum(residual * step)), 0.0) * lasso.data.total_mass))
    d = lasso.data.samples.n_features
    # Without any penalty a flat direction is collinear columns, along which no logit moves, or there is no maximum.
    unpenalized: Mask = free & (lasso.l1 == 0) & (lasso.l2 == 0)
    undetermined = bool(unpenalized[:, :d].any()) and newton.singular and newton.flat_range() > 1e-4
    holds = norm <= tol and newton_range <= CERTIFIED_RANGE and not undetermined
    # a minimiser is unique where the Hessian is regular on all that reach |gradient| = l1 (Tibshirani 2013)
    reached = free | (lasso.movable & (np.abs(lasso.smooth(z)[1]) >= lasso.l1 * (1.0 - 1e-9)))
    widest = newton if (reached == free).all() else _NewtonSteps(lasso, z, reached)
    return z, Certificate(norm, newton_range, decrement, lasso.gap_bound(z), newton.condition,
                          holds), not widest.singular


def _line_search(lasso: Lasso, z: Array, step: Array, residual: Array) -> Array | None:
    """Return a point on the projected path z + t step, t = 1, 1/2, ..., at which F is less; None if there is none.

    Where F differs by rounding only, one at which the subgradient is less.
    """
    value, norm = lasso.value(z), float(linalg.norm(residual))
    sign = np.where(z != 0, np.sign(z), np.sign(step))
    for t in 0.5 ** np.arange(12):
        trial = lasso.centred(_projected(z + t * step, sign, lasso.l1))
        new_value = lasso.value(trial)
        if not np.isfinite(new_value):
            continue
        if new_value < value + min(1e-4 * float(np.sum(residual * (trial - z))), -8.0 * _EPS * abs(value)):
            return trial
        if new_value <= value + 8.0 * _EPS * abs(value):
            if float(linalg.norm(lasso.subgradient(trial)[residual != 0])) < norm:
                return trial
    return None


class _Stopper:
    """Notes iterations, and says when to end."""

    def __init__(self, lasso: Lasso, max_iter: int, iterations: Iterations) -> None:
        self._lasso, self.max_iter, self.iterations = lasso, max_iter, iterations

    @property
    def n_iter(self) -> int:
        return self.iterations.n_iter

    @property
    def ended(self) -> bool:
        return self.iterations.stopped_by_callback or self.n_iter >= self.max_iter

    def reached(self, z: Array, value: float, gradient_norm: float) -> None:
        """Note an iteration that ended at z, of that loss; raises StopIteration where the callback does."""
        lasso, mass = self._lasso, self._lasso.data.total_mass

        def log_likelihood() -> float:
            penalty = 0.5 * float(np.sum(lasso.l2 * z * z)) + float(np.sum(lasso.l1 * np.abs(z)))
            return (penalty - value) * mass

        self.iterations.note(-value * mass, gradient_norm, log_likelihood, lambda: lasso.params(z))


def _lbfgsb(lasso: Lasso, z: Array, enough: float, stopper: _Stopper) -> tuple[Array, OptimizeResult]:
    """Minimise over z = z+ - z- until the projected gradient's norm is `enough`, or for _STAGE iterations."""
    last = stopper.n_iter + _STAGE
    split = (lasso.l1 > 0) & lasso.movable
    other = ~split & lasso.movable
    n_split, l1 = int(split.sum()), lasso.l1[split]

    def joined(x: Array) -> Array:
        point = np.zeros(split.shape)
        point[split] = x[:n_split] - x[n_split:2 * n_split]
        point[other] = x[2 * n_split:]
        return point

    def both(x: Array) -> tuple[float, Array]:
        value, gradient = lasso.smooth(joined(x))
        inner = gradient[split]
        return (value + float(l1 @ (x[:n_split] + x[n_split:2 * n_split])),
                np.concatenate([l1 + inner, l1 - inner, gradient[other]]))

    def watch(intermediate_result: OptimizeResult) -> None:
        x = intermediate_result.x
        slope = both(x)[1]
        point = joined(x)
        projected = slope.copy()
        projected[:2 * n_split] = np.minimum(x[:2 * n_split], slope[:2 * n_split])
        norm = float(linalg.norm(projected))
        stopper.reached(point, lasso.value(point), norm)
        if norm <= enough or stopper.n_iter >= last or stopper.ended:
            raise StopIteration

    start = np.concatenate([np.maximum(z[split], 0.0), np.maximum(-z[split], 0.0), z[other]])
    lower = np.zeros(len(start))
    lower[2 * n_split:] = -np.inf
    answer = minimize(both, start, jac=True, method="L-BFGS-B", callback=watch,
                      bounds=np.stack([lower, np.full(len(start), np.inf)], axis=1),
                      options={"maxiter": stopper.max_iter - stopper.n_iter, "ftol": 0.0, "gtol": 0.0, "maxcor": 20,
                               "maxfun": 10 * stopper.max_iter + 100})
    return joined(answer.x), answer


def _of_columns(samples: DenseSamples, columns: NDArray[np.intp]) -> Iterator[DenseSamples]:
    """Yield the samples with those columns of X alone, gathered a block of rows at a time; whole where all are."""
    if len(columns) == samples.n_features:
        yield samples
        return
    rows = max(256, _GATHERED // max(1, len(columns)))
    for start in range(0, samples.n_samples, rows):
        parts = {name: array[start:start + rows] for name in ("X", "codes", "counts", "weights", "offset")
                 if (array := getattr(samples, name)) is not None}
        yield samples.replace(**parts).of_features(columns)


def _message(certificate: Certificate, tol: float, unique: bool, stopper: _Stopper) -> str:
    figures = f"scaled subgradient {certificate.gradient_norm:.2g} (tol {tol:g})"
    if not np.isnan(certificate.newton_range):
        figures += (f", one more Newton step would move a logit by {certificate.newton_range:.2g} (at most "
                    f"{CERTIFIED_RANGE:g} is certified)")
    if certificate.holds:
        note = "" if unique else ("; the coefficients are not unique (collinear columns share what one could have), "
                                  "the probabilities are")
        return f"the maximum was reached: {figures}{note}"
    if stopper.iterations.stopped_by_callback:
        return f"stopped by the callback after {stopper.n_iter} iterations: {figures}"
    if stopper.ended:
        return f"stopped at max_iter={stopper.max_iter} iterations: {figures}; raise max_iter"
    return f"not converged after {stopper.n_iter} iterations: {figures}; try a larger penalty, on every feature"
