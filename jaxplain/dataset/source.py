"""Where examples come from: arrays, sources with random access, streams of batches; all read in chunks of one size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxplain import check
from jaxplain.data import common_length
from jaxplain.program import is_array, public
from jaxplain.types import Pytree, frame_of

NAME = "explain_dataset"

ID_BYTES = 256
"""The longest identifier of an example, in bytes of UTF-8, where they come with a stream."""


class Rows(NamedTuple):
    """Examples in a row, NumPy arrays `[n, ...]`: inputs, further arguments, identifiers, numbers for keys."""

    x: Pytree
    args: tuple[Any, ...]
    ids: np.ndarray
    places: np.ndarray

    @property
    def size(self) -> int:
        """How many examples."""
        return len(self.ids)

    def take(self, rows: Any) -> Rows:
        """Some of the examples."""
        return jax.tree.map(lambda a: a[rows], self)


def joined(parts: list[Rows]) -> Rows:
    """Several stretches of examples as one."""
    if len(parts) == 1:
        return parts[0]
    first: Any = jax.tree.structure(parts[0])
    for part in parts[1:]:
        if jax.tree.structure(part) != first:
            raise ValueError(f"{NAME}: the batches of `data` differ in structure: {first} and then another.")
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


class Source:
    """Examples in a fixed order. `count` is their number, None where it shows only at the end."""

    count: int | None = None
    random_access: bool = True

    def read(self, start: int, stop: int) -> Rows:
        """The examples from `start` to `stop`, where there is random access."""
        raise NotImplementedError

    def parts(self) -> Iterator[Rows]:
        """All examples in their order, in stretches of any length, where there is no random access."""
        raise NotImplementedError

    def chunks(self, size: int, numbers: Iterable[int] | None = None) -> Iterator[tuple[int, Rows]]:
        """Chunks of `size` examples with their numbers, the last one short; a stream gives all, whatever `numbers`."""
        if self.random_access:
            total = self.count or 0
            for number in range(-(-total // size)) if numbers is None else numbers:
                yield number, self.read(number * size, min((number + 1) * size, total))
            return
        held: list[Rows] = []
        number = 0
        for part in self.parts():
            held.append(part)
            while sum(p.size for p in held) >= size:
                rows = joined(held)
                yield number, rows.take(slice(0, size))
                number, held = number + 1, [rows.take(slice(size, None))]
        if sum(p.size for p in held):
            yield number, joined(held)


class ArraySource(Source):
    """Arrays or memory maps `[N, ...]`, of which only the rows at hand are read."""

    def __init__(self, x: Pytree, args: tuple[Any, ...], ids: Any, index: Any = None) -> None:
        x, args = jax.tree.map(_on_host, (x, args))
        self.count: int | None = common_length({"x": x, **{f"argument {i + 1}": a for i, a in enumerate(args)}}, NAME)
        self._x, self._args, self._index = x, args, index
        self._ids = None if ids is None else as_ids(ids, self.count)

    def read(self, start: int, stop: int) -> Rows:
        """A copy of the rows of memory maps, so that the disk is read here; a view of other arrays."""
        rows = slice(start, stop)
        x, args = jax.tree.map(
            lambda a: np.array(a[rows]) if isinstance(a, np.memmap) else a[rows], (self._x, self._args)
        )
        count = np.arange(start, stop, dtype=np.int64)
        index = count if self._index is None else np.asarray(self._index[rows], np.int64)
        return Rows(x, args, index if self._ids is None else self._ids[rows], index)


class RecordSource(Source):
    """Anything with a length and `[i]` that gives one example: a Grain data source, a list-like dataset."""

    def __init__(self, data: Any, ids: Any, transform: Callable[[Any], Any] | None = None) -> None:
        self.count: int | None = len(data)
        if self.count == 0:
            raise ValueError(f"{NAME}: the dataset (`data`) is empty. Pass at least one example.")
        self._data, self._transform = data, transform
        self._ids = None if ids is None else as_ids(ids, self.count)

    def read(self, start: int, stop: int) -> Rows:
        """Read and stack one example after another."""
        records = [_own(_named(self._data[i], f"data[{i}]")) for i in range(start, stop)]
        stacked = [(_transformed(self._transform, r["x"]), r["args"]) for r in records]
        x, args = _stacked(stacked)
        index = np.arange(start, stop, dtype=np.int64)
        if self._ids is not None:
            return Rows(x, args, self._ids[start:stop], index)
        given = [r["id"] for r in records if r["id"] is not None]
        return Rows(x, args, as_ids(given, stop - start, ID_BYTES) if given else index, index)


class StreamSource(Source):
    """Batches of any length, one after another: an iterable, a Grain loader. Padding rows (by `mask`) are left out."""

    random_access = False

    def __init__(self, data: Iterable[Any], ids: Any) -> None:
        if ids is not None:
            raise ValueError(
                f"{NAME}: `ids` goes with arrays and sources that have a length; batches bring theirs: mappings with "
                "'inputs', 'targets' and 'id'."
            )
        self._data = data

    def parts(self) -> Iterator[Rows]:
        """The batches' real rows."""
        seen = 0
        for number, batch in enumerate(self._data):
            part = _own(_named(batch, f"batch {number}"))
            x, args = jax.tree.map(np.asarray, (part["x"], part["args"]))
            size = common_length({"x": x, **{f"argument {i + 1}": a for i, a in enumerate(args)}}, NAME)
            index = np.arange(seen, seen + size) if part["index"] is None else np.asarray(part["index"])
            index = index.astype(np.int64)
            ids = index if part["id"] is None else as_ids(part["id"], size, ID_BYTES)
            rows = Rows(x, args, ids, index)
            if part["mask"] is not None:
                rows = rows.take(np.asarray(part["mask"], bool))
            seen += rows.size
            if rows.size:
                yield rows


