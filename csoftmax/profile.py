"""Profile-likelihood intervals: the values of one coefficient that a likelihood ratio test does not reject.

`result` stands on it. It stands on `hypotheses`, `restricted`, `bias_reduction` and `separation`.

    profile(c) = max { L(w) : m'w = c },    interval = { c : 2 (sup L - profile(c)) <= chi2_1(level) }

(Venzon & Moolgavkar 1988, doi:10.2307/2347496). The profile is concave, so the interval's ends are where it crosses the
level, one on each side of the estimate. There r(c) = sqrt(2 (L - profile)) is almost linear, and its slope comes with
the restricted maximum (the multiplier of the constraint), so that two or three maximisations find an end.

Where the samples are separated L has no maximum, and yet a supremum, and so have restricted fits. Two bounds hold it:

    L(u) at any u that meets the constraint    <=    sup L    <=    max L',

L' being L without some of the classes of some rows, for each of which log sum_k exp(a_k) is the less. What vanishes on
the way to the supremum is left out, so that L' has a maximum where certificates hold and that costs as little as any;
and the supremum is known where both bounds agree. No number is given that they do not bound.

That an end is infinite has a witness too: a direction V along which no sample's likelihood falls (see `separation`) and
m'w rises. Along it the profile never falls.

With bias reduction it is L + 1/2 log det I that is profiled, I the information of all parameters (Heinze & Schemper
2002, doi:10.1002/sim.1047). It tends to -inf along every direction, so that ends are finite whatever the samples. It
need not be concave, and then an end is a crossing of the level, not known to be the only one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.interpolate import CubicHermiteSpline
from scipy.stats import chi2

from csoftmax.bias_reduction import maximize_penalized, penalized_score
from csoftmax.certificate import DENSE_LIMIT, MeanLoss, NewtonSteps, hessian_cost, length, polish
from csoftmax.constraints import Constraints
from csoftmax.hypotheses import Fitted, hessian_factor
from csoftmax.maximize import DEFAULT_TOL, HIDDEN_GRADIENT, maximize
from csoftmax.metric import MetricCoordinates
from csoftmax.objective import SoftmaxObjective
from csoftmax.restricted import Plane, RestrictedCoordinates, everywhere, plane_of
from csoftmax.samples import Array, DenseSamples, blocks_of
from csoftmax.separation import RisingDirections

# What is left of r, relative to the level's root, where the next step is the last: a slope has a digit at the least.
_NEAR_ENOUGH = 1e-7
# The cost of a Hessian, in gradients, up to which Newton steps are tried first.
_CHEAP_HESSIAN = 30.0
# Maximisations after which an end is given up, and times that the classes left out are chosen anew.
_MAX_STEPS = 60
_MAX_FACES = 6
# By how much the bounds of a supremum may differ, in units of log-likelihood; and for its rounding, relative to it.
_GAP = 1e-8
_ROUNDING = 1e-13
# Scaled gradient to which a supremum is approached before it is looked for along the last Newton step.
_SUPREMUM_TOL = 1e-10
# Probabilities below which a class may be left out of a row.
_VANISHING = (1e-10, 1e-7, 1e-5, 1e-4, 1e-3, 1e-2, 1e-13)
# Directions that change no logit of what is left: eigenvalues, in the metric, and parts of a unit vector.
_FLAT = 1e-13
_UNSEEN = 1e-7
# Added to a logit to leave a class out.
_NEVER = -1e30


class ProfileError(Exception):
    """An end was not found; the message says why."""


class _RestrictedFitError(ProfileError):
    """A restricted fit failed.

    Attributes
    ----------
    c : float
        The value of the contrast.
    """

    c: float


class Profile:
    """The profile likelihood of a fit without l1 and l2.

    Parameters
    ----------
    fitted : Fitted
        With L*, the likelihood penalised by Jeffreys' prior, in place of L where `bias_reduced`.
    level : float
        Of the intervals.
    separated : bool
        The estimate is where a method stopped on its way to infinity.
    bias_reduced : bool

    Raises
    ------
    ProfileError
        If the samples are separated and the supremum was not found.
    """

    def __init__(self, fitted: Fitted, level: float, separated: bool, bias_reduced: bool = False) -> None:
        self._coordinates = fitted.coordinates
        self._bias_reduced = bias_reduced
        self._root = float(np.sqrt(chi2.ppf(level, 1)))
        self._rising: RisingDirections | None = None
        whole = everywhere(fitted.coordinates)
        self._face = _Face(fitted.coordinates, whole.A, fitted.u, fitted.log_likelihood, None)
        if separated:
            self._rising = RisingDirections(fitted.coordinates.objective.samples)
            self._face = _supremum(RestrictedCoordinates(fitted.coordinates, whole), fitted.u)
        self._top = self._face.log_likelihood

    def interval(self, contrast: Array) -> tuple[float, float]:
        """Return both ends for sum_ki contrast[k, i] w_ki, finite or not; nan where the data do not determine it.

        `contrast`, of shape (n_classes, p), sums to 0 over classes.

        Raises
        ------
        ProfileError
            If a maximisation failed, or the bounds of a supremum differ.
        """
        if plane_of(self._coordinates, Constraints(contrast[np.newaxis], np.zeros(1), "")).n_unseen:
            return np.nan, np.nan
        # What the supremum determines rises along no direction: each of those is flat on the face.
        determined = self._face.row(contrast) is not None
        low, high = (np.inf if not determined and self._rises_for_ever(sign * contrast) else
                     self._end(sign * contrast, determined) for sign in (-1.0, 1.0))
        return -low, high

    def _rises_for_ever(self, contrast: Array) -> bool:
        return self._rising is not None and self._rising.along(contrast) is not None

    def _end(self, contrast: Array, determined: bool) -> float:
        """Return where the profile of the contrast, rising from its estimate, falls to the level."""
        face, c = self._face, None
        if not determined:
            face, c = self._face_at(contrast, 0.0, self._face.params), 0.0
        for _ in range(_MAX_FACES):
            line = _Line(face, contrast, self._top, self._root, self._bias_reduced)
            try:
                end, u = line.crossing(c)
            except _RestrictedFitError as error:
                if self._rising is None:
                    raise
                # what is left out here may be what the scale of columns hangs on there
                c = error.c
                face = self._face_at(contrast, c, face.params)
                continue
            if self._rising is None:
                return end
            params = face.coordinates.params(u)
            c = float(np.sum(contrast * params))
            if face.reaches(self._plane(contrast, c), params, line.log_likelihood):
                return end
            face = self._face_at(contrast, c, params)
        raise ProfileError("the bounds of a restricted fit's supremum differ")

    def _plane(self, contrast: Array, c: float) -> RestrictedCoordinates:
        return RestrictedCoordinates(self._coordinates, plane_of(
            self._coordinates, Constraints(contrast[np.newaxis], np.array([c]), "")))

    def _face_at(self, contrast: Array, c: float, params: Array) -> _Face:
        """Return the face whose maximum is the supremum where the contrast is c; the search begins at `params`."""
        return _supremum(self._plane(contrast, c), self._coordinates.coordinates(params), contrast, c)


@dataclass(frozen=True, eq=False)
class _Face:
    """L', and its maximum.

    Attributes
    ----------
    coordinates : MetricCoordinates
        Of the samples without what was left out.
    flat : ndarray of shape (n_flat, n_coordinates)
        Orthonormal directions that change no logit of them.
    u : ndarray of shape (n_coordinates,)
        The maximum.
    log_likelihood : float
    away : ndarray of shape (n_classes, p), or None
        A direction along which what was left out vanishes.
    """

    coordinates: MetricCoordinates
    flat: Array
    u: Array
    log_likelihood: float
    away: Array | None

    @property
    def params(self) -> Array:
        return self.coordinates.params(self.u)

    @functools.cached_property
    def _factor(self) -> tuple[RestrictedCoordinates, tuple[Array, bool]] | None:
        """The coordinates where flat directions are 0, and the Hessian's factor at the maximum; None without one."""
        free = self.restricted(None)
        if free.n_coordinates > DENSE_LIMIT:
            return None
        factor = hessian_factor(free, free.nearest(self.u))
        return None if factor is None else (free, factor)

    def wald(self, row: Array) -> tuple[Array, float]:
        """Return how u moves with row'u where the likelihood is quadratic, and dr/d(row'u) there; |row| = 1."""
        mass = self.coordinates.total_mass
        if self._factor is None:
            return row, float(np.sqrt(mass))  # the steepest that it may be: the Hessian is at most I
        free, factor = self._factor
        moved = free.lifted(linalg.cho_solve(factor, free.along(row)))
        variance = float(row @ moved)
        return moved / variance, float(np.sqrt(mass / variance))

    def row(self, contrast: Array) -> Array | None:
        """Return a with a'u the contrast; None where it changes along a flat direction."""
        if plane_of(self.coordinates, Constraints(contrast[np.newaxis], np.zeros(1), "")).n_unseen:
            return None
        row: Array = self.coordinates.by_coordinates(contrast[np.newaxis])[0]
        return None if np.linalg.norm(self.flat @ row) > _UNSEEN * np.linalg.norm(row) else row

    def restricted(self, row: Array | None, value: float = 0.0) -> RestrictedCoordinates:
        """Return the coordinates of the plane where flat directions are 0 and row'u is `value`."""
        rows, b = self.flat, np.zeros(len(self.flat))
        if row is not None:
            size = float(np.linalg.norm(row))
            rows, b = np.concatenate([rows, row[np.newaxis] / size]), np.append(b, value / size)
        return RestrictedCoordinates(self.coordinates, Plane(rows, b, 0))

    def reaches(self, plane: RestrictedCoordinates, params: Array, log_likelihood: float) -> bool:
        """Whether L at a point of the plane, far away from `params`, is no less than L' there."""
        assert self.away is not None
        wanted = log_likelihood - _allowed(log_likelihood)
        start = plane.coordinates(params)
        direction = plane.coordinates(params + self.away) - start
        # what vanishes slowly beside the rest takes long
        return any(_log_likelihood(plane, start + far * direction) >= wanted
                   for far in (1.0, 0.0, 2.0, 4.0, 8.0, 64.0, 1e3, 1e4, 1e5))


