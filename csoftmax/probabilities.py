"""Predicted probabilities: how well they are known, what they predict, labels drawn from them.

`result` stands on it. It stands on `covariates` and `leverage`.

The log odds of class i are t_i = log p_i - log(1 - p_i) = a_i - log sum_{k != i} exp(a_k), and with q_k = p_k / (1 -
p_i), the probabilities of the others given that it is not i,

    dt_i = da_i - sum_k q_k da_k  (k != i),     Var(t_i) = sum_k q_k d_ik - sum_{k < l} q_k q_l d_kl

by the delta method, d_kl the variance of the row's a_k - a_l (`leverage`): no difference is lost where p_i is near 0
or 1. Since dp_i = p_i (1 - p_i) dt_i, the standard error of p_i is p_i (1 - p_i) times that of t_i.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from csoftmax._threads import map_blocks, row_blocks
from csoftmax.covariates import Covariates
from csoftmax.estimates import normal_quantile
from csoftmax.inference import Unseen
from csoftmax.leverage import contrast_variances
from csoftmax.samples import Array, DenseSamples, pair_indices
from csoftmax.tables import format_number, import_pandas

if TYPE_CHECKING:
    import pandas as pd

SCALES = ("logit", "probability")


@dataclass(frozen=True, repr=False)
class ProbabilityIntervals:
    """Predicted probabilities with standard errors and intervals by the delta method; `print` shows the first rows.

    Two arrays are kept, the log odds and their standard errors; the others are computed from them when asked for.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
    log_odds, log_odds_std_error : ndarray of shape (n_samples, n_classes)
        log(p / (1 - p)), of each class against all others.
    level : float
    scale : {"logit", "probability"}
        On which the intervals are symmetric.
    notes : list of str
        What the standard errors are, or why there are none.
    """

    classes: NDArray[Any]
    log_odds: Array
    log_odds_std_error: Array
    level: float
    scale: str
    notes: list[str] = field(default_factory=list)

    @property
    def estimate(self) -> Array:
        """Probabilities, of shape (n_samples, n_classes)."""
        return self._by_rows(lambda t, error: expit(t))

    @property
    def std_error(self) -> Array:
        """Standard errors of the probabilities, of shape (n_samples, n_classes)."""
        return self._by_rows(lambda t, error: expit(t) * expit(-t) * error)

    @property
    def lower(self) -> Array:
        """Lower ends of the intervals, of shape (n_samples, n_classes)."""
        return self._end(-normal_quantile(self.level))

    @property
    def upper(self) -> Array:
        """Upper ends of the intervals, of shape (n_samples, n_classes)."""
        return self._end(normal_quantile(self.level))

    def _end(self, z: float) -> Array:
        if self.scale == "probability":
            return self._by_rows(lambda t, error: expit(t) + z * (expit(t) * expit(-t) * error))
        return self._by_rows(lambda t, error: expit(t + z * error))

    def _by_rows(self, function: Callable[[Array, Array], Array]) -> Array:
        out = np.empty(self.log_odds.shape)
        for start, stop in row_blocks(*self.log_odds.shape):
            out[start:stop] = function(self.log_odds[start:stop], self.log_odds_std_error[start:stop])
        return out

    def to_frame(self) -> pd.DataFrame:
        """Return a data frame with a row for each sample and class.

        Columns: row (from 0), class, estimate, std_error, lower, upper.

        Raises
        ------
        ImportError
            Without pandas: pip install "csoftmax[formula]".
        """
        n, n_classes = self.log_odds.shape
        return import_pandas().DataFrame({
            "row": np.repeat(np.arange(n), n_classes), "class": np.tile(self.classes, n),
            **{name: getattr(self, name).ravel() for name in ("estimate", "std_error", "lower", "upper")}})

    def __repr__(self) -> str:
        return (f"<ProbabilityIntervals: {len(self.log_odds)} samples, {len(self.classes)} classes, level "
                f"{self.level:g} on the {self.scale} scale>")

    def __str__(self) -> str:
        n, n_classes = self.log_odds.shape
        shown = min(n, max(1, 20 // n_classes))
        first = replace(self, log_odds=self.log_odds[:shown], log_odds_std_error=self.log_odds_std_error[:shown])
        labels = [str(label) for label in self.classes.tolist()]
        width = max([5, *map(len, labels)])
        lines = [repr(self), f"{'row':>7}  {'class':<{width}}" + "".join(
            f"{name:>13}" for name in ("probability", "std err", "lower", "upper"))]
        columns = [first.estimate, first.std_error, first.lower, first.upper]
        lines += [f"{row:>7}  {label:<{width}}" + "".join(f"{format_number(column[row, k]):>13}" for column in columns)
                  for row in range(shown) for k, label in enumerate(labels)]
        return "\n".join([*lines, *([f"... and {n - shown} more rows: to_frame() has all"] if shown < n else []),
                          *self.notes])


def probability_intervals(rows: Covariates, params: Array, covariance: Array, unseen: Unseen | None,
                          classes: NDArray[Any], *, fit_intercept: bool, offset: Any, level: float, scale: str,
                          n_threads: int | None) -> ProbabilityIntervals:
    """Return the probabilities of each row and their intervals; see `SoftmaxResult.predict_proba_interval`.

    Parameters
    ----------
    rows : Covariates
    params : ndarray of shape (n_classes, p)
        With any class as reference.
    covariance : ndarray of shape (n_classes, p, n_classes, p)
        Likewise.
    unseen : Unseen or None
        Rows that touch it have no standard error.
    """
    normal_quantile(level)
    if scale not in SCALES:
        raise ValueError(f"scale is {scale!r}; 'logit' or 'probability' is wanted")
    n, (n_classes, p) = rows.n_rows, params.shape
    factors = _contrast_factors(covariance) if p and np.isfinite(covariance).all() else None
    log_odds, errors = np.empty((n, n_classes)), np.full((n, n_classes), np.nan if p else 0.0)

    def block(start: int, stop: int) -> None:
        samples = _samples(rows, start, stop, params, fit_intercept, offset)
        logs = samples.row_results("log_probability", params, np.empty((stop - start, n_classes))).T.copy()
        row, top = np.arange(stop - start), logs.argmax(axis=0)
        others = logs.copy()
        others[top, row] = -np.inf
        rest = others.max(axis=0)
        rest += np.log(np.exp(others - rest).sum(axis=0))  # log(1 - p), p the largest
        P, Q = np.exp(logs), np.exp(others - rest)
        with np.errstate(divide="ignore"):  # of the largest where it is 1
            complement = np.log1p(-P)
        complement[top, row] = rest
        np.subtract(logs.T, complement.T, out=log_odds[start:stop])
        if factors is None:
            return
        # for all but the largest class 1 - p >= 1/2, and a_i - sum_k p_k a_k = (1 - p_i) (a_i - sum_k q_k a_k)
        (from_p, within_p), (from_q, within_q) = _spreads(samples, factors, (P, Q))
        with np.errstate(divide="ignore", invalid="ignore"):  # of the largest, whose own follows
            variances = (from_p - within_p) / np.exp(2.0 * complement)
        variances[top, row] = from_q[top, row] - within_q
        np.sqrt(np.maximum(variances, 0.0).T, out=errors[start:stop])
        if unseen is not None:
            X = np.column_stack([samples.X, np.ones((stop - start, int(fit_intercept)))])
            errors[start:stop][unseen.touched_by(X[:, np.newaxis])] = np.nan

    for _ in map_blocks(block, row_blocks(n, p + 8 * n_classes), n_threads if rows.parallel else 1):
        pass
    return ProbabilityIntervals(classes, log_odds, errors, level, scale)


def _spreads(samples: DenseSamples, factors: Array, shares: Sequence[Array]) -> list[tuple[Array, Array]]:
    """Return sum_k s_k d_ik, of shape (n_classes, n_samples), and sum_{k < l} s_k s_l d_kl for each of the shares s.

    Their difference is the variance of a_i - sum_k s_k a_k, d_kl being that of a_k - a_l and the sum of s being 1.
    """
    spreads = [(np.zeros(s.shape), np.zeros(s.shape[1])) for s in shares]
    for i, k, variances in contrast_variances(samples, factors):
        for s, (from_class, within) in zip(shares, spreads, strict=True):
            by_k = s[k] * variances
            from_class[i] += by_k
            from_class[k] += s[i] * variances
            by_k *= s[i]
            within += by_k
    return spreads


def _contrast_factors(covariance: Array) -> Array:
    """Return F of shape (n_pairs, p, p): |F_il x~|^2 is the variance of a_i(x~) - a_l(x~).

    By eigenvalues of the correlation matrix, which may be singular; `MetricCoordinates.contrast_factors` needs the
    data of the fit.
    """
    n_classes, p = covariance.shape[:2]
    factors = np.empty((n_classes * (n_classes - 1) // 2, p, p))
    for factor, i, k in zip(factors, *pair_indices(n_classes), strict=True):
        variances = covariance[i, :, i] + covariance[k, :, k] - covariance[i, :, k] - covariance[k, :, i]
        unit = np.sqrt(np.maximum(variances.diagonal(), 0.0))
        unit = np.where(unit > 0, unit, 1.0)
        values, vectors = np.linalg.eigh(variances / unit[:, np.newaxis] / unit)
        factor[...] = (vectors * np.sqrt(np.maximum(values, 0.0))).T * unit
    return factors


@dataclass(frozen=True, repr=False)
class PredictionTable:
    """Observed classes by predicted ones. Its str() is a table.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
    table : ndarray of shape (n_classes, n_classes)
        table[i, k] is the total weight of the samples of class i of which class k is the most probable.
    """

    classes: NDArray[Any]
    table: Array

    @property
    def accuracy(self) -> float:
        """The share of the samples whose class was the most probable."""
        return float(np.trace(self.table) / self.table.sum())

    def to_frame(self) -> pd.DataFrame:
        """Return a data frame, observed classes in rows and predicted ones in columns."""
        pandas = import_pandas()
        return pandas.DataFrame(self.table, index=pandas.Index(self.classes, name="observed"),
                                columns=pandas.Index(self.classes, name="predicted"))

    def __str__(self) -> str:
        labels = [str(label) for label in self.classes.tolist()]
        cells = [[f"{value:.10g}" for value in row] for row in self.table]
        first = max(len("observed"), *map(len, labels))
        width = max(len(text) for text in [*labels, *(text for row in cells for text in row)]) + 2
        lines = [" " * first + "  predicted",
                 f"{'observed':<{first}}" + "".join(f"{label:>{width}}" for label in labels)]
        lines += [f"{label:<{first}}" + "".join(f"{text:>{width}}" for text in row)
                  for label, row in zip(labels, cells, strict=True)]
        return "\n".join([*lines, f"{100 * self.accuracy:.1f} % predicted as observed"])

    __repr__ = __str__


def prediction_table(rows: Covariates, params: Array, classes: NDArray[Any], *, fit_intercept: bool,
                     codes: NDArray[Any] | None, counts: NDArray[Any] | None, weights: Array | None, offset: Any,
                     n_threads: int | None) -> PredictionTable:
    """Return the table of observed and predicted classes; see `SoftmaxResult.pred_table`."""
    n_classes = len(params)

    def block(start: int, stop: int) -> Array:
        samples = _samples(rows, start, stop, params, fit_intercept, offset)
        best = samples.row_results("log_probability", params, np.empty((stop - start, n_classes))).argmax(axis=1)
        weight = np.ones(stop - start) if weights is None else weights[start:stop]
        if counts is None:
            assert codes is not None
            cells = n_classes * codes[start:stop].astype(np.intp) + best
            of_cell = np.asarray(np.bincount(cells, weight, n_classes * n_classes), dtype=np.float64)
            return of_cell.reshape(n_classes, n_classes)
        of_class = np.zeros((stop - start, n_classes))
        of_class[np.arange(stop - start), best] = weight
        return np.asarray(counts[start:stop], dtype=np.float64).T @ of_class

    table = np.zeros((n_classes, n_classes))
    for part in map_blocks(block, row_blocks(rows.n_rows, params.shape[1] + n_classes),
                           n_threads if rows.parallel else 1):
        table += part
    return PredictionTable(classes, table)


def simulate(rows: Covariates, params: Array, classes: NDArray[Any], *, fit_intercept: bool, offset: Any,
             totals: Any, size: int | None, rng: Any) -> NDArray[Any]:
    """Return labels, or counts where `totals` are given, drawn from the probabilities; see `SoftmaxResult.simulate`.

    The numbers of a replication are drawn in the order of the rows, so the size of a block changes nothing.
    """
    generator = np.random.default_rng(rng)
    n, n_classes = rows.n_rows, len(params)
    if totals is not None:
        totals = _whole_totals(totals, n)
    drawn: NDArray[Any] = np.empty((size or 1, n), dtype=classes.dtype) if totals is None \
        else np.empty((size or 1, n, n_classes), dtype=np.int64)
    if size == 0:
        drawn = drawn[:0]
    for part in drawn:
        for start, stop in row_blocks(n, params.shape[1] + 2 * n_classes):
            samples = _samples(rows, start, stop, params, fit_intercept, offset)
            P = samples.row_results("probability", params, np.empty((stop - start, n_classes)))
            if totals is not None:
                part[start:stop] = generator.multinomial(totals[start:stop], P)
                continue
            # the first class at which the cumulative probability exceeds u: the last one for the rest, by rounding
            codes = (np.cumsum(P[:, :-1], axis=1) <= generator.random(stop - start)[:, np.newaxis]).sum(axis=1)
            part[start:stop] = classes[codes]
    return drawn[0] if size is None else drawn


def _samples(rows: Covariates, start: int, stop: int, params: Array, fit_intercept: bool, offset: Any) -> DenseSamples:
    return DenseSamples(rows.matrix(start, stop, {}), len(params), fit_intercept=fit_intercept,
                        offset=None if offset is None else offset[start:stop])


def _whole_totals(totals: Any, n: int) -> NDArray[np.int64]:
    values = np.asarray(totals)
    if values.shape != (n,) or values.dtype.kind not in "fiub":
        raise ValueError(f"totals has shape {values.shape} and dtype {values.dtype}; ({n},) of whole numbers is wanted")
    whole = values.astype(np.int64)
    if (whole != values).any() or (whole < 0).any():
        row = int(np.argmax((whole != values) | (whole < 0)))
        raise ValueError(f"totals has {values[row]} at row {row}; whole numbers of 0 or more are wanted")
    return whole
