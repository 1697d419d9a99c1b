"""Parameters kept at some steps of a training run: which steps, how a loop keeps them, and what the caller gets."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.types import Array, Pytree


class Snapshots(NamedTuple):
    """Parameters at some steps of a training run, the field `snapshots` of what `fit` returns.

    steps: `[S]` whole numbers, rising: how many updates had been made. 0 is the start.
    params: What `apply` takes, with a leading axis S on every leaf.
    """

    steps: Any
    params: Pytree

    def __repr__(self) -> str:
        """One line: the steps, and how many numbers each holds."""
        steps = self.steps if not check.is_concrete(self.steps) else np.asarray(self.steps).tolist()
        sizes = [np.size(leaf) // max((*np.shape(leaf)[:1], 1)) for leaf in jax.tree.leaves(self.params)]
        return f"Snapshots(steps={check.short(steps)}, {sum(sizes):,} numbers each)"


class Album(NamedTuple):
    """Room for the params of some steps while a loop runs.

    steps: `[M]`, -1 where a row is not needed.
    params: `[M + 1, ...]` on every leaf. Every step writes a row, so that the loop needs no branch; the last row is
        that of the steps nobody asked for.
    """

    steps: Array
    params: Pytree


def empty_album(steps: Array, params: Pytree) -> Album:
    """Rows for these steps; floating-point ones hold NaN until their step comes."""

    def room(leaf: Any) -> Array:
        leaf = jnp.asarray(leaf)
        rows = (len(steps) + 1, *leaf.shape)
        return jnp.full(rows, jnp.nan, leaf.dtype) if check.is_floating(leaf) else jnp.broadcast_to(leaf[None], rows)

    return Album(steps, jax.tree.map(room, params))


def record(album: Album, params: Pytree, step: Array) -> Album:
    """Write the params after a step into its row."""
    mine = album.steps == step
    row = jnp.where(jnp.any(mine), jnp.argmax(mine), len(album.steps))
    rows = jax.tree.map(
        lambda room, leaf: jax.lax.dynamic_update_index_in_dim(room, jnp.asarray(leaf), row, 0), album.params, params
    )
    return Album(album.steps, rows)


def filled_rows(album: Album) -> Pytree:
    """The rows that were asked for, `[M, ...]`."""
    return jax.tree.map(lambda room: room[: len(album.steps)], album.params)


def as_steps(snapshots: Sequence[int], last: int | None, run: str) -> tuple[int, ...]:
    """The steps to keep, as rising whole numbers from 0 to the last one, where that is known.

    Args:
        snapshots: Whole numbers.
        last: The number of steps of the run, or None.
        run: What makes that number, for the error.

    Raises:
        TypeError: They are being traced.
        ValueError: An empty one, steps that do not rise, a negative one or one beyond the last.
    """
    if not check.is_concrete(snapshots):
        raise TypeError("fit: `snapshots` is being traced; pass steps that are known before the run, [0, 10, 100].")
    steps = tuple(map(int, snapshots))
    if not steps:
        raise ValueError("fit: `snapshots` is empty; pass the steps to keep, or None for none.")
    if min(steps) < 0:
        raise ValueError(f"fit: `snapshots` holds {min(steps)}; steps are counted from 0, the start of the run.")
    for first, second in itertools.pairwise(steps):
        if second <= first:
            said = f"{first} twice" if first == second else f"{first} before {second}"
            raise ValueError(f"fit: `snapshots` holds {said}; pass each step once, rising: sorted(set(steps)).")
    if last is not None and steps[-1] > last:
        raise ValueError(
            f"fit: `snapshots` holds step {steps[-1]}, but the run has {last} steps ({run}). Step 0 is its start, step "
            f"{last} its end."
        )
    return steps


def stack_of(snapshots: Any, name: str) -> tuple[Any, Pytree]:
    """The steps and the stacked params of `Snapshots`, or of any params with a common leading axis, numbered from 0.

    Raises:
        ValueError: None in it, or leaves of several lengths.
        TypeError: None at all, as of a `fit` that kept none.
    """
    if snapshots is None:
        raise TypeError(
            f"{name}: `snapshots` is None; pass the snapshots of a run that kept some, fit(..., snapshots=[0, 100])"
            ".snapshots."
        )
    given = isinstance(snapshots, Snapshots)
    params = snapshots.params if given else snapshots
    leaves = jax.tree.leaves(params)
    odd = check.odd_leaf(params)
    if odd is not None or not leaves:
        raise TypeError(
            f"{name}: `snapshots` is {check.short(snapshots)}; pass what fit(..., snapshots=) returned as .snapshots, "
            "or params with a leading axis of checkpoints on every leaf."
        )
    lengths = {jnp.shape(leaf)[:1] for leaf in leaves}
    if len(lengths) > 1 or () in lengths:
        shapes = sorted({str(jnp.shape(leaf)) for leaf in leaves})
        raise ValueError(
            f"{name}: the leaves of `snapshots` need one leading axis of checkpoints, but have the shapes "
            f"{', '.join(shapes[:6])}. Stack params by jax.tree.map(lambda *leaves: jnp.stack(leaves), *checkpoints)."
        )
    (length,) = lengths.pop()
    if length == 0:
        raise ValueError(f"{name}: `snapshots` is empty: the run ended before the first of the steps to keep.")
    return (snapshots.steps if given else np.arange(length)), params
