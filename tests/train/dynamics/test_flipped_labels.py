"""Examples with a flipped label are what the dynamics of a run find: learnt late, forgotten, predicted deep."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxplain import train

COUNT, FLIPPED = 160, 16


def network(params, x):
    h = x
    for layer in range(3):
        with jax.named_scope(f"hidden_{layer}"):
            h = jax.nn.relu(h @ params[f"w{layer}"] + params[f"b{layer}"][None])
    return h @ params["w3"]


@pytest.mark.slow
def test_flipped_labels_are_learnt_last_and_predicted_deepest():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(COUNT, 4)).astype(np.float32)
    clean = np.arange(COUNT) % 2
    x[:, 0] += 6.0 * clean - 3.0  # so far apart that only a flipped one is on the wrong side
    labels = np.where(np.arange(COUNT) < FLIPPED, 1 - clean, clean).astype(np.int32)
    sizes = (4, 48, 48, 48, 2)
    params = {f"w{i}": generator.normal(size=s) * np.sqrt(2 / s[0]) for i, s in enumerate(itertools.pairwise(sizes))}
    params |= {f"b{i}": np.zeros(48) for i in range(3)}
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    run = train.fit(
        network, params, (x, labels), key=jax.random.key(1), optimizer=optax.adam(5e-3), epochs=150, batch_size=32,
        snapshots=range(0, 751, 25), progress=False,
    )  # fmt: skip
    found = train.learning_dynamics(network, run.snapshots, (x, labels))
    assert found.accuracy[-1] > 0.97, "they are learnt by heart"
    learnt = np.where(np.asarray(found.learnt) < 0, np.inf, np.asarray(found.learnt))
    late = np.argsort(learnt, kind="stable")[-FLIPPED:]
    assert np.mean(late < FLIPPED) > 0.5, "most of the last learnt are flipped, where chance gives a tenth"
    assert np.median(learnt[:FLIPPED]) > 3 * np.median(learnt[FLIPPED:])
    forgotten = np.asarray(found.forgotten)
    assert forgotten[:FLIPPED].mean() > 3 * forgotten[FLIPPED:].mean()
    depth = np.asarray(train.prediction_depth(network, run.params, (x, labels), "hidden_*", neighbours=9).depth)
    assert depth[:FLIPPED].mean() > depth[FLIPPED:].mean() + 1
