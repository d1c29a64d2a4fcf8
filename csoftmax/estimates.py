"""Tables of estimates with standard errors by the delta method; those of coefficients, which need no data.

`margins`, `probabilities`, `report` and `result` stand on it. It stands on `inference`, `summary` and `tables`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm

from csoftmax.inference import rebase_covariance, two_sided_pvalues
from csoftmax.samples import Array, pair_indices
from csoftmax.summary import Summary, SummaryBlock
from csoftmax.tables import import_pandas

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class EstimateTable:
    """Estimates, in rows for classes (or pairs of classes) and columns for names, as `SoftmaxResult.params`.

    Its str() is a table, and a notebook shows one.

    Attributes
    ----------
    title : str
    quantity : str
        What an estimate is: "dP/dx", "dP" (differences among them), "probability", "log odds", "ratio".
    groups : list
        Classes, or "a vs b" for pairs of them, of the rows.
    names : list of str
        Of the columns.
    estimate, std_error : ndarray of shape (n_groups, n_names)
    covariance : ndarray of shape (n_groups * n_names, n_groups * n_names), or None
        In the order of ``estimate.ravel()``; None in a table of coefficients: `SoftmaxResult.cov_params` has it.
    exponentiated : bool
        z, p-values and intervals are those of log(estimate): of no ratio other than 1, interval ends exponentiated.
    response : str
        What the classes are of; for the printed table.
    notes : list of str
        What the standard errors are, or why there are none.

    Examples
    --------
    >>> import csoftmax as cs
    >>> result = cs.fit([[0.0], [1.0], [2.0], [3.0]], ["a", "b", "a", "b"])
    >>> table = result.margins()
    >>> table.groups, table.names, table.estimate.round(4).tolist(), table.std_error.round(4).tolist()
    (['a', 'b'], ['x1'], [[-0.1816], [0.1816]], [[0.1328], [0.1328]])
    """

    title: str
    quantity: str
    groups: list[Any]
    names: list[str]
    estimate: Array
    std_error: Array
    covariance: Array | None = None
    exponentiated: bool = False
    response: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def zvalues(self) -> Array:
        """Estimates over standard errors, of the shape of `estimate`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.exponentiated:
                return np.log(self.estimate) * self.estimate / self.std_error
            return self.estimate / self.std_error

    @property
    def pvalues(self) -> Array:
        """Two-sided p-values of the hypothesis that an estimate is 0 (a ratio: 1)."""
        return two_sided_pvalues(self.zvalues)

    def conf_int(self, *, level: float = 0.95) -> Array:
        """Return Wald intervals, of shape (n_groups, n_names, 2).

        Raises
        ------
        ValueError
            If `level` is not between 0 and 1.
        """
        half = normal_quantile(level) * self.std_error
        with np.errstate(over="ignore", invalid="ignore"):
            if self.exponentiated:
                half /= self.estimate
                return np.stack([self.estimate * np.exp(-half), self.estimate * np.exp(half)], axis=-1)
        return np.stack([self.estimate - half, self.estimate + half], axis=-1)

    def contrasts(self) -> EstimateTable:
        """Return the differences between the names, each pair of them, in every group: pairwise comparisons.

        No p-value or interval is adjusted for their number.

        Raises
        ------
        ValueError
            If the table has no covariance, or one name.

        Examples
        --------
        >>> import csoftmax as cs
        >>> result = cs.fit([[0.0], [1.0], [2.0], [3.0]], ["a", "b", "a", "b"])
        >>> difference = result.predicted_margins({"x1": [0.0, 3.0]}).contrasts()
        >>> difference.names, difference.estimate.round(4).tolist(), difference.std_error.round(4).tolist()
        (['x1=3 vs x1=0'], [[-0.5923], [0.5923]], [[0.5284], [0.5284]])
        """
        if self.covariance is None:
            raise ValueError(f"contrasts need the covariance, which the table {self.title!r} is without")
        if len(self.names) < 2:
            raise ValueError(f"contrasts need two names or more; the table has {', '.join(map(repr, self.names))}")
        first, second = pair_indices(len(self.names))
        shape = self.estimate.shape
        part = self.covariance.reshape(*shape, *shape)
        part = part[:, second] - part[:, first]
        part = part[:, :, :, second] - part[:, :, :, first]
        size = part.shape[0] * part.shape[1]
        differences = table_of(f"{self.title}: differences", "difference", self.groups,
                               [f"{self.names[b]} vs {self.names[a]}" for a, b in zip(first, second, strict=True)],
                               self.estimate[:, second] - self.estimate[:, first], part.reshape(size, size))
        return replace(differences, response=self.response, notes=self.notes)

    def summary(self, *, level: float = 0.95) -> Summary:
        """Return a table to read: text by `print`, HTML in a notebook or by `to_html()`, LaTeX by `to_latex()`."""
        return Summary(self.title, ([], []), self.blocks(level), level, self.notes, estimate_label=self.quantity)

    def blocks(self, level: float) -> list[SummaryBlock]:
        """Return the groups as a `Summary` shows them."""
        values = np.stack(list(self._columns(level).values()), axis=-1)
        return [SummaryBlock(f"{self.response}={group}" if self.response else str(group), self.names, rows)
                for group, rows in zip(self.groups, values, strict=True)]

    def _columns(self, level: float) -> dict[str, Array]:
        low, high = np.moveaxis(self.conf_int(level=level), -1, 0)
        return {"estimate": self.estimate, "std_error": self.std_error, "z": self.zvalues, "pvalue": self.pvalues,
                "lower": low, "upper": high}

    def __str__(self) -> str:
        return str(self.summary())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return self.summary().to_html()

    def to_frame(self, *, level: float = 0.95) -> pd.DataFrame:
        """Return a data frame with a row for each group and name, as `SoftmaxResult.to_frame` does.

        Columns: class (a pair of classes in a table of contrasts), feature (or the effect), estimate, std_error, z,
        pvalue, lower, upper.

        Raises
        ------
        ImportError
            Without pandas: pip install "csoftmax[formula]".
        """
        n_groups, n_names = self.estimate.shape
        return import_pandas().DataFrame({
            "class": [group for group in self.groups for _ in range(n_names)], "feature": self.names * n_groups,
            **{name: values.ravel() for name, values in self._columns(level).items()}})


