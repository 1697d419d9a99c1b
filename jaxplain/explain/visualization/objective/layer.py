"""Objectives on one layer: a neuron, a channel, a direction, a position, everything at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from jaxplain import check
from jaxplain.explain.visualization.objective.algebra import Objective
from jaxplain.internals import cut
from jaxplain.program import Function, as_function, is_array, public, setting
from jaxplain.readout import wide
from jaxplain.score import ModelScore
from jaxplain.types import Array, ArrayLike, Number, Pytree


class Reading(Function):
    """The value of a layer: `(x, *args) -> h` in float32 or wider. Made by `reading`."""

    body: Any
    outputs: Any
    path: str = setting()

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """The layer's value for one input; a model's score needs no target for it."""
        h = self.body(x, *args) if args or self.outputs is None else self.outputs(x)
        if not is_array(h):
            raise ValueError(f"objective: {self.path!r} holds {len(h)} arrays; pick one, as in {self.path + '[0]'!r}.")
        return wide(h)


@public
def reading(f: Callable[..., Any], path: str, name: str) -> Reading:
    """Read a layer of a score or any other function, for the method of a name; of a model's score without arguments,

    whatever its target.
    """
    outputs = cut(f.outputs, path, "auto", name)[0] if isinstance(f, ModelScore) else None
    return Reading(cut(as_function(f), path, "auto", name)[0], outputs, path)


class OnLayer(Objective):
    """An objective on a layer's value."""

    read: Any
    kind: str = setting(default="layer")

    @property
    def name(self) -> str:
        """The kind of objective and its layer."""
        return f"{self.kind} of {self.read.path!r}"

    def indexed(self, args: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        """The index, its own or the first of the call's arguments, and the arguments after it."""
        index = getattr(self, "index", None)
        if index is None and not args:
            raise TypeError(f"{self.kind}: `index` is None, so it has to be passed at the call: objective(x, index).")
        return (args[0], args[1:]) if index is None else (index, args)


class Channel(OnLayer):
    """The mean of a channel over all positions. Made by `channel`."""

    index: Any = None

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """The mean of the channel; without an index of its own the first argument is the index."""
        index, args = self.indexed(args)
        h = self.read(x, *args)
        return jnp.mean(picked(h, h.ndim - 1, index, self))


@public
def channel(f: Callable[..., Any], path: str, index: Any = None) -> Channel:
    """The mean of one channel of a layer over all positions; of a dense layer, the unit.

    Args:
        f: A score or any function `f(x, *args)` that JAX can trace. A score of `jaxplain.logit` and its kin needs no
            target here.
        path: The layer, as in `split`.
        index: The channel (last axis); None takes it from the call: `objective(x, index)`, which `jax.vmap` maps.

    Returns:
        An objective `(x, *args) -> scalar`. Cost: the part of a forward pass before the layer.

    Raises:
        ValueError: No such layer, a concrete index outside of it (a traced one gives NaN).

    Example:
        >>> import jax
        >>> def f(x):
        ...     with jax.named_scope("square"):
        ...         y = x**2
        ...     return y.sum()
        >>> float(channel(f, "square", 1)(jnp.array([[1.0, 2.0], [3.0, 4.0]])))
        10.0

    Source: Olah, Mordvintsev and Schubert 2017, "Feature Visualization", "Optimization objectives".
    """
    return Channel(reading(f, path, "channel"), "channel", _checked_index(index, "channel"))


class Neuron(OnLayer):
    """One number of a layer. Made by `neuron`."""

    index: Any = None

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """The number; without an index of its own the first argument is the index."""
        index, args = self.indexed(args)
        h = self.read(x, *args)
        index = tuple(index) if isinstance(index, tuple | list) else (index,)
        if len(index) == 1 and h.ndim > 1:  # the unit in the middle, where it sees the most
            index = (*(side // 2 for side in h.shape[:-1]), index[0])
        if len(index) != h.ndim:
            raise ValueError(f"neuron: the index {index} does not name one number of {self.read.path!r}: {h.shape}.")
        for position in range(h.ndim):
            h = picked(h, 0, index[position], self)
        return h


@public
def neuron(f: Callable[..., Any], path: str, index: Any = None) -> Neuron:
    """One number of a layer.

    Args:
        f: As in `channel`.
        path: As in `channel`.
        index: A tuple with one integer for each axis, or the channel alone, which takes the position in the middle;
            None takes it from the call.

    Returns:
        An objective `(x, *args) -> scalar`. Cost: as `channel`.

    Raises:
        ValueError: As in `channel`; an index that names no single number.

    Example:
        >>> import jax
        >>> def f(x):
        ...     with jax.named_scope("square"):
        ...         y = x**2
        ...     return y.sum()
        >>> float(neuron(f, "square", (0, 1))(jnp.array([[1.0, 2.0], [3.0, 4.0]])))
        4.0

    Source: Erhan et al. 2009, "Visualizing higher-layer features of a deep network", section 3.
    """
    return Neuron(reading(f, path, "neuron"), "neuron", _checked_index(index, "neuron"))


class Direction(OnLayer):
    """How far a layer points in a direction. Made by `direction` and `caricature`."""

    vector: Any = None
    power: Any = 0.0
    cosine: bool = setting(default=False)

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """The mean over positions."""
        h = self.read(x, *args)
        vector = jnp.asarray(self.vector, h.dtype)
        if vector.shape != h.shape[h.ndim - vector.ndim :]:
            raise ValueError(
                f"{self.kind}: `vector` has shape {vector.shape}, but {self.read.path!r} has shape {h.shape}: pass one "
                f"direction {h.shape[-1:]} for all positions, or an array of the layer's shape."
            )
        return jnp.mean(along(h, jnp.broadcast_to(vector, h.shape), self.power, self.cosine))


def along(h: Array, vector: Array, power: Any, cosine: bool) -> Array:
    """At every position <h, v> max(cos, 0.1)^power, or cos alone."""
    dot = jnp.sum(h * vector, axis=-1)
    squares = jnp.sum(jnp.square(h), axis=-1) * jnp.sum(jnp.square(vector), axis=-1)
    angle = dot / jnp.sqrt(squares + 1e-12)
    # The floor keeps a gradient where the layer points the other way; a power of 0 is the plain product.
    return angle if cosine else dot * jnp.maximum(angle, 0.1) ** power


@public
def direction(
    f: Callable[..., Any], path: str, vector: ArrayLike, *, power: float = 0.0, cosine: bool = False
) -> Direction:
    """How far a layer points in a direction v: the mean over positions of <h, v> max(cos(h, v), 0.1)^power.

    A power of 0 is the plain product, which grows with the layer; higher powers ask for the direction itself.

    Args:
        f: As in `channel`.
        path: As in `channel`.
        vector: The direction, `[C]` for all positions or of the layer's shape.
        power: Exponent of the cosine, zero or more.
        cosine: True scores the cosine alone, whatever the length.

    Returns:
        An objective `(x, *args) -> scalar`. Cost: as `channel`.

    Raises:
        ValueError: A vector of another shape, NaN in it, a negative power.

    Example:
        >>> import jax
        >>> def f(x):
        ...     with jax.named_scope("double"):
        ...         y = 2 * x
        ...     return y.sum()
        >>> float(direction(f, "double", jnp.array([0.0, 1.0]))(jnp.array([3.0, 4.0])))
        8.0

    Source: Carter et al. 2019, "Activation Atlas", "Feature visualization" (dot product times a power of the cosine).
    """
    check.finite(vector, "direction", "vector")
    check.positive(power, "direction", "power", zero=True)
    return Direction(reading(f, path, "direction"), "direction", jnp.asarray(vector), power, bool(cosine))


class Position(OnLayer):
    """A layer at one position. Made by `position`."""

    place: Any = None
    vector: Any = None

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """The mean over channels, or the product with the direction."""
        h = self.read(x, *args)
        if len(self.place) != h.ndim - 1:
            raise ValueError(
                f"position: `place` {self.place} does not name a position of {self.read.path!r}: {h.shape}."
            )
        for index in self.place:
            h = picked(h, 0, index, self)
        check.broadcasts(self.vector, h.shape, "position", "vector")
        return jnp.mean(h) if self.vector is None else jnp.sum(h * jnp.asarray(self.vector, h.dtype))


@public
def position(f: Callable[..., Any], path: str, place: Sequence[Any], vector: Number | None = None) -> Position:
    """All channels of a layer at one position: their mean, or their product with a direction.

    Args:
        f: As in `channel`.
        path: As in `channel`.
        place: One integer for each axis but the channels: `(row, column)`.
        vector: A direction `[C]`; None takes the mean over the channels.

    Returns:
        An objective `(x, *args) -> scalar`. Cost: as `channel`.

    Raises:
        ValueError: As in `channel`; a place that names no position.

    Example:
        >>> import jax
        >>> def f(x):
        ...     with jax.named_scope("double"):
        ...         y = 2 * x
        ...     return y.sum()
        >>> float(position(f, "double", (1,))(jnp.array([[1.0, 2.0], [3.0, 4.0]])))
        7.0
    """
    place = tuple(place) if isinstance(place, tuple | list) else (place,)
    name = "position"
    check.finite(vector, name, "vector")
    return Position(reading(f, path, name), name, tuple(_checked_index(index, name) for index in place), vector)


class DeepDream(OnLayer):
    """The mean square of a layer. Made by `deep_dream`."""

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """The mean square."""
        return jnp.mean(jnp.square(self.read(x, *args)))


@public
def deep_dream(f: Callable[..., Any], path: str) -> DeepDream:
    """The mean square of a layer: more of whatever it sees already.

    Args:
        f: As in `channel`.
        path: As in `channel`.

    Returns:
        An objective `(x, *args) -> scalar`. Cost: as `channel`.

    Raises:
        ValueError: As in `channel`.

    Example:
        >>> import jax
        >>> def f(x):
        ...     with jax.named_scope("double"):
        ...         y = 2 * x
        ...     return y.sum()
        >>> float(deep_dream(f, "double")(jnp.array([1.0, 2.0])))
        10.0

    Source: Mordvintsev, Olah and Tyka 2015, "Inceptionism".
    """
    return DeepDream(reading(f, path, "deep_dream"), "deep_dream")


@public
def picked(h: Array, axis: int, index: Any, objective: OnLayer) -> Array:
    """One index of an axis; a concrete one outside is an error, a traced one gives NaN."""
    size = h.shape[axis]
    if check.is_concrete(index):
        if not jnp.issubdtype(jnp.result_type(index), jnp.integer) or jnp.shape(index) != ():
            raise TypeError(f"{objective.kind}: the unit has to be an integer, not {index!r}.")
        if not 0 <= int(index) < size:
            raise ValueError(
                f"{objective.kind}: unit {int(index)} is outside of {objective.read.path!r}, whose axis {axis} has "
                f"{size} (shape {h.shape}); units run from 0 to {size - 1}."
            )
        return jnp.take(h, int(index), axis=axis)
    value = jnp.take(h, index, axis=axis, mode="clip")
    return value * jnp.where((index >= 0) & (index < size), 1.0, jnp.nan).astype(h.dtype)


def _checked_index(index: Any, name: str) -> Any:
    for part in index if isinstance(index, tuple | list) else (index,):
        odd = part is not None and check.odd_leaf(part) is not None
        if odd or (part is not None and not jnp.issubdtype(jnp.result_type(part), jnp.integer)):
            raise TypeError(
                f"{name}: the unit (`index`, `place`) has to be an integer or a tuple of them, not "
                f"{check.short(index)}."
            )
    return index
