"""Saving and loading pytrees of arrays with Orbax, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain.program import as_folder, leaves_by_parts, public, without_value
from jaxplain.train import manifest
from jaxplain.train.aside import clear, made_aside
from jaxplain.train.manifest import Parts
from jaxplain.types import Pytree

_FILES = {"_METADATA", "_CHECKPOINT_METADATA", "_sharding", "array_metadatas", "commit_success.txt", "checkpoint"}
_FILES |= {"d", "manifest.ocdbt", "descriptor", manifest.FILE}
"""What Orbax puts at the top of a checkpoint, beside a folder for each array or process."""


@public
def save(path: str | os.PathLike[str], tree: Pytree, *, overwrite: bool = False) -> None:
    """Save a pytree of arrays as an Orbax checkpoint.

    It is written beside `path` under another name and renamed when whole, so that `path` never holds half a
    checkpoint; what a save that was killed has left there, the next one deletes. PRNG keys are saved as their data;
    containers as nested dictionaries of their field names (with %XX for what files' names cannot hold). A file
    `jaxplain.json` in it holds checksums of the values.

    Args:
        path: A directory to make; `~` is the home folder.
        tree: Params, an optimizer's state, any pytree of arrays (Linen variables, an NNX state).
        overwrite: Replace the checkpoint that is there; nothing else is replaced.

    Raises:
        FileExistsError: There is something at `path`, and `overwrite` is off, or it is no checkpoint.
        ValueError: A pytree without arrays, two leaves of one name, a path with a backslash.
        TypeError: Leaves that are no arrays of numbers.
        OSError: It cannot be written; a full disk is named. What was there before stays.

    Example:
        >>> import tempfile, jax.numpy as jnp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/model", {"w": jnp.ones(2)})
        ...     load(f"{folder}/model", {"w": jnp.zeros(2)})["w"].tolist()
        [1.0, 1.0]
    """
    target = Path(os.path.realpath(as_folder(path, "save", "path")))
    named = leaves_by_parts(tree)
    short = without_value(named)
    leaves = {short[parts]: _data(leaf, parts) for parts, leaf in named.items()}
    if not any(leaf.size for leaf in leaves.values()):
        raise ValueError(f"save: the pytree `tree` holds no arrays with values (it is {tree!r}).")
    if os.path.lexists(target) and not overwrite:
        raise FileExistsError(f"save: {target} is there already. Pass `overwrite=True` to replace it, or another path.")
    if os.path.lexists(target) and not _is_checkpoint(target):
        raise FileExistsError(
            f"save: {target} is there already and is no checkpoint, or holds something else too; only a checkpoint is "
            "replaced. Pass another path, or delete it yourself."
        )
    with made_aside(target) as new:
        _write(new, leaves, target)


def _write(new: Path, leaves: dict[Parts, np.ndarray], target: Path) -> None:
    full = {manifest.stored(parts): leaf for parts, leaf in leaves.items() if leaf.size}  # Orbax takes no empty array
    try:
        with _checkpointer() as checkpointer:
            checkpointer.save(new, _nested(full))
        manifest.write(new, leaves)
    except Exception as error:  # Orbax and TensorStore raise errors of many kinds
        reason = str(error).split("[source")[0].strip()
        number = getattr(error, "errno", None)
        if number == errno.ENOSPC or "No space left" in reason or "quota exceeded" in reason:
            message = f"save: {target} could not be written, the disk is full: {reason}. Make room and save again."
            raise OSError(errno.ENOSPC, message) from error
        raise OSError(number or errno.EIO, f"save: {target} could not be written: {reason}") from error


def _is_checkpoint(path: Path) -> bool:
    """Whether a folder is an Orbax checkpoint, with nothing in it that Orbax has not put there."""
    if not (path / "_METADATA").is_file():
        return False
    arrays = (".zarray", "zarr.json", "manifest.ocdbt")
    others = [entry for entry in path.iterdir() if entry.name not in _FILES]
    return all(entry.name.startswith("ocdbt.") or any((entry / name).exists() for name in arrays) for entry in others)


@public
def load(path: str | os.PathLike[str], like: Pytree, *, at: str = "") -> Pytree:
    """Load an Orbax checkpoint into the structure of `like`, after checking that it fits leaf by leaf.

    Any Orbax checkpoint of one pytree will do, of a Linen model's variables or an NNX model's state, whoever saved it.

    Args:
        path: The checkpoint's directory; `~` is the home folder.
        like: A pytree of arrays, or of `jax.ShapeDtypeStruct` (from `jax.eval_shape`), as it was saved: it gives
            structure, shapes, dtypes and, for arrays, their device.
        at: A part of the checkpoint, such as "params"; "" is all of it. Parts of parts are joined by "/".

    Returns:
        A pytree of like's structure with the values of the checkpoint.

    Raises:
        FileNotFoundError: No checkpoint at `path`.
        ValueError: Leaves that are missing, left over, or of another shape or dtype, all named; nothing was read. A
            damaged checkpoint, which is named; what `save` has written carries checksums of the values.

    Example:
        >>> import tempfile, jax.numpy as jnp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/run", {"params": {"w": jnp.ones(2)}, "step": jnp.array(3)})
        ...     load(f"{folder}/run", {"w": jnp.zeros(2)}, at="params")["w"].tolist()
        [1.0, 1.0]
    """
    source = as_folder(path, "load", "path")
    what = f"load: the checkpoint at {source}"
    wanted = _shortened(leaves_by_parts(like))
    with _opened(source, what) as checkpoint:
        found = {rest: parts for parts in checkpoint.entries if (rest := _below(parts, at)) is not None}
        short = without_value(found)
        ways = {short[rest]: parts for rest, parts in found.items()}
        prefix = tuple(at.split("/")) if at else ()
        there = {prefix + rest: checkpoint.entries[parts] for rest, parts in ways.items()}
        _compare(_specs(there), _specs({prefix + parts: leaf for parts, leaf in wanted.items()}), what)
        values = checkpoint.read(list(ways.values()))
    leaves = [_like(values[ways[parts]], leaf) for parts, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def saved_names(path: Path) -> set[Parts]:
    """The names of the leaves of a checkpoint.

    Raises:
        FileNotFoundError, ValueError: As `load`.
    """
    with _opened(path, f"load: the checkpoint at {path}") as checkpoint:
        return set(checkpoint.entries)


class _Checkpoint:
    """A checkpoint that is open: shapes and dtypes of its leaves by name, and their values."""

    def __init__(self, source: Path, what: str, checkpointer: Any) -> None:
        self._source, self._what, self._checkpointer = source, what, checkpointer
        listed = manifest.read(source, what)
        with _damage(what):
            self._metadata = checkpointer.metadata(source).item_metadata.tree
            stored = leaves_by_parts(self._metadata)
        self._known, self.entries = listed or {}, dict(listed or stored)
        self._keys = {parts: manifest.stored(parts) if listed else parts for parts in self.entries}
        if any(self._keys[parts] not in stored for parts, noted in self._known.items() if 0 not in noted.shape):
            raise ValueError(f"{what} is damaged: {source / '_METADATA'} does not name all its arrays. {_ADVICE}")

    def read(self, names: list[Parts]) -> dict[Parts, np.ndarray]:
        """The values of leaves, compared with their checksums where there are any."""
        with _damage(self._what):
            restored = leaves_by_parts(self._checkpointer.restore(self._source, args=_as_numpy(self._metadata)))
        values = {}
        for parts in names:
            noted = self._known.get(parts)
            empty = noted is not None and 0 in noted.shape
            value = np.zeros(noted.shape, noted.dtype) if noted and empty else np.asarray(restored[self._keys[parts]])
            values[parts] = value
            if noted is not None and manifest.entry(value) != noted:
                raise ValueError(f"{self._what} is damaged: the values of {'/'.join(parts)} are others. {_ADVICE}")
        return values


_ADVICE = "Restore the folder from a copy, or save it again."


@contextlib.contextmanager
def _opened(source: Path, what: str) -> Iterator[_Checkpoint]:
    if not source.exists():
        clear(source)  # a save that was killed may have moved it away
    if not (source / "_METADATA").exists():
        if (source / manifest.FILE).exists():
            raise ValueError(f"{what} is damaged: {source / '_METADATA'} is missing. {_ADVICE}")
        raise FileNotFoundError(f"load: there is no Orbax checkpoint of a pytree at {source}.")
    with _checkpointer() as checkpointer:
        yield _Checkpoint(source, what, checkpointer)


@contextlib.contextmanager
def _damage(what: str) -> Iterator[None]:
    """Errors of Orbax and TensorStore, which are of many kinds, as one that names the checkpoint."""
    try:
        yield
    except Exception as error:
        reason = str(error).split("[source")[0].strip()[:400]
        raise ValueError(f"{what} is damaged: {type(error).__name__} {reason}. {_ADVICE}") from error


def _below(parts: Parts, at: str) -> Parts | None:
    """The rest of a leaf's names under a part of a checkpoint; None for a leaf elsewhere."""
    if not at:
        return parts
    return next((parts[k:] for k in range(1, len(parts) + 1) if "/".join(parts[:k]) == at), None)


def _shortened(named: dict[Parts, Any]) -> dict[Parts, Any]:
    short = without_value(named)
    return {short[parts]: leaf for parts, leaf in named.items()}


@contextlib.contextmanager
def _checkpointer() -> Iterator[Any]:
    import orbax.checkpoint as ocp

    checkpointer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
    try:
        yield checkpointer
    finally:
        checkpointer.close()


def _as_numpy(metadata: Any) -> Any:
    """Read every leaf as a NumPy array, so that the devices a checkpoint was saved from need not be here."""
    import orbax.checkpoint as ocp

    arguments = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata)
    return ocp.args.PyTreeRestore(restore_args=arguments)


