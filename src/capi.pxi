# One row, rows, one sample and a block of samples, for csoftmax.cython_softmax to call by address; and a small array.
#
# cython_softmax.pyx stands on it, which takes the addresses from the build that runs here, and small.pxi. It stands on
# rows.pxi and dense.pxi.
#
# None of these holds the GIL, raises or keeps anything: what needs memory returns False without it. One row and one
# sample need none.

from cpython.pycapsule cimport PyCapsule_New
from libc.math cimport log1p
from libc.stdint cimport int32_t, int64_t


cdef void capi_row(int what, const number *x, number *out, Py_ssize_t n) noexcept nogil:
    if n > 0:
        long_row(what, x, out, n)
    elif what == LOGSUMEXP:
        out[0] = <number> -INFINITY


cdef bint capi_rows(int what, const number *x, number *out, Py_ssize_t n_rows, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t r
    if n > 0 and n_rows == 1:  # as Python's functions do: the bits are the same
        long_row(what, x, out, n)
        return True
    if n > 0 and n_rows > 0:
        return along_axis_pass(what, x, out, n, 1, 0, n_rows) == 0
    if what == LOGSUMEXP:
        for r in range(n_rows):
            out[r] = <number> -INFINITY
    return True


cdef int small_pass(int what, const void *x, void *out, Py_ssize_t C, Py_ssize_t inner,
                    Py_ssize_t columns) noexcept nogil:
    # all columns of an array; -1 without memory
    if columns == 1:
        long_row(what, <const number *> x, <number *> out, C)
        return 0
    return along_axis_pass(what, <const number *> x, <number *> out, C, inner, 0, columns)


# -------------------------------------------------------------------------------------------------- one sample

cdef double limit_sample(const number *a, Py_ssize_t n, Py_ssize_t y, number *g) noexcept nogil:
    # where the largest logit is not finite, as rows.pxi has it
    cdef Py_ssize_t k, count = 0
    cdef bint bad = False
    cdef double value
    for k in range(n):
        count += a[k] == INFINITY
        bad = bad or a[k] != a[k]
    bad = bad or count != 1
    value = NAN if bad else 0.0 if a[y] == INFINITY else -INFINITY
    if g != NULL:
        for k in range(n):
            g[k] = <number> NAN if bad else <number> ((k == y) - (a[k] == INFINITY))
    return value


cdef double capi_sample(const number *a, Py_ssize_t n, Py_ssize_t y, number *g) noexcept nogil:
    # log p[y], p = softmax(a); and unless g is NULL, where g may be a:
    #
    #     g[k] = 1{y = k} - p[k],  p[k] = exp(a[k] - m) / (1 + rest),  1 - p[y] = rest / (1 + rest) where a[y] is m
    #
    # m and rest as in rows.pxi. The sum is plain, as in residuals.pxi, but in the lanes are classes.
    cdef Py_ssize_t v, k, whole = n // VEC_LANES, left = n - whole * VEC_LANES
    cdef vec m, x, e, sum = vset(0.0), ties = vset(0.0), one = vset(1.0)
    cdef number tail[16]
    cdef number a_y, maximum
    cdef double rest, value
    if y < 0 or y >= n:
        if g != NULL:
            for k in range(n):
                g[k] = <number> NAN
        return NAN
    for k in range(VEC_LANES):
        tail[k] = a[whole * VEC_LANES + k] if k < left else <number> -INFINITY
    m = vload(tail)
    for v in range(whole):
        m = vmax(vload(a + v * VEC_LANES), m)
    maximum = vmaximum(m)
    if maximum - maximum != 0.0:
        return limit_sample(a, n, y, g)
    a_y = a[y]
    m = vset(maximum)
    for v in range(whole + (left > 0)):
        x = vload(a + v * VEC_LANES if v < whole else tail)
        e = vexp(x - m)
        sum = vadd_unless_equal(sum, x, m, e)
        ties = vadd_where_equal(ties, x, m, one)
        if g != NULL:
            vstore(g + v * VEC_LANES if v < whole else tail, e)
    rest = vsum(sum) + (vsum(ties) - 1)
    value = (<double> a_y - <double> maximum) - log1p(rest)
    if g != NULL:
        x = vset(<number> (-1 / (1 + rest)))
        for v in range(whole):
            vstore(g + v * VEC_LANES, vload(g + v * VEC_LANES) * x)
        vstore(tail, vload(tail) * x)
        for k in range(left):
            g[whole * VEC_LANES + k] = tail[k]
        g[y] = <number> (rest / (1 + rest)) if a_y == maximum else 1 + g[y]
    return value


cdef number dot(const number *x, const number *w, Py_ssize_t n, vec last) noexcept nogil:
    # n >= VEC_LANES; `last` has the x that remain after whole vectors, in an overlapping vector's upper lanes, else 0
    cdef vec acc[4]
    cdef Py_ssize_t i = 0, j
    for j in range(4):
        acc[j] = vset(0.0)
    while i + 4 * VEC_LANES <= n:
        for j in range(4):
            acc[j] = acc[j] + vload(x + i + j * VEC_LANES) * vload(w + i + j * VEC_LANES)
        i += 4 * VEC_LANES
    while i + VEC_LANES <= n:
        acc[0] = acc[0] + vload(x + i) * vload(w + i)
        i += VEC_LANES
    if i < n:
        acc[1] = acc[1] + last * vload(w + n - VEC_LANES)
    return <number> vsum((acc[0] + acc[1]) + (acc[2] + acc[3]))


cdef double capi_gradient(const number *x, Py_ssize_t d, const number *coef, const number *intercept, Py_ssize_t C,
                          Py_ssize_t y, number *grad_coef, number *grad_intercept) noexcept nogil:
    # log p[y] at the logits a[k] = b[k] + sum_i w[k, i] x[i], and its gradient: g[k] x[i], and g[k], in whose place the
    # logits stand at first. A logit that is not finite makes all of it nan.
    cdef Py_ssize_t k, i, overlap = d % VEC_LANES
    cdef number a, bad = 0.0
    cdef number tail[16]
    cdef vec last = vset(0.0)
    cdef double value
    if d >= VEC_LANES and overlap > 0:
        for i in range(VEC_LANES):
            tail[i] = x[d - VEC_LANES + i] if i >= VEC_LANES - overlap else <number> 0.0
        last = vload(tail)
    for k in range(C):
        a = intercept[k] if intercept != NULL else <number> 0.0
        if d >= VEC_LANES:
            a = a + dot(x, coef + k * d, d, last)
        else:
            for i in range(d):
                a = a + x[i] * coef[k * d + i]
        grad_intercept[k] = a
        bad += a - a
    value = capi_sample(grad_intercept, C, y if bad == 0.0 else -1, grad_intercept)
    for k in range(C):
        for i in range(d):
            grad_coef[k * d + i] = grad_intercept[k] * x[i]
    return value


# ----------------------------------------------------------------------------------------------------- a block

cdef bint capi_block(const number *X, Py_ssize_t n, Py_ssize_t d, const double *coef, const double *intercept,
                     Py_ssize_t C, const int32_t *codes, const int64_t *long_codes, const double *weights,
                     double *value, double *grad_coef, double *grad_intercept) noexcept nogil:
    # the fused pass over contiguous rows; codes of either size, the other NULL
    cdef Py_ssize_t rows = max(n, <Py_ssize_t> 0), size = sizeof(number)
    cdef Source x = Source(<const char *> X, rows, d, d * size, size, FLOAT64 if sizeof(number) == 8 else FLOAT32)
    cdef Extras e = Extras(NULL, NULL, <const int *> codes, <const long long *> long_codes, NULL, weights, NULL)
    cdef Parameters params = Parameters(<double *> coef, <double *> intercept, d, 1)
    cdef Parameters gradient = Parameters(grad_coef, grad_intercept, d, 1)
    cdef Layout s
    if C <= 0:
        value[0] = NAN if rows > 0 else 0.0
        return True
    s = make_layout(rows, d, intercept != NULL, C, False)
    return fused_pass(&x, &s, &e, &params, value, NULL if grad_coef == NULL and grad_intercept == NULL else &gradient)


cdef const char *SMALL_SIGNATURE = "int (int, const void *, void *, C, inner, columns)"

# name -> address; the capsule's name is the signature, and cython_softmax asks for it by that
_capi = {
    "row": PyCapsule_New(<void *> capi_row, "void (int, const T *, T *, n)", NULL),
    "rows": PyCapsule_New(<void *> capi_rows, "bint (int, const T *, T *, n_rows, n)", NULL),
    "small": PyCapsule_New(<void *> small_pass, SMALL_SIGNATURE, NULL),
    "sample": PyCapsule_New(<void *> capi_sample, "double (const T *, n, y, T *)", NULL),
    "gradient": PyCapsule_New(<void *> capi_gradient, "double (const T *, d, const T *, const T *, C, y, T *, T *)",
                              NULL),
    "block": PyCapsule_New(<void *> capi_block, "bint (const T *, n, d, const double *, const double *, C, "
                           "const int32_t *, const int64_t *, const double *, double *, double *, double *)", NULL),
}
