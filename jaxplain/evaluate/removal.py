"""Inputs with features replaced, and their scores: what every metric of faithfulness stands on."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain import check
from jaxplain.baseline import (
    Features,
    Groups,
    as_baseline,
    as_groups,
    feature_sums,
    features,
    held,
    replacement,
)
from jaxplain.evaluate.metric import Metric
from jaxplain.program import as_function, needs_key, setting, wide_dtype
from jaxplain.types import Array, Pytree


class Faithful(Metric):
    """Base of the metrics that score inputs with features replaced: `m(x, attribution, *args)`."""

    score: Any
    baseline: Any
    groups: Any
    count: int | None = setting(default=None)
    batch_size: int | None = setting(default=None, points=True)
    window: int | tuple[int, ...] | None = setting(default=None)
    name: str = setting(default="faithfulness")

    @property
    def needs_key(self) -> bool:
        """Whether the baseline is drawn from a key, or the metric draws by itself."""
        return needs_key(self.baseline) or self.draws

    @property
    def removes(self) -> bool:
        """Whether the baseline is what removed features become, so that another is another way of removal."""
        return True

    @property
    def holds(self) -> str | None:
        """Why integer and boolean leaves cannot be replaced, as in `baseline.held`, or None."""
        return None

    @property
    def draws(self) -> bool:
        """Whether the metric draws by itself; then the baseline's key is folded from the metric's."""
        return False


def settings(
    name: str, f: Any, baseline: Any, groups: Any, batch_size: int | None, window: Any = None
) -> dict[str, Any]:
    """Check what all metrics of faithfulness are given, as fields of `Faithful`."""
    check.function(f, name, "f", "f(x, *args) -> scalar")
    if window is not None and groups is not None:
        raise ValueError(f"{name}: pass `window` or `groups`, not both.")
    checked = as_groups(groups, name)
    return {
        "score": as_function(f),
        "baseline": as_baseline(baseline),
        "groups": checked.numbers,
        "count": checked.total,
        "batch_size": check.at_once(batch_size, name),
        "window": as_window(window, name),
        "name": name,
    }


def as_window(window: Any, name: str) -> Any:
    """Check the size of regions: a whole number, or one for each of the first axes."""
    if isinstance(window, tuple | list):
        if not window:
            raise ValueError(f"{name}: `window` is empty; pass a number, or one for each of the first axes of x.")
        return tuple(check.count(side, name, "window") for side in window)
    return None if window is None else check.count(window, name, "window")


def region_groups(x: Pytree, window: int | tuple[int, ...], name: str) -> Groups:
    """Number the rectangles of a grid over the first axes of `x` (two, or one of a vector), row by row."""
    leaves = jax.tree.leaves(x)
    if len(leaves) != 1:
        raise ValueError(f"{name}: `window` needs one array, but `x` has {len(leaves)}; number regions by `groups`.")
    shape = jnp.shape(leaves[0])
    sides = window if isinstance(window, tuple) else (window,) * min(2, len(shape))
    if len(sides) > len(shape):
        raise ValueError(f"{name}: `window` has {len(sides)} sides, but `x` has shape {shape}.")
    if any(side > length for side, length in zip(sides, shape, strict=False)):
        raise ValueError(f"{name}: `window` is {window}, which is larger than `x` of shape {shape}.")
    number = np.zeros(shape[: len(sides)], np.int32)
    total = 1
    for axis, side in enumerate(sides):
        cells = -(-shape[axis] // side)
        along = (np.arange(shape[axis], dtype=np.int32) // side).reshape(
            [-1 if i == axis else 1 for i in range(len(sides))]
        )
        number = number * cells + along
        total *= cells
    return Groups(jax.tree.unflatten(jax.tree.structure(x), [jnp.asarray(number)]), total)


class Task:
    """One call of a metric of faithfulness: the example, its features, what they are worth and what replaces them.

    Attributes:
        key: For the metric's own draws; None where it makes none.
        x, args: The example.
        parts: Its features.
        relevance: `[slots]`, the attribution of each feature.
        absent: What the baseline gives, of x's structure.
    """

    def __init__(self, metric: Faithful, inputs: tuple[Any, ...]) -> None:
        name: str = metric.name
        self.name = name
        key: Any = None
        if metric.needs_key:
            key, *rest = check.needed_key(inputs, name, "m(key, x, attribution, *args)"), *inputs[1:]
            inputs = tuple(rest)
        if len(inputs) < 2:
            raise TypeError(f"{name}: it judges an attribution: m(x, attribution, *args), with a key first if random.")
        self.x: Pytree = inputs[0]
        self.attribution: Pytree = inputs[1]
        self.args: list[Any] = list(inputs[2:])
        self.score_function: Any = metric.score
        self.key: Any = None if key is None or not metric.draws else jax.random.fold_in(key, 0)
        self.baseline_key: Any = jax.random.fold_in(key, 1) if key is not None and metric.draws else key
        self.baseline: Any = metric.baseline
        self.given: Groups = Groups(metric.groups, metric.count)
        if metric.window is not None:
            self.given = region_groups(self.x, metric.window, name)
        check.arrays(self.x, name)
        check.finite(self.x, name)
        self.imputes: bool = bool(getattr(self.baseline, "needs_mask", False))
        self.absent: Any = None
        moves = None
        if metric.removes and not self.imputes:
            self.absent, moves = replacement(self.baseline, self.x, self.baseline_key, name=name)
            if metric.holds is not None:
                self.absent, moves = held(self.absent, self.x, name, why=metric.holds), None
        self.parts: Features = features(self.x, self.given, name, moves)
        self.relevance: Array = feature_sums(self.attribution, self.x, self.given, self.parts, name)
        self.valid: Array = jnp.arange(self.parts.slots) < self.parts.total

    def score(self, x: Pytree) -> Array:
        """The score of one input, in float32 or wider."""
        value = jnp.asarray(check.scalar(self.score_function(x, *self.args), self.name))
        return value.astype(wide_dtype(value.dtype))

    def values(self, per_feature: Array) -> list[Any]:
        """What belongs to each value of x's leaves, of an array over features; None at leaves that hold no features."""
        return [None if number is None else per_feature[number] for number in self.parts.numbers]

    def replaced(self, chosen: list[Any], absent: Pytree = None) -> Pytree:
        """The input with the chosen values (booleans for each leaf, from `values`) replaced by the baseline."""
        leaves, structure = jax.tree.flatten(self.x)
        if self.imputes:
            masks = [
                jnp.zeros(jnp.shape(leaf), bool) if m is None else m for m, leaf in zip(chosen, leaves, strict=True)
            ]
            return impute(self.baseline, self.baseline_key, self.x, jax.tree.unflatten(structure, masks))
        merged = [
            leaf if mask is None else jnp.where(mask, new, leaf)
            for leaf, new, mask in zip(
                leaves, jax.tree.leaves(self.absent if absent is None else absent), chosen, strict=True
            )
        ]
        return jax.tree.unflatten(structure, merged)

    def drawn(self, sample: Array) -> Pytree:
        """Another draw of a random baseline; None where it is not random, so that `absent` serves."""
        if self.imputes or not needs_key(self.baseline):
            return None
        return replacement(self.baseline, self.x, jax.random.fold_in(self.baseline_key, sample), name=self.name).values

    def without(self, chosen: Array) -> Array:
        """The score without the chosen features (`[slots]`, bool)."""
        return self.score(self.replaced(self.values(chosen)))

    def sizes(self) -> Array:
        """How many values each feature has, `[slots]`, at least 1."""
        count = jnp.zeros(self.parts.slots)
        for number in self.parts.numbers:
            if number is not None:
                count = count + jax.ops.segment_sum(jnp.ones(number.size), number.reshape(-1), self.parts.slots)
        return jnp.maximum(count, 1.0)

    def undefined(self) -> Array:
        """Whether the attribution holds NaN where there are features: it has no order then."""
        pairs = zip(jax.tree.leaves(self.attribution), self.parts.numbers, strict=True)
        return jnp.any(jnp.stack([jnp.isnan(a).any() for a, number in pairs if number is not None]))

    def known(self, value: Array) -> Array:
        """The value, or NaN where the attribution holds NaN."""
        return jnp.where(self.undefined(), jnp.nan, value)

    def known_total(self, why: str) -> int:
        """The number of features, where it has to be known while tracing."""
        if not isinstance(self.parts.total, int):
            raise ValueError(f"{self.name}: with traced `groups` the number of features is not known; {why}.")
        return self.parts.total


