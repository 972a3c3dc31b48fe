"""The encoder gives the numbers that the teacher's own library sees, from every kind of table."""

from __future__ import annotations

import datetime
import decimal
import pickle
import time
import warnings

import lightgbm
import narwhals
import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from gbdt2nn.encoding import Encoder

nan = np.nan


def category(values, categories, ordered=False):
    return pd.Categorical(values, categories=categories, ordered=ordered)


def encoded(column, **options):
    """One column through fit and transform."""
    frame = pd.DataFrame({"c": column})
    return Encoder(**options).fit(frame).transform(frame)[:, 0]


@pytest.fixture
def frame():
    """A table with every kind of column, 60 rows."""
    rng = np.random.default_rng(0)
    n = 60
    integers = pd.array(rng.integers(0, 5, n), dtype="Int64")
    integers[3] = pd.NA
    floats = rng.normal(size=n)
    floats[::7] = nan
    colour = pd.Series(rng.choice(["red", "green", "blue"], n))
    colour[5] = None
    return pd.DataFrame(
        {
            "float": floats,
            "integer": integers,
            "bool": rng.random(n) < 0.5,
            "colour": colour,
            # "small" < "large" is the order of the list, not of the alphabet, and "unused" never occurs.
            "size": category(rng.choice(["small", "large", None], n), ["small", "unused", "large"]),
            "zone": category(rng.choice([30, 10, 20], n), [30, 10, 20]),
        }
    )


# ---------------------------------------------------------------------------------------------------- kinds of columns


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (np.array([1, -2, 3], dtype=np.int8), [1, -2, 3]),
        (np.array([1, 2, 3], dtype=np.uint64), [1, 2, 3]),
        (np.array([0.1, nan, np.inf], dtype=np.float32), [np.float64(np.float32(0.1)), nan, np.inf]),
        (np.array([True, False, True]), [1, 0, 1]),
        (pd.array([1, None, 3], dtype="Int64"), [1, nan, 3]),
        (pd.array([1, 2, 3], dtype="Int64"), [1, 2, 3]),
        (pd.array([0.5, None, 3], dtype="Float64"), [0.5, nan, 3]),
        (pd.array([True, None, False], dtype="boolean"), [1, nan, 0]),
        (pd.array([True, True, False], dtype="boolean"), [1, 1, 0]),
        (pd.array([0.0, 0.0, 2.5], dtype="Sparse[float]"), [0, 0, 2.5]),
        (pd.Series([1, None, pd.NA], dtype=object), [1, nan, nan]),
        (pd.Series([True, None, False], dtype=object), [1, nan, 0]),
        (pd.Series([decimal.Decimal("1.5"), 2, np.float32(3)], dtype=object), [1.5, 2, 3]),
        (pd.Series([None, None, None], dtype=object), [nan, nan, nan]),
        (np.full(3, nan), [nan, nan, nan]),
    ],
)
def test_numbers_stay_as_they_are(column, expected):
    frame = pd.DataFrame({"c": column})
    encoder = Encoder().fit(frame)
    x = encoder.transform(frame)
    assert x.dtype == np.float64
    np.testing.assert_array_equal(x, np.reshape(expected, (3, 1)))
    assert encoder.categories_ == [None]
    assert not encoder.is_category_.any()


@pytest.mark.parametrize("dtype", ["str", "string", "string[python]", object, "category"])
@pytest.mark.parametrize("missing", [None, nan, pd.NA])
def test_text_becomes_its_place_among_the_sorted_values(dtype, missing):
    frame = pd.DataFrame({"c": pd.Series(["z", missing, "a", "Ä", "z", ""], dtype=dtype)})
    encoder = Encoder().fit(frame)
    np.testing.assert_array_equal(encoder.transform(frame)[:, 0], [2, nan, 1, 3, 2, 0])
    assert encoder.categories_[0].dtype == object
    assert encoder.categories_[0].tolist() == ["", "a", "z", "Ä"]
    assert all(type(label) is str for label in encoder.categories_[0])


@pytest.mark.parametrize("dtype", ["string[pyarrow]", "int64[pyarrow]", "bool[pyarrow]", "dictionary"])
def test_arrow_columns_in_pandas(dtype):
    pa = pytest.importorskip("pyarrow")
    values, expected = {
        "string[pyarrow]": (["b", None, "a"], [1, nan, 0]),
        "int64[pyarrow]": ([7, None, 5], [7, nan, 5]),
        "bool[pyarrow]": ([True, None, False], [1, nan, 0]),
        "dictionary": (["b", None, "a"], [0, nan, 1]),
    }[dtype]
    if dtype == "dictionary":
        dtype = pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string()))
    np.testing.assert_array_equal(encoded(pd.Series(values, dtype=dtype)), expected)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("labels", [["s", "m", "unused", "l"], [30, 10, 99, 20], [0.5, 0.25, 9.0, 0.75]])
