"""The user's X, y, weights and offset, checked once and encoded as samples.

`objective` and `fitting` stand on `encode`, `likelihood` on the shape checks. This stands on `samples` and `_entries`.
y is encoded a block of rows at a time, so that no second copy of a long label array exists; pandas is never
imported: a DataFrame, a Series or a Categorical is known by its attributes.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax import _entries
from csoftmax.samples import Array, DenseSamples, blocks_of

# how far apart the integer labels of a short array may lie for a lookup table instead of sorting
_TABLE_SIZE = 1 << 16


@dataclass
class EncodedData:
    """Checked data: the samples, and what the codes 0..n_classes-1 and the columns stand for."""

    samples: DenseSamples
    classes: NDArray[Any]
    feature_names: list[str]


def encode(X: Any, y: Any, *, sample_weight: Any = None, offset: Any = None, fit_intercept: bool = True,
           n_threads: int | None = 1) -> EncodedData:
    """Check the data and encode y; classes without any weight are dropped with a warning.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,), or (n_samples, n_classes) of counts or soft labels
    sample_weight : array-like of shape (n_samples,), optional
    offset : array-like of shape (n_samples, n_classes), optional
    fit_intercept : bool
    n_threads : int or None

    Raises
    ------
    ValueError, TypeError
        With the argument's name, what came and what is wanted.
    """
    matrix, feature_names = as_matrix(X)
    check_finite("X", matrix, feature_names)
    n = matrix.shape[0]
    if n == 0:
        raise ValueError("X has 0 samples; at least one is wanted")
    weights = as_weights(sample_weight, n)
    codes: NDArray[np.int32] | None = None
    counts: NDArray[Any] | None = None
    if _is_two_dimensional(y):
        counts, classes = _encode_counts(y, n)
    else:
        classes, codes = encode_labels(y, n)
    samples = DenseSamples(matrix, len(classes), codes=codes, counts=counts, weights=weights,
                           fit_intercept=fit_intercept, n_threads=n_threads)
    with np.errstate(over="ignore"):
        totals, total_mass = samples.class_totals(), samples.total_mass()
    if not np.isfinite(total_mass):
        raise ValueError("y has counts that sum to more than a float64 can hold; divide them by a constant")
    kept = totals > 0
    n_kept = int(np.count_nonzero(kept))
    if n_kept < 2:
        only = "".join(f" ({label!r})" for label in classes[kept].tolist())
        raise ValueError(f"y has {n_kept} class{'' if only else 'es'}{only}; softmax regression needs at least 2")
    if n_kept < len(kept):
        dropped = ", ".join(repr(label) for label in classes[~kept].tolist())
        warnings.warn(f"y: no sample of positive weight has the class {dropped}; dropped", UserWarning,
                      stacklevel=outside_stacklevel())
        samples, classes = _keep_classes(samples, classes, kept)
    samples.offset = as_offset(offset, n, len(classes), kept)
    return EncodedData(samples, classes, feature_names)


def outside_stacklevel() -> int:
    """Return the stacklevel at which a warning of the caller points to the first line outside this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("csoftmax."):
        frame, level = frame.f_back, level + 1
    return level


def _keep_classes(samples: DenseSamples, classes: NDArray[Any],
                  kept: NDArray[np.bool_]) -> tuple[DenseSamples, NDArray[Any]]:
    n_classes = int(kept.sum())
    if samples.counts is not None:
        return samples.replace(counts=samples.counts[:, kept], n_classes=n_classes), classes[kept]
    # rows of a dropped class weigh nothing: any valid code will do
    new_code = np.where(kept, np.cumsum(kept) - 1, 0).astype(np.int32)
    assert samples.codes is not None
    return samples.replace(codes=new_code[samples.codes], n_classes=n_classes), classes[kept]


# --------------------------------------------------------------------------------------------------------------- X

