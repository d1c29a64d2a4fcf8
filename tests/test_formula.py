"""Formulas: the matrix they give, what they refuse, and how they are saved."""

import copy
import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest

pd = pytest.importorskip("pandas")
pytest.importorskip("formulaic")

import csoftmax as cs  # noqa: E402
from csoftmax import formula as face  # noqa: E402
from csoftmax.datasets import load_anes96, load_penguins  # noqa: E402
from csoftmax.formula import Design, prepare  # noqa: E402


@pytest.fixture
def penguins():
    return load_penguins()


def made_by(formula, data, **options):
    """The design alone: most of these tests need no fit."""
    return prepare(formula, data, **options).design


def through_json(design):
    return Design.from_dict(json.loads(json.dumps(design.to_dict(), allow_nan=False)))


small = pd.DataFrame(
    {
        "y": ["a", "b", "a", "c", "b", "c"],
        "x": [1.0, 2.0, 3.0, 4.0, 5.0, 7.0],
        "g": ["u", "v", "w", "v", "u", "w"],
        "flag": [True, False, True, True, False, False],
        "a b": [1, 2, 3, 4, 5, 6],
        "n": [1, 2, 1, 3, 1, 2],
    }
)


# -- the matrix -------------------------------------------------------------------------------------------------------
def test_the_intercept_of_the_formula_is_the_intercept_of_the_fit_and_no_column():
    prepared = prepare("y ~ x", small)
    assert prepared.design.fit_intercept
    assert list(prepared.X.columns) == ["x"]
    assert prepared.X["x"].tolist() == small["x"].tolist()


@pytest.mark.parametrize("formula", ["y ~ x - 1", "y ~ 0 + x", "y ~ x + 0"])
def test_leaving_out_the_intercept_gives_fit_intercept_false(formula):
    design = made_by(formula, small)
    assert not design.fit_intercept
    assert design.feature_names == ["x"]


def test_a_category_is_coded_against_its_first_level_and_in_full_without_an_intercept():
    prepared = prepare("y ~ g", small)
    assert list(prepared.X.columns) == ["g[T.v]", "g[T.w]"]
    assert prepared.X.to_numpy().tolist() == [[0, 0], [1, 0], [0, 1], [1, 0], [0, 0], [0, 1]]
    full = prepare("y ~ 0 + g", small)
    assert list(full.X.columns) == ["g[u]", "g[v]", "g[w]"]
    assert full.X.to_numpy().sum(axis=1).tolist() == [1] * 6


def test_an_intercept_only_formula_has_no_columns():
    prepared = prepare("y ~ 1", small)
    assert prepared.design.fit_intercept
    assert prepared.X.shape == (6, 0)
    assert prepared.design.matrix(small).shape == (6, 0)


def test_interactions_transforms_quoted_names_and_numpy_functions_are_what_they_say():
    prepared = prepare("y ~ x:flag + `a b` + log(x) + np.sqrt(x) + sqrt(`a b`) + I(x**2) + {x / 2}", small)
    x, flag, ab = small["x"].to_numpy(), small["flag"].to_numpy(), small["a b"].to_numpy()
    wanted = {
        "a b": ab,
        "log(x)": np.log(x),
        "np.sqrt(x)": np.sqrt(x),
        "sqrt(`a b`)": np.sqrt(ab),
        "I(x ** 2)": x**2,
        "x / 2": x / 2,
        "x:flag": x * flag,
    }
    assert list(prepared.X.columns) == list(wanted)
    for name, values in wanted.items():
        np.testing.assert_array_equal(prepared.X[name], values)


def test_a_dot_is_every_other_column_but_the_labels_and_the_weights():
    design = made_by("y ~ .", small, sample_weight="n")
    assert list(design.columns) == ["x", "g", "flag", "a b"]


def test_a_column_named_like_a_function_does_not_hide_the_function():
    data = small.rename(columns={"n": "log"})
    np.testing.assert_array_equal(prepare("y ~ log(x)", data).X["log(x)"], np.log(small["x"]))


def test_an_unused_category_of_a_predictor_gets_no_column():
    data = small.assign(g=pd.Categorical(small["g"], categories=["w", "mars", "v", "u"]))
    assert made_by("y ~ g", data).feature_names == ["g[T.v]", "g[T.u]"]  # and the order is the Categorical's


