"""The loss on the way between two solutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from jaxplain import check
from jaxplain.plot.canvas import NEUTRAL, canvas, legend, open_sides, series, wrapped
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import batch, number, plain


@drawn
def loss_interpolation(values: Mapping[str, Any], *, title: str = "") -> Figure:
    """Draw the loss on the way from one solution to another, for one or several ways, each with its barrier.

    Args:
        values: `{name: interpolation}`, of what `jaxplain.train.interpolation` or `mode_connectivity` returned.
        title: What all of it is.

    Returns:
        A figure.

    Raises:
        ValueError: Nothing to draw, positions and losses of different lengths, NaN.
        TypeError: Anything but interpolations.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxplain import train
        >>> line = train.interpolation(lambda w: (1 - w**2) ** 2, jnp.array(-1.0), jnp.array(1.0))
        >>> figure = loss_interpolation({"straight": line})
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['straight  (barrier 1)']
    """
    name = "loss_interpolation"
    if not values:
        raise ValueError(f"{name}: `values` is empty; pass {{name: interpolation}}.")
    figure = canvas(5.2, 3.4, f"{title or 'The loss between two solutions'}: {', '.join(values)}")
    axes = figure.add_subplot()
    for index, (label, found) in enumerate(values.items()):
        argument = f"values[{label!r}]"
        if not all(hasattr(found, part) for part in ("position", "loss", "barrier")):
            raise TypeError(f"{name}: `{argument}` is {check.short(found)}; pass what train.interpolation returned.")
        position, loss = (batch(getattr(found, p), name, f"{argument}.{p}", {1: "[P]"}) for p in ("position", "loss"))
        if position.shape != loss.shape:
            raise ValueError(f"{name}: `{argument}` holds {len(position)} positions and {len(loss)} losses.")
        barrier = float(batch(found.barrier, name, f"{argument}.barrier", {0: "one number"}))
        text = plain(f"{label}  (barrier {number(barrier)})")
        marker = "." if len(loss) <= 30 else None
        axes.plot(position, loss, linewidth=1.6, label=text, marker=marker, **series(index))
        axes.plot([0, 1], [loss[0], loss[-1]], "--", color=NEUTRAL, linewidth=0.9, zorder=0)
    axes.set_xlabel("from the first solution (0) to the second (1)", fontsize=9)
    axes.set_ylabel("loss", fontsize=9)
    axes.set_title(wrapped(plain(title), 55, 3), fontsize=10)
    axes.grid(alpha=0.25, linewidth=0.6)
    open_sides(axes).tick_params(labelsize=8)
    legend(figure, axes)
    return figure
