"""A section of a page: what training did to examples, to layers and to explanations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxplain import check
from jaxplain.plot import attribution_strip, drift_curves, example_dynamics, prediction_depths
from jaxplain.program import public
from jaxplain.report.page import Section, Table
from jaxplain.report.reading import SECTIONS
from jaxplain.report.word import titles
from jaxplain.train import LearningDynamics, PredictionDepth


@public
def learning_dynamics_section(
    dynamics: LearningDynamics,
    *,
    labels: Any = None,
    names: Sequence[Any] | None = None,
    depth: PredictionDepth | None = None,
    drift: Any = None,
    inputs: Any = None,
    attributions: Any = None,
    features: Sequence[Any] | None = None,
    k: int = 8,
    limit: int = 4,
    heading: str = "Learning dynamics",
) -> Section:
    """Make a report's section of a run's snapshots: when examples were learnt, and how explanations came about.

    Args:
        dynamics: What `jaxplain.train.learning_dynamics` returned.
        labels: `[N]`, classes or texts of the examples, for the table.
        names: Names of the classes, for labels and answers.
        depth: What `jaxplain.train.prediction_depth` returned, of the same examples (then right and wrong ones are told
            apart) or of another number of others.
        drift: As in `plot.drift_curves`, at the steps of `dynamics`.
        inputs: As in `plot.attribution_strip`, with `attributions`: a few examples.
        attributions: `[B, S, ...]`, as there.
        features: Names of a table's columns.
        k: How many of the hardest examples the table lists: those that end wrong, then the most often forgotten, then
            the last learnt.
        limit: Most examples in the strip.
        heading: The section's heading.

    Returns:
        The section: a sentence, figures, and the table of the hardest examples.

    Raises:
        ValueError, TypeError: As the figures.

    Example:
        >>> import numpy as np
        >>> right = np.array([[0, 1], [1, 1]], bool)
        >>> found = LearningDynamics(np.array([0, 9]), 1.0 - right, 1 * right, right)
        >>> learning_dynamics_section(found, k=1).content[2].rows
        [[0, 9, 0, 1, 0.0]]
    """
    name = "learning_dynamics_section"
    check.count(k, name, "k")
    figure = example_dynamics(dynamics)
    content: list[Any] = [f"{dynamics}.", figure, _hardest(dynamics, k, labels, names, name)]
    if depth is not None:
        count = np.shape(dynamics.right)[1]
        right = np.asarray(dynamics.right)[-1] if np.shape(depth.depth) == (count,) else None
        content += [f"{depth}.", prediction_depths(depth, right)]
    if drift is not None:
        content.append(drift_curves(drift, dynamics.steps))
    if (inputs is None) != (attributions is None):
        raise ValueError(f"{name}: `inputs` and `attributions` go together; pass both, or none.")
    if inputs is not None:
        strip: dict[str, Any] = {"features": features, "limit": limit}
        content.append(attribution_strip(inputs, attributions, dynamics.steps, **strip))
    return Section(heading, content, reading=SECTIONS["learning_dynamics_section"])


def _hardest(dynamics: LearningDynamics, k: int, labels: Any, names: Any, name: str) -> Table:
    learnt, forgotten = np.asarray(dynamics.learnt), np.asarray(dynamics.forgotten)
    given = [""] * len(learnt) if labels is None else titles(labels, len(learnt), names, name)
    answers = np.asarray(dynamics.predicted)[-1]
    said = answers.tolist() if names is None else titles(answers, len(learnt), names, name)
    order = np.lexsort((-learnt, -forgotten, learnt >= 0))[:k]
    head = ["example", "learnt at step", "times forgotten", "says at the end", "loss at the end"]
    rows = []
    for i in map(int, order):
        since = int(learnt[i]) if learnt[i] >= 0 else "wrong at the end"
        own = [given[i]] if any(given) else []
        rows.append([i, *own, since, int(forgotten[i]), said[i], float(np.asarray(dynamics.losses)[-1, i])])
    if any(given):
        head.insert(1, "label")
    return Table(head, rows, "the hardest examples")
