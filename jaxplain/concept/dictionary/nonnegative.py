"""The dictionary of a non-negative factorisation: concepts that add up and never cancel."""

from __future__ import annotations

from typing import Any

from jaxplain import check
from jaxplain.concept.dictionary.base import Dictionary
from jaxplain.concept.dictionary.coefficients import coefficients
from jaxplain.concept.dictionary.factorization import factorized, non_negative_rows
from jaxplain.concept.dictionary.site import Site
from jaxplain.program import public
from jaxplain.types import Array, ArrayLike


class NonNegativeDictionary(Dictionary):
    """Codes by non-negative least squares in non-negative atoms, differentiable. Made by `non_negative_dictionary`."""

    atoms: Any

    def encode(self, h: Array) -> Array:
        """Codes `[..., M]`, zero or more. Cost: as `non_negative_coefficients`."""
        return coefficients(h, self.atoms)


@public
def non_negative_dictionary(
    activations: ArrayLike,
    k: int,
    *,
    key: Array | None = None,
    steps: int = 500,
    tolerance: float = 1e-6,
    site: Site | None = None,
) -> NonNegativeDictionary:
    """Make a dictionary of k concepts of which non-negative activations are sums.

    Args:
        activations: `[N, D]`, zero or more, at least k rows.
        k: How many concepts.
        key: As in `non_negative_factorization`, which see for the steps.
        steps: Most steps.
        tolerance: As in `non_negative_factorization`.
        site: Which layer it describes (`layer_site`).

    Returns:
        A `Dictionary` whose atoms `[k, D]` are non-negative and of unit length, those that explain most first. Cost:
        6 N k D operations a step.

    Raises:
        ValueError: As `non_negative_factorization`.

    Example:
        >>> import jax.numpy as jnp
        >>> found = non_negative_dictionary(jnp.array([[3.0, 0.0], [0.0, 1.0], [3.0, 1.0]]), 2)
        >>> found.encode(jnp.array([2.0, 5.0])).round(2).tolist()
        [2.0, 5.0]

    Source: Fel et al. 2023, "CRAFT", section 3.2.
    """
    name = "non_negative_dictionary"
    a = non_negative_rows(activations, k, name, None if site is None else site.layer)
    check.count(steps, name, "steps")
    check.one_number(tolerance, name, "tolerance", zero=True)
    return NonNegativeDictionary(factorized(a, key, None, tolerance, k, steps).atoms, site=site)
