"""fit(): samples, objective and maximiser make a result.

`formula` and the command line stand on it. It stands on `maximize`, `lasso`, `bias_reduction`, `separation`,
`inference` and `result`.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from csoftmax import bias_reduction as firth
from csoftmax._threads import check_n_threads, row_blocks
from csoftmax.encoding import EncodedData, encode, outside_stacklevel, scaled_weights
from csoftmax.inference import null_log_likelihood
from csoftmax.lasso import Lasso, LassoData, LassoMaximum, maximize_lasso
from csoftmax.maximize import (
    DEFAULT_MAX_ITER,
    DEFAULT_TOL,
    ConvergenceWarning,
    IterationState,
    Maximum,
    check_solver,
    check_stopping,
    maximize,
)
from csoftmax.metric import MetricCoordinates
from csoftmax.objective import SoftmaxObjective, check_penalty, is_penalty, spread_penalty, unpenalized_features
from csoftmax.result import WEIGHT_TYPES, SoftmaxResult, find_reference
from csoftmax.samples import Array
from csoftmax.separation import SeparationWarning, find_separation

# Entries of `init` up to which sums and products with a column's centre and scale are finite.
_MAX_INIT = 1e200


# What other programs call an argument, or have one for, and what stands for it here.
_ELSEWHERE = {
    "C": "scikit-learn's C is l2=1/C (with two classes 2/C)",
    "penalty": "the numbers l2 and l1 are the penalties, and without either there is none",
    "l1_ratio": "with scikit-learn's C it is l1=l1_ratio/C and l2=(1-l1_ratio)/C (with two classes twice that l2)",
    "alpha": "l1 and l2 are sums, not means: glmnet's are l1=nobs*lambda*alpha and l2=nobs*lambda*(1-alpha)",
    "weight": "sample_weight has the weights of rows, and weight_type says what they are",
    "weights": "sample_weight has the weights of rows, and weight_type says what they are",
    "freq_weights": "sample_weight has the weights of rows, by default frequencies",
    "class_weight": "sample_weight has the weight of each row: that of its class",
    "multi_class": "the model is always the multinomial one",
    "random_state": "nothing is drawn at random",
    "n_jobs": "n_threads is wanted",
    "method": "solver is wanted",
    "ref": "reference is the class shown as 0",
    "start_params": "init is wanted",
    "warm_start": "init takes a result to start from",
    "cov_type": "result.with_covariance(cov_type) gives robust standard errors",
    "groups": "result.with_covariance('cluster', groups=...) gives cluster-robust standard errors",
}

_Arguments = ParamSpec("_Arguments")
_Returned = TypeVar("_Returned")


def _hints_at_keywords(function: Callable[_Arguments, _Returned]) -> Callable[_Arguments, _Returned]:
    """Make Python's TypeError about an unknown keyword one that says what is wanted."""
    known = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Returned:
        for name in kwargs:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                listed = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}"
                raise TypeError(f"{function.__name__} has no argument {name!r}; {_ELSEWHERE.get(name, listed)}")
        return function(*args, **kwargs)

    return checked


