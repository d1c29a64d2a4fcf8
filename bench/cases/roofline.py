"""How far from the machine's limit the fused pass is: bandwidth, multiplications and exponentials measured in this run.
run.py stands on it.
It stands on csoftmax's kernels, NumPy and timing.py.

    limit = max(bytes(X) / read bandwidth, 4 n d C / peak flops + n C / exp rate)

Read bandwidth is that of a dot over an array far larger than the caches, peak flops those of a large matrix product,
the exp rate np.exp's in cache: one core each. Every CPU level that runs here, one thread, float64 and float32 X; the
values are multiples of the limit, of one core's even where two threads run."""

import statistics

import numpy as np
from timing import Row, interleave, shape_label

from cases.likelihood import make_data
from csoftmax import _dispatch, samples

TITLE = "log-likelihood and gradient against the machine's limit"
VALUES = "multiples of the limit"
CHECKS = "every CPU level's log-likelihood to 1e-13 relative"
SHAPES = ((58_000, 9, 7), (100_000, 20, 3), (581_012, 54, 7), (70_000, 784, 10), (20_000, 100, 100),
          (10_000, 50, 1_000))  # fmt: skip


def measure_machine(settings):
    """(bytes a second, flops a second in float64, exponentials a second) of one core."""
    long = np.ones(40_000_000 if not settings.quick else 10_000_000)
    square = np.random.default_rng(0).standard_normal((1500, 1500))
    small = np.linspace(-5, 0, 4000)
    out = np.empty_like(small)
    times = interleave({"dot": lambda: long @ long, "gemm": lambda: square @ square,
                        "exp": lambda: np.exp(small, out=out)}, settings)  # fmt: skip
    best = {name: min(values) for name, values in times.items()}
    # a dot of an array with itself reads it once
    return long.nbytes / best["dot"], 2 * 1500**3 / best["gemm"], small.size / best["exp"]


def run(settings):
    bandwidth, flops, exponentials = measure_machine(settings)
    yield Row("this machine, one core", notes=[f"{bandwidth / 1e9:.1f} GB/s read, {flops / 1e9:.0f} GF/s in float64, "
                                               f"{exponentials / 1e9:.2f}e9 exp/s"])
    for n, d, n_classes in SHAPES:
        if settings.quick:
            n = max(1000, n // 20)
        X, y, coef, intercept = make_data(n, d, n_classes)
        params = np.column_stack([coef, intercept])
        y = y.astype(np.int32)
        work = 4 * n * d * n_classes / flops + n * n_classes / exponentials
        limit = {8: max(X.nbytes / bandwidth, work), 4: max(X.nbytes / 2 / bandwidth, work)}
        row = Row(f"{shape_label(n, d, n_classes)}: limit {1e3 * limit[8]:.3g} ms")
        functions, values, sizes = {}, {}, {}
        for level in _dispatch.available():
            kernels = _dispatch.load(level)
            for dtype in (np.float64, np.float32):
                data = samples.DenseSamples(X.astype(dtype), n_classes, codes=y)
                name = f"{level} {'f64' if dtype is np.float64 else 'f32'}"

                def call(data=data, kernels=kernels, params=params):
                    samples.kernels = kernels  # the build is chosen once at import; here each takes its turn
                    return data.log_likelihood_and_gradient(params)

                functions[name], sizes[name], values[name] = call, np.dtype(dtype).itemsize, call()[0]
        times = interleave(functions, settings)
        samples.kernels = _dispatch.kernels
        row.values = {name: statistics.median(times[name]) / limit[sizes[name]] for name in functions}
        for kind in ("f64", "f32"):
            found = [value for name, value in values.items() if name.endswith(kind)]
            if max(found) - min(found) > 1e-13 * abs(found[0]):
                row.failures.append(f"{kind}: the levels differ by {(max(found) - min(found)) / abs(found[0]):.1e}")
        yield row
