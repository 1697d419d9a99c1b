"""Patterns: for each neuron the direction in its input that its output comes from, estimated from data."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import Function, as_function, public, setting
from jaxplain.program.node import (
    Graph,
    Node,
    calls_of,
    in_weights,
    layer_of,
    open_score,
    shared_sum,
    weights_of,
    without_rule,
)
from jaxplain.types import Array, Arrays, Pytree

PASSED_ON = ("structure", "selection")
"""Kinds of operations that move values or pick some of them: a neuron's output goes on through them as it is."""


class Patterns(Function):
    """The patterns of a network's layers with weights. Made by `estimate_patterns`.

    Attributes:
        layers: The layers, in the order in which they run.
        values: For each an array of its weights' shape: where the weights of a neuron are, its pattern.
        silent: For each how many neurons have no pattern, as they never pass their ReLU or do not vary; theirs is zero.
    """

    layers: tuple[str, ...] = setting()
    values: tuple[Array, ...]
    silent: tuple[Array, ...]


def is_layer(node: Node) -> bool:
    """Whether a node is a product with weights, bias and scales behind it taken in."""
    return node.kind == "affine" and node.name != "scale_shift"


def is_relu(node: Node) -> bool:
    """Whether a node is a ReLU, by what it computes."""
    return node.kind == "activation" and node.name == "relu"


def is_fixed(node: Node) -> bool:
    """Whether a node is linear in one value with coefficients that are not learnt for it: a sum, a mean, a scale."""
    return node.kind in ("affine", "scale", "sum") and not is_layer(node) and len(node.active) == 1


def layers_of(graph: Graph, name: str) -> list[Node]:
    """The layers with weights of a network that patterns are defined for; errors name what is not."""
    nodes = graph.walk()
    known = [is_layer(node) or is_relu(node) or is_fixed(node) or node.kind in PASSED_ON for node in nodes]
    if others := [node for node, rule in zip(nodes, known, strict=True) if not rule]:
        raise without_rule(
            name,
            others,
            "Patterns are defined for layers with weights and ReLUs one behind the other (poolings, flattening and "
            "normalisations in evaluation may stand between them), and not for other activations, sums of two values, "
            "products or loops. Explain a logit, before any softmax; or use lrp, which has rules for the others.",
        )
    layers = [node for node in graph.nodes if is_layer(node)]
    if not layers:
        raise ValueError(
            f"{name}: the function has no layer with weights (dense or convolution) that sees `x`, and patterns are "
            "those of its neurons. Pass a score of a network, such as jaxplain.logit(apply, params)."
        )
    return layers


def _behind_relu(graph: Graph, layer: Node) -> bool:
    """Whether a layer's output goes into a ReLU next, perhaps moved or pooled by its maximum."""
    reached = set(layer.outputs)
    for node in graph.nodes:
        if not reached.isdisjoint(node.active):
            if is_relu(node):
                return True
            if node.kind in PASSED_ON:
                reached.update(node.outputs)
    return False


class _Read(NamedTuple):
    """A layer at one example: what goes in, its neurons' outputs without the bias, and which of them count."""

    node: Node
    linear: Any
    x: Array
    y: Array
    counted: Array


def _read(f: Any, x: Pytree, args: tuple[Any, ...]) -> list[_Read]:
    opened = open_score(f, x, args, "estimate_patterns")
    nodes, found = layers_of(opened.graph, "estimate_patterns"), []
    for node, call in calls_of(opened, nodes).items():
        layer, z = layer_of(node, call.fixed), call.outputs[0]
        counted = z > 0 if _behind_relu(opened.graph, node) else jnp.ones_like(z, bool)
        found.append(_Read(node, layer.linear, call.inputs[0], z - layer.bias, counted))
    return found


def _named(f: Any, row: Any) -> tuple[str, ...]:
    """The layers as errors name them; nothing is computed."""
    names: list[str] = []

    def look(row: Any) -> list[Array]:
        found = _read(f, *row)
        names[:] = [r.node.describe() for r in found]
        return [r.y for r in found]

    jax.eval_shape(look, row)
    return tuple(names)


