"""The metric in which the maximisation does not see the units of X, as coordinates for theta.

`maximize` and all that speaks of a maximum stand on it. It stands on `objective`, `samples` and `_entries`.

The loss is bounded by the quadratic form of (I - 11'/C) x P, with

    P = 1/2 X~'MX~ + diag(l2, 0)          M: each row's weight times its total count
                                          (Boehning & Lindsay 1988, doi:10.1007/BF00049423)
                                          l2: of a feature whose classes differ in it, the largest

In coordinates u with theta = (Q x T) u, where T T' = W P^+ (W the total mass) and Q is an orthonormal basis of the
rows that sum to 0, the mean loss (loss / W) has a Hessian with eigenvalues in (0, 1]: no unit, offset or scale of a
column is left in it, and neither is the direction along which softmax does not change. X is never copied: its
columns are centred and scaled inside the kernel.

The likelihood sees rows v that sum to 0 over classes; all rows w_k = v_k + c are free, and where l2 differs between
the classes of a feature c is what minimises sum_k l2_k (v_k + c)^2 = sum_k l2_k (v_k - sum_m l2_m v_m / sum_m l2_m)^2:
a quadratic form of v, 0 for a penalty on one class alone. It takes the place of l2 |v|^2 in all that is computed.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.linalg import lapack

from csoftmax import _entries
from csoftmax.objective import SoftmaxObjective
from csoftmax.samples import Array, assemble_pairs, blocks_of, pair_indices

if TYPE_CHECKING:
    from csoftmax._kernels_baseline import WholeLoss

# A column is collinear with the others where what is left of it, squared and relative, is rounding error of the
# Gram matrix: eps times a few additions for each column.
_RANK_TOLERANCE = 16 * np.finfo(np.float64).eps
# The largest entry of an image of rows in [-1, 1], over the sum of the direction's, from which it is no rounding error.
_SEEN = 64 * np.finfo(np.float64).eps
# The penalty on the mean loss, beside the data's part of 1, from which a Cholesky factor would lose half the digits.
_FAR_APART = 1e8
# The least diagonal of a Cholesky factor of correlations, and the penalty on the mean loss over a column's variance, up
# to which the metric has no direction that wants care.
_LEAST_PIVOT = 0.01
_LARGE_PENALTY = 1e4
# The least penalty on the mean loss; and the largest, over a column's largest entry squared.
_LEAST_PENALTY = 1e-280
_LARGEST_PENALTY = 1e20
# Up to so many coordinates a problem of one block of rows is held whole.
_WHOLE_COORDINATES = 250


class Rounding(NamedTuple):
    """Bounds on rounding errors, in the metric; see `MetricCoordinates.rounding`.

    Attributes
    ----------
    logit : float
        Of each logit.
    gradient, hessian : float
        The Euclidean norm of the mean loss's gradient's error, and the spectral norm of its Hessian's, beside what the
        logits' errors do to them.
    params : float
        How far, in the metric, the parameters returned may be from those of the coordinates.
    """

    logit: float
    gradient: float
    hessian: float
    params: float


class MetricCoordinates:
    """Coordinates u of shape ((n_classes - 1) * q,) for the parameters, Euclidean in the metric.

    Attributes
    ----------
    objective : SoftmaxObjective
        The log-likelihood's loss, without the penalty, in standardised units of X (`DenseSamples.standardized`).
    total_mass : float
        W, the sum of weight times count over samples.
    rank : int
        Of [X, 1] (of X without an intercept).
    estimable : ndarray of shape (p,), bool
        False for a feature (or the intercept, last) that the data do not determine, for its column is collinear.
    undetermined : ndarray of shape (n_features, n_directions)
        Orthonormal directions of coefficients, each in its `unit`, that change neither a logit nor the penalty where
        the intercept moves by -center @ (unit * direction).
    n_coordinates : int
    """

    def __init__(self, objective: SoftmaxObjective) -> None:
        samples = objective.samples
        totals = samples.column_totals()
        standardized = samples.standardized(totals)
        assert standardized.shift is not None and standardized.scale is not None
        self._shift, self._scale = standardized.shift, standardized.scale
        self.objective = SoftmaxObjective.from_samples(standardized, np.zeros(samples.n_features))
        self._samples = standardized
        self.total_mass = samples.total_mass()
        self.n_classes = samples.n_classes
        # Of a column of 1e150 and beyond the penalty on the mean loss underflows: to what square roots can hold. Of one
        # of 1e-100 it is 1e200, beside which the data's part is lost: from 1e20 on the coefficients, to 20 digits
        # gradient / l2, are those of 1e20, times 1e20 / l2.
        self.penalized, self._clipped, l2 = bool(np.count_nonzero(objective.l2)), False, objective.l2
        if self.penalized:
            l2, self._beyond = np.empty(l2.shape), np.empty(l2.shape)
            self._clipped = _entries.mean_penalty(
                np.atleast_2d(objective.l2), self._shift, self._scale, totals, self.total_mass, _LEAST_PENALTY,
                _LARGEST_PENALTY, np.atleast_2d(l2), np.atleast_2d(self._beyond))
        self._l2_by_class = l2 if l2.ndim == 2 else None
        self._largest_l2 = l2 if l2.ndim == 1 else l2.max(axis=0)
        self._factorize(standardized.gram(), self._largest_l2)
        self.n_coordinates = (self.n_classes - 1) * self._T.shape[1]
        self.penalized_by_class = self._l2_by_class is not None

    def __getstate__(self) -> dict[str, Any]:
        # What is compiled points into arrays: a copy makes its own when it is first asked for it. None stays: it says
        # that these coordinates, on a plane or from a point on, have none.
        return {name: value for name, value in self.__dict__.items() if name != "_whole_loss" or value is None}

    def _factorize(self, gram: Array, l2: Array) -> None:
        fit_intercept, d = self._samples.fit_intercept, self._samples.n_features
        self._mean_squares = gram.diagonal() / self.total_mass
        self._moments, self._mean = moments, mean = np.empty((d, d)), np.empty(d)
        _entries.moments_of(gram, self.total_mass, fit_intercept, moments, mean)
        factor, dropped = np.empty((d, d)), np.empty((d, 0))
        plain = _entries.plain_factor(moments, l2, _LEAST_PIVOT, _LARGE_PENALTY, factor)
        if not plain:
            factor, dropped = _inverse_factor(moments)
            factor = factor * np.sqrt(2.0)
        self._hidden = self._unseen_directions(dropped)
        self.rank = factor.shape[1] + fit_intercept
        beside: Array | None = None
        if self.penalized and not plain:
            # Along a dropped direction the data say nothing and the penalty all, however small beside the data's
            # moments: in the basis [factor, dropped] the data's part is exactly diag(I, 0). A triangular factor, scaled
            # to unit diagonal, keeps the two apart and the penalty's digits. `beside` is what the data do not see.
            # Directions among features without a penalty stay dropped. Where columns are collinear to 1e-11 the data do
            # see those directions, which only a Gram matrix does not: its entries are squares.
            r = factor.shape[1]
            penalized, dropped = _split_by_rows(dropped, l2 > 0)
            basis = np.concatenate([factor, penalized / _column_norms(moments)[:, np.newaxis]], axis=1)
            both = basis.T @ (basis * l2[:, np.newaxis])
            both[np.arange(r), np.arange(r)] += 1.0
            change = _inverse_root(both, np.concatenate([np.eye(r, len(both)), basis * np.sqrt(l2)[:, np.newaxis]]))
            factor, beside = factor @ change[:r], basis[:, r:] @ change[r:]
            if penalized.shape[1]:
                factor, beside = self._with_what_rows_see(factor, beside, l2)
        self._left_out = self._unseen_directions(dropped)
        q = factor.shape[1]
        self._T = self._T_all = np.empty((d + fit_intercept, q + fit_intercept))
        _entries.with_intercept(factor, mean, self._T)
        if beside is not None:
            self._T_all = self._T.copy()
            self._T_all[:d, :q] += beside
            if fit_intercept:
                self._T_all[d, :q] -= mean @ beside
        if self.penalized:
            self._penalty = self._T_all[:d].T @ (self._T_all[:d] * l2[:, np.newaxis])
        else:
            self._penalty = np.zeros(2 * self._T.shape[1:])
        self.estimable = np.empty(d + fit_intercept, dtype=bool)
        self.estimable.fill(True)
        if dropped.shape[1]:
            self.estimable[:d] = np.abs(dropped).max(axis=1) <= 1e-6
        self.undetermined = dropped
        if fit_intercept and dropped.shape[1]:
            # a direction that changes no logit moves the raw intercept by -sum_i w_i center_i
            terms = dropped * (self.unit * self.center)[:, np.newaxis]
            moved, size = np.abs(terms.sum(axis=0)), np.abs(terms).sum(axis=0)
            self.estimable[d] = not np.any(moved > 1e-6 * np.maximum(size, np.finfo(float).tiny))

    @functools.cached_property
    def unit(self) -> Array:
        """The coefficients that are 1 where a column is scaled to unit spread, of shape (n_features,)."""
        return self._scale / _column_norms(self._moments)

    @functools.cached_property
    def center(self) -> Array:
        """The mean row, of shape (n_features,); 0 without an intercept."""
        return self._shift + self._mean / self._scale if self._samples.fit_intercept else np.zeros(len(self._scale))

    def _unseen_directions(self, dropped: Array) -> Array:
        if not dropped.shape[1]:
            return np.empty((self._samples.params_shape[1], 0))
        features = dropped / _column_norms(self._moments)[:, np.newaxis]
        if not self._samples.fit_intercept:
            return features
        return np.concatenate([features, -self._mean[np.newaxis] @ features])

    def _with_what_rows_see(self, factor: Array, beside: Array, l2: Array) -> tuple[Array, Array]:
        """Return both with the columns of `beside` that rows see, by more than rounding, as part of `factor`."""
        samples = self._samples
        q, mass = factor.shape[1], samples.mass()
        columns = np.concatenate([factor, beside], axis=1)
        if samples.fit_intercept:
            columns = np.concatenate([columns, -self._mean[np.newaxis] @ columns])
        blocks = samples.blocks(3 * q)
        largest = np.zeros(q)
        for start, stop in blocks:
            image = samples.part(slice(start, stop)).design() @ columns[:, q:]
            largest = np.maximum(largest, np.abs(image).max(axis=0))
        seen = largest > _SEEN * np.abs(columns[:, q:]).sum(axis=0)
        if not seen.any():
            return factor, beside
        factor, beside = np.where(seen, factor + beside, factor), np.where(seen, 0.0, beside)
        columns[:, :q] += np.where(seen, columns[:, q:], 0.0)
        triangle = np.zeros((0, q))  # the metric of all, by QR of the rows
        for start, stop in blocks:
            rows = samples.part(slice(start, stop)).design() @ columns[:, :q]
            share = 0.5 if mass is None else 0.5 * mass[start:stop, np.newaxis]
            triangle = np.asarray(np.linalg.qr(np.concatenate([triangle, rows * np.sqrt(share / self.total_mass)]),
                                             mode="r"))
        rows = np.concatenate([triangle, (factor + beside) * np.sqrt(l2)[:, np.newaxis]])
        change = _inverse_root(rows.T @ rows, rows)
        return factor @ change, beside @ change

    # ------------------------------------------------------------------------ parameters in standardised units of X

    def standardized_rows(self, u: Array) -> Array:
        """Return parameters of shape (n_classes, p), in standardised units, that have the logits of u."""
        return _helmert(self._rows(u)) @ self._T.T

    def _rows(self, u: Array) -> Array:
        return u.reshape(self.n_classes - 1, -1)

    def penalty(self, u: Array) -> float:
        """Return 1/2 sum_ki l2_ki w_ki^2 at u."""
        if not self.penalized:
            return 0.0
        # a sum of squares: in `rows @ penalty @ rows'` columns of unlike units cancel
        coef = _helmert(self._rows(u)) @ self._T_all[:len(self._scale)].T
        l2 = self._largest_l2
        if self._l2_by_class is not None:
            coef, l2 = _centred(coef, self._l2_by_class), self._l2_by_class
        return 0.5 * self.total_mass * float((l2 * coef).ravel().dot(coef.ravel()))

    def _shrink(self, rows: Array) -> Array:
        """Return the gradient of the mean penalty by `rows`, which is linear in them."""
        if self._l2_by_class is None:
            return rows @ self._penalty
        d = len(self._scale)
        coef = _centred(_helmert(rows) @ self._T_all[:d].T, self._l2_by_class)
        return _helmert_adjoint((self._l2_by_class * coef) @ self._T_all[:d])

    def extended(self, u: Array) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return in long double T, of shape (p, q), and the standardised rows of u and the mean penalty's gradient."""
        d = len(self._scale)
        T, rows = self._T.astype(np.longdouble), _helmert(self._rows(u).astype(np.longdouble))
        coef = rows @ self._T_all[:d].T
        if self._l2_by_class is not None:
            shrunk = self._l2_by_class * _centred(coef, self._l2_by_class)
        else:
            shrunk = self._largest_l2 * coef
        return T, rows @ T.T, _helmert_adjoint(shrunk @ self._T_all[:d].astype(np.longdouble))

    def _penalty_hessian(self) -> Array:
        """Return the mean penalty's Hessian by `rows`, of shape (C - 1, C - 1, q, q), where classes differ in l2."""
        assert self._l2_by_class is not None
        m, (d, n_columns) = self.n_classes - 1, (len(self._scale), self._T_all.shape[1])
        # column a of Helmert's basis, for each feature: basis[a, k, i]
        basis = np.broadcast_to(_helmert(np.eye(m)).T[:, :, np.newaxis], (m, m + 1, d))
        by_feature = np.einsum("aki,bki->abi", basis, np.stack(
            [self._l2_by_class * _centred(column, self._l2_by_class) for column in basis]))
        return np.stack([(self._T_all[:d].T @ (self._T_all[:d] * values[:, np.newaxis]))
                         for values in by_feature.reshape(-1, d)]).reshape(m, m, n_columns, n_columns)

    @functools.cached_property
    def _whole_loss(self) -> WholeLoss | None:
        """The mean loss in one call, of a problem of which a copy of the rows and a few matrices are small."""
        samples = self._samples
        if len(samples.blocks()) > 1 or self.n_coordinates > _WHOLE_COORDINATES:
            return None
        penalty: Array | None = None
        if self.penalized:
            penalty = self._penalty if self._l2_by_class is None else (
                self._penalty_hessian().transpose(0, 2, 1, 3).reshape(2 * (self.n_coordinates,)))
        return samples.whole_loss(np.ascontiguousarray(self._T.T), self.total_mass, penalty)

    @property
    def held_whole(self) -> bool:
        """Whether a copy of the rows is held, so that a Hessian's arithmetic takes no longer than the calls around."""
        return self._whole_loss is not None

    def loss_and_gradient(self, u: Array) -> tuple[float, Array]:
        """Return the mean loss and its gradient by u."""
        if (whole := self._whole_loss) is not None:
            return whole.loss_and_gradient(u)
        value, gradient = self._samples.log_likelihood_and_gradient(self.standardized_rows(u))
        rows = self._rows(u)
        pulled = _helmert_adjoint(gradient @ self._T)
        if not self.penalized:
            return -value / self.total_mass, pulled.ravel() / -self.total_mass
        shrink = self._shrink(rows)
        return 0.5 * float(shrink.ravel() @ u) - value / self.total_mass, (shrink - pulled / self.total_mass).ravel()

    def rounding(self, u: Array) -> Rounding:
        """Return bounds on what float64 does at u, for rounding errors that are independent and of mean 0.

        A sum of n terms then keeps within 6 sqrt(n) eps of their root sum of squares but with probability 3e-8
        (Higham & Mary 2019, doi:10.1137/18M1226312); bounds for the worst of all signs, n eps of the sum of sizes, were
        above the eigenvalues themselves on tables with a condition of 1000. The kernel's rows are in [-1, 1], so a
        logit's error is that of its p terms and of the standardised parameters, which are sums of T's. What it does to
        gradient and Hessian is no more than a move of the logits does, and no T enlarges it: see `Certificate`.

        Beside that, a residual and a product p_i p_k have errors of a few eps, and the sums over samples theirs: of the
        mean gradient's entry of column a at most m_a^(1/2), m_a the mean of x~_a^2, times that; of the mean Hessian's
        entry a, b of the classes i and k at most (m_a m_b)^(1/2) times the classes' share, and the shares of all pairs
        sum to 1. T' and T take them to the coordinates, where the norm is by tau = sum_ac m_a T_ac^2 (a Hessian's is
        symmetric and has its diagonal blocks as sums: 2 tau).
        """
        samples, eps = self._samples, 6.0 * float(np.finfo(float).eps)
        C, (p, q) = self.n_classes, self._T_all.shape
        d = len(self._scale)
        if self._clipped:
            return Rounding(np.inf, np.inf, np.inf, np.inf)
        coef, tau, pull, penalty, shifted = _entries.rounding_sums(
            self._T_all, u, self._mean_squares, self._largest_l2, self._shift, self._scale)
        logit = eps * (math.sqrt((2 * p + q + C + 70) * coef) + 2.0 * self._largest_offset)
        start, stop = samples.blocks()[-1]
        entry = eps * math.sqrt(C + 2 * p + 20 + 2 * (stop - start + 16 + samples.n_samples // (stop - start)))
        gradient = entry * math.sqrt(C * tau) + eps * math.sqrt((q + d + 2 * C + 8) * pull)
        hessian = 2.0 * entry * tau + eps * q * C
        # the parameters returned: rounded, and with an intercept in the units of X
        moved = (q + C + 4) * eps * eps
        params = math.sqrt(moved * (0.5 * coef + penalty) + 0.5 * (p + 2) * eps * eps * shifted)
        return Rounding(logit, gradient, hessian, params)

    @functools.cached_property
    def _largest_offset(self) -> float:
        offset = self._samples.offset
        return 0.0 if offset is None else max(float(np.abs(rows).max()) for _, rows in blocks_of(offset))

    def hidden_gradient(self, u: Array) -> float:
        """Return the largest entry of the mean log-likelihood's gradient along what was left out as collinear.

        Directions are in columns of unit spread: 1e-16 for columns that are collinear to rounding.
        """
        if not self._left_out.shape[1]:
            return 0.0
        gradient = self.objective.loss_gradient(self.standardized_rows(u).ravel()).reshape(self.n_classes, -1)
        return float(np.abs(gradient @ self._left_out).max()) / self.total_mass

    def hessian_product(self, u: Array, v: Array) -> Array:
        """Return the product of the mean loss's Hessian by u with v."""
        product = self._samples.hessian_product(self.standardized_rows(u), self.standardized_rows(v))
        pulled = _helmert_adjoint(product @ self._T) / -self.total_mass
        return (pulled + self._shrink(self._rows(v))).ravel()

    def hessian(self, u: Array, mass: Array | None = None) -> Array:
        """Return the mean loss's Hessian by u, of shape (n_coordinates, n_coordinates).

        `mass`, of shape (n_samples,), takes the place of the rows' own.
        """
        if (whole := self._whole_loss) is not None:
            return whole.hessian(u, mass)
        rows, q = self.n_classes, self._T.shape[1]
        samples = self._samples if mass is None else self._samples.replace(codes=None, counts=None, weights=mass)
        pairs = np.matmul(np.matmul(self._T.T, samples.hessian_pairs(self.standardized_rows(u))), self._T)
        pairs /= -self.total_mass
        both = self._contrasted(assemble_pairs(pairs, rows)).reshape(rows - 1, rows - 1, q, q)
        if self._l2_by_class is None:
            diagonal = np.arange(rows - 1)
            both[diagonal, diagonal] += self._penalty
        else:
            both += self._penalty_hessian()
        return both.transpose(0, 2, 1, 3).reshape(self.n_coordinates, self.n_coordinates)

    def hessian_diagonal(self, u: Array) -> Array:
        """Return the mean loss's Hessian by each row of Q u, of shape (n_classes, q, q).

        Where l2 differs by class, with the largest of a feature: not below that of the row.
        """
        blocks = np.matmul(np.matmul(self._T.T, self._samples.hessian_diagonal(self.standardized_rows(u))), self._T)
        return blocks / self.total_mass + self._penalty

    def by_classes(self, gradient: Array) -> Array:
        """Return Q gradient, of shape (n_classes, q)."""
        return _helmert(self._rows(gradient))

    def from_classes(self, rows: Array) -> Array:
        """Return Q' rows, of shape (n_coordinates,)."""
        return _helmert_adjoint(rows).ravel()

    def _contrasted(self, blocks: Array) -> Array:
        """Return Q' blocks Q: (C, C, q, q) -> (C - 1, C - 1, q q)."""
        rows, size = self.n_classes, blocks.shape[2] * blocks.shape[3]
        half = _helmert_adjoint(blocks.reshape(rows, -1)).reshape(rows - 1, rows, size)
        if rows <= _FEW_CLASSES:
            return np.matmul(_helmert_matrix(rows).T, half)
        both = _helmert_adjoint(half.transpose(1, 0, 2).reshape(rows, -1)).reshape(rows - 1, rows - 1, size)
        return both.transpose(1, 0, 2)  # by the first class first: a block of a Hessian is symmetric, others are not

    def pulled_outer_product(self, outer: Array) -> Array:
        """Return sum_j g_j g_j', g_j by u, of shape (n_coordinates, n_coordinates).

        `outer`, of shape (n_classes - 1, p, n_classes - 1, p), is that of gradients by the standardised rows, whose sum
        over classes is 0, without the last class.
        """
        rows, q = self.n_classes, self._T.shape[1]
        blocks = np.zeros((rows, rows, q, q))
        blocks[:-1, :-1] = np.matmul(np.matmul(self._T.T, outer.transpose(0, 2, 1, 3)), self._T)
        blocks[-1, :-1] = -blocks[:-1, :-1].sum(axis=0)
        blocks[:, -1] = -blocks[:, :-1].sum(axis=1)
        return self._contrasted(blocks).reshape(rows - 1, rows - 1, q, q).transpose(0, 2, 1, 3).reshape(
            self.n_coordinates, self.n_coordinates)

    def pulled(self, gradient: Array) -> Array:
        """Return the gradient by u of what has `gradient`, of shape (n_classes, p), by the standardised rows."""
        return _helmert_adjoint(gradient @ self._T).ravel()

    def contrast_factors(self, covariance: Array) -> Array:
        """Return F of shape (n_pairs, q, p): |F_il x~|^2 is the variance of a_i(x~) - a_l(x~), x~ standardised.

        The pairs are the n_classes (n_classes - 1) / 2 of `pair_indices`.

        Parameters
        ----------
        covariance : ndarray of shape (n_coordinates, n_coordinates)
            Of u; positive definite.

        Raises
        ------
        numpy.linalg.LinAlgError
            If it is not.
        """
        # a_i - a_l = sum_b (Q_ib - Q_lb) u_b' T' x~, so the variance is x~' T G T' x~ with G = R R' and F = R' T'
        first, second = pair_indices(self.n_classes)
        basis = _helmert(np.eye(self.n_classes - 1))
        contrasts, blocks = basis[first] - basis[second], covariance.reshape(2 * (self.n_classes - 1, self._T.shape[1]))
        half = np.tensordot(contrasts, blocks, axes=1).transpose(0, 2, 1, 3)                 # (pairs, b, q, q)
        covariances = np.matmul(contrasts[:, np.newaxis], half.reshape(*half.shape[:2], -1))
        roots = np.linalg.cholesky(covariances.reshape(len(first), *self._T.shape[1:], -1))
        return np.ascontiguousarray(np.matmul(roots.transpose(0, 2, 1), self._T.T))

    def logit_range(self, v: Array) -> float:
        """Return the largest range over classes of any row's change of logits along v."""
        if (whole := self._whole_loss) is not None:
            return whole.logit_range(v)
        return self._samples.row_maximum("logit_range", self.standardized_rows(v))

    @functools.cached_property
    def largest_leverage(self) -> float:
        """The largest of x~_j' P^-1 x~_j over the rows, in units of 1 / W."""
        if (whole := self._whole_loss) is not None:
            return whole.largest_square()
        T = np.ascontiguousarray(self._T.T)
        return self._samples.images(T).row_maximum("logit_squares", T)

    # --------------------------------------------------------------------------------- parameters in the units of X

    def params(self, u: Array) -> Array:
        """Return the parameters of shape (n_classes, p) in the units of X.

        Rows sum to 0; for a feature whose classes differ in l2 they have the common part of least penalty.
        """
        rows = self._least_penalized(self._raw(_helmert(self._rows(u)) @ self._T_all.T))
        if self._clipped:
            rows[:, :len(self._scale)] *= self._beyond
        return rows

    def _least_penalized(self, rows: Array) -> Array:
        if self._l2_by_class is not None:
            d = len(self._scale)
            rows[:, :d] = _centred(rows[:, :d], self._l2_by_class)
        return rows

    def _raw(self, rows: Array) -> Array:
        raw = rows.copy()
        d = len(self._scale)
        raw[..., :d] *= self._scale
        if raw.shape[-1] > d:
            raw[..., d] -= raw[..., :d] @ self._shift
        return raw

    def by_coordinates(self, matrix: Array) -> Array:
        """Return A of shape (n_rows, n_coordinates): A u = sum_ki matrix[:, k, i] params(u)[k, i], without a penalty.

        The sums of `matrix`, of shape (n_rows, n_classes, p), over classes are 0.
        """
        moved = np.moveaxis(self.by_standardized(matrix) @ self._T, 1, 0)
        pulled = _helmert_adjoint(moved.reshape(self.n_classes, -1))
        by_class = pulled.reshape(self.n_classes - 1, *moved.shape[1:])
        return np.moveaxis(by_class, 1, 0).reshape(len(matrix), by_class.shape[0] * by_class.shape[2])

    def by_standardized(self, matrix: Array) -> Array:
        """Return what applies to the standardised rows as `matrix`, of shape (..., p), does to those in X's units."""
        d = len(self._scale)
        changed = matrix.copy()
        if matrix.shape[-1] > d:
            changed[..., :d] -= matrix[..., d:] * self._shift
        changed[..., :d] *= self._scale
        return changed

    @property
    def unseen(self) -> Array:
        """Directions of the standardised parameters that change no logit, of shape (p, n_directions)."""
        return self._hidden

    @functools.cached_property
    def log_volume(self) -> float:
        """log |det du/dtheta| of the rows of all classes but one, in the units of X: any one.

        With collinear columns it is that on the space of the parameters' identified part, the rows of X~.
        """
        # theta_i - theta_C = sum_b (Q_ib - Q_Cb) T_raw u_b, and |det (Q_ib - Q_Cb)| = sqrt(C). T_raw is T in the units
        # of X, beside it an orthonormal basis of what X~ does not see: N with raw(hidden) = N R.
        rank = self._T.shape[1]
        unseen: Array = linalg.qr(self._raw(self._hidden.T).T, mode="r")[0]
        volume = np.linalg.slogdet(np.concatenate([self._T, self._hidden], axis=1))[1] + np.log(self._scale).sum()
        volume -= np.log(np.abs(unseen.diagonal())).sum()
        return -float(0.5 * rank * np.log(self.n_classes) + (self.n_classes - 1) * volume)

    def coordinates(self, params: Array) -> Array:
        """Return the u nearest to parameters given in the units of X."""
        d = len(self._scale)
        rows = params - params.mean(axis=0)
        if rows.shape[1] > d:
            rows[:, d] += rows[:, :d] @ self._shift
        rows[:, :d] /= self._scale
        return _helmert_adjoint(linalg.lstsq(self._T_all, rows.T)[0].T).ravel()

    def covariance(self, matrix: Array) -> Array:
        """Return (Q x T) matrix (Q x T)' in the units of X, of shape (n_classes, p, n_classes, p): that of `params`."""
        rows, p, q = self.n_classes, self._T.shape[0], self._T.shape[1]
        blocks = matrix.reshape(rows - 1, q, rows - 1, q)
        left = self._raw(np.moveaxis(_helmert(blocks.reshape(rows - 1, -1)).reshape(rows, q, rows - 1, q), 1, 3)
                         @ self._T_all.T)                                        # (rows, rows - 1, q, p)
        left = np.moveaxis(left, 1, 0)                                       # (rows - 1, rows, q, p)
        both = _helmert(left.reshape(rows - 1, -1)).reshape(rows, rows, q, p)
        full = self._raw(np.moveaxis(both, 2, 3) @ self._T_all.T)             # (second, first, p of first, p of second)
        covariance = np.ascontiguousarray(full.transpose(1, 2, 0, 3))
        if self._l2_by_class is not None:
            size = rows * p
            for _ in range(2):  # by the first pair of axes, then by the second
                columns = covariance.reshape(rows, p, size).transpose(2, 0, 1)
                columns = np.stack([self._least_penalized(column) for column in columns.copy()])
                covariance = np.ascontiguousarray(columns).reshape(rows, p, rows, p)
        if self._clipped:
            beyond = np.ones((rows, p))
            beyond[:, :len(self._scale)] = np.sqrt(self._beyond)
            covariance *= beyond[:, :, np.newaxis, np.newaxis] * beyond
        return covariance


def _column_norms(moments: Array) -> Array:
    """Return the square roots of the diagonal; 1 in place of 0."""
    size = np.sqrt(np.maximum(moments.diagonal(), 0.0))
    return np.where(size > 0, size, 1.0)


def _inverse_root(square: Array, rows: Array) -> Array:
    """Return C with C' square C = I, where square = rows' rows; by QR of the rows where their sizes are far apart.

    Columns of X of 1 and of 1e-9 under one l2 have penalties 1e18 apart, whose square has no Cholesky factor.
    """
    unit = _column_norms(square)
    if square.diagonal().max() < _FAR_APART:
        root, failed = lapack.dpotrf(square / unit[:, np.newaxis] / unit, lower=0)
        if not failed:
            change: Array = lapack.dtrtrs(root, np.eye(len(unit)))[0] / unit[:, np.newaxis]
            return change
    scaled = rows / unit
    scaled = scaled[np.argsort(-np.abs(scaled).max(axis=1), kind="stable")]  # the longest first: QR keeps the others
    triangle, order = linalg.qr(scaled, mode="r", pivoting=True)
    change = np.empty_like(square)
    change[order] = lapack.dtrtrs(triangle[:len(order)], np.eye(len(order)))[0]
    return change / unit[:, np.newaxis]


def _centred(coef: Array, l2: Array) -> Array:
    """Return coef of shape (n_classes, n_features) less its mean over classes weighted by l2.

    The plain mean where l2 is the same for all classes, 0 included.
    """
    total = l2.sum(axis=0)
    share = np.where(total > 0, l2 / np.where(total > 0, total, 1.0), 1.0 / len(l2))
    return coef - np.sum(share * coef, axis=0)


def _split_by_rows(basis: Array, chosen: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Return an orthonormal basis in two parts: what has entries in the chosen rows, and what has none."""
    if chosen.all() or not basis.shape[1]:
        return basis, basis[:, :0]
    _, values, vectors = linalg.svd(basis[chosen])
    n_seen = int(np.sum(values > 1e-6))
    return basis @ vectors[:n_seen].T, basis @ vectors[n_seen:].T


def _inverse_factor(moments: Array) -> tuple[Array, Array]:
    """Return F with F F' = moments^+, and an orthonormal basis of what was dropped, in columns scaled to unit diagonal.

    The rank is that of the matrix scaled to unit diagonal, so that no unit of a column decides, and the pseudo-inverse
    is the one of minimum norm in standardised units. A column of length 0 is dropped.
    """
    unit = _column_norms(moments)
    values, vectors = np.linalg.eigh(moments / unit[:, np.newaxis] / unit)
    keep = values > _RANK_TOLERANCE * max(len(moments), 8) * max(values.max(initial=0.0), 0.0)
    return vectors[:, keep] / np.sqrt(values[keep]) / unit[:, np.newaxis], vectors[:, ~keep]


@functools.lru_cache(16)
def _helmert_matrix(n_classes: int) -> Array:
    """Return Helmert's orthonormal basis Q of what sums to 0, of shape (C, C - 1).

    Column k is (1, ..., 1, -k, 0, ..., 0) / sqrt(k (k + 1)), k ones.
    """
    k = np.arange(1, n_classes)
    basis = (np.triu(np.ones((n_classes, n_classes - 1))) - np.diag(k.astype(np.float64), -1)[:, :-1]) \
        / np.sqrt(k * (k + 1.0))
    basis.flags.writeable = False
    return basis


# up to this many classes Q is multiplied as a matrix: 2 us, where the two running sums take 15 us of calls
_FEW_CLASSES = 64


def _helmert(rows: Array) -> Array:
    """Return Q rows: (C - 1, ...) -> (C, ...), columns summing to 0."""
    n_classes = len(rows) + 1
    if n_classes <= _FEW_CLASSES:
        return _helmert_matrix(n_classes) @ rows
    k = np.arange(1, n_classes)[:, np.newaxis]
    scaled = rows / np.sqrt(k * (k + 1.0))
    out = np.zeros((n_classes, rows.shape[1]))
    out[:-1] = np.cumsum(scaled[::-1], axis=0)[::-1]
    out[1:] -= k * scaled
    return out


def _helmert_adjoint(rows: Array) -> Array:
    """Return Q' rows: (C, ...) -> (C - 1, ...)."""
    if len(rows) <= _FEW_CLASSES:
        return _helmert_matrix(len(rows)).T @ rows
    k = np.arange(1, len(rows))[:, np.newaxis]
    return (np.cumsum(rows[:-1], axis=0) - k * rows[1:]) / np.sqrt(k * (k + 1.0))