def impute(baseline: Any, key: Array | None, x: Pytree, mask: Pytree) -> Pytree:
    """The input with masked values filled in from what remains."""
    return baseline(key, x, mask) if needs_key(baseline) else baseline(x, mask)


def ranked(relevance: Array) -> Array:
    """The rank of each feature, 0 for the most relevant; ties go to the lower number."""
    order = jnp.argsort(-relevance, stable=True)
    return jnp.zeros(order.shape, jnp.int32).at[order].set(jnp.arange(order.size, dtype=jnp.int32))


def random_subset(key: Array, task: Task, size: Any) -> Array:
    """Booleans `[slots]` with `size` features drawn without replacement."""
    draw = jax.random.bits(key, (task.parts.slots,), jnp.uint32) >> 1
    return of_largest(jnp.where(task.valid, draw.astype(jnp.int32), -1), size)


def of_largest(draws: Array, count: Any) -> Array:
    """Booleans `[n]`: the `count` largest of int32 numbers that are not negative, of equal ones the first.

    The smallest of them is found bit by bit: 31 comparisons of all numbers are ten times faster than sorting them.
    """

    def set_bit(index: Array, least: Array) -> Array:
        raised = least | (1 << (30 - index))
        return jnp.where(jnp.sum(draws >= raised) >= count, raised, least)

    least = lax.fori_loop(0, 31, set_bit, jnp.int32(0))
    above, equal = draws > least, draws == least
    return above | (equal & (jnp.cumsum(equal) <= count - above.sum()))


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
        return jnp.asarray(counts, jnp.int32), jnp.asarray(counts / parts.total, jnp.result_type(float))
    if steps is None:
        raise ValueError(f"{name}: with traced `groups` the number of features is not known; pass `steps`.")
    k = jnp.arange(steps + 1, dtype=jnp.int32)
    traced = k * (parts.total // steps) + k * (parts.total % steps) // steps  # the same floor, without overflow
    return traced, traced.astype(jnp.result_type(float)) / parts.total


def part_of_one(value: Any, name: str, argument: str, *, whole: bool = True) -> float:
    """Require one number above 0 and at most 1 (below 1 where the whole leaves nothing), of Python, NumPy or JAX."""
    number = np.asarray(check.numbers(value, name, argument) if check.is_concrete(value) else np.nan)
    single = number.shape == () and number.dtype != bool
    if not (single and (0 < number <= 1 if whole else 0 < number < 1)):
        upper = "at most 1" if whole else "below 1"
        raise ValueError(f"{name}: `{argument}` has to be above 0 and {upper}, not {value!r}.")
    return float(str(number))  # the shortest number of that precision: 0.7 of float32 is no less than 0.7


def parts_of_one(values: Any, name: str, argument: str, *, whole: bool = True) -> tuple[float, ...]:
    """Require at least one such number; they may be an array of NumPy or JAX."""
    check.numbers(values, name, argument)
    listed = np.atleast_1d(np.asarray(values)) if check.is_concrete(values) else np.zeros(0)
    if listed.ndim != 1 or not listed.size:
        raise ValueError(f"{name}: `{argument}` have to be one number or more, not {values!r}.")
    return tuple(part_of_one(part, name, argument, whole=whole) for part in listed)


def share_of(fraction: float, total: int) -> int:
    """How many of `total` features a fraction is: at least 1, and not one less for a rounding error."""
    return max(1, math.floor(fraction * total + 1e-9))