@pytest.mark.parametrize("dtype", [object, "string", "category"])
def test_text_of_every_pandas_dtype_gives_the_same_matrix(dtype):
    wanted = prepare("y ~ g", small).X
    data = small.assign(g=small["g"].astype(dtype), y=small["y"].astype(dtype))
    prepared = prepare("y ~ g", data)
    pd.testing.assert_frame_equal(prepared.X, wanted)
    assert list(prepared.y) == small["y"].tolist()


@pytest.mark.parametrize("dtype", ["Int64", "Float64", object])
def test_nullable_and_object_numbers_are_numbers(dtype):
    data = small.assign(x=small["x"].astype(int).astype(dtype))
    data.loc[1, "x"] = None
    prepared = prepare("y ~ x", data)
    assert prepared.design.columns == {"x": "number"}
    assert prepared.X["x"].tolist() == [1, 3, 4, 5, 7]


def test_a_bool_column_with_a_gap_is_still_one_column_of_bools():
    data = small.assign(flag=[True, None, True, True, False, False])
    assert made_by("y ~ flag", data).feature_names == ["flag"]
    assert made_by("y ~ flag", data).matrix({"flag": [True, False]}).tolist() == [[1.0], [0.0]]


def test_a_column_called_intercept_is_a_feature_beside_the_constant():
    data = small.rename(columns={"x": "Intercept"})
    prepared = prepare("y ~ Intercept + flag", data)
    assert prepared.design.fit_intercept
    assert prepared.X.columns.tolist() == ["Intercept", "flag"]
    assert prepared.X["Intercept"].tolist() == small["x"].tolist()
    assert through_json(prepared.design).matrix(data)[:, 0].tolist() == small["x"].tolist()
    assert made_by("y ~ 0 + Intercept", data).feature_names == ["Intercept"]
    assert made_by("y ~ Intercept:flag + Intercept", data).feature_names == ["Intercept", "Intercept:flag"]


def test_two_terms_that_give_one_name_are_refused_instead_of_losing_one():
    with pytest.raises(ValueError, match=r"two terms of formula .* give a column named 'x:flag'; rename the column"):
        prepare("y ~ `x:flag` + x:flag", small.assign(**{"x:flag": 1.0}))


def test_a_term_that_is_text_is_named():
    with pytest.raises(ValueError, match=r"the term .* is not numeric|cannot be evaluated"):
        prepare("y ~ x + where(x > 2, 'a', 'b')", small)


# -- labels -----------------------------------------------------------------------------------------------------------
def test_labels_are_never_dummy_coded():
    prepared = prepare("y ~ x", small)
    assert prepared.y.tolist() == small["y"].tolist()
    assert prepared.classes == ["a", "b", "c"]


def test_the_order_of_a_categorical_of_labels_is_kept():
    data = small.assign(y=pd.Categorical(small["y"], categories=["c", "a", "b"]))
    assert prepare("y ~ x", data).classes == ["c", "a", "b"]


def test_whole_floats_become_ints_where_gaps_made_them_floats():
    data = small.assign(y=[0.0, 1.0, math.nan, 1.0, 0.0, 1.0])
    prepared = prepare("y ~ x", data)
    assert prepared.y.dtype == np.int64
    assert prepared.y.tolist() == [0, 1, 1, 0, 1]
    assert prepared.classes == [0, 1]


def test_an_expression_of_labels_is_evaluated_on_complete_rows_only():
    data = small.assign(x=[1.0, math.nan, 3.0, 4.0, 5.0, 7.0])
    prepared = prepare("{x > 3} ~ n", data)
    # nan > 3 is False in pandas; that row must be gone, not a False
    assert prepared.y.tolist() == [False, False, True, True, True]
    assert prepared.n_missing == 1


def test_the_first_class_is_the_first_with_a_positive_weight():
    prepared = prepare("y ~ x", small, sample_weight=[0, 1, 0, 1, 1, 1])
    assert prepared.classes == ["b", "c"]


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("y + g ~ x", r"the left side .* has 2 terms; wanted one column.*; counts of the classes go to fit"),
        ("y", r"has no left side; wanted 'labels ~ predictors'"),
        ("~ x", r"has no left side"),
        ("y ~ 0", r"the right side .* is empty"),
        ("y ~ x | g", r"cannot be read"),
        ("y ~ x +", r"cannot be read"),
        ("y ~ log(", r"cannot be read"),
        ("1 ~ x", r"the left side .* is no column"),
    ],
)
def test_a_formula_that_is_none_is_an_error_in_plain_text(formula, message):
    with pytest.raises(ValueError, match=message) as caught:
        prepare(formula, small)
    assert "\x1b" not in str(caught.value)  # formulaic colours its messages
    assert "\n" not in str(caught.value)


