# Sums over rows of outer products of the features: the Hessian, those of scores, the Gram matrix; scores by group; and
# each column's total and range.
#
# csoftmax.samples and whole.pxi stand on it; in the modules for double alone. It stands on dense.pxi and what that
# stands on.

# The Hessian's block i < k is sum_r q[r] x~_r x~_r', q[r] = mass[r] p[r, i] p[r, k]: symmetric, and of p (p + 1) / 2
# products of two columns, which are the same in all blocks. With the rows in the lanes, and a tile of pairs of classes
# by pairs of columns,
#
#     sums[i k, a b] += sum_r q[i k, r] (x[a, r] x[b, r])
#
# half the multiplications of a product of matrices, none of them on padding, and a product of columns serves a tile's
# pairs of classes. Against the matrix product of weighted rows with rows, one core of a Zen 4: 58 000 x 9 x 7 from 15.8
# to 4.0 ms, 100 000 x 20 x 5 from 23.9 to 12.2, 50 000 x 54 x 7 from 86 to 75, where a large dgemm would take 120; at
# 300 columns and 3 classes, where a product of columns serves 3 pairs alone, from 15 to 17.

cdef enum:
    PAIRS_AT_ONCE = 48          # of classes: their q take 100 kB
    HESSIAN_ROWS = 256          # of a block: a tile's q and columns then stay in the L1 cache
    PAIR_TILE = 6


cdef inline void pair_tile(Py_ssize_t KT, const number *q, const Py_ssize_t *first, const Py_ssize_t *second,
                           const number *x, Py_ssize_t ld, Py_ssize_t n_rows, number *sums,
                           Py_ssize_t lds) noexcept nogil:
    # KT pairs of classes by COLUMN_PAIRS pairs of columns, which begin at x + first[t] and x + second[t]
    cdef vec acc[32]
    cdef vec z[COLUMN_PAIRS]
    cdef vec qk
    cdef Py_ssize_t r = 0, k, t
    for k in range(KT * COLUMN_PAIRS):
        acc[k] = vset(0.0)
    while r < n_rows:
        for t in range(COLUMN_PAIRS):
            z[t] = vload(x + first[t] + r) * vload(x + second[t] + r)
        for k in range(KT):
            qk = vload(q + k * ld + r)
            for t in range(COLUMN_PAIRS):
                acc[k * COLUMN_PAIRS + t] = acc[k * COLUMN_PAIRS + t] + qk * z[t]
        r += VEC_LANES
    for k in range(KT):
        vadd_sums(sums + k * lds, &acc[k * COLUMN_PAIRS], COLUMN_PAIRS)


cdef inline void pair_tiles(Py_ssize_t KT, const number *q, Py_ssize_t p, const number *x, Py_ssize_t ld,
                            Py_ssize_t n_rows, number *sums, Py_ssize_t lds) noexcept nogil:
    # all pairs a <= b of columns, row by row; the last is repeated where a tile goes beyond them
    cdef Py_ssize_t first[COLUMN_PAIRS]
    cdef Py_ssize_t second[COLUMN_PAIRS]
    cdef Py_ssize_t i = 0, t, a = 0, b = 0
    while i < lds:
        for t in range(COLUMN_PAIRS):
            first[t] = a * ld
            second[t] = b * ld
            if b < p - 1:
                b += 1
            elif a < p - 1:
                a += 1
                b = a
        pair_tile(KT, q, first, second, x, ld, n_rows, sums + i, lds)
        i += COLUMN_PAIRS


cdef void add_pairs(const number *q, Py_ssize_t n_pairs, Py_ssize_t p, const number *x, Py_ssize_t ld,
                    Py_ssize_t n_rows, number *sums, Py_ssize_t lds) noexcept nogil:
    cdef Py_ssize_t k = 0, tiles = (n_pairs + PAIR_TILE - 1) // PAIR_TILE, height
    while k < n_pairs:
        height = (n_pairs - k + tiles - 1) // tiles  # tiles of nearly equal height
        if height == 1:
            pair_tiles(1, q + k * ld, p, x, ld, n_rows, sums + k * lds, lds)
        elif height == 2:
            pair_tiles(2, q + k * ld, p, x, ld, n_rows, sums + k * lds, lds)
        elif height == 3:
            pair_tiles(3, q + k * ld, p, x, ld, n_rows, sums + k * lds, lds)
        elif height == 4:
            pair_tiles(4, q + k * ld, p, x, ld, n_rows, sums + k * lds, lds)
        elif height == 5:
            pair_tiles(5, q + k * ld, p, x, ld, n_rows, sums + k * lds, lds)
        else:
            pair_tiles(6, q + k * ld, p, x, ld, n_rows, sums + k * lds, lds)
        k += height
        tiles -= 1


