"""The kernels whose arithmetic is in float, for any processor (x86-64-v2 on x86-64). See common.pxi."""
include "common.pxi"
