"""Ranks of columns with ties, against scipy's."""

import numpy as np
import scipy.stats

from jaxplain.influence.rank import rank_correlation, ranks


def test_ranks_are_means_where_values_are_equal():
    draw = np.random.default_rng(0)
    for shape in ((1, 1), (2, 3), (7, 2), (40, 5)):
        for distinct in (1, 2, 5, 1000):
            values = draw.integers(0, distinct, shape).astype(float)
            np.testing.assert_array_equal(ranks(values), scipy.stats.rankdata(values, axis=0) - 1)
    first, second = draw.integers(0, 4, (2, 12, 3)).astype(float)
    right = [scipy.stats.spearmanr(first[:, q], second[:, q]).statistic for q in range(3)]
    np.testing.assert_allclose(rank_correlation(first, second), right, rtol=1e-12)
    assert rank_correlation(np.ones((5, 1)), draw.normal(size=(5, 1))).tolist() == [0.0]
