"""Rewrites the attentions of a traced program into one fused operation each, and lists what was rewritten and what not.

On a GPU a score's attention runs through cuDNN, in bfloat16 and float16, where nobody else reads its weights. Where
that is not known to be the same, it stays as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxplain.program.fast.attention.kernel import CUDNN, WRITTEN, Implementation, missing
from jaxplain.program.fast.attention.opened import Opened, Step, Value
from jaxplain.program.fast.attention.recognise import Attention, attentions
from jaxplain.program.fast.attention.region import Region, differentiable, forwards
from jaxplain.program.fast.attention.trial import trial
from jaxplain.program.trace import (
    REMATERIALIZED,
    Program,
    attention_context,
    evaluate,
    is_plain,
    open_program,
    retraced,
    state,
    subprograms,
    trace,
    with_subprograms,
)

DESCENDED = (*REMATERIALIZED, "scan", "while", "cond")
"""Calls whose programs are rewritten apart. Custom derivatives are not: what they compute has one of its own."""

_NAMED = {"xla": WRITTEN, "cudnn": CUDNN}


class Row(NamedTuple):
    """An attention of a program: the name stack of its last product, its sizes, and why it stays, if it does."""

    stack: str
    sizes: dict[str, int] | None
    dtype: str
    reason: str | None


def implementation(platform: str) -> Implementation | None:
    """Who computes attentions on a platform; None where they stay as they are.

    `attention_context("xla")` lets them be computed by the written-out form on any platform, `attention_context("off")`
    by nothing.
    """
    named = attention_context.value
    if named is not None:
        return _NAMED.get(named)
    return CUDNN if platform in ("gpu", "cuda") else None


def rewritten(program: Program, how: Implementation, gradient: bool) -> Callable[..., list[Any]]:
    """The program as a function of its arguments, with its attentions fused.

    Args:
        program: What was traced.
        how: Who computes them.
        gradient: Whether its first derivative is to be fused too. It may then be taken in reverse mode only; what it
            gives may be differentiated in any. Else every derivative is that of the program as it is written.
    """
    plan = _Plan(program, how, gradient, {})
    if not plan.changes:
        return lambda *arguments: evaluate(program.jaxpr, program.constants, arguments)
    return lambda *arguments: plan.run(arguments)


def with_fused_attention(f: Callable[..., Any], platform: str) -> Callable[..., Any]:
    """`f` of pytrees of arrays with its attentions fused, and their gradient, for `jax.grad` to be taken at once."""
    how = implementation(platform)
    if how is None or state.tagging:  # who looks for layers sees the program as it is
        return f

    def call(*args: Any) -> Any:
        program, structure = trace(f, *args)
        return jax.tree.unflatten(structure, rewritten(program, how, gradient=True)(*jax.tree.leaves(args)))

    return call


def listed(program: Program, how: Implementation, here: bool, outer: str = "") -> Iterator[Row]:
    """The attentions of a program and of the loops in it, in order.

    Args:
        program: What was traced.
        how: Who would compute them.
        here: Whether that would be on this machine, which is asked then; else shapes and dtypes decide.
        outer: The name stack around the program.
    """
    opened = Opened(program)
    found = {id(a.last): a for a in attentions(opened)}
    for step in opened.steps:
        if id(step) in found:
            attention = found[id(step)]
            dtype = str(step.results[0].dtype)
            if isinstance(attention, Attention):
                region = Region(opened, attention)
                reason = _refused(region, how) or (_prevented(region, how) if here else None)
                yield Row(f"{outer}/{step.stack}", attention.sizes(), dtype, reason)
            else:
                yield Row(f"{outer}/{step.stack}", None, dtype, attention.reason)
        elif step.name in DESCENDED:
            for inner in subprograms(step.equation):
                yield from listed(inner, how, here, f"{outer}/{step.stack}")


def _refused(region: Region, how: Implementation) -> str | None:
    """Why shapes and dtypes forbid a rewriting."""
    found = region.attention
    dtype = found.query.value.dtype
    if found.bias is not None and jnp.promote_types(found.bias.value.dtype, dtype) != dtype:
        return f"its bias has more digits ({found.bias.value.dtype}) than its queries ({dtype})"
    return how.refuses(region.form, found.sizes(), dtype)


class _Plan:
    """What is rewritten in a program and in the programs inside it."""

    def __init__(self, program: Program, how: Implementation, gradient: bool, done: dict[int, Any]) -> None:
        self.opened = opened = Opened(program)
        self.regions: dict[Step, Callable[..., Any]] = {}
        self.inputs: dict[Step, list[Value]] = {}
        self.absorbed: set[Step] = set()
        self.inner: dict[Step, Any] = {}
        touched = list[Step]()
        for found in attentions(opened):
            region = Region(opened, found) if isinstance(found, Attention) else None
            if region is None or not _accepted(region, how):
                continue
            self.regions[found.last] = (differentiable if gradient else forwards)(region, how)
            self.inputs[found.last] = region.inputs
            steps = [opened.steps[place] for place in region.attention.places]
            self.absorbed.update(steps)
            touched += [*steps, *filter(None, map(opened.source, region.inputs))]
        for step in opened.steps:
            if step.name in DESCENDED and all(is_plain(inner) for inner in subprograms(step.equation)):
                changed = with_subprograms(
                    step.equation, functools.partial(_changed, how=how, gradient=gradient, done=done)
                )
                if any(a is not b for a, b in zip(_parts(changed), _parts(step.equation), strict=True)):
                    self.inner[step] = changed
                    touched.append(step)
        self.calls = {call for step in touched for call in step.way}

    @property
    def changes(self) -> bool:
        """Whether anything is rewritten."""
        return bool(self.regions or self.inner)

    def run(self, arguments: Sequence[Any]) -> list[Any]:
        """Evaluate the program."""
        opened = self.opened
        values: dict[Value, Any] = dict(zip(opened.inputs, arguments, strict=True))
        values.update(opened.constants)
        for step in opened.closed(self.calls):
            if step in self.regions:
                inputs = [jnp.asarray(values.get(value, value.known)) for value in self.inputs[step]]
                values[step.results[0]] = self.regions[step](*inputs)
            elif step in self.inner:
                step.evaluate(values, self.inner[step])
            elif step not in self.absorbed:
                step.evaluate(values)
        return [values.get(value, value.known) for value in opened.outputs]


def _parts(equation: Any) -> list[Any]:
    """The programs in an equation, as they are there."""
    return [program.jaxpr for program in subprograms(equation)]


def _changed(closed: Any, how: Implementation, gradient: bool, done: dict[int, Any]) -> Any:
    """A program inside an equation with its attentions fused; the same object where it has none."""
    if id(closed) not in done:
        plan = _Plan(open_program(closed), how, gradient, done)
        # The old program is kept beside the new one, so that its id is not given to another.
        done[id(closed)] = closed, retraced(closed, plan.run) if plan.changes else closed
    return done[id(closed)][1]


def _accepted(region: Region, how: Implementation) -> bool:
    """Whether an attention is rewritten: its shapes fit, JAX can call who computes it, and a trial agrees."""
    return _refused(region, how) is None and _prevented(region, how) is None


def _prevented(region: Region, how: Implementation) -> str | None:
    """Why an attention whose shapes fit is left as it is on this machine."""
    reason = missing(region.form, region.kinds) if how is CUDNN else None
    return trial(region, how) if reason is None else reason
