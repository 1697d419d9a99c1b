"""The table of a model's layers: shapes, parameters, operations and bytes of every module that a function calls."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxplain.internals.cost import Share, costs, parameter_sizes
from jaxplain.program import Function, as_function, html_table, public
from jaxplain.program.trace import View, listed_shapes, look
from jaxplain.types import Layer, Pytree

HEADS = ("layer", "operation", "output", "dtype", "parameters", "forward", "backward", "bytes")


class LayerTable(tuple[Layer, ...]):
    """Layers in call order; printed, a table with totals."""

    __slots__ = ()

    def __str__(self) -> str:
        """The table as text."""
        rows = self._rows()
        widths = [max(len(row[column]) for row in (HEADS, *rows)) for column in range(len(HEADS))]
        lines = [_line(row, widths) for row in (HEADS, *rows)]
        rule = "-" * max(map(len, lines))
        return "\n".join(line.rstrip() for line in (lines[0], rule, *lines[1:-1], rule, lines[-1]))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(HEADS, self._rows())

    def _rows(self) -> list[tuple[str, ...]]:
        """A row for each layer, and the totals."""
        total = (_short(sum(getattr(layer, name) for layer in self)) for name in HEADS[4:])
        return [*map(_text, self), ("total", "", "", "", *total)]


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    """Words to the left, numbers to the right."""
    columns = enumerate(zip(cells, widths, strict=True))
    return "  ".join(cell.ljust(width) if column < 4 else cell.rjust(width) for column, (cell, width) in columns)


def _text(layer: Layer) -> tuple[str, ...]:
    shape = "x".join(map(str, layer.shape)) or "scalar"
    counts = (layer.parameters, layer.forward, layer.backward, layer.bytes)
    return (layer.path or "(no module)", layer.operation, shape, layer.dtype, *(_short(number) for number in counts))


def _short(number: int) -> str:
    """A count with three digits: 35.1G."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{unit}" if number < 999.5 * size else f"{number / size:.0f}{unit}"
    return str(number)


class Layers(Function):
    """Lists the layers of a function: `(x, *args) -> LayerTable`. Made by `layers`."""

    f: Any

    def __call__(self, x: Pytree, *args: Any) -> LayerTable:
        """The layers that a call meets, from shapes alone."""
        view = look(self.f, (x, *args), "layers")
        selected = view.sites()
        sites = [s.site for s in selected]
        shares, outside = costs(view.program, sites, parameter_sizes(view.f))
        rows: list[Layer] = []
        for s, share, shapes in zip(selected, shares, listed_shapes(view, selected), strict=True):
            for leaf, (shape, dtype) in enumerate(zip(shapes, s.site.dtypes, strict=True)):
                key = s.key if len(shapes) == 1 else f"{s.key}[{leaf}]"
                own = share if leaf == 0 else Share()
                rows.append(_layer(key, s.site.operation, (*s.site.loops, *shape), dtype, own))
        if any((outside.forward, outside.backward, outside.parameters)) or not rows:
            rows.append(_rest(view, outside))
        return LayerTable(rows)


def _layer(path: str, operation: str, shape: tuple[int, ...], dtype: Any, share: Share) -> Layer:
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return Layer(path, operation, shape, str(dtype), share.parameters, share.forward, share.backward, size)


def _rest(view: View, outside: Share) -> Layer:
    """What belongs to no module: the score, or a plain function without names."""
    outputs = view.outputs()
    shape, dtype = outputs[0] if outputs else ((), np.dtype("float32"))
    return _layer("", getattr(view.f, "name", "function"), shape, dtype, outside)


@public
def layers(f: Callable[..., Any]) -> Layers:
    """List every module output of a function, with what each module costs; and look-ups of tables without a module.

    Operations are counted from the traced program, so functional ones count too, a multiplication and an addition as
    two. Forward: products by their formula, elementwise functions and reductions one for each element. Backward: the
    gradient with respect to inputs and parameters together, twice the forward operations of a product whose operands
    both depend on them. Each share is the module's own, without the modules inside it, so columns add up. Counts are
    for one example. Parameters are those that `f` brings as leaves; only where it brings none, the arrays of JAX that a
    closure holds count, but for masks. Scans count every turn, `while` loops one, `cond` all branches; foreign calls
    (custom kernels) count none.

    Args:
        f: A score or any function `f(x, *args)` that JAX can trace. Without modules, its named scopes are listed.

    Returns:
        `(x, *args) -> tuple of Layer`, in the order in which outputs are computed; printed, a table. `x` and `f`
        may hold shapes (`jax.ShapeDtypeStruct`) alone. Cost: tracing, no model pass.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("first"):
        ...         y = x @ jnp.ones((3, 4))
        ...     return y.sum()
        >>> layer = layers(f)(jnp.ones((2, 3)))[0]
        >>> layer.path, layer.shape, layer.forward
        ('first', (2, 4), 48)
    """
    return Layers(as_function(f))