@_hints_at_keywords
def fit(X: ArrayLike, y: ArrayLike, *, l2: ArrayLike = 0.0, l1: ArrayLike = 0.0, fit_intercept: bool = True,
        reference: Any = None, sample_weight: ArrayLike | None = None, weight_type: str = "frequency",
        offset: ArrayLike | None = None, bias_reduction: str | None = None, init: Any = None, solver: str = "auto",
        tol: float = DEFAULT_TOL, max_iter: int = DEFAULT_MAX_ITER, n_threads: int | None = None,
        callback: Callable[[IterationState], Any] | None = None, keep_data: bool = True) -> SoftmaxResult:
    """Fit a softmax regression by (penalised) maximum likelihood.

    Maximises L(theta) - 1/2 sum_ki l2_ki w_ki^2 - sum_ki l1_ki |w_ki|, L a sum over samples; the intercepts are not
    penalised. With `bias_reduction="firth"` it maximises L(theta) + 1/2 log det I(theta), I the information.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features), or a data frame
        Without a column of ones. float64 and float32 in C order are read in place; nothing is copied whole but tables
        of up to 1 MB.
    y : array-like of shape (n_samples,) or (n_samples, n_classes)
        Labels (ints, strings, bools, a pandas Categorical, whose order is kept), or counts / soft labels of each
        class. Classes without a sample of positive weight are dropped with a warning.
    l2, l1 : float, or array-like of shape (n_features,) or (n_classes, n_features)
        One number for all coefficients, or one for each feature, or for each class (in the order of the result's
        `classes`) and feature; see Notes. l1 > 0 gives exact zeros; both, the elastic net.
    fit_intercept : bool
    reference : label, optional
        The class shown as 0, as in R, Stata and statsmodels. None: all rows, summing to 0 over classes (with two
        classes each is half the binomial's). It changes what is shown, not the fit.
    sample_weight : array-like of shape (n_samples,), optional
        0 or more.
    weight_type : {"frequency", "probability", "analytic"}
        "frequency": weight 2 is the row twice, in every number; `nobs` is the sum of the weights (times a row's total,
        for counts).

        The other two are known up to a factor. They are scaled to the mean 1 (for counts: to sum_j w_j N_j = sum_j N_j,
        N_j a row's total) over the rows of positive weight, whose number (sum_j N_j) is `nobs`: weights times 10 change
        nothing. The log-likelihoods, and l2 and l1 against them, are on that scale. A row counts once, however much it
        weighs, and its score is w_j s_j: so robust covariances sum w_j^2 s_j s_j' where frequencies have w_j s_j s_j'.

        "probability": inverse probabilities of selection (Stata's pweights). The estimate is the weighted one; L is a
        pseudo-log-likelihood, and `cov_type` is "HC0", as the information says nothing of such an estimate's precision
        (see `SoftmaxResult.with_covariance` for clusters). AIC counts tr(H V) degrees of freedom in place of n_params,
        V the robust covariance and H the information: Lumley & Scott's (2015, doi:10.1093/jssam/smu021) dAIC; BIC takes
        the same. Strata and finite populations are not known here.

        "analytic": inverse variances (Stata's aweights, which its mlogit does not take): a row's label is the less
        reliable the less it weighs. Standard errors are from the information of the scaled weights; AIC, BIC and
        `n_params` are as usual.
    offset : array-like of shape (n_samples, n_classes), optional
        Added to the logits, columns in the order of the result's `classes`.
    bias_reduction : {"firth"}, optional
        Estimates with a bias of order 1 / n^2 rather than 1 / n, finite also where the samples are separated: Firth's
        (1993, doi:10.1093/biomet/80.1.27), for more than two classes those of Kosmidis & Firth (2011,
        doi:10.1093/biomet/asr026). The penalty is Jeffreys' prior: neither units nor the reference matter to it.
        `log_likelihood`, AIC, BIC, pseudo R-squared and standard errors (from the information) are those of L at the
        estimate, and `null_log_likelihood` is the intercepts' maximum of L. `penalized_log_likelihood` is
        L + 1/2 log det I, I on the coefficients of all classes but one in the units of X; with collinear columns the
        product of I's positive eigenvalues. The certificate proves a stationary point, no lower than the start: the
        penalised log-likelihood need not be concave. Without `init` it is the higher of those reached from 0 and from
        the likelihood's maximum. Not together with l1 or l2, and with frequency weights alone: the
        bias of estimates with other weights is another one; `solver` is "auto" or "trust-exact".
    init : array-like of shape (n_classes, n_features + 1), or SoftmaxResult, optional
        Where to start: rows [w_k, b_k]. With l1 = 0 and no bias reduction 0 takes its place where that is likelier.
    solver : {"auto", "lm", "L-BFGS-B", "trust-exact", "Newton-CG", "trust-ncg", "trust-krylov"}
        scipy.optimize's method; "auto" takes lm (the gradient's root) for small problems and L-BFGS-B, in the metric
        and then in the Hessian's, for others (`csoftmax.maximize.choose_solver`). All work where the units of X are not
        seen, and end with the same certificate; one that finds no step far from the maximum is followed by trust-exact
        where Hessians are cheap. With l1 > 0 "auto" or "L-BFGS-B", with bias reduction "auto" or
        "trust-exact".
    tol : float
        The scaled gradient's norm at which the method stops, up to 1e-3.
    max_iter : int
        Where a fit is stopped by less than 1000, the default, it is not found out whether the samples are separated
        (`csoftmax.check_separation` tells).
    n_threads : int, optional
        By default CSOFTMAX_NUM_THREADS, else OMP_NUM_THREADS, else 1 in a process of a pool, else the CPUs this process
        may use. The result is bit-identical for every value.
    callback : callable, optional
        Called after each iteration with an object that has `n_iter`, `log_likelihood`, `penalized_log_likelihood`,
        `gradient_norm` and `params`; raising StopIteration ends the fit.
    keep_data : bool
        Keep a reference to the data, from which standard errors are computed when asked for. False computes them at
        once.

    Returns
    -------
    SoftmaxResult
        Standard errors are from the information; `SoftmaxResult.with_covariance` gives robust and cluster-robust ones.
        Its `history` has the log-likelihood and the gradient of each iteration. `success` is True exactly when the
        certificate holds. Otherwise a warning says why: SeparationWarning where the maximum does not exist,
        ConvergenceWarning where it was not reached.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what is wanted.
    KeyboardInterrupt
        By Ctrl-C. While the method iterates it has `params`, the parameters reached, for `init`; while the data are
        read, or separation is looked for afterwards, it has none: ``getattr(error, "params", None)``.

    Notes
    -----
    The likelihood does not see a common change of a feature's coefficients over classes; the penalty decides it, all
    n_classes rows being free. Where l2 > 0 is the same for all classes, and without any penalty, the rows sum to 0.
    Where classes differ in l2, their mean weighted by l2 is 0 (a penalty on one class alone makes it the reference of
    that feature). With l1 alone a median is 0; where that is an interval (as many classes above as below) its
    midpoint is taken. With a reference the zeros of l1 are in the symmetric rows, not in the rows
    shown.

    In scikit-learn's terms l1 = l1_ratio / C and l2 = (1 - l1_ratio) / C. Its model of two classes has the one row
    beta = w_1 - w_0 and penalises that: l1 (|w_0| + |w_1|) is least, l1 |beta|, at w_1 = -w_0, so l1 is the same, but
    l2 / 2 (w_0^2 + w_1^2) is l2 / 4 beta^2, so l2 = 2 (1 - l1_ratio) / C. glmnet's lambda is on the mean: l1 =
    nobs * lambda * alpha, l2 = nobs * lambda * (1 - alpha), for columns that it was told not to standardise.

    With l1 > 0 there are no standard errors, and `n_params` counts the coefficients that are not 0 (Zou, Hastie &
    Tibshirani 2007, doi:10.1214/009053607000000127).

    Examples
    --------
    >>> import csoftmax as cs
    >>> penguins = cs.datasets.load_penguins().dropna()
    >>> result = cs.fit(penguins[["flipper_length_mm", "body_mass_g"]], penguins["species"], reference="Adelie")
    >>> round(result.log_likelihood, 4), result.classes.tolist()
    (-133.3054, ['Adelie', 'Chinstrap', 'Gentoo'])
    >>> sparse = cs.fit(penguins[["flipper_length_mm", "body_mass_g"]], penguins["species"], l1=[20.0, 1.0])
    >>> sparse.coef.round(4).tolist()
    [[-0.1571, 0.0], [0.0, -0.0012], [0.2769, 0.0034]]

    Separated samples have no maximum, and yet a bias-reduced estimate:

    >>> result = cs.fit([[0.0], [1.0], [2.0], [3.0]], ["a", "a", "b", "b"], reference="a", bias_reduction="firth")
    >>> result.success, result.coef.round(4).tolist()
    (True, [[0.0], [1.3099]])
    """
    ridge, sparse = check_penalty("l2", l2), check_penalty("l1", l1)
    if is_penalty(sparse) and solver not in ("auto", "L-BFGS-B"):
        check_solver(solver)
        raise ValueError(f"solver is {solver!r} with l1 > 0; 'auto' or 'L-BFGS-B' is wanted: the other methods know no "
                         f"bounds")
    if weight_type not in WEIGHT_TYPES:
        raise ValueError(f"weight_type is {weight_type!r}; one of {', '.join(map(repr, WEIGHT_TYPES))} is wanted")
    if bias_reduction is not None:
        _check_bias_reduction(bias_reduction, ridge, sparse, solver, weight_type)
    check_solver(solver)
    check_stopping(tol, max_iter)
    _check_callback(callback)
    data = encode(X, y, sample_weight=sample_weight, offset=offset, fit_intercept=bool(fit_intercept),
                  n_threads=check_n_threads(n_threads))
    samples, nobs = data.samples, data.samples.total_mass()
    whole = weight_type != "frequency" or _are_whole(samples.mass())
    if weight_type != "frequency":
        weights, nobs = scaled_weights(samples)
        samples = data.samples = samples.replace(weights=weights)
    reference = find_reference(reference, data.classes)
    start = None if init is None else _initial_params(init, samples.params_shape)

    l2_by_coef, l1_by_coef = spread_penalty("l2", ridge, samples), spread_penalty("l1", sparse, samples)
    if is_penalty(sparse):
        lasso = Lasso(LassoData(samples), l1_by_coef, l2_by_coef)
        return _finish_lasso(maximize_lasso(lasso, tol=tol, max_iter=int(max_iter), init=start, callback=callback),
                             unpenalized_features(np.maximum(l1_by_coef, l2_by_coef), samples), data,
                             max_iter, named_features=hasattr(X, "columns"), reference=reference, l2=ridge, l1=sparse,
                             response_name=_response_name(y), nobs=nobs, weight_type=weight_type,
                             whole_frequencies=whole)
    coordinates = MetricCoordinates(SoftmaxObjective.from_samples(samples, l2_by_coef))
    if bias_reduction is None:
        maximum = maximize(coordinates, solver=solver, tol=tol, max_iter=int(max_iter), init=start, callback=callback,
                           stop_where_separated=True)
    else:
        maximum = firth.maximize_penalized(coordinates, tol=tol, max_iter=int(max_iter), init=start, callback=callback)
    message, separated = maximum.message, False
    if _wants_a_reason(maximum, max_iter) and not l2_by_coef.all() and bias_reduction is None:
        free = unpenalized_features(l2_by_coef, samples)
        separation = find_separation(samples.of_features(free), data.classes, [data.feature_names[i] for i in free],
                                     start=None if l2_by_coef.any() else maximum.params)
        separated = separation.separated
        if separated:
            message = (f"{separation.describe()}; a penalty (l2 > 0) or bias_reduction='firth' makes the maximum "
                       f"exist")
        elif separation.kind == "undecided":
            message = f"{message}; {separation.describe()}"
        elif maximum.ended_by_itself and not np.isnan(maximum.certificate.newton_range):
            # the maximum exists: it is worth more Newton steps
            maximum = maximize(coordinates, solver=solver, tol=tol, max_iter=int(max_iter), before=maximum,
                               exists=True, callback=callback)
            message = maximum.message
        if not (maximum.success or separated or np.delete(l2_by_coef, free, axis=-1).all()):
            message = (f"{message}; a feature without a penalty on some classes may separate them, and then there is "
                       f"no maximum: this is not looked for")
    result = SoftmaxResult(
        params=maximum.params, fit_intercept=samples.fit_intercept, classes=data.classes,
        feature_names=data.feature_names, named_features=hasattr(X, "columns"), reference=reference,
        success=maximum.success, message=message, n_iter=maximum.n_iter, certificate=maximum.certificate,
        log_likelihood=maximum.log_likelihood, penalized_log_likelihood=maximum.penalized_log_likelihood,
        null_log_likelihood=null_log_likelihood(samples), nobs=nobs, weight_type=weight_type,
        n_params=(samples.n_classes - 1) * coordinates.rank, l2=ridge, bias_reduction=bias_reduction,
        response_name=_response_name(y), whole_frequencies=whole,
        separated=separated, estimable=coordinates.estimable.tolist(), n_coordinates=coordinates.n_coordinates,
        coordinates=coordinates, u=maximum.u, optimize_result=maximum.optimize_result, history=maximum.history)
    if not keep_data:
        result.drop_data()
    if not maximum.success:
        warnings.warn(message, SeparationWarning if separated else ConvergenceWarning,
                      stacklevel=outside_stacklevel())
    return result


