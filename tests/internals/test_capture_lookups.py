"""Rows of a table picked by ids, without a module that names them: listed, read, replaced and cut at."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import jaxplain
from jaxplain.internals.capture import capture, intervene, split
from jaxplain.internals.layers import layers
from jaxplain.models.nnx import from_nnx
from jaxplain.score import logit
from shared.tables import halves

TABLE = jax.random.normal(jax.random.key(0), (10, 4))
WEIGHT = jax.random.normal(jax.random.key(1), (4, 3))
IDS = jnp.array([3, 1, 7])

# (how the rows are read, the ids, what they are)
SPELLINGS = {
    "index": (lambda table, t: table[t], IDS, TABLE[IDS]),
    "negative": (lambda table, t: table[t - 10], IDS, TABLE[IDS]),
    "at_get": (lambda table, t: table.at[t].get(), IDS, TABLE[IDS]),
    "at_get_fill": (lambda table, t: table.at[t].get(mode="fill", fill_value=0.0), IDS, TABLE[IDS]),
    "take": (lambda table, t: jnp.take(table, t, axis=0), IDS, TABLE[IDS]),
    "take_clip": (lambda table, t: jnp.take(table, t, axis=0, mode="clip"), IDS, TABLE[IDS]),
    "take_columns": (lambda table, t: jnp.take(table.T, t, axis=1), IDS, TABLE[IDS].T),
    "along_axis": (lambda table, t: jnp.take_along_axis(table, t[:, None], axis=0), IDS, TABLE[IDS]),
    "vmapped": (lambda table, t: jax.vmap(lambda i: table[i])(t), IDS, TABLE[IDS]),
    "one_hot": (lambda table, t: jax.nn.one_hot(t, 10) @ table, IDS, TABLE[IDS]),
    "one_hot_by_hand": (lambda table, t: (t[:, None] == jnp.arange(10)[None]).astype(float) @ table, IDS, TABLE[IDS]),
    "einsum": (lambda table, t: jnp.einsum("vd,tv->td", table, jax.nn.one_hot(t, 10)), IDS, TABLE[IDS]),
    "pairs": (lambda table, t: table[t[0], t[1]], jnp.array([[3, 1], [2, 0]]), TABLE[jnp.array([3, 1]), [2, 0]]),
    "one": (lambda table, t: table[t], jnp.array(3), TABLE[3]),
    "one_taken": (lambda table, t: jnp.take(table, t, axis=0), jnp.array(3), TABLE[3]),
    "jitted": (jax.jit(lambda table, t: table[t]), IDS, TABLE[IDS]),
    "remat": (jax.checkpoint(lambda table, t: table[t]), IDS, TABLE[IDS]),
}


def scored(read):
    """A score of the rows that are read, with the table among its parameters."""
    return jax.tree_util.Partial(lambda params, t: jnp.sin(read(params["table"], t)).sum(), {"table": TABLE})


@pytest.mark.parametrize("spelling", halves(list(SPELLINGS)))
@pytest.mark.sampled(2)
def test_every_spelling_is_a_site(spelling):
    read, ids, rows = SPELLINGS[spelling]
    f = scored(read)
    (layer,) = [layer for layer in layers(f)(ids) if layer.operation == "lookup"]
    assert (layer.path, layer.shape, layer.parameters) == ("~lookup:0", rows.shape, TABLE.size)
    output, values = capture(f, "~lookup:0")(ids)
    assert output == f(ids)
    np.testing.assert_array_equal(values["~lookup:0"], rows)
    body, head = split(f, "~lookup:0")
    np.testing.assert_array_equal(body(ids), rows)
    assert head(rows, ids) == f(ids)
    np.testing.assert_allclose(jax.grad(head)(rows, ids), jnp.cos(rows), rtol=1e-6)
    assert intervene(f, {"~lookup:0": lambda h: h})(ids) == f(ids)
    np.testing.assert_allclose(intervene(f, {"~lookup:0": 1.0})(ids), rows.size * np.sin(1.0), rtol=1e-6)


def test_what_is_no_look_up_is_no_site():
    x, chosen = jnp.arange(4.0), jnp.array([2, 0])
    cases = {
        "values of the input": (lambda x, t: x[t].sum(), (x, chosen)),
        "values that depend on it": (lambda x, t: (x @ WEIGHT)[t].sum(), (x, jnp.array([2, 0]))),
        "an index that depends on it": (lambda x: TABLE[jnp.argmax(x)].sum() * x[0], (x,)),
        "places that are always the same": (lambda x: (TABLE[jnp.arange(4)] * x[:, None]).sum(), (x,)),
        "a table of integers": (lambda t: jnp.arange(10)[t].astype(float).sum(), (chosen,)),
        "two ids that are equal": (
            lambda t: ((t[:, None] == t[None]).astype(float) @ jnp.ones((2, 3))).sum(),
            (chosen,),
        ),
        "a mask": (lambda t: ((t == 0).astype(float) @ jnp.ones(2)).sum(), (chosen,)),
    }
    for name, (f, args) in cases.items():
        assert not [layer for layer in layers(f)(*args) if layer.operation == "lookup"], name


class Decoder(nnx.Module):
    """A model whose tables are parameters of its own, as published decoders have them."""

    def __init__(self, rngs):
        self.table = nnx.Param(TABLE)
        self.kinds = nnx.Param(TABLE[:2] + 1.0)
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def encode(self, tokens):
        return self.table.get_value().at[tokens].get() * 2.0

    def __call__(self, tokens, kinds):
        h = self.encode(tokens) + self.kinds.get_value()[kinds]
        return self.head(jnp.tanh(h)).mean(1)


def test_a_model_with_tables_of_its_own():
    apply, params = from_nnx(Decoder(nnx.Rngs(0)))
    f, kinds = logit(apply, params), jnp.array([0, 1, 1])
    table = layers(f)(IDS, 1, kinds)
    assert [(layer.path, layer.shape, layer.parameters) for layer in table] == [
        ("~lookup:0", (3, 4), 40),
        ("~lookup:1", (3, 4), 8),
        ("Decoder/head", (3, 3), 15),
        ("Decoder", (3,), 0),
    ]
    np.testing.assert_array_equal(capture(f)(IDS, 1, kinds)[1]["~lookup:1"], TABLE[kinds] + 1.0)
    assert set(capture(f, "~lookup:*")(IDS, 1, kinds)[1]) == {"~lookup:0", "~lookup:1"}
    body, head = split(f, "~lookup:0")
    h = body(IDS, 1, kinds)
    np.testing.assert_array_equal(h, TABLE[IDS])
    assert head(h, IDS, 1, kinds) == f(IDS, 1, kinds)
    # Every method explains the rows, batched and compiled too; the head is linear but for tanh.
    total = jaxplain.integrated_gradients(head, steps=32)(h, IDS, 1, kinds).sum()
    np.testing.assert_allclose(total, head(h, IDS, 1, kinds) - head(0 * h, IDS, 1, kinds), rtol=1e-4)
    batched = jax.jit(jax.vmap(body, (0, None, 0)))(jnp.stack([IDS, IDS + 1]), 1, jnp.stack([kinds, kinds]))
    np.testing.assert_array_equal(batched[1], TABLE[IDS + 1])
    with pytest.raises(ValueError, match="'~lookup' is called 2 times"):
        split(f, "~lookup")[0](IDS, 1, kinds)
    with pytest.raises(ValueError, match=r"no layer '~lookup:2'.*'~lookup:1'"):
        split(f, "~lookup:2")[0](IDS, 1, kinds)


def test_what_a_module_returns_is_named_by_the_module():
    class Text(nn.Module):
        scale: bool

        @nn.compact
        def __call__(self, tokens):
            h = nn.Embed(10, 4, name="embed")(tokens)
            return nn.Dense(3, name="head")(h).mean(1)

    equinox = pytest.importorskip("equinox", reason="Equinox is not installed; it is part of the test extra")
    haiku = pytest.importorskip("haiku", reason="Haiku is not installed; it is part of the test extra")
    module, key = Text(True), jax.random.key(0)
    net = haiku.without_apply_rng(haiku.transform(lambda t: haiku.Embed(10, 4, name="embed")(t).mean(1)))
    apply, params = from_nnx(nnx.Embed(10, 4, rngs=nnx.Rngs(0)))
    scores = {
        "Linen": logit(module.apply, module.init(key, IDS[None])),
        "Haiku": logit(net.apply, net.init(key, IDS[None])),
        "NNX": logit(lambda p, t: apply(p, t).mean(1), params),
        "Equinox": logit(lambda m, t: jax.vmap(jax.vmap(m))(t).mean(1), equinox.nn.Embedding(10, 4, key=key)),
        "checkpoint_name": logit(
            lambda p, t: jax.ad_checkpoint.checkpoint_name(p[t], "rows").mean(1), jnp.ones((10, 4))
        ),
    }
    for framework, f in scores.items():
        assert not [layer for layer in layers(f)(IDS, 1) if layer.operation == "lookup"], framework
        assert not [path for path in capture(f)(IDS, 1)[1] if "lookup" in path], framework


def test_look_ups_in_loops_and_branches():
    def looped(table, tokens, flag):
        def turn(carry, token):
            return jnp.tanh(carry + table[token]), carry.sum()

        carry, sums = jax.lax.scan(turn, jnp.zeros(4), tokens)
        return jax.lax.cond(flag, lambda t: table[t[0]].sum(), lambda t: 0.0, tokens) + carry.sum() + sums.sum()

    f = jax.tree_util.Partial(looped, TABLE)
    _, values = capture(f, "~lookup:0", "~lookup:1")(IDS, True)
    np.testing.assert_array_equal(values["~lookup:0"].reshape(3, 4), TABLE[IDS])
    np.testing.assert_array_equal(values["~lookup:1"].reshape(4), TABLE[3])
    assert values["~lookup:1:taken"]
    assert intervene(f, {"~lookup:*": lambda h: h})(IDS, True) == f(IDS, True)
    assert intervene(f, {"~lookup:*": 0.0})(IDS, True) == 0


def test_scopes_and_look_ups_stand_side_by_side():
    def f(tokens):
        with jax.named_scope("embed"):
            h = TABLE[tokens] * 2.0
        with jax.named_scope("head"):
            return (h @ WEIGHT).sum()

    assert [layer.path for layer in layers(f)(IDS)][:3] == ["~lookup:0", "embed", "head"]
    assert list(capture(f, "*")(IDS)[1]) == ["~lookup:0", "embed", "head"]
    np.testing.assert_array_equal(capture(f, "embed")(IDS)[1]["embed"], 2.0 * TABLE[IDS])
