"""What an attribution to training examples is: query scores, the values of every example for each, and the top ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import Function, as_function, kept, public, setting, shown
from jaxplain.program.trace import ByShape, dependent, is_literal, shape_of, trace
from jaxplain.readout import cross_entropy
from jaxplain.train import as_trainable
from jaxplain.types import Array, ArrayLike, Pytree


@shown
class Influence(NamedTuple):
    """What every training example does to every query.

    values: `[Q, N]`; positive raises the query's score. Where `units` is "score", `values[q, i]` is the derivative of
        query score q with respect to the weight of training example i, for one whole example: removing example i
        changes the score by about `-values[q, i]`. Where `units` is None only order and sign mean something.
    scores: `[Q]`, the query scores of the trained model, or None.
    units: "score" or None.
    higher_is_better: Whether a higher score is a better one; of a loss it is not.
    method: The function that made it.
    checks: What the method says of itself: numbers by name.
    """

    values: Any
    scores: Any
    units: str | None
    higher_is_better: bool
    method: str
    checks: dict[str, Any]


class Queries(Function):
    """Scores of some examples as a function of the params, `queries(params) -> [Q]`. Made by `query_scores`."""

    model: Any
    inputs: tuple[Any, ...]
    targets: Pytree
    criterion: Any
    higher_is_better: bool = setting(default=False)

    def __call__(self, params: Pytree) -> Array:
        """The score of each query, `[Q]`, with the model in evaluation mode."""
        return jax.vmap(self.criterion)(self.model(params, *self.inputs), self.targets)


@shown
class Top(NamedTuple):
    """The training examples that matter most, for each query: indices and values, both `[Q, k]`, largest first.

    helpful, helpful_values: Those that make the query's score better; harmful, harmful_values: those that make it
    worse. Fewer than k of a kind are filled up with index -1 and value 0.
    """

    helpful: Any
    helpful_values: Any
    harmful: Any
    harmful_values: Any


@public
def query_scores(
    apply: Callable[..., Any],
    data: Any,
    criterion: Callable[[Array, Any], Array] = cross_entropy,
    *,
    higher_is_better: bool = False,
) -> Queries:
    """Make the queries: the score of each of some examples as a function of the params.

    Any function `params -> [Q]` serves in its place.

    Args:
        apply: `apply(params, batch, *inputs) -> outputs`, as in `train.fit`.
        data: `(inputs, targets)`, arrays `[Q, ...]`.
        criterion: `criterion(outputs, target) -> scalar` of one query: a loss, or `log_odds`.
        higher_is_better: Whether a higher score is a better one: False for a loss.

    Returns:
        `queries(params) -> scores [Q]`. Cost: one forward pass over the queries.

    Raises:
        ValueError, TypeError: Examples without arrays or of unequal lengths, a model of no known kind.

    Example:
        >>> import jax.numpy as jnp
        >>> queries = query_scores(lambda w, x: x @ w, (jnp.eye(2), jnp.array([0, 1])))
        >>> queries(jnp.zeros((2, 2))).round(3).tolist()
        [0.6930000185966492, 0.6930000185966492]
    """
    if not (isinstance(data, tuple) and len(data) == 2):
        raise TypeError(f"query_scores: `data` is {check.short(data)}; pass (inputs, targets), arrays [Q, ...].")
    check.batch_length(data, "query_scores", "data")
    inputs = data[0] if isinstance(data[0], tuple) else (data[0],)
    inputs, targets = jax.tree.map(jnp.asarray, (inputs, data[1]))
    return Queries(as_trainable(apply), inputs, targets, as_function(criterion), higher_is_better)


@public
def log_odds(outputs: Array, target: ArrayLike) -> Array:
    """Score by the log-odds of the target: log p / (1 - p) = z[target] - log sum over k != target of exp z[k].

    Written in logits, so that it stays finite (and keeps its derivative) as p goes to 1.

    Args:
        outputs: Logits `[K]`, at least two.
        target: An integer label.

    Returns:
        A scalar in nats. Cost: no model pass.

    Raises:
        ValueError: Outputs of another shape, or a concrete label outside of them.

    Example:
        >>> import jax.numpy as jnp
        >>> float(log_odds(jnp.array([100.0, 0.0]), 0))
        100.0

    Source: Park et al. 2023, "TRAK: attributing model behavior at scale", section 3.1.
    """
    if jnp.ndim(outputs) != 1 or jnp.shape(outputs)[0] < 2:
        raise ValueError(f"log_odds: `outputs` has shape {jnp.shape(outputs)}; pass the logits of one example, [K].")
    if jnp.shape(target) != () or not jnp.issubdtype(jnp.result_type(target), jnp.integer):
        raise ValueError(f"log_odds: `target` has to be one integer label, not {check.short(target)}.")
    if check.is_concrete(target):
        check.label_range(np.asarray(target).reshape(1), jnp.shape(outputs)[0], "log_odds")
    own = jnp.arange(jnp.shape(outputs)[0]) == target
    return jnp.sum(jnp.where(own, outputs, 0)) - jax.nn.logsumexp(jnp.where(own, -jnp.inf, outputs))


@public
def top_examples(influence: Influence, k: int = 5) -> Top:
    """Pick the k most helpful and the k most harmful training examples of each query.

    Helpful is what makes the score better: with `higher_is_better=False` (a loss) what lowers it.

    Args:
        influence: What a method of this namespace returned.
        k: How many of each kind.

    Returns:
        `Top(helpful, helpful_values, harmful, harmful_values)`, each `[Q, k]`. Cost: one sort.

    Raises:
        TypeError, ValueError: No `Influence`, or k out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> found = Influence(jnp.array([[0.5, -2.0, 1.0]]), None, "score", False, "unrolled", {})
        >>> top = top_examples(found, 1)
        >>> top.helpful.tolist(), top.harmful.tolist()
        ([[1]], [[2]])
    """
    if jnp.ndim(influence.values) != 2:
        raise ValueError(
            f"top_examples: `influence` has values {check.short(influence.values)}; they have to be [Q, N]."
        )
    values = np.asarray(influence.values)
    k = check.count(k, "top_examples", "k")
    if k > values.shape[1]:
        raise ValueError(f"top_examples: `k` is {k}, but there are {values.shape[1]} training examples.")
    better = values if influence.higher_is_better else -values

    def pick(order: np.ndarray, sign: float) -> tuple[np.ndarray, np.ndarray]:
        index = np.argsort(-sign * order, axis=1, kind="stable")[:, :k]
        right = np.take_along_axis(sign * order, index, 1) > 0
        return np.where(right, index, -1), np.where(right, np.take_along_axis(values, index, 1), 0.0)

    return Top(*pick(better, 1.0), *pick(better, -1.0))


def split_floating(tree: Pytree) -> tuple[list[Array], Callable[[list[Array]], Pytree]]:
    """The floating-point leaves of a pytree, and what puts them back among the others."""
    leaves, structure = jax.tree.flatten(tree)
    moving = [check.is_floating(leaf) for leaf in leaves]

    def merge(values: list[Array]) -> Pytree:
        supply = iter(values)
        merged = [next(supply) if move else leaf for leaf, move in zip(leaves, moving, strict=True)]
        return jax.tree.unflatten(structure, merged)

    return [jnp.asarray(leaf) for leaf, move in zip(leaves, moving, strict=True) if move], merge


def checked_queries(queries: Any, params: Pytree, name: str) -> int:
    """Require queries that give `[Q]` numbers which depend on the params; the number of them. Nothing is computed."""
    check.function(queries, name, "queries", "(params) -> scores [Q]")
    shapes, single, depends = kept(queries, "_asked", ByShape)(lambda _: _asked(queries, params), params)
    if not single or len(shapes[0]) != 1 or not shapes[0][0]:
        raise ValueError(
            f"{name}: `queries` returns arrays of the shapes {shapes}; it has to return one number a query, (Q,)."
        )
    if not depends:
        raise ValueError(
            f"{name}: `queries` does not depend on the params it is called with, so that no training example changes "
            "it. Write it as a function of its argument: query_scores(apply, data), or lambda params: apply(params, x)."
        )
    if isinstance(queries, Queries):
        labels_inside(queries.model, params, queries.inputs, queries.targets, queries.criterion, name)
    return shapes[0][0]


def _asked(queries: Any, params: Pytree) -> tuple[list[tuple[int, ...]], bool, bool]:
    """The shapes of what queries return, whether it is one array, and whether it depends on the params."""
    floating, merge = split_floating(params)
    program, structure = trace(lambda values: queries(merge(values)), floating)
    known = dependent(program, set(program.jaxpr.invars))
    depends = any(not is_literal(atom) and atom in known for atom in program.outputs)
    return [shape_of(atom) for atom in program.outputs], jax.tree_util.treedef_is_leaf(structure), depends


def labels_inside(model: Any, params: Pytree, inputs: Any, targets: Any, criterion: Any, name: str) -> None:
    """Require labels of criteria that take them (`cross_entropy`, `log_odds`) to lie inside the model's outputs."""
    known = getattr(criterion, "value", None) in (cross_entropy, log_odds)
    if not known or not check.is_concrete(targets) or check.is_floating(targets):
        return
    outputs = _outputs.eval_shape(model, params, inputs)
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        check.label_range(np.asarray(targets), outputs.shape[1], name)


