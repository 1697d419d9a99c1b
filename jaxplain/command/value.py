"""Values as they are written: literals, the library's own names, calls of these, objects by `@module:name`.

A text is parsed and read node by node; what is no literal, no known name and no call of one is refused. Nothing is
evaluated as code.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from jaxplain.command import place
from jaxplain.command.kind import ELSEWHERE, SPECIAL, Kind, kind_of
from jaxplain.program import Function, hold, unknown_setting

_REFERENCE = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|@([^\s@'",()\[\]{}=:]+(?::[A-Za-z_][\w.]*)?)""")
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

MANY = 8
"""Settings that are named in an error; of more only the nearest are."""

Given = Mapping[str, Callable[[], Any]]
"""What there is of the model and the data, by the names of `SPECIAL`; each is made when it is asked for."""


class Waits(Exception):
    """A value needs the model or the data, which are not there yet."""


class NoValue(Exception):
    """What was written is no value."""


@dataclasses.dataclass(frozen=True)
class Written:
    """A text that was parsed: its tree, the objects it refers to, and where it was written, for errors."""

    code: str
    tree: ast.expr | None
    references: tuple[str, ...]
    where: str

    def part(self, tree: ast.expr, where: str) -> Written:
        """A part of it."""
        return dataclasses.replace(self, tree=tree, where=where)

    @property
    def text(self) -> str:
        """The text of it, as it was written."""
        if self.tree is None:
            return self.code
        text = ast.get_source_segment(self.code, self.tree) or self.code
        for number, name in enumerate(self.references):
            text = text.replace(f"_reference_{number}_", f"@{name}")
        return text

    def read(self, kind: Kind, given: Given) -> Any:
        """The value.

        Args:
            kind: Which names may stand in it, and whether any text may.
            given: What there is of the model and the data.

        Raises:
            ValueError: No value of this kind.
            Waits: It needs what `given` lacks.
        """
        try:
            if self.tree is None:
                raise NoValue(f"{self.code!r} cannot be read: write a number, a text in quotes, a list or a name.")
            return self._value(self.tree, kind, given)
        except NoValue as told:
            if not kind.strict and not self.references:
                return self.text
            raise ValueError(f"{self.where}: {told}") from None

    def _value(self, node: ast.expr, kind: Kind, given: Given) -> Any:
        """The value of a node."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Tuple | ast.List):
            values = [self.part(item, self.where).read(kind, given) for item in node.elts]
            return tuple(values) if isinstance(node, ast.Tuple) else values
        if isinstance(node, ast.Dict) and None not in node.keys:
            pairs = zip(node.keys, node.values, strict=True)
            if any(isinstance(key, ast.List | ast.Dict) for key in node.keys):
                raise NoValue(f"{self.text!r} is no value: what stands before a colon has to be a text or a number.")
            return {
                self._value(key, kind.words, given): self.part(item, self.where).read(kind, given)  # type: ignore[arg-type]
                for key, item in pairs
            }
        if isinstance(node, ast.Name):
            return self._named(node.id, kind, given)
        if isinstance(node, ast.Call):
            return self._call(node, kind, given)
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
            return self._taken(self._named(node.value.id, kind, given), self._index(node.slice))
        if isinstance(node, ast.UnaryOp | ast.BinOp):
            return self._computed(node, kind, given)
        raise NoValue(
            f"{self.text!r} is no value; write a literal, a name, a call such as {kind.example}, or @file.py:name."
        )

    def _named(self, name: str, kind: Kind, given: Given) -> Any:
        """What a name stands for; a factory that needs nothing is called."""
        reference = self._reference(name)
        if reference is not None:
            return reference
        if name in kind.names:
            found = kind.names[name]
            return found if kind.plain else called(found, {}, self.where)
        if name in SPECIAL and kind.special:
            if name not in given:
                raise Waits(name)
            return given[name]()
        raise NoValue(self._unknown(name, kind))

    def _unknown(self, name: str, kind: Kind) -> str:
        ours = ELSEWHERE.get(name)
        if ours in kind.names:
            return f"there is no {name!r}; it is called {ours} here."
        there = f"; there are {', '.join(sorted(kind.names))}" if 0 < len(kind.names) <= 8 else ""
        return f"there is no {name!r}{place.nearest(name, kind.names) or there}. {kind.hint}".rstrip()

    def _reference(self, name: str) -> Any:
        """The object of `@module:name`, or the array of `@file.npy`; None for another name."""
        found = re.fullmatch(r"_reference_(\d+)_", name)
        if found is None or int(found[1]) >= len(self.references):
            return None
        text = self.references[int(found[1])]
        if re.search(r"\.np[yz](:|$)", text):
            return place.array(text, self.where)
        return place.named(text, self.where, "@tiny.py:name")

    def _call(self, node: ast.Call, kind: Kind, given: Given) -> Any:
        """A call of one of the names, or of an object that is referred to."""
        if not isinstance(node.func, ast.Name):
            raise NoValue(
                f"{self.text!r} is no value; only the library's own names can be called, such as {kind.example}."
            )
        function = self._reference(node.func.id) or kind.names.get(node.func.id)
        if not callable(function):
            raise NoValue(self._unknown(node.func.id, kind))
        first = {"f": "score"} if _first(function) == "f" else {}
        settings = arranged(function, self, node, skip=len(first))
        values, waits = {}, None
        for name, written in settings.items():
            try:
                values[name] = _many(written, function, name, given)
            except Waits as wait:
                waits = wait
        if waits is not None or (first and "score" not in given):
            hold(function, {name: value for name, value in values.items() if name != "*"})
            raise waits or Waits("score")
        return called(function, {**({"f": given["score"]()} if first else {}), **values}, self.where)

    def _taken(self, value: Any, index: Any) -> Any:
        """A part of an array; JAX would take the last row for one beyond it."""
        if not hasattr(value, "shape") and not isinstance(value, list | tuple):
            raise NoValue(f"{self.text!r} is no value: {type(value).__name__} has no rows.")
        if isinstance(index, int) and not -len(value) <= index < len(value):
            raise ValueError(f"{self.where}: {self.text} is beyond the {len(value)} rows that there are.")
        return value[index]

    def _index(self, node: ast.expr) -> Any:
        """A whole number, or a slice of whole numbers."""
        if isinstance(node, ast.Slice):
            parts = (node.lower, node.upper, node.step)
            return slice(*(None if part is None else self._index(part) for part in parts))
        try:
            found = ast.literal_eval(node)
        except (ValueError, TypeError):
            found = None
        if not isinstance(found, int):
            raise NoValue(f"{self.text!r}: what stands in brackets has to be a whole number or first:last.")
        return found

    def _computed(self, node: ast.UnaryOp | ast.BinOp, kind: Kind, given: Given) -> Any:
        """Signs, sums, differences, products and quotients of numbers and of the library's objects."""
        operator = _OPERATORS.get(type(node.op))
        sides = [node.operand] if isinstance(node, ast.UnaryOp) else [node.left, node.right]
        if operator is None:
            raise NoValue(f"{self.text!r} is no value.")
        values = [self._value(side, kind, given) for side in sides]
        if not all(isinstance(value, int | float | complex | Function) for value in values):
            raise NoValue(f"{self.text!r} is no value.")
        try:
            return operator(*values)
        except ArithmeticError as error:
            raise NoValue(f"{self.text!r} is no value: {error}.") from None


