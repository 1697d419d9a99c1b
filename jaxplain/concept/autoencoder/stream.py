"""Activations of a layer, batch by batch: read by `split`, shuffled in a buffer, never all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.internals import split
from jaxplain.program import Static, as_function, is_array, public
from jaxplain.types import Array

NAME = "activation_stream"


class ActivationStream:
    """Batches of activations for each epoch's key: `stream(key) -> iterator`. Made by `activation_stream`."""

    def __init__(self, bodies: tuple[Any, ...], batches: Any, batch_size: int, buffer: int, skip: Any) -> None:
        self.bodies: tuple[Any, ...] = bodies
        self.batches: Any = batches
        self.batch_size: int = batch_size
        self.buffer: int = buffer
        self.skip: Any = skip
        leaves, structure = jax.tree.flatten(bodies)  # a module may hold functions among its arrays
        arrays, others = ([leaf if is_array(leaf) == held else None for leaf in leaves] for held in (True, False))
        self.parts: tuple[Any, Static] = arrays, Static((structure, tuple(others)))

    def __repr__(self) -> str:
        layers = ", ".join(repr(body.path) for body in self.bodies)
        return f"activation_stream({layers}, batch_size={self.batch_size}, buffer={self.buffer})"

    def __call__(self, key: Array) -> Iterator[Any]:
        """Shuffled batches `[B, D]` (or pairs of them) of one pass; the same for the same key."""
        seed = np.asarray(jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key)
        order = np.random.default_rng([int(word) for word in seed.reshape(-1)])
        held: list[np.ndarray] = []
        for rows in self._rows(key):
            held = rows if not held else [np.concatenate(pair) for pair in zip(held, rows, strict=True)]
            while len(held[0]) >= self.buffer:
                held = self._shuffled(held, order)
                given = max(1, self.buffer // 2 // self.batch_size) * self.batch_size
                yield from self._cut(held, given)  # half stays, to be mixed with what comes
                held = [part[given:] for part in held]
        if held and len(held[0]):
            yield from self._cut(self._shuffled(held, order), len(held[0]))

    def _shuffled(self, held: list[np.ndarray], order: np.random.Generator) -> list[np.ndarray]:
        places = order.permutation(len(held[0]))
        return [part[places] for part in held]

    def _cut(self, held: list[np.ndarray], count: int) -> Iterator[Any]:
        for start in range(0, count, self.batch_size):
            parts = tuple(part[start : min(start + self.batch_size, count)] for part in held)
            yield parts if len(parts) > 1 else parts[0]

    def _rows(self, key: Array) -> Iterator[list[np.ndarray]]:
        """The activations of each batch of inputs, one row for each place."""
        for batch in self.batches(key) if callable(self.batches) else self.batches:
            args = batch if isinstance(batch, tuple) else (batch,)
            check.batch_length(args, NAME, "batches")
            found = _activations(*self.parts, args)
            keep = None if self.skip is None else ~np.asarray(self.skip(*args), bool).reshape(-1)
            rows = []
            for body, values in zip(self.bodies, found, strict=True):
                if not is_array(values):
                    raise ValueError(f"{NAME}: the layer {body.path!r} holds several arrays; name one: 'path[0]'.")
                if values.ndim < 2:  # a number an example: the batch would be taken for features
                    raise ValueError(
                        f"{NAME}: the layer {body.path!r} holds one number for each example; choose one with features."
                    )
                check.finite(values, NAME, f"activations of {body.path!r}")
                flat = np.asarray(values).reshape(-1, values.shape[-1])
                if keep is not None and len(keep) != len(flat):
                    raise ValueError(f"{NAME}: `skip` answers {len(keep)} places, but a batch has {len(flat)}.")
                rows.append(flat if keep is None else flat[keep])
            if len({len(part) for part in rows}) > 1:
                raise ValueError(f"{NAME}: `layers` have {[len(part) for part in rows]} places a batch, not the same.")
            yield rows


@jax.jit
def _activations(arrays: list[Any], rest: Static, args: tuple[Any, ...]) -> tuple[Any, ...]:
    structure, others = rest.value
    leaves = [other if array is None else array for array, other in zip(arrays, others, strict=True)]
    return tuple(jax.vmap(body)(*args) for body in jax.tree.unflatten(structure, leaves))


@public
def activation_stream(
    f: Callable[..., Any],
    layers: str | tuple[str, str],
    batches: Any,
    *,
    batch_size: int = 256,
    buffer: int = 65_536,
    skip: Callable[..., Any] | None = None,
) -> ActivationStream:
    """Stream a layer's activations in a random order, for `train_autoencoder`.

    Inputs are read batch by batch; activations wait in a buffer in memory, which is shuffled whenever it is full and of
    which half is given out. Nothing is written to disk. The order depends on the epoch's key alone, so that a run that
    is continued sees the same.

    Args:
        f: A score or any function `f(x, *args)`, of one example.
        layers: The path of a layer, as in `capture`; two of them give pairs, for a transcoder.
        batches: An iterable of batches of inputs `[B, ...]`, or tuples `(x, *args)` of them, such as
            `jaxplain.data.batches`; or a function of a key that makes one.
        batch_size: Activations in a batch.
        buffer: Activations in the buffer, at least two batches.
        skip: `skip(x, *args) -> [B, ...]`, True for places that are left out (padding).

    Returns:
        `stream(key) -> iterator` of batches `[batch_size, D]`. Cost: the part of a forward pass before the layer, for
        each input; memory for the buffer and one batch.

    Raises:
        ValueError: As in `split`; a buffer of less than two batches; NaN activations; places that do not match.
        TypeError: An iterator, which is spent after one pass.

    Source: Bricken et al. 2023, "Towards monosemanticity", appendix (a shuffled buffer).
    """
    size, held = check.count(batch_size, NAME, "batch_size"), check.count(buffer, NAME, "buffer")
    if held < 2 * size:
        raise ValueError(f"{NAME}: `buffer` is {held}, but has to hold at least two batches of {size}.")
    if not callable(batches) and (not isinstance(batches, Iterable) or isinstance(batches, str | dict)):
        raise TypeError(f"{NAME}: `batches` is {check.short(batches)}; pass an iterable of batches of inputs.")
    if not callable(batches) and iter(batches) is batches:
        raise TypeError(
            f"{NAME}: `batches` is an iterator, which is spent after one pass. Pass a list, or a function of a "
            "key that makes a new one."
        )
    names = (layers,) if isinstance(layers, str) else tuple(layers)
    if not 1 <= len(names) <= 2:
        raise ValueError(f"{NAME}: `layers` names {len(names)} layers; pass one, or two for a transcoder.")
    function = as_function(check.callable_score(f, NAME))
    return ActivationStream(tuple(split(function, name)[0] for name in names), batches, size, held, skip)
