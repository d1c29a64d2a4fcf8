"""softmax, log_softmax and logsumexp with scipy.special's arguments, and softmax's Jacobian.

Users and tests stand on it. It stands on the kernels of rows.

Beyond scipy.special: integers and bools are computed in float64 (no wrap-around); a single +inf is the limit
(softmax 1 there and 0 elsewhere); the largest term is left out of the sum, so that log_softmax([40, 0])[0] is
-4.2e-18 and not 0 (Blanchard, Higham & Higham 2021, doi:10.1093/imanum/draa038); far-off entries keep their digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import scipy.special
from numpy.typing import ArrayLike, NDArray

from csoftmax._dispatch import kernels, load_single
from csoftmax._threads import BLOCK_ELEMENTS, check_n_threads, map_blocks, row_blocks

__all__ = ["log_softmax", "logsumexp", "softmax", "softmax_jacobian", "softmax_jvp"]

_SOFTMAX, _LOG_SOFTMAX, _LOGSUMEXP = 0, 1, 2  # the kernels' numbers
_small = kernels.small
_FLOAT64, _FLOAT32 = np.dtype(np.float64), np.dtype(np.float32)


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
    A masked array's mask is not looked at, as scipy.special's functions do not: what is behind it counts.

    nan gives nan in its own slice; one +inf is the limit, several +inf or all -inf give nan. Each entry is within
    4 ulp, far-off ones included, in float64 and float32 (tests/test_special_accuracy.py, C from 1 to 1000, against
    mpmath at 60 digits).

    Examples
    --------
    >>> import numpy as np, csoftmax as cs
    >>> cs.softmax(np.log([1.0, 3.0])).round(15).tolist()
    [0.25, 0.75]
    >>> cs.softmax(np.array([0, 1, 2], dtype=np.uint8)).round(4).tolist()
    [0.09, 0.2447, 0.6652]
    """
    small = _small(_SOFTMAX, x, axis, out, n_threads)
    return _softmax(_SOFTMAX, x, axis, out, n_threads) if small is None else small


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

    Notes
    -----
    Each entry is within 4 ulp, the largest and far-off ones included (tests/test_special_accuracy.py); nan and
    infinities as in `softmax`.

    Examples
    --------
    >>> import csoftmax as cs
    >>> cs.log_softmax([40.0, 0.0]).tolist()
    [-4.248354255291589e-18, -40.0]
    """
    small = _small(_LOG_SOFTMAX, x, axis, out, n_threads)
    return _softmax(_LOG_SOFTMAX, x, axis, out, n_threads) if small is None else small


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
        Factors, broadcast against `a`. With them scipy.special.logsumexp does the work.
    keepdims : bool
        Keep the reduced axes with length 1.
    return_sign : bool
        Return the sign of the sum as well.
    out : ndarray, optional
        Of the result's shape and dtype; written to and returned. Not together with `b`.
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

    Notes
    -----
    Within 2 ulp of the larger of the result and the largest entry (tests/test_special_accuracy.py): near a zero
    result the cancellation is the input's own. nan gives nan, +inf gives inf, and nothing but -inf (or nothing at
    all) gives -inf.

    Examples
    --------
    >>> import csoftmax as cs
    >>> float(cs.logsumexp([1000.0, 1000.0]))
    1000.6931471805599
    """
    if b is None and not keepdims and not return_sign:
        small = _small(_LOGSUMEXP, a, axis, out, n_threads)
        if small is not None:
            return small
    x = _numbers("a", a)
    if b is not None or _is_scipys(x):
        if out is not None:
            raise ValueError("out is given together with b, or with a complex or long double a; it is taken without "
                             "them only")
        _axes(axis, max(1, x.ndim, 0 if b is None else np.ndim(b)))
        return scipy.special.logsumexp(_widened(x), axis=axis, b=b, keepdims=keepdims, return_sign=return_sign)
    dtype, axes = _result_dtype(x), _axes(axis, x.ndim)
    shape = tuple([1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes])
    if out is None:
        result = np.empty(shape, dtype=dtype)
    else:
        _check_out(out, shape, dtype)
        result = out
        if np.may_share_memory(result, x):
            x = x.copy()
    _compute(_LOGSUMEXP, x, axes, result, n_threads)
    if return_sign:
        # exp of anything but -inf is positive
        sign = np.where(np.isnan(result), result, np.where(result == -np.inf, 0, 1)).astype(dtype)
        return (result if out is not None else result[()]), sign[()]
    return result if out is not None else result[()]


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


