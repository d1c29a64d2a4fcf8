"""What a result tells: summary as text and HTML, intervals, predictions, pickle and JSON.

It stands on csoftmax.fit and csoftmax.from_json.
"""

import copy
import json
import pickle
import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import csoftmax as cs


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, 2))
    y = (X @ rng.standard_normal((2, 3)) + rng.gumbel(size=(150, 3))).argmax(axis=1)
    return X, np.array(["low", "mid", "top"])[y]


@pytest.fixture
def result(data):
    return cs.fit(*data, reference="low")


def test_shapes_are_those_of_classes_by_features_and_intercept(result):
    assert result.coef.shape == (3, 2) and result.intercept.shape == (3,)
    for array in (result.params, result.bse, result.zvalues, result.pvalues):
        assert array.shape == (3, 3)
    assert result.conf_int().shape == (3, 3, 2)
    assert result.cov_params().shape == (6, 6)
    assert result.classes.tolist() == ["low", "mid", "top"]


@pytest.mark.parametrize("reference", [pd.NA, pd.NaT, np.nan, np.array(["low", "mid"]), ["low"], 0, "LOW"], ids=repr)
def test_a_reference_that_is_no_class_is_named_beside_the_classes(data, reference):
    message = re.escape(f"reference is {reference!r}; one of the classes 'low', 'mid', 'top' is wanted")
    with pytest.raises(ValueError, match=message):
        cs.fit(*data, reference=reference)


def test_symmetric_rows_have_a_full_singular_covariance(data):
    symmetric = cs.fit(*data)
    covariance = symmetric.cov_params()
    assert covariance.shape == (9, 9)
    assert np.linalg.matrix_rank(covariance, tol=1e-10) == 6
    np.testing.assert_allclose(np.sqrt(np.diag(covariance)).reshape(3, 3), symmetric.bse, rtol=1e-14)


def test_without_an_intercept_there_is_none(data):
    bare = cs.fit(*data, fit_intercept=False)
    assert bare.intercept is None and bare.params.shape == (3, 2)
    assert cs.predict_proba(data[0], bare.coef, bare.intercept).shape == (150, 3)


def test_standard_errors_are_those_of_the_inverse_hessian(data, result):
    hessian = cs.hessian(data[0], np.searchsorted(result.classes, data[1]), result.coef, result.intercept)
    covariance = np.linalg.inv(-hessian[3:, 3:])  # the reference's rows and columns dropped
    np.testing.assert_allclose(result.cov_params(), covariance, rtol=1e-9)
    np.testing.assert_allclose(result.bse[1:].ravel(), np.sqrt(np.diag(covariance)), rtol=1e-10)


@pytest.mark.parametrize("level", [0, 1, 95, -0.1, np.nan, "0.9", None])
def test_a_level_that_is_none_is_named_by_all_that_takes_one(data, result, level):
    table = result.contrasts()
    for method in (result.conf_int, result.summary, result.to_frame, table.conf_int, table.summary, table.to_frame):
        with pytest.raises(ValueError, match=re.escape(f"level is {level!r}; a number between 0 and 1 is wanted")):
            method(level=level)
    with pytest.raises(ValueError, match="level is"):
        result.predict_proba_interval(data[0], level=level)


def test_z_values_p_values_and_intervals_are_walds(result):
    z = result.params[1:] / result.bse[1:]
    np.testing.assert_allclose(result.zvalues[1:], z, rtol=1e-15)
    np.testing.assert_allclose(result.pvalues[1:], 2 * norm.cdf(-np.abs(z)), rtol=1e-12)
    low, high = np.moveaxis(result.conf_int(level=0.9)[1:], -1, 0)
    np.testing.assert_allclose((high - low) / 2, norm.ppf(0.95) * result.bse[1:], rtol=1e-12)
    with pytest.raises(ValueError, match="level is 95; a number between 0 and 1 is wanted"):
        result.conf_int(level=95)


def test_ridge_covariance_is_labelled_and_counts_effective_degrees_of_freedom(data):
    X, y = data
    ridge = cs.fit(X, y, l2=3.0)
    assert ridge.cov_type == "penalized"
    codes = np.searchsorted(ridge.classes, y)
    information = -cs.hessian(X, codes, ridge.coef, ridge.intercept)
    penalized = information + np.diag(np.tile([3.0, 3.0, 0.0], 3))
    # on rows that sum to 0: both matrices restricted to that subspace
    basis = np.kron(np.linalg.svd(np.eye(3) - 1 / 3)[0][:, :2], np.eye(3))
    inner, outer = basis.T @ information @ basis, basis.T @ penalized @ basis
    assert ridge.effective_df == pytest.approx(np.trace(np.linalg.solve(outer, inner)), rel=1e-10, abs=0)
    assert ridge.effective_df < ridge.n_params == 6
    assert ridge.aic == pytest.approx(-2 * ridge.log_likelihood + 2 * ridge.effective_df, rel=1e-14, abs=0)
    np.testing.assert_allclose(ridge.cov_params(), basis @ np.linalg.inv(outer) @ basis.T, rtol=1e-9, atol=1e-13)
    text = " ".join(str(ridge.summary()).split())
    assert "penalized" in text and "effective degrees of freedom" in text


