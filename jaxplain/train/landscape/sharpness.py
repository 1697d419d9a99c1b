"""How sharp a minimum is: the largest eigenvalues of the curvature there, by Lanczos's iteration."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxplain import check
from jaxplain.program import public
from jaxplain.program.fast import traced_fast
from jaxplain.train.epoch import Batch
from jaxplain.train.landscape.objective import MeanLoss, opened
from jaxplain.train.run import refuse_half
from jaxplain.types import Array, Pytree

STEPS = 50
SAME = 100
"""Roundings of the largest eigenvalue within which two are the same, and a direction is none."""
PRODUCT = 10
"""Roundings of the largest eigenvalue that a product is taken to be wrong by."""


class Sharpness(NamedTuple):
    """The ends of the spectrum of a curvature.

    values: `[k]`, the largest distinct eigenvalues, in units of the loss over those of the params squared.
    error: `[k]`, how far an eigenvalue of the curvature is from each at most: the residual's norm, and ten roundings of
        the largest.
    vectors: The direction of each, of length 1: a pytree of what moves, with a leading axis k.
    smallest, smallest_error: The smallest eigenvalue; negative at a saddle.
    steps: Products until the spectrum was exhausted, or all that were asked for.
    """

    values: Any
    error: Any
    vectors: Pytree
    smallest: Any
    smallest_error: Any
    steps: Any

    def __repr__(self) -> str:
        if not check.is_concrete(self.values):
            return f"Sharpness({jnp.shape(self.values)[0]} eigenvalues)"
        pairs = zip(np.asarray(self.values), np.asarray(self.error), strict=True)
        listed = ", ".join(f"{value:.4g} +- {error:.1g}" for value, error in pairs)
        return f"Sharpness({listed}; smallest {float(self.smallest):.4g}; {int(self.steps)} steps)"


@public
def sharpness(
    objective: Callable[..., Any],
    params: Pytree,
    k: int = 1,
    *,
    key: Array,
    curvature: Literal["hessian", "gauss_newton"] = "hessian",
    steps: int | None = None,
) -> Sharpness:
    """Find the largest eigenvalues of the curvature of the loss, by products with vectors alone.

    Lanczos's iteration from one random vector, each new direction made orthogonal to all before, twice: what it finds
    are distinct eigenvalues, whatever their multiplicity. Where the spectrum is exhausted it stops. ReLU has no
    curvature of its own: the Hessian is that of the piece of the loss in which the params lie.

    Args:
        objective: `mean_loss(apply, params, data)`, or any function `params -> scalar` (the Hessian only).
        params: Where, in float32 or wider.
        k: How many eigenvalues.
        key: PRNG key of the first vector.
        curvature: "hessian" or "gauss_newton" (J' (d2 loss / d output2) J, averaged; never negative for convex losses).
        steps: Products, at least k; by default as many as there are params, at most the larger of 50 and 4 k. More
            make `error` smaller.

    Returns:
        `Sharpness`, largest first. Cost: `steps` products, each two to three gradients over the examples; memory for
        `steps` copies of the params. Traced, eigenvalues beyond the number of distinct ones are NaN.

    Raises:
        TypeError: Integer params, an objective that is no function.
        ValueError: NaN, half precision, fewer distinct eigenvalues than k, Gauss-Newton of a plain function, a
            curvature that is not finite.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> objective = lambda w: (jnp.array([3.0, 3.0, 1.0]) * w**2).sum()
        >>> found = sharpness(objective, jnp.ones(3), 2, key=jax.random.key(0))
        >>> found.values.round(4).tolist()
        [6.0, 2.0]

    Source: Golub and Van Loan, "Matrix Computations" (4th ed.), section 10.1 and 10.3.1 (complete reorthogonalization);
    of networks: Ghorbani et al. 2019, "An investigation into neural net optimization via Hessian eigenvalue density".
    """
    name = "sharpness"
    k = check.count(k, name, "k")
    check.threefry(key, name)
    objective, model = opened(objective, params, name)
    trained = model.partition(params)[0]
    refuse_half(trained, name, "params", "curvature")
    size = sum(np.size(leaf) for leaf in jax.tree.leaves(trained))
    steps = min(max(STEPS, 4 * k) if steps is None else check.count(steps, name, "steps"), size)
    if k > steps:
        raise ValueError(
            f"{name}: `k` is {k}, but {steps} steps over {size} params find at most {steps} eigenvalues. Pass a "
            f"smaller `k`{', or more `steps`' if steps < size else ''}."
        )
    if curvature == "gauss_newton" and not isinstance(objective, MeanLoss):
        raise ValueError(
            f"{name}: Gauss-Newton takes a model and a loss apart, and `objective` is a plain function. Pass "
            "mean_loss(apply, params, data), or curvature='hessian'."
        )
    found = _spectrum(objective, model, params, key, curvature=curvature, steps=steps, k=k)
    _check_found(found, k, name)
    return found


def _check_found(found: Sharpness, k: int, name: str) -> None:
    """Of a concrete result: require that it is finite, and that there were so many eigenvalues."""
    if not check.is_concrete(found.steps):
        return
    if not np.isfinite(np.asarray(found.values)[0]):
        raise ValueError(
            f"{name}: the curvature at `params` is not finite. Look at the gradient there: a root at 0, a logarithm of "
            "0 or a loss that overflows has none."
        )
    count = int(np.sum(~np.isnan(found.values)))
    if k > count:
        raise ValueError(
            f"{name}: `k` is {k}, but the curvature has {count} distinct eigenvalue{'s' * (count > 1)} (to "
            f"{found.values.dtype}). Pass a smaller `k`."
        )


@functools.partial(jax.jit, static_argnames=("curvature", "steps", "k"))
def _spectrum(
    objective: Any, model: Any, params: Pytree, key: Array, *, curvature: str, steps: int, k: int
) -> Sharpness:
    vector, unravel = ravel_pytree(model.partition(params)[0])
    product = _product(objective, model, params, curvature)
    basis, diagonal, beside = _lanczos(product, jax.random.normal(key, vector.shape, vector.dtype), steps)
    alive = jnp.any(basis != 0, axis=1)
    count = jnp.sum(alive)
    # Rows that the iteration did not reach get a value below all others, so that they come first and are left out.
    low = -3 * (jnp.max(jnp.abs(diagonal)) + jnp.max(beside)) - 1
    off = jnp.where(alive[1:], beside[:-1], 0)
    table = jnp.diag(jnp.where(alive, diagonal, low)) + jnp.diag(off, 1) + jnp.diag(off, -1)
    values, rows = (part[..., ::-1] for part in jnp.linalg.eigh(table))  # the largest first
    real = jnp.arange(steps) < count
    rounding = jnp.finfo(vector.dtype).eps * jnp.max(jnp.abs(jnp.where(real, values, 0)))
    errors = jnp.abs(jnp.take(beside, count - 1) * jnp.take(rows, count - 1, axis=0)) + PRODUCT * rounding
    # Of an eigenvalue of higher multiplicity rounding may let more than one copy in.
    distinct = jnp.append(True, -jnp.diff(values) > SAME * rounding) & real
    first = jnp.argsort(~distinct, stable=True)[:k]
    reached = jnp.arange(k) < jnp.sum(distinct)
    return Sharpness(
        jnp.where(reached, values[first], jnp.nan),
        jnp.where(reached, errors[first], jnp.nan),
        jax.vmap(unravel)(rows[:, first].T @ basis),
        jnp.take(values, count - 1),
        jnp.take(errors, count - 1),
        count,
    )


def _lanczos(product: Callable[[Array], Array], start: Array, steps: int) -> tuple[Array, Array, Array]:
    """An orthonormal basis `[S, P]` (rows of zeros once it is exhausted), and the tridiagonal matrix in it: its
    diagonal `[S]`, and what stands beside it `[S]`, of which the last is the length of what the basis leaves out."""
    first = start / jnp.linalg.norm(start)
    basis = jnp.zeros((steps, start.size), start.dtype).at[0].set(first)
    nothing = jnp.zeros(steps, start.dtype)
    small = SAME * jnp.finfo(start.dtype).eps

    def step(index: Array, state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        basis, diagonal, beside, scale = state
        pushed = product(basis[index])
        scale = jnp.maximum(scale, jnp.linalg.norm(pushed))
        rest = pushed
        for _ in range(2):  # twice is enough, in any precision
            rest = rest - (basis @ rest) @ basis
        norm = jnp.linalg.norm(rest)
        fresh = jnp.where(norm > small * scale, rest / jnp.where(norm > 0, norm, 1), 0)
        diagonal = diagonal.at[index].set(basis[index] @ pushed)
        return basis.at[index + 1].set(fresh, mode="drop"), diagonal, beside.at[index].set(norm), scale

    state = basis, nothing, nothing, jnp.zeros((), start.dtype)
    return jax.lax.fori_loop(0, steps, step, state)[:3]


def _product(objective: Any, model: Any, params: Pytree, curvature: str) -> Callable[[Array], Array]:
    """The curvature at the params times a vector `[P]`."""
    trained, rest = model.partition(params)
    vector, unravel = ravel_pytree(trained)

    def merged(v: Array) -> Pytree:
        return model.combine(unravel(v), rest)

    if not isinstance(objective, MeanLoss):
        gradient = jax.grad(lambda v: objective(merged(v)))
        return lambda direction: jax.jvp(gradient, (vector,), (direction,))[1]

    def hessian(direction: Array, batch: Batch) -> Array:
        gradient = jax.grad(lambda v: objective.total(merged(v), batch).astype(v.dtype))
        return jax.jvp(gradient, (vector,), (direction,))[1]

    def gauss_newton(direction: Array, batch: Batch) -> Array:
        def outputs(v: Array) -> Any:
            return objective.model(merged(v), *batch.inputs)

        out, pushed = jax.jvp(outputs, (vector,), (direction,))
        slope = jax.vmap(jax.grad(objective.loss))
        _, bent = jax.jvp(lambda o: slope(o, batch.targets), (out,), (pushed,))
        bent = jax.tree.map(lambda b: b * batch.weights.reshape(-1, *[1] * (b.ndim - 1)).astype(b.dtype), bent)
        return jax.vjp(outputs, vector)[1](bent)[0]

    of = hessian if curvature == "hessian" else gauss_newton
    return lambda direction: objective.mean_of_blocks(lambda batch: traced_fast(of)(direction, batch))
