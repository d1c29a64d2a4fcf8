"""Models side by side: what stands in which cell, re-based to one reference, blank where there is nothing.

It stands on csoftmax.compare.
"""

import numpy as np
import pytest
from test_summary import html_rows, latex_cells

import csoftmax as cs


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((200, 3))
    y = (X @ rng.standard_normal((3, 3)) + rng.gumbel(size=(200, 3))).argmax(axis=1)
    return X, np.array(["low", "mid", "top"])[y]


def block(comparison, label):
    return next(block for block in comparison.blocks if block.label == label)


def test_coefficients_stand_above_their_standard_errors(data):
    X, y = data
    result = cs.fit(X, y, reference="low")
    lines = str(cs.compare(result, names=["only"])).splitlines()
    at = lines.index("y=mid")
    assert lines[at + 1].split() == ["x1", f"{result.coef[1, 0]:.4f}" if abs(result.coef[1, 0]) >= 1
                                     else f"{result.coef[1, 0]:#.4g}"]
    assert lines[at + 2].split() == [f"({result.bse[1, 0]:#.4g})"]
    assert "y=low" not in lines, "the reference has no block"


def test_another_reference_is_rebased_exactly_and_said(data):
    X, y = data
    first, other, symmetric = (cs.fit(X, y, reference=reference) for reference in ("low", "top", None))
    comparison = cs.compare(first, other, symmetric)
    assert comparison.reference == "low"
    for k, label in ((1, "mid"), (2, "top")):
        cells = block(comparison, label)
        for j in range(3):
            # the same maximum from the same start: only the subtraction of the reference is done here
            np.testing.assert_array_equal(cells.params[:, j], first.params[k])
            np.testing.assert_array_equal(cells.bse[:, j], first.bse[k])
    assert "Re-based, standard errors too: (2) from top, (3) from all rows." in comparison.notes
    back = cs.compare(symmetric, first)
    assert [cells.label for cells in back.blocks] == ["low", "mid", "top"]
    np.testing.assert_array_equal(back.blocks[0].params[:, 1], symmetric.params[0])
    assert not any("Re-based" in note for note in cs.compare(first, first).notes)


def test_what_a_model_does_not_have_is_blank(data):
    X, y = data
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    small = cs.fit(frame[["a"]], y, reference="low", fit_intercept=False)
    other = cs.fit(frame[["c", "a"]][y != "mid"], y[y != "mid"], reference="low")
    comparison = cs.compare(small, other, names=["small", "other"])
    mid, top = block(comparison, "mid"), block(comparison, "top")
    assert mid.names == ["a"] and mid.present.tolist() == [[True, False]]
    assert top.names == ["a", "c", "Intercept"]
    assert top.present.tolist() == [[True, True], [False, True], [False, True]]
    assert top.params[0].tolist() == [small.params[2, 0], other.params[1, 1]]
    assert top.params[1, 1] == other.params[1, 0] and np.isnan(top.params[1, 0])
    assert "nan" not in str(comparison) and "nan" not in comparison._repr_html_() + comparison.to_latex()
    assert any("different numbers of observations" in note for note in comparison.notes)


def test_a_feature_called_intercept_is_not_the_constant(data):
    X, y = data
    pd = pytest.importorskip("pandas")
    named = cs.fit(pd.DataFrame(X[:, :1], columns=["Intercept"]), y, reference="low")
    cells = block(cs.compare(named, cs.fit(X[:, :1], y, reference="low")), "mid")
    assert cells.names == ["Intercept", "x1", "(Intercept)"]
    assert cells.present.tolist() == [[True, False], [False, True], [True, True]]
    assert cells.params[:, 0][[0, 2]].tolist() == named.params[1].tolist()


def test_models_that_cannot_be_put_on_one_reference_are_refused(data):
    X, y = data
    three = cs.fit(X, y, reference="mid")
    two = cs.fit(X[y != "mid"], y[y != "mid"], reference="low")
    with pytest.raises(ValueError, match=r"the model \(2\) has no class 'mid', the reference of \(1\)"):
        cs.compare(three, two)
    with pytest.raises(ValueError, match=r"different classes and no reference: symmetric rows are deviations"):
        cs.compare(cs.fit(X, y), two)


def test_arguments_that_are_no_models_or_names_are_refused(data):
    result = cs.fit(*data)
    with pytest.raises(TypeError, match="model 2 is int; a SoftmaxResult is wanted"):
        cs.compare(result, 3)
    with pytest.raises(TypeError, match=r"model 1 is list; .*one by one: compare\(a, b, names="):
        cs.compare([result, result])
    with pytest.raises(ValueError, match="compare got no model"):
        cs.compare()
    for names in (["a"], ["a", "a"], ["a", "b", "c"]):
        with pytest.raises(ValueError, match="2 different ones are wanted, one for each model"):
            cs.compare(result, result, names=names)


def test_what_sums_the_models_up_is_each_models_own(data):
    X, y = data
    models = cs.fit(X, y, reference="low"), cs.fit(X, y, l2=2.0, reference="low"), cs.fit(X, y, l1=2.0, reference="low")
    rows = cs.compare(*models).statistics
    assert rows["AIC"] == [f"{model.aic:.3f}" for model in models]
    assert rows["BIC"] == [f"{model.bic:.3f}" for model in models]
    assert rows["Log-likelihood"] == [f"{model.log_likelihood:.3f}" for model in models]
    assert rows["Pseudo R-squ."] == [f"{model.pseudo_r2:.5f}" for model in models]
    assert rows["No. observations"] == ["200"] * 3
    assert rows["l2 penalty"] == ["0", "2", "0"] and rows["l1 penalty"] == ["0", "0", "2"]
    assert rows["Covariance"] == ["observed", "penalized", "none"]
    assert "Bias reduction" not in rows
    assert cs.compare(models[0], cs.fit(X, y, bias_reduction="firth")).statistics["Bias reduction"] == ["None", "Firth"]


