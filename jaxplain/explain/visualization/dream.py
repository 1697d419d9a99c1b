"""Deep dream: an image pushed towards what a network sees in it, from coarse to fine, in tiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.program import Function, as_function, public, setting
from jaxplain.program.fast import fast_layout
from jaxplain.types import Array, Number


class DeepDream(Function):
    """An image pushed towards a score at several sizes. Made by `deep_dream`."""

    score: Any
    step_size: Any
    low: Any
    high: Any
    octaves: int = setting(default=4)
    octave_scale: float = setting(default=1.4)
    tile: int | None = setting(default=None)
    steps: int = setting(default=10)
    batch_size: int = setting(default=8)

    @property
    def needs_key(self) -> bool:
        """Always: the tiles are shifted at random."""
        return True

    def check_call(self, x: Array, *args: Any) -> None:
        """Let the score look at its concrete arguments, as drivers do."""
        look = getattr(self.score, "check_call", None)
        if look is not None and self.tile is None:
            look(x, *args)

    def __call__(self, key: Array, x: Array, *args: Any) -> Array:
        """Dream on one image."""
        check.differentiable(x, "deep_dream")
        check.finite(x, "deep_dream")
        if jnp.ndim(x) != 3:
            raise ValueError(f"deep_dream: x has shape {jnp.shape(x)}; it has to be one image [H, W, C].")
        check.broadcasts(self.low, jnp.shape(x), "deep_dream", "low")
        check.broadcasts(self.high, jnp.shape(x), "deep_dream", "high")
        self._check(x, args)
        result = _dream(self, key, jnp.asarray(x), args)
        check.finite(result, "deep_dream", "result")
        return result

    def sizes(self, shape: tuple[int, ...]) -> list[tuple[int, int]]:
        """Height and width of every octave, the smallest first; none is smaller than one pixel."""
        found = []
        for octave in reversed(range(self.octaves)):
            high, wide = (max(1, round(side / self.octave_scale**octave)) for side in shape[:2])
            if (high, wide) not in found:
                found.append((high, wide))
        return found

    def dream(self, key: Array, x: Array, args: tuple[Any, ...]) -> Array:
        """The image, octave after octave; what the smaller ones added is carried on."""
        detail = jnp.zeros((*self.sizes(x.shape)[0], x.shape[2]), x.dtype)
        base = detail
        for octave, size in enumerate(self.sizes(x.shape)):
            base = jax.image.resize(x, (*size, x.shape[2]), "linear")
            start = base + jax.image.resize(detail, base.shape, "linear")
            seen = self._octave(jax.random.fold_in(key, octave), jnp.clip(start, self.low, self.high), args)
            detail = seen - base
        return base + detail

    def _octave(self, key: Array, x: Array, args: tuple[Any, ...]) -> Array:
        ascend = fast_layout(jax.grad(lambda tile: check.scalar(self.score(tile, *args), "deep_dream")))

        def step(x: Array, index: Array) -> tuple[Array, None]:
            shift = jax.random.randint(jax.random.fold_in(key, index), (2,), 0, jnp.array(x.shape[:2]))
            gradient = jnp.roll(self._tiled(ascend, jnp.roll(x, shift, (0, 1))), -shift, (0, 1))
            length = jnp.sqrt(jnp.mean(jnp.square(gradient))) + 1e-8
            return jnp.clip(x + self.step_size * gradient / length, self.low, self.high), None

        return lax.scan(step, x, jnp.arange(self.steps))[0]

    def _tiled(self, ascend: Callable[[Array], Array], x: Array) -> Array:
        """The gradient tile by tile; the last tiles wrap around, so that all have one size."""
        if self.tile is None:
            return ascend(x)
        side = self.tile
        rows, columns = (-(-length // side) for length in x.shape[:2])
        across = [jnp.arange(count * side) % length for count, length in zip((rows, columns), x.shape[:2], strict=True)]
        tiles = x[across[0]][:, across[1]].reshape(rows, side, columns, side, x.shape[2]).swapaxes(1, 2)
        flat = tiles.reshape(rows * columns, side, side, x.shape[2])
        gradient = lax.map(ascend, flat, batch_size=min(self.batch_size, len(flat)))
        whole = gradient.reshape(rows, columns, side, side, x.shape[2]).swapaxes(1, 2)
        return whole.reshape(rows * side, columns * side, x.shape[2])[: x.shape[0], : x.shape[1]]

    def _check(self, x: Array, args: tuple[Any, ...]) -> None:
        sizes = self.sizes(jnp.shape(x)) if self.tile is None else [(self.tile, self.tile)]
        for size in sizes:
            shape = jax.ShapeDtypeStruct((*size, jnp.shape(x)[2]), jnp.result_type(x))
            try:
                jax.eval_shape(lambda tile: self.score(tile, *args), shape)
            except Exception as error:
                raise ValueError(
                    f"deep_dream: the score cannot be computed for an image of shape {shape.shape} "
                    f"({type(error).__name__}: {error}). A model of one size needs `tile=` of that size; without tiles "
                    "every octave's size has to fit (fewer `octaves`)."
                ) from error


@jax.jit
def _dream(e: DeepDream, key: Array, x: Array, args: tuple[Any, ...]) -> Array:
    return e.dream(key, x, args)


@public
def deep_dream(
    objective: Callable[..., Any],
    *,
    octaves: int = 4,
    octave_scale: float = 1.4,
    tile: int | None = None,
    steps: int = 10,
    step_size: float = 0.01,
    low: Number = 0.0,
    high: Number = 1.0,
    batch_size: int = 8,
) -> DeepDream:
    """Push an image towards a score, first small and then larger: what the network sees in it already comes forth.

    At every octave the image is brought to its size, what the smaller octaves added is laid on, and `steps` steps
    x + step_size g / rms(g) are taken. With `tile` the gradient is computed in tiles of one size, after a random shift
    of the image at every step, so that images larger than memory, or than the model's input, can be used.

    Args:
        objective: A score or objective, `f(x, *args) -> scalar`, such as `objective.deep_dream(f, "block_2")`.
        octaves: How many sizes, the last is the image's own.
        octave_scale: Ratio of one size to the next, above 1.
        tile: Side of the square tiles in pixels; None takes the whole image at once.
        steps: Steps at each size.
        step_size: Root mean square of one step, in units of the image.
        low: Smallest value of the image.
        high: Largest.
        batch_size: How many tiles are evaluated at once.

    Returns:
        `e(key, image, *args) -> image` of the same shape `[H, W, C]`. Cost: `octaves` times `steps` forward and
        backward passes over the whole image.

    Raises:
        ValueError: A setting out of range, an input that is no image or has NaN, a size that the model rejects, a
            result that is not finite.

    Example:
        >>> e = deep_dream(lambda x: (x**2).mean(), octaves=2, steps=5)
        >>> x = jnp.full((8, 8, 1), 0.5)
        >>> bool((e(jax.random.key(0), x) > x).all())
        True

    Source: Mordvintsev, Olah and Tyka 2015, "Inceptionism: going deeper into neural networks"; steps of one length and
    shifted tiles after Mordvintsev 2016, "DeepDreaming with TensorFlow".
    """
    if not callable(objective):
        raise TypeError(f"deep_dream: the objective has to be a function `f(x, *args) -> scalar`, not {objective!r}.")
    if not octave_scale > 1:
        raise ValueError(f"deep_dream: `octave_scale` has to be above 1, not {octave_scale}.")
    check.positive(jnp.asarray(high) - jnp.asarray(low), "deep_dream", "high - low")
    return DeepDream(
        as_function(objective),
        check.positive(step_size, "deep_dream", "step_size"),
        low,
        high,
        check.count(octaves, "deep_dream", "octaves"),
        float(octave_scale),
        None if tile is None else check.count(tile, "deep_dream", "tile"),
        check.count(steps, "deep_dream", "steps"),
        check.count(batch_size, "deep_dream", "batch_size"),
    )
