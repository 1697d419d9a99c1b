"""Remove and retrain: closed form, controls, batches, training by `fit`, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.evaluate import remove_and_retrain

KEY = jax.random.key(2)
RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=(200, 6))
X = (np.linalg.qr(NOISE - NOISE.mean(0))[0] * np.sqrt(200)).astype(np.float32)
W = np.array([3.0, 2.0, 1.5, 1.0, 0.5, 0.25], np.float32)
DATA = X, X @ W
A = np.tile(W, (200, 1))


def explained(key, data, test):
    """The share of the targets' variance that least squares explains."""
    solution = jnp.linalg.lstsq(*data)[0]
    return 1 - jnp.mean((test[1] - test[0] @ solution) ** 2) / jnp.var(test[1])


def by_hand(x, y, kept):
    solution = np.linalg.lstsq(x[:, kept].astype(np.float64), y, rcond=None)[0]
    return 1 - np.mean((y - x[:, kept] @ solution) ** 2) / y.var()


def test_least_squares_on_what_is_left():
    methods = {"truth": (A, A), "wrong way round": (-A, -A)}
    given = {"key": KEY, "fractions": (0.34, 0.5, 1.0), "repeats": 2}
    found = remove_and_retrain(explained, DATA, DATA, methods, batch_size=3, **given)
    assert found.methods == ("truth", "wrong way round", "random")
    np.testing.assert_allclose(found.fractions, [0, 2 / 6, 0.5, 1])
    for row, kept in ((0, [[2, 3, 4, 5], [3, 4, 5]]), (1, [[0, 1, 2, 3], [0, 1, 2]])):
        expected = [1.0, *(by_hand(*DATA, part) for part in kept), 0.0]
        np.testing.assert_allclose(found.mean[row], expected, atol=1e-4)
    assert found.better == "lower"
    assert found.beats_control == (True, False, False)
    np.testing.assert_allclose(found.deviation[:2], 0.0, atol=1e-6)
    middle = (found.mean[0, 1:] + found.mean[0, :-1]) / 2
    np.testing.assert_allclose(found.area[0], (middle * np.array([2, 1, 3]) / 6).sum(), rtol=1e-6)
    text = str(found)
    assert "[random]" in text
    assert "without the most relevant" in text
    kept = remove_and_retrain(explained, DATA, DATA, methods, order="lerf", baseline=0.0, **given)
    np.testing.assert_allclose(kept.mean[0, 1], by_hand(*DATA, [0, 1, 2, 3]), atol=1e-4)
    np.testing.assert_allclose(kept.mean[:2], found.mean[1::-1], atol=1e-4)
    assert kept.beats_control == (True, False, False)


@pytest.mark.slow
def test_removed_values_are_the_training_datas_mean_of_each_channel():
    image = RNG.normal(size=(8, 3, 3, 2)).astype(np.float32) + np.array([1.0, -2.0], np.float32)  # two channels
    other = image[:4] + 5.0

    def values(key, data, test):
        return jnp.sum(test[0][..., 0]) + 100 * jnp.sum(data[0][..., 1])

    given = {"key": KEY, "fractions": (1.0,)}
    targets = np.zeros(8, int), np.zeros(4, int)
    pairs = {"m": (image, other)}
    mean = image.mean((0, 1, 2))
    found = remove_and_retrain(values, (image, targets[0]), (other, targets[1]), pairs, **given)
    np.testing.assert_allclose(found.mean[0, 1], 36 * mean[0] + 7200 * mean[1], rtol=1e-4)


