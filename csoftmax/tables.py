"""Numbers and names as they stand in a table: as text, in HTML and in LaTeX.

`summary`, `comparison` and all that makes data frames stand on it. It stands on nothing.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

# what LaTeX takes for something else, also in the OT1 encoding, where < > | " print other signs
_LATEX = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
          "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}",
          "|": r"\textbar{}", '"': "''", "`": r"\textasciigrave{}"}
_LATEX_TABLE = str.maketrans(_LATEX)

_HTML_TABLE = "border-collapse:collapse;border:none;margin:0 0 0.6em 0;font-variant-numeric:tabular-nums"
HTML_RULE = "border-top:1px solid"


def format_number(x: float) -> str:
    """Return four decimals from 1 on, four significant digits below: a coefficient of a large unit is no row of zeros.

    Examples
    --------
    >>> format_number(-150.95391), format_number(0.0034291), format_number(2.5e-7), format_number(float("nan"))
    ('-150.9539', '0.003429', '2.500e-07', 'nan')
    """
    if x != x or x == 0 or 1 <= abs(x) < 1e5:
        return f"{x:.4f}"
    return f"{x:#.4g}" if 1e-4 <= abs(x) < 1 else f"{x:.3e}"


def format_pvalue(p: float) -> str:
    """Return four decimals from 0.001 on, three significant digits below: no p-value is 0.

    Examples
    --------
    >>> format_pvalue(0.0312), format_pvalue(1.5e-21), format_pvalue(0.0)
    ('0.0312', '1.50e-21', '<1e-300')
    """
    return "<1e-300" if p < 1e-300 else f"{p:#.3g}" if p < 0.001 else f"{p:.4f}"


def wrapped(text: str, width: int) -> list[str]:
    """Return the lines of text, "log-likelihood" in one of them."""
    return textwrap.wrap(text, width, break_on_hyphens=False)


def latex_text(text: str) -> str:
    r"""Return text that LaTeX prints as it is written.

    Examples
    --------
    >>> print(latex_text("C(year)[T.2008] & 5%_a"))
    C(year)[T.2008] \& 5\%\_a
    """
    escaped = re.sub("-(?=-)", "-{}", " ".join(text.split()).translate(_LATEX_TABLE))  # two hyphens are a dash
    # a row's end, \\, takes a bracket or an asterisk at the start of the next one for its own argument
    return f"{{{escaped[0]}}}{escaped[1:]}" if escaped.startswith(("[", "*")) else escaped


def latex_value(text: str) -> str:
    r"""Return a number as `format_number` writes it, perhaps in parentheses, in mathematics; other text as text.

    Examples
    --------
    >>> print(latex_value("-2.500e-07"), latex_value("(3.000e+05)"), latex_value("0.031"), latex_value("10%"))
    $-2.500\times 10^{-7}$ ($3.000\times 10^{5}$) 0.031 10\%
    """
    number = re.fullmatch(r"(\(?)(-?\d+\.?\d*)(?:e([+-]\d+))?(\)?)", text)
    if number is None:
        return latex_text(text)
    opening, mantissa, exponent, closing = number.groups()
    if exponent is not None:
        mantissa += rf"\times 10^{{{int(exponent)}}}"
    plain = exponent is None and not mantissa.startswith("-")
    return f"{opening}{mantissa if plain else f'${mantissa}$'}{closing}"


def latex_tabular(columns: str, rows: Iterable[str]) -> list[str]:
    r"""Return the lines of a tabular with booktabs' rules; a row is `\midrule` or cells joined by ` & `."""
    body = [row if row.startswith(r"\midrule") else rf"{row} \\" for row in rows]
    return [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *body, r"\bottomrule", r"\end{tabular}"]


def latex_table(caption: str, label: str | None, tabulars: Sequence[list[str]], notes: Sequence[str]) -> str:
    """Return a floating table: its caption, tabulars one below the other, notes in small print."""
    lines = [r"% \usepackage{booktabs}", r"\begin{table}[htbp]", r"\centering", rf"\caption{{{caption}}}"]
    if label is not None:
        lines.append(rf"\label{{{label}}}")
    for i, tabular in enumerate(tabulars):
        lines += [r"\par\medskip", *tabular] if i else tabular
    if notes:
        lines += [r"\par\smallskip", rf"\parbox{{\linewidth}}{{\footnotesize {' '.join(notes)}}}"]
    return "\n".join([*lines, r"\end{table}"])


def html_cell(text: str, *, tag: str = "td", align: str = "right", style: str = "", span: int = 1) -> str:
    """Return a cell with its text escaped."""
    extra = f";{style}" if style else ""
    columns = f' colspan="{span}"' if span > 1 else ""
    return (f'<{tag}{columns} style="text-align:{align};padding:0.15em 0.7em;white-space:nowrap;border-bottom:none'
            f'{extra}">{escape(text)}</{tag}>')


def html_row(cells: Iterable[str]) -> str:
    return f'<tr style="background:none">{"".join(cells)}</tr>'


def html_table(name: str, rows: Iterable[str], *, ruled: bool = True) -> list[str]:
    """Return the lines of a table of class `name`, with a rule below if it is `ruled`."""
    rule = ";border-bottom:2px solid" if ruled else ""
    return [f'<table class="{name}" style="{_HTML_TABLE}{rule}">', "<tbody>", *rows, "</tbody>", "</table>"]


def html_notes(notes: Iterable[str], *, bold: bool = False) -> list[str]:
    weight = ";font-weight:bold" if bold else ""
    return [f'<p style="margin:0.2em 0.7em;max-width:60em{weight}">{escape(note)}</p>' for note in notes]


def import_pandas(needed_by: str = "a data frame", extra: str = "formula") -> Any:
    """Import pandas, or say who needs it and what to install."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError(f'{needed_by} needs pandas, which is not installed: pip install "csoftmax[{extra}]"') \
            from error
    return pandas
