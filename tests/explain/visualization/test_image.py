"""Image parameterisations: spectra, sizes, ranges, and what fits no input."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxplain
from jaxplain import image, objective, regulariser, transform
from jaxplain.explain.visualization.image.parameterisation import IMAGENET

KEY = jax.random.key(0)


def slow_fourier(theta, shape, decay):
    """By definition: a wave for each coefficient and its conjugate, scaled to unit variance for white theta."""
    high, wide, channels = shape
    full = np.zeros((high, wide, channels), complex)
    weight = np.zeros((high, wide))
    for row in range(high):
        for column in range(wide // 2 + 1):
            fy = (row if row < (high + 1) // 2 else row - high) / high
            size = max(np.hypot(fy, column / wide), 1 / max(high, wide)) ** -decay
            weight[row, column] = 0 if row == column == 0 else size
            full[row, column] = size * (theta[0, row, column] + 1j * theta[1, row, column])
    x = np.zeros(shape)
    variance = 0.0
    rows, columns = np.arange(high)[:, None, None], np.arange(wide)[None, :, None]
    for row in range(high):
        for column in range(wide // 2 + 1):
            wave = np.exp(2j * np.pi * (row * rows / high + column * columns / wide))
            edge = column == 0 or (wide % 2 == 0 and column == wide // 2)
            x = x + (1 if edge else 2) * (full[row, column] * wave).real
            variance += (1 if edge else 4) * weight[row, column] ** 2
    return x / np.sqrt(variance)


@pytest.mark.parametrize("shape", [(4, 6, 2), (5, 5, 1), (3, 4, 1)])
def test_fourier_is_the_sum_of_waves(shape):
    made = image.fourier(shape, decay=1.5)
    theta = np.asarray(jax.random.normal(KEY, (2, shape[0], shape[1] // 2 + 1, shape[2])))
    np.testing.assert_allclose(made.buffer(jnp.asarray(theta)), 2 * slow_fourier(theta, shape, 1.5), atol=2e-5)
    other = image.fourier(shape, decay=1.5, gain=0.5)
    np.testing.assert_allclose(4 * other.buffer(jnp.asarray(theta)), made.buffer(jnp.asarray(theta)), atol=2e-5)


# Lucent 0.1.8, from tests/peers/lucent_images.py: its Fourier image of cos(0), cos(1), ..., its cosine of sin(0), ...
LUCENT_IMAGE = [
    [0.786698, 0.981586, 0.40175, -0.128855, -0.501708, 0.441506],
    [0.809102, 0.322225, 0.453769, -0.130983, -1.04678, -0.15986],
    [-0.636471, -0.354215, 0.594869, 0.064262, 0.498551, 1.348061],
    [0.675043, 1.479218, 0.24738, -0.008654, 0.179542, 1.032432],
]
LUCENT_COSINE = 0.21385


def test_fourier_and_cosine_are_lucents():
    made = image.fourier((4, 6, 1))
    theta = jnp.cos(jnp.arange(32.0)).reshape(2, 4, 4, 1)
    # The same image up to the scale, which is the size's there: ours has one spread for white coefficients.
    ratio = np.asarray(made.buffer(theta))[..., 0] / np.array(LUCENT_IMAGE)
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=2e-3)

    def layer(x):
        with jax.named_scope("layer"):
            h = x * 1.0
        return h.sum()

    h = jnp.moveaxis(jnp.sin(jnp.arange(12.0)).reshape(3, 2, 2), 0, -1)
    found = objective.direction(layer, "layer", jnp.array([1.0, 0.5, -1.0]), cosine=True)(h)
    np.testing.assert_allclose(found, LUCENT_COSINE, atol=1e-5)


@pytest.mark.slow
def test_fourier_spread_does_not_depend_on_the_size():
    spreads, rendered = [], []
    for size in (28, 29, 64, 224):
        made = image.fourier((size, size, 1))
        spread = jax.jit(lambda key, made=made: [draw(made.init(key)).std() for draw in (made.buffer, made.render)])
        one, other = spread(jax.random.key(size))
        spreads.append(float(one))
        rendered.append(float(other))
    np.testing.assert_allclose(spreads, 0.1, rtol=1e-3)
    assert max(rendered) / min(rendered) < 1.05


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(8, 6, 3), (7, 5, 1), (9, 2)])
def test_every_parameterisation_renders_its_shape_in_its_range(shape):
    data = np.random.default_rng(0).uniform(size=(5, *shape))
    for made in (
        image.pixels(shape, low=-2.0, high=3.0),
        image.fourier(shape, low=-2.0, high=3.0),
        image.pyramid(shape, levels=3, low=-2.0, high=3.0),
        image.cppn(shape, width=4, depth=2, low=-2.0, high=3.0),
        image.maco(data, low=-2.0, high=3.0),
    ):
        x = jax.jit(lambda key, made=made: made.render(made.init(key)))(KEY)
        assert x.shape == shape
        assert x.dtype == jnp.float32
        assert float(x.min()) >= -2
        assert float(x.max()) <= 3
        assert float(x.std()) > 0


@pytest.mark.parametrize("shape", [(28, 28, 1), (9, 8, 2), (8, 9, 1), (13, 3)])
@pytest.mark.sampled(2)
def test_maco_keeps_its_magnitudes_through_the_optimisation(shape):
    data = np.random.default_rng(1).uniform(size=(20, *shape)) ** 3
    made = image.maco(data)
    axes = tuple(range(len(shape) - 1))
    logits = np.log(np.clip(data, 0.02, 0.98)) - np.log1p(-np.clip(data, 0.02, 0.98))
    wanted = np.abs(np.fft.rfftn(logits, axes=[a + 1 for a in axes], norm="ortho")).mean(axis=0)
    climb = jax.jit(lambda theta: theta + 50.0 * jax.grad(lambda t: jnp.tanh(made.render(t)).mean())(theta))
    theta, buffer = jax.jit(made.init)(KEY), jax.jit(made.buffer)
    first = buffer(theta)
    for _ in range(4):
        spectrum = np.abs(np.fft.rfftn(np.asarray(buffer(theta), np.float64), axes=axes, norm="ortho"))
        np.testing.assert_allclose(spectrum, wanted, atol=1e-5, rtol=1e-5)
        theta = climb(theta)
    assert float(jnp.abs(buffer(theta) - first).max()) > 0.1


def test_colours_are_mixed_as_in_the_data():
    rng = np.random.default_rng(0)
    mixing = np.array([[1.0, 0.0], [0.8, 0.3]])
    data = rng.normal(size=(2000, 2)) @ mixing.T
    matrix = image.colour_matrix(data.reshape(20, 10, 10, 2))
    covariance = np.cov(data, rowvar=False, bias=True)
    ratio = (matrix @ matrix.T) / covariance
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-3)
    made = image.pixels((4, 4, 2), colour=matrix)
    theta = jax.random.normal(KEY, (4, 4, 2))
    np.testing.assert_allclose(made.render(theta), jax.nn.sigmoid(theta @ matrix.T), rtol=1e-5)
    np.testing.assert_allclose(made.encode(made.render(theta)), theta, atol=1e-3)
    assert image.fourier((4, 4, 3), colour="imagenet").squash.colour is IMAGENET
    with pytest.raises(ValueError, match="2 channels"):
        image.pixels((4, 4, 2), colour="imagenet")


def test_the_ball_holds_and_its_optimum_is_the_weight():
    w = jax.random.normal(KEY, (40,))
    center = jnp.full((40,), 0.3)
    made = jaxplain.activation_maximization(lambda x: x @ w, image=image.ball(center, 2.0), steps=100)
    step = made(jax.random.key(1)).image - center
    assert float(step @ w / jnp.linalg.norm(step) / jnp.linalg.norm(w)) > 0.999
    np.testing.assert_allclose(jnp.linalg.norm(step), 2.0, rtol=1e-4)
    box = image.ball(center, 0.5, norm="linf", low=0.0, high=1.0)
    far = box.render(100 * jnp.sign(w))
    np.testing.assert_allclose(far, jnp.where(w > 0, 0.8, 0.0), atol=1e-6)


@pytest.mark.slow
def test_starts_alpha_and_several():
    x = np.random.default_rng(0).uniform(0.1, 0.9, (6, 5, 2)).astype(np.float32)
    for made in (image.pixels(x.shape), image.fourier(x.shape), image.vector(x.shape, mean=0.5, scale=2.0)):
        begun = image.start(made, x)
        np.testing.assert_allclose(begun.render(begun.init(KEY)), x, atol=1e-5)
    clear = image.alpha(image.pixels(x.shape))
    assert clear.render(clear.init(KEY)).shape == (6, 5, 3)
    over = transform.composite()(KEY, jnp.concatenate([jnp.asarray(x), jnp.ones((6, 5, 1))], -1))
    np.testing.assert_allclose(over, x, rtol=1e-6)
    e = jaxplain.activation_maximization(
        lambda seen: seen[:3].mean() - seen[3:].mean(),
        image=clear,
        transforms=(transform.composite(),),
        regularisers=(regulariser.opacity(0.1),),
        optimizer=optax.adam(0.3),
        steps=40,
    )
    found = e(KEY).image
    assert float(found[:3, :, :2].mean()) > 0.7
    assert float(found[3:, :, :2].mean()) < 0.3
    assert image.batch(clear, 3).render(image.batch(clear, 3).init(KEY)).shape == (3, 6, 5, 3)


@pytest.mark.parametrize(
    ("build", "error", "match"),
    [
        (lambda: image.pixels(5), TypeError, "shape of one input"),
        (lambda: image.pixels((0, 3)), ValueError, "at least 1"),
        (lambda: image.pixels((2,), low=1.0, high=0.0), ValueError, "high - low"),
        (lambda: image.pixels((2,), low=None), ValueError, "both `low` and `high`"),
        (lambda: image.fourier((3,)), ValueError, r"\(H, W, C\)"),
        (lambda: image.fourier((3, 3, 1), decay=-1.0), ValueError, "decay"),
        (lambda: image.fourier((3, 3, 1), gain=0.0), ValueError, "gain"),
        (lambda: image.maco(np.ones((2, 3))), ValueError, r"\[N, H, W, C\]"),
        (lambda: image.maco(np.full((2, 3, 3, 1), 2.0)), ValueError, "outside of"),
        (lambda: image.ball(np.array([np.nan]), 1.0), ValueError, "NaN"),
        (lambda: image.ball(np.zeros(2), 0.0), ValueError, "radius"),
        (lambda: image.vector((3,), scale=jnp.zeros(3)), ValueError, "scale"),
        (lambda: image.vector((3,), mean=jnp.zeros(2)), ValueError, "mean"),
        (lambda: image.start(image.cppn((4, 4, 1)), np.zeros((4, 4, 1))), TypeError, "Cppn"),
        (lambda: image.start(image.pixels((2,)), np.zeros(3)), ValueError, r"shape \(3,\)"),
        (lambda: image.alpha(lambda x: x), TypeError, "init"),
        (lambda: image.colour_matrix(np.zeros((3, 2))), ValueError, "constant"),
        (lambda: transform.crop(0), ValueError, "at least 1"),
        (lambda: transform.scale(0.0, 1.0), ValueError, "low"),
        (lambda: transform.random_crop(0.0, 1.0), ValueError, "low"),
        (lambda: transform.crop(9)(KEY, jnp.ones((4, 4, 1))), ValueError, "cannot be cut out"),
        (lambda: transform.rotate(3.0)(KEY, jnp.ones((4, 4))), ValueError, "images"),
        (lambda: transform.composite()(KEY, jnp.ones((4, 4, 1))), ValueError, "opacity"),
        (lambda: regulariser.lp(1.0, 0.5), ValueError, "power"),
        (lambda: objective.score(3), TypeError, "function"),
    ],
)
def test_what_does_not_fit_is_said(build, error, match):
    with pytest.raises(error, match=match):
        build()


@pytest.mark.slow
def test_transforms_by_hand():
    x = jnp.arange(16.0).reshape(4, 4, 1)
    seen = transform.scale(2.0, 2.0)(KEY, x)[..., 0]
    np.testing.assert_allclose(seen[0], [3.75, 4.25, 4.75, 5.25], atol=1e-5)
    np.testing.assert_allclose(transform.scale(1.0, 1.0)(KEY, x), x, atol=1e-6)
    np.testing.assert_allclose(transform.rotate(0.0)(KEY, x), x, atol=1e-6)
    assert transform.pad(1, fill=7.0)(KEY, x)[0, 0, 0] == 7
    cropped = transform.crop((2, 3))(KEY, x)[..., 0]
    assert cropped.shape == (2, 3)
    np.testing.assert_allclose(cropped[1] - cropped[0], 4.0)
    wide = transform.noise(2.0)(KEY, jnp.zeros((100, 100, 1)))
    assert abs(float(wide.std()) - 2) < 0.05
    assert transform.resize(8)(KEY, x).shape == (8, 8, 1)
    dim = transform.colour_jitter(0.0, 0.5)(KEY, x)
    np.testing.assert_allclose(dim.mean(), x.mean(), rtol=1e-5)
    signal = jnp.ones((6, 2))
    for move in (
        transform.jitter(2),
        transform.scale(),
        transform.blur(1.0),
        transform.random_crop(0.5),
        transform.pad(1),
    ):
        assert move(KEY, signal).shape[-1] == 2


def test_penalties_by_hand():
    x = jnp.array([[0.0, 2.0], [3.0, -1.0]])
    assert float(regulariser.l1(2.0)(x)) == 3.0
    assert float(regulariser.l2(2.0)(x)) == 7.0
    assert float(regulariser.lp(1.0, 3.0)(x)) == 9.0
    assert float(regulariser.total_variation(1.0)(x)) == 3.0
    assert float(regulariser.value_range(1.0)(x)) == (1 + 4 + 1) / 4
    assert float(regulariser.opacity(1.0)(x)) == 0.5
    row = regulariser.normalize_gradient().update({"a": jnp.array([3.0, -4.0])}, ())[0]["a"]
    np.testing.assert_allclose(row, jnp.array([3.0, -4.0]) / np.sqrt(12.5), rtol=1e-6)
