"""regularization_path(): the fits of a decreasing sequence of penalties, each started from the one before.

Users call it. It stands on `lasso`, `objective` and `encoding`; `plotting` draws it.
"""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax._threads import check_n_threads
from csoftmax.certificate import Certificate
from csoftmax.encoding import encode, outside_stacklevel
from csoftmax.inference import null_log_likelihood
from csoftmax.lasso import Lasso, LassoData, LassoMaximum, maximize_lasso
from csoftmax.maximize import DEFAULT_MAX_ITER, DEFAULT_TOL, ConvergenceWarning, check_stopping
from csoftmax.objective import check_penalty, spread_penalty
from csoftmax.samples import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False, repr=False)
class RegularizationPath:
    """The fits of a decreasing sequence of penalties.

    Attributes
    ----------
    penalties : ndarray of shape (n_penalties,)
        Decreasing; on sums: glmnet's lambda times nobs, scikit-learn's 1 / C.
    l1_ratio : float
    penalty_factor : ndarray of shape (n_classes, n_features)
    coef : ndarray of shape (n_penalties, n_classes, n_features)
        All rows, with exact zeros.
    intercept : ndarray of shape (n_penalties, n_classes), or None without one
    log_likelihood, penalized_log_likelihood : ndarray of shape (n_penalties,)
    null_log_likelihood : float
    n_active : ndarray of shape (n_penalties,), int
        Coefficients that are not 0.
    df : ndarray of shape (n_penalties,)
        Degrees of freedom, intercepts included: the result's `effective_df`.
    nobs : float
    success : ndarray of shape (n_penalties,), bool
        Whether the point's certificate holds.
    certificates : tuple of Certificate
    messages : tuple of str
    n_iter : ndarray of shape (n_penalties,), int
        Of L-BFGS-B: 0 where Newton steps from the point before suffice.
    classes : ndarray of shape (n_classes,)
    feature_names : list of str

    Examples
    --------
    The point of least BIC, and its probabilities; `fit` with its l1 and l2 (see `regularization_path`) gives a result:

    >>> import csoftmax as cs
    >>> penguins = cs.datasets.load_penguins().dropna()
    >>> X = penguins[["bill_length_mm", "flipper_length_mm"]]
    >>> path = cs.regularization_path(X, penguins["species"], n_penalties=20)
    >>> best = path.bic.argmin()
    >>> cs.predict_proba(X[:1], path.coef[best], path.intercept[best]).round(3).tolist()
    [[0.99, 0.01, 0.0]]
    >>> result = cs.fit(X, penguins["species"], l1=path.penalties[best])
    >>> bool(abs(result.coef - path.coef[best]).max() < 1e-9)
    True
    """

    penalties: Array
    l1_ratio: float
    penalty_factor: Array
    coef: Array
    intercept: Array | None
    log_likelihood: Array
    penalized_log_likelihood: Array
    null_log_likelihood: float
    n_active: NDArray[np.intp]
    df: Array
    nobs: float
    success: NDArray[np.bool_]
    certificates: tuple[Certificate, ...]
    messages: tuple[str, ...]
    n_iter: NDArray[np.intp]
    classes: NDArray[Any]
    feature_names: list[str]

    @property
    def aic(self) -> Array:
        """-2 L + 2 df, of shape (n_penalties,)."""
        return -2.0 * self.log_likelihood + 2.0 * self.df

    @property
    def bic(self) -> Array:
        """-2 L + log(nobs) df, of shape (n_penalties,)."""
        return -2.0 * self.log_likelihood + np.log(self.nobs) * self.df

    @property
    def pseudo_r2(self) -> Array:
        """McFadden's 1 - L / L_null, of shape (n_penalties,)."""
        return 1.0 - self.log_likelihood / self.null_log_likelihood

    def plot(self, axes: Sequence[Axes] | None = None, *, n_labels: int = 8) -> NDArray[Any]:
        """Draw the coefficients, times their penalty_factor, against the penalty; needs matplotlib.

        Parameters
        ----------
        axes : sequence of matplotlib axes, one for each class, optional
            By default those of a new figure.
        n_labels : int
            Features with a colour and a place in the legend: those drawn farthest from 0. The others are grey.

        Returns
        -------
        ndarray of matplotlib axes, of shape (n_classes,)

        Raises
        ------
        ImportError
            Without matplotlib: pip install "csoftmax[plot]".
        ValueError
            If there are not as many axes as classes.
        """
        from csoftmax.plotting import plot_path
        return plot_path(self, axes, n_labels)

    def __repr__(self) -> str:
        return (f"<RegularizationPath: {len(self.penalties)} penalties from {self.penalties[0]:.4g} to "
                f"{self.penalties[-1]:.4g}, {len(self.classes)} classes, {len(self.feature_names)} features, "
                f"{int(self.success.sum())} points certified>")

    def __str__(self) -> str:
        lines = [f"Regularization path: {len(self.classes)} classes, {len(self.feature_names)} features, l1_ratio "
                 f"{self.l1_ratio:g}", f"{'penalty':>12}{'n_active':>10}{'df':>9}{'log-lik.':>15}{'pseudo R2':>11}"]
        for row in zip(self.penalties, self.n_active, self.df, self.log_likelihood, self.pseudo_r2, self.success,
                       strict=True):
            lines.append(f"{row[0]:>12.5g}{row[1]:>10}{row[2]:>9.4g}{row[3]:>15.4f}{row[4]:>11.4f}"
                         f"{'' if row[5] else '  not certified'}")
        return "\n".join(lines)


