# One source of all kernels: each kernels_* stub includes this file and is compiled for one level of processor.
#
# csoftmax._dispatch chooses among the stubs' modules. It stands on simd.h (vectors), dense.pxi and rows.pxi.

from libc.math cimport INFINITY, NAN, log1p
from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef extern from "simd.h" nogil:
    ctypedef double vec "vec_t"     # to Cython a double: its arithmetic compiles to the vector's
    const Py_ssize_t VEC_LANES, FORWARD_VECS, OUTER_CLASSES, OUTER_VECS
    vec vload(const double *p)
    void vstore(double *p, vec v)
    vec vset(double x)
    vec vmax(vec a, vec b)
    vec vwhere_equal(vec a, vec b, vec x)
    vec vwhere_finite(vec a, vec x)
    vec vexp(vec x)
    vec vlog1p(vec x)
    void vtranspose(vec *a)
    vec vblend_equal(vec a, vec b, vec x, vec y)
    vec vexp_gradual(vec x)
    double vsum(vec v)
    double vmaximum(vec v)

ctypedef fused real:
    float
    double

LANES = VEC_LANES

include "dense.pxi"
include "rows.pxi"
