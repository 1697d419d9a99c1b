"""Class activation maps from a layer's values and gradients: CAM, Grad-CAM, Grad-CAM++, HiResCAM, XGrad-CAM, LayerCAM.

One forward pass, one backward pass down to the layer, and a few sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.explain.cam.layer_map import Grid, LayerMap, Resize, layer_map
from jaxplain.internals import Places
from jaxplain.program import public, value_and_gradient, widen
from jaxplain.program.trace import depends
from jaxplain.types import Array, Pytree


class GradientMap(LayerMap):
    """A map made of a layer's values and gradients. Made by `grad_cam` and the functions like it."""

    def signed(self, h: Array, where: Places, x: Pytree, *args: Any) -> Array:
        """The signed map at the layer's own size."""
        return _MAPS[self.name](where.arrange(widen(h)), self.slopes(h, where, x, *args))


class PooledMap(LayerMap):
    """The map of a network that ends in global pooling and a linear layer. Made by `class_activation_map`."""

    def signed(self, h: Array, where: Places, x: Pytree, *args: Any) -> Array:
        """The signed map at the layer's own size; NaN where no weights exist and that could not be raised."""
        path = self.body.path
        if depends(lambda h: value_and_gradient(self.head, h, x, *args, name=self.name)[1], h):
            raise ValueError(
                f"{self.name}: what follows {path!r} is not linear, so its weights do not exist. Choose the layer "
                "right before the global average pooling of a network that ends in one dense layer, and score a logit; "
                "`grad_cam` has no such needs."
            )
        slopes = self.slopes(h, where, x, *args)
        axes = _space(slopes)
        uneven = jnp.max(jnp.abs(slopes - slopes.mean(axis=axes, keepdims=True))) > 1e-4 * jnp.max(jnp.abs(slopes))
        if check.is_concrete(uneven) and uneven:
            raise ValueError(
                f"{self.name}: what follows {path!r} weighs its places differently, so it is no global pooling. Choose "
                "the layer right before the pooling, or use `hires_cam`, which is the same where there is one."
            )
        weighted = where.arrange(widen(h)) * slopes.sum(axis=axes, keepdims=True)
        return jnp.where(uneven, jnp.nan, weighted.sum(axis=-1))


def _space(values: Array) -> tuple[int, ...]:
    return tuple(range(values.ndim - 1))


def _grad_cam(values: Array, slopes: Array) -> Array:
    return (values * slopes.mean(axis=_space(slopes), keepdims=True)).sum(axis=-1)


def _grad_cam_plus_plus(values: Array, slopes: Array) -> Array:
    # The source's g^2 / (2 g^2 + g^3 sum(A)) with g^2 cancelled, so that small gradients count like large ones.
    positive = slopes > 0
    below = 2 + slopes * values.sum(axis=_space(values), keepdims=True)
    shares = jnp.where(positive, slopes, 0) / jnp.where(positive, below, 1)
    return (values * shares.sum(axis=_space(values), keepdims=True)).sum(axis=-1)


def _hires_cam(values: Array, slopes: Array) -> Array:
    return (values * slopes).sum(axis=-1)


def _xgrad_cam(values: Array, slopes: Array) -> Array:
    axes = _space(values)
    silent = jnp.all(values == 0, axis=axes, keepdims=True)  # such a channel adds nothing, whatever its weight
    total = jnp.where(silent, 1, values.sum(axis=axes, keepdims=True))
    return (values * ((values * slopes).sum(axis=axes, keepdims=True) / total)).sum(axis=-1)


def _layer_cam(values: Array, slopes: Array) -> Array:
    return (values * jax.nn.relu(slopes)).sum(axis=-1)


_MAPS: dict[str, Callable[[Array, Array], Array]] = {
    "grad_cam": _grad_cam,
    "grad_cam_plus_plus": _grad_cam_plus_plus,
    "hires_cam": _hires_cam,
    "xgrad_cam": _xgrad_cam,
    "layer_cam": _layer_cam,
}


