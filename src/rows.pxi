# softmax, log_softmax and logsumexp along an axis.
#
# csoftmax.special stands on it. It stands on simd.h.
#
#     m = max_k x[k],  rest = sum over all but one largest entry of exp(x[k] - m)
#     logsumexp = m + log1p(rest)
#     log_softmax[i] = (x[i] - m) - log1p(rest)
#     softmax[i] = exp(x[i] - m) / (1 + rest)
#
# The largest term stays out of the sum (Blanchard, Higham & Higham 2021, doi:10.1093/imanum/draa038). x[k] - m is
# carried with its rounding error (Dekker's two-sum): exp(d + e) = exp(d) (1 + e), without which a far-off entry of
# softmax is wrong by up to 475 ulp. The sum is carried with its error too, and so is the logarithm where it meets m:
# plain sums were off by 65 ulp at 1000 equal terms.
#
# The array is contiguous, of shape (outer, C, inner). A column is one (outer, inner) pair, its entries `inner` apart.
# Short columns are copied to a panel, a vector of them side by side, so that nothing is reduced across lanes; long ones
# are worked on where they are. Each column's result depends on the array's shape and the column alone, but for the last
# bit where a neighbour's largest entry is not finite: its group then goes through a panel.
#
# nan anywhere gives nan; one +inf is the limit (softmax 1 there, 0 elsewhere), several have none (nan); all -inf
# gives nan, and -inf for logsumexp.

cdef enum:
    SOFTMAX = 0
    LOG_SOFTMAX = 1
    LOGSUMEXP = 2

cdef enum:
    PANEL_BYTES = 32768
    WIDE_PANEL_BYTES = 524288   # where C is 512 and more: runs of a cache line cost more than the second cache
    LONG_COLUMN = 256           # entries from which columns are worked on where they are,
    VERY_LONG_COLUMN = 4096     # if there are many of them side by side
    LONG_BYTES = 1048576    # of them at a time: two passes read them again from the second cache
    FEW_COLUMNS_ = 128
    TIES_MASK = 1048575     # float counts ones up to 2^24: they join the sum long before


FEW_COLUMNS = FEW_COLUMNS_


cdef bint has_nan(const number *x, Py_ssize_t n, Py_ssize_t stride) noexcept nogil:
    cdef Py_ssize_t k
    for k in range(n):
        if x[k * stride] != x[k * stride]:
            return True
    return False


cdef Py_ssize_t infinities(const number *x, Py_ssize_t n, Py_ssize_t stride) noexcept nogil:
    cdef Py_ssize_t k, count = 0
    for k in range(n):
        count += x[k * stride] == INFINITY
    return count


cdef void limit_column(int what, number *x, Py_ssize_t n, Py_ssize_t stride, number *sum) noexcept nogil:
    # the answer for entries whose largest is not finite, in place, or in `sum` for logsumexp
    cdef Py_ssize_t k, count = infinities(x, n, stride)
    cdef bint nan = has_nan(x, n, stride)
    if what == LOGSUMEXP:
        sum[0] = <number> (NAN if nan else INFINITY if count > 0 else -INFINITY)
        return
    for k in range(n):
        if count != 1 or nan:
            x[k * stride] = <number> NAN
        elif x[k * stride] == INFINITY:
            x[k * stride] = 0.0 if what == LOG_SOFTMAX else 1.0
        else:
            x[k * stride] = <number> -INFINITY if what == LOG_SOFTMAX else 0.0


cdef inline void add_exponential(int what, vec x, vec m, vec *e, vec *sum, vec *lost, vec *ties) noexcept nogil:
    # e <- exp(x - m); added to the sum unless x is m, which is counted
    cdef vec d = x - m, b = x - d, y, low
    # (x - (d + b)) + (b - m) is what x - m lost; where d is -inf that is nan, and exp is 0
    cdef vec rest = (x - (d + b)) + (b - m)
    ties[0] = vadd_where_equal(ties[0], x, m, vset(1.0))
    if what == LOGSUMEXP and sizeof(number) == 4:  # the rounding of exp's own last addition left 2.1 ulp in float
        y = vexp_parts(d, &low)
        low = low + vwhere_finite(d, (y + low) * rest)
        vadd_exact(sum, lost, vwhere_differs(x, m, low))
    else:
        y = vexp_gradual(d)
        y = y + vwhere_finite(d, y * rest)
    vadd_exact(sum, lost, vwhere_differs(x, m, y))
    e[0] = y


