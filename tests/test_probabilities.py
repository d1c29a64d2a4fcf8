"""Predicted probabilities with intervals, the table of predictions, simulated labels.

It stands on reference.py and csoftmax.fit.
"""

import pickle

import numpy as np
import pytest
import reference
from scipy.stats import norm
from test_margins import covariance_of, made, with_everything

import csoftmax as cs
from csoftmax import probabilities


def oracle(result, X, offset=None):
    """Probabilities, their standard errors and those of their log odds, (n, C) each, by differences."""
    intercept = result.intercept is not None
    covariance = covariance_of(result)
    out = []
    for j, x in enumerate(np.atleast_2d(X)):
        row = None if offset is None else offset[j:j + 1]

        def probability(W, x=x, row=row):
            return reference.softmax(reference.logits(x[np.newaxis], W, intercept, row))[0]

        def log_odds(W, x=x, row=row):
            logs = reference.log_softmax(reference.logits(x[np.newaxis], W, intercept, row))[0]
            others = [reference.logsumexp(np.delete(logs, k)) for k in range(len(logs))]
            return logs - np.array(others)

        out.append([probability(result.params),
                    *(np.sqrt(np.diag(reference.delta_covariance(f, result.params, covariance)))
                      for f in (probability, log_odds))])
    return np.array(out).transpose(1, 0, 2).astype(float)


@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("ref", [None, "b"])
def test_intervals_are_those_of_the_oracles_differences(n_classes, d, ref):
    X, y, _ = made(n_classes, d)
    result = cs.fit(X, y, reference=ref)
    intervals = result.predict_proba_interval(X[:8], level=0.9)
    p, error, logit_error = oracle(result, X[:8])
    for array in (intervals.estimate, intervals.std_error, intervals.lower, intervals.upper):
        assert array.shape == (8, n_classes)
    np.testing.assert_allclose(intervals.estimate, p, rtol=1e-13)
    np.testing.assert_allclose(intervals.std_error, error, rtol=1e-7)
    np.testing.assert_allclose(intervals.log_odds_std_error, logit_error, rtol=1e-7)
    z, t = norm.ppf(0.95), np.log(p / (1 - p))
    np.testing.assert_allclose(intervals.lower, 1 / (1 + np.exp(-(t - z * logit_error))), rtol=1e-7)
    np.testing.assert_allclose(intervals.upper, 1 / (1 + np.exp(-(t + z * logit_error))), rtol=1e-7)
    plain = result.predict_proba_interval(X[:8], level=0.9, scale="probability")
    np.testing.assert_allclose(plain.lower, p - z * error, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(plain.upper, p + z * error, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"l2": 2.0}, {"fit_intercept": False}, {"bias_reduction": "firth"}])
def test_intervals_hold_for_counts_weights_offset_and_penalties(options):
    X, counts, weight, offset = with_everything()
    result = cs.fit(X, counts, sample_weight=weight, offset=offset, reference=1, **options)
    intervals = result.predict_proba_interval(X[:5], offset=offset[:5])
    p, error, _ = oracle(result, X[:5], offset[:5])
    np.testing.assert_allclose(intervals.estimate, p, rtol=1e-13)
    np.testing.assert_allclose(intervals.std_error, error, rtol=1e-7)
    assert intervals.notes == (["Standard errors are from the penalised information."] if "l2" in options else [])


