from csoftmax._kernels_baseline import *
