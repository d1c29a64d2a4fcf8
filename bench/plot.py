"""The pictures, one function a case: csoftmax's peers by their ratios, its kernels under the machine's roofline.
run.py stands on it.
It stands on Matplotlib, timing.Row and the numbers of cases.solvers."""

import math
import statistics

import matplotlib
from cases.solvers import DEFAULT, GAPS, UNITS
from matplotlib import patheffects, pyplot
from timing import OURS, shape_of

COLOURS = {"NumPy": "#2f55c4", "NumPy, C x n": "#6f9ae8", "SciPy": "#8a5cc2", "scikit-learn": "#d99400",
           "statsmodels": "#9c6b4e", "PyTorch": "#e8503a", "JAX": "#3ca951"}  # fmt: skip
SOLVERS = {"scikit-learn newton-cholesky": "#d99400", "scikit-learn newton-cg": "#e8503a",
           "scikit-learn lbfgs": "#8a5cc2", "scikit-learn saga": "#3ca951", "statsmodels newton": "#9c6b4e",
           "statsmodels bfgs": "#c9a38c", "NumPy BFGS": "#2f55c4"}  # fmt: skip
LEVELS = {"v4": ("#2f55c4", "AVX-512"), "v3": ("#d99400", "AVX2"), "baseline": ("#9c6b4e", "baseline")}
matplotlib.use("Agg")
INK, FAINT = "#222222", "#d9d9d9"


def likelihood(rows, about, path):
    """How many times csoftmax's time each peer takes, on a log scale.

    Horizontal dots in groups, one group a row of the table; the bar through a dot is the spread over rounds.
    """
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
    subtitle = f"n, d, C at the left; float64, {about['threads']}; {about['processor']}; {about['rounds']} rounds"
    axes.set_title(" ", fontsize=8.5)  # room for the subtitle
    finish(figure, "Log-likelihood and gradient of softmax regression", subtitle, path)


def roofline(rows, about, path):
    """GF/s over flops per byte of X, a panel for each dtype: the roofs, and a column of points for each shape.

    A bar in each column is the shape's own limit; the roofs are medians over the shapes.
    """
    rows = [row for row in rows if row.more]
    shapes = [shape_of(row.label) for row in rows]
    numbers = [{name: value for table in row.more.values() for name, value in table.items()} for row in rows]
    levels = {level: LEVELS[level] for level in LEVELS if f"{level} f64" in rows[0].values}
    named = sorted(range(len(rows)), key=lambda i: shapes[i][2])[-2]  # with room for names to the right
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 6.2), layout="constrained", sharey=True)
    drawn = []
    for axes, kind, size, gemm in zip(panels, ("f64", "f32"), (8, 4), ("dgemm", "sgemm"), strict=True):
        bandwidth, peak = (statistics.median(n[name] for n in numbers) for name in ("dot, GB/s", f"{gemm}, GF/s"))
        left, right = 6 / size, 8000 / size
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(left, right)
        axes.plot([left, peak / bandwidth, right], [left * bandwidth, peak, peak], color=INK, linewidth=1.4, zorder=1)
        axes.text(right, 1.05 * peak, f"{gemm} {peak:.0f} GF/s", ha="right", fontsize=8.5, color=INK)
        axes.text(1.1 * left, 1.3 * left * bandwidth, f"read {bandwidth:.0f} GB/s", fontsize=8.5, color=INK,
                  rotation=math.degrees(math.atan(bandwidth)), rotation_mode="anchor",
                  transform_rotates_text=True)  # fmt: skip
        drawn.append(peak)
        for i, ((n, d, n_classes), row) in enumerate(zip(shapes, rows, strict=True)):
            flops = 4 * n * d * n_classes
            # shapes of one C have one intensity: they stand beside each other
            twins = [k for k, shape in enumerate(shapes) if shape[2] == n_classes]
            side = 2 * twins.index(i) - (len(twins) - 1)
            x = 4 * n_classes / size * 1.1**side
            limit = 1e-6 * flops / numbers[i][f"{kind}, ms"]
            axes.plot(x, limit, "_", color=INK, markersize=11, markeredgewidth=1.8, zorder=2)
            drawn.append(limit)
            for level, (colour, name) in levels.items():
                height = 1e-9 * flops / row.median_seconds(f"{level} {kind} 1")
                axes.plot(x, height, "o", color=colour, markersize=6.5, markeredgecolor="white", zorder=3)
                drawn.append(height)
                if i == named:
                    # the first two levels may be next to each other: one name above its point, the other below
                    label = axes.annotate(name, (x, height), xytext=(6, 0), textcoords="offset points",
                                          va="bottom" if level == next(iter(levels)) else "top", fontsize=8,
                                          color=colour, fontweight="bold", zorder=4)  # fmt: skip
                    label.set_path_effects([patheffects.withStroke(linewidth=2.5, foreground="white")])
            axes.axvline(x, color=FAINT, linewidth=0.8, zorder=0)
            multiple = row.values[f"{next(iter(levels))} {kind}"]
            axes.annotate(f"{row.label}:  {multiple:.2f}", (x, 0), xycoords=("data", "axes fraction"), xytext=(0, 6),
                          textcoords="offset points", rotation=90, ha="center", va="bottom", fontsize=8, color=INK,
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})  # fmt: skip
        ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if left <= t <= right]
        axes.set_xticks(ticks, [f"{t}" for t in ticks])
        axes.minorticks_off()
        axes.grid(axis="y", color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=9)
        axes.set_xlabel(f"float{8 * size}: flops per byte of X, 4 n d C / bytes(X) (log scale)", fontsize=9)
        for edge in ("top", "right"):
            axes.spines[edge].set_visible(False)
    low, high = min(drawn) / 4, max(drawn) * 1.3
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if low <= t <= high]
    panels[0].set_ylim(low, high)
    panels[0].set_yticks(ticks, [f"{t}" for t in ticks])
    panels[0].minorticks_off()
    panels[0].set_ylabel("GF/s (log scale)", fontsize=9)
    panels[0].set_title(" \n ", fontsize=8.5)  # room for the subtitle
    best = next(iter(levels.values()))[1]
    subtitle = ("a bar is its shape's limit, exponentials included; at the foot of each column n, d, C: time / limit "
                f"of {best}\none thread on one core; {about['processor']}; {about['rounds']} rounds")  # fmt: skip
    finish(figure, "Log-likelihood and gradient of softmax regression under the machine's roofline", subtitle, path)


