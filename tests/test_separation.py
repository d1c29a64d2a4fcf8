"""check_separation and the warning of fit: against exact rational programs, certified references and traps.

It stands on tests/references_io.py; the oracle below is a simplex method in rational numbers that imports nothing of
ours.
"""

import re
from fractions import Fraction

import numpy as np
import pytest
import references_io
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import csoftmax as cs
from csoftmax import fitting, separation
from csoftmax.encoding import encode

# ------------------------------------------------------------------------------------------------------- the oracle


def margin_rows(X, present, fit_intercept):
    """The coefficients of every margin, rational: of class i that row j has, against every other class k."""
    C = present.shape[1]
    rows = []
    for x, has in zip(np.asarray(X), present, strict=True):
        z = [Fraction(float(value)) for value in x] + [Fraction(1)] * fit_intercept
        for i in np.flatnonzero(has):
            for k in range(C):
                if k != i:
                    row = [Fraction(0)] * (C * len(z))
                    row[i * len(z):(i + 1) * len(z)] = z
                    row[k * len(z):(k + 1) * len(z)] = [-value for value in z]
                    rows.append(row)
    return rows


def largest(cost, rows, bounds):
    """max cost'v over v >= 0 with rows v <= bounds, bounds >= 0: the simplex method by Bland's rule, in fractions."""
    m, n = len(rows), len(cost)
    table = [[*row, *[Fraction(i == k) for k in range(m)], bound]
             for i, (row, bound) in enumerate(zip(rows, bounds, strict=True))]
    last = [-value for value in cost] + [Fraction(0)] * (m + 1)
    basis = list(range(n, n + m))
    while True:
        enters = next((column for column in range(n + m) if last[column] < 0), None)
        if enters is None:
            return last[-1]
        ratios = [(table[i][-1] / table[i][enters], basis[i], i) for i in range(m) if table[i][enters] > 0]
        _, _, leaves = min(ratios)
        pivot = [value / table[leaves][enters] for value in table[leaves]]
        table[leaves], basis[leaves] = pivot, enters
        for row in [*(table[i] for i in range(m) if i != leaves), last]:
            factor = row[enters]
            if factor:
                row[:] = [a - factor * b for a, b in zip(row, pivot, strict=True)]


def true_kind(X, present, fit_intercept=True):
    """"complete", "quasi" or "none", in rational arithmetic."""
    margins = margin_rows(X, present, fit_intercept)
    both = [row + [-value for value in row] for row in margins]               # v = v+ - v-
    zero = [Fraction(0)] * len(both)
    total = [sum(column) for column in zip(*both, strict=True)]
    against = [[-value for value in row] for row in both]
    if not both or largest(total, [*against, total], [*zero, Fraction(1)]) == 0:
        return "none"
    n = len(both[0])
    t = [Fraction(0)] * n + [Fraction(1)]
    return "complete" if largest(t, [*[[*row, Fraction(1)] for row in against], t], [*zero, Fraction(1)]) else "quasi"


def one_hot(y, n_classes):
    return np.asarray(y)[:, np.newaxis] == np.arange(n_classes)


def assert_is_witness(found, X, present, fit_intercept=True):
    """The direction's margins, in rational arithmetic: none below rounding of the direction; positive on its rows."""
    X = np.asarray(X, dtype=float)
    direction = [[Fraction(value) for value in row] for row in found.direction.tolist()]
    p = X.shape[1] + fit_intercept
    assert found.direction.shape == (present.shape[1], p)
    risen, pairs = set(), set()
    for j, (x, has) in enumerate(zip(X.tolist(), present, strict=True)):
        z = [Fraction(value) for value in x] + [Fraction(1)] * fit_intercept
        for i in np.flatnonzero(has):
            for k in range(len(has)):
                terms = [(a - b) * value for a, b, value in zip(direction[i], direction[k], z, strict=True)]
                size = sum((abs(a) + abs(b)) * abs(value)
                           for a, b, value in zip(direction[i], direction[k], z, strict=True))
                margin = sum(terms)
                # the direction is rounded to float64 from a rational one: p terms of relative eps
                assert margin >= -(p + 1) * Fraction(2.0 ** -52) * size
                if margin > (p + 1) * Fraction(2.0 ** -52) * size:
                    risen.add(j)
                    pairs.add((min(i, k), max(i, k)))
    assert risen <= set(found.rows.tolist()) and pairs <= set(found.pairs)
    assert len(found.rows) > 0


