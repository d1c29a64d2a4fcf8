# softmax, log_softmax and logsumexp along an axis.
#
# csoftmax.special stands on it. It stands on simd.h.
#
#     m = max_k x[k],  rest = sum over all but one largest entry of exp(x[k] - m)
#     logsumexp = m + log1p(rest)
#     log_softmax[i] = (x[i] - m) - log1p(rest)
#     softmax[i] = exp(x[i] - m) / (1 + rest)
#
# The largest term stays out of the sum (Blanchard, Higham & Higham 2021, doi:10.1093/imanum/draa038). exp(x[k] - m)
# knows what x[k] - m loses (simd.h's vexp_below), without which a far-off entry of softmax is wrong by up to 475 ulp.
# The sum is carried with its error too, and so is the logarithm where it meets m: plain sums were off by 65 ulp at 1000
# equal terms. softmax needs 1 + rest alone, to which no term is too small to lose digits: its sums begin at 1, which no
# term exceeds, and a term then takes 4 additions instead of 7 and a comparison.
#
# The array is contiguous, of shape (outer, C, inner). A column is one (outer, inner) pair, its entries `inner` apart.
# Columns that lie side by side are worked on where they are, and columns whose entries are neighbours, a row each, too
# if they are long; short rows are transposed to a panel. Each column's result depends on the array's shape and the
# column alone.
#
# nan anywhere gives nan; one +inf is the limit (softmax 1 there, 0 elsewhere), several have none (nan); all -inf
# gives nan, and -inf for logsumexp.

cdef enum:
    SOFTMAX = 0
    LOG_SOFTMAX = 1
    LOGSUMEXP = 2

cdef enum:
    PANEL_BYTES = 8192       # leaves half of the first cache to what is kept of each column and the rows themselves
    L1_BYTES = 16384
    STRIP_BYTES = 262144    # of neighbouring columns at a time: later passes find them in the second cache
    SHORTEST_RUN = 512      # bytes of them side by side
    LINES = 8               # at a time where they are not in the first cache
    LONG_ROW = 32           # entries from which rows are worked on where they are
    FEW_COLUMNS_ = 128
    TIES = 1048576          # float counts ones up to 2^24: they join the sum long before


FEW_COLUMNS = FEW_COLUMNS_


# Where the largest entry is not finite, which entry of the limit is the one that counts:
cdef enum:
    FINITE = -2
    NONE = -1


cdef Py_ssize_t limit_entry(const number *x, Py_ssize_t n, Py_ssize_t stride) noexcept nogil:
    # the only +inf; NONE with a nan, several +inf or none
    cdef Py_ssize_t k, entry = NONE, count = 0
    for k in range(n):
        if x[k * stride] != x[k * stride]:
            return NONE
        if x[k * stride] == INFINITY:
            entry = k
            count += 1
    return entry if count == 1 else NONE


cdef void limit_column(int what, number *out, Py_ssize_t n, Py_ssize_t stride, Py_ssize_t entry) noexcept nogil:
    cdef Py_ssize_t k
    cdef number others = <number> (NAN if entry == NONE else -INFINITY if what == LOG_SOFTMAX else 0.0)
    for k in range(n):
        out[k * stride] = others
    if entry != NONE:
        out[entry * stride] = 0.0 if what == LOG_SOFTMAX else 1.0


cdef number limit_logsumexp(const number *x, Py_ssize_t n, Py_ssize_t stride) noexcept nogil:
    cdef Py_ssize_t k
    cdef number m = <number> -INFINITY
    for k in range(n):
        if x[k * stride] != x[k * stride]:
            return <number> NAN
        m = max(m, x[k * stride])
    return m


