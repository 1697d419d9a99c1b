"""Runs a function around foreign code with the arrays that the code holds as arguments of the compiled program.

A closure over parameters is code to JAX: under `jit` the parameters become constants, which are written into the
program, folded by the compiler and kept for ever. Here the function is traced, the constants of the traced program and
of the programs inside it are taken out, and the rest is compiled with them as arguments.
"""

from __future__ import annotations

import functools
import threading
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain.program.function import Static, codes, editions, is_static, kept
from jaxplain.program.reach import is_array
from jaxplain.program.trace.code import holds_foreign_code, holds_passing_code
from jaxplain.program.trace.compat import (
    INLINED_CALLS,
    REMATERIALIZED,
    Equation,
    Program,
    Variable,
    evaluate_equation,
    is_literal,
    jitted_like,
    kinds_of,
    literal_value,
    loop_parts,
    open_program,
    rematerialized_like,
    subprograms,
    under_scope,
    while_parts,
)
from jaxplain.program.trace.digest import array_digest, digest

SMALL = 256
"""Bytes up to which a constant stays in the program."""

LARGE = 2**20
"""Bytes above which a constant that stays is worth a warning."""

KEPT = 1024
"""How many traced functions are kept at most; each goes earlier when its code is garbage."""

SHAPES = 64
"""For how many shapes of one function its compiled call is found without tracing."""

_REBUILT = (*INLINED_CALLS, *REMATERIALIZED, "scan", "while", "cond")


class _Traced:
    """One function around foreign code: how it is traced, and what was made of each trace, of the code's edition."""

    def __init__(self, f: Callable[..., Any]) -> None:
        self.f = f
        self.kept: list[Any] = []
        self.programs: dict[str, _Hoisted] = {}  # by what they compute, whatever their constants are
        self.edition: tuple[int, ...] | None = None

    def of_edition(self, edition: tuple[int, ...]) -> _Traced:
        """This, without what was made of another edition but for the compiled programs, which may serve again."""
        if self.edition != edition:
            self.edition = edition
            self.compiled: dict[int, tuple[Any, Callable[..., Any]]] = {}
            self.known: list[tuple[Any, Any, list[Any], Callable[..., Any], Any]] = []
            # another function each time: of one that it knows JAX finds the earlier trace
            self.trace = jax.jit(lambda structure, leaves: self._call(structure, leaves), static_argnums=0).trace
        return self

    def _call(self, _: Any, leaves: list[Any]) -> Any:
        e, inputs = jax.tree.unflatten(_STRUCTURE.get(), leaves)
        return self.f(e, *inputs)

    def __call__(self, e: Any, inputs: Any, leaves: list[Any]) -> Any:
        # Tracing again, even for what JAX has kept, asks every leaf in Python: with hundreds of them it took longer
        # than the program. What tracing depends on beside shapes (flags, meshes) JAX says by a program of nothing.
        structure, context = jax.tree.structure(inputs), _CONTEXT.trace().jaxpr
        kinds = kinds_of(leaves)
        for entry in self.known:
            if entry[0] is context and entry[1] == structure and entry[2] == kinds:
                return jax.tree.unflatten(entry[4], entry[3](leaves))
        call, results = self._made(e, inputs, leaves)
        if call is None:
            return self.f(e, *inputs)
        self.known = [(context, structure, kinds, call, results), *self.known[: SHAPES - 1]]
        return jax.tree.unflatten(results, call(leaves))

    def lower(self, e: Any, inputs: Any) -> Any:
        """The compiled call of arrays of these shapes, lowered."""
        leaves = jax.tree.leaves((e, inputs))
        call, _ = self._made(e, inputs, leaves)
        return jax.jit(self.f).lower(e, *inputs) if call is None else call.lower(leaves)

    def _made(self, e: Any, inputs: Any, leaves: list[Any]) -> tuple[Any, Any]:
        """What computes the results' leaves from `leaves`, and their structure; None where code holds traced values."""
        traced = self._trace(e, inputs, leaves)
        program = open_program(traced.jaxpr)
        if len(program.jaxpr.invars) != len(leaves):  # the code holds values that are traced, which are arguments then
            return None, None
        if id(traced.jaxpr) not in self.compiled:
            self.compiled[id(traced.jaxpr)] = traced.jaxpr, self._compiled(program)
        return self.compiled[id(traced.jaxpr)][1], jax.tree.structure(traced.out_info)

    def _compiled(self, program: Program) -> _Hoisted:
        """The program, compiled with its constants as arguments: by one of an earlier edition if they are all new."""
        constants = _hoistable(program)
        name = _name_of(program, constants)
        if name is None:
            return _compiled(program, constants)
        if name in self.programs:
            return _Hoisted(self.programs[name].call, list(constants.values()))
        self.programs[name] = _compiled(program, constants)
        if len(self.programs) > SHAPES:
            self.programs.pop(next(iter(self.programs)))
        return self.programs[name]

    def _trace(self, e: Any, inputs: Any, leaves: list[Any]) -> Any:
        kept = _STRUCTURE.set(jax.tree.structure((e, inputs)))
        try:
            return self.trace(jax.tree.structure(inputs), leaves)
        finally:
            _STRUCTURE.reset(kept)


_STRUCTURE: ContextVar[Any] = ContextVar("_STRUCTURE", default=None)
"""Of the function and its inputs, while one is traced in this thread: what keeps it keeps the code alive."""

_CONTEXT = jax.jit(lambda: None)
"""Its traced program is another one wherever JAX would trace anew."""


_TRACED: OrderedDict[Any, _Traced] = OrderedDict()
_LOCK = threading.RLock()  # code that is collected in between asks this thread to forget it


