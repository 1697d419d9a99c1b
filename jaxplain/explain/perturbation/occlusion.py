"""Occlusion: the drop of the score when a sliding window is hidden."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.baseline import Perturbing, as_baseline, merged, replaced
from jaxplain.program import Static, as_function, map_range, public
from jaxplain.types import Array, Pytree


class Slide(NamedTuple):
    """Windows along one axis: their length, the step from one to the next, and how many there are."""

    size: int
    step: int
    number: int


class Occlusion(Perturbing):
    """The drop of the score with each window hidden, averaged over windows. Made by `occlusion`."""

    window: Any = None
    stride: Any = None

    def __call__(self, *inputs: Any) -> Pytree:
        """Explain one example: `e(x, *args)`, or `e(key, x, *args)` where the baseline is drawn."""
        key, x, args = self.take(*inputs)
        absent, moves = self.absent(key, x)
        slides = self._slides(x, moves)
        whole = self.scored(x, args)
        maps = [
            None if axes is None else self._leaf(index, axes, x, absent, args, whole)
            for index, axes in enumerate(slides)
        ]
        return merged(maps, x)

    def _leaf(
        self, index: int, axes: list[Slide], x: Pytree, absent: Pytree, args: tuple[Any, ...], whole: Array
    ) -> Array:
        shape = jnp.shape(jax.tree.leaves(x)[index])
        counts = tuple(axis.number for axis in axes)

        def hidden(number: Array) -> Array:
            masks: list[Any] = [None] * len(jax.tree.leaves(x))
            masks[index] = _window_mask(jnp.unravel_index(number, counts), axes, shape)
            return self.scored(replaced(x, absent, masks), args)

        drops = whole - map_range(hidden, math.prod(counts), self.batch_size)
        check.finite_scores(drops, self.name)
        return _averaged(drops.reshape(counts), axes, shape)

    def _slides(self, x: Pytree, moves: tuple[bool, ...]) -> list[Any]:
        """For each leaf that moves the windows along each of its axes; None at other leaves."""
        leaves = jax.tree_util.tree_leaves_with_path(x)
        structure = jax.tree.structure(x)
        windows, strides = (
            _for_each_leaf(value, structure, argument, self.name)
            for value, argument in ((self.window, "window"), (self.stride, "stride"))
        )
        return [
            _axes(jnp.shape(leaf), size, step, f"x{jax.tree_util.keystr(path)}", self.name) if move else None
            for (path, leaf), size, step, move in zip(leaves, windows, strides, moves, strict=True)
        ]


def _for_each_leaf(value: Any, structure: Any, argument: str, name: str) -> list[Any]:
    if isinstance(value, Static):
        return [value.value] * structure.num_leaves
    if str(jax.tree.structure(value, is_leaf=_is_static)) != str(structure):
        raise ValueError(
            f"{name}: `{argument}` has to be an integer, a tuple of integers, or a pytree of those of x's structure."
        )
    return [leaf.value for leaf in jax.tree.leaves(value, is_leaf=_is_static)]


def _is_static(value: Any) -> bool:
    return isinstance(value, Static)


def _axes(shape: tuple[int, ...], window: Any, stride: Any, where: str, name: str) -> list[Slide]:
    """The windows along each axis of a leaf; axes that `window` does not name are covered whole."""
    named = 2 if len(shape) == 3 else len(shape)
    sizes = (window,) * named if isinstance(window, int) else window
    steps = sizes if stride is None else (stride,) * len(sizes) if isinstance(stride, int) else stride
    if len(sizes) > len(shape) or len(steps) != len(sizes):
        raise ValueError(
            f"{name}: `window` is {window} and `stride` {stride}, but `{where}` has shape {shape}. Pass one integer "
            "of each for every axis from the front, as far as the window is to slide."
        )
    slides = []
    for axis, (size, step, length) in enumerate(zip(sizes, steps, shape, strict=False)):
        if size > length:
            raise ValueError(
                f"{name}: the window is {size} long along axis {axis}, but `{where}` of shape {shape} only {length}. "
                "Pass a window inside the input."
            )
        if step > size:
            raise ValueError(
                f"{name}: `stride` is {step} along axis {axis} and the window {size}, and no window covers some values "
                f"of `{where}`. Pass a stride of at most the window."
            )
        slides.append(Slide(size, step, -(-(length - size) // step) + 1))
    return slides + [Slide(length, length, 1) for length in shape[len(sizes) :]]


def _window_mask(position: tuple[Array, ...], axes: list[Slide], shape: tuple[int, ...]) -> Array:
    """Which values a window covers; at the far end it may reach beyond the input."""
    mask = jnp.ones((1,) * len(shape), bool)
    for axis, (index, slide) in enumerate(zip(position, axes, strict=True)):
        if slide.number == 1 and slide.size == shape[axis]:
            continue
        place = jnp.arange(shape[axis], dtype=jnp.int32) - index * slide.step
        covered = (place >= 0) & (place < slide.size)
        mask = mask & covered.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return jnp.broadcast_to(mask, shape)


def _averaged(drops: Array, axes: list[Slide], shape: tuple[int, ...]) -> Array:
    """The mean drop over the windows that cover each value; windows are products, so one axis after the other."""
    for axis, (slide, length) in enumerate(zip(axes, shape, strict=True)):
        last = jnp.minimum(jnp.arange(length) // slide.step, slide.number - 1)
        window = last[:, None] - jnp.arange(-(-slide.size // slide.step))[None, :]
        covers = (window >= 0) & (window * slide.step + slide.size > jnp.arange(length)[:, None])
        taken = jnp.take(drops, jnp.maximum(window, 0), axis=axis)
        weights = (covers / covers.sum(axis=1, keepdims=True)).astype(drops.dtype)
        weights = weights.reshape([*(1,) * axis, *covers.shape, *(1,) * (drops.ndim - axis - 1)])
        drops = (taken * weights).sum(axis=axis + 1)
    return drops


@public
def occlusion(
    f: Callable[..., Any], *, window: Any, stride: Any = None, baseline: Any = 0, batch_size: int | None = None
) -> Occlusion:
    """How far the score falls when a sliding window is hidden, averaged over the windows that cover a value.

    a_i = mean over windows w that cover i of f(x) - f(x with b in w). Windows start at 0, stride, 2 stride, ... along
    each axis; the last one is cut off at the border where the strides do not fit. Of a pytree the windows slide over
    one leaf after the other.

    Args:
        f: A score, `f(x, *args) -> scalar`.
        window: Length of the window along each axis from the front, in elements: `(4, 4)` for `[H, W, C]` hides all
            channels, `(400,)` a stretch of a waveform, `(5, 1)` five steps of one channel of `[T, C]`. An integer is
            taken along H and W of a leaf of three axes and along every axis of other leaves. A pytree of x's structure
            gives each leaf its own.
        stride: From one window to the next, of the window's form; None takes the window (no overlap).
        baseline: What hidden values become, as in `feature_ablation`.
        batch_size: How many windows are evaluated at once; memory grows with it and not with the windows. None takes
            what fills the device in `explain_batch` and `explain_dataset`, and 1 elsewhere.

    Returns:
        `e(x, *args) -> attribution` of x's structure and dtypes, in units of the score; integer and boolean leaves get
        theirs in float32, zeros where they are held. Cost: one forward pass, and one for each window.

    Raises:
        ValueError: A window larger than the input, a stride larger than the window, shapes that do not fit, NaN or
            infinities in a concrete `x` or in its scores.
        TypeError: `x` has no floating-point leaf, lengths that are no integers.

    Example:
        >>> e = occlusion(lambda x: (x * jnp.arange(4.0)).sum(), window=2, stride=1)
        >>> e(jnp.ones(4)).tolist()
        [1.0, 2.0, 4.0, 5.0]

    Source: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", section 4.2.
    """
    name = "occlusion"
    size = check.at_once(batch_size, name)
    fixed = _static_lengths(window, name, "window")
    step = None if stride is None else _static_lengths(stride, name, "stride")
    step = jax.tree.map(lambda _: Static(None), fixed, is_leaf=_is_static) if step is None else step
    return Occlusion(as_function(check.callable_score(f, name)), as_baseline(baseline), size, name, fixed, step)


def _static_lengths(value: Any, name: str, argument: str) -> Any:
    """Lengths as static leaves: an integer or a tuple of integers, or a pytree of those."""

    def lengths(leaf: Any) -> bool:
        whole = int | np.integer
        return isinstance(leaf, whole) or (isinstance(leaf, tuple | list) and all(isinstance(v, whole) for v in leaf))

    def fixed(leaf: Any) -> Static:
        if not lengths(leaf):
            raise TypeError(f"{name}: `{argument}` has to hold whole numbers, not {leaf!r}.")
        if isinstance(leaf, int | np.integer):
            return Static(check.count(leaf, name, argument))
        return Static(tuple(check.count(v, name, argument) for v in leaf))

    return jax.tree.map(fixed, value, is_leaf=lengths)
