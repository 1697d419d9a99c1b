"""Objectives as values: sums, multiples and negatives, each term kept by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxplain import check
from jaxplain.program import Function, as_function, public
from jaxplain.types import Array, Pytree

Terms = list[tuple[str, Array]]


class Objective(Function):
    """A function `(x, *args) -> scalar` that adds, scales and negates. Base of all objectives."""

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """The objective of one input."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """What the term is called in messages."""
        return type(self).__name__.lower()

    def terms(self, x: Pytree, *args: Any) -> Terms:
        """The parts that add up to the objective, weighted, by name."""
        return [(self.name, self(x, *args))]

    def __add__(self, other: Any) -> Objective:
        if isinstance(other, int | float) and other == 0:  # where Python's sum() starts
            return self
        if not callable(other):
            raise TypeError(f"objective: an objective and {other!r} cannot be added; add objectives or scores.")
        one, two = _weighted(self), _weighted(as_objective(other))
        return Sum((*one.parts, *two.parts), (*one.weights, *two.weights))

    def __radd__(self, other: Any) -> Objective:
        return self + other if isinstance(other, int | float) else as_objective(other) + self

    def __mul__(self, weight: Any) -> Objective:
        if callable(weight) or jnp.shape(weight) != ():
            raise TypeError(f"objective: an objective is multiplied by one number, not {weight!r}.")
        whole = _weighted(self)
        return Sum(whole.parts, tuple(weight * own for own in whole.weights))

    __rmul__ = __mul__

    def __truediv__(self, weight: Any) -> Objective:
        return self * (1.0 / weight)

    def __neg__(self) -> Objective:
        return self * -1.0

    def __sub__(self, other: Any) -> Objective:
        return self + (-as_objective(other))

    def __rsub__(self, other: Any) -> Objective:
        return as_objective(other) - self


class Sum(Objective):
    """A weighted sum of objectives. Made by `+`, `-` and `*`."""

    parts: tuple[Any, ...]
    weights: tuple[Any, ...]

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """The weighted sum."""
        return sum((value for _, value in self.terms(x, *args)), jnp.zeros(()))

    def terms(self, x: Pytree, *args: Any) -> Terms:
        """Each part times its weight."""
        return [
            (name, weight * value)
            for part, weight in zip(self.parts, self.weights, strict=True)
            for name, value in part.terms(x, *args)
        ]


class Scored(Objective):
    """A score as an objective. Made by `score`."""

    function: Any
    args: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """The score's name."""
        return str(getattr(self.function, "name", "score"))

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """The score of one input."""
        return check.scalar(self.function(x, *self.args, *args), "score")

    def check_call(self, x: Pytree, *args: Any) -> None:
        """Let the score look at its concrete arguments, as drivers do."""
        look = getattr(self.function, "check_call", None)
        if look is not None:
            look(x, *self.args, *args)


@public
def score(f: Callable[..., Any], *args: Any) -> Scored:
    """Make an objective of a score: a class' logit or log-probability, a unit of a split layer, any function.

    Args:
        f: A score, `f(x, *args) -> scalar`.
        *args: Arguments of the score that are fixed, such as the class; others are passed at the call.

    Returns:
        An objective `(x, *more) -> scalar`. Cost: as the score.

    Raises:
        TypeError: `f` is not callable.

    Example:
        >>> both = score(lambda x, k: x[k], 0) - 2.0 * score(lambda x, k: x[k], 1)
        >>> float(both(jnp.array([5.0, 1.0])))
        3.0
    """
    if not callable(f):
        raise TypeError(f"score: pass a function `f(x, *args) -> scalar`, not {f!r}.")
    return Scored(as_function(f), args)


@public
def negative(objective: Callable[..., Any]) -> Objective:
    """The negative of an objective or score: what an input has to avoid.

    Args:
        objective: An objective or score.

    Returns:
        An objective. Cost: as the objective.

    Example:
        >>> float(negative(lambda x: x.sum())(jnp.ones(2)))
        -2.0
    """
    return -as_objective(objective)


@public
def interpolation(one: Callable[..., Any], other: Callable[..., Any], alpha: float) -> Objective:
    """A mixture of two objectives: (1 - alpha) one + alpha other.

    Args:
        one: The objective at alpha = 0.
        other: That at alpha = 1.
        alpha: A number, traced ones too: `jax.vmap` over alpha shows the way between two units.

    Returns:
        An objective. Cost: as both.

    Example:
        >>> float(interpolation(lambda x: x[0], lambda x: x[1], 0.25)(jnp.array([4.0, 8.0])))
        5.0

    Source: Olah, Mordvintsev and Schubert 2017, "Feature Visualization", "Interaction between neurons".
    """
    check.finite(alpha, "interpolation", "alpha")
    return as_objective(one) * (1.0 - alpha) + as_objective(other) * alpha


def as_objective(function: Any) -> Any:
    """An objective as it is, any other function as one."""
    return function if isinstance(function, Objective) else score(function)


def _weighted(objective: Any) -> Sum:
    return objective if isinstance(objective, Sum) else Sum((objective,), (1.0,))
