"""Figures of tables: how predictions add up side by side and in one bar, how groups differ; and how tables are read."""

from jaxplain.plot.tabular.addition import Part, added_up
from jaxplain.plot.tabular.category import beside, category_axis, piled
from jaxplain.plot.tabular.cohort import cohorts
from jaxplain.plot.tabular.decision import decision
from jaxplain.plot.tabular.force import force
from jaxplain.plot.tabular.frame import Columns, attributions_of, by_name, columns_of, row_heads, row_of

__all__ = [
    "Columns",
    "Part",
    "added_up",
    "attributions_of",
    "beside",
    "by_name",
    "category_axis",
    "cohorts",
    "columns_of",
    "decision",
    "force",
    "piled",
    "row_heads",
    "row_of",
]
