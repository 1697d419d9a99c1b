"""Images and signals as their frequencies: `fourier`, whose every frequency starts alike, and `maco`, phases alone."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.explain.visualization.image.parameterisation import Parameterisation, spatial_shape, squash
from jaxplain.program import public
from jaxplain.types import Array, Arrays, Number


class Fourier(Parameterisation):
    """An image as scaled Fourier coefficients. Made by `fourier`."""

    decay: Any
    sigma: Any
    gain: Any

    def init(self, key: Array) -> Array:
        """Draw theta, white but for the mean, which starts at zero; the buffer's standard deviation is `sigma`."""
        *sides, channels = self.shape
        theta = jax.random.normal(key, (2, *_half(tuple(sides)), channels))
        theta = theta.at[(slice(None), *(0,) * len(sides))].set(0.0)
        spread = jnp.std(self._waves(theta))
        return theta * (self.sigma / jnp.where(spread > 0, spread, 1.0))

    def buffer(self, theta: Array) -> Array:
        """The inverse transform of the scaled coefficients."""
        return self._waves(theta)

    def encode(self, x: Array, margin: float = 0.02) -> Array:
        """The theta of an input."""
        spectrum = jnp.fft.rfftn(self.squash.inverse(x, margin), axes=_axes(self.shape), norm="ortho")
        return jnp.stack([spectrum.real, spectrum.imag]) / self._scale()[None]

    def _waves(self, theta: Array) -> Array:
        scaled = theta * self._scale()[None]
        return _inverse(jax.lax.complex(scaled[0], scaled[1]), self.shape)

    def _scale(self) -> Array:
        """1 / frequency^decay, times what gives white theta a buffer of standard deviation `gain` at every size."""
        sides = self.shape[:-1]
        frequency = np.maximum(_frequencies(sides), 1 / max(sides))
        scale = jnp.asarray(frequency, jnp.float32) ** -jnp.asarray(self.decay, jnp.float32)
        # A coefficient inside the half spectrum stands for itself and its conjugate; one on its edge for itself alone.
        weight = np.full(frequency.shape, 4.0)
        weight[..., 0] = 1.0
        if sides[-1] % 2 == 0:
            weight[..., -1] = 1.0
        weight.flat[0] = 0.0 if frequency.size > 1 else 1.0
        variance = jnp.sum(jnp.square(scale) * jnp.asarray(weight, jnp.float32)) / math.prod(sides)
        return (self.gain * scale / jnp.sqrt(variance))[..., None]


@public
def fourier(
    shape: tuple[int, ...],
    *,
    decay: float = 1.0,
    low: Number | None = 0.0,
    high: Number | None = 1.0,
    sigma: float = 0.1,
    gain: float = 2.0,
    colour: Number | str | None = None,
) -> Fourier:
    """Parameterise an image or signal by its Fourier coefficients, high frequencies scaled down.

    x = squash(irfft(c theta / max(f, 1/N)^decay)), f in cycles per pixel. Gradient steps then move all scales alike,
    where steps in pixels favour high frequencies. The coefficients are scaled (c) so that white theta gives a buffer of
    standard deviation `gain` whatever the size (odd ones included), and a draw of `init` has the standard deviation
    `sigma` exactly, so a setting found at one size holds at another. Lucid's scaling comes out as a gain that grows
    with the size, from 1.5 at 28 pixels to 2.0 at 224.

    Args:
        shape: `(H, W, C)` or `(T, C)`; any sizes, any number of channels.
        decay: Power of the frequency; 0 gives every frequency the same weight, 1 is that of natural images.
        low: As in `pixels`.
        high: As in `pixels`.
        sigma: Standard deviation of the starting buffer, before squashing.
        gain: How far a step of theta moves the buffer, positive: with an optimiser such as Adam, whose steps have one
            length, a larger gain climbs faster and ends nearer to the bounds.
        colour: As in `pixels`.

    Returns:
        An object with `init(key) -> theta`, `buffer(theta)` and `render(theta) -> x`. Cost: one inverse FFT.

    Raises:
        ValueError: A shape that is no image or signal, a negative decay or sigma, a gain that is not positive, bounds
            out of order.

    Example:
        >>> import jax
        >>> image = fourier((29, 28, 3))
        >>> round(float(image.buffer(image.init(jax.random.key(0))).std()), 3)
        0.1

    Source: Olah, Mordvintsev and Schubert 2017, "Feature Visualization", "Preconditioning and parameterization"; the
    scaling by the exact variance is this library's.
    """
    shape = spatial_shape(shape, "fourier")
    return Fourier(
        shape,
        squash(shape, low, high, colour, "fourier"),
        check.positive(decay, "fourier", "decay", zero=True),
        check.positive(sigma, "fourier", "sigma", zero=True),
        check.positive(gain, "fourier", "gain"),
    )


class Maco(Parameterisation):
    """An image of a fixed magnitude spectrum; theta are the phases. Made by `maco`."""

    magnitude: Any
    mean_sign: Any

    def init(self, key: Array) -> Array:
        """Draw the phases uniformly."""
        return jax.random.uniform(key, self.magnitude.shape, minval=-jnp.pi, maxval=jnp.pi)

    def buffer(self, theta: Array) -> Array:
        """The inverse transform; its magnitude spectrum is the fixed one, whatever theta."""
        phase = _antisymmetric(theta, self.shape)
        magnitude = self.magnitude.at[(0,) * (len(self.shape) - 1)].multiply(self.mean_sign)
        return _inverse(jax.lax.complex(magnitude * jnp.cos(phase), magnitude * jnp.sin(phase)), self.shape)


