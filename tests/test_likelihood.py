"""The equations as functions and the objective, against the long double oracle, over every build of the kernels.

Nothing stands on this file. It stands on reference.py (the oracle and its error budgets) and conftest.py (the builds).
"""

import ctypes
import itertools
import mmap
import sys
import tracemalloc
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import reference as ref
import scipy.sparse

import csoftmax as cs
from csoftmax import _dispatch, _threads, samples
from csoftmax.likelihood import predict_log_proba
from csoftmax.objective import SoftmaxObjective
from csoftmax.samples import DenseSamples

pytestmark = pytest.mark.usefixtures("kernel_build")

EPS = ref.EPS


# ---------------------------------------------------------------------------------------------------------------------
# The grid

# around the widths of vectors (2, 4, 8), of register tiles (4, 8 rows) and of blocks (32 rows and more)
SAMPLES = (1, 2, 3, 7, 8, 9, 31, 32, 33, 64, 65, 127, 129, 200, 257, 300)
FEATURES = (0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 200)
CLASSES = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 16, 17, 24, 31, 33, 64, 100, 200)
LARGEST_LOGIT = (1.0, 30.0, 1e4)


@dataclass(frozen=True)
class Case:
    """One cell of the grid; what else varies is drawn from `seed`, so that every pair of options meets often."""

    seed: int
    n: int
    d: int
    C: int

    def __str__(self):
        return f"n{self.n}-d{self.d}-C{self.C}"


# all pairs (d, C), with n going round beside them
GRID = [Case(i, SAMPLES[i % len(SAMPLES)], d, C) for i, (d, C) in enumerate(itertools.product(FEATURES, CLASSES))]


@dataclass(frozen=True)
class Problem:
    """A case's data and parameters, and the arguments that hand them to csoftmax and to the oracle."""

    X: np.ndarray
    y: np.ndarray
    W: np.ndarray
    fit_intercept: bool
    weight: np.ndarray | None
    offset: np.ndarray | None

    @property
    def oracle(self):
        """X, y, W, fit_intercept, weight, offset, as the functions of reference.py take them."""
        return self.X, self.y, self.W, self.fit_intercept, self.weight, self.offset

    @property
    def coef(self):
        return self.W[:, :-1] if self.fit_intercept else self.W

    @property
    def intercept(self):
        return self.W[:, -1] if self.fit_intercept else None

    @property
    def args(self):
        return self.X, self.y, self.coef, self.intercept

    @property
    def extras(self):
        return {"sample_weight": self.weight, "offset": self.offset}

    @property
    def eps(self):
        """That of the arithmetic of the four functions whose sums over samples are in float32 for float32 X."""
        return ref.EPS32 if self.X.dtype == np.float32 else EPS

    def samples(self, **options):
        """What the objective and `fit` stand on: in float64 for every dtype, unless single=True is an option."""
        counts, codes = (self.y, None) if self.y.ndim == 2 else (None, self.y)
        return DenseSamples(self.X, self.W.shape[0], codes=codes, counts=counts, weights=self.weight,
                            offset=self.offset, fit_intercept=self.fit_intercept, **options)

    def of_type(self, dtype):
        return replace(self, X=self.X.astype(dtype))

    def mass(self):
        """w_j N_j : (n,)."""
        counts = ref.targets(self.y, self.W.shape[0]).astype(float).sum(axis=1)
        return counts if self.weight is None else counts * self.weight

    def logit_errors(self):
        """The oracle's delta = 4 (d + 1) eps max_k sum_i |x_ji w_ki|, for each row alone : (n,)."""
        sizes = np.abs(ref.design(self.X, self.fit_intercept)) @ np.abs(self.W).T.astype(ref.LONGDOUBLE)
        if self.offset is not None:
            sizes = sizes + np.abs(self.offset)
        return (4 * (self.X.shape[1] + 1) * EPS * sizes.max(axis=1)).astype(float)

    def row_norms(self, fit_intercept):
        return np.sqrt((ref.design(self.X, fit_intercept).astype(float) ** 2).sum(axis=1))


