"""`--list`: what can be named, a line each, or all that one name takes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

from jaxplain.command import catalogue
from jaxplain.command.kind import kind, kind_of, settings_with_names
from jaxplain.command.place import nearest


def listed(name: str | None, kinds: Sequence[str]) -> str:
    """The text of `--list`.

    Args:
        name: A method, wrapper, score, metric or setting; None for all of `kinds`.
        kinds: Which catalogues there are: "method", "wrapper", "score", "metric".

    Raises:
        ValueError: Nothing of that name.
    """
    if name is None:
        parts = [_names(f"{word}s", catalogue.known(word)) for word in kinds if word in catalogue.KINDS]
        parts += [_names(f"values of `{word}`", _values(word)) for word in kinds if word not in catalogue.KINDS]
        return "\n\n".join([*parts, "--list NAME says what one of them takes."])
    for word in [*kinds, *catalogue.KINDS]:
        if word in catalogue.KINDS and name in catalogue.known(word):
            return _described(name, word, catalogue.known(word)[name])
    if name == "fit" and "optimizer" in kinds:
        from jaxplain.train import fit

        return _described(name, "what train does", fit, skip=3)
    if kind(name) is not None:
        return _names(f"values of `{name}`", _values(name))
    for setting in settings_with_names():
        if setting != "optimizer" and name in _values(setting):
            return _described(name, f"value of `{setting}`", _values(setting)[name])
    names = {own for word in kinds if word in catalogue.KINDS for own in catalogue.known(word)}
    raise ValueError(f"--list: there is no {name!r}{nearest(name, names | set(settings_with_names()))}.")


def _values(setting: str) -> Any:
    found = kind(setting)
    return {} if found is None else found.names


def _names(title: str, names: Any) -> str:
    """A line for each name, with the first sentence of what it does."""
    width = max(map(len, names))
    return "\n".join([f"{title}:", *(f"  {name:<{width}}  {_first_line(f)}" for name, f in names.items())])


def _first_line(function: Any) -> str:
    text = (inspect.getdoc(function) or "").partition("\n\n")[0]
    return " ".join(text.split())


def _described(name: str, word: str, function: Callable[..., Any], skip: int | None = None) -> str:
    """What a function does, and its settings with their defaults and words."""
    skip = {"method": 1, "wrapper": 1, "score": 2}.get(word, 0) if skip is None else skip
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    parameters = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    words = _words(function)
    lines = [f"{name} ({word}): {_first_line(function)}", ""]
    for parameter in parameters:
        default = "needed" if parameter.default is parameter.empty else f"{parameter.default!r}"
        lines.append(f"  {parameter.name} ({default}): {words.get(parameter.name, '')}".rstrip(": "))
        own = kind_of(function, parameter.name).names
        if own:
            lines.append(f"      by name: {', '.join(list(own)[:20])}{' ...' if len(own) > 20 else ''}")
    return "\n".join(lines if parameters else [*lines, "  no settings"])


def _words(function: Any) -> dict[str, str]:
    """What the docstring says of each argument."""
    doc = inspect.getdoc(function) or ""
    part = re.search(r"^Args:\n((?:    .*\n|\n)+)", f"{doc}\n", re.M)
    found: dict[str, str] = {}
    for entry in re.findall(r"^    (\w+): ((?:.*)(?:\n     +.*)*)", part[1] if part else "", re.M):
        found[entry[0]] = " ".join(entry[1].split())
    return found
