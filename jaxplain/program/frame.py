"""Data frames of pandas and polars, read column by column: what kind each is, and its values as numbers.

Neither library is imported before a frame of it is there. What is no number, truth or category (dates, lists, objects)
is refused by the column's name.
"""

from __future__ import annotations

import datetime
import decimal
import importlib
import numbers
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxplain.types import frame_of, short

DATES = "make a number of it, such as the days since a first date"


class FrameColumn(NamedTuple):
    """One column of a frame.

    name: as the frame has it; kind: "number", "boolean", "category" or "ordered" (categories with an order); values:
    `[N]` float64, of categories their places in `categories`, NaN where a value is missing; categories: what can stand
    there, in order; dtype: the frame's; absent: what stood for a missing value among Python's objects, as a text.
    """

    name: Any
    kind: str
    values: np.ndarray
    categories: tuple[Any, ...]
    dtype: Any
    absent: str = "None"

    @property
    def missing(self) -> int:
        """How many values are missing."""
        return int(np.isnan(self.values).sum())

    def texts(self) -> list[str] | None:
        """What stands for 0, 1, ... in words; None for numbers."""
        return None if self.kind == "number" else [str(category) for category in self.categories]


class Frame(NamedTuple):
    """A data frame, read. library: "pandas" or "polars"; index: of pandas, else None; rows: how many."""

    columns: tuple[FrameColumn, ...]
    library: str
    index: Any
    rows: int

    @property
    def names(self) -> list[str]:
        """The columns' names as texts."""
        return [str(column.name) for column in self.columns]


def is_frame(value: Any) -> bool:
    """Whether a value is a data frame of pandas or polars."""
    return frame_of(value) is not None and any(kind.__name__ == "DataFrame" for kind in type(value).__mro__)


def read_frame(value: Any, name: str, argument: str) -> Frame:
    """Read a data frame.

    Args:
        value: Of pandas or polars.
        name: The function that asks, for errors.
        argument: What it calls the frame.

    Returns:
        The columns in their order. Texts are categories in alphabetical order; a categorical dtype keeps its own order.

    Raises:
        TypeError: No data frame; a column of dates, of several types, or of anything else that is no number, truth or
            text.
        ValueError: No columns, or two of one name.
    """
    if not is_frame(value):
        raise TypeError(f"{name}: `{argument}` has to be a data frame of pandas or polars, not {short(value)}.")
    heads = [str(head) for head in value.columns]
    if not heads:
        raise ValueError(f"{name}: the data frame `{argument}` has no columns.")
    twice = sorted({head for head in heads if heads.count(head) > 1})
    if twice:
        raise ValueError(
            f"{name}: `{argument}` has {heads.count(twice[0])} columns named {twice[0]!r} (as texts). "
            "Rename all but one of them."
        )
    if type(value).__module__.startswith("polars"):
        columns = [_polars(head, value[head], name) for head in value.columns]
        return Frame(tuple(columns), "polars", None, value.height)
    columns = [_pandas(head, value.iloc[:, place], name) for place, head in enumerate(value.columns)]
    return Frame(tuple(columns), "pandas", value.index, len(value))


def _pandas(head: Any, series: Any, name: str) -> FrameColumn:
    types = importlib.import_module("pandas").api.types
    dtype, absent = series.dtype, series.isna().to_numpy()
    if hasattr(dtype, "categories") and hasattr(dtype, "ordered"):
        codes = np.where(absent, np.nan, series.cat.codes.to_numpy().astype(np.float64))
        return FrameColumn(head, "ordered" if dtype.ordered else "category", codes, tuple(dtype.categories), dtype)
    kinds = (types.is_datetime64_any_dtype, types.is_timedelta64_dtype)
    if any(kind(dtype) for kind in kinds) or str(dtype).startswith("period"):
        raise TypeError(_refused(head, f"dates (dtype {dtype})", name, DATES))
    if types.is_bool_dtype(dtype) and str(dtype) != "object":
        values = series.astype(object).to_numpy()
        return FrameColumn(head, "boolean", _floats(values, absent), (False, True), dtype)
    if types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype):
        return FrameColumn(head, "number", series.to_numpy(dtype=np.float64, na_value=np.nan), (), dtype)
    values = series.astype(object).to_numpy()
    found = _objects(head, values, absent, dtype, name)
    return found._replace(absent=str(values[absent][0])) if absent.any() and str(dtype) == "object" else found


