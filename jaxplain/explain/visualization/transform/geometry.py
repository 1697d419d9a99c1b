"""Transforms that move what is in an image: shifts, sizes, angles, borders and cuts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from jaxplain import check
from jaxplain.program import Function, public, setting
from jaxplain.types import Array


class Random(Function):
    """A function of `(key, x)`."""

    @property
    def needs_key(self) -> bool:
        """Always."""
        return True


class Jitter(Random):
    """Rolls an input by a random offset. Made by `jitter`."""

    offset: int = setting(default=1)
    axes: tuple[int, ...] | None = setting(default=None)

    def __call__(self, key: Array, x: Array) -> Array:
        """Roll the axes (all but the last, by default)."""
        axes = spatial_axes(x) if self.axes is None else self.axes
        shifts = jax.random.randint(key, (len(axes),), -self.offset, self.offset + 1)
        for axis, shift in zip(axes, shifts, strict=True):
            x = jnp.roll(x, shift, axis)
        return x


@public
def jitter(offset: int, *, axes: tuple[int, ...] | None = None) -> Jitter:
    """A transform that shifts the input by up to `offset` elements along each axis, wrapping around.

    Args:
        offset: The largest shift, in pixels, at least 1.
        axes: Which axes are shifted; None takes all but the last (the channels).

    Returns:
        `(key, x) -> x`. Cost: one copy.

    Raises:
        ValueError: `offset` below 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> jitter(1)(jax.random.key(0), jnp.eye(3)[..., None]).sum().item()
        3.0

    Source: Mordvintsev, Olah and Tyka 2015, "Inceptionism" (random shifts between steps).
    """
    return Jitter(check.count(offset, "jitter", "offset"), None if axes is None else tuple(axes))


class Scale(Random):
    """Magnifies or shrinks what is in an image. Made by `scale`."""

    low: Any
    high: Any
    fill: Any

    def __call__(self, key: Array, x: Array) -> Array:
        """Resample around the centre, at the same size."""
        axes = _need_spatial(x, "scale")
        factor = jax.random.uniform(key, (), minval=self.low, maxval=self.high)
        sides = jnp.array([x.shape[axis] for axis in axes], jnp.float32)
        return _resampled(x, factor * jnp.ones(len(axes)), (1 - factor) * sides / 2, self.fill)


@public
def scale(low: float = 0.9, high: float = 1.1, *, fill: float = 0.0) -> Scale:
    """A transform that magnifies what is in an image by a random factor around the centre; the size stays.

    Args:
        low: Smallest factor, positive.
        high: Largest factor; a factor below 1 leaves a border.
        fill: Value of the border.

    Returns:
        `(key, x) -> x` of the same shape, linearly interpolated. Cost: one pass for each spatial axis.

    Raises:
        ValueError: A factor that is not positive (it would empty the image), `low` above `high`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> scale(0.5, 0.5)(jax.random.key(0), jnp.ones((4, 4, 1)))[..., 0].round(2)[0].tolist()
        [0.0, 0.0, 0.0, 0.0]
    """
    check.finite(fill, "scale", "fill")
    check.positive(low, "scale", "low")
    check.positive(jnp.asarray(high) - jnp.asarray(low), "scale", "high - low", zero=True)
    return Scale(low, high, fill)


class Rotate(Random):
    """Turns an image around its centre. Made by `rotate`."""

    degrees: Any
    fill: Any

    def __call__(self, key: Array, x: Array) -> Array:
        """Turn by a random angle, at the same size, by linear interpolation."""
        if x.ndim != 3:
            raise ValueError(f"rotate: x has shape {x.shape}; only images [H, W, C] can be turned.")
        angle = jnp.deg2rad(jax.random.uniform(key, (), minval=-self.degrees, maxval=self.degrees))
        high, wide = x.shape[:2]
        rows = jnp.arange(high, dtype=jnp.float32)[:, None] - (high - 1) / 2
        columns = jnp.arange(wide, dtype=jnp.float32)[None, :] - (wide - 1) / 2
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        places = [cosine * rows - sine * columns + (high - 1) / 2, sine * rows + cosine * columns + (wide - 1) / 2]
        fill = jnp.asarray(self.fill, x.dtype)  # `cval` has to be a Python number, the fill may be traced
        turned = [map_coordinates(x[..., c] - fill, places, order=1) for c in range(x.shape[2])]
        return jnp.stack(turned, axis=-1) + fill


@public
def rotate(degrees: float, *, fill: float = 0.0) -> Rotate:
    """A transform that turns an image by a random angle of up to `degrees` either way; the size stays.

    Args:
        degrees: Largest angle, zero or more.
        fill: Value of the corners that become free.

    Returns:
        `(key, x) -> x` of the same shape. Cost: one linear interpolation.

    Raises:
        ValueError: A negative angle; an input that is no image.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> rotate(0.0)(jax.random.key(0), jnp.eye(3)[..., None])[..., 0].tolist()[1]
        [0.0, 1.0, 0.0]
    """
    check.finite(fill, "rotate", "fill")
    return Rotate(check.positive(degrees, "rotate", "degrees", zero=True), fill)


class Pad(Random):
    """Adds a border. Made by `pad`."""

    fill: Any
    width: int = setting(default=1)

    def __call__(self, key: Array, x: Array) -> Array:
        """The larger image; the key is not used."""
        widths = [(self.width, self.width) if axis in _need_spatial(x, "pad") else (0, 0) for axis in range(x.ndim)]
        return jnp.pad(x, widths, constant_values=jnp.asarray(self.fill, x.dtype))


@public
def pad(width: int, *, fill: float = 0.0) -> Pad:
    """A transform that adds a border on every side; follow it by `crop` where the model needs one size.

    Args:
        width: Of the border, in pixels, zero or more.
        fill: Its value.

    Returns:
        `(key, x) -> x`, every spatial side larger by 2 width. Cost: one copy.

    Raises:
        ValueError: A negative width.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> pad(2)(jax.random.key(0), jnp.ones((4, 5, 1))).shape
        (8, 9, 1)
    """
    check.finite(fill, "pad", "fill")
    return Pad(fill, check.count(width, "pad", "width", least=0))


class Crop(Random):
    """Cuts out a random part. Made by `crop`."""

    size: tuple[int, ...] = setting()

    def __call__(self, key: Array, x: Array) -> Array:
        """A part of the given size, at a random place."""
        axes = _need_spatial(x, "crop")
        sides = [x.shape[axis] for axis in axes]
        size = self.size * len(axes) if len(self.size) == 1 else self.size
        if len(size) != len(axes) or any(part > side for part, side in zip(size, sides, strict=True)):
            raise ValueError(f"crop: a part of `size` {size} cannot be cut out of an input of shape {x.shape}.")
        places = [
            jax.random.randint(jax.random.fold_in(key, axis), (), 0, side - part + 1)
            for axis, (side, part) in enumerate(zip(sides, size, strict=True))
        ]
        return jax.lax.dynamic_slice(x, (*places, 0), (*size, x.shape[-1]))


@public
def crop(size: int | Sequence[int]) -> Crop:
    """A transform that cuts out a part of a given size at a random place.

    Args:
        size: (height, width), one number for all sides, or `(T,)` for a signal.

    Returns:
        `(key, x) -> x` of that size. Cost: one copy.

    Raises:
        ValueError: A size below 1 (an empty image), or larger than the input.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> crop(3)(jax.random.key(0), jnp.ones((4, 5, 1))).shape
        (3, 3, 1)
    """
    return Crop(_sides(size, "crop"))


class Resize(Random):
    """Brings an image to a size. Made by `resize`."""

    size: tuple[int, ...] = setting()

    def __call__(self, key: Array, x: Array) -> Array:
        """The image at the given size; the key is not used."""
        axes = _need_spatial(x, "resize")
        size = self.size * len(axes) if len(self.size) == 1 else self.size
        if len(size) != len(axes):
            raise ValueError(f"resize: `size` is {self.size}, but an input of shape {x.shape} has {len(axes)} sides.")
        return jax.image.resize(x, (*size, x.shape[-1]), "linear")


@public
def resize(size: int | Sequence[int]) -> Resize:
    """A transform that brings the input to a given size by linear interpolation (with antialiasing).

    Args:
        size: (height, width), one number for all sides, or `(T,)` for a signal.

    Returns:
        `(key, x) -> x` of that size. Cost: one matrix product for each spatial axis.

    Raises:
        ValueError: A size below 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> resize((8, 6))(jax.random.key(0), jnp.ones((4, 5, 1))).shape
        (8, 6, 1)
    """
    return Resize(_sides(size, "resize"))


class RandomCrop(Random):
    """Magnifies a random part to the whole size, with noise. Made by `random_crop`."""

    low: Any
    high: Any
    sigma: Any

    def __call__(self, key: Array, x: Array) -> Array:
        """A part of random size and place, at the input's size."""
        axes = _need_spatial(x, "random_crop")
        keys = [jax.random.fold_in(key, index) for index in range(4)]
        part = jax.random.uniform(keys[0], (), minval=self.low, maxval=self.high)
        sides = jnp.array([x.shape[axis] for axis in axes], jnp.float32)
        corner = jax.random.uniform(keys[1], (len(axes),)) * (1 - part) * sides
        x = _resampled(x, jnp.ones(len(axes)) / part, -corner / part, 0.0)
        shake = jax.random.normal(keys[2], x.shape) + jax.random.uniform(keys[3], x.shape, minval=-1.0, maxval=1.0)
        return x + self.sigma * shake.astype(x.dtype)


