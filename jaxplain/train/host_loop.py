"""The epochs of `fit` as the host drives them: one dispatch an epoch, or batch by batch; checkpoints and progress."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.train import checkpoint as checkpoints
from jaxplain.train.epoch import COLUMNS, Batch, Fit, Program, Run, as_fit, close_epoch, epoch, mean_metrics, start_run
from jaxplain.train.feed import check_values, host_batches
from jaxplain.types import Array, Pytree

_epoch = jax.jit(epoch, static_argnames="batch_size")
_step = jax.jit(Program.step)
_evaluate = jax.jit(Program.evaluate)
_close = jax.jit(close_epoch)
_start = jax.jit(start_run, static_argnames="validated")


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

    def run(self, params: Pytree, directory: Any, resume: bool) -> Fit:
        """Train from the start or from the last checkpoint."""
        validated = self.validation is not None
        run, rows = _start(self.program, params, self.key, validated=validated), np.zeros((0, len(COLUMNS)), np.float32)
        setup = {"key": self.key, "batch_size": np.int32(self.batch_size)}
        if directory is not None:
            run, rows = checkpoints.continue_run(directory, run, rows, setup, resume)
        with _bar(self.progress, self.epochs) as show:
            measured = list(rows)
            for index in range(len(rows), self.epochs):
                if self.patience is not None and int(run.stale) >= self.patience:
                    break
                run, row = self._one_epoch(run, jax.random.fold_in(self.key, index))
                measured.append(row)
                if directory is not None:
                    checkpoints.save_run(directory, run, np.stack(measured), setup)
                show(index + 1, row)
        # A loss or an optimizer may close over values that are traced, such as a learning rate that is differentiated.
        stack = np.stack if all(map(check.is_concrete, measured)) else jnp.stack
        return as_fit(run, stack(measured), validated, len(measured))

    def _one_epoch(self, run: Run, key: Array) -> tuple[Run, Any]:
        if self.resident:
            return _epoch(self.program, run, self.data, self.validation, key, batch_size=self.batch_size)
        return self._host_epoch(run, key)

    def _host_epoch(self, run: Run, key: Array) -> tuple[Run, Any]:
        state, rows, sizes = run.state, [], []
        for batch in self._batches(self.data, key, state.params):
            state, metrics = _step(self.program, state, batch)
            rows.append(jnp.stack([jnp.asarray(value, jnp.float32) for value in metrics]))
            sizes.append(batch.size)
        if not rows:
            raise ValueError("fit: `data` gave no batch in this epoch.")
        means = mean_metrics(jnp.stack(rows), jnp.array(sizes))
        return _close(self.program, run, state, means, self._validate(state.params, key))

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
    """A progress bar on standard error, or nothing; reading a row waits for its epoch, so nothing reads it silently."""
    if not (sys.stderr.isatty() if progress is None else progress):
        yield lambda done, row: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("training", total=epochs)

        def show(done: int, row: Any) -> None:
            numbers = np.asarray(row)
            text = "  ".join(
                f"{name.replace('_', ' ')} {number:.4g}"
                for name, number in zip(COLUMNS, numbers, strict=True)
                if np.isfinite(number)
            )
            bar.update(task, completed=done, description=f"epoch {done}: {text}")

        yield show
