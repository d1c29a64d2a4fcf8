# The mean loss of a small problem by the metric's coordinates, its gradient and its Hessian, each in one call.
#
# csoftmax.samples stands on it; in the modules for double alone. It stands on dense.pxi, hessian.pxi and small.pxi.
#
# Where a table is small what stands around its kernels takes longer than they do: of iris, whose gradient is 3 us and
# whose Hessian 6, NumPy's calls made 13 and 25. Here the rows are z_j = T' x~_j, in memory, so that with Q Helmert's
# basis (csoftmax.metric), W the total mass and P the mean penalty's Hessian
#
#     loss(u) = -L(Q U; z) / W + u'P u / 2,    U the rows of u
#
# and nothing but Q stands between u and the kernels: the sums over k below, no matrix.

from libc.math cimport sqrt


cdef void helmert(const double *u, Py_ssize_t C, Py_ssize_t q, double *rows) noexcept nogil:
    # rows = Q u: (C - 1, q) -> (C, q); row i is sum_{k > i} u_k / sqrt(k (k + 1)) - i u_i / sqrt(i (i + 1)), k from 1
    cdef Py_ssize_t k, i
    cdef double share, x
    for i in range(q):
        rows[i] = 0.0
    for k in range(1, C):
        share = 1.0 / sqrt(<double> k * (k + 1))
        for i in range(q):
            rows[k * q + i] = -share * k * u[(k - 1) * q + i]
    for k in range(C - 1, 0, -1):  # row 0 is the sum of those behind
        share = 1.0 / sqrt(<double> k * (k + 1))
        for i in range(q):
            x = rows[i]
            rows[k * q + i] += x
            rows[i] = x + share * u[(k - 1) * q + i]


cdef void helmert_adjoint(double *rows, Py_ssize_t C, Py_ssize_t size, double *sums) noexcept nogil:
    # Q' rows in place of the first C - 1 of C rows; `sums` has room for one
    cdef Py_ssize_t k, i
    cdef double share
    for i in range(size):
        sums[i] = 0.0
    for k in range(1, C):
        share = 1.0 / sqrt(<double> k * (k + 1))
        for i in range(size):
            sums[i] += rows[(k - 1) * size + i]
            rows[(k - 1) * size + i] = share * (sums[i] - k * rows[k * size + i])


