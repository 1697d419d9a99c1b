"""Figures of how a model was trained: what its layers did, what its weights became, which settings serve it."""

from jaxplain.plot.training.flow import gradient_flow
from jaxplain.plot.training.sweep import validation_curve
from jaxplain.plot.training.weights import singular_values, weight_matrices

__all__ = ["gradient_flow", "singular_values", "validation_curve", "weight_matrices"]