_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.USub: lambda a: -a,
    ast.UAdd: lambda a: a,
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


def written(text: str, where: str) -> Written:
    """Parse a text."""
    references: list[str] = []

    def noted(found: re.Match[str]) -> str:
        if found[1]:
            return found[0]
        references.append(found[2])
        return f"_reference_{len(references) - 1}_"

    code = _REFERENCE.sub(noted, text.strip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Written(text.strip(), None, (), where)
    return Written(code, tree, tuple(references), where)


def arranged(function: Callable[..., Any], whole: Written, node: ast.Call, *, skip: int) -> dict[str, Any]:
    """The arguments of a call by their names, unread, those after the named ones as a list under `*`.

    Args:
        function: What is called.
        whole: What was written.
        node: The call in it.
        skip: How many of the function's first arguments are not written.

    Raises:
        ValueError: Too many, or one twice.
        TypeError: A name that the function lacks.
    """
    parameters = list(inspect.signature(function).parameters.values())
    name = getattr(function, "__name__", "it")
    places = [p.name for p in parameters if p.kind in _POSITIONAL][skip:]
    found: dict[str, Any] = {}
    more = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    for number, item in enumerate(node.args):
        if isinstance(item, ast.Starred) or (number >= len(places) and not more):
            words = f"takes {', '.join(places) or 'nothing'} by place; name the others, name=value"
            raise ValueError(f"{whole.where}: {name} {words}.")
        if number >= len(places):
            found.setdefault("*", []).append(whole.part(item, whole.where))
        else:
            found[places[number]] = whole.part(item, f"{whole.where}: {name}: {places[number]}")
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in found:
            raise ValueError(f"{whole.where}: {name}: write every setting once, as name=value.")
        require_setting(function, keyword.arg, whole.where, skip)
        found[keyword.arg] = whole.part(keyword.value, f"{whole.where}: {name}: {keyword.arg}")
    return found


def require_setting(function: Callable[..., Any], name: str, where: str, skip: int) -> None:
    """Require that a function has a setting.

    Raises:
        TypeError: It has not; the nearest is named.
    """
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    known = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if name not in known and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        own = getattr(function, "__name__", "it")
        text = unknown_setting(own, name, known)
        if len(known) > MANY and "the settings are" in text:
            text = (
                f"{own}: there is no setting `{name}`{place.nearest(name, known)}; `--list {own}` lists what there is"
            )
        raise TypeError(f"{where}: {text.rstrip('.')}.")


def called(function: Callable[..., Any], values: Mapping[str, Any], where: str) -> Any:
    """A factory's result.

    Raises:
        TypeError: What it needs is missing.
        ValueError: It refuses its arguments, in its own words.
    """
    if not callable(function):
        return function
    needed = missing(function, values)
    if needed:
        name = getattr(function, "__name__", "it")
        written = [n if n in SPECIAL else n.upper() for n in needed]  # what there is is written by its name
        raise TypeError(f"{where}: {name} needs `{needed[0]}`; write {name}({', '.join(written)}).")
    places = [p.name for p in inspect.signature(function).parameters.values() if p.kind in _POSITIONAL]
    first = [values[name] for name in places if name in values] if "*" in values else []
    rest = {name: value for name, value in values.items() if name != "*" and not (first and name in places)}
    try:
        return function(*first, *values.get("*", ()), **rest)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{where}: {error}") from error


def missing(function: Callable[..., Any], values: Mapping[str, Any], skip: int = 0) -> list[str]:
    """Arguments that a function needs and that were not given."""
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    fixed = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return [p.name for p in fixed if p.default is p.empty and p.name not in values]


def _many(written: Any, function: Callable[..., Any], name: str, given: Given) -> Any:
    if isinstance(written, list):
        return [one.read(kind_of(function, name), given) for one in written]
    return written.read(kind_of(function, name), given)


def _first(function: Callable[..., Any]) -> str:
    return next(iter(inspect.signature(function).parameters), "")
