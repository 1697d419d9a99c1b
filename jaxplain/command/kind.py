"""Which of the library's names a setting can be written with: `rule=epsilon_plus`, `baseline=blur(3)`."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

SPECIAL = ("data", "targets", "score", "apply", "params", "outputs")
"""Names that stand for what --data and --model give, where a setting takes arrays or functions."""


ELSEWHERE = {
    "mse": "squared_error",
    "mean_squared_error": "squared_error",
    "ce": "cross_entropy",
    "bce": "binary_cross_entropy",
    "zero": "zeros",
    "black": "zeros",
    "gaussian_blur": "blur",
    "tv": "total_variation",
    "fft": "fourier",
}
"""What other libraries call some of the names, and what they are here."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """What may be written for a setting.

    Attributes:
        names: Names to factories, or to the values themselves.
        strict: Whether other names are refused; a text otherwise.
        plain: Whether a name stands for the function itself, uncalled.
        special: Whether the names of `SPECIAL` are understood.
        example: What could be written.
        hint: Where to look for what there is.
    """

    names: Mapping[str, Any]
    strict: bool = False
    plain: bool = False
    special: bool = True
    example: str = "blur(3)"
    hint: str = ""

    @property
    def words(self) -> Kind:
        """The kind of a mapping's keys."""
        return Kind({}, special=False)


_BASELINES = (
    "zeros", "mean", "sample", "uniform_noise", "gaussian_noise", "blur", "noisy_linear_imputation",
    "nearest_counter_class", "imputed_baseline",
)  # fmt: skip
_LOSSES = ("cross_entropy", "binary_cross_entropy", "squared_error")

_OWN: dict[str, tuple[tuple[str, ...], tuple[str, ...] | None, bool, str]] = {
    "rule": (("jaxplain.relevance",), None, False, "epsilon(1e-6)"),
    "rules": (("jaxplain.relevance",), None, False, "epsilon(1e-6)"),
    "baseline": (("jaxplain.baseline", "jaxplain.evaluate"), _BASELINES, False, "blur(3)"),
    "groups": (("jaxplain.baseline",), ("superpixels",), False, "superpixels(data[0], 50)"),
    "regions": (("jaxplain.explain",), ("image_regions",), False, "image_regions(data[0])"),
    "image": (("jaxplain.image",), None, False, "fourier((28, 28, 1))"),
    "transforms": (("jaxplain.transform",), None, False, "[jitter(2)]"),
    "regularisers": (("jaxplain.regulariser",), None, False, "[l2(0.1)]"),
    "objective": (("jaxplain.objective",), None, False, "channel(conv, 3)"),
    "optimizer": (("optax",), None, False, "adam(1e-3)"),
    "learning_rate": (("optax",), None, False, "cosine_decay_schedule(1e-3, 100)"),
    "loss": (("jaxplain.train",), _LOSSES, True, "cross_entropy"),
    "criterion": (("jaxplain.train",), _LOSSES, True, "cross_entropy"),
    "similarity": (("jaxplain.evaluate",), ("pearson", "spearman", "structural_similarity"), True, "spearman"),
    "patterns": (("jaxplain.pattern",), ("estimate_patterns",), False, "estimate_patterns(data, targets)"),
    "aggregate": (("jaxplain.aggregate",), ("moments", "top_k"), False, "moments(classes=10)"),
    "reduce": (("jaxplain.dataset",), ("channel_sum", "top_features", "group_sum"), False, "top_features(10)"),
}
"""Setting to the namespaces of its names (all of them, or those listed), whether they stay uncalled, and an example."""

_LIKE = {"one": "objective", "other": "objective", "inner": "optimizer", "removal": "baseline"}


@functools.cache
def kind(setting: str) -> Kind | None:
    """The kind of a setting of a name; None where the library has no names for it."""
    setting = _LIKE.get(setting, setting)
    if setting not in _OWN:
        return None
    spaces, listed, plain, example = _OWN[setting]
    names: dict[str, Any] = {}
    for space in spaces:
        names.update(_optax() if space == "optax" else _names(importlib.import_module(space), listed))
    hint = f"`jaxplain explain --list {setting}` lists what there is; an own one is @file.py:name."
    return Kind(names, strict=True, plain=plain, example=example, hint=hint)


def settings_with_names() -> list[str]:
    """The settings that have names."""
    return sorted(_OWN)


def kind_of(function: Callable[..., Any], setting: str) -> Kind:
    """What may be written for an argument of a function.

    An argument that takes a text takes any; one without names of its own takes literals and what `SPECIAL` stands for.
    """
    parameter = inspect.signature(function).parameters.get(setting)
    annotation = "" if parameter is None or parameter.annotation is parameter.empty else str(parameter.annotation)
    if parameter is not None and re.search(r"\bstr\b|Literal", annotation):
        return Kind({}, special=False)
    if getattr(function, "__module__", "").startswith("optax") and setting != "learning_rate":
        return kind("optimizer") if parameter is None else Kind({}, special=False)  # type: ignore[return-value]
    return kind(setting) or Kind({})


def _names(module: Any, listed: tuple[str, ...] | None) -> dict[str, Any]:
    if listed is None:
        return {name: getattr(module, name) for name in module.__all__ if callable(getattr(module, name))}
    return {name: getattr(module, name) for name in listed if name in module.__all__}


def _optax() -> dict[str, Any]:
    """What optax has of optimizers, gradient transformations and schedules."""
    import optax

    found = {name: getattr(optax, name) for name in dir(optax) if name[0].islower()}
    return {name: f for name, f in found.items() if inspect.isfunction(f) and f.__module__.startswith("optax.")}
