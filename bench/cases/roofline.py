"""How far from the machine's limit the fused pass is, on every CPU level that runs here, in float64 and in float32.
run.py stands on it.
It stands on csoftmax's samples and kernels, cases/likelihood.py, NumPy and timing.py.

    limit = max(bytes(X) / read bandwidth, 4 n d C / peak flops + n C / exp rate)

Read bandwidth is that of a dot over an array far larger than the caches; peak flops those of a large dgemm or, for
float32, sgemm; the exp rate np.exp's in cache, of the same dtype. All are one core's, and so is the limit, where two
threads run as well. The machine's speed drifts, so the five rates are contestants among the others: they are measured
anew for each shape, in the same rounds as its times, and a multiple is the median over rounds of time / limit."""

import contextlib
import functools
import statistics

import numpy as np
from timing import Row, interleave, on, shape_label

import csoftmax
from cases.likelihood import make_data
from csoftmax import _dispatch, samples

TITLE = "log-likelihood and gradient against the machine's limit"
VALUES = "time / one core's limit, by CPU level and dtype of X, one thread or two"
LIMIT = "the limit, and the rates of one core that it is made of"
FURTHER = "the first level: speed by two threads and by f32; time of hessian_product / log-likelihood and gradient"
SHAPES = ((58_000, 9, 7), (100_000, 20, 3), (581_012, 54, 7), (70_000, 784, 10), (20_000, 100, 100),
          (10_000, 50, 1_000))  # fmt: skip
SMALL = (150, 4, 3)  # one public call: what lies around the kernel shows
HESSIAN_SIZE = 1000  # the Hessian is timed where it has at most so many rows
GEMM = {"f64": "dgemm", "f32": "sgemm"}
RTOL = {"f64": 1e-13, "f32": 1e-6}
CHECKS = (f"log-likelihood of the levels to {RTOL['f64']:g} relative, in float32 to {RTOL['f32']:g} of float64's; two "
          "threads to the bit as one")  # fmt: skip
LARGE = 2  # ms of the limit from which a table counts as large
REMARK = ("Where X fits in a cache the bandwidth of memory is no limit. The Hessian's flops are n C (C - 1) / 2 "
          "(d + 1) (d + 2): the blocks i < k, of each the upper triangle with its diagonal; the rest follows by "
          "symmetry.")  # fmt: skip


assert hasattr(samples.DenseSamples, "_sums")  # else the levels would all be one, unnoticed


class Samples(samples.DenseSamples):
    """DenseSamples whose sums are those of a given build: csoftmax chooses one at import, here each takes its turn."""

    build = None

    def _sums(self):
        return self.build


def machine_rates(quick):
    """{name: (a function, what it does in one call)}: the bytes, flops and exponentials of one core."""
    long, side, length = np.ones(10_000_000 if quick else 40_000_000), 500 if quick else 1500, 10_000
    rates = {"dot": (functools.partial(np.dot, long, long), long.nbytes)}  # it reads the array once
    for kind, dtype in (("f64", np.float64), ("f32", np.float32)):
        square = np.random.default_rng(0).standard_normal((side, side)).astype(dtype)
        rates[GEMM[kind]] = functools.partial(np.dot, square, square, out=np.empty_like(square)), 2 * side**3
        x = np.linspace(-5, 0, length, dtype=dtype)
        rates[f"exp {kind}"] = functools.partial(np.exp, x, out=np.empty_like(x)), length
    return rates


def check(answers, level):
    """What is wrong with {(level, kind, threads): (log-likelihood, gradient)}, as sentences."""
    failures = []
    for (name, kind, n_threads), (value, gradient) in answers.items():
        one = answers[name, kind, 1]
        if n_threads > 1 and not (value == one[0] and np.array_equal(gradient, one[1])):
            failures.append(f"{name} {kind}: {n_threads} threads give other bits than one")
        reference = answers[level, "f64", 1][0]
        gap = abs(value / reference - 1)
        if not gap <= RTOL[kind]:  # a nan fails
            failures.append(f"{name} {kind}: log-likelihood differs from {level} f64's by {gap:.1e} relative")
    return failures


