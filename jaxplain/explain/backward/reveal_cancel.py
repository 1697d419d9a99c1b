"""DeepLIFT's RevealCancel: a nonlinearity sees the positive and the negative part of what its input sums, apart.

Beside x and its reference two more runs go through the model: of each value the reference plus what rises, and the
reference plus what falls. A layer with weights makes the parts anew, from each w_i (x_i - x0_i) by its sign; sums,
shifts, scales and moves of data carry them on, so that xW + hU is the layer [x, h] [W; U]; of everything else the parts
are the positive and the negative part of its own difference. The multipliers of the two parts are the cotangents of the
two runs, so loops, branches and values that are used more than once are JAX's own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain.explain.backward.broadcasting import gathered, repeated
from jaxplain.explain.backward.multipliers import midpoint_slope, quotient
from jaxplain.program.node import Call, Graph, Node, OwnDerivative, Rule, Step, Value, layer_of
from jaxplain.program.trace import loop_parts
from jaxplain.types import Array


def parts(x: Array, x0: Array) -> tuple[Array, Array]:
    """The reference plus the positive, and plus the negative part of the difference."""
    return x0 + jnp.maximum(x - x0, 0), x0 + jnp.minimum(x - x0, 0)


beside = jax.custom_vjp(parts)
"""The further runs of an input: the multiplier of a part is that of the input where its difference is that part."""

beside.defvjp(lambda x, x0: (parts(x, x0), x - x0), lambda d, multipliers: (_of_sign(d, *multipliers), None))


def _of_sign(difference: Array, risen: Array, fallen: Array) -> Array:
    """The multiplier of a difference that is all of one sign; the mean of both where it vanishes."""
    return jnp.where(difference > 0, risen, jnp.where(difference < 0, fallen, 0.5 * (risen + fallen)))


def _with_parts(node: Node, active: Sequence[list[Any]], fixed: Sequence[list[Any]]) -> list[list[Any]]:
    """The outputs of a node in each run, of which the parts are those of their own differences."""
    here, there = (node.evaluate(active[run], fixed[run]) for run in (0, 1))
    pairs = [parts(y, y0) if _floating(y) else (y0, y0) for y, y0 in zip(here, there, strict=True)]
    return [here, there, [rise for rise, _ in pairs], [fall for _, fall in pairs]]


def _joined(calls: Sequence[Call], relevance: Sequence[list[Array]]) -> list[Array]:
    """The multipliers of such outputs."""
    here, there = calls[:2]
    return [
        m + _of_sign(y - y0, risen, fallen) if _floating(y) else m
        for y, y0, m, _, risen, fallen in zip(here.outputs, there.outputs, *relevance, strict=True)
    ]


def _floating(value: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(value), jnp.floating))


class Netted(Rule):
    """An operation whose outputs have parts of their own: its rule sees the two runs alone."""

    rule: Rule

    def forward(self, node: Node, active: Sequence[list[Any]], fixed: Sequence[list[Any]]) -> list[list[Any]]:
        """The outputs, and their parts."""
        return _with_parts(node, active, fixed)

    def backward(self, node: Node, calls: Sequence[Call], relevance: Sequence[list[Array]]) -> list[list[Array] | None]:
        """The rule's multipliers."""
        return [self.rule(node, calls[:2], _joined(calls, relevance)), None, None, None]

    def __str__(self) -> str:
        return str(self.rule)


class RevealCancel(Rule):
    """A nonlinearity y = f(z).

    With the parts z+ and z- of z - z0, each part's effect on y is the mean of what it does alone and what it does
    after the other: y+ = 1/2 (f(z0 + z+) - f(z0)) + 1/2 (f(z) - f(z0 + z-)), y- likewise; m+ = y+ / z+, m- = y- / z-.
    """

    def forward(self, node: Node, active: Sequence[list[Any]], fixed: Sequence[list[Any]]) -> list[list[Any]]:
        """The outputs, and their parts."""
        return _with_parts(node, active, fixed)

    def backward(self, node: Node, calls: Sequence[Call], relevance: Sequence[list[Array]]) -> list[list[Array] | None]:
        """A multiplier for each part."""
        own = [call.inputs[0] for call in calls]  # a call inside of the node takes the shape that it was traced with
        z, z0, rise, fall = (repeated(call.inputs, call.outputs[0].shape)[0] for call in calls)
        (y,), (y0,), (m,) = calls[0].outputs, calls[1].outputs, _joined(calls, relevance)

        def f(z: Array) -> Array:
            return jnp.asarray(node.evaluate([z], calls[0].fixed)[0])

        slope, up, down = midpoint_slope(f, own[0], own[1]), f(own[2]), f(own[3])
        risen = quotient(up, y0, rise, z0, slope) + quotient(y, down, z, fall, slope)
        fallen = quotient(down, y0, fall, z0, slope) + quotient(y, up, z, rise, slope)
        parts = (gathered(0.5 * m * part, calls[0].inputs[0]) for part in (risen, fallen))
        return [None, None, *([part] for part in parts)]

    def __str__(self) -> str:
        return "reveal_cancel"


