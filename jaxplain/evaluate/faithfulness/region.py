"""Faithfulness by removing pixels or regions in order: pixel flipping, region perturbation, selectivity, IROF."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxplain import check
from jaxplain.evaluate.faithfulness.deletion import ORDERS, Removal, removal
from jaxplain.program import public


@public
def pixel_flipping(
    f: Callable[..., Any],
    *,
    baseline: Any = 0.0,
    steps: int | None = None,
    order: str = "morf",
    batch_size: int | None = None,
    groups: Any = None,
) -> Removal:
    """The score's curve as pixels are flipped, the most relevant first (`order='morf'`).

    The curve of `deletion_curve`, in the order asked for. In the source a pixel of a binary image is flipped to its
    other value: `baseline=lambda x: 1 - x` for images in [0, 1]. Its area is `deletion`.

    Args:
        f: As in `deletion`.
        baseline: As in `deletion`.
        steps: As in `deletion`.
        order: 'morf' (most relevant first), 'lerf' (least relevant first) or 'random' (then calls take a key first).
        batch_size: As in `deletion`.
        groups: As in `deletion`.

    Returns:
        `m(x, attribution, *args) -> Curve(fraction, score)`, both `[steps + 1]`; the first point is the whole input.
        Cost: `steps` + 1 forward passes.

    Raises:
        ValueError, TypeError: As in `deletion`; an unknown order.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([1.0, 3.0])
        >>> pixel_flipping(lambda x: x.sum(), order="lerf")(x, x).score.tolist()
        [4.0, 3.0, 0.0]

    Source: Bach et al. 2015, "On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance
    propagation", section "Experimental evaluation", pixel-flipping.
    """
    check.choice(order, ORDERS, "pixel_flipping", "order")
    return removal("pixel_flipping", f, baseline, steps, batch_size, groups, order=order, summary="curve")


@public
def region_perturbation(
    f: Callable[..., Any],
    *,
    window: int | tuple[int, ...] | None = None,
    baseline: Any = 0.0,
    steps: int | None = None,
    order: str = "morf",
    batch_size: int | None = None,
    groups: Any = None,
) -> Removal:
    """The mean drop of the score while regions are perturbed in order (AOPC): higher is better for 'morf'.

    AOPC = 1 / (L + 1) sum_(k=0..L) (f(x_0) - f(x_k)), where x_k has the k-th portion of regions replaced, in descending
    ('morf') or ascending ('lerf') order of their summed attribution, or in a random one.

    Args:
        f: As in `deletion`.
        window: Side of the square regions, or one side for each of x's first axes (`(4,)` for a sequence); regions at
            the far border may be smaller. None takes single pixels, or `groups`. The source uses 9.
        baseline: As in `deletion`; the source draws uniform noise, `jaxplain.baseline.uniform_noise(0.0, 1.0)`.
        steps: How many portions L; None for one region at a time.
        order: 'morf', 'lerf' (lower is better) or 'random' (no direction; calls take a key first).
        batch_size: As in `deletion`.
        groups: As in `deletion`.

    Returns:
        `m(x, attribution, *args) -> AOPC`, one number in units of the score. Cost: L + 1 forward passes.

    Raises:
        ValueError, TypeError: As in `deletion`; `window` and `groups` together, an unknown order.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([1.0, 1.0, 4.0, 4.0])
        >>> float(region_perturbation(lambda x: x.sum(), window=2)(x, x))
        6.0

    Source: Samek et al. 2017, "Evaluating the visualization of what a deep neural network has learned", equation 12.
    """
    check.choice(order, ORDERS, "region_perturbation", "order")
    return removal(
        "region_perturbation", f, baseline, steps, batch_size, groups, window, order=order, summary="mean_drop"
    )


@public
def selectivity(
    f: Callable[..., Any],
    *,
    window: int | tuple[int, ...] | None = None,
    baseline: Any = 0.0,
    steps: int | None = None,
    batch_size: int | None = None,
    groups: Any = None,
) -> Removal:
    """The area under the score's curve as regions are removed, the most relevant first; lower is better.

    `deletion` on regions: the same area, over the fraction of regions removed.

    Args:
        f: As in `deletion`.
        window: As in `region_perturbation`; the source removes patches of 4x4.
        baseline: As in `deletion`.
        steps: As in `deletion`.
        batch_size: As in `deletion`.
        groups: As in `deletion`.

    Returns:
        `m(x, attribution, *args) -> area`, one number in units of the score. Cost: `steps` + 1 forward passes.

    Raises:
        ValueError, TypeError: As in `deletion`; `window` and `groups` together.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([1.0, 1.0, 3.0, 3.0])
        >>> float(selectivity(lambda x: x.sum(), window=2)(x, x))
        3.0

    Source: Montavon, Samek and Müller 2018, "Methods for interpreting and understanding deep neural networks",
    section 7.2.
    """
    return removal("selectivity", f, baseline, steps, batch_size, groups, window)


@public
def irof(f: Callable[..., Any], groups: Any, *, baseline: Any = 0.0, batch_size: int | None = None) -> Removal:
    """The area over the relative score's curve as image segments are removed; higher is better.

    IROF = 1 - area under f(x_k) / f(x_0), where the k segments of highest mean attribution are replaced.

    Args:
        f: As in `deletion`; the source takes a class probability. Scores that can be 0 or negative have no meaningful
            ratio.
        groups: The segments, integers 0 to n-1 as in `deletion`, for example superpixels of the image at hand. Traced
            segments, under `vmap`, have to be `deletion`'s with `steps`; here their number has to be known.
        baseline: As in `deletion`; the source takes the mean colour of the data, `jaxplain.baseline.mean(data)`.
        batch_size: As in `deletion`.

    Returns:
        `m(x, attribution, *args) -> IROF`, one number without unit, at most 1 for a score that is never negative; NaN
        where f(x) = 0. Cost: n + 1 forward passes.

    Raises:
        ValueError, TypeError: As in `deletion`; no groups.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([1.0, 1.0, 2.0])
        >>> float(irof(lambda x: x.sum(), jnp.array([0, 0, 1]))(x, x))
        0.5

    Source: Rieger and Hansen 2020, "IROF: a low resource evaluation metric for explanation methods", equation 1.
    """
    if groups is None:
        raise ValueError(
            "irof: `groups` has to give the segments; without them every pixel would be one: see deletion."
        )
    return removal("irof", f, baseline, None, batch_size, groups, summary="over", by_mean=True)
