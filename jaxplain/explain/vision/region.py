"""A segmentation's answer in a region as one number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.explain.vision.pair import PairScore, pair
from jaxplain.program import Function, as_model, is_array, public, setting
from jaxplain.readout import Pick, Select, selector
from jaxplain.types import Array, Pytree


class _InRegion(Function):
    """The class's outputs `[..., K]`, added up with the weights of a mask."""

    mean: bool = setting(default=False)

    place: ClassVar[str] = "mask"
    first_class: ClassVar[int] = 0

    def check_batch(self, masks: Any, _: Any, name: str) -> None:
        """Require concrete masks `[B, ...]` to hold a place each."""
        _weights(masks, name, batched=True)

    def makes_again(self, word: str, outputs: Array) -> bool:
        """Never: outputs are added up as they are."""
        return False

    def __call__(self, outputs: Array, target: Any, name: str) -> Array:
        mask, label = pair(target, name, "mask")
        weights = _weights(mask, name)
        if jnp.shape(weights) != outputs.shape[:-1] or outputs.ndim < 2:
            raise ValueError(
                f"{name}: the `target`'s mask has shape {jnp.shape(weights)}, but the outputs have {outputs.shape}: "
                "one weight for each place, the classes on the last axis. `select=` can move axes of the outputs."
            )
        rows, weights = outputs.reshape(-1, outputs.shape[-1]), jnp.asarray(weights, outputs.dtype).reshape(-1)
        total = (jax.vmap(lambda row: Pick("logit")(row, label, name))(rows) * weights).sum()
        return total / weights.sum() if self.mean else total


def _weights(mask: Any, name: str, *, batched: bool = False) -> Any:
    """Require masks without NaN or negative weights and with a place in each, where they are concrete."""
    check.numbers(mask, name, "target")
    mask = mask if is_array(mask) else np.asarray(mask)
    if check.is_concrete(mask):
        values = np.asarray(mask, np.float64)
        if not np.isfinite(values).all() or (values < 0).any():
            raise ValueError(f"{name}: the `target`'s mask holds values that are negative or not finite.")
        if values.ndim == batched or not values.any(axis=tuple(range(batched, values.ndim))).all():
            raise ValueError(
                f"{name}: the `target`'s mask, of shape {values.shape}, is empty: pass one of the shape of the outputs "
                "without the classes, [H, W], with True at the places that are explained."
            )
    return mask


@public
def region_score(apply: Callable[..., Any], params: Pytree, *, select: Select = None, mean: bool = False) -> PairScore:
    """Score a segmentation by a class in a region: f(x, (m, k)) = sum over places of m[h, w] z[h, w, k].

    With `jaxplain.grad_cam` it is Seg-Grad-CAM. The mask may be one pixel, an object as the model sees it
    (`logits.argmax(-1) == k`), or the whole image; it is held fixed while x changes.

    Args:
        apply: `apply(params, batch, *inputs) -> outputs`, `[B, H, W, K]`, or `[B, ..., K]` with any axes of places.
        params: As in `jaxplain.logit`.
        select: As in `jaxplain.logit`; a function can move the classes to the last axis.
        mean: Divide by the sum of the mask, so that regions of different sizes can be compared.

    Returns:
        `f(x, (mask, class), *inputs) -> scalar`, in the units of the outputs. `mask` is `[H, W]`, boolean or weights of
        0 and more; `class` as in `jaxplain.logit`. In `explain_batch` the target is `(masks [B, H, W], classes [B])`.
        Cost: one forward pass.

    Raises:
        ValueError: A mask of another shape than the outputs' places, concrete masks that are empty, negative or not
            finite, a class outside the model's.
        TypeError: A target that is no pair; as in `jaxplain.logit`.

    Example:
        >>> import jax.numpy as jnp
        >>> f = region_score(lambda weights, x: x @ weights, jnp.array([[1.0, -1.0]]))
        >>> float(f(jnp.array([[[1.0], [2.0], [4.0]]]), (jnp.array([[True, False, True]]), 0)))
        5.0

    Source: Vinogradova, Dibrov and Myers 2020, "Towards interpretable semantic segmentation via gradient-weighted class
    activation mapping".
    """
    check.function(apply, "region_score", "apply", "(params, batch) -> [B, H, W, K]")
    if not isinstance(mean, bool):
        raise TypeError(f"region_score: `mean` has to be True or False, not {check.short(mean)}.")
    return PairScore(*as_model(apply, params), selector(select, "region_score"), _InRegion(mean), "region_score")
