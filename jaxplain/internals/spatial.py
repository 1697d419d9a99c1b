"""Where the values of a layer lie in the input: spatial axes, tokens on a grid, and maps resized to the input.

Shared by the class activation maps. A layer's values for one example are `[h, w, C]` (one to three spatial axes and
the channels), or tokens `[T, D]` of which some may stand for no place (a class token).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.program import is_array
from jaxplain.types import Array, Pytree


class Places(NamedTuple):
    """How a layer's values lie in the input.

    grid: the layer's lengths along its spatial axes; dropped: how many leading tokens stand for no place; size: the
    input's lengths along the same axes, None where they cannot be told; channel_axis: the layer's axis of channels.
    """

    grid: tuple[int, ...]
    dropped: int
    size: tuple[int, ...] | None
    channel_axis: int

    def arrange(self, values: Array) -> Array:
        """A layer's values as `[*grid, C]`."""
        values = jnp.moveaxis(values, self.channel_axis, -1)
        return values[self.dropped :].reshape(*self.grid, values.shape[-1])


def places(
    h: Any,
    x: Pytree,
    *,
    path: str,
    name: str,
    grid: tuple[int, ...] | None = None,
    channel_axis: int = -1,
    resize: bool | tuple[int, ...] = True,
) -> Places:
    """Find how a layer's values lie in the input.

    Args:
        h: The layer's values for one example.
        x: The example; one of its leaves has the layer's spatial axes.
        path: The layer, for errors.
        name: The method, for errors.
        grid: The grid of the tokens of a layer `[T, D]`, row-major; leading tokens beyond it are dropped. None takes a
            layer's own axes, or, for tokens of an image or volume, the grid of the input's proportions.
        channel_axis: The axis of the channels, in the layer and in an `x` of as many axes. An image whose channels
            lie at the other end, and a layer that can only lie as `channel_axis` says, are taken for what they are.
        resize: As in `grad_cam`: a size that is given need not be told from `x`.

    Returns:
        The places.

    Raises:
        ValueError: A layer without spatial axes, or of more than three; tokens that fit no grid; an image and a layer
            of which it cannot be told where their channels are.
    """
    if not is_array(h):
        raise ValueError(f"{name}: {path!r} holds {len(jax.tree.leaves(h))} arrays; pick one, as in '{path}[0]'.")
    if h.ndim >= 2 and not -h.ndim <= channel_axis < h.ndim:
        raise ValueError(
            f"{name}: `channel_axis` is {channel_axis}, but {path!r} holds values of shape {h.shape} for one example."
        )
    if h.ndim < 2:
        raise ValueError(
            f"{name}: {path!r} holds values of shape {h.shape} for one example, which have no spatial axes beside the "
            "channels. Choose a layer before the pooling or flattening, [H, W, C] or tokens [T, D]; "
            "`print(jaxplain.layers(f)(x, ...))` lists all shapes."
        )
    spatial = without_axis(h.shape, channel_axis)
    if len(spatial) > 3:
        raise ValueError(
            f"{name}: {path!r} holds values of shape {h.shape}, with {len(spatial)} axes beside the channels; a map "
            "has one to three. Choose another layer, or name the right `channel_axis`."
        )
    if grid is not None:
        return Places(grid, _leading(spatial, grid, path, name), _size(x, len(grid), channel_axis), channel_axis)
    own = _size(x, len(spatial), channel_axis)
    if len(spatial) > 1 or own is not None:
        _refuse_turned(h.shape, x, own, path, name, channel_axis, resize)
        return Places(spatial, 0, own, channel_axis)
    size = _size(x, 2, channel_axis) or _size(x, 3, channel_axis)
    if size is None:
        return Places(spatial, 0, None, channel_axis)
    found = on_grid(spatial[0], size)
    if found is None:
        raise ValueError(
            f"{name}: the {spatial[0]} tokens of {path!r} fill no grid of the proportions of an input of {size}, with "
            "or without a class token. Pass `grid=`, such as grid=(14, 14): leading tokens beyond it are dropped."
        )
    return Places(*found, size, channel_axis)


