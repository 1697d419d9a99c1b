"""Estimates for writers and for layers: what they sum, saturated softmaxes, cancelling effects, and GIM by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import language
from shared.attending import blocks, weights

PARAMS = weights(jax.random.key(1), 2, 4, 2, 5)
CLEAN, CORRUPT = jax.random.normal(jax.random.key(0), (2, 3, 4))


def f(x):
    return jnp.tanh(blocks(x, PARAMS, 2)[-1]).sum()


def selecting(x):
    """The last token takes the value of the token whose key its query names; logits are 60 or 0."""
    q, k = 60 * x[:, 2:4], x[:, :2]
    with jax.named_scope("attention"):
        mixed = jax.nn.softmax(q @ k.T, axis=-1) @ x[:, 4:] @ jnp.ones((1, 5))
    return (x + mixed)[-1, 0]


SATURATED = jnp.array([[1.0, 0, 0, 0, 0], [0, 1, 0, 0, 1], [0, 0, 1, 0, 0]])
RESTORED = SATURATED.at[2, 2:4].set(jnp.array([0.0, 1.0]))


@pytest.mark.slow
def test_a_saturated_softmax_hides_a_writer_from_the_gradient_and_not_from_atp_star():
    pair = (RESTORED, SATURATED)
    truth = jax.jit(language.node_patching(selecting, positions=True))(*pair)
    np.testing.assert_allclose(truth[0], [0, 0, 1], atol=1e-5)
    for how, wanted in {"gradient": 0, "attention": 1, "atp_star": 1}.items():
        found = jax.jit(language.node_attribution(selecting, how, positions=True))(*pair)
        np.testing.assert_allclose(found[0], [0, 0, wanted], atol=1e-5, err_msg=how)
        whole = language.node_attribution(selecting, how)(*pair)
        np.testing.assert_allclose(whole[0], wanted, atol=1e-5, err_msg=how)


@pytest.mark.slow
def test_so_it_does_queries_at_their_layer():
    pair, path = (RESTORED, SATURATED), "attention/~queries"
    np.testing.assert_allclose(jaxplain.activation_patching(selecting, path, axes=0)(*pair), [0, 0, 1], atol=1e-5)
    np.testing.assert_allclose(jaxplain.attribution_patching(selecting, path, axes=0)(*pair), 0, atol=1e-5)
    found = jax.jit(language.site_attribution(selecting, path, "attention", axes=0))(*pair)
    np.testing.assert_allclose(found, [0, 0, 1], atol=1e-5)
    np.testing.assert_allclose(language.site_attribution(selecting, path, "attention")(*pair), 1, atol=1e-5)
    with pytest.raises(ValueError, match="site_attribution: no attention weights are made of this layer"):
        language.site_attribution(selecting, "attention/~heads", "attention")(*pair)


@pytest.mark.slow
def test_estimates_for_a_layer_are_the_gradient_where_the_change_is_small():
    near = CORRUPT + 1e-2 * (CLEAN - CORRUPT)
    for path, axes in {"block_0/attention/~keys": (1, 0), "block_0/mlp": 0, "block_0": 0}.items():
        first = jax.jit(jaxplain.attribution_patching(f, path, axes=axes))(near, CORRUPT)
        found = jax.jit(language.site_attribution(f, path, "attention", axes=axes))(near, CORRUPT)
        assert found.shape == first.shape
        np.testing.assert_allclose(found, first, atol=0.05 * float(abs(first).max()), err_msg=path)


@pytest.mark.slow
def test_a_writer_does_what_its_edges_do():
    names = language.edges(f)(CLEAN)
    writers = list(dict.fromkeys(writer for writer, _ in names))
    of = jnp.asarray([writers.index(writer) for writer, _ in names])
    edges = jax.jit(language.edge_attribution(f))(CLEAN, CORRUPT)
    nodes = jax.jit(language.node_attribution(f))(CLEAN, CORRUPT)
    np.testing.assert_allclose(nodes, jnp.zeros(len(writers)).at[of].add(edges), rtol=1e-4, atol=1e-5)
    near = CORRUPT + 1e-2 * (CLEAN - CORRUPT)
    positions = jax.jit(language.node_attribution(f, "attention", positions=True))(near, CORRUPT)
    first = jax.jit(language.node_attribution(f, positions=True))(near, CORRUPT)
    assert positions.shape == (len(writers), 3)
    np.testing.assert_allclose(positions, first, atol=0.05 * float(abs(first).max()))


@pytest.mark.slow
def test_an_embedding_in_another_shape_is_the_input():
    """As where rows are looked up one by one, with an axis that is taken away afterwards."""
    table = jnp.concatenate([CLEAN, CORRUPT])
    plain = lambda ids: f(table[ids])  # noqa: E731
    shaped = lambda ids: f(jnp.squeeze(table[ids[:, None]], 1))  # noqa: E731
    ids = (jnp.arange(3), jnp.arange(3, 6))
    assert language.edges(shaped)(ids[0]) == language.edges(plain)(ids[0])
    for make in (language.node_patching, language.node_attribution):
        a, b = (jax.jit(make(g, positions=True))(*ids) for g in (plain, shaped))
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


A = jax.random.normal(jax.random.key(2), (4, 4))


def cancelling(x):
    """What the first layer writes and what reads it take each other away."""
    with jax.named_scope("first"):
        y = jnp.tanh(x) @ A
    x = x + y
    with jax.named_scope("second"):
        z = x @ -jnp.eye(4)
    return (x + z)[-1].sum()


def test_writers_whose_effects_cancel_are_found_where_gradients_are_dropped():
    found = jax.jit(language.node_attribution(cancelling, "atp_star"))(CLEAN, CORRUPT)
    np.testing.assert_allclose(language.node_attribution(cancelling)(CLEAN, CORRUPT)[:2], 0, atol=1e-5)
    x, d = CORRUPT[-1], (CLEAN - CORRUPT)[-1]
    moved = ((jnp.tanh(CLEAN[-1]) - jnp.tanh(x)) @ A).sum()
    through = (d + (d * (1 - jnp.tanh(x) ** 2)) @ A).sum()
    # The input: no gradient through the first (then x - x = 0) or the second block; the others: not through their own.
    wanted = [abs(through) / 2, abs(moved), abs(d.sum() + moved)]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)


def one_head(x):
    """One head over scaled tokens `[T, 5]`: two numbers are the query, two the key, one the value."""
    y = x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)
    with jax.named_scope("attention"):
        mixed = jax.nn.softmax(3 * y[:, 2:4] @ y[:, :2].T, axis=-1) @ y[:, 4:] @ jnp.ones((1, 5))
    return (x + mixed)[-1, 0]


@pytest.mark.slow
def test_gim_of_one_head_by_hand():
    clean, corrupt = jax.random.normal(jax.random.key(3), (2, 3, 5))
    scale = 1 / np.sqrt(np.mean(np.square(corrupt), axis=1, keepdims=True) + 1e-6)  # held
    y, d = np.asarray(corrupt * scale), np.asarray((clean - corrupt) * scale)

    def softmax(z):
        return np.exp(z - z.max()) / np.exp(z - z.max()).sum()

    q, k, v = y[-1, 2:4], y[:, :2], y[:, 4]
    logits = 3 * k @ q
    warm = softmax(logits / 2)
    slope = warm * (v - warm @ v)  # of the value that is mixed, by the logits
    wanted = {
        "query": (slope @ (3 * k @ d[-1, 2:4])) / 4,  # a factor of the logits, which make a factor of the mixture
        "key": (slope @ (3 * d[:, :2] @ q)) / 4,
        "value": (softmax(logits) @ d[:, 4]) / 2,
        "output": float((clean - corrupt)[-1, 0]),
    }
    names = language.edges(one_head)(corrupt)
    found = jax.jit(language.edge_attribution(one_head, "gim"))(clean, corrupt)
    by_name = {reader.rpartition("/")[2]: value for (writer, reader), value in zip(names, found, strict=True)
               if writer == "input"}  # fmt: skip
    assert by_name.keys() == wanted.keys()
    for reader, value in wanted.items():
        np.testing.assert_allclose(by_name[reader], value, rtol=1e-4, err_msg=reader)
    node = jax.jit(language.node_attribution(one_head, "gim"))(clean, corrupt)
    np.testing.assert_allclose(node[0], sum(wanted.values()), rtol=1e-4)
    queries = language.site_attribution(one_head, "attention/~queries", "gim")(clean, corrupt)
    unit = clean * jax.lax.rsqrt(jnp.mean(clean**2, axis=-1, keepdims=True) + 1e-6)
    real = np.asarray(unit)[-1, 2:4] - y[-1, 2:4]  # what the layer really holds, so no scale is held before it
    np.testing.assert_allclose(queries, (slope @ (3 * k @ real)) / 4, rtol=1e-4)
    table = jnp.concatenate([clean, corrupt])
    at_ids = language.site_attribution(lambda ids: one_head(table[ids]), "attention/~queries", "gim")
    np.testing.assert_allclose(at_ids(jnp.arange(3), jnp.arange(3, 6)), queries, rtol=1e-4)


def test_gim_sees_a_little_through_a_saturated_softmax():
    """Its softmax is as warm again; of 60 logits the half are saturated as well, of 20 they are not."""
    found = {}
    for logit in (60, 12):
        g = lambda x, logit=logit: selecting(x.at[:, 2:4].mul(logit / 60))  # noqa: E731
        found[logit] = [float(language.node_attribution(g, how)(RESTORED, SATURATED)[0]) for how in ("gradient", "gim")]
    assert max(map(abs, found[60])) < 1e-4
    assert abs(found[12][0]) < 1e-3 < found[12][1] < 1
