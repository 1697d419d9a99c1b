"""Logarithms of sums of exponentials, with the largest exponent taken out before and put back behind.

m + log(sum(w exp(z - m))) is log(sum(w exp(z))), whatever m is. Its parts say nothing of it: z - m is zero at the
largest z, and m is a constant where its gradient is stopped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from jaxplain.program.node.dominance import Dominance
from jaxplain.program.node.facts import MOVES, OUTPUT, Facts, Group
from jaxplain.program.node.flat import Step, Value

# fmt: off
_SUMS = frozenset(("reduce_sum", "dot_general", "cumsum", "reduce_window_sum"))
_AROUND = MOVES | {"abs", "div", "mul", "select_n"}
_INSIDE = _AROUND | _SUMS | {
    "add", "add_any", "eq", "exp", "ge", "gt", "is_finite", "le", "log", "lt", "max", "ne", "reduce_max", "sign",
    "stop_gradient", "sub",
}
# fmt: on


def log_sum_exps(facts: Facts, dominance: Dominance) -> Iterator[Group]:
    """Each m + log(sum(w exp(z - m))): with weights, a mask, along any axes."""
    for step in facts.steps:
        if step.name not in ("add", "add_any") or len(facts.varying(step)) != 2:
            continue
        for inside, shift in (step.operands, step.operands[::-1]):
            taken = _taken_out(facts, inside)
            top = largest(facts, shift)
            if taken is None or top is None or not _alike(top, largest(facts, taken.operands[1])):
                continue
            entry = dominance.common(taken.operands[0], taken.operands[1])
            indices = [] if entry is None else dominance.between(entry, step.results[0])
            names = {facts.steps[index].name for index in indices}
            if entry is not None and entry.is_floating and names <= _INSIDE:
                yield Group("logsumexp", "logsumexp", tuple(indices), entry, step.results[0])
            break


def shifts(facts: Facts) -> dict[int, Value]:
    """The steps that take the largest value out before an exponential, or put it back behind a logarithm.

    They are what is left where the whole is no group: weights that vary, moves between the parts of a softmax.

    Returns:
        For the index of each step the operand that is shifted.
    """
    found, tops = dict[int, Value](), list[Step]()
    for index, step in enumerate(facts.steps):
        varying = facts.varying(step)
        if len(varying) != 2 or step.name not in ("sub", "add", "add_any"):
            continue
        if step.name == "sub":
            top, users = largest(facts, step.operands[1]), facts.uses.get(step.results[0], ())
            if top is not None and any(user != OUTPUT and facts.steps[user].name == "exp" for user in users):
                found[index] = step.operands[0]
                tops.append(top)
            continue
        for inside, shift in (step.operands, step.operands[::-1]):
            top, logarithm = largest(facts, shift), _back(facts, inside, _AROUND)
            if any(_alike(known, top) for known in tops) and logarithm is not None and logarithm.name == "log":
                found[index] = inside
    return {index: value for index, value in found.items() if value.shape == facts.steps[index].results[0].shape}


def _alike(one: Step, other: Step | None) -> bool:
    """Whether two maxima are of the same values along the same axes."""
    return other is not None and one.operands[0] is other.operands[0] and one.params["axes"] == other.params["axes"]


def _taken_out(facts: Facts, value: Value) -> Step | None:
    """The difference z - m of which a value is log(sum(w exp(z - m)))."""
    for operation, around in (("log", _AROUND), ("exp", _AROUND | _SUMS)):
        step = _back(facts, value, around)
        if step is None or step.name != operation:
            return None
        value = step.operands[0]
    step = facts.source(value)
    return step if step is not None and step.name == "sub" else None


def _back(facts: Facts, value: Value, around: Collection[str]) -> Step | None:
    """The step that made a value, before others that scale, choose and move it."""
    for _ in range(16):
        step = facts.source(value)
        if step is None or step.name not in around:
            return step
        varying = [v for v in facts.varying(step) if v.is_floating]
        if len(varying) != 1:
            return None
        value = varying[0]
    return None


def largest(facts: Facts, value: Value) -> Step | None:
    """The maximum along an axis that makes a value, as it is made for a softmax; None where it is none."""
    for _ in range(8):  # jnp.max with `initial` is max(-inf, reduce_max)
        step = facts.source(value)
        if step is None:
            return None
        if step.name == "reduce_max":
            return step
        if step.name not in (*MOVES, "stop_gradient", "max", "select_n"):
            return None
        value = next((v for v in step.operands if v in facts.depends and v.is_floating), step.operands[0])
    return None
