# Register tiles: logits of a block of rows, and sums over its rows of outer products.
#
# dense.pxi stands on it. It stands on simd.h and load.pxi.
#
#     forward    a[k, r]   = b[k] + sum_i x[r, i] w[k, i]
#     backward   G[k, i]  += sum_r g[k, r] x[r, i]
#
# Forward has classes in the lanes of a vector and transposes its tile on the way out; or, where at most three classes
# would leave most lanes empty, features, and adds up each row's lanes at the end: 3 classes of 20 features took 0.79 of
# forward's time, in float 0.49. (With more classes that was slower where X comes from memory: 1.5 times at 784 x 10.)
# Backward has features in the lanes; the last vector of features overlaps the one before it, so that no loop has a
# scalar tail. A tile's shape is literals at each call: inlined, its loops unroll and `acc` lives in registers.

# ------------------------------------------------------------------------------------------------- forward

cdef struct Parameters:
    # of each class its coefficients and its intercept: a row [w_k, b_k] of one array, or rows of two
    double *coef
    double *intercept  # NULL without
    Py_ssize_t coef_stride, intercept_stride


cdef inline Parameters joined(const double[:, ::1] rows, const Layout *s) noexcept nogil:
    # rows [w_k, b_k]; only what came as a gradient is written to
    cdef Parameters params = Parameters(NULL, NULL, s.p, s.p)
    if s.p > 0:
        params.coef = <double *> &rows[0, 0]
    if s.p > s.d:
        params.intercept = <double *> &rows[0, s.d]
    return params


cdef void pack_classes(const Parameters *params, const Layout *s, number *packed) noexcept nogil:
    # The intercepts, in whole vectors; then for each vector of classes its d rows of coefficients, or for dot products
    # each class's coefficients, in vectors of features of which the last overlaps: 0 in the lanes that the one before
    # it has. A class with a parameter that is not finite, as a number, starts at nan: -inf would pass for a probability
    # of 0.
    cdef Py_ssize_t v, i, lane, k, last = s.columns - VEC_LANES
    cdef number *out = packed
    cdef const double *coef
    cdef double bad
    if s.dot_vecs > 0:
        last = max(s.d, VEC_LANES) - VEC_LANES
    for k in range(s.n_vec * VEC_LANES):
        out[k] = 0.0
        if k < s.n_classes:
            coef = params.coef + k * params.coef_stride
            bad = params.intercept[k * params.intercept_stride] if s.p > s.d else 0.0
            for i in range(s.d):
                bad += 0.0 * <number> coef[i]
            bad += 0.0 * <number> bad
            out[k] = <number> bad
    out += s.n_vec * VEC_LANES
    if s.dot_vecs > 0:
        for k in range(s.n_classes):
            for v in range(s.dot_vecs):
                for lane in range(VEC_LANES):
                    i = v * VEC_LANES + lane if v < s.dot_vecs - 1 else last + lane
                    out[lane] = 0.0
                    if i < s.d and i >= v * VEC_LANES:
                        out[lane] = <number> params.coef[k * params.coef_stride + i]
                out += VEC_LANES
        return
    for v in range(s.n_vec):
        for i in range(s.d):
            for lane in range(VEC_LANES):
                k = v * VEC_LANES + lane
                out[lane] = <number> params.coef[k * params.coef_stride + i] if k < s.n_classes else 0.0
            out += VEC_LANES


