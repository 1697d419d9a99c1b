"""Saturation mutagenesis: what every single mutation does to the score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxplain import check
from jaxplain.explain.genomics.onehot import known_batch, one_hot
from jaxplain.program import Function, as_function, map_range, public, setting, wide_dtype
from jaxplain.types import Array


class SaturationMutagenesis(Function):
    """The change of a score by each single mutation. Made by `saturation_mutagenesis`."""

    score: Any
    batch_size: int | None = setting(default=None, points=True)

    def check_call(self, x: Any, *_: Any) -> None:
        """Raise for a concrete batch with letters that are not one-hot (used by drivers)."""
        known_batch(x, "saturation_mutagenesis")

    def __call__(self, x: Any, *args: Any) -> Array:
        """Explain one sequence `[L, A]`."""
        name = "saturation_mutagenesis"
        one_hot(x, name)
        x = jnp.asarray(x)
        length, letters = x.shape

        def scored(sequence: Array) -> Array:
            value = jnp.asarray(check.scalar(self.score(sequence, *args), name))
            return value.astype(wide_dtype(value.dtype))

        def mutated(number: Array) -> Array:
            place, letter = jnp.divmod(number, letters)
            return scored(x.at[place].set(jnp.zeros(letters, x.dtype).at[letter].set(1)))

        scores = map_range(mutated, length * letters, self.batch_size).reshape(x.shape)
        whole = scored(x)
        check.finite_scores(jnp.append(scores, whole), name)
        # The letter that is there changes nothing, also where a batch of scores is rounded otherwise than one.
        return jnp.where(x == 1, 0, scores - whole).astype(x.dtype)


@public
def saturation_mutagenesis(f: Callable[..., Any], *, batch_size: int | None = None) -> SaturationMutagenesis:
    """Measure what each single mutation changes: a_ij = f(x with letter j at position i) - f(x).

    Also called in-silico mutagenesis. A position matters where its other letters change the score: with
    `a - a.mean(1, keepdims=True)` the columns are comparable with `hypothetical_contributions`, and their product with
    `x` is the importance of the letters that are there.

    Args:
        f: A score, `f(x, *args) -> scalar`, of one-hot `x` `[L, A]`.
        batch_size: How many mutations are scored at once, as in `occlusion`.

    Returns:
        `e(x, *args) -> attribution` `[L, A]`, in units of the score; 0 at the letters that are there. Cost: L A + 1
        forward passes.

    Raises:
        ValueError: An `x` of another rank, a concrete one that is not one-hot, scores that are not finite.
        TypeError: `x` has no floating-point values.

    Example:
        >>> import jax.numpy as jnp
        >>> e = saturation_mutagenesis(lambda x: (x @ jnp.array([1.0, 5.0])).sum())
        >>> e(jnp.array([[1.0, 0.0], [0.0, 1.0]])).tolist()
        [[0.0, 4.0], [-4.0, 0.0]]

    Source: Zhou and Troyanskaya 2015, "Predicting effects of noncoding variants with deep learning-based sequence
    model", Online Methods ("in silico saturated mutagenesis").
    """
    score = as_function(check.callable_score(f, "saturation_mutagenesis"))
    return SaturationMutagenesis(score, check.at_once(batch_size, "saturation_mutagenesis"))
