"""Rows of covariates, some of them set to other values: from an array, or from a data frame by way of a formula.

`margins`, `probabilities` and `result` stand on it. It stands on `encoding`, row blocks and samples.
A source answers the same few questions for both; it gives a block of rows at a time as a matrix of the model's
columns, and a formula is replayed on each block anew: interactions, splines and dummies follow what was set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from csoftmax._threads import row_blocks
from csoftmax.encoding import as_matrix, check_finite
from csoftmax.samples import Array

# Central differences of the design err by step^2, and by eps / step: both relative. The step is this times the size
# of x, or times a thousandth of the column's standard deviation where x is smaller.
_STEP = float(np.finfo(np.float64).eps) ** (1.0 / 3.0)

Setting = Mapping[str, Any]  # the value that a variable is set to in all rows


class Covariates(Protocol):
    """What `margins` and `probabilities` ask of the rows.

    Attributes
    ----------
    n_rows : int
    variables : list of str
        What can be set: the columns of an array, the variables of a formula.
    parallel : bool
        Blocks may be asked for by several threads.
    """

    n_rows: int
    variables: list[str]
    parallel: bool

    def matrix(self, start: int, stop: int, setting: Setting) -> Array:
        """Return X's rows [start, stop), of shape (stop - start, n_features), in float64 and C order."""

    def slope(self, start: int, stop: int, setting: Setting, variable: str) -> int | Array:
        """Return dX/dvariable of the rows, of the shape of `matrix`; or the one column that moves, by 1."""

    def levels(self, variable: str, mass: Array | None) -> list[Any] | None:
        """Return the levels of a variable that has no slope, the base level first; None for a number.

        [0, 1] for a number that is 0 or 1 in all rows of positive mass.
        """

    def is_number(self, variable: str) -> bool:
        """Whether the variable has a mean and a slope; else it is one of categories."""

    def mean(self, variable: str, mass: Array | None) -> float:
        """Return the mean of a number, weighted by `mass`."""


class ArrayRows:
    """Covariates that are the columns of an array."""

    parallel = True

    def __init__(self, X: Any, variables: list[str]) -> None:
        self._X = X if isinstance(X, np.ndarray) and X.ndim == 2 and X.dtype.kind in "fiub" else as_matrix(X)[0]
        check_finite("X", self._X, variables)
        self.n_rows = len(self._X)
        self.variables = variables
        self._column = {name: i for i, name in enumerate(variables)}

    def matrix(self, start: int, stop: int, setting: Setting) -> Array:
        rows = np.array(self._X[start:stop], dtype=np.float64, order="C")
        for name, value in setting.items():
            rows[:, self._column[name]] = value
        return rows

    def slope(self, start: int, stop: int, setting: Setting, variable: str) -> int | Array:
        return self._column[variable]

    def levels(self, variable: str, mass: Array | None) -> list[Any] | None:
        column = self._X[:, self._column[variable]]
        return [0, 1] if all(_is_binary(_present(column, mass, *block)) for block in row_blocks(self.n_rows, 1)) \
            else None

    def is_number(self, variable: str) -> bool:
        return True

    def mean(self, variable: str, mass: Array | None) -> float:
        return _mean(self._X[:, self._column[variable]], mass)


class FrameRows:
    """Covariates that are the variables of a formula, whose design is replayed on a data frame.

    Parameters
    ----------
    design : csoftmax.formula.Design
    data : pandas.DataFrame
        Complete rows.
    """

    parallel = False  # formulaic's work holds the interpreter

    def __init__(self, design: Any, data: Any) -> None:
        self._design = design
        self.variables = list(design.columns)
        self._data = design.complete(data)
        self.n_rows = len(self._data)
        self._range: dict[str, tuple[float, float, float]] = {}

    def matrix(self, start: int, stop: int, setting: Setting) -> Array:
        rows = self._data.iloc[start:stop]
        if setting:
            rows = rows.copy()
            for name, value in setting.items():
                rows[name] = value
        matrix: Array = np.ascontiguousarray(self._design.matrix(rows))
        return matrix

    def slope(self, start: int, stop: int, setting: Setting, variable: str) -> int | Array:
        """Return dX/dvariable by central differences of the design; the model itself is differentiated exactly.

        The step is eps^(1/3) max(|x|, sd / 1000). Nothing is evaluated outside the range of the data, where a spline
        has no value: at its ends the slope is that of the parabola through three points within.
        """
        x = np.broadcast_to(np.asarray(setting.get(variable, self._data[variable].iloc[start:stop]), dtype=np.float64),
                            (stop - start,))
        low, high, deviation = self._range_of(variable)
        low, high = np.minimum(low, x), np.maximum(high, x)  # type: ignore[assignment]
        step = _STEP * np.maximum(np.abs(x), 1e-3 * deviation)
        step = np.where(step > 0, step, _STEP)
        centre = np.where(high - low > 2 * step, np.clip(x, low + step, high - step), x)
        above, below = centre + step, centre - step
        up, down = (self.matrix(start, stop, {**setting, variable: values}) for values in (above, below))
        width = (above - below)[:, np.newaxis]
        slope = (up - down) / width
        moved = centre != x
        if moved.any():
            bend = (up + down - 2.0 * self.matrix(start, stop, {**setting, variable: centre})) / (0.25 * width * width)
            slope[moved] += bend[moved] * (x - centre)[moved, np.newaxis]
        return slope

    def _range_of(self, variable: str) -> tuple[float, float, float]:
        if variable not in self._range:
            values = np.asarray(self._data[variable], dtype=np.float64)
            self._range[variable] = float(values.min()), float(values.max()), float(values.std())
        return self._range[variable]

    def levels(self, variable: str, mass: Array | None) -> list[Any] | None:
        known: list[Any] | None = self._design.levels(variable)
        if known is not None:
            base = self._design.base_level(variable)
            return [base, *(level for level in known if level != base)]
        column = _present(self._data[variable].to_numpy(), mass, 0, self.n_rows)
        if not self.is_number(variable):
            return sorted(set(column.tolist()))
        return [column.dtype.type(0), column.dtype.type(1)] if _is_binary(column) else None

    def is_number(self, variable: str) -> bool:
        return self._design.columns[variable] == "number" and self._design.levels(variable) is None

    def mean(self, variable: str, mass: Array | None) -> float:
        return _mean(self._data[variable].to_numpy(), mass)


def _present(column: NDArray[Any], mass: Array | None, start: int, stop: int) -> NDArray[Any]:
    rows = column[start:stop]
    return rows if mass is None else rows[mass[start:stop] > 0]


def _is_binary(values: NDArray[Any]) -> bool:
    return bool(np.all((values == 0) | (values == 1)))


def _mean(column: NDArray[Any], mass: Array | None) -> float:
    total, weight = 0.0, 0.0
    for start, stop in row_blocks(len(column), 1):
        rows = np.asarray(column[start:stop], dtype=np.float64)
        total += float(rows.sum() if mass is None else mass[start:stop] @ rows)
        weight += float(len(rows) if mass is None else mass[start:stop].sum())
    return total / weight
