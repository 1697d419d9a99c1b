"""Which trained arrays make one layer, what its units are, and in which order a model uses its layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxplain.program import leaves_by_parts
from jaxplain.program.trace import first_reads
from jaxplain.train.weight_axes import TABLE, weight_axes
from jaxplain.types import Array, Pytree


class Group(NamedTuple):
    """The trained arrays of one layer, by their places among the leaves of what is trained.

    `counted` are the arrays whose units are counted, those of one shape together; `along` says of each such set which
    of its axes count them: all of a bias's, of a weight's those that its product does not sum over.
    """

    name: str
    leaves: tuple[int, ...]
    size: int
    units: int
    matrix: bool
    counted: tuple[tuple[int, ...], ...]
    along: tuple[tuple[int, ...], ...]

    def norm(self, leaves: list[Array]) -> Array:
        """The L2 norm of the layer's part of a tree's leaves, in float32 or wider."""
        parts = [leaves[place] for place in self.leaves]
        return jnp.sqrt(sum(jnp.sum(jnp.square(part.astype(jnp.result_type(part, jnp.float32)))) for part in parts))

    def moved(self, leaves: list[Array]) -> Array:
        """Whether anything of each unit is not zero, `[units]`."""
        pairs = zip(self.counted, self.along, strict=True)
        return jnp.concatenate([jnp.stack([_moves(leaves[i], axes) for i in places]).any(0) for places, axes in pairs])


def _moves(leaf: Array, axes: tuple[int, ...]) -> Array:
    """Whether anything is not zero at each place of some axes, laid out."""
    return (leaf != 0).any(axis=tuple(axis for axis in range(leaf.ndim) if axis not in axes)).reshape(-1)


def groups_of(trained: Pytree, run: Callable[..., Any], *inputs: Any) -> tuple[Group, ...]:
    """The layers of what is trained, in the order in which `run(trained, *inputs)` first computes with them.

    Arrays that lie together in one container, with nothing deeper beside them, are one layer (a kernel and its bias,
    the kernels of a recurrent cell and their one bias); every other array is a layer of its own, also those of several
    layers in one container (kernels and biases, or a list of either). Units are told by the array of the fewest axes,
    where there are several (a bias), else by the axes that the first product with the array does not sum over (the
    outputs, wherever a framework puts them), or the last one of what no product takes as it is and of tables.

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
    leaves, structure = jax.tree.flatten((shapes, inputs))

    def called(leaves: list[Any]) -> Any:
        trained, inputs = jax.tree.unflatten(structure, leaves)
        return run(trained, *inputs)

    found = weight_axes(called, leaves)
    axes = {place: own for place, (own, operation) in found.items() if operation != TABLE}
    return tuple(_group("/".join(parts) or "params", places, leaves, axes) for parts, places in ordered)


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


def _group(name: str, places: list[int], leaves: list[Any], filters: dict[int, tuple[int, ...]]) -> Group:
    axes = {place: jnp.ndim(leaves[place]) for place in places}
    few = min(axes.values())
    whole = few < 2 or max(axes.values()) > few
    counted: dict[tuple[Any, ...], list[int]] = {}
    for place in places:
        if axes[place] == few:
            along = tuple(range(few)) if whole else filters.get(place, (few - 1,))
            counted.setdefault((jnp.shape(leaves[place]), along), []).append(place)
    units = sum(math.prod(shape[axis] for axis in along) for shape, along in counted)
    size = sum(math.prod(jnp.shape(leaves[place])) for place in places)
    together = tuple(map(tuple, counted.values()))
    return Group(name, tuple(places), size, units, max(axes.values()) > 1, together, tuple(a for _, a in counted))
