"""What a fitted model can tell.

`fitting` makes a `SoftmaxResult`; users read it. It stands on the modules that do the work, which are functions of
arrays, samples and coordinates: a method here is its docstring, what it takes from the fit, and one call.
"""

from __future__ import annotations

import functools
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import OptimizeResult

from csoftmax import (
    constraints,
    estimates,
    hypotheses,
    inference,
    likelihood,
    margins,
    probabilities,
    report,
    sandwich,
)
from csoftmax._files import written_whole
from csoftmax._threads import check_n_threads
from csoftmax.constraints import Constraints
from csoftmax.covariates import ArrayRows, Covariates, FrameRows
from csoftmax.encoding import (
    as_groups,
    as_matrix,
    as_offset,
    as_weights,
    check_finite,
    encode_known,
    outside_stacklevel,
)
from csoftmax.estimates import EstimateTable
from csoftmax.hypotheses import Fitted, HypothesisTable, HypothesisTest
from csoftmax.inference import Unseen
from csoftmax.margins import Averages
from csoftmax.maximize import Certificate, ConvergenceWarning, History
from csoftmax.metric import MetricCoordinates
from csoftmax.objective import is_penalty
from csoftmax.probabilities import PredictionTable, ProbabilityIntervals
from csoftmax.profile import Profile, ProfileError
from csoftmax.samples import Array, DenseSamples
from csoftmax.summary import Summary

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FORMAT = "csoftmax.SoftmaxResult"
VERSION = 1
WEIGHT_TYPES = ("frequency", "probability", "analytic")


