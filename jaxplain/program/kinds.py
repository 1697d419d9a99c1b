"""What kind of value each argument of a public function takes, held before anything else is done.

An annotation is the one place where the kind is said; the table `KINDS` says what it accepts, in words that a caller
reads. What an argument means (its range, its shape, whether it is finite) the function looks at itself, with `check`.
"""

from __future__ import annotations

import ast
import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_origin

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain.types import is_concrete, is_key, odd_leaf, short


def hold(function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Hold the arguments of a call against the function's annotations.

    Args:
        function: The function that is called.
        given: Its arguments by name.

    Raises:
        TypeError: An argument of another kind than its annotation says.
        ValueError: NaN where a number is due.
    """
    for argument, value in given.items():
        kinds = _kinds(function, argument)
        if kinds is not None and argument != "apply":  # what a model may be, and how one is made, its takers say
            _of_kind(value, kinds, function.__name__, argument)


@functools.cache
def _kinds(function: Callable[..., Any], argument: str) -> list[Any] | None:
    """What an argument may be; None where its annotation does not say."""
    code, annotation = function.__code__, function.__annotations__.get(argument)
    if annotation is None or argument not in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]:
        return None
    texts = _parts(re.sub("^Array", "Key", annotation) if argument == "key" else annotation)
    return [KINDS.get(text) or _class_kind(function, text) for text in texts]


def _of_kind(value: Any, kinds: list[Any], name: str, argument: str) -> None:
    known = [kind for kind in kinds if kind is not None]
    if len(known) < len(kinds):  # an alternative without a word in the table
        return
    if not any(accepts(value) for accepts, _ in known):
        words = " or ".join(dict.fromkeys(word for _, word in known))
        raise TypeError(f"{name}: `{argument}` has to be {words}, not {short(value)}.")
    numeric = any(kind in known for kind in (KINDS["float"], KINDS["Number"]))
    if numeric and _is_real(value) and is_concrete(value) and bool(np.isnan(np.asarray(value, np.float64)).any()):
        raise ValueError(f"{name}: `{argument}` is NaN; pass a number.")


def _class_kind(function: Any, text: str) -> tuple[Callable[[Any], bool], str] | None:
    """What an annotation accepts that is the name of a class, says the words, or is another sequence."""
    if text.startswith("Literal["):
        words = ast.literal_eval(f"({text[8:-1]},)")
        return lambda value: isinstance(value, str) and value in words, " or ".join(map(repr, words))
    for general in ("Sequence", "Iterable"):
        if text.startswith(f"{general}["):
            return KINDS[f"{general}[Any]"]
    found = function.__globals__.get(text)
    if get_origin(found) is Callable:
        return KINDS["Callable"]
    if not isinstance(found, type) or found in (Any, jax.Array) or getattr(found, "_is_protocol", False):
        return None
    return lambda value: isinstance(value, found), f"{'an' if found.__name__[0] in 'AEIO' else 'a'} {found.__name__}"


@functools.cache
def _parts(annotation: str) -> tuple[str, ...]:
    """The alternatives of an annotation, each without what stands in its brackets where that is not looked at."""
    parts = re.findall(r"(?:[^|\[\]]|\[(?:[^\[\]]|\[[^\]]*\])*\])+", annotation)
    names = (part.strip() for part in parts)
    return tuple(re.sub(r"^(Callable|Mapping|dict)\[.*", r"\1", part) for part in names)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_real(value: Any) -> bool:
    """Whether a value is a real number or an array of them."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        real = jnp.issubdtype(value.dtype, jnp.floating) or jnp.issubdtype(value.dtype, jnp.integer)
        return bool(real) and 0 not in value.shape
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_row(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether a value is a sequence of what is accepted."""

    def row(value: Any) -> bool:
        if isinstance(value, np.ndarray | jax.Array):
            return value.ndim > 0 and all(accepts(v) for v in np.asarray(value)) if is_concrete(value) else True
        return isinstance(value, Sequence) and not isinstance(value, str | bytes) and all(map(accepts, value))

    return row


def _is_array_like(value: Any) -> bool:
    """Whether a value is an array of numbers, or a list of rows of one length that makes one."""
    if not isinstance(value, list | tuple):
        return odd_leaf(value) is None and not isinstance(value, dict)
    if not all(odd_leaf(leaf) is None for leaf in jax.tree.leaves(value)):
        return False
    shapes = {jnp.shape(part) if not isinstance(part, list | tuple) else len(part) for part in value}
    return len(shapes) <= 1 and all(_is_array_like(part) for part in value)


def _is_tuple(value: Any) -> bool:
    """Whether a value is a tuple (or list) of whole numbers."""
    return isinstance(value, tuple | list) and all(map(_is_integer, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "None": (lambda value: value is None, "None"),
    "bool": (lambda value: isinstance(value, bool | np.bool_), "True or False"),
    "int": (_is_integer, "a whole number"),
    "float": (lambda value: _is_real(value) and jnp.shape(value) == (), "a number"),
    "Number": (_is_real, "a number or an array of numbers"),
    "Array": (lambda value: hasattr(value, "dtype") and odd_leaf(value) is None, "an array of numbers"),
    "ArrayLike": (_is_array_like, "an array of numbers, or a list that makes one"),
    "Arrays": (lambda value: odd_leaf(value) is None, "an array of numbers, or a pytree of such arrays"),
    "Key": (is_key, "a key, such as jax.random.key(0)"),
    "str": (_is_text, "a text"),
    "os.PathLike[str]": (lambda value: isinstance(value, os.PathLike), "a path"),
    "Callable": (callable, "a function"),
    "Mapping": (lambda value: isinstance(value, Mapping), "a mapping, such as a dictionary"),
    "dict": (lambda value: isinstance(value, dict), "a dictionary"),
    "tuple[int, ...]": (_is_tuple, "a tuple of whole numbers"),
    "tuple[int, int]": (_is_tuple, "a tuple of two whole numbers"),
    "Sequence[int]": (_is_row(_is_integer), "a sequence of whole numbers"),
    "Sequence[float]": (_is_row(lambda value: _is_real(value) and jnp.shape(value) == ()), "a sequence of numbers"),
    "Sequence[str]": (_is_row(_is_text), "a sequence of texts"),
    "Iterable[Any]": (
        lambda value: hasattr(value, "__iter__") and not isinstance(value, str),
        "a sequence or iterator",
    ),
    "Sequence[Any]": (_is_row(lambda value: True), "a sequence"),
}
"""Annotation to what it accepts, and to its words; what is not here is looked at by the function itself."""
