"""LRP on whole networks: conservation, accounting, control flow, attention, what rules are given to, bad input."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from jaxplain.explain.backward import relevance

X = jax.random.normal(jax.random.key(0), (6,))
IMAGES = jax.random.uniform(jax.random.key(1), (3, 8, 8, 2))
RULES = {"epsilon": relevance.epsilon(1e-7), "gamma": relevance.gamma(0.25), "z_plus": relevance.z_plus()}


class ResNet(nn.Module):
    """Residual additions, a pooled shortcut, overlapping max pooling, BatchNorm; biases where asked."""

    bias: bool = False

    @nn.compact
    def __call__(self, x):
        conv = functools.partial(nn.Conv, use_bias=self.bias)
        norm = functools.partial(nn.BatchNorm, use_running_average=True, use_bias=self.bias)
        x = nn.max_pool(nn.relu(norm()(conv(4, (3, 3))(x))), (3, 3), (2, 2))
        h = jax.nn.relu(conv(4, (3, 3))(nn.relu(conv(4, (3, 3))(x))))  # z-plus conserves between rectified units
        x = x + h + nn.avg_pool(x, (3, 3), (1, 1), padding="SAME")
        return nn.Dense(3, use_bias=self.bias)(x.mean((1, 2)))


@functools.cache
def resnet(bias):
    module = ResNet(bias)
    variables = jax.jit(module.init)(jax.random.key(2), IMAGES)
    leaves, structure = jax.tree.flatten(variables["params"])
    keys = jax.random.split(jax.random.key(3), len(leaves))
    moved = [v + 0.1 * jax.random.normal(k, v.shape) for k, v in zip(keys, leaves, strict=True)]
    return jaxplain.logit(module.apply, {**variables, "params": jax.tree.unflatten(structure, moved)})


@functools.cache
def accounted(bias):
    """The balance of a batch under every rule, in one compiled call, and the scores."""
    f = resnet(bias)
    measures = {name: jaxplain.relevance_balance(f, rule) for name, rule in RULES.items()}
    balances = jax.jit(jax.vmap(lambda x: {name: measure(x, 1) for name, measure in measures.items()}))(IMAGES)
    values = jax.vmap(f, (0, None))(IMAGES, 1)
    return balances, values, 1e-4 * float(jnp.abs(values).max())


@pytest.mark.slow
@pytest.mark.parametrize("rule", list(RULES))
def test_a_residual_network_without_biases_conserves(rule):
    balances, values, little = accounted(False)
    np.testing.assert_allclose(balances[rule].start, values, atol=little)
    np.testing.assert_allclose(balances[rule].end, values, atol=little)
    np.testing.assert_allclose(balances[rule].lost, 0, atol=little)


@pytest.mark.slow
@pytest.mark.parametrize("rule", list(RULES))
def test_every_loss_is_accounted_for_elsewhere(rule):
    balances, values, little = accounted(True)
    balance = balances[rule]
    lost = values - balance.end
    assert float(jnp.abs(lost).min()) > 10 * little
    np.testing.assert_allclose(balance.lost.sum(-1), lost, atol=little)
    np.testing.assert_allclose(balance.unexplained, 0, atol=little)
    layers = balance.by_layer()  # biases take it, in convolutions and the dense layer
    biased = sum(loss for path, loss in layers.items() if "Conv" in path or "Dense" in path)
    np.testing.assert_allclose(biased, lost, atol=little)


@pytest.mark.slow
def test_a_batch_equals_single_examples_and_ties_in_max_pooling_do_not_leak():
    images = jnp.round(3 * IMAGES)  # many equal values
    e = jaxplain.lrp(resnet(True), RULES["epsilon"])
    together, one = jaxplain.explain_batch(e, images, 1), jax.jit(e)
    for image, r in zip(images, together, strict=True):
        np.testing.assert_allclose(one(image, 1), r, rtol=1e-4, atol=1e-6)
    other = jaxplain.explain_batch(e, images[::-1].at[1].set(7.0), 1)
    np.testing.assert_allclose(together[0], other[2], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_the_printed_balance_names_what_loses():
    f = lambda x: jax.nn.relu(x @ jnp.ones((6, 2)) + 1.0).sum()  # noqa: E731
    text = str(jaxplain.relevance_balance(f, relevance.epsilon())(jnp.abs(X)))
    assert text.splitlines()[1].split()[:2] == ["dense", "epsilon(1e-06)"]
    assert text.splitlines()[-1].startswith("start ")
    assert "Balance of" in str(jax.vmap(jaxplain.relevance_balance(f, relevance.epsilon()))(X[None]))


class Attention(nn.Module):
    """A transformer block without biases."""

    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(2, use_bias=False)(nn.RMSNorm()(x))
        x = x + nn.Dense(6, use_bias=False)(nn.gelu(nn.Dense(8, use_bias=False)(nn.LayerNorm(use_bias=False)(x))))
        return nn.Dense(3, use_bias=False)(x.mean(1))


@functools.cache
def attention():
    x = jax.random.normal(jax.random.key(4), (5, 6))
    module = Attention()
    return jaxplain.logit(module.apply, jax.jit(module.init)(jax.random.key(5), x[None])), x


@pytest.mark.slow
def test_attention():
    f, x = attention()
    rules = {"cp": relevance.cp_lrp(), "attn": relevance.attn_lrp(), "default": relevance.epsilon()}
    found = jax.jit(lambda x: {name: jaxplain.relevance_balance(f, rule)(x, 1) for name, rule in rules.items()})(x)
    value = float(f(x, 1))
    # With attention weights as constants, and no biases, nothing is lost.
    np.testing.assert_allclose(found["cp"].end, value, rtol=1e-3)
    assert "softmax" not in found["cp"].operations
    # AttnLRP loses only at the expansion point of the softmax.
    attn = found["attn"]
    lost = attn.lost[attn.operations.index("softmax")]
    np.testing.assert_allclose(attn.end, value - lost, rtol=1e-3)
    np.testing.assert_allclose(found["default"].end, attn.end, rtol=1e-5)


def test_softmax_and_products_by_hand():
    z, v = jnp.array([1.0, -0.5, 2.0]), jnp.array([0.5, 1.5, -1.0])
    a, s = jaxplain.lrp(lambda x: (jax.nn.softmax(x["z"]) * x["v"]).sum(), relevance.epsilon()), jax.nn.softmax(z)
    r = a({"z": z, "v": v})
    half = s * v / 2  # each factor of a product gets half
    np.testing.assert_allclose(r["v"], half, rtol=1e-4)
    np.testing.assert_allclose(r["z"], z * (half - s * half.sum()), rtol=1e-4)
    cp = jaxplain.lrp(lambda x: (jax.nn.softmax(x["z"]) * x["v"]).sum(), {"softmax": relevance.stop})({"z": z, "v": v})
    np.testing.assert_allclose(cp["v"], s * v, rtol=1e-4)
    assert not cp["z"].any()


def test_masked_attention_has_no_relevance_at_masked_places():
    f = lambda x: (jax.nn.softmax(jnp.where(jnp.arange(4) < 3, x, -jnp.inf)) * x).sum()  # noqa: E731
    r = jaxplain.lrp(f, relevance.epsilon())(jnp.array([1.0, 2.0, 3.0, 4.0]))
    assert bool(jnp.isfinite(r).all())
    assert r[3] == 0


@pytest.mark.slow
def test_a_normalisation_is_a_constant_scale():
    x = jax.random.normal(jax.random.key(6), (1, 6))
    module = nn.LayerNorm(use_bias=False)
    params = module.init(jax.random.key(0), x)
    f = lambda x: (module.apply(params, x[None])[0] * jnp.arange(6.0)).sum()  # noqa: E731
    r = jaxplain.lrp(f, relevance.epsilon(1e-9))(x[0])
    linear = lambda v: ((v - v.mean()) / jnp.sqrt(x.var() + 1e-6) * jnp.arange(6.0)).sum()  # noqa: E731
    np.testing.assert_allclose(r, x[0] * jax.grad(linear)(x[0]), rtol=1e-3, atol=1e-4)
    passed = jaxplain.lrp(f, {"normalization": relevance.pass_through})(x[0])
    np.testing.assert_allclose(passed, module.apply(params, x)[0] * jnp.arange(6.0), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_recurrent_networks_equal_the_unrolled_one():
    w, u, o = (0.5 * jax.random.normal(jax.random.key(k), s) for k, s in ((7, (3, 4)), (8, (4, 4)), (9, (4,))))
    xs = jax.random.normal(jax.random.key(10), (5, 3))

    def cell(h, x):
        gate = jax.nn.sigmoid(x @ w + h @ u)
        return gate * jnp.tanh(x @ w) + (1 - gate) * h, None

    def unrolled(xs):
        h = jnp.zeros(4)
        for x in xs:
            h, _ = cell(h, x)
        return h @ o

    scanned = lambda xs: lax.scan(cell, jnp.zeros(4), xs)[0] @ o  # noqa: E731
    for rule in (relevance.epsilon(), {"dense": relevance.gamma(), "first": relevance.flat}):
        one, two = (jax.jit(jaxplain.lrp(f, rule))(xs) for f in (scanned, unrolled))
        np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5)
    rows = jaxplain.audit(jaxplain.lrp(scanned, {"dense": relevance.gamma(), "first": relevance.flat}))(xs)
    rules = sorted(row.rule for row in rows if row.operation == "dense")
    assert rules == ["flat", "flat", "gamma(0.25)", "gamma(0.25)"]  # the layer that the state goes through is no first
    balance = jax.jit(jaxplain.relevance_balance(scanned, relevance.epsilon()))(xs)
    np.testing.assert_allclose(balance.start, scanned(xs), rtol=1e-5)
    np.testing.assert_allclose(balance.unexplained, 0, atol=1e-5)


@pytest.mark.slow
def test_shared_layers_moves_and_masks_conserve():
    w = jax.random.normal(jax.random.key(11), (6, 6))

    def f(x):
        h = jnp.tanh(jnp.tanh(x @ w) @ w)
        a, b = jnp.split(h, 2)
        y = jnp.concatenate([2 * a, jnp.pad(b, (1, 1))])[jnp.array([0, 2, 1, 3, 5, 4, 6, 7])]
        y = jnp.where(jnp.arange(8) % 2 == 0, y, 0.0) * jnp.array([1.0, 0.0] * 4)
        return lax.top_k(jnp.einsum("i,ij->j", y, jnp.ones((8, 3)) + jnp.arange(3.0)[None]), 2)[0].sum()

    np.testing.assert_allclose(jaxplain.lrp(f, relevance.epsilon(1e-7))(X).sum(), f(X), rtol=1e-3)


@pytest.mark.slow
def test_tokens_get_the_relevance_of_their_embedding():
    table, w = jax.random.normal(jax.random.key(12), (9, 4)), jax.random.normal(jax.random.key(13), (4,))
    f = lambda ids: jax.nn.relu(table[ids].mean(0)) @ w  # noqa: E731
    ids = jnp.array([3, 1, 3, -1])
    r = jaxplain.lrp(f, relevance.epsilon(1e-9))(ids)
    embedded = jaxplain.lrp(lambda h: jax.nn.relu(h.mean(0)) @ w, relevance.epsilon(1e-9))(table[ids])
    np.testing.assert_allclose(r, embedded.sum(-1), rtol=1e-5)
    assert r.dtype == jnp.float32
    batch = jaxplain.explain_batch(jaxplain.lrp(f, relevance.epsilon(1e-9)), jnp.stack([ids, ids[::-1]]))
    np.testing.assert_allclose(batch, jnp.stack([r, r[::-1]]), rtol=1e-5)


def test_paths_first_layers_names_and_kinds_choose_rules():
    composite = {
        "convolution": relevance.z_plus,
        "first": relevance.flat,
        "Conv_2": relevance.gamma(0.1),
        "ResNet/Conv_1": relevance.epsilon(0.5),
        "affine": relevance.epsilon(0.1),
    }
    rows = jaxplain.audit(jaxplain.lrp(resnet(True), composite))(IMAGES[0], 1)
    chosen = {row.path: row.rule for row in rows if row.kind == "affine"}
    assert chosen == {
        "ResNet/Conv_0": "flat",
        "ResNet/Conv_1": "epsilon(0.5)",
        "ResNet/Conv_2": "gamma(0.1)",
        "ResNet/Dense_0": "epsilon(0.1)",
    }
    rows = jaxplain.audit(jaxplain.lrp(resnet(True), {"Conv_*": relevance.z_plus, "Conv_1": relevance.flat}))(
        IMAGES[0], 1
    )
    assert [row.rule for row in rows if row.operation == "convolution"].count("z_plus") == 2
    assert {row.rule for row in rows if row.operation == "add"} == {"epsilon(1e-09)"}


def test_a_path_without_layers_means_what_is_there():
    def f(x):
        with jax.named_scope("squash"):
            h = jnp.tanh(x)
        return h.sum()

    rows = jaxplain.audit(jaxplain.lrp(f, {"squash": relevance.epsilon(0.5)}))(X)
    assert [row.rule for row in rows if row.operation == "tanh"] == ["epsilon(0.5)"]


@pytest.mark.slow
def test_excitation_is_a_probability():
    p = jax.jit(jaxplain.excitation_backprop(resnet(False)))(IMAGES[0], 1)
    np.testing.assert_allclose(p.sum(), 1.0, atol=1e-4)
    assert float(p.min()) >= 0


def test_new_parameters_do_not_compile_again():
    e = lambda w: jaxplain.lrp(jaxplain.logit(_linear, w), relevance.gamma())  # noqa: E731
    x = jnp.ones((2, 3))
    jaxplain.explain_batch(e(jnp.ones((3, 2))), x, 1)
    count = len(_TRACES)
    jaxplain.explain_batch(e(2 * jnp.ones((3, 2))), x, 1)
    assert len(_TRACES) == count


_TRACES = []


def _linear(w, x):
    _TRACES.append(1)
    return x @ w


def test_an_operation_without_a_rule_is_named_with_its_path_and_how_to_give_one():
    def f(x):
        with jax.named_scope("spectrum"):
            return lax.lgamma(x).sum()

    with pytest.raises(ValueError, match=r"no rule for 'lgamma' \(other\) in 'spectrum'.*'lgamma': relevance"):
        jaxplain.lrp(f, relevance.epsilon())(X)
    r = jaxplain.lrp(f, {"lgamma": relevance.epsilon()})(X)
    np.testing.assert_allclose(r, jaxplain.lrp(f, {"spectrum": relevance.epsilon()})(X), rtol=1e-5)
    looped = lambda x: lax.while_loop(lambda h: h.sum() < 5, lambda h: h + 1, x).sum()  # noqa: E731
    with pytest.raises(ValueError, match="no rule for 'while'"):
        jaxplain.lrp(looped, relevance.epsilon())(X)


def test_bad_rules_are_refused():
    f = lambda x: jax.nn.relu(x @ jnp.ones((6, 2))).sum()  # noqa: E731
    with pytest.raises(ValueError, match=r"'denes' matches no module and no kind.*'dense'"):
        jaxplain.lrp(f, {"denes": relevance.epsilon()})(X)
    with pytest.raises(ValueError, match="matches no module"):
        jaxplain.lrp(resnet(True), {"ResNet/Conv_9": relevance.epsilon()})(IMAGES[0], 1)
    with pytest.raises(ValueError, match=r"'BatchNorm_0' is part of 'convolution'.*'ResNet/Conv_0', which takes it in"):
        jaxplain.lrp(resnet(True), {"BatchNorm_0": relevance.epsilon()})(IMAGES[0], 1)
    with pytest.raises(ValueError, match=r"gamma\(0.25\) is a rule for layers with weights, and 'relu'"):
        jaxplain.lrp(f, {"relu": relevance.gamma()})(X)
    with pytest.raises(ValueError, match="pass_through needs one input of the output's shape"):
        jaxplain.lrp(f, relevance.pass_through)(X)
    with pytest.raises(ValueError, match="is empty"):
        jaxplain.lrp(f, {})
    with pytest.raises(TypeError, match="has to be a rule"):
        jaxplain.lrp(f, "epsilon")
    with pytest.raises(TypeError, match="needs its settings"):
        jaxplain.lrp(f, relevance.z_box)
    with pytest.raises(TypeError, match="from strings to rules"):
        jaxplain.lrp(f, {"dense": 3})
    with pytest.raises(TypeError, match="a rule is needed"):
        jaxplain.relevance_balance(f)
    with pytest.raises(ValueError, match="one number"):
        jaxplain.lrp(lambda x: x, relevance.epsilon())(X)


@pytest.mark.slow
def test_complex_numbers_stop_no_relevance_in_silence():
    """A transform to frequencies inside the model is an error that names it, unless the model ends relevance itself."""
    x, weight = (jax.random.normal(jax.random.key(k), shape) for k, shape in ((0, (16,)), (1, (9, 3))))

    def through(weight, x):
        with jax.named_scope("spectrum"):
            return jax.nn.relu(jnp.abs(jnp.fft.rfft(x))) @ weight

    def beside(weight, x):
        scale = jax.lax.stop_gradient(jnp.abs(jnp.fft.rfft(x)).sum())
        loudest = jnp.argmax(jnp.abs(jnp.fft.rfft(x)))
        return jax.nn.relu(x[:, :9]) @ weight * scale + 0.0 * loudest

    lrp = functools.partial(jaxplain.lrp, rule=relevance.epsilon)
    for make in (lrp, jaxplain.deep_lift, jaxplain.guided_backprop):
        with pytest.raises(ValueError, match=r"no rule for 'fft'.* in 'spectrum'.*complex numbers.*split"):
            make(jaxplain.logit(through, weight))(x, 1)
        assert float(jnp.abs(make(jaxplain.logit(beside, weight))(x, 1)).sum()) > 0
