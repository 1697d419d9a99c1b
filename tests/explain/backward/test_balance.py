"""What the balance says of single operations: flows of absolute values, and the operations that amplify them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.explain.backward import relevance
from jaxplain.models import mlp, resnet, transformer

X = jnp.array([3.0, 1.0, 2.0])


def test_absolute_flows_by_hand():
    # z = 3 - 2 + 2 = 3: relevance 3 comes in, and 3, -2, 2 go out.
    balance = jaxplain.relevance_balance(lambda x: x @ jnp.array([1.0, -2.0, 1.0]), relevance.epsilon(1e-9))(X)
    (place,) = (i for i, name in enumerate(balance.operations) if name == "dense")
    for name, right in (("received", 3), ("passed", 3), ("incoming", 3), ("outgoing", 7)):
        np.testing.assert_allclose(getattr(balance, name)[place], right, rtol=1e-6)
    (row,) = balance.amplified(2.0)
    assert (row.operation, row.rule) == ("dense", "epsilon(1e-09)")
    np.testing.assert_allclose(row.factor, 7 / 3, rtol=1e-6)
    assert balance.amplified() == balance.amplified(2.4) == ()


@pytest.mark.slow
def test_what_amplifies_is_named_with_its_path():
    def f(x):
        with jax.named_scope("near"):
            h = jnp.exp(x[0] - x[1] * 2.99999)
        return h + x[2]

    balance = jaxplain.relevance_balance(f, relevance.epsilon())(X)
    (row,) = balance.amplified()
    assert (row.path, row.operation) == ("near", "sub")
    assert "sub in 'near' passed on" in str(balance)
    batch = jax.vmap(jaxplain.relevance_balance(f, relevance.epsilon()))(X[None])
    assert batch.outgoing.shape == batch.received.shape
    with pytest.raises(ValueError, match="of one concrete example"):
        batch.amplified()
    with pytest.raises(ValueError, match="factor"):
        balance.amplified(-1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "resnet", "transformer"])
def test_correct_networks_raise_no_alarm(name):
    module = {
        "mlp": lambda: mlp(3, widths=(8, 8)),
        "resnet": lambda: resnet(3, widths=(4, 6), depth=1),
        "transformer": lambda: transformer(3, patch=4, width=8, depth=1, heads=2, pool="class"),
    }[name]()
    x = jax.random.normal(jax.random.key(3), (4, *((5,) if name == "mlp" else (8, 8, 2))))
    f = jaxplain.logit(module.apply, jax.jit(module.init)(jax.random.key(0), x))
    balances = jax.jit(jax.vmap(lambda x: jaxplain.relevance_balance(f, relevance.epsilon())(x, 1)))(x)
    for place in range(4):
        assert jax.tree.map(lambda leaf, place=place: leaf[place], balances).amplified() == ()


def test_what_a_loops_first_value_takes_is_lost_there():
    f = lambda x: jax.lax.scan(lambda c, v: (c + v, None), 10.0, x)[0]  # noqa: E731
    balance = jaxplain.relevance_balance(f, jaxplain.relevance.epsilon())(jnp.array([1.0, 2.0, 3.0]))
    assert (float(balance.lost.sum()), float(balance.unexplained)) == (10.0, 0.0)
    assert "first value" in balance.rules

    weights, first = jax.random.normal(jax.random.key(0), (2, 2)), jnp.array([0.5, 0.3])
    x = jax.random.uniform(jax.random.key(1), (2, 3, 2))

    def recurrent(x):
        return jax.lax.scan(lambda c, v: (jax.nn.relu(c @ weights + v), None), first, x)[0].sum()

    e = jaxplain.relevance_balance(recurrent, jaxplain.relevance.epsilon())
    for balance in (e(x[0]), jaxplain.explain_batch(e, x)):
        np.testing.assert_allclose(balance.unexplained, 0, atol=1e-5)
        assert (np.abs(balance.lost.sum(axis=-1)) > 0.1).all()


def test_a_score_of_decisions_alone_has_no_balance():
    with pytest.raises(ValueError, match="relevance_balance: no operation of `f` carries relevance"):
        jaxplain.relevance_balance(lambda x: ((x > 0) * 2.0).sum(), jaxplain.relevance.epsilon())(jnp.ones(3))
