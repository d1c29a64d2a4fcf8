"""The kernels, for x86-64-v4 (AVX-512). See common.pxi."""
include "common.pxi"
include "hessian.pxi"
include "small.pxi"
