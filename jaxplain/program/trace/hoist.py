"""Runs a function around foreign code with the arrays that the code holds as arguments of the compiled program.

A closure over parameters is code to JAX: under `jit` the parameters become constants, which are written into the
program, folded by the compiler and kept for ever. Here the function is traced, the constants of the traced program and
of the programs inside it are taken out, and the rest is compiled with them as arguments.
"""

from __future__ import annotations

import functools
import types
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain.program.function import Static, is_array, kept
from jaxplain.program.trace.compat import (
    INLINED_CALLS,
    REMATERIALIZED,
    Equation,
    Program,
    Variable,
    evaluate_equation,
    is_literal,
    jitted_like,
    literal_value,
    loop_parts,
    open_program,
    rematerialized_like,
    subprograms,
    under_scope,
    while_parts,
)

SMALL = 256
"""Bytes up to which a constant stays in the program."""

LARGE = 2**20
"""Bytes above which a constant that stays is worth a warning."""

KEPT = 32
"""How many traced functions are kept at most; each goes earlier when its code is garbage."""

_REBUILT = (*INLINED_CALLS, *REMATERIALIZED, "scan", "while", "cond")
_LIBRARIES = frozenset(("jax", "jaxlib", "flax", "numpy", "optax", "jaxplain"))
_ATOMS = (str, bytes, int, float, complex, type(None), type, types.ModuleType, types.BuiltinFunctionType, np.dtype)


def holds_foreign_code(f: Any) -> bool:
    """Whether code inside a callable pytree may hold arrays that are no leaves: in closures, globals, attributes.

    Args:
        f: A function, such as an explanation; what is `Static` in it is code.

    Returns:
        False only where every array that the code reaches was found to be a leaf; code of JAX, Flax, NumPy, optax and
        of this library holds none.
    """
    return any(_holds_arrays(code) for code in _codes(f))


def _codes(f: Any) -> list[Any]:
    """What is `Static` in a callable pytree, found once for each `Function`."""

    def found() -> list[Any]:
        nodes = jax.tree.leaves(f, is_leaf=_is_static)
        return [node.value for node in nodes if _is_static(node)]

    return kept(f, "_codes", found)


def _is_static(node: Any) -> bool:
    return isinstance(node, Static)


_KNOWN: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


def _holds_arrays(code: Any) -> bool:
    if not isinstance(code, types.FunctionType):
        return _reaches_arrays(code)
    if code not in _KNOWN:
        _KNOWN[code] = _reaches_arrays(code)
    return _KNOWN[code]


def _reaches_arrays(value: Any) -> bool:
    """Whether an array can be reached from a value."""
    seen: dict[int, Any] = {}
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, _ATOMS) or id(value) in seen:
            continue
        if is_array(value):
            return True
        seen[id(value)] = value
        parts = _parts(value)
        if parts is None:
            return True
        waiting.extend(parts)
    return False


def _parts(value: Any) -> Iterable[Any] | None:
    """What a value holds; None where that cannot be known."""
    if str(getattr(value, "__module__", "")).partition(".")[0] in _LIBRARIES and callable(value):
        # Of a wrapper (jit, custom_jvp) of foreign code, the code; of a partial or a module, what it was made with.
        inner = getattr(value, "__wrapped__", None)
        return [inner] if inner is not None else list(getattr(value, "__dict__", {}).values())
    if isinstance(value, types.FunctionType):
        return _function_parts(value)
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        return value
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    attributes = list(getattr(value, "__dict__", {}).values())
    slots = [getattr(value, name) for cls in type(value).__mro__ for name in _slots(cls) if hasattr(value, name)]
    wrapped = [value.__wrapped__] if hasattr(value, "__wrapped__") else []
    return None if callable(value) and not (attributes or slots or wrapped) else [*attributes, *slots, *wrapped]


def _slots(cls: type) -> Iterable[str]:
    slots = cls.__dict__.get("__slots__", ())
    return [name for name in ([slots] if isinstance(slots, str) else slots) if name not in ("__dict__", "__weakref__")]