def _wants_a_reason(maximum: Maximum | LassoMaximum, max_iter: int) -> bool:
    """Whether a fit without a certificate is worth a linear program: not where the caller has cut it short."""
    return not maximum.success and (maximum.ended_by_itself or maximum.n_iter >= max_iter >= DEFAULT_MAX_ITER)


def _finish_lasso(maximum: LassoMaximum, free: NDArray[np.intp], data: EncodedData, max_iter: int,
                  **shown: Any) -> SoftmaxResult:
    """Return the result of a fit with l1 > 0, which needs no data for what it tells; warn if there is no maximum.

    `free` are the features without a penalty.
    """
    samples, message, separated = data.samples, maximum.message, False
    if len(free) and _wants_a_reason(maximum, max_iter):
        separation = find_separation(samples.of_features(free), data.classes, [data.feature_names[i] for i in free])
        separated = separation.separated
        if separated:
            message = f"{separation.describe()}; a penalty on each feature makes the maximum exist"
    result = SoftmaxResult(
        params=maximum.params, fit_intercept=samples.fit_intercept, classes=data.classes,
        feature_names=data.feature_names, success=maximum.success, message=message, n_iter=maximum.n_iter,
        certificate=maximum.certificate, log_likelihood=maximum.log_likelihood,
        penalized_log_likelihood=maximum.penalized_log_likelihood, null_log_likelihood=null_log_likelihood(samples),
        n_params=maximum.n_params, separated=separated,
        estimable=[True] * samples.params_shape[1], n_coordinates=maximum.n_params, sparse_df=maximum.effective_df,
        optimize_result=maximum.optimize_result, history=maximum.history, **shown)
    if not maximum.success:
        warnings.warn(message, SeparationWarning if separated else ConvergenceWarning,
                      stacklevel=outside_stacklevel())
    return result


