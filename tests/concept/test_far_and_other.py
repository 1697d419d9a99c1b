"""What is far from the origin, of another length, constant, or of another model is told apart as near it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import concept, train

KEY = jax.random.key(0)


def net(weights, x):
    with jax.named_scope("a"):
        h = jnp.tanh(x @ weights)
    return h.sum()


def axes(size=4, site=None):
    return concept.NonNegativeDictionary(jnp.eye(size), site=site)


def test_a_model_inside_of_jit_has_a_fingerprint():
    x, (one, two) = jnp.ones(4), jax.random.normal(KEY, (2, 4, 4))
    makers = (
        lambda w: jax.jit(lambda x: net(w, x)),
        lambda w: lambda x: jax.jit(lambda x: net(w, x))(x) + 0,
        lambda w: lambda x: jax.jit(jax.jit(lambda x: net(w, x)))(x),
    )
    for make in makers:
        site = concept.layer_site(make(one), "a", x)
        assert site == concept.layer_site(make(one), "a", x)
        assert site != concept.layer_site(make(two), "a", x)
        _, head = jaxplain.split(make(two), "a")
        with pytest.raises(ValueError, match="its parameters are others"):
            axes(site=site).importance(head, jnp.ones(4), x)
    traced = jax.jit(lambda w: axes(site=site).importance(jaxplain.split(lambda x: net(w, x), "a")[1], x, x).features)
    assert np.isfinite(traced(one)).all()  # of traced parameters nothing is known


def test_codes_do_not_depend_on_the_length_of_other_atoms():
    rows = jnp.array([[1, 1e-3], [1, 1.0]])
    np.testing.assert_allclose(
        concept.non_negative_coefficients(rows, jnp.diag(jnp.array([1, 1e-3]))), [[1, 1], [1, 1000]], rtol=1e-5
    )
    slope = jax.jacobian(lambda h: concept.non_negative_coefficients(h, jnp.diag(jnp.array([1, 1e-3]))))(rows[1])
    np.testing.assert_allclose(slope, np.diag([1, 1000.0]), rtol=1e-5)


@pytest.mark.slow
def test_what_does_not_vary_has_no_weight_and_explains_nothing():
    rows = np.random.default_rng(0).normal(size=(512, 4)).astype(np.float32)
    rows[:, 3] = 0.1
    rows[:, :3] = np.abs(rows[:, :3])  # which the codes of axes are
    found = concept.concept_readout(axes(), rows, 2 * rows[:, :1], key=KEY)
    assert float(jnp.abs(found.weights[3]).max()) < 1e-6
    constant = concept.concept_readout(axes(), rows, np.full((512, 1), 0.1, np.float32), key=KEY)
    assert np.isnan(constant.fidelity.explained).all()
    with pytest.raises(ValueError, match="`activations` are constant"):
        concept.judge_dictionary(axes(), jnp.full((1000, 4), 0.1))


def test_distances_far_from_the_origin_are_those_near_it():
    rng = np.random.default_rng(1)
    rows = np.r_[rng.normal(0, 0.2, (20, 3)), rng.normal(3, 0.2, (20, 3))].astype(np.float32)
    rows = np.round(rows * 64) / 64  # exact after the move, too
    near, far = (concept.prototypes(rows + move, k=2, criticisms=2, sigma=1.0) for move in (0, 2048))
    np.testing.assert_array_equal(near.prototypes, far.prototypes)
    np.testing.assert_allclose(near.discrepancy, far.discrepancy, atol=1e-4)
    centres = [concept.k_means(rows + move, 2, key=KEY).atoms - move for move in (0, 2048)]
    np.testing.assert_allclose(*centres, atol=1e-2)
    counts = [concept.spray(rows + move, key=KEY, norm="none", neighbours=5).count for move in (0, 2048)]
    assert counts[0] == counts[1]


def in_unit(unit):
    """What is said of three clusters, with all that has the unit of the rows divided by it."""
    rng = np.random.default_rng(2)
    rows = np.repeat(rng.normal(0, 4, (3, 5)), 12, axis=0) + rng.normal(size=(36, 5))
    rows, labels = (rows * unit).astype(np.float32), np.repeat([0, 1, 2], 12)
    concepts = np.where(np.arange(36) < 6, 1, np.where(np.arange(36) < 12, -1, 0))
    found = concept.concept_vectors(rows, concepts)
    regions = concept.concept_regions(rows, concepts)
    near = concept.counterfactual_examples(rows, labels, rows[:4] * 1.5, labels[:4], k=2)
    means = concept.k_means(rows, 3, key=KEY)
    linear = concept.sparse_surrogate(lambda x: x[:, 0] / unit, rows, key=KEY, penalty=0.0)
    said = [
        *(found.vectors, found.accuracy, np.asarray(found.biases, float) / unit),
        *(np.asarray(regions.sigma, float) / unit, regions.accuracy, concept.region_scores(regions, rows[:4])),
        concept.tcav(lambda h: h[0] / unit, found, rows[:4], key=KEY, samples=19).p,
        *concept.prototypes(rows, k=3, criticisms=2),
        *concept.prototypes(rows, k=2, criticisms=0, sigma=2.0 * unit),
        *(near.indices, np.asarray(near.distance, float) / unit),
        *(np.asarray(means.atoms, float) / unit, means.encode(rows)),
        *(np.asarray(linear.weights, float) * unit, linear.fidelity.explained),
        *(concept.spray(rows, key=KEY, norm=norm, neighbours=6).labels for norm in ("l2", "none")),
        concept.spray(rows, key=KEY, norm="none", neighbours=6, sigma=2.0 * unit).eigenvalues,
    ]
    return [np.asarray(value, float) for value in said]


@pytest.mark.filterwarnings("ignore:tcav")
@pytest.mark.parametrize("unit", [2.0**-80, 2.0**70])
def test_the_unit_of_the_rows_does_not_matter(unit):
    for value, right in zip(in_unit(unit), in_unit(1.0), strict=True):
        np.testing.assert_allclose(value, right, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("unit", [1e-25, 1e19])
def test_activations_without_squares_are_refused(unit):
    rows = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32) * np.float32(unit)
    for call in (
        lambda: concept.judge_dictionary(axes(), rows),
        lambda: concept.train_autoencoder(rows, 4, concept.top_k(1), key=KEY),
    ):
        with pytest.raises(ValueError, match=r"holds no squares of numbers as (small|large) as"):
            call()


def test_a_feature_is_of_its_layer_and_a_transcoder_is_judged_by_nobody():
    weights, x = jax.random.normal(KEY, (4, 4)), jnp.ones(4)
    f = lambda x: net(weights, x)  # noqa: E731
    dictionary = axes(site=concept.layer_site(f, "a", x))
    assert np.isfinite(concept.feature_score(f, "a", dictionary, 0)(x))
    other = 2 * weights
    with pytest.raises(ValueError, match="its parameters are others"):
        concept.feature_score(lambda x: net(other, x), "a", dictionary, 0)(x)
    with pytest.raises(ValueError, match="the name 'random'"):
        concept.concept_curves({"random": dictionary}, lambda h: h.sum(), jnp.ones((3, 4)), key=KEY, steps=2)

    class Other(type(dictionary)):
        reconstructs = False

    with pytest.raises(ValueError, match="a transcoder reads one layer"):
        concept.judge_dictionary(Other(jnp.eye(4)), jax.random.normal(KEY, (9, 4)))


def test_penalties_of_half_precision_neither_overflow_nor_vanish():
    def method(w):
        return jaxplain.gradient(lambda x, target: (x * w).sum())

    for dtype in (jnp.float16, jnp.bfloat16):
        w, x = jnp.full(1000, 300, dtype), jnp.ones(1000, dtype)
        assert float(train.right_for_the_right_reasons(method, jnp.ones(1000))(w, x, 0, KEY)) == pytest.approx(
            9e7, rel=0.01
        )
        inside = jnp.arange(1000) < 500
        assert float(train.cam_guidance(method, inside * 1.0)(w, x, 0, KEY)) == pytest.approx(0.5, abs=1e-3)
    mixed = {"ids": jnp.arange(3), "v": jnp.ones(3)}
    method = lambda w: jaxplain.gradient(lambda x, target: (x["v"] * w).sum())  # noqa: E731
    penalty = train.explanation_distillation(method, method(jnp.zeros(3)))
    assert float(penalty(jnp.full(3, 2.0), mixed, 0, KEY)) == 4.0


@pytest.mark.slow
def test_concepts_of_layers_do_not_depend_on_the_batches():
    def f(x, c):
        with jax.named_scope("lay"):
            y = x * c
        return (y**2).sum()

    rows = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32) + 1
    rows[:10, 0] += 2
    concepts = np.r_[np.ones(10), -np.ones(10), np.zeros(40)].astype(int)
    scale = jnp.tile(jnp.array([[1.0, 2, 3, 4]]), (8, 1))
    settings = {"key": KEY, "samples": 9}
    with pytest.warns(UserWarning, match="random concepts"):
        found = [
            concept.tcav_layers(f, ["lay"], rows, concepts, rows[20:28], scale, batch_size=size, **settings)["lay"]
            for size in (64, 4)
        ]
    np.testing.assert_allclose(found[0].scores, found[1].scores, atol=1e-5)
    np.testing.assert_allclose(found[0].sensitivities, found[1].sensitivities, rtol=1e-4, atol=1e-5)
