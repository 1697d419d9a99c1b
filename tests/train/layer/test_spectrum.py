"""Singular values of weights: closed forms, a spike in noise, stacked params, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import train

GENERATOR = np.random.default_rng(0)


def spectrum(matrix, **settings):
    return train.weight_spectra(jnp.asarray(matrix, jnp.float32), **settings)["params"]


def test_closed_forms():
    u, v = np.linalg.qr(GENERATOR.normal(size=(6, 3)))[0], np.linalg.qr(GENERATOR.normal(size=(4, 3)))[0]
    for matrix, values, stable, effective in (
        (np.eye(5), [1] * 5, 5, 5),
        (u @ np.diag([4.0, 2.0, 1.0]) @ v.T, [4, 2, 1, 0], 21 / 16, 7 / (2 ** (2 / 7 * 1) * 4 ** (4 / 7))),
        (3 * np.outer(u[:, 0], v[:, 0]), [3, 0, 0, 0], 1, 1),
        (np.zeros((3, 2)), [0, 0], 0, 0),
    ):
        found = spectrum(matrix)
        assert found.shape == matrix.shape
        np.testing.assert_allclose(found.singular_values, values, atol=1e-5)
        assert float(found.norm) == pytest.approx(values[0], abs=1e-5)
        assert float(found.stable_rank) == pytest.approx(stable, rel=1e-5)
        assert float(found.effective_rank) == pytest.approx(effective, rel=1e-3)
    assert float(spectrum(np.diag([4.0, 2.0])).condition) == 2
    assert "stable rank 1.25, effective rank 1.89" in str(spectrum(np.diag([4.0, 2.0])))


def test_a_direction_in_noise_is_told_from_chance():
    n, m = 120, 60
    noise = GENERATOR.normal(size=(n, m))
    assert int(spectrum(noise).outliers) == 0
    assert float(spectrum(noise).edge) == pytest.approx(noise.std() * (n**0.5 + m**0.5), rel=1e-5)
    # A direction of strength t shows as sqrt((t^2 + n) (t^2 + m)) / t, above the edge once t^4 > n m.
    one, other = np.ones(n) / n**0.5, np.tile([1.0, -1.0], m // 2) / m**0.5
    strength = 4 * (n * m) ** 0.25
    found = spectrum(noise + strength * np.outer(one, other))
    assert int(found.outliers) == 1
    assert float(found.norm) == pytest.approx(((strength**2 + n) * (strength**2 + m)) ** 0.5 / strength, rel=0.03)


def test_trees_kernels_and_stacked_params():
    kernel = GENERATOR.normal(size=(2, 3, 4, 5)).astype(np.float32)
    params = {
        "conv": {"kernel": kernel, "bias": np.zeros(5)},
        "steps": np.arange(6).reshape(2, 3),
        "none": np.zeros((0, 2)),
    }
    found = train.weight_spectra(params)
    assert list(found) == ["conv/kernel"]
    expected = np.linalg.svd(kernel.reshape(-1, 5), compute_uv=False)
    np.testing.assert_allclose(found["conv/kernel"].singular_values, expected, rtol=1e-5)
    other = train.weight_spectra(kernel.transpose(3, 2, 0, 1), channel_axis=0)["params"]
    np.testing.assert_allclose(other.singular_values, expected, rtol=1e-5)
    half = train.weight_spectra(jnp.asarray(kernel, jnp.bfloat16))["params"]
    assert half.singular_values.dtype == jnp.float32
    stacked = jax.vmap(train.weight_spectra)({"w": jnp.stack([jnp.eye(3), jnp.diag(jnp.array([2.0, 1.0, 0.0]))])})["w"]
    np.testing.assert_allclose(stacked.stable_rank, [3, 1.25], rtol=1e-6)
    np.testing.assert_allclose(stacked.condition, [1, np.inf])
    assert stacked.outliers.shape == (2,)
    assert str(stacked) == "Spectrum(3x3, singular values [2, 3])"


def test_what_is_no_matrix_is_refused():
    for params, words in {
        "vectors": ({"b": np.ones(3)}, "holds no floating-point array of two axes"),
        "integers": (np.ones((2, 2), int), "holds no floating-point array"),
        "nan": ({"a": {"w": np.array([[1.0, np.nan]])}}, r"`params\['a/w'\]` .*NaN"),
        "nothing": ({}, "holds no arrays"),
    }.values():
        with pytest.raises(ValueError, match=words):
            train.weight_spectra(params)
    with pytest.raises(ValueError, match="`channel_axis` is 4, but `params` at 'params' has 3 axes"):
        train.weight_spectra(np.ones((2, 2, 2)), channel_axis=4)
