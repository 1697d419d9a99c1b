"""Figures without pyplot, and the colours and scales that all of them share."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator, ScalarFormatter

from jaxplain import check
from jaxplain.plot.values import spoken

POSITIVE, NEGATIVE = "#b2182b", "#2166ac"
RIGHT, WRONG = "#1a7f37", "#b2182b"
NEUTRAL = "#737373"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")

DIVERGING = colormaps["RdBu_r"]
"""Red where a value speaks for the score, blue where against, white at zero."""

SEQUENTIAL = colormaps["Blues"]
LOW_TO_HIGH = ListedColormap(colormaps["plasma"](np.linspace(0.0, 0.9, 256)), name="low_to_high")


LETTER = 0.009
"""Inches of a letter for each point of its size, about."""
STILL = 1e-6
"""Scores that move by no more than this share of their size do not move, as far as float32 tells."""


class FewTicks(AutoLocator):
    """Ticks of which each is read by itself: few where numbers hardly move and so have many digits."""

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """The ticks between two ends."""
        if 0 < abs(vmax - vmin) < 1e-3 * max(abs(vmin), abs(vmax)):
            self.set_params(nbins=4)
        return super().tick_values(vmin, vmax)


class ScoreTicks(FewTicks):
    """Ticks of an axis that rounding alone does not fill."""

    def nonsingular(self, v0: float, v1: float) -> tuple[float, float]:
        """The ends of an axis for the ends of what is drawn."""
        ends = sorted((v0, v1))
        if not np.isfinite(ends).all() or not still(ends[0], ends[1]):
            return super().nonsingular(v0, v1)
        low, high = score_limits(ends[0], ends[1], 0.05)
        return (low, high) if v0 <= v1 else (high, low)


class ShownFigure(Figure):
    """A figure that a notebook shows by itself, as it does figures of pyplot.

    What stands at its axes is what is drawn: no number beside an axis has to be added to its ticks.
    """

    def add_subplot(self, *args: Any, **settings: Any) -> Any:
        """Axes that have no offset."""
        axes = super().add_subplot(*args, **settings)
        axes.ticklabel_format(useOffset=False)
        axes.xaxis.set_major_locator(FewTicks())
        axes.yaxis.set_major_locator(ScoreTicks())
        return axes

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def canvas(width: float, height: float, description: str) -> Figure:
    """An empty figure, in inches, with its description in words."""
    figure = ShownFigure(figsize=(width, height), layout="constrained")
    figure.set_label(spoken(description))
    return figure


def panels(count: int, columns: int, size: tuple[float, float], description: str) -> tuple[Figure, list[Axes]]:
    """A figure of `count` axes in rows of at most `columns`; none is left empty."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = canvas(size[0] * columns, size[1] * rows, description)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.remove()
    return figure, list(grid[:count])


def bare(axes: Axes) -> Axes:
    """Take the ticks off axes that show a picture."""
    axes.set_xticks([])
    axes.set_yticks([])
    return axes


def open_sides(axes: Axes, *sides: str) -> Axes:
    """Take off the lines of the frame that say nothing."""
    axes.spines[list(sides or ("top", "right"))].set_visible(False)
    return axes


def picture(axes: Axes, image: np.ndarray) -> Axes:
    """Draw one image in the range 0 to 1, grey where it has one channel."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    return bare(axes)


def wrapped(text: str, width: int, lines: int) -> str:
    """A text in lines of `width` letters; of one that takes more than `lines` of them dots stand for its middle.

    The end stays: it tells paths apart, and holds the value where there is one.
    """
    found, most = textwrap.wrap(text, width), width * lines
    while len(found) > lines:
        most -= 1
        end = len(text) - most // 3
        end += text[end - 1] == "\\"  # a dollar without the stroke before it would begin mathematics
        found = textwrap.wrap(f"{text[: most - most // 3].rstrip(' ' + chr(92))}…{text[end:].lstrip()}", width)
    return "\n".join(found)


def fitted(text: str, wide: float, size: float, lines: int = 2) -> str:
    """A text in lines that are `wide` inches at most, in letters of `size` points."""
    return wrapped(text, max(6, int(wide / (LETTER * size))), lines)


def feature_axis(axes: Axes, ticks: list[str]) -> None:
    """Write what the rows of bars or points are of, from the top, on an axis without a line."""
    axes.set_yticks(range(len(ticks)), [row_text(tick) for tick in ticks], fontsize=8)
    axes.set_ylim(len(ticks) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    open_sides(axes, "top", "right", "left")


def row_text(name: str) -> str:
    """A long name in two lines, beside which the bars keep their room."""
    return name if len(name) <= 40 else wrapped(name, 40, 2)


def row_name(axes: Axes, text: str) -> Axes:
    """Write what a row of small pictures is of at its first one, in lines no longer than the picture is high."""
    axes.set_ylabel(wrapped(text, 16, 3), fontsize=9)
    return axes


def series(place: int) -> dict[str, Any]:
    """How the curve of one of many is drawn: colours come again, with another stroke."""
    return {"color": SERIES[place % len(SERIES)], "linestyle": ("-", "--", "-.", ":")[place // len(SERIES) % 4]}


def legend(figure: Figure, axes: Axes) -> None:
    """Name the curves of a figure's only axes: few of short names inside, others below, where they hide nothing."""
    handles, names = axes.get_legend_handles_labels()
    if len(names) <= 4 and max(map(len, names)) <= 40:
        axes.legend(fontsize=8, frameon=False)
        return
    legend_below(figure, handles, names)


