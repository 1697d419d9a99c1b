"""Explanations of all snapshots in one program: the row of the end is the explanation of the end, to the bit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
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


@pytest.fixture(scope="module")
def found():
    return train.fit(
        apply, PARAMS, (X, Y), key=KEY, epochs=4, batch_size=4, snapshots=[0, 3, 16], progress=False,
        optimizer=optax.adam(0.05),
    )  # fmt: skip


def at(params, row):
    return jax.tree.map(lambda leaf: leaf[row], params)


def explained(e, count=2):
    return jaxplain.explain_batch(e, X[:count], Y[:count], **({"key": KEY} if needs_key(e) else {}))


@pytest.mark.slow
def test_every_method_at_every_snapshot(found):
    tried = 0
    for name, method in METHODS.items():
        together = explained(train.explain_over(method, found.snapshots))
        for row in range(3):
            alone = explained(method(at(found.snapshots.params, row)))
            np.testing.assert_allclose(together[:, row], alone, rtol=1e-5, atol=1e-6, err_msg=name)
            tried += 1
    assert tried == 24


def to_the_bit(found, names):
    for name in names:
        method = METHODS[name]
        together = explained(train.explain_over(method, found.snapshots))
        np.testing.assert_array_equal(together[:, -1], explained(method(found.params)), err_msg=name)


@pytest.mark.optimized
def test_the_end_is_the_end_to_the_bit(found):
    to_the_bit(found, ["gradient", "smoothgrad"])


@pytest.mark.slow
@pytest.mark.optimized
def test_the_end_is_the_end_to_the_bit_by_every_method(found):
    to_the_bit(found, METHODS)


def test_several_at_once_are_as_one_at_a_time(found):
    one, many = (train.explain_over(METHODS["gradient"], found.snapshots, batch_size=size)(X[0], 1) for size in (1, 2))
    np.testing.assert_allclose(one, many, rtol=1e-6)


def test_a_lens_over_training(found):
    e = train.explain_over(lambda p: jaxplain.language.lens(lambda x: apply(p, x[None])[0], "block_*"), found.snapshots)
    read = e(X[0])
    assert {name: own.shape for name, own in read.items()} == {"block_0": (3, 2), "block_1": (3, 2)}
    np.testing.assert_allclose(read["block_1"][-1], apply(found.params, X[:1])[0], rtol=1e-5)
    first = at(found.snapshots.params, 0)
    np.testing.assert_allclose(read["block_0"][0], jax.nn.relu(X[0] @ first["a"]) @ first["b"], rtol=1e-5)


def test_linen_and_equinox():
    net = nn.Dense(2)
    variables = net.init(KEY, X)
    run = train.fit(net.apply, variables, (X, Y), key=KEY, epochs=1, batch_size=8, snapshots=[0, 2], progress=False)
    maps = train.explain_over(lambda p: jaxplain.gradient(jaxplain.logit(net.apply, p)), run.snapshots)(X[0], 1)
    np.testing.assert_allclose(maps, run.snapshots.params["params"]["kernel"][:, :, 1], rtol=1e-6)

    arrays, static = eqx.partition(eqx.nn.Linear(6, 2, key=KEY), eqx.is_array)

    def call(params, x):
        return jax.vmap(eqx.combine(params, static))(x)

    run = train.fit(call, arrays, (X, Y), key=KEY, epochs=1, batch_size=8, snapshots=[0, 2], progress=False)
    maps = train.explain_over(lambda p: jaxplain.gradient(jaxplain.logit(call, p)), run.snapshots)(X[0], 1)
    np.testing.assert_allclose(maps, run.snapshots.params.weight[:, 1], rtol=1e-6)


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
