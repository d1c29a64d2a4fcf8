# Sums over rows of outer products of the features: the Hessian, the Gram matrix; and each column's total and range.
#
# csoftmax.samples stands on it; in the modules for double alone. It stands on load.pxi, tiles.pxi and residuals.pxi.
#
# Here a block is loaded with the intercept's column of ones as its last.

cdef void set_ones(Py_ssize_t n_rows, const Layout *s, const Work *w) noexcept nogil:
    cdef Py_ssize_t r
    if s.p > s.d:
        for r in range(n_rows):
            w.block[r * s.columns + s.d] = 1.0


cdef void store_symmetric(const number *g, const Layout *s, double *out) noexcept nogil:
    # out[i, k] = out[k, i] = the upper triangle of g, which has the row stride ldg and gradient_place's columns
    cdef Py_ssize_t i, k
    for i in range(s.p):
        for k in range(i, s.p):
            out[i * s.p + k] = g[i * s.ldg + gradient_place(k, s)]
            out[k * s.p + i] = out[i * s.p + k]


def hessian_blocks(object X, int kind, const double[::1] shift, const double[::1] scale,
                   const double[:, ::1] params, bint intercept,
                   const double[:, ::1] counts, const double[::1] weights,
                   const double[:, ::1] offset, double[:, :, ::1] blocks):
    """Write the C (C - 1) / 2 blocks i < k of the log-likelihood's Hessian, in row order of the pairs:

        H[i, k] = sum_r mass[r] p[r, i] p[r, k] x~_r x~_r'

    The diagonal needs no pass: H[i, i] = -sum_{k != i} H[i, k], a sum of terms of one sign.
    """
    cdef Source x = make_source(X, kind)
    cdef Py_ssize_t b, start, n_rows, r, i, j, k, pair
    cdef Layout s = make_layout(x.n, x.d, intercept, params.shape[0], True)
    cdef Py_ssize_t C = s.n_classes, size = s.p * s.ldg
    cdef Extras e = make_extras(x.n, shift, scale, None, counts, weights, offset)
    cdef Parameters rows = joined(params, &s)
    cdef Work w = make_work(&s, s.rows * s.columns + C * (C - 1) // 2 * size)
    cdef number u
    cdef number *y = w.more
    cdef number *h = y + s.rows * s.columns
    with nogil:
        pack_classes(&rows, &s, w.packed)
        for b in range(n_blocks(x.n, &s)):
            start = b * s.rows
            n_rows = load_logits(&x, start, &s, &e, &w)
            set_ones(n_rows, &s, &w)
            probabilities(w.a, round_up(n_rows, s.unit), &s)
            load_mass(start, n_rows, &s, &e, &w, True)
            pair = 0
            for i in range(C):
                for k in range(i + 1, C):
                    for r in range(n_rows):
                        u = w.mass[r] * w.a[i * s.ld + r] * w.a[k * s.ld + r]
                        for j in range(s.columns):
                            y[r * s.columns + j] = u * w.x[r * w.ldx + j]
                    add_outer(y, 1, s.columns, s.p, w.x, w.ldx, s.columns, n_rows, h + pair * size, s.ldg, True)
                    pair += 1
        if s.p > 0:
            for pair in range(C * (C - 1) // 2):
                store_symmetric(h + pair * size, &s, &blocks[pair, 0, 0])
        free(w.base)


def gram(object X, int kind, const double[::1] shift, const double[::1] scale, bint intercept,
         const double[::1] weights, double[:, ::1] out):
    """Write sum_r weight[r] x~_r x~_r', of shape (p, p)."""
    cdef Source x = make_source(X, kind)
    cdef Py_ssize_t b, start, n_rows, r, i
    cdef Layout s = make_layout(x.n, x.d, intercept, 1, True)
    cdef Extras e = make_extras(x.n, shift, scale, None, None, weights, None)
    cdef Work w = make_work(&s, s.rows * s.columns + s.p * s.ldg)
    cdef number mass
    cdef number *y = w.more
    cdef number *g = y + s.rows * s.columns
    with nogil:
        for b in range(n_blocks(x.n, &s)):
            start = b * s.rows
            n_rows = min(s.rows, x.n - start)
            load_block(&x, start, n_rows, &s, &e, &w)
            set_ones(n_rows, &s, &w)
            for r in range(n_rows):
                mass = 1.0 if e.weights == NULL else e.weights[start + r]
                for i in range(s.columns):
                    y[r * s.columns + i] = mass * w.x[r * w.ldx + i]
            add_outer(y, 1, s.columns, s.p, w.x, w.ldx, s.columns, n_rows, g, s.ldg, True)
        if s.p > 0:
            store_symmetric(g, &s, &out[0, 0])
        free(w.base)


def column_totals(object X, int kind, const double[::1] weights, double[:, ::1] out):
    """Write to the rows of `out` each column's weighted sum, its minimum and maximum over rows of positive weight."""
    cdef Source x = make_source(X, kind)
    cdef Layout s = make_layout(x.n, x.d, False, 1, False)
    cdef Extras e = make_extras(x.n, None, None, None, None, weights, None)
    cdef Work w = make_work(&s, 0)
    cdef Py_ssize_t b, n_rows, r, i
    cdef number mass, value
    with nogil:
        for i in range(x.d):
            out[0, i] = 0.0
            out[1, i] = INFINITY
            out[2, i] = -INFINITY
        for b in range(n_blocks(x.n, &s)):
            n_rows = min(s.rows, x.n - b * s.rows)
            load_block(&x, b * s.rows, n_rows, &s, &e, &w)
            for r in range(n_rows):
                mass = 1.0 if e.weights == NULL else e.weights[b * s.rows + r]
                if mass == 0.0:
                    continue
                for i in range(x.d):
                    value = w.x[r * w.ldx + i]
                    out[0, i] += mass * value
                    out[1, i] = value if value < out[1, i] else out[1, i]
                    out[2, i] = value if value > out[2, i] else out[2, i]
        free(w.base)
