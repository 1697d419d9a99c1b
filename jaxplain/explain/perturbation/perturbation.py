"""Attributions by taking features away: ablation, and permutation with the rows of a data set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.baseline import (
    Features,
    Groups,
    Perturbing,
    as_baseline,
    as_groups,
    features,
    is_background,
    like_rows,
    merged,
    replaced,
)
from jaxplain.program import Function, as_function, map_range, public, setting, wide_dtype
from jaxplain.types import Array, Arrays, Pytree


class FeatureAblation(Perturbing):
    """The drop of the score without each feature. Made by `feature_ablation`."""

    groups: Any = None
    count: int | None = setting(default=None)
    max_groups: int | None = setting(default=None)

    def __call__(self, *inputs: Any) -> Pytree:
        """Explain one example: `e(x, *args)`, or `e(key, x, *args)` where the baseline is drawn."""
        key, x, args = self.take(*inputs)
        absent, moves = self.absent(key, x)
        parts = features(x, Groups(self.groups, self.count), self.name, moves)

        def without(number: Array) -> Array:
            return self.scored(replaced(x, absent, of_feature(parts, number)), args)

        slots = slots_of(parts, self.max_groups)
        drops = self.scored(x, args) - map_range(without, slots, self.batch_size)
        check.finite_scores(drops, self.name)
        return merged(spread(drops, parts), x)


def slots_of(parts: Features, max_groups: int | None) -> int:
    """How many features are evaluated; with traced groups at most `max_groups`."""
    return parts.slots if max_groups is None or isinstance(parts.total, int) else min(max_groups, parts.slots)


def of_feature(parts: Features, number: Array) -> list[Any]:
    """For each leaf which values belong to a feature."""
    return [None if numbers is None else numbers == number for numbers in parts.numbers]


def spread(values: Array, parts: Features) -> list[Any]:
    """Each feature's value at all of its places; NaN where traced groups are more than were evaluated."""
    if not isinstance(parts.total, int):
        values = jnp.where(parts.total <= values.size, values, jnp.nan)
    return [None if numbers is None else values[numbers] for numbers in parts.numbers]


@public
def feature_ablation(
    f: Callable[..., Any],
    *,
    baseline: Any = 0,
    groups: Any = None,
    max_groups: int | None = None,
    batch_size: int | None = None,
) -> FeatureAblation:
    """How far the score falls when a feature is replaced by its baseline: a_g = f(x) - f(x with b in g).

    Every value of a feature gets the feature's whole drop, as in captum, so that groups of any size compare. (Shapley
    values divide a feature's value over its values instead, because theirs add up to f(x) - f(b): multiply them by the
    group's size to compare.) Of an additive score, a_g is the difference of the feature's own term; of scores with
    interactions the drops do not add up to anything.

    Args:
        f: A score, `f(x, *args) -> scalar`.
        baseline: What removed features become: a number, an array or pytree of x's structure, or a function of `x` or
            of `(key, x)` (then calls take a key first, and one draw serves all features). Integer and boolean leaves
            take the values that a pytree or a function gives for them (a function that returns x's own holds them); a
            number leaves them alone, but where `x` is one array of token ids: there an integer is an id (0, if nobody
            says another).
        groups: Features that go together: integers 0 to n-1 without gaps, an array of x's shape or of its leading axes
            (`[H, W]` for `[H, W, C]`), or a pytree of them, whose groups may span several leaves; or names in their
            place, `["area", "city", "city"]` for the columns of a table. None takes every value, and every pixel of
            `[H, W, C]`. May be traced, as under `vmap` over segmentations.
        max_groups: With traced groups, the most that an example has; None evaluates as many as there are values. An
            example with more gets NaN.
        batch_size: How many features are evaluated at once; memory grows with it and not with the features. None takes
            what fills the device in `explain_batch` and `explain_dataset`, and 1 elsewhere.

    Returns:
        `e(x, *args) -> attribution` of x's structure and dtypes, in units of the score; integer and boolean leaves get
        theirs in float32, zeros where they are held. Cost: n + 1 forward passes.

    Raises:
        ValueError: Groups or a baseline that do not fit `x`, gaps in the groups, NaN or infinities in a concrete `x` or
            in its scores.
        TypeError: No leaf moves (token ids without a baseline of theirs), `groups` no integers.

    Example:
        >>> e = feature_ablation(lambda x: x[0] + 2 * x[1] * x[2], groups=jnp.array([0, 1, 1]))
        >>> e(jnp.array([1.0, 2.0, 3.0])).tolist()
        [1.0, 12.0, 12.0]

    Source: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", section 4.2, of any groups.
    """
    name = "feature_ablation"
    given = as_groups(groups, name)
    most = None if max_groups is None else check.count(max_groups, name, "max_groups")
    size = check.at_once(batch_size, name)
    return FeatureAblation(
        as_function(check.callable_score(f, name)), as_baseline(baseline), size, name, given.numbers, given.total, most
    )


