"""Data frames in and out: columns of numbers, truths and categories as an array of numbers, and back.

A `Table` remembers what the training set's columns hold. It encodes any frame of the same columns, decodes arrays into
frames (which is what `black_box` calls a model with), and names the encoded columns, so that what explains them can be
put together by variable.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.data.column import Column, shortest
from jaxplain.program import FrameColumn, as_frame, public, read_frame
from jaxplain.types import ArrayLike, frame_of

MOST_LOST = 1e-2
"""How far a number may move by rounding, as a share of the range of its column."""


@dataclasses.dataclass(frozen=True)
class Table:
    """What the columns of a table hold, and how they are encoded. Made by `table`.

    Attributes:
        columns: The table's columns, in its order.
        library: "pandas" or "polars", of which decoded frames are.
        template: The first row, encoded: an example of the table.
    """

    columns: tuple[Column, ...]
    library: str
    template: tuple[float, ...]

    @functools.cached_property
    def names(self) -> list[str]:
        """The columns' names, `[V]`."""
        return [str(column.name) for column in self.columns]

    @functools.cached_property
    def groups(self) -> list[str]:
        """The name of the column that each encoded column belongs to, `[D]`: what methods take as `groups`."""
        return [name for name, column in zip(self.names, self.columns, strict=True) for _ in range(column.width)]

    @functools.cached_property
    def features(self) -> list[str]:
        """A name for each encoded column, `[D]`: "city = Ulm" of a category, "age is missing"."""
        return [feature for column in self.columns for feature in column.features()]

    @functools.cached_property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """From the name of each column of truths or categories to its values in words, as `plot.effects` takes them."""
        pairs = zip(self.names, self.columns, strict=True)
        return {name: column.texts() for name, column in pairs if column.kind != "number"}

    def __repr__(self) -> str:
        return f"Table of {len(self.columns)} columns, encoded as {len(self.template)}: {', '.join(self.names)}"

    def encode(self, df: Any) -> np.ndarray:
        """Encode a frame with these columns, in any order: `[N, D]` in float32 (float64 where JAX computes in it).

        Args:
            df: Of pandas or polars.

        Returns:
            The rows as numbers. Cost: no model pass.

        Raises:
            ValueError: Columns that are missing or not known, categories that were not there when the table was made,
                missing values where there were none, numbers that are not finite or do not fit into the dtype.
            TypeError: No data frame; a column of another kind.
        """
        frame = read_frame(df, "Table.encode", "df")
        given = dict(zip(frame.names, frame.columns, strict=True))
        lost, new = ([n for n in a if n not in b] for a, b in ((self.names, given), (given, self.names)))
        if lost:
            raise ValueError(f"Table.encode: `df` lacks the columns {lost} of the table; it has {list(given)}.")
        if new:
            raise ValueError(
                f"Table.encode: `df` has the columns {new}, which the table was made without. Leave them out: "
                "df[table.names]."
            )
        dtype = np.dtype(jnp.result_type(float))
        pairs = zip(self.names, self.columns, strict=True)
        parts = [column.encode(given[name], dtype, "Table.encode") for name, column in pairs]
        return np.concatenate(parts, axis=1)

    def decode(self, x: ArrayLike, *, like: Any = None) -> Any:
        """Decode rows `[N, D]` (or one, `[D]`): a frame of the table's library, columns, order and dtypes.

        A column whose dtype cannot hold its numbers (whole ones that became a mean, 300 of uint8) comes back as floats.

        Args:
            x: What `encode` gave, or a mixture of its rows by whole columns.
            like: A pandas frame whose index the rows get.

        Returns:
            The frame. Cost: no model pass.

        Raises:
            ValueError: Another width; NaN or infinities; numbers that are no category or truth, such as one-hot columns
                that are all zero.
            TypeError: No real numbers.
        """
        rows = np.atleast_2d(check.real(check.numbers(np.asarray(x), "Table.decode", "x"), "Table.decode", "x"))
        if rows.ndim != 2 or rows.shape[1] != len(self.template):
            raise ValueError(
                f"Table.decode: `x` has shape {np.shape(x)}; rows of this table have {len(self.template)} numbers."
            )
        wrong = np.argwhere(~np.isfinite(rows))
        if wrong.size:
            (row, place), count = wrong[0], len(wrong)
            raise ValueError(
                f"Table.decode: `x` holds {count} numbers that are NaN or infinite, the first in row {row} of "
                f"{self.features[place]!r}. A missing value is a number of its own with table(df, missing='keep')."
            )
        start, columns = 0, []
        for column in self.columns:
            own = column.decode(rows[:, start : start + column.width], "Table.decode", self.library)
            columns.append((column.name, own))
            start += column.width
        return as_frame(self.library, columns, _index_of(like, len(rows), "Table.decode"))


