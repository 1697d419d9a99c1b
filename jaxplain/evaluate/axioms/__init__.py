"""Axioms: properties that an attribution is meant to have whatever the model."""

from jaxplain.evaluate.axioms.completeness import completeness
from jaxplain.evaluate.axioms.invariance import implementation_invariance, input_invariance, symmetry

__all__ = [
    "completeness",
    "implementation_invariance",
    "input_invariance",
    "symmetry",
]
