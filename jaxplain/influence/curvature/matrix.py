"""The curvature of the summed training loss: products with vectors, and the whole matrix where it is small."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain.influence.gradients import Examples
from jaxplain.types import Array

KINDS = ("gauss_newton", "hessian", "fisher")


def loss_hessian(examples: Examples, output: Array, target: Any) -> Array:
    """The second derivative of one example's loss in its flattened output, `[K, K]`."""
    return jax.hessian(lambda flat: examples.loss(flat.reshape(output.shape), target))(output.reshape(-1))


def product(examples: Examples, kind: str, direction: Array) -> Array:
    """The curvature of sum_i w_i loss_i times a vector `[P]`.

    "gauss_newton": sum_i w_i J_i' (d2 loss_i / d output2) J_i. "hessian": sum_i w_i d2 loss_i / d params2. "fisher":
    the empirical one, sum_i w_i g_i g_i' with g_i the gradient of example i.
    """
    vector = examples.vector

    def losses(v: Array, inputs: Any, targets: Any) -> Array:
        return jax.vmap(lambda *row: examples.example_loss(v, *row))(inputs, targets)

    def gauss_newton(inputs: Any, targets: Any, weights: Array) -> Array:
        def outputs(v: Array) -> Array:
            return jax.vmap(lambda row: examples.output(v, row))(inputs)

        out, pushed = jax.jvp(outputs, (vector,), (direction,))
        slope = jax.vmap(jax.grad(examples.loss))
        _, bent = jax.jvp(lambda o: slope(o, targets), (out,), (pushed,))
        bent = bent * weights.reshape(-1, *[1] * (bent.ndim - 1)).astype(bent.dtype)
        return jax.vjp(outputs, vector)[1](bent)[0]

    def hessian(inputs: Any, targets: Any, weights: Array) -> Array:
        gradient = jax.grad(lambda v: jnp.sum(weights * losses(v, inputs, targets)))
        return jax.jvp(gradient, (vector,), (direction,))[1]

    def fisher(inputs: Any, targets: Any, weights: Array) -> Array:
        _, pushed = jax.jvp(lambda v: losses(v, inputs, targets), (vector,), (direction,))
        return jax.vjp(lambda v: losses(v, inputs, targets), vector)[1](weights * pushed)[0]

    of = {"gauss_newton": gauss_newton, "hessian": hessian, "fisher": fisher}[kind]
    return examples.sum_blocks(of)


@functools.partial(jax.jit, static_argnames="kind")
def products(examples: Examples, kind: str, rows: Array) -> Array:
    """Products with every row of `[Q, P]`."""
    return jax.vmap(lambda row: product(examples, kind, row))(rows)


@functools.partial(jax.jit, static_argnames="kind")
def matrix(examples: Examples, kind: str) -> Array:
    """The whole curvature, `[P, P]`."""
    vector = examples.vector
    if kind == "hessian":
        eye = jnp.eye(vector.size, dtype=vector.dtype)
        return jax.lax.map(lambda row: product(examples, kind, row), eye, batch_size=32)

    def rows(inputs: Any, target: Any) -> tuple[Array, Array]:
        """Derivatives `[K, P]`, and what stands between them, `[K, K]`."""
        if kind == "fisher":
            return jax.grad(examples.example_loss)(vector, inputs, target)[None], jnp.ones((1, 1), vector.dtype)
        output, pull = jax.vjp(lambda v: examples.output(v, inputs).reshape(-1), vector)
        jacobian = jax.vmap(lambda row: pull(row)[0])(jnp.eye(output.size, dtype=output.dtype))
        return jacobian, loss_hessian(examples, examples.output(vector, inputs), target)

    def block(inputs: Any, targets: Any, weights: Array) -> Array:
        jacobians, middle = jax.vmap(rows)(inputs, targets)
        left = jnp.einsum("nkl,nlp->nkp", middle * weights[:, None, None].astype(middle.dtype), jacobians)
        size = vector.size
        return left.reshape(-1, size).T @ jacobians.reshape(-1, size)

    return examples.sum_blocks(block)