def as_matrix(X: Any, argument: str = "X") -> tuple[NDArray[Any], list[str]]:
    """Return X as a two-dimensional real array, not copied where it is one, and its column names."""
    if hasattr(X, "tocsr") or hasattr(X, "todense"):
        raise TypeError(f"{argument} is sparse ({type(X).__name__}); a dense array is wanted: pass "
                        f"{argument}.toarray()")
    names = [str(name) for name in X.columns] if hasattr(X, "columns") else None
    refuse_masked(argument, X)
    matrix = _as_array(argument, X)
    if matrix.ndim != 2:
        hint = f"; a single feature is {argument}.reshape(-1, 1)" if matrix.ndim == 1 else ""
        raise ValueError(f"{argument} has shape {matrix.shape}; (n_samples, n_features) is wanted{hint}")
    if names is not None and len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{argument} has more than one column named {twice!r}; names that differ are wanted")
    if names is None:
        names = [f"x{i + 1}" for i in range(matrix.shape[1])]
    if matrix.dtype.kind not in "fiub":
        if matrix.dtype.kind != "O":
            raise TypeError(f"{argument} has dtype {matrix.dtype}; real numbers are wanted")
        for i, name in enumerate(names):
            try:
                np.asarray(matrix[:, i], dtype=np.float64)
            except (TypeError, ValueError, OverflowError) as error:
                raise TypeError(f"{argument}'s column {name!r} is not numeric ({error}); encode it as numbers, or let "
                                f"csoftmax.fit_formula do so") from None
        matrix = matrix.astype(np.float64)
    return matrix, names


def _as_array(name: str, value: Any) -> NDArray[Any]:
    """Return np.asarray(value), whose error for rows of several lengths names no argument."""
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name} is not an array ({error}); rows of one length are wanted") from None


def refuse_masked(name: str, array: Any) -> None:
    """Raise ValueError if a masked array has masked entries."""
    if np.ma.isMaskedArray(array) and np.ma.is_masked(array):
        raise ValueError(f"{name} is a masked array with masked entries; drop those rows or fill them")


def check_finite(name: str, array: NDArray[Any], column_names: list[str] | None = None) -> None:
    """Raise ValueError naming row and column of the first nan or infinity."""
    if array.dtype.kind in "iub":
        return
    if array.ndim == 2 and array.dtype == np.float64 and array.flags.aligned and _entries.all_finite(array):
        return  # 30 us less of a small table than what follows
    for first_row, rows in blocks_of(array):
        # one sum a block finds out; only then is the place searched for
        with np.errstate(all="ignore"):
            suspicious = not np.isfinite(rows.sum(dtype=np.float64))
            finite = np.isfinite(rows if rows.itemsize <= 8 else rows.astype(np.float64)) if suspicious else True
        if suspicious:
            bad = np.argwhere(~np.asarray(finite))
            if len(bad):
                row = first_row + int(bad[0][0])
                place = f"row {row}"
                if array.ndim == 2:
                    column = int(bad[0][1])
                    label = f" ({column_names[column]!r})" if column_names else ""
                    place += f", column {column}{label}"
                raise ValueError(f"{name} has {rows[tuple(bad[0])]} at {place}; finite numbers are wanted")


# --------------------------------------------------------------------------------------------------------------- y

def _is_two_dimensional(y: Any) -> bool:
    return len(getattr(y, "shape", ())) == 2 or (
        isinstance(y, (list, tuple)) and len(y) > 0 and isinstance(y[0], (list, tuple, np.ndarray)))


