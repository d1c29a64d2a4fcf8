"""Log-likelihood and gradient in one call, against the same two numbers from every peer.
run.py stands on it.
It stands on csoftmax.log_likelihood_and_gradient, timing.py and peers.py."""

import numpy as np
from peers import peer
from timing import OURS, Row, interleave, shape_label

import csoftmax

TITLE = "log-likelihood and gradient"
SHAPES = ((150, 4, 3), (1797, 64, 10), (58_000, 9, 7), (100_000, 20, 3), (581_012, 54, 7), (70_000, 784, 10),
          (20_000, 100, 100), (10_000, 50, 1_000))  # fmt: skip
LOG_LIKELIHOOD_RTOL = 1e-12  # sums of up to 6e5 terms of one sign
GRADIENT_RTOL = 1e-10  # of the largest entry: an entry is a sum with cancellation
CHECKS = f"log-likelihood to {LOG_LIKELIHOOD_RTOL:g} relative, gradient to {GRADIENT_RTOL:g} of its largest entry"


def make_data(n, d, n_classes):
    """Gaussian X, labels drawn from the model at `true`, and another `coef` at which the functions are called."""
    rng = np.random.default_rng([n, d, n_classes])
    X = rng.standard_normal((n, d))
    true, coef = rng.standard_normal((2, n_classes, d)) / np.sqrt(d)
    coef = 0.5 * (true + coef)
    intercept = 0.1 * rng.standard_normal(n_classes)
    y = np.empty(n, dtype=np.int64)
    for start in range(0, n, 10_000):
        block = X[start : start + 10_000]
        # argmax of logits plus Gumbel noise is a draw from their softmax
        y[start : start + 10_000] = (block @ true.T + rng.gumbel(size=(len(block), n_classes))).argmax(axis=1)
    y[:n_classes] = np.arange(n_classes)  # every class occurs: statsmodels takes the classes from y
    return X, y, coef, intercept


def ours(X, y, coef, intercept):
    return lambda: csoftmax.log_likelihood_and_gradient(X, y, coef, intercept, n_threads=1)


def numpy_idiom(X, y, coef, intercept):
    rows = np.arange(len(y))

    def call():
        logits = X @ coef.T
        logits += intercept
        logits -= logits.max(axis=1, keepdims=True)
        log_likelihood = logits[rows, y].sum()
        residual = np.exp(logits, out=logits)
        total = residual.sum(axis=1, keepdims=True)
        log_likelihood -= np.log(total).sum()
        residual /= -total
        residual[rows, y] += 1
        return log_likelihood, residual.T @ X, residual.sum(axis=0)

    return call


def numpy_transposed(X, y, coef, intercept):
    """The same idiom, classes in rows: its reductions run along the long axis, 2-3 times quicker for few classes."""
    samples = np.arange(len(y))
    intercept = intercept[:, None]

    def call():
        logits = coef @ X.T
        logits += intercept
        logits -= logits.max(axis=0)
        log_likelihood = logits[y, samples].sum()
        residual = np.exp(logits, out=logits)
        total = residual.sum(axis=0)
        log_likelihood -= np.log(total).sum()
        residual /= -total
        residual[y, samples] += 1
        return log_likelihood, residual @ X, residual.sum(axis=1)

    return call


def scipy_special(X, y, coef, intercept):
    from scipy.special import log_softmax

    rows = np.arange(len(y))

    def call():
        logits = X @ coef.T
        logits += intercept
        log_proba = log_softmax(logits, axis=1)
        log_likelihood = log_proba[rows, y].sum()
        residual = np.exp(log_proba, out=log_proba)
        np.negative(residual, out=residual)
        residual[rows, y] += 1
        return log_likelihood, residual.T @ X, residual.sum(axis=0)

    return call


def sklearn_loss(X, y, coef, intercept):
    try:  # private: what LogisticRegression itself calls
        from sklearn._loss.loss import HalfMultinomialLoss
        from sklearn.linear_model._linear_loss import LinearModelLoss
    except ImportError:
        return None
    n, n_classes = len(y), len(coef)
    loss = LinearModelLoss(base_loss=HalfMultinomialLoss(n_classes=n_classes), fit_intercept=True)
    theta = np.asfortranarray(np.column_stack([coef, intercept]))
    labels = y.astype(np.float64)

    def call():
        loss_mean, gradient_mean = loss.loss_gradient(theta, X, labels, n_threads=1)
        gradient = gradient_mean * -n
        return -n * loss_mean, gradient[:, :-1], gradient[:, -1]

    return call


