"""Maximum likelihood on real tables: the time, and how far each fit stops below the best one.
run.py stands on it.
It stands on csoftmax.fit and csoftmax.datasets, timing.py and peers.py."""

import csv
import warnings
from pathlib import Path

import numpy as np
from peers import peer
from timing import OURS, Row, interleave, shape_label

import csoftmax
import csoftmax.datasets

TITLE = "fits"
VALUES = "log-likelihood units below the best (penalised where l2 > 0)"
OURS_WITHIN = 1e-6  # csoftmax must come this close to the best of all
PEER_WITHIN = 1e-3  # a peer that stops further below it answers another question: shown with !, not averaged
NEWTON_LIMIT = 2_000  # coefficients: beyond it the peers' dense Newton steps take minutes
QUICK_ROWS = 600
CHECKS = f"csoftmax within {OURS_WITHIN:g} of the best, and a peer within {PEER_WITHIN:g} of it"


def bundled_tables(sklearn_names=("iris", "wine", "digits")):
    """(label, X, y as codes, l2); unpenalised where the maximum exists."""
    yield "penguins", *_bundled("penguins", ("flipper_length_mm", "body_mass_g"), "species"), 0.0
    yield "anes96", *_bundled("anes96", ("logpopul", "selfLR", "age", "educ", "income"), "PID"), 0.0
    if peer("scikit-learn") is not None:
        from sklearn import datasets

        for name in sklearn_names:
            yield name, *_codes(*getattr(datasets, f"load_{name}")(return_X_y=True)), 1.0


def folder_tables(folder):
    """(label, X, y as codes, l2=1) of every *.npz in folder that holds X and y."""
    for path in sorted(Path(folder).glob("*.npz")):
        with np.load(path, allow_pickle=False) as table:
            if "X" in table and "y" in table and table["X"].ndim == 2:
                yield path.stem, *_codes(table["X"], table["y"]), 1.0


def _bundled(name, features, label):
    """The complete rows of a table that travels with csoftmax (read without pandas, which is optional)."""
    with csoftmax.datasets.path(name).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if all(row[c] not in ("", "NA") for c in (*features, label))]
    return _codes([[float(row[c]) for c in features] for row in rows], [row[label] for row in rows])


def _codes(X, y):
    codes = np.unique(y, return_inverse=True)[1]
    return np.ascontiguousarray(X, dtype=np.float64), codes.astype(np.int64)


def penalized_log_likelihood(X, y, coef, intercept, l2):
    """Independent of every contestant: NumPy, the largest term left out of the sum, symmetric rows."""
    coef = coef - coef.mean(axis=0)  # the penalty acts on symmetric rows
    logits = X @ coef.T + intercept
    rows = np.arange(len(y))
    top = logits.argmax(axis=1)
    logits -= logits[rows, top][:, None]
    chosen = logits[rows, y]
    others = np.exp(logits)
    others[rows, top] = 0
    return (chosen - np.log1p(others.sum(axis=1))).sum() - l2 / 2 * (coef**2).sum()


def ours(X, y, l2):
    def call():
        result = csoftmax.fit(X, y, l2=l2, n_threads=1)
        return result.coef, result.intercept

    return call


def sklearn_model(solver, y, l2, tol=1e-8, max_iter=10_000):
    from sklearn.linear_model import LogisticRegression

    two_classes = y.max() == 1  # one row there, which holds the difference of our two
    C = np.inf if l2 == 0 else (2 if two_classes else 1) / l2
    return LogisticRegression(C=C, solver=solver, tol=tol, max_iter=max_iter, random_state=0)


def sklearn_params(model):
    """(coef, intercept) of a fitted model, a row for each class."""
    if len(model.classes_) == 2:
        return np.vstack([-model.coef_, model.coef_]) / 2, np.append(-model.intercept_, model.intercept_) / 2
    return model.coef_, model.intercept_


def sklearn_fit(solver):
    def make(X, y, l2):
        model = sklearn_model(solver, y, l2)
        return lambda: sklearn_params(model.fit(X, y))

    return make


def statsmodels_result(X, y, method, maxiter, **options):
    from statsmodels.api import MNLogit

    design = np.column_stack([X, np.ones(len(y))])
    return MNLogit(y, design).fit(method=method, maxiter=maxiter, disp=0, **options)


def statsmodels_params(result):
    """(coef, intercept), a row for each class: the first, the reference, is 0."""
    params = np.asarray(result.params)
    params = np.column_stack([np.zeros(len(params)), params]).T
    return params[:, :-1], params[:, -1]


def statsmodels_fit(X, y, l2):
    return lambda: statsmodels_params(statsmodels_result(X, y, "newton", 100))


LBFGS, CHOLESKY = "scikit-learn lbfgs", "scikit-learn newton-cholesky"


def contestants(X, y, l2):
    calls = {OURS: ours(X, y, l2)}
    small = X.shape[1] * (y.max() + 1) <= NEWTON_LIMIT
    if peer("scikit-learn") is not None:
        calls[LBFGS] = sklearn_fit("lbfgs")(X, y, l2)
        if small:
            calls[CHOLESKY] = sklearn_fit("newton-cholesky")(X, y, l2)
    if peer("statsmodels") is not None and l2 == 0 and small:
        calls["statsmodels newton"] = statsmodels_fit(X, y, l2)
    return calls


def compare(label, X, y, l2, settings, bundled):
    row = Row(f"{label} {shape_label(*X.shape, y.max() + 1)}; l2 = {l2:g}")
    calls = contestants(X, y, l2)
    if X.shape[1] * (y.max() + 1) > NEWTON_LIMIT:
        row.notes.append(f"the peers' Newton methods left out (more than {NEWTON_LIMIT} coefficients)")
    reached = {}
    for name, call in list(calls.items()):
        try:
            reached[name] = penalized_log_likelihood(X, y, *call(), l2)
        except Exception as error:
            text = f"{name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            (row.failures if name == OURS else row.notes).append(text)
            del calls[name]
    if OURS not in calls:
        return row
    best = np.nanmax(list(reached.values()))
    row.values = {name: float(best - value) for name, value in reached.items()}
    if not row.values[OURS] <= OURS_WITHIN:  # a nan fails
        row.failures.append(f"csoftmax stops {row.values[OURS]:.1e} below the best")
    row.outside_means = [name for name, gap in row.values.items() if name != OURS and not gap <= PEER_WITHIN]
    if len(calls) > 1 and len(row.outside_means) == len(calls) - 1:
        text = f"every peer stops more than {PEER_WITHIN:g} short"
        # on the tables that come along one is known to arrive: else they maximise another function
        (row.failures if bundled else row.notes).append(text)
    row.times = interleave(calls, settings)
    return row


def run(settings):
    tables = [(*table, True) for table in bundled_tables()]
    if settings.data:
        tables += [(*table, False) for table in folder_tables(settings.data)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a peer stops short is told by the gap
        for label, X, y, l2, bundled in tables:
            if settings.quick and len(y) > QUICK_ROWS:
                X, y = _codes(X[:: len(y) // QUICK_ROWS], y[:: len(y) // QUICK_ROWS])
            yield compare(label, X, y, l2, settings, bundled)
