"""Loops over the points that a method evaluates, a chunk at a time, so that memory does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain.types import Array, Pytree


def wide_dtype(dtype: Any) -> Any:
    """The dtype in which values of `dtype` are summed: float32 or wider."""
    return jnp.promote_types(dtype, jnp.float32)


def widen(tree: Pytree) -> Pytree:
    """Cast floating-point leaves to float32 or wider."""
    return jax.tree.map(
        lambda leaf: leaf.astype(wide_dtype(leaf.dtype)) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree
    )


def points_at_once(batch_size: int | None) -> int:
    """The number asked for, or one point where nobody who knows the device has chosen (`filled`)."""
    return 1 if batch_size is None else batch_size


def chunked(fold: Callable[..., Any], init: Any, items: Pytree, batch_size: int | None) -> Any:
    """Fold over items a chunk at a time: `carry = fold(carry, chunk, mask)`.

    The last chunk is filled up with copies of the last item, and `mask` (`[size]`, bool) says which are real:
    copies of a real item are as finite as the item itself.

    Args:
        fold: `(carry, chunk, mask) -> carry`, with a leading axis of the chunks' size on the chunk's leaves.
        init: The first carry.
        items: A pytree with a common leading axis, at least 1.
        batch_size: The most items that a chunk holds; chunks are made equal.

    Returns:
        The last carry. Cost: ceil(items / batch_size) calls of `fold`, in one `lax.scan`.
    """
    padded, mask = _in_chunks(items, batch_size)
    if len(mask) == 1:
        return fold(init, jax.tree.map(lambda leaf: leaf[0], padded), mask[0])
    return lax.scan(lambda carry, step: (fold(carry, *step), None), init, (padded, mask))[0]


def _in_chunks(items: Pytree, batch_size: int | None) -> tuple[Pytree, Array]:
    """Items with two leading axes, `[chunks, size]`, and which of them are no copies."""
    total = jax.tree.leaves(items)[0].shape[0]
    size = chunk_size(total, batch_size)
    chunks = -(-total // size)
    index = jnp.minimum(jnp.arange(chunks * size), total - 1)
    padded = jax.tree.map(lambda leaf: leaf[index].reshape(chunks, size, *leaf.shape[1:]), items)
    return padded, (jnp.arange(chunks * size) < total).reshape(chunks, size)


def chunked_map(function: Callable[..., Any], items: Pytree, batch_size: int | None) -> Any:
    """`function` of every item, at most `batch_size` at a time in one `lax.scan`: memory does not grow with them."""
    total = jax.tree.leaves(items)[0].shape[0]
    if chunk_size(total, batch_size) == 1:  # without `vmap`, which makes grouped convolutions of items that are kernels
        return lax.scan(lambda carry, item: (carry, function(item)), None, items)[1]
    _, values = lax.scan(
        lambda carry, chunk: (carry, jax.vmap(function)(chunk)), None, _in_chunks(items, batch_size)[0]
    )
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:total], values)


def side_by_side(term: Callable[..., Pytree], *chunk: Any) -> Pytree:
    """`term` of each item of a chunk, side by side, with a leading axis on the results.

    A chunk of one item is evaluated without that axis: a compiler that has to simplify it away may fail to, as XLA's
    for GPUs did on a difference of arrays with and without it under two `vmap`s.
    """
    if jax.tree.leaves(chunk)[0].shape[0] > 1:
        return jax.vmap(term)(*chunk)
    return jax.tree.map(lambda leaf: leaf[None], term(*jax.tree.map(lambda leaf: leaf[0], chunk)))


def chunked_sum(term: Callable[[Any], Pytree], items: Pytree, batch_size: int | None) -> Pytree:
    """The sum of `term(item)` over items, `batch_size` terms evaluated at once and summed in float32 or wider.

    Args:
        term: From one item (a leaf without its leading axis) to a pytree of arrays.
        items: A pytree with a common leading axis.
        batch_size: How many terms are evaluated at once, by `jax.vmap`.

    Returns:
        The sum, of the structure of a term. Cost: one evaluation of `term` per item (rounded up to whole chunks).
    """

    def fold(carry: Pytree, chunk: Any, mask: Array) -> Pytree:
        terms = widen(side_by_side(term, chunk))
        return jax.tree.map(lambda total, part: total + masked(part, mask).sum(axis=0), carry, terms)

    one = jax.eval_shape(term, jax.tree.map(lambda leaf: leaf[0], items))
    init = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, wide_dtype(leaf.dtype)), one)
    return chunked(fold, init, items, batch_size)


def chunked_moments(term: Callable[[Any], Pytree], items: Pytree, batch_size: int | None) -> tuple[Pytree, Pytree]:
    """Mean and sum of squared deviations of `term(item)` over items, merged chunk by chunk (Chan et al. 1979).

    Nothing is subtracted from a large sum of squares, so a small variance beside a large mean stays right.

    Args:
        term: As in `chunked_sum`.
        items: As in `chunked_sum`.
        batch_size: As in `chunked_sum`.

    Returns:
        (mean, m2), each of a term's structure, in float32 or wider. Cost: as `chunked_sum`.
    """

    def fold(carry: Moments, chunk: Any, mask: Array) -> Moments:
        return merge_moments(carry, side_by_side(term, chunk), mask)

    one = jax.eval_shape(term, jax.tree.map(lambda leaf: leaf[0], items))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, wide_dtype(leaf.dtype)), one)
    moments = chunked(fold, Moments(jnp.zeros(()), zeros, zeros), items, batch_size)
    return moments.mean, moments.square


class Moments(NamedTuple):
    """How many terms, their mean, and their sum of squared deviations, each of a term's structure."""

    terms: Array
    mean: Pytree
    square: Pytree


