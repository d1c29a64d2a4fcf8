# softmax, log_softmax and logsumexp of small arrays of double or float in one call from Python.
#
# csoftmax.special stands on it; in the modules for double alone. It stands on rows.pxi, and on that of the module for
# float by address.
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

from cpython.pycapsule cimport PyCapsule_GetPointer

import numpy as _numpy

cdef enum:
    SMALL = 32768       # numbers: below this one thread does it all
    KEEPS_GIL = 4096    # numbers: they take no longer than giving the GIL away and taking it again

ctypedef int (*small_function)(int, const void *, void *, Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept nogil

cdef small_function single_pass = NULL
cdef object ndarray = _numpy.ndarray
cdef object empty = _numpy.empty
cdef object float64 = _numpy.dtype(_numpy.float64)
cdef object float32 = _numpy.dtype(_numpy.float32)
SMALL_SIZE = SMALL


def take_single(addresses):
    """Let `small` take arrays of float32 too, by the `_capi` of the module for float."""
    global single_pass
    single_pass = <small_function> PyCapsule_GetPointer(addresses["small"], SMALL_SIGNATURE)


# What a logsumexp is copied to and read from as a scalar, with the GIL held: 47 ns, where numpy.float32(value) takes
# 150. The memory is never given back.
cdef object place64 = empty(1, float64)
cdef object place32 = empty(1, float32)
cdef Py_buffer memory64, memory32
PyObject_GetBuffer(place64, &memory64, PyBUF_STRIDES | PyBUF_WRITABLE)
PyObject_GetBuffer(place32, &memory32, PyBUF_STRIDES | PyBUF_WRITABLE)


cdef int run(small_function function, int what, const void *x, void *out, Py_ssize_t C, Py_ssize_t inner,
             Py_ssize_t columns) except -1:
    cdef int failed
    if columns * C < KEEPS_GIL:
        failed = function(what, x, out, C, inner, columns)
    else:
        with nogil:
            failed = function(what, x, out, C, inner, columns)
    if failed:
        raise MemoryError(f"no memory for columns of {C} entries")
    return 0


cdef int small_shape(Py_buffer *view, object axis, Py_ssize_t *C, Py_ssize_t *inner) except -1:
    # 1 where the array is one that `small` takes
    cdef Py_ssize_t size = view.len // view.itemsize, chosen, ndim = view.ndim
    if (ndim == 0 or size == 0 or size >= SMALL or <size_t> view.buf % <size_t> view.itemsize != 0
            or not PyBuffer_IsContiguous(view, c'C')):
        return 0
    inner[0] = 1
    C[0] = size
    if axis is None:
        return 1
    if type(axis) is not int:
        return 0
    try:
        chosen = axis
    except OverflowError:  # csoftmax.special says what is wrong with it
        return 0
    if chosen == -1 or chosen == ndim - 1:
        C[0] = view.shape[ndim - 1]
        return 1
    if chosen == 0 and ndim == 2:
        C[0] = view.shape[0]
        inner[0] = view.shape[1]
        return 1
    return 0


def small(int what, x, axis, out, n_threads):
    """Return softmax (`what` is 0), its logarithm (1) or logsumexp (2) of a small ndarray, or None.

    None stands for what takes more thought: `out`, an `n_threads` that is no int from 1, and an `x` that is not an
    ndarray, neither of float64 nor, after `take_single`, of float32, not contiguous in C order, of no axis, no entry or
    32768 entries and more, or reduced along another axis than the last, all (`axis` None) or the first of two.
    """
    cdef Py_buffer view, target
    cdef Py_ssize_t C = 0, inner = 1, columns
    cdef small_function function
    cdef double value   # or a float in its place
    if type(x) is not ndarray or out is not None:
        return None
    if n_threads is not None and (type(n_threads) is not int or n_threads < 1):
        return None
    dtype = x.dtype
    if dtype is float64:
        function = small_pass
    elif dtype is float32 and single_pass != NULL:
        function = single_pass
    else:
        return None
    PyObject_GetBuffer(x, &view, PyBUF_STRIDES)
    try:
        if not small_shape(&view, axis, &C, &inner):
            return None
        columns = view.len // view.itemsize // C
        if what != LOGSUMEXP:
            result = x.copy()
        elif axis is None or view.ndim == 1:
            run(function, what, view.buf, &value, C, 1, 1)
            if dtype is float64:
                memcpy(memory64.buf, &value, sizeof(double))
                return place64[0]
            memcpy(memory32.buf, &value, sizeof(float))
            return place32[0]
        elif view.ndim == 2:
            result = empty(columns, dtype)
        else:
            result = empty(x.shape[:view.ndim - 1], dtype)
        PyObject_GetBuffer(result, &target, PyBUF_STRIDES | PyBUF_WRITABLE)
        try:
            run(function, what, view.buf, target.buf, C, inner, columns)
        finally:
            PyBuffer_Release(&target)
        return result
    finally:
        PyBuffer_Release(&view)
