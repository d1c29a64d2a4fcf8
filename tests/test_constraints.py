"""Hypotheses in words and as matrices: what they say, and what the errors say.

It stands on csoftmax.constraints.
"""

import numpy as np
import pytest

from csoftmax import constraints
from csoftmax.constraints import Names

NAMES = Names(["a", "b", "c"], ["x", "x1", "x10", "z[T.u v]", "bs(x, df=4)[1]", "x:z", "Intercept"], 0)
SYMMETRIC = Names(["a", "b", "c"], ["x", "Intercept"], None)


def shown(text, names=NAMES):
    """The constraints in the coefficients shown: one row of (n_classes, p) each, the reference's row left out."""
    found = constraints.from_text(text, names)
    return np.delete(found.matrix, names.reference, axis=1), found.values


def test_a_feature_without_a_class_is_that_of_every_equation():
    matrix, values = shown("x1 = 0")
    assert matrix.shape == (2, 2, 7) and values.tolist() == [0, 0]
    assert np.argwhere(matrix).tolist() == [[0, 0, 1], [1, 1, 1]]


def test_a_feature_with_a_class_is_one_coefficient():
    matrix, values = shown("c: x = 2.5")
    assert np.argwhere(matrix).tolist() == [[0, 1, 0]] and values.tolist() == [2.5]


@pytest.mark.parametrize("name", ["x", "x1", "x10", "z[T.u v]", "bs(x, df=4)[1]", "x:z", "Intercept"])
def test_every_name_of_the_model_is_read_with_and_without_backticks(name):
    place = NAMES.features.index(name)
    for text in (f"b:{name}=1", f"`b` : `{name}` = 1"):
        assert np.argwhere(shown(text)[0]).tolist() == [[0, 0, place]]


@pytest.mark.parametrize(("text", "row", "value"), [
    ("b: x - 2 * b: x1 = 3", [1, -2], 3),
    ("3 = b: x - b: x1 * 2", [-1, 2], -3),
    ("-(b: x + b: x1)/4 + 1 = .5e1 - 2 * (1 - b: x)", [-2.25, -0.25], 2),
    ("b: x + b: x = 1", [2, 0], 1),
])
def test_arithmetic_is_that_of_linear_expressions(text, row, value):
    matrix, values = shown(text)
    sign = np.sign(matrix[0, 0, 0]) * np.sign(row[0])
    np.testing.assert_allclose(sign * matrix[0, 0, :2], row)
    assert sign * values[0] == value


def test_a_doubled_equals_sign_is_one():
    np.testing.assert_array_equal(shown("b: x == 1, c: x==b: x1")[0], shown("b: x = 1, c: x = b: x1")[0])


def test_commas_chains_and_sequences_make_several_constraints():
    one = constraints.from_text("b: x = b: x1 = 1, c: x = 0", NAMES)
    other = constraints.from_text(["b: x = b: x1", "b: x1 = 1", "c: x = 0"], NAMES)
    np.testing.assert_array_equal(one.matrix, other.matrix)
    np.testing.assert_array_equal(one.values, other.values)
    assert len(one.matrix) == 3


def test_labels_that_are_numbers_are_classes_before_a_colon_and_numbers_elsewhere():
    names = Names(["0", "1", "2"], ["0", "x"], 0)
    matrix, values = shown("1: x = 2", names)
    assert np.argwhere(matrix).tolist() == [[0, 0, 1]] and values.tolist() == [2.0]
    assert np.argwhere(shown("1: `0` = 2: `0`", names)[0]).tolist() == [[0, 0, 0], [0, 1, 0]]


def test_the_reference_in_a_comparison_is_zero():
    np.testing.assert_array_equal(constraints.from_text("b: x = a: x", NAMES).matrix,
                                  constraints.from_text("b: x = 0", NAMES).matrix)


def test_constraints_sum_to_zero_over_classes_so_that_every_reference_sees_the_same():
    for names in (NAMES, SYMMETRIC):
        for text in ("x = 0", "b: x = 1", "b: x = 2 * c: x"):
            np.testing.assert_allclose(constraints.from_text(text, names).matrix.sum(axis=1), 0.0, atol=1e-15)


def test_a_feature_in_all_symmetric_rows_makes_n_classes_less_1_independent_constraints():
    found = constraints.from_text("x = 0", SYMMETRIC)
    assert len(found.matrix) == 3 and len(found.independent().matrix) == 2


def test_a_constraint_that_follows_from_others_is_left_out_and_one_that_contradicts_them_raises():
    assert len(constraints.from_text("b: x = 1, c: x = 2, b: x + c: x = 3", NAMES).independent().matrix) == 2
    with pytest.raises(ValueError, match="contradict each other"):
        constraints.from_text("b: x = 1, c: x = 2, b: x + c: x = 4", NAMES).independent()


def test_units_do_not_make_constraints_dependent():
    assert len(constraints.from_text("b: x = 1e8 * b: x1, b: x1 = 0", NAMES).independent().matrix) == 2


