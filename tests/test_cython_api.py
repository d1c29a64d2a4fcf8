"""The exported C functions: another project's extension is built against the installed csoftmax, and run.

Nothing stands on this file. It stands on csoftmax/cython_softmax.pxd alone, as that project would; it needs Cython,
setuptools and a C compiler, which the extra `test` and a compiler's package bring.
"""

import importlib.util
import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import csoftmax as cs
from csoftmax import _dispatch

CONSUMER = '''# cython: language_level=3, boundscheck=False, wraparound=False
from cython cimport floating
from libc.stdint cimport int32_t, int64_t

from csoftmax cimport cython_softmax

ctypedef fused code:
    int32_t
    int64_t


def row(int what, const floating[::1] x, floating[::1] out, Py_ssize_t repeats=1):
    """Of all of x; `out` has one number for logsumexp, and may be x else."""
    cdef Py_ssize_t i, n = x.shape[0]
    cdef const floating *p = NULL
    cdef floating *q = NULL
    if n > 0:
        p = &x[0]
    if out.shape[0] > 0:
        q = &out[0]
    with nogil:
        for i in range(repeats):
            if what == 0:
                cython_softmax.softmax(p, q, n)
            elif what == 1:
                cython_softmax.log_softmax(p, q, n)
            else:
                q[0] = cython_softmax.logsumexp(p, n)


def rows(int what, const floating[:, ::1] x, floating[::1] out):
    cdef Py_ssize_t n_rows = x.shape[0], n = x.shape[1]
    cdef const floating *p = NULL
    cdef floating *q = NULL
    if n_rows > 0 and n > 0:
        p = &x[0, 0]
    if out.shape[0] > 0:
        q = &out[0]
    with nogil:
        if what == 0:
            cython_softmax.softmax_rows(p, q, n_rows, n)
        elif what == 1:
            cython_softmax.log_softmax_rows(p, q, n_rows, n)
        else:
            cython_softmax.logsumexp_rows(p, q, n_rows, n)


def log_likelihood(const floating[::1] logits, Py_ssize_t y):
    cdef const floating *p = NULL
    if logits.shape[0] > 0:
        p = &logits[0]
    with nogil:
        value = cython_softmax.sample_log_likelihood(p, logits.shape[0], y)
    return value


def residual(const floating[::1] logits, Py_ssize_t y, floating[::1] out):
    cdef double value
    with nogil:
        value = cython_softmax.sample_residual(&logits[0], logits.shape[0], y, &out[0])
    return value


def gradient(const floating[::1] x, const floating[:, ::1] coef, const floating[::1] intercept, Py_ssize_t y,
             floating[:, ::1] grad_coef, floating[::1] grad_intercept):
    cdef Py_ssize_t d = x.shape[0]
    cdef const floating *p = NULL
    cdef const floating *w = NULL
    cdef const floating *b = NULL
    cdef floating *g = NULL
    if d > 0:
        p, w, g = &x[0], &coef[0, 0], &grad_coef[0, 0]
    if intercept is not None:
        b = &intercept[0]
    with nogil:
        value = cython_softmax.sample_gradient(p, d, w, b, coef.shape[0], y, g, &grad_intercept[0])
    return value


def fused_pass(const floating[:, ::1] X, const code[::1] y, const double[:, ::1] coef, const double[::1] intercept,
               const double[::1] sample_weight, double[:, ::1] grad_coef, double[::1] grad_intercept):
    cdef Py_ssize_t n = X.shape[0], d = X.shape[1]
    cdef const floating *x = NULL
    cdef const code *labels = NULL
    cdef const double *w = NULL
    cdef const double *b = NULL
    cdef const double *weights = NULL
    cdef double *gw = NULL
    cdef double *gb = NULL
    if n > 0 and d > 0:
        x = &X[0, 0]
    if n > 0:
        labels = &y[0]
    if d > 0:
        w = &coef[0, 0]
    if intercept is not None:
        b = &intercept[0]
    if sample_weight is not None and n > 0:
        weights = &sample_weight[0]
    if grad_coef is not None and d > 0:
        gw = &grad_coef[0, 0]
    if grad_intercept is not None:
        gb = &grad_intercept[0]
    with nogil:
        value = cython_softmax.log_likelihood_and_gradient(x, n, d, w, b, coef.shape[0], labels, weights, gw, gb)
    return value


def pointers_of_other_names(const double[::1] x, const Py_ssize_t[::1] y):
    """NULL where floating has to be told by other arguments, a cast, and a function kept as a pointer."""
    cdef double (*f)(const double *, Py_ssize_t) noexcept nogil
    cdef double grad[2]
    cdef double grad_b[2]
    f = cython_softmax.logsumexp
    cdef double value = cython_softmax.sample_gradient(&x[0], 1, &x[0], NULL, 2, y[0], grad, grad_b)
    return f(&x[0], 2), value, cython_softmax.log_likelihood_and_gradient(
        &x[0], 1, 1, &x[0], NULL, 2, <const int64_t *> &y[0], NULL, NULL, NULL)


def without_memory(Py_ssize_t n_classes):
    cdef double number = 0.0
    cdef int32_t y = 0
    with nogil:
        cython_softmax.log_likelihood_and_gradient(&number, 1, 1, &number, NULL, n_classes, &y, NULL, NULL, NULL)
'''

