"""What is clustered: attributions as rows of equal weight, from arrays or from a folder of explanations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxplain import check

NORMS = ("none", "l1", "l2", "max")


def maps_of(attributions: Any, name: str) -> np.ndarray:
    """Attributions `[N, ...]` of arrays, or of what `open_explanations` returns, read whole in float32."""
    columns = getattr(attributions, "arrays", None)
    if columns is None and isinstance(attributions, Mapping):
        columns = attributions
    if columns is None and hasattr(attributions, "keys") and hasattr(attributions, "__getitem__"):
        columns = {key: attributions[key] for key in attributions.keys()}  # noqa: SIM118 (no mapping)
    if isinstance(columns, Mapping):
        if "attribution" not in columns:
            raise ValueError(
                f"{name}: `attributions` has the columns {', '.join(map(str, columns))}; pass the one to cluster, such "
                "as opened['attribution']."
            )
        attributions = columns["attribution"]
    if not check.is_concrete(attributions):
        raise TypeError(f"{name}: `attributions` is being traced; clusters are found outside of jit and vmap.")
    if not hasattr(attributions, "shape") and not isinstance(attributions, list | tuple):
        raise TypeError(f"{name}: `attributions` is {check.short(attributions)}; pass an array [N, ...].")
    values = np.asarray(attributions)
    check.arrays(values, name, "attributions")
    check.real(values, name, "attributions")
    if values.ndim < 2 or len(values) < 3:
        raise ValueError(
            f"{name}: `attributions` has shape {values.shape}; it has to be [N, ...], a map for each of at least 3 "
            "examples."
        )
    values = values.astype(np.float32)
    check.finite(values, name, "attributions")
    return values


def pooled(values: np.ndarray, size: int | None, name: str) -> np.ndarray:
    """Maps `[N, H, W(, C)]` by their means in `size` x `size` fields; whole where `size` is None."""
    if size is None:
        return values
    check.count(size, name, "size")
    if values.ndim not in (3, 4) or min(values.shape[1:3]) < size:
        raise ValueError(
            f"{name}: `size` is {size}, but the maps have shape {values.shape[1:]}; it makes images [H, W] or "
            "[H, W, C] smaller. Pass size=None for others."
        )
    for axis in (1, 2):
        edges = np.floor(np.arange(size) * values.shape[axis] / size).astype(int)
        counts = np.diff(np.append(edges, values.shape[axis])).reshape(
            [-1 if a == axis else 1 for a in range(values.ndim)]
        )
        values = np.add.reduceat(values, edges, axis=axis) / counts
    return values.astype(np.float32)


def rows_of(values: np.ndarray, norm: str, name: str) -> np.ndarray:
    """Rows `[N, D]`, each divided by its norm, however small or large its values are; rows of zeros stay."""
    check.choice(norm, NORMS, name, "norm")
    rows = values.reshape(len(values), -1)
    if norm != "none":
        # By a power of two first, which is exact: squares of what a saturated probability leaves are 0 in float32.
        rows = np.ldexp(rows, -np.frexp(np.abs(rows).max(axis=1, keepdims=True))[1])
        size = {"l1": np.abs(rows).sum(1), "l2": np.sqrt((rows**2).sum(1)), "max": np.abs(rows).max(1)}[norm]
        rows = rows / np.where(size > 0, size, 1)[:, None]
    if (rows == rows[:1]).all():
        raise ValueError(
            f"{name}: `attributions` are constant: all {len(rows)} examples have the same map, so there is nothing to "
            "cluster."
        )
    return rows