@public
def random_crop(low: float = 0.25, high: float = 1.0, *, sigma: float = 0.02) -> RandomCrop:
    """A transform that magnifies a random part of the input to its whole size and adds noise.

    With `samples=16` of `activation_maximization` every step sees 16 parts, as in the source. Gaussian and uniform
    noise are added: sigma (n + u), n from N(0, 1), u from U(-1, 1).

    Args:
        low: Smallest part, as a share of the side, in (0, 1].
        high: Largest part.
        sigma: Scale of the noise, in units of the input, zero or more.

    Returns:
        `(key, x) -> x` of the same shape, linearly interpolated. Cost: one pass for each spatial axis.

    Raises:
        ValueError: Shares out of (0, 1] (a share of 0 would empty the image) or order, a negative sigma.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> random_crop(1.0, 1.0, sigma=0.0)(jax.random.key(0), jnp.eye(2)[..., None])[..., 0].tolist()
        [[1.0, 0.0], [0.0, 1.0]]

    Source: Fel et al. 2023, "Unlocking feature visualization for deeper networks with MAgnitude Constrained
    Optimization", section 3.2 (crops of random size with Gaussian and uniform noise).
    """
    check.positive(low, "random_crop", "low")
    check.positive(jnp.asarray(high) - jnp.asarray(low), "random_crop", "high - low", zero=True)
    check.positive(1 - jnp.asarray(high), "random_crop", "1 - high", zero=True)
    return RandomCrop(low, high, check.positive(sigma, "random_crop", "sigma", zero=True))


