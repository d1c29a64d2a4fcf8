"""The user's X, y, weights and offset: what is taken, what is refused, and in which words.

Nothing stands on this file. It stands on csoftmax.encoding and the objective, and on pandas where a test says so.
"""

import decimal
import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.sparse

import csoftmax as cs
from csoftmax.encoding import encode, encode_labels


def column(n):
    return np.arange(float(n)).reshape(-1, 1)


def encoded(y, **more):
    """The classes and codes of labels."""
    data = encode(column(len(y)), y, **more)
    return data.classes.tolist(), data.samples.codes.tolist()


def classes_and_counts(y, **more):
    data = encode(column(len(y)), y, **more)
    return data.classes.tolist(), data.samples.counts.tolist()


def through_encode(X, y, **more):
    return encode(X, y, **more)


def through_the_objective(X, y, **more):
    return cs.SoftmaxObjective(X, y, **more)


both_doors = pytest.mark.parametrize("door", [through_encode, through_the_objective])

# ---------------------------------------------------------------------------------------------------------------------
# Labels


@pytest.mark.parametrize(("y", "classes"), [
    ([10, 50, 20], [10, 20, 50]),
    (["pear", "apple", "fig"], ["apple", "fig", "pear"]),
    ([True, False, True], [False, True]),
    (np.array([3, -1, 3], dtype=np.int8), [-1, 3]),
    (np.array(["b", "a", "b"]), ["a", "b"]),
    (np.array([b"b", b"a"]), [b"a", b"b"]),
    (np.array(["b", "a", "c"], dtype=object), ["a", "b", "c"]),
    (np.array([2, 10, 2], dtype=object), [2, 10]),
    (np.array([True, False], dtype=object), [False, True]),
    ((7, 5, 7), [5, 7]),
    (np.array([2.0, 1.0, -3.0]), [-3.0, 1.0, 2.0]),
    ([2.0, 1, 2], [1.0, 2.0]),
    (np.array([1.0, 2.0], dtype=np.float32), [1.0, 2.0]),
    (np.array([decimal.Decimal("1.5"), decimal.Decimal("0.5")]), [decimal.Decimal("0.5"), decimal.Decimal("1.5")]),
    ([10**9, -(10**9), 0], [-(10**9), 0, 10**9]),
    (np.arange(200_000, 0, -1), list(range(1, 200_001))),
])
def test_labels_of_any_kind_are_coded_in_sorted_order(y, classes):
    got, codes = encoded(y)
    assert got == classes
    assert [classes[code] for code in codes] == [label for label in np.asarray(y).tolist()]
    assert encode(column(len(y)), y).samples.codes.dtype == np.int32


@pytest.mark.parametrize(("dtype", "labels"), [
    (np.int8, [-128, 127]), (np.int8, [-100, 100]), (np.uint8, [0, 255]),
    (np.int16, [-(2**15), 2**15 - 1]), (np.int16, [-20_000, 20_000]), (np.uint16, [0, 2**16 - 1]),
    (np.int64, [-(2**63), 2**63 - 1]), (np.int64, [2**63 - 2, 2**63 - 1]), (np.int64, [-(2**63), 1 - 2**63]),
    (np.uint64, [0, 2**64 - 1]), (np.uint64, [2**64 - 2, 2**64 - 1]), (np.uint64, [2**63, 2**63 + 1]),
])
def test_extreme_integers_do_not_wrap(dtype, labels):
    # close together they are looked up, far apart they are sorted: no difference of two may overflow
    y = np.array([labels[1], labels[0], labels[1]], dtype=dtype)
    for moved in (y, y.astype(y.dtype.newbyteorder())):
        assert encoded(moved) == (labels, [1, 0, 1])


def test_python_integers_beyond_64_bits_stay_apart():
    assert encoded([2**63 + 1, 2**63, 0]) == ([0, 2**63, 2**63 + 1], [2, 1, 0])  # NumPy would make one float of two
    assert encoded([2**63, -1]) == ([-1, 2**63], [1, 0])
    assert encoded([2**70, 1]) == ([1, 2**70], [1, 0])


