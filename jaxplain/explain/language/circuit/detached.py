"""The detached Jacobian: a model as the linear map that it is at one input, with scales, attention and gates held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.explain.language.circuit.held import RULES, checked_rules, hold, refuse_loops, run_held
from jaxplain.program import Function, as_function, public, setting
from jaxplain.program.node import open_score
from jaxplain.types import Array, Pytree


class Linear(NamedTuple):
    """A score at one input as an affine map: f(x) = offset + sum of jacobian * x.

    offset: f_det(0); jacobian, x: one array for each floating-point leaf of the input; for token ids the embeddings
    that they look up, in the shapes in which the model looks them up.
    """

    offset: Array
    jacobian: tuple[Array, ...]
    x: tuple[Array, ...]


class Detached(Function):
    """A score as a linear map at each input: `(x, *args) -> Linear`. Made by `detached`."""

    f: Any
    rules: tuple[str, ...] = setting(default=RULES)

    def __call__(self, x: Pytree, *args: Any) -> Linear:
        """The map at x."""
        check.arrays(x, "detached")
        opened = open_score(self.f, x, args, "detached")
        refuse_loops(opened.graph, self.rules, "detached")
        held = hold(opened.graph, self.rules, affine=True)
        values = tuple(jnp.asarray(opened.arguments[place]) for place in opened.moving)
        jacobian = jax.grad(lambda moved: run_held(opened, moved, held))(values)
        offset = run_held(opened, [jnp.zeros_like(value) for value in values], held)
        return Linear(offset, jacobian, values)


@public
def detached(f: Callable[..., Any], *, rules: tuple[str, ...] = RULES) -> Detached:
    """A score as the affine map that it is at one input, with what depends on the input otherwise held as it is there.

    f_det(x') = f_det(0) + J x' with the scales of normalisations, attention weights and gates taken from x: an
    activation is phi(x') = phi(0) + x' (phi(x) - phi(0)) / x, a product of two values half of each (a' b + a b') / 2;
    what is left of other operations is their tangent. At x the map is exact: f_det(x) = f(x), so every input's part of
    the score is J x, and what is left is due to biases, positions and phi(0).

    Args:
        f: A score, `f(x, *args) -> scalar`. Several outputs are one score with a target, under `jax.vmap`.
        rules: What is held, of `"normalization"`, `"softmax"`, `"activation"` and `"product"`; without all of them
            those operations become their tangents, and J the gradient.

    Returns:
        `(x, *args) -> Linear(offset, jacobian, x)`, of the embeddings where x is token ids. Cost: two forward passes
        and a backward pass.

    Raises:
        ValueError: An unknown rule, layers inside a `lax.scan`.
        TypeError: x has neither floating-point leaves nor tokens.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> f = lambda x: jax.nn.relu(x @ jnp.array([1.0, -2.0])) + 1.0
        >>> linear = detached(f)(jnp.array([3.0, 1.0]))
        >>> float(linear.offset), linear.jacobian[0].tolist()
        (1.0, [1.0, -2.0])

    Source: Golden 2025, "Equivalent linear mappings of large language models", section 2.
    """
    return Detached(as_function(check.callable_score(f, "detached")), checked_rules(rules, "detached"))
