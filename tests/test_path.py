"""regularization_path(): the same fits as one by one, from the smallest penalty that makes all 0; its picture.

It stands on csoftmax.path, csoftmax.plotting and csoftmax.fitting.
"""

import numpy as np
import pytest

import csoftmax as cs
from csoftmax import encoding


def random_problem(n=150, d=6, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * np.logspace(0, 3, d)
    logits = X / np.logspace(0, 3, d) @ rng.standard_normal((d, n_classes))
    return X, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


@pytest.mark.parametrize("options", [{}, {"fit_intercept": False}, {"weights": True}])
def test_each_point_is_the_fit_at_its_penalty(options):
    X, y = random_problem()
    options = dict(options)
    if options.pop("weights", False):
        rng = np.random.default_rng(1)
        options.update(sample_weight=rng.integers(0, 3, len(y)), offset=rng.standard_normal((len(y), 3)))
    factor = X.std(axis=0)
    path = cs.regularization_path(X, y, n_penalties=6, l1_ratio=0.7, penalty_factor=factor, **options)
    assert path.success.all() and path.coef.shape == (6, 3, 6)
    assert (path.intercept is None) == (options.get("fit_intercept") is False)
    for i, penalty in enumerate(path.penalties):
        one = cs.fit(X, y, l1=0.7 * penalty * factor, l2=0.3 * penalty * factor, **options)
        np.testing.assert_allclose(path.coef[i] * factor, one.coef * factor, rtol=1e-8, atol=1e-11)
        np.testing.assert_array_equal(path.coef[i] == 0, one.coef == 0)
        assert path.log_likelihood[i] == pytest.approx(one.log_likelihood, rel=1e-12, abs=0)
        assert path.penalized_log_likelihood[i] == pytest.approx(one.penalized_log_likelihood, rel=1e-12, abs=0)
        assert path.df[i] == pytest.approx(one.effective_df, rel=1e-8, abs=0)
        assert path.bic[i] == pytest.approx(one.bic, rel=1e-10, abs=0)
        assert path.pseudo_r2[i] == pytest.approx(one.pseudo_r2, abs=1e-12)
    np.testing.assert_array_equal(path.n_active, np.count_nonzero(path.coef, axis=(1, 2)))


@pytest.mark.parametrize("factor", [1.0, [0.0, 1.0, 1.0, 0.0, 2.0, 1.0]])
def test_it_starts_at_the_smallest_penalty_at_which_all_penalised_coefficients_are_zero(factor):
    X, y = random_problem()
    path = cs.regularization_path(X, y, n_penalties=4, min_ratio=0.1, penalty_factor=factor)
    penalized = np.broadcast_to(factor, 6) > 0
    assert not path.coef[0][:, penalized].any() and path.coef[0][:, ~penalized].all()
    assert path.n_active[1] > path.n_active[0]
    nearly = cs.fit(X, y, l1=path.penalties[0] * (1 - 1e-6) * np.asarray(factor))
    assert np.count_nonzero(nearly.coef[:, penalized]) == 1
    np.testing.assert_allclose(path.penalties / path.penalties[0], np.geomspace(1, 0.1, 4), rtol=1e-14)


def test_data_are_checked_once(monkeypatch):
    X, y = random_problem()
    calls = []
    check = encoding.check_finite
    monkeypatch.setattr(encoding, "check_finite", lambda name, *rest: (calls.append(name), check(name, *rest)))
    cs.regularization_path(X, y, n_penalties=10)
    assert calls.count("X") == 1


def test_more_features_than_samples_end_the_path_earlier():
    rng = np.random.default_rng(0)
    path = cs.regularization_path(rng.standard_normal((30, 60)), np.arange(30) % 3, n_penalties=5)
    assert path.success.all() and path.penalties[-1] == pytest.approx(0.01 * path.penalties[0], rel=1e-12)


def test_given_penalties_are_taken_and_shown_as_a_table():
    X, y = random_problem()
    path = cs.regularization_path(X, y, penalties=[50.0, 5.0])
    np.testing.assert_array_equal(path.penalties, [50.0, 5.0])
    lines = str(path).splitlines()
    assert len(lines) == 4 and lines[2].split()[:2] == ["50", str(path.n_active[0])]
    assert "not certified" not in str(path)


def test_points_that_are_not_certified_are_warned_of():
    X, y = random_problem(n=40, d=2)
    with pytest.warns(cs.ConvergenceWarning, match=r"of 3 fits of the path were not certified, first at the penalty"):
        path = cs.regularization_path(X, y, n_penalties=3, min_ratio=1e-3, tol=1e-300)
    assert not path.success.all() and "not certified" in str(path)


def test_what_is_wrong_is_named():
    X, y = random_problem()
    for options, message in [
        ({"l1_ratio": 0}, "l1_ratio is 0; a number above 0 and up to 1 is wanted"),
        ({"l1_ratio": 1.5}, "l1_ratio is 1.5"),
        ({"n_penalties": 0}, "n_penalties is 0; a whole number from 1"),
        ({"l1_ratio": True}, "l1_ratio is True"),
        ({"min_ratio": 1}, "min_ratio is 1; a number between 0 and 1"),
        ({"min_ratio": "a"}, "min_ratio is 'a'; a number between 0 and 1"),
        ({"min_ratio": np.array([0.1, 0.2])}, "min_ratio is array.*; a number between 0 and 1"),
        ({"penalties": [1.0, 2.0]}, "penalties are not decreasing positive numbers"),
        ({"penalties": 3.0}, r"penalties has shape \(\)"),
        ({"penalty_factor": np.zeros(6)}, "penalty_factor is 0 for all coefficients"),
        ({"penalty_factor": [1, 2]}, r"penalty_factor has shape \(2,\); a number, \(6,\)"),
        ({"tol": 0}, "tol is 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            cs.regularization_path(X, y, **options)
    with pytest.raises(ValueError, match="penalties is None, and no penalty is too small"):
        cs.regularization_path(np.ones((6, 2)), [0, 1, 2, 0, 1, 2])


def test_the_picture_has_a_panel_for_each_class_and_a_line_for_each_feature():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot
    X, y = random_problem()
    path = cs.regularization_path(X, y, n_penalties=5, penalty_factor=X.std(axis=0))
    panels = path.plot(n_labels=2)
    assert len(panels) == 3 and [panel.get_title() for panel in panels] == ["0", "1", "2"]
    curves = {tuple(line.get_ydata()) for line in panels[1].lines if len(line.get_xdata()) == 5}
    assert curves == {tuple(column) for column in (path.coef * X.std(axis=0))[:, 1].T}
    assert len(panels[0].figure.legends[0].get_texts()) == 2
    left, right = panels[0].get_xlim()
    assert left > right, "large penalties are left"
    _, axes = pyplot.subplots(1, 2)
    with pytest.raises(ValueError, match="axes has 2 axes; 3 are wanted"):
        path.plot(axes)
    pyplot.close("all")


def test_a_path_takes_weights_of_the_smallest_numbers():
    X, y = np.random.default_rng(0).standard_normal((40, 3)), np.arange(40) % 3
    plain = cs.regularization_path(X, y, n_penalties=3)
    tiny = cs.regularization_path(X * 2.0**-30, y, sample_weight=np.full(40, 2.0**-1020), n_penalties=3)
    np.testing.assert_allclose(tiny.coef * 2.0**-30, plain.coef, rtol=1e-6, atol=1e-9)


def test_a_path_is_shown_in_one_line():
    X, y = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 3
    text = repr(cs.regularization_path(X, y, penalties=[8.0, 2.0, 0.5]))
    assert text == "<RegularizationPath: 3 penalties from 8 to 0.5, 3 classes, 2 features, 3 points certified>"
