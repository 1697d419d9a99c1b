"""Groups of steps that mean one operation: activation functions, softmax, log-softmax, normalisation.

They are found by what they compute and how they are connected, without names: gelu is eight equations, softmax seven.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax.numpy as jnp

from jaxplain.program.node.dominance import Dominance
from jaxplain.program.node.facts import Facts, Group, cones, probed
from jaxplain.program.node.flat import Step, Value
from jaxplain.program.node.logarithms import largest, log_sum_exps
from jaxplain.program.node.normalizations import normalizations
from jaxplain.program.node.probe import RECTIFIERS, name_of
from jaxplain.program.trace import dtype_of


def find_groups(facts: Facts) -> list[Group]:
    """All groups. Normalisations may share steps, such as one root; no other step is in two of them."""
    dominance = Dominance(facts)
    free = set(range(len(facts.steps)))
    softmaxes = [*_softmaxes(facts, dominance), *log_sum_exps(facts, dominance)]
    taken = {index for group in softmaxes for index in group.indices}
    groups = [group for group in normalizations(facts, dominance) if taken.isdisjoint(group.indices)]
    free.difference_update(index for group in groups for index in group.indices)
    for group in [*softmaxes, *_activations(facts)]:
        if free.issuperset(group.indices):
            free.difference_update(group.indices)
            groups.append(group)
    return _joins(facts, free, groups)


def _activations(facts: Facts) -> list[Group]:
    """Known activation functions, the largest first: a silu holds a sigmoid, a relu6 a relu."""
    groups = []
    for step in facts.steps:
        output = step.results[0]
        # A cast to another width is no part of a function: other readers may take its value as it is.
        if output not in facts.depends or not output.is_floating or step.name == "convert_element_type":
            continue
        for entry, indices in cones(facts, output):
            results = probed(facts, entry, indices)
            name = None if results is None else name_of(results, _rounding(facts, indices))
            if name is not None:
                groups.append(Group("activation", name, tuple(indices), entry, output))
                break
    return sorted(groups, key=lambda group: -len(group.indices))


def _rounding(facts: Facts, indices: Sequence[int]) -> float:
    """How far the constants of steps in half precision may be from what they stand for."""
    kinds = [dtype_of(variable) for index in indices for variable in facts.steps[index].equation.outvars]
    floats = [kind for kind in kinds if kind is not None and jnp.issubdtype(kind, jnp.floating)]
    narrow = [float(jnp.finfo(kind).eps) for kind in floats if jnp.finfo(kind).bits < 32]
    return max(narrow, default=0.0)


def part(facts: Facts, group: Group, last: int) -> Group:
    """A value inside a group, for what reads it from outside: it is a function of the group's entry too."""
    output = facts.steps[last].results[0]
    needed, indices = {output}, list[int]()
    for index in reversed([index for index in group.indices if index <= last]):
        if needed.intersection(facts.steps[index].results):
            needed.update(facts.steps[index].operands)
            indices.insert(0, index)
    carried = {group.entry}  # through comparisons and integers nothing is carried
    for step in map(facts.steps.__getitem__, indices):
        if carried.intersection(step.operands):
            carried.update(value for value in step.results if value.is_floating)
    if output not in carried:
        return Group("plain", facts.steps[last].name, tuple(indices), group.entry, output)
    results = probed(facts, group.entry, indices)
    known = None if results is None else name_of(results, _rounding(facts, indices))
    name = known or (facts.steps[last].name if len(indices) == 1 else "function")
    return Group("activation", name, tuple(indices), group.entry, output)


def _joins(facts: Facts, free: set[int], groups: list[Group]) -> list[Group]:
    """The groups, and unknown functions of one value: where an elementwise step joins values from the same one.

    A product takes known functions inside of it with it, as x (1 + tanh(c x)) does: it is a function of x as a whole.
    Of a ReLU inside there is something to say by itself, and in a sum each term has its share.
    """
    inside = {i: group for group in groups if group.kind == "activation" for i in group.indices}
    for index in reversed(range(len(facts.steps))):
        step = facts.steps[index]
        uses = [value for value in step.operands if value in facts.depends]
        if index not in free or len(uses) < 2 or not step.results[0].is_floating:
            continue
        for entry, indices in cones(facts, step.results[0]):
            inner = [inside[i] for i in indices if i in inside] if step.name == "mul" else []
            taken = {i for group in inner if group.name not in RECTIFIERS for i in group.indices}
            if not (free | taken).issuperset(indices) or not taken.issubset(indices):
                break
            if entry.is_floating:
                free.difference_update(indices)
                groups = [group for group in groups if group not in inner]
                groups.append(Group("activation", "function", tuple(indices), entry, step.results[0]))
                break
    return groups


def _softmaxes(facts: Facts, dominance: Dominance) -> Iterator[Group]:
    """exp(z) / sum(exp(z)), and z - log(sum(exp(z))), with or without a shift of z."""
    for step in facts.steps:
        found = softmax_of(facts, step)
        if found is not None:
            yield from _softmax(facts, dominance, *found, step.results[0])


def softmax_of(facts: Facts, step: Step) -> tuple[str, Value] | None:
    """What the last step of a softmax or log-softmax makes, and of which exponent; None of another step."""
    kind, exponential = None, None
    if step.name == "div":
        kind, exponential = "softmax", facts.stripped(step.operands[0], ("convert_element_type",))
        total = facts.source(facts.stripped(step.operands[1]))
    elif step.name == "sub":
        logarithm = facts.source(facts.stripped(step.operands[1]))
        if logarithm is None or logarithm.name != "log":
            return None
        kind, total = "log_softmax", facts.source(facts.stripped(logarithm.operands[0]))
    if kind is None or total is None or total.name != "reduce_sum":
        return None
    summed = facts.stripped(total.operands[0], ("convert_element_type",))
    inner = facts.source(summed)
    if inner is None or inner.name != "exp":
        return None
    if exponential is not None and summed is not exponential:  # written with two exponentials: the same of the same?
        other = facts.source(exponential)
        if other is None or other.name != "exp" or other.operands != inner.operands:
            return None
    exponent = inner.operands[0]
    return None if kind == "log_softmax" and exponent is not step.operands[0] else (kind, exponent)


def _softmax(facts: Facts, dominance: Dominance, kind: str, exponent: Value, output: Value) -> Iterator[Group]:
    shift = facts.source(exponent)
    shifted = shift is not None and shift.name == "sub" and largest(facts, shift.operands[1]) is not None
    entry = shift.operands[0] if shift is not None and shifted else exponent
    found = dominance.region(entry, output) if entry in facts.depends else None
    if found is not None and found[0] is entry and entry.shape == output.shape:
        yield Group(kind, kind, tuple(found[1]), entry, output)
