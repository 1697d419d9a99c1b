"""What a function does last: whether it returns probabilities, which a score would make probabilities of again."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxplain.program.function import freeze, thaw
from jaxplain.program.node.facts import MOVES, Facts, learn
from jaxplain.program.node.flat import Step, Value, flatten
from jaxplain.program.node.regions import softmax_of
from jaxplain.program.trace import ByShape, trace

DEPTH = 32
"""How many sums and scales behind one another are followed back."""


class LastOperations:
    """What a function does last, kept by the structure and the shapes of its arguments.

    Called with the function, the same each time, and its arguments, of which what is no array (an activation among
    params) stays as it is: 'softmax', 'sigmoid' or None, whatever moves (reshapes, casts, picked rows) follow, also of
    a mean of several, as an ensemble's; None also of what cannot be traced. Cost: one trace for each kind of arguments.
    """

    def __init__(self) -> None:
        self.known = ByShape[str | None]()

    def __call__(self, f: Callable[..., Any], *args: Any) -> str | None:
        """The word for what makes the function's one output."""
        return self.known(lambda frozen: _ends_in(f, frozen), freeze(args))


def _ends_in(f: Callable[..., Any], frozen: Any) -> str | None:
    leaves, structure = jax.tree.flatten(frozen)
    try:  # of leaves alone: JAX keeps structures for ever, and a closure in them what it closes over
        program, _ = trace(lambda *leaves: f(*thaw(jax.tree.unflatten(structure, leaves))), *leaves)
    except Exception:  # a model that cannot be traced: its own call says why
        return None
    flat = flatten(program)
    facts = learn(flat, [True] * len(flat.inputs))
    found = _mixed(facts, flat.outputs[0], DEPTH) if len(flat.outputs) == 1 else None
    return found[0] if found is not None and abs(found[1] - 1) < 1e-3 else None


def _mixed(facts: Facts, value: Value, depth: int) -> tuple[str, float] | None:
    """What a value is made of, and the sum of its shares where it is a sum of several, as an ensemble's mean is."""
    step = facts.source(facts.stripped(value, {*MOVES, "slice", "copy"}))
    if step is None or not depth:
        return None
    if step.name == "logistic" or _is_logistic(facts, step):
        return "sigmoid", 1.0
    if _is_softmax(facts, step):
        return "softmax", 1.0
    if step.name == "reduce_sum":
        return _times(_mixed(facts, step.operands[0], depth - 1), _summed(step))
    if step.name in ("stack", "concatenate"):  # members side by side, which are averaged then
        parts = [_mixed(facts, operand, depth - 1) for operand in step.operands]
        return parts[0] if len(set(parts)) == 1 else None
    numbers = [_number(facts, operand) for operand in step.operands]
    if step.name in ("mul", "div") and numbers[-1]:
        factor = 1 / numbers[-1] if step.name == "div" else numbers[-1]
        return _times(_mixed(facts, step.operands[0], depth - 1), factor)
    if step.name == "mul" and numbers[0]:
        return _times(_mixed(facts, step.operands[1], depth - 1), numbers[0])
    return _added(facts, step, numbers, depth) if step.name == "add" else None


def _added(facts: Facts, step: Step, numbers: list[float | None], depth: int) -> tuple[str, float] | None:
    """A sum of two, both of one kind; Python's `sum` begins with 0."""
    word, total = None, 0.0
    for operand, number in zip(step.operands, numbers, strict=True):
        if number == 0:
            continue
        found = _mixed(facts, operand, depth - 1)
        if found is None or word not in (None, found[0]):
            return None
        word, total = found[0], total + found[1]
    return None if word is None else (word, total)


def _number(facts: Facts, value: Value) -> float | None:
    known = facts.numbers.get(value)
    return None if known is None or np.size(known) != 1 else float(np.asarray(known).reshape(()))


def _times(found: tuple[str, float] | None, factor: float) -> tuple[str, float] | None:
    return (found[0], found[1] * factor) if found is not None and factor > 0 else None


def _summed(step: Step) -> float:
    """How many numbers a sum adds up for each of its results."""
    return math.prod(step.operands[0].shape[axis] for axis in step.equation.params["axes"])


def _is_softmax(facts: Facts, step: Step) -> bool:
    """Whether a step is the last of a softmax, or of the exponential of a log-softmax."""
    if step.name == "exp":
        inner = facts.source(facts.stripped(step.operands[0]))
        found = None if inner is None else softmax_of(facts, inner)
        return found is not None and found[0] == "log_softmax"
    found = softmax_of(facts, step)
    return found is not None and found[0] == "softmax"


def _is_logistic(facts: Facts, step: Step) -> bool:
    """Whether a step is the last of 1 / (1 + exp(-z))."""
    if step.name != "div" or facts.numbers.get(step.operands[0]) != 1:
        return False
    total = facts.source(step.operands[1])
    if total is None or total.name != "add":
        return False
    sources = [facts.source(value) for value in total.operands]
    return any(facts.numbers.get(value) == 1 for value in total.operands) and any(
        source is not None and source.name == "exp" for source in sources
    )
