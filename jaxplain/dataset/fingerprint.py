"""What a run was made of, so that another model, method, key or dataset is noticed before it is mixed in."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import jax
import numpy as np

from jaxplain.dataset.source import Rows
from jaxplain.program import Function, Static, is_array
from jaxplain.program.trace import ADDRESS, array_digest, array_parts, digest

NAME = "explain_dataset"


def rows_digest(rows: Rows) -> str:
    """The data of one chunk: inputs, arguments, identifiers and indices."""
    leaves = jax.tree.leaves((rows.x, rows.args, rows.ids, rows.places))
    return digest(*(part for leaf in leaves for part in array_parts(leaf)))


def versions() -> dict[str, str]:
    """Of what computes and writes."""
    found = {"python": platform.python_version(), "platform": jax.default_backend()}
    for package in ("jaxplain", "jax", "jaxlib", "numpy", "flax", "tensorstore"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # used from a source tree
            found[package] = "unknown"
    return found


def arrays_of(e: Any) -> dict[str, Any]:
    """The arrays and numbers inside an explanation, by path: numbers as they are, arrays as digests."""
    named: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(e):
        number = isinstance(leaf, np.ndarray | np.generic) and leaf.ndim == 0 and np.issubdtype(leaf.dtype, np.floating)
        leaf = float(leaf) if number else leaf
        value = leaf if isinstance(leaf, bool | int | float) else array_digest(leaf)
        named[jax.tree_util.keystr(path).lstrip(".")] = value
    return named


def settings_of(e: Any) -> Any:
    """The settings of an explanation as words and numbers that JSON takes: names of code, values of settings."""
    if isinstance(e, Function):
        fields = {f.name: settings_of(getattr(e, f.name)) for f in dataclasses.fields(e)}  # type: ignore[arg-type]
        return {"kind": type(e).__qualname__, **fields}
    if isinstance(e, Static):
        return _word(e.value)
    if is_array(e):
        return f"{e.dtype}{list(np.shape(e))}"
    if isinstance(e, Mapping | list | tuple) and jax.tree.leaves(e):
        return f"{len(jax.tree.leaves(e))} arrays"
    return e if e is None or isinstance(e, bool | int | float | str) else _word(e)


def _word(value: Any) -> Any:
    """A function by its name, a setting by its value, other objects by their kind."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    named = getattr(value, "__qualname__", None)
    return f"{getattr(value, '__module__', '')}.{named}" if named else ADDRESS.sub("", f"{type(value).__qualname__}")


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between the manifests of two runs, a line each, in a caller's words."""
    lines = _array_lines(then["arrays"], now["arrays"])
    if then["program"] != now["program"]:
        lines += _program_lines(then, now, known=bool(lines))
    if then["key"] != now["key"]:
        lines.append("key: another PRNG key" if then["key"] and now["key"] else "key: a key is in one of them only")
    lines += [f"data: {line}" for line in _setting_lines(then["data"], now["data"])]
    lines += [f"settings: {line}" for line in _setting_lines(*_kept(then, now))]
    return lines


def _kept(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings of what is kept; functions that compute the same may be written in another way."""
    left_out = ("reduce", "prepare") if then["program"] == now["program"] else ()
    one, other = ({k: v for k, v in part["settings"].items() if k not in left_out} for part in (then, now))
    return one, other


def _program_lines(then: Mapping[str, Any], now: Mapping[str, Any], *, known: bool) -> list[str]:
    """Which settings make the programs differ; without one it is the code, or the data's shapes (which say so)."""
    lines = _setting_lines(then["method"], now["method"])
    model = [line for line in lines if "score.apply" in line.split(" is ")[0]]
    named = [f"method: {line}" for line in lines if line not in model] + [f"model: {line}" for line in model]
    if named or known or then["data"] != now["data"] or then["settings"] != now["settings"]:
        return named
    other = [name for name in ("jax", "flax", "jaxplain") if then["versions"].get(name) != now["versions"].get(name)]
    why = f" (or is only traced in another way: the version of {', '.join(other)} is another one)" if other else ""
    return [f"model or method: its code computes something else{why}"]


def _array_lines(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    changed = [path for path in {**then, **now} if then.get(path) != now.get(path)]
    model = [path for path in changed if "params" in path]
    lines = []
    for what, paths in (("model parameters", model), ("method", [path for path in changed if path not in model])):
        if paths:
            shown = ", ".join(_value_line(path, then.get(path), now.get(path)) for path in paths[:3])
            more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
            lines.append(f"{what}: {shown}{more}")
    return lines


def _value_line(path: str, then: Any, now: Any) -> str:
    if isinstance(then, int | float) and isinstance(now, int | float):
        return f"{path} is {then} there and {now} here"
    return path


def _setting_lines(then: Any, now: Any, path: str = "") -> list[str]:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        if then.get("kind") != now.get("kind"):
            return [f"{path + ' ' if path else ''}is {_title(then)} there and {_title(now)} here"]
        names = [name for name in dict.fromkeys([*then, *now]) if name != "name"]
        return [
            line
            for name in names
            for line in _setting_lines(then.get(name), now.get(name), f"{path}.{name}" if path else name)
        ]
    return [] if then == now else [f"{path} is {then} there and {now} here"]


def _title(settings: Mapping[str, Any]) -> str:
    return str(settings.get("name") or settings.get("kind"))


def refuse(folder: Any, lines: list[str]) -> ValueError:
    """The error of a rerun that is not of the same run."""
    listed = ";\n  ".join(lines)
    return ValueError(
        f"{NAME}: {folder} holds the explanations of another run, which differs in\n  {listed}.\nPass the same "
        "arguments to finish it, or another folder."
    )
