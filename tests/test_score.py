"""Scores: every kind of target and output, against values worked out by hand."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain

W = jnp.array([[1.0, -2.0, 0.5], [3.0, 1.0, -1.0]])
X = jnp.array([0.5, 2.0])
Z = np.asarray(X) @ np.asarray(W)


def linear(params, x):
    return x @ params


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def test_the_kinds_of_scores_of_three_classes():
    for k in range(3):
        others = np.delete(Z, k)
        expected = {
            jaxplain.logit: Z[k],
            jaxplain.output: Z[k],
            jaxplain.probability: softmax(Z)[k],
            jaxplain.log_probability: np.log(softmax(Z))[k],
            jaxplain.margin: Z[k] - others.max(),
        }
        for kind, value in expected.items():
            np.testing.assert_allclose(kind(linear, W)(X, k), value, rtol=1e-5)
        np.testing.assert_allclose(jaxplain.loss(linear, W)(X, k), -np.log(softmax(Z))[k], rtol=1e-5)


def test_regression_needs_no_target():
    w = jnp.array([[2.0], [1.0]])
    assert float(jaxplain.output(linear, w)(X)) == 3.0
    assert float(jaxplain.output(lambda p, x: (x @ p)[:, 0], w)(X)) == 3.0  # outputs [B]
    loss = jaxplain.loss(linear, w, lambda outputs, target: jnp.square(outputs[0] - target))
    assert float(loss(X, 1.0)) == 4.0
    with pytest.raises(ValueError, match="target"):
        jaxplain.logit(linear, W)(X)


def test_a_one_unit_head_is_a_classifier_of_two_classes():
    w, z = jnp.array([[2.0], [-1.5]]), 2 * 0.5 - 1.5 * 2
    one = 1 / (1 + np.exp(-z))
    f = jaxplain.probability(linear, w)
    np.testing.assert_allclose([f(X, 0), f(X, 1), f(X)], [1 - one, one, one], rtol=1e-6)
    g = jaxplain.log_probability(linear, w)
    np.testing.assert_allclose([g(X, 0), g(X, 1)], np.log([1 - one, one]), rtol=1e-6)
    m = jaxplain.margin(linear, w)
    np.testing.assert_allclose([m(X, 0), m(X, 1)], [-z, z], rtol=1e-6)
    with pytest.raises(ValueError, match="2 outputs"):
        f(X, 2)


def test_labels_that_do_not_exclude_each_other():
    f = jaxplain.probability(linear, W, activation="sigmoid")
    np.testing.assert_allclose([f(X, k) for k in range(3)], 1 / (1 + np.exp(-Z)), rtol=1e-5)
    both = f(X, jnp.array([1.0, 0.0, 1.0]))
    np.testing.assert_allclose(both, (1 / (1 + np.exp(-Z)))[[0, 2]].sum(), rtol=1e-5)


def test_a_sequence_output_is_indexed_by_step_and_class():
    def steps(params, x):
        return jnp.stack([x @ params, 2 * (x @ params)], axis=1)

    f = jaxplain.logit(steps, W)
    np.testing.assert_allclose(f(X, (1, 2)), 2 * Z[2], rtol=1e-6)
    np.testing.assert_allclose(jaxplain.probability(steps, W)(X, (1, 0)), softmax(2 * Z)[0], rtol=1e-5)
    with pytest.raises(ValueError, match="1 indices"):
        f(X, 1)
    with pytest.raises(ValueError, match="outside"):
        f(X, (2, 0))


def test_a_segmentation_is_summed_by_weights():
    def segment(params, x):
        return x[..., None] * params[None, None, None]

    image, kernel = jnp.arange(6.0).reshape(2, 3), jnp.array([1.0, -1.0])
    f = jaxplain.logit(segment, kernel)
    assert float(f(image, (1, 2, 1))) == -5.0
    mask = jnp.zeros((2, 3, 2)).at[:, :, 0].set(1.0)
    assert float(f(image, mask)) == 15.0
    np.testing.assert_array_equal(jaxplain.gradient(f)(image, mask), np.ones((2, 3)))


def test_select_reaches_into_dicts_dataclasses_and_tuples():
    @functools.partial(jax.tree_util.register_dataclass, data_fields=["logits"], meta_fields=[])
    @dataclasses.dataclass
    class Output:
        logits: jax.Array

    for apply, select in (
        (lambda p, x: {"logits": x @ p, "loss": jnp.zeros(1)}, "logits"),
        (lambda p, x: Output(x @ p), "logits"),
        (lambda p, x: {"head": {"logits": x @ p}}, "head.logits"),
        (lambda p, x: (jnp.zeros((1, 1)), x @ p), 1),
        (lambda p, x: Output(x @ p), lambda out: out.logits),
    ):
        np.testing.assert_allclose(jaxplain.logit(apply, W, select=select)(X, 0), Z[0], rtol=1e-6)
    with pytest.raises(TypeError, match="select="):
        jaxplain.logit(lambda p, x: {"logits": x @ p}, W)(X, 0)
    with pytest.raises(ValueError, match=r"logit.*\['logits'\]"):
        jaxplain.logit(lambda p, x: {"logits": x @ p}, W, select="heads")(X, 0)


@pytest.mark.slow
def test_all_classes_at_once_equal_one_at_a_time():
    for kind in (jaxplain.logit, jaxplain.probability, jaxplain.log_probability, jaxplain.margin):
        e = jaxplain.gradient(kind(lambda p, x: jnp.tanh(x @ p), W))
        together = jax.vmap(e, (None, 0))(X, jnp.arange(3))
        np.testing.assert_allclose(together, jnp.stack([e(X, k) for k in range(3)]), rtol=1e-6)


def test_inputs_may_be_pytrees_and_more_than_one():
    def apply(params, x, scale):
        real = jnp.where(x["mask"], x["values"], 0.0)
        return scale[:, None] * (real @ params)

    x = {"ids": jnp.array([3, 4]), "mask": jnp.array([True, False]), "values": X}
    f = jaxplain.logit(apply, W)
    np.testing.assert_allclose(f(x, 1, jnp.asarray(2.0)), 2 * 0.5 * -2.0, rtol=1e-6)
    a = jaxplain.gradient(f)(x, 1, jnp.asarray(2.0))
    np.testing.assert_allclose(a["values"], [-4.0, 0.0])
    assert not a["ids"].any()


def test_wrong_targets_are_refused_before_any_compute():
    f = jaxplain.logit(linear, W)
    for target in (3, -1, np.int64(7)):
        with pytest.raises(ValueError, match="outside the model's 3 outputs"):
            f(X, target)
    with pytest.raises(ValueError, match=r"outside.*0 to 2"):
        jaxplain.explain_batch(jaxplain.gradient(f), jnp.stack([X, X]), jnp.array([0, 3]))
    with pytest.raises(ValueError, match="weights of that shape"):
        f(X, jnp.array([1.0, 2.0]))
    assert bool(jnp.isnan(jax.jit(f)(X, 3)))  # a traced label cannot be read; it is never another class's number


def test_what_is_no_score_is_said():
    with pytest.raises(TypeError, match="from_nnx"):
        jaxplain.logit(object(), W)
    with pytest.raises(ValueError, match="first axis"):
        jaxplain.logit(lambda p, x: (x @ p)[0], W)(X, 0)
    with pytest.raises(ValueError, match="activation"):
        jaxplain.probability(linear, W, activation="tanh")


def test_equal_code_is_equal_and_parameters_are_leaves():
    class Model:
        def apply(self, params, x, train=False):
            return x @ params

        def __eq__(self, other):
            return isinstance(other, Model)

        def __hash__(self):
            return 1

    one, two = (jaxplain.logit(functools.partial(Model().apply, train=False), w) for w in (W, 2 * W))
    assert jax.tree.structure(one) == jax.tree.structure(two)
    chex.assert_trees_all_close(jax.tree.map(lambda a: 2 * a, one).params, two.params)
    trained = jax.tree.structure(jaxplain.logit(functools.partial(Model().apply, train=True), W))
    assert trained != jax.tree.structure(one)


def test_scores_of_half_precision_models_are_wide():
    f = jaxplain.logit(linear, W.astype(jnp.bfloat16))
    assert f(X.astype(jnp.bfloat16), 0).dtype == jnp.float32


def test_two_classes_of_the_same_fields_are_different_structures():
    class One(jaxplain.Function):
        def __call__(self, x):
            return x

    class Other(jaxplain.Function):
        def __call__(self, x):
            return -x

    assert jax.tree.structure(One()) != jax.tree.structure(Other())
    assert jax.tree.structure(One()) == jax.tree.structure(One())
    call = jax.jit(lambda e, x: e(x))
    assert float(call(One(), 1.0)) == -float(call(Other(), 1.0)) == 1.0


def test_a_loss_of_labels_refuses_the_values_of_a_regression():
    def one(params, x):
        return x @ params

    x, numbers = jnp.ones((3, 2)), jnp.array([-3.0, 0.5, 2.0])
    e = jaxplain.gradient(jaxplain.loss(one, jnp.ones((2, 1))))
    with pytest.raises(ValueError, match=r"loss: targets run from -3.0 to 2.0.*squared_error takes numbers"):
        jaxplain.explain_batch(e, x, numbers)
    three = jaxplain.gradient(jaxplain.loss(one, jnp.ones((2, 3))))
    with pytest.raises(ValueError, match="target 3 is outside the model's 3 outputs"):
        jaxplain.explain_batch(three, x, jnp.array([0, 1, 3]))
    for good, targets in ((e, jnp.array([0, 1, 1])), (e, jnp.array([[0.2], [1.0], [0.0]])), (three, jnp.eye(3))):
        assert np.isfinite(jaxplain.explain_batch(good, x, targets)).all()
    own = jaxplain.gradient(jaxplain.loss(one, jnp.ones((2, 1)), lambda outputs, target: (outputs[0] - target) ** 2))
    assert np.isfinite(jaxplain.explain_batch(own, x, numbers)).all()
