"""DeepLIFT's RevealCancel: a nonlinearity sees the positive and the negative part of what its input sums, apart."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jaxplain.explain.multipliers import midpoint_slope, quotient
from jaxplain.program.chains import layer_of
from jaxplain.program.function import setting
from jaxplain.program.nodes import Graph, Node
from jaxplain.program.rewrite import Call, Rule
from jaxplain.types import Array


class PassedOn(Rule):
    """The multiplier as it is: the sum before the nonlinearity applies the rule of both."""

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """The output's multiplier."""
        return list(relevance)

    def __str__(self) -> str:
        return "reveal_cancel"


class RevealCancel(Rule):
    """A sum z (a layer, a residual addition) and the nonlinearity y = f(z) behind it.

    With the positive and negative contributions z+ and z- to z - z0, each part's effect on y is the mean of what it
    does alone and what it does after the other:
    y+ = 1/2 (f(z0 + z+) - f(z0)) + 1/2 (f(z) - f(z0 + z-)), y- likewise; m+ = y+ / z+ and m- = y- / z-.
    """

    nonlinearity: Node = setting()
    constants: tuple[tuple[Node, ...], ...] = setting()

    def __call__(self, node: Node, calls: Sequence[Call], relevance: list[Array]) -> list[Array]:
        """The multipliers of what is summed, for the multiplier of y."""
        here, there = calls
        z0, z = there.outputs[0], here.outputs[0]
        differences = [x - x0 for x, x0 in zip(here.inputs, there.inputs, strict=True)]
        back, rise, fall = _layer(node, here, differences) if node.kind == "affine" else _sum(node, here, differences)

        fixed = [_constant(nodes) for nodes in self.constants]

        def f(z: Array) -> Array:
            return self.nonlinearity.evaluate([z], fixed)[0]

        slope = midpoint_slope(f, z, z0)
        multipliers = []
        for part, other in ((rise, fall), (fall, rise)):
            alone = quotient(f(z0 + part), f(z0), z0 + part, z0, slope)
            after = quotient(f(z0 + other + part), f(z0 + other), z0 + other + part, z0 + other, slope)
            multipliers.append(relevance[0] * 0.5 * (alone + after))
        return back(*multipliers)

    def __str__(self) -> str:
        return "reveal_cancel"


def _constant(nodes: Sequence[Node]) -> Array:
    """What nodes without inputs compute, each from those before it."""
    values: dict[object, Array] = {}
    for node in nodes:
        values.update(zip(node.outputs, node.evaluate([], [values[value] for value in node.fixed]), strict=True))
    return values[nodes[-1].outputs[0]]


def _layer(node: Node, call: Call, differences: list[Array]):  # type: ignore[no-untyped-def]
    """A layer with weights: how multipliers of both parts go back, and the parts."""
    layer, (d,) = layer_of(node, call.fixed), differences
    up, down = jnp.maximum(layer.weight, 0), jnp.minimum(layer.weight, 0)
    rising, falling = jnp.maximum(d, 0), jnp.minimum(d, 0)
    rise = layer.linear(rising, up) + layer.linear(falling, down)
    fall = layer.linear(rising, down) + layer.linear(falling, up)

    def back(risen: Array, fallen: Array) -> list[Array]:
        transposed = lambda weight, m: jax.linear_transpose(lambda x: layer.linear(x, weight), d)(m)[0]  # noqa: E731
        positive = transposed(up, risen) + transposed(down, fallen)
        negative = transposed(down, risen) + transposed(up, fallen)
        return [jnp.where(d > 0, positive, jnp.where(d < 0, negative, 0.5 * (positive + negative)))]

    return back, rise, fall


def _sum(node: Node, call: Call, differences: list[Array]):  # type: ignore[no-untyped-def]
    """A sum of values: each is a contribution."""
    _, forward = jax.linearize(lambda *active: node.evaluate(active, call.fixed)[0], *call.inputs)
    zeros = [jnp.zeros_like(d) for d in differences]
    alone = [forward(*zeros[:i], d, *zeros[i + 1 :]) for i, d in enumerate(differences)]
    rise = sum(jnp.maximum(c, 0) for c in alone)
    fall = sum(jnp.minimum(c, 0) for c in alone)

    def back(risen: Array, fallen: Array) -> list[Array]:
        found = []
        for place, contribution in enumerate(alone):
            m = jnp.where(contribution > 0, risen, jnp.where(contribution < 0, fallen, 0.5 * (risen + fallen)))
            _, transposed = jax.vjp(lambda *active: node.evaluate(active, call.fixed)[0], *call.inputs)
            found.append(transposed(m)[place])
        return found

    return back, rise, fall


def revealed(graph: Graph) -> dict[Node, Rule]:
    """Rules for the nonlinearities of a graph (and of those inside it) that stand right behind a sum of their own."""
    users: dict[object, list[Node | None]] = {}
    for node in graph.nodes:
        for value in (*node.active, *node.fixed):
            users.setdefault(value, []).append(node)
    for value in graph.flat.outputs:
        users.setdefault(value, []).append(None)
    constants: dict[object, tuple[Node, ...]] = {}
    for node in graph.nodes:
        if len(node.outputs) == 1 and not node.active and all(value in constants for value in node.fixed):
            before = [earlier for value in node.fixed for earlier in constants[value]]
            constants[node.outputs[0]] = (*dict.fromkeys(before), node)
    rules: dict[Node, Rule] = {}
    for node in graph.nodes:
        for inner in node.inner:
            rules.update(revealed(inner))
        following = users.get(node.outputs[0], []) if node.outputs else []
        if not _sums(node) or len(following) != 1 or following[0] is None:
            continue
        behind = following[0]
        if behind.kind == "activation" and all(value in constants for value in behind.fixed):
            known = tuple(constants[value] for value in behind.fixed)
            rules[node], rules[behind] = RevealCancel(behind, known), PassedOn()
    return rules


def _sums(node: Node) -> bool:
    if node.kind == "affine":
        return node.name != "scale_shift"
    return node.kind == "sum" and node.name in ("add", "sub")
