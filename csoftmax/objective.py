"""What is maximised: the log-likelihood of samples, less a penalty; as a loss, for any optimiser or sampler.

`metric`, `lasso` and users' own optimisers stand on it. It stands on `samples` and `encoding`.

    loss(theta) = -L(theta) + 1/2 sum_k sum_i l2_ki w_ki^2       (a sum over samples; intercepts are not penalised)
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax._threads import check_n_threads
from csoftmax.encoding import encode
from csoftmax.samples import Array, DenseSamples


class SoftmaxObjective:
    """The loss of softmax regression bound to data: to minimise, a sum over samples.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,) of labels, or (n_samples, n_classes) of counts
    l2 : float, or array-like of shape (n_features,) or (n_classes, n_features)
        The loss is -L + 1/2 sum_ki l2_ki w_ki^2, over all rows: one number for all coefficients, or one for each
        feature, or for each class (in the order of `classes`) and feature.
    fit_intercept : bool
    sample_weight : array-like of shape (n_samples,), optional
        Frequency weights: weight 2 is the row twice.
    offset : array-like of shape (n_samples, n_classes), optional
        Added to the logits, in the order of `classes`.
    n_threads : int, optional
        Results are bit-identical for every value.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
    l2 : ndarray of shape (n_features,) or (n_classes, n_features)
    n_params : int
        The length of theta: rows [w_k, b_k] of all classes stacked, n_classes * (n_features + 1) with an intercept.

    Raises
    ------
    ValueError, TypeError
        From the constructor, which checks the data once: naming the argument, what came and what is wanted; from the
        methods, if theta does not have shape (n_params,).

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> objective = cs.SoftmaxObjective([[0.0], [1.0], [2.0]], ["a", "b", "b"], l2=1.0)
    >>> loss, gradient = objective.loss_and_gradient(np.zeros(objective.n_params))
    >>> round(loss, 6), gradient.tolist()
    (2.079442, [1.5, 0.5, -1.5, -0.5])
    """

    samples: DenseSamples
    classes: NDArray[Any]
    l2: Array

    def __init__(self, X: ArrayLike, y: ArrayLike, *, l2: ArrayLike = 0.0, fit_intercept: bool = True,
                 sample_weight: ArrayLike | None = None, offset: ArrayLike | None = None,
                 n_threads: int | None = None) -> None:
        penalty = check_penalty("l2", l2)
        data = encode(X, y, sample_weight=sample_weight, offset=offset, fit_intercept=fit_intercept,
                      n_threads=check_n_threads(n_threads))
        self._bind(data.samples, spread_penalty("l2", penalty, data.samples))
        self.classes = data.classes

    @classmethod
    def from_samples(cls, samples: DenseSamples, l2: Array) -> SoftmaxObjective:
        """Return the objective of samples already checked, `l2` of shape (n_features,) or (n_classes, n_features)."""
        objective = cls.__new__(cls)
        objective._bind(samples, l2)
        objective.classes = np.arange(samples.n_classes)
        return objective

    def _bind(self, samples: DenseSamples, l2: Array) -> None:
        self.samples = samples
        self.l2 = l2
        self.n_params = samples.params_shape[0] * samples.params_shape[1]

    @functools.cached_property
    def _penalty(self) -> Array:
        """l2 beside each parameter of a class: 0 for the intercept."""
        return np.insert(self.l2, self.samples.n_features, 0.0, axis=-1) if self.samples.fit_intercept else self.l2

    def _rows(self, theta: ArrayLike, name: str = "theta") -> Array:
        rows = np.ascontiguousarray(theta, dtype=np.float64)
        if rows.shape != (self.n_params,):
            raise ValueError(f"{name} has shape {rows.shape}; ({self.n_params},) is wanted: rows [w_k, b_k] of "
                             f"{self.samples.n_classes} classes stacked")
        return rows.reshape(self.samples.params_shape)

    def loss(self, theta: ArrayLike) -> float:
        """Return the loss at theta, a sum over samples.

        Examples
        --------
        >>> import csoftmax as cs
        >>> round(cs.SoftmaxObjective([[1.0], [2.0]], [0, 1]).loss([0, 0, 0, 0]), 6)
        1.386294
        """
        rows = self._rows(theta)
        return -self.samples.log_likelihood(rows) + 0.5 * float(np.sum(self._penalty * rows * rows))

    def loss_gradient(self, theta: ArrayLike) -> Array:
        """Return the gradient of the loss, of shape (n_params,)."""
        return self.loss_and_gradient(theta)[1]

    def loss_and_gradient(self, theta: ArrayLike) -> tuple[float, Array]:
        """Return the loss and its gradient of shape (n_params,), in one pass over X."""
        rows = self._rows(theta)
        value, gradient = self.samples.log_likelihood_and_gradient(rows)
        shrink = self._penalty * rows
        return -value + 0.5 * float(np.sum(shrink * rows)), (shrink - gradient).ravel()

    def loss_hessian_product(self, theta: ArrayLike, v: ArrayLike) -> Array:
        """Return the product of the loss's Hessian with `v`, of shape (n_params,), in one pass over X."""
        rows, direction = self._rows(theta), self._rows(v, "v")
        return (self._penalty * direction - self.samples.hessian_product(rows, direction)).ravel()

    def loss_hessian(self, theta: ArrayLike) -> Array:
        """Return the Hessian of the loss, of shape (n_params, n_params)."""
        rows = self._rows(theta)
        hessian = -self.samples.hessian(rows).reshape(self.n_params, self.n_params)
        diagonal = np.arange(self.n_params)
        hessian[diagonal, diagonal] += np.broadcast_to(self._penalty, rows.shape).ravel()
        return hessian