def test_a_category_column_keeps_its_own_list(labels, ordered):
    # The libraries number the categories by their place in the list, used or not.
    values = category([labels[3], None, labels[0], labels[1]], labels, ordered)
    frame = pd.DataFrame({"c": values})
    encoder = Encoder().fit(frame)
    np.testing.assert_array_equal(encoder.transform(frame)[:, 0], [3, nan, 0, 1])
    assert encoder.categories_[0].tolist() == labels
    pd.testing.assert_frame_equal(encoder.to_teacher(frame), frame)


def test_whole_and_boolean_categories_reach_the_teacher_as_integers():
    # XGBoost takes neither floats nor booleans for categories; 1 == 1.0 == True for LightGBM and for a look-up.
    frame = pd.DataFrame({"f": category([2.0, 1.0], [2.0, 1.0]), "b": category([True, False], [False, True])})
    encoder = Encoder().fit(frame)
    np.testing.assert_array_equal(encoder.transform(frame), [[0, 1], [1, 0]])
    teacher_frame = encoder.to_teacher(frame)
    assert teacher_frame["f"].cat.categories.tolist() == [2, 1]
    assert teacher_frame["b"].cat.categories.tolist() == [0, 1]
    assert all(teacher_frame[name].cat.categories.dtype == np.int64 for name in "fb")
    np.testing.assert_array_equal(encoder.transform(teacher_frame), encoder.transform(frame))


def test_categories_are_found_by_value_not_by_code(frame):
    encoder = Encoder().fit(frame)
    other = frame.assign(
        colour=frame["colour"].astype("category"),
        size=frame["size"].cat.set_categories(["large", "new", "small"]),
        zone=frame["zone"].astype("int64"),
    )
    np.testing.assert_array_equal(encoder.transform(other), encoder.transform(frame))
    np.testing.assert_array_equal(
        encoder.transform(frame.assign(zone=frame["zone"].astype("float64"))), encoder.transform(frame)
    )
    pd.testing.assert_frame_equal(encoder.to_teacher(other), encoder.to_teacher(frame))


def test_large_integer_categories_are_told_apart():
    # 2**60 and 2**60 + 1 are the same float64.
    ids = [2**60 + 1, 2**60]
    frame = pd.DataFrame({"c": category(ids, ids)})
    encoder = Encoder().fit(frame)
    assert encoder.transform(pd.DataFrame({"c": ids[::-1]}))[:, 0].tolist() == [1, 0]


def test_column_without_any_value(frame):
    empty = frame.iloc[:4].reset_index(drop=True).reindex([7, 8, 9])
    assert empty.isna().all(axis=None)
    empty["never"] = pd.Series([None] * 3, dtype="str", index=empty.index)
    encoder = Encoder().fit(empty)
    assert np.isnan(encoder.transform(empty)).all()
    assert not encoder.is_integer_.any()
    # No category is known, so there is no list a library could take.
    assert encoder.categories_[-1].tolist() == []
    assert encoder.to_teacher(empty)["never"].dtype == np.float64
    filled = empty.assign(never="now")
    assert np.isnan(encoder.transform(filled)).all()

    # A column seen with values may come without any, whatever its dtype has become.
    encoder = Encoder().fit(frame)
    bare = pd.DataFrame(dict.fromkeys(frame.columns, [None] * 3))
    assert np.isnan(encoder.transform(bare)).all()
    assert encoder.to_teacher(bare)["size"].cat.categories.tolist() == ["small", "unused", "large"]


def test_whole_number_columns_are_known(frame):
    table = frame.assign(whole=np.where(np.arange(60) % 3, 2.0, nan), infinite=np.inf)
    encoder = Encoder().fit(table)
    integer = dict(zip(table.columns, encoder.is_integer_, strict=True))
    assert integer == {
        "float": False,
        "integer": True,
        "bool": True,
        "colour": False,
        "size": False,
        "zone": False,
        "whole": True,
        "infinite": False,
    }
    assert encoder.is_category_.tolist() == [False, False, False, True, True, True, False, False]


# ----------------------------------------------------------------------------------------------------- kinds of tables


