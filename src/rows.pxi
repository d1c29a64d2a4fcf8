# softmax, log_softmax and logsumexp of each row.
#
# The kernels_* stubs include this file; csoftmax.special stands on it. It stands on simd.h.
#
#     m = max_k x[k],  rest = sum over all but one largest entry of exp(x[k] - m)
#     logsumexp = m + log1p(rest)
#     log_softmax[i] = (x[i] - m) - log1p(rest)
#     softmax[i] = exp(x[i] - m) / (1 + rest)
#
# The largest term stays out of the sum (Blanchard, Higham & Higham 2021, doi:10.1093/imanum/draa038). x[k] - m is
# carried with its rounding error (Dekker's two-sum): exp(d + e) = exp(d) (1 + e), without which a far-off entry of
# softmax is wrong by up to 475 ulp. float32 is computed in double and rounded once.
#
# nan anywhere gives nan; one +inf is the limit (softmax 1 there, 0 elsewhere), several have none (nan); all -inf
# gives nan, and -inf for logsumexp.

ctypedef fused real:
    float
    double


cdef inline void copy_row(const real *x, Py_ssize_t n, Py_ssize_t padded, number *row) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(n):
        row[k] = x[k]
    for k in range(n, padded):
        row[k] = -INFINITY


cdef number row_exponentials(const number *row, number *e, Py_ssize_t padded, number *maximum) noexcept nogil:
    # e[k] <- exp(row[k] - m); returns rest. e may be NULL. A row without a finite largest entry: see special_row.
    cdef Py_ssize_t v
    cdef vec m = vload(row), x, d, b, y, top, one = vset(1.0), rest = vset(0.0), ties = vset(0.0)
    for v in range(1, padded // VEC_LANES):
        m = vmax(vload(row + v * VEC_LANES), m)
    maximum[0] = vmaximum(m)
    m = vset(maximum[0])
    for v in range(padded // VEC_LANES):
        x = vload(row + v * VEC_LANES)
        d = x - m
        b = x - d
        y = vexp_gradual(d)
        # (x - (d + b)) + (b - m) is what x - m lost; where d is -inf that is nan, and exp is 0
        y = y + vwhere_finite(d, y * ((x - (d + b)) + (b - m)))
        top = vwhere_equal(x, m, one)
        ties = ties + top
        rest = rest + (y - top)
        if e != NULL:
            vstore(e + v * VEC_LANES, y)
    return vsum(rest) + (vsum(ties) - 1.0)


cdef bint has_nan(const number *row, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(n):
        if row[k] != row[k]:
            return True
    return False


cdef Py_ssize_t infinities(const number *row, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t k, count = 0
    for k in range(n):
        count += row[k] == INFINITY
    return count


cdef void limit_row(number *row, Py_ssize_t n, bint logs) noexcept nogil:
    # softmax (or its log) of a row whose largest entry is not finite, in place
    cdef Py_ssize_t k
    cdef bint limit = infinities(row, n) == 1 and not has_nan(row, n)
    for k in range(n):
        if not limit:
            row[k] = NAN
        elif row[k] == INFINITY:
            row[k] = 0.0 if logs else 1.0
        else:
            row[k] = -INFINITY if logs else 0.0


def softmax_rows(const real[:, ::1] x, real[:, ::1] out):
    """Write the softmax of each row of `x` to `out`; both may be the same array."""
    cdef Py_ssize_t n = x.shape[0], C = x.shape[1], padded = round_up(C, 8), r, k
    cdef number m, rest
    cdef number *row
    cdef number *e
    if n == 0 or C == 0:
        return
    with nogil:
        row = <number *> allocate(2 * padded * sizeof(number))
        e = row + padded
        for r in range(n):
            copy_row(&x[r, 0], C, padded, row)
            rest = row_exponentials(row, e, padded, &m)
            if m == INFINITY or m == -INFINITY or m != m:
                limit_row(row, C, False)
                for k in range(C):
                    out[r, k] = <real> row[k]
            else:
                rest = 1.0 + rest
                for k in range(C):
                    out[r, k] = <real> (e[k] / rest)
        free(row)


def log_softmax_rows(const real[:, ::1] x, real[:, ::1] out):
    """Write the logarithm of the softmax of each row of `x` to `out`; both may be the same array."""
    cdef Py_ssize_t n = x.shape[0], C = x.shape[1], padded = round_up(C, 8), r, k
    cdef number m, rest
    cdef number *row
    if n == 0 or C == 0:
        return
    with nogil:
        row = <number *> allocate(padded * sizeof(number))
        for r in range(n):
            copy_row(&x[r, 0], C, padded, row)
            rest = row_exponentials(row, NULL, padded, &m)
            if m == INFINITY or m == -INFINITY or m != m:
                limit_row(row, C, True)
                for k in range(C):
                    out[r, k] = <real> row[k]
            else:
                rest = log1p(rest)
                for k in range(C):
                    out[r, k] = <real> ((row[k] - m) - rest)
        free(row)


def logsumexp_rows(const real[:, ::1] x, real[::1] out):
    """Write log(sum_k exp(x[r, k])) of each row to `out`."""
    cdef Py_ssize_t n = x.shape[0], C = x.shape[1], padded = round_up(C, 8), r
    cdef number m, rest
    cdef number *row
    if n == 0 or C == 0:
        return
    with nogil:
        row = <number *> allocate(padded * sizeof(number))
        for r in range(n):
            copy_row(&x[r, 0], C, padded, row)
            rest = row_exponentials(row, NULL, padded, &m)
            if m == INFINITY or m == -INFINITY or m != m:
                out[r] = <real> (NAN if has_nan(row, C) else m)
            else:
                out[r] = <real> (m + log1p(rest))
        free(row)
