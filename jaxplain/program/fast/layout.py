"""Computes a traced function's convolutions and the gradients of its max pooling in the layout the backend is fast at.

XLA's CPU backend has one fast kernel for convolutions: input `b01f` (batch, two spatial axes, features), kernel `01io`,
output `b01f`. It brings the convolutions of the outermost program into that layout by itself, but not those in the body
of a loop, where the gradients of convolutions then run in a generic kernel that is twenty to thirty times slower. The
gradient of max pooling has no fast kernel at all. Both are written out here as operations that are fast everywhere.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain.program.fast.attention import implementation, rewritten
from jaxplain.program.fast.convolution import fast_convolution
from jaxplain.program.fast.platform import platform_of
from jaxplain.program.fast.pool import LONGEST, pool, scatter_to_winners, unrolled
from jaxplain.program.fast.pooled import chain, reading
from jaxplain.program.fast.stand_in import stand_in
from jaxplain.program.function import Function, Static, as_function, freeze, is_array, needs_key, setting, thaw
from jaxplain.program.spelling import public
from jaxplain.program.trace import (
    INLINED_CALLS,
    REMATERIALIZED,
    Equation,
    Program,
    Variable,
    dtype_of,
    evaluate,
    is_literal,
    is_plain,
    known_parameters,
    literal_value,
    open_program,
    retraced,
    segment,
    state,
    subprograms,
    trace,
    under_scope,
    variables,
    with_subprograms,
)

DESCENDED = (*INLINED_CALLS, *REMATERIALIZED, "scan", "while", "cond")
"""Calls whose programs are rewritten. Custom derivatives are not: what they compute has a derivative of its own."""

_WINDOWS = frozenset(("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation"))
_WINNERS = frozenset(("select_prim", "window_dimensions", "window_strides", "padding"))
_POOLINGS: dict[str, tuple[Any, float]] = {
    "reduce_window_max": (lax.max, -math.inf),
    "reduce_window_min": (lax.min, math.inf),
    "reduce_window_sum": (lax.add, 0.0),
}

Rule = Callable[..., Any]


class FastLayout(Function):
    """A function in the backend's fast layout. Made by `fast_layout`."""

    function: Any
    platform: str | None = setting(default=None)

    @property
    def needs_key(self) -> bool:
        """Whether the function takes a key first."""
        return needs_key(self.function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate the function on the arguments that it takes."""
        inputs = jax.tree.map(lambda leaf: leaf if _is_traced(leaf) else Static(leaf), (args, kwargs))
        held, structure = jax.tree.flatten(self.function)
        leaves = [*held, *jax.tree.leaves(inputs)]
        platform = self.platform or platform_of(leaves)
        if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
            return thaw(_evaluated(structure, held, inputs, platform))
        return thaw(_compiled(self, structure)(held, inputs, platform))


@public
def fast_layout(f: Callable[..., Any], *, platform: str | None = None) -> FastLayout:
    """Compute the same as `f` with convolutions and max pooling's gradients in the layout that the CPU is fast at.

    `f` is traced; in its program, and in the programs of `jit`, `scan`, `while`, `cond` and `remat` inside it, every
    ungrouped 2-D convolution that is laid out otherwise is computed with input `b01f` and kernel `01io` between
    explicit transposes, and every gradient of max pooling (overlapping windows and padding too) as comparisons with
    the winner of each window, the first of equal ones as before. In a forward pass max pooling comes before the bias
    and the ReLU that only it reads, and what jaxlib before 0.12 convolves on one core runs on all of them. Everything
    else is kept as it is: other convolutions, calls with a derivative of their own that is not taken yet, effects,
    scopes. Values agree to float rounding.

    Apply it to what runs inside a loop, after differentiation and, where you own it, after `vmap`: to a training step,
    to `jax.vmap(jax.grad(f))`, or to the whole function that holds the loop. The result can be transformed again, but
    the derivative of its convolutions is a new one: wrap the outermost function (once more). `fit` and `explain_batch`
    do this by themselves.

    GPU and TPU choose layouts themselves, so there `f` is computed as it is, but for attentions: on a GPU those whose
    weights nobody else reads are computed by one fused operation (`fused_attentions` lists them). The platform is
    decided while tracing, by the first that is known of: `platform`; the devices that the arguments are committed to
    (of a call outside `jit`); `jax.default_device`; the default backend. The numbers are right whatever it was: pass
    `platform` where JAX cannot know, as in a process with a GPU whose `jit` will run on the CPU, or in an export for
    another machine.

    Args:
        f: Any function of pytrees that JAX can trace. Arrays, numbers and what `f` itself holds as a pytree are
            arguments of the program; other leaves (strings, booleans, functions) are passed on as they are, and so
            are outputs that are no arrays.
        platform: 'cpu' to rewrite, another platform's name to leave layouts as they are; None decides as said above.

    Returns:
        A function of the same arguments, compiled where it is called outside of `jit`. Cost: that of `f`; tracing
        takes a little longer.

    Raises:
        Whatever `f` raises while it is traced.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jax import lax
        >>> def energy(image, kernel):
        ...     return jnp.square(lax.conv(image, kernel, (1, 1), "SAME")).sum()
        >>> image, kernel = jnp.ones((1, 1, 4, 4)), jnp.ones((2, 1, 3, 3))
        >>> def descend(image, kernel):  # a loop over gradients
        ...     step = lambda value, _: (value - 0.01 * jax.grad(energy)(value, kernel), None)
        ...     return lax.scan(step, image, length=3)[0]
        >>> quick = jax.jit(fast_layout(descend))(image, kernel)
        >>> bool(jnp.allclose(quick, descend(image, kernel)))
        True
    """
    return FastLayout(as_function(f), platform)


def traced_fast(f: Callable[..., Any]) -> Callable[..., Any]:
    """`fast_layout(f)` where a call is being traced, and `f` where it is not: nothing is compiled for one call."""
    quick = fast_layout(f)

    def call(*args: Any) -> Any:
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((quick, args)))
        return quick(*args) if traced else f(*args)

    return call


def _is_traced(leaf: Any) -> bool:
    return is_array(leaf) or (isinstance(leaf, int | float | complex) and not isinstance(leaf, bool))


_COMPILED: weakref.WeakKeyDictionary[FastLayout, Any] = weakref.WeakKeyDictionary()


def _compiled(wrapped: FastLayout, structure: Any) -> Any:
    """The compiled function of one `FastLayout` and the edition of its code, kept as long as that is."""
    known = _COMPILED.get(wrapped)
    if known is None or known[0] != structure:
        # The structure may hold a closure with arrays. It is closed over, since JAX keeps those of arguments for ever.
        def call(held: list[Any], inputs: Any, platform: str) -> Any:
            return _evaluated(structure, held, inputs, platform)

        _COMPILED[wrapped] = structure, jax.jit(call, static_argnums=2)
    return _COMPILED[wrapped][1]


def _evaluated(structure: Any, held: list[Any], inputs: Any, platform: str) -> Any:
    """The outputs, frozen, of the function of that structure which holds these leaves."""

    def frozen(held: list[Any], inputs: Any) -> Any:
        args, kwargs = thaw(inputs)
        return freeze(jax.tree.unflatten(structure, held)(*args, **kwargs))

    attention = implementation(platform)
    if platform != "cpu" and attention is None:
        return frozen(held, inputs)
    program, outputs = trace(frozen, held, inputs)
    leaves = jax.tree.leaves((held, inputs))
    if attention is not None:
        fused = rewritten(program, attention, gradient=False)
        if platform != "cpu":
            return jax.tree.unflatten(outputs, fused(*leaves))
        program, _ = trace(fused, *leaves)
    return jax.tree.unflatten(outputs, _run(program, leaves, {}))


class _Rewriting(NamedTuple):
    """How an equation, and those `absorbed` with it, are computed where it stands."""

    compute: Rule
    operands: Sequence[Any]
    absorbed: frozenset[int] = frozenset()


def _rewritings(program: Program) -> dict[int, _Rewriting]:
    """What is computed in another way, by the index of the equation."""
    rules = {index: rule for index, e in enumerate(program.equations) if (rule := _rule(e)) is not None}
    found = {index: _Rewriting(rule, program.equations[index].invars) for index, rule in rules.items()}
    # Who looks for layers finds each where its scope says. And what goes backwards through a pooling may run forwards
    # twice as written, which the compiler sees to be the same as long as both are written alike.
    backwards = any(e.primitive.name == "select_and_scatter_add" for e in program.equations)
    if state.tagging or backwards:
        return found
    read = reading(program)
    for index in rules:
        equation = program.equations[index]
        if equation.primitive.name == "reduce_window_max" and (first := chain(read, index, _windows(equation))):
            found[index] = _Rewriting(first.compute, first.inputs, first.absorbed)
    absorbed = frozenset[int]().union(*(rewriting.absorbed for rewriting in found.values()))
    return {index: rewriting for index, rewriting in found.items() if index not in absorbed}


def _run(program: Program, arguments: list[Any], done: dict[int, Any]) -> list[Any]:
    """Evaluate a program in the fast layout; `done` holds the inner programs that are rewritten already."""
    rewritings = _rewritings(program)
    absorbed = frozenset[int]().union(*(rewriting.absorbed for rewriting in rewritings.values()))
    kept = [index for index in range(len(program.equations)) if index not in absorbed]
    needed = _needed(program, kept, rewritings)
    values: dict[Variable, Any] = dict(zip(program.inputs, [*program.constants, *arguments], strict=True))
    stretch: list[int] = []
    for index in kept:
        if index not in rewritings:
            stretch.append(index)
            continue
        _advance(program, stretch, values, needed[index], done)
        equation, (compute, operands, _) = program.equations[index], rewritings[index]
        with under_scope(equation):
            values[equation.outvars[0]] = compute(*(literal_value(a) if is_literal(a) else values[a] for a in operands))
        stretch = []
    _advance(program, stretch, values, set(variables(program.outputs)), done)
    return [literal_value(atom) if is_literal(atom) else values[atom] for atom in program.outputs]


def _needed(program: Program, kept: Sequence[int], rewritings: dict[int, _Rewriting]) -> dict[int, set[Variable]]:
    """The variables that are read at or after each rewritten equation."""
    wanted = set(variables(program.outputs))
    needed = {}
    for index in reversed(kept):
        equation = program.equations[index]
        wanted.difference_update(equation.outvars)
        wanted.update(variables(rewritings[index].operands if index in rewritings else equation.invars))
        if index in rewritings:
            needed[index] = set(wanted)
    return needed


def _advance(
    program: Program, stretch: Sequence[int], values: dict[Variable, Any], needed: set[Variable], done: dict[int, Any]
) -> None:
    """Evaluate a stretch of equations together, and forget what is not needed after it."""
    equations = [_rewritten(program.equations[index], done) for index in stretch]
    defined = {v for equation in equations for v in equation.outvars}
    inputs = dict.fromkeys(v for e in equations for v in variables(e.invars) if v not in defined)
    results = [v for v in defined if v in needed]
    if equations:
        part = segment(program, equations, list(inputs), results)
        values.update(zip(results, evaluate(part, [], [values[v] for v in inputs]), strict=True))
    for variable in [v for v in values if v not in needed]:
        del values[variable]


def _rewritten(equation: Equation, done: dict[int, Any]) -> Equation:
    """The equation with the programs inside it in the fast layout, where that changes them."""
    if equation.primitive.name not in DESCENDED or not _holds_slow(equation):
        return equation
    return with_subprograms(equation, functools.partial(_rewritten_program, done=done))


def _rewritten_program(closed: Any, done: dict[int, Any]) -> Any:
    if id(closed) not in done:
        # The old program is kept beside the new one, so that its id is not given to another.
        done[id(closed)] = closed, retraced(closed, functools.partial(_run, open_program(closed), done=done))
    return done[id(closed)][1]


def _holds_slow(equation: Equation) -> bool:
    """Whether an equation, or one in a program inside it that is rewritten, is in a slow layout."""
    if _rule(equation) is not None:
        return True
    if equation.primitive.name not in DESCENDED:
        return False
    inner = subprograms(equation)
    return all(is_plain(p) for p in inner) and any(_holds_slow(e) for p in inner for e in p.equations)


def _rule(equation: Equation) -> Rule | None:
    """How to compute an equation in the fast layout; None where it is left as it is."""
    name = equation.primitive.name
    if name == "conv_general_dilated":
        return fast_convolution(equation)
    if name in _POOLINGS and _is_known_pooling(equation):
        return _pooling(*_POOLINGS[name], equation)
    if name == "select_and_scatter_add" and _has_known_winners(equation):
        parameters = dict(equation.params)
        keeps = lax.ge if parameters.pop("select_prim").name == "ge" else lax.le
        return functools.partial(scatter_to_winners, keeps=keeps, **parameters)
    return None


def _is_known_pooling(equation: Equation) -> bool:
    parameters = equation.params
    return (
        known_parameters(equation, _WINDOWS)
        and jnp.issubdtype(dtype_of(equation.invars[0]), jnp.floating)
        and max(parameters["window_dimensions"], default=0) <= LONGEST
        and {*parameters["base_dilation"], *parameters["window_dilation"]} == {1}
    )


def _pooling(choose: Any, start: float, equation: Equation) -> Rule:
    windows = _windows(equation)

    def plain(operand: Any) -> Any:
        return lax.reduce_window(operand, np.array(start, operand.dtype), choose, *windows.values())

    return stand_in(functools.partial(pool, choose=choose, start=start, **windows), plain)


def _windows(equation: Equation) -> dict[str, Any]:
    return {name: equation.params[name] for name in ("window_dimensions", "window_strides", "padding")}


def _has_known_winners(equation: Equation) -> bool:
    parameters = equation.params
    return (
        known_parameters(equation, _WINNERS)
        and jnp.issubdtype(dtype_of(equation.invars[1]), jnp.floating)
        and parameters["select_prim"].name in ("ge", "le")
        and unrolled(parameters["window_dimensions"])
    )
