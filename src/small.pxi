# softmax, log_softmax and logsumexp of small arrays in one call from Python.
#
# csoftmax.special stands on it. It stands on rows.pxi.
#
# A typed memoryview costs 0.2 us in the stable ABI and there were two of them, beside a dozen of attributes looked up
# in Python: three numbers took 1.7 us, 0.5 so. The buffers are asked for here, as the memoryviews would, and it is
# decided here whether an array is a small one: 0.1 us less than in Python.

from cpython.buffer cimport (
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    PyBuffer_IsContiguous,
    PyBuffer_Release,
    PyObject_GetBuffer,
)

import numpy as _numpy

cdef enum:
    SMALL = 32768       # numbers: below this one thread does it all
    KEEPS_GIL = 4096    # numbers: they take no longer than giving the GIL away and taking it again

cdef object scalar = _numpy.float64 if sizeof(number) == 8 else _numpy.float32
cdef object own_dtype = _numpy.dtype(scalar)
cdef object float32 = _numpy.dtype(_numpy.float32)
cdef object ndarray = _numpy.ndarray
cdef object empty = _numpy.empty
SMALL_SIZE = SMALL


cdef int small_pass(int what, const number *x, number *out, Py_ssize_t C, Py_ssize_t inner,
                    Py_ssize_t columns) except -1:
    cdef int failed
    if columns == 1:
        long_row(what, x, out, C)
        return 0
    if columns * C < KEEPS_GIL:
        failed = along_axis_pass(what, x, out, C, inner, 0, columns)
    else:
        with nogil:
            failed = along_axis_pass(what, x, out, C, inner, 0, columns)
    if failed:
        raise MemoryError(f"no memory for columns of {C} entries")
    return 0


cdef int small_shape(Py_buffer *view, object axis, Py_ssize_t *C, Py_ssize_t *inner) except -1:
    # 1 where the array is one that `small` takes
    cdef Py_ssize_t size = view.len // view.itemsize, chosen, ndim = view.ndim
    if (ndim == 0 or size == 0 or size >= SMALL or <size_t> view.buf % sizeof(number) != 0
            or not PyBuffer_IsContiguous(view, c'C')):
        return 0
    inner[0] = 1
    C[0] = size
    if axis is None:
        return 1
    if type(axis) is not int:
        return 0
    chosen = axis
    if chosen == -1 or chosen == ndim - 1:
        C[0] = view.shape[ndim - 1]
        return 1
    if chosen == 0 and ndim == 2:
        C[0] = view.shape[0]
        inner[0] = view.shape[1]
        return 1
    return 0


def small(int what, x, axis, out, n_threads, single):
    """Return softmax (`what` is 0), its logarithm (1) or logsumexp (2) of a small ndarray, or None.

    None stands for what takes more thought: `out`, an `n_threads` that is no int from 1, and an `x` that is not an
    ndarray, of another dtype, not contiguous in C order, of no axis, no entry or 32768 entries and more, or reduced
    along another axis than the last, all (`axis` None) or the first of two. `single` is this function of the module
    for float, or None; it has the arrays of float32.
    """
    cdef Py_buffer view, target
    cdef Py_ssize_t C = 0, inner = 1, columns, i
    cdef number value
    if type(x) is not ndarray or out is not None:
        return None
    if n_threads is not None and (type(n_threads) is not int or n_threads < 1):
        return None
    dtype = x.dtype
    if dtype is not own_dtype:
        return single(what, x, axis, None, None, None) if dtype is float32 and single is not None else None
    PyObject_GetBuffer(x, &view, PyBUF_STRIDES)
    try:
        if not small_shape(&view, axis, &C, &inner):
            return None
        columns = view.len // view.itemsize // C
        if what != LOGSUMEXP:
            result = x.copy()
        elif axis is None or view.ndim == 1:
            small_pass(what, <const number *> view.buf, &value, C, inner, 1)
            return scalar(value)
        elif view.ndim == 2:
            result = empty(columns, scalar)
        else:
            result = empty(x.shape[:view.ndim - 1], scalar)
        PyObject_GetBuffer(result, &target, PyBUF_STRIDES | PyBUF_WRITABLE)
        try:
            small_pass(what, <const number *> view.buf, <number *> target.buf, C, inner, columns)
        finally:
            PyBuffer_Release(&target)
        return result
    finally:
        PyBuffer_Release(&view)