cdef inline vec add_exponential(int what, vec x, const top *t, vec *sum, vec *lost, vec *ties) noexcept nogil:
    # exp(x - m). softmax: added to a sum that began at 1; else added unless x is m, which is counted. logsumexp's 2 ulp
    # ask for more digits of it.
    cdef vec e, low
    if what == SOFTMAX:
        e = vexp_below(x, t)
        vadd_smaller(sum, lost, e)
        return e
    ties[0] = vadd_where_equal(ties[0], x, t.m, vset(1.0))
    if what == LOGSUMEXP:
        e = vexp_below_in_parts(x, t, &low)
        lost[0] = lost[0] + low
    else:
        e = vexp_below(x, t)
    vadd_exact(sum, lost, vwhere_differs(x, t.m, e))
    return e


cdef inline number first_sum(int what) noexcept nogil:
    return 1.0 if what == SOFTMAX else 0.0


cdef inline vec finish(int what, vec sum, vec lost, vec more, vec *low) noexcept nogil:
    # What the entries are finished with, in two parts, once `more` is added to the sum: 1 / (1 + rest) or else
    # log1p(rest). `more` is, negative, what the sum began with; else the ties but one.
    vadd_exact(&sum, &lost, more)
    low[0] = vset(0.0)
    vadd_smaller(&sum, low, lost)
    if what == SOFTMAX:
        return vreciprocal_parts(sum, low[0], low)
    return vlog1p_parts(sum, low[0], vset(1.0) / (sum + 1.0), low)


cdef inline vec finished(int what, vec x, vec m, vec high, vec low) noexcept nogil:
    # an entry's result; for softmax x is exp(x - m)
    if what == SOFTMAX:
        return x * high + x * low
    return (x - m) - high


cdef inline vec finished_sum(vec m, vec high, vec low) noexcept nogil:
    vadd_exact(&m, &low, high)
    return m + low


# ----------------------------------------------------------------------------------------------------- columns

cdef struct Columns:
    # `lanes` neighbours in each of `rows` lines, `step` apart. Where `merged` > 1 the lanes i, i + width, i + 2 width
    # ... are parts of column i, and `last` is a line that the C % merged entries left are in, -inf beyond.
    Py_ssize_t C, stride, width, merged, lanes, rows, step, left
    number *maxima
    number *sums        # later what finish returns
    number *lost        # and its lower part
    number *ties
    number *last
    top *tops           # a vector's each
    Py_ssize_t *limits


cdef Py_ssize_t columns_memory(Py_ssize_t lanes) noexcept nogil:
    # bytes for so many lanes
    cdef Py_ssize_t size = round_up(lanes, VEC_LANES)
    return 5 * size * sizeof(number) + size // VEC_LANES * sizeof(top) + lanes * sizeof(Py_ssize_t) + 64


