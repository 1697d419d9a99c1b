"""k-means of activations: each described by the nearest of k centres."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.concept.dictionary.base import Dictionary
from jaxplain.concept.dictionary.factorization import rows_of
from jaxplain.concept.dictionary.site import Site
from jaxplain.concept.distance import safe_shift, scaled, squared_distances
from jaxplain.concept.lloyd import moved, spread_start
from jaxplain.program import public
from jaxplain.types import Array, ArrayLike


class MeansDictionary(Dictionary):
    """Codes that are 1 at the nearest centre and 0 at the others. Made by `k_means`."""

    atoms: Any

    def encode(self, h: Array) -> Array:
        """Codes `[..., M]`: one of them 1, the first of equally near centres. Cost: M D operations a row."""
        rows = h.reshape(-1, h.shape[-1]).astype(jnp.result_type(h, self.atoms))
        atoms = jnp.asarray(self.atoms).astype(rows.dtype)
        shift = safe_shift(rows, atoms)
        distances = squared_distances(jnp.ldexp(rows, shift), jnp.ldexp(atoms, shift))
        codes = jax.nn.one_hot(jnp.argmin(distances, axis=1), distances.shape[1], dtype=distances.dtype)
        return codes.reshape(*h.shape[:-1], distances.shape[1])


@public
def k_means(
    activations: ArrayLike,
    k: int,
    *,
    key: Array | None = None,
    start: ArrayLike | None = None,
    steps: int = 300,
    site: Site | None = None,
) -> MeansDictionary:
    """Make a dictionary of the k centres of clusters of activations (Lloyd's algorithm).

    Args:
        activations: `[N, D]`, of any sign.
        k: How many clusters, at most N; of N rows with fewer different ones, at most those.
        key: PRNG key of the start (greedy k-means++: each next centre is the best of 2 + log k rows, drawn in
            proportion to their squared distances from those there are). Needed where `start` is None.
        start: Centres to start from, `[k, D]`.
        steps: Most steps; it ends where no row changes its cluster. A cluster that loses all its rows begins anew at
            the row farthest from its centre.
        site: Which layer it describes (`layer_site`).

    Returns:
        A `Dictionary` whose atoms `[k, D]` are the centres, the largest cluster first; a code is 1 at the nearest
        centre. Cost of a step: N k D operations.

    Raises:
        ValueError: NaN, activations that are all equal, a k that is too large, neither key nor start.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> rows = jnp.array([[0.0], [1.0], [2.0], [10.0]])
        >>> k_means(rows, 2, key=jax.random.key(0)).atoms.tolist()
        [[1.0], [10.0]]

    Source: Lloyd 1982, "Least squares quantization in PCM"; Arthur and Vassilvitskii 2007, "k-means++".
    """
    name = "k_means"
    a = rows_of(activations, k, name, most="rows")
    check.count(steps, name, "steps")
    shift = safe_shift(a)
    a = scaled(a, shift)
    if start is None:
        if key is None:
            raise ValueError(f"{name}: the start is drawn, so pass `key=jax.random.key(0)`, or `start=` centres.")
        check.threefry(key, name)
        _refuse_few(a, k, name)
        begun = spread_start(a, key, k)
    else:
        check.arrays(start, name, "start")
        begun = jnp.asarray(start).astype(a.dtype)
        if begun.shape != (k, a.shape[1]):
            raise ValueError(f"{name}: `start` has shape {begun.shape}; {(k, a.shape[1])} is needed, one row a centre.")
        check.finite(begun, name, "start")
        begun = scaled(begun, shift)
    return MeansDictionary(scaled(moved(a, begun, steps), -shift), site=site)


def _refuse_few(a: Array, k: int, name: str) -> None:
    """Fewer different rows than clusters leave clusters empty for ever."""
    if not check.is_concrete(a):
        return
    different = len({row.tobytes() for row in jax.device_get(a)})
    if different < k:
        raise ValueError(
            f"{name}: `k` is {k}, but only {different} of {a.shape[0]} rows are different. Pass at most {different}."
        )
