"""One flat list of equations for a traced function: calls that mean their body are opened, dead equations dropped.

Nothing is traced again. An equation becomes a `Step` between `Value`s, since the inner program of a call that is made
twice has one set of variables but two sets of values. bfloat16 and float16 become float32: relevance needs the digits,
so what is pulled back is the same network computed more widely.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxplain.program.node.probe import is_elementwise, name_of_pair
from jaxplain.program.trace import (
    CUSTOM_DERIVATIVES,
    INLINED_CALLS,
    REMATERIALIZED,
    Equation,
    Program,
    Route,
    Variable,
    dtype_of,
    evaluate_equation,
    is_literal,
    literal_value,
    live_equations,
    owner_path,
    scope,
    scopes,
    shape_of,
    subprograms,
    variables,
    with_parameters,
)

CONTROL = ("scan", "cond", "while")


class Value:
    """A value of a flat program, compared by identity; `number` is set where it is a literal."""

    __slots__ = ("dtype", "number", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any, number: Any = None) -> None:
        self.shape: tuple[int, ...] = shape
        self.dtype: Any = wide(dtype)
        self.number: Any = number

    @property
    def is_floating(self) -> bool:
        """Whether relevance can flow through it."""
        return self.dtype is not None and bool(jnp.issubdtype(self.dtype, jnp.floating))

    @property
    def is_complex(self) -> bool:
        """Whether it holds complex numbers, through which relevance cannot flow."""
        return self.dtype is not None and bool(jnp.issubdtype(self.dtype, jnp.complexfloating))


class Step:
    """One equation between values; `path` is the module or scope that it belongs to, `route` its place as a site's."""

    __slots__ = ("_program", "equation", "operands", "path", "results", "route")

    def __init__(
        self,
        program: Program,
        equation: Equation,
        operands: list[Value],
        results: list[Value],
        path: str,
        route: Route = (),
    ) -> None:
        self._program = program
        self.equation: Equation = _widened(equation)
        self.operands: list[Value] = operands
        self.results: list[Value] = results
        self.path: str = path
        self.route: Route = route

    @property
    def name(self) -> str:
        """The name of the operation."""
        return str(self.equation.primitive.name)

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the operation."""
        return dict(self.equation.params)

    def evaluate(self, operands: Sequence[Any]) -> list[Any]:
        """The results of the operation for values of its operands."""
        atoms = self.equation.invars
        if subprograms(self.equation):  # an inner program has its dtypes written into it
            operands = [_cast(value, dtype_of(atom)) for value, atom in zip(operands, atoms, strict=True)]
        results = evaluate_equation(self._program, self.equation, operands)
        return [_cast(result, value.dtype) for result, value in zip(results, self.results, strict=True)]


class Flat(NamedTuple):
    """A flat program: the values of its inputs, constants and outputs, and the steps between them."""

    inputs: list[Value]
    constants: list[tuple[Value, Any]]
    steps: list[Step]
    outputs: list[Value]


def wide(dtype: Any) -> Any:
    """float32 for a narrower floating-point dtype, other dtypes as they are."""
    return np.dtype(np.float32) if dtype in (jnp.bfloat16, jnp.float16) else dtype


def widened(value: Any) -> Any:
    """A value in the dtype that the flat program has for it."""
    return _cast(value, wide(jnp.result_type(value)))


def _cast(value: Any, dtype: Any) -> Any:
    narrow = (jnp.bfloat16, jnp.float16)
    if dtype is None or jnp.result_type(value) == dtype:
        return value
    return jnp.asarray(value).astype(dtype) if jnp.result_type(value) in narrow or dtype in narrow else value


def _widened(equation: Equation) -> Equation:
    names = ("new_dtype", "preferred_element_type", "dtype")
    changes = {name: wide(equation.params[name]) for name in names if name in equation.params}
    changes = {name: dtype for name, dtype in changes.items() if dtype is not equation.params[name]}
    return with_parameters(equation, **changes) if changes else equation


def flatten(program: Program, opaque: Callable[[Equation], bool] = lambda equation: False) -> Flat:
    """Open a program's calls.

    `jit`, `remat` and calls with a custom derivative become their bodies; a custom derivative stays closed where its
    body is an elementwise function of one array (`jax.nn.relu`, whose gradient at 0 its body does not have) or where
    `opaque` says so, and so does a call that is a known function of two (`jnp.hypot`). `scan`, `cond` and `while` stay
    closed.
    """
    work = _Flattening(opaque)
    inputs = [Value(shape_of(v), dtype_of(v)) for v in program.jaxpr.invars]
    outputs = work.add(program, inputs, "")
    return Flat(inputs, work.constants, live_steps(work.steps, outputs), outputs)


class _Flattening:
    """What is built up while calls are opened."""

    def __init__(self, opaque: Callable[[Equation], bool]) -> None:
        self.opaque = opaque
        self.constants: list[tuple[Value, Any]] = []
        self.steps: list[Step] = []

    def add(self, program: Program, arguments: Sequence[Value], outer: str, route: Route = ()) -> list[Value]:
        """Append the steps of a program; return its outputs."""
        env: dict[Variable, Value] = {}
        for variable, constant in zip(program.jaxpr.constvars, program.constants, strict=True):
            env[variable] = Value(shape_of(variable), dtype_of(variable))
            self.constants.append((env[variable], constant))
        env.update(zip(program.jaxpr.invars, arguments, strict=True))

        def read(atom: Any) -> Value:
            if not is_literal(atom):
                return env[atom]
            return Value(shape_of(atom), dtype_of(atom), np.asarray(literal_value(atom), wide(dtype_of(atom))))

        live = live_equations(program)
        for index, equation in enumerate(program.equations):
            if index not in live:
                continue
            operands, stack = [read(atom) for atom in equation.invars], f"{outer}/{scope(equation)}"
            if equation.primitive.name == "name":
                results = operands
            elif self._opens(equation):
                results = self.add(subprograms(equation)[0], operands, stack, (*route, index, 0))
            else:
                results = [Value(shape_of(v), dtype_of(v)) for v in equation.outvars]
                self.steps.append(Step(program, equation, operands, results, path_of(stack), (*route, index)))
            env.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in program.outputs]

    def _opens(self, equation: Equation) -> bool:
        name = equation.primitive.name
        if name_of_pair(equation) is not None:
            return False
        if name in INLINED_CALLS or name in REMATERIALIZED:
            return True
        if name not in CUSTOM_DERIVATIVES:
            return False
        one = len({id(v) for v in variables(equation.invars)}) == 1
        return not (one and is_elementwise(equation)) and not self.opaque(equation)


def path_of(stack: str) -> str:
    """The path of the innermost module in a name stack, or the named scopes where there is no module."""
    return owner_path(stack) or "/".join(scopes(stack))


def live_steps(steps: Iterable[Step], outputs: Sequence[Value]) -> list[Step]:
    """The steps that outputs need."""
    wanted, kept = set(outputs), []
    for step in reversed(list(steps)):
        if wanted.intersection(step.results):
            wanted.update(step.operands)
            kept.append(step)
    return kept[::-1]
