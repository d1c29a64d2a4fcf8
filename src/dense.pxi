# The fused pass over dense rows: log-likelihood, gradient, Hessian product, Hessian, and what each row has.
#
# The kernels_* stubs include this file; csoftmax.samples stands on it. It stands on simd.h.
#
# Every function here walks over blocks of rows that stay in the L2 cache, in four stages:
#
#     load       xb[r, :]  = ((X[r, :] - shift) * scale, 1)           widened to double, padded with zeros
#     forward    a[r, k]   = sum_i xb[r, i] w[k, i]                   the logits
#     residual   g[r, k]   = weight[r] (y[r, k] - total[r] p[r, k])   in place of a
#     backward   G[k, i]  += sum_r g[r, k] xb[r, i]                   the gradient
#
# so that X comes from memory once and no n x C array exists. Labels, counts, weights and offset are read in the
# residual stage alone. The copy in `load` costs one store for each element where forward and backward cost
# about 2 C / VEC_LANES operations each; in return no later loop has a tail: rows come in multiples of 8, columns
# and classes in whole vectors.
#
# A label outside 0..C-1 makes the sum nan and reads nothing out of bounds; the caller then searches for it.

cdef enum:
    BLOCK_DOUBLES = 16384  # of one block's scratch: 128 kB of a 512 kB to 1 MB L2 cache
    LOG_LIKELIHOOD_ROWS = 0
    RESIDUAL_ROWS = 1
    PROBABILITY_ROWS = 2
    LOG_PROBABILITY_ROWS = 3
    RANGE_ROWS = 4
    SQUARES_ROWS = 5


cdef struct Layout:
    Py_ssize_t d          # columns of X
    Py_ssize_t p          # parameters of a class: d, or d + 1 with an intercept
    Py_ssize_t ldx        # row stride of a loaded block: p in whole vectors
    Py_ssize_t n_classes
    Py_ssize_t ldc        # row stride of a block of logits: n_classes in whole vectors, at least 4
    Py_ssize_t rows       # rows of a block, a multiple of 8


cdef inline Py_ssize_t round_up(Py_ssize_t n, Py_ssize_t unit) noexcept nogil:
    return (n + unit - 1) // unit * unit


cdef Layout make_layout(Py_ssize_t n, Py_ssize_t d, bint intercept, Py_ssize_t n_classes) noexcept nogil:
    cdef Layout s
    cdef Py_ssize_t unit = 8 if VEC_LANES == 8 else 4
    s.d = d
    s.p = d + intercept
    s.ldx = round_up(s.p if s.p > 0 else 1, unit)
    s.n_classes = n_classes
    s.ldc = round_up(n_classes, unit)
    s.rows = BLOCK_DOUBLES // (s.ldx + s.ldc) // 8 * 8
    s.rows = min(max(s.rows, <Py_ssize_t>32), <Py_ssize_t>512)
    s.rows = min(s.rows, round_up(n if n > 0 else 1, 8))
    return s


cdef inline Py_ssize_t n_blocks(Py_ssize_t n, const Layout *s) noexcept nogil:
    return (n + s.rows - 1) // s.rows


cdef struct Extras:
    # what stands beside a chunk of X, each NULL where absent
    const double *shift    # (d,)
    const double *scale    # (d,)
    const int *codes       # (n,)
    const double *counts   # (n, C)
    const double *weights  # (n,)
    const double *offset   # (n, C)


cdef Extras make_extras(Py_ssize_t n, const double[::1] shift, const double[::1] scale, const int[::1] codes,
                        const double[:, ::1] counts, const double[::1] weights, const double[:, ::1] offset):
    cdef Extras e = Extras(NULL, NULL, NULL, NULL, NULL, NULL)
    if shift is not None and shift.shape[0] > 0:
        e.shift = &shift[0]
        e.scale = &scale[0]
    if n > 0:
        if codes is not None:
            e.codes = &codes[0]
        if counts is not None:
            e.counts = &counts[0, 0]
        if weights is not None:
            e.weights = &weights[0]
        if offset is not None:
            e.offset = &offset[0, 0]
    return e


cdef struct Work:
    double *xb      # (rows, ldx): the loaded block
    double *a       # (rows, ldc): its logits, then residuals
    double *terms   # (rows,)
    double *packed  # (ldc / VEC_LANES, p + 1, VEC_LANES): the parameters, see pack_classes
    double *more    # what the function asked for, zeroed


