"""The same training with many settings of its optimizer and many seeds, as one program."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxplain import check
from jaxplain.program import public
from jaxplain.readout import cross_entropy
from jaxplain.train.diagnosis import Diagnosis, diagnose
from jaxplain.train.epoch import Batch, History
from jaxplain.train.feed import as_batch
from jaxplain.train.fit import Loss, fit
from jaxplain.train.trainable import as_trainable
from jaxplain.types import Array, Pytree

NAME = "hyperparameter_sweep"
START = 2**32 - 4
"""Folded into a seed's key to draw its params, apart from the epochs and from what `fit` folds."""


@dataclasses.dataclass(frozen=True, repr=False)
class Sweep:
    """What `hyperparameter_sweep` returns, P settings with S seeds each.

    Attributes:
        settings: `{name: [P]}`, the settings of each row of runs; of several names every combination.
        history: Learning curves, arrays `[P, S, E]`.
    """

    settings: dict[str, Array]
    history: History

    @property
    def scores(self) -> Array:
        """The lowest validation loss of each run `[P, S]` (without validation its last training loss).

        Infinite for a run that diverged.
        """
        validation = self.history.validation_loss
        last = self.history.loss[..., -1] if validation is None else jnp.min(validation, axis=-1)
        return jnp.where(self.diverged, jnp.inf, last)

    @property
    def diverged(self) -> Array:
        """Whether any loss of a run is not finite, `[P, S]`."""
        measured = (self.history.loss, self.history.validation_loss)
        finite = [jnp.isfinite(values).all(axis=-1) for values in measured if values is not None]
        return ~jnp.stack(finite).all(axis=0)

    @property
    def best(self) -> dict[str, float]:
        """The settings with the lowest median score over seeds; of equal ones the first.

        Raises:
            ValueError: No setting of which at least half of the runs stayed finite.
        """
        medians = np.median(np.asarray(self.scores), axis=1)
        place = int(np.argmin(medians))
        if not np.isfinite(medians[place]):
            raise ValueError(f"{NAME}: runs of every setting diverged; there is no best. Lower the learning rates.")
        return {name: float(values[place]) for name, values in self.settings.items()}

    def _best(self) -> str:
        try:
            return str(self.best)
        except ValueError:
            return "none, runs of all diverged"

    def diagnoses(self, **rules: float) -> list[list[Diagnosis]]:
        """`diagnose` of every run, `[P][S]`, with its settings."""
        runs = np.shape(self.history.loss)[:2]
        curves = self.history._replace(epochs=None, layers=None)
        return [
            [diagnose(jax.tree.map(lambda a, p=p, s=s: np.asarray(a)[p, s], curves), **rules) for s in range(runs[1])]
            for p in range(runs[0])
        ]

    def __repr__(self) -> str:
        """A row for each setting: its values, and the median and range of its scores."""
        scores = self.scores
        if not check.is_concrete(scores):
            return f"Sweep({', '.join(self.settings)}: {scores.shape[0]} settings, {scores.shape[1]} seeds)"
        what = "training loss" if self.history.validation_loss is None else "validation loss"
        lines = [
            f"{', '.join(self.settings)} -> {what}, median (range) of {scores.shape[1]} seeds; best {self._best()}"
        ]
        for place, row in enumerate(np.asarray(scores)):
            point = ", ".join(f"{float(values[place]):.3g}" for values in self.settings.values())
            lines.append(f"{point} -> {np.median(row):.4g} ({row.min():.4g} to {row.max():.4g})")
        return "\n".join(lines)


jax.tree_util.register_dataclass(Sweep, ["settings", "history"], [])


