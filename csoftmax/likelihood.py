"""The equations of softmax regression as plain functions of arrays.

Scientific code and tests stand on it. It stands on `samples`.
Sums run over samples; signs are those of the equations: L is the log-likelihood, to be maximised.

    a_k(x~) = w~_k' x~,  x~ = [x; 1],  w~_k = [w_k; b_k]
    L = sum_j m_j [ a_{y_j}(x~_j) - log sum_k exp(a_k(x~_j)) ]
    dL_j/da_k = m_j (1{y_j = k} - softmax_k)            grad_{w~_k} L = sum_j dL_j/da_k x~_j
    grad^2_{w~_i, w~_k} L = - sum_j m_j softmax_i (1{i = k} - softmax_k) x~_j x~_j'

Shapes and dtypes are checked; values only when a result is not finite: then the first nan or infinity in X, y,
sample_weight or offset is named. Parameters that are not finite give nan.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax._threads import check_n_threads, row_blocks
from csoftmax.encoding import as_matrix, check_finite, refuse_masked
from csoftmax.samples import Array, DenseSamples, aligned, blocks_of, check_codes

__all__ = ["gradient", "gradient_per_sample", "hessian", "hessian_product", "log_likelihood",
           "log_likelihood_and_gradient", "log_likelihood_per_sample", "logit_residuals", "predict_proba"]

_PARAMETERS = """Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        float64 is read in place; any other real dtype, and columns that are not contiguous, a block at a time.{single}
    y : array-like of shape (n_samples,) or (n_samples, n_classes)
        Integer codes 0..n_classes-1, or counts (soft labels) of each class.
    coef : array-like of shape (n_classes, n_features)
    intercept : array-like of shape (n_classes,), optional
        Without it there is no intercept.{direction}
    sample_weight : array-like of shape (n_samples,), optional
    offset : array-like of shape (n_samples, n_classes), optional
        Added to the logits. -inf takes a class out of its row: its probability there is 0.
    n_threads : int, optional
        The result is bit-identical for every value."""

_RAISES = """Raises
    ------
    ValueError, TypeError
        If a shape or dtype does not fit, an array is masked, a code is outside 0..n_classes-1, or the result is not
        finite because X, y, sample_weight or offset holds a nan or an infinity (an offset of -inf at a sample's own
        class, say); the message names the argument and the place."""


_SINGLE = """
        float32 is computed in float32 within a block of at most 512 rows, and in float64 over blocks: about 1e-7 of
        the sum of absolute terms, in 0.4 to 0.8 of the time. For float64's digits hand over ``X.astype(float)``."""


def _documented(direction: str = "", single: str = "") -> Any:
    def fill(function: Any) -> Any:
        parameters = _PARAMETERS.format(direction=direction, single=single)
        function.__doc__ = function.__doc__.replace("PARAMETERS", parameters).replace("RAISES", _RAISES)
        return function
    return fill


_FLOAT64 = np.dtype(np.float64)  # one object, as a rule: to compare by identity is 0.1 us less


def _as_real(name: str, array: Any, dtype: type | None = None) -> NDArray[Any]:
    """Return an array of real numbers, converted to `dtype` if one is given."""
    if type(array) is np.ndarray and array.dtype is _FLOAT64:
        return array
    values = np.asarray(array)
    if values.dtype.kind not in "fiub":
        raise TypeError(f"{name} has dtype {values.dtype}; real numbers are wanted")
    if values is not array:
        refuse_masked(name, array)
    return np.asarray(values, dtype)


def _as_params(coef: Any, intercept: Any, n_features: int, names: tuple[str, str] = ("coef", "intercept")) -> Array:
    rows = _as_real(names[0], coef, np.float64)
    if rows.ndim != 2 or rows.shape[1] != n_features:
        raise ValueError(f"{names[0]} has shape {rows.shape}; (n_classes, {n_features}) is wanted, one column for each "
                         f"column of X")
    if rows.shape[0] < 1:
        raise ValueError(f"{names[0]} has shape {rows.shape}; it needs one row for each class")
    if intercept is None:
        return aligned(np.ascontiguousarray(rows))
    last = _as_real(names[1], intercept, np.float64)
    if last.shape != (rows.shape[0],):
        raise ValueError(f"{names[1]} has shape {last.shape}; ({rows.shape[0]},) is wanted, one for each row of "
                         f"{names[0]}")
    params = np.empty((rows.shape[0], n_features + 1))
    params[:, :-1] = rows
    params[:, -1] = last
    return params


