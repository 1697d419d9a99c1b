"""Where a batch is computed: shares of it by device and process, in arrays that JAX spreads over a mesh."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxplain.program import is_array
from jaxplain.types import Pytree

NAME = "explain_dataset"
AXIS = "data"


class Devices:
    """One device, or a mesh over which the batch axis is spread.

    Processes whose devices hold the same rows of a batch form a group: they are fed the same rows, and the first of
    them writes. `groups` is their number, `group` this process's, `writes` whether it is the first of it.
    """

    def __init__(self, mesh: Mesh | None) -> None:
        if mesh is None and jax.process_count() > 1:
            mesh = jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))
        self.mesh: Mesh | None = None if mesh is None else _automatic(mesh)
        self.groups: int = 1
        self.group: int = 0
        self.writes: bool = True
        self.width: int = 1
        self.rows: NamedSharding | None = None
        if self.mesh is None:
            return
        own = jax.process_index()
        if own not in {device.process_index for device in self.mesh.devices.flat}:
            raise ValueError(f"{NAME}: the mesh holds no device of process {own}; all have to take part.")
        self.rows = NamedSharding(self.mesh, PartitionSpec(_data_axis(self.mesh)))
        self._whole = NamedSharding(self.mesh, PartitionSpec())
        self.width = self.mesh.shape[_data_axis(self.mesh)]
        self._divide(self.rows)

    def _divide(self, rows: NamedSharding) -> None:
        """Find the groups of processes, in the order of their rows, and a device of this one for each stretch."""
        own = jax.process_index()
        held: dict[int, dict[int, Any]] = {}
        placed: dict[Any, Any] = dict(rows.devices_indices_map((self.width,)))
        for device, index in placed.items():
            held.setdefault(device.process_index, {}).setdefault(index[0].indices(self.width)[0], device)
        shares = sorted({tuple(sorted(starts)) for starts in held.values()})
        if sum(map(len, shares)) != self.width or len({len(share) for share in shares}) != 1:
            raise ValueError(
                f"{NAME}: the mesh gives the processes overlapping or unequal shares of a batch ({shares}); order its "
                "devices so that each process holds a stretch of the data axis of the same length, or all of it."
            )
        mine = tuple(sorted(held[own]))
        self.groups, self.group = len(shares), shares.index(mine)
        self.writes = own == min(process for process, starts in held.items() if tuple(sorted(starts)) == mine)
        stretches = np.array([held[own][start] for start in mine])
        self._own_mesh = Mesh(stretches, (AXIS,), axis_types=(AxisType.Auto,))
        self._own = NamedSharding(self._own_mesh, PartitionSpec(AXIS))

    def share(self, batch_size: int) -> int:
        """How many rows of a batch a process is fed; the batch is rounded up to a multiple of the data axis."""
        return -(-batch_size // self.width) * self.width // self.groups

    @property
    def first(self) -> Any:
        """A device of this process on which batches are computed."""
        if self.mesh is None:
            return jax.local_devices()[0]
        return next(d for d in self.mesh.devices.flat if d.process_index == jax.process_index())

    def context(self) -> contextlib.AbstractContextManager[Any]:
        """What is active around calls, so that a mesh the caller has set does not get in the way."""
        return contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self.mesh)

    def spread(self, rows: Pytree) -> Pytree:
        """Put this process's rows of a batch on its devices; NumPy arrays `[share, ...]`."""
        if self.mesh is None:
            return jax.tree.map(jax.device_put, rows)
        if jax.process_count() == 1:
            return jax.tree.map(lambda leaf: jax.device_put(leaf, self.rows), rows)
        return jax.tree.map(
            lambda leaf: jax.make_array_from_process_local_data(
                self.rows, leaf, (leaf.shape[0] * self.groups, *leaf.shape[1:])
            ),
            rows,
        )

    def place(self, tree: Pytree) -> Pytree:
        """Put parameters on the mesh: as they are where they are spread over it already, else a copy on each device."""
        return tree if self.mesh is None else jax.tree.map(self._placed, tree)

    def _placed(self, leaf: Any) -> Any:
        assert self.mesh is not None
        if not is_array(leaf):
            return leaf
        sharding = getattr(leaf, "sharding", None)
        on_mesh = sharding is not None and sharding.device_set == set(self.mesh.devices.flat)
        if on_mesh and isinstance(sharding, NamedSharding) and sharding.mesh.axis_names == self.mesh.axis_names:
            return jax.device_put(leaf, NamedSharding(self.mesh, sharding.spec))  # the same devices: nothing moves
        if on_mesh or jax.process_count() == 1:
            return leaf if on_mesh else jax.device_put(leaf, self._whole)
        if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = self._placed(np.asarray(jax.random.key_data(leaf)))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        value = np.asarray(leaf)
        return jax.make_array_from_callback(value.shape, self._whole, lambda index: value[index])

    def local(self, tree: Pytree) -> Pytree:
        """This process's rows of results that are spread over the mesh, arrays of its own devices."""
        if self.mesh is None:
            return tree
        if not all(leaf.sharding.is_equivalent_to(self.rows, leaf.ndim) for leaf in jax.tree.leaves(tree)):
            tree = jax.jit(lambda tree: tree, out_shardings=self.rows)(tree)  # the compiler chose to spread otherwise
        return jax.tree.map(self._local, tree)

    def _local(self, array: jax.Array) -> jax.Array:
        """One copy of each stretch of rows that this process holds, in order; nothing is moved."""
        parts = {shard.device: shard.data for shard in array.addressable_shards}
        kept = [parts[device] for device in self._own_mesh.devices.flat]
        shape = (sum(part.shape[0] for part in kept), *array.shape[1:])
        return jax.make_array_from_single_device_arrays(shape, self._own, kept)

    def own_context(self) -> contextlib.AbstractContextManager[Any]:
        """What is active around computations with results of `local`."""
        return contextlib.nullcontext() if self.mesh is None else jax.set_mesh(self._own_mesh)


