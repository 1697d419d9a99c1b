"""The rules of layer-wise relevance propagation, as classes; `explain/relevance.py` is their public face."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain.explain.backward.broadcasting import fits, gathered
from jaxplain.explain.backward.products import PRODUCTS, factors_of_each
from jaxplain.program import setting
from jaxplain.program.node import Call, Layer, Node, Rule, layer_of
from jaxplain.types import Array

STABILISER = 1e-6
"""What is added to denominators, with their sign, where a rule has no setting for it."""


def stabilised(z: Array, stabiliser: Any) -> Array:
    """z moved away from zero by the stabiliser; zero counts as positive."""
    return z + jnp.where(z >= 0, stabiliser, -stabiliser).astype(z.dtype)


def shared(contributions: Callable[..., Any], inputs: Sequence[Array], shares: Sequence[Any]) -> list[Array]:
    """x_i times the derivative of the contributions: each input's part of a sum that is linear in it."""
    _, back = jax.vjp(contributions, *inputs)
    return [x * gradient for x, gradient in zip(inputs, back(list(shares)), strict=True)]


class Epsilon(Rule):
    """R_i = sum_k x_i w_ik / (z_k + e sign z_k) R_k, for anything that is linear in its inputs.

    A product of n values is linear in each: each gets an n-th. The root of a normalisation is a constant scale. A sum
    that is exactly zero has no shares: its terms cancel, and what arrives there (from a function that is not zero at
    zero, such as an exponential) is due to none of them. It is lost, and `relevance_balance` says so.
    """

    stabiliser: Any

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """In proportion to what each input contributes."""
        here = calls[0]
        function = lambda *active: node.evaluate(active, here.fixed)  # noqa: E731
        if node.kind == "normalization":
            function = node.with_constant_scale(here.inputs, here.fixed)
        shares = [r / stabilised(z, self.stabiliser) for r, z in zip(relevance, here.outputs, strict=True)]
        if node.kind == "sum":
            shares = [jnp.where(z == 0, 0, share) for z, share in zip(here.outputs, shares, strict=True)]
        if node.name in PRODUCTS:
            shares = [shares[0] / factors_of_each(node, here.outputs[0])]
        parts = shared(function, here.inputs, shares)
        degree = _degree(node)
        return parts if degree == 1 else [part / degree for part in parts]

    def __str__(self) -> str:
        return f"epsilon({self.stabiliser})"


def _degree(node: Node) -> int:
    """How many factors of a product carry relevance."""
    return sum(value in node.active for value in node.steps[0].operands) if node.kind == "product" else 1


class LayerRule(Rule):
    """Base of rules for layers with weights."""

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """The relevance of the layer's input."""
        if node.kind != "affine":
            raise ValueError(f"lrp: {self} is a rule for layers with weights, and {node.describe()} has none.")
        here = calls[0]
        return [self.layer(here.inputs[0], layer_of(node, here.fixed), here.outputs[0], relevance[0])]

    def layer(self, x: Array, layer: Layer, z: Array, relevance: Array) -> Array:
        """The relevance of x, for z = layer.linear(x, layer.weight) + layer.bias."""
        raise NotImplementedError


def _positive(x: Array) -> Array:
    return jnp.maximum(x, 0)


def _negative(x: Array) -> Array:
    return jnp.minimum(x, 0)


def _by_sign(layer: Layer, above: Array, below: Array, known: bool) -> Callable[[Array], Array]:
    """x+ times the weights `above` plus x- times `below`, as a function of x; x- is nothing where that is `known`."""
    if known:
        return lambda x: layer.linear(x, above)
    return lambda x: layer.linear(_positive(x), above) + layer.linear(_negative(x), below)


def _share(contributions: Callable[[Array], Array], x: Array, offset: Any, relevance: Array, stabiliser: Any) -> Array:
    """Relevance in proportion to contributions, of which `offset` takes its part."""
    z, back = jax.vjp(contributions, x)
    return x * back(relevance / stabilised(z + offset, stabiliser))[0]


