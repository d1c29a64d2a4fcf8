"""What is done an entry at a time has the values of NumPy's formulas.

Nothing stands on this file. It stands on csoftmax._entries.
"""

import numpy as np
import pytest

from csoftmax import _entries

EPS = np.finfo(np.float64).eps


# ---------------------------------------------------------------------------------------------------------------------
# all_finite

@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1), (7, 4)])
def test_a_finite_matrix_is_known_as_one_in_any_order(shape):
    X = np.random.default_rng(0).choice([-1.7e308, 0.0, 1.7e308], size=shape)  # a sum of two would be infinite
    for view in (X, X.T, np.asfortranarray(X), X[::-1, ::-1], X[::2]):
        assert _entries.all_finite(view)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_entry_that_is_not_finite_is_seen_wherever_it_stands(value):
    for place in np.ndindex(5, 3):
        X = np.ones((5, 3))
        X[place] = value
        assert not _entries.all_finite(X)
        assert not _entries.all_finite(X.T)
        assert _entries.all_finite(np.where(np.isfinite(X), X, 0.0))


def test_infinities_of_both_signs_do_not_cancel():
    assert not _entries.all_finite(np.array([[np.inf, -np.inf]]))


# ---------------------------------------------------------------------------------------------------------------------
# standardize

# least and largest value of a column, and where between them its mean lies
COLUMNS = [(-1.0, 1.0, 0.5), (3.0, 1000.0, 0.1), (0.0, 1.0, 0.9), (5.0, 5.0, 0.0), (0.0, 0.0, 0.0), (1e100, 2e100, 0.3),
           (-1e300, 1.5e300, 0.7), (1e-300, 3e-300, 0.2), (0.0, 1e-320, 0.4), (1e8, 1e8 + 1.0, 0.5), (-7.0, -2.0, 1.0)]


def totals_of(columns, mass):
    low, high, share = np.array(columns).T
    return np.array([mass * (low + share * (high - low)), low, high])


@pytest.mark.parametrize("mass", [1.0, 37.5])
@pytest.mark.parametrize("intercept", [True, False])
def test_shift_and_scale_are_those_of_numpy(intercept, mass):
    totals = totals_of(COLUMNS, mass)
    total, low, high = totals
    center = np.zeros(len(low))
    if intercept:
        center = np.fmin(np.fmax(total / mass, low), high)
        # to 1/256 of the range, but for a range that has no such part in float64
        unit = np.ldexp(1.0, np.frexp(np.maximum(high - center, center - low))[1] - 8)
        rounded = np.rint(np.divide(center, unit, out=np.zeros_like(unit), where=unit > 0)) * unit
        center = np.where(low == high, low, np.where(unit > 0, rounded, center))
    reach = np.maximum(high - center, center - low)
    scale = np.where(reach > 0, np.ldexp(1.0, np.clip(-np.frexp(reach)[1], -1000, 250)), 1.0)
    out = np.full((2, len(low)), np.nan)
    assert _entries.standardize(totals, mass, intercept, out) == -1
    np.testing.assert_array_equal(out, [center, scale])  # divisions, and products with powers of two: the same numbers


def test_a_mean_that_overflows_or_is_beyond_the_column_by_rounding_is_held_within_it():
    totals = np.array([[np.inf, 3.0 + 1e-9, -np.inf], [1.0, 2.0, -4.0], [9.0, 3.0, 4.0]])
    out = np.empty((2, 3))
    assert _entries.standardize(totals, 1.0, True, out) == -1
    np.testing.assert_array_equal(out[0], [9.0, 3.0, -4.0])


@pytest.mark.parametrize("wide", [(-1.7e308, 1.7e308, 0.9), (-np.inf, 0.0, 0.0), (np.nan, np.nan, 0.0)])
def test_the_first_column_that_spans_too_much_is_told(wide):
    with np.errstate(all="ignore"):
        totals = totals_of([(0.0, 1.0, 0.5), wide, wide], 1.0)
    totals[0] = np.where(np.isfinite(totals[0]), totals[0], 1.5e308)
    assert _entries.standardize(totals, 1.0, True, np.empty((2, 3))) == 1


# ---------------------------------------------------------------------------------------------------------------------
# mean_penalty

LEAST, LARGEST = 1e-280, 1e20


