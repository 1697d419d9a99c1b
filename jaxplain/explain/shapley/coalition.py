"""The coalition game of an input: the score when some features keep their values and the others are absent."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.baseline import (
    Features,
    Groups,
    as_baseline,
    as_groups,
    features,
    is_background,
    like_rows,
    replacement,
    warn_where_equal,
)
from jaxplain.program import (
    Function,
    as_function,
    fold_range,
    like,
    map_range,
    needs_key,
    points_at_once,
    setting,
    side_by_side,
    wide_dtype,
)
from jaxplain.types import Array, Pytree

Keep = list[Any]
"""For each leaf of an input which values are kept (of its shape); None at leaves that are held."""


class Game:
    """v(S) = mean over baselines b of f(x on S, b elsewhere), for one example and its n features.

    Attributes:
        n: A static number of features; with traced groups their bound `max_groups`, and the features beyond
            `parts.total` have no values and change nothing.
        parts: Which value belongs to which feature.
        moves: For each leaf, whether the baseline says what it becomes.
    """

    def __init__(self, e: Coalitional, x: Pytree, args: tuple[Any, ...], key: Array | None) -> None:
        """The game that a method plays for one example; `key` where the baseline is drawn."""
        name = e.name
        self._e, self._x, self._args = e, x, args
        check.arrays(x, name)
        check.finite(x, name)
        self._background = is_background(e.baseline, x)
        if self._background:
            check.finite(e.baseline, name, "baseline")
            self._rows = check.batch_length(e.baseline, name)
            self._absent = like_rows(e.baseline, x, name, "baseline")
            self.moves: tuple[bool, ...] = (True,) * len(jax.tree.leaves(x))
        else:
            self._rows = 1
            self._absent, self.moves = replacement(e.baseline, x, key, name=name)
        self._given = e.numbered(x, self.moves)
        self.parts: Features = features(x, self._given, name, self.moves)
        self.n: int = _players(self.parts, self._given, e.max_groups, name)
        warn_if_nothing_changes(self._absent, x, name)

    def spread(self, values: Array) -> Keep:
        """A number for each feature, `[n]`, at every value of the features, leaf by leaf."""
        if self._given.numbers is not None:
            return [None if number is None else values[number] for number in self.parts.numbers]
        # Features in row-major order need no look-up.
        spread: Keep = []
        start = 0
        for number, leaf in zip(self.parts.numbers, jax.tree.leaves(self._x), strict=True):
            if number is None:
                spread.append(None)
                continue
            shape = jnp.shape(leaf)
            own = shape[:2] if len(shape) == 3 else shape
            size = functools.reduce(lambda a, b: a * b, own, 1)
            part = values[start : start + size].reshape(own)
            spread.append(jnp.broadcast_to(part[..., None], shape) if len(shape) == 3 else part)
            start += size
        return spread

    def value(self, keep: Keep) -> Array:
        """v of one coalition. Cost: a forward pass for each baseline, `batch_size` at once."""
        if not self._background:
            return self._score(_mixed(keep, self._x, self._absent))

        def row(index: Array) -> Array:
            return self._score(_mixed(keep, self._x, jax.tree.map(lambda leaf: leaf[index], self._absent)))

        def fold(total: Array, index: Array, mask: Array) -> Array:
            return total + jnp.where(mask, side_by_side(row, index), 0.0).sum()

        dtype = jax.eval_shape(row, jnp.zeros((), jnp.int32)).dtype
        return fold_range(fold, jnp.zeros((), dtype), self._rows, self._e.batch_size) / self._rows

    def values(self, keep: Callable[[Array], Keep], total: int) -> Array:
        """v of the coalitions numbered 0 to total-1, `[total]`."""
        return map_range(lambda index: self.value(keep(index)), total, self.at_once)

    @property
    def at_once(self) -> int:
        """How many coalitions are evaluated together, so that no more than `batch_size` points are."""
        return max(1, points_at_once(self._e.batch_size) // self._rows)

    def all_present(self) -> Array:
        """v of all features: the score of the input, in one forward pass."""
        return self._score(self._x)

    def none_present(self) -> Array:
        """v of no feature: the mean score of the baselines."""
        return self.value(self.spread(jnp.zeros(self.n, bool)))

    def present(self) -> Any:
        """Which of the n features have values, `[n]`, or None where all have."""
        return None if isinstance(self.parts.total, int) else jnp.arange(self.n) < self.parts.total

    def attribution(self, values: Array) -> Pytree:
        """Features' values `[n]` in x's structure and dtypes: each is divided evenly over the feature's values."""
        counts = jnp.zeros(self.n, values.dtype)
        for number in self.parts.numbers:
            if number is not None:
                counts = counts.at[number.reshape(-1)].add(1)
        if not isinstance(self.parts.total, int):  # more groups than `max_groups` said
            values = jnp.where(self.parts.total <= self.n, values, jnp.nan)
        shares = self.spread(values / jnp.maximum(counts, 1))
        leaves, structure = jax.tree.flatten(self._x)
        zeros = [jnp.zeros(jnp.shape(leaf), jnp.float32) for leaf in leaves]
        merged = [zero if share is None else share for share, zero in zip(shares, zeros, strict=True)]
        return like(jax.tree.unflatten(structure, merged), self._x)

    def finite(self, result: Any) -> Any:
        """Refuse a concrete result with NaN or infinities, which can only come from the score."""
        for leaf in jax.tree.leaves(result):
            if check.is_concrete(leaf) and not np.isfinite(np.asarray(leaf, np.float64)).all():
                raise ValueError(
                    f"{self._e.name}: the score `f` is NaN or infinite for the input, for the baseline or with some "
                    "features of one in the other, so no explanation adds up. Check f(x) and f(baseline); of scores "
                    "that can be infinite (a log-probability of 0) explain the logit instead."
                )
        return result

    def _score(self, x: Pytree) -> Array:
        value = jnp.asarray(check.scalar(self._e.score(x, *self._args), self._e.name))
        return value.astype(wide_dtype(value.dtype))