def check_penalty(name: str, value: Any) -> float | Array:
    """Return a penalty as float, or as an array where it has dimensions; raises unless finite and 0 or more."""
    if type(value) is float and 0.0 <= value < math.inf:
        return value  # 10 us less, twice in each fit
    try:
        penalty = np.array(value)
        if value is None or penalty.dtype.kind in "USMmc":  # text of a number, too
            raise TypeError
        penalty = penalty.astype(np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {value!r}; a number is wanted") from None
    wrong = ~((penalty >= 0.0) & (penalty < np.inf))
    if penalty.ndim == 0:
        if wrong:
            raise ValueError(f"{name} is {float(penalty)}; a finite number of 0 or more is wanted")
        return float(penalty)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(f"{name} has {penalty[place]} at {place}; finite numbers of 0 or more are wanted")
    return penalty


def is_penalty(penalty: float | Array) -> bool:
    """Whether any of a checked penalty is not 0; of a number 5 us less than np.any."""
    return penalty != 0.0 if isinstance(penalty, float) else bool(penalty.any())


def spread_penalty(name: str, penalty: float | Array, samples: DenseSamples) -> Array:
    """Return a checked penalty with shape (n_features,), or (n_classes, n_features) where classes differ.

    Raises
    ------
    ValueError
        If it has another shape.
    """
    n_classes, d = samples.n_classes, samples.n_features
    if isinstance(penalty, float):
        return np.full(d, penalty)
    shape = penalty.shape
    if shape not in ((d,), (n_classes, d)):
        raise ValueError(f"{name} has shape {shape}; a number, ({d},) for each feature, or ({n_classes}, {d}) for each "
                         f"class and feature is wanted")
    spread = np.broadcast_to(penalty, (n_classes, d))
    return (spread if (spread != spread[0]).any() else spread[0]).copy()


def unpenalized_features(penalty: Array, samples: DenseSamples) -> NDArray[np.intp]:
    """Return the features that a spread penalty leaves free: one on a single class only makes it their reference."""
    penalized = np.broadcast_to(penalty > 0, (samples.n_classes, samples.n_features))
    return np.flatnonzero(penalized.sum(axis=0) <= 1)
