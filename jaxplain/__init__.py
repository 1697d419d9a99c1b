"""Train Flax models and explain them with composable JAX functions.

A score is a function `f(x, *args) -> scalar`, a method makes an explanation `e(x, *args)` of it, a wrapper changes an
explanation, a metric judges one. All are pytrees written for one example: batches are `jax.vmap` or `explain_batch`,
speed is `jax.jit`. The modules `data`, `models`, `train`, `aggregate`, `plot` and `report` are imported at first use.
"""

from __future__ import annotations

import importlib
from types import ModuleType

# Scores, and what absent means.
from jaxplain.baseline import blur, gaussian_noise, mean, sample, uniform_noise, zeros

# Inside a model.
from jaxplain.capture import capture, intervene, split
from jaxplain.draw import draw

# Is the explanation right?
from jaxplain.evaluate.axioms import completeness
from jaxplain.evaluate.control import paired_difference, random_attribution
from jaxplain.evaluate.faithfulness import deletion, deletion_curve, insertion, insertion_curve
from jaxplain.evaluate.robustness import max_sensitivity
from jaxplain.evaluate.table import score_table

# Explanations.
from jaxplain.explain.activation import activation_maximization, jitter, l2, pixels, total_variation
from jaxplain.explain.backward import audit
from jaxplain.explain.balance import relevance_balance
from jaxplain.explain.batch import explain_batch
from jaxplain.explain.cam import (
    class_activation_map,
    grad_cam,
    grad_cam_plus_plus,
    hires_cam,
    layer_cam,
    xgrad_cam,
)
from jaxplain.explain.deep_lift import deep_lift, deep_shap
from jaxplain.explain.eigen_cam import eigen_cam, eigen_grad_cam
from jaxplain.explain.full_grad import full_grad, full_grad_terms
from jaxplain.explain.gradient import gradient, input_x_gradient, saliency
from jaxplain.explain.guided import deconvnet, guided_backprop
from jaxplain.explain.guided_grad_cam import guided_grad_cam
from jaxplain.explain.layer import conductance, internal_influence
from jaxplain.explain.lrp import excitation_backprop, lrp
from jaxplain.explain.noise import smoothgrad, smoothgrad_squared, vargrad
from jaxplain.explain.patching import activation_patching, attribution_patching
from jaxplain.explain.path import expected_gradients, integrated_gradients, integrated_gradients_with_gap
from jaxplain.explain.score_cam import ablation_cam, score_cam
from jaxplain.layers import layers
from jaxplain.nnx import from_nnx
from jaxplain.program.function import Function
from jaxplain.program.layout import fast_layout
from jaxplain.score import log_probability, logit, loss, margin, output, probability

__all__ = [
    "Function",
    "ablation_cam",
    "activation_maximization",
    "activation_patching",
    "attribution_patching",
    "audit",
    "blur",
    "capture",
    "class_activation_map",
    "completeness",
    "conductance",
    "deconvnet",
    "deep_lift",
    "deep_shap",
    "deletion",
    "deletion_curve",
    "draw",
    "eigen_cam",
    "eigen_grad_cam",
    "excitation_backprop",
    "expected_gradients",
    "explain_batch",
    "fast_layout",
    "from_nnx",
    "full_grad",
    "full_grad_terms",
    "gaussian_noise",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient",
    "guided_backprop",
    "guided_grad_cam",
    "hires_cam",
    "input_x_gradient",
    "insertion",
    "insertion_curve",
    "integrated_gradients",
    "integrated_gradients_with_gap",
    "internal_influence",
    "intervene",
    "jitter",
    "l2",
    "layer_cam",
    "layers",
    "log_probability",
    "logit",
    "loss",
    "lrp",
    "margin",
    "max_sensitivity",
    "mean",
    "output",
    "paired_difference",
    "pixels",
    "probability",
    "random_attribution",
    "relevance_balance",
    "saliency",
    "sample",
    "score_cam",
    "score_table",
    "smoothgrad",
    "smoothgrad_squared",
    "split",
    "total_variation",
    "uniform_noise",
    "vargrad",
    "xgrad_cam",
    "zeros",
]

_MODULES = ("aggregate", "data", "models", "plot", "report", "train")


def __getattr__(name: str) -> ModuleType:
    """Import what is heavy (Flax, optax, matplotlib, scikit-learn) when it is first asked for."""
    if name in _MODULES:
        return importlib.import_module(f"jaxplain.{name}")
    raise AttributeError(f"module 'jaxplain' has no attribute {name!r}")