def test_with_l1_there_is_no_standard_error_and_no_empty_row(data):
    X, y = data
    comparison = cs.compare(cs.fit(X, y, l1=1.0, reference="low"))
    lines = str(comparison).splitlines()
    assert all(line.strip() for line in lines) and "(" not in lines[lines.index("y=mid") + 1]
    assert any("With l1 > 0 there are no standard errors" in note for note in comparison.notes)


def test_a_robust_covariance_is_named_also_where_all_models_have_it(data):
    X, y = data
    robust = cs.fit(X, y, reference="low").with_covariance("HC0")
    clustered = robust.with_covariance("cluster", groups=np.arange(len(X)) % 7)
    assert cs.compare(robust, robust).statistics["Covariance"] == ["HC0", "HC0"]
    assert cs.compare(robust, clustered).statistics["Covariance"] == ["HC0", "cluster (7)"]
    assert "Covariance" not in cs.compare(cs.fit(X, y)).statistics


def test_a_models_notes_stand_on_one_line_and_no_word_is_broken_at_its_hyphen(data):
    X, y = data
    comparison = cs.compare(cs.fit(X, y, l2=1.0), cs.fit(X[1:], y[1:]))
    (note,) = (note for note in comparison.notes if note.startswith("(1): "))
    assert "penalised information. AIC and BIC count" in note
    assert not any(line.endswith("-") for line in str(comparison).splitlines() if line[0] not in "-=")
    assert "log-likelihoods" in str(comparison)


def test_a_separated_model_has_no_coefficients_and_says_why(data):
    with pytest.warns(cs.SeparationWarning):
        separated = cs.fit(np.arange(6.0).reshape(-1, 1), [0, 0, 0, 1, 1, 1], reference=0)
    firth = cs.fit(np.arange(6.0).reshape(-1, 1), [0, 0, 0, 1, 1, 1], reference=0, bias_reduction="firth")
    comparison = cs.compare(separated, firth)
    assert not block(comparison, 1).present[:, 0].any() and block(comparison, 1).present[:, 1].all()
    assert any(note.startswith("(1): NOT A MAXIMUM: the log-likelihood has no maximum") for note in comparison.notes)


def test_different_responses_are_named(data):
    pd = pytest.importorskip("pandas")
    X, y = data
    one, other = (cs.fit(X, pd.Series(y, name=name), reference="low") for name in ("before", "after"))
    comparison = cs.compare(one, other)
    assert comparison.statistics["Dep. variable"] == ["before", "after"]
    assert [cells.title for cells in comparison.blocks] == ["mid", "top"]
    assert [cells.title for cells in cs.compare(one, one).blocks] == ["before=mid", "before=top"]


def test_three_models_fit_into_80_columns(data):
    X, y = data
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=["flipper_length_mm", "body_mass_g", "sex[T.male]"])
    models = [cs.fit(frame.iloc[:, :d] * 1000.0, y, reference="low") for d in (1, 2, 3)]
    text = str(cs.compare(*models))
    assert max(map(len, text.splitlines())) <= 80


def test_html_and_latex_have_a_column_for_each_model(data):
    X, y = data
    comparison = cs.compare(cs.fit(X, y), cs.fit(X[:, :2], y), names=["a_1", "<b>"])
    rows = html_rows(comparison.to_html())
    assert comparison._repr_html_() == comparison.to_html()
    assert rows[0] == ["", "a_1", "<b>"]
    assert {len(row) for row in rows} == {1, 3}, "a class's title spans its row"
    (latex,) = latex_cells(comparison.to_latex(caption="c", label="l"))
    assert latex[0] == ["", r"a\_1", r"\textless{}b\textgreater{}"]
    text = [line.split() for line in str(comparison).splitlines()]
    for name, *cells in rows[1:]:
        if name and cells:
            assert [*name.split(), *" ".join(cells).split()] in text


def test_a_frame_has_a_row_for_each_class_and_feature(data):
    pytest.importorskip("pandas")
    X, y = data
    one, two = cs.fit(X, y, reference="low"), cs.fit(X[:, :2], y, reference="low")
    frame = cs.compare(one, two, names=["one", "two"]).to_frame()
    assert frame.index.names == ["class", "feature"]
    assert frame.index.tolist() == [(label, name) for label in ("mid", "top")
                                    for name in ("x1", "x2", "x3", "Intercept")]
    assert frame[("one", "estimate")].tolist() == one.params[1:].ravel().tolist()
    assert frame[("one", "std_error")].tolist() == one.bse[1:].ravel().tolist()
    assert frame.loc[("top", "x2"), ("two", "estimate")] == two.params[2, 1]
    assert np.isnan(frame.loc[("top", "x3"), ("two", "estimate")])


def test_a_model_saved_without_its_covariance_is_shown_and_says_so():
    import pickle
    rng = np.random.default_rng(0)
    result = cs.fit(rng.standard_normal((300, 70)), np.arange(300) % 30, l2=1.0, reference=0)
    saved = pickle.loads(pickle.dumps(result))
    comparison = cs.compare(saved)
    assert np.isnan(comparison.blocks[0].bse).all()
    assert comparison.notes[-1] == "(1): Saved without standard errors: more than 2000 coefficients."
