"""Marginal effects, predicted margins, contrasts and relative risk ratios: against differences of an oracle.

It stands on reference.py and csoftmax.fit.
"""

import pickle

import numpy as np
import pytest
import reference

import csoftmax as cs
from csoftmax._threads import row_blocks

# The Jacobian of the oracle's delta method is of central differences, good to about 1e-9.
RTOL = 1e-7


def covariance_of(result):
    """Of all rows, the reference's with zeros."""
    shape = result.params.shape
    if result.reference is None:
        return result.cov_params()
    full = np.zeros((*shape, *shape))
    rows = [k for k in range(shape[0]) if result.classes[k] != result.reference]
    full[np.ix_(rows, range(shape[1]), rows, range(shape[1]))] = result.cov_params().reshape(len(rows), shape[1],
                                                                                            len(rows), shape[1])
    return full.reshape(result.params.size, result.params.size)


def check(table, result, functions):
    """The table is that of functions of W, each (C,), one for each name."""
    assert np.isfinite(covariance_of(result)).all(), "nan would agree with nan"
    truth = np.array([function(result.params) for function in functions]).T
    covariance = reference.delta_covariance(lambda W: np.array([function(W) for function in functions]).T,
                                            result.params, covariance_of(result))
    assert table.estimate.shape == table.std_error.shape == (len(result.classes), len(functions))
    assert table.groups == result.classes.tolist() and len(table.names) == len(functions)
    np.testing.assert_allclose(table.estimate, truth.astype(float), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(table.covariance, covariance.astype(float), rtol=RTOL,
                               atol=RTOL * float(np.abs(covariance).max()))
    np.testing.assert_allclose(table.std_error.ravel(), np.sqrt(np.diag(covariance).astype(float)), rtol=RTOL)
    np.testing.assert_allclose(table.estimate.sum(axis=0), float(round(truth[:, 0].sum())), atol=1e-14)


def made(n_classes, d, n=300, seed=0, binary=()):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    for column in binary:
        X[:, column] = X[:, column] > 0.3
    y = (X @ rng.standard_normal((d, n_classes)) + rng.gumbel(size=(n, n_classes))).argmax(axis=1)
    return X, np.array(list("abcdefgh"))[y], rng


@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("ref", [None, "b"])
def test_slopes_are_those_of_the_oracle_and_their_errors_of_its_differences(n_classes, d, ref):
    X, y, _ = made(n_classes, d)
    result = cs.fit(X, y, reference=ref)
    check(result.margins(), result, [lambda W, f=f: reference.average_slope(X, np.eye(d)[[f] * len(X)], W)
                                     for f in range(d)])
    check(result.margins(at="mean"), result,
          [lambda W, f=f: reference.average_slope(X.mean(axis=0, keepdims=True), np.eye(d)[[f]], W) for f in range(d)])
    at = np.insert(X[:, 1:], 0, 0.7, axis=1)
    check(result.margins(at={"x1": 0.7}), result,
          [lambda W, f=f: reference.average_slope(at, np.eye(d)[[f] * len(X)], W) for f in range(d)])


def with_everything():
    X, _, rng = made(3, 3, binary=[1])
    counts, weight = rng.integers(0, 4, size=(len(X), 3)), rng.integers(0, 3, size=len(X)).astype(float)
    offset = 0.3 * rng.standard_normal((len(X), 3))
    return X, counts, weight, offset


@pytest.mark.parametrize("options", [{}, {"l2": 2.0}, {"fit_intercept": False}, {"bias_reduction": "firth"}])
def test_weights_counts_and_offset_are_kept_in_every_average(options):
    X, counts, weight, offset = with_everything()
    result = cs.fit(X, counts, sample_weight=weight, offset=offset, reference=2, **options)
    mass, intercept = weight * counts.sum(axis=1), options.get("fit_intercept", True)

    def difference(W, X=X):
        one, zero = (reference.average_probability(np.insert(np.delete(X, 1, 1), 1, value, axis=1), W, intercept, mass,
                                                   offset) for value in (1, 0))
        return one - zero

    def slope(W, f, X=X):
        return reference.average_slope(X, np.eye(3)[[f] * len(X)], W, intercept, mass, offset)

    table = result.margins()
    assert table.names == ["x1", "x2: 1 vs 0", "x3"]
    check(table, result, [lambda W: slope(W, 0), difference, lambda W: slope(W, 2)])
    means = np.tile(mass @ X / mass.sum(), (len(X), 1))
    check(result.margins(["x2", "x1"], at="mean"), result,
          [lambda W: difference(W, means), lambda W: slope(W, 0, means)])
    check(result.predicted_margins(), result,
          [lambda W: reference.average_probability(X, W, intercept, mass, offset)])
    given = result.margins(X=X, sample_weight=mass, offset=offset)
    np.testing.assert_allclose(given.covariance, table.covariance, rtol=1e-12)
    np.testing.assert_allclose(given.estimate, table.estimate, rtol=1e-12, atol=1e-16)


def test_rows_of_weight_zero_are_absent_also_where_zero_and_one_are_looked_for():
    X, y, _ = made(3, 2, binary=[1])
    more, labels = np.vstack([X, [[0.1, 7.0]]]), np.append(y, "a")
    weight = np.append(np.ones(len(X)), 0.0)
    few, all_rows = cs.fit(X, y).margins(), cs.fit(more, labels, sample_weight=weight).margins()
    assert few.names == all_rows.names == ["x1", "x2: 1 vs 0"]
    np.testing.assert_allclose(all_rows.estimate, few.estimate, rtol=1e-9)
    np.testing.assert_allclose(all_rows.std_error, few.std_error, rtol=1e-9)


def test_weight_two_is_the_row_twice_in_every_margin():
    X, y, _ = made(3, 2, binary=[1])
    weight = 1.0 + (np.arange(len(X)) % 2)
    once = cs.fit(X, y, sample_weight=weight)
    twice = cs.fit(np.repeat(X, weight.astype(int), axis=0), np.repeat(y, weight.astype(int)))
    for ask in (lambda r: r.margins(), lambda r: r.margins(at="mean"), lambda r: r.predicted_margins({"x1": [0, 1]})):
        np.testing.assert_allclose(ask(once).estimate, ask(twice).estimate, rtol=1e-9)
        np.testing.assert_allclose(ask(once).covariance, ask(twice).covariance, rtol=1e-8, atol=1e-12)


def test_margins_do_not_depend_on_the_reference():
    X, y, _ = made(4, 2)
    tables = [cs.fit(X, y, reference=ref).margins() for ref in (None, "a", "d")]
    for table in tables[1:]:
        np.testing.assert_allclose(table.estimate, tables[0].estimate, rtol=1e-12)
        np.testing.assert_allclose(table.covariance, tables[0].covariance, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("cov_type", ["HC0", "HC3"])
def test_a_robust_covariance_is_that_of_every_table(cov_type):
    X, y, _ = made(3, 2, binary=[1])
    result = cs.fit(X, y, reference="a").with_covariance(cov_type)
    plain = cs.fit(X, y, reference="a")
    check(result.margins("x1"), result, [lambda W: reference.average_slope(X, np.eye(2)[[0] * len(X)], W)])
    assert result.margins().notes == [f"Standard errors: {cov_type}."]
    np.testing.assert_allclose(result.relative_risk_ratios().zvalues, result.zvalues[1:], rtol=1e-10)
    np.testing.assert_allclose(result.contrasts().std_error[0], result.bse[1], rtol=1e-10)
    for ask in (lambda r: r.margins().std_error, lambda r: r.predict_proba_interval(X[:3]).std_error):
        assert (np.abs(ask(result) / ask(plain) - 1) > 1e-4).all()


def test_values_are_combined_and_predicted_margins_have_their_covariance():
    X, y, _ = made(3, 3, binary=[1])
    result = cs.fit(X, y, reference="a")

    def at(x1, x2):
        return np.column_stack([np.full(len(X), x1), np.full(len(X), x2), X[:, 2]])

    table = result.predicted_margins({"x1": [-0.5, 1.0], "x2": [0, 1]})
    assert table.names == ["x1=-0.5, x2=0", "x1=-0.5, x2=1", "x1=1, x2=0", "x1=1, x2=1"]
    grid = [(-0.5, 0), (-0.5, 1), (1.0, 0), (1.0, 1)]
    check(table, result, [lambda W, v=v: reference.average_probability(at(*v), W) for v in grid])
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    differences = table.contrasts()
    assert differences.names[0] == "x1=-0.5, x2=1 vs x1=-0.5, x2=0"
    check(differences, result,
          [lambda W, a=a, b=b: reference.average_probability(at(*grid[b]), W)
           - reference.average_probability(at(*grid[a]), W) for a, b in pairs])
    # a discrete effect is the contrast of two predicted margins
    effect = result.margins("x2", at={"x1": [-0.5, 1.0]})
    assert effect.names == ["x2: 1 vs 0 [x1=-0.5]", "x2: 1 vs 0 [x1=1]"]
    np.testing.assert_allclose(effect.std_error, differences.std_error[:, [0, 5]], rtol=1e-12)


def test_discrete_names_the_columns_that_go_from_zero_to_one():
    X, y, _ = made(3, 3, binary=[0, 1])
    result = cs.fit(X, y)
    assert result.margins().names == ["x1: 1 vs 0", "x2: 1 vs 0", "x3"]
    assert result.margins(discrete=[]).names == ["x1", "x2", "x3"]
    assert result.margins(discrete="x3").names == ["x1", "x2", "x3: 1 vs 0"]
    check(result.margins(["x1"], discrete=[]), result,
          [lambda W: reference.average_slope(X, np.eye(3)[[0] * len(X)], W)])


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, "fortran", "strided"])
def test_any_dtype_and_order_of_x_gives_the_margins_of_its_numbers(dtype):
    X, y, _ = made(3, 3)
    X = np.round(20 * X - X.min() * 20)
    laid = np.asfortranarray(X) if dtype == "fortran" else np.repeat(X, 2, axis=1)[:, ::2] if dtype == "strided" \
        else X.astype(dtype)
    expected, table = cs.fit(X, y).margins(), cs.fit(laid, y).margins()
    np.testing.assert_allclose(table.estimate, expected.estimate, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(table.std_error, expected.std_error, rtol=1e-6)


def test_margins_follow_the_units_of_x():
    X, y, _ = made(3, 2)
    scaled = np.column_stack([1e6 * X[:, 0] + 1e9, X[:, 1]])
    plain, far = cs.fit(X, y).margins(), cs.fit(scaled, y).margins()
    # the mean is 1e3 spreads: squared and times eps, 2e-10, and some more for sums
    np.testing.assert_allclose(far.estimate * [1e6, 1], plain.estimate, rtol=1e-8)
    np.testing.assert_allclose(far.std_error * [1e6, 1], plain.std_error, rtol=1e-7)


@pytest.mark.parametrize("n_classes", [3, 6])
def test_margins_are_bit_identical_for_every_number_of_threads(n_classes):
    X, y, rng = made(n_classes, 4, n=40_000, binary=[0])
    assert len(row_blocks(len(X), 4 + n_classes)) > 2, "several blocks"
    weight = rng.integers(0, 3, len(X))
    result = cs.fit(X, y, sample_weight=weight, l2=1.0, n_threads=1)
    first, *others = [result.margins(n_threads=n_threads) for n_threads in (1, 2, 5)]
    for table in others:
        np.testing.assert_array_equal(table.estimate, first.estimate)
        np.testing.assert_array_equal(table.covariance, first.covariance)
    mass = weight.astype(float)
    whole = reference.average_slope(X, np.eye(4)[[1] * len(X)], result.params, weight=mass)
    np.testing.assert_allclose(first.estimate[:, 1], whole.astype(float), rtol=1e-11)


# ------------------------------------------------------------------------------------------------------------ formulas

FORMULA = "y ~ t * g + I(t**2) + np.log(z) + bs(x, df=4) + x:flag + flag + C(k)"


@pytest.fixture(scope="module")
def table_of_data():
    pd = pytest.importorskip("pandas")
    pytest.importorskip("formulaic")
    rng = np.random.default_rng(1)
    n = 400
    data = pd.DataFrame({"t": rng.standard_normal(n), "x": rng.standard_normal(n), "z": rng.uniform(1, 3, n),
                         "g": rng.choice(["u", "v", "w"], n), "flag": rng.integers(0, 2, n),
                         "k": rng.choice([4, 7, 9], n)})
    utility = np.column_stack([np.zeros(n), data.t * (data.g == "v") + np.log(data.z), 0.5 * data.t**2 - data.flag])
    data["y"] = np.array(["r", "s", "t"])[(utility + rng.gumbel(size=(n, 3))).argmax(axis=1)]
    data["w"] = rng.integers(0, 3, n)
    return data


@pytest.fixture(scope="module")
def by_formula(table_of_data):
    return cs.fit_formula(FORMULA, table_of_data, sample_weight="w")


def test_slopes_by_formula_go_through_interactions_powers_and_splines(table_of_data, by_formula):
    data, result, design = table_of_data, by_formula, by_formula.design
    assert np.isfinite(covariance_of(result)).all(), "nan would agree with nan"
    table = result.margins(["x", "z", "t"])
    assert table.names == ["x", "z", "t"]
    X, mass = design.matrix(data), data.w.to_numpy(dtype=float)
    inside = (data.x > data.x.min()) & (data.x < data.x.max())  # no spline has a value beyond

    def slope_of_design(name, h):
        up, down = (design.matrix(data[inside].assign(**{name: data[inside][name] + side * h})) for side in (1, -1))
        return (up - down) / (2 * h)

    # fourth order, with a step of another size: good to 1e-11
    dX = {name: (4 * slope_of_design(name, 5e-5) - slope_of_design(name, 1e-4)) / 3 for name in ("x", "z", "t")}
    kept = mass * inside
    for column, name in enumerate(("x", "z", "t")):
        truth = reference.average_slope(X[inside], dX[name], result.params, weight=mass[inside])
        middle = result.margins(name, X=data, sample_weight=kept)
        np.testing.assert_allclose(middle.estimate[:, 0], truth.astype(float), rtol=1e-7, atol=1e-9)
        covariance = reference.delta_covariance(
            lambda W, name=name: reference.average_slope(X[inside], dX[name], W, weight=mass[inside]), result.params,
            covariance_of(result))
        np.testing.assert_allclose(middle.covariance, covariance.astype(float), rtol=1e-6, atol=1e-9)
        assert np.abs(table.estimate[:, column] - middle.estimate[:, 0]).max() < 0.02  # two rows more


def test_slopes_by_formula_are_taken_where_other_variables_are_set(table_of_data, by_formula):
    data, design, mass = table_of_data, by_formula.design, table_of_data.w.to_numpy(dtype=float)
    table = by_formula.margins("t", at={"g": ["v", "w"], "t": 0.4})
    assert table.names == ["t [g=v, t=0.4]", "t [g=w, t=0.4]"]

    def slope(g):
        matrix = [design.matrix(data.assign(g=g, t=0.4 + h)) for h in (0.0, 1e-4, -1e-4)]
        dX = (matrix[1] - matrix[2]) / 2e-4  # the design is quadratic in t
        return lambda W: reference.average_slope(matrix[0], dX, W, weight=mass)

    functions = [slope("v"), slope("w")]
    truth = np.array([function(by_formula.params) for function in functions], dtype=float).T
    np.testing.assert_allclose(table.estimate, truth, rtol=1e-8, atol=1e-10)
    covariance = reference.delta_covariance(lambda W: np.array([function(W) for function in functions]).T,
                                            by_formula.params, covariance_of(by_formula))
    np.testing.assert_allclose(table.covariance, covariance.astype(float), rtol=1e-6, atol=1e-9)


def test_at_the_ends_of_a_spline_the_slope_is_that_of_a_parabola_within(table_of_data, by_formula):
    # the slopes at three points where central differences find room, extrapolated: good to 1e-9
    for end, inward in (("min", 1), ("max", -1)):
        x = getattr(table_of_data.x, end)()
        at = [x + inward * 1e-3 * i for i in range(4)]
        end, *inside = np.moveaxis(by_formula.margins("x", at={"x": at}).estimate, 1, 0)
        assert np.abs(end - inside[0]).max() > 1e-5
        np.testing.assert_allclose(end, 3 * inside[0] - 3 * inside[1] + inside[2], rtol=1e-7, atol=1e-8)


def test_levels_of_a_category_move_all_their_dummies_and_interactions(table_of_data, by_formula):
    data, result, design = table_of_data, by_formula, by_formula.design
    mass, matrices = data.w.to_numpy(dtype=float), {}

    def at(W, **values):
        key = tuple(values.items())
        if key not in matrices:
            matrices[key] = design.matrix(data.assign(**values))
        return reference.average_probability(matrices[key], W, weight=mass)

    table = result.margins(["g", "flag", "k"])
    assert table.names == ["g: v vs u", "g: w vs u", "flag: 1 vs 0", "k: 7 vs 4", "k: 9 vs 4"]
    check(table, result, [
        lambda W: at(W, g="v") - at(W, g="u"), lambda W: at(W, g="w") - at(W, g="u"),
        lambda W: at(W, flag=1) - at(W, flag=0), lambda W: at(W, k=7) - at(W, k=4), lambda W: at(W, k=9) - at(W, k=4)])
    assert result.margins().names == ["t", *table.names[:2], "z", "x", *table.names[2:]]
    means = {name: float(mass @ data[name] / mass.sum()) for name in ("t", "x", "z", "flag")}
    check(result.predicted_margins("mean"), result, [lambda W: at(W, **means)])
    check(result.predicted_margins({"g": ["u", "w"], "x": 0}), result,
          [lambda W: at(W, g="u", x=0), lambda W: at(W, g="w", x=0)])


@pytest.mark.parametrize("variable, factor, base, others", [
    ("g", "C(g, contr.treatment('v'))", "v", ["u", "w"]), ("g", "C(g, contr.treatment(base='w'))", "w", ["u", "v"]),
    ("g", "C(g, contrasts=Treatment('v'))", "v", ["u", "w"]), ("k", "C(k, Treatment(reference=3 + 4))", 7, [4, 9]),
    ("g", "C(g, contr.SAS)", "w", ["u", "v"]), ("g", "C(g, contr.SAS('v'))", "v", ["u", "w"]),
    ("g", "C(Q('g'), Treatment('v')):C(k)", "v", ["u", "w"]), ("g", "C(g, contr.treatment)", "u", ["v", "w"]),
    ("g", "C(g, Treatment('v'), levels=['w', 'v', 'u'])", "v", ["w", "u"]), ("g", "C(g, contr.sum)", "u", ["v", "w"]),
    ("g", "C(g, levels=['w', 'v', 'u'])", "w", ["v", "u"]),
])
def test_levels_are_compared_with_the_base_of_their_contrast(table_of_data, tmp_path, variable, factor, base, others):
    result = cs.fit_formula(f"y ~ t + {factor}", table_of_data)
    assert result.design.base_level(variable) == base
    table = result.margins(variable)
    assert table.names == [f"{variable}: {level} vs {base}" for level in others]
    by_level = result.predicted_margins({variable: [base, *others]}).estimate
    np.testing.assert_allclose(table.estimate, by_level[:, 1:] - by_level[:, :1], atol=1e-14)
    result.to_json(tmp_path / "model.json")
    read = cs.from_json(tmp_path / "model.json")
    assert read.margins(variable, X=table_of_data).names == table.names


def test_bools_and_categoricals_are_set_in_a_data_frame(table_of_data):
    pd = pytest.importorskip("pandas")
    data = table_of_data.assign(flag=table_of_data.flag > 0, g=pd.Categorical(table_of_data.g, ["w", "v", "u", "none"]))
    result = cs.fit_formula("y ~ flag + g * flag", data)
    table = result.margins()
    assert table.names == ["flag: True vs False", "g: v vs w", "g: u vs w"]
    design = result.design
    check(table, result, [
        lambda W, a=a, b=b: reference.average_probability(design.matrix(data.assign(**b)), W)
        - reference.average_probability(design.matrix(data.assign(**a)), W)
        for a, b in [({"flag": False}, {"flag": True}), ({"g": "w"}, {"g": "v"}), ({"g": "w"}, {"g": "u"})]])


def test_the_data_of_a_formula_may_be_given_and_must_be_after_pickling(table_of_data, by_formula):
    expected = by_formula.margins(["x", "g"])
    read = pickle.loads(pickle.dumps(by_formula))
    given = read.margins(["x", "g"], X=table_of_data, sample_weight=table_of_data.w)
    np.testing.assert_allclose(given.estimate, expected.estimate, rtol=1e-12)
    np.testing.assert_allclose(given.covariance, expected.covariance, rtol=1e-10, atol=1e-14)
    with pytest.raises(ValueError, match=r"the result has no data .* X is wanted"):
        read.margins()
    dropped = cs.fit_formula("y ~ x", table_of_data, keep_data=False)
    with pytest.raises(ValueError, match="the result has no data"):
        dropped.margins()


def test_missing_rows_of_the_fit_are_absent_and_of_new_data_refused(table_of_data):
    pytest.importorskip("pandas")
    data = table_of_data.copy()
    data.loc[[3, 5], "x"] = np.nan
    result = cs.fit_formula("y ~ x + g", data)
    whole = cs.fit_formula("y ~ x + g", data.dropna())
    np.testing.assert_allclose(result.margins().estimate, whole.margins().estimate, rtol=1e-9)
    with pytest.raises(ValueError, match="missing values: 'x' in 2 rows"):
        result.margins(X=data)
    with pytest.raises(ValueError, match=r"X is ndarray; a data frame is wanted, with the variables of .*'y ~ x \+ g'"):
        result.margins(X=result.design.matrix(data.dropna()))


def test_blocks_of_a_data_frame_add_up(table_of_data, by_formula, monkeypatch):
    expected = by_formula.margins()
    from csoftmax import margins
    monkeypatch.setattr(margins, "row_blocks", lambda n, _: [(i, min(i + 77, n)) for i in range(0, n, 77)])
    pieces = by_formula.margins()
    np.testing.assert_allclose(pieces.estimate, expected.estimate, rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(pieces.covariance, expected.covariance, rtol=1e-9, atol=1e-14)


# -------------------------------------------------------------------------------------- contrasts, relative risk ratios

@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_contrasts_of_classes_are_the_coefficients_with_the_other_class_as_reference(n_classes):
    X, y, _ = made(n_classes, 1)
    table = cs.fit(X, y).contrasts()
    assert len(table.groups) == n_classes * (n_classes - 1) // 2
    assert table.names == ["x1", "Intercept"]
    for group, estimate, error in zip(table.groups, table.estimate, table.std_error, strict=True):
        b, a = group.split(" vs ")
        based = cs.fit(X, y, reference=a)
        row = based.classes.tolist().index(b)
        assert b > a
        np.testing.assert_allclose(estimate, based.params[row], rtol=1e-9)
        np.testing.assert_allclose(error, based.bse[row], rtol=1e-9)


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_relative_risk_ratios_exponentiate_the_ends_and_keep_the_coefficients_tests(n_classes):
    X, y, _ = made(n_classes, 1)
    result = cs.fit(X, y, reference="b")
    table = result.relative_risk_ratios()
    rows = [k for k in range(n_classes) if k != 1]
    assert table.groups == [result.classes[k] for k in rows]
    np.testing.assert_allclose(table.estimate, np.exp(result.params[rows]), rtol=1e-14)
    np.testing.assert_allclose(table.std_error, np.exp(result.params[rows]) * result.bse[rows], rtol=1e-12)
    np.testing.assert_allclose(table.zvalues, result.zvalues[rows], rtol=1e-11)
    np.testing.assert_allclose(table.pvalues, result.pvalues[rows], rtol=1e-9)
    np.testing.assert_allclose(table.conf_int(level=0.9), np.exp(result.conf_int(level=0.9)[rows]), rtol=1e-11)
    symmetric = cs.fit(X, y).relative_risk_ratios()
    assert symmetric.groups == result.classes.tolist()[1:], "against the first class"
    np.testing.assert_allclose(symmetric.estimate, np.exp(cs.fit(X, y, reference="a").params[1:]), rtol=1e-9)


def test_a_table_reads_and_becomes_a_data_frame():
    pd = pytest.importorskip("pandas")
    X, y, _ = made(3, 2, binary=[1])
    result = cs.fit(X, y)
    table = result.margins()
    text = str(table)
    assert text.splitlines()[0].strip() == "Average marginal effects"
    for piece in ("dP", "std err", "P>|z|", "[0.025", "x2: 1 vs 0", f"{table.estimate[1, 0]:.4f}"[:5]):
        assert piece in text
    assert "<table" in table._repr_html_()
    frame = table.to_frame(level=0.9)
    assert isinstance(frame, pd.DataFrame)
    assert frame.columns.tolist() == ["class", "feature", "estimate", "std_error", "z", "pvalue", "lower", "upper"]
    row = frame[(frame["class"] == "b") & (frame.feature == "x2: 1 vs 0")].iloc[0]
    assert (row.estimate, row.std_error) == (table.estimate[1, 1], table.std_error[1, 1])
    np.testing.assert_array_equal([row.lower, row.upper], table.conf_int(level=0.9)[1, 1])
    np.testing.assert_allclose(row.pvalue, table.pvalues[1, 1])
    with pytest.raises(ValueError, match="level is 2; a number between 0 and 1 is wanted"):
        table.conf_int(level=2)
    with pytest.raises(ValueError, match="the table 'Contrasts of classes' is without"):
        result.contrasts().contrasts()
    with pytest.raises(ValueError, match="contrasts need two names or more; the table has 'all rows'"):
        result.predicted_margins().contrasts()


# -------------------------------------------------------------------------------------------------- what is not there

def test_where_there_are_no_standard_errors_the_notes_say_why():
    X, y, _ = made(3, 2)
    sparse = cs.fit(X, y, l1=1.0)
    with pytest.raises(ValueError, match="l1 > 0"):
        sparse.margins()
    with pytest.warns(cs.SeparationWarning):
        separated = cs.fit(np.arange(6.0).reshape(-1, 1), [0, 0, 0, 1, 1, 1])
    collinear = cs.fit(np.column_stack([X, X[:, 0]]), y)
    for table, reason in ((sparse.margins(X=X), "With l1 > 0"), (separated.margins(), "separated"),
                          (collinear.margins(["x1", "x3"]), "collinear columns): x1, x3")):
        assert np.isfinite(table.estimate).all() and np.isnan(table.std_error).all()
        assert len(table.notes) == 1 and reason in table.notes[0]
        assert table.notes[0][:20] in str(table)
    assert cs.fit(X, y, l2=1.0).margins().notes == ["Standard errors are from the penalised information."]
    assert cs.fit(X, y).margins().notes == []


def test_a_model_without_features_has_margins_of_its_intercepts():
    result = cs.fit(np.empty((10, 0)), [0, 1, 2, 0, 1, 2, 0, 0, 0, 0])
    table = result.predicted_margins()
    np.testing.assert_allclose(table.estimate[:, 0], [0.6, 0.2, 0.2], rtol=1e-12)
    np.testing.assert_allclose(table.std_error[:, 0], np.sqrt([0.024, 0.016, 0.016]), rtol=1e-9)  # p (1 - p) / n
    assert result.margins().estimate.shape == (3, 0)


@pytest.mark.parametrize("ask, error, message", [
    (lambda r, X: r.margins("x9"), ValueError, "features has 'x9'; the model's variables are 'x1', 'x2'"),
    (lambda r, X: r.margins(0), ValueError, "features has 0; the model's variables are 'x1', 'x2'"),
    (lambda r, X: r.margins(discrete=["x9"]), ValueError, "discrete has 'x9'"),
    (lambda r, X: r.margins(at={"x9": 1}), ValueError, "at has 'x9'"),
    (lambda r, X: r.margins(at="median"), ValueError, "at is 'median'; 'average', 'mean' or a mapping"),
    (lambda r, X: r.margins(at=3), TypeError, "at is int; 'average', 'mean' or a mapping"),
    (lambda r, X: r.margins(at={"x1": []}), ValueError, "at has no value for 'x1'"),
    (lambda r, X: r.margins(at={"x1": np.nan}), ValueError, "at has nan for 'x1'"),
    (lambda r, X: r.margins(at={"x1": "u"}), ValueError, "at has 'u' for 'x1'; a number is wanted"),
    (lambda r, X: r.margins(sample_weight=[1.0]), ValueError, "sample_weight is given without X"),
    (lambda r, X: r.margins(offset=X), ValueError, "offset is given without X"),
    (lambda r, X: r.margins(X=X[:0]), ValueError, "X has 0 samples"),
    (lambda r, X: r.margins(X=X[:, :1]), ValueError, "X has 1 columns; the model was fitted with 2"),
    (lambda r, X: r.margins(X=X, sample_weight=[1.0]), ValueError, r"sample_weight has shape \(1,\)"),
    (lambda r, X: r.margins(X=X, offset=X), ValueError, r"offset has shape \(300, 2\)"),
    (lambda r, X: r.margins(X=np.where(X > 2, np.nan, X)), ValueError, "X has nan at row"),
])
def test_an_error_names_the_argument_what_came_and_what_is_wanted(ask, error, message):
    X, y, _ = made(3, 2)
    result = cs.fit(X, y)
    with pytest.raises(error, match=message):
        ask(result, X)


# -------------------------------------------------------------------------------------------------------- statsmodels

@pytest.mark.parametrize("n_classes", [2, 3])
def test_slopes_agree_with_statsmodels_where_it_is_right(n_classes):
    sm = pytest.importorskip("statsmodels.api")
    X, y, _ = made(n_classes, 2)
    theirs = sm.MNLogit(np.searchsorted(np.unique(y), y), sm.add_constant(X)).fit(disp=0, tol=1e-12)
    result = cs.fit(X, y)
    for at, ours in (("overall", result.margins()), ("mean", result.margins(at="mean"))):
        margins = theirs.get_margeff(at=at)
        # statsmodels shapes them (n_features, n_classes), and stops at a gradient, not at a certificate
        np.testing.assert_allclose(ours.estimate, margins.margeff.T, rtol=1e-8, atol=1e-11)
        np.testing.assert_allclose(ours.std_error, margins.margeff_se.T, rtol=1e-8)


@pytest.mark.parametrize("discrete, kind", [([], "nodummy"), (None, "dummy")])
@pytest.mark.parametrize("at, suffix", [("average", ""), ("mean", "mean")])
def test_two_classes_agree_with_the_stata_figures_that_statsmodels_holds(discrete, kind, at, suffix):
    data = pytest.importorskip("statsmodels.datasets").spector.load_pandas().data
    published = pytest.importorskip("statsmodels.discrete.tests.results.results_discrete").Spector.logit
    table = cs.fit(data[["GPA", "TUCE", "PSI"]], data["GRADE"], reference=0).margins(at=at, discrete=discrete)
    # Stata's digits: seven or so
    np.testing.assert_allclose(table.estimate[1], getattr(published, f"margeff_{kind}_dydx{suffix}"), rtol=1e-5)
    np.testing.assert_allclose(table.std_error[1], getattr(published, f"margeff_{kind}_dydx{suffix}_se"), rtol=1e-5)
