"""What `fit` is fed with: examples checked before any compute, and batches gathered on the host."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.data import batch_indices
from jaxplain.program import is_array
from jaxplain.program.node import LastOperations
from jaxplain.readout import binary_cross_entropy, check_labels, cross_entropy
from jaxplain.train.epoch import Batch, Program
from jaxplain.types import Array, Pytree, frame_of

ARGUMENTS = ("inputs", "targets", "weights")


def as_batch(data: Any, name: str) -> Batch | None:
    """Arrays of examples as a `Batch`, or None where `data` is an iterable or a callable that gives batches.

    Args:
        data: `(inputs, targets)` or `(inputs, targets, weights)`, a `Batch`, or an object with `.inputs` and
            `.targets` (a `.mask` selects the real rows). Inputs that are a tuple are passed as several arguments.
        name: The function that asks, for the errors.

    Returns:
        The checked batch, or None.

    Raises:
        ValueError: Nothing in it, or unequal lengths.
        TypeError: Leaves that are no arrays.
    """
    if frame_of(data) is not None:
        raise TypeError(f"{name}: `data` is {check.short(data)}; pass arrays, (table.encode(df), targets).")
    if hasattr(data, "inputs") and hasattr(data, "targets"):
        parts = (data.inputs, data.targets, getattr(data, "weights", None))
        mask = getattr(data, "mask", None)
    elif isinstance(data, tuple) and len(data) in (2, 3):
        parts, mask = (*data, None)[:3], None
    else:
        return None
    inputs = parts[0] if isinstance(parts[0], tuple) else (parts[0],)
    batch = Batch(inputs, *parts[1:])
    if mask is not None:
        batch = jax.tree.map(lambda a: np.asarray(a)[np.asarray(mask, bool)], batch)
    _check_lengths(batch, name)
    return batch


def one_batch(data: Any, name: str, argument: str = "data") -> Batch:
    """Arrays of examples as a `Batch`, nothing else."""
    batch = as_batch(data, name)
    if batch is None:
        raise TypeError(f"{name}: `{argument}` is {type(data).__name__}; pass (inputs, targets), arrays [N, ...].")
    return batch


def _check_lengths(batch: Batch, name: str) -> None:
    lengths: dict[str, int] = {}
    for argument, part in zip(ARGUMENTS, batch, strict=True):
        for path, leaf in jax.tree_util.tree_leaves_with_path(part):
            where = argument + jax.tree_util.keystr(path)
            if not is_array(leaf) or not jnp.shape(leaf) or check.odd_leaf(leaf) is not None:
                raise TypeError(
                    f"{name}: `{where}` is {check.short(leaf)}; pass arrays [N, ...], one row for each example "
                    "(NumPy or JAX, strings and lists encoded first)."
                )
            lengths[where] = jnp.shape(leaf)[0]
    if not lengths or min(lengths.values()) == 0:
        raise ValueError(
            f"{name}: the examples (`data`, `inputs`) are empty ({lengths or 'no arrays'}). Pass at least one example."
        )
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{name}: every array needs one row for each example, but their lengths are {lengths}.")
    if batch.weights is not None and jnp.ndim(batch.weights) != 1:
        raise ValueError(f"{name}: `weights` has shape {jnp.shape(batch.weights)}; it is one number for each example.")


def check_values(program: Program, params: Pytree, batch: Batch, name: str) -> None:
    """Require finite values, a model and a loss that take the shapes, and labels inside the model's outputs."""
    for argument, part in zip(ARGUMENTS, batch, strict=True):
        check.finite(part, name, argument)
    outputs = _outputs.eval_shape(program, params, batch.inputs)
    rows = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(outputs)}
    if rows != {(batch.size,)}:
        raise ValueError(f"{name}: for {batch.size} examples `apply` returns {outputs}; the first axis is the batch.")
    losses = _losses.eval_shape(program, outputs, batch.targets)
    if losses.shape != (batch.size,):
        raise ValueError(
            f"{name}: `loss` returns shape {losses.shape[1:]} for one example; it has to return one number."
        )
    loss = getattr(program.loss, "value", None)
    if loss in (cross_entropy, binary_cross_entropy):  # another may take outputs and targets of any structure
        if check.is_concrete(batch.targets):
            check_labels(loss, outputs.shape, batch.targets, name)
        _warn_of_probabilities(_ENDS(_called, program.model, params, batch.inputs), loss, name)


_ENDS = LastOperations()
"""Of the latest models that were asked of, since one model is often trained many times."""


def _called(model: Any, params: Pytree, inputs: tuple[Any, ...]) -> Any:
    return model(params, *inputs)


def _warn_of_probabilities(word: str | None, loss: Any, name: str) -> None:
    """A loss of logits makes probabilities of its own: of others it learns slowly, and never well."""
    if word is not None:
        warnings.warn(
            f"{name}: the model ends in a {word}, but {loss.__name__} takes logits and would make probabilities of "
            "them again. Return the logits before it; `jaxplain.probability` scores by their probabilities.",
            stacklevel=5,
        )


@jax.jit
def _outputs(program: Program, params: Pytree, inputs: tuple[Any, ...]) -> Any:
    return program.model(params, *inputs)


@jax.jit
def _losses(program: Program, outputs: Any, targets: Any) -> Any:
    return program.judge(outputs, targets)[0]


def fits_on_device(batch: Batch) -> bool:
    """Whether data take at most half of the default device's memory (a host's memory is not asked)."""
    if all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(batch)):
        return True
    statistics = jax.devices()[0].memory_stats() or {}
    size = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(batch))
    return bool(size <= statistics.get("bytes_limit", np.inf) / 2)


def host_batches(data: Any, key: Array, batch_size: int, name: str) -> Iterator[Batch]:
    """The batches of one epoch, gathered on the host.

    Args:
        data: A `Batch` of NumPy arrays (shuffled by the key, as on a device), an iterable of batches (in its order),
            or a callable that makes one from the key.
        key: The epoch's key.
        batch_size: Examples in a batch, for arrays.
        name: The function that asks, for the errors.

    Yields:
        Batches of real examples only, the last one short.
    """
    if isinstance(data, Batch):
        count = data.size
        for indices, mask in zip(*map(np.asarray, batch_indices(key, count, min(batch_size, count))), strict=True):
            rows = indices[mask]
            yield jax.tree.map(lambda a, rows=rows: np.asarray(a)[rows], data)
        return
    items = data(key) if callable(data) else data
    if not isinstance(items, Iterable):
        raise TypeError(f"{name}: the function `data` or `validation` returned {check.short(items)}, not batches.")
    for item in items:
        batch = as_batch(item, name)
        if batch is None:
            raise TypeError(
                f"{name}: a batch of `data` or `validation` is {type(item).__name__}; batches are (inputs, targets), "
                "or objects with `.inputs` "
                "and `.targets`."
            )
        yield batch


def source(data: Any, name: str) -> Iterable[Any] | Callable[[Array], Iterable[Any]]:
    """Require something that gives batches again for every epoch."""
    if callable(data) or (isinstance(data, Iterable) and not is_array(data) and not isinstance(data, dict | str)):
        if iter(data) is data if not callable(data) else False:
            raise TypeError(
                f"{name}: `data` is an iterator, which is spent after one epoch. Pass a list of batches, or a function "
                "of a key that makes a new iterator."
            )
        return data
    raise TypeError(
        f"{name}: `data` is {type(data).__name__}; pass (inputs, targets) arrays, an object with `.inputs` and "
        "`.targets`, or an iterable (or a function of a key) that gives such batches."
    )