class _Line:
    """The profile of a contrast on a face.

    Attributes
    ----------
    log_likelihood : float
        At the last point.
    """

    def __init__(self, face: _Face, contrast: Array, top: float, root: float, bias_reduced: bool) -> None:
        row = face.row(contrast)
        if row is None:
            raise ProfileError("the likelihood does not fall to the level")
        self._face, self._top, self._root, self._bias_reduced = face, top, root, bias_reduced
        self._unit = float(np.linalg.norm(row))
        self._row = row / self._unit
        self._plane = face.restricted(row)
        self._known: list[tuple[float, Array]] = []
        self.log_likelihood = np.nan

    def crossing(self, c: float | None) -> tuple[float, Array]:
        """Return where r crosses the level's root, and the maximum next to there; from c, or from the estimate."""
        points: list[tuple[float, float, float]] = []  # r less the root, x and dr/dx
        if c is None:
            face = self._face
            estimate = float(self._row @ face.u)
            direction, slope = face.wald(self._row)
            self._known = [(estimate, face.u), (estimate + 1.0, face.u + direction)]
            points.append((-self._root, estimate, slope))
            x = estimate + self._root / slope
        else:
            x = c / self._unit
        low, high = -np.inf, np.inf
        for _ in range(_MAX_STEPS):
            u, r, slope = self._at(x)
            value = r - self._root
            if value < 0.0:
                low = x
            else:
                high = x
            points = [*points[-1:], (value, x, slope)]
            if slope > 0.0 and min(abs(value), (high - low) * slope) <= _NEAR_ENOUGH * self._root:
                return self._unit * (x - value / slope), u
            x = _next(points, self._root, low, high)
        raise ProfileError("the likelihood does not fall to the level")

    def _at(self, x: float) -> tuple[Array, float, float]:
        """Return the maximum where row'u = x, r and dr/dx."""
        there = self._plane.at(np.append(np.zeros(len(self._face.flat)), x))
        try:
            v, self.log_likelihood = _maximum(there, self._start(x), self._bias_reduced)
        except _RestrictedFitError as error:
            error.c = self._unit * x
            raise
        u = there.point(v)
        self._known = [*self._known[-1:], (x, u)]
        r = float(np.sqrt(max(2.0 * (self._top - self.log_likelihood), 0.0)))
        # r^2 = 2 (top - L), so r dr/dx = -dL/dx = -row' grad L
        pull = -float(self._row @ _score(self._face.coordinates, u, self._bias_reduced))
        return u, r, pull / r if r > 0.0 else 0.0

    def _start(self, x: float) -> Array:
        """Return u at x, on the straight line through the last two that are known."""
        if len(self._known) < 2:
            return self._known[0][1] if self._known else self._face.u
        (first, u), (second, v) = self._known
        return v + (x - second) / (second - first) * (v - u) if second != first else v


