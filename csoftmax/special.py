"""softmax, log_softmax and logsumexp with scipy.special's arguments, and softmax's Jacobian.

Users and tests stand on it. It stands on the kernels of rows.

Beyond scipy.special: integers and bools are computed in float64 (no wrap-around); a single +inf is the limit
(softmax 1 there and 0 elsewhere); the largest term is left out of the sum, so that log_softmax([40, 0])[0] is
-4.2e-18 and not 0 (Blanchard, Higham & Higham 2021, doi:10.1093/imanum/draa038).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.special
from numpy.typing import ArrayLike, NDArray

from csoftmax._dispatch import kernels
from csoftmax._threads import check_n_threads, map_blocks, row_blocks

__all__ = ["log_softmax", "logsumexp", "softmax", "softmax_jacobian", "softmax_jvp"]

_SMALL = 1 << 15  # numbers: below this one thread does it all


def softmax(x: ArrayLike, axis: int | tuple[int, ...] | None = None, *, out: NDArray[Any] | None = None,
            n_threads: int | None = None) -> NDArray[Any]:
    """Return softmax_i = exp(x_i) / sum_k exp(x_k) along an axis.

    Parameters
    ----------
    x : array-like
        Real numbers; float32 stays float32, float16 and integers are computed in wider types.
    axis : int or tuple of ints, optional
        The axis or axes that sum to 1; None takes all of them.
    out : ndarray, optional
        Of x's shape and the result's dtype; written to and returned.
    n_threads : int, optional
        The result is bit-identical for every value.

    Returns
    -------
    ndarray of the shape of `x`
        float64, or float32 / float16 where `x` is that.

    Raises
    ------
    ValueError, TypeError
        If `axis` is out of range, `out` does not fit, or the entries are no numbers.

    Notes
    -----
    nan gives nan in its own slice; one +inf is the limit, several +inf or all -inf give nan.

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> cs.softmax(np.log([1.0, 3.0])).tolist()
    [0.25, 0.75]
    >>> cs.softmax(np.array([0, 1, 2], dtype=np.uint8)).round(4).tolist()
    [0.09, 0.2447, 0.6652]
    """
    return _along(x, axis, out, n_threads, "softmax_rows", scipy.special.softmax)


def log_softmax(x: ArrayLike, axis: int | tuple[int, ...] | None = None, *, out: NDArray[Any] | None = None,
                n_threads: int | None = None) -> NDArray[Any]:
    """Return log softmax_i = x_i - log sum_k exp(x_k) along an axis.

    Parameters
    ----------
    x : array-like
    axis : int or tuple of ints, optional
        None takes all axes.
    out : ndarray, optional
        Of x's shape and the result's dtype; written to and returned.
    n_threads : int, optional
        The result is bit-identical for every value.

    Returns
    -------
    ndarray of the shape of `x`

    Raises
    ------
    ValueError, TypeError
        If `axis` is out of range, `out` does not fit, or the entries are no numbers.

    Examples
    --------
    >>> import csoftmax as cs
    >>> cs.log_softmax([40.0, 0.0]).tolist()
    [-4.248354255291589e-18, -40.0]
    """
    return _along(x, axis, out, n_threads, "log_softmax_rows", scipy.special.log_softmax)


def logsumexp(a: ArrayLike, axis: int | tuple[int, ...] | None = None, b: ArrayLike | None = None,
              keepdims: bool = False, return_sign: bool = False, *, out: NDArray[Any] | None = None,
              n_threads: int | None = None) -> Any:
    """Return log sum_k exp(a_k) along an axis, or log sum_k b_k exp(a_k).

    Parameters
    ----------
    a : array-like
    axis : int or tuple of ints, optional
        None takes all axes.
    b : array-like, optional
        Factors, broadcast against `a`. With them, or with `return_sign`, scipy.special.logsumexp does the work.
    keepdims : bool
        Keep the reduced axes with length 1.
    return_sign : bool
        Return the sign of the sum as well.
    out : ndarray, optional
        Of the result's shape and dtype; written to and returned. Not together with `b` or `return_sign`.
    n_threads : int, optional
        The result is bit-identical for every value.

    Returns
    -------
    ndarray or scalar
        And its sign, with `return_sign`.

    Raises
    ------
    ValueError, TypeError
        If `axis` is out of range, `out` does not fit, or the entries are no numbers.

    Examples
    --------
    >>> import csoftmax as cs
    >>> float(cs.logsumexp([1000.0, 1000.0]))
    1000.6931471805599
    """
    x = _numbers("a", a)
    check_n_threads(n_threads)
    if b is not None or return_sign or x.dtype.kind not in "fiub" or x.dtype == np.longdouble:
        if out is not None:
            raise ValueError("out is given together with b, return_sign, or a complex or long double a; it is taken "
                             "without them only")
        return scipy.special.logsumexp(_widened(x), axis=axis, b=b, keepdims=keepdims, return_sign=return_sign)
    dtype = _result_dtype(x)
    axes = _axes(axis, x.ndim)
    rows, _, kept = _as_rows(x, axes)
    flat = np.full(rows.shape[0], -np.inf, dtype=rows.dtype)
    _run("logsumexp_rows", rows, flat, n_threads)
    shape = [1 if i in axes else length for i, length in enumerate(x.shape)] if keepdims else kept
    result = flat.reshape(shape).astype(dtype, copy=False)
    if out is None:
        return result[()]
    _check_out(out, result.shape, dtype)
    out[...] = result
    return out


def softmax_jacobian(x: ArrayLike) -> NDArray[Any]:
    """Return d softmax_i / dx_k = softmax_i (1{i = k} - softmax_k), along the last axis.

    Parameters
    ----------
    x : array-like of shape (..., C)

    Returns
    -------
    ndarray of shape (..., C, C)

    Raises
    ------
    ValueError
        If `x` has no axis.

    Examples
    --------
    >>> import csoftmax as cs
    >>> cs.softmax_jacobian([0.0, 0.0]).tolist()
    [[0.25, -0.25], [-0.25, 0.25]]
    """
    p = softmax(_with_axis(x), axis=-1)
    jacobian = -p[..., :, np.newaxis] * p[..., np.newaxis, :]
    # p (1 - p) as p times the sum of the others, which keeps its digits where p is near 1
    diagonal = np.arange(p.shape[-1])
    jacobian[..., diagonal, diagonal] = 0
    jacobian[..., diagonal, diagonal] = 0.0 - jacobian.sum(axis=-1)
    return jacobian


def softmax_jvp(x: ArrayLike, v: ArrayLike) -> NDArray[Any]:
    """Return the product of softmax's Jacobian at `x` with `v`: softmax_i (v_i - sum_k softmax_k v_k).

    Parameters
    ----------
    x, v : array-like of shape (..., C)
        Broadcast against each other but for the last axis.

    Returns
    -------
    ndarray of shape (..., C)

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> import csoftmax as cs
    >>> cs.softmax_jvp([0.0, 0.0], [1.0, 0.0]).tolist()
    [0.25, -0.25]
    """
    p, direction = softmax(_with_axis(x), axis=-1), _widened(np.asarray(v))
    if direction.ndim < 1 or direction.shape[-1] != p.shape[-1]:
        raise ValueError(f"v has shape {direction.shape}; its last axis must have length {p.shape[-1]}, as x's has")
    p, direction = np.broadcast_arrays(p, direction)
    if p.size == 0:
        return p * direction
    # v counts but for a constant: taken off the likeliest entry's, which keeps the digits of 1 - p where p is near 1
    relative = direction - np.take_along_axis(direction, p.argmax(axis=-1)[..., np.newaxis], axis=-1)
    return p * (relative - (p * relative).sum(axis=-1, keepdims=True))


# ------------------------------------------------------------------------------------------------------------ rows

def _with_axis(x: ArrayLike) -> NDArray[Any]:
    array = np.asarray(x)
    if array.ndim < 1:
        raise ValueError("x is a scalar; an array with at least one axis is wanted")
    return array


def _numbers(name: str, x: ArrayLike) -> NDArray[Any]:
    array = np.asarray(x)
    if array.dtype.kind not in "fiubc":
        raise TypeError(f"{name} has dtype {array.dtype}; numbers are wanted")
    return array


def _widened(x: NDArray[Any]) -> NDArray[Any]:
    return x.astype(np.float64) if x.dtype.kind in "iub" else x


def _result_dtype(x: NDArray[Any]) -> np.dtype[Any]:
    return x.dtype.newbyteorder("=") if x.dtype.kind == "f" else np.dtype(np.float64)


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    return np.lib.array_utils.normalize_axis_tuple(axis, ndim, argname="axis") if hasattr(np.lib, "array_utils") \
        else np.core.numeric.normalize_axis_tuple(axis, ndim, argname="axis")  # type: ignore[attr-defined]


def _as_rows(x: NDArray[Any], axes: tuple[int, ...]) -> tuple[NDArray[Any], tuple[int, ...], tuple[int, ...]]:
    """Return x as rows along `axes`, the order of its axes there, and the shape of the others."""
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    order = kept + axes
    kept_shape = tuple(x.shape[i] for i in kept)
    length = int(np.prod([x.shape[i] for i in axes], dtype=np.intp))
    dtype = np.float32 if x.dtype in (np.float32, np.float16) else np.float64
    n_rows = int(np.prod(kept_shape, dtype=np.intp))
    rows = np.ascontiguousarray(x.transpose(order), dtype=dtype).reshape(n_rows, length)
    return rows, order, kept_shape


def _run(kernel: str, rows: NDArray[Any], out: NDArray[Any], n_threads: int | None) -> None:
    function = getattr(kernels, kernel)
    threads = 1 if rows.size < _SMALL else check_n_threads(n_threads)
    for _ in map_blocks(lambda start, stop: function(rows[start:stop], out[start:stop]),
                        row_blocks(rows.shape[0], rows.shape[1]), threads):
        pass


def _along(x: ArrayLike, axis: Any, out: NDArray[Any] | None, n_threads: int | None, kernel: str,
           other: Any) -> NDArray[Any]:
    array = _numbers("x", x)
    if array.dtype.kind not in "fiub" or array.dtype == np.longdouble:
        result = other(array, axis=axis)
        if out is None:
            return result
        _check_out(out, result.shape, result.dtype)
        out[...] = result
        return out
    check_n_threads(n_threads)
    dtype = _result_dtype(array)
    axes = _axes(axis, array.ndim)
    rows, order, _ = _as_rows(array, axes)
    if out is not None:
        _check_out(out, array.shape, dtype)
    result = np.empty(rows.shape, dtype=rows.dtype)
    _run(kernel, rows, result, n_threads)
    shaped = result.reshape([array.shape[i] for i in order]).transpose(np.argsort(order))
    if out is None:
        return np.ascontiguousarray(shaped, dtype=dtype).reshape(array.shape)[()]
    out[...] = shaped
    return out


def _check_out(out: Any, shape: tuple[int, ...], dtype: Any) -> None:
    if not isinstance(out, np.ndarray) or out.shape != tuple(shape) or out.dtype != dtype:
        raise ValueError(f"out has shape {getattr(out, 'shape', None)} and dtype {getattr(out, 'dtype', None)}; shape "
                         f"{tuple(shape)} and dtype {np.dtype(dtype)} are wanted")
