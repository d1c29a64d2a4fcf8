"""Whether the maximum exists: separation of the samples, decided by linear programs on as few rows as it takes.

`fitting` stands on it, after a fit whose certificate fails. It stands on `metric`, `encoding`, `samples`
and scipy.optimize.

The log-likelihood has no maximum exactly where some direction V, not constant over classes on every row, has margins

    a_i(x_j; V) - a_k(x_j; V) >= 0    for every row j, each class i that the row has, and every class k

(Albert & Anderson 1984, doi:10.1093/biomet/71.1.1; Lesaffre & Albert 1989,
doi:10.1111/j.2517-6161.1989.tb01752.x, for groups of classes; by linear programs Konis 2007): along it no term falls,
and some rise for ever. All positive for some V: complete separation (the supremum is 0); otherwise quasi-complete.
By Stiemke's theorem of alternatives there is none exactly where multipliers lambda > 0 of the margins' coefficients
make sum lambda_r a_r = 0.

Neither answer rests on the program's tolerance. "Separated" has a witness whose margins have been computed exactly;
"none" has multipliers that are positive by more than their rounding error, see `_Search._proves_none`.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import linalg, sparse
from scipy.optimize import OptimizeResult, linprog, minimize

from csoftmax._threads import row_blocks
from csoftmax.encoding import encode
from csoftmax.metric import MetricCoordinates
from csoftmax.objective import SoftmaxObjective
from csoftmax.samples import Array, DenseSamples

Ints = NDArray[np.intp]

DEFAULT_TIME_LIMIT = 30.0
# What HiGHS may leave of a margin, where every row of X and V are in [-1, 1]; and what counts as violated then.
_FEASIBILITY = 1e-9
_VIOLATED = 1e-8
# Coefficients beyond which no program is tried: a square matrix of them takes 128 MB.
_MAX_COEFFICIENTS = 4000
# Coefficients beyond which it pays to look first whether a few iterations of a fit separate completely.
_MANY_COEFFICIENTS = 500
# Coefficients of a direction beyond which its null space is not solved for in rational numbers (some seconds).
_MAX_RATIONAL = 100
# Rounds in which margins that look like 0 are made 0 exactly: each finds those that the one before has moved.
_MAX_ROUNDS = 12
# Seconds spent on a direction of fewer features, once one is known.
_SHORTER_SECONDS = 3.0
# Entries of a program from which the interior point is quicker than the simplex method.
_LARGE_PROGRAM = 300_000
_EPS = float(np.finfo(np.float64).eps)
# Columns whose triangular factor spans more than this are orthogonalised first.
_WELL_CONDITIONED = 1e-4
_MAX_NAMED = 8


class SeparationWarning(UserWarning):
    """The samples are separated: the log-likelihood has no maximum."""


@dataclass(frozen=True, eq=False)
class Separation:
    """What `check_separation` found; its str() is one sentence that begins with `kind`.

    Attributes
    ----------
    kind : {"complete", "quasi", "none", "undecided"}
    reason : str
        Why it is undecided; empty otherwise.
    classes : ndarray of shape (n_classes,)
    feature_names : list of str
    pairs : frozenset of (int, int)
        The pairs of classes, by their place in `classes` and the smaller first, that `direction` separates on some row.
    features : tuple of int
        The columns that `direction` involves (n_features stands for the intercept, left out where a feature is there).
    direction : ndarray of shape (n_classes, n_features + 1), or None
        Features first, the intercept last (absent without one), in the units of X: coefficients moved along it leave
        no sample's likelihood smaller. It is a direction of few features, rounded to float64 from the rational one
        whose margins were computed exactly.
    rows : ndarray of int
        The rows of X whose likelihood rises along `direction`.
    """

    kind: str
    reason: str = ""
    classes: NDArray[Any] = field(default_factory=lambda: np.empty(0, dtype=object))
    feature_names: list[str] = field(default_factory=list)
    pairs: frozenset[tuple[int, int]] = frozenset()
    features: tuple[int, ...] = ()
    direction: Array | None = None
    rows: Ints = field(default_factory=lambda: np.empty(0, dtype=np.intp))

    @property
    def separated(self) -> bool:
        """Whether there is no maximum: kind is "complete" or "quasi"."""
        return self.kind in ("complete", "quasi")

    def __str__(self) -> str:
        return f"{self.kind}: {self.describe()}"

    def describe(self) -> str:
        """Return one sentence that names classes and features."""
        if self.kind == "undecided":
            return f"whether the samples are separated was not decided ({self.reason})"
        if self.kind == "none":
            return "the samples are not separated, so the log-likelihood has a maximum"
        labels = [repr(label) for label in self.classes.tolist()]
        involved = sorted({k for pair in self.pairs for k in pair})
        common = set.intersection(*map(set, self.pairs)) if len(self.pairs) > 1 else set()
        if common:
            one = common.pop()
            between = (f"between the class {labels[one]} and the classes "
                       f"{_listed([labels[k] for k in involved if k != one])}")
        else:
            between = f"between the classes {_listed([labels[k] for k in involved])}"
        names = [self.feature_names[i] for i in self.features if i < len(self.feature_names)]
        word = {"complete": "completely separated", "quasi": "quasi-completely separated"}[self.kind]
        return (f"the log-likelihood has no maximum: the samples are {word} {between} along "
                f"{_listed(names) or 'the intercept alone'}, so the coefficients grow without bound")


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_MAX_NAMED])
    return shown if len(names) <= _MAX_NAMED + 1 and not names[_MAX_NAMED:] else (
        f"{shown} and {len(names) - _MAX_NAMED} more")


def check_separation(X: ArrayLike, y: ArrayLike, *, sample_weight: ArrayLike | None = None, fit_intercept: bool = True,
                     time_limit: float = DEFAULT_TIME_LIMIT) -> Separation:
    """Tell whether the unpenalised log-likelihood has a maximum, and if not, along what it rises for ever.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features), or a data frame
    y : array-like of shape (n_samples,) or (n_samples, n_classes)
        Labels, or counts of each class.
    sample_weight : array-like of shape (n_samples,), optional
        Rows of weight 0 are absent; the size of others makes no difference, and neither would an offset.
    fit_intercept : bool
    time_limit : float
        Seconds after which the answer is "undecided".

    Returns
    -------
    Separation
        str() of it begins with "complete", "quasi" or "none" (or "undecided", with the reason).

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what is wanted.

    Notes
    -----
    The samples are separated where some V, not constant over classes on all rows, has

        (v_i - v_k)' x~_j >= 0    for every row j, each class i that the row has, and every class k

    (Albert & Anderson 1984, doi:10.1093/biomet/71.1.1). The program takes the rows that are violated, a few hundred at
    a time, until none is or those taken prove that there is no such V. Columns that are collinear up to rounding are
    left out: a direction along their difference is rounding error.

    That no V separates completely, where the answer is "quasi", holds up to margins of 1e-8 (in rows scaled to 1).

    Examples
    --------
    >>> import csoftmax as cs
    >>> X = [[1.0, 5.0], [2.0, 3.0], [3.0, 4.0], [3.0, 6.0], [4.0, 3.5], [5.0, 5.5]]
    >>> found = cs.check_separation(X, ["a", "a", "a", "b", "b", "b"])
    >>> found.kind, found.features, found.rows.tolist()
    ('complete', (0, 1), [0, 1, 2, 3, 4, 5])
    >>> found.describe()[:90]
    'the log-likelihood has no maximum: the samples are completely separated between the classe'
    >>> print(cs.check_separation(X, ["a", "b", "a", "b", "a", "a"]))
    none: the samples are not separated, so the log-likelihood has a maximum
    """
    if isinstance(time_limit, bool) or not isinstance(time_limit, Real) or not time_limit > 0:
        raise ValueError(f"time_limit is {time_limit!r}; a positive number of seconds is wanted")
    data = encode(X, y, sample_weight=sample_weight, fit_intercept=bool(fit_intercept))
    # 1550 coefficients that separate completely: programs take minutes, these iterations half a second
    many = _MANY_COEFFICIENTS < np.prod(data.samples.params_shape) <= _MAX_COEFFICIENTS
    start = _descended(data.samples) if many else None
    return find_separation(data.samples, data.classes, data.feature_names, start=start, time_limit=float(time_limit))


def _descended(samples: DenseSamples) -> Array:
    """Return parameters after a few descents of the loss, which put every row into its class where that is easy."""
    coordinates = MetricCoordinates(SoftmaxObjective.from_samples(samples, np.zeros(samples.n_features)))
    answer = minimize(coordinates.loss_and_gradient, np.zeros(coordinates.n_coordinates), jac=True, method="L-BFGS-B",
                      options={"maxiter": 100})
    return coordinates.params(answer.x)


def find_separation(samples: DenseSamples, classes: NDArray[Any], feature_names: list[str], *,
                    start: Array | None = None, time_limit: float = DEFAULT_TIME_LIMIT) -> Separation:
    """Decide whether samples, in the units of X, are separated; see `check_separation`.

    `start` may be parameters of shape (n_classes, p): where they put every row into its class, that is the answer.
    """
    deadline = time.monotonic() + time_limit
    try:
        found = _Search(samples, time_limit, deadline).decide(start)
    except _GaveUp as reason:
        return Separation("undecided", str(reason), classes, feature_names)
    if found is None:
        return Separation("none", "", classes, feature_names)
    kind, witness = found
    features = tuple(np.flatnonzero((witness.direction != witness.direction[0]).any(axis=0)).tolist())
    named_features = tuple(i for i in features if i < samples.n_features) or features
    return Separation(kind, "", classes, feature_names, frozenset(witness.pairs), named_features, witness.direction,
                      witness.rows)


class RisingDirections:
    """The directions along which no sample's likelihood falls, asked for one along which a contrast rises.

    The working set grows from question to question.

    Parameters
    ----------
    samples : DenseSamples
    time_limit : float
        Seconds for each question.
    """

    def __init__(self, samples: DenseSamples, time_limit: float = DEFAULT_TIME_LIMIT) -> None:
        self._search = _Search(samples, time_limit, time.monotonic() + time_limit)
        self._strict: Array | None = None
        if self._search.n_coefficients <= _MAX_COEFFICIENTS:
            self._search.prepare()
            with contextlib.suppress(_GaveUp):
                self._strict = self._search._strict_direction()

    def along(self, contrast: Array) -> Array | None:
        """Return V of shape (n_classes, p), in the units of X, with sum_ki contrast[k, i] V_ki > 0; or None.

        V is rounded to float64 from a rational direction whose margins were computed exactly and are none below 0.
        None: no such direction was found, which is no proof that there is none.

        Parameters
        ----------
        contrast : ndarray of shape (n_classes, p)
            Its sums over classes are 0.
        """
        search = self._search
        if search.n_coefficients > _MAX_COEFFICIENTS:
            return None
        search.deadline = time.monotonic() + search.time_limit
        try:
            V = search.rising(contrast)
            if V is None:
                return None
            witness = None
            if self._strict is not None:
                # away from the margins of 0, half the rise left: no rational equations to be solved
                target = search.rows.contrast_in_z(contrast)
                rise, other = float(np.sum(target * V)), abs(float(np.sum(target * self._strict)))
                witness = search._verified_strict(V + self._strict * (0.5 if other <= rise else 0.5 * rise / other))
            witness = witness or search._verified_weak(V)
        except _GaveUp:
            return None
        if witness is None:
            return None
        terms = contrast * witness.direction
        # far above the rounding of V
        return witness.direction if terms.sum() > _FEASIBILITY * np.abs(terms).sum() else None


class _GaveUp(Exception):
    """The question stays open; the message is the reason."""


class _Rounding(_GaveUp):
    """... for rounding error: other coordinates may help."""


class _Rows:
    """Rows z_j of well-scaled columns: (x - shift) * scale of columns that are not collinear, and a one.

    Attributes
    ----------
    columns : ndarray of int
        The columns of X that were kept.
    shift, scale : ndarray of shape (len(columns),)
        The scale is a power of two.
    q : int
        Their number, with the intercept.
    smallest : float
        What is left of the last column, of length 1, when the others are projected out.
    """

    def __init__(self, samples: DenseSamples) -> None:
        self.samples = samples
        mass = samples.mass()
        self.active = np.ones(samples.n_samples, dtype=bool) if mass is None else mass > 0
        totals = samples.column_totals()
        samples.standardized(totals)  # refuses a column that spans more than a float64 holds
        self.columns = np.arange(samples.n_features)
        rows = np.flatnonzero(self.active)
        # medians of about 2000 rows: an outlier of 1e9 among values of 1 must not set the scale
        picked = self._raw(rows[::max(1, len(rows) // 2000)])
        low, high = totals[1:]
        self.shift = np.median(picked, axis=0) if samples.fit_intercept else np.zeros(samples.n_features)
        size = np.abs(picked - self.shift)
        reach = np.maximum(high - self.shift, self.shift - low)
        typical = np.array([np.median(column[column > 0]) if column.any() else reach[i]
                            for i, column in enumerate(size.T)])
        self.scale = np.ldexp(1.0, np.clip(-np.frexp(np.where(typical > 0, typical, 1.0))[1], -1000, 1000))
        self.whitening: Array | None = None
        self.smallest = 1.0
        self.q = samples.params_shape[1]
        # A column's own rounding, relative to its spread, is as large as what collinear columns differ by. Not of one
        # that is constant or nearly so, such as 1e20 throughout: that would leave out all the others.
        rounding = _EPS * np.maximum(np.abs(low), np.abs(high)) * self.scale
        self._rounding = max(_EPS, float(rounding[16 * self.q * rounding < 1.0].max(initial=0.0)))

    def _raw(self, rows: Any) -> Array:
        chosen = self.samples.X[rows]
        if len(self.columns) < self.samples.n_features:
            chosen = chosen[:, self.columns]
        return np.asarray(chosen, dtype=np.float64)

    def blocks(self) -> Iterable[tuple[int, int]]:
        return row_blocks(self.samples.n_samples, self.samples.n_features + self.samples.n_classes)

    def scaled(self, rows: Any) -> Array:
        """Return z of some rows (a slice or indices), of shape (n, q)."""
        z = (self._raw(rows) - self.shift) * self.scale
        return np.column_stack([z, np.ones(len(z))]) if self.samples.fit_intercept else z

    def normalized(self, rows: Any) -> Array:
        """Return z, each row over its largest entry: a margin keeps its sign, and no outlier rules."""
        z = _over_largest(self.scaled(rows))
        return z if self.whitening is None else _over_largest(z @ self.whitening)

    def present(self, rows: Any) -> NDArray[np.bool_]:
        """Which classes each row has, with positive weight, of shape (n, n_classes)."""
        samples = self.samples
        if samples.counts is not None:
            present = np.asarray(samples.counts[rows]) > 0
        else:
            assert samples.codes is not None
            present = samples.codes[rows][:, np.newaxis] == np.arange(samples.n_classes)
        return present & self.active[rows][:, np.newaxis]

    def choose_columns(self) -> None:
        """Leave out columns that depend on others up to rounding, by the triangular factor of the normalised rows."""
        factor = np.zeros((0, self.q))
        for start, stop in self.blocks():
            z = self.normalized(np.flatnonzero(self.active[start:stop]) + start)
            factor = np.asarray(np.linalg.qr(np.concatenate([factor, z]), mode="r"))
        size = np.linalg.norm(factor, axis=0)
        unit = factor / np.where(size > 0, size, 1.0)
        if self.samples.fit_intercept:
            unit[:, -1] *= 2.0  # first of all; a power of two
        triangle, order = linalg.qr(unit, mode="r", pivoting=True)
        diagonal = np.abs(triangle.diagonal())
        kept = np.sort(order[:int((diagonal > 16 * self.q * self._rounding).sum())])
        self.smallest = float(diagonal[:len(kept)].min(initial=1.0))
        self._factor = factor[:, kept]
        self.q = len(kept)
        keep = kept[kept < self.samples.n_features]
        self.columns, self.shift, self.scale = keep, self.shift[keep], self.scale[keep]

    def whiten(self) -> None:
        """Go on in columns that are orthonormal over the normalised rows."""
        triangle = np.linalg.qr(self._factor, mode="r")
        inverse = linalg.solve_triangular(triangle, np.eye(self.q))
        self.whitening = inverse / np.abs(inverse).max(initial=1e-300)

    # -------------------------------------------------------------------------------------------- exact arithmetic

    def integers(self, rows: Ints) -> tuple[NDArray[Any], int]:
        """Return whole numbers N, of shape (n, q), and e with z = N * 2^e exactly, as Python ints."""
        raw = self._raw(rows)
        mantissas, exponents = [], []
        for values, shift, scale in zip(raw.T, self.shift, self.scale, strict=True):
            fraction, exponent = np.frexp(np.append(values, shift))
            low = int(exponent[fraction != 0].min(initial=0))
            whole = np.ldexp(fraction, 53).astype(np.int64).astype(object)
            whole = whole << np.where(fraction != 0, exponent - low, 0).astype(object)
            mantissas.append(whole[:-1] - whole[-1])
            exponents.append(low - 53 + int(np.frexp(scale)[1]) - 1)
        if self.samples.fit_intercept:
            mantissas.append(np.array([1] * len(rows), dtype=object))
            exponents.append(0)
        least = min(exponents, default=0)
        whole = np.empty((len(rows), self.q), dtype=object)
        for i, (mantissa, exponent) in enumerate(zip(mantissas, exponents, strict=True)):
            whole[:, i] = mantissa * (1 << (exponent - least))
        return whole, least

    def from_units_of_x(self, params: Array) -> Array:
        """Return parameters of shape (n_classes, p) in the units of z; those of columns left out are lost."""
        V = params[:, self.columns] / self.scale
        if not self.samples.fit_intercept:
            return V
        return np.column_stack([V, params[:, -1] + params[:, self.columns] @ self.shift])

    def contrast_in_z(self, contrast: Array) -> Array:
        """Return what applies to V, in the units of z, as `contrast` does to parameters in those of X."""
        target = contrast[:, self.columns] * self.scale
        if self.samples.fit_intercept:
            target = np.column_stack([target - contrast[:, -1:] * (self.shift * self.scale), contrast[:, -1]])
        return target

    def in_units_of_x(self, table: NDArray[Any]) -> Array:
        """Return a table of ints, of shape (n_classes, q), as float64 of shape (n_classes, p) in the units of X."""
        unit = max(abs(value) for value in table.ravel())
        n_classes, p = self.samples.params_shape
        direction = np.zeros((n_classes, p))
        for k in range(n_classes):
            weights = [Fraction(value, unit) * Fraction(scale)
                       for value, scale in zip(table[k].tolist(), self.scale.tolist(), strict=False)]
            direction[k, self.columns] = [float(weight) for weight in weights]
            if self.samples.fit_intercept:
                centre = sum((weight * Fraction(shift) for weight, shift in
                              zip(weights, self.shift.tolist(), strict=True)), Fraction(0))
                direction[k, -1] = float(Fraction(table[k, -1], unit) - centre)
        return direction


def _over_largest(z: Array) -> Array:
    size = np.abs(z).max(axis=1, initial=0.0, keepdims=True)
    return z / np.where(size > 0, size, 1.0)


def _whole(V: Array, bits: int) -> NDArray[Any]:
    """Return V in units of 2^-bits of its largest entry, rounded, as Python ints."""
    table: NDArray[Any] = np.round(V / np.abs(V).max() * 2.0 ** bits).astype(np.int64).astype(object)
    return table


@dataclass
class _Witness:
    direction: Array
    strict: bool
    pairs: set[tuple[int, int]]
    rows: Ints


@dataclass
class _ExactMargins:
    """What the exact margins of a direction are."""

    against: bool                                # some row is, by more than rounding
    near: list[tuple[int, int, int, int]]        # (row, own, other, sign) of margins that look like 0 and are not
    strict: bool                                 # all are positive
    pairs: set[tuple[int, int]]
    rows: Ints


class _Search:
    """The programs, on a growing set of constraints (row, own class, other class)."""

    def __init__(self, samples: DenseSamples, time_limit: float, deadline: float) -> None:
        self.time_limit, self.deadline = time_limit, deadline
        self.n_classes = samples.n_classes
        self.n_coefficients = (samples.n_classes - 1) * samples.params_shape[1]
        self.rows = _Rows(samples)

    def decide(self, start: Array | None) -> tuple[str, _Witness] | None:
        """Return the kind of separation and its witness; None where there is provably none."""
        known = None if start is None or not start.any() else self._verified_strict(self.rows.from_units_of_x(start))
        if self.n_coefficients > _MAX_COEFFICIENTS:
            if known is not None:
                return "complete", known
            raise _GaveUp(f"{self.n_coefficients} coefficients; up to {_MAX_COEFFICIENTS} are tried")
        self.prepare()
        if not self.rows.q:
            return None  # all logits are 0 whatever the coefficients
        try:
            return self._by_programs(known)
        except _Rounding:
            if self.rows.whitening is not None:
                raise
            self.rows.whiten()
            self._start()
            return self._by_programs(known)

    def prepare(self) -> None:
        """Choose the columns and begin the working set."""
        self.rows.choose_columns()
        if not self.rows.q:
            return
        if self.rows.smallest < _WELL_CONDITIONED:
            self.rows.whiten()
        self._start()

    def _by_programs(self, known: _Witness | None) -> tuple[str, _Witness] | None:
        weak, strict = None, None
        if known is None:
            weak = self._weak_direction()
            if weak is None:
                return None
            strict = self._strict_direction()
        complete = known is not None or strict is not None
        for V in (self._sparsest_direction(complete), strict, weak):
            if V is None:
                continue
            witness = self._verified_strict(V) if complete else self._verified_weak(V)
            if witness is not None:
                return "complete" if witness.strict else "quasi", witness
        if known is not None:
            return "complete", known
        raise _Rounding("rounding error: a direction was found along which no margin is below "
                        f"-{_VIOLATED:g}, but none that holds exactly")

    # ------------------------------------------------------------------------------------------- the working set

    def _start(self) -> None:
        """Begin with a few rows of each class, spread over the samples, against each other class in turn."""
        C = self.n_classes
        self._seen: set[tuple[int, int, int]] = set()
        self._A = sparse.csr_matrix((0, C * self.rows.q))
        wanted = max(4 * self.rows.q, 2 * (C - 1))
        places = [np.argwhere(self.rows.present(slice(start, stop))) + np.array([start, 0])
                  for start, stop in self.rows.blocks()]
        rows, own = np.concatenate(places).T
        for i in range(C):
            found = rows[own == i]
            found = found[np.linspace(0, len(found) - 1, min(wanted, len(found) * (C - 1))).astype(np.intp)]
            others = np.delete(np.arange(C), i)
            self._add(found, np.full(len(found), i), others[np.arange(len(found)) % (C - 1)])

    def _add(self, rows: Ints, own: Ints, other: Ints) -> bool:
        """Add constraints to the working set; False where all are there."""
        keys = list(zip(rows.tolist(), own.tolist(), other.tolist(), strict=True))
        new = [index for index, key in enumerate(keys) if key not in self._seen]
        if not new:
            return False
        self._seen.update(keys)
        z, q = self.rows.normalized(rows[new]), self.rows.q
        first = own[new][:, np.newaxis] * q + np.arange(q)
        second = other[new][:, np.newaxis] * q + np.arange(q)
        matrix = sparse.csr_matrix((np.concatenate([z, -z], axis=1).ravel(),
                                    np.concatenate([first, second], axis=1).ravel(),
                                    np.arange(len(new) + 1) * 2 * q), shape=(len(new), self.n_classes * q))
        matrix.eliminate_zeros()
        self._A = sparse.vstack([self._A, matrix]).tocsr()
        return True

    def _add_violated(self, V: Array, least: float) -> bool:
        """Add the rows of smallest margin below `least`, some of each pair of classes; False where there is none."""
        self._check_time()
        table = V.reshape(self.n_classes, -1)
        found = []
        for start, stop in self.rows.blocks():
            logits = self.rows.normalized(slice(start, stop)) @ table.T
            present = self.rows.present(slice(start, stop))
            index = np.arange(len(logits))
            own = np.where(present, logits, np.inf).argmin(axis=1)
            lowest = logits[index, own]
            logits[index, own] = -np.inf
            other = logits.argmax(axis=1)
            margin = lowest - logits[index, other]
            below = np.flatnonzero((margin < least) & self.rows.active[start:stop])
            found.append((below + start, own[below], other[below], margin[below]))
        rows, own, other, margin = (np.concatenate(parts) for parts in zip(*found, strict=True))
        if not len(rows):
            return False
        order = np.lexsort((margin, own * self.n_classes + other))
        pair = (own * self.n_classes + other)[order]
        begins = np.flatnonzero(np.append(True, pair[1:] != pair[:-1]))
        place = np.arange(len(pair)) - np.repeat(begins, np.diff(np.append(begins, len(pair))))
        chosen = order[place < max(10, 5 * self.rows.q // self.n_classes)]
        if not self._add(rows[chosen], own[chosen], other[chosen]):
            raise _Rounding(f"rounding error: the linear program leaves margins of {margin.min():.2g}")
        return True

    # --------------------------------------------------------------------------------------------- the programs

    def _check_time(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise _GaveUp(f"the time limit of {self.time_limit:g} s was reached")
        return left

    def _solve(self, cost: Array, matrix: sparse.csr_matrix, least: Array, bounds: Any,
               seconds: float = np.inf) -> OptimizeResult:
        """Minimise cost'v over matrix v >= least."""
        # on 8000 rows of 1550 coefficients the interior point takes 7 s, the simplex method more than 90
        method = "highs-ipm" if matrix.nnz > _LARGE_PROGRAM else "highs"
        answer = linprog(cost, A_ub=-matrix, b_ub=-least, bounds=bounds, method=method, options={
            "time_limit": min(self._check_time(), seconds), "primal_feasibility_tolerance": _FEASIBILITY,
            "dual_feasibility_tolerance": _FEASIBILITY})
        if answer.status != 0:
            self._check_time()
            raise _Rounding(f"the linear program failed: {answer.message}")
        return answer

    def _weak_direction(self) -> Array | None:
        """Return V of shape (n_classes, q) with no margin below 0 and some above; None where there is provably none.

        Maximises the sum of the working set's margins over V in [-1, 1], each at least 0, the last class's row 0.
        """
        rng = np.random.default_rng(0)
        while True:
            A = self._A[:, :-self.rows.q]
            total = np.asarray(A.sum(axis=0)).ravel()
            answer = self._solve(-total, A, np.zeros(A.shape[0]), (-1, 1))
            V, multipliers = answer.x, -answer.ineqlin.marginals
            if total @ V <= 1e-6 * A.shape[0]:
                proved, flat = self._proves_none(A, 1.0 + multipliers)
                if proved:
                    return None
            if total @ V <= _FEASIBILITY * A.shape[0]:
                if not flat.shape[1]:
                    raise _Rounding("rounding error: the linear program's multipliers prove nothing")
                # the working set does not see these directions; perhaps other rows do
                V = flat @ rng.standard_normal(flat.shape[1])
                V /= np.abs(V).max()
            V = np.append(V, np.zeros(self.rows.q)).reshape(self.n_classes, -1)
            if not self._add_violated(V, -_VIOLATED):
                return self._in_z(V)

    def rising(self, contrast: Array) -> Array | None:
        """Return V, in z, with no margin below 0 along which a contrast of the units of X rises most; or None.

        Maximises it over V in [-1, 1], the last class's row 0.
        """
        if not self.rows.q:
            return None
        target = self.rows.contrast_in_z(contrast)
        if self.rows.whitening is not None:
            target = target @ self.rows.whitening
        size = np.abs(target).max()
        if not size:
            return None
        target = (target / size)[:-1].ravel()
        while True:
            A = self._A[:, :-self.rows.q]
            answer = self._solve(-target, A, np.zeros(A.shape[0]), (-1, 1))
            if not target @ answer.x > _VIOLATED:
                return None
            V = np.append(answer.x, np.zeros(self.rows.q)).reshape(self.n_classes, -1)
            if not self._add_violated(V, -_VIOLATED):
                return self._in_z(V)

    def _proves_none(self, A: sparse.csr_matrix, multipliers: Array) -> tuple[bool, Array]:
        """Tell whether multipliers prove that no direction has margins >= 0, not all 0; and return A's null space.

        Let delta = A' lambda, M = A' diag(lambda) A. Then lambda_r (1 - a_r' M^-1 delta) are multipliers of which the
        sum is exactly 0, positive where |a_r' M^-1 delta| < 1. With M nonsingular a V of margins 0 is 0, so there is
        none, on these rows and so on all. What delta's rounding adds is bounded and counted.
        """
        M = (A.T @ A.multiply(multipliers[:, np.newaxis]).tocsr()).toarray()
        values, vectors = np.linalg.eigh(0.5 * (M + M.T))
        flat = values <= 1e-13 * values[-1]
        if multipliers.min() <= 0.0 or flat.any():
            return False, vectors[:, flat]
        reach = (A @ vectors / values) @ vectors.T
        delta = A.T @ multipliers
        rounding = 8.0 * _EPS * (abs(A).T @ multipliers) * np.log2(A.shape[0] + 2.0)
        moved = np.abs(reach @ delta) + np.abs(reach) @ rounding
        return bool(moved.max() < 0.5), vectors[:, :0]

    def _strict_direction(self) -> Array | None:
        """Return V whose margins are all positive; None where none are above 1e-8.

        Maximises t over margins >= t, V in [-1, 1].
        """
        while True:
            A = self._A[:, :-self.rows.q]
            n_rows, n_columns = A.shape
            cost = np.append(np.zeros(n_columns), -1.0)
            answer = self._solve(cost, sparse.hstack([A, -np.ones((n_rows, 1))]).tocsr(), np.zeros(n_rows),
                                 [(-1, 1)] * n_columns + [(None, 1)])
            t = -answer.fun
            if t < _VIOLATED:
                return None
            V = np.append(answer.x[:-1], np.zeros(self.rows.q)).reshape(self.n_classes, -1)
            if not self._add_violated(V, 0.5 * t):
                return self._in_z(V)

    def _in_z(self, V: Array) -> Array:
        return V if self.rows.whitening is None else V @ self.rows.whitening.T

    def _sparsest_direction(self, strict: bool) -> Array | None:
        """Return the V of least sum |V| with margins >= 1, or >= 0 and a positive sum; None where it is not found.

        It has few features, for it is a vertex; the intercept costs next to nothing. Not tried where the program is
        large (such a message would name dozens of features anyway) or the columns are not those of X, and not for
        longer than `_SHORTER_SECONDS`: that the samples are separated is known.
        """
        until = time.monotonic() + _SHORTER_SECONDS
        q = self.rows.q
        large = self.n_coefficients > _MANY_COEFFICIENTS if strict else self._A.nnz > _LARGE_PROGRAM
        if large or self.rows.whitening is not None:
            return None
        cost = np.ones(q)
        if self.rows.samples.fit_intercept:
            cost[-1] = 1e-3
        cost = np.tile(cost, 2 * self.n_classes)
        try:
            while True:
                A, least = self._A, np.full(self._A.shape[0], float(strict))
                if not strict:
                    A = sparse.vstack([A, sparse.csr_matrix(A.sum(axis=0))]).tocsr()
                    least = np.append(least, 1.0)
                answer = self._solve(cost, sparse.hstack([A, -A]).tocsr(), least, (0, None),
                                     max(until - time.monotonic(), 0.0))
                V = (answer.x[:len(cost) // 2] - answer.x[len(cost) // 2:]).reshape(self.n_classes, -1)
                if not self._add_violated(V, 0.5 if strict else -_VIOLATED * float(np.abs(V).max())):
                    return V
        except _GaveUp:
            return None

    # ------------------------------------------------------------------------------------------ exact verification

    def _verified_strict(self, V: Array) -> _Witness | None:
        """Return V as the witness of complete separation, all its margins being exactly above 0; or None."""
        for bits in (20, 60):  # a short direction where that will do
            table = _whole(V, bits)
            exact = self._exact_margins(table)
            if exact.strict and len(exact.rows):
                return _Witness(self.rows.in_units_of_x(table), True, exact.pairs, exact.rows)
        return None

    def _verified_weak(self, V: Array) -> _Witness | None:
        """Return the witness next to V whose margins are exactly 0 or above; None where it is not found."""
        # in units of 2^-20 of the largest what differs by the program's tolerance alone becomes equal
        for bits, sparse_as_it_is, all_near in itertools.product((20, 40), (True, False), (True, False)):
            start = table = _whole(V, bits)
            # Of margins that look like 0 all may have to be 0, or those alone that are below. What was once held at 0
            # stays so: a margin that was 0 by luck would leave it again, and two take turns for ever.
            held: dict[tuple[int, int, int], None] = {}
            for _ in range(_MAX_ROUNDS):
                exact = self._exact_margins(table)
                if exact.against or not len(exact.rows):
                    break
                if not any(sign < 0 for *_, sign in exact.near):
                    return _Witness(self.rows.in_units_of_x(table), exact.strict, exact.pairs, exact.rows)
                held.update(dict.fromkeys((row, i, k) for row, i, k, sign in exact.near if all_near or sign < 0))
                solved = self._on_null_space(start, list(held), sparse_as_it_is)
                if solved is None:
                    break
                table = solved
        return None

    def _exact_margins(self, table: NDArray[Any]) -> _ExactMargins:
        """Return what the margins of a table of ints are: in float64 where that is sure, in whole numbers elsewhere."""
        self._check_time()
        unit = max(abs(value) for value in table.ravel())
        groups: dict[tuple[int, ...], int] = {}
        group = np.array([groups.setdefault(tuple(row), len(groups)) for row in table.tolist()])
        weights = np.array([[value / unit for value in row] for row in groups])  # int / int is correctly rounded
        result = _ExactMargins(False, [], True, set(), np.empty(0, dtype=np.intp))
        risen = np.zeros(self.rows.samples.n_samples, dtype=bool)
        for start, stop in self.rows.blocks():
            z, present = self.rows.scaled(slice(start, stop)), self.rows.present(slice(start, stop))
            logits, sizes = z @ weights.T, np.abs(z) @ np.abs(weights).T
            for i in range(self.n_classes):
                rows = np.flatnonzero(present[:, i])
                for k in range(self.n_classes):
                    if k == i or not len(rows):
                        continue
                    if group[i] == group[k]:
                        result.strict = False
                        continue
                    margin = logits[rows, group[i]] - logits[rows, group[k]]
                    size = sizes[rows, group[i]] + sizes[rows, group[k]]
                    # rounding of x - shift, of the weights, and of q products and sums
                    unsure = np.flatnonzero(np.abs(margin) <= (self.rows.q + 6) * _EPS * size)
                    sign = np.sign(margin)
                    sign[unsure] = self._exact_signs(rows[unsure] + start, table[i] - table[k])
                    close = np.abs(margin) <= 1e-6 * size
                    if (sign[~close] < 0).any():
                        result.against = True
                        return result
                    near = np.flatnonzero(close & (sign != 0))
                    result.near += [(int(rows[r]) + start, i, k, int(sign[r])) for r in near]
                    result.strict &= bool((sign > 0).all())
                    if (sign > 0).any():
                        result.pairs.add((min(i, k), max(i, k)))
                        risen[rows[sign > 0] + start] = True
        result.rows = np.flatnonzero(risen)
        return result

    def _exact_signs(self, rows: Ints, difference: NDArray[Any]) -> Array:
        """Return the signs of the rows' products with a difference of two classes' ints, exactly."""
        if not len(rows):
            return np.empty(0)
        whole, _ = self.rows.integers(rows)
        return np.array([(value > 0) - (value < 0) for value in whole @ difference], dtype=float)

    def _on_null_space(self, table: NDArray[Any], near: Sequence[tuple[int, int, int]],
                       sparse_as_it_is: bool) -> NDArray[Any] | None:
        """Return the table changed so that margins which look like 0 are 0, in rational numbers; None if it cannot be.

        `sparse_as_it_is`: entries of a column that are equal over classes stay so, and zeros stay zeros.
        """
        q = self.rows.q
        keys = [[(c, table[k, c]) if sparse_as_it_is else (c, k) for c in range(q)] for k in range(self.n_classes)]
        values = {key: table[k, c] for k, line in enumerate(keys) for c, key in enumerate(line)
                  if table[k, c] or not sparse_as_it_is}
        if len(values) > _MAX_RATIONAL:
            return None
        place = {key: index for index, key in enumerate(values)}
        rows, own, other = (np.array(part) for part in zip(*near, strict=True))
        z = self.rows.scaled(rows)
        equations = np.zeros((len(rows), len(values)))
        classes = [[place.get(key, -1) for key in line] for line in keys]
        for k, columns in enumerate(classes):
            for c, index in enumerate(columns):
                if index >= 0:
                    equations[:, index] += z[:, c] * (1.0 * (own == k) - 1.0 * (other == k))
        # which rows are independent, the float64 factor may say: those it misses come back in the next round
        triangle, order = linalg.qr(_over_largest(equations).T, mode="r", pivoting=True)
        diagonal = np.abs(triangle.diagonal())
        chosen = order[:int((diagonal > 1e-10 * diagonal.max(initial=0.0)).sum())]
        whole, _ = self.rows.integers(rows[chosen])
        system = []
        for numbers, i, k in zip(whole, own[chosen], other[chosen], strict=True):
            line = [0] * len(values)
            for c, number in enumerate(numbers):
                for index, sign in ((classes[i][c], 1), (classes[k][c], -1)):
                    if index >= 0:
                        line[index] += sign * number
            system.append(line)
        solved = _nearest_solution(system, list(values.values()))
        self._check_time()
        if not any(solved):
            return None
        changed = np.zeros_like(table)
        for k, columns in enumerate(classes):
            changed[k] = [0 if index < 0 else solved[index] for index in columns]
        return changed


def _nearest_solution(system: list[list[int]], values: list[int]) -> list[int]:
    """Return whole numbers t, near a multiple of `values`, with every line of the system at 0 exactly.

    Gauss-Jordan elimination in rational numbers; unknowns that are not eliminated keep their values.
    """
    pivots: dict[int, list[Fraction]] = {}
    for numbers in system:
        line = [Fraction(number) for number in numbers]
        for column, pivot in pivots.items():
            if line[column]:
                factor = line[column]
                line = [a - factor * b for a, b in zip(line, pivot, strict=True)]
        column = max(range(len(line)), key=lambda index: abs(line[index]))
        if not line[column]:
            continue
        line = [a / line[column] for a in line]
        for other, pivot in pivots.items():
            factor = pivot[column]
            if factor:
                pivots[other] = [a - factor * b for a, b in zip(pivot, line, strict=True)]
        pivots[column] = line
    solution = [Fraction(value) for value in values]
    for column, line in pivots.items():
        solution[column] = -sum((a * value for index, (a, value) in enumerate(zip(line, values, strict=True))
                                 if index not in pivots), Fraction(0))
    denominator = lcm(*(value.denominator for value in solution))
    return [int(value * denominator) for value in solution]
