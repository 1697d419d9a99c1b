"""References that a sequence is compared with: its own dinucleotides in another order."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain.explain.genomics.onehot import known_batch, one_hot
from jaxplain.program import Function, public
from jaxplain.types import Array

MOST = 5
"""Letters: every way in which they can be left for the last time is weighed, (letters + 1) ** (letters + 1) of them."""


class DinucleotideShuffle(Function):
    """A sequence with its dinucleotides in another order. Made by `dinucleotide_shuffle`."""

    made_by: ClassVar[str] = "dinucleotide_shuffle"

    @property
    def needs_key(self) -> bool:
        """Always."""
        return True

    def check_call(self, x: Any, *_: Any) -> None:
        """Raise for a concrete batch with letters that are not one-hot (used by drivers)."""
        known_batch(x, self.made_by)

    def __call__(self, key: Array, x: Any) -> Array:
        """One draw, of x's shape and dtype."""
        one_hot(x, self.made_by)
        length, letters = jnp.shape(x)
        if letters > MOST:
            raise ValueError(
                f"dinucleotide_shuffle: `x` has shape {jnp.shape(x)}, an alphabet of {letters} letters; at most {MOST} "
                "can be shuffled (one-hot nucleotides are [L, 4], position first)."
            )
        x = jnp.asarray(x)
        known = x.sum(axis=1) > 0
        path = jnp.where(known, jnp.argmax(x, axis=1), letters)  # what is not known is a letter of its own
        shuffled = _shuffled(key, path, letters + 1) if length > 2 else path
        return jax.nn.one_hot(shuffled, letters, dtype=x.dtype)


def _shuffled(key: Array, path: Array, letters: int) -> Array:
    """A walk over the same steps from letter to letter, uniform among all of them with this first letter.

    A walk that takes every step once is a spanning tree of the last steps out of each letter, towards the letter where
    it ends, and any order of the other steps out of it. All trees have as many orders, so a tree is drawn by how many
    choices of steps make it, then the order.
    """
    tree_key, order_key = jax.random.split(key)
    here, there = path[:-1], path[1:]
    counts = jnp.zeros((letters, letters), jnp.int32).at[here, there].add(1)
    last = _last_steps(tree_key, counts, path[-1])
    steps = len(path) - 1
    first_of_kind = jnp.full((letters, letters), steps).at[here, there].min(jnp.arange(steps))
    leaves_last = first_of_kind[here, last[here]] == jnp.arange(steps)
    leaves_last &= here != path[-1]  # the end is left in any order
    rank = jnp.where(leaves_last, 2.0, jax.random.uniform(order_key, (steps,)))
    order = jnp.lexsort((rank, here))
    start = jnp.cumsum(counts.sum(axis=1)) - counts.sum(axis=1)

    def walk(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        letter, taken = state
        following = there[order[start[letter] + taken[letter]]]
        return (following, taken.at[letter].add(1)), following

    _, rest = lax.scan(walk, (path[0], jnp.zeros(letters, jnp.int32)), None, length=steps)
    return jnp.concatenate([path[:1], rest])


def _last_steps(key: Array, counts: Array, end: Array) -> Array:
    """To which letter each letter is left for the last time, `[letters]`: a tree towards the end."""
    letters = len(counts)
    maps = np.array(list(itertools.product(range(letters), repeat=letters)))
    # The end, and letters that are not there, lead to the end and have nothing to choose.
    none = (counts.sum(axis=1) == 0) | (jnp.arange(letters) == end)
    weights = jnp.where(none[:, None], jnp.arange(letters)[None, :] == end, counts)
    reached = jnp.asarray(maps)
    for _ in range(letters.bit_length()):
        reached = jnp.take_along_axis(reached, reached, axis=1)
    whole = (reached == end).all(axis=1)
    ways = jnp.log(weights)[jnp.arange(letters)[None, :], maps].sum(axis=1)
    weight = jax.nn.softmax(jnp.where(whole, ways, -jnp.inf))
    # Sums of a prefix are rounded each in its own way: without this a map of weight 0 can be a little ahead of the one
    # before it, and is drawn once in some ten million times.
    up_to = lax.cummax(jnp.where(weight > 0, jnp.cumsum(weight), 0))
    place = jax.random.uniform(key) * up_to[-1]
    return jnp.asarray(maps)[jnp.searchsorted(up_to, place, side="right")]


@public
def dinucleotide_shuffle() -> DinucleotideShuffle:
    """The input's letters in another order, in which each pair of neighbours comes as often as before.

    Every sequence with the input's first letter and its number of each dinucleotide (and so its last letter and its
    number of each letter) is drawn with the same probability. As a baseline it says what a motif adds to a sequence
    that is otherwise of the same composition: `expected_gradients(f, dinucleotide_shuffle())`,
    `hypothetical_contributions(f)`. Rows of zeros (an unknown letter) are shuffled as a letter of their own.

    Returns:
        `b(key, x) -> baseline`, for one-hot `x` `[L, A]` of at most 5 letters, of x's shape and dtype; traceable.
        Cost: a sort of L numbers and L steps of a walk.

    Raises:
        ValueError: An `x` of another rank, of more than 5 letters, a concrete one that is not one-hot.
        TypeError: `x` has no floating-point values.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x = jax.nn.one_hot(jnp.array([0, 1, 0, 2, 0, 3]), 4)  # ACAGAT
        >>> shuffled = dinucleotide_shuffle()(jax.random.key(1), x).argmax(1).tolist()
        >>> shuffled in ([0, 1, 0, 2, 0, 3], [0, 2, 0, 1, 0, 3])
        True

    Source: Altschul and Erickson 1985, "Significance of nucleotide sequence alignments: a method for random sequence
    permutation that preserves dinucleotide and codon usage", whose tree is drawn by rejection; here by its weight.
    """
    return DinucleotideShuffle()