@cache
def problem(case):
    rng = np.random.default_rng([20, case.seed])
    n, d, C = case.n, case.d, case.C
    counts, weighted, with_offset, single, fit_intercept = (bool(option) for option in rng.integers(0, 2, size=5))
    # a mean and a scale for each column, as tables have them
    X = rng.normal(size=(n, d)) * 10.0 ** rng.uniform(-1, 1, size=d) + rng.normal(size=d)
    X = X.astype(np.float32 if single else np.float64)
    W = rng.normal(size=(C, d + fit_intercept))
    offset = rng.normal(size=(n, C)) if with_offset else None
    largest = float(np.abs(ref.logits(X, W, fit_intercept)).max(initial=0))
    if largest > 0:
        W *= LARGEST_LOGIT[case.seed % 3] / largest
    weight = None
    if weighted:
        weight = rng.uniform(0.1, 3.0, size=n)
        weight[n // 2] = 0.0 if n > 1 else 1.0
    if counts:
        y = rng.integers(0, 4, size=(n, C)).astype(float)
        y[: n // 2] *= rng.random(size=(n // 2, C))  # soft labels beside whole counts
    else:
        y = rng.integers(0, C, size=n).astype(np.int32)
    return Problem(X, y, W, fit_intercept, weight, offset)


@cache
def truth(function, case):
    """What the oracle says, computed once for all builds."""
    return function(*problem(case).oracle)


def over_the_grid(cases=tuple(GRID)):
    """Parametrise by (build, case): all cases on the default build, every fifth on the others."""
    pairs = [(build, case) for build in _dispatch.available() for case in cases
             if build == _dispatch.isa or case.seed % 5 == 0]
    return pytest.mark.parametrize(("kernel_build", "case"), pairs, indirect=["kernel_build"],
                                   ids=[f"{build}-{case}" for build, case in pairs])


def distance(a, b):
    """Frobenius norm of the difference, taken in long double."""
    return float(np.sqrt(((np.asarray(a, dtype=ref.LONGDOUBLE) - b) ** 2).sum()))


def joined(parts):
    """The coefficients' and the intercept's part as rows [w_k, b_k]."""
    coef, intercept = parts
    return coef if intercept is None else np.column_stack([coef, intercept])


@over_the_grid()
def test_log_likelihood_is_within_the_budget(case):
    p = problem(case)
    value = cs.log_likelihood(*p.args, **p.extras)
    assert isinstance(value, float)
    assert abs(value - truth(ref.log_likelihood, case)) <= ref.log_likelihood_tolerance(*p.oracle, eps=p.eps)


@over_the_grid()
def test_log_likelihood_of_each_sample_is_within_its_own_budget(case):
    p = problem(case)
    terms = cs.log_likelihood_per_sample(*p.args, **p.extras)
    assert terms.shape == (case.n,)
    # log_likelihood_tolerance for each row alone: 1e-12 w_j |x_j| + 2 delta_j w_j
    budget = p.mass() * (1e-12 * p.row_norms(True) + 2 * p.logit_errors())
    assert (np.abs(terms - truth(ref.log_likelihood_per_sample, case)) <= budget).all()
    assert budget.sum() <= ref.log_likelihood_tolerance(*p.oracle) * (1 + 1e-9)  # never looser than the oracle's


@over_the_grid()
def test_gradient_is_within_the_budget(case):
    p = problem(case)
    grad_coef, grad_intercept = cs.gradient(*p.args, **p.extras)
    assert grad_coef.shape == (case.C, case.d)
    assert (grad_intercept is None) == (not p.fit_intercept)
    assert distance(joined((grad_coef, grad_intercept)), truth(ref.gradient, case)) <= (
        ref.gradient_tolerance(*p.oracle, eps=p.eps))


@over_the_grid()
def test_residuals_and_scores_of_each_sample_are_within_their_own_budgets(case):
    p = problem(case)
    residuals = cs.logit_residuals(*p.args, **p.extras)
    want = truth(ref.logit_residuals, case)
    # item 2 of the oracle's budgets for each row: |dr_j| <= w_j min(delta_j / sqrt 2, sqrt 2), and 1e-12 for rounding
    budget = p.mass() * (1e-12 + np.minimum(p.logit_errors() / np.sqrt(2), np.sqrt(2)))
    assert residuals.shape == (case.n, case.C)
    assert (np.sqrt(((residuals - want) ** 2).sum(axis=1)) <= budget).all()
    # a row of residuals sums to 0: C roundings of numbers of size w N, each at most its own ulp
    assert (np.abs(residuals.sum(axis=1)) <= 4 * case.C * EPS * p.mass()).all()
    scores = cs.gradient_per_sample(*p.args, **p.extras)
    assert scores.shape == (case.n, *p.W.shape)
    design = ref.design(p.X, p.fit_intercept)
    errors = np.sqrt(((scores - want[:, :, None] * design[:, None, :]) ** 2).sum(axis=(1, 2)))
    assert (errors <= budget * p.row_norms(p.fit_intercept)).all()
    # they sum to the gradient in float64: n additions of what the budget of the gradient is measured in
    size = float((p.mass() * p.row_norms(p.fit_intercept)).sum())
    assert distance(scores.sum(axis=0), p.samples().log_likelihood_and_gradient(p.W)[1]) <= 1e-12 * size


@over_the_grid()
def test_hessian_product_is_within_the_budget(case):
    p = problem(case)
    V = np.random.default_rng(case.seed).normal(size=p.W.shape)
    v_parts = (V[:, :-1], V[:, -1]) if p.fit_intercept else (V, None)
    product = joined(cs.hessian_product(*p.args, *v_parts, **p.extras))
    assert product.shape == p.W.shape
    X, y, W, *rest = p.oracle
    assert distance(product, ref.hessian_product(X, y, W, V, *rest)) <= (
        ref.hessian_product_tolerance(X, y, W, V, *rest, eps=p.eps))


HESSIANS = tuple(case for case in GRID if case.C * (case.d + 1) <= 600)


@over_the_grid(HESSIANS)
def test_hessian_is_within_the_budget_symmetric_and_what_the_product_multiplies_by(case):
    p = problem(case)
    H = cs.hessian(*p.args, **p.extras)
    assert H.shape == (p.W.size, p.W.size)
    assert distance(H, truth(ref.hessian, case)) <= ref.hessian_tolerance(*p.oracle)
    np.testing.assert_array_equal(H, H.T)
    V = np.random.default_rng(case.seed).normal(size=p.W.shape)
    product = p.samples().hessian_product(p.W, V)
    # both are of the same logits in float64, bit for bit, so that what a logit error carries through is no part of this
    size = float((p.mass() * p.row_norms(p.fit_intercept) ** 2).sum() * np.sqrt((V**2).sum()))
    assert distance(product, (H @ V.ravel()).reshape(V.shape)) <= 1e-12 * size


@over_the_grid()
def test_probabilities_and_their_logarithms_are_within_the_budget(case):
    p = problem(case)
    logits = ref.logits(p.X, p.W, p.fit_intercept, p.offset)
    probability = cs.predict_proba(p.X, p.coef, p.intercept, offset=p.offset)
    delta = p.logit_errors()
    budget = 1e-12 + np.minimum(delta / np.sqrt(2), np.sqrt(2))  # item 2 of the oracle's budgets
    assert (np.sqrt(((probability - ref.softmax(logits)) ** 2).sum(axis=1)) <= budget).all()
    assert (np.abs(probability.sum(axis=1) - 1) <= 2 * case.C * EPS).all()  # C roundings, half an ulp of 1 each, twice
    logarithm = predict_log_proba(p.X, p.coef, p.intercept, offset=p.offset)
    # item 1: 2 delta, in every entry
    assert (np.abs(logarithm - ref.log_softmax(logits)) <= 1e-12 + 2 * delta[:, None]).all()


@over_the_grid()
def test_objective_is_within_the_budget_of_minus_the_log_likelihood_and_the_penalty(case):
    p = problem(case)
    l2 = 0.7
    objective = SoftmaxObjective.from_samples(p.samples(), np.full(case.d, l2))
    theta = p.W.ravel()
    loss, gradient = objective.loss_and_gradient(theta)
    assert objective.loss(theta) == loss
    np.testing.assert_array_equal(objective.loss_gradient(theta), gradient)
    # a sum of C d squares, pairwise in NumPy: well under 32 roundings
    penalty = ref.ridge_penalty(p.W, l2, p.fit_intercept)
    assert abs(loss + truth(ref.log_likelihood, case) - penalty) <= (
        ref.log_likelihood_tolerance(*p.oracle) + 32 * EPS * float(penalty))
    shrink = ref.ridge_penalty_gradient(p.W, l2, p.fit_intercept)
    size = distance(shrink, 0)
    assert distance(gradient.reshape(p.W.shape), shrink - truth(ref.gradient, case)) <= (
        ref.gradient_tolerance(*p.oracle) + 2 * EPS * size)
    V = np.random.default_rng(case.seed).normal(size=p.W.shape)
    X, y, W, *rest = p.oracle
    want = ref.ridge_penalty_gradient(V, l2, p.fit_intercept) - ref.hessian_product(X, y, W, V, *rest)
    product = objective.loss_hessian_product(theta, V.ravel())
    assert distance(product.reshape(V.shape), want) <= (
        ref.hessian_product_tolerance(X, y, W, V, *rest) + 2 * EPS * l2 * distance(V, 0))
    if case in HESSIANS:
        curvature = np.full(p.W.shape, l2)
        if p.fit_intercept:
            curvature[:, -1] = 0
        want = np.diag(curvature.ravel()) - truth(ref.hessian, case)
        assert distance(objective.loss_hessian(theta), want) <= (
            ref.hessian_tolerance(*p.oracle) + 2 * EPS * l2 * np.sqrt(p.W.size))


@over_the_grid(tuple(case for case in GRID if case.seed % 3 == 0))
def test_the_fused_function_equals_the_separate_ones_exactly(case):
    p = problem(case)
    value, *parts = cs.log_likelihood_and_gradient(*p.args, **p.extras)
    assert value == cs.log_likelihood(*p.args, **p.extras)
    np.testing.assert_array_equal(joined(parts), joined(cs.gradient(*p.args, **p.extras)))


# Around the edges of blocks of 512 rows, of vectors of 2, 4, 8 and 16, and of the three classes up to which the logits
# are dot products; every pair (d, C) on every build, in float64 and in float32 of the same data.
EDGE_SAMPLES = (1, 511, 512, 513, 7, 1023, 1024, 1025, 17, 519, 520)
EDGE_FEATURES = (1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33)
EDGE_CLASSES = (1, 2, 3, 4, 5, 8, 9, 16, 17, 25, 33)
EDGES = [Case(i, EDGE_SAMPLES[i % len(EDGE_SAMPLES)], d, C)
         for i, (C, d) in enumerate(itertools.product(EDGE_CLASSES, EDGE_FEATURES))]


@cache
def edge(case):
    """A case's problem in float32, a direction, what the oracle says, and the budgets in float64 and float32."""
    p = problem(case).of_type(np.float32)
    V = np.random.default_rng(case.seed).normal(size=p.W.shape)
    X, y, W, *rest = p.oracle
    want = ref.log_likelihood(*p.oracle), ref.gradient(*p.oracle), ref.hessian_product(X, y, W, V, *rest)
    budgets = {eps: (ref.log_likelihood_tolerance(*p.oracle, eps=eps), ref.gradient_tolerance(*p.oracle, eps=eps),
                     ref.hessian_product_tolerance(X, y, W, V, *rest, eps=eps)) for eps in (EPS, ref.EPS32)}
    return p, V, want, budgets


@pytest.mark.parametrize("case", EDGES, ids=str)
def test_both_precisions_are_within_their_budgets_at_the_edges_of_blocks_and_vectors(case):
    single, V, want, budgets = edge(case)
    v_parts = (V[:, :-1], V[:, -1]) if single.fit_intercept else (V, None)
    for p in (single, single.of_type(np.float64)):
        value, *gradient = cs.log_likelihood_and_gradient(*p.args, **p.extras)
        product = cs.hessian_product(*p.args, *v_parts, **p.extras)
        for came, wanted, budget in zip((value, joined(gradient), joined(product)), want, budgets[p.eps], strict=True):
            assert distance(came, wanted) <= budget
        assert cs.log_likelihood(*p.args, **p.extras) == value


# ---------------------------------------------------------------------------------------------------------------------
# Derivatives are those of the log-likelihood


def moderate(counts=False, n=40, d=3, C=4, seed=3, scale=0.5):
    """A problem with weights, offset and intercept whose probabilities are far from 0 and 1."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, size=(n, C)).astype(float) if counts else rng.integers(0, C, size=n)
    return Problem(rng.normal(size=(n, d)), y, rng.normal(size=(C, d + 1)) * scale, True, rng.uniform(0.5, 2, size=n),
                   rng.normal(size=(n, C)))


def at(p, W, function):
    return function(p.X, p.y, W[:, :-1], W[:, -1], **p.extras)


@pytest.mark.parametrize("counts", [False, True], ids=["codes", "counts"])
def test_gradient_and_hessian_are_central_differences(counts):
    p = moderate(counts)
    h = 1e-5
    # L and its derivatives are at most sum_j w_j N_j |x_j|^k in size; the differences' error is h^2 / 6 = 2e-11 of the
    # third, and eps / h = 2e-11 of the first: 1e-9 of the largest leaves room
    size = float((p.mass() * p.row_norms(True) ** 3).sum())
    gradient = joined(at(p, p.W, cs.gradient))
    H = at(p, p.W, cs.hessian)
    for position in range(p.W.size):
        step = np.zeros(p.W.size)
        step[position] = h
        step = step.reshape(p.W.shape)
        slope = (at(p, p.W + step, cs.log_likelihood) - at(p, p.W - step, cs.log_likelihood)) / (2 * h)
        assert abs(slope - gradient.flat[position]) <= 1e-9 * size
        row = (joined(at(p, p.W + step, cs.gradient)) - joined(at(p, p.W - step, cs.gradient))) / (2 * h)
        assert np.abs(row.ravel() - H[position]).max() <= 1e-9 * size


@pytest.mark.parametrize("counts", [False, True], ids=["codes", "counts"])
def test_logit_residuals_are_central_differences_in_the_offset(counts):
    p = moderate(counts, n=5)
    h = 1e-5
    residuals = cs.logit_residuals(*p.args, **p.extras)
    for j, k in np.ndindex(residuals.shape):
        step = np.zeros(residuals.shape)
        step[j, k] = h
        slope = (cs.log_likelihood(*p.args, sample_weight=p.weight, offset=p.offset + step)
                 - cs.log_likelihood(*p.args, sample_weight=p.weight, offset=p.offset - step)) / (2 * h)
        # as above, the sums being of 5 rows with at most 8 counts and weight 2
        assert abs(slope - residuals[j, k]) <= 1e-8


# ---------------------------------------------------------------------------------------------------------------------
# What the numbers mean

FUNCTIONS = {
    "log_likelihood": cs.log_likelihood,
    "log_likelihood_per_sample": cs.log_likelihood_per_sample,
    "gradient": cs.gradient,
    "gradient_per_sample": cs.gradient_per_sample,
    "logit_residuals": cs.logit_residuals,
    "log_likelihood_and_gradient": cs.log_likelihood_and_gradient,
    "hessian": cs.hessian,
    "hessian_product": lambda X, y, coef, intercept=None, **more: cs.hessian_product(
        X, y, coef, intercept, np.cos(np.arange(np.size(coef))).reshape(np.shape(coef)),
        None if intercept is None else np.sin(np.arange(len(intercept))), **more),
    "predict_proba": lambda X, y, coef, intercept=None, sample_weight=None, **more: cs.predict_proba(
        X, coef, intercept, **more),
}
every_function = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
SUMS = ("log_likelihood", "gradient", "log_likelihood_and_gradient", "hessian", "hessian_product")
every_sum = pytest.mark.parametrize("function", [FUNCTIONS[name] for name in SUMS], ids=SUMS)
# those that take float32 X in float32; the others compute in float64 whatever the dtype
SINGLE = ("log_likelihood", "gradient", "log_likelihood_and_gradient", "hessian_product")
every_single = pytest.mark.parametrize("function", [FUNCTIONS[name] for name in SINGLE], ids=SINGLE)


def parts_of(result):
    return [np.asarray(part) for part in (result if isinstance(result, tuple) else (result,)) if part is not None]


def flat(result):
    """Every number of a result, in one array."""
    return np.concatenate([np.ravel(part) for part in parts_of(result)])


def assert_equal_sums(a, b, size):
    """Sums of the same terms in another order: 1e-13 of the sum of the terms' sizes, for some hundred terms."""
    np.testing.assert_allclose(flat(a), flat(b), rtol=0, atol=1e-13 * size)


@every_sum
def test_weight_2_is_the_row_twice(function):
    p = moderate()
    twice = np.arange(len(p.X)) % 3 == 0
    rows = np.concatenate([np.arange(len(p.X)), np.flatnonzero(twice)])
    weighted = function(*p.args, offset=p.offset, sample_weight=1.0 + twice)
    repeated = function(p.X[rows], p.y[rows], p.coef, p.intercept, offset=p.offset[rows])
    assert_equal_sums(weighted, repeated, float((p.row_norms(True) ** 2).sum() * 2))


@every_sum
def test_counts_are_repeated_labels(function):
    p = moderate(counts=True)
    rows, labels = [], []
    for j, k in np.ndindex(p.y.shape):
        rows += [j] * int(p.y[j, k])
        labels += [k] * int(p.y[j, k])
    repeated = function(p.X[rows], np.array(labels), p.coef, p.intercept, offset=p.offset[rows],
                        sample_weight=p.weight[rows])
    assert_equal_sums(function(*p.args, **p.extras), repeated, float((p.mass() * p.row_norms(True) ** 2).sum()))


@every_sum
def test_a_row_of_weight_0_is_absent(function):
    p = moderate()
    kept = np.arange(len(p.X)) % 4 > 0
    weight = np.where(kept, p.weight, 0.0)
    absent = function(p.X[kept], p.y[kept], p.coef, p.intercept, offset=p.offset[kept], sample_weight=p.weight[kept])
    assert_equal_sums(function(*p.args, offset=p.offset, sample_weight=weight), absent,
                      float((p.mass() * p.row_norms(True) ** 2).sum()))
    for name in ("log_likelihood_per_sample", "logit_residuals", "gradient_per_sample"):
        assert not FUNCTIONS[name](*p.args, offset=p.offset, sample_weight=weight)[~kept].any()


@every_sum
def test_an_offset_common_to_all_classes_cancels(function):
    p = moderate()
    moved = function(*p.args, sample_weight=p.weight, offset=p.offset + np.linspace(-50, 50, len(p.X))[:, np.newaxis])
    # the logits are about 50 in size instead of 1, and so are their roundings
    assert_equal_sums(function(*p.args, **p.extras), moved, 50 * float((p.mass() * p.row_norms(True) ** 2).sum()))


@pytest.mark.parametrize("function", [FUNCTIONS[name] for name in SUMS[:-1]], ids=SUMS[:-1])  # the product: see hessian
def test_an_offset_is_the_logits_of_more_columns(function):
    p = moderate()
    more = np.random.default_rng(8).normal(size=(len(p.X), 1))
    slopes = np.linspace(-1, 1, len(p.coef))
    with_offset = function(p.X, p.y, p.coef, p.intercept, offset=more * slopes, sample_weight=p.weight)
    as_column = function(np.hstack([p.X, more]), p.y, np.column_stack([p.coef, slopes]), p.intercept,
                         sample_weight=p.weight)
    # the added column has derivatives of its own: they are left out
    if isinstance(as_column, tuple):
        as_column = tuple(part[:, :-1] if np.ndim(part) == 2 else part for part in as_column)
    elif np.ndim(as_column) == 2:
        n_classes, d = p.coef.shape
        kept = np.append(np.arange(d), d + 1)
        as_column = as_column.reshape(2 * (n_classes, d + 2))[:, kept][:, :, :, kept]
    assert_equal_sums(with_offset, as_column, float((p.mass() * p.row_norms(True) ** 2).sum()))


def test_two_classes_are_the_binomial_logistic_written_plainly():
    rng = np.random.default_rng(5)
    X, y, w = rng.normal(size=(60, 3)), rng.integers(0, 2, size=60), rng.uniform(0.5, 2, size=60)
    coef, intercept = rng.normal(size=(2, 3)), rng.normal(size=2)
    # P(y = 1) = 1 / (1 + exp(-eta)), eta = (w_1 - w_0)'x + b_1 - b_0
    eta = X @ (coef[1] - coef[0]) + intercept[1] - intercept[0]
    p = 1 / (1 + np.exp(-eta))
    plain = float(np.sum(w * (y * eta - np.log(1 + np.exp(eta)))))
    X1 = np.column_stack([X, np.ones(60)])
    score = X1.T @ (w * (y - p))
    information = (X1 * (w * p * (1 - p))[:, None]).T @ X1
    # 60 terms of size about 1, a few roundings each
    value, grad_coef, grad_intercept = cs.log_likelihood_and_gradient(X, y, coef, intercept, sample_weight=w)
    assert value == pytest.approx(plain, rel=1e-13, abs=0)
    grad = np.column_stack([grad_coef, grad_intercept])
    np.testing.assert_allclose(grad, [-score, score], rtol=0, atol=1e-12)
    H = cs.hessian(X, y, coef, intercept, sample_weight=w)
    np.testing.assert_allclose(H, np.block([[-information, information], [information, -information]]), rtol=0,
                               atol=1e-12)
    np.testing.assert_allclose(cs.predict_proba(X, coef, intercept), np.column_stack([1 - p, p]), rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_one_class_has_probability_1_and_nothing_to_learn(dtype):
    X = np.array([[1.0], [2.0]], dtype=dtype)
    assert cs.log_likelihood(X, [0, 0], [[3.0]], [1.0]) == 0.0
    assert not flat(cs.gradient(X, [0, 0], [[3.0]], [1.0])).any()
    assert cs.predict_proba(X, [[3.0]], [1.0]).tolist() == [[1.0], [1.0]]
    assert not cs.hessian(X, [0, 0], [[3.0]], [1.0]).any()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.uint8])
def test_without_samples_the_sums_are_0_and_the_rows_none(dtype):
    X, y, coef, intercept = np.empty((0, 2), dtype=dtype), np.empty(0, dtype=int), np.ones((3, 2)), np.ones(3)
    assert cs.log_likelihood(X, y, coef, intercept) == 0.0
    assert not flat(cs.gradient(X, y, coef, intercept)).any()
    assert not cs.hessian(X, y, coef, intercept).any()
    assert cs.predict_proba(X, coef, intercept).shape == (0, 3)
    assert cs.gradient_per_sample(X, y, coef, intercept).shape == (0, 3, 3)


# ---------------------------------------------------------------------------------------------------------------------
# Extreme logits


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_zero_times_log_zero_is_zero(dtype):
    X, coef = np.ones((1, 1), dtype=dtype), [[0.0], [-1e4]]
    assert cs.predict_proba(X, coef).tolist() == [[1.0, 0.0]]  # exp(-1e4) is 0 in float64
    assert cs.log_likelihood(X, [[3.0, 0.0]], coef) == 0.0
    assert cs.log_likelihood(X, [0], coef) == 0.0
    assert cs.log_likelihood(X, [1], coef) == -1e4
    assert cs.log_likelihood(X, [[0.0, 2.0]], coef) == -2e4
    assert not flat(cs.gradient(X, [[3.0, 0.0]], coef)).any()
    assert cs.logit_residuals(X, [1], coef).tolist() == [[-1.0, 1.0]]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("y", [[0], [[1.0, 0.0]]], ids=["codes", "counts"])
def test_a_nearly_certain_class_keeps_its_digits(y, dtype):
    # log p_0 = -log1p(exp(-40)) = -4.2e-18 and 1 - p_0 = 4.2e-18, both lost to log(1) and 1 - 1
    X, coef = np.ones((1, 1), dtype=dtype), [[40.0], [0.0]]
    small = -np.log1p(np.exp(-40.0))
    assert small == pytest.approx(-4.248354255291589e-18, rel=1e-14, abs=0)
    # 40 is exact, exp is within an ulp: 4 ulp in all
    eps = float(np.finfo(dtype).eps)
    assert cs.log_likelihood(X, y, coef) == pytest.approx(small, rel=4 * eps, abs=0)
    np.testing.assert_allclose(cs.gradient(X, y, coef)[0], [[-small], [small]], rtol=4 * eps)
    # the Hessian's diagonal is p (1 - p): along either class alone, without a difference of logits along v
    for v in ([[1.0], [0.0]], [[0.0], [1.0]]):
        sign = v[0][0] - v[1][0]
        np.testing.assert_allclose(cs.hessian_product(X, y, coef, None, v, None)[0], [[sign * small], [-sign * small]],
                                   rtol=4 * eps)
    # these are of float64 whatever the dtype
    assert cs.log_likelihood_per_sample(X, y, coef)[0] == pytest.approx(small, rel=4 * EPS, abs=0)
    assert predict_log_proba(X, coef)[0, 0] == pytest.approx(small, rel=4 * EPS, abs=0)
    np.testing.assert_allclose(cs.logit_residuals(X, y, coef), [[-small, small]], rtol=4 * EPS)
    # the Hessian's diagonal p (1 - p) is taken as p times the others' sum
    np.testing.assert_allclose(cs.hessian(X, y, coef), [[small, -small], [-small, small]], rtol=4 * EPS)


def test_predict_log_proba_is_exact_where_the_probability_underflows():
    X, coef = np.array([[1.0], [2.0]]), [[0.0], [-800.0]]
    assert predict_log_proba(X, coef).tolist() == [[0.0, -800.0], [0.0, -1600.0]]
    assert cs.predict_proba(X, coef).tolist() == [[1.0, 0.0], [1.0, 0.0]]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("y", [[0, 1, 2], np.eye(3)], ids=["codes", "counts"])
def test_logits_of_plus_and_minus_800_are_finite(y, dtype):
    # exp(800) overflows; without a shift by the maximum all of this is nan
    X, coef = np.array([[1.0], [-1.0], [1.0]], dtype=dtype), np.array([[800.0], [-800.0], [0.0]])
    # row 0 (800, -800, 0) has class 0, row 1 (-800, 800, 0) class 1, row 2 (800, -800, 0) class 2, 800 below the top
    assert cs.log_likelihood(X, y, coef) == -800.0
    assert cs.gradient(X, y, coef)[0].tolist() == [[-1.0], [0.0], [1.0]]
    assert np.isfinite(cs.hessian(X, y, coef)).all()
    assert np.isfinite(flat(cs.hessian_product(X, y, coef, None, coef, None))).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("y", [[0], [[2.0, 0.0]]], ids=["codes", "counts"])
def test_a_logit_below_the_range_of_its_type_is_a_probability_of_0(y, dtype):
    # -1e400: -inf, of which a class that was not seen takes nothing. -1e50 in float32: nan, and float64 is asked
    X = np.full((1, 1), 1e200 if dtype is np.float64 else 1e25, dtype=dtype)
    coef = np.array([[0.0], [-1e200 if dtype is np.float64 else -1e25]])
    labels = {"codes" if np.ndim(y) == 1 else "counts": np.array(y)}
    value, gradient = DenseSamples(X, 2, **labels, fit_intercept=False, single=True).log_likelihood_and_gradient(coef)
    if dtype is np.float64:
        assert value == 0.0
        assert not gradient.any()
    else:
        assert np.isnan(value)
    assert cs.log_likelihood(X, y, coef) == 0.0


def test_ties_share_the_probability():
    for C in (2, 3, 8, 9, 31):
        np.testing.assert_allclose(cs.predict_proba(np.ones((1, 1)), np.full((C, 1), 1e4)), 1 / C, rtol=2 * EPS)
        # -log C: one rounding of the logarithm and one of the sum
        for dtype in (np.float64, np.float32):
            assert cs.log_likelihood(np.ones((1, 1), dtype=dtype), [C - 1], np.full((C, 1), 1e4)) == pytest.approx(
                -np.log(C), rel=2 * float(np.finfo(dtype).eps), abs=0)


@every_function
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_parameters_that_are_not_finite_give_nan(function, value, where, dtype):
    X, y = np.array([[1.0], [2.0], [3.0]], dtype=dtype), np.array([0, 1, 2])
    coef, intercept = np.array([[1.0], [0.5], [0.0]]), np.zeros(3)
    if where < 3:
        coef[where] = value
    else:
        intercept[1] = value
    # -inf too, though it could pass for a class of probability 0
    result = function(X, y, coef, intercept)
    assert np.isnan(flat(result)).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_direction_that_is_not_finite_gives_nan(dtype):
    X, y, coef = np.ones((2, 1), dtype=dtype), [0, 1], np.zeros((2, 1))
    for value in (np.nan, np.inf, -np.inf):
        assert np.isnan(cs.hessian_product(X, y, coef, None, [[0.0], [value]], None)[0]).all()


# ---------------------------------------------------------------------------------------------------------------------
# Dtypes, orders, threads: the same bits


def unaligned(X):
    return np.frombuffer(b"x" + X.tobytes(), dtype=np.uint8)[1:].view(X.dtype).reshape(X.shape)


def other_byte_order(X):
    return X.astype(X.dtype.newbyteorder())


def with_gaps(X):
    """The same numbers with others beside each row and between the rows: a row stride larger than the row."""
    wide = np.full((2 * X.shape[0], X.shape[1] + 9), 77, dtype=X.dtype)
    wide[::2, 2:-7] = X
    return wide[::2, 2:-7]


LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "Fortran order with gaps": lambda X: with_gaps(X.T).T,
    "columns of a wider array": lambda X: np.concatenate([X, X], axis=1)[:, : X.shape[1]],
    "rows and columns of a larger array": with_gaps,
    "every other column": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "every other row": lambda X: np.repeat(X, 2, axis=0)[::2],
    "negative strides": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "rows backwards": lambda X: X[::-1].copy()[::-1],
    "columns backwards": lambda X: X[:, ::-1].copy()[:, ::-1],
    "read-only": lambda X: np.frombuffer(X.tobytes(), dtype=X.dtype).reshape(X.shape),
    "transposed": lambda X: X.T.copy().T,
    "other byte order": other_byte_order,
    "unaligned": unaligned,
    "matrix": lambda X: X.view(np.matrix),
    "list": lambda X: X.tolist(),
}


