# Empty: Cython 3.0 looks for it at `from csoftmax cimport cython_softmax`.