def test_predictions_are_the_most_probable_class_and_logs_do_not_underflow(data, result):
    X, _ = data
    probabilities = result.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=4e-16 * 3)
    assert result.predict(X).tolist() == result.classes[probabilities.argmax(axis=1)].tolist()
    far = result.predict_log_proba(1e4 * np.sign(result.coef[1:2]))
    assert np.isfinite(far).all() and far.min() < -800
    out = np.empty((150, 3))
    assert result.predict_proba(X, out=out) is out


def test_the_summary_reads_like_a_regression_table(result):
    text = str(result.summary())
    lines = text.splitlines()
    assert lines[0].strip() == "Softmax regression (multinomial logit)"
    assert max(map(len, lines)) <= 100
    for piece in ("No. observations:", "Log-likelihood:", "Pseudo R-squ.:", "Certified maximum:",
                  "y=mid", "y=top", "coef", "std err", "P>|z|", "[0.025", "0.975]", "Intercept"):
        assert piece in text
    assert "y=low" not in text, "the reference has no block"
    assert f"{result.coef[1, 0]:.4f}" in text or f"{result.coef[1, 0]:.4g}" in text
    assert "[0.05" in str(result.summary(level=0.9))


def test_the_summary_shows_as_an_html_table_with_everything_escaped(data):
    X, y = data
    labels = np.where(y == "low", "<b>", y)
    page = cs.fit(X, labels).summary()._repr_html_()
    assert page.count("<table") == 2 and page.count("</table>") == 2
    assert "y=&lt;b&gt;" in page and "y=<b>" not in page


def test_a_summary_of_no_maximum_says_so():
    X, y = np.arange(6.0).reshape(-1, 1), [0, 0, 0, 1, 1, 1]
    with pytest.warns(cs.SeparationWarning):
        result = cs.fit(X, y)
    assert "NOT A MAXIMUM: the log-likelihood has no maximum" in str(result.summary())
    assert "NOT a certified maximum" in repr(result)


@pytest.mark.parametrize("keep", [pickle.dumps, copy.deepcopy])
def test_pickle_and_copy_keep_every_number_and_no_data(data, result, keep):
    kept = keep(result)
    size = len(kept) if isinstance(kept, bytes) else 0
    kept = pickle.loads(kept) if size else kept
    assert kept._coordinates is None
    assert size < 150 * 2 * 8 + 20000
    assert str(kept.summary()) == str(result.summary())
    np.testing.assert_array_equal(kept.predict_proba(data[0]), result.predict_proba(data[0]))


def test_json_keeps_every_digit_and_no_data(tmp_path, data, result):
    text = result.to_json(tmp_path / "model.json")
    assert (tmp_path / "model.json").read_text() == text + "\n"
    read = cs.from_json(tmp_path / "model.json")
    for name in ("params", "bse", "pvalues", "classes"):
        np.testing.assert_array_equal(getattr(read, name), getattr(result, name))
    for name in ("log_likelihood", "aic", "nobs", "n_params", "certificate", "message", "reference", "success"):
        assert getattr(read, name) == getattr(result, name)
    assert str(read.summary()) == str(result.summary())
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]


OF_THE_DATA = {"_coordinates", "_u", "optimize_result", "history"}


@pytest.mark.parametrize("options", [
    {}, {"reference": "top"}, {"l2": 0.7}, {"l2": [0.1, 0.3]}, {"l1": 1 / 3}, {"l1": [[0.1, 0.0]] * 3, "l2": 1e-3},
    {"bias_reduction": "firth"}, {"fit_intercept": False}, {"sample_weight": np.arange(150) / 7}])
def test_every_attribute_of_a_result_survives_json_to_the_last_digit(tmp_path, data, options):
    result = cs.fit(*data, **options)
    result.bse  # noqa: B018
    result.to_json(tmp_path / "m.json")
    read = cs.from_json(tmp_path / "m.json")
    assert vars(read).keys() == vars(result).keys()
    for name in vars(result).keys() - OF_THE_DATA:
        ours, theirs = getattr(result, name), getattr(read, name)
        if isinstance(ours, np.ndarray):
            assert ours.dtype == theirs.dtype, name
            np.testing.assert_array_equal(theirs, ours, err_msg=name)
        elif name == "certificate":
            assert repr(theirs) == repr(ours)  # nan where a bound is not proved
        else:
            assert (type(theirs), theirs) == (type(ours), ours), name
    assert str(read.summary()) == str(result.summary())
    assert read.to_json() == result.to_json()


def test_json_keeps_the_kind_of_labels(tmp_path, data):
    X, y = data
    codes = np.searchsorted(["low", "mid", "top"], y)
    for labels in (codes, codes > 0, codes + 1000):
        result = cs.fit(X, labels, reference=np.unique(labels)[0])
        result.to_json(tmp_path / "m.json")
        read = cs.from_json(tmp_path / "m.json")
        assert read.classes.tolist() == result.classes.tolist() and read.reference == result.reference
        assert [type(label) for label in read.classes.tolist()] == [type(label) for label in result.classes.tolist()]


