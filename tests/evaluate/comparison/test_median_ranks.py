"""Ranks of medians of standardized scores: outliers, directions, ties, what is undefined."""

import csv

import numpy as np

from jaxplain.evaluate.comparison.comparison import Comparison


def made(values, better):
    values = np.asarray(values, np.float64)
    methods, metrics, _ = values.shape
    names = tuple(f"m{k}" for k in range(methods))
    mean = np.nan_to_num(values).mean(-1)
    grid = np.zeros((methods, metrics))
    return Comparison(
        names, (False,) * methods, tuple(f"t{k}" for k in range(metrics)), better, "score", values, mean, mean, mean,
        np.isnan(values).sum(-1), grid > 0, grid[:, 0], grid[:, 0], 0.95,
    )  # fmt: skip


def test_one_outlier_decides_the_mean_and_not_the_median():
    quiet, better, worst = np.full(41, 1.0), np.full(41, 2.0), np.full(41, 0.5)
    quiet[7] = 1e4
    table = made(np.stack([quiet, better, worst])[:, None], ("higher",))
    assert table.ranks[:, 0].tolist() == [1, 2, 3]
    assert table.median_ranks[:, 0].tolist() == [2, 1, 3]
    assert table.standardized.min() == 0
    assert table.standardized.max() == 1
    np.testing.assert_allclose(table.median[:, 0], [1 / 3, 1, 0])  # the middle 95% run from 0.5 to 2


def test_units_of_metrics_fall_out_and_directions_count():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4, 1, 25)) + np.array([3.0, 1.0, 2.0, 0.0])[:, None, None]
    table = made(np.concatenate([scores, 1e6 * scores + 7, -scores], axis=1), ("higher", "higher", "lower"))
    np.testing.assert_allclose(table.median[:, 0], table.median[:, 1], atol=1e-9)
    assert table.median_ranks.T.tolist() == [[1, 3, 2, 4]] * 3
    assert table.mean_median_rank.tolist() == [1, 3, 2, 4]
    assert table.rank_spread.tolist() == [0, 0, 0, 0]


def test_the_spread_says_how_far_metrics_disagree():
    a = np.array([3.0, 2.0, 1.0])[:, None, None] + np.zeros((3, 1, 5))
    table = made(np.concatenate([a, a, -a, a], axis=1), ("higher", "higher", "higher", None))
    np.testing.assert_allclose(table.mean_median_rank, [5 / 3, 2, 7 / 3])
    np.testing.assert_allclose(table.rank_spread, [np.std([1, 1, 3]), 0, np.std([3, 3, 1])])
    assert np.isnan(table.median_ranks[:, 3]).all()
    assert "median rank" in str(table)
    assert "1.7 ±0.9" in str(table)


def test_ties_and_what_is_undefined(tmp_path):
    a = np.stack([np.full(5, 1.0), np.full(5, 1.0), np.full(5, np.nan), np.array([2.0, np.nan, 2.0, 2.0, np.nan])])
    table = made(a[:, None], ("lower",))
    np.testing.assert_array_equal(table.median_ranks[:, 0], [1.5, 1.5, np.nan, 3])
    constant = made(np.ones((3, 1, 4)), ("higher",))
    assert constant.median_ranks[:, 0].tolist() == [2, 2, 2]
    table.to_csv(tmp_path / "grid.csv")
    with open(tmp_path / "grid.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["median_rank"] for row in rows] == ["1.5", "1.5", "nan", "3.0"]
