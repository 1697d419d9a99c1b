"""Figures of tables: how predictions add up side by side and in one bar, and how groups of examples differ."""

from jaxplain.plot.tabular.addition import Part, added_up
from jaxplain.plot.tabular.cohort import cohorts
from jaxplain.plot.tabular.decision import decision
from jaxplain.plot.tabular.force import force

__all__ = ["Part", "added_up", "cohorts", "decision", "force"]