@public
def maco(
    data: Arrays,
    *,
    low: Number | None = 0.0,
    high: Number | None = 1.0,
    colour: Number | str | None = None,
    margin: float = 0.02,
) -> Maco:
    """Parameterise an image or signal by its phases; the magnitude of every frequency stays that of the data.

    x = squash(irfft(r e^(i theta))) with r the mean magnitude of the data's spectra. The spectra are those of the data
    before squashing (their logits), so that the optimised buffer, which is squashed, has exactly the magnitudes r at
    every step, and its mean and variance are those of the data. Phases of coefficients that stand for a conjugate pair
    are tied to each other, and real coefficients (the mean) keep the data's sign.

    Optimise with steps along the gradient, such as `optax.chain(regulariser.normalize_gradient(), optax.sgd(0.1,
    momentum=0.9))` with a length that decays. On digits that ended at a logit of 14.8 after 256 steps; Adam, giving
    faint frequencies' phases the step of strong ones', at 13.5 to 14.6 depending on its step.

    Args:
        data: Examples `[N, H, W, C]` or `[N, T, C]`, the more the better.
        low: As in `pixels`; the range of the data.
        high: As in `pixels`.
        colour: As in `pixels`.
        margin: How far values at the bounds are moved inside before their logit is taken, as a part of the range.

    Returns:
        An object with `init(key) -> theta`, `buffer(theta)` and `render(theta) -> x`. Cost: one inverse FFT; one pass
        over the data when made.

    Raises:
        ValueError: Data that are no images or signals, empty, not finite, or outside [low, high].

    Example:
        >>> import jax, numpy as np
        >>> image = maco(np.random.default_rng(0).uniform(size=(4, 8, 8, 1)))
        >>> spectrum = np.abs(np.fft.rfft2(image.buffer(image.init(jax.random.key(0))), axes=(0, 1), norm="ortho"))
        >>> bool(np.allclose(spectrum, image.magnitude, atol=1e-5))
        True

    Source: Fel et al. 2023, "Unlocking feature visualization for deeper networks with MAgnitude Constrained
    Optimization", section 3.2; magnitudes of the user's data, and of their logits, in place of ImageNet's.
    """
    array = np.asarray(data)
    if array.ndim not in (3, 4) or len(array) == 0:
        raise ValueError(f"maco: `data` has shape {array.shape}; pass examples [N, H, W, C] or [N, T, C].")
    check.finite(array, "maco", "data")
    shape = spatial_shape(array.shape[1:], "maco")
    values = squash(shape, low, high, colour, "maco")
    if low is not None and check.is_concrete(low) and ((array < np.asarray(low)) | (array > np.asarray(high))).any():
        raise ValueError(f"maco: `data` runs from {array.min()} to {array.max()}, outside of [{low}, {high}].")
    check.inside(margin, "maco", "margin")
    total, mean, axes = 0.0, 0.0, tuple(range(1, len(shape)))
    for first in range(0, len(array), 1024):
        part = np.asarray(values.inverse(jnp.asarray(array[first : first + 1024], jnp.float32), margin))
        spectrum = np.fft.rfftn(part, axes=axes, norm="ortho")
        total, mean = total + np.abs(spectrum).sum(axis=0), mean + part.sum(axis=(0, *axes))
    magnitude = jnp.asarray(total / len(array), jnp.float32)
    return Maco(shape, values, magnitude, jnp.asarray(np.where(np.asarray(mean) < 0, -1.0, 1.0), jnp.float32))


def _half(sides: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the half spectrum of a real array."""
    return (*sides[:-1], sides[-1] // 2 + 1)


def _axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(len(shape) - 1))


def _inverse(spectrum: Array, shape: tuple[int, ...]) -> Array:
    return jnp.fft.irfftn(spectrum, s=shape[:-1], axes=_axes(shape), norm="ortho")


def _frequencies(sides: tuple[int, ...]) -> np.ndarray:
    """Cycles per pixel of every coefficient of the half spectrum."""
    parts = [np.fft.fftfreq(side) for side in sides[:-1]] + [np.fft.rfftfreq(sides[-1])]
    return np.sqrt(sum(np.square(part) for part in np.meshgrid(*parts, indexing="ij")))


def _antisymmetric(theta: Array, shape: tuple[int, ...]) -> Array:
    """Phases as those of a real array: on the edges of the half spectrum each is the negative of its partner's."""
    edges = [0] if shape[-2] % 2 else [0, shape[-2] // 2]
    if len(shape) == 2:  # a signal: its coefficients on the edges are real
        return theta.at[jnp.array(edges)].set(0.0)
    rows = np.arange(shape[0])
    partner = -rows % shape[0]
    sign = np.sign(partner - rows).astype(np.float32)[:, None, None]  # 0 where a coefficient is its own partner
    first = np.minimum(rows, partner)
    columns = jnp.array(edges)
    return theta.at[:, columns].set(sign * theta[first][:, columns])
