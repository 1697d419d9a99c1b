"""F-Fidelity: closed form of additive scores, the random removal of fine-tuning, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.evaluate import evaluate_batch, f_fidelity, random_removal

KEY = jax.random.key(5)
S = np.arange(20.0, 0.0, -1.0, dtype=np.float32)  # contributions of the features of f(x) = sum x


def total(x):
    return jnp.sum(x)


def test_the_whole_explanation_is_removed_exactly():
    # 8 of 20 features are the explanation; 8 of the rest of 12 is what the limit lets pass.
    plus = f_fidelity(total, fraction=0.4, share=1.0, limit=0.4, samples=3)
    np.testing.assert_allclose(plus(KEY, S, S), S[:8].sum(), rtol=1e-6)
    minus = f_fidelity(total, order="lerf", fraction=0.4, share=1.0, limit=0.6, samples=3)
    judge = jax.jit(minus)
    np.testing.assert_allclose(judge(KEY, S, S), S[8:].sum(), rtol=1e-6)
    np.testing.assert_allclose(judge(KEY, S, -S), S[:12].sum(), rtol=1e-6)
    assert (plus.better, minus.better) == ("higher", "lower")


def test_in_the_mean_it_is_the_parts_mean_times_the_number_removed():
    for order, share, limit, part, count in (
        ("morf", 0.5, 0.2, S[:8], 4),
        ("lerf", 0.5, 0.2, S[8:], 4),  # the limit: 4 of the 6 that the share says
    ):

        def tuned(x, most=20 * limit):  # knows nothing of inputs that lack more than it has seen
            return jnp.where(jnp.sum(x == 0) > most, jnp.nan, total(x))

        m = f_fidelity(tuned, order=order, fraction=0.4, share=share, limit=limit, samples=3000, batch_size=500)
        spread = part.std() * np.sqrt(count / 3000)
        np.testing.assert_allclose(jax.jit(m)(KEY, S, S), count * part.mean(), atol=4 * spread)


@pytest.mark.slow
def test_draws_are_the_keys_whatever_the_batch():
    rows = jnp.stack([S, S[::-1], S])
    m = f_fidelity(lambda x: jnp.tanh(x @ x / 500), fraction=0.3, limit=0.2, samples=7)
    whole = evaluate_batch(m, rows, rows, key=KEY)
    np.testing.assert_allclose(evaluate_batch(m, rows[1:2], rows[1:2], key=KEY, index=[1]), whole[1:2], rtol=1e-6)
    for size in (1, 3):
        again = f_fidelity(m.score, fraction=0.3, limit=0.2, samples=7, batch_size=size)
        np.testing.assert_allclose(evaluate_batch(again, rows, rows, key=KEY), whole, rtol=1e-5)
    assert not np.allclose(whole[0], whole[2])  # another key for another example


def test_random_removal_takes_every_number_up_to_the_limit():
    r = random_removal(limit=0.25, baseline=-1.0)
    keys = jax.random.split(jax.random.key(0), 1200)
    removed = np.asarray(jax.jit(jax.vmap(r, (0, None)))(keys, S)) == -1.0
    counts = np.bincount(removed.sum(1))
    assert counts.size == 6  # 0 to 5 of 20
    np.testing.assert_allclose(counts / 1200, 1 / 6, atol=0.05)
    np.testing.assert_allclose(removed.mean(0), 2.5 / 20, atol=0.04)
    tree = {"a": jnp.ones(4), "n": jnp.arange(3)}
    np.testing.assert_array_equal(random_removal(limit=1.0)(KEY, tree)["n"], tree["n"])


@pytest.mark.slow
def test_a_model_is_fine_tuned_with_it():
    x = jax.random.normal(KEY, (64, 10))
    y = (x[:, 0] > 0).astype(jnp.int32)
    r = random_removal(limit=0.3)

    def batches(key):
        for place in range(4):
            rows = slice(16 * place, 16 * place + 16)
            keys = jax.random.split(jax.random.fold_in(key, place), 16)
            yield jax.vmap(r)(keys, x[rows]), y[rows]

    def apply(params, x):
        return x @ params

    tuned = jaxplain.train.fit(apply, jnp.zeros((10, 2)), batches, key=KEY, epochs=3).params
    f = jaxplain.probability(apply, tuned)
    a = jax.vmap(jaxplain.input_x_gradient(f))(x, y)
    good, bad = (evaluate_batch(f_fidelity(f, limit=0.3), x, part, y, key=KEY).mean() for part in (a, -a))
    assert good > bad


def test_bad_input_is_named():
    for change, word in (
        ({"fraction": 1.0}, "no rest"),
        ({"fraction": 0.0}, "fraction"),
        ({"share": 1.5}, "share"),
        ({"limit": float("nan")}, "limit"),
        ({"order": "random"}, "order"),
        ({"samples": 0}, "samples"),
    ):
        with pytest.raises(ValueError, match=word):
            f_fidelity(total, **change)
    with pytest.raises(ValueError, match="all 1 features are the explanation"):
        f_fidelity(total)(KEY, S[:1], S[:1])
    with pytest.raises(ValueError, match="limit"):
        random_removal(limit=0)
    with pytest.raises(TypeError, match="needs a key"):
        random_removal()(S)
