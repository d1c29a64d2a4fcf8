"""Profile-likelihood intervals: against brute force, certified suprema, and what they are defined by.

It stands on csoftmax.fit and on the reference results.
"""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import references_io
from scipy import special
from scipy.optimize import minimize, toms748
from scipy.stats import chi2

import csoftmax as cs

# an end's error, of its distance from the estimate: 1e-9 of brentq's and 1e-12 or so of the likelihoods'
END = {"rtol": 1e-7, "atol": 1e-9}


def simulated(n=100, d=1, C=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    return X, (X @ (0.5 * rng.standard_normal((d, C))) + rng.gumbel(size=(n, C))).argmax(axis=1)


def profile(X, y, C, k, i, c, weights=None, offset=None, steps=60):
    """max L where the coefficient i (the intercept last) of class k against class 0 is c: damped Newton steps."""
    Z = np.column_stack([X, np.ones(len(X))])
    p = Z.shape[1]
    free = np.arange((C - 1) * p) != (k - 1) * p + i
    theta = np.where(free, 0.0, c)
    weights = np.ones(len(y)) if weights is None else weights
    offset = 0.0 if offset is None else offset

    def evaluate(theta):
        logits = np.column_stack([np.zeros(len(Z)), Z @ theta.reshape(C - 1, p).T]) + offset
        logits -= logits.max(axis=1, keepdims=True)
        prob = np.exp(logits)
        total = prob.sum(axis=1)
        return float(weights @ (logits[np.arange(len(y)), y] - np.log(total))), prob / total[:, np.newaxis]

    value, prob = evaluate(theta)
    for _ in range(steps):
        residual = weights[:, np.newaxis] * (np.eye(C)[y] - prob)
        gradient = (residual[:, 1:].T @ Z).ravel()[free]
        S = np.einsum("jk,kl->jkl", prob[:, 1:], np.eye(C - 1)) - np.einsum("jk,jl->jkl", prob[:, 1:], prob[:, 1:])
        information = np.einsum("j,jkl,ja,jb->kalb", weights, S, Z, Z).reshape(2 * (len(theta),))[np.ix_(free, free)]
        step = np.linalg.lstsq(information, gradient, rcond=None)[0]
        size = 1.0
        while size > 1e-6:
            trial = theta.copy()
            trial[free] += size * step
            new_value, new_prob = evaluate(trial)
            if new_value >= value:
                theta, value, prob = trial, new_value, new_prob
                break
            size /= 2.0
        else:
            break
    return value


def brute_force_end(X, y, C, k, i, top, start, far, level=0.95, **data):
    """Where 2 (top - profile) crosses the level between `start` and `far`."""
    def excess(c):
        return 2.0 * (top - profile(X, y, C, k, i, c, **data)) - chi2.ppf(level, 1)

    return toms748(excess, *sorted((start, far)), xtol=1e-11)


@pytest.mark.parametrize(("C", "d"), [(2, 1), (2, 2), (3, 1), (4, 1)])
def test_ends_are_those_of_brute_force(C, d):
    X, y = simulated(C=C, d=d, seed=10 * C + d)
    result = cs.fit(X, y, reference=0)
    ends, wald = result.conf_int(method="profile"), result.conf_int()
    assert np.isnan(ends[0]).all() and ends.shape == wald.shape
    for k in range(1, C):
        for i in range(d + 1):
            estimate = result.params[k, i]
            for end, far in zip(ends[k, i], wald[k, i], strict=True):
                expected = brute_force_end(X, y, C, k, i, result.log_likelihood, estimate,
                                           estimate + 3.0 * (far - estimate))
                np.testing.assert_allclose(end - estimate, expected - estimate, **END)


def test_ends_with_weights_and_offset_are_those_of_brute_force():
    X, y = simulated(seed=1)
    rng = np.random.default_rng(2)
    weights, offset = rng.integers(0, 3, len(y)).astype(float), rng.standard_normal((len(y), 3))
    result = cs.fit(X, y, reference=0, sample_weight=weights, offset=offset)
    end = result.conf_int(method="profile", coefficients="2: x1", level=0.8)[2, 0, 1]
    estimate = result.params[2, 0]
    expected = brute_force_end(X, y, 3, 2, 0, result.log_likelihood, estimate, estimate + 3.0, level=0.8,
                               weights=weights, offset=offset)
    np.testing.assert_allclose(end - estimate, expected - estimate, **END)
    repeated = np.repeat(np.arange(len(y)), weights.astype(int))
    again = cs.fit(X[repeated], y[repeated], reference=0, offset=offset[repeated])
    np.testing.assert_allclose(again.conf_int(method="profile", level=0.8)[2, 0, 1], end, **END)
    counts = cs.fit(X, np.eye(3)[y] * weights[:, np.newaxis], reference=0, offset=offset)
    np.testing.assert_allclose(counts.conf_int(method="profile", level=0.8)[2, 0, 1], end, **END)


@pytest.mark.parametrize("reference", [None, 0, 2])
def test_the_likelihood_ratio_of_an_end_is_the_level(reference):
    X, y = simulated(d=2, seed=3)
    result = cs.fit(X, y, reference=reference)
    for level in (0.5, 0.99):
        ends = result.conf_int(method="profile", level=level)
        for k in range(3):
            for i, name in enumerate(["x1", "x2", "Intercept"]):
                if k == reference:
                    assert np.isnan(ends[k, i]).all()
                    continue
                assert ends[k, i, 0] < result.params[k, i] < ends[k, i, 1]
                for end in ends[k, i]:
                    test = result.lr_test(f"{k}: {name} = {end!r}".replace("np.float64(", "").replace(")", ""))
                    np.testing.assert_allclose(test.pvalue, 1.0 - level, rtol=1e-6)


def test_an_interval_against_another_reference_is_its_negative():
    X, y = simulated(seed=4)
    result = cs.fit(X, y, reference=0)
    one, other = result.conf_int(method="profile"), result.rebase(1).conf_int(method="profile")
    np.testing.assert_allclose(one[1], -other[0, :, ::-1], **END)
    # two classes: symmetric rows are half of the binomial's
    two = cs.fit(X, y > 0, reference=False)
    half = two.rebase(None).conf_int(method="profile")
    np.testing.assert_allclose(2.0 * half[1], two.conf_int(method="profile")[1], **END)


def test_intervals_do_not_depend_on_units():
    X, y = simulated(d=2, seed=5)
    ends = cs.fit(X, y, reference=0).conf_int(method="profile")
    changed = cs.fit(X * [1e6, 1e-3] + [1e9, 0.0], y, reference=0).conf_int(method="profile", coefficients="x1, x2")
    # x1 is rounded to 1e-13 of its spread by the shift
    np.testing.assert_allclose(changed[1:, :2] * np.array([1e6, 1e-3])[:, np.newaxis], ends[1:, :2], rtol=1e-6)
    assert np.isnan(changed[:, 2]).all()


def test_intervals_are_bit_identical_for_every_number_of_threads():
    X, y = simulated(n=60_000, seed=6)
    one, two = (cs.fit(X, y, n_threads=n).conf_int(method="profile") for n in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_large_samples_have_the_wald_interval():
    X, y = simulated(n=200_000, seed=7)
    result = cs.fit(X, y, reference=0)
    wald, ends = result.conf_int()[1:], result.conf_int(method="profile")[1:]
    # apart by the next order, 1 / sqrt(n) of the width
    np.testing.assert_allclose((ends - wald) / (wald[..., 1:] - wald[..., :1]), 0.0, atol=5e-3)


def test_a_robust_covariance_makes_no_difference():
    X, y = simulated(seed=8)
    result = cs.fit(X, y)
    np.testing.assert_array_equal(result.with_covariance("HC0").conf_int(method="profile"),
                                  result.conf_int(method="profile"))


# -------------------------------------------------------------------------------------------------- separated samples

def separated(name):
    reference = references_io.load(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.SeparationWarning)
        return reference, cs.fit(pd.DataFrame(reference.X, columns=reference.features),
                                 np.array(reference.classes)[reference.y], sample_weight=reference.weights,
                                 reference=reference.classes[0])


def test_quasi_separated_samples_have_one_infinite_end_and_finite_ends_from_the_certified_supremum():
    reference, result = separated("separation_endometrial")
    ends = result.conf_int(method="profile")[1]
    assert ends[0, 1] == np.inf and np.isfinite(ends.ravel()[[0, *range(2, 8)]]).all()
    # profiles far out on the way to the supremum are as flat as float64 can tell
    for i, (low, inside, high) in enumerate([(0.0, 3.0, None), (-1.0, 0.0, 1.0), (-9.0, -3.0, 0.0), (0.0, 4.0, 20.0)]):
        for end, far in zip(ends[i], (low, high), strict=True):
            if far is not None:
                expected = brute_force_end(reference.X, reference.y, 2, 1, i, reference.supremum, inside, far)
                np.testing.assert_allclose(end, expected, rtol=1e-6)


def test_directions_of_separation_decide_which_ends_are_infinite():
    _, result = separated("separation_penguins_island")
    ends = pd.DataFrame(result.conf_int(method="profile").reshape(-1, 2))
    chinstrap, gentoo = ends.iloc[4:8], ends.iloc[8:12]
    # bill length has a maximum; Chinstraps live on Dream alone, Gentoos on Biscoe, of the islands
    assert np.isfinite(chinstrap.iloc[0]).all() and np.isfinite(gentoo.iloc[0]).all()
    assert np.isinf(chinstrap.iloc[1:]).to_numpy().tolist() == [[False, True], [True, True], [True, False]]
    assert np.isinf(gentoo.iloc[1:]).to_numpy().tolist() == [[True, False], [True, False], [False, False]]


def test_completely_separated_samples_have_intervals_with_one_end():
    X = np.array([[0.0], [1.0], [2.0], [3.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.SeparationWarning)
        result = cs.fit(X, [0, 0, 1, 1], reference=0)
    low, high = result.conf_int(method="profile", coefficients="x1")[1, 0]
    assert high == np.inf
    expected = brute_force_end(X, np.array([0, 0, 1, 1]), 2, 1, 0, 0.0, 5.0, -2.0)
    np.testing.assert_allclose(low, expected, rtol=1e-6)


def test_rows_without_weight_and_counts_of_0_do_not_end_an_interval():
    X, y = np.array([[0.0], [1.0], [2.0], [3.0], [9.0]]), np.array([0, 0, 1, 1, 0])
    weights = np.array([1.0, 1.0, 1.0, 1.0, 0.0])
    ends = []
    for data in ({"X": X[:4], "y": y[:4]}, {"X": X, "y": y, "sample_weight": weights},
                 {"X": X, "y": np.eye(2)[y] * weights[:, np.newaxis]}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", cs.SeparationWarning)
            ends.append(cs.fit(**data, reference=0).conf_int(method="profile")[1])
    assert ends[0][0, 1] == np.inf and ends[0][1, 0] == -np.inf
    for other in ends[1:]:
        np.testing.assert_allclose(other, ends[0], rtol=1e-6)


def fit_separated(X, y, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cs.SeparationWarning)
        return cs.fit(X, y, reference=0, **options)


# x = 3 is in both classes: with a row of that value in each the supremum is that of those two rows, 2 log(1/2)
STEPS = np.array([0, 1, 2, 3, 3, 4, 5, 6.0])


def one_covariate_profile(x, y, slope):
    """max over the intercept of L, two classes: where the probabilities of class 1 sum to the number of its rows."""
    low, high = -800.0 - np.abs(slope * x).max(), 800.0 + np.abs(slope * x).max()
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if special.expit(slope * x + middle).sum() > y.sum() else (middle, high)
    return -np.logaddexp(0.0, (1 - 2 * y) * (slope * x + low)).sum()


@pytest.mark.parametrize("outlier", [30.0, 3e3, 1e4, 1e5, 1e6, 1e7])
def test_an_outlier_that_is_in_its_class_changes_no_end(outlier):
    y = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    without = fit_separated(STEPS[:, np.newaxis], y).conf_int(method="profile")
    ends = fit_separated(np.append(STEPS, outlier)[:, np.newaxis], np.append(y, 1)).conf_int(method="profile")
    # 1e-8 of the bounds on each likelihood
    np.testing.assert_allclose(ends, without, rtol=1e-6)
    assert ends[1, 0, 1] == np.inf and ends[1, 1, 0] == -np.inf
    deviance = -2.0 * (2.0 * np.log(2.0) + one_covariate_profile(STEPS, y, ends[1, 0, 0]))
    np.testing.assert_allclose(deviance, chi2.ppf(0.95, 1), rtol=1e-6)


@pytest.mark.parametrize(("x", "n_zeros", "outliers", "weights"), [
    ([0, 2, 2, 2, 3, 4, 5, 6, 11, 11], 3, [-7.54842323e6, -32.8823004], [1, 2, 1, 3, 1, 2, 2, 1, 2, 3, 2, 3]),
    ([0, 0, 2, 3, 7, 7, 9, 9, 9, 10, 10, 11, 11], 9, [2.56342639e7], [2, 3, 3, 1, 2, 2, 2, 3, 3, 2, 3, 2, 3, 1]),
])
def test_outliers_among_ties_and_weights_change_no_end(x, n_zeros, outliers, weights):
    y, far = (np.arange(len(x)) >= n_zeros).astype(int), np.array(outliers)
    weights = np.array(weights, dtype=float)
    without = fit_separated(np.array(x, dtype=float)[:, np.newaxis], y, sample_weight=weights[:len(x)])
    ends = fit_separated(np.append(x, far)[:, np.newaxis], np.append(y, far > 0), sample_weight=weights)
    np.testing.assert_allclose(ends.conf_int(method="profile"), without.conf_int(method="profile"), rtol=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_ends_of_separated_lognormal_samples_have_the_deviance_of_the_level(seed):
    rng = np.random.default_rng(seed)
    x = rng.lognormal(0.0, 2.5, 30)
    y = (x >= np.sort(x)[rng.integers(3, 27)]).astype(int)
    ends = fit_separated(x[:, np.newaxis], y).conf_int(method="profile")[1]
    assert ends[0, 1] == np.inf and ends[1, 0] == -np.inf
    np.testing.assert_allclose(-2.0 * one_covariate_profile(x, y, ends[0, 0]), chi2.ppf(0.95, 1), rtol=1e-6)


def test_a_tie_broken_by_1e_6_makes_ends_finite_whatever_other_class_is_separated():
    x = np.array([0, 1, 2, 3, 3 + 1e-6, 4, 5, 6, 100, 101.0])[:, np.newaxis]
    y = np.array([0, 0, 0, 1, 0, 1, 1, 1, 2, 2])
    ends = fit_separated(x, y).conf_int(method="profile")
    # class 2 is as far from the others as can be: its rows tell nothing about the others' difference
    alone = cs.fit(x[:8], y[:8], reference=0).conf_int(method="profile")
    np.testing.assert_allclose(ends[1], alone[1], rtol=1e-6)
    assert np.isfinite(ends[1]).all() and 2e6 < ends[1, 0, 1] < 4e6
    assert np.isinf(ends[2]).tolist() == [[False, True], [True, False]]


def test_an_offset_along_a_column_moves_the_ends_by_it():
    y = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    ends = fit_separated(STEPS[:, np.newaxis], y).conf_int(method="profile")[1]
    offset = np.column_stack([np.zeros(8), 0.7 * STEPS - 2.0])
    moved = fit_separated(STEPS[:, np.newaxis], y, offset=offset).conf_int(method="profile")[1]
    np.testing.assert_allclose(moved, ends - [[0.7], [-2.0]], rtol=1e-6)


def test_separated_counts_are_their_rows():
    x, y = np.append(STEPS, 40.0), np.array([0, 0, 0, 0, 1, 1, 1, 1, 2])
    places, row = np.unique(x, return_inverse=True)
    counts = np.zeros((len(places), 3))
    np.add.at(counts, (row, y), 1.0)
    ends, of_counts = (fit_separated(*data).conf_int(method="profile") for data in
                       ((x[:, np.newaxis], y), (places[:, np.newaxis], counts)))
    np.testing.assert_allclose(of_counts, ends, rtol=1e-6)
    assert np.isinf(ends[1:]).any() and np.isfinite(ends[1:]).any()


def test_separated_intervals_do_not_depend_on_units():
    X, y = simulated(d=2, C=2, seed=17)
    X[:, 1] = np.where(y == 1, X[:, 1] > 0, 0.0)
    ends = fit_separated(X, y).conf_int(method="profile")[1]
    changed = fit_separated(X * [1e6, 1e-3] + [1e9, 0.0], y).conf_int(method="profile", coefficients="x1, x2")[1]
    np.testing.assert_allclose(changed[:2] * np.array([[1e6], [1e-3]]), ends[:2], rtol=1e-6)
    assert np.isinf(ends).tolist() == [[False, False], [False, True], [False, False]]


def test_bounds_of_a_supremum_that_differ_make_no_end(monkeypatch):
    from csoftmax import profile
    result = fit_separated(STEPS[:, np.newaxis], [0, 0, 0, 0, 1, 1, 1, 1])
    supremum = profile._supremum

    def of_all_alone(there, u, contrast=None, c=0.0):
        if contrast is not None:
            raise profile.ProfileError("the bounds of a supremum differ")
        return supremum(there, u)

    monkeypatch.setattr(profile, "_supremum", of_all_alone)
    with pytest.warns(cs.ConvergenceWarning, match="1: x1 has no profile interval: the bounds of a supremum"):
        assert np.isnan(result.conf_int(method="profile", coefficients="x1")).all()
    monkeypatch.undo()
    monkeypatch.setattr(profile._Face, "reaches", lambda *arguments: False)
    with pytest.warns(cs.ConvergenceWarning, match="no coefficient has a profile interval: the bounds of a supremum"):
        assert np.isnan(result.conf_int(method="profile")).all()


@pytest.mark.parametrize("separate", [False, True])
def test_an_interval_takes_a_handful_of_maximisations(separate, monkeypatch):
    from csoftmax import profile
    X, y = simulated(n=300, d=3, seed=18)
    X[:, 2] = np.where(y == 2, X[:, 2] > 0, 0.0) if separate else X[:, 2]
    result, taken = fit_separated(X, y), []
    maximize = profile.maximize
    monkeypatch.setattr(profile, "maximize", lambda *args, **options: taken.append(0) or maximize(*args, **options))
    ends = result.conf_int(method="profile")[1:]
    assert not np.isnan(ends).any() and np.isinf(ends).any() == separate
    assert len(taken) <= 6 * len(ends.reshape(-1, 2))


# ------------------------------------------------------------------------------------------------------ bias reduction

def penalized_profile(X, y, C, k, i, c, start):
    """max L + 1/2 log det I where the coefficient i of class k against class 0 is c, by BFGS; from start (C - 1, p)."""
    Z = np.column_stack([X, np.ones(len(X))])
    free = np.ones(start.shape, dtype=bool)
    free[k - 1, i] = False

    def loss(part):
        theta = np.where(free, 0.0, c)
        theta[free] = part
        log_p = special.log_softmax(np.column_stack([np.zeros(len(Z)), Z @ theta.T]), axis=1)
        p = np.exp(log_p)[:, 1:]
        S = np.einsum("jk,kl->jkl", p, np.eye(C - 1)) - np.einsum("jk,jl->jkl", p, p)
        information = np.einsum("jkl,ja,jb->kalb", S, Z, Z).reshape(2 * (theta.size,))
        return -log_p[np.arange(len(y)), y].sum() - 0.5 * np.linalg.slogdet(information)[1]

    # where samples are separated the way from the estimate is long and bent; in proportion it is short
    starts = [start, start * c / start[k - 1, i]]
    with np.errstate(invalid="ignore"):  # a search of BFGS's may try a step where the information is singular
        return max(-minimize(loss, near[free], method=method, options={"maxiter": 5000, **options}).fun
                   for near in starts
                   for method, options in (("BFGS", {"gtol": 1e-7}), ("Nelder-Mead", {"xatol": 1e-7, "fatol": 1e-10})))


@pytest.mark.parametrize("C", [2, 3])
@pytest.mark.parametrize("separate", [False, True])
def test_ends_of_a_bias_reduced_fit_are_those_of_its_penalised_likelihood(C, separate):
    X, y = simulated(n=40, C=C, seed=19)
    X = X if not separate else np.sort(X, axis=0)
    y = y if not separate else np.sort(y)
    result = cs.fit(X, y, reference=0, bias_reduction="firth")
    ends = result.conf_int(method="profile")
    for k in range(1, C):
        for i in range(2):
            estimate = result.params[k, i]
            assert ends[k, i, 0] < estimate < ends[k, i, 1] < np.inf
            top = penalized_profile(X, y, C, k, i, estimate, result.params[1:])
            for end in ends[k, i]:
                value = penalized_profile(X, y, C, k, i, end, result.params[1:])
                np.testing.assert_allclose(2.0 * (top - value), chi2.ppf(0.95, 1), rtol=1e-6)


# -------------------------------------------------------------------------------------------------------- hard inputs

def test_collinear_columns_have_no_interval_and_the_others_theirs():
    X, y = simulated(d=2, seed=11)
    doubled = cs.fit(np.column_stack([X, X[:, 0]]), y, reference=0).conf_int(method="profile")
    plain = cs.fit(X, y, reference=0).conf_int(method="profile")
    assert np.isnan(doubled[:, [0, 2]]).all()
    np.testing.assert_allclose(doubled[1:, 1], plain[1:, 1], **END)


def test_models_without_intercept_or_feature_have_intervals():
    X, y = simulated(C=2, seed=12)
    result = cs.fit(X, y, fit_intercept=False, reference=0)
    low, high = result.conf_int(method="profile")[1, 0]
    for end in (low, high):
        logits = end * X[:, 0]
        value = float(np.sum(np.where(y == 1, logits, 0.0) - np.logaddexp(0.0, logits)))
        np.testing.assert_allclose(2.0 * (result.log_likelihood - value), chi2.ppf(0.95, 1), rtol=1e-7)
    constant = cs.fit(X[:, :0], y, reference=0)
    share, n = y.mean(), len(y)
    for end in constant.conf_int(method="profile")[1, 0]:
        q = 1.0 / (1.0 + np.exp(-end))
        deviance = 2.0 * n * (share * np.log(share / q) + (1 - share) * np.log((1 - share) / (1 - q)))
        np.testing.assert_allclose(deviance, chi2.ppf(0.95, 1), rtol=1e-7)


def test_a_frame_has_the_profile_intervals_beside_their_names():
    X, y = np.arange(40.0)[:, np.newaxis] % 7, np.arange(40) % 3
    for reference in (None, 1):
        result = cs.fit(X, y, reference=reference)
        shown = [k for k in range(3) if k != reference]
        frame = result.to_frame(level=0.9, method="profile")
        np.testing.assert_array_equal(frame[["lower", "upper"]],
                                      result.conf_int(level=0.9, method="profile")[shown].reshape(-1, 2))
        assert frame.drop(columns=["lower", "upper"]).equals(result.to_frame().drop(columns=["lower", "upper"]))
        with pytest.raises(ValueError, match="method is 'lr'"):
            result.to_frame(method="lr")


def test_what_is_not_asked_for_is_nan_whichever_the_method():
    X, y = simulated(d=2, seed=13)
    result = cs.fit(X, y, reference=0)
    for method in ("wald", "profile"):
        one = result.conf_int(method=method, coefficients=["1: x2", "2: Intercept"])
        assert np.argwhere(~np.isnan(one[..., 0])).tolist() == [[1, 1], [2, 2]]
        np.testing.assert_allclose(one[1, 1], result.conf_int(method=method)[1, 1], rtol=1e-12)


@pytest.mark.parametrize(("options", "says"), [
    ({"level": 1.0}, "level is 1.0"),
    ({"method": "bootstrap"}, "method is 'bootstrap'; 'wald' or 'profile'"),
    ({"method": "profile", "coefficients": "x9"}, "names the feature 'x9'; the model has 'x1', 'Intercept'"),
])
def test_intervals_say_what_they_want(options, says):
    X, y = simulated(seed=14)
    with pytest.raises(ValueError, match=says):
        cs.fit(X, y).conf_int(**options)


def test_an_end_that_is_not_found_is_a_warning_that_names_the_coefficient(monkeypatch):
    from csoftmax import profile
    monkeypatch.setattr(profile, "_MAX_STEPS", 0)
    X, y = simulated(seed=15)
    with pytest.warns(cs.ConvergenceWarning, match="1: x1 has no profile interval: the likelihood does not fall"):
        ends = cs.fit(X, y, reference=0).conf_int(method="profile", coefficients="1: x1")
    assert np.isnan(ends).all()


def test_a_restricted_fit_without_certificate_makes_no_end(monkeypatch):
    from csoftmax import profile

    def uncertified(*args, **options):
        maximum = maximize(*args, **options)
        return replace(maximum, certificate=replace(maximum.certificate, holds=False))

    maximize = profile.maximize
    monkeypatch.setattr(profile, "maximize", uncertified)
    X, y = simulated(seed=16)
    with pytest.warns(cs.ConvergenceWarning, match="2: Intercept has no profile interval: a restricted fit failed"):
        ends = cs.fit(X, y, reference=0).conf_int(method="profile", coefficients="2: Intercept")
    assert np.isnan(ends).all()