SETUP = '''import sys

from Cython.Build import cythonize
from setuptools import Extension, setup

LIMITED = sys.argv.pop() == "limited"
setup(name="consumer", ext_modules=cythonize([
    Extension("consumer", ["consumer.pyx"], py_limited_api=LIMITED,
              define_macros=[("Py_LIMITED_API", "0x030B0000")] if LIMITED else [], extra_compile_args=FLAGS),
]))
'''

# where CSOFTMAX_ISA asks for another build: its bits
OTHER_BUILD = '''import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
import consumer
import csoftmax as cs
from csoftmax import _dispatch
assert _dispatch.isa == sys.argv[2], _dispatch.isa
rng = np.random.default_rng(5)
X, y, coef, intercept = rng.normal(size=(90, 11)), rng.integers(0, 5, 90), rng.normal(size=(5, 11)), rng.normal(size=5)
for rows in (X, X.astype(np.float32)):
    grad_coef, grad_intercept, p = np.empty_like(coef), np.empty(5), np.empty_like(rows)
    value = consumer.fused_pass(rows, y, coef, intercept, None, grad_coef, grad_intercept)
    wanted = cs.log_likelihood_and_gradient(rows, y, coef, intercept, n_threads=1)
    assert value == wanted[0], (value, wanted[0])
    np.testing.assert_array_equal(grad_coef, wanted[1])
    np.testing.assert_array_equal(grad_intercept, wanted[2])
    consumer.rows(0, rows, p.reshape(-1))
    np.testing.assert_array_equal(p, cs.softmax(rows, axis=-1))
    print(value.hex())
'''

DTYPES = (np.float64, np.float32)
LENGTHS = (*range(1, 70), 100, 127, 255, 256, 257, 511, 999, 1000)
PRIMITIVES = (cs.softmax, cs.log_softmax, cs.logsumexp)