@cache
def layout_problems(dtype):
    # 813 rows of 43: blocks that are read in place, or transposed by squares of up to 8, and a last one of neither
    # shape; 70 of 5: always copied
    return [moderate(n=n, d=d).of_type(dtype) for n, d in ((70, 5), (813, 43))]


@every_function
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_order_of_X_gives_the_same_bits(function, layout):
    for p in layout_problems(np.float64):
        moved = LAYOUTS[layout](p.X)
        np.testing.assert_array_equal(flat(function(moved, *p.args[1:], **p.extras)),
                                      flat(function(*p.args, **p.extras)))


@every_single
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_order_of_float32_X_gives_the_same_bits(function, layout):
    for p in layout_problems(np.float32):
        moved = LAYOUTS[layout](p.X)
        want = p.of_type(np.float64) if layout == "list" else p  # a list's numbers are float64
        np.testing.assert_array_equal(flat(function(moved, *p.args[1:], **p.extras)),
                                      flat(function(*want.args, **want.extras)))


@every_function
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int16], ids=lambda dtype: dtype.__name__)
def test_a_row_that_is_repeated_by_a_stride_of_0_gives_the_bits_of_its_copies(function, dtype):
    for p in layout_problems(np.float64):
        X = np.broadcast_to((8 * p.X[:1]).astype(dtype), p.X.shape)
        assert X.strides[0] == 0
        np.testing.assert_array_equal(flat(function(X, *p.args[1:], **p.extras)),
                                      flat(function(X.copy(), *p.args[1:], **p.extras)))