# -- missing values ---------------------------------------------------------------------------------------------------
def test_rows_with_missing_values_are_left_out_and_counted(penguins):
    prepared = prepare("species ~ flipper_length_mm + sex", penguins)
    assert prepared.n_missing == 11  # the two without measurements are among the eleven without a sex
    assert prepared.missing == {"flipper_length_mm": 2, "sex": 11}
    assert len(prepared.X) == len(prepared.y) == 333


def test_missing_values_elsewhere_do_not_matter(penguins):
    assert prepare("species ~ year", penguins).n_missing == 0


def test_missing_raise_names_the_columns_and_the_counts(penguins):
    with pytest.raises(ValueError, match=r"missing values: 'flipper_length_mm' in 2 rows, 'sex' in 11 rows"):
        prepare("species ~ flipper_length_mm + sex", penguins, missing="raise")


def test_transforms_learn_from_the_complete_rows():
    data = small.assign(x=[1.0, math.nan, 3.0, 4.0, 5.0, 7.0])
    prepared = prepare("y ~ center(x)", data)
    assert prepared.X["center(x)"].tolist() == [-3.0, -1.0, 0.0, 1.0, 3.0]  # the mean of 1, 3, 4, 5, 7 is 4


def test_a_missing_weight_or_offset_leaves_its_row_out_everywhere():
    offset = np.arange(18.0).reshape(6, 3)
    offset[5, 1] = math.nan
    data = small.assign(n=[1, math.nan, 2, 3, 4, 5])
    prepared = prepare("y ~ x", data, sample_weight="n", offset=offset)
    assert prepared.missing == {"n": 1, "offset": 1}
    assert prepared.sample_weight.tolist() == [1, 2, 3, 4]
    assert prepared.offset.tolist() == offset[[0, 2, 3, 4]].tolist()
    assert prepared.X["x"].tolist() == [1, 3, 4, 5]


def test_repeated_row_labels_do_not_drop_their_namesakes():
    data = small.assign(x=[1.0, math.nan, 3.0, 4.0, 5.0, 7.0]).set_axis([0] * 6)
    assert prepare("y ~ x", data).X["x"].tolist() == [1, 3, 4, 5, 7]


def test_no_complete_row_is_an_error():
    with pytest.raises(ValueError, match=r"no complete row among 6: missing values in 'x' in 6 rows"):
        prepare("y ~ x", small.assign(x=math.nan))


def test_a_term_that_is_not_finite_is_an_error_and_not_a_missing_row():
    data = small.set_axis(list("abcdef"))
    with pytest.raises(ValueError, match=r"the term 'log\(x - 2\)' is nan in 1 rows .* the first is row 'a'"):
        prepare("y ~ log(x - 2)", data.iloc[[0, 2, 3, 4]])
    with pytest.raises(ValueError, match=r"is -inf in 1 rows"):
        prepare("y ~ log(x - 1)", data)


# -- wrong names ------------------------------------------------------------------------------------------------------
def test_an_unknown_column_is_named_with_close_matches(penguins):
    with pytest.raises(ValueError, match=r"'flipper_lenght_mm', which data does not have; did you mean 'flipper_len"):
        prepare("species ~ flipper_lenght_mm", penguins)
    with pytest.raises(ValueError, match=r"did you mean 'species'"):
        prepare("Species ~ year", penguins)
    with pytest.raises(ValueError, match=r"'zzz', which data does not have; its columns are 'species', 'island'"):
        prepare("species ~ log(zzz)", penguins)


def test_an_unknown_weight_column_is_named(penguins):
    with pytest.raises(ValueError, match=r"sample_weight names the column 'years', .* did you mean 'year'"):
        prepare("species ~ sex", penguins, sample_weight="years")


def test_a_builtin_is_no_column():
    with pytest.raises(ValueError, match=r"uses the column 'print'"):
        prepare("y ~ C(x, print)", small)