def test_labels_of_other_byte_order_or_strides_are_the_same_labels():
    y = np.array([10, 50, 20, 10])
    for moved in (y.astype(">i8"), np.repeat(y, 3)[::3], y[::-1].copy()[::-1], y.astype(">f4")):
        assert encoded(moved) == ([10, 20, 50], [0, 2, 1, 0])


@pytest.mark.parametrize("missing", [None, np.nan, float("nan")], ids=["None", "np.nan", "nan"])
@pytest.mark.parametrize("others", [["a", "b"], [1, 2], [True, False]], ids=["str", "int", "bool"])
@both_doors
def test_a_missing_label_raises_with_its_row(door, others, missing):
    for y in ([*others, missing, others[0]], np.array([*others, missing, others[0]], dtype=object)):
        with pytest.raises(ValueError, match=r"y has (a missing label \((nan|None)\)|nan) at row 2"):
            door(column(4), y)


@pytest.mark.parametrize("bad", [1.5, np.nan, np.inf, -np.inf, 1e-9])
def test_a_float_label_that_is_not_whole_raises_with_its_row(bad):
    y = np.array([1.0, 2.0, 1.0, bad])
    for labels in (y, y.astype(object), y.tolist(), y.astype(np.float32)):
        with pytest.raises(ValueError, match=r"y has .* at row 3[;:]"):
            encode(column(4), labels)
    with pytest.raises(ValueError, match=r"y has 1.5 at row 70000; labels are ints, strings, bools or a Categorical"):
        encode(column(70_002), np.where(np.arange(70_002) == 70_000, 1.5, np.arange(70_002) % 2))


def test_labels_of_several_types_raise_with_the_types():
    for y in (["a", 1], np.array(["a", 1], dtype=object), ("a", 2.0)):
        with pytest.raises(TypeError, match=r"y mixes labels of the types number, str; one type is wanted"):
            encode(column(2), y)
    with pytest.raises(TypeError, match=r"y mixes labels of the types bool, number"):
        encode(column(3), np.array([True, 1, 0], dtype=object))  # True == 1: they would be one class


def test_labels_that_have_no_order_raise():
    with pytest.raises(TypeError, match=r"y holds labels that cannot be compared .*; ints or strings are wanted"):
        encode(column(2), np.array([1j, 2j], dtype=object))
    y = np.empty(2, dtype=object)
    y[:] = [[1], [2]]
    with pytest.raises(TypeError, match=r"y holds labels that cannot be compared \(unhashable type: 'list'\)"):
        encode(column(2), y)


def test_labels_of_other_dtypes_raise():
    with pytest.raises(TypeError, match=r"y has dtype datetime64\[D\]; labels are ints, strings, bools or a Cat"):
        encode(column(2), np.array(["2020-01-01", "2020-01-02"], dtype="datetime64[D]"))
    with pytest.raises(TypeError, match=r"y has dtype complex128; labels are ints"):
        encode(column(2), np.array([1j, 2j]))


@both_doors
def test_a_column_of_labels_raises(door):
    for y in (np.array([[0], [1], [1]]), [[0], [1], [1]], np.array([["a"], ["b"], ["a"]])):
        with pytest.raises(ValueError, match=r"y has shape \(3, 1\); labels are wanted with shape \(n_samples,\), as"):
            door(column(3), y)


@both_doors
def test_y_of_no_or_three_dimensions_raises(door):
    with pytest.raises(ValueError, match=r"y has shape \(\); \(n_samples,\) of labels or"):
        door(column(2), 1)
    with pytest.raises(ValueError, match=r"y has shape \(\); \(n_samples,\) of labels or"):
        door(column(2), None)
    with pytest.raises(ValueError, match=r"y has shape \(2, 2, 1\)"):
        door(column(2), np.zeros((2, 2, 1)))
    with pytest.raises(ValueError, match=r"y has shape \(2, 2, 1\)"):
        door(column(2), [[[0], [1]], [[1], [0]]])
    with pytest.raises(ValueError, match=r"y has shape \(2, 0\)"):
        door(column(2), np.empty((2, 0)))


