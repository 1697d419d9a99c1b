"""Scores that are no JAX program, such as a callback of a Python function: what can be asked of them, and what not.

A class says that it is one by `opaque = True`. Nothing can be differentiated through one, and it has no layers; a
method that only compares scores works with it as with any other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax

WORKS = (
    *("feature_ablation", "feature_permutation", "kernel_shap", "lime", "occlusion", "owen_values", "rise"),
    *("shapley_interactions", "shapley_sampling", "shapley_sampling_with_error", "shapley_values"),
)
"""Explanations that only compare scores."""

FORWARD = {
    *WORKS,
    # of a whole dataset
    *("accumulated_local_effects", "individual_conditional_expectation", "partial_dependence"),
    *("permutation_importance", "sparse_surrogate", "tree_surrogate", "sobol_importance", "sobol_indices"),
    *("context_cite", "compare"),
    # metrics
    *("average_drop", "average_gain", "average_increase", "completeness", "deletion", "deletion_curve", "f_fidelity"),
    *("faithfulness_correlation", "faithfulness_estimate", "infidelity", "insertion", "insertion_curve", "irof"),
    *("monotonicity", "monotonicity_correlation", "mu_fidelity", "non_sensitivity", "pixel_flipping"),
    *("region_perturbation", "road", "road_curve", "selectivity", "sensitivity_n", "sensitivity_n_curve"),
    *("soft_comprehensiveness", "soft_sufficiency", "symmetric_relevance_gain", "effective_complexity"),
    *("relative_output_stability", "input_invariance", "implementation_invariance", "symmetry"),
}
"""Public functions that neither differentiate a score nor look inside of its model."""


class NeedsDerivative(ValueError):
    """Raised where a derivative of an opaque score is asked for."""


def refuse_opaque(name: str, given: Mapping[str, Any]) -> None:
    """Refuse an opaque score in the place of one that has to be differentiated or looked into.

    Args:
        name: The public function that is called.
        given: Its arguments.

    Raises:
        NeedsDerivative: A `ValueError` that names methods that work.
    """
    if name not in FORWARD and any(is_opaque(value) for value in given.values()):
        raise needs_derivative(name)


def needs_derivative(name: str) -> NeedsDerivative:
    """The error for a method that asks an opaque score for what it has not."""
    return NeedsDerivative(
        f"{name}: it needs a derivative of the score or what is inside of its model, and a black box (`black_box`, any "
        f"host callback) has neither. Methods that only compare scores work: {', '.join(WORKS)}; of a whole dataset "
        "those of jaxplain.aggregate, such as permutation_importance."
    )


_FAILED: list[Exception] = []
"""The last error of a function on the host, which JAX passes on as a part of a text of its own."""


def note_failure(error: Exception) -> None:
    """Keep the error of a function on the host for the caller who waits for it."""
    _FAILED[:] = [error]


def with_own_errors(call: Callable[[], Any]) -> Any:
    """What a call that waits for functions on the host returns, and their errors as they raised them."""
    try:
        return jax.block_until_ready(call())
    except jax.errors.JaxRuntimeError as error:
        if _FAILED and _is_of(_FAILED[0], str(error)):
            raise _FAILED.pop() from None
        raise


def _is_of(error: Exception, text: str) -> bool:
    """Whether a text of JAX's, which ends with the traceback of a function on the host, tells of this error."""
    return type(error).__name__ in text and str(error) in text


def is_opaque(value: Any) -> bool:
    """Whether a value is itself an opaque score."""
    return bool(getattr(type(value), "opaque", False))


def holds_opaque(value: Any) -> bool:
    """Whether an explanation or metric holds an opaque score, at any depth of its parts."""
    if is_opaque(value):
        return True
    if isinstance(value, tuple | list):
        return any(map(holds_opaque, value))
    if isinstance(value, type) or not (dataclasses.is_dataclass(value) and hasattr(value, "kind_of")):
        return False
    return any(holds_opaque(getattr(value, field.name)) for field in dataclasses.fields(value))