def _prepare(X: Any, y: Any, coef: Any, intercept: Any, sample_weight: Any, offset: Any,
             n_threads: int | None) -> tuple[DenseSamples, Array]:
    matrix = X if type(X) is np.ndarray and X.ndim == 2 and X.dtype.kind in "fiub" else as_matrix(X)[0]
    n, n_features = matrix.shape
    params = _as_params(coef, intercept, n_features)
    n_classes = params.shape[0]
    samples = DenseSamples(matrix, n_classes, fit_intercept=intercept is not None,
                           n_threads=check_n_threads(n_threads), single=True)
    if y is not None:
        labels = np.asarray(y)
        if labels is not y:
            refuse_masked("y", y)
        if labels.ndim == 1 and labels.dtype.kind in "iub" and labels.shape == (n,):
            samples.codes = labels
        elif labels.ndim == 2 and labels.dtype.kind in "fiub" and labels.shape == (n, n_classes):
            samples.counts = labels
        else:
            raise ValueError(f"y has shape {labels.shape} and dtype {labels.dtype}; ({n},) of integer codes or "
                             f"({n}, {n_classes}) of counts is wanted")
    if sample_weight is not None:
        weights = _as_real("sample_weight", sample_weight)
        if weights.shape != (n,):
            raise ValueError(f"sample_weight has shape {weights.shape}; ({n},) is wanted, one for each row of X")
        samples.weights = aligned(np.ascontiguousarray(weights, dtype=np.float64))
    if offset is not None:
        values = _as_real("offset", offset)
        if values.shape != (n, n_classes):
            raise ValueError(f"offset has shape {values.shape}; ({n}, {n_classes}) is wanted, one for each row "
                             "of X and class")
        samples.offset = values
    # float32 would round what is smaller to 0; what is larger shows in the result, and is redone in float64
    if samples.single and not all(_above_float32s_least(array) for array in (samples.weights, samples.counts)):
        samples.single = False
    return samples, params


def _above_float32s_least(array: Any) -> bool:
    """Whether no number but 0 is smaller than 1e-30, where products are near the least that float32 can hold."""
    if array is None:
        return True
    for _, rows in blocks_of(array):
        sizes = np.abs(rows)
        if not np.all((sizes >= 1e-30) | (sizes == 0)):
            return False
    return True


def _in_double(samples: DenseSamples) -> DenseSamples:
    """Return the samples with float64 arithmetic, for results beyond float32's range of 1e38."""
    return samples.replace(single=False)


def _explain(samples: DenseSamples, result: Any) -> None:
    """Raise with the place of what is not finite in the data, if a result is not finite because of it."""
    # x'x is finite where x is, but for entries beyond 1e154: those cost a search and no more
    if math.isfinite(result if isinstance(result, float) else np.vdot(result, result)):
        return
    if samples.codes is not None:
        check_codes(samples.codes, samples.n_classes)
    for name, array in (("X", samples.X), ("y", samples.counts), ("sample_weight", samples.weights),
                        ("offset", samples.offset)):
        if array is not None:
            check_finite(name, array)


