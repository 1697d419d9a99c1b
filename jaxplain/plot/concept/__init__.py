"""Figures of concepts: what the features of a dictionary are."""

from jaxplain.plot.concept.dashboard import feature_dashboard

__all__ = ["feature_dashboard"]
