"""Penalties on where a prediction rests: outside of what is allowed, by its explanation or by what a region changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline import as_baseline, resolve
from jaxplain.program import Function, as_function, needs_key, public, setting
from jaxplain.train.prior.penalty import Penalty, as_mask, checked_call, chosen, common, widened
from jaxplain.types import Array, Arrays, Number, Pytree

Masks = Arrays | Callable[[Any, Any], Any]


class _RightReasons(Penalty):
    """The squared explanation where it should be nothing. Made by `right_for_the_right_reasons`."""

    mask: Any = 1.0

    def value(self, params: Pytree, x: Pytree, target: Pytree, key: Array, inputs: tuple[Any, ...]) -> Array:
        a = self.attribution(params, x, target, key, inputs)
        masks = chosen(self.mask, a, x, target, self.name, "mask")
        parts = [jnp.sum(jnp.square(m * leaf)) for m, leaf in zip(masks, jax.tree.leaves(a), strict=True)]
        return sum(parts[1:], parts[0])


@public
def right_for_the_right_reasons(
    method: Callable[..., Any],
    mask: Masks,
    *,
    weight: Number = 1.0,
    smooth: float | None = None,
    label: Callable[[Any], Any] | None = None,
) -> Penalty:
    """Penalise what an explanation rests on where it should not: weight * sum_j (m_j a_j)^2 of one example.

    With `method` the gradient of the summed log-probabilities it is the source's. A gradient's penalty trains by a
    second derivative, and ReLU has none: of a piecewise linear network the penalty sees the weights on the active
    paths, and not how those paths change. `smooth` puts softplus in ReLU's place inside the penalty.

    Args:
        method: `method(params) -> e`, an explanation of the params, called `e(x, target, *inputs)`, with a key first
            where it is random: any method that has a derivative. For a score without target explain
            `lambda x, target: f(x)`.
        mask: What should not matter, 1 or any weight, of a shape that broadcasts to the explanation; a pytree of x's
            structure; or `mask(x, target)`. Masks that differ between examples travel with the targets.
        weight: The penalty's strength, beside a loss of about 1.
        smooth: None, or beta: softplus(beta z) / beta in the place of ReLU in the score that is explained.
        label: `label(target)`, what e is called with where the targets hold more.

    Returns:
        `penalty(params, x, target, key, *inputs) -> scalar`, for `fit(penalty=)`. Cost: the explanation and its
        derivative: of a gradient about three times a plain step.

    Raises:
        TypeError: A `method` that cannot be called or makes nothing that can.
        ValueError: Masks of another shape or with NaN, a negative weight, kinks that `smooth` cannot replace.

    Example:
        >>> import jax, jax.numpy as jnp, jaxplain
        >>> method = lambda w: jaxplain.gradient(lambda x, target: x @ w)
        >>> penalty = right_for_the_right_reasons(method, jnp.array([0.0, 1.0]))
        >>> float(penalty(jnp.array([1.0, 3.0]), jnp.ones(2), 0, jax.random.key(0)))
        9.0

    Source: Ross, Hughes and Doshi-Velez 2017, "Right for the right reasons: training differentiable models by
    constraining their explanations", equation 1 (the second term).
    """
    name = "right_for_the_right_reasons"
    return _RightReasons(**common(method, weight, smooth, label, name), mask=as_mask(mask, name, "mask"))


class _CamGuidance(Penalty):
    """The share of a map outside of a region. Made by `cam_guidance`."""

    region: Any = 1.0

    def value(self, params: Pytree, x: Pytree, target: Pytree, key: Array, inputs: tuple[Any, ...]) -> Array:
        a = self.attribution(params, x, target, key, inputs)
        regions = chosen(self.region, a, x, target, self.name, "region")
        positive = [jnp.maximum(leaf, 0) for leaf in jax.tree.leaves(a)]
        inside = sum(jnp.sum(r * p) for r, p in zip(regions, positive, strict=True))
        total = jnp.asarray(sum(jnp.sum(p) for p in positive))
        there = total > 0
        return jnp.where(there, 1 - inside / jnp.where(there, total, 1), 0)


@public
def cam_guidance(
    method: Callable[..., Any],
    region: Masks,
    *,
    weight: Number = 1.0,
    smooth: float | None = None,
    label: Callable[[Any], Any] | None = None,
) -> Penalty:
    """Draw a map into a region: weight * (1 - sum_region max(a, 0) / sum max(a, 0)) of one example.

    The share of the positive map that lies outside, from 0 to 1; 0 of a map without a positive value. Made for class
    activation maps, it takes any explanation.

    Args:
        method: `method(params) -> e`, such as `lambda p: grad_cam(logit(apply, p), layer)`; as in
            `right_for_the_right_reasons`.
        region: Where the map should lie, 1 inside and 0 outside, as `mask` there.
        weight: The penalty's strength.
        smooth: As in `right_for_the_right_reasons`.
        label: As in `right_for_the_right_reasons`.

    Returns:
        `penalty(params, x, target, key, *inputs) -> scalar`. Cost: the explanation and its derivative.

    Raises:
        TypeError, ValueError: As `right_for_the_right_reasons`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxplain
        >>> method = lambda w: jaxplain.input_x_gradient(lambda x, target: x @ w)
        >>> penalty = cam_guidance(method, jnp.array([1.0, 0.0]))
        >>> float(penalty(jnp.array([1.0, 3.0]), jnp.ones(2), 0, jax.random.key(0)))
        0.75

    Source: Rao et al. 2023, "Studying how to efficiently and effectively guide models with explanations", the energy
    loss.
    """
    name = "cam_guidance"
    return _CamGuidance(**common(method, weight, smooth, label, name), region=as_mask(region, name, "region"))


class _OcclusionPenalty(Function):
    """What a score loses with a region. Made by `occlusion_penalty`."""

    score: Any
    mask: Any
    baseline: Any
    weight: Any
    label: Any = None
    name: str = setting(default="occlusion_penalty")

    def __call__(self, params: Pytree, x: Pytree, target: Pytree, key: Array, *inputs: Any) -> Array:
        f = check.made(self.score(params), self.name, "score")
        label = target if self.label is None else self.label(target)
        start = resolve(self.baseline, x, key if needs_key(self.baseline) else None, name=self.name)
        masks = chosen(self.mask, x, x, target, self.name, "mask")
        leaves = zip(jax.tree.leaves(x), jax.tree.leaves(start), masks, strict=True)
        moved = [jnp.where(m > 0, b, a) if check.is_floating(a) else a for a, b, m in leaves]
        without = jax.tree.unflatten(jax.tree.structure(x), moved)
        change = widened(f(x, label, *inputs)) - widened(f(without, label, *inputs))
        return self.weight * jnp.square(change)


@public
def occlusion_penalty(
    score: Callable[..., Any],
    mask: Masks,
    *,
    baseline: Any = 0.0,
    weight: Number = 1.0,
    label: Callable[[Any], Any] | None = None,
) -> Function:
    """Penalise what a region does to a score: weight * (f(x) - f(x without the region))^2 of one example.

    What contextual decomposition estimates by rules is computed here by leaving the region out, so it holds for every
    model and needs no second derivative.

    Args:
        score: `score(params) -> f`, with `f(x, target, *inputs) -> scalar`.
        mask: The region, as `mask` in `right_for_the_right_reasons`, of x's structure; what is above 0 is replaced.
        baseline: What stands in the region: a number, an array, a function of x or of (key, x).
        weight: The penalty's strength.
        label: As in `right_for_the_right_reasons`.

    Returns:
        `penalty(params, x, target, key, *inputs) -> scalar`. Cost: two forward passes and their derivative.

    Raises:
        TypeError, ValueError: As `right_for_the_right_reasons`; a baseline that does not fit `x`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> penalty = occlusion_penalty(lambda w: lambda x, target: x @ w, jnp.array([0.0, 1.0]))
        >>> float(penalty(jnp.array([1.0, 3.0]), jnp.ones(2), 0, jax.random.key(0)))
        9.0

    Source: the role of the second loss of Rieger et al. 2020, "Interpretations are useful: penalizing explanations to
    align neural networks with prior knowledge", equation 1, with an occlusion in the place of their decomposition.
    """
    name = "occlusion_penalty"
    check.one_number(weight, name, "weight", zero=True)
    if label is not None:
        check.function(label, name, "label", "(target) -> what the score is called with")
    made, kept = checked_call(score, name), None if label is None else as_function(label)
    return _OcclusionPenalty(made, as_mask(mask, name, "mask"), as_baseline(baseline), weight, kept)