cdef void add_products(const number *f, Py_ssize_t n, Py_ssize_t apart, const Layout *s, const Work *w,
                       Py_ssize_t n_rows, const number *x, number *q, number *sums, Py_ssize_t lds) noexcept nogil:
    # q[i k, r] = mass[r] f[i, r] f[k, r] for the pairs k >= i + apart, row by row, some at a time
    cdef Py_ssize_t i, k, r, pair = 0, group = 0, n_pairs = n * (n + 1) // 2 - apart * n
    cdef vec weighted
    for i in range(n):
        for k in range(i + apart, n):
            for r in range(n_rows // VEC_LANES):
                weighted = vload(w.mass + r * VEC_LANES) * vload(f + i * s.ld + r * VEC_LANES)
                vstore(q + group * s.ld + r * VEC_LANES, weighted * vload(f + k * s.ld + r * VEC_LANES))
            group += 1
            if group == PAIRS_AT_ONCE or pair + group == n_pairs:
                add_pairs(q, group, s.p, x, s.ld, n_rows, sums + pair * lds, lds)
                pair += group
                group = 0


cdef void store_columns(const Work *w, Py_ssize_t n_rows, const Layout *s, number *x) noexcept nogil:
    # x[i, r] = column i of row r of the block, with a column of ones as the last where there is an intercept
    cdef vec a[VEC_LANES]
    cdef Py_ssize_t i = 0, r, g, start
    while i < s.d:
        start = min(i, s.columns - VEC_LANES)
        for r in range(0, n_rows // VEC_LANES):
            for g in range(VEC_LANES):
                a[g] = vload(w.x + (VEC_LANES * r + g) * w.ldx + start)
            vstore_columns(x + start * s.ld + VEC_LANES * r, s.ld, a, VEC_LANES)
        i += VEC_LANES
    if s.p > s.d:
        for r in range(n_rows):
            x[s.d * s.ld + r] = 1.0


cdef void add_far_rows(Py_ssize_t n_rows, const Layout *s, const Work *w, number *x, number *sums,
                       Py_ssize_t lds) noexcept nogil:
    # Rows of which a product of two columns overflows, taken out of x: each factor of q (x x) meets q first here, and a
    # row of weight 0, or of one certain class, adds 0.
    cdef Py_ssize_t r, v, i, k, a, b
    cdef vec squares
    cdef number lanes[VEC_LANES]
    cdef number q, y
    cdef number *sum
    for v in range(n_rows // VEC_LANES):
        squares = vset(0.0)
        for a in range(s.p):
            squares = squares + vload(x + a * s.ld + v * VEC_LANES) * vload(x + a * s.ld + v * VEC_LANES)
        if vall_finite(squares):
            continue
        vstore(lanes, squares)
        for r in range(v * VEC_LANES, (v + 1) * VEC_LANES):
            if lanes[r - v * VEC_LANES] - lanes[r - v * VEC_LANES] == 0.0:
                continue
            sum = sums
            for i in range(s.n_classes):
                for k in range(i + 1, s.n_classes):
                    q = w.mass[r] * w.a[i * s.ld + r] * w.a[k * s.ld + r]
                    for a in range(s.p):
                        y = q * x[a * s.ld + r]
                        for b in range(a, s.p):
                            sum[0] += y * x[b * s.ld + r]
                            sum += 1
                    sum += lds - s.p * (s.p + 1) // 2
            for a in range(s.p):
                x[a * s.ld + r] = 0.0


cdef void store_pairs(const number *sums, Py_ssize_t n_pairs, Py_ssize_t lds, Py_ssize_t p,
                      double *blocks) noexcept nogil:
    # to (n_pairs, p, p)
    cdef Py_ssize_t pair, a, b, i
    for pair in range(n_pairs):
        i = pair * lds
        for a in range(p):
            for b in range(a, p):
                blocks[a * p + b] = blocks[b * p + a] = sums[i]
                i += 1
        blocks += p * p


cdef inline Layout pair_layout(const Source *x, bint intercept, Py_ssize_t n_classes) noexcept nogil:
    cdef Layout s = make_layout(x.n, x.d, intercept, n_classes, False)
    s.rows = min(<Py_ssize_t> HESSIAN_ROWS, round_up(x.n if x.n > 0 else 1, s.unit))
    s.ld = s.rows + 64 // <Py_ssize_t> sizeof(number)
    return s


cdef inline Py_ssize_t pair_sums(const Layout *s) noexcept nogil:
    # of a pair of classes, in whole tiles
    return round_up(s.p * (s.p + 1) // 2, COLUMN_PAIRS)


cdef inline Py_ssize_t columns_size(const Layout *s) noexcept nogil:
    return max(s.p, s.columns) * s.ld


cdef inline Py_ssize_t q_size(Py_ssize_t n_pairs, const Layout *s) noexcept nogil:
    return min(n_pairs, <Py_ssize_t> PAIRS_AT_ONCE) * s.ld


cdef bint hessian_pass(const Source *x, bint intercept, Py_ssize_t C, const Extras *e, const Parameters *rows,
                       double *blocks) noexcept nogil:
    # hessian_blocks' blocks; False without memory
    cdef Py_ssize_t b, start, n_rows, padded
    cdef Layout s = make_layout(x.n, x.d, intercept, C, True) if C == 2 else pair_layout(x, intercept, C)
    cdef Py_ssize_t n_pairs = C * (C - 1) // 2, lds = pair_sums(&s)
    cdef Work w
    if C == 2:
        if not try_work(&w, &s, s.rows * s.columns + s.p * s.ldg):
            return False
        hessian_of_two(x, &s, e, rows, &w, blocks)
        free(w.base)
        return True
    if not try_work(&w, &s, columns_size(&s) + q_size(n_pairs, &s) + n_pairs * lds):
        return False
    cdef number *columns = w.more
    cdef number *q = columns + columns_size(&s)
    cdef number *sums = q + q_size(n_pairs, &s)
    pack_classes(rows, &s, w.packed)
    for b in range(n_blocks(x.n, &s)):
        start = b * s.rows
        n_rows = load_logits(x, start, &s, e, &w)
        padded = round_up(n_rows, s.unit)
        store_columns(&w, padded, &s, columns)
        probabilities(w.a, padded, &s)
        load_mass(start, n_rows, &s, e, &w, True)
        add_far_rows(padded, &s, &w, columns, sums, lds)
        add_products(w.a, C, 1, &s, &w, padded, columns, q, sums, lds)
    store_pairs(sums, n_pairs, lds, s.p, blocks)
    free(w.base)
    return True


def hessian_blocks(object X, int kind, const double[::1] shift, const double[::1] scale,
                   const double[:, ::1] params, bint intercept,
                   const double[:, ::1] counts, const double[::1] weights,
                   const double[:, ::1] offset, double[:, :, ::1] blocks):
    """Write the C (C - 1) / 2 blocks i < k of the log-likelihood's Hessian, in row order of the pairs:

        H[i, k] = sum_r mass[r] p[r, i] p[r, k] x~_r x~_r'

    The diagonal needs no pass: H[i, i] = -sum_{k != i} H[i, k], a sum of terms of one sign.
    """
    cdef Source x = make_source(X, kind)
    cdef Extras e = make_extras(x.n, shift, scale, None, counts, weights, offset)
    cdef Layout s = pair_layout(&x, intercept, params.shape[0])
    cdef Parameters rows = joined(params, &s)
    cdef double *out = &blocks[0, 0, 0] if blocks.shape[0] > 0 and s.p > 0 else NULL
    cdef bint done
    with nogil:
        done = hessian_pass(&x, intercept, s.n_classes, &e, &rows, out)
    if not done:
        raise no_memory(&s)


def hessian_diagonal(object X, int kind, const double[::1] shift, const double[::1] scale,
                     const double[:, ::1] params, bint intercept,
                     const double[:, ::1] counts, const double[::1] weights,
                     const double[:, ::1] offset, double[:, :, ::1] blocks):
    """Write minus the C blocks i = k of the log-likelihood's Hessian: sum_r mass[r] p[r, k] (1 - p[r, k]) x~_r x~_r'.

    Products of two columns of X are to be finite.
    """
    cdef Source x = make_source(X, kind)
    cdef Py_ssize_t b, start, n_rows, padded, k, group, first
    cdef Layout s = pair_layout(&x, intercept, params.shape[0])
    cdef Py_ssize_t C = s.n_classes, lds = pair_sums(&s)
    cdef Extras e = make_extras(x.n, shift, scale, None, counts, weights, offset)
    cdef Parameters rows = joined(params, &s)
    cdef Work w = make_work(&s, columns_size(&s) + q_size(C, &s) + C * lds)
    cdef number *columns = w.more
    cdef number *q = columns + columns_size(&s)
    cdef number *sums = q + q_size(C, &s)
    with nogil:
        pack_classes(&rows, &s, w.packed)
        for b in range(n_blocks(x.n, &s)):
            start = b * s.rows
            n_rows = load_logits(&x, start, &s, &e, &w)
            padded = round_up(n_rows, s.unit)
            store_columns(&w, padded, &s, columns)
            probabilities(w.a, padded, &s)
            load_mass(start, n_rows, &s, &e, &w, True)
            first = 0
            while first < C:
                group = min(C - first, <Py_ssize_t> PAIRS_AT_ONCE)
                for k in range(group):
                    variances(w.mass, w.a + (first + k) * s.ld, padded, q + k * s.ld)
                add_pairs(q, group, s.p, columns, s.ld, padded, sums + first * lds, lds)
                first += group
        if s.p > 0:
            store_pairs(sums, C, lds, s.p, &blocks[0, 0, 0])
        free(w.base)


cdef inline void variances(const number *mass, const number *p, Py_ssize_t n_rows, number *q) noexcept nogil:
    cdef Py_ssize_t r = 0
    while r < n_rows:
        vstore(q + r, vload(mass + r) * vload(p + r) * (vset(1.0) - vload(p + r)))
        r += VEC_LANES


def score_blocks(object X, int kind, const double[::1] shift, const double[::1] scale, bint intercept,
                 const double[:, ::1] a, const double[::1] weights, double[:, :, ::1] blocks):
    """Write sum_r weight[r] a[r, i] a[r, k] x~_r x~_r' for the pairs i <= k of a's columns, row by row.

    Products of two columns of X, and the weights, are to be finite.
    """
    cdef Source x = make_source(X, kind)
    cdef Py_ssize_t b, start, n_rows, padded, r, k, K = a.shape[1]
    cdef Layout s = pair_layout(&x, intercept, 1)
    cdef Py_ssize_t n_pairs = K * (K + 1) // 2, lds = pair_sums(&s)
    cdef Extras e = make_extras(x.n, shift, scale, None, None, weights, None)
    cdef Work w = make_work(&s, columns_size(&s) + q_size(n_pairs, &s) + K * s.ld + n_pairs * lds)
    cdef number *columns = w.more
    cdef number *q = columns + columns_size(&s)
    cdef number *factors = q + q_size(n_pairs, &s)
    cdef number *sums = factors + K * s.ld
    with nogil:
        for b in range(n_blocks(x.n, &s)):
            start = b * s.rows
            n_rows = min(s.rows, x.n - start)
            padded = round_up(n_rows, s.unit)
            load_block(&x, start, n_rows, &s, &e, &w)
            store_columns(&w, padded, &s, columns)
            load_mass(start, n_rows, &s, &e, &w, False)
            for r in range(n_rows):
                for k in range(K):
                    factors[k * s.ld + r] = a[start + r, k]
            for r in range(n_rows, padded):
                for k in range(K):
                    factors[k * s.ld + r] = 0.0
            add_products(factors, K, 0, &s, &w, padded, columns, q, sums, lds)
        if n_pairs > 0 and s.p > 0:
            store_pairs(sums, n_pairs, lds, s.p, &blocks[0, 0, 0])
        free(w.base)


def group_scores(object X, int kind, const double[::1] shift, const double[::1] scale, bint intercept,
                 const double[:, ::1] a, const Py_ssize_t[::1] first, double[:, :, ::1] scores):
    """Write sum_r a[r, k] x~_r to scores[g, k], of the rows from first[g] up to first[g + 1], or to the last."""
    cdef Source x = make_source(X, kind)
    cdef Py_ssize_t b, start, n_rows, r, k, i, g = -1, K = a.shape[1], G = first.shape[0]
    cdef Layout s = make_layout(x.n, x.d, intercept, 1, True)
    cdef Extras e = make_extras(x.n, shift, scale, None, None, None, None)
    cdef Py_ssize_t stride = round_up(s.p, VEC_LANES)
    cdef Work w = make_work(&s, K * stride + VEC_LANES)
    cdef number *sums = w.more
    cdef vec factor
    with nogil:
        for b in range(n_blocks(x.n, &s)):
            start = b * s.rows
            n_rows = min(s.rows, x.n - start)
            load_block(&x, start, n_rows, &s, &e, &w)
            set_ones(n_rows, &s, &w)
            for r in range(n_rows):
                if g + 1 < G and first[g + 1] == start + r:
                    if g >= 0:
                        store_sums(sums, K, s.p, stride, &scores[g, 0, 0])
                    g += 1
                    memset(sums, 0, K * stride * sizeof(number))
                for k in range(K):
                    factor = vset(a[start + r, k])
                    i = 0
                    while i + VEC_LANES <= s.p:
                        vstore(sums + k * stride + i, vload(sums + k * stride + i)
                               + factor * vload(w.x + r * w.ldx + i))
                        i += VEC_LANES
                    if i < s.p:
                        vstore(sums + k * stride + i, vload(sums + k * stride + i)
                               + factor * vload_part(w.x + r * w.ldx + i, s.p - i, vset(0.0)))
        if g >= 0:
            store_sums(sums, K, s.p, stride, &scores[g, 0, 0])
        free(w.base)


cdef inline void store_sums(const number *sums, Py_ssize_t n, Py_ssize_t p, Py_ssize_t stride,
                            double *out) noexcept nogil:
    cdef Py_ssize_t k, i
    for k in range(n):
        for i in range(p):
            out[k * p + i] = sums[k * stride + i]


# The Gram matrix, and the Hessian of two classes, are one such block, where a product of two columns would serve one
# sum alone. So its rows are weighted, and a block is loaded with the intercept's column of ones as its last:
# 569 x 30 x 2 takes 33 us, where the tile above takes 43, and 10 000 x 100 x 2 3.1 ms instead of 5.5.

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


cdef void add_weighted_rows(Py_ssize_t n_rows, const Layout *s, const Work *w, number *y, number *g) noexcept nogil:
    # g += sum_r mass[r] x~_r x~_r', the upper triangle; y: (rows, columns) of scratch
    cdef Py_ssize_t r, i
    set_ones(n_rows, s, w)
    for r in range(n_rows):
        for i in range(s.columns):
            y[r * s.columns + i] = w.mass[r] * w.x[r * w.ldx + i]
    add_outer(y, 1, s.columns, s.p, w.x, w.ldx, s.columns, n_rows, g, s.ldg, True)


cdef void hessian_of_two(const Source *x, const Layout *s, const Extras *e, const Parameters *rows, Work *w,
                         double *block) noexcept nogil:
    cdef Py_ssize_t b, r, n_rows
    cdef number *y = w.more
    cdef number *g = y + s.rows * s.columns
    pack_classes(rows, s, w.packed)
    for b in range(n_blocks(x.n, s)):
        n_rows = load_logits(x, b * s.rows, s, e, w)
        probabilities(w.a, round_up(n_rows, s.unit), s)
        load_mass(b * s.rows, n_rows, s, e, w, True)
        for r in range(n_rows):
            w.mass[r] *= w.a[r] * w.a[s.ld + r]
        add_weighted_rows(n_rows, s, w, y, g)
    if s.p > 0:
        store_symmetric(g, s, block)


def gram(object X, int kind, const double[::1] shift, const double[::1] scale, bint intercept,
         const double[::1] weights, double[:, ::1] out):
    """Write sum_r weight[r] x~_r x~_r', of shape (p, p)."""
    cdef Source x = make_source(X, kind)
    cdef Py_ssize_t b, n_rows
    cdef Layout s = make_layout(x.n, x.d, intercept, 1, True)
    cdef Extras e = make_extras(x.n, shift, scale, None, None, weights, None)
    cdef Work w = make_work(&s, s.rows * s.columns + s.p * s.ldg)
    cdef number *y = w.more
    cdef number *g = y + s.rows * s.columns
    with nogil:
        for b in range(n_blocks(x.n, &s)):
            n_rows = min(s.rows, x.n - b * s.rows)
            load_block(&x, b * s.rows, n_rows, &s, &e, &w)
            load_mass(b * s.rows, n_rows, &s, &e, &w, False)
            add_weighted_rows(n_rows, &s, &w, y, g)
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
