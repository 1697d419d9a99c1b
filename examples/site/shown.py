"""How every attribution method is made for the three inputs of its picture, and where it does not apply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from worlds import World

import jaxplain
from jaxplain import baseline, language, pattern, relevance

KEY = jax.random.key(0)
Make = Callable[[World], Any]


def loss_of(world: World) -> Any:
    """What an attack raises: the score with its sign turned."""
    return lambda x, label: -world.f(x, label)


def other(world: World) -> Any:
    """How far another class is ahead: what a counterfactual raises."""
    rival = {"image": 8, "table": 1, "text": 0}[world.kind]
    return lambda x, label: world.f(x, rival) - world.f(x, label)


def patterns(world: World) -> Any:
    """The patterns of the network's neurons, over some training examples."""
    return pattern.estimate_patterns(world.f, world.rows[:400], world.targets[:400])


def map_of(name: str) -> Make:
    """A class activation map of the world's layer."""
    return lambda world: getattr(jaxplain, name)(world.f, world.layer)


MAPS = ("grad_cam", "class_activation_map", "grad_cam_plus_plus", "hires_cam", "xgrad_cam", "layer_cam", "eigen_cam")
MAPS += ("eigen_grad_cam", "score_cam", "ablation_cam", "guided_grad_cam")

METHODS: dict[str, Make] = {
    "gradient": lambda w: jaxplain.gradient(w.f),
    "saliency": lambda w: jaxplain.saliency(w.f),
    "input_x_gradient": lambda w: jaxplain.input_x_gradient(w.f),
    "integrated_gradients": lambda w: jaxplain.integrated_gradients(w.f),
    "integrated_gradients_with_gap": lambda w: jaxplain.integrated_gradients_with_gap(w.f),
    "expected_gradients": lambda w: jaxplain.expected_gradients(w.f, baseline.sample(w.rows[:64])),
    "guided_integrated_gradients": lambda w: jaxplain.guided_integrated_gradients(w.f),
    "blur_integrated_gradients": lambda w: jaxplain.blur_integrated_gradients(w.f, sigma=2.0, axes=w.axes),
    "xrai": lambda w: jaxplain.xrai(w.f, regions=jnp.stack([w.groups[..., 0] == i for i in range(9)])),
    "smoothgrad": lambda w: jaxplain.smoothgrad(jaxplain.gradient(w.f), sigma=0.2),
    "smoothgrad_squared": lambda w: jaxplain.smoothgrad_squared(jaxplain.gradient(w.f), sigma=0.2),
    "vargrad": lambda w: jaxplain.vargrad(jaxplain.gradient(w.f), sigma=0.2),
    "integrated_hessians": lambda w: jaxplain.integrated_hessians(w.f, steps=8, smooth=5.0),
    "lrp": lambda w: jaxplain.lrp(w.f, relevance.epsilon(1e-6)),
    "excitation_backprop": lambda w: jaxplain.excitation_backprop(w.f),
    "deep_lift": lambda w: jaxplain.deep_lift(w.f),
    "deep_shap": lambda w: jaxplain.deep_shap(w.f, w.rows[:32]),
    "guided_backprop": lambda w: jaxplain.guided_backprop(w.f),
    "deconvnet": lambda w: jaxplain.deconvnet(w.f),
    "full_grad": lambda w: jaxplain.full_grad(w.f),
    "full_grad_terms": lambda w: jaxplain.full_grad_terms(w.f),
    "pattern_net": lambda w: pattern.pattern_net(w.f, patterns(w)),
    "pattern_attribution": lambda w: pattern.pattern_attribution(w.f, patterns(w)),
    **{name: map_of(name) for name in MAPS},
    "class_activation_map": lambda w: jaxplain.class_activation_map(w.pooled, "last"),
    "occlusion": lambda w: jaxplain.occlusion(w.f, window=2 if w.kind == "image" else 1),
    "feature_ablation": lambda w: jaxplain.feature_ablation(w.f),
    "feature_permutation": lambda w: jaxplain.feature_permutation(w.f, w.rows[:32]),
    "rise": lambda w: jaxplain.rise(w.f, cells=4) if w.kind == "image" else jaxplain.rise(w.f, groups=w.single),
    "extremal_perturbation": lambda w: jaxplain.extremal_perturbation(w.f, area=0.25, spacing=(2, 2)),
    "counterfactual": lambda w: jaxplain.counterfactual(other(w), low=w.low, high=w.high),
    "fgsm": lambda w: jaxplain.fgsm(loss_of(w), epsilon=0.1, low=w.low, high=w.high),
    "pgd": lambda w: jaxplain.pgd(loss_of(w), epsilon=0.1, step_size=0.02, low=w.low, high=w.high),
    "shapley_values": lambda w: jaxplain.shapley_values(w.f, groups=w.groups),
    "shapley_sampling": lambda w: jaxplain.shapley_sampling(w.f),
    "shapley_sampling_with_error": lambda w: jaxplain.shapley_sampling_with_error(w.f, samples=64),
    "kernel_shap": lambda w: jaxplain.kernel_shap(w.f),
    "owen_values": lambda w: jaxplain.owen_values(w.f, w.groups, samples=64),
    "shapley_interactions": lambda w: jaxplain.shapley_interactions(w.f, groups=w.groups),
    "lime": lambda w: jaxplain.lime(w.f, groups=w.groups),
    "conductance": lambda w: jaxplain.conductance(w.f, w.layer),
    "internal_influence": lambda w: jaxplain.internal_influence(w.f, w.layer),
    "attention_rollout": lambda w: language.attention_rollout(w.f),
    "gradient_rollout": lambda w: language.gradient_rollout(w.f),
    "attention_flow": lambda w: language.attention_flow(w.f),
}
"""How each method is made."""

