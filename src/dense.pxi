# The fused pass over dense rows: log-likelihood, gradient, Hessian product, and what each row has.
#
# csoftmax.samples, hessian.pxi, whole.pxi and capi.pxi stand on it. It stands on load.pxi, tiles.pxi and
# residuals.pxi.
#
# Every function here walks over blocks of rows that stay in the L2 cache, in four stages:
#
#     load       x[r, :]          X's own rows, read in place; or (X - shift) * scale, widened, in a scratch block
#     forward    a[k, r]   = b[k] + sum_i x[r, i] w[k, i]                     the logits, a class after another
#     residual   g[k, r]   = weight[r] (y[r, k] - total[r] p[k, r])           in place of a
#     backward   G[k, i]  += sum_r g[k, r] x[r, i]                            the gradient
#
# so that X comes from memory once, the next block while this one is worked on, and no n x C array exists.
#
# In the modules for float, X is float32 and so is the arithmetic within a block; sums over blocks are in double.
# A label outside 0..C-1 makes the sum nan and reads nothing out of bounds; the caller then searches for it.
#
# Shapes: X (n, d), its elements by `kind`; params, gradient, direction, product (C, p) with rows [w_k, b_k]; codes
# (n,), int32 or int64; counts and offset (n, C); weights (n,); shift and scale (d,). What is absent is None.

cdef enum:
    LOG_LIKELIHOOD_ROWS = 0
    RESIDUAL_ROWS = 1
    PROBABILITY_ROWS = 2
    LOG_PROBABILITY_ROWS = 3
    RANGE_ROWS = 4
    SQUARES_ROWS = 5
    LOGIT_ROWS = 6


cdef Py_ssize_t load_logits(const Source *x, Py_ssize_t start, const Layout *s, const Extras *e,
                            Work *w) noexcept nogil:
    # the block that begins at row `start`, its logits in w.a; returns its rows, without those that fill up a unit
    cdef Py_ssize_t r, k, n_rows = min(s.rows, x.n - start)
    cdef const double *offset
    load_block(x, start, n_rows, s, e, w)
    forward(w, w.packed, round_up(n_rows, s.unit), s, w.a)
    if e.offset != NULL:
        offset = e.offset + start * s.n_classes
        for r in range(n_rows):
            for k in range(s.n_classes):
                w.a[k * s.ld + r] += <number> offset[r * s.n_classes + k]
    return n_rows


cdef void load_mass(Py_ssize_t start, Py_ssize_t n_rows, const Layout *s, const Extras *e, const Work *w,
                    bint with_totals) noexcept nogil:
    # mass[r] = weight[r], times sum_k y[r, k] `with_totals`; 0 in the rows that fill up
    cdef Py_ssize_t r, k
    cdef double total
    for r in range(n_rows):
        w.mass[r] = 1.0 if e.weights == NULL else <number> e.weights[start + r]
        if with_totals and e.counts != NULL:
            total = 0.0
            for k in range(s.n_classes):
                total += e.counts[(start + r) * s.n_classes + k]
            w.mass[r] *= <number> total
    for r in range(n_rows, round_up(n_rows, s.unit)):
        w.mass[r] = 0.0


cdef double residuals(Py_ssize_t start, Py_ssize_t n_rows, const Layout *s, const Extras *e, const Work *w,
                      number *counts) noexcept nogil:
    # counts: (C, ld), where there are any
    cdef Py_ssize_t r, k
    load_mass(start, n_rows, s, e, w, False)
    if e.counts == NULL:
        return label_residuals(start, n_rows, s, e, w)
    for r in range(n_rows):
        for k in range(s.n_classes):
            counts[k * s.ld + r] = <number> e.counts[(start + r) * s.n_classes + k]
    for r in range(n_rows, round_up(n_rows, s.unit)):
        for k in range(s.n_classes):
            counts[k * s.ld + r] = 0.0
    return count_residuals(counts, round_up(n_rows, s.unit), s, w)


cdef struct Gradient:
    number *tiles   # (C, ldg): see add_outer
    number *lanes   # (C, VEC_LANES): see add_row_sums
    double *sums    # both, over all blocks, in the modules for float; in those for double they stay where they are


