# Blocks of X as the tiles take them: rows of `number`s, of one stride.
#
# dense.pxi stands on it. X may have any of the dtypes of KINDS, any strides, and be seen through a shift and a scale; a
# block of it is read in place where it can be, else copied to scratch, so that X is never copied whole.

cdef enum Kind:
    FLOAT64, FLOAT32, FLOAT16, INT64, INT32, INT16, INT8, UINT8

# NumPy's dtype.char -> what the buffer is read as; float16 is handed over as uint16, bool as uint8
KINDS = {"d": FLOAT64, "f": FLOAT32, "e": FLOAT16, "q": INT64, "l": INT64 if sizeof(long) == 8 else INT32, "i": INT32,
         "h": INT16, "b": INT8, "B": UINT8, "?": UINT8}

ctypedef unsigned short ushort   # float16's bits

ctypedef fused element:
    double
    float
    long long
    int
    short
    signed char
    unsigned char
    ushort


cdef struct Source:
    const char *base
    Py_ssize_t n, d
    Py_ssize_t row_stride, column_stride    # bytes
    Kind kind


cdef Source make_source(object X, int kind) except *:
    # X's memory; the caller keeps X alive. Views are typed, so that a buffer of another type is refused.
    cdef Source x
    cdef const double[:, :] float64
    cdef const float[:, :] float32
    cdef const long long[:, :] int64
    cdef const int[:, :] int32
    cdef const short[:, :] int16
    cdef const signed char[:, :] int8
    cdef const unsigned char[:, :] uint8
    cdef const ushort[:, :] uint16
    x.kind = <Kind> kind
    if kind == FLOAT64:
        float64 = X
        fill_source(&x, float64)
    elif kind == FLOAT32:
        float32 = X
        fill_source(&x, float32)
    elif kind == INT64:
        int64 = X
        fill_source(&x, int64)
    elif kind == INT32:
        int32 = X
        fill_source(&x, int32)
    elif kind == INT16:
        int16 = X
        fill_source(&x, int16)
    elif kind == INT8:
        int8 = X
        fill_source(&x, int8)
    elif kind == UINT8:
        uint8 = X
        fill_source(&x, uint8)
    else:
        uint16 = X
        fill_source(&x, uint16)
    return x


cdef inline void fill_source(Source *x, const element[:, :] view) noexcept:
    x.n = view.shape[0]
    x.d = view.shape[1]
    x.row_stride = view.strides[0]
    x.column_stride = view.strides[1]
    x.base = <const char *> &view[0, 0] if x.n > 0 and x.d > 0 else NULL


cdef enum:
    # 128 kB of one block's rows and logits: they are read again in the backward stage, from L2
    BLOCK_BYTES = 131072
    MIN_ROWS = 32   # fewer, and loading and storing the gradient's tiles shows
    MAX_ROWS = 512


cdef struct Layout:
    Py_ssize_t d          # columns of X
    Py_ssize_t p          # parameters of a class: d, or d + 1 with an intercept
    Py_ssize_t n_classes
    Py_ssize_t n_vec      # vectors of classes
    Py_ssize_t unit       # rows come in multiples of it
    Py_ssize_t rows       # rows of a block
    Py_ssize_t ld         # from a class to the next in a block of logits
    Py_ssize_t columns    # columns that the tiles read: at least a vector; also a scratch block's row stride
    Py_ssize_t ldg        # row stride of a gradient: see gradient_place
    Py_ssize_t dot_vecs   # vectors of features where forward takes dot products, else 0
    Py_ssize_t beyond     # rows after a block that the tiles may read a part of, where rows are narrower than a vector
    bint copies           # blocks have to be copied: for the column of ones, or because rows read beyond their end


