"""How many ulp softmax, log_softmax and logsumexp are off, by mpmath at 60 digits, over every build of the kernels.

Nothing stands on this file. It stands on mpmath and conftest.py (the builds).

A case makes rows of one nasty kind; its truth is computed once and every function, dtype, axis, order and build is held
to it. An error is counted in ulp: the spacing of the dtype at the true value (of denormals: the smallest denormal). The
true value is that of the dtype's own inputs, and its digits beyond the 53rd count too.
"""

import decimal
import functools
import math
import zlib
from typing import NamedTuple

import mpmath
import numpy as np
import pytest

import csoftmax as cs

# exp within an ulp, the sum within half of one: 3 ulp of a quotient just below a power of 2, and half for its rounding
SOFTMAX_ULPS = 4
# x - m and log1p(rest) have one sign, nothing cancels: two roundings, and what exp, the sum and log1p are off
LOG_SOFTMAX_ULPS = 4
# m + log1p(rest) rounds once, the rest is what exp, the sum and log1p are off. Where the two cancel, the ulp is that of
# the largest entry: half of that is what the entry's own rounding moves the result by
LOGSUMEXP_ULPS = 2
# a rest of C - 1 denormals: each is rounded by half the smallest one, and the logarithm of 1 + rest is that rest
DENORMALS_LOST = 0.5

FUNCTIONS = {"softmax": cs.softmax, "log_softmax": cs.log_softmax, "logsumexp": cs.logsumexp}
ULPS = {"softmax": SOFTMAX_ULPS, "log_softmax": LOG_SOFTMAX_ULPS, "logsumexp": LOGSUMEXP_ULPS}
DTYPES = {"float64": np.float64, "float32": np.float32}
LN2 = math.log(2.0)
every_build = pytest.mark.usefixtures("kernel_build")

mp = mpmath.MPContext()  # of its own: the precision is nobody else's
mp.dps = 60


# ---------------------------------------------------------------------------------------------------------------------
# The truth


def spacing(x):
    """np.spacing of numbers >= 0; of the largest one and of infinity that of the number before."""
    return np.spacing(np.minimum(x, np.nextafter(np.finfo(x.dtype).max, 0)))


class Truth(NamedTuple):
    """Numbers as near + more * spacing(near), near in float64: exact to some 1e-16 ulp, denormals too."""

    near: np.ndarray
    more: np.ndarray

    @classmethod
    def of(cls, numbers):
        near = np.array([float(number) for number in numbers])
        more = [float((number - mp.mpf(at)) / mp.mpf(ulp)) if math.isfinite(at) else 0.0
                for number, at, ulp in zip(numbers, near.tolist(), spacing(np.abs(near)).tolist(), strict=True)]
        return cls(near, np.array(more))


def true_values(row):
    """softmax, log_softmax and logsumexp of a row of floats, as lists of mpmath numbers."""
    x = [mp.mpf(value) for value in row.tolist()]
    top = int(row.argmax())
    d = [value - x[top] for value in x]
    # below exp(-2000) = 1e-868 nothing moves a digit that is looked at
    e = [mp.exp(value) if value > -2000 else mp.zero for value in d]
    rest = mp.fsum(e[:top] + e[top + 1:])
    log1p = mp.log1p(rest)
    return {"softmax": [value / (1 + rest) for value in e], "log_softmax": [value - log1p for value in d],
            "logsumexp": [x[top] + log1p]}


def errors_in_ulps(name, got, truth, rows):
    """|got - truth| in ulp, less what a sum of denormals loses; 0 where both are the same infinity."""
    with np.errstate(all="ignore"):  # what is compared may be anything: inf - inf, and truths above the largest float32
        wanted = truth.near.astype(got.dtype)
        size = np.maximum(np.abs(wanted), np.abs(rows.max(axis=1))) if name == "logsumexp" else np.abs(wanted)
        ulp = spacing(size).astype(np.float64)
        errors = np.abs((got.astype(np.float64) - truth.near) / ulp - truth.more * (spacing(np.abs(truth.near)) / ulp))
        if name != "softmax":
            lost = DENORMALS_LOST * (rows.shape[1] - 1) * float(np.finfo(got.dtype).smallest_subnormal)
            errors = np.maximum(errors - lost / ulp, 0)
        return np.where(np.isfinite(wanted), np.nan_to_num(errors, nan=np.inf), np.where(got == wanted, 0, np.inf))