cdef inline Py_ssize_t gradient_size(const Layout *s) noexcept nogil:
    # in numbers
    return s.n_classes * (s.ldg + VEC_LANES) * (1 if sizeof(number) == 8 else 3)


cdef inline Gradient make_gradient(number *memory, const Layout *s) noexcept nogil:
    cdef Gradient g
    g.tiles = memory
    g.lanes = memory + s.n_classes * s.ldg
    g.sums = <double *> (g.lanes + s.n_classes * VEC_LANES)
    return g


cdef void add_gradient(const Work *w, Py_ssize_t n_rows, const Layout *s, const Gradient *g) noexcept nogil:
    # a block's residuals and rows
    cdef Py_ssize_t i
    add_outer(w.a, s.ld, 1, s.n_classes, w.x, w.ldx, s.columns, n_rows, g.tiles, s.ldg, False)
    add_row_sums(w.a, round_up(n_rows, s.unit), s, g.lanes)
    if sizeof(number) == 4:
        for i in range(s.n_classes * (s.ldg + VEC_LANES)):
            g.sums[i] += g.tiles[i]
            g.tiles[i] = 0.0


cdef void store_gradient(const Gradient *g, const Layout *s, const Parameters *out) noexcept nogil:
    # the parts of `out` that are not NULL
    cdef Py_ssize_t k, i, lane
    cdef const double *sums
    cdef double *coef
    cdef double *intercept
    for k in range(s.n_classes):
        if out.coef != NULL:
            coef = out.coef + k * out.coef_stride
            for i in range(s.d):
                if sizeof(number) == 8:
                    coef[i] = g.tiles[k * s.ldg + gradient_place(i, s)]
                else:
                    coef[i] = g.sums[k * s.ldg + gradient_place(i, s)]
        if out.intercept != NULL:
            intercept = out.intercept + k * out.intercept_stride
            if sizeof(number) == 8:
                intercept[0] = vsum(vload(g.lanes + k * VEC_LANES))
            else:
                sums = g.sums + s.n_classes * s.ldg + k * VEC_LANES
                intercept[0] = 0.0
                for lane in range(VEC_LANES):
                    intercept[0] += sums[lane]


cdef bint fused_pass(const Source *x, const Layout *s, const Extras *e, const Parameters *params, double *total,
                     const Parameters *gradient) noexcept nogil:
    # False without memory; `gradient` is NULL where it is not wanted
    cdef Py_ssize_t b, n_rows, y_size = 0 if e.counts == NULL else s.n_classes * s.ld
    cdef Work w
    if not try_work(&w, s, gradient_size(s) + y_size):
        return False
    cdef Gradient g = make_gradient(w.more, s)
    cdef number *y = w.more + gradient_size(s)
    total[0] = 0.0
    pack_classes(params, s, w.packed)
    for b in range(n_blocks(x.n, s)):
        n_rows = load_logits(x, b * s.rows, s, e, &w)
        total[0] += residuals(b * s.rows, n_rows, s, e, &w, y)
        if gradient != NULL:
            add_gradient(&w, n_rows, s, &g)
    if gradient != NULL:
        store_gradient(&g, s, gradient)
    free(w.base)
    return True


def log_likelihood_and_gradient(object X, int kind, const double[::1] shift, const double[::1] scale,
                                const double[:, ::1] params, bint intercept, object codes,
                                const double[:, ::1] counts, const double[::1] weights,
                                const double[:, ::1] offset, double[:, ::1] gradient):
    """Return the log-likelihood of these rows; write its gradient to `gradient` unless that is None."""
    cdef Source x = make_source(X, kind)
    cdef Layout s = make_layout(x.n, x.d, intercept, params.shape[0], False)
    cdef Extras e = make_extras(x.n, shift, scale, codes, counts, weights, offset)
    cdef Parameters rows = joined(params, &s), out
    cdef Parameters *wanted = NULL
    cdef double total = 0.0
    cdef bint done
    if gradient is not None:
        out = joined(gradient, &s)
        wanted = &out
    with nogil:
        done = fused_pass(&x, &s, &e, &rows, &total, wanted)
    if not done:
        raise no_memory(&s)
    return total


