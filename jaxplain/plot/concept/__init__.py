"""Figures of concepts: what they do to a score beside random ones, and clusters of attributions with their examples."""

from jaxplain.plot.concept.cluster import attribution_clusters
from jaxplain.plot.concept.significance import concept_scores

__all__ = ["attribution_clusters", "concept_scores"]
