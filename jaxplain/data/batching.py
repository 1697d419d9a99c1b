"""Which example goes into which batch: the order of an epoch as arrays, and the batches themselves, read lazily."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import is_array, public, shown
from jaxplain.types import Array, Pytree, frame_of


@shown
class Batch(NamedTuple):
    """Examples of one fixed size: inputs `[B, ...]`, targets `[B, ...]`, mask `[B]`, index `[B]`.

    `mask` is False on the rows that fill up the last batch, `index` is each row's number in the dataset. A mean over a
    dataset is exact as `sum(values * mask) / sum(mask)`, both sums over all batches.
    """

    inputs: Pytree
    targets: Pytree
    mask: Any
    index: Any


@public
def batch_indices(key: Array | None, count: int, batch_size: int) -> tuple[Array, Array]:
    """Order one epoch: the row numbers of every batch, the last one filled up and masked.

    With S = ceil(count / batch_size) batches, every row number stands under a true mask exactly once. The rows that
    fill up the last batch repeat those of the first ones, so that every value computed of them is an ordinary number.
    A pure function of the key: the same order in a compiled epoch (with a traced key) and on the host.

    Args:
        key: PRNG key of the epoch; None keeps the rows in their order.
        count: Number of examples, at least 1 and below 2^31.
        batch_size: Examples in a batch, at least 1; it may exceed `count`.

    Returns:
        Indices `[S, batch_size]` int32 and mask `[S, batch_size]` bool. Cost: one sort of `count` numbers.

    Raises:
        ValueError, TypeError: A count or a batch size that is no whole number of at least 1.

    Example:
        >>> indices, mask = batch_indices(None, 5, 3)
        >>> indices.tolist(), mask.tolist()
        ([[0, 1, 2], [3, 4, 0]], [[True, True, True], [True, True, False]])
    """
    count = check.count(count, "batch_indices", "count")
    batch_size = check.count(batch_size, "batch_indices", "batch_size")
    if count >= 2**31:
        raise ValueError(f"batch_indices: `count` is {count}; row numbers are int32, so it has to stay below 2**31.")
    steps = -(-count // batch_size)
    order = jnp.arange(count, dtype=jnp.int32)
    if key is not None:
        order = jax.random.permutation(key, order)
    places = np.arange(steps * batch_size).reshape(steps, batch_size)
    return order[places % count], jnp.asarray(places < count)


class Batches:
    """The batches of one epoch as `batches` makes them: sized, read lazily, the same each time they are gone over."""

    def __init__(self, inputs: Pytree, targets: Pytree, indices: np.ndarray, mask: np.ndarray) -> None:
        self._inputs, self._targets = inputs, targets
        self._indices, self._mask = indices, mask

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[Batch]:
        for rows, mask in zip(self._indices, self._mask, strict=True):
            yield Batch(take(self._inputs, rows), take(self._targets, rows), mask, rows)


@public
def batches(data: Any, batch_size: int, *, key: Array | None = None) -> Batches:
    """Read a dataset in batches of one fixed size, shuffled by a key, the last one filled up and masked.

    Only the rows of the batch at hand are read, so NumPy memory maps (`numpy.load(path, mmap_mode="r")`) larger than
    memory work. The order is that of `batch_indices`. Give another key for each epoch; to `train.fit`, which asks for
    new batches every epoch, pass `lambda key: batches(data, batch_size, key=key)`.

    Args:
        data: `(inputs, targets)`, or an object with `.inputs` and `.targets`, such as `Dataset`. Each is an array
            `[N, ...]` or a pytree of them, NumPy or JAX; targets may be None.
        batch_size: Examples in a batch, at least 1; it may exceed N.
        key: PRNG key of the order; None keeps the examples in their order.

    Returns:
        An iterable over `ceil(N / batch_size)` `Batch`es, with a length; arrays keep their kind (NumPy or JAX) and
        dtype. Cost: no model pass; one batch in memory at a time.

    Raises:
        ValueError: No examples, arrays of unequal lengths, `batch_size` below 1.
        TypeError: Data that are not of these kinds.

    Example:
        >>> import numpy as np
        >>> data = (np.arange(10.0).reshape(5, 2), np.arange(5))
        >>> [(batch.targets.tolist(), int(batch.mask.sum())) for batch in batches(data, 3)]
        [([0, 1, 2], 3), ([3, 4, 0], 2)]
    """
    batch_size = check.count(batch_size, "batches", "batch_size")
    inputs, targets = _parts(data)
    count = common_length({"inputs": inputs, "targets": targets}, "batches")
    indices, mask = batch_indices(key, count, batch_size)
    return Batches(inputs, targets, np.asarray(indices), np.asarray(mask))


def _parts(data: Any) -> tuple[Any, Any]:
    if hasattr(data, "inputs") and hasattr(data, "targets"):
        return data.inputs, data.targets
    if isinstance(data, tuple) and len(data) == 2:
        return data
    what = f"a tuple of {len(data)}" if isinstance(data, tuple) else type(data).__name__
    raise TypeError(
        f"batches: `data` is {what}; pass (inputs, targets), where targets may be None, or an object with `.inputs` "
        "and `.targets`."
    )


def take(tree: Pytree, rows: Any) -> Pytree:
    """The rows of every array of a pytree; NumPy's (and memory maps') are copied into memory, JAX's stay JAX's."""
    return jax.tree.map(lambda a: a[rows] if isinstance(a, jax.Array) else np.asarray(a[rows]), tree)


@public
def common_length(parts: dict[str, Pytree], name: str) -> int:
    """Require arrays with one row for each example, at least one, and return their number."""
    lengths: dict[str, int] = {}
    for argument, part in parts.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(part):
            where = argument + jax.tree_util.keystr(path)
            texts = isinstance(leaf, np.ndarray) and leaf.dtype.kind in "OSU"
            if not is_array(leaf) or not np.shape(leaf) or texts:
                raise TypeError(
                    f"{name}: `{where}` is {_kind(leaf)}; pass NumPy or JAX arrays [N, ...] of numbers, one row for "
                    "each example, as `data`."
                )
            lengths[where] = np.shape(leaf)[0]
    if not lengths or min(lengths.values()) == 0:
        raise ValueError(
            f"{name}: the dataset (`data`) is empty ({lengths or 'no arrays'}). Pass at least one example."
        )
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{name}: every array needs one row for each example, but their lengths are {lengths}.")
    return next(iter(lengths.values()))


def _kind(leaf: Any) -> str:
    if not is_array(leaf):
        return frame_of(leaf) or type(leaf).__name__
    return "a single number" if not np.shape(leaf) else f"an array of dtype {leaf.dtype}, not of numbers"
