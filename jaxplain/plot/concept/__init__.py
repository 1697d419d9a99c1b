"""Figures of concepts: the pieces in which each is strongest, and what it does to the score."""

from jaxplain.plot.concept.dictionary import concept_gallery

__all__ = ["concept_gallery"]
