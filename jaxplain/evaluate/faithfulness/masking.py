"""Faithfulness by masking: what the score does when only what the map lights up is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain.baseline import MIXTURE
from jaxplain.evaluate.removal import Faithful, Task, settings
from jaxplain.program import public, setting
from jaxplain.types import Array, Pytree


class Masking(Faithful):
    """The score of the masked input against that of the input. Made by the functions below."""

    scale: bool = setting(default=True)

    @property
    def holds(self) -> str | None:
        """Features are faded: a mixture of the input and the baseline."""
        return MIXTURE

    @property
    def better(self) -> str:
        """Which values are better."""
        return "lower" if self.name == "average_drop" else "higher"

    def __call__(self, *inputs: Any) -> Array:
        """Judge one attribution: `m(x, attribution, *args)`, with a key before `x` where the baseline is drawn."""
        task = Task(self, inputs)
        whole, shown = task.score(task.x), task.score(self._masked(task))
        if self.name == "average_increase":
            value = jnp.where(jnp.isnan(shown) | jnp.isnan(whole), jnp.nan, (shown > whole).astype(whole.dtype))
        elif self.name == "average_drop":
            value = _ratio(jnp.maximum(whole - shown, 0.0), whole, whole > 0)
        else:
            value = _ratio(jnp.maximum(shown - whole, 0.0), 1 - whole, whole < 1)
        varies = jnp.max(task.relevance) > jnp.min(jnp.where(task.valid, task.relevance, jnp.inf))
        return task.known(jnp.where(varies, value, jnp.nan) if self.scale else value)

    def _masked(self, task: Task) -> Pytree:
        """x m + b (1 - m), with one m for each feature."""
        if task.imputes:
            raise ValueError(f"{self.name}: features are faded, not removed; pass a baseline that needs no mask.")
        mask = task.relevance
        if self.scale:
            low, high = jnp.min(jnp.where(task.valid, mask, jnp.inf)), jnp.max(mask)
            mask = (mask - low) / jnp.where(high > low, high - low, 1.0)
        leaves, structure = jax.tree.flatten(task.x)
        shown = []
        for leaf, absent, m in zip(leaves, jax.tree.leaves(task.absent), task.values(mask), strict=True):
            shown.append(leaf if m is None else (leaf * m + absent * (1 - m)).astype(jnp.result_type(leaf)))
        return jax.tree.unflatten(structure, shown)


def _ratio(above: Array, below: Array, defined: Array) -> Array:
    return jnp.where(defined, above / jnp.where(defined, below, 1.0), jnp.nan)


def _masking(name: str, f: Any, scale: bool, baseline: Any, groups: Any) -> Masking:
    return Masking(**settings(name, f, baseline, groups, 1), scale=bool(scale))


@public
def average_drop(f: Callable[..., Any], *, scale: bool = True, baseline: Any = 0.0, groups: Any = None) -> Masking:
    """The share of the score that is lost when only the map's pixels are shown; lower is better.

    max(0, f(x) - f(x m + b (1 - m))) / f(x), with m the attribution of each feature (a pixel's is the signed sum over
    its channels), brought to [0, 1] by its smallest and largest value. The mean over a data set is the source's.

    Args:
        f: A score that is positive, such as a class probability.
        scale: Whether to bring the map to [0, 1], as the source does; False takes it as it is.
        baseline: b, as in `deletion`.
        groups: As in `deletion`.

    Returns:
        `m(x, attribution, *args) -> drop`, one number in [0, 1] for scores in [0, 1]; NaN where f(x) <= 0, where the
        map is constant (if `scale`) or holds NaN. Cost: two forward passes.

    Raises:
        ValueError, TypeError: As in `deletion`.

    Example:
        >>> x = jnp.array([1.0, 3.0])
        >>> float(average_drop(lambda x: x.sum())(x, jnp.array([0.0, 1.0])))
        0.25

    Source: Chattopadhay et al. 2018, "Grad-CAM++: generalized gradient-based visual explanations for deep
    convolutional networks", section 4.1.
    """
    return _masking("average_drop", f, scale, baseline, groups)


@public
def average_increase(f: Callable[..., Any], *, scale: bool = True, baseline: Any = 0.0, groups: Any = None) -> Masking:
    """Whether the score is higher when only the map's pixels are shown: 1 or 0; higher is better.

    1 if f(x m + b (1 - m)) > f(x), with m as in `average_drop`.

    Args:
        f: As in `deletion`.
        scale: As in `average_drop`.
        baseline: As in `deletion`.
        groups: As in `deletion`.

    Returns:
        `m(x, attribution, *args) -> 1.0 or 0.0`; NaN as in `average_drop`, but for any f(x). Cost: two forward passes.

    Raises:
        ValueError, TypeError: As in `deletion`.

    Example:
        >>> x = jnp.array([-1.0, 3.0])
        >>> float(average_increase(lambda x: x.sum())(x, jnp.array([0.0, 1.0])))
        1.0

    Source: Chattopadhay et al. 2018, section 4.1 (increase in confidence).
    """
    return _masking("average_increase", f, scale, baseline, groups)


@public
def average_gain(f: Callable[..., Any], *, scale: bool = True, baseline: Any = 0.0, groups: Any = None) -> Masking:
    """The share of what the score lacks to 1 that is gained when only the map's pixels are shown; higher is better.

    max(0, f(x m + b (1 - m)) - f(x)) / (1 - f(x)), with m as in `average_drop`.

    Args:
        f: A probability.
        scale: As in `average_drop`.
        baseline: As in `deletion`.
        groups: As in `deletion`.

    Returns:
        `m(x, attribution, *args) -> gain`, one number in [0, 1]; NaN as in `average_drop`, but where f(x) >= 1.
        Cost: two forward passes.

    Raises:
        ValueError, TypeError: As in `deletion`.

    Example:
        >>> x = jnp.array([-0.25, 0.75])
        >>> float(average_gain(lambda x: x.sum())(x, jnp.array([0.0, 1.0])))
        0.5

    Source: Zhang et al. 2024, "Opti-CAM: optimizing saliency maps for interpretability", section on metrics.
    """
    return _masking("average_gain", f, scale, baseline, groups)
