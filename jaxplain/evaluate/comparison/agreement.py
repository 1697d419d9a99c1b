"""Agreement over a dataset: do examples with the same (or a near) explanation get the same prediction?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.evaluate.metric import Metric
from jaxplain.program import as_function, public, setting, wide_dtype
from jaxplain.types import Array, Pytree


class Agreement(Metric):
    """Shares of like-explained examples that are predicted alike. Made by `consistency` and `sufficiency`."""

    takes: ClassVar[tuple[str, ...]] = ("x", "attribution", "predictions")
    label: Any
    threshold: Any
    features: int = setting(default=5)
    name: str = setting(default="consistency")

    @property
    def over_dataset(self) -> bool:
        """Always: the metric is called on a whole batch."""
        return True

    @property
    def better(self) -> str:
        """Which values are better."""
        return "higher"

    def __call__(self, x: Pytree, attribution: Pytree, predictions: Any) -> Array:
        """Judge a batch: `m(x, attribution, y)`, one value for each example."""
        size = check.batch_length(x, self.name)
        y = jnp.asarray(predictions)
        if y.ndim == 2:
            y = y.argmax(axis=-1)
        check.real_leaves(attribution, self.name, "attribution")
        leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(attribution)]
        if y.shape != (size,) or any(leaf.shape[:1] != (size,) for leaf in leaves):
            raise ValueError(
                f"{self.name}: for {size} examples `y` has shape {jnp.shape(predictions)} and the attribution "
                f"{[leaf.shape for leaf in leaves]}; pass whole batches: [B, ...], and [B] or [B, K] for y."
            )
        dtype = wide_dtype(jnp.result_type(*leaves))
        rows = jnp.concatenate([leaf.reshape(size, -1).astype(dtype) for leaf in leaves], axis=1)
        known = ~jnp.isnan(rows).any(axis=1)
        alike = self._near(rows) if self.name == "sufficiency" else self._same(rows)
        others = alike & known[None, :] & ~jnp.eye(size, dtype=bool)
        count = others.sum(axis=1)
        agree = (others & (y[:, None] == y[None, :])).sum(axis=1)
        return jnp.where(known & (count > 0), agree / jnp.maximum(count, 1), jnp.nan)

    def _same(self, rows: Array) -> Array:
        if self.label is None:
            if self.features > rows.shape[1]:
                raise ValueError(
                    f"consistency: `features` is {self.features}, but an attribution has {rows.shape[1]} values."
                )
            labels = jax.vmap(self._signs)(rows)
        else:
            labels = check.answered(jax.vmap(self.label)(rows), self.name, "label")
        labels = labels.reshape(rows.shape[0], -1)
        # Row by row, so that memory grows with the number of pairs and not with that times the features.
        return jax.lax.map(lambda row: jnp.all(labels == row[None], axis=1), labels)

    def _signs(self, row: Array) -> Array:
        _, index = jax.lax.top_k(jnp.abs(row), self.features)
        return jnp.zeros(row.shape, jnp.int8).at[index].set(jnp.sign(row[index]).astype(jnp.int8))

    def _near(self, rows: Array) -> Array:
        def distances(row: Array) -> Array:
            return jnp.sqrt(jnp.sum(jnp.square(rows - row[None]), axis=1))

        return jax.lax.map(distances, rows) <= self.threshold


@public
def consistency(*, features: int = 5, label: Callable[[Array], Any] | None = None) -> Agreement:
    """Among examples with the same explanation, the share with the same prediction; higher is better.

    m_i = |{j != i: d(a_j) = d(a_i), y_j = y_i}| / |{j != i: d(a_j) = d(a_i)}|, where d makes a label of an attribution.
    Examples are compared with others only, never with themselves.

    Args:
        features: By default d(a) is which `features` values of a are largest in absolute value, and their signs.
        label: Another d: from an attribution laid out as one row `[D]` to integers of any one shape.

    Returns:
        `m(x, attribution, y) -> [B]` over a whole batch: x `[B, ...]`, attributions `[B, ...]`, and y the model's
        predictions, `[B]`, or its outputs `[B, K]`, of which the largest counts. NaN for examples whose explanation no
        other has, or holds NaN. Cost: no model pass; B^2 D comparisons.

    Raises:
        ValueError: Lengths that differ, more `features` than values.

    Example:
        >>> a = jnp.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [0.0, -1.0]])
        >>> consistency(features=1)(a, a, jnp.array([0, 0, 1, 1])).tolist()
        [0.5, 0.5, 0.0, nan]

    Source: Dasgupta, Frost and Moshkovitz 2022, "Framework for evaluating faithfulness of local explanations",
    definition of local consistency, estimated on the other examples.
    """
    features = check.count(features, "consistency", "features")
    return Agreement(None if label is None else as_function(label), None, features, "consistency")


@public
def sufficiency(*, threshold: float) -> Agreement:
    """Among examples whose explanation is near, the share with the same prediction; higher is better.

    m_i = |{j != i: |a_j - a_i| <= threshold, y_j = y_i}| / |{j != i: |a_j - a_i| <= threshold}|, Euclidean distances of
    the attributions as they are.

    Args:
        threshold: How far apart explanations may be and still count as alike, in units of the attribution.

    Returns:
        `m(x, attribution, y) -> [B]` over a whole batch, as in `consistency`. NaN for examples that have no neighbour.
        Cost: no model pass; B^2 D operations.

    Raises:
        ValueError: Lengths that differ, a negative threshold.

    Example:
        >>> a = jnp.array([[0.0], [0.1], [0.2], [5.0]])
        >>> sufficiency(threshold=0.15)(a, a, jnp.array([0, 0, 1, 1])).tolist()
        [1.0, 0.5, 0.0, nan]

    Source: Dasgupta, Frost and Moshkovitz 2022, definition of local sufficiency, where an explanation applies to the
    examples whose own is near.
    """
    return Agreement(None, check.one_number(threshold, "sufficiency", "threshold", zero=True), 1, "sufficiency")
