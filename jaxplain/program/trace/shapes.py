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
    """A table of what a function returned that reads nothing of pytrees but structure, shapes and dtypes."""

    def __init__(self) -> None:
        self.known: OrderedDict[Any, list[tuple[list[Any], T]]] = OrderedDict()

    def __call__(self, f: Callable[..., T], *trees: Any) -> T:
        """What is known for trees of this structure and these shapes, or else `f` of them.

        `f` gets the trees with a `jax.ShapeDtypeStruct` for each leaf; a table is asked with one function only.
        """
        leaves, structure = jax.tree.flatten(trees)
        kinds = kinds_of(leaves)
        for known, result in self.known.get(structure, ()):
            if known == kinds:
                return result
        shapes = [jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]
        result = f(*jax.tree.unflatten(structure, shapes))
        self.known[structure] = [(kinds, result), *self.known.get(structure, ())][:SHAPES]
        self.known.move_to_end(structure)
        while len(self.known) > KEPT:
            self.known.popitem(last=False)
        return result
