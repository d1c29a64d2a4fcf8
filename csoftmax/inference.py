"""What a maximum says of its own precision: covariance, effective degrees of freedom, the null model.

`fitting`, `result` and all that has standard errors stand on it. It stands on `metric` and `maximize`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.stats import norm

from csoftmax.maximize import maximize
from csoftmax.metric import MetricCoordinates
from csoftmax.objective import SoftmaxObjective
from csoftmax.samples import Array, DenseSamples


def information_covariance(coordinates: MetricCoordinates, u: Array) -> Array:
    """Return the inverse of the observed (with l2, the penalised) information, of the symmetric rows.

    Parameters
    ----------
    coordinates : MetricCoordinates
    u : ndarray of shape (n_coordinates,)
        The estimate in those coordinates, which lose no digit to a column far from 0.

    Returns
    -------
    ndarray of shape (n_classes, p, n_classes, p)
        The covariance of rows that sum to 0, hence singular; nan in the rows and columns of features whose variance
        float64 cannot hold (units of 1e+-154 and beyond), and everywhere if the information is singular. Of collinear
        columns it is that of the minimum-norm answer, which is true of what the data determine: see `Unseen`.

    Notes
    -----
    It is formed in the metric's coordinates, where the information is well conditioned whatever the units of X, and
    only then taken to the units of X.
    """
    return covariance_of_rows(coordinates, information_inverse(coordinates, u))


def information_inverse(coordinates: MetricCoordinates, u: Array) -> Array | None:
    """Return the inverse of the observed (with l2, the penalised) information by u; None where it is singular."""
    information = coordinates.hessian(u) * coordinates.total_mass
    try:
        inverse: Array = linalg.cho_solve(linalg.cho_factor(information), np.eye(len(u)))
    except (linalg.LinAlgError, ValueError):  # singular, or not finite
        return None
    return 0.5 * (inverse + inverse.T)


def covariance_of_rows(coordinates: MetricCoordinates, covariance: Array | None) -> Array:
    """Return the covariance of the symmetric rows from that of u; see `information_covariance`."""
    shape = 2 * coordinates.objective.samples.params_shape
    if covariance is None or not covariance.size:
        return np.full(shape, np.nan)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rows = coordinates.covariance(covariance)
        n_classes, p = rows.shape[:2]
        variances = np.diagonal(rows.reshape(n_classes * p, n_classes * p)).reshape(n_classes, p)
        # One that underflows would be a standard error of 0, and below tiny digits are lost; nan is not held either.
        # Where l2 differs by class a row may be 0 for sure: the one class of a feature that is penalised.
        # Nor is there anything to lose of a coefficient that the data do not determine.
        zero_is_right = coordinates.penalized_by_class | ~coordinates.estimable
        held = ((variances >= np.finfo(np.float64).tiny) | zero_is_right) & (variances < np.inf)
        unknown = ~held.all(axis=0)
    rows[:, unknown] = np.nan
    rows[:, :, :, unknown] = np.nan
    return rows


# What is left of a function of length 1 along an unseen direction of a column of unit spread, where it has no part in
# it: columns are collinear to about the square root of a Gram matrix's rounding.
SEEN = 1e-6


@dataclass(frozen=True, eq=False)
class Unseen:
    """Directions of each class's parameters along which nothing that the fit knows changes, for collinear columns.

    A linear function g of the parameters is estimable, the same for all that fit the data equally well, where it has no
    part along them; then g' Sigma g is its variance with the covariance Sigma of any one of those, such as the
    minimum-norm answer (Rao 1973, *Linear Statistical Inference and Its Applications*, section 4a).

    Attributes
    ----------
    directions : ndarray of shape (n_features, n_directions)
    unit : ndarray of shape (n_features,)
    center : ndarray of shape (n_features,)
        All three as of `MetricCoordinates`.
    """

    directions: Array
    unit: Array
    center: Array

    @classmethod
    def of(cls, coordinates: MetricCoordinates) -> Unseen | None:
        """Return those of a fit, or None where there is no direction."""
        if not coordinates.undetermined.shape[1]:
            return None
        return cls(coordinates.undetermined, coordinates.unit, coordinates.center)

    def parts(self, gradients: Array) -> tuple[Array, Array]:
        """Return the functions' parts along the directions, and their lengths, of shapes (m, n, n_directions) and (m,).

        Parameters
        ----------
        gradients : ndarray of shape (m, n, p)
            Each function's by n rows of parameters.
        """
        d = len(self.center)
        constant = gradients[..., d:]  # empty without an intercept
        # off the mean row, so that a column far from 0 costs no digit
        coef = (gradients[..., :d] - constant.sum(axis=-1, keepdims=True) * self.center) * self.unit
        size = np.sqrt(np.sum(coef ** 2, axis=(1, 2)) + np.sum(constant ** 2, axis=(1, 2)))
        return coef @ self.directions, size

    def touched_by(self, gradients: Array) -> NDArray[np.bool_]:
        """Return which functions are not estimable, of shape (m,); see `parts`."""
        parts, size = self.parts(gradients)
        touched: NDArray[np.bool_] = np.abs(parts).max(axis=(1, 2)) > SEEN * size
        return touched


def without_unseen(covariance: Array, estimable: NDArray[np.bool_]) -> Array:
    """Return the covariance, of shape (C, p, C, p), with nan for the coefficients that the data do not determine."""
    if estimable.all():
        return covariance
    masked = covariance.copy()
    masked[:, ~estimable] = np.nan
    masked[:, :, :, ~estimable] = np.nan
    return masked


def rebase_params(params: Array, reference: int | None) -> Array:
    """Return symmetric rows less the reference's row; None returns them as they are."""
    return params if reference is None else params - params[reference]