# ------------------------------------------------------------------------------------ against the oracle, tiny data

@st.composite
def tiny_samples(draw):
    C, d = draw(st.sampled_from([(2, 1), (2, 2), (3, 1), (3, 2), (4, 1)]))
    n = draw(st.integers(C, 9))
    X = np.array(draw(st.lists(st.lists(st.integers(-2, 2), min_size=d, max_size=d), min_size=n, max_size=n)))
    y = np.array([*range(C), *draw(st.lists(st.integers(0, C - 1), min_size=n - C, max_size=n - C))])
    return X.reshape(n, d), y, C


@settings(max_examples=60, deadline=None, derandomize=True)
@given(tiny_samples(), st.booleans(), st.sampled_from([(1.0, 0.0), (0.1, 0.0), (1e6, 1e9), (1e-7, 3.3)]))
def test_whole_numbers_in_any_units_are_decided_as_by_rational_programs(samples, fit_intercept, units):
    X, y, C = samples
    X = X * units[0] + (units[1] if fit_intercept else 0.0)
    found = cs.check_separation(X, y, fit_intercept=fit_intercept)
    assert found.kind == true_kind(X, one_hot(y, C), fit_intercept), (X, y)
    if found.separated:
        assert_is_witness(found, X, one_hot(y, C), fit_intercept)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(tiny_samples(), st.integers(0, 2 ** 32 - 1))
def test_counts_are_decided_as_by_rational_programs(samples, seed):
    X, y, C = samples
    counts = np.random.default_rng(seed).integers(0, 2, (len(y), C)) * 3
    counts[np.arange(len(y)), y] += np.random.default_rng(seed + 1).integers(0, 2, len(y))
    counts[np.arange(C), np.arange(C)] += 1
    found = cs.check_separation(X, counts)
    assert found.kind == true_kind(X, counts > 0)
    if found.separated:
        assert_is_witness(found, X, counts > 0)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(tiny_samples(), st.sampled_from([(1.0, 0.0), (0.1, 0.0), (1e6, 1e9)]), st.booleans())
def test_a_contrast_rises_along_a_direction_exactly_where_rational_programs_say_so(samples, units, symmetric):
    X, y, C = samples
    X = X * units[0] + units[1]
    p = X.shape[1] + 1
    assume(np.linalg.matrix_rank(np.column_stack([samples[0], np.ones(len(X))])) == p)
    margins = margin_rows(X, one_hot(y, C), True)
    both = [[-value for value in row] + row for row in margins]               # v = v+ - v-, margins >= 0
    box = [[Fraction(int(c == i)) for c in range(2 * C * p)] for i in range(2 * C * p)]
    rising = separation.RisingDirections(encode(X, y).samples)
    for i in range(p):
        for sign in (-1, 1):
            contrast = np.zeros((C, p))
            contrast[1, i] += sign * (C if symmetric else 1)                  # the row less the mean, or class 0's
            contrast[:, i] -= sign * (1.0 if symmetric else np.arange(C) == 0)
            target = [Fraction(value) for value in contrast.ravel().tolist()]
            best = largest(target + [-value for value in target], [*both, *box],
                           [Fraction(0)] * len(both) + [Fraction(1)] * len(box))
            direction = rising.along(contrast)
            assert (direction is not None) == (best > 0), (X, y, contrast)
            if direction is not None:
                assert np.sum(contrast * direction) > 0
                # rounded to float64 from a rational one: p terms of relative eps
                terms = np.array(margins, dtype=float) * direction.ravel()
                assert (terms.sum(axis=1) >= -(p + 1) * 2.0 ** -52 * np.abs(terms).sum(axis=1)).all()