def regularization_path(X: ArrayLike, y: ArrayLike, *, penalties: ArrayLike | None = None, l1_ratio: float = 1.0,
                        n_penalties: int = 100, min_ratio: float | None = None, penalty_factor: ArrayLike = 1.0,
                        fit_intercept: bool = True, sample_weight: ArrayLike | None = None,
                        offset: ArrayLike | None = None, tol: float = DEFAULT_TOL, max_iter: int = DEFAULT_MAX_ITER,
                        n_threads: int | None = None) -> RegularizationPath:
    """Fit the lasso or elastic net for a decreasing sequence of penalties, each from where the one before ended.

    At each penalty it maximises what `fit` does with l1 = penalty * l1_ratio * penalty_factor and
    l2 = penalty * (1 - l1_ratio) * penalty_factor. The data are checked, encoded and standardised once.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features), or a data frame
    y : array-like of shape (n_samples,) of labels, or (n_samples, n_classes) of counts
    penalties : array-like of shape (n_penalties,), optional
        Decreasing positive numbers. By default `n_penalties` of them, evenly spaced in their logarithm, from the
        smallest at which all penalised coefficients are 0, down to `min_ratio` times that.
    l1_ratio : float
        In (0, 1]: 1 is the lasso (glmnet's alpha).
    n_penalties : int
    min_ratio : float, optional
        In (0, 1); 1e-4, or 0.01 where there are fewer samples than features (glmnet's lambda.min.ratio).
    penalty_factor : float, or array-like of shape (n_features,) or (n_classes, n_features)
        Multiplies the penalty; 0 leaves a coefficient free. In raw units of X: a column's standard deviation penalises
        its standardised coefficient.
    fit_intercept : bool
    sample_weight : array-like of shape (n_samples,), optional
        Frequency weights.
    offset : array-like of shape (n_samples, n_classes), optional
    tol : float
    max_iter : int
        Of L-BFGS-B, for each penalty.
    n_threads : int, optional

    Returns
    -------
    RegularizationPath
        A ConvergenceWarning tells of points that were not certified.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what is wanted.

    References
    ----------
    Friedman, Hastie & Tibshirani (2010), doi:10.18637/jss.v033.i01.

    Examples
    --------
    >>> import csoftmax as cs
    >>> penguins = cs.datasets.load_penguins().dropna()
    >>> X = penguins[["bill_length_mm", "bill_depth_mm", "flipper_length_mm"]]
    >>> path = cs.regularization_path(X, penguins["species"], penalty_factor=X.std(), n_penalties=5)
    >>> path.n_active.tolist(), bool(path.success.all())
    ([0, 4, 6, 6, 5], True)
    """
    check_stopping(tol, max_iter)
    if isinstance(l1_ratio, bool) or not isinstance(l1_ratio, numbers.Real) or not 0 < l1_ratio <= 1:
        raise ValueError(f"l1_ratio is {l1_ratio!r}; a number above 0 and up to 1 is wanted (l1_ratio=0 is "
                         f"csoftmax.fit with l2)")
    if isinstance(n_penalties, bool) or not hasattr(n_penalties, "__index__") or int(n_penalties) < 1:
        raise ValueError(f"n_penalties is {n_penalties!r}; a whole number from 1 is wanted")
    if min_ratio is not None and not (isinstance(min_ratio, numbers.Real) and 0 < min_ratio < 1):
        raise ValueError(f"min_ratio is {min_ratio!r}; a number between 0 and 1 is wanted")
    given = None if penalties is None else _check_penalties(penalties)
    factor = check_penalty("penalty_factor", penalty_factor)
    encoded = encode(X, y, sample_weight=sample_weight, offset=offset, fit_intercept=bool(fit_intercept),
                     n_threads=check_n_threads(n_threads))
    samples = encoded.samples
    factors = spread_penalty("penalty_factor", factor, samples)
    if not factors.any():
        raise ValueError("penalty_factor is 0 for all coefficients; at least one positive number is wanted")
    data = LassoData(samples)
    largest, start = _null_model(data, factors * l1_ratio, tol, int(max_iter))
    if given is None:
        if min_ratio is None:
            min_ratio = 1e-4 if samples.n_samples >= samples.n_features else 1e-2
        if not largest > 0:
            raise ValueError("penalties is None, and no penalty is too small: all coefficients are 0 without one; "
                             "positive numbers are wanted")
        given = largest * np.geomspace(1.0, min_ratio, int(n_penalties))
    points: list[LassoMaximum] = []
    for penalty in given:
        lasso = Lasso(data, penalty * l1_ratio * factors, penalty * (1.0 - l1_ratio) * factors)
        points.append(maximize_lasso(lasso, tol=tol, max_iter=int(max_iter), init=start))
        start = points[-1].params
    d = samples.n_features
    params = np.stack([point.params for point in points])
    success = np.array([point.success for point in points])
    if not success.all():
        first = int(np.argmin(success))
        warnings.warn(f"{int((~success).sum())} of {len(points)} fits of the path were not certified, first at the "
                      f"penalty {given[first]:g}: {points[first].message}", ConvergenceWarning,
                      stacklevel=outside_stacklevel())
    return RegularizationPath(
        penalties=given, l1_ratio=float(l1_ratio),
        penalty_factor=np.broadcast_to(factors, (samples.n_classes, d)).copy(), coef=params[:, :, :d],
        intercept=params[:, :, d] if samples.fit_intercept else None,
        log_likelihood=np.array([point.log_likelihood for point in points]),
        penalized_log_likelihood=np.array([point.penalized_log_likelihood for point in points]),
        null_log_likelihood=null_log_likelihood(samples), n_active=np.count_nonzero(params[:, :, :d], axis=(1, 2)),
        df=np.array([point.effective_df for point in points]), nobs=data.total_mass, success=success,
        certificates=tuple(point.certificate for point in points), messages=tuple(point.message for point in points),
        n_iter=np.array([point.n_iter for point in points]), classes=encoded.classes,
        feature_names=encoded.feature_names)


