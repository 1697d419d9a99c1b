"""What the units of a layer respond to: made inputs beside real ones, and the map of an activation atlas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxplain import check
from jaxplain.plot.canvas import NEUTRAL, bare, canvas, fitted, open_sides, picture
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import images, number, numbers, same_length, table_of, texts


@drawn
def unit_gallery(
    inputs: Any,
    values: Any,
    patches: Any = None,
    patch_values: Any = None,
    *,
    units: Sequence[Any] | None = None,
    views: Any = None,
    columns: int = 2,
) -> Figure:
    """Draw the input made for each unit beside the real patches that it responds to most.

    Args:
        inputs: `[U, H, W(, C)]`, one image for each unit: `activation_maximization(...).image`.
        values: `[U]`, what each one reaches.
        patches: `[U, k, h, w(, C)]`, the real patches, best first: `top_activations(...).patches`; None for none.
        patch_values: `[U, k]`, what they reach; NaN marks a place that is not filled.
        units: Names or numbers of the units, `[U]`; None numbers them from 0.
        views: `[U, k, h, w(, C)]`, which pixels of the patches drove the unit (`deconv_view`, cut out like the
            patches), drawn under them on one scale for each unit, mid-grey is zero; None for none.
        columns: Units in a row.

    Returns:
        A figure: for each unit its name and value over the made input, the patches at its right with their values.

    Raises:
        ValueError: Wrong shapes, an empty set, NaN, counts that do not match.
        TypeError: No array of numbers.

    Example:
        >>> patches, values = np.zeros((2, 3, 4, 4)), np.ones((2, 3))
        >>> figure = unit_gallery(np.zeros((2, 8, 8)), [3.0, 1.0], patches, values, units=[7, 9])
        >>> figure.axes[0].get_title(), figure.axes[1].get_title()
        ('7: 3', '1')
    """
    pictures = images(inputs, "unit_gallery", "inputs")
    scores = numbers(values, "unit_gallery", "values")
    same_length(pictures, scores, "unit_gallery", ("inputs", "values"))
    names = texts(units, len(pictures), "unit_gallery", "units")
    real, ranks = _patches(patches, patch_values, len(pictures))
    signed = None if views is None else _signed(views, real)
    rows, across = 1 if signed is None else 2, min(check.count(columns, "unit_gallery", "columns"), len(pictures))
    count = 0 if real is None else real.shape[1]
    wide = (1.25 if rows == 1 else 1.7) + 0.95 * count + 0.15
    lines = -(-len(pictures) // across)
    figure = canvas(wide * across, 1.3 * rows * lines + 0.1, f"Inputs that {len(pictures)} units respond to most")
    grid = figure.add_gridspec(lines, across, wspace=0.08)
    for unit, image in enumerate(pictures):
        spec = grid[unit // across, unit % across].subgridspec(rows, 1 + count, width_ratios=[1.3, *[1.0] * count])
        axes = picture(figure.add_subplot(spec[:, 0]), image)
        axes.set_title(fitted(f"{names[unit]}: {number(scores[unit])}", 1.1, 9, 3), fontsize=8, weight="bold")
        for rank in range(count):
            if np.isnan(ranks[unit, rank]):
                continue
            axes = picture(figure.add_subplot(spec[0, 1 + rank]), real[unit, rank])
            axes.set_title(number(ranks[unit, rank]), fontsize=7, color=NEUTRAL)
            if signed is not None:
                picture(figure.add_subplot(spec[1, 1 + rank]), signed[unit, rank])
    return figure


def _patches(patches: Any, values: Any, units: int) -> tuple[Any, Any]:
    """Patches `[U, k, h, w(, C)]` in the range 0 to 1 and their values."""
    if patches is None:
        return None, None
    shape = np.shape(table_of(patches, "unit_gallery", "patches"))
    if len(shape) not in (4, 5) or shape[0] != units:
        raise ValueError(f"unit_gallery: `patches` has shape {shape}; it has to be [{units}, k, h, w, C].")
    ranks = np.zeros(shape[:2]) if values is None else numbers(values, "unit_gallery", "patch_values", finite=False)
    if ranks.shape != shape[:2]:
        raise ValueError(f"unit_gallery: `patch_values` has shape {ranks.shape}, but `patches` has {shape}.")
    flat = images(np.reshape(patches, (-1, *shape[2:])), "unit_gallery", "patches")
    return flat.reshape(*shape[:2], *flat.shape[1:]), ranks


def _signed(views: Any, real: Any) -> np.ndarray:
    """Signed pictures around mid-grey, each unit on its own symmetric scale."""
    array = numbers(views, "unit_gallery", "views")
    array = array[..., 0] if array.ndim == 5 and array.shape[-1] == 1 else array
    if real is None or array.shape != real.shape:
        wanted = "patches, which were not given" if real is None else f"shape {real.shape}"
        raise ValueError(f"unit_gallery: `views` has shape {array.shape}; they go with the {wanted}.")
    end = np.abs(array).max(axis=tuple(range(1, array.ndim)), keepdims=True)
    return np.clip(0.5 + array / (2 * np.maximum(end, np.finfo(float).tiny)), 0, 1)


@drawn
def activation_atlas(atlas: Any, *, size: float = 7.0) -> Figure:
    """Draw an activation atlas: each cell's picture at its place on the map, larger where it averages more examples.

    Args:
        atlas: What `jaxplain.aggregate.activation_atlas` returns.
        size: Side of the figure in inches.

    Returns:
        A figure; the first coordinate runs to the right, the second upwards, cells without a picture are empty.

    Raises:
        TypeError: Not an atlas. ValueError: Its images cannot be drawn.

    Example:
        >>> from types import SimpleNamespace
        >>> atlas = SimpleNamespace(images=np.zeros((1, 4, 4)), cells=np.array([[0, 1]]), counts=np.array([5]), grid=2)
        >>> len(activation_atlas(atlas).axes)
        2
    """
    for field in ("images", "cells", "counts", "grid"):
        if not hasattr(atlas, field):
            raise TypeError(
                f"activation_atlas: `atlas` has to be what jaxplain.aggregate.activation_atlas returns, "
                f"not {type(atlas).__name__}."
            )
    pictures = images(atlas.images, "activation_atlas")
    total = int(np.sum(atlas.counts))
    figure = canvas(size, size, f"Activation atlas: {len(pictures)} cells of {total} activations")
    figure.set_layout_engine("none")
    whole = figure.add_axes((0.04, 0.04, 0.92, 0.92))
    open_sides(bare(whole), "top", "right", "bottom", "left")
    whole.set_title(f"{len(pictures)} cells, {total} activations", fontsize=9, color=NEUTRAL)
    side = 0.92 / atlas.grid
    for image, (row, column), count in zip(pictures, atlas.cells, atlas.counts, strict=True):
        part = 0.55 + 0.43 * np.sqrt(count / np.max(atlas.counts))
        gap = (1 - part) / 2 * side
        place = (0.04 + column * side + gap, 0.04 + row * side + gap, part * side, part * side)
        picture(figure.add_axes(place), image)  # framed: some are as white as the page
    return figure
