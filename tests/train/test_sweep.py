"""Many settings side by side: closed forms, against single runs, injected hyperparameters, and what is refused."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxplain
from jaxplain import train

KEY = jax.random.key(1)
ONE = np.ones((4, 1), np.float32), np.zeros((4, 1), np.float32)
X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
DATA = X, (X[:, 0] > 0).astype(np.int32)
PARAMS = {"w": jnp.zeros((3, 2))}


def apply(params, x):
    return x @ params["w"]


quick = functools.partial(train.hyperparameter_sweep, apply, PARAMS, DATA, key=KEY, epochs=2, batch_size=4)


def test_gradient_descent_on_a_parabola():
    # Loss w^2, gradient 2 w: after e steps the loss is (1 - 2 rate)^(2 e).
    rates = [0.1, 0.45, 0.6, 1e6]
    params = {"w": jnp.ones((1, 1))}
    settings = {"epochs": 8, "batch_size": 4, "loss": train.squared_error, "validation": ONE}
    found = train.hyperparameter_sweep(apply, params, ONE, key=KEY, settings={"learning_rate": rates}, **settings)
    shrink = (1 - 2 * np.array(rates[:3])[:, None]) ** (2 * np.arange(9))
    assert found.history.loss.shape == (4, 1, 8)
    np.testing.assert_allclose(found.history.loss[:3, 0], shrink[:, :8], rtol=1e-4)
    np.testing.assert_allclose(found.history.validation_loss[:3, 0], shrink[:, 1:], rtol=1e-4)
    np.testing.assert_allclose(found.scores[:3, 0], shrink[:, 8], rtol=1e-4)
    np.testing.assert_array_equal(found.diverged[:, 0], [False, False, False, True])
    assert found.best == {"learning_rate": pytest.approx(0.45)}
    verdicts = [row[0].verdict for row in found.diagnoses()]
    assert verdicts == ["still learning", "fits well", "fits well", "diverges"]
    assert "1e+06 -> inf" in str(found)
    assert "best {'learning_rate'" in str(found)


@pytest.mark.slow
def test_each_run_is_that_of_fit():
    grid = {"learning_rate": [0.1, 0.5], "momentum": [0.0, 0.5, 0.9]}
    found = quick(settings=grid, seeds=2, validation=DATA)
    assert found.history.loss.shape == (6, 2, 2)
    assert found.history.layers is found.history.epochs is None
    np.testing.assert_allclose(found.settings["learning_rate"], np.repeat([0.1, 0.5], 3))
    np.testing.assert_allclose(found.settings["momentum"], np.tile([0.0, 0.5, 0.9], 2))
    single = train.fit(
        *(apply, PARAMS, DATA),
        key=jax.random.fold_in(KEY, 1),
        optimizer=optax.sgd(0.5, momentum=0.9),
        epochs=2,
        batch_size=4,
        validation=DATA,
    ).history
    for name in ("loss", "accuracy", "gradient_norm", "validation_loss", "validation_accuracy"):
        np.testing.assert_allclose(getattr(found.history, name)[5, 1], getattr(single, name), rtol=1e-5)
    assert not np.array_equal(found.history.loss[5, 0], found.history.loss[5, 1])


@pytest.mark.slow
def test_how_many_runs_go_at_once_changes_nothing():
    grid = {"learning_rate": [0.1, 0.5, 0.7]}
    whole = quick(settings=grid, seeds=2).scores
    np.testing.assert_allclose(quick(settings=grid, seeds=2, runs_at_once=4).scores, whole, rtol=1e-5)
    np.testing.assert_allclose(quick(settings=grid, seeds=2, runs_at_once=1).scores, whole, rtol=1e-5)


@pytest.mark.slow
def test_injected_hyperparameters_and_drawn_params():
    def draw(key):
        return {"w": jax.random.normal(key, (3, 2))}

    settings = {"settings": {"learning_rate": [0.1, 0.5]}, "seeds": 2, "initialize": draw}
    made = quick(optimizer=optax.adam, **settings)
    injected = quick(optimizer=optax.inject_hyperparams(optax.adam)(0.3), **settings)
    inside = quick(optimizer=optax.chain(optax.identity(), optax.inject_hyperparams(optax.adam)(0.3)), **settings)
    for other in (injected, inside):
        np.testing.assert_allclose(other.history.loss, made.history.loss, rtol=1e-5)
    np.testing.assert_array_equal(made.history.loss[0, :, 0] == made.history.loss[0, 0, 0], [True, False])


RATES = {"learning_rate": [0.1]}
SCHEDULED = optax.inject_hyperparams(optax.sgd)(optax.constant_schedule(0.1))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"settings": {}}, "`settings` has to be"),
        ({"settings": [0.1]}, "`settings` has to be"),
        ({"settings": {"learning_rate": []}}, r"`settings\['learning_rate'\]` has shape \(0,\)"),
        ({"settings": {"learning_rate": 0.1}}, r"has shape \(\); pass its values"),
        ({"settings": {"learning_rate": [0.1, np.nan]}}, r"`settings\['learning_rate'\]` .*NaN"),
        ({"settings": {"learning_rate": ["a"]}}, r"`settings\['learning_rate'\]` has to be a number"),
        ({"settings": {"rate": [0.1]}}, "`settings` holds 'rate', which `optimizer` has not; it takes learning_rate"),
        ({"settings": RATES, "optimizer": optax.sgd(0.1)}, "it has none injected"),
        ({"settings": RATES, "optimizer": SCHEDULED}, "computes 'learning_rate' of `settings` by a schedule"),
        ({"settings": RATES, "optimizer": 3}, "`optimizer`"),
        ({"settings": RATES, "optimizer": lambda learning_rate: 3}, "`optimizer` made 3 of the settings"),
        ({"settings": RATES, "seeds": 0}, "`seeds` has to be at least 1"),
        ({"settings": RATES, "runs_at_once": 0}, "`runs_at_once`"),
        ({"settings": RATES, "epochs": 0}, "`epochs`"),
        ({"settings": RATES, "params": object()}, "`params` holds <object"),
        ({"settings": RATES, "initialize": lambda key: None}, "the function `initialize` returned None"),
        ({"settings": RATES, "data": [DATA]}, "(?s)`data` is .*; pass arrays"),
        ({"settings": RATES, "validation": [DATA]}, "(?s)`validation` is .*; pass arrays"),
        ({"settings": RATES, "data": (X, DATA[1] + 5)}, "target 6 is outside"),
        ({"settings": RATES, "data": (X * np.nan, DATA[1])}, "NaN"),
    ],
)
def test_bad_input(settings, words, monkeypatch):
    monkeypatch.setattr(jax, "jit", lambda *_: pytest.fail("a bad call is computed"))
    with pytest.raises((TypeError, ValueError), match=words):
        train.hyperparameter_sweep(**{"apply": apply, "params": PARAMS, "data": DATA, "key": KEY, **settings})


def test_nothing_is_best_where_all_diverged():
    nothing = np.full((2, 1, 3), np.nan)
    found = train.Sweep({"learning_rate": jnp.array([1.0, 2.0])}, train.History(nothing, nothing, nothing))
    with pytest.raises(ValueError, match="runs of every setting diverged"):
        _ = found.best
    assert "best none, runs of all diverged" in str(found)


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x, train=True):
        return nn.Dense(2)(nn.BatchNorm(use_running_average=not train)(x))


@pytest.mark.slow
def test_models_with_state_are_swept_as_they_are_trained():
    model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    for apply, params in ((Normed().apply, Normed().init(KEY, X)), jaxplain.from_nnx(model)):
        settings = {"epochs": 2, "batch_size": 4, "validation": DATA}
        found = train.hyperparameter_sweep(
            apply, params, DATA, key=KEY, settings={"learning_rate": [0.1, 0.5]}, optimizer=optax.adam, **settings
        )
        single = train.fit(
            apply, params, DATA, key=jax.random.fold_in(KEY, 0), optimizer=optax.adam(0.5), **settings
        ).history
        np.testing.assert_allclose(found.history.loss[1, 0], single.loss, rtol=1e-4)
        np.testing.assert_allclose(found.history.validation_loss[1, 0], single.validation_loss, rtol=1e-4)


def test_settings_and_seeds_are_not_mixed_up():
    drawn = lambda key: {"w": jax.random.normal(key, (3, 2))}  # noqa: E731
    found = quick(settings={"learning_rate": [0.0, 1.0]}, seeds=2, initialize=drawn, batch_size=10).history.loss
    np.testing.assert_allclose(found[0, :, 1], found[0, :, 0], rtol=1e-6)  # at a rate of zero nothing is learnt
    assert (found[1, :, 1] < found[1, :, 0]).all()
    np.testing.assert_allclose(found[0, :, 0], found[1, :, 0], rtol=1e-6)  # a seed starts the same in every setting
    assert abs(found[0, 0, 0] - found[0, 1, 0]) > 0.01  # and another one elsewhere


def test_a_score_is_the_lowest_validation_loss_else_the_last_training_loss():
    loss, validation = np.array([[[3.0, 1.0, 2.0]]]), np.array([[[5.0, 4.0, 6.0]]])
    rates = {"learning_rate": jnp.ones(1)}
    assert train.Sweep(rates, train.History(loss, loss, loss, validation, loss)).scores.tolist() == [[4.0]]
    assert train.Sweep(rates, train.History(loss, loss, loss)).scores.tolist() == [[2.0]]
