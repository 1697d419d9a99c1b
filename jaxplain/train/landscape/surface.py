"""The loss over a grid of points of a plane in the space of params."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import chunked_map, public
from jaxplain.train.landscape.objective import opened
from jaxplain.train.landscape.plane import Plane
from jaxplain.types import Array, ArrayLike

POINTS = 25
MARGIN = 0.25


class Surface(NamedTuple):
    """The loss over a plane.

    x, y: Coordinates `[X]` and `[Y]` along the two directions.
    loss: `[Y, X]`, in units of the loss; NaN and infinities, far from the centre, are left as they are.
    path: Coordinates `[S, 2]` of what the plane was laid through, or None.
    explained: `[2]`, the share of the path's variance along each direction, or None.
    """

    x: Any
    y: Any
    loss: Any
    path: Any = None
    explained: Any = None

    def __repr__(self) -> str:
        loss = np.asarray(self.loss) if check.is_concrete(self.loss) else np.empty(0)
        finite = loss[np.isfinite(loss)]
        size = " x ".join(map(str, jnp.shape(self.loss)))
        span = f", {finite.min():.3g} to {finite.max():.3g}" if finite.size else ""
        lost = f", {loss.size - finite.size} not finite" if loss.size > finite.size else ""
        return f"Surface({size}{span}{lost})"


@public
def loss_surface(
    objective: Callable[..., Any],
    plane: Plane,
    *,
    x: ArrayLike | None = None,
    y: ArrayLike | None = None,
    batch_size: int | None = None,
) -> Surface:
    """Evaluate the loss over a grid of points of a plane, as one program.

    Args:
        objective: `mean_loss(apply, params, data)`, or any function `params -> scalar`.
        plane: From `random_plane`, `principal_plane` or `plane_through`.
        x: Coordinates `[X]` along the first direction, rising. By default 25: from -1 to 1, or, where the plane was
            laid through points, from a quarter of their extent before to a quarter after them.
        y: The same along the second direction.
        batch_size: Points of the grid evaluated at once by `jax.vmap`; None is 1. More is faster on accelerators; of
            convolutions it makes grouped ones, which are slow on CPUs.

    Returns:
        `Surface`. Cost: X * Y evaluations of the objective.

    Raises:
        TypeError: `plane` is no `Plane`, integer params, an objective that is no function.
        ValueError: Coordinates that do not rise, NaN, an objective that is no number of the params.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxplain.train import principal_plane
        >>> plane = principal_plane(lambda w: (w**2).sum(), jnp.array([[4.0, 0.0], [0.0, 1.0], [0.0, 0.0]]))
        >>> loss_surface(lambda w: (w**2).sum(), plane, x=[0.0, 1.0], y=[0.0, 2.0]).loss.round(4).tolist()
        [[0.0, 1.0], [4.0, 5.0]]

    Source: Li et al. 2018, "Visualizing the loss landscape of neural nets", equation 1.
    """
    name = "loss_surface"
    batch_size = check.at_once(batch_size, name)
    objective, _ = opened(objective, plane.origin, name, "plane")
    along, across = (_checked(given, name, argument) for given, argument in ((x, "x"), (y, "y")))
    return _surface(objective, plane, along, across, batch_size=batch_size)


def _checked(given: Any, name: str, argument: str) -> Any:
    """Coordinates as an array, or None."""
    if given is None:
        return None
    places = np.asarray(given, float) if check.is_concrete(given) else given
    check.arrays(places, name, argument)
    check.finite(places, name, argument)
    row = np.ndim(places) == 1 and np.size(places) > 1
    if not row or (check.is_concrete(places) and bool(np.any(np.diff(places) <= 0))):
        raise ValueError(
            f"{name}: `{argument}` has to hold at least two rising coordinates, such as jnp.linspace(-1, 1, 25), not "
            f"{check.short(given)}."
        )
    return places


@functools.partial(jax.jit, static_argnames="batch_size")
def _surface(objective: Any, plane: Plane, x: Any, y: Any, *, batch_size: int | None) -> Surface:
    x, y = (_extent(plane, axis) if given is None else given for axis, given in enumerate((x, y)))
    x, y = (jnp.asarray(places, jax.tree.leaves(plane.directions)[0].dtype) for places in (x, y))
    points = jnp.stack([part.reshape(-1) for part in jnp.meshgrid(x, y)], axis=1)
    losses = chunked_map(lambda point: objective(plane(point[0], point[1])), points, batch_size)
    return Surface(x, y, losses.reshape(len(y), len(x)), plane.path, plane.explained)


def _extent(plane: Plane, axis: int) -> Array:
    """Coordinates around the origin, or around what the plane was laid through."""
    if plane.path is None:
        return jnp.linspace(-1, 1, POINTS)
    low, high = jnp.min(plane.path[:, axis]), jnp.max(plane.path[:, axis])
    return jnp.linspace(low - MARGIN * (high - low), high + MARGIN * (high - low), POINTS)
