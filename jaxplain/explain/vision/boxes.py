"""Boxes: how far they overlap, which of them are boxes at all."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.explain.vision.pair import is_known
from jaxplain.types import Array


def overlap(boxes: Array, box: Array) -> Array:
    """Intersection over union of boxes `[N, 4]` with one that has an area; 0 of those that have none."""
    low, high = jnp.maximum(boxes[:, :2], box[None, :2]), jnp.minimum(boxes[:, 2:], box[None, 2:])
    shared = jnp.maximum(high - low, 0).prod(axis=-1)
    area = jnp.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(axis=-1)
    return shared / (area + (box[2:] - box[:2]).prod() - shared)


def joined(box: Any, name: str) -> Any:
    """Require boxes `[..., 4]`, as an array or as four numbers or arrays, that have an area where they are concrete."""
    if isinstance(box, tuple | list) and box:  # a driver made rows of each number, or traces them
        box = (np if is_known(box) else jnp).stack(box, axis=-1)
    if np.shape(box)[-1:] != (4,):
        raise ValueError(
            f"{name}: the `target`'s box has shape {np.shape(box)}; a box is the 4 numbers (x0, y0, x1, y1)."
        )
    if check.is_concrete(box):
        rows = np.asarray(box, np.float64).reshape(-1, 4)
        wrong = rows[~(np.isfinite(rows).all(axis=1) & (rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1]))]
        if len(wrong):
            raise ValueError(
                f"{name}: the `target`'s box {tuple(wrong[0].tolist())} has no area. A box is (x0, y0, x1, y1) with "
                "x0 < x1 and y0 < y1, in the units of the model's boxes."
            )
    return box


def has_area(box: Array) -> Any:
    """Whether one traced box has an area, as a flag."""
    return jnp.isfinite(box).all() & (box[2:] > box[:2]).all()
