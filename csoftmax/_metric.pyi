"""What the metric's coordinates take from a table's sums; see src/metric.pyx."""

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[np.float64]

def standardize(totals: _Array, total_mass: float, intercept: bool, out: _Array) -> int: ...
def mean_penalty(
    l2: _Array, shift: _Array, scale: _Array, totals: _Array, total_mass: float, least: float, largest: float,
    held: _Array, beyond: _Array,
) -> bool: ...
def moments_of(gram: _Array, total_mass: float, intercept: bool, moments: _Array, mean: _Array) -> None: ...
def to_unit_diagonal(matrix: _Array, unit: _Array) -> float: ...
def rounding_sums(
    T: _Array, u: _Array, mean_squares: _Array, l2: _Array, shift: _Array, scale: _Array,
) -> tuple[float, float, float, float, float]: ...
