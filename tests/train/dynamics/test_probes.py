"""Prediction depth against a slow reference, and on layers whose classes are planted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxplain import train


def reference(layers, labels, predicted, own, support, k):
    """Probes by sorting all distances, and the definition by a loop over layers."""
    classes = labels.max() + 1
    probes = []
    for values, rows in zip(layers, support, strict=True):
        said = []
        for i, value in enumerate(values):
            distance = ((rows - value) ** 2).sum(axis=1)
            if own:
                distance[i] = np.inf
            nearest = np.argsort(distance, kind="stable")[:k]
            said.append(np.bincount(labels[nearest], minlength=classes).argmax())
        probes.append(said)
    probes = np.array(probes)
    depth = []
    for i, final in enumerate(predicted):
        level = len(probes)
        while level and probes[level - 1, i] == final:
            level -= 1
        depth.append(level)
    return probes, np.array(depth)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = False):
        for block in range(2):
            x = nn.tanh(nn.Dense(5, name=f"block_{block}")(x))
        return nn.Dense(3)(x)


def test_against_the_reference():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(30, 4)).astype(np.float32)
    labels = generator.integers(0, 3, size=30)
    asked = generator.normal(size=(30, 4)).astype(np.float32)
    variables = Net().init(jax.random.key(0), x)

    def inside(x):
        p = jax.tree.map(np.asarray, variables["params"])
        one = x @ p["block_0"]["kernel"] + p["block_0"]["bias"]
        two = np.tanh(one) @ p["block_1"]["kernel"] + p["block_1"]["bias"]
        outputs = np.tanh(two) @ p["Dense_0"]["kernel"] + p["Dense_0"]["bias"]
        return [x, one, two, np.asarray(jax.nn.softmax(outputs))]

    for queries, own in ((None, True), (asked, False)):
        found = train.prediction_depth(
            Net().apply, variables, (x, labels), "block_*", queries=queries, neighbours=5, batch_size=8
        )
        rows = inside(x if own else queries)
        probes, depth = reference(rows, labels, rows[-1].argmax(axis=1), own, inside(x), 5)
        assert found.layers[0] == "input"
        assert found.layers[-1] == "output"
        assert [name.split("/")[-1] for name in found.layers[1:-1]] == ["block_0", "block_1"]
        np.testing.assert_array_equal(found.predicted, rows[-1].argmax(axis=1))
        np.testing.assert_array_equal(found.probes, probes)
        np.testing.assert_array_equal(found.depth, depth)
        np.testing.assert_allclose(found.agreement, (probes == rows[-1].argmax(axis=1)[None]).mean(axis=1), rtol=1e-6)
    assert "30 examples at 4 layers (input to output)" in str(found)


def planted(scales, x):
    """Two features: the first gives the class away at the input, the second only by its size."""
    with jax.named_scope("size"):
        h = jnp.stack([x[:, 0], scales * jnp.abs(x[:, 1])], axis=1)
    with jax.named_scope("sum"):
        h = h.sum(axis=1, keepdims=True)
    return jnp.concatenate([1 - h, h - 1], axis=1)


def test_easy_examples_are_predicted_early():
    easy = np.array([[-20.0, 0.1], [-20.0, 0.2], [20.0, 0.1], [20.0, 0.2]], np.float32)
    hard = np.array([[0.0, -9.0], [0.1, -0.1], [0.1, 0.1], [0.0, 9.0]], np.float32)
    x, labels = np.concatenate([easy, hard]), np.array([0, 0, 1, 1, 1, 0, 0, 1])
    found = train.prediction_depth(planted, 1.0, (x, labels), ["size", "sum"], neighbours=1)
    assert found.predicted.tolist() == labels.tolist()
    assert found.depth[:4].tolist() == [0, 0, 0, 0]
    assert found.depth[np.array([4, 7])].tolist() == [1, 1], "the two far ends meet when the sign is gone"
    assert found.layers == ("input", "size", "sum", "output")


def test_layers_stand_in_the_order_of_a_run():
    def deep(params, x):
        for block in range(11):
            with jax.named_scope(f"block_{block}"):
                x = x + params
        return x

    x = np.eye(3, dtype=np.float32)
    found = train.prediction_depth(deep, jnp.ones(()), (x, np.array([0, 1, 2])), "block_*", neighbours=1, queries=x)
    assert found.layers == ("input", *(f"block_{block}" for block in range(11)), "output")
    assert found.depth.tolist() == [0, 0, 0]


def test_tokens_have_no_distances_at_the_input():
    def model(table, ids):
        with jax.named_scope("embed"):
            h = table[ids]
        return h.sum(axis=1)

    ids = np.array([[0, 1], [1, 0], [2, 2]])
    found = train.prediction_depth(model, jnp.eye(3), (ids, np.array([0, 0, 2])), "embed", neighbours=1)
    assert found.layers == ("embed", "output")


def test_wrong_calls_are_told():
    x, y = np.ones((4, 2), np.float32), np.array([0, 1, 1, 0])
    depth = train.prediction_depth
    for call, kind, words in (
        (lambda: depth(planted, 1.0, (x, y), "size"), ValueError, "but there are 3 training examples besides"),
        (
            lambda: depth(planted, 1.0, (x, y), "size", queries=x),
            ValueError,
            "but there are 4 training examples.",
        ),
        (lambda: depth(planted, 1.0, (x, y), "size", neighbours=0), ValueError, "`neighbours` has to be at least 1"),
        (lambda: depth(planted, 1.0, (x, y), 3), TypeError, "`paths` has to be a text or a sequence of texts"),
        (lambda: depth(planted, 1.0, (x, y), [], neighbours=1), ValueError, "`paths` is empty"),
        (lambda: depth(planted, 1.0, (x, y), "nothing", neighbours=1), ValueError, "nothing"),
        (
            lambda: depth(planted, 1.0, (x * np.nan, y), "size", neighbours=1),
            ValueError,
            "`inputs.*8 NaN",
        ),
        (lambda: depth(planted, 1.0, (x, y), "size", neighbours=1, queries=x * np.inf), ValueError, "`queries.*8 NaN"),
        (lambda: depth(planted, 1.0, (x, y + 1), "size", neighbours=1), ValueError, "target 2 is outside"),
        (lambda: depth(planted, 1.0, (x, x[:, 0] + 0.5), "size", neighbours=1), ValueError, "one class for each"),
    ):
        with pytest.raises(kind, match=words):
            call()
