"""A time series with the stretches that decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxplain import check
from jaxplain.plot.canvas import NEUTRAL, canvas, colour_bar, diverging, largest, open_sides, wrapped
from jaxplain.plot.caption import drawn
from jaxplain.plot.sequence.stretch import MARKS, coloured_curve, per_second, stretch_size, stretch_sums
from jaxplain.plot.values import batch, measured, plain, texts


@drawn
def series(
    inputs: Any,
    attributions: Any,
    *,
    names: Sequence[Any] | None = None,
    rate: Any = None,
    mark: str = "background",
    stretch: int | None = None,
    limit: int = 8,
    xlabel: str = "step",
    units: Any = None,
) -> Figure:
    """Draw a time series as lines, a panel a channel, with its stretches coloured by their attributions.

    Red speaks for the score, blue against, white is zero; all channels have one scale.

    Args:
        inputs: One example, `[T]` or `[T, C]`.
        attributions: `[T, C]` in units of the score, or `[T]` of whole steps, which is drawn at every channel.
        names: Names of the channels, `[C]`.
        rate: Steps in a second; the axis is in seconds then.
        mark: "background" colours what is behind the line, "line" the line itself.
        stretch: Steps whose attributions are added up to one coloured stretch; None takes 1, or more where there are
            above 1000 steps, which is written at the colour bar.
        limit: Most channels drawn, those with the largest attributions (in absolute value, added up), in their order.
        xlabel: What a step is, where there is no `rate`.
        units: What the score is measured in: a text, or the score that was explained (`jaxplain.logit(...)`).

    Returns:
        A figure.

    Raises:
        ValueError: Wrong shapes, NaN, counts that do not match, an unknown `mark`.
        TypeError: No arrays of numbers.

    Example:
        >>> figure = series([0.0, 1.0, 0.0], [0.1, 2.0, -0.3], rate=100)
        >>> figure.axes[0].get_xlabel()
        'time (s)'
    """
    check.choice(mark, MARKS, "series", "mark")
    curves, table, shared = _checked(inputs, attributions)
    step = 1.0 if rate is None else 1.0 / per_second(rate, "series")
    size = stretch_size(stretch, len(curves), "series")
    sums = stretch_sums(table, size)
    chosen = np.sort(np.argsort(-np.abs(table).sum(axis=0), kind="stable")[: check.count(limit, "series", "limit")])
    channels = curves.shape[1]
    heads = texts(names, channels, "series", "names", "channel {}" if channels > 1 else "input")
    label = measured("attribution", units, "series")
    label += ", of all channels" if shared and channels > 1 else ""
    label += f",\nsums of {size} steps" if size > 1 else ""
    axis = plain(xlabel) if rate is None else "time (s)"
    norm = diverging(largest(sums[:, chosen]))
    description = (
        f"{len(curves)} steps of {len(chosen)} channels, coloured by attribution: red for the score, blue against"
    )
    figure = canvas(7.4, 0.7 + max(1.0, 2.0 - 0.3 * len(chosen)) * len(chosen), description)
    grid = figure.subplots(len(chosen), 1, squeeze=False, sharex=True)[:, 0]
    for axes, k in zip(grid, chosen, strict=True):
        coloured_curve(axes, curves[:, k], sums[:, k], size, norm, step=step, mark=mark)
        open_sides(axes).tick_params(labelsize=8)
        axes.set_ylabel(wrapped(heads[k], 16, 3), fontsize=9, rotation=0, ha="right", va="center")
    grid[-1].set_xlabel(axis, fontsize=9)
    colour_bar(figure, list(grid), norm, values=sums[:, chosen], label=label)
    if len(chosen) < channels:
        words = f"the {len(chosen)} of {channels} channels with the largest attributions"
        figure.suptitle(words, fontsize=9, color=NEUTRAL)
    return figure


def _checked(inputs: Any, attributions: Any) -> tuple[np.ndarray, np.ndarray, bool]:
    """The series and its attributions `[T, C]`, and whether these are of whole steps."""
    curves = batch(inputs, "series", "inputs", {1: "[T]", 2: "[T, C]"})
    table = batch(attributions, "series", "attributions", {1: "[T]", 2: "[T, C]"})
    shared = table.ndim == 1
    curves, table = (array[:, None] if array.ndim == 1 else array for array in (curves, table))
    if len(table) != len(curves) or (table.shape[1] != curves.shape[1] and not shared):
        raise ValueError(
            f"series: `inputs` has shape {np.shape(inputs)}, but `attributions` has {np.shape(attributions)}."
        )
    return curves, np.broadcast_to(table, curves.shape), shared
