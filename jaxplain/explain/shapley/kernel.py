"""KernelSHAP: Shapley values by a weighted regression on sampled coalitions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.explain.shapley.coalition import Coalitional, Game, checked, random_ranks
from jaxplain.explain.shapley.exact import all_values, exact
from jaxplain.program import fold_range, public, setting, side_by_side
from jaxplain.types import Array, Pytree

BLOCK = 64
"""Coalitions whose products are summed at once: enough for a matrix product, whatever `batch_size`."""


class Design(NamedTuple):
    """Which coalitions are scored, each with its complement: all of the smallest sizes, and random ones of the others.

    n: features; total: of them present (traced with traced groups); pairs: how many; whole: how many of the smallest
    sizes are enumerated; starts: where each of those begins, and where the random ones do; dtype: of the weights.
    """

    n: int
    total: Any
    pairs: int
    whole: int
    starts: Array
    key: Array
    dtype: Any

    def pair(self, index: Array) -> tuple[Array, Array]:
        """The smaller coalition of a pair, `[n]`, and the kernel's mass that the pair stands for."""
        sizes = jnp.arange(1, max(2, self.n // 2 + 1))
        mass = self._mass(sizes)
        part = jnp.sum(index >= self.starts) - 1  # which enumerated size; `whole` for a random one
        begun = self.starts[jnp.minimum(part, self.whole)]
        rest = jnp.where(sizes > self.whole, mass, 0.0)
        drawn = self.pairs - self.starts[-1]
        # Sizes are drawn systematically: each gets its share of the random pairs to within one.
        shift = jax.random.uniform(jax.random.fold_in(self.key, 0))
        quantile = (index - self.starts[-1] + shift) / jnp.maximum(drawn, 1)
        reached = jnp.cumsum(rest) / jnp.maximum(rest.sum(), 1e-30)
        last = jnp.max(jnp.where(rest > 0, sizes, 1))
        size = jnp.minimum(sizes[jnp.minimum(jnp.sum(reached <= quantile), sizes.size - 1)], last)
        ranks = random_ranks(jax.random.fold_in(self.key, 1 + index), self.n, self.present())
        listed = self._listed(index - begun, jnp.minimum(part + 1, self.whole))
        counts = jnp.diff(self.starts)[jnp.minimum(part, self.whole - 1)]
        is_listed = part < self.whole
        weight = jnp.where(
            is_listed, mass[jnp.minimum(part, sizes.size - 1)] / counts, rest.sum() / jnp.maximum(drawn, 1)
        )
        return jnp.where(is_listed, listed, ranks < size), weight

    def _mass(self, sizes: Array) -> Array:
        """The Shapley kernel's mass of each size and its complement's, summing to one."""
        total = jnp.asarray(self.total, self.dtype)
        both = jnp.where(2 * sizes == self.total, 1.0, 2.0)
        mass = jnp.where(2 * sizes <= self.total, both / (sizes * jnp.maximum(total - sizes, 1.0)), 0.0)
        return mass / jnp.maximum(mass.sum(), 1e-30)

    def present(self) -> Any:
        """Which features have values, or None where all have."""
        return None if isinstance(self.total, int) else jnp.arange(self.n) < self.total

    def _listed(self, index: Array, size: Array) -> Array:
        """The coalition of that number among all of its size, in the combinatorial number system."""
        mask = jnp.zeros(self.n, bool)
        left = size
        for _ in range(self.whole):
            table = jnp.asarray(_binomials(self.n, self.whole), jnp.int32)[left]
            place = jnp.sum(table <= index) - 1
            mask = mask | ((jnp.arange(self.n) == place) & (left > 0))
            index, left = index - jnp.where(left > 0, table[place], 0), jnp.maximum(left - 1, 0)
        return mask


def _binomials(n: int, whole: int) -> np.ndarray:
    """C(place, size) by `[size, place]`, cut off where no enumerated coalition's number reaches."""
    return np.array([[min(math.comb(place, size), 2**30) for place in range(n)] for size in range(whole + 1)])


def design(key: Array, n: int, total: Any, samples: int, dtype: Any) -> Design:
    """Divide the samples: enumerate sizes, the smallest first, while their share of the samples would cover them."""
    pairs, half = samples // 2, n // 2
    if not isinstance(total, int):
        alone = jnp.stack([jnp.zeros((), jnp.int32), jnp.asarray(total, jnp.int32)])
        return Design(n, total, pairs, 1, alone, key, dtype)
    counts = [math.comb(n, size) // (2 if 2 * size == n else 1) for size in range(1, half + 1)]
    mass = [(1 if 2 * size == n else 2) / (size * (n - size)) for size in range(1, half + 1)]
    whole, left = 1, pairs - n
    while whole < half and left * mass[whole] >= counts[whole] * sum(mass[whole:]):
        left -= counts[whole]
        whole += 1
    starts = np.cumsum([0, *counts[:whole]])
    return Design(n, total, pairs, whole, jnp.asarray(starts, jnp.int32), key, dtype)


class KernelShap(Coalitional):
    """KernelSHAP. Made by `kernel_shap`."""

    samples: int = setting(default=1024)

    @property
    def needs_key(self) -> bool:
        """Always: coalitions are drawn from the key."""
        return True

    def __call__(self, *inputs: Any) -> Pytree:
        """Explain one example, `e(key, x, *args)`: an attribution of x's structure and dtypes."""
        key, x, args = check.divided(inputs, self.name, True)
        game = self.game(x, args, jax.random.fold_in(key, 1))
        n = game.n
        if 2**n - 2 <= self.samples:  # the regression on all coalitions has the Shapley values as its solution
            return game.finite(game.attribution(exact(all_values(game), n)))
        least = min(2 * n, 2**n - 2)
        if self.samples < least:
            raise ValueError(
                f"{self.name}: `samples` is {self.samples}, but {n} features need at least {least} (each one alone, "
                "and all others without it). Pass more, or put features together with `groups`."
            )
        change = game.all_present() - game.none_present()
        plan = design(jax.random.fold_in(key, 0), n, game.parts.total, self.samples, change.dtype)
        return game.finite(game.attribution(_regression(game, plan, change)))


def _regression(game: Game, plan: Design, change: Array) -> Array:
    """Minimise sum_k w_k (v_k - v(none) - z_k . phi)^2 subject to sum(phi) = v(all) - v(none).

    With phi = change / total + u, sum(u) = 0, and z~ = z - |z| / total, a coalition and its complement have opposite z~
    and v(none) drops out of their sum: what is left is a well-conditioned unconstrained problem in u.
    """
    present = jnp.ones(plan.n, plan.dtype) if plan.present() is None else plan.present().astype(plan.dtype)
    total = jnp.sum(present)

    def centred(index: Array) -> tuple[Array, Array, Array]:
        mask, weight = plan.pair(index)
        share = mask.sum() / total
        return mask, (mask - share) * present, weight

    def products(matrix: Array, index: Array, mask: Array) -> Array:
        _, z, weight = jax.vmap(centred)(index)
        return matrix + (z * jnp.where(mask, weight, 0.0)[:, None]).T @ z

    def term(index: Array) -> Array:
        kept, z, weight = centred(index)
        both = game.values(lambda side: _other_if(side == 1, game.spread(kept)), 2)
        return weight * z * (both[0] - both[1] - (2 * kept.sum() / total - 1) * change) / 2

    def sums(vector: Array, index: Array, mask: Array) -> Array:
        return vector + jnp.where(mask[:, None], side_by_side(term, index), 0.0).sum(axis=0)

    matrix = fold_range(products, jnp.zeros((plan.n, plan.n), change.dtype), plan.pairs, BLOCK)
    vector = fold_range(sums, jnp.zeros(plan.n, change.dtype), plan.pairs, max(1, game.at_once // 2))
    # The directions that the constraint and absent features leave open get the scale of the others.
    scale = jnp.trace(matrix) / jnp.maximum(total - 1, 1) + 1e-30
    whole = matrix + scale * (present[:, None] * present[None, :] / total + jnp.diag(1 - present))
    u = jax.scipy.linalg.solve(whole, vector, assume_a="pos") * present
    return (change / total + u - u.sum() / total) * present


def _other_if(other: Array, keep: list[Any]) -> list[Any]:
    """A coalition, or its complement."""
    return [None if leaf is None else jnp.logical_xor(leaf, other) for leaf in keep]


@public
def kernel_shap(
    f: Callable[..., Any],
    *,
    baseline: Any = 0,
    samples: int = 1024,
    groups: Any = None,
    max_groups: int | None = None,
    batch_size: int | None = None,
) -> KernelShap:
    """The Shapley value of every feature, estimated by a weighted regression of scores on coalitions.

    phi minimises sum_S k(S) (v(S) - v(none) - sum_(i in S) phi_i)^2 subject to sum_i phi_i = f(x) - f(baseline), with
    the kernel k(S) = (n - 1) / (C(n, |S|) |S| (n - |S|)), over `samples` coalitions. They come in pairs of a coalition
    and its complement and are stratified by size: sizes are enumerated from the smallest on while the samples' share
    covers them (single features always), and random coalitions stand for the sizes left, each size getting its share
    of the kernel. The constraint is eliminated, so the sum is exact, and the regression is solved on the device. Where
    the 2^n coalitions fit in `samples` the values are those of `shapley_values`; else they are consistent, with a bias
    that falls as 1 / samples. Values of features are divided evenly over their values, as in `shapley_values`.

    Args:
        f: As in `shapley_values`.
        baseline: As in `shapley_values`; one draw of a random baseline serves all coalitions.
        samples: How many coalitions are scored, at least 2 n.
        groups: As in `shapley_values`.
        max_groups: As in `shapley_values`.
        batch_size: How many points (a coalition with one baseline) are scored at once; memory grows with it and not
            with `samples`. None takes what fills the device in `explain_batch` and `explain_dataset`, and 1 elsewhere.

    Returns:
        `e(key, x, *args) -> attribution` of x's structure and dtypes, in units of the score. Cost: `samples` + 2
        forward passes (of all but one for each row of a background set), and the solution of n equations.

    Raises:
        ValueError: `samples` below 2 n; otherwise as `shapley_values`, but for any number of features.
        TypeError: As in `shapley_values`.

    Example:
        >>> e = kernel_shap(lambda x: x[0] * x[1] + x[2])
        >>> e(jax.random.key(0), jnp.array([2.0, 3.0, 1.0])).tolist()
        [3.0, 3.0, 1.0]

    Source: Lundberg and Lee 2017, "A unified approach to interpreting model predictions", theorem 2; pairs and the
    solution under the constraint: Covert and Lee 2021, "Improving KernelSHAP: practical Shapley value estimation via
    linear regression", equation 7 and section 4.2.
    """
    samples = check.count(samples, "kernel_shap", "samples")
    return KernelShap(*checked("kernel_shap", f, baseline, groups, max_groups, batch_size), samples)