class MappedSource(Source):
    """A source whose inputs are transformed on the host, one example at a time."""

    def __init__(self, source: Source, transform: Callable[[Any], Any]) -> None:
        self.count: int | None = source.count
        self.random_access: bool = source.random_access
        self._source, self._transform = source, transform

    def _map(self, rows: Rows) -> Rows:
        examples = [jax.tree.map(lambda a, i=i: a[i], rows.x) for i in range(rows.size)]
        return rows._replace(x=_stacked([_transformed(self._transform, x) for x in examples]))

    def read(self, start: int, stop: int) -> Rows:
        """Transformed examples."""
        return self._map(self._source.read(start, stop))

    def parts(self) -> Iterator[Rows]:
        """Transformed examples."""
        return map(self._map, self._source.parts())


@public
def as_source(data: Any, ids: Any = None, transform: Callable[[Any], Any] | None = None) -> Source:
    """Find out what `data` is; see `explain_dataset`, which documents the kinds.

    Raises:
        TypeError: None of the kinds.
        ValueError: Nothing in it, unequal lengths, `ids` of another length.
    """
    if transform is not None and not callable(transform):
        raise TypeError(f"{NAME}: `transform` has to be a function of one example's input, not {transform!r}.")
    if frame_of(data) is not None:
        raise TypeError(f"{NAME}: `data` is {check.short(data)}; pass arrays, (table.encode(df), targets, ...).")
    if _is_arrays(data):
        parts = _named(data, "data")
        if parts["mask"] is None:
            given = parts["id"] if ids is None else ids
            source: Source = ArraySource(parts["x"], parts["args"], given, parts["index"])
        else:
            source = StreamSource([data], ids)
    elif _is_records(data):
        return RecordSource(data, ids, transform)
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes):
        source = StreamSource(data, ids)
    else:
        raise TypeError(
            f"{NAME}: `data` is {type(data).__name__}; pass arrays (inputs, targets, ...), an object with `.inputs` "
            "and `.targets`, a source with a length and `[i]` that gives one example, or an iterable of batches."
        )
    return source if transform is None else MappedSource(source, transform)


def _is_arrays(data: Any) -> bool:
    return (hasattr(data, "inputs") and hasattr(data, "targets")) or is_array(data) or isinstance(data, Mapping | tuple)


def _is_records(data: Any) -> bool:
    """Whether `[i]` gives one example; a list is one of batches, and so is what Grain has batched."""
    indexable = isinstance(data, Sized) and hasattr(data, "__getitem__") and not isinstance(data, list | str | bytes)
    return indexable and "Batch" not in type(data).__name__


