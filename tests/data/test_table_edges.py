"""Frames at the edges of their dtypes: a number that comes back as another is a fault, wherever it happens."""

import decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import data

pd = pytest.importorskip("pandas", reason="the extra [tables] is not installed")
pl = pytest.importorskip("polars", reason="the extra [tables] is not installed")

WHOLE = [2**24, 123456792, 1234567936, 2**40, -(2**45)]
"""Whole numbers that float32 has, and whose shortest decimals in float32 are others: 1234567936 is 1.234568e9."""


def back(df, **settings):
    table = data.table(df, **settings)
    return table.decode(table.encode(df))


def test_whole_numbers_come_back_to_the_last_digit():
    for dtype in ("int64", "Int64", "uint64", object):
        values = [abs(value) for value in WHOLE] if dtype == "uint64" else WHOLE
        assert back(pd.DataFrame({"a": pd.Series(values, dtype=dtype)}))["a"].tolist() == values
    assert back(pl.DataFrame({"a": WHOLE}))["a"].to_list() == WHOLE
    exact = [decimal.Decimal(value) for value in WHOLE] + [decimal.Decimal("20.09")]
    assert back(pl.DataFrame({"a": pl.Series(exact, dtype=pl.Decimal(20, 2))}))["a"].to_list() == exact


def test_whole_numbers_that_would_become_others_are_refused():
    for column in (
        pd.Series([2**24 + 1]),
        pd.Series([2**24 + 1], dtype=object),
        pd.Series([decimal.Decimal(2**24 + 1)]),
        pd.Series([2**53 + 1]),  # 2**53 in float64 already, which float32 has
        pd.Series([2**60 + 1], dtype="Int64"),
        pd.Series([2**63 + 1], dtype="uint64"),
    ):
        with pytest.raises(ValueError, match=r"column 'id' holds .* cannot tell from its neighbours"):
            data.table(pd.DataFrame({"id": column}))
    with pytest.raises(ValueError, match="cannot tell from its neighbours"):
        data.table(pl.DataFrame({"id": pl.Series([2**63 + 1], dtype=pl.UInt64)}))
    # of a missing value the mean stands there, which nobody reads
    df = pd.DataFrame({"a": pd.array([2**25, None, 2**25 + 4, 2**25 + 8], "Int64")})
    pd.testing.assert_frame_equal(back(df, missing="keep"), df)
    df = pd.DataFrame({"a": pd.array([2**24, None, 2**24 + 2], "Int64")})
    pd.testing.assert_frame_equal(back(df, missing="keep"), df)


def test_numbers_whose_differences_would_be_lost_are_refused():
    """Seconds since 1970, whole numbers beside a missing one (floats in pandas), numbers below float32's smallest."""
    for values in (
        [1.7e9 + 1, 1.7e9 + 20, 1.7e9 + 3],
        [1 + 1e-9, 1.0, 1 + 2e-9],
        [1e-300, 2e-300, 3e-300],
        [1e-300] * 3,
        [1e-40, 2e-40, 3e-40],
        [2.0**24 + 1, None, 2.0**24 + 3],
    ):
        for library in (pd, pl):
            with pytest.raises(ValueError, match=r"column 'a' holds .* cannot tell"):
                data.table(library.DataFrame({"a": values}), missing="keep")
    for values in ([1.7e9, 1.7e9 + 86400], [0.1] * 3, [0.0, 1e-300, 1.0], [1e30, 1.0], [0.0, 0.0], [1e-37, 2e-37]):
        data.table(pd.DataFrame({"a": values}))


def test_a_place_beyond_the_categories_is_refused():
    """Behind the last one stands what is missing."""
    table = data.table(pd.DataFrame({"c": ["a", "b"], "t": [True, False]}), one_hot=False)
    for x in ([2.0, 0.0], [0.0, 2.0], [-1.0, 0.0], [0.0, -1.0]):
        with pytest.raises(ValueError, match="the whole numbers from 0 to 1"):
            table.decode(x)


def test_a_zero_keeps_its_sign():
    decoded = back(pd.DataFrame({"a": [0.0, -0.0, 1.0, 0.0]}))["a"]
    assert np.signbit(decoded).tolist() == [False, True, False, False]


def test_numbers_beyond_a_dtype_come_back_as_floats():
    df = pd.DataFrame(
        {
            "u": np.array([1, 2], np.uint8),
            "i": np.array([1, 2], np.int8),
            "n": pd.array([1, 2], "Int16"),
            "h": np.array([1, 2], np.float16),
        }
    )
    table = data.table(df)
    x = np.float32([[300, 200, 1e6, 1e6], [-1, 1, 1, 1], [2.5, 1.5, 0.5, 0.5]])
    decoded = table.decode(x)
    np.testing.assert_array_equal(decoded.to_numpy(np.float64), x)
    assert table.decode(x[:0]).dtypes.equals(df.dtypes)
    small = pl.DataFrame(
        {"i": pl.Series([1, 2], dtype=pl.Int8), "d": pl.Series(["1.50", "2.25"]).cast(pl.Decimal(9, 2))}
    )
    assert data.table(small).decode(np.float32([[200, 1.875]])).rows() == [(200.0, 1.875)]