@public
def table(df: Any, *, missing: str = "refuse", one_hot: bool = True) -> Table:
    """Read a data frame's columns, so that frames like it can be encoded as numbers, and decoded.

    Numbers stay numbers; truths are 0 or 1; an ordered category is its place, 0 to K-1; any other category (texts, too,
    in alphabetical order) is K columns of which one is 1, or with `one_hot=False` one column with its place, for models
    that read categories themselves.

    Args:
        df: The training set, of pandas or polars, without the target.
        missing: "refuse", or "keep" as a value of its own: one more category, or for numbers, truths and ordered
            categories a second column that is 1 where the value is missing (and the first one its mean).
        one_hot: Whether a category without order gets a column for each value.

    Returns:
        The `Table`, with `encode`, `decode`, `names`, `groups`, `features` and `categories`. Cost: no model pass.

    Raises:
        ValueError: No columns or rows, two columns of one name, a column without any value, missing values, numbers
            that are not finite or that JAX's dtype cannot tell from each other; by name.
        TypeError: No data frame; a column of dates, of several types, or of objects; by name.

    Example:
        >>> pandas = __import__("pytest").importorskip("pandas")
        >>> df = pandas.DataFrame({"area": [50.0, 70.0, 30.0], "city": ["Ulm", "Bonn", "Ulm"]})
        >>> rents = table(df)
        >>> rents.encode(df).tolist()
        [[50.0, 0.0, 1.0], [70.0, 1.0, 0.0], [30.0, 0.0, 1.0]]
        >>> rents.groups, rents.features
        (['area', 'city', 'city'], ['area', 'city = Bonn', 'city = Ulm'])
    """
    check.choice(missing, ("refuse", "keep"), "table", "missing")
    frame = read_frame(df, "table", "df")
    if not frame.rows:
        raise ValueError(f"table: `df` has the columns {frame.names} and no rows. Pass the training set.")
    columns = tuple(_column(column, missing, one_hot) for column in frame.columns)
    made = Table(columns, frame.library, ())
    first = made.encode(df.head(1))[0]  # df[:1] goes by labels where the index is of floats
    return dataclasses.replace(made, template=tuple(first.tolist()))


def _column(column: FrameColumn, missing: str, one_hot: bool) -> Column:
    name = str(column.name)
    if column.missing == len(column.values):
        raise ValueError(f"table: column {name!r} holds no value in any of {column.missing} rows; leave it out.")
    if column.missing and missing == "refuse":
        raise ValueError(
            f"table: column {name!r} has {column.missing} missing values of {len(column.values)}, and a model would "
            "see NaN. Fill them in, or pass missing='keep', which makes of 'missing' a value of its own."
        )
    there = column.values[~np.isnan(column.values)]
    if not np.isfinite(there).all():
        raise ValueError(f"table: column {name!r} has {int((~np.isfinite(there)).sum())} infinite values.")
    _distinct(there, column, name)
    middle = float(there.mean()) if column.kind == "number" else 0.0
    keeps = bool(column.missing)
    return Column(column.name, column.kind, column.categories, keeps, one_hot, middle, column.dtype, column.absent)