class SignRule(LayerRule):
    """Base of rules that tell positive from negative contributions x_i w_ik."""

    never_negative: bool = dataclasses.field(default=False, kw_only=True, metadata={"static": True})
    """Whether the layer's input is known to be zero or more, as behind a ReLU: half of the products are then none."""


class Gamma(SignRule):
    """Contributions of the output's sign count 1 + gamma times."""

    value: Any
    stabiliser: Any

    def layer(self, x: Array, layer: Layer, z: Array, relevance: Array) -> Array:
        """The relevance of x."""
        w, total = layer.weight, jnp.zeros_like(x)
        favoured = w + self.value * _positive(w), w + self.value * _negative(w)
        for (above, below), sign, open_ in ((favoured, _positive, z >= 0), (favoured[::-1], _negative, z < 0)):
            function = _by_sign(layer, above, below, self.never_negative)
            offset = layer.bias + self.value * sign(layer.bias)
            total += _share(function, x, offset, jnp.where(open_, relevance, 0), self.stabiliser)
        return total

    def __str__(self) -> str:
        return f"gamma({self.value})"


class AlphaBeta(SignRule):
    """R_i = sum_k (alpha (x_i w_ik)+ / z_k+ - beta (x_i w_ik)- / z_k-) R_k."""

    alpha: float = setting()
    beta: float = setting()
    bias: bool = setting()
    stabiliser: Any

    def layer(self, x: Array, layer: Layer, z: Array, relevance: Array) -> Array:
        """The relevance of x."""
        result = jnp.zeros_like(x)
        signed = _positive(layer.weight), _negative(layer.weight)
        for factor, (above, below), sign in ((self.alpha, signed, _positive), (-self.beta, signed[::-1], _negative)):
            if factor != 0:
                offset = sign(layer.bias) if self.bias else jnp.zeros_like(layer.bias)
                function = _by_sign(layer, above, below, self.never_negative)
                result += factor * _share(function, x, offset, relevance, self.stabiliser)
        return result

    def __str__(self) -> str:
        if self.beta == 0:
            return "z_plus" if self.bias else "z_plus without bias"
        return f"alpha_beta({self.alpha:g}, {self.beta:g})"


class ZBox(LayerRule):
    """R_i = sum_k (x_i w_ik - low_i w_ik+ - high_i w_ik-) / (the sum of these over i) R_k."""

    low: Any
    high: Any
    stabiliser: Any

    def layer(self, x: Array, layer: Layer, z: Array, relevance: Array) -> Array:
        """The relevance of x."""
        w, b = layer.weight, layer.bias
        low, high = self.bounds(x)

        def distance(x: Array, low: Array, high: Array) -> Array:
            return layer.linear(x, w) - layer.linear(low, _positive(w)) - layer.linear(high, _negative(w))

        total, back = jax.vjp(distance, x, low, high)
        total += b - _positive(b) - _negative(b)
        shares = back(relevance / stabilised(total, self.stabiliser))
        result = x * shares[0] + low * shares[1] + high * shares[2]
        # Bounds that do not hold x cannot be refused while tracing: what is not defined becomes NaN.
        return jnp.where(self.holds(x), result, jnp.nan)

    def bounds(self, x: Array) -> tuple[Array, Array]:
        """The bounds in the shape of x."""
        for name, value in (("low", self.low), ("high", self.high)):
            shape = jnp.shape(value)
            if len(shape) > x.ndim or any(n not in (1, m) for n, m in zip(shape[::-1], x.shape[::-1], strict=False)):
                raise ValueError(f"z_box: `{name}` has shape {shape}, which does not fit the layer's input {x.shape}.")
        return tuple(jnp.broadcast_to(jnp.asarray(v, x.dtype), x.shape) for v in (self.low, self.high))  # type: ignore

    def holds(self, x: Array) -> Array:
        """Whether x lies within the bounds, up to rounding."""
        low, high = self.bounds(x)
        slack = 1e-5 * jnp.maximum(jnp.maximum(jnp.abs(low), jnp.abs(high)), high - low)
        return jnp.all((x >= low - slack) & (x <= high + slack))

    def __str__(self) -> str:
        return "z_box"


