"""fit() as users call it: labels, weights, counts, offset, reference, penalties, messages.

It stands on csoftmax.fit and plain NumPy.
"""

import inspect
import re
import warnings

import numpy as np
import pytest
from scipy import optimize, special

import csoftmax as cs
from csoftmax import fitting


def make_data(n=120, d=3, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    logits = X @ rng.standard_normal((d, n_classes))
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return X, y


def numbers(result):
    """Every number that a fit tells, in one vector."""
    return np.concatenate([
        result.params.ravel(), np.nan_to_num(result.bse.ravel()), result.cov_params().ravel(),
        [result.log_likelihood, result.null_log_likelihood, result.aic, result.bic, result.pseudo_r2, result.nobs,
         result.df_resid, result.n_params]])


@pytest.mark.parametrize("options", [{}, {"l2": 0.7}, {"fit_intercept": False}, {"reference": 1}])
def test_weight_2_is_the_row_twice_in_every_number(options):
    X, y = make_data()
    w = np.random.default_rng(1).integers(0, 4, len(y))
    weighted = cs.fit(X, y, sample_weight=w, **options)
    repeated = cs.fit(np.repeat(X, w, axis=0), np.repeat(y, w), **options)
    # the same sums in another order: 1e-13 relative, times the information's condition of about 100
    np.testing.assert_allclose(numbers(weighted), numbers(repeated), rtol=1e-10, atol=1e-12)


def test_counts_equal_repeated_labels_in_every_number():
    rng = np.random.default_rng(2)
    X, counts = rng.standard_normal((40, 2)), rng.integers(0, 4, (40, 3))
    rows, columns = np.nonzero(counts)
    times = counts[rows, columns]
    grouped = cs.fit(X, counts)
    plain = cs.fit(np.repeat(X[rows], times, axis=0), np.repeat(columns, times))
    np.testing.assert_allclose(numbers(grouped), numbers(plain), rtol=1e-10, atol=1e-12)


def test_zero_weights_equal_absent_rows_even_when_a_class_disappears():
    X, y = make_data()
    w = np.ones(len(y))
    w[y == 1] = 0
    w[:10] = 0
    with pytest.warns(UserWarning, match="no sample of positive weight has the class 1; dropped"):
        weighted = cs.fit(X, y, sample_weight=w)
    absent = cs.fit(X[w > 0], y[w > 0])
    assert weighted.classes.tolist() == [0, 2]
    np.testing.assert_allclose(numbers(weighted), numbers(absent), rtol=1e-10, atol=1e-12)


def binomial_fit(X, y, l2=0.0):
    """The binomial logistic regression written plainly: minus its log-likelihood, minimised by Newton."""
    Z = np.column_stack([X, np.ones(len(X))])
    beta = np.zeros(Z.shape[1])
    ridge = np.diag([l2] * X.shape[1] + [0.0])
    for _ in range(50):
        p = special.expit(Z @ beta)
        hessian = Z.T @ (Z * (p * (1 - p))[:, None]) + ridge
        beta = beta + np.linalg.solve(hessian, Z.T @ (y - p) - ridge @ beta)
    value = float(np.sum(y * special.log_expit(Z @ beta) + (1 - y) * special.log_expit(-(Z @ beta))))
    return beta, np.linalg.inv(hessian), value


def test_two_classes_with_a_reference_are_the_binomial_logistic_in_every_number():
    X, y = make_data(n_classes=2)
    beta, covariance, value = binomial_fit(X, y)
    result = cs.fit(X, y, reference=0)
    np.testing.assert_allclose(result.params[1], beta, rtol=1e-10)
    np.testing.assert_allclose(result.cov_params(), covariance, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.log_likelihood, value, rtol=1e-13)
    np.testing.assert_allclose(result.aic, -2 * value + 2 * 4, rtol=1e-13)
    symmetric = cs.fit(X, y)
    np.testing.assert_allclose(symmetric.params, [-beta / 2, beta / 2], rtol=1e-10)
    np.testing.assert_allclose(symmetric.bse, np.tile(np.sqrt(np.diag(covariance)) / 2, (2, 1)), rtol=1e-9)


def test_l2_with_two_classes_is_half_the_binomials_penalty():
    # l2/2 (|w_0|^2 + |w_1|^2) with w_1 = -w_0 = beta / 2 is l2/4 |beta|^2
    X, y = make_data(n_classes=2)
    beta, _, _ = binomial_fit(X, y, l2=0.5)
    np.testing.assert_allclose(cs.fit(X, y, l2=1.0, reference=0).params[1], beta, rtol=1e-10)


def test_the_penalised_maximum_is_that_of_a_general_optimiser():
    X, y = make_data()
    objective = cs.SoftmaxObjective(X, y, l2=2.0)
    general = optimize.minimize(objective.loss_and_gradient, np.zeros(objective.n_params), jac=True, method="BFGS",
                                options={"gtol": 1e-8})
    result = cs.fit(X, y, l2=2.0)
    assert -general.fun == pytest.approx(result.penalized_log_likelihood, rel=1e-12, abs=0)
    np.testing.assert_allclose(general.x.reshape(3, -1)[:, :3], result.coef, atol=1e-6)  # BFGS's own accuracy
    penalty = 2.0 / 2 * np.sum(result.coef**2)
    assert result.log_likelihood - penalty == pytest.approx(result.penalized_log_likelihood, rel=1e-14, abs=0)


def test_the_intercept_is_never_penalised():
    X, y = make_data()
    result = cs.fit(X, y, l2=1e12)
    assert np.abs(result.coef).max() < 1e-9
    np.testing.assert_allclose(special.softmax(result.intercept), np.bincount(y) / len(y), rtol=1e-8)


def test_probabilities_do_not_depend_on_the_reference_and_standard_errors_are_rebased_exactly():
    X, y = make_data()
    symmetric = cs.fit(X, y)
    np.testing.assert_allclose(symmetric.params.sum(axis=0), 0, atol=1e-13)
    full = symmetric.cov_params()
    for k in range(3):
        based = cs.fit(X, y, reference=k)
        assert np.all(based.params[k] == 0) and np.isnan(based.bse[k]).all()
        np.testing.assert_allclose(based.predict_proba(X), symmetric.predict_proba(X), rtol=1e-12)
        change = np.kron(np.eye(3) - np.outer(np.ones(3), np.eye(3)[k]), np.eye(4))
        expected = np.sqrt(np.diag(change @ full @ change.T)).reshape(3, 4)
        keep = np.arange(3) != k
        np.testing.assert_allclose(based.bse[keep], expected[keep], rtol=1e-10)
        assert based.aic == pytest.approx(symmetric.aic, rel=1e-14, abs=0)


def test_an_offset_that_is_a_known_coefficient_takes_its_place():
    X, y = make_data()
    full = cs.fit(X, y)
    offset = X[:, :1] * full.coef[:, 0]
    rest = cs.fit(X[:, 1:], y, offset=offset)
    np.testing.assert_allclose(rest.coef, full.coef[:, 1:], rtol=1e-9)
    np.testing.assert_allclose(rest.log_likelihood, full.log_likelihood, rtol=1e-13)
    np.testing.assert_allclose(rest.predict_proba(X[:, 1:], offset), full.predict_proba(X), rtol=1e-10)


def test_the_null_log_likelihood_has_the_intercepts_the_weights_and_the_offset():
    X, y = make_data()
    w = np.arange(len(y)) % 3
    totals = np.bincount(y, w)
    assert cs.fit(X, y, sample_weight=w).null_log_likelihood == pytest.approx(
        np.sum(totals * np.log(totals / totals.sum())), rel=1e-14)
    assert cs.fit(X, y, fit_intercept=False).null_log_likelihood == pytest.approx(-len(y) * np.log(3), rel=1e-14, abs=0)
    offset = np.random.default_rng(0).standard_normal((len(y), 3))
    only = cs.fit(np.empty((len(y), 0)), y, offset=offset, sample_weight=w)
    result = cs.fit(X, y, offset=offset, sample_weight=w)
    assert result.null_log_likelihood == pytest.approx(only.log_likelihood, rel=1e-13, abs=0)
    bare = cs.fit(X, y, offset=offset, fit_intercept=False)
    assert bare.null_log_likelihood == pytest.approx(
        cs.log_likelihood(np.empty((len(y), 0)), y, np.empty((3, 0)), offset=offset), rel=1e-14)


def test_labels_keep_their_kind_and_order():
    X, y = make_data()
    for labels, expected in [
        (np.array([10, 50, 20])[y], [10, 20, 50]),
        (np.array(["b", "c", "a"])[y], ["a", "b", "c"]),
        ([["x", "yy", "zzz"][k] for k in y], ["x", "yy", "zzz"]),
        (y == 1, [False, True]),
    ]:
        result = cs.fit(X, labels)
        assert result.classes.tolist() == expected
        assert set(result.predict(X).tolist()) <= set(expected)
    # the same fit under another order of the labels
    np.testing.assert_allclose(cs.fit(X, np.array([10, 50, 20])[y]).coef[[0, 2, 1]], cs.fit(X, y).coef, rtol=1e-9)


def test_a_categorical_keeps_its_order_and_loses_its_unused_category_with_a_warning():
    pd = pytest.importorskip("pandas")
    X, y = make_data()
    labels = pd.Series(pd.Categorical.from_codes(y, ["small", "medium", "large"]), name="size")
    assert cs.fit(X, labels).classes.tolist() == ["small", "medium", "large"]
    more = pd.Categorical.from_codes(y, ["small", "medium", "large", "huge"], ordered=True)
    with pytest.warns(UserWarning, match="no sample of positive weight has the class 'huge'; dropped"):
        result = cs.fit(X, more, reference="small")
    assert result.classes.tolist() == ["small", "medium", "large"]
    np.testing.assert_allclose(result.coef, cs.fit(X, y, reference=0).coef, rtol=1e-10)


def test_one_class_and_a_column_of_labels_are_refused():
    X, _ = make_data()
    with pytest.raises(ValueError, match=r"y has 1 class \('a'\); softmax regression needs at least 2"):
        cs.fit(X, ["a"] * len(X))
    with pytest.raises(ValueError, match=r"y has shape \(120, 1\); labels are wanted with shape"):
        cs.fit(X, np.zeros((len(X), 1)))


def test_a_data_frame_gives_names_and_is_read_by_name_at_predict():
    pd = pytest.importorskip("pandas")
    X, y = make_data()
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    result = cs.fit(frame, pd.Series(y, name="grade"), reference=0)
    assert result.feature_names == ["a", "b", "c"] and result.response_name == "grade"
    np.testing.assert_array_equal(result.predict_proba(frame[["c", "a", "b"]]), result.predict_proba(X))
    with pytest.raises(ValueError, match="X has no column 'b'; the model was fitted with 'a', 'b', 'c'"):
        result.predict(frame[["a", "c"]])
    frame.loc[3, "b"] = np.nan
    with pytest.raises(ValueError, match=r"X has nan at row 3, column 1 \('b'\)"):
        cs.fit(frame, y)


@pytest.mark.parametrize("n_threads", [2, 3])
def test_the_fit_is_bit_identical_for_every_number_of_threads(n_threads):
    X, y = make_data(n=30000, d=8)
    one, more = cs.fit(X, y, n_threads=1), cs.fit(X, y, n_threads=n_threads)
    np.testing.assert_array_equal(one.params, more.params)
    np.testing.assert_array_equal(one.bse, more.bse)


@pytest.mark.parametrize("make", [
    lambda X: np.asfortranarray(X), lambda X: X[:, ::-1][:, ::-1], lambda X: np.repeat(X, 2, axis=0)[::2],
    lambda X: X.astype(np.longdouble), lambda X: X.astype(object), lambda X: X.tolist()])
def test_any_memory_order_gives_the_same_fit(make):
    X, y = make_data()
    np.testing.assert_array_equal(cs.fit(make(X), y).params, cs.fit(X, y).params)


def test_whole_number_columns_fit_alike_in_every_dtype():
    rng = np.random.default_rng(3)
    X, y = rng.integers(0, 100, (200, 3)), rng.integers(0, 3, 200)
    expected = cs.fit(X.astype(float), y).params
    for dtype in (np.uint8, np.int16, np.int64, np.float32, np.float16):
        np.testing.assert_array_equal(cs.fit(X.astype(dtype), y).params, expected)


@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, lambda X: X[::-1].copy()[::-1],
                                    lambda X: X.astype(">f4"),
                                    lambda X: np.frombuffer(b"x" + X.tobytes(), np.uint8)[1:].view(X.dtype)
                                    .reshape(X.shape)])
