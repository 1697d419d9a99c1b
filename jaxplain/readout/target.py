"""What a target picks from a model's outputs: an index, a tuple of indices, or weights; as logits or transformed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import Function, setting
from jaxplain.types import Array


class Pick(Function):
    """Transforms all outputs, then picks the target's: an index, a tuple of indices, or weights over the outputs."""

    kind: str = setting(default="logit")
    activation: str = setting(default="softmax")

    def makes_again(self, word: str, outputs: Array) -> bool:
        """Whether it would make probabilities, or logits' margins, of outputs that are a 'softmax' or 'sigmoid'."""
        if self.kind == "margin":  # of two probabilities a difference, but of a single one no sign
            return word == "sigmoid" and (self.activation == "sigmoid" or outputs.size == 1)
        return self.kind != "logit"

    def __call__(self, outputs: Array, target: Any, name: str) -> Array:
        """One number from a model's outputs `[..., K]`; without a target only where there is one output."""
        raw_single = outputs.ndim == 0 or outputs.size == 1
        values = self.transformed(outputs)
        if target is None:
            if not raw_single:
                raise ValueError(
                    f"{name}: the outputs have shape {outputs.shape}, so a target is needed: an integer, a tuple of "
                    "integers (one for each axis), or an array of weights of that shape. (A score is called "
                    "f(x, target), the head of a split model head(h, x, target).)"
                )
            return values.reshape(-1)[-1]
        return _contract(values, target, name)

    def transformed(self, outputs: Array) -> Array:
        """All outputs as the score sees them: logits, probabilities, margins ..."""
        outputs = outputs.reshape(1) if outputs.ndim == 0 else outputs
        if self.kind == "logit":
            return outputs
        if self.activation == "sigmoid":
            return _SIGMOID[self.kind](outputs)
        if outputs.shape[-1] == 1:  # a one-unit head is a classifier of two classes with the logits 0 and z
            outputs = jnp.concatenate([jnp.zeros_like(outputs), outputs], axis=-1)
        return _SOFTMAX[self.kind](outputs)


def _margins(logits: Array) -> Array:
    """Each logit minus the largest of the others, along the last axis."""
    if logits.shape[-1] < 2:
        raise ValueError(f"margin: needs at least two classes on the last axis, not shape {logits.shape}.")
    same = jnp.eye(logits.shape[-1], dtype=bool)
    others = jnp.where(same, -jnp.inf, jnp.broadcast_to(logits[..., None, :], (*logits.shape, logits.shape[-1])))
    return logits - others.max(axis=-1)


_SOFTMAX: dict[str, Callable[[Array], Array]] = {
    "probability": jax.nn.softmax,
    "log_probability": jax.nn.log_softmax,
    "margin": _margins,
}


_SIGMOID: dict[str, Callable[[Array], Array]] = {
    "probability": jax.nn.sigmoid,
    "log_probability": jax.nn.log_sigmoid,
    "margin": lambda logits: logits,  # the threshold of an independent label is the logit 0
}


def index_range(target: Any, sizes: Sequence[int], name: str) -> None:
    """Require concrete batched indices `[B]` inside the outputs' axes of those sizes; weights `[B, ...]` are none."""
    leaves = jax.tree.leaves(target)
    if any(jnp.ndim(leaf) != 1 or not jnp.issubdtype(jnp.result_type(leaf), jnp.integer) for leaf in leaves):
        return
    for values, size in zip(leaves, sizes, strict=False):
        if check.is_concrete(values):
            check.label_range(np.asarray(values), size, name)


def _contract(values: Array, target: Any, name: str) -> Array:
    """Pick an index, a tuple of indices, or the weighted sum."""
    odd = check.odd_leaf(tuple(target) if isinstance(target, list) else target)
    if odd is not None:
        raise TypeError(f"{name}: the `target` is {check.short(target)}; pass numbers, such as the index of a class.")
    if isinstance(target, tuple | list):
        return _at(values, tuple(target), name)
    dtype, shape = jnp.result_type(target), jnp.shape(target)
    if jnp.issubdtype(dtype, jnp.integer) and shape == ():
        return _at(values, (target,), name)
    if shape != values.shape:
        raise ValueError(
            f"{name}: the target has shape {shape} and dtype {dtype}, but the outputs have shape {values.shape}. Pass "
            "an integer, a tuple of integers (one for each axis), or an array of weights of that shape. A score is of "
            "one example: a batch goes through `jax.vmap` or `explain_batch`."
        )
    return jnp.sum(values * jnp.asarray(target).astype(values.dtype))


_A_BATCH = (
    " If `x` is a batch: a score is of one example, without the batch axis; batches go through `jax.vmap` or "
    "`explain_batch`."
)


def _at(values: Array, index: tuple[Any, ...], name: str) -> Array:
    if len(index) != values.ndim:
        raise ValueError(
            f"{name}: the target {index} has {len(index)} indices, but the outputs have shape {values.shape}: give "
            f"{values.ndim}, or an array of weights of that shape.{_A_BATCH if len(index) == 1 else ''}"
        )
    valid: Any = True
    for i, size in zip(index, values.shape, strict=True):
        if check.is_concrete(i):
            check.label_range(np.asarray(i), size, name)
        else:
            valid = valid & (i >= 0) & (i < size)
    picked = values.at[index].get(mode="clip")
    # A traced label cannot be read here: one outside the classes makes the score and its gradient NaN, never another
    # class's number.
    return picked if valid is True else picked * jnp.where(valid, 1.0, jnp.nan).astype(picked.dtype)
