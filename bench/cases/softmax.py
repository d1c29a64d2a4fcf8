"""softmax, log_softmax and logsumexp on arrays, against scipy.special and the others' own functions.
run.py stands on it.
It stands on csoftmax's primitives, timing.py and peers.py."""

import numpy as np
from peers import peer
from timing import OURS, Row, interleave

import csoftmax

TITLE = "softmax, log_softmax and logsumexp"
SHAPES = ((3,), (1_000, 3), (10_000, 10), (1_000, 1_000), (32, 128, 1_000))
FUNCTIONS = ("softmax", "log_softmax", "logsumexp")
RTOL = 1e-13  # of 1 or of the value, whichever is larger
CHECKS = f"every entry to {RTOL:g} of the larger of 1 and its own size"


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


CONTESTANTS = {"SciPy": scipy_special, "NumPy": numpy_idiom, "PyTorch": torch_function, "JAX": jax_jit}


def check(answers):
    """The disagreements with SciPy's answer (NumPy's where SciPy is not installed), as sentences."""
    base = "SciPy" if "SciPy" in answers else "NumPy"
    expected = np.asarray(answers[base])
    failures = []
    for name, answer in answers.items():
        answer = np.asarray(answer)
        if answer.shape != expected.shape:
            failures.append(f"{name}: shape {answer.shape}, {base} has {expected.shape}")
            continue
        gap = (np.abs(answer - expected) / np.maximum(1, np.abs(expected))).max()
        if not gap <= RTOL:  # a nan fails
            failures.append(f"{name}: differs from {base} by {gap:.1e}")
    return failures


def run(settings):
    for function in FUNCTIONS:
        for shape in SHAPES:
            if settings.quick and len(shape) == 3:
                shape = (4, *shape[1:])
            for axis in (-1, 0) if len(shape) > 1 else (-1,):
                x = 3 * np.random.default_rng(len(shape)).standard_normal(shape)
                calls = {OURS: ours(function, x, axis)}
                calls |= {k: make(function, x, axis) for k, make in CONTESTANTS.items() if peer(k) is not None}
                failures = check({name: call() for name, call in calls.items()})
                size = "x".join(map(str, shape))
                yield Row(f"{function} {size} axis {axis}", times=interleave(calls, settings), failures=failures)
