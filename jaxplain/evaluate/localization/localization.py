"""Localization: does the attribution lie where the object is?"""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp

from jaxplain import check
from jaxplain.evaluate.metric import Metric
from jaxplain.evaluate.similarity import ranks
from jaxplain.program import public, setting, wide_dtype
from jaxplain.types import Array, ArrayLike


class Localization(Metric):
    """Attribution against a mask: `m(attribution, mask)`. Made by the functions below."""

    takes: ClassVar[tuple[str, ...]] = ("attribution", "mask")
    name: str = setting(default="pointing_game")
    tolerance: int = setting(default=0)
    count: int | None = setting(default=None)
    weighted: bool = setting(default=False)

    @property
    def better(self) -> str:
        """Which values are better."""
        return "higher"

    def __call__(self, attribution: Any, mask: Any) -> Array:
        """Judge one attribution: `m(attribution, mask)`."""
        a, inside = fitted(attribution, mask, self.name)
        value = _MEASURES[self.name](self, a, inside)
        return jnp.where(jnp.isnan(a).any() | ~inside.any(), jnp.nan, value)


def fitted(attribution: Any, mask: Any, name: str) -> tuple[Array, Array]:
    """An attribution and a mask of one shape: channels are summed where one of them has none."""
    a, inside = check.real(jnp.asarray(attribution), name, "attribution"), jnp.asarray(mask)
    if not (inside.dtype == jnp.bool_ or jnp.issubdtype(inside.dtype, jnp.integer)):
        raise TypeError(f"{name}: `mask` has dtype {inside.dtype}; it has to be boolean, for example `mask > 0`.")
    a, inside = a.astype(wide_dtype(jnp.result_type(a, jnp.bfloat16))), inside != 0
    if a.ndim == inside.ndim + 1 and a.shape[:-1] == inside.shape:
        a = a.sum(axis=-1)
    elif inside.ndim == a.ndim + 1 and inside.shape[:-1] == a.shape:
        inside = inside.any(axis=-1)
    if a.shape != inside.shape or a.size == 0:
        raise ValueError(
            f"{name}: the attribution has shape {jnp.shape(attribution)} and the mask {jnp.shape(mask)}; pass "
            "one shape, or one of them without its channels ([H, W]); batches are `jax.vmap`."
        )
    return a, inside


def _ratio(above: Array, below: Array, defined: Array) -> Array:
    return jnp.where(defined, above / jnp.where(defined, below, 1.0), jnp.nan)


def _pointing(m: Localization, a: Array, inside: Array) -> Array:
    wide = inside
    if m.tolerance:
        if a.ndim != 2:
            raise ValueError(
                f"{m.name}: a tolerance needs maps [H, W], not of shape {a.shape}; sum over channels first."
            )
        wide = _dilated(inside, m.tolerance)
    tops = a == a.max()
    return jnp.sum(tops & wide) / jnp.sum(tops)


def _dilated(inside: Array, radius: int) -> Array:
    """Pixels at most `radius` (Euclidean) away from the mask."""
    padded = jnp.pad(inside, radius)
    height, width = inside.shape
    reach = range(-radius, radius + 1)
    near = jnp.zeros(inside.shape, bool)
    for i in reach:
        for j in reach:
            if i * i + j * j <= radius * radius:
                near = near | padded[radius + i : radius + i + height, radius + j : radius + j + width]
    return near


def _positive_inside(m: Localization, a: Array, inside: Array) -> Array:
    positive = jnp.maximum(a, 0.0)
    positive = positive / jnp.where(positive.max() > 0, positive.max(), 1.0)
    total = positive.sum()
    share = _ratio(jnp.sum(jnp.where(inside, positive, 0.0)), total, total > 0)
    return share * inside.size / jnp.maximum(inside.sum(), 1) if m.weighted else share


def _mass(m: Localization, a: Array, inside: Array) -> Array:
    scaled = a / jnp.where(jnp.abs(a).max() > 0, jnp.abs(a).max(), 1.0)
    total = scaled.sum()
    return _ratio(jnp.sum(jnp.where(inside, scaled, 0.0)), total, total != 0)


def _top(a: Array, inside: Array, count: Any) -> Array:
    """The share of the `count` largest values that lie inside; where values tie at the border, the expected share."""
    flat, mask = a.reshape(-1), inside.reshape(-1)
    border = jnp.sort(flat)[flat.size - count]
    above, level = flat > border, flat == border
    left = count - above.sum()
    return (jnp.sum(above & mask) + left * jnp.sum(level & mask) / jnp.maximum(level.sum(), 1)) / count


