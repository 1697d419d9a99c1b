"""Train Flax models and explain them with composable JAX functions.

A score is a function `f(x, *args) -> scalar`, a method makes an explanation `e(x, *args)` of it, a wrapper changes an
explanation, a metric judges one. All are pytrees written for one example: batches are `jax.vmap` or `explain_batch`,
speed is `jax.jit`.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from jaxplain.explain import (
    ablation_cam,
    accentuate,
    activation_grid,
    activation_maximization,
    audit,
    blur_integrated_gradients,
    class_activation_map,
    conductance,
    counterfactual,
    deconv_view,
    deconvnet,
    deep_dream,
    deep_lift,
    deep_shap,
    eigen_cam,
    eigen_grad_cam,
    excitation_backprop,
    expected_gradients,
    explain_batch,
    extremal_perturbation,
    feature_ablation,
    feature_inversion,
    feature_permutation,
    fgsm,
    full_grad,
    full_grad_terms,
    grad_cam,
    grad_cam_plus_plus,
    gradient,
    guided_backprop,
    guided_grad_cam,
    guided_integrated_gradients,
    hires_cam,
    image_regions,
    input_x_gradient,
    integrated_gradients,
    integrated_gradients_with_gap,
    integrated_hessians,
    internal_influence,
    kernel_shap,
    layer_cam,
    lime,
    lrp,
    occlusion,
    owen_values,
    pgd,
    receptive_field,
    relevance_balance,
    rise,
    saliency,
    score_cam,
    shapley_interactions,
    shapley_sampling,
    shapley_sampling_with_error,
    shapley_values,
    smoothgrad,
    smoothgrad_squared,
    vargrad,
    xgrad_cam,
    xrai,
)
from jaxplain.explain.backward import relevance
from jaxplain.explain.visualization import image, objective, regulariser, transform
from jaxplain.internals import activation_patching, attribution_patching, capture, draw, intervene, layers, split
from jaxplain.program import Function
from jaxplain.program.fast import fast_layout
from jaxplain.score import log_probability, logit, loss, margin, output, probability

if TYPE_CHECKING:
    from jaxplain import aggregate as aggregate
    from jaxplain import data as data
    from jaxplain import dataset as dataset
    from jaxplain import evaluate as evaluate
    from jaxplain import models as models
    from jaxplain import plot as plot
    from jaxplain import report as report
    from jaxplain import train as train
    from jaxplain.dataset import explain_dataset, open_explanations
    from jaxplain.models import from_nnx

__all__ = [
    "Function",
    "ablation_cam",
    "accentuate",
    "activation_grid",
    "activation_maximization",
    "activation_patching",
    "attribution_patching",
    "audit",
    "blur_integrated_gradients",
    "capture",
    "class_activation_map",
    "conductance",
    "counterfactual",
    "deconv_view",
    "deconvnet",
    "deep_dream",
    "deep_lift",
    "deep_shap",
    "draw",
    "eigen_cam",
    "eigen_grad_cam",
    "excitation_backprop",
    "expected_gradients",
    "explain_batch",
    "explain_dataset",
    "extremal_perturbation",
    "fast_layout",
    "feature_ablation",
    "feature_inversion",
    "feature_permutation",
    "fgsm",
    "from_nnx",
    "full_grad",
    "full_grad_terms",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient",
    "guided_backprop",
    "guided_grad_cam",
    "guided_integrated_gradients",
    "hires_cam",
    "image_regions",
    "input_x_gradient",
    "integrated_gradients",
    "integrated_gradients_with_gap",
    "integrated_hessians",
    "internal_influence",
    "intervene",
    "kernel_shap",
    "layer_cam",
    "layers",
    "lime",
    "log_probability",
    "logit",
    "loss",
    "lrp",
    "margin",
    "occlusion",
    "open_explanations",
    "output",
    "owen_values",
    "pgd",
    "probability",
    "receptive_field",
    "relevance_balance",
    "rise",
    "saliency",
    "score_cam",
    "shapley_interactions",
    "shapley_sampling",
    "shapley_sampling_with_error",
    "shapley_values",
    "smoothgrad",
    "smoothgrad_squared",
    "split",
    "vargrad",
    "xgrad_cam",
    "xrai",
]

# `import jaxplain.image` finds the namespaces of deeper folders by their public names, too, as `import os.path` does.
for _space in (image, objective, regulariser, relevance, transform):
    sys.modules[f"jaxplain.{_space.__name__.rpartition('.')[2]}"] = _space

_NAMESPACES = ("aggregate", "data", "dataset", "evaluate", "models", "plot", "report", "train")
_LATE = {"explain_dataset": "dataset", "open_explanations": "dataset", "from_nnx": "models"}


def __getattr__(name: str) -> Any:
    """Import what is heavy (Flax, optax, matplotlib, TensorStore) when it is first asked for."""
    if name in _LATE:
        return getattr(importlib.import_module(f"jaxplain.{_LATE[name]}"), name)
    if name in _NAMESPACES:
        return importlib.import_module(f"jaxplain.{name}")
    raise AttributeError(f"module 'jaxplain' has no attribute {name!r}")