@public
def grad_cam(
    f: Callable[..., Any],
    layer: str,
    *,
    relu: bool = True,
    resize: Resize = True,
    normalize: bool = False,
    grid: Grid = None,
    channel_axis: int = -1,
    batch_axis: int | Literal["auto"] | None = "auto",
) -> LayerMap:
    """Where a layer's channels speak for the score: channels weighted by their mean gradient.

    L = ReLU(sum_k w_k A_k) with w_k = 1/Z sum over places p of df/dA_k,p, for the layer's values A_k,p of channel k at
    Z places. Nothing is normalised, so maps of different examples can be compared.

    Args:
        f: A score, `f(x, *args) -> scalar`; logits rather than probabilities, whose gradients vanish at 0 and 1.
        layer: The path of a layer, as in `capture`, with values `[H, W, C]` for one example (one to three spatial
            axes), or tokens `[T, D]`. `print(jaxplain.layers(f)(x, ...))` lists them.
        relu: Keep what is positive; False keeps the signed map.
        resize: True interpolates to the input's size (linearly along each axis, half-pixel centres), False keeps the
            layer's own size, and a tuple such as (224, 224) is the size to interpolate to.
        normalize: Divide the finished map by its largest absolute value (a map of zeros stays zero).
        grid: The grid of tokens, row-major, such as (14, 14); leading tokens beyond it (class, register) are dropped.
            None infers it where `x` is an image `[H, W, C]` or a volume and the layer holds tokens: the grid of the
            input's proportions, with at most one class token.
        channel_axis: The axis of the channels, in the layer and in an `x` of as many axes: 0 for `[C, H, W]`. Of an
            image whose channels lie at the other end (up to four of them) the right axes are taken, and where the
            layer's may lie there as well it is refused.
        batch_axis: As in `split`.

    Returns:
        `e(x, *args) -> map` of the input's spatial shape without its channels (`[H, W]`), in units of the score, in the
        layer's dtype and summed in float32 or wider. Cost: one forward pass, and a backward pass down to the layer.

    Raises:
        ValueError: A layer that does not exist or has no spatial axes, tokens that fit no grid, an input whose size
            cannot be told, NaN in a concrete `x`.
        TypeError: A layer of integers, a setting of the wrong type.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("features"):
        ...         h = jnp.concatenate([x, -x], axis=-1)
        ...     return (h.mean((0, 1)) * jnp.array([4.0, 0.0])).sum()
        >>> grad_cam(f, "features")(jnp.array([[[1.0], [-1.0]]])).tolist()
        [[2.0, 0.0]]

    Source: Selvaraju et al. 2017, "Grad-CAM", equations 1 and 2.
    """
    return layer_map(GradientMap, "grad_cam", f, layer, relu, resize, normalize, grid, channel_axis, batch_axis)


@public
def class_activation_map(
    f: Callable[..., Any],
    layer: str,
    *,
    relu: bool = True,
    resize: Resize = True,
    normalize: bool = False,
    grid: Grid = None,
    channel_axis: int = -1,
    batch_axis: int | Literal["auto"] | None = "auto",
) -> LayerMap:
    """The original class activation map, of networks that end in global average pooling and one dense layer.

    M = sum_k w_k A_k, with the weight w_k from the pooled channel k to the scored output, found as the sum of the
    gradient over places. With relu=False the map's mean is f(x) without the last bias.

    Args:
        f: As in `grad_cam`; it has to be linear in the layer (a logit).
        layer: The layer right before the pooling.
        relu: As in `grad_cam` (the source has no ReLU: relu=False is its map).
        resize: As in `grad_cam`.
        normalize: As in `grad_cam`.
        grid: As in `grad_cam`.
        channel_axis: As in `grad_cam`.
        batch_axis: As in `split`.

    Returns:
        As `grad_cam`. Cost: as `grad_cam`. Where the head is linear but weighs places differently, a plain call raises;
        inside a transformation, where weights cannot be read, the map is NaN.

    Raises:
        ValueError: What follows the layer is not linear, or no pooling; and as in `grad_cam`.
        TypeError: As in `grad_cam`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("features"):
        ...         h = 2 * x
        ...     return h.mean() + 1
        >>> class_activation_map(f, "features", relu=False)(jnp.array([[[1.0], [-1.0]]])).tolist()
        [[2.0, -2.0]]

    Source: Zhou et al. 2016, "Learning deep features for discriminative localization", equation 2.
    """
    return layer_map(
        PooledMap, "class_activation_map", f, layer, relu, resize, normalize, grid, channel_axis, batch_axis
    )


@public
def grad_cam_plus_plus(
    f: Callable[..., Any],
    layer: str,
    *,
    relu: bool = True,
    resize: Resize = True,
    normalize: bool = False,
    grid: Grid = None,
    channel_axis: int = -1,
    batch_axis: int | Literal["auto"] | None = "auto",
) -> LayerMap:
    """Grad-CAM with weights that count each occurrence of a feature: only positive gradients, weighted place by place.

    L = ReLU(sum_k w_k A_k), w_k = sum_p a_k,p ReLU(g_k,p), a_k,p = g^2 / (2 g^2 + g^3 sum_q A_k,q) = 1 / (2 + g sum_q
    A_k,q), with g = df/dA. The source scores exp(f); its gradient is exp(f) g, and the common factor exp(f), which
    overflows, is left out: it changes no map but by scale. Meant for layers after a ReLU (A >= 0), where 2 + g sum A is
    at least 2.

    Args:
        f: As in `grad_cam`, a logit.
        layer: As in `grad_cam`.
        relu: As in `grad_cam`.
        resize: As in `grad_cam`.
        normalize: As in `grad_cam`.
        grid: As in `grad_cam`.
        channel_axis: As in `grad_cam`.
        batch_axis: As in `split`.

    Returns:
        As `grad_cam`. Cost: as `grad_cam`.

    Raises:
        ValueError, TypeError: As in `grad_cam`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("features"):
        ...         h = jax.nn.relu(x)
        ...     return 2 * h.sum()
        >>> grad_cam_plus_plus(f, "features")(jnp.array([[[1.0], [0.0]]])).tolist()  # 2 places of 2 / (2 + 2 * 1)
        [[1.0, 0.0]]

    Source: Chattopadhay et al. 2018, "Grad-CAM++", equations 5, 7 and 19.
    """
    return layer_map(
        GradientMap, "grad_cam_plus_plus", f, layer, relu, resize, normalize, grid, channel_axis, batch_axis
    )


