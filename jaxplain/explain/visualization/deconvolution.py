"""Which pixels drove a unit: the unit's strongest response traced back through the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxplain import check
from jaxplain.explain.visualization.objective import OnLayer, picked, reading
from jaxplain.program import Function, like, public, setting, value_and_gradient
from jaxplain.program.trace import rectified
from jaxplain.types import Array, Pytree

RULES = ("deconvnet", "guided", "gradient")


class Peak(OnLayer):
    """A unit's largest value over the positions of a layer, or its value at one of them."""

    def __call__(self, x: Pytree, unit: Any, position: Any = None, *args: Any) -> Array:
        """The value; `position` is the flat number of a position, None or negative for the largest."""
        h = self.read(x, *args)
        values = picked(h, h.ndim - 1, unit, self).reshape(-1)
        top = jnp.argmax(values) if position is None else jnp.where(position < 0, jnp.argmax(values), position)
        return values[top]


class DeconvView(Function):
    """A unit's response traced back to the input. Made by `deconv_view`."""

    score: Any
    rule: str = setting(default="deconvnet")

    def __call__(self, x: Pytree, unit: Any, position: Any = None, *args: Any) -> Pytree:
        """Explain one example: an attribution of x's structure and dtypes."""
        check.finite(x, "deconv_view")

        def back(x: Pytree, *rest: Any) -> Array:
            if self.rule == "gradient":
                return self.score(x, *rest)
            return rectified(self.score, self.rule)(1.0, x, *rest)

        _, gradient = value_and_gradient(back, x, unit, position, *args, name="deconv_view")
        return like(gradient, x)


@public
def deconv_view(f: Callable[..., Any], path: str, *, rule: str = "deconvnet") -> DeconvView:
    """Show which pixels drove a unit: the unit's largest value over all positions, traced back to the input.

    A backward pass through the network in which ReLUs follow another rule: 'deconvnet' passes on what is positive on
    the way back, 'guided' what is positive both ways, 'gradient' is the plain gradient. Max pooling goes back through
    its winners (the source's switches). `jax.vmap` over inputs and units does all top patches at once; `cut` then cuts
    them out along the units' receptive fields.

    Args:
        f: As in `objective.channel`.
        path: The layer, as in `split`.
        rule: 'deconvnet', 'guided' or 'gradient'.

    Returns:
        `e(x, unit, position=None, *args) -> attribution` of x's structure and dtypes; `position` is the flat number of
        one position (`top_activations(...).positions`), None takes that of the largest value. Cost: one forward and
        backward pass.

    Raises:
        ValueError: No such layer, a concrete unit outside of it, an unknown rule, NaN in a concrete `x`.
        TypeError: `x` has no floating-point leaf.

    Example:
        >>> import jax
        >>> def f(x):
        ...     with jax.named_scope("hidden"):
        ...         y = jax.nn.relu(jnp.stack([x[0] - x[1], x[1]]))
        ...     return y.sum()
        >>> deconv_view(f, "hidden")(jnp.array([3.0, 1.0]), 0).tolist()
        [1.0, -1.0]

    Source: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", section 2.1; guided:
    Springenberg et al. 2015, "Striving for simplicity", section 3.4.
    """
    name = "deconv_view"
    return DeconvView(Peak(reading(f, path, name), name), check.choice(rule, RULES, name, "rule"))
