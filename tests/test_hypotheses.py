"""Wald, likelihood ratio and score tests: against certified fits, statsmodels, plain Newton steps, and each other.

It stands on csoftmax.fit and on the reference results.
"""

import functools
import warnings

import numpy as np
import pandas as pd
import pytest
import references_io
from scipy import linalg
from scipy.stats import chi2, kstest

import csoftmax as cs
from csoftmax._threads import row_blocks
from csoftmax.certificate import NewtonSteps
from csoftmax.constraints import Constraints
from csoftmax.hypotheses import HypothesisTable, chi_squared_test
from csoftmax.metric import MetricCoordinates
from csoftmax.objective import SoftmaxObjective
from csoftmax.restricted import RestrictedCoordinates, plane_of
from csoftmax.samples import DenseSamples, JoinedColumns

# two certified maxima, each to 1e-9 of the summed log-likelihood or better
LR_TOLERANCE = {"rtol": 1e-9, "atol": 1e-8}


def fitted(name, **options):
    reference = references_io.load(name)
    X = pd.DataFrame(reference.X, columns=reference.features)
    return cs.fit(X, np.array(reference.classes)[reference.y], sample_weight=reference.weights,
                  reference=reference.classes[reference.reference], **options)


def simulated(n=300, d=2, C=3, seed=0, effect=0.5):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    theta = effect * rng.standard_normal((d, C))
    return X, (X @ theta + rng.gumbel(size=(n, C))).argmax(axis=1)


def newton(X, y, C, fixed=(), steps=60):
    """(log-likelihood, gradient, information, theta) at the maximum in plain NumPy, class 0 the reference.

    `fixed` are (class, column) of coefficients that are 0; the last column of X~ is a one.
    """
    Z = np.column_stack([X, np.ones(len(X))])
    p = Z.shape[1]
    free = np.array([(k, i) not in fixed for k in range(1, C) for i in range(p)])
    theta = np.zeros((C - 1) * p)
    for _ in range(steps):
        logits = np.column_stack([np.zeros(len(Z)), Z @ theta.reshape(C - 1, p).T])
        logits -= logits.max(axis=1, keepdims=True)
        prob = np.exp(logits)
        prob /= prob.sum(axis=1, keepdims=True)
        residual = np.eye(C)[y] - prob
        gradient = (residual[:, 1:].T @ Z).ravel()
        S = np.einsum("jk,kl->jkl", prob[:, 1:], np.eye(C - 1)) - np.einsum("jk,jl->jkl", prob[:, 1:], prob[:, 1:])
        information = np.einsum("jkl,ja,jb->kalb", S, Z, Z).reshape(2 * (len(theta),))
        theta[free] += np.linalg.solve(information[np.ix_(free, free)], gradient[free])
    return float(np.log(prob[np.arange(len(y)), y]).sum()), gradient, information, theta


# ------------------------------------------------------------------------------------------------------------ figures

def test_likelihood_ratios_of_womenlf_are_those_that_car_prints():
    # R's car::Anova(nnet::multinom(partic ~ hincome + children, Womenlf)), Type II, as printed by M. Friendly,
    # https://friendly.github.io/psy6136/R/output/wlf-glogit.html (and with more digits on euclid.psych.yorku.ca);
    # without an interaction each term is dropped alone, here as there
    result = fitted("womenlf")
    table = result.test_terms("lr")
    assert [f"{x:.3f}" for x in table.statistic] == ["15.153", "63.559"]
    assert [f"{x:.4g}" for x in table.pvalue] == ["0.0005123", "1.579e-14"]
    assert table.df.tolist() == [2, 2]
    assert f"{-2 * result.log_likelihood:.4f}" == "422.8819" and f"{result.aic:.4f}" == "434.8819"


def test_estimates_of_womenlf_are_those_that_multinom_prints():
    # the same page's summary(multinom(...)): hincome, childrenpresent, (Intercept) of parttime and fulltime against
    # not.work. multinom stops short of the maximum: by 8e-5 of a standard error here
    result = fitted("womenlf").rebase("not.work")
    rows = [result.classes.tolist().index(label) for label in ("parttime", "fulltime")]
    errors = np.array([[0.02345484, 0.4690352, 0.5924627], [0.02809599, 0.3621999, 0.4841789]])
    printed = np.array([[0.006893838, 0.02145558, -1.432321], [-0.097232073, -2.55860537, 1.982842]])
    np.testing.assert_allclose((result.params[rows] - printed) / errors, 0.0, atol=1e-4)
    np.testing.assert_allclose(result.bse[rows], errors, rtol=1e-4)


def test_likelihood_ratio_of_two_certified_models_is_that_of_their_references():
    small, large = references_io.load("alligators"), references_io.load("alligators_gender")
    result, nested = fitted("alligators_gender"), fitted("alligators")
    assert result.feature_names[-1] == "gender[Female]"
    expected = 2.0 * (large.loglik - small.loglik)
    # the two tables have other rows of counts: the larger model's with its column left out
    np.testing.assert_allclose(result.lr_test("gender[Female] = 0").statistic, expected, **LR_TOLERANCE)
    assert result.lr_test("gender[Female] = 0").df == 4
    assert nested.n_params == result.n_params - 4