cdef double *allocate(Py_ssize_t n) except NULL nogil:
    cdef double *p = <double *> calloc(n + 8, sizeof(double))
    if p == NULL:
        with gil:
            raise MemoryError(f"no memory for {n} doubles of scratch")
    return p


cdef Work make_work(const Layout *s, Py_ssize_t more) except *:
    cdef Work w
    cdef Py_ssize_t packed = (s.p + 1) * s.ldc
    w.xb = allocate(s.rows * (s.ldx + s.ldc + 1) + packed + more)
    w.a = w.xb + s.rows * s.ldx
    w.terms = w.a + s.rows * s.ldc
    w.packed = w.terms + s.rows
    w.more = w.packed + packed
    return w


# ---------------------------------------------------------------------------------------------------- load

cdef void load_block(const real *x, Py_ssize_t n_rows, const Layout *s, const double *shift, const double *scale,
                     double *xb) noexcept nogil:
    cdef Py_ssize_t r, i, d = s.d
    cdef const real *row
    cdef double *out
    for r in range(n_rows):
        row = x + r * d
        out = xb + r * s.ldx
        if shift == NULL:
            for i in range(d):
                out[i] = row[i]
        else:
            for i in range(d):
                out[i] = (row[i] - shift[i]) * scale[i]
        if s.p > d:
            out[d] = 1.0
    # rows beyond the last of a short block: zero, so that they add nothing
    if n_rows < s.rows:
        memset(xb + n_rows * s.ldx, 0, (s.rows - n_rows) * s.ldx * sizeof(double))


# ------------------------------------------------------------------------------------------------- forward