@pytest.mark.parametrize("weight", [[1, 2], np.ones((6, 1))])
def test_weights_of_another_shape_are_refused(weight):
    with pytest.raises(ValueError, match=r"sample_weight has shape .*wanted \(6,\)"):
        prepare("y ~ x", small, sample_weight=weight)


def test_dates_and_repeated_columns_are_refused_by_name():
    with pytest.raises(ValueError, match=r"column 'x' has dtype datetime"):
        prepare("y ~ x", small.assign(x=pd.Timestamp("2020-01-01")))
    with pytest.raises(ValueError, match=r"data has 2 columns named 'x'"):
        prepare("y ~ x", pd.concat([small, small[["x"]]], axis=1))


@pytest.mark.parametrize(
    "term",
    ["np.mean(x)", "x.mean()", "lag(x)", "x.values", "(lambda: x)()", "[v for v in x]", "f(x)", "log(x if 1 else x)"],
)
def test_a_term_that_would_change_on_new_data_or_run_code_is_refused(term):
    with pytest.raises(ValueError, match=r"compute anything else as a column first|which data does not have"):
        prepare(f"y ~ I({term})", small)


def test_a_misspelled_function_is_named_with_close_matches():
    with pytest.raises(ValueError, match=r"calls 'log1o' \(did you mean 'log1p'"):
        prepare("y ~ log1o(x)", small)


# -- new data ---------------------------------------------------------------------------------------------------------
FORMULAS = [
    "y ~ x + g",
    "y ~ 0 + g:x",
    "y ~ C(g, contr.sum) + C(n) + C(g, Treatment('v')):x",
    "y ~ scale(x) + center(`a b`) + standardize(log(x))",
    "y ~ poly(x, 2) + scale(poly(`a b`, 2))",
    "y ~ bs(x, df=4) + cr(x, df=3) + cc(x, df=3)",
    "y ~ hashed(g, 4) + flag",
    "y ~ Q('a b') + {x > 2}",
]


@pytest.mark.parametrize("formula", FORMULAS)
def test_new_data_are_coded_as_at_fit_also_after_json_and_pickle(formula):
    prepared = prepare(formula, small)
    whole = prepared.X.to_numpy()
    copies = [prepared.design, through_json(prepared.design), copy.deepcopy(prepared.design)]
    copies.append(pickle.loads(pickle.dumps(prepared.design)))
    for design in copies:
        assert design == prepared.design
        assert design.feature_names == list(prepared.X.columns)
        np.testing.assert_array_equal(design.matrix(small), whole)
        # some rows alone: other levels, means and ranges, the same numbers up to rounding of spline sums
        np.testing.assert_allclose(design.matrix(small.iloc[[4, 2]]), whole[[4, 2]], rtol=1e-14, atol=1e-14)


def test_the_labels_are_not_needed_for_new_data():
    assert made_by("y ~ x", small).matrix({"x": [1.5]}).tolist() == [[1.5]]


def test_a_level_that_the_fit_did_not_see_is_an_error_that_names_column_and_levels():
    design = made_by("y ~ g + C(n)", small)
    with pytest.raises(ValueError, match=r"column 'g' has levels that the fit did not see: 'z'; it saw 'u', 'v', 'w'"):
        design.matrix({"g": ["z", "u"], "n": [1, 2]})
    with pytest.raises(ValueError, match=r"the term 'C\(n\)' of column 'n' has levels .* see: 9; it saw 1, 2, 3"):
        through_json(design).matrix({"g": ["u"], "n": [9]})


def test_levels_that_leave_out_a_value_of_the_data_are_refused_at_fit():
    with pytest.raises(ValueError, match=r"has levels that its levels= leaves out: 'w'"):
        prepare("y ~ C(g, levels=['u', 'v'])", small)


def test_levels_written_as_numbers_in_a_file_are_those_of_the_categorical():
    design = made_by("y ~ g", small.assign(g=pd.Categorical([1, 2, 3, 2, 1, 3])))
    assert design.matrix({"g": [3, 1]}).tolist() == [[0.0, 1.0], [0.0, 0.0]]
    assert design.matrix({"g": [2.0]}).tolist() == [[1.0, 0.0]]


def test_text_where_the_fit_had_numbers_is_an_error_that_names_the_column():
    with pytest.raises(ValueError, match=r"column 'x' held numbers at fit, and holds text here, such as 'high'"):
        made_by("y ~ x", small).matrix({"x": ["high"]})


