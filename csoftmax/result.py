"""What a fitted model can tell.

`fitting` makes a `SoftmaxResult`; users read it. It stands on `inference`, `likelihood` and `summary`.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import OptimizeResult
from scipy.stats import norm

from csoftmax import inference, likelihood, tables
from csoftmax._files import written_whole
from csoftmax.maximize import Certificate, History
from csoftmax.metric import MetricCoordinates
from csoftmax.samples import Array, DenseSamples
from csoftmax.summary import Summary, SummaryBlock

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FORMAT = "csoftmax.SoftmaxResult"
VERSION = 1
# Coefficients up to which the covariance is computed and saved with a pickled or written model: its square is 32 MB.
_COVARIANCE_LIMIT = 2000


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
        The sum of weight times row total.
    n_params : int
        (n_classes - 1) times the rank of [X, 1]; with l1 > 0 the intercepts and coefficients that are not 0, n_classes
        - 1 for each feature without a 0 (Zou, Hastie & Tibshirani 2007, doi:10.1214/009053607000000127).
    cov_type : str
        "observed", or "penalized" with l2 > 0, or "none" with l1 > 0: standard errors are nan.
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
                 sparse_df: float | None = None, history: History | None = None) -> None:
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
        self.cov_type = "none" if np.any(l1) else "penalized" if np.any(l2) else "observed"
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
        self._sparse_df = sparse_df
        self._lacks_covariance = False

    # ------------------------------------------------------------------------------------------------- estimates

    @property
    def _reference_index(self) -> int | None:
        return None if self.reference is None else self.classes.tolist().index(self.reference)

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

    def _covariance(self) -> Array:
        """The covariance of the symmetric rows, computed at first use."""
        if self._symmetric_covariance is None:
            shape = (*self._symmetric_params.shape, *self._symmetric_params.shape)
            if self.cov_type == "none":
                return np.full(shape, np.nan)
            if self._separated:
                self._symmetric_covariance = np.full(shape, np.nan)
            elif self._coordinates is None or self._u is None:
                raise ValueError(f"standard errors need the data, which this result was saved without; they are saved "
                                 f"with it up to {_COVARIANCE_LIMIT} coefficients, and here there are "
                                 f"{self._symmetric_params.size}")
            else:
                self._symmetric_covariance = inference.information_covariance(self._coordinates, self._u)
        return self._symmetric_covariance

    def cov_params(self) -> Array:
        """Return the covariance of theta, in theta's order without the reference; symmetric rows: full and singular.

        Returns
        -------
        ndarray of shape (m, m)
            m = (n_classes - 1) * (n_features + 1) with a reference, n_classes * (n_features + 1) without.
        """
        reference = self._reference_index
        covariance = inference.rebase_covariance(self._covariance(), reference)
        if reference is not None:
            covariance = np.delete(np.delete(covariance, reference, axis=0), reference, axis=2)
        size = covariance.shape[0] * covariance.shape[1]
        return covariance.reshape(size, size)

    @property
    def bse(self) -> Array:
        """Standard errors, of the shape of `params`; nan in the reference's row and where the data do not tell."""
        if self.cov_type == "none":
            return np.full(self._symmetric_params.shape, np.nan)
        reference = self._reference_index
        return inference.standard_errors(inference.rebase_covariance(self._covariance(), reference), reference)

    @property
    def zvalues(self) -> Array:
        """Estimates over standard errors, of the shape of `params`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.params / self.bse

    @property
    def pvalues(self) -> Array:
        """Two-sided p-values of the hypothesis that a parameter is 0, of the shape of `params`."""
        return inference.two_sided_pvalues(self.zvalues)

    def conf_int(self, *, level: float = 0.95) -> Array:
        """Return Wald intervals, of shape (n_classes, n_features + 1, 2).

        Raises
        ------
        ValueError
            If `level` is not between 0 and 1.
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"level is {level!r}; a number between 0 and 1 is wanted")
        half = norm.ppf(0.5 + level / 2.0) * self.bse
        params = self.params
        return np.stack([params - half, params + half], axis=-1)

    # --------------------------------------------------------------------------------------------- goodness of fit

    @property
    def pseudo_r2(self) -> float:
        """McFadden's 1 - L / L_null, both without a penalty."""
        return 1.0 - self.log_likelihood / self.null_log_likelihood if self.null_log_likelihood else float("nan")

    @property
    def effective_df(self) -> float:
        """n_params without l2; with l2 > 0 the trace of the information over the penalised information.

        With l1 > 0 too: over the coefficients that are not 0.
        """
        if self._sparse_df is not None:
            return self._sparse_df
        if not np.any(self.l2):
            return float(self.n_params)
        return inference.effective_df(self._covariance(), self.l2, self._n_coordinates, self.fit_intercept)

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

    # ------------------------------------------------------------------------------------------------- predictions

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

    # ----------------------------------------------------------------------------------------------------- summary

    def _with_known_covariance(self) -> SoftmaxResult:
        """This result; one that was saved without its covariance, as a copy with a covariance of nan."""
        if self._symmetric_covariance is not None or self._coordinates is not None or self._separated \
                or self.cov_type == "none":
            return self
        shown = copy.copy(self)  # this result goes on to say that it has no standard errors
        shown._symmetric_covariance = np.full(2 * self._symmetric_params.shape, np.nan)
        shown._lacks_covariance = True
        return shown

    def _notes(self) -> list[str]:
        """What the standard errors are, or why there are none."""
        if self._separated:
            return []
        if self._lacks_covariance:
            return [f"Saved without standard errors: more than {_COVARIANCE_LIMIT} coefficients."]
        notes = []
        if self.cov_type == "none":
            sparse = self._symmetric_params[:, :len(self.feature_names)]
            notes.append(f"With l1 > 0 there are no standard errors. {np.count_nonzero(sparse)} of {sparse.size} "
                         f"coefficients of the symmetric rows are not 0; AIC and BIC count {self.effective_df:.4g} "
                         f"degrees of freedom.")
        elif np.any(self.l2):
            notes.append(f"Standard errors are from the penalised information; AIC and BIC count "
                         f"{self.effective_df:.4g} effective degrees of freedom.")
        names = inference.parameter_names(self.feature_names, self.fit_intercept)
        unknown = [name for name, known in zip(names, self._estimable, strict=True) if not known]
        if unknown:
            notes.append(f"Not determined by the data (collinear columns), shown as the minimum-norm answer: "
                         f"{', '.join(unknown)}.")
        if self.cov_type != "none":
            without = [name for name, errors in zip(names, self.bse.T, strict=True)
                       if np.isnan(errors).all() and name not in unknown]
            if without and len(without) == sum(self._estimable):
                notes.append("No standard errors: the information is singular at the estimate.")
            elif without:
                notes.append(f"No standard errors of {', '.join(without)}: float64 cannot hold their variances in "
                             f"these units of X.")
        return notes

    def summary(self, *, level: float = 0.95) -> Summary:
        """Return a table: text by `print`, HTML in a notebook, LaTeX by `to_latex()`; a block for each class.

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
        known = self._with_known_covariance()
        names = inference.parameter_names(self.feature_names, self.fit_intercept)
        values = np.stack([known.params, known.bse, known.zvalues, known.pvalues, *np.moveaxis(
            known.conf_int(level=level), -1, 0)], axis=-1)
        reference = self._reference_index
        blocks = [SummaryBlock(f"{self.response_name}={label}", names, values[k])
                  for k, label in enumerate(self.classes.tolist()) if k != reference]
        against = "symmetric (rows sum to 0)" if reference is None else str(self.classes.tolist()[reference])
        if reference is None and (np.any(self.l1) or np.ndim(self.l2) == 2):
            against = "none (all rows)"
        proved = "Certified maximum" if self.bias_reduction is None else "Certified solution"
        left = [("Dep. variable", self.response_name), ("Reference", against),
                ("No. observations", f"{self.nobs:.10g}"), ("Df residuals", f"{self.df_resid:.10g}"),
                ("Df model", f"{self.n_params - (len(self.classes) - 1) * self.fit_intercept}"),
                ("Iterations", str(self.n_iter)), (proved, "yes" if self.success else "NO")]
        right = [("Log-likelihood", f"{self.log_likelihood:.3f}"), ("Null log-lik.", f"{self.null_log_likelihood:.3f}"),
                 ("Pseudo R-squ.", f"{self.pseudo_r2:.5f}"), ("AIC", f"{known.aic:.3f}"), ("BIC", f"{known.bic:.3f}"),
                 ("Covariance", self.cov_type)]
        for name, penalty in (("l1 penalty", self.l1), ("l2 penalty", self.l2)):
            if np.any(penalty):
                right.append((name, describe_penalty(penalty)))
        if self.bias_reduction is not None:
            right.append(("Bias reduction", self.bias_reduction.capitalize()))
        if self.n_missing:
            right.append(("Rows dropped", f"{self.n_missing} (missing)"))
        if self._separated:
            blocks = []  # whatever they are where the method stopped: they grow without bound
        return Summary("Softmax regression (multinomial logit)", (left, right), blocks, level, known._notes(),
                       "" if self.success else f"NOT A MAXIMUM: {self.message}",
                       estimates_only=self.cov_type == "none")

    def to_frame(self, *, level: float = 0.95) -> pd.DataFrame:
        """Return the estimates as a tidy pandas data frame.

        Parameters
        ----------
        level : float
            Of the Wald intervals.

        Returns
        -------
        pandas.DataFrame
            A row for each class but the reference and each feature, the intercept last ("(Intercept)" where a feature
            has the name Intercept), with the columns class, feature, coef, std_error, z, pvalue, lower and upper. Its
            `attrs` hold response_name, reference and level.

        Raises
        ------
        ImportError
            Without pandas: pip install "csoftmax[formula]".
        ValueError
            If `level` is not between 0 and 1, or the result was saved without its covariance.

        Examples
        --------
        >>> import csoftmax as cs
        >>> result = cs.fit([[0.0], [1.0], [2.0], [3.0]], ["a", "b", "a", "b"], reference="a")
        >>> result.to_frame()[["class", "feature", "coef", "std_error"]].round(4).values.tolist()
        [['b', 'x1', 0.9082, 1.0852], ['b', 'Intercept', -1.3623, 1.9749]]
        """
        pd = tables.import_pandas()
        names = inference.parameter_names(self.feature_names, self.fit_intercept)
        shown = [k for k in range(len(self.classes)) if k != self._reference_index]
        low, high = np.moveaxis(self.conf_int(level=level), -1, 0)
        arrays = {"coef": self.params, "std_error": self.bse, "z": self.zvalues, "pvalue": self.pvalues, "lower": low,
                  "upper": high}
        frame = pd.DataFrame({"class": np.repeat(self.classes[shown], len(names)), "feature": names * len(shown),
                              **{name: array[shown].ravel() for name, array in arrays.items()}})
        frame.attrs.update(response_name=self.response_name, reference=self.reference, level=level)
        return frame

    # ---------------------------------------------------------------------------------------------------- pictures

    def plot_coefficients(self, features: Sequence[str] | None = None, *, intercept: bool = False, level: float = 0.95,
                          axes: Any = None) -> NDArray[Any]:
        """Draw estimates and Wald intervals: a panel for each feature, in its own units, and a row for each class.

        Parameters
        ----------
        features : sequence of str, optional
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
        totals = samples.column_totals()
        total, low, high = totals
        values = np.stack([np.clip(total / samples.total_mass(), low, high), low, high], axis=1).tolist()
        return {name: dict(zip(("value", "low", "high"), row, strict=True))
                for name, row in zip(self.feature_names, values, strict=True)}

    def __repr__(self) -> str:
        state = "maximum certified" if self.success else "NOT a certified maximum"
        return (f"<SoftmaxResult: {len(self.classes)} classes, {len(self.feature_names)} features, nobs "
                f"{self.nobs:.10g}, log-likelihood {self.log_likelihood:.6g}, {state}>")

    # ----------------------------------------------------------------------------------------------------- keeping

    def drop_data(self) -> None:
        """Let the data go; the standard errors are computed first."""
        if self.cov_type != "none":
            self._covariance()
        self._coordinates = self._u = None

    def _without_data(self) -> dict[str, Any]:
        """The state without data; the standard errors are computed first, up to _COVARIANCE_LIMIT coefficients."""
        if self._coordinates is not None and self._symmetric_params.size <= _COVARIANCE_LIMIT:
            self._covariance()
        state = dict(self.__dict__, _coordinates=None, _u=None)
        if self.optimize_result is not None:
            large = ("hess", "hess_inv", "jac")
            state["optimize_result"] = OptimizeResult(
                {key: value for key, value in self.optimize_result.items() if key not in large})
        return state

    def __getstate__(self) -> dict[str, Any]:
        return self._without_data()

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
        covariance = state["_symmetric_covariance"]
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
            "success": self.success, "message": self.message, "n_iter": self.n_iter,
            "separated": self._separated, "estimable": self._estimable,
            "certificate": _nan_to_none(dict(vars(self.certificate))),
            "log_likelihood": self.log_likelihood, "penalized_log_likelihood": self.penalized_log_likelihood,
            "null_log_likelihood": self.null_log_likelihood, "nobs": self.nobs, "n_params": self.n_params,
            "n_coordinates": self._n_coordinates, "n_missing": self.n_missing,
            "design": None if self.design is None else self.design.to_dict(),
        }
        text = json.dumps(document, indent=1, allow_nan=False)
        if path is not None:
            with written_whole(path) as partial:
                partial.write_text(text + "\n", encoding="utf-8")
        return text