@_documented(single=_SINGLE)
def log_likelihood(X: ArrayLike, y: ArrayLike, coef: ArrayLike, intercept: ArrayLike | None = None, *,
                   sample_weight: ArrayLike | None = None, offset: ArrayLike | None = None,
                   n_threads: int | None = None) -> float:
    """Return L = sum_j m_j [a_{y_j}(x~_j) - log sum_k exp(a_k(x~_j))], the log-likelihood summed over samples.

    PARAMETERS

    Returns
    -------
    float
        L; for counts sum_j m_j sum_k y_jk log softmax_k, where 0 log 0 is 0. No multinomial coefficient is added.

    RAISES

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> X, y = np.array([[0.0], [1.0], [2.0]]), np.array([0, 1, 1])
    >>> coef = np.array([[-1.0], [1.0]])
    >>> round(cs.log_likelihood(X, y, coef, [0.5, -0.5]), 6)
    -0.675111
    """
    samples, params = _prepare(X, y, coef, intercept, sample_weight, offset, n_threads)
    value = samples.log_likelihood(params)
    if samples.single and not math.isfinite(value):
        value = _in_double(samples).log_likelihood(params)
    _explain(samples, value)
    return value


@_documented()
def log_likelihood_per_sample(X: ArrayLike, y: ArrayLike, coef: ArrayLike, intercept: ArrayLike | None = None, *,
                              sample_weight: ArrayLike | None = None, offset: ArrayLike | None = None,
                              n_threads: int | None = None) -> Array:
    """Return each sample's term of the log-likelihood, its weight included.

    PARAMETERS

    Returns
    -------
    ndarray of shape (n_samples,)

    RAISES

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> cs.log_likelihood_per_sample([[0.0], [1.0]], [0, 1], [[-1.0], [1.0]]).round(6).tolist()
    [-0.693147, -0.126928]
    """
    samples, params = _prepare(X, y, coef, intercept, sample_weight, offset, n_threads)
    terms = samples.row_results("log_likelihood", params, np.empty((samples.n_samples, 1)))[:, 0]
    _explain(samples, terms)
    return terms


@_documented(single=_SINGLE)
def gradient(X: ArrayLike, y: ArrayLike, coef: ArrayLike, intercept: ArrayLike | None = None, *,
             sample_weight: ArrayLike | None = None, offset: ArrayLike | None = None,
             n_threads: int | None = None) -> tuple[Array, Array | None]:
    """Return the gradient of L, grad_{w~_k} L = sum_j m_j [1{y_j = k} - softmax_k(x~_j)] x~_j, in two parts.

    PARAMETERS

    Returns
    -------
    grad_coef : ndarray of shape (n_classes, n_features)
    grad_intercept : ndarray of shape (n_classes,), or None without an intercept

    RAISES

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> grad_coef, grad_intercept = cs.gradient([[1.0], [2.0]], [0, 1], [[0.0], [0.0]], [0.0, 0.0])
    >>> grad_coef.tolist(), grad_intercept.tolist()
    ([[-0.5], [0.5]], [0.0, 0.0])
    """
    return log_likelihood_and_gradient(X, y, coef, intercept, sample_weight=sample_weight, offset=offset,
                                       n_threads=n_threads)[1:]


@_documented(single=_SINGLE)
def log_likelihood_and_gradient(X: ArrayLike, y: ArrayLike, coef: ArrayLike, intercept: ArrayLike | None = None, *,
                                sample_weight: ArrayLike | None = None, offset: ArrayLike | None = None,
                                n_threads: int | None = None) -> tuple[float, Array, Array | None]:
    """Return the log-likelihood and its gradient, in one pass over X.

    PARAMETERS

    Returns
    -------
    log_likelihood : float
    grad_coef : ndarray of shape (n_classes, n_features)
    grad_intercept : ndarray of shape (n_classes,), or None without an intercept

    RAISES

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> value, grad_coef, _ = cs.log_likelihood_and_gradient([[1.0], [2.0]], [0, 1], [[0.0], [0.0]])
    >>> round(value, 6), grad_coef.tolist()
    (-1.386294, [[-0.5], [0.5]])
    """
    samples, params = _prepare(X, y, coef, intercept, sample_weight, offset, n_threads)
    value, grad = samples.log_likelihood_and_gradient(params)
    if samples.single and not (math.isfinite(value) and np.isfinite(grad).all()):
        value, grad = _in_double(samples).log_likelihood_and_gradient(params)
    _explain(samples, value)  # where it is finite so is every row of X
    return value, *_split(grad, samples)