def test_rows_that_are_not_finite_are_refused():
    df = pd.DataFrame(
        {
            "c": ["a", "b"],
            "o": pd.Categorical(["x", "y"], ["y", "x"], ordered=True),
            "b": [True, False],
            "f": [1.0, 2.0],
            "i": [1, 2],
        }
    )
    for table, width in ((data.table(df), 6), (data.table(df, one_hot=False), 5)):
        x = table.encode(df)
        for place in range(width):
            for value in (np.nan, np.inf, -np.inf):
                wrong = x.copy()
                wrong[1, place] = value
                with pytest.raises(
                    ValueError, match=r"`x` holds 1 numbers that are NaN or infinite, the first in row 1"
                ):
                    table.decode(wrong)
    for wrong in (np.array([["a"] * 5]), x[:, :5].astype(complex), np.array([[None] * 5])):
        with pytest.raises(TypeError, match=r"^Table\.decode: `x`"):
            table.decode(wrong)


def test_objects_keep_their_dtype_and_what_is_missing():
    """An encoder that has seen NaN does not know None."""
    for absent in (np.nan, None, pd.NA):
        df = pd.DataFrame(
            {
                "text": pd.Series(["a", absent, "b"], dtype=object),
                "truth": pd.Series([True, absent, False], dtype=object),
                "whole": pd.Series(["a", "b", "a"], dtype=object),
            }
        )
        df.index = [7, 7, 5]
        for one_hot in (True, False):
            table = data.table(df, missing="keep", one_hot=one_hot)
            decoded = table.decode(table.encode(df), like=df)
            pd.testing.assert_frame_equal(decoded, df)
            for name in ("text", "truth"):
                assert type(decoded[name].iloc[1]) is type(absent)
        assert hash(table) == hash(data.table(df, missing="keep", one_hot=False))
        assert table == data.table(df, missing="keep", one_hot=False)


def test_names_and_indices_of_every_kind():
    names = [1, True, ("a", 1), "0", "a b\n", ""]
    for index in (None, [5.0, 6.0], [5, 5], pd.date_range("2020", periods=2), ["x", None]):
        df = pd.DataFrame([[5.0, 6.0, 7.0, 8.0, 9.0, 1.0]] * 2, index=index)
        df.columns = pd.Index(names, dtype=object, tupleize_cols=False)
        table = data.table(df)
        pd.testing.assert_frame_equal(table.decode(table.encode(df), like=df), df, check_column_type=False)
        found = data.by_variable(table.encode(df), table, like=df)
        assert found.to_numpy().tolist() == df.to_numpy().tolist()
        assert found.index.equals(df.index)


def test_a_variable_that_is_not_finite_leaves_the_others():
    a = np.array([[np.nan, 1.0, 2.0], [np.inf, 1.0, 2.0]], np.float32)
    np.testing.assert_array_equal(data.by_variable(a, ["a", "b", "b"]), [[np.nan, 3], [np.inf, 3]])
    np.testing.assert_array_equal(data.by_variable(a, ["b", "a", "b"], how="mean")[:, 1], [1, 1])


def test_what_by_variable_cannot_put_together_is_told():
    table = data.table(pd.DataFrame({"a": [1.0, 2.0], "c": ["a", "b"]}))
    estimate = jaxplain.shapley_sampling_with_error(lambda x: x.sum(), samples=4)(jax.random.key(0), jnp.ones(3))
    with pytest.raises(
        TypeError, match=r"`attributions` is ShapleyEstimate\(.*; pass the field that holds attributions"
    ):
        data.by_variable(estimate, table)
    for like in ([0], 3, "a", {"a": 1}):
        with pytest.raises(TypeError, match="by_variable: `like` has to be a data frame with as many rows, not"):
            data.by_variable([[1.0, 1.0, 2.0]], table, like=like)
    assert data.by_variable([[1.0, 1.0, 2.0]], table, like=pd.Index([7])).index.tolist() == [7]


def test_categories_are_found_by_value_whatever_their_order():
    ordered = pd.DataFrame({"o": pd.Categorical(["x", "y"], ["y", "x"], ordered=True)})
    table = data.table(ordered)
    for other in (["x", "y"], ["y", "x"], ["x", "y", "z"]):
        df = pd.DataFrame({"o": pd.Categorical(["x", "y"], other, ordered=True)})
        assert table.encode(df).tolist() == [[1.0], [0.0]]
    enum = data.table(pl.DataFrame({"a": pl.Series(["x", "y"], dtype=pl.Enum(["x", "y"]))}))
    turned = pl.DataFrame({"a": pl.Series(["x", "y"], dtype=pl.Enum(["y", "x"]))})
    assert enum.encode(turned).tolist() == [[1.0, 0.0], [0.0, 1.0]]