class WSquare(LayerRule):
    """R_i = sum_k w_ik^2 / (sum_i w_ik^2 + b_k^2) R_k."""

    bias: bool = setting()
    stabiliser: Any

    def layer(self, x: Array, layer: Layer, z: Array, relevance: Array) -> Array:
        """The relevance of x."""
        square = jnp.square(layer.weight)
        offset = jnp.square(layer.bias) if self.bias else jnp.zeros_like(layer.bias)
        return _share(lambda v: layer.linear(v, square), jnp.ones_like(x), offset, relevance, self.stabiliser)

    def __str__(self) -> str:
        return "w_square"


class Flat(LayerRule):
    """Every input that reaches an output gets the same."""

    stabiliser: Any

    def layer(self, x: Array, layer: Layer, z: Array, relevance: Array) -> Array:
        """The relevance of x."""
        ones = jnp.ones_like(layer.weight)
        return _share(lambda v: layer.linear(v, ones), jnp.ones_like(x), 0.0, relevance, self.stabiliser)

    def __str__(self) -> str:
        return "flat"


class PassThrough(Rule):
    """R_i = R_k where an output belongs to one input; the sum over k where one input was repeated to them."""

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """Relevance as it is."""
        shapes = [jnp.shape(value) for value in calls[0].inputs]
        if node.kind == "activation" and fits(shapes[0], relevance[0].shape):
            return [gathered(relevance[0], calls[0].inputs[0])]
        if len(shapes) != 1 or len(relevance) != 1 or shapes[0] != relevance[0].shape:
            raise ValueError(
                f"lrp: pass_through needs one input of the output's shape, but {node.describe()} takes {shapes} to "
                f"{[jnp.shape(r) for r in relevance]}. Use relevance.epsilon()."
            )
        return list(relevance)

    def __str__(self) -> str:
        return "pass_through"


class Stop(Rule):
    """Relevance ends: what the operation computes is a constant to what uses it."""

    def __str__(self) -> str:
        return "stop"


class ConstantScale(Rule):
    """x times a constant: relevance passes, but where the constant is zero."""

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """Relevance as it is; in proportion where the value was repeated to the constant's shape."""
        here = calls[0]
        if here.inputs[0].shape != relevance[0].shape:
            return Epsilon(STABILISER)(node, calls, relevance)
        _, back = jax.vjp(lambda value: node.evaluate([value], here.fixed)[0], here.inputs[0])
        return [jnp.where(back(jnp.ones_like(relevance[0]))[0] != 0, relevance[0], 0)]

    def __str__(self) -> str:
        return "constant_scale"


class Numerator(Rule):
    """A quotient of two values: the denominator is a constant scale.

    A power's exponent, the second argument of arctan2 (an angle of the first over it) and a remainder's divisor are
    constants in the same way.
    """

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """Everything to the numerator."""
        top = node.steps[0].operands[0]
        return [
            gathered(relevance[0], x) if value is top else jnp.zeros_like(x)
            for value, x in zip(node.active, calls[0].inputs, strict=True)
        ]

    def __str__(self) -> str:
        return "numerator"


class Softmax(Rule):
    """R_i = z_i (R_i - s_i sum_j R_j), the first-order Taylor expansion of s = softmax(z) at z (AttnLRP)."""

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """The relevance of z; a masked place (z = -inf, s = 0) has none."""
        axes = next(step for step in node.steps if step.name == "reduce_sum").params["axes"]
        (z,), (s,) = calls[0].inputs, calls[0].outputs
        change = relevance[0] - s * jnp.sum(relevance[0], axes, keepdims=True)
        return [jnp.where(s > 0, jnp.where(jnp.isfinite(z), z, 0) * change, 0)]

    def __str__(self) -> str:
        return "softmax_taylor"
