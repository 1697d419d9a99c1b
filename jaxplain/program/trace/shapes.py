"""What depends on structure, shapes and dtypes alone, computed once and then looked up by a cheap key.

A call with hundreds of parameters may not ask each of them for its dtype. Arrays keep one object that describes them,
so that two calls with the same arrays compare by identity; a structure is compared by what it holds, never by an `id`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp

from jaxplain.program.trace.compat import kinds_of

T = TypeVar("T")
KEPT = 32
"""How many structures a table keeps; a structure keeps the code in it alive."""
SHAPES = 8
"""How many shapes of one structure it keeps."""


class ByShape(Generic[T]):
    """A function of pytrees that reads nothing of their leaves but shapes and dtypes, with its results kept.

    Args:
        f: Called with the trees, each leaf a `jax.ShapeDtypeStruct`, where structure or shapes are new.
    """

    def __init__(self, f: Callable[..., T]) -> None:
        self.f = f
        self.known: OrderedDict[Any, list[tuple[list[Any], T]]] = OrderedDict()

    def __call__(self, *trees: Any) -> T:
        """What `f` returns for trees of this structure and these shapes."""
        leaves, structure = jax.tree.flatten(trees)
        kinds = kinds_of(leaves)
        for known, result in self.known.get(structure, ()):
            if known == kinds:
                return result
        shapes = [jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]
        result = self.f(*jax.tree.unflatten(structure, shapes))
        self.known[structure] = [(kinds, result), *self.known.get(structure, ())][:SHAPES]
        self.known.move_to_end(structure)
        while len(self.known) > KEPT:
            self.known.popitem(last=False)
        return result
