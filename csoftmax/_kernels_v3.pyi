from csoftmax._kernels_baseline import *  # noqa: F403
