"""Transforms that change how an image looks and leave everything in its place."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline import blur as blurred
from jaxplain.explain.visualization.transform.geometry import Random, spatial_axes
from jaxplain.program import public
from jaxplain.types import Array, Number


class Blur(Random):
    """Blurs by a Gaussian of random width. Made by `blur`."""

    low: Any
    high: Any

    def __call__(self, key: Array, x: Array) -> Array:
        """The blurred input."""
        sigma = jax.random.uniform(key, (), minval=self.low, maxval=self.high)
        return blurred(sigma, axes=spatial_axes(x))(x)


@public
def blur(high: float, *, low: float = 0.05) -> Blur:
    """A transform that blurs the input by a Gaussian of random width along every axis but the channels.

    Args:
        high: Largest standard deviation, in pixels, positive.
        low: Smallest one, positive; below about 0.2 nothing changes.

    Returns:
        `(key, x) -> x` of the same shape. Cost: one matrix product for each spatial axis.

    Raises:
        ValueError: A width that is not positive, `low` above `high`.

    Example:
        >>> blur(1.0)(jax.random.key(0), jnp.ones((4, 4, 1))).round(4).mean().item()
        1.0
    """
    check.positive(low, "blur", "low")
    check.positive(jnp.asarray(high) - jnp.asarray(low), "blur", "high - low", zero=True)
    return Blur(low, high)


class ColourJitter(Random):
    """Changes brightness, contrast and each channel's gain. Made by `colour_jitter`."""

    brightness: Any
    contrast: Any
    gain: Any

    def __call__(self, key: Array, x: Array) -> Array:
        """The changed input."""
        keys = [jax.random.fold_in(key, index) for index in range(3)]
        shift = jax.random.uniform(keys[0], (), minval=-self.brightness, maxval=self.brightness)
        contrast = 1 + jax.random.uniform(keys[1], (), minval=-self.contrast, maxval=self.contrast)
        gain = 1 + jax.random.uniform(keys[2], x.shape[-1:], minval=-self.gain, maxval=self.gain)
        mean = jnp.mean(x)
        seen = ((x - mean) * contrast + mean + shift) * jnp.broadcast_to(gain, x.shape)
        return seen.astype(x.dtype)


@public
def colour_jitter(brightness: float = 0.1, contrast: float = 0.1, *, gain: float = 0.0) -> ColourJitter:
    """A transform that changes brightness, contrast and the gain of each channel by random amounts.

    x' = gain_c ((x - mean x) (1 + contrast u) + mean x + brightness v), u and v from U(-1, 1), gain_c from
    U(1 - gain, 1 + gain).

    Args:
        brightness: Largest shift, in units of the input, zero or more.
        contrast: Largest relative change of contrast, in [0, 1).
        gain: Largest relative change of each channel, in [0, 1).

    Returns:
        `(key, x) -> x` of the same shape. Cost: two passes over the input.

    Raises:
        ValueError: A negative amount, a relative one of 1 or more.

    Example:
        >>> colour_jitter(0.0, 0.0)(jax.random.key(0), jnp.array([[1.0, 2.0]])).tolist()
        [[1.0, 2.0]]
    """
    for argument, value in (("brightness", brightness), ("contrast", contrast), ("gain", gain)):
        check.positive(value, "colour_jitter", argument, zero=True)
        if argument != "brightness":
            check.positive(1 - jnp.asarray(value), "colour_jitter", f"1 - {argument}")
    return ColourJitter(brightness, contrast, gain)


class Noise(Random):
    """Adds Gaussian noise. Made by `noise`."""

    sigma: Any

    def __call__(self, key: Array, x: Array) -> Array:
        """The noisy input."""
        return x + self.sigma * jax.random.normal(key, x.shape, x.dtype)


@public
def noise(sigma: float) -> Noise:
    """A transform that adds Gaussian noise: x + sigma z, z from N(0, 1).

    Args:
        sigma: Standard deviation, in units of the input, zero or more.

    Returns:
        `(key, x) -> x`. Cost: one draw for each value.

    Raises:
        ValueError: A negative sigma.

    Example:
        >>> noise(0.0)(jax.random.key(0), jnp.ones(2)).tolist()
        [1.0, 1.0]
    """
    return Noise(check.positive(sigma, "noise", "sigma", zero=True))


class Composite(Random):
    """Lays an image over a random background by its channel of opacity. Made by `composite`."""

    low: Any
    high: Any

    def __call__(self, key: Array, x: Array) -> Array:
        """The image without its last channel, over the background."""
        if x.ndim < 1 or x.shape[-1] < 2:
            raise ValueError(f"composite: x has shape {x.shape}; its last channel has to be the opacity of the others.")
        colours, opacity = x[..., :-1], x[..., -1:]
        check.broadcasts(self.low, colours.shape, "composite", "low")
        check.broadcasts(self.high, colours.shape, "composite", "high")
        level, grain = (jax.random.fold_in(key, index) for index in range(2))
        one = jnp.broadcast_to(jax.random.uniform(level, colours.shape[-1:]), colours.shape)
        mixed = 0.5 * one + 0.5 * jax.random.uniform(grain, colours.shape)
        background = self.low + (self.high - self.low) * mixed
        return opacity * colours + (1 - opacity) * background.astype(x.dtype)


@public
def composite(low: Number = 0.0, high: Number = 1.0) -> Composite:
    """A transform that lays an image with opacity (`image.alpha`) over a random background.

    Half of the background is one random colour, half is noise at every pixel, so that no part of it can be counted on.

    Args:
        low: Smallest value of the background.
        high: Largest.

    Returns:
        `(key, x) -> x` with one channel less. Cost: one pass over the input.

    Raises:
        ValueError: `low` not below `high`; an input of one channel.

    Example:
        >>> composite()(jax.random.key(0), jnp.array([[0.25, 1.0]])).tolist()
        [[0.25]]

    Source: Mordvintsev et al. 2018, "Differentiable image parameterizations", "Semi-transparent patterns".
    """
    check.positive(jnp.asarray(high) - jnp.asarray(low), "composite", "high - low")
    return Composite(low, high)
