"""The random control: what a metric says of an attribution that knows nothing, and whether a method differs from it."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain import check
from jaxplain.program import Function, public, shown
from jaxplain.types import Array, ArrayLike, Pytree


class RandomAttribution(Function):
    """Attributions drawn at random. Made by `random_attribution`."""

    @property
    def needs_key(self) -> bool:
        """Always: it is nothing but a draw."""
        return True

    def __call__(self, key: Array, x: Pytree, *args: Any) -> Pytree:
        """Draw for one example: an attribution of x's structure and dtypes."""
        check.arrays(x, "random_attribution")
        leaves, structure = jax.tree.flatten(x)
        draw = jax.random.fold_in(key, _fingerprint(leaves))

        def normal(index: int, leaf: Any) -> Array:
            if not check.is_floating(leaf):
                return jnp.zeros(jnp.shape(leaf), jnp.float32)
            noise = jax.random.normal(jax.random.fold_in(draw, index), jnp.shape(leaf), jnp.float32)
            return noise.astype(jnp.result_type(leaf))

        return jax.tree.unflatten(structure, [normal(index, leaf) for index, leaf in enumerate(leaves)])


def _fingerprint(leaves: list[Any]) -> Array:
    """A number that changes with any bit of the floating-point leaves: sums of integers, the same in any order."""
    total = jnp.zeros((), jnp.uint32)
    for leaf in leaves:
        if check.is_floating(leaf):
            bits = lax.bitcast_convert_type(jnp.asarray(leaf).astype(jnp.float32).reshape(-1), jnp.uint32)
            mixed = (bits ^ (bits >> 16)) * jnp.uint32(0x7FEB352D)
            odd = 2 * jnp.arange(bits.size, dtype=jnp.uint32) + 1
            total = total * jnp.uint32(31) + jnp.sum((mixed ^ (mixed >> 15)) * odd, dtype=jnp.uint32)
    return total


@public
def random_attribution() -> RandomAttribution:
    """White noise in place of an explanation: a_i ~ N(0, 1), the control that every metric is read beside.

    A random function of the input: for one key the same `x` gets the same attribution and another `x`, however near, an
    unrelated one. So it ranks features at random (faithfulness), and is as unstable as can be (robustness: drawn
    without regard to `x` it would be a constant explanation, of perfect sensitivity).

    Returns:
        `e(key, x, *args) -> attribution` of x's structure and dtypes, without unit; zeros at integer and boolean
        leaves. The `args` are not looked at. Cost: one draw for each value, no pass through a model.

    Example:
        >>> e = random_attribution()
        >>> e(jax.random.key(0), jnp.ones((4, 4, 3))).shape
        (4, 4, 3)

    Source: Samek et al. 2017, "Evaluating the visualization of what a deep neural network has learned", compare heat
    maps with random orders in this way.
    """
    return RandomAttribution()


@shown
class PairedDifference(NamedTuple):
    """The mean difference between paired scores, with a bootstrap interval.

    mean, low, high: the mean of scores - control and its interval; NaN for fewer than one (mean) or two (interval)
    defined pairs. examples: pairs defined on both sides. undefined: pairs left out since either side is NaN.
    """

    mean: float
    low: float
    high: float
    examples: int
    undefined: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


@public
def paired_difference(
    scores: ArrayLike, control: ArrayLike, *, key: Array, confidence: float = 0.95, samples: int = 10_000
) -> PairedDifference:
    """Whether scores differ from the control's: the mean of scores - control over examples, with its interval.

    The percentile bootstrap over examples: each of `samples` times the N defined pairs are drawn N times with
    replacement, and the interval holds the middle `confidence` of the means. Pairs with a NaN are left out and counted.

    Args:
        scores: `[B]`, a method's scores, one for each example.
        control: `[B]`, the control's scores of the same examples in the same order.
        key: A threefry key.
        confidence: The interval's nominal coverage, between 0 and 1.
        samples: How many times the pairs are resampled.

    Returns:
        A `PairedDifference`, in units of the scores. Cost: `samples` * B draws, no pass through a model.

    Raises:
        ValueError: Shapes that are not two equal `[B]`, no examples, a confidence outside (0, 1), `samples` below 1.

    Example:
        >>> result = paired_difference([1.0, 2.0, 4.0], [0.0, 1.0, 3.0], key=jax.random.key(0), samples=100)
        >>> result.mean, result.low, result.excludes_zero
        (1.0, 1.0, True)

    Source: Efron and Tibshirani 1993, "An introduction to the bootstrap", section 13.3.
    """
    name = "paired_difference"
    for value, argument in ((scores, "scores"), (control, "control")):
        check.numbers(value, "paired_difference", argument)
    left, right = np.asarray(scores, np.float64), np.asarray(control, np.float64)
    if left.shape != right.shape or left.ndim != 1 or left.size == 0:
        raise ValueError(
            f"{name}: `scores` has shape {left.shape} and `control` {right.shape}; both have to be [B], one number for "
            "each of at least one example."
        )
    if not 0 < confidence < 1:
        raise ValueError(f"{name}: `confidence` has to lie between 0 and 1, not {confidence}.")
    samples = check.count(samples, name, "samples")
    difference = left - right
    defined = difference[~np.isnan(difference)]
    undefined = int(difference.size - defined.size)
    mean = float(defined.mean()) if defined.size else float("nan")
    if defined.size < 2:
        return PairedDifference(mean, float("nan"), float("nan"), int(defined.size), undefined)
    padded = np.concatenate([defined, np.zeros(undefined)]).astype(np.float32)
    means = np.asarray(_resampled_means(key, padded, np.int32(defined.size), samples), np.float64)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return PairedDifference(mean, float(low), float(high), int(defined.size), undefined)


@partial(jax.jit, static_argnames="samples")
def _resampled_means(key: Array, values: Array, count: Array, samples: int) -> Array:
    """Means of `count` draws with replacement out of the first `count` values, `[samples]`."""
    counted = jnp.arange(values.size) < count

    def one(index: Array) -> Array:
        rows = jax.random.randint(jax.random.fold_in(key, index), values.shape, 0, count)
        return jnp.sum(jnp.where(counted, values[rows], 0.0)) / count

    return lax.map(one, jnp.arange(samples), batch_size=min(64, samples))
