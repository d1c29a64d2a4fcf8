# The fused pass over dense rows: log-likelihood, gradient, Hessian product, Hessian, and what each row has.
#
# The kernels_* stubs include this file; csoftmax.samples stands on it. It stands on simd.h.
#
# Every function here walks over blocks of rows that stay in the L2 cache, in four stages:
#
#     load       x[r, :]          X's own rows, read in place; or (X - shift) * scale, widened, in a scratch block
#     forward    a[k, r]   = b[k] + sum_i x[r, i] w[k, i]                     the logits, a class after another
#     residual   g[k, r]   = weight[r] (y[r, k] - total[r] p[k, r])           in place of a
#     backward   G[k, i]  += sum_r g[k, r] x[r, i]                            the gradient
#
# so that X comes from memory once and no n x C array exists. Forward has classes in the lanes of a vector and keeps a
# tile of rows x classes in registers; it transposes the tile on its way out, so that the residual stage has rows in
# the lanes: exp, log and sums then run over whole vectors with no reduction across lanes and none wasted on padding,
# whatever the number of classes (24 shuffles for 64 logits; with classes in the lanes the stage took 2.4 times as long
# at C = 7). Backward keeps a tile of classes x features in registers, summed over the block's rows; the last vector of
# features overlaps the one before it, so that no loop has a scalar tail.
#
# A label outside 0..C-1 makes the sum nan and reads nothing out of bounds; the caller then searches for it.

cdef enum:
    # 128 kB of one block's rows and logits: they are read again in the backward stage, from L2
    BLOCK_DOUBLES = 16384
    MIN_ROWS = 32   # fewer, and loading and storing the gradient's tiles shows
    MAX_ROWS = 512

cdef enum:
    LOG_LIKELIHOOD_ROWS = 0
    RESIDUAL_ROWS = 1
    PROBABILITY_ROWS = 2
    LOG_PROBABILITY_ROWS = 3
    RANGE_ROWS = 4
    SQUARES_ROWS = 5


cdef struct Layout:
    Py_ssize_t d          # columns of X
    Py_ssize_t p          # parameters of a class: d, or d + 1 with an intercept
    Py_ssize_t n_classes
    Py_ssize_t n_vec      # vectors of classes
    Py_ssize_t rows       # rows of a block, a multiple of 8; also the stride of a class in a block of logits
    Py_ssize_t columns    # columns of a loaded block and its row stride: at least a vector
    Py_ssize_t ldg        # row stride of a gradient: see gradient_place


cdef inline Py_ssize_t round_up(Py_ssize_t n, Py_ssize_t unit) noexcept nogil:
    return (n + unit - 1) // unit * unit


cdef Layout make_layout(Py_ssize_t n, Py_ssize_t d, bint intercept, Py_ssize_t n_classes, bint ones) noexcept nogil:
    # `ones`: a loaded block has the intercept's column of ones as its last
    cdef Layout s
    s.d = d
    s.p = d + intercept
    s.n_classes = n_classes
    s.n_vec = round_up(n_classes, VEC_LANES) // VEC_LANES
    s.columns = s.p if ones else d
    if s.columns < VEC_LANES:
        s.columns = VEC_LANES
    s.ldg = round_up(s.columns, VEC_LANES)
    s.rows = BLOCK_DOUBLES // (s.columns + n_classes) // 8 * 8
    s.rows = min(max(s.rows, <Py_ssize_t> MIN_ROWS), <Py_ssize_t> MAX_ROWS)
    s.rows = min(s.rows, round_up(n if n > 0 else 1, 8))
    return s


cdef inline Py_ssize_t n_blocks(Py_ssize_t n, const Layout *s) noexcept nogil:
    return (n + s.rows - 1) // s.rows


cdef inline Py_ssize_t gradient_place(Py_ssize_t i, const Layout *s) noexcept nogil:
    # where column i stands in a row of a gradient: the last, overlapping vector follows the whole ones
    cdef Py_ssize_t whole = s.columns // VEC_LANES * VEC_LANES
    return i if i < whole else whole + i - (s.columns - VEC_LANES)


cdef struct Extras:
    # what stands beside a chunk of X, each NULL where absent
    const double *shift    # (d,)
    const double *scale    # (d,)
    const int *codes       # (n,), or
    const long long *long_codes
    const double *counts   # (n, C)
    const double *weights  # (n,)
    const double *offset   # (n, C)


cdef Extras make_extras(Py_ssize_t n, const double[::1] shift, const double[::1] scale, object codes,
                        const double[:, ::1] counts, const double[::1] weights, const double[:, ::1] offset):
    cdef Extras e = Extras(NULL, NULL, NULL, NULL, NULL, NULL, NULL)
    cdef const int[::1] short_view
    cdef const long long[::1] long_view
    if shift is not None and shift.shape[0] > 0:
        e.shift = &shift[0]
        e.scale = &scale[0]
    if n > 0:
        if codes is not None and codes.itemsize == 8:
            long_view = codes
            e.long_codes = &long_view[0]
        elif codes is not None:
            short_view = codes
            e.codes = &short_view[0]
        if counts is not None:
            e.counts = &counts[0, 0]
        if weights is not None:
            e.weights = &weights[0]
        if offset is not None:
            e.offset = &offset[0, 0]
    return e


