"""Wald, likelihood ratio and score tests of linear hypotheses, one or a table of them.

`result` stands on it. It stands on `constraints`, `restricted` and `maximize`.

Of the hypothesis R w = q of r independent constraints, with the estimate w^, the restricted estimate w_0, the
log-likelihood L, its gradient s, the information H and the covariance V (H^-1, or a robust one):

    Wald                 (R w^ - q)' (R V R')^-1 (R w^ - q)
    likelihood ratio     2 (L(w^) - L(w_0))
    score                s(w_0)' H(w_0)^-1 s(w_0)

Each is chi-squared with r degrees of freedom where the hypothesis holds, in large samples (Rao 1973, *Linear
Statistical Inference and Its Applications*, section 6e). The last two do not depend on how the hypothesis is written;
they are computed in the metric's coordinates, so that no unit of X is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.stats import chi2

from csoftmax.certificate import DENSE_LIMIT
from csoftmax.constraints import Constraints, all_zero
from csoftmax.inference import SEEN, Unseen
from csoftmax.maximize import Maximum, maximize
from csoftmax.metric import MetricCoordinates
from csoftmax.objective import SoftmaxObjective
from csoftmax.restricted import Plane, RestrictedCoordinates, plane_of
from csoftmax.samples import Array, DenseSamples, JoinedColumns
from csoftmax.tables import format_pvalue, import_pandas

if TYPE_CHECKING:
    import pandas as pd

    from csoftmax.result import SoftmaxResult

KINDS = {"wald": "Wald", "lr": "Likelihood ratio", "score": "Score"}


@dataclass(frozen=True)
class HypothesisTest:
    """A test of a linear hypothesis; `str()` is a sentence.

    Attributes
    ----------
    kind : {"wald", "lr", "score"}
    hypothesis : str
    statistic : float
        Chi-squared where the hypothesis holds; nan where there is none, and `note` says why.
    df : int
        The number of independent constraints that the data can tell something about. Of collinear columns that can be
        fewer than were given, and the test is of those; `note` says so. Of none there is no statistic.
    pvalue : float
    note : str
    """

    kind: str
    hypothesis: str
    statistic: float
    df: int
    pvalue: float
    note: str = ""

    def __str__(self) -> str:
        p = format_pvalue(self.pvalue)
        return (f"{KINDS[self.kind]} test of {self.hypothesis}: chi2({self.df}) = {self.statistic:.4f}, "
                f"p {f'< {p[1:]}' if p.startswith('<') else f'= {p}'}" + (f" ({self.note})" if self.note else ""))


@dataclass(frozen=True, eq=False)
class HypothesisTable:
    """Tests of several hypotheses, each by itself; `str()` is a table.

    Attributes
    ----------
    kind : {"wald", "lr", "score"}
    title : str
    names : tuple of str
    statistic, pvalue : ndarray of shape (n_hypotheses,)
    df : ndarray of shape (n_hypotheses,), int
    notes : tuple of str
        Why a statistic is nan, or what was left out; empty where there is nothing to say.
    """

    kind: str
    title: str
    names: tuple[str, ...]
    statistic: Array
    df: NDArray[np.intp]
    pvalue: Array
    notes: tuple[str, ...]

    @classmethod
    def of(cls, kind: str, title: str, tests: Sequence[HypothesisTest]) -> HypothesisTable:
        return cls(kind, title, tuple(test.hypothesis for test in tests), np.array([test.statistic for test in tests]),
                   np.array([test.df for test in tests], dtype=np.intp), np.array([test.pvalue for test in tests]),
                   tuple(test.note for test in tests))

    def __str__(self) -> str:
        width = max([12, *(len(name) for name in self.names)])
        head = f"{'':<{width}} {'chi2':>12} {'df':>5} {'P>chi2':>10}"
        lines = [self.title, "=" * len(head), head, "-" * len(head)]
        for name, statistic, df, p in zip(self.names, self.statistic, self.df, self.pvalue, strict=True):
            lines.append(f"{name:<{width}} {statistic:>12.4f} {df:>5} {format_pvalue(p):>10}")
        lines.append("=" * len(head))
        lines += [f"{name}: {note}" for name, note in zip(self.names, self.notes, strict=True) if note]
        return "\n".join(lines)

    __repr__ = __str__

    def to_frame(self) -> pd.DataFrame:
        """Return a data frame: a row for each hypothesis, columns statistic, df, pvalue and note.

        Raises
        ------
        ImportError
            Without pandas: pip install "csoftmax[formula]".
        """
        pd = import_pandas()
        return pd.DataFrame({"statistic": self.statistic, "df": self.df, "pvalue": self.pvalue, "note": self.notes},
                            index=pd.Index(self.names, name="hypothesis"))


def chi_squared_test(kind: str, hypothesis: str, statistic: float, df: int, note: str = "") -> HypothesisTest:
    """Return the test with its p-value."""
    return HypothesisTest(kind, hypothesis, float(statistic), df, float(chi2.sf(statistic, df)), note)


def impossible(kind: str, hypothesis: str, df: int, reason: str) -> HypothesisTest:
    """Return a test without a statistic."""
    return HypothesisTest(kind, hypothesis, np.nan, df, np.nan, reason)


def wald(constraints: Constraints, params: Array, covariance: Array, unseen: Unseen | None) -> HypothesisTest:
    """Test by the estimate's distance from the hypothesis.

    Parameters
    ----------
    constraints : Constraints
    params : ndarray of shape (n_classes, p)
        The symmetric rows.
    covariance : ndarray of shape (n_classes, p, n_classes, p)
        Theirs.
    unseen : Unseen or None
        What the data do not determine: combinations of the constraints that do not touch it are tested.

    Raises
    ------
    ValueError
        If the constraints contradict each other.
    """
    constraints, n_unseen = constraints.independent(), 0
    if unseen is not None:
        constraints, n_unseen = constraints.without(*unseen.parts(constraints.matrix), SEEN)
    matrix, df, note = constraints.matrix.reshape(-1, params.size), len(constraints.matrix), _unseen_note(n_unseen)
    if not df:
        return impossible("wald", constraints.text, df, note)
    used = matrix.any(axis=0)
    matrix, flat = matrix[:, used], covariance.reshape(2 * (params.size,))[np.ix_(used, used)]
    if np.isnan(flat).any():
        return impossible("wald", constraints.text, df, "a coefficient has no standard error")
    variance = matrix @ flat @ matrix.T
    difference = matrix @ params.ravel()[used] - constraints.values
    size = np.sqrt(variance.diagonal())
    unit, scaled = variance / size / size[:, np.newaxis], difference / size
    # robust covariances of fewer groups than constraints are singular
    if not (np.isfinite(unit).all() and (rank := int(np.linalg.matrix_rank(unit, tol=1e-10, hermitian=True))) == df):
        found = f"of rank {rank}" if np.isfinite(unit).all() else "not finite"
        return impossible("wald", constraints.text, df, f"the covariance of {df} constraints is {found}")
    return chi_squared_test("wald", constraints.text, scaled @ linalg.solve(unit, scaled, assume_a="pos"), df, note)


class Fitted:
    """An unpenalised fit and its data, to be compared with restricted ones.

    Parameters
    ----------
    coordinates : MetricCoordinates
    u : ndarray of shape (n_coordinates,)
        The estimate.
    log_likelihood : float
    """

    def __init__(self, coordinates: MetricCoordinates, u: Array, log_likelihood: float) -> None:
        self.coordinates = coordinates
        self.u = u
        self.log_likelihood = log_likelihood
        self.factor = hessian_factor(coordinates, u) if 0 < len(u) <= DENSE_LIMIT else None

    def restricted(self, plane: Plane) -> tuple[RestrictedCoordinates, Maximum]:
        """Maximise on the plane.

        The start is its point that is nearest in the information's metric: where the Wald test expects the maximum.
        """
        restricted = RestrictedCoordinates(self.coordinates, plane)
        # without information, as of separated samples, the estimate is far off: from 0
        start = self.u if self.factor is not None or len(self.u) > DENSE_LIMIT else np.zeros_like(self.u)
        if self.factor is not None:
            directions = linalg.cho_solve(self.factor, plane.A.T)
            gain = linalg.lstsq(plane.A @ directions, plane.b - plane.A @ start)[0]
            start = start + directions @ gain
        return restricted, maximize(restricted, init=self.coordinates.params(start), exists=True)


def hessian_factor(coordinates: MetricCoordinates, u: Array) -> tuple[Array, bool] | None:
    """Return the mean loss's Hessian's Cholesky factor at u, for scipy.linalg.cho_solve; None if it is singular."""
    try:
        return linalg.cho_factor(coordinates.hessian(u))
    except (linalg.LinAlgError, ValueError):  # as of separated samples
        return None


def likelihood_ratio(fitted: Fitted, constraints: Constraints) -> HypothesisTest:
    """Test by what the restricted maximum lacks of the likelihood; `fitted` is a maximum.

    Raises
    ------
    ValueError
        If the constraints contradict each other.
    """
    return _restricted_test("lr", fitted, constraints, lambda _, maximum: 2.0 * max(
        fitted.log_likelihood - maximum.log_likelihood, 0.0))


def score(fitted: Fitted, constraints: Constraints) -> HypothesisTest:
    """Test by the slope of the likelihood at the restricted maximum, in the information there.

    Raises
    ------
    ValueError
        If the constraints contradict each other.
    """
    coordinates = fitted.coordinates

    def statistic(restricted: RestrictedCoordinates, maximum: Maximum) -> float:
        u = restricted.point(maximum.u)
        slope = restricted.fixed_part(coordinates.loss_and_gradient(u)[1])  # along the plane it is rounding error
        factor = hessian_factor(coordinates, u)
        return np.nan if factor is None else coordinates.total_mass * float(slope @ linalg.cho_solve(factor, slope))

    return _restricted_test("score", fitted, constraints, statistic)


def _restricted_test(kind: str, fitted: Fitted, constraints: Constraints,
                     statistic: Callable[[RestrictedCoordinates, Maximum], float]) -> HypothesisTest:
    constraints = constraints.independent()
    plane = plane_of(fitted.coordinates, constraints)
    df, note = len(plane.A), _unseen_note(plane.n_unseen)
    if not df:
        return impossible(kind, constraints.text, df, note)
    restricted, maximum = fitted.restricted(plane)
    if not maximum.success:
        return impossible(kind, constraints.text, df, _uncertified(maximum))
    value = statistic(restricted, maximum)
    if np.isnan(value):
        return impossible(kind, constraints.text, df, "the information at the restricted estimate is singular")
    return chi_squared_test(kind, constraints.text, value, df, note)


def score_of_columns(coordinates: MetricCoordinates, params: Array, extra: NDArray[np.float64],
                     text: str) -> HypothesisTest:
    """Test, from the fit `params` without them, whether further columns of X have an effect.

    Parameters
    ----------
    coordinates : MetricCoordinates
        Of the fit without them.
    params : ndarray of shape (n_classes, p)
    extra : ndarray of shape (n_samples, n_extra)
    text : str
        What to call the hypothesis.
    """
    samples = coordinates.objective.samples
    d = samples.n_features
    joined = samples.replace(X=JoinedColumns(samples.X, extra), shift=None, scale=None, single=False)
    more = MetricCoordinates(SoftmaxObjective.from_samples(joined, np.zeros(joined.n_features)))
    u = more.coordinates(np.insert(params, [d] * extra.shape[1], 0.0, axis=1))
    return score(Fitted(more, u, np.nan), all_zero(range(d, joined.n_features), joined.params_shape, text))


def _uncertified(maximum: Maximum) -> str:
    return (f"the maximum under the hypothesis is not certified (scaled gradient "
            f"{maximum.certificate.gradient_norm:.2g}): separated samples have none, and a value that no data could "
            f"give puts it out of reach")


def check_nested(full: SoftmaxResult, nested: SoftmaxResult) -> None:
    """Raise ValueError, with the reason, unless `nested` is a smaller model of the same samples."""
    # without an intercept the null model is another one
    compared = ["weight_type", "nobs", *(["null_log_likelihood"] if full.fit_intercept == nested.fit_intercept else [])]
    ours, theirs = ([result.classes.tolist(), *(getattr(result, name) for name in compared)]
                    for result in (full, nested))
    for name, our, their in zip(["classes", *compared], ours, theirs, strict=True):
        if not (np.isclose(our, their, rtol=1e-9, atol=1e-9) if isinstance(our, float) else our == their):
            dropped = "" if nested.n_missing == full.n_missing else (
                f" ({nested.n_missing} and {full.n_missing} rows were left out for missing values: fit both to the "
                f"rows that are complete in both)")
            raise ValueError(f"nested has {name} {their}, and this result has {our}; fits of the same samples are "
                             f"wanted{dropped}")
    if nested.n_params >= full.n_params:
        raise ValueError(f"nested has {nested.n_params} parameters, and this result has {full.n_params}; fewer are "
                         f"wanted")
    contained = set(nested.feature_names) <= set(full.feature_names) and nested.fit_intercept <= full.fit_intercept
    if full._coordinates is not None and nested._coordinates is not None:
        samples, fewer = full._coordinates.objective.samples, nested._coordinates.objective.samples
        _check_same_samples(samples, fewer)
        _check_nested_columns(samples, fewer)
    elif not contained:
        raise ValueError(f"nested has the features {', '.join(nested.feature_names)}, which are not all among this "
                         f"result's; whether its model is nested cannot be seen without the data of both")
    if nested.log_likelihood > full.log_likelihood + 1e-9 * max(1.0, abs(full.log_likelihood)):
        raise ValueError(f"nested has the log-likelihood {nested.log_likelihood}, more than this result's "
                         f"{full.log_likelihood}; it is not nested in it")


def _check_same_samples(full: DenseSamples, nested: DenseSamples) -> None:
    """Raise ValueError unless labels or counts, weights and offset are the same."""
    for name, ours, theirs in (("rows", full.n_samples, nested.n_samples), ("y", full.codes, nested.codes),
                               ("y", full.counts, nested.counts), ("sample_weight", full.weights, nested.weights),
                               ("offset", full.offset, nested.offset)):
        if (ours is None) != (theirs is None) or not np.array_equal(ours, theirs):  # type: ignore[arg-type]
            raise ValueError(f"nested has other {name} than this result; fits of the same samples are wanted")


def _check_nested_columns(full: DenseSamples, nested: DenseSamples) -> None:
    """Raise ValueError unless the columns of `nested` are combinations of those of `full`.

    What a combination leaves of a column has the squared length G_nn - G_nf G_ff^+ G_fn, G the Gram matrix of both.
    """
    joined = full.replace(X=JoinedColumns(full.X, nested.X), shift=None, scale=None, single=False)
    with_intercept = full.fit_intercept or nested.fit_intercept
    gram = joined.standardized(joined.column_totals()).replace(fit_intercept=with_intercept).gram()
    ours = np.arange(len(gram)) < full.n_features
    if full.fit_intercept:  # what is left beside it: of a column nearly constant, too
        gram = gram[:-1, :-1] - np.outer(gram[:-1, -1], gram[-1, :-1]) / gram[-1, -1]
        ours = ours[:-1]
    size = np.sqrt(np.where(gram.diagonal() > 0, gram.diagonal(), 1.0))
    gram = gram / size / size[:, np.newaxis]
    values, vectors = linalg.eigh(gram[np.ix_(ours, ours)])
    seen = values > 1e-13 * values.max(initial=0.0)
    explained = np.square(vectors[:, seen].T @ gram[np.ix_(ours, ~ours)]) / values[seen, np.newaxis]
    left = gram.diagonal()[~ours] - explained.sum(axis=0)
    if (left > 1e-12).any():
        raise ValueError("nested has columns that are no combinations of this result's; a nested model is wanted")


def _unseen_note(n_unseen: int) -> str:
    return f"without {n_unseen} of the constraints, of collinear columns: the data cannot tell" if n_unseen else ""
