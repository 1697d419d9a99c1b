"""Receptive fields: which part of the input a position of a layer can depend on, and cuts of inputs along them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain import check
from jaxplain.explain.visualization.objective import reading
from jaxplain.program import Function, public, setting
from jaxplain.types import Array


class ReceptiveField(Function):
    """The boxes of the input that positions of a layer depend on. Made by `receptive_field`."""

    read: Any
    batch_size: int = setting(default=32)

    def __call__(self, x: Array, *args: Any) -> Array:
        """The boxes, `[*positions, axes, 2]`."""
        if not hasattr(x, "ndim") or x.ndim == 0:
            raise TypeError("receptive_field: `x` has to be one array, such as an image [H, W, C].")
        check.differentiable(x, "receptive_field")
        inputs = (self, jnp.asarray(x), args)
        if all(check.is_concrete(leaf) for leaf in jax.tree.leaves(inputs)):
            # Other backends choose convolutions that mix neighbouring tiles, where one NaN reaches too far.
            inputs = jax.device_put(inputs, jax.devices("cpu")[0])
        return _boxes(*inputs)

    def along(self, axis: int, x: Array, args: tuple[Any, ...]) -> Array:
        """Whether each position depends on each index of an axis of the input, `[size, *positions]`."""
        base = self.read(x, *args)

        def probe(index: Array) -> Array:
            row = (jnp.arange(x.shape[axis]) == index).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
            other = jax.random.normal(jax.random.fold_in(jax.random.key(0), index), x.shape, x.dtype)
            changed = [self.read(jnp.where(row, value, x), *args) for value in (jnp.nan, other, -2 * other)]
            return jnp.any(jnp.stack([(h != base) & ~jnp.isnan(base) for h in changed]), axis=(0, -1))

        return lax.map(probe, jnp.arange(x.shape[axis]), batch_size=self.batch_size)


@jax.jit
def _boxes(field: ReceptiveField, x: Array, args: tuple[Any, ...]) -> Array:
    boxes = []
    for axis in range(max(1, x.ndim - 1)):
        depends = field.along(axis, x, args)
        size, any_of = depends.shape[0], jnp.any(depends, axis=0)
        first = jnp.argmax(depends, axis=0)
        stop = size - jnp.argmax(depends[::-1], axis=0)
        boxes.append(jnp.stack([jnp.where(any_of, first, 0), jnp.where(any_of, stop, 0)], axis=-1))
    return jnp.stack(boxes, axis=-2).astype(jnp.int32)


@public
def receptive_field(f: Callable[..., Any], path: str, *, batch_size: int = 32) -> ReceptiveField:
    """Find the part of the input that each position of a layer can depend on.

    Every row (column, time step) of the input is in turn replaced by NaN and by other values; the positions whose value
    changes depend on it. NaN passes through weights of zero, ReLUs and poolings, so the box is that of the network's
    structure, whatever its weights: the smallest box that holds the gradient's support at every input. Strides,
    dilation, shortcuts and attention need no rules of their own.

    Args:
        f: As in `objective.channel`.
        path: The layer, as in `split`.
        batch_size: How many rows are tried at once.

    Returns:
        `(x, *args) -> boxes`, integers `[*positions, axes, 2]`: the first index and the index after the last, for each
        axis of `x` but the channels; positions are the layer's axes but the last. Both are 0 where nothing is read.
        Cost: three forward passes for every row and column.

    Raises:
        ValueError: No such layer. TypeError: `x` is no floating-point array.

    Example:
        >>> import jax
        >>> def f(x):
        ...     with jax.named_scope("pairs"):
        ...         y = x[1:] + x[:-1]
        ...     return y.sum()
        >>> receptive_field(f, "pairs")(jnp.ones((3, 1)))[:, 0].tolist()
        [[0, 2], [1, 3]]

    After Araujo, Norris and Sim 2019, "Computing receptive fields of convolutional neural networks", who derive the
    boxes from each layer's geometry.
    """
    return ReceptiveField(reading(f, path, "receptive_field"), check.count(batch_size, "receptive_field", "batch_size"))


def cut(x: Any, boxes: Any, *, fill: float = 0.0) -> np.ndarray:
    """Cut boxes out of inputs, as patches of one size.

    A box that the input's border has cut off stays on the side where its position lies: what is missing in front is
    filled in front.

    Args:
        x: Inputs `[..., H, W, C]` (or `[..., T, C]`), one for each box.
        boxes: Integers `[..., axes, 2]` from `receptive_field`.
        fill: Value of what lies outside of a box.

    Returns:
        Patches `[..., h, w, C]`, as large as the largest box. Cost: one copy.

    Raises:
        ValueError: Leading axes that differ, boxes that reach out of the input.

    Example:
        >>> cut(np.arange(4.0).reshape(1, 4, 1), [[[1, 3]]])[0, :, 0].tolist()
        [1.0, 2.0]
    """
    array, boxes = np.asarray(x), np.asarray(boxes)
    lead, axes = boxes.shape[:-2], boxes.shape[-2]
    sides = array.shape[len(lead) : len(lead) + axes]
    if array.shape[: len(lead)] != lead or array.ndim < len(lead) + axes:
        raise ValueError(f"cut: `x` has shape {array.shape}, but `boxes` has {boxes.shape}: one input for each box.")
    if (boxes < 0).any() or (boxes > np.asarray(sides)[:, None]).any():
        raise ValueError(f"cut: a box reaches out of inputs with sides {sides}.")
    flat, flat_boxes = array.reshape(-1, *array.shape[len(lead) :]), boxes.reshape(-1, axes, 2)
    size = tuple(int(extent) for extent in (flat_boxes[..., 1] - flat_boxes[..., 0]).max(axis=0))
    patches = np.full((len(flat), *size, *flat.shape[1 + axes :]), fill, array.dtype)
    for patch, one, box in zip(patches, flat, flat_boxes, strict=True):
        source = tuple(slice(start, stop) for start, stop in box)
        target = tuple(
            slice(whole - (stop - start), whole) if start == 0 and stop < side else slice(0, stop - start)
            for (start, stop), whole, side in zip(box, size, sides, strict=True)
        )
        patch[target] = one[source]
    return patches.reshape(*lead, *patches.shape[1:])
