"""The kernels, for x86-64-v3 (AVX2, FMA). See common.pxi."""
include "common.pxi"
include "hessian.pxi"
include "small.pxi"
