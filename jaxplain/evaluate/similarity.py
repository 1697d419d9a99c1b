"""How alike two arrays are: correlation, rank correlation, structural similarity; all on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.program import as_function, public, wide_dtype
from jaxplain.types import Array, ArrayLike, Number, Pytree


@public
def pearson(a: ArrayLike, b: ArrayLike, *, where: Any = None) -> Array:
    """Pearson's correlation: r = sum_i u_i v_i / sqrt(sum_i u_i^2 sum_i v_i^2), u = a - mean a, v = b - mean b.

    Unchanged by shifts and by positive factors, however large or small.

    Args:
        a: An array of real numbers.
        b: Another of the same shape.
        where: Booleans of that shape, which elements count; None counts all.

    Returns:
        One number in [-1, 1]; NaN where either array is constant or holds NaN or infinities.

    Raises:
        ValueError: Shapes that differ.

    Example:
        >>> float(pearson(jnp.array([1.0, 2.0, 3.0]), jnp.array([2.0, 4.0, 6.0])))
        1.0
    """
    u, v, mask = _flat(a, b, where, "pearson")
    u, v = _centred(u, mask), _centred(v, mask)
    square = jnp.sum(u * u) * jnp.sum(v * v)
    r = jnp.sum(u * v) / jnp.sqrt(jnp.where(square > 0, square, 1.0))
    return jnp.where(square > 0, jnp.clip(r, -1.0, 1.0), jnp.nan * square)


@public
def spearman(a: ArrayLike, b: ArrayLike, *, where: Any = None) -> Array:
    """Spearman's rank correlation: Pearson's of the ranks, where equal values share the mean of their ranks.

    Args:
        a: An array of real numbers.
        b: Another of the same shape.
        where: Booleans of that shape, which elements count; None counts all.

    Returns:
        One number in [-1, 1]; NaN where either array is constant or holds NaN. Cost: two sorts.

    Raises:
        ValueError: Shapes that differ.

    Example:
        >>> float(spearman(jnp.array([1.0, 5.0, 5.0, 9.0]), jnp.array([0.0, 1.0, 1.0, 7.0])))
        1.0

    Source: Spearman 1904, "The proof and measurement of association between two things"; ties as in Kendall 1945.
    """
    u, v, mask = _flat(a, b, where, "spearman")
    bad = jnp.any(mask & (jnp.isnan(u) | jnp.isnan(v)))
    r = pearson(ranks(u, mask), ranks(v, mask), where=mask)
    return jnp.where(bad, jnp.nan, r)


def ranks(values: Array, where: Array | None = None) -> Array:
    """Ranks from 1, equal values sharing the mean of theirs; elements that do not count come last."""
    if where is not None:
        values = jnp.where(where, values, jnp.inf)
    ordered = jnp.sort(values)
    below, up_to = (jnp.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return (below + up_to + 1).astype(wide_dtype(values.dtype)) / 2


@public
def structural_similarity(
    a: ArrayLike,
    b: ArrayLike,
    *,
    data_range: Number | None = None,
    window: int = 7,
    sigma: float | None = None,
    k1: float = 0.01,
    k2: float = 0.03,
) -> Array:
    """The mean structural similarity of two maps.

    SSIM = mean over windows of (2 m_a m_b + C1)(2 s_ab + C2) / ((m_a^2 + m_b^2 + C1)(s_a^2 + s_b^2 + C2)), with m the
    means, s the (sample) variances and covariance in a window, C1 = (k1 L)^2 and C2 = (k2 L)^2. Only windows inside the
    map count. The maps are compared as they are: an attribution and its multiple are not alike, so bring both to one
    scale first where scale does not matter.

    Args:
        a: A map `[H, W]` or `[H, W, C]` (each channel by itself, then the mean), or a sequence `[T]`.
        b: Another of the same shape.
        data_range: L, the range of possible values; None takes the range of both maps together.
        window: Side of the square window, odd (without `sigma`).
        sigma: Standard deviation of a Gaussian window instead, in pixels, cut off at 3.5 sigma, with the plain
            variance; a Python number, since it sets the window's size.
        k1: Of the means' constant.
        k2: Of the variances' constant.

    Returns:
        One number, at most 1, which is reached by equal maps (of two maps that are constant and equal it is 1);
        NaN where the maps hold NaN.

    Raises:
        ValueError: Shapes that differ, an even window, or one larger than the map.

    Example:
        >>> image = jnp.arange(64.0).reshape(8, 8)
        >>> float(structural_similarity(image, image))
        1.0

    Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", equation 13.
    """
    name = "structural_similarity"
    a, b = check.real(jnp.asarray(a), name, "a"), check.real(jnp.asarray(b), name, "b")
    if a.shape != b.shape or a.ndim not in (1, 2, 3):
        raise ValueError(
            f"{name}: `a` and `b` have the shapes {a.shape} and {b.shape}; pass two of one shape [H, W(, C)]."
        )
    for value, argument in ((data_range, "data_range"), (k1, "k1"), (k2, "k2"), (sigma, "sigma")):
        if value is not None:
            check.one_number(value, name, argument, zero=argument[0] == "k")
    side = check.count(window, name, "window") if sigma is None else 2 * int(3.5 * float(sigma) + 0.5) + 1
    axes = tuple(range(min(a.ndim, 2)))
    if side % 2 == 0 or any(a.shape[axis] < side for axis in axes):
        made = "" if sigma is None else " that `sigma` makes, seven times as wide,"
        raise ValueError(f"{name}: the `window` of {side}{made} has to be odd and fit into maps of shape {a.shape}.")
    dtype = wide_dtype(jnp.result_type(a, b))
    a, b = a.astype(dtype), b.astype(dtype)
    if data_range is None:
        data_range = jnp.maximum(a.max(), b.max()) - jnp.minimum(a.min(), b.min())
        data_range = jnp.where(data_range > 0, data_range, 1.0)
    offset = jnp.arange(side, dtype=dtype) - side // 2
    weights = jnp.ones(side, dtype) / side if sigma is None else jax.nn.softmax(-0.5 * jnp.square(offset / sigma))
    sample = side ** len(axes) / (side ** len(axes) - 1) if sigma is None else 1.0

    def local(values: Array) -> Array:
        for axis in axes:
            values = _filtered(values, weights, axis)
        return values

    middle_a, middle_b = a.mean(), b.mean()  # variances do not depend on them, and lose no digits without them
    u, v = a - middle_a, b - middle_b
    mean_u, mean_v = local(u), local(v)
    variance_a, variance_b = sample * (local(u * u) - mean_u**2), sample * (local(v * v) - mean_v**2)
    covariance = sample * (local(u * v) - mean_u * mean_v)
    mean_a, mean_b = mean_u + middle_a, mean_v + middle_b
    c1, c2 = (k1 * data_range) ** 2, (k2 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return jnp.mean(luminance * (2 * covariance + c2) / (variance_a + variance_b + c2))


def _filtered(values: Array, weights: Array, axis: int) -> Array:
    """Weighted sums over all windows that fit, along one axis: a product with a banded matrix."""
    length, side = values.shape[axis], weights.size
    place = jnp.arange(length)[None, :] - jnp.arange(length - side + 1)[:, None]
    band = jnp.where((place >= 0) & (place < side), weights[jnp.clip(place, 0, side - 1)], 0.0)
    return jnp.moveaxis(jnp.tensordot(band, values, (1, axis), precision=lax.Precision.HIGHEST), 0, axis)


def _flat(a: Any, b: Any, where: Any, name: str) -> tuple[Array, Array, Array]:
    if where is not None:
        check.arrays(where, name, "where")
    a, b = check.real(jnp.asarray(a), name, "a"), check.real(jnp.asarray(b), name, "b")
    if a.shape != b.shape or a.size == 0 or (where is not None and jnp.shape(where) != a.shape):
        shapes = f"{a.shape} and {b.shape}" + ("" if where is None else f", `where` {jnp.shape(where)}")
        raise ValueError(
            f"{name}: `a` and `b` have the shapes {shapes}; they have to be the same, with an element at least."
        )
    dtype = wide_dtype(jnp.result_type(a, b, jnp.bfloat16))
    mask = jnp.ones(a.size, bool) if where is None else jnp.asarray(where).reshape(-1)
    return a.reshape(-1).astype(dtype), b.reshape(-1).astype(dtype), mask


def _centred(values: Array, mask: Array) -> Array:
    """Values minus their mean, scaled to at most 1; exactly zero where they are constant."""
    low = jnp.min(jnp.where(mask, values, jnp.inf))
    high = jnp.max(jnp.where(mask, values, -jnp.inf))
    # The middle of equal numbers is that number, to the last bit; their mean need not be.
    shifted = jnp.where(mask, values - (low / 2 + high / 2), 0.0)
    shifted = _scaled(shifted)
    centred = jnp.where(mask, shifted - jnp.sum(shifted) / jnp.sum(mask), 0.0)
    return _scaled(centred)


def _scaled(values: Array) -> Array:
    largest = jnp.max(jnp.abs(values))
    return values / jnp.where(largest > 0, largest, 1.0)


def absolute_spearman(a: Any, b: Any) -> Array:
    """Spearman's rank correlation of the absolute values."""
    return spearman(jnp.abs(jnp.asarray(a)), jnp.abs(jnp.asarray(b)))


SIMILARITIES: dict[str, Callable[..., Array]] = {
    "pearson": pearson,
    "spearman": spearman,
    "absolute_spearman": absolute_spearman,
    "structural_similarity": structural_similarity,
}


def as_similarity(similarity: Any, name: str) -> Any:
    """A similarity of two attributions: a word, or a function of two arrays."""
    if isinstance(similarity, str):
        return as_function(SIMILARITIES[check.choice(similarity, tuple(SIMILARITIES), name, "similarity")])
    return as_function(check.function(similarity, name, "similarity", "(a, b) -> number, or its name"))


def alike(similarity: Any, a: Pytree, b: Pytree) -> Array:
    """The similarity of two attributions; the leaves of pytrees are laid end to end."""
    for value, argument in ((a, "a"), (b, "b")):
        check.real_leaves(value, "similarity", argument)
    left, right = (jax.tree.leaves(check.answered(value, "similarity", "e")) for value in (a, b))
    if len(left) > 1:
        left, right = ([jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])] for leaves in (left, right))
    return check.answered(similarity(left[0], right[0]), "similarity", "similarity")
