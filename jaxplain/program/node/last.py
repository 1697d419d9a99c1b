"""What a function does last: whether it returns probabilities, which a score would make probabilities of again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxplain.program.node.facts import MOVES, Facts, learn
from jaxplain.program.node.flat import Step, flatten
from jaxplain.program.node.regions import softmax_of
from jaxplain.program.trace import trace


def ends_in(f: Callable[..., Any], *args: Any) -> str | None:
    """The word for what makes a function's one output: 'softmax', 'sigmoid', or None.

    Args:
        f: Anything that can be traced; of what cannot, None is known.
        args: Arrays, or their shapes.

    Returns:
        What the last operation is, whatever moves (reshapes, casts, picked rows) follow it. Cost: one trace.
    """
    try:
        program, _ = trace(f, *args)
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
