"""Figures of concepts: the pieces in which each is strongest, what it does to the score, what features are."""

from jaxplain.plot.concept.dashboard import feature_dashboard
from jaxplain.plot.concept.dictionary import concept_gallery

__all__ = ["concept_gallery", "feature_dashboard"]
