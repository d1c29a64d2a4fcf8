"""Tests of the oracle (reference.py), of its error budgets, and of the reference results it is compared with.

Nothing stands on this file; if it fails, no other comparison in this folder means anything.
It stands on reference.py, references_io.py and data/, and imports nothing of csoftmax.
"""

import json
import math

import numpy as np
import pytest
import reference as ref
import references_io as rio

LD = np.longdouble
EPS_LD = float(np.finfo(LD).eps)
UNIT = 2.0**-53  # half an ulp of a double, relative: what a correctly rounded reference may be off
extended = pytest.mark.skipif(not ref.EXTENDED, reason="long double is no wider than double here")

CASES = [(C, d, intercept, counts) for C in (2, 3, 4) for d in (1, 3) for intercept in (1, 0) for counts in (0, 1)]


def problem(C, d, fit_intercept=True, counts=False, n=12, seed=0):
    """X, y, W, weight, offset: arrays of doubles, with a zero weight and a zero count among them."""
    rng = np.random.default_rng([seed, C, d, fit_intercept, counts])
    X = rng.normal(size=(n, d))
    W = rng.normal(size=(C, d + fit_intercept))
    y = rng.integers(0, 4, size=(n, C)).astype(float) if counts else rng.integers(0, C, size=n)
    weight = rng.uniform(0.5, 2, size=n)
    weight[0] = 0
    return X, y, W, weight, rng.normal(size=(n, C))


def largest(a):
    return float(np.max(np.abs(a)))


# ---------------------------------------------------------------------------------------------------------------------
# The primitives

with open(rio.DATA / "softmax_values.json", encoding="utf-8") as file:
    ROWS = json.load(file)["rows"]


def doubles(hexes):
    return np.array([float.fromhex(h) for h in hexes])


@extended
@pytest.mark.parametrize("row", [pytest.param(r, id=f"{r['id']} {r['kind']} {r['C']}") for r in ROWS])
def test_primitives_agree_with_correctly_rounded_values(row):
    x = doubles(row["x"])
    m = x.max()
    if np.isposinf(m) and (x == m).sum() == 1 and not np.isnan(x).any():
        # the file follows SciPy and says nan; the project takes the limit, as one logit alone goes to infinity
        np.testing.assert_array_equal(ref.softmax(x), np.where(x == m, 1.0, 0.0))
        np.testing.assert_array_equal(ref.log_softmax(x), np.where(x == m, 0.0, -np.inf))
        assert ref.logsumexp(x) == np.inf
        return
    with np.errstate(invalid="ignore", over="ignore"):
        shift = np.nan_to_num(np.abs(LD(m) - x.astype(LD)), nan=0, posinf=0)
    rest = np.log(LD(len(x)))
    lse = float.fromhex(row["lse_f64"])
    # Half an ulp of the reference, plus the oracle: exp turns a rounding error of x - max into a relative one, a sum of
    # C terms loses C eps, a logarithm of at most log C is added to the maximum.
    few = EPS_LD * (len(x) + 4)
    check(ref.softmax(x), doubles(row["softmax_f64"]), UNIT + few + EPS_LD * shift, 0)
    check(ref.log_softmax(x), doubles(row["log_softmax_f64"]), UNIT + few, 2 * EPS_LD * np.where(shift == 0, 0, rest))
    check(ref.logsumexp(x), np.float64(lse), UNIT, EPS_LD * abs(np.nan_to_num(m)) + few * rest)


def check(got, wanted, rtol, atol):
    got, wanted = np.asarray(got), np.asarray(wanted)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
    infinite = np.isinf(wanted)
    with np.errstate(over="ignore"):  # -3.6e308 is a long double, and -inf as a double
        np.testing.assert_array_equal(got[infinite].astype(float), wanted[infinite])
    good = np.isfinite(wanted)
    error = np.abs(got[good] - wanted[good])
    # half of the smallest denormal: where wanted is one, its unit is absolute
    bound = np.broadcast_to(np.abs(wanted) * rtol + atol, wanted.shape)[good] + LD(2) ** -1075
    assert (error <= bound).all(), float(np.max(error / bound))


def test_log_softmax_of_a_far_dominant_class_is_not_rounded_to_zero():
    assert ref.log_softmax(np.array([40.0, 0.0]))[0] == pytest.approx(-math.exp(-40), rel=1e-15, abs=0)


def test_primitives_act_along_the_last_axis_of_any_shape():
    A = np.random.default_rng(0).normal(size=(2, 3, 4))
    for f in (ref.softmax, ref.log_softmax, ref.logsumexp):
        for i in range(2):
            for j in range(3):
                np.testing.assert_array_equal(f(A)[i, j], f(A[i, j]))


