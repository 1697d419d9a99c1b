"""The explanations of a dataset read back: lazily, as NumPy, JAX or xarray."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.dataset.ledger import Finished, finished_chunks
from jaxplain.dataset.source import read_ids
from jaxplain.dataset.store import EXAMPLES, OWN, Store, nested, open_store, read_attributes
from jaxplain.program import as_folder, public
from jaxplain.types import Pytree

NAME = "open_explanations"
KINDS = ("numpy", "jax", "xarray")


class Column:
    """One array of a folder, read where it is indexed: `column[3]`, `column[10:20]`, `numpy.asarray(column)`."""

    def __init__(self, store: Store, name: str, finished: np.ndarray, kind: str) -> None:
        self._store, self._name, self._kind = store, name, kind
        self._array, self._finished = store.arrays[name], finished

    @property
    def shape(self) -> tuple[int, ...]:
        """`[N, ...]`."""
        return (len(self._finished), *self._array.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """Of its elements."""
        return np.dtype(self._array.dtype.numpy_dtype)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<{self._name}: {self.dtype}{list(self.shape)}, read where it is indexed>"

    def __getitem__(self, index: Any) -> Any:
        first, rest = (index[0], index[1:]) if isinstance(index, tuple) else (index, ())
        rows = np.arange(len(self))[... if first is Ellipsis else first]
        if first is Ellipsis:
            rest = index if isinstance(index, tuple) else ()
        missing = np.atleast_1d(rows)[~self._finished[np.atleast_1d(rows)]]
        if missing.size:
            raise ValueError(
                f"{NAME}: {len(missing)} of the examples asked for are not explained yet (the first is {missing[0]}); "
                "run explain_dataset again with the same arguments to finish them. `finished` says which are there."
            )
        values = self._read(rows)
        values = values[rest if first is Ellipsis else (slice(None),) * np.ndim(rows) + tuple(rest)] if rest else values
        return jnp.asarray(values) if self._kind == "jax" else values

    def _read(self, rows: np.ndarray) -> np.ndarray:
        if rows.size == 0:
            return np.zeros((*rows.shape, *self.shape[1:]), self.dtype)
        if rows.ndim == 1 and bool((np.diff(rows) == 1).all()):
            return self._store.read(self._name, slice(int(rows[0]), int(rows[-1]) + 1))
        return self._store.read(self._name, rows)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = np.asarray(self[:])
        return values if dtype is None else values.astype(dtype)


class Explanations(Mapping[str, Any]):
    """What is known of every example of a dataset, by name. Made by `explain_dataset` and `open_explanations`.

    `explanations["attribution"]` is an array `[N, ...]` (for pytrees, nested dictionaries of arrays), and so are the
    other names: `id` and `index` always; `target`, `label`, `prediction`, `score`, `baseline_score`, `gap`, `steps`,
    `reached` and `finite` where they are known.

    Attributes:
        settings: What the run was: versions, method, settings, key, digests of parameters, program and data.
        finished: `[N]` bool, which examples are explained.
    """

    def __init__(self, arrays: Mapping[str, Any], settings: Mapping[str, Any], finished: np.ndarray) -> None:
        self._arrays, self._tree = dict(arrays), nested(arrays)
        self.settings: Mapping[str, Any] = settings
        self.finished: np.ndarray = finished
        self._ids: np.ndarray | None = None

    def __getitem__(self, name: str) -> Pytree:
        if name not in self._tree:
            raise KeyError(f"{name!r} is not known of these examples; known are {sorted(self._tree)}.")
        return self._tree[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tree)

    def __len__(self) -> int:
        return len(self._tree)

    @property
    def count(self) -> int:
        """The number of examples."""
        return len(self.finished)

    @property
    def ids(self) -> np.ndarray:
        """Every explained example's identifier: integers or texts `[M]`, in order."""
        if self._ids is None:
            self._ids = read_ids(np.asarray(self._arrays["id"][np.flatnonzero(self.finished)]))
        return self._ids

    def find(self, identifier: Any) -> int:
        """The place of an example, by its identifier.

        Raises:
            KeyError: No such example, or several.
        """
        places = np.flatnonzero(self.ids == (str(identifier) if self.ids.dtype.kind == "U" else identifier))
        if len(places) != 1:
            known = f"{len(places)} examples have" if len(places) else "no explained example has"
            raise KeyError(f"{known} the id {identifier!r}; ids are such as {self.ids[:3].tolist()}.")
        return int(np.flatnonzero(self.finished)[places[0]])

    def example(self, identifier: Any) -> dict[str, Any]:
        """All that is known of one example, by its identifier.

        Raises:
            KeyError: No such example, or several.
        """
        row = self.find(identifier)
        return nested({name: array[row] if name != "id" else identifier for name, array in self._arrays.items()})

    def to_xarray(self) -> Any:
        """An `xarray.Dataset` along the dimension 'example', with ids as its coordinate; arrays are read when used."""
        return _as_xarray(self._arrays, self.ids if bool(self.finished.all()) else None)

    def __repr__(self) -> str:
        return f"<Explanations of {self.count} examples ({int(self.finished.sum())} finished): {', '.join(self._tree)}>"


