"""Estimates against exact patching on a transformer of four layers that is trained here."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxplain
from jaxplain import language
from shared.attending import blocks, normalized, weights

pytestmark = [pytest.mark.slow, pytest.mark.optimized]
VOCABULARY, LENGTH, WIDTH, HEADS, DEPTH = 16, 12, 32, 4, 4


def apply(params, ids):
    def one(ids):
        x = params["tokens"][ids] + params["positions"]
        return normalized(blocks(x, params["layers"], HEADS)) @ params["tokens"].T

    return jax.vmap(one)(ids)


def sums(key, count):
    """Each number is the sum of the two before it, modulo the vocabulary."""
    first = jax.random.randint(key, (count, 2), 0, VOCABULARY)
    series = [first[:, 0], first[:, 1]]
    while len(series) < LENGTH:
        series.append((series[-1] + series[-2]) % VOCABULARY)
    ids = jnp.stack(series, axis=1)
    return ids, jnp.roll(ids, -1, axis=1).at[:, -1].set(-1).at[:, 0].set(-1)


def loss(outputs, target):
    each = optax.softmax_cross_entropy_with_integer_labels(outputs, jnp.maximum(target, 0))
    return jnp.where(target >= 0, each, 0).sum() / (target >= 0).sum()


@pytest.fixture(scope="module")
def trained():
    key = jax.random.key(0)
    params = {
        "tokens": 0.5 * jax.random.normal(key, (VOCABULARY, WIDTH)),
        "positions": 0.5 * jax.random.normal(jax.random.fold_in(key, 1), (LENGTH, WIDTH)),
        "layers": weights(jax.random.fold_in(key, 2), DEPTH, WIDTH, HEADS, 64),
    }
    fitted = jaxplain.train.fit(
        apply,
        params,
        sums(jax.random.key(1), 2048),
        key=jax.random.key(2),
        loss=loss,
        optimizer=optax.adam(2e-3),
        epochs=14,
        batch_size=64,
        progress=False,
    )
    assert fitted.history.loss[-1] < 0.1
    return fitted.params


def correlation(a, b):
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_relevance_is_closer_to_patching_than_the_gradient_at_perceptrons(trained):
    (clean, _), (corrupt, _) = sums(jax.random.key(5), 32), sums(jax.random.key(6), 32)
    pair = jnp.stack([clean[:, -1], corrupt[:, -1]], axis=1)

    def score(ids, pair):
        logits = apply(trained, ids[None])[0, -2]
        return logits[pair[0]] - logits[pair[1]]

    over = lambda e: np.asarray(jax.jit(jax.vmap(e))(clean, corrupt, pair))  # noqa: E731
    truth = over(language.node_patching(score, positions=True))
    found = {how: over(language.node_attribution(score, how, positions=True)) for how in ("gradient", "relevance")}
    writers = list(dict.fromkeys(writer for writer, _ in language.edges(score)(clean[0], pair[0])))
    kinds = {kind: [i for i, name in enumerate(writers) if kind in name] for kind in ("mlp", "head")}
    rng = np.random.default_rng(0)
    for kind, rows in kinds.items():
        draws = [rng.integers(0, len(clean), len(clean)) for _ in range(200)]
        gains = [
            correlation(found["relevance"][d][:, rows], truth[d][:, rows])
            - correlation(found["gradient"][d][:, rows], truth[d][:, rows])
            for d in draws
        ]
        low, high = np.percentile(gains, [2.5, 97.5])
        whole = {how: round(correlation(a[:, rows], truth[:, rows]), 3) for how, a in found.items()}
        print(f"{kind}: {whole}, gain {np.mean(gains):.3f} [{low:.3f}, {high:.3f}]")
        if kind == "mlp":
            assert whole["relevance"] - whole["gradient"] >= 0.1
            assert low > 0
