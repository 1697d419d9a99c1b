"""Axioms about pairs of models and inputs: input invariance, implementation invariance, symmetry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.evaluate.metric import Metric
from jaxplain.evaluate.robustness import NORMS, explained, size
from jaxplain.program import Function, as_function, map_floating, needs_key, public, setting, wide_dtype
from jaxplain.types import Array, ArrayLike, Pytree


class Invariance(Metric):
    """How far two explanations are apart that ought to be equal. Made by the functions below."""

    takes: ClassVar[tuple[str, ...]] = ("x", "*args")
    first: Any
    second: Any
    scores: Any
    change: Any
    tolerance: Any = 1e-4
    norm: str = setting(default="l2")
    name: str = setting(default="input_invariance")

    @property
    def needs_key(self) -> bool:
        """Whether the explanations are random."""
        return needs_key(self.first)

    def __call__(self, *inputs: Any) -> Array:
        """Judge the method on one example: `m(x, *args)`, with a key before `x` where it is random."""
        key = None
        if self.needs_key:
            key, inputs = check.needed_key(inputs, self.name, "m(key, x, *args)"), inputs[1:]
        x, *args = inputs
        check.differentiable(x, self.name)
        check.finite(x, self.name)
        other = self._changed(x)
        one = explained(self.first, key, x, tuple(args), self.name)
        two = explained(self.second, key, other, tuple(args), self.name)
        if self.name == "symmetry":
            one = [
                jnp.asarray(leaf)
                for leaf in jax.tree.leaves(self.change(jax.tree.unflatten(jax.tree.structure(x), one)))
            ]
        scale = size(one, self.norm)
        distance = size([b - a for a, b in zip(one, two, strict=True)], self.norm)
        value = jnp.where(scale > 0, distance / jnp.where(scale > 0, scale, 1.0), jnp.nan)
        if self.scores is None:
            return value
        before, after = self._score(0, x, *args), self._score(1, other, *args)
        return jnp.where(jnp.abs(after - before) <= self.tolerance * (1 + jnp.abs(before)), value, jnp.nan)

    def _changed(self, x: Pytree) -> Pytree:
        if self.name == "input_invariance":
            for leaf in filter(check.is_floating, jax.tree.leaves(x)):
                check.broadcasts(self.change, jnp.shape(leaf), self.name, "shift")
            return map_floating(lambda leaf: jnp.asarray(leaf) + jnp.asarray(self.change, jnp.result_type(leaf)), x)
        if self.name == "symmetry":
            other = self.change(x)
            check.same_structure(x, other, self.name, "x", "swap(x)")
            return other
        return x

    def _score(self, which: int, x: Pytree, *args: Any) -> Array:
        value = jnp.asarray(check.scalar(self.scores[which](x, *args), self.name))
        return value.astype(wide_dtype(value.dtype))


class Shifted(Function):
    """A score of the input less a shift."""

    score: Any
    shift: Any

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """Score one example."""
        back = map_floating(lambda leaf: jnp.asarray(leaf) - jnp.asarray(self.shift, jnp.result_type(leaf)), x)
        return self.score(back, *args)


def _pair(name: str, method: Any, f: Any, g: Any, change: Any, norm: str, tolerance: Any) -> Invariance:
    check.function(method, name, "method", "f -> e, such as jaxplain.gradient")
    for score, argument in ((f, "f"), (g, "g")):
        check.function(score, name, argument, "f(x, *args) -> scalar")
    check.choice(norm, NORMS, name, "norm")
    check.positive(tolerance, name, "tolerance", zero=True)
    one, two = as_function(f), as_function(g)
    first, second = (as_function(check.made(method(score), name, "method")) for score in (one, two))
    return Invariance(first, second, (one, two), change, tolerance, norm, name)


@public
def input_invariance(
    method: Callable[..., Any], f: Callable[..., Any], *, shift: ArrayLike, norm: str = "l2"
) -> Invariance:
    """How much an explanation changes if the input is shifted and the model shifts it back; lower is better.

    |e_g(x + c) - e_f(x)| / |e_f(x)| for g(x) = f(x - c), which answers x + c as f answers x. Methods that multiply by
    the input, or compare with a fixed baseline, do change: that is what this measures, and a matter of opinion.

    Args:
        method: `f -> e`, such as `jaxplain.gradient` or `functools.partial(jaxplain.integrated_gradients, steps=32)`.
        f: The score.
        shift: c, a number or an array that broadcasts to x's floating-point leaves.
        norm: 'l2', 'l1' or 'linf'.

    Returns:
        `m(x, *args) -> change` (`m(key, x, *args)` where the method is random: one key for both), one number, at least
        0, without unit; NaN where e_f(x) is zero everywhere. Cost: two explanations and two forward passes.

    Raises:
        ValueError: NaN or infinities in a concrete `x`, an unknown norm.
        TypeError: `method` or `f` is no function, `x` has no floating-point leaf.

    Example:
        >>> m = input_invariance(jax.grad, lambda x: (x**2).sum(), shift=1.0)
        >>> float(m(jnp.array([1.0, 2.0])))
        0.0

    Source: Kindermans et al. 2019, "The (un)reliability of saliency methods", section 2.
    """
    name = "input_invariance"
    check.finite(shift, name, "shift")
    check.function(f, name, "f", "f(x, *args) -> scalar")
    return _pair(name, method, f, Shifted(as_function(f), shift), shift, norm, 1e-3)


@public
def implementation_invariance(
    method: Callable[..., Any],
    f: Callable[..., Any],
    g: Callable[..., Any],
    *,
    norm: str = "l2",
    tolerance: float = 1e-4,
) -> Invariance:
    """How far apart the explanations of two implementations of one function are; lower is better.

    |e_g(x) - e_f(x)| / |e_f(x)| for f and g that answer alike everywhere.

    Args:
        method: As in `input_invariance`.
        f: A score.
        g: Another that computes the same function in another way.
        norm: As in `input_invariance`.
        tolerance: NaN is returned where |g(x) - f(x)| > tolerance (1 + |f(x)|): there they are not the same function.

    Returns:
        `m(x, *args) -> distance`, as in `input_invariance`. Cost: two explanations and two forward passes.

    Raises:
        ValueError, TypeError: As in `input_invariance`.

    Example:
        >>> m = implementation_invariance(jax.grad, lambda x: (x * x).sum(), lambda x: x @ x)
        >>> float(m(jnp.array([1.0, 2.0])))
        0.0

    Source: Sundararajan, Taly and Yan 2017, "Axiomatic attribution for deep networks", section 2.2.
    """
    return _pair("implementation_invariance", method, f, g, None, norm, tolerance)


@public
def symmetry(
    method: Callable[..., Any],
    f: Callable[..., Any],
    swap: Callable[[Any], Any],
    *,
    norm: str = "l2",
    tolerance: float = 1e-4,
) -> Invariance:
    """How far an explanation is from treating interchangeable features alike; lower is better.

    |e(p(x)) - p(e(x))| / |e(x)|, where p exchanges features that the score does not tell apart: f(p(x)) = f(x). For an
    input of which they have equal values, p(x) = x, and this is how unequal their attributions are.

    Args:
        method: As in `input_invariance`.
        f: The score.
        swap: p, a function of arrays of x's structure that exchanges values: `lambda x: x[::-1]`.
        norm: As in `input_invariance`.
        tolerance: NaN is returned where |f(p(x)) - f(x)| > tolerance (1 + |f(x)|): there it does tell them apart.

    Returns:
        `m(x, *args) -> distance`, as in `input_invariance`. Cost: two explanations and two forward passes.

    Raises:
        ValueError, TypeError: As in `input_invariance`; a `swap` that changes shapes.

    Example:
        >>> m = symmetry(jax.grad, lambda x: x[0] * x[1], lambda x: x[::-1])
        >>> float(m(jnp.array([1.0, 2.0])))
        0.0

    Source: Sundararajan, Taly and Yan 2017, section 4 (symmetry-preserving), for pairs of features.
    """
    check.function(swap, "symmetry", "swap", "x -> x")
    return _pair("symmetry", method, f, f, as_function(swap), norm, tolerance)
