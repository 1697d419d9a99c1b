"""How much the score of a model depends on each feature: importance by permutation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.aggregate.effects import Global, row_of
from jaxplain.baseline import Groups, as_groups, features
from jaxplain.program import as_function, fold_range, public, setting, shown
from jaxplain.types import Array, Pytree


@shown
class Importance(NamedTuple):
    """How much the mean score grows when a feature is permuted, feature by feature.

    mean: over the permutations, `[n]`; standard_error: of that mean, `[n]`; values: `[samples, n]`; score: the mean
    score of the data as they are.
    """

    mean: Array
    standard_error: Array
    values: Array
    score: Array


class PermutationImportance(Global):
    """Importance of features by permutation. Made by `permutation_importance`."""

    samples: int = setting(default=8)

    @property
    def needs_key(self) -> bool:
        """Always: permutations are drawn from the key."""
        return True

    def __call__(self, key: Array, data: Pytree, *args: Any) -> Importance:
        """The importance of every feature over the examples `data`, `[N, ...]` on every leaf."""
        data, shared, parts, rows = self.prepare(data, args)
        if rows < 2:
            raise ValueError(f"{self.name}: there is one example, and nothing to permute it with; pass at least two.")
        if not isinstance(parts.total, int):
            raise ValueError(f"{self.name}: `groups` is being traced; pass them outside of jit and vmap.")
        score, values = _permuted(self, key, data, shared)
        if check.is_concrete(values) and not bool(jnp.isfinite(values).all()):
            raise ValueError(
                f"{self.name}: the score `f` is NaN or infinite for some examples, as they are or permuted."
            )
        error = values.std(axis=0, ddof=min(1, self.samples - 1)) / np.sqrt(self.samples)
        error = error if self.samples > 1 else jnp.full_like(error, jnp.nan)
        return Importance(values.mean(axis=0), error, values, score)


@jax.jit
def _permuted(e: PermutationImportance, key: Array, data: Pytree, args: Any) -> tuple[Array, Array]:
    """The mean score of the data, and what permuting each feature adds to it, `[samples, n]`."""
    rows = jax.tree.leaves(data)[0].shape[0]
    moves = [True] * len(jax.tree.leaves(data))
    parts = features(row_of(data, 0), Groups(e.groups, e.count), e.name, moves)

    def mean(change: Callable[[Array], Pytree]) -> Array:
        def fold(carry: Array, index: Array, mask: Array) -> Array:
            scores = jax.vmap(lambda i: e.scored(change(i), row_of(args, i)))(index)
            return carry + jnp.where(mask, scores, 0.0).sum()

        dtype = jax.eval_shape(lambda i: e.scored(change(i), row_of(args, i)), jnp.zeros((), jnp.int32)).dtype
        return fold_range(fold, jnp.zeros((), dtype), rows, e.batch_size) / rows

    plain = mean(lambda i: row_of(data, i))

    def one(item: Array) -> Array:
        sample, feature = item // parts.slots, item % parts.slots
        other = jax.random.permutation(jax.random.fold_in(jax.random.fold_in(key, feature), sample), rows)

        def mixed(i: Array) -> Pytree:
            x, y = row_of(data, i), row_of(data, other[i])
            leaves = [
                jnp.where(number == feature, b, a)
                for a, b, number in zip(jax.tree.leaves(x), jax.tree.leaves(y), parts.numbers, strict=True)
            ]
            return jax.tree.unflatten(jax.tree.structure(x), leaves)

        return mean(mixed) - plain

    return plain, jax.lax.map(one, jnp.arange(e.samples * parts.slots)).reshape(e.samples, parts.slots)


@public
def permutation_importance(
    f: Callable[..., Any], *, samples: int = 8, groups: Any = None, batch_size: int = 256
) -> PermutationImportance:
    """How much the mean score grows when a feature's values are shuffled over the examples.

    importance_i = 1/S sum_s mean_n f(x_n with feature i of x_(pi_s(n)), target_n) - mean_n f(x_n, target_n). With a
    loss (`jaxplain.loss`) important features are positive; with a score that is better when higher they are negative. A
    group is shuffled as one, which is what the columns of a one-hot variable need. Integer and boolean leaves of the
    data are features like others.

    Args:
        f: A loss or score of one example, `f(x, *args) -> scalar`.
        samples: How many permutations for each feature.
        groups: As in `partial_dependence`.
        batch_size: How many examples are scored at once.

    Returns:
        `m(key, data, *args) -> Importance(mean, standard_error, values, score)` for examples `[N, ...]`, in units of
        the score; the error is that of the permutations, not of the data (NaN for one permutation). Permutation s of
        feature i draws from `fold_in(fold_in(key, i), s)`. Cost: N (1 + n samples) forward passes for n features.

    Raises:
        ValueError: Fewer than two examples, groups that do not fit, NaN in the data, scores that are not finite.
        TypeError: Data that are no arrays of numbers.

    Example:
        >>> m = permutation_importance(lambda x, y: (x[0] - y) ** 2, samples=4)
        >>> x = jnp.array([[0.0, 1.0], [1.0, 3.0], [2.0, 5.0]])
        >>> result = m(jax.random.key(0), x, x[:, 0])
        >>> bool(result.mean[0] > 0), float(result.mean[1])
        (True, 0.0)

    Source: Breiman 2001, "Random forests", section 10; Fisher, Rudin and Dominici 2019, "All models are wrong, but many
    are useful", section 3.2 (model reliance, as a difference).
    """
    name = "permutation_importance"
    given = as_groups(groups, name)
    samples = check.count(samples, name, "samples")
    size = check.count(batch_size, name, "batch_size")
    return PermutationImportance(as_function(f), given.numbers, given.total, size, name, samples)
