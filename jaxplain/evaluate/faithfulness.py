"""Faithfulness: does the score change as the attribution says when features are removed or put in?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain import check
from jaxplain.baseline import as_baseline, resolve
from jaxplain.features import Features, Groups, as_groups, feature_sums, features
from jaxplain.program.function import Function, as_function, needs_key, setting
from jaxplain.program.loop import wide_dtype
from jaxplain.types import Array, Pytree


class Curve(NamedTuple):
    """How the score goes as features are removed or inserted, most relevant first.

    fraction: `[steps + 1]`, the share of the features removed (inserted) so far, from 0 to 1.
    score: `[steps + 1]`, the score at each of them, in float32 or wider.
    """

    fraction: Array
    score: Array


class Removal(Function):
    """Deletion or insertion: the area under the curve, or the curve. Made by the functions below."""

    score: Any
    baseline: Any
    groups: Any
    count: int | None = setting(default=None)
    steps: int | None = setting(default=None)
    batch_size: int = setting(default=1)
    insert: bool = setting(default=False)
    with_curve: bool = setting(default=False)
    name: str = setting(default="deletion")

    @property
    def needs_key(self) -> bool:
        """Whether the baseline is drawn from a key."""
        return needs_key(self.baseline)

    @property
    def better(self) -> str | None:
        """Which values are better: 'lower', 'higher', or None for a curve."""
        return None if self.with_curve else "higher" if self.insert else "lower"

    def __call__(self, *inputs: Any) -> Any:
        """Judge one attribution: `m(x, attribution, *args)`, with a key before `x` where the baseline is drawn."""
        key, (x, attribution, *args) = (inputs[0], inputs[1:]) if self.needs_key else (None, inputs)
        groups = Groups(self.groups, self.count)
        parts = features(x, groups, self.name)
        check.finite(x, self.name)
        relevance = feature_sums(attribution, x, groups, parts, self.name)
        absent = resolve(self.baseline, x, key, name=self.name)
        counts, fraction = portions(parts, self.steps, self.name)

        # Rank 0 is the most relevant feature; a stable sort breaks ties by the feature's number.
        order = jnp.argsort(-relevance, stable=True)
        rank = jnp.zeros(order.shape, jnp.int32).at[order].set(jnp.arange(order.size, dtype=jnp.int32))
        ranks = [None if number is None else rank[number] for number in parts.numbers]
        before, after = (absent, x) if self.insert else (x, absent)

        def point(count: Array) -> Array:
            return self._score(mix(before, after, ranks, count), *args)

        scores = chunked_map(point, counts, self.batch_size)
        scores = jnp.where(_any_nan(attribution, x), jnp.nan, scores)
        if self.with_curve:
            return Curve(fraction, scores)
        return jnp.sum((scores[1:] + scores[:-1]) / 2 * jnp.diff(fraction))

    def _score(self, x: Pytree, *args: Any) -> Array:
        value = jnp.asarray(check.scalar(self.score(x, *args), self.name))
        return value.astype(wide_dtype(value.dtype))


def _any_nan(attribution: Pytree, x: Pytree) -> Array:
    """Whether an attribution holds NaN where x is floating-point: it has no order then."""
    pairs = zip(jax.tree.leaves(attribution), jax.tree.leaves(x), strict=True)
    return jnp.any(jnp.stack([jnp.isnan(a).any() for a, leaf in pairs if check.is_floating(leaf)]))


def mix(before: Pytree, after: Pytree, ranks: list[Any], count: Array) -> Pytree:
    """Take features of rank below `count` from `after`, the others from `before`; leaves without ranks stay."""
    leaves, structure = jax.tree.flatten(before)
    merged = [
        leaf if rank is None else jnp.where(rank < count, new, leaf)
        for leaf, new, rank in zip(leaves, jax.tree.leaves(after), ranks, strict=True)
    ]
    return jax.tree.unflatten(structure, merged)


def portions(parts: Features, steps: int | None, name: str) -> tuple[Array, Array]:
    """How many of the n features are changed after each step, floor(k n / steps), and that number divided by n.

    Args:
        parts: The features of an example.
        steps: How many portions; None for one feature at a time.
        name: The metric, for errors.

    Returns:
        (counts, fractions), each `[steps + 1]`, from 0 to n and from 0 to 1.

    Raises:
        ValueError: More steps than features, or no `steps` where the number of features is traced.
    """
    if isinstance(parts.total, int):
        total = parts.total if steps is None else steps
        if total > parts.total:
            raise ValueError(
                f"{name}: `steps` is {total}, but there are {parts.total} features to change. Pass at most "
                f"{parts.total}, or None for one feature at a time."
            )
        counts = np.arange(total + 1, dtype=np.int64) * parts.total // total
        return jnp.asarray(counts, jnp.int32), jnp.asarray(counts / parts.total, jnp.float32)
    if steps is None:
        raise ValueError(f"{name}: with traced `groups` the number of features is not known; pass `steps`.")
    k = jnp.arange(steps + 1, dtype=jnp.int32)
    traced = k * (parts.total // steps) + k * (parts.total % steps) // steps  # the same floor, without overflow
    return traced, traced.astype(jnp.float32) / parts.total


def chunked_map(function: Any, items: Array, batch_size: int) -> Array:
    """`function` of every item, `batch_size` at a time in one `lax.scan`, so that memory does not grow with them."""
    total = items.shape[0]
    size = min(batch_size, total)
    chunks = -(-total // size)
    padded = items[jnp.minimum(jnp.arange(chunks * size), total - 1)].reshape(chunks, size)
    _, values = lax.scan(lambda carry, chunk: (carry, jax.vmap(function)(chunk)), None, padded)
    return values.reshape(chunks * size)[:total]


def _removal(
    name: str,
    f: Callable[..., Any],
    baseline: Any,
    steps: int | None,
    batch_size: int,
    groups: Any,
    *,
    insert: bool,
    with_curve: bool,
) -> Removal:
    if not callable(f):
        raise TypeError(f"{name}: the score `f` has to be a function f(x, *args) -> scalar, not {type(f).__name__}.")
    checked = as_groups(groups, name)
    steps = None if steps is None else check.count(steps, name, "steps")
    return Removal(
        as_function(f),
        as_baseline(baseline),
        checked.numbers,
        checked.total,
        steps,
        check.count(batch_size, name, "batch_size"),
        insert,
        with_curve,
        name,
    )


def deletion(
    f: Callable[..., Any],
    *,
    baseline: Any = 0.0,
    steps: int | None = None,
    batch_size: int = 1,
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
        batch_size: How many points of the curve are scored at once; memory grows with it and not with `steps`.
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
    return _removal("deletion", f, baseline, steps, batch_size, groups, insert=False, with_curve=False)


def insertion(
    f: Callable[..., Any],
    *,
    baseline: Any = 0.0,
    steps: int | None = None,
    batch_size: int = 1,
    groups: Any = None,
) -> Removal:
    """The area under the score's curve as features are put into the baseline, most relevant first; higher is better.

    As `deletion`, with x_k the baseline into which the n_k features of highest attribution have been put.

    Args:
        f: As in `deletion`.
        baseline: As in `deletion`; the source starts from a blurred image, `jaxplain.blur(sigma)`.
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
    return _removal("insertion", f, baseline, steps, batch_size, groups, insert=True, with_curve=False)


def deletion_curve(
    f: Callable[..., Any],
    *,
    baseline: Any = 0.0,
    steps: int | None = None,
    batch_size: int = 1,
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
    return _removal("deletion_curve", f, baseline, steps, batch_size, groups, insert=False, with_curve=True)


def insertion_curve(
    f: Callable[..., Any],
    *,
    baseline: Any = 0.0,
    steps: int | None = None,
    batch_size: int = 1,
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
    return _removal("insertion_curve", f, baseline, steps, batch_size, groups, insert=True, with_curve=True)