def test_a_tie_broken_by_1e_6_beside_an_outlier_keeps_a_contrast_from_rising():
    x, y = np.array([0, 1, 2, 3, 3 + 1e-6, 4, 5, 6, 100, 101.0])[:, np.newaxis], [0, 0, 0, 1, 0, 1, 1, 1, 2, 2]
    rising = separation.RisingDirections(encode(x, y).samples)
    for first, second, rises in ((1, 0, False), (2, 0, True), (2, 1, True)):
        contrast = np.zeros((3, 2))
        contrast[first, 0], contrast[second, 0] = 1.0, -1.0
        assert (rising.along(contrast) is not None) == rises
        assert rising.along(-contrast) is None


# ----------------------------------------------------------------------------------------- references, and witnesses

def present_of(ref):
    present = one_hot(ref.y, len(ref.classes))
    return present if ref.weights is None else present & (ref.weights > 0)[:, np.newaxis]


@pytest.mark.parametrize("name", references_io.names("separated"))
def test_each_separated_reference_is_named_with_a_witness_that_holds_in_rational_numbers(name):
    ref = references_io.load(name)
    found = cs.check_separation(ref.X, ref.y, sample_weight=ref.weights, fit_intercept=ref.fit_intercept)
    assert str(found).startswith(ref.separation + ": the log-likelihood has no maximum")
    assert_is_witness(found, ref.X, present_of(ref), ref.fit_intercept)


@pytest.mark.parametrize("name", references_io.names("unpenalised") + references_io.names("rank_deficient"))
def test_no_reference_with_a_maximum_raises_a_false_alarm(name):
    ref = references_io.load(name)
    found = cs.check_separation(ref.X, ref.y, sample_weight=ref.weights, fit_intercept=ref.fit_intercept)
    assert str(found) == "none: the samples are not separated, so the log-likelihood has a maximum"
    assert found.direction is None and len(found.rows) == 0 and not found.separated


