"""When examples are learnt and how often they are forgotten, on answers written by hand."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import train

RIGHT = np.array(
    [
        # always, late, forgotten twice, never, lost at the end, once forgotten
        [1, 0, 1, 0, 1, 0],
        [1, 0, 0, 0, 1, 1],
        [1, 1, 1, 0, 1, 0],
        [1, 1, 0, 0, 1, 1],
        [1, 1, 1, 0, 0, 1],
    ],
    bool,
)
STEPS = np.array([0, 10, 20, 30, 50])


def dynamics(right=RIGHT, predicted=None):
    return train.LearningDynamics(
        STEPS[: len(right)], 1.0 - right, 1 * right if predicted is None else predicted, right
    )


def test_by_hand():
    found = dynamics()
    assert found.learnt.tolist() == [0, 20, 50, -1, -1, 30]
    assert found.first_learnt.tolist() == [0, 20, 0, -1, 0, 10]
    assert found.forgotten.tolist() == [0, 0, 2, 0, 1, 1]
    assert found.settled.tolist() == [0, 20, 50, 0, 50, 30]
    np.testing.assert_allclose(found.accuracy, RIGHT.mean(axis=1), rtol=1e-6)
    assert str(found) == (
        "6 examples at 5 checkpoints: 4 right at the end (half of them by step 25), 2 wrong; 3 forgotten at least once"
    )
    assert dynamics(RIGHT[:1]).learnt.tolist() == [0, -1, 0, -1, 0, -1]
    assert dynamics(RIGHT[:1]).forgotten.tolist() == [0] * 6


def test_against_a_loop():
    right = np.random.default_rng(0).random((7, 40)) < 0.6
    events = [sum(a and not b for a, b in itertools.pairwise(row)) for row in right.T]
    assert train.forgetting_events(right).tolist() == events
    found = train.LearningDynamics(np.arange(7), 1.0 - right, 1 * right, right)
    since = [next((t for t in range(7) if row[t:].all()), -1) for row in right.T]
    assert found.learnt.tolist() == since


def linear(params, x):
    return x @ params


def test_of_a_model():
    x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], np.float32)
    path = jnp.array([[[0.0, 1.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 1.0]]])
    labels = jnp.array([0, 1, 0])
    snapshots = train.Snapshots(np.array([0, 5, 7]), path)
    found = train.learning_dynamics(linear, snapshots, (x, labels))
    assert found.predicted.tolist() == [[1, 1, 1], [0, 1, 0], [0, 1, 0]]
    assert found.learnt.tolist() == [5, 0, 5]
    whole = jnp.stack([-jax.nn.log_softmax(x @ w)[jnp.arange(3), labels] for w in path])
    np.testing.assert_allclose(found.losses, whole, rtol=1e-6)


@pytest.mark.slow
def test_classes_are_said_in_several_ways():
    x, labels = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], np.float32), jnp.array([0, 1, 0])
    path = jnp.array([[[0.0, 1.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 1.0]]])
    found = train.learning_dynamics(linear, path, (x, labels))
    one_hot = train.learning_dynamics(linear, path, (x, jax.nn.one_hot(labels, 2)), batch_size=2)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(one_hot), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    single = train.learning_dynamics(
        lambda w, x: x @ (w[:, 1] - w[:, 0]), path, (x, labels), loss=train.binary_cross_entropy
    )
    assert single.predicted.tolist() == found.predicted.tolist()
    assert single.right.tolist() == found.right.tolist()


@pytest.mark.slow
def test_the_last_row_is_what_the_run_says():
    x = np.random.default_rng(1).normal(size=(12, 3)).astype(np.float32)
    data = (x, (x[:, 0] > 0).astype(np.int32))
    run = train.fit(linear, jnp.zeros((3, 2)), data, key=jax.random.key(0), epochs=2, batch_size=5, snapshots=[0, 6])
    found = train.learning_dynamics(linear, run.snapshots, data, batch_size=5)
    loss, accuracy = train.assess(linear, run.params, data)
    np.testing.assert_allclose([found.losses[-1].mean(), found.accuracy[-1]], [loss, accuracy], rtol=1e-6)
    np.testing.assert_allclose(found.losses[0], np.log(2), rtol=1e-6)
    assert (found.settled[found.right[0] == found.right[-1]] == 0).all()


def test_wrong_calls_are_told():
    x, y, path = np.ones((3, 2), np.float32), np.array([0, 1, 1]), jnp.ones((2, 2, 2))
    for call, kind, words in (
        (lambda: train.forgetting_events(np.ones(3)), ValueError, r"pass an array \[T, N\]"),
        (lambda: train.forgetting_events([[1, 0]]), TypeError, "forgetting_events: `right"),
        (
            lambda: train.forgetting_events(np.array([[1, 0], [0.5, 2]])),
            ValueError,
            r"holds 0.5 at \(1, 0\) \(one of 2",
        ),
        (lambda: train.forgetting_events(np.array([[np.nan]])), ValueError, "holds nan"),
        (lambda: train.learning_dynamics(linear, None, (x, y)), TypeError, "`snapshots` is None"),
        (lambda: train.learning_dynamics(linear, path, (x * np.nan, y)), ValueError, "learning_dynamics"),
        (lambda: train.learning_dynamics(linear, path, (x, y + 1)), ValueError, "target 2 is outside"),
        (lambda: train.learning_dynamics(linear, path, (x, y), batch_size=0), ValueError, "`batch_size`"),
        (
            lambda: train.learning_dynamics(lambda w, x: x @ w[:, 0], path, (x, x[:, 0]), loss=train.squared_error),
            ValueError,
            "one class for each of 3 examples",
        ),
        (
            lambda: train.learning_dynamics(lambda w, x: jnp.stack([x @ w, x @ w], 1), path, (x, np.stack([y, y], 1))),
            ValueError,
            "one class for each of 3|one answer for each example",
        ),
    ):
        with pytest.raises(kind, match=words):
            call()
