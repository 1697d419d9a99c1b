"""Data frames of pandas and polars in and out: encoded by kinds, decoded to what they were, refused by name."""

import datetime
import decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import data
from jaxplain.program import read_frame

pd = pytest.importorskip("pandas", reason="the extra [tables] is not installed")
pl = pytest.importorskip("polars", reason="the extra [tables] is not installed")

ROWS = {
    "area": [50.5, 70.0, 30.25, 41.0],
    "rooms": [2, 3, 1, 2],
    "city": ["Ulm", "Bonn", "Ulm", "Kiel"],
    "heated": [True, False, True, True],
}
SIZES = ["small", "large"]
ENCODED = [[50.5, 2, 0, 0, 1, 1], [70, 3, 1, 0, 0, 0], [30.25, 1, 0, 0, 1, 1], [41, 2, 0, 1, 0, 1]]
HOLES = {"age": [1.0, None, 3.0], "deck": ["B", None, "A"], "alone": [True, None, False]}


def frames(rows):
    return pd.DataFrame(rows), pl.DataFrame(rows)


def same(a, b):
    if isinstance(a, pl.DataFrame):
        assert (a.schema, a.height) == (b.schema, b.height)
        assert a.height == 0 or a.equals(b, null_equal=True)  # old ones find no two empty frames equal
    else:
        pd.testing.assert_frame_equal(a, b)


def test_the_numbers_are_those_by_hand_and_both_libraries_agree():
    for df in frames(ROWS):
        table = data.table(df)
        np.testing.assert_array_equal(table.encode(df), np.float32(ENCODED))
        assert table.encode(df).dtype == jnp.zeros(()).dtype
        assert table.names == list(ROWS)
        assert table.groups == ["area", "rooms", "city", "city", "city", "heated"]
        assert table.features == ["area", "rooms", "city = Bonn", "city = Kiel", "city = Ulm", "heated"]
        assert table.categories == {"city": ("Bonn", "Kiel", "Ulm"), "heated": ("False", "True")}
        codes = data.table(df, one_hot=False)
        np.testing.assert_array_equal(codes.encode(df)[:, 2], [2, 0, 2, 1])
        assert codes.groups == table.names
    one, other = frames(ROWS)  # a table of one library encodes frames of the other
    np.testing.assert_array_equal(data.table(one).encode(other), data.table(other).encode(one))


def hard():
    """Frames of every kind of column that has a way back."""
    index = pd.Index(["a", "b", "c"], name="who")
    ordered = pd.CategoricalDtype(SIZES, ordered=True)
    yield pd.DataFrame(ROWS), "pandas"
    yield pl.DataFrame(ROWS), "polars"
    yield pd.DataFrame(HOLES, index=index), "missing values"
    yield pl.DataFrame(HOLES), "nulls"
    yield (
        pd.DataFrame(
            {
                "unordered": pd.Categorical(["x", "y", "x"], ["y", "x", "never"]),
                "ordered": pd.Series(["large", "small", "large"], dtype=ordered),
                "numbers": pd.Categorical([10, 30, 10]),
                "half": np.array([0.5, 1.5, 2.5], np.float16),
                "bytes": np.array([1, 2, 255], np.uint8),
                "nullable": pd.array([1, None, 3], "Int64"),
                "truths": pd.array([True, None, False], "boolean"),
                "text": pd.array(["p", None, "q"], "string"),
                "one": ["same"] * 3,
            }
        ),
        "dtypes of pandas",
    )
    yield (
        pl.DataFrame(
            {
                "enum": pl.Series(["y", "x", None], dtype=pl.Enum(["y", "x", "never"])),
                "text": pl.Series(["x", "y", "x"], dtype=pl.Categorical),
                "small": pl.Series([1, 2, None], dtype=pl.Int8),
                "single": pl.Series([1.5, None, 2.5], dtype=pl.Float32),
                "exact": pl.Series([decimal.Decimal("1.50"), decimal.Decimal("2.25"), None], dtype=pl.Decimal(10, 2)),
            }
        ),
        "dtypes of polars",
    )
    yield pd.DataFrame({2010: [1.0, 2.0], ("a", 1): ["p", "q"]}), "names that are no texts"


def test_decoding_undoes_encoding():
    for df, _ in hard():
        for one_hot in (True, False):
            table = data.table(df, missing="keep", one_hot=one_hot)
            x = table.encode(df)
            assert np.isfinite(x).all()
            assert x.shape == (len(df), len(table.groups)) == (len(df), len(table.features))
            same(table.decode(x, like=df), df)
            np.testing.assert_array_equal(table.encode(table.decode(x)), x)
            np.testing.assert_array_equal(table.template, x[0])
            assert table.encode(df[:0]).shape == (0, x.shape[1])
            same(table.decode(x[:0], like=df[:0]), df[:0])