@pytest.mark.parametrize("name", ["alligators", "anes96", "penguins_flipper_mass", "womenlf", "iris_vv"])
def test_wald_statistics_of_references_are_those_of_their_covariances(name):
    reference = references_io.load(name)
    result = fitted(name)
    C, p = reference.coef.shape
    shown = [k for k in range(C) if k != reference.reference]
    for i, feature in enumerate(reference.features):
        theta = reference.coef[shown, i]
        places = [row * p + i for row in range(C - 1)]
        expected = theta @ np.linalg.solve(reference.covariance[np.ix_(places, places)], theta)
        test = result.wald_test(f"`{feature}` = 0")
        # what the covariance's condition leaves of 16 digits
        np.testing.assert_allclose(test.statistic, expected, rtol=1e-8)
        assert test.df == C - 1
        np.testing.assert_allclose(test.pvalue, chi2.sf(expected, C - 1), rtol=1e-6)


def test_wald_tests_are_statsmodels_of_mnlogit():
    sm = pytest.importorskip("statsmodels.api")
    reference = references_io.load("anes96")
    result = fitted("anes96")
    model = sm.MNLogit(reference.y, np.column_stack([reference.X, np.ones(len(reference.X))]))
    other = model.fit(disp=False, tol=1e-12, method="newton")
    rng = np.random.default_rng(1)
    p = reference.X.shape[1] + 1
    R, q = np.zeros((3, 6 * p)), rng.standard_normal(3)
    R[0, 2], R[1, [3, p + 3]], R[2, [4, 2 * p + 3]] = 1.0, [1.0, -1.0], [1.0, -2.0]
    ours = result.wald_test(R, q)
    theirs = other.wald_test((R, q), scalar=True)
    np.testing.assert_allclose(ours.statistic, theirs.statistic, rtol=1e-6)
    np.testing.assert_allclose(ours.pvalue, theirs.pvalue, rtol=1e-5, atol=1e-300)
    # llr: against the intercepts alone
    everything = result.lr_test(", ".join(f"{name} = 0" for name in reference.features))
    sizes = np.bincount(reference.y)
    null = float(np.sum(sizes * np.log(sizes / sizes.sum())))
    np.testing.assert_allclose(everything.statistic, 2.0 * (reference.loglik - null), **LR_TOLERANCE)
    np.testing.assert_allclose(everything.statistic, other.llr, rtol=1e-8)  # its null model stops 7e-7 short
    assert everything.df == other.df_model


@pytest.mark.parametrize("C", [2, 3, 4])
@pytest.mark.parametrize("d", [1, 3])
def test_likelihood_ratio_and_score_are_those_of_plain_newton_steps(C, d):
    X, y = simulated(d=d, C=C, seed=10 * C + d)
    result = cs.fit(X, y, reference=0)
    top = newton(X, y, C)[0]
    for text, fixed in (("x1 = 0", {(k, 0) for k in range(1, C)}), ("1: x1 = 0", {(1, 0)}),
                        ("1: Intercept = 0", {(1, d)})):
        value, gradient, information, _ = newton(X, y, C, fixed)
        np.testing.assert_allclose(result.lr_test(text).statistic, 2.0 * (top - value), **LR_TOLERANCE)
        test = result.score_test(text)
        np.testing.assert_allclose(test.statistic, gradient @ np.linalg.solve(information, gradient), rtol=1e-8)
        assert test.df == len(fixed)


def test_score_of_extra_columns_is_that_of_the_larger_model_under_the_hypothesis():
    X, y = simulated(d=4, C=3, seed=4)
    small = cs.fit(X[:, :2], y)
    test = small.score_test(X_extra=X[:, 2:])
    expected = cs.fit(X, y).score_test("x3 = 0, x4 = 0")
    np.testing.assert_allclose(test.statistic, expected.statistic, rtol=1e-9)
    assert test.df == expected.df == 4
    _, gradient, information, _ = newton(X, y, 3, {(k, i) for k in (1, 2) for i in (2, 3)})
    np.testing.assert_allclose(test.statistic, gradient @ np.linalg.solve(information, gradient), rtol=1e-9)


@pytest.mark.parametrize("convert", [np.float32, np.asfortranarray, lambda X: np.round(20 * X + 100).astype(np.uint8)])
def test_score_of_extra_columns_takes_every_kind_of_columns(convert):
    X, y = simulated(n=50_000, d=3, C=3, seed=5)
    X = convert(X)
    assert len(row_blocks(len(X), 6)) > 1
    test = cs.fit(X[:, :1], y).score_test(X_extra=X[:, 1:])
    expected = cs.fit(np.asarray(X, dtype=np.float64), y).score_test("x2 = 0, x3 = 0")
    np.testing.assert_allclose(test.statistic, expected.statistic, rtol=1e-8)


def test_score_of_extra_columns_finds_the_rows_that_a_formula_kept():
    penguins = cs.datasets.load_penguins()
    result = cs.fit_formula("species ~ flipper_length_mm", penguins)
    complete = penguins.dropna(subset=["flipper_length_mm"])
    whole = result.score_test(X_extra=penguins[["body_mass_g"]])
    assert whole.statistic == result.score_test(X_extra=complete[["body_mass_g"]]).statistic
    both = cs.fit_formula("species ~ flipper_length_mm + body_mass_g", penguins)
    np.testing.assert_allclose(whole.statistic, both.score_test("body_mass_g = 0").statistic, rtol=1e-9)