def _distinct(there: np.ndarray, column: FrameColumn, name: str) -> None:
    """Refuse numbers that differ by less than the dtype of JAX can tell: seconds since 1970, 1e-300."""
    dtype = np.dtype(jnp.result_type(float))
    with np.errstate(over="ignore"):
        numbers = there.astype(dtype)
    if column.kind != "number" or not np.isfinite(numbers).all():  # which `encode` refuses
        return
    numbers = np.where(np.abs(numbers) < np.finfo(dtype).tiny, 0, numbers)  # XLA makes zeros of those
    most = MOST_LOST * (np.ptp(there) or np.abs(there).max())
    if np.abs(numbers - there).max() <= most:
        return
    if np.abs(shortest(numbers) - there).max() > most:  # decimals are what `decode` gives back; they take long
        raise ValueError(
            f"table: column {name!r} holds numbers from {there.min():.17g} to {there.max():.17g}, whose differences "
            f"{dtype} cannot tell. Subtract an offset or take another unit, make a category of it (if it is a name), "
            "leave it out, or let JAX compute in float64 (jax_enable_x64)."
        )


@public
def by_variable(attributions: Any, groups: Any, *, how: str = "sum", like: Any = None) -> Any:
    """Put the attributions of encoded columns together by variable.

    Args:
        attributions: `[D]`, `[B, D]` or more axes before the last, as a method gave them for rows of D columns.
        groups: A `Table`, or the name of the variable of each column, `[D]`: `["area", "city", "city"]`.
        how: "sum", for what is divided over a variable's columns (Shapley values, gradients times input, relevance), or
            "mean", for methods that give each column of a group the whole of it (`feature_ablation`,
            `feature_permutation`, `rise`).
        like: With a table, the frame that was explained, whose pandas index the result gets.

    Returns:
        With a table a data frame with its columns, a row for each example; else an array `[..., V]`, the variables in
        the order in which they first stand in `groups`. Cost: no model pass.

    Raises:
        ValueError: Another number of columns, names or rows.
        TypeError: Groups that are no names.

    Example:
        >>> by_variable([[1.0, 2.0, 3.0]], ["area", "city", "city"]).tolist()
        [[1.0, 5.0]]
    """
    check.choice(how, ("sum", "mean"), "by_variable", "how")
    names = groups.groups if isinstance(groups, Table) else _named(groups)
    if hasattr(attributions, "_fields"):
        raise TypeError(
            f"by_variable: `attributions` is {type(attributions).__name__}({', '.join(attributions._fields)}); pass "
            f"the field that holds attributions, such as its `.{attributions._fields[0]}`."
        )
    values = np.asarray(check.numbers(attributions, "by_variable", "attributions"))
    values = values.astype(np.promote_types(np.result_type(values.dtype, np.float32), np.float32))
    if values.ndim == 0 or values.shape[-1] != len(names):
        raise ValueError(
            f"by_variable: `attributions` has shape {values.shape}, but `groups` names {len(names)} columns; its last "
            "axis has to be the columns."
        )
    heads = list(dict.fromkeys(names))
    found = np.stack([_together(values[..., np.array(names) == head], how) for head in heads], axis=-1)
    if not isinstance(groups, Table):
        return found
    if found.ndim > 2:
        raise ValueError(f"by_variable: `attributions` has shape {values.shape}; for a data frame it is [D] or [B, D].")
    rows = np.atleast_2d(found)
    columns = [(column.name, rows[:, place]) for place, column in enumerate(groups.columns)]
    return as_frame(groups.library, columns, _index_of(like, len(rows), "by_variable"))


def _together(values: np.ndarray, how: str) -> np.ndarray:
    return values.sum(axis=-1) if how == "sum" else values.mean(axis=-1)


def _named(groups: Any) -> list[str]:
    listed = list(groups) if not isinstance(groups, str | Mapping) and hasattr(groups, "__iter__") else []
    if not listed or not all(isinstance(name, str) for name in listed):
        raise TypeError(
            "by_variable: `groups` has to be a jaxplain.data.Table, or a list with the name of each column's variable, "
            f"not {check.short(groups)}."
        )
    return listed


def _index_of(like: Any, rows: int, name: str) -> Any:
    """The index of a pandas frame of so many rows; None where there is none."""
    if like is None:
        return None
    if frame_of(like) is None or not hasattr(like, "__len__"):
        raise TypeError(f"{name}: `like` has to be a data frame with as many rows, not {check.short(like)}.")
    if len(like) != rows:
        raise ValueError(f"{name}: `like` has {len(like)} rows, but there are {rows}.")
    return like if hasattr(like, "get_indexer") else getattr(like, "index", None)