@pytest.mark.parametrize("change, message", [
    (lambda d: d.update(format="other"), "is not a csoftmax model"),
    (lambda d: d.update(version=99), "has version 99 of the model format; this csoftmax reads version 1"),
    (lambda d: d.update(extra=1), r"unknown keys \['extra'\]"),
    (lambda d: d.pop("params"), r"missing keys \['params'\]"),
    (lambda d: d.update(params=[[1.0], [1.0, 2.0]]), "is not a valid csoftmax model"),
    (lambda d: d.update(params=[1.0, 2.0]), "is not a valid csoftmax model"),
    (lambda d: d.update(certificate={"code": "x"}), "is not a valid csoftmax model"),
    (lambda d: d.update(reference="nobody"), "is not a valid csoftmax model"),
    (lambda d: d.update(classes="abcd"), "is not a valid csoftmax model"),
    (lambda d: d.update(covariance=[[1.0]]), "is not a valid csoftmax model"),
    (lambda d: d.update(version=True), "has version True of the model format"),
    (lambda d: d.update(version=1.0), "has version 1.0 of the model format"),
    (lambda d: d.update(fit_intercept="yes"), "is not a valid csoftmax model: fit_intercept is 'yes'"),
    (lambda d: d.update(success=1), "is not a valid csoftmax model: success is 1"),
    (lambda d: d.update(n_iter=True), "is not a valid csoftmax model: n_iter is True"),
    (lambda d: d.update(log_likelihood="-1"), "is not a valid csoftmax model: log_likelihood is '-1'"),
    (lambda d: d.update(message=None), "is not a valid csoftmax model: message is None"),
    (lambda d: d.update(bias_reduction="other"), "null or 'firth' is wanted"),
    (lambda d: d.update(feature_names=["a", 2]), "strings are wanted"),
    (lambda d: d.update(classes=["low", "low", "top"]), "at least two different strings, numbers or bools"),
    (lambda d: d.update(estimable=[True]), "3 bools are wanted"),
    (lambda d: d.update(l2=[1.0, 2.0, 3.0]), "l2 has shape"),
    (lambda d: d["certificate"].update(proof="x"), "is not a valid csoftmax model"),
    (lambda d: d.update(design={"format": "other"}), "is not a valid csoftmax model: not a design"),
])
def test_a_document_it_does_not_know_is_refused(tmp_path, result, change, message):
    document = json.loads(result.to_json())
    change(document)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=message):
        cs.from_json(path)


def test_text_that_is_not_json_is_refused_and_a_missing_file_is_named(tmp_path):
    path = tmp_path / "model.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"model\.json is not JSON"):
        cs.from_json(path)
    with pytest.raises(FileNotFoundError, match=r"absent\.json"):
        cs.from_json(tmp_path / "absent.json")


def test_a_folder_that_is_not_there_is_named(tmp_path, data):
    path = tmp_path / "none" / "m.json"
    with pytest.raises(FileNotFoundError, match=r"m.json', and the folder '.*none' does not exist"):
        cs.fit(*data).to_json(path)


def test_a_failed_write_leaves_the_old_file_as_it_was(tmp_path, result):
    path = tmp_path / "model.json"
    path.write_text("old")
    result.classes = np.array([object(), object(), object()], dtype=object)
    result.reference = None
    with pytest.raises(TypeError, match="JSON holds strings, numbers and bools"):
        result.to_json(path)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_json_keeps_large_and_mixed_labels(tmp_path):
    X = np.arange(12.0).reshape(-1, 1) % 5
    for labels in (np.array([2**63 + 1, 2**63 + 2] * 6, dtype=np.uint64), [2**63 + 1, 2**63 + 2] * 6):
        result = cs.fit(X, labels, reference=2**63 + 2)
        result.to_json(tmp_path / "m.json")
        read = cs.from_json(tmp_path / "m.json")
        assert read.classes.tolist() == [2**63 + 1, 2**63 + 2] and read.reference == 2**63 + 2
        np.testing.assert_array_equal(read.coef, result.coef)


def test_a_model_without_any_parameter_has_a_summary_and_a_file(tmp_path):
    result = cs.fit(np.empty((4, 0)), [0, 1, 0, 1], fit_intercept=False)
    assert "y=0" in str(result.summary())
    result.to_json(tmp_path / "m.json")
    np.testing.assert_array_equal(cs.from_json(tmp_path / "m.json").predict_proba(np.empty((1, 0))), [[0.5, 0.5]])


def test_a_large_model_saved_without_its_covariance_says_so():
    rng = np.random.default_rng(0)
    result = cs.fit(rng.standard_normal((300, 70)), np.arange(300) % 30, l2=1.0)
    saved = pickle.loads(pickle.dumps(result))
    assert "Saved without standard errors: more than 2000 coefficients" in str(saved.summary())
    for model in (pickle.loads(pickle.dumps(result)), saved):  # the second has shown its summary: nothing changed
        with pytest.raises(ValueError, match="saved with it up to 2000 coefficients, and here there are 2130"):
            model.bse  # noqa: B018
    result.drop_data()
    assert np.isfinite(result.bse).all()