cdef Columns make_columns(Py_ssize_t C, Py_ssize_t stride, Py_ssize_t width, Py_ssize_t merged,
                          void *memory) noexcept nogil:
    cdef Columns s
    cdef Py_ssize_t size = round_up(merged * width, VEC_LANES)
    s.C = C
    s.stride = stride
    s.width = width
    s.merged = merged
    s.lanes = merged * width
    s.rows = C // merged
    s.step = stride * merged
    s.left = (C - s.rows * merged) * width
    s.maxima = <number *> ((<size_t> memory + 63) // 64 * 64)
    s.sums = s.maxima + size
    s.lost = s.sums + size
    s.ties = s.lost + size
    s.last = s.ties + size
    s.tops = <top *> (s.last + size)
    s.limits = <Py_ssize_t *> (s.tops + size // VEC_LANES)
    return s


cdef inline void vector_maxima(const number *x, Py_ssize_t step, Py_ssize_t rows, Py_ssize_t i, Py_ssize_t n,
                               Columns *s) noexcept nogil:
    # of the lanes i .. i + n, at most a vector, of so many lines
    cdef Py_ssize_t r
    cdef vec m = vload(s.maxima + i)
    for r in range(rows):
        m = vmax(vload_part(x + r * step + i, n, m), m)
    vstore(s.maxima + i, m)


# FOURS, where lines do not stay in the first cache: four are read before one is written. Where they lie a multiple of
# 4096 bytes apart a line's reading otherwise waits for the writing of the one before, which has the same lower bits of
# address: at 32 x 8192 softmax of float took 0.57 ns a number, 0.41 so.

cdef inline void vector_sums(int what, bint FOURS, const number *x, number *out, Py_ssize_t step, Py_ssize_t rows,
                             Py_ssize_t i, Py_ssize_t n, Columns *s) noexcept nogil:
    cdef Py_ssize_t r = 0, j
    cdef vec e, sum = vload(s.sums + i), lost = vload(s.lost + i), ties = vload(s.ties + i)
    cdef vec a[4]
    cdef top t = s.tops[i // VEC_LANES]
    while FOURS and r + 4 <= rows:
        for j in range(4):
            a[j] = vload_part(x + (r + j) * step + i, n, t.m)
        for j in range(4):
            a[j] = add_exponential(what, a[j], &t, &sum, &lost, &ties)
        if what == SOFTMAX:
            for j in range(4):
                vstore_part(out + (r + j) * step + i, a[j], n)
        r += 4
    for r in range(r, rows):
        e = add_exponential(what, vload_part(x + r * step + i, n, t.m), &t, &sum, &lost, &ties)
        if what == SOFTMAX:
            vstore_part(out + r * step + i, e, n)
    vstore(s.sums + i, sum)
    vstore(s.lost + i, lost)
    vstore(s.ties + i, ties)


cdef inline void vector_results(int what, bint FOURS, const number *x, number *out, Py_ssize_t step, Py_ssize_t rows,
                                Py_ssize_t i, Py_ssize_t n, Columns *s) noexcept nogil:
    cdef Py_ssize_t r = 0, j
    cdef vec m = vload(s.maxima + i), high = vload(s.sums + i), low = vload(s.lost + i)
    cdef vec a[4]
    while FOURS and r + 4 <= rows:
        for j in range(4):
            a[j] = vload_part(x + (r + j) * step + i, n, m)
        for j in range(4):
            vstore_part(out + (r + j) * step + i, finished(what, a[j], m, high, low), n)
        r += 4
    for r in range(r, rows):
        vstore_part(out + r * step + i, finished(what, vload_part(x + r * step + i, n, m), m, high, low), n)


cdef inline void lines_maxima(const number *x, Py_ssize_t step, Py_ssize_t rows, Columns *s) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i + VEC_LANES <= s.lanes:
        vector_maxima(x, step, rows, i, VEC_LANES, s)
        i += VEC_LANES
    if i < s.lanes:
        vector_maxima(x, step, rows, i, s.lanes - i, s)


cdef inline void lines_sums(int what, bint FOURS, const number *x, number *out, Py_ssize_t step, Py_ssize_t rows,
                            Columns *s) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i + VEC_LANES <= s.lanes:
        vector_sums(what, FOURS, x, out, step, rows, i, VEC_LANES, s)
        i += VEC_LANES
    if i < s.lanes:
        vector_sums(what, FOURS, x, out, step, rows, i, s.lanes - i, s)


cdef inline void lines_results(int what, bint FOURS, const number *x, number *out, Py_ssize_t step, Py_ssize_t rows,
                               Columns *s) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i + VEC_LANES <= s.lanes:
        vector_results(what, FOURS, x, out, step, rows, i, VEC_LANES, s)
        i += VEC_LANES
    if i < s.lanes:
        vector_results(what, FOURS, x, out, step, rows, i, s.lanes - i, s)


cdef bint merge_maxima(const number *x, Columns *s) noexcept nogil:
    # the columns' maxima, in each lane; 0 where they are not finite, and then s.limits. Whether there are such.
    cdef Py_ssize_t i, j, half = s.merged // 2
    cdef bint limits = False
    cdef number m
    while half > 0:
        for i in range(half * s.width):
            m = s.maxima[i + half * s.width]
            s.maxima[i] = m if m > s.maxima[i] else s.maxima[i]
        half //= 2
    m = 0.0
    for i in range(s.width):
        m += s.maxima[i] - s.maxima[i]
    if m != 0.0:
        limits = True
        for i in range(s.width):
            s.limits[i] = FINITE
            if s.maxima[i] - s.maxima[i] != 0.0:
                s.limits[i] = limit_entry(x + i, s.C, s.stride)
                s.maxima[i] = 0.0
    for j in range(1, s.merged):
        memcpy(s.maxima + j * s.width, s.maxima, s.width * sizeof(number))
    for i in range(s.lanes, round_up(s.lanes, VEC_LANES)):
        s.maxima[i] = 0.0
    return limits


cdef void merge_sums(int what, Columns *s, number *out) noexcept nogil:
    # what finish returns, in each lane; `out` gets the logsumexp
    cdef Py_ssize_t i = 0, j, half = s.merged // 2
    cdef number t, z
    cdef vec high, low
    while half > 0:
        for i in range(half * s.width):
            j = i + half * s.width
            t = s.sums[i] + s.sums[j]
            z = t - s.sums[i]
            s.lost[i] = s.lost[i] + s.lost[j] + ((s.sums[i] - (t - z)) + (s.sums[j] - z))
            s.sums[i] = t
            s.ties[i] = s.ties[i] + s.ties[j]
        half //= 2
    i = 0
    while i < s.width:
        high = vset(<number> -s.merged) if what == SOFTMAX else vload(s.ties + i) - 1.0
        high = finish(what, vload(s.sums + i), vload(s.lost + i), high, &low)
        vstore(s.sums + i, high)
        vstore(s.lost + i, low)
        if what == LOGSUMEXP:
            vstore_part(out + i, finished_sum(vload(s.maxima + i), high, low), s.width - i)
        i += VEC_LANES
    for j in range(1, s.merged):
        memcpy(s.sums + j * s.width, s.sums, s.width * sizeof(number))
        memcpy(s.lost + j * s.width, s.lost, s.width * sizeof(number))


cdef inline void columns(int what, const number *x, number *out, Columns *s) noexcept nogil:
    # x and out may be the same
    cdef Py_ssize_t r, i, v, size = round_up(s.lanes, VEC_LANES), block = LINES
    cdef bint limits
    cdef const number *source = x
    cdef vec sum, lost
    if what == SOFTMAX:
        source = out
    if s.rows * s.lanes * <Py_ssize_t> sizeof(number) <= L1_BYTES:
        block = s.rows
    elif s.step * <Py_ssize_t> sizeof(number) % 4096 == 0:
        block = LINES // 2  # all lines, x's and out's, go to one set of the first cache, and it has 8 places
    for i in range(size):
        s.maxima[i] = <number> -INFINITY
        s.sums[i] = first_sum(what)
        s.lost[i] = 0.0
        s.ties[i] = 0.0
        s.last[i] = x[s.rows * s.step + i] if i < s.left else <number> -INFINITY
    r = 0
    while r < s.rows:
        lines_maxima(x + r * s.step, s.step, min(block, s.rows - r), s)
        r += block
    if s.left > 0:
        lines_maxima(s.last, 0, 1, s)
    limits = merge_maxima(x, s)
    for i in range(size // VEC_LANES):
        s.tops[i] = vtop(vload(s.maxima + i * VEC_LANES))
    r = 0
    while r < s.rows:
        if block == s.rows:
            lines_sums(what, False, x, out, s.step, s.rows, s)
        else:
            lines_sums(what, True, x + r * s.step, out + r * s.step, s.step, min(block, s.rows - r), s)
        r += block
        if r % TIES == 0 and what != SOFTMAX:
            for v in range(size // VEC_LANES):
                i = v * VEC_LANES
                sum = vload(s.sums + i)
                lost = vload(s.lost + i)
                vadd_exact(&sum, &lost, vload(s.ties + i))
                vstore(s.sums + i, sum)
                vstore(s.lost + i, lost)
                vstore(s.ties + i, vset(0.0))
    if s.left > 0:
        lines_sums(what, False, s.last, s.last, 0, 1, s)
    merge_sums(what, s, out)
    if what != LOGSUMEXP:
        r = 0
        while r < s.rows:
            if block == s.rows:
                lines_results(what, False, source, out, s.step, s.rows, s)
            else:
                lines_results(what, True, source + r * s.step, out + r * s.step, s.step, min(block, s.rows - r), s)
            r += block
        if s.left > 0:
            lines_results(what, False, s.last, s.last, 0, 1, s)
            memcpy(out + s.rows * s.step, s.last, s.left * sizeof(number))
    if limits:
        for i in range(s.width):
            if s.limits[i] != FINITE:
                if what == LOGSUMEXP:
                    out[i] = limit_logsumexp(x + i, s.C, s.stride)
                else:
                    limit_column(what, out + i, s.C, s.stride, s.limits[i])


cdef void columns_of(int what, const number *x, number *out, Columns *s) noexcept nogil:
    # each loop without the others' branches
    if what == SOFTMAX:
        columns(SOFTMAX, x, out, s)
    elif what == LOG_SOFTMAX:
        columns(LOG_SOFTMAX, x, out, s)
    else:
        columns(LOGSUMEXP, x, out, s)


cdef int side_by_side(int what, const number *x, number *out, Py_ssize_t C, Py_ssize_t inner, Py_ssize_t start,
                      Py_ssize_t stop) noexcept nogil:
    # inner > 1; -1 without memory
    cdef Py_ssize_t column = start, i, width, widest = inner, merged = 1
    cdef void *memory
    cdef Columns s
    if inner < FEW_COLUMNS_:  # entries side by side, whole vectors of them; a power of two
        while merged * inner % VEC_LANES != 0 or merged * inner < 2 * VEC_LANES:
            merged *= 2
    else:
        widest = STRIP_BYTES // <Py_ssize_t> sizeof(number) // C // VEC_LANES * VEC_LANES
        widest = min(max(widest, SHORTEST_RUN // <Py_ssize_t> sizeof(number)), inner)
    memory = malloc(columns_memory(merged * widest))
    if memory == NULL:
        return -1
    while column < stop:
        i = column % inner
        width = min(min(inner - i, stop - column), widest)
        s = make_columns(C, inner, width, merged, memory)
        columns_of(what, x + (column - i) * C + i, out + (column if what == LOGSUMEXP else (column - i) * C + i), &s)
        column += width
    free(memory)
    return 0


# -------------------------------------------------------------------------------------------------- short rows

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
    elif VEC_LANES > 8 and C >= 8:
        while j + VEC_LANES <= n:
            for block in range((C + 7) // 8):
                k = min(block * 8, C - 8)
                for g in range(8):
                    a[g] = vload_halves(x + (j + g) * C + k, x + (j + 8 + g) * C + k)
                vtranspose(a, 8)
                for g in range(8):
                    vstore(panel + (k + g) * ld + j, a[g])
            j += VEC_LANES
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


cdef int short_rows(int what, const number *x, number *out, Py_ssize_t C, Py_ssize_t start,
                    Py_ssize_t stop) noexcept nogil:
    # by panels, the rows' transposes; -1 without memory
    cdef Py_ssize_t ld = PANEL_BYTES // <Py_ssize_t> sizeof(number) // C // VEC_LANES * VEC_LANES, row = start, n
    cdef Columns s
    ld = min(max(ld, <Py_ssize_t> VEC_LANES), round_up(stop - start, VEC_LANES))
    cdef void *base = malloc(C * ld * sizeof(number) + 64 + columns_memory(ld))
    if base == NULL:
        return -1
    cdef number *panel = <number *> ((<size_t> base + 63) // 64 * 64)
    while row < stop:
        n = min(ld, stop - row)
        load_rows(x + row * C, C, n, panel, ld)
        s = make_columns(C, ld, n, 1, panel + C * ld)
        columns_of(what, panel, out + row if what == LOGSUMEXP else panel, &s)
        if what != LOGSUMEXP:
            store_rows(panel, C, n, out + row * C, ld)
        row += n
    free(base)
    return 0


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


cdef inline vec row_maxima(const number *x, Py_ssize_t C) noexcept nogil:
    cdef Py_ssize_t k = 0
    cdef vec a = vset(<number> -INFINITY), b = a
    while k + 2 * VEC_LANES <= C:
        a = vmax(vload(x + k), a)
        b = vmax(vload(x + k + VEC_LANES), b)
        k += 2 * VEC_LANES
    while k < C:
        a = vmax(vload_part(x + k, C - k, a), a)
        k += VEC_LANES
    return vmax(a, b)


cdef inline void row_accumulated(int what, const number *x, number *out, Py_ssize_t C, number maximum, vec *sum,
                                 vec *lost, vec *ties) noexcept nogil:
    # The accumulators of one row, in lanes; for softmax out gets exp(x - m). The lanes that fill up the last vector
    # hold the maximum: its exponential needs no branch.
    cdef Py_ssize_t k = 0
    cdef vec e
    cdef top t = vtop(vset(maximum))
    sum[0] = vset(first_sum(what))
    lost[0] = vset(0.0)
    ties[0] = vset(0.0)
    while k + VEC_LANES <= C:
        e = add_exponential(what, vload(x + k), &t, sum, lost, ties)
        if what == SOFTMAX:
            vstore(out + k, e)
        k += VEC_LANES
        if what != SOFTMAX and k % (TIES * VEC_LANES) == 0:
            vadd_exact(sum, lost, ties[0])
            ties[0] = vset(0.0)
    if k < C:
        e = add_exponential(what, vload_part(x + k, C - k, t.m), &t, sum, lost, ties)
        if what == SOFTMAX:
            vstore_part(out + k, e, C - k)


cdef inline number row_excess(int what, Py_ssize_t C) noexcept nogil:
    # what the sum, or the ties, have too much: the lanes that fill up, what the lanes began with, the largest entry
    cdef Py_ssize_t filled = round_up(C, VEC_LANES) - C
    return <number> (filled + (VEC_LANES if what == SOFTMAX else 1))


cdef inline void row_finished(int what, const number *x, number *out, Py_ssize_t C, number maximum, number high,
                              number low) noexcept nogil:
    cdef Py_ssize_t k = 0
    cdef const number *source = x
    cdef vec m = vset(maximum), highs = vset(high), lows = vset(low)
    if what == SOFTMAX:
        source = out
    while k + VEC_LANES <= C:
        vstore(out + k, finished(what, vload(source + k), m, highs, lows))
        k += VEC_LANES
    if k < C:
        vstore_part(out + k, finished(what, vload_part(source + k, C - k, m), m, highs, lows), C - k)


cdef void limit_row(int what, const number *x, number *out, Py_ssize_t C) noexcept nogil:
    if what == LOGSUMEXP:
        out[0] = limit_logsumexp(x, C, 1)
    else:
        limit_column(what, out, C, 1, limit_entry(x, C, 1))


cdef inline void one_row(int what, const number *x, number *out, Py_ssize_t C) noexcept nogil:
    cdef number low, sum, m = vmaximum(row_maxima(x, C))
    cdef vec sums, lost, ties, high, more
    if m - m != 0.0:
        limit_row(what, x, out, C)
        return
    row_accumulated(what, x, out, C, m, &sums, &lost, &ties)
    sum = add_lanes(sums, lost, &low)
    more = vset(<number> ((0.0 if what == SOFTMAX else vsum(ties)) - row_excess(what, C)))
    high = finish(what, vset(sum), vset(low), more, &lost)
    if what == LOGSUMEXP:
        out[0] = vfirst(finished_sum(vset(m), high, lost))
    else:
        row_finished(what, x, out, C, m, vfirst(high), vfirst(lost))


cdef void long_row(int what, const number *x, number *out, Py_ssize_t C) noexcept nogil:
    # One column whose entries are neighbours. x and out may be the same row; out is one number for logsumexp.
    if what == SOFTMAX:
        one_row(SOFTMAX, x, out, C)
    elif what == LOG_SOFTMAX:
        one_row(LOG_SOFTMAX, x, out, C)
    else:
        one_row(LOGSUMEXP, x, out, C)


cdef inline void vector_of_rows(int what, const number *x, number *out, Py_ssize_t C) noexcept nogil:
    # VEC_LANES rows as one_row has them, to the bit, but their lanes are added and their logarithms taken together
    cdef Py_ssize_t j, i, half
    cdef number maxima[16]
    cdef number highs[16]
    cdef number lows[16]
    cdef vec sums[16]
    cdef vec lost[16]
    cdef vec ties[16]
    cdef number columns[3 * 256]
    cdef vec high, more
    for j in range(VEC_LANES):
        maxima[j] = vmaximum(row_maxima(x + j * C, C))
        if maxima[j] - maxima[j] != 0.0:  # seldom: each for itself
            for j in range(VEC_LANES):
                one_row(what, x + j * C, out + (j if what == LOGSUMEXP else j * C), C)
            return
    for j in range(VEC_LANES):
        row_accumulated(what, x + j * C, out + j * C, C, maxima[j], &sums[j], &lost[j], &ties[j])
    for j in range(VEC_LANES // (8 if VEC_LANES > 8 else VEC_LANES)):
        vstore_columns(columns + 8 * j, VEC_LANES, sums + 8 * j, 8 if VEC_LANES > 8 else VEC_LANES)
        vstore_columns(columns + 256 + 8 * j, VEC_LANES, lost + 8 * j, 8 if VEC_LANES > 8 else VEC_LANES)
        if what != SOFTMAX:
            vstore_columns(columns + 512 + 8 * j, VEC_LANES, ties + 8 * j, 8 if VEC_LANES > 8 else VEC_LANES)
    for i in range(VEC_LANES):
        sums[i] = vload(columns + i * VEC_LANES)
        lost[i] = vload(columns + 256 + i * VEC_LANES)
        ties[i] = vset(0.0) if what == SOFTMAX else vload(columns + 512 + i * VEC_LANES)
    half = VEC_LANES // 2
    while half > 0:
        for i in range(half):
            lost[i] = lost[i] + lost[i + half]
            vadd_exact(&sums[i], &lost[i], sums[i + half])
            ties[i] = ties[i] + ties[i + half]
        half //= 2
    high = finish(what, sums[0], lost[0], ties[0] - row_excess(what, C), &more)
    if what == LOGSUMEXP:
        vstore(out, finished_sum(vload(maxima), high, more))
        return
    vstore(highs, high)
    vstore(lows, more)
    for j in range(VEC_LANES):
        row_finished(what, x + j * C, out + j * C, C, maxima[j], highs[j], lows[j])


cdef inline void rows_where_they_are(int what, const number *x, number *out, Py_ssize_t C, Py_ssize_t start,
                                     Py_ssize_t stop) noexcept nogil:
    cdef Py_ssize_t row = start, size = 1 if what == LOGSUMEXP else C
    if VEC_LANES * C * <Py_ssize_t> sizeof(number) <= STRIP_BYTES:
        while row + VEC_LANES <= stop:
            vector_of_rows(what, x + row * C, out + row * size, C)
            row += VEC_LANES
    while row < stop:
        one_row(what, x + row * C, out + row * size, C)
        row += 1


# -------------------------------------------------------------------------------------- rows of 2 to 4 entries

cdef inline void few_entries(int what, const number *x, number *out, Py_ssize_t C, Py_ssize_t start,
                             Py_ssize_t stop) noexcept nogil:
    # rows of 2 to 4 entries (a literal): a vector of rows is transposed in registers
    cdef Py_ssize_t row = start, k, j, n, size = 1 if what == LOGSUMEXP else C
    cdef number part[4 * 16]
    cdef number maxima[16]
    cdef const number *source
    cdef bint finite
    cdef vec a[4]
    cdef vec m, sum, lost, ties, high, low
    cdef top t
    while row < stop:
        n = min(stop - row, <Py_ssize_t> VEC_LANES)
        source = x + row * C
        if n < VEC_LANES:
            memset(part, 0, C * VEC_LANES * sizeof(number))
            memcpy(part, source, n * C * sizeof(number))
            source = part
        for k in range(C):
            a[k] = vload(source + k * VEC_LANES)
        vfrom_rows(a, C)
        m = a[0]
        for k in range(1, C):
            m = vmax(a[k], m)
        finite = vall_finite(m)
        if not finite:
            vstore(maxima, m)
            memmove(part, source, C * VEC_LANES * sizeof(number))
            m = vwhere_finite(m, m)
        t = vtop(m)
        sum = vset(first_sum(what))
        lost = vset(0.0)
        ties = vset(0.0)
        for k in range(C):
            high = add_exponential(what, a[k], &t, &sum, &lost, &ties)
            if what == SOFTMAX:
                a[k] = high
        high = finish(what, sum, lost, ties - 1.0, &low)
        if what == LOGSUMEXP:
            vstore_part(out + row, finished_sum(m, high, low), n)
        else:
            for k in range(C):
                a[k] = finished(what, a[k], m, high, low)
            vto_rows(a, C)
            for k in range(C):
                j = n * C - k * VEC_LANES
                if j > 0:
                    vstore_part(out + row * C + k * VEC_LANES, a[k], j)
        if not finite:
            for j in range(n):
                if maxima[j] - maxima[j] != 0.0:
                    limit_row(what, part + j * C, out + (row + j) * size, C)
        row += n


cdef inline int rows_of(int what, const number *x, number *out, Py_ssize_t C, Py_ssize_t start,
                        Py_ssize_t stop) noexcept nogil:
    # -1 without memory
    if C == 2:
        few_entries(what, x, out, 2, start, stop)
    elif C == 3:
        few_entries(what, x, out, 3, start, stop)
    elif C == 4:
        few_entries(what, x, out, 4, start, stop)
    elif C < LONG_ROW:
        return short_rows(what, x, out, C, start, stop)
    else:
        rows_where_they_are(what, x, out, C, start, stop)
    return 0


cdef int along_axis_pass(int what, const number *x, number *out, Py_ssize_t C, Py_ssize_t inner, Py_ssize_t start,
                         Py_ssize_t stop) noexcept nogil:
    # columns start..stop; -1 without memory
    if inner > 1:
        return side_by_side(what, x, out, C, inner, start, stop)
    if what == SOFTMAX:
        return rows_of(SOFTMAX, x, out, C, start, stop)
    if what == LOG_SOFTMAX:
        return rows_of(LOG_SOFTMAX, x, out, C, start, stop)
    return rows_of(LOGSUMEXP, x, out, C, start, stop)


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
    with nogil:
        if x.shape[0] == C and inner == 1:  # what follows is for many columns
            failed = 0
            long_row(what, &x[0], &out[0], C)
        else:
            failed = along_axis_pass(what, &x[0], &out[0], C, inner, start, stop)
    if failed:
        raise MemoryError(f"no memory for columns of {C} entries")