@public
def hyperparameter_sweep(
    apply: Callable[..., Any],
    params: Pytree,
    data: Any,
    *,
    key: Array,
    settings: Mapping[str, Any],
    optimizer: Any = optax.sgd,
    seeds: int = 1,
    initialize: Callable[[Array], Pytree] | None = None,
    loss: Loss = cross_entropy,
    penalty: Callable[..., Any] | None = None,
    epochs: int = 10,
    batch_size: int = 32,
    validation: Any = None,
    weights: Any = None,
    accuracy: Callable[[Any, Any], Any] | None = None,
    runs_at_once: int | None = None,
) -> Sweep:
    """Train with every setting of an optimizer and several seeds, side by side in one program: which should I take?

    Run s of each setting is `fit` with the key `fold_in(key, s)`, so that settings are compared on the same orders of
    examples; the best one trained by `fit` with that key is that run again (to rounding).

    Args:
        apply: As in `fit`.
        params: As in `fit`; where every run starts from, unless `initialize` is given.
        data: `(inputs, targets)` arrays `[N, ...]`, as in `fit`.
        key: PRNG key.
        settings: `{name: values [R]}`, such as `{"learning_rate": jnp.logspace(-4, 0, 9)}`; of several names every
            combination, the last name fastest.
        optimizer: A function that makes an optax transformation of these numbers, such as `optax.adamw`, or a
            transformation with injected hyperparameters of these names, such as
            `optax.inject_hyperparams(optax.adam)(0.1)`, of which the others stay.
        seeds: Runs of each setting.
        initialize: `initialize(key) -> params`, drawn anew for each seed (the same for all settings).
        loss: As in `fit`.
        penalty: As in `fit`.
        epochs: Passes over the data.
        batch_size: Examples in a step.
        validation: As in `fit`.
        weights: As in `fit`.
        accuracy: As in `fit`.
        runs_at_once: Runs side by side, the memory knob; by default all.

    Returns:
        `Sweep(settings, history)`: `.scores` `[P, S]`, `.best`, `.diverged`, `.diagnoses()`; `plot.validation_curve`
        draws it. Cost: P S times that of `fit`; memory for `runs_at_once` of them. A run that diverges has NaN in its
        history.

    Raises:
        ValueError: As `fit`; settings without values, NaN, a name that the optimizer has not, a schedule.
        TypeError: Batches from the host, which cannot be traced; an optimizer of no known kind.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x = jax.random.normal(jax.random.key(0), (64, 2))
        >>> data = (x, (x[:, 0] > 0).astype(int))
        >>> apply, rates = lambda params, x: x @ params["w"], {"learning_rate": [1e-3, 1.0]}
        >>> found = hyperparameter_sweep(apply, {"w": jnp.zeros((2, 2))}, data, key=jax.random.key(1), settings=rates)
        >>> found.best
        {'learning_rate': 1.0}
    """
    check.count(seeds, NAME, "seeds")
    if runs_at_once is not None:
        check.count(runs_at_once, NAME, "runs_at_once")
    grid = _grid(settings, params)
    make = _maker(optimizer, as_trainable(apply).partition(params)[0], list(grid))
    data, validation = (_examples(part, name) for part, name in ((data, "data"), (validation, "validation")))
    fixed: dict[str, Any] = {"loss": loss, "penalty": penalty, "accuracy": accuracy}
    fixed |= {"epochs": epochs, "batch_size": batch_size}

    def one(arrays: Any, point: dict[str, Array], seed: Array) -> History:
        params, data, validation, weights = arrays
        own = jax.random.fold_in(key, seed)
        start = params
        if initialize is not None:
            start = check.answered(initialize(jax.random.fold_in(own, START)), NAME, "initialize")
        given = {"key": own, "optimizer": make(point), "validation": validation, "weights": weights}
        return fit(apply, start, data, **given, **fixed).history._replace(epochs=None)

    arrays = (params, data, validation, weights)
    first = jax.tree.map(lambda values: values[0], grid)
    jax.eval_shape(lambda point, seed: one(arrays, point, seed), first, jnp.zeros((), jnp.uint32))  # all errors, here
    count = len(next(iter(grid.values())))
    runs = (jax.tree.map(lambda v: jnp.repeat(v, seeds), grid), jnp.tile(jnp.arange(seeds, dtype=jnp.uint32), count))

    @jax.jit
    def train(arrays: Any, runs: Any) -> History:
        size = count * seeds if runs_at_once is None else min(runs_at_once, count * seeds)
        return jax.lax.map(lambda run: one(arrays, *run), runs, batch_size=size)

    history = train(jax.tree.map(jnp.asarray, arrays), runs)
    return Sweep(grid, jax.tree.map(lambda a: a.reshape(count, seeds, *a.shape[1:]), history))


