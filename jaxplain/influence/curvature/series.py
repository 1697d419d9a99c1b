"""LiSSA: the inverse of the curvature as a Neumann series, with all examples or with drawn ones in every product."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain.influence.curvature.matrix import product
from jaxplain.influence.curvature.solve import Solve
from jaxplain.influence.gradients import Examples
from jaxplain.types import Array

REPEATS = 8
"""Independent runs of the stochastic form, from which its standard error is taken."""


def lissa(examples: Examples, kind: str, steps: int | None) -> Solve:
    """The Neumann series of the inverse, with all examples in every product: s <- s + (g - (H + damping) s) / scale."""
    top = float(_largest(examples, kind))

    def solve(rows: Array, damping: Any) -> tuple[Array, dict[str, Any]]:
        scale = jnp.asarray(1.1 * top + damping, rows.dtype)
        found, rest = _neumann(examples, kind, rows, jnp.asarray(damping, rows.dtype), scale, steps or 1000)
        return found, {"residual": float(rest), "scale": float(scale)}

    return solve


def stochastic_lissa(examples: Examples, kind: str, steps: int | None, samples: int, key: Array) -> Solve:
    """The Neumann series with so many drawn examples in every product: what it returns are the draws `[R, Q, P]` of
    `REPEATS` independent runs, each the mean of the second half of its steps.

    A product with S of N examples, times N / S, is unbiased. Its square is at most (top + N / S times the largest
    eigenvalue of one example) times the curvature, in the mean: with that as scale the errors contract in the mean
    square, and the variance of the end falls with S and with the steps that are averaged.
    """
    top = 1.1 * float(_largest(examples, kind)) + 1.1 * examples.count / samples * float(
        _largest_of_one(examples, kind)
    )

    def solve(rows: Array, damping: Any) -> tuple[Array, dict[str, Any]]:
        scale = jnp.asarray(top + damping, rows.dtype)
        settings = {"kind": kind, "steps": steps or 1000, "samples": samples}
        draws = _drawn_neumann(examples, rows, jnp.asarray(damping, rows.dtype), scale, key, **settings)
        return jnp.mean(draws, axis=0), {"draws": draws, "scale": float(scale), "samples": samples}

    return solve


def _power(apply: Callable[[Array], Array], start: Array) -> Array:
    """The largest eigenvalue in absolute value, by twenty products."""

    def step(_: Any, v: Array) -> Array:
        pushed = apply(v)
        return pushed / jnp.maximum(jnp.linalg.norm(pushed), jnp.finfo(v.dtype).tiny)

    return jnp.linalg.norm(apply(jax.lax.fori_loop(0, 20, step, start / jnp.linalg.norm(start))))


def _start(examples: Examples) -> Array:
    return jax.random.normal(jax.random.key(0), examples.vector.shape, examples.vector.dtype)


@functools.partial(jax.jit, static_argnames="kind")
def _largest(examples: Examples, kind: str) -> Array:
    return _power(functools.partial(product, examples, kind), _start(examples))


@functools.partial(jax.jit, static_argnames="kind")
def _largest_of_one(examples: Examples, kind: str) -> Array:
    """The largest eigenvalue of any one example's curvature."""

    def one(row: Any) -> Array:
        single = dataclasses.replace(examples, data=jax.tree.map(lambda a: a[None], row), batch_size=1)
        return _power(functools.partial(product, single, kind), _start(examples))

    return jnp.max(jax.lax.map(one, examples.data, batch_size=examples.batch_size))


@functools.partial(jax.jit, static_argnames=("kind", "steps", "samples"))
def _drawn_neumann(
    examples: Examples, rows: Array, damping: Array, scale: Array, key: Array, *, kind: str, steps: int, samples: int
) -> Array:
    share = jnp.asarray(examples.count / samples, rows.dtype)
    averaged = max(1, steps // 2)

    def run(key: Array) -> Array:
        def step(state: tuple[Array, Array], turn: Array) -> tuple[tuple[Array, Array], None]:
            now, total = state
            places = jax.random.randint(jax.random.fold_in(key, turn), (samples,), 0, examples.count)
            drawn = dataclasses.replace(examples, data=jax.tree.map(lambda a: a[places], examples.data))
            pushed = jax.vmap(lambda s: product(drawn, kind, s))(now)
            now = now + (rows - share * pushed - damping * now) / scale
            return (now, total + jnp.where(turn >= steps - averaged, now, 0)), None

        first = rows / scale
        return jax.lax.scan(step, (first, jnp.zeros_like(first)), jnp.arange(steps))[0][1] / averaged

    return jax.lax.map(run, jax.random.split(key, REPEATS))


@functools.partial(jax.jit, static_argnames=("kind", "steps"))
def _neumann(
    examples: Examples, kind: str, rows: Array, damping: Array, scale: Array, steps: int
) -> tuple[Array, Array]:
    def one(row: Array) -> tuple[Array, Array]:
        def rest(s: Array) -> Array:
            return row - product(examples, kind, s) - damping * s

        found = jax.lax.fori_loop(0, steps, lambda _, s: s + rest(s) / scale, row / scale)
        return found, jnp.linalg.norm(rest(found)) / jnp.maximum(jnp.linalg.norm(row), jnp.finfo(row.dtype).tiny)

    found, residuals = jax.vmap(one)(rows)
    return found, jnp.max(residuals)