def _check_bias_reduction(bias_reduction: Any, l2: float | Array, l1: float | Array, solver: str,
                          weight_type: str) -> None:
    if bias_reduction != "firth":
        raise ValueError(f"bias_reduction is {bias_reduction!r}; None or 'firth' is wanted")
    for name, penalty in (("l2", l2), ("l1", l1)):
        if is_penalty(penalty):
            raise ValueError(f"{name} is {penalty} beside bias_reduction='firth', a penalty itself; {name}=0, or "
                             f"bias_reduction=None, is wanted")
    if weight_type != "frequency":
        raise ValueError(f"weight_type is {weight_type!r} beside bias_reduction='firth', which knows the bias of "
                         f"maximum likelihood alone; 'frequency', or bias_reduction=None, is wanted")
    firth.check_solver(solver)


def _initial_params(init: Any, shape: tuple[int, int]) -> Array:
    try:
        params = np.asarray(init.params if isinstance(init, SoftmaxResult) else init)
    except ValueError as error:
        raise ValueError(f"init is not an array of numbers ({error}); shape {shape} is wanted") from None
    if params.dtype.kind not in "fiub":
        raise TypeError(f"init has dtype {params.dtype}; real numbers of shape {shape} are wanted")
    params = params.astype(np.float64)
    if params.shape == (shape[0] * shape[1],):
        params = params.reshape(shape)
    if params.shape != shape:
        raise ValueError(f"init has shape {params.shape}; {shape} is wanted: rows [w_k, b_k]")
    if not (np.abs(params) <= _MAX_INIT).all():
        raise ValueError(f"init has entries that are not finite or beyond {_MAX_INIT:g}; finite numbers are wanted")
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


def _are_whole(mass: Array | None) -> bool:
    """Whether each row's mass is a whole number, but for the rounding of sums."""
    parts = [] if mass is None else [mass[start:stop] for start, stop in row_blocks(len(mass), 1)]
    return all(bool((np.abs(part - np.rint(part)) <= 1e-9 * np.maximum(part, 1.0)).all()) for part in parts)


def _response_name(y: Any) -> str:
    name = getattr(y, "name", None)
    return name if isinstance(name, str) and name else "y"
