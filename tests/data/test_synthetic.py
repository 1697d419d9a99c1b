"""Sets with known truth: the closed form is complete and agrees with a path integral, the set is as described."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import data

KEY = jax.random.key(11)


def path_integral(f, x, baseline, steps=256):
    """Integrated gradients by the midpoint rule, in plain terms."""
    alphas = (np.arange(steps) + 0.5) / steps
    slopes = [jax.grad(f)(jnp.asarray(baseline + a * (x - baseline))) for a in alphas]
    return (x - baseline) * np.mean(slopes, axis=0)


def shapley(f, x, baseline):
    """Shapley values by their definition, over all subsets of features."""
    n, values = len(x), np.zeros(len(x))
    for i in range(n):
        others = [j for j in range(n) if j != i]
        for size in range(n):
            weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
            for subset in itertools.combinations(others, size):
                without = np.array(baseline)
                without[list(subset)] = x[list(subset)]
                with_i = without.copy()
                with_i[i] = x[i]
                values[i] += weight * (float(f(with_i)) - float(f(without)))
    return values


@pytest.fixture(scope="module")
def patches():
    return data.planted_patches(KEY, 30, classes=5, size=(9, 12), channels=2, patch=3)


@pytest.fixture(scope="module")
def table():
    return data.additive_tabular(KEY, 50)


@pytest.fixture(scope="module")
def tokens():
    return data.marker_tokens(KEY, 60, classes=3, length=9, vocabulary=20, words=2, markers=3)


@pytest.mark.slow
def test_patches_are_images_with_one_square_of_signs(patches):
    drawn, score = patches
    assert drawn.inputs.shape == drawn.truth.shape == (30, 9, 12, 2)
    assert drawn.inputs.dtype == np.float32
    assert drawn.inputs.min() >= 0
    assert drawn.inputs.max() <= 1
    assert np.bincount(drawn.targets).tolist() == [6] * 5
    assert drawn.class_names == tuple(f"class_{k}" for k in range(5))
    templates = np.asarray(score.templates)
    assert (templates != 0).sum(axis=0).max() == 1  # squares do not overlap
    for template in templates:
        assert (template == 1).sum() == (template == -1).sum() == 9
        rows, columns, _ = np.nonzero(template)
        assert np.ptp(rows) == np.ptp(columns) == 2
        assert rows.min() % 3 == columns.min() % 3 == 0
    np.testing.assert_array_equal(drawn.truth, (templates != 0)[drawn.targets])
    np.testing.assert_array_equal(drawn.truth, jax.vmap(score.mask)(drawn.targets))


@pytest.mark.slow
def test_the_patch_scorer_classifies_and_reads_its_patch_only(patches):
    drawn, score = patches
    scores = jax.vmap(jax.vmap(score, (None, 0)), (0, None))(drawn.inputs, jnp.arange(5))
    np.testing.assert_array_equal(jnp.argmax(scores, axis=1), drawn.targets)
    elsewhere = np.where(drawn.truth, drawn.inputs, 0)
    np.testing.assert_allclose(
        jax.vmap(score)(elsewhere, drawn.targets), jax.vmap(score)(drawn.inputs, drawn.targets), atol=1e-5
    )
    attribution = jax.vmap(score.attribution)(drawn.inputs, drawn.targets)
    assert np.all(np.asarray(attribution)[~drawn.truth] == 0)
    assert np.all(np.asarray(attribution)[drawn.truth] != 0)


def test_the_patch_attribution_is_the_path_integral(patches):
    drawn, score = patches
    x, target = drawn.inputs[0], int(drawn.targets[0])
    baseline = np.full_like(x, 0.3)
    ours = score.attribution(x, target, baseline)
    np.testing.assert_allclose(ours, path_integral(lambda x: score(x, target), x, baseline, 4), atol=1e-6)
    np.testing.assert_allclose(ours.sum(), score(x, target) - score(baseline, target), atol=1e-5)
    np.testing.assert_allclose(score.attribution(x, target, 0.3), ours)


@pytest.mark.slow
def test_the_additive_attribution_is_the_path_integral_and_the_shapley_value(table):
    drawn, score = table
    x, baseline = drawn.inputs[0], drawn.inputs[1]
    ours = np.asarray(score.attribution(x, baseline))
    np.testing.assert_allclose(ours, path_integral(score, x, baseline), atol=1e-3)
    np.testing.assert_allclose(ours, shapley(jax.jit(score), x, baseline), atol=1e-4)
    np.testing.assert_allclose(ours.sum(), score(x) - score(baseline), atol=1e-5)
    np.testing.assert_allclose(score.attribution(x), score.terms(x), atol=1e-6)


def test_the_table_is_what_its_names_say(table):
    drawn, score = table
    x = drawn.inputs.astype(np.float64)
    linear, quadratic, amplitude, frequency = (np.asarray(a, np.float64) for a in jax.tree.leaves(score))
    reference = x @ linear + x**2 @ quadratic + np.sin(x * frequency) @ amplitude
    np.testing.assert_allclose(drawn.targets, reference, atol=1e-4)
    for kind, coefficients in (("linear", linear), ("quadratic", quadratic), ("sine", amplitude)):
        named = np.array([name.startswith(kind) for name in drawn.feature_names])
        np.testing.assert_array_equal(coefficients != 0, named)
        assert np.all((np.abs(coefficients[named]) >= 0.5) & (np.abs(coefficients[named]) <= 2))
    relevant = np.array(["irrelevant" not in name for name in drawn.feature_names])
    np.testing.assert_array_equal(drawn.truth, np.broadcast_to(relevant, (50, 8)))
    assert np.abs(x).max() <= 2


def test_noise_is_added_to_the_targets_alone():
    clean, noisy = (data.additive_tabular(KEY, 2000, noise=noise).data for noise in (0.0, 0.5))
    np.testing.assert_array_equal(clean.inputs, noisy.inputs)
    np.testing.assert_allclose(np.std(noisy.targets - clean.targets), 0.5, rtol=0.05)


@pytest.mark.slow
def test_token_sequences_hold_the_markers_of_their_class(tokens):
    drawn = tokens.data
    ids, mask = drawn.inputs
    assert ids.shape == mask.shape == drawn.truth.shape == (60, 9)
    assert ids.dtype == np.int32
    assert mask.dtype == drawn.truth.dtype == bool
    np.testing.assert_array_equal(mask, ids != 0)
    lengths = mask.sum(axis=1)
    np.testing.assert_array_equal(mask, np.arange(9) < lengths[:, None])  # padding on the right
    assert (lengths.min(), lengths.max()) == (4, 9)
    for row, label, truth in zip(ids, drawn.targets, drawn.truth, strict=True):
        markers = (row >= 1) & (row <= 6)
        np.testing.assert_array_equal(markers, truth)
        assert markers.sum() == 3
        assert np.all((row[markers] - 1) // 2 == label)
    assert ids.max() < 20
    assert np.bincount(drawn.targets).tolist() == [20] * 3
    assert len(np.unique(ids[drawn.truth])) == 6
    assert drawn.truth.any(axis=0).all()  # markers stand anywhere


@pytest.mark.slow
def test_the_marker_score_is_exact_for_removed_tokens(tokens):
    drawn, score = tokens
    ids, mask = drawn.inputs
    scores = jax.vmap(jax.vmap(score, (None, 0)), (0, None))(ids, jnp.arange(3))
    np.testing.assert_array_equal(scores, 3.0 * np.eye(3)[drawn.targets])
    attribution = jax.vmap(score.attribution)(ids, drawn.targets, mask)
    np.testing.assert_array_equal(attribution, drawn.truth.astype(np.float32))
    for t in range(9):
        removed = ids[0].copy()
        removed[t] = 0
        target = int(drawn.targets[0])
        assert float(score(ids[0], target) - score(removed, target)) == float(attribution[0, t])
    np.testing.assert_array_equal(score(ids[0], int(drawn.targets[0]), np.zeros(9, bool)), 0.0)


@pytest.mark.parametrize("make", [data.planted_patches, data.additive_tabular, data.marker_tokens])
@pytest.mark.sampled(3)
def test_the_key_decides_every_bit(make):
    first, again, other = (jax.tree.leaves(make(key, 8)) for key in (KEY, jax.random.key(11), jax.random.key(12)))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[0], other[0])


def test_scores_are_pytrees_that_compile_once(patches):
    drawn, score = patches
    traces = []

    @jax.jit
    def run(score, x, target):
        traces.append(1)
        return score(x, target)

    for scale in (1.0, 2.0):
        scaled = jax.tree.map(lambda a, scale=scale: a * scale, score)
        np.testing.assert_allclose(
            run(scaled, drawn.inputs[0], 1), scale * score(drawn.inputs[0], 1), rtol=1e-5, atol=1e-5
        )
    assert len(traces) == 1
    assert bool(jnp.isnan(run(score, drawn.inputs[0], 5)))  # a traced label outside the classes


def test_labels_outside_the_classes_are_refused(patches, tokens):
    with pytest.raises(ValueError, match="target 5 is outside the model's 5 outputs"):
        patches.score(patches.data.inputs[0], 5)
    with pytest.raises(ValueError, match="target -1 is outside"):
        tokens.score(tokens.data.inputs[0][0], -1)
    with pytest.raises(TypeError, match="pass one integer class"):
        patches.score(patches.data.inputs[0], 1.0)
    assert bool(jnp.isnan(tokens.score(jnp.array([1, 20]), 0)))  # an id outside the vocabulary


@pytest.mark.parametrize(
    ("make", "settings", "error", "message"),
    [
        (data.planted_patches, {"examples": 0}, ValueError, "`examples` has to be at least 1"),
        (data.planted_patches, {"classes": 1}, ValueError, "`classes` has to be at least 2"),
        (data.planted_patches, {"classes": 17}, ValueError, "17 classes need as many squares, but .* has 16 of 4x4"),
        (data.planted_patches, {"patch": 1}, ValueError, "`patch` has to be at least 2"),
        (data.planted_patches, {"size": 16}, TypeError, "`size` has to be a tuple"),
        (data.planted_patches, {"noise": 0.4}, ValueError, r"contrast / 2 \+ noise is 0.65"),
        (data.planted_patches, {"noise": -0.1}, ValueError, "`noise` has to be finite and zero or more"),
        (data.planted_patches, {"contrast": 0.0}, ValueError, "`contrast` has to be finite and positive"),
        (data.additive_tabular, {"linear": -1}, ValueError, "`linear` has to be at least 0"),
        (
            data.additive_tabular,
            {"linear": 0, "quadratic": 0, "sine": 0, "irrelevant": 0},
            ValueError,
            "there are no features",
        ),
        (data.additive_tabular, {"noise": float("nan")}, ValueError, "`noise` is NaN"),
        (data.marker_tokens, {"vocabulary": 5}, ValueError, "leaves no filler .* at least 6"),
        (data.marker_tokens, {"markers": 17}, ValueError, "17 markers do not fit into a sequence of length 16"),
        (data.marker_tokens, {"length": 1.5}, TypeError, "`length` has to be a whole number"),
    ],
)
def test_settings_that_do_not_fit_are_refused(make, settings, error, message):
    with pytest.raises(error, match=f"{make.__name__}: .*{message}"):
        make(KEY, **settings)