cdef struct Work:
    double *base
    double *block   # (rows, columns): a loaded block
    double *a       # (n_vec * VEC_LANES, rows): logits, then residuals, a class after another
    double *labels  # (rows,)
    double *mass    # (rows,): weights, or weights times totals; 0 beyond the last row
    double *terms   # (rows,)
    double *packed  # the parameters, see pack_classes
    double *more    # what the function asked for, zeroed


cdef double *allocate(Py_ssize_t n) except NULL nogil:
    # zeroed, and 8 doubles more than asked for, so that the caller may align to 64 bytes
    cdef double *p = <double *> calloc(n + 8, sizeof(double))
    if p == NULL:
        with gil:
            raise MemoryError(f"no memory for {n} doubles of scratch")
    return p


cdef inline Py_ssize_t packed_size(const Layout *s) noexcept nogil:
    return (s.d + 1) * s.n_vec * VEC_LANES


cdef Work make_work(const Layout *s, Py_ssize_t more) except *:
    cdef Work w
    cdef Py_ssize_t block = round_up(s.rows * s.columns, 8), logits = s.n_vec * VEC_LANES * s.rows
    w.base = allocate(block + logits + 3 * s.rows + packed_size(s) + more)
    w.block = <double *> ((<size_t> w.base + 63) // 64 * 64)
    w.a = w.block + block
    w.labels = w.a + logits
    w.mass = w.labels + s.rows
    w.terms = w.mass + s.rows
    w.packed = w.terms + s.rows
    w.more = w.packed + packed_size(s)
    return w


# ---------------------------------------------------------------------------------------------------- load

cdef const double *load_block(const real *x, Py_ssize_t n_rows, const Layout *s, const Extras *e,
                              double *block) noexcept nogil:
    # Rows as doubles with the stride s.columns: X's own where it has that form, else copied. Rows beyond the last are
    # zero up to the block's end.
    cdef Py_ssize_t r, i, d = s.d
    cdef const real *row
    cdef double *out
    if real is double:
        if e.shift == NULL and s.columns == d and n_rows % 8 == 0:
            return x
    if e.shift == NULL and s.columns == d:
        for i in range(n_rows * d):
            block[i] = x[i]
    else:
        for r in range(n_rows):
            row = x + r * d
            out = block + r * s.columns
            if e.shift == NULL:
                for i in range(d):
                    out[i] = row[i]
            else:
                for i in range(d):
                    out[i] = (row[i] - e.shift[i]) * e.scale[i]
    if n_rows < s.rows:
        memset(block + n_rows * s.columns, 0, (s.rows - n_rows) * s.columns * sizeof(double))
    return block


cdef void set_ones(double *block, Py_ssize_t n_rows, const Layout *s) noexcept nogil:
    cdef Py_ssize_t r
    if s.p > s.d:
        for r in range(n_rows):
            block[r * s.columns + s.d] = 1.0


# ------------------------------------------------------------------------------------------------- forward

cdef void pack_classes(const double[:, ::1] params, const Layout *s, double *packed) noexcept nogil:
    # for each vector of classes its intercepts, then its d rows of coefficients: a tile reads it from front to back.
    # A class with a parameter that is not finite starts at nan: -inf would otherwise pass for a probability of 0.
    cdef Py_ssize_t v, i, lane, k
    cdef double *out = packed
    for v in range(s.n_vec):
        for lane in range(VEC_LANES):
            k = v * VEC_LANES + lane
            out[lane] = 0.0
            if k < s.n_classes:
                if s.p > s.d:
                    out[lane] = params[k, s.d]
                for i in range(s.p):
                    out[lane] += 0.0 * params[k, i]
        out += VEC_LANES
        for i in range(s.d):
            for lane in range(VEC_LANES):
                k = v * VEC_LANES + lane
                out[lane] = params[k, i] if k < s.n_classes else 0.0
            out += VEC_LANES


cdef inline void forward_tile(Py_ssize_t RT, Py_ssize_t VT, const double *x, Py_ssize_t ldx, const double *w,
                              Py_ssize_t d, double *out, Py_ssize_t ldo) noexcept nogil:
    # RT rows (a multiple of VEC_LANES) by VT vectors of classes. RT and VT are literals at each call: inlined, the
    # loops over them unroll and `acc` lives in registers.
    cdef vec acc[32]
    cdef vec wv[4]
    cdef Py_ssize_t i, r, v, panel = (d + 1) * VEC_LANES
    for v in range(VT):
        wv[v] = vload(w + v * panel)
    for v in range(VT):
        for r in range(RT):
            acc[v * RT + r] = wv[v]
    for i in range(d):
        for v in range(VT):
            wv[v] = vload(w + v * panel + (i + 1) * VEC_LANES)
        for r in range(RT):
            for v in range(VT):
                acc[v * RT + r] = acc[v * RT + r] + x[r * ldx + i] * wv[v]
    for v in range(VT):
        for r in range(RT // VEC_LANES):
            vtranspose(&acc[v * RT + r * VEC_LANES])
            for i in range(VEC_LANES):
                vstore(out + (v * VEC_LANES + i) * ldo + r * VEC_LANES, acc[v * RT + r * VEC_LANES + i])


cdef void forward(const double *x, const double *packed, Py_ssize_t n_rows, const Layout *s, double *a) noexcept nogil:
    # a[k, r] = b[k] + sum_i x[r, i] w[k, i]; n_rows a multiple of 8
    cdef Py_ssize_t r, v = 0, panel = (s.d + 1) * VEC_LANES, ldx = s.columns, ldo = s.rows
    if FORWARD_VECS == 3:
        while s.n_vec - v >= 3 and s.n_vec - v != 4:
            for r in range(0, n_rows, 8):
                forward_tile(8, 3, x + r * ldx, ldx, packed + v * panel, s.d, a + v * VEC_LANES * ldo + r, ldo)
            v += 3
        while s.n_vec - v >= 2:
            for r in range(0, n_rows, 8):
                forward_tile(8, 2, x + r * ldx, ldx, packed + v * panel, s.d, a + v * VEC_LANES * ldo + r, ldo)
            v += 2
    else:
        while s.n_vec - v >= 2:
            for r in range(0, n_rows, 4):
                forward_tile(4, 2, x + r * ldx, ldx, packed + v * panel, s.d, a + v * VEC_LANES * ldo + r, ldo)
            v += 2
    if v < s.n_vec:
        for r in range(0, n_rows, 8):
            forward_tile(8, 1, x + r * ldx, ldx, packed + v * panel, s.d, a + v * VEC_LANES * ldo + r, ldo)


# ------------------------------------------------------------------------------------------------ backward

cdef inline void outer_tile(Py_ssize_t KT, Py_ssize_t VT, const double *g, Py_ssize_t g_class, Py_ssize_t g_row,
                            const double *x, Py_ssize_t last, Py_ssize_t ldx, Py_ssize_t n_rows, double *out,
                            Py_ssize_t ldo) noexcept nogil:
    # KT classes by VT vectors of columns, the last of them at x + last. KT and VT are literals, as in forward_tile.
    cdef vec acc[32]
    cdef vec xv[4]
    cdef Py_ssize_t r, k, v
    for k in range(KT):
        for v in range(VT):
            acc[k * VT + v] = vload(out + k * ldo + v * VEC_LANES)
    for r in range(n_rows):
        for v in range(VT - 1):
            xv[v] = vload(x + r * ldx + v * VEC_LANES)
        xv[VT - 1] = vload(x + r * ldx + last)
        for k in range(KT):
            for v in range(VT):
                acc[k * VT + v] = acc[k * VT + v] + g[k * g_class + r * g_row] * xv[v]
    for k in range(KT):
        for v in range(VT):
            vstore(out + k * ldo + v * VEC_LANES, acc[k * VT + v])


cdef inline void outer_tiles(Py_ssize_t KT, const double *g, Py_ssize_t g_class, Py_ssize_t g_row, const double *x,
                             Py_ssize_t first, Py_ssize_t n_columns, Py_ssize_t n_rows, double *out,
                             Py_ssize_t ldo) noexcept nogil:
    # all columns from `first` on, a multiple of VEC_LANES
    cdef Py_ssize_t i = first, left
    while i < n_columns:
        left = round_up(n_columns - i, VEC_LANES) // VEC_LANES
        if left >= 3 and left != 4 and OUTER_VECS == 3:
            outer_tile(KT, 3, g, g_class, g_row, x + i, min(2 * VEC_LANES, n_columns - VEC_LANES - i), n_columns,
                       n_rows, out + i, ldo)
            i += 3 * VEC_LANES
        elif left >= 2:
            outer_tile(KT, 2, g, g_class, g_row, x + i, min(VEC_LANES, n_columns - VEC_LANES - i), n_columns,
                       n_rows, out + i, ldo)
            i += 2 * VEC_LANES
        else:
            outer_tile(KT, 1, g, g_class, g_row, x + i, min(<Py_ssize_t> 0, n_columns - VEC_LANES - i), n_columns,
                       n_rows, out + i, ldo)
            i += VEC_LANES


cdef void add_outer(const double *g, Py_ssize_t g_class, Py_ssize_t g_row, Py_ssize_t n_g, const double *x,
                    Py_ssize_t n_columns, Py_ssize_t n_rows, double *out, Py_ssize_t ldo, bint upper) noexcept nogil:
    # out[k, place(i)] += sum_r g[k, r] x[r, i]; with `upper` only the vectors of columns that reach i >= k
    cdef Py_ssize_t k = 0, tiles = (n_g + OUTER_CLASSES - 1) // OUTER_CLASSES, height, first
    cdef const double *gk
    cdef double *row
    while k < n_g:
        height = (n_g - k + tiles - 1) // tiles  # tiles of nearly equal height: 10 classes are 5 and 5
        first = k // VEC_LANES * VEC_LANES if upper else 0
        first = min(first, n_columns // VEC_LANES * VEC_LANES)
        gk = g + k * g_class
        row = out + k * ldo
        if height == 1:
            outer_tiles(1, gk, g_class, g_row, x, first, n_columns, n_rows, row, ldo)
        elif height == 2:
            outer_tiles(2, gk, g_class, g_row, x, first, n_columns, n_rows, row, ldo)
        elif height == 3:
            outer_tiles(3, gk, g_class, g_row, x, first, n_columns, n_rows, row, ldo)
        elif height == 4:
            outer_tiles(4, gk, g_class, g_row, x, first, n_columns, n_rows, row, ldo)
        elif height == 5:
            outer_tiles(5, gk, g_class, g_row, x, first, n_columns, n_rows, row, ldo)
        elif height == 6:
            outer_tiles(6, gk, g_class, g_row, x, first, n_columns, n_rows, row, ldo)
        elif height == 7:
            outer_tiles(7, gk, g_class, g_row, x, first, n_columns, n_rows, row, ldo)
        else:
            outer_tiles(8, gk, g_class, g_row, x, first, n_columns, n_rows, row, ldo)
        k += height
        tiles -= 1


cdef void add_row_sums(const double *g, Py_ssize_t n_rows, const Layout *s, double *lanes) noexcept nogil:
    # lanes[k] += sum_r g[k, r], a vector a class: the intercepts' gradient
    cdef Py_ssize_t k, r
    cdef vec acc
    for k in range(s.n_classes):
        acc = vload(lanes + k * VEC_LANES)
        for r in range(0, n_rows // VEC_LANES):
            acc = acc + vload(g + k * s.rows + r * VEC_LANES)
        vstore(lanes + k * VEC_LANES, acc)


cdef void store_gradient(const double *g, const double *lanes, const Layout *s, double[:, ::1] out) noexcept nogil:
    cdef Py_ssize_t k, i
    for k in range(s.n_classes):
        for i in range(s.d):
            out[k, i] = g[k * s.ldg + gradient_place(i, s)]
        if s.p > s.d:
            out[k, s.d] = vsum(vload(lanes + k * VEC_LANES))


# ------------------------------------------------------------------------------------------------ residual
#
# Each of these takes a vector of rows at a time: row[k * ld] is class k's logit of VEC_LANES rows.

cdef inline vec exponentials(double *row, Py_ssize_t ld, Py_ssize_t n_classes, vec *maximum) noexcept nogil:
    # row[k] <- exp(row[k] - m); returns sum_k exp(row[k] - m) - 1, the largest term left out of the sum rather than
    # subtracted (Blanchard, Higham & Higham 2021, doi:10.1093/imanum/draa038), so that log1p of it is exact where one
    # class dominates. exp(0) is exactly 1, so e - top adds exactly 0 there; ties count beyond the first.
    cdef Py_ssize_t k
    cdef vec m = vload(row), x, e, top, one = vset(1.0), zero = vset(0.0), rest = vset(0.0), ties = vset(-1.0)
    for k in range(1, n_classes):
        m = vmax(vload(row + k * ld), m)
    for k in range(n_classes):
        x = vload(row + k * ld) - m
        e = vexp(x)
        top = vwhere_equal(x, zero, one)
        ties = ties + top
        rest = rest + (e - top)
        vstore(row + k * ld, e)
    maximum[0] = m
    return rest + ties


cdef vec label_residuals(double *a, Py_ssize_t n_rows, const Layout *s, const Work *w) noexcept nogil:
    # a[k, r] <- mass[r] (1{y[r] = k} - p[k, r]); terms[r] = mass[r] log p[y[r], r]; returns the lanes of their sum
    cdef Py_ssize_t r, k, ld = s.rows
    cdef vec y, m, a_y, e, rest, total, weight, ratio, term, own, all_rows = vset(0.0), zero = vset(0.0)
    cdef double *row
    for r in range(n_rows // VEC_LANES):
        row = a + r * VEC_LANES
        y = vload(w.labels + r * VEC_LANES)
        weight = vload(w.mass + r * VEC_LANES)
        a_y = vset(NAN)  # what a label outside 0..C-1 leaves
        for k in range(s.n_classes):
            a_y = vblend_equal(y, vset(<double> k), vload(row + k * ld), a_y)
        rest = exponentials(row, ld, s.n_classes, &m)
        term = weight * ((a_y - m) - vlog1p(rest))
        vstore(w.terms + r * VEC_LANES, term)
        all_rows = all_rows + term
        total = rest + 1.0
        ratio = vblend_equal(a_y, a_y, weight / total, a_y)  # nan too where the label is outside
        for k in range(s.n_classes):
            e = vload(row + k * ld)
            # total (1 - p_y) is rest where y is the top class: no cancellation
            own = vblend_equal(a_y, m, rest, total - e)
            vstore(row + k * ld, ratio * vblend_equal(y, vset(<double> k), own, zero - e))
    return all_rows


cdef vec count_residuals(double *a, const double *counts, Py_ssize_t n_rows, const Layout *s,
                         const Work *w) noexcept nogil:
    # a[k, r] <- mass[r] (y[k, r] - n[r] p[k, r]), n[r] = sum_k y[k, r]; terms[r] = mass[r] sum_k y[k, r] log p[k, r]
    cdef Py_ssize_t r, k, ld = s.rows
    cdef vec y, m, e, x, n, rest, log_total, weight, ratio, term, all_rows = vset(0.0), zero = vset(0.0)
    cdef vec one = vset(1.0)
    cdef double *row
    cdef const double *y_row
    for r in range(n_rows // VEC_LANES):
        row = a + r * VEC_LANES
        y_row = counts + r * VEC_LANES
        weight = vload(w.mass + r * VEC_LANES)
        m = vload(row)
        for k in range(1, s.n_classes):
            m = vmax(vload(row + k * ld), m)
        term = zero
        n = zero
        for k in range(s.n_classes):
            y = vload(y_row + k * ld)
            x = vload(row + k * ld) - m
            n = n + y
            term = term + vblend_equal(y, zero, zero, y * x)  # 0 * -inf counts as 0
        rest = exponentials(row, ld, s.n_classes, &m)
        log_total = vlog1p(rest)
        term = weight * (term - n * log_total)
        vstore(w.terms + r * VEC_LANES, term)
        all_rows = all_rows + term
        ratio = n / (rest + 1.0)
        for k in range(s.n_classes):
            y = vload(y_row + k * ld)
            e = vload(row + k * ld)
            # y - n p, and where p is 1 / (1 + rest): (y - n) + n rest / (1 + rest), without cancellation
            x = vblend_equal(e, one, (y - n) + ratio * rest, y - ratio * e)
            vstore(row + k * ld, weight * x)
    return all_rows


cdef void probabilities(double *a, Py_ssize_t n_rows, const Layout *s) noexcept nogil:
    # a[k, r] <- p[k, r] = exp(a[k, r] - m) / sum_i exp(a[i, r] - m)
    cdef Py_ssize_t r, k
    cdef vec m, total
    cdef double *row
    for r in range(n_rows // VEC_LANES):
        row = a + r * VEC_LANES
        total = exponentials(row, s.rows, s.n_classes, &m) + 1.0
        for k in range(s.n_classes):
            vstore(row + k * s.rows, vload(row + k * s.rows) / total)


cdef void log_probabilities(double *a, double *work, Py_ssize_t n_rows, const Layout *s) noexcept nogil:
    # a[k, r] <- (a[k, r] - m) - log1p(rest); work has room for the logits of a vector of rows
    cdef Py_ssize_t r, k
    cdef vec m, log_total
    cdef double *row
    for r in range(n_rows // VEC_LANES):
        row = a + r * VEC_LANES
        for k in range(s.n_classes):
            vstore(work + k * VEC_LANES, vload(row + k * s.rows))
        log_total = vlog1p(exponentials(work, VEC_LANES, s.n_classes, &m))
        for k in range(s.n_classes):
            vstore(row + k * s.rows, (vload(row + k * s.rows) - m) - log_total)


cdef void product_residuals(double *p, const double *u, Py_ssize_t n_rows, const Layout *s,
                            const Work *w) noexcept nogil:
    # p[k, r] <- -mass[r] p[k, r] (v[k, r] - sum_i p[i, r] v[i, r]), v[k, r] = u[k, r] - u[top, r]: the residual's
    # change along the logits u. Without the shift the row of a class of probability near 1 loses its digits: at a lead
    # of 35 it was wrong by 14%.
    cdef Py_ssize_t r, k, ld = s.rows
    cdef vec mean, mass, most, top
    cdef double *row
    cdef const double *u_row
    for r in range(n_rows // VEC_LANES):
        row = p + r * VEC_LANES
        u_row = u + r * VEC_LANES
        most = vload(row)
        for k in range(1, s.n_classes):
            most = vmax(vload(row + k * ld), most)
        top = vload(u_row)
        for k in range(1, s.n_classes):
            top = vblend_equal(vload(row + k * ld), most, vload(u_row + k * ld), top)
        mean = vset(0.0)
        for k in range(s.n_classes):
            mean = mean + vload(row + k * ld) * (vload(u_row + k * ld) - top)
        mass = vset(0.0) - vload(w.mass + r * VEC_LANES)
        for k in range(s.n_classes):
            vstore(row + k * ld, mass * vload(row + k * ld) * ((vload(u_row + k * ld) - top) - mean))


cdef void logit_norms(const double *a, Py_ssize_t n_rows, const Layout *s, double *out, bint ranges) noexcept nogil:
    # out[r] = max_k a[k, r] - min_k a[k, r], or sum_k a[k, r]^2; nan if any a[k, r] is
    cdef Py_ssize_t r, k
    cdef vec low, high, squares, x, bad, zero = vset(0.0)
    for r in range(n_rows // VEC_LANES):
        low = high = vload(a + r * VEC_LANES)
        squares = zero
        bad = zero
        for k in range(s.n_classes):
            x = vload(a + k * s.rows + r * VEC_LANES)
            bad = bad + (x - x)
            low = zero - vmax(zero - x, zero - low)
            high = vmax(x, high)
            squares = squares + x * x
        vstore(out + r * VEC_LANES, high - low + bad if ranges else squares)


# ------------------------------------------------------------------------------------------- the functions
#
# Shapes: X (n, d); params, gradient, direction, product (C, p) with rows [w_k, b_k]; codes (n,), int32 or int64;
# counts and offset (n, C); weights (n,); shift and scale (d,). What is absent is None.

cdef const double *load_logits(const real *x, Py_ssize_t n, Py_ssize_t start, const Layout *s, const Extras *e,
                               const Work *w, Py_ssize_t *n_rows) noexcept nogil:
    # the block that begins at row `start`, its logits in w.a; *n_rows without the rows that fill up to 8
    cdef Py_ssize_t r, k
    cdef const double *offset
    cdef const double *block
    n_rows[0] = min(s.rows, n - start)
    block = load_block(x + start * s.d, n_rows[0], s, e, w.block)
    forward(block, w.packed, round_up(n_rows[0], 8), s, w.a)
    if e.offset != NULL:
        offset = e.offset + start * s.n_classes
        for r in range(n_rows[0]):
            for k in range(s.n_classes):
                w.a[k * s.rows + r] += offset[r * s.n_classes + k]
    return block


cdef void load_mass(Py_ssize_t start, Py_ssize_t n_rows, const Layout *s, const Extras *e, const Work *w,
                    bint with_totals) noexcept nogil:
    # mass[r] = weight[r], times sum_k y[r, k] `with_totals`; 0 in the rows that fill up
    cdef Py_ssize_t r, k
    cdef double total
    for r in range(n_rows):
        w.mass[r] = 1.0 if e.weights == NULL else e.weights[start + r]
        if with_totals and e.counts != NULL:
            total = 0.0
            for k in range(s.n_classes):
                total += e.counts[(start + r) * s.n_classes + k]
            w.mass[r] *= total
    for r in range(n_rows, round_up(n_rows, 8)):
        w.mass[r] = 0.0


cdef vec residuals(Py_ssize_t start, Py_ssize_t n_rows, const Layout *s, const Extras *e, const Work *w,
                   double *counts) noexcept nogil:
    # counts: (C, rows), where there are any
    cdef Py_ssize_t r, k
    load_mass(start, n_rows, s, e, w, False)
    if e.counts == NULL:
        for r in range(n_rows):
            w.labels[r] = e.codes[start + r] if e.codes != NULL else <double> e.long_codes[start + r]
        for r in range(n_rows, round_up(n_rows, 8)):
            w.labels[r] = 0.0
        return label_residuals(w.a, round_up(n_rows, 8), s, w)
    for r in range(n_rows):
        for k in range(s.n_classes):
            counts[k * s.rows + r] = e.counts[(start + r) * s.n_classes + k]
    for r in range(n_rows, round_up(n_rows, 8)):
        for k in range(s.n_classes):
            counts[k * s.rows + r] = 0.0
    return count_residuals(w.a, counts, round_up(n_rows, 8), s, w)


def log_likelihood_and_gradient(const real[:, ::1] X, const double[::1] shift, const double[::1] scale,
                                const double[:, ::1] params, bint intercept, object codes,
                                const double[:, ::1] counts, const double[::1] weights,
                                const double[:, ::1] offset, double[:, ::1] gradient):
    """Return the log-likelihood of these rows; write its gradient to `gradient` unless that is None."""
    cdef Py_ssize_t n = X.shape[0], b, n_rows
    cdef Layout s = make_layout(n, X.shape[1], intercept, params.shape[0], False)
    cdef Extras e = make_extras(n, shift, scale, codes, counts, weights, offset)
    cdef Py_ssize_t y_size = 0 if counts is None else s.n_classes * s.rows
    cdef Work w = make_work(&s, s.n_classes * (s.ldg + VEC_LANES) + y_size)
    cdef const real *x = NULL
    cdef const double *block
    cdef bint with_gradient = gradient is not None
    cdef double *g = w.more
    cdef double *lanes = g + s.n_classes * s.ldg
    cdef double *y = lanes + s.n_classes * VEC_LANES
    cdef vec total = vset(0.0)
    if X.shape[0] > 0 and X.shape[1] > 0:
        x = &X[0, 0]
    with nogil:
        pack_classes(params, &s, w.packed)
        for b in range(n_blocks(n, &s)):
            block = load_logits(x, n, b * s.rows, &s, &e, &w, &n_rows)
            total = total + residuals(b * s.rows, n_rows, &s, &e, &w, y)
            if with_gradient:
                add_outer(w.a, s.rows, 1, s.n_classes, block, s.columns, n_rows, g, s.ldg, False)
                add_row_sums(w.a, round_up(n_rows, 8), &s, lanes)
        if with_gradient:
            store_gradient(g, lanes, &s, gradient)
        free(w.base)
    return vsum(total)


def row_results(int what, const real[:, ::1] X, const double[::1] shift, const double[::1] scale,
                const double[:, ::1] params, bint intercept, object codes,
                const double[:, ::1] counts, const double[::1] weights,
                const double[:, ::1] offset, double[:, ::1] out):
    """Write to `out` what each row has.

    `what` is 0: its log-likelihood (out has one column), 1: its residual, 2: its probabilities, 3: their logarithms,
    4: the range of its logits over classes (one column), 5: the sum of their squares (one column).
    """
    cdef Py_ssize_t n = X.shape[0], b, n_rows, padded, r, k
    cdef Layout s = make_layout(n, X.shape[1], intercept, params.shape[0], False)
    cdef Extras e = make_extras(n, shift, scale, codes, counts, weights, offset)
    cdef Py_ssize_t y_size = 0 if counts is None else s.n_classes * s.rows
    cdef Work w = make_work(&s, s.n_classes * VEC_LANES + y_size)
    cdef const real *x = NULL
    cdef double *y = w.more + s.n_classes * VEC_LANES
    if X.shape[0] > 0 and X.shape[1] > 0:
        x = &X[0, 0]
    with nogil:
        pack_classes(params, &s, w.packed)
        for b in range(n_blocks(n, &s)):
            load_logits(x, n, b * s.rows, &s, &e, &w, &n_rows)
            padded = round_up(n_rows, 8)
            if what == PROBABILITY_ROWS:
                probabilities(w.a, padded, &s)
            elif what == LOG_PROBABILITY_ROWS:
                log_probabilities(w.a, w.more, padded, &s)
            elif what == RANGE_ROWS or what == SQUARES_ROWS:
                logit_norms(w.a, padded, &s, w.terms, what == RANGE_ROWS)
            else:
                residuals(b * s.rows, n_rows, &s, &e, &w, y)
            if what == LOG_LIKELIHOOD_ROWS or what == RANGE_ROWS or what == SQUARES_ROWS:
                for r in range(n_rows):
                    out[b * s.rows + r, 0] = w.terms[r]
            else:
                for r in range(n_rows):
                    for k in range(s.n_classes):
                        out[b * s.rows + r, k] = w.a[k * s.rows + r]
        free(w.base)


def hessian_product(const real[:, ::1] X, const double[::1] shift, const double[::1] scale,
                    const double[:, ::1] params, const double[:, ::1] direction, bint intercept,
                    const double[:, ::1] counts, const double[::1] weights,
                    const double[:, ::1] offset, double[:, ::1] product):
    """Write the product of the log-likelihood's Hessian with `direction`; both have the shape of `params`."""
    cdef Py_ssize_t n = X.shape[0], b, n_rows, padded
    cdef Layout s = make_layout(n, X.shape[1], intercept, params.shape[0], False)
    cdef Extras e = make_extras(n, shift, scale, None, counts, weights, offset)
    cdef Py_ssize_t logits = s.n_vec * VEC_LANES * s.rows
    cdef Work w = make_work(&s, logits + packed_size(&s) + s.n_classes * (s.ldg + VEC_LANES))
    cdef const real *x = NULL
    cdef const double *block
    cdef double *u = w.more
    cdef double *packed = u + logits
    cdef double *g = packed + packed_size(&s)
    cdef double *lanes = g + s.n_classes * s.ldg
    if X.shape[0] > 0 and X.shape[1] > 0:
        x = &X[0, 0]
    with nogil:
        pack_classes(params, &s, w.packed)
        pack_classes(direction, &s, packed)
        for b in range(n_blocks(n, &s)):
            block = load_logits(x, n, b * s.rows, &s, &e, &w, &n_rows)
            padded = round_up(n_rows, 8)
            probabilities(w.a, padded, &s)
            forward(block, packed, padded, &s, u)
            load_mass(b * s.rows, n_rows, &s, &e, &w, True)
            product_residuals(w.a, u, padded, &s, &w)
            add_outer(w.a, s.rows, 1, s.n_classes, block, s.columns, n_rows, g, s.ldg, False)
            add_row_sums(w.a, padded, &s, lanes)
        store_gradient(g, lanes, &s, product)
        free(w.base)


cdef void store_symmetric(const double *g, const Layout *s, double *out) noexcept nogil:
    # out[i, k] = out[k, i] = the upper triangle of g, which has the row stride ldg and gradient_place's columns
    cdef Py_ssize_t i, k
    for i in range(s.p):
        for k in range(i, s.p):
            out[i * s.p + k] = g[i * s.ldg + gradient_place(k, s)]
            out[k * s.p + i] = out[i * s.p + k]


def hessian_blocks(const real[:, ::1] X, const double[::1] shift, const double[::1] scale,
                   const double[:, ::1] params, bint intercept,
                   const double[:, ::1] counts, const double[::1] weights,
                   const double[:, ::1] offset, double[:, :, ::1] blocks):
    """Write the C (C - 1) / 2 blocks i < k of the log-likelihood's Hessian, in row order of the pairs:

        H[i, k] = sum_r mass[r] p[r, i] p[r, k] x~_r x~_r'

    The diagonal needs no pass: H[i, i] = -sum_{k != i} H[i, k], a sum of terms of one sign.
    """
    cdef Py_ssize_t n = X.shape[0], b, start, n_rows, r, i, j, k, pair
    cdef Layout s = make_layout(n, X.shape[1], intercept, params.shape[0], True)
    cdef Py_ssize_t C = s.n_classes, size = s.p * s.ldg
    cdef Extras e = make_extras(n, shift, scale, None, counts, weights, offset)
    cdef Work w = make_work(&s, s.rows * s.columns + C * (C - 1) // 2 * size)
    cdef const real *x = NULL
    cdef const double *block
    cdef double u
    cdef double *y = w.more
    cdef double *h = y + s.rows * s.columns
    if X.shape[0] > 0 and X.shape[1] > 0:
        x = &X[0, 0]
    with nogil:
        pack_classes(params, &s, w.packed)
        for b in range(n_blocks(n, &s)):
            start = b * s.rows
            block = load_logits(x, n, start, &s, &e, &w, &n_rows)
            if block == w.block:
                set_ones(w.block, n_rows, &s)
            probabilities(w.a, round_up(n_rows, 8), &s)
            load_mass(start, n_rows, &s, &e, &w, True)
            pair = 0
            for i in range(C):
                for k in range(i + 1, C):
                    for r in range(n_rows):
                        u = w.mass[r] * w.a[i * s.rows + r] * w.a[k * s.rows + r]
                        for j in range(s.columns):
                            y[r * s.columns + j] = u * block[r * s.columns + j]
                    add_outer(y, 1, s.columns, s.p, block, s.columns, n_rows, h + pair * size, s.ldg, True)
                    pair += 1
        if s.p > 0:
            for pair in range(C * (C - 1) // 2):
                store_symmetric(h + pair * size, &s, &blocks[pair, 0, 0])
        free(w.base)


def gram(const real[:, ::1] X, const double[::1] shift, const double[::1] scale, bint intercept,
         const double[::1] weights, double[:, ::1] out):
    """Write sum_r weight[r] x~_r x~_r', of shape (p, p)."""
    cdef Py_ssize_t n = X.shape[0], b, start, n_rows, r, i
    cdef Layout s = make_layout(n, X.shape[1], intercept, 1, True)
    cdef Extras e = make_extras(n, shift, scale, None, None, weights, None)
    cdef Work w = make_work(&s, s.rows * s.columns + s.p * s.ldg)
    cdef const real *x = NULL
    cdef const double *block
    cdef double mass
    cdef double *y = w.more
    cdef double *g = y + s.rows * s.columns
    if X.shape[0] > 0 and X.shape[1] > 0:
        x = &X[0, 0]
    with nogil:
        for b in range(n_blocks(n, &s)):
            start = b * s.rows
            n_rows = min(s.rows, n - start)
            block = load_block(x + start * s.d, n_rows, &s, &e, w.block)
            if block == w.block:
                set_ones(w.block, n_rows, &s)
            for r in range(n_rows):
                mass = 1.0 if e.weights == NULL else e.weights[start + r]
                for i in range(s.columns):
                    y[r * s.columns + i] = mass * block[r * s.columns + i]
            add_outer(y, 1, s.columns, s.p, block, s.columns, n_rows, g, s.ldg, True)
        if s.p > 0:
            store_symmetric(g, &s, &out[0, 0])
        free(w.base)


def column_totals(const real[:, ::1] X, const double[::1] weights, double[:, ::1] out):
    """Write to the rows of `out` each column's weighted sum, its minimum and maximum over rows of positive weight."""
    cdef Py_ssize_t n = X.shape[0], d = X.shape[1], r, i
    cdef double w, x
    with nogil:
        for i in range(d):
            out[0, i] = 0.0
            out[1, i] = INFINITY
            out[2, i] = -INFINITY
        for r in range(n):
            w = 1.0 if weights is None else weights[r]
            if w == 0.0:
                continue
            for i in range(d):
                x = X[r, i]
                out[0, i] += w * x
                out[1, i] = x if x < out[1, i] else out[1, i]
                out[2, i] = x if x > out[2, i] else out[2, i]
