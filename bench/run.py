"""The one entry point of the benchmarks: csoftmax beside its peers, in one run, one thread each.
The README's figures and the agreement checks of CI stand on it.
It stands on the cases in bench/cases; it only parses, runs, prints and draws."""

import argparse
import json
import os
import platform
import statistics
import sys
from dataclasses import asdict
from pathlib import Path

import cases
from timing import OURS, Row, Settings, geometric_means

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
           "NUMEXPR_NUM_THREADS")  # fmt: skip
KERNELS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
RESULTS = Path(__file__).parent / "results"
PICTURES = ("likelihood", "roofline", "solvers")  # the cases that plot.py has a function for
EPILOG = """\
public tables for --data, from scikit-learn:
  X, y = fetch_openml("satimage", version=1, return_X_y=True, as_frame=False)
  numpy.savez("DIR/satimage.npz", X=X.astype(float), y=y.astype(str))
  the same with "vehicle", "vowel", "shuttle", "pendigits", "glass", "cmc" and "mnist_784";
  X, y = fetch_covtype(return_X_y=True) gives covtype with its 581 012 rows

an exit status of 1 says that the contestants disagree or a claim is broken, 2 that csoftmax cannot be imported"""


def parse():
    parser = argparse.ArgumentParser(description=__doc__, epilog=EPILOG, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small tables, few rounds: checks agreement, not speed")
    parser.add_argument("--only", metavar="CASE", action="append", choices=cases.NAMES,
                        help=f"run this case only (repeatable): {', '.join(cases.NAMES)}")  # fmt: skip
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default 7, with --quick 2)")
    parser.add_argument("--data", metavar="DIR", help="add the *.npz (X, y) in DIR to fit and solvers, see below")
    parser.add_argument("--json", metavar="FILE", help="write every time and number to FILE")
    parser.add_argument("--load", metavar="FILE", help="print and draw what --json wrote, run nothing")
    parser.add_argument("--plot", metavar="FILE", type=Path,
                        help="the picture, if the case has one; with several -CASE is added to the name\n"
                             "(default bench/results/CASE.png, with --quick none)")  # fmt: skip
    parser.add_argument("--markdown", action="store_true", help="print tables to paste into the README")
    return parser.parse_args()


def one_thread():
    """Before any library is imported: one thread for each, and one core for the process where the system can.

    A BLAS takes the kernels for this processor, whatever the environment names: the peers stand on them, and the
    machine's limit. Returns what was done, in words, and the CPUs that the process had before.
    """
    for name in KERNELS:
        if name in os.environ:
            print(f"not heeded: {name}={os.environ.pop(name)}", file=sys.stderr)
    os.environ.update(dict.fromkeys(THREADS, "1"))
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false " + os.environ.get("XLA_FLAGS", "")
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if hasattr(os, "sched_setaffinity"):
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cpus[-1]})
        return "one thread each, on one core", tuple(cpus)
    return "one thread each", tuple(range(os.cpu_count() or 1))


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def measure(args):
    """Run the cases: {"about": {...}, "cases": {name: {"title", "values", "checks", "remark", "rows"}}}."""
    threads, cpus = one_thread()
    try:
        import csoftmax
    except ImportError as error:
        print(f"csoftmax cannot be imported ({error}); install it first: pip install .", file=sys.stderr)
        sys.exit(2)
    import peers

    settings = Settings(quick=args.quick, data=args.data, cpus=cpus)
    if args.quick:
        settings.rounds, settings.seconds = 2, 0.002
    settings.rounds = args.rounds or settings.rounds
    versions = peers.versions()
    versions.setdefault(OURS, getattr(csoftmax, "__version__", "?"))
    about = {"processor": processor(), "system": f"{platform.system()} {platform.machine()}", "threads": threads,
             "python": platform.python_version(), "versions": versions, "missing": peers.missing(),
             "rounds": settings.rounds, "quick": args.quick}  # fmt: skip
    report = {"about": about, "cases": {}}
    for name in args.only or cases.NAMES:
        case = cases.load(name)
        rows = []
        for row in case.run(settings):
            print(f"  {name}: {row.label}", file=sys.stderr, flush=True)
            rows.append(row)
        report["cases"][name] = {"title": case.TITLE, "values": getattr(case, "VALUES", None), "checks": case.CHECKS,
                                 "remark": getattr(case, "REMARK", None), "rows": rows}  # fmt: skip
    return report


def grid(lines, markdown):
    """Rows of cells (the first row is the head, the first column a label) as aligned text or as Markdown."""
    if markdown:
        head, *body = lines
        rule = ["---"] + ["---:"] * (len(head) - 1)
        return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *body])
    widths = [max(len(cells[i]) for cells in lines) for i in range(len(lines[0]))]
    padded = ([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])] for cells in lines)
    return "\n".join("  " + "  ".join(cells) for cells in padded)


def milliseconds(seconds):
    return f"{1e3 * seconds:.4f}" if seconds < 1e-4 else f"{1e3 * seconds:.{3 if seconds < 0.1 else 4}g}"


