"""The units of a layer over a dataset: what each responds to most, and which are dead or saturated; one pass each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain import check
from jaxplain.aggregate.aggregator import Aggregator, mask_or_all, per_example
from jaxplain.aggregate.ranking import EMPTY
from jaxplain.data import Batch, batches
from jaxplain.explain.visualization import cut, receptive_field
from jaxplain.explain.visualization.objective import reading
from jaxplain.program import public, setting, shown
from jaxplain.types import Array, Arrays, Pytree


class UnitsState(NamedTuple):
    """State of `top_units`: `[U, k]`, best first. order: the values, negated; positions: flat, within the layer."""

    order: Array
    indices: Array
    positions: Array


@shown
class TopUnits(NamedTuple):
    """Result of `top_units`: `[U, k]`, best first; places that no example has taken hold NaN and -1."""

    values: Array
    indices: Array
    positions: Array


class TopUnitsAggregator(Aggregator):
    """The examples to which each unit responds most. Made by `top_units`."""

    k: int = setting(default=9)

    def init(self, attribution: Any) -> UnitsState:
        """An empty ranking for activations `[*positions, U]`."""
        shape = (attribution.shape[-1], self.k)
        empty = jnp.full(shape, EMPTY, jnp.int32)
        return UnitsState(jnp.full(shape, jnp.inf, jnp.float32), empty, empty)

    def update(
        self,
        state: UnitsState,
        attribution: Array,
        *,
        label: Any = None,
        score: Any = None,
        index: Any = None,
        mask: Any = None,
    ) -> UnitsState:
        """The ranking with a batch of activations `[B, *positions, U]` taken in; needs `index` (`[B]`, integers)."""
        size = check.batch_length(attribution, "top_units")
        if index is None:
            raise ValueError("top_units: `update` needs `index`, the examples' numbers in the dataset, of shape [B].")
        index = per_example(index, size, "top_units", "index", jnp.integer).astype(jnp.int32)
        real = mask_or_all(mask, size, "top_units")
        flat = attribution.reshape(size, -1, attribution.shape[-1]).astype(jnp.float32)
        flat = jnp.where(jnp.isnan(flat), -jnp.inf, flat)
        place = jnp.argmax(flat, axis=1).astype(jnp.int32)
        value = jnp.max(flat, axis=1)
        counted = real[:, None] & (value > -jnp.inf)
        new = UnitsState(
            jnp.where(counted, -value, jnp.inf).T,
            jnp.where(counted, index[:, None], EMPTY).T,
            jnp.where(counted, place, EMPTY).T,
        )
        return self.merge(state, new)

    def merge(self, one: UnitsState, other: UnitsState) -> UnitsState:
        """The best of both; ties go to the smaller index, however the examples were batched."""
        parts = [jnp.concatenate(pair, axis=1) for pair in zip(one, other, strict=True)]
        return UnitsState(*(part[:, : self.k] for part in lax.sort(parts, dimension=1, num_keys=2)))

    def compute(self, state: UnitsState) -> TopUnits:
        """Values, indices and positions, best first."""
        taken = state.indices != EMPTY
        return TopUnits(
            jnp.where(taken, -state.order, jnp.nan),
            jnp.where(taken, state.indices, -1),
            jnp.where(taken, state.positions, -1),
        )


def top_units(k: int = 9) -> TopUnitsAggregator:
    """The k examples to which each unit of a layer responds most, and at which position.

    An example counts once for each unit, by its largest value over all positions. Ties go to the smaller index, NaN is
    ranked nowhere. States merge, so that parts of a dataset can be passed over apart.

    Args:
        k: How many for each unit.

    Returns:
        An `Aggregator` that computes `TopUnits`; the attribution it is given are a layer's values `[B, *positions, U]`.
        Cost of `update`: one pass over the values and a sort of k + B numbers for each unit.

    Raises:
        ValueError: `k` below 1; in `update`: no index, an empty batch.

    Example:
        >>> aggregator = top_units(1)
        >>> state = aggregator.init(jax.ShapeDtypeStruct((2, 1), jnp.float32))
        >>> state = aggregator.update(state, jnp.array([[[1.0], [3.0]], [[2.0], [0.0]]]), index=jnp.array([7, 8]))
        >>> [leaf.tolist() for leaf in aggregator.compute(state)]
        [[[3.0]], [[7]], [[1]]]
    """
    return TopUnitsAggregator(check.count(k, "top_units", "k"))


@shown
class TopActivations(NamedTuple):
    """What the units of a layer respond to most in a dataset, for units U and ranks k, best first.

    units: `[U]`, their numbers; values: `[U, k]`; indices: `[U, k]`, of the examples (-1 where there are fewer);
    positions: `[U, k]`, flat numbers of the positions in the layer; boxes: `[U, k, axes, 2]`, their receptive fields in
    the input (first index, and the one after the last); patches: `[U, k, h, w, C]`, cut out along the boxes, None where
    the input is no single array.
    """

    units: np.ndarray
    values: np.ndarray
    indices: np.ndarray
    positions: np.ndarray
    boxes: np.ndarray | None
    patches: np.ndarray | None


@public
def top_activations(
    f: Callable[..., Any],
    path: str,
    inputs: Arrays,
    *args: Any,
    k: int = 9,
    units: Sequence[int] | None = None,
    batch_size: int = 128,
    fill: float = 0.0,
) -> TopActivations:
    """Find the examples and patches of a dataset to which each unit of a layer responds most, in one pass.

    A unit is an index of the layer's last axis; an example is ranked by the unit's largest value over all positions.
    The patch is cut out along the receptive field of that position, found from the network's structure.

    Args:
        f: A score or any function `f(x, *args)` that JAX can trace; a score of `jaxplain.logit` needs no target here.
        path: The layer, as in `split`.
        inputs: The dataset, `[N, ...]`; NumPy memory maps are read batch by batch.
        *args: Further arguments of `f`: arrays `[N, ...]`, or numbers that all examples share.
        k: How many for each unit.
        units: The units; None takes all.
        batch_size: Examples evaluated at once.
        fill: Value around patches that the image's border cuts off.

    Returns:
        `TopActivations`. Cost: one forward pass over the dataset, and three for every row and column of one example.

    Raises:
        ValueError: No such layer, a unit outside of it, an empty dataset, sizes below 1, NaN in the inputs.

    Example:
        >>> def f(x):
        ...     with jax.named_scope("double"):
        ...         y = 2 * x
        ...     return y.sum()
        >>> top = top_activations(f, "double", np.array([[[1.0], [0.0]], [[0.0], [5.0]]]), k=1)
        >>> top.values.tolist(), top.indices.tolist(), top.positions.tolist()
        ([[10.0]], [[1]], [[1]])

    Source: Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks", section 3.1.
    """
    name = "top_activations"
    read, aggregator = reading(f, path, name), top_units(k)
    state: Any = None
    chosen = np.zeros(0, int)
    for batch, shared in given_batches(inputs, args, batch_size, name):
        if state is None:
            shape = jax.eval_shape(read_units, read, batch.inputs, batch.targets, shared).shape[1:]
            chosen = _chosen(units, shape[-1], path)
            state = aggregator.init(jax.ShapeDtypeStruct((*shape[:-1], len(chosen)), jnp.float32))
        state = _rank(aggregator, state, read, batch, shared, jnp.asarray(chosen))
    values, indices, positions = (np.asarray(leaf) for leaf in aggregator.compute(state))
    boxes, patches = None, None
    if isinstance(inputs, np.ndarray | jax.Array) and inputs.ndim > 1:
        one = [jax.tree.map(lambda leaf: leaf[0], leaf) if jnp.ndim(leaf) else leaf for leaf in args]
        field = np.asarray(receptive_field(f, path)(jnp.asarray(inputs[0]), *one))
        boxes = field.reshape(-1, *field.shape[-2:])[np.maximum(positions, 0)]
        patches = cut(np.asarray(inputs[np.maximum(indices, 0)]), boxes, fill=fill)
    return TopActivations(chosen, values, indices, positions, boxes, patches)


def read_units(read: Any, x: Pytree, rows: tuple[Any, ...], shared: tuple[Any, ...]) -> Array:
    """A layer's values for a batch, `[B, *positions, U]`."""

    def one(x: Pytree, rows: tuple[Any, ...]) -> Array:
        supply = iter(rows)
        return read(x, *(next(supply) if value is None else value for value in shared))

    return jax.vmap(one)(x, rows)


