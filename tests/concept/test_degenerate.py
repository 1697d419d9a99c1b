"""What has no answer is refused: many parts at once, no direction, copies of units, half of the examples alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

import jaxplain
from jaxplain import concept
from jaxplain.concept.autoencoder import fitting
from jaxplain.concept.cluster.graph import affinity, laplacian, smallest

KEY = jax.random.key(0)


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_parts_of_a_large_graph_are_all_counted(seed):
    rng = np.random.default_rng(seed)
    rows = np.repeat(rng.normal(size=(8, 16)) * 20, 200, 0) + rng.normal(size=(1600, 16)) * 0.3
    near = affinity(rows.astype(np.float32), 10, None, 256)
    parts, labels = connected_components(near)
    assert parts >= 8
    matrix = laplacian(near)
    values, vectors = smallest(matrix, parts + 2, near)
    assert np.count_nonzero(values < 1e-9) == parts
    assert values[parts] > 1e-4
    np.testing.assert_allclose(matrix @ vectors, vectors * values[None], atol=1e-6)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(parts + 2), atol=1e-6)
    np.testing.assert_allclose(values[parts:], np.linalg.eigvalsh(matrix.toarray())[parts : parts + 2], atol=1e-6)
    if parts == 8:
        found = concept.spray(rows, key=KEY, norm="none")
        assert found.count == 8
        assert len({(a, b) for a, b in zip(found.labels.tolist(), labels.tolist(), strict=True)}) == 8


def test_a_width_that_joins_nothing_is_refused():
    rows = np.random.default_rng(0).normal(size=(60, 5))
    with pytest.raises(ValueError, match=r"spray: `sigma` .* 60 of 60 attributions without a neighbour"):
        concept.spray(rows, key=KEY, sigma=1e-3)
    apart = np.repeat(100 * np.eye(20), 4, axis=0) + 0.01 * np.random.default_rng(1).normal(size=(80, 20))
    with pytest.raises(ValueError, match="spray: the graph falls into more than 16 parts"):
        concept.spray(apart, key=KEY, norm="none", neighbours=3)
    assert concept.spray(apart, key=KEY, norm="none", neighbours=3, most=24).count == 20


@pytest.mark.parametrize("how", ["ridge", "lda", "mean", "logistic"])
@pytest.mark.sampled(2)
def test_a_concept_without_a_direction_is_refused(how):
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    signs = np.r_[np.ones(40), -np.ones(40)]
    for order in (np.arange(40), np.random.default_rng(1).permutation(40)):
        for move in (0, 1000):
            with pytest.raises(ValueError, match="have no direction"):
                concept.concept_vectors(np.r_[rows, rows[order]] + move, signs, how=how, fraction=0)
    moved = rows + np.array([[0.01, 0, 0]], np.float32)
    found = concept.concept_vectors(np.r_[rows, moved] + 100, signs, how=how, fraction=0)
    assert abs(float(found.vectors[0, 0])) > 0.9


def test_a_unit_that_is_a_sum_of_others_has_no_covariance_to_invert():
    for seed in range(4):
        rows = np.random.default_rng(seed).normal(size=(60, 4)).astype(np.float32)
        rows = np.c_[rows, rows[:, 0] + rows[:, 1]]
        signs = np.r_[np.ones(30), -np.ones(30)]
        with pytest.raises(ValueError, match="copy of others"):
            concept.concept_vectors(rows, signs, how="lda")
        assert np.isfinite(concept.concept_vectors(rows, signs, how="lda", penalty=0.01).vectors).all()
    units = rows[:, :4] * np.array([1e-3, 1.0, 1e3, 1.0], np.float32)  # units of unlike size are regular
    assert np.isfinite(concept.concept_vectors(units, signs, how="lda").vectors).all()


def test_half_of_the_examples_may_be_alike():
    rows = np.r_[np.zeros((9, 1)), np.ones((2, 1))]
    found = concept.prototypes(rows, k=1, criticisms=2)
    assert np.isfinite(found.discrepancy).all()
    assert np.isfinite(found.witness).all()
    regions = concept.concept_regions(rows, np.r_[np.ones(9), -np.ones(2)].astype(int), fraction=0)
    assert float(regions.sigma[0]) == 1
    assert np.sign(concept.region_scores(regions, np.array([[0.0], [1.0]])))[:, 0].tolist() == [1, -1]


def test_crops_do_not_hide_a_layer_with_negative_values():
    def f(x, label):
        with jax.named_scope("lay"):
            h = jnp.stack([x - 0.2, 0.9 - x], axis=-1)
        return h.sum()

    x = np.random.default_rng(0).random((4, 6, 6)).astype(np.float32)
    with pytest.raises(ValueError, match=r"'lay' has .* negative values"):
        concept.craft(f, "lay", jnp.asarray(x), jnp.zeros(4, int), k=2, window=3, samples=4)


@pytest.mark.slow
def test_dead_atoms_of_a_stream_are_counted_in_its_own_batches(monkeypatch):
    rows, made = jax.random.normal(KEY, (64, 4)), []
    original = fitting.SparseModel
    monkeypatch.setattr(fitting, "SparseModel", lambda *args: made.append(args[2]) or original(*args))
    for given, settings in ((rows, {"batch_size": 16}), ([rows[:32], rows[32:]], {})):
        concept.train_autoencoder(given, 4, concept.top_k(1), key=KEY, epochs=1, **settings)
    assert made == [1600, 3200]


@pytest.mark.slow
def test_jump_codes_have_a_forward_derivative():
    dictionary = concept.train_autoencoder(
        jax.random.normal(KEY, (64, 4)), 6, concept.jump_relu(), key=KEY, epochs=1, batch_size=32
    ).dictionary
    h, step = jax.random.normal(jax.random.key(1), (2, 4))
    codes, moved = jax.jvp(dictionary.encode, (h,), (step,))
    np.testing.assert_allclose(moved, jax.jacrev(dictionary.encode)(h) @ step, rtol=1e-4, atol=1e-6)
    assert codes.shape == (6,)
    assert jaxplain.gradient(lambda h: dictionary.encode(h).sum())(h).shape == (4,)


def test_half_precision_activations_train_the_centre_as_others_do():
    rows = 3 + jax.random.normal(KEY, (128, 4))
    settings = {"key": KEY, "epochs": 20, "batch_size": 32}
    ends = []
    for dtype in (jnp.bfloat16, jnp.float32):
        given = rows.astype(jnp.bfloat16).astype(dtype)
        params = concept.train_autoencoder(given, 6, concept.top_k(2), **settings).params["trained"]
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
        ends.append(params["offset"])
    np.testing.assert_allclose(*ends, atol=0.03)
