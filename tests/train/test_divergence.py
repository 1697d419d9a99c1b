"""A run that diverges says so, names the epoch, and never passes parameters off as trained."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxplain import train

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
Y = X @ np.array([[1.0], [2.0]], np.float32)
PARAMS = {"w": np.ones((2, 1), np.float32)}


def apply(params, x):
    return x @ params["w"]


def rises(rates):
    """A learning rate for each epoch of four steps."""
    return optax.sgd(lambda step: jnp.array(rates)[jnp.minimum(step // 4, len(rates) - 1)])


fit = functools.partial(
    train.fit, apply, PARAMS, (X, Y), key=KEY, loss=train.squared_error, batch_size=4, epochs=4, progress=False
)
EXPLODES = rises([0.1, 0.1, 1e30, 0.1])  # in the third epoch


@pytest.mark.parametrize("settings", [{}, {"validation": (X, Y)}, {"validation": (X, Y), "on_device": False}])
def test_it_ends_with_an_error_that_names_the_epoch(settings, tmp_path):
    with pytest.raises(ValueError, match=r"fit: epoch 3 diverged: its loss is (nan|inf).*on_divergence='warn'"):
        fit(optimizer=EXPLODES, checkpoint=tmp_path / "run", **settings)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["epoch_00002"]  # what was good is kept


@pytest.mark.parametrize("settings", [{}, {"validation": (X, Y)}])
def test_with_a_warning_the_last_finite_parameters_come_back(settings):
    with pytest.warns(RuntimeWarning, match="epoch 3 diverged.*what was there after epoch 2"):
        found = fit(optimizer=EXPLODES, on_divergence="warn", **settings)
    expected = fit(optimizer=EXPLODES, epochs=2, **settings)
    np.testing.assert_array_equal(found.params["w"], expected.params["w"])
    np.testing.assert_array_equal(found.history.loss, expected.history.loss)
    assert found.history.epochs == 2
    assert np.isfinite(found.state.params["w"]).all()


def test_in_the_first_epoch_what_came_in_comes_out_and_the_warning_says_so():
    with pytest.warns(RuntimeWarning, match="epoch 1 diverged.*what was there after the start"):
        found = fit(optimizer=rises([1e30]), validation=(X, Y), on_divergence="warn")
    np.testing.assert_array_equal(found.params["w"], PARAMS["w"])
    assert found.history.loss.shape == (0,)
    with pytest.raises(ValueError, match="`on_divergence` is 'never'"):
        fit(on_divergence="never")


def test_parameters_that_are_not_finite_after_the_last_step_count():
    huge = optax.chain(optax.sgd(1e30), optax.scale(1e30))
    with pytest.raises(ValueError, match=r"epoch 1 diverged: its loss is [0-9.]*, but its parameters are not finite"):
        fit(optimizer=huge, batch_size=16, epochs=1)  # the one step comes after the one loss


def test_a_mask_of_infinities_is_no_divergence():
    params = {"w": PARAMS["w"], "mask": np.array([0.0, -np.inf], np.float32)}

    def masked(params, x):
        return x @ params["w"] * jnp.exp(params["mask"])[None, :1]

    found = train.fit(masked, params, (X, Y), key=KEY, loss=train.squared_error, epochs=1, optimizer=optax.sgd(0.01))
    assert np.isfinite(found.history.loss).all()


def test_inside_a_transformation_it_is_marked():
    rates = jnp.array([0.1, 1e30])

    def one(rate):
        found = fit(optimizer=optax.sgd(rate), validation=(X, Y), epochs=2)
        return found.params["w"], found.history.loss

    params, losses = jax.vmap(one)(rates)
    assert np.isfinite(params[0]).all()
    assert np.isfinite(losses[0]).all()
    assert np.isnan(params[1]).all()
    assert not np.isfinite(losses[1]).all()
