"""Train Flax models and explain them with composable JAX functions.

A score is a function `f(x, *args) -> scalar`, a method makes an explanation `e(x, *args)` of it, a wrapper changes an
explanation, a metric judges one. All are pytrees written for one example: batches are `jax.vmap` or `explain_batch`,
speed is `jax.jit`. What `activation_maximization` is composed of stands in `image`, `objective`, `transform` and
`regulariser`. The modules `data`, `models`, `train`, `aggregate`, `dataset`, `plot` and `report` are imported when
first used, and so are `explain_dataset` and `open_explanations`.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

# The whole model over a dataset.
from jaxplain.aggregate.atlas import activation_atlas
from jaxplain.aggregate.unit import top_activations, unit_activity

# Scores, and what absent means.
from jaxplain.baseline.absent import blur, gaussian_noise, mean, sample, uniform_noise, zeros

# Inside a model.
from jaxplain.internals.capture import capture, intervene, split
from jaxplain.baseline.counter_class import nearest_counter_class
from jaxplain.internals.draw import draw

# The whole model.
from jaxplain.aggregate.effects import (
    accumulated_local_effects,
    individual_conditional_expectation,
    partial_dependence,
)

# Is the explanation right?
from jaxplain.evaluate.comparison.agreement import consistency, sufficiency
from jaxplain.evaluate.axioms.completeness import completeness
from jaxplain.evaluate.batch import evaluate_batch
from jaxplain.evaluate.comparison.compare import compare
from jaxplain.evaluate.comparison.compare_models import compare_models
from jaxplain.evaluate.complexity.complexity import effective_complexity, entropy, sparseness
from jaxplain.evaluate.robustness.continuity import continuity
from jaxplain.evaluate.comparison.control import paired_difference, random_attribution
from jaxplain.evaluate.faithfulness.correlation import (
    faithfulness_correlation,
    faithfulness_estimate,
    mu_fidelity,
    sensitivity_n,
    sensitivity_n_curve,
)
from jaxplain.evaluate.faithfulness.deletion import deletion, deletion_curve, insertion, insertion_curve
from jaxplain.evaluate.comparison.frechet import frechet_bootstrap, frechet_distance
from jaxplain.evaluate.faithfulness.infidelity import infidelity
from jaxplain.evaluate.axioms.invariance import implementation_invariance, input_invariance, symmetry
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
from jaxplain.evaluate.faithfulness.masking import average_drop, average_gain, average_increase
from jaxplain.evaluate.faithfulness.monotonicity import monotonicity, monotonicity_correlation
from jaxplain.evaluate.faithfulness.nonsensitivity import non_sensitivity
from jaxplain.evaluate.randomization.random_logit import random_logit
from jaxplain.evaluate.randomization.parameters import (
    efficient_parameter_randomization,
    parameter_randomization,
    parameter_randomization_curve,
    smooth_parameter_randomization,
)
from jaxplain.evaluate.faithfulness.region import irof, pixel_flipping, region_perturbation, selectivity
from jaxplain.evaluate.faithfulness.road import imputed_baseline, road, road_curve
from jaxplain.evaluate.robustness.sensitivity import average_sensitivity, local_lipschitz_estimate, max_sensitivity
from jaxplain.evaluate.similarity import pearson, spearman, structural_similarity
from jaxplain.evaluate.robustness.stability import (
    relative_input_stability,
    relative_output_stability,
    relative_representation_stability,
)
from jaxplain.evaluate.comparison.table import score_table

# Explanations.
from jaxplain.explain.visualization import image, objective, regulariser, transform
from jaxplain.explain.visualization.activation import activation_maximization, jitter, l2, pixels, total_variation
from jaxplain.explain.perturbation.attack import fgsm, pgd
from jaxplain.explain.backward.backward import audit
from jaxplain.explain.backward.balance import relevance_balance
from jaxplain.explain.batch import explain_batch
from jaxplain.explain.gradient.blur_path import blur_integrated_gradients
from jaxplain.explain.cam.cam import (
    class_activation_map,
    grad_cam,
    grad_cam_plus_plus,
    hires_cam,
    layer_cam,
    xgrad_cam,
)
from jaxplain.explain.perturbation.counterfactual import counterfactual
from jaxplain.explain.visualization.deconvolution import deconv_view
from jaxplain.explain.backward.deep_lift import deep_lift, deep_shap
from jaxplain.explain.visualization.dream import deep_dream
from jaxplain.explain.cam.eigen_cam import eigen_cam, eigen_grad_cam
from jaxplain.explain.perturbation.extremal import extremal_perturbation
from jaxplain.explain.backward.full_grad import full_grad, full_grad_terms
from jaxplain.explain.gradient.gradient import gradient, input_x_gradient, saliency
from jaxplain.explain.backward.guided import deconvnet, guided_backprop
from jaxplain.explain.cam.guided_grad_cam import guided_grad_cam
from jaxplain.explain.gradient.guided_path import guided_integrated_gradients
from jaxplain.explain.gradient.hessian import integrated_hessians
from jaxplain.explain.visualization.inversion import accentuate, activation_grid, feature_inversion
from jaxplain.explain.gradient.layer import conductance, internal_influence
from jaxplain.explain.backward.lrp import excitation_backprop, lrp
from jaxplain.explain.gradient.noise import smoothgrad, smoothgrad_squared, vargrad
from jaxplain.explain.perturbation.occlusion import occlusion
from jaxplain.internals.patching import activation_patching, attribution_patching
from jaxplain.explain.gradient.path import expected_gradients, integrated_gradients, integrated_gradients_with_gap
from jaxplain.explain.perturbation.perturbation import feature_ablation, feature_permutation
from jaxplain.explain.visualization.receptive import receptive_field
from jaxplain.explain.gradient.region import image_regions, xrai
from jaxplain.explain.perturbation.rise import rise
from jaxplain.explain.cam.score_cam import ablation_cam, score_cam
from jaxplain.explain.shapley import (
    kernel_shap,
    owen_values,
    shapley_interactions,
    shapley_sampling,
    shapley_sampling_with_error,
    shapley_values,
)
from jaxplain.explain.shapley.surrogate import lime
from jaxplain.aggregate.importance import permutation_importance
from jaxplain.baseline.imputation import linear_imputation, noisy_linear_imputation
from jaxplain.internals.layers import layers
from jaxplain.models.nnx import from_nnx
from jaxplain.program.function import Function
from jaxplain.program.fast.layout import fast_layout
from jaxplain.score import log_probability, logit, loss, margin, output, probability
from jaxplain.baseline.segmentation import superpixels

if TYPE_CHECKING:
    from jaxplain.dataset import explain_dataset, open_explanations

__all__ = [
    "Function",
    "ablation_cam",
    "accentuate",
    "accumulated_local_effects",
    "activation_atlas",
    "activation_grid",
    "activation_maximization",
    "activation_patching",
    "attribution_localization",
    "attribution_patching",
    "audit",
    "average_drop",
    "average_gain",
    "average_increase",
    "average_sensitivity",
    "blur",
    "blur_integrated_gradients",
    "capture",
    "class_activation_map",
    "compare",
    "compare_models",
    "completeness",
    "conductance",
    "consistency",
    "continuity",
    "counterfactual",
    "deconv_view",
    "deconvnet",
    "deep_dream",
    "deep_lift",
    "deep_shap",
    "deletion",
    "deletion_curve",
    "draw",
    "effective_complexity",
    "efficient_parameter_randomization",
    "eigen_cam",
    "eigen_grad_cam",
    "entropy",
    "evaluate_batch",
    "excitation_backprop",
    "expected_gradients",
    "explain_batch",
    "explain_dataset",
    "extremal_perturbation",
    "faithfulness_correlation",
    "faithfulness_estimate",
    "fast_layout",
    "feature_ablation",
    "feature_inversion",
    "feature_permutation",
    "fgsm",
    "focus",
    "frechet_bootstrap",
    "frechet_distance",
    "from_nnx",
    "full_grad",
    "full_grad_terms",
    "gaussian_noise",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient",
    "guided_backprop",
    "guided_grad_cam",
    "guided_integrated_gradients",
    "hires_cam",
    "image_regions",
    "implementation_invariance",
    "imputed_baseline",
    "individual_conditional_expectation",
    "infidelity",
    "input_invariance",
    "input_x_gradient",
    "insertion",
    "insertion_curve",
    "integrated_gradients",
    "integrated_gradients_with_gap",
    "integrated_hessians",
    "internal_influence",
    "intervene",
    "irof",
    "jitter",
    "kernel_shap",
    "l2",
    "layer_cam",
    "layers",
    "lime",
    "linear_imputation",
    "local_lipschitz_estimate",
    "log_probability",
    "logit",
    "loss",
    "lrp",
    "margin",
    "max_sensitivity",
    "mean",
    "monotonicity",
    "monotonicity_correlation",
    "mosaic",
    "mu_fidelity",
    "nearest_counter_class",
    "noisy_linear_imputation",
    "non_sensitivity",
    "occlusion",
    "open_explanations",
    "output",
    "owen_values",
    "paired_difference",
    "parameter_randomization",
    "parameter_randomization_curve",
    "partial_dependence",
    "pearson",
    "permutation_importance",
    "pgd",
    "pixel_flipping",
    "pixels",
    "pointing_game",
    "probability",
    "random_attribution",
    "random_logit",
    "receptive_field",
    "region_perturbation",
    "relative_input_stability",
    "relative_output_stability",
    "relative_representation_stability",
    "relevance_balance",
    "relevance_mass_accuracy",
    "relevance_rank_accuracy",
    "rise",
    "road",
    "road_curve",
    "roc_auc",
    "saliency",
    "sample",
    "score_cam",
    "score_table",
    "selectivity",
    "sensitivity_n",
    "sensitivity_n_curve",
    "shapley_interactions",
    "shapley_sampling",
    "shapley_sampling_with_error",
    "shapley_values",
    "smooth_parameter_randomization",
    "smoothgrad",
    "smoothgrad_squared",
    "sparseness",
    "spearman",
    "split",
    "structural_similarity",
    "sufficiency",
    "superpixels",
    "symmetry",
    "top_activations",
    "top_k_intersection",
    "total_variation",
    "uniform_noise",
    "unit_activity",
    "vargrad",
    "xgrad_cam",
    "xrai",
    "zeros",
]

# `import jaxplain.image` finds the namespaces by their public names, too, as `import os.path` does.
for _space in (image, objective, regulariser, transform):
    sys.modules[f"jaxplain.{_space.__name__.rpartition('.')[2]}"] = _space

_MODULES = ("aggregate", "data", "dataset", "models", "plot", "report", "train")
_OF_DATASET = ("explain_dataset", "open_explanations")


def __getattr__(name: str) -> Any:
    """Import what is heavy (Flax, optax, matplotlib, scikit-learn, TensorStore) when it is first asked for."""
    if name in _OF_DATASET:
        return getattr(importlib.import_module("jaxplain.dataset"), name)
    if name in _MODULES:
        return importlib.import_module(f"jaxplain.{name}")
    raise AttributeError(f"module 'jaxplain' has no attribute {name!r}")
