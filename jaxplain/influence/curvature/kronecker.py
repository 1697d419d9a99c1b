"""EK-FAC: each layer's curvature as a Kronecker product, in whose eigenbasis the eigenvalues are taken anew."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxplain.influence.curvature.plan import Plan, derivatives, plan_of, trained_of
from jaxplain.influence.gradients import Examples
from jaxplain.types import Array


class Factors(NamedTuple):
    """Eigenvectors of inputs and of output gradients, and eigenvalues, of each group; eigenvalues of the other leaves.

    All are sums over the examples.
    """

    inputs: list[Array]
    outputs: list[Array]
    values: list[Array]
    diagonal: list[Array]


def ekfac(examples: Examples, kind: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The solver, and what it covers: with the paths of the leaves that only their diagonal is known of."""
    plan = plan_of(examples)
    factors = _factors(examples, kind, plan)
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(trained_of(examples))]
    said = {"diagonal": tuple(paths[position] for position in plan.diagonal)}
    said["layers"] = tuple(paths[group[0]] for group in plan.groups)

    def solve(rows: Array, damping: Any) -> tuple[Array, dict[str, Any]]:
        return _solve(examples, plan, factors, rows, jnp.asarray(damping, rows.dtype)), said

    return solve, said


@functools.partial(jax.jit, static_argnames=("kind", "plan"))
def _factors(examples: Examples, kind: str, plan: Plan) -> Factors:
    read = jax.vmap(lambda *row: derivatives(examples, kind, plan, *row))

    def covariances(inputs: Any, targets: Any, weights: Array) -> Any:
        ins, outs, rest = read(inputs, targets)
        first = [jnp.einsum("nti,ntj->ij", a * weights[:, None, None].astype(a.dtype), a) for a in ins]
        second = [jnp.einsum("nkto,nktp->op", d * weights[:, None, None, None].astype(d.dtype), d) for d in outs]
        return first, second, [jnp.einsum("n,nk...->...", weights.astype(g.dtype), g**2) for g in rest]

    first, second, diagonal = examples.sum_blocks(covariances)
    bases = [jnp.linalg.eigh(a)[1] for a in first], [jnp.linalg.eigh(b)[1] for b in second]

    def eigenvalues(inputs: Any, targets: Any, weights: Array) -> Any:
        ins, outs, _ = read(inputs, targets)
        turned = zip(ins, outs, *bases, strict=True)
        return [_second_moments(a @ u, d @ v, weights.astype(a.dtype)) for a, d, u, v in turned]

    return Factors(*bases, examples.sum_blocks(eigenvalues), diagonal)


def _second_moments(inputs: Array, outputs: Array, weights: Array) -> Array:
    """The weighted sum of squares of the gradients `sum_t inputs[n, t] outputs[n, k, t]`, `[in, out]`."""
    if inputs.shape[1] == 1:
        return (inputs[:, 0] ** 2).T @ (weights[:, None] * jnp.sum(outputs[:, :, 0] ** 2, axis=1))
    return jnp.einsum("n,nkio->io", weights, jnp.einsum("nti,nkto->nkio", inputs, outputs) ** 2)


@functools.partial(jax.jit, static_argnames="plan")
def _solve(examples: Examples, plan: Plan, factors: Factors, rows: Array, damping: Array) -> Array:
    trained = trained_of(examples)
    unravel, structure = ravel_pytree(trained)[1], jax.tree.structure(trained)

    def one(row: Array) -> Array:
        leaves = jax.tree.leaves(unravel(row))
        for position, values in zip(plan.diagonal, factors.diagonal, strict=True):
            leaves[position] = leaves[position] / (values + damping)
        for group, u, v, values in zip(plan.groups, factors.inputs, factors.outputs, factors.values, strict=True):
            weight, _, bias, axes, summed = group
            turned = jnp.transpose(leaves[weight], axes)
            whole = turned.reshape(_size(turned.shape[:summed]), -1)
            if bias is not None:
                whole = jnp.concatenate([whole, leaves[bias].reshape(1, -1)])
            whole = u @ ((u.T @ whole @ v) / (values + damping)) @ v.T
            if bias is not None:
                leaves[bias] = whole[-1].reshape(leaves[bias].shape)
                whole = whole[:-1]
            back = sorted(range(len(axes)), key=lambda place: axes[place])
            leaves[weight] = jnp.transpose(whole.reshape(turned.shape), back)
        return ravel_pytree(jax.tree.unflatten(structure, leaves))[0]

    return jax.vmap(one)(rows)


def _size(shape: tuple[int, ...]) -> int:
    total = 1
    for length in shape:
        total *= length
    return total
