"""The epochs of `fit` as the host drives them: one dispatch an epoch, or batch by batch; checkpoints and progress."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import in_notebook, notebook_bar
from jaxplain.train.epoch import (
    COLUMNS,
    Batch,
    Fit,
    Program,
    Run,
    as_fit,
    close_epoch,
    epoch,
    mean_metrics,
    row_length,
    sound,
    start_run,
)
from jaxplain.train.feed import check_values, host_batches
from jaxplain.train.fingerprint import describe
from jaxplain.train.keeper import Keeper
from jaxplain.train.penalty import infinite_penalty
from jaxplain.train.saved_run import continue_run, save_run
from jaxplain.train.snapshot import empty_album
from jaxplain.types import Array, Pytree


def _recorded(
    program: Program, run: Run, data: Batch, validation: Any, key: Array, marks: Any, batch_size: int
) -> tuple[Run, Array, Any]:
    """An epoch, with the params after the steps that are marked."""
    album = None if marks is None else empty_album(marks, run.state.params)
    return epoch(program, run, data, validation, key, batch_size, album)


_epoch = jax.jit(_recorded, static_argnames="batch_size")
_step = jax.jit(Program.step)
_evaluate = jax.jit(Program.evaluate)
_close = jax.jit(close_epoch)
_start = jax.jit(start_run, static_argnames="validated")
_sound = jax.jit(sound)

DIVERGED = ("raise", "warn")
"""What `fit` may do after an epoch that diverged."""


class HostLoop(NamedTuple):
    """The epochs of one run as the host drives them."""

    program: Program
    data: Any
    validation: Any
    key: Array
    batch_size: int
    epochs: int
    patience: int | None
    progress: bool | None
    resident: bool  # data and validation are arrays on the device
    on_divergence: str
    snapshots: tuple[int, ...] | None  # steps whose params are kept

    def run(self, params: Pytree, directory: Path | None, resume: bool) -> Fit:
        """Train from the start or from the last checkpoint."""
        validated = self.validation is not None
        run = _start(self.program, params, self.key, validated=validated)
        rows = np.zeros((0, row_length(run)), np.float32)
        setup: dict[str, np.ndarray] = {}
        if directory is not None:
            setup = describe(self.program, params, self.data, self.validation, self.key, self.batch_size)
            run, rows = continue_run(directory, run, rows, setup, resume=resume, epochs=self.epochs)
        keeper = Keeper(self.snapshots or (), directory, setup, int(run.state.step) if len(rows) else 0)
        keeper.begin(run.state.params)
        with _bar(self.progress, self.epochs) as show:
            measured = list(rows)
            for index in range(len(rows), self.epochs):
                if self.patience is not None and int(run.stale) >= self.patience:
                    break
                after, row, kept = self._one_epoch(run, jax.random.fold_in(self.key, index), keeper)
                if self._diverged(index, run, after, row):
                    break
                run = after
                measured.append(row)
                keeper.keep(kept)
                if directory is not None:
                    save_run(directory, run, np.stack(measured), setup)
                show(index + 1, row)
            else:
                keeper.warn_of_missing()
        # A loss or an optimizer may close over values that are traced, such as a learning rate that is differentiated.
        stack = np.stack if all(map(check.is_concrete, measured)) else jnp.stack
        found = None if self.snapshots is None else keeper.snapshots(run.state.params)
        return as_fit(run, stack(measured) if measured else rows, validated, len(measured), found)

    def _diverged(self, index: int, before: Run, after: Run, row: Any) -> bool:
        """Whether an epoch diverged: then an error, or a warning where that is wanted. A traced one is not read."""
        if not check.is_concrete(row) or bool(_sound(self.program, before, after, row)):
            return False
        numbers = np.asarray(row)
        found = f"its loss is {numbers[0]}"
        if self.validation is not None:
            found += f", its validation loss {numbers[3]}"
        if np.isfinite(numbers[0]) and (self.validation is None or np.isfinite(numbers[3])):
            found += ", but its parameters are not finite any more"
        if self.program.penalty is not None:
            key = jax.random.fold_in(self.key, index)
            found += infinite_penalty(self.program, before.state, self.data, key, self.batch_size)
        advice = "Lower the learning rate, clip gradients, or look for log(0) and divisions by zero"
        if self.on_divergence == "raise":
            raise ValueError(
                f"fit: epoch {index + 1} diverged: {found}. {advice}; with on_divergence='warn' the last finite "
                "parameters are returned."
            )
        kept = f"epoch {index}" if index else "the start"
        warnings.warn(
            f"fit: epoch {index + 1} diverged: {found}. Training stops with what was there after {kept}. {advice}.",
            RuntimeWarning,
            stacklevel=4,
        )
        return True

    def _one_epoch(self, run: Run, key: Array, keeper: Keeper) -> tuple[Run, Any, dict[int, Pytree]]:
        """The run after an epoch, its row, and the params at the steps to keep; the keeper counts the steps."""
        if not self.resident:
            return self._host_epoch(run, key, keeper)
        per_epoch = -(-self.data.size // self.batch_size)
        marks, steps = keeper.marks(per_epoch)
        run, row, album = _epoch(self.program, run, self.data, self.validation, key, marks, batch_size=self.batch_size)
        keeper.done += per_epoch
        return run, row, {s: jax.tree.map(lambda room, i=i: room[i], album.params) for i, s in enumerate(steps)}

    def _host_epoch(self, run: Run, key: Array, keeper: Keeper) -> tuple[Run, Any, dict[int, Pytree]]:
        state, rows, sizes, kept = run.state, [], [], {}
        for batch in self._batches(self.data, key, state.params):
            state, metrics = _step(self.program, state, batch)
            rows.append(jnp.stack([jnp.asarray(value, jnp.float32) for value in metrics]))
            sizes.append(batch.size)
            keeper.done += 1
            if keeper.done in keeper.steps:
                kept[keeper.done] = state.params
        if not rows:
            raise ValueError("fit: `data` gave no batch in this epoch.")
        means = mean_metrics(jnp.stack(rows), jnp.array(sizes))
        return *_close(self.program, run, state, means, self._validate(state.params, key)), kept

    def _batches(self, data: Any, key: Array, params: Pytree) -> Iterator[Batch]:
        for batch in host_batches(data, key, self.batch_size, "fit"):
            if not isinstance(data, Batch):
                check_values(self.program, params, batch, "fit")
            yield batch

    def _validate(self, params: Pytree, key: Array) -> Any:
        if self.validation is None:
            return None
        parts = [_evaluate(self.program, params, b) for b in self._batches(self.validation, key, params)]
        if not parts:
            raise ValueError("fit: `validation` gave no batch.")
        return jnp.stack([jnp.mean(jnp.concatenate(values).astype(jnp.float32)) for values in zip(*parts, strict=True)])


@contextlib.contextmanager
def _bar(progress: bool | None, epochs: int) -> Iterator[Callable[[int, Any], None]]:
    """A progress bar, or nothing; reading a row waits for its epoch, so nothing reads it silently."""
    if not (sys.stderr.isatty() or in_notebook() if progress is None else progress):
        yield lambda done, row: None
    elif in_notebook():
        with notebook_bar("training", epochs) as write:
            yield lambda done, row: write(done, _measured(done, row))
    else:
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True)) as bar:
            task = bar.add_task("training", total=epochs)
            yield lambda done, row: bar.update(task, completed=done, description=_measured(done, row))


def _measured(done: int, row: Any) -> str:
    """An epoch's numbers in a line."""
    numbers = zip(COLUMNS, np.asarray(row)[: len(COLUMNS)], strict=True)
    text = "  ".join(f"{name.replace('_', ' ')} {number:.4g}" for name, number in numbers if np.isfinite(number))
    return f"epoch {done}: {text}"
