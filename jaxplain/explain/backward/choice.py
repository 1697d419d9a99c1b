"""Which rule each operation gets: a mapping from kinds, names and paths to rules, over the rules that always apply."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from jaxplain.explain.backward.logarithmic import LogSoftmax, Shift
from jaxplain.explain.backward.rules import (
    STABILISER,
    ConstantScale,
    Epsilon,
    Numerator,
    PassThrough,
    SignRule,
    Softmax,
    Stop,
)
from jaxplain.program.node import KINDS, Graph, Node, OwnDerivative, Rule, Value, never_negative, without_rule

WEIGHTS = ("dense", "convolution")
"""The layers with weights, which a single rule is for."""

FIRST = "first"
"""The key for layers with weights that no other such layer comes before."""

_PROPORTIONAL = Epsilon(1e-9)  # nothing is to be lost at sums but where they are zero

DEFAULTS: dict[str, Rule] = {
    "affine": Epsilon(STABILISER),
    "scale": ConstantScale(),
    "activation": PassThrough(),
    "sum": _PROPORTIONAL,
    "product": _PROPORTIONAL,
    "quotient": Numerator(),
    "softmax": Softmax(),
    "log_softmax": LogSoftmax(),
    "logsumexp": OwnDerivative(),  # its derivative is the softmax, which sums to one: relevance is kept
    "hypot": _PROPORTIONAL,  # of degree one: gradient times input sums to the output
    "normalization": _PROPORTIONAL,
    "selection": OwnDerivative(),
    "structure": OwnDerivative(),
}
"""The rules of kinds that the mapping says nothing of."""

_CONTROL = ("scan", "cond")


def as_composite(rule: Any, name: str) -> dict[str, Rule]:
    """A mapping of rules, from a mapping, a rule (for the layers with weights), or a function that makes either."""
    rule = _made(rule, name)
    if isinstance(rule, Rule):
        return dict.fromkeys(WEIGHTS, rule)
    if not isinstance(rule, Mapping):
        raise TypeError(
            f"{name}: `rule` has to be a rule of jaxplain.relevance, such as relevance.epsilon(1e-6), or a "
            f"mapping from kinds of operations or paths of modules to rules, not {rule!r}."
        )
    if not rule:
        raise ValueError(f"{name}: the mapping of rules is empty. Pass a rule, or {{'dense': relevance.epsilon()}}.")
    composite = {}
    for key, value in rule.items():
        made = _made(value, name)
        if not isinstance(key, str) or not isinstance(made, Rule):
            raise TypeError(f"{name}: a mapping of rules goes from strings to rules, not from {key!r} to {value!r}.")
        composite[key] = made
    return composite


def _made(rule: Any, name: str) -> Any:
    """What a function without arguments makes: `relevance.z_plus` means `relevance.z_plus()`."""
    if isinstance(rule, Rule | Mapping) or not callable(rule):
        return rule
    try:
        return rule()
    except TypeError as error:
        raise TypeError(f"{name}: {getattr(rule, '__name__', rule)!r} needs its settings: {error}.") from error


def matches(pattern: str, path: str) -> bool:
    """Whether a path pattern means a module or what is inside it; the model's own name may be left out."""
    regex = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern) + "(/.*)?"
    return any(re.fullmatch(regex, candidate) for candidate in (path, path.partition("/")[2]) if candidate)


def stops(composite: Mapping[str, Rule]) -> Any:
    """Where relevance ends, before it is known which layers are first."""
    if not any(isinstance(rule, Stop) for rule in composite.values()):
        return lambda node: False
    return lambda node: isinstance(_best(composite, node, False, frozenset(composite)), Stop)


def choose(composite: Mapping[str, Rule], graph: Graph, name: str) -> dict[Node, Rule]:
    """The rule of every node that relevance flows through.

    Raises:
        ValueError: A key that nothing matches, an operation without a rule.
    """
    nodes = [node for node in graph.walk() if node.kind not in _CONTROL]
    first = first_layers(graph)
    if composite_has_path := [key for key in composite if not _is_kind(key, nodes)]:
        _require_matches(composite_has_path, graph, nodes, name)
    wholesale = frozenset(
        key for key in composite_has_path if not any(node.name in WEIGHTS and matches(key, node.path) for node in nodes)
    )
    chosen = {node: _best(composite, node, node in first, wholesale) for node in nodes}
    missing = [node for node, rule in chosen.items() if rule is None]
    if missing:
        example = (
            f"Give it one by its name or path, as in lrp(f, {{'dense': relevance.epsilon(), {missing[0].name!r}: "
            "relevance.epsilon()}): epsilon shares by gradient times input, pass_through passes on, stop ends it."
        )
        raise without_rule(name, missing, example)
    above_zero = never_negative(graph)
    return {node: _for_input(rule, node, above_zero) for node, rule in chosen.items() if rule is not None}


