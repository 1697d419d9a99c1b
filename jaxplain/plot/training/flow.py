"""What the layers of a model did while it was trained: gradients, updates and dead units, layer by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxplain import check
from jaxplain.plot.canvas import LOW_TO_HIGH, NEUTRAL, SEQUENTIAL, canvas, quiet, shown
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import number, numbers, plain

NAME = "gradient_flow"


@drawn
def gradient_flow(history: Any, *, limit: int = 40) -> Figure:
    """Draw what each layer did in each epoch: the size of its gradient, how far steps moved it, its dead units.

    Rows are layers, the first one used on top, columns epochs. A gradient that vanishes fades from the bottom (the
    loss) to the top; one that explodes grows; units that die fill the last panel.

    Args:
        history: What `fit(..., record_layers=True)` returns as `.history`, or its `.layers`: `names` of the L layers
            and arrays `[E, L]` called `gradient_rms`, `update_ratio` and `dead_share`.
        limit: Most layers drawn, the first ones; the title says where there are more.

    Returns:
        A figure with three panels on scales of their own: the gradient of a typical weight (root mean square) and the
        update-to-weight ratio in powers of ten, the share of units without any gradient. What is zero or not finite is
        grey.

    Raises:
        ValueError: A history without layers, wrong shapes, counts that do not match.
        TypeError: No arrays of numbers.

    Example:
        >>> import numpy as np
        >>> from types import SimpleNamespace
        >>> rows = np.full((3, 2), 0.01)
        >>> layers = SimpleNamespace(names=("a", "b"), gradient_rms=rows, update_ratio=rows, dead_share=0 * rows)
        >>> [axes.get_title() for axes in gradient_flow(layers).axes[:3]]
        ['gradient of a weight', 'update / weight', 'dead units']
    """
    layers = getattr(history, "layers", history)
    if not hasattr(layers, "gradient_rms"):
        raise ValueError(
            f"{NAME}: `history` is {check.short(history)}, without `layers`; train with fit(..., record_layers=True)."
        )
    names = [plain(name) for name in layers.names]
    count, more = shown(len(names), limit, NAME, "layers")
    tables = [_table(layers, field, len(names)) for field in ("gradient_rms", "update_ratio", "dead_share")]
    shapes = {table.shape for table in tables}
    if len(shapes) > 1:
        raise ValueError(f"{NAME}: the arrays of `history` differ in shape: {sorted(shapes)}.")
    epochs = _epochs(tables)
    widest = max(map(len, names[:count]))
    figure = canvas(9.0 + 0.07 * widest, 1.1 + 0.24 * count, _description(count, epochs))
    titles = ("gradient of a weight", "update / weight", "dead units")
    for axes, title, table in zip(figure.subplots(1, 3), titles, tables, strict=True):
        values = table[:epochs, :count].T
        scale: Normalize = Normalize(0, 1) if title == "dead units" else _powers(values)
        _panel(figure, axes, values, scale, SEQUENTIAL if title == "dead units" else LOW_TO_HIGH)
        axes.set_title(title, fontsize=9)
        axes.set_yticks(range(count), names[:count] if title == titles[0] else [], fontsize=7)
    if more:
        figure.suptitle(more, fontsize=9, color=NEUTRAL)
    return figure


def _table(layers: Any, field: str, count: int) -> np.ndarray:
    values = numbers(getattr(layers, field), NAME, f"history.layers.{field}", finite=False)
    if values.ndim != 2 or values.shape[1] != count:
        raise ValueError(
            f"{NAME}: `history.layers.{field}` has shape {values.shape}; it has to be [E, {count}] of one run."
        )
    return values


def _epochs(tables: Sequence[np.ndarray]) -> int:
    """The epochs that were run: after an early stop that was traced, all is NaN."""
    ran = np.any([~np.isnan(table).all(axis=1) for table in tables], axis=0)
    return int(np.flatnonzero(ran)[-1]) + 1 if ran.any() else len(ran)


def _powers(values: np.ndarray) -> Normalize:
    """A logarithmic scale over what is positive, at least a factor of ten wide."""
    there = values[np.isfinite(values) & (values > 0)]
    low, high = (float(there.min()), float(there.max())) if there.size else (1.0, 1.0)
    if high < 10 * low:
        middle = np.sqrt(low) * np.sqrt(high)
        low, high = middle / np.sqrt(10), middle * np.sqrt(10)
    return LogNorm(low, high)


def _panel(figure: Figure, axes: Axes, values: np.ndarray, scale: Normalize, colours: Colormap) -> None:
    there = np.isfinite(values) & ((values > 0) if isinstance(scale, LogNorm) else True)
    axes.set_facecolor("#cfcfcf")
    drawn = np.ma.masked_array(np.where(there, values, 1.0), ~there)
    epochs = values.shape[1]
    extent = (0.5, epochs + 0.5, len(values) - 0.5, -0.5)
    picture = axes.imshow(drawn, cmap=colours, norm=scale, aspect="auto", extent=extent, interpolation="nearest")
    bar = figure.colorbar(picture, ax=axes, fraction=0.06, pad=0.03)
    low, high = float(scale.vmin or 0.0), float(scale.vmax or 1.0)
    ticks = [low, np.sqrt(low) * np.sqrt(high) if isinstance(scale, LogNorm) else (low + high) / 2, high]
    bar.set_ticks(ticks, labels=[number(tick) for tick in ticks])
    quiet(bar)
    axes.set_xlabel("epoch", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.tick_params(labelsize=7)


def _description(count: int, epochs: int) -> str:
    return f"Gradients, updates and dead units of {count} layers over {epochs} epochs"