def test_an_infinity_among_logits_is_taken_to_its_limit_where_there_is_one():
    inf, nan = np.inf, np.nan
    A = np.array([[inf, 0.0], [inf, inf], [-inf, -inf], [nan, 0.0], [inf, nan], [-inf, 0.0]])
    none = [[nan, nan]] * 4
    np.testing.assert_array_equal(ref.softmax(A), [[1, 0], *none, [0, 1]])
    np.testing.assert_array_equal(ref.log_softmax(A), [[0, -inf], *none, [-inf, 0]])
    np.testing.assert_array_equal(ref.logsumexp(A), [inf, inf, -inf, nan, nan, 0])


def test_softmax_jacobian_is_the_derivative_of_softmax():
    a = np.array([0.3, -1.2, 2.0, 0.1])
    h = LD(EPS_LD) ** (LD(1) / 3)
    J = ref.softmax_jacobian(a)
    for k in range(4):
        e = np.where(np.arange(4) == k, h, LD(0))
        # central differences: h^2 / 6 of a third derivative at most 1, and 2 eps / 2h of rounding, with logits up to 2
        assert largest((ref.softmax(a + e) - ref.softmax(a - e)) / (2 * h) - J[:, k]) <= 8 * float(h) ** 2
    assert largest(J.sum(axis=0)) <= 4 * EPS_LD


# ---------------------------------------------------------------------------------------------------------------------
# The likelihood and its derivatives


@pytest.mark.parametrize("C, d, fit_intercept, counts", CASES)
def test_gradient_is_the_derivative_of_the_log_likelihood(C, d, fit_intercept, counts):
    X, y, W, weight, offset = problem(C, d, fit_intercept, counts)
    rest = (fit_intercept, weight, offset)
    h = LD(EPS_LD) ** (LD(1) / 3)
    G = ref.gradient(X, y, W, *rest)
    size = ref.targets(y, C).sum(axis=1) * weight @ (1 + np.abs(X).sum(axis=1)) ** 3  # third derivatives are below it
    for index in np.ndindex(W.shape):
        up, down = W.astype(LD), W.astype(LD)
        up[index] += h
        down[index] -= h
        slope = (ref.log_likelihood(X, y, up, *rest) - ref.log_likelihood(X, y, down, *rest)) / (2 * h)
        # h^2 / 6 of the third derivative, and 10 eps / h of the value's rounding with h^3 = eps
        assert abs(float(slope - G[index])) <= 10 * float(h) ** 2 * size


@pytest.mark.parametrize("C, d, fit_intercept, counts", CASES)
def test_hessian_is_the_derivative_of_the_gradient(C, d, fit_intercept, counts):
    X, y, W, weight, offset = problem(C, d, fit_intercept, counts)
    rest = (fit_intercept, weight, offset)
    h = LD(EPS_LD) ** (LD(1) / 3)
    H = ref.hessian(X, y, W, *rest)
    size = ref.targets(y, C).sum(axis=1) * weight @ (1 + np.abs(X).sum(axis=1)) ** 4  # fourth derivatives are below it
    for column, index in enumerate(np.ndindex(W.shape)):
        up, down = W.astype(LD), W.astype(LD)
        up[index] += h
        down[index] -= h
        slope = (ref.gradient(X, y, up, *rest) - ref.gradient(X, y, down, *rest)) / (2 * h)
        assert largest(slope.ravel() - H[:, column]) <= 10 * float(h) ** 2 * size


@pytest.mark.parametrize("C, d, fit_intercept, counts", CASES)
def test_hessian_is_symmetric_negative_semidefinite_and_blind_to_a_common_shift(C, d, fit_intercept, counts):
    X, y, W, weight, offset = problem(C, d, fit_intercept, counts)
    H = ref.hessian(X, y, W, fit_intercept, weight, offset)
    scale = largest(H) * H.shape[0]
    assert largest(H - H.T) <= 4 * EPS_LD * scale
    assert np.linalg.eigvalsh(H.astype(float)).max() <= 4 * ref.EPS * scale
    shift = np.tile(np.random.default_rng(1).normal(size=W.shape[1]), C)  # the same row added to every class
    assert largest(H @ shift.astype(LD)) <= 8 * EPS_LD * scale * largest(shift)


