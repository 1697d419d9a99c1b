"""A parameter tree's layers, in the order in which the model reads them, and the trees with some of them drawn anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program.trace import first_reads
from jaxplain.types import Array, Pytree


def layer_masks(metric: Any, explain: Callable[[Pytree], Pytree]) -> Pytree:
    """For each leaf of the parameters, in which of the L versions of the model it is drawn anew: booleans `[L]`."""
    paths, leaves = _paths(metric.params)
    drawn = [
        check.is_floating(leaf) and _trained(metric.params, path) for path, leaf in zip(paths, leaves, strict=True)
    ]
    if not any(drawn):
        raise ValueError(f"{metric.name}: `params` holds no floating-point leaves, so nothing can be randomized.")
    if metric.layers is None:
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), metric.params)
        parents = [path[:-1] for path in paths]
        reads = [position for position in first_reads(explain, shapes) if drawn[position]]
        layers = list(dict.fromkeys(parents[position] for position in reads))
        owner = [layers.index(parent) if parent in layers else -1 for parent in parents]
    else:
        layers = [tuple(layer.split("/")) for layer in metric.layers]
        owner = [_owner(path, layers) for path in paths]
        for index, layer in enumerate(metric.layers):
            if index not in [o for o, d in zip(owner, drawn, strict=True) if d]:
                known = ", ".join(dict.fromkeys("/".join(path[:-1]) for path in paths))
                raise ValueError(f"{metric.name}: `params` has no parameters in {layer!r}; its layers are: {known}.")
    order = list(range(len(layers)))[:: -1 if metric.start == "top" else 1]
    place = {layer: position for position, layer in enumerate(order)}
    versions = np.arange(len(layers))
    masks = []
    for index, moves in zip(owner, drawn, strict=True):
        if not moves or index < 0:
            masks.append(np.zeros(len(layers), bool))
        else:
            masks.append(versions == place[index] if metric.independent else versions >= place[index])
    return jax.tree.unflatten(jax.tree.structure(metric.params), masks)


def _paths(params: Pytree) -> tuple[list[tuple[str, ...]], list[Any]]:
    found = jax.tree_util.tree_leaves_with_path(params)
    return [tuple(_word(part) for part in path) for path, _ in found], [leaf for _, leaf in found]


def _word(part: Any) -> str:
    for name in ("key", "idx", "name"):
        if hasattr(part, name):
            return str(getattr(part, name))
    return str(part)


def _trained(params: Pytree, path: tuple[str, ...]) -> bool:
    """Whether a leaf is a parameter: of a Linen variables tree those in 'params' are, statistics are not."""
    return not (isinstance(params, Mapping) and "params" in params) or path[0] == "params"


def _owner(path: tuple[str, ...], layers: list[tuple[str, ...]]) -> int:
    """The most specific of the layers that a path lies in."""
    inside = [index for index, layer in enumerate(layers) if path[: len(layer)] == layer]
    return max(inside, key=lambda index: len(layers[index]), default=-1)


def randomized(initialize: Any, key: Array, params: Pytree, name: str) -> Pytree:
    """A tree like `params` with every floating-point leaf drawn anew."""
    if initialize is not None:
        new = initialize(key)
        check.same_structure(params, new, name, "params", "initialize(key)")
        return new
    leaves, structure = jax.tree.flatten(params)

    def shuffled(index: int, leaf: Any) -> Any:
        if not check.is_floating(leaf):
            return leaf
        leaf = jnp.asarray(leaf)
        return jax.random.permutation(jax.random.fold_in(key, index), leaf.reshape(-1)).reshape(leaf.shape)

    return jax.tree.unflatten(structure, [shuffled(index, leaf) for index, leaf in enumerate(leaves)])
