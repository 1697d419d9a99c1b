"""How a score changes along concept vectors, and what is said of many examples: its mean, or the share that rises."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.concept.vector.direction import activations_like
from jaxplain.concept.vector.labels import listed
from jaxplain.explain import explain_batch, gradient
from jaxplain.program import public
from jaxplain.types import Array, ArrayLike

STATISTICS = ("mean", "score")


@public
def concept_sensitivity(
    head: Callable[..., Any], vectors: Any, activations: ArrayLike, *args: Any, batch_size: int = 64
) -> Array:
    """Differentiate a score along concept vectors, at each of some activations: grad head(h) . v.

    Args:
        head: A score of one layer, `head(h, *args) -> scalar`: the second part of `jaxplain.split(f, path)`, which
            takes the input after h, or any function.
        vectors: `ConceptVectors`, or an array `[C, ...]` of the layer's shape, not scaled.
        activations: `[B, ...]`, where to differentiate: the layer's values of B examples.
        *args: Further arguments of the head, each with a leading axis B, or one number for all.
        batch_size: Examples at once.

    Returns:
        `[B, C]`, in units of the score for a length of 1 along the vector. Cost: B gradients of the head, and B C
        products.

    Raises:
        ValueError: Shapes that do not fit, NaN in what goes in or comes out, with their number and place.
        TypeError: A head that is no function or returns no number.

    Example:
        >>> import numpy as np
        >>> concept_sensitivity(lambda h: 3.0 * h[0] - h[1], np.eye(2), np.zeros((1, 2))).tolist()
        [[3.0, -1.0]]

    Source: Kim et al. 2018, equation 1.
    """
    lines = activations_like(vectors, "concept_sensitivity")
    slopes = gradients(head, activations, args, batch_size, "concept_sensitivity")
    fits(slopes, lines, "concept_sensitivity")
    flat = slopes.reshape(len(slopes), -1)
    return jnp.matmul(flat, lines.reshape(len(lines), -1).T.astype(flat.dtype), precision=jax.lax.Precision.HIGHEST)


def gradients(head: Callable[..., Any], activations: Any, args: tuple[Any, ...], batch_size: int, name: str) -> Array:
    """Gradients of the head, `[B, ...]`, finite, some examples at a time."""
    check.function(head, name, "head", "(h, *args) -> scalar")
    check.count(batch_size, name, "batch_size")
    activations = listed(activations, name, "activations")
    check.arrays(activations, name, "activations")
    if not hasattr(activations, "shape") or np.ndim(activations) < 2:
        raise ValueError(f"{name}: `activations` is {check.short(activations)}; pass one array [B, ...].")
    values = jnp.asarray(activations)
    check.differentiable(values, name, "activations")
    check.finite(values, name, "activations")
    explain, count = gradient(head), len(values)

    def rows(value: Any, start: int) -> Any:
        cut = slice(start, start + batch_size)
        shared = not hasattr(value, "shape") or np.ndim(value) == 0
        return value if shared else value[cut]

    pieces = [
        explain_batch(explain, values[start : start + batch_size], *jax.tree.map(lambda v, s=start: rows(v, s), args))
        for start in range(0, count, batch_size)
    ]
    slopes = jnp.concatenate(pieces) if len(pieces) > 1 else pieces[0]
    wrong = ~np.isfinite(np.asarray(slopes)).reshape(count, -1).all(axis=1)
    if wrong.any():
        raise ValueError(
            f"{name}: the gradient of `head` is NaN or infinite at {wrong.sum()} of {count} activations (the first is "
            f"number {np.flatnonzero(wrong)[0]})."
        )
    return slopes


def fits(slopes: Array, lines: Array, name: str) -> None:
    """Require vectors of the shape of the activations."""
    if slopes.shape[1:] != lines.shape[1:]:
        raise ValueError(
            f"{name}: the vectors have the shape {lines.shape[1:]}, but the activations {slopes.shape[1:]}. They have "
            "to be of one layer."
        )


def interval(sensitivities: np.ndarray, statistic: str, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends `[C]` of the interval over examples: of the mean by its standard error, of the score by Wilson's."""
    z, count = NormalDist().inv_cdf(0.5 + confidence / 2), len(sensitivities)
    if statistic == "mean":
        centre = sensitivities.mean(axis=0)
        spread = sensitivities.std(axis=0, ddof=1) if count > 1 else np.full(centre.shape, np.nan)
        half = z * spread / np.sqrt(count)
    else:
        part = (sensitivities > 0).mean(axis=0)
        scale = 1 + z**2 / count
        centre = (part + z**2 / (2 * count)) / scale
        half = z * np.sqrt(part * (1 - part) / count + z**2 / (4 * count**2)) / scale
    return centre - half, centre + half


def statistic_of(flat: Array, vectors: Array, statistic: str) -> Array:
    """Of the gradients `[B, D]` along each vector `[R, D]`: the mean, or the share of the examples where it rises."""
    along = jnp.matmul(flat, vectors.T, precision=jax.lax.Precision.HIGHEST)
    return along.mean(axis=0) if statistic == "mean" else (along > 0).mean(axis=0, dtype=flat.dtype)


def chosen_pool(vectors: Any, pool: Any, name: str) -> np.ndarray:
    """Rows of the activations that random concepts are drawn from, enough for the largest of the concepts."""
    labels = vectors.concepts
    if pool is None:
        mask = ~(labels == 1).any(axis=0)
    else:
        mask = np.asarray(pool)
        if mask.dtype != bool or mask.shape != labels.shape[1:]:
            raise ValueError(
                f"{name}: `pool` has dtype {mask.dtype} and shape {mask.shape}; pass a boolean for each of the "
                f"{labels.shape[1]} activations that the vectors were fitted on, True for random examples."
            )
    rows, need = np.flatnonzero(mask), int(np.count_nonzero(labels, axis=1).max())
    if len(rows) < need:
        raise ValueError(
            f"{name}: there are {len(rows)} random examples to draw concepts from, but the largest concept was fitted "
            f"on {need}. Pass more examples of no concept to concept_vectors (0 or -1 in every row), or say which are "
            "random by `pool`."
        )
    return rows
