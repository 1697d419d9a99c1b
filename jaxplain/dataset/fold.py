"""Aggregates folded in the pass over a dataset: one state for each process, merged at the end."""

from __future__ import annotations

import contextlib
import functools
import io
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxplain.aggregate import Aggregator
from jaxplain.dataset.devices import Devices, gathered
from jaxplain.dataset.fingerprint import arrays_of, settings_of
from jaxplain.dataset.store import write_whole
from jaxplain.program.trace import digest

NAME = "explain_dataset"

SHARE = 20.0
"""A state is saved again once this many times the time of the last saving has passed."""


class Fold:
    """An aggregator with the state of this process.

    It is fed with batches that lie on this process's devices, or, `on_host`, with arrays of the host.
    """

    def __init__(
        self, aggregator: Aggregator, record: dict[str, Any], devices: Devices, *, on_host: bool = False
    ) -> None:
        if not isinstance(aggregator, Aggregator):
            raise TypeError(
                f"{NAME}: `aggregate` is {type(aggregator).__name__}; pass an aggregator such as "
                "jaxplain.aggregate.moments(), or several by jaxplain.aggregate.combine(name=...)."
            )
        self._aggregator = aggregator
        self._devices, self._on_host = devices, on_host
        self._name = digest(repr((settings_of(aggregator), arrays_of(aggregator), jax.tree.map(str, record))).encode())
        whole = record.get("whole", record["attribution"])
        with self._context():
            self.state: Any = aggregator.init(jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), whole))
            self._start = jax.eval_shape(lambda: self.state)
            if not on_host:  # a state of zeros may hold one array twice, and what is given away must be one's own
                self.state = jax.tree.map(lambda leaf: jax.numpy.array(leaf, copy=True), self.state)

    def _context(self) -> contextlib.AbstractContextManager[Any]:
        """What is active around computations: the mesh of the batches' devices, or none."""
        if not self._on_host:
            return self._devices.own_context()
        return contextlib.nullcontext() if self._devices.mesh is None else jax.set_mesh(None)

    def update(self, record: dict[str, Any], positions: np.ndarray, mask: np.ndarray) -> Any:
        """Take a batch of records in, without waiting for it; returns a number that is there once that is done.

        A state on the devices is written over by the next, which needs no room of its own.
        """
        given = {
            "attribution": record.get("whole", record["attribution"]),
            "label": record.get("label", record.get("target")),
            "score": record.get("score"),
            "index": positions.astype(np.int32),
            "mask": mask,
        }
        with self._context():
            update = _update if self._on_host else _update_in_place
            self.state, done = update(self._aggregator, self.state, given)
        return done

    def save(self, path: Path, state: Any, covered: Iterable[int]) -> None:
        """Write a state and the chunks that it holds, whole or not at all."""
        buffer = io.BytesIO()
        values = [np.ascontiguousarray(leaf) for leaf in jax.tree.leaves(state)]
        leaves = {f"leaf_{i}": value.reshape(-1).view(np.uint8) for i, value in enumerate(values)}  # of any dtype
        leaves |= {"name": np.array(self._name), "covered": np.array(sorted(covered), np.int64)}
        np.savez(buffer, **leaves)  # type: ignore[arg-type]
        write_whole(path, buffer.getvalue())

    def load(self, path: Path) -> tuple[set[int], Any] | None:
        """A state and its chunks; None where there is none, or it is damaged or another aggregator's."""
        leaves, structure = jax.tree.flatten(self._start)
        try:
            with np.load(path) as file:
                if str(file["name"]) != self._name:
                    return None
                saved = [file[f"leaf_{i}"].view(leaf.dtype).reshape(leaf.shape) for i, leaf in enumerate(leaves)]
                return set(file["covered"].tolist()), jax.tree.unflatten(structure, saved)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # then its chunks are taken in again
            return None

    def merged(self, one: Any, other: Any) -> Any:
        """Two states as one."""
        with self._context():
            return _merge(self._aggregator, one, other)

    def result(self, *, counts: bool, base: Any = None) -> Any:
        """The aggregate over all processes whose state counts, and of a state beside them."""
        states = gathered(jax.tree.map(np.asarray, (counts, self.state)))
        counted = [*([] if base is None else [base]), *(state for real, state in states if bool(np.asarray(real)))]
        with self._context():
            return self._aggregator.compute(functools.reduce(functools.partial(_merge, self._aggregator), counted))


class Saver:
    """Saves a fold's states at a small share of the run's time."""

    def __init__(self, fold: Fold, path: Path, covered: set[int]) -> None:
        self._fold, self._path, self._covered = fold, path, covered
        self._cost, self._last = 0.0, time.monotonic()

    def due(self) -> bool:
        """Whether enough time has passed."""
        return time.monotonic() - self._last > SHARE * self._cost

    def save(self, state: Any, chunks: Iterable[int]) -> None:
        """Save a state that holds these chunks beside those known before, all of which are on disk."""
        begin = time.monotonic()
        self._covered |= set(chunks)
        self._fold.save(self._path, state, self._covered)
        self._last = time.monotonic()
        self._cost = self._last - begin


def _updated(aggregator: Aggregator, state: Any, batch: dict[str, Any]) -> Any:
    state = aggregator.update(state, **batch)
    return state, [leaf.reshape(-1)[:1] for leaf in jax.tree.leaves(state)]


_update = jax.jit(_updated)  # states that are saved while others are made of them
_update_in_place = jax.jit(_updated, donate_argnums=1)


@jax.jit
def _merge(aggregator: Aggregator, one: Any, other: Any) -> Any:
    return aggregator.merge(one, other)
