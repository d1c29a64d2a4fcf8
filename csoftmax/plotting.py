"""Pictures of what csoftmax found, by matplotlib.

`path` stands on it, and users through it. It stands on matplotlib, which it imports where it draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from csoftmax.path import RegularizationPath

# Okabe & Ito's colours without black and yellow, told apart by colour-blind readers; then the same ones dashed.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_STYLES = ("-", "--", ":")
_INK, _GREY = "#333333", "#c4c4c4"


def plot_path(path: RegularizationPath, axes: Sequence[Any] | None, n_labels: int) -> NDArray[Any]:
    """Draw a path: a panel for each class, coefficients against the penalty, large penalties left."""
    try:
        from matplotlib import pyplot
        from matplotlib.ticker import MaxNLocator, NullFormatter
    except ImportError as error:
        raise ImportError('a picture needs matplotlib, which is not installed: pip install "csoftmax[plot]"') from error
    n_classes, d = len(path.classes), len(path.feature_names)
    legend_on: Any
    if axes is None:
        n_columns = min(n_classes, 4)
        n_rows = -(-n_classes // n_columns)
        legend_on, grid = pyplot.subplots(n_rows, n_columns, figsize=(3.1 * n_columns + 1.2, 2.7 * n_rows + 0.3),
                                          sharex=True, sharey=True, squeeze=False, layout="constrained")
        for spare in grid.ravel()[n_classes:]:
            spare.remove()
        panels = grid.ravel()[:n_classes]
        first, below = panels[::n_columns], panels[max(0, n_classes - n_columns):]
    else:
        panels = np.array(axes, dtype=object).ravel()
        if len(panels) != n_classes:
            raise ValueError(f"axes has {len(panels)} axes; {n_classes} are wanted, one for each class")
        legend_on, first, below = panels[-1], panels[:1], panels
    factor = np.where(path.penalty_factor > 0, path.penalty_factor, 1.0)
    drawn = path.coef * factor
    reach = np.abs(drawn).max(axis=(0, 1))
    named = [int(i) for i in np.argsort(-reach, kind="stable")[:min(n_labels, len(_COLOURS) * len(_STYLES))]
             if reach[i] > 0]
    handles: list[Any] = []
    for k, panel in enumerate(panels):
        panel.axhline(0.0, color=_INK, linewidth=0.8)
        for i in (i for i in range(d) if i not in named):
            panel.plot(path.penalties, drawn[:, k, i], color=_GREY, linewidth=0.8, zorder=1)
        lines = [panel.plot(path.penalties, drawn[:, k, i], color=_COLOURS[rank % len(_COLOURS)], linewidth=1.6,
                            linestyle=_STYLES[rank // len(_COLOURS)], label=path.feature_names[i])[0]
                 for rank, i in enumerate(named)]
        handles = handles or lines
        panel.set_xscale("log")
        if len(path.penalties) > 1:
            panel.set_xlim(path.penalties[0], path.penalties[-1])
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.yaxis.set_major_locator(MaxNLocator(5))
        panel.set_title(str(path.classes[k]), fontsize=10, color=_INK)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8, colors=_INK)
    plain = bool((factor == 1.0).all())
    for panel in first:
        panel.set_ylabel("coefficient" if plain else "coefficient x penalty factor", fontsize=9, color=_INK)
    for panel in below:
        panel.set_xlabel("penalty", fontsize=9, color=_INK)
        panel.tick_params(labelbottom=True)
    if handles:
        where = {"loc": "outside right upper"} if axes is None else {"loc": "best"}
        legend_on.legend(handles=handles, fontsize=8, frameon=False, **where)
    return panels
