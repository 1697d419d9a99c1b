"""Shapley values and their kin: exact, sampled, by regression, of groups, of pairs; and the surrogate LIME.

All play the same game of coalitions: the score when some features keep their values and the others are absent.
"""

from jaxplain.explain.shapley.coalition import Coalitional, checked
from jaxplain.explain.shapley.exact import shapley_interactions, shapley_values
from jaxplain.explain.shapley.kernel import kernel_shap
from jaxplain.explain.shapley.owen import owen_values
from jaxplain.explain.shapley.sampling import ShapleyEstimate, shapley_sampling, shapley_sampling_with_error
from jaxplain.explain.shapley.surrogate import lasso, least_squares, lime

__all__ = [
    "Coalitional",
    "ShapleyEstimate",
    "checked",
    "kernel_shap",
    "lasso",
    "least_squares",
    "lime",
    "owen_values",
    "shapley_interactions",
    "shapley_sampling",
    "shapley_sampling_with_error",
    "shapley_values",
]