def restore(document: dict[str, Any], design: Any) -> SoftmaxResult:
    """Return the result of a document that `SoftmaxResult.to_json` wrote and the caller has checked."""
    covariance = document["covariance"]
    certificate: dict[str, Any] = {
        key: np.nan if value is None else value for key, value in document["certificate"].items()
    }
    classes, names = list(document["classes"]), list(document["feature_names"])
    params = np.array(document["params"], dtype=np.float64).reshape(len(classes), -1)
    if params.shape != (len(classes), len(names) + document["fit_intercept"]):
        raise ValueError(f"params has shape {params.shape} for {len(classes)} classes and {len(names)} features")
    if len(classes) < 2 or len(set(classes)) < len(classes) or not _are(classes, (str, int, float, bool)):
        raise ValueError(f"classes are {classes}; at least two different strings, numbers or bools are wanted")
    if not _are(names, str):
        raise ValueError(f"feature_names are {names}; strings are wanted")
    if len(document["estimable"]) != params.shape[1] or not _are(document["estimable"], bool):
        raise ValueError(f"estimable is {document['estimable']}; {params.shape[1]} bools are wanted")
    if document["bias_reduction"] not in (None, "firth"):
        raise ValueError(f"bias_reduction is {document['bias_reduction']!r}; null or 'firth' is wanted")
    if document["reference"] is not None and document["reference"] not in classes:
        raise ValueError(f"reference is {document['reference']!r}, none of the classes")
    if covariance is not None:
        covariance = np.array(covariance, dtype=np.float64)
        if not params.size:
            covariance = covariance.reshape(2 * params.shape)  # JSON keeps no shape of an empty array
        if covariance.shape != 2 * params.shape:
            raise ValueError(f"covariance has shape {covariance.shape} where params has {params.shape}")
    penalties: dict[str, Any] = {}
    for key in ("l2", "l1"):
        penalty = np.array(document[key], dtype=np.float64)
        if penalty.shape not in ((), params[0, :len(names)].shape, params[:, :len(names)].shape):
            raise ValueError(f"{key} has shape {penalty.shape} for {len(classes)} classes and {len(names)} features")
        penalties[key] = penalty if penalty.ndim else float(penalty)
    result = SoftmaxResult(
        params=params, covariance=covariance,
        classes=_label_array(classes),
        certificate=Certificate(**certificate), **penalties,
        **{key: document[key] for key in (
            "fit_intercept", "feature_names", "named_features", "reference", "success", "message", "n_iter",
            "log_likelihood", "penalized_log_likelihood", "null_log_likelihood", "nobs", "n_params", "sparse_df",
            "bias_reduction", "response_name", "separated", "estimable", "n_coordinates")})
    result.n_missing = document["n_missing"]
    result.design = design
    return result


def _are(values: list[Any], kinds: Any) -> bool:
    return all(isinstance(value, kinds) for value in values)


def describe_penalty(penalty: float | Array) -> str:
    low, high = float(np.min(penalty)), float(np.max(penalty))
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _label_array(labels: list[Any]) -> NDArray[Any]:
    """Return labels as an array of their own kind: bools, ints, floats, text, or objects where they are of several."""
    kinds = {type(label) for label in labels}
    if len(kinds) == 1 and kinds <= {bool, float, str}:
        return np.array(labels)
    if kinds == {int}:
        return np.array(labels, dtype=np.uint64 if max(labels) > np.iinfo(np.int64).max else np.int64)
    array = np.empty(len(labels), dtype=object)
    array[:] = labels
    return array


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, list):
        return [_nan_to_none(item) for item in value]
    if isinstance(value, dict):
        return {key: _nan_to_none(item) for key, item in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value