def test_multipliers_that_prove_none_are_refused_where_a_direction_exists():
    # the proof alone, without the program: the multipliers 1 of separated rows do not sum to 0
    samples = separation.encode(np.arange(8.0)[:, np.newaxis], np.arange(8) // 4).samples
    search = separation._Search(samples, 10.0, np.inf)
    search.rows.choose_columns()
    search._start()
    A = search._A[:, :-search.rows.q]
    assert search._proves_none(A, np.ones(A.shape[0]))[0] is False
    overlapping = separation.encode(np.arange(8.0)[:, np.newaxis], [0, 1, 1, 0, 0, 1, 1, 0]).samples
    search = separation._Search(overlapping, 10.0, np.inf)
    search.rows.choose_columns()
    search._start()
    A = search._A[:, :-search.rows.q]
    assert search._proves_none(A, np.ones(A.shape[0]))[0] is True
    assert search._proves_none(A, np.append(np.ones(A.shape[0] - 1), 0.0))[0] is False, "each must be above 0"


# ---------------------------------------------------------------------------------------------- rows as they are needed

def near_the_boundary(n, C, d, seed, flip):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    y = (X @ rng.standard_normal((d, C)) + rng.standard_normal(C)).argmax(axis=1)
    if flip:
        y[:flip] = (y[:flip] + 1) % C
    return X, y


@pytest.mark.parametrize("flip", [0, 3])
def test_rows_taken_as_needed_decide_as_all_rows_at_once(flip, monkeypatch):
    X, y = near_the_boundary(1500, 4, 3, 5, flip)
    sizes = []
    solve = separation._Search._solve

    def watched(self, cost, matrix, least, bounds, *limit):
        sizes.append(matrix.shape[0])
        return solve(self, cost, matrix, least, bounds, *limit)

    monkeypatch.setattr(separation._Search, "_solve", watched)
    few = cs.check_separation(X, y)
    assert max(sizes) < 1500, "of 4500 constraints"
    start = separation._Search._start

    def with_all(self):
        start(self)
        rows, own, other = (index.ravel() for index in np.indices((1500, 1, 4)))
        own = y[rows]
        self._add(*(index[own != other] for index in (rows, own, other)))

    monkeypatch.setattr(separation._Search, "_start", with_all)
    everything = cs.check_separation(X, y)
    assert few.kind == everything.kind == ("none" if flip else "complete")
    assert few.features == everything.features and few.pairs == everything.pairs


def test_a_column_that_is_0_on_all_rows_begun_with_is_still_seen():
    # rows 7001.. alone have the flag: a proof from rows that do not see it would be none at all
    rng = np.random.default_rng(1)
    flag = np.zeros(9000)
    flag[[7001, 7003]] = 1.0
    X, y = np.column_stack([rng.standard_normal(9000), flag]), rng.integers(0, 2, 9000)
    y[[7001, 7003]] = [0, 1]
    assert cs.check_separation(X, y).kind == "none"
    y[7003] = 0
    found = cs.check_separation(X, y)
    assert found.kind == "quasi" and found.features == (1,) and found.rows.tolist() == [7001, 7003]
    assert_is_witness(found, X, one_hot(y, 2))


def test_a_time_limit_gives_undecided_with_the_reason():
    X, y = near_the_boundary(2000, 5, 6, 0, 0)
    found = cs.check_separation(X, y, time_limit=1e-9)
    assert str(found) == ("undecided: whether the samples are separated was not decided (the time limit of 1e-09 s was "
                          "reached)")
    with pytest.raises(ValueError, match="time_limit is 0; a positive number of seconds is wanted"):
        cs.check_separation(X, y, time_limit=0)


def test_many_classes_that_separate_completely_need_no_program_to_be_found_out(monkeypatch):
    X, y = near_the_boundary(600, 20, 30, 3, 0)
    monkeypatch.setattr(separation._Search, "_weak_direction", None)
    monkeypatch.setattr(separation._Search, "_strict_direction", None)
    found = cs.check_separation(X, y)
    assert found.kind == "complete" and len(found.rows) == 600


def test_more_coefficients_than_a_program_takes_are_undecided_with_their_number():
    X = np.random.default_rng(0).standard_normal((20, 4001))
    found = cs.check_separation(X, np.arange(20) % 2)
    assert found.kind == "undecided" and found.reason == "4002 coefficients; up to 4000 are tried"


# -------------------------------------------------------------------------------------------------------------- traps

@pytest.mark.parametrize("outlier", [1e9, 1e12])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_an_outlier_among_values_of_1_is_no_separation(d, outlier):
    rng = np.random.default_rng(d)
    X, y = rng.standard_normal((60, d)), rng.integers(0, 3, 60)
    X[0, 0] = outlier
    assert cs.check_separation(X, y).kind == "none"
    X, y = np.append(np.arange(1.0, 11.0), outlier)[:, np.newaxis], np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    assert cs.check_separation(X, y).kind == "complete"
    y[4:6] = y[5:3:-1]
    assert cs.check_separation(X, y).kind == "none"


@pytest.mark.parametrize("apart", [1e-4, 1e-7])
def test_columns_that_nearly_agree_are_told_apart(apart):
    rng = np.random.default_rng(2)
    X = rng.standard_normal((80, 2))
    X = np.column_stack([X, X[:, 0] + apart * rng.standard_normal(80)])
    assert cs.check_separation(X, rng.integers(0, 3, 80)).kind == "none"
    y = (X[:, 2] > X[:, 0]) * 1
    found = cs.check_separation(X, y)
    assert found.kind == "complete"
    assert_is_witness(found, X, one_hot(y, 2))


def test_collinear_columns_are_left_out():
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((80, 2)), rng.integers(0, 3, 80)
    X = np.column_stack([X, X[:, 0] + X[:, 1], np.full(80, 3.7), X[:, 0]])
    assert cs.check_separation(X, y).kind == "none", "rounding of the sum is no direction"
    assert cs.check_separation(X, (X[:, 0] > 0.1) * 1).kind == "complete"


@pytest.mark.parametrize("sign", [1, -1])
def test_a_margin_below_float64s_rounding_has_its_exact_sign(sign):
    X = np.array([[1.0, 3.0], [3.0, 1.0], [-1.0, -1.0]])
    search = separation._Search(separation.encode(X, [0, 0, 1], fit_intercept=False).samples, 10.0, np.inf)
    # row 0: 3 * 2^70 - 3 * (2^70 - sign) = 3 sign, of terms of 4e21; both columns have one scale
    margins = search._exact_margins(np.array([[3 * 2 ** 70, -2 ** 70 + sign], [0, 0]], dtype=object))
    assert margins.near == [(0, 0, 1, sign)] and margins.strict is (sign > 0)
    assert margins.rows.tolist() == ([0, 1, 2] if sign > 0 else [1, 2])


def test_margins_that_tie_in_decimals_are_0_in_rational_numbers():
    # row 2 is of both classes: the boundary goes through (0.3, 0.7) exactly, which no float64 normal does
    X = np.array([[0.1, 0.2], [0.9, 1.1], [0.3, 0.7], [0.3, 0.7], [0.5, 0.3]])
    y = [0, 1, 0, 1, 0]
    assert cs.check_separation(X, y).kind == true_kind(X, one_hot(y, 2)) == "quasi"


def test_rows_of_weight_0_are_absent():
    X, y = np.arange(10.0)[:, np.newaxis], np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 0])
    assert cs.check_separation(X, y).kind == "none"
    found = cs.check_separation(X, y, sample_weight=[1.0] * 9 + [0.0])
    assert found.kind == "complete" and found.rows.tolist() == list(range(9))
    with pytest.warns(UserWarning, match="dropped"):
        found = cs.check_separation(X, [*y[:9], 2], sample_weight=[1e-9] * 9 + [0.0])
    assert found.kind == "complete" and found.direction.shape == (2, 2)


