"""The runs of `fit` in a directory: each epoch saved, the last one continued if it is of the same run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxplain import check
from jaxplain.train import checkpoint
from jaxplain.train.aside import ENDING, clear
from jaxplain.types import Pytree

_EPOCH = re.compile(r"epoch_(\d+)")
_SNAPSHOT = re.compile(r"snapshot_(\d+)")
FORMAT = 2
"""1, of earlier versions, noted the key and the batch size only."""


def save_run(folder: Path, run: Pytree, rows: np.ndarray, setup: dict[str, np.ndarray]) -> None:
    """Save a run after an epoch as `epoch_NNNNN` and drop the epochs before it."""
    for left in [*folder.glob(f".epoch_*{ENDING}"), *folder.glob(f".snapshot_*{ENDING}")]:
        clear(folder / left.name.split(".")[1])
    state = {"run": run, "rows": rows, "setup": {**setup, "format": np.int32(FORMAT)}}
    checkpoint.save(folder / f"epoch_{len(rows):05d}", state, overwrite=True)
    for number, path in _epochs(folder):
        if number < len(rows):
            shutil.rmtree(path)


def continue_run(
    folder: Path, run: Pytree, rows: np.ndarray, setup: dict[str, np.ndarray], *, resume: bool, epochs: int
) -> tuple[Pytree, np.ndarray]:
    """The run and its rows as last saved in a directory, or as they are where nothing was.

    Args:
        folder: The directory.
        run: The run before its first epoch.
        rows: `[0, C]`.
        setup: What a run is made of, by name: one array each, such as a digest.
        resume: Whether to continue a run that is there.
        epochs: How many are asked for.

    Raises:
        FileExistsError: A run is there, and `resume` is off.
        ValueError: It is of another setup, of another format, damaged, or has more epochs than are asked for.
    """
    saved = _epochs(folder)
    if not saved:
        return run, rows
    number, path = saved[-1]
    if not resume:
        raise FileExistsError(
            f"fit: {folder} holds a run of {number} epochs. Pass `resume=True` to continue it, or another directory."
        )
    setup = {**setup, "format": np.array(FORMAT, np.int32)}
    _same(path, setup)
    if number > epochs:
        raise ValueError(
            f"fit: {folder} holds a run of {number} epochs, more than `epochs`={epochs}; they cannot be taken back. "
            f"Pass `epochs={number}` or more, or another directory."
        )
    like = {"run": run, "rows": np.zeros((number, *rows.shape[1:]), rows.dtype), "setup": setup}
    state = checkpoint.load(path, like)
    return state["run"], np.asarray(state["rows"])


def save_snapshot(folder: Path, step: int, params: Pytree, setup: dict[str, np.ndarray]) -> None:
    """Save the params after a step as `snapshot_NNNNNNN`, beside what the run is made of."""
    state = {"params": params, "setup": {**setup, "format": np.int32(FORMAT)}}
    checkpoint.save(_snapshot(folder, step), state, overwrite=True)


def saved_snapshots(
    folder: Path, steps: Sequence[int], like: Pytree, setup: dict[str, np.ndarray]
) -> dict[int, Pytree]:
    """The params that a run has saved at steps which it has passed.

    Raises:
        ValueError: Some are not there (the run was begun without them) or are of another run, or damaged.
    """
    missing = [step for step in steps if not _snapshot(folder, step).exists()]
    if missing:
        names = (_SNAPSHOT.fullmatch(path.name) for path in folder.iterdir())
        there = sorted(int(match[1]) for match in names if match)
        raise ValueError(
            f"fit: the run in {folder} has passed the steps {check.short(missing)} of `snapshots` without keeping "
            f"them; it kept {check.short(there) if there else 'none'}. Ask for steps that it kept or that come after, "
            "or begin again in another directory."
        )
    for step in steps:
        _same(_snapshot(folder, step), {**setup, "format": np.array(FORMAT, np.int32)})
    return {step: checkpoint.load(_snapshot(folder, step), like, at="params") for step in steps}


def _snapshot(folder: Path, step: int) -> Path:
    return folder / f"snapshot_{step:07d}"


def _same(path: Path, setup: dict[str, np.ndarray]) -> None:
    """Require that a saved run is of this setup; what differs is named."""
    names = [name for part, *rest in checkpoint.saved_names(path) if part == "setup" for name in rest]
    nothing = np.zeros(0, np.uint8)  # a digest that only one of the two has, such as that of a penalty
    like = {name: setup.get(name, next(iter(setup.values()))) for name in names}
    known = "format" in names
    there = {name: np.asarray(v) for name, v in checkpoint.load(path, like, at="setup").items()} if known else {}
    version = int(there.get("format", 1))
    if version != FORMAT:
        raise ValueError(
            f"fit: the run in {path} is of the format {version}; this version of jaxplain reads the format {FORMAT}. "
            "Finish it with the version that began it, or begin again in another directory."
        )
    pairs = {name: (there.get(name, nothing), setup.get(name, nothing)) for name in {**setup, **there}}
    other = [f"`{name}`" for name, (one, two) in pairs.items() if not np.array_equal(one, two)]
    if other:
        raise ValueError(
            f"fit: the run in {path.parent} was started with another {', another '.join(other)}; continuing it would "
            "not give what an uninterrupted run gives. Pass the same (only `epochs` and `patience` may change; code is "
            "compared as it is traced, which another version of JAX may do in another way), or another directory."
        )


def _epochs(folder: Path) -> list[tuple[int, Path]]:
    found = [(_EPOCH.fullmatch(path.name), path) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(match[1]), path) for match, path in found if match)
