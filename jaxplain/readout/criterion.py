"""Losses of one example, `criterion(outputs, target) -> scalar`: what training minimises and `score.loss` explains."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import public
from jaxplain.types import Array, ArrayLike


@public
def cross_entropy(outputs: Array, target: ArrayLike) -> Array:
    """Softmax cross-entropy of one example: -log softmax(z)[target], averaged over leading axes.

    Args:
        outputs: Logits `[..., K]`; with K = 1 the sigmoid cross-entropy of two classes (`binary_cross_entropy`).
        target: Integer labels `[...]`, or probabilities `[..., K]` (one-hot or soft). A label outside the classes
            gives NaN where it is traced and an error where it is not.

    Returns:
        A scalar in nats. Cost: no model pass.

    Raises:
        ValueError: Shapes that do not fit, or a concrete label outside the classes.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(cross_entropy(jnp.array([0.0, 0.0]), 1)), 4)
        0.6931
    """
    if outputs.ndim == 0 or outputs.shape[-1] == 1:
        return binary_cross_entropy(outputs, target)
    values = jax.nn.log_softmax(wide(outputs))
    check.fitting(target, "cross_entropy", "target")
    labels, classes = jnp.asarray(target), outputs.shape[-1]
    if labels.shape == outputs.shape and not jnp.issubdtype(labels.dtype, jnp.integer):
        return -jnp.mean(jnp.sum(values * labels.astype(values.dtype), axis=-1))
    if labels.shape != outputs.shape[:-1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"cross_entropy: the target has shape {labels.shape} and dtype {labels.dtype}, but the outputs have shape "
            f"{outputs.shape}: pass integer labels of shape {outputs.shape[:-1]}, or probabilities of the same shape."
        )
    if check.is_concrete(labels):
        check.label_range(np.asarray(labels), classes, "cross_entropy")
    picked = jnp.take_along_axis(values, labels[..., None], axis=-1, mode="clip")[..., 0]
    return -jnp.mean(picked * jnp.where((labels >= 0) & (labels < classes), 1.0, jnp.nan).astype(picked.dtype))


@public
def binary_cross_entropy(outputs: Array, target: ArrayLike) -> Array:
    """Sigmoid cross-entropy of one example, averaged over its outputs (independent labels).

    Args:
        outputs: Logits of any shape.
        target: Labels 0 or 1, or probabilities, of the same number of elements.

    Returns:
        A scalar in nats. Cost: no model pass.

    Raises:
        ValueError: A target with another number of elements.

    Example:
        >>> import jax.numpy as jnp
        >>> round(float(binary_cross_entropy(jnp.array([0.0]), 1)), 4)
        0.6931
    """
    logits, labels = wide(outputs), _fitted(outputs, target, "binary_cross_entropy")
    return -jnp.mean(labels * jax.nn.log_sigmoid(logits) + (1 - labels) * jax.nn.log_sigmoid(-logits))


@public
def squared_error(outputs: Array, target: ArrayLike) -> Array:
    """Squared error of one example, averaged over its outputs: mean (y - t)^2.

    Args:
        outputs: Predictions of any shape.
        target: Values of the same number of elements.

    Returns:
        A scalar in squared units of the target. Cost: no model pass.

    Raises:
        ValueError: A target with another number of elements.

    Example:
        >>> import jax.numpy as jnp
        >>> float(squared_error(jnp.array([1.0, 3.0]), jnp.array([0.0, 0.0])))
        5.0
    """
    return jnp.mean(jnp.square(wide(outputs) - _fitted(outputs, target, "squared_error")))


def check_labels(criterion: Any, shape: tuple[int, ...], targets: Any, name: str) -> None:
    """Require concrete labels of a batch to be what a criterion takes; what a foreign one takes is its own affair.

    Args:
        criterion: The criterion.
        shape: That of the batch's outputs.
        targets: The batch's targets.
        name: Who asks, for the error.

    Raises:
        ValueError: A label outside the classes; for one output, what is neither a label 0 or 1 nor a probability.
    """
    if criterion not in (cross_entropy, binary_cross_entropy):
        return
    values = np.asarray(targets)
    several = criterion is cross_entropy and len(shape) > 1 and shape[-1] > 1
    if several and np.issubdtype(values.dtype, np.integer):
        check.label_range(values, shape[-1], name)
    elif values.size and (values.min() < 0 or values.max() > 1):
        raise ValueError(
            f"{name}: targets run from {values.min()} to {values.max()}, but {criterion.__name__} of outputs "
            f"{shape} takes labels 0 and 1 or probabilities; squared_error takes numbers."
        )


def _fitted(outputs: Array, target: Any, name: str) -> Array:
    check.fitting(target, name, "target")
    values = jnp.asarray(target)
    if values.size != outputs.size:
        raise ValueError(
            f"{name}: the target has shape {values.shape}, but the outputs have shape {outputs.shape}; both need "
            "the same number of elements."
        )
    return values.reshape(outputs.shape).astype(jnp.promote_types(outputs.dtype, jnp.float32))


def wide(value: Array) -> Array:
    """Half precision as float32, so that softmax and sums do not lose what the model computed; integers refused."""
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"the model's output has dtype {value.dtype}; a score needs floating-point outputs.")
    return value.astype(jnp.promote_types(value.dtype, jnp.float32))