RESULTS: dict[str, Callable[[Any, World], Any]] = {
    "integrated_gradients_with_gap": lambda result, w: result.attribution,
    "shapley_sampling_with_error": lambda result, w: result.attribution,
    "full_grad_terms": lambda result, w: result.input,
    "counterfactual": lambda result, w: result.x - w.x,
    "fgsm": lambda result, w: result - w.x,
    "pgd": lambda result, w: result - w.x,
}
"""What of a result is drawn, where it is no attribution by itself; of a changed input the change."""

COLUMNS = "a table's columns have no places"
IDS = "token ids cannot be moved a little"
ONLY_IMAGES = "for images"
NO_ATTENTION = "no attention in this network"
OTHER_LAYERS = "dense layers, convolutions and ReLUs alone"

ABSENT: dict[tuple[str, str], str] = {
    **{(name, "table"): COLUMNS for name in (*MAPS, "blur_integrated_gradients")},
    **{(name, kind): ONLY_IMAGES for name in ("xrai", "extremal_perturbation") for kind in ("table", "text")},
    ("blur_integrated_gradients", "text"): "ids cannot be blurred",
    ("class_activation_map", "text"): "a normalisation follows the pooling",
    ("guided_grad_cam", "text"): "ids have no derivative",
    **{(name, "text"): IDS for name in ("fgsm", "pgd", "counterfactual")},
    **{(name, "text"): OTHER_LAYERS for name in ("pattern_net", "pattern_attribution")},
    **{(name, kind): NO_ATTENTION for name in ("attention_rollout", "gradient_rollout", "attention_flow")
       for kind in ("image", "table")},
}  # fmt: skip
"""Where a method does not apply, and why."""

NOT_DRAWN = {
    "activation_patching": "compares two inputs",
    "attribution_patching": "compares two inputs",
    "explain_generation": "needs a model that generates",
    "context_cite": "needs a model that generates",
    "value_weighted_norms": "one table for each head",
    "hypothetical_contributions": "needs a one-hot sequence",
    "saturation_mutagenesis": "needs a one-hot sequence",
    "d_rise": "needs a model that returns boxes",
}
"""Methods without a picture."""


def explained(name: str, world: World) -> Any:
    """What a method says of a world's input; None where it does not apply."""
    if (name, world.kind) in ABSENT:
        return None
    e = METHODS[name](world)
    key = (KEY,) if getattr(e, "needs_key", False) else ()
    result = e(*key, world.x, world.label)
    return RESULTS.get(name, lambda result, w: result)(result, world)
