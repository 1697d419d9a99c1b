"""Explain whole datasets: `explain_dataset` drives, writes and resumes; `open_explanations` reads back.

Also what is kept of an attribution (`channel_sum`, `top_features`, `group_sum`).
"""

from jaxplain.dataset.driver import Explained, explain_dataset
from jaxplain.dataset.explanations import Explanations, open_explanations
from jaxplain.dataset.record import with_target
from jaxplain.dataset.reduce import Strongest, channel_sum, group_sum, top_features
from jaxplain.dataset.run import first_rows
from jaxplain.dataset.sameness import other_than
from jaxplain.dataset.source import as_source, known_arguments
from jaxplain.dataset.target import takes_target

__all__ = [
    "Explained",
    "Explanations",
    "Strongest",
    "as_source",
    "channel_sum",
    "explain_dataset",
    "first_rows",
    "group_sum",
    "known_arguments",
    "open_explanations",
    "other_than",
    "takes_target",
    "top_features",
    "with_target",
]
