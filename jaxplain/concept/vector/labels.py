"""What concepts are given as: activations of one layer, for each concept which examples show it and which not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.types import Array


class Chosen(NamedTuple):
    """The examples of C concepts, filled up to the largest of them.

    rows: `[C, m]`, those of the activations; signs: `[C, m]`, 1 for an example of the concept, -1 for one without it, 0
    for filling; kept: `[C, m]`, 1 for what the accuracy is fitted on, 0 for what it is measured on.
    """

    rows: np.ndarray
    signs: np.ndarray
    kept: np.ndarray


def activations_of(activations: Any, name: str, argument: str = "activations") -> Array:
    """Require activations `[N, ...]` of finite real numbers that are not all alike, in a floating-point type."""
    activations = listed(activations, name, argument)
    check.arrays(activations, name, argument)
    if not hasattr(activations, "shape"):
        raise TypeError(
            f"{name}: `{argument}` is {check.short(activations)}; pass one array [N, ...], the values of one layer."
        )
    check.real(activations, name, argument)
    values = jnp.asarray(activations)
    if values.ndim < 2:
        raise ValueError(f"{name}: `{argument}` has shape {values.shape}; it has to be [N, ...], one row an example.")
    if not check.is_floating(values) or values.dtype.itemsize < 4:
        values = values.astype(jnp.float32)
    check.finite(values, name, argument)
    if check.is_concrete(values) and bool(jnp.all(values == values[:1])):
        raise ValueError(
            f"{name}: `{argument}` are constant: all {len(values)} examples have the same values, so nothing tells "
            "concepts apart. Check that the layer depends on the input (a dead ReLU does not)."
        )
    return values


def listed(value: Any, name: str, argument: str) -> Any:
    """A list as the array that it makes; anything else as it is."""
    if not isinstance(value, list | tuple):
        return value
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: `{argument}` has rows of different lengths; pass an array.") from error


def labels_of(concepts: Any, count: int, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Require 1 / -1 / 0 (or True / False) for each of `count` examples, as int8 `[C, N]`; and the concepts' names."""
    names: tuple[str, ...] = ()
    if isinstance(concepts, Mapping):
        names, concepts = tuple(map(str, concepts)), list(concepts.values())
    concepts = listed(concepts, name, "concepts")
    check.arrays(concepts, name, "concepts")
    if not check.is_concrete(concepts):
        raise TypeError(f"{name}: `concepts` is being traced; which examples show a concept has to be known.")
    if not hasattr(concepts, "shape"):
        raise TypeError(
            f"{name}: `concepts` is {check.short(concepts)}; pass an array [C, {count}], or a mapping of names to rows."
        )
    rows = np.asarray(concepts)
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.shape[1] != count:
        raise ValueError(
            f"{name}: `concepts` has shape {rows.shape}, but there are {count} examples; pass [C, {count}], a row for "
            "each concept: 1 where an example shows it, -1 where it does not, 0 where it is left out."
        )
    if rows.dtype == bool:
        rows = np.where(rows, 1, -1)
    odd = np.argwhere(~np.isin(rows, (-1, 0, 1)))
    if len(odd):
        raise ValueError(
            f"{name}: `concepts` has {len(odd)} values other than 1, -1 and 0 (the first, {rows[tuple(odd[0])]}, at "
            f"index {tuple(int(i) for i in odd[0])})."
        )
    names = names or tuple(str(number) for number in range(len(rows)))
    for label, row in zip(names, rows, strict=True):
        for sign, words in ((1, "example(s) (1 or True)"), (-1, "example(s) without it (-1 or False)")):
            if (found := int((row == sign).sum())) < 2:
                raise ValueError(
                    f"{name}: concept {label!r} has {found} {words}; at least 2 are needed of either kind, so that one "
                    "can be held out."
                )
    return rows.astype(np.int8), names


def chosen(labels: np.ndarray, fraction: float) -> Chosen:
    """The rows of each concept, and which of them are held out: evenly spread over either kind, at least one."""
    width = int(np.count_nonzero(labels, axis=1).max())
    index, signs, kept = (np.zeros((len(labels), width), dtype) for dtype in (np.int32, np.int8, np.int8))
    for place, row in enumerate(labels):
        rows = np.concatenate([np.flatnonzero(row == 1), np.flatnonzero(row == -1)])
        index[place, : len(rows)], signs[place, : len(rows)] = rows, row[rows]
        first = 0
        for size in ((row == 1).sum(), (row == -1).sum()):
            spread = held_out(int(size), fraction)
            kept[place, first : first + size] = 1
            kept[place, first + spread] = 0
            first += size
    return Chosen(index, signs, kept)


def held_out(size: int, fraction: float) -> np.ndarray:
    """Places of a share of `size` examples, evenly spread, at least one and never all."""
    count = min(max(1, round(fraction * size)), size - 1)
    return np.floor((np.arange(count) + 0.5) * size / count).astype(int)


def share(fraction: float, name: str) -> None:
    """Require a share of the examples to hold out that leaves some."""
    if not 0 <= fraction < 1:
        raise ValueError(f"{name}: `fraction` has to lie in [0, 1), not {fraction}; 0 holds nothing out.")
