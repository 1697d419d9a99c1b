"""ACE: concepts as clusters of segments that look alike to a layer."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.concept.dictionary.means import MeansDictionary, k_means
from jaxplain.concept.dictionary.rows import averaged, shared_args
from jaxplain.concept.dictionary.site import layer_site
from jaxplain.concept.distance import safe_shift
from jaxplain.internals import split
from jaxplain.program import as_function, public
from jaxplain.types import Array, ArrayLike, Arrays, Number


class SegmentConcepts(NamedTuple):
    """Clusters of segments.

    dictionary: Its centres, `[M, D]`, the largest cluster first.
    labels: `[S]`, the cluster of each segment, -1 where the cluster was left out as too rare.
    distances: `[S]`, from the centre.
    examples, segments: `[S]`, which image a segment is of, and its number in `groups`.
    rows: `[S, D]`, activations.
    """

    dictionary: MeansDictionary
    labels: Any
    distances: Any
    examples: Any
    segments: Any
    rows: Any

    def __repr__(self) -> str:
        kept = int((np.asarray(self.labels) >= 0).sum())
        return f"SegmentConcepts({self.dictionary!r}, {kept} of {len(self.labels)} segments)"


@public
def ace(
    f: Callable[..., Any],
    layer: str,
    x: Arrays,
    groups: ArrayLike,
    *args: Any,
    k: int = 25,
    key: Array,
    baseline: Number = 0.0,
    least: int = 2,
    batch_size: int = 64,
) -> SegmentConcepts:
    """Find concepts by ACE: segments, alone on a grey ground and laid over the whole input, clustered by k-means.

    Clusters whose segments are of too few images are left out, since they are no concept but one image. What each does
    to a score, `tcav` says of `rows` in it against others.

    Args:
        f: A score or any function `f(x, *args)`.
        layer: The path of one layer, as in `capture`; values of any sign.
        x: Images `[B, H, W]` or `[B, H, W, C]`.
        groups: Which segment each pixel is of, integers `[B, H, W]` (`jaxplain.baseline.superpixels` makes them), or
            `[R, B, H, W]` for several resolutions.
        *args: The function's other arguments, `[B, ...]`, or one number for all.
        k: How many clusters, before rare ones are left out.
        key: PRNG key of the clusters' start.
        baseline: What the ground is filled with: a number, or an array that broadcasts to one image.
        least: Fewest images that the segments of a concept are of.
        batch_size: Segments at once.

    Returns:
        `SegmentConcepts`. Cost: a forward pass for each segment up to the layer, and k-means.

    Raises:
        ValueError: Groups of another shape, fewer segments than k, no cluster in `least` images, a layer that is
            constant, NaN.

    Source: Ghorbani et al. 2019, "Towards automatic concept-based explanations", sections 3 and 4.
    """
    name = "ace"
    f = as_function(check.callable_score(f, name))
    count = check.batch_length(x, name)
    if len(jax.tree.leaves(x)) != 1 or jnp.ndim(x) not in (3, 4) or not check.is_floating(x):
        raise ValueError(f"{name}: segments are of images, floats [B, H, W] or [B, H, W, C], not {check.short(x)}.")
    check.finite(x, name)
    images = jnp.asarray(x)
    least, k = check.count(least, name, "least"), check.count(k, name, "k")
    check.count(batch_size, name, "batch_size")
    check.broadcasts(baseline, images.shape[1:], name, "baseline")
    given = shared_args(args, count, name)
    boxes, masks = _segments(groups, images.shape[:3], name)
    body, _ = split(f, layer)
    ground = jnp.broadcast_to(jnp.asarray(baseline, images.dtype), images.shape[1:])
    rows = _rows(body, images, given, masks, boxes, ground, batch_size)
    first = jax.tree.map(lambda leaf: leaf[0], given)
    site = layer_site(f, layer, images[0], *first)
    clusters = k_means(rows, k, key=key, site=site)
    return _common(clusters, rows, boxes, least, count, name)


def _common(clusters: Any, rows: Array, boxes: np.ndarray, least: int, count: int, name: str) -> SegmentConcepts:
    """The clusters whose segments are of enough images, numbered anew."""
    shift = safe_shift(rows)
    squares = jnp.sum(jnp.ldexp(rows[:, None] - clusters.atoms[None], shift) ** 2, axis=2)
    labels = np.asarray(squares.argmin(axis=1))
    distances = np.asarray(jnp.ldexp(jnp.sqrt(squares.min(axis=1)), -shift))
    spread = [len(set(boxes[labels == c, 1].tolist())) for c in range(clusters.size)]
    kept = [c for c, images in enumerate(spread) if images >= least]
    if not kept:
        raise ValueError(
            f"{name}: no cluster has segments of {least} images (`least`), the widest of {max(spread)} of {count}. "
            "Pass more images, a smaller `least`, or a smaller `k`."
        )
    numbers = np.full(clusters.size, -1)
    numbers[kept] = np.arange(len(kept))
    dictionary = MeansDictionary(clusters.atoms[np.asarray(kept)], site=clusters.site)
    return SegmentConcepts(dictionary, numbers[labels], distances, boxes[:, 1], boxes[:, 2], rows)


def _segments(groups: Any, shape: tuple[int, ...], name: str) -> tuple[np.ndarray, Array]:
    """Resolution, image, number and box (top, left, height, width) of every segment, `[S, 7]`, and the groups."""
    check.arrays(groups, name, "groups")
    numbers = np.asarray(groups)
    if not np.issubdtype(numbers.dtype, np.integer):
        raise TypeError(f"{name}: `groups` has dtype {numbers.dtype}; pass whole numbers, one for each pixel.")
    if numbers.shape == shape:
        numbers = numbers[None]
    if numbers.ndim != 4 or numbers.shape[1:] != shape:
        raise ValueError(
            f"{name}: `groups` has shape {numbers.shape}, but the images are {shape}; pass {shape}, or several "
            "resolutions, [R, B, H, W]."
        )
    found = []
    for resolution, of_images in enumerate(numbers):
        for image, pixels in enumerate(of_images):
            for number in np.unique(pixels):
                places = np.argwhere(pixels == number)
                low, high = places.min(axis=0), places.max(axis=0) + 1
                found.append([resolution, image, number, *low, *(high - low)])
    return np.asarray(found), jnp.asarray(numbers)


@functools.partial(jax.jit, static_argnames="batch_size")
def _rows(body: Any, images: Array, args: Any, groups: Array, boxes: Any, ground: Array, batch_size: int) -> Array:
    """Activations `[S, D]` of segments, each alone and laid over the whole image."""
    size = jnp.asarray(images.shape[1:3])

    def one(box: Array) -> Array:
        image = images[box[1]]
        inside = groups[box[0], box[1]] == box[2]
        alone = jnp.where(inside.reshape(*inside.shape, *[1] * (image.ndim - 2)), image, ground)
        scale = size / box[5:]
        # what lies outside of the box is beyond the edges of the result
        laid = jax.image.scale_and_translate(
            alone, image.shape, (0, 1), scale, -box[3:5] * scale, "linear", antialias=False
        )
        return averaged(body(laid.astype(images.dtype), *jax.tree.map(lambda leaf: leaf[box[1]], args)))

    boxes = jnp.asarray(boxes)
    return jax.lax.map(one, boxes, batch_size=min(batch_size, boxes.shape[0]))