def _nested(leaves: dict[Parts, Any]) -> Any:
    tree: dict[str, Any] = {}
    for parts, leaf in leaves.items():
        node = tree
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1]] = leaf
    return tree


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _data(leaf: Any, parts: Parts) -> np.ndarray:
    value = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    if value.dtype.kind not in "biufcV" or value.dtype.hasobject:
        raise TypeError(f"save: `tree` at {'/'.join(parts)!r} is {type(leaf).__name__} ({value.dtype}); pass numbers.")
    return value


def _specs(leaves: dict[Parts, Any]) -> dict[Parts, tuple[tuple[int, ...], str]]:
    """Shape and dtype by name; a PRNG key's are those of its data."""
    specs = {}
    for parts, leaf in leaves.items():
        if _is_key(leaf):
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        specs[parts] = (tuple(leaf.shape), str(jnp.dtype(leaf.dtype)))
    return specs


def _compare(found: dict[Parts, Any], wanted: dict[Parts, Any], what: str) -> None:
    """Require the same leaves, of the same shapes and dtypes; the error names every difference."""
    lines = [f"{'/'.join(parts)}: missing in the checkpoint" for parts in wanted if parts not in found]
    lines += [f"{'/'.join(parts)}: in the checkpoint, but not in the model" for parts in found if parts not in wanted]
    for parts in wanted:
        if parts in found and found[parts] != wanted[parts]:
            there, here = (f"{dtype}{list(shape)}" for shape, dtype in (found[parts], wanted[parts]))
            lines.append(f"{'/'.join(parts)}: {there} in the checkpoint, {here} in the model")
    if lines:
        shown = [*lines[:20], *([f"and {len(lines) - 20} more"] if len(lines) > 20 else [])]
        raise ValueError(f"{what} does not match the model (`like`):\n  " + "\n  ".join(shown))


def _like(value: Any, leaf: Any) -> Any:
    """The value as JAX array, where the leaf was."""
    if _is_key(leaf):
        return jax.random.wrap_key_data(jnp.asarray(value), impl=jax.random.key_impl(jnp.empty((), leaf.dtype)))
    if isinstance(leaf, jax.Array) and getattr(leaf, "committed", True):  # an array that may move does so again
        return jax.device_put(value, leaf.sharding)
    return jnp.asarray(value)
