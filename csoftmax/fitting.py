"""fit(): samples, objective and maximiser make a result.

`formula` and the command line stand on it. It stands on `maximize`, `separation`, `inference` and `result`.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax._threads import check_n_threads
from csoftmax.encoding import encode, outside_stacklevel
from csoftmax.inference import null_log_likelihood
from csoftmax.maximize import (
    DEFAULT_MAX_ITER,
    DEFAULT_TOL,
    ConvergenceWarning,
    IterationState,
    check_solver,
    maximize,
)
from csoftmax.metric import MetricCoordinates
from csoftmax.objective import SoftmaxObjective, check_penalty
from csoftmax.result import SoftmaxResult
from csoftmax.samples import Array
from csoftmax.separation import SeparationWarning, find_separation


def fit(X: ArrayLike, y: ArrayLike, *, l2: float = 0.0, l1: float = 0.0, fit_intercept: bool = True,
        reference: Any = None, sample_weight: ArrayLike | None = None, weight_type: str = "frequency",
        offset: ArrayLike | None = None, bias_reduction: str | None = None, init: Any = None, solver: str = "auto",
        tol: float = DEFAULT_TOL, max_iter: int = DEFAULT_MAX_ITER, n_threads: int | None = None,
        callback: Callable[[IterationState], Any] | None = None, keep_data: bool = True) -> SoftmaxResult:
    """Fit a softmax regression by (penalised) maximum likelihood.

    Maximises L(theta) - l2 / 2 sum_k |w_k|^2, a sum over samples; the intercepts are not penalised.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features), or a data frame
        Without a column of ones. float64 and float32 in C order are read in place; nothing is copied whole.
    y : array-like of shape (n_samples,) or (n_samples, n_classes)
        Labels (ints, strings, bools, a pandas Categorical, whose order is kept), or counts / soft labels of each
        class. Classes without a sample of positive weight are dropped with a warning.
    l2 : float
        In scikit-learn's terms 1 / C (with two classes 2 / C: its binomial model has one row).
    l1 : float
        Only 0 in this version.
    fit_intercept : bool
    reference : label, optional
        The class shown as 0, as in R, Stata and statsmodels. None: all rows, summing to 0 over classes (with two
        classes each is half the binomial's). It changes what is shown, not the fit.
    sample_weight : array-like of shape (n_samples,), optional
        0 or more.
    weight_type : {"frequency"}
        Weight 2 is the row twice, in every number.
    offset : array-like of shape (n_samples, n_classes), optional
        Added to the logits, columns in the order of the result's `classes`.
    bias_reduction : None
        Nothing else in this version.
    init : array-like of shape (n_classes, n_features + 1), or SoftmaxResult, optional
        Where to start: rows [w_k, b_k].
    solver : {"auto", "trust-exact", "Newton-CG", "trust-ncg", "trust-krylov", "L-BFGS-B"}
        scipy.optimize's method; "auto" chooses by size (`csoftmax.maximize.choose_solver`). All work in a metric
        that does not see the units of X, and end with the same certificate.
    tol : float
        The scaled gradient's norm at which the method stops.
    max_iter : int
    n_threads : int, optional
        By default CSOFTMAX_NUM_THREADS, else OMP_NUM_THREADS, else the CPUs this process may use. The result is
        bit-identical for every value.
    callback : callable, optional
        Called after each iteration with an object that has `n_iter`, `log_likelihood`, `penalized_log_likelihood`,
        `gradient_norm` and `params`; raising StopIteration ends the fit.
    keep_data : bool
        Keep a reference to the data, from which standard errors are computed when asked for. False computes them at
        once.

    Returns
    -------
    SoftmaxResult
        With `success` True exactly when the certificate holds. Otherwise a warning says why: SeparationWarning
        where the maximum does not exist, ConvergenceWarning where it was not reached.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what is wanted.

    Examples
    --------
    >>> import csoftmax as cs
    >>> penguins = cs.datasets.load_penguins().dropna()
    >>> result = cs.fit(penguins[["flipper_length_mm", "body_mass_g"]], penguins["species"], reference="Adelie")
    >>> round(result.log_likelihood, 4), result.classes.tolist()
    (-133.3054, ['Adelie', 'Chinstrap', 'Gentoo'])
    """
    l2 = check_penalty("l2", l2)
    if check_penalty("l1", l1) > 0:
        raise ValueError(f"l1 is {l1}; only l1=0 is supported by this version")
    if bias_reduction is not None:
        raise ValueError(f"bias_reduction is {bias_reduction!r}; only None is supported by this version")
    if weight_type != "frequency":
        raise ValueError(f"weight_type is {weight_type!r}; only 'frequency' is supported by this version")
    check_solver(solver)
    if not (isinstance(tol, (int, float)) and 0 < tol < np.inf):
        raise ValueError(f"tol is {tol!r}; a positive number is wanted")
    if isinstance(max_iter, bool) or not hasattr(max_iter, "__index__") or int(max_iter) < 1:
        raise ValueError(f"max_iter is {max_iter!r}; a whole number from 1 is wanted")
    _check_callback(callback)
    data = encode(X, y, sample_weight=sample_weight, offset=offset, fit_intercept=bool(fit_intercept),
                  n_threads=check_n_threads(n_threads))
    samples = data.samples
    reference = _find_reference(reference, data.classes)
    start = None if init is None else _initial_params(init, samples.params_shape)

    coordinates = MetricCoordinates(SoftmaxObjective.from_samples(samples, np.full(samples.n_features, l2)))
    maximum = maximize(coordinates, solver=solver, tol=tol, max_iter=int(max_iter), init=start, callback=callback)
    message, separated = maximum.message, False
    if not maximum.success and l2 == 0 and maximum.ended_by_itself:
        separation = find_separation(coordinates.objective.samples)
        text = separation.describe(data.classes, data.feature_names)
        separated = separation.kind in ("complete", "quasi")
        if separated:
            message = f"{text}; a penalty (l2 > 0) makes the maximum exist"
        elif separation.kind == "undecided":
            message = f"{message}; {text}"
        elif not np.isnan(maximum.certificate.newton_range):
            # the maximum exists: it is worth more Newton steps
            longer = maximize(coordinates, solver=solver, tol=tol, max_iter=int(max_iter), init=maximum.params,
                              exists=True)
            maximum = replace(longer, n_iter=maximum.n_iter + longer.n_iter)
            message = maximum.message
    result = SoftmaxResult(
        params=maximum.params, fit_intercept=samples.fit_intercept, classes=data.classes,
        feature_names=data.feature_names, named_features=hasattr(X, "columns"), reference=reference,
        success=maximum.success, message=message, n_iter=maximum.n_iter, certificate=maximum.certificate,
        log_likelihood=maximum.log_likelihood, penalized_log_likelihood=maximum.penalized_log_likelihood,
        null_log_likelihood=null_log_likelihood(samples), nobs=coordinates.total_mass,
        n_params=(samples.n_classes - 1) * coordinates.rank, l2=l2, response_name=_response_name(y),
        separated=separated, estimable=coordinates.estimable.tolist(), n_coordinates=coordinates.n_coordinates,
        coordinates=coordinates, u=maximum.u, optimize_result=maximum.optimize_result)
    if not keep_data:
        result.drop_data()
    if not maximum.success:
        warnings.warn(message, SeparationWarning if separated else ConvergenceWarning,
                      stacklevel=outside_stacklevel())
    return result


def _find_reference(reference: Any, classes: NDArray[Any]) -> Any:
    if reference is None:
        return None
    for label in classes.tolist():
        if label == reference:
            return label
    raise ValueError(f"reference is {reference!r}; one of the classes {', '.join(map(repr, classes.tolist()))} is "
                     f"wanted")


def _initial_params(init: Any, shape: tuple[int, int]) -> Array:
    params = np.asarray(init.params if isinstance(init, SoftmaxResult) else init, dtype=np.float64)
    if params.shape == (shape[0] * shape[1],):
        params = params.reshape(shape)
    if params.shape != shape:
        raise ValueError(f"init has shape {params.shape}; {shape} is wanted: rows [w_k, b_k]")
    if not np.isfinite(params).all():
        raise ValueError("init has entries that are not finite; finite numbers are wanted")
    return params


def _check_callback(callback: Any) -> None:
    if callback is None:
        return
    if not callable(callback):
        raise TypeError(f"callback is {callback!r}; a callable of one argument is wanted")
    try:
        inspect.signature(callback).bind(None)
    except ValueError:  # a built-in without a signature
        pass
    except TypeError as error:
        raise TypeError(f"callback cannot be called with one argument: {error}") from None


def _response_name(y: Any) -> str:
    name = getattr(y, "name", None)
    return name if isinstance(name, str) and name else "y"
