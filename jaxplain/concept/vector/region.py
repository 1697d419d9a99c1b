"""Concept regions: a kernel in place of a line, for concepts that lie in several places of a layer's activations."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.concept.distance import median_distance, safe_shift, squared_distances
from jaxplain.concept.vector.direction import require_vectors
from jaxplain.concept.vector.fit import EXACT
from jaxplain.concept.vector.labels import activations_of, chosen, labels_of, listed, share
from jaxplain.program import Function, chunked_map, public
from jaxplain.types import Array, ArrayLike, Number


class RegionScore(Function):
    """How far inside a concept's region activations lie, `(h) -> scalar`. Made by `ConceptRegions.score`."""

    rows: Array
    weights: Array
    bias: Array
    sigma: Array

    def __call__(self, h: Array, *_: Any) -> Array:
        """sum_i a_i k(h_i, h) + b, positive inside."""
        return jnp.dot(self.weights, kernel(h.reshape(1, -1), self.rows, self.sigma)[0], precision=EXACT) + self.bias


@dataclasses.dataclass(frozen=True, repr=False)
class ConceptRegions:
    """Regions of C concepts in one layer. Made by `concept_regions`.

    index: `[C, m]`, the examples of each; weights: `[C, m]`, those of their kernels; biases: `[C]`; sigma: `[C]`, the
    kernel's width, in units of activation; accuracy: `[C]`, as in `ConceptVectors`; activations: `[N, ...]`.
    """

    index: Array
    weights: Array
    biases: Array
    sigma: Array
    accuracy: Array
    activations: Array
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.weights)

    def __repr__(self) -> str:
        accuracy = np.asarray(self.accuracy)
        return f"ConceptRegions: {len(self)}, accuracy on held-out examples {np.array2string(accuracy, precision=2)}"

    def score(self, concept: int) -> RegionScore:
        """The score `(h) -> scalar` of one region, positive inside: any method explains it, or finds its gradient."""
        number = check.count(concept, "ConceptRegions.score", "concept", 0)
        if number >= len(self):
            raise ValueError(f"ConceptRegions.score: there are {len(self)} concepts, from 0; {number} is none of them.")
        rows = self.activations.reshape(len(self.activations), -1)[self.index[number]]
        return RegionScore(rows, self.weights[number], self.biases[number], self.sigma[number])


jax.tree_util.register_dataclass(
    ConceptRegions, ["index", "weights", "biases", "sigma", "accuracy", "activations"], ["names"]
)


def kernel(first: Array, second: Array, sigma: Any) -> Array:
    """exp(-|a - b|^2 / (2 sigma^2)) of all pairs, in the unit of the width, so that squares of both are numbers."""
    unit = -jnp.frexp(sigma)[1]
    first, second, sigma = (jnp.ldexp(value, unit) for value in (first, second, sigma))
    return jnp.exp(-squared_distances(first, second) / (2 * sigma**2))


@public
def concept_regions(
    activations: ArrayLike,
    concepts: Any,
    *,
    sigma: Number | None = None,
    penalty: Number = 0.1,
    fraction: float = 0.25,
    batch_size: int = 64,
) -> ConceptRegions:
    """Fit a region for each concept by a kernel: a concept need not be a direction, nor lie in one place.

    With k(a, b) = exp(-|a - b|^2 / (2 sigma^2)) the region is where sum_i a_i k(h_i, h) + b is positive, with a and b
    the regularised least squares of labels 1 / -1: (K + penalty I) a + b = y, sum a = 0. It does not change when the
    activations are turned or mirrored. The source takes a support vector classifier, which has no closed form.

    Args:
        activations: As in `concept_vectors`.
        concepts: As in `concept_vectors`.
        sigma: Width of the kernel, in units of activation: a number, or one for each concept. None: the median distance
            between the examples of a concept.
        penalty: On the weights, as the kernel's 1 on its diagonal.
        fraction: As in `concept_vectors`.
        batch_size: Concepts at once.

    Returns:
        `ConceptRegions`. Cost: C (twice, with an accuracy) times m^2 D + m^3 operations for m examples of a concept.

    Raises:
        ValueError, TypeError: As `concept_vectors`; a width or a penalty that is not positive.

    Example:
        >>> import numpy as np
        >>> line = np.linspace(-3.0, 3.0, 25)[:, None]
        >>> found = concept_regions(line, np.abs(line[:, 0]) > 1.6, sigma=1.0)
        >>> [bool(found.score(0)(np.array([h])) > 0) for h in (-2.5, 0.0, 2.5)]
        [True, False, True]

    Source: Crabbe and van der Schaar 2022, "Concept activation regions: a generalized framework for concept-based
    explanations", definition 2.1 and section 2.2; Suykens and Vandewalle 1999 (least squares).
    """
    share(fraction, "concept_regions")
    check.count(batch_size, "concept_regions", "batch_size")
    check.one_number(penalty, "concept_regions", "penalty")
    values = activations_of(activations, "concept_regions")
    labels, names = labels_of(concepts, len(values), "concept_regions")
    flat = values.reshape(len(values), -1)
    picked = chosen(labels, fraction)
    widths = jnp.zeros(len(labels), flat.dtype)
    if sigma is not None:
        check.positive(sigma, "concept_regions", "sigma")
        if np.shape(sigma) not in ((), (len(labels),)):
            raise ValueError(f"concept_regions: `sigma` has shape {np.shape(sigma)}; pass a number or [{len(labels)}].")
        widths = jnp.broadcast_to(jnp.asarray(sigma, flat.dtype), widths.shape)
    weights, biases, used, accuracy = _fit_regions(
        flat, *picked, widths, float(penalty), min(batch_size, len(labels)), fraction > 0
    )
    require_vectors(weights, names, "concept_regions")
    return ConceptRegions(jnp.asarray(picked.rows), weights, biases, used, accuracy, values, names)


