"""LIME: a weighted linear model of the score around an input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.explain.shapley.coalition import Coalitional, Game, checked
from jaxplain.program import fold_range, public, setting, side_by_side
from jaxplain.program.trace import apart
from jaxplain.types import Array, Pytree

BLOCK = 64
"""Samples whose products are summed at once: enough for a matrix product, whatever `batch_size`."""

SWEEPS = 1000
"""The most rounds of coordinate descent over all features; a lasso of independent masks needs about ten."""


class Lime(Coalitional):
    """LIME. Made by `lime`."""

    kernel_width: Any = 0.25
    penalty: Any = 0.0
    samples: int = setting(default=1024)
    regression: str = setting(default="ridge")

    @property
    def needs_key(self) -> bool:
        """Always: masks are drawn from the key."""
        return True

    def __call__(self, *inputs: Any) -> Pytree:
        """Explain one example, `e(key, x, *args)`: the coefficients, as an attribution of x's structure and dtypes."""
        key, x, args = check.divided(inputs, self.name, True)
        game = self.game(x, args, jax.random.fold_in(key, 1))
        free = check.is_concrete(self.penalty) and float(self.penalty) == 0
        if free and self.samples <= game.n:
            raise ValueError(
                f"{self.name}: `samples` is {self.samples}, but a regression on {game.n} features without penalty "
                f"needs at least {game.n + 1}, and better several times that. Pass more, put features together with "
                "`groups`, or pass a `penalty`."
            )
        products, moments = self._sums(game, jax.random.fold_in(key, 0))
        # Apart: among many operations of its own XLA's CPU backend runs the loop over samples on a single core.
        solve = apart(_ridge if self.regression == "ridge" else lasso)
        return game.finite(game.attribution(solve(products, moments, jnp.asarray(self.penalty), game.present())))

    def sample(self, key: Array, index: Array, n: int, present: Any) -> tuple[Array, Array]:
        """Mask `[n]` and weight of a sample: every feature is kept with probability 1/2; sample 0 is the input."""
        kept = jax.random.bernoulli(jax.random.fold_in(key, index), 0.5, (n,)) | (index == 0)
        counted = kept if present is None else kept & present
        total = n if present is None else jnp.sum(present)
        distance = 1 - jnp.sqrt(jnp.sum(counted) / total)
        return kept, jnp.exp(-jnp.square(distance / self.kernel_width))

    def _sums(self, game: Game, key: Array) -> tuple[Array, Array]:
        """Weighted covariances of the masks with each other, `[n, n]`, and with the scores, `[n]`."""
        n, present = game.n, game.present()
        score = game.all_present()

        def design(index: Array) -> tuple[Array, Array]:
            kept, weight = self.sample(key, index, n, present)
            return jnp.append(kept - 0.5, 1.0), weight

        def products(total: Array, index: Array, mask: Array) -> Array:
            z, weight = jax.vmap(design)(index)
            return total + (z * jnp.where(mask, weight, 0.0)[:, None]).T @ z

        def term(index: Array) -> Array:
            kept, weight = self.sample(key, index, n, present)
            return weight * jnp.append(kept - 0.5, 1.0) * (game.value(game.spread(kept)) - score)

        def sums(total: Array, index: Array, mask: Array) -> Array:
            return total + jnp.where(mask[:, None], side_by_side(term, index), 0.0).sum(axis=0)

        matrix = fold_range(products, jnp.zeros((n + 1, n + 1), score.dtype), self.samples, BLOCK)
        vector = fold_range(sums, jnp.zeros(n + 1, score.dtype), self.samples, game.at_once)
        whole, mean, middle = matrix[n, n], matrix[:n, n] / matrix[n, n], vector[n] / matrix[n, n]
        covariance = matrix[:n, :n] / whole - mean[:, None] * mean[None, :]
        return covariance, vector[:n] / whole - mean * middle


def _ridge(products: Array, moments: Array, penalty: Array, present: Any) -> Array:
    """Minimise the mean weighted square / 2 + penalty |beta|^2 / 2; the intercept is free."""
    there = jnp.ones(moments.size) if present is None else present.astype(products.dtype)
    whole = products * there[:, None] * there[None, :] + jnp.diag(penalty * there + 1 - there)
    return jax.scipy.linalg.solve(whole, moments * there, assume_a="pos")


def lasso(products: Array, moments: Array, penalty: Array, present: Any) -> Array:
    """Minimise the mean weighted square / 2 + penalty sum |beta|; the intercept is free.

    Coordinate descent finds which coefficients are not zero and their signs; given those the solution is linear, which
    makes it exact and differentiable.
    """
    there = jnp.ones(moments.size, bool) if present is None else present
    frozen = [lax.stop_gradient(value) for value in (products, moments, penalty)]
    signs = lax.stop_gradient(jnp.sign(_descend(frozen[0], frozen[1], frozen[2], there)))
    active = jnp.abs(signs)
    return least_squares(products, moments - penalty * signs, active > 0)


