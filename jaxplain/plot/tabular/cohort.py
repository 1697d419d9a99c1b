"""Groups of examples beside each other: which features matter for whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxplain.plot.canvas import NEUTRAL, SERIES, canvas, feature_axis, legend_below
from jaxplain.plot.caption import drawn
from jaxplain.plot.tabular.frame import attributions_of
from jaxplain.plot.values import batch, feature_order, measured, number, others, plain, table_of, texts

MOST = 14
"""Groups: their colours come twice, the second time hatched."""


@drawn
def cohorts(
    attributions: Any,
    groups: Any = None,
    *,
    names: Sequence[Any] | None = None,
    order: Sequence[Any] | None = None,
    limit: int = 10,
    units: Any = None,
) -> Figure:
    """Draw features' mean absolute attributions in each group of examples, a bar for each group.

    Args:
        attributions: `[B, D]` in units of the score, with `groups` (a data frame brings its names); or
            `{group: [B, D]}`.
        groups: `[B]`, the group of each example: texts or whole numbers. Numbers are drawn in their order, texts in
            that of their first example.
        names: Names of the features, `[D]`.
        order: Names or indices of the features drawn, from the top; None takes those first of which some group's mean
            is the largest.
        limit: Most features drawn, the first of the order; below them a line for each group says what the rest adds
            up to.
        units: What the score is measured in: a text, or the score that was explained (`jaxplain.logit(...)`).

    Returns:
        A figure; lines at the bars are two standard errors of the mean each way.

    Raises:
        ValueError: Wrong shapes, NaN, counts that do not match, more than 14 groups, an example without a group.
        TypeError: No arrays of numbers.

    Example:
        >>> figure = cohorts([[0.5, -2.0], [1.5, 0.0], [-1.0, 4.0]], ["a", "b", "b"], names=["age", "dose"])
        >>> [float(patch.get_width()) for patch in figure.axes[0].patches]
        [2.0, 0.5, 2.0, 1.25]
    """
    attributions, names = attributions_of(attributions, names, "cohorts")
    tables = _tables(attributions, groups)
    means = np.stack([np.abs(table).mean(axis=0) for table in tables.values()])
    heads = texts(names, means.shape[1], "cohorts", "names", "feature {}")
    chosen = feature_order(means.max(axis=0), limit, "cohorts", order, names)
    rest = np.setdiff1d(np.arange(means.shape[1]), chosen)
    rows = len(chosen) + (rest.size > 0)
    description = f"Mean absolute attributions of {len(chosen)} features in {len(tables)} groups: {', '.join(tables)}"
    figure = canvas(6.2, 0.9 + (0.12 + 0.15 * len(tables)) * rows, description)
    axes = figure.add_subplot()
    high, errors = 0.84 / len(tables), False
    for place, table in enumerate(tables.values()):
        heights = np.arange(rows) + (place - (len(tables) - 1) / 2) * high
        values = means[place][chosen]
        half = 2 * np.abs(table).std(axis=0, ddof=1)[chosen] / len(table) ** 0.5 if len(table) > 1 else None
        errors |= half is not None
        style: dict[str, Any] = {
            "color": SERIES[place % len(SERIES)],
            "hatch": "////" if place >= len(SERIES) else None,
        }
        axes.barh(
            *(heights[: len(chosen)], values, 0.92 * high),
            edgecolor="white",
            linewidth=0,
            xerr=half,
            error_kw={"linewidth": 0.8, "ecolor": "black", "alpha": 0.6},
            **style,
        )
        ends = values if half is None else values + half
        for value, end, height in zip(values, ends, heights, strict=False):
            _write(axes, number(value), end, height)
        if rest.size:
            _write(axes, f"{number(means[place][rest].sum())} in sum", 0.0, heights[-1], color=NEUTRAL)
    feature_axis(axes, [heads[k] for k in chosen] + ([others(rest.size)] if rest.size else []))
    axes.set_xlim(0, 1.14 * axes.dataLim.x1 or 1.0)
    note = "; lines: 2 standard errors" if errors else ""
    axes.set_xlabel(measured("mean |attribution|", units, "cohorts") + note, fontsize=9)
    counts = [f"{name} ({len(t)} example{'s' if len(t) > 1 else ''})" for name, t in tables.items()]
    legend_below(figure, [bars[0] for bars in axes.containers if hasattr(bars, "patches")], counts)
    return figure


def _write(axes: Any, text: str, x: float, y: float, color: str = "black") -> None:
    axes.annotate(text, (x, y), (3, 0), textcoords="offset points", ha="left", va="center", fontsize=7, color=color)


def _tables(attributions: Any, groups: Any) -> dict[str, np.ndarray]:
    """The attributions of each group, `[B, D]`, by the group's name."""
    if isinstance(attributions, Mapping):
        if groups is not None:
            raise ValueError("cohorts: `groups` belongs to one array; `attributions` is {group: array} already.")
        tables = {plain(k): batch(v, "cohorts", f"attributions[{k!r}]", {2: "[B, D]"}) for k, v in attributions.items()}
        given = list(attributions)
    else:
        array = batch(attributions, "cohorts", "attributions", {2: "[B, D]"})
        members = _members(groups, len(array))
        tables, given = {plain(name): array[rows] for name, rows in members.items()}, list(members)
    if len(tables) < len(given):
        raise ValueError(f"cohorts: two groups have one name: {given}.")
    sizes = {table.shape[1] for table in tables.values()}
    if len(sizes) > 1:
        raise ValueError(f"cohorts: `attributions` of the groups differ in their features: {sorted(sizes)}.")
    if not 1 <= len(tables) <= MOST:
        raise ValueError(
            f"cohorts: there are {len(tables)} groups; 1 to {MOST} can be told apart. Cut numbers into ranges first "
            "(`np.digitize`), or take the groups that matter."
        )
    return tables


def _members(groups: Any, count: int) -> dict[Any, np.ndarray]:
    """The examples of each group."""
    if groups is None:
        raise ValueError("cohorts: `groups` is missing; pass the group of each example [B], or {group: attributions}.")
    array = table_of(groups, "cohorts", "groups")
    if array.shape != (count,):
        raise ValueError(f"cohorts: `groups` has shape {array.shape}, but there are {count} examples.")
    missing = [k for k, item in enumerate(array.tolist()) if item is None or item != item]
    if missing:
        raise ValueError(
            f"cohorts: `groups` is missing for {len(missing)} examples (the first is number {missing[0]}); give them a "
            "name of their own, or leave them out."
        )
    found = np.unique(array) if array.dtype.kind in "biuf" else dict.fromkeys(array.tolist())
    whole = array.dtype.kind == "f" and (array == np.round(array)).all()
    return {int(item) if whole else item: array == item for item in found}