def hoisted(f: Callable[..., Any], e: Any, *inputs: Any) -> Any:
    """Call `f(e, *inputs)` compiled, with the arrays that e's foreign code holds as arguments of the program.

    A second call with the same code and the same shapes neither traces nor compiles. Where what the code reaches is
    another than it was (`edition`) it is traced anew, and compiled anew if that is another program; other arrays in the
    places of those that it held are none. What was compiled is forgotten when the code is garbage.

    Args:
        f: A function of this library: it holds no arrays.
        e: A callable pytree, its first argument.
        *inputs: Pytrees of arrays.

    Returns:
        What `f` returns. Under a transformation of JAX `f` is called as it is. Warns (`UserWarning`) of a constant
        above 1 MB that could not be taken out.
    """
    leaves = jax.tree.leaves((e, inputs))
    if any(issubclass(kind, jax.core.Tracer) for kind in set(map(type, leaves))):  # a few kinds of hundreds of leaves
        return f(e, *inputs)
    return _traced(f, e)(e, inputs, leaves)


def _traced(f: Callable[..., Any], e: Any) -> _Traced:
    """What is kept of `f` around the code of an explanation, until that is garbage."""
    named = kept(e, "_named", lambda: jax.tree.structure(jax.tree.map(_named, e, is_leaf=is_static)))
    found, key = codes(e), (f, named)
    with _LOCK:
        if key not in _TRACED:
            _TRACED[key] = traced = _Traced(f)
            for code in found:
                try:
                    weakref.finalize(code, _TRACED.pop, key, None).atexit = False
                except TypeError:  # no weak reference to it is possible
                    traced.kept.append(code)
            while len(_TRACED) > KEPT:
                _TRACED.popitem(last=False)
        _TRACED.move_to_end(key)
        return _TRACED[key].of_edition(editions(e))


class Compiled:
    """A function of an explanation and arrays, compiled: by `jit`, or by `hoisted` where code holds arrays or passes.

    Attributes:
        plain: The function under `jit`, which takes what is a leaf as an argument and nothing else.
    """

    def __init__(self, f: Callable[..., Any]) -> None:
        self.f, self.plain = f, jax.jit(f)

    def __call__(self, e: Any, *inputs: Any) -> Any:
        """Call `f(e, *inputs)`."""
        return hoisted(self.f, e, *inputs) if _apart(e) else self.plain(e, *inputs)

    def lower(self, e: Any, *inputs: Any) -> Any:
        """The call lowered, for arrays or their shapes; what is compiled of it is what a call with such arrays runs."""
        return _traced(self.f, e).lower(e, inputs) if _apart(e) else self.plain.lower(e, *inputs)


def _apart(e: Any) -> bool:
    return holds_passing_code(e) or holds_foreign_code(e) or any(editions(e))


def _named(node: Any) -> Any:
    """Code by its identity, which does not keep it alive."""
    return Static(("code", id(node.value))) if is_static(node) else node


class _Hoisted:
    """A program, compiled with its constants as arguments."""

    def __init__(self, call: Any, constants: list[Any]) -> None:
        self.call, self.constants = call, constants

    def __call__(self, leaves: list[Any]) -> Any:
        try:
            return self.call(self.constants, leaves)
        except ValueError as error:
            if "incompatible devices" not in str(error):
                raise
        # Under `jit` constants lie wherever the program runs; as arguments, committed ones stay where they are.
        constants = [_uncommitted(value) if _is_committed(value) else value for value in self.constants]
        results = self.call(constants, leaves)
        self.constants = constants
        return results

    def lower(self, leaves: list[Any]) -> Any:
        """The call lowered."""
        return self.call.lower(self.constants, leaves)


def _is_committed(value: Any) -> bool:
    return isinstance(value, jax.Array) and value.committed and value.is_fully_addressable


def _uncommitted(value: jax.Array) -> jax.Array:
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(_uncommitted(jax.random.key_data(value)), impl=jax.random.key_impl(value))
    return jnp.asarray(np.asarray(value))


def _hoistable(program: Program) -> dict[int, Any]:
    """The arrays that become arguments, by their ids, in the order of the program."""
    found = {id(value): value for value in _constants(program, _REBUILT) if _size(value) > SMALL}
    return dict(zip(found, map(jnp.asarray, found.values()), strict=True))


def _compiled(program: Program, constants: dict[int, Any]) -> _Hoisted:
    """The program, compiled with its constants as arguments."""
    _warn(program)

    @jax.jit
    def call(values: list[Any], leaves: list[Any]) -> list[Any]:
        return _run(program, dict(zip(constants, values, strict=True)), leaves)

    return _Hoisted(call, list(constants.values()))


def _name_of(program: Program, constants: dict[int, Any]) -> str | None:
    """What a program computes of its arguments and of the constants that become arguments; None if that is not sure."""
    text = str(program.jaxpr)
    if any(part in text for part in ("callback", " at 0x", "...")):  # functions of the host, shortened arrays
        return None
    places = {own: str(place) for place, own in enumerate(constants)}
    entered = (places.get(id(value)) or array_digest(value) for value in _constants(program, _REBUILT))
    left = (array_digest(value) for _, value in _embedded(program))
    return digest(text.encode(), *(part.encode() for part in (*entered, "left", *left)))


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


def _embedded(program: Program) -> Iterator[tuple[str, Any]]:
    """The arrays in programs that are not rebuilt, and the operations that those are in."""
    for equation in program.equations:
        name = equation.primitive.name
        for inner in subprograms(equation):
            if name in _REBUILT:
                yield from _embedded(inner)
            else:
                yield from ((name, value) for value in _constants(inner, None))


def _warn(program: Program) -> None:
    """Warn of a large constant in a program that is not rebuilt."""
    for name, value in _embedded(program):
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
