"""The scores of methods under metrics as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxplain import check
from jaxplain.plot.caption import drawn
from jaxplain.plot.table import Cell, draw_table
from jaxplain.plot.values import numbers, plain


@drawn
def scores_table(
    scores: Any,
    *,
    better: Mapping[str, str] | None = None,
    control: str | Sequence[str] = "random",
) -> Figure:
    """Draw the scores of methods as a table, the control in grey.

    Args:
        scores: `{method: {metric: value}}`; a value is a number, or `[B]` for B examples, of which the mean is
            written with half the width of its 95 % confidence interval, 1.96 s / sqrt(B), after a ±. NaN marks
            examples for which a metric is undefined; they are left out and counted below the table. A dash stands for
            no value. What `score_table` returned serves too: it says itself which way is better, and a star marks a
            score that is better than the control, "!" one that is worse: the bootstrap interval of the paired
            difference excludes 0.
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
    rows, better, marks, note = _read(scores, dict(better or {}))
    metrics = list(dict.fromkeys(metric for row in rows.values() for metric in row))
    if not metrics:
        raise ValueError("scores_table: `scores` is empty; pass {method: {metric: value}}.")
    for metric, way in better.items():
        if metric not in metrics:
            raise ValueError(f"scores_table: `better` names {metric!r}, which is none of {', '.join(metrics)}.")
        check.choice(way, tuple(_ARROWS), "scores_table", f"better[{metric!r}]")
    controls = {control} if isinstance(control, str) else set(control)
    entries = {(method, metric): _mean(row[metric], method, metric) for method, row in rows.items() for metric in row}
    decimals = {
        metric: _decimals([entry[0] for key, entry in entries.items() if key[1] == metric]) for metric in metrics
    }
    best = {(_best(entries, metric, way, controls), metric) for metric, way in better.items()}

    def cell(method: str, metric: str) -> Cell:
        text = _text(entries.get((method, metric)), decimals[metric]) + marks.get((method, metric), "")
        return Cell(text, right=True, bold=(method, metric) in best, faint=method in controls)

    heads = [Cell(plain(metric) + _ARROWS.get(better.get(metric, ""), ""), right=True) for metric in metrics]
    body = [[Cell(plain(method), faint=method in controls), *(cell(method, m) for m in metrics)] for method in rows]
    description = f"Scores of {', '.join(rows)} by {', '.join(metrics)}"
    return draw_table([Cell(""), *heads], body, description, _notes(note, entries))


_ARROWS = {"higher": " ↑", "lower": " ↓"}


_MARKS = {"better": " *", "worse": " !"}


def _read(scores: Any, better: dict[str, str]) -> tuple[Any, dict[str, str], dict[tuple[str, str], str], str]:
    """Rows, which way is better, the marks of a `ScoreTable`'s cells beside the control, and the words for those."""
    if isinstance(scores, Mapping):
        for method, row in scores.items():
            if not isinstance(row, Mapping):
                raise TypeError(f"scores_table: `scores[{method!r}]` has to be a mapping, not {check.short(row)}.")
        return scores, better, {}, ""
    if not all(hasattr(scores, name) for name in ("methods", "metrics", "better", "values", "verdict")):
        raise TypeError(
            f"scores_table: `scores` is {type(scores).__name__}; pass {{method: {{metric: value}}}}, or what "
            "`score_table` returned."
        )
    ways = {metric: way for metric, way in zip(scores.metrics, scores.better, strict=True) if way}
    rows = {
        m: dict(zip(scores.metrics, row, strict=True)) for m, row in zip(scores.methods, scores.values, strict=True)
    }
    cells = [(m, k) for m in scores.methods for k in scores.metrics]
    marks = {cell: _MARKS[scores.verdict(*cell)] for cell in cells if scores.verdict(*cell) in _MARKS}
    words = [f"{mark.strip()} {word}" for word, mark in _MARKS.items() if mark in marks.values()]
    interval = f"{scores.confidence:.0%} interval of the paired difference"
    note = f"{', '.join(words)} than {scores.methods[-1]} ({interval} excludes 0)" if words else ""
    return rows, ways | better, marks, note


def _notes(note: str, entries: Mapping[tuple[str, str], Entry]) -> str:
    """The lines below the table: what marks mean, and how many examples are undefined."""
    missing = [f"{metric} of {method}: {entry[2]} undefined" for (method, metric), entry in entries.items() if entry[2]]
    more = f"and {len(missing) - 3} more" if len(missing) > 3 else ""
    spread = any(not math.isnan(half) for _, half, _ in entries.values())
    half = "± half the width of the mean's 95% confidence interval, 1.96 s / sqrt(n)" if spread else ""
    lines = (note, half, "; ".join(part for part in (*missing[:3], more) if part))
    return plain("\n".join(line for line in lines if line))


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


def _text(entry: Entry | None, decimals: int) -> str:
    if entry is None or math.isnan(entry[0]):
        return "-"
    # A gap of 1e-7 beside one of 1 is not nothing.
    vanishes = entry[0] != 0 and round(entry[0], decimals) == 0
    form = ".1e" if vanishes else f".{decimals}f"
    half = "" if math.isnan(entry[1]) else f" ± {entry[1]:{form}}"
    return f"{entry[0]:{form}}{half}"


def _best(table: Mapping[tuple[str, str], Entry], metric: str, way: str, controls: set[str]) -> str | None:
    sign = 1 if way == "higher" else -1
    means = {m: sign * entry[0] for (m, k), entry in table.items() if k == metric and m not in controls}
    means = {method: mean for method, mean in means.items() if not math.isnan(mean)}
    return max(means, key=means.__getitem__) if means else None
