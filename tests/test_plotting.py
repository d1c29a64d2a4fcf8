"""Pictures of a fitted model: what is drawn where, and its numbers.

They need matplotlib, and are skipped where it is missing.
"""

import pickle
import sys

import numpy as np
import pytest

import csoftmax as cs

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    for number in pyplot.get_fignums():
        pyplot.figure(number).canvas.draw()  # whatever only drawing finds is found, and no warning comes
    pyplot.close("all")


def make(n_classes=3, d=2, n=150, **options):
    rng = np.random.default_rng(n_classes)
    X = rng.standard_normal((n, d))
    y = (X @ rng.standard_normal((d, n_classes)) + rng.gumbel(size=(n, n_classes))).argmax(axis=1)
    return cs.fit(X, y, **options)


def points(panel):
    return [tuple(line.get_xydata()[0]) for line in panel.lines if line.get_marker() == "o"]


def intervals(panel):
    return [tuple(line.get_xdata()) for line in panel.lines if line.get_marker() == "None"
            and line.get_linewidth() > 1.5]


# -- coefficients ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("reference", [None, 1])
@pytest.mark.parametrize("d", [1, 3])
def test_each_feature_has_a_panel_with_each_class_estimate_and_interval(n_classes, reference, d):
    result = make(n_classes, d, reference=reference)
    panels = result.plot_coefficients(level=0.9, intercept=True)
    assert [panel.get_title() for panel in panels] == [*(f"x{i + 1}" for i in range(d)), "Intercept"]
    shown = [k for k in range(n_classes) if k != reference]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == [str(k) for k in shown]
    for i, panel in enumerate(panels):
        assert points(panel) == [(result.params[k, i], row) for row, k in enumerate(shown)]
        assert intervals(panel) == [tuple(result.conf_int(level=0.9)[k, i]) for k in shown]
    top, bottom = sorted(panels[0].get_ylim())
    assert panels[0].get_ylim() == (bottom, top), "the first class is at the top"


def test_features_choose_the_panels_and_axes_are_the_callers():
    result = make(d=3)
    _, axes = pyplot.subplots(1, 2)
    panels = result.plot_coefficients(["x3", "x1"], axes=axes)
    assert [panel.get_title() for panel in panels] == ["x3", "x1"] and panels[0] is axes[0]
    _, one = pyplot.subplots()
    assert result.plot_coefficients("x2", axes=one)[0] is one
    with pytest.raises(ValueError, match="axes has 2 axes; 3 are wanted, one for each panel"):
        result.plot_coefficients(axes=axes)
    with pytest.raises(ValueError, match=r"features is \['x9'\]; a list of some of 'x1', 'x2', 'x3' is wanted"):
        result.plot_coefficients(["x9"])
    with pytest.raises(ValueError, match="no coefficient to draw"):
        result.plot_coefficients([])


def test_a_long_name_is_broken_at_the_colons_of_an_interaction():
    names = ["C(island)[T.Torgersen]:C(year)[T.2008]", "x" * 40, "short: one"]
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(np.random.default_rng(0).standard_normal((40, 3)), columns=names)
    panels = cs.fit(X, np.arange(40) % 2).plot_coefficients()
    assert [panel.get_title() for panel in panels] == [
        "C(island)[T.Torgersen]:\nC(year)[T.2008]", "x" * 36 + "\nxxxx", "short: one"]


def test_without_a_standard_error_the_point_stands_alone():
    panel = make(l1=1.0).plot_coefficients()[0]
    assert len(points(panel)) == 3 and np.isnan(intervals(panel)).all()


def test_a_separated_fit_has_no_coefficients_to_draw():
    with pytest.warns(cs.SeparationWarning):
        result = cs.fit(np.arange(6.0).reshape(-1, 1), [0, 0, 0, 1, 1, 1])
    with pytest.raises(ValueError, match="grow without bound, there is nothing to draw"):
        result.plot_coefficients()
    assert len(result.plot_probabilities("x1").lines) == 2


