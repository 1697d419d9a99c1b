"""ROAD: remove and debias, faithfulness where removed pixels are imputed from their neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.baseline import imputed
from jaxplain.evaluate.curve import Curve
from jaxplain.evaluate.removal import Faithful, Task, parts_of_one, ranked, settings, share_of
from jaxplain.program import Function, chunked_map, public, setting
from jaxplain.types import Array, Pytree


class ImputedBaseline(Function):
    """Fills removed pixels in from those that remain. Made by `imputed_baseline`."""

    sigma: Any

    @property
    def needs_key(self) -> bool:
        """Always: the noise is drawn."""
        return True

    @property
    def needs_mask(self) -> bool:
        """Always: what fills a pixel depends on which others are missing."""
        return True

    def __call__(self, key: Array, x: Pytree, missing: Pytree) -> Pytree:
        """Fill one example in: `b(key, x, missing)`."""
        leaves, structure = jax.tree.flatten(x)
        masks = jax.tree.leaves(missing)
        filled = [
            imputed(jax.random.fold_in(key, index), leaf, mask, self.sigma) if check.is_floating(leaf) else leaf
            for index, (leaf, mask) in enumerate(zip(leaves, masks, strict=True))
        ]
        return jax.tree.unflatten(structure, filled)


@public
def imputed_baseline(*, sigma: float = 0.01) -> ImputedBaseline:
    """The baseline that fills removed pixels in from those that remain, for every metric that removes features.

    `deletion(f, baseline=imputed_baseline())`: at each step the pixels removed so far are imputed from the
    others by noisy linear imputation (all of them missing: zeros and noise).

    Args:
        sigma: Standard deviation of the noise, in units of the input; the source uses 0.01 for images in [0, 1].

    Returns:
        `b(key, x, missing) -> baseline` for images `[H, W]` and `[H, W, C]`; metrics that take it are called with a key
        first. Methods cannot use it: they do not say what is missing. Cost: about 20 to 60 stencils for each step.

    Raises:
        ValueError: `sigma` not one number from 0 up.

    Example:
        >>> b = imputed_baseline(sigma=0.0)
        >>> b(jax.random.key(0), jnp.array([[0.0, 9.0, 1.0]]), jnp.array([[False, True, False]])).tolist()
        [[0.0, 0.5, 1.0]]

    Source: Rong et al. 2022, "A consistent and efficient evaluation strategy for attribution methods", section 5.1.
    """
    return ImputedBaseline(check.one_number(sigma, "imputed_baseline", "sigma", zero=True))


class Road(Faithful):
    """The score after shares of the features were removed. Made by `road` and `road_curve`."""

    fractions: tuple[float, ...] = setting(default=())
    order: str = setting(default="morf")
    with_curve: bool = setting(default=False)

    @property
    def removes(self) -> bool:
        """Whether another baseline is another way of removal."""
        return not getattr(self.baseline, "needs_mask", False)

    @property
    def better(self) -> str | None:
        """Which values are better."""
        return None if self.with_curve else "lower" if self.order == "morf" else "higher"

    def __call__(self, *inputs: Any) -> Any:
        """Judge one attribution: `m(key, x, attribution, *args)`; without key where nothing is drawn."""
        task = Task(self, inputs)
        total = task.known_total("pass concrete groups")
        counts = [share_of(fraction, total) for fraction in self.fractions]
        relevance = task.relevance if self.order == "morf" else -task.relevance
        ranks = task.values(ranked(relevance))

        def point(count: Array) -> Array:
            return task.score(task.replaced([None if r is None else r < count for r in ranks]))

        scores = task.known(chunked_map(point, jnp.asarray(counts, jnp.int32), self.batch_size))
        return (
            Curve(jnp.asarray(np.asarray(counts) / total, scores.dtype), scores) if self.with_curve else scores.mean()
        )


FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def _road(
    name: str,
    f: Any,
    fractions: Sequence[float],
    order: str,
    sigma: Any,
    baseline: Any,
    batch_size: int | None,
    groups: Any,
    with_curve: bool,
) -> Road:
    check.one_number(sigma, name, "sigma", zero=True)
    return Road(
        **settings(name, f, ImputedBaseline(sigma) if baseline is None else baseline, groups, batch_size),
        fractions=parts_of_one(fractions, name, "fractions"),
        order=check.choice(order, ("morf", "lerf"), name, "order"),
        with_curve=with_curve,
    )


@public
def road(
    f: Callable[..., Any],
    *,
    fractions: Sequence[float] = FRACTIONS,
    order: str = "morf",
    sigma: float = 0.01,
    baseline: Any = None,
    batch_size: int | None = None,
    groups: Any = None,
) -> Road:
    """The mean score after shares of the pixels were removed and imputed from their neighbours.

    mean_q f(x_q), where the floor(q n) (at least 1) most relevant pixels ('morf', lower is better) or least relevant
    ones ('lerf', higher is better) of x are replaced by noisy linear imputation, which hides from the model where
    pixels are missing; so the two orders rank methods more nearly alike than with a fixed value. All examples are
    scored.

    Args:
        f: As in `deletion`. The source plots the accuracy: the mean over a data set of a score that is 1 where the
        model
            predicts the target, such as `lambda x, k: 1.0 * (margin(x, k) > 0)`.
        fractions: q, the shares that are removed, each above 0 and at most 1.
        order: 'morf' or 'lerf'.
        sigma: Standard deviation of the imputation's noise, in units of the input.
        baseline: Another baseline in the imputation's place, as in `deletion`; None imputes.
        batch_size: How many shares are scored at once. None takes what fills the device in `evaluate_batch`, and 1
            elsewhere.
        groups: As in `deletion`; not traced.

    Returns:
        `m(key, x, attribution, *args) -> score`, one number in units of the score, for images `[H, W]` or `[H, W, C]`;
        NaN where the attribution holds NaN. Cost: a forward pass and an imputation for each fraction.

    Raises:
        ValueError, TypeError: As in `deletion`; no fractions or such outside (0, 1], an unknown order, anything but
            images (unless a baseline is given), a call without key.

    Example:
        >>> x = jnp.arange(16.0).reshape(4, 4)
        >>> m = road(lambda x: x[3, 3], fractions=(0.1,), sigma=0.0)
        >>> float(m(jax.random.key(0), x, x)) < 14.0
        True

    Source: Rong et al. 2022, "A consistent and efficient evaluation strategy for attribution methods", section 5.
    """
    return _road("road", f, fractions, order, sigma, baseline, batch_size, groups, False)


@public
def road_curve(
    f: Callable[..., Any],
    *,
    fractions: Sequence[float] = FRACTIONS,
    order: str = "morf",
    sigma: float = 0.01,
    baseline: Any = None,
    batch_size: int | None = None,
    groups: Any = None,
) -> Road:
    """The scores of which `road` is the mean, by share removed.

    Args:
        f: As in `road`.
        fractions: As in `road`.
        order: As in `road`.
        sigma: As in `road`.
        baseline: As in `road`.
        batch_size: As in `road`.
        groups: As in `road`.

    Returns:
        `m(key, x, attribution, *args) -> Curve(fraction, score)`, both `[fractions]`, the shares as whole features
        allow. Cost: as `road`.

    Raises:
        ValueError, TypeError: As in `road`.

    Example:
        >>> x = jnp.ones((2, 2))
        >>> road_curve(jnp.sum, fractions=(0.5, 1.0), sigma=0.0)(jax.random.key(0), x, x).score.tolist()
        [4.0, 0.0]

    Source: Rong et al. 2022, section 5.
    """
    return _road("road_curve", f, fractions, order, sigma, baseline, batch_size, groups, True)