def least_squares(products: Array, moments: Array, support: Array) -> Array:
    """Minimise the mean weighted square on some of the features, `[n]`; the others' coefficients are 0."""
    return _ridge(products, moments * support, jnp.zeros(()), support)


def _descend(products: Array, moments: Array, penalty: Array, present: Array) -> Array:
    scale = jnp.maximum(jnp.diag(products), 1e-12)

    def update(j: Array, beta: Array) -> Array:
        pull = moments[j] - products[j] @ beta + products[j, j] * beta[j]
        value = jnp.sign(pull) * jnp.maximum(jnp.abs(pull) - penalty, 0.0) / scale[j]
        return beta.at[j].set(jnp.where(present[j], value, 0.0))

    def sweep(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        beta, _, count = state
        new = lax.fori_loop(0, beta.size, update, beta)
        return new, jnp.max(jnp.abs(new - beta)), count + 1

    def unfinished(state: tuple[Array, Array, Array]) -> Array:
        beta, moved, count = state
        return (moved > 1e-6 * jnp.max(jnp.abs(beta))) & (count < SWEEPS)

    beta = jnp.zeros_like(moments)
    return lax.while_loop(unfinished, sweep, (beta, jnp.full((), jnp.inf, beta.dtype), jnp.zeros((), jnp.int32)))[0]


@public
def lime(
    f: Callable[..., Any],
    *,
    baseline: Any = 0,
    samples: int = 1024,
    kernel_width: float = 0.25,
    regression: str = "ridge",
    penalty: float = 0.0,
    groups: Any = None,
    max_groups: int | None = None,
    batch_size: int | None = None,
) -> Lime:
    """The coefficients of a linear model that is fitted to the score of inputs with random features absent.

    beta minimises sum_k w_k (v(z_k) - c - z_k . beta)^2 / (2 sum_k w_k) + penalty R(beta), where z_k in {0, 1}^n keeps
    every feature with probability 1/2 (z_0 keeps all), v is the score with the other features replaced by the baseline,
    w_k = exp(-(d_k / kernel_width)^2) with d_k = 1 - sqrt(|z_k| / n) the cosine distance to the whole input, c is a
    free intercept, and R is |beta|^2 / 2 ('ridge') or sum_i |beta_i| ('lasso'). A coefficient is what the feature's
    presence adds, in units of the score, divided evenly over the feature's values. Unlike Shapley values it need not
    sum to anything, and a feature that the score ignores gets zero only up to the sampling.

    Args:
        f: As in `shapley_values`.
        baseline: As in `shapley_values`; one draw of a random baseline serves all samples.
        samples: How many masks are scored; without penalty more than n.
        kernel_width: Width of the kernel, in units of the distance, which runs from 0 to 1; small widths weigh masks
            that keep nearly everything, and need more samples.
        regression: 'ridge' or 'lasso'.
        penalty: The strength of the penalty, 0 or more (0 is least squares). It does not depend on `samples`.
        groups: As in `shapley_values`; for images superpixels, such as those of `jaxplain.baseline.superpixels`.
        max_groups: As in `shapley_values`.
        batch_size: How many points (a mask with one baseline) are scored at once; memory grows with it and not with
            `samples`. None takes what fills the device in `explain_batch` and `explain_dataset`, and 1 elsewhere.

    Returns:
        `e(key, x, *args) -> attribution` of x's structure and dtypes, in units of the score. Cost: `samples` + 1
        forward passes (for each row of a background set), and the solution of n equations.

    Raises:
        ValueError: `samples` no more than n without penalty, `kernel_width` that is not positive, a negative `penalty`,
            an unknown regression; otherwise as `shapley_values`, but for any number of features.
        TypeError: As in `shapley_values`.

    Example:
        >>> e = lime(lambda x: 2 * x[0] - x[1], samples=64)
        >>> [round(float(a), 4) for a in e(jax.random.key(0), jnp.array([1.0, 3.0]))]
        [2.0, -3.0]

    Source: Ribeiro, Singh and Guestrin 2016, "'Why should I trust you?' Explaining the predictions of any classifier",
    equations 1 and 2; the distance and the masks are those of its section 3.4. There the lasso only selects features.
    """
    fields = checked("lime", f, baseline, groups, max_groups, batch_size)
    check.positive(kernel_width, "lime", "kernel_width")
    check.positive(penalty, "lime", "penalty", zero=True)
    check.choice(regression, ("ridge", "lasso"), "lime", "regression")
    return Lime(*fields, kernel_width, penalty, check.count(samples, "lime", "samples"), regression)
