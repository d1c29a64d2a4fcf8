"""Whether the maximum exists: separation of the samples, decided by a linear program.

`fitting` stands on it, after a fit whose certificate fails. It stands on `samples` and scipy.optimize.linprog.

The log-likelihood has no maximum exactly where some direction V, not constant over classes on every row, satisfies

    a_i(x_j; V) >= a_k(x_j; V)    for every row j, each class i that the row has, and every class k

(Albert & Anderson 1984, doi:10.1093/biomet/71.1.1): along it no term falls, and some rise for ever. All strict for
some V: complete separation (the supremum is 0); otherwise quasi-complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from csoftmax.samples import Array, DenseSamples

# Entries of the constraint matrix beyond which the program is not tried, and the seconds after which it is given up:
# at 8% of ten times this limit (2000 x 100 x 5) it took 6 s.
_MAX_ENTRIES = 2_000_000
_TIME_LIMIT = 10.0
# A margin that counts as positive, where X is in [-1, 1] and V too.
_MARGIN = 1e-7


class SeparationWarning(UserWarning):
    """The samples are separated: the log-likelihood has no maximum."""


@dataclass(frozen=True)
class Separation:
    """What the linear program found.

    Attributes
    ----------
    kind : {"none", "quasi", "complete", "undecided"}
    pairs : frozenset of (int, int)
        The pairs of classes, the smaller first, that a direction of few features separates on some row.
    features : tuple of int
        The features it involves (n_features stands for the intercept).
    """

    kind: str
    pairs: frozenset[tuple[int, int]] = frozenset()
    features: tuple[int, ...] = ()

    def describe(self, classes: NDArray[Any], feature_names: list[str]) -> str:
        """Return one sentence that names classes and features."""
        if self.kind == "undecided":
            return "whether the samples are separated was not decided (too large a linear program)"
        if self.kind == "none":
            return "the samples are not separated"
        labels = [repr(label) for label in classes.tolist()]
        common = set.intersection(*map(set, self.pairs)) if len(self.pairs) > 1 else set()
        involved = sorted({k for pair in self.pairs for k in pair})
        if common:
            one = common.pop()
            between = (f"between the class {labels[one]} and the classes "
                       f"{', '.join(labels[k] for k in involved if k != one)}")
        else:
            between = f"between the classes {', '.join(labels[k] for k in involved)}"
        along = ", ".join(feature_names[i] for i in self.features if i < len(feature_names)) or "the intercept alone"
        word = {"complete": "completely separated", "quasi": "quasi-completely separated"}[self.kind]
        return (f"the log-likelihood has no maximum: the samples are {word} {between} along "
                f"{along}, so the coefficients grow without bound")


def find_separation(samples: DenseSamples) -> Separation:
    """Decide whether standardised samples are separated.

    Parameters
    ----------
    samples : DenseSamples
        From `DenseSamples.standardized`, so that one tolerance suits all columns.
    """
    p = samples.params_shape[1]
    entries_per_label = 2 * p * (samples.n_classes - 1)
    if samples.n_samples * entries_per_label > _MAX_ENTRIES:
        return Separation("undecided")
    rows, own = np.nonzero(_present(samples))
    if len(rows) * entries_per_label > _MAX_ENTRIES:
        return Separation("undecided")
    shift = 0.0 if samples.shift is None else samples.shift
    scale = 1.0 if samples.scale is None else samples.scale
    x = (samples.X[rows] - shift) * scale
    if samples.fit_intercept:
        x = np.column_stack([x, np.ones(len(x))])
    size = np.abs(x).max(axis=0, initial=0.0)
    x = x / np.where(size > 0, size, 1.0)
    margins = _margin_matrix(x, own, samples.n_classes)
    # any separation: the largest sum of margins, each at least 0, over V in [-1, 1]
    total = np.asarray(margins.sum(axis=0)).ravel()
    answer = linprog(-total, A_ub=-margins, b_ub=np.zeros(margins.shape[0]), bounds=(-1, 1), method="highs",
                     options={"time_limit": _TIME_LIMIT})
    if answer.status != 0:
        return Separation("undecided")
    gained = margins @ answer.x
    if gained.max() < _MARGIN:
        return Separation("none")
    # HiGHS allows itself 1e-7 a row, which is all of a row's margin where a column has an outlier: no proof then
    if (gained < -1e-3 * (abs(margins) @ np.abs(answer.x))).any():
        return Separation("undecided")
    # complete separation: some V gives every row a margin of at least 1
    n_rows = margins.shape[0]
    cost = np.ones(p)
    if samples.fit_intercept:
        cost[-1] = 1e-3
    cost = np.tile(cost, samples.n_classes)
    sparsest = _sparsest_direction(margins, np.ones(n_rows), cost)
    complete = sparsest is not None
    if sparsest is None:
        sparsest = _sparsest_direction(sparse.vstack([margins, sparse.csr_matrix(total)]).tocsr(),
                                       np.append(np.zeros(n_rows), 1.0), cost)
    direction = answer.x if sparsest is None else sparsest
    table = direction.reshape(samples.n_classes, p)
    reach = np.abs(table - table.mean(axis=0)).max(axis=0)
    gained = margins @ direction
    moved = (gained > 1e-6 * np.abs(gained).max()).nonzero()[0]
    firsts, seconds = np.repeat(own, samples.n_classes - 1)[moved], _others(own, samples.n_classes)[moved]
    pairs = frozenset((min(i, k), max(i, k)) for i, k in set(zip(firsts.tolist(), seconds.tolist(), strict=True)))
    return Separation("complete" if complete else "quasi", pairs,
                      tuple(np.flatnonzero(reach > 1e-6 * reach.max()).tolist()))


def _sparsest_direction(rows: sparse.csr_matrix, least: Array, cost: Array) -> Array | None:
    """Return the V of least cost @ |V| with rows @ V >= least: few features; None where there is none or no time."""
    m = rows.shape[1]
    answer = linprog(np.concatenate([cost, cost]), A_ub=sparse.hstack([-rows, rows]).tocsr(), b_ub=-least,
                     bounds=(0, None), method="highs", options={"time_limit": _TIME_LIMIT})
    return answer.x[:m] - answer.x[m:] if answer.status == 0 else None


def _present(samples: DenseSamples) -> NDArray[np.bool_]:
    """Which classes each row has, with positive mass."""
    if samples.counts is not None:
        present = np.asarray(samples.counts) > 0
    else:
        assert samples.codes is not None
        present = samples.codes[:, np.newaxis] == np.arange(samples.n_classes)
    return present if samples.weights is None else present & (samples.weights > 0)[:, np.newaxis]


def _others(own: NDArray[np.intp], n_classes: int) -> NDArray[np.intp]:
    """For each constraint in order (row, other class) the other class."""
    every = np.arange(n_classes)
    return np.concatenate([np.delete(every, k) for k in range(n_classes)]).reshape(n_classes, -1)[own].ravel()


def _margin_matrix(x: Array, own: NDArray[np.intp], n_classes: int) -> sparse.csr_matrix:
    """Rows (j, k != own_j): + x_j in the columns of own_j's block, - x_j in those of k's."""
    p = x.shape[1]
    repeated = np.repeat(x, n_classes - 1, axis=0)
    first = np.repeat(own, n_classes - 1)[:, np.newaxis] * p + np.arange(p)
    second = _others(own, n_classes)[:, np.newaxis] * p + np.arange(p)
    columns = np.concatenate([first, second], axis=1)
    values = np.concatenate([repeated, -repeated], axis=1)
    pointers = np.arange(len(repeated) + 1) * 2 * p
    matrix = sparse.csr_matrix((values.ravel(), columns.ravel(), pointers), shape=(len(repeated), n_classes * p))
    matrix.eliminate_zeros()
    return matrix
