"""The model that `--model` names: a function and its parameters, a Linen module, an NNX or an Equinox model."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from jaxplain.command.failure import called
from jaxplain.command.place import named, without_inputs

RETURNS = (
    "def build(): return apply, params (a function apply(params, batch) and its parameters), or return a Linen "
    "module, an NNX model or an Equinox module."
)


def builder(text: str) -> Callable[[], Any]:
    """The function that builds the model; it is not called.

    Raises:
        ValueError, TypeError, ImportError, FileNotFoundError: Not the name of a function without arguments.
    """
    return without_inputs(named(text, "--model", "tiny.py:build"), text, "--model", RETURNS)


def find_checkpoint(text: str, at: str) -> tuple[Path, str]:
    """A checkpoint, and the part of it that holds the parameters; of a folder that `train` wrote its `params`.

    Raises:
        FileNotFoundError: There is none.
    """
    path = Path(text).expanduser()
    if not (path / "_METADATA").exists() and (path / "params" / "_METADATA").exists():
        path = path / "params"
    if not (path / "_METADATA").exists() and not (path / "jaxplain.json").exists():
        raise FileNotFoundError(
            f"--checkpoint: there is no Orbax checkpoint at {path}; name the folder that `jaxplain train --out` wrote, "
            "or one that jaxplain.train.save or Orbax made."
        )
    return path, at


def built(
    build: Callable[[], Any], text: str, sample: Callable[[], Any], checkpoint: str | None, at: str
) -> tuple[Any, Any]:
    """The model's function, and its parameters: those of the checkpoint where there is one.

    Raises:
        TypeError: No model.
        ValueError: A Linen module without parameters, a checkpoint that does not fit.
    """
    found = called(build, f"--model {text}")
    if _is_linen(found):
        if checkpoint is None:
            raise ValueError(
                f"--model: {text} is a Linen module without parameters; pass --checkpoint (`jaxplain train` writes "
                "one), or return model.apply, params."
            )
        params = _shapes(found, sample(), text)
        apply = found.apply
    else:
        apply, params = _taken_apart(found, text)
    if checkpoint is not None:
        from jaxplain.train import load

        path, at = find_checkpoint(checkpoint, at)
        params = load(path, params, at=at)
    return apply, params


def begun(build: Callable[[], Any], text: str, sample: Callable[[], Any], key: Any) -> tuple[Any, Any]:
    """The model's function, and the parameters that training begins with; without a key a Linen module's shapes.

    Raises:
        TypeError: No model.
    """
    found = called(build, f"--model {text}")
    if not _is_linen(found):
        return _taken_apart(found, text)
    if key is not None:
        x = sample()
        return found.apply, called(lambda: found.init(key, x), _with(text, x))
    return found.apply, _shapes(found, sample(), text)


def _shapes(module: Any, x: Any, text: str) -> Any:
    """The shapes of a Linen module's variables."""
    return called(lambda: jax.eval_shape(lambda x: module.init(jax.random.key(0), x), x), _with(text, x))


def _with(text: str, x: Any) -> str:
    """A model, and what it was called with, for errors."""
    shapes = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(x))
    return f"--model {text}, initialised with a batch {shapes},"


def _is_linen(found: Any) -> bool:
    return hasattr(found, "init") and hasattr(found, "apply")


def _taken_apart(found: Any, text: str) -> tuple[Any, Any]:
    if isinstance(found, tuple) and len(found) == 2 and _is_linen(found[0]):
        return found[0].apply, found[1]
    if isinstance(found, tuple) and len(found) == 2 and callable(found[0]):
        return found
    if _is_equinox(found):
        return _from_equinox(found, text)
    flax = sys.modules.get("flax.nnx")
    if flax is not None and isinstance(found, flax.Module):
        from jaxplain.models import from_nnx

        return from_nnx(found)
    raise TypeError(f"--model: {text} returned {type(found).__name__}; write {RETURNS}")


def _is_equinox(found: Any) -> bool:
    return any(kind.__name__ == "Module" and kind.__module__.startswith("equinox") for kind in type(found).__mro__)


def _from_equinox(module: Any, text: str) -> tuple[Any, Any]:
    """A function of a batch and the arrays of a module that is called with one example.

    Raises:
        TypeError: A module that takes more than one example and a key.
    """
    equinox: Any = sys.modules["equinox"]
    parameters = list(inspect.signature(type(module).__call__).parameters.values())[1:]
    places = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len([p for p in places if p.name != "key"]) != 1:
        raise TypeError(
            f"--model: {text} is an Equinox module that takes {', '.join(p.name for p in places)}; write def build(): "
            "return apply, params with apply(params, batch) around it."
        )
    drawn = any(p.name == "key" for p in parameters)
    params, rest = equinox.partition(module, equinox.is_inexact_array)

    def apply(params: Any, x: Any, train: bool = False, key: Any = None) -> Any:
        one = equinox.nn.inference_mode(equinox.combine(params, rest), value=not train)
        if not drawn:
            return jax.vmap(one)(x)
        keys = jax.random.split(jax.random.key(0) if key is None else key, jax.tree.leaves(x)[0].shape[0])
        return jax.vmap(lambda x, key: one(x, key=key))(x, keys)

    return apply, params
