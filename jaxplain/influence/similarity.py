"""Products of gradients: of queries with training examples, at the end or along training; and with themselves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.influence.curvature import Plan, derivatives, explicit, plan_of
from jaxplain.influence.gradients import Examples, as_rows, examples_of, require_finite
from jaxplain.influence.result import Influence, Queries, better_when_higher, checked_queries
from jaxplain.program import as_function, public
from jaxplain.readout import cross_entropy
from jaxplain.types import Array, ArrayLike, Number, Pytree


class Pieces(NamedTuple):
    """Gradients of examples, not multiplied out: of each layer inputs `[N, T, in]` and output gradients `[N, T, out]`,
    which are the gradient sum over T of input times output gradient; and of other arrays the gradient, `[N, P]`."""

    inputs: list[Array]
    outputs: list[Array]
    rest: list[Array]


@functools.partial(jax.jit, static_argnames="plan")
def pieces(examples: Examples, plan: Plan) -> Pieces:
    """The pieces of each example's gradient: one forward and one backward pass, memory N times (in + out)."""

    def one(row: Any) -> Pieces:
        ins, outs, rest = derivatives(examples, "fisher", plan, *row)
        return Pieces(ins, [d[0] for d in outs], [leaf.reshape(-1) for leaf in rest])

    return jax.lax.map(one, examples.data[:2], batch_size=examples.batch_size)


@jax.jit
def products_of(first: Pieces, second: Pieces) -> Array:
    """Inner products of all pairs of gradients, `[Q, N]`: <a, a><d, d> summed over pairs of positions, or where that is
    dearer than the gradients themselves, of these."""
    total = jnp.zeros((), jnp.float32)
    for g, h in zip(first.rest, second.rest, strict=True):
        total = total + g @ h.T
    for a, d, b, e in zip(first.inputs, first.outputs, second.inputs, second.outputs, strict=True):
        positions, sizes = a.shape[1], (a.shape[2], d.shape[2])
        if positions == 1:
            total = total + (a[:, 0] @ b[:, 0].T) * (d[:, 0] @ e[:, 0].T)
        elif positions**2 * sum(sizes) <= sizes[0] * sizes[1]:
            total = total + jnp.einsum("qti,nsi,qto,nso->qn", a, b, d, e, optimize=[(0, 1), (0, 1), (0, 1)])
        else:
            whole = (jnp.einsum("nti,nto->nio", x, y).reshape(len(x), -1) for x, y in ((a, d), (b, e)))
            total = total + next(whole) @ next(whole).T
    return total


@jax.jit
def norms_of(own: Pieces) -> Array:
    """The norm of each gradient, `[N]`."""
    return jnp.sqrt(jax.lax.map(lambda one: products_of(one, one)[0, 0], jax.tree.map(lambda a: a[:, None], own)))


@public
def gradient_similarity(
    apply: Callable[..., Any],
    params: Pytree,
    data: Any,
    queries: Any,
    *,
    loss: Callable[[Array, Any], Array] = cross_entropy,
    similarity: str = "dot",
    last_layer: bool = False,
    batch_size: int = 64,
) -> Influence:
    """Compare the gradients of queries and training examples: -<grad q, grad loss_i>, or the cosine of it.

    The sign is that of a step of gradient descent on example i: positive raises the query's score (the
    products of Captum and dattri have the other sign).

    Args:
        apply: As in `influence_function`.
        params: The trained params.
        data: `(inputs, targets)`, the training examples, `[N, ...]`.
        queries: `query_scores(apply, data)`, or any `params -> scores [Q]`.
        loss: The loss of one example.
        similarity: 'dot' or 'cosine'.
        last_layer: Compare the gradients of the last dense or convolution layer (and its bias) only.
        batch_size: Examples at once.

    Returns:
        `Influence` with values `[Q, N]`, units None. Cost: one forward and one backward pass for each example and each
        query, and for each pair in + out operations a layer with one position (of a layer with several, the cheaper
        way; the gradients `[N, P]` are never built); with queries that are a plain function, Q forward derivatives over
        the examples.

    Raises:
        ValueError, TypeError: As `influence_function`; `last_layer` of a model without such layers.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxplain.influence import query_scores
        >>> from jaxplain.train import squared_error
        >>> data = (jnp.array([[1.0], [2.0]]), jnp.array([1.0, 1.0]))
        >>> apply = lambda w, x: x @ w
        >>> queries = query_scores(apply, data, squared_error)
        >>> gradient_similarity(apply, jnp.zeros(1), data, queries, loss=squared_error).values.tolist()
        [[-4.0, -8.0], [-8.0, -16.0]]

    Source: Charpiat et al. 2019, "Input similarity from the neural network perspective", equation 2; Hanawa et al. 2021
    compares dot and cosine.
    """
    check.choice(similarity, ("dot", "cosine"), "gradient_similarity", "similarity")
    examples = examples_of(apply, params, data, loss, None, batch_size, "gradient_similarity")
    checked_queries(queries, params, "gradient_similarity")
    plan = plan_of(examples)
    if last_layer:
        plan = _last(plan, "gradient_similarity")
    scores, values = _similar(examples, plan, as_function(queries), similarity == "cosine", last_layer)
    require_finite(examples, (scores, values), "gradient_similarity")
    method = f"gradient_similarity ({similarity})"
    return Influence(values, scores, None, better_when_higher(queries), method, {"last_layer": last_layer})