cdef Layout make_layout(Py_ssize_t n, Py_ssize_t d, bint intercept, Py_ssize_t n_classes, bint ones) noexcept nogil:
    # `ones`: a loaded block has the intercept's column of ones as its last
    cdef Layout s
    cdef Py_ssize_t vecs
    s.d = d
    s.p = d + intercept
    s.n_classes = n_classes
    s.n_vec = round_up(n_classes, VEC_LANES) // VEC_LANES
    s.columns = max(s.p if ones else d, VEC_LANES)
    s.ldg = round_up(s.columns, VEC_LANES)
    s.unit = max(<Py_ssize_t> 8, VEC_LANES)
    s.rows = <Py_ssize_t> (BLOCK_BYTES // sizeof(number)) // (s.columns + n_classes) // s.unit * s.unit
    s.rows = min(max(s.rows, <Py_ssize_t> MIN_ROWS), <Py_ssize_t> MAX_ROWS)
    s.rows = min(s.rows, round_up(n if n > 0 else 1, s.unit))
    # an odd number of cache lines: the classes of a row then lie in all sets of the cache
    s.ld = s.rows
    if s.rows * <Py_ssize_t> sizeof(number) // 64 % 2 == 0:
        s.ld += 64 // <Py_ssize_t> sizeof(number)
    # vector operations for 8 rows: see forward_tile and dot_tile
    vecs = round_up(max(d, VEC_LANES), VEC_LANES) // VEC_LANES
    s.dot_vecs = vecs if n_classes <= 3 and n_classes * (8 * vecs + 21) < 8 * (d + 3) * s.n_vec else 0
    # What follows a row narrower than a vector is read by backward alone, into columns that nobody asks for; dot
    # products would spread its nan. A row of d columns has VEC_LANES - d numbers of others behind it.
    s.copies = s.columns != d and (ones or s.dot_vecs > 0 or d == 0)
    s.beyond = 0 if s.columns == d or d == 0 else (VEC_LANES - 1) // d
    return s


cdef inline Py_ssize_t n_blocks(Py_ssize_t n, const Layout *s) noexcept nogil:
    return (n + s.rows - 1) // s.rows


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
    void *base
    const number *x     # the block that the tiles read, of the row stride ldx: X's own rows or `block`
    Py_ssize_t ldx
    const number *ahead     # the next block's rows in X, where they are contiguous and numbers, or NULL
    number *block       # (rows, columns): a loaded block
    number *a           # (n_vec * VEC_LANES, ld): logits, then residuals, a class after another
    number *mass        # (rows,): weights, or weights times totals; 0 beyond the last row
    number *terms       # (rows,)
    number *own         # (rows,): see label_residuals
    number *top         # (rows,)
    number *rest        # (rows,)
    Py_ssize_t *place   # (rows,): where in `a` the labels' entries are
    number *packed      # the parameters, see pack_classes
    number *more        # what the function asked for, zeroed


cdef inline Py_ssize_t packed_size(const Layout *s) noexcept nogil:
    # in either of the forms of pack_classes
    cdef Py_ssize_t lines = round_up(s.n_classes, VEC_LANES)
    return round_up(lines + max((s.d + 1) * s.n_vec, s.n_classes * s.dot_vecs) * VEC_LANES, VEC_LANES)


cdef object no_memory(const Layout *s):
    return MemoryError(f"no memory for a block of {s.rows} rows with {s.d} columns and {s.n_classes} classes")


cdef Work make_work(const Layout *s, Py_ssize_t more) except *:
    cdef Work w
    if not try_work(&w, s, more):
        raise no_memory(s)
    return w


cdef bint try_work(Work *w, const Layout *s, Py_ssize_t more) noexcept nogil:
    # False without memory; every part begins at a multiple of a vector. Only what is read before it is written
    # is zeroed: a call at 150 x 4 x 3 took 3.1 us with all of it, 3.0 so.
    cdef Py_ssize_t block = round_up(s.rows * s.columns, VEC_LANES), logits = s.n_vec * VEC_LANES * s.ld
    cdef Py_ssize_t places = 2 * s.rows  # a Py_ssize_t is two floats at most
    w.base = malloc((block + logits + 6 * s.rows + places + packed_size(s) + more) * sizeof(number) + 64)
    if w.base == NULL:
        return False
    w.x = w.ahead = NULL  # load_block sets these
    w.ldx = 0
    w.block = <number *> ((<size_t> w.base + 63) // 64 * 64)
    w.a = w.block + block
    w.mass = w.a + logits + s.rows      # a row's entry behind the logits: of a label outside 0..C-1
    w.terms = w.mass + s.rows
    w.own = w.terms + s.rows
    w.top = w.own + s.rows
    w.rest = w.top + s.rows
    w.place = <Py_ssize_t *> (w.rest + s.rows)
    w.packed = w.rest + s.rows + places
    w.more = w.packed + packed_size(s)
    memset(w.more, 0, more * sizeof(number))
    if s.columns > s.d:
        memset(w.block, 0, block * sizeof(number))  # the columns that fill a vector up
    return True


cdef inline number half_value(unsigned short h) noexcept nogil:
    # IEEE half precision: the bits moved to a float's places, times 2^112 for the exponents' other bias
    cdef unsigned int bits = (h & 0x7fffu) << 13
    cdef float value
    memcpy(&value, &bits, 4)
    value *= 5.192296858534828e33
    if h & 0x7c00u == 0x7c00u:  # infinity or nan
        value = INFINITY if bits == 0x7c00u << 13 else NAN
    return -value if h & 0x8000u else value


cdef inline double value_of(element x) noexcept nogil:
    if element is ushort:
        return half_value(x)
    else:
        return x


cdef inline void copy_rows(const element *first, const Source *x, Py_ssize_t start, Py_ssize_t n_rows, const Layout *s,
                           const Extras *e, number *block) noexcept nogil:
    # block[r, i] = (X[start + r, i] - shift[i]) * scale[i]; `first` is NULL and only says what X's elements are
    cdef Py_ssize_t r, i
    cdef const char *base = x.base + start * x.row_stride
    cdef const element *row
    cdef number *out
    if x.column_stride == sizeof(element):
        for r in range(n_rows):
            row = <const element *> (base + r * x.row_stride)
            out = block + r * s.columns
            if e.shift == NULL:
                for i in range(s.d):
                    out[i] = <number> value_of(row[i])
            else:
                for i in range(s.d):
                    out[i] = <number> ((value_of(row[i]) - e.shift[i]) * e.scale[i])
    else:  # columns outside: where X is in Fortran order they are read from front to back
        for i in range(s.d):
            for r in range(n_rows):
                row = <const element *> (base + r * x.row_stride + i * x.column_stride)
                if e.shift == NULL:
                    block[r * s.columns + i] = <number> value_of(row[0])
                else:
                    block[r * s.columns + i] = <number> ((value_of(row[0]) - e.shift[i]) * e.scale[i])


cdef void transpose_rows(const number *x, Py_ssize_t column_stride, Py_ssize_t n_rows, const Layout *s,
                         const Extras *e, number *block) noexcept nogil:
    # copy_rows for columns of contiguous numbers: squares in registers, 0.4 of its time at 70 000 x 784
    cdef vec a[8]
    cdef Py_ssize_t group = 8 if VEC_LANES > 8 else VEC_LANES, i = 0, r, g, block_of_rows
    cdef Py_ssize_t whole = n_rows // VEC_LANES * VEC_LANES if e.shift == NULL or sizeof(number) == 8 else 0
    while i < s.d:
        if i + group <= s.d:
            for block_of_rows in range(whole // VEC_LANES):
                r = block_of_rows * VEC_LANES
                for g in range(8 if VEC_LANES > 8 else VEC_LANES):
                    a[g] = vload(x + (i + g) * column_stride + r)
                    if e.shift != NULL:
                        a[g] = (a[g] - vset(<number> e.shift[i + g])) * vset(<number> e.scale[i + g])
                vstore_columns(block + r * s.columns + i, s.columns, a, 8 if VEC_LANES > 8 else VEC_LANES)
        for g in range(i, min(i + group, s.d)):
            for r in range(whole if i + group <= s.d else 0, n_rows):
                if e.shift == NULL:
                    block[r * s.columns + g] = x[g * column_stride + r]
                else:
                    block[r * s.columns + g] = <number> ((x[g * column_stride + r] - e.shift[g]) * e.scale[g])
        i += group


cdef void load_block(const Source *x, Py_ssize_t start, Py_ssize_t n_rows, const Layout *s, const Extras *e,
                     Work *w) noexcept nogil:
    # Sets w.x and w.ldx: X's own rows where they have the form, else a copy. The tiles read whole units of rows: those
    # beyond the last are zero.
    cdef Kind native = FLOAT64 if sizeof(number) == 8 else FLOAT32
    cdef Py_ssize_t size = sizeof(number)
    cdef bint rows_of_numbers = x.kind == native and x.column_stride == size and x.row_stride % size == 0
    w.ahead = NULL
    if rows_of_numbers and x.row_stride == x.d * size and start + n_rows < x.n:
        w.ahead = <const number *> (x.base + (start + n_rows) * x.row_stride)
    if (rows_of_numbers and not s.copies and n_rows % s.unit == 0 and e.shift == NULL
            and (s.beyond == 0 or (x.row_stride == x.d * size and start + n_rows + s.beyond <= x.n))):
        w.x = <const number *> (x.base + start * x.row_stride)
        w.ldx = x.row_stride // size
        return
    w.x = w.block
    w.ldx = s.columns
    if x.kind == native and x.row_stride == size and x.column_stride != size and x.column_stride % size == 0:
        transpose_rows(<const number *> (x.base + start * size), x.column_stride // size, n_rows, s, e, w.block)
    elif x.kind == FLOAT32:
        copy_rows(<const float *> NULL, x, start, n_rows, s, e, w.block)
    elif sizeof(number) == 4:
        pass  # the modules for float take float32 alone: see samples
    elif x.kind == FLOAT64:
        copy_rows(<const double *> NULL, x, start, n_rows, s, e, w.block)
    elif x.kind == FLOAT16:
        copy_rows(<const unsigned short *> NULL, x, start, n_rows, s, e, w.block)
    elif x.kind == INT64:
        copy_rows(<const long long *> NULL, x, start, n_rows, s, e, w.block)
    elif x.kind == INT32:
        copy_rows(<const int *> NULL, x, start, n_rows, s, e, w.block)
    elif x.kind == INT16:
        copy_rows(<const short *> NULL, x, start, n_rows, s, e, w.block)
    elif x.kind == INT8:
        copy_rows(<const signed char *> NULL, x, start, n_rows, s, e, w.block)
    else:
        copy_rows(<const unsigned char *> NULL, x, start, n_rows, s, e, w.block)
    if n_rows < s.rows:
        memset(w.block + n_rows * s.columns, 0, (s.rows - n_rows) * s.columns * sizeof(number))
