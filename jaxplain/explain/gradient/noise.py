"""Wrappers that average an explanation over noisy copies of the input: SmoothGrad, its square, VarGrad."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline import at_lookups
from jaxplain.program import (
    Function,
    as_function,
    chunked_moments,
    chunked_sum,
    like,
    map_floating,
    needs_key,
    public,
    setting,
    widen,
)
from jaxplain.types import Array, Pytree


class Noisy(Function):
    """A statistic of an explanation over noisy copies of the input. Made by the functions below."""

    explain: Any
    sigma: Any
    samples: int = setting(default=16)
    batch_size: int | None = setting(default=None, points=True)
    name: str = setting(default="smoothgrad")
    counted: ClassVar[str] = "samples"

    @property
    def needs_key(self) -> bool:
        """Always: the noise is drawn from the key."""
        return True

    @at_lookups
    def __call__(self, key: Array, x: Pytree, *args: Any) -> Pytree:
        """Explain one example: an attribution of x's structure and dtypes."""
        check.needed_key((key,), self.name, "e(key, x, *args)")
        check.differentiable(x, self.name)
        check.finite(x, self.name)

        def term(index: Array) -> Pytree:
            return self._sample(jax.random.fold_in(key, index), x, *args)

        index = jnp.arange(self.samples)
        if self.name == "vargrad":
            _, squares = chunked_moments(term, index, self.batch_size)
            return like(jax.tree.map(lambda s: s / self.samples, squares), x)
        if self.name == "smoothgrad_squared":
            sums = chunked_sum(lambda i: jax.tree.map(jnp.square, widen(term(i))), index, self.batch_size)
        else:
            sums = chunked_sum(term, index, self.batch_size)
        return like(jax.tree.map(lambda s: s / self.samples, sums), x)

    def _sample(self, key: Array, x: Pytree, *args: Any) -> Pytree:
        noisy = add_noise(jax.random.fold_in(key, 0), x, self.sigma)
        random = needs_key(self.explain)
        found = self.explain(jax.random.fold_in(key, 1), noisy, *args) if random else self.explain(noisy, *args)
        return check.explanation(found, x, self.name)


def add_noise(key: Array, x: Pytree, sigma: Any) -> Pytree:
    """Add N(0, sigma^2) to the floating-point leaves, each leaf from a key of its own."""
    count = iter(range(len(jax.tree.leaves(x))))

    def shift(leaf: Array) -> Array:
        leaf, draw = jnp.asarray(leaf), jax.random.fold_in(key, next(count))
        wide = jnp.promote_types(leaf.dtype, jnp.float32)
        return (leaf + sigma * jax.random.normal(draw, leaf.shape, wide)).astype(leaf.dtype)

    return map_floating(shift, x)


def _noisy(name: str, e: Callable[..., Any], sigma: Any, samples: int, batch_size: int | None) -> Noisy:
    check.positive(sigma, name, "sigma", zero=True)
    if jnp.shape(sigma) != ():
        raise ValueError(f"{name}: `sigma` has shape {jnp.shape(sigma)}; pass one number, in units of the input.")
    samples = check.count(samples, name, "samples", least=2 if name == "vargrad" else 1)
    return Noisy(as_function(e), sigma, samples, check.at_once(batch_size, name), name)


@public
def smoothgrad(e: Callable[..., Any], *, sigma: float, samples: int = 16, batch_size: int | None = None) -> Noisy:
    """The mean of an explanation over noisy inputs: a = 1/n sum_s e(x + sigma z_s), z_s ~ N(0, 1).

    Around `gradient` this is SmoothGrad; any explanation can be wrapped, a random one gets a key of its own for each
    sample. Sample s draws from `fold_in(key, s)`, so the noise does not depend on `batch_size`.

    Args:
        e: An explanation, `e(x, *args)` or, if random, `e(key, x, *args)`.
        sigma: Standard deviation of the noise, in units of the input (the source uses 0.1 to 0.2 of its range).
        samples: How many noisy copies.
        batch_size: How many of them are explained at once; memory grows with it and not with `samples`. None takes what
            fills the device in `explain_batch` and `explain_dataset`, and 1 elsewhere.

    Returns:
        `e(key, x, *args) -> attribution` of x's structure, in units of `e`, summed in float32.
        Cost: `samples` explanations.

    Raises:
        ValueError: `sigma` negative or not one number, `samples` or `batch_size` below 1, NaN in a concrete `x`.
        TypeError: `x` has no floating-point leaf; `e` is a score, which returns one number.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.explain.gradient.gradient import gradient
        >>> e = smoothgrad(gradient(lambda x: 3 * x.sum()), sigma=0.1, samples=4)
        >>> e(jax.random.key(0), jnp.ones(2)).tolist()
        [3.0, 3.0]

    Source: Smilkov et al. 2017, "SmoothGrad: removing noise by adding noise", section 2.
    """
    return _noisy("smoothgrad", e, sigma, samples, batch_size)


@public
def smoothgrad_squared(
    e: Callable[..., Any], *, sigma: float, samples: int = 16, batch_size: int | None = None
) -> Noisy:
    """The mean square of an explanation over noisy inputs: a = 1/n sum_s e(x + sigma z_s)^2.

    Args:
        e: As in `smoothgrad`.
        sigma: As in `smoothgrad`.
        samples: As in `smoothgrad`.
        batch_size: As in `smoothgrad`.

    Returns:
        `e(key, x, *args) -> attribution` of x's structure, never negative, in squared units of `e`.
        Cost: `samples` explanations.

    Raises:
        ValueError, TypeError: As in `smoothgrad`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.explain.gradient.gradient import gradient
        >>> e = smoothgrad_squared(gradient(lambda x: 3 * x.sum()), sigma=0.1, samples=4)
        >>> e(jax.random.key(0), jnp.ones(2)).tolist()
        [9.0, 9.0]

    Source: Hooker et al. 2019, "A benchmark for interpretability methods in deep neural networks", section 4.
    """
    return _noisy("smoothgrad_squared", e, sigma, samples, batch_size)


@public
def vargrad(e: Callable[..., Any], *, sigma: float, samples: int = 16, batch_size: int | None = None) -> Noisy:
    """The variance of an explanation over noisy inputs: a = 1/n sum_s (e_s - mean e)^2, e_s = e(x + sigma z_s).

    The plain (population) variance, accumulated by merging means and squared deviations, so that it stays exact and
    never negative where the mean is large.

    Args:
        e: As in `smoothgrad`.
        sigma: As in `smoothgrad`.
        samples: As in `smoothgrad`, at least 2.
        batch_size: As in `smoothgrad`.

    Returns:
        `e(key, x, *args) -> attribution` of x's structure, never negative, in squared units of `e`.
        Cost: `samples` explanations.

    Raises:
        ValueError, TypeError: As in `smoothgrad`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.explain.gradient.gradient import gradient
        >>> e = vargrad(gradient(lambda x: 3 * x.sum()), sigma=0.1, samples=4)
        >>> e(jax.random.key(0), jnp.ones(2)).tolist()
        [0.0, 0.0]

    Source: Adebayo et al. 2018, "Local explanation methods for deep neural networks lack sensitivity to parameter
    values", section 2.
    """
    return _noisy("vargrad", e, sigma, samples, batch_size)
