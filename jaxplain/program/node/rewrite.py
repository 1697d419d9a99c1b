"""Pulls relevance back through a function: each node with a rule becomes a `custom_vjp` that does what the rule says.

The forward value of a rewritten node is the original's; only its pullback is the rule's. Everything else (sums where a
value is used twice, loops, `vmap`, `jit`, sharding, derivatives of the result) is JAX's own. The rewritten program is
used to pull back and for nothing else: values come from the original function.

How a family of rules plugs in:

1. `opened = open_score(f, x, args, name, stops=...)` traces the score and groups it into nodes. `stops(node)` says
   where relevance ends; behind it a value is a constant to the nodes that use it.
2. `rules = {node: rule for node in opened.graph.walk()}`. A rule is a `Rule`, a pytree (its arrays are arguments of the
   `custom_vjp`, which closes over none), called as `rule(node, calls, relevance)`: `calls[0]` holds the values of the
   node at x (`inputs` for `node.active`, `fixed` for `node.fixed`, `outputs`), `calls[1:]` those of the same node at
   each reference; `relevance` has one array for each output; what is returned, one for each of `node.active`. A node
   without a rule keeps its own derivative. A family that needs a rule everywhere raises `without_rule(...)`.
3. `pull(opened, rules, seed, references)` returns one array for each floating-point leaf of x. References run through
   the program beside x (also inside of loops), so a rule sees both; relevance flows to x alone.

Every gradient of what comes out (with respect to parameters, inputs, references) is right: rules and values that are
held constant are so for the pullback alone, not for a differentiation around it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.program.node.flat import Value, flatten, widened
from jaxplain.program.node.flow import blocked, sums, sunk, together
from jaxplain.program.node.lookups import Lookup, cut_at_lookups, refuse_unread
from jaxplain.program.node.nodes import Graph, Node, build
from jaxplain.program.node.rule import Call, OwnDerivative, Rule, once
from jaxplain.program.opaque import needs_derivative
from jaxplain.program.trace import Equation, View, look, loop_parts, on_host
from jaxplain.program.trace import run as run_program
from jaxplain.types import Array, Pytree

Rules = Mapping[Node, Rule | None]
Flow = dict[Node, Any]
"""For each node the relevance that it received and passed on: sums, and sums of absolute values, `[4]`."""


class Opened(NamedTuple):
    """A traced score as nodes: the values of its inputs, and which of them relevance is wanted for.

    Those are the floating-point leaves of x; or, where x is token ids, what its tokens looked up.
    """

    view: View
    graph: Graph
    arguments: list[Any]
    moving: list[int]
    lookups: list[Lookup]

    def value(self) -> Array:
        """The score, from the original program."""
        outputs, _ = run_program(self.view.program, self.view.leaves, [], {})
        return jnp.asarray(check.scalar(jax.tree.unflatten(self.view.structure, outputs), self.view.name))

    def restored(self, relevance: Sequence[Array], x: Pytree) -> Pytree:
        """Relevance in the structure and dtypes of x, with zeros (float32) at leaves that have none."""
        leaves, structure = jax.tree.flatten(x)
        first = len(jax.tree.leaves(self.view.f))
        filled = [jnp.zeros(jnp.shape(leaf), jnp.float32) for leaf in leaves]
        for place, (index, part) in enumerate(zip(self.moving, relevance, strict=True)):
            if self.lookups:
                leaf = self.lookups[place].place - first
                filled[leaf] += self.lookups[place].per_token(part, filled[leaf].size).reshape(filled[leaf].shape)
            else:
                filled[index - first] = part.astype(jnp.result_type(leaves[index - first]))
        return jax.tree.unflatten(structure, filled)


def open_score(
    f: Any,
    x: Pytree,
    args: tuple[Any, ...],
    name: str,
    *,
    stops: Callable[[Node], bool] = lambda node: False,
    opaque: Callable[[Equation], bool] = lambda equation: False,
) -> Opened:
    """Trace a score and group its equations into nodes, with x's floating-point leaves active.

    Args:
        f: A score.
        x: What is explained: a pytree with floating-point leaves, or of token ids (integers that look up rows of a
            table) alone.
        args: Further arguments of the score.
        name: The method's name, for errors.
        stops: As in `nodes.build`.
        opaque: Calls with a custom derivative that keep it, as in `flatten`.

    Raises:
        TypeError: `x` has neither floating-point leaves nor tokens.
        ValueError: Relevance would have to flow through complex numbers.
    """
    x = jax.tree.map(jnp.asarray, x)
    view = look(f, (x, *args), name)
    first, leaves = len(jax.tree.leaves(view.f)), jax.tree.leaves(x)
    flat, arguments = flatten(view.program, opaque), [widened(leaf) for leaf in view.leaves]
    moving = [first + place for place, leaf in enumerate(leaves) if check.is_floating(leaf)]
    lookups: list[Lookup] = []
    if not moving:
        tokens = range(first, first + len(leaves))
        before, flat, lookups, looped = cut_at_lookups(flat, tokens, arguments)
        refuse_unread(view.program, tokens, [*lookups, *looped], name)
        if looped:
            raise ValueError(
                f"{name}: tokens are looked up inside of a `lax.scan`, where no rule reaches a look-up. Look them up "
                "before the scan, or use a gradient method, which reaches them there."
            )
        if not lookups:
            check.differentiable(x, name)
        moving = list(range(len(arguments), len(arguments) + len(lookups)))
        found = run(build(before, [False] * len(before.inputs)), [arguments], {}, {})
        arguments = [*arguments, *found[0]]
    check.scalar(jax.tree.unflatten(view.structure, [jax.ShapeDtypeStruct(*o) for o in view.outputs()]), name)
    graph = build(flat, [place in moving for place in range(len(flat.inputs))], stops=stops, opaque=opaque)
    if any(on_host(step.equation) for node in graph.walk() for step in node.steps):
        raise needs_derivative(name)
    if lost := [node for node in graph.walk() if node.kind == "complex"]:
        raise without_rule(
            name,
            lost,
            "Relevance cannot flow through complex numbers. Explain what comes after them: `body, head = "
            "jaxplain.split(f, path)` cuts the model there; or use a gradient method.",
        )
    return Opened(view, graph, arguments, moving, lookups)


Beside = Callable[[Array, Array], Sequence[Array]]


def pull(
    opened: Opened, rules: Rules, seed: Any, references: Sequence[Pytree] = (), beside: Beside | None = None
) -> list[Array]:
    """The relevance of each floating-point leaf of x, for a relevance of the score.

    Args:
        opened: The traced score.
        rules: A rule for each node; None, or no entry, keeps the node's own derivative.
        seed: The relevance of the score, a scalar.
        references: Inputs of x's structure that run through the program beside x.
        beside: What further runs have of a floating-point leaf, for that of x and of the one reference; relevance that
            these runs bring back goes through it to x.

    Returns:
        One array for each floating-point leaf, in float32 or wider. Cost: one forward pass for x and each reference,
        and one backward pass by the rules.
    """
    return _pull(opened, rules, seed, references, {}, beside)[0]


def pull_with_flow(opened: Opened, rules: Rules, seed: Any) -> tuple[list[Array], Flow]:
    """As `pull`, and for each node that relevance flows through what it received and passed on (`Flow`).

    What the nodes received and did not pass on adds up to what the score had and the input has not.
    """
    kinds = [value.dtype for value in opened.arguments if jnp.issubdtype(value.dtype, jnp.floating)]
    zeros = jnp.zeros(4, jnp.result_type(jnp.float32, *kinds))
    taps = {node: zeros for node in opened.graph.walk() if not node.inner or node.kind == "scan"}
    own = {node: rules.get(node) or OwnDerivative() for node in taps if not node.inner}
    return _pull(opened, own | dict(rules), seed, (), taps)


def _pull(
    opened: Opened, rules: Rules, seed: Any, references: Sequence[Pytree], taps: Flow, beside: Beside | None = None
) -> tuple[list[Array], Flow]:
    others = [_arguments(opened, jax.tree.leaves(reference)) for reference in references]
    rules = once(opened.graph, rules)

    def score(values: list[Array], taps: list[Any]) -> Any:
        runs = [_replaced(opened, opened.arguments, values), *others]
        if beside is not None:
            further = [beside(value, others[0][place]) for place, value in zip(opened.moving, values, strict=True)]
            runs += [_replaced(opened, others[0], moved) for moved in zip(*further, strict=True)]
        runs = run(opened.graph, runs, rules, dict(zip(nodes, taps, strict=True)))
        return runs[0][0]

    nodes = list(taps)
    output, back = jax.vjp(score, [opened.arguments[place] for place in opened.moving], list(taps.values()))
    relevance, flow = back(jnp.asarray(seed).astype(output.dtype))
    return relevance, dict(zip(nodes, flow, strict=True))


def _replaced(opened: Opened, arguments: Sequence[Any], moving: Sequence[Array]) -> list[Any]:
    """Arguments with other values of what relevance is wanted for."""
    arguments = list(arguments)
    for place, value in zip(opened.moving, moving, strict=True):
        arguments[place] = value
    return arguments


def _arguments(opened: Opened, leaves: Sequence[Any]) -> list[Any]:
    first = len(jax.tree.leaves(opened.view.f))
    arguments = list(opened.arguments)
    arguments[first : first + len(leaves)] = [widened(leaf) for leaf in leaves]
    return arguments


def run(graph: Graph, arguments: Sequence[Sequence[Any]], rules: Rules, taps: Flow) -> list[list[Any]]:
    """Run a graph on several inputs side by side; the pullback of the first run is that of the rules.

    Args:
        graph: What to run.
        arguments: For each run the values of the graph's inputs.
        rules: As in `pull`.
        taps: Zeros for nodes whose flow of relevance is wanted: their cotangents are the sums.

    Returns:
        For each run the outputs.
    """
    runs: list[dict[Value, Any]] = []
    for values in arguments:
        constants = {value: widened(constant) for value, constant in graph.flat.constants}
        runs.append(constants | dict(zip(graph.flat.inputs, values, strict=True)))
    for node in graph.nodes:
        results = _run_node(node, runs if node.depends else runs[:1], rules, taps)
        for place, known in enumerate(runs):
            known.update(zip(node.outputs, results[place if node.depends else 0], strict=True))
    return [[_read(known, value) for value in graph.flat.outputs] for known in runs]


def _read(values: dict[Value, Any], value: Value) -> Any:
    return value.number if value.number is not None else values[value]


def _run_node(node: Node, runs: Sequence[dict[Value, Any]], rules: Rules, taps: Flow) -> list[list[Any]]:
    if node.kind == "scan":
        return _scan(node, runs, rules, taps)
    if node.kind == "cond":
        return _cond(node, runs, rules, taps)
    active = [[values[value] for value in node.active] for values in runs]
    fixed = [[values[value] for value in node.fixed] for values in runs]
    if node.kind == "plain":
        results = [node.evaluate(a, b) for a, b in zip(active, fixed, strict=True)]
        return [[blocked(value) for value in outputs] for outputs in results] if node.depends else results
    rule = rules.get(node)
    if rule is None:
        return [node.evaluate(a, b) for a, b in zip(active, fixed, strict=True)]
    return _ruled(node, rule, active, fixed, taps.get(node))


def _ruled(
    node: Node, rule: Rule, active: Sequence[list[Any]], fixed: Sequence[list[Any]], tap: Any
) -> list[list[Any]]:
    """Run a node so that its pullback is the rule's; everything that holds arrays is an argument."""

    @jax.custom_vjp
    def call(rule: Rule, active: Any, fixed: Any, tap: Any) -> list[list[Any]]:
        return rule.forward(node, active, fixed)

    def forward(rule: Rule, active: Any, fixed: Any, tap: Any) -> tuple[list[list[Any]], Any]:
        outputs = rule.forward(node, active, fixed)
        return outputs, (rule, active, fixed, outputs, tap)

    def backward(kept: Any, cotangents: list[list[Any]]) -> Any:
        rule, active, fixed, outputs, tap = kept
        calls = [Call(*parts) for parts in zip(active, fixed, outputs, strict=True)]
        passed = [_checked(node, run, calls[0].inputs) for run in rule.backward(node, calls, cotangents)]
        flow = None if tap is None else sums(tap.dtype, cotangents[0], passed[0])
        return None, passed, None, flow

    call.defvjp(forward, backward)
    return call(rule, list(active), list(fixed), tap)