def test_polars_reads_like_pandas(frame):
    pl = pytest.importorskip("polars")
    table = pl.DataFrame(
        {
            "float": frame["float"].tolist(),
            "integer": [None if pd.isna(v) else int(v) for v in frame["integer"]],
            "bool": frame["bool"].tolist(),
            "colour": [None if pd.isna(v) else v for v in frame["colour"]],
            "size": pl.Series([None if pd.isna(v) else v for v in frame["size"]], dtype=pl.String),
            "zone": frame["zone"].tolist(),
        }
    ).with_columns(pl.col("size").cast(pl.Enum(["small", "unused", "large"])))
    encoder = Encoder().fit(frame)
    x = encoder.transform(frame)
    np.testing.assert_array_equal(encoder.transform(table), x)
    np.testing.assert_array_equal(encoder.transform(table.with_columns(pl.col("colour").cast(pl.Categorical))), x)
    np.testing.assert_array_equal(
        encoder.transform(table.with_columns(pl.lit(None).alias("float")))[:, 0], np.full(60, nan)
    )

    # Fitted on polars: text and Categorical are sorted, an Enum keeps its list, a plain integer is a number.
    other = Encoder().fit(table.with_columns(pl.col("colour").cast(pl.Categorical)))
    assert [None if labels is None else labels.tolist() for labels in other.categories_] == [
        *(None, None, None),
        ["blue", "green", "red"],
        ["small", "unused", "large"],
        None,
    ]
    np.testing.assert_array_equal(other.transform(table)[:, :5], x[:, :5])
    teacher_frame = other.to_teacher(table)
    assert isinstance(teacher_frame, pd.DataFrame)
    pd.testing.assert_frame_equal(teacher_frame.iloc[:, :5], encoder.to_teacher(frame).iloc[:, :5])


@pytest.mark.parametrize("dtype", ["Decimal", "UInt8", "Float32", "Boolean", "Null"])
def test_polars_numbers(dtype):
    pl = pytest.importorskip("polars")
    values, expected = ([1, None, 0], [1, nan, 0]) if dtype != "Null" else ([None] * 3, [nan] * 3)
    kind = pl.Decimal(10, 2) if dtype == "Decimal" else getattr(pl, dtype)
    table = pl.DataFrame({"c": pl.Series(values).cast(kind)})
    encoder = Encoder().fit(table)
    np.testing.assert_array_equal(encoder.transform(table)[:, 0], expected)
    assert encoder.is_integer_.tolist() == [dtype != "Null"]


def test_arrow_tables_read_like_pandas(frame):
    pa = pytest.importorskip("pyarrow")
    encoder = Encoder().fit(frame)
    # An index kept in the table is one of its columns there, so it is left behind.
    table = pa.Table.from_pandas(frame, preserve_index=False)
    np.testing.assert_array_equal(encoder.transform(table), encoder.transform(frame))
    np.testing.assert_array_equal(Encoder().fit(table).transform(frame), encoder.transform(frame))
    assert Encoder().fit(pa.Table.from_pandas(frame.set_index("float"))).feature_names_[-1] == "float"
    with pytest.raises(ValueError, match="unique, got more than one 'a'"):
        Encoder().fit(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]))


def test_narwhals_frames_are_frames(frame):
    plain = frame[["float", "bool", "colour"]]
    x = Encoder().fit(plain).transform(plain)
    for library in (narwhals, nw):
        wrapped = library.from_native(plain)
        np.testing.assert_array_equal(Encoder().fit(wrapped).transform(wrapped), x)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, bool, object])
def test_arrays_are_numbers(dtype):
    array = np.array([[1, 0], [0, 1], [1, 1]], dtype=dtype)
    encoder = Encoder().fit(array)
    x = encoder.transform(array)
    assert x.dtype == np.float64
    assert x.flags.c_contiguous
    assert not np.shares_memory(x, array)
    np.testing.assert_array_equal(x, array.astype(float))
    np.testing.assert_array_equal(encoder.to_teacher(array), x)
    assert isinstance(encoder.to_teacher(array), np.ndarray)
    assert encoder.feature_names_ == ["x0", "x1"]
    assert not hasattr(encoder, "feature_names_in_")
    np.testing.assert_array_equal(encoder.transform(array.tolist()), x)


def test_arrays_with_missing_values():
    expected = [[1, nan], [nan, 2.5]]
    for array in (np.array([[1, None], [pd.NA, 2.5]], dtype=object), np.ma.masked_equal([[1, -9], [-9, 2.5]], -9)):
        np.testing.assert_array_equal(Encoder().fit(array).transform(array), expected)


# -------------------------------------------------------------------------------------------------- names and the order


def test_columns_must_be_those_of_fit(frame):
    encoder = Encoder().fit(frame)
    assert encoder.feature_names_ == list(frame.columns) == encoder.feature_names_in_.tolist()
    for table in (frame, frame.rename(columns=str)):
        assert encoder.transform(table).shape == (60, 6)
    for method in (encoder.transform, encoder.to_teacher):
        with pytest.raises(ValueError, match=r"unseen at fit time:\n- extra\n$"):
            method(frame.assign(extra=1))
        with pytest.raises(ValueError, match=r"now missing:\n- bool\n- size\n$"):
            method(frame.drop(columns=["size", "bool"]))
        with pytest.raises(ValueError, match=r"unseen at fit time:\n- Float\nFeature names seen.*missing:\n- float\n$"):
            method(frame.rename(columns={"float": "Float"}))
        with pytest.raises(ValueError, match="same order as they were in fit"):
            method(frame[frame.columns[::-1]])


