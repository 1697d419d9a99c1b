"""Continuity: how fast an explanation changes while the input is shifted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.evaluate.metric import Metric
from jaxplain.evaluate.robustness.sensitivity import explained, size
from jaxplain.program import as_function, chunked_map, needs_key, public, setting, wide_dtype
from jaxplain.types import Array, Number


class Continuity(Metric):
    """The steepest change of an explanation along a shift. Made by `continuity`."""

    takes: ClassVar[tuple[str, ...]] = ("x", "*args")
    explain: Any
    fill: Any
    steps: int = setting(default=8)
    axis: int = setting(default=1)
    batch_size: int | None = setting(default=None, points=True)
    name: str = setting(default="continuity")

    @property
    def needs_key(self) -> bool:
        """Whether the explanation is random."""
        return needs_key(self.explain)

    def __call__(self, *inputs: Any) -> Array:
        """Judge the explanation of one example: `m(x, *args)`, with a key first where the explanation is random."""
        key = None
        if self.needs_key:
            key, *rest = check.needed_key(inputs, "continuity", "m(key, x, *args)"), *inputs[1:]
            inputs = tuple(rest)
        x, *args = inputs
        check.differentiable(x, "continuity")
        check.finite(x, "continuity")
        for leaf in jax.tree.leaves(x):
            if jnp.ndim(leaf) <= self.axis or jnp.shape(leaf)[self.axis] < 2:
                raise ValueError(
                    f"continuity: `x` of shape {jnp.shape(leaf)} cannot be shifted along axis {self.axis}."
                )

        def at(step: Array) -> tuple[list[Array], list[Array]]:
            point = jax.tree.map(lambda leaf: self._shifted(leaf, step), x)
            values = [jnp.asarray(leaf) for leaf in jax.tree.leaves(point)]
            # The key is of use only where the explanation is random.
            found = explained(self.explain, key, point, tuple(args), "continuity")
            return found, [v.astype(wide_dtype(v.dtype)) for v in values]

        a, points = chunked_map(at, jnp.arange(-self.steps, self.steps + 1), self.batch_size)

        def slope(step: Array) -> Array:
            change = size([leaf[step + 1] - leaf[step] for leaf in a], "l1")
            distance = size([leaf[step + 1] - leaf[step] for leaf in points], "l2")
            return jnp.where(distance > 0, change / jnp.where(distance > 0, distance, 1.0), jnp.nan)

        slopes = jax.vmap(slope)(jnp.arange(2 * self.steps))
        bad = jnp.any(jnp.stack([jnp.isnan(leaf).any() for leaf in a]))
        largest = jnp.max(jnp.where(jnp.isnan(slopes), -jnp.inf, slopes))
        return jnp.where(bad | jnp.isneginf(largest), jnp.nan, largest)

    def _shifted(self, leaf: Any, step: Array) -> Array:
        leaf = jnp.asarray(leaf)
        index = jnp.arange(leaf.shape[self.axis]) - step
        inside = (index >= 0) & (index < leaf.shape[self.axis])
        moved = jnp.take(leaf, jnp.clip(index, 0, leaf.shape[self.axis] - 1), axis=self.axis)
        inside = inside.reshape([-1 if axis == self.axis else 1 for axis in range(leaf.ndim)])
        return jnp.where(inside, moved, jnp.asarray(self.fill, leaf.dtype))


@public
def continuity(
    e: Callable[..., Any], *, steps: int = 8, axis: int = 1, fill: Number = 0.0, batch_size: int | None = None
) -> Continuity:
    """The steepest change of an explanation while the input is shifted pixel by pixel; lower is better.

    max_t |e(x_(t+1)) - e(x_t)|_1 / |x_(t+1) - x_t|_2, x_t the input shifted by t = -steps ... steps pixels. The source
    takes the maximum over all pairs of inputs, and a sequence of shifted ones in its example.

    Args:
        e: An explanation, `e(x, *args)` or, if random, `e(key, x, *args)`: one key for all shifts.
        steps: How many pixels to either side.
        axis: Along which axis: 1 shifts an image `[H, W, C]` sideways, 0 a sequence `[T, D]` in time.
        fill: What comes in at the border, one number.
        batch_size: How many shifted inputs are explained at once. None takes what fills the device in `evaluate_batch`,
            and 1 elsewhere.

    Returns:
        `m(x, *args) -> continuity` (`m(key, x, *args)` where `e` is random), one number, at least 0, in units of `e`
        per unit of the input; NaN where no shift changes the input. All leaves of `x` are shifted.
        Cost: 2 `steps` + 1 explanations, all of which are kept until the end.

    Raises:
        ValueError: `steps` or `batch_size` below 1, an axis that `x` lacks, NaN or infinities in a concrete `x`.
        TypeError: `e` is no function, `x` has no floating-point leaf.

    Example:
        >>> m = continuity(lambda x: jnp.ones_like(x), steps=2)
        >>> float(m(jnp.eye(4)))
        0.0

    Source: Montavon, Samek and Müller 2018, "Methods for interpreting and understanding deep neural networks",
    section 7.1.
    """
    if not callable(e):
        raise TypeError(f"continuity: `e` has to be an explanation e(x, *args), not {type(e).__name__}.")
    if jnp.shape(fill) != ():
        raise ValueError(f"continuity: `fill` has shape {jnp.shape(fill)}; pass one number.")
    check.finite(fill, "continuity", "fill")
    return Continuity(
        as_function(e),
        fill,
        check.count(steps, "continuity", "steps"),
        check.count(axis, "continuity", "axis", 0),
        check.at_once(batch_size, "continuity"),
    )
