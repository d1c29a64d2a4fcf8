"""fit() with l1 > 0: exact zeros, KKT conditions in long double, certified references, scikit-learn, the bound.

It stands on csoftmax.lasso, tests/reference.py and the references in tests/data.
"""

import pickle
import warnings

import numpy as np
import pytest
import reference
import references_io
from scipy.optimize import minimize

import csoftmax as cs
from csoftmax.encoding import encode
from csoftmax.lasso import Lasso, LassoData


def random_problem(n=150, d=6, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    logits = X @ (rng.standard_normal((d, n_classes)) * (rng.uniform(size=(d, n_classes)) < 0.5))
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    y[:n_classes] = np.arange(n_classes)
    return X, y


def assert_kkt(result, X, y, l1, l2=0.0, weight=None, offset=None, rtol=1e-13):
    """The conditions of a maximum in long double, to rtol times the sum of the moduli of each gradient's terms."""
    intercept = result.fit_intercept
    W = result.params
    g = reference.gradient(X, y, W, intercept, weight, offset)
    d = X.shape[1]
    coef = W[:, :d].astype(np.longdouble)
    pull = g[:, :d] - np.broadcast_to(l2, coef.shape) * coef
    l1 = np.broadcast_to(l1, coef.shape)
    mass = np.ones(len(X)) if weight is None else weight
    if np.ndim(y) == 2:
        mass = mass * y.sum(axis=1)
    size = np.maximum(mass @ np.abs(X), 1e-300) + np.abs(l2 * coef) + l1
    beyond = np.where(coef != 0, np.abs(pull - l1 * np.sign(coef)), np.maximum(np.abs(pull) - l1, 0))
    assert (beyond <= rtol * size).all(), (beyond / size).max()
    if intercept:
        assert np.abs(g[:, d]).max() <= rtol * mass.sum()


def objective(X, y, params, l1, l2=0.0, fit_intercept=True):
    value = reference.log_likelihood(X, y, params, fit_intercept)
    coef = params[:, :X.shape[1]]
    return float(value - np.sum(l1 * np.abs(coef)) - np.sum(l2 * coef * coef) / 2)


@pytest.mark.parametrize("name", references_io.names("lasso"))
def test_lasso_references_have_the_same_zeros_and_objective(name):
    ref = references_io.load(name)
    result = cs.fit(ref.X, ref.y, l1=ref.l1)
    assert result.success
    d = ref.X.shape[1]
    np.testing.assert_array_equal(result.coef == 0, ref.coef[:, :d] == 0)
    assert result.penalized_log_likelihood == pytest.approx(ref.objective, rel=1e-12, abs=0)
    # the file's numbers are doubles of a long double answer
    np.testing.assert_allclose(result.params, ref.coef, rtol=0, atol=1e-10 * np.abs(ref.coef).max())


@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize(("n", "d"), [(150, 6), (100, 1), (30, 80)])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("l2", [0.0, 0.7])
def test_kkt_conditions_hold_to_rounding(n, d, n_classes, fit_intercept, l2):
    X, y = random_problem(n, d, n_classes, seed=n + d + n_classes)
    for l1 in (0.3, 3.0):
        result = cs.fit(X, y, l1=l1, l2=l2, fit_intercept=fit_intercept)
        assert result.success and result.certificate.gradient_norm < 1e-12
        assert_kkt(result, X, y, l1, l2)


@pytest.mark.parametrize("seed", range(4))
def test_kkt_conditions_hold_for_penalties_of_each_coefficient_weights_and_an_offset(seed):
    rng = np.random.default_rng(seed)
    X, y = random_problem(120, 5, 4, seed)
    X = X * [1e4, 1.0, 1e-3, 1.0, 5.0] + [0.0, 300.0, 0.0, -2.0, 1.0]
    spread = X.std(axis=0)
    l1 = rng.uniform(0.0, 6.0, (4, 5)) * spread
    l1[0, 0] = l1[2, 3] = 0.0
    l2 = rng.uniform(0.0, 1.0, (4, 5)) * spread**2 * (rng.uniform(size=(4, 5)) < 0.5)
    weight, offset = rng.integers(0, 3, 120).astype(float), rng.standard_normal((120, 4))
    result = cs.fit(X, y, l1=l1, l2=l2, sample_weight=weight, offset=offset)
    assert result.success, result.message
    assert_kkt(result, X, y, l1, l2, weight, offset, rtol=1e-12)  # the column of mean 300: its digits
    counts = rng.integers(0, 4, (120, 4))
    assert_kkt(cs.fit(X, counts, l1=l1, l2=l2, offset=offset), X, counts, l1, l2, None, offset, rtol=1e-12)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_general_optimiser_finds_no_more(fit_intercept):
    X, y = random_problem(40, 3, 3, seed=5)
    l1, l2, shape = 2.0, 0.3, (3, 3 + fit_intercept)
    loss = cs.SoftmaxObjective(X, y, l2=l2, fit_intercept=fit_intercept)

    def split(x):
        params = np.zeros(shape)
        params[:, :3] = (x[:9] - x[9:18]).reshape(3, 3)
        if fit_intercept:
            params[:, 3] = x[18:]
        return params.ravel()

    best = minimize(lambda x: loss.loss(split(x)) + l1 * x[:18].sum(), np.full(9 * 2 + 3 * fit_intercept, 0.1),
                    method="SLSQP", bounds=[(0, None)] * 18 + [(None, None)] * 3 * fit_intercept,
                    options={"maxiter": 500, "ftol": 1e-13})
    result = cs.fit(X, y, l1=l1, l2=l2, fit_intercept=fit_intercept)
    # SLSQP by differences stops within about 1e-7
    assert -1e-12 * best.fun <= best.fun + result.penalized_log_likelihood <= 1e-6 * best.fun
    np.testing.assert_allclose(split(best.x).reshape(shape)[:, :3], result.coef, atol=2e-3)


@pytest.mark.parametrize("l1_ratio", [1.0, 0.4])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_fit_is_scikit_learns_with_two_classes_and_more(n_classes, l1_ratio):
    linear_model = pytest.importorskip("sklearn.linear_model")
    X, y = random_problem(80, 4, n_classes, seed=2)
    C = 0.2
    peer = linear_model.LogisticRegression(solver="saga", l1_ratio=l1_ratio, C=C, tol=1e-10, max_iter=50000)
    if "penalty" in peer.get_params() and peer.get_params()["penalty"] == "l2":
        peer.set_params(penalty="elasticnet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of releases about the names of their penalties
        peer.fit(X, y)
    l2 = (1 - l1_ratio) / C * (2 if n_classes == 2 else 1)
    result = cs.fit(X, y, l1=l1_ratio / C, l2=l2)
    theirs = np.column_stack([peer.coef_, peer.intercept_])
    if n_classes == 2:
        theirs = np.stack([-theirs[0] / 2, theirs[0] / 2])
    np.testing.assert_array_equal(result.coef == 0, theirs[:, :4] == 0)
    assert (result.coef == 0).any() and (result.coef != 0).any()
    value = objective(X, y, theirs, l1_ratio / C, l2)
    assert result.penalized_log_likelihood == pytest.approx(value, rel=1e-8, abs=0)
    assert result.penalized_log_likelihood >= value - 1e-12 * abs(value)
    np.testing.assert_allclose(result.coef, theirs[:, :4], atol=1e-6)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_column_in_other_units_with_its_penalty_is_the_same_fit(fit_intercept):
    X, y = random_problem()
    units = np.array([1e4, 1.0, 1e-4, 2.0**30, 1.0, 1e8])
    plain = cs.fit(X, y, l1=4.0, fit_intercept=fit_intercept)
    scaled = cs.fit(X * units, y, l1=4.0 * units, fit_intercept=fit_intercept)
    np.testing.assert_array_equal(scaled.coef == 0, plain.coef == 0)
    np.testing.assert_allclose(scaled.coef * units, plain.coef, rtol=1e-10)
    assert scaled.penalized_log_likelihood == pytest.approx(plain.penalized_log_likelihood, rel=1e-13, abs=0)


def test_an_offset_of_a_column_moves_only_the_intercept():
    X, y = random_problem()
    moved = X + np.array([1.7e9, 0.0, -1e6, 0.0, 0.0, 0.0])
    exact = moved - np.array([1.7e9, 0.0, -1e6, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(cs.fit(moved, y, l1=3.0).coef, cs.fit(exact, y, l1=3.0).coef, rtol=1e-8, atol=0)


@pytest.mark.parametrize("with_offset", [False, True])
def test_a_large_l1_gives_the_intercepts_alone_exactly(with_offset):
    X, y = random_problem()
    offset = np.random.default_rng(1).standard_normal((len(y), 3)) if with_offset else None
    result = cs.fit(X, y, l1=1e6, offset=offset)
    assert result.success and result.n_iter == 0 and not result.coef.any() and result.n_params == 2
    assert result.log_likelihood == pytest.approx(result.null_log_likelihood, rel=1e-13, abs=0)
    bare = cs.fit(X, y, l1=1e6, fit_intercept=False)
    assert bare.success and not bare.params.any() and bare.n_params == 0


def test_zeros_begin_at_the_largest_gradient():
    X, y = random_problem()
    share = np.bincount(y) / len(y)
    smallest = np.abs(cs.gradient(X, y, np.zeros((3, 6)), np.log(share))[0]).max()
    assert not cs.fit(X, y, l1=smallest * (1 + 1e-9)).coef.any()
    assert np.count_nonzero(cs.fit(X, y, l1=smallest * (1 - 1e-6)).coef) == 1


def test_the_common_part_of_a_feature_is_a_median_or_the_midpoint_of_its_interval():
    X, y = random_problem(300, 3, 4, seed=7)
    result = cs.fit(X, y, l1=1e-3)
    for column in result.coef.T:
        assert np.sum(column > 0) <= 2 and np.sum(column < 0) <= 2
        if column.all():
            assert column[column > 0].min() == pytest.approx(-column[column < 0].max(), rel=1e-12, abs=0)
    assert result.coef.all(axis=0).any(), "an interval occurs"
    three = cs.fit(*random_problem(300, 3, 3, seed=7), l1=1e-3)
    assert (three.coef == 0).any(axis=0).all(), "a median of three is one of them"
    two = cs.fit(*random_problem(300, 3, 2, seed=7), l1=1.0)
    np.testing.assert_allclose(two.coef[0], -two.coef[1], rtol=1e-13)
    assert two.n_params == np.count_nonzero(two.coef[0]) + 1


def test_the_bound_on_the_gap_is_proved_at_points_far_and_near():
    X, y = random_problem(60, 4, 3, seed=1)
    for l1, l2, intercept in ((2.0, 0.0, True), (0.5, 0.5, True), (2.0, 0.0, False)):
        result = cs.fit(X, y, l1=l1, l2=l2, fit_intercept=intercept)
        assert result.certificate.gap_bound < 1e-9
        data = LassoData(encode(X, y, fit_intercept=intercept).samples)
        lasso = Lasso(data, np.full(4, l1), np.full(4, l2))
        rng = np.random.default_rng(0)
        for size in 10.0 ** np.arange(-6, 2):
            params = result.params + size * rng.standard_normal(result.params.shape)
            gap = result.penalized_log_likelihood - objective(X, y, params, l1, l2, intercept)
            assert gap <= lasso.gap_bound(data.standardized_params(params) / lasso.unit)
        nothing = np.zeros(result.params.shape)
        gap = result.penalized_log_likelihood - objective(X, y, nothing, l1, l2, intercept)
        assert gap <= lasso.gap_bound(nothing)
    # nothing is proved where a coefficient has no penalty
    assert np.isnan(cs.fit(X, y, l1=[1.0, 0.0, 1.0, 1.0]).certificate.gap_bound)


def test_duplicated_columns_are_said_to_have_no_unique_coefficients():
    X, y = random_problem()
    plain = cs.fit(X, y, l1=3.0)
    twice = cs.fit(np.column_stack([X, X]), y, l1=3.0)
    assert twice.success and "coefficients are not unique" in twice.message and "not unique" not in plain.message
    assert twice.penalized_log_likelihood == pytest.approx(plain.penalized_log_likelihood, rel=1e-13, abs=0)
    np.testing.assert_allclose(twice.coef[:, :6] + twice.coef[:, 6:], plain.coef, atol=1e-9)
    # also where only one of the two is not 0
    started = np.column_stack([plain.coef, np.zeros((3, 6)), plain.intercept])
    one = cs.fit(np.column_stack([X, X]), y, l1=3.0, init=started)
    assert one.success and not one.coef[:, 6:].any() and "coefficients are not unique" in one.message
    shared = cs.fit(np.column_stack([X, X]), y, l1=3.0, l2=0.1)
    assert shared.success and "not unique" not in shared.message
    np.testing.assert_allclose(shared.coef[:, :6], shared.coef[:, 6:], atol=1e-10)


def test_a_constant_column_has_coefficients_of_zero():
    X, y = random_problem()
    more = cs.fit(np.column_stack([X, np.full(len(X), 7.0), np.zeros(len(X))]), y, l1=2.0)
    assert more.success and not more.coef[:, 6:].any()
    np.testing.assert_allclose(more.coef[:, :6], cs.fit(X, y, l1=2.0).coef, rtol=1e-10)


def test_separated_samples_have_a_maximum_with_l1_and_none_along_a_feature_without():
    X = np.column_stack([np.arange(12.0), np.tile([0.0, 1.0, 0.5], 4)])
    y = (X[:, 0] > 5).astype(int)
    result = cs.fit(X, y, l1=1e-3)
    assert result.success
    assert_kkt(result, X, y, 1e-3)
    with pytest.warns(cs.SeparationWarning, match="completely separated between the classes 0, 1 along x1, so"):
        result = cs.fit(X, y, l1=[0.0, 1.0])
    assert not result.success


def test_weight_2_is_the_row_twice_and_weight_0_no_row():
    X, y = random_problem()
    weight = np.arange(len(y)) % 3
    weighted = cs.fit(X, y, l1=3.0, sample_weight=weight)
    repeated = cs.fit(np.repeat(X, weight, axis=0), np.repeat(y, weight), l1=3.0)
    np.testing.assert_allclose(weighted.params, repeated.params, rtol=1e-10, atol=1e-13)
    np.testing.assert_array_equal(weighted.coef == 0, repeated.coef == 0)
    assert (weighted.nobs, weighted.n_params) == (repeated.nobs, repeated.n_params)
    assert weighted.bic == pytest.approx(repeated.bic, rel=1e-13, abs=0)


def test_a_reference_only_rebases_what_is_shown():
    X, y = random_problem()
    plain, shown = cs.fit(X, y, l1=3.0), cs.fit(X, y, l1=3.0, reference=1)
    np.testing.assert_array_equal(shown.params, plain.params - plain.params[1])
    np.testing.assert_allclose(shown.predict_proba(X), plain.predict_proba(X), rtol=1e-12)
    assert shown.n_params == plain.n_params


def test_degrees_of_freedom_count_what_is_not_zero_and_no_standard_errors_are_given():
    X, y = random_problem()
    result = cs.fit(X, y, l1=3.0)
    per_feature = np.minimum(np.count_nonzero(result.coef, axis=0), 2)
    assert result.n_params == per_feature.sum() + 2 == result.effective_df
    assert result.cov_type == "none" and np.isnan(result.bse).all() and np.isnan(result.cov_params()).all()
    assert np.isnan(result.conf_int()).all() and np.isnan(result.pvalues).all()
    text = str(result.summary())
    assert "std err" not in text and "l1 penalty" in text and "no standard errors" in text
    assert "std err" not in result.summary()._repr_html_()


def test_the_elastic_nets_degrees_of_freedom_are_the_trace_over_what_is_not_zero():
    X, y = random_problem()
    l2 = 2.0
    result = cs.fit(X, y, l1=3.0, l2=l2)
    free = np.column_stack([result.coef != 0, np.ones(3, bool)]).ravel()
    information = -cs.hessian(X, y, result.coef, result.intercept)[np.ix_(free, free)]
    ridge = np.diag(np.tile(np.append(np.full(6, l2), 0.0), 3)[free])
    trace = np.trace(information @ np.linalg.pinv(information + ridge, hermitian=True))
    assert result.effective_df == pytest.approx(trace, rel=1e-9, abs=0)
    assert result.effective_df < result.n_params


@pytest.mark.parametrize("l2", [0.0, [0.5, 0.0, 1.0, 1.0, 0.0, 2.0]])
def test_json_and_pickle_keep_the_model_and_its_penalties(tmp_path, l2):
    X, y = random_problem()
    l1 = np.arange(18.0).reshape(3, 6)
    result = cs.fit(X, y, l1=l1, l2=l2, keep_data=False)
    result.to_json(tmp_path / "model.json")
    for other in (cs.from_json(tmp_path / "model.json"), pickle.loads(pickle.dumps(result))):
        np.testing.assert_array_equal(other.params, result.params)
        np.testing.assert_array_equal(other.l1, l1)
        np.testing.assert_array_equal(other.l2, l2)
        assert other.effective_df == result.effective_df and str(other.summary()) == str(result.summary())
        assert np.isnan(other.bse).all()


def test_a_warm_start_at_the_answer_takes_no_iteration():
    X, y = random_problem()
    first = cs.fit(X, y, l1=2.0)
    again = cs.fit(X, y, l1=2.0, init=first)
    assert again.success and again.n_iter == 0
    np.testing.assert_allclose(again.params, first.params, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(cs.fit(X, y, l1=0.5, init=first).params, cs.fit(X, y, l1=0.5).params, atol=1e-11)


def test_the_callback_sees_iterations_and_can_stop_and_ctrl_c_reaches_the_caller():
    X, y = random_problem()
    seen = []

    def watch(state):
        seen.append((state.n_iter, state.penalized_log_likelihood, state.log_likelihood))
        if state.n_iter == 2:
            raise StopIteration

    with pytest.warns(cs.ConvergenceWarning, match="stopped by the callback after 2 iterations"):
        result = cs.fit(X, y, l1=1.0, callback=watch)
    assert [n for n, _, _ in seen] == [1, 2] and seen[1][1] > seen[0][1] and seen[1][2] > seen[1][1]
    assert not result.success

    def interrupt(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cs.fit(X, y, l1=1.0, callback=interrupt)
    with pytest.warns(cs.ConvergenceWarning, match="stopped at max_iter=1 iterations.*raise max_iter"):
        cs.fit(X, y, l1=1.0, max_iter=1)


@pytest.mark.parametrize("change", [np.asfortranarray, lambda X: X.astype(np.float32).astype(np.float64)[::-1][::-1]])
def test_any_memory_order_and_number_of_threads_gives_the_same_fit(change):
    X, y = random_problem(9000, 40, 3)
    X = X.astype(np.float32).astype(np.float64)
    one = cs.fit(X, y, l1=150.0, n_threads=1)
    np.testing.assert_array_equal(cs.fit(change(X), y, l1=150.0, n_threads=3).params, one.params)
    np.testing.assert_array_equal(cs.fit(X.astype(np.float32), y, l1=150.0).params, one.params)
    assert (one.coef == 0).all(axis=0).any(), "columns are left out of the Hessian"


def test_newton_steps_by_conjugate_gradients_reach_the_same_maximum(monkeypatch):
    X, y = random_problem(100, 30, 4)
    expected = cs.fit(X, y, l1=1.0)
    monkeypatch.setattr("csoftmax.lasso._DENSE_LIMIT", 3)
    result = cs.fit(X, y, l1=1.0)
    assert result.success and np.isnan(result.certificate.condition_number)
    np.testing.assert_allclose(result.params, expected.params, atol=1e-9)


def test_collinear_columns_without_a_penalty_are_certified():
    X, y = random_problem()
    plain = cs.fit(X, y, l1=[0.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    twice = cs.fit(np.column_stack([X, X[:, 0]]), y, l1=[0.0, 2.0, 2.0, 2.0, 2.0, 2.0, 0.0])
    assert twice.success and "not unique" in twice.message
    np.testing.assert_allclose(twice.predict_proba(np.column_stack([X, X[:, 0]])), plain.predict_proba(X), rtol=1e-9)


def test_many_more_features_than_samples_and_a_weak_penalty_reach_the_maximum():
    # at first far more coefficients than samples are free: their Hessian is singular
    X, y = random_problem(25, 60, 3, seed=3)
    result = cs.fit(X, y, l1=1e-3)
    assert result.success
    assert_kkt(result, X, y, 1e-3)
    assert np.count_nonzero(result.coef) <= 25 * 2


def test_no_l1_is_too_large():
    X, y = np.random.default_rng(0).standard_normal((40, 3)), np.arange(40) % 3
    for l1, l2 in ((1e308, 0.0), (1e308, 1e308), ([1e308, 1.0, 1e300], 0.0)):
        result = cs.fit(X * 1e10, y, l1=l1, l2=l2)
        assert result.success and not result.coef[:, 0].any()


@pytest.mark.parametrize("options", [{"l1": 5.0}, {"l1": [5.0, 0.0], "fit_intercept": False}, {"l1": 1.0, "l2": 3.0}])
def test_a_row_of_weight_zero_is_absent_however_far_it_lies(options):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((200, 2)), rng.integers(0, 3, 200)
    result = cs.fit(np.vstack([X, [[1e160, -1e160]]]), np.append(y, 0),  # whose squares overflow
                    sample_weight=np.append(np.ones(200), 0.0), **options)
    assert result.success
    np.testing.assert_array_equal(result.params, cs.fit(X, y, **options).params)


def test_a_coefficient_leaves_zero_as_soon_as_its_slope_exceeds_l1():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, 3))
    y = X @ [1, 0.5, 0] + rng.logistic(size=150) > 0
    largest = cs.regularization_path(X, y, n_penalties=1).penalties[0]
    assert not cs.fit(X, y, l1=largest * (1 + 1e-10)).coef.any()
    assert np.count_nonzero(cs.fit(X, y, l1=largest * (1 - 1e-10)).coef) == 2
