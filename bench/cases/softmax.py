"""softmax, log_softmax and logsumexp on arrays, against scipy.special and, on a few, the others' own functions.
run.py stands on it.
It stands on csoftmax's primitives, timing.py and peers.py."""

import gc
import math
import statistics

import numpy as np
from peers import peer
from timing import OURS, Row, interleave

import csoftmax

TITLE = "softmax, log_softmax and logsumexp"
SHAPES = ((3,), (10,), (1_000,), (150, 3), (100_000, 3), (100_000, 10), (10_000, 100), (1_000, 1_000),
          (1_000, 10_000), (32, 128, 1_000))  # fmt: skip
ALL_PEERS = ((10,), (100_000, 10), (1_000, 1_000))  # float64, last axis; on every row they would take minutes more
FUNCTIONS = ("softmax", "log_softmax", "logsumexp")
DTYPES = (np.float64, np.float32)
QUICK_SIZE = 20_000  # --quick shortens the axes before the last one to no more numbers than these
CHECKS = ("every entry to (C / 2 + 40) eps: of its own size for softmax, of the larger of 1 and its size for the "
          "logarithms")  # fmt: skip


def numpy_idiom(function, x, axis):
    def softmax():
        out = x - x.max(axis=axis, keepdims=True)
        np.exp(out, out=out)
        out /= out.sum(axis=axis, keepdims=True)
        return out

    def log_softmax():
        out = x - x.max(axis=axis, keepdims=True)
        out -= np.log(np.exp(out).sum(axis=axis, keepdims=True))
        return out

    def logsumexp():
        shift = x.max(axis=axis, keepdims=True)
        terms = x - shift
        np.exp(terms, out=terms)
        return np.log(terms.sum(axis=axis)) + shift.squeeze(axis)

    return {"softmax": softmax, "log_softmax": log_softmax, "logsumexp": logsumexp}[function]


def scipy_special(function, x, axis):
    import scipy.special

    f = getattr(scipy.special, function)
    return lambda: f(x, axis=axis)


def torch_function(function, x, axis):
    f = getattr(peer("PyTorch"), function)
    x = peer("PyTorch").from_numpy(x)
    return lambda: f(x, axis)


def jax_jit(function, x, axis):
    jax = peer("JAX")
    f = jax.jit(getattr(jax.nn, function), static_argnames="axis")
    x = jax.numpy.asarray(x)
    return lambda: f(x, axis=axis).block_until_ready()


def ours(function, x, axis):
    f = getattr(csoftmax, function)
    return lambda: f(x, axis=axis, n_threads=1)


OTHERS = {"NumPy": numpy_idiom, "PyTorch": torch_function, "JAX": jax_jit}


def tolerance(length, dtype):
    """SciPy's sum of C terms rounds C - 1 times, by half an eps each; x - m, up to 32 here, makes exp off by 16 eps;
    the rest is what exp, log, the quotient and the result are off, the peers' and csoftmax's."""
    return (length / 2 + 40) * float(np.finfo(dtype).eps)


def check(function, answers, rtol):
    """The disagreements with SciPy's answer, as sentences."""
    expected = np.asarray(answers["SciPy"])
    size = np.abs(expected) if function == "softmax" else np.maximum(1, np.abs(expected))
    failures = []
    for name, answer in answers.items():
        answer = np.asarray(answer)
        if (answer.shape, answer.dtype) != (expected.shape, expected.dtype):
            failures.append(f"{name}: {answer.dtype} {answer.shape}, SciPy has {expected.dtype} {expected.shape}")
            continue
        gap = (np.abs(answer - expected) / size).max()
        if not gap <= rtol:  # a nan fails
            failures.append(f"{name}: differs from SciPy by {gap:.1e}, the tolerance is {rtol:.1e}")
    return failures


def shortened(shape):
    lengths = list(shape)
    for i in range(len(lengths) - 1):
        lengths[i] = min(lengths[i], max(2, QUICK_SIZE * lengths[i] // math.prod(lengths)))
    return tuple(lengths)


def problems(settings):
    """(function, x, axis, whether all peers take part) of each row."""
    for function in FUNCTIONS:
        for shape in SHAPES:
            size = shortened(shape) if settings.quick else shape
            deviates = 3 * np.random.default_rng(len(shape)).standard_normal(size)
            for dtype in DTYPES:
                x = deviates.astype(dtype)
                for axis in (-1, 0) if len(shape) > 1 else (-1,):
                    yield function, x, axis, shape in ALL_PEERS and dtype is np.float64 and axis == -1


def run(settings):
    # the peers' modules are no garbage: to look through them after each of the many short rounds takes 40 ms
    gc.freeze()
    ratios = {}
    for function, x, axis, all_peers in problems(settings):
        calls = {OURS: ours(function, x, axis), "SciPy": scipy_special(function, x, axis)}
        if all_peers:
            calls |= {name: make(function, x, axis) for name, make in OTHERS.items() if peer(name) is not None}
        failures = check(function, {name: call() for name, call in calls.items()}, tolerance(x.shape[axis], x.dtype))
        label = f"{function} {'x'.join(map(str, x.shape))} axis {axis} {x.dtype}"
        row = Row(label, times=interleave(calls, settings), failures=failures)
        ratios[label] = statistics.median(row.ratios("SciPy"))
        yield row
    gc.unfreeze()
    smallest = min(ratios, key=ratios.get)
    slower = sum(ratio < 1 for ratio in ratios.values())
    yield Row("smallest ratio to SciPy", notes=[f"{ratios[smallest]:.2f}, {smallest}; {slower} of {len(ratios)} rows "
                                                "below 1"])  # fmt: skip
