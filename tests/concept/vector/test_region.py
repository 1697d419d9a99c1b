"""Concept regions: two clusters with the mean of the rest, the kernel's closed form, invariance to turning."""

import jax
import numpy as np
import pytest

import jaxplain
from jaxplain.concept import concept_regions, concept_vectors, region_scores


def two_clusters(seed=0):
    """Examples of a concept at both ends of a line, the others in its middle: equal means, to the bit."""
    rng = np.random.default_rng(seed)
    half, other = rng.normal(size=(20, 4)) * 0.4, rng.normal(size=(20, 4)) * 0.4
    half[:, 0] += 3.0
    return np.concatenate([half, -half, other, -other]).astype(np.float32), np.arange(80) < 40


def test_a_region_finds_two_clusters_that_no_vector_does():
    rows, labels = two_clusters()
    region = concept_regions(rows, labels)
    assert region.accuracy[0] > 0.95
    vector = concept_vectors(rows + 1e-3 * labels[:, None].astype(np.float32), labels)
    assert vector.accuracy[0] < 0.75
    new, truth = two_clusters(1)
    assert ((region_scores(region, new)[:, 0] > 0) == truth).mean() > 0.95
    assert "ConceptRegions: 1" in repr(region)
    # what explains it: any method, on the region's score; the others than the first unit say little
    slopes = jaxplain.explain_batch(jaxplain.gradient(region.score(0)), new[:40])
    assert np.abs(slopes[:, 0]).mean() > 3 * np.abs(slopes[:, 1:]).mean()


def test_it_is_the_least_squares_of_the_kernel_and_turns_with_the_activations():
    rows, labels = two_clusters()
    rows, signs = rows[::4], np.where(labels[::4], 1.0, -1.0)
    found = concept_regions(rows, signs.astype(int), sigma=1.5, penalty=0.2)
    kernel = np.exp(-((rows[:, None] - rows[None]) ** 2).sum(-1) / (2 * 1.5**2))
    count = len(rows)
    system = np.block([[kernel + 0.2 * np.eye(count), np.ones((count, 1))], [np.ones((1, count)), np.zeros((1, 1))]])
    solution = np.linalg.solve(system, np.append(signs, 0))
    order = np.argsort(np.asarray(found.index[0]))
    np.testing.assert_allclose(np.asarray(found.weights[0])[order], solution[:-1], atol=1e-4)
    np.testing.assert_allclose(found.biases[0], solution[-1], atol=1e-4)
    scores = region_scores(found, rows)
    np.testing.assert_allclose(scores[:, 0], kernel @ solution[:-1] + solution[-1], atol=1e-4)
    np.testing.assert_allclose(region_scores(found, rows, batch_size=3), scores, atol=1e-5)
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(4, 4)))
    turned = concept_regions((rows @ turn).astype(np.float32), signs.astype(int), sigma=1.5, penalty=0.2)
    np.testing.assert_allclose(region_scores(turned, (rows @ turn).astype(np.float32)), scores, atol=1e-4)


@pytest.mark.slow
def test_the_width_is_the_median_distance_and_concepts_are_filled_up():
    rows, labels = two_clusters()
    signs = np.where(labels, 1, -1)
    fewer = signs.copy()
    fewer[5:30] = 0
    both = concept_regions(rows, np.stack([signs, fewer]))
    kept = rows[fewer != 0]
    distances = np.linalg.norm(kept[:, None] - kept[None], axis=-1)[~np.eye(len(kept), dtype=bool)]
    np.testing.assert_allclose(both.sigma[1], np.median(distances), rtol=1e-3)
    alone = concept_regions(kept, fewer[fewer != 0])
    np.testing.assert_allclose(region_scores(both, rows)[:, 1], region_scores(alone, rows)[:, 0], atol=1e-4)
    np.testing.assert_allclose(both.accuracy[1], alone.accuracy[0])
    pieces = concept_regions(rows, np.stack([signs, fewer]), batch_size=1)
    np.testing.assert_allclose(pieces.weights, both.weights, atol=1e-5)


def test_what_is_no_region_is_refused():
    rows, labels = two_clusters()
    found = concept_regions(rows, labels)
    for call, words in (
        (lambda: concept_regions(rows, labels, sigma=0.0), "`sigma` has to be finite and positive"),
        (lambda: concept_regions(rows, labels, sigma=np.ones(3)), r"`sigma` has shape \(3,\); pass a number or \[1\]"),
        (lambda: concept_regions(rows, labels, penalty=0.0), "`penalty` has to be finite and positive"),
        (lambda: concept_regions(rows * np.nan, labels), "`activations` has 320 NaN"),
        (lambda: region_scores(found, rows[:, :2]), r"shape \(80, 2\), but the regions are of a layer \(4,\)"),
        (lambda: region_scores(None, rows), "`regions` has to be a ConceptRegions"),
        (lambda: found.score(1), "there are 1 concepts, from 0; 1 is none"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            call()
    assert jax.tree.structure(found) == jax.tree.structure(jax.tree.map(lambda leaf: leaf, found))
