"""Firth's bias reduction: its gradient, its maximum, what it does not depend on, and what a result says of it.

test_references.py compares it with brglm2's digits. It stands on the oracle in reference.py and csoftmax.fit.
"""

import pickle
import re
import tracemalloc

import numpy as np
import pytest
import reference
import references_io
from scipy import optimize, special

import csoftmax as cs
from csoftmax import bias_reduction, leverage
from csoftmax.maximize import SOLVERS
from csoftmax.metric import MetricCoordinates
from csoftmax.objective import SoftmaxObjective


def make_data(n=60, d=2, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    logits = X @ rng.standard_normal((d, n_classes))
    return X, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def firth(X, y, **options):
    result = cs.fit(X, y, bias_reduction="firth", **options)
    assert result.success, result.message
    return result


def numbers(result):
    """Every number that a fit tells, in one vector."""
    return np.concatenate([
        result.params.ravel(), np.nan_to_num(result.bse.ravel()),
        [result.log_likelihood, result.penalized_log_likelihood, result.null_log_likelihood, result.aic, result.bic,
         result.pseudo_r2, result.nobs, result.df_resid, result.n_params]])


def coordinates_of(X, y, **options):
    return MetricCoordinates(SoftmaxObjective(X, y, **options))


# ------------------------------------------------------------------------------------------------ gradient and value

@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("d", [0, 1, 3])
@pytest.mark.parametrize("kind", ["plain", "no intercept", "weights and offset", "counts"])
def test_the_penalised_score_is_the_slope_of_the_long_double_oracle(n_classes, d, kind):
    rng = np.random.default_rng(10 * n_classes + d)
    X, y = make_data(40, d, n_classes)
    X = X * 30 + 1000
    y[:n_classes] = range(n_classes)
    options, fit_intercept = {}, kind != "no intercept"
    if kind == "weights and offset":
        options = {"weight": rng.integers(1, 4, 40) / 2, "offset": rng.standard_normal((40, n_classes))}
    if kind == "counts":
        y = rng.integers(0, 3, (40, n_classes))
    coordinates = coordinates_of(X, y, fit_intercept=fit_intercept, sample_weight=options.get("weight"),
                                 offset=options.get("offset"))
    if not coordinates.n_coordinates:
        pytest.skip("no parameters")
    u, v = rng.standard_normal((2, coordinates.n_coordinates))
    W = coordinates.params(u).astype(np.longdouble)
    V = coordinates.params(v).astype(np.longdouble)

    def value(t):
        return reference.jeffreys_log_likelihood(X, y, W + t * V, fit_intercept, **options)

    # five points: h^4 times a derivative of 4000 at the most, and the oracle's rounding of 1e-17 over h
    h = np.longdouble(1e-4)
    tolerance = 1e-11 if reference.EXTENDED else 1e-7
    slope = (8 * (value(h) - value(-h)) - (value(2 * h) - value(-2 * h))) / (12 * h)
    point = bias_reduction._Point(bias_reduction._as_plane(coordinates), u)
    assert -point.gradient @ v * point.mass == pytest.approx(
        float(slope), rel=10 * tolerance, abs=10 * tolerance)
    assert point.log_likelihoods()[1] == pytest.approx(float(value(0)), rel=1e-12, abs=1e-11)


def test_hat_blocks_are_the_covariances_of_the_rows_logits():
    X, y = make_data(n=50, n_classes=4)
    X = X * [1.0, 1e3] + [0.0, 1e5]
    coordinates = coordinates_of(X, y)
    u = np.random.default_rng(0).standard_normal(coordinates.n_coordinates)
    inverse = np.linalg.inv(coordinates.hessian(u)) / coordinates.total_mass
    blocks = leverage.hat_blocks(coordinates.objective.samples, coordinates.contrast_factors(inverse))
    W = coordinates.params(u).astype(np.longdouble)
    information = -reference.hessian(X, y, W)[3:, 3:]
    covariance = np.zeros((4, 3, 4, 3))
    covariance[1:, :, 1:] = np.linalg.inv(information.astype(float)).reshape(3, 3, 3, 3)
    centre = np.eye(4) - 1 / 4
    rows = np.column_stack([X, np.ones(50)])
    expected = centre @ np.einsum("ja,iakb,jb->jik", rows, covariance, rows) @ centre
    # float64's inverse of an information of condition 1e11 in raw units
    np.testing.assert_allclose(blocks, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    # sum_j tr(h_j S_j) is the number of parameters, the leverages' sum
    p = cs.predict_proba(X, *np.split(np.asarray(W, dtype=float), [2], axis=1)[:1], np.asarray(W[:, 2], dtype=float))
    jacobians = p[:, :, np.newaxis] * (np.eye(4) - p[:, np.newaxis])
    assert np.sum(blocks * jacobians) == pytest.approx(9, rel=1e-10, abs=0)


def test_a_general_optimiser_finds_nothing_higher():
    X, y = make_data(n=30)
    result = firth(X, y)
    best = result.penalized_log_likelihood

    def loss(theta):
        return -float(reference.jeffreys_log_likelihood(X, y, theta.reshape(3, 3)))

    rng = np.random.default_rng(1)
    for _ in range(3):
        answer = optimize.minimize(loss, rng.standard_normal(9), method="BFGS")
        assert -answer.fun == pytest.approx(best, rel=1e-8, abs=0) and -answer.fun <= best + 1e-9
        rows = answer.x.reshape(3, 3)
        np.testing.assert_allclose(rows - rows.mean(axis=0), result.params, atol=1e-3)  # BFGS's numerical slopes


# ---------------------------------------------------------------------------------------------- known maxima

def binomial_firth(X, y):
    """Heinze & Schemper's modified score of the binomial logistic: sum (y - p + h (1/2 - p)) x = 0, by its root."""
    Z = np.column_stack([X, np.ones(len(X))])

    def score(beta):
        p = special.expit(Z @ beta)
        w = p * (1 - p)
        h = w * np.einsum("ja,ab,jb->j", Z, np.linalg.inv(Z.T @ (Z * w[:, None])), Z)
        return Z.T @ (y - p + h * (0.5 - p))

    answer = optimize.root(score, np.zeros(Z.shape[1]), tol=1e-13)
    assert np.abs(answer.fun).max() < 1e-8
    return answer.x


def test_two_classes_are_the_binomial_model_of_firth():
    X, y = make_data(n_classes=2)
    np.testing.assert_allclose(firth(X, y, reference=0).params[1], binomial_firth(X, y), rtol=1e-8)


def test_the_endometrial_data_give_the_published_estimates():
    # Heinze & Schemper (2002), doi:10.1002/sim.1047: 3.77, 2.93, -0.035, -2.60
    ref = references_io.load("jeffreys_endometrial")
    result = firth(ref.X, ref.y, reference=0)
    np.testing.assert_allclose(result.params[1], [2.93, -0.035, -2.60, 3.77], atol=0.005)


@pytest.mark.parametrize("counts", [[3, 1], [5, 1, 2], [1, 1, 1, 40], [0.25, 0.5, 2.0]])
def test_intercepts_alone_are_the_counts_plus_a_half(counts):
    # L + 1/2 log det I = sum_k (n_k + 1/2) log p_k + a constant, for det(diag(p) - p p') without a class = prod_k p_k
    shares = np.array(counts) + 0.5
    result = firth(np.empty((1, 0)), [counts], reference=0)
    np.testing.assert_allclose(result.intercept, np.log(shares / shares[0]), rtol=1e-11, atol=1e-12)
    labels = np.arange(len(counts))
    weighted = firth(np.empty((len(counts), 0)), labels, sample_weight=counts, reference=0)
    np.testing.assert_allclose(weighted.intercept, result.intercept, rtol=1e-11, atol=1e-12)


def test_in_a_saturated_table_every_cell_gains_a_half_zeros_too():
    table = np.array([[0, 4, 2], [7, 0, 1], [3, 3, 0]])
    result = firth(np.eye(3)[:, 1:], table)
    expected = (table + 0.5) / (table + 0.5).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(result.predict_proba(np.eye(3)[:, 1:]), expected, rtol=1e-11)


def test_a_cell_of_one_sample_converges_where_fishers_steps_would_swing():
    x = np.zeros((60, 1))
    x[0] = 1
    y = np.arange(60) % 2
    p = firth(x, y).predict_proba([[1.0]])[0]
    np.testing.assert_allclose(p, [1.5 / 2, 0.5 / 2], rtol=1e-11)


def test_equal_classes_are_found_at_the_start():
    result = firth([[-1.0], [1.0], [-1.0], [1.0]], [0, 0, 1, 1])
    assert result.n_iter == 0 and np.abs(result.params).max() < 1e-15


def test_nothing_to_estimate_is_a_result():
    result = firth(np.empty((4, 0)), [0, 1, 2, 2], fit_intercept=False)
    assert result.penalized_log_likelihood == result.log_likelihood == pytest.approx(4 * np.log(1 / 3), rel=1e-14)


@pytest.mark.parametrize("name", ["separation_endometrial", "separation_iris", "separation_penguins4",
                                  "separation_penguins_island", "separation_breast_cancer"])
def test_separated_samples_have_finite_estimates_without_a_warning(name):
    ref = references_io.load(name)
    result = firth(ref.X, ref.y, sample_weight=ref.weights)  # a warning would be an error
    assert np.isfinite(result.bse).all() and result.log_likelihood < ref.supremum
    start = cs.fit(ref.X, ref.y, sample_weight=ref.weights, bias_reduction="firth", init=result.params)
    np.testing.assert_allclose(start.params, result.params, rtol=1e-7)


# ------------------------------------------------------------------------------------------- what it is free of

def test_the_reference_changes_nothing_but_what_is_shown():
    X, y = make_data()
    symmetric = firth(X, y)
    for k in range(3):
        based = firth(X, y, reference=k)
        np.testing.assert_array_equal(based.params, symmetric.params - symmetric.params[k])
        assert based.penalized_log_likelihood == symmetric.penalized_log_likelihood
        # the oracle's value does not depend on it either
        value = reference.jeffreys_log_likelihood(X, y, symmetric.params, reference=k)
        assert based.penalized_log_likelihood == pytest.approx(float(value), rel=1e-13, abs=0)


def test_the_order_of_classes_and_rows_changes_nothing():
    X, y = make_data()
    order = np.random.default_rng(0).permutation(len(y))
    plain, turned = firth(X, y), firth(X[order], np.array([2, 0, 1])[y[order]])
    np.testing.assert_allclose(turned.params[[2, 0, 1]], plain.params, rtol=1e-10)
    assert turned.penalized_log_likelihood == pytest.approx(plain.penalized_log_likelihood, rel=1e-13, abs=0)


@pytest.mark.parametrize("kind", [np.float64, np.longdouble, np.float16])
def test_rows_of_many_blocks_keep_their_counts_weights_and_offset(kind):
    # blocks of about 5000 rows; np.longdouble is converted block by block
    rng = np.random.default_rng(0)
    X = rng.integers(-9, 9, (12000, 20)).astype(kind)
    counts, weights, offset = rng.integers(0, 3, (12000, 3)), rng.integers(0, 3, 12000), rng.normal(size=(12000, 3))
    order = rng.permutation(12000)
    plain = firth(X, counts, sample_weight=weights, offset=offset)
    turned = firth(X[order], counts[order], sample_weight=weights[order], offset=offset[order])
    np.testing.assert_allclose(turned.params, plain.params, rtol=1e-9, atol=1e-12)


def test_units_and_offsets_of_columns_change_nothing_but_the_determinants_constant():
    X, y = make_data()
    plain, scaled = firth(X, y), firth(X * [1e4, 1] + [1e6, 0], y)
    # a column's mean of 1e6 beside its spread of 1e4 costs two digits of X
    np.testing.assert_allclose(scaled.coef * [1e4, 1], plain.coef, rtol=1e-10)
    assert scaled.penalized_log_likelihood == pytest.approx(
        plain.penalized_log_likelihood + 2 * np.log(1e4), rel=1e-12, abs=0)
    huge = firth(X * [1e200, 1e-200], y)
    np.testing.assert_allclose(huge.coef * [1e200, 1e-200], plain.coef, rtol=1e-10)


@pytest.mark.parametrize("options", [{}, {"fit_intercept": False}, {"reference": 1}])
def test_weight_2_is_the_row_twice_in_every_number(options):
    X, y = make_data()
    w = np.random.default_rng(1).integers(0, 4, len(y))
    weighted = firth(X, y, sample_weight=w, **options)
    repeated = firth(np.repeat(X, w, axis=0), np.repeat(y, w), **options)
    np.testing.assert_allclose(numbers(weighted), numbers(repeated), rtol=1e-10, atol=1e-11)


def test_counts_are_rows_in_every_number():
    rng = np.random.default_rng(2)
    X, counts = rng.standard_normal((40, 2)), rng.integers(0, 4, (40, 3))
    rows, columns = np.nonzero(counts)
    times = counts[rows, columns]
    plain = firth(np.repeat(X[rows], times, axis=0), np.repeat(columns, times))
    np.testing.assert_allclose(numbers(firth(X, counts)), numbers(plain), rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("outlier", [1e12, -1e200])
def test_a_row_of_weight_zero_changes_nothing_however_far_it_lies(outlier):
    X, y = make_data()
    far = firth(np.vstack([X, [[outlier, 0]]]), np.append(y, 1), sample_weight=np.append(np.ones(60), 0.0))
    np.testing.assert_allclose(numbers(far), numbers(firth(X, y)), rtol=1e-12, atol=1e-13)


def test_an_offset_that_the_intercepts_can_take_changes_them_alone():
    X, y = make_data()
    plain = firth(X, y)
    for size in (1.0, 40.0, 1000.0):  # at 1000 there is no information at the start
        shifted = firth(X, y, offset=np.tile([0.0, size, 0.0], (60, 1)), reference=0)
        np.testing.assert_allclose(shifted.coef, plain.coef - plain.coef[0], rtol=1e-9)
        assert shifted.intercept[1] + size == pytest.approx(plain.intercept[1] - plain.intercept[0], abs=1e-11 * size)


def test_collinear_columns_give_the_probabilities_and_a_value_of_the_positive_eigenvalues():
    X, y = make_data()
    X = X * [100, 1] + [1000, 0]
    plain, twice = firth(X, y), firth(np.column_stack([X, X[:, 0]]), y, reference=0)
    np.testing.assert_allclose(twice.predict_proba(np.column_stack([X, X[:, 0]])), plain.predict_proba(X), rtol=1e-10)
    assert np.isnan(twice.bse[1:, [0, 2]]).all() and twice.n_params == plain.n_params == 6
    np.testing.assert_allclose(twice.coef[:, 0], twice.coef[:, 2], rtol=1e-10)
    # I of [x, z, x, 1] has the eigenvalues of that of [sqrt(2) x, z, 1], and a zero, for each class
    assert twice.penalized_log_likelihood == pytest.approx(plain.penalized_log_likelihood + np.log(2), rel=1e-12, abs=0)
    information = -reference.hessian(np.column_stack([X, X[:, 0]]), y, twice.params)[4:, 4:].astype(float)
    values = np.linalg.eigvalsh(information)[2:]  # ascending: two zeros first
    assert twice.penalized_log_likelihood == pytest.approx(
        twice.log_likelihood + 0.5 * np.log(values).sum(), rel=1e-8, abs=0)


def test_a_constant_column_beside_the_intercept_and_fewer_rows_than_columns_are_fitted():
    X, y = make_data()
    constant = firth(np.column_stack([X, np.full(60, 7.0)]), y)
    np.testing.assert_allclose(constant.coef[:, :2], firth(X, y).coef, rtol=1e-10)
    wide, labels = np.random.default_rng(0).standard_normal((12, 26)), np.arange(12) % 3
    # as many probabilities as rows: each row is a cell of a saturated table
    expected = (np.eye(3)[labels] + 0.5) / 2.5
    np.testing.assert_allclose(firth(wide, labels).predict_proba(wide), expected, rtol=1e-9)


@pytest.mark.parametrize("change", [np.asfortranarray, lambda X: X.astype(object), lambda X: X[::-1][::-1]])
def test_any_memory_order_gives_the_same_bits(change):
    X, y = make_data()
    np.testing.assert_array_equal(firth(change(X), y).params, firth(X, y).params)


def test_float32_and_whole_number_columns_are_fitted_in_float64():
    X, y = make_data()
    whole = (X * 20 + 100).astype(np.uint8)
    np.testing.assert_array_equal(firth(whole, y).params, firth(whole.astype(float), y).params)
    single = X.astype(np.float32)
    np.testing.assert_array_equal(firth(single, y).params, firth(single.astype(float), y).params)


@pytest.mark.parametrize("n_threads", [2, 3])
def test_the_fit_is_bit_identical_for_every_number_of_threads(n_threads):
    X, y = make_data(n=30000, d=8)
    one, more = (firth(X, y, n_threads=threads) for threads in (1, n_threads))
    np.testing.assert_array_equal(one.params, more.params)
    assert one.penalized_log_likelihood == more.penalized_log_likelihood


def test_pseudo_counts_are_held_a_block_at_a_time():
    X, y = make_data(n=100_000, n_classes=12)
    coordinates = coordinates_of(X, y, n_threads=1)
    inverse = np.linalg.inv(coordinates.hessian(np.zeros(coordinates.n_coordinates))) / coordinates.total_mass
    tracemalloc.start()
    bias_reduction.pseudo_counts_score(coordinates, np.zeros(coordinates.n_coordinates), inverse)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.7 * 8 * 100_000 * 12  # one n x C array; the masses are 1/12 of it


# --------------------------------------------------------------------------------------------- weights of any size

@pytest.mark.parametrize("size", [1e-6, 1e-3, 0.1, 1e6])
def test_weights_of_any_size_converge_between_equality_and_the_maximum_likelihood(size):
    X, y = make_data()
    result = firth(X, y, sample_weight=np.full(60, size))
    W = result.params.astype(np.longdouble)
    rng = np.random.default_rng(0)
    for _ in range(5):
        V = 1e-3 * rng.standard_normal(W.shape)
        around = [reference.jeffreys_log_likelihood(X, y, W + t * V, weight=np.full(60, size)) for t in (-1, 0, 1)]
        assert max(around[0], around[2]) < around[1]
    if size == 1e6:
        np.testing.assert_allclose(result.params, cs.fit(X, y).params, atol=1e-6)


# ------------------------------------------------------------------------------------------------ what is said

def test_the_result_says_how_it_was_fitted_and_keeps_it(tmp_path):
    X, y = make_data()
    result, plain = firth(X, y), cs.fit(X, y)
    assert result.bias_reduction == "firth" and plain.bias_reduction is None
    assert result.cov_type == "observed" and result.null_log_likelihood == plain.null_log_likelihood
    assert result.aic == -2 * result.log_likelihood + 2 * 6 and result.log_likelihood < plain.log_likelihood
    text = str(result.summary())
    assert re.search("Bias reduction: +Firth", text) and "Bias reduction" not in str(plain.summary())
    assert re.search("Certified solution: +yes", text) and "maximum" not in text  # L* need not be concave
    result.to_json(tmp_path / "model.json")
    for other in (cs.from_json(tmp_path / "model.json"), pickle.loads(pickle.dumps(result))):
        assert other.bias_reduction == "firth" and str(other.summary()) == str(result.summary())
        np.testing.assert_array_equal(numbers(other), numbers(result))


def test_the_certificate_claims_no_more_than_it_proves():
    X, y = make_data()
    certificate = firth(X, y).certificate
    assert certificate.holds and certificate.newton_range <= 1e-6 and certificate.gradient_norm <= 1e-8
    assert np.isnan(certificate.gap_bound)
    with pytest.warns(cs.ConvergenceWarning, match="stopped at max_iter=1 iterations.*raise max_iter"):
        stopped = cs.fit(X, y, bias_reduction="firth", max_iter=1)
    assert not stopped.success and stopped.n_iter == 1
    with pytest.warns(cs.ConvergenceWarning, match="not converged"):  # separated, yet never a SeparationWarning
        assert not cs.fit(X, X[:, 0] > 0, bias_reduction="firth", tol=1e-300).success


def test_the_callback_sees_a_rising_penalised_log_likelihood_and_may_stop():
    X, y = make_data()
    states = []
    result = firth(X, y, callback=states.append)
    values = [state.penalized_log_likelihood for state in states]
    assert len(values) == result.n_iter >= 3 and np.all(np.diff(values) > 0)
    assert values[-1] == pytest.approx(result.penalized_log_likelihood, rel=1e-10, abs=0)
    assert states[0].log_likelihood == pytest.approx(float(reference.log_likelihood(X, y, states[0].params)), rel=1e-12)

    def stop(state):
        raise StopIteration

    with pytest.warns(cs.ConvergenceWarning, match="stopped by the callback after 1 iterations"):
        assert not cs.fit(X, y, bias_reduction="firth", callback=stop).success


@pytest.mark.parametrize("init", [np.array([[1e5, 0, 0], [0, 0, 0], [0, 0, 1e3]]),
                                  np.array([[15.0, 0, 0], [0, 0, 0], [0, 0, 10]])])
def test_any_start_reaches_the_same_maximum(init):
    X, y = make_data()
    np.testing.assert_allclose(firth(X, y, init=init).params, firth(X, y).params, rtol=1e-9)


def two_hills():
    """A far row, across the others: the penalised likelihood has two maxima."""
    X = np.array([0, 1, 2, 3, 3, 4, 5, 6, 2.5, 3.5, 20])[:, np.newaxis]
    return X, np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 1])


def test_of_two_maxima_the_higher_is_found():
    X, y = two_hills()
    low, high = firth(X, y, init=np.zeros((2, 2))), firth(X, y, init=cs.fit(X, y))
    assert high.penalized_log_likelihood > low.penalized_log_likelihood + 0.5  # -3.6 and -4.2: there are two
    result = firth(X, y)
    np.testing.assert_allclose(result.params, high.params, rtol=1e-9)
    assert len(result.history.gradient_norm) == result.n_iter + 1 > high.n_iter + 1  # both starts' iterations
    assert result.history.penalized_log_likelihood[-1] == result.penalized_log_likelihood


def test_of_two_maxima_the_higher_is_found_where_the_likelihood_leads_to_the_lower():
    X = np.array([36, -2.6, -1.3, 1.9, 0.1, 4, 0.4, -1.3, -0.8, -2.2])[:, np.newaxis]
    y = [1, 0, 1, 0, 1, 1, 1, 0, 0, 0]
    high, low = firth(X, y, init=np.zeros((2, 2))), firth(X, y, init=cs.fit(X, y))
    assert high.penalized_log_likelihood > low.penalized_log_likelihood + 0.5
    assert firth(X, y).penalized_log_likelihood == high.penalized_log_likelihood


def test_both_starts_together_keep_to_max_iter_and_to_the_callback():
    X, y = two_hills()
    numbers = []
    result = firth(X, y, callback=lambda state: numbers.append(state.n_iter))
    assert numbers == list(range(1, result.n_iter + 1))
    with pytest.warns(cs.ConvergenceWarning, match="raise max_iter"):
        short = cs.fit(X, y, bias_reduction="firth", max_iter=result.n_iter - 1)
    assert short.n_iter == result.n_iter - 1


def test_a_fit_starts_from_a_result():
    X, y = make_data()
    result = firth(X, y)
    again = firth(X, y, init=result)
    assert again.n_iter == 0
    np.testing.assert_allclose(again.params, result.params, rtol=1e-11)


def test_what_does_not_go_together_is_named():
    X, y = make_data()
    with pytest.raises(ValueError, match="bias_reduction is 'jeffreys'; None or 'firth' is wanted"):
        cs.fit(X, y, bias_reduction="jeffreys")
    for name in ("l1", "l2"):
        with pytest.raises(ValueError, match=f"{name} is 0.5 beside bias_reduction='firth', a penalty itself"):
            cs.fit(X, y, bias_reduction="firth", **{name: 0.5})
    for solver in set(SOLVERS) - {"trust-exact"}:
        with pytest.raises(ValueError, match=f"solver is '{solver}'; with bias_reduction='firth' one of 'auto'"):
            cs.fit(X, y, bias_reduction="firth", solver=solver)
    np.testing.assert_array_equal(firth(X, y, solver="trust-exact").params, firth(X, y).params)


@pytest.mark.parametrize("apart", [1e-7, 1e-10])
def test_columns_too_nearly_collinear_to_tell_apart_are_not_certified(apart):
    X, y = make_data()
    with pytest.warns(cs.ConvergenceWarning, match="so nearly collinear that double precision cannot tell"):
        result = cs.fit(np.column_stack([X[:, 0], X[:, 0] + apart * X[:, 1]]), y, bias_reduction="firth")
    assert not result.success


def test_a_matrix_without_a_factor_has_no_solution_rather_than_an_attribute_error():
    root = bias_reduction._Root(np.array([[1.0, 2.0], [2.0, 1.0]]))
    assert root.condition == np.inf and root.log_det() == -np.inf
    assert np.isnan(root.solve(np.ones(2))).all()
