"""Attributions that need one gradient: gradient, saliency, input x gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline import at_lookups
from jaxplain.program import Function, as_function, public, setting, value_and_gradient
from jaxplain.types import Pytree


class Gradient(Function):
    """The gradient of a score, as it is, as absolute value, or times the input. Made by the functions below."""

    score: Any
    name: str = setting(default="gradient")

    @at_lookups
    def __call__(self, x: Pytree, *args: Any) -> Pytree:
        """Explain one example: an attribution of x's structure and dtypes."""
        check.differentiable(x, self.name)
        check.finite(x, self.name)
        _, gradients = value_and_gradient(self.score, x, *args, name=self.name)
        if self.name == "saliency":
            return jax.tree.map(jnp.abs, gradients)
        if self.name == "input_x_gradient":
            return jax.tree.map(lambda leaf, g: g * leaf if check.is_floating(leaf) else g, x, gradients)
        return gradients


@public
def gradient(f: Callable[..., Any]) -> Gradient:
    """How the score changes with each input value: a_i = df/dx_i, signed.

    Args:
        f: A score, `f(x, *args) -> scalar`.

    Returns:
        `e(x, *args) -> attribution` of x's structure, in units of the score per unit of the input. Integer and boolean
        leaves of `x` are held fixed and get zeros. Of an `x` of token ids alone the rows that they look up are
        explained, and each token gets the sum over its rows. Cost: one forward and one backward pass.

    Raises:
        TypeError: `x` has no floating-point leaf, and looks up no table either.
        ValueError: `x` is concrete and holds NaN or infinities, or `f` returns no scalar.

    Example:
        >>> import jax.numpy as jnp
        >>> gradient(lambda x: (x**2).sum())(jnp.array([1.0, -2.0])).tolist()
        [2.0, -4.0]

    Source: Baehrens et al. 2010, "How to explain individual classification decisions", Definition 1.
    """
    return Gradient(as_function(check.callable_score(f, "gradient")), "gradient")


@public
def saliency(f: Callable[..., Any]) -> Gradient:
    """How strongly the score reacts to each input value: a_i = |df/dx_i|.

    Unlike the source, which takes the largest value over colour channels, every channel keeps its own; take the
    maximum or the sum where you plot.

    Args:
        f: A score, `f(x, *args) -> scalar`.

    Returns:
        `e(x, *args) -> attribution` of x's structure, never negative, in units of the score per unit of the input.
        Cost: one forward and one backward pass.

    Raises:
        TypeError, ValueError: As in `gradient`.

    Example:
        >>> import jax.numpy as jnp
        >>> saliency(lambda x: (x**2).sum())(jnp.array([1.0, -2.0])).tolist()
        [2.0, 4.0]

    Source: Simonyan, Vedaldi and Zisserman 2014, "Deep inside convolutional networks", section 3.1.
    """
    return Gradient(as_function(check.callable_score(f, "saliency")), "saliency")


@public
def input_x_gradient(f: Callable[..., Any]) -> Gradient:
    """The gradient weighted by the input: a_i = x_i df/dx_i.

    For a network of linear maps and ReLUs without biases it sums to f(x).

    Args:
        f: A score, `f(x, *args) -> scalar`.

    Returns:
        `e(x, *args) -> attribution` of x's structure, in units of the score. Cost: one forward and one backward pass.

    Raises:
        TypeError, ValueError: As in `gradient`.

    Example:
        >>> import jax.numpy as jnp
        >>> input_x_gradient(lambda x: (x**2).sum())(jnp.array([1.0, -2.0])).tolist()
        [2.0, 8.0]

    Source: Shrikumar et al. 2016, "Not just a black box", section 3.
    """
    return Gradient(as_function(check.callable_score(f, "input_x_gradient")), "input_x_gradient")