def _next(points: list[tuple[float, float, float]], root: float, low: float, high: float) -> float:
    """Return where to look next for the root of a rising function, between low and high.

    `points` are the last one or two, each with its value (r less `root`), x and slope.
    """
    value, x, slope = points[-1]
    r = value + root
    guess = np.nan
    if slope > 0.0:
        guess = x - value / slope
        if len(points) == 1 and r < 0.25 * root:
            # near a supremum at infinity 2 (L - profile) falls like an exponential
            guess = x + r * np.log(root / r) / slope
        elif len(points) == 2 and points[0][2] > 0.0 and abs(value) < 0.5 * min(root, abs(points[0][0])):
            values, places, slopes = np.array(sorted(points)).T
            guess = float(CubicHermiteSpline(values, places, 1.0 / slopes)(0.0))
        if not low < guess < high and value > 0.0:
            guess = x - (r * r - root * root) / (2.0 * r * slope)  # r^2 is convex: this does not cross the root
    if low < guess < high:
        return guess
    if np.isfinite(low) and np.isfinite(high):
        return 0.5 * (low + high)
    step = 2.0 * abs(x - points[0][1]) or 1.0  # in the metric logits move by about 1 then
    return x - step if value > 0.0 else x + step


def _maximum(there: RestrictedCoordinates, u: Array, bias_reduced: bool) -> tuple[Array, float]:
    """Return the maximum on a plane of what has one, and the log-likelihood; from near u or from the plane's origin."""
    near = there.nearest(u)
    if not bias_reduced and hessian_cost(there) <= _CHEAP_HESSIAN:
        # from so near Newton steps alone get there, and are half the work
        v, mean_loss, certificate = polish(MeanLoss(there), near, DEFAULT_TOL, may_step=True, form=True)
        if certificate.holds and there.hidden_gradient(v) <= HIDDEN_GRADIENT:
            return v, -there.total_mass * mean_loss
    failed = None
    origin = np.zeros(there.n_coordinates)
    for start, solver in ((near, "auto"), (origin, "auto"), (near, "trust-exact"), (origin, "trust-exact")):
        init = there.params(start)
        maximum = maximize_penalized(there, init=init) if bias_reduced else maximize(there, solver=solver, init=init,
                                                                                     exists=True)
        if maximum.success:
            return maximum.u, maximum.penalized_log_likelihood
        failed = failed or maximum.message
    raise _RestrictedFitError(f"a restricted fit failed: {failed}")