# ---------------------------------------------------------------------------------------------------------------------
# The rows. A case takes a generator, the number of entries C and the dtype's limits, and returns rows of float64.


class Limits(NamedTuple):
    dtype: type
    top: float  # 10^top - (-10^top) does not overflow
    small: float  # 10^small is normal, just
    normal: float  # exp(-normal) is the smallest normal number
    edge: float  # exp(-edge) is half the smallest denormal
    eps: float


LIMITS = {"float64": Limits(np.float64, 307.9, -300, 1022 * LN2, 1075 * LN2, 2.0**-52),
          "float32": Limits(np.float32, 38.0, -36, 126 * LN2, 150 * LN2, 2.0**-23)}
ROWS = 19  # more than two vectors of rows and a rest, for kernels that take as many rows at a time as a vector holds
CASES = {}


def case(name, *widths):
    def register(make):
        CASES.update({f"{name}, C={C}": (make, C) for C in widths})
        return make

    return register


def count(C):
    """So many rows are different; mpmath takes some 15 microseconds an entry."""
    return max(ROWS, 200 // C) if C <= 17 else 6 if C <= 100 else 3


def magnitudes(rng, shape, limits):
    return rng.choice([-1.0, 1.0], shape) * 10.0 ** rng.uniform(-6, limits.top, shape)


def below(rng, m, C, low, high):
    """Rows with one entry m, anywhere, and the others below it by low to high."""
    x = m[:, None] - rng.uniform(low, high, (len(m), C))
    x[np.arange(len(m)), rng.integers(C, size=len(m))] = m
    return x


@case("one entry alone", 1)
def one_entry(rng, C, limits):
    return magnitudes(rng, (count(C), C), limits)


@case("normal deviates of scale 1e-3 to 100", 2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17, 33, 100, 1000)
def normal_deviates(rng, C, limits):
    return rng.normal(size=(count(C), C)) * 10.0 ** rng.uniform(-3, 2, (count(C), 1))


@case("rows of magnitude 1e-6 to 1e4", 3, 10)
def rows_of_one_magnitude(rng, C, limits):
    return rng.normal(size=(count(C), C)) * 10.0 ** rng.uniform(-6, 4, (count(C), 1))


@case("entries of magnitude 1e-6 to 1e308", 2, 3, 10, 100)
def entries_of_any_magnitude(rng, C, limits):
    return magnitudes(rng, (count(C), C), limits)


@case("all negative", 3, 10)
def all_negative(rng, C, limits):
    return -np.exp(3 * rng.normal(size=(count(C), C)))


@case("ties of the maximum", 2, 3, 10, 100)
def ties(rng, C, limits):
    x = 3 * rng.normal(size=(count(C), C))
    return np.where(rng.random(x.shape) < 0.5, x.max(axis=1, keepdims=True), x)


@case("all entries equal", 3, 7, 10, 1000)
def all_equal(rng, C, limits):
    # logsumexp of -log(C) is near 0; C - 1 terms of 1 are no trouble, their quotient may be
    values = [-math.log(C), 0.0, 10.0 ** limits.top, 1.0, -1.0, -(10.0 ** limits.top), *100 * rng.normal(size=13)]
    return np.repeat(np.array(values)[: count(C), None], C, axis=1)


@case("the maximum in each place", 17)
def the_maximum_anywhere(rng, C, limits):
    return rng.normal(size=(C, C)) + 30 * np.eye(C)


@case("one dominant term", 2, 3, 10, 100)
def one_dominant_term(rng, C, limits):
    return below(rng, rng.normal(size=count(C)), C, 20, 60)


@case("a maximum of 0 and a rest of any size", 2, 3, 10, 100)
def a_maximum_of_zero(rng, C, limits):
    # log_softmax there and logsumexp are log1p(rest), the rest from 1 to a denormal
    farthest = rng.uniform(0, limits.edge, count(C))
    x = below(rng, np.zeros(count(C)), C, 0, 30)
    return np.where(x < 0, x - farthest[:, None], x)


@case("differences from 1e-300 to 100", 2, 3, 10)
def differences_of_any_magnitude(rng, C, limits):
    x = -(10.0 ** rng.uniform(limits.small, 2, (count(C), C)))
    x[:, 0] = 0
    return x


@case("far-off entries", 2, 3, 8, 10, 33, 100, 1000)
def far_off_entries(rng, C, limits):
    # x - m rounds, by up to 2^-44: without the rounding error exp is off by 512 ulp
    return below(rng, rng.uniform(-limits.normal, limits.normal, count(C)), C, 0, limits.edge)


@case("entries below an ulp of a large maximum", 2, 3, 10)
def entries_below_an_ulp(rng, C, limits):
    # m - 1e-14 and m + 1e-14 are both m: the difference of the two survives in the rounding error alone
    m = rng.uniform(0.3, 1, (count(C), 1)) * limits.normal
    x = m * limits.eps * rng.uniform(-1, 1, (count(C), C))
    x[:, 1] = m[:, 0]
    return x


@case("neighbours of the maximum", 2, 3, 10)
def neighbours_of_the_maximum(rng, C, limits):
    # 2^k (1 - i eps / 2): half an ulp of the maximum apart
    steps = rng.integers(0, 6, (count(C), C))
    steps[:, -1] = 0
    return 2.0 ** rng.integers(-4, 12, (count(C), 1)) * (1 - steps * limits.eps / 2)


@case("denormal results", 2, 3, 10, 100)
def denormal_results(rng, C, limits):
    return below(rng, rng.uniform(-limits.normal, limits.normal, count(C)), C, limits.normal - 1, limits.edge + 1)


@case("around the smallest normal result", 2, 3, 10, 100)
def around_the_smallest_normal(rng, C, limits):
    ulp = limits.normal * limits.eps
    return below(rng, rng.integers(-1, 2, count(C)).astype(float), C, limits.normal - 9 * ulp, limits.normal + 9 * ulp)


@case("around the smallest denormal result", 2, 3, 10, 100)
def around_the_smallest_denormal(rng, C, limits):
    ulp = limits.edge * limits.eps
    return below(rng, rng.integers(-1, 2, count(C)).astype(float), C, limits.edge - 9 * ulp, limits.edge + 9 * ulp)


@case("denormal entries", 3, 10)
def denormal_entries(rng, C, limits):
    return rng.integers(-50, 51, (count(C), C)) * float(np.finfo(limits.dtype).smallest_subnormal)


@case("common shift of 1e6", 2, 3, 10, 100)
def common_shift(rng, C, limits):
    return rng.choice([-1e6, 1e6], (count(C), 1)) + 10 * rng.normal(size=(count(C), C))


@case("common shift that leaves no digit behind the point", 3, 10)
def large_common_shift(rng, C, limits):
    return rng.choice([-1.0, 1.0], (count(C), 1)) / limits.eps + rng.integers(-40, 41, (count(C), C))


@case("logarithms of probabilities", 2, 3, 10, 100, 1000)
def logarithms_of_probabilities(rng, C, limits):
    # logsumexp cancels down to the rounding of the entries
    return np.log(rng.dirichlet(np.ones(C), count(C)))


@case("a small maximum cancels against the rest", 2, 3)
def a_maximum_cancels(rng, C, limits):
    # exp(x - m) = -m
    m = -np.exp(-rng.uniform(1, -math.log(limits.eps), (count(C), 1)))
    x = np.repeat(m + np.log(-m / (C - 1)), C, axis=1)
    x[:, :1] = m
    return x


@case("equal terms below the maximum", 10, 100, 1000)
def equal_terms(rng, C, limits):
    # a sum of one number again and again rounds the same way for as long as its exponent stays
    x = np.repeat(-rng.uniform(0, 4, (count(C), 1)), C, axis=1)
    x[:, 0] = 0
    return x


@case("terms of less than half an ulp of the sum", 100, 1000)
def terms_lost_in_the_sum(rng, C, limits):
    # each is lost, or counted double, when it is added to the first 17; together they are some hundred ulp
    x = np.log(limits.eps * np.repeat([[0.3], [0.45], [0.55]], count(C) // 3, axis=0)) * np.ones(C)
    x[:, :17] = rng.uniform(-0.1, 0, (count(C), 17))
    x[:, 0] = 0
    return x


@case("sorted entries", 10, 100)
def sorted_entries(rng, C, limits):
    x = np.sort(rng.exponential(1.0, (count(C), C)) * np.linspace(0.5, 40, count(C))[:, None], axis=1)
    return np.where(np.arange(count(C))[:, None] % 2, x, x[:, ::-1])


@case("differences that overflow", 2, 3, 10)
def differences_that_overflow(rng, C, limits):
    big = float(np.finfo(limits.dtype).max)
    return rng.choice([big, -big, 0.0, 1.0, -0.75 * big], (count(C), C))


# Where an error is the sum of several, each seldom at its worst: one row in a thousand has what the others do not.


def many(C):
    return 2000 if C <= 3 else 600


@case("many rows of normal deviates", 2, 3, 10)
def many_normal_deviates(rng, C, limits):
    return rng.normal(size=(many(C), C)) * 10.0 ** rng.uniform(-3, 2, (many(C), 1))


@case("many rows, all negative", 2, 3, 10)
def many_negative(rng, C, limits):
    # m + log1p(rest) cancels in part: an ulp of log1p(rest) is two of the result and of m
    return -np.exp(3 * rng.normal(size=(many(C), C)))


@case("many rows with a maximum of 0", 2, 3, 10)
def many_maxima_of_zero(rng, C, limits):
    # what exp, the sum and log1p are off comes through undiminished
    return below(rng, np.zeros(many(C)), C, 0, 40)


@case("many rows that cancel down to the size of the maximum", 2, 3, 10)
def many_that_cancel(rng, C, limits):
    # log1p(rest) is just below -2 m, in one binade with it: an ulp of exp(x - m) is two of m and of the result
    m = -(2.0 ** -rng.integers(2, 12, (many(C), 1))) * (1 - 10 ** rng.uniform(-4, -2, (many(C), 1)))
    x = np.repeat(m + np.log(np.expm1(-2 * m) / (C - 1)), C, axis=1)
    x[:, :1] = m
    return x


@case("the worst of many rows that cancel", 4)
def the_worst_that_cancels(rng, C, limits):
    # of 450 000: without a table of powers, exp(r) - 1 is half an ulp off before it is added to 1
    row = [float.fromhex("-0x1.96d5dcb5be7f8p+1")] * 3 + [float.fromhex("-0x1.ff7d5604e095cp-5")]
    return np.array([np.roll(row, turn) for turn in range(4)])


@functools.cache
def rows_and_truth(name, dtype):
    """The rows of a case in that dtype, and {function: Truth} of them.

    Where they are few, they come again with their entries moved on by one: another vector, another place in it.
    """
    make, C = CASES[name]
    rows = make(np.random.default_rng(zlib.crc32(name.encode())), C, LIMITS[dtype]).astype(DTYPES[dtype])
    assert rows.shape[1] == C
    assert np.isfinite(rows).all()
    values = [true_values(row) for row in rows]
    truth = {function: Truth.of([number for value in values for number in value[function]]) for function in FUNCTIONS}
    turns = -(-ROWS // len(rows))

    def turned(flat):
        return np.concatenate([np.roll(flat.reshape(len(rows), -1), turn, axis=1) for turn in range(turns)])

    return turned(rows), {"softmax": Truth(*map(turned, truth["softmax"])),
                          "log_softmax": Truth(*map(turned, truth["log_softmax"])),
                          "logsumexp": Truth(*(turned(part)[:, 0] for part in truth["logsumexp"]))}


# ---------------------------------------------------------------------------------------------------------------------
# The claims


def layouts(function, rows):
    """(what it is, the result as rows) along the last axis and along axis 0, in both orders, and row by row."""
    columns = np.ascontiguousarray(rows.T)
    yield "last axis, C order", function(rows, axis=-1)
    yield "last axis, Fortran order", function(np.asfortranarray(rows), axis=-1)
    yield "axis 0, C order", function(columns, axis=0).T
    yield "axis 0, Fortran order", function(np.asfortranarray(columns), axis=0).T
    if len(rows) <= 100:
        yield "each row alone", np.array([function(row) for row in rows])


def assert_within_bound(name, rows, truth, select=slice(None)):
    """Every entry of the selected rows within the function's bound, for each layout of `rows`."""
    chosen = rows[select]
    for layout, got in layouts(FUNCTIONS[name], rows):
        assert got.dtype == rows.dtype
        got = got[select]
        errors = errors_in_ulps(name, got, truth, chosen)
        worst = np.unravel_index(errors.argmax(), errors.shape)
        assert errors[worst] <= ULPS[name], (
            f"{layout}: {errors[worst]:.2f} ulp, {(errors > ULPS[name]).sum()} of {errors.size} results above "
            f"{ULPS[name]}; {got[worst]!r} for {truth.near[worst]!r} at {tuple(map(int, worst))} of the row "
            f"{np.array2string(chosen[worst[0]], threshold=12)}")


@every_build
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_softmax_is_within_4_ulp(name, dtype):
    rows, truth = rows_and_truth(name, dtype)
    assert_within_bound("softmax", rows, truth["softmax"])


@every_build
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_log_softmax_is_within_4_ulp(name, dtype):
    rows, truth = rows_and_truth(name, dtype)
    assert_within_bound("log_softmax", rows, truth["log_softmax"])


@every_build
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_logsumexp_is_within_2_ulp(name, dtype):
    rows, truth = rows_and_truth(name, dtype)
    assert_within_bound("logsumexp", rows, truth["logsumexp"])


@functools.cache
def rows_of_every_kind(C, dtype):
    """All rows of that width in random order, every third a row with nan or infinities; which are finite; the truth."""
    cases = [rows_and_truth(name, dtype) for name, (_, width) in CASES.items() if width == C]
    rows = np.concatenate([rows for rows, _ in cases])
    rng = np.random.default_rng(C)
    # 40 000 numbers and more: several blocks, and threads take them
    order = rng.permutation(np.tile(np.arange(len(rows)), -(-40_000 // rows.size)))
    finite = np.arange(len(order) + len(order) // 2) % 3 < 2
    everything = np.empty((len(finite), C), dtype=rows.dtype)
    everything[finite] = rows[order][: finite.sum()]
    everything[~finite] = rng.choice([np.nan, np.inf, -np.inf, 1.0], (len(finite) - finite.sum(), C))
    everything[~finite, 0] = rng.choice([np.nan, np.inf, -np.inf], len(finite) - finite.sum())
    truth = {function: Truth(*(np.concatenate([truth[function][part] for _, truth in cases])[order]
                               for part in (0, 1))) for function in FUNCTIONS}
    return everything, finite, truth


@every_build
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("C", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_rows_of_every_kind_side_by_side_keep_their_bounds(name, C, dtype):
    # what a row holds, nan too, changes nothing in the rows that share a vector, a block or a thread with it
    rows, finite, truth = rows_of_every_kind(C, dtype)
    assert_within_bound(name, rows, truth[name], finite)


# ---------------------------------------------------------------------------------------------------------------------
# The truth again


def decimal_values(row):
    """true_values by the standard library's decimal module."""
    x = [decimal.Decimal(value) for value in row.tolist()]
    top = int(row.argmax())
    d = [value - x[top] for value in x]
    e = [value.exp() if value > -2000 else decimal.Decimal(0) for value in d]
    rest = sum(e[:top] + e[top + 1:], start=decimal.Decimal(0))
    # 1 + rest keeps 50 digits of a rest above 1e-20; below, the next term of the series is less than 1e-40 of the first
    log1p = (1 + rest).ln() if rest > decimal.Decimal("1e-20") else rest - rest * rest / 2
    return {"softmax": [value / (1 + rest) for value in e], "log_softmax": [value - log1p for value in d],
            "logsumexp": [x[top] + log1p]}


def test_mpmath_and_the_decimal_module_agree_on_the_truth():
    with decimal.localcontext(prec=70):
        for name in CASES:
            rows, truth = rows_and_truth(name, "float64")
            for function, values in decimal_values(rows[0]).items():
                near, more = (np.atleast_1d(part[0]) for part in truth[function])
                ulps = spacing(np.abs(near)).tolist()
                for value, at, beyond, ulp in zip(values, near.tolist(), more.tolist(), ulps, strict=True):
                    if math.isfinite(at):
                        away = (value - decimal.Decimal(at)) / decimal.Decimal(ulp)
                        assert abs(float(away) - beyond) <= 1e-12, (name, function)
