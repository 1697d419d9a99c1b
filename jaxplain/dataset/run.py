"""One pass over a dataset: read, explain, fold and write, at the same time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxplain.dataset.devices import Devices, gathered
from jaxplain.dataset.fold import Fold
from jaxplain.dataset.memory import free_bytes, largest_batch, out_of_memory
from jaxplain.dataset.reader import Reader, read_ahead
from jaxplain.dataset.record import Record, record_rows
from jaxplain.dataset.source import Rows, Source
from jaxplain.dataset.writer import Writer
from jaxplain.explain import example_keys, lower_rows
from jaxplain.program import (
    ROWS,
    filled,
    fitting,
    host_points,
    is_hosted,
    is_open,
    most_points,
    needed_bytes,
    public,
)
from jaxplain.types import Array, Pytree

NAME = "explain_dataset"

READ_AHEAD = 3
"""Batches that are on the devices before they are computed: two in the queue, one in the reader's hands."""


class Placed(NamedTuple):
    """This process's rows of a batch on its devices: inputs, further arguments, numbers for keys."""

    x: Pytree
    args: tuple[Any, ...]
    places: Array


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is computed, and where: the record placed on its devices, the key, one example, rows of a batch."""

    record: Record
    key: Array | None
    devices: Devices
    sample: Rows

    def placed(self, rows: Rows) -> Placed:
        """This process's rows of a batch on its devices; the copying is not waited for."""
        return Placed(*self.devices.spread((rows.x, rows.args, rows.places.astype(np.uint32))))

    def explain(self, rows: Placed) -> dict[str, Any]:
        """Records of this process's rows of a batch, dispatched and not waited for."""
        with self.devices.context():
            x, args, index = rows
            keys = example_keys(self.record, self.key, index, index.shape[0], NAME)
            return self.devices.local(record_rows(self.record, keys, x, args))

    def shapes(self) -> dict[str, Any]:
        """Shapes and dtypes of the records of one example, by tracing; errors of the method show here."""
        return _one(self.record).eval_shape(*_held(self.record, self.arguments()))

    def program(self) -> Any:
        """The traced program of one example, as it is without an aggregate."""
        record, key = dataclasses.replace(self.record, whole=False), self.key
        if key is not None and not jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key):
            key = jax.random.wrap_key_data(key)  # the same key in its old form is no other run
        inputs = dataclasses.replace(self, key=key).arguments()
        return _one(record).trace(*_held(record, inputs)).jaxpr

    def arguments(self) -> tuple[Any, ...]:
        """What the explanation is called with for one example, as arrays."""
        one = jax.tree.map(lambda a: a[0], (self.sample.x, *self.sample.args))
        return one if self.key is None or not self.record.needs_key else (self.key, *one)

    def compiled(self, size: int) -> Any:
        """The compiled program of a batch of `size` examples, without running it."""
        keys = None
        with self.devices.context():
            x, args = jax.tree.map(lambda a: self._batched(a.shape[1:], a.dtype, size), self.sample[:2])
            if self.record.needs_key:
                keys = self._batched((), jax.eval_shape(lambda: jax.random.key(0)).dtype, size)
                if self.key is not None and not jax.numpy.issubdtype(self.key.dtype, jax.dtypes.prng_key):
                    keys = self._batched((2,), np.uint32, size)
            return lower_rows(self.record, x, keys, args).compile()

    def filled(self, points: int) -> Plan:
        """The plan with so many points at once where the explanation leaves that open."""
        return dataclasses.replace(self, record=filled(self.record, points))

    @property
    def waiting(self) -> int:
        """Bytes on one device of the inputs that are copied ahead, for each example of a batch."""
        row = sum(leaf[:1].nbytes for leaf in jax.tree.leaves(self.sample[:2]))
        return -(-READ_AHEAD * row // self.devices.width)

    def points(self, size: int) -> int:
        """How many points at once fill the devices with their parts of a batch of `size`, and fit; all agree on it."""
        device = self.devices.first
        if is_open(self.record) and is_hosted(self.record):
            return host_points((self.sample.x, self.sample.args), 1) // max(1, size) or 1
        if not is_open(self.record) or device.platform not in ROWS:
            return 1
        most = most_points(-(-size // self.devices.width), device.platform)

        def fits(record: Record) -> bool:
            program = dataclasses.replace(self, record=record).compiled(size)
            return needed_bytes(program) + size * self.waiting <= free_bytes(self.devices)

        fitted = fitting(self.record, most, fits)
        return min(int(np.asarray(number)) for number in gathered(np.int32(fitted)))

    def _batched(self, shape: tuple[int, ...], dtype: Any, size: int) -> jax.ShapeDtypeStruct:
        dtype = dtype if jax.numpy.issubdtype(dtype, jax.dtypes.prng_key) else jax.dtypes.canonicalize_dtype(dtype)
        return jax.ShapeDtypeStruct((size, *shape), dtype, sharding=self.devices.rows)

    def fits(self, size: int) -> bool:
        """Whether a batch of `size` gets its memory: tried on devices that have their own."""
        if jax.local_devices()[0].platform == "cpu":
            return True
        rows = self.sample.take(np.zeros(self.devices.share(size), np.int64))
        try:
            jax.block_until_ready(self.explain(self.placed(rows)))
        except jax.errors.JaxRuntimeError as error:
            if not out_of_memory(error):
                raise
            return False
        return True

    def batch_size(self, asked: int | str, count: int | None) -> int:
        """The number asked for, or the largest that fits."""
        if asked != "auto":
            return int(asked)
        return largest_batch(self.compiled, self.fits, self.devices, count, self.waiting)


def _one(record: Record) -> Any:
    """The explanation of one example, which is traced once for all that is asked of it."""
    return _traced_once(jax.tree.structure(record))


def _held(record: Record, inputs: Any) -> Any:
    """What `_one` takes, as shapes."""
    return jax.tree.map(_shape, (jax.tree.leaves(record), inputs))


@functools.lru_cache(maxsize=4)
def _traced_once(structure: Any) -> Any:
    """One example's explanation, of the leaves of records of a structure and of its inputs.

    Traces are kept for few: they hold foreign constants. JAX would keep a structure that is an argument's for ever.
    """
    return jax.jit(lambda held, inputs: jax.tree.unflatten(structure, held)(*inputs))


def _shape(leaf: Any) -> Any:
    if not hasattr(leaf, "dtype"):
        return leaf
    dtype = leaf.dtype
    if not jax.numpy.issubdtype(dtype, jax.dtypes.prng_key):
        dtype = jax.dtypes.canonicalize_dtype(dtype)
    return jax.ShapeDtypeStruct(np.shape(leaf), dtype)


def run(plan: Plan, reader: Reader, fold: Fold | None, writer: Writer) -> Pytree:
    """Explain every batch of the reader; the last state of the fold.

    Nothing in here waits for the devices: batches are read and copied to them by the reader's thread, results are
    fetched by the writer's, and this one goes on until the writer is two batches behind.
    """
    try:
        for batch, placed in read_ahead(lambda: ((read, plan.placed(read.rows)) for read in reader.batches())):
            record = plan.explain(placed)
            done = None if fold is None else fold.update(record, batch.positions, batch.mask)
            writer.put(batch, record, done)
    except BaseException:
        writer.abandon()
        raise
    writer.close()
    return None if fold is None else fold.state


@public
def first_rows(source: Source) -> tuple[Source, Rows]:
    """One example, and the source from its start: of a stream, whose first batch has then been read, a chained one."""
    if source.random_access:
        return source, source.read(0, 1)
    return _peeked(source)


def _peeked(source: Source) -> tuple[Source, Rows]:
    parts = iter(source.parts())
    first = next(parts, None)
    if first is None:
        raise ValueError(f"{NAME}: `data` gave no examples.")
    return _Chained(first, parts), first.take(slice(0, 1))


class _Chained(Source):
    """A stream of which the first part has been taken out."""

    random_access = False

    def __init__(self, first: Rows, rest: Iterator[Rows]) -> None:
        self._first, self._rest = first, rest

    def parts(self) -> Iterator[Rows]:
        yield self._first
        yield from self._rest
