"""Class activation maps without gradients: channels are weighted by what masking or ablating them does to the score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.explain.cam.layer_map import Grid, LayerMap, Resize, layer_map
from jaxplain.internals import Places, masked_input, resized
from jaxplain.program import chunked_map, public, setting, widen
from jaxplain.types import Array, Pytree


class MaskingMap(LayerMap):
    """A map whose weights are scores of changed inputs or layers. Made by `score_cam` and `ablation_cam`."""

    batch_size: int | None = setting(default=None, points=True)

    def signed(self, h: Array, where: Places, x: Pytree, *args: Any) -> Array:
        """The signed map at the layer's own size."""
        values = where.arrange(widen(h))
        if self.name == "score_cam":
            channels = jnp.moveaxis(values, -1, 0)  # once: a channel picked in the loop is read from everywhere
            seen = chunked_map(lambda one: self._masked(one, where, x, *args), channels, self.batch_size)
            return values @ jax.nn.softmax(seen)
        numbers = jnp.arange(values.shape[-1])
        scores = chunked_map(lambda k: self._ablated(k, h, where, x, *args), numbers, self.batch_size)
        whole = self._score(self.head(h, x, *args))
        return values @ ((whole - scores) / whole)

    def _score(self, value: Any) -> Array:
        return widen(check.scalar(value, self.name))

    def _masked(self, channel: Array, where: Places, x: Pytree, *args: Any) -> Array:
        """The score of the input seen through one channel."""
        if where.size is None:
            raise ValueError(
                f"{self.name}: no leaf of `x`, or leaves of several sizes, have the {len(where.grid)} spatial axes of "
                f"{self.body.path!r}, so its channels cannot mask the input. Choose another layer, or `ablation_cam`."
            )
        mask = resized(channel, where.size)
        low, high = jnp.min(mask), jnp.max(mask)
        mask = (mask - low) / jnp.where(high > low, high - low, 1)
        return self._score(self.body.f(masked_input(x, mask, where.channel_axis), *args))

    def _ablated(self, k: Array, h: Array, where: Places, x: Pytree, *args: Any) -> Array:
        """The score with one channel of the layer set to zero everywhere."""
        shape = [1] * h.ndim
        shape[where.channel_axis] = -1
        others = (jnp.arange(h.shape[where.channel_axis]) != k).reshape(shape)
        return self._score(self.head(jnp.where(others, h, 0), x, *args))


@public
def score_cam(
    f: Callable[..., Any],
    layer: str,
    *,
    relu: bool = True,
    resize: Resize = True,
    normalize: bool = False,
    grid: Grid = None,
    channel_axis: int = -1,
    batch_size: int | None = None,
    batch_axis: int | Literal["auto"] | None = "auto",
) -> MaskingMap:
    """Channels weighted by the score of the input seen through them; no gradients.

    L = ReLU(sum_k w_k A_k), w = softmax over k of f(x * H_k), where H_k is channel k resized to the input and stretched
    to [0, 1]. (The source subtracts a baseline's score first, which the softmax cancels.) A channel without contrast
    masks everything: H_k = 0. Where logits are large, one channel takes all weight; score probabilities then.

    Args:
        f: As in `grad_cam`.
        layer: As in `grad_cam`.
        relu: As in `grad_cam`.
        resize: As in `grad_cam`; masks have the input's size in any case.
        normalize: As in `grad_cam`.
        grid: As in `grad_cam`.
        channel_axis: As in `grad_cam`.
        batch_size: How many channels are evaluated at once; memory grows with it and not with their number. None takes
            what fills the device in `explain_batch` and `explain_dataset`, and 1 elsewhere.
        batch_axis: As in `split`.

    Returns:
        As `grad_cam`, in units of the layer. Cost: one forward pass to the layer, and one whole one for each channel.

    Raises:
        ValueError: As in `grad_cam`; `batch_size` below 1; an `x` without the layer's spatial axes.
        TypeError: As in `grad_cam`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("features"):
        ...         h = jnp.concatenate([x, 2 * x], axis=-1)
        ...     return h.sum()
        >>> score_cam(f, "features")(jnp.array([[[0.0], [1.0]]])).tolist()  # equal masks: both weights are 1/2
        [[0.0, 1.5]]

    Source: Wang et al. 2020, "Score-CAM: score-weighted visual explanations", Definition 2 and Algorithm 1.
    """
    size = check.at_once(batch_size, "score_cam")
    return layer_map(
        MaskingMap, "score_cam", f, layer, relu, resize, normalize, grid, channel_axis, batch_axis, batch_size=size
    )


@public
def ablation_cam(
    f: Callable[..., Any],
    layer: str,
    *,
    relu: bool = True,
    resize: Resize = True,
    normalize: bool = False,
    grid: Grid = None,
    channel_axis: int = -1,
    batch_size: int | None = None,
    batch_axis: int | Literal["auto"] | None = "auto",
) -> MaskingMap:
    """Channels weighted by the share of the score that is lost without them; no gradients.

    L = ReLU(sum_k w_k A_k), w_k = (f(x) - f_k(x)) / f(x), where f_k is the score with channel k of the layer set to
    zero (class tokens included). The source's weights mean what they say where f(x) > 0: a negative score turns their
    sign, and zero gives NaN. Only what follows the layer is computed again.

    Args:
        f: As in `grad_cam`; best a score that is positive.
        layer: As in `grad_cam`.
        relu: As in `grad_cam`.
        resize: As in `grad_cam`.
        normalize: As in `grad_cam`.
        grid: As in `grad_cam`.
        channel_axis: As in `grad_cam`.
        batch_size: As in `score_cam`.
        batch_axis: As in `split`.

    Returns:
        As `grad_cam`, in units of the layer. Cost: one forward pass, and one from the layer on for each channel.

    Raises:
        ValueError: As in `grad_cam`; `batch_size` below 1.
        TypeError: As in `grad_cam`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("features"):
        ...         h = jnp.concatenate([x, 3 * x], axis=-1)
        ...     return h.sum()
        >>> ablation_cam(f, "features")(jnp.array([[[1.0], [0.0]]])).tolist()  # weights 1/4 and 3/4
        [[2.5, 0.0]]

    Source: Desai and Ramaswamy 2020, "Ablation-CAM", equations 3 and 4.
    """
    size = check.at_once(batch_size, "ablation_cam")
    return layer_map(
        MaskingMap, "ablation_cam", f, layer, relu, resize, normalize, grid, channel_axis, batch_axis, batch_size=size
    )