def _polars(head: str, series: Any, name: str) -> FrameColumn:
    polars = importlib.import_module("polars")
    dtype = series.dtype
    if dtype.is_temporal():
        raise TypeError(_refused(head, f"dates (dtype {dtype})", name, DATES))
    if dtype.is_numeric() or dtype == polars.Boolean:
        values = series.cast(polars.Float64).to_numpy().astype(np.float64)
        kind, categories = ("number", ()) if dtype.is_numeric() else ("boolean", (False, True))
        return FrameColumn(head, kind, values, categories, dtype)
    if dtype.is_nested() or dtype == polars.Binary:
        raise TypeError(_refused(head, f"values of dtype {dtype}", name, "make numbers or texts of it"))
    absent = series.is_null().to_numpy()
    declared = tuple(dtype.categories) if isinstance(dtype, polars.Enum) else None
    values = np.array(series.to_list(), object) if len(series) else np.zeros(0, object)
    if declared is not None:
        return FrameColumn(head, "category", _codes(values, absent, declared), declared, dtype)
    return _objects(head, values, absent, dtype, name)


def _objects(head: Any, values: np.ndarray, absent: np.ndarray, dtype: Any, name: str) -> FrameColumn:
    """A column of Python's values: texts, truths or numbers, all of one kind."""
    there = values[~absent].tolist()
    if all(isinstance(value, str) for value in there):
        categories = tuple(sorted(set(there)))
        return FrameColumn(head, "category", _codes(values, absent, categories), categories, dtype)
    if all(isinstance(value, bool | np.bool_) for value in there):
        return FrameColumn(head, "boolean", _floats(values, absent), (False, True), dtype)
    if all(isinstance(v, numbers.Real | decimal.Decimal) and not isinstance(v, bool | np.bool_) for v in there):
        return FrameColumn(head, "number", _floats(values, absent), (), dtype)
    dates = datetime.date | datetime.time | datetime.timedelta | np.datetime64 | np.timedelta64
    if any(isinstance(value, dates) for value in there):
        raise TypeError(_refused(head, "dates", name, DATES))
    kinds = sorted({type(value).__name__ for value in there})
    if len(kinds) > 1:
        first = {kind: next(value for value in there if type(value).__name__ == kind) for kind in kinds}
        shown = ", ".join(f"{kind} such as {short(value)}" for kind, value in first.items())
        raise TypeError(_refused(head, f"values of several types ({shown})", name, "make them all of one"))
    raise TypeError(_refused(head, f"values of type {kinds[0]}", name, "make numbers or texts of it"))


def _refused(head: Any, what: str, name: str, remedy: str) -> str:
    return f"{name}: column {str(head)!r} holds {what}; {remedy}, or leave the column out."


def _floats(values: np.ndarray, absent: np.ndarray) -> np.ndarray:
    found = np.full(len(values), np.nan)
    found[~absent] = [float(value) for value in values[~absent]]
    return found


def _codes(values: np.ndarray, absent: np.ndarray, categories: Sequence[Any]) -> np.ndarray:
    place = {category: code for code, category in enumerate(categories)}
    found = np.full(len(values), np.nan)
    found[~absent] = [place[value] for value in values[~absent]]
    return found


def as_frame(library: str, columns: Sequence[tuple[Any, Any]], index: Any = None) -> Any:
    """A data frame of columns `[N]` by their names; `index` for pandas, which keeps names that are no texts."""
    if library == "polars":
        return importlib.import_module("polars").DataFrame({str(name): values for name, values in columns})
    pandas = importlib.import_module("pandas")
    made = pandas.DataFrame({place: values for place, (_, values) in enumerate(columns)})
    if index is not None:
        made.index = index
    names = [name for name, _ in columns]
    made.columns = pandas.Index(names, tupleize_cols=all(isinstance(name, tuple) for name in names))
    return made