def _score(coordinates: MetricCoordinates, u: Array, bias_reduced: bool) -> Array:
    """Return the gradient of the log-likelihood by u."""
    if bias_reduced:
        return penalized_score(coordinates, u)
    return -coordinates.total_mass * coordinates.loss_and_gradient(u)[1]


def _log_likelihood(coordinates: MetricCoordinates, u: Array) -> float:
    return -coordinates.total_mass * coordinates.loss_and_gradient(u)[0]


def _allowed(log_likelihood: float) -> float:
    """How far apart the bounds of a supremum may be."""
    return _GAP + _ROUNDING * abs(log_likelihood)


# ----------------------------------------------------------------------------------------- suprema, where separated

def _supremum(there: RestrictedCoordinates, u: Array, contrast: Array | None = None, c: float = 0.0) -> _Face:
    """Return the face whose maximum is the supremum on a plane, where the contrast is c: max L' = L at some point."""
    if there.whole.n_coordinates > DENSE_LIMIT:
        raise ProfileError(f"the samples are separated, and {there.whole.n_coordinates} coefficients are too many")
    for point in _approaches(there, u):
        for least in _VANISHING:
            face = _face(there.whole, point, least, contrast, c)
            if face is not None and face.reaches(there, face.params, face.log_likelihood):
                return face
    raise ProfileError("the bounds of a supremum of the likelihood differ")


