"""What is done a column or an entry at a time, where each of NumPy's calls would take longer than what it computes.

csoftmax.encoding, csoftmax.samples, csoftmax.metric and csoftmax.certificate stand on it. It stands on libc alone.
"""

from cython cimport view
from libc.math cimport INFINITY, fabs, fmax, fmin, frexp, ldexp, rint, sqrt
from libc.stdlib cimport calloc, free


def all_finite(const double[:, :] X not None):
    """Whether no entry is nan or infinite."""
    cdef Py_ssize_t i, k
    cdef double bad = 0.0
    with nogil:
        for i in range(X.shape[0]):
            for k in range(X.shape[1]):
                bad += X[i, k] - X[i, k]
            if bad != 0.0:
                break
    return bad == 0.0


cdef inline double reach_of(double low, double high, double center) noexcept nogil:
    # how far the column's values are from the center; nan where that is nan
    cdef double above = high - center, below = center - low
    return above if above > below or above != above else below


def standardize(const double[:, ::1] totals, double total_mass, bint intercept, double[:, ::1] out):
    """Write each column's shift and scale to the two rows of `out`; return the first column that has none, or -1.

    That is one whose range is not finite. The rows of `totals` are each column's sum, least and largest value. See
    DenseSamples.standardized.
    """
    cdef Py_ssize_t i
    cdef int exponent
    cdef double low, high, center, reach, unit
    for i in range(totals.shape[1]):
        low, high, center = totals[1, i], totals[2, i], 0.0
        if intercept:
            center = fmin(fmax(totals[0, i] / total_mass, low), high)  # of a total that overflows too
            if low == high:
                center = low
            elif reach_of(low, high, center) < INFINITY:  # of another frexp tells nothing
                frexp(reach_of(low, high, center), &exponent)
                unit = ldexp(1.0, exponent - 8)
                if unit > 0:
                    center = rint(center / unit) * unit
        reach = reach_of(low, high, center)
        if not reach < INFINITY:
            return i
        frexp(reach, &exponent)
        out[0, i] = center
        out[1, i] = ldexp(1.0, min(max(-exponent, -1000), 250)) if reach > 0 else 1.0
    return -1


def mean_penalty(const double[:, ::1] l2, const double[::1] shift, const double[::1] scale, const double[:, ::1] totals,
                 double total_mass, double least, double largest, double[:, ::1] held, double[:, ::1] beyond):
    """Write the penalty on the mean loss, of scaled columns, to `held`; return whether any had to be clipped.

    Not less than `least`, nor more than `largest` times the square of a column's largest entry; `beyond` is then what
    that is of the penalty, 1 elsewhere.
    """
    cdef Py_ssize_t k, i
    cdef double penalty, kept, size
    cdef bint clipped = False
    for k in range(l2.shape[0]):
        for i in range(l2.shape[1]):
            penalty = l2[k, i] * scale[i] * scale[i] / total_mass
            kept = 0.0
            if l2[k, i] > 0:
                size = reach_of(totals[1, i], totals[2, i], shift[i]) * scale[i]  # of a column of 1e-100 0
                kept = fmin(fmax(penalty, least), fmax(largest * (size * size if size > 0 else 1.0), least))
            held[k, i] = kept
            beyond[k, i] = kept / penalty if penalty > kept else 1.0
            clipped = clipped or kept != penalty
    return clipped


def moments_of(const double[:, ::1] gram, double total_mass, bint intercept, double[:, ::1] moments, double[::1] mean):
    """Write the columns' second moments about their means to `moments`, of a Gram matrix with the column of ones last.

    Without an intercept about 0, which are then the means.
    """
    cdef Py_ssize_t d = moments.shape[0], i, k
    for i in range(d):
        mean[i] = gram[i, d] / total_mass if intercept else 0.0
    for i in range(d):
        for k in range(d):
            moments[i, k] = gram[i, k] / total_mass - mean[i] * mean[k]


cdef double cholesky(double[:, ::1] A) noexcept nogil:
    # R in place of the upper triangle of A = R'R; returns the least diagonal of R, 0 where there is no factor
    cdef Py_ssize_t n = A.shape[0], i, j, k
    cdef double pivot, share, least = INFINITY
    for j in range(n):
        if not A[j, j] > 0:
            return 0.0
        pivot = sqrt(A[j, j])
        least = fmin(least, pivot)
        for k in range(j, n):
            A[j, k] = A[j, k] / pivot
        for i in range(j + 1, n):
            share = A[j, i]
            for k in range(i, n):
                A[i, k] -= share * A[j, k]
    return least


cdef void invert_triangle(const double[:, ::1] R, double[:, ::1] F) noexcept nogil:
    # F = R^-1, of the upper triangle of R
    cdef Py_ssize_t n = R.shape[0], i, j, k
    cdef double share
    for i in range(n - 1, -1, -1):
        for j in range(n):
            F[i, j] = 0.0
        for k in range(i + 1, n):
            share = R[i, k] / R[i, i]
            for j in range(k, n):
                F[i, j] -= share * F[k, j]
        F[i, i] = 1.0 / R[i, i]