def _similar(
    examples: Examples, plan: Plan, queries: Any, cosine: bool, last_layer: bool = False
) -> tuple[Array, Array]:
    """Scores, and negative products or cosines."""
    if isinstance(queries, Queries):
        rows = as_rows(queries.inputs, queries.targets)
        own = Examples(queries.model, queries.criterion, examples.params, rows, examples.batch_size)
        asked, learnt = pieces(own, plan), pieces(examples, plan)
        values = -products_of(asked, learnt)
        if cosine:
            values = values / jnp.maximum(norms_of(asked)[:, None] * norms_of(learnt)[None], _tiny(values))
        return _scores(queries, examples.params), values
    scores, rows = jax.jit(Examples.query_gradients)(examples, queries)
    if last_layer:
        rows = rows * _mask(examples, plan)[None]
    values = -jax.jit(Examples.along)(examples, rows)
    if cosine:
        norms = norms_of(pieces(examples, plan))
        values = values / jnp.maximum(jnp.linalg.norm(rows, axis=1)[:, None] * norms[None], _tiny(values))
    return scores, values


@jax.jit
def _scores(queries: Queries, params: Pytree) -> Array:
    return queries(params)


def _tiny(values: Array) -> Any:
    return jnp.finfo(values.dtype).tiny


def _last(plan: Plan, name: str) -> Plan:
    if not plan.groups:
        raise ValueError(
            f"{name}: `last_layer` needs a dense or convolution layer, and the model has none that is read."
        )
    return Plan((max(plan.groups, key=lambda group: max(group[1])),), ())


def _mask(examples: Examples, plan: Plan) -> Array:
    """1 at the params of the plan's layers, `[P]`."""
    covered = {position for group in plan.groups for position in (group[0], group[2])}
    leaves = jax.tree.leaves(examples.model.partition(examples.params)[0])
    parts = [jnp.full(leaf.size, float(i in covered), leaf.dtype) for i, leaf in enumerate(leaves)]
    return jnp.concatenate(parts)


