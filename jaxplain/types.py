"""Names of what is passed between the parts: scores, explanations, metrics."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax

Array = jax.Array
"""An array, or a pytree of arrays where a docstring says so."""

Pytree = Any
"""Any pytree of arrays."""


Arrays = Any
"""An array of numbers, or a pytree of such arrays, that is looked at before anything is computed."""

Number = Any
"""A number, or an array of numbers where a docstring says so."""


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


class Layer(NamedTuple):
    """One row of a model's table: an output of a module, and the module's own share of the cost.

    path: what `capture`, `intervene` and `split` call it (empty for what belongs to no module); operation: the module's
    class; shape, dtype: of the output for one example; parameters: how many trained numbers the module reads first;
    forward, backward: floating-point operations; bytes: of the output.
    """

    path: str
    operation: str
    shape: tuple[int, ...]
    dtype: str
    parameters: int
    forward: int
    backward: int
    bytes: int
