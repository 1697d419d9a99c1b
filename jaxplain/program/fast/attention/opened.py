"""A traced program as steps between values, with the calls that mean their body opened, and closed again.

An attention lies in several of them (`jnp.where` and `jnp.einsum` are calls), so what is looked for crosses them. What
is changed in the end opens only the calls that hold a part of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxplain.program.trace import (
    INLINED_CALLS,
    Equation,
    Program,
    Variable,
    dtype_of,
    evaluate_equation,
    has_effects,
    is_literal,
    literal_value,
    live_equations,
    scope,
    shape_of,
    subprograms,
)

LARGEST_CONSTANT = 2**22
"""The most elements of a value that is computed while tracing, to see what it is."""


class Value:
    """A value of a program, compared by identity; `known` is its array where that is written into the program."""

    __slots__ = ("dtype", "known", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any, known: Any = None) -> None:
        self.shape, self.dtype, self.known = shape, dtype, known


class Step:
    """An equation between values. `body` holds the steps of a call that means its body, `way` the calls around it."""

    __slots__ = ("body", "equation", "operands", "program", "results", "way")

    def __init__(self, program: Program, equation: Equation, operands: list[Value], way: tuple[Step, ...]) -> None:
        self.program, self.equation, self.operands, self.way = program, equation, operands, way
        self.results: list[Value] = []
        self.body: list[Step] | None = None

    @property
    def name(self) -> str:
        """The name of the operation."""
        return str(self.equation.primitive.name)

    @property
    def stack(self) -> str:
        """The name stack, from the outermost call on."""
        return "/".join(scope(step.equation) for step in (*self.way, self))

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the operation."""
        return dict(self.equation.params)

    def evaluate(self, values: dict[Value, Any], equation: Equation = None) -> None:
        """Compute the results from the operands, both in `values`, by another equation if one is given."""
        operands = [values.get(value, value.known) for value in self.operands]
        results = evaluate_equation(self.program, equation or self.equation, operands)
        values.update(zip(self.results, results, strict=True))


class Opened:
    """A program with its calls opened.

    Attributes:
        inputs: The values of its arguments. outputs: those that it returns.
        steps: Every equation that is no opened call, in order.
        producer: The place in `steps` of what makes a value. users: the places of what takes it.
        returned: The values that the program returns.
    """

    def __init__(self, program: Program) -> None:
        self.program, self.steps = program, list[Step]()
        self.inputs = [Value(shape_of(v), dtype_of(v)) for v in program.jaxpr.invars]
        self.constants: list[tuple[Value, Any]] = []
        self.body, self.outputs = self._add(program, self.inputs, ())
        self.producer = {value: place for place, step in enumerate(self.steps) for value in step.results}
        self.returned = set(self.outputs)
        self.users: dict[Value, list[int]] = {}
        for place, step in enumerate(self.steps):
            for value in step.operands:
                self.users.setdefault(value, []).append(place)
        self._fixed = set[Value]()  # no argument has a part in them
        for step in self.steps:
            plain = not subprograms(step.equation) and not has_effects(step.equation)
            if plain and all(value.known is not None or value in self._fixed for value in step.operands):
                self._fixed.update(step.results)
        self._arrays: dict[Value, np.ndarray | None] = {}

    def source(self, value: Value) -> Step | None:
        """The step that makes a value; None for inputs, constants and literals."""
        place = self.producer.get(value)
        return None if place is None else self.steps[place]

    def closed(self, opened: Collection[Step], body: Sequence[Step] | None = None) -> Iterator[Step]:
        """The steps in order, with every call as one step but for those of `opened`."""
        for step in self.body if body is None else body:
            if step.body is not None and step in opened:
                yield from self.closed(opened, step.body)
            else:
                yield step

    def array(self, value: Value) -> np.ndarray | None:
        """A value that no argument has a part in; None for others, and where it is large or cannot be computed."""
        if value not in self._arrays:
            self._arrays[value] = None
            fixed = value.known is not None or value in self._fixed
            known = self._computed(value) if fixed and _size(value) <= LARGEST_CONSTANT else None
            self._arrays[value] = None if known is None else np.asarray(known)
        return self._arrays[value]

    def _computed(self, value: Value) -> Any:
        if value.known is not None:
            return value.known
        step = self.source(value)
        if step is None:
            return None
        operands = [self.array(operand) for operand in step.operands]
        if any(operand is None for operand in operands):
            return None
        # On the host where there is one: a device would wait for each of these.
        with jax.ensure_compile_time_eval(), _on_host():
            values: dict[Value, Any] = dict(zip(step.operands, operands, strict=True))
            step.evaluate(values)
            result = values[value]
        return None if isinstance(result, jax.core.Tracer) else result

    def _add(
        self, program: Program, arguments: Sequence[Value], way: tuple[Step, ...]
    ) -> tuple[list[Step], list[Value]]:
        env: dict[Variable, Value] = dict(zip(program.jaxpr.invars, arguments, strict=True))
        for variable, constant in zip(program.jaxpr.constvars, program.constants, strict=True):
            known = None if isinstance(constant, jax.core.Tracer) else constant
            env[variable] = Value(shape_of(variable), dtype_of(variable), known)
            self.constants.append((env[variable], constant))

        def read(atom: Any) -> Value:
            if not is_literal(atom):
                return env[atom]
            return Value(shape_of(atom), dtype_of(atom), literal_value(atom))

        body, live = list[Step](), live_equations(program)
        for index, equation in enumerate(program.equations):
            if index not in live:
                continue
            step = Step(program, equation, [read(atom) for atom in equation.invars], way)
            if equation.primitive.name in INLINED_CALLS and not has_effects(equation):
                inner = subprograms(equation)[0]
                step.body, step.results = self._add(inner, step.operands, (*way, step))
            else:
                step.results = [Value(shape_of(v), dtype_of(v)) for v in equation.outvars]
                self.steps.append(step)
            body.append(step)
            env.update(zip(equation.outvars, step.results, strict=True))
        return body, [read(atom) for atom in program.outputs]


def _size(value: Value) -> int:
    return int(np.prod(value.shape, dtype=np.int64))


def _on_host() -> contextlib.AbstractContextManager[Any]:
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # JAX_PLATFORMS names no CPU
        return contextlib.nullcontext()