def _split(rows: Array, samples: DenseSamples) -> tuple[Array, Array | None]:
    if not samples.fit_intercept:
        return rows, None
    return rows[:, :-1].copy(), rows[:, -1].copy()


@_documented()
def logit_residuals(X: ArrayLike, y: ArrayLike, coef: ArrayLike, intercept: ArrayLike | None = None, *,
                    sample_weight: ArrayLike | None = None, offset: ArrayLike | None = None,
                    n_threads: int | None = None) -> Array:
    """Return dL_j/da_k = m_j (1{y_j = k} - softmax_k), the derivative of each sample's term by its logits.

    PARAMETERS

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        Each row sums to 0.

    RAISES

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> cs.logit_residuals([[0.0]], [1], [[1.0], [2.0]]).tolist()
    [[-0.5, 0.5]]
    """
    samples, params = _prepare(X, y, coef, intercept, sample_weight, offset, n_threads)
    residuals = samples.row_results("residual", params, np.empty((samples.n_samples, samples.n_classes)))
    _explain(samples, residuals)
    return residuals


@_documented()
def gradient_per_sample(X: ArrayLike, y: ArrayLike, coef: ArrayLike, intercept: ArrayLike | None = None, *,
                        sample_weight: ArrayLike | None = None, offset: ArrayLike | None = None,
                        n_threads: int | None = None) -> Array:
    """Return the score of each sample, its weight included: dL_j/da_k x~_j.

    PARAMETERS

    Returns
    -------
    ndarray of shape (n_samples, n_classes, n_features + 1)
        The intercept last; without one the last axis has n_features. They sum to the gradient.

    RAISES

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> cs.gradient_per_sample([[3.0]], [1], [[0.0], [0.0]], [0.0, 0.0]).tolist()
    [[[-1.5, -0.5], [1.5, 0.5]]]
    """
    samples, params = _prepare(X, y, coef, intercept, sample_weight, offset, n_threads)
    residuals = samples.row_results("residual", params, np.empty((samples.n_samples, samples.n_classes)))
    scores = np.empty((samples.n_samples, *samples.params_shape))
    for start, stop in row_blocks(samples.n_samples, scores[0].size if len(scores) else 1):
        np.multiply(residuals[start:stop, :, np.newaxis], samples.X[start:stop, np.newaxis, :],
                    out=scores[start:stop, :, :samples.n_features])
    if samples.fit_intercept:
        scores[:, :, -1] = residuals
    _explain(samples, scores)
    return scores


@_documented()
def hessian(X: ArrayLike, y: ArrayLike, coef: ArrayLike, intercept: ArrayLike | None = None, *,
            sample_weight: ArrayLike | None = None, offset: ArrayLike | None = None,
            n_threads: int | None = None) -> Array:
    """Return the Hessian of L: block (i, k) is - sum_j m_j softmax_i (1{i = k} - softmax_k) x~_j x~_j'.

    PARAMETERS

    Returns
    -------
    ndarray of shape (n_classes * (n_features + 1), n_classes * (n_features + 1))
        In the order of theta: rows [w_k, b_k] stacked. Negative semidefinite and singular: adding one vector to
        all rows changes nothing.

    RAISES

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> cs.hessian([[2.0]], [0], [[0.0], [0.0]]).tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    """
    samples, params = _prepare(X, y, coef, intercept, sample_weight, offset, n_threads)
    if samples.codes is not None:
        check_codes(samples.codes, samples.n_classes)  # the Hessian does not read them
    matrix = samples.hessian(params).reshape(params.size, params.size)
    _explain(samples, matrix)
    return matrix


@_documented(direction="""
    v_coef : array-like of shape (n_classes, n_features)
    v_intercept : array-like of shape (n_classes,), or None without an intercept
        The direction.""", single=_SINGLE)
