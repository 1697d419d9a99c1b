"""Every fact about JAX's internals that the engine rests on; no other file reads `jax.extend` or an equation's fields.

Written for the two shapes these take: JAX 0.10 (`Jaxpr` and `ClosedJaxpr`) and JAX 0.12 (one class, and other
parameters of `scan`). Primitives are matched by name. The tests of this file fail where a new JAX changes a fact.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.ad_checkpoint
import jax.numpy as jnp
import jaxlib.version
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend import core
from jax.interpreters import ad, batching, mlir

Equation = Any
"""One equation of a program: `primitive`, `params`, `invars`, `outvars`."""

Variable = Any
"""A variable of a program, compared by identity."""

checkpoint_name = jax.ad_checkpoint.checkpoint_name

trace_context = jax.make_user_context(default_value=None)
"""Part of the key of JAX's caches of traces: a context manager, called with a hashable value.

Without it a trace of one function object is reused where a differently tagged one is meant, silently.
"""

attention_context = jax.make_user_context(default_value=None)
"""By what attentions are computed, part of the same key: a name, or None for what suits the platform."""

INLINED_CALLS = ("closed_call", "core_call", "jit", "pjit")
"""Calls that mean their body and nothing else."""

CUSTOM_DERIVATIVES = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")
"""Calls with a derivative of their own."""

REMATERIALIZED = ("remat2", "remat", "checkpoint")

CONVOLVES_ON_ONE_CORE = jaxlib.version.__version_info__ < (0, 12)
"""Whether XLA's CPU backend computes convolutions with few output features on one core."""


class Program(NamedTuple):
    """A traced function: variables, equations, and the values of its constants."""

    jaxpr: Any
    constants: list[Any]

    @property
    def equations(self) -> Sequence[Equation]:
        """The equations, in the order in which they were traced."""
        return self.jaxpr.eqns

    @property
    def inputs(self) -> list[Variable]:
        """Variables that receive constants and arguments, in this order."""
        return [*self.jaxpr.constvars, *self.jaxpr.invars]

    @property
    def outputs(self) -> Sequence[Variable]:
        """Variables (or literals) that are returned."""
        return self.jaxpr.outvars


def open_program(closed: Any) -> Program:
    """Take a closed or an open program apart."""
    if hasattr(closed, "consts"):
        return Program(getattr(closed, "jaxpr", closed), list(closed.consts))
    return Program(closed, [])


def trace(f: Callable[..., Any], *args: Any) -> tuple[Program, Any]:
    """Trace `f`: its program over the flattened arguments, and the structure of its output."""
    closed, shapes = jax.make_jaxpr(f, return_shape=True)(*args)
    return open_program(closed), jax.tree.structure(shapes)


def is_program(value: Any) -> bool:
    """Whether a parameter of an equation is a program."""
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


def subprograms(equation: Equation) -> list[Program]:
    """The programs in an equation's parameters, in a fixed order."""
    found: list[Program] = []
    for name in sorted(equation.params):
        value = equation.params[name]
        for part in value if isinstance(value, tuple | list) else (value,):
            if is_program(part):
                found.append(open_program(part))
    return found


def is_plain(program: Program) -> bool:
    """Whether all inputs of a program are arrays, none a reference or a token."""
    return all(type(variable.aval) is jax.core.ShapedArray for variable in program.inputs)


