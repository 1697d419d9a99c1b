"""Axioms: properties that an attribution is meant to have whatever the model."""

from jaxplain.evaluate.axioms.completeness import completeness
from jaxplain.evaluate.axioms.invariance import implementation_invariance, input_invariance, symmetry
from jaxplain.evaluate.axioms.mechanism import mechanisms
from jaxplain.evaluate.axioms.verdict import mechanism_table

__all__ = [
    "completeness",
    "implementation_invariance",
    "input_invariance",
    "mechanism_table",
    "mechanisms",
    "symmetry",
]
