"""The rules of DeepLIFT: how the multiplier of a node's output becomes those of its inputs.

A multiplier is a score's change for each unit by which a value differs from its reference. Each rule is complete: over
the inputs, multipliers times differences sum to the same over the outputs. They are written so that this holds in
floating point too, where differences vanish, and where a reference is degenerate (a constant image before a LayerNorm).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxplain.explain.backward.broadcasting import gathered, repeated
from jaxplain.program import setting
from jaxplain.program.node import Call, Node, Rule
from jaxplain.types import Array


class Rescale(Rule):
    """m_x = m_y (y - y0) / (x - x0), for an elementwise function; its derivative where the difference vanishes."""

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """The multiplier of the one input."""
        here, there = calls
        x, x0 = (repeated(call.inputs, call.outputs[0].shape)[0] for call in calls)
        own = (call.inputs[0] for call in calls)  # a call inside of the node takes the shape that it was traced with
        slope = midpoint_slope(lambda x: node.evaluate([x], here.fixed)[0], *own)
        multipliers = relevance[0] * quotient(here.outputs[0], there.outputs[0], x, x0, slope)
        return [gathered(multipliers, here.inputs[0])]

    def __str__(self) -> str:
        return "rescale"


def midpoint_slope(function: Callable[[Array], Array], x: Array, x0: Array) -> Array:
    """The derivative of an elementwise function half-way between x and its reference, at each place of the result."""
    return jnp.asarray(jax.jvp(function, (0.5 * (x + x0),), (jnp.ones_like(x),))[1])


def quotient(y: Array, y0: Array, x: Array, x0: Array, slope: Array) -> Array:
    """(y - y0) / (x - x0), or the midpoint slope where the two differ by no more than y is rounded.

    The slope is right to third order in the difference, the quotient loses digits with it; at a kink between x and x0
    they differ, and the quotient is right. Where there is no slope (a root at zero) and no difference, any number is
    complete, and nothing moves: it is zero.
    """
    slope = jnp.where(jnp.isfinite(slope) | ~jnp.isfinite(y), slope, 0)
    change, difference = apart(y, y0), apart(x, x0)
    ratio = change / jnp.where(difference == 0, 1, difference)
    rounding = 2 * jnp.finfo(y.dtype).eps * jnp.maximum(jnp.abs(y), jnp.abs(y0))
    close = jnp.abs(change - slope * difference) <= rounding
    return jnp.where(close | (difference == 0), slope, ratio)


def apart(a: Array, b: Array) -> Array:
    """a - b, and nothing where they are the same infinity, as behind a mask."""
    return jnp.where(a == b, 0, a - b)


class Midpoint(Rule):
    """The derivative half-way between the runs: exact for what is linear in each of its inputs, such as a product."""

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """The multiplier of each input; what changes without carrying relevance is half-way too."""
        here, there = calls
        fixed = [_between(a, b) for a, b in zip(here.fixed, there.fixed, strict=True)]
        middle = [_between(a, b) for a, b in zip(here.inputs, there.inputs, strict=True)]
        _, back = jax.vjp(lambda *active: node.evaluate(active, fixed), *middle)
        return list(back(list(relevance)))

    def __str__(self) -> str:
        return "midpoint"


def _slopes(node: Node, calls: Sequence[Call], run: Call) -> list[Array]:
    """What each place of the result changes by with each operand, half-way between the runs, in their own shapes."""
    middle = [_between(a, b) for a, b in zip(calls[0].inputs, calls[1].inputs, strict=True)]

    def slope(index: int) -> Array:
        ones = [jnp.full_like(value, float(index == place)) for place, value in enumerate(middle)]
        return jax.jvp(lambda *active: node.evaluate(active, run.fixed)[0], middle, ones)[1]

    return [slope(index) for index in range(len(middle))]


def _between(a: Array, b: Array) -> Array:
    return 0.5 * (a + b) if jnp.issubdtype(jnp.result_type(a), jnp.floating) else a


class Quotient(Rule):
    """a / b - a0 / b0 = 1/2 (1/b + 1/b0) (a - a0) - 1/2 (a + a0) / (b b0) (b - b0)."""

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """The multipliers of numerator and denominator."""
        (step,) = node.steps
        first, second = (node.active.index(value) for value in step.operands)
        here, there = calls
        (a, b), (a0, b0) = ([call.inputs[first], call.inputs[second]] for call in (here, there))
        multipliers = [jnp.zeros_like(value) for value in here.inputs]
        multipliers[first] += gathered(relevance[0] * 0.5 * (1 / b + 1 / b0), a)
        multipliers[second] -= gathered(relevance[0] * 0.5 * (a / b + a0 / b) / b0, b)
        return multipliers

    def __str__(self) -> str:
        return "quotient"


class Winner(Rule):
    """Of a maximum (or minimum), a rise is due to the winner now and a fall to the winner of the reference.

    Of both, the source's difference is at least as large as the maximum's, so multipliers stay bounded; where windows
    overlap, each window gives its change to its own winner before the sum is divided by the difference.
    """

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """The multipliers of what is compared."""
        here, there = calls
        y, y0 = here.outputs[0], there.outputs[0]
        extreme = jnp.minimum(y, y0) if "min" in node.name else jnp.maximum(y, y0)
        function = lambda *active: node.evaluate(active, here.fixed)[0]  # noqa: E731
        _, back = jax.vjp(function, *here.inputs)
        _, back0 = jax.vjp(function, *there.inputs)
        shares = zip(back(relevance[0] * apart(extreme, y0)), back0(relevance[0] * apart(y, extreme)), strict=True)
        slopes = back(relevance[0])
        return [
            jnp.where(x == x0, slope, (a + b) / jnp.where(x == x0, 1, x - x0))
            for x, x0, (a, b), slope in zip(here.inputs, there.inputs, shares, slopes, strict=True)
        ]

    def __str__(self) -> str:
        return "winner"


class Secant(Rule):
    """Of an elementwise function of several values, the complete multipliers nearest to the midpoint derivative.

    m_j = m_y (g_j + r d_j / sum_k d_k^2), with the differences d and what the derivative g misses,
    r = y - y0 - sum_k g_k d_k. That takes in what changes without carrying relevance, such as the condition of a
    choice; where a decision of the model (`decided`) changes y and nothing else changes, there is no multiplier: NaN.
    """

    decided: bool = setting(default=False)

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """The multiplier of each input."""
        here, there = calls
        x, x0 = (repeated(call.inputs, call.outputs[0].shape) for call in calls)
        slopes = [0.5 * (a + b) for a, b in zip(*(_slopes(node, calls, run) for run in calls), strict=True)]
        # A power has none half-way between a negative base's whole exponents: the differences alone decide there.
        slopes = [jnp.where(jnp.isfinite(slope), slope, 0) for slope in slopes]
        differences = [apart(a, b) for a, b in zip(x, x0, strict=True)]
        missing, square = apart(here.outputs[0], there.outputs[0]), jnp.zeros_like(here.outputs[0])
        for slope, difference in zip(slopes, differences, strict=True):
            missing, square = missing - slope * difference, square + difference**2
        if self.decided:
            missing = jnp.where((square == 0) & (missing != 0) & (relevance[0] != 0), jnp.nan, missing)
        missing = missing / jnp.where(square > 0, square, 1)
        multipliers = [relevance[0] * (g + missing * d) for g, d in zip(slopes, differences, strict=True)]
        return [gathered(m, value) for m, value in zip(multipliers, here.inputs, strict=True)]

    def __str__(self) -> str:
        return "secant"


class Softmax(Rule):
    """Rescale on exp(z - log sum exp z), with every quotient taken in logarithms: no exponential over- or underflows.

    The normaliser c has the multipliers w_j = L(exp z_j, exp z0_j) / L(exp c, exp c0) with the logarithmic mean
    L(a, b) = (a - b) / (log a - log b), so sum_j w_j (z_j - z0_j) = c - c0.
    """

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """The multipliers of the logits."""
        (z,), (z0,) = (call.inputs for call in calls)
        (axes,) = {step.params["axes"] for step in node.steps if step.name == "reduce_sum"}
        c, c0 = (jax.nn.logsumexp(value, axis=axes, keepdims=True) for value in (z, z0))
        difference = apart(z, z0)
        masked = ~jnp.isfinite(difference)
        difference = jnp.where(masked, 0, difference)
        largest = jnp.where(masked, -jnp.inf, jnp.maximum(z, z0))
        weights = jnp.exp(largest - jnp.maximum(c, c0) + _log_mean(difference) - _log_mean(c - c0))
        passed = relevance[0]
        if node.kind == "softmax":
            largest = jnp.where(masked, -jnp.inf, jnp.maximum(z - c, z0 - c0))
            passed = passed * jnp.exp(largest + _log_mean(difference - (c - c0)))
        return [passed - weights * jnp.sum(passed, axis=axes, keepdims=True)]

    def __str__(self) -> str:
        return "softmax"


def log_sinhc(t: Array) -> Array:
    """log(sinh(t) / t)."""
    return jnp.abs(t) + _log_mean(2 * t)


def _log_mean(difference: Array) -> Array:
    """The logarithm of L(a, b) / max(a, b), for the difference of log a and log b: nothing large cancels."""
    t = jnp.abs(difference)
    large = jnp.where(t > 1e-2, t, 1)
    return jnp.where(t > 1e-2, jnp.log(-jnp.expm1(-large) / large), t * (t / 24 - 0.5))


class Normalization(Rule):
    """(x - mean) c with c = 1 / sigma, in two exact parts: of the centred values with c held, and of c.

    y - y0 = c' (a - a0) + a' (c - c0), with c' = w c + (1 - w) c0, a' = w a0 + (1 - w) a and w = c0^2 / (c^2 + c0^2).
    Where the reference is constant (c0 is huge and a0 is 0) this is c (a - a0), and with runs alike it is the product
    rule. c goes on to x by its derivative half-way, scaled to c - c0. What a scale of another form leaves over, such as
    1 / (sigma + e), goes to x in proportion to the differences.
    """

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """The multiplier of the normalised values."""
        here, there = calls
        (x,), (x0,) = here.inputs, there.inputs

        def scales(x: Array) -> list[Array]:
            values = node.values([x], here.fixed, wanted=[value for value, _ in node.held])
            return [1 / values[value] if power > 0 else values[value] for value, power in node.held]

        def normalised(x: Array, c: list[Array]) -> Array:
            known = {value: 1 / s if power > 0 else s for (value, power), s in zip(node.held, c, strict=True)}
            values = node.values([x], here.fixed, known, node.outputs)
            return values[node.outputs[0]]

        c, c0 = scales(x), scales(x0)
        weight = [1 / (1 + (a / jnp.where(b == 0, 1, b)) ** 2) for a, b in zip(c, c0, strict=True)]
        mixed = [w * a + (1 - w) * b for w, a, b in zip(weight, c, c0, strict=True)]
        direct, of_scale = _slopes_between(normalised, mixed, weight, x, x0, relevance[0])
        _, along = jax.linearize(scales, 0.5 * (x + x0))
        factors = [(a - b) / jnp.where(m == 0, 1, m) for a, b, m in zip(c, c0, along(x - x0), strict=True)]
        back = jax.linear_transpose(along, x)
        (through,) = back([s * f for s, f in zip(of_scale, factors, strict=True)])
        return [completed(direct + through, x - x0, relevance[0] * (here.outputs[0] - there.outputs[0]))]

    def __str__(self) -> str:
        return "normalization"


def _slopes_between(
    normalised: Callable[..., Array], scales: list[Array], weight: list[Array], x: Array, x0: Array, relevance: Array
) -> tuple[Array, list[Array]]:
    """The slopes c' of the values, and a' of each scale: w times its slope at x0 and 1 - w times that at x.

    With the scales held the result is affine in x: its slope is the same at both. Both points go through as the runs
    did, one after the other: what the runs computed is found again by the compiler, which side by side it is not.
    """

    def slopes(point: Array) -> tuple[Array, list[Array]]:
        return jax.vjp(normalised, point, scales)[1](relevance)

    direct, there = slopes(x0)
    _, here = slopes(x)
    return direct, [w * a + (1 - w) * b for w, a, b in zip(weight, there, here, strict=True)]


def completed(multipliers: Array, differences: Array, effects: Array) -> Array:
    """The nearest multipliers that are complete."""
    missing, square = jnp.sum(effects) - jnp.sum(multipliers * differences), jnp.sum(differences**2)
    return multipliers + missing / jnp.where(square > 0, square, 1) * differences
