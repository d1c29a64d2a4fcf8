"""Sandwich covariances, weight types and changes of reference: against definitions, statsmodels and Stata.

It stands on `sandwich_by_definition`, which sums over rows one by one in NumPy, and on csoftmax's own Hessian, which
test_likelihood.py holds against long double. The certified HC0 and cluster standard errors are in test_references.py.
"""

import copy
import json
import pickle
import tracemalloc

import numpy as np
import pytest
from scipy import linalg

import csoftmax as cs
from csoftmax.samples import DenseSamples
from csoftmax.sandwich import ROBUST, Inflation

HC = ("HC0", "HC1", "HC2", "HC3")
ROUNDING = 1e-10  # of a covariance, relative to its largest entry: condition numbers here are below 1e4


def table(n, d, n_classes, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    logits = X @ rng.standard_normal((d, n_classes)) * 0.7 + rng.standard_normal(n_classes) * 0.3
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    y[:n_classes] = np.arange(n_classes)
    return X, y, rng


def with_ones(X, fit_intercept=True):
    return np.column_stack([X, np.ones(len(X))]) if fit_intercept else X


def bread(result, X, y, weights, offset=None):
    """The inverse information of the symmetric rows, (C p, C p)."""
    information = -cs.hessian(X, y, result.coef, result.intercept, sample_weight=weights, offset=offset)
    d = X.shape[1]
    if np.any(result.l2):
        information += np.diag(np.tile([result.l2] * d + [0.0] * result.fit_intercept, len(result.classes)))
    C, p = len(result.classes), len(information) // len(result.classes)
    basis = np.kron(linalg.null_space(np.ones((1, C))), np.eye(p))
    return basis @ np.linalg.inv(basis.T @ information @ basis) @ basis.T


def sandwich_by_definition(result, X, y, cov_type, weights=None, frequency=True, groups=None, offset=None):
    """Without factors; row by row."""
    n, C = len(X), len(result.classes)
    w = np.ones(n) if weights is None else weights
    inverse = bread(result, X, y, w, offset)
    Z, P = with_ones(X, result.fit_intercept), result.predict_proba(X, offset)
    R = np.eye(C)[y] - P
    if groups is not None:
        scores = np.einsum("j,jk,jp->jkp", w, R, Z).reshape(n, -1)
        meat = sum(np.outer(s, s) for s in (scores[groups == g].sum(axis=0) for g in np.unique(groups)))
        return inverse @ meat @ inverse
    meat = 0.0
    for j in range(n):
        row = np.kron(np.eye(C), Z[j])
        A = np.eye(C) - (1.0 if frequency else w[j]) * (np.diag(P[j]) - np.outer(P[j], P[j])) @ row @ inverse @ row.T
        power = {"HC2": linalg.sqrtm, "HC3": np.asarray}.get(cov_type)
        score = np.kron(R[j] if power is None else np.linalg.solve(power(A).real, R[j]), Z[j])
        meat = meat + (w[j] if frequency else w[j] ** 2) * np.outer(score, score)
    return inverse @ meat @ inverse


def assert_same_covariance(covariance, expected, rtol=ROUNDING):
    assert np.abs(covariance - expected).max() <= rtol * np.abs(expected).max()


# -------------------------------------------------------------------------------------------- against the definition

@pytest.mark.parametrize("n_classes, d, fit_intercept", [(2, 1, True), (3, 1, True), (4, 1, False), (3, 2, True),
                                                         (4, 3, True), (3, 0, True)])
@pytest.mark.parametrize("cov_type", ["HC0", "HC2", "HC3", "cluster"])
@pytest.mark.parametrize("weight_type", ["frequency", "probability", "analytic"])
def test_every_sandwich_is_its_definition(n_classes, d, fit_intercept, cov_type, weight_type):
    X, y, rng = table(60, d, n_classes)
    weights = rng.integers(0, 4, len(y)) * 1.0
    weights[:n_classes] = 1.0
    groups = rng.permutation(len(y)) % 9
    result = cs.fit(X, y, sample_weight=weights, weight_type=weight_type, fit_intercept=fit_intercept)
    if weight_type != "frequency":
        weights = weights / weights[weights > 0].mean()
    options = {"groups": groups, "correction": False} if cov_type == "cluster" else {}
    robust = result.with_covariance(cov_type, **options)
    expected = sandwich_by_definition(result, X, y, cov_type, weights, weight_type == "frequency",
                                      options.get("groups"))
    assert_same_covariance(robust.cov_params(), expected)
    np.testing.assert_allclose(robust.bse.ravel(), np.sqrt(np.diag(expected)), rtol=1e-9)
    assert robust.cov_type == cov_type and robust.weight_type == weight_type
    np.testing.assert_array_equal(robust.params, result.params)


def test_an_offset_and_a_penalty_and_bias_reduction_have_their_place_in_it():
    X, y, rng = table(60, 2, 3)
    offset = rng.standard_normal((60, 3))
    for options in ({"offset": offset}, {"l2": 2.0}, {"bias_reduction": "firth"}, {"l2": 2.0, "offset": offset}):
        result = cs.fit(X, y, **options)
        for cov_type in ("HC0", "HC2", "HC3"):
            robust = result.with_covariance(cov_type)
            expected = sandwich_by_definition(result, X, y, cov_type, offset=options.get("offset"))
            assert_same_covariance(robust.cov_params(), expected)
            assert robust.effective_df == result.effective_df and robust.aic == result.aic


@pytest.mark.parametrize("l2", [0.0, 1.5])
def test_hc3_is_the_outer_product_of_one_step_leave_one_out_changes(l2):
    X, y, _ = table(40, 2, 3)
    result = cs.fit(X, y, l2=l2)
    changes = []
    for j in range(40):
        rest = np.arange(40) != j
        objective = cs.SoftmaxObjective(X[rest], y[rest], l2=l2)
        theta = result.params.ravel()
        step = -np.linalg.pinv(objective.loss_hessian(theta), rcond=1e-9) @ objective.loss_gradient(theta)
        changes.append(step)
    assert_same_covariance(result.with_covariance("HC3").cov_params(), np.transpose(changes) @ changes)


def test_exact_refits_without_a_row_differ_from_hc3_by_the_order_of_the_square_of_its_steps():
    errors = []
    for n in (60, 600):  # steps of order 1 / n: what is left out of V, relative to it, falls ten times, too
        X, y, _ = table(n, 1, 3)
        result = cs.fit(X, y)
        rows = range(0, n, n // 60)
        refits = np.array([(cs.fit(np.delete(X, j, 0), np.delete(y, j), init=result).params - result.params).ravel()
                           for j in rows])
        Z, P = with_ones(X), result.predict_proba(X)
        inverse = bread(result, X, y, None)
        steps = []
        for j in rows:
            row = np.kron(np.eye(3), Z[j])
            A = np.eye(3) - (np.diag(P[j]) - np.outer(P[j], P[j])) @ row @ inverse @ row.T
            steps.append(-inverse @ row.T @ np.linalg.solve(A, np.eye(3)[y[j]] - P[j]))
        errors.append(np.linalg.norm(refits - steps) / np.linalg.norm(steps))
    assert errors[0] < 0.2 and errors[1] < errors[0] / 5


def test_hc2_makes_the_covariance_of_a_residual_the_models_own():
    X, y, _ = table(30, 2, 4)
    result = cs.fit(X, y)
    coordinates = result._coordinates
    samples, params = coordinates.objective.samples, coordinates.standardized_rows(result._u)
    inverse = np.linalg.inv(coordinates.hessian(result._u) * coordinates.total_mass)
    inflated = Inflation("HC2", params, coordinates.contrast_factors(inverse), True)(samples.part(slice(0, 30)))
    P, Z, full = result.predict_proba(X), with_ones(X), bread(result, X, y, None)
    S = np.array([np.diag(p) - np.outer(p, p) for p in P])
    # the columns of S as residuals: A S for each row
    AS = np.stack([inflated(np.ascontiguousarray(S[:, :, k])) for k in range(4)], axis=2)
    for j in range(30):
        row = np.kron(np.eye(4), Z[j])
        left = np.eye(4) - S[j] @ row @ full @ row.T
        A = AS[j] @ np.linalg.pinv(S[j])
        np.testing.assert_allclose(A @ left @ S[j] @ A.T, S[j], atol=1e-12)


# ------------------------------------------------------------------------------------------------ statsmodels, Stata

def test_every_number_of_two_classes_is_that_of_statsmodels_logit():
    api = pytest.importorskip("statsmodels.api")
    X, y, rng = table(200, 3, 2)
    groups = rng.integers(0, 20, 200)
    ours = cs.fit(X, y, reference=0)
    model = api.Logit(y, with_ones(X))
    theirs = model.fit(method="newton", disp=0)
    for ours_name, theirs_name in (("log_likelihood", "llf"), ("aic", "aic"), ("bic", "bic"), ("nobs", "nobs"),
                                   ("df_resid", "df_resid")):
        assert getattr(ours, ours_name) == pytest.approx(getattr(theirs, theirs_name), rel=1e-12, abs=0)
    # its null model is fitted by BFGS, down to a gradient of 1e-5 alone
    assert ours.null_log_likelihood == pytest.approx(theirs.llnull, rel=1e-9, abs=0)
    assert ours.pseudo_r2 == pytest.approx(theirs.prsquared, rel=1e-7, abs=0)
    # its Newton adds 1e-10 to the Hessian's diagonal, and stops at changes below 1e-8
    for ours_name, theirs_name in (("params", "params"), ("bse", "bse"), ("zvalues", "tvalues"),
                                   ("pvalues", "pvalues")):
        np.testing.assert_allclose(getattr(ours, ours_name)[1], getattr(theirs, theirs_name), rtol=1e-8)
    np.testing.assert_allclose(ours.conf_int()[1], theirs.conf_int(), rtol=1e-8)
    np.testing.assert_allclose(ours.cov_params(), theirs.cov_params(), rtol=1e-8)

    def robust(cov_type, **options):
        options = {"cov_kwds": options} if options else {}
        return model.fit(method="newton", disp=0, cov_type=cov_type, **options).bse

    np.testing.assert_allclose(ours.with_covariance("HC0").bse[1], robust("HC0"), rtol=1e-8)
    for correction in (True, False):
        np.testing.assert_allclose(
            ours.with_covariance("cluster", groups=groups, correction=correction).bse[1],
            robust("cluster", groups=groups, use_correction=correction), rtol=1e-8)
    np.testing.assert_allclose(ours.with_covariance("HC1").bse[1], robust("HC0") * np.sqrt(200 / 196), rtol=1e-8)


def test_hc1_to_hc3_differ_from_hc0_where_statsmodels_only_relabels_it():
    api = pytest.importorskip("statsmodels.api")
    X, y, _ = table(60, 2, 3)
    ours = cs.fit(X, y, reference=0)
    model = api.MNLogit(y, with_ones(X))
    theirs = [model.fit(method="newton", disp=0, cov_type=name).bse for name in HC]
    np.testing.assert_allclose(ours.with_covariance("HC0").bse[1:], theirs[0].T, rtol=1e-8)
    if all(np.array_equal(theirs[0], other) for other in theirs[1:]):  # the fault may be mended one day
        bse = [ours.with_covariance(name).bse[1:] for name in HC]
        assert (bse[1] > bse[0]).all() and (bse[3] > bse[2]).all() and (bse[2] > bse[0]).all()
        np.testing.assert_allclose(bse[1] / bse[0], np.sqrt(60 / (60 - 6)), rtol=1e-12)


def test_anes96_has_the_figures_of_stata():
    published = pytest.importorskip("statsmodels.discrete.tests.results.results_discrete")
    stata = published.Anes.mnlogit_basezero
    ours = cs.fit_formula("PID ~ logpopul + selfLR + age + educ + income", cs.datasets.load_anes96())
    assert ours.reference == 0 and ours.nobs == stata.nobs
    # eight decimals or digits are printed of coefficients, ten digits of the others
    np.testing.assert_allclose(ours.params[1:].T, stata.params, rtol=5e-8, atol=1e-8)
    np.testing.assert_allclose(ours.bse[1:].T, stata.bse, rtol=1e-7)
    np.testing.assert_allclose(ours.zvalues[1:].T, stata.z, rtol=0, atol=2e-6)
    np.testing.assert_allclose(ours.pvalues[1:].T, stata.pvalues, rtol=0, atol=1e-6)
    # Stata stopped 6e-8 below the maximum, which statsmodels reaches too
    assert ours.log_likelihood == pytest.approx(stata.llf, abs=1e-7, rel=0)
    assert ours.null_log_likelihood == pytest.approx(stata.llnull, abs=1e-7, rel=0)
    assert ours.pseudo_r2 == pytest.approx(stata.prsquared, abs=1e-10, rel=0)
    assert [ours.aic, ours.bic] == pytest.approx([stata.aic, stata.bic], abs=2e-7, rel=0)


# ------------------------------------------------------------------------------------------------------ weight types

def test_weight_two_is_the_row_twice_in_every_covariance():
    X, y, rng = table(50, 2, 3)
    weights = rng.integers(0, 4, 50)
    weights[:3] = 1
    groups = rng.integers(0, 8, 50)
    often = np.repeat(np.arange(50), weights)
    weighted, repeated = cs.fit(X, y, sample_weight=weights, reference=0), cs.fit(X[often], y[often], reference=0)
    assert weighted.nobs == repeated.nobs == weights.sum()
    for name in ("observed", *ROBUST):
        one = weighted.with_covariance(name, groups=groups if name == "cluster" else None)
        other = repeated.with_covariance(name, groups=groups[often] if name == "cluster" else None)
        np.testing.assert_allclose(one.cov_params(), other.cov_params(), rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose([one.aic, one.bic, one.df_resid], [other.aic, other.bic, other.df_resid], rtol=1e-13)


def test_counts_are_that_many_rows_in_every_covariance():
    rng = np.random.default_rng(3)
    X, counts, weights = rng.standard_normal((20, 2)), rng.integers(0, 4, (20, 3)), rng.integers(1, 3, 20)
    row, label = np.divmod(np.repeat(np.arange(60), (counts * weights[:, np.newaxis]).ravel()), 3)
    grouped, single = cs.fit(X, counts, sample_weight=weights), cs.fit(X[row], label)
    for name in HC:
        assert_same_covariance(grouped.with_covariance(name).cov_params(), single.with_covariance(name).cov_params())
    # a group for each row of counts: for counts that vary more than a multinomial does
    assert_same_covariance(grouped.with_covariance("cluster", groups=np.arange(20)).cov_params(),
                           single.with_covariance("cluster", groups=row).cov_params())
    # each of the counts a sample of that weight
    row, label = np.divmod(np.repeat(np.arange(60), counts.ravel()), 3)
    grouped = cs.fit(X, counts, sample_weight=weights, weight_type="probability")
    single = cs.fit(X[row], label, sample_weight=weights[row], weight_type="probability")
    assert grouped.nobs == single.nobs == counts.sum()
    for name in HC:
        assert_same_covariance(grouped.with_covariance(name).cov_params(), single.with_covariance(name).cov_params())


@pytest.mark.parametrize("weight_type", ["frequency", "probability", "analytic"])
def test_rows_of_weight_zero_are_absent_whatever_they_hold(weight_type):
    X, y, rng = table(60, 2, 3)
    weights = np.where(np.arange(60) % 3 == 1, 0.0, rng.uniform(0.5, 2, 60))
    kept = weights > 0
    groups = np.where(kept, np.arange(60) % 7, 99)  # a group of nothing is no group
    X[~kept] = 1e150
    full = cs.fit(X, y, sample_weight=weights, weight_type=weight_type)
    part = cs.fit(X[kept], y[kept], sample_weight=weights[kept], weight_type=weight_type)
    assert full.nobs == pytest.approx(part.nobs, rel=1e-14)
    for name in ("observed", *ROBUST):
        one = full.with_covariance(name, groups=groups if name == "cluster" else None)
        other = part.with_covariance(name, groups=groups[kept] if name == "cluster" else None)
        assert_same_covariance(one.cov_params(), other.cov_params())
        assert one.n_groups == other.n_groups == (7 if name == "cluster" else None)
        assert one.aic == pytest.approx(other.aic, rel=1e-12)


@pytest.mark.parametrize("weight_type", ["probability", "analytic"])
@pytest.mark.parametrize("options", [{}, {"l2": 1.0}, {"l1": 0.5}])
def test_the_scale_of_probability_and_analytic_weights_means_nothing(weight_type, options):
    X, y, rng = table(60, 2, 3)
    weights = rng.uniform(0.5, 4, 60)
    weights[7] = 0.0
    one, ten, tiny = (cs.fit(X, y, sample_weight=scale * weights, weight_type=weight_type, **options)
                      for scale in (1.0, 10.0, 1e-305))
    for other in (ten, tiny):
        assert one.nobs == other.nobs == 59
        for name in ("params", "bse", "aic", "bic", "log_likelihood", "null_log_likelihood", "df_resid",
                     "effective_df"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-8, atol=1e-12)


def test_probability_weights_have_the_sandwich_and_the_aic_of_lumley_and_scott():
    X, y, rng = table(80, 2, 3)
    weights = rng.uniform(0.2, 5, 80)
    result = cs.fit(X, y, sample_weight=weights, weight_type="probability")
    scaled = weights / weights.mean()
    information = -cs.hessian(X, y, result.coef, result.intercept, sample_weight=scaled)
    covariance = sandwich_by_definition(result, X, y, "HC0", scaled, frequency=False)
    assert result.cov_type == "HC0" and result.nobs == 80
    assert_same_covariance(result.cov_params(), covariance)
    assert result.effective_df == pytest.approx(np.trace(information @ covariance), rel=1e-9)
    likelihood = cs.log_likelihood(X, y, result.coef, result.intercept, sample_weight=scaled)
    assert result.log_likelihood == pytest.approx(likelihood, rel=1e-12)
    assert result.aic == pytest.approx(-2 * likelihood + 2 * np.trace(information @ covariance), rel=1e-12)
    assert result.with_covariance("observed").aic == pytest.approx(-2 * likelihood + 2 * 6, rel=1e-12)
    text = " ".join(str(result.summary()).split())
    assert "Weights: probability" in text and "Covariance: HC0" in text and "trace of the information" in text


def test_analytic_weights_are_frequencies_of_mean_one_but_in_the_meat_and_nobs():
    X, y, rng = table(80, 2, 3)
    weights = rng.uniform(0.2, 5, 80)
    scaled = weights / weights.mean()
    analytic = cs.fit(X, y, sample_weight=weights, weight_type="analytic")
    frequency = cs.fit(X, y, sample_weight=scaled)
    assert analytic.cov_type == "observed" and analytic.nobs == 80 and analytic.aic == pytest.approx(frequency.aic)
    np.testing.assert_allclose(analytic.bse, frequency.bse, rtol=1e-9)
    probability = cs.fit(X, y, sample_weight=weights, weight_type="probability")
    np.testing.assert_array_equal(analytic.with_covariance("HC0").cov_params(), probability.cov_params())
    assert np.abs(analytic.with_covariance("HC0").bse / frequency.with_covariance("HC0").bse - 1).max() > 0.05


def test_equal_probability_weights_are_none():
    X, y, _ = table(60, 2, 3)
    plain = cs.fit(X, y).with_covariance("HC0")
    for weights in (None, np.full(60, 7.0)):
        equal = cs.fit(X, y, sample_weight=weights, weight_type="probability")
        assert equal.nobs == 60
        np.testing.assert_allclose(equal.bse, plain.bse, rtol=1e-9)


# ------------------------------------------------------------------------------------------------------------ groups

def test_groups_may_have_labels_of_any_kind_in_any_order():
    pandas = pytest.importorskip("pandas")
    X, y, rng = table(60, 2, 3)
    codes = rng.permutation(60) % 11
    result = cs.fit(X, y)
    expected = result.with_covariance("cluster", groups=codes).cov_params()
    names = np.array([f"group {code}" for code in codes])
    for groups in (codes * 1000 - 5, codes + 0.5, names, list(names), pandas.Series(names), pandas.Categorical(names),
                   [(code, "a") if code % 2 else code for code in codes.tolist()], codes.astype(np.uint8),
                   pandas.Series(names, index=np.arange(60)[::-1]), codes.astype("datetime64[D]")):
        clustered = result.with_covariance("cluster", groups=groups)
        assert clustered.n_groups == 11
        # the groups are added in another order
        assert_same_covariance(clustered.cov_params(), expected, rtol=1e-12)
    order = np.argsort(codes)
    assert_same_covariance(cs.fit(X[order], y[order]).with_covariance("cluster", groups=codes[order]).cov_params(),
                           expected)


def test_the_name_of_a_column_is_no_groups():
    X, y, _ = table(60, 2, 3)
    with pytest.raises(ValueError, match=r"groups is 'race'; a label for each row is wanted, such as data\['race'\]"):
        cs.fit(X, y).with_covariance("cluster", groups="race")


@pytest.mark.parametrize("n_groups", [2, 40, 20_000])
def test_groups_over_many_blocks_of_rows_and_any_number_of_threads_are_the_same_sum(n_groups):
    X, y, rng = table(60_000, 3, 3)
    groups = rng.integers(0, n_groups, len(y))
    groups[:30_000] = np.minimum(groups[:30_000], 1)  # one fills blocks
    results = [cs.fit(X, y, n_threads=n_threads) for n_threads in (1, 3)]
    clustered = [result.with_covariance("cluster", groups=groups, correction=False) for result in results]
    np.testing.assert_array_equal(clustered[0].cov_params(), clustered[1].cov_params())
    scores = np.einsum("jk,jp->jkp", cs.logit_residuals(X, y, results[0].coef, results[0].intercept),
                       with_ones(X)).reshape(len(y), -1)
    sums = np.zeros((n_groups, 12))
    np.add.at(sums, groups, scores)
    inverse = bread(results[0], X, y, None)
    assert_same_covariance(clustered[0].cov_params(), inverse @ sums.T @ sums @ inverse)
    assert clustered[0].n_groups == len(np.unique(groups))


@pytest.mark.parametrize("cov_type", HC)
def test_rows_over_many_blocks_and_any_number_of_threads_are_the_same_sum(cov_type):
    X, y, _ = table(40_000, 3, 3)
    a, b = (cs.fit(X, y, n_threads=n_threads).with_covariance(cov_type).cov_params() for n_threads in (1, 3))
    np.testing.assert_array_equal(a, b)
    # a sandwich of a model that holds is the inverse information up to its own sampling error, 1 / sqrt(n)
    np.testing.assert_allclose(np.diag(a), np.diag(cs.fit(X, y).cov_params()), rtol=0.05)


@pytest.mark.parametrize("cov_type", ["HC0", "HC3", "cluster"])
def test_rows_of_weight_zero_are_absent_from_every_block(cov_type):
    X, y, rng = table(40_000, 3, 3)
    weights = rng.integers(0, 3, len(y)) * 1.0
    kept, groups = weights > 0, rng.integers(0, 500, len(y))
    robust = [cs.fit(X[rows], y[rows], sample_weight=weights[rows]).with_covariance(
        cov_type, groups=groups[rows] if cov_type == "cluster" else None) for rows in (slice(None), kept)]
    assert_same_covariance(robust[0].cov_params(), robust[1].cov_params())


def test_a_group_for_each_row_is_hc0():
    X, y, rng = table(60, 2, 3)
    for options in ({}, {"sample_weight": rng.uniform(0.5, 2, 60), "weight_type": "probability"}):
        result = cs.fit(X, y, **options)
        assert_same_covariance(
            result.with_covariance("cluster", groups=np.arange(60)[::-1], correction=False).cov_params(),
            result.with_covariance("HC0").cov_params())


def test_the_corrections_are_the_factors_they_say():
    X, y, rng = table(60, 2, 3)
    groups = rng.permutation(60) % 8
    result = cs.fit(X, y)
    plain, corrected = (result.with_covariance("cluster", groups=groups, correction=c).cov_params()
                        for c in (False, True))
    np.testing.assert_allclose(corrected, plain * (8 / 7 * 59 / (60 - 6)), rtol=1e-12)
    np.testing.assert_allclose(result.with_covariance("HC1").cov_params(),
                               result.with_covariance("HC0").cov_params() * (60 / (60 - 6)), rtol=1e-12)


def test_groups_of_a_data_frame_go_with_the_rows_that_were_complete():
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("formulaic")
    X, y, rng = table(60, 2, 3)
    frame = pandas.DataFrame({"y": y, "a": X[:, 0], "b": X[:, 1], "g": rng.integers(0, 6, 60) * 1.0})
    frame.loc[[3, 17], "a"] = np.nan
    frame.loc[3, "g"] = np.nan  # in a row that takes no part
    complete = frame.dropna()
    result = cs.fit_formula("y ~ a + b", frame)
    expected = cs.fit_formula("y ~ a + b", complete).with_covariance("cluster", groups=complete["g"])
    for groups in (frame["g"], complete["g"]):
        np.testing.assert_array_equal(result.with_covariance("cluster", groups=groups).bse, expected.bse)
    with pytest.raises(ValueError, match=r"groups has shape \(59,\); \(58,\) or \(60,\) is wanted"):
        result.with_covariance("cluster", groups=frame["g"][1:])


# ------------------------------------------------------------------------------------------------------------ rebase

@pytest.mark.parametrize("n_classes, d", [(2, 1), (3, 1), (4, 2)])
@pytest.mark.parametrize("cov_type", ["observed", "HC3"])
def test_a_rebased_result_is_the_fit_with_that_reference_in_every_number(n_classes, d, cov_type):
    X, y, _ = table(60, d, n_classes)
    symmetric = cs.fit(X, y).with_covariance(cov_type)
    for reference in range(n_classes):
        rebased = symmetric.rebase(reference)
        fitted = cs.fit(X, y, reference=reference).with_covariance(cov_type)
        for name in ("params", "bse", "zvalues", "pvalues", "coef", "intercept"):
            np.testing.assert_array_equal(getattr(rebased, name), getattr(fitted, name))
        np.testing.assert_array_equal(rebased.cov_params(), fitted.cov_params())
        np.testing.assert_array_equal(rebased.conf_int(), fitted.conf_int())
        assert rebased.reference == reference and rebased.cov_type == cov_type
        assert str(rebased.summary()) == str(fitted.summary())
        np.testing.assert_allclose(rebased.predict_proba(X), symmetric.predict_proba(X), rtol=1e-12)
        # there and back, through another one too: every bit
        back = rebased.rebase((reference + 1) % n_classes).rebase()
        np.testing.assert_array_equal(back.params, symmetric.params)
        np.testing.assert_array_equal(back.cov_params(), symmetric.cov_params())


def test_covariances_of_two_references_are_linear_maps_of_each_other():
    X, y, _ = table(80, 2, 4)
    first = cs.fit(X, y, reference=0).with_covariance("HC0")
    # rows against class 0 -> rows against class 2, and -> symmetric rows
    against = np.array([[0, -1, 0], [1, -1, 0], [0, -1, 1]])
    symmetric = np.vstack([np.zeros(3), np.eye(3)]) - 1 / 4
    for reference, change in ((2, against), (None, symmetric)):
        change = np.kron(change, np.eye(3))
        other = first.rebase(reference)
        assert_same_covariance(other.cov_params(), change @ first.cov_params() @ change.T, rtol=1e-12)
        shown = other.bse if reference is None else np.delete(other.bse, reference, axis=0)
        np.testing.assert_allclose(shown.ravel() ** 2, np.diag(other.cov_params()), rtol=1e-12)
    assert np.linalg.matrix_rank(first.rebase().cov_params(), tol=1e-10) == 9


def test_rebase_shares_the_data_and_leaves_the_result_as_it_was():
    X, y, _ = table(60, 2, 3)
    result = cs.fit(X, np.array(["a", "b", "c"])[y], reference="a")
    rebased = result.rebase("c")
    assert result.reference == "a" and rebased.reference == "c" and rebased._coordinates is result._coordinates
    assert rebased.with_covariance("HC0").reference == "c" and result.cov_type == "observed"
    with pytest.raises(ValueError, match="reference is 'd'; one of the classes 'a', 'b', 'c' is wanted"):
        result.rebase("d")


# -------------------------------------------------------------------------------------------- conventions and refusals

def test_all_that_rests_on_standard_errors_takes_the_covariance_that_is_asked_for():
    X, y, _ = table(60, 2, 3)
    result = cs.fit(X, y, reference=0)
    robust = result.with_covariance("HC3")
    np.testing.assert_array_equal(robust.zvalues[1:], robust.params[1:] / robust.bse[1:])
    assert (robust.bse[1:] != result.bse[1:]).all() and (robust.pvalues[1:] != result.pvalues[1:]).all()
    np.testing.assert_allclose(np.diff(robust.conf_int())[..., 0] / np.diff(result.conf_int())[..., 0],
                               robust.bse / result.bse, rtol=1e-12)
    assert "HC3" in str(robust.summary()) and f"{robust.bse[1, 0]:.4g}" in str(robust.summary())
    assert "cluster (5)" in str(result.with_covariance("cluster", groups=np.arange(60) % 5).summary())
    assert np.isnan(robust.bse[0]).all()
    again = robust.with_covariance("observed")
    np.testing.assert_array_equal(again.bse, result.bse)
    assert again.cov_type == "observed" and again.n_groups is None


def test_units_and_origins_of_columns_do_not_matter():
    X, y, _ = table(80, 2, 3)
    moved = X * [1e6, 1.0] + [1e9, 0.0]
    groups = np.arange(80) % 9
    for name in ROBUST:
        options = {"groups": groups} if name == "cluster" else {}
        plain = cs.fit(X, y).with_covariance(name, **options).bse
        other = cs.fit(moved, y).with_covariance(name, **options).bse
        np.testing.assert_allclose(other[:, :2] * [1e6, 1.0], plain[:, :2], rtol=1e-6)  # 1e9 leaves 1e-10 of 1e6


@pytest.mark.parametrize("convert", [np.asfortranarray, lambda X: X.astype(np.float32), lambda X: X.astype(np.uint8),
                                     lambda X: np.repeat(X, 2, axis=1)[:, ::2], lambda X: X.astype(np.float16)])
def test_x_of_any_dtype_and_order_gives_the_same_covariances(convert):
    _, y, rng = table(60, 2, 3)
    X = rng.integers(0, 9, (60, 2)) * 1.0
    for name in ROBUST:
        options = {"groups": rng.integers(0, 9, 60)} if name == "cluster" else {}
        plain, other = (cs.fit(data, y).with_covariance(name, **options).cov_params() for data in (X, convert(X)))
        assert_same_covariance(other, plain)


def test_a_ridge_sandwich_says_so_and_keeps_its_degrees_of_freedom():
    X, y, _ = table(60, 2, 3)
    ridge = cs.fit(X, y, l2=2.0)
    robust = ridge.with_covariance("HC0")
    assert "sandwiches of the penalised information" in " ".join(str(robust.summary()).split())
    assert robust.effective_df == ridge.effective_df
    assert robust.with_covariance("observed").cov_type == "penalized"


def test_collinear_columns_are_nan_and_the_others_are_those_of_the_fit_without_them():
    X, y, _ = table(60, 3, 3)
    X[:, 1] = 2 * X[:, 0]
    groups = np.arange(60) % 9
    for name in ROBUST:
        options = {"groups": groups} if name == "cluster" else {}
        robust = cs.fit(X, y).with_covariance(name, **options)
        alone = cs.fit(X[:, [0, 2]], y).with_covariance(name, **options)
        assert np.isnan(robust.bse[:, :2]).all()
        np.testing.assert_allclose(robust.bse[:, 2:], alone.bse[:, 1:], rtol=1e-9)
    both = cs.fit(X, y, sample_weight=np.arange(60.0), weight_type="probability")
    assert np.isfinite(both.aic) and np.isnan(both.bse[:, :2]).all() and np.isfinite(both.bse[:, 2:]).all()


def test_separated_samples_have_no_standard_errors_of_any_kind():
    X, y = np.arange(6.0).reshape(-1, 1), [0, 0, 0, 1, 1, 1]
    with pytest.warns(cs.SeparationWarning):
        result = cs.fit(X, y, weight_type="probability", sample_weight=np.ones(6))
    assert np.isnan(result.bse).all() and np.isnan(result.aic) and "NOT A MAXIMUM" in str(result.summary())
    for name in HC:
        assert np.isnan(result.with_covariance(name).bse).all()


@pytest.mark.parametrize("options, message", [
    ({"cov_type": "HC4"}, "cov_type is 'HC4'; one of 'observed', 'HC0', 'HC1', 'HC2', 'HC3', 'cluster' is wanted"),
    ({"cov_type": "cluster"}, "groups is None with cov_type='cluster'; a label for each row is wanted"),
    ({"cov_type": "HC0", "groups": np.arange(30)}, "groups is given with cov_type='HC0'; 'cluster' is wanted"),
    ({"cov_type": "HC1", "correction": False}, "correction is False with cov_type='HC1'; it is an option of 'cluster'"),
    ({"cov_type": "cluster", "groups": np.ones(30)}, "groups has 1 group with rows of positive weight; at least 2"),
    ({"cov_type": "cluster", "groups": np.ones(29)}, r"groups has shape \(29,\); \(30,\) is wanted"),
    ({"cov_type": "cluster", "groups": np.ones((30, 2))}, r"groups has shape \(30, 2\); \(30,\) is wanted"),
    ({"cov_type": "cluster", "groups": [1.0] * 4 + [np.nan] + [2.0] * 25}, "groups has a missing label at row 4"),
    ({"cov_type": "cluster", "groups": ["a"] * 9 + [None] * 21}, "groups has a missing label at row 9"),
])
def test_what_cannot_be_is_refused_with_its_name(options, message):
    X, y, _ = table(30, 1, 2)
    with pytest.raises(ValueError, match=message):
        cs.fit(X, y).with_covariance(**options)


def test_sparse_fits_and_too_few_samples_and_biases_of_other_weights_are_refused():
    X, y, _ = table(30, 1, 2)
    with pytest.raises(ValueError, match="cov_type is 'HC0' for a fit with l1 > 0, which has no standard errors"):
        cs.fit(X, y, l1=1.0).with_covariance("HC0")
    assert cs.fit(X, y, l1=1.0, sample_weight=y + 1.0, weight_type="probability").cov_type == "none"
    for weight_type in ("probability", "analytic"):
        with pytest.raises(ValueError, match=f"weight_type is '{weight_type}' beside bias_reduction='firth'"):
            cs.fit(X, y, bias_reduction="firth", weight_type=weight_type)
    few = cs.fit(np.array([[0.0], [1.0]]), [0, 1], l2=1.0)
    for options in ({"cov_type": "HC1"}, {"cov_type": "cluster", "groups": [0, 1]}):
        with pytest.raises(ValueError, match="wants more observations than parameters"):
            few.with_covariance(**options)
    assert np.isfinite(few.with_covariance("HC0").bse).all()


# ------------------------------------------------------------------------------------------------------------ keeping

@pytest.mark.parametrize("make", [
    lambda X, y, w: cs.fit(X, y, sample_weight=w).with_covariance("HC3"),
    lambda X, y, w: cs.fit(X, y, sample_weight=w, l2=1.0).with_covariance("cluster", groups=np.arange(60) % 7),
    lambda X, y, w: cs.fit(X, y, sample_weight=w, weight_type="probability"),
    lambda X, y, w: cs.fit(X, y, sample_weight=w, weight_type="probability", keep_data=False),
    lambda X, y, w: cs.fit(X, y, sample_weight=w, weight_type="analytic", l2=1.0).rebase(1),
])
@pytest.mark.parametrize("how", ["pickle", "copy", "deepcopy", "json"])
def test_what_is_kept_of_a_result_has_its_covariance_as_computed(tmp_path, make, how):
    X, y, rng = table(60, 2, 3)
    result = make(X, y, rng.integers(1, 4, 60))
    if how == "json":
        result.to_json(tmp_path / "model.json")
        kept = cs.from_json(tmp_path / "model.json")
    else:
        kept = {"pickle": lambda result: pickle.loads(pickle.dumps(result)), "copy": copy.copy,
                "deepcopy": copy.deepcopy}[how](result)
    assert kept._coordinates is None
    for name in ("bse", "pvalues"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(result, name))
    np.testing.assert_array_equal(kept.cov_params(), result.cov_params())
    for name in ("cov_type", "weight_type", "n_groups", "aic", "bic", "nobs", "effective_df"):
        assert getattr(kept, name) == getattr(result, name)
    assert str(kept.summary()) == str(result.summary())
    np.testing.assert_array_equal(kept.with_covariance("observed").bse, result.with_covariance("observed").bse)
    np.testing.assert_array_equal(kept.rebase(2).bse, result.rebase(2).bse)
    with pytest.raises(ValueError, match="cov_type is 'HC2', which needs the data"):
        kept.with_covariance("HC2")


def test_a_large_model_is_kept_with_the_robust_covariance_that_was_computed_and_says_so_where_none_was():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 70)), np.arange(300) % 30
    kept = pickle.loads(pickle.dumps(cs.fit(X, y, l2=1.0).with_covariance("HC0")))
    assert np.isfinite(kept.bse).all() and "effective degrees of freedom" in " ".join(str(kept.summary()).split())
    assert "Saved without standard errors" not in str(kept.summary())
    lazy = pickle.loads(pickle.dumps(cs.fit(X, y, l2=1.0, weight_type="probability")))
    assert "Saved without standard errors" in str(lazy.summary())


@pytest.mark.parametrize("change", [{"cov_type": "HC9"}, {"weight_type": "heavy"}, {"robust_covariance": [[1.0]]}])
def test_a_document_of_another_covariance_than_there_is_is_refused(tmp_path, change):
    X, y, _ = table(60, 2, 3)
    document = json.loads(cs.fit(X, y).with_covariance("HC0").to_json()) | change
    (tmp_path / "model.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="is not a valid csoftmax model"):
        cs.from_json(tmp_path / "model.json")


def test_no_array_of_rows_by_parameters_is_made():
    n = 200_000
    X, y, _ = table(n, 8, 3)
    result = cs.fit(X, y, n_threads=1)
    groups = np.arange(n) % 1000
    scores = n * 2 * 9 * 8  # 29 MB, of two classes; and 1.6 MB for a number each row
    for name in ROBUST:
        tracemalloc.start()
        result.with_covariance(name, groups=groups if name == "cluster" else None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < scores / 2, name


def test_samples_answer_scores_by_row_and_by_group_without_an_intercept_too():
    X, y, rng = table(40, 2, 3)
    params = rng.standard_normal((3, 2))
    samples = DenseSamples(X, 3, codes=y, fit_intercept=False)
    residual = samples.row_results("residual", params, np.empty((40, 3)))
    expected = np.einsum("jk,jp,jl,jq->kplq", residual[:, :2], X, residual[:, :2], X)

    def scores(part):
        yield part.row_results("residual", params, np.empty((part.n_samples, 3))), None

    np.testing.assert_allclose(samples.score_outer_product(scores), expected, rtol=1e-12, atol=1e-12)
    by_group, n_groups = samples.grouped_score_outer_product(params, np.arange(40)[::-1].copy())
    assert n_groups == 40
    np.testing.assert_allclose(by_group, expected, rtol=1e-12, atol=1e-12)
