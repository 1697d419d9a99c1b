"""What every metric is: a function of one example that says how it is called, and refuses another call."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.program import Function, call_name, short


class Metric(Function):
    """Base of the metrics. `takes` names what a call takes after the key; `call` is the whole signature."""

    takes: ClassVar[tuple[str, ...]] = ("x", "attribution", "*args")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "__call__" in cls.__dict__:
            type.__setattr__(cls, "__call__", _checked(cls.__call__))
        super().__init_subclass__(**kwargs)

    @property
    def better(self) -> str | None:
        """Which values are better: 'lower', 'higher', or None where there is no such thing."""
        return "lower"

    @property
    def needs_input(self) -> bool:
        """Whether a call takes the example, and does not look at the attribution alone."""
        return "x" in self.takes

    @property
    def needs_attribution(self) -> bool:
        """Whether a call takes an attribution, and does not explain by itself."""
        return "attribution" in self.takes

    @property
    def needs_mask(self) -> bool:
        """Whether a mask comes after the attribution."""
        return "mask" in self.takes

    @property
    def call(self) -> str:
        """How this metric is called, such as `m(key, x, attribution, *args)`."""
        return f"m({', '.join((*(('key',) if self.needs_key else ()), *self.takes))})"


def _checked(call: Callable[..., Any]) -> Callable[..., Any]:
    """A call that is refused with the signature where its arguments cannot be what is meant."""

    @functools.wraps(call)
    def checked(self: Any, *inputs: Any, **named: Any) -> Any:
        if not named:
            _check_call(self, inputs)
        try:
            return call(self, *inputs, **named)
        except (TypeError, ValueError) as error:
            note = f"{call_name(self)}: it is called {self.call}."
            if note not in getattr(error, "__notes__", ()):
                error.add_note(note)
            raise

    return checked


def _check_call(metric: Any, inputs: tuple[Any, ...]) -> None:
    name, key = call_name(metric), metric.needs_key
    if key:
        check.needed_key(inputs, name, metric.call)
    given, wanted = inputs[int(key) :], [part for part in metric.takes if not part.startswith("*")]
    if len(given) < len(wanted) or (len(given) > len(wanted) and len(wanted) == len(metric.takes)):
        told = ", ".join(short(value) for value in given)
        raise TypeError(f"{name}: called with ({told}){' after the key' if key else ''}; it is called {metric.call}.")
    if wanted[:2] == ["x", "attribution"] and _is_target(given[1]) and not _is_target(given[0]):
        raise TypeError(
            f"{name}: the attribution is {short(given[1])}, one number, while `x` is {short(given[0])}; it is called "
            f"{metric.call}, with the attribution before the target."
        )


def _is_target(value: Any) -> bool:
    """Whether a value is one whole number, which a target is and an attribution is not."""
    leaves = jax.tree.leaves(value)
    return len(leaves) == 1 and jnp.shape(leaves[0]) == () and jnp.issubdtype(jnp.result_type(leaves[0]), jnp.integer)
