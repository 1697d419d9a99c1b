"""Mean, mean absolute value and variance of attributions, per class and feature."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.aggregate.aggregator import Aggregator, mask_or_all, per_example
from jaxplain.program import public, setting, shown, wide_dtype
from jaxplain.types import Array, Pytree


class Sum(NamedTuple):
    """An unevaluated sum of two floats, `value + rest`: what `value` has lost to rounding is kept in `rest`."""

    value: Array
    rest: Array


class MomentsState(NamedTuple):
    """State of `moments`: `[K]` numbers of examples and `[K, ...]` statistics, K = 1 without classes.

    square: the summed squared deviations from the mean; outside: rows whose label is no class.
    """

    examples: Array
    outside: Array
    mean: Pytree
    absolute: Pytree
    square: Pytree


@shown
class Moments(NamedTuple):
    """Result of `moments`. With classes every field but `outside` has a leading axis K.

    examples: how many; mean: of the attribution; mean_absolute: of its absolute value; variance: of it over all
    examples (divided by their number); NaN where there is no example. outside: examples left out since their
    label is none of the classes.
    """

    examples: Array
    mean: Pytree
    mean_absolute: Pytree
    variance: Pytree
    outside: Array


class MomentsAggregator(Aggregator):
    """Mean, mean absolute value and variance of each feature. Made by `moments`."""

    classes: int | None = setting(default=None)

    def init(self, attribution: Pytree) -> MomentsState:
        """An empty state for attributions of this structure and shape."""
        rows = self.classes or 1

        def empty(leaf: Any) -> Sum:
            zeros = jnp.zeros((rows, *leaf.shape), wide_dtype(leaf.dtype))
            return Sum(zeros, zeros)

        sums = jax.tree.map(empty, attribution)
        return MomentsState(jnp.zeros(rows, jnp.int32), jnp.zeros((), jnp.int32), sums, sums, sums)

    def update(
        self,
        state: MomentsState,
        attribution: Pytree,
        *,
        label: Any = None,
        score: Any = None,
        index: Any = None,
        mask: Any = None,
    ) -> MomentsState:
        """The state with a batch taken in; `label` (`[B]`, integers from 0 to K - 1) is needed with classes."""
        size = check.batch_length(attribution, "moments", "attribution")
        self._check_shape(state, attribution)
        real = mask_or_all(mask, size, "moments")
        rows = self.classes or 1
        where, outside = self._rows(label, real, size)
        count = jax.ops.segment_sum(jnp.ones(size, jnp.int32), where, rows)
        values = jax.tree.map(lambda leaf: jnp.asarray(leaf).astype(wide_dtype(jnp.result_type(leaf))), attribution)

        means = jax.tree.map(lambda v: _class_means(v, where, count), values)
        absolutes = jax.tree.map(lambda v: _class_means(jnp.abs(v), where, count), values)
        squares = jax.tree.map(
            lambda v, m: _class_means(jnp.square(v - m[where]), where, count) * _column(count, v), values, means
        )
        means, absolutes, squares = (
            jax.tree.map(lambda v: Sum(v, jnp.zeros_like(v)), part) for part in (means, absolutes, squares)
        )
        return self.merge(state, MomentsState(count, outside, means, absolutes, squares))

    def _rows(self, label: Any, real: Array, size: int) -> tuple[Array, Array]:
        """The row of the state that each example belongs to (the number of rows: to none), and how many fit none."""
        if self.classes is None:
            return jnp.where(real, 0, 1), jnp.zeros((), jnp.int32)
        if label is None:
            raise ValueError(f"moments: with classes={self.classes}, `update` needs `label`, integers of shape [B].")
        label = per_example(label, size, "moments", "label", jnp.integer)
        valid = (label >= 0) & (label < self.classes)
        return jnp.where(real & valid, label, self.classes), jnp.sum(real & ~valid, dtype=jnp.int32)

    def _check_shape(self, state: MomentsState, attribution: Pytree) -> None:
        known = jax.tree.map(lambda part: part.value[0], state.mean, is_leaf=lambda node: isinstance(node, Sum))
        one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf)[1:], jnp.result_type(leaf)), attribution)
        check.same_structure(one, known, "moments", "an attribution of the batch", "the attribution given to `init`")

    def merge(self, one: MomentsState, other: MomentsState) -> MomentsState:
        """Both passes together (Chan, Golub and LeVeque), with what rounding takes kept beside each sum."""
        count = one.examples + other.examples
        weight = lambda like: _ratio(other.examples, count, like)  # noqa: E731
        pair = partial(jax.tree.map, is_leaf=lambda node: isinstance(node, Sum))

        def mean(a: Sum, b: Sum) -> Sum:
            return _add(a, _difference(b, a) * weight(a.value))

        def square(a: Sum, b: Sum, mean_a: Sum, mean_b: Sum) -> Sum:
            between = jnp.square(_difference(mean_b, mean_a)) * _column(one.examples, a.value) * weight(a.value)
            return _add(_add(Sum(a.value, a.rest + b.rest), b.value), between)

        return MomentsState(
            count,
            one.outside + other.outside,
            pair(mean, one.mean, other.mean),
            pair(mean, one.absolute, other.absolute),
            pair(square, one.square, other.square, one.mean, other.mean),
        )

    def compute(self, state: MomentsState) -> Moments:
        """Counts, means, mean absolute values and variances."""

        def read(part: Sum, divisor: Array | None = None) -> Array:
            total = part.value + part.rest
            total = total if divisor is None else total / _column(jnp.maximum(divisor, 1), total)
            shown = jnp.where(_column(state.examples, total) > 0, total, jnp.nan)
            return shown if self.classes else shown[0]

        pair = partial(jax.tree.map, is_leaf=lambda node: isinstance(node, Sum))
        count = state.examples if self.classes else state.examples[0]
        variance = pair(lambda part: read(part, state.examples), state.square)
        return Moments(count, pair(read, state.mean), pair(read, state.absolute), variance, state.outside)


def _column(per_class: Array, values: Array) -> Array:
    """`[K]` with axes of length one up to the rank of `[K, ...]`."""
    return per_class.reshape(per_class.shape + (1,) * (values.ndim - 1))


def _ratio(part: Array, count: Array, values: Array) -> Array:
    """A class's share, in the values' own precision: of two int32 it would be float32's, whatever it is taken of."""
    return _column(part, values).astype(values.dtype) / _column(jnp.maximum(count, 1), values).astype(values.dtype)


