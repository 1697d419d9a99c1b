"""A function of the library with the settings it was asked for: `--method integrated_gradients --set steps=64`."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import jaxplain
from jaxplain.command import catalogue
from jaxplain.command.kind import SPECIAL, kind_of
from jaxplain.command.place import named
from jaxplain.command.value import Given, Waits, Written, arranged, missing, require_setting, written
from jaxplain.program import hold

NEEDED = {
    "layer": "`jaxplain layers --model ... --data ...` lists the names of layers",
    "path": "`jaxplain layers --model ... --data ...` lists the names of layers",
}
"""Where to find what a setting takes."""


def stand_in_apply(params: Any, x: Any) -> Any:
    """A model that is never run: settings are checked with it."""
    return x


def stand_in() -> Any:
    """A score that is never computed: settings are checked with it."""
    return jaxplain.logit(stand_in_apply, ())


_STAND_INS: Given = {
    "data": lambda: np.zeros((2, 4, 4, 1), np.float32),
    "targets": lambda: np.zeros(2, np.int32),
    "score": stand_in,
    "apply": lambda: stand_in_apply,
    "params": lambda: {"w": np.zeros((2, 2), np.float32)},
    "outputs": stand_in,
}
"""What stands for the data and the model while settings are checked."""


@dataclasses.dataclass
class Asked:
    """A function, what was written for its settings, and how many of its first arguments are not written."""

    title: str
    function: Callable[..., Any]
    settings: dict[str, Written]
    option: str
    skip: int = 1
    _values: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def first(self) -> str:
        """The name of the function's first argument; empty without one."""
        return next(iter(inspect.signature(self.function).parameters), "")

    def check(self, *stand_ins: Any) -> Any:
        """Check every setting that needs neither model nor data, in the library's words.

        Args:
            *stand_ins: What stands for the function's first arguments.

        Returns:
            What the function made of the stand-ins; None where a setting has to wait.

        Raises:
            ValueError, TypeError: A setting that is missing, unknown, or refused.
        """
        values = self._read({})
        name, given = self._name, {**values, **self._filled({}, values)}
        needed = missing(self.function, {**given, **dict.fromkeys(self.settings, 0), **_automatic(self)}, self.skip)
        if needed:
            hint = NEEDED.get(needed[0], f"`--list {name}` says what it is")
            raise TypeError(f"{self.option}: {name} needs `{needed[0]}`: {self._way(needed[0])}; {hint}.")
        stand_ins = stand_ins[: self.skip]
        if len(values) == len(self.settings) and not _automatic(self):
            return self.function(*stand_ins, **values)
        hold(inspect.unwrap(self.function), values) if hasattr(self.function, "__code__") else None
        self._try(stand_ins, values)
        return None

    def _try(self, stand_ins: tuple[Any, ...], values: Mapping[str, Any]) -> None:
        """Make the function's result with stand-ins for what has to wait, for what it says of the other settings."""
        waiting = {name: text for name, text in self.settings.items() if name not in values}
        try:
            if any(text.references for text in waiting.values()):
                return
            filled = {name: text.read(kind_of(self.function, name), _STAND_INS) for name, text in waiting.items()}
            filled |= {name: _STAND_INS[name]() for name in _automatic(self)}
        except Exception:  # what needs the model, or data of another shape, is looked at when it is there
            return
        try:
            self.function(*stand_ins, **values, **filled)
        except (ValueError, TypeError) as error:
            if any(_blames(error, name) for name in values if name != "layers"):  # those of the real parameters
                raise

    def make(self, *first: Any, given: Given) -> Any:
        """Call the function with all its settings.

        Args:
            *first: Its first arguments, of which it takes as many as are not written.
            given: What there is of the model and the data.
        """
        values = self._read(given)
        return self.function(*first[: self.skip], **values, **self._filled(given, values))

    def _read(self, given: Given) -> dict[str, Any]:
        """The values that can be read; each is read once, so that a function that is called runs once."""
        for name, text in self.settings.items():
            if name in self._values:
                continue
            try:
                self._values[name] = text.read(kind_of(self.function, name), given)
            except Waits:
                if given:
                    raise
        return dict(self._values)

    def _filled(self, given: Given, values: Mapping[str, Any]) -> dict[str, Any]:
        """What an argument of a special name is, where it was not written."""
        return {name: given[name]() for name in _automatic(self) if name not in values and name in given}

    def _way(self, setting: str) -> str:
        if self.option in ("--method", "--wrapper", "--score"):
            return f"{'--set' if self.option == '--method' else f'{self.option}-set'} {setting}=..."
        return f"{self.option} '{self._name}({setting}=...)'"

    @property
    def _name(self) -> str:
        return str(getattr(self.function, "__name__", self.title))


def _blames(error: Exception, setting: str) -> bool:
    """Whether an error is about a setting, or about what it was made of."""
    return f"`{setting}`" in str(error) or str(error).startswith(f"{setting}:")


def _automatic(asked: Asked) -> dict[str, Any]:
    """Arguments that have the name of something that is there anyway, and that were not written."""
    parameters = list(inspect.signature(asked.function).parameters.values())[asked.skip :]
    names = [p.name for p in parameters if p.default is p.empty and p.name in SPECIAL and p.name != "data"]
    return {name: None for name in names if name not in asked.settings}


def asked(
    text: str, kind: str, option: str, pairs: Sequence[str] = (), pairs_option: str = "--set", skip: int = 1
) -> Asked:
    """Read `name`, `name(setting=value, ...)` or `@module:name`, and further settings `name=value`.

    Args:
        text: The name or call.
        kind: Of what it is a name: "method", "wrapper", "score" or "metric".
        option: The option that it was written for.
        pairs: Further settings.
        pairs_option: The option that they were written for.
        skip: How many of the function's first arguments are not written.

    Raises:
        ValueError, TypeError: An unknown name or setting, or one that was written twice.
    """
    whole = written(text, option)
    tree = whole.tree
    name = tree.func if isinstance(tree, ast.Call) else tree
    if not isinstance(name, ast.Name):
        raise ValueError(f"{option}: {text!r} has to be a name, a call such as name(setting=value), or @file.py:name.")
    if whole.references and name.id == "_reference_0_":
        function = named(whole.references[0], option, "@tiny.py:method")
        if not callable(function):
            raise TypeError(f"{option}: @{whole.references[0]} is {type(function).__name__}, no function.")
    else:
        function = catalogue.find(name.id, kind, option)
    parameters = list(inspect.signature(function).parameters)
    first, skip = next(iter(parameters), ""), min(skip, len(parameters))
    if kind == "method" and first == "apply":
        skip = 0  # it scores the model by itself
    if kind == "metric":
        skip = {"f": 1, "e": 1, "make": 1, "method": 2}.get(first, 0)  # a metric of a method is one of its score, too
    settings = arranged(function, whole, tree, skip=skip) if isinstance(tree, ast.Call) else {}
    found = Asked(whole.text, function, settings, option, skip)
    found.settings.update(setting_pairs(function, pairs, pairs_option, skip, settings))
    return found


def setting_pairs(
    function: Callable[..., Any], pairs: Sequence[str], option: str, skip: int, there: Mapping[str, Any]
) -> dict[str, Written]:
    """Settings written as `name=value`.

    Raises:
        ValueError: Another form, or a setting that is there already.
        TypeError: One that the function lacks.
    """
    found: dict[str, Written] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"{option}: {pair!r} has to be name=value.")
        if name in found or name in there:
            raise ValueError(f"{option}: `{name}` is set twice.")
        require_setting(function, name, option, skip)
        found[name] = written(value, f"{option} {name}")
    return found