def without_axis(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """A shape without one of its axes."""
    axis %= len(shape)
    return (*shape[:axis], *shape[axis + 1 :])


def _leading(spatial: tuple[int, ...], grid: tuple[int, ...], path: str, name: str) -> int:
    """How many tokens come before those on a given grid."""
    places = math.prod(grid)
    if spatial == grid:
        return 0
    if len(spatial) != 1 or spatial[0] < places:
        raise ValueError(
            f"{name}: `grid={grid}` has {places} places, but {path!r} has the axes {spatial} beside its channels. A "
            "grid is for tokens [T, D], with at least as many tokens as places (leading ones beyond it are dropped)."
        )
    return spatial[0] - places


def on_grid(tokens: int, size: tuple[int, ...]) -> tuple[tuple[int, ...], int] | None:
    """The grid of the input's proportions that all tokens, or all but a class token, fill; and how many are dropped."""
    unit = math.gcd(*size)
    proportions = [length // unit for length in size]
    for dropped in (0, 1):
        scale = round(((tokens - dropped) / math.prod(proportions)) ** (1 / len(size)))
        grid = tuple(scale * length for length in proportions)
        if scale and math.prod(grid) == tokens - dropped:
            return grid, dropped
    return None


def _fitting(x: Pytree, axes: int) -> list[int]:
    """The leaves of `x` that have so many axes and perhaps channels, the floating-point ones where there are any."""
    leaves = jax.tree.leaves(x)
    fitting = [i for i, leaf in enumerate(leaves) if jnp.ndim(leaf) == axes + 1]
    fitting = fitting or [i for i, leaf in enumerate(leaves) if jnp.ndim(leaf) == axes]
    return [i for i in fitting if check.is_floating(leaves[i])] or fitting


def _size(x: Pytree, axes: int, channel_axis: int) -> tuple[int, ...] | None:
    """The input's lengths along the spatial axes; None where no leaf, or leaves of several sizes, have them."""
    leaves = jax.tree.leaves(x)
    shapes = {jnp.shape(leaves[index]) for index in _fitting(x, axes)}
    sizes = {shape if len(shape) == axes else without_axis(shape, _channels(shape, channel_axis)) for shape in shapes}
    return sizes.pop() if len(sizes) == 1 else None


_COLOURS = 4
"""The most channels of what is taken for an image, or a volume, whose channels lie at the other end."""


def _channels(shape: tuple[int, ...], axis: int) -> int:
    """Which axis of an input holds its channels: `axis`, or the other end where all says so (an image [3, H, W])."""
    ends = (0, len(shape) - 1)
    axis %= len(shape)
    if len(shape) < 3 or axis not in ends:
        return axis
    other = ends[1] if axis == 0 else 0
    return other if shape[other] <= _COLOURS < min(without_axis(shape, other)) else axis


def _refuse_turned(
    shape: tuple[int, ...],
    x: Pytree,
    size: tuple[int, ...] | None,
    path: str,
    name: str,
    channel_axis: int,
    resize: bool | tuple[int, ...],
) -> None:
    """Refuse a layer of an input whose channels lie at the other end, if its own may lie there as well."""
    axes = len(shape) - 1
    inputs = [jnp.shape(jax.tree.leaves(x)[index]) for index in _fitting(x, axes)]
    turned = [own for own in inputs if len(own) == axes + 1 and _channels(own, channel_axis) != channel_axis % len(own)]
    if not turned or size is None or not isinstance(resize, bool):
        return
    other = 0 if channel_axis % len(shape) else -1
    as_said, as_input = (_covers(without_axis(shape, axis), size) for axis in (channel_axis, other))
    if (as_input and resize) or not as_said:
        raise ValueError(
            f"{name}: `x` of shape {turned[0]} has its channels along axis {other % len(shape)}, and {path!r} of shape "
            f"{shape} may have them there or along axis {channel_axis}. Pass `channel_axis={other}` if the layer has "
            f"them where `x` does, or `resize={size}` if not."
        )


def _covers(grid: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Whether a layer's places may cover an input: no more of them than values, with about one step along all axes."""
    steps = [length / own for length, own in zip(size, grid, strict=True)]
    return min(steps) >= 1 and max(steps) <= 1.25 * min(steps)


def masked_input(x: Pytree, mask: Array, channel_axis: int) -> Pytree:
    """The input times a map, at every floating-point leaf that has the map's axes."""
    leaves, structure = jax.tree.flatten(x)
    for index in _fitting(x, mask.ndim):
        leaf = leaves[index]
        if check.is_floating(leaf):
            axis = _channels(jnp.shape(leaf), channel_axis)
            shown = mask if jnp.ndim(leaf) == mask.ndim else jnp.expand_dims(mask, axis)
            leaves[index] = (leaf * shown).astype(jnp.result_type(leaf))
    return jax.tree.unflatten(structure, leaves)


def resized(values: Array, size: tuple[int, ...]) -> Array:
    """Interpolate a map linearly along each axis, with half-pixel centres and the border repeated."""
    return values if values.shape == size else jax.image.resize(values, size, "linear", antialias=False)


def spread(values: Array, size: tuple[int, ...]) -> Array:
    """Hand each value of a map on to the places of a larger one, linearly and half-pixel centred, keeping its sum."""
    for axis, (own, wanted) in enumerate(zip(values.shape, size, strict=True)):
        if own != wanted:
            weights = jax.image.resize(jnp.eye(own, dtype=values.dtype), (own, wanted), "linear")
            weights = weights / weights.sum(axis=1, keepdims=True)
            values = jnp.moveaxis(jnp.tensordot(values, weights, (axis, 0)), -1, axis)
    return values


def normalized(values: Array) -> Array:
    """Divide by the largest absolute value; a map of zeros stays."""
    largest = jnp.max(jnp.abs(values))
    return values / jnp.where(largest > 0, largest, 1)
