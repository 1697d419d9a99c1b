"""Curvature of the training loss: its products, its solvers, and influence functions, which stand on them."""

from jaxplain.influence.curvature.function import influence_function
from jaxplain.influence.curvature.plan import Plan, derivatives, plan_of
from jaxplain.influence.curvature.solve import explicit

__all__ = ["Plan", "derivatives", "explicit", "influence_function", "plan_of"]
