"""Data frames, series and rows of mixed values as what figures draw: numbers, names, and categories in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxplain import check
from jaxplain.plot.values import number, plain
from jaxplain.program import is_frame, read_frame
from jaxplain.types import frame_of


class Columns(NamedTuple):
    """A table as numbers.

    values: `[B, D]`, categories by their places, NaN where one is missing; names: of the columns, or None; words: by
    column, what its places 0, 1, ... are called; framed: whether they come from a data frame, where NaN is what is
    missing.
    """

    values: Any
    names: Sequence[Any] | None
    words: Mapping[int, list[str]]
    framed: bool = False

    def text(self, row: int, column: int) -> str:
        """One value in words."""
        value = self.values[row, column]
        return said(value, self.words.get(column)) if self.framed else number(value)


class Row(NamedTuple):
    """One example: its values as they are, and their names where they have any."""

    values: list[Any]
    names: list[str] | None


def said(value: Any, words: list[str] | None = None) -> str:
    """A value as figures write it: a category by its name, a number by three digits, and what is missing as that."""
    if isinstance(value, str | bool | np.bool_):
        return str(value)
    try:
        real = float(value)
    except (TypeError, ValueError):  # None, a category of another kind
        return "missing" if value is None or str(value) in ("<NA>", "NaT") else str(value)
    if np.isnan(real):
        return "missing"
    return number(real) if words is None else words[int(real)]


def columns_of(values: Any, names: Sequence[Any] | None, name: str, argument: str = "values") -> Columns:
    """The columns of a data frame, or an array as it is."""
    if not is_frame(values):
        return Columns(values, names, {})
    frame = read_frame(values, name, argument)
    array = np.stack([column.values for column in frame.columns], axis=1)
    words = {k: found for k, column in enumerate(frame.columns) if (found := column.texts()) is not None}
    return Columns(array, frame.names if names is None else names, words, framed=True)


def attributions_of(
    value: Any, names: Sequence[Any] | None, name: str, *, row: bool = False
) -> tuple[Any, Sequence[Any] | None]:
    """Attributions as an array and the names of their columns; those of a frame or a series in the order of `names`.

    `row` takes a frame of one row for that row.
    """
    if is_frame(value):
        frame = read_frame(value, name, "attributions")
        texts = [column.name for column in frame.columns if column.kind != "number"]
        if texts:
            raise TypeError(f"{name}: `attributions` has the column {texts[0]!r}, which holds no numbers.")
        array, own = np.stack([column.values for column in frame.columns], axis=1), frame.names
        array = array[0] if row and len(array) == 1 else array
    elif frame_of(value) is not None and hasattr(value, "to_numpy"):
        array = np.asarray(value.to_numpy(), np.float64)
        own = [str(head) for head in value.index] if hasattr(value, "index") else []
    else:
        return value, names
    if names is None or not own:
        return array, names if names is not None or not own else own
    wanted = [str(head) for head in names]
    if sorted(wanted) != sorted(own):
        if len(wanted) == len(own) and not set(wanted) & set(own):
            return array, names  # other words for the same columns, in their order
        raise ValueError(f"{name}: `attributions` has the columns {own}, but the values have {wanted}.")
    return array[..., _places(wanted, own, name, "attributions")], names


def _places(wanted: list[str], own: list[str], name: str, argument: str) -> list[int]:
    """Where the wanted names stand among the same ones in another order."""
    if wanted == own:
        return list(range(len(own)))
    if twice := [head for head in own if own.count(head) > 1]:
        raise ValueError(
            f"{name}: `{argument}` has {twice[0]!r} {own.count(twice[0])} times, in another order than the names; pass "
            "names that differ, or both in one order."
        )
    return [own.index(head) for head in wanted]


def row_of(value: Any, name: str, argument: str = "values") -> Row | None:
    """One example of mixed values; None for what is an array of numbers."""
    if is_frame(value):
        frame = read_frame(value, name, argument)
        if frame.rows != 1:
            raise ValueError(f"{name}: `{argument}` has {frame.rows} rows; pass one, such as df[:1].")
        pairs = ((column.values[0], column.texts()) for column in frame.columns)
        return Row([said(own, words) for own, words in pairs], frame.names)
    if frame_of(value) is not None and hasattr(value, "to_numpy"):
        names = [str(head) for head in value.index] if hasattr(value, "index") else None
        return Row(list(value), names)
    if isinstance(value, Mapping):
        return Row(list(value.values()), [str(head) for head in value])
    if isinstance(value, list | tuple) and any(isinstance(own, str | None) for own in value):
        return Row(list(value), None)
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in "OU":
        return Row(value.tolist(), None)
    return None


def row_heads(heads: list[str], row: Row, names: Sequence[Any] | None, name: str) -> list[str]:
    """Names with the values beside them, values that have names in the order of `names`."""
    if len(row.values) != len(heads):
        raise ValueError(f"{name}: `values` holds {len(row.values)} values, but there are {len(heads)} attributions.")
    values = row.values
    if row.names is not None and names is not None and row.names != [str(head) for head in names]:
        wanted = [str(head) for head in names]
        if sorted(wanted) != sorted(row.names):
            raise ValueError(f"{name}: `values` has the names {row.names}, but the attributions have {wanted}.")
        values = [values[place] for place in _places(wanted, row.names, name, "values")]
    return [f"{head} = {plain(check_said(value, name))}" for head, value in zip(heads, values, strict=True)]


def check_said(value: Any, name: str) -> str:
    """A value of a row in words; what holds several is refused."""
    if np.ndim(value) != 0 or isinstance(value, Mapping):
        raise TypeError(f"{name}: `values` holds {check.short(value)}; pass a number or a text for each feature.")
    return said(value)


def by_name(data: Any, name: str, argument: str) -> Any:
    """A data frame as a mapping from its columns' names to their values; anything else as it is."""
    if not is_frame(data):
        return data
    frame = read_frame(data, name, argument)
    return {str(column.name): column.values[~np.isnan(column.values)] for column in frame.columns}