def _checked(node: Node, passed: Sequence[Any] | None, inputs: Sequence[Any]) -> list[Any]:
    if passed is None:
        return [None] * len(inputs)
    if len(passed) != len(inputs) or any(jnp.shape(p) != jnp.shape(i) for p, i in zip(passed, inputs, strict=False)):
        raise ValueError(
            f"the rule at {node.describe()} returned shapes {[jnp.shape(p) for p in passed]}, but relevance goes to "
            f"values of shapes {[jnp.shape(i) for i in inputs]}."
        )
    return [jnp.asarray(p).astype(jnp.result_type(i)) for p, i in zip(passed, inputs, strict=True)]


def _scan(node: Node, runs: Sequence[dict[Value, Any]], rules: Rules, taps: Flow) -> list[list[Any]]:
    (step,), (graph,) = node.steps, node.inner
    operands = [[_read(values, v) for v in step.operands] for values in runs]
    if node in taps:
        operands[0] = sunk(node, operands[0], taps[node])
    loops = [loop_parts(step.equation, values) for values in operands]
    count = len(loops[0].carry)

    def body(carry: list[list[Any]], items: list[list[Any]]) -> tuple[list[list[Any]], list[list[Any]]]:
        arguments = [[*loop.constants, *c, *i] for loop, c, i in zip(loops, carry, items, strict=True)]
        results = run(graph, arguments, rules, taps)
        return [outputs[:count] for outputs in results], [outputs[count:] for outputs in results]

    first, rows = [loop.carry for loop in loops], [loop.items for loop in loops]
    carry, stacked = together(lax.scan(body, first, rows, **loops[0].settings))
    return [[*c, *s] for c, s in zip(carry, stacked, strict=True)]


