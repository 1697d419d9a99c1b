"""The drift of explanations: scipy's rank correlation with the last row."""

import jax
import numpy as np
import pytest
from scipy import stats

from jaxplain import train


def test_is_the_rank_correlation_with_the_end():
    maps = np.random.default_rng(0).normal(size=(5, 3, 4)).round(1).astype(np.float32)
    found = train.explanation_drift(maps)
    wanted = [stats.spearmanr(row.ravel(), maps[-1].ravel()).statistic for row in maps]
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    batch = np.stack([maps, maps[::-1]])
    np.testing.assert_allclose(jax.vmap(train.explanation_drift)(batch)[0], found, rtol=1e-5)
    parts = train.explanation_drift({"a": maps[:, 0], "b": maps[:, 1:]})
    np.testing.assert_allclose(parts, found, rtol=1e-5)
    moved = train.explanation_drift(3 * maps + 1)
    np.testing.assert_allclose(moved, found, rtol=1e-5)


def test_zero_has_no_ranks():
    maps = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [3.0, 2.0, 4.0]], np.float32)
    found = train.explanation_drift(maps)
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], [0.5, 1.0], rtol=1e-6)


def test_wrong_calls_are_told():
    for given, kind, words in (
        (np.ones((1, 4)), ValueError, "1 checkpoints of 4 values"),
        (np.ones(4), ValueError, "4 checkpoints of 1 values"),
        (np.array([[1.0, 2.0], [3.0, 3.0]]), ValueError, "the last of the `attributions` is constant"),
        (np.full((2, 2), np.nan), ValueError, "`attributions`"),
        (np.ones((2, 2), complex), TypeError, "complex"),
        ({"a": np.ones((2, 2)), "b": np.ones((3, 2))}, ValueError, "one common leading"),
        (None, (TypeError, ValueError), "`attributions`"),
        ("maps", TypeError, "`attributions`"),
    ):
        with pytest.raises(kind, match=f"explanation_drift: .*{words}"):
            train.explanation_drift(given)