class Layer(Rule):
    """A layer with weights: what rises is sum_i (w_i d_i)+, what falls sum_i (w_i d_i)-."""

    def forward(self, node: Node, active: Sequence[list[Any]], fixed: Sequence[list[Any]]) -> list[list[Any]]:
        """The outputs, and their parts."""
        (z,), (z0,) = (node.evaluate(active[run], fixed[run]) for run in (0, 1))
        layer, d = layer_of(node, fixed[0]), active[0][0] - active[1][0]
        # (w d)+ = |d| w+ + d- w.
        rise = layer.linear(jnp.abs(d), jnp.maximum(layer.weight, 0)) + layer.linear(jnp.minimum(d, 0), layer.weight)
        return [[z], [z0], [z0 + rise], [z - rise]]

    def backward(self, node: Node, calls: Sequence[Call], relevance: Sequence[list[Array]]) -> list[list[Array] | None]:
        """Of an input that rises: what positive weights bring back of m+ and negative ones of m-; else the reverse."""
        layer, d = layer_of(node, calls[0].fixed), calls[0].inputs[0] - calls[1].inputs[0]
        (m,), _, (risen,), (fallen,) = relevance

        def transposed(weight: Array, m: Array) -> Array:
            return jnp.asarray(jax.linear_transpose(lambda x: layer.linear(x, weight), d)(m)[0])

        # m+ w+ + m- w- = (m+ + m-) w / 2 + (m+ - m-) |w| / 2, and with m+ and m- exchanged the same less the second.
        both = transposed(layer.weight, m + 0.5 * (risen + fallen))
        apart = transposed(jnp.abs(layer.weight), 0.5 * (risen - fallen))
        return [[_of_sign(d, both + apart, both - apart)], None, None, None]

    def __str__(self) -> str:
        return "reveal_cancel"


class Carried(Rule):
    """A difference, a change of sign, a scale: parts go on as they are, and change places where the sign changes."""

    def forward(self, node: Node, active: Sequence[list[Any]], fixed: Sequence[list[Any]]) -> list[list[Any]]:
        """The outputs, and their parts."""
        here, there, one, two = (node.evaluate(a, b) for a, b in zip(active, fixed, strict=True))
        if node.name in _SIGN_CHANGES:  # of the last operand
            known = [dict(zip((*node.active, *node.fixed), (*active[run], *fixed[run]), strict=True)) for run in (2, 3)]
            rise, fall = (_evaluate(node.steps[0], *order) for order in (known, known[::-1]))
            return [here, there, rise, fall]
        _, (scale,) = jax.jvp(lambda x: node.evaluate([x], fixed[0]), active[0], [jnp.ones_like(active[0][0])])
        falls = scale < 0
        return [here, there, [jnp.where(falls, two[0], one[0])], [jnp.where(falls, one[0], two[0])]]

    def backward(self, node: Node, calls: Sequence[Call], relevance: Sequence[list[Array]]) -> list[list[Array] | None]:
        """The transposed of what goes forward."""
        fixed = [call.fixed for call in calls]
        _, back = jax.vjp(lambda active: self.forward(node, active, fixed), [call.inputs for call in calls])
        return list(back(list(relevance))[0])

    def __str__(self) -> str:
        return "derivative"


def _evaluate(step: Step, run: dict[Value, Any], other: dict[Value, Any]) -> list[Any]:
    """A step in one run, with the last operand of another."""
    known = [*[run] * (len(step.operands) - 1), other]
    pairs = zip(step.operands, known, strict=True)
    return step.evaluate([v.number if v.number is not None else values[v] for v, values in pairs])


def revealed(graph: Graph, own: Mapping[Node, Rule], given: Collection[str]) -> dict[Node, Rule]:
    """The rules of a graph and of those inside it.

    Args:
        graph: All that relevance flows through.
        own: The rule that each node has without RevealCancel; a node that has none is linear.
        given: The names and kinds of nodes whose rule is the caller's choice.

    Returns:
        A rule for every node but those that carry parts by their own derivative.
    """
    flow = _Flow(own, given)
    flow.find_apart(graph)
    flow.find_wanted(graph)
    return flow.rules(graph)


