"""Path patching: the effect of one writer that goes by one path through the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp

from jaxplain import check
from jaxplain.explain.language.circuit.edges import Pair, _OfPairs, open_pair
from jaxplain.explain.language.circuit.flow import Change, of_writers
from jaxplain.explain.language.circuit.stream import Read, Streams
from jaxplain.program import as_function, public, setting
from jaxplain.types import Array, Pytree


@dataclasses.dataclass(frozen=True)
class _Into(Change):
    """Something added to what one reader reads."""

    streams: Streams
    reader: int
    move: Array

    def read(self, number: int, read: Read, written: list[Any]) -> Any:
        """What is added."""
        first = sum(len(other.names) for other in self.streams.reads[:number])
        if not first <= self.reader < first + len(read.names):
            return None
        each = jnp.arange(len(read.names)) == self.reader - first
        return each.reshape(-1, *(1,) * self.move.ndim) * self.move[None]


class PathPatching(_OfPairs):
    """The effect by one path: `(clean, corrupt, *args) -> scalar`. Made by `path_patching`."""

    path: tuple[str, ...] = setting()
    name: ClassVar[str] = "path_patching"

    def __call__(self, clean: Pytree, corrupt: Pytree, *args: Any) -> Array:
        """The change of the score."""
        pair = open_pair(self.f, corrupt, clean, args, self.name)
        streams, arguments = pair.streams, pair.opened.arguments
        other, here = pair.written(pair.other), pair.flow.run(arguments, Change())
        writer = _place(self.path[0], streams.writers, self.name, "writer")
        readers = [_place(name, streams.readers, self.name, "reader") for name in self.path[1:]]
        move = of_writers(streams, other, [writer])[0] - of_writers(streams, here.written, [writer])[0]
        for number, reader in enumerate(readers):
            if (writer, reader) not in streams.edges:
                raise ValueError(
                    f"{self.name}: there is no edge from {streams.writers[writer]!r} to {streams.readers[reader]!r}; "
                    "`edges(f)(x)` lists all."
                )
            ran = pair.flow.run(arguments, _Into(streams, reader, move))
            if number == len(readers) - 1:
                return ran.score - here.score
            writer = _writer_behind(pair, reader)
            move = of_writers(streams, ran.written, [writer])[0] - of_writers(streams, here.written, [writer])[0]
        raise AssertionError("a path has a reader")


def _place(name: str, names: Sequence[str], caller: str, what: str) -> int:
    if name not in names:
        raise ValueError(f"{caller}: {name!r} is no {what} of this model. There are: {', '.join(names)}.")
    return names.index(name)


def _writer_behind(pair: Pair, reader: int) -> int:
    """The writer of a reader's block, of the same head."""
    streams, first = pair.streams, 0
    for number, block in enumerate(streams.blocks[:-1]):
        for read in block.reads:
            if first <= reader < first + len(read.names):
                own = streams.of_block(number)
                return own[reader - first] if len(own) == len(read.names) else own[0]
            first += len(read.names)
    raise ValueError("path_patching: 'output' is where a path ends.")


@public
def path_patching(f: Callable[..., Any], path: Sequence[str]) -> PathPatching:
    """The effect that one writer has along one path, all else as it is on the corrupt input.

    The first reader reads what the writer writes for the clean input; the next reads what the first one's block writes
    then; and so on. What any of them writes reaches nobody else. From the last reader on everything follows, so a path
    to `"output"` is a direct one.

    Args:
        f: As in `edges`.
        path: A writer, then one or more readers, by the names of `edges(f)(x)`, such as
            `("block_0/attention/head_1", "block_1/attention/head_0/key", "output")`.

    Returns:
        `(clean, corrupt, *args) -> effect`, in units of the score. Cost: a forward pass for each reader, and two.

    Raises:
        ValueError: As in `edge_patching`; a name that the model does not have, readers that do not follow each other.

    Source: Goldowsky-Dill et al. 2023, "Localizing model behavior with path patching", section 3.
    """
    name = "path_patching"
    if isinstance(path, str) or not isinstance(path, Sequence) or not all(isinstance(part, str) for part in path):
        raise TypeError(f"{name}: `path` has to be a sequence of names, a writer and then readers, not {path!r}.")
    if len(path) < 2:
        raise ValueError(f"{name}: `path` has {len(path)} names; pass a writer and at least one reader.")
    return PathPatching(as_function(check.callable_score(f, name)), tuple(path))
