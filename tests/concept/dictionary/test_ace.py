"""ACE: segments of planted colours fall into clusters by colour; rare ones are left out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import concept

COLOURS = np.array([[1.0, 0.1, 0.1], [0.1, 1.0, 0.1], [0.1, 0.1, 1.0]], np.float32)


def apply(params, x):
    with jax.named_scope("mean"):
        h = x.mean(axis=(1, 2)) @ params
    return h


F = jaxplain.logit(apply, jnp.eye(3))


def quilts():
    """Images of four squares of one colour each; the third colour is in the first image alone."""
    groups = np.repeat(np.repeat(np.arange(4).reshape(2, 2), 4, 0), 4, 1)
    which = np.array([[0, 1, 2, 0], [1, 0, 0, 1], [0, 0, 1, 1]])
    noise = np.random.default_rng(0).uniform(0, 0.02, (3, 8, 8, 3)).astype(np.float32)
    return jnp.asarray(COLOURS[which[:, groups]] + noise), np.stack([groups] * 3), which


@pytest.mark.slow
def test_segments_cluster_by_what_the_layer_sees_and_rare_ones_are_left_out():
    x, groups, which = quilts()
    found = concept.ace(F, "mean", x, groups, 0, k=3, key=jax.random.key(0))
    colours = which[found.examples, found.segments]
    assert found.dictionary.size == 2
    assert (found.labels[colours == 2] == -1).all()
    kinds = [set(found.labels[colours == c].tolist()) for c in (0, 1)]
    assert sorted(map(sorted, kinds)) == [[0], [1]]
    # a segment fills the input: its activations are its colour (edges are mixed with the ground by half a pixel)
    np.testing.assert_allclose(found.rows, COLOURS[colours], atol=0.15)
    assert repr(found).endswith("11 of 12 segments)")
    for label, centre in enumerate(found.dictionary.atoms):
        np.testing.assert_allclose(centre, found.rows[found.labels == label].mean(axis=0), atol=1e-5)
    again = concept.ace(F, "mean", x, groups, 0, k=3, key=jax.random.key(0), batch_size=5)
    np.testing.assert_allclose(again.rows, found.rows, atol=1e-6)
    np.testing.assert_array_equal(again.labels, found.labels)


def test_several_resolutions_and_another_ground():
    x, groups, _ = quilts()
    halves = groups // 2
    found = concept.ace(F, "mean", x, np.stack([groups, halves]), 0, k=2, key=jax.random.key(0), baseline=0.5)
    assert len(found.rows) == 12 + 6
    assert found.dictionary.site.layer == "mean"


def test_bad_calls_are_told():
    x, groups, _ = quilts()
    key = jax.random.key(0)
    for bad, words in {
        lambda: concept.ace(F, "mean", x, groups[:2], 0, k=2, key=key): r"`groups` has shape \(1?,? ?2",
        lambda: concept.ace(F, "mean", x, groups / 2, 0, k=2, key=key): "pass whole numbers",
        lambda: concept.ace(F, "mean", x, groups, 0, k=13, key=key): "`k` is 13, but there are 12",
        lambda: concept.ace(F, "mean", x, groups, 0, k=3, key=key, least=4): "no cluster has segments of 4 images",
        lambda: concept.ace(F, "mean", x[0, 0], groups, 0, k=3, key=key): "segments are of images",
        lambda: concept.ace(F, "mean", x * jnp.nan, groups, 0, k=3, key=key): "ace: `x` has",
    }.items():
        with pytest.raises((ValueError, TypeError), match=words):
            bad()
