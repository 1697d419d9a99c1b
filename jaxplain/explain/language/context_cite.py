"""ContextCite: which parts of a context a generated text rests on, by a sparse linear model of its log-odds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.explain.shapley import Coalitional, checked, lasso, least_squares
from jaxplain.program import public, setting, shown
from jaxplain.types import Array, Pytree

NAME = "context_cite"


@shown
class Citation(NamedTuple):
    """What a text rests on, and how far that can be believed. Made by `context_cite`.

    attribution: of x's structure, each part's weight divided evenly over its tokens; weights: of the parts `[n]`, zero
    for those that do not matter, shrunk by the penalty; refitted: least squares on the parts whose weight is not zero
    `[n]`; intercept: the model's value without any part; linearity: Spearman's correlation of what the model predicts
    for ablations that it has not seen with what they do (1: the order is right; NaN where either does not vary).
    """

    attribution: Pytree
    weights: Array
    refitted: Array
    intercept: Array
    linearity: Array


class ContextCite(Coalitional):
    """ContextCite. Made by `context_cite`."""

    penalty: Any = 0.01
    samples: int = setting(default=64)
    unseen: int = setting(default=32)
    odds: bool = setting(default=True)

    @property
    def needs_key(self) -> bool:
        """Always: ablations are drawn from the key."""
        return True

    def __call__(self, *inputs: Any) -> Citation:
        """Explain one example: `e(key, x, *args)`."""
        key, x, args = check.divided(inputs, self.name, True)
        game = self.game(x, args, jax.random.fold_in(key, 1))
        draw = jax.random.fold_in(key, 0)
        total = self.samples + self.unseen
        values = game.values(lambda index: game.spread(self.kept(draw, index, game.n)), total)
        masks = jax.vmap(lambda index: self.kept(draw, index, game.n))(jnp.arange(total)).astype(values.dtype)
        if game.present() is not None:
            masks = masks * game.present()
        outcomes = game.finite(self.outcomes(values))
        seen, rest = slice(None, self.samples), slice(self.samples, None)
        mean, level = masks[seen].mean(axis=0), outcomes[seen].mean()
        centred = masks[seen] - mean[None]
        products, moments = centred.T @ centred / self.samples, centred.T @ (outcomes[seen] - level) / self.samples
        there = jnp.diag(products) > 0  # a part that was always kept, or never, has no weight
        weights = lasso(products, moments, jnp.asarray(self.penalty, values.dtype), there)
        support = weights != 0
        refitted = least_squares(products, moments, support)
        refitted = jnp.where(support.sum() < self.samples, refitted, jnp.nan)
        intercept = level - mean @ weights
        linearity = _spearman(masks[rest] @ weights + intercept, outcomes[rest])
        attribution = game.attribution(game.finite(weights))
        return Citation(attribution, weights, refitted, intercept, linearity)

    def kept(self, key: Array, index: Array, n: int) -> Array:
        """Which parts an ablation keeps, `[n]`: each with probability 1/2."""
        return jax.random.bernoulli(jax.random.fold_in(key, index), 0.5, (n,))

    def outcomes(self, values: Array) -> Array:
        """Scores as the model predicts them: the log-odds of log-probabilities."""
        if not self.odds:
            return values
        if check.is_concrete(values) and bool((values > 1e-6).any()):
            raise ValueError(
                f"{self.name}: the score is {float(values.max()):.3g} for an ablation, which is no log-probability. "
                "Pass `odds=False` for other scores, which are then modelled as they are."
            )
        log = jnp.minimum(values, -jnp.finfo(values.dtype).eps)
        return log - jnp.log(-jnp.expm1(log))


def _spearman(a: Array, b: Array) -> Array:
    """The correlation of ranks, ties sharing theirs; NaN where all are equal."""
    a, b = _ranks(a), _ranks(b)
    a, b = a - a.mean(), b - b.mean()
    return (a @ b) / jnp.sqrt((a @ a) * (b @ b))


def _ranks(values: Array) -> Array:
    below = jnp.sum(values[:, None] > values[None, :], axis=1)
    upto = jnp.sum(values[:, None] >= values[None, :], axis=1)
    return ((below + upto) / 2).astype(values.dtype)


@public
def context_cite(
    f: Callable[..., Any],
    *,
    groups: Any = None,
    max_groups: int | None = None,
    baseline: Any = 0,
    samples: int = 64,
    unseen: int = 32,
    penalty: float = 0.01,
    odds: bool = True,
    batch_size: int | None = None,
) -> ContextCite:
    """Which parts of a context a text rests on: the weights of a sparse linear model of its log-odds.

    w minimises sum_k (g(v_k) - b - w . v_k)^2 / (2 samples) + penalty sum_i |w_i|, where v_k in {0, 1}^n keeps each
    part with probability 1/2, the others are replaced by the baseline, and g is the log-odds log(p / (1 - p)) of the
    text's probability p, which is nearer to linear than p. What else is in the prompt (a question, a system prompt) is
    a part like the others; hold it by a `baseline` that has x's own ids there. A weight is by how much the part raises
    the log-odds. Whether the linear model holds is measured on ablations that it has not seen.

    Args:
        f: A log-probability, `f(x, *args) -> scalar`: `sequence_log_probability(apply, params)` of the prompt, called
            as `e(key, prompt, start, text)`.
        groups: The parts: integers from 0 without gaps for each token, as `segments` gives them; None for tokens.
        max_groups: As in `jaxplain.shapley_values`, where `groups` is traced.
        baseline: What ablated tokens become: an id, ids, or a function, as in `jaxplain.shapley_values`.
        samples: How many ablations the model is fitted to.
        unseen: How many further ones its linearity is measured on.
        penalty: In units of the log-odds. Of independent parts, one whose weight is below four times as much gets zero.
        odds: Whether `f` is a log-probability whose log-odds are modelled; False models `f` as it is.
        batch_size: How many ablations are scored at once, as in `jaxplain.shapley_values`.

    Returns:
        `e(key, x, *args) -> Citation(attribution, weights, refitted, intercept, linearity)`. Cost: `samples` +
        `unseen` forward passes, however long the text is.

    Raises:
        ValueError: `unseen` below 2, a negative penalty, a score above 0 where `odds` is True; otherwise as
            `jaxplain.shapley_values`, but for any number of parts.
        TypeError: As `jaxplain.shapley_values`.

    Example:
        >>> f = lambda x: jnp.log(jax.nn.sigmoid(3.0 * (x[0] == 5) - 1.0))  # rests on the first token alone
        >>> found = jax.jit(context_cite(f))(jax.random.key(0), jnp.array([5, 6, 7]))
        >>> [round(float(w), 2) for w in found.refitted], round(float(found.linearity), 2)
        ([3.0, 0.0, 0.0], 1.0)

    Source: Cohen-Wang et al. 2024, "ContextCite: attributing model generation to context", section 3; its mean square
    is not halved, and it divides the log-odds by the number of tokens.
    """
    samples, unseen = check.count(samples, NAME, "samples"), check.count(unseen, NAME, "unseen", least=2)
    check.one_number(penalty, NAME, "penalty", zero=True)
    fields = checked(NAME, f, baseline, groups, max_groups, batch_size)
    return ContextCite(*fields, penalty, samples, unseen, odds)
