"""Scores of boxes against numbers by hand, D-RISE against loops."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import vision

BOX = (0.0, 0.0, 2.0, 2.0)
# Beside each box its overlap with BOX, by hand: the same, shifted by a half, inside, across, apart, touching, inverted,
# without an area.
OVERLAPS = {
    (0.0, 0.0, 2.0, 2.0): 1,
    (1.0, 0.0, 3.0, 2.0): 1 / 3,
    (0.5, 0.5, 1.5, 1.5): 1 / 4,
    (-1.0, 0.5, 3.0, 1.0): 1 / 5,
    (5.0, 5.0, 6.0, 6.0): 0,
    (2.0, 0.0, 4.0, 2.0): 0,
    (2.0, 2.0, 0.0, 0.0): 0,
    (1.0, 1.0, 1.0, 1.0): 0,
}


def detect(boxes, x):
    """Fixed boxes; the input is the logits of their classes."""
    boxes = jnp.asarray(boxes)
    return jnp.broadcast_to(boxes, (len(x), *boxes.shape)), x


def test_a_box_counts_by_its_overlap():
    for box, shared in OVERLAPS.items():
        f = vision.box_score(detect, np.array([box], np.float32))
        logits = np.array([[3.0, -6.0]], np.float32)
        np.testing.assert_allclose([f(logits, (BOX, k)) for k in (0, 1)], [3 * shared, -6 * shared], rtol=1e-6)
        np.testing.assert_allclose(jaxplain.gradient(f)(logits, (BOX, 1)), [[0, shared]], rtol=1e-6)


def test_the_largest_detection_counts_and_equals_share():
    boxes = np.array(list(OVERLAPS), np.float32)[:4]  # overlaps 1, 1/3, 1/4, 1/5
    f = vision.box_score(detect, boxes)
    logits = np.array([[1.0], [6.0], [4.0], [5.0]], np.float32)  # values 1, 2, 1, 1
    assert float(f(logits, (BOX, 0))) == pytest.approx(2)
    np.testing.assert_allclose(jaxplain.gradient(f)(logits, (BOX, 0)), [[0], [1 / 3], [0], [0]], rtol=1e-6)
    equal = np.array([[2.0], [2.0]], np.float32)
    f = vision.box_score(detect, np.array([BOX, BOX], np.float32))
    np.testing.assert_allclose(jaxplain.gradient(f)(equal, (BOX, 0)), [[0.5], [0.5]])


def test_a_temperature_weights_all():
    values = np.array([0.5, 2.0, 1.5])
    boxes = np.array([BOX] * 3, np.float32)
    for temperature in (0.3, 10.0):
        weights = np.exp(values / temperature) / np.exp(values / temperature).sum()
        f = vision.box_score(detect, boxes, temperature=temperature)
        value = float(f(values.astype(np.float32)[:, None], (BOX, 0)))
        assert value == pytest.approx((weights * values).sum(), rel=1e-5)
        assert 2 - temperature * np.log(3) <= value <= 2


def moved(_, x):  # the box (0, 0, a, 1) with a logit of 3 a: its overlap with the unit square is a, below 1
    a = x[:, :1]
    return jnp.stack([0 * a, 0 * a, a, 1 + 0 * a], -1), 3 * a[:, None]


def test_the_gradient_goes_through_the_box_unless_it_is_fixed():
    x, target = np.array([0.5], np.float32), ((0.0, 0.0, 1.0, 1.0), 0)
    free, fixed = (vision.box_score(moved, None, fixed_boxes=held) for held in (False, True))
    assert float(free(x, target)) == float(fixed(x, target)) == 0.75  # 3 a^2
    np.testing.assert_allclose(jaxplain.gradient(free)(x, target), [3.0])
    np.testing.assert_allclose(jaxplain.gradient(fixed)(x, target), [1.5])


@pytest.mark.slow
def test_relevance_adds_up_where_boxes_are_fixed_and_a_path_where_they_are_not():
    x, target = np.array([0.5], np.float32), ((0.0, 0.0, 1.0, 1.0), 0)
    free, fixed = (vision.box_score(moved, None, fixed_boxes=held) for held in (False, True))
    np.testing.assert_allclose(jaxplain.integrated_gradients(free)(x, target), [0.75], rtol=1e-4)
    np.testing.assert_allclose(jaxplain.lrp(fixed, jaxplain.relevance.epsilon())(x, target), [0.75], rtol=1e-5)


def test_nothing_near_the_box_is_zero_without_nan():
    f = vision.box_score(detect, np.array(list(OVERLAPS), np.float32)[4:])
    logits = np.ones((4, 2), np.float32)
    assert float(f(logits, (BOX, 0))) == 0
    np.testing.assert_array_equal(jaxplain.gradient(f)(logits, (BOX, 0)), 0)


def test_objectness_multiplies_and_a_part_is_selected():
    def apply(boxes, x):
        return {"found": (*detect(boxes, x), jnp.full((len(x), len(boxes), 1), 0.25)), "other": 1}

    logits = np.array([[3.0, 1.0]], np.float32)
    f = vision.box_score(apply, np.array([BOX], np.float32), select="found")
    assert float(f(logits, (BOX, 0))) == 0.75
    weighted = (BOX, np.array([1.0, -1.0], np.float32))
    assert float(f(logits, weighted)) == 0.5


def pixels(params, x):
    """Two boxes of an image `[4, 4]`, the second moved by it; three classes; an objectness."""
    mean = x.mean(axis=(1, 2))
    at = jnp.array([[[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 4.0, 4.0]]]) + mean[:, None, None] * jnp.array([[[0.0], [1.0]]])
    logits = (x.reshape(len(x), -1) @ params).reshape(len(x), 2, 3)
    return at, logits, jax.nn.sigmoid(x[:, :2, 0])


def by_loops(outputs, box, wanted):
    """The similarity of equations 2 to 4, one detection after the other."""
    best = 0.0
    for (x0, y0, x1, y1), logits, objectness in zip(*outputs, strict=True):
        wide = max(min(x1, box[2]) - max(x0, box[0]), 0)
        high = max(min(y1, box[3]) - max(y0, box[1]), 0)
        union = (x1 - x0) * (y1 - y0) + (box[2] - box[0]) * (box[3] - box[1]) - wide * high
        p = np.exp(logits) / np.exp(logits).sum()
        cosine = (p * wanted).sum() / np.sqrt((p**2).sum() * (wanted**2).sum())
        best = max(best, wide * high / union * cosine * objectness)
    return best


def test_d_rise_is_that_of_loops():
    params = np.asarray(jax.random.normal(jax.random.key(0), (16, 6)))
    x = np.asarray(jax.random.uniform(jax.random.key(1), (4, 4)))
    key, box, samples, p = jax.random.key(2), (0.5, 0.5, 3.0, 3.5), 12, 0.4
    settings = {"cells": 2, "samples": samples, "probability": p, "batch_size": 4}
    e = vision.d_rise(pixels, params, **settings)
    masks = [e._cell_masks(jax.random.fold_in(jax.random.fold_in(key, 0), i), x, (True,))[0] for i in range(samples)]
    # A class that is certain is its unit vector.
    for given, wanted in {(0.7, 0.2, 0.1): [0.7, 0.2, 0.1], 1: [0.0, 1.0, 0.0]}.items():
        expected = np.zeros((4, 4))
        for mask in map(np.asarray, masks):
            outputs = [np.asarray(part[0], np.float64) for part in pixels(params, (mask * x)[None])]
            expected += by_loops(outputs, box, np.array(wanted)) * mask / (samples * p)
        found = e(key, x, (box, given if given == 1 else np.array(given, np.float32)))
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_probabilities_are_taken_as_told():
    box = np.array([BOX], np.float32)
    z = np.array([[0.6, 0.8]], np.float32)
    for activation, p in {None: z[0], "sigmoid": 1 / (1 + np.exp(-z[0])), "softmax": np.exp(z[0])}.items():
        score = vision.d_rise(detect, box, activation=activation).score
        assert float(score(z, (BOX, 1))) == pytest.approx(p[1] / np.hypot(*p), rel=1e-5)
    nothing = vision.d_rise(detect, box, activation=None).score
    np.testing.assert_array_equal(jax.grad(nothing)(0 * z, (BOX, 1)), 0)  # the cosine with zeros is 0


def test_a_batch_has_a_box_and_a_class_for_each_example():
    f = vision.box_score(detect, np.array(list(OVERLAPS), np.float32)[:2])
    logits = np.stack([np.array([[1.0, 2.0], [9.0, 3.0]], np.float32)] * 2)
    boxes, classes = np.array([BOX, (1.0, 0.0, 3.0, 2.0)], np.float32), np.array([0, 1])
    e = jaxplain.gradient(f)
    found = jaxplain.explain_batch(e, logits, (boxes, classes))
    np.testing.assert_allclose(found, [[[0, 0], [1 / 3, 0]], [[0, 0], [0, 1]]], rtol=1e-6)
    same = jaxplain.explain_batch(e, logits, (BOX, 1))  # one target for all
    np.testing.assert_allclose(same, [[[0, 1], [0, 0]]] * 2, rtol=1e-6)
    with pytest.raises(ValueError, match=r"box \(0.0, 0.0, 0.0, 2.0\) has no area"):
        jaxplain.explain_batch(e, logits, (np.array([BOX, (0, 0, 0, 2)], np.float32), classes))
    with pytest.raises(ValueError, match="target 2 is outside the model's 2 outputs"):
        jaxplain.explain_batch(e, logits, (boxes, np.array([0, 2])))


def test_whole_numbers_for_each_class_are_weights_in_a_batch_too():
    logits, boxes = np.ones((2, 1, 2), np.float32), np.array([BOX, BOX], np.float32)
    weights = np.array([[5, -1], [0, 2]])
    e = jaxplain.gradient(vision.box_score(detect, boxes[:1]))
    np.testing.assert_allclose(jaxplain.explain_batch(e, logits, (boxes, weights)), weights[:, None])
    rows = logits[:, 0]
    for f in (jaxplain.logit(lambda _, x: x, {}), jaxplain.black_box(lambda rows: rows)):
        found = jaxplain.explain_batch(jaxplain.feature_ablation(f), rows, weights)
        np.testing.assert_allclose(found, weights * rows)


def test_what_is_no_probability_is_refused_and_small_ones_keep_their_direction():
    e = vision.d_rise(detect, ONE, activation=None, cells=2, samples=2)
    score = e.score
    for wrong in ([0.0, 0.0], [-1.0, 2.0]):
        with pytest.raises(ValueError, match=r"d_rise: the `target`'s probabilities are .* Of logits take"):
            score(Z, (BOX, np.array(wrong, np.float32)))
        with pytest.raises(ValueError, match=r"d_rise: the `target`'s probabilities are"):
            jaxplain.explain_batch(e, Z[None], (np.array([BOX]), np.array([wrong])), key=jax.random.key(0))
    small = np.array([[3e-25, 4e-25]], np.float32)
    assert float(score(small, (BOX, 1))) == pytest.approx(0.8, rel=1e-5)
    assert float(score(small, (BOX, small[0]))) == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(jax.grad(score)(Z, (BOX, 1)), [[-(8**-0.5), 8**-0.5]], rtol=1e-5)


def test_what_cannot_be_read_is_nan_when_it_is_traced():
    f = jax.jit(vision.box_score(detect, np.array([BOX], np.float32)))
    logits = np.ones((1, 2), np.float32)
    boxes = {BOX: False, (0.0, 0.0, 0.0, 1.0): True, (1.0, 0.0, 0.0, 1.0): True, (0.0, 0.0, np.nan, 1.0): True}
    boxes[0.0, 0.0, np.inf, 1.0] = True
    for (box, wrong), label in itertools.product(boxes.items(), (1, 2)):
        assert bool(jnp.isnan(f(logits, (jnp.array(box), label)))) == (wrong or label == 2)


ONE = np.array([BOX], np.float32)
Z = np.ones((1, 2), np.float32)


def score(apply=detect, **settings):
    return vision.box_score(apply, ONE, **settings)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: score()(Z, 1), TypeError, r"box_score: the `target` has to be the pair \(box, class\), not 1"),
        (lambda: score()(Z), TypeError, r"the pair \(box, class\), not None"),
        (lambda: score()(Z, ((0, 0, 1), 1)), ValueError, "box has shape"),
        (lambda: score()(Z, ((2.0, 0.0, 1.0, 1.0), 1)), ValueError, r"box \(2.0, 0.0, 1.0, 1.0\) has no area"),
        (lambda: score()(Z, ((0, 0, np.nan, 1), 1)), ValueError, "has no area"),
        (lambda: score()(Z, ("left", 1)), TypeError, "`target`"),
        (lambda: score()(Z, (np.stack([BOX, BOX]), 1)), ValueError, "a score is of one box"),
        (lambda: score()(Z, (BOX, 2)), ValueError, "target 2 is outside the model's 2 outputs"),
        (lambda: score(lambda p, x: x)(Z, (BOX, 1)), TypeError, r"has to return \(boxes, classes\)"),
        (lambda: score(lambda p, x: {"b": x})(Z, (BOX, 1)), TypeError, "select="),
        (lambda: score(lambda p, x: (x, x))(Z, (BOX, 1)), ValueError, r"boxes have shape \(1, 1, 2\)"),
        (lambda: score(lambda p, x: (jnp.zeros((1, 0, 4)), x[:, :0]))(Z, (BOX, 1)), ValueError, "no detections"),
        (lambda: score(lambda p, x: (*detect(p, x), x))(Z, (BOX, 1)), ValueError, r"objectness has shape \(1, 1, 2\)"),
        (lambda: score(temperature=0), ValueError, "`temperature` has to be finite and positive"),
        (lambda: score(fixed_boxes="yes"), TypeError, "`fixed_boxes` has to be True or False"),
        (lambda: vision.box_score(ONE, ONE), TypeError, "`apply` has to be a function"),
        (lambda: vision.d_rise(detect, ONE, activation="tanh"), ValueError, "d_rise: `activation`"),
        (lambda: vision.d_rise(detect, ONE).score(Z, (BOX, np.ones(3))), ValueError, "has 2 classes"),
        (lambda: score()(Z, (BOX, np.array([np.nan, 1]))), ValueError, "`target` has 1 NaN"),
        (lambda: score()(Z, (BOX, {"a": 1})), TypeError, "`target` has to be a number, not {'a': 1}"),
        (lambda: score()(Z, ([], 1)), ValueError, r"box has shape \(0,\)"),
    ],
)
def test_what_is_no_detection_is_told(call, error, words):
    with pytest.raises(error, match=words):
        call()