@pytest.mark.parametrize(("function", "dtype"), [
    pytest.param(FUNCTIONS[name], dtype, id=f"{np.dtype(dtype)}-{name}") for name in FUNCTIONS for dtype in (
        np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint64, np.bool_, np.float16, np.float32, np.longdouble)
    if not (dtype is np.float32 and name in SINGLE)])
def test_every_dtype_of_X_gives_the_bits_of_its_values_in_float64(function, dtype):
    for p in layout_problems(np.float64):
        X = np.random.default_rng(1).integers(0, 2 if dtype is np.bool_ else 120, size=p.X.shape).astype(dtype)
        if np.dtype(dtype).kind == "f":
            X = (X / dtype(8)).astype(dtype)
        assert X.dtype == dtype
        want = flat(function(X.astype(np.float64), *p.args[1:], **p.extras))
        for layout in (np.array, np.asfortranarray, with_gaps, lambda X: with_gaps(X.T).T, unaligned, other_byte_order):
            np.testing.assert_array_equal(flat(function(layout(X), *p.args[1:], **p.extras)), want)


LOADED = [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.intc, np.longlong,
          np.bool_, np.float16, np.float32, np.float64, np.longdouble]


@pytest.mark.parametrize("dtype", LOADED, ids=lambda dtype: dtype.__name__)
def test_a_block_is_loaded_with_the_values_of_its_dtype(dtype):
    if np.dtype(dtype).kind in "iu":
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        values = [low, low + 1, high - 1, high, high // 2, high // 3, 0, 1, *([-1, low // 3] if low else [])]
    elif np.dtype(dtype).kind == "f":
        finfo = np.finfo(dtype)
        values = [0, 1, -1, finfo.max, finfo.min, finfo.tiny, finfo.smallest_subnormal, -finfo.smallest_subnormal,
                  finfo.eps]
        if dtype is np.longdouble:  # of which float64 has not all
            values = [0, 1, -1, 1 + finfo.eps, 1 / dtype(3), -2 / dtype(3), dtype(2) ** 1000]
    else:
        values = [False, True]
    row = np.array([values], dtype=dtype)
    assert row.tolist() == [values]
    # float64 has 53 bits for the 64 of int64 and uint64: correctly rounded, as NumPy does
    want = row[0].astype(np.float64).tolist()
    for X in (row, LAYOUTS["every other column"](row), LAYOUTS["negative strides"](row), unaligned(row),
              other_byte_order(row)):
        for column in DenseSamples(X, 2).column_totals():  # of one row: its values
            assert column.tolist() == want
    rows = np.repeat(row, 5, axis=0)
    for X in (np.asfortranarray(rows), rows[::-1], with_gaps(rows)):
        _, low, high = DenseSamples(X, 2).column_totals()
        assert low.tolist() == high.tolist() == want


def test_every_float16_is_loaded_as_numpy_converts_it():
    # all 65 536 as the columns of one row: zeros, denormals, infinities and nan among them
    row = np.arange(2**16, dtype=np.uint16).view(np.float16)[np.newaxis]
    for X in (row, LAYOUTS["every other column"](row), LAYOUTS["negative strides"](row)):
        total, low, high = DenseSamples(X, 2).column_totals()
        np.testing.assert_array_equal(total, row[0].astype(np.float64))
        number = ~np.isnan(row[0])
        np.testing.assert_array_equal(low[number], total[number])
        np.testing.assert_array_equal(high[number], total[number])


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_float16_that_is_not_finite_is_named_wherever_it_stands(value):
    for n, d in ((1, 1), (600, 3), (40, 20)):
        for row, column in ((0, 0), (n - 1, d - 1)):
            X = np.full((n, d), 6e-8, dtype=np.float16)  # the smallest above 0
            assert np.isfinite(cs.log_likelihood(X, np.zeros(n, dtype=int), np.ones((2, d))))
            X[row, column] = value
            for moved in (X, np.asfortranarray(X), X[::-1].copy()[::-1]):
                with pytest.raises(ValueError, match=rf"X has {value} at row {row}, column {column}; finite numbers"):
                    cs.log_likelihood(moved, np.zeros(n, dtype=int), np.ones((2, d)))


@every_function
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64, np.bool_],
                         ids=lambda dtype: dtype.__name__)
def test_every_integer_dtype_of_codes_gives_the_same_bits(function, dtype):
    p = moderate(C=2)
    codes = p.y.astype(dtype)
    want = flat(function(*p.args, **p.extras))
    np.testing.assert_array_equal(flat(function(p.X, codes, *p.args[2:], **p.extras)), want)
    np.testing.assert_array_equal(flat(function(p.X, np.repeat(codes, 2)[::2], *p.args[2:], **p.extras)), want)


@every_function
def test_layouts_of_counts_weights_and_offset_give_the_same_bits(function):
    p = moderate(counts=True)
    want = flat(function(*p.args, **p.extras))
    moved = function(p.X, np.asfortranarray(p.y.astype(np.int8)), p.coef.tolist(), np.repeat(p.intercept, 2)[::2],
                     sample_weight=np.repeat(p.weight, 2)[::2], offset=np.asfortranarray(p.offset))
    np.testing.assert_array_equal(flat(moved), want)


@pytest.mark.parametrize(("function", "dtype"), [
    pytest.param(FUNCTIONS[name], dtype, id=f"{np.dtype(dtype)}-{name}") for name in FUNCTIONS
    for dtype in (np.float64, np.float32) if dtype is np.float64 or name in SINGLE])
