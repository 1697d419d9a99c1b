"""Between two solutions: the straight line and its barrier, and a trained curve that goes around it."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxplain import train
from jaxplain.train.landscape.line import _Curve, between
from jaxplain.train.trainable import as_trainable

KEY = jax.random.key(0)


def test_the_line_between_the_bottoms_of_two_wells():
    wells = lambda w: (1 - w[0] ** 2) ** 2 + 0.5 * w[0] + w[1] ** 2  # noqa: E731
    first, second = jnp.array([-1.0, 0.0]), jnp.array([1.0, 0.0])
    found = train.interpolation(wells, first, second, points=21)
    place = np.linspace(-1, 1, 21)
    np.testing.assert_allclose(found.loss, (1 - place**2) ** 2 + 0.5 * place, atol=1e-6)
    np.testing.assert_allclose(found.barrier, 1.0, rtol=1e-6)  # above the slope of the ends
    at_once = train.interpolation(wells, first, second, points=21, batch_size=4)
    np.testing.assert_allclose(at_once.loss, found.loss, rtol=1e-6)
    assert repr(found) == "Interpolation(21 points, -0.5 to 0.5, barrier 1)"
    convex = train.interpolation(lambda w: (w**2).sum(), first, 3 * second)
    assert float(convex.barrier) == 0


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(3)(nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x)))


def test_the_ends_are_the_solutions_with_their_running_averages():
    module, data = Normed(), (np.random.default_rng(1).normal(size=(9, 2)).astype(np.float32), np.arange(9) % 3)
    shapes, rng = jax.eval_shape(module.init, KEY, data[0]), np.random.default_rng(0)
    ends = [jax.tree.map(lambda leaf: rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32), shapes) for _ in range(2)]
    objective = train.mean_loss(module.apply, ends[0], data)
    found = train.interpolation(objective, *ends, points=3)
    places = [ends[0], jax.tree.map(lambda a, b: (a + b) / 2, *ends), ends[1]]
    loss = jax.jit(objective)
    np.testing.assert_allclose(found.loss, [loss(place) for place in places], rtol=1e-5)


def ring(params, x):
    """Its square loss has a valley along the circle of radius 1."""
    return x * (params["w"] ** 2).sum()


def test_a_curve_goes_around_the_barrier():
    first, second = ({"w": np.float32(place)} for place in ([1.0, 0.0], [0.0, 1.0]))
    data = (np.ones(16, np.float32), np.ones(16, np.float32))
    objective = train.mean_loss(ring, first, data, loss=train.squared_error)
    straight = train.interpolation(objective, first, second)
    settings = {"key": KEY, "loss": train.squared_error, "epochs": 15, "batch_size": 1, "optimizer": optax.adam(0.02)}
    curve = train.mode_connectivity(ring, first, second, data, **settings)
    scale = float(straight.loss[12]) / 0.25  # (1/2 - 1)^2 in the middle
    np.testing.assert_allclose(straight.barrier, 0.25 * scale, rtol=1e-5)
    assert float(curve.barrier) < 0.01 * scale
    assert float(max(curve.loss[0], curve.loss[-1])) < 1e-10
    t = np.linspace(0, 1, 25)[:, None]
    a, bend, b = (np.asarray(params["w"]) for params in (first, curve.bend, second))
    places = (1 - t) ** 2 * a + 2 * t * (1 - t) * bend + t**2 * b
    np.testing.assert_allclose(curve.loss, scale * ((places**2).sum(1) - 1) ** 2, atol=1e-5)
    again = train.mode_connectivity(ring, first, second, data, **settings)
    np.testing.assert_array_equal(again.loss, curve.loss)
    plane = train.plane_through(objective, first, second, curve.bend)
    np.testing.assert_allclose(plane.coordinates({"w": jnp.asarray(places[[0, -1]])}), plane.path[:2], atol=1e-5)


def test_bad_calls_are_told():
    square = lambda w: (w["w"] ** 2).sum()  # noqa: E731
    ones, data = {"w": jnp.ones(3)}, (jnp.ones(4), jnp.ones(4))
    for call, words in {
        lambda: train.interpolation(square, ones, {"w": jnp.ones(2)}): r"`second\['w'\]` has shape \(2,\)",
        lambda: train.interpolation(square, ones, {"v": jnp.ones(3)}): "`second` has the structure",
        lambda: train.interpolation(square, ones, {"w": jnp.array([1.0, jnp.nan, 1.0])}): r"`second\['w'\]` has 1 NaN",
        lambda: train.interpolation(square, ones, {"w": jnp.ones(3, int)}): "dtype int",
        lambda: train.interpolation(square, ones, ones, points=1): "`points` has to be at least 2",
        lambda: train.mode_connectivity(ring, ones, {"w": jnp.ones(2)}, data, key=KEY): "`second",
        lambda: train.mode_connectivity(ring, ones, ones, data, key=KEY, epochs=0): "`epochs`",
    }.items():
        with pytest.raises((ValueError, TypeError), match=words):
            call()


def test_a_curve_is_trained_at_places_drawn_evenly():
    """Between zeros with the bend 1 the params at t are 2 t (1 - t), on average 1/3 (a half in the middle)."""
    curve = _Curve(as_trainable(lambda w, x: w * x), jnp.zeros(()), jnp.zeros(()))
    keys = jax.random.split(jax.random.key(0), 4000)
    values = jax.vmap(lambda key: curve.train(jnp.ones(()), (jnp.ones(()),), key)[0])(keys)
    np.testing.assert_allclose(values.mean(), 1 / 3, atol=0.012)  # five standard errors, sqrt(1 / 45) / sqrt(4000) each
    np.testing.assert_allclose(values.std(), np.sqrt(1 / 45), atol=0.01)


def test_running_averages_go_straight_beside_a_curve():
    model = as_trainable(nn.Dense(1).apply)
    first, second = ({"params": jnp.array(p), "batch_stats": jnp.array(s)} for p, s in ((1.0, 10.0), (2.0, 20.0)))
    found = between(0.25, first, second, model, jnp.array(4.0))
    np.testing.assert_allclose(found["batch_stats"], 0.75 * 10 + 0.25 * 20, rtol=1e-6)
    np.testing.assert_allclose(found["params"], 0.5625 * 1 + 0.375 * 4 + 0.0625 * 2, rtol=1e-6)
