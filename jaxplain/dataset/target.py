"""A target that a run is given: it takes the place of the data's, which stand aside."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain.program import Function

NAME = "explain_dataset"


def require_target(target: Any, e: Any, score: Any) -> None:
    """Refuse a target where what follows the input is something else: a pair's other input, a place in a text.

    Raises:
        ValueError: There is no place for it.
    """
    for function in (*explanations_in(e), score):
        second = _second(function)
        if second not in (None, "target", "x"):  # x: of the head of a split model, behind the layer
            raise ValueError(
                f"{NAME}: target={target!r} would stand behind the input, where {_title(function)} takes `{second}`. "
                f"Leave it out, and give everything in the data: (inputs, {second}, ...)."
            )


def takes_target(e: Any) -> bool:
    """Whether what follows the input is a target; of methods of pairs it is the other input."""
    return all(_second(function) in (None, "target", "x") for function in explanations_in(e))


def require_one_input(e: Any, setting: str) -> None:
    """Refuse to change the one input of a pair and leave the other as it is.

    Raises:
        ValueError: The explanation takes a pair.
    """
    for function in explanations_in(e):
        if _second(function) == "corrupt":
            raise ValueError(
                f"{NAME}: `{setting}` changes the input alone, but {_title(function)} compares it with `corrupt`, "
                "which would stay as it is. Give both as the model takes them."
            )


def set_aside(args: tuple[Any, ...], target: Any, outputs: Any) -> Any:
    """The data's own targets among the further arguments, in whose place another target comes.

    Args:
        args: What the data hold behind the inputs.
        target: What comes in its place, for the error.
        outputs: Those of the model for one example; None where they are not known.

    Raises:
        ValueError: What is there is no target: it would be lost.
    """
    if not args or args[0] is None or is_label(args[0]):
        return args[0] if args else None
    value = args[0]
    shape = None if len(jax.tree.leaves(value)) != 1 else np.shape(jax.tree.leaves(value)[0])
    if outputs is None or shape is None or shape not in ((), (1,), outputs.shape):
        words = ", ".join(f"{jnp.result_type(a)}{list(np.shape(a))}" for a in jax.tree.leaves(value))
        fit = "" if outputs is None else f" for outputs of shape {outputs.shape}"
        raise ValueError(
            f"{NAME}: target={target!r} takes the place of the data's targets, but what they hold there ({words} for "
            f"an example) is no target{fit}. Leave it out, or, where the model takes it, pass (inputs, None, it)."
        )
    return value


def is_label(value: Any) -> bool:
    """Whether an argument is a target: an integer, or a tuple of them."""
    leaves = jax.tree.leaves(value)
    return bool(leaves) and all(jnp.issubdtype(jnp.result_type(a), jnp.integer) and jnp.ndim(a) == 0 for a in leaves)


def explanations_in(e: Any) -> list[Any]:
    """An explanation, and those that it wraps."""
    return [e, *explanations_in(getattr(e, "explain", None))] if isinstance(e, Function) else []


def _second(function: Any) -> str | None:
    """The name of what one of the library's functions takes behind x (or key and x), where it has one."""
    if not isinstance(function, Function):
        return None
    parameters = inspect.signature(type(function).__call__).parameters.values()
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in ("self", "key")]
    return names[1] if len(names) > 1 else None


def _title(function: Any) -> str:
    return str(getattr(function, "name", type(function).__name__))
