"""Random directions in the space of params, scaled as the weights they move: filter by filter, or layer by layer.

Which axes of a weight count its filters is read from the traced program (`weight_axes`).
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.train.landscape.objective import MeanLoss
from jaxplain.train.weight_axes import weight_axes
from jaxplain.types import Array, Pytree

NORMALIZATIONS = ("filter", "layer", "none")
Axes = tuple[tuple[int, ...] | None, ...]
"""Of each trained leaf the axes that count its filters, or None where it is no weight."""


@functools.partial(jax.jit, static_argnames=("axes", "normalization"))
def random_directions(key: Array, trained: Pytree, axes: Axes, normalization: str) -> tuple[Pytree, Pytree]:
    """Two Gaussian directions of the structure of `trained`, in float32 or wider, scaled as `normalization` says."""
    first, second = (_random_direction(jax.random.fold_in(key, i), trained, axes, normalization) for i in range(2))
    return first, second


def _random_direction(key: Array, trained: Pytree, axes: Axes, normalization: str) -> Pytree:
    leaves, structure = jax.tree.flatten(trained)
    drawn = []
    for place, (leaf, own) in enumerate(zip(leaves, axes, strict=True)):
        wide = jnp.asarray(leaf, jnp.promote_types(jnp.result_type(leaf), jnp.float32))
        draw = jax.random.normal(jax.random.fold_in(key, place), wide.shape, wide.dtype)
        if normalization == "none":
            drawn.append(draw)
        elif own is None:
            drawn.append(jnp.zeros_like(draw))
        else:
            drawn.append(draw * _norm(wide, own, normalization) / _norm(draw, own, normalization))
    return jax.tree.unflatten(structure, drawn)


def _norm(values: Any, filters: tuple[int, ...], normalization: str) -> Any:
    """Norms, with axes of length 1 where they were taken along: of each filter, or of all of them."""
    along = tuple(a for a in range(values.ndim) if normalization == "layer" or a not in filters)
    return (values**2).sum(axis=along, keepdims=True) ** 0.5


def filter_axes(objective: Any, model: Any, params: Pytree) -> Axes:
    """The axes of each trained leaf that count its filters; None where it is no weight (a bias, a scale).

    A leaf that no product takes as it is (a weight computed with first, a table of positions) counts its filters
    along its last axis, if more than one of its axes is longer than 1.
    """
    trained, rest = model.partition(params)
    leaves, structure = jax.tree.flatten(trained)

    def of(leaves: list[Array]) -> Any:
        whole = model.combine(jax.tree.unflatten(structure, leaves), rest)
        if not isinstance(objective, MeanLoss):
            return objective(whole)
        return objective.model(whole, *jax.tree.map(lambda a: a[:1], objective.data.inputs))

    found = weight_axes(of, leaves)
    wide = [sum(length > 1 for length in jnp.shape(leaf)) > 1 for leaf in leaves]
    last = [(jnp.ndim(leaf) - 1,) if many else None for leaf, many in zip(leaves, wide, strict=True)]
    return tuple(found[place][0] if place in found else last[place] for place in range(len(leaves)))


def check_norms(trained: Pytree, axes: Axes, normalization: str, name: str) -> None:
    """Require weights to scale a direction by, and that none of their filters (or layers) is zero throughout."""
    if normalization == "none":
        return
    if not any(own is not None for own in axes):
        raise ValueError(
            f"{name}: none of the params is a weight (what a product or a convolution sums over), so that there is no "
            "filter to scale a direction by. Pass normalization='none' for directions of independent normal numbers."
        )
    for (path, leaf), own in zip(jax.tree_util.tree_leaves_with_path(trained), axes, strict=True):
        if own is None or not check.is_concrete(leaf):
            continue
        norms = _norm(np.asarray(leaf, float), own, normalization)
        if (norms == 0).any():
            counted = f"{int((norms == 0).sum())} of its {norms.size} filters are" if norms.size > 1 else "it is"
            raise ValueError(
                f"{name}: `params{jax.tree_util.keystr(path)}` cannot scale a direction: {counted} zero. Pass "
                "normalization='layer', which scales by all of a weight, or 'none'."
            )
