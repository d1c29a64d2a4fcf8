"""Peak memory of fit, margins and intervals above their data, read from the kernel's high-water mark in new processes.
run.py stands on it, and runs on Linux only.
It stands on csoftmax.fit and timing.py; scikit-learn's fit of the same data is shown beside it."""

import contextlib
import gc
import importlib.util
import os
import subprocess
import sys
import warnings
from pathlib import Path

from timing import OURS, Row, shape_label

TITLE = "peak memory of fit(X, y, l2=1, max_iter=8), margins and probability intervals above their data"
VALUES = "MiB above the data"
# what is measured: its shape, and what it stays below; the data of the others are those of a fitted result
JOBS = {"fit": ((2_000_000, 5, 50), 50), "margins": ((2_000_000, 10, 4), 20),
        "probability intervals": ((2_000_000, 10, 4), 200)}  # fmt: skip
QUICK = 10  # as many times fewer rows
CHECKS = "csoftmax below " + ", ".join(f"{claim} MiB ({job})" for job, (_, claim) in JOBS.items())
REMARK = ("probability intervals: the figure holds the log odds and standard errors that are kept, 2 n C numbers, "
          "and one more array, of those computed when asked for")


def _status_kib(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise OSError(f"/proc/self/status has no {field}")


def _fit(name, X, y, n_threads):
    if name == OURS:
        import csoftmax

        csoftmax.fit(X, y, l2=1, max_iter=8, n_threads=n_threads)
    else:
        from sklearn.linear_model import LogisticRegression

        LogisticRegression(C=1, max_iter=8).fit(X, y)


def _prepare(job, name, X, y, n_threads):
    """What is to be measured, and is run once on a few rows first."""
    if job == "fit":
        return lambda: _fit(name, X, y, n_threads)
    import csoftmax

    result = csoftmax.fit(X, y, n_threads=n_threads)
    result.bse  # noqa: B018
    if job == "margins":
        return lambda: result.margins(n_threads=n_threads)

    def ends():
        intervals = result.predict_proba_interval(X, n_threads=n_threads)
        for name in ("estimate", "std_error", "lower", "upper"):
            getattr(intervals, name)

    return ends


def _measure(job, name, n, d, n_classes, n_threads):
    """The peak in MiB, in a process that did nothing else."""
    import numpy as np

    warnings.simplefilter("ignore")  # eight iterations are not meant to converge
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((n, d)), rng.integers(n_classes, size=n)
    # imports and thread stacks are not part of the claim
    _prepare(job, name, X[:2_000].copy(), y[:2_000].copy(), n_threads)()
    measured = _prepare(job, name, X, y, n_threads)
    gc.collect()
    with contextlib.suppress(OSError):  # where it is not allowed, the older mark counts
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark falls back to what is resident
    before = _status_kib("VmHWM")
    measured()
    return (_status_kib("VmHWM") - before) / 1024


def run(settings):
    if not Path("/proc/self/status").exists():
        yield Row("skipped", notes=["needs Linux's /proc/self/status"])
        return
    for job, ((n, d, n_classes), claim) in JOBS.items():
        n //= QUICK if settings.quick else 1
        for n_threads in (1, None):
            row = Row(f"{job}: {shape_label(n, d, n_classes)}, " + ("one thread" if n_threads else "all threads"))
            names = [OURS]
            if job == "fit" and n_threads == 1 and importlib.util.find_spec("sklearn"):
                names.append("scikit-learn")
            for name in names:
                # -P: the csoftmax that is installed, not one that the current folder may hold
                command = [sys.executable, "-P", "-m", __name__, job, name, *map(str, (n, d, n_classes)),
                             str(n_threads or 0)]
                env = os.environ | {"PYTHONPATH": os.pathsep.join(folder or os.getcwd() for folder in sys.path)}
                if n_threads is None:  # undo what run.py set
                    env = {key: value for key, value in env.items() if not key.endswith("_NUM_THREADS")}
                done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
                if done.returncode:
                    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                    (row.failures if name == OURS else row.notes).append(f"{name}: {last}")
                    continue
                row.values[name] = float(done.stdout)
            if row.values.get(OURS, 0) >= claim:
                row.failures.append(f"csoftmax took {row.values[OURS]:.0f} MiB, the claim is below {claim}")
            yield row


if __name__ == "__main__":
    if sys.argv[6] == "0" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count()))  # run.py keeps itself to one core
    print(_measure(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6]), int(sys.argv[6]) or None))