def solvers(rows, about, path):
    """Which share of the problems each solver has solved after so many times csoftmax's time at its default settings.

    A panel for each gap (down) and for raw and standardised units (across); a line is a distribution function, which
    rises to the right of 1 where csoftmax is faster, and ends below 1 where the gap was never reached.
    """
    rows = [row for row in rows if row.runs]
    figure, panels = pyplot.subplots(2, 2, figsize=(11, 7.6), layout="constrained", sharex=True, sharey=True)
    names = [name for name in SOLVERS if any(name in row.runs for row in rows)]
    slowest, fastest = 10.0, 0.5
    for across, down in ((i, k) for i in range(2) for k in range(2)):
        axes, gap = panels[down, across], GAPS[down]
        chosen = [row for row in rows if f"; {UNITS[across]}," in row.label]
        if not chosen:
            continue
        ends = []
        for name in names:
            among = [row for row in chosen if name in row.runs]
            ratios = []
            for row in among:
                base = next(seconds for tol, seconds, _ in row.runs[OURS] if tol == DEFAULT)
                reached = [seconds for _, seconds, short in row.runs[name] if short <= gap]
                ratios += [min(reached) / base] if reached else []
            ratios.sort()
            if not among:
                continue
            slowest, fastest = max([slowest, *ratios]), min([fastest, *ratios])
            shares = [(i + 1) / len(among) for i in range(len(ratios))]
            steps = [1e-9, *ratios, 1e9]
            axes.step(steps, [0, *shares, shares[-1] if shares else 0], where="post", color=SOLVERS[name],
                      linewidth=1.8, zorder=3)  # fmt: skip
            ends.append((shares[-1] if shares else 0, name))
        axes.axvline(1, color=INK, linewidth=1.4, zorder=2)
        axes.set_title(("" if down else " \n \n \n")  # room for the subtitle
                       + f"to a relative gap of {gap:g}, X in {UNITS[across]} units ({len(chosen)} problems)",
                       fontsize=9.5, loc="left", color=INK)  # fmt: skip
        # the names at the lines' ends, pushed apart
        height = 1.03
        for share, name in sorted(ends, key=lambda end: (-end[0], names.index(end[1]))):
            height = min(height - 0.055, share)
            axes.annotate(f"{name}  {share:.0%}", (1, height), xycoords=("axes fraction", "data"), xytext=(5, 0),
                          textcoords="offset points", va="center", fontsize=8, color=SOLVERS[name],
                          fontweight="bold", annotation_clip=False)  # fmt: skip
    axes.set_xscale("log")
    left, right = fastest / 1.2, slowest * 1.2
    axes.set_xlim(left, right)
    axes.set_ylim(0, 1.02)
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if left <= t <= right]
    axes.set_xticks(ticks, ["1\ncsoftmax" if t == 1 else f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    for axes in panels.flat:
        axes.grid(color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=9)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    for axes in panels[1]:
        axes.set_xlabel("time / csoftmax's time at its default settings (log scale)", fontsize=9)
    for axes in panels[:, 0]:
        axes.set_ylabel("share of the problems solved", fontsize=9)
    subtitle = ("each solver at its best tolerance for each problem; at the right the share that it solves at all "
                f"(statsmodels: of those without a penalty)\none thread on one core; {about['processor']}")  # fmt: skip
    finish(figure, "Fits of softmax regression: problems solved over time", subtitle, path)


def finish(figure, title, subtitle, path):
    """Head the figure and write it."""
    figure.suptitle(title, x=0.012, ha="left", fontsize=12, fontweight="bold", color=INK)
    figure.text(0.012, 1 - 0.31 / figure.get_figheight(), subtitle, va="top", fontsize=8.5, color="#555555")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
