"""Aggregates of a run in a folder: chunks folded in their order, so that no kill and no batch size changes a bit."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxplain.dataset.devices import Devices
from jaxplain.dataset.fold import Fold, Saver
from jaxplain.dataset.ledger import Finished
from jaxplain.dataset.record import named
from jaxplain.dataset.store import Store

_BASE = "aggregate-base.npz"
_LANE = re.compile(r"aggregate-(\d+)-of-(\d+)\.npz")


class Lanes:
    """The states that a folder holds: one for each group of processes, of the chunks that are its own.

    Chunk n is of lane n modulo the number of groups, whoever is to compute it, and a lane folds its chunks in order. A
    state counts where it holds the first chunks of its lane. What another number of groups has left becomes one state
    beside them, the base, whose chunks no lane takes in again.
    """

    def __init__(self, folder: Path, fold: Fold, finished: Mapping[int, Finished], groups: int) -> None:
        self._folder, self._fold, self._finished, self._groups = folder, fold, set(finished), groups
        self.base: set[int] = set()
        self._base_state: Any = None

    def tidy(self) -> None:
        """Merge what is of another number of groups into the base; one process does it, before others look."""
        base = self._load(_BASE)
        foreign = [path for path in self._folder.glob("aggregate-*.npz") if self._is_foreign(path.name)]
        if not foreign and (base is None) == (not (self._folder / _BASE).exists()):
            return
        covered, state = (set(), self._fold.state) if base is None else base
        found = [self._load(path.name) for path in foreign]
        for chunks, other in sorted((pair for pair in found if pair), key=lambda pair: -len(pair[0])):
            if not chunks & covered:
                covered, state = covered | chunks, self._fold.merged(state, other)
        self._fold.save(self._folder / _BASE, state, covered)
        for path in foreign:
            path.unlink()

    def take_base(self) -> None:
        """Read the base, after `tidy`."""
        base = self._load(_BASE)
        if base is not None and base[0]:
            self.base, self._base_state = base

    def covered(self, lane: int, *, take: bool = False) -> set[int]:
        """The chunks that a lane's state holds; with `take` the fold goes on from that state."""
        found = self._load(self.path(lane).name)
        if found is None:
            return set()
        first = range(lane, max(found[0], default=-1) + 1, self._groups)
        if found[0] != set(first) - self.base:
            return set()
        if take:
            self._fold.state = found[1]
        return found[0]

    def path(self, lane: int) -> Path:
        """Where a lane's state is saved."""
        return self._folder / f"aggregate-{lane}-of-{self._groups}.npz"

    def result(self, *, counts: bool) -> Any:
        """The aggregate over all lanes and the base."""
        return self._fold.result(counts=counts, base=self._base_state)

    def _is_foreign(self, name: str) -> bool:
        found = _LANE.fullmatch(name)
        return name != _BASE and (found is None or int(found[2]) != self._groups or int(found[1]) >= self._groups)

    def _load(self, name: str) -> tuple[set[int], Any] | None:
        """A saved state and its chunks; none where one of them is not finished (any more): it was damaged since."""
        found = self._fold.load(self._folder / name)
        return found if found is not None and found[0] <= self._finished else None


class Ordered:
    """A lane's fold as the run goes on: chunks that were finished before are read back where their turn comes."""

    def __init__(
        self, fold: Fold, store: Store, shapes: Mapping[str, Any], behind: Iterable[Finished], saver: Saver
    ) -> None:
        used = {name: tree for name, tree in shapes.items() if name in ("attribution", "label", "target", "score")}
        self._fold, self._store, self._used, self._saver = fold, store, used, saver
        self._behind = deque(behind)
        self._new: list[int] = []  # taken in since the state was last saved

    def take(self, piece: Finished, record: dict[str, Any]) -> None:
        """Take in a chunk, after all before it: records of its examples, arrays of the host."""
        self._catch_up(piece.chunk)
        self._update(piece, record)

    def due(self) -> bool:
        """Whether the state should be saved now."""
        return self._saver.due()

    def save(self) -> None:
        """Save the state; all its chunks are on disk."""
        if self._new:
            self._saver.save(self._fold.state, self._new)
            self._new = []

    def finish(self) -> None:
        """Take in what is left, and save."""
        self._catch_up(None)
        self.save()

    def _catch_up(self, chunk: int | None) -> None:
        while self._behind and (chunk is None or self._behind[0].chunk < chunk):
            piece = self._behind.popleft()
            rows = piece.chunk * self._store.chunk + np.arange(piece.rows)
            leaves = [self._store.read(name, rows) for name in named(self._used)]
            self._update(piece, jax.tree.unflatten(jax.tree.structure(self._used), leaves))

    def _update(self, piece: Finished, record: dict[str, Any]) -> None:
        """One shape for all chunks: a short one is filled up with rows that do not count."""
        place = np.minimum(np.arange(self._store.chunk), piece.rows - 1)
        positions = piece.chunk * self._store.chunk + place
        whole = record if piece.rows == self._store.chunk else jax.tree.map(lambda a: a[place], record)
        self._fold.update(whole, positions, np.arange(self._store.chunk) < piece.rows)
        self._new.append(piece.chunk)


def resumed(
    fold: Fold,
    store: Store,
    shapes: Mapping[str, Any],
    finished: Mapping[int, Finished],
    devices: Devices,
    lanes: Lanes,
) -> tuple[Ordered | None, dict[int, Finished]]:
    """A lane's fold from where it was saved, and the chunks that need not be explained again.

    Chunks finished since are read back. Where they were reduced before they were written they cannot be, and are
    explained again.

    Args:
        fold: With the state of no example.
        store: The folder's arrays.
        shapes: Of one example's record.
        finished: The chunks on disk.
        devices: Whose group is the lane.
        lanes: The folder's states, tidied.
    """
    lanes.take_base()
    held = {lane: lanes.covered(lane) for lane in range(devices.groups)}
    covered = lanes.base.union(*held.values())
    kept = dict(finished) if "whole" not in shapes else {n: entry for n, entry in finished.items() if n in covered}
    if not devices.writes:
        return None, kept
    own = lanes.covered(devices.group, take=True)
    left = sorted(n for n in kept if n not in covered and n % devices.groups == devices.group)
    saver = Saver(fold, lanes.path(devices.group), own)
    return Ordered(fold, store, shapes, [kept[n] for n in left], saver), kept
