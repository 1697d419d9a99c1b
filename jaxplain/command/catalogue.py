"""The methods, wrappers, scores and metrics that can be named, and what to write instead of those that cannot."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jaxplain
from jaxplain.command.place import nearest
from jaxplain.program import meant

WRAPPERS = ("smoothgrad", "smoothgrad_squared", "vargrad")

SCORES = ("logit", "probability", "log_probability", "margin", "output", "loss")

INSTEAD = {
    "activation_maximization": "it makes an input and explains none: jaxplain visualize --unit LAYER:INDEX",
    "attention_flow": "it runs on the host, an example at a time: jaxplain.language.attention_flow(f)(x) in Python",
    "audit": "it lists the rules of a method and explains no input: print(jaxplain.audit(e)) in Python",
    "explain_generation": "it explains one text, token by token: jaxplain.language.explain_generation(...) in Python",
    "explain_batch": "that is what jaxplain explain does with every method",
    "image_regions": "it is a setting of xrai: --method xrai --set 'regions=image_regions(data[0])'",
}
"""Public names of `jaxplain.explain` that are no methods, and what to write."""

_FURTHER = {
    "pattern": ("pattern_attribution", "pattern_net"),
    "internals": ("activation_patching", "attribution_patching"),
    "language": (
        "attention_rollout", "context_cite", "edge_attribution", "edge_patching", "gradient_rollout",
        "node_attribution", "node_patching", "path_patching", "site_attribution", "sweep", "value_weighted_norms",
    ),
    "vision": ("d_rise",),
    "genomics": ("hypothetical_contributions", "saturation_mutagenesis"),
}  # fmt: skip
"""Methods by the namespaces that they stand in."""

_FURTHER_SCORES = {
    "language": (
        "contrastive", "entropy", "kl_to", "sequence_log_probability", "token_log_probability", "token_logit",
    ),
    "vision": ("box_score", "region_score"),
}  # fmt: skip
_NAMESPACES = ("internals", "language", "vision", "genomics", "concept", "influence", "aggregate", "evaluate")

_CURVES = (
    "deletion_curve", "insertion_curve", "parameter_randomization_curve", "pixel_flipping", "road_curve",
    "sensitivity_n_curve",
)  # fmt: skip
_DATASET = ("consistency", "sufficiency")
_NO_METRICS = {
    "compare", "compare_models", "edge_attribution", "evaluate_batch", "frechet_bootstrap", "frechet_distance",
    "imputed_baseline", "mechanism_table", "mechanisms", "mosaic", "paired_difference", "pearson", "random_attribution",
    "random_removal", "remove_and_retrain", "score_table", "spearman", "structural_similarity",
}  # fmt: skip


@functools.cache
def methods() -> Mapping[str, Any]:
    """Everything that explains an input, by name."""
    own = {name: f for name, f in vars(jaxplain).items() if name in jaxplain.__all__}  # what is late would import Flax
    found = {name: f for name, f in own.items() if getattr(f, "__module__", "").startswith("jaxplain.explain.")}
    found |= _of_namespaces(_FURTHER)
    return {name: found[name] for name in sorted(found) if name not in INSTEAD and name not in WRAPPERS}


@functools.cache
def wrappers() -> Mapping[str, Any]:
    """What stands around a method, by name."""
    return {name: getattr(jaxplain, name) for name in WRAPPERS}


@functools.cache
def scores() -> Mapping[str, Any]:
    """What of the output is explained, by name."""
    return {name: getattr(jaxplain, name) for name in SCORES} | _of_namespaces(_FURTHER_SCORES)


def _of_namespaces(names: Mapping[str, Iterable[str]]) -> dict[str, Any]:
    return {name: getattr(getattr(jaxplain, space), name) for space, listed in names.items() for name in listed}


@functools.cache
def metrics() -> Mapping[str, Any]:
    """What judges one explanation by one number, by name."""
    from jaxplain import evaluate

    left_out = {*_NO_METRICS, *_CURVES, *_DATASET}
    return {name: getattr(evaluate, name) for name in evaluate.__all__ if name not in left_out}


KINDS = {"method": methods, "wrapper": wrappers, "score": scores, "metric": metrics}
"""The catalogues by the word for what is in them."""


def known(kind: str) -> Mapping[str, Any]:
    """A catalogue by its word."""
    return KINDS[kind]()


def find(name: str, kind: str, option: str) -> Callable[..., Any]:
    """What a name stands for.

    Raises:
        ValueError: There is none; what is meant, or what to write instead, is said.
    """
    names = known(kind)
    if name in names:
        return names[name]
    where = f"jaxplain {'evaluate' if kind == 'metric' else 'explain'} --list"
    instead = _instead(name, kind)
    if instead is not None:
        raise ValueError(f"{option}: {name!r} is no {kind}; {instead}.")
    ours = _meant(name, names)
    if ours is not None:
        raise ValueError(f"{option}: there is no {name!r}; it is called {ours} here. `{where}` lists what there is.")
    raise ValueError(f"{option}: there is no {name!r}{nearest(name, names)}. `{where}` lists what there is.")


def _instead(name: str, kind: str) -> str | None:
    """What to write for a name of the library that is of another kind."""
    if kind == "method" and name in WRAPPERS:
        return f"it is a wrapper around one: --wrapper {name} --wrapper-set sigma=0.1"
    if kind == "wrapper" and name in methods():
        return f"it is a method: --method {name}"
    if kind == "metric" and name in _CURVES:
        return "it gives a curve and not one number; 'deletion', 'insertion' and 'road' are areas and means of curves"
    if kind == "metric" and name in _DATASET:
        return f"it judges a whole dataset: jaxplain.evaluate.evaluate_batch(evaluate.{name}(...), ...) in Python"
    if kind == "method" and name in INSTEAD:
        return INSTEAD[name]
    space = next((space for space in _NAMESPACES if name in getattr(jaxplain, space).__all__), None)
    if space is not None and callable(getattr(getattr(jaxplain, space), name)):
        return f"it is jaxplain.{space}.{name}, for Python"
    return None


def _meant(name: str, names: Iterable[str]) -> str | None:
    """What another library's name, or one in another spelling, is called here; None for a slip of the pen."""
    found = meant(name, [("", names)])
    if found is None:
        return None
    ours = found.rpartition(".")[2]
    plain, own = (text.lower().replace("_", "") for text in (name, ours))
    return ours if plain == own or difflib.SequenceMatcher(None, plain, own).ratio() < 0.8 else None
