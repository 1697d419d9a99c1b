"""Names: what other libraries and earlier versions call things, and the errors that say what they are called here.

`public` stands on every public function that takes settings: a call with a setting that is not there says which is
meant, before anything is computed.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from jaxplain.program.kinds import hold
from jaxplain.program.opaque import refuse_opaque
from jaxplain.program.reach import looking_once

F = TypeVar("F", bound=Callable[..., Any])

SETTINGS = {
    "steps": "n_steps nsteps num_steps n_iter iterations max_iter num_iterations m_steps",
    "samples": "n_samples nt_samples nsamples num_samples n_perturb_samples nr_samples stdevs_samples n_perturbations",
    "baseline": "baselines background background_data reference references background_dataset x_baseline",
    "sigma": "stdevs stdev std noise_level noise_std stdev_spread",
    "batch_size": "internal_batch_size perturbations_per_eval max_batch_size chunk_size nt_samples_batch_size",
    "groups": "feature_mask feature_groups segments superpixels interpretable_mask",
    "window": "sliding_window_shapes window_size window_shape patch_size mask_size",
    "stride": "strides stride_size step",
    "layer": "target_layer target_layers layer_name layers",
    "key": "rng seed prng_key rng_key random_state random_seed",
    "rule": "method composite quadrature",
    "epsilon": "eps",
    "radius": "r perturb_radius",
    "norm": "p ord",
    "regression": "interpretable_model surrogate",
    "optimizer": "optimiser",
    "colour": "color",
}
"""A setting here, and what it is called elsewhere."""

CALL_TIME = {
    "target": "target targets target_class target_classes class_index class_idx label labels y",
    "x": "inputs input input_tensor x_batch",
    "args": "additional_forward_args forward_kwargs",
}
"""What is passed when the explanation is called, not when it is made."""

FUNCTIONS = {
    "gradient": "vanilla_gradient vanilla_grad grad gradients saliency_map",
    "smoothgrad": "noise_tunnel smooth_grad",
    "smoothgrad_squared": "smoothgrad_sq smooth_grad_squared smoothgrad_square",
    "integrated_gradients": "ig integrated_gradient integrated_grads integrated_grad path_explainer",
    "expected_gradients": "gradient_shap gradient_explainer",
    "deep_lift": "deeplift_rescale",
    "deep_shap": "deep_explainer deep_lift_shap",
    "kernel_shap": "kernel_explainer",
    "shapley_sampling": "shapley_value_sampling sampling_explainer permutation_explainer",
    "owen_values": "partition_explainer",
    "shapley_values": "shapley exact_explainer shap shap_values",
    "lime": "lime_tabular_explainer lime_image_explainer lime_base",
    "guided_backprop": "guided_backpropagation guided_gradients guided_backprop_relu_model",
    "deconvnet": "deconvolution",
    "lrp": "layer_wise_relevance_propagation layerwise_relevance_propagation epsilon_lrp",
    "grad_cam_plus_plus": "grad_cam++ gradcampp",
    "class_activation_map": "cam",
    "occlusion": "occlusion_sensitivity sliding_window",
    "rise": "randomized_input_sampling",
    "activation_maximization": "optvis render_vis activation_maximisation feature_visualization",
    "attribution_patching": "eap edge_attribution_patching",
    "activation_patching": "causal_tracing",
    "conductance": "internal_conductance neuron_conductance",
    "capture": "run_with_cache hooked_transformer forward_hook get_activations",
    "intervene": "run_with_hooks",
    "explain_batch": "explain attribute",
    "explain_generation": "llm_attribution llm_gradient_attribution",
    "context_cite": "context_citer",
    "max_sensitivity": "sensitivity_max",
    "average_sensitivity": "sensitivity_avg avg_sensitivity",
    "structural_similarity": "ssim",
    "parameter_randomization": "mprt model_parameter_randomisation",
    "pixel_flipping": "pixel_flip",
    "roc_auc": "auc",
    "partial_dependence": "pdp partial_dependence_plot",
    "individual_conditional_expectation": "ice",
    "accumulated_local_effects": "ale",
}
"""A function here, and what it is called elsewhere, beside capitals and underscores."""


_MAKERS = ("explain", "evaluate", "internals", "models", "readout", "score")
"""Where a function makes something and does nothing else, so that it can be asked for its own words of an argument."""


def public(function: F) -> F:
    """Hold the arguments of a public function before it runs: settings by name, values against their annotations.

    A setting that is not there is answered with the one that is meant, a value of another kind with what is due; both
    are a `TypeError` before any compute (a `ValueError` for NaN where a number is due).
    """
    signature = inspect.signature(function)
    known = list(signature.parameters)
    loose = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    made_only = function.__module__.split(".")[1] in _MAKERS
    places = [p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    many = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    due = {p.name for p in signature.parameters.values() if p.default is p.empty and p.kind not in many}

    @functools.wraps(function)
    def checked(*args: Any, **settings: Any) -> Any:
        with looking_once():
            if not loose and not settings.keys() <= signature.parameters.keys():
                unknown = next(name for name in settings if name not in signature.parameters)
                raise TypeError(unknown_setting(function.__name__, unknown, known))
            given = {**dict(zip(places, args, strict=False)), **settings}  # `Signature.bind` takes ten times as long
            if not due <= given.keys():  # Python says itself what is missing
                return function(*args, **settings)
            refuse_opaque(function.__name__, given)
            try:
                hold(function, given)
            except (TypeError, ValueError) as told:
                asked = made_only and not {"e", "x", "data"} & signature.parameters.keys()
                raise ((_own_words(function, args, settings) if asked else None) or told) from None
            return function(*args, **settings)

    return checked  # type: ignore[return-value]


def _own_words(function: Callable[..., Any], args: Any, settings: Any) -> Exception | None:
    """What a function says itself of a wrong argument, which is more exact where it says anything of one."""
    try:
        function(*args, **settings)
    except (TypeError, ValueError) as error:
        named = "|".join(map(re.escape, inspect.signature(function).parameters))
        return error if re.search(rf"`({named})\b", str(error)) else None
    except Exception:  # the annotation has the word
        return None
    return None


def unknown_setting(function: str, given: str, known: list[str]) -> str:
    """Say what a setting is called here, or which settings there are."""
    ours = next((ours for ours, theirs in SETTINGS.items() if given in theirs.split() and ours in known), None)
    if ours is None:
        close = difflib.get_close_matches(given, known, n=1, cutoff=0.75)
        ours = close[0] if close else None
    if ours is not None:
        return f"{function}: there is no setting `{given}`; it is called `{ours}` here."
    called = next((ours for ours, theirs in CALL_TIME.items() if given in theirs.split()), None)
    if called is not None:
        return (
            f"{function}: `{given}` is no setting; it is passed when what `{function}` returns is called: "
            "e(x, target), with x first and the target as the score takes it."
        )
    return f"{function}: there is no setting `{given}`; the settings are {', '.join(known)}."


def meant(name: str, places: Iterable[tuple[str, Iterable[str]]]) -> str | None:
    """The full name of what is called `name` elsewhere or in another spelling; None where nothing is.

    Args:
        name: What was asked for: `deletion`, `IntegratedGradients`, `gradcam`.
        places: Namespaces by their full names, with the names in each.
    """
    found = {_plain(own): f"{place}.{own}" for place, names in reversed(list(places)) for own in names}
    plain = _plain(name)
    for ours, theirs in FUNCTIONS.items():
        if _plain(ours) in found:
            found.update({_plain(word): found[_plain(ours)] for word in theirs.split() if _plain(word) not in found})
    for start in ("", "layer", "neuron"):  # `LayerIntegratedGradients` is a split and the method
        if plain.startswith(start) and plain.removeprefix(start) in found:
            return found[plain.removeprefix(start)]
    close = difflib.get_close_matches(plain, found, n=1, cutoff=0.8)
    return found[close[0]] if close else None


def _plain(name: str) -> str:
    return name.lower().replace("_", "")
