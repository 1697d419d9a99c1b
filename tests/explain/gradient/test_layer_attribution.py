"""Layer and neuron variants on networks small enough to work out by hand, and patching."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxplain.explain.gradient.gradient import gradient, input_x_gradient
from jaxplain.explain.gradient.layer import conductance, internal_influence
from jaxplain.explain.gradient.path import integrated_gradients
from jaxplain.internals.capture import split
from jaxplain.internals.patching import activation_patching, attribution_patching
from jaxplain.score import logit, output

# x has two inputs. Hidden unit 0 has the bias 1, unit 1 the bias -1 and fires from x0 = 0.5 on, unit 2 never fires.
# The output is 3 h0 + 4 h1 - 5 h2, plus twice the second input around the layer.
KERNEL = jnp.array([[1.0, 2.0, -1.0], [0.5, 0.0, -1.0]])
BIAS = jnp.array([1.0, -1.0, -2.0])
OUT = jnp.array([3.0, 4.0, -5.0])
X = jnp.array([2.0, 1.0])


class Residual(nn.Module):
    around: bool = True

    @nn.compact
    def __call__(self, x):
        hidden = jax.nn.relu(nn.Dense(3, name="inner")(x))
        hidden = nn.Dropout(0.5, deterministic=True, name="hidden")(hidden)
        out = nn.Dense(1, use_bias=False, name="out")(hidden)
        return out + 2 * x[:, 1:] if self.around else out


PARAMS = {"params": {"inner": {"kernel": KERNEL, "bias": BIAS}, "out": {"kernel": OUT[:, None]}}}


def score(around):
    return output(Residual(around).apply, PARAMS)


def test_conductance_inside_a_residual_branch_is_what_hand_gives():
    # h0 goes from 1 to 1 + 2 + 0.5 = 3.5; h1 from 0 (fires from alpha = 1/4 on) to 3; h2 stays 0.
    e = conductance(score(True), "hidden", steps=8, rule="midpoint")
    np.testing.assert_allclose(e(X), [3 * 2.5, 4 * 3.0, 0.0], rtol=1e-5)
    # Through the linear layer before the ReLU: the same, split by the same units.
    np.testing.assert_allclose(conductance(score(True), "inner", steps=8, rule="midpoint")(X), e(X), rtol=1e-5)


def test_conductance_of_a_cut_sums_to_the_change_of_the_score():
    f = score(False)
    for path in ("inner", "hidden", "out"):
        e = conductance(f, path, steps=8, rule="midpoint", baseline=jnp.zeros(2))
        np.testing.assert_allclose(e(X).sum(), f(X) - f(jnp.zeros(2)), rtol=1e-5)
    # The residual branch alone does not cut: what goes around it (2 x1) is missing.
    around = score(True)
    e = conductance(around, "hidden", steps=8, rule="midpoint")
    np.testing.assert_allclose(e(X).sum() + 2 * X[1], around(X) - around(jnp.zeros(2)), rtol=1e-5)


def test_internal_influence_is_what_hand_gives():
    f = score(True)
    np.testing.assert_allclose(internal_influence(f, "hidden", steps=5)(X), OUT, rtol=1e-6)
    # Before the ReLU, a unit counts for the part of the path on which it fires: all of it, 3/4 of it, none.
    e = internal_influence(f, "inner", steps=8, rule="midpoint")
    np.testing.assert_allclose(e(X), [3.0, 4.0 * 0.75, 0.0], rtol=1e-6)


def test_layer_attributions_are_methods_on_the_head():
    f = score(True)
    body, head = split(f, "hidden")
    h = body(X)
    np.testing.assert_allclose(h, [3.5, 3.0, 0.0])
    np.testing.assert_allclose(gradient(head)(h, X), OUT)
    np.testing.assert_allclose(input_x_gradient(head)(h, X), OUT * h)
    base = jnp.array([1.0, -1.0, 0.5])
    a = integrated_gradients(head, baseline=base)(h, X)
    np.testing.assert_allclose(a, OUT * (h - base), rtol=1e-5)
    np.testing.assert_allclose(a.sum(), head(h, X) - head(base, X), rtol=1e-5)


def test_neuron_attributions_are_methods_on_a_unit_of_the_body():
    body, _ = split(score(True), "hidden")
    np.testing.assert_allclose(gradient(body.unit(0))(X), KERNEL[:, 0])
    np.testing.assert_allclose(gradient(body.unit(2))(X), [0.0, 0.0])
    a = integrated_gradients(body.unit(1), steps=8, rule="midpoint")(X)
    np.testing.assert_allclose(a, [3.0, 0.0], rtol=1e-5)  # 2 x0 on three quarters of the path


class Convolutional(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Conv(3, (3, 3), name="first")(x))
        x = x + nn.tanh(nn.Conv(3, (3, 3), name="second")(x))
        return nn.Dense(4, name="head")(x.mean((1, 2)))


@pytest.mark.slow
def test_conductance_completes_on_a_network_under_vmap_jit_and_a_drawn_baseline():
    module = Convolutional()
    xs = jax.random.normal(jax.random.key(0), (2, 5, 5, 2))
    f = logit(module.apply, module.init(jax.random.key(1), xs))
    labels = jnp.array([0, 3])
    c = jax.jit(jax.vmap(conductance(f, "first", steps=16)))(xs, labels)
    assert c.shape == (2, 5, 5, 3)
    change = jax.vmap(f)(xs, labels) - jax.vmap(f)(0 * xs, labels)
    np.testing.assert_allclose(c.sum((1, 2, 3)), change, rtol=1e-4)
    np.testing.assert_allclose(conductance(f, "first", steps=16, batch_size=5)(xs[0], 0), c[0], rtol=1e-4, atol=1e-7)
    e = conductance(f, "first", steps=16, baseline=lambda key, x: jax.random.normal(key, x.shape))
    assert e.needs_key
    key = jax.random.key(2)
    drawn = jax.random.normal(key, xs[0].shape)
    np.testing.assert_allclose(e(key, xs[0], 0).sum(), f(xs[0], 0) - f(drawn, 0), rtol=1e-4)


def test_wrong_settings_of_layer_methods():
    f = score(True)
    with pytest.raises(ValueError, match="conductance: `rule` is 'simpson'"):
        conductance(f, "hidden", rule="simpson")
    with pytest.raises(ValueError, match="internal_influence: `steps` has to be at least 1"):
        internal_influence(f, "hidden", steps=0)
    with pytest.raises(ValueError, match=r"^conductance: there is no layer 'hiden'"):
        conductance(f, "hiden")(X)
    with pytest.raises(TypeError, match="conductance: `x` has dtype int32"):
        conductance(f, "hidden")(jnp.array([1, 2]))


class Sequence(nn.Module):
    linear: bool = False

    @nn.compact
    def __call__(self, x):
        h = nn.DenseGeneral((2, 3), name="heads")(x)
        h = h if self.linear else nn.tanh(h)
        return nn.DenseGeneral(4, axis=(-3, -2, -1), name="out")(h)


def sequence(linear):
    module, x = Sequence(linear), jax.random.normal(jax.random.key(0), (2, 5, 4))
    return logit(module.apply, module.init(jax.random.key(1), x[:1])), x[0], x[1]


@pytest.mark.slow
def test_activation_patching_equals_a_loop_over_places():
    f, clean, corrupt = sequence(linear=False)
    body, head = split(f, "heads")
    kept, changed = body(clean, 1), body(corrupt, 1)
    by_hand = np.zeros((5, 2))
    for t in range(5):
        for k in range(2):
            patched = changed.at[t, k].set(kept[t, k])
            by_hand[t, k] = head(patched, corrupt, 1) - f(corrupt, 1)
    effects = activation_patching(f, "heads", axes=(0, 1))(clean, corrupt, 1)
    np.testing.assert_allclose(effects, by_hand, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(activation_patching(f, "heads", axes=(-2, 0))(clean, corrupt, 1), by_hand.T, atol=1e-6)
    np.testing.assert_allclose(
        activation_patching(f, "heads", axes=(0, 1), batch_size=3)(clean, corrupt, 1), effects, atol=1e-6
    )
    whole = activation_patching(f, "heads")(clean, corrupt, 1)
    assert whole.shape == ()
    np.testing.assert_allclose(whole, f(clean, 1) - f(corrupt, 1), rtol=1e-4)
    batch = jax.vmap(activation_patching(f, "heads", axes=0))(
        jnp.stack([clean, corrupt]), jnp.stack([corrupt, clean]), jnp.array([1, 2])
    )
    assert batch.shape == (2, 5)


@pytest.mark.slow
def test_attribution_patching_is_exact_where_the_rest_is_linear():
    f, clean, corrupt = sequence(linear=True)
    for axes in (None, 0, (0, 1), (1, 0), (0, 1, 2)):
        np.testing.assert_allclose(
            attribution_patching(f, "heads", axes=axes)(clean, corrupt, 1),
            activation_patching(f, "heads", axes=axes)(clean, corrupt, 1),
            rtol=1e-3,
            atol=1e-6,
        )
    g, clean, corrupt = sequence(linear=False)
    near = corrupt + 1e-2 * (clean - corrupt)
    np.testing.assert_allclose(
        attribution_patching(g, "heads", axes=0)(near, corrupt, 1),
        activation_patching(g, "heads", axes=0)(near, corrupt, 1),
        rtol=0.05,
        atol=2e-6,
    )


@pytest.mark.slow
def test_wrong_patching():
    f, clean, corrupt = sequence(linear=True)
    with pytest.raises(ValueError, match=r"`axes=\(3,\)` does not name axes of a layer of shape \(5, 2, 3\)"):
        activation_patching(f, "heads", axes=3)(clean, corrupt, 1)
    with pytest.raises(TypeError, match="`axes` has to be an integer or a tuple"):
        attribution_patching(f, "heads", axes=("heads",))

    def g(x):
        with jax.named_scope("double"):
            y = 2 * x
        return y.sum()

    with pytest.raises(ValueError, match=r"shape \(3,\) for `clean` but \(2,\) for `corrupt`"):
        activation_patching(g, "double")(jnp.ones(3), jnp.ones(2))