def _class_means(values: Array, where: Array, count: Array) -> Array:
    """`[K, ...]` means of the rows of each class; a second pass over the deviations takes back the sums' rounding."""
    divisor = _column(jnp.maximum(count, 1), values)
    first = jax.ops.segment_sum(values, where, count.size) / divisor
    return first + jax.ops.segment_sum(values - first[where], where, count.size) / divisor


def _difference(a: Sum, b: Sum) -> Array:
    return (a.value - b.value) + (a.rest - b.rest)


def _add(total: Sum, term: Array) -> Sum:
    """Add, and keep the exact rounding error of the addition (Knuth's TwoSum)."""
    value = total.value + term
    back = value - total.value
    error = (total.value - (value - back)) + (term - back)
    return Sum(value, total.rest + error)


@public
def moments(classes: int | None = None) -> MomentsAggregator:
    """Mean, mean absolute value and variance of every feature's attribution over a dataset, per class if asked.

    mean_k = 1/n_k sum_(b in class k) a_b, mean_absolute_k = 1/n_k sum |a_b|, variance_k = 1/n_k sum (a_b - mean_k)^2,
    element by element. Batches are merged by their means and squared deviations, sums are compensated: whatever the
    batches, means of float32 attributions are right to float32's precision.

    Args:
        classes: K, the number of classes, known in advance; None for all examples together.

    Returns:
        An `Aggregator` that computes `Moments`. `update` needs `label` with classes; labels outside them are counted in
        `outside`, not dropped in silence. State: 6 K times the size of an attribution. Cost of `update`: a few passes
        over the batch.

    Raises:
        ValueError: `classes` below 1; in `update`: no label, shapes that do not fit `init`, an empty batch.

    Example:
        >>> aggregator = moments(classes=2)
        >>> state = aggregator.init(jnp.zeros(2))
        >>> state = aggregator.update(state, jnp.array([[1.0, -2.0], [3.0, 2.0]]), label=jnp.array([1, 1]))
        >>> aggregator.compute(state).mean.tolist(), aggregator.compute(state).mean_absolute.tolist()
        ([[nan, nan], [2.0, 0.0]], [[nan, nan], [2.0, 2.0]])

    Source: Chan, Golub and LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances",
    equations 2.1a and 2.1b; Knuth, "The art of computer programming", volume 2, section 4.2.2, theorem B.
    """
    return MomentsAggregator(None if classes is None else check.count(classes, "moments", "classes"))
