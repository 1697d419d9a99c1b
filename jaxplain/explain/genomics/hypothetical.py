"""Hypothetical contributions: what each letter would add at each position, from the multipliers of the one there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline import as_baseline, is_background, resolve
from jaxplain.explain.backward import DeepLift
from jaxplain.explain.genomics.onehot import known_batch, one_hot
from jaxplain.explain.genomics.shuffle import DinucleotideShuffle
from jaxplain.program import (
    Function,
    as_function,
    chunked_sum,
    like,
    needs_key,
    public,
    quadrature,
    setting,
    value_and_gradient,
    widen,
)
from jaxplain.types import Array

METHODS = ("deep_lift", "integrated_gradients")
NAME = "hypothetical_contributions"


class HypotheticalContributions(Function):
    """Contributions of all letters. Made by `hypothetical_contributions`."""

    score: Any
    baseline: Any
    method: str = setting(default="deep_lift")
    samples: int = setting(default=20)
    steps: int = setting(default=32)
    batch_size: int | None = setting(default=None, points=True)

    @property
    def needs_key(self) -> bool:
        """Whether references are drawn."""
        return needs_key(self.baseline)

    def check_call(self, x: Any, *_: Any) -> None:
        """Raise for a concrete batch with letters that are not one-hot (used by drivers)."""
        known_batch(x, NAME)

    def __call__(self, *inputs: Any) -> Array:
        """Explain one sequence: `e(key, x, *args)`, or `e(x, *args)` where no reference is drawn."""
        key, x, args = check.divided(inputs, NAME, self.needs_key)
        one_hot(x, NAME)
        x = jnp.asarray(x)
        multipliers = self._multipliers(x, args)

        def term(reference: Array) -> Array:
            m, reference = multipliers(reference), widen(reference)
            return m - jnp.sum(m * reference, axis=-1, keepdims=True)

        if is_background(self.baseline, x):
            check.finite(self.baseline, NAME, "baseline")
            count = check.batch_length(self.baseline, NAME, "baseline")
            rows = jnp.asarray(self.baseline)
            total = chunked_sum(lambda row: term(resolve(row, x, name=NAME)), rows, self.batch_size)
            return self._defined(like(total / count, x), x, args)
        if not self.needs_key:
            return self._defined(like(term(resolve(self.baseline, x, name=NAME)), x), x, args)

        def drawn(index: Array) -> Array:
            return term(resolve(self.baseline, x, jax.random.fold_in(key, index), name=NAME))

        total = chunked_sum(drawn, jnp.arange(self.samples), self.batch_size)
        return self._defined(like(total / self.samples, x), x, args)

    def _defined(self, found: Array, x: Array, args: tuple[Any, ...]) -> Array:
        """The contributions; refused where they are concrete and not finite since the score of x is not."""
        if check.is_concrete(found) and not jnp.isfinite(found).all():
            check.finite_score(self.score, x, args, NAME)
        return found

    def _multipliers(self, x: Array, args: tuple[Any, ...]) -> Callable[[Array], Array]:
        """From a reference to the change of the score by each unit of each value between it and x."""
        if self.method == "deep_lift":
            e = DeepLift(self.score, NAME)
            opened = e.open(x, args)
            rules = e.rules(opened)
            return lambda reference: e.multipliers(opened, rules, reference)[0]
        nodes, weights = (jnp.asarray(part, widen(x).dtype) for part in quadrature("gauss_legendre", self.steps))

        def mean_gradient(reference: Array) -> Array:
            def term(part: tuple[Array, Array]) -> Array:
                point = reference + part[0] * (x - reference)
                return part[1] * widen(value_and_gradient(self.score, point.astype(x.dtype), *args, name=NAME)[1])

            return chunked_sum(term, (nodes, weights), self.batch_size)

        return mean_gradient


@public
def hypothetical_contributions(
    f: Callable[..., Any],
    *,
    baseline: Any = None,
    method: str = "deep_lift",
    samples: int = 20,
    steps: int = 32,
    batch_size: int | None = None,
) -> HypotheticalContributions:
    """What each letter would contribute at each position: h_ij = m_ij - sum_k m_ik b_ik, averaged over references b.

    m are the multipliers of DeepLIFT (or the mean gradients on the path from b to x): a letter's difference from the
    reference is weighed as that of the letter that is there. So `x * h` are the contributions of the letters that are
    there, of which the sum is f(x) - f(b), averaged over the references, as far as the method is complete and every
    letter is known (at a row of zeros `x * h` is 0); the other columns show which motif the model looks for (TF-MoDISco
    clusters them).

    Args:
        f: A score, `f(x, *args) -> scalar`, of one-hot `x` `[L, A]`; a logit.
        baseline: None draws `dinucleotide_shuffle()` of each sequence; or references `[N, L, A]`, all of which are
            used, or one as in `deep_lift` (0.25 for four letters alike, 0.0 for none).
        method: Where multipliers come from: "deep_lift" (the rescale rule), or "integrated_gradients".
        samples: How many references are drawn.
        steps: Gradients on a path of integrated gradients.
        batch_size: How many references (on a path: gradients) are run at once, as in `deep_shap`.

    Returns:
        `e(key, x, *args) -> attribution` `[L, A]`, in units of the score; `e(x, *args)` where no reference is drawn.
        Cost: two forward passes and one backward pass for each reference, or `steps` gradients.

    Raises:
        ValueError: An `x` of another rank, a concrete one that is not one-hot, an unknown `method`, counts below 1, no
            references or NaN in them, a score of x that is not finite, and what `deep_lift` refuses.
        TypeError: `x` has no floating-point values.

    Example:
        >>> import jax.numpy as jnp
        >>> e = hypothetical_contributions(lambda x: (x @ jnp.array([1.0, 5.0])).sum(), baseline=0.5)
        >>> e(jnp.array([[1.0, 0.0], [0.0, 1.0]])).tolist()
        [[-2.0, 2.0], [-2.0, 2.0]]

    Source: Shrikumar et al. 2018, "Technical note on transcription factor motif discovery from importance scores
    (TF-MoDISco)", section 2 (hypothetical contributions).
    """
    check.choice(method, METHODS, NAME, "method")
    samples, steps = check.count(samples, NAME, "samples"), check.count(steps, NAME, "steps")
    score = as_function(check.callable_score(f, NAME))
    given = DinucleotideShuffle() if baseline is None else as_baseline(baseline)
    batch_size = check.at_once(batch_size, NAME)
    return HypotheticalContributions(score, given, method, samples, steps, batch_size)
