"""Aggregates folded in the pass over a dataset: one state for each process, saved now and then, merged at the end."""

from __future__ import annotations

import functools
import io
import time
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxplain.aggregate import Aggregator
from jaxplain.dataset.devices import Devices, gathered
from jaxplain.dataset.fingerprint import arrays_of, settings_of
from jaxplain.dataset.ledger import Finished
from jaxplain.dataset.record import named
from jaxplain.dataset.store import Store, write_whole
from jaxplain.program.trace import digest

NAME = "explain_dataset"

SHARE = 20.0
"""A state is saved again once this many times the time of the last saving has passed."""


class Fold:
    """An aggregator with the state of this process."""

    def __init__(self, aggregator: Aggregator, record: dict[str, Any], devices: Devices) -> None:
        if not isinstance(aggregator, Aggregator):
            raise TypeError(
                f"{NAME}: `aggregate` is {type(aggregator).__name__}; pass an aggregator such as "
                "jaxplain.aggregate.moments(), or several by jaxplain.aggregate.combine(name=...)."
            )
        self._aggregator, self._devices = aggregator, devices
        self._name = digest(repr((settings_of(aggregator), arrays_of(aggregator), jax.tree.map(str, record))).encode())
        whole = record.get("whole", record["attribution"])
        with devices.own_context():
            self.state: Any = aggregator.init(jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), whole))

    def update(self, record: dict[str, Any], positions: np.ndarray, mask: np.ndarray) -> Any:
        """Take a batch of records in, without waiting for it; returns the state."""
        given = {
            "attribution": record.get("whole", record["attribution"]),
            "label": record.get("label", record.get("target")),
            "score": record.get("score"),
            "index": positions.astype(np.int32),
            "mask": mask,
        }
        with self._devices.own_context():
            self.state = _update(self._aggregator, self.state, given)
        return self.state

    def save(self, path: Path, state: Any, covered: Iterable[int]) -> None:
        """Write a state and the chunks that it holds, whole or not at all."""
        buffer = io.BytesIO()
        leaves = {f"leaf_{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
        leaves |= {"name": np.array(self._name), "covered": np.array(sorted(covered), np.int64)}
        np.savez(buffer, **leaves)  # type: ignore[arg-type]
        write_whole(path, buffer.getvalue())

    def resume(self, folder: Path, finished: Iterable[int], *, holds: bool) -> set[int]:
        """Take up what was saved, by all processes of the last run; returns the chunks it holds.

        A chunk that is not finished, though a state holds it, was damaged since: that state does not count. `holds`
        says whether this process is to hold the sum; it then replaces the files by one.
        """
        found, finished = self._saved(folder), set(finished)
        covered: set[int] = set()
        for chunks, state in sorted(found, key=lambda item: -len(item[0])):
            if chunks <= finished and not chunks & covered:
                covered |= chunks
                if holds:
                    with self._devices.own_context():
                        self.state = _merge(self._aggregator, self.state, state)
        if holds:
            self.save(folder / "aggregate-0.npz", self.state, covered)
            for path in folder.glob("aggregate-*.npz"):
                if path.name != "aggregate-0.npz":
                    path.unlink()
        return covered

    def read_back(self, store: Store, entries: Iterable[Finished], shapes: Mapping[str, Any]) -> None:
        """Take in chunks that are written, as the method gave them."""
        used = {name: tree for name, tree in shapes.items() if name in ("attribution", "label", "target", "score")}
        for entry in entries:
            place = np.minimum(
                np.arange(store.chunk), entry.rows - 1
            )  # one shape for all, the last short one filled up
            positions = entry.chunk * store.chunk + place
            leaves = [store.read(name, positions) for name in named(used)]
            record = jax.tree.unflatten(jax.tree.structure(used), leaves)
            self.update(record, positions, np.arange(store.chunk) < entry.rows)

    def _saved(self, folder: Path) -> list[tuple[set[int], Any]]:
        leaves, structure = jax.tree.flatten(self.state)
        found = []
        for path in sorted(folder.glob("aggregate-*.npz")):
            try:
                with np.load(path) as file:
                    if str(file["name"]) != self._name:
                        continue
                    saved = [file[f"leaf_{i}"] for i in range(len(leaves))]
                    found.append((set(file["covered"].tolist()), jax.tree.unflatten(structure, saved)))
            except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # then its chunks are explained again
                continue
        return found

    def result(self, *, counts: bool) -> Any:
        """The aggregate over all processes whose state counts."""
        states = gathered(jax.tree.map(np.asarray, (counts, self.state)))
        counted = [state for real, state in states if bool(np.asarray(real))]
        with self._devices.own_context():
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


@jax.jit
def _update(aggregator: Aggregator, state: Any, batch: dict[str, Any]) -> Any:
    return aggregator.update(state, **batch)


@jax.jit
def _merge(aggregator: Aggregator, one: Any, other: Any) -> Any:
    return aggregator.merge(one, other)
