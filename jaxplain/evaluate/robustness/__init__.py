"""Robustness: does the explanation stay where the input hardly changes?"""

from jaxplain.evaluate.robustness.continuity import continuity
from jaxplain.evaluate.robustness.sensitivity import (
    NORMS,
    average_sensitivity,
    explained,
    local_lipschitz_estimate,
    max_sensitivity,
    size,
)
from jaxplain.evaluate.robustness.stability import (
    relative_input_stability,
    relative_output_stability,
    relative_representation_stability,
)

__all__ = [
    "NORMS",
    "average_sensitivity",
    "continuity",
    "explained",
    "local_lipschitz_estimate",
    "max_sensitivity",
    "relative_input_stability",
    "relative_output_stability",
    "relative_representation_stability",
    "size",
]