@pytest.mark.parametrize("C, d, fit_intercept, counts", CASES)
def test_hessian_product_is_the_hessian_times_the_vector(C, d, fit_intercept, counts):
    X, y, W, weight, offset = problem(C, d, fit_intercept, counts)
    V = np.random.default_rng(2).normal(size=W.shape)
    H = ref.hessian(X, y, W, fit_intercept, weight, offset)
    got = ref.hessian_product(X, y, W, V, fit_intercept, weight, offset)
    # both are sums of n C p terms of size |H| |V| at most
    assert largest(got.ravel() - H @ V.ravel().astype(LD)) <= 4 * X.shape[0] * EPS_LD * np.abs(H).sum() * largest(V)


@pytest.mark.parametrize("C, d, fit_intercept, counts", CASES)
def test_totals_are_the_sums_of_the_samples_terms(C, d, fit_intercept, counts):
    X, y, W, weight, offset = problem(C, d, fit_intercept, counts)
    rest = (X, y, W, fit_intercept, weight, offset)
    terms, scores = ref.log_likelihood_per_sample(*rest), ref.gradient_per_sample(*rest)
    residuals = ref.logit_residuals(*rest)
    p = d + fit_intercept
    assert terms.shape == (len(X),) and scores.shape == (len(X), C, p) and residuals.shape == (len(X), C)
    assert all(a.dtype == LD for a in (terms, scores, residuals))
    assert ref.gradient(*rest).shape == (C, p) and ref.hessian(*rest).shape == (C * p, C * p)
    assert ref.log_likelihood(*rest) == terms.sum()
    assert largest(scores.sum(axis=0) - ref.gradient(*rest)) <= 2 * len(X) * EPS_LD * float(np.abs(scores).sum())
    assert largest(residuals.sum(axis=1)) <= 8 * EPS_LD * largest(residuals) * C


def test_two_classes_are_the_binomial_model():
    X, y, W, weight, _ = problem(2, 3)
    t = ref.logits(X, W[1:].astype(LD) - W[:1])[:, 0]
    q = 1 / (1 + np.exp(-t))
    Xt = ref.design(X)
    binomial = (weight * (y * t - np.log1p(np.exp(t)))).sum()
    slope = Xt.T @ (weight * (y - q))
    curvature = -(Xt * (weight * q * (1 - q))[:, None]).T @ Xt
    # a dozen terms, each of a few roundings, relative to the largest entry
    np.testing.assert_allclose(ref.log_likelihood(X, y, W, weight=weight), binomial, rtol=100 * EPS_LD)
    G = ref.gradient(X, y, W, weight=weight)
    np.testing.assert_allclose(G, [-slope, slope], rtol=0, atol=100 * EPS_LD * largest(G))
    H = ref.hessian(X, y, W, weight=weight)
    block = np.block([[curvature, -curvature], [-curvature, curvature]])
    np.testing.assert_allclose(H, block, rtol=0, atol=100 * EPS_LD * largest(H))


def test_counts_weights_and_repeated_rows_say_the_same():
    table = np.genfromtxt(rio.DATA / "small" / "pneumo.csv", delimiter=",", skip_header=1)
    X, counts = np.log(table[:, :1]), table[:, 1:]
    n, C = counts.shape
    W = np.array([[0.5, -1.0], [-0.25, 0.5], [-0.25, 0.5]])
    V = np.array([[1.0, 2.0], [0.5, -1.0], [3.0, 0.25]])
    rows, codes = np.repeat(np.arange(n), C), np.tile(np.arange(C), n)
    repeats = counts.ravel().astype(int)
    as_counts = (X, counts, None)
    as_weights = (X[rows], codes, counts.ravel())
    as_rows = (np.repeat(X[rows], repeats, axis=0), np.repeat(codes, repeats), None)
    results = [
        (
            ref.log_likelihood(X_, y_, W, weight=w),
            ref.gradient(X_, y_, W, weight=w),
            ref.hessian(X_, y_, W, weight=w),
            ref.hessian_product(X_, y_, W, V, weight=w),
        )
        for X_, y_, w in (as_counts, as_weights, as_rows)
    ]
    for other in results[1:]:
        for got, wanted in zip(other, results[0], strict=True):
            # 371 samples summed in another order, each term at most 371 |x|^2 |v|
            assert largest(got - wanted) <= 371 * 4 * EPS_LD * (largest(wanted) + 371)
    for budget in (ref.log_likelihood_tolerance, ref.gradient_tolerance, ref.hessian_tolerance):  # as do the budgets
        for X_, y_, w in (as_weights, as_rows):
            assert budget(X_, y_, W, weight=w) == pytest.approx(budget(X, counts, W), rel=1e-12, abs=0)


