"""Penalties on disagreement: of an explanation with that of a transformed input, or with a teacher's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.program import as_function, needs_key, public
from jaxplain.train.prior.penalty import Penalty, common, widened
from jaxplain.types import Array, Number, Pytree


def _mean_square(a: Pytree, b: Pytree, explained: list[bool]) -> Array:
    """The mean squared difference of two explanations, over the leaves that count."""
    rows = zip(jax.tree.leaves(a), jax.tree.leaves(b), explained, strict=True)
    pairs = [(one, other) for one, other, counts in rows if counts]
    total = sum(jnp.sum(jnp.square(one - other)) for one, other in pairs)
    return jnp.asarray(total) / sum(jnp.size(one) for one, _ in pairs)


class _Consistency(Penalty):
    """How far explaining and transforming are from changing places. Made by `explanation_consistency`."""

    transform: Any = None

    def value(self, params: Pytree, x: Pytree, target: Pytree, key: Array, inputs: tuple[Any, ...]) -> Array:
        draw, own = (jax.random.fold_in(key, place) for place in (0, 1))
        a = self.attribution(params, x, target, own, inputs)
        moved, expected = (self.transform(draw, tree) for tree in (x, a))
        check.same_structure(moved, x, self.name, "transform(key, x)", "x")
        explained = self.explained(a, params, x, target, own, inputs)
        return _mean_square(self.attribution(params, moved, target, own, inputs), expected, explained)


@public
def explanation_consistency(
    method: Callable[..., Any],
    transform: Callable[..., Any],
    *,
    weight: Number = 1.0,
    smooth: float | None = None,
    label: Callable[[Any], Any] | None = None,
) -> Penalty:
    """Ask that explaining and transforming change places: weight * mean (e(T x) - T e(x))^2 of one example.

    Args:
        method: As in `right_for_the_right_reasons`.
        transform: `transform(key, x) -> x`, which only moves values (a flip, a shift, a turn), so that it means the
            same for an input and for its explanation; both get the same key.
        weight: The penalty's strength.
        smooth: As in `right_for_the_right_reasons`.
        label: As in `right_for_the_right_reasons`.

    Returns:
        `penalty(params, x, target, key, *inputs) -> scalar`. Cost: two explanations and their derivative.

    Raises:
        TypeError, ValueError: As `right_for_the_right_reasons`; a transform that changes x's structure or shape.

    Example:
        >>> import jax, jax.numpy as jnp, jaxplain
        >>> method = lambda w: jaxplain.gradient(lambda x, target: x @ w)
        >>> penalty = explanation_consistency(method, lambda key, x: x[::-1])
        >>> float(penalty(jnp.array([1.0, 3.0]), jnp.ones(2), 0, jax.random.key(0)))
        4.0

    Source: Guo et al. 2019, "Visual attention consistency under image transforms for multi-label image classification",
    for any explanation in the place of a class activation map.
    """
    name = "explanation_consistency"
    check.function(transform, name, "transform", "(key, x) -> x")
    return _Consistency(**common(method, weight, smooth, label, name), transform=as_function(transform))


class _Distillation(Penalty):
    """The distance to a teacher's explanation. Made by `explanation_distillation`."""

    teacher: Any = None

    def value(self, params: Pytree, x: Pytree, target: Pytree, key: Array, inputs: tuple[Any, ...]) -> Array:
        a = self.attribution(params, x, target, key, inputs)
        label = target if self.label is None else self.label(target)
        b = widened(self.teacher(*((key,) if needs_key(self.teacher) else ()), x, label, *inputs))
        check.same_structure(b, a, self.name, "teacher(x, target)", "the explanation")
        return _mean_square(a, jax.lax.stop_gradient(b), self.explained(a, params, x, target, key, inputs))


@public
def explanation_distillation(
    method: Callable[..., Any],
    teacher: Callable[..., Any],
    *,
    weight: Number = 1.0,
    smooth: float | None = None,
    label: Callable[[Any], Any] | None = None,
) -> Penalty:
    """Ask for a teacher's explanation: weight * mean (e(x) - e_teacher(x))^2 of one example.

    Args:
        method: As in `right_for_the_right_reasons`.
        teacher: An explanation of the teacher, `e(x, target, *inputs)`, with a key first where it is random; it is
            held fixed.
        weight: The penalty's strength.
        smooth: As in `right_for_the_right_reasons`, of the student alone.
        label: As in `right_for_the_right_reasons`.

    Returns:
        `penalty(params, x, target, key, *inputs) -> scalar`. Cost: both explanations and the derivative of one.

    Raises:
        TypeError, ValueError: As `right_for_the_right_reasons`; a teacher's explanation of another structure or shape.

    Example:
        >>> import jax, jax.numpy as jnp, jaxplain
        >>> method = lambda w: jaxplain.gradient(lambda x, target: x @ w)
        >>> penalty = explanation_distillation(method, method(jnp.array([1.0, 1.0])))
        >>> float(penalty(jnp.array([1.0, 3.0]), jnp.ones(2), 0, jax.random.key(0)))
        2.0

    Source: Zagoruyko and Komodakis 2017, "Paying more attention to attention", section 3.2 (gradients of student and
    teacher), for any explanation.
    """
    name = "explanation_distillation"
    check.function(teacher, name, "teacher", "e(x, target) -> attribution")
    return _Distillation(**common(method, weight, smooth, label, name), teacher=as_function(teacher))