@pytest.mark.parametrize(("y", "label"), [
    (["a", "a"], "'a'"), (np.array(["a", "a"]), "'a'"), (np.array(["a", "a"], dtype=object), "'a'"), ([3, 3], "3"),
    (np.array([3, 3], dtype=np.uint8), "3"), ([True, True], "True"), ([2.0, 2.0], "2.0"),
])
@both_doors
def test_one_class_raises_with_the_class(door, y, label):
    with pytest.raises(ValueError, match=rf"^y has 1 class \({label}\); softmax regression needs at least 2$"):
        door(column(2), y)


def test_one_class_left_by_weights_or_counts_raises_without_a_warning_first():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"^y has 1 class \('a'\); softmax regression needs at least 2$"):
            encode(column(3), ["a", "b", "a"], sample_weight=[1.0, 0.0, 2.0])
        with pytest.raises(ValueError, match=r"^y has 1 class \(2\); softmax regression needs at least 2$"):
            encode(column(2), [[0, 0, 1], [0, 0, 4]])
        with pytest.raises(ValueError, match=r"^y has 0 classes; softmax regression needs at least 2$"):
            encode(column(2), np.zeros((2, 3)))


def test_a_masked_label_raises():
    with pytest.raises(ValueError, match=r"y is a masked array with masked entries; drop those rows"):
        encode(column(3), np.ma.masked_equal([1, 2, 3], 2))
    assert encoded(np.ma.array([2, 1, 2])) == ([1, 2], [1, 0, 1])  # nothing masked: its data


# ---------------------------------------------------------------------------------------------------------------------
# pandas


def test_a_categorical_keeps_its_order_and_drops_the_unused_class_with_a_warning():
    pd = pytest.importorskip("pandas")
    categorical = pd.Categorical(["low", "high", "low", "mid"], ["low", "mid", "never", "high"], ordered=True)
    for y in (categorical, pd.Series(categorical, index=[9, 8, 7, 6]), pd.CategoricalIndex(categorical)):
        with pytest.warns(UserWarning, match=r"y: no sample of positive weight has the class 'never'; dropped"):
            assert encoded(y) == (["low", "mid", "high"], [0, 2, 0, 1])
        with pytest.warns(UserWarning, match=r"'never'") as record:
            objective = cs.SoftmaxObjective(column(4), y)
        assert record[0].filename == __file__  # the caller's line, not csoftmax's
        assert objective.classes.tolist() == ["low", "mid", "high"]
        assert objective.n_params == 3 * 2


def test_a_missing_label_of_pandas_raises_with_its_row():
    pd = pytest.importorskip("pandas")
    for y in (pd.Categorical(["a", None, "b"]), pd.Series(["a", None, "b"]),
              pd.Series(["a", pd.NA, "b"], dtype="string"), pd.Series([1, pd.NA, 2], dtype="Int64"),
              pd.Series([1, np.nan, 2]), np.array(["a", pd.NaT, "b"], dtype=object),
              np.array(["a", pd.NA, None], dtype=object)):
        with pytest.raises(ValueError, match=r"y has (a missing label( \((nan|None|<NA>|NaT)\))?|nan) at row 1"):
            encode(column(3), y)


@pytest.mark.parametrize(("dtype", "values", "classes"), [
    (None, ["b", "a", "b"], ["a", "b"]), ("string", ["b", "a", "b"], ["a", "b"]), (object, ["b", "a", "b"], ["a", "b"]),
    ("Int64", [7, 3, 7], [3, 7]), ("boolean", [True, False, True], [False, True]), ("int8", [7, 3, 7], [3, 7]),
])
def test_a_series_is_its_values_whatever_its_index(dtype, values, classes):
    pd = pytest.importorskip("pandas")
    assert encoded(pd.Series(values, dtype=dtype, index=[5, 5, 0])) == (classes, [1, 0, 1])


