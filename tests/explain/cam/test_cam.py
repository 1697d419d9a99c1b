"""Class activation maps against slow references, closed forms, peers' numbers, and the laws that all of them share."""

from __future__ import annotations

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.explain.cam.eigen_cam import leading_direction
from shared import cams

GRADIENT = ("grad_cam", "grad_cam_plus_plus", "hires_cam", "xgrad_cam", "layer_cam", "eigen_cam", "eigen_grad_cam")
EVERY = (*GRADIENT, "score_cam", "ablation_cam")
every = pytest.mark.parametrize("name", EVERY)
CLASS = 1


def score(dimensions=2, stride=1, seed=0, channels=2):
    return jaxplain.logit(cams.Net(dimensions, stride).apply, cams.variables(dimensions, seed, channels))


def method(name):
    return getattr(jaxplain, name)


def at_layer(f, layer, x):
    """The layer's values and gradients in double precision."""
    body, head = jaxplain.split(f, layer)
    h = body(x, CLASS)
    return np.asarray(h, np.float64), np.asarray(jax.grad(head)(h, x, CLASS), np.float64)


@pytest.mark.slow
@pytest.mark.parametrize(("dimensions", "size"), [(1, (9,)), (2, (6, 8)), (3, (4, 5, 6))])
@pytest.mark.parametrize("name", [*GRADIENT, "class_activation_map"])
def test_maps_equal_the_slow_reference_in_one_two_and_three_dimensions(name, dimensions, size):
    f, x = score(dimensions, stride=2), cams.image(size)
    layer = "last" if name == "class_activation_map" else "features"
    signed = getattr(cams, name)(*at_layer(f, layer, x))
    assert signed.shape != size
    np.testing.assert_allclose(method(name)(f, layer, relu=False, resize=False)(x, CLASS), signed, rtol=2e-4, atol=1e-6)
    full = cams.interpolated(np.maximum(signed, 0), size)
    np.testing.assert_allclose(method(name)(f, layer)(x, CLASS), full, rtol=2e-4, atol=1e-6)


@pytest.mark.slow
def test_score_cam_equals_the_slow_reference():
    f, x = score(stride=2), cams.image((7, 6))

    def masked(mask):
        return float(compiled(jnp.asarray(x * mask[..., None], jnp.float32), CLASS))

    compiled = jax.jit(f)
    signed = cams.score_cam(at_layer(f, "features", x)[0], masked, (7, 6))
    e = jaxplain.score_cam(f, "features", relu=False, resize=False, batch_size=3)
    np.testing.assert_allclose(e(x, CLASS), signed, rtol=1e-4)


@pytest.mark.slow
def test_ablation_cam_equals_the_slow_reference():
    f, x = score(stride=2), cams.image((7, 6))
    _, head = jaxplain.split(f, "features")
    values = at_layer(f, "features", x)[0]
    signed = cams.ablation_cam(values, lambda h: float(head(jnp.asarray(h, jnp.float32), x, CLASS)))
    e = jaxplain.ablation_cam(f, "features", relu=False, resize=False, batch_size=3)
    np.testing.assert_allclose(e(x, CLASS), signed, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("own", "size"), [((3, 4), (7, 9)), ((5,), (13,)), ((2, 3, 2), (4, 5, 7)), ((6, 6), (3, 6))])
@pytest.mark.sampled(2)
def test_maps_are_interpolated_with_half_pixel_centres(own, size):
    from jaxplain.internals.spatial import resized, spread

    values = np.random.default_rng(0).normal(size=own)
    single = jnp.asarray(values, jnp.float32)
    np.testing.assert_allclose(resized(single, size), cams.interpolated(values, size), atol=1e-5)
    np.testing.assert_allclose(spread(single, size).sum(), values.sum(), rtol=1e-4)


