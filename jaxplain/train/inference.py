"""A model over a whole dataset in evaluation mode: `predict` its outputs, `assess` its loss and accuracy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import as_function, as_model, public
from jaxplain.readout import cross_entropy
from jaxplain.train.epoch import Program, over_batches, validate
from jaxplain.train.feed import check_values, one_batch
from jaxplain.train.trainable import as_trainable
from jaxplain.types import Pytree


def _predict_all(model: Any, params: Pytree, inputs: Any, *, batch_size: int) -> Pytree:
    return over_batches(lambda part: model(params, *part), inputs, batch_size)


_predict = jax.jit(_predict_all, static_argnames="batch_size")
_validate = jax.jit(validate, static_argnames="batch_size")


@public
def predict(apply: Callable[..., Any], params: Pytree, inputs: Any, *, batch_size: int = 256) -> Pytree:
    """The model's outputs for all examples, in evaluation mode, batch by batch in one compiled program.

    Args:
        apply: As in `init`.
        params: All that `apply` needs.
        inputs: `[N, ...]`, a pytree; a tuple becomes several arguments.
        batch_size: Examples evaluated at once.

    Returns:
        The outputs `[N, ...]`. Cost: one forward pass over the inputs.

    Raises:
        TypeError, ValueError: Inputs that are no arrays, of unequal length, empty, or not finite.

    Example:
        >>> import jax.numpy as jnp
        >>> predict(lambda params, x: 2 * x, (), jnp.arange(3.0)).tolist()
        [0.0, 2.0, 4.0]
    """
    check.count(batch_size, "predict", "batch_size")
    batch = one_batch((inputs, None), "predict")
    check.finite(batch.inputs, "predict", "inputs")
    model, params = as_model(as_trainable(apply), params)
    return _predict(model, params, jax.tree.map(jnp.asarray, batch.inputs), batch_size=batch_size)


@public
def assess(
    apply: Callable[..., Any],
    params: Pytree,
    data: Any,
    *,
    loss: Callable[[Any, Any], Any] = cross_entropy,
    batch_size: int = 256,
) -> tuple[float, float]:
    """Mean loss and accuracy over a dataset in evaluation mode.

    Args:
        apply: As in `init`.
        params: All that `apply` needs.
        data: `(inputs, targets)` arrays `[N, ...]`, or an object with `.inputs` and `.targets`.
        loss: `loss(outputs, target) -> scalar` of one example.
        batch_size: Examples evaluated at once.

    Returns:
        `(loss, accuracy)`. Cost: one forward pass over the data.

    Raises:
        TypeError, ValueError: As `fit`.

    Example:
        >>> import jax.numpy as jnp
        >>> assess(lambda params, x: x, (), (10 * jnp.eye(2), jnp.array([0, 1])))[1]
        1.0
    """
    check.count(batch_size, "assess", "batch_size")
    model, params = as_model(as_trainable(apply), params)
    program = Program(model, as_function(loss), None)
    batch = one_batch(data, "assess")
    check_values(program, params, batch, "assess")
    measured = np.asarray(_validate(program, params, jax.tree.map(jnp.asarray, batch), batch_size=batch_size))
    return float(measured[0]), float(measured[1])
