"""softmax, log_softmax, logsumexp and the Jacobian, over every build of the kernels.

Nothing stands on this file. It stands on data/softmax_values.json (correctly rounded values), reference.py (the long
double oracle), scipy.special (shapes, dtypes, and what is handed to it) and conftest.py (the builds).
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import reference as ref
import scipy.special

import csoftmax as cs
from csoftmax import special

pytestmark = pytest.mark.usefixtures("kernel_build")

EPS = ref.EPS
TINY = 5e-324  # the smallest denormal
extended = pytest.mark.skipif(not ref.EXTENDED, reason="long double is no wider than double here")

with open(Path(__file__).parent / "data" / "softmax_values.json", encoding="utf-8") as file:
    ROWS = json.load(file)["rows"]

MAPS = {"softmax": (cs.softmax, scipy.special.softmax, ref.softmax),
        "log_softmax": (cs.log_softmax, scipy.special.log_softmax, ref.log_softmax)}
ALL = {**MAPS, "logsumexp": (cs.logsumexp, scipy.special.logsumexp, ref.logsumexp)}
each_map = pytest.mark.parametrize(("ours", "scipys", "oracle"), MAPS.values(), ids=MAPS.keys())
each = pytest.mark.parametrize(("ours", "scipys", "oracle"), ALL.values(), ids=ALL.keys())


def doubles(hexes):
    return np.array([float.fromhex(h) for h in np.atleast_1d(hexes)])


# ---------------------------------------------------------------------------------------------------------------------
# Values


def assert_within_ulps(got, want, ulps, size=None):
    """|got - want| <= ulps * ulp(size), `size` being |want| unless given; nan and infinities equal."""
    got, want = np.asarray(got), np.asarray(want)
    finite = np.isfinite(want.astype(float))
    np.testing.assert_array_equal(got[~finite], want[~finite].astype(float))
    sizes = np.abs(want if size is None else size)[finite].astype(float)
    ulp = np.spacing(np.minimum(sizes, np.nextafter(np.finfo(float).max, 0)))
    assert (np.abs(got[finite] - want[finite]) <= ulps * ulp).all()


@pytest.mark.parametrize("row", ROWS, ids=[f"{r['id']}-{r['kind']}-{r['C']}" for r in ROWS])
def test_primitives_agree_with_correctly_rounded_values(row):
    x = doubles(row["x"])
    m = x.max()
    lse = doubles(row["lse_f64"])
    # exp is within 1 ulp, and the sum, log1p, the quotient and the shift by m round once each. Measured: softmax 2,
    # log_softmax 1, logsumexp 1 ulp. Where m and log(sum) cancel, logsumexp's ulp is that of m (9 of its own)
    assert_within_ulps(np.atleast_1d(cs.logsumexp(x)), lse, 2, np.maximum(np.abs(lse), abs(m)))
    if np.isposinf(m) and (x == m).sum() == 1 and not np.isnan(x).any():
        # the file follows SciPy and says nan; csoftmax takes the limit, as one entry alone goes to infinity
        assert cs.softmax(x).tolist() == np.where(x == m, 1.0, 0.0).tolist()
        assert cs.log_softmax(x).tolist() == np.where(x == m, 0.0, -np.inf).tolist()
        return
    assert_within_ulps(cs.softmax(x), doubles(row["softmax_f64"]), 4)
    assert_within_ulps(cs.log_softmax(x), doubles(row["log_softmax_f64"]), 4)


@extended
@pytest.mark.parametrize("C", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 64, 100, 257, 1000, 10_000])
def test_random_rows_are_within_4_ulp_and_the_rounding_of_the_sum(C, kernel_build):
    rng = np.random.default_rng(C)
    # each vector lane adds up C / LANES positive terms: at most as many half ulps, which are whole ulps of a result
    # just above a power of 2. Measured: softmax 3.9 up to C = 64, 5 to 11 (by the lanes) at 1 000, 17 to 40 at 10 000
    ulps = 4 + C / kernel_build.LANES
    for scale in (1e-3, 1.0, 10.0, 100.0, 1e4):
        for shift in (0.0, -2.0, 50.0, 1e6):
            x = rng.normal(size=(max(2, 1000 // C), C)) * scale + shift
            assert_within_ulps(cs.softmax(x, axis=-1), ref.softmax(x), ulps)
            assert_within_ulps(cs.log_softmax(x, axis=-1), ref.log_softmax(x), ulps)
            want = ref.logsumexp(x)
            # 2 ulp, and what the sum's rounding is to its logarithm: an absolute C / LANES * 2^-53
            error = np.abs(cs.logsumexp(x, axis=-1) - want)
            size = np.maximum(np.abs(want), np.abs(x.max(axis=-1))).astype(float)
            assert (error <= 2 * np.spacing(size) + C / kernel_build.LANES * EPS / 2).all()


@extended
def test_half_precision_is_computed_in_float32_and_rounded_once():
    dtype = np.float16
    x = (np.random.default_rng(0).normal(size=(50, 9)) * 5).astype(dtype)
    for ours, _, oracle in ALL.values():
        want = oracle(x.astype(np.float64))
        got = ours(x, axis=-1)
        assert got.dtype == dtype
        # half an ulp for the rounding, and 4 ulp of float32, 2^-13 of float16's
        ulp = np.spacing(np.abs(want.astype(dtype))).astype(float)
        assert (np.abs(got.astype(ref.LONGDOUBLE) - want) <= (0.5 + 4 / 2**13) * ulp).all()


def test_the_largest_term_stays_out_of_the_sum():
    # -log1p(exp(-40)); log(1 + exp(-40)) is log(1) = 0. exp and log1p within an ulp each
    assert cs.log_softmax([40.0, 0.0])[0] == pytest.approx(-4.248354255291589e-18, rel=2 * EPS, abs=0)
    assert cs.logsumexp([0.0, -40.0]) == pytest.approx(4.248354255291589e-18, rel=2 * EPS, abs=0)
    assert scipy.special.softmax([40.0, 0.0])[0] == cs.softmax([40.0, 0.0])[0] == 1.0


def test_far_off_entries_of_softmax_keep_their_digits():
    # x - m rounds by up to 2^-44 here, and exp of it would be wrong by hundreds of ulp without the rounding error
    x = np.array([500.0 + 2.0**-44, -200.0 + 2.0**-45])
    want = ref.softmax(x)
    assert x[1] - x[0] != ref.LONGDOUBLE(x[1]) - ref.LONGDOUBLE(x[0]) or not ref.EXTENDED
    assert_within_ulps(cs.softmax(x), want, 4)


# ---------------------------------------------------------------------------------------------------------------------
# Infinities and nan

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("width", [0, 1, 7, 8, 30])
@pytest.mark.parametrize(("x", "softmax", "log_softmax", "logsumexp"), [
    ([INF, 0.0], [1.0, 0.0], [0.0, -INF], INF),
    ([0.0, INF, -INF], [0.0, 1.0, 0.0], [-INF, 0.0, -INF], INF),
    ([INF, INF], [NAN, NAN], [NAN, NAN], INF),
    ([INF, -INF, INF], [NAN, NAN, NAN], [NAN, NAN, NAN], INF),
    ([0.0, -INF], [1.0, 0.0], [0.0, -INF], 0.0),
    ([NAN, 0.0], [NAN, NAN], [NAN, NAN], NAN),
    ([INF, NAN], [NAN, NAN], [NAN, NAN], NAN),
    ([-INF, NAN], [NAN, NAN], [NAN, NAN], NAN),
])
def test_infinities_are_limits_and_nan_stays(x, softmax, log_softmax, logsumexp, width):
    # `width` more entries of -inf: the special one may stand in any vector, and they change nothing
    more = [-INF] * width
    for order in (slice(None), slice(None, None, -1)):
        rows = np.array(x + more)[order]
        nan = np.isnan(softmax[0])
        np.testing.assert_array_equal(cs.softmax(rows), np.array(softmax + [NAN if nan else 0.0] * width)[order])
        np.testing.assert_array_equal(cs.log_softmax(rows),
                                      np.array(log_softmax + [NAN if nan else -INF] * width)[order])
        np.testing.assert_array_equal(cs.logsumexp(rows), logsumexp)


@pytest.mark.parametrize("C", [1, 2, 8, 9])
def test_a_row_of_minus_infinity_is_nan_and_its_logsumexp_minus_infinity(C):
    x = np.full(C, -INF)
    assert np.isnan(cs.softmax(x)).all()
    assert np.isnan(cs.log_softmax(x)).all()
    assert cs.logsumexp(x) == -INF


@each
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_bad_entry_changes_its_own_slice_only(ours, scipys, oracle, bad):
    x = np.random.default_rng(1).normal(size=(4, 11, 3))
    good = ours(x, axis=1)
    x[2, 5, 1] = bad
    got = ours(x, axis=1)
    same = np.ones((4, 3), dtype=bool)
    same[2, 1] = False
    by_slice = (lambda a: a) if ours is cs.logsumexp else (lambda a: a.transpose(0, 2, 1))
    np.testing.assert_array_equal(by_slice(got)[same], by_slice(good)[same])
    assert not np.array_equal(by_slice(got)[2, 1], by_slice(good)[2, 1])


def test_the_largest_doubles_do_not_overflow():
    big = np.finfo(float).max
    assert cs.softmax([big, big, -big]).tolist() == [0.5, 0.5, 0.0]
    assert cs.logsumexp([big, -big]) == big
    assert cs.log_softmax([big, 0.0]).tolist() == [0.0, -big]


# ---------------------------------------------------------------------------------------------------------------------
# Dtypes


def test_small_integers_do_not_wrap():
    # SciPy 1.17.1 gives nan, nan, 0 and 0.73, 0.27: the shift by the maximum wraps
    np.testing.assert_array_equal(cs.softmax(np.array([0, 1, 2], dtype=np.uint8)), cs.softmax([0.0, 1.0, 2.0]))
    assert cs.softmax(np.array([-128, 127], dtype=np.int8)).tolist() == cs.softmax([-128.0, 127.0]).tolist()
    assert cs.log_softmax(np.array([-128, 127], dtype=np.int8)).tolist() == [-255.0, -np.exp(-255.0)]
    assert cs.logsumexp(np.array([-128, -128], dtype=np.int8)) == cs.logsumexp([-128.0, -128.0])


@each
@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64,
                                   np.uint64], ids=lambda dtype: dtype.__name__)
def test_integers_and_bools_are_computed_in_float64(ours, scipys, oracle, dtype):
    x = np.array([[0, 1, 1], [1, 0, 0]], dtype=dtype)
    got = ours(x, axis=1)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, ours(x.astype(np.float64), axis=1))
    extremes = np.array([0, 1], dtype=dtype) if dtype is np.bool_ else np.array(
        [np.iinfo(dtype).min, np.iinfo(dtype).max], dtype=dtype)
    np.testing.assert_array_equal(ours(extremes), ours(extremes.astype(np.float64)))


SHAPES = [((), [None]), ((5,), [None, 0, -1, (0,)]), ((1,), [None, 0]), ((2, 3), [None, 0, 1, -1, -2, (0, 1), (1, 0)]),
          ((2, 3, 4), [None, 0, 1, 2, -1, (0, 2), (2, 0), (-1, 1), (0, 1, 2)]), ((0, 3), [1]), ((2, 0, 3), [0, 2]),
          ((3, 1, 2), [1, (1, 2)])]


@each
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64, np.int32])
@pytest.mark.parametrize(("shape", "axis"), [(shape, axis) for shape, axes in SHAPES for axis in axes])
def test_shape_dtype_and_values_agree_with_scipy(ours, scipys, oracle, dtype, shape, axis):
    x = (np.random.default_rng(2).normal(size=shape) * 3).astype(dtype)
    got, want = ours(x, axis=axis), scipys(x, axis=axis)
    assert type(got) is type(want)
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    # SciPy computes float16 in float16: 24 terms of half a unit of its last digit and more
    eps = np.finfo(want.dtype).eps
    np.testing.assert_allclose(got, want, rtol=32 * eps, atol=32 * eps)
    if ours is cs.logsumexp and shape:  # SciPy makes a scalar an array of one first, and keeps that axis
        kept = scipys(x, axis=axis, keepdims=True)
        assert ours(x, axis=axis, keepdims=True).shape == kept.shape
        np.testing.assert_array_equal(ours(x, axis=axis, keepdims=True).ravel(), np.ravel(got))


@each
def test_axes_are_those_of_the_formula(ours, scipys, oracle):
    x = np.random.default_rng(3).normal(size=(3, 4, 5))
    for axis in (0, 1, 2, -1, -3):
        moved = np.moveaxis(x, axis, -1)
        want = oracle(moved)
        got = ours(x, axis=axis)
        # the rows are short and near 0: a few roundings
        np.testing.assert_allclose(got if ours is cs.logsumexp else np.moveaxis(got, axis, -1), want.astype(float),
                                   rtol=8 * EPS)
    got = ours(x, axis=(0, 2))
    rows = x.transpose(1, 0, 2).reshape(4, 15)
    want = oracle(rows).astype(float)
    if ours is cs.logsumexp:
        np.testing.assert_allclose(got, want, rtol=8 * EPS)
    else:
        np.testing.assert_allclose(got.transpose(1, 0, 2).reshape(4, 15), want, rtol=8 * EPS)


@each
def test_complex_and_long_double_are_scipys(ours, scipys, oracle):
    for x in (np.array([[1 + 2j, 0.5], [0, -1j]]), np.array([[1.0, 2.0], [3.0, 5.0]], dtype=np.longdouble)):
        got, want = ours(x, axis=1), scipys(x, axis=1)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


def test_factors_and_signs_are_scipys():
    a, b = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]]), np.array([1.0, -2.0, 0.5])
    for more in ({"b": b}, {"b": b, "return_sign": True}, {"return_sign": True}, {"b": b, "axis": 0},
                 {"b": np.abs(b), "axis": 1, "keepdims": True}):
        more = {"axis": 1, **more}
        if not more.get("return_sign") and (more["b"] < 0).any():
            more["b"] = np.abs(more["b"]) if more["axis"] == 0 else more["b"]
        with np.errstate(invalid="ignore"):  # the logarithm of a negative sum is nan
            got, want = cs.logsumexp(a, **more), scipy.special.logsumexp(a, **more)
        np.testing.assert_array_equal(got, want)
    # integers are widened before SciPy sees them
    got = cs.logsumexp(np.array([0, 255], dtype=np.uint8), b=[1.0, 1.0])
    assert got == cs.logsumexp([0.0, 255.0]) == 255.0


@each
def test_what_is_no_number_raises(ours, scipys, oracle):
    name = "a" if ours is cs.logsumexp else "x"
    with pytest.raises(TypeError, match=rf"^{name} has dtype <U1; numbers are wanted"):
        ours(np.array(["a", "b"]))
    with pytest.raises(TypeError, match=rf"^{name} has dtype object; numbers are wanted"):
        ours([1, None])


# ---------------------------------------------------------------------------------------------------------------------
# Empty and scalar


def test_an_empty_reduction_has_no_probabilities_and_the_sum_0():
    # SciPy 1.17.1's softmax raises: its maximum has no identity. A softmax of no entries is no entries, a sum of no
    # terms is 0 and its logarithm -inf
    for shape, axis in (((0,), None), ((0,), 0), ((3, 0), 1), ((3, 0), None), ((2, 0, 4), (0, 1)), ((0, 0), 0)):
        x = np.empty(shape)
        assert cs.softmax(x, axis=axis).shape == shape
        assert cs.log_softmax(x, axis=axis).shape == shape
        got = np.asarray(cs.logsumexp(x, axis=axis))
        assert got.shape == np.sum(x, axis=axis).shape
        assert (got == -INF).all()
    assert cs.logsumexp(np.empty((3, 0)), axis=1, keepdims=True).tolist() == [[-INF]] * 3
    assert cs.logsumexp(np.empty((0, 3)), axis=1).shape == (0,)
    assert cs.softmax(np.empty((3, 0), dtype=np.float32), axis=1).dtype == np.float32
    assert cs.softmax([]).dtype == np.float64


def test_a_scalar_is_a_row_of_one():
    assert (cs.softmax(3.0), cs.log_softmax(3.0), cs.logsumexp(3.0)) == (1.0, 0.0, 3.0)
    assert cs.logsumexp(np.float32(3)).dtype == np.float32
    assert cs.logsumexp(3.0, keepdims=True).shape == ()


@each
def test_an_axis_out_of_range_or_repeated_raises(ours, scipys, oracle):
    x = np.zeros((2, 3))
    for axis in (2, -3, (0, 2)):
        with pytest.raises(ValueError, match=r"axis -?\d is out of bounds for array of dimension 2"):
            ours(x, axis=axis)
    with pytest.raises(ValueError, match=r"repeated axis"):
        ours(x, axis=(1, -1))
    with pytest.raises(ValueError, match=r"out of bounds"):
        ours(1.0, axis=0)


@each
@pytest.mark.parametrize("axis", [10**30, -10**30, 2**63, 2**40, -2**40, (0, 10**30), np.uint64(2**64 - 1)])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "c16", "longdouble"])
def test_an_axis_beyond_c_integers_is_out_of_range_like_others(ours, scipys, oracle, dtype, axis):
    with pytest.raises(np.exceptions.AxisError, match=r"axis .* out of bounds for array of dimension 2"):
        ours(np.zeros((2, 3), dtype=dtype), axis=axis)


@each
def test_an_axis_that_is_no_integer_is_named_for_every_dtype(ours, scipys, oracle):
    for dtype in ("f8", "c16"):
        with pytest.raises(TypeError, match="axis is 'a'; an integer, a tuple of them, or None is wanted"):
            ours(np.zeros((2, 3), dtype=dtype), axis="a")


def test_the_axis_of_a_scalar_with_factors_is_theirs():
    assert cs.logsumexp(0.0, axis=0, b=[1.0, 2.0]) == pytest.approx(np.log(3.0), rel=1e-15)
    for axis in (1, 10**30):
        with pytest.raises(np.exceptions.AxisError, match=f"axis {axis} is out of bounds for array of dimension 1"):
            cs.logsumexp(0.0, axis=axis, b=[1.0, 2.0])


# ---------------------------------------------------------------------------------------------------------------------
# Layouts, out, threads

LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "negative strides": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "transposed": lambda x: x.transpose().copy().transpose(),
    "read-only": lambda x: np.frombuffer(x.tobytes(), dtype=x.dtype).reshape(x.shape),
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
    "unaligned": lambda x: np.frombuffer(b"x" + x.tobytes(), dtype=np.uint8)[1:].view(x.dtype).reshape(x.shape),
    "list": lambda x: x.tolist(),
}


@each
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("axis", [None, 0, 1, (0, 2)])
def test_every_layout_gives_the_same_bits(ours, scipys, oracle, layout, axis):
    x = np.random.default_rng(4).normal(size=(5, 9, 4))
    got = ours(LAYOUTS[layout](x), axis=axis)
    assert got.dtype == np.dtype(float)
    assert got.dtype.isnative
    np.testing.assert_array_equal(got, ours(x, axis=axis))


@each
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_out_of_any_order_is_written_to_and_returned(ours, scipys, oracle, dtype):
    x = np.random.default_rng(5).normal(size=(6, 7)).astype(dtype)
    want = ours(x, axis=0)
    for make in (lambda shape: np.empty(shape, dtype), lambda shape: np.empty(shape, dtype, order="F"),
                 lambda shape: np.empty((*shape, 2), dtype)[..., 1]):
        out = make(want.shape)
        out[...] = np.nan
        assert ours(x, axis=0, out=out) is out
        np.testing.assert_array_equal(out, want)


@each
@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("subclass", [np.matrix, np.ma.MaskedArray])
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_out_may_be_of_a_subclass(ours, scipys, oracle, subclass, dtype):
    x = np.random.default_rng(5).normal(size=(6, 7)).astype(dtype)
    keepdims = {"keepdims": True} if ours is cs.logsumexp else {}
    want = ours(x, axis=1, **keepdims)
    for order in "CF":
        memory = np.zeros(want.shape, dtype, order=order)
        out = memory.view(subclass)
        assert ours(np.asarray(x, order=order), axis=1, out=out, **keepdims) is out
        np.testing.assert_array_equal(memory, want)


@each
@pytest.mark.parametrize("errors", ["warn", "raise"])
def test_half_precision_overflows_without_a_warning_on_any_thread(ours, scipys, oracle, errors):
    # as the wider types do; NumPy would tell of its cast, and not heed np.errstate where a thread of the pool makes it
    x = np.tile(np.array([65504, -65504, 0, 1e-7], np.float16), (200, 250))
    for n_threads in (1, 2):
        with np.errstate(all=errors):
            got = ours(x, axis=1, n_threads=n_threads)
        with np.errstate(all="ignore"):
            want = ours(x.astype(np.float64), axis=1).astype(np.float16)
        np.testing.assert_array_equal(got, want)


@each_map
def test_out_may_be_the_input(ours, scipys, oracle):
    for axis in (None, 0, 1):
        x = np.random.default_rng(6).normal(size=(6, 7))
        want = ours(x.copy(), axis=axis)
        assert ours(x, axis=axis, out=x) is x
        np.testing.assert_array_equal(x, want)


@each
def test_the_input_is_left_as_it_was(ours, scipys, oracle):
    x = np.random.default_rng(7).normal(size=(6, 7))
    before = x.copy()
    ours(x, axis=1)
    np.testing.assert_array_equal(x, before)


@each
def test_an_out_that_does_not_fit_raises(ours, scipys, oracle):
    x = np.zeros((2, 3))
    shape = ours(x, axis=1).shape
    for out in (np.empty((5,)), np.empty(shape, dtype=np.float32), np.empty((*shape, 1)), [0.0]):
        with pytest.raises(ValueError, match=r"out has shape .* and dtype .*; shape .* and dtype float64 are wanted"):
            ours(x, axis=1, out=out)
    out = np.empty(shape)
    out.flags.writeable = False
    with pytest.raises(ValueError, match=r"read-only"):
        ours(x, axis=1, out=out)


def test_out_and_factors_do_not_go_together():
    with pytest.raises(ValueError, match=r"out is given together with b, or with a complex"):
        cs.logsumexp([1.0, 2.0], out=np.empty(()), b=[1.0, 2.0])


@each
@pytest.mark.parametrize("axis", [0, 1, None])
def test_results_are_bit_identical_for_every_number_of_threads(ours, scipys, oracle, axis):
    x = np.random.default_rng(8).normal(size=(900, 200))
    assert x.size > special.kernels.SMALL_SIZE  # else one thread does it all
    one = ours(x, axis=axis, n_threads=1)
    for n_threads in (2, 3, None):
        np.testing.assert_array_equal(ours(x, axis=axis, n_threads=n_threads), one)
    want = oracle(np.moveaxis(x, axis, -1) if axis is not None else x.ravel())
    if ours is not cs.logsumexp and axis is not None:
        want = np.moveaxis(want, -1, axis)
    # up to 180 000 terms over at least 2 lanes (or 1), half an ulp each at most
    np.testing.assert_allclose(np.ravel(one), np.ravel(want).astype(float), rtol=x.size * EPS / 2)


@each
def test_a_number_of_threads_that_is_none_raises_for_small_arrays_too(ours, scipys, oracle):
    for n_threads in (0, -1, 1.5, "2", True):
        with pytest.raises(ValueError, match=r"n_threads is .*; it must be None or a whole number from 1"):
            ours([1.0, 2.0], n_threads=n_threads)


@each_map
def test_unknown_arguments_raise(ours, scipys, oracle):
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'dim'"):
        ours([1.0], dim=0)


# ---------------------------------------------------------------------------------------------------------------------
# Properties


@pytest.mark.parametrize("C", [1, 2, 5, 8, 13, 100])
def test_softmax_is_invariant_to_row_shifts_and_sums_to_1(C):
    x = np.round(np.random.default_rng(9).normal(size=(20, C)) * 2.0**10) / 2.0**10  # so that shifts are exact
    p = cs.softmax(x, axis=1)
    np.testing.assert_array_equal(cs.softmax(x + 2.0**20, axis=1), p)
    # C roundings, half an ulp of 1 each, and those of the sum
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=2 * C * EPS)
    np.testing.assert_allclose(np.exp(cs.log_softmax(x, axis=1)), p, rtol=32 * EPS)  # |log p| < 16, twice


def test_two_entries_are_the_logistic_function():
    x = np.linspace(-700, 700, 1401)
    p = cs.softmax(np.column_stack([np.zeros_like(x), x]), axis=1)[:, 1]
    np.testing.assert_allclose(p, scipy.special.expit(x), rtol=8 * EPS)  # 4 ulp each


# ---------------------------------------------------------------------------------------------------------------------
# The Jacobian


@extended
@pytest.mark.parametrize("C", [1, 2, 3, 8, 17])
@pytest.mark.parametrize("scale", [1.0, 30.0, 300.0])
def test_jacobian_and_its_product_agree_with_the_oracle(C, scale):
    rng = np.random.default_rng(C)
    x, v = rng.normal(size=(6, C)) * scale, rng.normal(size=(6, C))
    jacobian, product = cs.softmax_jacobian(x), cs.softmax_jvp(x, v)
    assert jacobian.shape == (6, C, C)
    assert product.shape == (6, C)
    for j in range(6):
        want = ref.softmax_jacobian(x[j])
        # two factors of 4 + C / 2 ulp, their product, and C additions of one sign; products below 2.2e-308 lose digits
        np.testing.assert_allclose(jacobian[j], want.astype(float), rtol=(10 + 2 * C) * EPS, atol=1e-307)
        # p_i (v_i - v_t - sum_k p_k (v_k - v_t)), t the likeliest: relative to the sizes of what is added
        p, relative = ref.softmax(x[j]), v[j] - v[j][np.argmax(x[j])]
        size = p * (np.abs(relative) + (p * np.abs(relative)).sum())
        assert (np.abs(product[j] - want @ v[j]) <= (10 + 2 * C) * EPS * size.astype(float) + 1e-307).all()
        np.testing.assert_array_equal(jacobian[j], jacobian[j].T)


def test_jacobian_keeps_its_digits_where_a_probability_is_nearly_1():
    # p_0 (1 - p_0) = 4.2e-18 where 1 - p_0 is 0 in float64
    small = 4.248354255291589e-18
    np.testing.assert_allclose(cs.softmax_jacobian([40.0, 0.0]), [[small, -small], [-small, small]], rtol=4 * EPS)
    np.testing.assert_allclose(cs.softmax_jvp([40.0, 0.0], [1.0, 2.0]), [-small, small], rtol=4 * EPS)


def test_the_product_is_the_jacobian_times_the_vector():
    rng = np.random.default_rng(1)
    x, v = rng.normal(size=(3, 1, 5)), rng.normal(size=(4, 5))
    product = cs.softmax_jvp(x, v)  # broadcast but for the last axis
    assert product.shape == (3, 4, 5)
    want = np.einsum("aik,bk->abi", cs.softmax_jacobian(x[:, 0]), v)
    np.testing.assert_allclose(product, want, rtol=0, atol=16 * EPS)  # numbers below 2, 5 terms
    assert cs.softmax_jvp([0.0, 0.0], np.array([255, 0], dtype=np.uint8)).tolist() == [63.75, -63.75]  # no wrap
    assert cs.softmax_jvp(np.float32([0, 0]), np.float32([1, 0])).dtype == np.float32
    assert cs.softmax_jvp(np.empty((2, 0)), np.empty((2, 0))).shape == (2, 0)
    assert cs.softmax_jacobian(np.empty((2, 0))).shape == (2, 0, 0)


def test_the_jacobian_is_the_derivative_of_softmax():
    x, h = np.array([0.3, -1.0, 0.7]), 1e-6
    for k in range(3):
        step = h * np.eye(3)[k]
        slope = (cs.softmax(x + step) - cs.softmax(x - step)) / (2 * h)
        # h^2 / 6 of the third derivative and eps / h
        np.testing.assert_allclose(cs.softmax_jacobian(x)[:, k], slope, rtol=0, atol=1e-9)


def test_the_jacobian_of_what_has_no_axis_or_another_length_raises():
    for function in (cs.softmax, cs.log_softmax, cs.logsumexp):
        for axis in (1.0, "a", (0, 1.0)):
            with pytest.raises(TypeError, match=re.escape(f"axis is {axis!r}; an integer, a tuple of them, or None")):
                function(np.ones((3, 4)), axis=axis)
    with pytest.raises(ValueError, match=r"x is a scalar; an array with at least one axis is wanted"):
        cs.softmax_jacobian(1.0)
    with pytest.raises(ValueError, match=r"x is a scalar"):
        cs.softmax_jvp(1.0, [1.0])
    with pytest.raises(ValueError, match=r"v has shape \(3,\); its last axis must have length 2, as x's has"):
        cs.softmax_jvp([1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"v has shape \(\); its last axis must have length 2"):
        cs.softmax_jvp([1.0, 2.0], 1.0)


@each
def test_no_axes_at_all_leave_each_entry_to_itself(ours, scipys, oracle):
    for x in (np.array([1.0, 2.0, 3.0]), np.ones((2, 3), dtype=np.float32)):
        np.testing.assert_array_equal(ours(x, axis=()), ours(x[..., np.newaxis], axis=-1).reshape(x.shape))


def test_logsumexp_may_write_over_a_part_of_its_input():
    x = np.random.default_rng(5).normal(size=(40_000, 4))
    want = cs.logsumexp(x, axis=1)
    for n_threads in (1, 2):
        y = x.copy()
        np.testing.assert_array_equal(cs.logsumexp(y, axis=1, out=y.reshape(-1)[-40_000:], n_threads=n_threads), want)


@each
def test_an_array_that_begins_inside_a_number_is_taken(ours, scipys, oracle):
    x = np.random.default_rng(6).normal(size=(7, 11))
    moved = np.frombuffer(b"x" + x.tobytes(), np.uint8)[1:].view(np.float64).reshape(x.shape)
    assert not moved.flags.aligned
    np.testing.assert_array_equal(ours(moved, axis=1), ours(x, axis=1))


def test_more_ties_than_float32_counts_are_counted():
    # a lane counts 2^24 ones and then stands still: with 4 lanes at 2^26 entries
    n = 2**26 + 2**20
    assert cs.logsumexp(np.zeros(n, dtype=np.float32), n_threads=1) == np.float32(np.log(n))


# ---------------------------------------------------------------------------------------------------------------------
# Small arrays are a matter of one call of a kernel

@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(1,), (3,), (9,), (300,), (1, 5), (5, 1), (7, 3), (40, 50), (2, 3, 4), (5000, 6)])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_small_arrays_have_the_bits_that_out_has(kernel_build, name, shape, dtype):
    # with out= the arrays go the way of the large ones
    x = 5 * np.random.default_rng(1).standard_normal(shape).astype(dtype)
    function = getattr(cs, name)
    for axis in (None, -1, len(shape) - 1, 0):
        small = function(x, axis=axis)
        out = np.empty(small.shape, dtype)
        np.testing.assert_array_equal(small, function(x, axis=axis, out=out), strict=isinstance(small, np.ndarray))
        assert small.dtype == dtype


@pytest.mark.parametrize("x", [np.zeros((3, 4)).T, np.zeros((3, 4))[:, ::2], np.zeros((3, 4), np.int64),
                               np.zeros((3, 4), ">f8"), np.zeros((0, 4)), np.zeros(()),
                               np.zeros(8 * 12 + 1, np.uint8)[1:].view(np.float64).reshape(3, 4)],
                         ids=["Fortran", "strided", "int", "big-endian", "empty", "0-d", "unaligned"])
def test_the_kernel_for_small_arrays_leaves_to_others_what_it_cannot_read(kernel_build, x):
    assert kernel_build.small(0, x, None, None, None) is None
    for axis in (5, -3, True, (0,)):
        assert kernel_build.small(0, np.zeros((3, 4)), axis, None, None) is None


def test_the_kernel_for_small_arrays_takes_read_only_ones():
    x = np.zeros(4)
    x.flags.writeable = False
    assert cs.softmax(x).tolist() == [0.25] * 4


def test_the_mask_of_a_masked_array_is_not_looked_at_as_scipys_functions_do_not():
    x = np.ma.masked_array([[1.0, 2.0, 100.0], [3.0, 1.0, 0.5]], mask=[[0, 0, 1], [0, 1, 0]])
    for ours, theirs in ((cs.softmax, scipy.special.softmax), (cs.log_softmax, scipy.special.log_softmax),
                         (cs.logsumexp, scipy.special.logsumexp)):
        for axis in (None, 0, 1):
            result = ours(x, axis=axis)
            assert not np.ma.isMaskedArray(result)
            np.testing.assert_array_equal(result, ours(x.data, axis=axis))
            np.testing.assert_allclose(result, np.ma.getdata(theirs(x, axis=axis)), rtol=1e-14, atol=1e-40)
