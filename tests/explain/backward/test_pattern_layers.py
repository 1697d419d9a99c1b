"""Patterns of every form of a layer: all of a neuron's share goes to its inputs, whatever the convolution."""

from __future__ import annotations

import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain
from jaxplain.pattern import estimate_patterns, pattern_attribution, pattern_net

GENERATOR = np.random.default_rng(0)


def drawn(*shape):
    return GENERATOR.normal(size=shape).astype(np.float32) + 0.2


CONVOLUTIONS = {
    "strides": ((6, 6, 2), (3, 3, 2, 4), {"window_strides": (2, 2)}),
    "dilated": ((7, 7, 1), (3, 3, 1, 2), {"rhs_dilation": (2, 2)}),
    "transposed": ((4, 4, 2), (3, 3, 2, 3), {"lhs_dilation": (2, 2)}),
    "groups": ((5, 5, 4), (2, 2, 2, 6), {"feature_group_count": 2}),
    "depthwise": ((5, 5, 3), (3, 3, 1, 3), {"feature_group_count": 3}),
    "one axis": ((9, 2), (4, 2, 3), {}),
    "three axes": ((3, 3, 3, 1), (2, 2, 2, 1, 2), {}),
    "channels first": ((2, 5, 5), (4, 2, 3, 3), {"dimension_numbers": ("NCHW", "OIHW", "NCHW")}),
}


def convolution(shape, settings):
    """A layer, by its settings; channels are last where these do not say."""
    axes = len(shape) - 1
    letters = "DHW"[3 - axes :] if axes > 1 else "H"
    given = {"window_strides": (1,) * axes, "dimension_numbers": (f"N{letters}C", f"{letters}IO", f"N{letters}C")}
    return lambda x, w: lax.conv_general_dilated(x[None], w, padding=[(0, 0)] * axes, **(given | settings))[0]


QUICK = ("strides", "groups", "channels first")


@pytest.mark.parametrize("names", [QUICK, pytest.param((*CONVOLUTIONS,), marks=pytest.mark.slow)], ids=["few", "all"])
def test_a_neuron_shares_all_of_it_among_its_inputs(names):
    """Without zeros around the image the shares of one output sum to 1, before and without a ReLU."""
    for name in names:
        shape, kernel, settings = CONVOLUTIONS[name]
        rows, w, layer = drawn(20, *shape), drawn(*kernel), convolution(shape, settings)
        for relu in (False, True):

            def score(x, layer=layer, w=w, relu=relu):
                y = layer(x, w)
                y = (jax.nn.relu(y + 0.1) if relu else y).reshape(-1)
                return y[y.argmax()]

            patterns = estimate_patterns(score, rows)
            assert int(patterns.silent[0]) == 0, name
            own = np.moveaxis(np.asarray(patterns.values[0]) * w, 0 if name == "channels first" else -1, 0)
            np.testing.assert_allclose(own.reshape(len(own), -1).sum(1), 1, rtol=1e-4, err_msg=name)
            if name == "transposed":  # the zeros that it puts between the inputs take their shares
                continue
            shares = jax.jit(pattern_attribution(score, patterns))(rows[0])
            assert float(shares.sum()) == pytest.approx(1, abs=1e-4), (name, relu)


@pytest.mark.slow
def test_a_batch_norm_is_part_of_its_layer():
    class Normalized(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.BatchNorm(use_running_average=True, name="before")(x)  # of the input: known scales
            x = nn.relu(nn.BatchNorm(use_running_average=True, name="after")(nn.Dense(4, name="one")(x)))
            return nn.Dense(2, name="two")(x)

    rows, module = drawn(30, 3), Normalized()
    variables = module.init(jax.random.key(0), rows)
    keys = iter(jax.random.split(jax.random.key(1), 99))
    variables = jax.tree.map(lambda leaf: jax.random.uniform(next(keys), leaf.shape, minval=0.5), variables)
    variables["params"]["one"]["kernel"] -= 1.0
    p, s = variables["params"], variables["batch_stats"]
    before, after = (p[n]["scale"] / jnp.sqrt(s[n]["var"] + 1e-5) for n in ("before", "after"))
    mean = p["before"]["bias"] - s["before"]["mean"] * before
    bias = (p["one"]["bias"] - s["after"]["mean"]) * after + p["after"]["bias"]

    def folded(x, k):
        hidden = jax.nn.relu((x * before + mean) @ (p["one"]["kernel"] * after[None]) + bias)
        return (hidden @ p["two"]["kernel"] + p["two"]["bias"])[k]

    score, targets = jaxplain.logit(module.apply, variables), np.arange(30) % 2
    found, right = (estimate_patterns(f, rows, targets) for f in (score, folded))
    for one, other in zip(found.values, right.values, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    for method in (pattern_net, pattern_attribution):
        signal = method(score, found)(rows[0], 1)
        np.testing.assert_allclose(signal, method(folded, right)(rows[0], 1), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_haiku_pytrees_low_precision_and_programs_inside():
    """Inputs of several arrays that are joined; a network inside of `jit` and `checkpoint`; bfloat16."""
    net = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([5, 2])(x)))
    rows = {"a": drawn(25, 2), "b": drawn(25, 3)}
    params = net.init(jax.random.key(0), jnp.zeros((1, 5)))
    joined = lambda x: net.apply(params, jnp.concatenate([x["a"], x["b"]])[None])[0, 1]  # noqa: E731
    patterns = estimate_patterns(joined, rows, batch_size=10)
    right = jax.vmap(pattern_attribution(joined, patterns))(rows)
    wrapped = jax.jit(jax.checkpoint(joined))
    found = jax.vmap(pattern_attribution(wrapped, estimate_patterns(wrapped, rows)))(rows)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), found, right)
    small = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), rows)
    low = estimate_patterns(joined, small)
    assert all(value.dtype == jnp.float32 for value in low.values)
    assert pattern_net(joined, low)(jax.tree.map(lambda leaf: leaf[0], small))["a"].dtype == jnp.bfloat16


@pytest.mark.slow
def test_a_sign_outside_turns_signals_and_keeps_shares():
    w, v, rows = drawn(4, 5), drawn(5), drawn(30, 4)
    one, other = (lambda x: jax.nn.relu(x @ w) @ v), (lambda x: -(jax.nn.relu(x @ w) @ v))
    patterns, turned = estimate_patterns(one, rows), estimate_patterns(other, rows)
    a, b = (pattern_attribution(f, p)(rows[0]) for f, p in ((one, patterns), (other, turned)))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    a, b = (pattern_net(f, p)(rows[0]) for f, p in ((one, patterns), (other, turned)))
    np.testing.assert_allclose(a, -b, rtol=1e-4, atol=1e-5)


def test_parameters_that_are_not_finite_are_told():
    w = drawn(4, 5)
    w[1, 2] = np.inf
    with pytest.raises(ValueError, match=r"patterns' values at 'dense' .*though `inputs` are finite"):
        estimate_patterns(lambda x: (x @ w)[0], drawn(10, 4))