def spatial_axes(x: Array) -> tuple[int, ...]:
    """All axes but the channels."""
    return tuple(range(max(1, x.ndim - 1)))


def _need_spatial(x: Array, name: str) -> tuple[int, ...]:
    if x.ndim not in (2, 3):
        raise ValueError(f"{name}: x has shape {x.shape}; it has to be an image [H, W, C] or a signal [T, C].")
    return spatial_axes(x)


def _sides(size: int | Sequence[int], name: str) -> tuple[int, ...]:
    sides = tuple(size) if isinstance(size, Sequence) else (size,)
    return tuple(check.count(side, name, "size") for side in sides)


def _resampled(x: Array, factor: Array, shift: Array, fill: Any) -> Array:
    """Linear interpolation of x at (place - shift) / factor; what lies outside of x has the value `fill`."""
    fill = jnp.asarray(fill, x.dtype)
    x = x - fill
    for index, axis in enumerate(spatial_axes(x)):
        size = x.shape[axis]
        places = (jnp.arange(size, dtype=jnp.float32) + 0.5 - shift[index]) / factor[index] - 0.5
        inside = (places > -0.5 - 1e-4) & (places < size - 0.5 + 1e-4)
        places = jnp.clip(places, 0, size - 1)
        first = jnp.clip(jnp.floor(places), 0, max(size - 2, 0)).astype(jnp.int32)
        part = jnp.where(inside, places - first, 0.0)
        # Two rows gathered and mixed: a product with a matrix of weights would sum in an order that depends on how many
        # inputs are transformed at once.
        near, far = (jnp.take(x, jnp.minimum(first + step, size - 1), axis=axis) for step in (0, 1))
        shape = [-1 if a == axis else 1 for a in range(x.ndim)]
        near_weight = jnp.where(inside, 1 - part, 0.0).reshape(shape).astype(x.dtype)
        x = near * near_weight + far * part.reshape(shape).astype(x.dtype)
    return x + fill
