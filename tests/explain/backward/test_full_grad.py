"""FullGrad: terms that sum to the score, found in the program and not by their names."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.models import cnn, resnet
from shared import cams


def jittered(module, x):
    """Variables in which no bias and no statistic is zero or one."""
    variables = module.init(jax.random.key(0), x)
    moved = jax.tree.map(lambda v: v + 0.3 * jax.random.normal(jax.random.key(v.size), v.shape), variables)
    if "batch_stats" in moved:
        moved["batch_stats"] = jax.tree_util.tree_map_with_path(
            lambda path, v: jnp.abs(v) + 0.5 if "var" in str(path[-1]) else v, moved["batch_stats"]
        )
    return moved


def scores():
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    for name, module in {
        "cnn": cnn(3, widths=(4, 6), dense=8),
        "resnet": resnet(3, widths=(4, 6), depth=1),
    }.items():
        yield name, jaxplain.logit(functools.partial(module.apply, train=False), jittered(module, x)), x


SCORES = {name: (f, x) for name, f, x in scores()}
each = pytest.mark.parametrize("name", SCORES)


@pytest.mark.slow
@each
def test_terms_and_maps_sum_to_the_score(name):
    f, x = SCORES[name]
    labels = jnp.array([0, 2])
    scores = jax.vmap(f)(x, labels)
    terms = jaxplain.explain_batch(jaxplain.full_grad_terms(f), x, labels)
    total = terms.input.sum((1, 2, 3)) + sum(b.reshape(2, -1).sum(1) for b in terms.bias.values())
    assert (jnp.abs(scores) > 0.1).all()
    np.testing.assert_allclose(total, scores, rtol=1e-5)
    np.testing.assert_allclose(terms.gap, total - scores, atol=1e-5)
    assert float(jnp.abs(terms.input.sum((1, 2, 3)) - scores).min()) > 0.01  # the biases matter
    maps = jaxplain.explain_batch(jaxplain.full_grad(f), x, labels)
    assert maps.shape == (2, 8, 8)
    np.testing.assert_allclose(maps.sum((1, 2)), scores, rtol=1e-5)


@pytest.mark.slow
def test_terms_are_named_by_module_and_shown_for_one_example():
    f, x = SCORES["resnet"]
    bias = jaxplain.full_grad_terms(f)(x[0], 1).bias
    assert bias["ResNet/block_1/norm_0:0"].shape == (4, 4, 6)  # minus the mean
    assert bias["ResNet/head"].shape == (3,)
    # Both shifts of a BatchNorm together: (bias - mean scale / sigma) times the gradient after it.
    state, weights = (f.params[kind]["norm_stem"] for kind in ("batch_stats", "params"))
    shift = weights["bias"] - state["mean"] * weights["scale"] / jnp.sqrt(state["var"] + 1e-5)
    body, head = jaxplain.split(f, "norm_stem")
    right = jax.grad(head)(body(x[0], 1), x[0], 1) * shift[None, None]
    np.testing.assert_allclose(bias["ResNet/norm_stem:0"] + bias["ResNet/norm_stem:1"], right, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_the_source_map_is_that_of_its_equation():
    f, x = jaxplain.logit(cams.Net(stride=2).apply, cams.variables()), cams.image((6, 8))
    weights, right = cams.weights(), np.abs(np.asarray(jax.grad(f)(x, 1)) * x).sum(-1)
    for name, conv in (("first", "first"), ("second", "second")):
        body, head = jaxplain.split(f, conv)
        slopes = np.asarray(jax.grad(head)(body(x, 1), x, 1), np.float64)
        right += cams.interpolated(np.abs(slopes * weights[name]["bias"]).sum(-1), (6, 8))
    np.testing.assert_allclose(jaxplain.full_grad(f, absolute=True)(x, 1), right, rtol=1e-4)


@pytest.mark.slow
def test_every_way_of_writing_a_bias_is_found():
    # Hooks on modules with biases (the peer's way) see none of these.
    def f(x):
        h = jnp.concatenate([jnp.array([2.0]), x]) - jnp.array([0.5, 1.0, 1.0])  # 1.5, 2, 3
        h = jnp.where(h > 1.8, h, 4.0)  # 4, 2, 3
        h = jax.lax.dynamic_update_slice(h, jnp.array([7.0]), (2,))  # 4, 2, 7
        h = jnp.clip(jnp.pad(h, 1, constant_values=1.0), 1.5, 5.0)  # 1.5, 4, 2, 5, 1.5
        return jax.nn.relu6(10 * h).sum() + jnp.maximum(h, 3.0).sum()

    terms = jaxplain.full_grad_terms(f)(jnp.array([3.0, 4.0]))
    np.testing.assert_allclose(terms.gap, 0, atol=1e-5)
    assert float(f(jnp.array([3.0, 4.0]))) == 5 * 6 + 3 + 4 + 3 + 5 + 3
    # Of x only the 2 could count, but it is cut at six and below three.
    np.testing.assert_allclose(terms.input, [0, 0])


@pytest.mark.slow
def test_biases_inside_loops_and_branches_are_found():
    class Block(nn.Module):
        @nn.compact
        def __call__(self, h, _):
            return jax.nn.relu(h + nn.Dense(4)(h)), None

    class Stack(nn.Module):
        @nn.compact
        def __call__(self, x):
            block = nn.scan(nn.remat(Block), variable_axes={"params": 0}, split_rngs={"params": True}, length=3)
            h = block(name="block")(x, None)[0]
            h = jax.lax.cond(h.sum() > 0, lambda h: h + 1.5, lambda h: h - 2.5, h)
            return nn.Dense(2, name="head")(h)

    x = jax.random.normal(jax.random.key(2), (4,))
    f = jaxplain.logit(Stack().apply, jittered(Stack(), x[None]))
    terms = jax.jit(jaxplain.full_grad_terms(f))(x, 1)
    np.testing.assert_allclose(terms.gap, 0, atol=1e-5)
    assert (3, 4) in {b.shape for b in terms.bias.values()}


@pytest.mark.slow
def test_the_gap_says_where_a_network_is_not_piecewise_linear():
    def f(x):
        return jnp.tanh(x).sum() + 1.0

    x = jnp.array([0.5, -2.0])
    terms = jaxplain.full_grad_terms(f)(x)
    slopes = 1 - np.tanh(x) ** 2
    np.testing.assert_allclose(terms.gap, (x * slopes).sum() + 1 - (np.tanh(x).sum() + 1), rtol=1e-5)


def test_masks_of_infinities_have_no_share():
    def f(x):
        return jnp.where(jnp.array([True, False]), x, -jnp.inf).max() + 2.0

    terms = jaxplain.full_grad_terms(f)(jnp.array([1.0, 5.0]))
    assert float(terms.gap) == 0
    assert terms.input.tolist() == [1.0, 0.0]


@pytest.mark.slow
def test_tokens_are_placed_and_class_tokens_spread():
    kernel = jax.random.normal(jax.random.key(0), (12, 5))

    def f(x):
        tokens = x.reshape(2, 2, 3, 2, 3).transpose(0, 2, 1, 3, 4).reshape(6, 12) @ kernel + 0.5
        tokens = jnp.concatenate([jnp.full((1, 5), 3.0), tokens])
        return (jax.nn.relu(tokens) * jnp.arange(7.0)[:, None]).sum() + tokens[0].sum()

    x = jax.random.normal(jax.random.key(1), (4, 6, 3))
    np.testing.assert_allclose(jaxplain.full_grad(f)(x).sum(), f(x), rtol=1e-5)
    assert jaxplain.full_grad(f, absolute=True)(x).shape == (4, 6)


@pytest.mark.slow
def test_pytrees_vectors_and_settings():
    x = {"values": jnp.array([1.0, -2.0]), "ids": jnp.array([1, 0])}

    def f(x):
        return jax.nn.relu(x["values"] + jnp.array([1.0, 3.0])[x["ids"]]).sum()

    terms = jaxplain.full_grad_terms(f)(x)
    np.testing.assert_array_equal(terms.input["values"], [1.0, 0.0])
    assert float(terms.gap) == 0
    assert not terms.input["ids"].any()
    np.testing.assert_allclose(jaxplain.full_grad(lambda x: (x + 1).sum())(jnp.array([1.0, 2.0])), [2.0, 3.0])
    flat = jaxplain.full_grad(lambda x: (x + 1).sum(), channel_axis=None)(jnp.ones((2, 3)))
    np.testing.assert_allclose(flat, 2 * jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="takes any `x`"):
        jaxplain.full_grad(f)({"a": jnp.ones(2), "b": jnp.ones(2)})
    with pytest.raises(TypeError, match="`absolute` has to be True or False"):
        jaxplain.full_grad(f, absolute=1)
