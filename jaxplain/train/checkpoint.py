"""Saving and loading pytrees of arrays with Orbax, whole or not at all, and the runs of `fit`."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain.program import leaves_by_parts, public
from jaxplain.types import Pytree

_EPOCH = re.compile(r"epoch_(\d+)")


@public
def save(path: str | os.PathLike[str], tree: Pytree, *, overwrite: bool = False) -> None:
    """Save a pytree of arrays as an Orbax checkpoint.

    It is written beside `path` under another name and renamed when whole, so that `path` never holds half a
    checkpoint. PRNG keys are saved as their data; containers as nested dictionaries of their field names.

    Args:
        path: A directory to make.
        tree: Params, an optimizer's state, any pytree of arrays (Linen variables, an NNX state).
        overwrite: Replace what is there.

    Raises:
        FileExistsError: There is something at `path`, and `overwrite` is off.
        ValueError: A pytree without arrays.

    Example:
        >>> import tempfile, jax.numpy as jnp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/model", {"w": jnp.ones(2)})
        ...     load(f"{folder}/model", {"w": jnp.zeros(2)})["w"].tolist()
        [1.0, 1.0]
    """
    target = Path(path).absolute()
    leaves = {parts: _data(leaf) for parts, leaf in leaves_by_parts(tree).items()}
    if not leaves:
        raise ValueError(f"save: the pytree holds no arrays (it is {tree!r}).")
    if target.exists() and not overwrite:
        raise FileExistsError(f"save: {target} is there already. Pass `overwrite=True` to replace it, or another path.")
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}.new")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with _checkpointer() as checkpointer:
            checkpointer.save(aside, _nested(leaves))
        _move(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _move(aside: Path, target: Path) -> None:
    """Put a finished directory into its place; what was there goes away last."""
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        os.replace(target, old)
    os.replace(aside, target)
    if old.is_dir():
        shutil.rmtree(old)
    elif old.exists():
        old.unlink()


@public
def load(path: str | os.PathLike[str], like: Pytree, *, at: str = "") -> Pytree:
    """Load an Orbax checkpoint into the structure of `like`, after checking that it fits leaf by leaf.

    Any Orbax checkpoint of one pytree will do, of a Linen model's variables or an NNX model's state, whoever saved it.

    Args:
        path: The checkpoint's directory.
        like: A pytree of arrays, or of `jax.ShapeDtypeStruct` (from `jax.eval_shape`), as it was saved: it gives
            structure, shapes, dtypes and, for arrays, their device.
        at: A part of the checkpoint, such as "params"; "" is all of it. Parts of parts are joined by "/".

    Returns:
        A pytree of like's structure with the values of the checkpoint.

    Raises:
        FileNotFoundError: No checkpoint at `path`.
        ValueError: Leaves that are missing, left over, or of another shape or dtype, all named; nothing was read.

    Example:
        >>> import tempfile, jax.numpy as jnp
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(f"{folder}/run", {"params": {"w": jnp.ones(2)}, "step": jnp.array(3)})
        ...     load(f"{folder}/run", {"w": jnp.zeros(2)}, at="params")["w"].tolist()
        [1.0, 1.0]
    """
    source = Path(path).absolute()
    if not (source / "_METADATA").exists():
        raise FileNotFoundError(f"load: there is no Orbax checkpoint of a pytree at {source}.")
    with _checkpointer() as checkpointer:
        metadata = checkpointer.metadata(source).item_metadata.tree
        prefix = tuple(at.split("/")) if at else ()
        found = {parts: leaf for parts, leaf in leaves_by_parts(metadata).items() if parts[: len(prefix)] == prefix}
        wanted = {prefix + parts: leaf for parts, leaf in leaves_by_parts(like).items()}
        _compare(_specs(found), _specs(wanted), f"load: the checkpoint at {source}")
        restored = leaves_by_parts(checkpointer.restore(source, args=_as_numpy(metadata)))
    leaves = [_like(restored[parts], leaf) for parts, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


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


def _nested(leaves: dict[tuple[str, ...], Any]) -> Any:
    tree: dict[str, Any] = {}
    for parts, leaf in leaves.items():
        node = tree
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1] if parts else "value"] = leaf
    return tree


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _data(leaf: Any) -> Any:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _specs(leaves: dict[tuple[str, ...], Any]) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype by path; a PRNG key's are those of its data."""
    specs = {}
    for parts, leaf in leaves.items():
        if _is_key(leaf):
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        specs["/".join(parts)] = (tuple(leaf.shape), str(jnp.dtype(leaf.dtype)))
    return specs


def _compare(found: dict[str, Any], wanted: dict[str, Any], what: str) -> None:
    """Require the same leaves, of the same shapes and dtypes; the error names every difference."""
    lines = [f"{path}: missing in the checkpoint" for path in wanted if path not in found]
    lines += [f"{path}: in the checkpoint, but not in the model" for path in found if path not in wanted]
    for path in wanted:
        if path in found and found[path] != wanted[path]:
            (shape, dtype), (own_shape, own_dtype) = found[path], wanted[path]
            lines.append(f"{path}: {dtype}{list(shape)} in the checkpoint, {own_dtype}{list(own_shape)} in the model")
    if lines:
        shown = [*lines[:20], *([f"and {len(lines) - 20} more"] if len(lines) > 20 else [])]
        raise ValueError(f"{what} does not match the model:\n  " + "\n  ".join(shown))


def _like(value: Any, leaf: Any) -> Any:
    """The value as JAX array, where the leaf was."""
    if _is_key(leaf):
        return jax.random.wrap_key_data(jnp.asarray(value), impl=jax.random.key_impl(jnp.empty((), leaf.dtype)))
    if isinstance(leaf, jax.Array):
        return jax.device_put(value, leaf.sharding)
    return jnp.asarray(value)


def save_run(directory: Any, run: Pytree, rows: np.ndarray, setup: Pytree) -> None:
    """Save a run after an epoch as `epoch_NNNNN` and drop the epochs before it."""
    folder = Path(directory)
    save(folder / f"epoch_{len(rows):05d}", {"run": run, "rows": rows, "setup": setup}, overwrite=True)
    for number, path in _epochs(folder):
        if number < len(rows):
            shutil.rmtree(path)


def continue_run(
    directory: Any, run: Pytree, rows: np.ndarray, setup: Pytree, resume: bool
) -> tuple[Pytree, np.ndarray]:
    """The run and its rows as last saved in a directory, or as they are where nothing was.

    Raises:
        FileExistsError: A run is there, and `resume` is off.
        ValueError: It is of another model, optimizer, key or batch size.
    """
    saved = _epochs(Path(directory))
    if not saved:
        return run, rows
    number, path = saved[-1]
    if not resume:
        raise FileExistsError(
            f"fit: {Path(directory).absolute()} holds a run of {number} epochs. Pass `resume=True` to continue it, or "
            "another directory."
        )
    like = {"run": run, "rows": np.zeros((number, *rows.shape[1:]), rows.dtype), "setup": setup}
    state = load(path, like)
    for name, value in setup.items():
        if not np.array_equal(_data(state["setup"][name]), _data(value)):
            raise ValueError(
                f"fit: the run in {Path(directory).absolute()} was started with another `{name}`; continuing it would "
                "not give what an uninterrupted run gives. Pass the same one, or another directory."
            )
    return state["run"], np.asarray(state["rows"])


def _epochs(folder: Path) -> list[tuple[int, Path]]:
    found = [(_EPOCH.fullmatch(path.name), path) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(match[1]), path) for match, path in found if match)
