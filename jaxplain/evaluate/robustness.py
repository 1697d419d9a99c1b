"""Robustness: does the explanation stay where the input hardly changes?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.program.differentiate import map_floating
from jaxplain.program.function import Function, as_function, needs_key, setting
from jaxplain.program.loop import chunked, wide_dtype
from jaxplain.types import Array, Pytree

NORMS = ("l2", "l1", "linf")


class MaxSensitivity(Function):
    """The largest change of an explanation around an input. Made by `max_sensitivity`."""

    explain: Any
    radius: Any
    samples: int = setting(default=10)
    norm: str = setting(default="l2")
    relative: bool = setting(default=True)
    batch_size: int = setting(default=1)

    @property
    def needs_key(self) -> bool:
        """Always: the perturbations are drawn from the key."""
        return True

    @property
    def needs_attribution(self) -> bool:
        """Never: the explanation is made again at each point."""
        return False

    @property
    def better(self) -> str:
        """Which values are better."""
        return "lower"

    def __call__(self, key: Array, x: Pytree, *args: Any) -> Array:
        """Judge the explanation of one example: `m(key, x, *args)`."""
        check.differentiable(x, "max_sensitivity")
        check.finite(x, "max_sensitivity")
        own, draws = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)

        def explain(point: Pytree) -> list[Array]:
            # The same key at every point, so that only the input changes.
            a = self.explain(own, point, *args) if needs_key(self.explain) else self.explain(point, *args)
            leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(a)]
            return [leaf.astype(wide_dtype(leaf.dtype)) for leaf in leaves]

        centre = explain(x)

        def change(index: Array) -> Array:
            moved = explain(perturb(jax.random.fold_in(draws, index), x, self.radius))
            return size([b - a for a, b in zip(centre, moved, strict=True)], self.norm)

        def fold(largest: Array, chunk: Array, mask: Array) -> Array:
            return jnp.maximum(largest, jnp.where(mask, jax.vmap(change)(chunk), 0.0).max())

        scale = size(centre, self.norm)
        largest = chunked(fold, jnp.zeros((), scale.dtype), jnp.arange(self.samples), self.batch_size)
        return jnp.where(scale > 0, largest / scale, jnp.nan) if self.relative else largest


def perturb(key: Array, x: Pytree, radius: Any) -> Pytree:
    """Add U(-radius, radius) to every value of the floating-point leaves, each leaf from a key of its own."""
    number = iter(range(len(jax.tree.leaves(x))))

    def shift(leaf: Any) -> Array:
        leaf = jnp.asarray(leaf)
        wide = wide_dtype(leaf.dtype)
        noise = jax.random.uniform(jax.random.fold_in(key, next(number)), leaf.shape, wide, -1.0, 1.0)
        return (leaf.astype(wide) + radius * noise).astype(leaf.dtype)

    return map_floating(shift, x)


def size(leaves: list[Array], norm: str) -> Array:
    """The norm of all values together; scaled by the largest, so that squares neither overflow nor vanish."""
    values = jnp.concatenate([jnp.abs(leaf).reshape(-1) for leaf in leaves])
    largest = values.max()
    if norm == "linf":
        return largest
    if norm == "l1":
        return values.sum()
    return largest * jnp.sqrt(jnp.sum(jnp.square(values / jnp.where(largest > 0, largest, 1.0))))


def max_sensitivity(
    e: Callable[..., Any],
    *,
    radius: Any,
    samples: int = 10,
    norm: str = "l2",
    relative: bool = True,
    batch_size: int = 1,
) -> MaxSensitivity:
    """How much an explanation changes at most around an input: max_s |e(x + d_s) - e(x)| / |e(x)|; lower is better.

    The perturbations d_s are uniform in the cube |d|_inf <= radius; the maximum over samples is a lower bound of the
    source's maximum over the ball. The source's definition has no divisor; libraries in use divide by |e(x)|, as here
    unless `relative=False`. A random explanation gets one key at all points, so that only the
    input changes. A constant explanation has sensitivity 0: read this beside a faithfulness metric.

    Args:
        e: An explanation, `e(x, *args)` or, if random, `e(key, x, *args)`.
        radius: Half the width of the cube, in units of the input.
        samples: How many perturbations.
        norm: 'l2', 'l1' or 'linf', over all values of the attribution.
        relative: Whether to divide by |e(x)|; then NaN where e(x) is zero everywhere.
        batch_size: How many perturbed inputs are explained at once; memory grows with it and not with `samples`.

    Returns:
        `m(key, x, *args) -> sensitivity`, one number, at least 0, without unit (in units of `e` if not `relative`).
        Floating-point leaves are perturbed, the others held fixed; sample s draws from a key of its own, so the
        result does not depend on `batch_size`. Cost: `samples` + 1 explanations.

    Raises:
        ValueError: `radius` not one positive number, `samples` or `batch_size` below 1, an unknown norm, NaN or
            infinities in a concrete `x`.
        TypeError: `x` has no floating-point leaf, `e` is no function.

    Example:
        >>> m = max_sensitivity(lambda x: 2 * jnp.ones_like(x), radius=0.1)
        >>> float(m(jax.random.key(0), jnp.array([1.0, 3.0])))
        0.0

    Source: Yeh et al. 2019, "On the (in)fidelity and sensitivity of explanations", Definition 3.1.
    """
    if not callable(e):
        raise TypeError(f"max_sensitivity: `e` has to be an explanation e(x, *args), not {type(e).__name__}.")
    if jnp.shape(radius) != ():
        raise ValueError(f"max_sensitivity: `radius` has shape {jnp.shape(radius)}; pass one number.")
    return MaxSensitivity(
        as_function(e),
        check.positive(radius, "max_sensitivity", "radius"),
        check.count(samples, "max_sensitivity", "samples"),
        check.choice(norm, NORMS, "max_sensitivity", "norm"),
        bool(relative),
        check.count(batch_size, "max_sensitivity", "batch_size"),
    )
