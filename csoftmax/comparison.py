"""compare(): fitted models side by side, as text, HTML, LaTeX and a data frame.

Users call it. It stands on `result`, `report` and `tables`; pandas is imported where a frame is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from csoftmax import inference, report, tables
from csoftmax.objective import is_penalty
from csoftmax.result import SoftmaxResult
from csoftmax.samples import Array
from csoftmax.sandwich import ROBUST

if TYPE_CHECKING:
    import pandas as pd

_MIN_WIDTH, _MIN_COLUMN, _GAP = 64, 11, 2


@dataclass(frozen=True, eq=False)
class ComparisonBlock:
    """One class: its label and title and, for each parameter of any model, a name and a row of each array."""

    label: Any
    title: str
    names: list[str]
    params: Array  # (n_parameters, n_models); nan where the model has no such parameter
    bse: Array
    present: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Models side by side; `str()` gives text, a notebook shows HTML.

    Attributes
    ----------
    names : list of str
        Of the models, the columns.
    reference : label or None
        The class that all coefficients are against; None for the symmetric rows.
    blocks : list of ComparisonBlock
        One for each class but the reference.
    statistics : dict of str to list of str
        Numbers of observations, log-likelihoods, ...: a text for each model.
    notes : list of str
    """

    names: list[str]
    reference: Any
    blocks: list[ComparisonBlock]
    statistics: dict[str, list[str]]
    notes: list[str]

    def _cells(self, block: ComparisonBlock, row: int) -> tuple[list[str], list[str]]:
        """The coefficients of a row, and their standard errors in parentheses; empty where a model has none."""
        present = block.present[row]
        return ([tables.format_number(x) if there else "" for x, there in zip(block.params[row], present, strict=True)],
                [f"({tables.format_number(x)})" if there and x == x else ""
                 for x, there in zip(block.bse[row], present, strict=True)])

    def _pairs(self, block: ComparisonBlock) -> list[tuple[str, list[str], list[str]]]:
        return [(name, *self._cells(block, row)) for row, name in enumerate(block.names)]

    def __str__(self) -> str:
        texts = [text for block in self.blocks for _, params, bse in self._pairs(block) for text in [*params, *bse]]
        texts += [*self.names, *(text for values in self.statistics.values() for text in values)]
        first = max(len(name) for name in [*(name for block in self.blocks for name in [*block.names, block.title]),
                                           *self.statistics])
        column = max([_MIN_COLUMN, *map(len, texts)]) + _GAP
        width = max(first + column * len(self.names), _MIN_WIDTH)
        first = width - column * len(self.names)

        def line(name: str, cells: Sequence[str]) -> str:
            return (f"{name:<{first}}" + "".join(f"{text:>{column}}" for text in cells)).rstrip()

        lines = ["=" * width, line("", self.names), "-" * width]
        for block in self.blocks:
            lines.append(block.title)
            for name, params, bse in self._pairs(block):
                lines += [line(name, params), line("", bse)] if any(bse) else [line(name, params)]
            lines.append("-" * width)
        lines += [line(name, values) for name, values in self.statistics.items()]
        lines.append("=" * width)
        for note in self.notes:
            lines += tables.wrapped(note, width)
        return "\n".join(lines)

    __repr__ = __str__

    def to_html(self) -> str:
        """Return HTML, as a notebook shows it: a table with its style in it, for any page."""
        cell, row = tables.html_cell, tables.html_row
        bottom, n_columns = "border-top:2px solid;border-bottom:1px solid", len(self.names) + 1
        rows = [row([cell("", tag="th", style=bottom), *(cell(name, tag="th", style=bottom) for name in self.names)])]
        for i, block in enumerate(self.blocks):
            rule = tables.HTML_RULE if i else ""
            rows.append(row([cell(block.title, tag="th", align="left", style=rule, span=n_columns)]))
            for name, params, bse in self._pairs(block):
                rows.append(row([cell(name, align="left"), *map(cell, params)]))
                if any(bse):
                    rows.append(row(cell(text, style="padding-top:0;opacity:0.75") for text in ["", *bse]))
        for i, (name, values) in enumerate(self.statistics.items()):
            rule = "" if i else tables.HTML_RULE
            rows.append(row([cell(name, align="left", style=rule), *(cell(text, style=rule) for text in values)]))
        return "\n".join(['<div class="csoftmax">', *tables.html_table("csoftmax-comparison", rows),
                          *tables.html_notes(self.notes), "</div>"])

    _repr_html_ = to_html

    def to_latex(self, *, caption: str | None = None, label: str | None = None) -> str:
        r"""Return a LaTeX table with booktabs' rules; its document needs `\usepackage{booktabs}`.

        Parameters
        ----------
        caption : str, optional
            LaTeX, printed as it is.
        label : str, optional
            For `\ref`.
        """
        text, number = tables.latex_text, tables.latex_value
        rows = [" & ".join(["", *map(text, self.names)])]
        for block in self.blocks:
            rows += [r"\midrule", rf"\multicolumn{{{len(self.names) + 1}}}{{l}}{{\textbf{{{text(block.title)}}}}}"]
            for name, params, bse in self._pairs(block):
                rows.append(" & ".join([text(name), *map(number, params)]))
                if any(bse):
                    rows.append(" & ".join(["", *map(number, bse)]))
        rows.append(r"\midrule")
        for name, values in self.statistics.items():
            rows.append(" & ".join([text(name), *map(tables.latex_value, values)]))
        return tables.latex_table("Softmax regressions" if caption is None else caption, label,
                                  [tables.latex_tabular("l" + "r" * len(self.names), rows)], [*map(text, self.notes)])

    def to_frame(self) -> pd.DataFrame:
        """Return the coefficients and standard errors as a pandas data frame.

        Returns
        -------
        pandas.DataFrame
            A row for each class and feature (its index), and the columns (name of the model, "estimate") and (name of
            the model, "std_error"); nan where a model has none.

        Raises
        ------
        ImportError
            Without pandas: pip install "csoftmax[formula]".
        """
        pd = tables.import_pandas()
        index = pd.MultiIndex.from_tuples([(block.label, name) for block in self.blocks for name in block.names],
                                          names=["class", "feature"])
        columns = pd.MultiIndex.from_product([self.names, ["estimate", "std_error"]], names=["model", None])
        values = [np.stack([block.params, block.bse], axis=-1).reshape(len(block.names), -1) for block in self.blocks]
        return pd.DataFrame(np.concatenate([np.empty((0, 2 * len(self.names))), *values]), index, columns)


