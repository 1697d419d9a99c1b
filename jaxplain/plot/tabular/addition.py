"""One prediction as parts that add up: features, the sum of those not drawn, and what the sum of all misses."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxplain.plot.canvas import NEGATIVE, NEUTRAL, POSITIVE
from jaxplain.plot.tabular.frame import attributions_of, row_heads, row_of
from jaxplain.plot.values import batch, feature_order, number, numbers, others, texts

GAP = "completeness gap"
TOLERANCE = 1e-3
"""A gap above this share of |f(x) - f(b)| is drawn."""
ROUNDING = 2e-7
"""A gap up to this share of all that is added up may be float32's, as where f(x) is f(b)."""


class Part(NamedTuple):
    """What one bar adds to the score."""

    head: str
    amount: float
    gap: bool = False

    @property
    def colour(self) -> str:
        """Red where it raises the score, blue where it lowers it, grey for what no feature explains."""
        return NEUTRAL if self.gap else POSITIVE if self.amount > 0 else NEGATIVE


def is_gap(gap: Any, start: Any, reached: Any, size: Any) -> Any:
    """Whether f(x) less f(b) and attributions, in absolute value `size` together, is more than rounding."""
    rounding = ROUNDING * (size + np.abs(start) + np.abs(reached))
    return np.abs(gap) > np.maximum(TOLERANCE * np.abs(reached - start), rounding)


def added_up(
    attributions: Any,
    baseline_score: Any,
    score: Any,
    *,
    values: Any,
    names: Any,
    order: Any,
    limit: int,
    name: str,
) -> tuple[list[Part], float, float]:
    """The parts in the order in which they are drawn, f(b), and f(x), which is f(b) plus all of them."""
    row = row_of(values, name)
    names = row.names if names is None and row is not None else names
    attributions, names = attributions_of(attributions, names, name, row=True)
    array = batch(attributions, name, "attributions", {1: "[D]"})
    heads = texts(names, len(array), name, "names", "feature {}")
    start = float(batch(baseline_score, name, "baseline_score", {0: "a number"}))
    end = start + float(array.sum())
    if row is not None:
        heads = row_heads(heads, row, names, name)
    elif values is not None:
        inputs = numbers(values, name, "values", finite=False)
        if inputs.shape != array.shape:
            raise ValueError(f"{name}: `values` has shape {inputs.shape}, but `attributions` has {array.shape}.")
        heads = [f"{head} = {number(value)}" for head, value in zip(heads, inputs, strict=True)]
    chosen = feature_order(array, limit, name, order, names)
    parts = [Part(heads[k], float(array[k])) for k in chosen]
    if len(chosen) < len(array):
        parts.append(Part(others(len(array) - len(chosen)), float(np.delete(array, chosen).sum())))
    if score is not None:
        reached = float(batch(score, name, "score", {0: "a number"}))
        if is_gap(reached - end, start, reached, np.abs(array).sum()):
            parts.append(Part(GAP, reached - end, gap=True))
        end = reached
    return parts, start, end