# ------------------------------------------------------------------------------------------------------------ arrays

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


def _is_scipys(x: NDArray[Any]) -> bool:
    return x.dtype.kind == "c" or (x.dtype.kind == "f" and x.dtype.itemsize > 8)


def _result_dtype(x: NDArray[Any]) -> np.dtype[Any]:
    return x.dtype.newbyteorder("=") if x.dtype.kind == "f" else _FLOAT64


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis % ndim,)
    try:
        return np.lib.array_utils.normalize_axis_tuple(axis, ndim, argname="axis") if hasattr(np.lib, "array_utils") \
            else np.core.numeric.normalize_axis_tuple(axis, ndim, argname="axis")  # type: ignore[attr-defined]
    except TypeError:
        raise TypeError(f"axis is {axis!r}; an integer, a tuple of them, or None is wanted") from None
    except OverflowError:
        raise np.exceptions.AxisError(f"axis {axis!r} is out of bounds for array of dimension {ndim}") from None


def _check_out(out: Any, shape: tuple[int, ...], dtype: Any) -> None:
    if not isinstance(out, np.ndarray) or out.shape != tuple(shape) or out.dtype != dtype:
        raise ValueError(f"out has shape {getattr(out, 'shape', None)} and dtype {getattr(out, 'dtype', None)}; shape "
                         f"{tuple(shape)} and dtype {np.dtype(dtype)} are wanted")
    if not out.flags.writeable:
        raise ValueError("out is read-only; an array that can be written to is wanted")


def _softmax(what: int, x: ArrayLike, axis: Any, out: NDArray[Any] | None, n_threads: int | None) -> NDArray[Any]:
    array = x if type(x) is np.ndarray and x.dtype == _FLOAT64 else _numbers("x", x)
    axes = _axes(axis, array.ndim)
    if _is_scipys(array):
        result = (scipy.special.softmax, scipy.special.log_softmax)[what](array, axis=axis)
        if out is None:
            return result
        _check_out(out, result.shape, result.dtype)
        out[...] = result
        return out
    if out is None:
        order: Literal["C", "F"] = "F" if array.flags.f_contiguous and array.ndim > 1 else "C"
        result = np.empty(array.shape, dtype=_result_dtype(array), order=order)
    else:
        _check_out(out, array.shape, _result_dtype(array))
        result = out
        if result is not array and np.may_share_memory(result, array):
            array = array.copy()
    _compute(what, array, axes, result, n_threads)
    return result[()] if out is None and not array.ndim else result


