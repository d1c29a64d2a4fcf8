"""Standard errors at the maximum: the information's, robust and clustered, beside the fit itself and statsmodels' own.
run.py stands on it.
It stands on csoftmax.fit and csoftmax.inference, timing.py and peers.py."""

import contextlib
import time
import warnings

import numpy as np
from peers import peer
from timing import OURS, Row, interleave, on, shape_label

import csoftmax
from csoftmax.inference import information_covariance

try:
    import threadpoolctl  # scikit-learn stands on it
except ImportError:
    threadpoolctl = None

TITLE = "covariances at the maximum, the fit not included"
VALUES = "csoftmax's own fit / its covariance"
AGREE = 1e-6  # relative, of standard errors
PEER_TIMES, FIT_TIMES = 20, 1
SHAPES = ((944, 5, 7), (20_000, 10, 4), (1_000_000, 20, 5))
QUICK_SHAPES = ((944, 5, 7),)
CHECKS = (f"standard errors within {AGREE:g} of statsmodels'; on the largest table the information's, HC0 and cluster "
          f"take no longer than the fit, and where both have all cores statsmodels takes {PEER_TIMES} times "
          "as long")  # fmt: skip
REMARK = "statsmodels has no HC2 and HC3: it gives HC0 by their names"
KINDS = ("observed", "HC0", "HC2", "HC3", "cluster")


def table(n, d, n_classes):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d))
    logits = X @ (0.3 * rng.standard_normal((d, n_classes)))
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return X, y, rng.integers(max(n // 20, 2), size=n)


def ours(result, kind, groups):
    if kind == "observed":
        return lambda: information_covariance(result._coordinates, result._u)  # what the first bse computes
    options = {"groups": groups, "correction": False} if kind == "cluster" else {}
    return lambda: result.with_covariance(kind, **options)


def theirs(model, params, kind, groups):
    options = {} if kind == "observed" else {"cov_type": kind}
    if kind == "cluster":
        options["cov_kwds"] = {"groups": groups, "use_correction": False}

    def call():
        # from the maximum, without a step: what is left is the covariance
        return model.fit(start_params=params, method="newton", maxiter=0, disp=0, warn_convergence=False, **options)

    return call


@contextlib.contextmanager
def all_cores(cpus):
    with on(cpus), threadpoolctl.threadpool_limits(len(cpus), "blas"):
        yield


@contextlib.contextmanager
def rested():
    time.sleep(0.2)  # threads of a BLAS go on turning for some hundredths of a second after their work
    yield


def run(settings):
    for n, d, n_classes in QUICK_SHAPES if settings.quick else SHAPES:
        data = table(n, d, n_classes)
        yield from measure(data, shape_label(n, d, n_classes), settings, 1, None)
        largest = (n, d, n_classes) == SHAPES[-1]
        if largest and len(settings.cpus) > 1 and threadpoolctl is not None:
            cores = len(settings.cpus)
            with all_cores(settings.cpus):  # statsmodels' own results are kept, and what csoftmax starts stays here
                yield from measure(data, f"{shape_label(n, d, n_classes)}, {cores} cores", settings, cores,
                                   PEER_TIMES)  # fmt: skip


def measure(data, label, settings, n_threads, peer_times):
    """The rows of one table; with `peer_times` it is claimed that statsmodels takes so many times as long."""
    X, y, groups = data
    result = csoftmax.fit(X, y, reference=0, n_threads=n_threads)
    fit = interleave({OURS: lambda: csoftmax.fit(X, y, reference=0, n_threads=n_threads)}, settings)[OURS]
    model = None
    if peer("statsmodels") is not None:
        from statsmodels.api import MNLogit

        model = MNLogit(y, np.column_stack([X, np.ones(len(y))]))
    for kind in KINDS:
        row = Row(f"{label}; {kind}")
        calls = {OURS: ours(result, kind, groups)}
        if model is not None and kind not in ("HC2", "HC3"):
            call = calls["statsmodels"] = theirs(model, result.params[1:].T.ravel(order="F"), kind, groups)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected = call().bse.T
            found = (result if kind == "observed" else calls[OURS]()).bse[1:]
            if not np.abs(found / expected - 1).max() <= AGREE:  # a nan fails
                row.failures.append(f"standard errors differ by {np.abs(found / expected - 1).max():.1e}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            row.times = interleave(calls, settings, dict.fromkeys(calls, rested) if n_threads > 1 else None)
        row.values = {"fit": float(np.median(fit)) / row.median_seconds(OURS)}
        if len(y) == SHAPES[-1][0] and kind not in ("HC2", "HC3"):
            if row.values["fit"] < FIT_TIMES:
                row.failures.append(f"takes {1 / row.values['fit']:.2f} times as long as the fit")
            if "statsmodels" in row.times and peer_times and np.median(row.ratios("statsmodels")) < peer_times:
                row.failures.append(f"statsmodels takes {np.median(row.ratios('statsmodels')):.1f} times as long")
        yield row
