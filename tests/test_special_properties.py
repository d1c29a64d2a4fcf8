"""What holds of softmax, log_softmax and logsumexp for any array: hypothesis looks for one where it does not.

Nothing stands on this file. It stands on hypothesis, scipy.special and conftest.py (the builds).

scipy.special is the model for shapes, dtypes and values, but not where it is wrong or raises (SciPy 1.17):
    integers whose differences wrap        softmax(uint8 [0, 1, 2]) is nan, nan, 0; of one byte, float16
    infinities                             one +inf gives nan; its limit is 1 there and 0 elsewhere
    the dominant entry of log_softmax      an absolute error of 2^-53, and -4e-18 becomes 0
    far-off entries of softmax             x - m rounds, and exp is off by |x - m| / 2 ulp
    no entries to reduce                   softmax raises, for want of a maximum
    logsumexp of no rows, several axes     raises
    logsumexp of a scalar with keepdims    keeps an axis that the scalar does not have
The dominant and the far-off entries are compared within what SciPy's own rounding is; the others are left out here.
"""

import math

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.special
from hypothesis import HealthCheck, assume, given, settings

import csoftmax as cs

pytestmark = pytest.mark.usefixtures("kernel_build")

# The same examples each time. The build is chosen once for all examples of a test, as it should be.
repeatable = settings(deadline=None, derandomize=True, max_examples=50,
                      suppress_health_check=[HealthCheck.function_scoped_fixture])

SOFTMAX_ULPS = LOG_SOFTMAX_ULPS = 4  # as test_special_accuracy.py measures them
LOGSUMEXP_ULPS = 2

FLOATS = (np.float16, np.float32, np.float64)
# one- and two-byte integers become float16 and float32 in SciPy, float64 here
DTYPES = (*FLOATS, np.int32, np.int64)
INTEGERS = (np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)
FUNCTIONS = {"softmax": (cs.softmax, scipy.special.softmax), "log_softmax": (cs.log_softmax, scipy.special.log_softmax),
             "logsumexp": (cs.logsumexp, scipy.special.logsumexp)}
each = pytest.mark.parametrize("name", FUNCTIONS)
each_map = pytest.mark.parametrize("name", ["softmax", "log_softmax"])


# ---------------------------------------------------------------------------------------------------------------------
# Arrays


def steps_of_two(x):
    wide = np.zeros([2 * length for length in x.shape], dtype=x.dtype)
    view = wide[(..., *[slice(None, None, 2)] * x.ndim)]  # with ... an array of no dimensions stays one
    view[...] = x
    return view


def negative_strides(x):
    back = (..., *[slice(None, None, -1)] * x.ndim)
    return x[back].copy()[back]


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


LAYOUTS = {
    "C order": lambda x: x.copy(order="C"),
    "Fortran order": lambda x: x.copy(order="F"),
    "negative strides": negative_strides,
    "every second": steps_of_two,
    "read-only": read_only,
    # a stride of 0, and read-only as well
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape) if x.ndim and x.shape[0] else x,
    "broadcast along the last axis": lambda x: np.broadcast_to(x[..., :1], x.shape) if x.size and x.ndim else x,
}


def numbers(dtype):
    """Entries of up to 1000: their differences underflow in every dtype, and none overflows."""
    dtype = np.dtype(dtype)
    return st.integers(-1000, 1000) if dtype.kind == "i" else st.floats(-1000, 1000, width=8 * dtype.itemsize)


def the_whole_range(dtype):
    return hnp.from_dtype(np.dtype(dtype))


def axes_of(ndim):
    """None, an axis or several, from the front or the back."""
    some = st.none()
    if ndim:
        some |= st.integers(-ndim, ndim - 1) | hnp.valid_tuple_axes(ndim, min_size=1)
    return some


@st.composite
def arrays(draw, dtypes=DTYPES, elements=numbers):
    """An array of 0 to 4 dimensions in any layout, and an axis of it, or several."""
    dtype = draw(st.sampled_from(dtypes))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    x = draw(hnp.arrays(dtype, shape, elements=elements(dtype)))
    return LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))](x), draw(axes_of(x.ndim))


@st.composite
def rows(draw, dtypes=FLOATS, elements=numbers):
    """Up to 4 rows of up to 40 entries, several vectors."""
    dtype = draw(st.sampled_from(dtypes))
    shape = draw(st.integers(1, 4)), draw(st.integers(1, 40))
    return draw(hnp.arrays(dtype, shape, elements=elements(dtype)))


def reduced_length(x, axis):
    return x.size if axis is None else math.prod(x.shape[i] for i in np.atleast_1d(axis))


