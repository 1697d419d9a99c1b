"""Maps of channels-first images: sizes come from the spatial axes, or it is said how to tell them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain

IMAGE = jax.random.normal(jax.random.key(0), (3, 32, 32))


def model(channels, side, last):
    """A layer of pooled channels, which lie last or first."""

    def f(x):
        pooled = x.reshape(3, side, 32 // side, side, 32 // side).mean((2, 4))
        h = jnp.concatenate([pooled] * (channels // 3 + 1))[:channels]
        with jax.named_scope("features"):
            h = jnp.moveaxis(h, 0, -1) * 1.0 if last else h * 1.0
        return (h**2).sum()

    return f


@pytest.mark.slow
def test_a_layer_with_channels_last_takes_the_images_spatial_axes():
    for make in (jaxplain.grad_cam, jaxplain.score_cam, jaxplain.eigen_cam):
        assert make(model(6, 8, last=True), "features")(IMAGE).shape == (32, 32)


@pytest.mark.slow
def test_a_layer_with_channels_first_says_which_setting():
    for channels, side in ((6, 16), (16, 16), (3, 32), (64, 8)):
        f = model(channels, side, last=False)
        with pytest.raises(ValueError, match=r"`x` of shape \(3, 32, 32\) has its .* `channel_axis=0` .*resize"):
            jaxplain.grad_cam(f, "features")(IMAGE)
        assert jaxplain.grad_cam(f, "features", channel_axis=0)(IMAGE).shape == (32, 32)
    square = jaxplain.grad_cam(model(16, 16, last=True), "features", resize=(32, 32))(IMAGE)
    first = jaxplain.grad_cam(model(16, 16, last=False), "features", channel_axis=0)(IMAGE)
    np.testing.assert_allclose(square, first, rtol=1e-5)


@pytest.mark.slow
def test_other_inputs_keep_their_axes():
    def f(x):
        with jax.named_scope("features"):
            h = x * 1.0
        return (h**2).sum()

    for shape, axis, size in (
        ((4, 4, 64), -1, (4, 4)),  # a small map of many channels
        ((4, 64), -1, (4,)),
        ((2, 9, 9), 0, (9, 9)),
        ((5, 6, 7, 2), -1, (5, 6, 7)),
        ((2, 5, 6, 7), 0, (5, 6, 7)),
    ):
        x = jnp.ones(shape)
        assert jaxplain.grad_cam(f, "features", channel_axis=axis)(x).shape == size, shape
    with pytest.raises(ValueError, match="`channel_axis=-1`"):
        jaxplain.grad_cam(f, "features", channel_axis=0)(jnp.ones((32, 32, 3)))


def test_guided_grad_cam_masks_the_images_spatial_axes():
    def f(x):
        h = jax.nn.relu(x)
        with jax.named_scope("features"):
            h = jnp.moveaxis(h, 0, -1)[::4, ::4] * 1.0
        return h.sum()

    assert jaxplain.guided_grad_cam(f, "features")(IMAGE).shape == IMAGE.shape
