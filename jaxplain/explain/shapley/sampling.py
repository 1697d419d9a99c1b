"""Shapley values by random orders of the features, drawn in pairs of an order and its reverse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.explain.shapley.coalition import Coalitional, Game, checked, random_ranks
from jaxplain.program import Moments, fold_range, masked, merge_moments, public, setting, shown, side_by_side
from jaxplain.types import Array, Pytree

ROUNDING = 8
"""Units in the last place of the largest score, by which intervals are wider: no estimate is nearer than its scores."""


@shown
class ShapleyEstimate(NamedTuple):
    """Sampled Shapley values and what is known of their error, each of x's structure and in units of the score.

    attribution: the estimate; standard_error: of the estimate, from the spread of the means of pairs; low, high: the
    interval that holds the exact value with the asked-for confidence, t standard errors to each side (Student's t with
    pairs - 1 degrees of freedom) of the estimate, or of a point beside it where the pairs' means are skewed.
    """

    attribution: Pytree
    standard_error: Pytree
    low: Pytree
    high: Pytree


class ShapleySampling(Coalitional):
    """Sampled Shapley values. Made by `shapley_sampling` and `shapley_sampling_with_error`."""

    confidence: Any = None
    samples: int = setting(default=64)

    @property
    def needs_key(self) -> bool:
        """Always: orders are drawn from the key."""
        return True

    def __call__(self, *inputs: Any) -> Any:
        """Explain one example, `e(key, x, *args)`: an attribution, or a `ShapleyEstimate`."""
        key, x, args = check.divided(inputs, self.name, True)
        game = self.game(x, args, jax.random.fold_in(key, 1))
        draw = jax.random.fold_in(key, 0)
        moments = pair_moments(game, lambda key: random_ranks(key, game.n, game.present()), draw, self.samples)
        if self.confidence is None:
            return game.finite(game.attribution(moments.mean))
        return game.finite(_estimate(game, moments, self.confidence))


class PairMoments(NamedTuple):
    """Moments over the means of pairs of orders, for each feature `[n]`.

    terms: how many pairs; mean; square, cube: sums of squared and of cubed deviations from the mean; largest: the
    largest score seen, without its sign.
    """

    terms: Array
    mean: Array
    square: Array
    cube: Array
    largest: Array


def pair_moments(game: Game, ranks: Callable[[Array], Array], key: Array, samples: int) -> PairMoments:
    """Moments of the means of pairs of orders: what a feature adds in an order and in its reverse, `[n]`.

    Args:
        game: The game of one example.
        ranks: From a key to the rank of each feature in a random order, `[n]`.
        key: Pair p draws from `fold_in(key, p)`.
        samples: How many orders, rounded up to whole pairs.

    Returns:
        The moments over pairs. Cost: 2 (n - 1) coalitions a pair, and the input and the empty coalition once.
    """
    ends = (game.none_present(), game.all_present())
    zeros = jnp.zeros(game.n, ends[1].dtype)
    start = PairMoments(jnp.zeros(()), zeros, zeros, zeros, jnp.maximum(jnp.abs(ends[0]), jnp.abs(ends[1])))

    def fold(moments: PairMoments, index: Array, mask: Array) -> PairMoments:
        draws, largest = side_by_side(lambda pair: _pair(game, ranks(jax.random.fold_in(key, pair)), ends), index)
        return _merged(moments, draws, mask)._replace(largest=jnp.maximum(moments.largest, largest.max()))

    at_once = max(1, game.at_once // max(1, 2 * (game.n - 1)))
    return fold_range(fold, start, -(-samples // 2), at_once)


def _merged(moments: PairMoments, draws: Array, mask: Array) -> PairMoments:
    """Moments with a chunk of pairs taken in: Chan's update, and for the cubes Pebay's (2008, equation 2.1)."""
    zeros = jnp.zeros_like(moments.mean)
    new = merge_moments(Moments(jnp.zeros(()), zeros, zeros), draws, mask)
    old = Moments(moments.terms, moments.mean, moments.square)
    total = merge_moments(old, draws, mask)
    share, delta = new.terms / total.terms, new.mean - old.mean
    cube = masked((draws - new.mean[None]) ** 3, mask).sum(axis=0)
    cube = cube + delta**3 * old.terms * share * (1 - 2 * share)
    cube = cube + 3 * delta * ((1 - share) * new.square - share * old.square)
    return PairMoments(*total, moments.cube + cube, moments.largest)


def _pair(game: Game, rank: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
    """The mean of what each feature adds in an order and in its reverse, `[n]`, and the largest score on the way."""
    n = game.n
    if n == 1:
        return (ends[1] - ends[0])[None], jnp.zeros_like(ends[0])
    ranks = game.spread(rank)

    def keep(index: Array) -> list[Any]:
        size, reverse = 1 + index % (n - 1), index >= n - 1

        def of(leaf: Any) -> Array:
            return jnp.where(reverse, leaf >= n - size, leaf < size)

        return [None if leaf is None else of(leaf) for leaf in ranks]

    inner = game.values(keep, 2 * (n - 1)).reshape(2, n - 1)
    first, last = (jnp.broadcast_to(end, (2, 1)) for end in ends)
    added = jnp.diff(jnp.concatenate([first, inner, last], axis=1), axis=1)
    return (added[0][rank] + added[1][n - 1 - rank]) / 2, jnp.abs(inner).max()


def _estimate(game: Game, moments: PairMoments, t: Array) -> ShapleyEstimate:
    pairs = moments.terms
    error = jnp.sqrt(moments.square / (pairs * (pairs - 1)))
    spread = moments.square / pairs
    skewness = jnp.where(spread > 0, moments.cube / pairs / jnp.where(spread > 0, spread, 1) ** 1.5, 0.0)
    # A long tail that few pairs reach pulls the mean and its error the same way, so that intervals end short of the
    # tail. Johnson's shift, (1 + 2 t^2) in place of (1 + t^2), evens out both sides and covers too much; of games whose
    # pairs were all enumerated, half of it covered closest to what was asked.
    centre = moments.mean + skewness * error * (1 + t**2) / (6 * jnp.sqrt(pairs))
    rounding = ROUNDING * jnp.finfo(error.dtype).eps * moments.largest
    half = t * error + rounding
    parts = (moments.mean, error, centre - half, centre + half)
    return ShapleyEstimate(*(game.attribution(part) for part in parts))


@public
def shapley_sampling(
    f: Callable[..., Any],
    *,
    baseline: Any = 0,
    samples: int = 64,
    groups: Any = None,
    max_groups: int | None = None,
    batch_size: int | None = None,
) -> ShapleySampling:
    """The Shapley value of every feature, estimated from random orders in which the features come in.

    phi_i = E over orders pi of v(those before i in pi, and i) - v(those before i). Orders are drawn in pairs, one and
    its reverse, which cancels every interaction of two features exactly and lowers the error of the others; pairs are
    independent. Every order adds up to f(x) - f(baseline), so the estimate does too, whatever `samples`. Values of
    features are divided evenly over their values, as in `shapley_values`.

    Args:
        f: As in `shapley_values`.
        baseline: As in `shapley_values`; one draw of a random baseline serves all orders.
        samples: How many orders, in pairs: an odd number is rounded up.
        groups: As in `shapley_values`.
        max_groups: As in `shapley_values`.
        batch_size: How many points (a coalition with one baseline) are scored at once; memory grows with it and not
            with `samples`. None takes what fills the device in `explain_batch` and `explain_dataset`, and 1 elsewhere.

    Returns:
        `e(key, x, *args) -> attribution` of x's structure and dtypes, in units of the score, without bias. Cost:
        `samples` (n - 1) + 2 forward passes (of all but one for each row of a background set).

    Raises:
        ValueError, TypeError: As in `shapley_values`, but for any number of features.

    Example:
        >>> e = shapley_sampling(lambda x: x[0] * x[1] + x[2], samples=2)
        >>> e(jax.random.key(0), jnp.array([2.0, 3.0, 1.0])).tolist()
        [3.0, 3.0, 1.0]

    Source: Castro, Gomez and Tejada 2009, "Polynomial calculation of the Shapley value based on sampling", section 3;
    reversed orders: Mitchell et al. 2022, "Sampling permutations for Shapley value estimation", section 4.1.
    """
    samples = check.count(samples, "shapley_sampling", "samples")
    fields = checked("shapley_sampling", f, baseline, groups, max_groups, batch_size)
    return ShapleySampling(*fields, None, samples)


@public
def shapley_sampling_with_error(
    f: Callable[..., Any],
    *,
    baseline: Any = 0,
    samples: int = 256,
    confidence: float = 0.95,
    groups: Any = None,
    max_groups: int | None = None,
    batch_size: int | None = None,
) -> ShapleySampling:
    """Sampled Shapley values with the standard error of each and an interval around it.

    The standard error is s / sqrt(m) with s the standard deviation of the means of the m = `samples` / 2 pairs of
    orders (which are independent; the orders within a pair are not), and the interval is c -+ t s / sqrt(m) with
    Student's t of m - 1 degrees of freedom around c = phi_i + g s (1 + t^2) / (6 m), where g is the skewness of the
    pairs' means: half of Johnson's correction, which is zero for symmetric ones. A feature whose contribution is the
    same in every pair has an error of zero; intervals are 8 units in the last place of the largest score wider, for
    the rounding. With a random baseline errors are those for the baseline drawn.

    Args:
        f: As in `shapley_values`.
        baseline: As in `shapley_sampling`.
        samples: As in `shapley_sampling`, at least 3 (two pairs). 95 % intervals cover 93 to 97 % with the default, of
            smooth and rectified networks, products, maxima and thresholds of up to eight features. Fewer cover less
            where a feature matters in few orders only: of the exponential of a sum of seven terms 92 % with 96 orders
            and 89 % with 48. A feature that no order drawn shows at work has an error of zero.
        confidence: The chance that an interval holds the exact value, between 0 and 1.
        groups: As in `shapley_values`.
        max_groups: As in `shapley_values`.
        batch_size: As in `shapley_sampling`.

    Returns:
        `e(key, x, *args) -> ShapleyEstimate(attribution, standard_error, low, high)`; all are divided over a feature's
        values alike, so that sums over a feature give the feature's own. Cost: as `shapley_sampling`.

    Raises:
        ValueError: `samples` below 3, `confidence` outside 0 to 1; otherwise as `shapley_sampling`.
        TypeError: As in `shapley_sampling`.

    Example:
        >>> e = shapley_sampling_with_error(lambda x: x[0] * x[1] * x[2], samples=64)
        >>> result = e(jax.random.key(0), jnp.array([2.0, 3.0, 1.0]))
        >>> bool((result.low <= 2.0).all()), bool((2.0 <= result.high).all())
        (True, True)

    Source: as `shapley_sampling`; the correction: Johnson 1978, "Modified t tests and confidence intervals for
    asymmetrical populations", equation 2.5.
    """
    name = "shapley_sampling_with_error"
    samples = check.count(samples, name, "samples")
    if samples < 3:
        raise ValueError(
            f"{name}: `samples` is {samples}; a standard error needs at least 3 orders, which make two pairs."
        )
    if not 0 < confidence < 1:
        raise ValueError(f"{name}: `confidence` has to lie between 0 and 1, not {confidence}.")
    pairs = -(-samples // 2)
    from scipy.special import stdtrit  # an import that takes a fifth of a second

    factor = float(stdtrit(pairs - 1, (1 + confidence) / 2))
    return ShapleySampling(*checked(name, f, baseline, groups, max_groups, batch_size), factor, samples)
