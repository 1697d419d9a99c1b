"""Dictionaries to compare with: principal components and k-means as scikit-learn has them, random directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from jaxplain import concept

RNG = np.random.default_rng(0)
ROWS = (RNG.normal(size=(60, 6)) @ RNG.normal(size=(6, 6)) + 1).astype(np.float32)


def test_principal_components_are_scikit_learns():
    peer, found = PCA(3).fit(ROWS), concept.principal_components(ROWS, 3)
    signs = np.sign(np.sum(peer.components_ * np.asarray(found.atoms), axis=1))
    np.testing.assert_allclose(found.atoms, signs[:, None] * peer.components_, atol=1e-5)
    np.testing.assert_allclose(found.encode(jnp.asarray(ROWS)), signs * peer.transform(ROWS), atol=1e-4)
    largest = np.take_along_axis(np.asarray(found.atoms), np.abs(found.atoms).argmax(1)[:, None], 1)
    assert (largest > 0).all()
    judged = concept.judge_dictionary(found, ROWS)
    np.testing.assert_allclose(judged.variance_explained, peer.explained_variance_ratio_.sum(), rtol=1e-5)


def same_clusters(start):
    peer = KMeans(4, init=start, n_init=1, algorithm="lloyd", tol=0, max_iter=1000).fit(ROWS)
    found = concept.k_means(ROWS, 4, start=start)
    order = np.lexsort(peer.cluster_centers_.T), np.lexsort(np.asarray(found.atoms).T)
    np.testing.assert_allclose(np.asarray(found.atoms)[order[1]], peer.cluster_centers_[order[0]], atol=1e-5)
    return peer, found


def test_clusters_are_scikit_learns_from_one_start():
    peer, found = same_clusters(ROWS[:4])
    codes = np.asarray(found.encode(jnp.asarray(ROWS)))
    assert (codes.sum(1) == 1).all()
    assert (np.diff(codes.sum(0)) <= 0).all()
    np.testing.assert_allclose(np.sum((ROWS - codes @ np.asarray(found.atoms)) ** 2), peer.inertia_, rtol=1e-5)


def test_an_empty_cluster_begins_anew_where_scikit_learns_does():
    same_clusters(np.concatenate([ROWS[:2], np.full((2, 6), 100.0, np.float32)]))


@pytest.mark.slow
def test_planted_clusters_are_found_from_any_key():
    centres = 20 * np.eye(5, dtype=np.float32)
    rows = np.concatenate([c + RNG.normal(size=(10 + 5 * i, 5)).astype(np.float32) for i, c in enumerate(centres)])
    for number in range(3):
        found = concept.k_means(rows, 5, key=jax.random.key(number))
        np.testing.assert_allclose(found.atoms, centres[::-1], atol=2.0)  # the largest first
    assert concept.stability([concept.k_means(rows, 5, key=jax.random.key(n)) for n in range(3)]) > 0.999


def test_random_directions_have_unit_length_and_the_best_codes():
    found = concept.random_directions(ROWS, 3, key=jax.random.key(0))
    np.testing.assert_allclose(np.linalg.norm(found.atoms, axis=1), 1, rtol=1e-5)
    right = np.linalg.lstsq(np.asarray(found.atoms).T, (ROWS - ROWS.mean(0)).T, rcond=None)[0].T
    np.testing.assert_allclose(found.encode(jnp.asarray(ROWS)), right, atol=1e-3)
    explained = [concept.judge_dictionary(d, ROWS).variance_explained for d in (found, PCA3)]
    assert explained[0] < explained[1]


PCA3 = concept.principal_components(ROWS, 3)

BAD = {
    "k of 0": (lambda: concept.principal_components(ROWS, 0), "`k` has to be at least 1"),
    "k above width": (lambda: concept.principal_components(ROWS, 7), "`k` is 7, but an activation has 6 numbers"),
    "k above rows": (lambda: concept.k_means(ROWS, 61, key=jax.random.key(0)), "`k` is 61, but there are 60"),
    "too few different": (
        lambda: concept.k_means(np.repeat(ROWS[:2], 9, 0), 3, key=jax.random.key(0)),
        "`k` is 3, but only 2 of 18 rows are different",
    ),
    "no key": (lambda: concept.k_means(ROWS, 3), "pass `key=jax.random.key"),
    "constant": (lambda: concept.principal_components(0 * ROWS, 2), "all 60 rows of `activations` are equal"),
    "NaN": (lambda: concept.random_directions(np.log(ROWS * 0 - 1), 2, key=jax.random.key(0)), "360 NaN"),
    "start": (lambda: concept.k_means(ROWS, 3, start=ROWS), "`start` has shape"),
}


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("name", BAD)
def test_bad_calls_are_told(name):
    with pytest.raises((ValueError, TypeError), match=BAD[name][1]):
        BAD[name][0]()


@pytest.mark.usefixtures("double")
def test_top_examples_in_double_precision():
    found = concept.principal_components(ROWS.astype(np.float64), 2)
    assert found.atoms.dtype == jnp.float64
    top = found.top_examples(ROWS.astype(np.float64), 2, batch_size=7)
    codes = np.asarray(found.encode(jnp.asarray(ROWS, jnp.float64)))
    np.testing.assert_allclose(top.values, -np.sort(-codes, axis=0)[:2].T, rtol=1e-9)