# Numbers of pytorch-grad-cam 1.5.7 and captum 0.9.0 on the same weights, by tests/peers/cam_peers.py: row 2 of the map.
PYTORCH_GRAD_CAM = {
    "grad_cam": [0.279138, 0.32796, 0.563025, 0.33944, 0.515902, 0.0],
    "grad_cam_plus_plus": [0.348846, 0.171063, 0.684134, 0.421804, 0.551688, 0.0],
    "hires_cam": [0.227869, 0.44353, 0.219617, 0.283841, 0.402616, 0.0],
    "xgrad_cam": [0.299754, 0.324887, 0.449362, 0.287601, 0.429665, 0.0],
    "layer_cam": [0.227869, 0.44353, 0.219617, 0.368953, 0.437714, 0.0],
    "score_cam": [0.327851, 0.253611, 0.525901, 0.404504, 0.531509, 0.0],
    "ablation_cam": [0.150275, 0.37702, 0.367707, 0.287441, 0.470095, 0.0],
}
# fmt: off
CAPTUM_GRAD_CAM = [0.02522, 0.029631, 0.050869, 0.030668, 0.046611, 0.0]
CAPTUM_INTERPOLATED = [
    0.009943, 0.013768, 0.029072, 0.044376, 0.037039, 0.022154, 0.011458, 0.013327, 0.015197, 0.033557, 0.057415,
    0.068376, 0.040649, 0.012922, 0.00599,
]
# fmt: on


@pytest.mark.parametrize("name", PYTORCH_GRAD_CAM)
@pytest.mark.sampled(2)
def test_maps_equal_pytorch_grad_cams_up_to_its_stretching(name):
    # Grad-CAM++ of 100 times the score, where the peer's epsilon does not count.
    target = jnp.array([0.0, 100.0, 0.0]) if name == "grad_cam_plus_plus" else CLASS
    a = np.asarray(method(name)(score(), "features")(cams.image(), target))
    np.testing.assert_allclose(cams.stretched(a)[2], PYTORCH_GRAD_CAM[name], atol=1e-4)


def test_grad_cam_equals_captums():
    f, x = score(), cams.image()
    signed = jaxplain.grad_cam(f, "features", relu=False)(x, CLASS)
    np.testing.assert_allclose(signed[2], CAPTUM_GRAD_CAM, atol=2e-6)
    larger = jaxplain.grad_cam(f, "features", relu=False, resize=(9, 15))(x, CLASS)
    np.testing.assert_allclose(larger[2], CAPTUM_INTERPOLATED, atol=2e-6)


# Where pytorch-grad-cam is wrong, the right value by hand. `planes` is a layer [1, 2, 2] whose two places and channels
# are the input's own values; the head is a function of it.


def planes(head):
    def f(x):
        with jax.named_scope("planes"):
            h = 1.0 * x
        return head(h)

    return f


def test_grad_cam_keeps_the_smallest_value_of_a_map():
    # The peer subtracts a map's minimum: evidence [2, 1] becomes [1, 0].
    f = planes(lambda h: h.sum())
    assert jaxplain.grad_cam(f, "planes")(jnp.array([[[2.0], [1.0]]])).tolist() == [[2.0, 1.0]]
    assert jaxplain.grad_cam(f, "planes", normalize=True)(jnp.array([[[2.0], [1.0]]])).tolist() == [[1.0, 0.5]]


def test_grad_cam_plus_plus_counts_small_gradients_like_large_ones():
    # Channel 0 sums to 4 with gradient g, channel 1 to 2 with gradient 3 g. For small g the shares 1 / (2 + g sum A)
    # are 1/2, so that weights are g and 3 g at two places each. The peer adds 1e-6 to the denominator: its weights
    # fall with g squared, and their ratio becomes 27 instead of 3.
    x = jnp.array([[[3.0, 0.5], [1.0, 1.5]]])
    right = np.array([[3 + 1.5, 1 + 4.5]])
    for g in (1e-4, 1e-6):
        a = jaxplain.grad_cam_plus_plus(planes(lambda h, g=g: (h @ jnp.array([g, 3 * g])).sum()), "planes")(x)
        np.testing.assert_allclose(a / g, right, rtol=1e-3)