# ------------------------------------------------------------------------------------------------------- invariances

def all_tests(result):
    """Every statistic of a result with features x1 and x2 and classes 0, 1, 2."""
    tables = [result.test_terms(kind) for kind in ("wald", "lr", "score")]
    tables += [result.test_combine(kind=kind) for kind in ("wald", "lr", "score")]
    tests = [result.lr_test("x1 = 0, x2 = 0"), result.wald_test("x1 = 2 * x2")]
    return np.concatenate([*(table.statistic for table in tables), [test.statistic for test in tests]])


def test_statistics_are_the_same_for_every_reference():
    X, y = simulated(seed=6)
    result = cs.fit(X, y)
    expected = all_tests(result)
    for reference in (0, 1, 2):
        rebased = result.rebase(reference)
        np.testing.assert_allclose(all_tests(rebased), expected, rtol=1e-8)
        # across two classes: the same difference, whatever is shown
        np.testing.assert_allclose(rebased.wald_test("1: x1 = 2: x1").statistic,
                                   result.wald_test("1: x1 = 2: x1").statistic, rtol=1e-10)


def test_statistics_do_not_depend_on_units():
    X, y = simulated(seed=7)
    changed = X * [1e6, 1e-3] + [1e9, 5.0]
    terms = [cs.fit(data, y).test_terms(kind).statistic for data in (X, changed) for kind in ("wald", "lr", "score")]
    # x1 is rounded to 1e-13 of its spread by the shift
    np.testing.assert_allclose(terms[3:], terms[:3], rtol=1e-7)


@pytest.mark.parametrize("as_counts", [False, True])
def test_weights_counts_and_absent_rows_are_repetition_in_every_test(as_counts):
    X, y = simulated(n=120, seed=8)
    weights = np.random.default_rng(8).integers(0, 4, len(y)).astype(float)
    expected = all_tests(cs.fit(np.repeat(X, weights.astype(int), axis=0), np.repeat(y, weights.astype(int))))
    result = cs.fit(X, np.eye(3)[y] * weights[:, np.newaxis]) if as_counts else cs.fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(all_tests(result), expected, rtol=1e-7)
    extra = np.random.default_rng(9).standard_normal((len(y), 1))
    repeated = cs.fit(np.repeat(X, weights.astype(int), axis=0), np.repeat(y, weights.astype(int)))
    np.testing.assert_allclose(result.score_test(X_extra=extra).statistic, repeated.score_test(
        X_extra=np.repeat(extra, weights.astype(int), axis=0)).statistic, rtol=1e-7)


def test_an_offset_stays_in_the_restricted_model():
    X, y = simulated(seed=9)
    offset = np.outer(X[:, 1], [0.0, 1.0, -0.5])
    result = cs.fit(X, y, offset=offset, reference=0)
    plain = cs.fit(X, y, reference=0)
    # coefficients are less by the offset's: hypotheses about them are shifted
    for kind in ("wald_test", "lr_test", "score_test"):
        np.testing.assert_allclose(getattr(result, kind)("1: x2 = 0, 2: x2 = 0").statistic,
                                   getattr(plain, kind)("1: x2 = 1, 2: x2 = -0.5").statistic, rtol=1e-7)
    nested = cs.fit(X[:, :1], y, offset=offset)
    expected = 2.0 * (result.log_likelihood - nested.log_likelihood)
    np.testing.assert_allclose(result.test_terms("lr").statistic[1], expected, **LR_TOLERANCE)


def test_statistics_are_bit_identical_for_every_number_of_threads():
    X, y = simulated(n=60_000, seed=12)
    one, two = (cs.fit(X, y, n_threads=n) for n in (1, 2))
    np.testing.assert_array_equal(all_tests(one), all_tests(two))
    extra = X[:, :1] ** 2
    assert one.score_test(X_extra=extra) == two.score_test(X_extra=extra)


def test_a_hypothesis_far_from_the_estimate_is_reached_with_the_hessian_of_a_point_on_the_way(monkeypatch):
    # of 209 coordinates: a Hessian costs 34 gradients, and its factor preconditions the steps at the end
    used, products, init, product = [], [], NewtonSteps.__init__, RestrictedCoordinates.hessian_product

    def spy(self, coordinates, u, form, near=None, *others, **options):
        init(self, coordinates, u, form, near, *others, **options)
        used.append((near is not None, self.smallest > 0))

    X, y = simulated(n=600, d=10, C=20)
    result = cs.fit(X, y, reference=0)
    monkeypatch.setattr(NewtonSteps, "__init__", spy)
    monkeypatch.setattr(RestrictedCoordinates, "hessian_product",
                        lambda self, u, v: (products.append(1), product(self, u, v))[1])
    test = result.lr_test("x1 = 3")
    assert used[-1] == (True, True) and not test.note  # it sufficed: no other was formed after it
    assert len(products) <= 10  # 4, where without its factor they are 42
    offset = np.column_stack([np.zeros(600), np.tile(3.0 * X[:, :1], 19)])
    restricted = cs.fit(X[:, 1:], y, offset=offset)
    expected = 2.0 * (result.log_likelihood - restricted.log_likelihood)
    np.testing.assert_allclose(test.statistic, expected, **LR_TOLERANCE)


