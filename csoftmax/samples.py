"""Samples in memory, and what is summed over them: the seam between the data and everything above.

`likelihood`, `objective` and `encoding` stand on it. It stands on the kernels, `_entries` and row blocks.
Another kind of data (sparse, on disk, on a cluster) answers the same verbs, and nothing above changes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from csoftmax import _entries
from csoftmax._dispatch import kernels, load_single
from csoftmax._threads import default_n_threads, map_blocks, row_blocks

if TYPE_CHECKING:
    from csoftmax._kernels_baseline import WholeLoss

Array = NDArray[np.float64]
RowVerb = Literal["log_likelihood", "residual", "probability", "log_probability", "logit_range", "logit_squares",
                  "logit"]

# the kernels' numbers for what row_results can write
_ROW_VERBS = {"log_likelihood": 0, "residual": 1, "probability": 2, "log_probability": 3, "logit_range": 4,
              "logit_squares": 5, "logit": 6}
_FLOAT64, _FLOAT32 = kernels.KINDS["d"], kernels.KINDS["f"]


class DenseSamples:
    """Rows of X with their labels or counts, weights and offset.

    Nothing is checked or copied here: `csoftmax.encoding` does that for `fit`, and the equation functions trust
    shapes that they have checked. Parameters everywhere are `params` of shape (n_classes, p): rows [w_k, b_k],
    with p = n_features + 1, or n_features without an intercept.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Real, of any dtype, order and strides. float64 rows are read in place, others converted a block at a time.
    n_classes : int
    codes : ndarray of shape (n_samples,), integer, or None
        Labels as 0..n_classes-1. A code outside makes every sum nan (int32, int64) or raises (other integers).
    counts : ndarray of shape (n_samples, n_classes) or None
        Counts or soft labels instead of codes.
    weights : ndarray of shape (n_samples,) or None
    offset : ndarray of shape (n_samples, n_classes) or None
    fit_intercept : bool
    n_threads : int or None
    single : bool
        Let the sums over samples (log-likelihood, gradient, Hessian product) be computed in float32 within a block of
        at most 512 rows, and in float64 over blocks, where X is float32.
    """

    def __init__(self, X: NDArray[Any], n_classes: int, *, codes: NDArray[Any] | None = None,
                 counts: NDArray[Any] | None = None, weights: NDArray[Any] | None = None,
                 offset: NDArray[Any] | None = None, fit_intercept: bool = True, n_threads: int | None = 1,
                 single: bool = False) -> None:
        self.X = X
        self.single = single and _is_float32(X)
        self.n_classes = n_classes
        self.codes = codes
        self.counts = counts
        self.weights = weights
        self.offset = offset
        self.fit_intercept = fit_intercept
        self.n_threads = n_threads
        self.shift: Array | None = None
        self.scale: Array | None = None
        self._mass: Array | None = None
        self._class_totals: Array | None = None
        self._one_block: Any = None  # the kernel and its arguments, where one block is all

    @property
    def X(self) -> NDArray[Any]:
        """The rows, of shape (n_samples, n_features)."""
        return self._X

    @X.setter
    def X(self, X: NDArray[Any]) -> None:
        self._X = X
        self.n_samples, self.n_features = X.shape
        self._source, self._kind = kernel_view(X)

    @property
    def params_shape(self) -> tuple[int, int]:
        """The shape of `params`: (n_classes, p)."""
        return self.n_classes, self.n_features + self.fit_intercept

    # ------------------------------------------------------------------------------------------ loading blocks

    def blocks(self, row_elements: int | None = None) -> list[tuple[int, int]]:
        """Return the blocks (start, stop) of rows whose sums are taken apart; of so many numbers a row."""
        return row_blocks(self.n_samples, row_elements or self.n_features + self.n_classes)

    def _rows(self, start: int, stop: int) -> tuple[NDArray[Any], int, Array | None, Array | None]:
        """X's block as the kernel takes it, with the shift and scale."""
        return *self._plain_rows(start, stop), self.shift, self.scale

    def _plain_rows(self, start: int, stop: int) -> tuple[NDArray[Any], int]:
        if self._kind is None:
            dtype, kind = (np.float32, _FLOAT32) if _is_float32(self.X) else (np.float64, _FLOAT64)
            return np.require(self.X[start:stop], dtype, ["C", "A"]), kind
        return self._source if stop - start == self.n_samples else self._source[start:stop], self._kind

    def _sums(self) -> Any:
        """The kernels that take the sums over samples."""
        return load_single() if self.single else kernels

    def _labels(self, start: int, stop: int) -> tuple[NDArray[Any] | None, Array | None]:
        if self.counts is not None:
            return None, _float64_rows(self.counts, start, stop)
        if self.codes is None:
            return None, None
        codes = self.codes if stop - start == self.n_samples else self.codes[start:stop]
        dtype = codes.dtype
        if dtype.kind == "i" and dtype.itemsize >= 4 and dtype.isnative:  # 0.6 us less than `dtype in (int64, int32)`
            flags = codes.flags
            return (codes if flags.c_contiguous and flags.aligned else codes.copy()), None
        check_codes(codes, self.n_classes, start)
        return np.ascontiguousarray(codes, dtype=np.int32), None

    def _extras(self, start: int, stop: int) -> tuple[Array | None, Array | None]:
        weights = None if self.weights is None else _float64_rows(self.weights, start, stop)
        offset = None if self.offset is None else _float64_rows(self.offset, start, stop)
        return weights, offset

    # -------------------------------------------------------------------------------------------------- verbs

    def log_likelihood(self, params: Array) -> float:
        """Return the log-likelihood, summed over the samples."""
        sums = self._sums()

        def block(start: int, stop: int) -> float:
            return sums.log_likelihood_and_gradient(
                *self._rows(start, stop), params, self.fit_intercept, *self._labels(start, stop),
                *self._extras(start, stop), None)

        total = 0.0  # not sum(): from Python 3.12 on it compensates, and would differ from the loop below
        for value in map_blocks(block, self.blocks(), self.n_threads):
            total += value
        return total

    def log_likelihood_and_gradient(self, params: Array) -> tuple[float, Array]:
        """Return the log-likelihood and its gradient, of the shape of `params`, in one pass over X."""
        if self._one_block is not None:  # small problems are called often: 5 us less
            kernel, rows, rest = self._one_block
            part = np.empty(self.params_shape)
            return kernel(*rows, params, self.fit_intercept, *rest, part), part
        sums = self._sums()
        blocks = self.blocks()
        if len(blocks) == 1:
            self._one_block = (sums.log_likelihood_and_gradient, self._rows(*blocks[0]),
                               (*self._labels(*blocks[0]), *self._extras(*blocks[0])))
            return self.log_likelihood_and_gradient(params)

        def block(start: int, stop: int) -> tuple[float, Array]:
            part = np.empty(self.params_shape)
            value = sums.log_likelihood_and_gradient(
                *self._rows(start, stop), params, self.fit_intercept, *self._labels(start, stop),
                *self._extras(start, stop), part)
            return value, part

        total, gradient = 0.0, np.zeros(self.params_shape)
        for value, part in map_blocks(block, blocks, self.n_threads, gradient.nbytes):
            total += value
            gradient += part
        return total, gradient

    def hessian_product(self, params: Array, direction: Array) -> Array:
        """Return the product of the log-likelihood's Hessian with `direction`, in one pass over X."""
        sums = self._sums()

        def block(start: int, stop: int) -> Array:
            part = np.empty(self.params_shape)
            weights, offset = self._extras(start, stop)
            sums.hessian_product(*self._rows(start, stop), params, direction, self.fit_intercept,
                                 self._labels(start, stop)[1], weights, offset, part)
            return part

        product = np.zeros(self.params_shape)
        for part in map_blocks(block, self.blocks(), self.n_threads, product.nbytes):
            product += part
        return product

    def hessian(self, params: Array) -> Array:
        """Return the log-likelihood's Hessian, of shape (n_classes, p, n_classes, p)."""
        with np.errstate(over="ignore", invalid="ignore"):  # products of columns of 1e154 and beyond are infinite
            blocks = assemble_pairs(self.hessian_pairs(params), self.n_classes)
        return np.ascontiguousarray(blocks.transpose(0, 2, 1, 3))

    def hessian_pairs(self, params: Array) -> Array:
        """Return the Hessian's blocks of the pairs i < k, row by row, of shape (C (C - 1) / 2, p, p)."""
        return self._matrices(kernels.hessian_blocks, self.n_classes * (self.n_classes - 1) // 2, params)

    def hessian_diagonal(self, params: Array) -> Array:
        """Return minus the Hessian's blocks on the diagonal, of shape (n_classes, p, p); X is standardised."""
        return self._matrices(kernels.hessian_diagonal, self.n_classes, params)

    def _matrices(self, kernel: Callable[..., None], n_matrices: int, params: Array) -> Array:
        p = self.params_shape[1]

        def block(start: int, stop: int) -> Array:
            part = np.empty((n_matrices, p, p))
            weights, offset = self._extras(start, stop)
            kernel(*self._rows(start, stop), params, self.fit_intercept, self._labels(start, stop)[1], weights, offset,
                   part)
            return part

        blocks = self.blocks()
        if len(blocks) == 1:
            return block(*blocks[0])
        total = np.zeros((n_matrices, p, p))
        for part in map_blocks(block, blocks, self._threads_for(total.nbytes), total.nbytes):
            total += part
        return total

    def gram(self) -> Array:
        """Return sum_j mass_j x~_j x~_j', of shape (p, p); mass is the weight times the row's total count."""
        p = self.params_shape[1]
        mass = self.mass()

        def block(start: int, stop: int) -> Array:
            part = np.empty((p, p))
            kernels.gram(*self._rows(start, stop), self.fit_intercept,
                         None if mass is None else mass[start:stop], part)
            return part

        parts = map_blocks(block, self.blocks(self.n_features), self.n_threads, 8 * p * p)
        gram = next(parts)
        for part in parts:
            gram += part
        return gram

    def score_outer_product(self, scores: Callable[[DenseSamples], Iterable[tuple[Array, Array | None]]]) -> Array:
        """Return sum_j sum_i c_ij s_ij s_ij', s_ij = a_ij x x~_j: over rows of positive mass, and what each one has.

        Parameters
        ----------
        scores : callable
            Given some rows as samples of their own, yields pairs (a, c): a of shape (n_rows, n_classes), its rows
            summing to 0, and c of shape (n_rows,), or None for 1.

        Returns
        -------
        ndarray of shape (n_classes - 1, p, n_classes - 1, p)
            Without the last class, whose part of each s is minus the sum of the others'.
        """
        first, second = np.triu_indices(self.n_classes - 1)
        p = self.params_shape[1]

        def block(start: int, stop: int) -> Array:
            part = self.part(self.rows_of_mass(slice(start, stop)))
            total, outer = np.zeros((len(first), p, p)), np.empty((len(first), p, p))
            for a, c in scores(part):
                kernels.score_blocks(*part._rows(0, part.n_samples), self.fit_intercept,
                                     np.ascontiguousarray(a[:, :-1]), c, outer)
                total += outer
            return total

        total = np.zeros((len(first), p, p))
        blocks = self.blocks(p + self.n_classes ** 2)  # `scores` may have a matrix for each row
        for outer in map_blocks(block, blocks, self._threads_for(total.nbytes), total.nbytes):
            total += outer
        product = np.empty(2 * (self.n_classes - 1, p))
        product[first, :, second] = product[second, :, first] = total
        return product

    def grouped_score_outer_product(self, params: Array, groups: NDArray[np.intp]) -> tuple[Array, int]:
        """Return sum_g s_g s_g', s_g the gradient of group g's log-likelihood, and the number of groups with any mass.

        The rows are taken in the order of their groups, a block at a time, so that no more than a block's gradients are
        ever held.

        Parameters
        ----------
        params : ndarray of shape (n_classes, p)
        groups : ndarray of shape (n_samples,)
            A whole number from 0 for each row, the same within a group.

        Returns
        -------
        ndarray of shape (n_classes - 1, p, n_classes - 1, p)
            As from `score_outer_product`.
        int
        """
        n_classes, p = self.params_shape
        size = (n_classes - 1) * p
        rows = self.rows_of_mass(slice(0, self.n_samples))
        if isinstance(rows, slice):
            rows = np.arange(self.n_samples)
        if (np.diff(groups) < 0).any():
            rows = rows[_stable_order(groups[rows])]

        def block(start: int, stop: int) -> tuple[Array, Array, Array | None]:
            # the groups that other blocks may have rows of too, the first and the last, are handed on
            chosen = rows[start:stop]
            first = np.flatnonzero(np.diff(groups[chosen], prepend=-1))
            part = self.part(chosen)
            a = part.row_results("residual", params, np.empty((part.n_samples, n_classes)))
            scores = np.empty((len(first), n_classes - 1, p))
            kernels.group_scores(*part._rows(0, part.n_samples), self.fit_intercept,
                                 np.ascontiguousarray(a[:, :-1]), first, scores)
            s = scores.reshape(len(first), size)
            return _outer_products(s[1:-1]), s[0], s[-1] if len(first) > 1 else None

        blocks = row_blocks(len(rows), p + n_classes)
        total = np.zeros((size, size))
        open_group, open_score = -1, np.zeros(size)
        results = map_blocks(block, blocks, self._threads_for(total.nbytes), total.nbytes)
        for (start, stop), (inner, head, tail) in zip(blocks, results, strict=True):
            total += inner
            if groups[rows[start]] == open_group:
                head = open_score + head
            else:
                total += np.outer(open_score, open_score)
            open_group, open_score = groups[rows[stop - 1]], head
            if tail is not None:
                total += np.outer(head, head)
                open_score = tail
        total += np.outer(open_score, open_score)
        n_groups = 1 + int(np.count_nonzero(np.diff(groups[rows])))
        return total.reshape(2 * (n_classes - 1, p)), n_groups

    def _threads_for(self, result_bytes: int) -> int:
        """Return as many threads as fit in 256 MB, at least one: scratch and result of each are as large as a sum."""
        return max(1, min(self.n_threads or default_n_threads(), (1 << 28) // (2 * result_bytes + 1)))

    def rows_of_mass(self, rows: slice) -> slice | NDArray[np.intp]:
        """Return the rows of positive mass among some: what is far off in the others is not to be computed."""
        mass = self.mass()
        if mass is None or mass[rows].all():
            return rows
        return rows.start + np.flatnonzero(mass[rows])

    def design(self, dtype: type[np.floating[Any]] = np.float64) -> NDArray[Any]:
        """Return the rows x~ as the kernels see them, of shape (n_samples, p)."""
        design = np.empty((self.n_samples, self.params_shape[1]), dtype)
        x = design[:, :self.n_features]
        design[:, self.n_features:] = 1.0
        x[:] = self.X[:]
        if self.shift is not None and self.scale is not None:
            x -= self.shift
            x *= self.scale
        return design

    def row_results(self, what: RowVerb, params: Array, out: Array) -> Array:
        """Write what each row has at `params` to `out`, of shape (n_samples, 1 or n_classes), and return it."""
        for _ in map_blocks(lambda start, stop: self._row_block(what, params, start, stop, out[start:stop]),
                            self.blocks(), self.n_threads):
            pass
        return out

    def row_maximum(self, what: RowVerb, params: Array) -> float:
        """Return the largest of what the rows of positive mass have at `params`; 0 where there is none."""
        mass = self.mass()

        def block(start: int, stop: int) -> float:
            out = np.empty((stop - start, 1))
            self._row_block(what, params, start, stop, out)
            values = out[:, 0] if mass is None else out[mass[start:stop] > 0, 0]
            return float(values.max(initial=0.0))

        found = list(map_blocks(block, self.blocks(), self.n_threads))
        return found[0] if len(found) == 1 else float(np.max(found))

    def _row_block(self, what: RowVerb, params: Array, start: int, stop: int, out: Array) -> None:
        labels: tuple[Any, Any] = self._labels(start, stop) if what in ("log_likelihood", "residual") else (None, None)
        weights, offset = self._extras(start, stop)
        if what in ("logit_range", "logit_squares"):
            offset = None  # of a direction, not of a parameter
        kernels.row_results(_ROW_VERBS[what], *self._rows(start, stop), params, self.fit_intercept, *labels, weights,
                            offset, out)

    def column_totals(self) -> Array:
        """Return each column's sum weighted by mass, its minimum and its maximum over the rows that have any.

        Three rows of length n_features.
        """
        mass = self.mass()

        def block(start: int, stop: int) -> Array:
            part = np.empty((3, self.n_features))
            kernels.column_totals(*self._plain_rows(start, stop), None if mass is None else mass[start:stop],
                                  part)
            return part

        parts = map_blocks(block, self.blocks(self.n_features), self.n_threads)
        totals = next(parts)
        for part in parts:
            totals[0] += part[0]
            np.minimum(totals[1], part[1], out=totals[1])
            np.maximum(totals[2], part[2], out=totals[2])
        return totals

    def class_totals(self) -> Array:
        """Return the total mass of each class, of shape (n_classes,)."""
        if self._class_totals is not None:
            return self._class_totals
        totals = np.zeros(self.n_classes)
        for start, stop in row_blocks(self.n_samples, self.n_classes):
            weights = None if self.weights is None else _float64_rows(self.weights, start, stop)
            if self.counts is not None:
                rows = _float64_rows(self.counts, start, stop)
                totals += rows.sum(axis=0) if weights is None else weights @ rows
            else:
                assert self.codes is not None
                totals += np.bincount(self.codes[start:stop], weights, self.n_classes)
        self._class_totals = totals
        return totals

    def mass(self) -> Array | None:
        """Return each row's weight times its total count; None where all are 1."""
        if self.counts is None:
            return self.weights
        if self._mass is None:
            mass = np.empty(self.n_samples)
            for start, stop in row_blocks(self.n_samples, self.n_classes):
                mass[start:stop] = _float64_rows(self.counts, start, stop).sum(axis=1)
            if self.weights is not None:
                mass *= self.weights
            self._mass = mass  # whole, or not at all: another thread may be reading
        return self._mass

    def total_mass(self) -> float:
        """Return the sum of the rows' mass."""
        mass = self.mass()
        return float(self.n_samples if mass is None else mass.sum())

    def images(self, T: Array) -> DenseSamples:
        """Return samples whose logits are T' x~, of shape (n_samples, q), T being `params`: x~ in other coordinates."""
        return self.replace(n_classes=len(T), counts=None, codes=None, offset=None, weights=self.mass())

    def whole_loss(self, T: Array, total_mass: float, penalty: Array | None) -> WholeLoss:
        """Return the mean loss of rows T x~, T of shape (q, p), in place of x~; see src/whole.pxi."""
        z = self.images(T).row_results("logit", T, np.empty((self.n_samples, len(T))))
        return kernels.WholeLoss(z, self.n_classes, *self._labels(0, self.n_samples), *self._extras(0, self.n_samples),
                                 self.mass(), total_mass, penalty)

    # ------------------------------------------------------------------------------------------ changes of view

    def replace(self, **changes: Any) -> DenseSamples:
        """Return the same samples with some attributes changed; arrays are shared."""
        other = object.__new__(type(self))  # 1 us, where copy.copy takes 6
        other.__dict__.update(self.__dict__)
        other._mass = other._one_block = other._class_totals = None
        for name, value in changes.items():
            if not hasattr(self, name):
                raise AttributeError(name)
            setattr(other, name, value)
        return other

    def of_features(self, features: NDArray[np.intp]) -> DenseSamples:
        """Return the samples with those columns of X alone, which are copied; themselves where that is all of them."""
        if len(features) == self.n_features:
            return self
        return self.replace(X=self.X[:, features], shift=None if self.shift is None else self.shift[features],
                            scale=None if self.scale is None else self.scale[features])

    def part(self, rows: slice | NDArray[np.intp]) -> DenseSamples:
        """Return those rows as samples of their own, for one thread: a block that is to be asked several things."""
        names = ("X", "codes", "counts", "weights", "offset")
        part = self.replace(n_threads=1, **{name: _taken(values, rows) for name in names
                                            if (values := getattr(self, name)) is not None})
        if part._kind is None:
            part.X = part._plain_rows(0, part.n_samples)[0]  # converted once
        return part

    def standardized(self, totals: Array) -> DenseSamples:
        """Return the same samples seen through (X - shift) * scale, which is in [-1, 1]; X is not copied.

        The kernel applies both while it loads a block. The scale is a power of two, and the shift (0 without an
        intercept) a weighted mean rounded to 1/256 of the column's range: so both are exact for columns of whole
        numbers, and the model is the same model in other units. `totals` are those of `column_totals`.
        """
        both = np.empty((2, self.n_features))
        too_wide = _entries.standardize(totals, self.total_mass(), self.fit_intercept, both)
        if too_wide >= 0:
            raise ValueError(f"X's column {too_wide} spans more than a float64 can hold; change its unit")
        return self.replace(shift=both[0], scale=both[1])

    def seen(self) -> DenseSamples:
        """Return the same samples with a float64 copy of X as the kernels see it: for some rows, to be read often."""
        return self.replace(X=np.ascontiguousarray(self.design()[:, :self.n_features]), shift=None, scale=None)


def _taken(values: Any, rows: slice | NDArray[np.intp]) -> Any:
    # ndarray.take: half the time of [rows] for a million rows of 20 in random order
    if isinstance(values, np.ndarray) and not isinstance(rows, slice):
        return values.take(rows, axis=0)
    return values[rows]


def _stable_order(codes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return np.argsort(codes, kind="stable") of whole numbers from 0: 15 ms a million, where that takes 90.

    Of the matrix with a 1 at (codes[j], j) for each j, stored by columns, SciPy makes the form by rows, by counting.
    """
    n = len(codes)
    by_column = sparse.csc_array((np.ones(n, np.int8), codes, np.arange(n + 1)), shape=(int(codes.max()) + 1, n))
    return by_column.tocsr().indices


def _outer_products(rows: Array, weights: Array | None = None) -> Array:
    """Return sum_j weights_j rows_j rows_j'."""
    out = np.zeros((rows.shape[1], rows.shape[1]))
    if rows.size:
        kernels.gram(rows, _FLOAT64, None, None, False, weights, out)
    return out


class JoinedColumns:
    """Columns beside those of X, as one array of rows that are put together when asked for: a block at a time.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    extra : ndarray of shape (n_samples, n_extra)
        Real, both, of any dtype.
    """

    dtype = np.dtype(np.float64)

    def __init__(self, X: NDArray[Any], extra: NDArray[Any]) -> None:
        self._parts = X, extra
        self.shape = len(X), X.shape[1] + extra.shape[1]

    def __getitem__(self, key: Any) -> Array:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        return np.concatenate([part[rows] for part in self._parts], axis=1, dtype=np.float64)[:, columns]


def assemble_pairs(pairs: Array, n_classes: int) -> Array:
    """Return the blocks (C, C, p, p) of a Hessian whose blocks of the pairs i < k are given."""
    blocks = np.zeros((n_classes, n_classes, *pairs.shape[1:]))
    first, second = pair_indices(n_classes)
    blocks[first, second] = pairs
    blocks[second, first] = pairs
    # H[i, i] = -sum_{k != i} H[i, k]: the rows of softmax's Jacobian sum to 0
    diagonal = np.arange(n_classes)
    blocks[diagonal, diagonal] = -blocks.sum(axis=1)
    return blocks


@functools.lru_cache(64)
def pair_indices(n_classes: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the first and the second class of each pair i < k; 40 us of calls once."""
    return np.triu_indices(n_classes, 1)


def _is_float32(X: NDArray[Any]) -> bool:
    return X.dtype.kind == "f" and X.dtype.itemsize == 4


def kernel_view(X: NDArray[Any]) -> tuple[NDArray[Any], int | None]:
    """Return X as the kernels read it and their number for its elements; None for a dtype that they don't read."""
    if isinstance(X, JoinedColumns):
        return X, None
    dtype = X.dtype
    kind = kernels.KINDS.get(dtype.char) if dtype.isnative and X.flags.aligned else None
    if dtype.kind == "b":
        return X.view(np.uint8), kind
    if dtype == np.float16:
        return X.view(np.uint16), kind
    return X, kind


def _float64_rows(values: NDArray[Any], start: int, stop: int) -> Array:
    return aligned(np.ascontiguousarray(values[start:stop], dtype=np.float64))


def aligned(array: Array) -> Array:
    """Return the array, or a copy where its memory begins inside a number: the kernels take none of those."""
    return array if array.flags.aligned else array.copy()


def check_codes(codes: NDArray[Any], n_classes: int, first_row: int = 0) -> None:
    """Raise ValueError, naming the row, unless all codes are in 0..n_classes-1."""
    if codes.size and (codes.min() < 0 or codes.max() >= n_classes):
        row = int(np.flatnonzero((codes < 0) | (codes >= n_classes))[0])
        raise ValueError(f"y has the code {codes[row]} at row {first_row + row}; codes run from 0 to {n_classes - 1}, "
                         f"one for each row of coef")


def blocks_of(array: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield (first row, rows) for each block of rows of an array."""
    for start, stop in row_blocks(array.shape[0], math.prod(array.shape[1:])):  # np.prod takes 4 us
        yield start, array[start:stop]
