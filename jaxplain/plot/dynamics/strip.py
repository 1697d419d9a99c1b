"""Attributions of a few examples over training, a column for each checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from jaxplain import check
from jaxplain.plot.canvas import (
    DIVERGING,
    NEUTRAL,
    bare,
    canvas,
    check_percentile,
    colour_bar,
    diverging,
    fitted,
    largest,
    picture,
    row_name,
    shown,
    wrapped,
)
from jaxplain.plot.caption import drawn
from jaxplain.plot.dynamics.steps import chosen, rising
from jaxplain.plot.values import batch, images, label_texts, measured, number, texts

SCALES = ("panel", "example", "shared")
NAMED = 40
"""Most rows of a table that have a line of their own."""
SHAPES = {3: "[B, S, D]", 4: "[B, S, H, W]", 5: "[B, S, H, W, C]"}


class Maps(NamedTuple):
    """What a strip or an animation shows: inputs, maps `[B, S, ...]`, steps, titles, and what was left out in words."""

    inputs: np.ndarray
    maps: np.ndarray
    steps: np.ndarray
    titles: list[str]
    more: str


def maps_of(inputs: Any, attributions: Any, steps: Any, labels: Any, names: Any, limit: int, name: str) -> Maps:
    """The checked arrays, with the channels of images summed."""
    values = batch(attributions, name, "attributions", SHAPES)
    count, more = shown(len(values), limit, name, "examples")
    table = values.ndim == 3
    own = batch(inputs, name, "inputs", {2: "[B, D]"}) if table else images(inputs, name, "inputs")
    same = own.shape == values.shape[:1] + values.shape[2:] if table else len(own) == len(values)
    if not same:
        raise ValueError(
            f"{name}: `inputs` has shape {np.shape(inputs)}, but `attributions` {np.shape(attributions)}; pass the "
            "same examples, [B, ...], and what explain_batch(explain_over(method, snapshots), x) returns, [B, S, ...]."
        )
    titles = label_texts(labels, len(own), names, name)
    maps = (values.sum(axis=-1) if values.ndim == 5 else values)[:count]
    return Maps(own[:count], maps, rising(steps, values.shape[1], name), titles[:count], more)


@drawn
def attribution_strip(
    inputs: Any,
    attributions: Any,
    steps: Any,
    labels: Any = None,
    *,
    names: Sequence[Any] | None = None,
    features: Sequence[Any] | None = None,
    scale: str = "example",
    percentile: float = 100.0,
    columns: int = 10,
    limit: int = 4,
    units: Any = None,
) -> Figure:
    """Draw attributions over training: a row for each example, a column for each checkpoint.

    Args:
        inputs: The examples, images `[B, H, W]` or `[B, H, W, C]`, or rows of a table `[B, D]`.
        attributions: `[B, S, H, W]`, `[B, S, H, W, C]` (summed over channels) or `[B, S, D]`, what
            `explain_batch(explain_over(method, snapshots), inputs)` returns.
        steps: `[S]`, those of the snapshots.
        labels: `[B]`, classes, numbers or texts written beside the examples.
        names: Names of the classes.
        features: Names of a table's columns, `[D]`; of more than 40 every so many are written.
        scale: What has one scale of colours: "example" (a row: shows how the attribution grows), "panel" (each map:
            shows where) or "shared" (all).
        percentile: As in `heatmaps`.
        columns: Most checkpoints drawn, evenly spread with the first and the last.
        limit: Most examples drawn, the first ones.
        units: What the score is measured in, written above: a text, or the score that was explained
            (`jaxplain.logit(...)`).

    Returns:
        A figure. Of a table each example is one map, features by checkpoints (one scale for each example or all).

    Raises:
        ValueError: Wrong shapes, counts that do not match, steps that do not rise, NaN.
        TypeError: No arrays of numbers.

    Example:
        >>> import numpy as np
        >>> figure = attribution_strip(np.zeros((1, 4, 4)), np.ones((1, 3, 4, 4)), [0, 10, 20])
        >>> [axes.get_title() for axes in figure.axes[:4]]
        ['input', 'step 0', 'step 10', 'step 20']
    """
    name = "attribution_strip"
    check.choice(scale, SCALES, name, "scale")
    check_percentile(percentile, name)
    found = maps_of(inputs, attributions, steps, labels, names, limit, name)
    picked = chosen(len(found.steps), columns, name)
    left = [found.more] if found.more else []
    left += [] if units is None else [measured("attribution", units, name)]
    if len(picked) < len(found.steps):
        left.append(f"{len(picked)} of {len(found.steps)} checkpoints")
    found = found._replace(maps=found.maps[:, picked], steps=found.steps[picked])
    whole = diverging(largest(found.maps, percentile))
    if found.maps.ndim == 3:
        heads = texts(features, found.maps.shape[2], name, "features", "feature {}")
        figure = _tables(found, heads, scale, percentile, whole)
    else:
        figure = _images(found, scale, percentile, whole)
    if left:
        figure.suptitle(("; " if figure.get_figwidth() > 4 else ";\n").join(left), fontsize=9, color=NEUTRAL)
    return figure


def _images(found: Maps, scale: str, percentile: float, whole: Any) -> Figure:
    count, size = found.maps.shape[:2]
    description = f"Attributions of {count} images at {size} steps of training: red speaks for the score, blue against"
    figure = canvas(1.2 * (size + 1) + 0.9, 1.3 * count + 0.5, description)
    grid: Any = figure.subplots(count, size + 1, squeeze=False)
    for row in range(count):
        row_name(picture(grid[row, 0], found.inputs[row]), found.titles[row])
        own = whole if scale == "shared" else diverging(largest(found.maps[row], percentile))
        for column, values in enumerate(found.maps[row]):
            norm = diverging(largest(values, percentile)) if scale == "panel" else own
            bare(grid[row, column + 1]).imshow(values, cmap=DIVERGING, norm=norm, interpolation="nearest")
        if scale == "example":
            colour_bar(figure, grid[row].tolist(), own, values=found.maps[row])
    for axes, title in zip(grid[0], ["input", *(f"step {step}" for step in found.steps)], strict=True):
        axes.set_title(title, fontsize=8)
    if scale == "shared":
        colour_bar(figure, grid.ravel().tolist(), whole, values=found.maps, label="attribution")
    return figure


def _tables(found: Maps, heads: list[str], scale: str, percentile: float, whole: Any) -> Figure:
    count, size, wide = found.maps.shape
    description = f"Attributions of {wide} features at {size} steps of training, {count} examples"
    lines = -(-wide // NAMED)  # of more features than can be named, every so many are
    heads = [wrapped(head, 50, 2) for head in heads]
    longest = max(len(line) for head in heads[::lines] for line in head.split("\n"))
    figure = canvas(0.55 * size + 1.8 + 0.065 * longest, (0.22 * min(wide, NAMED) + 0.9) * count, description)
    for row, axes in enumerate(figure.subplots(count, 1, squeeze=False)[:, 0]):
        norm = whole if scale == "shared" else diverging(largest(found.maps[row], percentile))
        axes.imshow(found.maps[row].T, cmap=DIVERGING, norm=norm, interpolation="nearest", aspect="auto")
        words = [f"{head} = {number(value)}" for head, value in zip(heads, found.inputs[row], strict=True)]
        axes.set_yticks(range(0, wide, lines), words[::lines], fontsize=6 if any("\n" in word for word in words) else 7)
        axes.set_xticks(range(size), [str(step) for step in found.steps], fontsize=7)
        axes.tick_params(length=0)
        axes.set_title(fitted(found.titles[row], 0.55 * size + 0.9, 8, 3), fontsize=8)
        axes.set_xlabel("step of training", fontsize=8)
        colour_bar(figure, axes, norm, values=found.maps[row])
    return figure
