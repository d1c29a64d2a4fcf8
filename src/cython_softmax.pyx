"""The C functions that csoftmax exports to other Cython code; csoftmax/cython_softmax.pxd says how to use them.

Other projects' extension modules stand on it. It stands on the build of the kernels that csoftmax._dispatch chose: it
calls their functions (src/capi.pxi) by address, so that what was compiled once runs each processor's own code.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer
from csoftmax import _dispatch

cdef enum:
    SOFTMAX = 0      # rows.pxi's numbers
    LOG_SOFTMAX = 1
    LOGSUMEXP = 2

cdef enum:
    ROW, ROWS, SAMPLE, GRADIENT, BLOCK, N_FUNCTIONS

cdef void *kernel[2][N_FUNCTIONS]   # of float, of double


cdef int take_addresses(void **functions, object module) except -1:
    addresses = module._capi
    functions[ROW] = PyCapsule_GetPointer(addresses["row"], "void (int, const T *, T *, n)")
    functions[ROWS] = PyCapsule_GetPointer(addresses["rows"], "bint (int, const T *, T *, n_rows, n)")
    functions[SAMPLE] = PyCapsule_GetPointer(addresses["sample"], "double (const T *, n, y, T *)")
    functions[GRADIENT] = PyCapsule_GetPointer(
        addresses["gradient"], "double (const T *, d, const T *, const T *, C, y, T *, T *)")
    functions[BLOCK] = PyCapsule_GetPointer(
        addresses["block"], "bint (const T *, n, d, const double *, const double *, C, "
        "const int32_t *, const int64_t *, const double *, double *, double *, double *)")
    return 0


take_addresses(kernel[False], _dispatch.load_single())
take_addresses(kernel[True], _dispatch.kernels)


# ---------------------------------------------------------------------------------------------------------- rows

cdef inline void call_row(int what, const floating *x, floating *out, Py_ssize_t n) noexcept nogil:
    (<void (*)(int, const floating *, floating *, Py_ssize_t) noexcept nogil> kernel[floating is double][ROW])(
        what, x, out, n)


cdef inline int call_rows(int what, const floating *x, floating *out, Py_ssize_t n_rows,
                          Py_ssize_t n) except -1 nogil:
    if not (<bint (*)(int, const floating *, floating *, Py_ssize_t, Py_ssize_t) noexcept nogil>
            kernel[floating is double][ROWS])(what, x, out, n_rows, n):
        raise MemoryError(f"no memory for a panel of rows of {n} entries")
    return 0


cdef void softmax(const floating *x, floating *out, Py_ssize_t n) noexcept nogil:
    call_row(SOFTMAX, x, out, n)


cdef void log_softmax(const floating *x, floating *out, Py_ssize_t n) noexcept nogil:
    call_row(LOG_SOFTMAX, x, out, n)


cdef floating logsumexp(const floating *x, Py_ssize_t n) noexcept nogil:
    cdef floating result
    call_row(LOGSUMEXP, x, &result, n)
    return result


cdef int softmax_rows(const floating *x, floating *out, Py_ssize_t n_rows, Py_ssize_t n) except -1 nogil:
    return call_rows(SOFTMAX, x, out, n_rows, n)


cdef int log_softmax_rows(const floating *x, floating *out, Py_ssize_t n_rows, Py_ssize_t n) except -1 nogil:
    return call_rows(LOG_SOFTMAX, x, out, n_rows, n)


cdef int logsumexp_rows(const floating *x, floating *out, Py_ssize_t n_rows, Py_ssize_t n) except -1 nogil:
    return call_rows(LOGSUMEXP, x, out, n_rows, n)


# ---------------------------------------------------------------------------------------------------- one sample

cdef double sample_log_likelihood(const floating *logits, Py_ssize_t n_classes, Py_ssize_t y) noexcept nogil:
    return (<double (*)(const floating *, Py_ssize_t, Py_ssize_t, floating *) noexcept nogil>
            kernel[floating is double][SAMPLE])(logits, n_classes, y, NULL)


cdef double sample_residual(const floating *logits, Py_ssize_t n_classes, Py_ssize_t y,
                            floating *residual) noexcept nogil:
    return (<double (*)(const floating *, Py_ssize_t, Py_ssize_t, floating *) noexcept nogil>
            kernel[floating is double][SAMPLE])(logits, n_classes, y, residual)


cdef double sample_gradient(const floating *x, Py_ssize_t n_features, const floating *coef, const floating *intercept,
                            Py_ssize_t n_classes, Py_ssize_t y, floating *grad_coef,
                            floating *grad_intercept) noexcept nogil:
    return (<double (*)(const floating *, Py_ssize_t, const floating *, const floating *, Py_ssize_t, Py_ssize_t,
                        floating *, floating *) noexcept nogil> kernel[floating is double][GRADIENT])(
        x, n_features, coef, intercept, n_classes, y, grad_coef, grad_intercept)


# ------------------------------------------------------------------------------------------------------- a block

cdef double log_likelihood_and_gradient(const floating *X, Py_ssize_t n_samples, Py_ssize_t n_features,
                                        const double *coef, const double *intercept, Py_ssize_t n_classes,
                                        const label *y, const double *sample_weight, double *grad_coef,
                                        double *grad_intercept) except? -1 nogil:
    cdef double value
    cdef const int32_t *codes = NULL
    cdef const int64_t *long_codes = NULL
    if label is int32_t:
        codes = y
    else:
        long_codes = y
    if not (<bint (*)(const floating *, Py_ssize_t, Py_ssize_t, const double *, const double *, Py_ssize_t,
                      const int32_t *, const int64_t *, const double *, double *, double *, double *) noexcept nogil>
            kernel[floating is double][BLOCK])(X, n_samples, n_features, coef, intercept, n_classes, codes, long_codes,
                                               sample_weight, &value, grad_coef, grad_intercept):
        raise MemoryError(f"no memory for a block of rows with {n_features} columns and {n_classes} classes")
    return value