def _compute(what: int, x: NDArray[Any], axes: tuple[int, ...], result: NDArray[Any], n_threads: int | None) -> None:
    """Write softmax, log_softmax or logsumexp of `x` over `axes` to `result`, whose kept axes are in x's order."""
    check_n_threads(n_threads)
    threads = 1 if x.size < kernels.SMALL_SIZE else n_threads
    result = np.asarray(result)  # a matrix, as out, has two axes whatever is done to it
    if x.size == 0:
        if what == _LOGSUMEXP:
            result[...] = -np.inf
        return
    if result.dtype == x.dtype and _compute_in_place(what, x, axes, result, threads):
        return
    # anything else by slabs, copied to rows: at most 1 MB, or a row, at a time
    kept = tuple([i for i in range(x.ndim) if i not in axes])
    rows, target = x.transpose(kept + axes), result.reshape([x.shape[i] for i in kept] + [1] * len(axes)) \
        if what == _LOGSUMEXP else result.transpose(kept + axes)
    if what == _LOGSUMEXP and not np.may_share_memory(target, result):
        raise ValueError("out is not contiguous where axes of length 1 are to be added")
    length = math.prod(x.shape[i] for i in axes)
    dtype = _FLOAT64 if result.dtype == _FLOAT64 else _FLOAT32
    slabs = list(_slabs(rows.shape[:len(kept)], length))

    def block(start: int, stop: int) -> None:
        for slab in slabs[start:stop]:
            part = np.require(rows[slab], dtype, ["C", "A"])
            n = part.size // length
            flat = np.empty(n if what == _LOGSUMEXP else part.size, dtype=dtype)
            _kernels(dtype).along_axis(what, part.reshape(-1), flat, length, 1, 0, n)
            with np.errstate(over="ignore", under="ignore"):  # float16's; a pool's thread has not the caller's errstate
                target[slab] = flat.reshape(target[slab].shape)

    for _ in map_blocks(block, [(i, i + 1) for i in range(len(slabs))], threads):
        pass


def _compute_in_place(what: int, x: NDArray[Any], axes: tuple[int, ...], result: NDArray[Any],
                      threads: int | None) -> bool:
    """Do so in the arrays' own memory, where x is contiguous in either order and `axes` are neighbours."""
    dtype = x.dtype
    if dtype != _FLOAT64 and dtype != _FLOAT32:
        return False
    if x.ndim == 1:
        outer, length, inner = (1, x.size, 1) if axes else (x.size, 1, 1)
        if not (x.flags.c_contiguous and result.flags.c_contiguous):
            return False
        if what == _LOGSUMEXP:
            result = result.reshape(-1)
    else:
        flags, others = x.flags, result.flags
        first, last = (min(axes), max(axes) + 1) if axes else (0, 0)
        if last - first != len(axes):
            return False
        if flags.c_contiguous and others.c_contiguous:
            shape = x.shape
        elif flags.f_contiguous and others.f_contiguous:
            x, result = x.T, result.T
            shape, first, last = x.shape, x.ndim - last, x.ndim - first
        else:
            return False
        outer, length, inner = math.prod(shape[:first]), math.prod(shape[first:last]), math.prod(shape[last:])
        x, result = x.reshape(-1), result.reshape(-1)
    if not x.flags.aligned or not result.flags.aligned:
        return False
    kernel = _kernels(dtype).along_axis
    if threads == 1:
        kernel(what, x, result, length, inner, 0, outer * inner)
        return True
    # the kernel takes few columns side by side, and a sum's order of terms then depends on all of them
    unit = inner if inner < kernels.FEW_COLUMNS else 1
    for _ in map_blocks(lambda start, stop: kernel(what, x, result, length, inner, unit * start, unit * stop),
                        row_blocks(outer * inner // unit, unit * length), threads):
        pass
    return True


def _kernels(dtype: np.dtype[Any]) -> Any:
    return kernels if dtype == _FLOAT64 else load_single()


def _slabs(shape: tuple[int, ...], length: int) -> Iterator[tuple[Any, ...]]:
    """Yield indices that split an array of rows of `length` numbers into parts of at most BLOCK_ELEMENTS, or a row."""
    axis, inside = len(shape), length
    while axis > 0 and inside * shape[axis - 1] <= BLOCK_ELEMENTS:
        axis -= 1
        inside *= shape[axis]
    if axis == 0:
        yield ()
        return
    step = max(1, BLOCK_ELEMENTS // inside)
    for outside in np.ndindex(*shape[:axis - 1]):
        for start in range(0, shape[axis - 1], step):
            yield *outside, slice(start, start + step)
