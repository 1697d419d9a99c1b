"""Five planted degradations of the truth about a closed-form model are ranked as they were planted."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

import jaxplain
from jaxplain.evaluate import evaluate_batch

KEY = jax.random.key(3)
FEATURES, LEVELS = 20, 5


def degraded(truth, level):
    """The truth with its `2 level` largest values exchanged with the smallest ones."""
    order = np.argsort(-truth, axis=-1)
    given = np.sort(truth, axis=-1)[..., ::-1].copy()
    for k in range(2 * level):
        given[..., [k, -1 - k]] = given[..., [-1 - k, k]]
    out = np.empty_like(truth)
    np.put_along_axis(out, order, given, axis=-1)
    return out


E = jaxplain.evaluate
METRICS = {
    "symmetric_relevance_gain": (E.symmetric_relevance_gain, -1),
    "f_fidelity": (functools.partial(E.f_fidelity, fraction=0.4, limit=0.2), -1),
    "f_fidelity of the rest": (functools.partial(E.f_fidelity, order="lerf", fraction=0.4, limit=0.2), 1),
    "soft_sufficiency": (E.soft_sufficiency, -1),
    "soft_comprehensiveness": (E.soft_comprehensiveness, -1),
    "deletion": (E.deletion, 1),
}


@pytest.mark.parametrize("name", METRICS)
def test_metrics_rank_them_as_planted(name):
    make, sign = METRICS[name]
    rng = np.random.default_rng(0)
    w = rng.uniform(0.5, 1.5, FEATURES).astype(np.float32)
    x = rng.uniform(0.1, 2.0, (40, FEATURES)).astype(np.float32)
    attributions = np.concatenate([degraded(w * x, level) for level in range(LEVELS)])
    m = make(lambda x: jnp.asarray(w) @ x)
    values = evaluate_batch(m, np.tile(x, (LEVELS, 1)), attributions, key=KEY, index=np.tile(np.arange(40), LEVELS))
    found = np.asarray(values).reshape(LEVELS, 40).mean(1)
    assert spearmanr(np.arange(LEVELS), found).statistic == pytest.approx(sign)


def test_retraining_ranks_them_as_planted():
    # Orthogonal columns of one length and mean 0: least squares explains sum of w^2 over the features that are left.
    rng = np.random.default_rng(1)
    x = rng.normal(size=(64, FEATURES))
    x = np.linalg.qr(x - x.mean(0))[0] * 8
    w = np.linspace(2.0, 0.1, FEATURES)
    y = x @ w

    def train_and_test(key, data, test):
        solution = jnp.linalg.lstsq(*data)[0]
        return 1 - jnp.mean((test[1] - test[0] @ solution) ** 2) / jnp.var(test[1])

    data = x.astype(np.float32), y.astype(np.float32)
    worth = [degraded(w, level) for level in range(LEVELS)]
    methods = {f"level {k}": (np.tile(a, (64, 1)).astype(np.float32),) * 2 for k, a in enumerate(worth)}
    for order, sign in (("morf", 1), ("lerf", -1)):
        found = E.remove_and_retrain(train_and_test, data, data, methods, key=KEY, order=order, fractions=(0.45,))
        for row, a in enumerate(worth):
            kept = np.argsort(-a if order == "morf" else a)[9:]
            np.testing.assert_allclose(found.mean[row, 1], (w[kept] ** 2).sum() / (w**2).sum(), atol=1e-4)
        np.testing.assert_allclose(found.mean[:, 0], 1.0, atol=1e-5)
        assert spearmanr(np.arange(LEVELS), found.area[:-1]).statistic == pytest.approx(sign)
