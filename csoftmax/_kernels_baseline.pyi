"""The kernels' functions; csoftmax._dispatch chooses the build. See src/dense.pxi and src/rows.pxi."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_Real = NDArray[np.float64] | NDArray[np.float32]
_Array = NDArray[np.float64]
_Optional = NDArray[np.float64] | None

LANES: int

def log_likelihood_and_gradient(
    X: _Real, shift: _Optional, scale: _Optional, params: _Array, intercept: bool, codes: NDArray[Any] | None,
    counts: _Optional, weights: _Optional, offset: _Optional, gradient: _Optional,
) -> float: ...
def row_results(
    what: int, X: _Real, shift: _Optional, scale: _Optional, params: _Array, intercept: bool,
    codes: NDArray[Any] | None, counts: _Optional, weights: _Optional, offset: _Optional, out: _Array,
) -> None: ...
def hessian_product(
    X: _Real, shift: _Optional, scale: _Optional, params: _Array, direction: _Array, intercept: bool,
    counts: _Optional, weights: _Optional, offset: _Optional, product: _Array,
) -> None: ...
def hessian_blocks(
    X: _Real, shift: _Optional, scale: _Optional, params: _Array, intercept: bool, counts: _Optional,
    weights: _Optional, offset: _Optional, blocks: _Array,
) -> None: ...
def gram(
    X: _Real, shift: _Optional, scale: _Optional, intercept: bool, weights: _Optional, out: _Array,
) -> None: ...
def column_totals(X: _Real, weights: _Optional, out: _Array) -> None: ...
def softmax_rows(x: NDArray[Any], out: NDArray[Any]) -> None: ...
def log_softmax_rows(x: NDArray[Any], out: NDArray[Any]) -> None: ...
def logsumexp_rows(x: NDArray[Any], out: NDArray[Any]) -> None: ...
