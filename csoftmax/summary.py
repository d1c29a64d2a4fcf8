"""A fitted model as a table to read: text in the shape of statsmodels' MNLogit summary, HTML for a notebook, LaTeX.

`result`, `report` and `estimates` stand on it. It stands on `tables`: it is given names and numbers.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from csoftmax import tables

Array = NDArray[np.float64]

_MIN_WIDTH = 88


@dataclass
class SummaryBlock:
    """The coefficients of one class: a title and, for each parameter, its name and the six columns."""

    title: str
    names: list[str]
    values: Array  # (n, 6): coefficient, standard error, z, p-value, lower and upper limit


@dataclass
class Summary:
    """A summary; `str()` gives text, a notebook shows HTML.

    Attributes
    ----------
    title : str
    facts : two lists of (str, str)
        The left and the right column above the coefficients.
    blocks : list of SummaryBlock
    level : float
        Of the confidence intervals.
    notes : list of str
        Below the coefficients.
    warning : str
        Below the title, where there is one; among the notes in LaTeX.
    estimates_only : bool
        Show the first of the six columns alone.
    estimate_label : str
        The head of the first column.
    """

    title: str
    facts: tuple[list[tuple[str, str]], list[tuple[str, str]]]
    blocks: list[SummaryBlock]
    level: float
    notes: list[str] = field(default_factory=list)
    warning: str = ""
    estimates_only: bool = False
    estimate_label: str = "coef"

    def _columns(self) -> list[str]:
        tail = (1.0 - self.level) / 2.0
        if self.estimates_only:
            return [self.estimate_label]
        return [self.estimate_label, "std err", "z", "P>|z|", f"[{tail:.4g}", f"{1.0 - tail:.4g}]"]

    def _rows(self, block: SummaryBlock) -> list[tuple[str, list[str]]]:
        return [(name, format_row(row)[:len(self._columns())])
                for name, row in zip(block.names, block.values, strict=True)]

    def __str__(self) -> str:
        left, right = self.facts
        label = [max((len(name) for name, _ in side), default=0) for side in (left, right)]
        value = [max((len(text) for _, text in side), default=0) for side in (left, right)]
        name_width = max([12] + [len(name) for block in self.blocks for name in [*block.names, block.title]])
        longest = max([10] + [len(text) for block in self.blocks for _, row in self._rows(block) for text in row])
        width = max(_MIN_WIDTH, name_width + 6 * (longest + 1), sum(label) + sum(value) + 8, len(self.title))
        lines = [self.title.center(width).rstrip(), "=" * width]
        if self.warning:
            lines += [*tables.wrapped(self.warning, width), "=" * width]
        gap = width - sum(label) - sum(value) - 4
        for ours, theirs in itertools.zip_longest(left, right):
            line = f"{ours[0] + ':':<{label[0] + 1}} {ours[1]:>{value[0]}}" if ours else " " * (label[0] + value[0] + 2)
            if theirs:
                line += " " * gap + f"{theirs[0] + ':':<{label[1] + 1}} {theirs[1]:>{value[1]}}"
            lines.append(line)
        if left or right:
            lines.append("=" * width)
        column = (width - name_width) // 6
        first = width - 6 * column
        for block in self.blocks:
            lines.append(f"{block.title:<{first}}" + "".join(f"{name:>{column}}" for name in self._columns()))
            lines.append("-" * width)
            for name, row in self._rows(block):
                lines.append(f"{name:<{first}}" + "".join(f"{text:>{column}}" for text in row))
            lines.append("=" * width if block is self.blocks[-1] else "-" * width)
        for note in self.notes:
            lines += tables.wrapped(note, width)
        return "\n".join(lines)

    __repr__ = __str__

    def to_html(self) -> str:
        """Return HTML, as a notebook shows it: tables with their style in them, for any page."""
        cell = tables.html_cell
        facts = [tables.html_row(cell(f"{name}:" if name else "", align="left") + cell(text, style="padding-right:2em")
                                 for name, text in cells)
                 for cells in itertools.zip_longest(*self.facts, fillvalue=("", ""))]
        rows = []
        for block in self.blocks:
            # the rule below the head, not above the first row: a notebook's own style draws none there
            head = "border-top:2px solid;border-bottom:1px solid"
            rows.append(tables.html_row([cell(block.title, tag="th", align="left", style=head),
                                         *(cell(name, tag="th", style=head) for name in self._columns())]))
            rows += [tables.html_row([cell(name, align="left"), *map(cell, row)]) for name, row in self._rows(block)]
        parts = ['<div class="csoftmax">', *tables.html_notes([self.title], bold=True)]
        if self.warning:
            parts += tables.html_notes([self.warning], bold=True)
        if facts:
            parts += tables.html_table("csoftmax-summary", facts, ruled=False)
        if rows:
            parts += tables.html_table("csoftmax-coefficients", rows)
        return "\n".join([*parts, *tables.html_notes(self.notes), "</div>"])

    _repr_html_ = to_html

    def to_latex(self, *, caption: str | None = None, label: str | None = None) -> str:
        r"""Return a LaTeX table with booktabs' rules; its document needs `\usepackage{booktabs}`.

        Parameters
        ----------
        caption : str, optional
            LaTeX, printed as it is; by default the summary's title.
        label : str, optional
            For `\ref`.

        Returns
        -------
        str
            A `table` environment. Names are escaped; letters outside Latin scripts need an engine and a font that have
            them (LuaLaTeX, XeLaTeX).

        Examples
        --------
        >>> import csoftmax as cs
        >>> result = cs.fit([[0.0], [1.0], [2.0], [3.0]], ["a", "b", "a", "b"], reference="a")
        >>> print("\n".join(result.summary().to_latex().splitlines()[-7:]))
        y=b & coef & std err & z & P\textgreater{}\textbar{}z\textbar{} & {[}0.025 & 0.975] \\
        \midrule
        x1 & 0.9082 & 1.0852 & 0.837 & 0.403 & $-1.2188$ & 3.0351 \\
        Intercept & $-1.3623$ & 1.9749 & $-0.690$ & 0.490 & $-5.2330$ & 2.5084 \\
        \bottomrule
        \end{tabular}
        \end{table}
        """
        facts = [" & ".join(part for name, text in cells
                            for part in (tables.latex_text(f"{name}:" if name else ""), tables.latex_value(text)))
                 for cells in itertools.zip_longest(*self.facts, fillvalue=("", ""))]
        head = " & ".join(map(tables.latex_text, self._columns()))
        rows: list[str] = []
        for block in self.blocks:
            rows += [r"\midrule"] if rows else []
            rows += [f"{tables.latex_text(block.title)} & {head}", r"\midrule"]
            rows += [" & ".join([tables.latex_text(name), *map(tables.latex_value, row)])
                     for name, row in self._rows(block)]
        parts = [tables.latex_tabular("lrlr", facts)] if facts else []
        if rows:
            parts.append(tables.latex_tabular("l" + "r" * len(self._columns()), rows))
        notes = [tables.latex_text(note) for note in [self.warning, *self.notes] if note]
        return tables.latex_table(tables.latex_text(self.title) if caption is None else caption, label, parts, notes)


def format_row(row: Array) -> list[str]:
    """Return the six columns as text: four significant digits at least, three decimals for z and the p-value."""
    coefficient, error, z, p, low, high = row
    number = tables.format_number
    return [number(coefficient), number(error), f"{z:.3f}" if abs(z) < 1e5 else number(z), f"{p:.3f}", number(low),
            number(high)]
