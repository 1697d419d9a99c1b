"""What all class activation maps share: a layer's values become a map of the input's spatial axes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import jax

from jaxplain import check
from jaxplain.internals import Places, cut, normalized, places, resized
from jaxplain.program import Function, setting, value_and_gradient, widen
from jaxplain.types import Array, Pytree

Resize = bool | tuple[int, ...]
Grid = tuple[int, ...] | None


class LayerMap(Function):
    """A map of a layer, `e(x, *args) -> [H, W]`; the kinds of maps define `signed`."""

    body: Any
    head: Any
    relu: bool = setting(default=True)
    resize: Resize = setting(default=True)
    normalize: bool = setting(default=False)
    grid: Grid = setting(default=None)
    channel_axis: int = setting(default=-1)
    name: str = setting(default="grad_cam")

    def check_call(self, x: Pytree, *args: Any) -> None:
        """Let the score look at its concrete arguments, as drivers do."""
        self.body.check_call(x, *args)

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """Explain one example: a map of the input's spatial axes, in the dtype of the layer."""
        check.arrays(x, self.name)
        check.finite(x, self.name)
        h = self.body(x, *args)
        where = places(
            h,
            x,
            path=self.body.path,
            name=self.name,
            grid=self.grid,
            channel_axis=self.channel_axis,
            resize=self.resize,
        )
        size = self._size(where)
        values = self.signed(h, where, x, *args)
        values = resized(jax.nn.relu(values) if self.relu else values, size)
        return (normalized(values) if self.normalize else values).astype(h.dtype)

    def signed(self, h: Array, where: Places, x: Pytree, *args: Any) -> Array:
        """The signed map at the layer's own size, `[*grid]`, in float32 or wider."""
        raise NotImplementedError

    def slopes(self, h: Array, where: Places, x: Pytree, *args: Any) -> Array:
        """The gradient of the score with respect to the layer, `[*grid, C]`, in float32 or wider."""
        _, gradient = value_and_gradient(self.head, h, x, *args, name=self.name)
        return where.arrange(widen(gradient))

    def _size(self, where: Places) -> tuple[int, ...]:
        if self.resize is False:
            return where.grid
        size = where.size if self.resize is True else self.resize
        if size is None or len(size) != len(where.grid):
            problem = "the input has no one size that fits them" if size is None else f"`resize={size}` does not fit"
            raise ValueError(
                f"{self.name}: {self.body.path!r} has the spatial axes {where.grid}, and {problem}. Pass "
                "`resize=(H, W)` with one length for each axis, or `resize=False` for the layer's own size."
            )
        return size


Kind = TypeVar("Kind", bound=LayerMap)


def layer_map(
    kind: type[Kind],
    name: str,
    f: Callable[..., Any],
    layer: str,
    relu: bool,
    resize: Resize,
    normalize: bool,
    grid: Grid,
    channel_axis: int,
    batch_axis: int | Literal["auto"] | None,
    **settings: Any,
) -> Kind:
    """Check the settings that all maps share, cut the score at the layer, and make the map."""
    for argument, value in (("relu", relu), ("normalize", normalize)):
        if not isinstance(value, bool):
            raise TypeError(f"{name}: `{argument}` has to be True or False, not {value!r}.")
    if not isinstance(resize, bool):
        resize = _lengths(resize, name, "resize")
    if grid is not None:
        grid = _lengths(grid, name, "grid")
    if isinstance(channel_axis, bool) or not isinstance(channel_axis, int):
        raise TypeError(f"{name}: `channel_axis` has to be an integer, not {channel_axis!r}.")
    body, head = cut(check.callable_score(f, name), layer, batch_axis, name)
    return kind(body, head, relu, resize, normalize, grid, channel_axis, name, **settings)


def _lengths(value: Any, name: str, argument: str) -> tuple[int, ...]:
    if not isinstance(value, tuple | list) or not 1 <= len(value) <= 3:
        raise TypeError(f"{name}: `{argument}` has to be a tuple of one to three lengths, as (14, 14), not {value!r}.")
    return tuple(check.count(length, name, argument) for length in value)
