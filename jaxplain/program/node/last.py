"""What a function does last: whether it returns probabilities, which a score would make probabilities of again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jaxplain.program.function import freeze, thaw
from jaxplain.program.node.facts import MOVES, Facts, learn
from jaxplain.program.node.flat import Step, flatten
from jaxplain.program.node.regions import softmax_of
from jaxplain.program.trace import ByShape, trace


class LastOperations:
    """What a function does last, kept by the structure and the shapes of its arguments.

    Called with the function, the same each time, and its arguments, of which what is no array (an activation among
    params) stays as it is: 'softmax', 'sigmoid' or None, whatever moves (reshapes, casts, picked rows) follow; None
    also of what cannot be traced. Cost: one trace for each kind of arguments.
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
    step = facts.source(facts.stripped(flat.outputs[0], {*MOVES, "slice", "copy"})) if len(flat.outputs) == 1 else None
    if step is None:
        return None
    if step.name == "logistic" or _is_logistic(facts, step):
        return "sigmoid"
    return "softmax" if _is_softmax(facts, step) else None


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
