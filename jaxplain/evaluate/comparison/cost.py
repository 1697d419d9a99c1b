"""What an explanation costs, in gradients of the score."""

from __future__ import annotations

from typing import Any

import jax

from jaxplain.internals import layers
from jaxplain.program import value_and_gradient
from jaxplain.types import Array, Pytree


def gradients_used(f: Any, e: Any, inputs: tuple[Pytree, ...], key: Array | None) -> float:
    """Operations of one explanation in units of those of the score's gradient; counted, not run.

    `while` loops count one turn, so methods that choose their number of steps show the cost of one round. A score
    without a gradient (a black box, a callback, a `while` loop, whole numbers as input) gives no unit: NaN.
    """

    def gradient(x: Pytree, *args: Any) -> Any:
        return value_and_gradient(f, x, *args, name="compare")[1]

    try:
        jax.eval_shape(gradient, *inputs)
    except (TypeError, ValueError, NotImplementedError):  # what JAX and the score say of what has no derivative
        return float("nan")
    one = sum(layer.forward for layer in layers(gradient)(*inputs))
    given = inputs if key is None else (key, *inputs)
    return sum(layer.forward for layer in layers(e)(*given)) / max(one, 1)
