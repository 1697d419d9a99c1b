"""Randomization: does the explanation change when the parameters or the explained class do?"""

from jaxplain.evaluate.randomization.parameters import (
    efficient_parameter_randomization,
    parameter_randomization,
    parameter_randomization_curve,
    smooth_parameter_randomization,
)
from jaxplain.evaluate.randomization.random_logit import random_logit

__all__ = [
    "efficient_parameter_randomization",
    "parameter_randomization",
    "parameter_randomization_curve",
    "random_logit",
    "smooth_parameter_randomization",
]
