"""The metric's coordinates from a point on, with logits that rounding leaves alone: for the last digits of hard fits.

`maximize` stands on it. It stands on `metric`.

Where logits are sums of terms of 1e5 that nearly cancel, each is wrong by 1e-11, and where X is so ill-conditioned that
the Hessian has eigenvalues of 1e-12 this moves a Newton step's logits by 1. From a point u0 on the logits are

    a_j(u0 + v) = a_j(u0) + Q V z_j,    z_j = T' x~_j,

a_j(u0) an offset, summed in long double and less its largest over classes, and V the rows of v. z_j, in which no terms
cancel, takes a copy of X, and so this is for fits that fail without. The penalty's gradient at u0 is in long double,
too, and residuals are sums without cancellation: of separated samples with little penalty they are all below 1e-10.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.metric import MetricCoordinates, Rounding
from csoftmax.objective import SoftmaxObjective
from csoftmax.samples import Array


class RefinedCoordinates(MetricCoordinates):
    """Coordinates v of the points u = origin + v; `whole` are those of u."""

    def __init__(self, whole: MetricCoordinates, origin: Array) -> None:
        self.__dict__.update(whole.__dict__)
        self._whole_loss = None  # that of u
        self.whole, self.origin = whole, origin
        samples = whole.objective.samples
        T, rows, self._penalty_gradient = whole.extended(origin)
        z, logits = np.empty((samples.n_samples, T.shape[1])), np.empty((samples.n_samples, samples.n_classes))
        for start, stop in samples.blocks():
            design = samples.part(slice(start, stop)).design(np.longdouble)
            z[start:stop] = design @ T
            sums = design @ rows.T
            if samples.offset is not None:
                sums += samples.offset[start:stop]
            logits[start:stop] = sums - sums.max(axis=1, keepdims=True)
        self._T = np.eye(T.shape[1])
        self._samples = samples.replace(X=z, offset=logits, fit_intercept=False, shift=None, scale=None)
        self.objective = SoftmaxObjective.from_samples(self._samples, np.zeros(z.shape[1]))

    def loss_and_gradient(self, u: Array) -> tuple[float, Array]:
        rows, params = self._rows(u), self.standardized_rows(u)
        value = self._samples.log_likelihood(params)
        pulled = self.pulled(self._gradient(params)).reshape(rows.shape) / self.total_mass
        total = (self._penalty_gradient - pulled).astype(np.float64) + self._shrink(rows)
        return (self.penalty(u) - value) / self.total_mass, total.ravel()

    def _gradient(self, params: Array) -> NDArray[Any]:
        """Return that of the log-likelihood, a sum in long double, 1 - p as the sum of the others' probabilities."""
        samples, C = self._samples, self.n_classes
        gradient, others = np.zeros(params.shape, dtype=np.longdouble), 1.0 - np.eye(C)
        for start, stop in samples.blocks():
            part = samples.part(slice(start, stop))
            p = part.row_results("probability", params, np.empty((part.n_samples, C)))
            if part.counts is None:
                assert part.codes is not None
                y = (part.codes[:, np.newaxis] == np.arange(C)).astype(np.float64)
            else:
                y = np.asarray(part.counts, dtype=np.float64)
            # y_k - N p_k = y_k (1 - p_k) - (N - y_k) p_k
            residual = y * (p @ others) - (y @ others) * p
            if part.weights is not None:
                residual *= part.weights[:, np.newaxis]
            gradient += residual.T.astype(np.longdouble) @ part.X
        return gradient

    def penalty(self, u: Array) -> float:
        return self.whole.penalty(self.origin + u)

    def rounding(self, u: Array) -> Rounding:
        return self.whole.rounding(self.origin + u)

    def hidden_gradient(self, u: Array) -> float:
        return self.whole.hidden_gradient(self.origin + u)

    def params(self, u: Array) -> Array:
        return self.whole.params(self.origin + u)

    def coordinates(self, params: Array) -> Array:
        return self.whole.coordinates(params) - self.origin