def test_ablation_sets_a_channel_to_zero():
    # f = h0 + 2 h1 at the first place: without channel 0 the score falls from 3 + 2 * 1 = 5 to 2, without 1 to 3. The
    # peer sets channels to min - 1e7 where the layer's minimum is not zero.
    f = planes(lambda h: h[0, 0, 0] + 2 * h[0, 0, 1])
    a = jaxplain.ablation_cam(f, "planes")(jnp.array([[[3.0, 1.0], [0.5, 2.0]]]))
    np.testing.assert_allclose(a, [[3 * 0.6 + 1 * 0.4, 0.5 * 0.6 + 2 * 0.4]], rtol=1e-6)


@pytest.mark.slow
def test_score_cam_masks_with_half_pixel_centres():
    # Two places on four pixels: the mask is [0, 1/4, 3/4, 1] (the peer aligns corners: [0, 1/3, 2/3, 1]). The second
    # channel is the first reversed; the score is the second pixel, 1/4 or 3/4.
    def f(x):
        with jax.named_scope("pooled"):
            h = jnp.array([[[0.0, 1.0], [1.0, 0.0]]]) + 0 * x[:, :2]
        return x[0, 1, 0] + 0 * h.sum()

    w = np.exp([0.25, 0.75]) / np.exp([0.25, 0.75]).sum()
    a = jaxplain.score_cam(f, "pooled", resize=False)(jnp.ones((1, 4, 1)))
    np.testing.assert_allclose(a, [[w[1], w[0]]], rtol=1e-6)


def test_eigen_cam_is_not_centred_and_has_a_fixed_sign():
    # Rows (3, 4) and (6, 8): v = (0.6, 0.8), projections 5 and 10. The peer centres first and gives -+2.5.
    f = planes(lambda h: h[0, 0, 0] - h[0, 1, 1])
    x = jnp.array([[[3.0, 4.0], [6.0, 8.0]]])
    np.testing.assert_allclose(jaxplain.eigen_cam(f, "planes")(x), [[5.0, 10.0]], rtol=1e-6)
    np.testing.assert_allclose(jaxplain.eigen_cam(f, "planes")(-x), [[5.0, 10.0]], rtol=1e-6)
    # Times the gradient: rows (3, 0) and (0, -8); the longest direction is channel 1.
    np.testing.assert_allclose(jaxplain.eigen_grad_cam(f, "planes", relu=False)(x), [[0.0, 8.0]], atol=1e-6)


@pytest.mark.slow
def test_class_activation_maps_average_to_the_logit():
    f, x = score(), cams.image()
    a = jaxplain.class_activation_map(f, "last", relu=False)(x, CLASS)
    bias = cams.variables()["params"]["head"]["bias"][CLASS]
    np.testing.assert_allclose(a.mean() + bias, f(x, CLASS), rtol=1e-5)
    # With one pooling and a linear head, CAM is Grad-CAM, HiResCAM and XGrad-CAM times the number of places.
    for name in ("grad_cam", "hires_cam", "xgrad_cam"):
        np.testing.assert_allclose(a / 36, method(name)(f, "last", relu=False)(x, CLASS), rtol=1e-4, atol=1e-7)


def test_class_activation_map_refuses_heads_without_weights():
    f, x = score(), cams.image()
    with pytest.raises(ValueError, match="not linear"):
        jaxplain.class_activation_map(f, "features")(x, CLASS)
    with pytest.raises(ValueError, match="not linear"):
        jax.jit(jaxplain.class_activation_map(f, "features"))(x, CLASS)
    uneven = planes(lambda h: (h * jnp.array([[[1.0], [2.0]]])).sum())
    e = jaxplain.class_activation_map(uneven, "planes")
    with pytest.raises(ValueError, match="weighs its places differently"):
        e(jnp.ones((1, 2, 1)))
    assert bool(jnp.isnan(jax.jit(e)(jnp.ones((1, 2, 1)))).all())


def test_hires_cam_sums_to_a_linear_head_where_grad_cam_does_not():
    kernel = jnp.array([[[1.0], [-2.0]]])
    f, x = planes(lambda h: (h * kernel).sum()), jnp.array([[[4.0], [1.0]]])
    assert float(jaxplain.hires_cam(f, "planes", relu=False)(x).sum()) == float(f(x)) == 2.0
    assert float(jaxplain.grad_cam(f, "planes", relu=False)(x).sum()) == -2.5


