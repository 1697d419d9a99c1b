"""Token ids in methods that look inside, cross or divide, and in look-ups one token at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from jaxplain.explain.backward import relevance

TABLE, WEIGHTS, WAY = (
    0.5 * jax.random.normal(jax.random.key(k), shape) for k, shape in enumerate([(7, 4), (4, 4), (4, 3)])
)
IDS, OTHER = jnp.array([3, 1, 4, 1]), jnp.array([0, 2, 2, 6])
ROWS, START = TABLE[IDS], TABLE[OTHER]


def of_rows(rows):
    """A score with a layer that cuts every path, and with interactions between tokens."""
    with jax.named_scope("layer"):
        h = jnp.tanh(jnp.cumsum(rows @ WEIGHTS + 0.1, axis=0))
    return ((h @ WAY) ** 2)[-1].sum()


def f(ids):
    return of_rows(TABLE[ids])


@pytest.mark.slow
def test_a_layer_along_the_path_of_the_rows():
    for method in (jaxplain.conductance, jaxplain.internal_influence):
        found = jax.jit(method(f, "layer", baseline=OTHER, steps=8))(IDS)
        wanted = jax.jit(method(of_rows, "layer", baseline=START, steps=8))(ROWS)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    whole = jaxplain.conductance(f, "layer", steps=32)(IDS)
    np.testing.assert_allclose(whole.sum(), f(IDS) - of_rows(0 * ROWS), rtol=1e-4)
    drawn = jaxplain.conductance(f, "layer", baseline=lambda key, x: jax.random.permutation(key, x), steps=32)
    ends = f(IDS) - f(jax.random.permutation(jax.random.key(5), IDS))
    np.testing.assert_allclose(drawn(jax.random.key(5), IDS).sum(), ends, rtol=1e-3, atol=1e-4)
    batch = jaxplain.explain_batch(jaxplain.conductance(f, "layer", baseline=2, steps=4), jnp.stack([IDS, OTHER]))
    alone = jaxplain.conductance(f, "layer", baseline=2, steps=4)(OTHER)
    np.testing.assert_allclose(batch[1], alone, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_pairs_of_tokens_are_sums_over_pairs_of_numbers():
    found = jax.jit(jaxplain.integrated_hessians(f, baseline=OTHER, steps=16))(IDS)
    assert found.shape == (4, 4)
    wanted = jax.jit(jaxplain.integrated_hessians(of_rows, baseline=START, steps=16))(ROWS).sum((1, 3))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.sum(), f(IDS) - f(OTHER), rtol=1e-3)
    # A causal mask made on the way is an operation without operands.
    masked = lambda ids: f(ids) + jnp.tril(jnp.ones((4, 4))).sum() + (TABLE[ids] * jnp.arange(4.0)[None]).sum() ** 2  # noqa: E731
    assert np.isfinite(jaxplain.integrated_hessians(masked, steps=2)(IDS)).all()
    kinked = lambda ids: (jax.nn.relu(TABLE[ids] @ WEIGHTS).sum(0) ** 2).sum()  # noqa: E731
    smooth = jaxplain.integrated_hessians(kinked, smooth=4.0, steps=8)(IDS)
    assert np.isfinite(smooth).all()


@pytest.mark.slow
def test_two_tables_and_a_token_of_the_models_own():
    """Two arrays of ids, and a first row that no token looked up: it moves with none, and takes no part."""
    places, own = jax.random.normal(jax.random.key(4), (5, 4)), jax.random.normal(jax.random.key(5), (1, 4))

    def of_both(a, b):
        return (jnp.tanh(jnp.concatenate([own, a + b]).sum(0) @ WEIGHTS) ** 2).sum()

    x = {"a": IDS, "b": jnp.array([0, 4, 2, 2])}
    rows = (TABLE[x["a"]], places[x["b"]])
    found = jaxplain.integrated_hessians(lambda x: of_both(TABLE[x["a"]], places[x["b"]]), steps=8)(x)
    wanted = jaxplain.integrated_hessians(lambda r: of_both(*r), steps=8)(rows)
    for i, first in enumerate("ab"):
        for j, second in enumerate("ab"):
            np.testing.assert_allclose(found[first][second], wanted[i][j].sum((1, 3)), rtol=1e-3, atol=1e-5)


def test_a_full_gradient_divides_the_score_among_tokens_and_biases():
    def piecewise(rows):
        with jax.named_scope("dense"):
            return jax.nn.relu(rows @ WEIGHTS + 0.3)[-1].sum() + jnp.abs(rows).sum()

    g = lambda ids: piecewise(TABLE[ids])  # noqa: E731
    terms, by_rows = jax.jit(jaxplain.full_grad_terms(g))(IDS), jaxplain.full_grad_terms(piecewise)(ROWS)
    np.testing.assert_allclose(terms.gap, 0, atol=1e-5)
    np.testing.assert_allclose(terms.input, by_rows.input.sum(-1), rtol=1e-5, atol=1e-6)
    assert terms.bias.keys() == by_rows.bias.keys()
    for settings in ({}, {"absolute": True}, {"normalize": True}):
        found = jax.jit(jaxplain.full_grad(g, **settings))(IDS)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, jaxplain.full_grad(piecewise, **settings)(ROWS), rtol=1e-4, atol=1e-5)


def recurrent(rows):
    return lax.scan(lambda h, row: (jnp.tanh(h @ WEIGHTS + row), None), jnp.zeros(4), rows)[0].sum()


SCANS = {
    "items": lambda ids: lax.scan(lambda h, i: (jnp.tanh(h @ WEIGHTS + TABLE[i]), None), jnp.zeros(4), ids)[0].sum(),
    "pairs": lambda ids: lax.scan(
        lambda h, i: (jnp.tanh(h @ WEIGHTS + TABLE[i].sum(0)), None), jnp.zeros(4), ids.reshape(2, 2)
    )[0].sum(),
    "whole": lambda ids: lax.scan(
        lambda h, w: (jnp.tanh(h @ WEIGHTS + w * TABLE[ids].sum(0)), None), jnp.zeros(4), jnp.array([1.0, 2.0, 3.0])
    )[0].sum(),
    "nested": lambda ids: lax.scan(
        lambda h, pair: (lax.scan(lambda g, i: (jnp.tanh(g @ WEIGHTS + TABLE[i]), None), h, pair)[0], None),
        jnp.zeros(4),
        ids.reshape(2, 2),
    )[0].sum(),
}
BY_HAND = {
    "items": recurrent,
    "pairs": lambda rows: recurrent(rows.reshape(2, 2, 4).sum(1)),
    "whole": lambda rows: recurrent(jnp.array([1.0, 2.0, 3.0])[:, None] * rows.sum(0)[None]),
    "nested": recurrent,
}


@pytest.mark.parametrize(
    "name", [n if n in ("items", "nested") else pytest.param(n, marks=pytest.mark.slow) for n in SCANS]
)
@pytest.mark.sampled(2)
def test_tokens_that_are_looked_up_in_the_turns_of_a_scan(name):
    found = jax.jit(jaxplain.input_x_gradient(SCANS[name]))(IDS)
    np.testing.assert_allclose(found, (jax.grad(BY_HAND[name])(ROWS) * ROWS).sum(-1), rtol=1e-4, atol=1e-6)
    if name == "items":
        path = jaxplain.integrated_gradients(SCANS[name], baseline=OTHER, steps=32)(IDS)
        np.testing.assert_allclose(path.sum(), SCANS[name](IDS) - SCANS[name](OTHER), rtol=1e-4)
        backwards = lambda ids: lax.scan(  # noqa: E731
            lambda h, i: (jnp.tanh(h @ WEIGHTS + TABLE[i]), None), jnp.zeros(4), ids, reverse=True
        )[0].sum()
        found = jaxplain.input_x_gradient(backwards)(IDS)
        by_hand = (jax.grad(lambda rows: recurrent(rows[::-1]))(ROWS) * ROWS).sum(-1)
        np.testing.assert_allclose(found, by_hand, rtol=1e-4, atol=1e-6)


def test_one_row_at_a_time_is_a_look_up():
    g = lambda ids: jnp.tanh(sum(TABLE[ids[i]] * (i + 1) for i in range(4)) @ WEIGHTS).sum()  # noqa: E731
    by_hand = lambda rows: jnp.tanh((jnp.arange(1.0, 5)[:, None] * rows).sum(0) @ WEIGHTS).sum()  # noqa: E731
    wanted = (jax.grad(by_hand)(ROWS) * ROWS).sum(-1)
    np.testing.assert_allclose(jax.jit(jaxplain.input_x_gradient(g))(IDS), wanted, rtol=1e-4, atol=1e-6)


def counted(ids):
    return lax.fori_loop(0, 4, lambda i, h: jnp.tanh(h @ WEIGHTS + TABLE[ids[i]]), jnp.zeros(4)).sum()


UNREAD = {
    "a counter": counted,
    "a counter of computed ids": lambda ids: counted((ids + 0) % 7),
    "a while": lambda ids: lax.while_loop(
        lambda state: state[0] < ids.shape[0] - 0 * ids[0],
        lambda state: (state[0] + 1, jnp.tanh(state[1] @ WEIGHTS + TABLE[ids[state[0]]])),
        (0, jnp.zeros(4)),
    )[1].sum(),
    "a branch": lambda ids: lax.cond(ids[0] > 2, lambda i: jnp.tanh(TABLE[i]).sum(), lambda i: TABLE[i].sum(), ids),
    "sorted": lambda ids: jnp.tanh(TABLE[jnp.sort(ids)]).sum(),
    "hashed": lambda ids: jnp.tanh(TABLE[(3 * ids[:-1] + ids[1:]) % 7]).sum(),
    "counts": lambda ids: jnp.tanh(jnp.zeros(7).at[ids].add(1.0) @ TABLE).sum(),
    "in jit": jax.jit(lambda ids: jnp.tanh(TABLE[jnp.sort(ids)]).sum()),
}


@pytest.mark.parametrize("name", UNREAD)
@pytest.mark.sampled(2)
def test_rows_of_nobody_are_refused_and_not_missed(name):
    both = lambda ids: UNREAD[name](ids) + f(ids)  # noqa: E731
    for method in (jaxplain.gradient, jaxplain.deep_lift, lambda g: jaxplain.lrp(g, relevance.epsilon())):
        for score in (UNREAD[name], both):
            with pytest.raises(ValueError, match="does not say whose the result is"):
                method(score)(IDS)
    assert np.isfinite(jaxplain.feature_ablation(both, baseline=0)(IDS)).all()


@pytest.mark.slow
def test_what_tokens_only_decide_is_held():
    places = lambda ids: jnp.cumsum(ids != 1) * (ids != 1)  # noqa: E731
    decided = {
        "positions": lambda ids: of_rows(TABLE[ids] + TABLE[places(ids)]),
        "a length": lambda ids: of_rows(TABLE[ids]) * TABLE[(ids != 1).sum(), 0],
        "where the largest is": lambda ids: of_rows(TABLE[ids] + TABLE[jnp.argmax(ids)][None]),
        "the last token": lambda ids: jnp.tanh(TABLE[ids] @ WEIGHTS)[jnp.argmax(ids)].sum(),
    }
    for name, score in decided.items():
        assert np.isfinite(jaxplain.gradient(score)(IDS)).all(), name
    found = jaxplain.input_x_gradient(decided["positions"])(IDS)
    wanted = (jax.grad(lambda rows: of_rows(rows + TABLE[places(IDS)]))(ROWS) * ROWS).sum(-1)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_what_stays_refused():
    with pytest.raises(ValueError, match=r"lrp: tokens are looked up inside of a `lax\.scan`, where no rule reaches"):
        jaxplain.lrp(SCANS["items"], relevance.attn_lrp())(IDS)
    for make in (
        lambda g: jaxplain.conductance(g, "layer"),
        jaxplain.integrated_hessians,
        jaxplain.full_grad,
    ):
        with pytest.raises(TypeError, match="only floating-point values have a gradient"):
            make(lambda x: (x / 255.0).sum())(jnp.arange(4))
