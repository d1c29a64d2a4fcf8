# One source of all kernels: each kernels_* stub includes this file and is compiled for one level of processor, and for
# double or for float.
#
# csoftmax._dispatch chooses among the stubs' modules. It stands on simd.h.

from libc.math cimport INFINITY, NAN
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove, memset

cdef extern from "simd.h" nogil:
    ctypedef double number "number_t"   # double, or float in the modules for it
    ctypedef double vec "vec_t"         # to Cython a double: its arithmetic compiles to the vector's
    const Py_ssize_t VEC_LANES, FORWARD_ROWS, FORWARD_VECS, DOT_ROWS, OUTER_CLASSES, OUTER_VECS, COLUMN_PAIRS
    vec vload(const number *p)
    vec vload_once(const number *p)
    void vstore(number *p, vec v)
    vec vload_part(const number *p, Py_ssize_t n, vec beyond)
    void vstore_part(number *p, vec v, Py_ssize_t n)
    vec vset(number x)
    vec vmax(vec a, vec b)
    number vfirst(vec v)
    vec vwhere_finite(vec a, vec x)
    vec vwhere_differs(vec a, vec b, vec x)
    vec vadd_where_equal(vec s, vec a, vec b, vec x)
    vec vadd_unless_equal(vec s, vec a, vec b, vec x)
    vec vblend_equal(vec a, vec b, vec x, vec y)
    vec vexp(vec x)
    ctypedef struct top "top_t":
        vec m
    top vtop(vec m)
    vec vexp_below(vec x, const top *t)
    vec vexp_below_in_parts(vec x, const top *t, vec *low)
    vec vlog1p(vec x, vec reciprocal)
    vec vlog1p_parts(vec x, vec x_low, vec reciprocal, vec *low)
    vec vreciprocal_parts(vec b, vec b_low, vec *low)
    void vadd_exact(vec *sum, vec *lost, vec x)
    void vadd_smaller(vec *sum, vec *lost, vec x)
    bint vall_finite(vec a)
    vec vload_halves(const number *lower, const number *upper)
    void vtranspose(vec *a, int n)
    void vfrom_rows(vec *a, int C)
    void vto_rows(vec *a, int C)
    void vstore_columns(number *out, Py_ssize_t stride, vec *a, int n)
    void vadd_sums(number *out, vec *a, int n)
    double vsum(vec v)
    number vmaximum(vec v)
    void PREFETCH(const void *p)

LANES = VEC_LANES


cdef inline Py_ssize_t round_up(Py_ssize_t n, Py_ssize_t unit) noexcept nogil:
    return (n + unit - 1) // unit * unit


include "load.pxi"
include "tiles.pxi"
include "residuals.pxi"
include "dense.pxi"
include "rows.pxi"
include "capi.pxi"