def test_zero_times_log_zero_is_zero():
    X, W = np.array([[1.0]]), np.array([[0.0], [np.inf]])
    assert ref.log_likelihood(X, np.array([1]), W, fit_intercept=False) == 0  # its class has probability 1, the other 0
    assert ref.log_likelihood(X, np.array([0]), W, fit_intercept=False) == -np.inf
    assert ref.log_likelihood(X, np.array([0]), W, fit_intercept=False, weight=np.array([0.0])) == 0


def test_an_offset_is_a_feature_with_a_fixed_coefficient():
    X, y, W, weight, _ = problem(3, 3)
    offset = X[:, 2:] * W[None, :, 2]
    less = np.delete(W, 2, axis=1)
    got = ref.gradient(X[:, :2], y, less, weight=weight, offset=offset)
    wanted = np.delete(ref.gradient(X, y, W, weight=weight), 2, axis=1)
    # the offset was rounded to double
    assert largest(got - wanted) <= 10 * UNIT * np.abs(offset).max() * float((weight[:, None] * np.abs(X)).sum())


# ---------------------------------------------------------------------------------------------------------------------
# The error budgets


def moved(p_logits, e):
    """Changes of log softmax, softmax and its Jacobian (Frobenius, spectral) when the logits move by e."""
    a, b = p_logits, p_logits.astype(LD) + e
    S = (ref.softmax_jacobian(b) - ref.softmax_jacobian(a)).astype(float)
    return (
        largest(ref.log_softmax(b) - ref.log_softmax(a)),
        float(np.linalg.norm((ref.softmax(b) - ref.softmax(a)).astype(float))),
        float(np.linalg.norm(S)),
        float(np.linalg.norm(S, 2)),
    )


