"""Clusters of attributions: eigenvalues, places on a plane, and of each cluster its mean map and its examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure

from jaxplain import check
from jaxplain.concept import Clusters, cluster_places
from jaxplain.plot.canvas import (
    DIVERGING,
    NEUTRAL,
    SERIES,
    bare,
    canvas,
    diverging,
    fitted,
    largest,
    open_sides,
    picture,
    shown,
)
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import batch, images, label_texts, number, same_length


@drawn
def attribution_clusters(
    clusters: Clusters,
    inputs: Any,
    *,
    places: Any = None,
    labels: Any = None,
    names: Sequence[Any] | None = None,
    k: int = 5,
    limit: int = 6,
) -> Figure:
    """Draw clusters of attributions, the most separate first: an artefact that a network rests on is seen at once.

    Args:
        clusters: What `jaxplain.concept.spray` returned, of images.
        inputs: The images that were explained, `[N, H, W]` or `[N, H, W, C]`.
        places: `[N, 2]`, where each lies on a plane (`jaxplain.concept.cluster_places`); None: by principal components
            of the embedding.
        labels: `[N]`, classes, numbers or texts, written below the images.
        names: Names of the classes.
        k: Most examples of each cluster, those nearest to its middle.
        limit: Most clusters drawn.

    Returns:
        A figure: the eigenvalues (filled up to the gap), the places, and a row for each cluster with its mean
        attribution, signed, summed over channels, on one scale for all, and its examples.

    Raises:
        TypeError: No `Clusters`. ValueError: Maps that are no images, counts that do not match, NaN.

    Example:
        >>> import jax, numpy as np
        >>> from jaxplain.concept import spray
        >>> maps = np.repeat(np.eye(2).reshape(2, 1, 2), 6, axis=0) + np.arange(12).reshape(12, 1, 1) % 6 / 100
        >>> found = spray(maps, key=jax.random.key(0), neighbours=5)
        >>> figure = attribution_clusters(found, np.zeros((12, 4, 4)), k=2)
        >>> len(figure.subfigs[1].axes)
        6
    """
    name = "attribution_clusters"
    pictures = images(inputs, name, "inputs")
    same_length(pictures, clusters.labels, name, ("inputs", "clusters"))
    means = np.asarray(clusters.means)
    means = means.sum(axis=-1) if means.ndim == 4 else means
    if means.ndim != 3:
        raise ValueError(
            f"{name}: `clusters` are of maps {np.shape(clusters.means)[1:]}; [H, W] or [H, W, C] are drawn."
        )
    notes = label_texts(labels, len(pictures), names, name)
    check.count(k, name, "k")
    order = clusters.suspicious()
    count, more = shown(len(order), limit, name, "clusters")
    plane = cluster_places(clusters.embedding, norm="none") if places is None and clusters.count > 1 else places
    plane = np.zeros((len(pictures), 2)) if plane is None else batch(plane, name, "places", {2: "[N, 2]"})
    same_length(pictures, plane, name, ("inputs", "places"))
    across = 1 + min(k, int(clusters.sizes.max()))
    words = f"{clusters.count} clusters of {len(pictures)} attributions, with their mean attributions and examples"
    figure = canvas(max(1.15 * across, 5.2), 2.3 + 1.45 * count, words)
    parts: Any = figure.subfigures(2, 1, height_ratios=[2.3, 1.45 * count])
    top, rest = parts
    _overview(top, clusters, plane)
    end = largest(means)
    grid: Any = rest.subplots(count, across, squeeze=False)
    for row, cluster in enumerate(order[:count]):
        axes = bare(grid[row, 0])
        axes.imshow(means[cluster], cmap=DIVERGING, norm=diverging(end), interpolation="nearest")
        axes.set_title(
            f"cluster {cluster}: {clusters.sizes[cluster]}", fontsize=8, color=_colour(cluster), weight="bold"
        )
        axes.set_xlabel(f"separation {number(clusters.separation[cluster])}", fontsize=7, color=NEUTRAL)
        members = clusters.members(int(cluster))
        for place in range(1, across):
            if place > len(members):
                open_sides(bare(grid[row, place]), "top", "right", "bottom", "left")
                continue
            picture(grid[row, place], pictures[members[place - 1]])
            grid[row, place].set_xlabel(fitted(notes[members[place - 1]], 1.1, 7), fontsize=7)
    if more:
        rest.suptitle(more, fontsize=8, color=NEUTRAL)
    return figure


def _overview(figure: SubFigure, clusters: Clusters, plane: np.ndarray) -> None:
    """The eigenvalues, and the places in the clusters' colours."""
    grid: Any = figure.subplots(1, 2)
    left, right = grid
    values = np.asarray(clusters.eigenvalues)
    places = np.arange(1, len(values) + 1)
    before = places <= clusters.count
    left.plot(places, values, color=NEUTRAL, linewidth=0.8)
    left.scatter(places, values, s=16, c=[SERIES[0] if inside else "white" for inside in before], edgecolors=SERIES[0])
    left.set_xlabel("number", fontsize=8)
    left.set_title(f"eigenvalues: {clusters.count} clusters", fontsize=8)
    left.tick_params(labelsize=7)
    open_sides(left)
    for cluster in range(clusters.count):
        mine = clusters.labels == cluster
        right.scatter(*plane[mine].T, s=9, color=_colour(cluster), label=str(cluster), alpha=0.8, linewidths=0)
    right.set_title("attributions", fontsize=8)
    if clusters.count <= 10:
        right.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0)
    open_sides(bare(right))


def _colour(cluster: int) -> str:
    return SERIES[cluster % len(SERIES)]
