"""Attribution along a concept, and tests at layers, of a plain function, a Linen, an Equinox and a Haiku model."""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.concept import concept_score, concept_vectors, layer_consistency, tcav, tcav_layers, through_concept

KEY = jax.random.key(0)
X = np.asarray(jax.random.normal(jax.random.key(1), (6, 5)))
A, B = (np.asarray(jax.random.normal(jax.random.key(k), s)) for k, s in ((2, (5, 4)), (3, (4, 3))))
V = np.array([2.0, -1.0, 0.5, 1.0], np.float32)
UNIT = V / np.linalg.norm(V)


def plain(x, label):
    with jax.named_scope("hidden"):
        h = jnp.tanh(x @ A)
    return (h**2 @ B)[label] + x[0] * h[1]


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(jnp.tanh(nn.Dense(4, name="hidden")(x)))


class Equinox(eqx.Module):
    hidden: eqx.nn.Linear
    last: eqx.nn.Linear

    def __call__(self, x):
        return self.last(jnp.tanh(self.hidden(x)))


def models():
    """Name to a score (x, label) and the path of its layer of four units."""
    module = Linen()
    found = {"plain": (plain, "hidden")}
    found["linen"] = jaxplain.logit(module.apply, module.init(KEY, X)), "Linen/hidden"
    equinox = Equinox(eqx.nn.Linear(5, 4, key=KEY), eqx.nn.Linear(4, 3, key=KEY))
    found["equinox"] = (lambda x, label: equinox(x)[label]), "hidden"
    haiku = hk.without_apply_rng(
        hk.transform(lambda x: hk.Linear(3, name="last")(jnp.tanh(hk.Linear(4, name="hidden")(x))))
    )
    found["haiku"] = jaxplain.logit(haiku.apply, haiku.init(KEY, X)), "hidden"
    return {name: (f, next(p for p in path_of(f) if "hidden" in p)) for name, (f, _) in found.items()}


def path_of(f):
    return [layer.path for layer in jaxplain.layers(f)(X[0], 1) if tuple(layer.shape) == (4,)]


@pytest.mark.parametrize("name", ["plain", "linen", "equinox", "haiku"])
@pytest.mark.sampled(4)
def test_what_a_class_owes_to_a_concept(name):
    f, path = models()[name]
    body, head = jaxplain.split(f, path)
    through = through_concept(f, path, V)
    x, label = jnp.asarray(X[0]), 1
    h, back = jax.vjp(lambda x: body(x, label), x)
    np.testing.assert_allclose(through(x, x, label), f(x, label), rtol=1e-5)
    slope = jax.grad(head)(h, x, label)
    found = jaxplain.gradient(through)(x, x, label)
    np.testing.assert_allclose(found, (slope @ UNIT) * back(jnp.asarray(UNIT))[0], rtol=1e-4, atol=1e-6)
    seen = concept_score(f, path, V, bias=0.5)
    np.testing.assert_allclose(seen(x, label), h @ V + 0.5, rtol=1e-5)
    np.testing.assert_allclose(jaxplain.gradient(seen)(x, label), back(jnp.asarray(V))[0], rtol=1e-5)
    # integrated gradients sum to what moving the concept's coordinate alone does
    attribution = jaxplain.integrated_gradients(through, steps=64)(x, x, label)
    moved = h + UNIT * (UNIT @ (body(jnp.zeros(5), label) - h))
    np.testing.assert_allclose(attribution.sum(), head(h, x, label) - head(moved, x, label), rtol=1e-3, atol=1e-4)
    batch = jaxplain.explain_batch(jaxplain.gradient(through), X, X, np.full(6, 1))
    np.testing.assert_allclose(batch[0], found, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_every_family_of_methods_works_along_a_concept():
    through, x = through_concept(plain, "hidden", V), jnp.asarray(X[0])
    body, head = jaxplain.split(plain, "hidden")
    h = body(x, 1)
    for e in (jaxplain.occlusion(through, window=1), jaxplain.feature_ablation(through)):
        found = e(x, x, 1)
        for place in range(5):
            moved = h + UNIT * (UNIT @ (body(x.at[place].set(0.0), 1) - h))
            np.testing.assert_allclose(found[place], head(h, x, 1) - head(moved, x, 1), rtol=1e-3, atol=1e-5)
    shapley = jaxplain.shapley_values(through)(x, x, 1)
    np.testing.assert_allclose(shapley.sum(), through(x, x, 1) - through(0 * x, x, 1), rtol=1e-4, atol=1e-5)
    smooth = jaxplain.smoothgrad(jaxplain.gradient(through), sigma=0.1, samples=4)
    assert smooth(KEY, x, x, 1).shape == x.shape


@pytest.mark.slow
def test_layers_are_tested_alike():
    def f(x, label):
        with jax.named_scope("first"):
            h = jnp.tanh(x @ A)
        with jax.named_scope("second"):
            h = jnp.tanh(h @ A.T)
        return (h @ A @ B)[label]

    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(120, 5)).astype(np.float32)
    inputs[:30, 0] += 3
    labels = np.where(np.arange(120) < 30, 1, 0)
    labels[30:60] = -1
    x = rng.normal(size=(10, 5)).astype(np.float32)
    asked = np.full(10, 2)
    found = tcav_layers(f, ["first", "second"], inputs, labels, x, asked, key=KEY, samples=99, batch_size=50)
    body, head = jaxplain.split(f, "second")
    values = jax.vmap(lambda x: body(x, 2))(inputs)
    right = tcav(
        head, concept_vectors(values, labels), jax.vmap(lambda x: body(x, 2))(x), x, asked, key=KEY, samples=99
    )
    np.testing.assert_allclose(found["second"].sensitivities, right.sensitivities, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found["second"].p, right.p)
    together = layer_consistency(found)
    assert together.layers == ("first", "second")
    assert together.same_sign.shape == (1, 2, 2)
    assert together.p[0] == max(found["first"].corrected[0], found["second"].corrected[0])


def test_what_is_no_concept_of_the_layer_is_refused():
    x = jnp.asarray(X[0])
    for call, words in (
        (lambda: concept_score(plain, "hidden", V[:3])(x, 1), r"`vector` has shape \(3,\), but the layer \(4,\)"),
        (lambda: through_concept(plain, "hidden", V[:3])(x, x, 1), r"through_concept: `vector` has shape \(3,\)"),
        (lambda: through_concept(plain, "hidden", 0 * V), "`vector` has length 0"),
        (lambda: through_concept(plain, "hidden", V * np.nan), "`vector` has 4 NaN"),
        (lambda: concept_score(plain, "hidden", 1.0), "`vector` is one number"),
        (lambda: concept_score(plain, "hidden", V, bias=V), r"`bias` has shape \(4,\)"),
        (lambda: concept_score(plain, 3, V), "a path is a string|`path` has to be a text"),
        (lambda: tcav_layers(plain, [], X, [1, 1, -1, -1, 0, 0], X, 1, key=KEY), "`paths` is empty"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            call()