def test_columns_of_a_data_frame_have_names_and_counts_of_one_have_classes():
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame({"age": [30, 40, 50], "income": [1.5, 2.5, 3.5], "member": [True, False, True]}, index=[2, 0, 1])
    data = encode(X, ["a", "b", "b"])
    assert data.feature_names == ["age", "income", "member"]
    assert data.samples.X.tolist() == [[30, 1.5, 1], [40, 2.5, 0], [50, 3.5, 1]]
    counts = pd.DataFrame({"cat": [1, 0, 2], "dog": [0, 3, 1]})
    assert classes_and_counts(counts) == (["cat", "dog"], [[1, 0], [0, 3], [2, 1]])
    assert encode(X.to_numpy(dtype=float), ["a", "b", "b"]).feature_names == ["x1", "x2", "x3"]


def test_errors_about_a_data_frame_name_the_column():
    pd = pytest.importorskip("pandas")
    with pytest.raises(ValueError, match=r"X has nan at row 2, column 1 \('income'\); finite numbers are wanted"):
        encode(pd.DataFrame({"age": [1, 2, 3], "income": [1.0, 2.0, np.nan]}), [0, 1, 1])
    with pytest.raises(TypeError, match=r"X's column 'color' is not numeric \(.*red.*\); encode it as numbers, or let"):
        encode(pd.DataFrame({"age": [1, 2], "color": ["red", "blue"]}), [0, 1])
    with pytest.raises(TypeError, match=r"X's column 'age' is not numeric"):
        encode(pd.DataFrame({"age": pd.Series([1, pd.NA], dtype="Int64"), "color": [1.5, 2.5]}), [0, 1])


# ---------------------------------------------------------------------------------------------------------------------
# Counts


def test_counts_and_soft_labels_are_kept_as_they_are():
    assert classes_and_counts([[1, 0, 2], [0, 3, 0]]) == ([0, 1, 2], [[1, 0, 2], [0, 3, 0]])
    soft = np.array([[0.25, 0.75], [1.0, 0.0]], dtype=np.float32)
    assert encode(column(2), soft).samples.counts is soft


def test_an_empty_column_of_counts_is_dropped_with_a_warning():
    with pytest.warns(UserWarning, match=r"y: no sample of positive weight has the class 1; dropped"):
        assert classes_and_counts([[1, 0, 2], [3, 0, 4]]) == ([0, 2], [[1, 2], [3, 4]])
    with pytest.warns(UserWarning, match=r"the class 0, 2; dropped"):
        assert classes_and_counts(np.array([[0, 1, 0, 2], [0, 3, 0, 4]])) == ([1, 3], [[1, 2], [3, 4]])


@both_doors
def test_counts_that_are_none_raise_with_row_and_column(door):
    with pytest.raises(ValueError, match=r"y has -1 at row 1, column 0; counts are 0 or more"):
        door(column(2), [[1, 2], [-1, 2]])
    with pytest.raises(ValueError, match=r"y has -0.5 at row 69999, column 1; counts are 0 or more"):
        counts = np.ones((70_000, 2))
        counts[-1, 1] = -0.5
        door(column(70_000), counts)
    with pytest.raises(ValueError, match=r"y has nan at row 0, column 1; finite numbers are wanted"):
        door(column(2), [[1, np.nan], [1, 2]])
    with pytest.raises(ValueError, match=r"y has inf at row 1, column 1; finite numbers are wanted"):
        door(column(2), [[1, 1], [1, np.inf]])
    with pytest.raises(TypeError, match=r"y has shape \(2, 2\) and dtype <U1; counts or soft labels are numbers"):
        door(column(2), [["a", "b"], ["a", "b"]])
    with pytest.raises(TypeError, match=r"labels have shape \(n_samples,\): of tuples make one string each"):
        door(column(2), [("a", 1), ("b", 2)])


