"""Spectral clusters of attributions: planted ones, eigenvalues beside SciPy's, folders, layouts, what is refused."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg, sparse

import jaxplain
from jaxplain.concept import cluster_places, spray
from jaxplain.concept.cluster import graph
from jaxplain.concept.cluster.graph import affinity, laplacian, smallest

KEY = jax.random.key(0)


def planted(sizes=(40, 25, 12), side=8, noise=0.35, seed=0):
    """Attributions of a class: each strategy looks at a field of its own, one of them at the corner of a watermark."""
    rng = np.random.default_rng(seed)
    places = [(4, 4), (2, 5), (0, 0)]
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    maps = noise * rng.normal(size=(len(labels), side, side))
    for number, label in enumerate(labels):
        row, column = places[label]
        maps[number, row : row + 3, column : column + 3] += 1 + 0.3 * rng.normal()
    return maps.astype(np.float32), labels


def purity(found, truth):
    return sum(np.bincount(truth[found == cluster]).max() for cluster in np.unique(found)) / len(truth)


@pytest.mark.parametrize("settings", [{}, {"size": 4}, {"sigma": 1.0}, {"norm": "l1"}], ids=str)
def test_a_planted_clever_hans_is_a_cluster(settings):
    maps, truth = planted()
    found = spray(maps, key=KEY, **settings)
    assert found.count == 3
    assert int(np.argmax(np.diff(found.eigenvalues))) == 2
    assert purity(found.labels, truth) >= 0.95
    assert found.sizes.tolist() == np.bincount(found.labels).tolist() == sorted(found.sizes.tolist(), reverse=True)
    watermark = found.labels[truth == 2][0]
    assert found.means[watermark][:3, :3].mean() > 2 * np.abs(found.means[watermark][3:]).mean()
    assert (found.separation > 0.8).all()
    assert truth[found.typical].tolist() == [0, 1, 2]
    members = found.members(int(watermark))
    assert set(members) == set(np.flatnonzero(found.labels == watermark))
    assert members[0] == found.typical[watermark]
    assert sorted(found.suspicious()) == [0, 1, 2]
    assert "Clusters: 3 of 77 attributions, sizes (separation)" in repr(found)


def test_eigenvalues_of_the_laplacian_are_scipys():
    rows = planted()[0].reshape(77, -1)
    for sigma in (None, 2.0):
        near = affinity(rows, 10, sigma, 16)
        matrix = laplacian(near)
        right = sparse.csgraph.laplacian(near, normed=True).toarray()
        np.testing.assert_allclose(matrix.toarray(), right, atol=1e-12)
        values, vectors = smallest(matrix, 9, near)
        np.testing.assert_allclose(values, linalg.eigvalsh(right)[:9], atol=1e-10)
        np.testing.assert_allclose(matrix @ vectors, vectors * values[None], atol=1e-10)


def test_neighbours_are_those_of_brute_force():
    rows = np.random.default_rng(1).normal(size=(30, 4)).astype(np.float32)
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=-1) + np.diag(np.full(30, np.inf))
    right = np.zeros((30, 30))
    np.put_along_axis(right, np.argsort(apart, axis=1)[:, :5], 1, 1)
    for batch_size in (7, 30):
        near = affinity(rows, 5, None, batch_size).toarray()
        np.testing.assert_array_equal(near, np.maximum(right, right.T))
    weighted = affinity(rows, 5, 1.5, 30).toarray()
    np.testing.assert_allclose(weighted, np.maximum(right, right.T) * np.exp(-(apart**2) / 4.5), atol=1e-5)
    # a row at one place with others, and nothing near another: equal distances go by index, and nothing is lost
    same = np.concatenate([np.zeros((6, 2)), np.ones((6, 2))]).astype(np.float32)
    assert affinity(same, 2, None, 12).toarray()[:6, 6:].sum() == 0


@pytest.mark.slow
def test_many_maps_are_taken_apart_without_their_whole_matrix(monkeypatch):
    count = 300
    monkeypatch.setattr(graph, "DENSE", 100)
    rng = np.random.default_rng(2)
    truth = np.arange(count) % 3
    rows = np.eye(3)[truth] * 3 + 0.4 * rng.normal(size=(count, 3))
    found = spray(rows.astype(np.float32), key=KEY, most=6, norm="none")
    assert found.count == 3
    assert purity(found.labels, truth) == 1
    near = affinity(rows.astype(np.float32), 10, None, 256)
    matrix = laplacian(near)
    values, _ = smallest(matrix, 7, near)
    np.testing.assert_allclose(values, linalg.eigvalsh(matrix.toarray(), subset_by_index=[0, 6]), atol=1e-8)


def test_batches_other_maps_order_and_keys_do_not_matter():
    maps, _ = planted()
    found = spray(maps, key=KEY)
    np.testing.assert_array_equal(spray(maps, key=KEY, batch_size=5).labels, found.labels)
    np.testing.assert_array_equal(spray(jnp.asarray(maps), key=jax.random.key(3)).labels, found.labels)
    order = np.random.default_rng(3).permutation(len(maps))
    np.testing.assert_array_equal(spray(maps[order], key=KEY).labels, found.labels[order])
    np.testing.assert_array_equal(spray(5 * maps, key=KEY).labels, found.labels)  # maps have equal weight
    assert spray(maps, key=KEY, k=5).count == 5


def test_a_folder_of_explanations_is_clustered(tmp_path):
    maps, _ = planted()
    e = jaxplain.gradient(lambda x: (x**2).sum() / 2)
    jaxplain.explain_dataset(e, maps, out=tmp_path / "run", batch_size=32, progress=False)
    opened = jaxplain.open_explanations(tmp_path / "run")
    right = spray(maps, key=KEY).labels
    np.testing.assert_array_equal(spray(opened, key=KEY).labels, right)
    np.testing.assert_array_equal(spray(opened["attribution"], key=KEY).labels, right)


def test_places_on_a_plane():
    maps, truth = planted()
    places = cluster_places(maps)
    rows = maps.reshape(77, -1) / np.linalg.norm(maps.reshape(77, -1), axis=1, keepdims=True)
    values = np.linalg.svd(rows - rows.mean(0), compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(places, axis=0), values[:2], rtol=1e-4)
    spread = [places[truth == label].mean(0) for label in range(3)]
    assert np.linalg.norm(spread[0] - spread[2]) > 4 * places[truth == 2].std(0).max()
    assert cluster_places(maps[:, :1, 0], norm="none").shape == (77, 2)


@pytest.mark.parametrize("how", [pytest.param("tsne", marks=pytest.mark.slow), "umap"])
def test_layouts_of_an_extra_are_drawn_or_refused_by_name(how):
    maps, truth = planted()
    package = {"tsne": "sklearn", "umap": "umap"}[how]
    if importlib.util.find_spec(package) is None:
        with pytest.raises(ImportError, match=f"cluster_places: '{how}' needs"):
            cluster_places(maps, how=how)
        return
    places = cluster_places(maps, how=how)
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.diag(np.full(77, np.inf))
    assert (truth[apart.argmin(1)] == truth).mean() > 0.95


MAPS, _ = planted()
NAN = MAPS.copy()
NAN[3, 1, 2] = np.nan
REFUSED = {
    "NaN": (lambda: spray(NAN, key=KEY), r"has 1 NaN or infinite values \(the first at index \(3, 1, 2\)\)"),
    "equal": (lambda: spray(np.ones((5, 4)), key=KEY), "are constant: all 5 examples"),
    "two": (lambda: spray(MAPS[:2], key=KEY), "at least 3 examples"),
    "many": (lambda: spray(MAPS, key=KEY, k=100), "`k` is 100, but there are 77 attributions"),
    "k of 0": (lambda: spray(MAPS, key=KEY, k=0), "`k` has to be at least 1, not 0"),
    "norm": (lambda: spray(MAPS, key=KEY, norm="l3"), "`norm` is 'l3'"),
    "size": (lambda: spray(MAPS, key=KEY, size=9), r"`size` is 9, but the maps have shape \(8, 8\)"),
    "sigma": (lambda: spray(MAPS, key=KEY, sigma=0.0), "`sigma` has to be finite and positive"),
    "columns": (lambda: spray({"a": MAPS}, key=KEY), "has the columns a; pass the one to cluster"),
    "text": (lambda: spray("maps", key=KEY), "`attributions` is 'maps'; pass an array"),
    "layout": (lambda: cluster_places(MAPS, how="lle"), "`how` is 'lle'"),
    "cluster": (lambda: spray(MAPS, key=KEY).members(7), "there are 3 clusters, from 0; 7 is none"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_clustered_is_refused(name):
    call, words = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=words):
        call()
