"""Edges of the residual stream: their names, exact patching, estimates, and models whose effects are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import language
from shared.attending import blocks, weights

PARAMS = weights(jax.random.key(1), 1, 4, 2, 5)
CLEAN, CORRUPT = jax.random.normal(jax.random.key(0), (2, 3, 4))


def f(x):
    with jax.named_scope("output"):
        return jnp.tanh(blocks(x, PARAMS, 2)[-1]).sum()


NAMES = language.edges(f)(CLEAN)


def linear(x, a, b):
    """A stream that two linear layers write into."""
    with jax.named_scope("first"):
        y = x @ a
    x = x + y
    with jax.named_scope("second"):
        z = x @ b
    return (x + z)[-1].sum()


A, B = jax.random.normal(jax.random.key(2), (2, 4, 4))


def test_names_of_writers_and_readers():
    writers, readers = (list(dict.fromkeys(side)) for side in zip(*NAMES, strict=True))
    heads = ["block_0/attention/head_0", "block_0/attention/head_1"]
    assert writers == ["input", *heads, "block_0/mlp"]
    of_heads = [f"{head}/{part}" for part in ("query", "key", "value") for head in heads]
    assert readers == [*of_heads, "block_0/mlp", "output"]
    assert len(NAMES) == 6 + 3 + 4


def test_the_effect_of_each_edge_of_linear_layers():
    found = jax.jit(language.edge_patching(linear))(CLEAN, CORRUPT, A, B)
    names = language.edges(linear)(CLEAN, A, B)
    d = (CLEAN - CORRUPT)[-1]
    wanted = {
        ("input", "first"): (d @ A + d @ A @ B).sum(),
        ("input", "second"): (d @ B).sum(),
        ("input", "output"): d.sum(),
        ("first", "second"): (d @ A @ B).sum(),
        ("first", "output"): (d @ A).sum(),
        ("second", "output"): ((d + d @ A) @ B).sum(),
    }
    np.testing.assert_allclose(found, [wanted[name] for name in names], rtol=1e-4, atol=1e-5)
    for how in ("gradient", "integrated", "activations", "relevance"):
        estimate = jax.jit(language.edge_attribution(linear, how, steps=2))(CLEAN, CORRUPT, A, B)
        np.testing.assert_allclose(estimate, found, rtol=1e-4, atol=1e-5, err_msg=how)


@pytest.mark.slow
def test_every_edge_patched_is_the_clean_run_and_none_the_corrupt():
    score = jax.jit(language.circuit_score(f))
    kept = jnp.ones(len(NAMES))
    np.testing.assert_allclose(score(CLEAN, CORRUPT, kept), f(CLEAN), rtol=1e-5)
    np.testing.assert_allclose(score(CLEAN, CORRUPT, 0 * kept), f(CORRUPT), rtol=1e-5)
    effects = jax.jit(language.edge_patching(f))(CLEAN, CORRUPT)
    one = NAMES.index(("block_0/attention/head_1", "output"))
    swapped = score(CORRUPT, CLEAN, kept.at[one].set(0))
    np.testing.assert_allclose(effects[one], swapped - f(CORRUPT), atol=1e-6)
    curve = jax.jit(language.circuit_curve(f, fractions=(0.5, 1.0)))(CLEAN, CORRUPT, effects)
    np.testing.assert_allclose(curve[jnp.array([0, 2])], jnp.stack([f(CORRUPT), f(CLEAN)]), rtol=1e-5)
    path = jax.jit(language.path_patching(f, ("block_0/attention/head_1", "output")))
    np.testing.assert_allclose(path(CLEAN, CORRUPT), effects[one], atol=1e-6)


def test_a_circuit_is_complete_and_minimal_where_it_is():
    names = language.edges(linear)(CLEAN, A, B)
    checks = jax.jit(language.circuit_checks(linear, samples=4))
    whole = checks(jax.random.key(0), CLEAN, CORRUPT, jnp.ones(len(names)), A, B)
    np.testing.assert_allclose(whole.completeness, 0, atol=1e-5)
    d = (CLEAN - CORRUPT)[-1]
    kept = jnp.asarray([name != ("input", "output") for name in names])
    part = checks(jax.random.key(0), CLEAN, CORRUPT, kept, A, B)
    np.testing.assert_allclose(part.completeness, abs(d.sum()), rtol=1e-4)  # what the edge that is missing is worth
    assert part.minimality[names.index(("input", "output"))] == 0
    np.testing.assert_allclose(part.minimality[names.index(("first", "output"))], abs((d @ A).sum()), rtol=1e-4)


@pytest.mark.slow
def test_nodes_are_what_patching_by_sites_gives():
    nodes = jax.jit(language.node_patching(f, positions=True))(CLEAN, CORRUPT)
    sites = {"block_0/attention/~heads": ("head", "position"), "block_0/mlp": 0}
    swept = jax.jit(language.sweep(f, sites))(CLEAN, CORRUPT)
    np.testing.assert_allclose(nodes[1:3], swept["block_0/attention/~heads"], atol=1e-6)
    np.testing.assert_allclose(nodes[3], swept["block_0/mlp"], atol=1e-6)
    whole = jax.jit(language.node_patching(f))(CLEAN, CORRUPT)
    np.testing.assert_allclose(whole[0], f(CLEAN) - f(CORRUPT), atol=1e-5)  # all else follows from the embedding


def test_relevance_without_rules_is_the_gradient_to_the_bit():
    gradient = jax.jit(language.edge_attribution(f))(CLEAN, CORRUPT)
    plain = jax.jit(language.edge_attribution(f, "relevance", rules=()))(CLEAN, CORRUPT)
    np.testing.assert_array_equal(plain, gradient)


def test_relevance_of_a_gated_layer_by_hand():
    up, gate, down = (jax.random.normal(jax.random.key(k), s) for k, s in ((3, (4, 5)), (4, (4, 5)), (5, (5, 4))))

    def gated(x):
        with jax.named_scope("mlp"):
            y = x * jax.lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)
            z = (jax.nn.silu(y @ gate) * (y @ up)) @ down
        return (x + z)[-1].sum()

    x, d = CORRUPT[-1], (CLEAN - CORRUPT)[-1]
    scale = 1 / jnp.sqrt(jnp.mean(x**2) + 1e-6)  # held
    y = x * scale
    held = jax.nn.sigmoid(y @ gate)  # silu(g) / g
    half = 0.5 * (held * (d * scale @ gate) * (y @ up) + held * (y @ gate) * (d * scale @ up))
    found = jax.jit(language.edge_attribution(gated, "relevance"))(CLEAN, CORRUPT)
    names = language.edges(gated)(CLEAN)
    np.testing.assert_allclose(found[names.index(("input", "mlp"))], (half @ down).sum(), rtol=1e-4)


def selecting(x):
    """The last token takes the value of the token whose key its query names; logits are 60 or 0."""
    q, k = 60 * x[:, 2:4], x[:, :2]
    with jax.named_scope("attention"):
        mixed = jax.nn.softmax(q @ k.T, axis=-1) @ x[:, 4:] @ jnp.ones((1, 5))
    return (x + mixed)[-1, 0]


def test_a_saturated_softmax_hides_from_gradients_and_not_from_what_is_computed_anew():
    corrupt = jnp.array([[1.0, 0, 0, 0, 0], [0, 1, 0, 0, 1], [0, 0, 1, 0, 0]])
    clean = corrupt.at[2, 2:4].set(jnp.array([0.0, 1.0]))
    place = language.edges(selecting)(clean).index(("input", "attention/query"))
    truth = jax.jit(language.edge_patching(selecting))(clean, corrupt)[place]
    np.testing.assert_allclose(truth, 1, atol=1e-5)
    assert abs(jax.jit(language.edge_attribution(selecting))(clean, corrupt)[place]) < 1e-5
    for how in ("attention", "atp_star"):
        estimate = jax.jit(language.edge_attribution(selecting, how))(clean, corrupt)[place]
        np.testing.assert_allclose(estimate, 1, atol=1e-5, err_msg=how)


def test_effects_that_cancel_are_not_hidden_where_gradients_are_dropped():
    def cancelling(x):
        with jax.named_scope("first"):
            y = jnp.tanh(x) @ A
        x = x + y
        with jax.named_scope("second"):
            z = x @ -jnp.eye(4)
        return (x + z)[-1].sum()

    place = language.edges(cancelling)(CLEAN).index(("input", "first"))
    assert abs(language.edge_attribution(cancelling)(CLEAN, CORRUPT)[place]) < 1e-5
    assert language.edge_attribution(cancelling, "atp_star")(CLEAN, CORRUPT)[place] > 0.1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: language.edges(lambda x: jnp.tanh(x).sum())(CLEAN), "edges: this score has no residual stream"),
        (lambda: language.edge_patching(f)(CLEAN, CORRUPT[:2]), "edge_patching: `clean` has the shape .* Align them"),
        (lambda: language.edge_attribution(f, "eap"), "edge_attribution: `how` is 'eap'; it has to be one of"),
        (lambda: language.edge_attribution(f, "relevance", rules=("relu",)), "`rules` is 'relu'; it has"),
        (lambda: language.circuit_score(f)(CLEAN, CORRUPT, jnp.ones(3)), r"`kept` has shape \(3,\), but .* 13 edges"),
        (lambda: language.circuit_curve(f)(CLEAN, CORRUPT, jnp.ones(3)), r"`scores` has shape \(3,\)"),
        (lambda: language.circuit_curve(f, fractions=(0.5, 0.2)), "`fractions` has to be numbers that ascend"),
        (lambda: language.path_patching(f, ("input",)), "at least one reader"),
        (
            lambda: language.path_patching(f, ("nobody", "output"))(CLEAN, CORRUPT),
            "'nobody' is no writer of this model",
        ),
        (
            lambda: language.path_patching(f, ("block_0/mlp", "block_0/mlp"))(CLEAN, CORRUPT),
            "there is no edge from 'block_0/mlp' to 'block_0/mlp'",
        ),
        (lambda: language.edge_attribution(scanned, "relevance")(CLEAN, CORRUPT), "cannot be held one by one"),
    ],
)
@pytest.mark.sampled(2)
def test_what_is_refused(call, words):
    with pytest.raises((ValueError, TypeError), match=words):
        call()


def scanned(x):
    return (x + jax.lax.scan(lambda h, _: (jnp.tanh(h), None), x, None, 2)[0]).sum()