# ------------------------------------------------------------------------------------------------------ panels

cdef void panel_vector(int what, number *x, Py_ssize_t C, Py_ssize_t ld, number *saved, number *sums,
                       const number *ahead, Py_ssize_t stride) noexcept nogil:
    # a vector of columns, ld from one entry to the next, in place; or their logsumexp in `sums`. Meanwhile C lines of
    # the next panel are fetched from `ahead` on: 32 x 128000 took 1.3 times as long without.
    cdef Py_ssize_t k, lane
    cdef vec m = vload(x), e, sum = vset(0.0), lost = vset(0.0), ties = vset(-1.0), log_low = vset(0.0), log_high
    cdef number maxima[16]
    for k in range(C):
        PREFETCH(ahead + k * stride)
        m = vmax(vload(x + k * ld), m)
    cdef bint finite = vall_finite(m)
    if not finite:
        vstore(maxima, m)
        for k in range(C):
            vstore(saved + k * VEC_LANES, vload(x + k * ld))
    for k in range(C):
        add_exponential(what, vload(x + k * ld), m, &e, &sum, &lost, &ties)
        if what == SOFTMAX:
            vstore(x + k * ld, e)
    vadd_exact(&sum, &lost, ties)
    if what == SOFTMAX:
        vadd_exact(&sum, &lost, vset(1.0))
        sum = sum + lost
        e = vset(1.0) / sum
        for k in range(C):
            vstore(x + k * ld, vdivide(vload(x + k * ld), sum, e))
    else:
        log_high = vlog1p_parts(sum, lost, vset(1.0) / (sum + 1.0), &log_low)
        if what == LOG_SOFTMAX:
            for k in range(C):
                vstore(x + k * ld, (vload(x + k * ld) - m) - log_high)
        else:
            vadd_exact(&m, &log_low, log_high)
            vstore(sums, m + log_low)
    if not finite:
        for lane in range(VEC_LANES):
            if maxima[lane] - maxima[lane] != 0.0:
                limit_column(what, saved + lane, C, VEC_LANES, sums + lane)
                if what != LOGSUMEXP:
                    for k in range(C):
                        x[k * ld + lane] = saved[k * VEC_LANES + lane]


