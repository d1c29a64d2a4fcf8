# csoftmax's C functions, for the Cython code of other projects.
#
# Those stand on it. It stands on src/cython_softmax.pyx, which is compiled once and calls the build of the kernels that
# runs on the processor at hand (AVX-512, AVX2 or any x86-64; elsewhere there is one).
#
#     from csoftmax cimport cython_softmax
#
#     def softmax_in_place(double[:, ::1] x):
#         if x.shape[0] and x.shape[1]:
#             with nogil:
#                 cython_softmax.softmax_rows(&x[0, 0], &x[0, 0], x.shape[0], x.shape[1])
#
# softmax(&x[r, 0], &x[r, 0], x.shape[1]) is for one row at a time: on rows of 10 a loop of it takes 4 times as long.
#
# To build: Cython from 3.0 on, and csoftmax, where your extension is compiled (build-system.requires) and where it runs
# (dependencies). Nothing else: no header, no library to link, and your module may be of the limited API or not.
#
# Memory is yours. A function reads and writes the numbers that its comment names, keeps no pointer, and checks none.
# Arrays are contiguous (C order) and as long as said. Outputs overlap neither each other nor an input, unless a comment
# says "in place". Where NULL is allowed the comment says so; of an array without entries the pointer is not followed.
#
# Types. `floating` is float or double, by the pointers of the call, all of one type; labels are int32_t or int64_t of
# libc.stdint. Cast a pointer to another name of the same type: <const int64_t *> &y[0] for NumPy's int64_t, or for
# Py_ssize_t where that has 8 bytes.
#
# Threads. No function needs the GIL or has state: call them from any number of threads, each with outputs of its own.
# They start none.
#
# Failure. What is `noexcept` here needs no memory and cannot fail. The others can raise MemoryError, which Cython hands
# on to your function's caller; in a `noexcept` function of yours it would be printed and lost. Bad numbers give nan: a
# nan, a parameter that is not finite, a label outside 0..n_classes-1 (and nothing out of bounds is read for it).
#
# Versions. A signature changes with the major version alone. Where one did, importing a module that was compiled for
# another raises "TypeError: C function csoftmax.cython_softmax... has wrong signature": compile it again.

from cython cimport floating
from libc.stdint cimport int32_t, int64_t

ctypedef fused label:
    int32_t
    int64_t

# ----------------------------------------------------------------------------------------------------- primitives
# As csoftmax.softmax, log_softmax and logsumexp: one +inf gives the limit; several, a nan, or nothing but -inf, nan.
# (logsumexp of several +inf is inf, of nothing but -inf and of no numbers -inf.)

# out[i] = exp(x[i]) / sum_k exp(x[k]), n numbers each; in place where out is x. Within an ulp of csoftmax.softmax,
# which may add up a short row in another order.
cdef void softmax(const floating *x, floating *out, Py_ssize_t n) noexcept nogil

# out[i] = x[i] - log sum_k exp(x[k]); likewise
cdef void log_softmax(const floating *x, floating *out, Py_ssize_t n) noexcept nogil

# log sum_k exp(x[k])
cdef floating logsumexp(const floating *x, Py_ssize_t n) noexcept nogil

# Each row of x, of shape (n_rows, n): the bits of csoftmax.softmax(x, axis=-1). In place where out is x; for logsumexp
# out has n_rows numbers.
cdef int softmax_rows(const floating *x, floating *out, Py_ssize_t n_rows, Py_ssize_t n) except -1 nogil
cdef int log_softmax_rows(const floating *x, floating *out, Py_ssize_t n_rows, Py_ssize_t n) except -1 nogil
cdef int logsumexp_rows(const floating *x, floating *out, Py_ssize_t n_rows, Py_ssize_t n) except -1 nogil

# ----------------------------------------------------------------------------------------------------- one sample

# log softmax(logits)[y]
cdef double sample_log_likelihood(const floating *logits, Py_ssize_t n_classes, Py_ssize_t y) noexcept nogil

# residual[k] = 1{y = k} - softmax(logits)[k], the derivative by the logits; returns the log-likelihood. In place where
# residual is logits. 1 - softmax[y] keeps its digits where softmax[y] is near 1.
cdef double sample_residual(const floating *logits, Py_ssize_t n_classes, Py_ssize_t y,
                            floating *residual) noexcept nogil

# grad_coef[k, i] = residual[k] x[i] and grad_intercept[k] = residual[k], where the logits are
# intercept[k] + sum_i coef[k, i] x[i]; returns the log-likelihood. x (n_features,), coef and grad_coef (n_classes,
# n_features), intercept (n_classes,) or NULL; grad_intercept (n_classes,) is written to in either case. A logit that is
# not finite makes all of it nan.
cdef double sample_gradient(const floating *x, Py_ssize_t n_features, const floating *coef, const floating *intercept,
                            Py_ssize_t n_classes, Py_ssize_t y, floating *grad_coef,
                            floating *grad_intercept) noexcept nogil

# -------------------------------------------------------------------------------------------------- many samples

# The fused pass. Returns sum_j weight_j log softmax_{y_j}(x~_j), and writes its gradient:
#
#     grad_coef[k, i] = sum_j weight_j (1{y_j = k} - softmax_k(x~_j)) X[j, i],   grad_intercept[k] likewise with 1 for X
#
# X (n_samples, n_features), y (n_samples,); coef (n_classes, n_features) and intercept (n_classes,) or NULL;
# sample_weight (n_samples,) or NULL for ones; grad_coef and grad_intercept, each NULL where it is not wanted. X may be
# float: the arithmetic then is float's within a block of at most 512 rows, with inf or nan beyond its range of 1e38,
# and sums over blocks are double. X is read once and never copied whole.
#
# csoftmax.log_likelihood_and_gradient has the same bits as long as n_samples * (n_features + n_classes) is at most
# 2^17; above that it adds up parts. To do so on threads of your own, call this on ranges of rows, and add up what it
# returns and writes in a fixed order.
cdef double log_likelihood_and_gradient(const floating *X, Py_ssize_t n_samples, Py_ssize_t n_features,
                                        const double *coef, const double *intercept, Py_ssize_t n_classes,
                                        const label *y, const double *sample_weight, double *grad_coef,
                                        double *grad_intercept) except? -1 nogil