def test_rows_of_several_classes_have_margins_of_0_between_them():
    counts = np.array([[2, 1, 0], [1, 3, 0], [0, 0, 1], [0, 0, 2], [1, 1, 0]])
    X = np.array([[0.0], [1.0], [5.0], [6.0], [2.0]])
    found = cs.check_separation(X, counts)
    assert found.kind == "quasi" and found.pairs == {(0, 2), (1, 2)}
    np.testing.assert_array_equal(found.direction[0], found.direction[1])


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_no_features_are_never_separated(fit_intercept):
    assert cs.check_separation(np.empty((4, 0)), [0, 1, 2, 1], fit_intercept=fit_intercept).kind == "none"


def test_without_an_intercept_the_direction_has_no_column_for_it():
    X = np.array([[1.0, 2.0], [2.0, 1.0], [-1.0, -1.0], [-3.0, 0.5]])
    found = cs.check_separation(X, [0, 0, 1, 1], fit_intercept=False)
    assert found.kind == "complete" and found.direction.shape == (2, 2)
    assert cs.check_separation(X + 5.0, [0, 0, 0, 1], fit_intercept=False).kind == true_kind(
        X + 5.0, one_hot([0, 0, 0, 1], 2), False)


@pytest.mark.parametrize("change", [np.float32, np.asfortranarray, np.uint8, lambda X: X[::-1].copy()[::-1]])
def test_any_dtype_and_order_is_read(change):
    X, y = np.arange(24).reshape(12, 2) % 7, np.arange(12) % 3
    expected = cs.check_separation(X.astype(float), y)
    found = cs.check_separation(change(X), y)
    assert (found.kind, found.features, found.rows.tolist()) == (
        expected.kind, expected.features, expected.rows.tolist())


# ---------------------------------------------------------------------------------------------------------- the message

def test_separation_is_pinned_on_the_feature_that_does_it():
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    y = np.array(["a", "b", "c"])[np.arange(90) % 3]
    X = pd.DataFrame({"noise": rng.standard_normal(90), "flag": (y == "c") * 1.0})
    with pytest.warns(cs.SeparationWarning, match="between the class 'c' and the classes 'a', 'b' along flag, so"):
        result = cs.fit(X, y)
    text = str(result.summary())
    assert "NOT A MAXIMUM" in text.splitlines()[2] and "std err" not in text


def test_a_long_list_of_names_is_cut_short():
    assert separation._listed(list("abcdefgh")) == "a, b, c, d, e, f, g, h"
    assert separation._listed(list("abcdefghij")) == "a, b, c, d, e, f, g, h and 2 more"


