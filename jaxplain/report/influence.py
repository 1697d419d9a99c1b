"""A section of a page: which training examples made the answers, and what speaks for believing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxplain.influence import Influence
from jaxplain.plot import influential_examples
from jaxplain.program import public
from jaxplain.report.page import Section
from jaxplain.report.reading import SECTIONS


@public
def influence_section(
    influence: Influence,
    inputs: Any,
    queries: Any,
    *,
    labels: Any = None,
    query_labels: Any = None,
    names: Sequence[Any] | None = None,
    features: Sequence[Any] | None = None,
    k: int = 4,
    limit: int = 6,
    heading: str = "Training examples behind the answers",
) -> Section:
    """Make a report's section of an attribution to training examples.

    Args:
        influence: What a method of `jaxplain.influence` returned, values `[Q, N]`.
        inputs: The training examples, as in `plot.influential_examples`.
        queries: The queries, in the same form.
        labels: `[N]`, of the training examples.
        query_labels: `[Q]`, of the queries.
        names: Names of the classes.
        features: Names of a table's columns.
        k: How many helpful and harmful examples of each query.
        limit: Most queries drawn.
        heading: The section's heading.

    Returns:
        The section: the method, its units and what it says of itself (metasmoothness, linearity, damping, ...), and the
        figure.

    Raises:
        ValueError, TypeError: As `plot.influential_examples`.

    Example:
        >>> import numpy as np
        >>> from jaxplain.influence import Influence
        >>> found = Influence(np.array([[0.5, -1.0]]), None, "score", True, "unrolled", {"linearity": 0.98})
        >>> influence_section(found, np.zeros((2, 8, 8)), np.zeros((1, 8, 8)), k=1).content[0]["linearity"]
        0.98
    """
    settings: dict[str, Any] = {"names": names, "features": features, "k": k, "limit": limit}
    figure = influential_examples(influence, inputs, queries, labels=labels, query_labels=query_labels, **settings)
    facts: dict[str, Any] = {
        "method": influence.method,
        "units": "of the score, for one whole example" if influence.units else "none: order and sign only",
        "training examples": int(np.shape(influence.values)[1]),
    }
    plain = {name: value for name, value in influence.checks.items() if isinstance(value, bool | int | float | str)}
    return Section(heading, [{**facts, **plain}, figure], reading=SECTIONS["influence_section"])
