"""The benchmark's world of known features: rates, trees, exclusion, correlation; and its compiled training, tiny."""

import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

from bench import sae


@pytest.mark.slow
def test_features_fire_by_their_law():
    size = sae.SMALL
    world = sae.make_world(jax.random.key(0), size)
    h, sizes = sae.sample(world, jax.random.key(1), 4096)
    sizes, parent, active = np.asarray(sizes), np.asarray(world.parent), np.asarray(sizes) > 0
    np.testing.assert_allclose(h, sizes @ world.directions + world.base[None], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(world.directions, axis=1), 1, rtol=1e-5)
    child = np.flatnonzero(parent >= 0)
    assert len(child) == 128
    assert not (active[:, child] & ~active[:, parent[child]]).any()  # no child without its parent
    for root in range(3):
        assert active[:, parent == root].sum(axis=1).max() == 1  # one child at a time
    ranks = np.arange(1, size.features + 1) ** -0.5
    expected = 5e-4 + (size.most - 5e-4) * (ranks - ranks.min()) / (ranks.max() - ranks.min())
    roots = np.arange(size.roots)
    np.testing.assert_allclose(active[:, roots].mean(0), expected[roots], atol=0.03)
    assert 0.6 < active.mean(0)[child].sum() / expected[child].sum() < 1.1  # exclusion is made up for, roughly
    alone = sizes[:, 0][active[:, 0]]
    assert abs(alone.mean() - 5) < 0.3
    deep = sae.trees(sae.FULL)
    assert [int(np.sum(np.asarray(sae.depth_of(jnp.asarray(deep), 3)) == d)) for d in (1, 2, 3)] == [512, 2048, 8192]


@pytest.mark.slow
def test_the_gpus_path_runs_tiny_with_products_in_bfloat16():
    (case,) = sae.gpu_cases(quick=True)
    losses = np.asarray(case.programs[0].run())
    assert losses.shape == (20,)
    assert np.isfinite(losses).all()
    assert losses[-5:].mean() < losses[:5].mean()