def has_compiler():
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    try:
        return subprocess.run([compiler, "--version"], capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.fixture(scope="module", params=["", "limited"], ids=["full_api", "limited_api"])
def consumer(request, tmp_path_factory):
    """The extension of another project, built with and without the limited API."""
    for module in ("Cython", "setuptools"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: the extra csoftmax[test] has it")
    if sys.platform != "win32" and not has_compiler():
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("consumer" + request.param)
    flags = [] if sys.platform == "win32" else ["-O1", "-g0"]
    (folder / "consumer.pyx").write_text(CONSUMER, encoding="utf-8")
    (folder / "setup.py").write_text(f"FLAGS = {flags}\n{SETUP}", encoding="utf-8")
    done = subprocess.run([sys.executable, "setup.py", "build_ext", "--inplace", request.param], cwd=folder, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    (path,) = [path for path in folder.glob("consumer*") if path.suffix in (".so", ".pyd")]
    assert (".abi3." in path.name) == (request.param == "limited" and sys.platform != "win32")
    spec = importlib.util.spec_from_file_location("consumer", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rng_of(*key):
    return np.random.default_rng(key)


def ulps_apart(a, b):
    """The largest distance, in ulps of b; inf where one of both is nan."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.dtype == b.dtype
    with np.errstate(invalid="ignore"):
        apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, np.abs(a - b) / np.spacing(np.abs(b)))
    return np.max(np.nan_to_num(apart, nan=np.inf), initial=0)


# ----------------------------------------------------------------------------------------------------------- primitives

@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("what", range(3))
def test_a_row_has_the_python_functions_numbers_to_an_ulp_and_nothing_around_it_is_written(consumer, what, dtype):
    worst = 0
    for n in LENGTHS:
        for scale in (1, 30, 500):
            x = (rng_of(n, scale).standard_normal(n) * scale + 3).astype(dtype)
            size = 1 if what == 2 else n
            room = np.full(size + 64, 7, dtype)
            consumer.row(what, x, room[32:32 + size])
            wanted = PRIMITIVES[what](x)
            worst = max(worst, ulps_apart(room[32:32 + size], np.atleast_1d(wanted)))
            assert np.all(room[:32] == 7)
            assert np.all(room[32 + size:] == 7)
            if what != 2:
                again = x.copy()
                consumer.row(what, again, again)  # in place
                np.testing.assert_array_equal(again, room[32:32 + size])
    assert worst <= 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 1), (1, 2), (1, 20), (1, 100), (2, 3), (40, 3), (3, 10), (17, 33),
                                   (3, 255), (3, 256), (2, 1000), (0, 3), (3, 0)])
def test_rows_have_the_python_functions_bits(consumer, shape, dtype):
    x = (rng_of(*shape).standard_normal(shape) * 20).astype(dtype)
    for what in (0, 1):
        out = np.empty(shape, dtype)
        consumer.rows(what, x, out.reshape(-1))
        np.testing.assert_array_equal(out, PRIMITIVES[what](x, axis=-1))
        again = x.copy()
        consumer.rows(what, again, again.reshape(-1))
        np.testing.assert_array_equal(again, out)
    sums = np.empty(shape[0], dtype)
    consumer.rows(2, x, sums)
    np.testing.assert_array_equal(sums, cs.logsumexp(x, axis=-1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 5, 40, 300])
def test_rows_that_are_not_finite_are_limits_or_nan_as_in_python(consumer, n, dtype):
    inf, nan = np.inf, np.nan
    for places in ({0: inf}, {n - 1: inf}, {0: nan}, {n - 1: nan}, {n // 2: -inf}, {0: inf, n - 1: inf},
                   {0: inf, n - 1: nan}, dict.fromkeys(range(n), -inf)):
        x = rng_of(n).standard_normal(n).astype(dtype)
        for place, value in places.items():
            x[place] = value
        for what in range(3):
            one, many = np.empty(1 if what == 2 else n, dtype), np.empty(2 if what == 2 else 2 * n, dtype)
            wanted = np.atleast_1d(PRIMITIVES[what](x))
            consumer.row(what, x, one)
            consumer.rows(what, np.array([x, x]), many)
            assert ulps_apart(one, wanted) <= 1, (places, what)
            assert ulps_apart(many, np.tile(wanted, 2)) <= 1, (places, what)
        p, log_p = cs.softmax(x), cs.log_softmax(x)
        for y in {0, n // 2, n - 1}:
            g = np.empty(n, dtype)
            value = consumer.residual(x, y, g)
            np.testing.assert_allclose(value, log_p[y], rtol=1e-5)
            assert consumer.log_likelihood(x, y) == value or np.isnan(value)
            np.testing.assert_allclose(g, np.eye(n, dtype=dtype)[y] - p, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logsumexp_of_nothing_is_minus_infinity(consumer, dtype):
    out = np.zeros(1, dtype)
    consumer.row(2, np.empty(0, dtype), out)
    assert out[0] == -np.inf
    out = np.zeros(2, dtype)
    consumer.rows(2, np.empty((2, 0), dtype), out)
    assert np.all(out == -np.inf)


# ----------------------------------------------------------------------------------------------------------- one sample

@pytest.mark.parametrize("dtype", DTYPES)
def test_a_samples_log_likelihood_and_residual_are_log_softmax_and_the_label_less_softmax(consumer, dtype):
    # exp's argument is off by half an ulp of itself, a plain sum of n terms by n / 2 ulps: relative errors of each
    eps = np.finfo(dtype).eps
    for n in LENGTHS:
        for scale in (1, 30):
            rng = rng_of(n, scale)
            x, y = (rng.standard_normal(n) * scale).astype(dtype), int(rng.integers(n))
            p, log_p = cs.softmax(x.astype(np.float64)), cs.log_softmax(x.astype(np.float64))
            room = np.full(n + 64, 7, dtype)
            g = room[32:32 + n]
            value = consumer.residual(x, y, g)
            rtol = (n + 8 + np.ptp(x)) * eps
            assert value == consumer.log_likelihood(x, y)
            np.testing.assert_allclose(value, log_p[y], rtol=rtol)
            wanted = -p
            wanted[y] = np.delete(p, y).sum()  # 1 - p[y], with its digits
            # exp is 0 below the smallest normal number, where a residual's exp(x - m) may be 1.7 times that
            np.testing.assert_allclose(g, wanted, rtol=rtol, atol=2 * np.finfo(dtype).tiny)
            assert np.all(room[:32] == 7)
            assert np.all(room[32 + n:] == 7)
            again = x.copy()
            assert consumer.residual(again, y, again) == value  # in place
            np.testing.assert_array_equal(again, g)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_residual_keeps_its_digits_where_the_label_is_near_certain(consumer, dtype):
    g = np.empty(2, dtype)
    value = consumer.residual(np.array([40, 0], dtype), 0, g)
    np.testing.assert_allclose([value, g[0], g[1]], [-np.exp(-40), np.exp(-40), -np.exp(-40)],
                               rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_classes", [1, 2, 5, 20])
@pytest.mark.parametrize("with_intercept", [True, False])
def test_a_samples_gradient_is_the_python_functions_for_one_row(consumer, with_intercept, n_classes, dtype):
    for d in (0, 1, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 64, 100, 131):
        rng = rng_of(n_classes, d)
        x, coef = rng.standard_normal(d).astype(dtype), rng.standard_normal((n_classes, d)).astype(dtype)
        intercept = rng.standard_normal(n_classes).astype(dtype) if with_intercept else None
        y = int(rng.integers(n_classes))
        grad_coef, grad_intercept = np.full((n_classes, d), 7, dtype), np.full(n_classes, 7, dtype)
        value = consumer.gradient(x, coef, intercept, y, grad_coef, grad_intercept)
        b = np.zeros(n_classes) if intercept is None else intercept
        wanted = cs.log_likelihood_and_gradient(x[None].astype(np.float64), [y], coef, b)
        # a logit is off by at most d + 1 roundings of its terms' sum, and what follows by as much again
        terms = 1 + np.max(np.abs(coef) @ np.abs(x) + np.abs(b))
        tolerance = 2 * (d + n_classes + 4) * np.finfo(dtype).eps * terms
        np.testing.assert_allclose(value, wanted[0], rtol=0, atol=tolerance)
        np.testing.assert_allclose(grad_coef, wanted[1], rtol=0, atol=tolerance * np.max(np.abs(x), initial=0))
        np.testing.assert_allclose(grad_intercept, wanted[2], rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("y", [-1, 3, 2**40, -2**40])
def test_a_label_out_of_range_gives_nan(consumer, y, dtype):
    x, g = np.arange(3, dtype=dtype), np.empty(3, dtype)
    assert np.isnan(consumer.log_likelihood(x, y))
    assert np.isnan(consumer.residual(x, y, g))
    assert np.all(np.isnan(g))
    coef, grad_coef = np.ones((3, 3), dtype), np.empty((3, 3), dtype)
    assert np.isnan(consumer.gradient(x, coef, None, y, grad_coef, g))
    assert np.all(np.isnan(grad_coef))
    assert np.all(np.isnan(g))
    X, grad_coef, grad_intercept = np.ones((5, 3), dtype), np.empty((3, 3)), np.empty(3)
    for code in (np.int32, np.int64) if abs(y) < 2**31 else (np.int64,):
        labels = np.array([0, 1, y, 2, 0], code)
        assert np.isnan(consumer.fused_pass(X, labels, np.ones((3, 3)), None, None, grad_coef, grad_intercept))
        assert np.all(np.isnan(grad_intercept))


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_class_has_no_likelihood(consumer, dtype):
    assert np.isnan(consumer.log_likelihood(np.empty(0, dtype), 0))
    X, y, none = np.ones((2, 3), dtype), np.zeros(2, np.int64), np.empty((0, 3))
    assert np.isnan(consumer.fused_pass(X, y, none, None, None, none, None))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_parameter_that_is_not_finite_gives_nan(consumer, bad):
    x, coef, g, b = np.zeros(9), np.ones((3, 9)), np.empty((3, 9)), np.empty(3)
    coef[1, 8] = bad
    assert np.isnan(consumer.gradient(x, coef, None, 0, g, b))
    assert np.all(np.isnan(g))
    assert np.isnan(consumer.fused_pass(x[None], np.zeros(1, np.int64), coef, None, None, g, b))
    intercept = np.array([0, 0, bad])
    assert np.isnan(consumer.gradient(x, np.ones((3, 9)), intercept, 0, g, b))
    assert np.isnan(consumer.fused_pass(x[None], np.zeros(1, np.int64), np.ones((3, 9)), intercept, None, g, b))


# --------------------------------------------------------------------------------------------------------- many samples

@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(150, 4, 3), (1, 4, 3), (40, 0, 3), (40, 3, 1), (7, 1, 2), (1000, 20, 7),
                                   (3000, 9, 2), (333, 33, 65), (0, 4, 3)])
def test_the_fused_pass_has_the_python_functions_bits(consumer, shape, dtype):
    n, d, n_classes = shape
    rng = rng_of(*shape)
    X, coef, y = rng.standard_normal((n, d)).astype(dtype), rng.standard_normal((n_classes, d)), \
        rng.integers(0, n_classes, n)
    for intercept in (None, rng.standard_normal(n_classes)):
        for weights in (None, rng.random(n)):
            for code in (np.int32, np.int64):
                g, b = np.full((n_classes, d), 7.0), np.full(n_classes, 7.0)
                value = consumer.fused_pass(X, y.astype(code), coef, intercept, weights, g, b)
                wanted = cs.log_likelihood_and_gradient(X, y, coef, intercept, sample_weight=weights)
                assert value == wanted[0]
                np.testing.assert_array_equal(g, wanted[1])
                if intercept is not None:
                    np.testing.assert_array_equal(b, wanted[2])
    # an intercept's gradient is there without one; what is NULL is left out
    np.testing.assert_allclose(consumer.fused_pass(X, y, coef, None, weights, None, None),
                               cs.log_likelihood(X, y, coef, sample_weight=weights), rtol=0)
    only_b = np.empty(n_classes)
    consumer.fused_pass(X, y, coef, np.zeros(n_classes), weights, g, b)
    consumer.fused_pass(X, y, coef, None, weights, None, only_b)
    np.testing.assert_array_equal(only_b, b)


def test_other_names_of_a_type_null_and_function_pointers_compile(consumer):
    x, y = np.array([1.0, 2.0]), np.array([1, 0], np.intp)
    term = cs.log_likelihood(x[:1, None], [1], x[:, None])
    assert consumer.pointers_of_other_names(x, y) == (cs.logsumexp(x), term, term)


@pytest.mark.skipif(sys.maxsize < 2**40, reason="a size that no computer has memory for")
def test_without_memory_an_exception_comes_out_of_nogil_code(consumer):
    with pytest.raises(MemoryError, match="classes"):
        consumer.without_memory(2**45)


# -------------------------------------------------------------------------------------------------- threads and builds

def test_threads_that_call_at_once_get_the_bits_of_one(consumer):
    def work(seed):
        rng = np.random.default_rng(seed)
        x, out = rng.standard_normal(37), np.empty(37)
        X, y, coef = rng.standard_normal((300, 5)), rng.integers(0, 4, 300), rng.standard_normal((4, 5))
        results = []
        for _ in range(20):
            consumer.row(0, x, out, 2000)
            g, b = np.empty((4, 5)), np.empty(4)
            value = consumer.fused_pass(X, y, coef, None, None, g, b)
            results.append((value, out.tobytes(), g.tobytes(), b.tobytes()))
        assert len(set(results)) == 1
        return results[0]

    alone = [work(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(8))) == alone


@pytest.mark.parametrize("isa", _dispatch.available())
def test_a_module_that_was_built_once_calls_the_build_that_runs(consumer, isa):
    path = os.path.dirname(consumer.__file__)
    result = subprocess.run([sys.executable, "-c", OTHER_BUILD, path, isa], text=True, capture_output=True,
                            env={**os.environ, "CSOFTMAX_ISA": isa})
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.split()) == 2


def test_a_changed_signature_is_refused_when_the_consumer_is_imported(consumer):
    script = ("import sys; sys.path.insert(0, sys.argv[1])\n"
              "from csoftmax import cython_softmax\n"
              "table = cython_softmax.__pyx_capi__\n"
              "for name in list(table):\n"
              "    if name.startswith('__pyx_fuse_1softmax') or name.startswith('softmax['):\n"
              "        table[name] = table['__pyx_fuse_1logsumexp']\n"
              "try:\n"
              "    import consumer\n"
              "except TypeError as error:\n"
              "    print(error)\n")
    result = subprocess.run([sys.executable, "-c", script, os.path.dirname(consumer.__file__)], text=True,
                            capture_output=True, check=True)
    assert "has wrong signature" in result.stdout