def compare(*results: SoftmaxResult, names: Sequence[str] | None = None) -> Comparison:
    """Put fitted models side by side: coefficients with their standard errors beneath, and what sums each model up.

    All are shown against the reference of the first; another model's coefficients and standard errors are re-based,
    which is exact, and said below the table. Classes and features that a model does not have are left blank.

    Parameters
    ----------
    *results : SoftmaxResult
    names : sequence of str, optional
        A different one for each model; by default (1), (2), ...

    Returns
    -------
    Comparison
        With `to_html()`, `to_latex()` and `to_frame()`.

    Raises
    ------
    TypeError
        If one is no SoftmaxResult.
    ValueError
        If there is none, if `names` are not as many or not different, if a model does not have the class that is the
        first one's reference, or if models without a reference have different classes: symmetric rows are deviations
        from the mean over a model's own classes.

    Examples
    --------
    >>> import csoftmax as cs
    >>> penguins = cs.datasets.load_penguins()
    >>> small = cs.fit_formula("species ~ flipper_length_mm", penguins)
    >>> large = cs.fit_formula("species ~ flipper_length_mm + body_mass_g", penguins)
    >>> print("\\n".join(str(cs.compare(small, large, names=["flipper", "and mass"])).splitlines()[:10]))
    ================================================================
                                                flipper     and mass
    ----------------------------------------------------------------
    species=Chinstrap
    flipper_length_mm                            0.1297       0.1747
                                              (0.02528)    (0.03139)
    body_mass_g                                            -0.001260
                                                         (0.0004499)
    Intercept                                  -25.8171     -29.8184
                                               (4.8967)     (5.3264)
    """
    for i, result in enumerate(results):
        if not isinstance(result, SoftmaxResult):
            raise TypeError(f"model {i + 1} is {type(result).__name__}; a SoftmaxResult is wanted, and several one by "
                            f"one: compare(a, b, names=[...])")
    if not results:
        raise ValueError("compare got no model; at least one SoftmaxResult is wanted")
    names = [f"({i + 1})" for i in range(len(results))] if names is None else [str(name) for name in names]
    if len(names) != len(results) or len(set(names)) != len(names):
        raise ValueError(f"names are {names}; {len(results)} different ones are wanted, one for each model")
    reference = results[0].reference
    classes = [result.classes.tolist() for result in results]
    for name, own in zip(names, classes, strict=True):
        if reference is not None and reference not in own:
            raise ValueError(f"the model {name} has no class {reference!r}, the reference of {names[0]}: its "
                             f"coefficients cannot be shown against it; fit both with a reference that both have")
        if reference is None and set(own) != set(classes[0]):
            raise ValueError(f"the models {names[0]} and {name} have different classes and no reference: symmetric "
                             f"rows are deviations from the mean over a model's own classes; fit with reference=")
    shown = [result._with_known_covariance() for result in results]
    responses = list(dict.fromkeys(result.response_name for result in results))
    return Comparison(names, reference, _blocks(shown, reference, f"{responses[0]}=" if len(responses) == 1 else ""),
                      _statistics(shown, responses), _notes(shown, names, reference))