class SoftmaxResult:
    """A fitted softmax regression.

    Made by `csoftmax.fit`, `csoftmax.fit_formula` and `csoftmax.from_json`.

    Attributes
    ----------
    coef : ndarray of shape (n_classes, n_features)
        Rows sum to 0 over classes, or the reference's row is 0. With l1 > 0, or l2 that differs between classes, and no
        reference: rows of least penalty (see `csoftmax.fit`).
    intercept : ndarray of shape (n_classes,), or None without one
    classes : ndarray of shape (n_classes,)
    feature_names : list of str
    reference : label or None
        The class whose row is 0; None for the symmetric rows.
    success : bool
        The certificate holds: this is the maximum (with bias reduction: the penalised score is zero here).
    message : str
        Why it is, or what went wrong and what may be done.
    n_iter : int
    certificate : Certificate
    optimize_result : scipy.optimize.OptimizeResult or None
        What scipy's method returned, in the metric's coordinates; its own `success` is False where it was stopped by
        our rule, and `success` above is what counts.
    history : csoftmax.maximize.History or None
        `penalized_log_likelihood` and `gradient_norm` of each iteration, for a plot of convergence; not kept in JSON.
    log_likelihood, penalized_log_likelihood, null_log_likelihood : float
        At the estimate; less the penalty (with bias reduction plus 1/2 log det of the information, see `fit`); of the
        intercepts alone (with weights and offset).
    nobs : float
        The sum of weight times row total; with probability and analytic weights the sum of the totals alone of the rows
        of positive weight: for labels, their number.
    n_params : int
        (n_classes - 1) times the rank of [X, 1]; with l1 > 0 the intercepts and coefficients that are not 0, n_classes
        - 1 for each feature without a 0 (Zou, Hastie & Tibshirani 2007, doi:10.1214/009053607000000127).
    cov_type : str
        "observed", or "penalized" with l2 > 0, or "none" with l1 > 0: standard errors are nan. "HC0" with probability
        weights, and what `with_covariance` was asked for.
    n_groups : int or None
        Of cov_type "cluster".
    weight_type : {"frequency", "probability", "analytic"}
    l2, l1 : float, or ndarray of shape (n_features,) or (n_classes, n_features)
        As they were given.
    bias_reduction : {"firth"} or None
    n_missing : int
        Rows that `fit_formula` dropped for missing values.
    design : csoftmax.formula.Design or None
        How a data frame becomes X, for a model fitted by formula.
    response_name : str

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> result = cs.fit(X, ["a", "b", "a", "b"], reference="a")
    >>> result.success, result.coef.round(4).tolist(), result.bse.round(4).tolist()
    (True, [[0.0], [0.9082]], [[nan, nan], [1.0852, 1.9749]])
    """

    def __init__(self, *, params: Array, fit_intercept: bool, classes: NDArray[Any], feature_names: list[str],
                 named_features: bool, reference: Any, success: bool, message: str, n_iter: int,
                 certificate: Certificate, log_likelihood: float, penalized_log_likelihood: float,
                 null_log_likelihood: float, nobs: float, n_params: int, l2: float | Array, response_name: str,
                 separated: bool, estimable: list[bool], n_coordinates: int, bias_reduction: str | None = None,
                 covariance: Array | None = None,
                 coordinates: MetricCoordinates | None = None, u: Array | None = None,
                 optimize_result: OptimizeResult | None = None, l1: float | Array = 0.0,
                 sparse_df: float | None = None, history: History | None = None, weight_type: str = "frequency",
                 cov_type: str | None = None, n_groups: int | None = None, robust_covariance: Array | None = None,
                 robust_df: float | None = None, unseen: Unseen | None = None,
                 whole_frequencies: bool = True) -> None:
        self.fit_intercept = fit_intercept
        self.classes = classes
        self.feature_names = feature_names
        self.reference = reference
        self.success = success
        self.message = message
        self.n_iter = n_iter
        self.certificate = certificate
        self.log_likelihood = log_likelihood
        self.penalized_log_likelihood = penalized_log_likelihood
        self.null_log_likelihood = null_log_likelihood
        self.nobs = nobs
        self.n_params = n_params
        self.l2 = l2
        self.l1 = l1
        self.bias_reduction = bias_reduction
        self.response_name = response_name
        self.optimize_result = optimize_result
        self.history = history
        self.weight_type = weight_type
        robust = weight_type == "probability" and not is_penalty(l1)
        self.cov_type = cov_type or ("HC0" if robust else self._model_cov_type)
        self.n_groups = n_groups
        self.n_missing = 0
        self.design: Any = None
        self._named_features = named_features
        self._separated = separated
        self._estimable = estimable
        self._n_coordinates = n_coordinates
        self._symmetric_params = params
        self._symmetric_covariance = covariance
        self._coordinates = coordinates
        self._u = u
        self._frame: Any = None  # the variables of a formula, row by row of the data kept
        self._sparse_df = sparse_df
        self._robust_covariance = robust_covariance
        self._robust_df = robust_df
        self._complete: NDArray[np.bool_] | None = None  # the rows of a data frame that none was missing from
        self._lacks_covariance = False
        self._whole_frequencies = whole_frequencies
        self._unseen = unseen if coordinates is None else Unseen.of(coordinates)

    def __repr__(self) -> str:
        state = "maximum certified" if self.success else "NOT a certified maximum"
        return (f"<SoftmaxResult: {len(self.classes)} classes, {len(self.feature_names)} features, nobs "
                f"{self.nobs:.10g}, log-likelihood {self.log_likelihood:.6g}, {state}>")

    # -------------------------------------------------------------------------------------------------------- estimates

    @property
    def _reference_index(self) -> int | None:
        return None if self.reference is None else self.classes.tolist().index(self.reference)

    @property
    def _parameter_names(self) -> list[str]:
        return inference.parameter_names(self.feature_names, self.fit_intercept)

    @property
    def params(self) -> Array:
        """Coefficients and intercept, of shape (n_classes, n_features + 1): the intercept last."""
        return inference.rebase_params(self._symmetric_params, self._reference_index)

    @property
    def coef(self) -> Array:
        return self.params[:, :len(self.feature_names)]

    @property
    def intercept(self) -> Array | None:
        return self.params[:, -1] if self.fit_intercept else None

    @property
    def bse(self) -> Array:
        """Standard errors, of the shape of `params`; nan in the reference's row and where the data do not tell."""
        if self.cov_type == "none":
            return np.full(self._symmetric_params.shape, np.nan)
        reference = self._reference_index
        return inference.standard_errors(inference.rebase_covariance(self._known_covariance(), reference), reference)

    @property
    def zvalues(self) -> Array:
        """Estimates over standard errors, of the shape of `params`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.params / self.bse

    @property
    def pvalues(self) -> Array:
        """Two-sided p-values of the hypothesis that a parameter is 0, of the shape of `params`."""
        return inference.two_sided_pvalues(self.zvalues)

    def conf_int(self, *, level: float = 0.95, method: str = "wald",
                 coefficients: str | Sequence[str] | None = None) -> Array:
        """Return confidence intervals, of shape (n_classes, n_features + 1, 2).

        Parameters
        ----------
        level : float
        method : {"wald", "profile"}
            "wald": the estimate plus and minus a normal quantile times its standard error, whatever the covariance.
            "profile": the values c that a likelihood ratio test does not reject, {c : 2 (L - max L where the
            coefficient is c) <= chi2_1(level)} (Venzon & Moolgavkar 1988, doi:10.2307/2347496), each end by a few
            maximisations. It looks at the likelihood alone, not at a robust covariance, needs the data, and is for fits
            without l1 and l2. Of separated samples an end is infinite where the likelihood never falls to the level,
            and finite otherwise. With bias reduction L is the likelihood penalised by Jeffreys' prior, and all ends are
            finite (Heinze & Schemper 2002, doi:10.1002/sim.1047).
        coefficients : str or sequence of str, optional
            Which: "x" in every equation, or "class: x"; several by commas or in a sequence; "Intercept". All others are
            nan. None: all.

        Raises
        ------
        ValueError
            If `level` is not between 0 and 1, a name is unknown, or there is no profile likelihood (l1, l2, probability
            weights) or no data.

        Warns
        -----
        ConvergenceWarning
            If an end of a profile interval was not found: the interval is nan.

        Examples
        --------
        >>> import csoftmax as cs
        >>> penguins = cs.datasets.load_penguins()
        >>> result = cs.fit_formula("species ~ flipper_length_mm + body_mass_g", penguins)
        >>> result.conf_int()[2, 0].round(4).tolist()
        [0.3827, 0.9428]
        >>> result.conf_int(method="profile", coefficients="Gentoo: flipper_length_mm")[2, 0].round(4).tolist()
        [0.4368, 1.0115]
        """
        quantile = estimates.normal_quantile(level)
        if method not in ("wald", "profile"):
            raise ValueError(f"method is {method!r}; 'wald' or 'profile' is wanted")
        names = self._constraint_names()
        chosen = np.ones(self.params.shape, dtype=bool) if coefficients is None \
            else constraints.coefficients(coefficients, names)
        if method == "profile":
            return self._profile_intervals(level, chosen, names)
        half = quantile * self.bse
        params = np.where(chosen, self.params, np.nan)
        return np.stack([params - half, params + half], axis=-1)

    def _profile_intervals(self, level: float, chosen: NDArray[np.bool_], names: constraints.Names) -> Array:
        bias_reduced = self.bias_reduction is not None
        fitted = self._likelihood("a profile interval", maximum=not self._separated, bias_reduced=bias_reduced)
        ends = np.full((*self.params.shape, 2), np.nan)
        try:
            profile = Profile(fitted, level, self._separated, bias_reduced)
        except ProfileError as error:
            warnings.warn(f"no coefficient has a profile interval: {error}", ConvergenceWarning,
                          stacklevel=outside_stacklevel())
            return ends
        for k, i in np.argwhere(chosen):
            if k == self._reference_index:
                continue
            one = np.zeros(self.params.shape)
            one[k, i] = 1.0
            try:
                ends[k, i] = profile.interval(names.symmetric(one))
            except ProfileError as error:
                warnings.warn(f"{names.classes[k]}: {names.features[i]} has no profile interval: {error}",
                              ConvergenceWarning, stacklevel=outside_stacklevel())
        return ends

    def contrasts(self) -> EstimateTable:
        """Return the coefficients of each pair of classes: the log odds of one against the other.

        Returns
        -------
        EstimateTable
            Of shape (n_classes (n_classes - 1) / 2, n_features + 1): w~_b - w~_a of the classes a < b, named "b vs a".

        Examples
        --------
        >>> import csoftmax as cs
        >>> result = cs.fit_formula("species ~ flipper_length_mm", cs.datasets.load_penguins())
        >>> table = result.contrasts()
        >>> table.groups, table.estimate[:, 0].round(4).tolist()
        (['Chinstrap vs Adelie', 'Gentoo vs Adelie', 'Gentoo vs Chinstrap'], [0.1297, 0.7167, 0.5869])
        >>> table.std_error[:, 0].round(4).tolist()
        [0.0253, 0.1224, 0.1195]
        """
        return self._named(estimates.class_contrasts(self._symmetric_params, self._known_covariance(),
                                                     self.classes.tolist(), self._parameter_names))

    def relative_risk_ratios(self) -> EstimateTable:
        """Return exp(params) against the reference, as Stata's rrr; the first class where there is no reference.

        Returns
        -------
        EstimateTable
            Of shape (n_classes - 1, n_features + 1). Standard errors are by the delta method, ratio times that of the
            coefficient; z, p-values and intervals are the coefficient's, interval ends exponentiated.

        Examples
        --------
        >>> import csoftmax as cs
        >>> result = cs.fit_formula("species ~ flipper_length_mm", cs.datasets.load_penguins())
        >>> ratios = result.relative_risk_ratios()
        >>> ratios.groups, ratios.estimate[:, 0].round(4).tolist(), ratios.conf_int()[0, 0].round(4).tolist()
        (['Chinstrap', 'Gentoo'], [1.1385, 2.0476], [1.0835, 1.1964])
        """
        return self._named(estimates.relative_risk_ratios(self._symmetric_params, self._known_covariance(),
                                                          self.classes.tolist(), self._reference_index or 0,
                                                          self._parameter_names))

    def _named(self, table: EstimateTable) -> EstimateTable:
        return replace(table, response=self.response_name, notes=report.covariance_notes(self))

    # ------------------------------------------------------------------------------------------------------- covariance

    def cov_params(self) -> Array:
        """Return the covariance of theta, in theta's order without the reference; symmetric rows: full and singular.

        Returns
        -------
        ndarray of shape (m, m)
            m = (n_classes - 1) * (n_features + 1) with a reference, n_classes * (n_features + 1) without.
        """
        reference = self._reference_index
        covariance = inference.rebase_covariance(self._known_covariance(), reference)
        if reference is not None:
            covariance = np.delete(np.delete(covariance, reference, axis=0), reference, axis=2)
        size = covariance.shape[0] * covariance.shape[1]
        return covariance.reshape(size, size)

    def with_covariance(self, cov_type: str, *, groups: ArrayLike | None = None,
                        correction: bool = True) -> SoftmaxResult:
        """Return this result with another covariance, which all its standard errors, tests and intervals then use.

        The data are shared; what was computed stays in this result, and in what is pickled or saved of the other.

        Parameters
        ----------
        cov_type : {"observed", "HC0", "HC1", "HC2", "HC3", "cluster"}
            "observed": the inverse of the information, H^-1; with l2 > 0 the penalised one, and the result says
            "penalized". The others are sandwiches H^-1 K H^-1, right where the model is wrong or the weights are a
            survey's: K sums the outer products of the scores of rows, or of the sums of scores in each group. With
            l2 > 0 H is the penalised information and the scores are the likelihood's.

            "HC0" has no factor, "HC1" n / (n - k), n being `nobs` and k `n_params` (Stata's robust is HC0 times
            n / (n - 1)). "HC3" takes for each score the change of the estimate by one Newton step without that row;
            "HC2" is without bias where the model holds, but for terms of higher order; formulas and sources are in
            `csoftmax/sandwich.py`. With frequency weights, and for counts, each of the w copies is a row: all numbers
            are those of the repeated rows. (For rows of counts that vary more than a multinomial does, take each row as
            a group.) With other weights a row counts once and its score is w s.
        groups : array-like of shape (n_samples,), optional
            For "cluster": labels of any kind, in any order; a row for each of the fitted ones, or, after a formula left
            out rows with missing values, for each of the data frame's.
        correction : bool
            For "cluster": multiply by G / (G - 1) * (n - 1) / (n - k), G the number of groups with any weight, as
            statsmodels does; Stata's mlogit has G / (G - 1) alone. The rank of the covariance is at most G.

        Returns
        -------
        SoftmaxResult

        Raises
        ------
        ValueError, TypeError
            If there are no standard errors (l1 > 0), the data are gone, groups are missing, fewer than 2 or of another
            length, or n <= k.

        Notes
        -----
        Of separated samples all is nan, as are columns that the data do not determine. After bias reduction H and
        the scores are those of the likelihood at the estimate.

        Examples
        --------
        >>> import csoftmax as cs
        >>> penguins = cs.datasets.load_penguins()
        >>> result = cs.fit_formula("species ~ flipper_length_mm + body_mass_g", penguins)
        >>> robust = result.with_covariance("HC3")
        >>> result.bse[2, 0].round(4).item(), robust.bse[2, 0].round(4).item(), robust.cov_type
        (0.1429, 0.1383, 'HC3')
        >>> result.with_covariance("cluster", groups=penguins["island"]).n_groups
        3
        """
        known = ("observed", *sandwich.ROBUST)
        if cov_type not in known:
            raise ValueError(f"cov_type is {cov_type!r}; one of {', '.join(map(repr, known))} is wanted")
        if self._model_cov_type == "none":
            raise ValueError(f"cov_type is {cov_type!r} for a fit with l1 > 0, which has no standard errors; l1=0 is "
                             f"wanted")
        if (groups is None) == (cov_type == "cluster"):
            raise ValueError("groups is None with cov_type='cluster'; a label for each row is wanted" if groups is None
                             else f"groups is given with cov_type={cov_type!r}; 'cluster' is wanted, or no groups")
        if not correction and cov_type != "cluster":
            raise ValueError(f"correction is {correction!r} with cov_type={cov_type!r}; it is an option of 'cluster'")
        if cov_type == "observed":
            return self._changed(cov_type=self._model_cov_type, n_groups=None, _robust_covariance=None, _robust_df=None,
                                 _symmetric_covariance=self._information_covariance())
        if self._coordinates is None:
            raise ValueError(f"cov_type is {cov_type!r}, which needs the data, and this result was saved without them; "
                             f"it is kept where it was asked for before the result was saved")
        codes = None
        if groups is not None:
            codes = as_groups(groups, self._coordinates.objective.samples.n_samples, self._complete)
        if is_penalty(self.l2):
            self._information_covariance()  # the degrees of freedom of AIC rest on it, also where the data are gone
        other = self._changed(cov_type=cov_type, n_groups=None)
        other._set_robust(cov_type, codes, bool(correction))
        return other

    def rebase(self, reference: Any = None) -> SoftmaxResult:
        """Return this result with another class shown as 0, or with all rows, which sum to 0.

        Nothing is fitted again: estimates and the covariance, whichever it is, are kept of the symmetric rows, and
        those of another reference are exact functions of them. Probabilities and what is told of the fit are the same.

        Parameters
        ----------
        reference : label or None
            One of `classes`; None shows the symmetric rows, with standard errors of their own.

        Raises
        ------
        ValueError
            If it is none of the classes.

        Examples
        --------
        >>> import csoftmax as cs
        >>> result = cs.fit([[0.0], [1.0], [2.0], [3.0]], ["a", "b", "a", "b"], reference="a")
        >>> result.rebase("b").coef.round(4).tolist(), result.rebase(None).coef.round(4).tolist()
        ([[-0.9082], [0.0]], [[-0.4541], [0.4541]])
        """
        return self._changed(reference=find_reference(reference, self.classes))

    def _changed(self, **changes: Any) -> SoftmaxResult:
        """A result that shares all with this one, the data too, but for the changes."""
        other = SoftmaxResult.__new__(type(self))
        other.__dict__.update(self.__dict__ | changes)
        return other

    @property
    def _model_cov_type(self) -> str:
        return "none" if is_penalty(self.l1) else "penalized" if is_penalty(self.l2) else "observed"

    def _known_covariance(self) -> Array:
        """The covariance of the symmetric rows; nan for coefficients that the data do not determine."""
        return inference.without_unseen(self._covariance(), np.array(self._estimable))

    def _covariance(self) -> Array:
        """The covariance of the symmetric rows that `cov_type` names, computed at first use.

        Of collinear columns it is true of what `_unseen` does not touch.
        """
        if self.cov_type not in sandwich.ROBUST:
            return self._information_covariance()
        if self._robust_covariance is None:
            self._set_robust(self.cov_type)
        assert self._robust_covariance is not None
        return self._robust_covariance

    def _information_covariance(self) -> Array:
        """The inverse of the information (with l2 the penalised one), of the symmetric rows, computed at first use."""
        if self._symmetric_covariance is None:
            if self._model_cov_type == "none":
                return self._no_covariance()
            if self._separated:
                self._symmetric_covariance = self._no_covariance()
            else:
                self._symmetric_covariance = inference.information_covariance(*self._fitted())
        return self._symmetric_covariance

    def _set_robust(self, cov_type: str, groups: NDArray[np.intp] | None = None, correction: bool = True) -> None:
        if self._separated:
            self._robust_covariance, self._robust_df = self._no_covariance(), np.nan
            return
        robust = sandwich.robust_covariance(
            *self._fitted(), cov_type, frequency=self.weight_type == "frequency", nobs=self.nobs,
            n_params=self.n_params, groups=groups, correction=correction)
        self._robust_covariance, self._robust_df = robust.covariance, robust.effective_df
        self.n_groups = robust.n_groups

    def _fitted(self) -> tuple[MetricCoordinates, Array]:
        """The data and the estimate, or an error where they are gone."""
        if self._coordinates is None or self._u is None:
            raise ValueError(f"standard errors need the data, which this result was saved without; they are saved "
                             f"with it up to {report.COVARIANCE_LIMIT} coefficients, and here there are "
                             f"{self._symmetric_params.size}")
        return self._coordinates, self._u

    def _no_covariance(self) -> Array:
        return np.full(2 * self._symmetric_params.shape, np.nan)

    # -------------------------------------------------------------------------------------------------- goodness of fit

    @property
    def pseudo_r2(self) -> float:
        """McFadden's 1 - L / L_null, both without a penalty."""
        return 1.0 - self.log_likelihood / self.null_log_likelihood if self.null_log_likelihood else float("nan")

    @property
    def effective_df(self) -> float:
        """n_params without l2; with l2 > 0 the trace of the information over the penalised information.

        With l1 > 0 too: over the coefficients that are not 0. With probability weights and a robust covariance V
        tr(H V), H the (penalised) information: Lumley & Scott's (2015, doi:10.1093/jssam/smu021) design-based
        correction of AIC.
        """
        if self._sparse_df is not None:
            return self._sparse_df
        if self.weight_type == "probability" and self.cov_type in sandwich.ROBUST:
            self._covariance()
            assert self._robust_df is not None
            return self._robust_df
        if not is_penalty(self.l2):
            return float(self.n_params)
        return inference.effective_df(self._information_covariance(), self.l2, self._n_coordinates, self.fit_intercept)

    @property
    def aic(self) -> float:
        """-2 L + 2 effective_df."""
        return -2.0 * self.log_likelihood + 2.0 * self.effective_df

    @property
    def bic(self) -> float:
        """-2 L + log(nobs) effective_df."""
        return -2.0 * self.log_likelihood + float(np.log(self.nobs)) * self.effective_df

    @property
    def df_resid(self) -> float:
        """nobs - n_params."""
        return self.nobs - self.n_params

    # ------------------------------------------------------------------------------------------------------ predictions

    def predict_proba(self, X: ArrayLike, offset: ArrayLike | None = None, *, out: Array | None = None,
                      n_threads: int | None = None) -> Array:
        """Return P(y = k | x), of shape (n_samples, n_classes), columns in the order of `classes`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a data frame
            A data frame's columns are taken by name; for a model fitted by formula they are its variables.
        offset : array-like of shape (n_samples, n_classes), optional
            None adds nothing, also where the fit had an offset.
        out : ndarray of shape (n_samples, n_classes), optional
        n_threads : int, optional

        Raises
        ------
        ValueError, TypeError
            If a shape does not fit, a column is missing, or X holds a nan or an infinity.
        """
        return likelihood.predict_proba(self._matrix(X), self.coef, self.intercept, offset=offset, out=out,
                                        n_threads=n_threads)

    def predict_log_proba(self, X: ArrayLike, offset: ArrayLike | None = None, *,
                          n_threads: int | None = None) -> Array:
        """Return log P(y = k | x), exact where the probability is 0 in float64; see `predict_proba`."""
        return likelihood.predict_log_proba(self._matrix(X), self.coef, self.intercept, offset=offset,
                                            n_threads=n_threads)

    def predict(self, X: ArrayLike, offset: ArrayLike | None = None, *, n_threads: int | None = None) -> NDArray[Any]:
        """Return the most probable class of each row, of shape (n_samples,); see `predict_proba`."""
        return self.classes[self.predict_log_proba(X, offset, n_threads=n_threads).argmax(axis=1)]

    def predict_proba_interval(self, X: ArrayLike, *, level: float = 0.95, scale: str = "logit",
                               offset: ArrayLike | None = None, n_threads: int | None = None) -> ProbabilityIntervals:
        """Return predicted probabilities with standard errors and intervals, by the delta method.

        With t = log(p / (1 - p)) the log odds of a class against all others, Var(t) = (dt/dtheta)' Sigma (dt/dtheta),
        Sigma the covariance of theta. The standard error of p is p (1 - p) times that of t; the interval is
        expit(t -+ z se(t)), within (0, 1), or on the probability scale p -+ z se(p), which may leave it.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a data frame
            As for `predict_proba`. Rows are worked on in blocks.
        level : float
        scale : {"logit", "probability"}
        offset : array-like of shape (n_samples, n_classes), optional
            None adds nothing, also where the fit had an offset.
        n_threads : int, optional

        Returns
        -------
        ProbabilityIntervals
            With `estimate`, `std_error`, `lower` and `upper` of shape (n_samples, n_classes) and `to_frame()`.

        Raises
        ------
        ValueError, TypeError
            If a shape does not fit, a column is missing, X holds a nan or an infinity, or `level` is not between 0
            and 1.

        Notes
        -----
        Intervals are of the probability, not of the class that will be seen. Standard errors are nan, and `notes` say
        why, with l1 > 0, for separated samples and, with collinear columns, of rows that are no combination of the
        fitted ones. A column whose mean is r times its spread costs about r^2 eps of relative precision, eps = 2.2e-16.

        Examples
        --------
        >>> import csoftmax as cs
        >>> result = cs.fit([[0.0], [1.0], [2.0], [3.0]], ["a", "b", "a", "b"])
        >>> intervals = result.predict_proba_interval([[1.5], [3.0]])
        >>> intervals.estimate.round(4).tolist(), intervals.std_error.round(4).tolist()
        ([[0.5, 0.5], [0.2039, 0.7961]], [[0.2796, 0.2796], [0.3205, 0.3205]])
        >>> intervals.lower[0].round(4).tolist(), intervals.upper[0].round(4).tolist()
        ([0.1005, 0.1005], [0.8995, 0.8995])
        """
        rows = self._covariates(X)
        intervals = probabilities.probability_intervals(
            rows, self.params, self._covariance(), self._unseen, self.classes, fit_intercept=self.fit_intercept,
            offset=self._offset_of(rows, offset), level=level, scale=scale, n_threads=check_n_threads(n_threads))
        return replace(intervals, notes=report.covariance_notes(self))

    def pred_table(self, X: Any = None, y: Any = None, *, sample_weight: ArrayLike | None = None,
                   offset: ArrayLike | None = None, n_threads: int | None = None) -> PredictionTable:
        """Return the total weight of the samples of each class by the class predicted for them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a data frame, optional
            By default the data of the fit.
        y : array-like of shape (n_samples,) or (n_samples, n_classes), optional
            Labels or counts, with X.
        sample_weight, offset, n_threads
            As for `margins`.

        Returns
        -------
        PredictionTable
            `table` of shape (n_classes, n_classes), observed by predicted, `classes`, `accuracy`, `to_frame()`.

        Raises
        ------
        ValueError, TypeError
            If y has a label that is none of the classes, a shape does not fit, or there are no data.

        Examples
        --------
        >>> import csoftmax as cs
        >>> result = cs.fit_formula("species ~ flipper_length_mm + body_mass_g", cs.datasets.load_penguins())
        >>> print(result.pred_table())
                   predicted
        observed      Adelie  Chinstrap     Gentoo
        Adelie           135         14          2
        Chinstrap         40         23          5
        Gentoo             1          1        121
        81.6 % predicted as observed
        """
        if (X is None) != (y is None):
            raise ValueError(f"{'y' if y is None else 'X'} is None where {'X' if y is None else 'y'} is given; both or "
                             f"neither are wanted")
        averages = self._averages(X, sample_weight, offset, n_threads)
        weights: Any
        if X is None:
            samples = self._kept_samples()
            codes, counts, weights = samples.codes, samples.counts, samples.weights
        else:
            codes, counts = encode_known(y, averages.rows.n_rows, self.classes)
            weights = averages.mass
        return probabilities.prediction_table(
            averages.rows, self.params, self.classes, fit_intercept=self.fit_intercept, codes=codes, counts=counts,
            weights=weights, offset=averages.offset, n_threads=averages.n_threads)

    def simulate(self, X: Any = None, *, rng: Any = None, size: int | None = None, totals: ArrayLike | None = None,
                 offset: ArrayLike | None = None) -> NDArray[Any]:
        """Draw labels from the fitted probabilities, or counts.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), or a data frame, optional
            By default the data of the fit, with their offset, and with their totals where they are counts.
        rng : None, int or numpy.random.Generator
            For `numpy.random.default_rng`. A seed gives the same draws whatever the number of threads.
        size : int, optional
            Replications; None is one, without an axis of its own.
        totals : array-like of shape (n_samples,), of whole numbers, optional
            Draw counts of the classes, so many in all for each row.
        offset : array-like of shape (n_samples, n_classes), optional
            Of the rows of X, where one is given.

        Returns
        -------
        ndarray of shape (n_samples,) or (size, n_samples), of the classes' dtype
            With totals int64 of shape (n_samples, n_classes) or (size, n_samples, n_classes).

        Raises
        ------
        ValueError, TypeError
            If X, totals or offset do not fit, or there are no data.

        Examples
        --------
        >>> import csoftmax as cs
        >>> result = cs.fit([[0.0], [1.0], [2.0], [3.0]], ["a", "b", "a", "b"])
        >>> result.simulate(rng=1).tolist(), result.simulate([[1.0]], totals=[10], rng=1).tolist()
        (['a', 'b', 'a', 'b'], [[6, 4]])
        """
        if size is not None and (isinstance(size, bool) or not hasattr(size, "__index__") or int(size) < 0):
            raise ValueError(f"size is {size!r}; None or a whole number from 0 is wanted")
        averages = self._averages(X, None, offset, None)
        counts = self._kept_samples().counts if X is None else None
        drawn = counts.sum(axis=1) if totals is None and counts is not None else totals
        return probabilities.simulate(
            averages.rows, self.params, self.classes, fit_intercept=self.fit_intercept, offset=averages.offset,
            totals=drawn, size=size, rng=rng)

    # ------------------------------------------------------------------------------------------------- marginal effects

    def margins(self, features: str | Sequence[str] | None = None, *,
                at: str | Mapping[str, Any] = "average", discrete: str | Sequence[str] | None = None, X: Any = None,
                sample_weight: ArrayLike | None = None, offset: ArrayLike | None = None,
                n_threads: int | None = None) -> EstimateTable:
        """Return marginal effects: how the probability of each class changes with a variable.

        Of a number the slope dP(y = k)/dx, through all terms of a formula that hold it; of a variable that is 0 or 1,
        and of categories, the difference of the probabilities with all rows at 1 and at 0, at each level and at the
        base level: the first one, unless ``C(a, contr.treatment("base"))`` names another. Averaged over the rows,
        weights counted; standard errors by the delta method with analytic derivatives (`csoftmax/margins.py` has them).
        Over classes effects sum to 0.

        Parameters
        ----------
        features : str or sequence of str, optional
            Names of columns of X; of a model fitted by formula the variables of its data. None: all.
        at : {"average", "mean"} or mapping of variables to values
            "average": with all other variables as they are in each row. "mean": with all numbers, that are 0 or 1 also,
            at their weighted mean; categories and the offset stay as they are. A mapping sets some variables in all
            rows; for lists of values there is an effect for each combination.
        discrete : str or sequence of str, optional
            The numbers that go from 0 to 1, and no others. None: those that are 0 or 1 in all rows.
        X : array-like of shape (n_samples, n_features), or a data frame, optional
            By default the data of the fit, with their weights and offset; by formula, the data frame.
        sample_weight : array-like of shape (n_samples,), optional
        offset : array-like of shape (n_samples, n_classes), optional
            Both of the rows of X, where one is given.
        n_threads : int, optional
            By default as at the fit. The result is bit-identical for every value.

        Returns
        -------
        EstimateTable
            `estimate`, `std_error`, `zvalues`, `pvalues` of shape (n_classes, n_effects), `conf_int()`, `covariance`,
            `groups` (the classes), `names` (the effects), `to_frame()`; its str() is a table.

        Raises
        ------
        ValueError, TypeError
            If a name or level is unknown, X does not fit, or X is None and the result has no data.

        Notes
        -----
        dx~/dv of a formula's variable is taken by central differences of its design, with a step of eps^(1/3) |x| (at
        least eps^(1/3) sd / 1000), good to about 1e-10; of a column of an array it is exact. The model is
        differentiated exactly. Standard errors take X as it is, not as a sample. They are nan as those of
        `predict_proba_interval` are; of collinear columns an effect has one where the data determine it: not that of
        one of two equal columns, but that of a formula's variable through both.

        Examples
        --------
        >>> import csoftmax as cs
        >>> result = cs.fit_formula("species ~ body_mass_g + sex", cs.datasets.load_penguins())
        >>> effects = result.margins()
        >>> effects.names
        ['body_mass_g', 'sex: male vs female']
        >>> effects.estimate[:, 1].round(4).tolist(), effects.std_error[:, 1].round(4).tolist()
        ([0.1834, 0.0695, -0.2529], [0.0476, 0.0455, 0.0261])
        """
        averages = self._averages(self._settable(X), sample_weight, offset, n_threads)
        return self._named(margins.marginal_effects(averages, self._covariance(), self._unseen, self.classes.tolist(),
                                                    features, at, discrete))

    def predicted_margins(self, at: str | Mapping[str, Any] = "average", *, X: Any = None,
                          sample_weight: ArrayLike | None = None, offset: ArrayLike | None = None,
                          n_threads: int | None = None) -> EstimateTable:
        """Return the average predicted probability of each class, with some variables set in all rows.

        Parameters
        ----------
        at : {"average", "mean"} or mapping of variables to values
            As for `margins`.
        X, sample_weight, offset, n_threads
            As for `margins`.

        Returns
        -------
        EstimateTable
            Of shape (n_classes, n_settings). Its `contrasts()` are the differences between settings.

        Raises
        ------
        ValueError, TypeError
            As for `margins`.

        Examples
        --------
        >>> import csoftmax as cs
        >>> result = cs.fit_formula("species ~ body_mass_g + sex", cs.datasets.load_penguins())
        >>> table = result.predicted_margins({"body_mass_g": [3500, 4500], "sex": "female"})
        >>> table.names
        ['body_mass_g=3500, sex=female', 'body_mass_g=4500, sex=female']
        >>> table.estimate.round(4).tolist()
        [[0.6777, 0.0001], [0.3222, 0.0001], [0.0, 0.9998]]
        """
        averages = self._averages(self._settable(X), sample_weight, offset, n_threads)
        return self._named(margins.predicted_margins(averages, self._covariance(), self._unseen, self.classes.tolist(),
                                                     at))

    # ---------------------------------------------------------------------------------------------- rows to predict for

    def _matrix(self, X: Any) -> Any:
        if self.design is not None and (hasattr(X, "columns") or isinstance(X, dict)):
            return self.design.matrix(X)
        if not hasattr(X, "columns") or not self._named_features:
            shape, d = np.shape(X), len(self.feature_names)
            if len(shape) == 1 and shape[0] == d and d != 1:
                raise ValueError(f"X has shape {shape}; (n_samples, {d}) is wanted: one sample is X.reshape(1, -1), or "
                                 f"df.iloc[[0]] of a data frame")
            if len(shape) == 2 and shape[1] != d:
                raise ValueError(f"X has {shape[1]} columns; the model was fitted with {d}: "
                                 f"{', '.join(self.feature_names)}")
            return X
        missing = [name for name in self.feature_names if name not in [str(column) for column in X.columns]]
        if missing:
            raise ValueError(f"X has no column {', '.join(map(repr, missing))}; the model was fitted with "
                             f"{', '.join(map(repr, self.feature_names))}")
        by_name = {str(column): column for column in X.columns}
        return X[[by_name[name] for name in self.feature_names]]

    def _covariates(self, X: Any) -> Covariates:
        if self.design is not None and (hasattr(X, "columns") or isinstance(X, dict)):
            return FrameRows(self.design, X)
        return ArrayRows(self._matrix(X), self.feature_names)

    def _settable(self, X: Any) -> Any:
        """X, unless it holds columns of a formula's design, which are not set one by one."""
        if X is not None and self.design is not None and not (hasattr(X, "columns") or isinstance(X, dict)):
            raise ValueError(f"X is {type(X).__name__}; a data frame is wanted, with the variables of the formula "
                             f"{self.design.formula!r}")
        return X

    def _averages(self, X: Any, sample_weight: Any, offset: Any, n_threads: int | None) -> Averages:
        """The rows of X, or of the fit, with their mass and offset."""
        if X is None:
            for name, value in (("sample_weight", sample_weight), ("offset", offset)):
                if value is not None:
                    raise ValueError(f"{name} is given without X; the data of the fit have their own")
            samples = self._kept_samples()
            rows: Covariates = ArrayRows(samples.X, self.feature_names) if self._frame is None \
                else FrameRows(self.design, self._frame)
            mass, own_offset = samples.mass(), samples.offset
            threads = samples.n_threads if n_threads is None else check_n_threads(n_threads)
        else:
            rows = self._covariates(X)
            if not rows.n_rows:
                raise ValueError("X has 0 samples; at least one is wanted")
            mass, own_offset = as_weights(sample_weight, rows.n_rows), self._offset_of(rows, offset)
            threads = check_n_threads(n_threads)
        return Averages(rows, self.params, self.fit_intercept, mass, own_offset, threads)

    def _offset_of(self, rows: Covariates, offset: Any) -> NDArray[Any] | None:
        n_classes = len(self.classes)
        return as_offset(offset, rows.n_rows, n_classes, np.ones(n_classes, dtype=bool))

    def _kept_samples(self) -> DenseSamples:
        if self._coordinates is None:
            raise ValueError("X is None and the result has no data (it was saved, fitted with keep_data=False, or with "
                             "l1 > 0); X is wanted")
        return self._coordinates.objective.samples

    # ------------------------------------------------------------------------------------------------------- hypotheses

    def wald_test(self, constraint: str | Sequence[str] | ArrayLike, q: ArrayLike | None = None) -> HypothesisTest:
        """Test linear constraints on the coefficients by the estimate and its covariance, `cov_type`'s.

        The statistic is (R theta - q)' (R V R')^-1 (R theta - q), chi-squared where the constraints hold.

        Parameters
        ----------
        constraint : str, sequence of str, or array-like of shape (n_constraints, m)
            "educ = 0" in every equation shown, "educ = 2 * income" too; "Gentoo: flipper_length_mm = 0" in one, and
            "Gentoo: bill = Chinstrap: bill" across two; several by commas or in a sequence, and all are tested
            together. The names are those of `classes`, of `feature_names`, and "Intercept". They need no quotes;
            backticks end all doubt. With `reference=None` they name the symmetric rows: "x = 0" in every
            equation is the same hypothesis, of n_classes - 1 degrees of freedom; in one class it is another.

            A matrix R has m columns: theta's order without the reference, as in `cov_params`; with `reference=None` all
            n_classes * (n_features + 1).
        q : array-like of shape (n_constraints,), optional
            The values, of a matrix; 0 by default.

        Returns
        -------
        HypothesisTest
            Its `df` is the number of constraints that do not follow from the others. What collinear columns leave
            undetermined (of two equal columns the coefficient of one, not the sum) is dropped, as Stata's test does:
            the combinations of the constraints that the data determine are tested, with their `df`, and `note` says how
            many are left out. The statistic is nan, and `note` says why, where none remains, the samples are separated,
            or the covariance of the constraints is singular (clusters fewer than constraints).

        Raises
        ------
        ValueError, TypeError
            If a name is unknown, the text cannot be read, a shape does not fit, constraints contradict each other, or
            l1 > 0.

        Examples
        --------
        >>> import csoftmax as cs
        >>> penguins = cs.datasets.load_penguins()
        >>> result = cs.fit_formula("species ~ flipper_length_mm + body_mass_g", penguins)
        >>> print(result.wald_test("body_mass_g = 0"))
        Wald test of body_mass_g = 0: chi2(2) = 14.5696, p = 0.000686
        >>> test = result.wald_test("Gentoo: flipper_length_mm = Chinstrap: flipper_length_mm, Gentoo: body_mass_g = 0")
        >>> test.df, round(test.statistic, 4)
        (2, 14.1856)
        """
        return self._wald(self._constraints(constraint, q))

    def lr_test(self, nested: SoftmaxResult | str | Sequence[str] | ArrayLike,
                q: ArrayLike | None = None) -> HypothesisTest:
        """Test this result against a smaller model by the ratio of their likelihoods, 2 (L - L_nested).

        A robust covariance makes no difference to it.

        Parameters
        ----------
        nested : SoftmaxResult, or constraints as of `wald_test`
            A fit of the same samples with fewer parameters, whose columns are among this one's or combinations of
            them; or constraints, under which the likelihood is maximised anew (which needs the data).
        q : array-like of shape (n_constraints,), optional
            Of a matrix of constraints.

        Returns
        -------
        HypothesisTest
            With a nested result `df` is the difference of `n_params`.

        Raises
        ------
        ValueError, TypeError
            If either is penalised, bias-reduced, weighted by probabilities or no certified maximum; or the results are
            not of the same samples, or not nested.

        Notes
        -----
        That samples are the same is seen by nobs, classes and the null model's log-likelihood, and by labels, weights
        and offsets where both results have their data. That models are nested is seen by the names of their features;
        where those differ, by whether the nested model's columns are combinations of this one's, where both have their
        data.

        Examples
        --------
        >>> import csoftmax as cs
        >>> penguins = cs.datasets.load_penguins()
        >>> result = cs.fit_formula("species ~ flipper_length_mm + body_mass_g", penguins)
        >>> nested = cs.fit_formula("species ~ flipper_length_mm", penguins)
        >>> round(result.lr_test(nested).statistic, 4), round(result.lr_test("body_mass_g = 0").statistic, 4)
        (19.0111, 19.0111)
        """
        if not isinstance(nested, SoftmaxResult):
            return hypotheses.likelihood_ratio(self._likelihood("a likelihood ratio"), self._constraints(nested, q))
        if q is not None:
            raise ValueError("q is given beside a nested result; it belongs to a matrix of constraints")
        for result, what in ((self, "this result"), (nested, "nested")):
            result._check_likelihood(f"a likelihood ratio ({what})")
        hypotheses.check_nested(self, nested)
        return hypotheses.chi_squared_test(
            "lr", f"{', '.join(nested.feature_names) or 'intercepts'} against {', '.join(self.feature_names)}",
            2.0 * max(self.log_likelihood - nested.log_likelihood, 0.0), self.n_params - nested.n_params)

    def score_test(self, constraint: str | Sequence[str] | ArrayLike | None = None, q: ArrayLike | None = None, *,
                   X_extra: ArrayLike | None = None) -> HypothesisTest:
        """Test constraints, or whether further columns have an effect, by the slope of the likelihood (Rao's test).

        The statistic is s' H^-1 s, score and information at the estimate under the hypothesis; the model without it is
        not fitted. A robust covariance makes no difference to it.

        Parameters
        ----------
        constraint, q
            As for `wald_test`: the likelihood is maximised under them, and need not have a maximum without.
        X_extra : array-like of shape (n_samples, n_extra), or a data frame
            In place of constraints: columns beside the fitted ones, a row for each of the fitted samples or, after a
            formula left out rows with missing values, for each of the data frame's. This result is the fit under the
            hypothesis that they have no effect.

        Returns
        -------
        HypothesisTest

        Raises
        ------
        ValueError, TypeError
            If neither or both are given, a shape does not fit, X_extra is not finite, the data are gone, or the result
            is penalised, bias-reduced or weighted by probabilities.

        Examples
        --------
        >>> import csoftmax as cs
        >>> penguins = cs.datasets.load_penguins()
        >>> result = cs.fit_formula("species ~ flipper_length_mm", penguins)
        >>> print(result.score_test(X_extra=penguins[["body_mass_g"]]))
        Score test of body_mass_g: chi2(2) = 16.0625, p = 0.000325
        """
        if (constraint is None) == (X_extra is None):
            raise ValueError("a constraint or X_extra is wanted, " + ("not both" if X_extra is not None else "one of "
                                                                      "them"))
        if constraint is not None:
            return hypotheses.score(self._likelihood("a score test", maximum=not self._separated),
                                    self._constraints(constraint, q))
        fitted = self._likelihood("a score test")
        extra, names = as_matrix(X_extra, "X_extra")
        n = fitted.coordinates.objective.samples.n_samples
        if self._complete is not None and len(extra) == len(self._complete):
            extra = extra[self._complete]
        if len(extra) != n:
            raise ValueError(f"X_extra has {len(extra)} rows; {n} are wanted, one for each fitted sample")
        if not extra.shape[1]:
            raise ValueError("X_extra has no column; at least one is wanted")
        check_finite("X_extra", extra, names)
        text = ", ".join(names) if hasattr(X_extra, "columns") else f"{len(names)} more column{'s' * (len(names) > 1)}"
        return hypotheses.score_of_columns(fitted.coordinates, self._symmetric_params, extra, text)

    def test_terms(self, kind: str = "wald") -> HypothesisTable:
        """Test each term: that it has no effect on any class while all the others stay.

        A term is one of the formula's, with all its columns (the levels of a category, the basis of a spline, an
        interaction); of a fit without a formula, a column. The intercept is none.

        Parameters
        ----------
        kind : {"wald", "lr", "score"}
            "wald" uses the covariance, `cov_type`'s; "lr" and "score" maximise the likelihood without the term,
            starting from this fit, and need the data.

        Returns
        -------
        HypothesisTable

        Raises
        ------
        ValueError
            As from `wald_test`, `lr_test`, `score_test`; or if there is no term.

        Notes
        -----
        Each term is dropped alone: tests of type III, as car's Anova(type="III") makes of nnet's multinom. Of a term
        within an interaction that stays it is the effect where the other factors are 0 or at their base level, and so
        depends on how those are coded.

        Examples
        --------
        >>> import csoftmax as cs
        >>> penguins = cs.datasets.load_penguins()
        >>> print(cs.fit_formula("species ~ flipper_length_mm + sex", penguins).test_terms("lr"))
        Likelihood ratio tests of terms (each dropped alone)
        ===============================================
                                  chi2    df     P>chi2
        -----------------------------------------------
        flipper_length_mm     453.3551     2   3.59e-99
        sex                    37.3031     2   7.94e-09
        ===============================================
        """
        test = self._tester(kind)
        terms = self.design.terms if self.design is not None else {
            name: [i] for i, name in enumerate(self.feature_names)}
        if not terms:
            raise ValueError("the model has no term beside the intercept; at least one is wanted")
        shape = (self.params.shape[0], self.params.shape[1])
        return HypothesisTable.of(kind, f"{hypotheses.KINDS[kind]} tests of terms (each dropped alone)", [
            test(constraints.all_zero(places, shape, name)) for name, places in terms.items()])

    def test_combine(self, first: Any = None, second: Any = None, *,
                     kind: str = "wald") -> HypothesisTest | HypothesisTable:
        """Test whether classes can be combined: that two have the same coefficients of all features.

        Then the features do not tell one from the other; the intercepts are free, as the classes may differ in size
        (Stata's mlogtest, combine and lrcomb; Cramer & Ridder 1991, doi:10.1016/0304-4076(91)90018-A).

        Parameters
        ----------
        first, second : label, optional
            Two of `classes`; without them all pairs are tested.
        kind : {"wald", "lr", "score"}
            As for `test_terms`.

        Returns
        -------
        HypothesisTest, or HypothesisTable of all pairs

        Raises
        ------
        ValueError
            As from `wald_test`, `lr_test`, `score_test`; if a label is unknown, or there is no feature.

        Examples
        --------
        >>> import csoftmax as cs
        >>> penguins = cs.datasets.load_penguins()
        >>> result = cs.fit_formula("species ~ flipper_length_mm + body_mass_g", penguins)
        >>> print(result.test_combine("Adelie", "Chinstrap", kind="lr"))
        Likelihood ratio test of Adelie = Chinstrap: chi2(2) = 41.5151, p = 9.66e-10
        >>> result.test_combine().names
        ('Adelie = Chinstrap', 'Adelie = Gentoo', 'Chinstrap = Gentoo')
        """
        test = self._tester(kind)
        if not self.feature_names:
            raise ValueError("the model has no feature to tell classes apart; at least one is wanted")
        labels, features = self.classes.tolist(), range(len(self.feature_names))

        def pair(i: int, k: int) -> HypothesisTest:
            return test(constraints.all_equal(i, k, features, (len(labels), self.params.shape[1]),
                                              f"{labels[i]} = {labels[k]}"))

        if first is None and second is None:
            return HypothesisTable.of(kind, f"{hypotheses.KINDS[kind]} tests of combining classes",
                                      [pair(i, k) for i in range(len(labels)) for k in range(i + 1, len(labels))])
        places = []
        for name, label in (("first", first), ("second", second)):
            if label not in labels:
                raise ValueError(f"{name} is {label!r}; one of the classes {', '.join(map(repr, labels))} is wanted")
            places.append(labels.index(label))
        if places[0] == places[1]:
            raise ValueError(f"first and second are both {first!r}; two classes are wanted")
        return pair(*places)

    def _tester(self, kind: str) -> Callable[[Constraints], HypothesisTest]:
        if kind not in hypotheses.KINDS:
            raise ValueError(f"kind is {kind!r}; one of {', '.join(map(repr, hypotheses.KINDS))} is wanted")
        if kind == "wald":
            return self._wald
        fitted = self._likelihood(f"a test by kind={kind!r}", maximum=kind == "lr" or not self._separated)
        return functools.partial(hypotheses.likelihood_ratio if kind == "lr" else hypotheses.score, fitted)

    def _wald(self, hypothesis: Constraints) -> HypothesisTest:
        if self._model_cov_type == "none":
            raise ValueError("a Wald test needs standard errors, and a fit with l1 > 0 has none; l1=0 is wanted")
        if self._separated:
            hypothesis = hypothesis.independent()
            return hypotheses.impossible("wald", hypothesis.text, len(hypothesis.matrix),
                                         "the samples are separated: no maximum, no standard errors")
        return hypotheses.wald(hypothesis, self._symmetric_params, self._covariance(), self._unseen)

    def _constraints(self, constraint: Any, q: ArrayLike | None) -> Constraints:
        names = self._constraint_names()
        texts = constraint if isinstance(constraint, (list, tuple)) else [constraint]
        if len(texts) and all(isinstance(text, str) for text in texts):
            if q is not None:
                raise ValueError("q is given beside a constraint in words, which has its values in it; no q is wanted")
            return constraints.from_text(texts, names)
        return constraints.from_matrix(constraint, q, names)

    def _constraint_names(self) -> constraints.Names:
        return constraints.Names([str(label) for label in self.classes.tolist()],
                                 self._parameter_names,
                                 self._reference_index)

    def _likelihood(self, what: str, *, maximum: bool = True, bias_reduced: bool = False) -> Fitted:
        """The fit to compare others with, or an error that says why there is none."""
        self._check_likelihood(what, maximum=maximum, bias_reduced=bias_reduced)
        if self._coordinates is None or self._u is None:
            raise ValueError(f"{what} needs the data, which this result was saved without, or fitted with "
                             f"keep_data=False")
        return Fitted(self._coordinates, self._u,
                      self.penalized_log_likelihood if bias_reduced else self.log_likelihood)

    def _check_likelihood(self, what: str, *, maximum: bool = True, bias_reduced: bool = False) -> None:
        """Raise ValueError, with the reason, unless this is (a maximum of) a likelihood.

        `bias_reduced`: one penalised for that will do.
        """
        reason = None
        if is_penalty(self.l1) or is_penalty(self.l2):
            reason = f"was fitted with {'l1' if is_penalty(self.l1) else 'l2'} > 0"
        elif self.bias_reduction is not None and not bias_reduced:
            reason = f"has bias_reduction={self.bias_reduction!r}"
        elif self.weight_type == "probability":
            reason = "has probability weights: a pseudo-likelihood, whose ratios are not chi-squared"
        elif maximum and not self.success:
            reason = f"is no certified maximum ({self.message})"
        if reason:
            raise ValueError(f"{what} wants an unpenalised maximum of the likelihood, and this result {reason}")

    # ---------------------------------------------------------------------------------------------- tables and pictures

    def summary(self, *, level: float = 0.95) -> Summary:
        """Return a table, a block for each class: text by `print`, HTML by `to_html()` or in a notebook, `to_latex()`.

        Examples
        --------
        >>> import csoftmax as cs
        >>> result = cs.fit([[0.0], [1.0], [2.0], [3.0]], ["a", "b", "a", "b"], reference="a")
        >>> print("\\n".join(str(result.summary(level=0.9)).splitlines()[-5:]))
        y=b                     coef     std err           z       P>|z|       [0.05       0.95]
        ----------------------------------------------------------------------------------------
        x1                    0.9082      1.0852       0.837       0.403     -0.8768      2.6932
        Intercept            -1.3623      1.9749      -0.690       0.490     -4.6107      1.8861
        ========================================================================================
        """
        return report.summary(self, level)

    def to_frame(self, *, level: float = 0.95, method: str = "wald") -> pd.DataFrame:
        """Return the estimates as a tidy pandas data frame.

        Parameters
        ----------
        level : float
            Of the intervals.
        method : {"wald", "profile"}
            The intervals are `conf_int`'s.

        Returns
        -------
        pandas.DataFrame
            A row for each class but the reference and each feature, the intercept last ("(Intercept)" where a feature
            has the name Intercept), with the columns class, feature, estimate, std_error, z, pvalue, lower and upper.
            Its `attrs` hold response_name, reference and level.

        Raises
        ------
        ImportError
            Without pandas: pip install "csoftmax[formula]".
        ValueError
            As from `conf_int`, or if the result was saved without its covariance.

        Examples
        --------
        >>> import csoftmax as cs
        >>> result = cs.fit([[0.0], [1.0], [2.0], [3.0]], ["a", "b", "a", "b"], reference="a")
        >>> result.to_frame()[["class", "feature", "estimate", "std_error"]].round(4).values.tolist()
        [['b', 'x1', 0.9082, 1.0852], ['b', 'Intercept', -1.3623, 1.9749]]
        """
        frame = report.coefficients(self).to_frame(level=level)
        if method != "wald":
            ends = self.conf_int(level=level, method=method)
            shown = [k for k in range(len(self.classes)) if k != self._reference_index]
            frame["lower"], frame["upper"] = ends[shown].reshape(-1, 2).T
        frame.attrs.update(response_name=self.response_name, reference=self.reference, level=level)
        return frame

    def plot_coefficients(self, features: str | Sequence[str] | None = None, *, intercept: bool = False,
                          level: float = 0.95, axes: Any = None) -> NDArray[Any]:
        """Draw estimates and Wald intervals: a panel for each feature, in its own units, and a row for each class.

        Parameters
        ----------
        features : str or sequence of str, optional
            By default all.
        intercept : bool
            A last panel for the intercept.
        level : float
            Of the intervals. Where there is no standard error the point stands alone.
        axes : matplotlib axes, or a sequence of them, one for each panel, optional
            By default those of a new figure.

        Returns
        -------
        ndarray of matplotlib axes, of shape (n_panels,)

        Raises
        ------
        ImportError
            Without matplotlib: pip install "csoftmax[plot]".
        ValueError
            If a feature is unknown, there are not as many axes as panels, `level` is not between 0 and 1, or the
            samples are separated: the coefficients grow without bound.
        """
        from csoftmax.plotting import plot_coefficients
        return plot_coefficients(self, features, intercept, level, axes)

    def plot_probabilities(self, feature: str, *, values: ArrayLike | None = None, at: Mapping[str, Any] | None = None,
                           X: Any = None, classes: Sequence[Any] | None = None, level: float = 0.95,
                           ax: Any = None) -> Axes:
        """Draw the predicted probability of each class against one feature, the others held still.

        Parameters
        ----------
        feature : str
            A feature, or of a model fitted by formula a column of the data. Numbers give lines with bands; categories,
            and bools, points with intervals.
        values : array-like, optional
            Of the feature; by default 101 numbers over its range, or its levels.
        at : mapping of str to value, optional
            Where others are held; by default at their mean, categories at their most frequent level. In a model fitted
            on an array each column has its mean, a column of 0 and 1 too.
        X : array-like of shape (n_samples, n_features), or a data frame, optional
            What means and ranges are taken from; by default the data of the fit (a model fitted by formula knows them
            without its data). Its rows have weight 1.
        classes : sequence of labels, optional
            Those to draw; by default all.
        level : float
            Of the intervals, which are on the logit scale by the delta method. There are none where the model has no
            standard errors.
        ax : matplotlib axes, optional
            By default that of a new figure.

        Returns
        -------
        matplotlib axes

        Raises
        ------
        ImportError
            Without matplotlib: pip install "csoftmax[plot]".
        ValueError
            If a name is unknown, `level` is not between 0 and 1, or the result has no data and X is None.
        """
        from csoftmax.plotting import plot_probabilities
        return plot_probabilities(self, feature, values, at or {}, X, classes, level, ax)

    def plot_convergence(self, axes: Any = None) -> NDArray[Any]:
        """Draw the gradient's norm and the (penalised) log-likelihood still to gain, against the iteration.

        Parameters
        ----------
        axes : sequence of 2 matplotlib axes, optional
            By default those of a new figure.

        Returns
        -------
        ndarray of matplotlib axes, of shape (2,)

        Raises
        ------
        ImportError
            Without matplotlib: pip install "csoftmax[plot]".
        ValueError
            If there are not 2 axes, or the result was read from JSON, which does not keep its history.
        """
        from csoftmax.plotting import plot_convergence
        return plot_convergence(self, axes)

    def _typical_values(self, X: Any) -> dict[str, dict[str, Any]]:
        """For each column of X (by formula: of the data) its "value", and "low" and "high", or "levels"."""
        if self.design is not None:
            return self.design.typical if X is None else self.design.typical_values(X)
        if X is not None:
            samples = DenseSamples(np.asarray(self._matrix(X), dtype=np.float64), len(self.classes))
        elif self._coordinates is not None:
            samples = self._coordinates.objective.samples
        else:
            raise ValueError("X is None, and this result was saved without its data, or has l1 > 0 and keeps none; X, "
                             "from which means and ranges are taken, is wanted")
        total, low, high = samples.column_totals()
        values = np.stack([np.clip(total / samples.total_mass(), low, high), low, high], axis=1).tolist()
        return {name: dict(zip(("value", "low", "high"), row, strict=True))
                for name, row in zip(self.feature_names, values, strict=True)}

    def _with_known_covariance(self) -> SoftmaxResult:
        """This result; one that was saved without its covariance, as a copy with a covariance of nan."""
        stored = self._robust_covariance if self.cov_type in sandwich.ROBUST else self._symmetric_covariance
        if stored is not None or self._coordinates is not None or self._separated or self.cov_type == "none":
            return self
        # this result goes on to say that it has no standard errors
        return self._changed(_symmetric_covariance=self._no_covariance(), _robust_df=np.nan,
                             _robust_covariance=self._no_covariance(), _lacks_covariance=True)

    # ---------------------------------------------------------------------------------------------------------- keeping

    def drop_data(self) -> None:
        """Let the data go; the standard errors are computed first."""
        self._compute_covariances()
        self._coordinates = self._u = self._complete = self._frame = None

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the model as JSON text, and write it to `path` if one is given: whole, or not at all.

        It holds numbers and names only, no data and no code; `csoftmax.from_json` reads it. Floats are written with
        all their digits. Beyond 2000 coefficients the covariance is left out unless it has been computed.

        Raises
        ------
        TypeError
            If a class label is not a string, a number or a bool.
        """
        state = self._without_data()
        labels = self.classes.tolist()
        for label in labels:
            if not isinstance(label, (str, int, float, bool)):
                raise TypeError(f"the class {label!r} is a {type(label).__name__}; JSON holds strings, numbers and "
                                f"bools")
        covariance, robust = state["_symmetric_covariance"], state["_robust_covariance"]
        document = {
            "format": FORMAT, "version": VERSION,
            "classes": labels, "feature_names": self.feature_names,
            "reference": self.reference,
            "response_name": self.response_name, "fit_intercept": self.fit_intercept,
            "named_features": self._named_features, "l2": np.asarray(self.l2).tolist(),
            "l1": np.asarray(self.l1).tolist(), "sparse_df": _nan_to_none(self._sparse_df),
            "bias_reduction": self.bias_reduction,
            "params": self._symmetric_params.tolist(),
            "covariance": None if covariance is None else _nan_to_none(covariance.tolist()),
            "weight_type": self.weight_type, "cov_type": self.cov_type, "n_groups": self.n_groups,
            "robust_covariance": None if robust is None else _nan_to_none(robust.tolist()),
            "robust_df": _nan_to_none(state["_robust_df"]),
            "success": self.success, "message": self.message, "n_iter": self.n_iter,
            "separated": self._separated, "estimable": self._estimable,
            "unseen": None if state["_unseen"] is None else _nan_to_none({
                name: array.tolist() for name, array in vars(state["_unseen"]).items()}),
            "certificate": _nan_to_none(dict(vars(self.certificate))),
            "log_likelihood": self.log_likelihood, "penalized_log_likelihood": self.penalized_log_likelihood,
            "null_log_likelihood": self.null_log_likelihood, "nobs": self.nobs, "n_params": self.n_params,
            "n_coordinates": self._n_coordinates, "n_missing": self.n_missing,
            "whole_frequencies": self._whole_frequencies,
            "design": None if self.design is None else self.design.to_dict(),
        }
        text = json.dumps(document, indent=1, allow_nan=False)
        if path is not None:
            with written_whole(path) as partial:
                partial.write_text(text + "\n", encoding="utf-8")
        return text

    def __getstate__(self) -> dict[str, Any]:
        return self._without_data()

    def _without_data(self) -> dict[str, Any]:
        """The state without data; the standard errors are computed first, up to so many coefficients."""
        if self._coordinates is not None and self._symmetric_params.size <= report.COVARIANCE_LIMIT:
            self._compute_covariances()
        state = dict(self.__dict__, _coordinates=None, _u=None, _complete=None, _frame=None)
        if state["_symmetric_covariance"] is None and state["_robust_covariance"] is None:
            state["_unseen"] = None  # of no use without a covariance, and it may be as large
        if self.optimize_result is not None:
            large = ("hess", "hess_inv", "jac")
            state["optimize_result"] = OptimizeResult(
                {key: value for key, value in self.optimize_result.items() if key not in large})
        return state

    def _compute_covariances(self) -> None:
        if self._model_cov_type != "none":
            self._information_covariance()
            self._covariance()


def find_reference(reference: Any, classes: NDArray[Any]) -> Any:
    """Return the class that is equal to `reference`, or None for None; raises ValueError if there is none."""
    if reference is None:
        return None
    for label in classes.tolist():
        same = label == reference
        if isinstance(same, (bool, np.bool_)) and same:  # pandas.NA gives NA, an array an array
            return label
    raise ValueError(f"reference is {reference!r}; one of the classes {', '.join(map(repr, classes.tolist()))} is "
                     f"wanted")


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, list):
        return [_nan_to_none(item) for item in value]
    if isinstance(value, dict):
        return {key: _nan_to_none(item) for key, item in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value
