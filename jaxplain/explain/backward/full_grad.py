"""FullGrad: the score of a piecewise linear network, divided among the input and every bias."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline import rows_of
from jaxplain.internals import normalized, on_grid, resized, spread, without_axis
from jaxplain.program import Function, as_function, public, setting, shown, total, wide_dtype, widen
from jaxplain.program.node import BehindLookups, Bias, biases, feeds, scaled
from jaxplain.program.trace import Program, batch_axes, look, run
from jaxplain.types import Array, Pytree


@shown
class FullGradTerms(NamedTuple):
    """A score divided among the input and the biases.

    input: x_i df/dx_i, of x's structure; bias: b_j df/db_j at every place a bias is added, by the path of the module
    that adds it (`path:n` where it adds several), for one example; gap: their sum minus f(x), zero up to rounding where
    the network is piecewise linear.
    """

    input: Pytree
    bias: dict[str, Array]
    gap: Array


class _Decomposed(Function):
    """What the two forms share: the terms."""

    score: Any
    name: str = setting(default="full_grad_terms")

    def terms(self, x: Pytree, *args: Any, absolute: bool = False) -> tuple[FullGradTerms, dict[str, int]]:
        """The terms, and how many leading axes of turns of loops each bias has.

        Token ids have the terms of the rows that they look up, summed (their sizes, where `absolute`).
        """
        tokens = rows_of(self.score, x, args, self.name)
        if tokens is not None:
            behind = dataclasses.replace(self, score=BehindLookups(self.score, self.name))
            terms, loops = behind.terms(tokens.rows, x, *args)
            rows = jax.tree.map(jnp.abs, terms.input) if absolute else terms.input
            return terms._replace(input=tokens.found.per_token(rows, x)), loops
        check.differentiable(x, self.name)
        check.finite(x, self.name)
        x = jax.tree.map(jnp.asarray, x)
        view = look(self.score, (x, *args), self.name)
        start, count = len(jax.tree.leaves(view.f)), len(jax.tree.leaves(x))
        moving = [check.is_floating(leaf) for leaf in jax.tree.leaves(x)]

        def find(program: Program) -> list[Bias]:
            inputs = program.jaxpr.invars[start : start + count]
            return biases(program, {v for v, move in zip(inputs, moving, strict=True) if move})

        found = find(view.program)
        axes = batch_axes(view, find)

        def value(point: list[Any], factors: dict[str, Any]) -> Array:
            supply = iter(point)
            leaves = list(view.leaves)
            leaves[start : start + count] = [
                next(supply) if move else leaf for leaf, move in zip(leaves[start : start + count], moving, strict=True)
            ]
            outputs, _ = run(view.program, leaves, scaled(found), feeds(found, factors))
            return check.scalar(outputs[0] if outputs else None, self.name)

        point = [leaf for leaf, move in zip(jax.tree.leaves(x), moving, strict=True) if move]
        factors = {bias.key: jnp.ones((*bias.loops, *bias.shape), bias.dtype) for bias in found}
        score, (slopes, shares) = jax.value_and_grad(value, argnums=(0, 1))(point, factors)
        supply = iter(slopes)
        inputs = jax.tree.map(lambda leaf: _product(leaf, next(supply)) if check.is_floating(leaf) else _none(leaf), x)
        shown = {
            bias.key: widen(shares[bias.key] if axis is None else jnp.take(shares[bias.key], 0, axis + len(bias.loops)))
            for bias, axis in zip(found, axes, strict=True)
        }
        gap = total((inputs, shown)) - widen(score)
        return FullGradTerms(inputs, shown, gap), {bias.key: len(bias.loops) for bias in found}


def _product(leaf: Array, slope: Array) -> Array:
    wide = wide_dtype(leaf.dtype)
    return leaf.astype(wide) * slope.astype(wide)


def _none(leaf: Array) -> Array:
    return jnp.zeros(leaf.shape, jnp.float32)


class FullGradDecomposition(_Decomposed):
    """The terms as they are. Made by `full_grad_terms`."""

    def __call__(self, x: Pytree, *args: Any) -> FullGradTerms:
        """Explain one example."""
        return self.terms(x, *args)[0]


class FullGrad(_Decomposed):
    """The terms as one map. Made by `full_grad`."""

    absolute: bool = setting(default=False)
    normalize: bool = setting(default=False)
    channel_axis: int | None = setting(default=-1)

    def __call__(self, x: Array, *args: Any) -> Array:
        """Explain one example: a map of the input's spatial axes."""
        shape = self._shape(x)
        terms, loops = self.terms(x, *args, absolute=self.absolute)
        (values,) = jax.tree.leaves(terms.input)
        values = self._summed(values[None], 0) if values.shape == shape else self._summed(values, self._axis)
        for key, term in terms.bias.items():
            values = values + self._placed(term.sum(axis=tuple(range(loops[key]))), shape)
        (leaf,) = jax.tree.leaves(x)
        dtype = jnp.result_type(leaf) if check.is_floating(leaf) else values.dtype
        return (normalized(values) if self.normalize else values).astype(dtype)

    def _shape(self, x: Any) -> tuple[int, ...]:
        leaves = jax.tree.leaves(x)
        if len(leaves) != 1 or not 1 <= jnp.ndim(leaves[0]) <= 4:
            raise ValueError(
                f"{self.name}: a map needs an `x` that is one array with spatial axes, not "
                f"{[jnp.shape(leaf) for leaf in leaves]}. `full_grad_terms` takes any `x`."
            )
        shape = jnp.shape(leaves[0])
        return shape if self.channel_axis is None or len(shape) == 1 else without_axis(shape, self.channel_axis)

    @property
    def _axis(self) -> int:
        """The layers' axis of channels; they have one where the input has none."""
        return -1 if self.channel_axis is None else self.channel_axis

    def _summed(self, term: Array, axis: int) -> Array:
        return (jnp.abs(term) if self.absolute else term).sum(axis=axis)

    def _placed(self, term: Array, shape: tuple[int, ...]) -> Array:
        """A bias' shares at the places of the input; those that belong to no place are spread over all, or left out."""
        move = resized if self.absolute else spread
        if term.ndim == len(shape) + 1:
            return move(self._summed(term, self._axis), shape)
        tokens = on_grid(term.shape[0], shape) if term.ndim == 2 and len(shape) > 1 else None
        if tokens is None:
            return self._everywhere(term, shape)
        grid, dropped = tokens
        values = self._summed(term, -1)
        return move(values[dropped:].reshape(grid), shape) + self._everywhere(values[:dropped], shape)

    def _everywhere(self, term: Array, shape: tuple[int, ...]) -> Array:
        return jnp.full(shape, 0 if self.absolute else term.sum() / math.prod(shape), term.dtype)