def statsmodels_mnlogit(X, y, coef, intercept):
    from statsmodels.api import MNLogit

    design = np.column_stack([X, np.ones(len(y))])
    model = MNLogit(y, design, check_rank=False, hasconst=True)
    theta = np.column_stack([coef, intercept])
    params = (theta[1:] - theta[0]).ravel()  # the first class is its reference

    def call():
        log_likelihood, score = model.loglike_and_score(params)
        score = score.reshape(len(coef) - 1, -1)
        return log_likelihood, score[:, :-1], score[:, -1]

    return call


def torch_autograd(X, y, coef, intercept):
    torch = peer("PyTorch")
    X, y = torch.from_numpy(X), torch.from_numpy(y)
    coef, intercept = (torch.from_numpy(a.copy()).requires_grad_() for a in (coef, intercept))

    def call():
        loss_sum = torch.nn.functional.cross_entropy(torch.addmm(intercept, X, coef.T), y, reduction="sum")
        gradients = torch.autograd.grad(loss_sum, (coef, intercept))
        return -loss_sum.item(), *(-g.numpy() for g in gradients)

    return call


def jax_jit(X, y, coef, intercept):
    jax = peer("JAX")

    def log_likelihood(parameters, X, y):
        coef, intercept = parameters
        log_proba = jax.nn.log_softmax(X @ coef.T + intercept, axis=1)
        return jax.numpy.take_along_axis(log_proba, y[:, None], axis=1).sum()

    value_and_grad = jax.jit(jax.value_and_grad(log_likelihood))
    X, y, coef, intercept = (jax.numpy.asarray(a) for a in (X, y, coef, intercept))

    def call():
        value, gradients = jax.block_until_ready(value_and_grad((coef, intercept), X, y))
        return float(value), *gradients

    return call


# name: (the peer it needs, what makes its call)
CONTESTANTS = {
    "NumPy": ("NumPy", numpy_idiom),
    "NumPy, C x n": ("NumPy", numpy_transposed),
    "SciPy": ("SciPy", scipy_special),
    "scikit-learn": ("scikit-learn", sklearn_loss),
    "statsmodels": ("statsmodels", statsmodels_mnlogit),
    "PyTorch": ("PyTorch", torch_autograd),
    "JAX": ("JAX", jax_jit),
}
REMARK = ("NumPy, C x n: the same idiom on the transposed logits. statsmodels does not shift by the row maximum, which "
          "saves a pass and gives nan where a logit exceeds 709.")  # fmt: skip


def check(answers):
    """The disagreements with NumPy's answer, as sentences."""
    reference = answers["NumPy"]
    failures = []
    for name, (log_likelihood, *gradients) in answers.items():
        gap = abs(log_likelihood / reference[0] - 1)
        if not gap <= LOG_LIKELIHOOD_RTOL:  # a nan fails
            failures.append(f"{name}: log-likelihood differs from NumPy's by {gap:.1e} relative")
        for part, gradient, expected in zip(("coef", "intercept"), gradients, reference[1:], strict=True):
            gradient = np.asarray(gradient)
            # statsmodels has no rows for its reference class
            gap = np.abs(gradient - expected[len(expected) - len(gradient) :]).max() / np.abs(expected).max()
            if not gap <= GRADIENT_RTOL:
                failures.append(f"{name}: gradient of {part} differs from NumPy's by {gap:.1e} of its largest entry")
    return failures


def run(settings):
    for n, d, n_classes in SHAPES:
        if settings.quick:
            n = min(n, max(n // 50, 2 * n_classes))
        data = make_data(n, d, n_classes)
        calls = {OURS: ours(*data)}
        calls |= {name: make(*data) for name, (needs, make) in CONTESTANTS.items() if peer(needs) is not None}
        calls = {name: call for name, call in calls.items() if call is not None}
        failures = check({name: call() for name, call in calls.items()})
        yield Row(shape_label(n, d, n_classes), times=interleave(calls, settings), failures=failures)
