"""The loss over a plane of params as contours, with the path of training on it."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from jaxplain import check
from jaxplain.plot.canvas import LOW_TO_HIGH, canvas, quiet, wrapped
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import apart, batch, number, numbers, plain

FAR = 20.0
"""A loss that is positive and spans more than this factor has levels evenly spaced in its logarithm."""


@drawn
def loss_surface(surface: Any, *, path: Any = None, levels: int = 18, title: str = "") -> Figure:
    """Draw the loss over a plane of params as filled contours, with the path of training on it.

    Levels are evenly spaced between the lowest and the highest finite loss, in its logarithm where it is positive and
    spans more than a factor of 20. Grey is where the loss is not finite, or was not evaluated. The path begins at the
    ring and ends at the star; of a principal plane the axes say what share of the path's variance lies along them.

    Args:
        surface: What `jaxplain.train.loss_surface` returned.
        path: Coordinates `[S, 2]` of points to join, such as `plane.coordinates(stacked)`; by default the surface's
            own.
        levels: How many levels, at least 2.
        title: What all of it is.

    Returns:
        A figure.

    Raises:
        ValueError: A surface whose shapes do not match, without a finite loss, or a path that is not `[S, 2]`.
        TypeError: Anything but a surface.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxplain import train
        >>> square, path = lambda w: (w**2).sum(), jnp.array([[4.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
        >>> figure = loss_surface(train.loss_surface(square, train.principal_plane(square, path)))
        >>> figure.axes[0].get_xlabel()
        'first principal direction (93.4 % of the variance)'
    """
    name = "loss_surface"
    if not all(hasattr(surface, part) for part in ("x", "y", "loss", "path", "explained")):
        raise TypeError(f"{name}: `surface` is {check.short(surface)}; pass what jaxplain.train.loss_surface returned.")
    check.count(levels, name, "levels", 2)
    x, y = (batch(getattr(surface, part), name, f"surface.{part}", {1: "[P]"}) for part in ("x", "y"))
    loss = batch(surface.loss, name, "surface.loss", {2: "[Y, X]"}, finite=False)
    if loss.shape != (len(y), len(x)) or min(loss.shape) < 2:
        raise ValueError(
            f"{name}: `surface.loss` has shape {loss.shape}, but there are {len(y)} y and {len(x)} x (at least 2 each)."
        )
    points = None if path is None and surface.path is None else _path(surface.path if path is None else path)
    figure = canvas(5.2, 4.2, _description(loss, points, title))
    axes = figure.add_subplot()
    _contours(figure, axes, x, y, loss, levels)
    if points is not None:
        _draw_path(axes, points)
    for axis, which, set_label in ((0, "first", axes.set_xlabel), (1, "second", axes.set_ylabel)):
        set_label(_label(which, surface.explained, axis), fontsize=9)
    axes.set_title(wrapped(plain(title), 55, 3), fontsize=10)
    axes.tick_params(labelsize=8)
    return figure


def _path(value: Any) -> np.ndarray:
    points = batch(value, "loss_surface", "path", {2: "[S, 2]"})
    if points.shape[1] != 2:
        raise ValueError(f"loss_surface: `path` has shape {points.shape}; it has to hold coordinates, [S, 2].")
    return points


def _label(which: str, explained: Any, axis: int) -> str:
    if explained is None:
        return f"{which} direction"
    share = numbers(explained, "loss_surface", "surface.explained")[axis]
    return f"{which} principal direction ({100 * share:.3g} % of the variance)"


def _description(loss: np.ndarray, points: np.ndarray | None, title: str) -> str:
    finite = loss[np.isfinite(loss)]
    if not finite.size:
        raise ValueError("loss_surface: `surface.loss` has no finite value. Evaluate it nearer to the centre.")
    path = "" if points is None else f", and a path of {len(points)} points"
    lost = f"; {loss.size - finite.size} of {loss.size} points are not finite" if finite.size < loss.size else ""
    span = f"from {number(finite.min())} to {number(finite.max())}"
    return f"{title or 'The loss over a plane of params'}: {span}{path}{lost}"


def _contours(figure: Figure, axes: Axes, x: np.ndarray, y: np.ndarray, loss: np.ndarray, levels: int) -> None:
    finite = loss[np.isfinite(loss)]
    low, high = float(finite.min()), float(finite.max())
    logarithmic = low > 0 and high > FAR * low
    if high - low <= levels * np.spacing(max(abs(low), abs(high))):  # flat, as far as numbers tell: all is the lowest
        high = low + max(1.0, abs(low))
    norm: Normalize = LogNorm(low, high) if logarithmic else Normalize(low, high)
    places = np.geomspace(low, high, levels) if logarithmic else np.linspace(low, high, levels)
    axes.set_facecolor("0.85")
    values = np.ma.masked_invalid(loss)
    filled = axes.contourf(x, y, values, levels=places, cmap=LOW_TO_HIGH, norm=norm)
    axes.contour(x, y, values, levels=places, colors="white", linewidths=0.4, alpha=0.6)
    bar = figure.colorbar(filled, ax=axes, fraction=0.05, pad=0.03)
    ticks = places[np.linspace(0, levels - 1, min(levels, 6)).astype(int)]
    bar.set_ticks(ticks, labels=apart(ticks))
    quiet(bar).set_label("loss", fontsize=8)


def _draw_path(axes: Axes, points: np.ndarray) -> None:
    marker = "." if len(points) <= 60 else None
    axes.plot(*points.T, "-", color="black", linewidth=1.2, marker=marker, markersize=4)
    ends: dict[str, Any] = {"color": "black", "markerfacecolor": "white", "clip_on": False, "zorder": 3}
    axes.plot(*points[0], "o", markersize=7, **ends)
    axes.plot(*points[-1], "*", markersize=11, **ends)
