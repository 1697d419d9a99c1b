"""Methods, metrics and models beside each other, with random controls and intervals."""

from jaxplain.evaluate.comparison.agreement import consistency, sufficiency
from jaxplain.evaluate.comparison.compare import compare
from jaxplain.evaluate.comparison.compare_models import compare_models
from jaxplain.evaluate.comparison.control import paired_difference, random_attribution
from jaxplain.evaluate.comparison.controls import edge_attribution
from jaxplain.evaluate.comparison.frechet import frechet_bootstrap, frechet_distance
from jaxplain.evaluate.comparison.retraining import remove_and_retrain
from jaxplain.evaluate.comparison.table import score_table

__all__ = [
    "compare",
    "compare_models",
    "consistency",
    "edge_attribution",
    "frechet_bootstrap",
    "frechet_distance",
    "paired_difference",
    "random_attribution",
    "remove_and_retrain",
    "score_table",
    "sufficiency",
]
