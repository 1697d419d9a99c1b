"""Explanations of all snapshots in one program: the row of the end is the explanation of the end, to the bit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxplain
from jaxplain import train
from jaxplain.program import needs_key

KEY = jax.random.key(0)
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(16, 6)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int32)
PARAMS = {"a": GENERATOR.normal(size=(6, 8)).astype(np.float32), "b": GENERATOR.normal(size=(8, 2)).astype(np.float32)}


def apply(params, x):
    with jax.named_scope("block_0"):
        h = jax.nn.relu(x @ params["a"])
    with jax.named_scope("block_1"):
        h = h + jnp.tanh(h)
    return h @ params["b"]


def score(params):
    return jaxplain.logit(apply, params)


METHODS = {
    "a score": score,
    "gradient": lambda p: jaxplain.gradient(score(p)),
    "integrated_gradients": lambda p: jaxplain.integrated_gradients(score(p), steps=4),
    "smoothgrad": lambda p: jaxplain.smoothgrad(jaxplain.gradient(score(p)), sigma=0.1, samples=3),
    "lrp": lambda p: jaxplain.lrp(score(p), jaxplain.relevance.epsilon()),
    "deep_lift": lambda p: jaxplain.deep_lift(score(p)),
    "occlusion": lambda p: jaxplain.feature_ablation(score(p)),
    "kernel_shap": lambda p: jaxplain.kernel_shap(score(p), samples=16),
}


SNAPSHOTS = train.Snapshots(
    np.array([0, 3, 16]), jax.tree.map(lambda leaf: np.stack([leaf, 0.5 * leaf, np.tanh(leaf)]), PARAMS)
)


def at(params, row):
    return jax.tree.map(lambda leaf: leaf[row], params)


def explained(e, count=2):
    return jaxplain.explain_batch(e, X[:count], Y[:count], **({"key": KEY} if needs_key(e) else {}))


def to_the_bit(names):
    """Every snapshot's explanation is that of its params alone; the last one that of the end."""
    tried = 0
    for name in names:
        method = METHODS[name]
        together = explained(train.explain_over(method, SNAPSHOTS))
        for row in range(3):
            alone = explained(method(at(SNAPSHOTS.params, row)))
            np.testing.assert_array_equal(together[:, row], alone, err_msg=f"{name} {row}")
            tried += 1
    return tried


@pytest.mark.optimized
def test_every_snapshot_is_as_alone_to_the_bit():
    assert to_the_bit(["gradient"]) == 3


@pytest.mark.slow
@pytest.mark.optimized
def test_every_snapshot_is_as_alone_to_the_bit_by_every_method():
    assert to_the_bit(METHODS) == 24


def test_several_at_once_are_as_one_at_a_time():
    one, many = (train.explain_over(METHODS["gradient"], SNAPSHOTS, batch_size=size)(X[0], 1) for size in (1, 2))
    np.testing.assert_allclose(one, many, rtol=1e-6)


def test_a_lens_over_training():
    e = train.explain_over(lambda p: jaxplain.language.lens(lambda x: apply(p, x[None])[0], "block_*"), SNAPSHOTS)
    read = e(X[0])
    assert {name: own.shape for name, own in read.items()} == {"block_0": (3, 2), "block_1": (3, 2)}
    np.testing.assert_allclose(read["block_1"][-1], apply(at(SNAPSHOTS.params, 2), X[:1])[0], rtol=1e-5)
    first = at(SNAPSHOTS.params, 0)
    np.testing.assert_allclose(read["block_0"][0], jax.nn.relu(X[0] @ first["a"]) @ first["b"], rtol=1e-5)


def test_linen_and_equinox():
    net = nn.Dense(2)
    twice = lambda leaf: jnp.stack([leaf, 2 * leaf])  # noqa: E731
    stacked = jax.tree.map(twice, net.init(KEY, X))
    maps = train.explain_over(lambda p: jaxplain.gradient(jaxplain.logit(net.apply, p)), stacked)(X[0], 1)
    np.testing.assert_allclose(maps, stacked["params"]["kernel"][:, :, 1], rtol=1e-6)

    arrays, static = eqx.partition(eqx.nn.Linear(6, 2, key=KEY), eqx.is_array)
    stacked = jax.tree.map(twice, arrays)

    def call(params, x):
        return jax.vmap(eqx.combine(params, static))(x)

    maps = train.explain_over(lambda p: jaxplain.gradient(jaxplain.logit(call, p)), stacked)(X[0], 1)
    np.testing.assert_allclose(maps, stacked.weight[:, 1], rtol=1e-6)


def test_wrong_calls_are_told():
    over = train.explain_over
    stack = jnp.ones((3, 2))
    for call, kind, words in (
        (lambda: over(None, stack), TypeError, "explain_over: `method` has to be a function"),
        (lambda: over(lambda w: w, stack), TypeError, "`method` has to return a function"),
        (lambda: over(METHODS["gradient"], None), TypeError, "`snapshots` is None; pass the snapshots of a run"),
        (lambda: over(METHODS["gradient"], "run"), TypeError, "`snapshots` is 'run'"),
        (lambda: over(METHODS["gradient"], {"a": stack, "b": jnp.ones(2)}), ValueError, "need one leading axis"),
        (lambda: over(METHODS["gradient"], {"a": stack, "b": jnp.ones(())}), ValueError, "need one leading axis"),
        (lambda: over(METHODS["gradient"], stack[:0]), ValueError, "`snapshots` is empty: the run ended before"),
        (lambda: over(lambda w: lambda x: x @ w, stack, batch_size=0), ValueError, "`batch_size` has to be at least 1"),
        (lambda: over(lambda w: lambda x: None, stack)(jnp.ones(2)), TypeError, "which holds no arrays"),
    ):
        with pytest.raises(kind, match=words):
            call()