def test_columns_are_counted_where_they_have_no_names():
    encoder = Encoder().fit(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="X has 3 features, but Encoder is expecting 2 features as input"):
        encoder.transform(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="X has 3 features, but Encoder is expecting 2 features as input"):
        encoder.transform(pd.DataFrame(np.zeros((3, 3))))


def test_names_count_only_when_all_are_text():
    # As scikit-learn has it: numbers as names are no names, and a mixture is a mistake.
    table = pd.DataFrame([[1.0, "u"], [2.0, "v"]])
    encoder = Encoder().fit(table)
    assert encoder.feature_names_ == ["x0", "x1"]
    assert not hasattr(encoder, "feature_names_in_")
    assert encoder.to_teacher(table).columns.tolist() == ["x0", "x1"]
    np.testing.assert_array_equal(encoder.transform(table.set_axis(["p", "q"], axis=1)), [[1, 0], [2, 1]])
    with pytest.raises(TypeError, match=r"Column names must be strings.*int, str"):
        Encoder().fit(table.set_axis([0, "q"], axis=1))


@pytest.mark.parametrize("names", [["a", "a"], [0, 0]])
def test_names_must_be_unique(names):
    with pytest.raises(ValueError, match=f"unique, got more than one {names[0]!r}"):
        Encoder().fit(pd.DataFrame([[1.0, 2.0]], columns=names))


def test_a_second_fit_forgets_the_first(frame):
    encoder = Encoder().fit(frame).fit(np.zeros((2, 3)))
    assert not hasattr(encoder, "feature_names_in_")
    assert encoder.n_features_in_ == 3
    assert encoder.categories_ == [None] * 3
    assert encoder.transform(np.ones((1, 3))).tolist() == [[1, 1, 1]]


def test_the_index_is_carried_along(frame):
    table = frame.set_index(np.arange(60) % 7)
    assert Encoder().fit(table).to_teacher(table).index.equals(table.index)


# ----------------------------------------------------------------------------------------------------- frozen teachers


def test_a_frozen_teachers_lists_fix_the_codes(frame):
    table = frame[["float", "colour", "zone"]]
    lists = [None, ["red", "green", "blue"], [10, 20, 30]]
    encoder = Encoder(categories=lists, feature_names=list(table.columns)).fit(table.iloc[:2])
    assert encoder.categories_[1].tolist() == lists[1]
    x = encoder.transform(table)
    for j in (1, 2):
        np.testing.assert_array_equal(x[:, j], [nan if pd.isna(v) else lists[j].index(v) for v in table.iloc[:, j]])
    assert encoder.to_teacher(table)["colour"].cat.categories.tolist() == lists[1]


def test_an_array_holds_a_frozen_teachers_codes():
    # The libraries read an array so; a frame with the same values is looked up by value instead.
    array = np.array([[0.5, 1], [1.5, nan]])
    encoder = Encoder(categories=[None, ["u", "v"]], feature_names=["a", "b"], unseen="raise").fit(array)
    np.testing.assert_array_equal(encoder.transform(array), array)
    assert encoder.feature_names_ == ["a", "b"]
    assert encoder.is_category_.tolist() == [False, True]
    np.testing.assert_array_equal(encoder.transform(pd.DataFrame({"a": [0.5, 1.5], "b": ["v", None]})), array)
    with pytest.raises(ValueError, match=r"Column 'b' must hold category codes from 0 to 1, got 2.0, -1.0"):
        encoder.transform([[0, 2], [0, -1]])


def test_a_frozen_teachers_names_must_match(frame):
    table = frame[["float", "bool"]]
    with pytest.raises(ValueError, match=r"teacher's training\.\nFeature names unseen at fit time:\n- bool"):
        Encoder(feature_names=["float", "other"]).fit(table)
    with pytest.raises(ValueError, match="same order as they were in the teacher's training"):
        Encoder(feature_names=["bool", "float"]).fit(table)
    with pytest.raises(ValueError, match="X has 2 features, but the teacher was trained with 3"):
        Encoder(feature_names=["a", "b", "c"]).fit(table)
    with pytest.raises(ValueError, match="one entry for each of the 2 columns of X, got 1"):
        Encoder(categories=[None]).fit(table)
    # LightGBM stores "my column" as "my_column".
    spaced = table.set_axis(["my float", "bool"], axis=1)
    encoder = Encoder(feature_names=["my_float", "bool"]).fit(spaced)
    assert encoder.feature_names_ == ["my float", "bool"]
    assert encoder.to_teacher(spaced).columns.tolist() == ["my_float", "bool"]
    assert encoder.transform(spaced).shape == (60, 2)
    by_array = Encoder(feature_names=["my_float", "bool"]).fit(np.zeros((1, 2)))
    assert by_array.transform(spaced).shape == (60, 2)
    with pytest.raises(ValueError, match="unseen at fit time:\n- boole"):
        by_array.transform(spaced.set_axis(["my float", "boole"], axis=1))
    # A frame whose columns are merely numbered goes by position, as an array does.
    assert Encoder(feature_names=["a", "b"]).fit(table.set_axis([0, 1], axis=1)).feature_names_ == ["a", "b"]