def hessian_product(X: ArrayLike, y: ArrayLike, coef: ArrayLike, intercept: ArrayLike | None, v_coef: ArrayLike,
                    v_intercept: ArrayLike | None, *, sample_weight: ArrayLike | None = None,
                    offset: ArrayLike | None = None, n_threads: int | None = None) -> tuple[Array, Array | None]:
    """Return the product of L's Hessian with a direction, in one pass over X and without the Hessian.

    PARAMETERS

    Returns
    -------
    coef_part : ndarray of shape (n_classes, n_features)
    intercept_part : ndarray of shape (n_classes,), or None without an intercept

    RAISES

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> product, _ = cs.hessian_product([[2.0]], [0], [[0.0], [0.0]], None, [[1.0], [0.0]], None)
    >>> product.tolist()
    [[-1.0], [1.0]]
    """
    samples, params = _prepare(X, y, coef, intercept, sample_weight, offset, n_threads)
    if (v_intercept is None) != (intercept is None):
        raise ValueError(f"v_intercept is {'None' if v_intercept is None else 'given'} where intercept is "
                         f"{'None' if intercept is None else 'given'}; both or neither are wanted")
    direction = _as_params(v_coef, v_intercept, samples.n_features, ("v_coef", "v_intercept"))
    if direction.shape != params.shape:
        raise ValueError(f"v_coef has {direction.shape[0]} rows where coef has {params.shape[0]}")
    if samples.codes is not None:
        check_codes(samples.codes, samples.n_classes)  # the Hessian does not read them
    if samples.single and not _above_float32s_least(direction):
        samples.single = False
    product = samples.hessian_product(params, direction)
    if samples.single and not np.isfinite(product).all():
        product = _in_double(samples).hessian_product(params, direction)
    _explain(samples, product)
    return _split(product, samples)


def predict_proba(X: ArrayLike, coef: ArrayLike, intercept: ArrayLike | None = None, *,
                  offset: ArrayLike | None = None, out: NDArray[np.float64] | None = None,
                  n_threads: int | None = None) -> Array:
    """Return P(y = k | x) = softmax_k(x~) for each row of X and each class.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    coef : array-like of shape (n_classes, n_features)
    intercept : array-like of shape (n_classes,), optional
    offset : array-like of shape (n_samples, n_classes), optional
        Added to the logits.
    out : ndarray of shape (n_samples, n_classes), float64, C order, optional
        Written to and returned.
    n_threads : int, optional
        The result is bit-identical for every value.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        Each row sums to 1.

    Raises
    ------
    ValueError, TypeError
        If a shape or dtype does not fit, or X or offset holds a nan or an infinity.

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> cs.predict_proba([[0.0], [1.0]], [[0.0], [np.log(3.0)]]).round(6).tolist()
    [[0.5, 0.5], [0.25, 0.75]]
    """
    return _class_rows("probability", X, coef, intercept, offset, out, n_threads)


def predict_log_proba(X: ArrayLike, coef: ArrayLike, intercept: ArrayLike | None = None, *,
                      offset: ArrayLike | None = None, n_threads: int | None = None) -> Array:
    """Return the logarithms of `predict_proba`, exact where a probability is 0 in float64."""
    return _class_rows("log_probability", X, coef, intercept, offset, None, n_threads)


def _class_rows(what: Any, X: Any, coef: Any, intercept: Any, offset: Any, out: Any, n_threads: int | None) -> Array:
    samples, params = _prepare(X, None, coef, intercept, None, offset, n_threads)
    shape = (samples.n_samples, samples.n_classes)
    if out is None:
        out = np.empty(shape)
    elif (not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != np.float64
          or not out.flags.c_contiguous or not out.flags.writeable or not out.flags.aligned):
        raise ValueError(f"out has shape {getattr(out, 'shape', None)} and dtype {getattr(out, 'dtype', None)}; a "
                         f"writable float64 array of shape {shape} in C order is wanted")
    if any(array is not None and np.may_share_memory(out, array) for array in (samples.X, params, samples.offset)):
        out[...] = samples.row_results(what, params, np.empty(shape))
    else:
        samples.row_results(what, params, out)
    _explain(samples, out)
    return out
