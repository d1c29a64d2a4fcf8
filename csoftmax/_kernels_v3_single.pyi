from csoftmax._kernels_baseline_single import *  # noqa: F403
