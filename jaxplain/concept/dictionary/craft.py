"""CRAFT: concepts by factorising activations of crops or tokens, what each does to the score, what it is made of."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.concept.dictionary.base import Dictionary
from jaxplain.concept.dictionary.factorization import factorized, non_negative_rows, require_non_negative
from jaxplain.concept.dictionary.nonnegative import NonNegativeDictionary
from jaxplain.concept.dictionary.rows import (
    Pieces,
    crop_rows,
    cropped,
    image_pieces,
    layer_pieces,
    layer_values,
    one_array,
    shared_args,
)
from jaxplain.concept.dictionary.site import layer_site
from jaxplain.concept.dictionary.sobol import design, masked_indices
from jaxplain.internals import split
from jaxplain.program import as_function, public
from jaxplain.types import Array, Arrays


class Craft(NamedTuple):
    """Concepts of a layer, with the pieces that they were found in.

    dictionary: Its k concepts, those that explain most of the activations first.
    codes: `[R, k]`, of each piece.
    examples, corners: `[R]` and `[R, A]`, which example a piece is of, and where: the upper left pixel of a crop, or
        the place in the layer.
    window: The side of a crop in pixels; None where pieces are places of the layer.
    importance: `[k]`, total Sobol index of each concept, the mean over the examples whose score varies with concepts.
    totals: `[B, k]`, of each example; NaN where its score does not vary.
    losses: Of the factorisation, `[steps + 1]`.
    """

    dictionary: Dictionary
    codes: Any
    examples: Any
    corners: Any
    window: int | None
    importance: Any
    totals: Any
    losses: Any

    def __repr__(self) -> str:
        shares = ", ".join(f"{float(value):.2g}" for value in self.importance[:5])
        more = ", ..." if len(self.importance) > 5 else ""
        kind = "places" if self.window is None else f"crops of {self.window} x {self.window}"
        return f"Craft({self.dictionary!r}, {len(self.codes)} {kind}, importance=[{shares}{more}])"


@public
def craft(
    f: Callable[..., Any],
    layer: str,
    x: Arrays,
    *args: Any,
    k: int = 10,
    window: int | None = None,
    stride: int | None = None,
    key: Array | None = None,
    steps: int = 500,
    samples: int = 32,
    batch_size: int = 64,
) -> Craft:
    """Find the concepts of a layer on some examples, best of one class, and what each does to the score.

    Crops of the images are resized to the images' size, their activations averaged over the layer's places and
    factorised into k non-negative concepts. Then the codes at each place of every whole example are masked, concept by
    concept, and the score of what they decode to gives total Sobol indices.

    Args:
        f: A score `f(x, *args) -> scalar`.
        layer: The path of a layer with non-negative values (after a ReLU), as in `capture`.
        x: The examples, `[B, ...]` on every leaf.
        *args: The score's other arguments, `[B, ...]`, or one number for all.
        k: How many concepts.
        window: Side of the square crops, in pixels. None takes every place of the layer for a piece: for tokens, and
            for layers whose receptive fields are small.
        stride: From one crop to the next, in pixels; None is 0.8 windows. The last of a line ends at the border.
        key: PRNG key of the factorisation's start and of the masks' shift; None is the deterministic start and the
            sequence as it is.
        steps: Most steps of the factorisation.
        samples: Points of a Sobol design.
        batch_size: Crops, examples or masks at once.

    Returns:
        `Craft`. Cost: a forward pass for each crop; 6 R k D operations a step; (k + 1) samples passes of the part after
        the layer for each example.

    Raises:
        ValueError: Negative activations (their number and place), a layer that is constant on the examples, k above the
            number of pieces or features, a window larger than the images, NaN.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("parts"):
        ...         h = jax.nn.relu(x)
        ...     return h[:, 0].sum()
        >>> found = craft(f, "parts", jnp.array([[[2.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 3.0]]]), k=2)
        >>> found.dictionary.atoms.round(2).tolist(), found.importance.argmax().item()
        ([[0.0, 1.0], [1.0, 0.0]], 1)

    Source: Fel et al. 2023, "CRAFT: concept recursive activation factorization for explainability".
    """
    name = "craft"
    f = as_function(check.callable_score(f, name))
    counts = {"k": k, "steps": steps, "samples": samples, "batch_size": batch_size}
    count = _checked(x, window, stride, counts, name)
    given = shared_args(args, count, name)
    pieces = None if window is None else image_pieces(x, window, stride, name)[1]
    return _discovered(_Task(f, layer, x, given, window, batch_size, name), pieces, k, key, steps, samples)


@public
def sub_concepts(
    found: Craft,
    f: Callable[..., Any],
    layer: str,
    x: Arrays,
    *args: Any,
    concept: int,
    k: int = 3,
    fraction: float = 0.1,
    key: Array | None = None,
    steps: int = 500,
    samples: int = 32,
    batch_size: int = 64,
) -> Craft:
    """Take a concept apart at a former layer: concepts of the pieces in which it is strongest.

    Args:
        found: What `craft` (or this function) found at a later layer.
        f: The score that it was found for.
        layer: The path of a former layer with non-negative values. Where pieces are places, it needs the same places.
        x: The examples that it was found on.
        *args: As in `craft`.
        concept: Which concept, from 0.
        k: How many concepts to take it apart into.
        fraction: The share of the pieces that are taken, those with the highest codes; at least 2 k are, if the code of
            so many is above zero.
        key: As in `craft`.
        steps: As in `craft`.
        samples: As in `craft`.
        batch_size: As in `craft`.

    Returns:
        `Craft` of the chosen pieces, its importance over the examples that they are of. Cost: as `craft` of so many
        pieces.

    Raises:
        ValueError: As `craft`; a concept that is not there, or is active in fewer than k pieces; other examples.

    Source: Fel et al. 2023, "CRAFT", section 3.2 (recursion).
    """
    name = "sub_concepts"
    f = as_function(check.callable_score(f, name))
    counts = {"k": k, "steps": steps, "samples": samples, "batch_size": batch_size}
    count = _checked(x, found.window, None, counts, name)
    given = shared_args(args, count, name)
    if not 0 <= check.count(concept, name, "concept", 0) < found.codes.shape[1]:
        raise ValueError(f"{name}: `concept` is {concept}, but there are {found.codes.shape[1]}, from 0.")
    if not 0 < fraction <= 1:
        raise ValueError(f"{name}: `fraction` has to lie above 0 and be at most 1, not {fraction}.")
    if int(np.max(found.examples)) >= count or len(found.totals) > count:
        raise ValueError(f"{name}: `x` has {count} examples, but `found` is of {len(found.totals)}. Pass the same.")
    _same_places(found, f, layer, x, given, name)
    codes = np.asarray(found.codes[:, concept])
    active = int((codes > 0).sum())
    if active < k:
        raise ValueError(
            f"{name}: concept {concept} is active in {active} of {len(codes)} pieces, too few for {k} concepts."
        )
    size = min(active, max(2 * k, round(fraction * len(codes))))
    chosen = np.sort(np.argsort(-codes, kind="stable")[:size])
    pieces = Pieces(jnp.asarray(found.examples)[chosen], jnp.asarray(found.corners)[chosen])
    task = _Task(f, layer, x, given, found.window, batch_size, name)
    return _discovered(task, pieces, k, key, steps, samples)


@public
def top_crops(found: Craft, x: Arrays, k: int = 6) -> Array:
    """Cut out the crops in which each concept is strongest.

    Args:
        found: What `craft` found with a `window`.
        x: The images that it was found on, `[B, H, W]` or `[B, H, W, C]`.
        k: How many for each concept.

    Returns:
        `[M, k, window, window, ...]`, strongest first, ties by the first. Cost: one sort.

    Raises:
        ValueError: Concepts of places and not of crops, more than there are.
    """
    name = "top_crops"
    if found.window is None:
        raise ValueError(
            f"{name}: the pieces of `found` are places of a layer, not crops. Call `craft` with a `window`, or use "
            "`found.dictionary.top_examples`."
        )
    window, k = found.window, check.count(k, name, "k")
    images, _ = image_pieces(x, window, None, name)
    if k > len(found.codes):
        raise ValueError(f"{name}: `k` is {k}, but there are {len(found.codes)} crops.")
    best = jnp.argsort(-found.codes, axis=0, stable=True)[:k].T
    cut = jax.vmap(jax.vmap(lambda e, c: cropped(images, e, c, window)))
    return cut(jnp.asarray(found.examples)[best], jnp.asarray(found.corners)[best])


def _same_places(found: Craft, f: Any, layer: str, x: Any, args: Any, name: str) -> None:
    """Require the model that concepts were found in, and of places of a layer a former layer with the same ones."""
    one = jax.tree.map(lambda leaf: leaf[0], (x, args))
    site, here = found.dictionary.site, layer_site(f, layer, one[0], *one[1])
    if site is None:
        raise ValueError(f"{name}: the dictionary of `found` says no layer; pass what `craft` returned.")
    if here.model != site.model:
        raise ValueError(
            f"{name}: `found` is of a model with the fingerprint {site.model[:8]}, but that of `f` is {here.model[:8]}."
        )
    if found.window is None:
        shapes = [jax.eval_shape(split(f, path)[0], one[0], *one[1]).shape[:-1] for path in (site.layer, layer)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"{name}: the pieces are places of {site.layer!r}, {list(shapes[0])}, but {layer!r} has the places "
                f"{list(shapes[1])}. Choose a layer with the same ones, or find the concepts in crops (`window`)."
            )


class _Task(NamedTuple):
    """What is looked for, and where."""

    f: Any
    layer: str
    x: Any
    args: tuple[Any, ...]
    window: int | None
    batch_size: int
    name: str


def _checked(x: Any, window: Any, stride: Any, counts: dict[str, Any], name: str) -> int:
    """Hold the arguments; the number of examples."""
    count = check.batch_length(x, name)
    check.finite(x, name)
    for argument, value in counts.items():
        check.count(value, name, argument, 2 if argument == "samples" else 1)
    if window is None and stride is not None:
        raise ValueError(f"{name}: `stride` is {stride}, but without a `window` there are no crops.")
    return count


def _discovered(task: _Task, pieces: Any, k: int, key: Any, steps: int, samples: int) -> Craft:
    """The concepts of pieces, all places of the layer where there are none, and their importance."""
    name = task.name
    body, head = split(task.f, task.layer)
    x = jax.tree.map(jnp.asarray, task.x)
    used = slice(None) if pieces is None else np.unique(np.asarray(pieces.examples))
    h = layer_values(body, *jax.tree.map(lambda leaf: leaf[used], (x, task.args)), task.batch_size)
    h = one_array(h, task.layer, name)
    require_non_negative(h.reshape(-1, h.shape[-1]), name, task.layer)  # a crop's mean could hide it
    if task.window is not None:
        rows = crop_rows(body, x, task.args, pieces, task.window, task.batch_size)
    else:
        rows, pieces = _at_places(h, pieces, used, task)
    a = non_negative_rows(rows, k, name, task.layer)
    start, shift = (None, None) if key is None else jax.random.split(key)
    found = factorized(a, start, None, jnp.asarray(1e-6, a.dtype), k, steps)
    first = jax.tree.map(lambda leaf: leaf[0], (x, task.args))
    dictionary = NonNegativeDictionary(found.atoms, site=layer_site(task.f, task.layer, first[0], *first[1]))
    inputs = jax.tree.map(lambda leaf: leaf[used], (x, task.args))
    totals = _totals(dictionary, head, h, inputs, design(k, samples, shift, "sobol"), task.batch_size)
    moving = ~jnp.isnan(totals)
    importance = jnp.sum(jnp.where(moving, totals, 0), axis=0) / jnp.sum(moving, axis=0)
    examples, corners = pieces
    return Craft(dictionary, found.codes, examples, corners, task.window, importance, totals, found.losses)


def _at_places(h: Array, pieces: Pieces | None, used: Any, task: _Task) -> tuple[Array, Pieces]:
    """Rows of the layer's places: all, or those of chosen pieces of a later layer."""
    axes = h.shape[1:-1]
    if pieces is None:
        return h.reshape(-1, h.shape[-1]), layer_pieces(h.shape[0], axes)
    place = np.searchsorted(used, np.asarray(pieces.examples))
    return h[(place, *np.asarray(pieces.corners).T)], pieces


@functools.partial(jax.jit, static_argnames="batch_size")
def _totals(dictionary: Dictionary, head: Any, h: Array, inputs: Any, designs: Any, batch_size: int) -> Array:
    """Total indices of every example, `[B, k]`."""

    def one(row: Any) -> Array:
        values, (x, args) = row
        return masked_indices(dictionary, head, values, (x, *args), designs, batch_size, "craft").total

    return jax.lax.map(one, (h, inputs))
