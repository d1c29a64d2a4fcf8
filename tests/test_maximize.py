"""The maximisation: independence of units, stopping, the certificate and its bound, every solver.

It stands on csoftmax.maximize, csoftmax.metric and the references in tests/data.
"""

import re
import warnings

import numpy as np
import pytest
import reference
import references_io
from scipy import optimize

import csoftmax as cs
from csoftmax import _entries
from csoftmax import certificate as certificate_module
from csoftmax import maximize as maximize_module
from csoftmax import metric as metric_module
from csoftmax.certificate import PATIENT, MeanLoss, NewtonSteps, polish
from csoftmax.maximize import SOLVERS, choose_solver, maximize
from csoftmax.metric import MetricCoordinates


def coordinates_of(name):
    ref = references_io.load(name)
    objective = cs.SoftmaxObjective(ref.X, ref.y, l2=ref.l2 or 0.0, fit_intercept=ref.fit_intercept,
                                    sample_weight=ref.weights)
    return ref, MetricCoordinates(objective)


def random_problem(n=200, d=4, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    logits = X @ rng.standard_normal((d, n_classes)) + rng.standard_normal(n_classes)
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return X, y


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_fit_does_not_depend_on_the_units_of_a_column(fit_intercept):
    # powers of two change no digit of the data: the same problem, but for the rounding of the way back
    X, y = random_problem()
    units = np.array([2.0**-40, 1.0, 2.0**20, 2.0**60])
    plain = cs.fit(X, y, fit_intercept=fit_intercept)
    scaled = cs.fit(X * units, y, fit_intercept=fit_intercept)
    np.testing.assert_allclose(scaled.coef * units, plain.coef, rtol=1e-11)
    assert scaled.n_iter == plain.n_iter
    # a penalty acts on the raw coefficients: it goes with the square of the unit. 1e6 rounds the data: 1e-16 of it
    result = cs.fit(X * 1e6, y, fit_intercept=fit_intercept, l2=1.5e12)
    expected = cs.fit(X, y, fit_intercept=fit_intercept, l2=1.5)
    np.testing.assert_allclose(result.coef * 1e6, expected.coef, rtol=1e-10)


def test_an_offset_added_to_a_column_only_moves_the_intercept():
    # a time stamp: mean 1.7e9, spread 1; the data keep 1e-7 of the spread, and the fit must not lose more
    X, y = random_problem()
    moved = X + np.array([1.7e9, 0.0, -1e6, 0.0])
    exact = moved - np.array([1.7e9, 0.0, -1e6, 0.0])  # what is left of the digits
    plain, shifted = cs.fit(exact, y), cs.fit(moved, y)
    assert shifted.success
    np.testing.assert_allclose(shifted.coef, plain.coef, rtol=1e-9)
    np.testing.assert_allclose(shifted.log_likelihood, plain.log_likelihood, rtol=1e-12)
    np.testing.assert_allclose(shifted.bse[:, :-1], plain.bse[:, :-1], rtol=1e-9)


def test_float32_data_of_mean_200_reach_the_float64_optimum():
    # the trap: one feature of mean 200 and spread 30, where float32 sums stop short by units of log-likelihood
    rng = np.random.default_rng(4)
    x = rng.normal(200, 30, size=(20000, 1)).astype(np.float32)
    y = (rng.uniform(size=20000) < 1 / (1 + np.exp(-(x[:, 0] - 200) / 20))).astype(int)
    single, double = cs.fit(x, y), cs.fit(x.astype(np.float64), y)
    assert single.success
    np.testing.assert_allclose(single.coef, double.coef, rtol=1e-12)
    np.testing.assert_allclose(single.log_likelihood, double.log_likelihood, rtol=1e-14)


@pytest.mark.parametrize("name", ["anes96", "pneumo", "iris_vv", "ridge_iris_0.01", "penguins_bill_mass"])
def test_the_bound_on_the_gap_covers_the_gap_and_is_not_idle(name):
    ref, coordinates = coordinates_of(name)
    best = ref.objective if ref.objective is not None else ref.loglik
    symmetric = ref.coef - ref.coef.mean(axis=0)
    rng = np.random.default_rng(1)
    proved = 0
    for size in 10.0 ** np.arange(-6, 0):
        params = coordinates.params(coordinates.coordinates(symmetric)
                                  + size * rng.standard_normal(coordinates.n_coordinates)
                                  / np.sqrt(coordinates.n_coordinates))
        theta_loss = reference.log_likelihood(ref.X, ref.y, params, weight=ref.weights)
        value = theta_loss - reference.ridge_penalty(params, ref.l2 or 0.0)
        gap = float(np.longdouble(best) - value)
        certificate = polish(MeanLoss(coordinates), coordinates.coordinates(params), 1.0, form=True, may_step=False)[2]
        if not np.isnan(certificate.gap_bound):
            proved += 1
            # best is a double: half an ulp of it is the reference's own rounding
            rounding = 2e-16 * abs(best)
            assert gap <= certificate.gap_bound + rounding
            # 0.68 lambda^2 against a gap of about lambda^2 / 2
            assert certificate.gap_bound <= 1.6 * gap + 2 * rounding
    assert proved >= 2, "the bound was proved at the nearest points"


@pytest.mark.skipif(not reference.EXTENDED, reason="long double is a double here")
@pytest.mark.parametrize("columns", ["plain", "with outliers", "nearly collinear", "far from 0"])
def test_the_bound_on_the_gap_counts_what_is_rounded(columns):
    # Newton steps end where the gradient computed is rounding; half the decrement of the exact one is what is to gain
    for seed in range(25):
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((100, 2))
        if columns == "with outliers":
            X = np.exp(2.0 * X)
        elif columns == "nearly collinear":
            X[:, 1] = X[:, 0] + 10.0 ** rng.uniform(-4.5, -1) * X[:, 1]
        elif columns == "far from 0":
            X += [1e5, -1e3]
        z = (X - X.mean(axis=0)) / X.std(axis=0)
        offset = 5.0 * rng.standard_normal((100, 3))
        y = (z @ rng.standard_normal((2, 3)) + offset + rng.gumbel(size=(100, 3))).argmax(axis=1)
        result = cs.fit(X, y, offset=offset)
        coordinates, certificate = result._coordinates, result.certificate
        exact = X.astype(np.longdouble) @ result.coef.T + result.intercept + offset
        p = np.exp(exact - exact.max(axis=1, keepdims=True))
        residuals = (y[:, np.newaxis] == np.arange(3)) - p / p.sum(axis=1, keepdims=True)
        standardized = (X.astype(np.longdouble) - coordinates._shift) * coordinates._scale
        gradient = residuals.T @ np.column_stack([standardized, np.ones(100)])
        gradient = coordinates.pulled((gradient / 100).astype(float))
        u = coordinates.coordinates(result.params)
        gap = 50.0 * gradient @ np.linalg.solve(coordinates.hessian(u), gradient)
        assert certificate.holds and gap <= certificate.gap_bound < 1e-14


@pytest.mark.skipif(not reference.EXTENDED, reason="long double is a double here")
@pytest.mark.parametrize(("apart", "size", "common"),
                         [(1.0, 0.0, 0.0), (1e-4, 0.0, 0.0), (1.0, 1.0, 1e8), (1e-4, 1.0, 0.0)])
@pytest.mark.parametrize("whole", [False, True])
def test_gradient_and_hessian_are_within_their_bounds_of_the_exact_ones(apart, size, common, whole):
    # at u = 0 no logit is rounded and the sums over samples are; under an offset of 1e8 the logits by 1e-8
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X, y = rng.standard_normal((100, 3)), np.arange(100) % 3
        X[:, 2] = X[:, 0] + apart * X[:, 2]
        offset = common * rng.uniform(1, 2, size=(100, 1)) + np.zeros(3) if common else None
        coordinates = MetricCoordinates(cs.SoftmaxObjective(X, y, offset=offset))
        if not whole:
            coordinates._whole_loss = None
        u = size * rng.standard_normal(coordinates.n_coordinates)
        T, rows, _ = coordinates.extended(u)
        design = np.column_stack([(X.astype(np.longdouble) - coordinates._shift) * coordinates._scale, np.ones(100)])
        logits = design @ rows.T + (0.0 if offset is None else offset)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        basis = metric_module._helmert(np.eye(2)).astype(np.longdouble)
        z, contrasts = design @ T, basis.T @ ((y[:, np.newaxis] == np.arange(3)) - p).T
        gradient = -(contrasts @ z).ravel() / 100
        softmax_jacobian = np.stack([np.diag(row) - np.outer(row, row) for row in p])
        hessian = np.einsum("ka,jkl,lb,jc,jd->acbd", basis, softmax_jacobian, basis, z, z).reshape(len(u), -1) / 100
        bound, values = coordinates.rounding(u), np.linalg.eigvalsh(hessian.astype(float))
        error = (coordinates.loss_and_gradient(u)[1] - gradient).astype(float)
        error = np.sqrt(error @ np.linalg.solve(hessian.astype(float), error))
        limit = bound.logit + bound.gradient / np.sqrt(values[0])
        # of rows already in the metric sums over samples are rounded less: the bound is that of X's rows times T
        assert (0.0 if whole else 1e-5 * limit) < error <= limit
        error = np.linalg.norm((coordinates.hessian(u) - hessian).astype(float), 2)
        limit = bound.hessian + np.expm1(2 * bound.logit) * values[-1]
        assert (0.0 if whole else 1e-5 * limit) < error <= limit


@pytest.mark.parametrize(("shares", "outward"), [([60.0, 30.0, 10.0], [0.6, 0.8]), ([98.0, 2.0], [1.0])])
def test_a_bound_by_the_hessian_of_a_point_nearby_is_no_smaller_than_by_its_own(shares, outward):
    # from u0 to u the Hessian shrinks by up to exp of the logits' move, and with it what it says of step and gap
    C = len(shares)
    coordinates = MetricCoordinates(cs.SoftmaxObjective(np.empty((C, 0)), np.arange(C), sample_weight=shares))
    best, outward = maximize(coordinates).u, np.array(outward)
    n_proved = n_refused = 0
    for far in np.geomspace(1e-3, 1.5, 60):
        u = best + far * outward
        gradient = coordinates.loss_and_gradient(u)[1]
        own, nearby = (NewtonSteps(coordinates, u - back * outward, form=True) for back in (0.0, 0.3))
        nearby.moved = coordinates.logit_range(u - nearby.u)
        by_own, by_nearby = (certificate_module._bounded(certificate_module._certificate(newton, gradient, 1e-8)[0],
                                                         newton, u) for newton in (own, nearby))
        assert by_nearby.newton_decrement >= by_own.newton_decrement
        assert np.isnan(by_nearby.gap_bound) or by_nearby.gap_bound >= by_own.gap_bound  # which is proved, too
        n_proved += not np.isnan(by_nearby.gap_bound)
        n_refused += bool(np.isnan(by_own.gap_bound))
    assert n_proved > 2 and n_refused > 2


def test_trust_exact_is_given_no_singular_hessian(monkeypatch):
    # separated samples: on eigenvalues of 0 up to rounding, of either sign, scipy's subproblem took minutes
    given = []

    def looked_at(*arguments, hess, **options):
        return optimize.minimize(*arguments, hess=lambda u: given.append(hess(u)) or given[-1], **options)

    monkeypatch.setattr(maximize_module, "minimize", looked_at)
    x = np.arange(8.0)[:, np.newaxis]
    with pytest.warns(cs.SeparationWarning):
        cs.fit(np.hstack([x, x ** 2]), [0, 0, 0, 1, 1, 2, 2, 2], solver="trust-exact", offset=np.zeros((8, 3)),
               tol=1e-14)
    smallest = [np.linalg.eigvalsh(hessian)[0] for hessian in given]
    assert 0.9e-12 < min(smallest) < 1e-11  # what was added, but for rounding of 1e-16


def test_a_small_gradient_alone_does_not_certify():
    # penguins' four measurements: after 32 Newton steps the scaled gradient is below 1e-12, a step still moves logits
    ref = references_io.load("separation_penguins4")
    coordinates = MetricCoordinates(cs.SoftmaxObjective(ref.X, ref.y))
    maximum = maximize(coordinates, tol=1e-12)
    assert maximum.certificate.gradient_norm < 1e-8
    assert not maximum.success
    assert not maximum.certificate.newton_range < 1.0


def test_max_iter_ends_the_fit_with_a_warning_and_a_remedy():
    ref = references_io.load("anes96")
    with pytest.warns(cs.ConvergenceWarning, match=r"stopped at max_iter=1 iterations.*raise max_iter"):
        result = cs.fit(ref.X, ref.y, max_iter=1)
    assert result.success is False and result.n_iter == 1


@pytest.mark.parametrize("solver", SOLVERS)
def test_success_means_the_certificate_holds_for_every_solver(solver):
    X, y = random_problem(seed=3)
    result = cs.fit(X, y, solver=solver)
    assert result.success
    assert result.certificate.newton_range <= 1e-6 and result.certificate.gradient_norm <= 1e-8
    assert isinstance(result.optimize_result, optimize.OptimizeResult)
    if solver in ("lm", "trust-exact", "L-BFGS-B"):  # the others may end in a way of scipy's, as near
        assert result.optimize_result.success and result.optimize_result.message == "the gradient is small enough"
    # a longdouble gradient at the answer: what rounding of theta leaves, 1e-13 of sum |x|
    gradient = reference.gradient(X, y, result.params)
    assert np.abs(gradient).max() <= 1e-12 * np.abs(X).sum()


def test_choose_solver_takes_lm_for_few_parameters_and_lbfgs_for_many():
    X, y = random_problem()
    assert choose_solver(MetricCoordinates(cs.SoftmaxObjective(X, y))) == "lm"
    rng = np.random.default_rng(0)
    wide = cs.SoftmaxObjective(rng.standard_normal((5000, 60)), np.arange(5000) % 8, l2=1.0)
    assert choose_solver(MetricCoordinates(wide)) == "L-BFGS-B"
    result = cs.fit(wide.samples.X, wide.samples.codes, l2=1.0)
    assert result.success and result.certificate.condition_number > 1


def test_lm_that_stops_short_is_followed_by_lbfgs(monkeypatch):
    def stops_short(function, x, **options):
        function(x)
        return x, None, {"nfev": 1}, "stopped short", 5

    monkeypatch.setattr(maximize_module, "leastsq", stops_short)
    X, y = random_problem()
    result = cs.fit(X, y, solver="lm")
    assert result.success and result.n_iter > 1


def test_the_hessians_metric_takes_fewer_iterations_than_the_bound_alone(monkeypatch):
    # columns of which some separate the classes almost: there the bound's metric is far from the Hessian
    rng = np.random.default_rng(5)
    X = rng.standard_normal((400, 20))
    y = (8 * X[:, 0] + X[:, 1] + rng.logistic(size=400) > 0) + 2 * (X[:, 2] + rng.logistic(size=400) > 0)
    monkeypatch.setattr(maximize_module, "_HAND_OVER", 0.0)  # to the tolerance by the method alone
    iterations = cs.fit(X, y, l2=1e-3, solver="L-BFGS-B").n_iter
    monkeypatch.setattr(maximize_module, "hessian_cost", lambda coordinates: 1e6)  # the next metric is never entered
    monkeypatch.setattr(maximize_module, "_DEAR_HESSIAN", np.inf)
    without = cs.fit(X, y, l2=1e-3, solver="L-BFGS-B")
    assert without.success and iterations < without.n_iter / 2


def test_a_hessian_too_dear_to_form_is_certified_by_conjugate_gradients():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((600, 60)), np.arange(600) % 20  # 20 * 61 / 8 = 152 gradients a Hessian
    result = cs.fit(X, y, l2=1.0)
    assert result.success and np.isnan(result.certificate.gap_bound)
    assert 1 < result.certificate.condition_number < 1e3
    assert result.certificate.newton_range <= 1e-8  # settled by a bound: no product is spent on a step of no use
    dense = cs.fit(X, y, l2=1.0, solver="trust-exact")
    np.testing.assert_allclose(result.coef, dense.coef, rtol=0, atol=1e-8 * np.abs(dense.coef).max())


def test_a_point_from_which_the_penalty_has_much_to_gain_is_not_settled_however_little_logits_would_move():
    # under a large penalty logits are next to 0 at every point, and only the decrement tells of one that is far off
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((600, 60)), np.arange(600) % 20
    coordinates = MetricCoordinates(cs.SoftmaxObjective(X, y, l2=1e18, fit_intercept=False))
    u = 1e-4 * rng.standard_normal(coordinates.n_coordinates) / np.sqrt(coordinates.n_coordinates)
    _, _, certificate = polish(MeanLoss(coordinates), u, 1e-3, form=False, may_step=False)
    assert certificate.gradient_norm < 1e-3 and certificate.newton_range < 1e-8
    # The penalty's mean is |u|^2 / 2: the decrement is |u| times the root of the mass. The data's part of the gradient,
    # at most (600 / l2)^(1/2) = 2.4e-8, is 2.4e-4 of it.
    assert certificate.newton_decrement == pytest.approx(np.sqrt(600 * float(u @ u)), rel=2.4e-4)
    assert not certificate.holds


def test_no_more_features_than_rows_is_needed_with_a_penalty_nor_an_intercept():
    rng = np.random.default_rng(2)
    X, y = rng.standard_normal((20, 50)), np.arange(20) % 3
    for options in ({"l2": 0.5}, {"l2": 0.5, "fit_intercept": False}):
        result = cs.fit(X, y, **options)
        assert result.success
        gradient = reference.gradient(X, y, result.params, options.get("fit_intercept", True))
        gradient -= reference.ridge_penalty_gradient(result.params, 0.5, options.get("fit_intercept", True))
        # the Hessian is dear here, and a step is settled where it moves no logit by 1e-8: the least eigenvalue is 0.04
        assert np.abs(gradient).max() < 1e-9


@pytest.mark.parametrize("weights", [None, "counts"])
def test_an_empty_model_gives_the_class_shares(weights):
    y = np.array([0] * 3 + [1] * 5 + [2] * 2)
    w = None if weights is None else np.arange(10.0)
    result = cs.fit(np.empty((10, 0)), y, sample_weight=w)
    share = np.bincount(y, w) / (10 if w is None else w.sum())
    # the fit ends where one more step moves a logit by at most 1e-10
    np.testing.assert_allclose(result.predict_proba(np.empty((1, 0)))[0], share, rtol=1e-10)
    np.testing.assert_allclose(result.log_likelihood, result.null_log_likelihood, rtol=1e-14)


def test_no_parameter_at_all_is_answered_too():
    result = cs.fit(np.empty((4, 0)), [0, 1, 0, 1], fit_intercept=False)
    assert result.success and result.log_likelihood == pytest.approx(-4 * np.log(2), rel=1e-15, abs=0)


@pytest.mark.parametrize("extra", ["duplicate", "constant", "zero", "sum", "scaled"])
def test_collinear_columns_change_no_probability_and_give_the_minimum_norm_answer(extra):
    X, y = random_problem()
    column = {"duplicate": X[:, 0], "constant": np.full(len(X), 7.5), "zero": np.zeros(len(X)),
              "sum": X[:, 0] + X[:, 1], "scaled": -1e-3 * X[:, 2]}[extra]
    plain, more = cs.fit(X, y), cs.fit(np.column_stack([X, column]), y)
    assert more.success and more.n_params == plain.n_params
    np.testing.assert_allclose(more.predict_proba(np.column_stack([X, column])), plain.predict_proba(X), rtol=1e-8)
    if extra in ("constant", "zero"):
        assert np.all(more.coef[:, -1] == 0)
        assert np.isnan(more.bse[:, 4]).all()
        # a constant other than 0 cannot be told from the intercept; a column of zeros can
        assert np.isnan(more.bse[:, -1]).all() == (extra == "constant")
    if extra == "duplicate":
        np.testing.assert_allclose(more.coef[:, 0], more.coef[:, -1], rtol=1e-8)  # shared equally
        np.testing.assert_allclose(more.bse[:, 1:4], plain.bse[:, 1:4], rtol=1e-8)
        assert np.isnan(more.bse[:, [0, 4]]).all()


def test_a_warm_start_at_the_answer_takes_no_iteration():
    X, y = random_problem()
    first = cs.fit(X, y)
    again = cs.fit(X, y, init=first)
    assert again.success and again.n_iter <= 1
    np.testing.assert_allclose(again.params, first.params, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("solver", ["auto", *SOLVERS])
def test_a_start_far_off_is_recovered_from(solver):
    # each method but trust-exact and trust-ncg, started there, failed for 3 to 18 of these 20
    X, y = np.array([0, 1, 2, 3, 3, 4, 5, 6, 2.5, 3.5])[:, np.newaxis], [0, 0, 0, 0, 1, 1, 1, 1, 1, 0]
    expected = cs.fit(X, y).params
    for seed in range(20):
        init = 100.0 * np.random.default_rng(seed).standard_normal((2, 2))
        result = cs.fit(X, y, init=init, solver=solver)
        assert result.success
        np.testing.assert_allclose(result.params, expected, rtol=1e-6)  # each is certified to 1e-6 of a logit


def test_the_callback_sees_every_iteration_and_can_stop():
    X, y = random_problem()
    seen = []

    def watch(state):
        seen.append((state.n_iter, state.log_likelihood, state.gradient_norm))
        if state.n_iter == 2:
            raise StopIteration

    with pytest.warns(cs.ConvergenceWarning, match="stopped by the callback after 2 iterations"):
        result = cs.fit(X, y, callback=watch)
    assert [n for n, _, _ in seen] == [1, 2]
    assert seen[1][1] > seen[0][1] and not result.success
    assert not result.optimize_result.success and result.optimize_result.message == "stopped by the callback"


def test_an_exception_in_the_callback_reaches_the_caller():
    X, y = random_problem()

    def stop(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cs.fit(X, y, callback=stop)


def test_metric_coordinates_round_trip_and_pull_gradients_back():
    X, y = random_problem()
    coordinates = MetricCoordinates(cs.SoftmaxObjective(X * [1, 1e3, 1e-3, 1] + [0, 5, 0, 100], y, l2=0.3))
    rng = np.random.default_rng(5)
    u = rng.standard_normal(coordinates.n_coordinates)
    params = coordinates.params(u)
    np.testing.assert_allclose(params.sum(axis=0), 0, atol=1e-9 * np.abs(params).max())
    np.testing.assert_allclose(coordinates.coordinates(params), u, rtol=1e-8, atol=1e-10)
    _, gradient = coordinates.loss_and_gradient(u)
    # central differences of step h: error h^2 |f'''| / 6 + eps |f| / h
    h = 1e-5
    for i in range(len(u)):
        e = np.eye(len(u))[i] * h
        slope = (coordinates.loss_and_gradient(u + e)[0] - coordinates.loss_and_gradient(u - e)[0]) / (2 * h)
        assert abs(slope - gradient[i]) < 1e-9
    v = rng.standard_normal(len(u))
    np.testing.assert_allclose(coordinates.hessian(u) @ v, coordinates.hessian_product(u, v), rtol=1e-10, atol=1e-13)
    values = np.linalg.eigvalsh(coordinates.hessian(u))
    assert 0 < values[0] and values[-1] <= 1 + 1e-12, "the metric bounds the Hessian"


def test_unknown_solvers_and_bad_settings_are_named():
    X, y = random_problem()
    for options, message in [
        ({"solver": "newton"}, r"solver is 'newton'; one of 'auto', 'lm', 'trust-exact'"),
        ({"tol": 0}, r"tol is 0; a positive number up to 0\.001 is wanted"),
        ({"tol": 1e300}, r"tol is 1e\+300; a positive number up to 0\.001 is wanted"),
        ({"tol": True}, r"tol is True; a positive number"),
        ({"max_iter": 0}, r"max_iter is 0; a whole number from 1 is wanted"),
        ({"l2": -1}, r"l2 is -1\.0; a finite number of 0 or more is wanted"),
        ({"l1": -1}, r"l1 is -1\.0; a finite number of 0 or more is wanted"),
        ({"l2": [1, 2, 3]}, r"l2 has shape \(3,\); a number, \(4,\) for each feature, or \(3, 4\) for each class and"),
        ({"l1": [1, 2, -3, 0]}, r"l1 has -3\.0 at \(2,\); finite numbers of 0 or more"),
        ({"l1": 1, "solver": "trust-exact"}, r"solver is 'trust-exact' with l1 > 0; 'auto' or 'L-BFGS-B' is wanted"),
        ({"bias_reduction": "jeffreys"}, r"bias_reduction is 'jeffreys'; None or 'firth' is wanted"),
        ({"weight_type": "importance"}, r"weight_type is 'importance'; one of 'frequency', 'probability', 'analytic'"),
        ({"n_threads": 0}, r"n_threads is 0"),
        ({"init": np.zeros(3)}, r"init has shape \(3,\); \(3, 5\) is wanted"),
        ({"init": np.full((3, 5), np.nan)}, r"init has entries that are not finite"),
        ({"reference": "z"}, r"reference is 'z'; one of the classes 0, 1, 2 is wanted"),
    ]:
        with pytest.raises(ValueError, match=message), warnings.catch_warnings():
            cs.fit(X, y, **options)
    with pytest.raises(TypeError, match="callback is 3; a callable of one argument"):
        cs.fit(X, y, callback=3)
    for l2 in ("a", "1", ["1", "2", "3", "4"], 1j, None, [1, [2]]):
        with pytest.raises(TypeError, match=re.escape(f"l2 is {l2!r}; a number is wanted")):
            cs.fit(X, y, l2=l2)


def test_numpys_numbers_are_numbers():
    X, y = random_problem()
    expected = cs.fit(X, y, tol=1e-8)
    result = cs.fit(X, y, tol=np.float32(1e-8), max_iter=np.int32(500), l2=np.float32(0.0))
    assert result.success
    np.testing.assert_allclose(result.params, expected.params, rtol=1e-12)
    assert cs.check_separation(X, y, time_limit=np.int64(3)).kind == "none"
    with pytest.raises(ValueError, match="time_limit is True; a positive number of seconds"):
        cs.check_separation(X, y, time_limit=True)
    path = cs.regularization_path(X, y, n_penalties=2, l1_ratio=np.float32(0.5), min_ratio=np.float32(0.1))
    assert path.success.all() and path.l1_ratio == 0.5


def test_a_flat_direction_is_not_certified_without_a_formed_hessian_either():
    # three rows of one class alone have the last column: no maximum. Started where their probability is 1 to rounding
    # the gradient along it is 1e-26, and conjugate gradients by themselves would take no step there.
    rng = np.random.default_rng(0)
    n, d, n_classes = 200, 85, 10
    X, y = rng.standard_normal((n, d)), np.arange(n) % n_classes
    X[:, -1] = 0.0
    X[[3, 13, 23], -1] = 1.0
    start = np.zeros((n_classes, d + 1))
    start[3, d - 1] = 60.0
    for solver in ("L-BFGS-B", "trust-exact"):
        with pytest.warns(UserWarning, match="no maximum|not converged|not decided"):
            result = cs.fit(X, y, init=start, solver=solver)
        assert not result.success


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e6, 1e9])
def test_a_penalty_shares_a_duplicated_column_whatever_its_scale(scale):
    # [t, t] with l2 is [t] with l2 / 2; on [t, 100 t] the penalised coefficients are as 1 to 100
    rng = np.random.default_rng(0)
    t = rng.standard_normal(100)
    y = (t + rng.logistic(size=100) > 0).astype(int)
    single = cs.fit(t[:, np.newaxis] * scale, y, l2=0.5)
    double = cs.fit(np.column_stack([t, t]) * scale, y, l2=1.0)
    np.testing.assert_allclose(double.coef.sum(axis=1), single.coef[:, 0], rtol=1e-9)
    np.testing.assert_allclose(double.coef[:, 0], double.coef[:, 1], rtol=1e-6)
    # along [1, -1] the data say nothing: the variance of w_1 - w_2 there is the penalty's alone, 1/2 a class of two
    covariance = double.cov_params().reshape(2, 3, 2, 3)[1, :2, 1, :2]
    apart = covariance[0, 0] - 2 * covariance[0, 1] + covariance[1, 1]
    assert apart == pytest.approx(2 * 0.5, rel=1e-6, abs=0)
    uneven = cs.fit(np.column_stack([t, 100 * t]) * scale, y, l2=1.0)
    np.testing.assert_allclose(uneven.coef[:, 1] / uneven.coef[:, 0], 100, rtol=1e-6)


@pytest.mark.parametrize("outlier", [1e12, 1e37, -1e200])
def test_a_row_of_weight_zero_changes_nothing_however_far_it_lies(outlier):
    rng = np.random.default_rng(0)
    x = 1.7e9 + rng.standard_normal((200, 1))
    y = (x[:, 0] - 1.7e9 + rng.logistic(size=200) > 0).astype(int)
    expected = cs.fit(x, y)
    result = cs.fit(np.append(x, [[outlier]], axis=0), np.append(y, 1), sample_weight=np.append(np.ones(200), 0.0))
    np.testing.assert_allclose(result.coef, expected.coef, rtol=1e-12)
    assert result.n_params == 2


@pytest.mark.parametrize("apart", [1e-7, 1e-10])
def test_columns_too_nearly_collinear_to_tell_apart_are_not_certified(apart):
    # the labels depend on what is left of the second column, which the Gram matrix has lost: 43 units are to be gained
    rng = np.random.default_rng(3)
    x, z = rng.standard_normal((2, 500))
    y = (z + rng.logistic(size=500) > 0).astype(int)
    with pytest.warns(cs.ConvergenceWarning, match="so nearly collinear that double precision cannot tell"):
        result = cs.fit(np.column_stack([x, x + apart * z]), y)
    assert not result.success
    exact = cs.fit(np.column_stack([x, 3 * x + 1e6, z]), y)  # collinear to rounding: an answer
    assert exact.success and exact.log_likelihood > result.log_likelihood + 40


@pytest.mark.parametrize("l2", [1e-2, 1e-4, 1e-6])
def test_a_weak_penalty_on_separated_samples_still_reaches_the_maximum(l2):
    ref = references_io.load("separation_penguins4")
    result = cs.fit(ref.X, ref.y, l2=l2)
    assert result.success
    gradient = reference.gradient(ref.X, ref.y, result.params) - reference.ridge_penalty_gradient(result.params, l2)
    # rounding of the raw logits, about 1e-16 times the 1e5 of sum_i |x_i w_i|, on 342 rows of |x| up to 6000
    assert np.abs(gradient).max() < 1e-5 * l2 * np.abs(result.params).max() + 1e-9


def test_a_class_of_almost_no_weight_is_fitted():
    X, y = random_problem()
    result = cs.fit(X, y, sample_weight=np.where(y == 2, 1e-6, 1.0))
    assert result.success


@pytest.mark.parametrize("constant", [0.1, 3.7, 1e8 + 0.3, -1e-9, 1 / 3])
def test_a_constant_that_no_short_number_is_next_to_adds_nothing_beside_an_intercept(constant):
    # a shift rounded to 8 digits would leave a constant whose weighted variance is rounding error, and not 0
    rng = np.random.default_rng(0)
    X, y, weights = rng.standard_normal((60, 2)), np.arange(60) % 3, rng.uniform(size=60)
    more = cs.fit(np.column_stack([X, np.full(60, constant)]), y, sample_weight=weights)
    plain = cs.fit(X, y, sample_weight=weights)
    assert more.n_params == plain.n_params
    assert more.log_likelihood == pytest.approx(plain.log_likelihood, rel=1e-14)
    assert (more.coef[:, 2] == 0).all()


def test_a_column_of_the_least_numbers_that_there_are_is_left_out():
    # the power of two that would take 5e-324 to 1 is none
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((50, 2)), np.arange(50) % 3
    X[:, 0] = 5e-324 * (np.arange(50) % 2)
    for l2 in (0.0, 0.1):
        result, plain = cs.fit(X, y, l2=l2), cs.fit(X[:, 1:], y, l2=l2)
        assert result.success
        assert result.log_likelihood == pytest.approx(plain.log_likelihood, rel=1e-14)
        assert (result.coef[:, 0] == 0).all()


def test_extreme_columns_with_a_penalty_are_fitted_or_named():
    X, y = random_problem()
    for unit in (1e-300, 1e300):
        result = cs.fit(X * [unit, 1, 1, 1], y, l2=1.0)
        assert result.success and np.isfinite(result.params).all()
    with pytest.raises(ValueError, match="X's column 1 spans more than a float64 can hold"):
        cs.fit(np.column_stack([X, np.where(y > 1, 1.7e308, -1.7e308)])[:, [0, 4]], y)


@pytest.mark.parametrize("options", [{}, {"solver": "trust-exact"}, {"solver": "L-BFGS-B"}, {"l1": 0.5},
                                     {"bias_reduction": "firth"}])
def test_the_history_is_what_the_callback_saw_and_ends_at_the_result(options):
    X, y = random_problem(seed=3)
    states = []
    result = cs.fit(X, y, callback=states.append, **options)
    history = result.history
    assert len(states) == result.n_iter
    assert history.gradient_norm[:-1].tolist() == [state.gradient_norm for state in states]
    assert history.penalized_log_likelihood[:-1].tolist() == [state.penalized_log_likelihood for state in states]
    assert history.gradient_norm[-1] == result.certificate.gradient_norm
    # the result's is computed once more, or with a term added and taken off: rounding of the sum
    assert history.penalized_log_likelihood[-1] == pytest.approx(result.penalized_log_likelihood, rel=1e-14)
    if options != {"bias_reduction": "firth"}:  # L itself is not what that maximises
        gaps = result.log_likelihood - np.array([state.log_likelihood for state in states])
        assert "l1" in options or gaps.min() > -1e-9


@pytest.mark.parametrize("solver", ["auto", "trust-exact", "L-BFGS-B"])
def test_a_fit_that_goes_on_since_a_maximum_exists_goes_on_counting(solver):
    # the one row across lies 1e-8 on the wrong side: after the method and three Newton steps that is not settled
    X, y = np.array([0, 1, 2, 3, 3 + 1e-8, 4, 5, 6])[:, np.newaxis], [0, 0, 0, 1, 0, 1, 1, 1]
    seen = []
    result = cs.fit(X, y, solver=solver, callback=lambda state: seen.append(state.n_iter))
    assert result.success and seen == list(range(1, result.n_iter + 1))
    assert len(result.history.gradient_norm) == result.n_iter + 1
    assert result.history.gradient_norm[-1] == result.certificate.gradient_norm
    few = result.n_iter // 2
    with pytest.warns(cs.ConvergenceWarning, match=f"stopped at max_iter={few} iterations"):
        assert cs.fit(X, y, solver=solver, max_iter=few).n_iter == few


@pytest.mark.parametrize("options", [{}, {"solver": "L-BFGS-B"}, {"l1": 0.5}, {"bias_reduction": "firth"}])
def test_an_interrupt_carries_the_parameters_reached_from_where_a_fit_goes_on(options):
    X, y = random_problem(seed=3)
    seen = []

    def interrupts(state):
        seen.append(state.params)
        if state.n_iter == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        cs.fit(X, y, callback=interrupts, **options)
    np.testing.assert_array_equal(caught.value.params, seen[-1])
    assert "init=error.params" in caught.value.__notes__[0]
    whole, rest = cs.fit(X, y, **options), cs.fit(X, y, init=caught.value.params, **options)
    # both are certified: r <= 1e-6 moves no logit further; here the Newton steps reach rounding
    np.testing.assert_allclose(rest.params, whole.params, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("n_steps", [1, 2])
def test_the_certificate_after_the_last_newton_step_is_that_of_the_point_returned(monkeypatch, n_steps):
    monkeypatch.setattr(certificate_module, "_MAX_POLISH", n_steps)
    X, y = random_problem(seed=3)
    coordinates = MetricCoordinates(cs.SoftmaxObjective(X, y))
    near = maximize(coordinates).u + 1e-4
    u, _, certificate = polish(MeanLoss(coordinates), near, 1e-8, may_step=True, form=True)
    assert np.abs(u - near).max() > 1e-5
    assert certificate.gradient_norm == np.linalg.norm(coordinates.loss_and_gradient(u)[1])


def test_a_maximum_known_to_exist_hundreds_of_logits_away_takes_whole_newton_steps():
    # a row at 500 has a logit of 25 where the others ask for 500, and the gradient is small: they are 8 in 4000
    z, y = np.zeros(4000), np.arange(4000) % 2
    z[:9], y[:9] = [-2, -1, -1, 1, 1, 2, -2, 2, 500], [0, 0, 1, 1, 0, 1, 0, 1, 1]
    coordinates = MetricCoordinates(cs.SoftmaxObjective(z[:, np.newaxis], y))
    params = cs.fit(z[:, np.newaxis], y).params.copy()
    params[:, 0] *= 0.05
    u = coordinates.coordinates(params)
    assert polish(MeanLoss(coordinates), u, 1e-8, may_step=True, form=True, patience=PATIENT)[2].holds
    # where none may exist a step moves logits by 1 at most, and three that do not shrink are enough
    assert not polish(MeanLoss(coordinates), u, 1e-8, may_step=True, form=True)[2].holds


def test_lbfgs_ends_where_no_step_helps_and_trust_exact_goes_on_where_hessians_are_cheap(monkeypatch):
    X = np.random.default_rng(0).normal(size=(30, 2))
    coordinates = MetricCoordinates(cs.SoftmaxObjective(X, np.arange(30) % 3))
    runs = []

    def no_progress(function, start, method, **options):
        if method == "trust-exact":
            return optimize.minimize(function, start, method=method, **options)
        runs.append(start)
        assert len(runs) < 10, "the metric is entered for ever"
        return optimize.OptimizeResult(x=start, fun=function(start), nit=0, nfev=20)

    class Singular(maximize_module.NewtonSteps):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.factorized = False

    monkeypatch.setattr(maximize_module, "minimize", no_progress)
    monkeypatch.setattr(maximize_module, "NewtonSteps", Singular)
    start = np.ones((3, 3)) * [[3.0], [0.0], [-3.0]]
    assert maximize(coordinates, solver="L-BFGS-B", init=start).success
    assert len(runs) == 2
    monkeypatch.setattr(maximize_module, "DENSE_COST", 0.0)
    assert not maximize(coordinates, solver="L-BFGS-B", init=start).success
    assert len(runs) == 4


def columns_far_apart(seed, n_classes, d, *, in_logs):
    """Values from 1e-4 to 1e4, and classes that are linear in them, or in their logarithms."""
    rng = np.random.default_rng(seed)
    X = np.exp(3.0 * rng.standard_normal((150, d)))
    return X, ((np.log(X) if in_logs else X) @ rng.standard_normal((d, n_classes))).argmax(axis=1)


@pytest.mark.parametrize(("seed", "n_classes"), [(13, 2), (17, 2), (2, 4), (28, 4)])
def test_a_small_fit_of_columns_far_apart_does_not_creep_to_max_iter(seed, n_classes):
    X, y = columns_far_apart(seed, n_classes, {2: 2, 4: 3}[n_classes], in_logs=False)
    with pytest.warns(cs.SeparationWarning):
        assert cs.fit(X, y).n_iter < 100


@pytest.mark.parametrize(("seed", "solver"), [(55, "L-BFGS-B"), (0, "trust-krylov"), (53, "trust-krylov")])
def test_a_method_that_finds_no_step_far_from_the_maximum_is_followed_by_trust_exact(seed, solver):
    X, y = columns_far_apart(seed, 2, 2, in_logs=True)
    result, expected = cs.fit(X, y, solver=solver), cs.fit(X, y, solver="trust-exact")
    assert result.success and result.log_likelihood == pytest.approx(expected.log_likelihood, rel=1e-12, abs=0)


@pytest.mark.parametrize("seed", [11, 25])
def test_logits_are_refined_without_a_penalty_too_where_the_maximum_exists(seed):
    X, y = columns_far_apart(seed, 4, 3, in_logs=True)
    result = cs.fit(X, y, solver="L-BFGS-B")
    assert result.success and result.certificate.condition_number > 1e7


@pytest.mark.parametrize("seed", [13, 17, 22])
def test_newton_cg_finds_steps_where_gradients_and_curvatures_are_small(seed):
    # p'Hp is below 7e-16, at which scipy's conjugate gradients end
    X, y = columns_far_apart(seed, 2, 2, in_logs=False)
    with pytest.warns(cs.SeparationWarning):
        result = cs.fit(X, y, solver="Newton-CG")
    # of seeds up to 60 with two classes 25 took 1000 iterations by the mean loss itself; now 24 take 45 to 145, and 23
    # alone creeps as before
    assert result.n_iter < 300
    ref = references_io.load("anes96")
    result = cs.fit(ref.X, ref.y, solver="Newton-CG")
    value = result._coordinates.loss_and_gradient(result.optimize_result.x)[0]
    assert result.optimize_result.fun == pytest.approx(value, rel=1e-14)  # the mean loss, not what the method was given


@pytest.mark.parametrize("seed", [43, 70, 81])
def test_soft_labels_of_small_entropy_are_no_complete_separation(seed):
    # the entropy of 8 rows may be below log 2, which would put rows of one class each into their class
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(8, 2)), rng.dirichlet(np.full(3, 0.05), size=8)
    result = cs.fit(X, y)
    assert result.success
    gradient = reference.gradient(X, y, result.params)
    assert np.abs(gradient).max() <= reference.gradient_tolerance(X, y, result.params)


@pytest.mark.parametrize("l2", [0.0, 0.3, [0.0, 5.0, 1e3]])
def test_the_plain_metric_is_the_careful_ones(l2, monkeypatch):
    X, y = random_problem(d=3)
    X[:, 1] *= 30
    made = [MetricCoordinates(cs.SoftmaxObjective(X, y, l2=l2))]
    monkeypatch.setattr(metric_module, "_LEAST_PIVOT", np.inf)
    made.append(MetricCoordinates(cs.SoftmaxObjective(X, y, l2=l2)))
    squares = [coordinates._T @ coordinates._T.T for coordinates in made]
    # coordinates that differ by a rotation; a condition of 10 and a dozen operations
    np.testing.assert_allclose(squares[0], squares[1], rtol=1e-12, atol=1e-14 * np.abs(squares[1]).max())
    moments, factor = np.cov(X.T), np.empty((3, 3))
    assert _entries.plain_factor(moments, np.zeros(3), 0.01, 1e4, factor)
    assert (factor == np.triu(factor)).all()
    np.testing.assert_allclose(factor @ factor.T @ moments, 2 * np.eye(3), atol=1e-12)
    penalty = np.array([0.0, 1e9, 0.0])  # would hide the data
    assert not _entries.plain_factor(moments, penalty, 0.01, 1e4, factor)
    moments[:, 2] = moments[2] = moments[0] * (1 + 1e-6)
    moments[2, 2] = moments[0, 0] * (1 + 3e-6)
    assert not _entries.plain_factor(moments, np.ones(3), 0.01, 1e4, factor)  # columns all but collinear


def test_many_separated_classes_are_followed_in_the_plain_metric_where_a_hessian_is_almost_singular():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((500, 20))
    y = (20.0 * X @ rng.standard_normal((20, 40)) / np.sqrt(20.0) + rng.gumbel(size=(500, 40))).argmax(axis=1)
    y[:40] = np.arange(40)
    objective = cs.SoftmaxObjective(X, y, offset=rng.standard_normal((500, 40)))
    maximum = maximize(MetricCoordinates(objective))  # it stayed at a gradient of 0.019, where no step was found
    assert maximum.certificate.gradient_norm < 1e-3 and maximum.log_likelihood > -20.0