@public
def hires_cam(
    f: Callable[..., Any],
    layer: str,
    *,
    relu: bool = True,
    resize: Resize = True,
    normalize: bool = False,
    grid: Grid = None,
    channel_axis: int = -1,
    batch_axis: int | Literal["auto"] | None = "auto",
) -> LayerMap:
    """The gradient times the layer, place by place: L = ReLU(sum_k A_k * df/dA_k).

    Where the head is linear, the signed map at the layer's size (relu=False, resize=False) sums to f(x) without biases,
    and shows where the score comes from; Grad-CAM, which averages gradients first, does not.

    Args:
        f: As in `grad_cam`.
        layer: As in `grad_cam`.
        relu: As in `grad_cam`.
        resize: As in `grad_cam`.
        normalize: As in `grad_cam`.
        grid: As in `grad_cam`.
        channel_axis: As in `grad_cam`.
        batch_axis: As in `split`.

    Returns:
        As `grad_cam`. Cost: as `grad_cam`.

    Raises:
        ValueError, TypeError: As in `grad_cam`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("features"):
        ...         h = 2 * x
        ...     return h[0, 0, 0]
        >>> hires_cam(f, "features")(jnp.array([[[1.0], [5.0]]])).tolist()
        [[2.0, 0.0]]

    Source: Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful explanations", section 3.
    """
    return layer_map(GradientMap, "hires_cam", f, layer, relu, resize, normalize, grid, channel_axis, batch_axis)


@public
def xgrad_cam(
    f: Callable[..., Any],
    layer: str,
    *,
    relu: bool = True,
    resize: Resize = True,
    normalize: bool = False,
    grid: Grid = None,
    channel_axis: int = -1,
    batch_axis: int | Literal["auto"] | None = "auto",
) -> LayerMap:
    """Grad-CAM with gradients averaged by activation: w_k = sum_p A_k,p / (sum_q A_k,q) df/dA_k,p.

    The weights that come closest to both of the source's axioms (sensitivity, conservation). A channel that is zero
    everywhere adds nothing; one whose values cancel to a sum of zero has no weight, and gives infinities or NaN.

    Args:
        f: As in `grad_cam`.
        layer: As in `grad_cam`, best after a ReLU.
        relu: As in `grad_cam`.
        resize: As in `grad_cam`.
        normalize: As in `grad_cam`.
        grid: As in `grad_cam`.
        channel_axis: As in `grad_cam`.
        batch_axis: As in `split`.

    Returns:
        As `grad_cam`. Cost: as `grad_cam`.

    Raises:
        ValueError, TypeError: As in `grad_cam`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("features"):
        ...         h = jax.nn.relu(x)
        ...     return h[0, 0, 0]
        >>> xgrad_cam(f, "features")(jnp.array([[[1.0], [3.0]]])).tolist()  # the weight is 1/4
        [[0.25, 0.75]]

    Source: Fu et al. 2020, "Axiom-based Grad-CAM", equation 8.
    """
    return layer_map(GradientMap, "xgrad_cam", f, layer, relu, resize, normalize, grid, channel_axis, batch_axis)


@public
def layer_cam(
    f: Callable[..., Any],
    layer: str,
    *,
    relu: bool = True,
    resize: Resize = True,
    normalize: bool = False,
    grid: Grid = None,
    channel_axis: int = -1,
    batch_axis: int | Literal["auto"] | None = "auto",
) -> LayerMap:
    """Each place weighted by its own positive gradient: L = ReLU(sum_k ReLU(df/dA_k) * A_k). For early layers too.

    Args:
        f: As in `grad_cam`.
        layer: As in `grad_cam`.
        relu: As in `grad_cam`.
        resize: As in `grad_cam`.
        normalize: As in `grad_cam`.
        grid: As in `grad_cam`.
        channel_axis: As in `grad_cam`.
        batch_axis: As in `split`.

    Returns:
        As `grad_cam`. Cost: as `grad_cam`.

    Raises:
        ValueError, TypeError: As in `grad_cam`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("features"):
        ...         h = jax.nn.relu(x)
        ...     return h[0, 0, 0] - h[0, 1, 0]
        >>> layer_cam(f, "features")(jnp.array([[[1.0], [3.0]]])).tolist()
        [[1.0, 0.0]]

    Source: Jiang et al. 2021, "LayerCAM: exploring hierarchical class activation maps", equations 5 to 7.
    """
    return layer_map(GradientMap, "layer_cam", f, layer, relu, resize, normalize, grid, channel_axis, batch_axis)