def _function_parts(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield from vars(function).values()
    for name in _names(function.__code__):
        if name in function.__globals__:
            yield function.__globals__[name]


def _names(code: types.CodeType) -> Iterator[str]:
    """The names that code, and the functions defined in it, may look up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


class _Traced:
    """One function around foreign code: how it is traced, and what was made of each trace."""

    def __init__(self, f: Callable[..., Any]) -> None:
        self.f = f
        self.structure: Any = None  # of the function and its inputs, while it is traced: it keeps the code alive
        self.kept: list[Any] = []
        self.compiled: dict[int, tuple[Any, Callable[..., Any]]] = {}
        self.trace = jax.jit(self._call, static_argnums=0).trace

    def _call(self, _: Any, leaves: list[Any]) -> Any:
        e, inputs = jax.tree.unflatten(self.structure, leaves)
        return self.f(e, *inputs)

    def __call__(self, e: Any, inputs: Any) -> Any:
        leaves, self.structure = jax.tree.flatten((e, inputs))
        try:
            traced = self.trace(jax.tree.structure(inputs), leaves)
        finally:
            self.structure = None
        program = open_program(traced.jaxpr)
        if len(program.jaxpr.invars) != len(leaves):  # the code holds values that are traced, which are arguments then
            return self.f(e, *inputs)
        if id(traced.jaxpr) not in self.compiled:
            self.compiled[id(traced.jaxpr)] = traced.jaxpr, _compiled(program)
        outputs = self.compiled[id(traced.jaxpr)][1](leaves)
        return jax.tree.unflatten(jax.tree.structure(traced.out_info), outputs)


_TRACED: OrderedDict[Any, _Traced] = OrderedDict()


def hoisted(f: Callable[..., Any], e: Any, *inputs: Any) -> Any:
    """Call `f(e, *inputs)` compiled, with the arrays that e's foreign code holds as arguments of the program.

    As under `jit`, a second call with the same code and the same shapes neither traces nor compiles, and arrays that
    the code holds are read once, when it is traced. What was compiled is forgotten when the code is garbage.

    Args:
        f: A function of this library: it holds no arrays.
        e: A callable pytree, its first argument.
        *inputs: Pytrees of arrays.

    Returns:
        What `f` returns. Under a transformation of JAX `f` is called as it is. Warns (`UserWarning`) of a constant
        above 1 MB that could not be taken out.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((e, inputs))):
        return f(e, *inputs)
    codes, key = _codes(e), (f, jax.tree.structure(jax.tree.map(_named, e, is_leaf=_is_static)))
    if key not in _TRACED:
        _TRACED[key] = traced = _Traced(f)
        for code in codes:
            try:
                weakref.finalize(code, _TRACED.pop, key, None).atexit = False
            except TypeError:  # no weak reference to it is possible
                traced.kept.append(code)
        while len(_TRACED) > KEPT:
            _TRACED.popitem(last=False)
    traced = _TRACED[key]
    _TRACED.move_to_end(key)
    return traced(e, inputs)


class Compiled:
    """A function of an explanation and arrays, compiled: with `hoisted` where foreign code needs that, else by `jit`.

    Attributes:
        plain: The function under `jit`, which takes what is a leaf as an argument and nothing else.
    """

    def __init__(self, f: Callable[..., Any]) -> None:
        self.f, self.plain = f, jax.jit(f)

    def __call__(self, e: Any, *inputs: Any) -> Any:
        """Call `f(e, *inputs)`."""
        return hoisted(self.f, e, *inputs) if holds_foreign_code(e) else self.plain(e, *inputs)


def _named(node: Any) -> Any:
    """Code by its identity, which does not keep it alive."""
    return Static(("code", id(node.value))) if _is_static(node) else node


def _compiled(program: Program) -> Callable[[list[Any]], list[Any]]:
    """The program, compiled with its constants as arguments."""
    _warn(program)
    found = {id(value): value for value in _constants(program, _REBUILT) if _size(value) > SMALL}
    constants = dict(zip(found, map(jnp.asarray, found.values()), strict=True))

    @jax.jit
    def call(values: list[Any], leaves: list[Any]) -> list[Any]:
        return _run(program, dict(zip(constants, values, strict=True)), leaves)

    return lambda leaves: call(list(constants.values()), leaves)