def test_missing_values_are_values_of_their_own():
    for df in frames(HOLES):
        table = data.table(df, missing="keep")
        assert table.features == [
            "age",
            "age is missing",
            "deck = A",
            "deck = B",
            "deck = missing",
            "alone",
            "alone is missing",
        ]
        np.testing.assert_array_equal(
            table.encode(df), [[1, 0, 0, 1, 0, 1, 0], [2, 1, 0, 0, 1, 0, 1], [3, 0, 1, 0, 0, 0, 0]]
        )
        with pytest.raises(ValueError, match=r"column 'age' has 1 missing values of 3.*missing='keep'"):
            data.table(df)
        whole = data.table(df[:1])
        with pytest.raises(
            ValueError, match=r"column 'age' has 1 missing values, and had none when the table was made"
        ):
            whole.encode(df[1:2])


def test_decimals_and_numbers_of_several_types_are_numbers():
    df = pd.DataFrame(
        {"price": [decimal.Decimal("1.5"), decimal.Decimal(2)], "mixed": pd.Series([1, 2.5], dtype=object)}
    )
    assert data.table(df).encode(df).tolist() == [[1.5, 1.0], [2.0, 2.5]]


def test_numbers_come_back_as_the_decimals_that_they_were():
    """A tree's thresholds lie between the values of its training set, in their precision."""
    values = np.random.default_rng(0).lognormal(3, 1, 500).round(2)
    df = pd.DataFrame({"fare": values})
    decoded = data.table(df).decode(data.table(df).encode(df))
    np.testing.assert_array_equal(decoded["fare"], values)


def test_a_frame_in_the_place_of_an_array_is_answered_with_what_to_call():
    apply, params, key = lambda p, x: x @ p, jnp.ones((2, 2)), jax.random.key(0)
    e = jaxplain.gradient(lambda x, *_: x.sum())
    for library in (pd, pl):
        df, y = library.DataFrame({"a": [1.0, 2.0], "b": [0.5, 1.0]}), library.Series([0, 1])
        x = df.to_numpy()
        for call in (
            lambda df=df: jaxplain.explain_batch(e, df),
            lambda df=df: e(df),
            lambda df=df: jaxplain.explain_dataset(e, df, out="memory"),
            lambda df=df, y=y: jaxplain.explain_dataset(e, (df, y), out="memory"),
            lambda df=df, y=y: jaxplain.train.fit(apply, params, (df, y), key=key),
            lambda df=df: jaxplain.train.fit(apply, params, df, key=key),
            lambda df=df: jaxplain.logit(apply, params)(df, 0),
            lambda df=df: jaxplain.kernel_shap(e, baseline=df),
            lambda df=df: jaxplain.aggregate.permutation_importance(e)(key, df),
            lambda df=df, x=x: jaxplain.evaluate.evaluate_batch(jaxplain.evaluate.deletion(e), x, df),
            lambda df=df, y=y: data.Dataset(df, y).split(None, test=1),
        ):
            with pytest.raises(TypeError, match=r"data frame \(make numbers of it: table = jaxplain.data.table\(df\)"):
                call()
        for call in (
            lambda x=x, y=y: jaxplain.explain_batch(e, x, y),
            lambda x=x, y=y: jaxplain.train.fit(apply, params, (x, y), key=key),
        ):
            with pytest.raises(TypeError, match=r"series \(pass its numbers, series.to_numpy\(\)\)"):
                call()


def test_columns_are_found_by_name_in_any_order():
    for df in frames(ROWS):
        table, turned = data.table(df), df[list(ROWS)[::-1]]
        np.testing.assert_array_equal(table.encode(turned), table.encode(df))
        assert data.table(turned).names == table.names[::-1]
        blocks = [[5], [2, 3, 4], [1], [0]]
        np.testing.assert_array_equal(data.table(turned).encode(df), table.encode(df)[:, np.concatenate(blocks)])


def test_what_has_no_numbers_is_refused_by_name():
    day = datetime.date(2020, 1, 1)
    for make, words in {
        lambda: pd.DataFrame({"when": pd.to_datetime(["2020-01-01"])}): "column 'when' holds dates",
        lambda: pd.DataFrame({"when": [day]}): "column 'when' holds dates",
        lambda: pd.DataFrame({"when": pd.to_timedelta([1])}): "column 'when' holds dates",
        lambda: pd.DataFrame({"when": pd.period_range("2020", periods=1)}): "column 'when' holds dates",
        lambda: pl.DataFrame({"when": [day]}): "column 'when' holds dates",
        lambda: pd.DataFrame(
            {"m": ["a", 1]}
        ): "column 'm' holds values of several types .int such as 1, str such as 'a'",
        lambda: pd.DataFrame({"m": [["a"], ["b"]]}): "column 'm' holds values of type list",
        lambda: pl.DataFrame({"m": [[1], [2]]}): "column 'm' holds values of dtype List",
        lambda: pd.DataFrame({"z": [1j]}): "column 'z' holds values of type complex",
        lambda: pd.DataFrame({"n": [None, None]}): "column 'n' holds no value in any of 2 rows",
        lambda: pl.DataFrame({"n": [None, None]}): "column 'n' holds no value in any of 2 rows",
        lambda: pd.DataFrame({"n": [1.0, np.inf]}): "column 'n' has 1 infinite values",
        lambda: pd.DataFrame([[1, 2]], columns=["a", "a"]): "`df` has 2 columns named 'a'",
        lambda: pd.DataFrame([[1, 2]], columns=[1, "1"]): "`df` has 2 columns named '1'",
        lambda: pd.DataFrame(): "the data frame `df` has no columns",
        lambda: pl.DataFrame(): "the data frame `df` has no columns",
        lambda: pd.DataFrame({"a": np.zeros(0)}): "and no rows. Pass the training set",
        lambda: pd.DataFrame({"id": [2**24 + 1]}): "column 'id' holds 16777217, which float32 cannot tell",
        lambda: pd.DataFrame({"a": [1e300]}): "column 'a' has values that are infinite .in float32",
        lambda: pd.Series([1.0]): "`df` has to be a data frame of pandas or polars, not a pandas series",
        lambda: pl.LazyFrame({"a": [1]}): "not a polars lazy frame .collect it",
        lambda: np.ones((2, 2)): "`df` has to be a data frame",
    }.items():
        with pytest.raises((TypeError, ValueError), match=words):
            data.table(make(), missing="keep")
    with pytest.raises(ValueError, match="`missing` is 'mean'; it has to be one of 'refuse', 'keep'"):
        data.table(pd.DataFrame(ROWS), missing="mean")