# ------------------------------------------------------------------------------------------------------ distribution

def test_pvalues_are_uniform_where_the_hypothesis_holds():
    rng = np.random.default_rng(20)
    pvalues = []
    for _ in range(200):
        X = rng.standard_normal((150, 2))
        y = (np.outer(X[:, 0], [0.0, 0.6, -0.4]) + rng.gumbel(size=(150, 3))).argmax(axis=1)
        result = cs.fit(X, y)
        pvalues.append([getattr(result, kind)("x2 = 0").pvalue for kind in ("wald_test", "lr_test", "score_test")])
    # at 200 replications Kolmogorov's distance is above 0.115 once in a hundred times; the seed is fixed
    assert all(kstest(column, "uniform").statistic < 0.115 for column in np.transpose(pvalues))


def test_the_three_tests_agree_to_first_order_near_the_hypothesis():
    # statistics of order 1 that differ by 1 / sqrt(n) of themselves
    X, y = simulated(n=200_000, d=2, C=3, seed=21, effect=0.003)
    result = cs.fit(X, y, reference=0)
    wald, lr, score = (getattr(result, kind)("x1 = 0").statistic for kind in ("wald_test", "lr_test", "score_test"))
    assert 0.1 < wald < 50
    np.testing.assert_allclose([lr, score], wald, rtol=0.02)


# ------------------------------------------------------------------------------------------------------------- nested

def test_a_nested_result_gives_the_statistic_of_its_constraints():
    X, y = simulated(d=3, seed=13)
    result, nested = cs.fit(X, y), cs.fit(X[:, :1], y)
    test = result.lr_test(nested)
    by_constraints = result.lr_test("x2 = 0, x3 = 0")
    np.testing.assert_allclose(test.statistic, by_constraints.statistic, **LR_TOLERANCE)
    assert test.df == by_constraints.df == 4
    assert test.pvalue == pytest.approx(by_constraints.pvalue, rel=1e-6)
    # columns that are combinations of the larger model's, under other names
    combined = cs.fit(pd.DataFrame({"sum": X[:, 0] + X[:, 1]}), y)
    np.testing.assert_allclose(result.lr_test(combined).statistic, result.lr_test("x1 = x2, x3 = 0").statistic,
                               **LR_TOLERANCE)
    # without an intercept
    through_0 = cs.fit(X, y, fit_intercept=False)
    np.testing.assert_allclose(result.lr_test(through_0).statistic, result.lr_test("Intercept = 0").statistic,
                               **LR_TOLERANCE)


def test_a_column_that_differs_on_few_of_many_rows_is_not_nested():
    rng = np.random.default_rng(0)
    n = 20_000
    X, y = rng.standard_normal((n, 2)), rng.integers(0, 3, n)
    rare = np.zeros(n)
    rare[7::1999] = 1.0
    for other in (rare, X[:, 0] + 1e-4 * rare):
        with pytest.raises(ValueError, match="no combinations"):
            cs.fit(X, y).lr_test(cs.fit(other[:, np.newaxis], y))


def test_a_nested_model_may_be_written_in_other_columns():
    rng = np.random.default_rng(1)
    n = 600
    X, y = rng.standard_normal((n, 2)), rng.integers(0, 3, n)
    X[1] = 1e200  # of weight 0
    weights = np.ones(n)
    weights[1] = 0.0
    groups = np.eye(3)[rng.integers(0, 3, n)]
    powers = np.vander(np.linspace(0.0, 1.0, n), 9)[:, :-1]  # nearly collinear
    fit = functools.partial(cs.fit, y=y, sample_weight=weights)
    for full, nested in [
        (fit(X), fit(3.0 * X[:, :1] + 7.0 * X[:, 1:] + 1e6)),
        (fit(X), fit(X[:, :1], fit_intercept=False)),
        (fit(X), fit(X[:, :1].astype(np.longdouble))),
        (fit(groups, fit_intercept=False), fit(X[:, :0])),
        (fit(groups[:, :2]), fit(groups[:, 2:].astype(np.uint8))),
        (fit(powers), fit(powers[:, 3:])),
    ]:
        assert 0.0 < full.lr_test(nested).pvalue < 1.0
    with pytest.raises(ValueError, match="no combinations"):
        fit(X, fit_intercept=False).lr_test(fit(X[:, :0]))


