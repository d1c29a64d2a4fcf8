"""Collinear columns: what the data determine all the same has the standard errors of the fit without them.

It stands on csoftmax.fit and csoftmax.fit_formula. A fit with redundant columns, whose coefficients are not unique, is
compared with that of independent columns, whose are.
"""

import json
import re

import numpy as np
import pandas as pd
import pytest

import csoftmax as cs
from csoftmax.inference import Unseen

INDEPENDENT = [0, 1, 2]


def made(n_classes, *, scale=1.0, shift=0.0, n=300, seed=0):
    """(Z, y): x1, x2 and x3, which is 0 or 1; then 1 - x3, x1 + x2 and a constant."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 3))
    X[:, 2] = rng.integers(0, 2, n)
    y = (X @ rng.standard_normal((3, n_classes)) + rng.gumbel(size=(n, n_classes))).argmax(axis=1)
    Z = np.column_stack([X * [scale, 1.0, 1.0] + [shift, 0.0, 0.0], 1.0 - X[:, 2], X[:, 0] + X[:, 1], np.full(n, 7.0)])
    return Z, y


def assert_same(table, expected, rtol=1e-9):
    np.testing.assert_allclose(table.estimate, expected.estimate, rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(table.std_error, expected.std_error, rtol=rtol)


# rtol: 1e3 spreads from 0, squared, times eps is 2e-10, and some more for sums
@pytest.mark.parametrize(("scale", "shift", "rtol"), [(1.0, 0.0, 1e-9), (1e6, 1e9, 1e-7)])
@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_probabilities_margins_and_tests_are_those_of_the_fit_without_redundant_columns(n_classes, scale, shift, rtol):
    Z, y = made(n_classes, scale=scale, shift=shift)
    full, less = cs.fit(Z, y), cs.fit(Z[:, INDEPENDENT], y)
    assert np.isnan(full.bse).all(), "no coefficient is determined, for each can be had from the others"
    for cov_type in ("observed", "HC0", "HC3"):
        full, less = full.with_covariance(cov_type), less.with_covariance(cov_type)
        assert_same(full.predict_proba_interval(Z), less.predict_proba_interval(Z[:, INDEPENDENT]), rtol)
        assert_same(full.predicted_margins(), less.predicted_margins(), rtol)
        test, expected = full.wald_test("x2 + x5 = 0, x3 - x4 = 0"), less.wald_test("x2 = 0, x3 = 0")
        assert test.df == expected.df and test.statistic == pytest.approx(expected.statistic, rel=1e-6)


@pytest.mark.parametrize("options", [
    {"reference": 1}, {"fit_intercept": False}, {"sample_weight": np.arange(300) % 3}, {"bias_reduction": "firth"},
    {"sample_weight": 0.5 + np.arange(300) % 2, "weight_type": "probability"}], ids=lambda options: next(iter(options)))
def test_options_of_the_fit_change_nothing_of_that(options):
    Z, y = made(3)
    Z = Z[:, [0, 1, 2, 4]]  # without an intercept 1 - x3 is no combination of the others
    full, less = cs.fit(Z, y, **options), cs.fit(Z[:, INDEPENDENT], y, **options)
    assert_same(full.predict_proba_interval(Z), less.predict_proba_interval(Z[:, INDEPENDENT]))
    assert np.isnan(full.bse[:, [0, 1, 3]]).all()
    # of the columns that are determined the slope is
    np.testing.assert_allclose(full.margins("x3").std_error, less.margins("x3").std_error, rtol=1e-9)


def test_a_row_outside_the_span_of_the_fitted_ones_has_no_standard_error_and_others_keep_theirs():
    Z, y = made(3, scale=1e6, shift=1e9)
    new = Z[:40].copy()
    new[::2, 3] += 1e-3
    new[1::4, 5] = 8.0
    outside = (np.arange(40) % 2 == 0) | (np.arange(40) % 4 == 1)
    errors = cs.fit(Z, y).predict_proba_interval(new).std_error
    assert np.isnan(errors[outside]).all()
    np.testing.assert_allclose(errors[~outside], cs.fit(Z[:, INDEPENDENT], y).predict_proba_interval(
        new[~outside][:, INDEPENDENT]).std_error, rtol=1e-7)


def test_a_margin_that_leaves_the_span_has_no_standard_error():
    Z, y = made(3)
    result = cs.fit(Z, y)
    table = result.predicted_margins({"x3": [0.0, 1.0]})  # with 1 - x3 as it was
    assert np.isfinite(table.estimate).all() and np.isnan(table.std_error).all() and np.isnan(table.covariance).all()
    both = result.predicted_margins({"x3": 1.0, "x4": 0.0})
    assert_same(both, cs.fit(Z[:, INDEPENDENT], y).predicted_margins({"x3": 1.0}))
    assert np.isnan(result.margins().std_error).all()
    assert result.margins().notes == ["No standard errors of what the data do not determine (collinear columns): x1, "
                                      "x2, x3, x4, x5, x6, Intercept."]


def test_a_slope_through_all_columns_of_a_formulas_variable_is_determined():
    Z, y = made(3)
    data = pd.DataFrame({"y": y, "a": Z[:, 0], "b": Z[:, 1], "g": np.where(Z[:, 2] > 0, "u", "v")})
    full = cs.fit_formula("C(y) ~ a + I(2 * a) + b + C(g)", data)
    less = cs.fit_formula("C(y) ~ a + b + C(g)", data)
    assert np.isnan(full.bse[1:, :2]).all()
    # the design's differences err by 1e-10 of a slope
    assert_same(full.margins(), less.margins(), rtol=1e-8)
    assert_same(full.predicted_margins({"a": [0.0, 1.0]}).contrasts(),
                less.predicted_margins({"a": [0.0, 1.0]}).contrasts())


# what is determined of constraints, and how many of two equations' are left out; x4 is x1 + x2
@pytest.mark.parametrize(("hypothesis", "determined", "n_left_out"), [
    ("x1 + x4 = 0, x2 = 0", "x1 + x4 = 0", 2), ("x1 = 0.3, x2 = -0.1", "x1 - x2 = 0.4", 2),
    ("x1 = 0, x2 = 0, x3 = 0, x4 = 0", "x1 + x4 = 0, x2 + x4 = 0, x3 = 0", 2), ("x1 = 0, x3 = 0", "x3 = 0", 2),
    ("1: x1 = 0, 2: x1 + 2: x4 = 0, 1: x2 = 0", "1: x1 = 1: x2, 2: x1 + 2: x4 = 0", 1)])
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_of_partly_determined_constraints_what_the_data_tell_is_tested(hypothesis, determined, n_left_out, scale):
    Z, y = made(3)
    Z = Z[:, [0, 1, 2, 4]] * [scale, 1.0, 1.0, 1.0]
    hypothesis, determined = (re.sub(r"(\d: )?x1", lambda found: f"{scale} * {found[0]}", text)
                              for text in (hypothesis, determined))
    fitted = cs.fit(Z, y, reference=0)
    for result in (fitted, fitted.with_covariance("HC0")):
        test, expected = result.wald_test(hypothesis), result.wald_test(determined)
        assert not expected.note and test.df == expected.df
        assert test.note == f"without {n_left_out} of the constraints, of collinear columns: the data cannot tell"
        assert test.note in str(test)
        assert test.statistic == pytest.approx(expected.statistic, rel=1e-7)
        assert test.pvalue == pytest.approx(expected.pvalue, rel=1e-6)
    other = fitted.lr_test(hypothesis)
    assert (other.df, other.note) == (test.df, test.note)


def test_a_term_whose_columns_are_partly_collinear_is_tested_by_the_others():
    Z, y = made(3)
    data = pd.DataFrame({"y": y, "a": Z[:, 0], "b": Z[:, 1], "g": np.arange(300) % 4})
    data["h"] = np.where(data.g == 3, "d", np.where(data.g == 0, "a", "m"))
    tables = [cs.fit_formula("C(y) ~ a + b + C(h) + C(g)", data).test_terms(kind) for kind in ("wald", "lr", "score")]
    for table in tables:
        assert table.names == ("a", "b", "C(h)", "C(g)") and table.df.tolist() == [2, 2, 0, 2]
        assert np.isnan(table.statistic[2]) and not table.notes[0]
        assert "C(g): without 4 of the constraints, of collinear columns: the data cannot tell" in str(table)
    # of a group more, as of a fit with one dummy in its place
    less = cs.fit_formula("C(y) ~ a + b + C(h) + I(g == 1)", data).test_terms()
    assert tables[0].statistic[3] == pytest.approx(less.statistic[3], rel=1e-8)


@pytest.mark.parametrize("hypothesis", ["x1 = 0", "x1 - x4 = 0", "x3 + x1 = 0"])
def test_a_hypothesis_of_which_the_data_determine_nothing_has_no_test(hypothesis):
    Z, y = made(3)
    result = cs.fit(Z[:, [0, 1, 2, 4]], y)  # x4 is x1 + x2
    for test in (result.wald_test(hypothesis), result.lr_test(hypothesis), result.score_test(hypothesis)):
        assert np.isnan(test.statistic) and np.isnan(test.pvalue) and test.df == 0
        assert "without 2 of the constraints, of collinear columns: the data cannot tell" in str(test)


def test_a_penalty_on_the_redundant_columns_determines_them():
    Z, y = made(3)
    Z = Z[:, [0, 1, 2, 4]]
    result = cs.fit(Z, y, l2=[0.0, 0.0, 0.0, 1.0])
    assert np.isfinite(result.bse).all() and np.isfinite(result.margins().std_error).all()
    mixed = cs.fit(np.column_stack([Z, Z[:, 2]]), y, l2=[1.0, 1.0, 0.0, 1.0, 0.0])  # x3 and x5 are free, and the same
    assert np.isnan(mixed.bse[:, [2, 4]]).all() and np.isfinite(mixed.bse[:, [0, 1, 3]]).all()
    assert np.isfinite(mixed.aic)
    np.testing.assert_allclose(
        mixed.predict_proba_interval(Z[:9, [0, 1, 2, 3, 2]]).std_error,
        cs.fit(Z, y, l2=[1.0, 1.0, 0.0, 1.0]).predict_proba_interval(Z[:9]).std_error, rtol=1e-9)


def test_json_and_pickle_keep_what_is_determined(tmp_path):
    Z, y = made(3)
    for result in (cs.fit(Z, y), cs.fit(Z, y).with_covariance("HC0")):
        result.to_json(tmp_path / "model.json")
        read = cs.from_json(tmp_path / "model.json")
        new = Z[:5] + np.array([[0.0] * 6] * 4 + [[1.0] * 6])
        errors = result.predict_proba_interval(new).std_error
        assert np.isfinite(errors[:4]).all() and np.isnan(errors[4]).all()
        np.testing.assert_array_equal(read.predict_proba_interval(new).std_error, errors)
        assert np.isnan(read.bse).all() and read.wald_test("x2 + x5 = 0") == result.wald_test("x2 + x5 = 0")


def test_what_touches_an_unseen_direction_is_told_from_rounding_in_any_units():
    # of a column times 1e6 and a plain one, and a third beside them
    unseen = Unseen(np.array([[0.6], [-0.8], [1e-17]]), np.array([1e-6, 0.75, 1.0]), np.array([1e9, 3.0, 0.0]))
    gradients = np.array([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert unseen.touched_by(gradients[:, np.newaxis]).tolist() == [True, False, True, False]
    # rows of the span: 1e9 + 1e6 t, 3 + t
    rows = np.array([[[1e9 + 1e6 * t, 3.0 + t, -t, 1.0]] for t in (0.0, 1e-9, 0.5, 2.0, 1e3)])
    assert not unseen.touched_by(rows).any()
    rows[:, 0, 1] += 1e-4
    assert unseen.touched_by(rows[:4]).all()


def test_without_its_covariance_a_saved_model_keeps_no_directions_either(monkeypatch, tmp_path):
    Z, y = made(3)
    monkeypatch.setattr("csoftmax.report.COVARIANCE_LIMIT", 1)
    result = cs.fit(Z, y)
    document = json.loads(result.to_json(tmp_path / "model.json"))
    assert document["covariance"] is None and document["unseen"] is None
    read = cs.from_json(tmp_path / "model.json")
    np.testing.assert_array_equal(read.predict_proba(Z), result.predict_proba(Z))
    with pytest.raises(ValueError, match="standard errors need the data"):
        read.predict_proba_interval(Z)


@pytest.mark.parametrize("kind", ["lr_test", "score_test"])
def test_a_constraint_that_copies_of_a_column_can_meet_tests_nothing_however_nearly_they_cannot(kind):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((200, 1)), rng.integers(0, 3, 200)
    test = getattr(cs.fit(np.hstack([x, x]), y, reference=0), kind)
    assert test("x1 + x2 = 0").df == 2  # of the sum the data know
    for factor in (1.001, 1.00001, 1.000001):  # x1 = -factor x2 for any sum: x2 = -1e6 times it
        found = test(f"x1 + {factor} * x2 = 0")
        assert found.df == 0 and "the data cannot tell" in found.note
