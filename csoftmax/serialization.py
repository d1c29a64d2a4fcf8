"""Reading a model that `SoftmaxResult.to_json` wrote.

The command line stands on it. It stands on `result`, and on `formula` for a model fitted by formula.
"""

from __future__ import annotations

import json
import os
from typing import Any

from csoftmax.result import FORMAT, VERSION, SoftmaxResult, restore

_KEYS = frozenset({
    "format", "version", "classes", "feature_names", "reference", "response_name", "fit_intercept", "named_features",
    "l2", "l1", "sparse_df", "bias_reduction", "params", "covariance", "success", "message", "n_iter", "separated",
    "estimable", "certificate", "log_likelihood", "penalized_log_likelihood", "null_log_likelihood", "nobs", "n_params",
    "n_coordinates", "n_missing", "design", "weight_type", "cov_type", "n_groups", "robust_covariance", "robust_df"})

_NUMBER = (int, float)
_KINDS: dict[str, Any] = {
    "classes": list, "feature_names": list, "response_name": str, "fit_intercept": bool, "named_features": bool,
    "success": bool, "message": str, "n_iter": int, "separated": bool, "estimable": list, "certificate": dict,
    "log_likelihood": _NUMBER, "penalized_log_likelihood": _NUMBER, "null_log_likelihood": _NUMBER, "nobs": _NUMBER,
    "n_params": int, "n_coordinates": int, "n_missing": int, "sparse_df": (int, float, type(None))}


def from_json(path: str | os.PathLike[str]) -> SoftmaxResult:
    """Read a model from a file that `SoftmaxResult.to_json` wrote.

    It predicts and tells its estimates as the fitted result did; it holds no data and runs no code.

    Parameters
    ----------
    path : str or path-like

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not such a file, or of a version that this csoftmax does not know.

    Examples
    --------
    >>> import csoftmax as cs, pathlib, tempfile
    >>> result = cs.fit([[0.0], [1.0], [2.0], [3.0]], ["a", "b", "a", "b"])
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.json"
    >>> text = result.to_json(path)
    >>> cs.from_json(path).predict([[3.0]]).tolist()
    ['b']
    """
    if isinstance(path, str) and path.lstrip().startswith("{"):
        raise ValueError("path is JSON text; the path of a file written by SoftmaxResult.to_json(path) is wanted")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    name = os.fspath(path)
    try:
        document: Any = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{name} is not JSON ({error}); a file written by SoftmaxResult.to_json is wanted") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"{name} is not a csoftmax model; a file written by SoftmaxResult.to_json is wanted")
    if type(document.get("version")) is not int or document["version"] != VERSION:
        raise ValueError(f"{name} has version {document.get('version')!r} of the model format; this csoftmax reads "
                         f"version {VERSION}")
    unknown, missing = sorted(set(document) - _KEYS), sorted(_KEYS - set(document))
    if unknown or missing:
        raise ValueError(f"{name} is not a valid csoftmax model: unknown keys {unknown}, missing keys {missing}")
    for key, kind in _KINDS.items():
        # a bool is an int to Python
        if not isinstance(document[key], kind) or (isinstance(document[key], bool) and kind is not bool):
            raise ValueError(f"{name} is not a valid csoftmax model: {key} is {document[key]!r}")
    design = None
    if document["design"] is not None:
        from csoftmax.formula import Design
        try:
            design = Design.from_dict(document["design"])
        except ValueError as error:
            raise ValueError(f"{name} is not a valid csoftmax model: {error}") from None
    try:
        return restore(document, design)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ValueError(f"{name} is not a valid csoftmax model: {error}") from None
