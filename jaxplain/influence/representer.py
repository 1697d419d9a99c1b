"""Representer points: a logit as a sum over training examples, where the last layer is at its optimum."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.influence.curvature import derivatives, plan_of
from jaxplain.influence.gradients import Examples, examples_of, require_finite
from jaxplain.influence.result import Influence
from jaxplain.program import public
from jaxplain.readout import cross_entropy
from jaxplain.types import Array, Number, Pytree


@public
def representer_points(
    apply: Callable[..., Any],
    params: Pytree,
    data: Any,
    queries: tuple[Any, Any],
    *,
    damping: Number,
    loss: Callable[[Array, Any], Array] = cross_entropy,
    weights: Any = None,
    steps: int = 50,
    batch_size: int = 64,
) -> Influence:
    """Divide each query's logit among the training examples: z_k(q) = sum_i a_ik <f_i, f_q>.

    a_i = -w_i (dloss_i / dz) / damping, and f are the inputs of the model's last dense layer, with a 1 for its bias.
    The sum is exact where that layer is a minimum of sum_i w_i loss_i + damping |W|^2 / 2 (the bias in it, too), so it
    is trained on to that minimum first, by Newton's method; the layers below stay as they are.

    Args:
        apply: As in `influence_function`; its output is that of its last dense layer.
        params: The trained params.
        data: `(inputs, targets)`, the training examples, `[N, ...]`.
        queries: `(inputs, labels)`, `[Q, ...]` and `[Q]`; the score is the logit of the label.
        damping: The L2 penalty of the summed loss, positive.
        loss: `loss(outputs, target) -> scalar` of one example, convex in the outputs.
        weights: `[N]`; None is 1 for each.
        steps: Newton steps at most.
        batch_size: Examples at once.

    Returns:
        `Influence` with values `[Q, N]`, units None, whose sum over i is `scores`, the logits of the layer at its
        minimum; checks `gap` (largest difference of the sum), `moved` (largest change of a query's logit by training
        on). Cost: one forward pass over all, then products of the features only.

    Raises:
        ValueError: A model whose last layer is not dense, has several positions, or is not its output; labels outside.
        TypeError: As `influence_function`.

    Example:
        >>> import jax.numpy as jnp
        >>> x, y = jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array([0, 1])
        >>> found = representer_points(lambda w, x: x @ w, jnp.zeros((2, 2)), (x, y), (x, y), damping=0.1)
        >>> bool(found.checks["gap"] < 1e-5), bool(found.values[0, 0] > 0)
        (True, True)

    Source: Yeh et al. 2018, "Representer point selection for explaining deep neural networks", theorem 3.1.
    """
    check.one_number(damping, "representer_points", "damping")
    check.count(steps, "representer_points", "steps")
    examples = examples_of(apply, params, data, loss, weights, batch_size, "representer_points")
    if not (isinstance(queries, tuple) and len(queries) == 2):
        raise TypeError(
            f"representer_points: `queries` is {check.short(queries)}; pass (inputs, labels), arrays [Q, ...]."
        )
    asked = examples_of(apply, params, queries, cross_entropy, None, batch_size, "representer_points")
    features, outputs = _features(examples)
    probes, answers = _features(asked)
    labels = jnp.asarray(queries[1])
    decay = jnp.asarray(damping, features.dtype)
    layer = _train_on(
        examples, features, decay, steps, jnp.zeros((features.shape[1], outputs.shape[1]), features.dtype)
    )
    slopes = jax.vmap(jax.grad(examples.loss))(features @ layer, examples.data.targets)
    shares = -examples.data.weights[:, None] * slopes / decay
    values = (probes @ features.T) * shares.T[labels]
    require_finite(examples, values, "representer_points")
    scores = jnp.take_along_axis(probes @ layer, labels[:, None], 1)[:, 0]
    before = jnp.take_along_axis(answers, labels[:, None], 1)[:, 0]
    checks = {"gap": jnp.max(jnp.abs(values.sum(1) - scores)), "moved": jnp.max(jnp.abs(scores - before))}
    return Influence(values, scores, None, True, "representer_points", {k: float(v) for k, v in checks.items()})


def _features(examples: Examples) -> tuple[Array, Array]:
    """Inputs of the last layer, `[N, in]`, with a 1 where it has a bias, and outputs of the model, `[N, K]`."""
    plan = plan_of(examples)
    found = [group for group in plan.groups if max(group[1]) == max(max(g[1]) for g in plan.groups)]
    if not found or found[0][4] != 1:
        raise ValueError("representer_points: the model has no dense layer that is read (a matrix times a vector).")
    weight, _, bias, axes, _ = found[0]
    leaves = jax.tree.leaves(examples.model.partition(examples.params)[0])
    layer = jnp.transpose(leaves[weight], axes).reshape(leaves[weight].shape[axes[0]], -1)
    layer = layer if bias is None else jnp.concatenate([layer, leaves[bias].reshape(1, -1)])
    inputs, outputs = _read(examples, plan._replace(groups=(found[0],)))
    if inputs.shape[1] != 1 or outputs.ndim != 2:
        raise ValueError(
            f"representer_points: the last layer runs at {inputs.shape[1]} positions and the output has shape "
            f"{outputs.shape[1:]}; it has to be one row of logits."
        )
    size = jnp.max(jnp.abs(outputs)) + 1
    if not bool(jnp.max(jnp.abs(inputs[:, 0] @ layer - outputs)) < 1e-3 * size):
        raise ValueError(
            "representer_points: the output is not that of the model's last dense layer; cut what follows."
        )
    return inputs[:, 0], outputs


@functools.partial(jax.jit, static_argnames="plan")
def _read(examples: Examples, plan: Any) -> tuple[Array, Array]:
    def one(row: Any) -> tuple[Array, Array]:
        inputs, _, _ = derivatives(examples, "fisher", plan, *row)
        return inputs[0], examples.output(examples.vector, row[0])

    return jax.lax.map(one, examples.data[:2], batch_size=examples.batch_size)


@functools.partial(jax.jit, static_argnames="steps")
def _train_on(examples: Examples, features: Array, decay: Array, steps: int, start: Array) -> Array:
    """The minimum over the layer: Newton steps by conjugate gradients, each halved until it lowers the objective."""

    def objective(layer: Array) -> Array:
        losses = jax.vmap(examples.loss)(features @ layer, examples.data.targets)
        return jnp.sum(examples.data.weights * losses) + decay * jnp.sum(layer**2) / 2

    slope = jax.grad(objective)
    tolerance = 1e-12 if features.dtype == jnp.float64 else 1e-6

    def step(_: Any, layer: Array) -> Array:
        gradient = slope(layer)
        move = jax.scipy.sparse.linalg.cg(lambda v: jax.jvp(slope, (layer,), (v,))[1], gradient, tol=tolerance)[0]
        here, fall = objective(layer), jnp.sum(gradient * move)
        lengths = 0.5 ** jnp.arange(20, dtype=layer.dtype)
        values = jax.lax.map(lambda length: objective(layer - length * move), lengths)
        slack = 10 * jnp.finfo(layer.dtype).eps * jnp.abs(here)  # near the minimum the objective cannot tell
        good = values <= here - 1e-4 * lengths * fall + slack
        return layer - jnp.where(jnp.any(good), lengths[jnp.argmax(good)], 0.0) * move

    return jax.lax.fori_loop(0, steps, step, start)
