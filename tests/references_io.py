"""Loads the reference results: models whose answers are known to many more digits than a float64 fit can hold.

test_reference.py, the tests of fitting and of inference, and the bench stand on it.
It stands on numpy and on the files of a folder: tests/data unless another one is named.

The files have the intercept first; the project has it last. Everything here is in the project's order and terms.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DATA = Path(__file__).parent / "data"

KINDS = {
    "unpenalised": "unpenalised maximum likelihood",
    "rank_deficient": "rank-deficient design, finite fit",
    "ridge": "L2-penalised multinomial logit",
    "lasso": "L1-penalised multinomial logit",
    "jeffreys": "mean bias-reduced (Firth / Jeffreys-penalised) multinomial logit",
    "separated": "separated: no finite unpenalised MLE",
}


@dataclass(frozen=True)
class Reference:
    """One reference result, with its data; what a kind of model does not have is None.

    Attributes
    ----------
    name : str
    kind : str
        A key of `KINDS`.
    X : ndarray of shape (n_samples, n_features)
        Without the intercept's column.
    y : ndarray of shape (n_samples,)
        Codes 0..C-1, in the order of `classes`.
    weights : ndarray of shape (n_samples,) or None
        Frequencies.
    fit_intercept : bool
    classes, features : tuple of str
    reference : int or None
        The class whose coefficients are 0; None where all rows are there (symmetric) and where there are none.
    coef, se : ndarray of shape (n_classes, p) or None
        Features first, the intercept last; `se` is nan in the reference row. p is n_features + 1 with an intercept.
    covariance : ndarray of shape ((n_classes - 1) * p, (n_classes - 1) * p) or None
        In the order of coef without its reference row, C order.
    hc0_se, cluster_se : like se
        Robust and clustered standard errors; `groups` are the clusters.
    loglik : float or None
        At `coef`, the sum over samples, penalty not included; None for a separated model (see `supremum`).
    l2, l1 : float
        On sums: the model maximises  L - l2/2 sum_k |w_k|^2 - l1 sum_k |w_k|_1, intercepts not penalised.
    objective : float or None
        That maximum (L itself without a penalty); for "jeffreys" L + 1/2 log det(information).
    tolerance : dict
        What a good float64 fit should meet, as the file states it.
    separation : str or None
        "complete" or "quasi".
    witness : ndarray of shape (n_classes, p) or None
        A direction along which no row's likelihood falls, its reference row 0.
    supremum : float or None
        The least upper bound of the log-likelihood of a separated model.
    groups : ndarray of shape (n_samples,) or None
    raw : dict
        The file as it is.
    """

    name: str
    kind: str
    X: np.ndarray
    y: np.ndarray
    weights: np.ndarray
    fit_intercept: bool
    classes: tuple
    features: tuple
    reference: int
    coef: np.ndarray
    se: np.ndarray
    covariance: np.ndarray
    hc0_se: np.ndarray
    cluster_se: np.ndarray
    loglik: float
    l2: float
    l1: float
    objective: float
    tolerance: dict
    separation: str
    witness: np.ndarray
    supremum: float
    groups: np.ndarray
    raw: dict

    @property
    def total_weight(self):
        return float(len(self.y) if self.weights is None else self.weights.sum())


def names(kind=None, folder=None):
    """Sorted names of the references in a folder, of one kind (a key of `KINDS`) or of all."""
    found = []
    for path in sorted((Path(folder or DATA) / "refs").glob("*.json")):
        if path.stem == "softmax_values":  # the primitives' values, large: no model
            continue
        raw = json.loads(path.read_text(encoding="utf-8"))
        if "design" in raw and (kind is None or raw["kind"] == KINDS[kind]):
            found.append(path.stem)
    return found


def load(name, folder=None):
    """The reference of that name, with its data.

    Parameters
    ----------
    name : str
        Of refs/NAME.json.
    folder : path-like, optional
        Holds refs/NAME.json, refs/design/NAME.npz and sets/NAME.npz (or data/NAME.npz); tests/data by default.

    Returns
    -------
    Reference
    """
    folder = Path(folder or DATA)
    raw = json.loads((folder / "refs" / f"{name}.json").read_text(encoding="utf-8"))
    kind = {long: short for short, long in KINDS.items()}[raw["kind"]]
    X, y, weights, columns, classes, groups = _design(folder, raw["design"])
    classes = tuple(str(c) for c in raw.get("classes", classes))
    C = len(classes)
    assert y.min() >= 0 and y.max() < C

    # The intercept is the constant column in front, whatever its name ("Intercept", or "write^0").
    fit_intercept = bool((X[:, 0] == 1).all())
    order = [*range(1, X.shape[1]), 0] if fit_intercept else list(range(X.shape[1]))
    columns = raw.get("columns", columns)
    features = tuple(str(columns[i]) for i in order[: len(order) - fit_intercept])

    def rows(key):
        """(C, p) in the project's order; null (the reference row of standard errors) as nan."""
        if raw.get(key) is None:
            return None
        return np.array([[np.nan if v is None else v for v in row] for row in raw[key]], dtype=float)[:, order]

    covariance = raw.get("covariance")
    if covariance is not None:
        # the files: class-major over the non-reference classes, index = (k - 1) * p + a
        p = len(order)
        index = [k * p + a for k in range(C - 1) for a in order]
        covariance = np.array(covariance, dtype=float)[np.ix_(index, index)]

    total = float(len(y) if weights is None else weights.sum())
    l2 = l1 = 0.0
    loglik = objective = raw.get("loglik")
    if kind in ("ridge", "lasso"):
        # the files minimise -L/total + lam (sum of squares)/2, or + lam (sum of moduli), over all C symmetric rows
        loglik, objective = -total * raw["mean_nll"], -total * raw["objective"]
        l2, l1 = (total * raw["lam"], 0.0) if kind == "ridge" else (0.0, total * raw["lam"])
    elif kind == "jeffreys":
        objective = raw["penalised_loglik"]

    witness = None
    if raw.get("witness"):
        # the non-reference classes' rows, on the columns kept
        witness = np.zeros((C, X.shape[1]))
        witness[1:, raw["witness"]["kept_columns"]] = raw["witness"]["direction"]
        witness = witness[:, order]

    reference = raw.get("reference_class")
    return Reference(
        name=name,
        kind=kind,
        X=np.ascontiguousarray(X[:, order[: len(order) - fit_intercept]]),
        y=y,
        weights=weights,
        fit_intercept=fit_intercept,
        classes=classes,
        features=features,
        reference=None if reference is None else classes.index(str(reference)),
        coef=rows("coef"),
        se=rows("se"),
        covariance=covariance,
        hc0_se=rows("hc0_se"),
        cluster_se=rows("cluster_se"),
        loglik=loglik,
        l2=l2,
        l1=l1,
        objective=objective,
        tolerance={k: v for k, v in raw.get("tolerance", {}).items() if k != "note"},
        separation=raw.get("separation"),
        witness=witness,
        supremum=raw.get("supremum_loglik"),
        groups=groups,
        raw=raw,
    )


def _design(folder, where):
    """X with its intercept column in front, y, weights, columns, classes and groups."""
    rebuild = re.search(r"ones column prepended to X of sets/(\w+\.npz)", where)
    if rebuild:
        sets = folder / "sets" if (folder / "sets").is_dir() else folder / "data"
        with np.load(sets / rebuild[1]) as z:
            X = z["X"].astype(np.float64)
            X = np.concatenate([np.ones((len(X), 1)), X], axis=1)
            return X, z["y"].astype(np.int64), None, ["Intercept", *z["features"]], z["classes"], None
    with np.load(folder / "refs" / where) as z:
        weights = z["w"].astype(np.float64) if "w" in z else None
        groups = z["groups"] if "groups" in z else None
        return z["X"].astype(np.float64), z["y"].astype(np.int64), weights, list(z["columns"]), z["classes"], groups
