"""Tetrominoes on backgrounds of noise (XAI-TRIS): classes whose deciding pixels are known, four ways to show them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.data.splits import Dataset
from jaxplain.program import public
from jaxplain.types import Array

SCENARIOS = ("linear", "multiplicative", "translation_rotation", "xor")
BACKGROUNDS = ("white", "correlated")

_SHAPES = {"t": ((1, 0), (1, 1), (1, 0)), "l": ((1, 0), (1, 0), (1, 1))}
_PLACES = ((1, 1), (4, 5))
"""Row and column of the T and of the L on 8x8 pixels."""

_SIGNAL = {
    (8, "white"): (0.18, 0.7, 0.65, 0.35),
    (8, "correlated"): (0.0125, 0.1, 0.2, 0.15),
    (64, "white"): (0.03, 0.65, 0.575, 0.075),
    (64, "correlated"): (0.02, 0.05, 0.375, 0.03),
}
"""The source's alpha for each scenario."""

_BLUR = {8: 3.0, 64: 10.0}
"""Standard deviation in pixels of the filter that makes a background correlated."""

_EDGE, _VISIBLE = 1.5, 0.05
"""On 64x64 pixels, the blur of a tetromino's edge; and from which of its values on a pixel belongs to it."""


@public
def tetrominoes(
    key: Array,
    examples: int = 1000,
    *,
    scenario: str = "linear",
    background: str = "white",
    size: int = 8,
    signal: float | None = None,
) -> Dataset:
    """Draw images of a T or an L on noise, of which it is known which pixels say the class (XAI-TRIS).

    With p the tetromino's pattern (1 on it) and b normal noise, both divided by their norm over the whole set:

    * linear: class 0 is a T at the upper left, class 1 an L at the lower right; x = alpha p + (1 - alpha) b;
    * multiplicative: the same, x = (1 - alpha p) b, the factor divided by its norm: a tetromino dims the noise;
    * translation_rotation: a T or an L anywhere, turned by any quarters; x as in linear;
    * xor: both, each added or taken away; class 0 has equal signs, class 1 has different ones; x as in linear.

    Then everything is divided by the largest absolute value. A correlated background is white noise under a Gaussian
    filter, so pixels beside a tetromino say which background is under it: they are suppressors, which a model has to
    weigh although they carry nothing of the class.

    Args:
        key: PRNG key.
        examples: Number of images N, at least 2; classes are equally frequent.
        scenario: "linear", "multiplicative", "translation_rotation" or "xor", as above.
        background: "white" or "correlated".
        size: Side of the images in pixels. On 8x8 a tetromino has 4 pixels; on 64x64 each of them is a square with a
            blurred edge (of 8x8 pixels, and of 4x4 in translation_rotation).
        signal: alpha, between 0 and 1; None takes the source's for the scenario, background and size.

    Returns:
        The set: images `[N, size, size, 1]` float32 in [-1, 1], labels `[N]`, and as `truth` `[N, size, size, 1]` the
        pixels that say the class: those of the T and of the L in scenarios where these have fixed places (that one is
        not there says as much), those of the image's own tetromino otherwise.

    Raises:
        ValueError, TypeError: Settings that are none of these.

    Example:
        >>> data = tetrominoes(jax.random.key(0), 10, scenario="xor", background="correlated")
        >>> data.inputs.shape, int(data.truth[0].sum()), int(data.targets.sum())
        ((10, 8, 8, 1), 8, 5)

    Source: Clark, Wilming and Haufe 2024, "XAI-TRIS: non-linear image benchmarks to quantify false positive post-hoc
    attribution of feature importance", section on data generation; alphas, places and filters from its published
    configuration. Images are float32 here and float16 there; the backgrounds of photographs are left out.
    """
    name = "tetrominoes"
    check.count(examples, name, "examples", 2)
    check.choice(scenario, SCENARIOS, name, "scenario")
    check.choice(background, BACKGROUNDS, name, "background")
    alpha = _checked_signal(signal, size, scenario, background, name)
    order, places, noise = jax.random.split(key, 3)
    number = jax.random.permutation(order, jnp.arange(examples, dtype=jnp.int32))
    patterns = _patterns(places, number, scenario, size)
    below = jax.random.normal(noise, (examples, size, size), jnp.float32)
    if background == "correlated":
        below = _blurred(below, _BLUR[size])
    below /= jnp.linalg.norm(below)
    if scenario == "multiplicative":
        factor = 1 - alpha * patterns
        images = factor / jnp.linalg.norm(factor) * below
    else:
        images = alpha * patterns / jnp.linalg.norm(patterns) + (1 - alpha) * below
    images /= jnp.abs(images).max()
    truth = jnp.abs(patterns) > _VISIBLE
    if scenario != "translation_rotation":
        truth = jnp.broadcast_to(sum(_fixed(size)) > _VISIBLE, truth.shape)
    arrays = (np.asarray(images)[..., None], np.asarray(number % 2, np.int32), np.asarray(truth)[..., None])
    classes = ("equal", "different") if scenario == "xor" else ("t", "l")
    return Dataset(*arrays, class_names=classes)


