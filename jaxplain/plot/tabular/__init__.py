"""What figures of tables share: data frames and rows of mixed values read, categories in words and on axes."""

from jaxplain.plot.tabular.category import beside, category_axis, piled
from jaxplain.plot.tabular.frame import Columns, attributions_of, by_name, columns_of, row_heads, row_of

__all__ = [
    "Columns",
    "attributions_of",
    "beside",
    "by_name",
    "category_axis",
    "columns_of",
    "piled",
    "row_heads",
    "row_of",
]
