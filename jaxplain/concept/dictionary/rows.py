"""Rows of activations to find concepts in: of image crops at the input's size, or of every place of a layer."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.types import Array, Pytree


class Pieces(NamedTuple):
    """Where rows come from.

    examples: `[R]`, the example of each. corners: `[R, A]`, the upper left pixel of a crop, or the place in the layer.
    """

    examples: Array
    corners: Array


def shared_args(args: tuple[Any, ...], count: int, name: str) -> tuple[Any, ...]:
    """Arguments with a leading axis of the examples: numbers are those of all, others have it."""
    made = []
    for position, value in enumerate(args):
        check.arrays(value, name, f"argument {position} after `x`")
        if jnp.ndim(value) == 0 if not isinstance(value, dict | list | tuple) else False:
            value = jnp.broadcast_to(jnp.asarray(value), (count,))
        lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(value)}
        if lengths != {(count,)}:
            raise ValueError(
                f"{name}: argument {position} after `x` has the leading axes {sorted(lengths)}, but there are {count} "
                "examples. Pass one value for each, or one number for all."
            )
        made.append(jax.tree.map(jnp.asarray, value))
    return tuple(made)


def image_pieces(x: Any, window: int, stride: int | None, name: str) -> tuple[Array, Pieces]:
    """Images `[B, H, W, ...]` and the corners of square crops of them, row by row; `stride` is 0.8 windows by default.

    The last crop of a line ends at the border, wherever the strides fall.
    """
    check.arrays(x, name)
    if len(jax.tree.leaves(x)) != 1 or jnp.ndim(x) not in (3, 4) or not check.is_floating(x):
        raise ValueError(
            f"{name}: crops are of images, floats [B, H, W] or [B, H, W, C], but `x` is {check.short(x)}. For tokens "
            "and tables leave `window` out: rows are then the places of the layer."
        )
    images = jnp.asarray(x)
    window = check.count(window, name, "window")
    step = max(1, int(0.8 * window)) if stride is None else check.count(stride, name, "stride")
    height, width = images.shape[1:3]
    if window > min(height, width):
        raise ValueError(f"{name}: `window` is {window}, but the images are {height} x {width}. Pass a smaller one.")
    tops, lefts = (_starts(length, window, step) for length in (height, width))
    each = np.stack(np.meshgrid(tops, lefts, indexing="ij"), axis=-1).reshape(-1, 2)
    count = images.shape[0]
    examples = np.repeat(np.arange(count), len(each))
    return images, Pieces(jnp.asarray(examples), jnp.asarray(np.tile(each, (count, 1))))


def _starts(length: int, window: int, step: int) -> np.ndarray:
    starts = np.arange(0, length - window + 1, step)
    return starts if starts[-1] == length - window else np.append(starts, length - window)


def layer_pieces(count: int, axes: tuple[int, ...]) -> Pieces:
    """Every place of a layer of `count` examples, in the order in which `h.reshape(-1, D)` has them."""
    places = np.stack(np.meshgrid(*map(np.arange, axes), indexing="ij"), -1).reshape(-1, len(axes)) if axes else None
    each = np.zeros((1, 0), int) if places is None else places
    return Pieces(jnp.asarray(np.repeat(np.arange(count), len(each))), jnp.asarray(np.tile(each, (count, 1))))


def cropped(images: Array, example: Array, corner: Array, window: int) -> Array:
    """One crop, `[window, window, ...]`."""
    zeros = [0] * (images.ndim - 3)
    return jax.lax.dynamic_slice(images, (example, *corner, *zeros), (1, window, window, *images.shape[3:]))[0]


@functools.partial(jax.jit, static_argnames=("window", "batch_size"))
def crop_rows(body: Any, images: Array, args: Any, pieces: Pieces, window: int, batch_size: int) -> Array:
    """Activations `[R, D]` of crops resized to the images' size, averaged over the places of the layer."""

    def one(piece: Pieces) -> Array:
        crop = cropped(images, piece.examples, piece.corners, window)
        whole = jax.image.resize(crop, images.shape[1:], "linear", antialias=False).astype(images.dtype)
        return averaged(body(whole, *jax.tree.map(lambda leaf: leaf[piece.examples], args)))

    return jax.lax.map(one, pieces, batch_size=min(batch_size, len(pieces.examples)))


def averaged(h: Array) -> Array:
    """The mean of a layer's values over its places, `[D]`, summed in float32 at least."""
    wide = h.astype(jnp.promote_types(h.dtype, jnp.float32))
    return jnp.mean(wide, axis=tuple(range(h.ndim - 1))) if h.ndim > 1 else wide


@functools.partial(jax.jit, static_argnames="batch_size")
def layer_values(body: Any, x: Pytree, args: Any, batch_size: int) -> Any:
    """A layer's values of every example, `[B, ..., D]`."""
    count = jax.tree.leaves(x)[0].shape[0]
    return jax.lax.map(lambda row: body(row[0], *row[1]), (x, args), batch_size=min(batch_size, count))


def one_array(h: Any, layer: str, name: str) -> Any:
    """Require that a layer holds one array, with an axis of features."""
    if len(jax.tree.leaves(h)) != 1:
        raise ValueError(f"{name}: {layer!r} holds {len(jax.tree.leaves(h))} arrays; pick one, as in '{layer}[0]'.")
    if jnp.ndim(h) < 2:
        raise ValueError(f"{name}: {layer!r} holds one number for each example; choose a layer with features.")
    return h
