"""The Fréchet distance between two sets of features: are made images like real ones?"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.program import public
from jaxplain.types import Array, ArrayLike


@public
def frechet_distance(one: ArrayLike, other: ArrayLike) -> Array:
    """The squared Fréchet distance between Gaussians fitted to two sets of features.

    d = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), with means m and covariances S (divided by N - 1). The estimate is
    biased upwards for small sets, so compare distances only between sets of equal size and the same features.

    Args:
        one: Features `[N, D]`, N at least 2, such as a layer's values for made images.
        other: Features `[M, D]` of real ones.

    Returns:
        A scalar, zero or more, in squared units of the features. Cost: two eigenvalue decompositions of D x D.

    Raises:
        ValueError: Shapes that do not fit, fewer than two rows, NaN in concrete features.

    Example:
        >>> x = jnp.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
        >>> round(float(frechet_distance(x, x + jnp.array([[3.0, 0.0]]))), 3)
        9.0

    Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule converge to a local Nash equilibrium",
    equation 6 (after Dowson and Landau 1982).
    """
    one, other = _features(one, other)
    ones = jnp.ones(len(one)) / len(one), jnp.ones(len(other)) / len(other)
    return _distance(one, ones[0], len(one) / (len(one) - 1), other, ones[1], len(other) / (len(other) - 1))


@public
def frechet_bootstrap(
    key: Array, one: ArrayLike, other: ArrayLike, *, samples: int = 200, batch_size: int = 8
) -> Array:
    """Bootstrap draws of the Fréchet distance, centred at its value: percentiles of them are an interval.

    Rows of both sets are drawn with replacement. A resampled set has fewer different rows, which raises the distance,
    so the draws are shifted by their mean's excess over the value. Draws of several classes add up to those of their
    mean.

    Args:
        key: PRNG key.
        one: As in `frechet_distance`.
        other: As in `frechet_distance`.
        samples: How many draws.
        batch_size: How many are computed at once.

    Returns:
        `[samples]`, their mean the distance itself. Cost: `samples` distances.

    Raises:
        ValueError: As in `frechet_distance`; sizes below 1.

    Example:
        >>> x = jax.random.normal(jax.random.key(0), (20, 2))
        >>> draws = frechet_bootstrap(jax.random.key(1), x, x + 1.0, samples=16)
        >>> draws.shape, bool(jnp.allclose(draws.mean(), frechet_distance(x, x + 1.0), rtol=1e-3))
        ((16,), True)

    Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", chapters 6 and 10 (bias).
    """
    one, other = _features(one, other)
    check.count(samples, "frechet_bootstrap", "samples")

    def weights(key: Array, size: int) -> Array:
        rows = jax.random.randint(key, (size,), 0, size)
        return jnp.bincount(rows, length=size) / size

    def draw(index: Array) -> Array:
        keys = jax.random.split(jax.random.fold_in(key, index))
        sizes = len(one), len(other)
        scales = [size / (size - 1) for size in sizes]
        return _distance(one, weights(keys[0], sizes[0]), scales[0], other, weights(keys[1], sizes[1]), scales[1])

    draws = lax.map(draw, jnp.arange(samples), batch_size=check.count(batch_size, "frechet_bootstrap", "batch_size"))
    return draws - draws.mean() + frechet_distance(one, other)


def _distance(one: Array, w: Array, a: float, other: Array, v: Array, b: float) -> Array:
    """The distance between weighted sets; a and b turn the mean square into the unbiased covariance."""
    parts = [_moments(x, weight, scale) for x, weight, scale in ((one, w, a), (other, v, b))]
    means, spreads = zip(*parts, strict=True)
    # tr (S1 S2)^(1/2) from the symmetric S1^(1/2) S2 S1^(1/2), which has the same eigenvalues.
    values, vectors = jnp.linalg.eigh(spreads[0])
    root = (vectors * jnp.sqrt(jnp.maximum(values, 0))[None, :]) @ vectors.T
    product = root @ spreads[1] @ root
    mixed = jnp.sqrt(jnp.maximum(jnp.linalg.eigvalsh((product + product.T) / 2), 0)).sum()
    distance = jnp.sum(jnp.square(means[0] - means[1])) + jnp.trace(spreads[0]) + jnp.trace(spreads[1]) - 2 * mixed
    return jnp.maximum(distance, 0.0)


def _moments(x: Array, weight: Array, scale: float) -> tuple[Array, Array]:
    mean = weight @ x
    centred = x - mean[None, :]
    return mean, scale * (centred * weight[:, None]).T @ centred


def _features(one: Any, other: Any) -> tuple[Array, Array]:
    one, other = jnp.asarray(one, jnp.float32), jnp.asarray(other, jnp.float32)
    for argument, value in (("one", one), ("other", other)):
        if value.ndim != 2 or len(value) < 2:
            raise ValueError(
                f"frechet_distance: `{argument}` has shape {value.shape}; pass features [N, D] of two or more."
            )
        check.finite(value, "frechet_distance", argument)
    if one.shape[1] != other.shape[1]:
        raise ValueError(f"frechet_distance: {one.shape[1]} features against {other.shape[1]}.")
    return one, other
