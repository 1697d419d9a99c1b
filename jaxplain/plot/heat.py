"""Attributions over images as heat maps, several methods beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
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
)
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import batch, images, label_texts, measured, plain

SCALES = ("panel", "method", "shared")


@drawn
def heatmaps(
    inputs: Any,
    attributions: Any,
    labels: Any = None,
    *,
    names: Sequence[Any] | None = None,
    scale: str = "panel",
    percentile: float = 100.0,
    overlay: bool = False,
    limit: int = 8,
    units: Any = None,
) -> Figure:
    """Draw signed attributions beside the images they explain: red speaks for the score, blue against, white is zero.

    A pixel's value is the sum over its channels, so that a map still adds up to what the attribution adds up to. Each
    scale is symmetric about zero.

    Args:
        inputs: Images `[B, H, W]` or `[B, H, W, C]`.
        attributions: `{method: [B, h, w(, C)]}`, a column each, or one array. A coarser map, such as a class
            activation map, is drawn over the whole image.
        labels: `[B]`, classes, numbers or texts written beside the images.
        names: Names of the classes, `[K]`.
        scale: What has one scale and colour bar: "panel" (each map; shows where), "method" (a column; compares
            examples) or "shared" (all; compares methods in the units of the score).
        percentile: The end of a scale is this percentile of the absolute values that are not zero; below 100 a few
            large values saturate (the colour bar then has arrows) instead of whitening the rest.
        overlay: Draw each map over its greyed image, the more opaque the larger the value.
        limit: Most examples drawn, the first ones; the title says where there are more.
        units: What the score is measured in, written at the colour bar of a shared scale and in the title of others: a
            text, or the score that was explained (`jaxplain.logit(...)`).

    Returns:
        A figure with one row for each example.

    Raises:
        ValueError: Wrong shapes, an empty set, NaN in the images or attributions, counts that do not match.
        TypeError: No array of numbers.

    Example:
        >>> import numpy as np
        >>> figure = heatmaps(np.zeros((2, 8, 8, 1)), {"gradient": np.ones((2, 8, 8, 1))}, scale="shared")
        >>> [axes.get_title() for axes in figure.axes][:2]
        ['input', 'gradient']
    """
    check.choice(scale, SCALES, "heatmaps", "scale")
    check_percentile(percentile, "heatmaps")
    pictures = images(inputs, "heatmaps", "inputs")
    titles = label_texts(labels, len(pictures), names, "heatmaps")
    count, more = shown(len(pictures), limit, "heatmaps", "examples")
    label = measured("attribution", units, "heatmaps")
    maps = _maps(attributions, len(pictures), count)
    figure, grid = _grid(count, len(maps), scale, _description(maps, count))
    everything = np.concatenate([values.ravel() for values in maps.values()])
    for row in range(count):
        row_name(picture(grid[row, 0], pictures[row]), titles[row])
        for column, values in enumerate(maps.values(), start=1):
            source = {"panel": values[row], "method": values, "shared": everything}[scale]
            norm = diverging(largest(source, percentile))
            _draw(grid[row, column], values[row], norm, pictures[row] if overlay else None)
            if scale == "panel":
                colour_bar(figure, grid[row, column], norm, values=values[row])
    for column, title in enumerate(["input", *maps]):
        grid[0, column].set_title(fitted(plain(title), 1.25, 9, 3), fontsize=9)
    if scale == "method":
        for column, values in enumerate(maps.values(), start=1):
            norm = diverging(largest(values, percentile))
            colour_bar(figure, None, norm, values=values, inside=grid[count, column])
    elif scale == "shared":
        norm = diverging(largest(everything, percentile))
        colour_bar(figure, grid.ravel().tolist(), norm, values=everything, label=label)
    said = [more, label if units is not None and scale != "shared" else ""]
    if any(said):
        figure.suptitle("; ".join(filter(None, said)), fontsize=9, color=NEUTRAL)
    return figure


def _grid(count: int, methods: int, scale: str, description: str) -> tuple[Figure, np.ndarray]:
    """Axes for the inputs in the first column and for each method's maps, a row for bars below if they need one."""
    wide = {"panel": 1.75, "method": 1.5, "shared": 1.35}[scale]
    figure = canvas(1.45 + wide * methods + 0.5 * (scale == "shared"), 1.35 * count + 0.4, description)
    if scale != "method":
        return figure, figure.subplots(count, 1 + methods, squeeze=False)
    grid = figure.subplots(count + 1, 1 + methods, squeeze=False, height_ratios=[1] * count + [0.06])
    grid[count, 0].remove()
    return figure, grid


def _maps(attributions: Any, size: int, count: int) -> dict[str, np.ndarray]:
    """The maps to draw, `[count, h, w]` each, summed over channels."""
    if not isinstance(attributions, Mapping):
        attributions = {"attribution": attributions}
    if not attributions:
        raise ValueError("heatmaps: `attributions` is empty; pass {method: array}.")
    maps = {}
    for method, value in attributions.items():
        argument = f"attributions[{method!r}]"
        array = batch(value, "heatmaps", argument, {3: "[B, H, W]", 4: "[B, H, W, C]"})
        if len(array) != size:
            raise ValueError(
                f"heatmaps: `{argument}` has shape {array.shape}, but `inputs` holds {size} images; both have to hold "
                "the same examples."
            )
        maps[str(method)] = (array.sum(axis=-1) if array.ndim == 4 else array)[:count]
    return maps


def _draw(axes: Axes, values: np.ndarray, norm: Normalize, behind: np.ndarray | None) -> None:
    if behind is None:
        axes.imshow(values, cmap=DIVERGING, norm=norm, interpolation="nearest")
    else:
        high, wide = behind.shape[:2]
        grey = behind if behind.ndim == 2 else behind[..., :3].mean(axis=-1)
        extent = (-0.5, wide - 0.5, high - 0.5, -0.5)
        axes.imshow(grey, cmap="gray", vmin=-1, vmax=1, extent=extent, interpolation="nearest")
        opacity = np.clip(np.abs(values) / (norm.vmax or 1.0), 0, 1)
        axes.imshow(values, cmap=DIVERGING, norm=norm, alpha=opacity, extent=extent, interpolation="nearest")
    bare(axes)


def _description(maps: Mapping[str, np.ndarray], count: int) -> str:
    return f"Heat maps over {count} images by {', '.join(maps)}: red speaks for the score, blue against"