def test_float32_data_are_fitted_in_float64(layout):
    # the sums of the equation functions may be in float32: those that a fit stands on never are
    X, y = make_data()
    X = X.astype(np.float32)
    single, double = cs.fit(layout(X), y), cs.fit(X.astype(np.float64), y)
    np.testing.assert_array_equal(single.params, double.params)
    np.testing.assert_array_equal(single.bse, double.bse)
    assert single.log_likelihood == double.log_likelihood
    np.testing.assert_array_equal(single.predict_proba(layout(X)), double.predict_proba(X.astype(np.float64)))


def test_read_only_data_is_neither_copied_nor_written():
    X, y = make_data()
    X.setflags(write=False)
    result = cs.fit(X, y)
    assert result.success and result._coordinates.objective.samples.X is X


def test_huge_and_tiny_columns_do_not_overflow():
    X, y = make_data()
    units = np.array([1e200, 1e-200, 1.0])
    result, plain = cs.fit(X * units, y), cs.fit(X, y)
    assert result.success
    np.testing.assert_allclose(result.coef * units, plain.coef, rtol=1e-9)


def test_unweighted_fits_do_not_warn():
    X, y = make_data()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cs.fit(X, y).summary()


def test_keep_data_false_lets_the_data_go_and_keeps_the_standard_errors():
    X, y = make_data()
    kept, light = cs.fit(X, y), cs.fit(X, y, keep_data=False)
    assert light._coordinates is None
    np.testing.assert_array_equal(light.bse, kept.bse)
    assert str(light.summary()) == str(kept.summary())


