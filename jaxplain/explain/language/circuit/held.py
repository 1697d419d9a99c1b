"""A model made linear where it stands: scales of normalisations, attention weights and gates held as they are.

For each kind of operation a rule says what is held. What remains is affine in the input: its derivative is the
propagation coefficient of relevance patching, and the detached Jacobian.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.program.node import Graph, Node, Opened, Value, widened
from jaxplain.types import Array

RULES = ("normalization", "softmax", "activation", "product")
"""The kinds of operations that a rule is for, in the order of its meaning."""

GIM = ("normalization", "temperature", "product")
"""The rules of gradient interaction modifications."""
TEMPERATURE = 2.0
"""What logits are divided by where the rule `"temperature"` takes a softmax's derivative."""

_LINEAR = ("affine", "scale", "sum", "structure")
_SMALL = 1e-6
"""Below this a gate (f(x) - f(0)) / x is the derivative, whose limit it is."""


def checked_rules(rules: Any, name: str) -> tuple[str, ...]:
    """Require names of rules, and return them."""
    found = (rules,) if isinstance(rules, str) else rules
    if not isinstance(found, tuple | list):
        raise TypeError(f"{name}: `rules` has to be a tuple of names, of {', '.join(map(repr, RULES))}, not {rules!r}.")
    for rule in found:
        check.choice(rule, RULES, name, "rules")
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class Held:
    """Evaluates operations with what rules say held where they stand; without rules as they are.

    rules: kinds of operations; constant: the values that hold still then, as attention weights do; affine: whether
    what no rule is for becomes its tangent, so that the whole is affine.
    """

    rules: tuple[str, ...]
    constant: frozenset[Value]
    affine: bool = False

    def __call__(self, node: Node, here: Sequence[Any], moved: Sequence[Any], fixed: Sequence[Any]) -> list[Any]:
        """The outputs of an operation for moved inputs, with what is held taken from where the inputs are `here`."""
        if node.kind == "softmax" and "softmax" in self.rules:
            return node.evaluate(here, fixed)
        if node.kind == "softmax" and "temperature" in self.rules:
            return self._tempered(node, here, moved, fixed)
        moved = [a if v in self.constant else b for v, a, b in zip(node.active, here, moved, strict=True)]
        if node.kind == "normalization" and "normalization" in self.rules:
            return node.with_constant_scale(here, fixed)(*moved)
        if node.kind == "activation" and "activation" in self.rules:
            return self._gated(node, here, moved, fixed)
        if node.kind == "product" and "product" in self.rules:
            moving = [value for value in _factors(node) if value not in self.constant]
            if len(moving) > 1:
                parts = self._derivative(node, here, self._still(node, moved), fixed)
                return [part / len(moving) for part in parts]
        if not self.affine or node.kind in _LINEAR or node.kind == "product":
            return node.evaluate(moved, fixed)
        step = self._derivative(node, here, [_step(a, b) for a, b in zip(here, moved, strict=True)], fixed)
        return [y + d for y, d in zip(node.evaluate(here, fixed), step, strict=True)]

    def _tempered(self, node: Node, here: Sequence[Any], moved: Sequence[Any], fixed: Sequence[Any]) -> list[Any]:
        """The softmax with the derivative that it has at divided logits, not divided in its turn."""
        warm = [a / jnp.asarray(TEMPERATURE, a.dtype) for a in map(jnp.asarray, here)]
        step = self._derivative(node, warm, [_step(a, b) for a, b in zip(here, moved, strict=True)], fixed)
        return [y + d for y, d in zip(node.evaluate(here, fixed), step, strict=True)]

    def _still(self, node: Node, moved: Sequence[Any]) -> list[Any]:
        """The moved values, with zeros for those that hold still."""
        return [jnp.zeros_like(b) if v in self.constant else b for v, b in zip(node.active, moved, strict=True)]

    @staticmethod
    def _derivative(node: Node, here: Sequence[Any], tangents: Sequence[Any], fixed: Sequence[Any]) -> list[Any]:
        tangents = [jnp.asarray(t).astype(jnp.result_type(h)) for t, h in zip(tangents, here, strict=True)]
        return jax.jvp(lambda *active: node.evaluate(active, fixed), tuple(here), tuple(tangents))[1]

    def _gated(self, node: Node, here: Sequence[Any], moved: Sequence[Any], fixed: Sequence[Any]) -> list[Any]:
        """f(0) + x (f(x) - f(0)) / x, the quotient held; the tangent where f(0) is not finite."""
        (x,), (y,) = here, node.evaluate(here, fixed)
        slope = self._derivative(node, here, [jnp.ones_like(x)], fixed)[0]
        if jnp.shape(x) != jnp.shape(y):
            return [y + self._derivative(node, here, [moved[0] - x], fixed)[0]]
        zero = node.evaluate([jnp.zeros_like(x)], fixed)[0]
        apart = jnp.abs(x) > _SMALL
        known = jnp.isfinite(zero)
        gate = jnp.where(apart, (y - jnp.where(known, zero, 0)) / jnp.where(apart, x, 1), slope)
        return [jnp.where(known, jnp.where(known, zero, 0) + gate * moved[0], y + slope * (moved[0] - x))]


def _step(here: Any, moved: Any) -> Any:
    """From one value to another; a masked logit stays where it is."""
    known = jnp.isfinite(here)
    return jnp.where(known, moved - jnp.where(known, here, 0), 0)


def _factors(node: Node) -> list[Value]:
    """The active factors of a product, twice where a value is its own factor."""
    return [value for value in node.steps[0].operands if value in node.active]


def hold(graph: Graph, rules: Sequence[str], affine: bool = False) -> Held:
    """The evaluator of a graph under rules."""
    still: set[Value] = set()
    for node in graph.nodes:
        ends = node.kind == "softmax" and "softmax" in rules
        if ends or (node.active and still.issuperset(node.active)):
            still.update(node.outputs)
    return Held(tuple(rules), frozenset(still), affine)


def refuse_loops(graph: Graph, rules: Sequence[str], name: str) -> None:
    """Refuse to hold what is inside a loop or a branch."""
    inside = [node for node in graph.nodes if node.inner] if rules else []
    if inside:
        raise ValueError(
            f"{name}: {inside[0].describe()} holds layers whose normalisations and gates cannot be held one by one. "
            "Build the model without the scan over its layers, or cut it by `split`."
        )


def run_held(opened: Opened, moved: Sequence[Array], held: Held) -> Array:
    """The score of an opened call for moved inputs, with what is held taken from the call."""
    graph, at = opened.graph, {value: widened(constant) for value, constant in opened.graph.flat.constants}
    at.update(zip(graph.flat.inputs, opened.arguments, strict=True))
    other = {graph.flat.inputs[place]: value for place, value in zip(opened.moving, moved, strict=True)}
    for node in graph.nodes:
        here, fixed = [at[v] for v in node.active], [at[v] for v in node.fixed]
        results = node.evaluate(here, fixed)
        at.update(zip(node.outputs, results, strict=True))
        if node.active:
            there = [other.get(v, at[v]) for v in node.active]
            other.update(zip(node.outputs, held(node, here, there, fixed), strict=True))
    (output,) = graph.flat.outputs
    return jnp.asarray(other.get(output, at.get(output, output.number)))
