"""Reading a model that `SoftmaxResult.to_json` wrote.

The command line stands on it. It stands on `result`, and on `formula` for a model fitted by formula.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from csoftmax.inference import Unseen
from csoftmax.maximize import Certificate
from csoftmax.result import FORMAT, VERSION, WEIGHT_TYPES, SoftmaxResult
from csoftmax.samples import Array
from csoftmax.sandwich import ROBUST

_KEYS = frozenset({
    "format", "version", "classes", "feature_names", "reference", "response_name", "fit_intercept", "named_features",
    "l2", "l1", "sparse_df", "bias_reduction", "params", "covariance", "success", "message", "n_iter", "separated",
    "estimable", "certificate", "log_likelihood", "penalized_log_likelihood", "null_log_likelihood", "nobs", "n_params",
    "n_coordinates", "n_missing", "design", "weight_type", "cov_type", "n_groups", "robust_covariance", "robust_df",
    "unseen", "whole_frequencies"})

_NUMBER = (int, float)
_KINDS: dict[str, Any] = {
    "classes": list, "feature_names": list, "response_name": str, "fit_intercept": bool, "named_features": bool,
    "success": bool, "message": str, "n_iter": int, "separated": bool, "estimable": list, "certificate": dict,
    "log_likelihood": _NUMBER, "penalized_log_likelihood": _NUMBER, "null_log_likelihood": _NUMBER, "nobs": _NUMBER,
    "n_params": int, "n_coordinates": int, "n_missing": int, "sparse_df": (int, float, type(None)),
    "whole_frequencies": bool}


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
        return _restore(document, design)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ValueError(f"{name} is not a valid csoftmax model: {error}") from None


def _restore(document: dict[str, Any], design: Any) -> SoftmaxResult:
    """Return the result of a document whose keys have been checked."""
    certificate: dict[str, Any] = {
        key: np.nan if value is None else value for key, value in document["certificate"].items()
    }
    classes, names = list(document["classes"]), list(document["feature_names"])
    params = np.array(document["params"], dtype=np.float64).reshape(len(classes), -1)
    if params.shape != (len(classes), len(names) + document["fit_intercept"]):
        raise ValueError(f"params has shape {params.shape} for {len(classes)} classes and {len(names)} features")
    if len(classes) < 2 or len(set(classes)) < len(classes) or not _are(classes, (str, int, float, bool)):
        raise ValueError(f"classes are {classes}; at least two different strings, numbers or bools are wanted")
    if not _are(names, str):
        raise ValueError(f"feature_names are {names}; strings are wanted")
    if len(document["estimable"]) != params.shape[1] or not _are(document["estimable"], bool):
        raise ValueError(f"estimable is {document['estimable']}; {params.shape[1]} bools are wanted")
    if document["bias_reduction"] not in (None, "firth"):
        raise ValueError(f"bias_reduction is {document['bias_reduction']!r}; null or 'firth' is wanted")
    if document["reference"] is not None and document["reference"] not in classes:
        raise ValueError(f"reference is {document['reference']!r}, none of the classes")
    covariances: dict[str, Any] = {key: _read_covariance(key, document[key], params)
                                   for key in ("covariance", "robust_covariance")}
    if document["weight_type"] not in WEIGHT_TYPES:
        raise ValueError(f"weight_type is {document['weight_type']!r}")
    if document["cov_type"] not in ("none", "observed", "penalized", *ROBUST):
        raise ValueError(f"cov_type is {document['cov_type']!r}")
    unseen = None
    if document["unseen"] is not None:
        unseen = Unseen(**{key: np.array(values, dtype=np.float64) for key, values in document["unseen"].items()})
        shapes = [array.shape for array in (unseen.directions[:, 0], unseen.unit, unseen.center)]
        if shapes != [(len(names),)] * 3:
            raise ValueError(f"unseen has rows of shapes {shapes} for {len(names)} features")
    penalties: dict[str, Any] = {}
    for key in ("l2", "l1"):
        penalty = np.array(document[key], dtype=np.float64)
        if penalty.shape not in ((), params[0, :len(names)].shape, params[:, :len(names)].shape):
            raise ValueError(f"{key} has shape {penalty.shape} for {len(classes)} classes and {len(names)} features")
        penalties[key] = penalty if penalty.ndim else float(penalty)
    robust_df = document["robust_df"]
    if robust_df is None and document["robust_covariance"] is not None:
        robust_df = np.nan  # which JSON does not have
    result = SoftmaxResult(
        params=params, **covariances, robust_df=robust_df, unseen=unseen,
        classes=_label_array(classes),
        certificate=Certificate(**certificate), **penalties,
        **{key: document[key] for key in (
            "fit_intercept", "feature_names", "named_features", "reference", "success", "message", "n_iter",
            "log_likelihood", "penalized_log_likelihood", "null_log_likelihood", "nobs", "n_params", "sparse_df",
            "bias_reduction", "response_name", "separated", "estimable", "n_coordinates", "weight_type", "cov_type",
            "n_groups", "whole_frequencies")})
    result.n_missing = document["n_missing"]
    result.design = design
    return result


def _read_covariance(key: str, values: Any, params: Array) -> Array | None:
    if values is None:
        return None
    covariance = np.array(values, dtype=np.float64)
    if not params.size:
        covariance = covariance.reshape(2 * params.shape)  # JSON keeps no shape of an empty array
    if covariance.shape != 2 * params.shape:
        raise ValueError(f"{key} has shape {covariance.shape} where params has {params.shape}")
    return covariance


def _are(values: list[Any], kinds: Any) -> bool:
    return all(isinstance(value, kinds) for value in values)


def _label_array(labels: list[Any]) -> NDArray[Any]:
    """Return labels as an array of their own kind: bools, ints, floats, text, or objects where they are of several."""
    kinds = {type(label) for label in labels}
    if len(kinds) == 1 and kinds <= {bool, float, str}:
        return np.array(labels)
    if kinds == {int}:
        return np.array(labels, dtype=np.uint64 if max(labels) > np.iinfo(np.int64).max else np.int64)
    array = np.empty(len(labels), dtype=object)
    array[:] = labels
    return array