def _cond(node: Node, runs: Sequence[dict[Value, Any]], rules: Rules, taps: Flow) -> list[list[Any]]:
    (step,) = node.steps
    operands = [[_read(values, v) for v in step.operands] for values in runs]
    if len(runs) > 1 and node.branch_varies:
        raise ValueError(
            f"deep_lift: the branch taken at {node.describe()} depends on what is explained, so x and its reference "
            "may take different ones; no rule compares two branches. Use `jnp.where` in the model."
        )
    branches = [lambda values, graph=graph: run(graph, values, rules, taps) for graph in node.inner]
    return lax.switch(operands[0][0], branches, [values[1:] for values in operands])


def without_rule(name: str, nodes: Sequence[Node], example: str) -> ValueError:
    """The error for nodes that a family of rules has no rule for: it lists them with their paths."""
    listed = "; ".join(dict.fromkeys(node.describe() for node in nodes[:6]))
    more = f" and {len(nodes) - 6} more" if len(nodes) > 6 else ""
    return ValueError(f"{name}: there is no rule for {listed}{more}. {example}")


def inputs_of(opened: Opened, nodes: Sequence[Node]) -> dict[Node, list[Any]]:
    """The values of the active inputs of some nodes, those inside of loops left out."""
    return {node: call.inputs for node, call in calls_of(opened, nodes).items()}


def calls_of(opened: Opened, nodes: Sequence[Node]) -> dict[Node, Call]:
    """The values of some nodes, those inside of loops left out."""
    values = dict(zip(opened.graph.flat.inputs, opened.arguments, strict=True))
    values |= {value: widened(constant) for value, constant in opened.graph.flat.constants}
    found: dict[Node, Call] = {}
    for node in opened.graph.nodes:
        if len(found) == len(nodes):
            break
        (results,) = _run_node(node, [values], {}, {})
        if node in nodes:
            active, fixed = ([values[value] for value in group] for group in (node.active, node.fixed))
            found[node] = Call(active, fixed, results)
        values.update(zip(node.outputs, results, strict=True))
    return found