@pytest.mark.parametrize(("text", "says"), [
    ("y = 0", "names the feature 'y'; the model has 'x', 'x1', 'x10'"),
    ("x11 = 0", "names the feature 'x11'.*did you mean"),
    ("d: x = 0", "names the class 'd'; the model has 'a', 'b', 'c'"),
    ("b: y = 0", "names the feature 'y'"),
    ("x", "no '='"),
    ("x = ", "'its end' stands where a name"),
    ("z = 0", "names the feature 'z'.*all columns of the term 'z' together"),
    ("x = 0,", "'its end' stands where a name"),
    ("x = 0 x1", "'x1' stands where an operator"),
    ("x 1 = 0", "'1' stands where '=' or an operator"),
    ("x * x1 = 0", "multiplies two coefficients"),
    ("x / x1 = 0", "divides by what is not a number"),
    ("x / 0 = 0", "divides by what is not a number, or is 0"),
    ("(x = 0", "parenthesis is not closed"),
    ("(" * 5000 + "x = 0", "more than 100 parentheses are within each other"),
    ("-" * 5000 + "x = = 0", "'=' stands where a name"),
    ("`x = 0", "backtick is not closed"),
    ("b: = 0", "'=' stands where a feature of 'b' should"),
    ("1 = 1", "leaves no coefficient"),
    ("x = x", "leaves no coefficient"),
    ("b: x = x1", "with and without a class"),
    ("a: x = 0", "about the reference 'a' alone"),
    ("x = 0 ! x1", "stands where"),
])
def test_errors_name_what_is_wrong_and_what_there_is(text, says):
    with pytest.raises(ValueError, match=says):
        constraints.from_text(text, NAMES)


def test_what_may_be_an_interaction_or_a_class_has_to_be_told_apart():
    names = Names(["a", "b"], ["x", "b:x"], 0)
    with pytest.raises(ValueError, match="is a feature, and 'x' is one of the class 'b'"):
        constraints.from_text("b:x = 0", names)
    assert np.argwhere(shown("`b:x` = 0", names)[0]).tolist() == [[0, 0, 1]]
    assert np.argwhere(shown("`b`: x = 0", names)[0]).tolist() == [[0, 0, 0]]


def test_a_sum_over_all_symmetric_rows_constrains_nothing():
    with pytest.raises(ValueError, match="constrains nothing"):
        constraints.from_text("a: x + b: x + c: x = 0", SYMMETRIC)
    with pytest.raises(ValueError, match=r"row 1 .* constrains nothing"):
        constraints.from_matrix([[1, 0, 0, 0, 0, 0], [1, 0, 1, 0, 1, 0]], None, SYMMETRIC)


def test_a_matrix_has_the_columns_of_cov_params():
    R = np.zeros((1, 14))
    R[0, 7 + 2] = 1.0
    found = constraints.from_matrix(R, [3.0], NAMES)
    wanted = constraints.from_text("c: x10 = 3", NAMES)
    np.testing.assert_array_equal(found.matrix, wanted.matrix)
    np.testing.assert_array_equal(found.values, wanted.values)
    np.testing.assert_array_equal(constraints.from_matrix(R[0], None, NAMES).matrix, wanted.matrix)


@pytest.mark.parametrize(("R", "q", "says"), [
    (np.zeros((1, 13)), None, r"shape \(1, 13\); \(n_constraints, 14\) is wanted: .* 7 coefficients of 2 classes"),
    (np.zeros((0, 14)), None, r"shape \(0, 14\)"),
    (np.ones((2, 14)), [1.0], r"q has shape \(1,\); \(2,\) is wanted"),
    (np.full((1, 14), np.nan), None, "not finite"),
    (np.ones((1, 14)), [np.inf], "q has entries that are not finite"),
])
def test_a_matrix_that_does_not_fit_raises(R, q, says):
    with pytest.raises(ValueError, match=says):
        constraints.from_matrix(R, q, NAMES)


@pytest.mark.parametrize(("R", "q", "error", "says"), [
    ([[1.0], [1.0, 2.0]], None, ValueError, "the constraint's matrix is no array of numbers.*rows of one length"),
    ([["a"] * 14], None, TypeError, "the constraint's matrix has dtype <U1; real numbers are wanted"),
    (np.ones((1, 14)) * 1j, None, TypeError, "the constraint's matrix has dtype complex128"),
    (np.full((1, 14), 1j, dtype=object), None, TypeError, "the constraint's matrix is no array of numbers"),
    (np.ones((1, 14)), ["3"], TypeError, "q has dtype <U1; real numbers are wanted"),
])
def test_a_matrix_of_what_are_no_real_numbers_is_named(R, q, error, says):
    with pytest.raises(error, match=says):
        constraints.from_matrix(R, q, NAMES)


def test_signs_and_parentheses_may_be_many():
    for text in ("-" * 5000 + "x = 0", "(" * 100 + "x" + ")" * 100 + " = 0"):
        np.testing.assert_array_equal(constraints.from_text(text, NAMES).matrix,
                                      constraints.from_text("x = 0", NAMES).matrix)


def test_coefficients_are_named_one_by_one_or_across_equations():
    chosen = constraints.coefficients(["x1", "c: x", "b: Intercept, c: x10"], NAMES)
    assert np.argwhere(chosen).tolist() == [[1, 1], [1, 6], [2, 0], [2, 1], [2, 2]]
    with pytest.raises(ValueError, match="of the reference 'a'"):
        constraints.coefficients("a: x", NAMES)
    with pytest.raises(ValueError, match="stands where a comma"):
        constraints.coefficients("x = 0", NAMES)