def _examples(data: Any, argument: str) -> Batch | None:
    """Arrays as a `Batch`; no validation as none."""
    if data is None and argument == "validation":
        return None
    batch = as_batch(data, NAME)
    if batch is None:
        raise TypeError(f"{NAME}: `{argument}` is {check.short(data)}; pass arrays (inputs, targets), [N, ...].")
    return batch


def _grid(settings: Any, params: Pytree) -> dict[str, Array]:
    """Every combination of the settings' values, `{name: [P]}`, in the precision of the params."""
    if not isinstance(settings, Mapping) or not settings:
        raise TypeError(f"{NAME}: `settings` has to be {{name: values}}, not {check.short(settings)}.")
    columns = []
    for name, values in settings.items():
        array = np.asarray(check.numbers(values, NAME, f"settings[{name!r}]"))
        if array.ndim != 1 or not array.size:
            raise ValueError(f"{NAME}: `settings[{name!r}]` has shape {array.shape}; pass its values, [R].")
        check.finite(array, NAME, f"settings[{name!r}]")
        columns.append(check.real(array, NAME, f"settings[{name!r}]"))
    kinds = [leaf.dtype for leaf in jax.tree.leaves(params) if hasattr(leaf, "dtype") and check.is_floating(leaf)]
    dtype = jnp.result_type(jnp.float32, *kinds)
    points = np.array(list(itertools.product(*columns)), np.float64)
    return {str(name): jnp.asarray(points[:, place], dtype) for place, name in enumerate(settings)}


def _maker(optimizer: Any, trained: Pytree, names: list[str]) -> Callable[[dict[str, Array]], Any]:
    """What makes a transformation of one setting; names that it does not know are refused."""
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        if not callable(optimizer):
            raise TypeError(
                f"{NAME}: `optimizer` is {check.short(optimizer)}; pass what makes a transformation of the settings, "
                "such as optax.sgd, or one with injected hyperparameters."
            )
        known = inspect.signature(optimizer).parameters
        loose = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
        _known(names, names if loose else list(known))
        return lambda point: _made(optimizer(**point))
    probe = jax.eval_shape(optimizer.init, trained)
    held = [node.hyperparams for node in jax.tree.leaves(probe, is_leaf=_injected) if _injected(node)]
    _known(names, [name for part in held for name in part])
    return lambda point: _set(optimizer, point)


def _made(optimizer: Any) -> Any:
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(f"{NAME}: `optimizer` made {check.short(optimizer)} of the settings, no optax transformation.")
    return optimizer


def _known(names: list[str], known: list[str]) -> None:
    odd = [name for name in names if name not in known]
    if odd:
        held = f"it takes {', '.join(known)}" if known else "it has none injected (optax.inject_hyperparams)"
        raise ValueError(f"{NAME}: `settings` holds {odd[0]!r}, which `optimizer` has not; {held}.")


def _injected(node: Any) -> bool:
    return isinstance(getattr(node, "hyperparams", None), dict)


def _set(optimizer: Any, point: dict[str, Array]) -> Any:
    """A transformation with some of its injected hyperparameters set from the start."""

    def place(node: Any) -> Any:
        if not _injected(node):
            return node
        own = {name: point[name].astype(old.dtype) for name, old in node.hyperparams.items() if name in point}
        scheduled = [name for name in own if name in getattr(node, "hyperparams_states", {})]
        if scheduled:
            raise ValueError(
                f"{NAME}: `optimizer` computes {scheduled[0]!r} of `settings` by a schedule; inject a number there."
            )
        return node._replace(hyperparams={**node.hyperparams, **own})

    def init(params: Pytree) -> Any:
        return jax.tree.map(place, optimizer.init(params), is_leaf=_injected)

    return optax.GradientTransformationExtraArgs(init, optax.with_extra_args_support(optimizer).update)
