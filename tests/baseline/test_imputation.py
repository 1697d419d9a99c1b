"""Noisy linear imputation against a sparse direct solve."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

from jaxplain import baseline
from jaxplain.baseline.imputation import imputed, linear_imputation, noisy_linear_imputation

KEY = jax.random.key(0)
solve = jax.jit(linear_imputation)


def direct(x: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """The same system written down as in the paper, pixel by pixel, and solved by a sparse factorisation."""
    height, width, channels = x.shape
    pixels = np.argwhere(missing)
    place = {tuple(pixel): number for number, pixel in enumerate(pixels.tolist())}
    matrix = scipy.sparse.lil_matrix((len(pixels), len(pixels)))
    right = np.zeros((len(pixels), channels))
    for (i, j), number in place.items():
        for di in (-1, 0, 1):
            for dj in (-1, 0, 1):
                p, q = i + di, j + dj
                if (di, dj) == (0, 0) or not (0 <= p < height and 0 <= q < width):
                    continue
                weight = 1 / 6 if 0 in (di, dj) else 1 / 12
                matrix[number, number] += weight
                if (p, q) in place:
                    matrix[number, place[p, q]] -= weight
                else:
                    right[number] += weight * x[p, q]
    filled = x.astype(np.float64)
    filled[missing] = scipy.sparse.linalg.spsolve(matrix.tocsc(), right).reshape(len(pixels), channels)
    return filled


def picture(shape: tuple[int, int, int]) -> np.ndarray:
    rng = np.random.default_rng(1)
    waves = np.sin(np.arange(shape[0])[:, None, None] / 3) + np.cos(np.arange(shape[1])[None, :, None] / 5)
    return (waves + rng.normal(size=shape)).astype(np.float32)


def masks(shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    block = np.zeros(shape, bool)
    block[1:-1, 1:-2] = True
    corner = np.ones(shape, bool)
    corner[0, 0] = corner[-1, -1] = False
    border = np.zeros(shape, bool)
    border[0] = border[:, -1] = True
    return {
        "half": rng.random(shape) < 0.5,
        "most": rng.random(shape) < 0.95,
        "block": block,
        "corner": corner,
        "border": border,
        "none": np.zeros(shape, bool),
    }


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(17, 30, 3), (28, 28, 1)])
def test_equals_a_sparse_direct_solve(shape):
    x = picture(shape)
    for name, missing in masks(shape[:2]).items():
        wanted = direct(x, missing)
        np.testing.assert_allclose(solve(x, missing), wanted, atol=2e-5, err_msg=name)
        np.testing.assert_array_equal(np.asarray(solve(x, missing))[~missing], x[~missing])


@pytest.mark.slow
def test_large_images_with_two_known_pixels_or_one_hole():
    x = picture((224, 224, 3))
    for name in ("corner", "block", "most"):
        missing = masks((224, 224))[name]
        np.testing.assert_allclose(solve(x, missing), direct(x, missing), atol=2e-5 * np.ptp(x), err_msg=name)


def test_thin_images_and_single_pixels():
    line = np.array([[[0.0], [5.0], [5.0], [3.0]]], np.float32)
    np.testing.assert_allclose(solve(line, np.array([[False, True, True, False]]))[0, :, 0], [0, 1, 2, 3], atol=1e-6)
    column = solve(line[0], np.array([[False], [True], [True], [False]]))
    np.testing.assert_allclose(column[:, 0], [0, 1, 2, 3], atol=1e-6)
    assert solve(jnp.ones((1, 1)), jnp.array([[True]])).tolist() == [[0.0]]


def test_what_the_hole_held_has_no_influence_and_a_constant_stays():
    missing = masks((9, 8))["most"]
    x = jnp.where(missing[..., None], jnp.nan, 4.0)
    np.testing.assert_allclose(solve(x, missing), 4.0, rtol=1e-6)
    nothing = solve(x, jnp.ones((9, 8), bool))
    np.testing.assert_array_equal(nothing, 0.0)


@pytest.mark.slow
def test_a_mask_for_each_channel_equals_channel_by_channel():
    x = picture((9, 8, 2))
    both = np.stack([masks((9, 8))["most"], masks((9, 8))["block"]], axis=-1)
    together = solve(x, both)
    for channel in range(2):
        np.testing.assert_allclose(together[..., channel], solve(x[..., channel], both[..., channel]), atol=1e-5)


@pytest.mark.slow
def test_vmap_equals_a_loop_and_dtypes_are_kept():
    x = np.stack([picture((9, 8, 1))] * 3)
    missing = np.stack([masks((9, 8))[name] for name in ("half", "most", "block")])
    mapped = jax.jit(jax.vmap(linear_imputation))(x, missing)
    np.testing.assert_allclose(mapped, np.stack([solve(a, m) for a, m in zip(x, missing, strict=True)]), atol=1e-6)
    assert jax.eval_shape(linear_imputation, jnp.ones((3, 3), jnp.bfloat16), jnp.eye(3) > 0).dtype == jnp.bfloat16


@pytest.mark.slow
def test_noise_has_its_sigma_and_only_where_pixels_were_missing():
    x, missing = jnp.asarray(picture((48, 48, 3))), jnp.asarray(masks((48, 48))["half"])
    noise = jax.jit(imputed)(KEY, x, missing, 0.2) - solve(x, missing)
    assert not noise[~missing].any()
    count = int(missing.sum()) * 3
    np.testing.assert_allclose(noise[missing].std(), 0.2, rtol=4 / np.sqrt(2 * count))
    np.testing.assert_allclose(noise[missing].mean(), 0.0, atol=4 * 0.2 / np.sqrt(count))


def test_as_a_baseline():
    x = {"image": jnp.asarray(picture((6, 5, 1))), "id": jnp.array(3)}
    missing = jnp.zeros((6, 5), bool).at[2, 2].set(True)
    b = noisy_linear_imputation(missing, sigma=0.1)
    resolved = baseline.resolve(b, x, KEY, name="test")
    changed = resolved["image"] != x["image"]
    assert changed[2, 2, 0]
    assert changed.sum() == 1
    assert resolved["id"] == 3
    pytree = noisy_linear_imputation({"image": missing, "id": jnp.array(False)}, sigma=0.1)
    np.testing.assert_array_equal(pytree(KEY, x)["image"], resolved["image"])


def test_bad_input_is_named():
    x = jnp.ones((4, 5, 3))
    with pytest.raises(ValueError, match="missing"):
        linear_imputation(x, jnp.ones((5, 4), bool))
    with pytest.raises(TypeError, match="boolean"):
        linear_imputation(x, jnp.ones((4, 5)))
    with pytest.raises(ValueError, match="image"):
        linear_imputation(jnp.ones(4), jnp.ones(4, bool))
    with pytest.raises(TypeError, match="boolean"):
        noisy_linear_imputation(jnp.ones((4, 5)))
    with pytest.raises(ValueError, match="sigma"):
        noisy_linear_imputation(jnp.ones((4, 5), bool), sigma=-1.0)
    with pytest.raises(ValueError, match="key"):
        baseline.resolve(noisy_linear_imputation(jnp.ones((4, 5), bool)), x, name="test")
