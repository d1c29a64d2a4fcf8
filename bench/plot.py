"""A picture of one case: how many times csoftmax's time each peer takes, on a log scale.
run.py stands on it.
It stands on Matplotlib and timing.Row."""

import statistics

import matplotlib
from matplotlib import patheffects, pyplot
from timing import OURS

COLOURS = {"NumPy": "#2f55c4", "NumPy, C x n": "#6f9ae8", "SciPy": "#8a5cc2", "scikit-learn": "#d99400",
           "statsmodels": "#9c6b4e", "PyTorch": "#e8503a", "JAX": "#3ca951"}  # fmt: skip
matplotlib.use("Agg")
INK, FAINT = "#222222", "#d9d9d9"


def draw(rows, title, subtitle, path):
    """Horizontal dots in groups, one group a row of the table; the bar through a dot is the spread over rounds."""
    rows = [row for row in rows if row.peers()]
    peers = list(dict.fromkeys(name for row in rows for name in row.peers()))
    step = 1 / (len(peers) + 1.5)
    ratios = {(i, name): row.ratios(name) for i, row in enumerate(rows) for name in row.peers()}
    fastest, slowest = min(min(r) for r in ratios.values()), max(max(r) for r in ratios.values())
    # the names stand in the first group where they fit to the right of every dot
    named = next((i for i, row in enumerate(rows) if all(min(row.ratios(p)) >= 1 for p in row.peers())), 0)
    left, right = min(0.9, fastest / 1.2 if fastest < 1 else 0.9), max(slowest, 1.5) * 1.5

    figure, axes = pyplot.subplots(figsize=(9, 1.5 + len(rows) * (0.25 + 0.12 * len(peers))), layout="constrained")
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    for i in range(len(rows)):
        if i:
            axes.axhline(i - 0.5, color=FAINT, linewidth=0.8, zorder=0)
        for k, name in enumerate(peers):
            if (i, name) not in ratios:
                continue
            colour = COLOURS.get(name, INK)
            height = i + (k - (len(peers) - 1) / 2) * step
            values = ratios[i, name]
            middle = statistics.median(values)
            axes.plot([1, middle], [height, height], color=colour, linewidth=1, alpha=0.35, zorder=1)
            axes.plot([min(values), max(values)], [height, height], color=colour, linewidth=3.5, alpha=0.45, zorder=2)
            axes.plot(middle, height, "o", color=colour, markersize=6, zorder=3)
            number = f"{middle:.{0 if middle >= 100 else 1 if middle >= 10 else 2}f}"
            names = i == named
            right_of = middle >= 1 or names
            label = axes.annotate(
                f"{name}  {number}" if names else number,
                (max(1, *values) if names else max(values) if right_of else min(values), height),
                xytext=(6 if right_of else -6, 0), textcoords="offset points", ha="left" if right_of else "right",
                va="center", fontsize=8, color=colour if names else INK, fontweight="bold" if names else "normal",
            )  # fmt: skip
            label.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground="white")])
    axes.axvline(1, color=INK, linewidth=1.2, zorder=1)
    axes.set_yticks(range(len(rows)))
    axes.set_yticklabels([f"{row.label}\ncsoftmax {1e3 * row.median_seconds(OURS):.3g} ms" for row in rows], fontsize=9)
    axes.tick_params(axis="y", length=0)
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if left <= t <= right]
    axes.set_xticks(ticks, ["1\ncsoftmax" if t == 1 else f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("time / csoftmax's time (log scale)", fontsize=9)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.suptitle(title, x=0.012, ha="left", fontsize=12, fontweight="bold", color=INK)
    figure.text(0.012, 1 - 0.42 / figure.get_figheight(), subtitle, fontsize=8.5, color="#555555")
    axes.set_title(" ", fontsize=8.5)  # room for the subtitle
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