class FeaturePermutation(Function):
    """The drop of the score with each feature taken from other rows. Made by `feature_permutation`."""

    score: Any
    data: Any
    groups: Any
    count: int | None = setting(default=None)
    max_groups: int | None = setting(default=None)
    samples: int | None = setting(default=None)
    batch_size: int | None = setting(default=None, points=True)
    name: str = setting(default="feature_permutation")

    @property
    def needs_key(self) -> bool:
        """Whether rows are drawn."""
        return self.samples is not None

    def __call__(self, *inputs: Any) -> Pytree:
        """Explain one example: `e(x, *args)`, or `e(key, x, *args)` where rows are drawn."""
        key, x, args = check.divided(inputs, self.name, self.needs_key)
        check.arrays(x, self.name)
        if not is_background(self.data, x):
            _refuse_data(self.data, x, self.name)
        data = like_rows(self.data, x, self.name, "data")
        parts = features(x, Groups(self.groups, self.count), self.name, [True] * len(jax.tree.leaves(x)))
        check.finite(x, self.name)
        check.unequal(jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], x), data, self.name, "data")
        total = check.batch_length(self.data, self.name)
        chosen = jnp.arange(total)
        if self.samples is not None:
            chosen = jax.random.permutation(key, total)[: self.samples]

        whole, slots = self._scored(x, *args), slots_of(parts, self.max_groups)

        def with_row(sums: Array, index: Array) -> tuple[Array, None]:
            row = jax.tree.map(lambda leaf: leaf[index], data)

            def score(number: Array) -> Array:
                return self._scored(replaced(x, row, of_feature(parts, number)), *args)

            return sums + whole - map_range(score, slots, self.batch_size), None

        # Rows outside, features inside: a row is looked up once, and not for every element that it replaces.
        drops = lax.scan(with_row, jnp.zeros(slots, whole.dtype), chosen)[0] / chosen.size
        check.finite_scores(drops, self.name)
        return merged(spread(drops, parts), x)

    def _scored(self, x: Pytree, *args: Any) -> Array:
        value = jnp.asarray(check.scalar(self.score(x, *args), self.name))
        return value.astype(wide_dtype(value.dtype))


@public
def feature_permutation(
    f: Callable[..., Any],
    data: Arrays,
    *,
    groups: Any = None,
    max_groups: int | None = None,
    samples: int | None = None,
    batch_size: int | None = None,
) -> FeaturePermutation:
    """How far the score falls when a feature is taken from other examples, on average.

    a_g = f(x) - mean over rows r of f(x with r's values in g), and every value of g gets it whole, as in
    `feature_ablation`. All values of a group come from the same row, so that what belongs together stays plausible;
    integer and boolean leaves are features like others.
    With `samples` the rows are drawn without replacement, the same for all features of an example.

    Args:
        f: A score, `f(x, *args) -> scalar`.
        data: The other examples, an array or pytree of x's structure with one more leading axis `[N, ...]`.
        groups: As in `feature_ablation`.
        max_groups: As in `feature_ablation`.
        samples: How many rows are drawn for an example (calls take a key first); None averages over all of them.
        batch_size: How many points are evaluated at once; memory grows with it and not with rows or features. None
            takes what fills the device in `explain_batch` and `explain_dataset`, and 1 elsewhere.

    Returns:
        `e(x, *args) -> attribution`, or `e(key, x, *args)` with `samples`, of x's structure, in units of the score.
        Cost: n times the number of rows, and one, forward passes.

    Raises:
        ValueError: More `samples` than rows, data or groups that do not fit, NaN or infinities in concrete values.
        TypeError: As in `feature_ablation`.

    Example:
        >>> e = feature_permutation(lambda x: 2 * x[0] + x[1], jnp.array([[0.0, 1.0], [2.0, 1.0]]))
        >>> e(jnp.array([3.0, 1.0])).tolist()
        [4.0, 0.0]

    Source: Breiman 2001, "Random forests", section 10, for one example's score in place of a data set's error.
    """
    name = "feature_permutation"
    given = as_groups(groups, name)
    rows = check.batch_length(data, name, "data")
    check.finite(data, name, "data")
    if samples is not None and check.count(samples, name, "samples") > rows:
        raise ValueError(f"{name}: `samples` is {samples}, but `data` has {rows} rows. Pass None to use them all.")
    most = None if max_groups is None else check.count(max_groups, name, "max_groups")
    size = check.at_once(batch_size, name)
    score = as_function(check.callable_score(f, name))
    return FeaturePermutation(score, data, given.numbers, given.total, most, samples, size, name)


def _refuse_data(data: Any, x: Any, name: str) -> None:
    """Say why `data` is no set of rows like `x`: its structure, or a leaf's shape."""
    given, wanted = str(jax.tree.structure(data)), str(jax.tree.structure(x))
    if given != wanted:
        raise ValueError(f"{name}: `data` has the structure {given}, but `x` has {wanted}.")
    for (path, rows), leaf in zip(jax.tree_util.tree_leaves_with_path(data), jax.tree.leaves(x), strict=True):
        if jnp.shape(rows)[1:] != jnp.shape(leaf):
            where = jax.tree_util.keystr(path)
            raise ValueError(
                f"{name}: `data{where}` has shape {jnp.shape(rows)}, but rows like `x{where}` need "
                f"(N, {', '.join(map(str, jnp.shape(leaf)))})."
            )
