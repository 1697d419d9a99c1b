"""Faithfulness by soft erasure: values kept or removed at random, as likely as the attribution says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.evaluate.removal import Faithful, Task, parts_of_one, settings
from jaxplain.program import chunked_map, public, setting
from jaxplain.types import Array

FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)


class SoftErasure(Faithful):
    """What random removal, as likely as the attribution says, does to the score. Made by the functions below."""

    fractions: tuple[float, ...] = setting(default=FRACTIONS)
    samples: int = setting(default=20)
    keeps: bool = setting(default=True)

    @property
    def draws(self) -> bool:
        """Always: which values are removed is drawn."""
        return True

    @property
    def better(self) -> str:
        """Which values are better."""
        return "higher"

    def __call__(self, *inputs: Any) -> Array:
        """Judge one attribution: `m(key, x, attribution, *args)`."""
        task = Task(self, inputs)
        whole = task.score(task.x)
        nothing = task.without(jnp.ones(task.parts.slots, bool))
        lost = jnp.maximum(whole - nothing, 0.0)
        likely = jnp.stack([probabilities(task, fraction) for fraction in self.fractions])

        def drop(item: tuple[Array, Array]) -> Array:
            row, sample = item
            key = jax.random.fold_in(jax.random.fold_in(task.key, row), sample)
            chosen: list[Any] = []
            for leaf, chance in enumerate(task.values(likely[row])):
                if chance is None:
                    chosen.append(None)
                    continue
                drawn = jax.random.uniform(jax.random.fold_in(key, leaf), chance.shape) < chance
                chosen.append(~drawn if self.keeps else drawn)
            return jnp.maximum(whole - task.score(task.replaced(chosen)), 0.0)

        rows = jnp.repeat(jnp.arange(len(self.fractions)), self.samples)
        samples = jnp.tile(jnp.arange(self.samples), len(self.fractions))
        mean = jnp.mean(chunked_map(drop, (rows, samples), self.batch_size))
        share = jnp.where(lost > 0, mean / jnp.where(lost > 0, lost, 1.0), jnp.nan)
        share = jnp.where(jnp.isnan(likely).any(), jnp.nan, share)
        return task.known(1 - share if self.keeps else share)


def probabilities(task: Task, fraction: float) -> Array:
    """`[slots]`, an affine function of the attribution in [0, 1] whose mean over the values is the fraction.

    q_i = fraction + c (r_i - mean r) with the largest c that leaves all of them in [0, 1]; c = 0 for equal ones, NaN
    where the mean is not finite.
    """
    sizes = jnp.where(task.valid, task.sizes(), 0.0)
    relevance = jnp.where(task.valid, task.relevance, 0.0)
    mean = jnp.sum(sizes * relevance) / jnp.sum(sizes)
    above = jnp.max(jnp.where(task.valid, relevance - mean, -jnp.inf))
    below = jnp.max(jnp.where(task.valid, mean - relevance, -jnp.inf))
    # The widest spread is found of what is divided by the widest deviation, so that the attribution's scale is out.
    unit = jnp.maximum(above, below)
    varies = (above > 0) & (below > 0)
    spread = jnp.where(varies, (relevance - mean) / jnp.where(varies, unit, 1.0), 0.0)
    top = jnp.where(varies, above / jnp.where(varies, unit, 1.0), 1.0)
    bottom = jnp.where(varies, below / jnp.where(varies, unit, 1.0), 1.0)
    widest = jnp.minimum((1 - fraction) / top, fraction / bottom)
    return jnp.where(jnp.isfinite(mean), jnp.clip(fraction + widest * spread, 0.0, 1.0), jnp.nan)


def _soft(
    name: str, f: Any, fractions: Any, samples: Any, baseline: Any, batch_size: Any, groups: Any, keeps: bool
) -> SoftErasure:
    return SoftErasure(
        **settings(name, f, baseline, groups, batch_size),
        fractions=parts_of_one(fractions, name, "fractions", whole=False),
        samples=check.count(samples, name, "samples"),
        keeps=keeps,
    )


@public
def soft_sufficiency(
    f: Callable[..., Any],
    *,
    fractions: Sequence[float] = FRACTIONS,
    samples: int = 20,
    baseline: Any = 0.0,
    batch_size: int | None = None,
    groups: Any = None,
) -> SoftErasure:
    """How much of the score is left where values are kept as likely as they are relevant; higher is better.

    NS = 1 - E[max(0, f(x) - f(x'))] / (f(x) - f(b)), where every value of x' is kept with its feature's probability q
    and replaced by the baseline b otherwise. In the source q is the attribution as it is, so that a method whose
    numbers are larger keeps more and gains by it. Here q_i = p + c (r_i - mean r), with the largest c that leaves all
    of them in [0, 1]: whatever the size of the attributions r, the expected share of the values kept is p, and the
    mean over the p of `fractions` is returned. Equal attributions keep everything equally likely. For an additive score
    with contributions s >= 0, E NS = sum_i q_i s_i / sum_i s_i.

    Args:
        f: As in `deletion`; the source's is the probability of the predicted class.
        fractions: p, expected shares of the values kept, each between 0 and 1.
        samples: How many draws for each of them.
        baseline: As in `deletion`; the source's is 0, at the embeddings of text.
        batch_size: How many draws are scored at once, as in `faithfulness_correlation`.
        groups: As in `deletion`: values of one group share their probability, and are drawn each by itself.

    Returns:
        `m(key, x, attribution, *args) -> NS`, one number without unit, at most 1; NaN where f(x) <= f(b) or the
        attribution holds NaN or infinity. Cost: `samples` forward passes for each fraction, and two.

    Raises:
        ValueError, TypeError: Fractions outside (0, 1), a call without key, and as in `deletion`.

    Example:
        >>> x = jnp.array([1.0, 0.0])
        >>> m = soft_sufficiency(lambda x: x.sum(), fractions=(0.5,), samples=3)
        >>> float(m(jax.random.key(0), x, x)), float(m(jax.random.key(0), x, -x))
        (1.0, 0.0)

    Source: Zhao and Aletras 2023, "Incorporating attribution importance for improving faithfulness metrics" (Soft-NS);
    one expected retention for all methods after Huang and Chan 2026, "Faithfulness evaluation for decoder-only LLM
    attributions with controlled retained information"; the affine map to it is ours.
    """
    return _soft("soft_sufficiency", f, fractions, samples, baseline, batch_size, groups, True)


@public
def soft_comprehensiveness(
    f: Callable[..., Any],
    *,
    fractions: Sequence[float] = FRACTIONS,
    samples: int = 20,
    baseline: Any = 0.0,
    batch_size: int | None = None,
    groups: Any = None,
) -> SoftErasure:
    """How much of the score is lost where values are removed as likely as they are relevant; higher is better.

    NC = E[max(0, f(x) - f(x'))] / (f(x) - f(b)), where every value of x' is replaced by the baseline b with its
    feature's probability q, as in `soft_sufficiency`: the expected share of the values removed is p, whatever the size
    of the attributions. For an additive score with contributions s >= 0, E NC = sum_i q_i s_i / sum_i s_i.

    Args:
        f: As in `soft_sufficiency`.
        fractions: p, expected shares of the values removed, each between 0 and 1.
        samples: As in `soft_sufficiency`.
        baseline: As in `soft_sufficiency`.
        batch_size: As in `soft_sufficiency`.
        groups: As in `soft_sufficiency`.

    Returns:
        `m(key, x, attribution, *args) -> NC`, one number without unit, at least 0; NaN and cost as in
        `soft_sufficiency`.

    Raises:
        ValueError, TypeError: As in `soft_sufficiency`.

    Example:
        >>> x = jnp.array([1.0, 0.0])
        >>> m = soft_comprehensiveness(lambda x: x.sum(), fractions=(0.5,), samples=3)
        >>> float(m(jax.random.key(0), x, x)), float(m(jax.random.key(0), x, -x))
        (1.0, 0.0)

    Source: Zhao and Aletras 2023 (Soft-NC) and Huang and Chan 2026, as in `soft_sufficiency`.
    """
    return _soft("soft_comprehensiveness", f, fractions, samples, baseline, batch_size, groups, False)
