"""Covariances that hold where the model does not: sandwiches, by row or by group.

`result` stands on it. It stands on `inference`, `leverage` and `metric`.

    V = factor * H^-1 K H^-1,    H the information (with l2 the penalised one), K = sum_j omega_j s*_j s*_j'

s_j = r_j x x~_j, r_j = e_{y_j} - p_j, is the score of one observation: of a row of weight 1, or of one count. omega_j
is how often the observation stands in the data, or for a weight w_j of another kind the square of how much it weighs:

    frequency       omega_j = w_j       the row w_j times, each with the score s_j
    probability     omega_j = w_j^2     one row, whose score is w_j s_j; analytic weights likewise

(Huber 1967; White 1982, doi:10.2307/1912526). Row j's hat block h_j has the covariances x~_j' H^-1_il x~_j of its
logits, S_j = diag(p_j) - p_j p_j', and m_j is the observation's weight: 1 for a frequency, w_j else.

    HC0      s*_j = s_j
    HC1      s*_j = s_j                                      factor = n / (n - k)
    HC2      s*_j = (I - m_j S_j h_j)^(-1/2) r_j x x~_j      the principal square root
    HC3      s*_j = (I - m_j S_j h_j)^-1 r_j x x~_j
    cluster  K = sum_g s_g s_g', s_g = sum_{j in g} w_j s_j  factor = G / (G - 1) * (n - 1) / (n - k)

n is nobs, k is n_params, G the number of groups. The names are those of MacKinnon & White (1985,
doi:10.1016/0304-4076(85)90158-7); with blocks in place of leverages HC3 is the estimator of Mancl & DeRouen (2001,
doi:10.1111/j.0006-341X.2001.00126.x), HC2 that of Kauermann & Carroll (2001, doi:10.1198/016214501753382309).

HC3 is one Newton step without the observation. The score of the rest at theta is -m s, for the whole is 0, and their
information H - m Z'SZ, where Z = I x x~_j' and s = Z'r:

    theta_(-j) - theta ~ -m (H - m Z'SZ)^-1 Z'r = -m H^-1 Z' (I - m S h)^-1 r,    h = Z H^-1 Z'

so V = sum_j (theta_(-j) - theta)(theta_(-j) - theta)', each of a frequency's copies a row to leave out. A refit differs
from that step by the order of its square.

HC2 is unbiased where the model holds and the logits are linear: the residual then has the covariance
(I - m S h) S, and with S = B B'

    (I - m S h)^(-1/2) B = B (I - m B'hB)^(-1/2),    so (I - m S h)^(-1/2) r has B B' = S.

Both are f(I - m B B'h) r = r + m B g(m B'hB) B'h r with B = diag(sqrt(p)) (I - sqrt(p) sqrt(p)'), which divides by no
probability: m B'hB is symmetric with eigenvalues x in [0, 1), and g(x) = 1 / (1 - x) for HC3, 1 / (t + 1 - x) with
t = sqrt(1 - x) for HC2. Most rows of a large table have eigenvalues so small that a few terms of f's power series are
all: 1.3 us a row where the decomposition takes 4 (5 classes, 21 features).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from csoftmax import inference
from csoftmax.leverage import contrast_variances, hat_blocks
from csoftmax.metric import MetricCoordinates
from csoftmax.samples import Array, DenseSamples

# The sum of a row's eigenvalues up to which the power series is taken, 16 terms at most, and where that ends.
_SERIES = 0.1
_ROUNDING = 1e-17

ROBUST = ("HC0", "HC1", "HC2", "HC3", "cluster")


@dataclass(frozen=True)
class RobustCovariance:
    """A sandwich.

    Attributes
    ----------
    covariance : ndarray of shape (n_classes, p, n_classes, p)
        Of the symmetric rows, as from `inference.information_covariance`.
    effective_df : float
        tr(H V) by the identified parameters.
    n_groups : int or None
    """

    covariance: Array
    effective_df: float
    n_groups: int | None = None


def robust_covariance(coordinates: MetricCoordinates, u: Array, cov_type: str, *, frequency: bool, nobs: float,
                      n_params: int, groups: NDArray[np.intp] | None = None,
                      correction: bool = True) -> RobustCovariance:
    """Return the sandwich at an estimate.

    Parameters
    ----------
    coordinates : MetricCoordinates
    u : ndarray of shape (n_coordinates,)
    cov_type : {"HC0", "HC1", "HC2", "HC3", "cluster"}
    frequency : bool
        The weights count rows.
    nobs : float
    n_params : int
    groups : ndarray of shape (n_samples,), optional
        A number from 0 for each row, for "cluster".
    correction : bool
        The factor of "cluster".

    Returns
    -------
    RobustCovariance
        All nan if the information is singular.

    Raises
    ------
    ValueError
        If there are too few observations or groups for the factor.
    """
    samples, params = coordinates.objective.samples, coordinates.standardized_rows(u)
    factor, n_groups = 1.0, None
    if (cov_type == "HC1" or (cov_type == "cluster" and correction)) and nobs <= n_params:
        raise ValueError(f"cov_type is {cov_type!r} with nobs {nobs:g} and n_params {n_params}; its factor "
                         f"{'n / (n - k)' if cov_type == 'HC1' else '(n - 1) / (n - k)'} wants more observations than "
                         f"parameters")
    inverse = inference.information_inverse(coordinates, u)
    if cov_type == "cluster":
        assert groups is not None
        outer, n_groups = samples.grouped_score_outer_product(params, groups)
        if n_groups < 2:
            raise ValueError(f"groups has {n_groups} group with rows of positive weight; at least 2 are wanted")
        if correction:
            factor = n_groups / (n_groups - 1) * (nobs - 1) / (nobs - n_params)
    if inverse is None or not u.size:
        return RobustCovariance(inference.covariance_of_rows(coordinates, None), np.nan if u.size else 0.0, n_groups)
    if cov_type != "cluster":
        inflation = None
        if cov_type in ("HC2", "HC3"):
            inflation = Inflation(cov_type, params, coordinates.contrast_factors(inverse), frequency)
        outer = samples.score_outer_product(lambda part: _scores(part, params, frequency, inflation))
        if cov_type == "HC1":
            factor = nobs / (nobs - n_params)
    root = inverse @ coordinates.pulled_outer_product(outer)  # H^-1 K
    by_u = factor * (root @ inverse)
    covariance = inference.covariance_of_rows(coordinates, 0.5 * (by_u + by_u.T))
    return RobustCovariance(covariance, factor * float(np.trace(root)), n_groups)


def _scores(part: DenseSamples, params: Array, frequency: bool,
            inflation: Inflation | None) -> Iterator[tuple[Array, Array | None]]:
    """Yield (r*, omega) of each observation of some rows; with counts, those of one class after another."""
    omega = part.weights if frequency or part.weights is None else part.weights ** 2
    plain = part.replace(counts=None, weights=None)
    inflated: Callable[[Array], Array] = (lambda r: r) if inflation is None else inflation(part)
    r = np.empty((part.n_samples, part.n_classes))
    if part.counts is None:
        yield inflated(plain.row_results("residual", params, r)), omega
        return
    for k in range(part.n_classes):
        one = plain.replace(codes=np.full(part.n_samples, k, dtype=np.int32))
        counts = np.array(part.counts[:, k], dtype=np.float64)
        yield inflated(one.row_results("residual", params, r)), counts if omega is None else counts * omega


@dataclass(frozen=True)
class Inflation:
    """What HC2 and HC3 make of residuals: f(I - m S h) r, row by row.

    Attributes
    ----------
    cov_type : {"HC2", "HC3"}
    params : ndarray of shape (n_classes, p)
        In standardised units.
    factors : ndarray of shape (n_pairs, q, p)
        From `MetricCoordinates.contrast_factors`.
    frequency : bool
        An observation has weight 1, whatever the row's.
    """

    cov_type: str
    params: Array
    factors: Array
    frequency: bool

    def __call__(self, part: DenseSamples) -> Callable[[Array], Array]:
        """Return the map of residuals of some rows, (n_samples, n_classes) to the same shape."""
        p = part.replace(counts=None, codes=None, weights=None).row_results(
            "probability", self.params, np.empty((part.n_samples, part.n_classes)))
        m = np.ones(part.n_samples) if part.weights is None or self.frequency else part.weights
        pairs = list(contrast_variances(part, self.factors))
        # the sum of the eigenvalues of m S h
        bound = m * sum((p[:, i] * p[:, k] * variances for i, k, variances in pairs), np.zeros(part.n_samples))
        far = np.flatnonzero(~(bound <= _SERIES))
        near = bound[bound <= _SERIES].max(initial=0.0)
        exact = self._exactly(part.part(far), p[far], m[far]) if far.size else None

        def inflated(r: Array) -> Array:
            # sum_n c_n (m S h)^n r, and h r = -1/2 d r but for what is the same for all classes
            term, p_by_class = r.T.copy(), p.T.copy()
            total, power, n_terms = term.copy(), near, 0
            while power > _ROUNDING:
                n_terms, power = n_terms + 1, power * near
                hr = np.zeros_like(term)
                for i, k, variances in pairs:
                    hr[i] += variances * term[k]
                    hr[k] += variances * term[i]
                hr *= -0.5 * m * ((n_terms - 1 + self.exponent) / n_terms)
                term = p_by_class * (hr - np.sum(p_by_class * hr, axis=0))
                total += term
            result = np.ascontiguousarray(total.T)
            if exact is not None:
                result[far] = exact(r[far])
            return result

        return inflated

    @property
    def exponent(self) -> float:
        """Of 1 / (1 - x) in f."""
        return 0.5 if self.cov_type == "HC2" else 1.0

    def _exactly(self, part: DenseSamples, p: Array, m: Array) -> Callable[[Array], Array]:
        """The same by a decomposition of each row's matrix, whatever its eigenvalues."""
        v, mh = np.sqrt(p), hat_blocks(part, self.factors) * m[:, np.newaxis, np.newaxis]
        # m B'hB = P (v mh v) P, P = I - v v'
        inner = v[:, :, np.newaxis] * mh * v[:, np.newaxis]
        inner -= v[:, :, np.newaxis] * np.matmul(v[:, np.newaxis], inner)
        inner -= np.matmul(inner, v[:, :, np.newaxis]) * v[:, np.newaxis]
        x, vectors = np.linalg.eigh(inner)
        with np.errstate(divide="ignore"):
            t = np.maximum(1.0 - x, 0.0)
            g = 1.0 / (np.sqrt(t) + t) if self.cov_type == "HC2" else 1.0 / t

        def inflated(r: Array) -> Array:
            z = v * np.matmul(mh, r[:, :, np.newaxis])[:, :, 0]
            z -= v * np.sum(v * z, axis=1, keepdims=True)                                       # B' m h r
            with np.errstate(invalid="ignore"):  # inf * 0, of a row that alone determines a parameter
                z = np.matmul(np.matmul(z[:, np.newaxis], vectors) * g[:, np.newaxis], vectors.transpose(0, 2, 1))[:, 0]
            z -= v * np.sum(v * z, axis=1, keepdims=True)
            return r + v * z

        return inflated