# ---------------------------------------------------------------------------------------------------------------------
# Weights and offset


@both_doors
@pytest.mark.parametrize(("weight", "error", "message"), [
    ([1.0, -2.0, 1.0], ValueError, r"sample_weight has -2.0 at row 1; weights are 0 or more"),
    ([1.0, 1.0, np.nan], ValueError, r"sample_weight has nan at row 2; finite numbers are wanted"),
    ([np.inf, 1.0, 1.0], ValueError, r"sample_weight has inf at row 0; finite numbers are wanted"),
    ([1.0, 1.0], ValueError, r"sample_weight has shape \(2,\); \(3,\) is wanted, one weight for each row of X"),
    (np.ones((3, 1)), ValueError, r"sample_weight has shape \(3, 1\); \(3,\) is wanted"),
    (2.0, ValueError, r"sample_weight has shape \(\); \(3,\) is wanted"),
    ([0, 0, 0], ValueError, r"sample_weight is 0 for all samples; at least one positive weight is wanted"),
    (["a", "b", "c"], TypeError, r"sample_weight has dtype <U1; numbers are wanted"),
    ([1j, 1, 1], TypeError, r"sample_weight has dtype complex128; numbers are wanted"),
])
def test_weights_that_are_none_raise(door, weight, error, message):
    with pytest.raises(error, match=message):
        door(column(3), ["a", "b", "a"], sample_weight=weight)


def test_weights_of_any_number_type_are_taken():
    for weight in ([1, 2, 0], np.array([1, 2, 0], dtype=np.uint8), np.array([True, True, False]), (1.0, 2.0, 0.0)):
        kept = encode(column(3), ["a", "b", "a"], sample_weight=weight).samples.weights
        assert kept.dtype == np.float64
        assert kept.tolist() == np.asarray(weight, dtype=float).tolist()


def test_a_class_that_zero_weights_empty_is_dropped_as_if_its_rows_were_absent():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 2)), np.array(["a", "b", "c"])[np.arange(30) % 3]
    weight = np.where(y == "b", 0.0, rng.uniform(1, 2, size=30))
    with pytest.warns(UserWarning, match=r"y: no sample of positive weight has the class 'b'; dropped"):
        objective = cs.SoftmaxObjective(X, y, sample_weight=weight, l2=0.5)
    kept = y != "b"
    absent = cs.SoftmaxObjective(X[kept], y[kept], sample_weight=weight[kept], l2=0.5)
    assert objective.classes.tolist() == absent.classes.tolist() == ["a", "c"]
    theta = rng.normal(size=objective.n_params)
    for a, b in zip(objective.loss_and_gradient(theta), absent.loss_and_gradient(theta), strict=True):
        # sums of 20 terms of a few units, in another order
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)
    counts = np.eye(3)[np.arange(30) % 3]
    with pytest.warns(UserWarning, match=r"the class 1; dropped"):
        of_counts = cs.SoftmaxObjective(X, counts, sample_weight=weight, l2=0.5)
    assert of_counts.loss(theta) == pytest.approx(absent.loss(theta), rel=1e-13, abs=0)


@both_doors
@pytest.mark.parametrize(("offset", "error", "message"), [
    (np.zeros(3), ValueError, r"offset has shape \(3,\); \(3, 2\) is wanted, one column for each class \(an offset co"),
    (np.zeros((3, 1)), ValueError, r"offset has shape \(3, 1\); \(3, 2\) is wanted, one row for each sample and one"),
    (np.zeros((2, 2)), ValueError, r"offset has shape \(2, 2\); \(3, 2\) is wanted"),
    (np.zeros((3, 3)), ValueError, r"offset has shape \(3, 3\); \(3, 2\) is wanted"),
    (0.0, ValueError, r"offset has shape \(\); \(3, 2\) is wanted"),
    ([[0, 1], [np.nan, 0], [0, 0]], ValueError, r"offset has nan at row 1, column 0; finite numbers are wanted"),
    ([[0, 1], [0, -np.inf], [0, 0]], ValueError, r"offset has -inf at row 1, column 1; finite numbers are wanted"),
    ([["a", "b"]] * 3, TypeError, r"offset has dtype <U1; numbers are wanted"),
])
def test_an_offset_that_is_none_raises(door, offset, error, message):
    with pytest.raises(error, match=message):
        door(column(3), ["a", "b", "a"], offset=offset)