def table_of(title: str, quantity: str, groups: list[Any], names: list[str], estimate: Array,
             covariance: Array) -> EstimateTable:
    """Return the table of estimates whose covariance, in the order of ``estimate.ravel()``, is given."""
    errors = np.sqrt(np.maximum(covariance.diagonal(), 0.0)).reshape(estimate.shape)  # the maximum keeps nan
    return EstimateTable(title, quantity, groups, names, estimate, errors, covariance)


def class_contrasts(params: Array, covariance: Array, classes: list[Any], names: list[str]) -> EstimateTable:
    """Return w~_b - w~_a of each pair of classes a < b: the log odds of b against a.

    Parameters
    ----------
    params : ndarray of shape (n_classes, p)
        With any class as reference.
    covariance : ndarray of shape (n_classes, p, n_classes, p)
        Var(w_bf - w_af) = Sigma_bf,bf - 2 Sigma_bf,af + Sigma_af,af.
    """
    first, second = pair_indices(len(classes))
    column = np.arange(params.shape[1])
    variances = np.empty((len(first), len(column)))
    for pair, (a, b) in enumerate(zip(first, second, strict=True)):
        variances[pair] = (covariance[b, column, b, column] - covariance[b, column, a, column]
                           - covariance[a, column, b, column] + covariance[a, column, a, column])
    return EstimateTable("Contrasts of classes", "log odds",
                         [f"{classes[b]} vs {classes[a]}" for a, b in zip(first, second, strict=True)], names,
                         params[second] - params[first], np.sqrt(np.maximum(variances, 0.0)))


def relative_risk_ratios(params: Array, covariance: Array, classes: list[Any], reference: int,
                         names: list[str]) -> EstimateTable:
    """Return exp(w~_k - w~_r) of the classes k other than the reference r; std_error = ratio * that of w~_k - w~_r."""
    keep = [k for k in range(len(classes)) if k != reference]
    based = rebase_covariance(covariance, reference)
    column = np.arange(params.shape[1])
    variances = np.array([based[k, column, k, column] for k in keep])
    with np.errstate(over="ignore"):
        ratios = np.exp((params - params[reference])[keep])
    with np.errstate(invalid="ignore"):
        errors = ratios * np.sqrt(np.maximum(variances, 0.0))
    return EstimateTable(f"Relative risk ratios against {classes[reference]}", "ratio", [classes[k] for k in keep],
                         names, ratios, errors, exponentiated=True)


def normal_quantile(level: float) -> float:
    """Return z with P(|Z| <= z) = level; raises ValueError unless level is between 0 and 1."""
    if not (isinstance(level, Real) and 0.0 < level < 1.0):
        raise ValueError(f"level is {level!r}; a number between 0 and 1 is wanted")
    return float(norm.ppf(0.5 + level / 2.0))
