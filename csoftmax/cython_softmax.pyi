"""C functions for other Cython code, and nothing for Python; cython_softmax.pxd says what they are."""
