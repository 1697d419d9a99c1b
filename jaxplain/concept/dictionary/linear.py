"""Dictionaries that read codes off linearly: principal components, and random directions to compare with."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.concept.dictionary.base import Dictionary
from jaxplain.concept.dictionary.factorization import rows_of
from jaxplain.concept.dictionary.site import Site
from jaxplain.program import public
from jaxplain.types import Array, ArrayLike


class LinearDictionary(Dictionary):
    """Codes (h - offset) @ reader, activations offset + codes @ atoms. Made by `principal_components`."""

    atoms: Any
    reader: Any
    offset: Any

    def encode(self, h: Array) -> Array:
        """Codes `[..., M]`, of either sign. Cost: one product."""
        offset = jnp.asarray(self.offset)
        dtype = jnp.result_type(h, offset)
        return (h.astype(dtype) - jnp.broadcast_to(offset.astype(dtype), h.shape)) @ jnp.asarray(self.reader)


@public
def principal_components(activations: ArrayLike, k: int, *, site: Site | None = None) -> LinearDictionary:
    """Make a dictionary of the k orthonormal directions that explain most of the activations' variance (PCA).

    Args:
        activations: `[N, D]`, of any sign.
        k: How many, at most the smaller of N and D.
        site: Which layer it describes (`layer_site`).

    Returns:
        A `Dictionary` whose atoms `[k, D]` are the components, the largest variance first, each with its largest entry
        positive. Codes have either sign. Cost: one singular value decomposition, N D min(N, D) operations.

    Raises:
        ValueError: NaN, activations that are all equal, a k that is too large.

    Example:
        >>> import jax.numpy as jnp
        >>> found = principal_components(jnp.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]]), 1)
        >>> found.atoms.round(3).tolist(), found.encode(jnp.array([3.0, 1.0])).round(3).tolist()
        ([[1.0, 0.0]], [1.0])

    Source: Zhang et al. 2021, "Invertible concept-based explanations for CNN models with non-negative concept
    activation vectors" (which compares it with a factorisation and with k-means).
    """
    a = rows_of(activations, k, "principal_components")
    return LinearDictionary(*_components(a, k), site=site)


def _components(a: Array, k: int) -> tuple[Array, Array, Array]:
    mean = jnp.mean(a, axis=0)
    atoms = jnp.linalg.svd(a - mean[None], full_matrices=False)[2][:k]
    largest = jnp.take_along_axis(atoms, jnp.argmax(jnp.abs(atoms), axis=1)[:, None], axis=1)
    atoms = atoms * jnp.where(largest < 0, -1.0, 1.0).astype(atoms.dtype)
    return atoms, atoms.T, mean


@public
def random_directions(activations: ArrayLike, k: int, *, key: Array, site: Site | None = None) -> LinearDictionary:
    """Make a dictionary of k random directions with the best codes in them: what chance explains.

    Args:
        activations: `[N, D]`; their width and mean count.
        k: How many, at most the smaller of N and D.
        key: PRNG key of the directions.
        site: Which layer it describes (`layer_site`).

    Returns:
        A `Dictionary` whose atoms `[k, D]` have unit length and directions uniform on the sphere; codes are those of
        least squares. Cost: k^2 D operations.

    Raises:
        ValueError: NaN, activations that are all equal, a k that is too large.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> found = random_directions(jnp.eye(3), 3, key=jax.random.key(0))  # as many as dimensions lose nothing
        >>> bool(jnp.allclose(found(jnp.ones(3)), 1.0, atol=1e-5))
        True
    """
    a = rows_of(activations, k, "random_directions")
    check.threefry(key, "random_directions")
    drawn = jax.random.normal(key, (k, a.shape[1]), a.dtype)
    atoms = drawn / jnp.linalg.norm(drawn, axis=1, keepdims=True)
    return LinearDictionary(atoms, jnp.linalg.pinv(atoms), jnp.mean(a, axis=0), site=site)
