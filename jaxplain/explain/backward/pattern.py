"""PatternNet and PatternAttribution: explanations that tell signal from suppressors, by patterns estimated from data.

patterns = jaxplain.pattern.estimate_patterns(f, inputs, labels)     # once, over training examples
e = jaxplain.pattern.pattern_attribution(f, patterns)               # (x, label) -> attribution, as any method
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.explain.backward.backward import Backward
from jaxplain.explain.backward.estimation import Patterns, estimate_patterns, is_fixed, is_layer, is_relu, layers_of
from jaxplain.program import as_function, public, setting
from jaxplain.program.node import Call, Node, Opened, OwnDerivative, Rule, layer_of, weights_of
from jaxplain.types import Array

__all__ = ["estimate_patterns", "pattern_attribution", "pattern_net"]


class Directed(Rule):
    """The derivative of a layer that had the patterns of its neurons as weights; or patterns times weights."""

    pattern: Array
    shares: bool = setting()

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """sum_k a_ik r_k, or sum_k w_ik a_ik r_k."""
        layer, pattern = layer_of(node, calls[0].fixed), self.pattern
        weight = pattern * layer.weight if self.shares else pattern
        _, back = jax.vjp(lambda x: layer.linear(x, weight.astype(relevance[0].dtype)), calls[0].inputs[0])
        return list(back(relevance[0]))

    def __str__(self) -> str:
        return "pattern_times_weight" if self.shares else "pattern"


class Fixed(Rule):
    """As `Directed` for a sum or scale of one value, y = c'x: the pattern is c / (c'c), each input's share alike."""

    shares: bool = setting()

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """sum_k c_ik r_k / c_k'c_k, or sum_k c_ik^2 r_k / c_k'c_k."""
        here = calls[0]
        function = lambda x: node.evaluate([x], here.fixed)[0]  # noqa: E731
        # The coefficients of a sum are all 1 or all -1, and a scale has one, so what they add up to says what they are.
        total = jax.jvp(function, (here.inputs[0],), (jnp.ones_like(here.inputs[0]),))[1]
        size = total if self.shares else jnp.abs(total) if node.kind == "sum" else jnp.square(total)
        _, back = jax.vjp(function, here.inputs[0])
        return list(back(jnp.where(size != 0, relevance[0] / jnp.where(size != 0, size, 1), 0)))

    def __str__(self) -> str:
        return "equal_shares"


class Open(Rule):
    """What arrives, where the ReLU is open."""

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """The derivative of a ReLU, 0 at 0."""
        return [jnp.where(calls[0].inputs[0] > 0, relevance[0], 0)]

    def __str__(self) -> str:
        return "open"


class PatternBackward(Backward):
    """The backward pass by patterns. Made by `pattern_net` and `pattern_attribution`."""

    patterns: Patterns
    shares: bool = setting(default=False)

    def rules(self, opened: Opened) -> dict[Node, Rule]:
        """A rule for each node; the layers' patterns in the order in which they run."""
        layers = layers_of(opened.graph, self.name)
        shapes = [tuple(weights_of(node).shape) for node in layers]
        given = [jnp.shape(value) for value in self.patterns.values]
        if shapes != given:
            raise ValueError(
                f"{self.name}: `patterns` are those of layers with weights of shapes {given}, but the layers of this "
                f"function have {shapes}. Estimate them for it: jaxplain.pattern.estimate_patterns(f, inputs, ...)."
            )
        directed = dict(zip(layers, self.patterns.values, strict=True))
        return {node: self._rule(node, directed) for node in opened.graph.walk()}

    def _rule(self, node: Node, directed: dict[Node, Array]) -> Rule:
        if is_layer(node):
            return Directed(directed[node], self.shares)
        if is_fixed(node):
            return Fixed(self.shares)
        return Open() if is_relu(node) else OwnDerivative()


