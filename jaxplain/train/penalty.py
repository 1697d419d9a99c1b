"""A penalty of each example beside its loss: what is required of one, and where one became infinite."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain.data import batch_indices
from jaxplain.program.trace import depends
from jaxplain.train.epoch import Batch, Program, TrainState
from jaxplain.train.feed import host_batches
from jaxplain.types import Array, Pytree


def check_penalty(program: Program, params: Pytree, data: Any, key: Array) -> None:
    """Require one number for an example, and a derivative of it by what is trained; by shapes alone, before compute."""
    batch = data if isinstance(data, Batch) else next(host_batches(data, key, 1, "fit"), None)
    if batch is None:
        raise ValueError("fit: `data` gave no batch.")
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf[:1]), batch._replace(weights=None))
    shape = _of.eval_shape(program, params, one, key)
    if shape.shape != (1,) or not jnp.issubdtype(shape.dtype, jnp.floating):
        raise ValueError(
            f"fit: `penalty` returns shape {shape.shape[1:]} of {shape.dtype} for one example; it has to return one "
            "floating-point number."
        )
    try:
        moves = depends(lambda seed: _gradient(program, params, one, key, seed), jnp.ones(1, shape.dtype))
    except (ValueError, TypeError, NotImplementedError) as error:
        raise ValueError(
            f"fit: `penalty` has no derivative by the trained parameters: {error} Use a method that has one (gradient, "
            "integrated or expected gradients, SmoothGrad, LRP, DeepLIFT, class activation maps), with a fixed number "
            "of steps (`tolerance=None`)."
        ) from error
    if not moves:
        raise ValueError(
            "fit: `penalty` does not depend on the trained parameters by any derivative, so training would not see it. "
            "Make it of its first argument, `penalty(params, x, target, key)`, without stop_gradient, integers or "
            "ranks on the way."
        )


def infinite_penalty(program: Program, state: TrainState, data: Any, key: Array, batch_size: int) -> str:
    """Which step and example of an epoch had the first penalty that is not finite, in words; empty where none had.

    The epoch is run again step by step, so this costs an epoch; it is asked for one that diverged.
    """
    numbers = None
    if isinstance(data, Batch):
        indices, mask = batch_indices(key, data.size, min(batch_size, data.size))
        numbers = [rows[keep] for rows, keep in zip(np.asarray(indices), np.asarray(mask, bool), strict=True)]
    for place, batch in enumerate(host_batches(data, key, batch_size, "fit")):
        values = np.asarray(_penalties(program, state, batch))
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            row = f"example {int(numbers[place][wrong[0]])}" if numbers else f"row {wrong[0]} of its batch"
            return (
                f"; the penalty of {row} is {values[wrong[0]]} in step {int(state.step) + 1} (of {wrong.size} of the "
                f"{values.size} examples there)"
            )
        state = _step(program, state, batch)[0]
    return ""


_of = jax.jit(Program.penalties)  # compiled calls: what was traced once is found again


@jax.jit
def _gradient(program: Program, params: Pytree, batch: Batch, key: Array, seed: Array) -> Pytree:
    """The derivative of the penalties of a batch by what is trained, times `seed`."""
    trained, rest = program.model.partition(params)
    _, back = jax.vjp(lambda part: program.penalties(program.model.combine(part, rest), batch, key), trained)
    return back(seed)


@jax.jit
def _penalties(program: Program, state: TrainState, batch: Batch) -> Array:
    return program.penalties(state.params, batch, jax.random.fold_in(state.key, state.step))


_step = jax.jit(Program.step)
