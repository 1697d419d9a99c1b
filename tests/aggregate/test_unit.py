"""Units over a dataset, the atlas, Fréchet distances, and their figures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import aggregate, image, models, plot
from jaxplain.aggregate.atlas import principal_components
from jaxplain.aggregate.unit import top_units

KEY = jax.random.key(0)
INPUTS = np.random.default_rng(0).uniform(size=(23, 8, 8, 1)).astype(np.float32)


@functools.cache
def score():
    module = models.cnn(3, widths=(5, 6), dense=7)
    return jaxplain.logit(module.apply, module.init(jax.random.key(3), INPUTS[:1]))


@functools.cache
def activations(path):
    return np.asarray(jax.vmap(lambda x: jaxplain.split(score(), path)[0](x, 0))(INPUTS))


@pytest.mark.slow
@pytest.mark.parametrize("path", ["conv_0", "conv_1", "dense"])
def test_top_activations_equal_a_brute_force_search(path):
    inputs = INPUTS.copy()
    top = jaxplain.aggregate.top_activations(score(), path, inputs, k=4, batch_size=7)
    h = activations(path).reshape(len(inputs), -1, activations(path).shape[-1])
    boxes = np.asarray(jaxplain.receptive_field(score(), path)(jnp.asarray(inputs[0])))
    boxes = boxes.reshape(-1, *boxes.shape[-2:])
    for unit in range(h.shape[-1]):
        best = h[:, :, unit].max(axis=1)
        order = np.lexsort((np.arange(len(best)), -best))[:4]
        np.testing.assert_array_equal(top.indices[unit], order)
        np.testing.assert_allclose(top.values[unit], best[order], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(top.positions[unit], h[order, :, unit].argmax(axis=1))
        for rank, example in enumerate(order):
            (top_row, bottom), (left, right) = boxes[top.positions[unit, rank]]
            patch = inputs[example, top_row:bottom, left:right]
            assert np.isin(patch, top.patches[unit, rank]).all()
            if patch.shape == top.patches[unit, rank].shape:
                np.testing.assert_array_equal(patch, top.patches[unit, rank])
    some = jaxplain.aggregate.top_activations(score(), path, inputs, k=4, units=[2, 0])
    np.testing.assert_array_equal(some.indices, top.indices[[2, 0]])


@pytest.mark.slow
def test_rankings_do_not_depend_on_batches_and_merge():
    values = jnp.asarray(np.random.default_rng(1).integers(0, 4, (30, 3, 2)), jnp.float32)
    aggregator = top_units(5)
    one = aggregate.aggregate_batches(aggregator, [{"attribution": values, "index": jnp.arange(30)}])
    parts = []
    for first in (0, 10, 20):
        state = aggregator.init(jax.ShapeDtypeStruct((3, 2), jnp.float32))
        parts.append(aggregator.update(state, values[first : first + 10], index=jnp.arange(first, first + 10)))
    merged = aggregator.compute(aggregator.merge(parts[2], aggregator.merge(parts[0], parts[1])))
    for a, b in zip(one, merged, strict=True):
        np.testing.assert_array_equal(a, b)
    few = aggregate.aggregate_batches(
        aggregator, [{"attribution": values[:2].at[0].set(jnp.nan), "index": jnp.arange(2)}]
    )
    assert few.indices.tolist() == [[1, -1, -1, -1, -1]] * 2
    assert bool(jnp.isnan(few.values[:, 1:]).all())


def test_dead_and_saturated_units():
    w = jnp.array([1.0, 50.0, 0.0, -50.0])

    def net(x):
        with jax.named_scope("tanh"):
            h = jnp.tanh(x * w)
        with jax.named_scope("relu"):
            r = jax.nn.relu(x[:1] * jnp.array([1.0, -1.0, 0.0, 1.0]) - jnp.array([0.0, 9.0, 0.0, 0.5]))
        return h.sum() + r.sum()

    x = np.random.default_rng(0).uniform(-1, 1, (300, 1)).astype(np.float32) * np.ones((1, 4), np.float32)
    bounded = jaxplain.aggregate.unit_activity(net, "tanh", x, batch_size=64)
    assert bounded.saturated.tolist() == [False, True, False, True]
    assert bounded.dead.tolist() == [False, False, True, False]
    rectified = jaxplain.aggregate.unit_activity(net, "relu", x, batch_size=64)
    assert rectified.dead.tolist() == [False, True, True, False]
    assert not rectified.saturated.any()
    h = np.maximum(x[:, :1] * np.array([1, -1, 0, 1]) - np.array([0, 9, 0, 0.5]), 0)
    np.testing.assert_allclose(rectified.mean, h.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(rectified.active, (h > 0).mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(rectified.largest, h.max(axis=0), rtol=1e-6)


def test_bad_input_of_the_dataset_functions():
    with pytest.raises(ValueError, match="unit 9 is outside"):
        jaxplain.aggregate.top_activations(score(), "conv_0", INPUTS, units=[9])
    with pytest.raises(ValueError, match="no layer"):
        jaxplain.aggregate.top_activations(score(), "conv_9", INPUTS)
    with pytest.raises(ValueError, match="empty"):
        jaxplain.aggregate.top_activations(score(), "conv_0", INPUTS[:0])
    with pytest.raises(ValueError, match="NaN"):
        jaxplain.aggregate.unit_activity(score(), "conv_0", np.full_like(INPUTS[:2], np.nan))
    with pytest.raises(ValueError, match="margin"):
        jaxplain.aggregate.unit_activity(score(), "conv_0", INPUTS, margin=0.0)
    with pytest.raises(ValueError, match="no cell"):
        jaxplain.aggregate.activation_atlas(
            score(), "conv_1", INPUTS, key=KEY, image=image.pixels((8, 8, 1)), least=99, steps=1
        )
    with pytest.raises(ValueError, match="returned shape"):
        jaxplain.aggregate.activation_atlas(
            score(), "conv_1", INPUTS, key=KEY, image=image.pixels((8, 8, 1)), embedding=lambda h: h[:, :1], steps=1
        )


@pytest.mark.slow
def test_the_atlas_averages_what_falls_into_its_cells():
    atlas = jaxplain.aggregate.activation_atlas(
        score(), "conv_1", INPUTS, key=KEY, image=image.pixels((8, 8, 1)), grid=3, least=2, steps=3
    )
    h = activations("conv_1").reshape(len(INPUTS), -1, 6)[np.arange(len(INPUTS)), atlas.positions]
    flat = principal_components(h)
    np.testing.assert_allclose(np.abs(np.corrcoef(flat[:, 0], atlas.coordinates[:, 0])[0, 1]), 1, atol=0.05)
    cell = np.minimum((atlas.coordinates * 3).astype(int), 2)
    for (row, column), count, mean in zip(atlas.cells, atlas.counts, atlas.means, strict=True):
        inside = (cell[:, 0] == column) & (cell[:, 1] == row)
        assert inside.sum() == count >= 2
        np.testing.assert_allclose(mean, h[inside].mean(axis=0), rtol=1e-4, atol=1e-6)
    figure = plot.activation_atlas(atlas)
    assert len(figure.axes) == 1 + len(atlas.images)


@pytest.mark.slow
def test_frechet_distance_in_closed_form():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(400, 3)), rng.normal(size=(300, 3)) @ np.diag([1, 2, 3]) + np.array([1, 0, -2])
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = np.linalg.eigvals(s @ t)
    wanted = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t) - 2 * np.sqrt(root.real).sum()
    np.testing.assert_allclose(jaxplain.evaluate.frechet_distance(a, b), wanted, rtol=1e-4)
    assert float(jaxplain.evaluate.frechet_distance(a, a)) < 1e-4
    draws = jaxplain.evaluate.frechet_bootstrap(KEY, a, b, samples=40)
    np.testing.assert_allclose(draws.mean(), wanted, rtol=1e-3)
    assert 0.05 < float(draws.std()) < 1.5
    with pytest.raises(ValueError, match="two or more"):
        jaxplain.evaluate.frechet_distance(a[:1], b)
    with pytest.raises(ValueError, match="features against"):
        jaxplain.evaluate.frechet_distance(a, b[:, :2])


def test_the_gallery_of_units():
    top = jaxplain.aggregate.top_activations(score(), "conv_0", INPUTS, k=3)
    views = np.random.default_rng(0).normal(size=top.patches.shape)
    figure = plot.unit_gallery(np.zeros((5, 8, 8)), range(5), top.patches, top.values, views=views)
    assert len(figure.axes) == 5 * (1 + 3 + 3)
    assert figure.axes[0].get_title() == "0: 0"
    with pytest.raises(ValueError, match="patches"):
        plot.unit_gallery(np.zeros((4, 8, 8)), range(4), top.patches)
    with pytest.raises(ValueError, match="holds 5"):
        plot.unit_gallery(np.zeros((5, 8, 8)), range(4))
