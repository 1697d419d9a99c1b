"""Explanations of token ids by methods that take derivatives: at the rows of the tables that the ids look up.

An id has no derivative, but the row that it looks up has. Where what is explained is token ids alone, such a method
explains the rows, with everything else that the model makes of the ids held (masks, positions), and a token gets the
sum over its rows. Baselines that are ids become the rows that those look up.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline.given import is_background, replacement
from jaxplain.program import Function, needs_key, setting
from jaxplain.program.node import BehindLookups, LookedUp, look_up
from jaxplain.types import Array, Pytree

Call = TypeVar("Call", bound=Callable[..., Any])


def at_lookups(call: Call) -> Call:
    """Let the call of a method that takes derivatives explain token ids by what they look up.

    Args:
        call: The `__call__` of a class with a `score`, or with an `explain` that has one; its `baseline` and
            `explain.baseline` are taken along.

    Returns:
        The same for inputs with floating-point leaves, and for integers that look up nothing.
    """

    @functools.wraps(call)
    def explained(self: Any, *inputs: Any) -> Any:
        first = 1 if needs_key(self) else 0
        if len(inputs) <= first or not tokens_alone(inputs[first]):
            return call(self, *inputs)
        x, args = inputs[first], inputs[first + 1 :]
        score, name = _score(self), getattr(self, "name", type(self).__name__)
        found = None if score is None else look_up(score, x, args, name)
        if found is None or not found.rows:
            return call(self, *inputs)
        behind = _behind(self, score, x, args, name)
        return _per_token(behind(*inputs[:first], found.rows, x, *args), found, x)

    return explained  # type: ignore[return-value]


class Rows(NamedTuple):
    """What ids look up, and a method's baseline as one of rows."""

    found: LookedUp
    baseline: Any

    @property
    def rows(self) -> list[Array]:
        """The rows, an array for each look-up."""
        return self.found.rows


def rows_of(score: Any, x: Pytree, args: tuple[Any, ...], name: str, baseline: Any = 0.0) -> Rows | None:
    """The rows that an input looks up, for methods that need more of them than `at_lookups`.

    Args:
        score: A function of `(x, *args)`.
        x: What is explained.
        args: The further arguments.
        name: The method's name, for errors.
        baseline: The method's.

    Returns:
        None where x is not token ids, or looks nothing up.
    """
    if not tokens_alone(x):
        return None
    found = look_up(score, x, args, name)
    return Rows(found, _rows_of(baseline, score, x, args, name)) if found.rows else None


def tokens_alone(x: Pytree) -> bool:
    """Whether what is explained is integers (and booleans) alone, which may be token ids."""
    leaves = jax.tree.leaves(x)
    if not leaves or check.odd_leaf(x) is not None:
        return False
    kinds = [jnp.result_type(leaf) for leaf in leaves]
    whole = [jnp.issubdtype(kind, jnp.integer) for kind in kinds]
    return any(whole) and all(is_whole or kind == jnp.bool_ for is_whole, kind in zip(whole, kinds, strict=True))


def _score(e: Any) -> Any:
    """The score inside an explanation, below its wrappers; None where nobody knows it."""
    while not hasattr(e, "score"):
        e = getattr(e, "explain", None)
        if e is None:
            return None
    return e.score


def _behind(e: Any, score: Any, x: Pytree, args: tuple[Any, ...], name: str) -> Any:
    """The explanation of the rows in place of the ids."""
    changes: dict[str, Any] = {}
    if hasattr(e, "score"):
        changes["score"] = BehindLookups(e.score, name)
    else:
        changes["explain"] = _behind(e.explain, score, x, args, name)
    if hasattr(e, "baseline"):
        changes["baseline"] = _rows_of(e.baseline, score, x, args, name)
    return dataclasses.replace(e, **changes)


def _rows_of(baseline: Any, score: Any, x: Pytree, args: tuple[Any, ...], name: str) -> Any:
    """A baseline for the rows: what ids look up; numbers and what returns the ids as they are mean the rows' own."""
    if callable(baseline):
        return _Drawn(baseline, score, x, args, name)
    if is_background(baseline, x):
        return jax.vmap(lambda ids: look_up(score, ids, args, name).rows)(baseline)
    if any(check.is_floating(leaf) for leaf in jax.tree.leaves(baseline)):
        return baseline
    return look_up(score, replacement(baseline, x, name=name).values, args, name).rows


class _Drawn(Function):
    """A function of ids, or of rows where it leaves ids alone, as one of rows."""

    baseline: Any
    score: Any
    x: Any
    args: Any
    name: str = setting(default="integrated_gradients")

    @property
    def needs_key(self) -> bool:
        """Whether the baseline is drawn from a key."""
        return needs_key(self.baseline)

    def __call__(self, *inputs: Any) -> Any:
        """The rows of what is drawn for the ids."""
        key, rows = inputs if self.needs_key else (None, *inputs)
        found = replacement(self.baseline, self.x, key, name=self.name)
        if not any(found.moves):
            return self.baseline(*inputs)
        return look_up(self.score, found.values, tuple(self.args), self.name).rows if rows else []


def _per_token(result: Any, found: LookedUp, x: Pytree) -> Any:
    """An attribution of the rows, or a result that holds one, as one of the tokens."""
    if hasattr(result, "attribution"):
        return result._replace(attribution=found.per_token(result.attribution, x))
    attribution: list[Array] = result
    return found.per_token(attribution, x)
