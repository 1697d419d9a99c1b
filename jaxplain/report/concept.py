"""Sections of a page: which concepts a score depends on, and which clusters of attributions are suspicious."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxplain.concept import Clusters, Tcav
from jaxplain.plot import attribution_clusters, concept_scores
from jaxplain.program import public
from jaxplain.report.page import Section
from jaxplain.report.reading import SECTIONS


@public
def concept_section(result: Tcav, *, level: float = 0.05, limit: int = 20, heading: str = "Concepts") -> Section:
    """Make a report's section of a test of concepts.

    Args:
        result: What `jaxplain.concept.tcav` returned.
        level: Corrected p up to which a concept counts as found.
        limit: Most concepts in the figure; the table has all.
        heading: The section's heading.

    Returns:
        The section: how many concepts are significant, the figure, and the table.

    Raises:
        ValueError, TypeError: As `plot.concept_scores`.

    Example:
        >>> import numpy as np
        >>> from jaxplain.concept import tcav
        >>> found = tcav(lambda h: 3.0 * h[0] - h[1], np.eye(2), np.ones((5, 2)), samples=0)
        >>> concept_section(found).content[0].split(";")[0]
        '2 concepts over 5 examples, not tested'
    """
    figure = concept_scores(result, level=level, limit=limit)
    tested = "not tested"
    if result.samples:
        found = int((result.corrected <= level).sum())
        tested = (
            f"{found} with a corrected p of at most {level:g}, by rank among {result.samples} random concepts "
            "of the same size"
        )
    count = f"{len(result.scores)} concept{'s' if len(result.scores) != 1 else ''}"
    words = (
        f"{count} over {len(result.sensitivities)} examples, {tested}; a concept with an "
        "accuracy near 0.5 is not in the layer, whatever its score."
    )
    return Section(heading, [words, figure, result.rows()], reading=SECTIONS["concept_section"])


@public
def clusters_section(
    clusters: Clusters,
    inputs: Any,
    *,
    places: Any = None,
    labels: Any = None,
    names: Sequence[Any] | None = None,
    k: int = 5,
    limit: int = 6,
    heading: str = "Clusters of explanations",
) -> Section:
    """Make a report's section of clusters of attributions, the suspicious ones first, with their examples.

    Args:
        clusters: What `jaxplain.concept.spray` returned.
        inputs: The images that were explained, as in `plot.attribution_clusters`.
        places: `[N, 2]`, as there.
        labels: `[N]`, as there.
        names: Names of the classes.
        k: Most examples of each cluster.
        limit: Most clusters in the figure; the table has all.
        heading: The section's heading.

    Returns:
        The section: what to look for, the figure, and a table of sizes and separations.

    Raises:
        ValueError, TypeError: As `plot.attribution_clusters`.

    Example:
        >>> import jax, numpy as np
        >>> from jaxplain.concept import spray
        >>> maps = np.repeat(np.eye(2).reshape(2, 1, 2), 6, axis=0) + np.arange(12).reshape(12, 1, 1) % 6 / 100
        >>> found = spray(maps, key=jax.random.key(0), neighbours=5)
        >>> [row["examples"] for row in clusters_section(found, np.zeros((12, 4, 4))).content[2]]
        [6, 6]
    """
    settings: dict[str, Any] = {"places": places, "labels": labels, "names": names, "k": k, "limit": limit}
    figure = attribution_clusters(clusters, inputs, **settings)
    why = "largest gap between eigenvalues of their graph" if clusters.by_gap else "as many as were asked for"
    words = (
        f"The attributions of {len(clusters.labels)} examples fall into {clusters.count} clusters ({why}). A small, "
        "separate cluster whose mean attribution lies on something that should not matter "
        "is a strategy to distrust: test it as a concept, and train again without it."
    )
    rows = [
        {
            "cluster": int(cluster),
            "examples": int(clusters.sizes[cluster]),
            "share": float(clusters.sizes[cluster] / len(clusters.labels)),
            "separation": float(clusters.separation[cluster]),
            "typical example": int(clusters.typical[cluster]),
        }
        for cluster in clusters.suspicious()
    ]
    return Section(heading, [words, figure, rows], reading=SECTIONS["clusters_section"])
