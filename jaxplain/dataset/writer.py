"""What becomes of the records: a thread takes them from the device, puts chunks together and hands them on."""

from __future__ import annotations

import functools
import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import numpy as np

from jaxplain.dataset.ledger import Finished, Ledger
from jaxplain.dataset.ordered import Ordered
from jaxplain.dataset.reader import Batch
from jaxplain.dataset.record import named
from jaxplain.dataset.source import read_ids
from jaxplain.dataset.store import Store
from jaxplain.program import as_called

NAME = "explain_dataset"

AHEAD = 4
"""How many chunks may be on their way to the disk."""


class Target(Protocol):
    """Where chunks go."""

    def write(self, piece: Finished, start: int, rows: Mapping[str, np.ndarray]) -> None:
        """Take one whole chunk."""

    def flush(self) -> None:
        """Return when everything taken is safe."""


class Folder:
    """Chunks in a store, noted in the ledger when they are on disk."""

    def __init__(self, store: Store, ledger: Ledger, done: Callable[[int], None]) -> None:
        self._store, self._ledger, self._done = store, ledger, done
        self._pending: deque[tuple[Finished, list[Any]]] = deque()

    def write(self, piece: Finished, start: int, rows: Mapping[str, np.ndarray]) -> None:
        """Start writing; wait for the oldest chunk where too many are on their way."""
        self._pending.append((piece, self._guarded(lambda: self._store.write(start, rows), piece)))
        while len(self._pending) > AHEAD:
            self._finish()
        while self._pending and all(future.done() for future in self._pending[0][1]):
            self._finish()

    def flush(self) -> None:
        """Wait for all."""
        while self._pending:
            self._finish()

    def _finish(self) -> None:
        piece, futures = self._pending.popleft()
        self._guarded(lambda: [future.result() for future in futures], piece)
        self._guarded(lambda: self._ledger.append(piece._replace(marks=self._store.marks(piece.chunk))), piece)
        self._done(piece.rows)

    def _guarded(self, act: Callable[[], Any], piece: Finished) -> Any:
        try:
            return act()
        except (ValueError, OSError) as error:
            reason = str(error).split("[tensorstore_spec")[0].split("[source")[0].strip()
            raise OSError(
                f"{NAME}: the chunk {piece.chunk} could not be written to {self._store.folder}: {reason}. What was "
                "finished before is kept; make room (or make the folder writable) and run again with the same "
                "arguments."
            ) from error


class Memory:
    """Chunks in arrays of the host; `given` are the caller's arrays for the attribution, by name."""

    def __init__(self, given: Mapping[str, np.ndarray], count: int | None, done: Callable[[int], None]) -> None:
        self.arrays: dict[str, np.ndarray] = dict(given)
        self._given, self._count, self._done = set(given), count, done

    def write(self, piece: Finished, start: int, rows: Mapping[str, np.ndarray]) -> None:
        """Copy the rows into their place; arrays grow where the number of examples is not known."""
        for name, values in rows.items():
            self._room(name, start + len(values), values)[start : start + len(values)] = values
        self._done(piece.rows)

    def _room(self, name: str, length: int, values: np.ndarray) -> np.ndarray:
        array = self.arrays.get(name)
        if array is None:
            array = np.empty((length if self._count is None else self._count, *values.shape[1:]), values.dtype)
        elif len(array) < length:
            if name in self._given:
                raise ValueError(f"{NAME}: `out` has room for {len(array)} examples, but `data` gives more.")
            spare = max(length, 2 * len(array)) - len(array)
            array = np.concatenate([array, np.empty((spare, *array.shape[1:]), array.dtype)])
        self.arrays[name] = array
        return array

    def flush(self) -> None:
        """Nothing to wait for."""

    def trim(self, count: int) -> dict[str, np.ndarray]:
        """The arrays, without the room to spare; the caller's as they are."""
        return {name: a if name in self._given else a[:count] for name, a in self.arrays.items()}


class Nothing:
    """Keeps nothing: only the aggregate is wanted."""

    def __init__(self, done: Callable[[int], None]) -> None:
        self._done = done

    def write(self, piece: Finished, start: int, rows: Mapping[str, np.ndarray]) -> None:
        """Count it."""
        self._done(piece.rows)

    def flush(self) -> None:
        """Nothing to wait for."""


class Writer:
    """The thread. `put` hands it a batch's records and waits only where it has fallen behind."""

    def __init__(
        self, target: Target, pieces: deque[Finished], chunk: int, writes: bool, ordered: Ordered | None
    ) -> None:
        self._target, self._pieces, self._chunk, self._writes, self._ordered = target, pieces, chunk, writes, ordered
        self._box: queue.Queue[Any] = queue.Queue(2)
        self._error: BaseException | None = None
        self._held: list[dict[str, Any]] = []
        self._not_finite: list[Any] = []
        self._thread = threading.Thread(target=as_called(self._run), name="jaxplain-writer", daemon=True)
        self._thread.start()

    def put(self, batch: Batch, record: dict[str, Any], done: Any) -> None:
        """Hand over the records of a batch, and what is there once the aggregate has taken them in."""
        self._box.put((batch, record, done))
        self._raise()

    def close(self) -> None:
        """Wait until all is written."""
        self._box.put(None)
        self._thread.join()
        self._raise()

    def abandon(self) -> None:
        """Write what has been handed over, and keep errors to oneself: another one is on its way."""
        self._box.put(None)
        self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (item := self._box.get()) is not None:
            if self._error is None:  # afterwards the box is only emptied, so that nobody waits for room in it
                self._guard(functools.partial(self._take, *item))
        self._guard(self._target.flush)
        if self._error is None and self._ordered is not None:
            self._guard(self._ordered.finish)

    def _guard(self, act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException as error:
            self._error = self._error or error

    def _take(self, batch: Batch, record: dict[str, Any], done: Any) -> None:
        if isinstance(self._target, Nothing):
            jax.block_until_ready(done)
            record = {"finite": record["finite"]}
        if self._ordered is None:
            record = {name: tree for name, tree in record.items() if name != "whole"}  # stays where it is
        rows = {**record, "id": batch.rows.ids, "index": batch.rows.places}
        rows = jax.tree.map(lambda leaf: np.asarray(leaf)[: batch.real], rows)
        self._not_finite.extend(rows["id"][~rows["finite"]])
        self._held.append(rows)
        self._hand_on()

    def _hand_on(self) -> None:
        """Pass on every chunk that is whole."""
        while self._held and self._pieces and self._pieces[0].rows <= sum(len(rows["id"]) for rows in self._held):
            piece = self._pieces.popleft()
            rows = jax.tree.map(lambda *parts: np.concatenate(parts), *self._held)
            chunk = jax.tree.map(lambda values, rows=piece.rows: values[:rows], rows)
            if self._writes:
                self._target.write(piece, piece.chunk * self._chunk, named(chunk))
            if self._ordered is not None:
                self._ordered.take(piece, chunk)
                if self._ordered.due():
                    self._target.flush()
                    self._ordered.save()
            self._held = [jax.tree.map(lambda values, rows=piece.rows: values[rows:], rows)]

    @property
    def not_finite(self) -> list[Any]:
        """Identifiers of examples whose attribution is not finite."""
        return read_ids(np.stack(self._not_finite)).tolist() if self._not_finite else []