def test_a_result_that_is_not_nested_says_what_does_not_fit():
    X, y = simulated(d=3, seed=14)
    result = cs.fit(X, y)
    smaller = X[:, :1]
    relabelled = np.roll(y, 1)
    doubled = np.full(len(y), 2.0)
    for nested, says in [
        (cs.fit(smaller[1:], y[1:]), "nobs 299"),
        (cs.fit(smaller, np.where(y == 2, 1, y)), "classes"),
        (cs.fit(smaller, y, sample_weight=doubled), "nobs 600"),
        (cs.fit(smaller, y, offset=np.outer(X[:, 0], [0, 1, 2])), "null_log_likelihood"),
        (cs.fit(smaller, relabelled), "other y"),
        (cs.fit(X, y), "nested has 8 parameters, and this result has 8; fewer"),
        (cs.fit(smaller ** 2, y), "no combinations"),
        (cs.fit(smaller, y, l2=1.0), r"\(nested\).*l2 > 0"),
        (cs.fit(smaller, y, l1=1.0), r"\(nested\).*l1 > 0"),
        (cs.fit(smaller, y, bias_reduction="firth"), "bias_reduction='firth'"),
    ]:
        with pytest.raises(ValueError, match=says):
            result.lr_test(nested)
    with pytest.raises(ValueError, match=r"\(this result\).*l2 > 0"):
        cs.fit(X, y, l2=1.0).lr_test(cs.fit(smaller, y))
    weighted = cs.fit(X, y, sample_weight=doubled, weight_type="probability")
    with pytest.raises(ValueError, match="pseudo-likelihood"):
        weighted.lr_test("x1 = 0")
    with pytest.raises(ValueError, match="q is given beside a nested result"):
        result.lr_test(cs.fit(smaller, y), q=[1.0])


def test_rows_left_out_for_missing_values_are_the_reason_given_where_samples_differ():
    pytest.importorskip("formulaic")
    penguins = cs.datasets.load_penguins()
    full, nested = (cs.fit_formula(f"species ~ {x}", penguins) for x in ("body_mass_g + sex", "body_mass_g"))
    with pytest.raises(ValueError, match=r"nobs 342.*2 and 11 rows were left out for missing values"):
        full.lr_test(nested)


def test_columns_far_from_0_are_no_combinations_of_each_other():
    X, y = simulated(d=1, seed=28)
    far = 1e9 + X
    result = cs.fit(np.column_stack([far, X ** 3]), y)
    assert result.lr_test(cs.fit(pd.DataFrame({"twice": 2.0 * far[:, 0]}), y)).df == 2
    with pytest.raises(ValueError, match="no combinations"):
        result.lr_test(cs.fit(pd.DataFrame({"square": 1e9 + X[:, 0] ** 2}), y))


def test_results_without_data_are_compared_by_names_and_likelihoods():
    X, y = simulated(d=2, seed=15)
    result, nested = cs.fit(X, y, keep_data=False), cs.fit(X[:, :1], y, keep_data=False)
    expected = cs.fit(X, y).lr_test("x2 = 0").statistic
    np.testing.assert_allclose(result.lr_test(nested).statistic, expected, **LR_TOLERANCE)
    assert result.wald_test("x2 = 0").statistic > 0
    for method in (lambda: result.lr_test("x2 = 0"), lambda: result.score_test("x2 = 0"),
                   lambda: result.test_terms("lr"), lambda: result.conf_int(method="profile")):
        with pytest.raises(ValueError, match="needs the data"):
            method()
    other = cs.fit(pd.DataFrame({"a": X[:, 0]}), y, keep_data=False)
    with pytest.raises(ValueError, match="cannot be seen without the data"):
        result.lr_test(other)


# -------------------------------------------------------------------------------------------------------------- terms

def test_terms_are_those_of_the_formula():
    penguins = cs.datasets.load_penguins()
    formula = "species ~ sex + bs(flipper_length_mm, df=4) + sex:body_mass_g"
    # splines of four columns all but separate the penguins: the ridge keeps the estimate finite, Wald is enough
    result = cs.fit_formula(formula, penguins, l2=1.0)
    table = result.test_terms()
    assert table.names == ("sex", "bs(flipper_length_mm, df=4)", "sex:body_mass_g")
    assert table.df.tolist() == [2, 8, 4]
    names = [name for name in result.feature_names if name.startswith("bs(")]
    assert table.statistic[1] == pytest.approx(result.wald_test([f"`{name}` = 0" for name in names]).statistic)


def test_dropping_a_term_is_fitting_without_it():
    penguins = cs.datasets.load_penguins().dropna()
    full = cs.fit_formula("species ~ flipper_length_mm + C(year) + sex", penguins)
    table = full.test_terms("lr")
    assert table.names == ("flipper_length_mm", "C(year)", "sex")
    for name, formula in zip(table.names, ["C(year) + sex", "flipper_length_mm + sex", "flipper_length_mm + C(year)"],
                             strict=True):
        test = full.lr_test(cs.fit_formula(f"species ~ {formula}", penguins))
        i = table.names.index(name)
        np.testing.assert_allclose(table.statistic[i], test.statistic, **LR_TOLERANCE)
        assert table.df[i] == test.df


def test_terms_survive_json(tmp_path):
    penguins = cs.datasets.load_penguins()
    result = cs.fit_formula("species ~ flipper_length_mm + C(year)", penguins)
    result.to_json(tmp_path / "model.json")
    again = cs.from_json(tmp_path / "model.json")
    np.testing.assert_array_equal(again.test_terms().statistic, result.test_terms().statistic)
    assert again.test_terms().names == ("flipper_length_mm", "C(year)")


