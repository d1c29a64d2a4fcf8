"""The maximisation under linear constraints: the metric's coordinates on the plane where they hold.

`hypotheses`, `profile` and `bias_reduction` stand on it. It stands on `metric` and `constraints`.

In the metric's coordinates the constraints are A u = b. With Q an orthonormal basis whose first columns span the rows
of A, the points that meet them are u = origin + N v, N the other columns: coordinates v in which the metric is
Euclidean again, so that the same methods, stopping rule and certificate hold. Q is kept as Householder's reflections.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from scipy.linalg import lapack

from csoftmax.constraints import Constraints
from csoftmax.metric import MetricCoordinates, Rounding
from csoftmax.samples import Array

# What collinear columns leave of a constraint of length 1 along directions that change no logit, where it has no part
# in them.
_SEEN = 1e-8


@dataclass(frozen=True)
class Plane:
    """A u = b, the rows of A of length 1 and independent.

    Attributes
    ----------
    A : ndarray of shape (n_rows, n_coordinates)
    b : ndarray of shape (n_rows,)
    n_unseen : int
        How many of the constraints the data cannot tell anything about, for collinear columns: they are not among the
        rows. A column of two that are the same may be 0 without any change of the likelihood.
    """

    A: Array
    b: Array
    n_unseen: int


def plane_of(coordinates: MetricCoordinates, constraints: Constraints) -> Plane:
    """Return independent constraints on the symmetric rows as a plane in the coordinates of an unpenalised model."""
    n_unseen = 0
    if coordinates.unseen.shape[1]:
        rows = coordinates.by_standardized(constraints.matrix)
        constraints, n_unseen = constraints.without(rows @ coordinates.unseen, np.sqrt(np.sum(rows ** 2, axis=(1, 2))),
                                                    _SEEN)
    A = coordinates.by_coordinates(constraints.matrix)
    size = np.linalg.norm(A, axis=1)
    return Plane(A / size[:, np.newaxis], constraints.values / size, n_unseen)


def _of_u(self: RestrictedCoordinates) -> NoReturn:
    raise AttributeError("coordinates on a plane do not have this: `whole` has, of u")


def everywhere(coordinates: MetricCoordinates) -> Plane:
    """Return the plane without constraints: the whole space."""
    return Plane(np.zeros((0, coordinates.n_coordinates)), np.zeros(0), 0)


class RestrictedCoordinates(MetricCoordinates):
    """Coordinates v of the points u = origin + N v that have A u = b; see `MetricCoordinates`.

    `whole` are those of u.
    """

    # what has u's shape
    covariance = contrast_factors = pulled = pulled_outer_product = by_coordinates = extended = property(_of_u)
    hessian_diagonal = by_classes = from_classes = property(_of_u)

    def __init__(self, whole: MetricCoordinates, plane: Plane) -> None:
        self.__dict__.update(whole.__dict__)
        self._whole_loss = None  # that of u
        self.whole = whole
        self._n_fixed = len(plane.A)
        self.n_coordinates = whole.n_coordinates - self._n_fixed
        if self._n_fixed:
            self._reflections, self._tau = lapack.dgeqrf(np.asfortranarray(plane.A.T))[:2]
        self._origin = self._point_of(plane.b)

    def at(self, b: Array) -> RestrictedCoordinates:
        """Return those of the parallel plane A u = b."""
        other = copy.copy(self)
        other._origin = self._point_of(b)
        return other

    def _point_of(self, b: Array) -> Array:
        """Return the u nearest to 0 with A u = b: A' = Q R, so u = Q [R'^-1 b; 0]."""
        padded = np.zeros(self.whole.n_coordinates)
        if self._n_fixed:
            padded[:self._n_fixed] = lapack.dtrtrs(self._reflections[:self._n_fixed], b, trans=1)[0]
        return self._rotated(padded, "N")

    def _rotated(self, columns: Array, trans: str) -> Array:
        """Return Q columns ("N") or Q' columns ("T"); a vector is one."""
        if not self._n_fixed:
            return columns
        matrix = columns.reshape(len(columns), -1)
        rotated: Array = lapack.dormqr("L", trans, self._reflections, self._tau, matrix, 64 * max(matrix.shape))[0]
        return rotated.reshape(columns.shape)

    def lifted(self, columns: Array) -> Array:
        """Return N columns."""
        return self._rotated(np.concatenate([np.zeros((self._n_fixed, *columns.shape[1:])), columns]), "N")

    def along(self, columns: Array) -> Array:
        """Return N' columns."""
        return self._rotated(columns, "T")[self._n_fixed:]

    def point(self, v: Array) -> Array:
        """Return u."""
        return self._origin + self.lifted(v)

    def on_plane(self, matrix: Array) -> Array:
        """Return N' matrix N, of a symmetric matrix."""
        half = self.along(matrix)
        return np.ascontiguousarray(self.along(np.ascontiguousarray(half.T)))

    def fixed_part(self, gradient: Array) -> Array:
        """Return what a gradient by u has across the plane: its projection on the rows of A."""
        rotated = self._rotated(gradient.copy(), "T")
        rotated[self._n_fixed:] = 0.0
        return self._rotated(rotated, "N")

    # ------------------------------------------------------------------------------------ what MetricCoordinates has

    def standardized_rows(self, u: Array) -> Array:
        return self.whole.standardized_rows(self.point(u))

    def penalty(self, u: Array) -> float:
        return self.whole.penalty(self.point(u))

    def loss_and_gradient(self, u: Array) -> tuple[float, Array]:
        value, gradient = self.whole.loss_and_gradient(self.point(u))
        return value, self.along(gradient)

    def rounding(self, u: Array) -> Rounding:
        return self.whole.rounding(self.point(u))

    def hidden_gradient(self, u: Array) -> float:
        return self.whole.hidden_gradient(self.point(u))

    def hessian_product(self, u: Array, v: Array) -> Array:
        return self.along(self.whole.hessian_product(self.point(u), self.lifted(v)))

    def hessian(self, u: Array, mass: Array | None = None) -> Array:
        return self.on_plane(self.whole.hessian(self.point(u), mass))

    def logit_range(self, v: Array) -> float:
        return self.whole.logit_range(self.lifted(v))

    def params(self, u: Array) -> Array:
        return self.whole.params(self.point(u))

    def coordinates(self, params: Array) -> Array:
        return self.nearest(self.whole.coordinates(params))

    def nearest(self, u: Array) -> Array:
        """Return the v of the point of the plane nearest to u."""
        return self.along(u - self._origin)