def test_warnings_point_at_the_callers_line():
    pytest.importorskip("formulaic")
    separated = {"x": [0.0, 1, 2, 3], "y": ["a", "a", "b", "b"]}
    with pytest.warns(cs.SeparationWarning) as caught:
        cs.fit(np.array([[0.0], [1], [2], [3]]), separated["y"])
        cs.fit_formula("y ~ x", separated)
    assert [warning.filename for warning in caught] == [__file__] * 2
    with pytest.warns(UserWarning, match="dropped") as caught:
        cs.fit(np.eye(4), [0, 1, 2, 0], sample_weight=[1, 1, 0, 1], l2=1.0)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("change", [np.asfortranarray, lambda rows: np.ascontiguousarray(rows.T).T])
def test_parameters_of_any_memory_order_are_taken(change):
    X, y = make_data()
    result = cs.fit(X, y)
    assert cs.log_likelihood(X, y, change(result.coef), result.intercept) == cs.log_likelihood(
        X, y, result.coef, result.intercept)


def test_predicting_from_other_columns_names_what_the_model_has():
    X, y = make_data()
    result = cs.fit(X, y)
    with pytest.raises(ValueError, match="X has 2 columns; the model was fitted with 3: x1, x2, x3"):
        result.predict(X[:, :2])
    with pytest.raises(ValueError, match=r"one sample is X\.reshape\(1, -1\)"):
        result.predict(X[0])