def test_a_table_reads_and_becomes_a_data_frame():
    X, y = simulated(seed=16)
    table = cs.fit(X, y).test_terms("score")
    frame = table.to_frame()
    assert frame.index.tolist() == ["x1", "x2"] and frame.columns.tolist() == ["statistic", "df", "pvalue", "note"]
    np.testing.assert_array_equal(frame["pvalue"], table.pvalue)
    lines = str(table).splitlines()
    assert lines[0].startswith("Score tests of terms")
    assert f"{table.statistic[0]:.4f}" in lines[4] and lines[4].startswith("x1")
    assert max(map(len, lines[1:])) == min(map(len, lines[1:]))
    test = cs.fit(X, y).wald_test("x1 = 0")
    assert str(test).startswith("Wald test of x1 = 0: chi2(2) = ")


@pytest.mark.parametrize(("statistic", "shown"), [
    (3.84, "= 0.0500"), (15.0, "= 0.000108"), (24.0, "= 9.63e-07"), (30.0, "= 4.32e-08"), (5000.0, "< 1e-300"),
    (np.nan, "= nan")])
def test_a_p_value_is_never_shown_as_0(statistic, shown):
    test = chi_squared_test("wald", "x = 0", statistic, 1)
    assert str(test).endswith(f"p {shown}")
    assert str(HypothesisTable.of("wald", "", [test])).splitlines()[4].endswith(shown.strip("= ").replace(" ", ""))


# ------------------------------------------------------------------------------------------------- combining classes

@pytest.mark.parametrize("C", [2, 3, 4])
def test_combining_classes_is_equal_slopes_with_free_intercepts(C):
    X, y = simulated(C=C, seed=30 + C)
    result = cs.fit(X, y, reference=0)
    value, gradient, information, _ = newton(X, y, C, {(1, 0), (1, 1)})
    top, _, whole, theta = newton(X, y, C)
    np.testing.assert_allclose(result.test_combine(0, 1, kind="lr").statistic, 2.0 * (top - value), **LR_TOLERANCE)
    np.testing.assert_allclose(result.test_combine(0, 1, kind="score").statistic,
                               gradient @ np.linalg.solve(information, gradient), rtol=1e-8)
    slopes = theta[:2]
    expected = slopes @ np.linalg.solve(np.linalg.inv(whole)[:2, :2], slopes)
    test = result.test_combine(0, 1)
    np.testing.assert_allclose(test.statistic, expected, rtol=1e-8)
    assert test.df == 2
    table = result.test_combine()
    assert len(table.names) == C * (C - 1) // 2 and table.statistic[0] == test.statistic


def test_combined_classes_have_the_likelihood_of_the_merged_ones():
    # where slopes are equal, y = 0 against 1 does not depend on X: L = L(merged) + that of the two sizes
    X, y = simulated(C=3, seed=33)
    result, merged = cs.fit(X, y), cs.fit(X, np.where(y == 1, 0, y))
    sizes = np.bincount(y)[:2]
    within = float(np.sum(sizes * np.log(sizes / sizes.sum())))
    expected = 2.0 * (result.log_likelihood - merged.log_likelihood - within)
    np.testing.assert_allclose(result.test_combine(0, 1, kind="lr").statistic, expected, **LR_TOLERANCE)


def test_combining_names_two_classes_and_needs_a_feature():
    X, y = simulated(seed=34)
    result = cs.fit(X, y)
    with pytest.raises(ValueError, match="second is 7; one of the classes 0, 1, 2"):
        result.test_combine(0, 7)
    with pytest.raises(ValueError, match="second is None"):
        result.test_combine(0)
    with pytest.raises(ValueError, match="both 1"):
        result.test_combine(1, 1)
    with pytest.raises(ValueError, match="no feature"):
        cs.fit(X[:, :0], y).test_combine()
    with pytest.raises(ValueError, match="no term"):
        cs.fit(X[:, :0], y).test_terms()
    with pytest.raises(ValueError, match="kind is 'rao'; one of 'wald', 'lr', 'score'"):
        result.test_terms("rao")


# ------------------------------------------------------------------------------------------------------- covariances

def test_wald_tests_use_the_covariance_of_the_result_and_the_others_do_not():
    X, y = simulated(seed=17)
    result = cs.fit(X, y, reference=0)
    robust = result.with_covariance("HC1")
    V, theta = robust.cov_params(), robust.params[1:].ravel()
    expected = theta[[0, 3]] @ np.linalg.solve(V[np.ix_([0, 3], [0, 3])], theta[[0, 3]])
    assert robust.wald_test("x1 = 0").statistic == pytest.approx(expected, rel=1e-10)
    assert robust.wald_test("x1 = 0").statistic != pytest.approx(result.wald_test("x1 = 0").statistic, rel=1e-3)
    assert robust.lr_test("x1 = 0") == result.lr_test("x1 = 0")
    assert robust.score_test("x1 = 0") == result.score_test("x1 = 0")


def test_fewer_clusters_than_constraints_give_nan_with_the_rank():
    X, y = simulated(d=3, seed=18)
    result = cs.fit(X, y).with_covariance("cluster", groups=np.arange(len(y)) % 4)
    test = result.wald_test("x1 = 0, x2 = 0, x3 = 0")
    assert np.isnan(test.statistic) and np.isnan(test.pvalue) and test.df == 6
    assert "of 6 constraints is of rank 3" in test.note and "of rank 3" in str(test)
    assert result.wald_test("x1 = 0").statistic > 0


