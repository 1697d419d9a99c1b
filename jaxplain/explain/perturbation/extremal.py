"""Extremal perturbation: the mask of a given area that keeps the score highest, learnt by gradient ascent."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.baseline import MIXTURE, Perturbing, as_baseline, merged
from jaxplain.program import Static, as_function, public, setting
from jaxplain.types import Array, Pytree

_POWER = 8.0
"""Of the power mean that stands for a maximum: high enough for flat tops, low enough that gradients reach all cells."""

_SCALE = 10.0
"""What the score's change from the baseline to the input counts as, beside the weight: the order of a logit's."""

_GROWTH = 16.0
"""By what the weight grows in the second half: that of the source's, 1.0035 a step, over its 800 steps."""


class ExtremalPerturbation(Perturbing):
    """A learnt mask. Made by `extremal_perturbation`."""

    area: Any = 0.1
    weight: Any = 300.0
    optimizer: Any = None
    spacing: tuple[int, ...] = setting(default=(4, 4))
    steps: int = setting(default=200)
    preserve: bool = setting(default=True)

    @property
    def holds(self) -> str | None:
        """A soft mask mixes the input with the baseline."""
        return MIXTURE

    def __call__(self, *inputs: Any) -> Pytree:
        """Explain one example: `e(x, *args)`, or `e(key, x, *args)` where the baseline is drawn."""
        key, x, args = self.take(*inputs)
        check.differentiable(x, self.name)
        absent = self.absent(key, x).values
        shape = self._masked_shape(x)
        theta = jnp.full(tuple(-(-size // gap) + 1 for size, gap in zip(shape, self.spacing, strict=True)), 0.5)
        optimizer = self.optimizer.value
        descend = jax.grad(functools.partial(self._objective, shape))
        change = jnp.abs(lax.stop_gradient(self.scored(x, args) - self.scored(absent, args)))
        unit = jnp.where(change > 0, change, 1.0) / _SCALE

        def step(carry: Any, index: Array) -> tuple[Any, None]:
            theta, state = carry
            # The area counts little at first, so that the mask finds its place before it gets sharp.
            part = 2 * (index + 1) / self.steps
            weight = unit * self.weight * jnp.minimum(1.0, part) * _GROWTH ** jnp.maximum(0.0, part - 1)
            updates, state = optimizer.update(descend(theta, weight, x, absent, *args), state, theta)
            return (jnp.clip(theta + updates, 0.0, 1.0), state), None

        (theta, _), _ = lax.scan(step, (theta, optimizer.init(theta)), jnp.arange(self.steps))
        check.finite_scores(theta, self.name)
        mask = _of_area(self._mask(theta, shape), self.area)
        return merged([_over(mask, leaf) if check.is_floating(leaf) else None for leaf in jax.tree.leaves(x)], x)

    def _masked_shape(self, x: Pytree) -> tuple[int, ...]:
        """The leading axes that all floating-point leaves share, as many as `spacing` names."""
        count = len(self.spacing)
        shapes = {jnp.shape(leaf)[:count] for leaf in jax.tree.leaves(x) if check.is_floating(leaf)}
        if len(shapes) != 1 or len(next(iter(shapes))) != count:
            raise ValueError(
                f"{self.name}: `spacing` is {self.spacing}, so x's floating-point leaves need {count} common "
                f"leading axes, but these are {sorted(shapes)}. Pass one number for each axis "
                "that the mask varies along."
            )
        return shapes.pop()

    def _mask(self, theta: Array, shape: tuple[int, ...]) -> Array:
        """A smooth maximum of Gaussian bumps around the cells: the power mean of theta under a narrow Gaussian.

        Powers turn the maximum of products into a sum of products, which factors into one matrix product for each axis.
        """
        values = (theta + 1e-3) ** _POWER
        for axis, (size, gap) in enumerate(zip(shape, self.spacing, strict=True)):
            place = jnp.arange(size)[:, None] / gap - jnp.arange(theta.shape[axis])[None, :]
            bump = jnp.exp(-0.5 * _POWER * jnp.square(place))  # a bump's width is one spacing
            bump = bump / bump.sum(axis=1, keepdims=True)
            values = jnp.moveaxis(jnp.tensordot(bump, values, (1, axis)), 0, axis)
        return jnp.clip(values ** (1 / _POWER) - 1e-3, 0.0, 1.0)

    def _objective(
        self, shape: tuple[int, ...], theta: Array, weight: Array, x: Pytree, absent: Pytree, *args: Any
    ) -> Array:
        """What the optimiser minimises: the penalty on the mask's area less the score behind the mask."""
        mask = self._mask(theta, shape)
        kept = mask if self.preserve else 1 - mask
        leaves, structure = jax.tree.flatten(x)
        seen = [
            (other + _over(kept, leaf) * (leaf - other)).astype(leaf.dtype) if check.is_floating(leaf) else leaf
            for leaf, other in zip(leaves, jax.tree.leaves(absent), strict=True)
        ]
        score = self.scored(jax.tree.unflatten(structure, seen), args)
        ordered = jnp.sort(mask.reshape(-1))
        wanted = (jnp.arange(ordered.size) >= (1 - self.area) * ordered.size).astype(ordered.dtype)
        return weight * jnp.mean(jnp.square(ordered - wanted)) - (score if self.preserve else -score)


def _of_area(mask: Array, area: Any) -> Array:
    """The mask with its soft edge moved in or out until its mean is the area.

    A power leaves 0 and 1 where they are; only where none from 1/8 to 8 is enough are all values raised or lowered.
    """
    mask = jnp.where(mask < 1e-3, 0.0, mask)

    def moved(by: Array) -> Array:
        power = 8.0 ** -jnp.clip(2 * by, -1.0, 1.0)
        return jnp.clip(mask**power + jnp.sign(by) * jnp.maximum(2 * jnp.abs(by) - 1, 0.0), 0.0, 1.0)

    def halve(ends: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        low, high = ends
        middle = (low + high) / 2
        small = jnp.mean(moved(middle)) < area
        return (jnp.where(small, middle, low), jnp.where(small, high, middle)), None

    (low, high), _ = lax.scan(halve, (-jnp.ones(()), jnp.ones(())), None, length=20)
    return moved((low + high) / 2)


def _over(mask: Array, leaf: Any) -> Array:
    """The mask for all of a leaf's trailing axes."""
    return jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (jnp.ndim(leaf) - mask.ndim)), jnp.shape(leaf))


@functools.lru_cache(maxsize=1)
def _adam() -> Any:
    import optax

    # One object, so that two explanations with the default optimiser share their compiled program.
    return optax.adam(0.05)


@public
def extremal_perturbation(
    f: Callable[..., Any],
    *,
    area: float = 0.1,
    baseline: Any = 0.0,
    spacing: tuple[int, ...] = (4, 4),
    preserve: bool = True,
    weight: float = 300.0,
    optimizer: Any = None,
    steps: int = 200,
) -> ExtremalPerturbation:
    """Learn the smooth mask of a given area that keeps the score highest: which part of the input is enough.

    m = argmax over masks of f(m x + (1 - m) b) - weight * mean (sort(m) - r)^2, where r is 0 for the share 1 - area of
    the values and 1 for the rest: the mask is driven towards 0 and 1 in the right proportion. It is smooth by
    construction, a soft maximum of Gaussian bumps on a grid (a power mean here, in place of the source's softmax).
    With preserve=False the mask hides instead, f(m b + (1 - m) x) is minimised, and m says what is needed. Unlike in
    the source scores are counted in units of |f(x) - f(b)| / 10, so that the mask does not depend on the score's scale,
    and the mask's soft edge is moved in or out at the end, until its mean is `area` to 1e-3, whatever the score.

    Args:
        f: A score, `f(x, *args) -> scalar`.
        area: The share of the input that the mask leaves, in (0, 1); may be traced, as under `vmap` over areas.
        baseline: What is behind the mask, as in `feature_ablation`; the source blurs: `jaxplain.baseline.blur(sigma)`.
        spacing: Distance of the grid's points along each axis that the mask varies along, from the front, in elements:
            `(4, 4)` for `[H, W, C]` or `[H, W]`, `(16,)` for `[T, C]`. It is the bumps' width, too.
        preserve: Whether the mask keeps or hides.
        weight: Of the area's penalty, in units of |f(x) - f(b)| / 10; it grows from 0 to this in the first half of the
            steps, and to 16 times this in the second.
        optimizer: An optax `GradientTransformation`; None takes Adam with a step of 0.05.
        steps: How many steps.

    Returns:
        `e(x, *args) -> mask` in [0, 1], of x's structure and dtypes, equal along trailing axes; zeros at integer and
        boolean leaves. Cost: `steps` forward and backward passes, one after the other, and two forward passes.

    Raises:
        ValueError: An area outside (0, 1), settings that are not positive, axes that `x` lacks, a baseline that does
            not fit, NaN or infinities in a concrete `x` or in the scores.
        TypeError: `x` has no floating-point leaf, an optimizer of the wrong kind.

    Example:
        >>> e = extremal_perturbation(lambda x: 10 * x[:4].sum(), area=0.25, spacing=(2,))
        >>> m = e(jnp.ones(16))
        >>> bool(m[:4].mean() > 0.8), bool(m[6:].mean() < 0.1)
        (True, True)

    Source: Fong, Patrick and Vedaldi 2019, "Understanding deep networks via extremal perturbations and smooth masks",
    equations 2 to 5.
    """
    name = "extremal_perturbation"
    check.one_number(area, name, "area")
    if check.is_concrete(area) and not area < 1:
        raise ValueError(f"{name}: `area` is {area}; it is a share of the input, between 0 and 1.")
    check.one_number(weight, name, "weight")
    optimizer = _adam() if optimizer is None else optimizer
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"{name}: `optimizer` has to be an optax GradientTransformation, not {optimizer!r}.")
    return ExtremalPerturbation(
        as_function(check.callable_score(f, name)),
        as_baseline(baseline),
        1,
        name,
        area,
        weight,
        Static(optimizer),
        tuple(check.count(gap, name, "spacing") for gap in spacing),
        check.count(steps, name, "steps"),
        bool(preserve),
    )