cdef inline void forward_tile(Py_ssize_t RT, Py_ssize_t VT, bint PREFETCHES, const number *x, Py_ssize_t ldx,
                              const number *b, const number *w, Py_ssize_t d, number *out, Py_ssize_t ldo,
                              const number *ahead) noexcept nogil:
    # RT rows by VT vectors of classes
    cdef vec acc[32]
    cdef vec wv[4]
    cdef Py_ssize_t i, r, v, panel = d * VEC_LANES, group = RT if RT < VEC_LANES else VEC_LANES
    for v in range(VT):
        wv[v] = vload(b + v * VEC_LANES)
    for v in range(VT):
        for r in range(RT):
            acc[v * RT + r] = wv[v]
    for i in range(d):
        if PREFETCHES:
            PREFETCH(ahead + i * RT)
        for v in range(VT):
            wv[v] = vload(w + v * panel + i * VEC_LANES)
        for r in range(RT):
            for v in range(VT):
                acc[v * RT + r] = acc[v * RT + r] + x[r * ldx + i] * wv[v]
    for v in range(VT):
        for r in range(RT // group):
            vstore_columns(out + v * VEC_LANES * ldo + r * group, ldo, &acc[v * RT + r * group], group)


cdef inline void dot_tile(Py_ssize_t RT, Py_ssize_t KT, bint PREFETCHES, const number *x, Py_ssize_t ldx,
                          Py_ssize_t last, const number *b, const number *w, Py_ssize_t n_vec, number *out,
                          Py_ssize_t ldo, const number *ahead, Py_ssize_t left) noexcept nogil:
    # RT rows by KT classes; n_vec vectors of features, the last of them at x + last. The next block is prefetched to
    # its last line, `left` numbers where n_vec - 1 vectors a row end: with these left out, 2 lines of 10 at d = 20,
    # this stage waited for memory and took 3 to 6 times as long.
    cdef vec acc[32]
    cdef vec wv[4]
    cdef vec xv
    cdef Py_ssize_t i, r, k
    for k in range(KT):
        for r in range(RT):
            acc[k * RT + r] = vset(0.0)
            out[k * ldo + r] = b[k]
    for i in range(n_vec - 1):
        for k in range(KT):
            wv[k] = vload(w + (k * n_vec + i) * VEC_LANES)
        for r in range(RT):
            if PREFETCHES:
                PREFETCH(ahead + (i * RT + r) * VEC_LANES)
            xv = vload_once(x + r * ldx + i * VEC_LANES)
            for k in range(KT):
                acc[k * RT + r] = acc[k * RT + r] + xv * wv[k]
    for k in range(KT):
        wv[k] = vload(w + (k * n_vec + n_vec - 1) * VEC_LANES)
    for r in range(RT):
        if PREFETCHES and r * VEC_LANES < left:
            PREFETCH(ahead + ((n_vec - 1) * RT + r) * VEC_LANES)
        xv = vload_once(x + r * ldx + last)
        for k in range(KT):
            acc[k * RT + r] = acc[k * RT + r] + xv * wv[k]
    for k in range(KT):
        vadd_sums(out + k * ldo, &acc[k * RT], RT)


cdef inline void forward_dots(Py_ssize_t KT, const Work *w, const number *packed, Py_ssize_t n_rows, const Layout *s,
                              number *a) noexcept nogil:
    # KT is the number of classes
    cdef Py_ssize_t r = 0, last = max(s.d, VEC_LANES) - VEC_LANES
    cdef Py_ssize_t left = DOT_ROWS * (s.d - (s.dot_vecs - 1) * VEC_LANES)
    cdef const number *coef = packed + VEC_LANES * s.n_vec
    cdef const number *x
    while r < n_rows:
        x = w.x + r * w.ldx
        if w.ahead != NULL:
            dot_tile(DOT_ROWS, KT, True, x, w.ldx, last, packed, coef, s.dot_vecs, a + r, s.ld, w.ahead + r * s.d, left)
        else:
            dot_tile(DOT_ROWS, KT, False, x, w.ldx, last, packed, coef, s.dot_vecs, a + r, s.ld, NULL, 0)
        r += DOT_ROWS


cdef inline void forward_tiles(Py_ssize_t RT, Py_ssize_t VT, Py_ssize_t v, const Work *w, const number *packed,
                               Py_ssize_t n_rows, const Layout *s, number *a) noexcept nogil:
    # all rows by the vectors of classes from v on
    cdef Py_ssize_t r = 0, ldx = w.ldx
    cdef const number *b = packed + v * VEC_LANES
    cdef const number *coef = packed + (s.n_vec + v * s.d) * VEC_LANES
    cdef number *out = a + v * VEC_LANES * s.ld
    while r < n_rows:
        if v == 0 and w.ahead != NULL:
            forward_tile(RT, VT, True, w.x + r * ldx, ldx, b, coef, s.d, out + r, s.ld, w.ahead + r * s.d)
        else:
            forward_tile(RT, VT, False, w.x + r * ldx, ldx, b, coef, s.d, out + r, s.ld, NULL)
        r += RT


cdef void forward(const Work *w, const number *packed, Py_ssize_t n_rows, const Layout *s, number *a) noexcept nogil:
    # a[k, r] = b[k] + sum_i x[r, i] w[k, i]; n_rows a multiple of s.unit
    cdef Py_ssize_t v = 0
    if s.dot_vecs > 0 and s.n_classes == 1:
        forward_dots(1, w, packed, n_rows, s, a)
        return
    if s.dot_vecs > 0 and s.n_classes == 2:
        forward_dots(2, w, packed, n_rows, s, a)
        return
    if s.dot_vecs > 0:
        forward_dots(3, w, packed, n_rows, s, a)
        return
    while v < s.n_vec:
        if FORWARD_VECS == 3 and s.n_vec - v >= 3 and s.n_vec - v != 4:
            forward_tiles(8, 3, v, w, packed, n_rows, s, a)
            v += 3
        elif s.n_vec - v >= 2:
            forward_tiles(FORWARD_ROWS, 2, v, w, packed, n_rows, s, a)
            v += 2
        else:
            forward_tiles(8, 1, v, w, packed, n_rows, s, a)
            v += 1


# ------------------------------------------------------------------------------------------------ backward

cdef inline Py_ssize_t gradient_place(Py_ssize_t i, const Layout *s) noexcept nogil:
    # where column i stands in a row of a gradient: the last, overlapping vector follows the whole ones
    cdef Py_ssize_t whole = s.columns // VEC_LANES * VEC_LANES
    return i if i < whole else whole + i - (s.columns - VEC_LANES)


cdef inline void outer_tile(Py_ssize_t KT, Py_ssize_t VT, const number *g, Py_ssize_t g_class, Py_ssize_t g_row,
                            const number *x, Py_ssize_t last, Py_ssize_t ldx, Py_ssize_t n_rows, number *out,
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
            xv[v] = vload_once(x + r * ldx + v * VEC_LANES)
        xv[VT - 1] = vload_once(x + r * ldx + last)
        for k in range(KT):
            for v in range(VT):
                acc[k * VT + v] = acc[k * VT + v] + g[k * g_class + r * g_row] * xv[v]
    for k in range(KT):
        for v in range(VT):
            vstore(out + k * ldo + v * VEC_LANES, acc[k * VT + v])


cdef inline void outer_tiles(Py_ssize_t KT, const number *g, Py_ssize_t g_class, Py_ssize_t g_row, const number *x,
                             Py_ssize_t ldx, Py_ssize_t first, Py_ssize_t n_columns, Py_ssize_t n_rows, number *out,
                             Py_ssize_t ldo) noexcept nogil:
    # all columns from `first` on, a multiple of VEC_LANES
    cdef Py_ssize_t i = first, left
    while i < n_columns:
        left = round_up(n_columns - i, VEC_LANES) // VEC_LANES
        if left >= 3 and left != 4 and OUTER_VECS == 3:
            outer_tile(KT, 3, g, g_class, g_row, x + i, min(2 * VEC_LANES, n_columns - VEC_LANES - i), ldx,
                       n_rows, out + i, ldo)
            i += 3 * VEC_LANES
        elif left >= 2:
            outer_tile(KT, 2, g, g_class, g_row, x + i, min(VEC_LANES, n_columns - VEC_LANES - i), ldx,
                       n_rows, out + i, ldo)
            i += 2 * VEC_LANES
        else:
            outer_tile(KT, 1, g, g_class, g_row, x + i, min(<Py_ssize_t> 0, n_columns - VEC_LANES - i), ldx,
                       n_rows, out + i, ldo)
            i += VEC_LANES


cdef void add_outer(const number *g, Py_ssize_t g_class, Py_ssize_t g_row, Py_ssize_t n_g, const number *x,
                    Py_ssize_t ldx, Py_ssize_t n_columns, Py_ssize_t n_rows, number *out, Py_ssize_t ldo,
                    bint upper) noexcept nogil:
    # out[k, place(i)] += sum_r g[k, r] x[r, i]; with `upper` only the vectors of columns that reach i >= k
    cdef Py_ssize_t k = 0, tiles = (n_g + OUTER_CLASSES - 1) // OUTER_CLASSES, height, first
    cdef const number *gk
    cdef number *row
    while k < n_g:
        height = (n_g - k + tiles - 1) // tiles  # tiles of nearly equal height: 10 classes are 5 and 5
        first = k // VEC_LANES * VEC_LANES if upper else 0
        first = min(first, n_columns // VEC_LANES * VEC_LANES)
        gk = g + k * g_class
        row = out + k * ldo
        if height == 1:
            outer_tiles(1, gk, g_class, g_row, x, ldx, first, n_columns, n_rows, row, ldo)
        elif height == 2:
            outer_tiles(2, gk, g_class, g_row, x, ldx, first, n_columns, n_rows, row, ldo)
        elif height == 3:
            outer_tiles(3, gk, g_class, g_row, x, ldx, first, n_columns, n_rows, row, ldo)
        elif height == 4:
            outer_tiles(4, gk, g_class, g_row, x, ldx, first, n_columns, n_rows, row, ldo)
        elif height == 5:
            outer_tiles(5, gk, g_class, g_row, x, ldx, first, n_columns, n_rows, row, ldo)
        elif height == 6:
            outer_tiles(6, gk, g_class, g_row, x, ldx, first, n_columns, n_rows, row, ldo)
        elif height == 7:
            outer_tiles(7, gk, g_class, g_row, x, ldx, first, n_columns, n_rows, row, ldo)
        else:
            outer_tiles(8, gk, g_class, g_row, x, ldx, first, n_columns, n_rows, row, ldo)
        k += height
        tiles -= 1


cdef void add_row_sums(const number *g, Py_ssize_t n_rows, const Layout *s, number *lanes) noexcept nogil:
    # lanes[k] += sum_r g[k, r], a vector a class: the intercepts' gradient
    cdef Py_ssize_t k, r
    cdef vec acc
    for k in range(s.n_classes):
        acc = vload(lanes + k * VEC_LANES)
        for r in range(0, n_rows // VEC_LANES):
            acc = acc + vload(g + k * s.ld + r * VEC_LANES)
        vstore(lanes + k * VEC_LANES, acc)