def _top_k(m: Localization, a: Array, inside: Array) -> Array:
    if m.count is None or m.count > a.size:
        raise ValueError(f"{m.name}: `k` is {m.count}, but the attribution has {a.size} values.")
    return _top(a, inside, m.count)


def _rank_accuracy(m: Localization, a: Array, inside: Array) -> Array:
    return _top(a, inside, jnp.maximum(inside.sum(), 1))


def _auc(m: Localization, a: Array, inside: Array) -> Array:
    rank, mask = ranks(a.reshape(-1)), inside.reshape(-1)
    positive = mask.sum().astype(rank.dtype)
    negative = mask.size - positive
    wins = jnp.sum(jnp.where(mask, rank, 0.0)) - positive * (positive + 1) / 2
    return _ratio(wins, positive * negative, (positive > 0) & (negative > 0))


_MEASURES = {
    "pointing_game": _pointing,
    "attribution_localization": _positive_inside,
    "focus": _positive_inside,
    "top_k_intersection": _top_k,
    "relevance_mass_accuracy": _mass,
    "relevance_rank_accuracy": _rank_accuracy,
    "roc_auc": _auc,
}


@public
def pointing_game(*, tolerance: int = 0) -> Localization:
    """Whether the largest attribution lies on the object: 1 or 0; higher is better.

    Where several values share the maximum, the share of them that lies on the object: the chance that one picked at
    random does. A constant map so gets the object's share of the area.

    Args:
        tolerance: By how many pixels (Euclidean) a miss still counts as a hit; the source allows 15.

    Returns:
        `m(attribution, mask) -> hit`. The attribution is `[H, W]`, or `[H, W, C]`, of which the signed channel sum is
        taken where the mask is `[H, W]`; other inputs as they are. The mask is boolean (or integers, not 0 inside). NaN
        for an empty mask or an attribution with NaN; a mask that covers everything is always hit. Cost: no model pass.

    Raises:
        ValueError: Shapes that do not fit, a tolerance on anything but maps.
        TypeError: A mask of floating-point numbers.

    Example:
        >>> float(pointing_game()(jnp.array([[0.0, 2.0], [1.0, 0.0]]), jnp.array([[False, True], [False, False]])))
        1.0

    Source: Zhang et al. 2018, "Top-down neural attention by excitation backprop", section 4.1.
    """
    return Localization("pointing_game", check.count(tolerance, "pointing_game", "tolerance", 0))


@public
def attribution_localization(*, weighted: bool = False) -> Localization:
    """The share of the positive attribution that lies on the object; higher is better.

    mu = sum_(inside) max(a, 0) / sum max(a, 0); weighted by size, mu times the area over the object's area.

    Args:
        weighted: Whether to divide by the object's share of the area, which an attribution without regard to the object
            has on average: then 1 is chance.

    Returns:
        `m(attribution, mask) -> mu`, one number in [0, 1] (from 0 up if weighted), unchanged by positive factors;
        inputs as in `pointing_game`. NaN for an empty mask and where nothing is positive. Cost: no model pass.

    Raises:
        ValueError, TypeError: As in `pointing_game`.

    Example:
        >>> float(attribution_localization()(jnp.array([3.0, 1.0, -5.0]), jnp.array([True, False, False])))
        0.75

    Source: Kohlbrenner et al. 2020, "Towards best practice in explaining neural network decisions with LRP",
    section on the inside-total relevance ratio.
    """
    return Localization("attribution_localization", weighted=bool(weighted))


@public
def focus() -> Localization:
    """The share of the positive attribution that lies on the target's tiles of a mosaic; higher is better.

    As `attribution_localization` with the tiles of the explained class as the mask: see `mosaic`. Chance is a half
    where half of the tiles show the class.

    Returns:
        `m(attribution, mask) -> focus`, one number in [0, 1]; NaN for an empty mask and where nothing is positive.
        Cost: no model pass.

    Raises:
        ValueError, TypeError: As in `pointing_game`.

    Example:
        >>> image, tiles = mosaic(jnp.ones((4, 2, 2, 1)), jnp.array([True, False, False, True]))
        >>> float(focus()(image, tiles))
        0.5

    Source: Arias-Duart et al. 2022, "Focus! Rating XAI methods and finding biases", equation 1.
    """
    return Localization("focus")