def plain_factor(const double[:, ::1] moments, const double[::1] l2, double least_pivot, double large_penalty,
                 double[:, ::1] factor):
    """Write F with F F' = (moments / 2 + diag(l2))^-1 to `factor`, an upper triangle; return whether that could be.

    It can where the Cholesky factor of the correlations has no diagonal below `least_pivot`, and no l2 is larger than
    `large_penalty` times a column's moment. With LAPACK and NumPy around it this was 30 us, a twentieth of a small fit;
    now it is 2, and at 784 columns 0.1 s where their Gram matrix takes a second.
    """
    cdef Py_ssize_t d = moments.shape[0], i, k
    cdef double[:, ::1] work
    cdef double[::1] unit
    cdef bint done = False
    if d == 0:
        return False
    for i in range(d):
        if not (moments[i, i] > 0 and l2[i] <= large_penalty * moments[i, i]):
            return False
    work = view.array(shape=(d + 1, d), itemsize=sizeof(double), format="d")
    unit, work = work[d], work[:d]
    with nogil:
        for i in range(d):
            unit[i] = 1.0 / sqrt(moments[i, i])
        for i in range(d):
            for k in range(d):
                work[i, k] = moments[i, k] * unit[i] * unit[k]
        if cholesky(work) >= least_pivot:
            for i in range(d):
                unit[i] = 1.0 / sqrt(0.5 * moments[i, i] + l2[i])
            for i in range(d):
                for k in range(d):  # each pivot is then a larger share of its diagonal
                    work[i, k] = (0.5 * moments[i, k] + (l2[i] if i == k else 0.0)) * unit[i] * unit[k]
            cholesky(work)
            invert_triangle(work, factor)
            for i in range(d):
                for k in range(i, d):
                    factor[i, k] *= unit[i]
            done = True
    return done


def with_intercept(const double[:, :] factor, const double[::1] mean, double[:, ::1] T):
    """Write [factor, 0; -mean' factor, sqrt(2)] to T; where that has no more rows than `factor`, no intercept."""
    cdef Py_ssize_t d = factor.shape[0], q = factor.shape[1], i, k
    cdef double x
    cdef bint intercept = T.shape[0] > d
    if intercept:
        for k in range(q):
            T[d, k] = 0.0
        T[d, q] = sqrt(2.0)
    for i in range(d):
        for k in range(q):
            T[i, k] = x = factor[i, k]
            if intercept:
                T[d, k] -= mean[i] * x
        if intercept:
            T[i, q] = 0.0


def to_unit_diagonal(double[:, ::1] matrix, double[::1] unit):
    """Scale a symmetric matrix in place to a diagonal of 1; write what rows and columns were divided by to `unit`.

    Return the 1-norm. An entry of 0, or less, of the diagonal stays.
    """
    cdef Py_ssize_t n = matrix.shape[0], i, k
    cdef double largest = 0.0, total
    for i in range(n):
        unit[i] = sqrt(matrix[i, i]) if matrix[i, i] > 0 else 1.0
    for i in range(n):
        total = 0.0
        for k in range(n):
            matrix[i, k] = matrix[i, k] / unit[i] / unit[k]
            total += fabs(matrix[i, k])
        if not (total <= largest or largest != largest):
            largest = total
    return largest


def rounding_sums(const double[:, ::1] T, const double[::1] u, const double[::1] mean_squares, const double[::1] l2,
                  const double[::1] shift, const double[::1] scale):
    """Return the sums of MetricCoordinates.rounding: with coef_a = sum_b T_ab^2 |u_b|^2, of all parameters and features

        sum_a coef_a, sum_ab mean_squares_a T_ab^2, sum_ab l2_a^2 coef_a T_ab^2, sum_a l2_a coef_a, and
        sum_a (scale_a shift_a)^2 coef_a.
    """
    cdef Py_ssize_t p = T.shape[0], q = T.shape[1], d = l2.shape[0], a, b, k
    cdef double coef, squares, total = 0.0, tau = 0.0, pull = 0.0, penalty = 0.0, shifted = 0.0
    cdef double *lengths = <double *> calloc(q + 1, sizeof(double))
    if lengths == NULL:
        raise MemoryError(f"no memory for {q} numbers")
    for k in range(u.shape[0] // q if q > 0 else 0):
        for b in range(q):
            lengths[b] += u[k * q + b] * u[k * q + b]
    for a in range(p):
        coef = squares = 0.0
        for b in range(q):
            coef += T[a, b] * T[a, b] * lengths[b]
            squares += T[a, b] * T[a, b]
        total += coef
        tau += mean_squares[a] * squares
        if a < d:
            pull += l2[a] * l2[a] * coef * squares
            penalty += l2[a] * coef
            shifted += scale[a] * shift[a] * (scale[a] * shift[a]) * coef
    free(lengths)
    return total, tau, pull, penalty, shifted
