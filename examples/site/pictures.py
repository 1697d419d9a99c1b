"""One picture for each attribution method: what it says of the same three inputs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import shown
from lessons import digest
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure
from worlds import World, worlds

import jaxplain

HEAT = colormaps["RdBu_r"]
COLUMNS = 8
"""Columns of the table that are drawn, the largest first."""


def figure(name: str) -> Figure:
    """The picture of a method: the digit, what the method says of it, of the row, and of the sentence."""
    drawn = Figure(figsize=(9.6, 2.5), layout="constrained", dpi=110)
    axes = drawn.subplots(1, 4, width_ratios=(1, 1.1, 1.8, 1.3))
    image, row, sentence = worlds()
    axes[0].imshow(np.asarray(image.x)[..., 0], cmap="gray_r")
    axes[0].set_title(f"a digit: {image.label}", fontsize=9)
    for place, world in zip(axes[1:], (image, row, sentence), strict=True):
        title = {"image": "of the digit", "table": "of a row: malignant", "text": "of a sentence: positive"}[world.kind]
        place.set_title(title, fontsize=9)
        values = shown.explained(name, world)
        if values is None:
            refused(place, shown.ABSENT[name, world.kind])
        else:
            draw(place, np.asarray(values, np.float32), world)
    for place in (axes[0], axes[1]):
        place.set_xticks([])
        place.set_yticks([])
    return drawn


def refused(axes: Axes, why: str) -> None:
    """Say that a method does not apply."""
    axes.axis("off")
    axes.text(0.5, 0.5, f"does not apply:\n{why}", ha="center", va="center", fontsize=8, color="#737373", wrap=True)


def draw(axes: Axes, values: np.ndarray, world: World) -> None:
    """Draw an attribution as its shape asks."""
    places = world.x.shape
    if values.shape[: values.ndim // 2] * 2 == values.shape and values.ndim == 2 * len(places) and values.ndim > 2:
        size = int(np.prod(places))
        matrix(axes, values.reshape(size, size))
    elif world.kind == "image" and values.shape == (9, 9):
        matrix(axes, values)
    elif world.kind == "image":
        matrix(axes, values.sum(-1) if values.ndim == 3 else values)
    elif values.ndim == 2 and values.shape[0] == values.shape[1]:
        matrix(axes, values)
    elif world.kind == "text":
        words(axes, values if values.ndim == 1 else values.sum(-1), world.names)
    elif values.shape == places:
        bars(axes, values, world.names)
    else:
        bars(axes, values, tuple(f"unit {i}" for i in range(len(values))))


def matrix(axes: Axes, values: np.ndarray) -> None:
    """Places, or pairs of features."""
    axes.imshow(values, cmap=HEAT, norm=CenteredNorm(halfrange=float(np.abs(values).max()) or 1.0))
    axes.set_xticks([])
    axes.set_yticks([])


def bars(axes: Axes, values: np.ndarray, names: tuple[str, ...]) -> None:
    """The columns of a table, the largest first."""
    chosen = np.argsort(-np.abs(values), kind="stable")[:COLUMNS][::-1]
    colours = ["#b2182b" if values[i] > 0 else "#2166ac" for i in chosen]
    axes.barh([names[i] for i in chosen], values[chosen], color=colours)
    axes.axvline(0, color="black", linewidth=0.6)
    axes.tick_params(labelsize=7)
    axes.locator_params(axis="x", nbins=4)


def words(axes: Axes, values: np.ndarray, names: tuple[str, ...]) -> None:
    """A sentence, each word on its colour."""
    largest = float(np.abs(values).max()) or 1.0
    for place, (word, value) in enumerate(zip(names, values, strict=True)):
        share = 0.5 + 0.5 * float(value) / largest
        dark = abs(share - 0.5) > 0.35
        box = {"facecolor": HEAT(share), "edgecolor": "#cccccc", "linewidth": 0.5, "boxstyle": "round,pad=0.25"}
        where = (0.27 + 0.5 * (place % 2), 0.9 - 0.2 * (place // 2))
        axes.text(*where, word, fontsize=8, ha="center", va="center", color="white" if dark else "black", bbox=box)
    axes.axis("off")


def write(folder: Path) -> None:
    """Draw every method's picture into a folder, unless those that lie there are of the same programs."""
    here = Path(__file__).parent
    mark, now = folder / "methods.digest", digest([here / f"{name}.py" for name in ("pictures", "shown", "worlds")])
    if mark.exists() and mark.read_text() == now:
        return
    for name in shown.METHODS:
        figure(name).savefig(folder / f"{name}.png")
    mark.write_text(now)


if __name__ == "__main__":
    jaxplain.keep_programs(quiet=True)
    write(Path(sys.argv[1]))
