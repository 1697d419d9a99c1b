"""Guided integrated gradients against the algorithm of its authors, written again in NumPy and double precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain


def reference(gradient, x, start, steps, fraction, distance):
    """Algorithm 1 of Kapishnikov et al. 2021 with the bounded path of section 4.3: a loop over rounds in each step."""
    point, total, length = start.copy(), np.zeros_like(x), np.abs(x - start).sum()
    for step in range(steps):
        slope = gradient(point)
        size, alpha = np.abs(slope), (step + 1) / steps
        behind = start + (x - start) * max(alpha - distance, 0.0)
        ahead = start + (x - start) * min(alpha + distance, 1.0)
        target, old = length * (1 - alpha), point.copy()
        late = np.abs(point - start) < np.abs(behind - start)
        point[late] = behind[late]
        while (left := np.abs(x - point).sum() - target) > 1e-9 * length:
            free = np.abs(ahead - point) > 1e-5 * np.abs(x - start)
            ranked = np.sort(np.where(free, size, np.inf))
            chosen = free & (size <= ranked[int(fraction * (x.size - 1))])
            if not chosen.any():
                break
            share = min(1.0, left / np.abs(ahead - point)[chosen].sum())
            point[chosen] += share * (ahead - point)[chosen] if share < 1 else (ahead - point)[chosen]
        total += slope * (point - old)
    return total


def network(seed, size):
    rng = np.random.default_rng(seed)
    w, v = rng.normal(size=(size, 16)) / 3, rng.normal(size=16)

    def value(x):
        return jnp.tanh(x @ jnp.asarray(w, x.dtype)) @ jnp.asarray(v, x.dtype)

    def slope(x):
        return w @ (v * (1 - np.tanh(x @ w) ** 2))

    return value, slope, rng.normal(size=size), 0.1 * rng.normal(size=size)


@pytest.mark.slow
def test_features_at_their_end_take_no_place_in_the_quantile():
    for seed in range(6):
        f, slope, x, start = network(seed, 30)
        e = jaxplain.guided_integrated_gradients(
            f, baseline=jnp.asarray(start, jnp.float32), steps=20, fraction=0.1, distance=1.0
        )
        right = reference(slope, x, start, 20, 0.1, 1.0)
        np.testing.assert_allclose(e(jnp.asarray(x, jnp.float32)), right, atol=2e-4 * np.abs(right).max())


@pytest.mark.slow
def test_other_settings_and_offsets_walk_the_same_path():
    for size, steps, fraction, distance, offset in (
        (30, 20, 0.25, 0.02, 0.0),
        (30, 20, 0.1, 0.3, 0.0),
        (12, 9, 1.0, 1.0, 0.0),
        (7, 30, 0.01, 1.0, 0.0),
        (30, 20, 0.1, 1.0, 50.0),
    ):
        f, slope, x, start = network(size + steps, size)
        moved = jaxplain.guided_integrated_gradients(
            lambda x, f=f, offset=offset: f(x - offset),
            baseline=jnp.asarray(start + offset, jnp.float32),
            steps=steps,
            fraction=fraction,
            distance=distance,
        )
        right = reference(slope, x, start, steps, fraction, distance)
        tolerance = (2e-4 if offset == 0 else 2e-2) * np.abs(right).max()
        np.testing.assert_allclose(moved(jnp.asarray(x + offset, jnp.float32)), right, atol=tolerance)


@pytest.mark.slow
def test_groups_start_behind_features_whose_gradients_tie():
    slopes = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])  # a dead layer's zeros tie
    bend = lambda z: z + z**2 / 100  # noqa: E731

    def f(x):
        return (jnp.asarray(slopes, x.dtype) * bend(x)).sum()

    def gradient(x):
        return slopes * (1 + x / 50)

    x, start = np.linspace(1, 2, 12), np.zeros(12)
    for fraction in (0.3, 0.2, 0.5):
        e = jaxplain.guided_integrated_gradients(f, steps=7, fraction=fraction, distance=1.0)
        right = reference(gradient, x, start, 7, fraction, 1.0)
        np.testing.assert_allclose(jax.jit(e)(jnp.asarray(x, jnp.float32)), right, atol=1e-4)
