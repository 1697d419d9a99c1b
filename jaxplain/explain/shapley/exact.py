"""Shapley values by all coalitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.explain.shapley.coalition import Coalitional, Game, checked
from jaxplain.program import public, setting
from jaxplain.types import Array, Pytree

MOST = 24
"""The most features whose coalitions are enumerated: 16.8 million forward passes."""


def all_values(game: Game) -> Array:
    """v of every coalition, `[2^n]`: bit i of the number says whether feature i takes part."""

    def keep(index: Array) -> list[Any]:
        return game.spread((index >> jnp.arange(game.n)) & 1 == 1)

    return game.values(keep, 2**game.n)


def marginals(values: Array, feature: Array) -> Array:
    """v(S and i) - v(S) for every coalition S of the other features, `[2^(n-1)]`, numbered without i's bit."""
    others = jnp.arange(values.shape[0] // 2, dtype=jnp.int32)
    low = others & ((1 << feature) - 1)
    without = ((others >> feature) << (feature + 1)) | low
    return values[without | (1 << feature)] - values[without]


def coalition_weights(n: int, dtype: Any) -> Array:
    """The chance 1 / (n C(n-1, |S|)) of each coalition S of n-1 others to come before a feature, `[2^(n-1)]`."""
    table = jnp.asarray([1 / (n * math.comb(n - 1, size)) for size in range(n)], dtype)
    return table[lax.population_count(jnp.arange(2 ** (n - 1), dtype=jnp.int32))]


def exact(values: Array, n: int) -> Array:
    """Shapley values `[n]` of a game given by the values of all its coalitions."""
    weights = coalition_weights(n, values.dtype)
    return lax.map(lambda i: jnp.sum(weights * marginals(values, i)), jnp.arange(n, dtype=jnp.int32))


class ShapleyValues(Coalitional):
    """Exact Shapley values. Made by `shapley_values`."""

    def __call__(self, *inputs: Any) -> Pytree:
        """Explain one example: `e(x, *args)`, or `e(key, x, *args)` where the baseline is drawn."""
        key, x, args = check.divided(inputs, self.name, self.needs_key)
        game = self.game(x, args, key)
        few_enough(game.n, self.name)
        return game.finite(game.attribution(exact(all_values(game), game.n)))


def few_enough(n: int, name: str, most: int = MOST) -> None:
    """Refuse more features than coalitions can be enumerated of."""
    if n > most:
        raise ValueError(
            f"{name}: {n} features have 2**{n} coalitions, and at most 2**{most} are enumerated. Put features together "
            "with `groups`, or sample: jaxplain.shapley_sampling, jaxplain.kernel_shap."
        )


@public
def shapley_values(
    f: Callable[..., Any],
    *,
    baseline: Any = 0,
    groups: Any = None,
    max_groups: int | None = None,
    batch_size: int | None = None,
) -> ShapleyValues:
    """The Shapley value of every feature, exact, by the scores of all 2^n coalitions.

    phi_i = sum over coalitions S without i of |S|! (n - |S| - 1)! / n! (v(S and i) - v(S)), where v(S) is the score of
    the input whose features outside S are replaced by the baseline, or the mean of those scores over a background set.
    So sum_i phi_i = f(x) - f(baseline), with the background's mean score for f(baseline). A feature's value is divided
    evenly over its values, so that sums over a feature, and over everything, are right: with the default features of
    `[H, W, C]` the sum over channels is the pixel's Shapley value. (captum repeats a group's value at each of its
    places, as `feature_ablation` does here; multiply by the group's size to compare.)

    Args:
        f: A score, `f(x, *args) -> scalar`.
        baseline: What "absent" means: a scalar, an array or pytree of x's shape, a function of `x` or of `(key, x)`
            (then calls take a key first, and one draw serves all coalitions), or a background set: x's structure with
            one more leading axis `[N, ...]`, over which v is averaged. Integer and boolean leaves take the values that
            arrays, rows or a function give for them (a function that returns x's own holds them); a
            number leaves them alone, but where `x` is one array of token ids: there an integer is an id (0, if nobody
            says another).
        groups: Features that go together: integers 0 to n-1 without gaps, an array of x's shape or of its leading axes
            (`[H, W]` for `[H, W, C]`), or a pytree of them, in which one group may span several arrays; or names in
            their place, `["area", "city", "city"]` for the columns of a table. None takes every value, or every pixel
            of `[H, W, C]`. May be traced (one segmentation for each example, under `vmap`).
        max_groups: The most groups an example has; needed where `groups` is traced. Too small a number gives NaN.
        batch_size: How many points (a coalition with one baseline) are scored at once. None takes what fills the device
            in `explain_batch` and `explain_dataset`, and 1 elsewhere.

    Returns:
        `e(x, *args) -> attribution` of x's structure and dtypes, in units of the score; integer and boolean leaves get
        theirs in float32, zeros where they are held. Cost: 2^n forward passes (for each row of a background set);
        memory 2^n numbers.

    Raises:
        ValueError: More than 24 features, groups with gaps or of a shape that does not fit, a baseline that does not
            fit, NaN in a concrete `x`, scores that are not finite (in a compiled call they give NaN).
        TypeError: No leaf moves (token ids without a baseline of theirs), `groups` no integers, `f` is no function.

    A baseline that equals `x` everywhere is a `UserWarning`: the explanation is zero by construction.

    Example:
        >>> e = shapley_values(lambda x: x[0] * x[1] + x[2])
        >>> e(jnp.array([2.0, 3.0, 1.0])).tolist()
        [3.0, 3.0, 1.0]

    Source: Shapley 1953, "A value for n-person games", equation 12; for models Strumbelj and Kononenko 2010, "An
    efficient explanation of individual classifications using game theory", equation 4.
    """
    return ShapleyValues(*checked("shapley_values", f, baseline, groups, max_groups, batch_size))


class ShapleyInteractions(Coalitional):
    """Shapley interactions of all pairs. Made by `shapley_interactions`."""

    index: str = setting(default="shapley")

    def __call__(self, *inputs: Any) -> Array:
        """Explain one example: a symmetric matrix `[n, n]`."""
        key, x, args = check.divided(inputs, self.name, self.needs_key)
        game = self.game(x, args, key)
        few_enough(game.n, self.name, PAIRS)
        values, n = all_values(game), game.n
        phi = exact(values, n)
        if n == 1:
            return game.finite(phi[None])
        weights = (coalition_weights if self.index == "shapley" else _taylor_weights)(n - 1, values.dtype)

        def row(i: Array) -> Array:
            one = marginals(values, i)
            half = lax.map(lambda j: jnp.sum(weights * marginals(one, j)) / 2, jnp.arange(n - 1, dtype=jnp.int32))
            # The other features' numbers skip i, whose place holds what is left of its Shapley value.
            places = jnp.arange(n)
            spread = half[jnp.clip(jnp.where(places < i, places, places - 1), 0, n - 2)]
            return jnp.where(places == i, phi[i] - half.sum(), spread)

        return game.finite(lax.map(row, jnp.arange(n, dtype=jnp.int32)))


def _taylor_weights(n: int, dtype: Any) -> Array:
    """2 / ((n + 1) C(n, |S|)) for each coalition S of n - 1 others, `[2^(n-1)]`, where a pair's other is one of n."""
    table = jnp.asarray([2 / ((n + 1) * math.comb(n, size)) for size in range(n)], dtype)
    return table[lax.population_count(jnp.arange(2 ** (n - 1), dtype=jnp.int32))]


PAIRS = 20
"""The most features of which all pairs are compared: about a million forward passes."""


@public
def shapley_interactions(
    f: Callable[..., Any],
    *,
    index: str = "shapley",
    baseline: Any = 0,
    groups: Any = None,
    max_groups: int | None = None,
    batch_size: int | None = None,
) -> ShapleyInteractions:
    """How much each pair of features adds together beyond what both add alone, exact, by all 2^n coalitions.

    The interaction index of a pair is I_ij = sum over coalitions S without i and j of |S|! (n - |S| - 2)! / (n - 1)!
    (v(S and ij) - v(S and i) - v(S and j) + v(S)). As in TreeSHAP it is divided between both: the matrix holds
    Phi_ij = I_ij / 2 off its diagonal and Phi_ii = phi_i - sum_(j != i) Phi_ij on it, so that row i sums to the Shapley
    value phi_i, and everything to f(x) - f(baseline). Twice an entry is the interaction index. The Shapley-Taylor index
    has 2 / (n C(n-1, |S|)) for weights, which leaves v(i) - v(none) on the diagonal.

    Args:
        f: As in `shapley_values`.
        index: 'shapley' (as TreeSHAP), or 'taylor' (as the exact explainer of the shap package).
        baseline: As in `shapley_values`.
        groups: As in `shapley_values`.
        max_groups: As in `shapley_values`.
        batch_size: As in `shapley_values`.

    Returns:
        `e(x, *args) -> Phi`, symmetric `[n, n]` over the features in the order of their numbers (row-major, leaf after
        leaf), in units of the score. Cost: 2^n forward passes (for each row of a background set), and n^2 2^(n-2)
        additions.

    Raises:
        ValueError: More than 20 features, an unknown index; otherwise as `shapley_values`.
        TypeError: As in `shapley_values`.

    Example:
        >>> e = shapley_interactions(lambda x: x[0] * x[1] + x[2])
        >>> e(jnp.array([2.0, 3.0, 1.0])).tolist()
        [[0.0, 3.0, 0.0], [3.0, 0.0, 0.0], [0.0, 0.0, 1.0]]

    Source: Grabisch and Roubens 1999, "An axiomatic approach to the concept of interaction among players in
    cooperative games", definition 2; divided as in Lundberg et al. 2020, "From local explanations to global
    understanding with explainable AI for trees", equations 4 and 5 of the methods. The other index: Dhamdhere, Agarwal
    and Sundararajan 2020, "The Shapley Taylor interaction index", equation 4.
    """
    check.choice(index, ("shapley", "taylor"), "shapley_interactions", "index")
    return ShapleyInteractions(*checked("shapley_interactions", f, baseline, groups, max_groups, batch_size), index)