def _sum(rows: Array, real: Array) -> Array:
    """The sum over the examples of a batch that are no copies."""
    return jnp.tensordot(real.astype(rows.dtype), rows, 1)


@jax.jit
def _totals(f: Any, rows: Any, real: Array) -> list[Array]:
    """For each layer the sum of each neuron's outputs over its places and the batch, at its outputs; how many."""

    def example(row: Any) -> list[Array]:
        return [jnp.stack([shared_sum(r.node, y) for y in (r.y, jnp.ones_like(r.y))]) for r in _read(f, *row)]

    return [_sum(leaf, real) for leaf in jax.vmap(example)(rows)]


@jax.jit
def _products(f: Any, means: list[Array], rows: Any, real: Array) -> list[tuple[Array, Array, Array]]:
    """For each layer sum x (y - m), sum y (y - m) and sum y^2 over what counts, each where the weights are."""
    layers: list[tuple[Node, Any]] = []

    def example(row: Any) -> list[tuple[Array, ...]]:
        found = _read(f, *row)
        layers[:] = [(r.node, r.linear) for r in found]
        changes = [jnp.where(r.counted, r.y - mean, 0) for r, mean in zip(found, means, strict=True)]
        sizes = [
            (change * r.y, jnp.where(r.counted, jnp.square(r.y), 0)) for r, change in zip(found, changes, strict=True)
        ]
        inside = [
            [in_weights(r.node, shared_sum(r.node, s)) for s in pair] for r, pair in zip(found, sizes, strict=True)
        ]
        return [(r.x, change, *pair) for r, change, pair in zip(found, changes, inside, strict=True)]

    batch, sums = jax.vmap(example)(rows), []
    for (node, linear), (x, change, *sizes) in zip(layers, batch, strict=True):
        # The derivative with respect to weights of sum (y - m) W x, as one product over the batch.
        start = jnp.zeros(weights_of(node).shape, change.dtype)
        outputs = lambda w, linear=linear, x=x: jax.vmap(lambda row: linear(row, w))(x)  # noqa: E731
        _, back = jax.vjp(outputs, start)
        weighted = change * real.reshape(-1, *[1] * (change.ndim - 1)).astype(change.dtype)
        sums.append((back(weighted)[0], *(_sum(size, real) for size in sizes)))
    return sums


def _batches(rows: Any, count: int, batch_size: int) -> Any:
    """Batches of one size, the last filled up with copies of the last example, and which are none."""
    size = min(batch_size, count)
    for first in range(0, count, size):
        index = np.arange(first, first + size)
        yield (
            jax.tree.map(lambda leaf, index=index: leaf[np.minimum(index, count - 1)], rows),
            jnp.asarray(index < count),
        )


def _added(sums: Any, new: Any) -> Any:
    return new if sums is None else jax.tree.map(jnp.add, sums, new)


def _divided(product: Array, change: Array, square: Array) -> tuple[Array, Array]:
    """The patterns, with w'a = 1 for each neuron; and how many neurons have none."""
    small = jnp.abs(change) <= 64 * jnp.finfo(change.dtype).eps * square
    usable = ~small | ~jnp.isfinite(square)  # what is not finite is no silence: it is told
    values = jnp.where(usable, product / jnp.where(usable, change, 1), 0)
    return values, jnp.sum(~usable)