def test_fit_says_what_to_do_and_stops_once_every_row_is_in_its_class():
    penguins = references_io.load("separation_penguins4")
    with pytest.warns(cs.SeparationWarning, match=r"a penalty \(l2 > 0\) or bias_reduction='firth' makes"):
        result = cs.fit(penguins.X, penguins.y)
    # the loss is below log 2: each row has more than half of its probability on its class
    assert (result.predict(penguins.X) == penguins.y).all()
    assert -np.log(2) < result.log_likelihood < -0.1, "it went on towards its supremum, 0"


def test_the_rule_that_stops_a_fit_of_separated_samples_raises_no_false_alarm_under_an_offset(monkeypatch):
    # the offset alone puts every row into its class, with a loss below log 2; X overlaps
    X, y = np.array([[0.0], [1], [2], [3], [4], [5]]), [0, 1, 0, 1, 0, 1]
    monkeypatch.setattr(fitting, "find_separation", None)  # which would find none, at the price of a program
    result = cs.fit(X, y, offset=3.0 * one_hot(y, 2))
    assert result.success and -np.log(2) < result.log_likelihood


@pytest.mark.parametrize(("X", "counts", "fit_intercept"), [
    ([[-1, 2, 2], [1, 1, 2], [-2, 2, 2], [-1, -2, 0]], [[0, 0, 0], [1, 1, 0], [2, 2, 1], [0, 1, 2]], False),
    ([[0, -2], [-1, 1], [1, -1]], [[1, 2], [2, 2], [0, 1]], True),
    ([[-1, 1, -2], [0, 1, 1], [1, 2, -1]], [[0, 2, 1, 1], [2, 0, 2, 2], [2, 1, 2, 0]], False)])
def test_margins_that_are_0_together_are_held_there_together(X, counts, fit_intercept):
    # of coefficients such as 1/3 and 1/7 a margin made 0 alone moves another off 0
    found = cs.check_separation(X, counts, fit_intercept=fit_intercept)
    assert found.kind == "quasi"
    logits = np.asarray(X) @ found.direction[:, :len(X[0])].T + (found.direction[:, -1] if fit_intercept else 0.0)
    margins = np.where(np.asarray(counts) > 0, logits, np.inf).min(axis=1) - logits.max(axis=1)
    assert margins.min() > -1e-14 and np.ptp(logits, axis=1).max() > 0.1


def test_a_penalty_on_one_class_alone_leaves_separated_samples_without_a_maximum():
    # it makes that class the reference
    X, y = np.arange(6.0)[:, np.newaxis], [0, 0, 1, 1, 2, 2]
    for penalty in ({"l2": [[1.0], [0.0], [0.0]]}, {"l1": [[0.0], [1.0], [0.0]]}):
        with pytest.warns(cs.SeparationWarning, match="completely separated between the classes 0, 1, 2 along x1"):
            assert not cs.fit(X, y, **penalty).success


def test_a_penalty_on_some_of_the_classes_says_that_the_others_may_be_separated():
    # class 2 is free to leave the other two, which the penalty keeps together
    X, y = np.arange(6.0)[:, np.newaxis], [0, 0, 1, 1, 2, 2]
    with pytest.warns(cs.ConvergenceWarning, match="without a penalty on some classes may separate them"):
        assert not cs.fit(X, y, l2=[[1.0], [1.0], [0.0]]).success
    assert cs.fit(X, y, l2=[[1.0], [1.0], [1.0]]).success


def test_a_fit_without_a_certificate_says_why_separation_was_not_decided(monkeypatch):
    undecided = separation.Separation("undecided", "the time limit of 3 s was reached")
    monkeypatch.setattr(fitting, "find_separation", lambda *_, **__: undecided)
    with pytest.warns(cs.ConvergenceWarning, match=re.escape("; whether the samples are separated was not decided (the "
                                                             "time limit of 3 s was reached)")) as caught:
        result = cs.fit(np.arange(6.0)[:, np.newaxis], [0, 0, 0, 1, 1, 1])
    assert not result.success and result.message == str(caught[0].message)