# Laws of every map.


def test_inputs_that_a_compiled_function_holds_are_read():
    f, x = score(), jnp.asarray(cams.image())
    e = jaxplain.grad_cam(f, "features")
    np.testing.assert_allclose(jax.jit(lambda: e(x, CLASS))(), e(x, CLASS), rtol=1e-5)
    bad = x.at[0, 0, 0].set(jnp.nan)
    with pytest.raises(ValueError, match="NaN"):
        jax.jit(lambda: e(bad, CLASS))()


@pytest.mark.slow
@every
def test_batches_chunks_and_compilation_change_nothing(name):
    f = score(stride=2)
    x, labels = jnp.stack([cams.image(seed=s) for s in (1, 2, 3)]), jnp.array([0, 1, 2])
    e = method(name)(f, "features", relu=False)
    single = jnp.stack([e(a, k) for a, k in zip(x, labels, strict=True)])
    assert single.shape == (3, 6, 6)
    np.testing.assert_allclose(jaxplain.explain_batch(e, x, labels), single, rtol=1e-4, atol=1e-5)
    if name in ("score_cam", "ablation_cam"):
        for size in (1, 3, 100):
            chunked = method(name)(f, "features", relu=False, batch_size=size)(x[0], 0)
            np.testing.assert_allclose(chunked, single[0], rtol=1e-4)


@every
@pytest.mark.sampled(3)
def test_new_weights_neither_compile_again_nor_become_constants(name):
    traces = []

    def apply(params, x):
        traces.append(1)
        return cams.Net().apply(params, x)

    x, labels = jnp.stack([cams.image(seed=s) for s in (1, 2)]), jnp.array([0, 1])

    def explained(seed):
        f = jaxplain.logit(apply, cams.variables(seed=seed))
        return jaxplain.explain_batch(method(name)(f, "features", relu=False), x, labels)

    first, count = explained(0), len(traces)
    second = explained(1)
    assert len(traces) == count
    assert not np.allclose(first, second)


@pytest.mark.slow
@every
def test_maps_can_be_differentiated(name):
    x = jnp.asarray(cams.image())
    direction = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(leaf.size), leaf.shape), cams.variables())

    @jax.jit
    def energy(step):
        params = jax.tree.map(lambda p, d: p + step * d, cams.variables(), direction)
        f = jaxplain.probability(cams.Net(smooth=True).apply, params)
        return (method(name)(f, "features", relu=False)(x, CLASS) ** 2).sum()

    slope = float(jax.grad(energy)(0.0))
    difference = float((energy(1e-3) - energy(-1e-3)) / 2e-3)
    np.testing.assert_allclose(slope, difference, rtol=0.02)


@every
@pytest.mark.sampled(4)
def test_half_precision(name):
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), cams.variables())
    f, x = jaxplain.logit(cams.Net().apply, params), jnp.asarray(cams.image(), jnp.bfloat16)
    a, wide = method(name)(f, "features")(x, CLASS), method(name)(score(), "features")(cams.image(), CLASS)
    assert a.dtype == jnp.bfloat16
    assert float(jnp.abs(a - wide).max()) < 0.1 * float(jnp.abs(wide).max()) + 0.02


@pytest.mark.slow
def test_a_direction_has_a_derivative_where_channels_are_silent():
    matrix = jnp.array([[1.0, 2.0, 0.0, 0.0], [3.0, 1.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.0]])
    chex.assert_numerical_grads(lambda m: (leading_direction(m) ** 4).sum(), (matrix,), order=1)


# Tokens, and other layouts.


@functools.cache
def transformer(pool):
    module = jaxplain.models.transformer(3, patch=2, length=24, width=8, depth=2, heads=2, pool=pool)
    x = jax.random.normal(jax.random.key(3), (8, 12, 3))
    return jaxplain.logit(module.apply, jax.jit(module.init)(jax.random.key(4), x[None])), x


