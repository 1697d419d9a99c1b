"""Localization: does the attribution lie where the object is?"""

from jaxplain.evaluate.localization.localization import (
    attribution_localization,
    focus,
    mosaic,
    pointing_game,
    relevance_mass_accuracy,
    relevance_rank_accuracy,
    roc_auc,
    top_k_intersection,
)
from jaxplain.evaluate.localization.transport import earth_movers_distance

__all__ = [
    "attribution_localization",
    "earth_movers_distance",
    "focus",
    "mosaic",
    "pointing_game",
    "relevance_mass_accuracy",
    "relevance_rank_accuracy",
    "roc_auc",
    "top_k_intersection",
]
