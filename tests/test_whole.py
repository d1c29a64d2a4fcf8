"""A small problem held whole: the mean loss in one call is the one that the metric's coordinates compute step by step.

Nothing stands on this file. It stands on csoftmax.metric and the compiled builds.
"""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import csoftmax as cs
from csoftmax.metric import MetricCoordinates
from csoftmax.restricted import Plane, RestrictedCoordinates
from csoftmax.samples import DenseSamples, JoinedColumns


def problem(n, d, n_classes, *, counts=False, weights=False, offset=False, l2=0.0, fit_intercept=True, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * 10.0 ** rng.integers(-3, 4, size=d) + 5.0
    y = rng.poisson(2.0, size=(n, n_classes)) if counts else np.arange(n) % n_classes
    return cs.SoftmaxObjective(X, y, l2=l2, fit_intercept=fit_intercept,
                               sample_weight=rng.integers(0, 3, size=n) if weights else None,
                               offset=rng.standard_normal((n, n_classes)) if offset else None)


def both_ways(objective):
    """Coordinates that hold the problem whole, and the same that don't."""
    whole, stepwise = MetricCoordinates(objective), MetricCoordinates(objective)
    assert type(whole._whole_loss).__name__ == "WholeLoss"
    stepwise._whole_loss = None
    return whole, stepwise


PROBLEMS = {
    "labels": dict(n=40, d=3, n_classes=4),
    "two classes": dict(n=50, d=5, n_classes=2, l2=0.7),
    "many classes": dict(n=90, d=2, n_classes=11, l2=0.1),
    "more than a block": dict(n=1300, d=4, n_classes=3, weights=True),
    "weights": dict(n=60, d=3, n_classes=3, weights=True, l2=[0.0, 1.0, 1e-3]),
    "counts": dict(n=30, d=2, n_classes=5, counts=True, weights=True),
    "offset": dict(n=45, d=3, n_classes=3, offset=True, l2=2.0),
    "l2 by class": dict(n=45, d=2, n_classes=3, l2=np.arange(6.0).reshape(3, 2)),
    "no intercept": dict(n=33, d=4, n_classes=3, fit_intercept=False),
    "intercept alone": dict(n=20, d=0, n_classes=3, weights=True),
}


@pytest.mark.parametrize("kind", PROBLEMS)
def test_a_problem_held_whole_has_the_loss_of_its_parts(kind, kernel_build):
    objective = problem(**PROBLEMS[kind])
    whole, stepwise = both_ways(objective)
    rng = np.random.default_rng(1)
    mass = rng.uniform(size=objective.samples.n_samples)
    for size in (0.0, 1.0, 30.0):
        u, v = size * rng.standard_normal(whole.n_coordinates), rng.standard_normal(whole.n_coordinates)
        (value, gradient), (want, pull) = whole.loss_and_gradient(u), stepwise.loss_and_gradient(u)
        # sums of up to 1300 terms of size 1, in another order: 1e-14; of z'u of size 100 each logit is wrong by 1e-13
        assert value == pytest.approx(want, rel=1e-12)
        np.testing.assert_allclose(gradient, pull, rtol=0, atol=1e-12)
        np.testing.assert_allclose(whole.hessian(u), stepwise.hessian(u), rtol=0, atol=1e-12)
        np.testing.assert_allclose(whole.hessian(u, mass), stepwise.hessian(u, mass), rtol=0, atol=1e-12)
        assert (whole.hessian(u) == whole.hessian(u).T).all()
        assert whole.logit_range(v) == pytest.approx(stepwise.logit_range(v), rel=1e-12)
    assert whole.largest_leverage == pytest.approx(stepwise.largest_leverage, rel=1e-12)


def test_rows_without_mass_count_neither_in_a_range_nor_in_a_leverage():
    rng = np.random.default_rng(0)
    X, weights = rng.standard_normal((30, 2)), np.ones(30)
    X[7], weights[7] = 1e5, 0.0  # of columns of about 1: its logits would change by about 1e5
    whole, stepwise = both_ways(cs.SoftmaxObjective(X, np.arange(30) % 3, sample_weight=weights))
    v = rng.standard_normal(whole.n_coordinates)
    assert whole.logit_range(v) == pytest.approx(stepwise.logit_range(v), rel=1e-12)
    assert whole.logit_range(v) < 100  # |v| |z| sqrt(2), of 6 coordinates and rows of length 3
    assert whole.largest_leverage == pytest.approx(stepwise.largest_leverage, rel=1e-12)


def test_threads_that_share_a_problem_held_whole_get_what_each_gets_alone():
    whole, _ = both_ways(problem(n=900, d=20, n_classes=11))  # Hessians of 1 ms: others run meanwhile
    points = np.random.default_rng(0).standard_normal((4, whole.n_coordinates))

    def at(u):
        return [(*whole.loss_and_gradient(u), whole.hessian(u), whole.logit_range(u)) for _ in range(25)]

    alone = [at(u)[0] for u in points]
    with ThreadPoolExecutor(len(points)) as pool:
        for want, found in zip(alone, pool.map(at, points), strict=True):
            for values in found:
                assert all(np.array_equal(a, b) for a, b in zip(want, values, strict=True))


def test_a_direction_that_is_not_finite_has_no_range():
    whole, _ = both_ways(problem(n=40, d=3, n_classes=4))
    assert np.isnan(whole.logit_range(np.full(whole.n_coordinates, np.nan)))


def test_another_number_of_coordinates_is_refused():
    whole, _ = both_ways(problem(n=40, d=3, n_classes=4))
    for call in (whole._whole_loss.loss_and_gradient, lambda u: whole._whole_loss.hessian(u, None),
                 whole._whole_loss.logit_range):
        with pytest.raises(ValueError, match=r"u has 3 entries; 12 are wanted"):
            call(np.zeros(3))
    with pytest.raises(ValueError, match=r"mass has 39 entries; 40 are wanted"):
        whole.hessian(np.zeros(12), np.ones(39))


def test_coordinates_that_hold_a_problem_whole_can_be_copied_and_pickled():
    whole, _ = both_ways(problem(n=40, d=3, n_classes=4))
    u = np.linspace(-1.0, 1.0, whole.n_coordinates)
    for other in (copy.deepcopy(whole), pickle.loads(pickle.dumps(whole)), copy.copy(whole)):
        assert other.loss_and_gradient(u)[0] == whole.loss_and_gradient(u)[0]
        assert other.held_whole


def test_coordinates_on_a_plane_hold_no_problem_whole_and_parallel_ones_neither():
    whole, _ = both_ways(problem(n=40, d=3, n_classes=4))
    first = np.eye(1, whole.n_coordinates)
    plane = RestrictedCoordinates(whole, Plane(first, np.zeros(1), 0))
    for coordinates in (plane, plane.at(np.ones(1)), copy.deepcopy(plane)):
        assert not coordinates.held_whole


def test_columns_joined_from_two_arrays_are_held_whole_too():
    rng = np.random.default_rng(2)
    X, extra, codes = rng.standard_normal((50, 2)), rng.integers(0, 5, size=(50, 1)), np.arange(50) % 3
    joined = DenseSamples(JoinedColumns(X, extra), 3, codes=codes)
    whole, stepwise = both_ways(cs.SoftmaxObjective.from_samples(joined, np.zeros(3)))
    u = rng.standard_normal(whole.n_coordinates)
    # sums of 50 terms of size 1: eps times 50, and what is done to a logit of size 10 besides
    np.testing.assert_allclose(whole.loss_and_gradient(u)[1], stepwise.loss_and_gradient(u)[1], rtol=0, atol=2e-14)


def test_a_large_problem_is_not_copied():
    assert MetricCoordinates(problem(n=20_000, d=4, n_classes=3))._whole_loss is None
    assert MetricCoordinates(problem(n=400, d=150, n_classes=3))._whole_loss is None