@jax.jit
def _rank(aggregator: Any, state: Any, read: Any, batch: Batch, shared: tuple[Any, ...], units: Array) -> UnitsState:
    values = read_units(read, batch.inputs, batch.targets, shared)[..., units]
    return aggregator.update(state, values, index=batch.index, mask=batch.mask)


def given_batches(inputs: Pytree, args: tuple[Any, ...], batch_size: int, name: str) -> Iterator[tuple[Batch, Any]]:
    """Batches of the inputs with the arguments that go with them (as targets), and what all examples share."""
    check.batch_length(inputs, name, "inputs")
    check.count(batch_size, name, "batch_size")
    rows = tuple(value for value in args if all(jnp.ndim(leaf) for leaf in jax.tree.leaves(value)))
    shared = tuple(None if all(jnp.ndim(leaf) for leaf in jax.tree.leaves(value)) else value for value in args)
    for batch in batches((inputs, rows), batch_size):
        check.finite(batch.inputs, name, "inputs")
        yield batch, shared


def _chosen(units: Sequence[int] | None, size: int, path: str) -> np.ndarray:
    """The units that are looked at."""
    if units is None:
        return np.arange(size)
    chosen = np.asarray(units)
    if chosen.ndim != 1 or chosen.size == 0 or not np.issubdtype(chosen.dtype, np.integer):
        raise TypeError(f"top_activations: `units` has to be a list of integers, not {units!r}.")
    wrong = chosen[(chosen < 0) | (chosen >= size)]
    if wrong.size:
        raise ValueError(
            f"top_activations: unit {wrong[0]} is outside of {path!r}, which has {size} units; they run from 0 to "
            f"{size - 1}."
        )
    return chosen


