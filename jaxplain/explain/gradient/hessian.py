"""Integrated Hessians: how much of an attribution is due to each pair of features."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.baseline import DERIVATIVE, Perturbing, Rows, as_baseline, rows_of
from jaxplain.program import as_function, chunk_size, logarithmic_gauss, public, setting, wide_dtype
from jaxplain.program.node import AlongLookups, BehindLookups, smoothed
from jaxplain.types import Array, Pytree


class IntegratedHessians(Perturbing):
    """Pairwise interactions of a score. Made by `integrated_hessians`."""

    smooth: Any = None
    steps: int = setting(default=32)

    @property
    def holds(self) -> str | None:
        """The path between the baseline and the input has a derivative at floating-point values alone."""
        return DERIVATIVE

    def __call__(self, *inputs: Any) -> Pytree:
        """Explain one example: `e(x, *args)`, or `e(key, x, *args)` where the baseline is drawn."""
        key, x, args = self.take(*inputs)
        found = rows_of(self.score, x, args, self.name, self.baseline)
        if found is not None:
            return self._of_tokens(found, key, x, args)
        check.differentiable(x, self.name)
        start = self.absent(key, x).values
        check.finite_score(self.score, x, args, self.name)
        check.finite_score(self.score, start, args, self.name)
        leaves, structure = jax.tree.flatten(x)
        moving = [check.is_floating(leaf) for leaf in leaves]
        floating = [jnp.asarray(leaf) for leaf, move in zip(leaves, moving, strict=True) if move]
        starts = [leaf for leaf, move in zip(jax.tree.leaves(start), moving, strict=True) if move]

        def of(*values: Array) -> Array:
            supply = iter(values)
            parts = [next(supply) if move else leaf for leaf, move in zip(leaves, moving, strict=True)]
            return self.scored(jax.tree.unflatten(structure, parts), args)

        score = smoothed(of, self.smooth, self.name, *floating)
        pairs = self._pairs(lambda v: score(*_unflat(v, floating)), _flat(floating), _flat(starts))
        check.finite_scores(pairs, self.name)
        return _as_trees(pairs, leaves, moving, structure)

    def _of_tokens(self, found: Rows, key: Array | None, x: Pytree, args: tuple[Any, ...]) -> Pytree:
        """The interactions of token ids: of how far all rows of a token have come, which sums over their numbers."""
        behind = BehindLookups(self.score, self.name)
        start = dataclasses.replace(self, score=behind, baseline=found.baseline).absent(key, found.rows).values
        along = AlongLookups(behind, start, found.rows, found.found.token_of(x))
        dtype = jnp.result_type(jnp.float32, *found.rows)
        shares = jax.tree.map(lambda leaf: jnp.ones(jnp.shape(leaf), dtype), x)
        return dataclasses.replace(self, score=along, baseline=0.0)(shares, x, *args)

    def _pairs(self, score: Callable[[Array], Array], x: Array, start: Array) -> Array:
        """The interactions of a flat input, `[n, n]`.

        With u = alpha beta the double integral over the unit square is one over u with the weight -log(u).
        """
        nodes, weights = (jnp.asarray(part, x.dtype) for part in logarithmic_gauss(self.steps))
        change, gradient = x - start, jax.grad(score)
        size = chunk_size(x.size, self.batch_size)
        count = -(-x.size // size)

        def columns(point: Array) -> Array:
            def chunk(first: Array, _: None) -> tuple[Array, Array]:
                index = jnp.minimum(first + jnp.arange(size), x.size - 1)
                basis = jax.nn.one_hot(index, x.size, dtype=x.dtype)
                return first + size, jax.vmap(lambda e: jax.jvp(gradient, (point,), (e,))[1])(basis)

            _, rows = lax.scan(chunk, jnp.zeros((), jnp.int32), None, length=count)
            return rows.reshape(count * size, x.size)[: x.size]

        def step(carry: tuple[Array, Array], node: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
            hessian, slope = carry
            u, weight = node
            point = start + u * change
            return (hessian + weight * u * columns(point), slope + weight * gradient(point)), None

        zeros = (jnp.zeros((x.size, x.size), x.dtype), jnp.zeros_like(x))
        (hessian, slope), _ = lax.scan(step, zeros, (nodes, weights))
        return change[:, None] * hessian * change[None, :] + jnp.diag(change * slope)


def _flat(leaves: list[Array]) -> Array:
    dtype = jnp.result_type(*(wide_dtype(leaf.dtype) for leaf in leaves))
    return jnp.concatenate([leaf.astype(dtype).reshape(-1) for leaf in leaves])


def _unflat(vector: Array, like: list[Array]) -> list[Array]:
    parts, start = [], 0
    for leaf in like:
        parts.append(vector[start : start + leaf.size].reshape(leaf.shape).astype(leaf.dtype))
        start += leaf.size
    return parts


def _as_trees(pairs: Array, leaves: list[Any], moving: list[bool], structure: Any) -> Pytree:
    """Rows and columns in x's structure: a tree of x's structure whose every leaf is one again, as of `jax.hessian`."""
    sizes = [math.prod(jnp.shape(leaf)) if move else 0 for leaf, move in zip(leaves, moving, strict=True)]
    starts = [sum(sizes[:index]) for index in range(len(sizes))]

    def block(i: int, j: int) -> Array:
        shape = (*jnp.shape(leaves[i]), *jnp.shape(leaves[j]))
        if not (moving[i] and moving[j]):
            return jnp.zeros(shape, jnp.float32)
        part = pairs[starts[i] : starts[i] + sizes[i], starts[j] : starts[j] + sizes[j]]
        return part.reshape(shape).astype(jnp.result_type(leaves[i]))

    index = range(len(leaves))
    return jax.tree.unflatten(structure, [jax.tree.unflatten(structure, [block(i, j) for j in index]) for i in index])


@public
def integrated_hessians(
    f: Callable[..., Any],
    *,
    baseline: Any = 0.0,
    steps: int = 32,
    smooth: float | None = None,
    batch_size: int | None = None,
) -> IntegratedHessians:
    """Divide each integrated gradient among the features it interacts with: integrated gradients of themselves.

    G_ij = (x_i - b_i)(x_j - b_j) * integral over alpha and beta in [0, 1] of alpha beta d2f/dx_i dx_j at
    b + alpha beta (x - b), and G_ii with (x_i - b_i) * integral of df/dx_i there added. G is symmetric, its rows sum to
    integrated gradients, and all of it to f(x) - f(b). The double integral is one of u = alpha beta with the weight
    -log(u), for which a Gauss rule of `steps` nodes is used: on smooth networks it converges geometrically.

    A piecewise linear network has no second derivative to integrate, so kinks that a derivative passes are refused
    unless `smooth` replaces them: G is then of the smooth network, and its rows sum to that network's integrated
    gradients. Softplus tends to ReLU with growing `smooth`, and needs more steps there.

    Args:
        f: A score, `f(x, *args) -> scalar`.
        baseline: As in `integrated_gradients`.
        steps: Number of nodes.
        smooth: None, or beta: softplus(beta z) / beta is put in the place of ReLU (leaky ReLU, absolute values, maxima
            and max pooling follow, with logsumexp(beta z) / beta for maxima of several values).
        batch_size: How many columns of the Hessian are computed at once. None takes what fills the device in
            `explain_batch` and `explain_dataset`, and 1 elsewhere.

    Returns:
        `e(x, *args) -> G`, in units of the score: for an array x of shape S, an array of shape S + S; for a pytree, a
        tree of x's structure of such trees, as `jax.hessian` gives. Integer and boolean leaves get zeros; of token ids
        alone, the interactions of the rows that they look up are summed over each pair of tokens.
        Cost: `steps` (n + 1) forward and backward passes for n values (forward over reverse); memory for n^2 numbers.

    Raises:
        ValueError: Kinks without `smooth`, or kinks that it cannot replace, each named with its place in the model;
            `steps` below 1, a baseline that does not fit `x`, NaN or infinities in a concrete `x`.
        TypeError: `x` has no floating-point leaf.

    Example:
        >>> e = integrated_hessians(lambda x: x[0] * x[1] + x[0] ** 2, steps=4)
        >>> (e(jnp.array([1.0, 2.0])) + 0.0).round(4).tolist()
        [[1.5, 0.5], [0.5, 0.5]]

    Source: Janizek, Sturmfels and Lee 2021, "Explaining explanations: axiomatic feature interactions for deep
    networks", equations 3 and 4, and section 4 (softplus).
    """
    name = "integrated_hessians"
    if smooth is not None:
        check.one_number(smooth, name, "smooth")
    score = as_function(check.callable_score(f, name))
    size = check.at_once(batch_size, name)
    return IntegratedHessians(score, as_baseline(baseline), size, name, smooth, check.count(steps, name, "steps"))