def _for_input(rule: Rule, node: Node, above_zero: Collection[Value]) -> Rule:
    """The rule, told where the input of its layer is never negative."""
    if isinstance(rule, SignRule) and node.active[0] in above_zero:
        return dataclasses.replace(rule, never_negative=True)
    return rule


def _best(composite: Mapping[str, Rule], node: Node, first: bool, wholesale: frozenset[str]) -> Rule | None:
    """The rule of the most specific key: a path, `first`, a name, a kind; of equals the last."""
    found: tuple[int, Rule | None] = (-1, DEFAULTS.get(node.kind) if node.shifted is None else Shift())
    for key, rule in composite.items():
        rank = _rank(key, node, first, key in wholesale)
        if rank >= max(found[0], 0):
            found = rank, rule
    return found[1]


def _rank(key: str, node: Node, first: bool, wholesale: bool) -> int:
    weights = node.name in WEIGHTS and node.kind == "affine"
    if key == FIRST:
        return 2 if first else -1
    if key in (node.name, node.kind):
        # A convolution of two values is a product, and no layer.
        return -1 if key in WEIGHTS and not weights else 1 if key == node.name else 0
    reached = weights or (wholesale and node.kind not in ("selection", "structure"))
    return 3 if reached and matches(key, node.path) else -1


def _is_kind(key: str, nodes: Sequence[Node]) -> bool:
    return key in (FIRST, *WEIGHTS, *KINDS, "scale_shift") or any(key == node.name for node in nodes)


def _require_matches(keys: Iterable[str], graph: Graph, nodes: Sequence[Node], name: str) -> None:
    every = [node for node in graph.nodes if node.depends]
    for key in keys:
        if any(matches(key, node.path) for node in (*nodes, *every)) or any(key == node.name for node in every):
            continue
        folded = next((n for n in nodes if any(matches(key, step.path) for step in n.steps)), None)
        if folded is not None:
            raise ValueError(f"{name}: {key!r} is part of {folded.describe()}, which takes it in. Name that one.")
        paths = list(dict.fromkeys(node.path for node in nodes if node.path))
        kinds = list(dict.fromkeys((*KINDS, FIRST, *(node.name for node in nodes))))
        near = difflib.get_close_matches(key, [*paths, *kinds], n=4, cutoff=0.5) or paths[:6]
        raise ValueError(
            f"{name}: the pattern {key!r} matches no module and no kind of operation of this function. The nearest: "
            f"{', '.join(map(repr, near)) or 'none'}. `print(jaxplain.audit(jaxplain.lrp(f, relevance.epsilon()))(x, "
            "...))` lists all."
        )


def first_layers(graph: Graph) -> set[Node]:
    """The layers with weights whose input has passed no other one on its way."""
    return _first(graph, set())[0]


def _first(graph: Graph, passed: set[Value]) -> tuple[set[Node], set[Value]]:
    """The first layers, given the inputs that have passed a layer; and all values that have."""
    found: set[Node] = set()
    for node in graph.nodes:
        before = any(value in passed for value in node.active)
        weights = node.kind == "affine" and node.name in WEIGHTS
        if node.inner:
            inner, after = _first_inside(node, passed)
            found |= inner
            passed.update(after)
            continue
        if weights and not before:
            found.add(node)
        if weights or before:
            passed.update(node.outputs)
    return found, passed


def _first_inside(node: Node, passed: set[Value]) -> tuple[set[Node], set[Value]]:
    operands = node.steps[0].operands[1 if node.kind == "cond" else 0 :]
    found: set[Node] = set()
    after: set[Value] = set()
    for graph in node.inner:
        known = {inner for inner, outer in zip(graph.flat.inputs, operands, strict=True) if outer in passed}
        while True:
            inner, reached = _first(graph, set(known))
            again = known | (_carried(node, graph, reached) if node.kind == "scan" else set())
            if again == known:
                break
            known = again
        found |= inner
        after |= {outer for outer, value in zip(node.outputs, graph.flat.outputs, strict=True) if value in reached}
    return found, after


def _carried(node: Node, graph: Graph, reached: set[Value]) -> set[Value]:
    """The inputs of a loop's body that hold what a turn before has made."""
    constants, carry = node.carry
    inputs = graph.flat.inputs[constants : constants + carry]
    return {inner for inner, value in zip(inputs, graph.flat.outputs, strict=False) if value in reached}