def test_what_the_training_set_did_not_hold_is_refused_by_name():
    for df in frames(ROWS):
        table = data.table(df)
        known = {**ROWS}
        for change, words in {
            (
                "city",
                ("Ulm", "Rome", "Oslo", "Rome"),
            ): "column 'city' holds 'Oslo', 'Rome', which are none of the categories",
            ("area", ("a", "b", "c", "d")): "column 'area' holds values of the kind category",
            ("heated", (0, 1, 2, 1)): "column 'heated' holds other numbers than 0 and 1",
            ("city", (1.0, 2.0, 3.0, 4.0)): "column 'city' holds 1.0, 2.0, 3.0, which are none",
        }.items():
            with pytest.raises((TypeError, ValueError), match=words):
                table.encode(type(df)({**known, change[0]: list(change[1])}))
        with pytest.raises(ValueError, match=r"`df` lacks the columns \['area'\]"):
            table.encode(df[["rooms", "city", "heated"]])
        with pytest.raises(ValueError, match=r"`df` has the columns \['rent'\], which the table was made without"):
            table.encode(type(df)({**known, "rent": [1, 2, 3, 4]}))
        np.testing.assert_array_equal(table.encode(type(df)({**known, "heated": [1, 0, 1, 1]})), np.float32(ENCODED))


def test_rows_that_are_no_rows_are_refused():
    table = data.table(pd.DataFrame(ROWS))
    for x, words in {
        (0.0,) * 6: "row 0 holds .* in the columns of 'city', which is none of its categories. Replace whole variables",
        (0.0, 0.0, 0.5, 0.5, 0.0, 1.0): "which is none of its categories",
        (0.0, 0.0, 1.0, 0.0, 0.0, 0.5): "column 'heated' holds 0.5, but its values are the whole numbers from 0 to 1",
    }.items():
        with pytest.raises(ValueError, match=words):
            table.decode(x)
    with pytest.raises(ValueError, match=r"`x` has shape \(5,\); rows of this table have 6 numbers"):
        table.decode(np.zeros(5))
    halves = table.decode(np.float32([[1, 2.5, 1, 0, 0, 1]]))  # a mean of rooms is no whole number
    assert halves["rooms"].tolist() == [2.5]


def test_attributions_are_put_together_by_variable():
    a = np.arange(12.0).reshape(2, 6)
    for df in frames(ROWS):
        table = data.table(df)
        found = data.by_variable(a, table, like=df[:2])
        assert list(found.columns) == list(ROWS)
        np.testing.assert_array_equal(found.to_numpy(), [[0, 1, 9, 5], [6, 7, 27, 11]])
        np.testing.assert_array_equal(data.by_variable(a[0], table).to_numpy(), [[0, 1, 9, 5]])
        np.testing.assert_array_equal(data.by_variable(a, table.groups), found.to_numpy())
        means = data.by_variable(a, table, how="mean").to_numpy()
        np.testing.assert_allclose(means, [[0, 1, 3, 5], [6, 7, 9, 11]])
        with pytest.raises(ValueError, match="`like` has 4 rows, but there are 2"):
            data.by_variable(a, table, like=df)
    indexed = pd.DataFrame(ROWS, index=list("wxyz"))
    assert data.by_variable(a, data.table(indexed), like=indexed[2:]).index.tolist() == ["y", "z"]
    with pytest.raises(ValueError, match=r"`attributions` has shape \(2, 6\), but `groups` names 2 columns"):
        data.by_variable(a, ["a", "b"])
    with pytest.raises(TypeError, match="a list with the name of each column's variable, not"):
        data.by_variable(a, np.zeros(6, int))


def test_a_frame_is_read_with_its_places_in_words():
    frame = read_frame(pd.DataFrame({"b": [True, None], "c": ["x", "y"]}), "name", "df")
    assert [column.texts() for column in frame.columns] == [["False", "True"], ["x", "y"]]
    assert [column.missing for column in frame.columns] == [1, 0]