# -- probabilities -----------------------------------------------------------------------------------------------------
def band(ax, k):
    """The lower and the upper edge of the k-th band."""
    vertices = ax.collections[k].get_paths()[0].vertices
    n = len(ax.lines[k].get_xdata())
    return vertices[1:n + 1, 1], vertices[n + 2:2 * n + 2, 1][::-1]


@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("reference", [None, 1])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_lines_are_predictions_with_the_other_features_at_their_weighted_means(n_classes, reference, fit_intercept):
    rng = np.random.default_rng(n_classes)
    X, weight = rng.standard_normal((150, 2)) + 3.0, rng.integers(0, 3, 150)
    result = cs.fit(X, rng.integers(0, n_classes, 150), reference=reference, sample_weight=weight,
                    fit_intercept=fit_intercept)
    ax = result.plot_probabilities("x2")
    kept = X[weight > 0, 1]
    grid = np.linspace(kept.min(), kept.max(), 101)
    rows = np.column_stack([np.full(101, np.average(X[:, 0], weights=weight)), grid])
    wanted = result.predict_proba(rows)
    for k in range(n_classes):
        np.testing.assert_allclose(ax.lines[k].get_xdata(), grid, rtol=1e-15)
        np.testing.assert_allclose(ax.lines[k].get_ydata(), wanted[:, k], rtol=1e-12)


@pytest.mark.parametrize(("at", "error", "says"), [
    (3, TypeError, "at is 3; a mapping of features to values is wanted"),
    ({"x2": "high"}, ValueError, "at has 'high' for 'x2'; a number is wanted"),
    ({"x2": [0.0, 1.0]}, ValueError, r"at has \[0.0, 1.0\] for 'x2'; a number is wanted"),
    ({"x9": 0.0}, ValueError, "at names 'x9'; one of 'x1', 'x2' is wanted"),
    ({"x1": 0.0}, ValueError, "at holds 'x1' still"),
])
def test_at_says_what_it_wants(at, error, says):
    with pytest.raises(error, match=says):
        make(d=2).plot_probabilities("x1", at=at)


def test_where_the_other_features_are_held_stands_above_the_picture():
    assert make(d=3).plot_probabilities("x1", at={"x2": 0.5, "x3": -2.0}).get_title("left") == "at x2=0.5, x3=-2"
    assert make(d=1).plot_probabilities("x1").get_title("left") == ""
    at = {f"x{i}": 1000.0 * i for i in range(2, 21)}
    assert make(d=20, l2=1.0).plot_probabilities("x1", at=at).get_title("left") == (
        "at x2=2000, x3=3000, x4=4000, x5=5000, x6=6000, x7=7000, x8=8000, x9=9000 and 11 more")


@pytest.mark.parametrize("options", [{}, {"reference": 1}, {"l2": 2.0}, {"bias_reduction": "firth"}])
@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_bands_are_the_delta_methods_on_the_logit_scale(n_classes, options):
    result = make(n_classes, **options)
    ax = result.plot_probabilities("x1", values=[-1.0, 0.5, 2.0], at={"x2": 0.3}, level=0.9)
    rows = np.array([[-1.0, 0.3], [0.5, 0.3], [2.0, 0.3]])

    def logits_of_probabilities(theta):
        params = theta.reshape(n_classes, -1)
        p = cs.predict_proba(rows, params[:, :2], params[:, 2])
        return np.log(p / (1.0 - p))

    symmetric = result._symmetric_params.ravel()
    step = 1e-5
    jacobian = np.stack([(logits_of_probabilities(symmetric + step * e) - logits_of_probabilities(symmetric - step * e))
                         / (2 * step) for e in np.eye(len(symmetric))], axis=-1)
    covariance = result._covariance().reshape(2 * (len(symmetric),))
    half = 1.6448536269514722 * np.sqrt(np.einsum("nki,ij,nkj->nk", jacobian, covariance, jacobian))
    centre = logits_of_probabilities(symmetric)
    for k in range(n_classes):
        low, high = band(ax, k)
        # central differences with a step of 1e-5: their error is about its square
        np.testing.assert_allclose(low, 1 / (1 + np.exp(-(centre - half)[:, k])), rtol=1e-8)
        np.testing.assert_allclose(high, 1 / (1 + np.exp(-(centre + half)[:, k])), rtol=1e-8)