@pytest.mark.parametrize("delta", [1e-6, 0.1, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("C", [2, 3, 5, 20])
def test_budgets_of_a_logit_error_are_never_exceeded(C, delta):
    rng = np.random.default_rng([C, int(1e6 * delta)])
    of_jacobian = ref.jacobian_change(delta), ref.jacobian_change(delta, norm=2)
    bounds = np.array([ref.log_likelihood_change(delta), ref.softmax_change(delta), *of_jacobian])
    for scale in (0.3, 1, 3, 10, 100):
        for _ in range(20):
            e = delta * rng.choice([-1.0, 1.0], size=C) * (1 if rng.random() < 0.7 else rng.random(C))
            # the logits, of size 400 at most, are moved with a rounding; the norms are taken in double
            assert (np.array(moved(scale * rng.normal(size=C), e)) <= bounds * (1 + 1e-12) + 1e3 * EPS_LD).all()


def test_budgets_of_a_logit_error_are_attained():
    d = 1e-6
    e = np.array([d, -d])
    even = np.zeros(2)
    steep = np.array([np.log(2 + np.sqrt(3)), 0.0])  # p (1 - p) = 1/6
    # rtol 1e-4: the bounds are first order here, the terms left out of size delta
    assert moved(np.array([-30.0, 0.0]), e)[0] == pytest.approx(ref.log_likelihood_change(d), rel=1e-4, abs=0)
    assert moved(even, e)[1] == pytest.approx(ref.softmax_change(d), rel=1e-4, abs=0)
    assert moved(steep, e)[2] == pytest.approx(ref.jacobian_change(d), rel=1e-4, abs=0)
    assert moved(steep, e)[3] == pytest.approx(ref.jacobian_change(d, norm=2), rel=1e-4, abs=0)
    # and so are the caps, where every logit may be anything
    far = np.array([1e3, -1e3])
    assert moved(-far, 2 * far)[1] == pytest.approx(ref.softmax_change(2e3), rel=1e-12, abs=0)
    four, e = np.array([0.0, 0.0, -1e4, -1e4]), np.array([-1e4, -1e4, 1e4, 1e4])
    assert moved(four, e)[2] == pytest.approx(ref.jacobian_change(1e4), rel=1e-12, abs=0)
    assert moved(four, e)[3] == pytest.approx(ref.jacobian_change(1e4, norm=2), rel=1e-12, abs=0)


@pytest.mark.parametrize("C, d, fit_intercept, counts", CASES)
@pytest.mark.parametrize("size", [1.0, 1e6, 1e14])
def test_tolerances_cover_any_logit_error_of_their_size(C, d, fit_intercept, counts, size):
    X, y, W, weight, offset = problem(C, d, fit_intercept, counts)
    W, offset = W * size, offset * size
    V = np.random.default_rng(3).normal(size=W.shape)
    delta = ref.logit_error(X, W, fit_intercept, offset)
    e = delta * np.random.default_rng(4).choice([-1.0, 1.0], size=offset.shape)
    rest = (fit_intercept, weight)
    for f, tolerance, args in (
        (ref.log_likelihood, ref.log_likelihood_tolerance, ()),
        (ref.gradient, ref.gradient_tolerance, ()),
        (ref.hessian, ref.hessian_tolerance, ()),
        (ref.hessian_product, ref.hessian_product_tolerance, (V,)),
    ):
        change = f(X, y, W, *args, *rest, offset.astype(LD) + e) - f(X, y, W, *args, *rest, offset)
        bound = tolerance(X, y, W, *args, *rest, offset)
        assert isinstance(bound, float)
        assert np.linalg.norm(np.atleast_1d(change).astype(float)) <= bound


@pytest.mark.parametrize("C, d, fit_intercept, counts", CASES)
@pytest.mark.parametrize("size", [1.0, 1e3, 1e6])
def test_plain_numpy_in_double_is_within_the_tolerances(C, d, fit_intercept, counts, size):
    # The budget is one that ordinary, careful float64 code meets.
    X, y, W, weight, offset = problem(C, d, fit_intercept, counts, n=200)
    W = W * size
    V = np.random.default_rng(3).normal(size=W.shape)
    rest = (fit_intercept, weight, offset)
    Xt = np.concatenate([X, np.ones((len(X), 1))], axis=1) if fit_intercept else X
    A = Xt @ W.T + offset
    B = A - A.max(axis=1, keepdims=True)
    P = np.exp(B) / np.exp(B).sum(axis=1, keepdims=True)
    c = ref.targets(y, C).astype(float)
    wN = weight * c.sum(axis=1)
    L = (weight[:, None] * c * (B - np.log(np.exp(B).sum(axis=1, keepdims=True)))).sum()
    G = (weight[:, None] * (c - c.sum(axis=1, keepdims=True) * P)).T @ Xt
    S = P[:, :, None] * (np.eye(C) - P[:, None, :])
    H = -np.einsum("j,jik,ja,jb->iakb", wN, S, Xt, Xt).reshape(W.size, W.size)
    Hv = (H @ V.ravel()).reshape(W.shape)
    assert abs(L - ref.log_likelihood(X, y, W, *rest)) <= ref.log_likelihood_tolerance(X, y, W, *rest)
    assert np.linalg.norm((G - ref.gradient(X, y, W, *rest)).astype(float)) <= ref.gradient_tolerance(X, y, W, *rest)
    assert np.linalg.norm((H - ref.hessian(X, y, W, *rest)).astype(float)) <= ref.hessian_tolerance(X, y, W, *rest)
    error = np.linalg.norm((Hv - ref.hessian_product(X, y, W, V, *rest)).astype(float))
    assert error <= ref.hessian_product_tolerance(X, y, W, V, *rest)


def added_up(terms):
    """Their sum over the first axis, one after another in their own type."""
    return np.cumsum(terms, axis=0, dtype=terms.dtype)[-1]


@pytest.mark.parametrize("C, d, fit_intercept, counts", CASES)
@pytest.mark.parametrize("size", [0.0, 1.0, 1e3, 1e6])
def test_plain_numpy_in_single_is_within_the_tolerances_of_float32(C, d, fit_intercept, counts, size):
    # 500 rows, their outer products added up one after another. They use 0.6% of the log-likelihood's bound at most,
    # 0.7% of the gradient's and 0.6% of the product's: roundings of either sign cancel.
    X, y, W, weight, offset = problem(C, d, fit_intercept, counts, n=500)
    X, W = X.astype(np.float32), W * size
    V = np.random.default_rng(3).normal(size=W.shape)
    rest = (fit_intercept, weight, offset)
    single = [np.asarray(a, dtype=np.float32) for a in (W, V, weight, offset, ref.targets(y, C))]
    Ws, Vs, weights, offsets, c = single
    Xt = np.concatenate([X, np.ones((len(X), 1), dtype=np.float32)], axis=1) if fit_intercept else X
    A = Xt @ Ws.T + offsets
    B = A - A.max(axis=1, keepdims=True)
    P = np.exp(B) / np.exp(B).sum(axis=1, keepdims=True)
    N = c.sum(axis=1, keepdims=True)
    terms = (weights[:, None] * c * (B - np.log(np.exp(B).sum(axis=1, keepdims=True)))).sum(axis=1)
    L = terms.sum(dtype=np.float64)
    G = added_up((weights[:, None] * (c - N * P))[:, :, None] * Xt[:, None, :])
    T = Xt @ Vs.T
    S = weights[:, None] * N * P * (T - (P * T).sum(axis=1, keepdims=True))
    Hv = -added_up(S[:, :, None] * Xt[:, None, :])
    assert terms.dtype == G.dtype == Hv.dtype == np.float32
    for computed, f, tolerance, args in (
        (L, ref.log_likelihood, ref.log_likelihood_tolerance, ()),
        (G, ref.gradient, ref.gradient_tolerance, ()),
        (Hv, ref.hessian_product, ref.hessian_product_tolerance, (V,)),
    ):
        error = np.linalg.norm(np.atleast_1d(computed - f(X, y, W, *args, *rest)).astype(float))
        assert error <= tolerance(X, y, W, *args, *rest, eps=ref.EPS32)


def test_the_rounding_of_equal_rows_in_single_uses_a_fair_share_of_the_gradients_tolerance():
    # equal terms round one way as long as their sum keeps its exponent: nothing cancels
    shares = []
    for C in range(2, 40):
        X, y, W = np.ones((ref.BLOCK_ROWS, 1), dtype=np.float32), np.zeros(ref.BLOCK_ROWS, dtype=int), np.zeros((C, 1))
        residual = ((np.arange(C) == 0) - np.float32(1) / np.float32(C)).astype(np.float32)
        G = added_up(np.tile(residual[:, None], (len(X), 1, 1)))
        error = np.linalg.norm((G - ref.gradient(X, y, W, False)).astype(float))
        shares.append(error / ref.gradient_tolerance(X, y, W, False, eps=ref.EPS32))
    assert 0.1 < max(shares) < 1  # 0.13


def test_the_tolerances_are_float64s_unless_asked_and_of_float32_never_below_them():
    X, y, W, weight, offset = problem(3, 3)
    rest = (True, weight, offset)
    for tolerance, args in ((ref.log_likelihood_tolerance, ()), (ref.gradient_tolerance, ()),
                            (ref.hessian_product_tolerance, (W,))):
        double = tolerance(X, y, W, *args, *rest)
        assert double == tolerance(X, y, W, *args, *rest, eps=ref.EPS)
        # 12 rows: from 1e-12 (1e-11) to 60 or 80 roundings of 2^-24, 5e-6; and the logits' part by 2^29
        assert 1e4 < tolerance(X, y, W, *args, *rest, eps=ref.EPS32) / double < 2.0**29
    assert ref.logit_error(X, W, True, offset, eps=ref.EPS32) == ref.logit_error(X, W, True, offset) * 2.0**29


# ---------------------------------------------------------------------------------------------------------------------
# The reference results


def args(r):
    return r.X, r.y, r.coef, r.fit_intercept, r.weights


def rounding_of(r):
    """What rounding each coefficient to a double (2^-53 relative), and the oracle's own, does to the logits at most."""
    sizes = ref.logit_error(r.X, r.coef, r.fit_intercept) / (4 * (r.X.shape[1] + 1) * ref.EPS)
    return sizes * (UNIT + 8 * r.coef.shape[1] * EPS_LD)


def gradient_rounding(r):
    """What that does to the gradient at most, in the Frobenius norm."""
    w = r.weights if r.weights is not None else np.ones(len(r.y))
    size = np.sqrt(1 + (r.X**2).sum(axis=1))
    return (ref.softmax_change(rounding_of(r)) + len(r.y) * EPS_LD) * (w * size).sum()


def information(r):
    """-H over the non-reference classes' rows, in double."""
    p = r.coef.shape[1]
    return -ref.hessian(*args(r))[p:, p:].astype(float)


def inverse(M):
    """The inverse of a positive definite matrix, scaled to a unit diagonal first."""
    s = 1 / np.sqrt(np.diag(M))
    return np.linalg.inv(M * s[:, None] * s) * s[:, None] * s


def test_every_kind_of_reference_is_there():
    assert {rio.load(name).kind for name in rio.names()} == set(rio.KINDS)
    assert len(rio.names()) == sum(len(rio.names(kind)) for kind in rio.KINDS) == 29


@pytest.mark.parametrize("name", rio.names())
def test_references_are_in_the_projects_order_and_shapes(name):
    r = rio.load(name)
    n, C, p = len(r.X), len(r.classes), r.X.shape[1] + r.fit_intercept
    assert r.fit_intercept and len(r.features) == r.X.shape[1] and "Intercept" not in r.features
    assert r.y.shape == (n,) and set(r.y) == set(range(C))
    assert r.weights is None or (r.weights.shape == (n,) and (r.weights >= 0).all())
    for a in (r.coef, r.se, r.hc0_se, r.cluster_se, r.witness):
        assert a is None or a.shape == (C, p)
    if r.reference is not None:
        assert (r.coef[r.reference] == 0).all() and np.isnan(r.se[r.reference]).all()
    if r.coef is not None:
        k = C - 1
        assert r.coef[k, -1] == r.raw["coef"][k][0] and r.coef[k, 0] == r.raw["coef"][k][1]


@pytest.mark.parametrize("name", rio.names("unpenalised"))
def test_log_likelihood_at_the_reference_coefficients_is_the_files(name):
    r = rio.load(name)
    L = ref.log_likelihood(*args(r))
    assert abs(float(L) - r.loglik) <= r.tolerance["loglik_rel"] * abs(r.loglik)
    # In fact to the last digit: L is stationary there, and the file's number is rounded to a double.
    if ref.EXTENDED:
        assert abs(float(L) - r.loglik) <= 2 * ref.EPS * abs(r.loglik)


@pytest.mark.parametrize("name", rio.names("unpenalised"))
def test_gradient_at_the_reference_coefficients_is_only_their_rounding(name):
    r = rio.load(name)
    # the exact gradient is 0 at the exact maximum
    assert np.linalg.norm(ref.gradient(*args(r)).astype(float)) <= gradient_rounding(r)


@pytest.mark.parametrize("name", rio.names("unpenalised"))
def test_standard_errors_and_covariance_are_the_inverse_of_minus_the_hessian(name):
    r = rio.load(name)
    cov = inverse(information(r))
    se = np.sqrt(np.diag(cov)).reshape(len(r.classes) - 1, -1)
    rtol = r.tolerance["se_rel"]
    np.testing.assert_allclose(se, r.se[1:], rtol=rtol)
    if r.covariance is not None:
        scale = np.outer(r.se[1:].ravel(), r.se[1:].ravel())
        assert largest((cov - r.covariance) / scale) <= rtol
    if r.hc0_se is not None:
        p = r.coef.shape[1]
        scores = ref.gradient_per_sample(*args(r)).reshape(len(r.y), -1)[:, p:].astype(float)
        robust = np.sqrt(np.diag(cov @ scores.T @ scores @ cov)).reshape(se.shape)
        np.testing.assert_allclose(robust, r.hc0_se[1:], rtol=rtol)


@pytest.mark.parametrize("name", rio.names("unpenalised"))
def test_information_criteria_follow_from_the_log_likelihood(name):
    r = rio.load(name)
    k = r.raw["n_params"]
    assert k == (len(r.classes) - 1) * r.coef.shape[1]
    assert r.raw["aic"] == pytest.approx(-2 * r.loglik + 2 * k, rel=4 * ref.EPS, abs=0)
    assert r.raw["bic"] == pytest.approx(-2 * r.loglik + k * math.log(r.total_weight), rel=4 * ref.EPS, abs=0)
    # the null model's probabilities are the classes' shares
    counts = np.bincount(r.y, r.weights, minlength=len(r.classes))
    shares = (counts * np.log(counts / counts.sum())).sum()
    assert r.raw["null_loglik"] == pytest.approx(shares, rel=16 * ref.EPS, abs=0)


@pytest.mark.parametrize("name", rio.names("ridge"))
def test_ridge_references_maximise_the_projects_objective(name):
    r = rio.load(name)
    objective = ref.log_likelihood(*args(r)) - ref.ridge_penalty(r.coef, r.l2)
    assert abs(float(objective) - r.objective) <= r.tolerance["objective_rel"] * abs(r.objective)
    assert float(ref.log_likelihood(*args(r))) == pytest.approx(r.loglik, rel=r.tolerance["objective_rel"], abs=0)
    slope = ref.gradient(*args(r)) - ref.ridge_penalty_gradient(r.coef, r.l2)
    bound = gradient_rounding(r) + 2 * ref.EPS * r.l2 * np.linalg.norm(r.coef)
    assert np.linalg.norm(slope.astype(float)) <= bound
    # symmetric rows: nothing but the sums' factor is to be converted, for two classes as for more
    assert largest(r.coef.sum(axis=0)) <= 4 * ref.EPS * largest(r.coef)
    assert r.l2 == r.raw["lam"] * r.total_weight


@pytest.mark.parametrize("name", rio.names("lasso"))
def test_lasso_references_satisfy_the_optimality_conditions(name):
    r = rio.load(name)
    objective = ref.log_likelihood(*args(r)) - ref.lasso_penalty(r.coef, r.l1)
    assert abs(float(objective) - r.objective) <= r.tolerance["objective_rel"] * abs(r.objective)
    G, active = ref.gradient(*args(r)).astype(float), r.coef != 0
    active[:, -1] = True
    bound = gradient_rounding(r) + 4 * ref.EPS * r.l1
    subgradient = r.l1 * np.sign(r.coef)
    subgradient[:, -1] = 0
    assert largest((G - subgradient)[active]) <= bound
    assert largest(G[~active]) <= r.l1
    assert active[:, :-1].sum() == r.raw["n_active"]


@pytest.mark.parametrize("name", rio.names("jeffreys"))
def test_jeffreys_references_have_the_files_penalised_log_likelihood(name):
    r = rio.load(name)
    M = information(r)
    # 1e-11: the file's numbers are good to 13 digits, and the determinant's condition is that of the information
    assert float(ref.log_likelihood(*args(r))) == pytest.approx(r.loglik, rel=1e-11, abs=0)
    penalised = float(ref.log_likelihood(*args(r))) + np.linalg.slogdet(M)[1] / 2
    assert penalised == pytest.approx(r.objective, rel=1e-11, abs=0)
    np.testing.assert_allclose(np.sqrt(np.diag(inverse(M))).reshape(len(r.classes) - 1, -1), r.se[1:], rtol=1e-8)


@pytest.mark.parametrize("name", rio.names("separated"))
def test_no_row_is_against_the_witness_of_separation(name):
    r = rio.load(name)
    A = ref.logits(r.X, r.witness)
    rows = np.arange(len(r.y))
    margins = A[rows, r.y][:, None] - A
    others = margins[np.arange(len(r.classes))[None, :] != r.y[:, None]]
    stated = r.raw["witness"]["margins"]
    assert stated["neg"] == 0 and (others >= -8 * EPS_LD * largest(r.X) * np.abs(r.witness).sum()).all()
    if ref.EXTENDED:
        # The zeros are exact: their products cancel or vanish. One positive margin of iris is lost in double.
        assert ((others > 0).sum(), (others == 0).sum()) == (stated["pos"], stated["zero"])
    assert (r.separation == "complete") == (stated["zero"] == 0)
    # Along it the log-likelihood only rises, never above the supremum.
    values = [float(ref.log_likelihood(r.X, r.y, t * r.witness)) for t in (0, 1, 10, 100)]
    assert values == sorted(values) and values[-1] <= r.supremum


def test_supremum_of_separated_iris_is_the_maximum_of_its_two_remaining_classes():
    assert rio.load("separation_iris").supremum == pytest.approx(rio.load("iris_vv").loglik, rel=1e-15, abs=0)


def test_designs_are_the_tables_they_come_from():
    def table(name):
        path = rio.DATA / "small" / f"{name}.csv"
        return np.genfromtxt(path, delimiter=",", names=True, dtype=None, encoding="utf-8")

    t, r = table("pneumo"), rio.load("pneumo")
    counts = np.stack([t[c] for c in r.classes], axis=1)
    np.testing.assert_array_equal(r.weights, counts.ravel())
    np.testing.assert_allclose(r.X[:, 0], np.repeat(np.log(t["exposuretime"]), 3), rtol=4 * ref.EPS)
    t, r = table("alligators"), rio.load("alligators")
    np.testing.assert_array_equal(r.weights, t["freq"])
    np.testing.assert_array_equal(np.array(r.classes)[r.y], t["foodchoice"])
    t, r = table("womenlf"), rio.load("womenlf")
    np.testing.assert_array_equal(np.array(r.classes)[r.y], t["partic"])
    np.testing.assert_array_equal(r.X, np.stack([t["hincome"], t["children"] == "present"], axis=1))
    t, r = table("housing"), rio.load("ridge_housing_0.01")
    np.testing.assert_array_equal(r.weights, t["Freq"])
    np.testing.assert_array_equal(np.array(r.classes)[r.y], t["Sat"])
    t, r = table("endometrial"), rio.load("separation_endometrial")
    np.testing.assert_array_equal(r.X, np.stack([t["NV"], t["PI"], t["EH"]], axis=1))
    np.testing.assert_array_equal(r.y, t["HG"])
    t = table("birthwt")
    assert len(t) == 189 and t["low"].sum() == 59


def test_a_copied_column_is_the_same_model():
    r, plain = rio.load("housing_aliased"), rio.load("ridge_housing_0.01")
    Xt = ref.design(r.X).astype(float)
    assert np.linalg.matrix_rank(Xt) == r.raw["rank"] == plain.X.shape[1] + 1 and Xt.shape[1] == r.raw["d"]
    assert r.raw["n_params_effective"] == (len(r.classes) - 1) * r.raw["rank"]
