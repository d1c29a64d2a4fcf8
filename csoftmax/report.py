"""What is said of a fitted model: its summary, and the notes below every table made of it.

`result` and `comparison` stand on it. It stands on `estimates`, `sandwich` and `summary`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import chi2

from csoftmax import sandwich, tables
from csoftmax.estimates import EstimateTable
from csoftmax.objective import is_penalty
from csoftmax.samples import Array
from csoftmax.summary import Summary

if TYPE_CHECKING:
    from csoftmax.result import SoftmaxResult

# Coefficients up to which the covariance is computed and saved with a pickled or written model: its square is 32 MB.
COVARIANCE_LIMIT = 2000


def coefficients(result: SoftmaxResult) -> EstimateTable:
    """Return the coefficients, of all classes but the reference."""
    shown = [k for k in range(len(result.classes)) if k != result._reference_index]
    return EstimateTable("Coefficients", "coef", result.classes[shown].tolist(), result._parameter_names,
                         result.params[shown], result.bse[shown], response=result.response_name)


def summary(result: SoftmaxResult, level: float) -> Summary:
    """Return the summary; see `SoftmaxResult.summary`."""
    known = result._with_known_covariance()
    against = str(result.reference)
    if result.reference is None:
        rows_sum_to_0 = not is_penalty(result.l1) and np.ndim(result.l2) < 2
        against = "symmetric (rows sum to 0)" if rows_sum_to_0 else "none (all rows)"
    proved = "Certified maximum" if result.bias_reduction is None else "Certified solution"
    df_model = result.n_params - (len(result.classes) - 1) * result.fit_intercept
    left = [("Dep. variable", result.response_name), ("Reference", against),
            ("No. observations", f"{result.nobs:.10g}"), ("Df residuals", f"{result.df_resid:.10g}"),
            ("Df model", str(df_model)),
            ("Iterations", str(result.n_iter)), (proved, "yes" if result.success else "NO")]
    right = [("Log-likelihood", f"{result.log_likelihood:.3f}"), ("Null log-lik.", f"{result.null_log_likelihood:.3f}"),
             ("Pseudo R-squ.", f"{result.pseudo_r2:.5f}"), ("AIC", f"{known.aic:.3f}"), ("BIC", f"{known.bic:.3f}"),
             ("Covariance", covariance_name(result))]
    if result.cov_type == "observed" and result.bias_reduction is None and result.success and df_model:
        # against the null model; a likelihood ratio is chi-squared where the covariance is the information's
        ratio = 2.0 * (result.log_likelihood - result.null_log_likelihood)
        right.insert(2, ("LLR p-value", tables.format_pvalue(float(chi2.sf(ratio, df_model)))))
    if result.weight_type != "frequency":
        left.append(("Weights", result.weight_type))
    for name, penalty in (("l1 penalty", result.l1), ("l2 penalty", result.l2)):
        if is_penalty(penalty):
            right.append((name, penalty_text(penalty)))
    if result.bias_reduction is not None:
        right.append(("Bias reduction", result.bias_reduction.capitalize()))
    if result.n_missing:
        right.append(("Rows dropped", f"{result.n_missing} (missing)"))
    # of separated samples coefficients are whatever they are where the method stopped: they grow without bound
    blocks = [] if result._separated else coefficients(known).blocks(level)
    return Summary("Softmax regression (multinomial logit)", (left, right), blocks, level, model_notes(known),
                   "" if result.success else f"NOT A MAXIMUM: {result.message}",
                   estimates_only=result.cov_type == "none")


def covariance_notes(result: SoftmaxResult) -> list[str]:
    """Say what the standard errors are of, or why there are none: below tables that do not name the covariance."""
    if result._separated:
        return ["No standard errors: the log-likelihood has no maximum, the samples are separated."]
    robust = result.cov_type in sandwich.ROBUST and not is_penalty(result.l2)
    unknown = _undetermined(result)
    return [*([f"Standard errors: {result.cov_type}."] if robust else []), *_kind_of_errors(result),
            *([f"No standard errors of what the data do not determine (collinear columns): {unknown}."] if unknown
              else [])]


def model_notes(result: SoftmaxResult) -> list[str]:
    """Say what a summary's figures do not: how errors and degrees of freedom come about, and what is missing."""
    if result._separated:
        return []  # the message has it
    notes = _kind_of_errors(result)
    if not result._whole_frequencies:
        notes.append(f"Weights (or counts) are taken for frequencies, {result.nobs:.6g} rows in all, and not all are "
                     f"whole numbers: a survey's weights are weight_type=\"probability\".")
    if result._lacks_covariance:
        return notes
    if result.cov_type == "none":
        sparse = result._symmetric_params[:, :len(result.feature_names)]
        notes.append(f"{np.count_nonzero(sparse)} of {sparse.size} coefficients of the symmetric rows are not 0; AIC "
                     f"and BIC count {result.effective_df:.4g} degrees of freedom.")
    elif is_penalty(result.l2):
        notes.append(f"AIC and BIC count {result.effective_df:.4g} effective degrees of freedom.")
    elif abs(result.effective_df - result.n_params) > 1e-9:
        notes.append(f"AIC and BIC count {result.effective_df:.4g} effective degrees of freedom: the trace of the "
                     f"information times the covariance.")
    if unknown := _undetermined(result):
        constant = "" if not result.fit_intercept or result._estimable[-1] else (
            " The intercept is collinear with a constant column, and with dummies of all levels.")
        notes.append(f"Not determined by the data (collinear columns), shown as the minimum-norm answer: {unknown}."
                     f"{constant}")
    if result.cov_type != "none":
        without = [name for name, errors, known in zip(result._parameter_names, result.bse.T, result._estimable,
                                                       strict=True) if known and np.isnan(errors).all()]
        if without and len(without) == sum(result._estimable):
            notes.append("No standard errors: the information is singular at the estimate.")
        elif without:
            notes.append(f"No standard errors of {', '.join(without)}: float64 cannot hold their variances in these "
                         f"units of X.")
    return notes


def _kind_of_errors(result: SoftmaxResult) -> list[str]:
    if result._lacks_covariance:
        return [f"Saved without standard errors: more than {COVARIANCE_LIMIT} coefficients."]
    if result.cov_type == "none":
        return ["With l1 > 0 there are no standard errors."]
    if is_penalty(result.l2):
        kind = f"{result.cov_type}, sandwiches of" if result.cov_type in sandwich.ROBUST else "from"
        return [f"Standard errors are {kind} the penalised information."]
    return []


def _undetermined(result: SoftmaxResult) -> str:
    return ", ".join(name for name, known in zip(result._parameter_names, result._estimable, strict=True) if not known)


def covariance_name(result: SoftmaxResult) -> str:
    return result.cov_type if result.n_groups is None else f"{result.cov_type} ({result.n_groups})"


def penalty_text(penalty: float | Array) -> str:
    low, high = float(np.min(penalty)), float(np.max(penalty))
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