def test_penalised_and_bias_reduced_fits_have_wald_tests_of_their_covariance_and_no_others():
    X, y = simulated(seed=19)
    for options in ({"l2": 2.0}, {"l2": [[0.0, 0.0], [1.0, 2.0], [3.0, 0.5]]}, {"bias_reduction": "firth"}):
        result = cs.fit(X, y, reference=0, **options)
        V, theta = result.cov_params(), result.params[1:].ravel()
        expected = theta[[0, 3]] @ np.linalg.solve(V[np.ix_([0, 3], [0, 3])], theta[[0, 3]])
        assert result.wald_test("x1 = 0").statistic == pytest.approx(expected, rel=1e-8)
        for method in (result.lr_test, result.score_test):
            with pytest.raises(ValueError, match="wants an unpenalised maximum"):
                method("x1 = 0")
        if "l2" in options:
            with pytest.raises(ValueError, match="wants an unpenalised maximum"):
                result.conf_int(method="profile")
    with pytest.raises(ValueError, match="l1 > 0"):
        cs.fit(X, y, l1=1.0).wald_test("x1 = 0")


# -------------------------------------------------------------------------------------------------------- hard inputs

def test_of_collinear_columns_each_test_is_of_what_the_data_tell():
    X, y = simulated(seed=22)
    doubled = np.column_stack([X, X[:, 0]])
    result, plain = cs.fit(doubled, y), cs.fit(X, y)
    for kind in ("wald", "lr", "score"):
        table = result.test_terms(kind)
        assert table.df.tolist() == [0, 2, 0]  # without one column its copy does the same
        assert np.isnan(table.statistic[0]) and np.isnan(table.pvalue[0]) and "collinear" in table.notes[0]
        np.testing.assert_allclose(table.statistic[1], plain.test_terms(kind).statistic[1], **LR_TOLERANCE)
    both, one = result.lr_test("x1 = 0, x3 = 0"), plain.lr_test("x1 = 0")
    assert both.df == one.df == 2
    np.testing.assert_allclose(both.statistic, one.statistic, **LR_TOLERANCE)
    # of two hypotheses about the copies the data can tell their sum
    apart = cs.fit(doubled, y, reference=0).lr_test("1: x1 = 1, 1: x3 = -0.25")
    sums = cs.fit(X, y, reference=0).lr_test("1: x1 = 0.75")
    assert apart.df == sums.df == 1 and "without 1 of the constraints" in apart.note
    np.testing.assert_allclose(apart.statistic, sums.statistic, **LR_TOLERANCE)
    score = plain.score_test(X_extra=X[:, :1])
    assert score.df == 0 and np.isnan(score.pvalue)


def test_separated_samples_have_no_wald_test_and_a_score_test_where_the_smaller_model_has_a_maximum():
    reference = references_io.load("separation_endometrial")
    X = pd.DataFrame(reference.X, columns=reference.features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.SeparationWarning)
        result = cs.fit(X, reference.y, sample_weight=reference.weights)
    wald = result.wald_test("NV = 0")
    assert np.isnan(wald.statistic) and "separated" in wald.note
    with pytest.raises(ValueError, match="no certified maximum"):
        result.lr_test("NV = 0")
    _, gradient, information, _ = newton(reference.X, reference.y, 2, {(1, 0)})
    np.testing.assert_allclose(result.score_test("NV = 0").statistic,
                               gradient @ np.linalg.solve(information, gradient), rtol=1e-7)
    terms = result.test_terms("score")
    assert np.isnan(terms.statistic[1]) and "separated" in terms.notes[1]


@pytest.mark.parametrize("C", [2, 3])
def test_models_without_intercept_or_of_one_column_are_tested(C):
    X, y = simulated(d=1, C=C, seed=23)
    result = cs.fit(X, y, fit_intercept=False)
    expected = 2.0 * (result.log_likelihood - len(y) * np.log(1.0 / C))
    test = result.lr_test("x1 = 0")
    np.testing.assert_allclose(test.statistic, expected, **LR_TOLERANCE)
    assert test.df == C - 1
    intercepts = cs.fit(X[:, :0], y).lr_test("Intercept = 0")
    np.testing.assert_allclose(intercepts.statistic,
                               2.0 * (cs.fit(X[:, :0], y).log_likelihood - len(y) * np.log(1.0 / C)), **LR_TOLERANCE)


@pytest.mark.parametrize(("options", "says"), [
    ({}, "one of them"),
    ({"constraint": "x1 = 0", "X_extra": np.ones((300, 1))}, "not both"),
    ({"X_extra": np.ones((299, 1))}, "X_extra has 299 rows; 300 are wanted"),
    ({"X_extra": np.ones((300, 0))}, "X_extra has no column"),
    ({"X_extra": np.full((300, 1), np.nan)}, "X_extra.*row 0"),
    ({"X_extra": np.ones(300)}, r"X_extra has shape \(300,\); .* a single feature is X_extra.reshape"),
])
def test_a_score_test_says_what_it_wants(options, says):
    X, y = simulated(seed=24)
    with pytest.raises(ValueError, match=says):
        cs.fit(X, y).score_test(**options)