def test_missing_values_in_new_data_raise_by_default_and_become_nan_on_request():
    design = made_by("y ~ x + g", small)
    new = pd.DataFrame({"x": [1.0, None, 3.0], "g": ["u", "v", None]})
    with pytest.raises(ValueError, match=r"missing values: 'x' in 1 rows, 'g' in 1 rows"):
        design.matrix(new)
    assert design.missing_rows(new).tolist() == [False, True, True]
    got = design.matrix(new, missing="nan")
    assert got[0].tolist() == [1.0, 0.0, 0.0]
    assert np.isnan(got[1:]).all()


def test_an_absent_column_in_new_data_is_named():
    with pytest.raises(ValueError, match=r"uses the column 'x', which data does not have"):
        made_by("y ~ x", small).matrix({"z": [1.0]})


def test_no_rows_give_no_rows():
    assert made_by("y ~ x + g", small).matrix(small.iloc[:0]).shape == (0, 3)


def test_matrix_leaves_the_design_and_the_data_as_they_were():
    design = made_by("y ~ scale(x) + g", small)
    before, data = design.to_dict(), small.copy()
    design.matrix(data.iloc[:2])
    assert design.to_dict() == before
    pd.testing.assert_frame_equal(data, small)


# -- typical values ---------------------------------------------------------------------------------------------------
def test_numbers_have_a_mean_and_a_range_and_categories_their_most_frequent_level():
    data = small.assign(g=["w", "u", "w", "v", "u", "w"])
    typical = made_by("y ~ x + g + flag + C(n)", data).typical
    assert typical["x"] == {"value": pytest.approx(22 / 6, rel=1e-15), "low": 1.0, "high": 7.0}
    assert typical["g"] == {"value": "w", "levels": ["u", "v", "w"]}
    assert typical["flag"] == {"value": False, "levels": [False, True]}  # as many of both: the first
    assert typical["n"] == {"value": 1, "levels": [1, 2, 3]}  # a mean is no level
    assert made_by("y ~ n", data).typical["n"]["value"] == pytest.approx(10 / 6, rel=1e-15)


def test_weights_count_in_typical_values_and_rows_of_weight_0_are_absent():
    weight = [0, 1, 0, 2, 1, 0]
    rows = small.loc[np.repeat(small.index, weight)]
    ours, theirs = (made_by("y ~ x + g", small, sample_weight=weight).typical, made_by("y ~ x + g", rows).typical)
    assert ours["g"] == theirs["g"] == {"value": "v", "levels": ["u", "v"]}
    assert ours["x"] == {name: pytest.approx(value, rel=1e-15) for name, value in theirs["x"].items()}


def test_the_order_of_a_categorical_is_that_of_its_levels():
    data = small.assign(g=pd.Categorical(small["g"], categories=["w", "mars", "v", "u"]))
    assert made_by("y ~ g", data).typical["g"] == {"value": "w", "levels": ["w", "v", "u"]}


def test_more_than_100_levels_are_not_kept():
    data = pd.DataFrame({"y": [0, 1] * 101, "g": [f"{i:03d}" for i in range(202)]})
    assert made_by("y ~ hashed(g, 4)", data).typical["g"] == {"value": "000", "levels": []}


# -- saving -----------------------------------------------------------------------------------------------------------
def saved(formula="y ~ x + g"):
    return json.loads(json.dumps(made_by(formula, small).to_dict()))


def test_from_dict_refuses_other_formats_versions_and_keys():
    for change, message in [
        ({"format": "other"}, r"its format is 'other'"),
        ({"version": 2}, r"its version is 2, and this csoftmax reads 1"),
        ({"version": True}, r"its version is True"),
        ({"code": "print()"}, r"unknown keys 'code'"),
        ({"columns": {"x": "number"}}, r"its terms use the columns \['g', 'x'\], and it lists \['x'\]"),
        ({"columns": {"x": "number", "g": ["category"]}}, r"columns is not a dict"),
        ({"feature_names": ["x", "x"]}, r"feature_names is not a list of different texts"),
        ({"terms": [[["eval", "x"]]]}, r"has the kind 'eval'"),
        ({"typical": {}}, r"typical is no dict of its columns"),
        ({"typical": {"x": {"value": 1}, "g": {}}}, r"the typical values of 'x' are neither"),
        ({"typical": {"x": {"value": 1, "low": "print()", "high": 1}, "g": {}}}, r"of 'x' are not plain values"),
        ({"levels": [["g", [None]]]}, r"the levels of 'g' are not plain values"),
        ({"transforms": [["scale(x)", {"object": 1}]]}, r"state of the transform 'scale\(x\)' cannot be read"),
    ]:
        with pytest.raises(ValueError, match=message):
            Design.from_dict({**saved(), **change})
    short = saved()
    del short["terms"]
    with pytest.raises(ValueError, match=r"the keys 'terms' are absent"):
        Design.from_dict(short)
    with pytest.raises(ValueError, match=r"it is list, not a dict"):
        Design.from_dict([])


