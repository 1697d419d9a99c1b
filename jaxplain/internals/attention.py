"""The softmax attentions of a model as they are: weights by head, whatever the framework."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxplain.internals.capture import changed
from jaxplain.program import Function, as_function, public
from jaxplain.program.trace import (
    AUTO,
    AttentionSite,
    Selected,
    Shown,
    Tap,
    View,
    fused_kernels,
    hidden_attentions,
    look,
    refuse_hidden,
    run,
    shown,
)
from jaxplain.types import Array, Pytree


class Layer(NamedTuple):
    """One attention of a call: its path, its parts as sites, how they are shown, and what the weights' axes are.

    heads, query, key: axes of the weights as they are shown.
    """

    path: str
    found: AttentionSite
    parts: dict[str, Selected]
    weights: Shown
    heads: tuple[int, ...]
    query: int
    key: int

    def by_head(self, weights: Array) -> Array:
        """Weights as they are shown (behind the turns of loops) as `[..., heads, T, S]`."""
        turns = len(self.parts["weights"].site.loops)
        order = [*range(turns), *(turns + axis for axis in (*self.heads, self.query, self.key))]
        moved = jnp.transpose(weights, order)
        return moved.reshape(*moved.shape[:turns], -1, *moved.shape[-2:])

    def from_heads(self, weights: Array, shape: tuple[int, ...]) -> Array:
        """`[heads, T, S]` in the axes of the weights as they are shown, whose shape is given."""
        order = [*self.heads, self.query, self.key]
        moved = weights.reshape([shape[axis] for axis in order])
        return jnp.transpose(moved, [order.index(axis) for axis in range(len(order))])


def attentions(view: View) -> list[Layer]:
    """The attentions of a call.

    Raises:
        ValueError: There is none; one is inside a fused kernel; the batch axis of one has merged with another.
    """
    found = [(site, parts) for site, parts in view.attentions() if "weights" in parts]
    if fused := fused_kernels(view.program):
        raise ValueError(
            f"{view.name}: an attention of this model is inside the fused kernel `{fused[0]}`, which computes no "
            'weights. Use the plain form, as in `jax.nn.dot_product_attention(..., implementation="xla")`.'
        )
    if hidden := hidden_attentions(view.program):
        where = f" in {hidden[0]!r}" if hidden[0] else ""
        raise ValueError(
            f"{view.name}: the attention{where} is written in a form whose weights are not read, such as `exp` of "
            "`log_softmax`, `softmax(..., where=...)`, or a division after the product. Write it as "
            "`jax.nn.softmax(logits, axis=-1) @ values`, with a mask as `jnp.where(mask, logits, -1e9)`."
        )
    if not found:
        raise ValueError(
            f"{view.name}: no attention was found in this function: no softmax along one axis whose result weighs "
            "values along it. `print(jaxplain.layers(f)(x, ...))` lists what there is."
        )
    for _, parts in found:
        refuse_hidden(Tap(parts["weights"].site, parts["weights"].key, keep=True), view.name)
    views = shown(view, [parts["weights"] for _, parts in found], AUTO)
    return [_layer(site, parts, how) for (site, parts), how in zip(found, views, strict=True)]


def _layer(site: AttentionSite, parts: dict[str, Selected], how: Shown) -> Layer:
    (batch,) = how.axes
    kept = [axis for axis in range(len(parts["weights"].site.shapes[0])) if axis != batch]
    heads = tuple(kept.index(axis) for axis in site.head if axis != batch)
    path = parts["weights"].key.replace("/~weights", "")
    return Layer(path, site, parts, how, heads, kept.index(site.query), kept.index(site.key))


def read_weights(view: View, layers: Sequence[Layer]) -> list[Array]:
    """The weights of each attention, as they are shown."""
    taps = [Tap(layer.parts["weights"].site, layer.parts["weights"].call, keep=True) for layer in layers]
    _, found = run(view.program, view.leaves, [(tap.site.route, tap) for tap in taps], {}, outputs=False)
    return [layer.weights.show(found[tap.key], len(tap.site.loops))[0] for layer, tap in zip(layers, taps, strict=True)]


def with_weights_moved(view: View, layers: Sequence[Layer], moves: Sequence[Array]) -> Any:
    """The output with something added to the weights of each attention (`[heads, T, S]`)."""
    changes = []
    for layer, move in zip(layers, moves, strict=True):
        if layer.parts["weights"].site.loops:
            raise ValueError(
                f"{view.name}: the attention {layer.path!r} stands in a `lax.scan` over layers, where no derivative "
                "with respect to each turn's weights is taken. Build the model without the scan over its layers."
            )
        changes.append((layer.parts["weights"], layer.weights, _Added(layer, move)))
    return changed(view, changes)


class _Added:
    """Adds to the weights of an attention."""

    def __init__(self, layer: Layer, move: Array) -> None:
        self.layer, self.move = layer, move

    def __call__(self, value: Array) -> Array:
        return value + self.layer.from_heads(self.move, value.shape).astype(value.dtype)


class AttentionWeights(Function):
    """The attention of a function: `(x, *args) -> {path: [heads, T, S]}`. Made by `attention_weights`."""

    f: Any

    def __call__(self, x: Pytree, *args: Any) -> dict[str, Array]:
        """The weights of every attention, by the path of the module in which it stands."""
        view = look(self.f, (x, *args), "attention_weights")
        layers = attentions(view)
        values = read_weights(view, layers)
        return {layer.path: layer.by_head(value) for layer, value in zip(layers, values, strict=True)}


@public
def attention_weights(f: Callable[..., Any]) -> AttentionWeights:
    """Find every softmax attention of a model and return its weights, after softmax, by head.

    An attention is found by what is computed, whatever the framework: a softmax along one axis whose result, scaled or
    masked perhaps, weighs values along that axis. Its parts are places like any module's output, which `capture`,
    `intervene`, `split` and what stands on them take by the path of the module in which the softmax is:
    `"block_0/attention/~weights"`, and `~logits` (before softmax, masked), `~queries`, `~keys`, `~values`, `~heads`
    (each head's weighted sum of values, before the projection), each in the axes in which the model computes it.

    Args:
        f: A score or any function `f(x, *args)` that JAX can trace.

    Returns:
        `(x, *args) -> {path: weights}`, weights `[heads, T, S]` for one example: how much position t takes from s; rows
        sum to 1. Several attentions of one module are `path:0`, `path:1`; of a `lax.scan` over layers weights have a
        leading axis of turns. Cost: the forward pass up to the last attention.

    Raises:
        ValueError: There is no attention, one is inside a fused kernel or written in a form whose weights are not read,
            or its batch axis has merged with another.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("attention"):
        ...         return (jax.nn.softmax(x @ x.T, axis=-1) @ x).sum()
        >>> {path: weights.shape for path, weights in attention_weights(f)(jnp.eye(3)).items()}
        {'attention': (1, 3, 3)}

    Source: Vaswani et al. 2017, "Attention is all you need", equation 1.
    """
    return AttentionWeights(as_function(f))
