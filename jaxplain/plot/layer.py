"""The layers of a model as a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxplain import check
from jaxplain.plot.table import Cell, draw_table
from jaxplain.plot.values import plain
from jaxplain.program import public

_HEADS = {"forward": "operations forward", "backward": "operations backward"}
"""Names of a `Layer`'s fields that need more words where they stand alone."""


@public
def layer_table(layers: Sequence[Any], *, limit: int = 100) -> Figure:
    """Draw a model's layers as a table, with the totals of what adds up.

    Args:
        layers: What `layers(f)(x)` returns, or any objects (dataclasses, named tuples, mappings) with common fields,
            each a column: path, operation, shape, dtype, parameters, floating-point operations, bytes.
        limit: Most layers drawn, the first ones; the last line says where there are more.

    Returns:
        A figure. Integer columns are added up over all layers in the last row.

    Raises:
        ValueError: No layers, layers with different fields.
        TypeError: Objects without fields.

    Example:
        >>> rows = [{"path": "dense", "operation": "dot", "shape": (10,), "parameters": 650}]
        >>> figure = layer_table(rows)
        >>> [text.get_text() for text in figure.axes[0].texts][-4:]
        ['total', '', '', '650']
    """
    rows = [_fields(layer) for layer in layers]
    if not rows:
        raise ValueError("layer_table: `layers` is empty; there is nothing to draw.")
    if any(list(row) != list(rows[0]) for row in rows):
        raise ValueError(f"layer_table: the layers differ in their fields, {list(rows[0])} in the first.")
    columns = list(rows[0])
    check.count(limit, "layer_table", "limit")
    counts = [name for name in columns if all(_is_count(row[name]) for row in rows)]
    heads = [Cell(_HEADS.get(name, plain(name.replace("_", " "))), right=name in counts) for name in columns]
    drawn = [[Cell(_value(row[name]), right=name in counts) for name in columns] for row in rows[:limit]]
    if len(rows) > limit:
        rest = f"… and {len(rows) - limit} more"
        drawn.append([Cell(rest if name == columns[0] else "", faint=True) for name in columns])
    if counts:
        totals = {name: _count(sum(int(row[name]) for row in rows)) for name in counts}
        first = columns[0]
        drawn.append([Cell(totals.get(c, "total" if c == first else ""), c in counts, bold=True) for c in columns])
    return draw_table(heads, drawn, f"Table of {len(rows)} layers: {', '.join(columns)}".replace("_", " "))


def _fields(layer: Any) -> dict[str, Any]:
    if isinstance(layer, Mapping):
        return {str(name): value for name, value in layer.items()}
    if dataclasses.is_dataclass(layer) and not isinstance(layer, type):
        return {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)}
    if hasattr(layer, "_asdict"):
        return dict(layer._asdict())
    raise TypeError(f"layer_table: {layer!r} has no fields; pass what `layers(f)(x)` returns, or mappings.")


def _is_count(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if _is_count(value):
        return _count(int(value))
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple | list):
        return plain(f"[{', '.join(map(str, value))}]")
    return plain(value) if value != "" else "(no module)"


def _count(number: int) -> str:
    """A count as it is, from ten millions on with four digits and a unit."""
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6)):
        if number >= max(size, 10**7):
            return f"{number / size:.4g} {unit}"
    return f"{number:,}"
