"""Softmax regression (the multinomial logit) by maximum likelihood.

    P(y = i | x) = exp(w_i'x + b_i) / sum_k exp(w_k'x + b_k)

`fit` maximises the log-likelihood and returns a `SoftmaxResult`; `fit_formula` does so from a formula and a table.
Every equation behind it is a function: `log_likelihood`, `gradient`, `hessian`, ... ; `softmax`, `log_softmax` and
`logsumexp` stand beside them. README.md has the map of the source.
"""

from csoftmax import (
    _dispatch,  # noqa: F401 -- first: where the compiled modules are missing it says what is to be done
    datasets,
)
from csoftmax.comparison import Comparison, compare
from csoftmax.fitting import fit
from csoftmax.formula import fit_formula
from csoftmax.likelihood import (
    gradient,
    gradient_per_sample,
    hessian,
    hessian_product,
    log_likelihood,
    log_likelihood_and_gradient,
    log_likelihood_per_sample,
    logit_residuals,
    predict_proba,
)
from csoftmax.maximize import ConvergenceWarning
from csoftmax.objective import SoftmaxObjective
from csoftmax.path import RegularizationPath, regularization_path
from csoftmax.result import SoftmaxResult
from csoftmax.separation import Separation, SeparationWarning, check_separation
from csoftmax.serialization import from_json
from csoftmax.special import log_softmax, logsumexp, softmax, softmax_jacobian, softmax_jvp

__version__ = "0.1.0"


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


__all__ = [
    "Comparison",
    "ConvergenceWarning",
    "RegularizationPath",
    "Separation",
    "SeparationWarning",
    "SoftmaxObjective",
    "SoftmaxResult",
    "check_separation",
    "compare",
    "datasets",
    "fit",
    "fit_formula",
    "from_json",
    "gradient",
    "gradient_per_sample",
    "hessian",
    "hessian_product",
    "log_likelihood",
    "log_likelihood_and_gradient",
    "log_likelihood_per_sample",
    "log_softmax",
    "logit_residuals",
    "logsumexp",
    "predict_proba",
    "regularization_path",
    "softmax",
    "softmax_jacobian",
    "softmax_jvp",
]