ATTACKS = [
    "__import__('os').system('touch owned')",
    "scale(x, __import__('os').system('touch owned'))",
    "x.__class__",
    "np.load('owned', allow_pickle=True)",
    "np.lib.format.open_memmap('owned')",
    "C(x, contr.__subclasses__())",
    "open('owned', 'w')",
    "(lambda: open('owned', 'w'))()",
    "[open('owned', 'w') for _ in [1]][0]",
    "f\"{open('owned', 'w')}\"",
    "scale(x, _state=__builtins__)",
    "scale(x, **{'_state': {}})",
    "`lambda`: open('owned', 'w')",
    "(y := open('owned', 'w'))",
    # formulaic pastes a transform's text between double quotes into code that it evaluates
    "Q(\"'] + [__import__('os').system('touch owned')] + ['\")",
    "scale(x, \"it's\\\"] or open('owned', 'w') or [\")",
    "poly(x, 'a\\\\')",
    "x" + "+x" * 5000,
    "log(" * 500 + "x" + ")" * 500,
]


@pytest.mark.parametrize("attack", ATTACKS, ids=[a[:40] for a in ATTACKS])
def test_a_saved_design_cannot_carry_code(attack, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = {**saved("y ~ x"), "terms": [[["literal", "1"]], [["python", attack]]]}
    with pytest.raises(ValueError, match=r"the term|a term"):
        Design.from_dict(data)
    with pytest.raises(ValueError, match=r"term|cannot be read|column"):
        prepare("y ~ {" + attack + "}", small)
    with pytest.raises(ValueError, match=r"term|cannot be read|column"):
        prepare("{" + attack + "} ~ .", small)
    assert list(tmp_path.iterdir()) == []


def test_levels_that_json_cannot_keep_are_an_error_that_names_the_column():
    design = made_by("y ~ g", small.assign(g=pd.cut(small["x"], [0, 2, 8])))
    assert design.matrix({"g": pd.cut([1.0, 5.0], [0, 2, 8])}).shape == (2, 1)
    with pytest.raises(TypeError, match=r"the levels of 'g' are Interval, such as .* into text first"):
        design.to_dict()


def test_a_transform_state_that_json_cannot_keep_is_an_error_that_names_the_transform():
    design = made_by("y ~ scale(x)", small)
    design._transforms["scale(x)"]["center"] = object()
    with pytest.raises(TypeError, match=r"the state of the transform 'scale\(x\)' holds a object"):
        design.to_dict()


def test_every_number_of_a_transform_state_survives_json_exactly():
    state = {"a": np.array([[0.1, 1e-300], [math.pi, -0.0]]), 3: [1, None, True, math.inf, -math.inf], "c": {0: "t"}}
    back = face._unpack(json.loads(json.dumps(face._pack(state, "t"), allow_nan=False)), "t")
    np.testing.assert_array_equal(back["a"], state["a"])
    assert back[3] == state[3]
    assert back["c"] == {0: "t"}
    assert math.isnan(face._unpack(face._pack(math.nan, "t"), "t"))


# -- the fit ----------------------------------------------------------------------------------------------------------
def test_fit_formula_is_fit_on_the_matrix(penguins):
    result = cs.fit_formula("species ~ flipper_length_mm + C(year)", penguins)
    kept = penguins.dropna(subset=["flipper_length_mm"])
    year = kept["year"].to_numpy()
    X = np.column_stack([kept["flipper_length_mm"], year == 2008, year == 2009]).astype(float)
    plain = cs.fit(X, kept["species"].to_numpy(dtype=str), reference="Adelie")
    # the same numbers in another memory layout, which may change the order of a sum
    np.testing.assert_allclose(result.coef, plain.coef, rtol=1e-8)
    np.testing.assert_allclose(result.intercept, plain.intercept, rtol=1e-8)
    assert list(result.feature_names) == ["flipper_length_mm", "C(year)[T.2008]", "C(year)[T.2009]"]
    assert result.n_missing == 2
    assert result.nobs == 342


def test_the_reference_is_the_first_class_unless_told(penguins):
    by_default = cs.fit_formula("species ~ flipper_length_mm", penguins)
    assert by_default.reference == "Adelie"
    assert by_default.coef[0].tolist() == [0.0]
    assert cs.fit_formula("species ~ flipper_length_mm", penguins, reference="Gentoo").reference == "Gentoo"
    symmetric = cs.fit_formula("species ~ flipper_length_mm", penguins, reference=None)
    assert symmetric.reference is None
    # rows that sum to 0: three of size up to 1, each rounded once
    assert abs(symmetric.coef.sum()) < 4 * np.finfo(float).eps


def test_predict_takes_a_data_frame_and_replays_the_formula(penguins):
    result = cs.fit_formula("species ~ scale(flipper_length_mm) + sex", penguins)
    new = penguins.dropna().iloc[[0, 150, 200, 300]]
    proba = result.predict_proba(new)
    logits = result.design.matrix(new) @ result.coef.T + result.intercept
    wanted = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(proba, wanted / wanted.sum(axis=1, keepdims=True), rtol=1e-12)
    assert result.predict(new).tolist() == np.asarray(result.classes)[wanted.argmax(axis=1)].tolist()
    with pytest.raises(ValueError, match=r"column 'sex' has levels that the fit did not see"):
        result.predict(new.assign(sex="unknown"))
    with pytest.raises(ValueError, match=r"missing values"):
        result.predict(penguins)


def test_a_weight_column_is_the_row_repeated():
    rows = small.loc[np.repeat(small.index, small["n"])]
    weighted = cs.fit_formula("y ~ x", small, sample_weight="n", l2=1.0)
    repeated = cs.fit_formula("y ~ x", rows, l2=1.0)
    np.testing.assert_allclose(weighted.coef, repeated.coef, rtol=1e-6)
    assert weighted.nobs == repeated.nobs == 10


def test_the_binomial_of_anes96_agrees_whichever_way_it_is_written():
    anes96 = load_anes96()
    vote = cs.fit_formula("vote ~ selfLR + age", anes96)
    named = anes96.assign(vote=np.where(anes96["vote"] == 1, "Dole", "Clinton"))
    np.testing.assert_array_equal(cs.fit_formula("vote ~ selfLR + age", named).coef, vote.coef)
    assert list(vote.classes) == [0, 1]


def test_a_result_from_a_formula_survives_json_and_pickle(penguins, tmp_path):
    result = cs.fit_formula("species ~ scale(flipper_length_mm) + sex", penguins)
    new = penguins.dropna().iloc[::40]
    result.to_json(tmp_path / "model.json")
    for back in (cs.from_json(tmp_path / "model.json"), pickle.loads(pickle.dumps(result))):
        assert back.design == result.design
        np.testing.assert_array_equal(back.predict_proba(new), result.predict_proba(new))


def test_what_the_formula_says_cannot_be_said_again():
    with pytest.raises(TypeError, match=r"takes no fit_intercept: the formula and data say it"):
        cs.fit_formula("y ~ x", small, fit_intercept=False)


def test_importing_csoftmax_imports_none_of_the_optional_libraries():
    code = "import csoftmax, sys; print([m for m in ('pandas', 'formulaic', 'rich', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_formulaic_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "formulaic", None)
    with pytest.raises(ImportError, match=r'pip install "csoftmax\[formula\]"'):
        face.fit_formula("y ~ x", small)


def test_data_that_are_no_table_are_refused():
    with pytest.raises(TypeError, match=r"data is list; a formula wants a pandas DataFrame"):
        prepare("y ~ x", [1, 2])
    with pytest.raises(TypeError, match=r"formula is int"):
        prepare(3, small)
    with pytest.raises(ValueError, match=r"missing is 'ignore'; wanted 'drop' or 'raise'"):
        prepare("y ~ x", small, missing="ignore")