@jax.jit
def _outputs(model: Any, params: Pytree, inputs: tuple[Any, ...]) -> Any:
    return model(params, *inputs)


def better_when_higher(queries: Any) -> bool:
    """Whether a higher score is better, as the queries say; a plain function's is."""
    return bool(getattr(queries, "higher_is_better", True))


def differentiate_queries(queries: Any, params: Pytree) -> tuple[Array, Callable[[Array], Pytree]]:
    """Scores `[Q]`, and what pulls a row `[Q]` back to the floating-point leaves of the params."""
    floating, merge = split_floating(params)
    scores, pull = jax.vjp(lambda values: queries(merge(values)), floating)
    return scores, lambda row: pull(row.astype(scores.dtype))[0]


def masks_of(weights: Any, count: int, name: str, argument: str) -> Array:
    """Require rows of finite weights for `count` examples, none of them without any."""
    check.arrays(weights, name, argument)
    weights = jnp.asarray(weights)
    if weights.ndim != 2 or weights.shape[1] != count or not len(weights):
        raise ValueError(
            f"{name}: `{argument}` has shape {weights.shape}, but there are {count} training examples; pass one row "
            f"for each training, shape (M, {count})."
        )
    check.finite(weights, name, argument)
    if check.is_concrete(weights):
        empty = np.flatnonzero(~np.asarray(weights != 0).any(axis=1))
        if empty.size:
            raise ValueError(
                f"{name}: row {empty[0]} of `{argument}` leaves no example to train on ({empty.size} such rows). Keep "
                "at least one."
            )
    return weights.astype(jnp.result_type(float)) if not check.is_floating(weights) else weights