_SIGN_CHANGES = ("sub", "neg")


class _Flow:
    """Which values have two parts (`apart`), and whose parts a nonlinearity sees (`wanted`)."""

    def __init__(self, own: Mapping[Node, Rule], given: Collection[str]) -> None:
        self.own, self.given = own, given
        self.apart, self.wanted = set[Value](), set[Value]()

    def find_apart(self, graph: Graph) -> None:
        """Follow parts from the layers and sums that make them."""
        apart = self.apart
        for node in graph.nodes:
            for inner, enters, leaves, again in _links(node):
                _spread(apart, [*enters, *again], functools.partial(self.find_apart, inner))
                apart.update(outside for inside, outside in leaves if inside in apart)
            carried = self._carries(graph, node) and (_sums(node) or apart.intersection(node.active))
            if self._divides(node) or carried:
                apart.update(node.outputs)

    def find_wanted(self, graph: Graph) -> None:
        """Follow parts back from the nonlinearities that see them."""
        wanted = self.wanted
        for node in reversed(graph.nodes):
            for inner, enters, leaves, again in _links(node):
                back = [(outside, inside) for inside, outside in (*leaves, *again)]
                _spread(wanted, back, functools.partial(self.find_wanted, inner))
                wanted.update(outside for outside, inside in enters if inside in wanted)
            carried = self._carries(graph, node) and wanted.intersection(node.outputs)
            if self._reveals(graph, node) or carried:
                wanted.update(node.active)

    def rules(self, graph: Graph) -> dict[Node, Rule]:
        """The rules of the nodes that do not carry parts by their own derivative."""
        rules: dict[Node, Rule] = {}
        for node in graph.nodes:
            for inner in node.inner:
                rules.update(self.rules(inner))
            if node.kind == "plain" or node.inner:
                continue
            if self._reveals(graph, node):
                rules[node] = RevealCancel()
            elif self._divides(node) and self.wanted.intersection(node.outputs):
                rules[node] = Layer()
            elif not self._carries(graph, node):
                rules[node] = Netted(self.own.get(node, OwnDerivative()))
            elif node.name in _SIGN_CHANGES or node.kind in ("scale", "affine"):
                rules[node] = Carried()
        return rules

    def _reveals(self, graph: Graph, node: Node) -> bool:
        seen = node.kind == "activation" and node.active[0] in self.apart
        chosen = node.name in self.given or node.kind in self.given
        return seen and not chosen and graph.depends.isdisjoint(node.fixed)

    def _divides(self, node: Node) -> bool:
        return node.kind == "affine" and node.name != "scale_shift" and node not in self.own

    def _carries(self, graph: Graph, node: Node) -> bool:
        linear = node.kind in ("sum", "scale", "structure") or (node.kind == "affine" and node.name == "scale_shift")
        return linear and node not in self.own and graph.depends.isdisjoint(node.fixed)


def _spread(found: set[Value], pairs: Sequence[tuple[Value, Value]], within: Callable[[], None]) -> None:
    """Follow pairs into a program, and on within it, until a loop's carry brings nothing new."""
    before = -1
    while before != len(found):
        before = len(found)
        found.update(end for start, end in pairs if start in found)
        within()


def _sums(node: Node) -> bool:
    """Whether a node sums several values, each a contribution."""
    return node.kind == "sum" and not (node.name in ("add", *_SIGN_CHANGES) and len(node.active) == 1)


Pairs = list[tuple[Value, Value]]


def _links(node: Node) -> Iterator[tuple[Graph, Pairs, Pairs, Pairs]]:
    """The graphs inside a node: what enters them (outside, inside), what leaves, and what a loop carries on."""
    for graph in node.inner:
        inputs, outputs, (step,) = graph.flat.inputs, graph.flat.outputs, node.steps
        operands, again = step.operands[1:], list[tuple[Value, Value]]()
        if node.kind == "scan":
            constants, carry, items = loop_parts(step.equation, step.operands)[1:4]
            operands = [*constants, *carry, *items]
            again = list(zip(outputs, inputs[len(constants) : len(constants) + len(carry)], strict=False))
        yield graph, list(zip(operands, inputs, strict=True)), list(zip(outputs, node.outputs, strict=True)), again
