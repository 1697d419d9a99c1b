"""Attention through all layers: rollout, and rollout weighed by gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.internals import Layer, attentions, read_weights, with_weights_moved
from jaxplain.program import Function, as_function, public, setting, widen
from jaxplain.program.trace import View, look
from jaxplain.types import Array, Pytree


def square_layers(view: View) -> list[tuple[Layer, Array]]:
    """The attentions of a call, in the order of a run, each with its weights by head `[..., heads, T, T]`.

    Raises:
        ValueError: There is none, or two of them are over other tokens, so that one cannot follow the other.
    """
    layers = attentions(view)
    found = [(layer, layer.by_head(values)) for layer, values in zip(layers, read_weights(view, layers), strict=True)]
    sizes = {weights.shape[-2:] for _, weights in found}
    if len(sizes) > 1 or any(rows != columns for rows, columns in sizes):
        shapes = ", ".join(f"{layer.path!r}: {weights.shape}" for layer, weights in found)
        raise ValueError(
            f"{view.name}: attention is followed from layer to layer, which needs every layer to attend from the same "
            f"tokens to the same tokens, but the weights are {shapes}. Cut the model at one part of it by `split`."
        )
    return found


class AttentionRollout(Function):
    """Attention followed through the layers: `(x, *args) -> [T, T]`. Made by `attention_rollout`."""

    f: Any
    residual: Any

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """How much of each input token is in each output token."""
        found = square_layers(look(self.f, (x, *args), "attention_rollout"))
        result = jnp.eye(found[0][1].shape[-1], dtype=widen(found[0][1]).dtype)
        identity = result
        for _, weights in found:
            heads = widen(weights).mean(axis=-3).reshape(-1, *result.shape)
            for layer in heads:
                result = ((1 - self.residual) * layer + self.residual * identity) @ result
        return result


@public
def attention_rollout(f: Callable[..., Any], *, residual: float = 0.5) -> AttentionRollout:
    """Follow attention through all layers, as if tokens were mixed by their mean weights alone.

    R = A_L ... A_1 with A_l = (1 - r) mean_h W_lh + r I: r is the share that goes by the residual connection. Rows sum
    to 1. What the values hold, how large they are, and everything else of the network is left out: it says where
    information may have come from, not what the output rests on.

    Args:
        f: A score or any function with attention layers that all attend from the same tokens to the same tokens.
        residual: r, from 0 to 1.

    Returns:
        `(x, *args) -> R` `[T, T]`: row t is how much of each input token is in token t after the last layer. Cost: one
        forward pass.

    Raises:
        ValueError: No attention, layers over different tokens, a share outside of [0, 1].

    Example:
        >>> import jax, jax.numpy as jnp
        >>> f = lambda x: (jax.nn.softmax(0 * x @ x.T, axis=-1) @ x).sum()
        >>> attention_rollout(f)(jnp.eye(2)).tolist()
        [[0.75, 0.25], [0.25, 0.75]]

    Source: Abnar and Zuidema 2020, "Quantifying attention flow in transformers", equation 1.
    """
    return AttentionRollout(as_function(f), share(residual, "attention_rollout"))


def share(value: Any, name: str) -> Any:
    """The share of the residual connection."""
    check.one_number(value, name, "residual", zero=True)
    if check.is_concrete(value) and not 0 <= value <= 1:
        raise ValueError(f"{name}: `residual` is the share of the residual connection, from 0 to 1, not {value}.")
    return value


class GradientRollout(Function):
    """Attention weighed by gradients, through the layers: `(x, *args) -> [T, T]`. Made by `gradient_rollout`."""

    f: Any
    positive: bool = setting(default=True)

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """How relevant each input token is to each output token."""
        view = look(self.f, (x, *args), "gradient_rollout")
        found = square_layers(view)
        layers = [layer for layer, _ in found]

        def score(moves: list[Array]) -> Array:
            return check.scalar(with_weights_moved(view, layers, moves), "gradient_rollout")

        gradients = jax.grad(score)([jnp.zeros_like(weights) for _, weights in found])
        result = jnp.eye(found[0][1].shape[-1], dtype=widen(found[0][1]).dtype)
        for (_, weights), gradient in zip(found, gradients, strict=True):
            weighed = widen(weights) * widen(gradient)
            weighed = jnp.maximum(weighed, 0) if self.positive else weighed
            result = result + weighed.mean(axis=0) @ result
        return result


@public
def gradient_rollout(f: Callable[..., Any], *, positive: bool = True) -> GradientRollout:
    """Follow attention through all layers, each weight counted by how much the score rests on it.

    R = I, then for each layer R <- R + E_h[(dF/dW_h * W_h)+] R, from the first to the last. The row of the token from
    which the score is read (the class token, the last of a prompt) is the explanation.

    Args:
        f: A score, `f(x, *args) -> scalar`, with attention layers that attend from the same tokens to the same tokens.
        positive: Keep the positive part of weight times gradient, as the source does; False keeps signs.

    Returns:
        `(x, *args) -> R` `[T, T]`, row t for the token t after the last layer; it contains the identity. Cost: one
        forward and one backward pass, and a forward pass for the weights.

    Raises:
        ValueError: As in `attention_rollout`; attention inside a `lax.scan` over layers.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> f = lambda x: (jax.nn.softmax(0 * x @ x.T, axis=-1) @ x)[0].sum()
        >>> gradient_rollout(f)(jnp.eye(2)).tolist()
        [[1.5, 0.5], [0.0, 1.0]]

    Source: Chefer, Gur and Wolf 2021, "Generic attention-model explainability for interpreting bi-modal and
    encoder-decoder transformers", equations 5 and 6.
    """
    check.answered(positive, "gradient_rollout", "positive")
    return GradientRollout(as_function(check.callable_score(f, "gradient_rollout")), positive)


class AttentionFlow(Function):
    """The largest flow through attention: `(x, *args) -> [T, T]`. Made by `attention_flow`."""

    f: Any
    residual: Any

    def __call__(self, x: Pytree, *args: Any) -> np.ndarray:
        """The flow from each input token to each output token."""
        if not all(check.is_concrete(leaf) for leaf in jax.tree.leaves((self, x, args))):
            raise TypeError("attention_flow: a flow is found on the host, outside of jit, vmap and grad.")
        found = square_layers(look(self.f, (x, *args), "attention_flow"))
        heads = [np.asarray(widen(weights).mean(axis=-3)).reshape(-1, *weights.shape[-2:]) for _, weights in found]
        layers = np.concatenate(heads)
        identity = np.eye(layers.shape[-1])
        return _largest_flows((1 - self.residual) * layers + self.residual * identity)


_UNITS = 2**24
"""Capacities are whole numbers of this part."""


def _largest_flows(layers: np.ndarray) -> np.ndarray:
    """The largest flow between every token before the layers and every one after them; `layers` `[L, T, T]`."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_flow

    depth, count = layers.shape[:2]
    capacities = np.zeros(((depth + 1) * count,) * 2, np.int32)
    for number, layer in enumerate(layers):
        below, above = (slice(level * count, (level + 1) * count) for level in (number, number + 1))
        capacities[below, above] = np.round(layer.T * _UNITS)
    graph = csr_matrix(capacities)
    flows = [[maximum_flow(graph, s, depth * count + t).flow_value for s in range(count)] for t in range(count)]
    return np.asarray(flows) / _UNITS


@public
def attention_flow(f: Callable[..., Any], *, residual: float = 0.5) -> AttentionFlow:
    """The largest flow from each input token to each output token, with attention weights as capacities.

    Layers are those of `attention_rollout`, (1 - r) mean_h W_lh + r I: what goes over an edge is at most its weight,
    where rollout multiplies weights along a path.

    Args:
        f: As in `attention_rollout`.
        residual: As in `attention_rollout`.

    Returns:
        `(x, *args) -> flows` `[T, T]`, row t for the token t after the last layer. Cost: one forward pass, and on the
        host T^2 flows through L T tokens.

    Raises:
        ValueError: As in `attention_rollout`.
        TypeError: A traced call.

    Source: Abnar and Zuidema 2020, "Quantifying attention flow in transformers", section 3.2.
    """
    return AttentionFlow(as_function(f), share(residual, "attention_flow"))