@shown
class UnitActivity(NamedTuple):
    """How the units of a layer behave over a dataset, each `[U]`.

    mean, smallest, largest: of the unit's values over all examples and positions; active: share of them above the
    threshold; dead: never above it, or constant; bounded: share of them at the layer's bounds; saturated: whether that
    share is at least the limit.
    """

    mean: np.ndarray
    smallest: np.ndarray
    largest: np.ndarray
    active: np.ndarray
    dead: np.ndarray
    bounded: np.ndarray
    saturated: np.ndarray


@public
def unit_activity(
    f: Callable[..., Any],
    path: str,
    inputs: Arrays,
    *args: Any,
    threshold: float = 0.0,
    margin: float = 0.02,
    limit: float = 0.95,
    batch_size: int = 128,
) -> UnitActivity:
    """Find the dead and the saturated units of a layer over a dataset.

    Dead is a unit that never exceeds the threshold, or never changes. Saturated is one whose values lie at the layer's
    bounds nearly always: within `margin` of the range from the layer's largest value or from its smallest one (that one
    only where it is not exactly 0, the floor of a ReLU).

    Args:
        f: As in `top_activations`.
        path: The layer; what stands before a functional ReLU works as well, for it is active where it is positive.
        inputs: The dataset, `[N, ...]`.
        *args: As in `top_activations`.
        threshold: Above which a value is active.
        margin: What counts as at a bound, as a share of the layer's range.
        limit: Share of values at the bounds from which a unit is saturated.
        batch_size: Examples evaluated at once.

    Returns:
        `UnitActivity`. Cost: two forward passes over the dataset.

    Raises:
        ValueError: As in `top_activations`; a margin or limit out of (0, 1].

    Example:
        >>> def f(x):
        ...     with jax.named_scope("hidden"):
        ...         y = jnp.tanh(x * jnp.array([1.0, 99.0, 0.0]))
        ...     return y.sum()
        >>> activity = unit_activity(f, "hidden", np.linspace(-1.0, 1.0, 40)[:, None] * np.ones((1, 3)))
        >>> activity.dead.tolist(), activity.saturated.tolist()
        ([False, False, True], [False, True, False])

    Source: Maas, Hannun and Ng 2013, "Rectifier nonlinearities improve neural network acoustic models" (dead units);
    Glorot and Bengio 2010, section 3 (saturation).
    """
    for argument, value in (("margin", margin), ("limit", limit)):
        check.positive(value, "unit_activity", argument)
        check.positive(1 - value, "unit_activity", f"1 - {argument}", zero=True)
    read = reading(f, path, "unit_activity")
    parts = [
        [np.asarray(part, np.float64) for part in _span(read, batch, shared, jnp.asarray(threshold, jnp.float32))]
        for batch, shared in given_batches(inputs, args, batch_size, "unit_activity")
    ]
    count, total, actives, lows, highs = (np.stack(column) for column in zip(*parts, strict=True))
    mean, active = total.sum(axis=0) / count.sum(), actives.sum(axis=0) / count.sum()
    smallest, largest = lows.min(axis=0), highs.max(axis=0)
    low, high = smallest.min(), largest.max()
    reach = margin * (high - low)
    ends = jnp.asarray([-np.inf if low == 0 else low + reach, high - reach], jnp.float32)
    at_end = [
        np.asarray(_at_bounds(read, batch, shared, ends), np.float64)
        for batch, shared in given_batches(inputs, args, batch_size, "unit_activity")
    ]
    dead = (largest <= threshold) | (largest - smallest <= 1e-6 * max(abs(low), abs(high)))
    bounded = np.stack(at_end).sum(axis=0) / count.sum()
    return UnitActivity(mean, smallest, largest, active, dead, bounded, (bounded >= limit) & ~dead)


@jax.jit
def _span(read: Any, batch: Batch, shared: tuple[Any, ...], threshold: Array) -> tuple[Array, ...]:
    """Number of values, and by unit their sum, how many are active, the smallest and the largest."""
    values, real = _flat(read, batch, shared)
    small, large = (jnp.where(real, values, end) for end in (jnp.inf, -jnp.inf))
    total = jnp.where(real, values, 0).sum(axis=(0, 1))
    active = jnp.sum(real & (values > threshold), axis=(0, 1))
    return jnp.sum(batch.mask) * values.shape[1], total, active, small.min(axis=(0, 1)), large.max(axis=(0, 1))


@jax.jit
def _at_bounds(read: Any, batch: Batch, shared: tuple[Any, ...], ends: Array) -> Array:
    values, real = _flat(read, batch, shared)
    return jnp.sum(real & ((values <= ends[0]) | (values >= ends[1])), axis=(0, 1))


def _flat(read: Any, batch: Batch, shared: tuple[Any, ...]) -> tuple[Array, Array]:
    """Values `[B, positions, U]` and which rows are real."""
    values = read_units(read, batch.inputs, batch.targets, shared)
    values = values.reshape(values.shape[0], -1, values.shape[-1])
    return values, jnp.asarray(batch.mask)[:, None, None]