def test_bands_and_lines_do_not_depend_on_the_reference():
    first, second = (make(4, reference=reference).plot_probabilities("x1") for reference in (None, 2))
    for k in range(4):
        np.testing.assert_allclose(first.lines[k].get_ydata(), second.lines[k].get_ydata(), rtol=1e-12)
        for ours, theirs in zip(band(first, k), band(second, k), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_probabilities_far_out_are_drawn_without_a_warning():
    ax = make().plot_probabilities("x1", values=[-1e4, 0.0, 1e4])
    edges = np.array([band(ax, k) for k in range(3)])
    assert np.isfinite(edges).all() and edges.min() >= 0 and edges.max() <= 1


def test_with_l1_there_are_lines_and_no_bands_and_the_data_are_asked_for():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 2))
    result = cs.fit(X, rng.integers(0, 3, 100), l1=1.0)
    with pytest.raises(ValueError, match="X is None, and this result was saved without its data, or has l1 > 0"):
        result.plot_probabilities("x1")
    ax = result.plot_probabilities("x1", X=X)
    assert len(ax.lines) == 3 and not any(collection.get_paths() for collection in ax.collections)


def test_a_saved_model_is_drawn_from_data_that_are_given():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 2)).astype(np.float32)
    result = cs.fit(X, rng.integers(0, 3, 100))
    ours = result.plot_probabilities("x1")
    theirs = pickle.loads(pickle.dumps(result)).plot_probabilities("x1", X=X)
    np.testing.assert_allclose(ours.lines[0].get_ydata(), theirs.lines[0].get_ydata(), rtol=1e-12)


def test_names_that_are_unknown_are_refused():
    result = make()
    with pytest.raises(ValueError, match="feature names 'x9'; one of 'x1', 'x2' is wanted"):
        result.plot_probabilities("x9")
    with pytest.raises(ValueError, match="at names 'x9'; one of"):
        result.plot_probabilities("x1", at={"x9": 1.0})
    with pytest.raises(ValueError, match="at holds 'x1' still, which is the feature to be drawn"):
        result.plot_probabilities("x1", at={"x1": 1.0})
    with pytest.raises(ValueError, match="level is 95; a number between 0 and 1 is wanted"):
        result.plot_probabilities("x1", level=95)


def test_classes_choose_what_is_drawn_in_their_own_colours():
    result = make(4)
    every, some = result.plot_probabilities("x1"), result.plot_probabilities("x1", classes=[3, 1])
    assert [line.get_label() for line in some.lines] == ["3", "1"]
    for line, k in zip(some.lines, (3, 1), strict=True):
        assert line.get_ydata().tolist() == every.lines[k].get_ydata().tolist()
        assert line.get_color() == every.lines[k].get_color()
    for wrong in ([7], [], "1"):
        with pytest.raises(ValueError, match=r"a list of some of 0, 1, 2, 3 is wanted"):
            result.plot_probabilities("x1", classes=wrong)


def test_the_axes_are_the_callers_and_the_legend_names_classes_and_response():
    result = make()
    _, ax = pyplot.subplots()
    assert result.plot_probabilities("x1", ax=ax) is ax
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["0", "1", "2"]
    assert ax.get_legend().get_title().get_text() == "y"
    assert ax.get_xlabel() == "x1" and ax.get_ylabel() == "probability" and ax.get_ylim() == (0, 1)
    outside = result.plot_probabilities("x1")
    assert outside.get_legend() is None and len(outside.figure.legends) == 1, "beside the data, not over them"


