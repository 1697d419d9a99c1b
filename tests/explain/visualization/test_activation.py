"""The loop: objectives' algebra, one at a time and together, dead units, what is not finite, deep views."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxplain
from jaxplain import image, models, objective, regulariser, transform
from jaxplain.explain.visualization.activation import NonFiniteObjective
from jaxplain.explain.visualization.receptive import cut
from jaxplain.program.fast.lanes import _at_once

KEY = jax.random.key(0)
SHAPE = (8, 8, 1)


@functools.cache
def network(kind="cnn"):
    module = {
        "cnn": lambda: models.cnn(4, widths=(6, 8), dense=12),
        "resnet": lambda: models.resnet(4, widths=(4, 8), depth=1),
        "transformer": lambda: models.transformer(4, patch=4, width=16, depth=1, heads=2),
    }[kind]()
    params = module.init(jax.random.key(1), jnp.zeros((1, *SHAPE)))
    return jaxplain.logit(functools.partial(module.apply, train=False), params)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cnn", "resnet", "transformer"])
def test_together_equals_one_at_a_time_and_the_same_key_gives_the_same_bits(kind):
    e = jaxplain.activation_maximization(
        network(kind),
        image=image.fourier(SHAPE),
        transforms=(transform.jitter(1), transform.scale(0.9, 1.1)),
        regularisers=(jaxplain.regulariser.l2(0.1),),
        steps=40,
    )
    run = jax.vmap(e, (None, 0))
    together = run(KEY, jnp.arange(4))
    alone = [e(KEY, k) for k in range(4)]
    np.testing.assert_allclose(together.image, jnp.stack([found.image for found in alone]), atol=1e-4)
    np.testing.assert_allclose(together.value, jnp.stack([found.value for found in alone]), atol=1e-3)
    np.testing.assert_array_equal(run(KEY, jnp.arange(4)).image, together.image)
    np.testing.assert_array_equal(e(KEY, 2).image, alone[2].image)
    assert float(together.values[:, -8:].mean()) > float(together.values[:, :8].mean())


def test_a_thousand_steps_neither_retrace_nor_recompile_for_new_parameters():
    traces = []

    def net(params, x):
        traces.append(1)
        return jnp.tanh(x @ params)

    def run(params):
        return jaxplain.activation_maximization(jaxplain.logit(net, params), image=image.pixels((3,)), steps=5)(KEY, 1)

    run(jnp.ones((3, 2)))
    from jaxplain.explain.visualization.activation import _record

    size = _record._cache_size()
    run(2 * jnp.ones((3, 2)))
    assert _record._cache_size() == size


def plain(x):
    with jax.named_scope("layer"):
        h = x * jnp.array([[1.0, -2.0, 3.0]])
    return h.sum()


X = jnp.array([[1.0, 2.0, 0.5], [3.0, 1.0, -1.0]])
H = np.asarray(X) * np.array([[1.0, -2.0, 3.0]])


def test_every_objective_against_hand_values():
    def close(found, wanted):
        np.testing.assert_allclose(float(found(X)), wanted, rtol=1e-5, atol=1e-6)

    v = np.array([1.0, 0.5, -1.0])
    dot = H @ v
    cosine = dot / np.linalg.norm(H, axis=1) / np.linalg.norm(v)
    other = np.asarray(X)[::-1] + 1.0
    target = other * np.array([[1.0, -2.0, 3.0]])
    gram = lambda h: h.T @ h / len(h)  # noqa: E731
    close(objective.channel(plain, "layer", 1), H[:, 1].mean())
    close(objective.neuron(plain, "layer", (1, 2)), H[1, 2])
    close(objective.neuron(plain, "layer", 2), H[1, 2])
    close(objective.direction(plain, "layer", v), dot.mean())
    close(objective.direction(plain, "layer", v, power=2.0), (dot * np.maximum(cosine, 0.1) ** 2).mean())
    close(objective.direction(plain, "layer", v, cosine=True), cosine.mean())
    close(objective.position(plain, "layer", (1,)), H[1].mean())
    close(objective.position(plain, "layer", (1,), jnp.asarray(v)), dot[1])
    close(objective.deep_dream(plain, "layer"), (H**2).mean())
    close(objective.inversion(plain, "layer", other), -((H - target) ** 2).sum() / (target**2).sum())
    close(objective.caricature(plain, "layer", other, power=0.0), (H * target).sum(1).mean())
    close(objective.style(plain, "layer", other), -((gram(H) - gram(target)) ** 2).sum() / (gram(target) ** 2).sum())
    pair = jnp.stack([X, jnp.asarray(other, jnp.float32)])
    a, b = gram(H).ravel(), gram(target).ravel()
    np.testing.assert_allclose(
        objective.diversity(plain, "layer")(pair), -(a @ b) / np.linalg.norm(a) / np.linalg.norm(b), rtol=1e-5
    )
    np.testing.assert_allclose(
        objective.each(objective.channel(plain, "layer", 0))(pair),
        np.stack([H, target])[..., 0].mean(),
        rtol=1e-6,
    )


def test_the_algebra_of_objectives():
    a, b = objective.channel(plain, "layer", 0), objective.deep_dream(plain, "layer")
    u, w, s = float(a(X)), float(b(X)), float(plain(X))
    for made, wanted in (
        (a + b, u + w),
        (a - b, u - w),
        (-a, -u),
        (2 * a - 0.5 * b, 2 * u - 0.5 * w),
        ((a + 2 * b) * 3, 3 * u + 6 * w),
        (a / 4, u / 4),
        (-(a - b), w - u),
        (a + plain, u + s),
        (a - objective.score(plain), u - s),
        (sum([a, b, a]), 2 * u + w),
        (objective.negative(a), -u),
        (objective.interpolation(a, b, 0.25), 0.75 * u + 0.25 * w),
    ):
        np.testing.assert_allclose(float(made(X)), wanted, rtol=1e-5)
        np.testing.assert_allclose(sum(float(v) for _, v in made.terms(X)), wanted, rtol=1e-5)
    g = jax.grad(2 * a - 0.5 * b)(X)
    np.testing.assert_allclose(g, 2 * jax.grad(a)(X) - 0.5 * jax.grad(b)(X), rtol=1e-5)
    with pytest.raises(TypeError, match="one number"):
        a * b
    with pytest.raises(TypeError, match="cannot be added"):
        a + "b"


def test_a_unit_that_is_dead_at_the_start_is_woken():
    def dead(x):
        return jax.nn.relu(jax.nn.relu(x.sum() - 6.0) - 0.5)

    def run(**settings):
        return jaxplain.activation_maximization(
            dead, image=image.pixels((8,)), optimizer=optax.adam(0.3), steps=60, **settings
        )(KEY)

    assert float(run(redirect=0).value) == 0
    assert float(run().value) > 1
    assert float(run(redirect=40).value) > 1


@pytest.mark.slow
def test_redirection_leaves_living_units_alone():
    settings = {"image": image.pixels(SHAPE), "steps": 6}
    one = jaxplain.activation_maximization(network(), **settings, redirect=0)(KEY, 1)
    other = jaxplain.activation_maximization(network(), **settings, redirect=6)(KEY, 1)
    np.testing.assert_allclose(one.image, other.image, atol=1e-6)


def test_an_objective_that_is_not_finite_stops_and_says_where():
    score = objective.score(lambda x: -jnp.log(1.2 - 2 * x.mean())) + 0.5 * objective.score(lambda x: x.sum())
    e = jaxplain.activation_maximization(
        score, image=image.pixels((3,)), regularisers=(jaxplain.regulariser.l2(0.1),), steps=60
    )
    with pytest.raises(NonFiniteObjective, match=r"not finite at step \d+: .*l2 = -0.*score \(1\) = nan") as caught:
        e(KEY)
    error = caught.value
    assert isinstance(error, ValueError)
    assert 0 < error.step < 60
    assert np.isnan(error.terms["score (1)"])
    assert np.isfinite(error.terms["score (2)"])
    kept = error.visualization
    assert bool(jnp.isfinite(kept.image).all())
    assert float(kept.image.mean()) < 0.6
    assert np.isfinite(float(score(kept.image)))
    assert bool(jnp.isfinite(kept.values[: error.step]).all())
    assert bool(jnp.isnan(kept.values[error.step :]).all())
    mapped = jax.vmap(e)(jax.random.split(KEY, 2))
    assert bool(jnp.isfinite(mapped.image).all())
    assert bool(jnp.isnan(mapped.values[:, -1]).all())


@pytest.mark.slow
def test_samples_and_several_together():
    e = jaxplain.activation_maximization(
        network(), image=image.pixels(SHAPE), transforms=(transform.random_crop(0.5),), steps=5, samples=3
    )
    assert e(KEY, 0).values.shape == (5,)
    f = network()
    both = objective.each(objective.channel(f, "conv_0", 2)) + objective.diversity(f, "conv_0")
    found = jaxplain.activation_maximization(
        both, image=image.batch(image.pixels(SHAPE), 3), transforms=(transform.jitter(1),), steps=30
    )(KEY)
    assert found.image.shape == (3, *SHAPE)
    assert float(found.values[-1]) > float(found.values[0])


@pytest.mark.parametrize(
    ("build", "error", "match"),
    [
        (lambda: objective.channel(network(), "conv_1", 99), ValueError, "unit 99 is outside of 'conv_1'"),
        (lambda: objective.channel(network(), "conv_7", 0), ValueError, "channel: there is no layer 'conv_7'"),
        (lambda: objective.channel(network(), "conv_1", 0.5), TypeError, "integer"),
        (lambda: objective.neuron(network(), "conv_1", (0, 0)), ValueError, "does not name one number"),
        (lambda: objective.position(network(), "conv_1", (9, 0)), ValueError, "unit 9 is outside"),
        (lambda: objective.direction(network(), "conv_1", jnp.ones(3)), ValueError, "one direction"),
        (lambda: objective.diversity(network(), "conv_1"), ValueError, "conv|several|shape"),
    ],
)
@pytest.mark.sampled(2)
def test_units_and_layers_that_are_not_there(build, error, match):
    with pytest.raises(error, match=match):
        jaxplain.activation_maximization(build(), image=image.pixels(SHAPE), steps=2)(KEY)


def test_bad_input_of_the_loop():
    f = network()
    for shape in ((16, 16, 1), (2, 2, 1), (8, 8, 3)):
        with pytest.raises(ValueError, match=rf"shape \({shape[0]}, {shape[1]}, {shape[2]}\)|{shape[0]}x{shape[1]}"):
            jaxplain.activation_maximization(f, image=image.pixels(shape), steps=2)(KEY, 0)
    with pytest.raises(ValueError, match="empty image"):
        jaxplain.activation_maximization(f, image=image.pixels(SHAPE), transforms=(lambda k, x: x[:0],), steps=2)(
            KEY, 0
        )
    with pytest.raises(ValueError, match="target 9 is outside"):
        jaxplain.activation_maximization(f, image=image.pixels(SHAPE), steps=2)(KEY, 9)
    with pytest.raises(TypeError, match="optax"):
        jaxplain.activation_maximization(f, image=image.pixels(SHAPE), optimizer=3)
    with pytest.raises(TypeError, match="init"):
        jaxplain.activation_maximization(f, image=3)
    with pytest.raises(TypeError, match="tuple of functions"):
        jaxplain.activation_maximization(f, image=image.pixels(SHAPE), transforms=(1,))
    with pytest.raises(ValueError, match="samples"):
        jaxplain.activation_maximization(f, image=image.pixels(SHAPE), samples=0)


@pytest.mark.slow
def test_objectives_may_close_over_what_is_mapped():
    ws = jax.random.normal(KEY, (3, 5))

    def found(w):
        return jaxplain.activation_maximization(lambda x: x @ w, image=image.ball(jnp.zeros(5), 1.0), steps=50)(KEY)

    together = jax.vmap(found)(ws).image
    np.testing.assert_allclose(together, jnp.stack([found(w).image for w in ws]), atol=1e-4)
    np.testing.assert_allclose((together * ws).sum(1), jnp.linalg.norm(ws, axis=1), rtol=1e-3)


def test_the_loop_is_differentiable():
    def found(weight):
        e = jaxplain.activation_maximization(
            lambda x: x[0] - weight * x[0] ** 2,
            image=image.pixels((1,)),
            optimizer=optax.sgd(0.5),
            steps=20,
            redirect=0,
        )
        return e(KEY).image[0]

    slope = jax.grad(found)(1.0)
    np.testing.assert_allclose(slope, (found(1.01) - found(0.99)) / 0.02, rtol=0.02)


@pytest.mark.slow
def test_inversion_accentuation_grid_and_dream():
    f = network()
    x = jax.random.uniform(KEY, SHAPE)
    back = jaxplain.feature_inversion(f, "conv_0", image=image.pixels(SHAPE), optimizer=optax.adam(0.1), steps=150)
    result = back(KEY, x)
    assert float(result.value) > -0.02
    assert float(jnp.corrcoef(result.image.ravel(), x.ravel())[0, 1]) > 0.9
    near = jaxplain.accentuate(f, drift=1000.0, steps=20)(KEY, x, 1)
    free = jaxplain.accentuate(f, drift=0.0, steps=20)(KEY, x, 1)
    assert float(f(x, 1)) < float(near.value) < float(free.value)
    assert float(jnp.abs(near.image - x).max()) < float(jnp.abs(free.image - x).max())
    latent = jaxplain.accentuate(f, drift=1.0, path="conv_0", steps=3)(KEY, x, 1)
    assert latent.image.shape == SHAPE
    score = objective.deep_dream(network("resnet"), "block_0")
    dreamt = jaxplain.deep_dream(score, octaves=2, steps=3)(KEY, x)
    assert float(score(dreamt)) > float(score(x))
    large = jax.random.uniform(KEY, (13, 18, 1))
    tiled = jaxplain.deep_dream(objective.deep_dream(f, "conv_0"), octaves=2, steps=2, tile=8)(KEY, large)
    assert tiled.shape == large.shape
    assert float(tiled.min()) >= 0
    with pytest.raises(ValueError, match="tile"):
        jaxplain.deep_dream(objective.channel(f, "head", 0), octaves=2)(KEY, large)


def test_tiles_of_one_size_cover_the_image_once():
    e = jaxplain.deep_dream(lambda x: (x * jnp.arange(1.0, 17.0).reshape(4, 4, 1)).sum(), tile=4, octaves=1, steps=1)
    x = jnp.zeros((7, 10, 1))
    gradient = e._tiled(jax.grad(e.score), x)
    block = np.arange(1.0, 17.0).reshape(4, 4)
    np.testing.assert_allclose(gradient[..., 0], np.tile(block, (2, 3))[:7, :10])


@pytest.mark.slow
def test_deconvolution_views():
    def net(x):
        with jax.named_scope("hidden"):
            h = jax.nn.relu(jnp.stack([x[0] - 2 * x[1], x[1] - x[0]]))
        with jax.named_scope("out"):
            y = jax.nn.relu(jnp.stack([h[0] - h[1], h[1] - 3 * h[0]]))
        return y.sum()

    x = jnp.array([3.0, 1.0])
    np.testing.assert_allclose(jaxplain.deconv_view(net, "out", rule="gradient")(x, 0), [1.0, -2.0])
    np.testing.assert_allclose(jaxplain.deconv_view(net, "out", rule="guided")(x, 0), [1.0, -2.0])
    # On the way back h[1] receives -1, which the deconvolution drops, and unit 1, which is off, is traced as well.
    np.testing.assert_allclose(jaxplain.deconv_view(net, "out")(x, 0), [1.0, -2.0])
    np.testing.assert_allclose(jaxplain.deconv_view(net, "out")(x, 1), [-1.0, 1.0])
    np.testing.assert_allclose(jaxplain.deconv_view(net, "out", rule="guided")(x, 1), [0.0, 0.0])
    view = jax.vmap(jaxplain.deconv_view(network(), "conv_1"))(jax.random.uniform(KEY, (3, *SHAPE)), jnp.arange(3))
    assert view.shape == (3, *SHAPE)
    with pytest.raises(ValueError, match="unit 50"):
        jaxplain.deconv_view(network(), "conv_1")(jnp.ones(SHAPE), 50)


@pytest.mark.parametrize(("kind", "path"), [("cnn", "conv_1"), ("cnn", "dense"), ("resnet", "block_0")])
@pytest.mark.sampled(3)
def test_receptive_fields_are_those_of_the_gradients_support(kind, path):
    f = network(kind)
    boxes = np.asarray(jaxplain.receptive_field(f, path)(jnp.ones(SHAPE)))
    body = jaxplain.split(f, path)[0]
    jacobian = jax.jit(jax.jacrev(lambda x: body(x, 0)))
    support = sum(np.asarray(jnp.abs(jacobian(jax.random.normal(jax.random.key(k), SHAPE)))) for k in range(12))
    support = support.sum(axis=-1).max(axis=boxes.ndim - 2)  # over the input's channels and the layer's
    for place in np.ndindex(*boxes.shape[:-2]):
        rows, columns = (np.flatnonzero(support[place].any(axis=axis)) for axis in (1, 0))
        assert boxes[place].tolist() == [[rows[0], rows[-1] + 1], [columns[0], columns[-1] + 1]]


def test_cut_keeps_border_patches_on_their_side():
    x = np.arange(36.0).reshape(1, 6, 6, 1)
    whole = cut(np.repeat(x, 2, 0), np.array([[[0, 2], [3, 6]], [[4, 6], [0, 3]]]))
    assert whole.shape == (2, 2, 3, 1)
    wide = cut(np.repeat(x, 2, 0), np.array([[[0, 2], [0, 3]], [[1, 4], [1, 4]]]), fill=-1)
    assert (wide[0, 0] == -1).all()
    np.testing.assert_array_equal(wide[0, 1:, :, 0], x[0, :2, :3, 0])
    with pytest.raises(ValueError, match="reaches out"):
        cut(x, np.array([[[0, 9], [0, 2]]]))


def test_lanes_fill_few_places_up_and_are_never_few():
    assert [_at_once(size, 8) for size in (1, 3, 7, 9, 10, 16, 20, 100)] == [4, 4, 7, 5, 5, 8, 5, 5]
    for size in range(9, 200):
        count = _at_once(size, 8)
        assert 4 <= count <= 8
        assert -size % count <= 3
    assert _at_once(7, 4) == 4


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cnn", "resnet", "transformer"])
@pytest.mark.optimized
def test_any_number_together_gives_the_bits_of_one_at_a_time(kind):
    optimizer = optax.chain(regulariser.normalize_gradient(), optax.sgd(0.1, momentum=0.9))
    data = np.random.default_rng(0).uniform(size=(20, *SHAPE))
    e = jaxplain.activation_maximization(
        network(kind),
        image=image.maco(data),
        transforms=(transform.jitter(1), transform.scale(0.9, 1.1)),
        optimizer=optimizer,
        steps=100,
        samples=2,
    )
    run = jax.jit(jax.vmap(e, (None, 0)))
    alone = e(KEY, 1).image
    for size in (1, 3, 9) if kind == "cnn" else (3, 10):
        np.testing.assert_allclose(run(KEY, jnp.arange(1, size + 1) % 4).image[0], alone, atol=1e-4)
    # Whether the weights are constants of a caller's program or its arguments, as in `alone`.
    for folded in (jax.jit(e), jax.jit(lambda key, unit: e(key, unit))):
        np.testing.assert_allclose(folded(KEY, 1).image, alone, atol=1e-4)