@public
def full_grad_terms(f: Callable[..., Any]) -> FullGradDecomposition:
    """Divide a score among the input and every bias: f(x) = sum_i x_i df/dx_i + sum_j b_j df/db_j.

    Biases are found in the traced program, whatever they are called: everything that is added, chosen or inserted and
    does not depend on `x` (biases, both shifts of a BatchNorm, positions, class tokens, the six of a ReLU6). The sum is
    exact for networks that are piecewise linear in `x`: dense layers, convolutions, BatchNorm in evaluation, ReLU and
    its kind, max and average pooling, residual connections. Elsewhere `gap` says what is missing.

    Args:
        f: A score, `f(x, *args) -> scalar`: a logit.

    Returns:
        `e(x, *args) -> FullGradTerms(input, bias, gap)`, in units of the score, in float32 or wider. Bias terms have
        the shape of the values that the bias is added to, for one example, behind an axis of turns inside a `scan`.
        Cost: one forward and one backward pass, and memory for every value that a bias is added to.

    Raises:
        TypeError: `x` has no floating-point leaf.
        ValueError: NaN in a concrete `x`, or `f` returns no scalar.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> e = full_grad_terms(lambda x: jax.nn.relu(x + jnp.array([1.0, -5.0])).sum())
        >>> terms = e(jnp.array([2.0, 3.0]))
        >>> terms.input.tolist(), (terms.bias["add"] + 0).tolist(), float(terms.gap)
        ([2.0, 0.0], [1.0, 0.0], 0.0)

    Source: Srinivas and Fleuret 2019, "Full-gradient representation for neural network visualization", Proposition 1.
    """
    return FullGradDecomposition(as_function(check.callable_score(f, "full_grad_terms")), "full_grad_terms")


@public
def full_grad(
    f: Callable[..., Any], *, absolute: bool = False, normalize: bool = False, channel_axis: int | None = -1
) -> FullGrad:
    """The full gradient as one map: what the input and the biases contribute at each place.

    The terms of `full_grad_terms`, summed over channels. Biases of layers smaller than the input are spread linearly
    over the pixels they stand for, each keeping its sum, and biases that belong to no place (dense layers, class
    tokens) evenly over all; so the map sums to f(x) on piecewise linear networks. With absolute=True it is the source's
    map without its rescaling: absolute values of every term, interpolated and summed, dense biases left out.

    Args:
        f: As in `full_grad_terms`.
        absolute: Sum absolute values, as in the source; False keeps signs.
        normalize: Divide the finished map by its largest absolute value (a map of zeros stays zero).
        channel_axis: The axis of the channels in `x` and in the layers, None for an `x` without one. An `x` with one
            axis has none.

    Returns:
        `e(x, *args) -> map` of x's spatial axes (`[H, W]`), in x's dtype, in units of the score. Cost: as
        `full_grad_terms`.

    Raises:
        ValueError: As in `full_grad_terms`; an `x` that is not one array of one to four axes.
        TypeError: As in `full_grad_terms`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> e = full_grad(lambda x: jax.nn.relu(x + 1).sum())
        >>> e(jnp.array([[[2.0], [-3.0]]])).tolist()
        [[3.0, 0.0]]

    Source: Srinivas and Fleuret 2019, "Full-gradient representation for neural network visualization", equations 3
    and 4; the signed map that keeps the sum is this library's.
    """
    for argument, value in (("absolute", absolute), ("normalize", normalize)):
        if not isinstance(value, bool):
            raise TypeError(f"full_grad: `{argument}` has to be True or False, not {value!r}.")
    if channel_axis is not None and (isinstance(channel_axis, bool) or not isinstance(channel_axis, int)):
        raise TypeError(f"full_grad: `channel_axis` has to be an integer or None, not {channel_axis!r}.")
    return FullGrad(as_function(check.callable_score(f, "full_grad")), "full_grad", absolute, normalize, channel_axis)
