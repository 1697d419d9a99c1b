"""The common dictionary: codes, what they do to a score, where they are strongest, and how dictionaries are judged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import concept


class Projection(concept.Dictionary):
    """Rectified projections on atoms."""

    atoms: jax.Array

    def encode(self, h):
        return jax.nn.relu(h @ self.atoms.T)


def apply(params, x):
    with jax.named_scope("first"):
        h = jnp.tanh(x @ params["a"])
    with jax.named_scope("second"):
        h = h * 2.0
    return h @ params["b"]


def params(scale=1.0):
    a, b = jax.random.normal(jax.random.key(0), (3, 4)), jax.random.normal(jax.random.key(1), (4, 2))
    return {"a": scale * a, "b": b}


F = jaxplain.logit(apply, params())
X = np.array([0.1, -0.5, 0.9], np.float32)
SITE = concept.layer_site(F, "first", X, 1)


def test_importance_of_a_linear_head_sums_to_it_and_is_the_closed_form():
    body, head = jaxplain.split(F, "first")
    h = body(X, 1)
    found = Projection(jnp.eye(4), site=SITE).importance(head, h, X, 1)
    weight = 2 * params()["b"][:, 1]
    np.testing.assert_allclose(found.features, np.maximum(h, 0) * weight, rtol=1e-5)
    np.testing.assert_allclose(found.error, np.sum(np.minimum(h, 0) * weight), rtol=1e-5)
    np.testing.assert_allclose(found.features.sum() + found.error, head(h, X, 1), rtol=1e-5)


def test_a_dictionary_knows_its_layer_and_its_model_whatever_the_score_and_the_shape():
    d, h = Projection(jnp.eye(4), site=SITE), jnp.ones(4)
    assert concept.layer_site(jaxplain.probability(apply, params()), "first", X, 0) == SITE
    assert repr(d) == f"Projection(M=4, D=4, site='first' of model {SITE.model[:8]})"
    with pytest.raises(ValueError, match="describes the layer 'first', but it is used at 'second'"):
        d.importance(jaxplain.split(F, "second")[1], h, X, 1)
    other = jaxplain.logit(apply, params(1.5))
    with pytest.raises(ValueError, match="its parameters are others"):
        d.importance(jaxplain.split(other, "first")[1], h, X, 1)

    def closure(x):
        with jax.named_scope("square"):
            return jnp.dot(x, np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)) ** 2

    one, wide = (concept.layer_site(closure, "square", jnp.ones(s)) for s in ((2,), (5, 2)))
    assert one == wide
    assert one.model != SITE.model


def test_top_examples_name_the_example_and_the_place_for_any_block():
    rows = np.asarray(jax.random.normal(jax.random.key(3), (5, 3, 4)))
    d = Projection(jnp.eye(4))
    rectified = np.maximum(rows, 0).reshape(15, 4)
    order = np.argsort(-rectified, axis=0, kind="stable")[:4].T
    for block in (1, 2, 5):
        top = d.top_examples(rows, 4, batch_size=block)
        np.testing.assert_array_equal(top.examples * 3 + top.places[..., 0], order)
        np.testing.assert_array_equal(top.values, np.take_along_axis(rectified.T, order, 1))


def test_judged_by_what_is_explained_and_how_often_concepts_are_active():
    rows = np.asarray(jax.random.normal(jax.random.key(4), (11, 4))) * np.array([[1, 1, 1, 0]], np.float32)
    d = Projection(jnp.concatenate([jnp.eye(4), -jnp.eye(4)[:1]]))
    missed = np.sum(np.minimum(rows[:, 1:], 0) ** 2) / np.sum((rows - rows.mean(0)) ** 2)
    for block in (3, 11):
        found = concept.judge_dictionary(d, rows, batch_size=block)
        np.testing.assert_allclose(found.variance_explained, 1 - missed, rtol=1e-5)
        np.testing.assert_allclose(found.l0, 1 + np.mean(np.sum(rows[:, 1:3] > 0, axis=1)), rtol=1e-6)
        assert found.dead.tolist() == [False, False, False, True, False]
    with pytest.raises(ValueError, match="`activations` are constant: all 6 of them"):
        concept.judge_dictionary(d, np.ones((6, 4), np.float32))


def test_atoms_are_matched_one_to_one_whatever_their_order_sign_and_size():
    atoms = np.asarray(jax.random.normal(jax.random.key(5), (6, 4)))
    order = np.array([3, 0, 5, 1, 4, 2])
    found = concept.match_atoms(atoms[order] * np.array([[-2.0], [1], [3], [1], [-1], [1]]), atoms)
    assert found.order[:, 1].tolist() == order.tolist()
    np.testing.assert_allclose(found.cosine, 1, atol=1e-9)
    # greedy would give .9 + .0; the best pairing is .8 + .7 here
    first, second = np.eye(2), np.array([[0.9, 0.7], [0.8, 0.0]])
    sizes = np.linalg.norm(second, axis=1)
    np.testing.assert_allclose(concept.match_atoms(first, second).cosine, [0.8 / sizes[1], 0.7 / sizes[0]])
    assert concept.stability([Projection(jnp.asarray(atoms)), Projection(jnp.asarray(-atoms[order]))]) > 1 - 1e-6


@pytest.mark.slow
def test_curves_of_a_linear_head_are_cumulative_sums_of_importance():
    weight = np.array([3.0, -1.0, 0.5, 2.0], np.float32)
    rows = np.abs(np.asarray(jax.random.normal(jax.random.key(6), (7, 4)))) + 0.1
    parts = -np.sort(-rows * weight, axis=1)  # most important first
    curves = {}
    for insertion, batch in ((False, 2), (True, 7)):
        curves[insertion] = concept.concept_curves(
            {"axes": Projection(jnp.eye(4))}, lambda h: h @ jnp.asarray(weight), rows,
            key=jax.random.key(0), steps=4, insertion=insertion, batch_size=batch,
        )  # fmt: skip
    sums = np.concatenate([np.zeros((7, 1)), np.cumsum(parts, axis=1)], axis=1).mean(0)
    np.testing.assert_allclose(curves[True].scores["axes"], sums, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(curves[False].scores["axes"], sums[-1] - sums, rtol=1e-5, atol=1e-5)
    assert np.all(curves[False].scores["axes"][1:4] < curves[False].scores["random"][1:4])


def test_wrong_activations_are_told():
    d, rows = Projection(jnp.eye(4)), np.ones((3, 4), np.float32)
    rows[1, 2] = np.nan
    for call in (d.reconstruct, d.top_examples, lambda a: concept.judge_dictionary(d, a)):
        with pytest.raises(ValueError, match=r"1 NaN or infinite values \(the first at index \(1, 2\)\)"):
            call(rows)
        with pytest.raises(ValueError, match=r"describes activations \[..., 4\]"):
            call(np.ones((3, 5), np.float32))
    with pytest.raises(ValueError, match="`k` is 4, but there are 3 activations"):
        d.top_examples(np.ones((3, 4), np.float32), 4)
    with pytest.raises(ValueError, match="`steps` is 5, but the smallest dictionary has 4"):
        concept.concept_curves({"a": d}, jnp.sum, np.eye(4), key=jax.random.key(0), steps=5)
