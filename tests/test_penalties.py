"""Ridge penalties of each feature and of each coefficient: the maximum over free rows, its certificate and covariance.

It stands on csoftmax.objective, csoftmax.metric and tests/reference.py.
"""

import numpy as np
import pytest
import reference

import csoftmax as cs
from csoftmax.certificate import MeanLoss, polish
from csoftmax.metric import MetricCoordinates


def random_problem(n=150, d=4, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    logits = X @ rng.standard_normal((d, n_classes)) + rng.standard_normal(n_classes)
    return X, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def random_penalty(n_classes=3, d=4, seed=0):
    penalty = np.random.default_rng(seed).uniform(0.1, 5.0, (n_classes, d))
    penalty[0, 0] = penalty[0, 1] = penalty[1, 1] = 0.0  # one class free, and all but one
    return penalty


def test_a_number_a_row_and_a_table_of_one_penalty_are_the_same_fit():
    X, y = random_problem()
    fits = [cs.fit(X, y, l2=l2) for l2 in (1.5, np.full(4, 1.5), np.full((3, 4), 1.5), [[1.5] * 4] * 3)]
    for other in fits[1:]:
        np.testing.assert_array_equal(other.params, fits[0].params)
        np.testing.assert_array_equal(other.bse, fits[0].bse)
        assert other.aic == pytest.approx(fits[0].aic, rel=1e-14, abs=0)
    losses = [cs.SoftmaxObjective(X, y, l2=l2).loss(np.arange(15.0)) for l2 in (1.5, np.full((3, 4), 1.5))]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("solver", ["trust-exact", "L-BFGS-B"])
def test_the_gradient_over_all_rows_is_zero_where_classes_differ_in_their_penalty(n_classes, fit_intercept, solver):
    X, y = random_problem(n_classes=n_classes)
    units = np.array([1e3, 1.0, 1e-4, 1.0])
    l2 = random_penalty(n_classes) * units**2
    result = cs.fit(X * units, y, l2=l2, fit_intercept=fit_intercept, solver=solver)
    assert result.success
    gradient = reference.gradient(X * units, y, result.params, fit_intercept)[:, :4] - l2 * result.coef
    assert np.abs(gradient / units).max() < 1e-10
    # the common part has mean 0 weighted by the penalties
    np.testing.assert_allclose(np.sum(l2 * result.coef, axis=0) / units, 0, atol=1e-11)
    if fit_intercept:
        assert abs(result.intercept.sum()) < 1e-10


def test_a_penalty_on_one_class_alone_makes_it_the_reference_of_that_feature():
    X, y = random_problem()
    l2 = np.zeros((3, 4))
    l2[1] = 2.0
    result, plain = cs.fit(X, y, l2=l2), cs.fit(X, y)
    assert result.success
    np.testing.assert_allclose(result.coef[1], 0, atol=1e-15)
    np.testing.assert_allclose(result.coef, plain.coef - plain.coef[1], rtol=1e-9, atol=1e-12)
    assert result.log_likelihood == pytest.approx(plain.log_likelihood, rel=1e-13, abs=0)


@pytest.mark.parametrize("name", ["l1", "l2"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_penalty_of_a_wrong_shape_is_refused_even_if_all_of_it_is_0(name, value):
    X, y = random_problem()
    with pytest.raises(ValueError, match=rf"{name} has shape \(7,\)"):
        cs.fit(X, y, **{name: np.full(7, value)})


def test_objective_gradient_hessian_and_product_agree_with_differences():
    X, y = random_problem()
    objective = cs.SoftmaxObjective(X, y, l2=random_penalty())
    rng = np.random.default_rng(1)
    theta, v = rng.standard_normal(15), rng.standard_normal(15)
    h = 1e-5  # h^2 of the third derivative, and eps |loss| / h
    slope = (objective.loss(theta + h * v) - objective.loss(theta - h * v)) / (2 * h)
    assert slope == pytest.approx(objective.loss_gradient(theta) @ v, rel=1e-8)
    bend = (objective.loss_gradient(theta + h * v) - objective.loss_gradient(theta - h * v)) / (2 * h)
    np.testing.assert_allclose(objective.loss_hessian_product(theta, v), bend, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(objective.loss_hessian(theta) @ v, objective.loss_hessian_product(theta, v), rtol=1e-11,
                               atol=1e-11)


def test_metric_coordinates_have_the_penalty_profiled_over_the_common_part():
    X, y = random_problem()
    objective = cs.SoftmaxObjective(X * [1, 1e3, 1e-3, 1] + [0, 5, 0, 100], y, l2=random_penalty())
    coordinates = MetricCoordinates(objective)
    u = np.random.default_rng(5).standard_normal(coordinates.n_coordinates)
    value, gradient = coordinates.loss_and_gradient(u)
    assert value * len(y) == pytest.approx(objective.loss(coordinates.params(u).ravel()), rel=1e-12, abs=0)
    hessian, h = coordinates.hessian(u), 1e-5
    for i, e in enumerate(np.eye(len(u))):
        slope = (coordinates.loss_and_gradient(u + h * e)[0] - coordinates.loss_and_gradient(u - h * e)[0]) / (2 * h)
        assert abs(slope - gradient[i]) < 1e-9
        np.testing.assert_allclose(hessian @ e, coordinates.hessian_product(u, e), rtol=1e-10, atol=1e-13)
    values = np.linalg.eigvalsh(hessian)
    assert 0 < values[0] and values[-1] <= 1 + 1e-12, "the metric bounds the Hessian"
    np.testing.assert_allclose(coordinates.coordinates(coordinates.params(u)), u, rtol=1e-8, atol=1e-10)


def test_the_bound_on_the_gap_holds_where_classes_differ_in_their_penalty():
    X, y = random_problem()
    l2 = random_penalty()
    coordinates = MetricCoordinates(cs.SoftmaxObjective(X, y, l2=l2))
    result = cs.fit(X, y, l2=l2)
    rng, proved = np.random.default_rng(1), 0
    best = coordinates.coordinates(result.params)
    for size in 10.0 ** np.arange(-6, 0):
        params = coordinates.params(best + size * rng.standard_normal(len(best)))
        value = reference.log_likelihood(X, y, params) - np.sum(l2 * params[:, :4].astype(np.longdouble) ** 2) / 2
        certificate = polish(MeanLoss(coordinates), coordinates.coordinates(params), 1.0, form=True, may_step=False)[2]
        if not np.isnan(certificate.gap_bound):
            proved += 1
            gap, rounding = float(result.penalized_log_likelihood - value), 1e-15 * abs(float(value))
            # 0.68 lambda^2 against a gap of about lambda^2 / 2
            assert gap <= certificate.gap_bound + rounding and certificate.gap_bound <= 1.6 * gap + 2 * rounding
    assert proved >= 2


def test_covariance_and_degrees_of_freedom_are_those_of_the_penalised_information():
    X, y = random_problem()
    l2 = random_penalty() + 0.1
    result = cs.fit(X, y, l2=l2, reference=2)
    full = -cs.hessian(X, y, result.coef, result.intercept)
    ridge = np.diag(np.column_stack([l2, np.zeros(3)]).ravel())
    inverse = np.linalg.pinv(full + ridge, hermitian=True)
    contrast = np.kron(np.array([[1.0, 0, -1], [0, 1, -1]]), np.eye(5))
    np.testing.assert_allclose(result.cov_params(), contrast @ inverse @ contrast.T, rtol=1e-9, atol=1e-12)
    assert result.effective_df == pytest.approx(np.trace(full @ inverse), rel=1e-10, abs=0)
    # symmetric: of the rows shown, those of least penalty
    shown = np.eye(15).reshape(3, 5, 3, 5)
    shown[:, range(4), :, range(4)] -= (l2 / l2.sum(axis=0)).T[:, np.newaxis, :]
    shown[:, 4, :, 4] -= 1 / 3
    shown = shown.reshape(15, 15)
    np.testing.assert_allclose(cs.fit(X, y, l2=l2).cov_params(), shown @ inverse @ shown.T, rtol=1e-9, atol=1e-12)


def test_collinear_columns_without_a_penalty_beside_one_with():
    X, y = random_problem()
    plain = cs.fit(X, y, l2=[2.0, 0.0, 0.0, 0.0])
    twice = cs.fit(np.column_stack([X, X[:, 1], X[:, 0]]), y, l2=[4.0, 0.0, 0.0, 0.0, 0.0, 4.0])
    assert plain.success and twice.success
    np.testing.assert_allclose(twice.coef[:, 0], plain.coef[:, 0] / 2, rtol=1e-9)
    np.testing.assert_allclose(twice.coef[:, 1] + twice.coef[:, 4], plain.coef[:, 1], rtol=1e-9)
    assert twice.log_likelihood == pytest.approx(plain.log_likelihood, rel=1e-12, abs=0)
    assert np.isnan(twice.bse[:, [1, 4]]).all() and np.isfinite(twice.bse[:, [0, 2, 3, 5, 6]]).all()


def test_separation_is_found_along_features_without_a_penalty():
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    X = np.column_stack([rng.standard_normal(60), y * 2.0 - rng.uniform(size=60)])
    with pytest.warns(cs.SeparationWarning, match="along x2, so"):
        assert not cs.fit(X, y, l2=[1.0, 0.0]).success
    assert cs.fit(X, y, l2=[0.0, 1.0]).success


def test_penalties_are_kept_in_json_and_shown(tmp_path):
    X, y = random_problem()
    for l2, shown in ((random_penalty(), "0 to "), (np.array([1.0, 2.0, 0.0, 3.0]), "0 to 3"), (2.5, "2.5")):
        result = cs.fit(X, y, l2=l2)
        result.to_json(tmp_path / "model.json")
        other = cs.from_json(tmp_path / "model.json")
        np.testing.assert_array_equal(other.l2, l2)
        assert np.shape(other.l2) == np.shape(l2) and other.effective_df == result.effective_df
        assert other.cov_type == "penalized"
        assert f" {shown}" in next(line for line in str(other.summary()).splitlines() if "l2 penalty" in line)


@pytest.mark.parametrize("by_class", [False, True])
def test_a_penalty_and_weights_times_a_power_of_two_are_the_same_fit(by_class):
    # 2^-1000 is 1e-301: no floor under the penalty may be seen beside weights as small
    X, y = random_problem()
    l2 = random_penalty() if by_class else 0.25
    plain = cs.fit(X, y, l2=l2)
    tiny = cs.fit(X, y, l2=np.multiply(l2, 2.0**-1000), sample_weight=np.full(len(y), 2.0**-1000))
    assert plain.success and tiny.success
    np.testing.assert_allclose(tiny.params, plain.params, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("unit", [1e-9, 1e-12])
@pytest.mark.parametrize("seed", range(3))
def test_columns_of_tiny_units_beside_one_of_1_take_an_l2(unit, seed):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(40, 3)) * [1.0, unit, unit], rng.integers(0, 3, 40)
    result = cs.fit(X, y, l2=1.0)
    assert result.success
    # what is so strongly penalised has, to first order, the coefficients gradient / l2
    alone = cs.fit(X[:, :1], y, l2=1.0)
    gradient = reference.gradient(X, y, np.insert(alone.params, 1, np.zeros((2, 1)), axis=1))
    np.testing.assert_allclose(result.coef[:, 1:], gradient[:, 1:3].astype(float), rtol=1e-6, atol=1e-8 * unit)


def most_penalized(X, y, l2, params, fit_intercept=True, weight=None):
    """The maximum of the penalised log-likelihood by Newton's method in long double, less its value at params."""
    C, p = params.shape
    penalty = np.zeros((C, p), dtype=np.longdouble)
    penalty[:, : X.shape[1]] = l2

    def value(W):
        return reference.log_likelihood(X, y, W, fit_intercept, weight) - (penalty * W * W).sum() / 2

    W = params.astype(np.longdouble)
    decrement = None
    for _ in range(30):
        gradient = reference.gradient(X, y, W, fit_intercept, weight) - penalty * W
        H = (np.diag(penalty.ravel()) - reference.hessian(X, y, W, fit_intercept, weight)).reshape(C, p, C, p)
        for i in np.flatnonzero(~penalty.any(axis=0)):  # along a common change nothing changes
            H[:, i, :, i] += H[0, i, 0, i]
        step = solved(H.reshape(C * p, C * p), gradient.ravel()).reshape(C, p)
        if decrement is None:
            decrement = float((gradient * step).sum())
        if not value(W + step) > value(W):
            break
        W = W + step
    # of logits that are sums of terms of 1e4 the values are wrong by 1e-15, the gradient by as much of its own size
    return decrement / 2 if decrement < 1e-12 else float(value(W) - value(params))


def solved(A, b):
    """A^-1 b in long double, by elimination in A scaled to unit diagonal."""
    unit = 1 / np.sqrt(A.diagonal())
    rows = np.column_stack([A * unit * unit[:, None], b * unit])
    for k in range(len(A)):
        rows[k] /= rows[k, k]
        others = np.arange(len(A)) != k
        rows[others] -= rows[others, k : k + 1] * rows[k]
    return rows[:, -1] * unit


@pytest.mark.skipif(not reference.EXTENDED, reason="long double is a double here")
@pytest.mark.parametrize("apart", [1e-4, 1e-6, 1e-7, 1e-8, 1e-9, 1e-11, 1e-14])
@pytest.mark.parametrize("by_class", [True, False])
def test_the_bound_on_the_gap_holds_where_columns_are_nearly_collinear(apart, by_class):
    # What columns differ by is below what a Gram matrix can hold; a small penalty leaves it to the data.
    rng = np.random.default_rng(int(-np.log10(apart)))
    X = rng.standard_normal((40, 3))
    X[:, 2] = X[:, 0] - X[:, 1] + apart * rng.standard_normal(40)
    y = rng.integers(0, 3, 40)
    l2 = 10.0 ** rng.uniform(-14, -8, (3, 3)) if by_class else 1e-12
    result = cs.fit(X, y, l2=l2)
    gap = most_penalized(X, y, l2, result.params)
    assert result.success
    assert gap < 1e-9  # 8e-4 and more where the difference was left out
    assert apart < 1e-4 or result.certificate.gap_bound < 1e-14
    rounding = 1e-17 * abs(result.log_likelihood)  # of the long double sums
    assert np.isnan(result.certificate.gap_bound) or gap <= result.certificate.gap_bound + rounding


def test_what_the_penalty_would_still_gain_counts_where_no_logit_moves():
    # coefficients of a column of 1e-10 move no logit, and a small l2 of their own hardly the gradient
    X, y = random_problem(n=100, d=1)
    X, l2 = X * 1e-10, np.array([[1.0], [1e-8], [1e-8]])
    result = cs.fit(X, y, l2=l2)
    assert result.success
    coordinates = MetricCoordinates(cs.SoftmaxObjective(X, y, l2=l2))
    away = coordinates.coordinates(result.params + np.array([[0, 0], [5, 0], [-5, 0]]))
    moved = polish(MeanLoss(coordinates), away, 1e-8, form=True, may_step=False)[2]
    assert moved.gradient_norm <= 1e-8 and moved.newton_range <= 1e-6
    assert moved.newton_decrement ** 2 == pytest.approx(1e-8 * 50, rel=1e-3)
    assert not moved.holds


@pytest.mark.skipif(not reference.EXTENDED, reason="long double is a double here")
def test_logits_of_thousands_that_nearly_cancel_are_settled():
    # separated, and hardly penalised along what two columns differ by: rounded logits leave steps of 1e-5
    rng = np.random.default_rng(167)
    X = rng.standard_normal((60, 4))
    X[:, 3] = X[:, 0] + 10.0 ** -rng.uniform(1, 5) * rng.standard_normal(60)
    y = (X @ rng.standard_normal((4, 3))).argmax(axis=1)
    y[:3] = range(3)
    l2 = 60 * 10.0 ** -rng.uniform(6, 16)
    result = cs.fit(X, y, l2=l2)
    assert np.abs(X @ result.coef.T).max() > 1000
    assert result.success and result.certificate.newton_range < 1e-7  # 1e-6 is certified; rounding leaves 1e-8
    assert most_penalized(X, y, l2, result.params) < 1e-12


@pytest.mark.parametrize("solver", ["auto", "trust-exact"])
@pytest.mark.parametrize("unit", [1e-60, 1e-100, 1e-150, 1e-200, 1e100])
def test_a_column_of_extreme_units_takes_an_l2(unit, solver):
    X, y = random_problem(d=3)
    result = cs.fit(X * [unit, 1.0, 1.0], y, l2=1.0, solver=solver)
    assert result.success and np.isfinite(result.params).all()
    if 1e-160 < unit < 1:  # to first order gradient / l2
        alone = cs.fit(X[:, 1:], y, l2=1.0)
        gradient = reference.gradient(X, y, np.insert(alone.params, 0, 0.0, axis=1))
        np.testing.assert_allclose(result.coef[:, 0] / unit, gradient[:, 0].astype(float), rtol=1e-5)
        np.testing.assert_allclose(result.bse[:, 0], np.sqrt(2 / 3), rtol=1e-8)
