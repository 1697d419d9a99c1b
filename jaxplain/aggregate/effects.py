"""What a feature does over a whole dataset, whatever the model: partial dependence, single examples, local effects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.baseline import Features, Groups, as_groups, features, representable
from jaxplain.program import Function, as_function, fold_range, map_range, public, setting, shown, wide_dtype
from jaxplain.types import Array, ArrayLike, Pytree


@shown
class Effect(NamedTuple):
    """A feature's effect on the score.

    grid: the feature's values, `[G]`, or `[G, size]` for a feature of several; score: the effect at each of them, `[G]`
    (`[N, G]` of every example for individual conditional expectations); counts: how many examples have their value
    there, `[G]`: nearest to it, or for accumulated local effects in the interval that ends there.
    """

    grid: Array
    score: Array
    counts: Array


class Global(Function):
    """What the methods share: a score, which values are a feature, and how many rows are scored at once."""

    score: Any
    groups: Any
    count: int | None = setting(default=None)
    batch_size: int = setting(default=256)
    name: str = setting(default="partial_dependence")

    def prepare(self, data: Pytree, args: tuple[Any, ...]) -> tuple[Pytree, tuple[Any, ...], Features, int]:
        """Data and arguments with a row for each example, the features of one, and the number of examples."""
        rows = check.batch_length(data, self.name, "data")
        check.finite(data, self.name, "data")
        data = jax.tree.map(jnp.asarray, data)
        shared = tuple(_for_eachrow_of(value, rows, position, self.name) for position, value in enumerate(args))
        moves = [True] * len(jax.tree.leaves(data))  # the data say what every leaf can become
        parts = features(row_of(data, 0), Groups(self.groups, self.count), self.name, moves)
        return data, shared, parts, rows

    def scored(self, x: Pytree, args: tuple[Any, ...]) -> Array:
        """The score of one example."""
        value = jnp.asarray(check.scalar(self.score(x, *args), self.name))
        return value.astype(wide_dtype(value.dtype))


def row_of(tree: Pytree, index: Any) -> Pytree:
    """One example."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _for_eachrow_of(value: Any, rows: int, position: int, name: str) -> Any:
    def leaf(array: Any) -> Array:
        if jnp.ndim(array) == 0:
            return jnp.broadcast_to(jnp.asarray(array), (rows,))
        if jnp.shape(array)[0] != rows:
            raise ValueError(
                f"{name}: argument {position + 1} after `data` has shape {jnp.shape(array)}, but there are {rows} "
                "examples. Pass one value for each example, or one number for all."
            )
        return jnp.asarray(array)

    return jax.tree.map(leaf, value)


def _replaced(x: Pytree, parts: list[Any], feature: Any, values: Pytree) -> Pytree:
    """One example with a feature's values replaced, in row-major order leaf after leaf.

    `values` are `[size]` in each leaf's dtype: they are selected, and never computed with.
    """
    leaves, structure = jax.tree.flatten(x)
    merged, before = [], jnp.zeros((), jnp.int32)
    for leaf, number, supply in zip(leaves, parts, jax.tree.leaves(values), strict=True):
        inside = number.reshape(-1) == feature
        place = before + jnp.cumsum(inside) - 1
        new = supply[jnp.clip(place, 0, supply.shape[0] - 1)]
        merged.append(jnp.where(inside, new, leaf.reshape(-1)).reshape(leaf.shape))
        before = before + inside.sum()
    return jax.tree.unflatten(structure, merged)


def _as_data(grid: np.ndarray, data: Pytree) -> Pytree:
    """Values `[G, size]` of a feature in the dtype of each leaf of the data (only the feature's own are looked at)."""
    with np.errstate(all="ignore"):
        return jax.tree.map(lambda leaf: jnp.asarray(grid.reshape(len(grid), -1).astype(leaf.dtype)), data)


def _column(data: Pytree, parts: Features, feature: int) -> np.ndarray:
    """The values of a feature in all examples, `[N, size]`."""
    columns = []
    for leaf, number in zip(jax.tree.leaves(data), parts.numbers, strict=True):
        rows = np.asarray(leaf, np.float64).reshape(leaf.shape[0], -1)
        columns.append(rows[:, np.asarray(number).reshape(-1) == feature])
    return np.concatenate(columns, axis=1)


