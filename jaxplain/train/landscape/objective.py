"""What a landscape is a landscape of: a function of the params alone, such as the mean loss over some examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.program import Function, as_function, chunk_size, chunked, public, setting
from jaxplain.program.fast import traced_fast
from jaxplain.program.trace import dependent, dtype_of, is_literal, shape_of, trace
from jaxplain.readout import cross_entropy
from jaxplain.train.epoch import Batch
from jaxplain.train.run import TrainingRun
from jaxplain.train.trainable import PlainModel, as_trainable, trained_leaves
from jaxplain.types import Array, Pytree

MADE = "(params) -> loss, such as mean_loss(apply, data)"


class MeanLoss(Function):
    """The mean loss over some examples, as a function of the params. Made by `mean_loss`."""

    model: Any
    loss: Any
    data: Batch  # with weights
    batch_size: int = setting(default=256)

    def __call__(self, params: Pytree) -> Array:
        """The mean loss, sum_i w_i loss_i / N, with the model in evaluation mode."""
        return self.mean_of_blocks(lambda batch: traced_fast(self.total)(params, batch))

    def total(self, params: Pytree, batch: Batch) -> Array:
        """The sum of the weighted losses of a block of examples, in float32 or wider."""
        losses = jax.vmap(self.loss)(self.model(params, *batch.inputs), batch.targets)
        return jnp.sum(batch.weights * losses.astype(jnp.promote_types(losses.dtype, jnp.float32)))

    def mean_of_blocks(self, function: Callable[[Batch], Any]) -> Any:
        """The sum of `function(block)` over blocks of examples, divided by their number.

        The last block is filled up with copies of weight 0, so that one program serves for all blocks.
        """
        size = chunk_size(self.data.size, self.batch_size)
        shapes = jax.eval_shape(function, jax.tree.map(lambda a: a[:size], self.data))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

        def fold(carry: Any, batch: Batch, mask: Array) -> Any:
            found = function(batch._replace(weights=jnp.where(mask, batch.weights, 0)))
            return jax.tree.map(jnp.add, carry, found)

        total = chunked(fold, zeros, self.data, self.batch_size)
        return jax.tree.map(lambda leaf: leaf / self.data.size, total)


@public
def mean_loss(
    apply: Callable[..., Any],
    params: Pytree,
    data: Any,
    *,
    loss: Callable[[Any, Any], Any] = cross_entropy,
    batch_size: int = 256,
) -> MeanLoss:
    """Make the loss of a model over some examples a function of its params alone: sum_i w_i loss_i / N.

    The model runs in evaluation mode (no dropout, running averages). What else is minimised is added by hand:
    `lambda params: objective(params) + 0.01 * l2(params)`, a plain function, of which every leaf of params moves.

    Args:
        apply: As in `fit`.
        params: As in `fit`; they say which arrays are trained and that the model takes the examples. Not kept.
        data: `(inputs, targets)` or `(inputs, targets, weights)`, arrays `[N, ...]`.
        loss: `loss(outputs, target) -> scalar` of one example.
        batch_size: Examples evaluated at once.

    Returns:
        `objective(params) -> scalar` in units of the loss. Cost: one forward pass over the examples.

    Raises:
        ValueError: Empty or unequal data, NaN, labels outside of the model's outputs.
        TypeError: Batches from the host, or an `apply` or `params` that cannot be trained.

    Example:
        >>> import jax.numpy as jnp
        >>> w = jnp.zeros((2, 2))
        >>> objective = mean_loss(lambda w, x: x @ w, w, (jnp.eye(2), jnp.array([0, 1])))
        >>> round(float(objective(w)), 4)
        0.6931
    """
    check.count(batch_size, "mean_loss", "batch_size")
    check.arrays(as_trainable(apply).partition(params)[0], "mean_loss", "params")
    model, criterion, batch = TrainingRun.checked(apply, params, data, loss, None, "mean_loss")
    return MeanLoss(model, criterion, batch, batch_size)


def opened(objective: Any, params: Pytree, name: str, argument: str = "params") -> tuple[Any, Any]:
    """An objective as a pytree, and the model that divides params into what moves and the rest; all of it checked.

    Of a plain function every leaf moves.
    """
    check.function(objective, name, "objective", MADE)
    objective = as_function(objective)
    collections = sorted(params) if isinstance(params, Mapping) and "params" in params else []
    if len(collections) > 1 and not isinstance(objective, MeanLoss):
        raise ValueError(
            f"{name}: `{argument}` holds the collections {collections}, and `objective` is a plain function, of which "
            "every leaf would move. Pass mean_loss(module.apply, variables, data), or a function of the trained ones: "
            "lambda params: objective({**variables, 'params': params})."
        )
    model = objective.model if isinstance(objective, MeanLoss) else PlainModel(objective)
    moving(model, params, name, argument)
    check.finite(params, name, argument)
    one_number(objective, model, params, name)
    return objective, model


def moving(model: Any, params: Pytree, name: str, argument: str) -> Pytree:
    """The part of params that a landscape is over: floating-point arrays only."""
    trained, _ = model.partition(params)
    check.arrays(trained, name, argument)
    trained_leaves(model, params, argument)
    return trained


def one_number(objective: Any, model: Any, params: Pytree, name: str) -> None:
    """Require that an objective returns one real number that depends on what moves; nothing is computed."""
    trained, rest = model.partition(params)
    program, structure = trace(lambda trained: objective(model.combine(trained, rest)), trained)
    shapes = [shape_of(atom) for atom in program.outputs]
    if shapes != [()] or not jax.tree_util.treedef_is_leaf(structure):
        raise ValueError(
            f"{name}: `objective` returns arrays of the shapes {shapes}; it has to return one number, as "
            "mean_loss(apply, params, data) does."
        )
    (output,) = program.outputs
    if not is_literal(output) and not jnp.issubdtype(dtype_of(output), jnp.floating):
        raise TypeError(f"{name}: `objective` returns a number of dtype {dtype_of(output)}; it has to be a real one.")
    if is_literal(output) or output not in dependent(program, set(program.jaxpr.invars)):
        raise ValueError(
            f"{name}: `objective` does not depend on the params it is called with, so that its landscape is flat. "
            "Write it as a function of its argument: mean_loss(apply, params, data), or lambda params: ... ."
        )