def _automatic(mesh: Mesh) -> Mesh:
    """The mesh with axes that the compiler divides, as code written for one example does not say how."""
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def _data_axis(mesh: Mesh) -> str:
    if AXIS in mesh.axis_names:
        return AXIS
    if len(mesh.axis_names) == 1:
        return str(mesh.axis_names[0])
    raise ValueError(
        f"{NAME}: the mesh has the axes {mesh.axis_names}; name the one over which batches are divided {AXIS!r}."
    )


def agree(value: dict[str, Any] | None, error: BaseException | None = None) -> dict[str, Any]:
    """What the first process found out, in every process; its error is raised in all of them.

    Args:
        value: A mapping that JSON takes; only the first process's counts.
        error: What went wrong in the first process.

    Returns:
        The first process's mapping.
    """
    if jax.process_count() == 1:
        if error is not None:
            raise error
        return value or {}
    text = json.dumps({"error": None if error is None else [type(error).__name__, str(error)], "value": value}).encode()
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    buffer = np.zeros(length, np.uint8)
    if jax.process_index() == 0:
        buffer[:] = np.frombuffer(text, np.uint8)
    told = json.loads(np.asarray(multihost_utils.broadcast_one_to_all(buffer)).tobytes())
    if error is not None:
        raise error
    if told["error"] is not None:
        kinds = (PermissionError, FileExistsError, BlockingIOError, OSError, TypeError, ValueError)
        raise {kind.__name__: kind for kind in kinds}.get(told["error"][0], RuntimeError)(told["error"][1])
    return dict(told["value"])


def meet(what: str) -> None:
    """Wait until every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def gathered(tree: Pytree) -> list[Pytree]:
    """A pytree of arrays from every process, in every process."""
    if jax.process_count() == 1:
        return [tree]
    stacked = multihost_utils.process_allgather(jax.tree.map(np.asarray, tree))
    return [jax.tree.map(lambda leaf, p=p: leaf[p], stacked) for p in range(jax.process_count())]
