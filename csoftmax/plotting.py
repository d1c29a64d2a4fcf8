"""Pictures of what csoftmax found, by matplotlib.

`result` and `path` stand on it, and users through them. It stands on matplotlib, which it imports where it draws.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from csoftmax.path import RegularizationPath
    from csoftmax.result import SoftmaxResult

# Okabe & Ito's colours without black and yellow, told apart by colour-blind readers; then the same ones dashed.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_STYLES = ("-", "--", ":")
_INK, _GREY = "#333333", "#c4c4c4"


def _import_pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError('a picture needs matplotlib, which is not installed: pip install "csoftmax[plot]"') from error
    return pyplot


def plot_path(path: RegularizationPath, axes: Sequence[Any] | None, n_labels: int) -> NDArray[Any]:
    """Draw a path: a panel for each class, coefficients against the penalty, large penalties left."""
    pyplot = _import_pyplot()
    from matplotlib.ticker import MaxNLocator, NullFormatter
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
        _plain_axes(panel)
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


def plot_coefficients(result: SoftmaxResult, features: str | Sequence[str] | None, intercept: bool, level: float,
                      axes: Any) -> NDArray[Any]:
    """Draw a panel for each feature: coefficients of different units share no axis."""
    pyplot = _import_pyplot()
    from matplotlib.ticker import MaxNLocator
    if result._separated:
        raise ValueError(f"the coefficients grow without bound, there is nothing to draw: {result.message}")
    names = list(result.feature_names)
    features = [features] if isinstance(features, str) else features
    if any(name not in names for name in features or []):
        raise ValueError(f"features is {features!r}; a list of some of {', '.join(map(repr, names))} is wanted")
    columns = [names.index(name) for name in (names if features is None else features)]
    titles = [names[i] for i in columns]
    if intercept and result.fit_intercept:
        columns.append(len(names))
        titles.append("Intercept")
    if not columns:
        raise ValueError("there is no coefficient to draw: features is empty, and there is no intercept to be shown")
    labels = result.classes.tolist()
    shown = [k for k, label in enumerate(labels) if label != result.reference]
    params, limits = result.params, result._with_known_covariance().conf_int(level=level)
    if axes is None:
        n_columns = min(len(columns), 4)
        n_rows = -(-len(columns) // n_columns)
        figure, grid = pyplot.subplots(n_rows, n_columns, sharey=True, squeeze=False, layout="constrained",
                                       figsize=(2.3 * n_columns + 1.4, (0.28 * len(shown) + 1.0) * n_rows + 0.4))
        against = "all rows" if result.reference is None else f"against {result.response_name}={result.reference}"
        figure.supxlabel(f"coefficient ({against})", fontsize=9, color=_INK)
        for spare in grid.ravel()[len(columns):]:
            spare.remove()
        panels = grid.ravel()[:len(columns)]
        first = panels[::n_columns]
    else:
        panels = np.array(axes, dtype=object).ravel()
        if len(panels) != len(columns):
            raise ValueError(f"axes has {len(panels)} axes; {len(columns)} are wanted, one for each panel")
        first = panels
    rows = np.arange(len(shown))
    for panel, i, title in zip(panels, columns, titles, strict=True):
        panel.axvline(0.0, color=_GREY, linewidth=1.0, zorder=0)
        for row, k in zip(rows, shown, strict=True):
            low, high = limits[k, i]
            panel.plot([low, high], [row, row], color=_colour(k), linewidth=1.8, solid_capstyle="butt")
            panel.plot(params[k, i], row, "o", color=_colour(k), markersize=5)
        long = len(title) > 24
        panel.set_title(_broken(title) if long else title, color=_INK, fontsize=7 if long else 10)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        _plain_axes(panel)
    for panel in first:
        panel.set_yticks(rows, [str(labels[k]) for k in shown])
        panel.set_ylim(len(shown) - 0.4, -0.6)
        panel.set_ylabel(result.response_name, fontsize=9, color=_INK)
    return panels


def plot_probabilities(result: SoftmaxResult, feature: str, values: Any, at: Mapping[str, Any], X: Any,
                       classes: Sequence[Any] | None, level: float, ax: Any) -> Any:
    """Draw the probabilities of classes against one feature."""
    labels = result.classes.tolist()
    shown = list(labels if classes is None else classes)
    if isinstance(classes, str) or not shown or any(label not in labels for label in shown):
        raise ValueError(f"classes is {classes!r}; a list of some of {', '.join(map(repr, labels))} is wanted")
    if not isinstance(at, Mapping):
        raise TypeError(f"at is {at!r}; a mapping of features to values is wanted")
    typical = result._typical_values(X)
    if not typical:
        raise ValueError("the model has no feature to draw probabilities against")
    for argument, name in [("feature", feature), *(("at", name) for name in at)]:
        if name not in typical:
            raise ValueError(f"{argument} names {name!r}; one of {', '.join(map(repr, typical))} is wanted")
    if feature in at:
        raise ValueError(f"at holds {feature!r} still, which is the feature to be drawn")
    levels = typical[feature].get("levels")
    if values is not None:
        points = list(values)
    elif levels is None:
        points = np.linspace(typical[feature]["low"], typical[feature]["high"], 101).tolist()
    else:
        points = levels
    if not points:
        raise ValueError(f"{feature!r} has more than 100 levels; values=, some of them, is wanted")
    held = {name: at.get(name, known["value"]) for name, known in typical.items()}
    rows = {name: points if name == feature else [value] * len(points) for name, value in held.items()}
    if result.design is not None:
        matrix = result.design.matrix(rows)
    else:
        for name, value in at.items():
            if np.ndim(value) or np.asarray(value).dtype.kind not in "biuf":
                raise ValueError(f"at has {value!r} for {name!r}; a number is wanted")
        matrix = np.array(list(rows.values()), dtype=np.float64).T
    intervals = result._with_known_covariance().predict_proba_interval(matrix, level=level)
    probability, low, high = intervals.estimate, intervals.lower, intervals.upper

    pyplot = _import_pyplot()
    legend_on: Any
    if ax is None:
        legend_on, ax = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
    else:
        legend_on = ax
    handles = []
    for place, label in enumerate(shown):
        k = labels.index(label)
        colour, style = _colour(k), _STYLES[k // len(_COLOURS) % len(_STYLES)]
        if levels is None:
            handles += ax.plot(points, probability[:, k], color=colour, linestyle=style, linewidth=1.8,
                               label=str(label))
            ax.fill_between(points, low[:, k], high[:, k], color=colour, alpha=0.15, linewidth=0)
        else:
            # side by side about the level's place
            x = np.arange(len(points)) + (place - (len(shown) - 1) / 2) * 0.6 / len(shown)
            ax.vlines(x, low[:, k], high[:, k], color=colour, linewidth=1.8)
            handles += ax.plot(x, probability[:, k], "o", color=colour, markersize=5, label=str(label), clip_on=False,
                               markerfacecolor=colour if style == "-" else "white")
    if levels is None:
        if min(points) < max(points):
            ax.set_xlim(min(points), max(points))
    else:
        ax.set_xticks(np.arange(len(points)), [f"{point:g}" if isinstance(point, float) else str(point)
                                               for point in points])
        ax.set_xlim(-0.5, len(points) - 0.5)
    ax.set_ylim(0.0, 1.0)
    ax.set_title(_held_text({name: value for name, value in held.items() if name != feature}), fontsize=8, color=_INK,
                 loc="left")
    ax.set_xlabel(feature, fontsize=9, color=_INK)
    ax.set_ylabel("probability", fontsize=9, color=_INK)
    _plain_axes(ax)
    where = {"loc": "outside right upper"} if legend_on is not ax else {"loc": "best"}
    legend_on.legend(handles=handles, title=result.response_name, title_fontsize=9, fontsize=8, frameon=False,
                     ncols=-(-len(shown) // 20), **where)
    return ax


def plot_convergence(result: SoftmaxResult, axes: Any) -> NDArray[Any]:
    """Draw the gradient's norm, and what was still to gain, against the iteration."""
    pyplot = _import_pyplot()
    from matplotlib.ticker import MaxNLocator
    history = result.history
    if history is None:
        raise ValueError("this result has no history of its iterations: JSON does not keep it")
    if axes is None:
        _, axes = pyplot.subplots(2, 1, sharex=True, figsize=(6.4, 4.8), layout="constrained")
    panels = np.array(axes, dtype=object).ravel()
    if len(panels) != 2:
        raise ValueError(f"axes has {len(panels)} axes; 2 are wanted, of the gradient and of the log-likelihood")
    iterations = np.arange(1, len(history.gradient_norm) + 1)
    gain = history.penalized_log_likelihood[-1] - history.penalized_log_likelihood
    what = "log-likelihood to gain" if result.success else "L below the last point's"
    for panel, values, name in ((panels[0], history.gradient_norm, "gradient norm"), (panels[1], gain, what)):
        values = np.where(values > 0, values, np.nan)  # a logarithm of no more than that
        panel.plot(iterations, values, "-o", color=_COLOURS[0], linewidth=1.4, markersize=4)
        if np.isfinite(values).any():
            panel.set_yscale("log")
        else:
            panel.set_yticks([])
            panel.text(0.5, 0.5, "no change", transform=panel.transAxes, ha="center", fontsize=9, color=_INK)
        panel.set_ylabel(name, fontsize=9, color=_INK)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        _plain_axes(panel)
    if not result.success:
        panels[0].set_title("not a maximum", fontsize=9, color=_INK)
    moved = len(iterations) < 2 or history.gradient_norm[-1] != history.gradient_norm[-2]
    last = "(last: after the Newton steps at the end)" if moved else "(last: where it stopped)"
    panels[1].set_xlabel(f"iteration {last}", fontsize=9, color=_INK)
    return panels


def _held_text(held: Mapping[str, Any], width: int = 70) -> str:
    """Return "at a=1.5, b=low", of as many as there is room for."""
    texts = [f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in held.items()]
    n = len(texts)
    while n > 1 and len(", ".join(texts[:n])) > width:
        n -= 1
    more = f" and {len(texts) - n} more" if n < len(texts) else ""
    return f"at {', '.join(texts[:n])}{more}" if texts else ""


def _broken(title: str, width: int = 36) -> str:
    """Return a long title in lines, at the colons of an interaction; so many small letters are as wide as a panel."""
    lines = [""]
    for part in re.split("(?<=:)", title):
        if len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(textwrap.fill(line, width) for line in lines if line)


def _colour(k: int) -> str:
    return _COLOURS[k % len(_COLOURS)]


def _plain_axes(panel: Any) -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8, colors=_INK)
