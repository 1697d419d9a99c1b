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
from jaxplain.program import Function, meant
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

NAMESPACES = (
    "evaluate",
    "baseline",
    "aggregate",
    "data",
    "models",
    "train",
    "dataset",
    "plot",
    "report",
    "relevance",
    "image",
    "objective",
    "transform",
    "regulariser",
)
"""Where everything else is reached, without a second import."""

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
_DEEPER = {"image": image, "objective": objective, "regulariser": regulariser, "relevance": relevance}
_DEEPER["transform"] = transform
for _name, _space in _DEEPER.items():
    sys.modules[f"jaxplain.{_name}"] = _space

_LATE = {"explain_dataset": "dataset", "open_explanations": "dataset", "from_nnx": "models"}


def __getattr__(name: str) -> Any:
    """Import what is heavy (Flax, optax, matplotlib, TensorStore) when it is first asked for."""
    if name in _LATE:
        return getattr(importlib.import_module(f"jaxplain.{_LATE[name]}"), name)
    if name in NAMESPACES:
        return importlib.import_module(f"jaxplain.{name}")
    text = f"module 'jaxplain' has no attribute {name!r}"
    if not name.startswith("_"):
        spaces = {space: importlib.import_module(f"jaxplain.{space}").__all__ for space in NAMESPACES}
        own = meant(name, [("jaxplain", __all__), *((f"jaxplain.{space}", names) for space, names in spaces.items())])
        text += f"; it is called {own} here." if own else ". help(jaxplain) lists where to look."
    raise AttributeError(text)


def __dir__() -> list[str]:
    """Every name and namespace; to `help`, which would print each function's whole text, only the namespaces."""
    reader = sys._getframe(1)
    for _ in range(3):
        if reader.f_globals.get("__name__") == "pydoc":
            return ["__doc__", *NAMESPACES]
        reader = reader.f_back or reader
    return sorted({*globals(), *__all__, *NAMESPACES})