def row_results(int what, object X, int kind, const double[::1] shift, const double[::1] scale,
                const double[:, ::1] params, bint intercept, object codes,
                const double[:, ::1] counts, const double[::1] weights,
                const double[:, ::1] offset, double[:, ::1] out):
    """Write to `out` what each row has.

    `what` is 0: its log-likelihood (out has one column), 1: its residual, 2: its probabilities, 3: their logarithms,
    4: the range of its logits over classes (one column), 5: the sum of their squares (one column), 6: its logits.
    """
    cdef Source x = make_source(X, kind)
    cdef Py_ssize_t b, n_rows, padded, r, k
    cdef Layout s = make_layout(x.n, x.d, intercept, params.shape[0], False)
    cdef Extras e = make_extras(x.n, shift, scale, codes, counts, weights, offset)
    cdef Py_ssize_t y_size = 0 if counts is None else s.n_classes * s.ld
    cdef Parameters rows = joined(params, &s)
    cdef Work w = make_work(&s, s.n_classes * VEC_LANES + y_size)
    cdef number *y = w.more + s.n_classes * VEC_LANES
    with nogil:
        pack_classes(&rows, &s, w.packed)
        for b in range(n_blocks(x.n, &s)):
            n_rows = load_logits(&x, b * s.rows, &s, &e, &w)
            padded = round_up(n_rows, s.unit)
            if what == PROBABILITY_ROWS:
                probabilities(w.a, padded, &s)
            elif what == LOG_PROBABILITY_ROWS:
                log_probabilities(w.a, w.more, padded, &s)
            elif what == RANGE_ROWS:
                logit_ranges(w.a, padded, &s, w.terms)
            elif what == SQUARES_ROWS:
                logit_squares(w.a, padded, &s, w.terms)
            elif what != LOGIT_ROWS:
                residuals(b * s.rows, n_rows, &s, &e, &w, y)
            if what == LOG_LIKELIHOOD_ROWS or what == RANGE_ROWS or what == SQUARES_ROWS:
                for r in range(n_rows):
                    out[b * s.rows + r, 0] = w.terms[r]
            else:
                for r in range(n_rows):
                    for k in range(s.n_classes):
                        out[b * s.rows + r, k] = w.a[k * s.ld + r]
        free(w.base)


def hessian_product(object X, int kind, const double[::1] shift, const double[::1] scale,
                    const double[:, ::1] params, const double[:, ::1] direction, bint intercept,
                    const double[:, ::1] counts, const double[::1] weights,
                    const double[:, ::1] offset, double[:, ::1] product):
    """Write the product of the log-likelihood's Hessian with `direction`; both have the shape of `params`."""
    cdef Source x = make_source(X, kind)
    cdef Py_ssize_t b, n_rows, padded
    cdef Layout s = make_layout(x.n, x.d, intercept, params.shape[0], False)
    cdef Extras e = make_extras(x.n, shift, scale, None, counts, weights, offset)
    cdef Parameters rows = joined(params, &s), along = joined(direction, &s), out = joined(product, &s)
    cdef Py_ssize_t logits = s.n_vec * VEC_LANES * s.ld
    cdef Work w = make_work(&s, logits + packed_size(&s) + gradient_size(&s))
    cdef number *u = w.more
    cdef number *packed = u + logits
    cdef Gradient g = make_gradient(packed + packed_size(&s), &s)
    with nogil:
        pack_classes(&rows, &s, w.packed)
        pack_classes(&along, &s, packed)
        for b in range(n_blocks(x.n, &s)):
            n_rows = load_logits(&x, b * s.rows, &s, &e, &w)
            padded = round_up(n_rows, s.unit)
            probabilities(w.a, padded, &s)
            w.ahead = NULL
            forward(&w, packed, padded, &s, u)
            load_mass(b * s.rows, n_rows, &s, &e, &w, True)
            product_residuals(w.a, u, padded, &s, &w)
            add_gradient(&w, n_rows, &s, &g)
        store_gradient(&g, &s, &out)
        free(w.base)