def test_a_column_the_teacher_reads_as_a_number_must_hold_numbers(frame):
    table = frame[["float", "colour"]]
    with pytest.raises(TypeError, match=r"Column 'colour' must hold numbers, as it does for the teacher, .*dtype str"):
        Encoder(categories=[None, None]).fit(table)
    with pytest.raises(ValueError, match="categories of column 'colour' must be distinct"):
        Encoder(categories=[None, ["red", "red"]]).fit(table)


# ---------------------------------------------------------------------------------------------- unseen, missing, refusals


def test_unseen_categories_are_missing_or_refused(frame):
    changed = frame.copy()
    changed["size"] = changed["size"].cat.add_categories(["huge"])
    # A category that is only in the list harms nobody.
    np.testing.assert_array_equal(
        Encoder(unseen="raise").fit(frame).transform(changed), Encoder().fit(frame).transform(frame)
    )
    changed.loc[[2, 4], "size"] = "huge"
    changed.loc[7, "zone"] = nan
    changed["colour"] = changed["colour"].where(changed.index != 9, "mauve")
    x = Encoder().fit(frame).transform(changed)
    assert np.isnan(x[[2, 4], 4]).all()
    assert np.isnan(x[7, 5])
    assert np.isnan(x[9, 3])
    assert Encoder().fit(frame).to_teacher(changed).loc[[2, 4], "size"].isna().all()
    for table, message in (
        (
            changed.assign(colour=frame["colour"]),
            "Column 'size' must hold the categories known from training, got 'huge'.",
        ),
        (changed.assign(size=frame["size"]), "Column 'colour' must hold the categories known .* got 'mauve'."),
        (frame.assign(zone=40), "Column 'zone' must hold the categories known from training, got 40."),
    ):
        for method in ("transform", "to_teacher"):
            with pytest.raises(ValueError, match=message):
                getattr(Encoder(unseen="raise").fit(frame), method)(table)
    with pytest.raises(ValueError, match="got 'c10', 'c11', 'c12', 'c13', 'c14' and more"):
        Encoder(unseen="raise").fit(frame).transform(frame.assign(colour=[f"c{i}" for i in range(10, 70)]))


def test_the_missing_number_is_read_as_missing():
    table = pd.DataFrame({"a": [0.1, 0.0, 2.0], "big": [1e300, 0.0, 1], "c": category(["u", "v", None], ["u", "v"])})
    np.testing.assert_array_equal(
        Encoder(missing=0).fit(table).transform(table), [[0.1, 1e300, nan], [nan, nan, 1], [2, 1, nan]]
    )
    # 0.1 in single precision is another number in double precision, and XGBoost compares in single.
    single = pd.DataFrame({"a": np.array([0.1, 0.2], dtype=np.float32)})
    np.testing.assert_array_equal(np.isnan(Encoder(missing=0.1).fit(single).transform(single)[:, 0]), [True, False])
    # What is missing says nothing on whether the others are whole numbers.
    assert Encoder(missing=-0.5).fit(np.array([[1.0], [-0.5]])).is_integer_.tolist() == [True]


