"""Tables as figures: the layers of a model, the scores of methods."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from jaxplain import check
from jaxplain.plot.canvas import NEUTRAL
from jaxplain.plot.values import numbers, plain

SIZE = 9.0

_HEADS = {"forward": "operations forward", "backward": "operations backward"}
"""Names of a `Layer`'s fields that need more words where they stand alone."""
LINE, GAP, MARGIN = 0.24, 0.28, 0.18


@dataclasses.dataclass(frozen=True)
class Cell:
    """One text of a table: numbers stand at the right of their column, words at the left."""

    text: str
    right: bool = False
    bold: bool = False
    faint: bool = False


def draw_table(heads: Sequence[Cell], rows: Sequence[Sequence[Cell]], description: str, note: str = "") -> Figure:
    """Draw rows of cells below their heads, each column as wide as its longest text."""
    columns = list(zip(heads, *rows, strict=True))
    widths = [max(_width(cell) for cell in column) + GAP for column in columns]
    starts = np.concatenate([[0.0], np.cumsum(widths)])
    high = (len(rows) + 1) * LINE + 2 * MARGIN + (LINE if note else 0)
    wide = max(starts[-1], _width(Cell(note))) + 2 * MARGIN
    figure = Figure(figsize=(wide, high))
    figure.set_label(description)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-MARGIN, wide - MARGIN), ylim=(high - MARGIN, -MARGIN))
    axes.set_axis_off()
    for row, cells in enumerate([heads, *rows]):
        middle = (row + 0.5) * LINE
        if row % 2 == 0 and row > 0:
            axes.fill_between([0, starts[-1]], row * LINE, (row + 1) * LINE, color=NEUTRAL, alpha=0.08, linewidth=0)
        for start, width, cell in zip(starts, widths, cells, strict=False):
            x, side = (start + width - GAP / 2, "right") if cell.right else (start + GAP / 2, "left")
            weight = "bold" if cell.bold or row == 0 else "normal"
            text = axes.text(x, middle, cell.text, ha=side, va="center_baseline", fontsize=SIZE, weight=weight)
            if cell.faint:
                text.set_color(NEUTRAL)
    axes.plot([0, starts[-1]], [LINE, LINE], color=NEUTRAL, linewidth=1)
    if note:
        axes.text(GAP / 2, (len(rows) + 1.6) * LINE, note, va="center", fontsize=SIZE - 1, color=NEUTRAL)
    return figure


def _width(cell: Cell) -> float:
    """Width of a text in inches; bold letters are about an eighth wider."""
    if not cell.text.strip():
        return 0.0
    return 1.13 * TextPath((0, 0), cell.text, size=SIZE).get_extents().width / 72


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


def scores_table(
    scores: Mapping[str, Mapping[str, Any]],
    *,
    better: Mapping[str, str] | None = None,
    control: str | Sequence[str] = "random",
) -> Figure:
    """Draw the scores of methods as a table, the control in grey.

    Args:
        scores: `{method: {metric: value}}`; a value is a number, or `[B]` for B examples, of which the mean is
            written with half the width of its 95 % confidence interval, 1.96 s / sqrt(B). NaN marks examples for
            which a metric is undefined; they are left out and counted below the table. A dash stands for no value.
        better: `{metric: "higher"}` or `"lower"`: puts an arrow at the metric and the best method (controls apart) in
            bold.
        control: Names of the rows to compare with.

    Returns:
        A figure.

    Raises:
        ValueError: No methods or metrics, infinite values, `better` of an unknown metric or word.
        TypeError: Values that are no numbers.

    Example:
        >>> figure = scores_table({"saliency": {"deletion": 0.31}, "random": {"deletion": 0.55}})
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['', 'deletion', 'saliency', '0.310', 'random', '0.550']
    """
    metrics = list(dict.fromkeys(metric for row in scores.values() for metric in row))
    if not metrics:
        raise ValueError("scores_table: `scores` is empty; pass {method: {metric: value}}.")
    better = dict(better or {})
    for metric, way in better.items():
        if metric not in metrics:
            raise ValueError(f"scores_table: `better` names {metric!r}, which is none of {', '.join(metrics)}.")
        check.choice(way, ("higher", "lower"), "scores_table", f"better[{metric!r}]")
    controls = {control} if isinstance(control, str) else set(control)
    table = {(method, metric): _mean(row[metric], method, metric) for method, row in scores.items() for metric in row}
    decimals = {metric: _decimals([table[key][0] for key in table if key[1] == metric]) for metric in metrics}
    best = {metric: _best(table, metric, way, controls) for metric, way in better.items()}
    arrows = {"higher": " ↑", "lower": " ↓"}
    heads = [
        Cell(""),
        *(Cell(plain(metric) + arrows.get(better.get(metric, ""), ""), right=True) for metric in metrics),
    ]
    rows = []
    for method in scores:
        faint = method in controls
        cells = [Cell(plain(method), faint=faint)]
        for metric in metrics:
            text = _score(table.get((method, metric)), decimals[metric])
            cells.append(Cell(text, right=True, bold=method == best.get(metric), faint=faint))
        rows.append(cells)
    notes = [f"{m} of {k}: {entry[2]} undefined" for (m, k), entry in table.items() if entry[2]]
    note = plain("; ".join(notes[:3]) + (f"; and {len(notes) - 3} more" if len(notes) > 3 else ""))
    return draw_table(heads, rows, f"Scores of {', '.join(scores)} by {', '.join(metrics)}", note)


Entry = tuple[float, float, int]
"""Mean, half the width of its interval (NaN for a single number), and how many values are undefined."""


def _mean(value: Any, method: str, metric: str) -> Entry:
    argument = f"scores[{method!r}][{metric!r}]"
    array = numbers(value, "scores_table", argument, finite=False)
    if array.ndim > 1 or np.isinf(array).any():
        raise ValueError(f"scores_table: `{argument}` has to be a finite number or [B], not of shape {array.shape}.")
    known = array[~np.isnan(array)]
    undefined = array.size - known.size if array.ndim else 0
    if known.size == 0:
        return math.nan, math.nan, undefined
    half = 1.96 * float(known.std(ddof=1)) / math.sqrt(known.size) if known.size > 1 else math.nan
    return float(known.mean()), half, undefined


def _decimals(means: list[float]) -> int:
    """Decimals that give the largest value of a column three digits."""
    finite = [abs(mean) for mean in means if not math.isnan(mean) and mean != 0]
    return min(8, max(0, 2 - math.floor(math.log10(max(finite))))) if finite else 2


def _score(entry: Entry | None, decimals: int) -> str:
    if entry is None or math.isnan(entry[0]):
        return "-"
    half = "" if math.isnan(entry[1]) else f" ± {entry[1]:.{decimals}f}"
    return f"{entry[0]:.{decimals}f}{half}"


def _best(table: Mapping[tuple[str, str], Entry], metric: str, way: str, controls: set[str]) -> str | None:
    sign = 1 if way == "higher" else -1
    means = {m: sign * entry[0] for (m, k), entry in table.items() if k == metric and m not in controls}
    means = {method: mean for method, mean in means.items() if not math.isnan(mean)}
    return max(means, key=means.__getitem__) if means else None