def ulps_apart(got, want, ulps, size=None):
    """Whether |got - want| <= ulps * the spacing of the larger of the two, or of `size` where that is larger."""
    dtype = np.asarray(got).dtype
    got, want = np.asarray(got, dtype=float), np.asarray(want, dtype=float)
    largest = np.maximum(np.abs(got), np.abs(want))
    if size is not None:
        largest = np.maximum(largest, np.abs(size))
    return np.abs(got - want) <= ulps * np.spacing(largest.astype(dtype)).astype(float)


# ---------------------------------------------------------------------------------------------------------------------
# SciPy


@each
@repeatable
@given(arrays(), st.booleans())
def test_shape_dtype_and_values_are_scipys_where_scipy_is_right(name, drawn, keepdims):
    x, axis = drawn
    ours, scipys = FUNCTIONS[name]
    length = reduced_length(x, axis)
    assume(length and (x.size or np.ndim(axis) == 0))
    more = {"keepdims": keepdims} if name == "logsumexp" and x.ndim else {}
    before = x.copy()
    got, want = ours(x, axis=axis, **more), scipys(x, axis=axis, **more)
    np.testing.assert_array_equal(x, before)
    assert type(got) is type(want)
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if not x.size:
        return
    # SciPy's sum of `length` terms is off by as many half eps, exp, log, the quotient and the last rounding by a few
    # more; float16 is summed in float16. What x - m rounds is |x - m| / 2 eps of a term of softmax
    info = np.finfo(want.dtype)
    m = x.max(axis=axis, keepdims=True).astype(float)
    want = np.asarray(want, dtype=float)
    eps = float(info.eps)
    if name == "softmax":
        tolerance = eps * (length + 8 + np.abs(x - m)) * want + 4 * float(info.smallest_subnormal)
    elif name == "log_softmax":
        tolerance = eps * (length + 8 + 2 * np.abs(want))
    else:
        tolerance = eps * (length + 8 + 2 * np.maximum(np.abs(want), np.abs(m.reshape(want.shape))))
    assert (np.abs(np.asarray(got, dtype=float) - want) <= tolerance).all()


@each
@repeatable
@given(arrays(dtypes=INTEGERS, elements=the_whole_range))
def test_integers_are_taken_for_the_float64_of_the_same_value(name, drawn):
    # whose differences do not wrap
    x, axis = drawn
    ours, _ = FUNCTIONS[name]
    got = ours(x, axis=axis)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, ours(x.astype(np.float64), axis=axis))


@each
@repeatable
@given(arrays(), st.booleans(), st.data())
def test_without_entries_the_shape_is_that_of_a_sum_and_logsumexp_minus_infinity(name, drawn, keepdims, data):
    x, axis = drawn
    ours, _ = FUNCTIONS[name]
    if x.size:
        assume(x.ndim)
        x = np.take(x, [], axis=data.draw(st.integers(0, x.ndim - 1)))
    if name != "logsumexp":
        assert ours(x, axis=axis).shape == x.shape
        return
    got, want = ours(x, axis=axis, keepdims=keepdims), x.sum(axis=axis, keepdims=keepdims)
    assert got.shape == want.shape
    assert (got == -np.inf).all()


@each_map
@repeatable
@given(arrays(dtypes=FLOATS))
def test_out_of_any_layout_receives_the_same_bits(name, drawn):
    x, axis = drawn
    ours, _ = FUNCTIONS[name]
    want = ours(x, axis=axis)
    for layout in ("C order", "Fortran order", "negative strides", "every second"):
        out = LAYOUTS[layout](np.full(x.shape, 7, dtype=x.dtype))
        assert ours(x, axis=axis, out=out) is out
        np.testing.assert_array_equal(out, want)


# ---------------------------------------------------------------------------------------------------------------------
# Mathematics


@repeatable
@given(rows(dtypes=(np.float32, np.float64), elements=lambda dtype: st.integers(-1000, 1000).map(lambda k: k / 16)),
       st.integers(-(2**18), 2**18))
def test_a_shift_of_all_entries_moves_logsumexp_alone(x, sixteenths):
    # sixteenths of up to 2^18 have 23 bits: x + shift is exact in float32 as well, and x - m the same number, so the
    # probabilities are the same bit for bit
    shift = x.dtype.type(sixteenths / 16)
    shifted = x + shift
    assert (shifted.astype(float) == x.astype(float) + sixteenths / 16).all()
    np.testing.assert_array_equal(cs.softmax(shifted, axis=1), cs.softmax(x, axis=1))
    np.testing.assert_array_equal(cs.log_softmax(shifted, axis=1), cs.log_softmax(x, axis=1))
    # each within its bound, the larger one's ulp for both, and the sum on the right rounds too
    got, want = cs.logsumexp(shifted, axis=1), cs.logsumexp(x, axis=1)
    size = np.maximum(np.abs(want), np.maximum(np.abs(x.max(axis=1)), np.abs(shifted.max(axis=1))))
    assert ulps_apart(got, want + shift, 2 * LOGSUMEXP_ULPS + 1, size).all()


