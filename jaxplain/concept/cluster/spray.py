"""Spectral relevance analysis: what strategies a network has for a class, as clusters of its attributions."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.concept.cluster.graph import affinity, laplacian, smallest
from jaxplain.concept.cluster.maps import maps_of, pooled, rows_of
from jaxplain.concept.lloyd import best_labels
from jaxplain.program import public
from jaxplain.types import Array


@dataclasses.dataclass(frozen=True, repr=False)
class Clusters:
    """Clusters of N attributions. Made by `spray`.

    labels: `[N]`, from 0, the largest cluster first. eigenvalues: of the Laplacian, ascending; the first gap between
    them that is the largest gives their number. embedding: `[N, K]`, the rows of the eigenvectors. sizes: `[K]`.
    separation: `[K]`, how far each lies from the rest: the share of the variance of the embedding, between it and the
    rest, that the division explains, 0 to 1. typical: `[K]`, the example nearest to each cluster's middle.
    means: `[K, ...]`, the mean attribution of each.
    """

    labels: np.ndarray
    eigenvalues: np.ndarray
    embedding: np.ndarray
    sizes: np.ndarray
    separation: np.ndarray
    typical: np.ndarray
    means: np.ndarray

    @property
    def count(self) -> int:
        """How many clusters."""
        return len(self.sizes)

    @property
    def by_gap(self) -> bool:
        """Whether there are as many as eigenvalues before the largest gap, and no other number was asked for."""
        return self.count == eigengap(self.eigenvalues)

    def members(self, cluster: int) -> np.ndarray:
        """The examples of a cluster, the nearest to its middle first."""
        number = check.count(cluster, "Clusters.members", "cluster", 0)
        if number >= self.count:
            raise ValueError(f"Clusters.members: there are {self.count} clusters, from 0; {number} is none of them.")
        rows = np.flatnonzero(self.labels == number)
        middle = self.embedding[rows].mean(axis=0, keepdims=True)
        return rows[np.argsort(((self.embedding[rows] - middle) ** 2).sum(1), kind="stable")]

    def suspicious(self) -> np.ndarray:
        """The clusters to look at first: the most separate ones, of equal ones the smallest first."""
        return np.lexsort((self.sizes, -np.round(self.separation, 6)))

    def __repr__(self) -> str:
        parts = ", ".join(f"{size} ({apart:.2f})" for size, apart in zip(self.sizes, self.separation, strict=True))
        gap = float(np.diff(self.eigenvalues).max(initial=0))
        return (
            f"Clusters: {self.count} of {len(self.labels)} attributions, sizes (separation) {parts}; eigengap {gap:.3g}"
        )


jax.tree_util.register_dataclass(Clusters, [field.name for field in dataclasses.fields(Clusters)], [])


@public
def spray(
    attributions: Any,
    *,
    key: Array,
    k: int | None = None,
    neighbours: int = 10,
    sigma: float | None = None,
    size: int | None = None,
    norm: str = "l2",
    most: int = 16,
    batch_size: int = 256,
) -> Clusters:
    """Cluster attributions, those of the examples of one class, to find the strategies that a network has for it.

    A strategy that rests on an artefact (a watermark, a border) makes a cluster of its own. The maps are joined to a
    graph of nearest neighbours; with A its affinity and D the degrees, the smallest eigenvalues of L = I - D^-1/2 A
    D^-1/2 say how many clusters there are (as many as stand before the largest gap), and the rows of their vectors,
    brought to length 1, are divided by k-means.

    Args:
        attributions: `[N, ...]`, an array, or what `jaxplain.open_explanations` returns or one column of it.
        key: Of the starts of k-means.
        k: Number of clusters; None: by the eigengap.
        neighbours: Of each map, by Euclidean distance; fewer where there are fewer maps.
        sigma: Width of the affinity exp(-distance^2 / (2 sigma^2)), in units of the (normalised) map; None: 1 for
            neighbours.
        size: Brings images to `size` x `size` fields by their means first, so that strategies and not positions of
            single pixels are compared; None: as they are.
        norm: What each map is divided by: 'l2', 'l1', 'max' or 'none'.
        most: Most clusters that the eigengap is looked for at.
        batch_size: Maps whose distances are taken at once.

    Returns:
        `Clusters`. Cost: N^2 D operations and memory N (D + batch_size); N^3 for the eigenvalues up to 1,500 maps,
        above that Lanczos' method on the host.

    Raises:
        ValueError: NaN (with their number and place), equal maps, counts that do not fit.
        TypeError: Traced values.

    Example:
        >>> import jax, numpy as np
        >>> maps = np.repeat(np.eye(3), 8, axis=0) + np.arange(24)[:, None] % 8 / 100
        >>> found = spray(maps, key=jax.random.key(0), neighbours=7)
        >>> found.count, found.sizes.tolist()
        (3, [8, 8, 8])

    Source: Lapuschkin et al. 2019, "Unmasking Clever Hans predictors and assessing what machines really learn",
    supplementary note 5 (SpRAy); von Luxburg 2007, section 8.3 (eigengap); Ng, Jordan and Weiss 2001 (rows).
    """
    check.threefry(key, "spray")
    check.count(batch_size, "spray", "batch_size")
    check.count(most, "spray", "most")
    maps = maps_of(attributions, "spray")
    rows = rows_of(pooled(maps, size, "spray"), norm, "spray")
    count = len(rows)
    near = min(check.count(neighbours, "spray", "neighbours"), count - 1)
    if sigma is not None:
        check.one_number(sigma, "spray", "sigma")
    if k is not None and check.count(k, "spray", "k") > count:
        raise ValueError(f"spray: `k` is {k}, but there are {count} attributions.")
    asked = min(count, max(most, k or 0) + 1)
    joined = affinity(rows, near, sigma, batch_size)
    _require_joined(joined, sigma)
    values, vectors = smallest(laplacian(joined), asked, joined)
    if k is None and count > most and values[-1] < 1e-6:
        raise ValueError(
            f"spray: the graph falls into more than {most} parts that nothing joins, so that there is no eigengap. "
            "Pass more `neighbours`, a wider `sigma`, a larger `most`, or the number of clusters, `k`."
        )
    chosen = k if k is not None else eigengap(values)
    embedding = vectors[:, :chosen]
    length = np.linalg.norm(embedding, axis=1, keepdims=True)
    embedding = embedding / np.where(length > 0, length, 1)
    labels = np.asarray(best_labels(jnp.asarray(embedding, jnp.float32), key, chosen))
    return described(labels, values, embedding, maps)


def _require_joined(joined: Any, sigma: Any) -> None:
    """Require a neighbour of each: with a narrow width affinities vanish."""
    alone = int(np.count_nonzero(np.asarray(joined.sum(axis=1)).ravel() <= np.finfo(np.float64).tiny))
    if alone:
        raise ValueError(
            f"spray: `sigma` is {sigma}, which leaves {alone} of {joined.shape[0]} attributions without a neighbour: "
            "all affinities of theirs vanish. Pass a wider one; the distances between neighbours say how wide."
        )


def eigengap(values: np.ndarray) -> int:
    """How many eigenvalues stand before the largest gap."""
    return int(np.argmax(np.diff(values))) + 1


def described(labels: np.ndarray, values: np.ndarray, embedding: np.ndarray, maps: np.ndarray) -> Clusters:
    """Clusters in the order of their sizes, and what is said of each."""
    found, first, sizes = np.unique(labels, return_index=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    named = np.searchsorted(found, labels)
    labels = np.argsort(order)[named]
    sizes = sizes[order]
    centre, separation, typical, means = embedding.mean(axis=0), [], [], []
    for number in range(len(sizes)):
        mine = labels == number
        separation.append(_separation(embedding, mine, centre))
        rows = np.flatnonzero(mine)
        middle = embedding[rows].mean(axis=0, keepdims=True)
        typical.append(rows[((embedding[rows] - middle) ** 2).sum(1).argmin()])
        means.append(maps[rows].mean(axis=0))
    return Clusters(labels, values, embedding, sizes, np.array(separation), np.array(typical), np.stack(means))


def _separation(embedding: np.ndarray, mine: np.ndarray, centre: np.ndarray) -> float:
    """Along the line between a cluster's middle and that of the rest: the variance between over the whole."""
    if mine.all():
        return 0.0
    line = embedding[mine].mean(axis=0) - embedding[~mine].mean(axis=0)
    along = (embedding - centre[None]) @ line
    whole = ((along - along.mean()) ** 2).sum()
    if whole == 0:
        return 0.0
    between = sum(group.sum() * (along[group].mean() - along.mean()) ** 2 for group in (mine, ~mine))
    return float(between / whole)