@pytest.mark.parametrize("penalty", [{}, {"l2": [0.0, 1.0]}, {"l1": [0.0, 1.0]}])
def test_separation_is_looked_for_after_max_iter_but_where_the_caller_has_cut_the_fit_short(penalty, monkeypatch):
    # the default is 1000, which no fit here needs
    X, y = np.column_stack([np.arange(6.0), [1, 0, 2, 0, 1, 1]]), [0, 0, 0, 1, 1, 1]
    monkeypatch.setattr(fitting, "DEFAULT_MAX_ITER", 2)
    with pytest.warns(cs.SeparationWarning, match="completely separated"):
        result = cs.fit(X, y, max_iter=2, **penalty)
    assert result.n_iter == 2
    with pytest.warns(cs.ConvergenceWarning, match="stopped at max_iter=1"):
        cs.fit(X, y, max_iter=1, **penalty)

    def stop(state):
        raise StopIteration

    with pytest.warns(cs.ConvergenceWarning, match="stopped by the callback"):
        cs.fit(X, y, max_iter=2, callback=stop, **penalty)


def test_a_fit_at_max_iter_whose_maximum_exists_stays_there(monkeypatch):
    X, y = np.arange(6.0)[:, np.newaxis] ** 3, [0, 1, 0, 1, 0, 1]
    monkeypatch.setattr(fitting, "DEFAULT_MAX_ITER", 2)
    with pytest.warns(cs.ConvergenceWarning, match="stopped at max_iter=2 iterations.*raise max_iter"):
        assert cs.fit(X, y, max_iter=2, tol=1e-14).n_iter == 2


@pytest.mark.parametrize("d", [6, 50])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_fewer_rows_than_columns_are_separated_and_answered(d, fit_intercept):
    X, y = np.random.default_rng(d).standard_normal((6, d)), [0, 1, 2, 0, 1, 2]
    with pytest.warns(cs.SeparationWarning, match="completely separated"):
        result = cs.fit(X, y, fit_intercept=fit_intercept)
    assert not result.success and np.isfinite(result.params).all()
    assert result.predict(X).tolist() == y
    assert np.isnan(result.bse).all()


def test_fewer_rows_than_columns_have_a_maximum_where_each_row_is_in_every_class():
    X = np.random.default_rng(0).standard_normal((5, 30))
    result = cs.fit(X, [[1, 2, 3]] * 3 + [[3, 1, 1]] * 2)
    assert result.success
    np.testing.assert_allclose(result.predict_proba(X), np.divide([[1, 2, 3]] * 3 + [[3, 1, 1]] * 2, [[6]] * 3
                                                                  + [[5]] * 2), rtol=1e-6)  # certified to 1e-6


@pytest.mark.parametrize("kind", ["complete", "quasi"])
def test_without_time_for_a_shorter_reason_the_answer_is_the_same(kind, monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 4, (60, 3)).astype(float)
    y = (X[:, 0] > 1).astype(int)
    if kind == "quasi":
        y[X[:, 0] == 1] = rng.integers(0, 2, (X[:, 0] == 1).sum())
    expected = cs.check_separation(X, y)
    monkeypatch.setattr(separation, "_SHORTER_SECONDS", 0.0)
    answer = cs.check_separation(X, y)
    assert answer.kind == expected.kind == kind
    assert set(expected.features) <= set(answer.features)


@pytest.mark.parametrize("column", [[1e20] * 6, [-1e300] * 6, 1e9 + 1.2e-7 * np.array([0, 1, 0, 1, 0, 1])],
                         ids=["1e20", "-1e300", "nearly constant"])
def test_a_column_constant_but_for_rounding_hides_no_separation_along_another(column):
    # its rounding beside its spread once left out each other column as collinear
    X, y = np.column_stack([column, np.arange(6.0)]), [0, 0, 0, 1, 1, 1]
    separation = cs.check_separation(X, y)
    assert (separation.kind, separation.features) == ("complete", (1,))
    with pytest.warns(cs.SeparationWarning):
        cs.fit(X, y)
