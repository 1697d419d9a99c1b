"""Explain whole datasets: `explain_dataset` drives, writes and resumes; `open_explanations` reads back.

Also what is kept of an attribution (`channel_sum`, `top_features`, `group_sum`).
"""

from jaxplain.dataset.driver import Explained, explain_dataset
from jaxplain.dataset.explanations import Explanations, open_explanations
from jaxplain.dataset.reduce import Strongest, channel_sum, group_sum, top_features

__all__ = [
    "Explained",
    "Explanations",
    "Strongest",
    "channel_sum",
    "explain_dataset",
    "group_sum",
    "open_explanations",
    "top_features",
]
