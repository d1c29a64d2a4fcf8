"""fit() against certified references: coefficients, log-likelihood, standard errors, in raw units, default settings.

It stands on tests/references_io.py and the files in tests/data; `--references DIR` adds a larger folder of the same
layout (DIR/refs, DIR/data), and then covers every reference there.
"""

from pathlib import Path

import numpy as np
import pytest
import references_io

import csoftmax as cs
from csoftmax.maximize import SOLVERS


def pytest_generate_tests(metafunc):
    if "reference" in metafunc.fixturenames:
        kinds = metafunc.function.kinds
        folder = metafunc.config.getoption("--references")
        folder = None if folder is None else Path(folder)
        pairs = [(kind, name) for kind in kinds for name in references_io.names(kind, folder=folder)]
        if not pairs:
            raise pytest.UsageError(f"--references {folder} holds no reference of the kinds {kinds}; a folder with "
                                    f"refs/*.json and data/ is wanted")
        metafunc.parametrize("reference", pairs, ids=[name for _, name in pairs],
                             indirect=True)


@pytest.fixture
def reference(request):
    folder = request.config.getoption("--references")
    return references_io.load(request.param[1], folder=None if folder is None else Path(folder))


def of_kind(*kinds):
    def mark(function):
        function.kinds = kinds
        return function
    return mark


def fit_reference(ref, **options):
    label = None if ref.reference is None else ref.reference
    options = {"l2": ref.l2 or 0.0} | options
    return cs.fit(ref.X, ref.y, fit_intercept=ref.fit_intercept, sample_weight=ref.weights,
                  reference=label, **options)


@of_kind("unpenalised")
def test_coefficients_standard_errors_and_fit_statistics_are_the_certified_ones(reference):
    # Tolerances are the file's own: what a good float64 fit should meet on data so conditioned.
    result = fit_reference(reference)
    assert result.success and result.certificate.newton_range <= 1e-6
    tolerance = reference.tolerance
    np.testing.assert_allclose(result.params, reference.coef, rtol=tolerance["coef_rel"], atol=0)
    np.testing.assert_allclose(result.log_likelihood, reference.loglik, rtol=tolerance["loglik_rel"])
    np.testing.assert_allclose(result.bse, reference.se, rtol=tolerance["se_rel"], atol=0)
    for ours, theirs in (("aic", "aic"), ("bic", "bic"), ("null_log_likelihood", "null_loglik")):
        if theirs in reference.raw:
            np.testing.assert_allclose(getattr(result, ours), reference.raw[theirs], rtol=tolerance["loglik_rel"])
    assert result.n_params == reference.raw["n_params"]
    np.testing.assert_allclose(result.pseudo_r2, 1 - reference.loglik / reference.raw["null_loglik"], rtol=1e-8)


@of_kind("unpenalised")
def test_the_covariance_matrix_is_the_certified_one_in_theta_order(reference):
    covariance = fit_reference(reference).cov_params()
    expected = reference.covariance
    if expected is None:  # the larger files state the standard errors alone
        expected = np.delete(reference.se, reference.reference, axis=0).ravel() ** 2
        covariance = np.diag(covariance)
    # normwise: an entry near 0 has no relative digits of its own
    error = np.abs(covariance - expected).max() / np.abs(expected).max()
    assert error <= 2 * reference.tolerance["se_rel"]  # a variance is the square of a standard error


@of_kind("unpenalised")
def test_robust_and_cluster_standard_errors_are_the_certified_ones(reference):
    robust = {"HC0": (reference.hc0_se, {}),
              "cluster": (reference.cluster_se, {"groups": reference.groups, "correction": False})}
    robust = {name: (se, options) for name, (se, options) in robust.items() if se is not None}
    if not robust:
        pytest.skip("the file has none")
    result = cs.fit(reference.X, reference.y, fit_intercept=reference.fit_intercept, sample_weight=reference.weights,
                    reference=reference.reference, weight_type="probability")
    # 12 digits are stated, and reached where the file asks for 1e-7; ill-conditioned data have a tolerance of their own
    tolerance = reference.tolerance["se_rel"]
    for name, (se, options) in robust.items():
        np.testing.assert_allclose(result.with_covariance(name, **options).bse, se, atol=0,
                                   rtol=1e-11 if tolerance <= 1e-7 else tolerance)


@of_kind("ridge")
def test_ridge_coefficients_are_the_certified_ones(reference):
    result = fit_reference(reference)
    assert result.success
    largest = np.abs(reference.coef).max()
    np.testing.assert_allclose(result.params, reference.coef, rtol=0,
                               atol=reference.tolerance["coef_abs_over_max"] * largest)
    np.testing.assert_allclose(result.penalized_log_likelihood, reference.objective,
                               rtol=reference.tolerance["objective_rel"])


@of_kind("jeffreys")
def test_bias_reduced_coefficients_are_the_reference_ones(reference):
    # the file asks for 1e-8 in the coefficients; it holds 13 digits, and anes96 agrees least, to 5e-12, in a
    # coefficient 1/2000 of the largest
    result = fit_reference(reference, bias_reduction="firth")
    assert result.success and reference.tolerance["coef_rel"] >= 1e-11
    np.testing.assert_allclose(result.params, reference.coef, rtol=1e-11, atol=0)
    np.testing.assert_allclose(result.bse, reference.se, rtol=1e-11, atol=0)
    np.testing.assert_allclose(result.log_likelihood, reference.loglik, rtol=1e-13)
    np.testing.assert_allclose(result.penalized_log_likelihood, reference.objective, rtol=1e-13)


@of_kind("rank_deficient")
def test_collinear_columns_give_the_certified_log_likelihood_rank_and_a_note(reference):
    result = fit_reference(reference)
    assert result.success
    np.testing.assert_allclose(result.log_likelihood, reference.loglik, rtol=reference.tolerance["loglik_rel"])
    assert result.n_params == reference.raw["rank"] * (len(reference.classes) - 1)
    assert np.isnan(result.bse[1:]).any(), "a column that cannot be estimated has a nan standard error"
    assert "Not determined by the data" in str(result.summary())
    assert "Not determined by the data" not in str(fit_reference(reference, l2=1.0).summary())


@of_kind("separated")
def test_separated_samples_are_reported_with_classes_and_no_standard_errors(reference):
    with pytest.warns(cs.SeparationWarning, match="has no maximum"):
        result = fit_reference(reference)
    assert result.success is False
    kind = {"complete": "completely separated", "quasi": "quasi-completely separated"}[reference.separation]
    assert f"the samples are {kind} between the class" in result.message
    assert reference.separation == "quasi" or "quasi" not in result.message
    assert result.log_likelihood <= reference.supremum + 1e-9 * max(1.0, abs(reference.supremum))
    assert np.isnan(result.bse).all()


@of_kind("unpenalised", "ridge")
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_solver_reaches_the_certified_log_likelihood(reference, solver):
    result = fit_reference(reference, solver=solver)
    assert result.success, result.message
    np.testing.assert_allclose(result.log_likelihood, reference.loglik, rtol=1e-10)