@public
def mosaic(images: ArrayLike, target: ArrayLike) -> tuple[Array, Array]:
    """Lay four images out as a mosaic of two by two, with the mask of the target's tiles.

    Args:
        images: `[4, H, W, C]`: upper left, upper right, lower left, lower right.
        target: `[4]`, booleans: which of them show the class that will be explained; the source has two.

    Returns:
        (mosaic `[2 H, 2 W, C]`, mask `[2 H, 2 W]`).

    Raises:
        ValueError: Anything but four images.

    Example:
        >>> mosaic(jnp.ones((4, 2, 3, 1)), jnp.array([True, False, False, True]))[1].sum()
        Array(12, dtype=int32)

    Source: Arias-Duart et al. 2022, section 3.
    """
    images, target = jnp.asarray(images), jnp.asarray(target, bool)
    if images.ndim != 4 or images.shape[0] != 4 or target.shape != (4,):
        raise ValueError(
            f"mosaic: pass four `images` [4, H, W, C] and a `target` of [4] booleans, not {images.shape} and "
            f"{target.shape}."
        )
    _, height, width, channels = images.shape
    rows = images.reshape(2, 2, height, width, channels).transpose(0, 2, 1, 3, 4)
    mask = jnp.broadcast_to(target.reshape(2, 1, 2, 1), (2, height, 2, width))
    return rows.reshape(2 * height, 2 * width, channels), mask.reshape(2 * height, 2 * width)


@public
def top_k_intersection(k: int) -> Localization:
    """The share of the k largest attributions that lies on the object; higher is better.

    Where values tie at the k-th place, the expected share over which of them are taken.

    Args:
        k: How many values.

    Returns:
        `m(attribution, mask) -> share`, one number in [0, 1]; inputs as in `pointing_game`. NaN for an empty mask. An
        object of fewer than k pixels cannot reach 1. Cost: one sort, no model pass.

    Raises:
        ValueError, TypeError: As in `pointing_game`; k below 1 or above the number of values.

    Example:
        >>> float(top_k_intersection(2)(jnp.array([3.0, 2.0, 1.0]), jnp.array([True, False, True])))
        0.5

    Source: Theiner, Müller-Budack and Ewerth 2022, "Interpretable semantic photo geolocation", section 3.
    """
    return Localization("top_k_intersection", count=check.count(k, "top_k_intersection", "k"))


@public
def relevance_mass_accuracy() -> Localization:
    """The share of the attribution's sum that lies on the object; higher is better.

    sum_(inside) a / sum a, of signed values as they are. The source pools the channels to values that are never
    negative first; negative values can make the share fall outside [0, 1].

    Returns:
        `m(attribution, mask) -> share`, unchanged by factors; inputs as in `pointing_game`. NaN for an empty mask and
        where the sum is 0. A uniform map gets the object's share of the area. Cost: no model pass.

    Raises:
        ValueError, TypeError: As in `pointing_game`.

    Example:
        >>> float(relevance_mass_accuracy()(jnp.array([3.0, 1.0]), jnp.array([True, False])))
        0.75

    Source: Arras, Osman and Samek 2022, "CLEVR-XAI: a benchmark dataset for the ground truth evaluation of neural
    network explanations", section 3.3.
    """
    return Localization("relevance_mass_accuracy")


@public
def relevance_rank_accuracy() -> Localization:
    """The share of the K largest attributions that lies on the object of K pixels; higher is better.

    `top_k_intersection` with k the size of the mask, ties as there.

    Returns:
        `m(attribution, mask) -> share`, one number in [0, 1]; inputs as in `pointing_game`. NaN for an empty mask.
        Cost: one sort, no model pass.

    Raises:
        ValueError, TypeError: As in `pointing_game`.

    Example:
        >>> float(relevance_rank_accuracy()(jnp.array([3.0, 2.0, 1.0]), jnp.array([True, False, True])))
        0.5

    Source: Arras, Osman and Samek 2022, section 3.3.
    """
    return Localization("relevance_rank_accuracy")


@public
def roc_auc() -> Localization:
    """The chance that a value on the object is larger than one beside it (ties count half); higher is better.

    The area under the receiver operating characteristic of the attribution as a detector of the mask: 0.5 is chance and
    what a constant map gets.

    Returns:
        `m(attribution, mask) -> area`, one number in [0, 1], unchanged by any increasing function of the attribution;
        inputs as in `pointing_game`. NaN for a mask that is empty or covers everything. Cost: one sort, no model pass.

    Raises:
        ValueError, TypeError: As in `pointing_game`.

    Example:
        >>> float(roc_auc()(jnp.array([3.0, 1.0, 2.0]), jnp.array([True, False, False])))
        1.0

    Source: Fawcett 2006, "An introduction to ROC analysis", section 7.
    """
    return Localization("roc_auc")