@functools.partial(jax.jit, static_argnames=("batch_size", "measured"))
def _fit_regions(
    values: Array, index: Array, signs: Array, kept: Array, widths: Array, penalty: Any, batch_size: int, measured: bool
) -> tuple[Array, Array, Array, Array]:
    def one(row: tuple[Array, ...]) -> tuple[Array, ...]:
        where, sign, keep, width = row
        sign, keep, rows = sign.astype(values.dtype), keep.astype(values.dtype), values[where]
        shift = safe_shift(rows)
        shifted = jnp.ldexp(rows, shift)
        used, squares = jnp.abs(sign), squared_distances(shifted, shifted)
        pairs = (used[:, None] * used[None] > 0) & ~jnp.eye(len(rows), dtype=bool)
        width = jnp.where(width > 0, width, jnp.ldexp(median_distance(jnp.where(pairs, squares, jnp.nan)), -shift))
        alike = kernel(rows, rows, width)
        if not measured:
            return *_least_squares(alike, sign, penalty), width, jnp.full((), jnp.nan, values.dtype)
        both = jnp.stack([sign, sign * keep])  # side by side, as in `fit_all`
        (weights, other), (bias, offset) = jax.vmap(lambda own: _least_squares(alike, own, penalty))(both)
        right = (sign * (jnp.matmul(alike, other, precision=EXACT) + offset) > 0).astype(values.dtype)
        shares = [jnp.sum(right * (1 - keep) * side) / jnp.sum((1 - keep) * side) for side in (sign > 0, sign < 0)]
        return weights, bias, width, (shares[0] + shares[1]) / 2

    return chunked_map(one, (index, signs, kept, widths), batch_size)


def _least_squares(alike: Array, signs: Array, penalty: Any) -> tuple[Array, Array]:
    """Weights and bias; those of rows with sign 0 are 0."""
    used = jnp.abs(signs)
    matrix = alike * used[:, None] * used[None] + jnp.diag(penalty * used + (1 - used))
    both = jax.scipy.linalg.solve(matrix, jnp.stack([signs, used], axis=1), assume_a="pos")
    bias = both[:, 0].sum() / both[:, 1].sum()
    return both[:, 0] - bias * both[:, 1], bias


@public
def region_scores(regions: ConceptRegions, activations: ArrayLike, *, batch_size: int = 64) -> Array:
    """Measure how far inside each concept's region activations lie; the share above 0 of a class is its TCAR score.

    Args:
        regions: What `concept_regions` made.
        activations: `[B, ...]`, of the same layer.
        batch_size: Activations at once.

    Returns:
        `[B, C]`, positive inside. Cost: B C m D operations.

    Raises:
        ValueError: Another shape, NaN. TypeError: No regions.

    Example:
        >>> import numpy as np
        >>> found = concept_regions(np.array([[0.0], [0.1], [1.0], [1.1]]), np.array([1, 1, -1, -1]))
        >>> (region_scores(found, np.array([[0.0], [1.0]])) > 0).tolist()
        [[True], [False]]

    Source: Crabbe and van der Schaar 2022, equation 3.
    """
    check.count(batch_size, "region_scores", "batch_size")
    activations = listed(activations, "region_scores", "activations")
    check.arrays(activations, "region_scores", "activations")
    values = jnp.asarray(activations)
    if values.ndim < 1 or values.shape[1:] != regions.activations.shape[1:]:
        raise ValueError(
            f"region_scores: `activations` has shape {values.shape}, but the regions are of a layer "
            f"{regions.activations.shape[1:]}; pass [B, ...] of that layer."
        )
    check.finite(values, "region_scores", "activations")
    flat = values.reshape(len(values), -1).astype(regions.weights.dtype)
    return _inside(regions, flat, min(batch_size, len(flat)))


@functools.partial(jax.jit, static_argnames="batch_size")
def _inside(regions: ConceptRegions, flat: Array, batch_size: int) -> Array:
    rows = regions.activations.reshape(len(regions.activations), -1)

    def one(row: tuple[Array, ...]) -> Array:
        where, weights, bias, sigma = row
        score = RegionScore(rows[where], weights, bias, sigma)
        return jax.lax.map(score, flat, batch_size=batch_size)

    return jax.lax.map(one, (regions.index, regions.weights, regions.biases, regions.sigma)).T
