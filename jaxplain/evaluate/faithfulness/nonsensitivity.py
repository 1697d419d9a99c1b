"""Non-sensitivity: are the features without attribution those that the score does not see?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxplain import check
from jaxplain.evaluate.faithfulness.monotonicity import Effects
from jaxplain.evaluate.removal import Task, settings
from jaxplain.program import public
from jaxplain.types import Array


class NonSensitivity(Effects):
    """How many features are without attribution or without effect, but not both. Made by `non_sensitivity`."""

    threshold: Any = 1e-5
    effect: Any = 1e-5

    def __call__(self, *inputs: Any) -> Array:
        """Judge one attribution: `m(x, attribution, *args)`, with a key before `x` where the baseline is drawn."""
        task = Task(self, inputs)
        effects = jnp.sqrt(self.effects(task))
        unattributed = jnp.abs(jnp.where(task.valid, task.relevance, 0.0)) <= self.threshold
        without = effects <= self.effect
        count = jnp.sum(jnp.where(task.valid, unattributed != without, False)).astype(effects.dtype)
        return task.known(jnp.where(jnp.isnan(effects).any(), jnp.nan, count))


@public
def non_sensitivity(
    f: Callable[..., Any],
    *,
    threshold: float = 1e-5,
    effect: float = 1e-5,
    baseline: Any = 0.0,
    samples: int = 10,
    batch_size: int | None = None,
    groups: Any = None,
) -> NonSensitivity:
    """How many features have attribution without effect, or effect without attribution; lower is better.

    |{i: |a_i| <= threshold} symmetric difference {i: r_i <= effect}|, with r_i^2 = mean_s (f(x) - f(x with feature i
    from the s-th baseline))^2.

    Args:
        f: As in `deletion`.
        threshold: Up to which size an attribution counts as none, in its units.
        effect: Up to which size a change counts as none, in units of the score.
        baseline: As in `deletion`; where it is random, as in the source, `samples` draws are made for each feature and
            calls take a key first. A feature that already has its baseline's value shows no effect.
        samples: How many draws; not used by a baseline that is not random.
        batch_size: How many points are scored at once. None takes what fills the device in `evaluate_batch`, and 1
            elsewhere.
        groups: As in `deletion`, traced ones too.

    Returns:
        `m(x, attribution, *args) -> count`, 0 to n; NaN where the attribution or a score is NaN.
        Cost: `samples` forward passes for each feature, and one.

    Raises:
        ValueError, TypeError: As in `deletion`; a negative threshold or effect.

    Example:
        >>> m = non_sensitivity(lambda x: 2 * x[0])
        >>> float(m(jnp.ones(3), jnp.array([2.0, 0.0, 0.0]))), float(m(jnp.ones(3), jnp.array([0.0, 1.0, 0.0])))
        (0.0, 2.0)

    Source: Nguyen and Rodríguez Martínez 2020, "On quantitative aspects of model interpretability" (non-sensitivity).
    """
    name = "non_sensitivity"
    return NonSensitivity(
        **settings(name, f, baseline, groups, batch_size),
        samples=check.count(samples, name, "samples"),
        threshold=check.one_number(threshold, name, "threshold", zero=True),
        effect=check.one_number(effect, name, "effect", zero=True),
    )
