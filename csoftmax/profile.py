"""Profile-likelihood intervals: the values of one coefficient that a likelihood ratio test does not reject.

`result` stands on it. It stands on `hypotheses` and `restricted`.

    profile(c) = max { L(w) : m'w = c },    interval = { c : 2 (sup L - profile(c)) <= chi2_1(level) }

(Venzon & Moolgavkar 1988, doi:10.2307/2347496). The profile is concave, so the interval's ends are where it crosses the
level, one on each side of the estimate; sqrt(2 (L - profile)) is almost linear there, and scipy's brentq finds the
root in a few maximisations, each of which starts from the last.

Where the samples are separated L has no maximum, and yet a supremum. A concave profile that is bounded on one side
rises towards it for ever, so that the interval has no end there exactly if some direction V along which no sample's
likelihood falls (see `separation`) has m'V of that sign: a linear program.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import linalg, sparse
from scipy.optimize import brentq, linprog
from scipy.stats import chi2

from csoftmax.constraints import Constraints
from csoftmax.hypotheses import Fitted
from csoftmax.maximize import maximize
from csoftmax.metric import MetricCoordinates
from csoftmax.restricted import Plane, RestrictedCoordinates, plane_of
from csoftmax.samples import Array, DenseSamples

# The error of an end, of its distance from the estimate.
_PRECISION = 1e-9
# Doublings of the standard error after which an end is given up.
_MAX_STEPS = 60
# Entries of the linear program beyond which it is not tried, and what counts as a positive value of it.
_MAX_ENTRIES = 5_000_000
_POSITIVE = 1e-6
# The scaled gradient to which the supremum of separated samples is approached: the loss is above it by about that.
_SUPREMUM_TOL = 1e-13


class ProfileError(Exception):
    """An end was not found; the message says why."""


class Profile:
    """The profile likelihood of an unpenalised fit.

    Parameters
    ----------
    fitted : Fitted
    level : float
        Of the intervals.
    separated : bool
        The estimate is where a method stopped on its way to infinity.
    """

    def __init__(self, fitted: Fitted, level: float, separated: bool) -> None:
        self._separated = separated
        self._coordinates = fitted.coordinates
        self._u, self._log_likelihood, self._factor = fitted.u, fitted.log_likelihood, fitted.factor
        self._root = float(np.sqrt(chi2.ppf(level, 1)))
        if separated:
            supremum = maximize(self._coordinates, tol=_SUPREMUM_TOL, init=self._coordinates.params(self._u))
            self._u, self._log_likelihood, self._factor = supremum.u, supremum.log_likelihood, None

    def interval(self, contrast: Array) -> tuple[float, float]:
        """Return both ends for sum_ki contrast[k, i] w_ki, finite or not; nan where the data do not determine it.

        `contrast`, of shape (n_classes, p), sums to 0 over classes.

        Raises
        ------
        ProfileError
            If a maximisation failed, or the linear program is too large.
        """
        plane = plane_of(self._coordinates, Constraints(contrast[np.newaxis], np.zeros(1), ""))
        if plane.n_unseen:
            return np.nan, np.nan
        unit = float(np.linalg.norm(self._coordinates.by_coordinates(contrast[np.newaxis])))
        endless = _Endless(self._coordinates, contrast) if self._separated else None
        low, high = (sign * np.inf if endless is not None and endless.towards(sign) else
                     unit * self._end(plane, sign) for sign in (-1.0, 1.0))
        return float(low), float(high)

    def _end(self, plane: Plane, sign: float) -> float:
        """Return A u at one end."""
        direction, step = self._guess(plane.A[0])
        estimate = float(plane.A[0] @ self._u)
        distance_from_root = self._excess(plane, sign, estimate, direction)
        near, far = 0.0, step
        for _ in range(_MAX_STEPS):
            if distance_from_root(far) >= 0.0:
                break
            near, far = far, 2.0 * far
        else:
            raise ProfileError("the likelihood does not fall to the level")
        return estimate + sign * float(brentq(distance_from_root, near, far, xtol=_PRECISION * far))

    def _guess(self, row: Array) -> tuple[Array, float]:
        """Return how u moves with A u, and the Wald interval's half-width of it."""
        mass = self._coordinates.total_mass
        if self._factor is None:
            return row, self._root / np.sqrt(mass)  # the smallest that it may be: the Hessian is at most I
        moved = linalg.cho_solve(self._factor, row)
        variance = float(row @ moved)
        return moved / variance, self._root * float(np.sqrt(variance / mass))

    def _excess(self, plane: Plane, sign: float, estimate: float, direction: Array) -> Callable[[float], float]:
        """Return x -> sqrt(2 (L - profile)) - the level's root, x the distance of A u from its estimate."""
        coordinates = RestrictedCoordinates(self._coordinates, plane)
        known = {0.0: -self._root}
        at, u = 0.0, self._u

        def excess(x: float) -> float:
            nonlocal at, u
            if x not in known:
                there = coordinates.at(np.array([estimate + sign * x]))
                start = self._coordinates.params(u + sign * (x - at) * direction)
                maximum = maximize(there, init=start, exists=not self._separated)
                if not maximum.success and not self._separated:
                    raise ProfileError(f"a restricted fit failed: {maximum.message}")
                at, u = x, there.point(maximum.u)
                deviance = 2.0 * (self._log_likelihood - maximum.log_likelihood)
                known[x] = float(np.sqrt(max(deviance, 0.0))) - self._root
            return known[x]

        return excess