def _approaches(there: RestrictedCoordinates, u: Array) -> Iterator[Array]:
    """Yield points on the way to the supremum on a plane: from u, from the plane's origin, and by another method."""
    origin = np.zeros(there.n_coordinates)
    for start, solver in ((there.nearest(u), "auto"), (origin, "auto"), (origin, "trust-exact")):
        v = maximize(there, solver=solver, tol=_SUPREMUM_TOL, init=there.params(start)).u
        newton = NewtonSteps(there, v, form=True)
        if newton.factorized:
            # near the supremum a Newton step moves what vanishes by a logit of 1, and nothing else: many of them
            step = newton.step(there.loss_and_gradient(v)[1])
            v = max((v + far * step for far in (0.0, 1.0, 4.0, 16.0, 32.0)), key=lambda v: _log_likelihood(there, v))
        yield there.point(v)


def _face(whole: MetricCoordinates, u: Array, least: float, contrast: Array | None, c: float) -> _Face | None:
    """Return L without classes of probability up to `least` at u; None where its maximum is not certified."""
    samples = whole.objective.samples
    left, only = _left(samples, whole.standardized_rows(u), least)
    mass = samples.mass()
    weights = np.ones(samples.n_samples) if samples.weights is None else samples.weights
    if not only[slice(None) if mass is None else mass > 0].all():
        weights = np.where(only, 0.0, weights)  # what is far off in such a row is to set no scale
    bare = samples.replace(offset=left, weights=weights)
    no_penalty = np.zeros(samples.n_features)
    coordinates = MetricCoordinates(SoftmaxObjective.from_samples(bare, no_penalty))
    values, vectors = np.linalg.eigh(coordinates.hessian(np.zeros(coordinates.n_coordinates)))
    flat = vectors.T[values <= _FLAT * values.max(initial=0.0)]
    if samples.offset is not None:
        both = bare.replace(offset=left + samples.offset)
        coordinates = MetricCoordinates(SoftmaxObjective.from_samples(both, no_penalty))
    params = whole.params(u)
    start = coordinates.coordinates(params)
    face = _Face(coordinates, flat, start, np.nan, None)
    free = face.restricted(None if contrast is None else face.row(contrast), c)
    try:
        v, log_likelihood = _maximum(free, start, bias_reduced=False)
    except _RestrictedFitError:
        return None
    found = free.point(v)
    # a direction taken for flat that is not: there is more to gain
    if length(flat @ coordinates.loss_and_gradient(found)[1]) > HIDDEN_GRADIENT:
        return None
    seen = coordinates.params(free.point(free.nearest(start))) - coordinates.params(found)
    return _Face(coordinates, flat, found, log_likelihood, params - coordinates.params(found) - seen)


def _left(samples: DenseSamples, rows: Array, least: float) -> tuple[Array, NDArray[np.bool_]]:
    """Return offsets of the classes that are left in each row, 0, and left out; and the rows where one alone is left.

    A class that a row has is left in.
    """
    left = samples.row_results("probability", rows, np.empty((samples.n_samples, samples.n_classes)))
    for first, p in blocks_of(left):
        if samples.counts is not None:
            kept = np.asarray(samples.counts[first:first + len(p)]) > 0
        else:
            assert samples.codes is not None
            kept = samples.codes[first:first + len(p), np.newaxis] == np.arange(samples.n_classes)
        p[:] = np.where(kept | (p > least), 0.0, _NEVER)
    return left, (left == 0.0).sum(axis=1) <= 1
