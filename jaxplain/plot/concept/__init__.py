"""Figures of concepts: what they do to a score beside chance, where each is strongest, and clusters of attributions."""

from jaxplain.plot.concept.cluster import attribution_clusters
from jaxplain.plot.concept.dashboard import feature_dashboard
from jaxplain.plot.concept.dictionary import concept_gallery
from jaxplain.plot.concept.significance import concept_scores

__all__ = [
    "attribution_clusters",
    "concept_gallery",
    "concept_scores",
    "feature_dashboard",
]