def _made(f: Any, patterns: Any, name: str, shares: bool) -> PatternBackward:
    if not isinstance(patterns, Patterns):
        raise TypeError(
            f"{name}: `patterns` has to be what jaxplain.pattern.estimate_patterns(f, inputs, ...) returns, not "
            f"{check.short(patterns)}."
        )
    return PatternBackward(as_function(check.callable_score(f, name)), name, patterns, shares)


@public
def pattern_net(f: Callable[..., Any], patterns: Patterns) -> PatternBackward:
    """PatternNet: the signal behind a score, by the backward pass with patterns in the place of weights.

    As the gradient, but r = sum_k a_k r_k at each layer with weights, a_k the pattern of its neuron k in the place of
    its weights w_k. ReLUs pass what arrives where they are open, max pooling passes it to the largest. Of sums and
    scales of one value (average pooling, a normalisation of the input) the coefficients c are known and their pattern
    is c / (c'c), that of inputs alike and independent; the source says nothing of these. For a linear model it is
    a = S w / (w'S w), S the inputs' covariance: what changes with the score, in units of the input. A suppressor, which
    has weight to cancel noise and does not change with the score, gets zero.

    Args:
        f: A score of a network of dense layers, convolutions and ReLUs, `f(x, *args) -> scalar`; a logit.
        patterns: What `estimate_patterns(f, inputs, ...)` returned. They are arrays: new ones do not compile anew.

    Returns:
        `e(x, *args) -> signal` of x's structure, in units of x per unit of the score; times f(x) it is the signal that
        makes the score. Cost: one forward and one backward pass.

    Raises:
        ValueError: Patterns of other layers; an operation that has no pattern; NaN in a concrete `x`.
        TypeError: `patterns` that `estimate_patterns` did not make, or an `x` without floating-point leaves.

    Example:
        >>> import jax.numpy as jnp
        >>> f = lambda x: x @ jnp.array([1.0, -1.0])  # the second feature takes the noise out of the first
        >>> inputs = jnp.array([[1.0, 0.0], [-1.0, 0.0], [2.0, 1.0], [0.0, 1.0], [0.0, -1.0], [-2.0, -1.0]])
        >>> pattern_net(f, estimate_patterns(f, inputs))(jnp.ones(2)).round(3).tolist()
        [1.0, 0.0]

    Source: Kindermans et al. 2018, "Learning how to explain neural networks: PatternNet and PatternAttribution",
    section "PatternNet and PatternAttribution".
    """
    return _made(f, patterns, "pattern_net", False)


@public
def pattern_attribution(f: Callable[..., Any], patterns: Patterns) -> PatternBackward:
    """PatternAttribution: each input's share of a score, by the backward pass with weights times patterns.

    As `pattern_net` with w_k * a_k in the place of w_k at each layer: deep Taylor decomposition whose root point leaves
    the signal out. As w_k'a_k = 1, all that arrives at a neuron is shared among its inputs (zeros that convolutions pad
    with are inputs); what arrives at a closed ReLU ends there. It starts as 1 at the score. For a linear model it is
    w * a, a as in `pattern_net`, whatever the input: a suppressor has no share.

    Args:
        f: As in `pattern_net`.
        patterns: As in `pattern_net`.

    Returns:
        `e(x, *args) -> shares` of x's structure, without a unit; times f(x) the source's relevance, which starts there.
        Cost: one forward and one backward pass.

    Raises:
        ValueError, TypeError: As in `pattern_net`.

    Example:
        >>> import jax.numpy as jnp
        >>> f = lambda x: x @ jnp.array([2.0, -2.0])
        >>> inputs = jnp.array([[1.0, 0.0], [-1.0, 0.0], [2.0, 1.0], [0.0, 1.0], [0.0, -1.0], [-2.0, -1.0]])
        >>> (pattern_attribution(f, estimate_patterns(f, inputs))(jnp.ones(2)).round(3) + 0).tolist()
        [1.0, 0.0]

    Source: as `pattern_net`.
    """
    return _made(f, patterns, "pattern_attribution", True)
