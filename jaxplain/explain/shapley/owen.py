"""Owen values: Shapley values of features that belong together, such as the columns of one variable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.baseline import Groups
from jaxplain.explain.shapley.coalition import Coalitional, Game, checked
from jaxplain.explain.shapley.exact import MOST, coalition_weights, exact, marginals
from jaxplain.explain.shapley.sampling import pair_moments
from jaxplain.program import fold_range, map_range, public, setting
from jaxplain.types import Array, Pytree


class Unions(NamedTuple):
    """The union of each feature and its place in it, both `[n]`, and how many features each union has."""

    union: np.ndarray
    place: np.ndarray
    sizes: np.ndarray


class OwenValues(Coalitional):
    """Owen values. Made by `owen_values`."""

    structure: Any = setting(default=None)
    unions: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = setting(default=())
    samples: int | None = setting(default=None)

    @property
    def needs_key(self) -> bool:
        """Whether orders are sampled, or the baseline is drawn from a key."""
        return self.samples is not None or super().needs_key

    def __call__(self, *inputs: Any) -> Pytree:
        """Explain one example: `e(x, *args)`, or `e(key, x, *args)` where something is drawn."""
        key, x, args = check.divided(inputs, self.name, self.needs_key)
        game = self.game(x, args, None if key is None else jax.random.fold_in(key, 1))
        _, unions = self._features(game.moves)
        if self.samples is None or key is None:
            return game.finite(game.attribution(_exact(game, unions, self.name)))
        moments = pair_moments(game, lambda k: _ranks(k, unions), jax.random.fold_in(key, 0), self.samples)
        return game.finite(game.attribution(moments.mean))

    def numbered(self, x: Pytree, moves: tuple[bool, ...]) -> Groups:
        """Every entry of the groups is a feature."""
        return self._features(moves)[0]

    def _features(self, moves: tuple[bool, ...]) -> tuple[Groups, Unions]:
        """Number the entries of the groups at leaves that move, and say which union each is in."""
        numbers, members, start = [], [np.zeros(0, np.int64)], 0
        for position, (shape, given) in enumerate(self.unions):
            numbers.append(start + np.arange(len(given), dtype=np.int32).reshape(shape))
            if position >= len(moves) or moves[position]:
                start += len(given)
                members.append(np.asarray(given))
        _, union = np.unique(np.concatenate(members), return_inverse=True)
        sizes = np.bincount(union, minlength=1)
        place = np.zeros(union.size, np.int64)
        for k in range(sizes.size):
            place[union == k] = np.arange(sizes[k])
        groups = Groups(jax.tree.unflatten(self.structure, [jnp.asarray(number) for number in numbers]), start)
        return groups, Unions(union, place, sizes)


def _exact(game: Game, unions: Unions, name: str) -> Array:
    """Owen values `[n]`: all coalitions of unions, and within each union all of its parts."""
    m, inside = unions.sizes.size, [2 ** int(size) - 2 for size in unions.sizes]
    total = 2**m + 2 ** (m - 1) * sum(inside)
    if total > 2**MOST:
        raise ValueError(
            f"{name}: {unions.union.size} features in {m} groups have {total:.1e} coalitions, and at most 2**{MOST} "
            "are enumerated. Pass `samples`, or make `groups` smaller."
        )
    union, place = jnp.asarray(unions.union, jnp.int32), jnp.asarray(unions.place, jnp.int32)
    whole = game.values(lambda index: game.spread((index >> union) & 1 == 1), 2**m)
    weights = coalition_weights(m, whole.dtype)
    starts = jnp.asarray(np.cumsum([0, *inside]), jnp.int32)

    def average(index: Array) -> Array:
        """The mean of v(H and T) over the coalitions H of the other unions, for part T of union k."""
        k = jnp.sum(index >= starts) - 1
        part = index - starts[k] + 1

        def fold(carry: Array, others: Array, mask: Array) -> Array:
            values = jax.vmap(lambda h: game.value(game.spread(joined(h, k, part))))(others)
            return carry + jnp.sum(jnp.where(mask, weights[others] * values, 0.0))

        return fold_range(fold, jnp.zeros((), whole.dtype), 2 ** (m - 1), game.at_once)

    def joined(others: Array, k: Array, part: Array) -> Array:
        beyond = jnp.where(union > k, union - 1, union)
        return jnp.where(union == k, part >> place, others >> beyond) & 1 == 1

    parts = map_range(average, sum(inside), 1) if sum(inside) else jnp.zeros(0, whole.dtype)
    values = jnp.zeros(unions.union.size, whole.dtype)
    for k, size in enumerate(unions.sizes.tolist()):
        added = jnp.sum(weights * marginals(whole, jnp.asarray(k, jnp.int32)))
        begin = int(np.sum(inside[:k]))
        within = jnp.concatenate(
            [jnp.zeros(1, whole.dtype), parts[begin : begin + inside[k]], jnp.zeros(1, whole.dtype)]
        )
        if size > 1:  # relative to the union's absence, so that its parts add up to what it adds
            absent = jnp.sum(weights * _without(whole, k))
            within = (within - absent).at[0].set(0.0).at[-1].set(added)
            values = values.at[np.flatnonzero(unions.union == k)].set(exact(within, size))
        else:
            values = values.at[np.flatnonzero(unions.union == k)].set(added)
    return values


def _without(values: Array, feature: int) -> Array:
    """v of the coalitions that lack a feature, numbered as in `marginals`."""
    others = jnp.arange(values.shape[0] // 2, dtype=jnp.int32)
    return values[((others >> feature) << (feature + 1)) | (others & ((1 << feature) - 1))]


def _ranks(key: Array, unions: Unions) -> Array:
    """A random order of the unions, and of the features within each: the rank of every feature, `[n]`."""
    outer = jax.random.permutation(jax.random.fold_in(key, 0), unions.sizes.size)[unions.union]
    inner = jax.random.permutation(jax.random.fold_in(key, 1), unions.union.size)
    return jnp.argsort(jnp.argsort(outer * unions.union.size + inner))


@public
def owen_values(
    f: Callable[..., Any],
    groups: Any,
    *,
    baseline: Any = 0,
    samples: int | None = None,
    batch_size: int | None = None,
) -> OwenValues:
    """The Owen value of every feature: a Shapley value that lets the features of a group come in together.

    phi_i = E over orders in which each group's features follow one another of v(those before i, and i) - v(those
    before i), with all orders of the groups, and of the features within each, equally likely. A group's values add up
    to the Shapley value that the group has as one feature (`shapley_values(f, groups=groups)`), everything to f(x) -
    f(baseline), and without groups of more than one feature it is the Shapley value. Here the features are the single
    entries of `groups`: a column of a table, a pixel where `groups` is `[H, W]`.

    Args:
        f: As in `shapley_values`.
        groups: The features that belong together: integers from 0 without gaps, as in `shapley_values`. Their values
            have to be known when the method is made.
        baseline: As in `shapley_values`.
        samples: None for all coalitions; or how many orders are drawn, in pairs of one and its reverse, as in
            `shapley_sampling` (then calls take a key first).
        batch_size: How many points (a coalition with one baseline) are scored at once. None takes what fills the device
            in `explain_batch` and `explain_dataset`, and 1 elsewhere.

    Returns:
        `e(x, *args) -> attribution` of x's structure and dtypes, in units of the score. Cost, for groups of sizes g_k:
        2^m + 2^(m-1) sum_k (2^g_k - 2) forward passes with m groups (for each row of a background set); with `samples`
        as in `shapley_sampling`.

    Raises:
        ValueError: More than 2^24 coalitions, traced groups; otherwise as `shapley_values`.
        TypeError: As in `shapley_values`.

    Example:
        >>> e = owen_values(lambda x: x[0] * x[1] * x[2], jnp.array([0, 0, 1]))
        >>> e(jnp.array([2.0, 3.0, 1.0])).tolist()
        [1.5, 1.5, 3.0]

    Source: Owen 1977, "Values of games with a priori unions", equation 4.
    """
    name = "owen_values"
    if groups is None:
        raise TypeError(f"{name}: `groups` is None; pass which features belong together, or use shapley_values.")
    if samples is not None:
        samples = check.count(samples, name, "samples")
    if not all(check.is_concrete(leaf) for leaf in jax.tree.leaves(groups)):
        raise ValueError(f"{name}: `groups` is being traced; its values decide what is computed, so make it outside.")
    fields = checked(name, f, baseline, groups, None, batch_size)
    leaves, structure = jax.tree.flatten(fields[2])  # names are numbers there
    unions = tuple((np.shape(leaf), tuple(np.asarray(leaf).reshape(-1).tolist())) for leaf in leaves)
    return OwenValues(*fields[:2], None, None, None, *fields[5:], structure, unions, samples)