@pytest.mark.parametrize(("name", "changes"), [
    ("X", {"X": [[1.0, 2.0]] * 5 + [[1.0]]}), ("X", {"X": np.array([[10**400, 1]] * 6, dtype=object)}),
    ("y", {"y": np.full((6, 2), 1e308)}), ("y", {"y": [[1, 2]] * 5 + [[1]]}),
    ("offset", {"offset": [[1, 2]] * 5 + [[1]]}), ("sample_weight", {"sample_weight": [1, [2]] * 3}),
    ("init", {"init": "a"}), ("init", {"init": np.full((2, 3), 1e308)}), ("init", {"init": np.ones((2, 3)) * 1j}),
    ("tol", {"tol": 10**400}), ("max_iter", {"max_iter": 10**30})])
def test_errors_of_ragged_complex_and_overflowing_arguments_name_them(name, changes):
    arguments = {"X": np.arange(12.0).reshape(6, 2) % 5, "y": np.array([0, 1] * 3), **changes}
    with pytest.raises((ValueError, TypeError), match=f"^{name}('s column 'x1')? "):
        cs.fit(**arguments)


@pytest.mark.skipif(np.finfo(np.longdouble).max == np.finfo(float).max, reason="long double is a double")
def test_a_long_double_beyond_float64_is_named_as_not_finite():
    X = np.arange(12.0).reshape(6, 2).astype(np.longdouble)
    X[4, 1] = np.longdouble("1e400")
    with pytest.raises(ValueError, match=r"X has .* at row 4, column 1"):
        cs.fit(X, [0, 1] * 3)