class _Endless:
    """Whether the profile rises for ever, by a linear program.

        maximise sign * m'V    subject to (v_i - v_k)' x~_j >= 0 for each row j, its classes i and all k;  |V| <= 1
    """

    def __init__(self, coordinates: MetricCoordinates, contrast: Array) -> None:
        self._margins = _margins(coordinates.objective.samples)
        target = coordinates.by_standardized(contrast)
        self._target = (target / np.abs(target).max())[:-1].ravel()  # the last class's V is 0: only differences count

    def towards(self, sign: float) -> bool:
        answer = linprog(-sign * self._target, A_ub=-self._margins, b_ub=np.zeros(self._margins.shape[0]),
                         bounds=(-1.0, 1.0), method="highs")
        if answer.status != 0:
            raise ProfileError(f"the linear program that tells whether an end is infinite failed: {answer.message}")
        return bool(-answer.fun > _POSITIVE)


def _margins(samples: DenseSamples) -> sparse.csr_array:
    """Return the rows (v_i - v_k)' x~_j by the coefficients of all classes but the last, x~ standardised."""
    n_classes, p = samples.params_shape
    if samples.n_samples * n_classes * p > _MAX_ENTRIES:
        raise ProfileError("the linear program that tells whether an end is infinite would be too large")
    design = np.ones((samples.n_samples, p))
    design[:, :samples.n_features] = samples.X
    if samples.shift is not None and samples.scale is not None:
        design[:, :samples.n_features] = (design[:, :samples.n_features] - samples.shift) * samples.scale
    if samples.counts is not None:
        present = np.asarray(samples.counts) > 0
    else:
        assert samples.codes is not None
        present = samples.codes[:, np.newaxis] == np.arange(n_classes)
    mass = samples.mass()
    if mass is not None:
        present = present & (mass > 0)[:, np.newaxis]
    parts = []
    for i in range(n_classes):
        own = sparse.csr_array(design[present[:, i]])
        for k in range(n_classes):
            if k != i and own.shape[0]:
                signs = np.zeros(n_classes)
                signs[i], signs[k] = 1.0, -1.0
                parts.append(sparse.kron(signs[np.newaxis, :-1], own, format="csr"))
    return sparse.csr_array(sparse.vstack(parts, format="csr"))
