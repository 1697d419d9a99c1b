"""Which part of a model's output is meant: a key, an attribute, an index, or a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxplain.program import Function, Static, as_function, setting

Select = str | int | Callable[[Any], Any] | None


def selector(select: Select, name: str) -> Any:
    """Make the function that takes the selected part of an output; None takes all of it."""
    if select is None:
        return Static(_identity)
    if isinstance(select, str):
        return _Path(tuple(part for part in select.split(".") if part), name)
    if isinstance(select, int) and not isinstance(select, bool):
        return _Path((select,), name)
    if not callable(select):
        raise TypeError(f"{name}: `select` has to be a name such as 'logits', an index or a function, not {select!r}.")
    return as_function(select)


def _identity(outputs: Any) -> Any:
    return outputs


class _Path(Function):
    """Follows keys, attributes and indices into a model's output."""

    parts: tuple[str | int, ...] = setting()
    name: str = setting()

    def __repr__(self) -> str:
        return repr(self.parts[0] if len(self.parts) == 1 else ".".join(map(str, self.parts)))

    def __call__(self, outputs: Any) -> Any:
        for part in self.parts:
            if isinstance(part, str) and not isinstance(outputs, dict) and hasattr(outputs, part):
                outputs = getattr(outputs, part)
                continue
            try:
                outputs = outputs[part]
            except (KeyError, IndexError, TypeError):
                has = list(outputs) if isinstance(outputs, dict) else type(outputs).__name__
                raise ValueError(f"{self.name}: `select` names {part!r}, but the output has: {has}.") from None
        return outputs