# -- models fitted by formula ------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def by_formula():
    pytest.importorskip("formulaic")
    penguins = cs.datasets.load_penguins()
    return cs.fit_formula("species ~ scale(flipper_length_mm) * sex + C(year)", penguins, l2=0.5), penguins


def test_a_formulas_variables_are_drawn_not_its_columns(by_formula):
    result, penguins = by_formula
    kept = penguins.dropna(subset=["flipper_length_mm", "sex"])
    ax = result.plot_probabilities("flipper_length_mm")
    x = ax.lines[0].get_xdata()
    assert (x[0], x[-1]) == (172.0, 231.0)
    mode = {"sex": kept["sex"].mode()[0], "year": kept["year"].mode()[0]}
    wanted = result.predict_proba({"flipper_length_mm": x, "sex": [mode["sex"]] * 101, "year": [mode["year"]] * 101})
    for k in range(3):
        np.testing.assert_allclose(ax.lines[k].get_ydata(), wanted[:, k], rtol=1e-12)


@pytest.mark.parametrize("feature, levels", [("sex", ["female", "male"]), ("year", [2007, 2008, 2009])])
def test_categories_are_points_with_intervals_at_their_levels(by_formula, feature, levels):
    result, _ = by_formula
    ax = result.plot_probabilities(feature, at={"flipper_length_mm": 200.0})
    assert [label.get_text() for label in ax.get_xticklabels()] == [str(level) for level in levels]
    rows = {"flipper_length_mm": [200.0] * len(levels), "sex": ["male"] * len(levels), "year": [2009] * len(levels)}
    wanted = result.predict_proba({**rows, feature: levels})
    for k in range(3):
        np.testing.assert_allclose(ax.lines[k].get_ydata(), wanted[:, k], rtol=1e-12)
        assert np.abs(np.round(ax.lines[k].get_xdata()) - np.arange(len(levels))).max() == 0, "about its level's place"
        for (_, low), (_, high) in ax.collections[k].get_segments():
            assert low < high
    assert result.plot_probabilities("year", values=[2008]).get_xticks().tolist() == [0]


def test_a_formulas_model_is_drawn_without_its_data(by_formula, tmp_path):
    result, penguins = by_formula
    result.to_json(tmp_path / "m.json")
    read = cs.from_json(tmp_path / "m.json")
    np.testing.assert_array_equal(read.plot_probabilities("flipper_length_mm").lines[0].get_ydata(),
                                  result.plot_probabilities("flipper_length_mm").lines[0].get_ydata())
    some = penguins[penguins["flipper_length_mm"] < 200]
    assert read.plot_probabilities("flipper_length_mm", X=some).lines[0].get_xdata().max() == 199.0


# -- convergence -------------------------------------------------------------------------------------------------------
def test_convergence_is_the_history(tmp_path):
    result = make(solver="L-BFGS-B")
    above, below = result.plot_convergence()
    assert above.lines[0].get_ydata().tolist() == result.history.gradient_norm.tolist()
    gain = result.history.penalized_log_likelihood[-1] - result.history.penalized_log_likelihood
    drawn = below.lines[0].get_ydata()
    assert drawn[gain > 0].tolist() == gain[gain > 0].tolist() and np.isnan(drawn[gain <= 0]).all()
    with pytest.raises(ValueError, match="axes has 1 axes; 2 are wanted"):
        result.plot_convergence(above)
    result.to_json(tmp_path / "m.json")
    with pytest.raises(ValueError, match="no history of its iterations: JSON does not keep it"):
        cs.from_json(tmp_path / "m.json").plot_convergence()


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    result = make()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (result.plot_coefficients, lambda: result.plot_probabilities("x1"), result.plot_convergence):
        with pytest.raises(ImportError, match=r'pip install "csoftmax\[plot\]"'):
            draw()
