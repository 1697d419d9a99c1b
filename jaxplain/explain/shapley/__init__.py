"""Shapley values and their kin: exact, sampled, by regression, of grouped features, and of pairs."""

from jaxplain.explain.shapley.exact import shapley_interactions, shapley_values
from jaxplain.explain.shapley.kernel import kernel_shap
from jaxplain.explain.shapley.owen import owen_values
from jaxplain.explain.shapley.sampling import ShapleyEstimate, shapley_sampling, shapley_sampling_with_error

__all__ = [
    "ShapleyEstimate",
    "kernel_shap",
    "owen_values",
    "shapley_interactions",
    "shapley_sampling",
    "shapley_sampling_with_error",
    "shapley_values",
]
