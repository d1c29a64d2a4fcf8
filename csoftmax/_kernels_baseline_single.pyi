"""The kernels' functions that are built for float as well; csoftmax._dispatch chooses the build. See src/dense.pxi."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]
_Optional = NDArray[np.float64] | None

LANES: int
KINDS: dict[str, int]
FEW_COLUMNS: int

def log_likelihood_and_gradient(
    X: NDArray[Any], kind: int, shift: _Optional, scale: _Optional, params: _Array, intercept: bool,
    codes: NDArray[Any] | None, counts: _Optional, weights: _Optional, offset: _Optional, gradient: _Optional,
) -> float: ...
def row_results(
    what: int, X: NDArray[Any], kind: int, shift: _Optional, scale: _Optional, params: _Array, intercept: bool,
    codes: NDArray[Any] | None, counts: _Optional, weights: _Optional, offset: _Optional, out: _Array,
) -> None: ...
def hessian_product(
    X: NDArray[Any], kind: int, shift: _Optional, scale: _Optional, params: _Array, direction: _Array, intercept: bool,
    counts: _Optional, weights: _Optional, offset: _Optional, product: _Array,
) -> None: ...
def along_axis(
    what: int, x: NDArray[Any], out: NDArray[Any], C: int, inner: int, start: int, stop: int,
) -> None: ...
