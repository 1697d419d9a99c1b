"""Gradients of single examples: as flat vectors, as products along directions, and the first that is not finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxplain import check
from jaxplain.program import Function, setting
from jaxplain.train import TrainingRun, as_trainable
from jaxplain.types import Array, Pytree


class Rows(NamedTuple):
    """Examples: inputs (a tuple of pytrees `[N, ...]`), targets `[N, ...]` and weights `[N]`."""

    inputs: tuple[Any, ...]
    targets: Any
    weights: Any

    @property
    def size(self) -> int:
        """The number of examples."""
        return jnp.shape(self.weights)[0]


class Examples(Function):
    """Training examples with their model, loss and trained params: what per-example gradients are taken of.

    Vectors are the trained params, flattened: `[P]`. The model runs in evaluation mode.
    """

    model: Any
    loss: Any
    params: Pytree
    data: Any  # inputs, targets, weights
    batch_size: int = setting(default=64)

    @property
    def count(self) -> int:
        """The number of examples, N."""
        return self.data.size

    @property
    def vector(self) -> Array:
        """The trained params, `[P]`."""
        return ravel_pytree(self.model.partition(self.params)[0])[0]

    def merged(self, vector: Array) -> Pytree:
        """The params with another vector in the place of the trained ones."""
        trained, rest = self.model.partition(self.params)
        return self.model.combine(ravel_pytree(trained)[1](vector), rest)

    def output(self, vector: Array, inputs: Any) -> Array:
        """The model's output for one example, of any shape."""
        return self.model(self.merged(vector), *jax.tree.map(lambda a: a[None], inputs))[0]

    def example_loss(self, vector: Array, inputs: Any, target: Any) -> Array:
        """The loss of one example."""
        return self.loss(self.output(vector, inputs), target)

    def gradients(self) -> Array:
        """The gradient of each example's loss, `[N, P]`: for few params, or few examples."""
        one = jax.grad(self.example_loss)
        return jax.lax.map(lambda row: one(self.vector, *row), self.data[:2], batch_size=self.batch_size)

    def along(self, directions: Array) -> Array:
        """The derivative of each example's loss along directions `[Q, P]`: `[Q, N]`, without the matrix N x P."""
        vector = self.vector

        def one(row: Any) -> Array:
            _, push = jax.linearize(lambda v: self.example_loss(v, *row), vector)
            return jax.vmap(push)(directions)

        return jax.lax.map(one, self.data[:2], batch_size=self.batch_size).T

    def query_gradients(self, queries: Any) -> tuple[Array, Array]:
        """Scores `[Q]` and the gradient of each, `[Q, P]`."""
        scores, pull = jax.vjp(lambda v: queries(self.merged(v)), self.vector)
        return scores, jax.vmap(lambda row: pull(row)[0])(jnp.eye(scores.shape[0], dtype=scores.dtype))

    def sum_blocks(self, function: Callable[..., Any]) -> Any:
        """The sum of `function(inputs, targets, weights)` over blocks of `batch_size` examples, the last one short."""
        size = min(self.batch_size, self.count)
        full, rest = divmod(self.count, size)
        data = tuple(self.data)

        def plus(total: Any, block: Any) -> Any:
            return jax.tree.map(jnp.add, total, function(*block))

        def add(total: Any, start: Array) -> tuple[Any, None]:
            return plus(total, jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, size), data)), None

        shapes = jax.eval_shape(function, *jax.tree.map(lambda a: a[:size], data))
        zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        total, _ = jax.lax.scan(add, zero, jnp.arange(full) * size)
        return plus(total, jax.tree.map(lambda a: a[full * size :], data)) if rest else total


def as_rows(inputs: tuple[Any, ...], targets: Any) -> Rows:
    """Examples of weight 1."""
    first = jax.tree.leaves(inputs)[0]
    return Rows(inputs, targets, jnp.ones(jnp.shape(first)[0], jnp.result_type(jnp.float32)))


def examples_of(
    apply: Any, params: Pytree, data: Any, loss: Any, weights: Any, batch_size: int, name: str, argument: str = "params"
) -> Examples:
    """What a public function was given, checked, as `Examples`; of params that the model does not take it is said."""
    check.count(batch_size, name, "batch_size")
    check.arrays(params, name, argument)
    try:
        return Examples(*_made(TrainingRun.checked(apply, params, data, loss, weights, name), params), batch_size)
    except Exception as error:
        if name in str(error).partition(":")[0] or _runs(as_trainable(apply), params, data):
            raise
        kinds = {jax.tree_util.keystr(p): jnp.shape(v) for p, v in jax.tree_util.tree_leaves_with_path(params)}
        stacked = ", or are not stacked along a first axis" if argument == "checkpoints" else ""
        raise ValueError(
            f"{name}: `apply` does not run on the `{argument}`, whose leaves have the shapes {kinds}: those of another "
            f"model{stacked} ({type(error).__name__}: {error})."
        ) from error


def _runs(model: Any, params: Pytree, data: Any) -> bool:
    """Whether the model takes these params; whatever it raises where it does not."""
    inputs = data[0] if isinstance(data[0], tuple) else (data[0],)
    try:
        jax.eval_shape(lambda p: model(p, *inputs), params)
    except Exception:
        return False
    return True


def _made(parts: Any, params: Pytree) -> tuple[Any, Any, Pytree, Any]:
    model, loss, data = parts
    return model, loss, jax.tree.map(jnp.asarray, params), data


def all_finite(tree: Pytree) -> bool:
    """Whether every concrete floating-point number is finite."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if check.is_concrete(leaf) and check.is_floating(leaf)]
    return all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in leaves)


@jax.jit
def _finite(examples: Examples) -> Array:
    """Whether each example's loss and gradient are finite, `[N]`."""
    vector = examples.vector

    def one(row: Any) -> Array:
        value, gradient = jax.value_and_grad(examples.example_loss)(vector, *row)
        return jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient))

    return jax.lax.map(one, examples.data[:2], batch_size=examples.batch_size)


def name_bad_example(model: Any, loss: Any, params: Pytree, data: Any, name: str) -> None:
    """Raise an error that names the first training example whose loss or gradient is not finite, if there is one."""
    bad = np.flatnonzero(~np.asarray(_finite(Examples(model, loss, params, data))))
    if bad.size:
        raise ValueError(
            f"{name}: the loss or gradient of training example {bad[0]} is not finite at the params it is taken at "
            f"({bad.size} such examples in all). Look at it, or give it another loss; nothing was set to zero."
        )


def require_finite(examples: Examples, result: Pytree, name: str) -> None:
    """Require a finite result; of one that is not, name the training example that it comes from."""
    if all_finite(result):
        return
    name_bad_example(examples.model, examples.loss, examples.params, examples.data, name)
    raise ValueError(
        f"{name}: the result is not finite, though every training example's gradient is: look at the queries' "
        "gradients, at `damping` and at the size of the params."
    )
