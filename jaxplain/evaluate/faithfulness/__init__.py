"""Faithfulness: does the score change as the attribution says when features are removed or put in?"""

from jaxplain.evaluate.faithfulness.correlation import (
    faithfulness_correlation,
    faithfulness_estimate,
    mu_fidelity,
    sensitivity_n,
    sensitivity_n_curve,
)
from jaxplain.evaluate.faithfulness.deletion import deletion, deletion_curve, insertion, insertion_curve
from jaxplain.evaluate.faithfulness.fine_tuned import f_fidelity, random_removal
from jaxplain.evaluate.faithfulness.gain import symmetric_relevance_gain
from jaxplain.evaluate.faithfulness.infidelity import infidelity
from jaxplain.evaluate.faithfulness.masking import average_drop, average_gain, average_increase
from jaxplain.evaluate.faithfulness.monotonicity import monotonicity, monotonicity_correlation
from jaxplain.evaluate.faithfulness.nonsensitivity import non_sensitivity
from jaxplain.evaluate.faithfulness.region import irof, pixel_flipping, region_perturbation, selectivity
from jaxplain.evaluate.faithfulness.road import imputed_baseline, road, road_curve
from jaxplain.evaluate.faithfulness.soft import soft_comprehensiveness, soft_sufficiency

__all__ = [
    "average_drop",
    "average_gain",
    "average_increase",
    "deletion",
    "deletion_curve",
    "f_fidelity",
    "faithfulness_correlation",
    "faithfulness_estimate",
    "imputed_baseline",
    "infidelity",
    "insertion",
    "insertion_curve",
    "irof",
    "monotonicity",
    "monotonicity_correlation",
    "mu_fidelity",
    "non_sensitivity",
    "pixel_flipping",
    "random_removal",
    "region_perturbation",
    "road",
    "road_curve",
    "selectivity",
    "sensitivity_n",
    "sensitivity_n_curve",
    "soft_comprehensiveness",
    "soft_sufficiency",
    "symmetric_relevance_gain",
]
