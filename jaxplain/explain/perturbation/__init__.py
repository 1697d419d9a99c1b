"""The score with parts of the input taken away or changed: no derivative, but for the searches that use one."""

from jaxplain.explain.perturbation.attack import fgsm, pgd
from jaxplain.explain.perturbation.counterfactual import counterfactual
from jaxplain.explain.perturbation.extremal import extremal_perturbation
from jaxplain.explain.perturbation.occlusion import occlusion
from jaxplain.explain.perturbation.perturbation import feature_ablation, feature_permutation
from jaxplain.explain.perturbation.rise import rise

__all__ = [
    "counterfactual",
    "extremal_perturbation",
    "feature_ablation",
    "feature_permutation",
    "fgsm",
    "occlusion",
    "pgd",
    "rise",
]
