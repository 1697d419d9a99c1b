"""One column of a table: its values as one or several columns of numbers, and back."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import numpy as np

from jaxplain.program import FrameColumn

NEAR = 1e-3
"""How far a number may be from the 0, 1 or place that it stands for, by rounding."""


@dataclasses.dataclass(frozen=True)
class Column:
    """What a column of the training set held.

    Attributes:
        name: As the frame has it.
        kind: "number", "boolean", "category" or "ordered".
        categories: What can stand there, in order.
        missing: Whether a missing value is one of its values.
        one_hot: Whether a category without order gets a column for each value.
        middle: What stands in the place of a missing number.
        dtype: The frame's.
        absent: What stood for a missing value in a column of Python's objects: "None", "nan" or "<NA>".
    """

    name: Any
    kind: str
    categories: tuple[Any, ...]
    missing: bool
    one_hot: bool
    middle: float
    dtype: Any
    absent: str = "None"

    @property
    def apart(self) -> bool:
        """Whether a second column says where the value is missing."""
        return self.missing and self.kind != "category"

    @property
    def values(self) -> int:
        """How many values a category has, a missing one among them."""
        return len(self.categories) + self.missing

    @property
    def width(self) -> int:
        """How many columns of numbers it makes."""
        if self.kind == "category":
            return self.values if self.one_hot else 1
        return 2 if self.apart else 1

    def texts(self) -> tuple[str, ...]:
        """The categories in words."""
        extra = ("missing",) if self.missing and self.kind == "category" else ()
        return (*map(str, self.categories), *extra)

    def features(self) -> list[str]:
        """A name for each column of numbers."""
        if self.kind == "category" and self.one_hot:
            return [f"{self.name} = {text}" for text in self.texts()]
        return [str(self.name), *([f"{self.name} is missing"] if self.apart else [])]

    def encode(self, given: FrameColumn, dtype: Any, name: str) -> np.ndarray:
        """A column of a frame as numbers `[N, width]`; what the training set did not hold is refused by name."""
        values = self._as_here(given, name)
        absent = np.isnan(values)
        if absent.any() and not self.missing:
            raise ValueError(
                f"{name}: column {str(self.name)!r} has {int(absent.sum())} missing values, and had none when the "
                "table was made (with missing='keep' they would be a value of their own). Fill them in, or leave the "
                "rows out."
            )
        if self.kind == "category":
            places = np.where(absent, len(self.categories), values).astype(np.int64)
            if self.one_hot:
                return np.eye(self.values, dtype=dtype)[places]
            return places[:, None].astype(dtype)
        numbers = self._exact(np.where(absent, 0, values), given, dtype, name)
        numbers = np.where(absent, np.asarray(self.middle, dtype), numbers)
        return np.stack([numbers, absent.astype(dtype)], axis=1) if self.apart else numbers[:, None]

    def _exact(self, values: np.ndarray, given: FrameColumn, dtype: Any, name: str) -> np.ndarray:
        """Numbers in the dtype that JAX computes in; whole ones that it cannot hold would become others."""
        with np.errstate(over="ignore"):
            numbers = values.astype(dtype)
        if not np.isfinite(numbers).all():
            raise ValueError(f"{name}: column {str(self.name)!r} has values that are infinite (in {np.dtype(dtype)}).")
        # Values came as float64: from 2^53 up a whole number may have been another before.
        lost = (numbers != values) | (np.abs(values) >= 2.0**53)
        wrong = np.flatnonzero((np.floor(values) == values) & lost)
        if wrong.size and not (_is_float(given.dtype) and _is_float(self.dtype)):
            raise ValueError(
                f"{name}: column {str(self.name)!r} holds {values[wrong[0]]:.0f}, which {np.dtype(dtype)} cannot tell "
                "from its neighbours. Subtract an offset, make a category of it (if it is a name), or leave it out."
            )
        return numbers

    def _as_here(self, given: FrameColumn, name: str) -> np.ndarray:
        """A frame's values as this column means them: numbers, 0 and 1, or places among its categories."""
        if self.kind in ("category", "ordered"):
            return self._places(given, name)
        empty = given.missing == len(given.values)
        if given.kind in ("category", "ordered") and not empty:
            words = f"{given.kind} ({', '.join(map(repr, given.categories[:3]))} ...)"
            raise TypeError(
                f"{name}: column {str(self.name)!r} holds values of the kind {words}, but held {self.kind}s when the "
                "table was made."
            )
        if self.kind == "boolean" and not np.isin(given.values[~np.isnan(given.values)], (0, 1)).all():
            raise TypeError(
                f"{name}: column {str(self.name)!r} holds other numbers than 0 and 1, but was one of booleans."
            )
        return np.full(len(given.values), np.nan) if empty else given.values

    def _places(self, given: FrameColumn, name: str) -> np.ndarray:
        """A frame's values as places among the categories; unknown ones are refused."""
        known = {category: place for place, category in enumerate(self.categories)}
        there = given.values[~np.isnan(given.values)]
        held = there.tolist() if given.kind == "number" else [given.categories[int(code)] for code in np.unique(there)]
        unknown = [value for value in dict.fromkeys(held) if value not in known]
        if unknown:
            shown = ", ".join(repr(value) for value in unknown[:3])
            listed = ", ".join(repr(value) for value in self.categories[:5])
            more = " ..." if len(self.categories) > 5 else ""
            raise ValueError(
                f"{name}: column {str(self.name)!r} holds {shown}, which {'is' if len(unknown) == 1 else 'are'} none "
                f"of the categories of the table: {listed}{more}. Make the table of a set that has them, or replace "
                "them."
            )
        if given.kind == "number":
            return np.array([np.nan if np.isnan(value) else known[value] for value in given.values], np.float64)
        table = np.array([known.get(category, -1) for category in given.categories] or [0], np.float64)
        codes = np.where(np.isnan(given.values), 0, given.values).astype(np.int64)
        return np.where(np.isnan(given.values), np.nan, table[codes])

    def decode(self, numbers: np.ndarray, name: str, library: str) -> Any:
        """Numbers `[N, width]` as a column of the frame's dtype."""
        if self.kind == "category":
            places = self._hot(numbers, name) if self.one_hot else self._whole(numbers[:, 0], self.values, name)
            absent = places == len(self.categories)
        else:
            absent = self._whole(numbers[:, 1], 2, name) == 1 if self.apart else np.zeros(len(numbers), bool)
            if self.kind == "number":
                return self._numbers(np.where(absent, np.nan, self._meant(numbers[:, 0])), library)
            places = self._whole(np.where(absent, 0, numbers[:, 0]), len(self.categories), name)
        return self._categories(np.where(absent, -1, places).astype(np.int64), library)

    def _meant(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers in float64 as they stood in the frame; whole ones are exact where the column is none of floats."""
        decimals, exact = shortest(numbers), numbers.astype(np.float64)
        return decimals if _is_float(self.dtype) else np.where(np.floor(exact) == exact, exact, decimals)

    def _hot(self, numbers: np.ndarray, name: str) -> np.ndarray:
        places = numbers.argmax(axis=1)
        off = ~(np.abs(numbers - np.eye(self.values)[places]).max(axis=1) <= NEAR)
        if off.any():
            row = int(np.flatnonzero(off)[0])
            raise ValueError(
                f"{name}: row {row} holds {numbers[row].tolist()} in the columns of {str(self.name)!r}, which is none "
                "of its categories. Replace whole variables by those of real rows: `groups=table.groups` and as "
                "`baseline` table.encode(df)[0], or [:50] where a method takes several."
            )
        return places

    def _whole(self, numbers: np.ndarray, size: int, name: str) -> np.ndarray:
        places = np.rint(numbers)
        off = ~(np.abs(numbers - places) <= NEAR) | (places < 0) | (places >= size)
        if off.any():
            raise ValueError(
                f"{name}: column {str(self.name)!r} holds {numbers[off][0]:g}, but its values are the whole numbers "
                f"from 0 to {size - 1}. Replace it by values of real rows: `baseline=table.encode(df)[0]`, or [:50] "
                "where a method takes several."
            )
        return places.astype(np.int64)

    def _numbers(self, values: np.ndarray, library: str) -> Any:
        """A column of numbers in the frame's dtype, or of floats where that cannot hold them (2.5 and 300 of uint8)."""
        made, back = (_in_polars if library == "polars" else _in_pandas)(values, self.dtype)
        fits = (
            np.isfinite(back) == np.isfinite(values) if _is_float(self.dtype) else (back == values) | np.isnan(values)
        )
        if fits.all():
            return made
        return importlib.import_module("polars").Series(values, nan_to_null=True) if library == "polars" else values

    def _categories(self, places: np.ndarray, library: str) -> Any:
        known = np.empty(len(self.categories) + 1, object)
        known[:-1] = self.categories
        known[-1] = None
        if library == "polars":
            return importlib.import_module("polars").Series(known[places].tolist(), dtype=self.dtype)
        pandas = importlib.import_module("pandas")
        known[-1] = {"nan": np.nan, "<NA>": pandas.NA}.get(self.absent)  # an encoder may tell them apart
        if hasattr(self.dtype, "ordered"):
            return pandas.Categorical.from_codes(places, dtype=self.dtype)
        return pandas.Series(known[places], dtype=self.dtype)


def _is_float(dtype: Any) -> bool:
    """Whether a frame's dtype is one of floating-point numbers, which are rounded anyway."""
    return any(word in str(dtype).lower() for word in ("float", "double"))


def _in_pandas(values: np.ndarray, dtype: Any) -> tuple[Any, np.ndarray]:
    """Numbers as a column of a dtype of pandas, and what that holds in float64."""
    try:
        with np.errstate(all="ignore"):
            made = importlib.import_module("pandas").Series(values).astype(dtype)
    except (ValueError, TypeError):  # numbers that the dtype cannot hold
        return None, np.full(len(values), np.inf)
    return made, made.to_numpy(dtype=np.float64, na_value=np.nan)


def _in_polars(values: np.ndarray, dtype: Any) -> tuple[Any, np.ndarray]:
    """Numbers as a column of a dtype of polars, and what that holds in float64."""
    polars = importlib.import_module("polars")
    made = polars.Series(values, nan_to_null=True).cast(dtype, strict=False)
    return made, made.cast(polars.Float64).to_numpy().astype(np.float64)


def shortest(numbers: np.ndarray) -> np.ndarray:
    """Numbers in float64: of narrower ones the shortest decimals that round to them, 20.09 and not 20.0900002.

    A tree compares with thresholds between the values that it was trained on, in their own precision.
    """
    if numbers.dtype == np.float64 or numbers.dtype.kind != "f":
        return numbers.astype(np.float64)
    bits, place = np.unique(numbers.view(f"i{numbers.itemsize}"), return_inverse=True)  # -0.0 is another than 0.0
    return np.array([float(str(number)) for number in bits.view(numbers.dtype)], np.float64)[place]