def _checked_signal(signal: float | None, size: int, scenario: str, background: str, name: str) -> float:
    if isinstance(size, bool) or size not in _BLUR:
        raise ValueError(f"{name}: `size` is {check.short(size)}; it has to be 8 or 64, for 8x8 or 64x64 pixels.")
    if signal is None:
        return _SIGNAL[size, background][SCENARIOS.index(scenario)]
    check.positive(signal, name, "signal")
    if not signal <= 1:
        raise ValueError(f"{name}: `signal` is {signal}; it is the tetromino's share, at most 1.")
    return float(signal)


def _shape(letter: str, thickness: int) -> np.ndarray:
    """A tetromino with squares of a side."""
    return np.kron(np.array(_SHAPES[letter], np.float32), np.ones((thickness, thickness), np.float32))


def _laid(shape: np.ndarray, row: int, column: int, size: int) -> np.ndarray:
    image = np.zeros((size, size), np.float32)
    image[row : row + shape.shape[0], column : column + shape.shape[1]] = shape
    return image


def _fixed(size: int) -> tuple[Array, Array]:
    """The T and the L at their places, `[size, size]` each."""
    unit = size // 8
    t, ell = (_laid(_shape(s, unit), unit * i, unit * j, size) for s, (i, j) in zip("tl", _PLACES, strict=True))
    return _edged(jnp.asarray(t)), _edged(jnp.asarray(ell))


def _edged(images: Array) -> Array:
    """Large tetrominoes with blurred edges."""
    return images if images.shape[-1] == 8 else _blurred(images, _EDGE)


def _patterns(key: Array, number: Array, scenario: str, size: int) -> Array:
    """The tetrominoes `[N, size, size]` of the examples with these numbers: even ones are of class 0."""
    if scenario == "translation_rotation":
        return _anywhere(key, number % 2, size)
    t, ell = _fixed(size)
    if scenario == "xor":
        one = jnp.where(number // 2 % 2 == 0, 1, -1).astype(jnp.float32)
        other = jnp.where(number % 2 == 0, one, -one)
        return one[:, None, None] * t[None] + other[:, None, None] * ell[None]
    return jnp.where((number % 2 == 0)[:, None, None], t[None], ell[None])


def _anywhere(key: Array, label: Array, size: int) -> Array:
    """Tetrominoes turned by quarters and moved, all places that are inside of the image equally likely."""
    unit = 1 if size == 8 else size // 16
    turned = [[np.rot90(_shape(letter, unit), turn) for turn in range(4)] for letter in "tl"]
    corner = jnp.asarray([[_laid(shape, 0, 0, size) for shape in turns] for turns in turned])
    room = jnp.asarray(
        [[(size - shape.shape[0] + 1, size - shape.shape[1] + 1) for shape in turns] for turns in turned], jnp.int32
    )
    turns, moves = jax.random.split(key)
    turn = jax.random.randint(turns, label.shape, 0, 4, jnp.int32)
    place = jax.random.randint(moves, (*label.shape, 2), 0, room[label, turn], jnp.int32)
    moved = jax.vmap(lambda image, by: jnp.roll(image, by, (0, 1)))(corner[label, turn], place)
    return _edged(moved)


def _blurred(images: Array, sigma: float) -> Array:
    """A Gaussian filter of images `[..., H, H]`, cut at four sigma, that mirrors them at their borders."""
    matrix = jnp.asarray(_filter(images.shape[-1], sigma))
    return jnp.einsum("ij,...jk,lk->...il", matrix, images, matrix, precision="highest")


def _filter(length: int, sigma: float) -> np.ndarray:
    """The filter along one axis as a matrix `[length, length]`."""
    radius = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    mirrored = np.pad(np.eye(length), ((radius, radius), (0, 0)), mode="symmetric")
    rows = [weights / weights.sum() @ mirrored[place : place + 2 * radius + 1] for place in range(length)]
    return np.stack(rows).astype(np.float32)