def times(ratio):
    return f"{ratio:.{0 if ratio >= 100 else 1 if ratio >= 10 else 2}f}"


def ratio_cell(row, peer, spread=True):
    if peer not in row.times:
        return "-"
    ratios = row.ratios(peer)
    mark = "!" if peer in row.outside_means else ""
    text = times(statistics.median(ratios)) + mark
    return text + f" ({times(min(ratios))}..{times(max(ratios))})" if spread else text


def mean_cell(means, peer, n_rows):
    if peer not in means:
        return "-"
    mean, count = means[peer]
    return times(mean) if count == n_rows else f"{times(mean)} (of {count})"


def tables(case, markdown):
    """The case's tables as text."""
    rows = case["rows"]
    timed = [row for row in rows if OURS in row.times]
    label = "n, d, C" if (timed or rows)[0].label[:1].isdigit() else ""
    if timed:
        peers = list(dict.fromkeys(name for row in timed for name in row.peers()))
        means = geometric_means(timed)
        if not markdown:
            head = [label, OURS, *peers]
            body = [[row.label, *(milliseconds(row.median_seconds(p)) if p in row.times else "-" for p in head[1:])]
                    for row in timed]  # fmt: skip
            yield "median time, ms\n" + grid([head, *body], False)
        head = [label, f"{OURS}, ms", *peers]
        body = [[row.label, milliseconds(row.median_seconds(OURS)),
                 *(ratio_cell(row, p, spread=not markdown) for p in peers)] for row in timed]  # fmt: skip
        body.append(["geometric mean", "", *(mean_cell(means, p, len(timed)) for p in peers)])
        title = "" if markdown else "time / csoftmax's time: median (min..max over rounds)\n"
        yield title + grid([head, *body], markdown)
        if any(row.outside_means for row in timed):
            yield "! stopped short of the maximum: the ratio is not in the mean"
    worded = [row for row in rows if row.cells]
    if worded:
        names = list(dict.fromkeys(name for row in worded for name in row.cells))
        body = [[row.label, *(row.cells.get(name, "") for name in names)] for row in worded]
        yield grid([["", *names], *body], markdown)
    for title in dict.fromkeys([case["values"], *(title for row in rows for title in row.more)]):
        valued = [(row.label, row.values if title == case["values"] else row.more.get(title)) for row in rows]
        valued = [(row, values) for row, values in valued if values]
        if valued:
            names = list(dict.fromkeys(name for _, values in valued for name in values))
            body = [[row, *(f"{values[n]:.3g}" if n in values else "-" for n in names)] for row, values in valued]
            yield title + ("\n\n" if markdown else "\n") + grid([[label, *names], *body], markdown)


def show(report, markdown):
    about = report["about"]
    print(f"{about['processor']}, {about['system']}, Python {about['python']}")
    print(", ".join(f"{name} {version}" for name, version in about["versions"].items()))
    print(f"float64, {about['threads']}, {about['rounds']} interleaved rounds"
          + ("; --quick: these times mean nothing" if about["quick"] else ""))  # fmt: skip
    if about["missing"]:
        print("not installed: " + ", ".join(about["missing"]))
    failures = 0
    for name, case in report["cases"].items():
        print(f"\n{'### ' if markdown else ''}{name}: {case['title']}")
        for text in tables(case, markdown):
            print("\n" + text)
        if case["remark"]:
            print("\n" + case["remark"])
        for row in case["rows"]:
            for note in row.notes:
                print(f"note: {row.label}: {note}")
        failed = [f"{row.label}: {failure}" for row in case["rows"] for failure in row.failures]
        verdict = f"{len(failed)} FAILED" if failed else f"{len(case['rows'])} rows agree"
        print(f"\nchecked ({case['checks']}): {verdict}")
        for failure in failed:
            print(f"  FAILED {failure}")
        failures += len(failed)
    return failures


def pictures(report, path):
    """Draw each case that has a picture: to `path` or, where that is None and the times mean something, to RESULTS."""
    drawn = [name for name in PICTURES if name in report["cases"]]
    if not drawn or (path is None and report["about"]["quick"]):
        return
    try:
        import plot
    except ImportError:
        print("no picture: Matplotlib is not installed", file=sys.stderr)
        return
    for name in drawn:
        file = path or RESULTS / f"{name}.png"
        if path and len(drawn) > 1:
            file = path.with_stem(f"{path.stem}-{name}")
        getattr(plot, name)(report["cases"][name]["rows"], report["about"], file)
        print(f"drawn: {file}", file=sys.stderr)


def main():
    args = parse()
    if args.load:
        report = json.loads(Path(args.load).read_text())
        for case in report["cases"].values():
            case["rows"] = [Row(**row) for row in case["rows"]]
    else:
        report = measure(args)
    failures = show(report, args.markdown)
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        plain = report | {"cases": {name: case | {"rows": [asdict(row) for row in case["rows"]]}
                                    for name, case in report["cases"].items()}}  # fmt: skip
        Path(args.json).write_text(json.dumps(plain, indent=1) + "\n")
    pictures(report, args.plot)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
