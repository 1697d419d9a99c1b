"""Features in a network: what they do to a score, what goes through which, and what is lost without them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import concept


class Axes(concept.Dictionary):
    """Rectified coordinates, so that negative ones are errors."""

    atoms: jax.Array

    def encode(self, h):
        return jax.nn.relu(h @ self.atoms.T)


W1, W2, W3 = (np.random.default_rng(0).normal(size=s).astype(np.float32) for s in ((3, 4), (4, 5), (5, 2)))


def apply(params, x):
    with jax.named_scope("first"):
        a = x @ params["a"]
    with jax.named_scope("second"):
        b = a @ params["b"]
    return b @ params["c"] + a @ params["d"]  # around the second


PARAMS = {"a": W1, "b": W2, "c": W3, "d": np.ones((4, 2), np.float32)}
F, X = jaxplain.logit(apply, PARAMS), np.array([0.5, -1.0, 2.0], np.float32)


def test_nodes_and_edges_of_a_linear_network_are_products_of_weights():
    a = X @ W1
    b = a @ W2
    sites = {name: concept.layer_site(F, name, X, 1) for name in ("first", "second")}
    found = concept.feature_circuit(
        F,
        {"second": Axes(jnp.eye(5), site=sites["second"]), "first": Axes(jnp.eye(4), site=sites["first"])},
        X,
        1,
        threshold=0.0,
    )
    assert list(found.nodes) == ["first", "second"]  # in the order of a run
    total = W2 @ W3[:, 1] + 1  # of a on the logit, with the way around
    np.testing.assert_allclose(found.nodes["first"].features, np.maximum(a, 0) * total, rtol=1e-5)
    np.testing.assert_allclose(found.nodes["first"].error, np.minimum(a, 0) @ total, rtol=1e-5)
    np.testing.assert_allclose(found.nodes["second"].features, np.maximum(b, 0) * W3[:, 1], rtol=1e-5)
    kept, later = np.flatnonzero(a > 0), np.flatnonzero(b > 0)
    assert found.nodes["first"].kept.tolist() == kept.tolist()
    parts = a[:, None] * W2 * W3[None, :, 1]  # through each b
    edges = found.edges["first", "second"]
    np.testing.assert_allclose(edges[:-1, :-1], parts[kept][:, later], rtol=1e-4)
    np.testing.assert_allclose(edges[:-1, -1], parts[kept][:, b <= 0].sum(1), rtol=1e-4)  # through the error
    np.testing.assert_allclose(edges[-1].sum(), parts[a <= 0].sum(), rtol=1e-4)


def test_scopes_between_modules_are_in_the_order_of_a_run():
    linen = pytest.importorskip("flax.linen")

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            h = linen.Dense(4, name="one")(x)
            with jax.named_scope("first"):
                a = jnp.tanh(h)
            with jax.named_scope("second"):
                b = a**2
            return linen.Dense(2, name="two")(b)

    net = Net()
    f = jaxplain.logit(net.apply, net.init(jax.random.key(0), X[None]))
    own = {name: Axes(jnp.eye(4)) for name in ("second", "first", "one")}
    found = concept.feature_circuit(f, own, X, 1, threshold=0.0)
    assert list(found.nodes) == ["one", "first", "second"]
    given = concept.feature_circuit(f, dict(reversed(own.items())), X, 1, threshold=0.0)
    assert list(found.edges) == list(given.edges) == [("one", "first"), ("one", "second"), ("first", "second")]
    for pair, edges in found.edges.items():
        np.testing.assert_array_equal(edges, given.edges[pair])


def test_a_patch_a_line_and_a_threshold():
    x = jnp.array([2.0, 1.0, 0.1])

    def f(x):
        with jax.named_scope("inside"):
            h = 1.0 * x
        return jnp.sum(h**3)

    d = {"inside": Axes(jnp.eye(3))}
    plain = concept.feature_circuit(f, d, x, threshold=0.2)
    np.testing.assert_allclose(plain.nodes["inside"].features, 3 * x**3, rtol=1e-5)
    assert plain.nodes["inside"].kept.tolist() == [0]  # 3 of 24 is below a fifth
    other = jnp.array([1.0, 3.0, 0.1])
    line = concept.feature_circuit(f, d, x, corrupt=other, steps=4)
    np.testing.assert_allclose(line.nodes["inside"].features.sum(), f(x) - f(other), rtol=1e-5)
    assert repr(plain) == "FeatureCircuit('inside': 1 of 3; edges between 0 pairs of layers)"
    with pytest.raises(ValueError, match="`threshold` is a share"):
        concept.feature_circuit(f, d, x, threshold=2.0)


def test_layers_between_two_are_held():
    d = {name: Axes(jnp.eye(size)) for name, size in (("one", 2), ("two", 2), ("three", 2))}

    def f(x):
        with jax.named_scope("one"):
            a = 2.0 * x
        with jax.named_scope("two"):
            b = 3.0 * a
        with jax.named_scope("three"):
            c = b + 5.0 * a
        return jnp.sum(c)

    found = concept.feature_circuit(f, d, jnp.ones(2), threshold=0.0)
    np.testing.assert_allclose(found.edges["one", "three"][:2, :2], 10 * np.eye(2))  # around the second alone
    np.testing.assert_allclose(found.edges["one", "two"][:2, :2], 6 * np.eye(2))
    np.testing.assert_allclose(found.edges["two", "three"][:2, :2], 6 * np.eye(2))
    np.testing.assert_allclose(found.nodes["one"].features, [16, 16])


def test_logit_weights_and_a_feature_as_a_score():
    atoms = jnp.asarray(np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32))
    _, head = jaxplain.split(lambda x: apply(PARAMS, x), "second")
    found = concept.logit_weights(Axes(atoms), head, jnp.zeros(5), X, batch_size=2)
    np.testing.assert_allclose(found, atoms @ W3, rtol=1e-4, atol=1e-5)
    score = concept.feature_score(F, "second", Axes(atoms), 2)
    expected = max(float(X @ W1 @ W2 @ atoms[2]), 0)
    np.testing.assert_allclose(score(X, 1), expected, rtol=1e-4)
    e = jaxplain.activation_maximization(score, image=jaxplain.image.pixels((3,)), steps=20)
    assert float(e(jax.random.key(0), 1).value) > 0
    with pytest.raises(ValueError, match="`index` is 6, but the dictionary has 6 features"):
        concept.feature_score(F, "second", Axes(atoms), 6)


@pytest.mark.slow
def test_loss_recovered_is_one_for_a_dictionary_that_leaves_nothing_out():
    loss, rows, labels = jaxplain.loss(apply, PARAMS), np.stack([X, -X, 2 * X]), np.array([0, 1, 0])
    both = Axes(jnp.concatenate([jnp.eye(5), -jnp.eye(5)]))
    found = concept.loss_recovered(loss, "second", both, rows, labels, batch_size=2)
    assert found.recovered == pytest.approx(1, abs=1e-5)
    nothing = concept.loss_recovered(loss, "second", Axes(jnp.zeros((1, 5))), rows, labels)
    assert (nothing.recovered, nothing.spliced) == (0, nothing.ablated)
    clean = np.mean([float(loss(x, y)) for x, y in zip(rows, labels, strict=True)])
    ablated = np.mean(
        [float(jaxplain.intervene(loss, {"second": 0.0})(x, y)) for x, y in zip(rows, labels, strict=True)]
    )
    np.testing.assert_allclose(found[0::2][:2], [clean, ablated], rtol=1e-5)


def test_recovery_of_a_known_dictionary():
    truth = np.eye(4, dtype=np.float32)
    codes = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 2, 0]], np.float32)
    both = np.array([[1, 1, 0, 0]], np.float32) / 2**0.5
    d = Axes(jnp.asarray(np.concatenate([truth[:1], both])))
    for size in (3, 4):
        found = concept.recovery(d, truth, codes @ truth, codes, batch_size=size)
        assert found.nearest.tolist() == [0, 0]
        np.testing.assert_allclose(found.mcc, (1 + 0.5**0.5) / 2)
        assert found.uniqueness == 0.5
        # the second is active in three, of which two have the first feature
        np.testing.assert_allclose([found.precision, found.recall, found.f1], [(1 + 2 / 3) / 2, 1, (1 + 0.8) / 2])
