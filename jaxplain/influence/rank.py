"""Rank correlation, column by column."""

from __future__ import annotations

from typing import Any

import numpy as np


def ranks(values: Any) -> np.ndarray:
    """Ranks within each column of `[M, Q]`, the mean of theirs for equal values."""
    values = np.asarray(values, np.float64)
    ordered = np.sort(values, axis=0)
    found = np.empty_like(values)
    for column in range(values.shape[1]):
        left, right = (np.searchsorted(ordered[:, column], values[:, column], side) for side in ("left", "right"))
        found[:, column] = (left + right - 1) / 2
    return found


def rank_correlation(first: Any, second: Any) -> np.ndarray:
    """Spearman's correlation of each column of `[M, Q]`, `[Q]`; 0 where a column is constant."""
    a, b = (ranks(values) - (len(values) - 1) / 2 for values in (first, second))
    size = np.sqrt(np.sum(a**2, axis=0) * np.sum(b**2, axis=0))
    return np.divide(np.sum(a * b, axis=0), size, out=np.zeros(a.shape[1]), where=size > 0)