def rebase_covariance(covariance: Array, reference: int | None) -> Array:
    """Return the covariance, of shape (C, p, C, p), of rows less the reference's row."""
    if reference is None:
        return covariance
    part = covariance - covariance[reference]
    return part - part[:, :, reference][:, :, np.newaxis]


def standard_errors(covariance: Array, reference: int | None) -> Array:
    """Return the square roots of the diagonal, of shape (C, p); nan in the reference's row."""
    n_classes, p = covariance.shape[:2]
    variances = np.diagonal(covariance.reshape(n_classes * p, n_classes * p)).reshape(n_classes, p)
    errors = np.sqrt(np.maximum(variances, 0.0))  # the maximum keeps nan
    if reference is not None:
        errors[reference] = np.nan
    return errors


def effective_df(covariance: Array, l2: float | Array, n_coordinates: int, fit_intercept: bool) -> float:
    """Return tr(I H^-1), I the information without the penalty and H with it: n_coordinates - sum l2_ki var(w_ki)."""
    d = covariance.shape[1] - fit_intercept
    variances = np.array([np.diagonal(covariance[k, :d, k, :d]) for k in range(len(covariance))])
    return n_coordinates - float(np.sum(l2 * variances))


def parameter_names(feature_names: list[str], fit_intercept: bool) -> list[str]:
    """Return the names of a row of params: "Intercept" last, "(Intercept)" where a feature has that name."""
    constant = "(Intercept)" if "Intercept" in feature_names else "Intercept"
    return [*feature_names, constant] if fit_intercept else list(feature_names)


def two_sided_pvalues(z: NDArray[np.float64]) -> Array:
    """Return P(|Z| > |z|) for a standard normal Z."""
    return 2.0 * norm.sf(np.abs(z))


def null_log_likelihood(samples: DenseSamples) -> float:
    """Return the maximal log-likelihood of the intercepts alone, with the weights and the offset.

    Without an intercept all parameters are 0. Without an offset it is sum_k N_k log(N_k / N), N_k the total of
    class k.
    """
    totals = samples.class_totals()
    if samples.offset is None:
        totals = totals[totals > 0]
        share = totals / totals.sum() if samples.fit_intercept else np.full(len(totals), 1.0 / samples.n_classes)
        return float(totals.dot(np.log(share)))
    empty = samples.replace(X=np.empty((samples.n_samples, 0)), shift=None, scale=None)
    if not samples.fit_intercept:
        return empty.log_likelihood(np.zeros((samples.n_classes, 0)))
    return maximize(MetricCoordinates(SoftmaxObjective.from_samples(empty, np.zeros(0)))).log_likelihood
