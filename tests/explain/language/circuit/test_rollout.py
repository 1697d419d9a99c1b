"""Attention through the layers: closed forms, a NumPy reference, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import language
from jaxplain.internals import attention_weights
from shared.attending import blocks, weights

T, L = 4, 3


def mixing(matrices):
    """A model whose attention weights are given: logits are their logarithms."""

    def f(x):
        for matrix in matrices:
            x = x + jax.nn.softmax(jnp.log(matrix) + 0 * (x @ x.T), axis=-1) @ x
        return x[0].sum()

    return f


X = jax.random.normal(jax.random.key(0), (T, 5))
UNIFORM = jnp.full((T, T), 1 / T)


def test_closed_forms_of_rollout():
    np.testing.assert_allclose(language.attention_rollout(mixing([UNIFORM] * L), residual=0.0)(X), UNIFORM, atol=1e-6)
    half = language.attention_rollout(mixing([UNIFORM] * L))(X)
    np.testing.assert_allclose(half, (1 - 2.0**-L) * UNIFORM + 2.0**-L * jnp.eye(T), atol=1e-6)
    orders = [[1, 2, 3, 0], [0, 2, 1, 3], [3, 0, 1, 2]]
    permutations = [jnp.eye(T)[jnp.array(order)] for order in orders]
    product = permutations[2] @ permutations[1] @ permutations[0]
    found = language.attention_rollout(mixing(permutations), residual=0.0)(X)
    np.testing.assert_allclose(found, product, atol=1e-6)
    causal = jnp.tril(jnp.ones((T, T))) / jnp.arange(1, T + 1)[:, None]
    np.testing.assert_allclose(language.attention_rollout(mixing([causal]), residual=0.0)(X), causal, atol=1e-6)


def test_rollout_is_that_of_numpy_and_its_rows_sum_to_one():
    params = weights(jax.random.key(1), 2, 6, 2, 8)
    x = jax.random.normal(jax.random.key(2), (T, 6))
    f = lambda x: blocks(x, params, 2)[-1].sum()  # noqa: E731
    found = language.attention_rollout(f, residual=0.3)(x)
    wanted = np.eye(T)
    for own in attention_weights(f)(x).values():
        wanted = (0.7 * np.asarray(own, np.float64).mean(0) + 0.3 * np.eye(T)) @ wanted
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    scanned = lambda x: jax.lax.scan(lambda x, p: (blocks(x, [p], 2), None), x, stacked)[0][-1].sum()  # noqa: E731
    np.testing.assert_allclose(language.attention_rollout(scanned, residual=0.3)(x), wanted, atol=1e-6)
    with pytest.raises(ValueError, match=r"gradient_rollout: the attention .* stands in a `lax.scan`"):
        language.gradient_rollout(scanned)(x)


def test_gradient_rollout_by_hand():
    first, second = (jax.nn.softmax(jax.random.normal(jax.random.key(k), (T, T)), -1) for k in (3, 4))
    f = mixing([first, second])
    x = np.asarray(X, np.float64)
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    one = x + a @ x
    unit = np.zeros((T, 5))
    unit[0] = 1  # the score is the sum of the first token
    of_second = unit @ one.T
    of_first = ((np.eye(T) + b).T @ unit) @ x.T
    for positive in (True, False):
        keep = (lambda m: np.maximum(m, 0)) if positive else (lambda m: m)
        wanted = np.eye(T)
        for matrix, gradient in ((a, of_first), (b, of_second)):
            wanted = wanted + keep(matrix * gradient) @ wanted
        found = language.gradient_rollout(f, positive=positive)(X)
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_flow_through_one_layer_is_its_weights():
    one = language.attention_flow(mixing([UNIFORM]), residual=0.0)(X)
    np.testing.assert_allclose(one, UNIFORM, atol=1e-6)
    with pytest.raises(TypeError, match="outside of jit"):
        jax.jit(language.attention_flow(mixing([UNIFORM])))(X)


def test_norms_are_weights_times_the_size_of_what_a_head_writes():
    params = weights(jax.random.key(1), 1, 6, 2, 8)
    x = jax.random.normal(jax.random.key(2), (T, 6))
    f = lambda x: blocks(x, params, 2)[-1].sum()  # noqa: E731
    found, own = jax.jit(language.value_weighted_norms(f))(x), attention_weights(f)(x)
    assert list(found) == list(own)
    stream = np.asarray(x, np.float64)
    y = stream / np.sqrt((stream**2).mean(-1, keepdims=True) + 1e-6)
    for head, part in enumerate((slice(0, 3), slice(3, 6))):
        written = y @ np.asarray(params[0]["v"])[:, part] @ np.asarray(params[0]["o"])[part]
        wanted = np.asarray(own["block_0/attention"][head]) * np.linalg.norm(written, axis=-1)[None]
        np.testing.assert_allclose(found["block_0/attention"][head], wanted, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="no attention whose heads write linearly"):
        language.value_weighted_norms(lambda x: (x + jnp.tanh(x @ params[0]["q"]))[-1].sum())(x)


def test_flow_is_that_of_networkx():
    networkx = pytest.importorskip("networkx", reason="networkx is not installed (it comes with extra [circuits])")
    matrices = [jax.nn.softmax(2 * jax.random.normal(jax.random.key(k), (T, T)), -1) for k in range(3)]
    found = language.attention_flow(mixing(matrices))(X)
    graph = networkx.DiGraph()
    for number, matrix in enumerate(matrices):
        capacities = 0.5 * np.asarray(matrix, np.float64) + 0.5 * np.eye(T)
        for t in range(T):
            for s in range(T):
                graph.add_edge((number, s), (number + 1, t), capacity=capacities[t, s])
    wanted = [[networkx.maximum_flow_value(graph, (0, s), (3, t)) for s in range(T)] for t in range(T)]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: language.attention_rollout(lambda x: x.sum())(X), "attention_rollout: no attention was found"),
        (lambda: language.gradient_rollout(lambda x: x.sum())(X), "gradient_rollout: no attention was found"),
        (lambda: language.attention_rollout(mixing([UNIFORM]), residual=1.5), "`residual` is the share"),
        (
            lambda: language.attention_rollout(lambda x: (jax.nn.softmax(x @ x[:2].T) @ x[:2]).sum())(X),
            "needs every layer to attend from the same tokens to the same tokens",
        ),
        (lambda: language.gradient_rollout(lambda x: jax.nn.softmax(x @ x.T) @ x)(X), "has to return one number"),
    ],
)
def test_what_is_refused(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()
