# The residual stage, in place of a block's logits; and what else the rows of a block have.
#
# dense.pxi stands on it. It stands on simd.h and load.pxi.
#
#     g[k, r] = mass[r] (y[r, k] - total[r] p[k, r]),  p[k, r] = exp(a[k, r] - m[r]) / sum_i exp(a[i, r] - m[r])
#
# Each of these takes a vector of rows at a time: row[k * ld] is class k's logit of VEC_LANES rows. exp, log and sums
# run over whole vectors with no reduction across lanes and none wasted on padding, whatever the number of classes.

cdef inline vec exponentials(number *row, Py_ssize_t ld, Py_ssize_t n_classes, vec *maximum) noexcept nogil:
    # row[k] <- exp(row[k] - m); returns sum_k exp(row[k] - m) - 1, the largest term left out of the sum rather than
    # subtracted (Blanchard, Higham & Higham 2021, doi:10.1093/imanum/draa038), so that log1p of it is exact where one
    # class dominates. Ties count beyond the first.
    cdef Py_ssize_t k
    cdef vec m = vload(row), x, e, one = vset(1.0), zero = vset(0.0), rest = vset(0.0), ties = vset(-1.0)
    for k in range(1, n_classes):
        m = vmax(vload(row + k * ld), m)
    for k in range(n_classes):
        x = vload(row + k * ld) - m
        e = vexp(x)
        vstore(row + k * ld, e)
        if sizeof(number) == 4:  # nan for -inf: float's overflow may have made it of a finite logit
            e = e + (x - x)
        rest = vadd_unless_equal(rest, x, zero, e)
        ties = vadd_where_equal(ties, x, zero, one)
    maximum[0] = m
    return rest + ties


cdef inline Py_ssize_t code_of(const Extras *e, Py_ssize_t r) noexcept nogil:
    return e.codes[r] if e.codes != NULL else <Py_ssize_t> e.long_codes[r]


cdef double sum_of_terms(const number *terms, Py_ssize_t n_rows) noexcept nogil:
    # in double, whatever the terms are: 100 000 equal float terms were off by 1e-6 where a lane added up 128 of them
    cdef double lanes[8]
    cdef Py_ssize_t r, i
    for i in range(8):
        lanes[i] = 0.0
    for r in range(n_rows // 8):
        for i in range(8):
            lanes[i] += terms[8 * r + i]
    return ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) + ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]))


