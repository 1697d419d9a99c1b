"""Faithfulness: does the score change as the attribution says when features are removed or put in?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.evaluate.curve import Curve
from jaxplain.evaluate.removal import Faithful, Task, portions, ranked, settings
from jaxplain.program import chunked_map, public, setting
from jaxplain.types import Array


class Removal(Faithful):
    """Features removed or put in step by step: the curve, or one number of it. Made by the functions below.

    The summaries are the area under the curve, the mean drop from the first point, and one less the area under the
    curve divided by its first point.
    """

    steps: int | None = setting(default=None)
    insert: bool = setting(default=False)
    order: str = setting(default="morf")
    summary: str = setting(default="area")
    by_mean: bool = setting(default=False)

    @property
    def draws(self) -> bool:
        """Whether the order is drawn."""
        return self.order == "random"

    @property
    def better(self) -> str | None:
        """Which values are better: 'lower', 'higher', or None for a curve or a random order."""
        if self.summary == "curve" or self.order == "random":
            return None
        falls_first = self.insert == (self.order == "lerf")  # removing the most relevant, or putting the least in first
        return "lower" if (self.summary == "area") == falls_first else "higher"

    def __call__(self, *inputs: Any) -> Any:
        """Judge one attribution: `m(x, attribution, *args)`, with a key before `x` where anything is drawn."""
        task = Task(self, inputs)
        counts, fraction = portions(task.parts, self.steps, self.name)
        ranks = task.values(self._rank(task))

        def point(count: Array) -> Array:
            removed = [None if r is None else (r >= count if self.insert else r < count) for r in ranks]
            return task.score(task.replaced(removed))

        scores = task.known(chunked_map(point, counts, self.batch_size))
        if self.summary == "curve":
            return Curve(fraction, scores)
        if self.summary == "mean_drop":
            return jnp.mean(scores[0] - scores)
        area = jnp.sum((scores[1:] + scores[:-1]) / 2 * jnp.diff(fraction))
        if self.summary == "area":
            return area
        return jnp.where(scores[0] != 0, 1 - area / jnp.where(scores[0] != 0, scores[0], 1.0), jnp.nan)

    def _rank(self, task: Task) -> Array:
        if self.order == "random":
            draw = jax.random.uniform(task.key, (task.parts.slots,))
            return ranked(jnp.where(task.valid, draw, -jnp.inf))
        relevance = task.relevance / task.sizes() if self.by_mean else task.relevance
        return ranked(jnp.where(task.valid, -relevance, -jnp.inf) if self.order == "lerf" else relevance)


def removal(
    name: str,
    f: Callable[..., Any],
    baseline: Any,
    steps: int | None,
    batch_size: int | None,
    groups: Any,
    window: Any = None,
    **summary: Any,
) -> Removal:
    """Check what all metrics of removal share, and make one."""
    steps = None if steps is None else check.count(steps, name, "steps")
    return Removal(**settings(name, f, baseline, groups, batch_size, window), steps=steps, **summary)


ORDERS = ("morf", "lerf", "random")


@public
def deletion(
    f: Callable[..., Any],
    *,
    baseline: Any = 0.0,
    steps: int | None = None,
    batch_size: int | None = None,
    groups: Any = None,
) -> Removal:
    """The area under the score's curve as features are removed, the most relevant first; lower is better.

    area = sum_k (q_k - q_(k-1)) (f(x_k) + f(x_(k-1))) / 2, where x_k is the input with the n_k = floor(k n / steps)
    features of highest attribution replaced by the baseline and q_k = n_k / n. Features are ranked by the signed sum of
    the attribution over their values: one feature for each value, or for each pixel of `[H, W, C]`, or as `groups`
    says. Ties go to the feature that comes first (row-major order, or the lower group number). Nothing is normalised
    and no absolute value taken: `f` may be a logit, a probability or anything else, and a curve's area is in its units.

    Args:
        f: The score, `f(x, *args) -> scalar`.
        baseline: What removed features become: a number, an array or pytree of x's structure, or a function of `x` or
            of `(key, x)` (then calls take a key first, and one draw serves all steps of an example).
        steps: How many nearly equal portions the n features are removed in; None for one at a time.
        batch_size: How many points of the curve are scored at once; memory grows with it and not with `steps`. None
            takes what fills the device in `evaluate_batch`, and 1 elsewhere.
        groups: Features that go together: integers 0 to n-1 without gaps, an array of x's shape or of its leading axes
            (`[H, W]` for `[H, W, C]`), or a pytree of them (the entries of x's integer leaves do not count). May be
            traced, for example under `vmap` over segmentations; then `steps` is needed, and gaps are features that
            change nothing.

    Returns:
        `m(x, attribution, *args) -> area`, one number in units of the score, summed in float32 or wider. The
        attribution has x's structure; for `[H, W, C]` a map `[H, W]` serves too. NaN in the attribution gives NaN.
        Cost: `steps` + 1 forward passes.

    Raises:
        ValueError: `steps` below 1 or above the number of features, groups with gaps, an attribution or a baseline that
            does not fit, NaN or infinities in a concrete `x`.
        TypeError: `x` has no floating-point leaf, `groups` no integers, `f` is no function.

    Example:
        >>> m = deletion(lambda x: x.sum())
        >>> x = jnp.array([1.0, 3.0])
        >>> float(m(x, x)), float(m(x, -x))
        (1.5, 2.5)

    Source: Petsiuk, Das and Saenko 2018, "RISE: randomized input sampling for explanation of black-box models",
    Algorithm 1 (supplement). There the score is a softmax probability and removed pixels are zero.
    """
    return removal("deletion", f, baseline, steps, batch_size, groups, insert=False)


@public
def insertion(
    f: Callable[..., Any],
    *,
    baseline: Any = 0.0,
    steps: int | None = None,
    batch_size: int | None = None,
    groups: Any = None,
) -> Removal:
    """The area under the score's curve as features are put into the baseline, most relevant first; higher is better.

    As `deletion`, with x_k the baseline into which the n_k features of highest attribution have been put.

    Args:
        f: As in `deletion`.
        baseline: As in `deletion`; the source starts from a blurred image, `jaxplain.baseline.blur(sigma)`.
        steps: As in `deletion`.
        batch_size: As in `deletion`.
        groups: As in `deletion`.

    Returns:
        `m(x, attribution, *args) -> area`, as in `deletion`. Cost: `steps` + 1 forward passes.

    Raises:
        ValueError, TypeError: As in `deletion`.

    Example:
        >>> m = insertion(lambda x: x.sum())
        >>> x = jnp.array([1.0, 3.0])
        >>> float(m(x, x)), float(m(x, -x))
        (2.5, 1.5)

    Source: Petsiuk, Das and Saenko 2018, Algorithm 1 (supplement), mode "insertion".
    """
    return removal("insertion", f, baseline, steps, batch_size, groups, insert=True)


@public
def deletion_curve(
    f: Callable[..., Any],
    *,
    baseline: Any = 0.0,
    steps: int | None = None,
    batch_size: int | None = None,
    groups: Any = None,
) -> Removal:
    """The curve of which `deletion` is the area.

    Args:
        f: As in `deletion`.
        baseline: As in `deletion`.
        steps: As in `deletion`.
        batch_size: As in `deletion`.
        groups: As in `deletion`.

    Returns:
        `m(x, attribution, *args) -> Curve(fraction, score)`, both `[steps + 1]`, from the whole input to the baseline.
        Cost: `steps` + 1 forward passes.

    Raises:
        ValueError, TypeError: As in `deletion`.

    Example:
        >>> x = jnp.array([1.0, 3.0])
        >>> deletion_curve(lambda x: x.sum())(x, x).score.tolist()
        [4.0, 1.0, 0.0]

    Source: Petsiuk, Das and Saenko 2018, Algorithm 1 (supplement).
    """
    return removal("deletion_curve", f, baseline, steps, batch_size, groups, insert=False, summary="curve")


@public
def insertion_curve(
    f: Callable[..., Any],
    *,
    baseline: Any = 0.0,
    steps: int | None = None,
    batch_size: int | None = None,
    groups: Any = None,
) -> Removal:
    """The curve of which `insertion` is the area.

    Args:
        f: As in `deletion`.
        baseline: As in `deletion`.
        steps: As in `deletion`.
        batch_size: As in `deletion`.
        groups: As in `deletion`.

    Returns:
        `m(x, attribution, *args) -> Curve(fraction, score)`, both `[steps + 1]`, from the baseline to the whole input.
        Cost: `steps` + 1 forward passes.

    Raises:
        ValueError, TypeError: As in `deletion`.

    Example:
        >>> x = jnp.array([1.0, 3.0])
        >>> insertion_curve(lambda x: x.sum())(x, x).score.tolist()
        [0.0, 3.0, 4.0]

    Source: Petsiuk, Das and Saenko 2018, Algorithm 1 (supplement).
    """
    return removal("insertion_curve", f, baseline, steps, batch_size, groups, insert=True, summary="curve")
