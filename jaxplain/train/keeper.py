"""The params at the steps to keep, as the host collects them epoch by epoch."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.train.saved_run import save_snapshot, saved_snapshots
from jaxplain.train.snapshot import Snapshots
from jaxplain.types import Pytree


class Keeper:
    """The params at some steps as the host collects them: on the device, or in a run's folder and on the host."""

    def __init__(self, steps: tuple[int, ...], folder: Path | None, setup: dict[str, np.ndarray], done: int) -> None:
        self.steps: tuple[int, ...] = steps
        self.done: int = done
        self._folder, self._setup, self._kept = folder, setup, dict[int, Pytree]()

    def begin(self, params: Pytree) -> None:
        """What is there before the first epoch that is run: the start, or what the folder of a run holds."""
        passed = [step for step in self.steps if step <= self.done]
        if self._folder is not None and self.done:
            found = saved_snapshots(self._folder, passed, params, self._setup)
            self._kept = {step: _on_host(there) for step, there in found.items()}
        elif passed:
            self.keep({0: params})

    def marks(self, per_epoch: int) -> tuple[Any, list[int]]:
        """The steps to keep in the next epoch: filled up to as many as any epoch has, and as they are."""
        if not self.steps:
            return None, []
        epochs = Counter((step - 1) // per_epoch for step in self.steps if step)
        own = [step for step in self.steps if self.done < step <= self.done + per_epoch]
        most = max(epochs.values(), default=1)
        return jnp.array(own + [-1] * (most - len(own)), jnp.int32), own

    def keep(self, kept: dict[int, Pytree]) -> None:
        """Take in what an epoch brought, before the epoch itself is saved."""
        for step, params in kept.items():
            if self._folder is not None:
                save_snapshot(self._folder, step, params, self._setup)
                params = _on_host(params)
            self._kept[step] = params

    def warn_of_missing(self) -> None:
        """Of batches from the host nobody knows how many there are before they are gone."""
        missing = [step for step in self.steps if step > self.done]
        if missing:
            warnings.warn(
                f"fit: the run ended with step {self.done}, before the steps {check.short(missing)} of `snapshots`.",
                RuntimeWarning,
                stacklevel=4,
            )

    def snapshots(self, like: Pytree) -> Snapshots:
        """All of them."""
        return _stacked(self._kept, like, host=self._folder is not None)


def _stacked(kept: Mapping[int, Pytree], like: Pytree, *, host: bool) -> Snapshots:
    """What was kept by step, as `Snapshots`; as NumPy arrays where it is to stay on the host."""
    steps = sorted(kept)
    if not steps:
        return Snapshots(np.zeros(0, np.int32), jax.tree.map(lambda leaf: jnp.asarray(leaf)[None][:0], like))
    rows = [kept[step] for step in steps]
    return Snapshots(np.array(steps, np.int32), jax.tree.map(lambda *leaves: _stack(leaves, host), *rows))


def _stack(leaves: Sequence[Any], host: bool) -> Any:
    if host and all(isinstance(leaf, np.ndarray) for leaf in leaves):
        return np.stack(leaves)
    return jnp.stack(leaves)


def _on_host(params: Pytree) -> Pytree:
    """Params as NumPy arrays; PRNG keys, which NumPy has not, stay."""
    keys = jax.dtypes.prng_key
    return jax.tree.map(lambda v: v if jnp.issubdtype(jnp.result_type(v), keys) else np.asarray(v), params)