def legend_below(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """Name marks below a figure, which grows by as many lines as that takes."""
    letters = figure.get_figwidth() / (8 * LETTER)
    names = [wrapped(name, int(letters) - 6, 3) for name in names]
    columns = max(1, int(letters / (max(map(len, names)) + 6)))
    rows = -(-sum(name.count("\n") + 1 for name in names) // columns)
    figure.set_figheight(figure.get_figheight() + 0.1 + 0.17 * rows)
    figure.legend(handles, names, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)


def largest(values: np.ndarray, percentile: float = 100.0) -> float:
    """The end of a symmetric scale: a percentile of the absolute values that are not zero; 0 if all are."""
    magnitudes = np.abs(values)
    magnitudes = magnitudes[magnitudes > 0]
    return float(np.percentile(magnitudes, percentile)) if magnitudes.size else 0.0


def score_limits(low: float, high: float, share: float) -> tuple[float, float]:
    """The ends of an axis of scores from low to high, with a share of its length as room at either side.

    Where the scores hardly move the room is a share of their size, so that ticks can be read without an offset.
    """
    room = 0.05 * max(abs(low), abs(high)) if still(low, high) else share * (high - low)
    return low - (room or 1.0), high + (room or 1.0)


def still(low: float, high: float) -> bool:
    """Whether scores between two ends are one number but for rounding."""
    return high - low <= STILL * max(abs(low), abs(high))


def check_percentile(percentile: float, name: str) -> None:
    """Require a percentile that leaves something to draw."""
    check.positive(percentile, name, "percentile")
    if percentile > 100:
        raise ValueError(f"{name}: `percentile` has to lie in (0, 100], not {percentile}.")


def diverging(end: float) -> Normalize:
    """A scale from -end to end, zero in its middle."""
    return Normalize(-end, end) if end > 0 else Normalize(-1, 1)


def colour_bar(
    figure: Figure, axes: Any, norm: Normalize, *, values: np.ndarray, label: str = "", inside: Any = None
) -> None:
    """A diverging colour bar with its ends and zero written on; its arrows say that values lie beyond the ends.

    It stands at the right of `axes`, or fills the axes `inside`, lying.
    """
    end = norm.vmax or 0.0
    beyond = float(np.abs(values).max()) > end * (1 + 1e-9)
    several = isinstance(axes, list)
    place: dict[str, Any] = {
        "ax": axes,
        "fraction": 0.03 if several else 0.06,
        "pad": 0.03,
        "aspect": 30 if several else 16,
    }
    if inside is not None:
        place = {"cax": inside, "orientation": "horizontal"}
    bar = figure.colorbar(ScalarMappable(norm, DIVERGING), extend="both" if beyond else "neither", **place)
    if np.any(values):
        bar.set_ticks([-end, 0.0, end], labels=[f"{-end:.2g}", "0", f"{end:.2g}"])
    else:
        bar.set_ticks([0.0], labels=["all zero"])
    quiet(bar)
    if label:
        bar.set_label(label, fontsize=8)


def quiet(bar: Any, size: float = 7) -> Any:
    """A colour bar of small numbers without a frame or an offset."""
    bar.ax.tick_params(labelsize=size, length=2)
    bar.ax.minorticks_off()
    open_sides(bar.ax, "outline")
    if isinstance(bar.formatter, ScalarFormatter):
        bar.formatter.set_useOffset(False)
        bar.update_ticks()
    return bar


def shown(count: int, limit: int, name: str, what: str) -> tuple[int, str]:
    """How many of `count` are drawn, and the words for it where that is not all."""
    limit = check.count(limit, name, "limit")
    return (count, "") if count <= limit else (limit, f"first {limit} of {count} {what}")


def readable(rgba: Any) -> str:
    """Black or white, whichever is read more easily on a colour (relative luminance)."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgba[:3])
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else "white"