@pytest.mark.slow
@pytest.mark.parametrize(("name", "pool"), [("grad_cam", "class"), ("eigen_cam", "mean"), ("ablation_cam", "class")])
def test_tokens_are_laid_on_a_grid_without_the_class_token(name, pool):
    f, x = transformer(pool)
    e = method(name)(f, "block_0", relu=False, resize=False)
    a = jax.jit(e)(x, CLASS)
    assert a.shape == (4, 6)
    assert jax.eval_shape(method(name)(f, "block_0"), x, CLASS).shape == (8, 12)
    values, slopes = at_layer(f, "block_0", x)
    assert len(values) == 24 + (pool == "class")
    if name in GRADIENT:
        right = getattr(cams, name)(*(v[-24:].reshape(4, 6, 8) for v in (values, slopes)))
        np.testing.assert_allclose(a, right, rtol=2e-3, atol=1e-5)
    given = jax.jit(method(name)(f, "block_0", relu=False, resize=False, grid=(4, 6)))(x, CLASS)
    np.testing.assert_array_equal(given, a)


@pytest.mark.slow
def test_a_given_grid_drops_the_tokens_before_it():
    f, x = transformer("mean")
    a = jax.jit(jaxplain.hires_cam(f, "block_0", relu=False, resize=False, grid=(2, 10)))(x, CLASS)
    values, slopes = at_layer(f, "block_0", x)
    np.testing.assert_allclose(a, (values * slopes).sum(-1)[4:].reshape(2, 10), rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_token_ids_get_a_map_along_the_sequence():
    module = jaxplain.models.transformer(2, vocabulary=11, length=8, width=8, depth=1, heads=2)
    ids = jnp.array([3, 5, 2, 0, 0])
    f = jaxplain.logit(module.apply, jax.jit(module.init)(jax.random.key(0), ids[None]))
    a = jax.jit(jaxplain.hires_cam(f, "block_0", relu=False))(ids, 1)
    assert a.shape == (5,)
    assert a.dtype == jnp.float32
    assert (a[:3] != 0).all()
    assert not a[3:].any()  # padding is pooled by none
    assert jax.eval_shape(jaxplain.ablation_cam(f, "block_0"), ids, 1).shape == (5,)


@pytest.mark.slow
def test_channels_may_come_first():
    def first(params, x):
        kernel = jnp.transpose(params["first"], (3, 2, 0, 1))
        with jax.named_scope("features"):
            h = jax.nn.relu(jax.lax.conv(x, kernel, (2, 2), "SAME"))
        return h.mean((2, 3)) @ params["out"]

    def last(params, x):
        with jax.named_scope("features"):
            numbers = ("NHWC", "HWIO", "NHWC")
            h = jax.nn.relu(jax.lax.conv_general_dilated(x, params["first"], (2, 2), "SAME", dimension_numbers=numbers))
        return h.mean((1, 2)) @ params["out"]

    params = {
        "first": jax.random.normal(jax.random.key(0), (3, 3, 2, 4)),
        "out": jax.random.normal(jax.random.key(1), (4, 3)),
    }
    x = jnp.asarray(cams.image((6, 8)))
    for name in EVERY:
        right = jax.jit(method(name)(jaxplain.logit(last, params), "features"))(x, CLASS)
        e = method(name)(jaxplain.logit(first, params), "features", channel_axis=0)
        np.testing.assert_allclose(jax.jit(e)(jnp.moveaxis(x, -1, 0), CLASS), right, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_inputs_of_several_leaves_have_the_size_of_the_fitting_one():
    def f(x):
        with jax.named_scope("features"):
            h = x["image"] * x["scale"]
        return h.mean() + 0.0 * x["ids"].sum()

    x = {"ids": jnp.arange(5), "image": jnp.ones((4, 4, 2)), "scale": jnp.array(2.0)}
    assert jaxplain.grad_cam(f, "features")(x).shape == (4, 4)
    assert jaxplain.score_cam(f, "features")(x).shape == (4, 4)


# Bad input.


def test_layers_without_places_are_refused():
    f, x = score(), cams.image()
    for name in (*EVERY, "class_activation_map"):
        with pytest.raises(ValueError, match=f"{name}: 'head' holds values of shape .3,. .* have no spatial"):
            method(name)(f, "head")(x, CLASS)
        with pytest.raises(ValueError, match=f"^{name}: there is no layer 'lost'"):
            method(name)(f, "lost")(x, CLASS)


def test_settings_are_checked():
    f, x = score(), cams.image()
    with pytest.raises(ValueError, match="`channel_axis` is 3, but 'features' holds values of shape "):
        jaxplain.grad_cam(f, "features", channel_axis=3)(x, CLASS)
    with pytest.raises(TypeError, match="`relu` has to be True or False"):
        jaxplain.grad_cam(f, "features", relu="yes")
    with pytest.raises(TypeError, match="`resize` has to be a tuple"):
        jaxplain.grad_cam(f, "features", resize=7)
    with pytest.raises(ValueError, match="`batch_size` has to be at least 1"):
        jaxplain.score_cam(f, "features", batch_size=0)
    with pytest.raises(ValueError, match="does not fit"):
        jaxplain.grad_cam(f, "features", resize=(3,))(x, CLASS)
    with pytest.raises(ValueError, match="A grid is for tokens"):
        jaxplain.grad_cam(f, "features", grid=(5, 5))(x, CLASS)
    with pytest.raises(ValueError, match="NaN"):
        jaxplain.grad_cam(f, "features")(x * np.nan, CLASS)
    with pytest.raises(ValueError, match="outside the model's 3 outputs"):
        jaxplain.explain_batch(jaxplain.grad_cam(f, "features"), x[None], 7)


def test_tokens_that_fit_no_grid_ask_for_one():
    def f(x):
        with jax.named_scope("tokens"):
            h = x.reshape(-1, 3)[:23]
        return h.sum()

    with pytest.raises(ValueError, match="23 tokens of 'tokens' fill no grid"):
        jaxplain.grad_cam(f, "tokens")(jnp.ones((4, 6, 3)))
    assert jaxplain.grad_cam(f, "tokens", grid=(4, 5))(jnp.ones((4, 6, 3))).shape == (4, 6)


def test_a_layer_of_several_arrays_asks_for_one():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x * 2, x * 3

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            a, b = Two(name="two")(x)
            return (a + b).mean((1, 2))

    f, x = jaxplain.logit(Net().apply, {}), jnp.ones((4, 4, 2))
    with pytest.raises(ValueError, match=r"pick one, as in 'two\[0\]'"):
        jaxplain.grad_cam(f, "two")(x, 0)
    assert jaxplain.grad_cam(f, "two[1]")(x, 0).shape == (4, 4)


# Guided Grad-CAM.


def test_guided_grad_cam_of_token_ids_is_the_product_of_both():
    table, weights = (jax.random.normal(jax.random.key(place), shape) for place, shape in enumerate([(9, 4), (4, 5)]))

    def f(tokens):
        with jax.named_scope("features"):
            h = jax.nn.relu(table[tokens] @ weights)
        return (h**2).sum()

    tokens = jnp.array([3, 1, 8, 0, 3])
    a = jaxplain.guided_grad_cam(f, "features")(tokens)
    product = jaxplain.guided_backprop(f)(tokens) * jaxplain.grad_cam(f, "features")(tokens)
    assert a.shape == tokens.shape
    assert a.any()
    np.testing.assert_allclose(a, product, rtol=1e-5)


def test_guided_grad_cam_is_the_product_of_both():
    f, x = score(stride=2), jnp.asarray(cams.image((6, 8)))
    a = jax.jit(jaxplain.guided_grad_cam(f, "features"))(x, CLASS)
    guided = jax.jit(jaxplain.guided_backprop(f))(x, CLASS)
    cam = jax.jit(jaxplain.grad_cam(f, "features"))(x, CLASS)
    assert a.shape == x.shape
    assert a.any()
    np.testing.assert_allclose(a, guided * cam[..., None], rtol=1e-5, atol=1e-8)
    smooth = jaxplain.logit(cams.Net(smooth=True).apply, cams.variables())
    with pytest.raises(ValueError, match="no ReLU"):
        jaxplain.guided_grad_cam(smooth, "features")(x, CLASS)
