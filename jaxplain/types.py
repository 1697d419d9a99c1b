"""Names of what is passed between the parts: scores, explanations, metrics."""

from __future__ import annotations

from typing import Any, Protocol

import jax

Array = jax.Array
"""An array, or a pytree of arrays where a docstring says so."""

Pytree = Any
"""Any pytree of arrays."""


class Score(Protocol):
    """`f(x, *args) -> scalar`, like a loss, written for one example."""

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """Score one example."""


class Explain(Protocol):
    """`e(x, *args) -> attribution` of x's structure; a random one is called `e(key, x, *args)`."""

    def __call__(self, *args: Any) -> Pytree:
        """Explain one example."""


class Metric(Protocol):
    """`m(x, attribution, *args) -> value`; a random one is called `m(key, x, attribution, *args)`."""

    def __call__(self, *args: Any) -> Array:
        """Judge the explanation of one example."""
