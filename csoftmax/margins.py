"""Average probabilities and how they change with a variable: predicted margins and marginal effects.

`result` stands on it. It stands on `covariates`, which gives rows with variables set, and on `estimates`.

With weights m_j (of total 1 here), S_il = p_i (1{i = l} - p_l) the Jacobian of softmax, and x~_j the row with what is
set:

    predicted margin       P_i = sum_j m_j p_ji                  dP_i/dw~_l = sum_j m_j S_jil x~_j
    slope of a variable v  D_i = sum_j m_j dp_ji/dv              b_jk = w~_k' dx~_j/dv,  c_j = sum_k p_jk b_jk
                               = sum_j m_j p_ji (b_ji - c_j)
                           dD_i/dw~_l = sum_j m_j (B_jil x~_j + S_jil dx~_j/dv)
                           B_il = sum_k b_k dS_il/da_k = p_i 1{i = l} (b_i - c) - p_i p_l (b_i + b_l - 2 c)

S and B are symmetric in i and l, and their rows sum to 0: so sums over rows of the C (C - 1) / 2 pairs i < l are all
that is needed, each of p numbers, and no row keeps anything. With theta's covariance Sigma and the Jacobian J of all
that is asked for, J Sigma J' is the covariance of the answers (the delta method). J's rows sum to 0 over l, so that
Sigma may be that of any reference.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from csoftmax._threads import map_blocks, row_blocks
from csoftmax.covariates import Covariates, Setting
from csoftmax.estimates import EstimateTable, table_of
from csoftmax.inference import Unseen
from csoftmax.samples import Array, DenseSamples, assemble_pairs, pair_indices


@dataclass(frozen=True)
class Term:
    """One average: a value for each class and, for the pairs i < l, the blocks of its Jacobian by w~."""

    value: Array  # (n_classes,)
    pairs: Array  # (n_pairs, p)

    def __sub__(self, other: Term) -> Term:
        return Term(self.value - other.value, self.pairs - other.pairs)


@dataclass(frozen=True)
class Averages:
    """Averages over rows of the probabilities of a model, at the covariates as they are or with some of them set.

    Parameters
    ----------
    rows : Covariates
    params : ndarray of shape (n_classes, p)
        With any class as reference.
    fit_intercept : bool
    mass : ndarray of shape (n_rows,) or None
        The weight of each row.
    offset : ndarray of shape (n_rows, n_classes) or None
    n_threads : int or None
    """

    rows: Covariates
    params: Array
    fit_intercept: bool
    mass: Array | None
    offset: Any
    n_threads: int | None

    def probability(self, setting: Setting) -> Term:
        """Return the predicted margin."""
        return self.probability_and_slopes(setting, [])[0]

    def probability_and_slopes(self, setting: Setting, variables: Sequence[str]) -> tuple[Term, list[Term]]:
        """Return the predicted margin, and the average slope of each of the variables."""
        n_classes, p = self.params.shape
        d = p - self.fit_intercept
        rows, mass, n_rows = self.rows, self.mass, self.rows.n_rows
        if self.offset is None and set(rows.variables) <= set(setting):
            n_rows, mass = 1, None  # all rows are the same
        first, second = pair_indices(n_classes)
        n_pairs, n_slopes = len(first), len(variables)

        def block(start: int, stop: int) -> tuple[Array, Array]:
            X = rows.matrix(start, stop, setting)
            offset = None if self.offset is None else self.offset[start:stop]
            samples = DenseSamples(X, n_classes, offset=offset, fit_intercept=self.fit_intercept)
            probabilities = samples.row_results("probability", self.params, np.empty((stop - start, n_classes)))
            values, pairs = np.empty((1 + n_slopes, n_classes)), np.zeros((1 + n_slopes, n_pairs, p))
            P = np.ascontiguousarray(probabilities.T)                                        # (C, rows)
            mP = P if mass is None else P * mass[start:stop]
            S = mP[first]                                                                    # (pairs, rows)
            S *= P[second]
            np.negative(S, out=S)
            values[0], total = mP.sum(axis=1), S.sum(axis=1)
            pairs[0] = _design_sums(S, X, p)
            slopes = [rows.slope(start, stop, setting, name) for name in variables]
            units = [s for s, slope in enumerate(slopes) if isinstance(slope, int)]
            if units:
                column = [slope for slope in slopes if isinstance(slope, int)]
                b = self.params[:, column].T                                                 # (units, C)
                # B is linear in b: of more slopes than classes it is that of each class, combined
                directions = b if len(units) <= n_classes else np.eye(n_classes)
                sums = np.array([_design_sums(_contracted(S, direction, direction @ P), X, p)
                                 for direction in directions])
                if len(units) > n_classes:
                    sums = np.tensordot(b, sums, axes=1)
                between = assemble_pairs(total, n_classes)
                for s, moved, of_class, i in zip(units, sums, b, column, strict=True):
                    values[1 + s] = between @ of_class
                    moved[:, i] += total
                    pairs[1 + s] = moved
            for s, slope in enumerate(slopes):
                if not isinstance(slope, int):
                    b = self.params[:, :d] @ slope.T                                         # (C, rows)
                    c = (P * b).sum(axis=0)
                    values[1 + s] = (mP * (b - c)).sum(axis=1)
                    pairs[1 + s] = _design_sums(_contracted(S, b, c), X, p)
                    pairs[1 + s, :, :d] += _design_sums(S, slope, d)
            return values, pairs

        values, pairs = np.zeros((1 + n_slopes, n_classes)), np.zeros((1 + n_slopes, n_pairs, p))
        blocks = row_blocks(n_rows, p + 2 * n_classes + 2 * n_pairs)
        for part in map_blocks(block, blocks, self.n_threads if rows.parallel else 1, pairs.nbytes):
            values += part[0]
            pairs += part[1]
        total = float(n_rows if mass is None else mass.sum())
        terms = [Term(value / total, pair / total) for value, pair in zip(values, pairs, strict=True)]
        return terms[0], terms[1:]


def _contracted(S: Array, b: Array, c: Array) -> Array:
    """Return B of the pairs i < l from S = -m p_i p_l of them; b of shape (n_classes,) or (n_classes, n_rows)."""
    first, second = pair_indices(len(b))
    B = (b[first] + b[second]).reshape(len(S), -1) - 2.0 * c
    B *= S
    return B


def _design_sums(columns: Array, X: Array, p: int) -> Array:
    """Return sum_j c_qj x~_j for each row q of columns, of shape (q, p)."""
    d = X.shape[1]
    sums = np.zeros((len(columns), p))
    # in pieces that a BLAS does not take to threads of its own (OpenBLAS: of 2^18 products), as many of ours wait
    size = max(64, (1 << 18) // max(1, len(columns) * d))
    for start in range(0, len(X), size):
        sums[:, :d] += columns[:, start:start + size] @ X[start:start + size]
    if p > d:
        sums[:, d] = columns.sum(axis=1)
    return sums


def predicted_margins(averages: Averages, covariance: Array, unseen: Unseen | None, classes: list[Any],
                      at: Any) -> EstimateTable:
    """Return the average probability of each class at each setting of `at`.

    Parameters
    ----------
    averages : Averages
    covariance : ndarray of shape (n_classes, p, n_classes, p)
        Of any rows.
    unseen : Unseen or None
        What touches it has no standard error.
    classes : list
    at : "average", "mean" or mapping
        See `SoftmaxResult.predicted_margins`.
    """
    settings = _settings(averages, at)
    terms = [averages.probability(setting) for setting, _ in settings]
    title = "Predicted margins at the means" if at == "mean" else "Predicted margins"
    return _table(title, "probability", classes, [name or "all rows" for _, name in settings], terms, covariance,
                  unseen)


def marginal_effects(averages: Averages, covariance: Array, unseen: Unseen | None, classes: list[Any], features: Any,
                     at: Any, discrete: Iterable[str] | None) -> EstimateTable:
    """Return the average effects of variables on the probability of each class; see `SoftmaxResult.margins`."""
    rows, mass = averages.rows, averages.mass
    names = rows.variables if features is None else [features] if np.ndim(features) == 0 else list(features)
    _check_names("features", names, rows.variables)
    chosen = None if discrete is None else [discrete] if isinstance(discrete, str) else list(discrete)
    if chosen is not None:
        _check_names("discrete", chosen, rows.variables)
    levels = {name: _levels(rows, name, mass, chosen) for name in names}
    terms: list[Term] = []
    labels: list[str] = []
    for setting, label in _settings(averages, at):
        probability = functools.cache(lambda name, level, setting=setting: averages.probability(
            {**setting, name: level}))
        numbers = [name for name in names if levels[name] is None]
        slopes = dict(zip(numbers, averages.probability_and_slopes(setting, numbers)[1], strict=True)) \
            if numbers else {}
        for name in names:
            steps = levels[name]
            if steps is None:
                terms.append(slopes[name])
                labels.append(f"{name} [{label}]" if label else name)
                continue
            for level in steps[1:]:
                terms.append(probability(name, level) - probability(name, steps[0]))
                change = f"{name}: {_text(level)} vs {_text(steps[0])}"
                labels.append(f"{change} [{label}]" if label else change)
    title = "Marginal effects at the means" if at == "mean" else "Average marginal effects"
    return _table(title, "dP" if any(levels.values()) else "dP/dx", classes, labels, terms, covariance, unseen)


def _table(title: str, quantity: str, classes: list[Any], names: list[str], terms: list[Term],
           covariance: Array, unseen: Unseen | None) -> EstimateTable:
    n_classes, p = covariance.shape[:2]
    estimate = np.array([term.value for term in terms]).reshape(-1, n_classes).T
    jacobian = np.empty((n_classes, len(terms), n_classes, p))  # J[i, t, l] = d(term t)_i / dw~_l
    for t, term in enumerate(terms):
        jacobian[:, t] = assemble_pairs(term.pairs, n_classes)
    flat = jacobian.reshape(n_classes * len(terms), n_classes * p)
    product = flat @ covariance.reshape(n_classes * p, -1) @ flat.T
    if unseen is not None:
        unknown = unseen.touched_by(np.moveaxis(jacobian, 1, 0).reshape(len(terms), n_classes * n_classes, p))
        unknown = np.tile(unknown, n_classes)
        product[unknown], product[:, unknown] = np.nan, np.nan
    return table_of(title, quantity, classes, names, estimate, 0.5 * (product + product.T))


def _levels(rows: Covariates, name: str, mass: Array | None, discrete: list[str] | None) -> list[Any] | None:
    if discrete is None or not rows.is_number(name):
        return rows.levels(name, mass)
    return [0, 1] if name in discrete else None


def _settings(averages: Averages, at: Any) -> list[tuple[Setting, str]]:
    """Return what is set, and how it is called, for each combination of values."""
    rows = averages.rows
    if isinstance(at, str):
        if at not in ("average", "mean"):
            raise ValueError(f"at is {at!r}; 'average', 'mean' or a mapping of variables to values is wanted")
        if at == "average":
            return [({}, "")]
        return [({name: rows.mean(name, averages.mass) for name in rows.variables if rows.is_number(name)}, "")]
    if not isinstance(at, Mapping):
        raise TypeError(f"at is {type(at).__name__}; 'average', 'mean' or a mapping of variables to values is wanted")
    _check_names("at", list(at), rows.variables)
    grid = [[values] if isinstance(values, str) or np.ndim(values) == 0 else list(values) for values in at.values()]
    for name, values in zip(at, grid, strict=True):
        if not values:
            raise ValueError(f"at has no value for {name!r}")
        for value in values:
            if isinstance(value, (float, np.floating)) and not np.isfinite(value):
                raise ValueError(f"at has {value} for {name!r}; a finite number is wanted")
            if isinstance(value, str) and rows.is_number(name):
                raise ValueError(f"at has {value!r} for {name!r}; a number is wanted")
    return [(dict(zip(at, values, strict=True)),
             ", ".join(f"{name}={_text(value)}" for name, value in zip(at, values, strict=True)))
            for values in itertools.product(*grid)]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (float, np.floating)) else str(value)


def _check_names(argument: str, names: list[Any], known: list[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{argument} has {name!r}; the model's variables are {', '.join(map(repr, known))}")