def _dtypes(data: Pytree, parts: Features, feature: int) -> list[Any]:
    """The dtypes of the leaves that hold a feature."""
    pairs = zip(jax.tree.leaves(data), parts.numbers, strict=True)
    return [leaf.dtype for leaf, number in pairs if bool((np.asarray(number) == feature).any())]


class _Curve(Global):
    """Effects over a grid. Made by `partial_dependence`, `individual_conditional_expectation` and ALE."""

    grid: Any = None
    feature: Any = 0
    points: int = setting(default=32)
    centered: bool = setting(default=False)

    def __call__(self, data: Pytree, *args: Any) -> Effect:
        """The effect of the feature over the examples `data`, `[N, ...]` on every leaf."""
        data, shared, parts, _ = self.prepare(data, args)
        if not all(check.is_concrete(leaf) for leaf in jax.tree.leaves((data, self.groups))):
            raise TypeError(
                f"{self.name}: `data` is being traced; it compiles itself, call it outside of jit and vmap."
            )
        total = int(parts.total)
        if not 0 <= self.feature < total:
            raise ValueError(f"{self.name}: `feature` is {self.feature}, but there are {total} features, from 0.")
        column, dtypes = _column(data, parts, self.feature), _dtypes(data, parts, self.feature)
        whole = not any(jnp.issubdtype(dtype, jnp.floating) for dtype in dtypes)
        if self.name == "accumulated_local_effects":
            return self._accumulated(data, shared, parts, column, whole)
        grid = self._grid(column, whole)
        for dtype in dtypes if self.grid is not None else ():
            if not jnp.issubdtype(dtype, jnp.floating):
                representable(grid, np.zeros((), dtype), "grid", f"feature {self.feature}", self.name)
        curves = _curves(self, data, shared, parts.numbers, jnp.asarray(self.feature), _as_data(grid, data))
        nearest = np.abs(column[:, None, :] - grid.reshape(1, len(grid), -1)).sum(axis=-1).argmin(axis=1)
        counts = jnp.asarray(np.bincount(nearest, minlength=len(grid)))
        self._finite(curves)
        return Effect(jnp.asarray(grid, wide_dtype(jnp.result_type(*dtypes))), curves, counts)

    def _grid(self, column: np.ndarray, whole: bool) -> np.ndarray:
        """The values asked for, or what the data hold: quantiles, or all different values where there are few.

        Of a feature of integers (`whole`) quantiles are values of the data, too.
        """
        size = column.shape[1]
        if self.grid is not None:
            grid = np.asarray(self.grid, np.float64)
            if grid.ndim == 0 or grid.size == 0 or grid.shape[1:] != (() if size == 1 else (size,)):
                wanted = "[G]" if size == 1 else f"[G, {size}], a row of the feature's values for each point"
                raise ValueError(f"{self.name}: `grid` has shape {grid.shape}; it has to be {wanted}.")
            check.finite(grid, self.name, "grid")
            return grid
        different = np.unique(column, axis=0)
        if size > 1:
            if len(different) > self.points:
                raise ValueError(
                    f"{self.name}: feature {self.feature} has {size} values in {len(different)} combinations, more "
                    f"than `points` ({self.points}); pass those to look at as `grid`, [G, {size}]."
                )
            return different[::-1]  # the columns of a one-hot variable in their order
        return _quantiles(column[:, 0], self.points, whole)

    def _accumulated(self, data: Pytree, shared: Any, parts: Features, column: np.ndarray, whole: bool) -> Effect:
        if column.shape[1] > 1:
            raise ValueError(
                f"{self.name}: feature {self.feature} is a group of {column.shape[1]} values, which have no order to "
                "accumulate along; use partial_dependence."
            )
        values = column[:, 0]
        edges = _quantiles(values, self.points, whole) if self.grid is None else np.asarray(self.grid, np.float64)
        if edges.ndim != 1 or len(edges) < 2 or (np.diff(edges) <= 0).any():
            what = "the feature has a single value" if self.grid is None else f"`grid` is {self.grid}"
            raise ValueError(f"{self.name}: {what}; effects accumulate over at least two rising values.")
        place = np.clip(np.searchsorted(edges, values, side="left"), 1, len(edges) - 1)
        sums = _local(
            self,
            data,
            shared,
            parts.numbers,
            jnp.asarray(self.feature),
            _as_data(edges, data),
            jnp.asarray(place),
        )
        self._finite(sums)
        counts = np.bincount(place, minlength=len(edges))
        steps = np.asarray(sums, np.float64) / np.maximum(counts, 1)
        curve = np.cumsum(steps)
        curve -= np.interp(values, edges, curve).mean()
        dtype = wide_dtype(sums.dtype)
        return Effect(jnp.asarray(edges, dtype), jnp.asarray(curve, dtype), jnp.asarray(counts))

    def _finite(self, result: Array) -> None:
        if not bool(jnp.isfinite(result).all()):
            raise ValueError(f"{self.name}: the score `f` is NaN or infinite for some examples and values of the grid.")