def measure(n, d, n_classes, levels, two_cpus, machine, settings):
    """The row of one shape."""
    X, y, coef, intercept = make_data(n, d, n_classes)
    X, params = {"f64": X, "f32": X.astype(np.float32)}, np.column_stack([coef, intercept])
    best = levels[0]
    contestants, inside = {}, {}
    for level in levels:
        for n_threads in (1, 2) if level == best and two_cpus else (1,):
            for kind in X:
                data = Samples(X[kind], n_classes, codes=y, n_threads=n_threads, single=True)
                data.build = _dispatch.load(level, "_single" if kind == "f32" else "")
                contestants[level, kind, n_threads] = functools.partial(data.log_likelihood_and_gradient, params)
                if n_threads == 2:
                    inside[level, kind, n_threads] = functools.partial(on, two_cpus)
    answers = {}
    for key, call in contestants.items():
        with inside.get(key, contextlib.nullcontext)():  # the second thread starts here and keeps these CPUs
            answers[key] = call()
    row = Row(shape_label(n, d, n_classes), failures=check(answers, best))

    data = Samples(X["f64"], n_classes, codes=y)
    data.build = _dispatch.load(best)
    others = {"product": functools.partial(data.hessian_product, params, np.roll(params, 1, axis=0))}
    if params.size <= HESSIAN_SIZE:
        others["Hessian"] = functools.partial(data.hessian, params)
    others |= {name: function for name, (function, _) in machine.items()}
    times = interleave(contestants | others, settings, inside)
    row.times = {" ".join(map(str, key)) if key in contestants else key: seconds for key, seconds in times.items()}

    # numbers a round, from here on
    times = {key: np.array(seconds) for key, seconds in times.items()}
    rate = {name: work / times[name] for name, (_, work) in machine.items()}
    limit = {kind: np.maximum(X[kind].nbytes / rate["dot"],
                              4 * n * d * n_classes / rate[GEMM[kind]] + n * n_classes / rate[f"exp {kind}"])
             for kind in X}  # fmt: skip
    one = times[best, "f64", 1]
    for level, kind, n_threads in contestants:
        name = f"{level} {kind}" + (" 2 thr." if n_threads == 2 else "")
        row.values[name] = median(times[level, kind, n_threads] / limit[kind])
    row.more[LIMIT] = {f"{kind}, ms": 1e3 * median(limit[kind]) for kind in X} | {
        f"{name}, {unit}": 1e-9 * median(rate[name])
        for name, unit in (("dot", "GB/s"), ("dgemm", "GF/s"), ("sgemm", "GF/s"), ("exp f64", "1e9/s"),
                           ("exp f32", "1e9/s"))}  # fmt: skip
    further = row.more[FURTHER] = {}
    if two_cpus:
        further |= {f"2 threads {kind}": median(times[best, kind, 1] / times[best, kind, 2]) for kind in X}
    further["f32 over f64"] = median(one / times[best, "f32", 1])
    further["hessian_product"] = median(times["product"] / one)
    if "Hessian" in times:
        flops = n * n_classes * (n_classes - 1) / 2 * (d + 1) * (d + 2)
        further["Hessian, GF/s"] = 1e-9 * median(flops / times["Hessian"])
        further["of dgemm's"] = median(flops / times["Hessian"] / rate["dgemm"])
    return row


def median(numbers):
    return float(np.median(numbers))


def small_call(settings):
    """Seconds of one public call on SMALL."""
    X, y, coef, intercept = make_data(*SMALL)
    call = functools.partial(csoftmax.log_likelihood_and_gradient, X, y, coef, intercept)
    return median(interleave({"call": call}, settings)["call"])


def run(settings):
    # the level that csoftmax chose first: by the processor, or by CSOFTMAX_ISA
    levels = sorted(_dispatch.available(), key=lambda level: level != _dispatch.isa)
    two_cpus = settings.cpus[-2:] if len(settings.cpus) > 1 else None
    machine = machine_rates(settings.quick)
    rows = []
    for n, d, n_classes in SHAPES:
        if settings.quick:
            n = max(1000, n // 20)
        rows.append(measure(n, d, n_classes, levels, two_cpus, machine, settings))
        yield rows[-1]

    def span(column, among=rows):
        numbers = [row.more[FURTHER][column] for row in among]
        return f"{min(numbers):.2f} to {max(numbers):.2f}"

    mean = statistics.geometric_mean(row.values[f"{levels[0]} f64"] for row in rows)
    notes = [f"{levels[0]} f64 takes {mean:.2f} times the limit, a geometric mean (claim: at most 1.5)"]
    if two_cpus:
        large = [row for row in rows if row.more[LIMIT]["f64, ms"] >= LARGE] or rows
        notes.append(f"two threads make f64 {span('2 threads f64')} times as fast, f32 {span('2 threads f32')}; f64 "
                     f"where the limit is {LARGE} ms or more {span('2 threads f64', large)} (claim: at least 1.8)")
    else:
        notes.append("no columns for two threads: the process has one CPU")
    notes += [f"f32 is {span('f32 over f64')} times as fast as f64",
              f"hessian_product takes {span('hessian_product')} times as long as log_likelihood_and_gradient "
              "(claim: at most 1.6)",
              f"one call of csoftmax.log_likelihood_and_gradient on {shape_label(*SMALL)} takes "
              f"{1e6 * small_call(settings):.1f} us (claim: at most 10)"]
    yield Row("all shapes", notes=notes)