cdef void pack_classes(const double[:, ::1] params, const Layout *s, double pad, double *packed) noexcept nogil:
    # packed: for each vector of classes its start values (0, and `pad` in the lanes that no class fills), then
    # its p rows; so a tile reads it from front to back. A class with a parameter that is not finite starts at nan
    # (-inf would otherwise pass for a class of probability 0).
    cdef Py_ssize_t v, i, lane, k
    cdef double *out = packed
    for v in range(s.ldc // VEC_LANES):
        for lane in range(VEC_LANES):
            k = v * VEC_LANES + lane
            out[lane] = 0.0 if k < s.n_classes else pad
            if k < s.n_classes:
                for i in range(s.p):
                    out[lane] += 0.0 * params[k, i]
        out += VEC_LANES
        for i in range(s.p):
            for lane in range(VEC_LANES):
                k = v * VEC_LANES + lane
                out[lane] = params[k, i] if k < s.n_classes else 0.0
            out += VEC_LANES


cdef inline void forward_tile_8x1(const double *x, Py_ssize_t ldx, const double *w, Py_ssize_t p,
                                  double *out, Py_ssize_t ldc) noexcept nogil:
    cdef vec acc[8]
    cdef vec w0
    cdef Py_ssize_t i, r
    for r in range(8):
        acc[r] = vload(w)
    w += VEC_LANES
    for i in range(p):
        w0 = vload(w + i * VEC_LANES)
        for r in range(8):
            acc[r] = acc[r] + x[r * ldx + i] * w0
    for r in range(8):
        vstore(out + r * ldc, acc[r])


cdef inline void forward_tile_4x2(const double *x, Py_ssize_t ldx, const double *w, Py_ssize_t p,
                                  double *out, Py_ssize_t ldc) noexcept nogil:
    cdef vec acc0[4]
    cdef vec acc1[4]
    cdef vec w0, w1
    cdef const double *u = w + (p + 1) * VEC_LANES
    cdef Py_ssize_t i, r
    for r in range(4):
        acc0[r] = vload(w)
        acc1[r] = vload(u)
    w += VEC_LANES
    u += VEC_LANES
    for i in range(p):
        w0 = vload(w + i * VEC_LANES)
        w1 = vload(u + i * VEC_LANES)
        for r in range(4):
            acc0[r] = acc0[r] + x[r * ldx + i] * w0
            acc1[r] = acc1[r] + x[r * ldx + i] * w1
    for r in range(4):
        vstore(out + r * ldc, acc0[r])
        vstore(out + r * ldc + VEC_LANES, acc1[r])


cdef void forward(const double *xb, const double *packed, Py_ssize_t n_rows, const Layout *s, double *a) noexcept nogil:
    # a[r, k] = sum_i xb[r, i] w[k, i]
    cdef Py_ssize_t r, v = 0, n_vec = s.ldc // VEC_LANES, panel = (s.p + 1) * VEC_LANES
    while v + 2 <= n_vec:
        for r in range(0, n_rows, 4):
            forward_tile_4x2(xb + r * s.ldx, s.ldx, packed + v * panel, s.p, a + r * s.ldc + v * VEC_LANES, s.ldc)
        v += 2
    if v < n_vec:
        for r in range(0, n_rows, 8):
            forward_tile_8x1(xb + r * s.ldx, s.ldx, packed + v * panel, s.p, a + r * s.ldc + v * VEC_LANES, s.ldc)


# ------------------------------------------------------------------------------------------------ backward

cdef inline void outer_tile_4x2(const double *g, Py_ssize_t ldg, const double *x, Py_ssize_t ldx, Py_ssize_t n_rows,
                                double *out, Py_ssize_t ldo) noexcept nogil:
    cdef vec acc0[4]
    cdef vec acc1[4]
    cdef vec x0, x1
    cdef Py_ssize_t r, k
    for k in range(4):
        acc0[k] = vload(out + k * ldo)
        acc1[k] = vload(out + k * ldo + VEC_LANES)
    for r in range(n_rows):
        x0 = vload(x + r * ldx)
        x1 = vload(x + r * ldx + VEC_LANES)
        for k in range(4):
            acc0[k] = acc0[k] + g[r * ldg + k] * x0
            acc1[k] = acc1[k] + g[r * ldg + k] * x1
    for k in range(4):
        vstore(out + k * ldo, acc0[k])
        vstore(out + k * ldo + VEC_LANES, acc1[k])


cdef inline void outer_tile_4x1(const double *g, Py_ssize_t ldg, const double *x, Py_ssize_t ldx, Py_ssize_t n_rows,
                                double *out, Py_ssize_t ldo) noexcept nogil:
    cdef vec acc[4]
    cdef vec x0
    cdef Py_ssize_t r, k
    for k in range(4):
        acc[k] = vload(out + k * ldo)
    for r in range(n_rows):
        x0 = vload(x + r * ldx)
        for k in range(4):
            acc[k] = acc[k] + g[r * ldg + k] * x0
    for k in range(4):
        vstore(out + k * ldo, acc[k])


cdef void add_outer(const double *g, Py_ssize_t ldg, Py_ssize_t n_g, const double *x, Py_ssize_t ldx,
                    Py_ssize_t n_rows, double *out, bint upper) noexcept nogil:
    # out[k, i] += sum_r g[r, k] x[r, i], out of row stride ldx; only tiles that meet i >= k where `upper`.
    # n_g in multiples of 4 and ldx in whole vectors.
    cdef Py_ssize_t k, i, start, step2 = 2 * VEC_LANES
    for k in range(0, n_g, 4):
        start = k // VEC_LANES * VEC_LANES if upper else 0
        i = start
        while i + step2 <= ldx:
            outer_tile_4x2(g + k, ldg, x + i, ldx, n_rows, out + k * ldx + i, ldx)
            i += step2
        while i < ldx:
            outer_tile_4x1(g + k, ldg, x + i, ldx, n_rows, out + k * ldx + i, ldx)
            i += VEC_LANES


# ------------------------------------------------------------------------------------------------ residual

cdef inline double exponentials(double *a, const Layout *s, double *maximum) noexcept nogil:
    # a[k] <- exp(a[k] - m); returns sum_k exp(a[k] - m) - 1, the largest term left out of the sum rather than
    # subtracted (Blanchard, Higham & Higham 2021, doi:10.1093/imanum/draa038), so that log1p of it is exact
    # where one class dominates. exp(0) is exactly 1, so a masked lane adds exactly 0; ties count beyond the first.
    cdef Py_ssize_t v
    cdef vec m = vload(a), x, e, one = vset(1.0), rest = vset(0.0), ties = vset(0.0), top
    for v in range(1, s.ldc // VEC_LANES):
        m = vmax(vload(a + v * VEC_LANES), m)
    maximum[0] = vmaximum(m)
    m = vset(maximum[0])
    for v in range(s.ldc // VEC_LANES):
        x = vload(a + v * VEC_LANES)
        e = vexp(x - m)
        top = vwhere_equal(x, m, one)
        ties = ties + top
        rest = rest + (e - top)
        vstore(a + v * VEC_LANES, e)
    return vsum(rest) + (vsum(ties) - 1.0)


cdef double label_residuals(double *a, const int *codes, const double *weights, Py_ssize_t n_rows, const Layout *s,
                            double *log_likelihood) noexcept nogil:
    # a[r, k] <- weight[r] (1{y[r] = k} - p[r, k]); log_likelihood[r] = weight[r] log p[r, y[r]]; returns their sum.
    cdef Py_ssize_t r, k, y
    cdef double w, m, rest, ratio, a_y, e_y, term, total = 0.0
    cdef double *row
    for r in range(n_rows):
        row = a + r * s.ldc
        y = codes[r]
        if y < 0 or y >= s.n_classes:
            for k in range(s.ldc):
                row[k] = NAN
            log_likelihood[r] = NAN
            total += NAN
            continue
        w = 1.0 if weights == NULL else weights[r]
        a_y = row[y]
        rest = exponentials(row, s, &m)
        e_y = row[y]
        term = w * ((a_y - m) - log1p(rest))
        log_likelihood[r] = term
        total += term
        ratio = w / (1.0 + rest)
        for k in range(s.ldc):
            row[k] = -ratio * row[k]
        # 1 - p_y = rest / (1 + rest) where y is the top class: no cancellation
        row[y] = ratio * rest if a_y == m else w - ratio * e_y
    return total


cdef double count_residuals(double *a, const double *counts, const double *weights, Py_ssize_t n_rows, const Layout *s,
                            double *log_likelihood) noexcept nogil:
    # a[r, k] <- weight[r] (y[r, k] - total[r] p[r, k]); log_likelihood[r] = weight[r] sum_k y[r, k] log p[r, k].
    cdef Py_ssize_t r, k
    cdef double w, m, rest, log_rest, ratio, n, term, total = 0.0
    cdef double *row
    cdef const double *y
    for r in range(n_rows):
        row = a + r * s.ldc
        y = counts + r * s.n_classes
        w = 1.0 if weights == NULL else weights[r]
        n = 0.0
        m = row[0]
        for k in range(s.n_classes):
            n += y[k]
            m = row[k] if row[k] > m else m
        # sum_k y[k] (a[k] - m) before a becomes exp; 0 * -inf would be nan and counts as 0
        term = 0.0
        for k in range(s.n_classes):
            if y[k] != 0.0:
                term += y[k] * (row[k] - m)
        rest = exponentials(row, s, &m)
        log_rest = log1p(rest)
        term = w * (term - n * log_rest)
        log_likelihood[r] = term
        total += term
        ratio = n / (1.0 + rest)
        for k in range(s.n_classes):
            # y - n p, and where p is 1 / (1 + rest): (y - n) + n rest / (1 + rest), without cancellation
            if row[k] == 1.0:
                row[k] = w * ((y[k] - n) + ratio * rest)
            else:
                row[k] = w * (y[k] - ratio * row[k])
        for k in range(s.n_classes, s.ldc):
            row[k] = 0.0
    return total


cdef void probabilities(double *a, Py_ssize_t n_rows, const Layout *s) noexcept nogil:
    # a[r, k] <- p[r, k] = exp(a[r, k] - m) / sum_i exp(a[r, i] - m)
    cdef Py_ssize_t r, k
    cdef double m, total
    for r in range(n_rows):
        total = 1.0 + exponentials(a + r * s.ldc, s, &m)
        for k in range(s.ldc):
            a[r * s.ldc + k] = a[r * s.ldc + k] / total


cdef void log_probabilities(double *a, double *work, Py_ssize_t n_rows, const Layout *s) noexcept nogil:
    # a[r, k] <- (a[r, k] - m) - log1p(rest)
    cdef Py_ssize_t r, k
    cdef double m, log_rest
    for r in range(n_rows):
        memcpy(work, a + r * s.ldc, s.ldc * sizeof(double))
        log_rest = log1p(exponentials(work, s, &m))
        for k in range(s.ldc):
            a[r * s.ldc + k] = (a[r * s.ldc + k] - m) - log_rest


cdef void logit_norms(const double *a, double *out, Py_ssize_t n_rows, const Layout *s, bint ranges) noexcept nogil:
    # out[r] = max_k a[r, k] - min_k a[r, k], or sum_k a[r, k]^2; nan if any a[r, k] is
    cdef Py_ssize_t r, k
    cdef double low, high, squares, x
    for r in range(n_rows):
        low = high = a[r * s.ldc]
        squares = 0.0
        for k in range(s.n_classes):
            x = a[r * s.ldc + k]
            low = x if x < low or x != x else low  # once nan it stays so
            high = x if x > high else high
            squares += x * x
        out[r] = high - low if ranges else squares


# ------------------------------------------------------------------------------------------- the functions
#
# Shapes: X (n, d); params, gradient, direction, product (C, p) with rows [w_k, b_k]; codes (n,); counts and offset
# (n, C); weights (n,); shift and scale (d,). What is absent is None.

cdef Py_ssize_t load_logits(const real *x, Py_ssize_t n, Py_ssize_t start, const Layout *s, const Extras *e,
                            const Work *w) noexcept nogil:
    # load the block that begins at row `start`, w.a <- its logits; returns how many rows it has
    cdef Py_ssize_t r, k, n_rows = min(s.rows, n - start)
    cdef const double *offset
    load_block(x + start * s.d, n_rows, s, e.shift, e.scale, w.xb)
    forward(w.xb, w.packed, round_up(n_rows, 8), s, w.a)
    if e.offset != NULL:
        offset = e.offset + start * s.n_classes
        for r in range(n_rows):
            for k in range(s.n_classes):
                w.a[r * s.ldc + k] += offset[r * s.n_classes + k]
    return n_rows


cdef double residuals(Py_ssize_t start, Py_ssize_t n_rows, const Layout *s, const Extras *e,
                      const Work *w) noexcept nogil:
    cdef const double *weights = e.weights
    if weights != NULL:
        weights += start
    if e.counts != NULL:
        return count_residuals(w.a, e.counts + start * s.n_classes, weights, n_rows, s, w.terms)
    return label_residuals(w.a, e.codes + start, weights, n_rows, s, w.terms)


cdef inline double row_mass(Py_ssize_t r, const Layout *s, const Extras *e) noexcept nogil:
    # weight[r] * sum_k y[r, k]
    cdef double n = 1.0
    cdef Py_ssize_t k
    if e.counts != NULL:
        n = 0.0
        for k in range(s.n_classes):
            n += e.counts[r * s.n_classes + k]
    return n if e.weights == NULL else n * e.weights[r]


def log_likelihood_and_gradient(const real[:, ::1] X, const double[::1] shift, const double[::1] scale,
                                const double[:, ::1] params, bint intercept, const int[::1] codes,
                                const double[:, ::1] counts, const double[::1] weights,
                                const double[:, ::1] offset, double[:, ::1] gradient):
    """Return the log-likelihood of these rows; write its gradient to `gradient` unless that is None."""
    cdef Py_ssize_t n = X.shape[0], b, n_rows, k, i
    cdef Layout s = make_layout(n, X.shape[1], intercept, params.shape[0])
    cdef Extras e = make_extras(n, shift, scale, codes, counts, weights, offset)
    cdef Work w = make_work(&s, s.ldc * s.ldx)
    cdef const real *x = NULL
    cdef bint with_gradient = gradient is not None
    cdef double total = 0.0
    cdef double *g = w.more
    if X.shape[0] > 0 and X.shape[1] > 0:
        x = &X[0, 0]
    with nogil:
        pack_classes(params, &s, -INFINITY, w.packed)
        for b in range(n_blocks(n, &s)):
            n_rows = load_logits(x, n, b * s.rows, &s, &e, &w)
            total += residuals(b * s.rows, n_rows, &s, &e, &w)
            if with_gradient:
                add_outer(w.a, s.ldc, s.ldc, w.xb, s.ldx, n_rows, g, False)
        if with_gradient:
            for k in range(s.n_classes):
                for i in range(s.p):
                    gradient[k, i] = g[k * s.ldx + i]
        free(w.xb)
    return total


def row_results(int what, const real[:, ::1] X, const double[::1] shift, const double[::1] scale,
                const double[:, ::1] params, bint intercept, const int[::1] codes,
                const double[:, ::1] counts, const double[::1] weights,
                const double[:, ::1] offset, double[:, ::1] out):
    """Write to `out` what each row has.

    `what` is 0: its log-likelihood (out has one column), 1: its residual, 2: its probabilities, 3: their logarithms,
    4: the range of its logits over classes (one column), 5: the sum of their squares (one column).
    """
    cdef Py_ssize_t n = X.shape[0], b, n_rows, r, k
    cdef Layout s = make_layout(n, X.shape[1], intercept, params.shape[0])
    cdef Extras e = make_extras(n, shift, scale, codes, counts, weights, offset)
    cdef Work w = make_work(&s, s.ldc)
    cdef const real *x = NULL
    if X.shape[0] > 0 and X.shape[1] > 0:
        x = &X[0, 0]
    with nogil:
        pack_classes(params, &s, -INFINITY, w.packed)
        for b in range(n_blocks(n, &s)):
            n_rows = load_logits(x, n, b * s.rows, &s, &e, &w)
            if what == PROBABILITY_ROWS:
                probabilities(w.a, n_rows, &s)
            elif what == LOG_PROBABILITY_ROWS:
                log_probabilities(w.a, w.more, n_rows, &s)
            elif what == RANGE_ROWS or what == SQUARES_ROWS:
                logit_norms(w.a, w.terms, n_rows, &s, what == RANGE_ROWS)
            else:
                residuals(b * s.rows, n_rows, &s, &e, &w)
            if what == LOG_LIKELIHOOD_ROWS or what == RANGE_ROWS or what == SQUARES_ROWS:
                for r in range(n_rows):
                    out[b * s.rows + r, 0] = w.terms[r]
            else:
                for r in range(n_rows):
                    for k in range(s.n_classes):
                        out[b * s.rows + r, k] = w.a[r * s.ldc + k]
        free(w.xb)


def hessian_product(const real[:, ::1] X, const double[::1] shift, const double[::1] scale,
                    const double[:, ::1] params, const double[:, ::1] direction, bint intercept,
                    const double[:, ::1] counts, const double[::1] weights,
                    const double[:, ::1] offset, double[:, ::1] product):
    """Write the product of the log-likelihood's Hessian with `direction`; both have the shape of `params`."""
    cdef Py_ssize_t n = X.shape[0], b, n_rows, r, k, i
    cdef Layout s = make_layout(n, X.shape[1], intercept, params.shape[0])
    cdef Extras e = make_extras(n, shift, scale, None, counts, weights, offset)
    cdef Work w = make_work(&s, s.rows * s.ldc + (s.p + 1) * s.ldc + s.ldc * s.ldx)
    cdef const real *x = NULL
    cdef double mean, mass
    cdef double *u = w.more
    cdef double *packed = u + s.rows * s.ldc
    cdef double *g = packed + (s.p + 1) * s.ldc
    cdef double *p_row
    cdef double *u_row
    if X.shape[0] > 0 and X.shape[1] > 0:
        x = &X[0, 0]
    with nogil:
        pack_classes(params, &s, -INFINITY, w.packed)
        pack_classes(direction, &s, 0.0, packed)
        for b in range(n_blocks(n, &s)):
            n_rows = load_logits(x, n, b * s.rows, &s, &e, &w)
            probabilities(w.a, n_rows, &s)
            forward(w.xb, packed, round_up(n_rows, 8), &s, u)
            # the residual's change along the logits u: -mass[r] p[r, k] (u[r, k] - sum_i p[r, i] u[r, i])
            for r in range(n_rows):
                p_row = w.a + r * s.ldc
                u_row = u + r * s.ldc
                mass = row_mass(b * s.rows + r, &s, &e)
                mean = 0.0
                for k in range(s.n_classes):
                    mean += p_row[k] * u_row[k]
                for k in range(s.ldc):
                    p_row[k] = -mass * p_row[k] * (u_row[k] - mean)
            add_outer(w.a, s.ldc, s.ldc, w.xb, s.ldx, n_rows, g, False)
        for k in range(s.n_classes):
            for i in range(s.p):
                product[k, i] = g[k * s.ldx + i]
        free(w.xb)


def hessian_blocks(const real[:, ::1] X, const double[::1] shift, const double[::1] scale,
                   const double[:, ::1] params, bint intercept,
                   const double[:, ::1] counts, const double[::1] weights,
                   const double[:, ::1] offset, double[:, :, ::1] blocks):
    """Write the C (C - 1) / 2 blocks i < k of the log-likelihood's Hessian, in row order of the pairs:

        H[i, k] = sum_r mass[r] p[r, i] p[r, k] x~_r x~_r'

    The diagonal needs no pass: H[i, i] = -sum_{k != i} H[i, k], a sum of terms of one sign.
    """
    cdef Py_ssize_t n = X.shape[0], b, n_rows, r, i, j, k, pair
    cdef Layout s = make_layout(n, X.shape[1], intercept, params.shape[0])
    cdef Py_ssize_t C = s.n_classes, block = s.ldx * s.ldx
    cdef Extras e = make_extras(n, shift, scale, None, counts, weights, offset)
    cdef Work w = make_work(&s, s.rows * s.ldx + C * (C - 1) // 2 * block)
    cdef const real *x = NULL
    cdef double u
    cdef double *y = w.more
    cdef double *h = y + s.rows * s.ldx
    if X.shape[0] > 0 and X.shape[1] > 0:
        x = &X[0, 0]
    with nogil:
        pack_classes(params, &s, -INFINITY, w.packed)
        for b in range(n_blocks(n, &s)):
            n_rows = load_logits(x, n, b * s.rows, &s, &e, &w)
            probabilities(w.a, n_rows, &s)
            for r in range(n_rows):
                w.terms[r] = row_mass(b * s.rows + r, &s, &e)
            pair = 0
            for i in range(C):
                for k in range(i + 1, C):
                    for r in range(n_rows):
                        u = w.terms[r] * w.a[r * s.ldc + i] * w.a[r * s.ldc + k]
                        for j in range(s.ldx):
                            y[r * s.ldx + j] = u * w.xb[r * s.ldx + j]
                    add_outer(y, s.ldx, s.ldx, w.xb, s.ldx, n_rows, h + pair * block, True)
                    pair += 1
        for pair in range(C * (C - 1) // 2):
            for i in range(s.p):
                for k in range(i, s.p):
                    blocks[pair, i, k] = h[pair * block + i * s.ldx + k]
                    blocks[pair, k, i] = h[pair * block + i * s.ldx + k]
        free(w.xb)


def gram(const real[:, ::1] X, const double[::1] shift, const double[::1] scale, bint intercept,
         const double[::1] weights, double[:, ::1] out):
    """Write sum_r weight[r] x~_r x~_r', of shape (p, p)."""
    cdef Py_ssize_t n = X.shape[0], b, start, n_rows, r, i, k
    cdef Layout s = make_layout(n, X.shape[1], intercept, 1)
    cdef Extras e = make_extras(n, shift, scale, None, None, weights, None)
    cdef Work w = make_work(&s, s.rows * s.ldx + s.ldx * s.ldx)
    cdef const real *x = NULL
    cdef double mass
    cdef double *y = w.more
    cdef double *g = y + s.rows * s.ldx
    if X.shape[0] > 0 and X.shape[1] > 0:
        x = &X[0, 0]
    with nogil:
        for b in range(n_blocks(n, &s)):
            start = b * s.rows
            n_rows = min(s.rows, n - start)
            load_block(x + start * s.d, n_rows, &s, e.shift, e.scale, w.xb)
            for r in range(n_rows):
                mass = 1.0 if e.weights == NULL else e.weights[start + r]
                for i in range(s.ldx):
                    y[r * s.ldx + i] = mass * w.xb[r * s.ldx + i]
            add_outer(y, s.ldx, s.ldx, w.xb, s.ldx, n_rows, g, True)
        for i in range(s.p):
            for k in range(i, s.p):
                out[i, k] = g[i * s.ldx + k]
                out[k, i] = g[i * s.ldx + k]
        free(w.xb)


def column_totals(const real[:, ::1] X, const double[::1] weights, double[:, ::1] out):
    """Write each column's weighted sum, minimum and maximum to the rows of `out`; nan and infinity show in the sum."""
    cdef Py_ssize_t n = X.shape[0], d = X.shape[1], r, i
    cdef double w, x
    with nogil:
        for i in range(d):
            out[0, i] = 0.0
            out[1, i] = INFINITY
            out[2, i] = -INFINITY
        for r in range(n):
            w = 1.0 if weights is None else weights[r]
            for i in range(d):
                x = X[r, i]
                out[0, i] += w * x
                out[1, i] = x if x < out[1, i] else out[1, i]
                out[2, i] = x if x > out[2, i] else out[2, i]