def test_the_offset_of_a_dropped_class_goes_with_it():
    offset = np.arange(12.0).reshape(4, 3)
    for given in (offset, offset[:, 1:]):  # of all classes, or of those that are left
        with pytest.warns(UserWarning, match=r"the class 'a'"):
            data = encode(column(4), ["b", "a", "c", "c"], sample_weight=[1, 0, 1, 1], offset=given)
        assert data.samples.offset.tolist() == offset[:, 1:].tolist()


def test_the_offset_is_in_the_order_of_the_classes():
    # class "a" comes first though "b" is seen first
    offset = np.array([[5.0, 0.0], [0.0, 0.0]])
    objective = cs.SoftmaxObjective(column(2) * 0, ["b", "a"], offset=offset)
    want = np.log1p(np.exp(5.0)) + np.log(2.0)  # -log P(b | 5, 0) - log P(a | 0, 0)
    assert objective.loss(np.zeros(4)) == pytest.approx(want, rel=1e-15, abs=0)


# ---------------------------------------------------------------------------------------------------------------------
# X


@both_doors
@pytest.mark.parametrize(("X", "error", "message"), [
    ([[1.0], [np.nan], [2.0]], ValueError, r"X has nan at row 1, column 0 \('x1'\); finite numbers are wanted"),
    ([[1.0, 2.0], [0.0, 1.0], [2.0, -np.inf]], ValueError, r"X has -inf at row 2, column 1 \('x2'\); finite numbers"),
    (np.array([[1], [np.inf], [2]], dtype=np.float16), ValueError, r"X has inf at row 1, column 0"),
    ([1.0, 2.0, 3.0], ValueError, r"X has shape \(3,\); \(n_samples, n_features\) is wanted; a single feature is"),
    (np.zeros((3, 1, 1)), ValueError, r"X has shape \(3, 1, 1\); \(n_samples, n_features\) is wanted"),
    (5.0, ValueError, r"X has shape \(\); \(n_samples, n_features\) is wanted"),
    (np.empty((0, 2)), ValueError, r"X has 0 samples; at least one is wanted"),
    (scipy.sparse.csc_array(np.eye(3)), TypeError, r"X is sparse \(csc_array\); a dense array is wanted: pass X.toarr"),
    (scipy.sparse.coo_matrix(np.eye(3)), TypeError, r"X is sparse \(coo_matrix\)"),
    (np.array([[1, "a"], [2, "b"], [3, "c"]], dtype=object), TypeError, r"X's column 'x2' is not numeric \(.*'a'\)"),
    ([["a"], ["b"], ["c"]], TypeError, r"X has dtype <U1; real numbers are wanted"),
    ([[1j], [2], [3]], TypeError, r"X has dtype complex128; real numbers are wanted"),
    (np.ma.masked_equal([[1.0], [2.0], [3.0]], 2.0), ValueError, r"X is a masked array with masked entries; drop"),
])
def test_an_X_that_is_none_raises(door, X, error, message):
    with pytest.raises(error, match=message):
        door(X, ["a", "b", "a"])


@both_doors
def test_lengths_that_differ_raise_with_both(door):
    with pytest.raises(ValueError, match=r"y has 2 rows where X has 3"):
        door(column(3), ["a", "b"])
    with pytest.raises(ValueError, match=r"y has 4 rows where X has 3"):
        door(column(3), np.eye(4, 2))
    with pytest.raises(ValueError, match=r"y has 2 rows where X has 3"):
        pd = pytest.importorskip("pandas")
        door(column(3), pd.Categorical(["a", "b"]))