def test_a_score_test_of_text_names_it_and_of_one_column_says_one():
    X, y = simulated(seed=24)
    result = cs.fit(X, y)
    with pytest.raises(TypeError, match="X_extra has dtype <U1; real numbers are wanted"):
        result.score_test(X_extra=np.full((300, 1), "a"))
    with pytest.raises(TypeError, match="X_extra's column 'x1' is not numeric"):
        result.score_test(X_extra=np.full((300, 1), "a", dtype=object))
    assert result.score_test(X_extra=X[:, :1] ** 2).hypothesis == "1 more column"
    assert result.score_test(X_extra=X[:, :2] ** 2).hypothesis == "2 more columns"


def test_a_hypothesis_out_of_reach_says_so():
    X, y = simulated(seed=24)
    test = cs.fit(X, y).lr_test("0: x1 = 1e12")
    assert np.isnan(test.statistic) and "out of reach" in test.note


def test_a_constraint_in_words_takes_no_values_beside_it():
    X, y = simulated(seed=25)
    with pytest.raises(ValueError, match="q is given beside a constraint in words"):
        cs.fit(X, y).wald_test("x1 = 0", [1.0])


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8, bool])
def test_samples_with_columns_beside_are_those_of_one_table(dtype):
    X, y = simulated(n=50, d=3, seed=28)
    first, extra = (3.0 * X[:, :2]).astype(dtype), np.asfortranarray(X[:, 2:])
    samples = DenseSamples(first, 3, codes=y)
    joined = samples.replace(X=JoinedColumns(first, extra))
    table = samples.replace(X=np.column_stack([first.astype(float), extra]))
    params = np.random.default_rng(29).standard_normal((3, 4))
    rows, columns = np.array([4, 1, 30]), np.array([2, 0])
    for changed in (lambda samples: samples, lambda samples: samples.part(slice(3, 20)),
                    lambda samples: samples.part(rows), lambda samples: samples.of_features(columns)):
        one, other = changed(joined), changed(table)
        assert (one.n_samples, one.params_shape) == (other.n_samples, other.params_shape)
        w = params[:, :one.params_shape[1]].copy()
        np.testing.assert_array_equal(one.log_likelihood_and_gradient(w)[1], other.log_likelihood_and_gradient(w)[1])
        np.testing.assert_array_equal(one.gram(), other.gram())
        np.testing.assert_array_equal(one.column_totals(), other.column_totals())


# ------------------------------------------------------------------------------------------ the plane of constraints

def test_coordinates_of_the_plane_are_those_of_points_that_meet_the_constraints():
    X, y = simulated(n=60, d=3, C=4, seed=26)
    X = X * [1.0, 1e4, 1e-3] + [0.0, 1e6, 2.0]
    objective = SoftmaxObjective(X, y)
    whole = MetricCoordinates(SoftmaxObjective.from_samples(objective.samples, np.zeros(3)))
    rng = np.random.default_rng(27)
    matrix = rng.standard_normal((2, 4, 4))
    matrix -= matrix.mean(axis=1, keepdims=True)
    values = np.array([0.3, -2.0])
    plane = plane_of(whole, Constraints(matrix, values, ""))
    restricted = RestrictedCoordinates(whole, plane)
    v, w = rng.standard_normal((2, restricted.n_coordinates))
    # relative to terms of 1e6 times coefficients of order 1
    np.testing.assert_allclose(np.tensordot(matrix, restricted.params(v), axes=2), values, atol=1e-8)
    assert np.linalg.norm(restricted.point(v) - restricted.point(w)) == pytest.approx(np.linalg.norm(v - w), rel=1e-12)
    np.testing.assert_allclose(restricted.coordinates(restricted.params(v)), v, rtol=1e-7, atol=1e-7)
    step = 1e-6 * w
    _, gradient = restricted.loss_and_gradient(v)
    change = (restricted.loss_and_gradient(v + step)[0] - restricted.loss_and_gradient(v - step)[0]) / 2.0
    assert change == pytest.approx(gradient @ step, rel=1e-6)
    product = (restricted.loss_and_gradient(v + step)[1] - restricted.loss_and_gradient(v - step)[1]) / 2.0
    np.testing.assert_allclose(restricted.hessian(v) @ step, product, rtol=1e-5, atol=1e-13)
    np.testing.assert_allclose(restricted.hessian_product(v, w), restricted.hessian(v) @ w, rtol=1e-10, atol=1e-12)
    assert restricted.logit_range(w) == pytest.approx(whole.logit_range(restricted.point(w) - restricted.point(0 * w)))
    for name in ("covariance", "pulled", "pulled_outer_product", "contrast_factors", "by_coordinates", "extended"):
        assert hasattr(whole, name) and not hasattr(restricted, name), f"{name} would answer for u's shape"
    null = linalg.null_space(plane.A)
    u = rng.standard_normal(whole.n_coordinates)
    np.testing.assert_allclose(null.T @ restricted.fixed_part(u), 0.0, atol=1e-14)
    np.testing.assert_allclose(plane.A @ restricted.fixed_part(u), plane.A @ u, rtol=1e-12)