@repeatable
@given(rows())
def test_probabilities_sum_to_1_within_C_ulp(x):
    p = cs.softmax(x, axis=1)
    # an error of C ulp of 1 in all; math.fsum adds none of its own
    for row in p:
        assert abs(math.fsum([*row.tolist(), -1.0])) <= x.shape[1] * float(np.finfo(x.dtype).eps)


@repeatable
@given(rows())
def test_probabilities_are_between_0_and_1_and_logsumexp_between_the_maximum_and_that_of_ties(x):
    p, log_p, lse = cs.softmax(x, axis=1), cs.log_softmax(x, axis=1), cs.logsumexp(x, axis=1)
    assert ((p >= 0) & (p <= 1)).all()
    assert (log_p <= 0).all()
    m = x.max(axis=1)
    assert (lse >= m).all()
    highest = m.astype(float) + math.log(x.shape[1])
    assert ((lse <= highest) | ulps_apart(lse, highest, LOGSUMEXP_ULPS, m)).all()


@repeatable
@given(rows(), st.randoms(use_true_random=False))
def test_a_permutation_of_the_entries_permutes_the_results(x, random):
    order = list(range(x.shape[1]))
    random.shuffle(order)
    # the sum runs in another order, which may move its last digits: each result is within its bound of the same number
    assert ulps_apart(cs.softmax(x[:, order], axis=1), cs.softmax(x, axis=1)[:, order], 2 * SOFTMAX_ULPS).all()
    assert ulps_apart(cs.log_softmax(x[:, order], axis=1), cs.log_softmax(x, axis=1)[:, order],
                      2 * LOG_SOFTMAX_ULPS).all()
    assert ulps_apart(cs.logsumexp(x[:, order], axis=1), cs.logsumexp(x, axis=1), 2 * LOGSUMEXP_ULPS,
                      x.max(axis=1)).all()


@repeatable
@given(rows())
def test_log_softmax_is_the_entry_less_logsumexp(x):
    got, lse, m = cs.log_softmax(x, axis=1), cs.logsumexp(x, axis=1), x.max(axis=1)
    # logsumexp's bound in its ulp, log_softmax's own, and half for the rounding of the difference
    want = x.astype(float) - lse.astype(float)[:, None]
    ulp = np.spacing(np.maximum(np.abs(lse), np.abs(m))).astype(float)[:, None]
    own = np.spacing(np.maximum(np.abs(got), np.abs(want.astype(x.dtype)))).astype(float)
    assert (np.abs(got - want) <= LOGSUMEXP_ULPS * ulp + (LOG_SOFTMAX_ULPS + 0.5) * own).all()


@repeatable
@given(rows())
def test_softmax_is_the_exponential_of_log_softmax(x):
    p, log_p = cs.softmax(x, axis=1).astype(float), cs.log_softmax(x, axis=1).astype(float)
    # log p within 4 ulp moves its exponential by 4 eps |log p|; 4 ulp of p, and 1 of np.exp. Denormals by the piece
    info = np.finfo(x.dtype)
    relative = float(info.eps) * (LOG_SOFTMAX_ULPS * np.abs(log_p) + SOFTMAX_ULPS + 1)
    assert (np.abs(p - np.exp(log_p)) <= np.expm1(relative) * np.maximum(p, np.exp(log_p))
            + SOFTMAX_ULPS * float(info.smallest_subnormal)).all()


@repeatable
@given(rows(), st.data())
def test_entries_of_minus_infinity_change_nothing_in_the_others(x, data):
    gone = data.draw(hnp.arrays(np.bool_, x.shape[1]))
    assume(not gone.all())
    with_infinities = np.where(gone, x.dtype.type(-np.inf), x)
    p, log_p = cs.softmax(with_infinities, axis=1), cs.log_softmax(with_infinities, axis=1)
    assert (p[:, gone] == 0).all()
    assert (log_p[:, gone] == -np.inf).all()
    # the others stand in other places of the sum
    rest = x[:, ~gone]
    assert ulps_apart(p[:, ~gone], cs.softmax(rest, axis=1), 2 * SOFTMAX_ULPS).all()
    assert ulps_apart(log_p[:, ~gone], cs.log_softmax(rest, axis=1), 2 * LOG_SOFTMAX_ULPS).all()
    assert ulps_apart(cs.logsumexp(with_infinities, axis=1), cs.logsumexp(rest, axis=1), 2 * LOGSUMEXP_ULPS,
                      rest.max(axis=1)).all()