def _named(item: Any, what: str) -> dict[str, Any]:
    """Inputs, further arguments and what else comes with examples, of one record, a batch or all."""
    more = {"id": None, "index": None, "mask": None}
    if hasattr(item, "inputs") and hasattr(item, "targets"):
        more.update({name: getattr(item, name, None) for name in more})
        parts: tuple[Any, ...] = (item.inputs, item.targets)
    elif isinstance(item, Mapping) and "inputs" in item:
        unknown = set(item) - {"inputs", "targets", "args", *more}
        if unknown:
            raise ValueError(
                f"{NAME}: {what} has 'inputs' beside {sorted(map(str, unknown))}; the names are 'inputs', 'targets', "
                "'args' (further arguments, a tuple), 'id', 'index' and 'mask'."
            )
        more.update({name: item.get(name) for name in more})
        parts = (item["inputs"], item.get("targets"), *item.get("args", ()))
    else:
        parts = tuple(item) if type(item) is tuple else (item,)
    if not parts:
        raise ValueError(f"{NAME}: {what} is an empty tuple; the first element has to be the inputs.")
    while len(parts) > 1 and parts[-1] is None:
        parts = parts[:-1]
    if any(part is None for part in (parts[0], *parts[2:])):
        raise ValueError(f"{NAME}: {what} has no inputs, or None before further arguments.")
    return {"x": parts[0], "args": parts[1:], **more}


def _on_host(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array):
        if not leaf.is_fully_addressable:
            raise ValueError(
                f"{NAME}: `data` is spread over several processes; pass host arrays, the same in every process."
            )
        return np.asarray(leaf)
    return leaf


def _own(record: dict[str, Any]) -> dict[str, Any]:
    """A record with copies of its arrays: a loader may fill the same ones again while these wait for their turn."""
    return jax.tree.map(lambda leaf: leaf.copy() if isinstance(leaf, np.ndarray) else leaf, record)


def _transformed(transform: Callable[[Any], Any] | None, x: Any) -> Any:
    return x if transform is None else jax.tree.map(np.asarray, transform(x))


def _stacked(records: list[Any]) -> Any:
    try:
        return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *records)
    except ValueError as error:
        raise ValueError(f"{NAME}: examples differ in shape or structure and cannot be batched ({error}).") from error


def as_ids(ids: Any, count: int, width: int | None = None) -> np.ndarray:
    """Identifiers as int64 `[n]`, or as UTF-8 bytes filled up with zeros, uint8 `[n, width]`.

    Raises:
        ValueError: Another number of them, or one that is too long.
        TypeError: Neither integers nor texts.
    """
    try:
        values = np.asarray(ids)
    except ValueError as error:
        raise TypeError(f"{NAME}: `ids` has rows of different lengths; pass integers or texts.") from error
    if values.shape != (count,):
        raise ValueError(f"{NAME}: `ids` has shape {values.shape}; pass one for each of the {count} examples.")
    if np.issubdtype(values.dtype, np.integer):
        return values.astype(np.int64)
    if values.dtype.kind not in "UOST":
        raise TypeError(f"{NAME}: `ids` has dtype {values.dtype}; pass integers or texts.")
    texts = [value if isinstance(value, bytes) else str(value).encode() for value in values.tolist()]
    longest = max(len(text) for text in texts)
    if width is not None and longest > width:
        raise ValueError(f"{NAME}: an identifier has {longest} bytes; at most {width} are kept.")
    return np.stack([np.frombuffer(text.ljust(width or max(longest, 1), b"\0"), np.uint8) for text in texts])


def read_ids(values: np.ndarray) -> np.ndarray:
    """Undo `as_ids`: int64 `[n]`, or texts `[n]`."""
    if values.ndim == 1:
        return values
    return np.array([row.tobytes().rstrip(b"\0").decode() for row in values], dtype=np.str_)


@public
def known_arguments(source: Source) -> tuple[Any, ...] | None:
    """The further arguments of all examples, where they lie in memory or in memory maps; None elsewhere."""
    inner = source._source if isinstance(source, MappedSource) else source
    return inner._args if isinstance(inner, ArraySource) else None


def shapes(rows: Rows) -> dict[str, list[Any]]:
    """Shape of one example and dtype of every leaf, by path, as the fingerprint of a run says it."""
    named = {}
    for part, tree in (("inputs", rows.x), ("arguments", rows.args)):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            named[part + jax.tree_util.keystr(path)] = [list(leaf.shape[1:]), str(leaf.dtype)]
    return named


def validate(rows: Rows) -> None:
    """Require arrays of numbers that JAX can hold."""
    check.batch_length(rows.x, NAME)
    check.fitting(rows.args, NAME, "arguments")
    for path, leaf in jax.tree_util.tree_leaves_with_path((rows.x, rows.args)):
        if leaf.dtype.kind not in "fiubcV" or leaf.dtype.hasobject:
            raise TypeError(f"{NAME}: `data{jax.tree_util.keystr(path)}` has dtype {leaf.dtype}; pass numbers.")