cdef class WholeLoss:
    """The mean loss of rows z by u of shape ((C - 1) q,).

    z is (n, q), C-contiguous; codes, counts, weights and offset are the kernels'; `mass` (n,) are the rows' weights
    times counts, or None; `penalty` is P, or the block that stands on its diagonal for each row of u, or None.

    Threads may share it: it keeps nothing of a call.
    """

    cdef Source x
    cdef Layout s
    cdef Extras e
    cdef object kept            # whose memory the above point into
    cdef const double *mass
    cdef const double *penalty
    cdef double total_mass
    cdef Py_ssize_t C, q, m
    cdef Py_ssize_t size        # of the penalty's blocks: q, or m

    def __cinit__(self, const double[:, ::1] z not None, Py_ssize_t n_classes, object codes,
                  const double[:, ::1] counts, const double[::1] weights, const double[:, ::1] offset,
                  const double[::1] mass, double total_mass, const double[:, ::1] penalty):
        cdef Py_ssize_t C = n_classes, q = z.shape[1]
        self.kept = z, codes, counts, weights, offset, mass, penalty
        self.x = make_source(z, FLOAT64)
        self.s = make_layout(self.x.n, q, False, C, False)
        self.e = make_extras(self.x.n, None, None, codes, counts, weights, offset)
        self.mass = &mass[0] if mass is not None and self.x.n > 0 else NULL
        self.penalty = &penalty[0, 0] if penalty is not None and penalty.shape[0] > 0 else NULL
        self.total_mass = total_mass
        self.C, self.q, self.m = C, q, (C - 1) * q
        self.size = penalty.shape[0] if penalty is not None else self.m

    cdef Parameters by_rows(self, const double *u, double *rows) noexcept nogil:
        # rows: (C, q)
        helmert(u, self.C, self.q, rows)
        return Parameters(rows, NULL, self.q, self.q)

    cdef double *scratch(self, Py_ssize_t size) except NULL:
        cdef double *memory = <double *> malloc((size + 1) * sizeof(double))
        if memory == NULL:
            raise no_memory(&self.s)
        return memory

    cdef const double *checked(self, const double[::1] u) except? NULL:
        if u.shape[0] != self.m:
            raise ValueError(f"u has {u.shape[0]} entries; {self.m} are wanted")
        return &u[0] if self.m > 0 else NULL

    def loss_and_gradient(self, const double[::1] u not None):
        """Return the mean loss and its gradient, of shape ((C - 1) q,)."""
        cdef const double *at = self.checked(u)
        cdef object gradient = empty(self.m)
        cdef double[::1] out = gradient
        cdef double *rows = self.scratch((2 * self.C + 1) * self.q)
        cdef double *pulled = rows + self.C * self.q            # (C, q): the gradient by rows
        cdef Parameters params, pull = Parameters(pulled, NULL, self.q, self.q)
        cdef double total = 0.0, value, shrink
        cdef Py_ssize_t i, k, first
        cdef bint done
        with nogil:
            params = self.by_rows(at, rows)
            done = fused_pass(&self.x, &self.s, &self.e, &params, &total, &pull)
            value = -total / self.total_mass
            helmert_adjoint(pulled, self.C, self.q, pulled + self.C * self.q)
            for i in range(self.m):
                out[i] = pulled[i] / -self.total_mass
            if self.penalty != NULL:
                total = 0.0
                for i in range(self.m):
                    shrink = 0.0
                    first = i // self.size * self.size
                    for k in range(self.size):
                        shrink += self.penalty[(i - first) * self.size + k] * at[first + k]
                    out[i] += shrink
                    total += shrink * at[i]
                value += 0.5 * total
            free(rows)
        if not done:
            raise no_memory(&self.s)
        return value, gradient

    def hessian(self, const double[::1] u not None, const double[::1] mass):
        """Return the mean loss's Hessian; `mass` of shape (n,), if any, takes the place of the rows' own."""
        cdef const double *at = self.checked(u)
        cdef object hessian = empty((self.m, self.m))
        cdef double[:, ::1] out = hessian
        cdef Extras e = self.e
        cdef Parameters params
        cdef double *rows
        cdef double *pairs                                      # (C (C - 1) / 2, q, q)
        cdef Py_ssize_t n_pairs = self.C * (self.C - 1) // 2
        cdef bint done
        if mass is not None and mass.shape[0] != self.x.n:
            raise ValueError(f"mass has {mass.shape[0]} entries; {self.x.n} are wanted")
        if mass is not None:
            e.counts = NULL
            e.weights = &mass[0] if self.x.n > 0 else NULL
        if self.m == 0:
            return hessian
        rows = self.scratch(self.C * self.q + (n_pairs + self.C * (self.C + 1)) * self.q * self.q)
        pairs = rows + self.C * self.q
        with nogil:
            params = self.by_rows(at, rows)
            done = hessian_pass(&self.x, False, self.C, &e, &params, pairs)
            if done:
                self.store_hessian(pairs, pairs + n_pairs * self.q * self.q, &out[0, 0])
            free(rows)
        if not done:
            raise no_memory(&self.s)
        return hessian

    cdef void store_hessian(self, const double *pair, double *blocks, double *out) noexcept nogil:
        # Q' B Q / W + P, B the blocks of all classes, whose rows sum to 0; blocks: (C, C, q, q), and (C, q, q) for sums
        cdef Py_ssize_t C = self.C, q = self.q, m = self.m, size = q * q, i, k, a, b, j
        cdef double *sums = blocks + C * C * size
        cdef double *one
        cdef double *other
        cdef double x
        memset(blocks, 0, C * C * size * sizeof(double))
        for i in range(C):
            for k in range(i + 1, C):
                one = blocks + (i * C + k) * size
                other = blocks + (k * C + i) * size
                for j in range(size):
                    x = pair[j] / self.total_mass
                    one[j] = other[j] = -x
                    blocks[i * (C + 1) * size + j] += x
                    blocks[k * (C + 1) * size + j] += x
                pair += size
        helmert_adjoint(blocks, C, C * size, sums)
        for a in range(C - 1):
            helmert_adjoint(blocks + a * C * size, C, size, sums)
            for b in range(a, C - 1):
                one = blocks + (a * C + b) * size
                for i in range(q):
                    for k in range(q):
                        x = one[i * q + k]
                        if self.penalty != NULL and self.size == m:
                            x += self.penalty[(a * q + i) * m + b * q + k]
                        elif self.penalty != NULL and a == b:
                            x += self.penalty[i * q + k]
                        out[(a * q + i) * m + b * q + k] = out[(b * q + k) * m + a * q + i] = x

    def logit_range(self, const double[::1] v not None):
        """Return the largest range over classes of a row's change of logits along v, over rows of positive mass."""
        cdef Extras none = make_extras(0, None, None, None, None, None, None)
        cdef const double *along = self.checked(v)
        cdef Parameters params
        cdef Work w = make_work(&self.s, self.C * self.q)
        cdef Py_ssize_t b, r, n_rows
        cdef double largest = 0.0
        with nogil:
            params = self.by_rows(along, w.more)
            pack_classes(&params, &self.s, w.packed)
            for b in range(n_blocks(self.x.n, &self.s)):
                n_rows = load_logits(&self.x, b * self.s.rows, &self.s, &none, &w)
                logit_ranges(w.a, round_up(n_rows, self.s.unit), &self.s, w.terms)
                for r in range(n_rows):
                    if self.mass == NULL or self.mass[b * self.s.rows + r] > 0.0:
                        if not (w.terms[r] <= largest or largest != largest):  # a nan stays
                            largest = w.terms[r]
            free(w.base)
        return largest

    def largest_square(self):
        """Return the largest |z_j|^2 over rows of positive mass."""
        cdef const double *z = <const double *> self.x.base
        cdef double largest = 0.0, square
        cdef Py_ssize_t r, i
        for r in range(self.x.n if self.q > 0 else 0):
            square = 0.0
            for i in range(self.q):
                square += z[r * self.q + i] * z[r * self.q + i]
            if square > largest and (self.mass == NULL or self.mass[r] > 0.0):
                largest = square
        return largest
