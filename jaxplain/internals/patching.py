"""Which hidden values carry a difference between two inputs: activation patching and its linearisation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax.numpy as jnp

from jaxplain import check
from jaxplain.internals.capture import cut
from jaxplain.program import Function, chunked_map, public, setting, value_and_gradient, widen
from jaxplain.types import Array, Pytree

Axes = int | tuple[int, ...] | None


class _Patching(Function):
    """What both kinds share: the layer's values for the two inputs, and the axes of the places that are patched."""

    body: Any
    head: Any
    axes: tuple[int, ...] = setting()
    name: ClassVar[str]

    def check_call(self, x: Pytree, corrupt: Pytree, *args: Any) -> None:
        """Let the score look at its concrete arguments, as drivers do."""
        self.body.check_call(x, *args)

    def _values(self, clean: Pytree, corrupt: Pytree, args: tuple[Any, ...]) -> tuple[Array, Array, tuple[int, ...]]:
        """The layer for both inputs, and the axes counted from the front."""
        name = self.name
        kept, changed = self.body(clean, *args), self.body(corrupt, *args)
        if isinstance(kept, tuple):
            raise ValueError(f"{name}: {self.body.path!r} holds {len(kept)} arrays; pick one, as in 'path[0]'.")
        if kept.shape != changed.shape:
            raise ValueError(
                f"{name}: the layer has shape {kept.shape} for `clean` but {changed.shape} for `corrupt`. Give both "
                "inputs one shape (pad the shorter)."
            )
        axes = tuple(axis % kept.ndim if -kept.ndim <= axis < kept.ndim else -1 for axis in self.axes)
        if -1 in axes or len(set(axes)) != len(axes):
            raise ValueError(
                f"{name}: `axes={self.axes}` does not name axes of a layer of shape {kept.shape}, each once."
            )
        return kept, changed, axes

    name = "patching"


class ActivationPatching(_Patching):
    """The effect of patching each place of a layer. Made by `activation_patching`."""

    batch_size: int | None = setting(default=None, points=True)
    name: ClassVar[str] = "activation_patching"

    def __call__(self, clean: Pytree, corrupt: Pytree, *args: Any) -> Array:
        """The change of the score, for each place along the axes."""
        kept, changed, axes = self._values(clean, corrupt, args)
        before = widen(check.scalar(self.head(changed, corrupt, *args), self.name))
        shape = tuple(kept.shape[axis] for axis in axes)
        grid = jnp.arange(math.prod(shape)).reshape(shape)
        spread = [kept.shape[axis] if axis in axes else 1 for axis in range(kept.ndim)]
        order = sorted(range(len(axes)), key=lambda position: axes[position])
        place = jnp.transpose(grid, order).reshape(spread)

        def effect(index: Array) -> Array:
            patched = jnp.where(place == index, kept, changed)
            return widen(check.scalar(self.head(patched, corrupt, *args), self.name)) - before

        return chunked_map(effect, grid.reshape(-1), self.batch_size).reshape(shape)


class AttributionPatching(_Patching):
    """The linear estimate of the effect of patching. Made by `attribution_patching`."""

    name: ClassVar[str] = "attribution_patching"

    def __call__(self, clean: Pytree, corrupt: Pytree, *args: Any) -> Array:
        """The estimated change of the score, for each place along the axes."""
        kept, changed, axes = self._values(clean, corrupt, args)
        _, gradient = value_and_gradient(self.head, changed, corrupt, *args, name=self.name)
        effects = (widen(kept) - widen(changed)) * widen(gradient)
        summed = effects.sum(axis=tuple(axis for axis in range(kept.ndim) if axis not in axes))
        order = sorted(range(len(axes)), key=lambda position: axes[position])
        return jnp.transpose(summed, [order.index(position) for position in range(len(axes))])


@public
def activation_patching(
    f: Callable[..., Any],
    path: str,
    *,
    axes: int | tuple[int, ...] | None = None,
    batch_size: int | None = None,
    batch_axis: int | Literal["auto"] | None = "auto",
) -> ActivationPatching:
    """Run the model on a corrupt input with a part of a layer taken from a clean one, for each part.

    effect_i = f(corrupt; h_i := h_i(clean)) - f(corrupt), for each place i along `axes` (positions, heads, channels).
    Nothing is normalised; divide by f(clean) - f(corrupt) for the share that is restored. Swap the inputs to see what
    breaks instead of what restores.

    Args:
        f: A score, `f(x, *args) -> scalar`.
        path: The layer, as in `split`.
        axes: The axes of the layer (for one example) whose places are patched one by one, such as 0 for the positions
            of `[T, D]`, or (0, 1) for every head at every position of `[T, heads, D]`; None patches the whole layer.
        batch_size: How many places are evaluated at once; None takes what fills the device in `explain_batch` and
            `explain_dataset`, and 1 elsewhere.
        batch_axis: As in `split`.

    Returns:
        `(clean, corrupt, *args) -> effects`, of the layer's lengths along `axes`, in units of the score. Cost: two
        forward passes, and one more for each place.

    Raises:
        ValueError: As in `split`; axes that the layer does not have; inputs for which the layer's shape differs.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("square"):
        ...         h = x**2
        ...     return (h * jnp.array([1.0, 3.0])).sum()
        >>> activation_patching(f, "square", axes=0)(jnp.array([2.0, 1.0]), jnp.zeros(2)).tolist()
        [4.0, 3.0]

    Source: Meng et al. 2022, "Locating and editing factual associations in GPT", section 2 (there on noised inputs).
    """
    places = _places("activation_patching", axes)
    size = check.at_once(batch_size, "activation_patching")
    return ActivationPatching(*cut(f, path, batch_axis, "activation_patching"), places, size)


@public
def attribution_patching(
    f: Callable[..., Any],
    path: str,
    *,
    axes: int | tuple[int, ...] | None = None,
    batch_axis: int | Literal["auto"] | None = "auto",
) -> AttributionPatching:
    """Estimate the effects of activation patching for all places at once, to first order.

    effect_i = sum over the elements of place i of (h(clean) - h(corrupt)) df/dh (corrupt). Exact where what comes after
    the layer is linear.

    Args:
        f: As in `activation_patching`.
        path: As in `activation_patching`.
        axes: As in `activation_patching`.
        batch_axis: As in `split`.

    Returns:
        `(clean, corrupt, *args) -> effects`, of the layer's lengths along `axes`, in units of the score. Cost: two
        forward passes and one backward pass, whatever the number of places.

    Raises:
        ValueError: As in `activation_patching`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("square"):
        ...         h = x**2
        ...     return (h * jnp.array([1.0, 3.0])).sum()
        >>> attribution_patching(f, "square", axes=0)(jnp.array([2.0, 1.0]), jnp.zeros(2)).tolist()
        [4.0, 3.0]

    Source: Syed, Rager and Conmy 2023, "Attribution patching outperforms automated circuit discovery", equation 2.
    """
    name = "attribution_patching"
    return AttributionPatching(*cut(f, path, batch_axis, name), _places(name, axes))


def _places(name: str, axes: Axes) -> tuple[int, ...]:
    places = () if axes is None else (axes,) if isinstance(axes, int) else tuple(axes)
    if not all(isinstance(axis, int) for axis in places):
        raise TypeError(f"{name}: `axes` has to be an integer or a tuple of integers, not {axes!r}.")
    return places