@pytest.mark.parametrize("counts", [False, True], ids=["codes", "counts"])
def test_results_are_bit_identical_for_every_number_of_threads(function, dtype, counts):
    # 6 000 rows of 40 + 9 numbers are four row blocks, the first one shorter
    p = moderate(counts, n=6000, d=40, C=9).of_type(dtype)
    assert len(_threads.row_blocks(6000, 49)) == 4
    one = flat(function(*p.args, **p.extras, n_threads=1))
    for n_threads in (2, 3):
        np.testing.assert_array_equal(flat(function(*p.args, **p.extras, n_threads=n_threads)), one)
    # against the rows' own: the blocks are put together rightly, whatever the number of threads
    assert cs.log_likelihood(*p.args, **p.extras) == pytest.approx(
        cs.log_likelihood_per_sample(*p.args, **p.extras).sum(), rel=1e-12 if dtype is np.float64 else 1e-6, abs=0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_several_row_blocks_agree_with_the_oracle(dtype):
    p = moderate(n=6000, d=40, C=9, scale=0.2).of_type(dtype)
    assert abs(cs.log_likelihood(*p.args, **p.extras) - ref.log_likelihood(*p.oracle)) <= (
        ref.log_likelihood_tolerance(*p.oracle, eps=p.eps))
    assert distance(joined(cs.gradient(*p.args, **p.extras)), ref.gradient(*p.oracle)) <= (
        ref.gradient_tolerance(*p.oracle, eps=p.eps))


def results_by_build(p, names):
    results = []
    for build in _dispatch.available():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("csoftmax.samples.kernels", _dispatch.load(build))
            patch.setattr("csoftmax.samples.load_single", lambda build=build: _dispatch.load(build, "_single"))
            results.append({name: flat(FUNCTIONS[name](*p.args, **p.extras)) for name in names})
    return results


BUILD_CASES = [moderate(counts=seed % 2 == 1, n=n, d=d, C=C, seed=seed, scale=1 / np.sqrt(d + 1))
               for seed, (n, d, C) in enumerate([(300, 0, 2), (257, 1, 3), (300, 9, 7), (129, 33, 17), (300, 100, 5),
                                                 (65, 4, 100)])]


@pytest.mark.parametrize("kernel_build", [_dispatch.isa], indirect=True)
def test_no_build_is_further_than_1e_13_from_another():
    # normwise: a component may cancel. Logits of a few units; larger ones multiply every rounding (the oracle's delta)
    for p in BUILD_CASES:
        for a, b in itertools.combinations(results_by_build(p, FUNCTIONS), 2):
            for name in FUNCTIONS:
                assert distance(a[name], b[name]) <= 1e-13 * distance(a[name], 0), name


@pytest.mark.parametrize("kernel_build", [_dispatch.isa], indirect=True)
def test_no_build_in_float32_is_further_than_1e_6_from_another_or_from_float64():
    # 17 roundings of 2^-24, of which 6 were seen; normwise, as above
    for p in BUILD_CASES:
        double = {name: flat(FUNCTIONS[name](*p.of_type(np.float32).of_type(np.float64).args, **p.extras))
                  for name in SINGLE}
        for a, b in itertools.combinations([double, *results_by_build(p.of_type(np.float32), SINGLE)], 2):
            for name in SINGLE:
                assert distance(a[name], b[name]) <= 1e-6 * distance(a[name], 0), name


# ---------------------------------------------------------------------------------------------------------------------
# float32


def test_float32_X_is_summed_in_float32_and_every_other_dtype_in_float64():
    for p in layout_problems(np.float32):
        direction = np.cos(p.W)
        v_parts = direction[:, :-1], direction[:, -1]
        for dtype in (np.float32, np.float64, np.float16, np.longdouble):
            q = p.of_type(dtype)
            same = q.samples(single=dtype is np.float32)
            value, gradient = same.log_likelihood_and_gradient(q.W)
            assert cs.log_likelihood(*q.args, **q.extras) == same.log_likelihood(q.W) == value
            np.testing.assert_array_equal(joined(cs.gradient(*q.args, **q.extras)), gradient)
            np.testing.assert_array_equal(joined(cs.hessian_product(*q.args, *v_parts, **q.extras)),
                                          same.hessian_product(q.W, direction))
            if dtype is not np.float32:  # for which it is no more than a wish
                assert q.samples(single=True).log_likelihood(q.W) == value
        # and float32 it is: 24 bits are not enough for these sums
        assert p.samples(single=True).log_likelihood(p.W) != p.samples().log_likelihood(p.W)


@pytest.mark.parametrize("layout", [np.array, np.asfortranarray, with_gaps, unaligned],
                         ids=["C order", "Fortran order", "gaps", "unaligned"])
@pytest.mark.parametrize("counts", [False, True], ids=["codes", "counts"])
def test_the_objective_of_float32_X_has_the_bits_of_its_values_in_float64(counts, layout):
    p = moderate(counts, n=813, d=43).of_type(np.float32)
    a, b = replace(p, X=layout(p.X)).samples(), p.of_type(np.float64).samples()
    V = np.cos(p.W)
    for seen in (lambda samples: samples, lambda samples: samples.standardized(samples.column_totals())):
        x, y = seen(a), seen(b)
        assert x.log_likelihood(p.W) == y.log_likelihood(p.W)
        for verb, args in (("log_likelihood_and_gradient", (p.W,)), ("hessian_product", (p.W, V)), ("hessian", (p.W,)),
                           ("gram", ()), ("column_totals", ())):
            np.testing.assert_array_equal(flat(getattr(x, verb)(*args)), flat(getattr(y, verb)(*args)))
    objectives = [cs.SoftmaxObjective(X, p.y, l2=0.3, sample_weight=p.weight, offset=p.offset)
                  for X in (layout(p.X), p.X.astype(np.float64))]
    theta, v = p.W.ravel(), V.ravel()
    for method, args in (("loss", (theta,)), ("loss_gradient", (theta,)), ("loss_and_gradient", (theta,)),
                         ("loss_hessian_product", (theta, v)), ("loss_hessian", (theta,))):
        single, double = (getattr(objective, method)(*args) for objective in objectives)
        np.testing.assert_array_equal(flat(single), flat(double))


def test_standardized_float32_rows_are_standardized_in_float64_and_then_rounded():
    # of mean 2e4 and sd 1: in float32 the difference from the mean alone would be good to 1e-3
    p = moderate(n=813, d=43).of_type(np.float32)
    p = replace(p, X=p.X + np.float32(2e4))
    seen = p.samples().standardized(p.samples().column_totals())
    columns = ((p.X.astype(np.float64) - seen.shift) * seen.scale).astype(np.float32)
    want = replace(p, X=columns).samples(single=True)
    for layout in (np.array, np.asfortranarray, with_gaps, lambda X: with_gaps(X.T).T):
        single = replace(p, X=layout(p.X)).samples(single=True).replace(shift=seen.shift, scale=seen.scale)
        np.testing.assert_array_equal(flat(single.log_likelihood_and_gradient(p.W)),
                                      flat(want.log_likelihood_and_gradient(p.W)))
        np.testing.assert_array_equal(single.hessian_product(p.W, np.cos(p.W)),
                                      want.hessian_product(p.W, np.cos(p.W)))


@cache
def standardised(d, C):
    """100 000 rows of columns of mean 0 and sd 1 in float32, and labels of a model of logits of a few units."""
    rng = np.random.default_rng([d, C])
    X = rng.normal(size=(100_000, d))
    X[:, ::3] = np.exp(X[:, ::3])  # skewed
    X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
    W = rng.normal(size=(C, d + 1)) / np.sqrt(d)
    logits = X @ W[:, :-1].T + W[:, -1]
    return X, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1).astype(np.int32), W