def merge_moments(moments: Moments, terms: Pytree, mask: Array) -> Moments:
    """Moments with a chunk of terms (a leading axis on every leaf, of which `mask` says what counts) taken in."""
    terms, new = widen(terms), mask.sum().astype(jnp.float32)
    means = jax.tree.map(lambda part: masked(part, mask).sum(axis=0) / new, terms)
    squares = jax.tree.map(lambda p, m: masked(jnp.square(p - m[None]), mask).sum(axis=0), terms, means)
    total = moments.terms + new
    delta = jax.tree.map(jnp.subtract, means, moments.mean)

    def share(leaf: Array) -> Array:  # in the leaf's own precision
        return new.astype(leaf.dtype) / total.astype(leaf.dtype)

    mean = jax.tree.map(lambda m, d: m + d * share(d), moments.mean, delta)
    square = jax.tree.map(
        lambda a, b, d: a + b + jnp.square(d) * moments.terms.astype(d.dtype) * share(d), moments.square, squares, delta
    )
    return Moments(total, mean, square)


def masked(values: Array, mask: Array) -> Array:
    """Values with zeros where the leading axis' mask is False."""
    return jnp.where(mask.reshape(mask.shape + (1,) * (values.ndim - 1)), values, jnp.zeros_like(values))


def chunk_size(total: int, batch_size: int | None) -> int:
    """The largest size of chunks, at most `batch_size`, that divides `total` items with the least filling up."""
    return -(-total // -(-total // min(points_at_once(batch_size), total)))


def fold_range(fold: Callable[..., Any], init: Any, total: int, batch_size: int | None) -> Any:
    """Fold over the numbers 0 to total-1 a chunk at a time, without an array: `carry = fold(carry, index, mask)`.

    Args:
        fold: `(carry, index, mask) -> carry`, both `[size]`; numbers beyond the last are the last one, masked out.
        init: The first carry.
        total: How many numbers, at least 1.
        batch_size: The most that a chunk holds; chunks are made equal.

    Returns:
        The last carry. Memory does not depend on `total`.
    """
    size = chunk_size(total, batch_size)
    chunks = -(-total // size)

    def step(carry: tuple[Any, Array], _: None) -> tuple[tuple[Any, Array], None]:
        inner, start = carry
        index = start + jnp.arange(size, dtype=jnp.int32)
        return (fold(inner, jnp.minimum(index, total - 1), index < total), start + size), None

    start = (init, jnp.zeros((), jnp.int32))
    return step(start, None)[0][0] if chunks == 1 else lax.scan(step, start, None, length=chunks)[0][0]


def map_range(function: Callable[[Array], Array], total: int, batch_size: int | None) -> Array:
    """`function` of the numbers 0 to total-1, `[total, ...]`, at most `batch_size` evaluated at once by `jax.vmap`."""
    size = chunk_size(total, batch_size)
    chunks = -(-total // size)

    def step(start: Array, _: None) -> tuple[Array, Array]:
        index = jnp.minimum(start + jnp.arange(size, dtype=jnp.int32), total - 1)
        return start + size, side_by_side(function, index)

    _, values = lax.scan(step, jnp.zeros((), jnp.int32), None, length=chunks)
    return values.reshape(chunks * size, *values.shape[2:])[:total]
