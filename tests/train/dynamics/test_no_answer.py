"""Outputs that say no class, and targets that name none, are told and never counted as class 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import train

X = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], np.float32)
PATH = np.stack([np.eye(2, dtype=np.float32), np.full((2, 2), np.nan, np.float32)])


def linear(params, x):
    return x @ params


def hidden(params, x):
    with jax.named_scope("hidden"):
        h = x @ params
    return h


def nothing(outputs, target):
    return 0 * jnp.sum(outputs)


def test_of_nan_no_class_is_said():
    for path, step in ((PATH, 1), (PATH[::-1], 0)):
        with pytest.raises(ValueError, match=f"step {step} .*NaN"):
            train.learning_dynamics(linear, path, (X, np.zeros(3, int)))
    # Where it is traced nothing can be raised, and the row is right of nothing.
    found = jax.jit(lambda path: train.learning_dynamics(linear, path, (X, np.zeros(3, int))))(PATH)
    assert found.predicted[1].tolist() == [-1, -1, -1]
    assert not np.any(found.right[1])
    assert found.predicted[0].tolist() == [0, 1, 0]
    one = jax.jit(lambda path: train.learning_dynamics(lambda p, x: (x @ p)[:, 0], path, (X, np.zeros(3, int))))(PATH)
    assert one.predicted[1].tolist() == [-1, -1, -1]
    with pytest.raises(ValueError, match="NaN"):
        train.prediction_depth(hidden, PATH[1], (X, np.zeros(3, int)), "hidden", neighbours=1)


def test_targets_that_are_no_class_are_named():
    cases = (
        (linear, np.array([-1, 1, 1]), "target -1 is outside the model's 2 outputs"),
        (linear, np.array([0, 1, 7]), "target 7 is outside the model's 2 outputs"),
        (lambda p, x: (x @ p)[:, 0], np.array([-1, 1, 1]), "target -1 is outside"),  # a hinge loss takes them
        (linear, np.eye(3, dtype=np.float32), "3 columns.* 2 classes"),
        (linear, np.float32([[1, 1], [1, 0], [0, 1]]), "row 0 .* no single largest"),  # several labels an example
    )
    for apply, targets, message in cases:
        with pytest.raises(ValueError, match=message):
            train.learning_dynamics(apply, PATH[:1], (X, targets), loss=nothing)
        if apply is linear:
            with pytest.raises(ValueError, match=message):
                train.prediction_depth(hidden, PATH[0], (X, targets), "hidden", neighbours=1)
