"""What a network computes inside: activations of layers, filters, and inputs that a unit responds to most."""

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
    SEQUENTIAL,
    bare,
    canvas,
    colour_bar,
    diverging,
    fitted,
    largest,
    panels,
    picture,
    shown,
)
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import batch, images, label_texts, number, numbers, plain


@drawn
def activations(values: Mapping[str, Any], *, limit: int = 64) -> Figure:
    """Draw what layers compute for one example, a panel for each layer.

    Feature maps `[H, W, C]` become one tile for each channel, tokens `[T, D]` a matrix and vectors `[D]` a strip of
    tiles. Values without a sign are drawn from white (0) to blue, signed ones from blue over white (0) to red; each
    layer has its own scale.

    Args:
        values: `{path: value}` for one example, without the batch axis: what `capture` returns.
        limit: Most channels of feature maps drawn, the first ones; the title says where there are more.

    Returns:
        A figure, the layers in their order from top to bottom.

    Raises:
        ValueError: No layers, wrong shapes, NaN.
        TypeError: No arrays of numbers.

    Example:
        >>> import numpy as np
        >>> figure = activations({"conv": np.ones((4, 4, 8)), "dense": np.ones(10)})
        >>> figure.axes[0].get_title(loc="left")
        'conv  [4, 4, 8]'
    """
    if not values:
        raise ValueError("activations: `values` is empty; pass {path: array}.")
    check.count(limit, "activations", "limit")
    tiles, titles = [], []
    for path, value in values.items():
        shapes = {1: "[D]", 2: "[T, D]", 3: "[H, W, C]"}
        if np.ndim(value) == 4:
            raise ValueError(
                f"activations: `values[{path!r}]` has shape {np.shape(value)}; pass one example, "
                "without the batch axis."
            )
        array = batch(value, "activations", f"values[{path!r}]", shapes)
        more = f", first {limit} channels" if array.ndim == 3 and array.shape[-1] > limit else ""
        tiles.append(_tiles(array, limit))
        titles.append(f"{path}  {list(array.shape)}{more}")
    heights = [max(0.35, min(3.5, 8.0 * tile.shape[0] / tile.shape[1])) for tile in tiles]
    figure = canvas(9, sum(heights) + 0.45 * len(tiles), f"Activations of {len(tiles)} layers for one example")
    rows = figure.subplots(len(tiles), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, tile, title in zip(rows, tiles, titles, strict=True):
        _layer(figure, axes, tile, title)
    return figure


def _tiles(array: np.ndarray, limit: int) -> np.ndarray:
    """One matrix of an activation, NaN between the tiles of its channels."""
    if array.ndim == 2:
        return array.T if array.shape[0] > 2 * array.shape[1] else array
    if array.ndim == 1:
        columns = min(len(array), 64)
        padded = np.full(-(-len(array) // columns) * columns, np.nan)
        padded[: len(array)] = array
        return padded.reshape(-1, columns)
    high, wide, count = *array.shape[:2], min(array.shape[2], limit)
    columns = min(count, max(1, round(np.sqrt(count * 4 * high / wide))))
    mosaic = np.full((-(-count // columns), high + 1, columns, wide + 1), np.nan)
    for channel in range(count):
        mosaic[channel // columns, :high, channel % columns, :wide] = array[..., channel]
    return mosaic.reshape(mosaic.shape[0] * (high + 1), -1)[:-1, :-1]


def _layer(figure: Figure, axes: Axes, tile: np.ndarray, title: str) -> None:
    known = tile[np.isfinite(tile)]
    signed = bool((known < 0).any())
    end = largest(known)
    norm = diverging(end) if signed else Normalize(0, end or 1.0)
    colours = (DIVERGING if signed else SEQUENTIAL).with_extremes(bad="0.75")
    image = axes.imshow(tile, cmap=colours, norm=norm, interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, fraction=0.02, pad=0.01, aspect=10)
    ends = [-end, 0.0, end] if signed else [0.0, end or 1.0]
    bar.set_ticks(ends, labels=[number(tick) for tick in ends])
    bar.ax.tick_params(labelsize=7, length=2)
    axes.set_anchor("W")
    bare(axes).set_title(plain(title), fontsize=9, loc="left")


@drawn
def filters(kernel: Any, *, shape: Sequence[int] | None = None, columns: int = 8, limit: int = 64) -> Figure:
    """Draw the weights of a first layer, one picture for each output.

    With three input channels the weights are colours (grey is zero, one scale for all); otherwise red is positive,
    blue negative and white zero on one symmetric scale for all, and with several input channels each output gets one
    picture for each of them.

    Args:
        kernel: `[kh, kw, Cin, Cout]` of a convolution, or `[D, K]` of a dense layer together with `shape`.
        shape: `(H, W, C)` of the images that a dense layer's D inputs are.
        columns: Most pictures in a row.
        limit: Most pictures drawn, the first ones; the title says where there are more.

    Returns:
        A figure.

    Raises:
        ValueError: Wrong shapes, NaN.
        TypeError: No array of numbers.

    Example:
        >>> import numpy as np
        >>> figure = filters(np.ones((3, 3, 1, 4)))
        >>> figure.axes[1].get_title()
        '1'
    """
    array = batch(kernel, "filters", "kernel", {4: "[kh, kw, Cin, Cout]", 2: "[D, K] (with `shape`)"})
    if array.ndim == 2:
        if shape is None or len(shape) != 3 or int(np.prod(shape)) != len(array):
            raise ValueError(
                f"filters: `kernel` has shape {array.shape}; pass `shape=(H, W, C)` of the images that its "
                f"{len(array)} inputs are, not {shape}."
            )
        array = array.reshape(*shape, -1)
    check.count(columns, "filters", "columns")
    channels, outputs = array.shape[2:]
    colour = channels == 3
    pictures = np.moveaxis(array, 3, 0) if colour else np.moveaxis(array, (3, 2), (0, 1)).reshape(-1, *array.shape[:2])
    count, more = shown(len(pictures), limit, "filters", "filters")
    end = largest(pictures)
    figure, grid = panels(count, columns, (1.05, 1.2), f"{count} filters of {outputs} outputs of the first layer")
    for index, axes in enumerate(grid):
        title = str(index) if colour or channels == 1 else f"{index // channels}, in {index % channels}"
        if colour:
            axes.imshow(0.5 + pictures[index] / (2 * (end or 1.0)), interpolation="nearest")
        else:
            axes.imshow(pictures[index], cmap=DIVERGING, norm=diverging(end), interpolation="nearest")
        bare(axes).set_title(title, fontsize=8)
    if not colour:
        colour_bar(figure, grid, diverging(end), values=pictures, label="weight")
    if more:
        figure.suptitle(more, fontsize=9)
    return figure


@drawn
def activation_gallery(
    inputs: Any, labels: Any = None, values: Any = None, *, names: Sequence[Any] | None = None, columns: int = 5
) -> Figure:
    """Draw the inputs that classes or units respond to most, with the score that each one reaches.

    Args:
        inputs: Images `[K, H, W]` or `[K, H, W, C]`, one for each class: `activation_maximization(...).image`.
        labels: `[K]`, classes, numbers or texts.
        values: `[K]`, the score of each image; None leaves them out.
        names: Names of the classes.
        columns: Most images in a row.

    Returns:
        A figure.

    Raises:
        ValueError: Wrong shapes, an empty set, NaN, counts that do not match.
        TypeError: No array of numbers.

    Example:
        >>> import numpy as np
        >>> figure = activation_gallery(np.zeros((2, 8, 8)), ["cat", "dog"], [12.5, 9.0])
        >>> figure.axes[1].get_xlabel()
        'score 9'
    """
    pictures = images(inputs, "activation_gallery", "inputs")
    titles = label_texts(labels, len(pictures), names, "activation_gallery")
    check.count(columns, "activation_gallery", "columns")
    scores = None if values is None else numbers(values, "activation_gallery", "values")
    if scores is not None and scores.shape != (len(pictures),):
        raise ValueError(
            f"activation_gallery: `values` has shape {scores.shape}, but `inputs` holds {len(pictures)} images."
        )
    description = f"Inputs that {len(pictures)} classes or units respond to most"
    titles = [fitted(title, 1.1, 9) for title in titles]
    high = 1.85 + 0.17 * max(title.count("\n") for title in titles)
    figure, grid = panels(len(pictures), columns, (1.5, high), description)
    for index, axes in enumerate(grid):
        picture(axes, pictures[index]).set_title(titles[index], fontsize=9)
        if scores is not None:
            axes.set_xlabel(f"score {number(scores[index])}", fontsize=8)
    return figure