@pytest.mark.parametrize("size", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize(("d", "C"), [(1, 2), (10, 3), (20, 6), (10, 11)])
def test_float32_is_within_1e_6_of_float64_and_its_gradient_within_1e_5_on_standardised_data(d, C, size):
    # At size 0 all rows have the term -log C, whose roundings have one sign. At 1, the truth, the gradient is of the
    # size of its own noise, and 1e-5 of it 1e-7 of what was summed: 0.84e-5 were seen.
    X, y, W = standardised(d, C)
    single, double = (cs.log_likelihood_and_gradient(x, y, size * W[:, :-1], size * W[:, -1])
                      for x in (X, X.astype(np.float64)))
    assert abs(single[0] - double[0]) <= 1e-6 * abs(double[0])
    assert np.abs(joined(single[1:]) - joined(double[1:])).max() <= 1e-5 * np.abs(joined(double[1:])).max()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("counts", [False, True], ids=["codes", "counts"])
def test_n_equal_rows_have_n_times_the_log_likelihood_of_one(dtype, counts):
    # in float32 too: its terms are added up in float64, in which 512 of 24 bits are exact, and 10 000 nearly so
    for C in (2, 3, 6, 11, 23):
        y = np.tile(np.arange(C) == 1, (10_000, 1)).astype(float) if counts else np.ones(10_000, dtype=np.int32)
        X, coef = np.full((10_000, 1), 0.7, dtype=dtype), np.linspace(-1, 1, C)[:, np.newaxis]
        for n in (512, 10_000):
            assert cs.log_likelihood(X[:n], y[:n], coef) == pytest.approx(n * cs.log_likelihood(X[:1], y[:1], coef),
                                                                          rel=1e-13, abs=0)


BIG = moderate(n=40)
BIG_COUNTS = moderate(counts=True, n=40)
BEYOND = {
    "logits of 1e50": replace(BIG, X=BIG.X * 1e30, W=BIG.W * 1e20),
    "logits of 1e39": replace(BIG, X=BIG.X * 1e19, W=BIG.W * 1e20),
    "coefficients of 1e39": replace(BIG, W=BIG.W * 1e39),
    # logits of -1 to -9 that are -inf with the coefficients, as if the classes were impossible; the labels are another
    "coefficients of 1e39 at X of 1e-39": replace(BIG, X=-np.abs(BIG.X) * 1e-39, y=BIG.y * 0,
                                                  W=np.arange(4.0)[:, np.newaxis] * [1e39, 1e39, 1e39, 0]),
    "weights of 1e39": replace(BIG, weight=BIG.weight * 1e39),
    "counts of 1e39": replace(BIG_COUNTS, y=BIG_COUNTS.y * 1e39),
    "offsets of 1e39": replace(BIG, offset=BIG.offset * 1e39),
    "X of 3e38, whose sums are larger": replace(BIG, X=np.sign(BIG.X) * 3e38, W=BIG.W * 0),
    "weights times X of 1e40": replace(BIG, X=BIG.X * 1e20, W=BIG.W * 1e-20, weight=BIG.weight * 1e20),
}


@every_single
@pytest.mark.parametrize("beyond", BEYOND)
def test_float32_X_has_the_results_of_float64_beyond_the_range_of_float32(function, beyond):
    # its largest number is 3.4e38
    p = BEYOND[beyond].of_type(np.float32)
    single, double = (function(*q.args, **q.extras) for q in (p, p.of_type(np.float64)))
    for came, want in zip(parts_of(single), parts_of(double), strict=True):
        # the same bits where float32 has no answer, else an answer in float32: at most a few roundings of 2^-24
        assert np.isfinite(want).all()
        np.testing.assert_allclose(came, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_a_direction_beyond_the_range_of_float32_has_the_product_of_float64():
    p = moderate().of_type(np.float32)
    products = [flat(cs.hessian_product(*q.args, 1e39 * q.coef, 1e39 * q.intercept, **q.extras))
                for q in (p, p.of_type(np.float64))]
    assert np.isfinite(products[1]).all()
    np.testing.assert_array_equal(*products)


# ---------------------------------------------------------------------------------------------------------------------
# Memory and long arrays


@pytest.mark.parametrize("layout", ["C order", "Fortran order", "int8"])
def test_no_array_of_samples_by_classes_is_allocated(layout):
    n, d, C = 40_000, 4, 50
    X = np.ones((n, d), dtype=np.int8 if layout == "int8" else np.float64,
                order="F" if layout == "Fortran order" else "C")
    y = np.arange(n, dtype=np.int32) % C
    coef = np.zeros((C, d))
    tracemalloc.start()
    cs.log_likelihood_and_gradient(X, y, coef, n_threads=2)
    cs.hessian_product(X, y, coef, None, coef, None, n_threads=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # n x C would be 16 MB; a block of converted rows is at most 0.5 MB, and four of them wait at any time
    assert peak < 3e6


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.uint8, np.int8, np.int16, np.int64, np.bool_],
                         ids=lambda dtype: dtype.__name__)
def test_X_of_any_dtype_and_order_is_never_copied(dtype, order):
    n, d = 100_000, 32
    X = np.zeros((n, d), dtype=dtype, order=order)
    y = np.zeros(n, dtype=np.int32)
    coef = np.ones((3, d))
    changes = (lambda X: X, lambda X: X[::-1], lambda X: X[:, 1:-1], lambda X: X[:, ::2], lambda X: X[::2])
    tracemalloc.start()
    for change in changes:
        part = change(X)
        few = coef[:, : part.shape[1]]
        cs.log_likelihood_and_gradient(part, y[: len(part)], few, n_threads=2)
        cs.hessian_product(part, y[: len(part)], few, None, few, None, n_threads=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # a copy of half of X would be 1.6 MB of uint8, and 13 MB of float64; 0.1 MB are the blocks' results and the threads
    assert peak < 1e6


def guarded(array, at_its_end):
    """A copy of an array that ends where a page begins that nobody may read; else it begins where one ends."""
    pages = -(-array.nbytes // mmap.PAGESIZE)
    memory = np.frombuffer(mmap.mmap(-1, (pages + 2) * mmap.PAGESIZE), dtype=np.uint8)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for page in (0, pages + 1):
        assert protect(memory.ctypes.data + page * mmap.PAGESIZE, mmap.PAGESIZE, 0) == 0, ctypes.get_errno()
    start = (pages + 1) * mmap.PAGESIZE - array.nbytes if at_its_end else mmap.PAGESIZE
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect is POSIX's")
@pytest.mark.parametrize("at_its_end", [True, False], ids=["end", "beginning"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.uint8], ids=lambda dtype: dtype.__name__)
def test_nothing_before_or_beyond_the_arrays_is_read(dtype, at_its_end):
    # else this process ends here with a segmentation fault
    rng = np.random.default_rng(0)
    # of 1024 rows the last block is a whole one: only there may rows narrower than a vector not be read in place
    for n, d in itertools.product((1, 8, 40, 1024, 1100), (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 40)):
        X = rng.integers(0, 9, size=(n, d + 3)).astype(dtype)
        wide = guarded(X, at_its_end)
        tall = guarded(np.ascontiguousarray(X.T), at_its_end).T
        narrow = guarded(np.ascontiguousarray(X[:, :d]), at_its_end)
        for C in (1, 2, 3, 4, 9, 17):
            coef = rng.normal(size=(C, d))
            codes = guarded(rng.integers(0, C, size=n).astype(np.int32), at_its_end)
            counts, offset = (guarded(rng.random(size=(n, C)), at_its_end) for _ in range(2))
            weight = guarded(rng.random(n), at_its_end)
            # rows as they lie, a wide row stride, from the last row to the first, columns
            for part in (narrow, wide[:, 3:] if at_its_end else wide[:, :-3], narrow[::-1], tall[:, :d]):
                extras = {"sample_weight": weight, "offset": offset, "n_threads": 1}
                came = cs.log_likelihood_and_gradient(part, codes, coef, **extras)
                want = cs.log_likelihood_and_gradient(part.copy(), codes, coef, **extras)
                np.testing.assert_array_equal(flat(came), flat(want))
                came = cs.hessian_product(part, counts, coef, None, coef, None, **extras)
                want = cs.hessian_product(part.copy(), counts, coef, None, coef, None, **extras)
                np.testing.assert_array_equal(flat(came), flat(want))


@pytest.mark.parametrize("kernel_build", [_dispatch.isa], indirect=True)
def test_rows_beyond_2_to_the_31_elements_are_found(kernel_build):
    # 8.6 GB of address space but hardly any memory: pages that nobody wrote to are all the same page of zeros
    d, C = 512, 2
    n = 2**31 // d + 8
    try:
        X = np.zeros((n, d), dtype=np.float32)
    except MemoryError:
        pytest.skip("no address space for 2^31 elements")
    assert (n - 1) * d > np.iinfo(np.int32).max
    X[-1] = 1.0
    codes = np.zeros(n, dtype=np.int32)
    codes[-1] = 1
    coef = np.zeros((C, d))
    # in one call of the kernel, where row * d is the kernel's own arithmetic; above it, rows are counted by Python
    gradient = np.empty((C, d))
    for kernels in (kernel_build, samples.load_single()):
        kernels.log_likelihood_and_gradient(X, kernels.KINDS["f"], None, None, coef, False, codes, None, None, None,
                                            gradient)
        assert gradient.tolist() == [[-0.5] * d, [0.5] * d]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("d", [1, 3, 4, 5, 7, 9, 15])
def test_narrow_rows_read_in_place_and_copied_ones_give_the_same_bits(d, dtype):
    rng = np.random.default_rng(d)
    X = rng.normal(size=(1100, d)).astype(dtype)
    strided = np.column_stack([X, np.full(1100, np.nan, dtype)])[:, :d]  # a stride that makes the kernels copy
    for C in (2, 3, 4, 9):
        coef, intercept, y = rng.normal(size=(C, d)), rng.normal(size=C), rng.integers(0, C, 1100)
        np.testing.assert_array_equal(flat(cs.log_likelihood_and_gradient(X, y, coef, intercept)),
                                      flat(cs.log_likelihood_and_gradient(strided, y, coef, intercept)))
        np.testing.assert_array_equal(cs.predict_proba(X, coef), cs.predict_proba(strided, coef))


@pytest.mark.parametrize("d", [1, 4, 7])
@pytest.mark.parametrize("C", [1, 2, 3, 4, 9])
def test_a_nan_in_a_row_stays_in_that_row(d, C):
    X = np.ones((1100, d))
    X[9, 0] = np.nan  # read together with the row before it where rows are narrower than a vector
    out = DenseSamples(X, C, fit_intercept=False).row_results("probability", np.ones((C, d)), np.empty((1100, C)))
    assert np.flatnonzero(~np.isfinite(out).all(axis=1)).tolist() == [9]


def test_row_blocks_of_a_broadcast_array_are_loaded_one_at_a_time():
    # the same row 2^23 / 8 times, by a stride of 0: what is converted is a block, never the whole
    X = np.broadcast_to(np.array([1, 2, 3, 4], dtype=np.uint8), (2**20, 4))
    tracemalloc.start()
    value, grad, _ = cs.log_likelihood_and_gradient(X, np.zeros(2**20, dtype=np.int32), np.zeros((4, 4)), n_threads=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20 + 2e6  # the codes, and one block; X in float64 would be 32 MB
    # 2^20 equal terms: each addition rounds by half an ulp of the sum at most
    assert value == pytest.approx(-(2**20) * np.log(4), rel=2**20 * EPS / 2, abs=0)
    assert grad[0].tolist() == [0.75 * 2**20 * i for i in (1, 2, 3, 4)]


def test_row_blocks_count_in_whole_numbers_of_any_size():
    # 2^33 rows; only starts and stops are made, 2^14 of them
    blocks = _threads.row_blocks(2**33, 1)
    assert blocks[-1] == (2**33 - 2**19, 2**33)
    X = np.broadcast_to(np.float32(2.0), (2**33, 3))
    assert DenseSamples(X[2**33 - 2 :], 2).column_totals()[0].tolist() == [4.0] * 3


# ---------------------------------------------------------------------------------------------------------------------
# Bad input

X2 = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
Y3 = np.array([0, 1, 2])
COEF = np.zeros((3, 2))
BIAS = np.zeros(3)


@every_function
@pytest.mark.parametrize(("changes", "error", "message"), [
    ({"X": np.ones(3)}, ValueError, r"X has shape \(3,\); \(n_samples, n_features\) is wanted; a single feature is"),
    ({"X": np.ones((3, 2, 1))}, ValueError, r"X has shape \(3, 2, 1\); \(n_samples, n_features\) is wanted"),
    ({"X": scipy.sparse.csr_array(X2)}, TypeError, r"X is sparse \(csr_array\); a dense array is wanted: pass X.toarr"),
    ({"X": np.array([[1, 2], [3, "red"], [5, 6]], dtype=object)}, TypeError, r"X's column 'x2' is not numeric .*red"),
    ({"X": X2.astype(complex)}, TypeError, r"X has dtype complex128; real numbers are wanted"),
    ({"X": X2.astype(str)}, TypeError, r"X has dtype <U32; real numbers are wanted"),
    ({"X": np.ma.masked_less(X2, 2.0)}, ValueError, r"X is a masked array with masked entries"),
    ({"coef": np.zeros((3, 3))}, ValueError, r"coef has shape \(3, 3\); \(n_classes, 2\) is wanted, one column"),
    ({"coef": np.zeros(2)}, ValueError, r"coef has shape \(2,\); \(n_classes, 2\) is wanted"),
    ({"coef": np.zeros((0, 2)), "intercept": np.zeros(0)}, ValueError, r"coef has shape \(0, 2\); it needs one row"),
    ({"intercept": np.zeros(2)}, ValueError, r"intercept has shape \(2,\); \(3,\) is wanted, one for each row of coef"),
    ({"intercept": np.zeros((3, 1))}, ValueError, r"intercept has shape \(3, 1\); \(3,\) is wanted"),
    ({"offset": np.zeros(3)}, ValueError, r"offset has shape \(3,\); \(3, 3\) is wanted, one for each row of X"),
    ({"offset": np.zeros((3, 2))}, ValueError, r"offset has shape \(3, 2\); \(3, 3\) is wanted"),
    ({"offset": np.full((3, 3), "1")}, TypeError, r"offset has dtype <U1; real numbers are wanted"),
    ({"offset": np.ma.masked_equal(np.eye(3), 0)}, ValueError, r"offset is a masked array with masked entries"),
    ({"coef": COEF + 1j}, TypeError, r"coef has dtype complex128; real numbers are wanted"),
    ({"coef": COEF.astype("M8[s]")}, TypeError, r"coef has dtype datetime64\[s\]; real numbers are wanted"),
    ({"coef": COEF.astype(str)}, TypeError, r"coef has dtype <U32; real numbers are wanted"),
    ({"coef": [["1", "2"]] * 3}, TypeError, r"coef has dtype <U1; real numbers are wanted"),
    ({"coef": np.ma.masked_equal(np.eye(3)[:, :2], 0)}, ValueError, r"coef is a masked array with masked entries"),
    ({"intercept": BIAS + 1j}, TypeError, r"intercept has dtype complex128; real numbers are wanted"),
    ({"intercept": np.ma.masked_equal(BIAS, 0)}, ValueError, r"intercept is a masked array with masked entries"),
    ({"n_threads": 0}, ValueError, r"n_threads is 0; it must be None or a whole number from 1"),
    ({"n_threads": 2.0}, ValueError, r"n_threads is 2.0; it must be None or a whole number from 1"),
    ({"n_threads": True}, ValueError, r"n_threads is True; it must be None or a whole number from 1"),
])
def test_what_does_not_fit_raises_with_its_name(function, changes, error, message):
    arguments = {"X": X2, "coef": COEF, "intercept": BIAS, "y": Y3} | changes
    with pytest.raises(error, match=message):
        function(arguments.pop("X"), arguments.pop("y"), **arguments)


def test_a_masked_array_without_a_masked_entry_is_an_array():
    masked = [np.ma.masked_array(array) for array in (X2, Y3, COEF + np.eye(3)[:, :2], BIAS)]
    assert cs.log_likelihood(*masked) == cs.log_likelihood(*[array.data for array in masked])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_an_offset_of_minus_infinity_takes_a_class_out_of_its_row(dtype):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 3)).astype(dtype), np.arange(40) % 3
    coef, intercept = rng.normal(size=(4, 3)), np.ones(4)
    offset = np.zeros((40, 4))
    offset[:, 3] = -np.inf  # no row has class 3
    value, grad_coef, grad_intercept = cs.log_likelihood_and_gradient(X, y, coef, intercept, offset=offset)
    few = cs.log_likelihood_and_gradient(X, y, coef[:3], intercept[:3])
    rtol = 1e-13 if dtype == np.float64 else 1e-5
    assert value == pytest.approx(few[0], rel=rtol)
    np.testing.assert_allclose(grad_coef[:3], few[1], rtol=rtol, atol=40 * rtol)
    np.testing.assert_allclose(grad_intercept[:3], few[2], rtol=rtol, atol=40 * rtol)
    assert not grad_coef[3].any() and grad_intercept[3] == 0
    assert not cs.predict_proba(X, coef, intercept, offset=offset)[:, 3].any()
    product, _ = cs.hessian_product(X, y, coef, intercept, coef, intercept, offset=offset)
    assert not product[3].any() and np.isfinite(product).all()
    offset[7, 1] = -np.inf  # row 7 has class 1
    with pytest.raises(ValueError, match=r"offset has -inf at row 0, column 3"):
        cs.log_likelihood(X, y, coef, intercept, offset=offset)


def test_counts_beside_float32_X_are_looked_through_a_block_at_a_time():
    X, counts = np.zeros((400_000, 2), dtype=np.float32), np.ones((400_000, 10))
    tracemalloc.start()
    try:
        cs.log_likelihood(X, counts, np.zeros((10, 2)), n_threads=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < counts.nbytes / 4


WITH_Y = [name for name in FUNCTIONS if name != "predict_proba"]
every_function_of_y = pytest.mark.parametrize("function", [FUNCTIONS[name] for name in WITH_Y], ids=WITH_Y)


@every_function_of_y
@pytest.mark.parametrize(("changes", "message"), [
    ({"y": np.array([0, 1])}, r"y has shape \(2,\) and dtype int64; \(3,\) of integer codes or \(3, 3\) of counts"),
    ({"y": np.zeros((3, 1))}, r"y has shape \(3, 1\) and dtype float64; \(3,\) of integer codes"),
    ({"y": np.zeros((3, 4))}, r"y has shape \(3, 4\) and dtype float64"),
    ({"y": np.zeros((2, 3))}, r"y has shape \(2, 3\) and dtype float64"),
    ({"y": np.array([0.0, 1.0, 2.0])}, r"y has shape \(3,\) and dtype float64; \(3,\) of integer codes"),
    ({"y": np.array(["a", "b", "c"])}, r"y has shape \(3,\) and dtype <U1; \(3,\) of integer codes"),
    ({"y": np.ma.masked_equal(Y3, 2)}, r"y is a masked array with masked entries; drop those rows or fill them"),
    ({"y": np.ma.masked_equal(np.eye(3), 0)}, r"y is a masked array with masked entries"),
    ({"sample_weight": np.ones(2)}, r"sample_weight has shape \(2,\); \(3,\) is wanted, one for each row of X"),
    ({"sample_weight": np.ones((3, 1))}, r"sample_weight has shape \(3, 1\); \(3,\) is wanted"),
    ({"sample_weight": ["a", "b", "c"]}, r"sample_weight has dtype <U1; real numbers are wanted"),
    ({"sample_weight": np.ma.masked_equal(Y3, 2)}, r"sample_weight is a masked array with masked entries"),
])
def test_labels_and_weights_that_do_not_fit_raise_with_their_name(function, changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        function(X2, changes.get("y", Y3), COEF, BIAS, sample_weight=changes.get("sample_weight"))


@every_function_of_y
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.int8])
@pytest.mark.parametrize("code", [-1, 3, "lowest", "highest"])
def test_codes_out_of_range_raise_with_their_row_and_read_nothing_out_of_bounds(function, dtype, code):
    value = {"lowest": np.iinfo(dtype).min, "highest": np.iinfo(dtype).max}.get(code, code)
    codes = np.array([0, 1, value], dtype=dtype)
    message = rf"y has the code {value} at row 2; codes run from 0 to 2, one for each row of coef"
    for X in (X2, X2.astype(np.float32)):
        with pytest.raises(ValueError, match=message):
            function(X, codes, COEF, BIAS)


def test_an_unsigned_code_that_would_wrap_raises():
    with pytest.raises(ValueError, match=rf"y has the code {2**64 - 1} at row 1"):
        cs.log_likelihood(X2, np.array([0, 2**64 - 1, 1], dtype=np.uint64), COEF)
    with pytest.raises(ValueError, match=rf"y has the code {2**32} at row 0"):
        cs.log_likelihood(X2, np.array([2**32, 1, 1]), COEF)


@every_function
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_a_value_of_X_that_is_not_finite_raises_with_row_and_column(function, value, dtype):
    X = X2.astype(dtype)
    X[1, 0] = value
    with pytest.raises(ValueError, match=rf"X has {value} at row 1, column 0; finite numbers are wanted"):
        function(X, Y3, COEF + np.arange(3)[:, np.newaxis], BIAS)


@every_function
def test_the_row_of_a_bad_value_is_counted_from_the_first_row_of_X(function):
    X = np.zeros((70_000, 2))
    X[69_999, 1] = np.nan
    with pytest.raises(ValueError, match=r"X has nan at row 69999, column 1; finite"):
        function(X, np.zeros(70_000, dtype=int), np.zeros((2, 2)), np.zeros(2))


@every_function_of_y
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nan_weights_counts_and_offsets_raise_with_their_place(function, dtype):
    X = X2.astype(dtype)
    with pytest.raises(ValueError, match=r"sample_weight has nan at row 1; finite numbers are wanted"):
        function(X, Y3, COEF, BIAS, sample_weight=[1.0, np.nan, 1.0])
    counts = np.eye(3)
    counts[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"y has nan at row 2, column 1; finite numbers are wanted"):
        function(X, counts, COEF, BIAS)
    offset = np.zeros((3, 3))
    offset[0, 2] = np.inf
    with pytest.raises(ValueError, match=r"offset has inf at row 0, column 2; finite numbers are wanted"):
        function(X, Y3, COEF, BIAS, offset=offset)


def test_the_direction_of_a_hessian_product_has_the_shapes_of_the_parameters():
    with pytest.raises(ValueError, match=r"v_intercept is None where intercept is given; both or neither are wanted"):
        cs.hessian_product(X2, Y3, COEF, BIAS, COEF, None)
    with pytest.raises(ValueError, match=r"v_intercept is given where intercept is None; both or neither are wanted"):
        cs.hessian_product(X2, Y3, COEF, None, COEF, BIAS)
    with pytest.raises(ValueError, match=r"v_coef has shape \(3, 1\); \(n_classes, 2\) is wanted"):
        cs.hessian_product(X2, Y3, COEF, None, COEF[:, :1], None)
    with pytest.raises(ValueError, match=r"v_coef has 2 rows where coef has 3"):
        cs.hessian_product(X2, Y3, COEF, None, COEF[:2], None)
    with pytest.raises(ValueError, match=r"v_intercept has shape \(2,\); \(3,\) is wanted, one for each row of v_coef"):
        cs.hessian_product(X2, Y3, COEF, BIAS, COEF, BIAS[:2])


def read_only(shape):
    out = np.empty(shape)
    out.flags.writeable = False
    return out


@pytest.mark.parametrize(("out", "came"), [
    (np.empty((3, 2)), r"shape \(3, 2\) and dtype float64"),
    (np.empty(9), r"shape \(9,\) and dtype float64"),
    (np.empty((3, 3), dtype=np.float32), r"shape \(3, 3\) and dtype float32"),
    (np.empty((3, 3), order="F"), r"shape \(3, 3\) and dtype float64"),
    (np.empty((3, 6))[:, ::2], r"shape \(3, 3\) and dtype float64"),
    (read_only((3, 3)), r"shape \(3, 3\) and dtype float64"),
    ([[0.0] * 3] * 3, r"shape None and dtype None"),
])
def test_an_out_that_does_not_fit_raises(out, came):
    with pytest.raises(ValueError, match=rf"out has {came}; a writable float64 array of shape \(3, 3\) in C order is"):
        cs.predict_proba(X2, COEF, BIAS, out=out)


def test_out_is_written_to_and_returned():
    out = np.full((3, 3), np.nan)
    assert cs.predict_proba(X2, COEF, BIAS, out=out) is out
    np.testing.assert_allclose(out, 1 / 3, rtol=2 * EPS)


# ---------------------------------------------------------------------------------------------------------------------
# The objective as users build it


def test_the_objective_of_labels_is_minus_the_log_likelihood_of_codes():
    p = moderate()
    labels = np.array(["a", "b", "c", "d"])[p.y]
    objective = cs.SoftmaxObjective(p.X, labels, sample_weight=p.weight, offset=p.offset, l2=0.3)
    assert objective.classes.tolist() == ["a", "b", "c", "d"]
    assert objective.n_params == p.W.size
    theta = p.W.ravel()
    value, *parts = cs.log_likelihood_and_gradient(*p.args, **p.extras)
    loss, gradient = objective.loss_and_gradient(theta)
    # the penalty is one rounding of a sum of 12 squares
    assert loss == pytest.approx(-value + 0.15 * (p.coef**2).sum(), rel=8 * EPS, abs=0)
    shrink = np.column_stack([0.3 * p.coef, np.zeros(4)])
    np.testing.assert_allclose(gradient.reshape(p.W.shape), shrink - joined(parts), rtol=4 * EPS, atol=4 * EPS)


def test_the_intercept_is_not_penalised():
    theta = np.array([0.0, 5.0, 0.0, -5.0])  # rows [w_k, b_k]
    free = cs.SoftmaxObjective([[1.0], [2.0]], [0, 1])
    penalised = cs.SoftmaxObjective([[1.0], [2.0]], [0, 1], l2=1e6)
    assert penalised.loss(theta) == free.loss(theta)
    np.testing.assert_array_equal(penalised.loss_gradient(theta), free.loss_gradient(theta))
    assert penalised.loss_hessian(theta)[1, 1] == free.loss_hessian(theta)[1, 1]
    assert penalised.loss_hessian(theta)[0, 0] == free.loss_hessian(theta)[0, 0] + 1e6


@pytest.mark.parametrize("method", ["loss", "loss_gradient", "loss_and_gradient", "loss_hessian"])
def test_theta_of_the_wrong_shape_raises(method):
    objective = cs.SoftmaxObjective(X2, Y3)
    for theta in (np.zeros(8), np.zeros((3, 3)), 0.0):
        with pytest.raises(ValueError, match=r"theta has shape \(.*\); \(9,\) is wanted: rows \[w_k, b_k\] of 3 cl"):
            getattr(objective, method)(theta)
        with pytest.raises(ValueError, match=r"v has shape \(.*\); \(9,\) is wanted"):
            objective.loss_hessian_product(np.zeros(9), theta)


@pytest.mark.parametrize(("l2", "error", "message"), [
    (-1.0, ValueError, r"l2 is -1.0; a finite number of 0 or more is wanted"),
    (np.nan, ValueError, r"l2 is nan; a finite number of 0 or more is wanted"),
    (np.inf, ValueError, r"l2 is inf; a finite number of 0 or more is wanted"),
    ("much", TypeError, r"l2 is 'much'; a number is wanted"),
    (None, TypeError, r"l2 is None; a number is wanted"),
])
def test_a_penalty_that_is_no_number_of_0_or_more_raises(l2, error, message):
    with pytest.raises(error, match=message):
        cs.SoftmaxObjective(X2, Y3, l2=l2)


def test_an_unknown_keyword_raises():
    for function in (cs.log_likelihood, cs.SoftmaxObjective):
        with pytest.raises(TypeError, match=r"unexpected keyword argument 'weights'"):
            function(X2, Y3, weights=np.ones(3))


def test_theta_that_is_not_finite_gives_nan_from_the_objective():
    objective = cs.SoftmaxObjective(X2, Y3, l2=1.0)
    for value in (np.nan, np.inf, -np.inf):
        theta = np.zeros(9)
        theta[4] = value
        loss, gradient = objective.loss_and_gradient(theta)
        assert np.isnan(loss)
        assert np.isnan(gradient).all()
        assert np.isnan(objective.loss_hessian_product(theta, np.ones(9))).all()


# ---------------------------------------------------------------------------------------------------------------------
# The other verbs of the seam: what metric, separation and certificate stand on


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int8])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (7, 3), (33, 9), (300, 17), (2000, 40)])
def test_gram_and_totals_are_those_of_numpy(dtype, fit_intercept, n, d):
    rng = np.random.default_rng(n)
    X = rng.integers(-9, 9, size=(n, d)).astype(dtype)
    weight = rng.integers(0, 4, size=n).astype(float)
    counts = rng.integers(0, 3, size=(n, 3)).astype(float)
    samples = DenseSamples(X, 3, counts=counts, weights=weight, fit_intercept=fit_intercept, n_threads=2)
    wide = X.astype(float)
    design = np.column_stack([wide, np.ones(n)]) if fit_intercept else wide
    mass = weight * counts.sum(axis=1)
    # whole numbers below 2^53 throughout: exact
    np.testing.assert_array_equal(samples.mass(), mass)
    np.testing.assert_array_equal(samples.gram(), (design * mass[:, np.newaxis]).T @ design)
    total, low, high = samples.column_totals()
    np.testing.assert_array_equal(total, mass @ wide)
    some = wide[mass > 0]  # rows that weigh nothing are absent
    np.testing.assert_array_equal(low, some.min(axis=0, initial=np.inf))
    np.testing.assert_array_equal(high, some.max(axis=0, initial=-np.inf))
    np.testing.assert_array_equal(samples.class_totals(), weight @ counts)