def with_subprograms(equation: Equation, change: Callable[[Any], Any]) -> Equation:
    """The equation with each program in its parameters, open or closed as it is there, changed."""

    def changed(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return type(value)(changed(part) for part in value) if any(map(is_program, value)) else value
        return change(value) if is_program(value) else value

    return equation.replace(params={name: changed(value) for name, value in equation.params.items()})


def retraced(closed: Any, evaluate: Callable[[list[Any]], list[Any]]) -> Any:
    """The program of `evaluate` over the inputs of another, as open or closed as the other."""
    avals = [variable.aval for variable in closed.jaxpr.invars] if hasattr(closed, "consts") else closed.in_avals
    again = jax.make_jaxpr(lambda *args: evaluate(list(args)))(*avals)
    if hasattr(closed, "consts"):
        return again
    assert not again.consts, "an open program has no place for constants"
    return again.jaxpr


def known_parameters(equation: Equation, names: Collection[str]) -> bool:
    """Whether an equation has these parameters, and no other that says something."""
    return all(value is None or name in names for name, value in equation.params.items()) and all(
        name in equation.params for name in names
    )


def is_literal(atom: Any) -> bool:
    """Whether an operand is a number written into the program."""
    return isinstance(atom, core.Literal)


def literal_value(atom: Any) -> Any:
    """The number of a literal."""
    return atom.val


def variables(atoms: Sequence[Any]) -> Iterator[Variable]:
    """The operands that are variables."""
    return (atom for atom in atoms if not isinstance(atom, core.Literal))


def scope(equation: Equation) -> str:
    """The name stack of an equation: scopes, and the transformations around them, joined by slashes."""
    return str(equation.source_info.name_stack)


def under_scope(equation: Equation) -> contextlib.AbstractContextManager[Any]:
    """Enter the scopes of an equation that is built anew, so that what it holds keeps its place in the name stack."""
    name = scope(equation)
    return jax.named_scope(name) if name else contextlib.nullcontext()


def has_effects(equation: Equation) -> bool:
    """Whether an equation does more than compute its outputs (prints, callbacks)."""
    return bool(equation.effects)


def on_host(equation: Equation) -> bool:
    """Whether an equation, or one of the programs in its parameters, calls a function on the host for its value."""
    inner = (one for program in subprograms(equation) for one in program.equations)
    return equation.primitive.name in ("pure_callback", "io_callback") or any(map(on_host, inner))


def shape_of(atom: Any) -> tuple[int, ...]:
    """The shape of an operand; () for what has none (tokens, abstract references)."""
    return tuple(getattr(atom.aval, "shape", ()))


def dtype_of(atom: Any) -> Any:
    """The dtype of an operand, or None for what has none."""
    return getattr(atom.aval, "dtype", None)


def segment(
    program: Program, equations: Sequence[Equation], inputs: Sequence[Variable], outputs: Sequence[Variable]
) -> Any:
    """An open program of some of the equations of another."""
    names = program.jaxpr.debug_info.with_unknown_names()
    return core.Jaxpr([], list(inputs), list(outputs), list(equations), debug_info=names)


def evaluate(jaxpr: Any, constants: Sequence[Any], args: Sequence[Any]) -> list[Any]:
    """Run an open program, equation by equation where it is eager."""
    return list(jax.core.eval_jaxpr(jaxpr, list(constants), *args))


def evaluate_equation(program: Program, equation: Equation, values: Sequence[Any]) -> list[Any]:
    """Run one equation on the values of its operands; its context and name stack are kept."""
    used: dict[Variable, Any] = {}
    operands = []
    for atom, value in zip(equation.invars, values, strict=True):
        if is_literal(atom) and value is not literal_value(atom):
            atom = core.Var(atom.aval)  # another value takes the place of the literal
        operands.append(atom)
        if not is_literal(atom):
            used[atom] = value
    part = segment(program, [equation.replace(invars=operands)], list(used), equation.outvars)
    return evaluate(part, [], list(used.values()))


def with_parameters(equation: Equation, **changes: Any) -> Equation:
    """The equation with some of its parameters changed."""
    return equation.replace(params={**equation.params, **changes})


def bind(equation: Equation, values: Sequence[Any]) -> list[Any]:
    """Run an equation that holds no program on other operands, in the place of literals too."""
    results = equation.primitive.bind(*values, **equation.params)
    return list(results) if equation.primitive.multiple_results else [results]


class Loop(NamedTuple):
    """A `scan`: how its operands divide, and how it runs."""

    body: Program
    constants: list[Any]
    carry: list[Any]
    items: list[Any]
    settings: dict[str, Any]


def kinds_of(leaves: Sequence[Any]) -> list[Any]:
    """What describes each leaf's shape and dtype: of an array one object, the same at each call with that array.

    Of a Python number also that it is one, whose dtype gives way to that of what it meets.
    """
    try:
        return list(map(_AVAL, leaves))
    except AttributeError:  # some are of NumPy, or Python's numbers
        pass
    return [getattr(leaf, "aval", None) or (type(leaf), jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]


_AVAL = operator.attrgetter("aval")


def loop_parts(equation: Equation, operands: Sequence[Any]) -> Loop:
    """Take a `scan` apart; `operands` are its operands, or values in their place."""
    params = equation.params
    if "num_consts" in params:
        first, last = params["num_consts"], params["num_consts"] + params["num_carry"]
        parts = operands[:first], operands[first:last], operands[last:]
    else:
        parts = params["ft_in"].update(list(operands)).unpack()
    constants, carry, items = (list(part) for part in parts)
    settings = {name: params[name] for name in ("length", "reverse", "unroll")}
    return Loop(open_program(params["jaxpr"]), constants, carry, items, settings)


def while_parts(
    equation: Equation, operands: Sequence[Any]
) -> tuple[Program, list[Any], Program, list[Any], list[Any]]:
    """Take a `while` apart: (condition, its constants, body, its constants, carry)."""
    params = equation.params
    first = params["cond_nconsts"]
    last = first + params["body_nconsts"]
    condition, body = open_program(params["cond_jaxpr"]), open_program(params["body_jaxpr"])
    return condition, list(operands[:first]), body, list(operands[first:last]), list(operands[last:])


def inner_operands(equation: Equation, position: int) -> list[Any]:
    """The operands that the inputs of an equation's inner program (by its place in `subprograms`) receive."""
    operands = list(equation.invars)
    if equation.primitive.name == "while":
        _, first, _, second, carry = while_parts(equation, operands)
        return [*(second if position == 0 else first), *carry]  # in the order of names, the body comes first
    return operands[1:] if equation.primitive.name == "cond" else operands


def apart(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` as a call that the compiler leaves one: what is computed before and after it is not merged into it.

    A barrier does not do this: XLA's CPU backend drops barriers before it merges loops over elements. Write `f` without
    jitted functions (`jnp.where` is one), since under `vmap` these would stay calls, too.
    """
    call = jax.jit(f)

    def marked(*args: Any) -> Any:
        with set_xla_metadata(inlineable="false"):
            return call(*args)

    return marked


def jitted_like(equation: Equation, f: Callable[..., Any]) -> Callable[..., Any]:
    """Compile `f` under the name of the `jit` that the equation is."""

    def call(*args: Any) -> Any:
        return f(*args)

    call.__name__ = str(equation.params.get("name", "call"))
    return jax.jit(call)


def rematerialized_like(equation: Equation, f: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap `f` in the `jax.checkpoint` that the equation is."""
    params = equation.params
    return jax.checkpoint(f, policy=params["policy"], prevent_cse=params["prevent_cse"])


def primitive(
    name: str, compute: Callable[..., Any], plain: Callable[..., Any], batch: Callable[..., Any]
) -> Callable[..., list[Any]]:
    """A new operation, whose derivative is that of another function: no transformation can take the rule from it.

    Rules of `custom_jvp` and `custom_vmap` are dropped where JAX evaluates a part of a rematerialised program, which
    may be differentiated again.

    Args:
        name: Its name in programs.
        compute: What is compiled: arrays and static settings (by keyword, hashable) to a tuple of arrays.
        plain: The same as a function that JAX can differentiate.
        batch: `(size, batched, *arrays, **settings) -> tuple`, for `vmap`: the arrays of which `batched` says so have a
            leading axis of `size`, as the results have.

    Returns:
        The operation, called as `compute` is.
    """
    operation = core.Primitive(name)
    operation.multiple_results = True

    @functools.lru_cache(maxsize=256)
    def traced(kinds: tuple[Any, ...], settings: tuple[tuple[str, Any], ...]) -> Any:
        shapes = [jax.ShapeDtypeStruct(*kind) for kind in kinds]
        return jax.make_jaxpr(lambda *args: tuple(compute(*args, **dict(settings))))(*shapes)

    def call(*args: Any, **settings: Any) -> list[Any]:
        # As a parameter, in which JAX looks for operations that it has to know the devices for (cuDNN's).
        program = traced(tuple((jnp.shape(a), jnp.result_type(a)) for a in args), tuple(sorted(settings.items())))
        return list(operation.bind(*args, program=program, **settings))

    def run(*args: Any, program: Any, **_: Any) -> list[Any]:
        return list(jax.core.eval_jaxpr(program.jaxpr, program.consts, *args))

    def shapes(*_: Any, program: Any, **__: Any) -> list[Any]:
        return [jax.core.ShapedArray(out.shape, out.dtype) for out in program.out_avals]

    def derivative(primals: Sequence[Any], tangents: Sequence[Any], *, program: Any, **settings: Any) -> Any:
        moved = [place for place, tangent in enumerate(tangents) if type(tangent) is not ad.Zero]

        def of(*values: Any) -> Any:
            given = dict(zip(moved, values, strict=True))
            return tuple(plain(*(given.get(place, value) for place, value in enumerate(primals)), **settings))

        _, found = jax.jvp(of, tuple(primals[place] for place in moved), tuple(tangents[place] for place in moved))
        return call(*primals, **settings), list(found)

    def batched(args: Sequence[Any], axes: Sequence[Any], *, program: Any, **settings: Any) -> Any:
        mapped = [axis is not None for axis in axes]
        size = next(arg.shape[axis] for arg, axis, one in zip(args, axes, mapped, strict=True) if one)
        first = [jnp.moveaxis(a, axis, 0) if one else a for a, axis, one in zip(args, axes, mapped, strict=True)]
        found = batch(size, mapped, *first, **settings)
        return list(found), [0] * len(found)

    operation.def_impl(run)
    operation.def_abstract_eval(shapes)
    ad.primitive_jvps[operation] = derivative
    batching.primitive_batchers[operation] = batched
    mlir.register_lowering(operation, mlir.lower_fun(run, multiple_results=True))
    return call
