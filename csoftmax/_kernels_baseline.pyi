"""The kernels' functions; csoftmax._dispatch chooses the build. See src/dense.pxi, src/hessian.pxi, src/rows.pxi and
src/whole.pxi."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

from csoftmax._kernels_baseline_single import *  # noqa: F403

_Array = NDArray[np.float64]
_Optional = NDArray[np.float64] | None

SMALL_SIZE: int

def hessian_blocks(
    X: NDArray[Any], kind: int, shift: _Optional, scale: _Optional, params: _Array, intercept: bool, counts: _Optional,
    weights: _Optional, offset: _Optional, blocks: _Array,
) -> None: ...
def hessian_diagonal(
    X: NDArray[Any], kind: int, shift: _Optional, scale: _Optional, params: _Array, intercept: bool, counts: _Optional,
    weights: _Optional, offset: _Optional, blocks: _Array,
) -> None: ...
def score_blocks(
    X: NDArray[Any], kind: int, shift: _Optional, scale: _Optional, intercept: bool, a: _Array, weights: _Optional,
    blocks: _Array,
) -> None: ...
def group_scores(
    X: NDArray[Any], kind: int, shift: _Optional, scale: _Optional, intercept: bool, a: _Array,
    first: NDArray[np.intp], scores: _Array,
) -> None: ...
def gram(
    X: NDArray[Any], kind: int, shift: _Optional, scale: _Optional, intercept: bool, weights: _Optional, out: _Array,
) -> None: ...
def take_single(addresses: Any) -> None: ...
def small(what: int, x: Any, axis: Any, out: Any, n_threads: Any) -> Any: ...
def column_totals(X: NDArray[Any], kind: int, weights: _Optional, out: _Array) -> None: ...

@disjoint_base
class WholeLoss:
    def __new__(
        cls, z: _Array, n_classes: int, codes: NDArray[Any] | None, counts: _Optional, weights: _Optional,
        offset: _Optional, mass: _Optional, total_mass: float, penalty: _Optional,
    ) -> WholeLoss: ...
    def loss_and_gradient(self, u: _Array) -> tuple[float, _Array]: ...
    def hessian(self, u: _Array, mass: _Optional) -> _Array: ...
    def logit_range(self, v: _Array) -> float: ...
    def largest_square(self) -> float: ...
