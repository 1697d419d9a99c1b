"""Products of many values: `jnp.prod` and `jnp.cumprod`."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain.explain.backward.multipliers import completed
from jaxplain.program.node import Call, Node, Rule
from jaxplain.types import Array

PRODUCTS = ("reduce_prod", "cumprod")
_MOST_POINTS = 32


class MeanDerivative(Rule):
    """The derivative's mean on the line between the runs: complete, and the same for factors that are treated the same.

    Of two factors it is the midpoint. On the line a product of n factors is a polynomial of degree n, whose derivative
    (n + 1) / 2 points of Gauss and Legendre integrate exactly. Of more factors than that (64) the rest that 32 points
    leave, and rounding, go to all factors by their differences.
    """

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """The multipliers of the factors."""
        here, there = calls
        (x,), (x0,) = here.inputs, there.inputs
        points, weights = np.polynomial.legendre.leggauss(min(_MOST_POINTS, (factors(node) + 1) // 2))
        function = lambda x: node.evaluate([x], here.fixed)[0]  # noqa: E731

        def derivative(point: Array) -> Array:
            return jnp.asarray(jax.vjp(function, x0 + point * (x - x0))[1](relevance[0])[0])

        found = jax.vmap(derivative)(jnp.asarray(0.5 * (points + 1), x.dtype))
        multipliers = jnp.tensordot(jnp.asarray(0.5 * weights, x.dtype), found, 1)
        effects = relevance[0] * (here.outputs[0] - there.outputs[0])
        return [completed(multipliers, x - x0, effects)]

    def __str__(self) -> str:
        return "mean_derivative"


def factors(node: Node) -> int:
    """The most factors that an output of the node is a product of."""
    (step,) = node.steps
    axes = step.params["axes"] if node.name == "reduce_prod" else (step.params["axis"],)
    return int(np.prod([step.operands[0].shape[axis] for axis in axes], dtype=int))


def factors_of_each(node: Node, outputs: Array) -> Array:
    """Of how many factors each output is the product."""
    if node.name == "reduce_prod":
        return jnp.full(outputs.shape, max(factors(node), 1), outputs.dtype)
    params = node.steps[0].params
    counts = jax.lax.broadcasted_iota(outputs.dtype, outputs.shape, params["axis"]) + 1
    return factors(node) + 1 - counts if params["reverse"] else counts