@public
def estimate_patterns(f: Callable[..., Any], inputs: Arrays, *args: Any, batch_size: int = 64) -> Patterns:
    """Estimate the pattern of every neuron of a ReLU network: which change of its input its output stands for.

    A neuron's weights say how its output is read, and so also what has to be cancelled (a suppressor gets weight
    although it carries nothing); its pattern says where in the input the output's signal is. With y = w'x (without the
    bias), and means over examples (and over the places of a convolution):

        a = (E[x y] - E[x] E[y]) / (w'E[x y] - w'E[x] E[y])                  where no ReLU follows (a linear neuron)
        a = (E+[x y] - E+[x] E[y]) / (w'E+[x y] - w'E+[x] E[y])              before a ReLU (the two-component estimator)

    with E+ over those examples (and places) at which the neuron passes its ReLU, bias included. So w'a = 1, and for a
    linear neuron a = cov(x, y) / var(y). A BatchNorm in evaluation is part of the layer before it. Zeros that a
    convolution pads with count as inputs.

    Args:
        f: A score of a network of dense layers, convolutions and ReLUs, `f(x, *args) -> scalar`. It needs a logit or
            what is linear in the last layer; which one does not matter, as every neuron of a layer gets its pattern.
        inputs: Training examples `[N, ...]`, or a pytree of them.
        args: Further arguments of the score, such as labels, with an axis [N] each.
        batch_size: How many examples are run at once.

    Returns:
        The `Patterns`, for `pattern_net` and `pattern_attribution`; summed in float32 or wider, for any batch size the
        same up to rounding. Cost: two forward passes over the examples and one derivative with respect to the weights.

        A layer of which no neuron has a pattern is warned of.

    Raises:
        ValueError: An operation that has no pattern (it is named), no layer with weights, fewer than two examples, NaN.
        TypeError: Inputs that are no arrays of floating-point numbers.

    Example:
        >>> import jax.numpy as jnp
        >>> f = lambda x: x @ jnp.array([1.0, -1.0])  # the second feature takes the noise out of the first
        >>> inputs = jnp.array([[1.0, 0.0], [-1.0, 0.0], [2.0, 1.0], [0.0, 1.0], [0.0, -1.0], [-2.0, -1.0]])
        >>> estimate_patterns(f, inputs).values[0].round(3).tolist()
        [1.0, 0.0]

    Source: Kindermans et al. 2018, "Learning how to explain neural networks: PatternNet and PatternAttribution",
    section "Learning to estimate signal"; for linear neurons Haufe et al. 2014, "On the interpretation of weight
    vectors of linear models in multivariate neuroimaging", equation 6.
    """
    name = "estimate_patterns"
    score = as_function(check.callable_score(f, name))
    check.differentiable(inputs, name, "inputs")
    rows = jax.tree.map(jnp.asarray, (inputs, args))
    count, size = check.batch_length(rows, name, "inputs"), check.count(batch_size, name, "batch_size")
    if count < 2:
        raise ValueError(f"{name}: patterns are covariances over `inputs`; pass two examples or more, not {count}.")
    check.finite(inputs, name, "inputs")
    layers = _named(score, jax.tree.map(lambda leaf: leaf[0], rows))
    totals: Any = None
    products: Any = None
    for batch, real in _batches(rows, count, size):
        totals = _added(totals, _totals(score, batch, real))
    means = [total[0] / total[1] for total in totals]
    for batch, real in _batches(rows, count, size):
        products = _added(products, _products(score, means, batch, real))
    values, silent = zip(*(_divided(*sums) for sums in products), strict=True)
    _require_finite(layers, values, name)
    _tell_empty(layers, values, name)
    return Patterns(layers, values, silent)


def _require_finite(layers: tuple[str, ...], values: tuple[Array, ...], name: str) -> None:
    for layer, value in zip(layers, values, strict=True):
        if check.is_concrete(value) and (bad := np.argwhere(~np.isfinite(np.asarray(value)))).size:
            raise ValueError(
                f"{name}: {len(bad)} of the patterns' values at {layer} are NaN or infinite (the first at the weight "
                f"{tuple(map(int, bad[0]))}), though `inputs` are finite. Look at the layer's parameters and outputs."
            )


def _tell_empty(layers: tuple[str, ...], values: tuple[Array, ...], name: str) -> None:
    for layer, value in zip(layers, values, strict=True):
        if check.is_concrete(value) and not np.asarray(value).any():
            warnings.warn(
                f"{name}: no neuron of {layer} has a pattern, so that explanations by these patterns are zero. Either "
                "none passes its ReLU for any of `inputs`, or their outputs hardly vary beside their size: for inputs "
                "far from zero explain a model of centred ones, or use float64.",
                UserWarning,
                stacklevel=3,
            )