@pytest.mark.parametrize("n_classes", [1, 3])
def test_a_penalty_on_the_mean_loss_is_held_between_its_limits(n_classes):
    rng = np.random.default_rng(1)
    totals = totals_of([column for column in COLUMNS if column[1] < 1e200], 12.0)
    out = np.empty((2, totals.shape[1]))
    assert _entries.standardize(totals, 12.0, True, out) == -1
    shift, scale = out
    l2 = 10.0 ** rng.integers(-300, 300, size=(n_classes, len(shift)))
    l2[:, 0], l2[0, 1] = 1.0, 0.0
    with np.errstate(over="ignore", under="ignore"):
        plain = l2 * scale * scale / 12.0
        size = np.maximum(totals[2] - shift, shift - totals[1]) * scale
        limit = np.maximum(LARGEST * np.where(size > 0, size, 1.0) ** 2, LEAST)
        want = np.where(l2 > 0, np.minimum(np.maximum(plain, LEAST), limit), 0.0)
        part = np.divide(want, plain, out=np.ones_like(plain), where=plain > want)
    held, beyond = np.full(l2.shape, np.nan), np.full(l2.shape, np.nan)
    assert _entries.mean_penalty(l2, shift, scale, totals, 12.0, LEAST, LARGEST, held, beyond)
    np.testing.assert_array_equal(held, want)  # products with powers of two and one division: the same numbers
    np.testing.assert_array_equal(beyond, part)
    assert (held == LEAST).any() and (beyond < 1.0).any() and held[0, 1] == 0.0


def test_a_penalty_within_the_limits_stays():
    totals, l2 = totals_of([(0.0, 4.0, 0.5), (-2.0, 2.0, 0.5)], 10.0), np.array([[3.0, 0.0]])
    held, beyond = np.empty((1, 2)), np.empty((1, 2))
    assert not _entries.mean_penalty(l2, np.array([2.0, 0.0]), np.full(2, 0.5), totals, 10.0, LEAST, LARGEST, held,
                                     beyond)
    np.testing.assert_array_equal(held, [[0.075, 0.0]])
    np.testing.assert_array_equal(beyond, 1.0)


# ---------------------------------------------------------------------------------------------------------------------
# moments_of, with_intercept

@pytest.mark.parametrize("d", [0, 1, 6])
@pytest.mark.parametrize("intercept", [True, False])
def test_moments_are_those_about_the_mean_or_about_zero(intercept, d):
    x = np.random.default_rng(2).uniform(-1, 1, size=(50, d + intercept))
    x[:, d:] = 1.0
    gram, mass = x.T @ x, 50.0
    moments, mean = np.full((d, d), np.nan), np.full(d, np.nan)
    _entries.moments_of(gram, mass, intercept, moments, mean)
    np.testing.assert_array_equal(mean, gram[:d, d] / mass if intercept else np.zeros(d))
    square, products = gram[:d, :d] / mass, np.outer(mean, mean)
    # a processor with a fused multiply-add rounds once where NumPy rounds twice
    assert (np.abs(moments - (square - products)) <= EPS * (np.abs(square) + np.abs(products))).all()