def _encode_counts(y: Any, n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    refuse_masked("y", y)
    names = list(y.columns) if hasattr(y, "columns") else None
    counts = _as_array("y", y)
    if counts.ndim != 2 or counts.shape[1] < 2:
        raise ValueError(f"y has shape {counts.shape}; labels are wanted with shape (n_samples,), as y.ravel(), counts "
                         f"with one column for each of at least 2 classes")
    if counts.dtype.kind not in "fiub":
        raise TypeError(f"y has shape {counts.shape} and dtype {counts.dtype}; counts or soft labels are numbers, and "
                        f"labels have shape (n_samples,): of tuples make one string each")
    _check_length("y", counts, n)
    check_finite("y", counts)
    for first_row, rows in blocks_of(counts):
        if rows.size and rows.min() < 0:
            row, column = np.argwhere(rows < 0)[0]
            raise ValueError(f"y has {rows[row, column]} at row {first_row + row}, column {column}; counts are 0 or "
                             f"more")
    classes = np.arange(counts.shape[1]) if names is None else np.asarray(names)
    return counts, classes


def _check_length(name: str, array: Any, n: int) -> None:
    if len(array) != n:
        raise ValueError(f"{name} has {len(array)} rows where X has {n}")


def encode_labels(y: Any, n: int) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Return the classes in sorted (or Categorical) order, and each label's place among them.

    Unused categories of a Categorical are kept here; `encode` drops what has no weight.
    """
    categorical = getattr(y, "cat", y)
    if hasattr(categorical, "categories") and hasattr(categorical, "codes"):
        codes = np.asarray(categorical.codes)
        _check_length("y", codes, n)
        if (codes < 0).any():
            raise ValueError(f"y has a missing label at row {int(np.argmax(codes < 0))}; drop such rows")
        return np.asarray(categorical.categories), codes.astype(np.int32)
    refuse_masked("y", y)
    labels = np.asarray(y)
    if labels.ndim != 1:
        raise ValueError(f"y has shape {labels.shape}; (n_samples,) of labels or (n_samples, n_classes) of counts is "
                         f"wanted")
    _check_length("y", labels, n)
    if isinstance(y, (list, tuple)) and labels.dtype.kind in "SUf":
        labels = np.empty(n, dtype=object)  # NumPy has made one type of all: a string of a nan, a float of an int
        labels[:] = y
    kind = labels.dtype.kind
    if (ends := _ends_of_table(labels)) is not None:
        return _encode_by_table(labels, *ends)
    if kind in "biufSU":
        return _encode_sorted(labels)
    if kind == "O":
        return _encode_objects(labels)
    raise TypeError(f"y has dtype {labels.dtype}; labels are ints, strings, bools or a Categorical")


def encode_known(y: Any, n: int, classes: NDArray[Any]) -> tuple[NDArray[np.intp] | None, NDArray[Any] | None]:
    """Return the place of each label among classes already known, or else counts of those classes.

    Raises
    ------
    ValueError, TypeError
        If a label is none of the classes, or counts have another number of columns.
    """
    if _is_two_dimensional(y):
        counts, _ = _encode_counts(y, n)
        if counts.shape[1] != len(classes):
            raise ValueError(f"y has shape {counts.shape}; ({n}, {len(classes)}) is wanted, one column for each class")
        return None, counts
    labels, codes = encode_labels(y, n)
    known = {label: i for i, label in enumerate(classes.tolist())}
    place = np.array([known.get(label, -1) for label in labels.tolist()], dtype=np.intp)
    unknown = [label for label, i in zip(labels.tolist(), place, strict=True) if i < 0]
    if unknown and np.isin(codes, np.flatnonzero(place < 0)).any():
        raise ValueError(f"y has the label {unknown[0]!r}; the model's classes are "
                         f"{', '.join(map(repr, classes.tolist()))}")
    return place[codes], None


def _ends_of_table(labels: NDArray[Any]) -> tuple[int, int] | None:
    """Return the least and largest of integers no further apart than a table, or the array itself, is long."""
    if labels.dtype.kind not in "iu" or not labels.size:
        return None
    low, high = int(labels.min()), int(labels.max())
    return (low, high) if high - low < max(_TABLE_SIZE, labels.size) else None


def _encode_by_table(labels: NDArray[Any], low: int, high: int) -> tuple[NDArray[Any], NDArray[np.int32]]:
    present = np.zeros(high - low + 1, dtype=bool)
    # subtracted in 64 bits, unsigned ones as such: int8 labels may lie 255 apart, uint64 ones beyond int64
    wide = np.uint64 if labels.dtype.kind == "u" else np.int64
    first = wide(low)
    for _, block in blocks_of(labels):
        present[block.astype(wide, copy=False) - first] = True
    place = None if np.count_nonzero(present) == len(present) else (np.cumsum(present) - 1).astype(np.int32)
    codes = np.empty(len(labels), dtype=np.int32)
    for start, block in blocks_of(labels):
        above = block.astype(wide, copy=False) - first
        codes[start:start + len(block)] = above if place is None else place[above]
    found = np.arange(len(present)) if place is None else np.flatnonzero(present)
    return (found.astype(wide, copy=False) + first).astype(labels.dtype, copy=False), codes


def _encode_sorted(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    classes = labels[:0]
    for start, block in blocks_of(labels):
        if labels.dtype.kind == "f":
            whole = np.isfinite(block) & (block == np.floor(block))
            if not whole.all():
                row = int(np.argmin(whole))
                raise ValueError(f"y has {block[row]} at row {start + row}; labels are ints, strings, bools or a "
                                 f"Categorical (floats only where they are whole numbers)")
        classes = np.unique(np.concatenate([classes, np.unique(block)]))
    codes = np.empty(len(labels), dtype=np.int32)
    for start, block in blocks_of(labels):
        codes[start:start + len(block)] = np.searchsorted(classes, block)
    return classes, codes


def _encode_objects(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int32]]:
    for row, label in enumerate(labels):
        if _is_missing(label):
            raise ValueError(f"y has a missing label ({label}) at row {row}; drop such rows")
    types = {type(label) for label in labels}
    families = {_family(label_type) for label_type in types}
    if len(families) > 1:
        raise TypeError(f"y mixes labels of the types {', '.join(sorted(families))}; one type is wanted")
    try:
        ordered = sorted(set(labels))
    except TypeError as error:
        raise TypeError(f"y holds labels that cannot be compared ({error}); ints or strings are wanted") from None
    for label in ordered:
        if isinstance(label, (float, np.floating)) and not float(label).is_integer():
            return _encode_sorted(labels.astype(np.float64))  # which names the row
    code = {label: i for i, label in enumerate(ordered)}
    codes = np.fromiter((code[label] for label in labels), dtype=np.int32, count=len(labels))
    classes = np.asarray(ordered) if families <= {"bool", "number", "str"} else np.empty(0, dtype=object)
    if len(classes) != len(ordered) or (classes.dtype.kind == "f" and not any(issubclass(t, float) for t in types)):
        classes = np.empty(len(ordered), dtype=object)
        classes[:] = ordered
    return classes, codes


def _is_missing(label: Any) -> bool:
    if label is None or type(label).__name__ == "NAType":
        return True
    different = label != label  # nan and NaT are
    return isinstance(different, (bool, np.bool_)) and bool(different)


def _family(label_type: type) -> str:
    for name, members in (("str", (str,)), ("bool", (bool, np.bool_)),
                          ("number", (int, float, np.integer, np.floating))):
        if issubclass(label_type, members):
            return name
    return label_type.__name__


# ------------------------------------------------------------------------------------------------ weights and offset

def as_weights(sample_weight: Any, n: int) -> Array | None:
    """Return the weights as float64 of shape (n,); raises on negative, non-finite or all-zero weights."""
    if sample_weight is None:
        return None
    refuse_masked("sample_weight", sample_weight)
    weights = _as_array("sample_weight", sample_weight)
    if weights.dtype.kind not in "fiub":
        raise TypeError(f"sample_weight has dtype {weights.dtype}; numbers are wanted")
    if weights.shape != (n,):
        raise ValueError(f"sample_weight has shape {weights.shape}; ({n},) is wanted, one weight for each row of X")
    check_finite("sample_weight", weights)
    if (weights < 0).any():
        row = int(np.argmax(weights < 0))
        raise ValueError(f"sample_weight has {weights[row]} at row {row}; weights are 0 or more")
    if not np.isfinite(weights.sum(dtype=np.float64)):
        raise ValueError("sample_weight sums to more than a float64 can hold; divide the weights by a constant")
    if not weights.any():
        raise ValueError("sample_weight is 0 for all samples; at least one positive weight is wanted")
    return np.ascontiguousarray(weights, dtype=np.float64)


def scaled_weights(samples: DenseSamples) -> tuple[Array | None, float]:
    """Return the weights scaled to sum_j w_j N_j = n = sum_j N_j, and n, over the rows of positive weight.

    N_j is row j's total, 1 for a label: so the weights of labels have the mean 1.
    """
    if samples.weights is None:
        return None, samples.total_mass()
    weights = samples.weights / samples.weights.max()  # neither over- nor underflows
    n_observed = samples.replace(weights=(samples.weights > 0).astype(np.float64)).total_mass()
    return weights * (n_observed / samples.replace(weights=weights).total_mass()), n_observed


def as_groups(groups: Any, n: int, complete: NDArray[np.bool_] | None = None) -> NDArray[np.intp]:
    """Return a number from 0 for each row, the same within a group; raises on missing labels and wrong shapes.

    `complete` tells which of a longer table's rows the n are: groups for all of that table's will do as well.
    """
    if isinstance(groups, str):
        raise ValueError(f"groups is {groups!r}; a label for each row is wanted, such as data[{groups!r}]")
    refuse_masked("groups", groups)
    categorical = getattr(groups, "cat", groups)
    if hasattr(categorical, "categories") and hasattr(categorical, "codes"):
        labels = np.asarray(categorical.codes)
        missing = labels < 0
    else:
        if isinstance(groups, (list, tuple)):  # of which NumPy might make one type, or several dimensions
            labels = np.empty(len(groups), dtype=object)
            labels[:] = groups
        else:
            labels = np.asarray(groups)
        if labels.dtype.kind == "O":
            missing = np.fromiter((_is_missing(label) for label in labels.ravel()), dtype=bool, count=labels.size)
        else:
            missing = labels != labels
    wanted = f"({n},)" if complete is None else f"({n},) or ({len(complete)},)"
    if labels.ndim != 1 or len(labels) not in (n, n if complete is None else len(complete)):
        raise ValueError(f"groups has shape {labels.shape}; {wanted} is wanted, one label for each row")
    if complete is not None and len(labels) != n:
        labels, missing = labels[complete], missing[complete]
    if missing.any():
        raise ValueError(f"groups has a missing label at row {int(np.argmax(missing))}; a label for each row is wanted")
    if labels.dtype.kind == "O":
        try:
            code = {label: i for i, label in enumerate(dict.fromkeys(labels.tolist()))}
        except TypeError as error:
            raise TypeError(f"groups holds labels that cannot be told apart ({error}); ints or strings are "
                            f"wanted") from None
        return np.fromiter((code[label] for label in labels.tolist()), dtype=np.intp, count=n)
    if (ends := _ends_of_table(labels)) is not None:
        return _encode_by_table(labels, *ends)[1].astype(np.intp)
    return np.unique(labels, return_inverse=True)[1].astype(np.intp).reshape(n)


def as_offset(offset: Any, n: int, n_classes: int, kept: NDArray[np.bool_]) -> NDArray[Any] | None:
    """Return the offset of the kept classes, not copied where it can be; one column for each class."""
    if offset is None:
        return None
    refuse_masked("offset", offset)
    values = _as_array("offset", offset)
    if values.dtype.kind not in "fiub":
        raise TypeError(f"offset has dtype {values.dtype}; numbers are wanted")
    if values.ndim == 1:
        raise ValueError(f"offset has shape {values.shape}; ({n}, {n_classes}) is wanted, one column for each class "
                         f"(an offset common to all classes cancels)")
    if values.shape == (n, len(kept)) and len(kept) != n_classes:
        values = values[:, kept]
    if values.shape != (n, n_classes):
        raise ValueError(f"offset has shape {values.shape}; ({n}, {n_classes}) is wanted, one row for each sample and "
                         f"one column for each class")
    check_finite("offset", values)
    return values