@pytest.mark.slow
def test_networks_are_trained_again_side_by_side():
    x = RNG.normal(size=(256, 8)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(int)  # only the first two say anything, and only together
    train, test = (x[:192], y[:192]), (x[192:], y[192:])

    def apply(params, x):
        return jax.nn.relu(x @ params["a"] + params["b"][None]) @ params["c"]

    def train_and_test(key, data, test):
        one, two = jax.random.split(key)
        params = {"a": jax.random.normal(one, (8, 24)) / 2, "b": jnp.zeros(24)}
        params["c"] = jax.random.normal(two, (24, 2)) / 4
        import optax

        run = jaxplain.train.fit(apply, params, data, key=key, optimizer=optax.adam(2e-2), epochs=40, progress=False)
        return jnp.mean(apply(run.params, test[0]).argmax(1) == test[1])

    truth = np.array([1, 1, 0, 0, 0, 0, 0, 0], np.float32) + 0 * x
    given = {"key": KEY, "fractions": (0.25,), "repeats": 3}
    found = remove_and_retrain(
        train_and_test, train, test, {"truth": (truth[:192], truth[192:])}, batch_size=4, **given
    )
    assert found.mean[0, 0] > 0.75
    assert found.mean[0, 1] < 0.65
    assert found.mean[1, 1] > found.mean[0, 1] + 0.05
    again = remove_and_retrain(
        train_and_test, train, test, {"truth": (truth[:192], truth[192:])}, batch_size=1, **given
    )
    np.testing.assert_allclose(again.values, found.values, atol=0.05)


def test_a_repeat_has_one_key_whatever_is_removed():
    methods = {"one": (A, A), "other": (-A, -A)}
    drawn = lambda key, data, test: jax.random.uniform(key) + 0 * data[0].sum()  # noqa: E731
    found = remove_and_retrain(drawn, DATA, DATA, methods, key=KEY, fractions=(0.5, 1.0), repeats=3).values
    np.testing.assert_array_equal(found, np.broadcast_to(found[:1, :1], (3, 3, 3)))
    assert len(set(found[0, 0].tolist())) == 3


def test_whole_numbers_have_no_mean():
    """Beside floating-point leaves they stay as they are; alone they need a baseline (token ids)."""
    x = {"a": X[:8, :2], "n": np.arange(24).reshape(8, 3) + 1}
    ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), x)
    nothing = np.zeros(8)

    def ids(key, data, test):
        off = data[0]["a"] - X[:8, :2].mean(0, keepdims=True)
        return jnp.sum(data[0]["n"] @ jnp.arange(1, 4)) + 1e3 * jnp.sum(jnp.abs(off))

    found = remove_and_retrain(ids, (x, nothing), (x, nothing), {"m": (ones, ones)}, key=KEY, fractions=(1.0,))
    np.testing.assert_allclose(found.mean[:, 1], (x["n"] * np.arange(1, 4)).sum(), atol=0.1)
    tokens = (x["n"], nothing), (x["n"], nothing), {"m": (ones["n"], ones["n"])}
    with pytest.raises(ValueError, match=r"no floating-point numbers .*pass as `baseline`"):
        remove_and_retrain(lambda key, data, test: jnp.sum(data[0]) * 1.0, *tokens, key=KEY, fractions=(1.0,))


def test_bad_input_is_named():
    methods = {"truth": (A, A)}

    def call(train=explained, data=DATA, test=DATA, methods=methods, fractions=(0.5,), **given):
        return remove_and_retrain(train, data, test, methods, key=KEY, fractions=fractions, **given)

    for change, error, words in (
        ({"methods": {}}, ValueError, "at least one method"),
        ({"methods": {"random": (A, A)}}, ValueError, "name of the control"),
        ({"methods": {"m": A}}, TypeError, "of training, of test inputs"),
        ({"methods": {"m": (A, A[:3])}}, ValueError, "attributions"),
        ({"methods": {"m": (A, np.where(A > 2, np.nan, A))}}, ValueError, "200 NaN"),
        ({"data": DATA[0]}, TypeError, r"`data` has to be \(x, targets\)"),
        ({"test": (DATA[0], DATA[1][:3])}, ValueError, "test"),
        ({"fractions": (0.5, 0.2)}, ValueError, "ascending"),
        ({"fractions": (0.01, 0.02)}, ValueError, "ascending ones that differ"),
        ({"fractions": (1.5,)}, ValueError, "fractions"),
        ({"order": "random"}, ValueError, "order"),
        ({"baseline": jaxplain.baseline.uniform_noise(0.0, 1.0)}, ValueError, "random `baseline`"),
        ({"train": 3}, TypeError, "train_and_test"),
        ({"train": lambda key, data, test: data[1]}, ValueError, "train_and_test"),
        ({"train": lambda key, data, test: jnp.log(-jnp.var(data[0]))}, ValueError, "'truth' with 0%"),
    ):
        with pytest.raises(error, match=words):
            call(**change)
