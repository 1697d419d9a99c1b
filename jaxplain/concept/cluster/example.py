"""Examples that stand for a set, those that do not, and the nearest ones that are answered otherwise."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.concept.distance import median_distance, safe_shift, squared_distances
from jaxplain.program import public, shown
from jaxplain.types import Array, ArrayLike


@shown
class Prototypes(NamedTuple):
    """What stands for a set of examples and what does not. Made by `prototypes`.

    prototypes: `[k]`, indices in the order they were chosen; discrepancy: `[k]`, squared maximum mean discrepancy
    between the set and the first 1, 2, ... of them; criticisms: `[c]`, indices; witness: `[N]`, mean similarity of each
    example to the set less that to the prototypes: positive where they say too little of it.
    """

    prototypes: Array
    discrepancy: Array
    criticisms: Array
    witness: Array


@shown
class Counterfactuals(NamedTuple):
    """The nearest examples of other classes. Made by `counterfactual_examples`.

    indices: `[Q, k]`, nearest first, -1 where there are fewer; distance: `[Q, k]`; label: `[Q, k]`, -1 likewise.
    """

    indices: Array
    distance: Array
    label: Array


@public
def prototypes(
    features: ArrayLike, *, k: int = 5, criticisms: int = 5, sigma: float | None = None, penalty: float = 1.0
) -> Prototypes:
    """Choose examples that stand for a set, and examples that those say too little of (MMD-critic).

    With k(a, b) = exp(-|a - b|^2 / (2 sigma^2)), prototypes S are chosen one after the other to lower MMD^2 = mean k(x,
    x') - 2 mean k(x, s) + mean k(s, s') most, which is within 1 - 1/e of the best set. Criticisms are then chosen one
    after the other to raise sum |witness| + penalty log det K most, K the kernel among them, which keeps them apart.

    Args:
        features: `[N, ...]`: inputs, what a layer makes of them, or attributions.
        k: How many prototypes.
        criticisms: How many criticisms; 0 for none.
        sigma: Width of the kernel, in units of the features; None: the median distance.
        penalty: Weight of the log determinant; 0 takes the largest witnesses.

    Returns:
        `Prototypes`. Cost: N^2 D operations and N^2 memory, k N and c N c^2 more.

    Raises:
        ValueError: NaN, equal examples, more of either kind than there are examples.
        TypeError: No array.

    Example:
        >>> import numpy as np
        >>> line = np.array([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2], [9.0]])
        >>> found = prototypes(line, k=2, criticisms=1, sigma=1.0)
        >>> sorted(found.prototypes.tolist()), found.criticisms.tolist()
        ([1, 4], [6])

    Source: Kim, Khanna and Koyejo 2016, "Examples are not enough, learn to criticize!", algorithms 1 and 2.
    """
    rows = features_of(features, "prototypes")
    count = len(rows)
    check.count(k, "prototypes", "k")
    check.count(criticisms, "prototypes", "criticisms", 0)
    check.one_number(penalty, "prototypes", "penalty", zero=True)
    if k + criticisms > count:
        raise ValueError(
            f"prototypes: {k} prototypes and {criticisms} criticisms are asked for, but there are {count} examples."
        )
    if sigma is not None:
        check.one_number(sigma, "prototypes", "sigma")
    if bool((rows == rows[:1]).all()):
        raise ValueError(f"prototypes: all {count} examples are equal; nothing stands for more of them than another.")
    return Prototypes(*_choose(rows, 0.0 if sigma is None else sigma, float(penalty), sigma is None, k, criticisms))


@functools.partial(jax.jit, static_argnames=("median", "k", "criticisms"))
def _choose(
    rows: Array, sigma: Any, penalty: Any, median: bool, k: int, criticisms: int
) -> tuple[Array, Array, Array, Array]:
    count, shift = len(rows), safe_shift(rows)
    rows, sigma = jnp.ldexp(rows, shift), jnp.ldexp(jnp.asarray(sigma, rows.dtype), shift)
    apart = squared_distances(rows, rows)
    width = median_distance(apart[jnp.triu_indices(count, 1)]) if median else sigma
    alike = jnp.exp(-apart / (2 * width**2))
    alike = jnp.fill_diagonal(alike, 1.0, inplace=False)
    mean = alike.mean(1)

    def add(state: tuple[Array, Array], size: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        chosen, inner = state  # inner[i]: sum of k(i, s) over the chosen; with i, the sum of all grows by 2 inner + 1
        total = jnp.sum(jnp.where(chosen, inner, 0))
        linear = jnp.sum(jnp.where(chosen, mean, 0))
        loss = -2 * (linear + mean) / size + (total + 2 * inner + 1) / size**2
        best = jnp.argmin(jnp.where(chosen, jnp.inf, loss))
        return (chosen.at[best].set(True), inner + alike[best]), (best, loss[best] + mean.mean())

    none = jnp.zeros(count, bool)
    (taken, inner), (index, discrepancy) = jax.lax.scan(
        add, (none, jnp.zeros(count, rows.dtype)), jnp.arange(1, k + 1).astype(rows.dtype)
    )
    witness = mean - inner / k
    if not criticisms:
        return index, discrepancy, jnp.zeros(0, index.dtype), witness

    def critic(state: tuple[Array, Array, Array], place: Array) -> tuple[tuple[Array, Array, Array], Array]:
        used, factor, rest = state  # rest[i]: variance of i given the chosen, by which the determinant grows
        gain = jnp.abs(witness) + penalty * jnp.log(jnp.maximum(rest, jnp.finfo(rows.dtype).eps))
        best = jnp.argmax(jnp.where(used | taken, -jnp.inf, gain))
        scale = jnp.sqrt(jnp.maximum(rest[best], jnp.finfo(rows.dtype).eps))
        column = (alike[best] - factor @ factor[best]) / scale
        return (used.at[best].set(True), factor.at[:, place].set(column), rest - column**2), best

    state = none, jnp.zeros((count, criticisms), rows.dtype), jnp.ones(count, rows.dtype)
    return index, discrepancy, jax.lax.scan(critic, state, jnp.arange(criticisms))[1], witness


@public
def counterfactual_examples(
    features: ArrayLike,
    labels: ArrayLike,
    query_features: ArrayLike,
    query_labels: ArrayLike,
    *,
    k: int = 1,
    target: int | None = None,
    batch_size: int = 64,
) -> Counterfactuals:
    """Retrieve the nearest examples of another class: real counterfactuals, of which none is made up.

    Args:
        features: `[N, ...]`: inputs, or what a layer makes of them.
        labels: Whole numbers `[N]`: classes, or the model's answers.
        query_features: `[Q, ...]`, in the same form.
        query_labels: Whole numbers `[Q]`.
        k: How many for each query.
        target: The class to look in; None: any but the query's.
        batch_size: Queries at once.

    Returns:
        `Counterfactuals`, by Euclidean distance, ties by index. Cost: Q N D operations.

    Raises:
        ValueError: Shapes that do not fit, NaN, no example of another class.
        TypeError: Labels that are no whole numbers.

    Example:
        >>> import numpy as np
        >>> found = counterfactual_examples(np.array([[0.0], [1.0], [3.0]]), [0, 1, 1], np.array([[0.2]]), [0])
        >>> found.indices.tolist(), found.label.tolist()
        ([[1]], [[1]])

    Source: Keane and Smyth 2020, "Good counterfactuals and where to find them", section 2 (nearest unlike neighbours).
    """
    name = "counterfactual_examples"
    rows, asked = features_of(features, name), features_of(query_features, name, "query_features")
    if rows.shape[1:] != asked.shape[1:]:
        raise ValueError(f"{name}: `features` have {rows.shape[1]} values each, `query_features` {asked.shape[1]}.")
    own, other = (classes_of(v, len(r), name, a) for v, r, a in
                  ((labels, rows, "labels"), (query_labels, asked, "query_labels")))  # fmt: skip
    check.count(batch_size, name, "batch_size")
    if check.count(k, name, "k") > len(rows):
        raise ValueError(f"{name}: `k` is {k}, but there are {len(rows)} examples.")
    if target is not None:
        check.count(target, name, "target", 0)
    unlike = (own[None] != other[:, None]) & ((own == target)[None] if target is not None else True)
    lacking = np.flatnonzero(~unlike.any(axis=1))
    if lacking.size:
        where = "of another class" if target is None else f"of class {target} that is not its own"
        raise ValueError(f"{name}: for {lacking.size} queries (the first is {lacking[0]}) there is no example {where}.")
    wanted = -1 if target is None else target
    index, distance = _retrieve(
        rows, jnp.asarray(own), asked, jnp.asarray(other), wanted, k, min(batch_size, len(asked))
    )
    return Counterfactuals(index, distance, jnp.where(index < 0, -1, jnp.asarray(own)[index]))


@functools.partial(jax.jit, static_argnames=("k", "batch_size"))
def _retrieve(
    rows: Array, own: Array, asked: Array, other: Array, target: Any, k: int, batch_size: int
) -> tuple[Array, Array]:
    shift = safe_shift(rows, asked)
    rows, asked = jnp.ldexp(rows, shift), jnp.ldexp(asked, shift)

    def one(item: tuple[Array, Array]) -> tuple[Array, Array]:
        probe, label = item
        unlike = (own != label) & ((target < 0) | (own == target))
        apart = jnp.where(unlike, jnp.sum((rows - probe[None]) ** 2, axis=1), jnp.inf)
        found, index = jax.lax.top_k(-apart, k)
        there = jnp.isfinite(found)
        return jnp.where(there, index, -1), jnp.where(there, jnp.ldexp(jnp.sqrt(-found), -shift), jnp.inf)

    return jax.lax.map(one, (asked, other), batch_size=batch_size)


def features_of(features: Any, name: str, argument: str = "features") -> Array:
    """Require finite real rows `[N, ...]`, flattened, in a floating-point type."""
    features = np.asarray(features) if isinstance(features, list | tuple) else features
    check.arrays(features, name, argument)
    check.real_leaves(features, name, argument)
    try:
        values = jnp.asarray(features)
    except TypeError as error:
        raise TypeError(f"{name}: `{argument}` is {check.short(features)}; pass an array [N, ...].") from error
    if values.ndim < 2:
        raise ValueError(f"{name}: `{argument}` has shape {values.shape}; it has to be [N, ...], one row an example.")
    check.finite(values, name, argument)
    values = values.reshape(len(values), -1)
    return values if check.is_floating(values) and values.dtype.itemsize >= 4 else values.astype(jnp.float32)


def classes_of(labels: Any, count: int, name: str, argument: str) -> np.ndarray:
    """Require a whole number for each example."""
    labels = np.asarray(labels) if isinstance(labels, list | tuple) else labels
    check.arrays(labels, name, argument)
    if not all(check.is_concrete(leaf) for leaf in jax.tree.leaves(labels)):
        raise TypeError(f"{name}: `{argument}` is being traced; which examples are of which class has to be known.")
    values = np.asarray(labels)
    if values.dtype.kind not in "iu":
        raise TypeError(f"{name}: `{argument}` has dtype {values.dtype}; pass whole numbers.")
    if values.shape != (count,):
        raise ValueError(f"{name}: `{argument}` has shape {values.shape}, but there are {count} rows.")
    return values
