"""What of a model's trained arrays its layers cover, and the factors of each example's gradient that they give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxplain.influence.curvature.layers import Layer, Reading
from jaxplain.influence.curvature.matrix import loss_hessian
from jaxplain.influence.gradients import Examples
from jaxplain.program.trace import ByShape
from jaxplain.types import Array


class Plan(NamedTuple):
    """Which leaves are covered: weight to (its layers by number, its bias, its axes, summed axes); the other leaves."""

    groups: tuple[tuple[int, tuple[int, ...], int | None, tuple[int, ...], int], ...]
    diagonal: tuple[int, ...]


def trained_of(examples: Examples) -> Any:
    """The part of the params that is trained."""
    return examples.model.partition(examples.params)[0]


def _outputs(examples: Examples, inputs: Any) -> Callable[[list[Array]], Array]:
    """One example's output as a function of the trained leaves."""
    trained, rest = examples.model.partition(examples.params)
    structure = jax.tree.structure(trained)
    batch = jax.tree.map(lambda a: a[None], inputs)
    return lambda leaves: examples.model(examples.model.combine(jax.tree.unflatten(structure, leaves), rest), *batch)[0]


def plan_of(examples: Examples) -> Plan:
    """Find the layers of the model. Cost: one trace for each model and shapes of its params and inputs."""
    return _PLANS(_found, examples)


_PLANS = ByShape[Plan]()


def _found(examples: Examples) -> Plan:
    """The plan for examples of which only the shapes are known."""
    leaves = jax.tree.leaves(jax.eval_shape(trained_of, examples))
    reading = Reading()

    def run(examples: Examples) -> list[Any]:
        first = jax.tree.map(lambda a: a[0], examples.data.inputs)
        return reading.run(_outputs(examples, first), jax.tree.leaves(trained_of(examples)))

    jax.eval_shape(run, examples)
    found: dict[int, list[int]] = {}
    for number, layer in enumerate(reading.layers):
        found.setdefault(layer.weight, []).append(number)
    groups = []
    for weight, numbers in found.items():
        layers = [reading.layers[number] for number in numbers]
        alike = len({layer._replace(bias=None) for layer in layers}) == 1
        if weight in reading.elsewhere or not alike:
            continue
        bias = _own_bias(layers, reading)
        groups.append((weight, tuple(numbers), bias, layers[0].axes, layers[0].summed))
    covered = {group[0] for group in groups} | {group[2] for group in groups}
    return Plan(tuple(groups), tuple(i for i in range(len(leaves)) if i not in covered))


def _own_bias(layers: list[Layer], reading: Reading) -> int | None:
    """The bias of all uses of a weight, which nothing else reads."""
    biases = {layer.bias for layer in layers}
    bias = biases.pop()
    shared = sum(layer.bias == bias for layer in reading.layers) != len(layers)
    return None if biases or shared or bias in reading.elsewhere else bias


def derivatives(examples: Examples, kind: str, plan: Plan, inputs: Any, target: Any) -> tuple[Any, Any, Any]:
    """Of one example and each group: inputs `[positions, in]` (with 1 for a bias) and the K root-curvature gradients of
    its results `[K, positions, out]`; and those of the leaves that no group covers, `[K, ...]` each."""
    leaves = jax.tree.leaves(trained_of(examples))
    shapes = Reading()
    jax.eval_shape(lambda leaves: shapes.run(_outputs(examples, inputs), leaves), leaves)
    zeros = [jnp.zeros(result.shape, result.dtype) for result in shapes.results]

    def of(moves: list[Array], others: list[Array]) -> tuple[Array, list[Array]]:
        whole = list(leaves)
        for position, leaf in zip(plan.diagonal, others, strict=True):
            whole[position] = leaf
        reading = Reading(moves)
        output = reading.run(_outputs(examples, inputs), whole)[0]
        return output, reading.inputs

    others = [leaves[position] for position in plan.diagonal]
    output, pull, read = jax.vjp(of, zeros, others, has_aux=True)
    if kind == "fisher":
        cotangents = jax.grad(examples.loss)(output, target)[None]
    else:
        middle = loss_hessian(examples, output, target)
        values, vectors = jnp.linalg.eigh(middle)
        roots = vectors * jnp.sqrt(jnp.maximum(values, 0))[None]
        cotangents = roots.T.reshape(-1, *output.shape)
    moved, rest = jax.vmap(pull)(cotangents)
    ins, outs = [], []
    for _, numbers, bias, _, _ in plan.groups:
        value = jnp.concatenate([read[number] for number in numbers])
        one = jnp.ones((len(value), 1), value.dtype)
        ins.append(value if bias is None else jnp.concatenate([value, one], axis=1))
        outs.append(jnp.concatenate([moved[number] for number in numbers], axis=1))
    return ins, outs, rest
