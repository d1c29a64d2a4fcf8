"""A fitted model as a table to read: text in the shape of statsmodels' MNLogit summary, and HTML for a notebook.

`result` stands on it. It stands on nothing: it is given names and numbers.
"""

from __future__ import annotations

import itertools
import textwrap
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import NDArray

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
        Above everything but the title, where there is one.
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

    def __str__(self) -> str:
        left, right = self.facts
        label = [max((len(name) for name, _ in side), default=0) for side in (left, right)]
        value = [max((len(text) for _, text in side), default=0) for side in (left, right)]
        name_width = max([12] + [len(name) for block in self.blocks for name in [*block.names, block.title]])
        width = max(_MIN_WIDTH, name_width + 6 * 11, sum(label) + sum(value) + 8, len(self.title))
        lines = [self.title.center(width).rstrip(), "=" * width]
        if self.warning:
            lines += [*textwrap.wrap(self.warning, width), "=" * width]
        gap = width - sum(label) - sum(value) - 4
        for ours, theirs in itertools.zip_longest(left, right):
            line = f"{ours[0] + ':':<{label[0] + 1}} {ours[1]:>{value[0]}}" if ours else " " * (label[0] + value[0] + 2)
            if theirs:
                line += " " * gap + f"{theirs[0] + ':':<{label[1] + 1}} {theirs[1]:>{value[1]}}"
            lines.append(line)
        if left or right:
            lines.append("=" * width)
        column, n_columns = (width - name_width) // 6, len(self._columns())
        first = width - 6 * column
        for block in self.blocks:
            lines.append(f"{block.title:<{first}}" + "".join(f"{name:>{column}}" for name in self._columns()))
            lines.append("-" * width)
            for name, row in zip(block.names, block.values, strict=True):
                lines.append(f"{name:<{first}}" + "".join(f"{text:>{column}}" for text in format_row(row)[:n_columns]))
            lines.append("=" * width if block is self.blocks[-1] else "-" * width)
        for note in self.notes:
            lines += textwrap.wrap(note, width)
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = []
        for cells in itertools.zip_longest(*self.facts, fillvalue=("", "")):
            rows.append("<tr>" + "".join(_cell("th", f"{name}:" if name else "", "left") + _cell("td", text)
                                         for name, text in cells) + "</tr>")
        parts = [f'<table class="csoftmax-summary"><caption><b>{escape(self.title)}</b></caption>',
                 "<tbody>", *rows, "</tbody></table>"]
        if self.warning:
            parts.insert(0, f"<p><b>{escape(self.warning)}</b></p>")
        head = "".join(_cell("th", name) for name in self._columns())
        parts.append('<table class="csoftmax-coefficients" style="border-collapse:collapse">')
        for block in self.blocks:
            parts.append(f'<thead><tr style="border-bottom:1px solid">{_cell("th", block.title, "left")}{head}</tr>'
                         f"</thead><tbody>")
            for name, row in zip(block.names, block.values, strict=True):
                numbers = "".join(_cell("td", text) for text in format_row(row)[:len(self._columns())])
                parts.append(f'<tr>{_cell("th", name, "left")}{numbers}</tr>')
            parts.append("</tbody>")
        parts.append("</table>")
        parts.extend(f"<p>{escape(note)}</p>" for note in self.notes)
        return "\n".join(parts)


def _cell(tag: str, text: str, align: str = "right") -> str:
    return f'<{tag} style="text-align:{align};padding:2px 10px">{escape(text)}</{tag}>'


def format_row(row: Array) -> list[str]:
    """Return the six columns as text: four significant digits at least, three decimals for z and the p-value."""
    coefficient, error, z, p, low, high = row
    return [_number(coefficient), _number(error), f"{z:.3f}", f"{p:.3f}", _number(low), _number(high)]


def _number(x: float) -> str:
    # four decimals from 1 on, four significant digits below: a coefficient of a large unit is not a row of zeros
    if x != x or x == 0 or 1 <= abs(x) < 1e5:
        return f"{x:.4f}"
    return f"{x:#.4g}" if 1e-4 <= abs(x) < 1 else f"{x:.3e}"
