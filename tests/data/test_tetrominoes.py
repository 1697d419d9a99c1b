"""Tetrominoes: the source's recipe in NumPy and SciPy, what decides the class, and settings that fit nothing."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest
from scipy import ndimage

from jaxplain.data import tetrominoes

KEY = jax.random.key(0)
T, L = np.zeros((2, 8, 8))
T[1:4, 1:3] = [[1, 0], [1, 1], [1, 0]]
L[4:7, 5:7] = [[1, 0], [1, 0], [1, 1]]


def drawn(scenario, background="white", examples=12, **settings):
    data = tetrominoes(KEY, examples, scenario=scenario, background=background, **settings)
    return data, np.asarray(data.inputs)[..., 0].astype(float), np.asarray(data.truth)[..., 0]


def test_a_tetromino_is_added_to_noise_of_one_norm():
    data, images, truth = drawn("linear")
    assert data.inputs.dtype == np.float32
    assert np.abs(images).max() == pytest.approx(1)
    assert (truth == (T + L > 0)).all()
    assert sorted(data.targets.tolist()) == [0] * 6 + [1] * 6
    patterns = np.where((data.targets == 0)[:, None, None], T, L)
    found = drawn("linear", signal=1.0)[1]
    np.testing.assert_allclose(found, patterns, atol=1e-6)  # nothing but tetrominoes
    noise = drawn("linear", signal=1e-6)[1]
    whole = 0.18 * patterns / np.linalg.norm(patterns) + 0.82 * noise / np.linalg.norm(noise)
    np.testing.assert_allclose(images, whole / np.abs(whole).max(), atol=1e-5)


def test_a_tetromino_dims_the_noise():
    data, images, _ = drawn("multiplicative")
    patterns = np.where((data.targets == 0)[:, None, None], T, L)
    noise = drawn("multiplicative", signal=1e-6)[1]
    whole = (1 - 0.7 * patterns) * noise
    np.testing.assert_allclose(images, whole / np.abs(whole).max(), atol=1e-5)


def test_signs_that_are_equal_or_different():
    data, images, truth = drawn("xor", signal=1.0)
    assert (truth == (T + L > 0)).all()
    signs = np.stack([np.rint(images[:, 1, 1]), np.rint(images[:, 6, 6])], 1)
    np.testing.assert_allclose(images, signs[:, 0, None, None] * T + signs[:, 1, None, None] * L, atol=1e-6)
    assert ((signs[:, 0] != signs[:, 1]) == (data.targets == 1)).all()
    assert {*map(tuple, signs)} == set(itertools.product((-1.0, 1.0), repeat=2))


def test_tetrominoes_lie_anywhere_and_turned():
    data, images, truth = drawn("translation_rotation", examples=600, signal=1.0)
    assert (truth == (images > 0.5)).all()
    assert (truth.sum((1, 2)) == 4).all()
    found = [set(), set()]
    for label, mask in zip(data.targets, truth, strict=True):
        rows, columns = np.nonzero(mask)
        found[label].add((tuple(rows - rows.min()), tuple(columns - columns.min())))
    assert [len(shapes) for shapes in found] == [4, 4]
    assert not found[0] & found[1]
    tops = np.array([np.argwhere(mask).min(0) for mask in truth])
    assert tops.min() == 0
    assert tops.max() == 6


@pytest.mark.parametrize("size", [8, 64])
def test_a_correlated_background_is_filtered_noise(size):
    images = {name: drawn("linear", name, 4, size=size, signal=1e-7)[1] for name in ("white", "correlated")}
    blurred = np.stack([ndimage.gaussian_filter(image, {8: 3, 64: 10}[size]) for image in images["white"]])
    np.testing.assert_allclose(images["correlated"], blurred / np.abs(blurred).max(), atol=2e-5)


def test_large_tetrominoes_have_blurred_edges():
    _, images, truth = drawn("xor", examples=4, size=64, signal=1.0)
    shape = np.kron(T, np.ones((8, 8))), np.kron(L, np.ones((8, 8)))
    t, ell = (ndimage.gaussian_filter(one, 1.5) for one in shape)
    assert (truth == (t + ell >= 0.05)).all()
    np.testing.assert_allclose(np.abs(images), np.broadcast_to((t + ell) / (t + ell).max(), images.shape), atol=1e-5)
    _, images, truth = drawn("translation_rotation", examples=8, size=64)
    assert (truth.sum((1, 2)) > 4 * 16).all()
    assert images.shape == (8, 64, 64)


@pytest.mark.slow
def test_images_are_the_same_where_numbers_are_wide():
    for scenario in ("translation_rotation", "xor"):
        own, images, truth = drawn(scenario, examples=6)
        with jax.enable_x64(True):
            wide = tetrominoes(jax.random.key(0), 6, scenario=scenario)
        assert wide.inputs.dtype == np.float32
        assert (wide.targets.dtype, wide.truth.dtype) == (own.targets.dtype, own.truth.dtype)
        np.testing.assert_array_equal(wide.targets, own.targets)
        np.testing.assert_array_equal(wide.truth[..., 0], truth)
        np.testing.assert_allclose(wide.inputs[..., 0], images, atol=1e-5)


def test_settings_that_are_none():
    for settings, words in (
        ({"scenario": "cubic"}, "`scenario` is 'cubic'"),
        ({"background": "grey"}, "`background` is 'grey'"),
        ({"size": 16}, "`size` is 16; it has to be 8 or 64"),
        ({"signal": 1.5}, "`signal` is 1.5"),
        ({"signal": 0.0}, "`signal`"),
        ({"examples": 1}, "`examples` has to be at least 2"),
    ):
        with pytest.raises(ValueError, match=words):
            tetrominoes(KEY, **settings)