cdef void load_rows(const number *x, Py_ssize_t C, Py_ssize_t n, number *panel, Py_ssize_t ld) noexcept nogil:
    # panel[k, j] = x[j, k]: squares of a vector's size in registers, the last one overlapping the one before
    cdef vec a[8]
    cdef Py_ssize_t j = 0, k, g, block, group = 8 if VEC_LANES > 8 else VEC_LANES
    if C >= VEC_LANES:
        while j + group <= n:
            for block in range((C + VEC_LANES - 1) // VEC_LANES):
                k = min(block * VEC_LANES, C - VEC_LANES)
                for g in range(8 if VEC_LANES > 8 else VEC_LANES):
                    a[g] = vload(x + (j + g) * C + k)
                vstore_columns(panel + k * ld + j, ld, a, 8 if VEC_LANES > 8 else VEC_LANES)
            j += group
    while j < n:
        for k in range(C):
            panel[k * ld + j] = x[j * C + k]
        j += 1


cdef void store_rows(const number *panel, Py_ssize_t C, Py_ssize_t n, number *out, Py_ssize_t ld) noexcept nogil:
    # out[j, k] = panel[k, j], likewise
    cdef vec a[8]
    cdef Py_ssize_t j = 0, k, g, block, group = 8 if VEC_LANES > 8 else VEC_LANES
    if C >= group:
        while j + VEC_LANES <= n:
            for block in range((C + group - 1) // group):
                k = min(block * group, C - group)
                for g in range(8 if VEC_LANES > 8 else VEC_LANES):
                    a[g] = vload(panel + (k + g) * ld + j)
                vstore_columns(out + j * C + k, C, a, 8 if VEC_LANES > 8 else VEC_LANES)
            j += VEC_LANES
    while j < n:
        for k in range(C):
            out[j * C + k] = panel[k * ld + j]
        j += 1


cdef void load_panel(const number *x, Py_ssize_t C, Py_ssize_t inner, Py_ssize_t column, Py_ssize_t n, number *panel,
                     Py_ssize_t ld) noexcept nogil:
    # panel[k, j] = entry k of column `column` + j, for n columns; 0 in those that fill up
    cdef Py_ssize_t j = 0, i, k, run
    cdef const number *base
    if inner == 1:
        load_rows(x + column * C, C, n, panel, ld)
    else:
        while j < n:
            i = (column + j) % inner
            run = min(inner - i, n - j)
            base = x + (column + j - i) * C + i
            for k in range(C):
                memcpy(panel + k * ld + j, base + k * inner, run * sizeof(number))
            j += run
    if n < ld:
        for k in range(C):
            memset(panel + k * ld + n, 0, (ld - n) * sizeof(number))


cdef void store_panel(const number *panel, Py_ssize_t C, Py_ssize_t inner, Py_ssize_t column, Py_ssize_t n, number *out,
                      Py_ssize_t ld) noexcept nogil:
    cdef Py_ssize_t j = 0, i, k, run
    cdef number *base
    if inner == 1:
        store_rows(panel, C, n, out + column * C, ld)
        return
    while j < n:
        i = (column + j) % inner
        run = min(inner - i, n - j)
        base = out + (column + j - i) * C + i
        for k in range(C):
            memcpy(base + k * inner, panel + k * ld + j, run * sizeof(number))
        j += run


cdef int panels(int what, const number *x, number *out, Py_ssize_t C, Py_ssize_t inner, Py_ssize_t start,
                Py_ssize_t stop) noexcept nogil:
    # -1 without memory
    cdef Py_ssize_t ld = PANEL_BYTES if C < 512 else WIDE_PANEL_BYTES, column = start, n, j
    ld = ld // <Py_ssize_t> sizeof(number) // C // VEC_LANES * VEC_LANES
    ld = min(max(ld, <Py_ssize_t> VEC_LANES), round_up(stop - start, VEC_LANES))
    cdef void *base = malloc((C * (ld + VEC_LANES) + ld) * sizeof(number) + 64)
    if base == NULL:
        return -1
    cdef number *panel = <number *> ((<size_t> base + 63) // 64 * 64)
    cdef number *saved = panel + C * ld
    cdef number *sums = saved + C * VEC_LANES
    while column < stop:
        n = min(ld, stop - column)
        load_panel(x, C, inner, column, n, panel, ld)
        for j in range((n + VEC_LANES - 1) // VEC_LANES):
            if inner == 1:
                panel_vector(what, panel + j * VEC_LANES, C, ld, saved, sums + j * VEC_LANES,
                             x + (column + ld + j * VEC_LANES) * C, VEC_LANES)
            else:
                panel_vector(what, panel + j * VEC_LANES, C, ld, saved, sums + j * VEC_LANES,
                             x + (column + ld) // inner * inner * C + (column + ld) % inner + j * VEC_LANES, inner)
        if what == LOGSUMEXP:
            memcpy(out + column, sums, n * sizeof(number))
        else:
            store_panel(panel, C, inner, column, n, out, ld)
        column += n
    free(base)
    return 0


# ------------------------------------------------------------------------------------------------ long columns

cdef inline vec load_part(const number *x, Py_ssize_t n) noexcept nogil:
    # n numbers, and -inf in the lanes beyond
    cdef number part[16]
    cdef Py_ssize_t i
    if n >= VEC_LANES:
        return vload(x)
    for i in range(VEC_LANES):
        part[i] = x[i] if i < n else <number> -INFINITY
    return vload(part)


cdef inline void store_part(number *out, vec value, Py_ssize_t n) noexcept nogil:
    cdef number part[16]
    if n >= VEC_LANES:
        vstore(out, value)
    else:
        vstore(part, value)
        memcpy(out, part, n * sizeof(number))


cdef void finish_columns(int what, Py_ssize_t width, Py_ssize_t merged, number *maxima, number *sums, number *lost,
                         number *ties, number *out) noexcept nogil:
    # The lanes i, i + width, i + 2 width ... of the accumulators are parts of column i. For softmax `sums` becomes each
    # lane's total and `lost` its reciprocal, for log_softmax `sums` its log1p(rest); `out` gets the logsumexp.
    cdef Py_ssize_t i, j, v, n_vec = (width + VEC_LANES - 1) // VEC_LANES, half = merged // 2
    cdef number t, z
    cdef vec sum, low, log_high, m
    while half > 0:
        for i in range(half * width):
            j = i + half * width
            t = sums[i] + sums[j]
            z = t - sums[i]
            lost[i] = lost[i] + lost[j] + ((sums[i] - (t - z)) + (sums[j] - z))
            sums[i] = t
            ties[i] = ties[i] + ties[j]
        half //= 2
    for v in range(n_vec):
        i = v * VEC_LANES
        sum = vload(sums + i)
        low = vload(lost + i)
        m = vload(maxima + i)
        vadd_exact(&sum, &low, vload(ties + i) - 1.0)
        if what == SOFTMAX:
            vadd_exact(&sum, &low, vset(1.0))
            sum = sum + low
            vstore(sums + i, sum)
            vstore(lost + i, vset(1.0) / sum)
        else:
            log_high = vlog1p_parts(sum, low, vset(1.0) / (sum + 1.0), &low)
            vstore(sums + i, log_high)
            if what == LOGSUMEXP:
                vadd_exact(&m, &low, log_high)
                store_part(out + i, m + low, width - i)
    for j in range(1, merged):
        memcpy(sums + j * width, sums, width * sizeof(number))
        memcpy(lost + j * width, lost, width * sizeof(number))


cdef Py_ssize_t entries_merged(Py_ssize_t inner) noexcept nogil:
    # how many entries of each column are taken side by side: four vectors at least, whole ones; a power of two
    cdef Py_ssize_t merged = 1
    if inner < FEW_COLUMNS_:
        while merged * inner % VEC_LANES != 0 or merged * inner < 4 * VEC_LANES:
            merged *= 2
    return merged


cdef bint long_columns(int what, const number *x, number *out, Py_ssize_t C, Py_ssize_t stride, Py_ssize_t width,
                       Py_ssize_t merged, number *maxima) noexcept nogil:
    # `width` columns of C entries, `stride` apart, read where they are; x and out may be the same. `maxima` begins five
    # arrays of merged * width numbers in whole vectors. False if a column's largest entry is not finite: nothing is
    # written then.
    cdef Py_ssize_t lanes = merged * width, rows = C // merged, left = (C - rows * merged) * width, r, v, i, j, half
    cdef Py_ssize_t n_vec = (lanes + VEC_LANES - 1) // VEC_LANES, size = n_vec * VEC_LANES, step = stride * merged
    cdef number *sums = maxima + size
    cdef number *lost = sums + size
    cdef number *ties = lost + size
    cdef number *last = ties + size
    cdef const number *row
    cdef number *target
    cdef number m
    cdef vec e, sum, low, count
    for i in range(size):
        maxima[i] = <number> -INFINITY
        sums[i] = 0.0
        lost[i] = 0.0
        ties[i] = 0.0
        last[i] = x[rows * step + i] if i < left else <number> -INFINITY
    for r in range(rows + (left > 0)):
        row = x + r * step if r < rows else last
        for v in range(n_vec):
            i = v * VEC_LANES
            vstore(maxima + i, vmax(load_part(row + i, lanes - i), vload(maxima + i)))
    half = merged // 2
    while half > 0:
        for i in range(half * width):
            m = maxima[i + half * width]
            maxima[i] = m if m > maxima[i] else maxima[i]
        half //= 2
    m = 0.0
    for i in range(width):
        m += maxima[i] - maxima[i]
    if m != 0.0:
        return False
    for j in range(1, merged):
        memcpy(maxima + j * width, maxima, width * sizeof(number))
    for i in range(lanes, size):
        maxima[i] = 0.0
    for r in range(rows + (left > 0)):
        row = x + r * step if r < rows else last
        target = out + r * step if r < rows else last
        for v in range(n_vec):
            i = v * VEC_LANES
            sum = vload(sums + i)
            low = vload(lost + i)
            count = vload(ties + i)
            add_exponential(what, load_part(row + i, lanes - i), vload(maxima + i), &e, &sum, &low, &count)
            if what == SOFTMAX:
                store_part(target + i, e, lanes - i)
            if r & TIES_MASK == TIES_MASK:
                vadd_exact(&sum, &low, count)
                count = vset(0.0)
            vstore(sums + i, sum)
            vstore(lost + i, low)
            vstore(ties + i, count)
    finish_columns(what, width, merged, maxima, sums, lost, ties, out)
    if what != LOGSUMEXP:
        for r in range(rows + (left > 0)):
            row = x + r * step if r < rows else last
            if what == SOFTMAX and r < rows:
                row = out + r * step
            target = out + r * step if r < rows else last
            for v in range(n_vec):
                i = v * VEC_LANES
                e = load_part(row + i, lanes - i)
                if what == SOFTMAX:
                    e = vdivide(e, vload(sums + i), vload(lost + i))
                else:
                    e = (e - vload(maxima + i)) - vload(sums + i)
                store_part(target + i, e, lanes - i)
        memcpy(out + rows * step, last, left * sizeof(number))
    return True


# --------------------------------------------------------------------------------------------------- long rows

cdef number add_lanes(vec sum, vec lost, number *low) noexcept nogil:
    # the sum of the lanes of both, and in *low what its rounding loses; in a tree, so that eight steps are three
    cdef number s[16]
    cdef number c[16]
    cdef number t, z
    cdef Py_ssize_t i, half = VEC_LANES // 2
    vstore(s, sum)
    vstore(c, lost)
    while half > 0:
        for i in range(half):
            t = s[i] + s[i + half]
            z = t - s[i]
            c[i] = c[i] + c[i + half] + ((s[i] - (t - z)) + (s[i + half] - z))
            s[i] = t
        half //= 2
    low[0] = c[0]
    return s[0]


cdef void long_row(int what, const number *x, number *out, Py_ssize_t C) noexcept nogil:
    # One column whose entries are neighbours, its accumulators in registers: 0.6 of the time that long_columns takes.
    # x and out may be the same row; out is one number for logsumexp.
    cdef Py_ssize_t v, k, whole = C // VEC_LANES, left = C - whole * VEC_LANES
    cdef number maximum, low, high
    cdef vec last = load_part(x + whole * VEC_LANES, left), m = last
    cdef vec e, sum = vset(0.0), lost = vset(0.0), ties = vset(0.0), log_low, log_high
    for v in range(whole):
        m = vmax(vload(x + v * VEC_LANES), m)
    maximum = vmaximum(m)
    if maximum - maximum != 0.0:
        if what != LOGSUMEXP and out != x:
            memcpy(out, x, C * sizeof(number))
        limit_column(what, <number *> x if what == LOGSUMEXP else out, C, 1, out)
        return
    m = vset(maximum)
    for v in range(whole):
        add_exponential(what, vload(x + v * VEC_LANES), m, &e, &sum, &lost, &ties)
        if what == SOFTMAX:
            vstore(out + v * VEC_LANES, e)
        if v & TIES_MASK == TIES_MASK:
            vadd_exact(&sum, &lost, ties)
            ties = vset(0.0)
    add_exponential(what, last, m, &e, &sum, &lost, &ties)
    high = add_lanes(sum, lost, &low)
    sum = vset(high)
    lost = vset(low)
    vadd_exact(&sum, &lost, vset(<number> vsum(ties) - 1))
    if what == SOFTMAX:
        vadd_exact(&sum, &lost, vset(1.0))
        sum = sum + lost
        lost = vset(1.0) / sum
        for v in range(whole):
            vstore(out + v * VEC_LANES, vdivide(vload(out + v * VEC_LANES), sum, lost))
        store_part(out + whole * VEC_LANES, vdivide(e, sum, lost), left)
        return
    log_high = vlog1p_parts(sum, lost, vset(1.0) / (sum + 1.0), &log_low)
    if what == LOG_SOFTMAX:
        for v in range(whole):
            vstore(out + v * VEC_LANES, (vload(x + v * VEC_LANES) - m) - log_high)
        store_part(out + whole * VEC_LANES, (last - m) - log_high, left)
    else:
        vadd_exact(&m, &log_low, log_high)
        store_part(out, m + log_low, 1)


cdef int along_axis_pass(int what, const number *x, number *out, Py_ssize_t C, Py_ssize_t inner, Py_ssize_t start,
                         Py_ssize_t stop) noexcept nogil:
    # columns start..stop; -1 without memory
    cdef Py_ssize_t column = start, i, width, widest = inner, merged = entries_merged(inner)
    cdef number *target
    cdef number *memory
    cdef void *base
    cdef int failed = 0
    if (C < LONG_COLUMN and (inner == 1 or inner >= VEC_LANES or C < 32)
            or C < VERY_LONG_COLUMN and inner >= FEW_COLUMNS_):
        return panels(what, x, out, C, inner, start, stop)
    if inner == 1:
        for column in range(start, stop):
            long_row(what, x + column * C, out + (column if what == LOGSUMEXP else column * C), C)
        return 0
    if inner >= FEW_COLUMNS_:
        widest = max(<Py_ssize_t> 32, LONG_BYTES // <Py_ssize_t> sizeof(number) // C // VEC_LANES * VEC_LANES)
    base = malloc(5 * round_up(merged * widest, VEC_LANES) * sizeof(number) + 64)
    if base == NULL:
        return -1
    memory = <number *> ((<size_t> base + 63) // 64 * 64)
    while column < stop and not failed:
        i = column % inner
        width = min(min(inner - i, stop - column), widest)
        target = out + (column if what == LOGSUMEXP else (column - i) * C + i)
        if not long_columns(what, x + (column - i) * C + i, target, C, inner, width, merged, memory):
            failed = panels(what, x, out, C, inner, column, column + width)
        column += width
    free(base)
    return failed


def along_axis(int what, const number[::1] x, number[::1] out, Py_ssize_t C, Py_ssize_t inner, Py_ssize_t start,
               Py_ssize_t stop):
    """Write softmax (`what` is 0), its logarithm (1) or logsumexp (2) of the columns start..stop to `out`.

    `x` is an array of shape (outer, C, inner), flat; `out` likewise, for logsumexp of shape (outer, inner). A column
    is a pair of (outer, inner), its entries x[outer, :, inner]. Where inner is below FEW_COLUMNS start and stop are
    multiples of it.
    """
    cdef int failed
    if C == 0 or stop <= start:
        return
    if x.shape[0] == C and C < LONG_COLUMN:  # one row leaves a panel's other lanes empty: 90 ns, not 700
        long_row(what, &x[0], &out[0], C)
        return
    with nogil:
        failed = along_axis_pass(what, &x[0], &out[0], C, inner, start, stop)
    if failed:
        raise MemoryError(f"no memory for columns of {C} entries")
