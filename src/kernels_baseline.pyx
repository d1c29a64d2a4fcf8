"""The kernels, for any processor (x86-64-v2 on x86-64). See common.pxi."""
include "common.pxi"
include "hessian.pxi"
include "small.pxi"
