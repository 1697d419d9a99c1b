"""Objects by name: `package.module:name`, `file.py:name`, and arrays in files."""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from jaxplain.command.failure import Failed, said


def near(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The nearest names, at most three, those that begin alike first."""
    known = sorted(known)
    plain = name.lower().replace("-", "_")
    starts = [own for own in known if plain and own.startswith(plain)]
    close = difflib.get_close_matches(plain, known, n=most, cutoff=0.55)
    return list(dict.fromkeys([*starts, *close]))[:most]


def nearest(name: str, known: Iterable[str]) -> str:
    """The same as words: `; nearest: a, b`, or nothing."""
    found = near(name, known)
    return f"; nearest: {', '.join(found)}" if found else ""


def named(text: str, option: str, example: str = "tiny.py:build") -> Any:
    """What `package.module:name` or `file.py:name` names; the module is imported, the file is run once.

    Args:
        text: As it was written.
        option: Where, for errors.
        example: What could be written there.

    Raises:
        ValueError: A text of another form, or a name that is not there.
        FileNotFoundError, ImportError: No such file or module.
        Failed: An error in the module's own code.
    """
    place, colon, name = text.rpartition(":")
    if not colon or not place or not name:
        file = text.strip(":")
        inside = f" {file} has {', '.join(_functions(file)[:5])}." if _functions(file) else ""
        raise ValueError(
            f"{option}: {text!r} has to be file.py:name or package.module:name, such as {example}.{inside}"
        )
    module = _from_file(Path(place), option) if place.endswith(".py") else _imported(place, option)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            own = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise ValueError(f"{option}: {place} has no {name}{nearest(name, own)}; write def {name}(): ... there.")
        found = getattr(found, part)
    return found


def _functions(file: str) -> list[str]:
    """Functions of a file, without running it."""
    try:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return []
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def _imported(name: str, option: str) -> ModuleType:
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)  # as `python -m` does; a console script does not
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise Failed(f"{option}: importing {name} raised {said(error)}") from error
        file = Path(f"{name.replace('.', '/')}.py")
        hint = f" Write {file}:NAME for the file." if file.is_file() else ""
        raise ImportError(f"{option}: No module named {error.name!r} here or among what is installed.{hint}") from None
    except Exception as error:
        raise Failed(f"{option}: importing {name} raised {said(error)}") from error


def _from_file(path: Path, option: str) -> ModuleType:
    if not path.is_file():
        beside = nearest(path.name, [file.name for file in path.parent.glob("*.py")] if path.parent.is_dir() else [])
        raise FileNotFoundError(f"{option}: there is no file {path} in {os.getcwd()}{beside}.")
    path = path.resolve()
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    digest = hashlib.sha1(str(path).encode()).hexdigest()[:8]
    name = path.stem if known is None and path.stem.isidentifier() else f"file_{digest}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # for the modules that lie beside it
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise Failed(f"{option}: {path.name} raised {said(error)}") from error
    return module


def require_file(text: str, option: str) -> None:
    """Require that a file can be written, before what it is to hold is computed.

    Raises:
        FileNotFoundError, IsADirectoryError: Its folder is not there, or it is a folder itself.
    """
    path = Path(text)
    if path.is_dir():
        raise IsADirectoryError(f"{option}: {path} is a folder; name a file.")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{option}: the folder {path.parent} is not there; make it first.")
    _require_writable(path if path.exists() else path.absolute().parent, option)


def require_folder(text: str | Path, option: str) -> None:
    """Require that a folder is there or can be made, and written.

    Raises:
        FileExistsError, PermissionError: It is a file or lies in one; it may not be written.
    """
    path = Path(text).expanduser().absolute()
    there = next(parent for parent in (path, *path.parents) if parent.exists())
    if not there.is_dir():
        raise FileExistsError(f"{option}: {there} is a file; name a folder{'' if there == path else ' elsewhere'}.")
    _require_writable(there, option)


def _require_writable(path: Path, option: str) -> None:
    if not os.access(path, os.W_OK):
        raise PermissionError(f"{option}: {path} cannot be written; name another place.")


def without_inputs(function: Any, text: str, option: str, returns: str) -> Callable[[], Any]:
    """Require a function of no arguments, and return it.

    Raises:
        TypeError: Something else.
    """
    if not callable(function):
        raise TypeError(f"{option}: {text} is {type(function).__name__}, no function. Write {returns}")
    try:
        needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    except (TypeError, ValueError):
        needed = []
    needed = [p for p in needed if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if needed:
        names = ", ".join(p.name for p in needed)
        raise TypeError(f"{option}: {text} needs arguments ({names}), but is called without any. Write {returns}")
    return function


def explanations(folder: str) -> Any:
    """What `explain` wrote to a folder.

    Raises:
        FileNotFoundError: There is nothing of it.
    """
    from jaxplain.dataset import open_explanations

    path = Path(folder).expanduser()
    if not (path / "zarr.json").exists():
        beside = [file.parent.name for file in path.absolute().parent.glob("*/jaxplain-run")]
        raise FileNotFoundError(
            f"there are no explanations at {folder}{nearest(path.name, beside)}; `jaxplain explain --out {folder}` "
            "writes them."
        )
    return open_explanations(path)


def mapped(path: str | Path, option: str) -> np.ndarray:
    """The array of a .npy file, of which only what is used is read.

    Raises:
        ValueError: A broken file, or one of Python's objects.
    """
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{option}: {path} is not an .npy file of numbers, or a broken one ({error}).") from error


def array(text: str, option: str) -> np.ndarray:
    """An array of a file: `file.npy`, or `file.npz:name`.

    Raises:
        FileNotFoundError, ValueError: No such file or array.
    """
    path, _, name = text.partition(":")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{option}: there is no file {path} in {os.getcwd()}.")
    if not path.endswith(".npz"):
        return np.array(mapped(path, option))
    with np.load(path, allow_pickle=False) as file:
        if name not in file.files:
            raise ValueError(f"{option}: {path} has no array {name!r}; write {path}:NAME, of {', '.join(file.files)}.")
        return file[name]
