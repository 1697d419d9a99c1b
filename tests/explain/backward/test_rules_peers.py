"""Rules against zennit 0.5.1 and captum 0.9.0 on the same weights (`peers/rules.py` regenerates the numbers)."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from peers.rule_networks import convolutional_network, dense_network, residual_network

import jaxplain
from jaxplain.explain.backward import relevance

PEERS = json.loads((Path(__file__).parents[2] / "peers" / "rules.json").read_text())
RULES = {
    "epsilon": lambda: relevance.epsilon(1e-6),
    "epsilon_large": lambda: relevance.epsilon(0.25),
    "gamma": lambda: relevance.gamma(0.25),
    "z_plus": relevance.z_plus,
    "alpha2_beta1": lambda: relevance.alpha_beta(2.0, 1.0),
    "w_square": relevance.w_square,
    "flat": relevance.flat,
    "epsilon_plus": relevance.epsilon_plus,
    "epsilon_plus_flat": relevance.epsilon_plus_flat,
    "epsilon_gamma_box": lambda: relevance.epsilon_gamma_box(-3.0, 3.0),
    "epsilon_alpha2_beta1": relevance.epsilon_alpha2_beta1,
    "epsilon_alpha2_beta1_flat": relevance.epsilon_alpha2_beta1_flat,
}


def dense(params, x):
    for place, (w, b) in enumerate(zip(params["weights"], params["biases"], strict=True)):
        x = x @ w + b
        x = jax.nn.relu(x) if place < 2 else x
    return x


def convolve(x, w):
    return lax.conv_general_dilated(x[None], w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]


def pool(x, init, reduce):
    return lax.reduce_window(x, init, reduce, (2, 2, 1), (2, 2, 1), "VALID")


def convolutional(p, x):
    x = convolve(x, p["first"]) + p["first_bias"][None, None]
    scale = p["scale"] / jnp.sqrt(p["variance"] + 1e-5)
    x = (x - p["mean"][None, None]) * scale[None, None] + p["shift"][None, None]
    x = pool(jax.nn.relu(x), -jnp.inf, lax.max)
    x = jax.nn.relu(convolve(x, p["second"]) + p["second_bias"][None, None])
    x = pool(x, 0.0, lax.add) / 4
    return x.reshape(-1) @ p["head"] + p["head_bias"]


def network(name):
    params = convolutional_network() if name == "convolutional" else dense_network(name == "dense")
    x = jnp.asarray(params.pop("x"))
    model = convolutional if name == "convolutional" else dense
    return lambda x, k: model(params, x)[k], x


@functools.cache
def explained(name):
    """Every method on one network, in one compiled call."""
    f, x = network(name)
    np.testing.assert_allclose([f(x, k) for k in range(3)], PEERS[name]["output"], rtol=1e-4, atol=1e-5)
    methods = {rule: jaxplain.lrp(f, make()) for rule, make in RULES.items()} | {
        "excitation_backprop": jaxplain.excitation_backprop(f),
        "captum_guided_backprop": jaxplain.guided_backprop(f),
        "captum_deconvnet": jaxplain.deconvnet(f),
    }
    return jax.jit(lambda x: {rule: e(x, 1) for rule, e in methods.items()})(x)


def compare(name, rule, ours=None):
    theirs = np.asarray(PEERS[name][rule])
    np.testing.assert_allclose(
        explained(name)[ours or rule], theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max(), err_msg=rule
    )


@pytest.mark.parametrize("name", ["dense", "dense_without_bias", "convolutional"])
@pytest.mark.parametrize("rule", list(RULES))
@pytest.mark.sampled(8)
def test_lrp_agrees_with_zennit(name, rule):
    if rule == "epsilon_gamma_box" and name != "convolutional":
        pytest.skip("zennit puts the box at the first convolution alone")
    compare(name, rule)


def test_excitation_backprop_agrees_with_zennit_where_that_sums_to_one():
    compare("dense_without_bias", "excitation_backprop")
    for name in ("dense", "convolutional"):  # with biases zennit's probabilities sum to less than one
        np.testing.assert_allclose(explained(name)["excitation_backprop"].sum(), 1.0, atol=1e-4)
        assert np.sum(PEERS[name]["excitation_backprop"]) < 0.95


@pytest.mark.parametrize("name", ["dense", "convolutional"])
def test_rectified_gradients_agree_with_captum(name):
    compare(name, "captum_guided_backprop")
    compare(name, "captum_deconvnet")


@pytest.mark.parametrize("name", ["dense", "dense_without_bias"])
def test_epsilon_agrees_with_captum(name):
    compare(name, "captum_lrp_epsilon", ours="epsilon")


def test_captum_takes_the_sign_of_the_weight_where_that_of_the_contribution_counts():
    # x w = [3, 2], both positive, so alpha = 1 and beta = 0 gives f(x) = 5 to them as they are.
    r = jaxplain.lrp(lambda x: x @ jnp.array([1.0, -2.0]), relevance.alpha_beta(1.0, 0.0))(jnp.array([3.0, -1.0]))
    np.testing.assert_allclose(r, [3.0, 2.0], rtol=1e-5)
    np.testing.assert_allclose(PEERS["wrong"]["captum_alpha1_beta0"], [5.0, 0.0], atol=1e-6)


def test_zennit_gives_relevance_twice_at_a_plain_residual_addition():
    params = residual_network()
    x, w, head = params["x"], params["inner"], params["head"][:, 1]
    relevance_of = jaxplain.lrp(lambda x: (x + jax.nn.relu(x @ w)) @ head, relevance.epsilon(1e-6))
    # By hand: a network of lines and ReLUs without biases gives x times its gradient, which sums to f(x).
    gradient = head + w @ (head * (x @ w > 0))
    np.testing.assert_allclose(relevance_of(x), x * gradient, rtol=1e-3, atol=1e-5)
    output = float((x + np.maximum(x @ w, 0)) @ head)
    np.testing.assert_allclose(relevance_of(x).sum(), output, rtol=1e-4)
    # zennit hands the sum's relevance to both branches whole: to x, and through the ReLU and the layer before it.
    whole = (x + np.maximum(x @ w, 0)) * head
    np.testing.assert_allclose(PEERS["wrong"]["zennit_residual"], whole + x * (w @ (whole / (x @ w))), rtol=1e-3)
    assert abs(np.sum(PEERS["wrong"]["zennit_residual"]) - 2 * output) < 1e-3 * abs(output)