@pytest.mark.parametrize(("name", "hint"), [
    ("C", r"scikit-learn's C is l2=1/C \(with two classes 2/C\)"), ("penalty", "the numbers l2 and l1"),
    ("weights", "sample_weight has the weights"), ("sample_weights", "did you mean 'sample_weight'\\?"),
    ("multi_class", "always the multinomial"), ("random_state", "nothing is drawn"), ("maxiter", "mean 'max_iter'"),
    ("cov_type", "with_covariance"), ("n_jobs", "n_threads"), ("wibble", "it has X, y, l2, l1, .*keep_data$")])
def test_an_unknown_keyword_is_named_with_what_stands_for_it_here(name, hint):
    X, y = np.arange(6.0)[:, np.newaxis], [0, 1, 0, 1, 0, 1]
    with pytest.raises(TypeError, match=f"^fit has no argument '{name}'; .*{hint}"):
        cs.fit(X, y, **{name: 1.0})
    with pytest.raises(TypeError, match=f"^fit has no argument '{name}'; .*{hint}"):
        cs.fit_formula("y ~ x", {"x": X[:, 0], "y": y}, **{name: 1.0})


def test_what_stands_for_another_programs_keyword_is_an_argument_or_a_method():
    known = list(inspect.signature(cs.fit).parameters)
    assert known[:4] == ["X", "y", "l2", "l1"] and "kwargs" not in known  # and readers of signatures see it
    assert not set(fitting._ELSEWHERE) & set(known)
    for hint in fitting._ELSEWHERE.values():
        for argument in re.findall(r"\b(l1|l2|sample_weight|weight_type|n_threads|solver|reference|init)\b", hint):
            assert argument in known
        for method in re.findall(r"result\.(\w+)", hint):
            assert hasattr(cs.SoftmaxResult, method)


@pytest.mark.parametrize("solver", ["lm", "L-BFGS-B", "trust-exact"])
def test_as_many_iterations_as_a_fit_takes_are_enough(solver):
    penguins = cs.datasets.load_penguins().dropna()
    X, y = penguins[["flipper_length_mm", "body_mass_g"]], penguins["species"]
    n_iter = cs.fit(X, y, solver=solver).n_iter
    result = cs.fit(X, y, solver=solver, max_iter=n_iter)
    assert result.success and result.n_iter == n_iter
    seen = []
    with pytest.warns(cs.ConvergenceWarning, match=f"stopped at max_iter={n_iter - 1} "):
        short = cs.fit(X, y, solver=solver, max_iter=n_iter - 1, callback=seen.append)
    assert not short.success and len(seen) == short.n_iter == n_iter - 1
    np.testing.assert_array_equal(short.params, seen[-1].params)


def test_a_tolerance_below_rounding_is_told():
    penguins = cs.datasets.load_penguins().dropna()
    with pytest.warns(cs.ConvergenceWarning, match="rounding leaves a gradient of about 1e-15: a larger tol is wanted"):
        cs.fit(penguins[["flipper_length_mm", "body_mass_g"]], penguins["species"], tol=1e-18)
