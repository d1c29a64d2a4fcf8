"""The Hessian's blocks on the diagonal: what they are, the bound on their metric, and what it saves.

It stands on csoftmax.blocks and csoftmax.maximize.
"""

import numpy as np
import pytest

import csoftmax as cs
from csoftmax import blocks as blocks_module
from csoftmax import certificate as certificate_module
from csoftmax import maximize as maximize_module
from csoftmax.blocks import ClassBlocks
from csoftmax.metric import MetricCoordinates


def problem(kind="labels", n=300, d=12, n_classes=8, seed=0):
    """Columns that separate some classes almost, so that the blocks differ."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * 10.0 ** rng.integers(-3, 4, d)
    logits = 3 * (X / X.std(axis=0)) @ rng.standard_normal((d, n_classes))
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    y[:n_classes] = np.arange(n_classes)
    options = {}
    if kind == "weights":
        options["sample_weight"] = np.where(np.arange(n) < n_classes, 1.0, rng.integers(0, 4, n))
    if kind == "counts":
        y = rng.integers(0, 3, (n, n_classes))
    if kind == "offset":
        options["offset"] = rng.standard_normal((n, n_classes))
    return X, y, options


def metric_of(X, y, l2=1.0, **options):
    return MetricCoordinates(cs.SoftmaxObjective(X, y, l2=l2, **options))


@pytest.mark.parametrize("kind", ["labels", "weights", "counts", "offset"])
@pytest.mark.parametrize("n_classes", [2, 3, 60])  # of 60 the kernel takes 48 at a time
def test_the_blocks_are_the_hessians_own(kind, n_classes):
    X, y, options = problem(kind, n=600, d=5, n_classes=n_classes)
    samples = cs.SoftmaxObjective(X / X.std(axis=0), y, **options).samples
    params = 0.3 * np.random.default_rng(1).standard_normal(samples.params_shape)
    hessian = samples.hessian(params)
    expected = np.stack([-hessian[k, :, k] for k in range(samples.n_classes)])
    # 1 - p and the sum of the other p round differently, by 1e-16 of a row's share: a thousand rows of size 10
    np.testing.assert_allclose(samples.hessian_diagonal(params), expected, rtol=1e-12,
                               atol=1e-14 * np.abs(expected).max())


def test_blocks_of_many_rows_are_the_same_to_the_bit_for_every_number_of_threads():
    X, y, _ = problem(n=60_000, d=12)
    answers = []
    for n_threads in (1, 2, 3):
        samples = cs.SoftmaxObjective(X, y, n_threads=n_threads).samples
        answers.append(samples.hessian_diagonal(np.zeros(samples.params_shape)).tobytes())
    assert len(set(answers)) == 1


@pytest.mark.parametrize("l2", [1.0, [0.0] * 6 + [2.0] * 6, [[2.0] * 12] + [[0.5] * 12] * 7])
def test_in_the_metric_of_the_blocks_no_eigenvalue_is_above_2(l2):
    coordinates = metric_of(*problem()[:2], l2=l2)
    rng = np.random.default_rng(2)
    for size in (0.0, 1.0, 5.0):
        u = size * rng.standard_normal(coordinates.n_coordinates)
        blocks = ClassBlocks(coordinates, u)
        assert blocks.factorized
        change = np.stack([blocks.from_own_metric(v) for v in np.eye(blocks.n_own)], axis=1)
        values = np.linalg.eigvalsh(change.T @ coordinates.hessian(u) @ change)
        assert values.max() <= 2 * (1 + 1e-9)  # 1e-12 is added to each diagonal, and the condition is about 1e3
        gradient = rng.standard_normal(coordinates.n_coordinates)
        np.testing.assert_allclose(blocks.to_own_metric(gradient), change.T @ gradient, rtol=1e-9,
                                   atol=1e-12 * np.abs(change).max())
        np.testing.assert_allclose(blocks.precondition(gradient), change @ change.T @ gradient, rtol=1e-8,
                                   atol=1e-11 * np.abs(change).max() ** 2)


def without_blocks(monkeypatch):
    class Unfactorized:
        factorized = False

        def __init__(self, coordinates, u):
            pass

    for module in (maximize_module, certificate_module):
        monkeypatch.setattr(module, "ClassBlocks", Unfactorized)


def test_where_a_hessian_is_dear_the_blocks_take_a_third_of_the_gradients(monkeypatch):
    X, y, _ = problem(n=1500, d=40, n_classes=20)
    with_blocks = cs.fit(X, y, l2=1.0)
    without_blocks(monkeypatch)
    without = cs.fit(X, y, l2=1.0)
    assert with_blocks.success and without.success
    assert 3 * with_blocks.optimize_result.nfev < without.optimize_result.nfev
    # both are certified: one more step would move no range of a row's logits by 1e-6
    moved = X @ (with_blocks.coef - without.coef).T + with_blocks.intercept - without.intercept
    assert np.ptp(moved, axis=1).max() < 2e-6


def test_conjugate_gradients_with_the_blocks_take_a_third_of_the_products(monkeypatch):
    coordinates = metric_of(*problem(n=1500, d=40, n_classes=20)[:2])
    counts = []
    product = MetricCoordinates.hessian_product
    monkeypatch.setattr(MetricCoordinates, "hessian_product",
                        lambda self, u, v: (counts.append(1), product(self, u, v))[1])
    u = cs.fit(*problem(n=1500, d=40, n_classes=20)[:2], l2=1.0)._u
    steps = []
    for blocks in (True, False):
        counts.clear()
        if not blocks:
            without_blocks(monkeypatch)
        newton = certificate_module.NewtonSteps(coordinates, u, form=False)
        steps.append((len(counts), newton.smallest))
    assert 3 * steps[0][0] < steps[1][0]
    # Rayleigh quotients of two solutions to 1e-3 of one right side
    assert steps[0][1] == pytest.approx(steps[1][1], rel=0.05)


def test_blocks_too_large_to_be_held_are_not_made(monkeypatch):
    X, y, _ = problem(n=400, d=30, n_classes=12)
    expected = cs.fit(X, y, l2=1.0)
    monkeypatch.setattr(blocks_module, "_MOST_NUMBERS", 12 * 31 * 31 - 1)
    monkeypatch.setattr(ClassBlocks, "__init__", lambda *args: pytest.fail("made"))
    result = cs.fit(X, y, l2=1.0)
    assert result.success and result.penalized_log_likelihood == pytest.approx(
        expected.penalized_log_likelihood, rel=1e-13, abs=0)  # both certified to 1e-6 in the logits, squared


def test_blocks_of_classes_that_are_certain_everywhere_are_no_metric():
    # logits of 1e4: probabilities are 0 and 1, and without a penalty each block is 0
    X, y, _ = problem(n=100, d=3, n_classes=4)
    coordinates = metric_of(X, y, l2=0.0)
    u = 1e4 * np.random.default_rng(0).standard_normal(coordinates.n_coordinates)
    assert not ClassBlocks(coordinates, u).factorized