cdef double label_residuals(Py_ssize_t start, Py_ssize_t n_rows, const Layout *s, const Extras *e,
                            const Work *w) noexcept nogil:
    # a[k, r] <- mass[r] (1{y[r] = k} - p[k, r]); terms[r] = mass[r] log p[y[r], r]; returns their sum.
    #
    # The label's own logit is fetched before, and its residual mended after, a row at a time: with a comparison for
    # each class instead, the stage took 1.5 times as long. Three short loops, for a row's logarithm waits for all that
    # stands before it and the processor looks no further than two rows ahead. A label outside 0..C-1 makes its row
    # nan; its place is behind the logits.
    cdef Py_ssize_t r, v, k, y, ld = s.ld, padded = round_up(n_rows, s.unit)
    cdef vec m, a_y, rest, weight, ratio, minus, zero = vset(0.0), one = vset(1.0)
    cdef number *row
    for r in range(n_rows):
        y = code_of(e, start + r)
        w.place[r] = y * ld + r if 0 <= y < s.n_classes else s.n_vec * VEC_LANES * ld + r
        w.own[r] = w.a[w.place[r]] if 0 <= y < s.n_classes else <number> NAN
    for r in range(n_rows, padded):
        w.own[r] = 0.0
    for v in range(padded // VEC_LANES):
        r = v * VEC_LANES
        vstore(w.rest + r, exponentials(w.a + r, ld, s.n_classes, &m))
        vstore(w.top + r, m)
    for v in range(padded // VEC_LANES):
        r = v * VEC_LANES
        a_y = vload(w.own + r)
        m = vload(w.top + r)
        rest = vload(w.rest + r)
        weight = vload(w.mass + r)
        ratio = one / (rest + 1.0)
        vstore(w.terms + r, weight * ((a_y - m) - vlog1p(rest, ratio)))
        ratio = vblend_equal(a_y, a_y, weight * ratio, a_y)
        vstore(w.rest + r, zero - ratio)
        # weight (1 - p[y]): where y is the top class 1 - p[y] is rest / (1 + rest), without cancellation
        vstore(w.own + r, vblend_equal(a_y, m, ratio * rest, weight))
        vstore(w.top + r, vblend_equal(a_y, m, zero, one))
    for v in range(padded // VEC_LANES):
        row = w.a + v * VEC_LANES
        minus = vload(w.rest + v * VEC_LANES)
        for k in range(s.n_classes):
            vstore(row + k * ld, minus * vload(row + k * ld))
    for r in range(n_rows):
        w.a[w.place[r]] = w.own[r] + w.top[r] * w.a[w.place[r]]
    return sum_of_terms(w.terms, padded)


cdef double count_residuals(const number *counts, Py_ssize_t n_rows, const Layout *s, const Work *w) noexcept nogil:
    # a[k, r] <- mass[r] (y[k, r] - n[r] p[k, r]), n[r] = sum_k y[k, r]; terms[r] = mass[r] sum_k y[k, r] log p[k, r];
    # returns their sum. counts is (C, ld); n_rows a multiple of s.unit.
    cdef Py_ssize_t r, k, ld = s.ld
    cdef vec y, m, e, x, n, rest, log_total, weight, ratio, term, zero = vset(0.0)
    cdef vec one = vset(1.0)
    cdef number *row
    cdef const number *y_row
    for r in range(n_rows // VEC_LANES):
        row = w.a + r * VEC_LANES
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
        ratio = vset(1.0) / (rest + 1.0)
        log_total = vlog1p(rest, ratio)
        term = weight * (term - n * log_total)
        vstore(w.terms + r * VEC_LANES, term)
        ratio = n * ratio
        for k in range(s.n_classes):
            y = vload(y_row + k * ld)
            e = vload(row + k * ld)
            # y - n p, and where p is 1 / (1 + rest): (y - n) + n rest / (1 + rest), without cancellation
            x = vblend_equal(e, one, (y - n) + ratio * rest, y - ratio * e)
            vstore(row + k * ld, weight * x)
    return sum_of_terms(w.terms, n_rows)


cdef void probabilities(number *a, Py_ssize_t n_rows, const Layout *s) noexcept nogil:
    # a[k, r] <- p[k, r] = exp(a[k, r] - m) / sum_i exp(a[i, r] - m)
    cdef Py_ssize_t r, k
    cdef vec m, total
    cdef number *row
    for r in range(n_rows // VEC_LANES):
        row = a + r * VEC_LANES
        total = exponentials(row, s.ld, s.n_classes, &m) + 1.0
        for k in range(s.n_classes):
            vstore(row + k * s.ld, vload(row + k * s.ld) / total)


cdef void log_probabilities(number *a, number *work, Py_ssize_t n_rows, const Layout *s) noexcept nogil:
    # a[k, r] <- (a[k, r] - m) - log1p(rest); work has room for the logits of a vector of rows
    cdef Py_ssize_t r, k
    cdef vec m, rest, log_total
    cdef number *row
    for r in range(n_rows // VEC_LANES):
        row = a + r * VEC_LANES
        for k in range(s.n_classes):
            vstore(work + k * VEC_LANES, vload(row + k * s.ld))
        rest = exponentials(work, VEC_LANES, s.n_classes, &m)
        log_total = vlog1p(rest, vset(1.0) / (rest + 1.0))
        for k in range(s.n_classes):
            vstore(row + k * s.ld, (vload(row + k * s.ld) - m) - log_total)


cdef void product_residuals(number *p, const number *u, Py_ssize_t n_rows, const Layout *s,
                            const Work *w) noexcept nogil:
    # p[k, r] <- -mass[r] p[k, r] (v[k, r] - sum_i p[i, r] v[i, r]), v[k, r] = u[k, r] - u[top, r]: the residual's
    # change along the logits u. Without the shift the row of a class of probability near 1 loses its digits: at a lead
    # of 35 it was wrong by 14%.
    cdef Py_ssize_t r, k, ld = s.ld
    cdef vec mean, mass, most, top
    cdef number *row
    cdef const number *u_row
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


cdef void logit_ranges(const number *a, Py_ssize_t n_rows, const Layout *s, number *out) noexcept nogil:
    # out[r] = max_k a[k, r] - min_k a[k, r]; nan if any a[k, r] is
    cdef Py_ssize_t r, k
    cdef vec low, high, x, bad, zero = vset(0.0)
    for r in range(n_rows // VEC_LANES):
        low = high = vload(a + r * VEC_LANES)
        bad = zero
        for k in range(s.n_classes):
            x = vload(a + k * s.ld + r * VEC_LANES)
            bad = bad + (x - x)
            low = zero - vmax(zero - x, zero - low)
            high = vmax(x, high)
        vstore(out + r * VEC_LANES, high - low + bad)


cdef void logit_squares(const number *a, Py_ssize_t n_rows, const Layout *s, number *out) noexcept nogil:
    # out[r] = sum_k a[k, r]^2, a class after another: the rows are added to side by side
    cdef Py_ssize_t r, k
    cdef vec x
    for r in range(n_rows // VEC_LANES):
        vstore(out + r * VEC_LANES, vset(0.0))
    for k in range(s.n_classes):
        for r in range(n_rows // VEC_LANES):
            x = vload(a + k * s.ld + r * VEC_LANES)
            vstore(out + r * VEC_LANES, vload(out + r * VEC_LANES) + x * x)