def _check_penalties(penalties: ArrayLike) -> Array:
    values = check_penalty("penalties", penalties)
    if np.ndim(values) != 1 or not np.size(values):
        raise ValueError(f"penalties has shape {np.shape(values)}; (n_penalties,) of at least one is wanted")
    assert not isinstance(values, float)
    if not (values > 0).all() or (np.diff(values) >= 0).any():
        raise ValueError("penalties are not decreasing positive numbers, as is wanted: each fit starts from the one "
                         "before")
    return values


def _null_model(data: LassoData, factors: Array, tol: float, max_iter: int) -> tuple[float, Array]:
    """Return the smallest penalty at which all penalised coefficients are 0, and the parameters there.

    KKT: at 0, |dL/dw_ki| <= penalty * factor_ki.
    """
    scale, d = data.scale, data.samples.n_features
    # in standardised units |x| <= 1, so no gradient exceeds the total mass
    with np.errstate(over="ignore"):
        enough = np.minimum(4.0 * data.total_mass / scale, 1e300)
    null = Lasso(data, np.where(factors > 0, enough, 0.0), np.zeros(d))
    params = maximize_lasso(null, tol=tol, max_iter=max_iter).params
    gradient = null.objective.loss_gradient(data.standardized_params(params).ravel())
    slopes = np.abs(gradient.reshape(data.samples.params_shape)[:, :d]) / scale
    ratios = slopes / np.where(factors > 0, factors, np.inf)
    return float(ratios.max(initial=0.0)), params
