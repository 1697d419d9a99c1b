"""Groups of steps that mean one operation: activation functions, softmax, log-softmax, normalisation.

They are found by what they compute and how they are connected, without names: gelu is eight equations, softmax seven.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from jaxplain.program.node.facts import MOVES, OUTPUT, Facts, Group, cones, probed
from jaxplain.program.node.flat import Value
from jaxplain.program.node.probe import name_of

HELD = ("rsqrt", "sqrt")
"""Steps of a normalisation that relevance does not enter: the scale is a constant to it."""

_NORMALIZING = MOVES | {
    "abs", "add", "div", "integer_pow", "max", "min", "mul", "neg", "pow", "reduce_sum", "rsqrt", "sqrt",
    "square", "stop_gradient", "sub",
}  # fmt: skip


def find_groups(facts: Facts) -> list[Group]:
    """All groups; no step is in two of them."""
    dominance = _Dominance(facts)
    found = [*_softmaxes(facts, dominance), *_normalizations(facts, dominance)]
    free, groups = set(range(len(facts.steps))), list[Group]()
    for group in [*found, *_activations(facts)]:
        if free.issuperset(group.indices):
            free.difference_update(group.indices)
            groups.append(group)
    return [*groups, *_joins(facts, free)]


def _activations(facts: Facts) -> list[Group]:
    """Known activation functions, the largest first: a silu holds a sigmoid, a relu6 a relu."""
    groups = []
    for step in facts.steps:
        output = step.results[0]
        if output not in facts.depends or not output.is_floating:
            continue
        for entry, indices in cones(facts, output):
            results = probed(facts, entry, indices)
            name = None if results is None else name_of(results)
            if name is not None:
                groups.append(Group("activation", name, tuple(indices), entry, output))
                break
    return sorted(groups, key=lambda group: -len(group.indices))


def _joins(facts: Facts, free: set[int]) -> Iterator[Group]:
    """Unknown functions of one value: where an elementwise step joins values that come from the same one."""
    for index in reversed(range(len(facts.steps))):
        step = facts.steps[index]
        uses = [value for value in step.operands if value in facts.depends]
        if index not in free or len(uses) < 2 or not step.results[0].is_floating:
            continue
        for entry, indices in cones(facts, step.results[0]):
            if not free.issuperset(indices):
                break
            if entry.is_floating:
                free.difference_update(indices)
                yield Group("activation", "function", tuple(indices), entry, step.results[0])
                break


class _Dominance:
    """Through which value everything that a value depends on has to pass."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.above: dict[Value, Value | None] = {v: None for v in facts.flat.inputs if v in facts.depends}
        self.depth: dict[Value | None, int] = {None: 0, **dict.fromkeys(self.above, 1)}
        for step in facts.steps:
            varying = facts.varying(step)
            if varying:
                nearest: Value | None = varying[0]
                for value in varying[1:]:
                    nearest = self.common(nearest, value)
                for value in step.results:
                    self.above[value] = nearest
                    self.depth[value] = self.depth[nearest] + 1

    def common(self, a: Value | None, b: Value | None) -> Value | None:
        """The nearest value that both come from; None where there is none."""
        while a is not b:
            if self.depth[a] < self.depth[b]:
                a, b = b, a
            assert a is not None
            a = self.above[a]
        return a

    def region(self, entry: Value | None, output: Value) -> tuple[Value, list[int]] | None:
        """The steps from `entry` to `output`; the entry moves on until nothing inside is used outside."""
        for _ in range(8):
            if entry is None:
                return None
            inside = self._between(entry, output)
            made = [value for index in inside for value in self.facts.steps[index].results if value is not output]
            leaking = [value for value in made if not set(self.facts.uses.get(value, ())) <= set(inside)]
            if not leaking:
                return entry, inside
            entry = leaking[-1]
        return None

    def _between(self, entry: Value, output: Value) -> list[int]:
        after, last = {entry}, self.facts.producer[output]
        indices = []
        for index in range(self.facts.producer.get(entry, OUTPUT) + 1, last + 1):
            if after.intersection(self.facts.steps[index].operands):
                after.update(self.facts.steps[index].results)
                indices.append(index)
        needed, kept = {output}, []
        for index in reversed(indices):
            if needed.intersection(self.facts.steps[index].results):
                needed.update(self.facts.steps[index].operands)
                kept.append(index)
        return kept[::-1]


