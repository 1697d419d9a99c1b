"""Objectives of several inputs optimised together: each by itself, and how unlike they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain.explain.visualization.objective.algebra import Objective, Terms, as_objective
from jaxplain.explain.visualization.objective.layer import OnLayer, reading
from jaxplain.explain.visualization.objective.likeness import gram
from jaxplain.program import public
from jaxplain.types import Array, Pytree


class Each(Objective):
    """The mean of an objective over several inputs. Made by `each`."""

    objective: Any

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """The mean over the leading axis."""
        return sum((value for _, value in self.terms(x, *args)), jnp.zeros(()))

    def terms(self, x: Pytree, *args: Any) -> Terms:
        """Each part's mean."""
        names: list[str] = []

        def values(one: Pytree) -> list[Array]:
            parts = self.objective.terms(one, *args)
            names[:] = [name for name, _ in parts]
            return [value for _, value in parts]

        means = [jnp.mean(value) for value in jax.vmap(values)(x)]
        return list(zip(names, means, strict=True))


@public
def each(objective: Callable[..., Any]) -> Each:
    """The mean of an objective over several inputs, for parameterisations made by `image.batch`.

    Args:
        objective: An objective or score of one input.

    Returns:
        An objective of `x` with a leading axis. Cost: as many of the objective as there are inputs.

    Example:
        >>> float(each(lambda x: x.sum())(jnp.array([[1.0, 2.0], [3.0, 4.0]])))
        5.0
    """
    return Each(as_objective(objective))


class Diversity(OnLayer):
    """How unlike several inputs are in a layer. Made by `diversity`."""

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """Minus the mean cosine between the Gram matrices of different inputs."""
        size = jax.tree.leaves(x)[0].shape[0]
        if size < 2:
            raise ValueError("diversity: it compares several inputs, but there is one; use image.batch(..., size=4).")
        grams = jax.vmap(lambda one: gram(self.read(one, *args)).reshape(-1))(x)
        grams = grams / jnp.sqrt(jnp.sum(jnp.square(grams), axis=1, keepdims=True) + 1e-12)
        cosines = grams @ grams.T
        return -(jnp.sum(cosines) - jnp.trace(cosines)) / (size * (size - 1))


@public
def diversity(f: Callable[..., Any], path: str) -> Diversity:
    """How unlike several inputs are in a layer: minus the mean cosine between their Gram matrices.

    Added to `each(channel(...))` it shows the different things that one unit responds to.

    Args:
        f: As in `channel`.
        path: As in `channel`.

    Returns:
        An objective of `x` with a leading axis (`image.batch`), between -1 (all alike) and 0. Cost: the part of a
        forward pass before the layer, for each input.

    Raises:
        ValueError: As in `channel`; one input alone.

    Example:
        >>> def f(x):
        ...     with jax.named_scope("double"):
        ...         y = 2 * x
        ...     return y.sum()
        >>> float(diversity(f, "double")(jnp.array([[[1.0, 0.0]], [[0.0, 1.0]]])))
        -0.0

    Source: Olah, Mordvintsev and Schubert 2017, "Feature Visualization", "Diversity".
    """
    return Diversity(reading(f, path, "diversity"), "diversity")