def _size(value: Any) -> int:
    return value.size * value.dtype.itemsize


def _constants(program: Program, entered: Collection[str] | None) -> Iterator[Any]:
    """The arrays in a program and in the programs inside those equations (all equations, if None)."""
    atoms = [*(atom for equation in program.equations for atom in equation.invars), *program.outputs]
    literals = (literal_value(atom) for atom in atoms if is_literal(atom))
    yield from (value for value in (*program.constants, *literals) if is_array(value))
    for equation in program.equations:
        if entered is None or equation.primitive.name in entered:
            for inner in subprograms(equation):
                yield from _constants(inner, entered)


def _warn(program: Program) -> None:
    """Warn of a large constant in a program that is not rebuilt."""
    for equation in program.equations:
        name, inner = equation.primitive.name, subprograms(equation)
        for part in inner:
            if name in _REBUILT:
                _warn(part)
                continue
            for value in _constants(part, None):
                if _size(value) > LARGE:
                    warnings.warn(_LEFT.format(value.shape, _size(value) / LARGE, name), UserWarning, stacklevel=2)


_LEFT = (
    "An array of shape {} ({:.1f} MB), held by the code of the explained function inside `{}`, stays a constant of the "
    "compiled program. Make it an argument of that function, and pass parameters to the score, as in "
    "`jaxplain.logit(apply, params)`, rather than closing over them."
)


def _run(program: Program, hoisted: dict[int, Any], arguments: Sequence[Any]) -> list[Any]:
    """Evaluate a program with the values that take its constants' places, by the constants' ids."""
    given = [hoisted.get(id(value), value) for value in program.constants]
    values: dict[Variable, Any] = dict(zip(program.inputs, [*given, *arguments], strict=True))

    def read(atom: Any) -> Any:
        if not is_literal(atom):
            return values[atom]
        return hoisted.get(id(literal_value(atom)), literal_value(atom))

    for equation in program.equations:
        operands = [read(atom) for atom in equation.invars]
        if _holds(equation, hoisted):
            with under_scope(equation):
                results = _rebuilt(equation, operands, hoisted)
        else:
            results = evaluate_equation(program, equation, operands)
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in program.outputs]


def _holds(equation: Equation, hoisted: dict[int, Any]) -> bool:
    """Whether a hoisted constant lies in a program inside an equation."""
    if equation.primitive.name not in _REBUILT:
        return False
    return any(id(value) in hoisted for inner in subprograms(equation) for value in _constants(inner, _REBUILT))


def _rebuilt(equation: Equation, operands: list[Any], hoisted: dict[int, Any]) -> list[Any]:
    """Evaluate an equation with the programs inside it closing over the hoisted values, which makes them operands."""
    name, inner = equation.primitive.name, subprograms(equation)

    def run(program: Program, *values: Any) -> list[Any]:
        return _run(program, hoisted, values)

    if name == "scan":
        loop = loop_parts(equation, operands)
        count = len(loop.carry)

        def body(carry: list[Any], items: list[Any]) -> tuple[list[Any], list[Any]]:
            results = run(loop.body, *loop.constants, *carry, *items)
            return results[:count], results[count:]

        carry, stacked = lax.scan(body, loop.carry, loop.items, **loop.settings)
        return [*carry, *stacked]
    if name == "while":
        condition, first, body_, second, state = while_parts(equation, operands)
        return list(lax.while_loop(lambda s: run(condition, *first, *s)[0], lambda s: run(body_, *second, *s), state))
    if name == "cond":
        return list(lax.switch(operands[0], [functools.partial(run, branch) for branch in inner], *operands[1:]))
    whole = functools.partial(run, inner[0])
    if name in REMATERIALIZED:
        return rematerialized_like(equation, whole)(*operands)
    return jitted_like(equation, whole)(*operands)