def test_two_classes_have_the_interval_of_the_binomial_logit():
    X, y, _ = made(2, 2)
    result = cs.fit(X, y, reference="a")
    intervals = result.predict_proba_interval(X[:20])
    design = np.column_stack([X, np.ones(len(X))])[:20]
    error = np.sqrt(np.einsum("jr,rs,js->j", design, result.cov_params(), design))
    t = design @ result.params[1]
    np.testing.assert_allclose(intervals.log_odds, np.column_stack([-t, t]), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(intervals.log_odds_std_error, np.column_stack([error, error]), rtol=1e-10)
    np.testing.assert_allclose(intervals.lower[:, 0], 1 - intervals.upper[:, 1], rtol=1e-10)


def test_far_from_the_data_intervals_stay_in_zero_to_one_and_lose_no_digit():
    X, y, _ = made(3, 1, n=60)
    result = cs.fit(X, y)
    for x in ([[30.0]], [[-30.0]], [[900.0]]):
        intervals = result.predict_proba_interval(x)
        assert ((0 <= intervals.lower) & (intervals.lower <= intervals.estimate)).all()
        assert ((intervals.estimate <= intervals.upper) & (intervals.upper <= 1)).all()
        _, _, logit_error = oracle(result, x)
        np.testing.assert_allclose(intervals.log_odds_std_error, logit_error, rtol=1e-6)
        a = (np.append(x[0], 1.0) @ result.params.T)
        exact = [a[k] - reference.logsumexp(np.delete(a, k)) for k in range(3)]
        np.testing.assert_allclose(intervals.log_odds, [np.array(exact, dtype=float)], rtol=1e-12)


def test_probability_intervals_do_not_depend_on_the_reference_or_the_blocks(monkeypatch):
    X, y, _ = made(4, 2)
    first, based = cs.fit(X, y).predict_proba_interval(X), cs.fit(X, y, reference="c").predict_proba_interval(X)
    np.testing.assert_allclose(based.std_error, first.std_error, rtol=1e-10)
    monkeypatch.setattr(probabilities, "row_blocks", lambda n, _: [(i, min(i + 7, n)) for i in range(0, n, 7)])
    pieces = cs.fit(X, y).predict_proba_interval(X)
    np.testing.assert_allclose(pieces.std_error, first.std_error, rtol=1e-12)


def test_intervals_are_bit_identical_for_every_number_of_threads():
    X, y, _ = made(3, 2, n=50_000)
    result = cs.fit(X, y, n_threads=1)
    first, *others = [result.predict_proba_interval(X, n_threads=n_threads) for n_threads in (1, 2, 5)]
    for intervals in others:
        np.testing.assert_array_equal(intervals.log_odds, first.log_odds)
        np.testing.assert_array_equal(intervals.log_odds_std_error, first.log_odds_std_error)


def test_intervals_follow_the_units_of_x():
    X, y, _ = made(3, 2)
    far = 1e6 * X + 1e9
    plain, scaled = cs.fit(X, y).predict_proba_interval(X), cs.fit(far, y).predict_proba_interval(far)
    # the mean is 1e3 spreads: squared and times eps, 2e-10, and some more for sums
    np.testing.assert_allclose(scaled.std_error, plain.std_error, rtol=1e-6)


def test_where_there_are_no_standard_errors_probabilities_stand_alone():
    X, y, _ = made(3, 2)
    sparse, collinear = cs.fit(X, y, l1=1.0), cs.fit(np.column_stack([X, X[:, 0]]), y)
    for result, rows in ((sparse, X), (collinear, np.column_stack([X, X[:, 0] + 1.0]))):
        intervals = result.predict_proba_interval(rows)
        np.testing.assert_allclose(intervals.estimate, result.predict_proba(rows), rtol=1e-12)
        assert np.isnan(intervals.std_error).all() and len(intervals.notes) == 1
    empty = cs.fit(np.empty((4, 0)), [0, 1, 0, 1], fit_intercept=False).predict_proba_interval(np.empty((2, 0)))
    assert empty.estimate.tolist() == [[0.5, 0.5]] * 2 and empty.std_error.tolist() == [[0.0, 0.0]] * 2


def test_intervals_print_their_first_rows_and_say_how_many_there_are():
    X, y, _ = made(3, 2)
    intervals = cs.fit(X, y).predict_proba_interval(X, level=0.9)
    lines = str(intervals).splitlines()
    assert lines[0] == repr(intervals) and len(lines) == 2 + 6 * 3 + 1
    for k, line in enumerate(lines[2 + 3:2 + 6]):  # of row 1
        values = (intervals.estimate, intervals.std_error, intervals.lower, intervals.upper)
        assert line.split()[:2] == ["1", str(intervals.classes[k])]
        np.testing.assert_allclose([float(text) for text in line.split()[2:]], [value[1, k] for value in values],
                                   rtol=6e-4)  # four digits
    assert lines[-1] == f"... and {len(X) - 6} more rows: to_frame() has all"
    assert len(str(cs.fit(X, y).predict_proba_interval(X[:1])).splitlines()) == 2 + 3
    sparse = str(cs.fit(X, y, l1=1.0).predict_proba_interval(X[:1]))
    assert "nan" in sparse and sparse.splitlines()[-1].startswith("With l1 > 0")


def test_new_data_of_a_formula_give_the_intervals_of_its_design():
    pytest.importorskip("pandas")
    pytest.importorskip("formulaic")
    penguins = cs.datasets.load_penguins()
    result = cs.fit_formula("island ~ flipper_length_mm * sex + log(body_mass_g)", penguins)
    new = penguins.dropna().iloc[::40]
    intervals = result.predict_proba_interval(new)
    p, _, logit_error = oracle(result, result.design.matrix(new))
    np.testing.assert_allclose(intervals.estimate, p, rtol=1e-9)
    np.testing.assert_allclose(intervals.log_odds_std_error, logit_error, rtol=1e-5)
    frame = intervals.to_frame()
    assert frame.columns.tolist() == ["row", "class", "estimate", "std_error", "lower", "upper"]
    assert frame["class"].tolist() == ["Biscoe", "Dream", "Torgersen"] * len(new)
    np.testing.assert_array_equal(frame.upper, intervals.upper.ravel())
    read = pickle.loads(pickle.dumps(result)).predict_proba_interval(new)
    np.testing.assert_array_equal(read.log_odds_std_error, intervals.log_odds_std_error)


@pytest.mark.parametrize("options, message", [
    ({"level": 95}, "level is 95; a number between 0 and 1"), ({"scale": "log"}, "scale is 'log'; 'logit' or"),
    ({"offset": np.zeros((3, 3))}, r"offset has shape \(3, 3\)"), ({"n_threads": 0}, "n_threads is 0")])
def test_an_argument_that_does_not_fit_is_named(options, message):
    X, y, _ = made(3, 2)
    with pytest.raises(ValueError, match=message):
        cs.fit(X, y).predict_proba_interval(X, **options)


# ------------------------------------------------------------------------------------------------ table of predictions

@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_the_prediction_table_counts_observed_by_predicted(n_classes):
    X, y, rng = made(n_classes, 1)
    weight = rng.integers(0, 3, len(X)).astype(float)
    result = cs.fit(X, y, sample_weight=weight)
    table = result.pred_table()
    predicted = result.predict(X)
    expected = [[weight[(y == a) & (predicted == b)].sum() for b in result.classes] for a in result.classes]
    assert table.table.tolist() == expected
    assert table.accuracy == pytest.approx(weight[y == predicted].sum() / weight.sum(), rel=1e-14, abs=0)
    np.testing.assert_array_equal(result.pred_table(X, y, sample_weight=weight).table, table.table)
    new = result.pred_table(X[:9], y[:9][::-1]).table
    assert new.tolist() == [[int(((y[:9][::-1] == a) & (predicted[:9] == b)).sum()) for b in result.classes]
                            for a in result.classes]


def test_the_prediction_table_of_counts_adds_them_up_with_their_offset():
    X, counts, weight, offset = with_everything()
    result = cs.fit(X, counts, sample_weight=weight, offset=offset)
    predicted = result.predict_proba(X, offset).argmax(axis=1)
    expected = [[(weight * counts[:, a])[predicted == b].sum() for b in range(3)] for a in range(3)]
    np.testing.assert_allclose(result.pred_table().table, expected, rtol=1e-14)
    np.testing.assert_allclose(result.pred_table(X, counts, sample_weight=weight, offset=offset).table, expected,
                               rtol=1e-14)


def test_the_prediction_table_reads_with_its_labels():
    pytest.importorskip("pandas")
    X, y, _ = made(3, 2)
    result = cs.fit(X, y)
    table = result.pred_table()
    lines = str(table).splitlines()
    assert lines[1].split() == ["observed", "a", "b", "c"]
    assert lines[3].split() == ["b", *(f"{value:g}" for value in table.table[1])]
    assert table.to_frame().loc["b", "c"] == table.table[1, 2]
    with pytest.raises(ValueError, match="y has the label 'z'; the model's classes are 'a', 'b', 'c'"):
        result.pred_table(X[:2], ["a", "z"])
    with pytest.raises(ValueError, match="y is None where X is given; both or neither"):
        result.pred_table(X)
    with pytest.raises(ValueError, match=r"y has shape \(300, 2\); \(300, 3\) is wanted"):
        result.pred_table(X, X > 0)


# ---------------------------------------------------------------------------------------------------------- simulation

def test_simulated_labels_have_the_fitted_probabilities():
    X, y, _ = made(3, 1, n=50)
    result = cs.fit(X, y)
    drawn = result.simulate(rng=0, size=20_000)
    assert drawn.shape == (20_000, 50) and drawn.dtype == result.classes.dtype
    p = result.predict_proba(X)
    for k, label in enumerate(result.classes):
        share = (drawn == label).mean(axis=0)
        z = (share - p[:, k]) / np.sqrt(p[:, k] * (1 - p[:, k]) / len(drawn))
        assert np.abs(z).max() < 4.5  # of 150 normal deviates


def test_a_seed_gives_the_same_labels_whatever_the_blocks(monkeypatch):
    X, y, _ = made(4, 2)
    result = cs.fit(X, y)
    expected = result.simulate(rng=7, size=2)
    assert result.simulate(rng=np.random.default_rng(7), size=2).tolist() == expected.tolist()
    assert result.simulate(X, rng=7).tolist() == expected[0].tolist() == result.simulate(rng=7).tolist()
    assert expected[0].tolist() != expected[1].tolist()
    monkeypatch.setattr(probabilities, "row_blocks", lambda n, _: [(i, min(i + 7, n)) for i in range(0, n, 7)])
    assert result.simulate(rng=7, size=2).tolist() == expected.tolist()


def test_counts_are_simulated_with_the_totals_of_their_rows():
    X, counts, _, offset = with_everything()
    result = cs.fit(X, counts, offset=offset)
    drawn = result.simulate(rng=0, size=500)
    assert drawn.shape == (500, *counts.shape)
    np.testing.assert_array_equal(drawn.sum(axis=2), np.tile(counts.sum(axis=1), (500, 1)))
    total = counts.sum(axis=1)[:, np.newaxis]
    p = result.predict_proba(X, offset)
    z = (drawn.mean(axis=0) - total * p) / np.sqrt(np.where(total > 0, total * p * (1 - p) / 500, 1))
    assert np.abs(z).max() < 4.5
    assert result.simulate(X[:2], totals=[3, 0], rng=0).sum(axis=1).tolist() == [3, 0]
    for totals, message in (([1.5, 2], "totals has 1.5 at row 0; whole numbers"), ([1], r"totals has shape \(1,\)"),
                            ([-1, 2], "totals has -1 at row 0")):
        with pytest.raises(ValueError, match=message):
            result.simulate(X[:2], totals=totals)
    with pytest.raises(ValueError, match=r"size is 1\.5; None or a whole number"):
        result.simulate(size=1.5)


def test_a_refit_of_simulated_labels_finds_the_coefficients_again():
    X, y, _ = made(3, 2, n=20_000)
    result = cs.fit(X, y)
    again = cs.fit(X, result.simulate(rng=3))
    assert np.abs((again.params - result.params) / result.bse).max() < 4
