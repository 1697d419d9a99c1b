"""A section of a page: what a dictionary of activations is worth, and what its features are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxplain.concept import Dictionary, judge_dictionary
from jaxplain.plot import feature_dashboard
from jaxplain.program import public
from jaxplain.report.page import Section
from jaxplain.report.reading import SECTIONS


@public
def dictionary_section(
    dictionary: Dictionary,
    activations: Any,
    inputs: Any,
    *,
    features: Sequence[int] | None = None,
    visualizations: Mapping[int, Any] | None = None,
    logits: Any = None,
    names: Sequence[Any] | None = None,
    k: int = 5,
    limit: int = 6,
    facts: Mapping[str, Any] | None = None,
    heading: str = "Features of a layer",
) -> Section:
    """Make a report's section of a dictionary: its explained variance, sparsity and dead features, and a dashboard.

    Args:
        dictionary: Any of `jaxplain.concept`.
        activations: `[N, ..., D]`, those of `inputs`, best held out.
        inputs: As in `plot.feature_dashboard`, as are `features`, `visualizations`, `logits`, `names`, `k` and `limit`.
        features: Which are drawn.
        visualizations: Inputs that maximise them.
        logits: What they add to the outputs.
        names: Names of the outputs.
        k: How many examples of each.
        limit: Most features drawn.
        facts: What else is known of it, such as the loss recovered.
        heading: The section's heading.

    Returns:
        The section.

    Raises:
        ValueError, TypeError: As `plot.feature_dashboard`, and constant activations.
    """
    settings: dict[str, Any] = {"features": features, "visualizations": visualizations, "logits": logits}
    figure = feature_dashboard(dictionary, activations, inputs, names=names, k=k, limit=limit, **settings)
    judged = judge_dictionary(dictionary, activations)
    known: dict[str, Any] = {
        "layer": "not said" if dictionary.site is None else dictionary.site.layer,
        "features": dictionary.size,
        "variance explained": float(judged.variance_explained),
        "features active at once": float(judged.l0),
        "dead features": int(judged.dead.sum()),
    }
    return Section(heading, [{**known, **dict(facts or {})}, figure], reading=SECTIONS["dictionary_section"])