@pytest.mark.parametrize(
    ("column", "held"),
    [
        (pd.to_datetime(["2020-01-01", "2020-01-02"]), r"datetime64\[.s\]"),
        (pd.to_datetime(["2020-01-01", "2020-01-02"]).tz_localize("UTC"), "UTC"),
        (pd.to_timedelta([1, 2], unit="s"), "timedelta64"),
        (pd.period_range("2020", periods=2, freq="M"), "period"),
        (pd.interval_range(0, 2), "interval"),
        (np.array([1j, 2]), "complex128"),
        (pd.Series([[1], [2, 3]]), "object, holding list"),
        (pd.Series([1j, 2], dtype=object), "object, holding complex, int"),
        (pd.Series([b"a", b"b"], dtype=object), "object, holding bytes"),
        (pd.Series(["a", 1], dtype=object), "object, holding int, str"),
        (pd.Series([datetime.date(2020, 1, 1), None], dtype=object), "object, holding date"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_columns_are_refused_by_name(column, held):
    with pytest.raises(TypeError, match=f"^Column 'odd' must hold numbers, booleans, text or categories, got .*{held}"):
        Encoder().fit(pd.DataFrame({"odd": column}))


def test_other_polars_columns_are_refused_by_name():
    pl = pytest.importorskip("polars")
    for values in ([datetime.date(2020, 1, 1)], [[1, 2]], [{"a": 1}], [b"x"]):
        with pytest.raises(TypeError, match=r"^Column 'odd' must hold numbers.*got dtype"):
            Encoder().fit(pl.DataFrame({"odd": values}))
    with pytest.raises(TypeError, match="rows in memory, got a lazy LazyFrame: collect it"):
        Encoder().fit(pl.LazyFrame({"a": [1]}))
    with pytest.raises(TypeError, match="a single column"):
        Encoder().fit(pl.Series([1]))


@pytest.mark.parametrize(
    "labels", [pd.interval_range(0, 2), pd.to_datetime(["2020-01-01", "2020-01-02"]), pd.Index(["a", 1], dtype=object)]
)
def test_categories_must_be_text_or_numbers(labels):
    # LightGBM cannot save any of these, XGBoost takes none of them.
    with pytest.raises(TypeError, match=r"categories of column 'odd' must be .*astype\(str\)"):
        Encoder().fit(pd.DataFrame({"odd": pd.Categorical.from_codes([0, 1], categories=labels)}))


def test_a_column_may_not_change_its_kind(frame):
    encoder = Encoder().fit(frame)
    with pytest.raises(TypeError, match=r"Column 'float' must hold numbers, as it does in fit, got .* \(dtype str\)"):
        encoder.transform(frame.assign(float="1.5"))
    with pytest.raises(
        TypeError, match=r"Column 'colour' must hold categories that are text, got numbers \(dtype int64\)"
    ):
        encoder.transform(frame.assign(colour=1))
    with pytest.raises(TypeError, match=r"Column 'zone' must hold categories that are numbers, got text \(dtype str\)"):
        encoder.transform(frame.assign(zone="10"))
    with pytest.raises(
        TypeError, match="named columns like the one in fit, because columns 'colour', 'size', 'zone' hold"
    ):
        encoder.transform(np.zeros((3, 6)))


@pytest.mark.parametrize(
    "array", [np.array([["a", "b"]]), np.array([[b"a", b"b"]]), np.array([[1, "b"]], dtype=object)], ids=["U", "S", "O"]
)
def test_text_in_arrays_is_refused_with_the_cure(array):
    with pytest.raises(
        (TypeError, ValueError), match=r"X must hold numbers.*got .*use a frame.*category|holding bytes"
    ) as caught:
        Encoder().fit(array)
    assert "1 of X" in str(caught.value) or array.dtype.kind != "O"


@pytest.mark.parametrize(
    ("table", "kind", "message"),
    [
        (np.empty((0, 2)), ValueError, r"0 sample\(s\) \(shape=\(0, 2\)\)"),
        (pd.DataFrame({"a": []}), ValueError, r"0 sample\(s\) \(shape=\(0, 1\)\)"),
        (np.empty((3, 0)), ValueError, r"0 feature\(s\) \(shape=\(3, 0\)\)"),
        (pd.DataFrame(index=range(3)), ValueError, r"0 feature\(s\)"),
        (np.empty((0, 2), dtype=object), ValueError, r"0 sample\(s\)"),
        (np.zeros(3), ValueError, r"Expected 2D array.*got \(3,\)"),
        (np.zeros((2, 2, 2)), ValueError, "Expected 2D array, got 3D array"),
        (5, ValueError, "Expected 2D array, got 0D array"),
        (pd.Series([1.0]), TypeError, "a single column"),
        (np.array([[1j]]), ValueError, "Complex data not supported"),
        (
            np.array([["2020-01-01"]], dtype="datetime64[D]"),
            TypeError,
            r"hold numbers, got an array of dtype datetime64\[D\]",
        ),
        (np.zeros((2,), dtype=[("a", float)]), TypeError, "structured array"),
    ],
)
def test_what_is_no_table_is_refused(table, kind, message):
    with pytest.raises(kind, match=message):
        Encoder().fit(table)


def test_sparse_matrices_are_refused():
    from scipy import sparse

    with pytest.raises(TypeError, match=r"X must be dense, got a sparse matrix: use X.toarray\(\)"):
        Encoder().fit(sparse.eye_array(3).tocsr())


def test_arguments_are_checked_in_fit():
    with pytest.raises(ValueError, match="unseen must be 'missing' or 'raise', got 'ignore'"):
        Encoder(unseen="ignore").fit(np.zeros((1, 1)))
    with pytest.raises(ValueError, match="missing must be a number, got None"):
        Encoder(missing=None).fit(np.zeros((1, 1)))
    with pytest.raises(NotFittedError, match="not fitted yet"):
        Encoder().transform(np.zeros((1, 1)))


# ------------------------------------------------------------------------------------------------------ what must be true


def test_one_row_and_any_order_of_rows(frame):
    encoder = Encoder().fit(frame)
    x = encoder.transform(frame)
    np.testing.assert_array_equal(encoder.transform(frame.iloc[[7]]), x[[7]])
    order = np.random.default_rng(1).permutation(60)
    np.testing.assert_array_equal(encoder.transform(frame.iloc[order]), x[order])
    one = frame.iloc[[7]]
    assert Encoder().fit(one).transform(one).shape == (1, 6)
    assert len(encoder.to_teacher(one)) == 1


def test_the_callers_table_stays_as_it_was(frame):
    before = frame.copy(deep=True)
    encoder = Encoder(missing=0.0).fit(frame)
    encoder.transform(frame)[:] = 5
    teacher_frame = encoder.to_teacher(frame)
    teacher_frame.iloc[:, 0] = 5
    pd.testing.assert_frame_equal(frame, before)
    array = np.zeros((2, 2))
    Encoder(missing=0.0).fit(array).transform(array)
    assert (array == 0).all()


def test_pickle_and_clone(frame):
    encoder = Encoder(unseen="raise", missing=-1.0).fit(frame)
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(again.transform(frame), encoder.transform(frame))
    pd.testing.assert_frame_equal(again.to_teacher(frame), encoder.to_teacher(frame))
    assert clone(encoder).get_params()["unseen"] == "raise"


def test_what_the_teacher_gets_encodes_to_the_same_numbers(frame):
    encoder = Encoder().fit(frame)
    teacher_frame = encoder.to_teacher(frame)
    assert teacher_frame.dtypes.astype(str).tolist() == ["float64"] * 3 + ["category"] * 3
    np.testing.assert_array_equal(encoder.transform(teacher_frame), encoder.transform(frame))
    again = Encoder().fit(teacher_frame)
    np.testing.assert_array_equal(again.transform(teacher_frame), encoder.transform(frame))


def test_large_tables_are_quick():
    # Some milliseconds in truth; a loop over cells would take seconds.
    rng = np.random.default_rng(0)
    n = 20_000
    frame = pd.DataFrame({f"n{j}": rng.normal(size=n) for j in range(6)})
    frame["text"] = rng.choice(list("abcdef"), n)
    frame["object"] = pd.Series(rng.choice(["x", "yy", None], n), dtype=object)
    frame["category"] = category(rng.choice(["u", "v"], n), ["v", "u"])
    frame["integer"] = pd.array(rng.integers(0, 9, n), dtype="Int64")
    encoder = Encoder().fit(frame)
    times = []
    for _ in range(3):
        start = time.process_time()
        encoder.transform(frame)
        times.append(time.process_time() - start)
    assert min(times) < 0.1


# ------------------------------------------------------------------------------------------------ the teachers' libraries


def mixed(labels, ordered=False, n=300, seed=0):
    """A table with a category column that matters, its regression target, and the same table as text where it can be."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1, len(labels), n)
    number = rng.normal(size=n)
    number[::9] = nan
    dtype = pd.CategoricalDtype(labels, ordered=ordered)
    frame = pd.DataFrame(
        {
            "number": number,
            "kind": pd.Categorical.from_codes(codes, dtype=dtype),
            "flag": pd.array(rng.random(n) < 0.5, dtype="boolean"),
        }
    )
    effect = np.append(rng.permutation(len(labels)), -2.0)[codes]
    return frame, np.nan_to_num(number) + effect + rng.normal(scale=0.1, size=n)


def lightgbm_model(frame, y):
    params = {"min_data_per_group": 2, "cat_smooth": 1.0, "max_cat_to_onehot": 2, "min_child_samples": 5}
    return lightgbm.LGBMRegressor(n_estimators=12, num_leaves=8, verbosity=-1, n_jobs=1, **params).fit(frame, y)


def xgboost_model(frame, y, **params):
    return xgboost.XGBRegressor(
        n_estimators=12, max_depth=4, max_cat_to_onehot=2, enable_categorical=True, n_jobs=1, **params
    ).fit(frame, y)


def xgboost_score(model, x):
    booster = model.get_booster()
    matrix = xgboost.DMatrix(x, feature_types=booster.feature_types, enable_categorical=True)
    return booster.predict(matrix, validate_features=False)


LABELS = {
    "text": ["small", "tiny", "large", "unused", "huge"],
    "integers": [30, 10, 20, 99, 7],
    "whole floats": [3.0, 1.0, 2.0, 9.0, 7.0],
    "booleans": [True, False],
    "text as object": pd.Index(["b", "a", "d", "c"], dtype=object),
}


@pytest.mark.parametrize("ordered", [False, True], ids=["unordered", "ordered"])
@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_lightgbm_sees_these_numbers(labels, ordered):
    frame, y = mixed(labels, ordered)
    frame = frame[frame["kind"] != "unused"].copy()
    y = y[frame.index]
    encoder = Encoder().fit(frame)
    teacher_frame = encoder.to_teacher(frame)
    x = encoder.transform(frame)
    booster = lightgbm_model(teacher_frame, y).booster_
    assert booster.feature_importance()[1] > 0
    np.testing.assert_array_equal(booster.predict(teacher_frame), booster.predict(x))
    # Trained on the caller's own frame, it is the same model.
    own = lightgbm_model(frame.assign(flag=frame["flag"].astype(float)), y).booster_
    np.testing.assert_array_equal(own.predict(x), booster.predict(x))


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_xgboost_sees_these_numbers(labels):
    frame, y = mixed(labels)
    frame = frame[frame["kind"] != "unused"].copy()
    y = y[frame.index]
    encoder = Encoder(unseen="raise").fit(frame)
    teacher_frame = encoder.to_teacher(frame)
    model = xgboost_model(teacher_frame, y)
    assert model.feature_importances_[1] > 0
    np.testing.assert_array_equal(
        model.predict(teacher_frame, output_margin=True), xgboost_score(model, encoder.transform(frame))
    )


def test_lightgbm_reads_unseen_categories_as_missing():
    frame, y = mixed(["small", "tiny", "large"])
    encoder = Encoder().fit(frame)
    booster = lightgbm_model(encoder.to_teacher(frame), y).booster_
    later = frame.assign(kind=frame["kind"].astype("str").where(frame.index % 3 > 0, "never seen"))
    own = later.assign(kind=later["kind"].astype("category"), flag=later["flag"].astype(float))
    score = booster.predict(encoder.transform(later))
    np.testing.assert_array_equal(booster.predict(encoder.to_teacher(later)), score)
    np.testing.assert_array_equal(booster.predict(own), score)


@pytest.mark.parametrize("label", ["aaa", "never seen", "zzz"])
def test_unseen_categories_never_reach_xgboost(label):
    # XGBoost 3.2 itself refuses only text that sorts behind all it knows, and reads other text as the next category.
    frame, _ = mixed(["small", "tiny", "large"])
    encoder = Encoder(unseen="raise").fit(frame)
    later = frame.assign(kind=label)
    with pytest.raises(ValueError, match=f"Column 'kind' must hold the categories known from training, got '{label}'"):
        encoder.to_teacher(later)


@pytest.mark.parametrize("missing", [0.0, 1.0, -999.0])
def test_xgboosts_missing_number(missing):
    # XGBoost compares category codes with it as well: with missing=0, the first category is missing.
    frame, y = mixed(["small", "tiny", "large"])
    frame.loc[::4, "number"] = missing
    encoder = Encoder(missing=missing).fit(frame)
    own = frame.assign(flag=frame["flag"].astype(float))
    model = xgboost_model(own, y, missing=missing)
    np.testing.assert_array_equal(model.predict(own), xgboost_score(model, encoder.transform(frame)))
    again = xgboost_model(encoder.to_teacher(frame), y, missing=missing)
    np.testing.assert_array_equal(again.predict(encoder.to_teacher(frame)), model.predict(own))


def test_a_frozen_teachers_frame_is_rebuilt():
    # The caller's later frame has other lists and plain text; the frozen boosters must see what they were trained on.
    frame, y = mixed(["small", "tiny", "large"])
    own = frame.assign(flag=frame["flag"].astype(float))
    later = frame.assign(kind=frame["kind"].astype("str"))
    light, extreme = lightgbm_model(own, y), xgboost_model(own, y)
    lists = [None, light.booster_.pandas_categorical[0], None]
    encoder = Encoder(categories=lists, feature_names=light.booster_.feature_name()).fit(later)
    for model in (light, extreme):
        np.testing.assert_array_equal(model.predict(encoder.to_teacher(later)), model.predict(own))
    np.testing.assert_array_equal(light.booster_.predict(encoder.transform(later)), light.predict(own))
    np.testing.assert_array_equal(xgboost_score(extreme, encoder.transform(later)), extreme.predict(own))


def test_a_column_without_categories_trains_both_libraries():
    frame, y = mixed(["small", "tiny"])
    frame["never"] = pd.Series([None] * len(frame), dtype="str")
    encoder = Encoder().fit(frame)
    teacher_frame, x = encoder.to_teacher(frame), encoder.transform(frame)
    booster = lightgbm_model(teacher_frame, y).booster_
    np.testing.assert_array_equal(booster.predict(teacher_frame), booster.predict(x))
    model = xgboost_model(teacher_frame, y)
    np.testing.assert_array_equal(model.predict(teacher_frame), xgboost_score(model, x))


def test_no_warning_on_ordinary_tables(frame):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder = Encoder(missing=0.0).fit(frame)
        encoder.transform(frame)
        encoder.to_teacher(frame)
