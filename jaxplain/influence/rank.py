"""Rank correlation, column by column."""

from __future__ import annotations

from typing import Any

import numpy as np


def ranks(values: Any) -> np.ndarray:
    """Ranks within each column of `[M, Q]`, the mean of theirs for equal values."""
    values = np.asarray(values, np.float64)
    order = np.argsort(values, axis=0, kind="stable")
    ordered, places = np.take_along_axis(values, order, 0), np.arange(len(values))[:, None]
    fresh = np.ones((len(values) + 1, values.shape[1]), bool)  # where a run of equal values begins, and after the last
    fresh[1:-1] = ordered[1:] != ordered[:-1]
    first = np.maximum.accumulate(np.where(fresh[:-1], places, 0), axis=0)
    last = np.minimum.accumulate(np.where(fresh[1:], places, len(values))[::-1], axis=0)[::-1]
    found = np.empty_like(values)
    np.put_along_axis(found, order, (first + last) / 2, 0)
    return found


def rank_correlation(first: Any, second: Any) -> np.ndarray:
    """Spearman's correlation of each column of `[M, Q]`, `[Q]`; 0 where a column is constant."""
    a, b = (ranks(values) - (len(values) - 1) / 2 for values in (first, second))
    size = np.sqrt(np.sum(a**2, axis=0) * np.sum(b**2, axis=0))
    return np.divide(np.sum(a * b, axis=0), size, out=np.zeros(a.shape[1]), where=size > 0)
