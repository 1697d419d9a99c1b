"""Scores of a concept for any method: how present it is in an input, and what a class owes to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.internals import split
from jaxplain.program import Function, public
from jaxplain.types import Array, ArrayLike, Number, Pytree


class ConceptScore(Function):
    """How present a concept is in an input, `(x, *args) -> scalar`. Made by `concept_score`."""

    body: Any
    vector: Array
    bias: Array

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """body(x) . v + bias."""
        h = _like(self.body(x, *args), self.vector, "concept_score")
        return jnp.vdot(self.vector.astype(h.dtype), h) + jnp.asarray(self.bias, h.dtype)

    def check_call(self, x: Pytree, *args: Any) -> None:
        """As the score that was cut."""
        self.body.check_call(x, *args)


class ThroughConcept(Function):
    """A score whose layer moves along a concept only, `(x, reference, *args) -> scalar`. Made by `through_concept`."""

    body: Any
    head: Any
    vector: Array

    def __call__(self, x: Pytree, reference: Pytree, *args: Any) -> Array:
        """head of the reference's activations with the coordinate along v that x has."""
        h, kept = (_like(self.body(value, *args), self.vector, "through_concept") for value in (x, reference))
        v = self.vector.astype(h.dtype)
        return self.head(kept + v * jnp.vdot(v, h - kept), reference, *args)

    def check_call(self, x: Pytree, reference: Pytree, *args: Any) -> None:
        """As the score that was cut."""
        self.body.check_call(x, *args)


def _like(h: Any, vector: Array, name: str) -> Array:
    if not hasattr(h, "shape") or h.shape != vector.shape:
        raise ValueError(
            f"{name}: `vector` has shape {vector.shape}, but the layer {getattr(h, 'shape', 'several arrays')}; a "
            "vector is of the layer that it was fitted at."
        )
    return h


@public
def concept_score(f: Callable[..., Any], path: str, vector: ArrayLike, *, bias: Number = 0.0) -> ConceptScore:
    """Make a score of a concept's presence: body(x) . v + bias. Any method says where in the input it is seen.

    Args:
        f: A score or any function `f(x, *args)` with the layer in it.
        path: The layer's path, as in `jaxplain.split`.
        vector: Of the layer's shape: `found.vectors[c]`.
        bias: `found.biases[c]`, so that the score is positive on the concept's side.

    Returns:
        The score `(x, *args) -> scalar`, in units of activation. Cost: a forward pass up to the layer.

    Raises:
        ValueError: A vector of another shape, NaN. TypeError: No function, no path.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("square"):
        ...         y = x**2
        ...     return y.sum()
        >>> seen = concept_score(f, "square", jnp.array([1.0, 0.0]))
        >>> jax.grad(seen)(jnp.array([1.0, 2.0])).tolist()
        [2.0, 0.0]
    """
    line = _vector(vector, "concept_score")
    check.finite(jnp.asarray(check.numbers(bias, "concept_score", "bias"), line.dtype), "concept_score", "bias")
    if np.shape(bias) != ():
        raise ValueError(f"concept_score: `bias` has shape {np.shape(bias)}; pass one number, such as found.biases[0].")
    return ConceptScore(split(f, path)[0], line, jnp.asarray(bias))


@public
def through_concept(f: Callable[..., Any], path: str, vector: ArrayLike) -> ThroughConcept:
    """Make a score of what an input does through a concept: its layer moves along the concept's vector only.

    g(x, reference) = head(k + v v . (body(x) - k)), with k = body(reference) and v of length 1. With the explained
    input itself as the reference, e(x, x, label), any method says what of the input changes the score by changing the
    concept: the gradient is the sensitivity times the gradient of the concept's presence, (grad head . v) grad(v .
    body); integrated gradients sum to the change of the score as the concept's coordinate alone goes to the baseline's;
    occlusion measures the same for each window.

    Args:
        f: A score, `f(x, *args) -> scalar`.
        path: The layer's path, as in `jaxplain.split`.
        vector: Of the layer's shape; it is brought to length 1.

    Returns:
        The score `(x, reference, *args) -> scalar`; g(x, x) = f(x). Cost: a forward pass, and another one of the
        reference up to the layer.

    Raises:
        ValueError: A vector of another shape, of length 0, NaN. TypeError: No function, no path.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("square"):
        ...         y = x**2
        ...     return y.sum()
        >>> x = jnp.array([1.0, 2.0])
        >>> jax.grad(through_concept(f, "square", jnp.array([0.0, 3.0])))(x, x).tolist()
        [0.0, 4.0]
    """
    line = _vector(vector, "through_concept")
    size = jnp.linalg.norm(line)
    if check.is_concrete(line) and float(size) == 0:
        raise ValueError("through_concept: `vector` has length 0, which is no direction.")
    body, head = split(f, path)
    return ThroughConcept(body, head, line / size)


def _vector(vector: Any, name: str) -> Array:
    """Require one direction of finite real numbers."""
    check.arrays(vector, name, "vector")
    check.real_leaves(vector, name, "vector")
    if np.ndim(vector) == 0:
        raise ValueError(
            f"{name}: `vector` is one number; pass an array of the layer's shape, such as found.vectors[0]."
        )
    check.finite(vector, name, "vector")
    line = jnp.asarray(vector)
    return line if check.is_floating(line) else line.astype(jnp.float32)