def _blocks(results: Sequence[SoftmaxResult], reference: Any, prefix: str) -> list[ComparisonBlock]:
    """A block for each class but the reference; a separated model, whose coefficients grow without bound, has none."""
    features = list(dict.fromkeys(name for result in results for name in result.feature_names))
    names = inference.parameter_names(features, any(result.fit_intercept for result in results))
    blocks = {label: np.full((2, len(names), len(results)), np.nan)
              for label in _merged([result.classes.tolist() for result in results]) if label != reference}
    present = {label: np.zeros((len(names), len(results)), dtype=bool) for label in blocks}
    for j, result in enumerate(results):
        if result._separated:
            continue
        classes = result.classes.tolist()
        index = None if reference is None else classes.index(reference)
        params = inference.rebase_params(result._symmetric_params, index)
        errors = inference.standard_errors(inference.rebase_covariance(result._known_covariance(), index), index)
        place = [features.index(name) for name in result.feature_names]
        place += [len(features)] if result.fit_intercept else []
        for k, label in enumerate(classes):
            if label in blocks:
                blocks[label][:, place, j] = params[k], errors[k]
                present[label][place, j] = True
    shown = []
    for label, (params, errors) in blocks.items():
        rows = np.flatnonzero(present[label].any(axis=1))
        if len(rows):
            shown.append(ComparisonBlock(label, f"{prefix}{label}", [names[i] for i in rows], params[rows],
                                         errors[rows], present[label][rows]))
    return shown


def _merged(sequences: Sequence[list[Any]]) -> list[Any]:
    """The labels of all models, each behind the one before it in the first model that has it."""
    merged: list[Any] = []
    for labels in sequences:
        for i, label in enumerate(labels):
            if label not in merged:
                merged.insert(merged.index(labels[i - 1]) + 1 if i else 0, label)
    return merged


def _statistics(results: Sequence[SoftmaxResult], responses: list[str]) -> dict[str, list[str]]:
    rows: dict[str, list[str]] = {}
    if len(responses) > 1:
        rows["Dep. variable"] = [result.response_name for result in results]
    rows["No. observations"] = [f"{result.nobs:.10g}" for result in results]
    rows["No. parameters"] = [str(result.n_params) for result in results]
    rows["Log-likelihood"] = [f"{result.log_likelihood:.3f}" for result in results]
    rows["Pseudo R-squ."] = [f"{result.pseudo_r2:.5f}" for result in results]
    rows["AIC"] = [f"{result.aic:.3f}" for result in results]
    rows["BIC"] = [f"{result.bic:.3f}" for result in results]
    for penalty in ("l1", "l2"):
        if any(is_penalty(getattr(result, penalty)) for result in results):
            rows[f"{penalty} penalty"] = [report.penalty_text(getattr(result, penalty)) for result in results]
    if any(result.bias_reduction for result in results):
        rows["Bias reduction"] = [(result.bias_reduction or "none").capitalize() for result in results]
    kinds = {result.cov_type for result in results}
    if len(kinds) > 1 or kinds & {*ROBUST}:
        rows["Covariance"] = [report.covariance_name(result) for result in results]
    return rows


def _notes(results: Sequence[SoftmaxResult], names: list[str], reference: Any) -> list[str]:
    against = "No reference: all rows" if reference is None else f"Reference: {reference}"
    notes = [f"{against}. Standard errors in parentheses."]
    moved = [f"{name} from {'all rows' if result.reference is None else result.reference}"
             for name, result in zip(names, results, strict=True) if result.reference != reference]
    if moved:
        notes.append(f"Re-based, standard errors too: {', '.join(moved)}.")
    if len({result.nobs for result in results}) > 1:
        notes.append("The models have different numbers of observations: their log-likelihoods, AIC and BIC cannot be "
                     "compared.")
    for name, result in zip(names, results, strict=True):
        if own := report.model_notes(result):
            notes.append(f"{name}: {' '.join(own)}")
        if not result.success:
            notes.append(f"{name}: NOT A MAXIMUM: {result.message}")
    return notes