@public
def tracin(
    apply: Callable[..., Any],
    checkpoints: Pytree,
    data: Any,
    queries: Any,
    *,
    learning_rates: ArrayLike = 1.0,
    loss: Callable[[Array, Any], Array] = cross_entropy,
    batch_size: int = 64,
) -> Influence:
    """Sum the products of gradients over checkpoints: -sum_c rate_c <grad q(theta_c), grad loss_i(theta_c)>.

    With every step of a run of plain gradient descent as a checkpoint and rates of learning rate / B it is the change
    of the score by the steps on example i, to first order.

    Args:
        apply: As in `influence_function`.
        checkpoints: Params as `apply` takes them, stacked: each leaf `[C, ...]` (`run.trajectory()[1]` of a
            `training_run` is such a tree).
        data: `(inputs, targets)`, the training examples, `[N, ...]`.
        queries: `query_scores(apply, data)`, or any `params -> scores [Q]`.
        learning_rates: One number, or `[C]`, one for each checkpoint.
        loss: The loss of one example.
        batch_size: Examples at once.

    Returns:
        `Influence` with values `[Q, N]`, units None, and the scores at the last checkpoint. Cost: C times that of
        `gradient_similarity`.

    Raises:
        ValueError: Checkpoints of another model, or of unequal numbers; and as `influence_function`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxplain.train import squared_error
        >>> data = (jnp.array([[1.0], [2.0]]), jnp.array([1.0, 1.0]))
        >>> apply, checkpoints = lambda w, x: x @ w, jnp.array([[0.0], [0.5]])
        >>> tracin(apply, checkpoints, data, lambda w: w, loss=squared_error).values.tolist()
        [[3.0, 4.0]]

    Source: Pruthi et al. 2020, "Estimating training data influence by tracing gradient descent", TracInCP, section 3.3.
    """
    count = check.batch_length(checkpoints, "tracin", "checkpoints")
    check.real(check.numbers(learning_rates, "tracin", "learning_rates"), "tracin", "learning_rates")
    rates = np.asarray(learning_rates, float)
    rates = np.broadcast_to(rates, (count,)) if rates.ndim == 0 else rates
    if rates.shape != (count,):
        raise ValueError(f"tracin: `learning_rates` has shape {rates.shape}, but there are {count} checkpoints.")
    check.finite(rates, "tracin", "learning_rates")
    total: Any = 0.0
    for index in range(count):
        params = jax.tree.map(lambda a, index=index: jnp.asarray(a)[index], checkpoints)
        if index == 0:
            examples = examples_of(apply, params, data, loss, None, batch_size, "tracin", "checkpoints")
            checked_queries(queries, params, "tracin")
            plan, asked = plan_of(examples), as_function(queries)
        examples = Examples(examples.model, examples.loss, params, examples.data, batch_size)
        scores, values = _similar(examples, plan, asked, False)
        total = total + jnp.asarray(rates[index], values.dtype) * values
    require_finite(examples, total, "tracin")
    return Influence(total, scores, None, better_when_higher(queries), "tracin", {"checkpoints": count})


@public
def self_influence(
    apply: Callable[..., Any],
    params: Pytree,
    data: Any,
    *,
    loss: Callable[[Array, Any], Array] = cross_entropy,
    damping: Number | None = None,
    curvature: str = "gauss_newton",
    batch_size: int = 64,
) -> Array:
    """Measure what each training example does to its own loss: -|g_i|^2, or -g_i' (H + damping I)^-1 g_i.

    It is never positive; the most negative are the examples that the model knows only by themselves: rare, hard, or
    with a wrong label.

    Args:
        apply: As in `influence_function`.
        params: The trained params.
        data: `(inputs, targets)`, the training examples, `[N, ...]`.
        loss: The loss of one example.
        damping: None leaves the curvature out; a number takes the explicit solver of `influence_function`.
        curvature: 'gauss_newton', 'hessian' or 'fisher', with `damping`.
        batch_size: Examples at once.

    Returns:
        `[N]`, with `damping` in units of the loss. Cost: one forward and one backward pass an example; with `damping`
        the whole curvature `[P, P]` and gradients `[N, P]`.

    Raises:
        ValueError, TypeError: As `influence_function`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxplain.train import squared_error
        >>> data = (jnp.array([[1.0], [2.0]]), jnp.array([1.0, 1.0]))
        >>> self_influence(lambda w, x: x @ w, jnp.zeros(1), data, loss=squared_error).tolist()
        [-4.0, -16.0]

    Source: Pruthi et al. 2020, section 4.1 (without curvature); Feldman and Zhang 2020 for what it finds.
    """
    check.choice(curvature, ("gauss_newton", "hessian", "fisher"), "self_influence", "curvature")
    examples = examples_of(apply, params, data, loss, None, batch_size, "self_influence")
    if damping is None:
        values = -(norms_of(pieces(examples, plan_of(examples))) ** 2)
    else:
        check.one_number(damping, "self_influence", "damping", zero=True)
        rows = jax.jit(Examples.gradients)(examples)
        require_finite(examples, rows, "self_influence")
        values = -jnp.sum(rows * explicit(examples, curvature)(rows, damping)[0], axis=1)
    require_finite(examples, values, "self_influence")
    return values