def test_the_row_of_a_bad_value_is_counted_from_the_first_row_of_X():
    X = np.zeros((70_000, 2))
    X[69_999, 1] = np.inf
    with pytest.raises(ValueError, match=r"X has inf at row 69999, column 1 \('x2'\)"):
        encode(X, np.arange(70_000) % 2)


def test_X_of_finite_numbers_whose_sum_overflows_is_taken():
    X = np.full((4, 2), 1.7e308)  # the check of a block adds it up
    assert encode(X, [0, 1, 0, 1]).samples.X is X


def test_X_is_not_copied():
    for X in (np.zeros((4, 2)), np.zeros((4, 2), dtype=np.float32), np.zeros((4, 2), dtype=np.int8, order="F"),
              np.zeros((8, 4))[::2, ::2]):
        assert encode(X, [0, 1, 0, 1]).samples.X is X


def test_an_object_X_of_numbers_is_converted():
    X = np.array([[1, 2.5], [True, 0]], dtype=object)
    assert encode(X, [0, 1]).samples.X.tolist() == [[1.0, 2.5], [1.0, 0.0]]


def test_no_columns_are_an_intercept_only_model():
    data = encode(np.empty((3, 0)), ["a", "b", "a"])
    assert data.feature_names == []
    objective = cs.SoftmaxObjective(np.empty((3, 0)), ["a", "b", "a"])
    assert objective.loss(np.log([2.0, 1.0])) == pytest.approx(-(2 * np.log(2 / 3) + np.log(1 / 3)), rel=1e-15, abs=0)


# ---------------------------------------------------------------------------------------------------------------------
# Memory


@pytest.mark.parametrize(("make", "n_classes"), [
    (lambda n: np.arange(n) % 1000, 1000),  # close together: looked up
    (lambda n: (np.arange(n) % 7) * 10**9, 7),  # far apart: sorted
    (lambda n: (np.arange(n) % 7).astype(float), 7),
    (lambda n: np.arange(n) % 2 == 0, 2),
], ids=["close", "far", "float", "bool"])
def test_labels_are_encoded_by_blocks(make, n_classes):
    n = 2_000_000
    y = make(n)
    tracemalloc.start()
    classes, codes = encode_labels(y, n)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(classes) == n_classes
    np.testing.assert_array_equal(classes[codes[-5000:]], y[-5000:])
    # one more copy of the labels would be 16 MB above the 8 MB of codes; a block of 128 K is 1 MB, a few at a time
    assert peak < codes.nbytes + 6e6


def test_checking_and_encoding_make_no_copy_of_X():
    n = 200_000
    X, y = np.ones((n, 20), dtype=np.float32), np.arange(n) % 3
    tracemalloc.start()
    encode(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * n + 3e6  # X is 16 MB, the codes 0.8 MB; a block of 128 K numbers 1 MB, a few at a time


def test_masks_are_refused_wherever_they_stand():
    X, y = np.arange(6.0).reshape(6, 1), np.array([0, 1, 0, 1, 0, 1])
    masked = np.ma.masked_array(np.ones(6), mask=[1, 0, 0, 0, 0, 0])
    counts = np.ma.masked_array(np.ones((6, 2)), mask=np.eye(6, 2))
    for name, options in [("sample_weight", {"sample_weight": masked}), ("offset", {"offset": counts})]:
        with pytest.raises(ValueError, match=f"{name} is a masked array with masked entries"):
            encode(X, y, **options)
    with pytest.raises(ValueError, match="y is a masked array with masked entries"):
        encode(X, counts)


def test_columns_of_one_name_are_refused():
    pd = pytest.importorskip("pandas")
    for names in (["a", "a"], [1, "1"]):
        with pytest.raises(ValueError, match=f"X has more than one column named '{names[0]}'"):
            encode(pd.DataFrame(np.eye(4)[:, :2], columns=names), [0, 1, 0, 1])