@pytest.mark.parametrize("shape", [(0, 0), (3, 3), (4, 2)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_intercept_is_set_beside_a_factor(shape, order):
    rng = np.random.default_rng(3)
    factor, mean = np.asarray(rng.standard_normal(shape), order=order), rng.standard_normal(shape[0])
    T = np.full((shape[0] + 1, shape[1] + 1), np.nan)
    _entries.with_intercept(factor, mean, T)
    np.testing.assert_array_equal(T[:-1], np.column_stack([factor, np.zeros(shape[0])]))
    # a sum of d products in another order: each of 2 d operations is wrong by half an ulp of what it may be at the most
    assert (np.abs(T[-1, :-1] + mean @ factor) <= 2 * shape[0] * EPS * (np.abs(mean) @ np.abs(factor))).all()
    assert T[-1, -1] == np.sqrt(2.0)


def test_a_factor_without_an_intercept_is_copied():
    factor, T = np.random.default_rng(4).standard_normal((3, 2)), np.full((3, 2), np.nan)
    _entries.with_intercept(factor, np.ones(3), T)
    np.testing.assert_array_equal(T, factor)


# ---------------------------------------------------------------------------------------------------------------------
# plain_factor, to_unit_diagonal

@pytest.mark.parametrize("d", [1, 2, 9, 40])
def test_a_plain_factor_is_an_inverse_root(d):
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((3 * d, d)) * 10.0 ** rng.integers(-6, 7, size=d)
    moments, factor = rows.T @ rows / len(rows), np.full((d, d), np.nan)
    l2 = rng.uniform(size=d) * moments.diagonal()
    assert _entries.plain_factor(moments, l2, 0.01, 10.0, factor)
    assert (factor == np.triu(factor)).all()
    unit = np.sqrt(moments.diagonal())
    square = (0.5 * moments + np.diag(l2)) / unit[:, np.newaxis] / unit
    product = (factor * unit[:, np.newaxis]) @ (factor * unit[:, np.newaxis]).T @ square
    np.testing.assert_allclose(product, np.eye(d), atol=100 * d * EPS)  # the correlations' condition is below 100


def test_a_plain_factor_is_had_up_to_the_largest_penalty_and_the_least_pivot():
    moments, factor = np.array([[2.0, 0.5], [0.5, 3.0]]), np.empty((2, 2))
    assert _entries.plain_factor(moments, np.array([20.0, 30.0]), 0.01, 10.0, factor)
    assert not _entries.plain_factor(moments, np.array([20.0, np.nextafter(30.0, 31.0)]), 0.01, 10.0, factor)
    assert not _entries.plain_factor(moments, np.array([np.nan, 0.0]), 0.01, 10.0, factor)
    for sine, is_plain in ((0.02, True), (0.005, False), (0.0, False)):  # the last pivot of columns at that angle
        cosine = np.sqrt(1.0 - sine ** 2)
        moments = np.array([[4.0, 2.0 * cosine], [2.0 * cosine, 1.0]])
        assert _entries.plain_factor(moments, np.ones(2), 0.01, 10.0, factor) == is_plain
    assert not _entries.plain_factor(np.zeros((0, 0)), np.zeros(0), 0.01, 10.0, np.zeros((0, 0)))


@pytest.mark.parametrize("entry", [0.0, -1.0, np.nan])
def test_a_diagonal_that_is_not_positive_has_no_plain_factor(entry):
    assert not _entries.plain_factor(np.diag([1.0, entry]), np.zeros(2), 0.01, 10.0, np.empty((2, 2)))


@pytest.mark.parametrize("n", [0, 1, 5])
def test_a_matrix_is_scaled_to_unit_diagonal(n):
    rows = np.random.default_rng(5).standard_normal((n + 2, n)) * 10.0 ** np.arange(n)
    matrix = rows.T @ rows
    scaled, unit = matrix.copy(), np.full(n, np.nan)
    norm = _entries.to_unit_diagonal(scaled, unit)
    np.testing.assert_array_equal(unit, np.sqrt(matrix.diagonal()))
    np.testing.assert_array_equal(scaled, matrix / unit[:, np.newaxis] / unit)
    # n positive terms in another order
    np.testing.assert_allclose(norm, np.abs(scaled).sum(axis=1).max(initial=0.0), rtol=n * EPS)


def test_an_entry_of_the_diagonal_that_is_not_positive_stays():
    matrix, unit = np.array([[4.0, 2.0, 0.0], [2.0, 0.0, 3.0], [0.0, 3.0, -5.0]]), np.empty(3)
    assert _entries.to_unit_diagonal(matrix, unit) == 8.0
    np.testing.assert_array_equal(unit, [2.0, 1.0, 1.0])
    np.testing.assert_array_equal(matrix, [[1.0, 1.0, 0.0], [1.0, 0.0, 3.0], [0.0, 3.0, -5.0]])


@pytest.mark.parametrize("place", [(0, 0), (1, 2), (2, 1)])
def test_the_norm_of_a_matrix_with_a_nan_is_nan(place):
    matrix = np.eye(3)
    matrix[place] = np.nan
    assert np.isnan(_entries.to_unit_diagonal(matrix, np.empty(3)))


# ---------------------------------------------------------------------------------------------------------------------
# rounding_sums

@pytest.mark.parametrize(("p", "q", "d", "n_rows"),
                         [(5, 4, 4, 3), (4, 4, 4, 1), (1, 1, 0, 2), (0, 0, 0, 2), (3, 1, 2, 6)])
def test_the_sums_of_rounding_errors_are_those_of_their_formulas(p, q, d, n_rows):
    rng = np.random.default_rng(6)
    T, u = rng.standard_normal((p, q)), rng.standard_normal(n_rows * q)
    mean_squares, l2 = rng.uniform(size=p), rng.uniform(size=d)
    shift, scale = rng.uniform(-1, 1, size=(2, d))
    squares = np.square(T)
    coef = squares @ np.square(u.reshape(n_rows, q)).sum(axis=0)
    want = (coef.sum(), (mean_squares @ squares).sum(), (np.square(l2) * coef[:d] @ squares[:d]).sum(), l2 @ coef[:d],
            np.square(scale * shift) @ coef[:d])
    found = _entries.rounding_sums(T, u, mean_squares, l2, shift, scale)
    # terms of one sign: as many roundings as there are terms in the sums within each other, and six products
    np.testing.assert_allclose(found, want, rtol=(n_rows + 2 * q + p + 6) * EPS)
