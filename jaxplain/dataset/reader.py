"""Batches of one size from the chunks that are still to be done, read ahead in a thread."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from jaxplain.dataset.devices import Devices
from jaxplain.dataset.fingerprint import refuse, rows_digest
from jaxplain.dataset.ledger import Finished
from jaxplain.dataset.source import Rows, Source, joined, validate
from jaxplain.program import as_called

Item = TypeVar("Item")


class Batch(NamedTuple):
    """This process's rows of one batch, `[share, ...]`; the first `real` of them count, the others repeat one.

    positions: places in the dataset; mask: which rows are real.
    """

    rows: Rows
    positions: np.ndarray
    mask: np.ndarray
    real: int


class Reader:
    """What this process has to do, in batches.

    Chunk n is of the group n modulo their number, in this run and in one that goes on with it, so that an aggregate
    takes the same chunks in the same order. All processes make the same number of batches, as many as the group needs
    that has the most rows; the others fill up with rows that do not count.
    """

    def __init__(
        self,
        source: Source,
        chunk: int,
        finished: Mapping[int, Finished],
        devices: Devices,
        share: int,
        folder: Any = None,
    ) -> None:
        self._source, self._chunk, self._finished = source, chunk, finished
        self._devices, self._share, self._folder = devices, share, folder
        self.pieces: deque[Finished] = deque()  # the chunks of the rows given out, in their order
        self.count = source.count
        self._needed = [0] * devices.groups  # rows of each group
        self._sample: Rows | None = None

    def batches(self) -> Iterator[Batch]:
        """The batches; afterwards `count` is known."""
        held: list[tuple[Rows, np.ndarray]] = []
        steps = 0
        for number, rows in self._own():
            digest = "" if self._folder is None else rows_digest(rows)
            self.pieces.append(Finished(number, rows.size, digest))
            held.append((rows, number * self._chunk + np.arange(rows.size, dtype=np.int64)))
            while sum(rows.size for rows, _ in held) >= self._share:
                steps += 1
                batch, held = self._cut(held)
                yield batch
        rest = sum(rows.size for rows, _ in held)
        if rest:
            steps += 1
            yield self._cut(held)[0]
        for _ in range(-(-max(self._needed) // self._share) - steps):
            yield self._filler()

    def _cut(self, held: list[tuple[Rows, np.ndarray]]) -> tuple[Batch, list[tuple[Rows, np.ndarray]]]:
        rows, positions = joined([rows for rows, _ in held]), np.concatenate([places for _, places in held])
        count = min(rows.size, self._share)
        mask = np.arange(self._share) < count
        taken = slice(0, count) if count == self._share else np.minimum(np.arange(self._share), count - 1)
        batch = Batch(_narrow(rows.take(taken)), positions[taken], mask, count)
        rest = slice(count, None)
        return batch, [(rows.take(rest), positions[rest])] if rows.size > count else []

    def _filler(self) -> Batch:
        """A batch without a real row, where other processes have some left."""
        sample = self._source.read(0, 1) if self._sample is None else self._sample
        rows = sample.take(np.zeros(self._share, np.int64))
        return Batch(_narrow(rows), np.zeros(self._share, np.int64), np.zeros(self._share, bool), 0)

    def _own(self) -> Iterator[tuple[int, Rows]]:
        """The chunks of this process's group."""
        numbers = self._missing() if self._source.random_access else None
        total = last = 0
        for number, rows in self._source.chunks(self._chunk, numbers):
            validate(rows)
            total, last = total + rows.size, number + 1
            if not self._source.random_access:
                if number in self._finished:
                    self._compare(number, rows)
                    continue
                self._sample = rows.take(slice(0, 1))
                self._needed[number % self._devices.groups] += rows.size
                if number % self._devices.groups != self._devices.group:
                    continue
            yield number, rows
        if not self._source.random_access:
            if total == 0:
                raise ValueError("explain_dataset: `data` gave no examples.")
            beyond = [number for number in self._finished if number >= last]
            if beyond:
                raise refuse(self._folder, [f"data: examples beyond {total} are finished there, but not given here"])
            self.count = total

    def _missing(self) -> list[int]:
        """The numbers of this group's chunks, where the number of examples is known."""
        total = self._source.count or 0
        missing = [n for n in range(-(-total // self._chunk)) if n not in self._finished]
        for number in missing:
            self._needed[number % self._devices.groups] += min(self._chunk, total - number * self._chunk)
        return [n for n in missing if n % self._devices.groups == self._devices.group]

    def _compare(self, number: int, rows: Rows) -> None:
        if self._finished[number].data != rows_digest(rows):
            raise refuse(self._folder, [f"data: examples {number * self._chunk} and after"])


def _narrow(rows: Rows) -> Rows:
    """Dtypes that JAX computes in: 64 bits only where they are switched on."""
    x, args = jax.tree.map(lambda a: a.astype(jax.dtypes.canonicalize_dtype(a.dtype), copy=False), (rows.x, rows.args))
    return rows._replace(x=x, args=args)


def read_ahead(items: Callable[[], Iterator[Item]], size: int = 2) -> Iterator[Item]:
    """Run an iterator in a thread, `size` items ahead; its errors are raised here, and leaving early stops it."""
    box: queue.Queue[Any] = queue.Queue(size)
    stop = threading.Event()

    def offer(kind: str, value: Any) -> bool:
        while not stop.is_set():
            try:
                box.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def run() -> None:
        try:
            for item in items():
                if not offer("item", item):
                    return
            offer("end", None)
        except BaseException as error:
            offer("error", error)

    thread = threading.Thread(target=as_called(run), name="jaxplain-reader", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = box.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stop.set()
        thread.join()
