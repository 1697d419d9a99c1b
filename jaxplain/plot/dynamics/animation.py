"""Attributions over training as a moving picture that needs neither a script nor another program."""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from jaxplain import check
from jaxplain.plot.canvas import (
    DIVERGING,
    bare,
    canvas,
    check_percentile,
    colour_bar,
    diverging,
    largest,
    picture,
    row_name,
)
from jaxplain.plot.caption import drawn
from jaxplain.plot.dynamics.strip import Maps, maps_of
from jaxplain.program import as_path

SCALES = ("example", "shared")
SECONDS = (0.02, 200.0)
"""A GIF counts hundredths of a second, up to 655; browsers slow down what is faster than two of them."""


@dataclasses.dataclass(frozen=True)
class Animation:
    """A moving picture, a frame for each checkpoint; a notebook and `report` show it. Made by `attribution_animation`.

    Attributes:
        frames: `[S, height, width, 3]`, 8 bits.
        seconds: How long each is shown; the last one three times as long.
        description: What it shows, in words.
    """

    frames: np.ndarray
    seconds: float
    description: str

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.frames.shape[2:0:-1]))
        return f"Animation({len(self.frames)} frames of {size} pixels, {self.seconds:g} s each)"

    def gif(self) -> bytes:
        """The picture as a GIF that begins anew at its end; the same frames give the same bytes."""
        pictures = [Image.fromarray(frame).quantize(256, Image.Quantize.MAXCOVERAGE) for frame in self.frames]
        times = [round(1000 * self.seconds)] * (len(pictures) - 1) + [round(3000 * self.seconds)]
        buffer = io.BytesIO()
        pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=times, loop=0)
        return buffer.getvalue()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the GIF to a file, and return its path."""
        target = as_path(path, "save", "path")
        target.write_bytes(self.gif())
        return target

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.gif()).decode("ascii")
        size = 'width="{}" height="{}"'.format(*self.frames.shape[2:0:-1])
        return f'<img alt="{html.escape(self.description)}" {size} src="data:image/gif;base64,{data}">'


@drawn
def attribution_animation(
    inputs: Any,
    attributions: Any,
    steps: Any,
    labels: Any = None,
    *,
    names: Sequence[Any] | None = None,
    scale: str = "example",
    percentile: float = 100.0,
    seconds: float = 0.4,
    limit: int = 4,
) -> Animation:
    """Draw attributions of images over training as a moving picture, a frame for each checkpoint.

    Args:
        inputs: Images `[B, H, W]` or `[B, H, W, C]`.
        attributions: `[B, S, H, W]` or `[B, S, H, W, C]` (summed over channels).
        steps: `[S]`, those of the snapshots; the title says each.
        labels: `[B]`, classes, numbers or texts written beside the images.
        names: Names of the classes.
        scale: What has one scale of colours over all frames: "example" (each image) or "shared" (all).
        percentile: As in `heatmaps`.
        seconds: How long a frame is shown, 0.02 to 200; a GIF rounds it to hundredths.
        limit: Most examples drawn, the first ones.

    Returns:
        An `Animation`; `save("run.gif")` writes it.

    Raises:
        ValueError: Wrong shapes, counts that do not match, steps that do not rise, NaN, no time.
        TypeError: No arrays of numbers.

    Example:
        >>> import numpy as np
        >>> moving = attribution_animation(np.zeros((1, 4, 4)), np.arange(32.0).reshape(1, 2, 4, 4), [0, 10])
        >>> len(moving.frames), moving.gif()[:6]
        (2, b'GIF89a')
    """
    name = "attribution_animation"
    check.choice(scale, SCALES, name, "scale")
    check_percentile(percentile, name)
    check.one_number(seconds, name, "seconds")
    if not SECONDS[0] <= float(seconds) <= SECONDS[1]:
        raise ValueError(f"{name}: `seconds` is {seconds}; a frame can be shown for {SECONDS[0]} to {SECONDS[1]:g}.")
    found = maps_of(inputs, attributions, steps, labels, names, limit, name)
    if found.maps.ndim == 3:
        raise ValueError(f"{name}: rows of a table do not move; draw them by plot.attribution_strip.")
    figure, drawn = _first(found, scale, percentile)
    surface, frames = FigureCanvasAgg(figure), []
    for place, step in enumerate(found.steps):
        for row, image in enumerate(drawn):
            image.set_data(found.maps[row, place])
        drawn[0].axes.set_title(f"step {step}", fontsize=9)
        surface.draw()
        frames.append(np.asarray(surface.buffer_rgba())[..., :3].copy())
    return Animation(np.stack(frames), float(seconds), str(figure.get_label()))


def _first(found: Maps, scale: str, percentile: float) -> tuple[Figure, list[Any]]:
    """The figure with its first frame, and the maps in it that change."""
    count, size = found.maps.shape[:2]
    words = f"Attributions of {count} images over {size} steps of training: red speaks for the score, blue against"
    figure = canvas(4.0, 1.5 * count + 0.4, words)
    grid: Any = figure.subplots(count, 2, squeeze=False)
    drawn = []
    for row in range(count):
        row_name(picture(grid[row, 0], found.inputs[row]), found.titles[row])
        own = found.maps if scale == "shared" else found.maps[row]
        norm = diverging(largest(own, percentile))
        drawn.append(bare(grid[row, 1]).imshow(found.maps[row, 0], cmap=DIVERGING, norm=norm, interpolation="nearest"))
        colour_bar(figure, grid[row, 1], norm, values=own)
    grid[0, 0].set_title(found.more or "input", fontsize=9)
    return figure, drawn