def _mixed(keep: Keep, x: Pytree, absent: Pytree) -> Pytree:
    leaves, structure = jax.tree.flatten(x)
    others = jax.tree.leaves(absent)
    merged = [
        leaf if kept is None else jnp.where(kept, leaf, other.astype(jnp.result_type(leaf)))
        for kept, leaf, other in zip(keep, leaves, others, strict=True)
    ]
    return jax.tree.unflatten(structure, merged)


def _players(parts: Features, given: Groups, max_groups: int | None, name: str) -> int:
    if isinstance(parts.total, int):
        return parts.total
    if max_groups is None:
        raise ValueError(
            f"{name}: with traced `groups` the number of features is not known; pass `max_groups`, the most that an "
            "example has."
        )
    return max_groups


def warn_if_nothing_changes(absent: Pytree, x: Pytree, name: str) -> None:
    """Warn where a concrete baseline, or every row of a set, equals a concrete input in every value."""
    pairs = list(zip(jax.tree.leaves(x), jax.tree.leaves(absent), strict=True))
    if all(check.is_concrete(leaf) for pair in pairs for leaf in pair) and all(
        bool(np.all(np.asarray(b) == np.asarray(a)[(None,) * (np.ndim(b) - np.ndim(a))])) for a, b in pairs
    ):
        check.nothing_changes(name)


class Coalitional(Function):
    """What the methods that play a coalition game share. Their functions say what the settings mean."""

    score: Any
    baseline: Any
    groups: Any
    count: int | None = setting(default=None)
    max_groups: int | None = setting(default=None)
    batch_size: int | None = setting(default=None, points=True)
    name: str = setting(default="shapley_values")

    @property
    def needs_key(self) -> bool:
        """Whether the baseline is drawn from a key."""
        return needs_key(self.baseline)

    def numbered(self, x: Pytree, moves: tuple[bool, ...]) -> Groups:
        """The features of one example, of the leaves that move."""
        return Groups(self.groups, self.count)

    def game(self, x: Pytree, args: tuple[Any, ...], key: Array | None) -> Game:
        """The game of one example."""
        return Game(self, x, args, key)

    def check_baseline(self, x: Pytree) -> None:
        """Warn, once for a concrete batch, of examples that equal their baseline."""
        warn_where_equal((self.baseline,), x, self.name)


def checked(
    name: str, f: Callable[..., Any], baseline: Any, groups: Any, max_groups: int | None, batch_size: int | None
) -> tuple[Any, Any, Any, int | None, int | None, int | None, str]:
    """The fields of a `Coalitional` from what a caller passes, in their order."""
    given = as_groups(groups, name)
    return (
        as_function(check.callable_score(f, name)),
        as_baseline(baseline),
        given.numbers,
        given.total,
        None if max_groups is None else check.count(max_groups, name, "max_groups"),
        check.at_once(batch_size, name),
        name,
    )


def random_ranks(key: Array, n: int, present: Any) -> Array:
    """A uniform random order of the features: the rank of each, `[n]`, features without values last."""
    if present is None:
        return jax.random.permutation(key, n)
    order = jnp.argsort(jax.random.uniform(key, (n,)) + jnp.where(present, 0.0, 2.0))
    return jnp.argsort(order)