@public
def open_explanations(path: str | os.PathLike[str], kind: str = "numpy") -> Any:
    """Open what `explain_dataset` wrote to a folder; values are read from it where they are indexed.

    An unfinished run can be opened, and while it goes on, too: its finished examples can be read.

    Args:
        path: The folder; `~` is the home folder.
        kind: "numpy" or "jax": what indexing gives; "xarray": a lazy `xarray.Dataset` (needs xarray).

    Returns:
        `Explanations`, or an `xarray.Dataset`. Cost: metadata and identifiers are read, nothing else.

    Raises:
        FileNotFoundError: No explanations there.
        ValueError: An unknown kind, a folder of another format, a damaged one, one copied without its `jaxplain-run`;
            when indexed: a corrupt chunk, or one that lies in another's place, examples that are not explained yet.

    Example:
        >>> import tempfile, jax.numpy as jnp
        >>> from jaxplain.dataset.driver import explain_dataset
        >>> from jaxplain.explain.gradient.gradient import gradient
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = explain_dataset(gradient(lambda x: (x**2).sum()), jnp.eye(3), batch_size=2, out=f"{folder}/a")
        ...     open_explanations(f"{folder}/a")["attribution"][1].tolist()
        [0.0, 2.0, 0.0]
    """
    check.choice(kind, KINDS, NAME, "kind")
    folder = as_folder(path, NAME, "path")
    settings = read_attributes(folder)
    if settings is None:
        raise FileNotFoundError(f"{NAME}: there are no explanations at {folder}; explain_dataset writes them.")
    require_ledger(folder)
    chunks = finished_chunks(folder / OWN)
    store = open_store(folder, settings["names"], settings["chunk"], chunks)
    finished = finished_rows(chunks, settings, store)
    columns = {name: Column(store, name, finished, "jax" if kind == "jax" else "numpy") for name in settings["names"]}
    found = Explanations(columns, settings, finished)
    return found.to_xarray() if kind == "xarray" else found


def require_ledger(folder: Path) -> None:
    """Require the subfolder that says which chunks are finished.

    Raises:
        ValueError: It was left behind where the folder was copied.
    """
    if not (folder / OWN).is_dir():
        raise ValueError(
            f"{NAME}: {folder} lacks its subfolder {OWN}, which says which examples are explained and which chunk is "
            f"which. Copy {OWN} from where the explanations were written, too."
        )


def usable(entry: Finished, chunk: int, count: int | None) -> bool:
    """Whether a note of a finished chunk fits a run: no more rows than a chunk has room for, all inside the dataset."""
    whole = entry.rows <= chunk if count is None else entry.rows == min(chunk, count - entry.chunk * chunk)
    return whole and entry.rows > 0


def finished_rows(chunks: Mapping[int, Finished], settings: Mapping[str, Any], store: Store) -> np.ndarray:
    """Which examples are explained; `[N]`, of a stream that has not come to its end as many as are known."""
    count = settings["data"]["count"]
    chunks = {number: entry for number, entry in chunks.items() if usable(entry, store.chunk, count)}
    known = max((number * store.chunk + entry.rows for number, entry in chunks.items()), default=0)
    rows = np.zeros(known if count is None else count, bool)
    for number, entry in chunks.items():
        if not store.missing(number):
            rows[number * store.chunk : number * store.chunk + entry.rows] = True
    return rows


def _as_xarray(arrays: Mapping[str, Any], ids: np.ndarray | None) -> Any:
    import xarray
    from xarray.backends import BackendArray
    from xarray.core import indexing

    class Lazy(BackendArray):
        """What xarray reads a column through."""

        def __init__(self, column: Any) -> None:
            self.shape, self.dtype, self._column = column.shape, np.dtype(column.dtype), column

        def __getitem__(self, key: Any) -> Any:
            return indexing.explicit_indexing_adapter(
                key, self.shape, indexing.IndexingSupport.BASIC, lambda index: np.asarray(self._column[index])
            )

    variables = {}
    for name, column in arrays.items():
        axes = [EXAMPLES, *(f"{name}_{axis}" for axis in range(1, len(column.shape)))]
        data = column if isinstance(column, np.ndarray) else indexing.LazilyIndexedArray(Lazy(column))
        if name != "id":
            variables[name.replace("/", ".")] = xarray.Variable(axes, data)
    return xarray.Dataset(variables, coords={} if ids is None else {EXAMPLES: ids})