def test_totals_of_codes_are_weights_by_class():
    samples = DenseSamples(np.zeros((5, 1)), 4, codes=np.array([3, 0, 3, 1, 0]), weights=np.array([1.0, 2, 4, 8, 16]))
    assert samples.class_totals().tolist() == [18.0, 8.0, 0.0, 5.0]


def test_the_range_and_the_squares_of_a_rows_logits():
    rng = np.random.default_rng(2)
    X, params = rng.integers(-5, 5, size=(300, 3)).astype(float), rng.integers(-5, 5, size=(5, 4)).astype(float)
    weight = np.ones(300)
    logits = X @ params[:, :-1].T + params[:, -1]
    # a direction's, not a parameter's: the offset is no part of it
    samples = DenseSamples(X, 5, codes=np.zeros(300, dtype=np.int32), weights=weight, offset=np.full((300, 5), 1e6))
    assert samples.row_maximum("logit_range", params) == np.ptp(logits, axis=1).max()
    assert samples.row_maximum("logit_squares", params) == (logits**2).sum(axis=1).max()
    weight[np.argmax(np.ptp(logits, axis=1))] = 0.0  # a row of no mass does not count
    kept = weight > 0
    assert samples.row_maximum("logit_range", params) == np.ptp(logits[kept], axis=1).max()