def _quantiles(values: np.ndarray, points: int, whole: bool) -> np.ndarray:
    different = np.unique(values)
    if len(different) <= points:
        return different
    return np.unique(np.quantile(values, np.linspace(0, 1, points), method="nearest" if whole else "linear"))


@jax.jit
def _curves(e: _Curve, data: Pytree, args: Any, parts: list[Any], feature: Array, grid: Pytree) -> Array:
    rows = jax.tree.leaves(data)[0].shape[0]

    def one(index: Array) -> Array:
        x, more = row_of(data, index), row_of(args, index)
        curve = jax.lax.map(lambda values: e.scored(_replaced(x, parts, feature, values), more), grid)
        return curve - curve[0] if e.centered else curve

    if e.name == "individual_conditional_expectation":
        return map_range(one, rows, e.batch_size)

    def fold(total: Array, index: Array, mask: Array) -> Array:
        return total + jnp.where(mask[:, None], jax.vmap(one)(index), 0.0).sum(axis=0)

    dtype = jax.eval_shape(one, jnp.zeros((), jnp.int32)).dtype
    points = jax.tree.leaves(grid)[0].shape[0]
    return fold_range(fold, jnp.zeros(points, dtype), rows, e.batch_size) / rows


@jax.jit
def _local(e: _Curve, data: Pytree, args: Any, parts: list[Any], feature: Array, edges: Pytree, place: Array) -> Array:
    """For each interval the sum over its examples of the score at its upper end less that at its lower, `[G]`."""

    def one(index: Array) -> Array:
        x, more, k = row_of(data, index), row_of(args, index), place[index]
        ends = jax.tree.map(lambda leaf: jnp.stack([leaf[k], leaf[k - 1]]), edges)
        upper, lower = jax.vmap(lambda values: e.scored(_replaced(x, parts, feature, values), more))(ends)
        return upper - lower

    def fold(total: Array, index: Array, mask: Array) -> Array:
        return total.at[place[index]].add(jnp.where(mask, jax.vmap(one)(index), 0.0))

    rows = jax.tree.leaves(data)[0].shape[0]
    dtype = jax.eval_shape(one, jnp.zeros((), jnp.int32)).dtype
    points = jax.tree.leaves(edges)[0].shape[0]
    return fold_range(fold, jnp.zeros(points, dtype), rows, max(1, e.batch_size // 2))


def _curve(
    name: str, f: Any, feature: Any, grid: Any, points: int, groups: Any, batch_size: int, *, centered: bool = False
) -> _Curve:
    given = as_groups(groups, name)
    return _Curve(
        as_function(f),
        given.numbers,
        given.total,
        check.count(batch_size, name, "batch_size"),
        name,
        grid,
        given.number_of(feature, name),
        check.count(points, name, "points", least=2),
        centered,
    )


@public
def partial_dependence(
    f: Callable[..., Any],
    feature: int | str,
    *,
    grid: ArrayLike | None = None,
    points: int = 32,
    groups: Any = None,
    batch_size: int = 256,
) -> _Curve:
    """The mean score when a feature is set to each value of a grid in all examples.

    PD(v) = 1/N sum_n f(x_n with feature := v). It mixes in examples that the data do not hold where features depend on
    one another; `accumulated_local_effects` does not.

    Args:
        f: A score of one example, `f(x, *args) -> scalar`.
        feature: Which feature: its number in row-major order, leaf after leaf (of whatever dtype), or its group's; its
            name where `groups` are names.
        grid: The values, `[G]` (`[G, size]` for a group of several values, in row-major order); None takes up to
            `points` quantiles of the data, all different values where those are fewer, and a group's different
            combinations (the columns of a one-hot variable).
        points: How many quantiles, with both ends.
        groups: Features that go together: integers 0 to n-1 without gaps of one example's structure and shape (or its
            leading axes), or a name for each column; None takes every value, or every pixel of `[H, W, C]`.
        batch_size: How many examples are scored at once.

    Returns:
        `m(data, *args) -> Effect(grid, score, counts)` for examples `[N, ...]` and further arguments of the score, each
        with a leading axis N or one number for all; in units of the score. One compiled program for all features of a
        dataset and a number of values. Cost: N G forward passes.

    Raises:
        ValueError: No examples, a feature that there is not, a grid of another shape, groups that do not fit, NaN in
            the data, scores that are not finite.
        TypeError: Data that are being traced.

    Example:
        >>> m = partial_dependence(lambda x: 2 * x[0] + x[1], 0)
        >>> m(jnp.array([[0.0, 1.0], [1.0, 3.0]])).score.tolist()
        [2.0, 4.0]

    Source: Friedman 2001, "Greedy function approximation: a gradient boosting machine", equation 53.
    """
    return _curve("partial_dependence", f, feature, grid, points, groups, batch_size)


@public
def individual_conditional_expectation(
    f: Callable[..., Any],
    feature: int | str,
    *,
    grid: ArrayLike | None = None,
    points: int = 32,
    centered: bool = False,
    groups: Any = None,
    batch_size: int = 256,
) -> _Curve:
    """The score of every example when a feature is set to each value of a grid: `partial_dependence` before its mean.

    Args:
        f: As in `partial_dependence`.
        feature: As in `partial_dependence`.
        grid: As in `partial_dependence`.
        points: As in `partial_dependence`.
        centered: Subtract each curve's first value, so that curves of other shape stand out.
        groups: As in `partial_dependence`.
        batch_size: As in `partial_dependence`.

    Returns:
        `m(data, *args) -> Effect(grid, score, counts)` with `score` of shape `[N, G]`. Cost: N G forward passes.

    Raises:
        ValueError, TypeError: As in `partial_dependence`.

    Example:
        >>> m = individual_conditional_expectation(lambda x: 2 * x[0] + x[1], 0)
        >>> m(jnp.array([[0.0, 1.0], [1.0, 3.0]])).score.tolist()
        [[1.0, 3.0], [3.0, 5.0]]

    Source: Goldstein et al. 2015, "Peeking inside the black box: visualizing statistical learning with plots of
    individual conditional expectation", section 3.
    """
    name = "individual_conditional_expectation"
    return _curve(name, f, feature, grid, points, groups, batch_size, centered=bool(centered))


@public
def accumulated_local_effects(
    f: Callable[..., Any],
    feature: int | str,
    *,
    grid: ArrayLike | None = None,
    points: int = 33,
    groups: Any = None,
    batch_size: int = 256,
) -> _Curve:
    """How the score changes along a feature, accumulated over intervals from the examples that lie in each.

    ALE(z_k) = sum_(j <= k) 1/N_j sum over examples n in (z_(j-1), z_j] of f(x_n with z_j) - f(x_n with z_(j-1)), less
    the mean over the data of the curve drawn straight between the z_k. Examples are moved within their interval only,
    so dependent features do not mislead it. Without interactions differences of the curve are those of the feature's
    own term. The source centres with each example at the end of its interval; straight lines make a linear term exact.

    Args:
        f: As in `partial_dependence`.
        feature: As in `partial_dependence`, a feature of one value.
        grid: The ends of the intervals, rising, `[G]`; None takes quantiles of the data, or all different values where
            those are fewer than `points`. Examples beyond the ends count to the outermost intervals.
        points: How many quantiles, with both ends.
        groups: As in `partial_dependence`.
        batch_size: How many points are scored at once.

    Returns:
        `m(data, *args) -> Effect(grid, score, counts)`, each `[G]`; `counts` are of the interval that ends at each
        value (the first is 0). An empty interval of a given grid adds nothing. Cost: 2 N forward passes, whatever G.

    Raises:
        ValueError: A grid that does not rise, a feature with a single value or with several values; otherwise as
            `partial_dependence`.
        TypeError: As in `partial_dependence`.

    Example:
        >>> m = accumulated_local_effects(lambda x: 2 * x[0] + x[1], 0)
        >>> m(jnp.array([[0.0, 1.0], [1.0, 3.0]])).score.tolist()
        [-1.0, 1.0]

    Source: Apley and Zhu 2020, "Visualizing the effects of predictor variables in black box supervised learning
    models", equations 15 and 16.
    """
    return _curve("accumulated_local_effects", f, feature, grid, points, groups, batch_size)
