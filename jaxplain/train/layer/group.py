"""Which trained arrays make one layer, what its units are, and in which order a model uses its layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxplain.program import leaves_by_parts
from jaxplain.program.trace import first_reads
from jaxplain.types import Array, Pytree


class Group(NamedTuple):
    """The trained arrays of one layer, by their places among the leaves of what is trained.

    `counted` are the arrays whose units are counted, those of one shape together; `whole` says that each of their
    elements is a unit (a bias), else each place of the last axis is.
    """

    name: str
    leaves: tuple[int, ...]
    size: int
    units: int
    matrix: bool
    counted: tuple[tuple[int, ...], ...]
    whole: bool

    def norm(self, leaves: list[Array]) -> Array:
        """The L2 norm of the layer's part of a tree's leaves, in float32 or wider."""
        parts = [leaves[place] for place in self.leaves]
        return jnp.sqrt(sum(jnp.sum(jnp.square(part.astype(jnp.result_type(part, jnp.float32)))) for part in parts))

    def moved(self, leaves: list[Array]) -> Array:
        """Whether anything of each unit is not zero, `[units]`."""
        return jnp.concatenate([jnp.stack([self._of(leaves[i]) for i in places]).any(0) for places in self.counted])

    def _of(self, leaf: Array) -> Array:
        nonzero = leaf != 0
        return nonzero.reshape(-1) if self.whole else nonzero.reshape(-1, nonzero.shape[-1]).any(axis=0)


def groups_of(trained: Pytree, run: Callable[..., Any], *inputs: Any) -> tuple[Group, ...]:
    """The layers of what is trained, in the order in which `run(trained, *inputs)` first computes with them.

    Arrays that lie together in one container, with nothing deeper beside them, are one layer (a kernel and its bias,
    the kernels of a recurrent cell and their one bias); every other array is a layer of its own, also those of several
    layers in one container (kernels and biases, or a list of either). Units are told by the array of the fewest axes,
    where there are several (a bias), else by the last axis.

    Args:
        trained: What the optimizer sees, arrays or shapes.
        run: The model as a function of that; it is traced.
        *inputs: Its further arguments, arrays or shapes.
    """
    named = list(leaves_by_parts(trained).items())
    members: dict[tuple[str, ...], list[int]] = {}
    for place, (parts, _) in enumerate(named):
        own = parts[:-1]
        beside = [(other, leaf) for other, leaf in named if other[: len(own)] == own]
        together = bool(own) and all(len(other) == len(parts) for other, _ in beside) and _one_layer(beside)
        members.setdefault(own if together else parts, []).append(place)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), trained)
    rank = {place: turn for turn, place in enumerate(first_reads(run, shapes, *inputs))}
    ordered = sorted(members.items(), key=lambda item: min(rank[place] for place in item[1]))
    leaves = jax.tree.leaves(trained)
    return tuple(_group("/".join(parts) or "params", places, leaves) for parts, places in ordered)


def _one_layer(arrays: list[tuple[tuple[str, ...], Any]]) -> bool:
    """Whether the named arrays of one container are a single layer's, as far as their axes tell.

    Where several layers were taken for one, a unit would count as moved that only its namesake in another layer moved.
    """
    axes = [jnp.ndim(leaf) for _, leaf in arrays]
    few = min(axes)
    kernels = sum(axis > max(few, 1) for axis in axes)
    if few == max(axes) and len(axes) > 1:  # scale and bias of a normalisation, not several kernels or a list of biases
        return few < 2 and not all(parts[-1].isdigit() for parts, _ in arrays)
    return kernels < 2 or len(axes) - kernels == 1


def _group(name: str, places: list[int], leaves: list[Any]) -> Group:
    axes = {place: jnp.ndim(leaves[place]) for place in places}
    few = min(axes.values())
    whole = few < 2 or max(axes.values()) > few
    counted: dict[tuple[int, ...], list[int]] = {}
    for place in places:
        if axes[place] == few:
            counted.setdefault(jnp.shape(leaves[place]), []).append(place)
    units = sum(jnp.size(leaves[own[0]]) if whole else shape[-1] for shape, own in counted.items())
    size = sum(jnp.size(leaves[place]) for place in places)
    together = tuple(map(tuple, counted.values()))
    return Group(name, tuple(places), size, units, max(axes.values()) > 1, together, whole)
