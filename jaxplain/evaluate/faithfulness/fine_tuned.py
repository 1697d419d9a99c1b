"""Faithfulness on a model that has seen masked inputs: F-Fidelity, and the random removal it is fine-tuned with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.evaluate.removal import Faithful, Task, of_largest, part_of_one, ranked, settings, share_of
from jaxplain.program import chunked_sum, public, setting
from jaxplain.types import Array, Pytree


class FineTunedFidelity(Faithful):
    """The mean drop as random features of a part of the input are removed. Made by `f_fidelity`."""

    order: str = setting(default="morf")
    fraction: float = setting(default=0.1)
    share: float = setting(default=0.5)
    limit: float = setting(default=0.1)
    samples: int = setting(default=50)

    @property
    def draws(self) -> bool:
        """Always: which features of the part are removed is drawn."""
        return True

    @property
    def better(self) -> str:
        """Which values are better: what is explained has to matter, the rest must not."""
        return "higher" if self.order == "morf" else "lower"

    def __call__(self, *inputs: Any) -> Array:
        """Judge one attribution: `m(key, x, attribution, *args)`."""
        task = Task(self, inputs)
        total = task.known_total("pass concrete groups")
        size = share_of(self.fraction, total)
        if size == total:
            raise ValueError(
                f"{self.name}: with `fraction` {self.fraction} all {total} features are the explanation, and no rest "
                "is left; pass a smaller one."
            )
        explained = ranked(task.relevance) < size
        part, members = (explained, size) if self.order == "morf" else (~explained & task.valid, total - size)
        count = min(share_of(self.share, members), share_of(self.limit, total))
        whole = task.score(task.x)

        def drop(sample: Array) -> Array:
            draw = jax.random.bits(jax.random.fold_in(task.key, sample), part.shape, jnp.uint32) >> 1
            return whole - task.without(of_largest(jnp.where(part, draw.astype(jnp.int32), -1), count))

        sum_of_drops = chunked_sum(drop, jnp.arange(self.samples), self.batch_size)
        return task.known(sum_of_drops / self.samples)


class RandomRemoval(Faithful):
    """An example with a random share of its features removed: `r(key, x) -> x`. Made by `random_removal`."""

    takes: ClassVar[tuple[str, ...]] = ("x",)
    limit: float = setting(default=0.1)

    @property
    def draws(self) -> bool:
        """Always: how many features are removed, and which, is drawn."""
        return True

    @property
    def better(self) -> None:
        """Nothing is judged."""
        return None

    def __call__(self, key: Array, x: Pytree) -> Pytree:
        """Remove from one example: `r(key, x)`."""
        task = Task(self, (key, x, jax.tree.map(jnp.zeros_like, x)))
        most = share_of(self.limit, task.known_total("pass concrete groups"))
        count = jax.random.randint(jax.random.fold_in(task.key, 0), (), 0, most + 1)
        draw = jax.random.bits(jax.random.fold_in(task.key, 1), (task.parts.slots,), jnp.uint32) >> 1
        # None of them for a count of 0, where `of_largest` would take whatever is largest.
        chosen = of_largest(jnp.where(task.valid, draw.astype(jnp.int32), -1), count) & (count > 0)
        return task.replaced(task.values(chosen))


def _nothing(x: Pytree) -> Array:
    """The score of what is only removed from."""
    return jnp.zeros(())


@public
def f_fidelity(
    f: Callable[..., Any],
    *,
    order: str = "morf",
    fraction: float = 0.1,
    share: float = 0.5,
    limit: float = 0.1,
    samples: int = 50,
    baseline: Any = 0.0,
    batch_size: int | None = None,
    groups: Any = None,
) -> FineTunedFidelity:
    """The mean drop of a fine-tuned model's score as random features of the explanation (or the rest) are removed.

    FFid = E_R[f(x) - f(x without R)]. The explanation are the `fraction` of the features with the highest attribution;
    R is drawn without replacement from it (`order='morf'`, FFid+, higher is better) or from all the others ('lerf',
    FFid-, lower is better): `share` of that part, but never more than `limit` of all features. The model has to be
    fine-tuned on inputs of which up to `limit` of the features were removed at random (`random_removal`): then what it
    is asked here looks like what it has seen, and since the masks of fine-tuning know no explanation, no information
    leaks from one into the model, as it does in `remove_and_retrain`. For an additive score FFid is the mean
    contribution of the part's features times the size of R.

    Args:
        f: The score of the fine-tuned model, such as `jaxplain.probability(apply, tuned.params)`. The source takes the
            accuracy too: a score that is 1 where the model predicts the target.
        order: 'morf' removes from the explanation, 'lerf' from the rest.
        fraction: Which share of the features is the explanation, above 0 and below 1.
        share: How much of the part is removed, above 0 and at most 1.
        limit: How much of all features is removed at most, above 0 and at most 1: what the model was fine-tuned with.
        samples: How many draws of R.
        baseline: As in `deletion`; the one of fine-tuning.
        batch_size: As in `faithfulness_correlation`.
        groups: As in `deletion`; not traced.

    Returns:
        `m(key, x, attribution, *args) -> drop`, one number in units of the score; NaN where the attribution holds NaN.
        Counts are rounded down, to at least one feature. Cost: `samples` + 1 forward passes.

    Raises:
        ValueError: Shares out of range, an explanation of all features, an unknown order, and as in `deletion`.
        TypeError: A call without key, and as in `deletion`.

    Example:
        >>> x = jnp.array([4.0, 2.0, 0.5, 0.5])
        >>> m = f_fidelity(lambda x: x.sum(), fraction=0.5, share=1.0, limit=0.5, samples=2)
        >>> float(m(jax.random.key(0), x, x)), float(m(jax.random.key(0), x, -x))
        (6.0, 1.0)

    Source: Zheng et al. 2025, "F-Fidelity: a robust framework for faithfulness evaluation of explainable AI" (FFid+ and
    FFid-); how counts are rounded is ours.
    """
    name = "f_fidelity"
    fraction = part_of_one(fraction, name, "fraction")
    if fraction == 1:
        raise ValueError(f"{name}: `fraction` is 1, so that no rest is left; pass less.")
    return FineTunedFidelity(
        **settings(name, f, baseline, groups, batch_size),
        order=check.choice(order, ("morf", "lerf"), name, "order"),
        fraction=fraction,
        share=part_of_one(share, name, "share"),
        limit=part_of_one(limit, name, "limit"),
        samples=check.count(samples, name, "samples"),
    )


@public
def random_removal(*, limit: float = 0.1, baseline: Any = 0.0, groups: Any = None) -> RandomRemoval:
    """Remove a random share of an example's features: what a model is fine-tuned with for `f_fidelity`.

    How many features is drawn uniformly from 0 to `limit` of them, then which ones.

    Args:
        limit: The largest share, above 0 and at most 1.
        baseline: As in `deletion`.
        groups: As in `deletion`; not traced.

    Returns:
        `r(key, x) -> x` of one example; `jax.vmap(r)(keys, batch)` of a batch, such as in the function of a key that
        makes the batches of `train.fit`. Cost: no model pass.

    Raises:
        ValueError, TypeError: A share out of range, and as in `deletion`.

    Example:
        >>> x = jnp.ones(8)
        >>> removed = random_removal(limit=0.5)(jax.random.key(0), x)
        >>> 4.0 <= float(removed.sum()) <= 8.0
        True

    Source: Zheng et al. 2025, the random masks of fine-tuning; that their size varies up to the limit is ours, since
    `f_fidelity` asks for smaller removals and the whole input too.
    """
    name = "random_removal"
    return RandomRemoval(**settings(name, _nothing, baseline, groups, None), limit=part_of_one(limit, name, "limit"))
