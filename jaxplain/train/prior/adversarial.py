"""Training on adversarial examples, to compare with training on explanations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxplain import check
from jaxplain.program import Function, as_function, needs_key, public, setting
from jaxplain.train.prior.penalty import checked_call
from jaxplain.types import Array, Number, Pytree


class _AdversarialLoss(Function):
    """The loss of an attacked example. Made by `adversarial_loss`."""

    attack: Any
    score: Any
    weight: Any
    label: Any = None
    name: str = setting(default="adversarial_loss")

    def __call__(self, params: Pytree, x: Pytree, target: Pytree, key: Array, *inputs: Any) -> Array:
        fixed = jax.lax.stop_gradient(params)
        e = as_function(check.made(self.attack(fixed), self.name, "attack"))
        f = check.made(self.score(params), self.name, "score")
        label = target if self.label is None else self.label(target)
        moved = jax.lax.stop_gradient(e(*((key,) if needs_key(e) else ()), x, label, *inputs))
        return self.weight * check.scalar(f(moved, label, *inputs), self.name)


@public
def adversarial_loss(
    attack: Callable[..., Any],
    score: Callable[..., Any],
    *,
    weight: Number = 1.0,
    label: Callable[[Any], Any] | None = None,
) -> Function:
    """Train on attacked examples: weight * loss(x') of one example, x' the attack on it by the params of the step.

    The attack is held fixed, as in the source (Danskin's theorem: at its maximum its derivative is nothing).

    Args:
        attack: `attack(params) -> e`, with `e(x, target, *inputs) -> x'`, such as
            `lambda p: pgd(loss(apply, p), epsilon=0.1, step_size=0.03)`.
        score: `score(params) -> f`, the loss of an example, such as `lambda p: loss(apply, p)`.
        weight: The strength beside the loss of the example itself; 1 is half and half.
        label: As in `right_for_the_right_reasons`.

    Returns:
        `penalty(params, x, target, key, *inputs) -> scalar`. Cost: the attack (a forward and a backward pass for each
        of its steps), a forward pass and its derivative.

    Raises:
        TypeError: Functions that cannot be called or make nothing that can.
        ValueError: A negative weight; a loss that is no scalar.

    Example:
        >>> import jax, jax.numpy as jnp, jaxplain
        >>> score = lambda w: lambda x, target: (x @ w - target) ** 2
        >>> attack = lambda w: jaxplain.fgsm(score(w), epsilon=0.5)
        >>> penalty = adversarial_loss(attack, score)
        >>> float(penalty(jnp.array([1.0, 1.0]), jnp.ones(2), 0.0, jax.random.key(0)))
        9.0

    Source: Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks", equation 2.1.
    """
    name = "adversarial_loss"
    check.function(attack, name, "attack", "that makes an attack, `attack(params) -> e`")
    check.one_number(weight, name, "weight", zero=True)
    if label is not None:
        check.function(label, name, "label", "(target) -> what the score is called with")
    kept = None if label is None else as_function(label)
    return _AdversarialLoss(as_function(attack), checked_call(score, name), weight, kept)