@pytest.mark.parametrize("row", [0, 1, 4])
def test_the_range_of_logits_that_are_nan_is_nan(row):
    samples = DenseSamples(np.ones((3, 1)), 5, codes=np.zeros(3, dtype=np.int32))
    params = np.ones((5, 2))
    params[row, 0] = np.nan
    assert np.isnan(samples.row_maximum("logit_range", params))


@pytest.mark.parametrize("layout", [np.array, np.asfortranarray, with_gaps], ids=["C order", "Fortran order", "gaps"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_standardized_samples_are_the_same_model_in_other_units(fit_intercept, layout):
    rng = np.random.default_rng(4)
    # 13 columns: more than a register's square, which is at most 8 wide
    X = np.column_stack([rng.normal(2e5, 30, size=(200, 4)), rng.normal(size=(200, 4)), np.full((200, 2), 7.0),
                         rng.integers(0, 2, size=(200, 3))])
    codes = rng.integers(0, 3, size=200).astype(np.int32)
    samples = DenseSamples(layout(X), 3, codes=codes, fit_intercept=fit_intercept)
    seen = samples.standardized(samples.column_totals())
    columns = (X - seen.shift) * seen.scale
    assert np.abs(columns).max() <= 1.0
    assert (np.frexp(seen.scale)[0] == 0.5).all()  # powers of two
    assert fit_intercept or not seen.shift.any()
    params = rng.normal(size=seen.params_shape)
    # one rounding for each standardised element, as the kernel has
    want = DenseSamples(columns, 3, codes=codes, fit_intercept=fit_intercept).log_likelihood_and_gradient(params)
    value, gradient = seen.log_likelihood_and_gradient(params)
    # 200 terms of a few units each
    assert value == pytest.approx(want[0], rel=1e-13, abs=0)
    np.testing.assert_allclose(gradient, want[1], rtol=0, atol=200 * 1e-14)


def test_probabilities_may_be_written_over_a_part_of_X_or_of_the_coefficients():
    rng = np.random.default_rng(4)
    n = 20_000
    x, coef = rng.normal(size=(n, 3)), rng.normal(size=(3, 3))
    want = cs.predict_proba(x, coef)
    memory = np.empty((n + 1) * 3)
    X = memory[:-3].reshape(n, 3)
    X[:] = x
    np.testing.assert_array_equal(cs.predict_proba(X, coef, out=memory[3:].reshape(n, 3)), want)
    out = np.empty((n, 3))
    out[:3] = coef
    np.testing.assert_array_equal(cs.predict_proba(x, out[:3], out=out), want)


def test_weights_below_the_range_of_float32_count_in_full():
    p = moderate()
    X = p.X.astype(np.float32)
    for weight in (1e-40, 1e-46, 1e-300):
        single, double = (cs.log_likelihood(x, *p.args[1:], sample_weight=np.full(len(X), weight))
                          for x in (X, X.astype(np.float64)))
        assert single == double != 0


def test_a_logit_that_overflows_to_minus_infinity_is_not_a_probability_of_0():
    X, coef = np.ones((1, 4), dtype=np.float32), np.array([[-3e38, -3e38, 3e38, 3e38], [0, 0, 0, 0]])
    assert cs.log_likelihood(X, [1], coef) == pytest.approx(-np.log(2), rel=1e-15)  # their sum is 0


@pytest.mark.parametrize("far", [1e155, -1e200, 1e307])
def test_a_far_row_of_one_certain_class_or_of_weight_0_adds_nothing_to_the_hessian(kernel_build, far):
    # its product of two columns overflows: 0 times that would be nan
    rng = np.random.default_rng(5)
    X, y, coef = rng.standard_normal((40, 3)), rng.integers(0, 3, 40), rng.standard_normal((3, 3))
    want = cs.hessian(X, y, coef, np.zeros(3))
    beyond = np.vstack([X, [far, 0.3, 1.0]])  # at the end: the others keep their lanes
    labels = np.append(y, 0)
    np.testing.assert_array_equal(cs.hessian(beyond, labels, coef, np.zeros(3)), want)
    weights = np.append(np.ones(40), 0.0)
    unclear = np.zeros((3, 3))  # every class is as likely
    np.testing.assert_array_equal(cs.hessian(beyond, labels, unclear, np.zeros(3), sample_weight=weights),
                                  cs.hessian(X, y, unclear, np.zeros(3)))
    assert np.isinf(cs.hessian(beyond, labels, unclear, np.zeros(3))).any()


def test_a_hessian_that_overflows_is_infinite_without_a_warning(kernel_build):
    X = np.random.default_rng(0).standard_normal((20, 2)) * [1e154, 1.0]  # of one pair finite, of their sum not
    hessian = cs.SoftmaxObjective(X, np.arange(20) % 3).loss_hessian(np.zeros(9)).reshape(3, 3, 3, 3)
    assert np.isinf(hessian[:, 0, :, 0]).any() and np.isfinite(hessian[:, 1:, :, 1:]).all()
