"""Rules for logarithms of sums of exponentials."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxplain.explain.backward.multipliers import log_sinhc
from jaxplain.explain.backward.rules import stabilised
from jaxplain.program.node import Call, Node, Rule
from jaxplain.types import Array


class LogSoftmax(Rule):
    """y_k = z_k - c with c = log sum_j exp z_j: a difference in proportion, and of c's part shares by the softmax.

    R_i = z_i r_i - s_i c sum_k r_k, with r_k = R_k / y_k and s = softmax(z); sums are kept.
    """

    stabiliser: float = 1e-9

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """The relevance of z; a masked place (z = -inf) has none."""
        axes = next(step for step in node.steps if step.name == "reduce_sum").params["axes"]
        (z,), (y,) = calls[0].inputs, calls[0].outputs
        there = jnp.isfinite(z) & jnp.isfinite(y)
        z, y = jnp.where(there, z, 0), jnp.where(there, y, 0)
        shares = jnp.where(there, relevance[0] / stabilised(y, self.stabiliser), 0)
        common = jnp.sum(shares * (z - y), axes, keepdims=True)
        return [z * shares - jnp.where(there, jnp.exp(y), 0) * common]

    def __str__(self) -> str:
        return "log_softmax"


class Shift(Rule):
    """z - m before an exponential, or log(...) + m behind it: as if nothing had been taken out, all to z or the log."""

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """Relevance as it is, to what is shifted."""
        pairs = zip(node.active, calls[0].inputs, strict=True)
        return [relevance[0] if value is node.shifted else jnp.zeros_like(x) for value, x in pairs]

    def __str__(self) -> str:
        return "shift"


class LogSumExp(Rule):
    """DeepLIFT of c = log sum_j w_j exp z_j: w_j = L(exp z_j, exp z0_j) / L(exp c, exp c0), L the logarithmic mean.

    L(a, b) = (a - b) / (log a - log b), so that sum_j w_j (z_j - z0_j) = c - c0. The weights are the derivative of c
    at the mean of z and z0, moved by log L; no exponential over- or underflows.
    """

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """The multipliers of z."""
        here, there = calls
        differences = [jnp.where(z == z0, 0, z - z0) for z, z0 in zip(here.inputs, there.inputs, strict=True)]
        scale = jnp.log(2.0) if node.name == "logaddexp2" else 1.0
        middle = [
            0.5 * (z + z0) + log_sinhc(scale * d / 2) / scale
            for z, z0, d in zip(here.inputs, there.inputs, differences, strict=True)
        ]
        (c,), (c0,) = here.outputs, there.outputs
        between, back = jax.vjp(lambda *z: node.evaluate(z, here.fixed)[0], *middle)
        size = jnp.exp(scale * (between - 0.5 * (c + c0)) - log_sinhc(scale * (c - c0) / 2))
        return list(back(relevance[0] * size))

    def __str__(self) -> str:
        return "logsumexp"
