"""Runs a function with another backward pass at its ReLUs: redirected, deconvolution, guided.

Found in the traced program, so functional ReLUs count as much as modules: `jax.nn.relu` and `maximum` with zero. A ReLU
inside a foreign call is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain.program.function import Function, setting
from jaxplain.program.trace.compat import (
    CUSTOM_DERIVATIVES,
    INLINED_CALLS,
    Equation,
    is_literal,
    literal_value,
    subprograms,
)
from jaxplain.program.trace.sites import Level, Site
from jaxplain.program.trace.tap import Tap, reachable, run
from jaxplain.program.trace.view import look
from jaxplain.types import Array


def rectified_operand(equation: Equation) -> Any:
    """What an equation that is max(x, 0), by itself or under a custom derivative, takes x from; None for others."""
    name = equation.primitive.name
    if name == "max":
        zeros = [is_literal(atom) and not np.any(np.asarray(literal_value(atom))) for atom in equation.invars]
        return equation.invars[zeros.index(False)] if any(zeros) and not all(zeros) else None
    if name in CUSTOM_DERIVATIVES or name in INLINED_CALLS:
        inner = subprograms(equation)[0].equations
        if len(inner) == 1 and len(equation.invars) == 1 and rectified_operand(inner[0]) is not None:
            return equation.invars[0]
    return None


def rectifiers(level: Level) -> Iterator[Site]:
    """Every ReLU of a program: the variables before and after it."""
    whole: set[int] = set()
    for index, equation in enumerate(level.program.equations):
        source = rectified_operand(equation)
        if source is not None:
            whole.add(index)
            route = (*level.route, index)
            yield Site("", "relu", route, (equation.outvars[0],), (source,), (), level.inside, level.loops)
    for index, inner in level.below():
        if index not in whole:
            yield from rectifiers(inner)


class Rectified(Function):
    """A function whose ReLUs have another backward pass: `(active, x, *args) -> output`. Made by `rectified`."""

    f: Any
    rule: str = setting(default="redirected")

    def __call__(self, active: Any, x: Any, *args: Any) -> Any:
        """The function's own value; the rule holds in the backward pass where `active` is true."""
        view = look(self.f, (x, *args), self.rule)
        rule, flag = _RULES[self.rule], jnp.asarray(active, jnp.float32)
        taps = [
            (site.route, Tap(site, f"relu {number}", change=lambda values: (rule(values[0], flag),)))
            for number, site in enumerate(rectifiers(Level(view.program)))
            if reachable(site) or "while" in site.inside
        ]
        if not taps:
            return self.f(x, *args)
        outputs, _ = run(view.program, view.leaves, taps, {})
        return jax.tree.unflatten(view.structure, outputs)


def rectified(f: Any, rule: str) -> Rectified:
    """Give the ReLUs of `f` another backward pass.

    With g the gradient that arrives and x the ReLU's input: 'redirected' passes g where x > 0, as always; where nothing
    passes at all, it passes g wherever it would raise x (g < 0, the gradient of a loss). 'deconvnet' passes max(g, 0);
    'guided' passes max(g, 0) where x > 0.

    Args:
        f: Any function `f(x, *args)` that JAX can trace.
        rule: The rule's name.

    Returns:
        `(active, x, *args) -> f(x, *args)`, the rule in force where `active` (which may be traced) is true.

    Source: redirected: Olah, Mordvintsev and Schubert 2017, "Feature Visualization" (Lucid's redirected ReLU);
    deconvnet: Zeiler and Fergus 2014, section 2.1; guided: Springenberg et al. 2015, equation (guided backpropagation).
    """
    return Rectified(f, rule)


def _with_backward(backward: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """max(x, 0) whose backward pass is `backward(x, g)` where the flag is set."""

    @jax.custom_vjp
    def relu(x: Array, flag: Array) -> Array:
        return jnp.maximum(x, 0)

    def forward(x: Array, flag: Array) -> tuple[Array, tuple[Array, Array]]:
        return jnp.maximum(x, 0), (x, flag)

    def pull(kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
        x, flag = kept
        plain = jnp.where(x > 0, g, jnp.zeros_like(g))
        return jnp.where(flag > 0, backward(x, g), plain), jnp.zeros_like(flag)

    relu.defvjp(forward, pull)
    return relu


def _redirected(x: Array, g: Array) -> Array:
    plain = jnp.where(x > 0, g, jnp.zeros_like(g))
    return jnp.where(jnp.any(plain != 0), plain, jnp.minimum(g, 0))


_RULES = {
    "redirected": _with_backward(_redirected),
    "deconvnet": _with_backward(lambda x, g: jnp.maximum(g, 0)),
    "guided": _with_backward(lambda x, g: jnp.where(x > 0, jnp.maximum(g, 0), jnp.zeros_like(g))),
}