def _softmaxes(facts: Facts, dominance: _Dominance) -> Iterator[Group]:
    """exp(z) / sum(exp(z)), and z - log(sum(exp(z))), with or without a shift of z."""
    for step in facts.steps:
        kind, exponential = None, None
        if step.name == "div":
            kind, exponential = "softmax", facts.stripped(step.operands[0], ("convert_element_type",))
            total = facts.source(facts.stripped(step.operands[1]))
        elif step.name == "sub":
            logarithm = facts.source(facts.stripped(step.operands[1]))
            if logarithm is None or logarithm.name != "log":
                continue
            kind, total = "log_softmax", facts.source(facts.stripped(logarithm.operands[0]))
        if kind is None or total is None or total.name != "reduce_sum":
            continue
        summed = facts.stripped(total.operands[0], ("convert_element_type",))
        inner = facts.source(summed)
        if inner is None or inner.name != "exp" or (kind == "softmax" and summed is not exponential):
            continue
        exponent = inner.operands[0]
        if kind == "log_softmax" and exponent is not step.operands[0]:
            continue
        yield from _softmax(facts, dominance, kind, exponent, step.results[0])


def _softmax(facts: Facts, dominance: _Dominance, kind: str, exponent: Value, output: Value) -> Iterator[Group]:
    shift = facts.source(exponent)
    shifted = shift is not None and shift.name == "sub" and _is_largest(facts, shift.operands[1])
    entry = shift.operands[0] if shift is not None and shifted else exponent
    found = dominance.region(entry, output) if entry in facts.depends else None
    if found is not None and found[0] is entry and entry.shape == output.shape:
        yield Group(kind, kind, tuple(found[1]), entry, output)


def _is_largest(facts: Facts, value: Value) -> bool:
    """Whether a value is a maximum along an axis, made for a softmax."""
    for _ in range(8):  # jnp.max with `initial` is max(-inf, reduce_max)
        step = facts.source(value)
        if step is None:
            return False
        if step.name == "reduce_max":
            return True
        if step.name not in (*MOVES, "stop_gradient", "max", "select_n"):
            return False
        value = next((v for v in step.operands if v in facts.depends and v.is_floating), step.operands[0])
    return False


def _normalizations(facts: Facts, dominance: _Dominance) -> Iterator[Group]:
    """(x - mean(x)) / sqrt(var(x)) and its like: a product or quotient of x with a root of a sum over x."""
    scales: dict[Value, str] = {}
    for index, step in enumerate(facts.steps):
        varying = facts.varying(step)
        if step.name in HELD and varying:
            scales[step.results[0]] = step.name
        elif len(varying) == 1 and varying[0] in scales and step.name in (*MOVES, "mul", "add", "max", "div"):
            if step.name == "div" and step.operands[1] is varying[0]:
                scales[step.results[0]] = "rsqrt"
            else:
                scales[step.results[0]] = scales[varying[0]]
        if len(varying) == 2 and _scales(step.name, step.operands, scales):
            found = dominance.region(dominance.common(*varying), step.results[0])
            if found is not None:
                yield from _normalization(facts, *found, index)


def _scales(name: str, operands: list[Value], scales: dict[Value, str]) -> bool:
    if name == "mul":
        return any(scales.get(value) == "rsqrt" for value in operands)
    return name == "div" and scales.get(operands[1]) == "sqrt"


def _normalization(facts: Facts, entry: Value, inside: list[int], last: int) -> Iterator[Group]:
    output = facts.steps[last].results[0]
    names = {facts.steps[index].name for index in inside}
    if not names <= _NORMALIZING or "reduce_sum" not in names or not entry.is_floating:
        return
    while (index := facts.sole_user(output)) is not None:  # the learnt scale and shift
        step = facts.steps[index]
        once = step.name in ("add", "mul") and sum(v in facts.depends for v in step.operands) == 1
        if not once or step.results[0].shape != output.shape:
            break
        inside, output = [*inside, index], step.results[0]
    if math.prod(entry.shape) == math.prod(output.shape):
        yield Group("normalization", "normalization", tuple(sorted(inside)), entry, output)
