"""Global surrogates: a small model in place of a network, with how faithful it is to it."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.concept.dictionary import Dictionary
from jaxplain.concept.distance import safe_shift
from jaxplain.program import Function, public, setting
from jaxplain.types import Array, ArrayLike


class Fidelity(NamedTuple):
    """How a surrogate agrees with the network on examples that it was not made of.

    explained: `[K]`, the share of the variance of each output that it explains (at most 1, below 0 where it is worse
        than the mean; NaN where an output does not vary). agreement: the share of examples with the same largest
        output; NaN where there is one output. share: the largest class's part of the examples, which agreement is
        to be compared with.
    """

    explained: Array
    agreement: Array
    share: Array

    def __repr__(self) -> str:
        parts = ", ".join(f"{float(value):.3g}" for value in self.explained)
        several = f", agrees on {float(self.agreement):.1%} (largest class {float(self.share):.1%})"
        return f"explains {parts} of each output's variance" + (several if len(self.explained) > 1 else "")


def _said(fidelity: Any) -> str:
    known = isinstance(fidelity, Fidelity) and all(check.is_concrete(leaf) for leaf in fidelity)
    return repr(fidelity) if known else "fidelity not known"


class LinearSurrogate(Function):
    """Outputs as a sum over features, `surrogate(x [..., D]) -> [..., K]`.

    weights: `[D, K]`, in units of the output for one unit of the feature; intercept: `[K]`; fidelity: on held-out
    examples.
    """

    weights: Any
    intercept: Any
    fidelity: Any

    def __repr__(self) -> str:
        used = int((abs(self.weights) > 0).any(axis=1).sum()) if check.is_concrete(self.weights) else "?"
        return f"LinearSurrogate({used} of {len(self.weights)} features; {_said(self.fidelity)})"

    def __call__(self, x: Array) -> Array:
        """The outputs, `[..., K]`."""
        total = jnp.asarray(x) @ self.weights
        return total + jnp.broadcast_to(self.intercept, total.shape)

    def contributions(self, x: Array) -> Array:
        """What each feature adds to each output, against a feature of 0, `[..., D, K]`."""
        return jnp.asarray(x)[..., None] * jnp.broadcast_to(self.weights, (*jnp.shape(x), self.weights.shape[1]))


class TreeSurrogate(Function):
    """Outputs by a decision tree, `surrogate(x [..., D]) -> [..., K]`.

    feature: `[nodes]`, which feature a node asks for, -1 at a leaf; threshold: `left` follows where the feature is at
    most that, else `right`; values: `[nodes, K]`; fidelity: on held-out examples.
    """

    feature: Any
    threshold: Any
    left: Any
    right: Any
    values: Any
    fidelity: Any
    depth: int = setting()

    def __repr__(self) -> str:
        return f"TreeSurrogate({len(self.feature)} nodes, depth {self.depth}; {_said(self.fidelity)})"

    def __call__(self, x: Array) -> Array:
        """The outputs, `[..., K]`."""
        rows = jnp.asarray(x).reshape(-1, jnp.shape(x)[-1])

        def down(node: Array, _: None) -> tuple[Array, None]:
            asked = jnp.take_along_axis(rows, jnp.maximum(self.feature[node], 0)[:, None], axis=1)[:, 0]
            child = jnp.where(asked <= self.threshold[node], self.left[node], self.right[node])
            return jnp.where(self.feature[node] < 0, node, child), None

        node, _ = jax.lax.scan(down, jnp.zeros(rows.shape[0], jnp.int32), None, length=self.depth)
        return jnp.asarray(self.values)[node].reshape(*jnp.shape(x)[:-1], -1)

    def text(self, names: Sequence[str] | None = None) -> str:
        """The rules, a line for each node, indented by depth; `names` of the features."""
        lines: list[str] = []

        def write(node: int, indent: int) -> None:
            feature = int(self.feature[node])
            pad = "  " * indent
            if feature < 0:
                lines.append(pad + "[" + ", ".join(f"{float(v):.4g}" for v in self.values[node]) + "]")
                return
            label = f"feature {feature}" if names is None else names[feature]
            lines.append(f"{pad}{label} <= {float(self.threshold[node]):.4g}")
            write(int(self.left[node]), indent + 1)
            lines.append(f"{pad}{label} > {float(self.threshold[node]):.4g}")
            write(int(self.right[node]), indent + 1)

        write(0, 0)
        return "\n".join(lines)


@public
def tree_surrogate(
    outputs: Callable[..., Any],
    x: ArrayLike,
    *,
    key: Array,
    depth: int = 4,
    least: int = 5,
    fraction: float = 0.25,
    batch_size: int = 256,
) -> TreeSurrogate:
    """Distil a network into a decision tree that predicts its outputs.

    Args:
        outputs: The network, `outputs(x [B, D]) -> [B, K]` or `[B]`: logits or probabilities.
        x: Examples `[N, D]`: features of a table, or scores of concepts.
        key: PRNG key of which examples are held out.
        depth: Most questions in a row.
        least: Fewest examples in a leaf.
        fraction: The share of the examples that is held out, for the fidelity.
        batch_size: Examples at once.

    Returns:
        `TreeSurrogate`, with its fidelity on the held-out examples. Cost: a forward pass over the examples, and a tree
        by scikit-learn on the host.

    Raises:
        ImportError: scikit-learn is not installed (the extra 'examples').
        ValueError: Examples that are no `[N, D]`, too few of them, outputs of another shape, NaN.

    Source: Craven and Shavlik 1995, "Extracting tree-structured representations of trained networks"; Bastani et al.
    2017, "Interpreting blackbox models via model extraction".
    """
    name = "tree_surrogate"
    depth, least = check.count(depth, name, "depth"), check.count(least, name, "least")
    rows, found, held = _distilled(outputs, x, key, fraction, batch_size, name)
    try:
        trees = importlib.import_module("sklearn.tree")
    except ImportError as error:
        raise ImportError(
            f"{name}: needs scikit-learn; install it with `pip install jaxplain[examples]`, or use `sparse_surrogate`."
        ) from error
    fitted = trees.DecisionTreeRegressor(max_depth=depth, min_samples_leaf=least, random_state=0)
    fitted.fit(np.asarray(rows[~held]), np.asarray(found[~held], np.float64))
    tree = fitted.tree_
    below = np.where(tree.children_left < 0, 0, tree.children_left), np.where(tree.feature < 0, 0, tree.children_right)
    feature = jnp.asarray(np.where(tree.children_left < 0, -1, tree.feature), jnp.int32)
    values = jnp.asarray(tree.value[:, :, 0], found.dtype)
    # float32 features are compared with float64 thresholds there: the largest float32 below one decides the same
    threshold = np.asarray(tree.threshold, np.float32)
    threshold = np.where(threshold > tree.threshold, np.nextafter(threshold, np.float32(-np.inf)), threshold)
    left, right = (jnp.asarray(child, jnp.int32) for child in below)
    made = TreeSurrogate(feature, jnp.asarray(threshold), left, right, values, None, max(1, int(tree.max_depth)))
    return TreeSurrogate(
        feature, made.threshold, left, right, values, _fidelity(made(rows[held]), found[held]), made.depth
    )


@public
def sparse_surrogate(
    outputs: Callable[..., Any],
    x: ArrayLike,
    *,
    key: Array,
    penalty: float = 0.01,
    steps: int = 1000,
    fraction: float = 0.25,
    batch_size: int = 256,
) -> LinearSurrogate:
    """Distil a network into a linear model of few features, by the lasso.

    Minimises sum |y - intercept - z w|^2 / (2 N) + penalty sum |w| for each output, with z the features in units of
    their standard deviations, by coordinate descent; the weights that are returned are in units of the features.

    Args:
        outputs: The network, `outputs(x [B, D]) -> [B, K]` or `[B]`: logits or probabilities.
        x: Examples `[N, D]`: features of a table, or scores of concepts.
        key: PRNG key of which examples are held out.
        penalty: On the sizes of weights, zero or more, in units of the output; larger ones leave fewer features.
        steps: Most sweeps over the features.
        fraction: The share of the examples that is held out, for the fidelity.
        batch_size: Examples at once.

    Returns:
        `LinearSurrogate`, with its fidelity on the held-out examples. Cost: a forward pass over the examples, N D^2
        operations, D^2 K a sweep.

    Raises:
        ValueError: Examples that are no `[N, D]`, too few of them, outputs of another shape, NaN.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x = jax.random.normal(jax.random.key(0), (100, 3))
        >>> found = sparse_surrogate(lambda x: 2 * x[:, 0] - 1, x, key=jax.random.key(1))
        >>> found.weights.round(1)[:, 0].tolist(), found.fidelity.explained.round(2).tolist()
        ([2.0, 0.0, 0.0], [1.0])

    Source: Tibshirani 1996, "Regression shrinkage and selection via the lasso"; Friedman et al. 2010, "Regularization
    paths for generalized linear models via coordinate descent".
    """
    name = "sparse_surrogate"
    check.one_number(penalty, name, "penalty", zero=True)
    check.count(steps, name, "steps")
    rows, found, held = _distilled(outputs, x, key, fraction, batch_size, name)
    mean, size, centre = _scales(rows[~held], found[~held])
    scaled = (rows[~held] - mean[None]) / size[None]
    weights = _lasso(scaled, found[~held] - centre[None], jnp.asarray(penalty, rows.dtype), steps) / size[:, None]
    return _linear(weights, centre - mean @ weights, rows[held], found[held])


@public
def concept_readout(
    dictionary: Dictionary,
    activations: ArrayLike,
    outputs: ArrayLike,
    *,
    key: Array,
    penalty: float = 1e-3,
    fraction: float = 0.25,
) -> LinearSurrogate:
    """Read outputs off the scores of concepts, linearly: how much of the network do the concepts explain?

    Codes are averaged over the places of an example. The read-out is a ridge regression on codes in units of their
    standard deviations, with `penalty` times their number as the ridge.

    Args:
        dictionary: Of M concepts.
        activations: Of the layer, `[N, ..., D]`.
        outputs: Of the network on the same examples, `[N, K]` or `[N]`.
        key: PRNG key of which examples are held out.
        penalty: Of the ridge, zero or more, as a share of the codes' variance.
        fraction: The share of the examples that is held out, for the fidelity.

    Returns:
        `LinearSurrogate` of the codes `[..., M]`: its weights `[M, K]`, and its fidelity on held-out examples, which is
        what the concepts explain. Cost: one encoding, N M^2 operations.

    Raises:
        ValueError: Lengths that do not match, too few examples, activations of another width, NaN.

    Source: Koh et al. 2020, "Concept bottleneck models"; Yuksekgonul et al. 2023, "Post-hoc concept bottleneck models".
    """
    name = "concept_readout"
    check.one_number(penalty, name, "penalty", zero=True)
    h = dictionary.checked(activations, name, "activations")
    if h.ndim < 2:
        raise ValueError(f"{name}: `activations` has shape {h.shape}; pass one row for each example, [N, ..., D].")
    found = _outputs_of(outputs, h.shape[0], name, "outputs")
    codes = dictionary.encode(h)
    codes = jnp.mean(codes, axis=tuple(range(1, codes.ndim - 1))) if codes.ndim > 2 else codes
    codes = codes.astype(jnp.promote_types(codes.dtype, jnp.float32))
    held = _held_out(key, h.shape[0], fraction, name)
    mean, size, centre = _scales(codes[~held], found[~held])
    scaled = (codes[~held] - mean[None]) / size[None]
    gram = scaled.T @ scaled / scaled.shape[0] + (penalty + 1e-7) * jnp.eye(scaled.shape[1], dtype=scaled.dtype)
    products = scaled.T @ (found[~held] - centre[None]) / scaled.shape[0]
    weights = jnp.linalg.solve(gram, products) / size[:, None]
    return _linear(weights, centre - mean @ weights, codes[held], found[held])


def _distilled(
    outputs: Any, x: Any, key: Any, fraction: Any, batch_size: Any, name: str
) -> tuple[Array, Array, np.ndarray]:
    """Examples, the network's outputs of them, and which are held out."""
    check.function(outputs, name, "outputs", "outputs(x [B, D]) -> [B, K]")
    check.arrays(x, name)
    rows = jnp.asarray(x)
    if rows.ndim != 2:
        raise ValueError(
            f"{name}: `x` has shape {rows.shape}; it has to be [N, D], features of a table or scores of concepts: "
            "a surrogate of pixels says nothing."
        )
    check.finite(rows, name)
    size = check.count(batch_size, name, "batch_size")
    held = _held_out(key, rows.shape[0], fraction, name)
    blocks = [jnp.asarray(outputs(rows[start : start + size])) for start in range(0, len(rows), size)]
    found = _outputs_of(jnp.concatenate(blocks), rows.shape[0], name, "outputs(x)")
    rows = rows.astype(jnp.promote_types(rows.dtype, jnp.float32) if check.is_floating(rows) else jnp.float32)
    return rows, found, held


def _outputs_of(outputs: Any, count: int, name: str, argument: str) -> Array:
    check.arrays(outputs, name, argument)
    found = jnp.asarray(outputs)
    found = found[:, None] if found.ndim == 1 else found
    if found.ndim != 2 or found.shape[0] != count:
        raise ValueError(f"{name}: `{argument}` has shape {found.shape}; {(count, 'K')} is needed, a row an example.")
    check.finite(found, name, argument)
    return found.astype(jnp.promote_types(found.dtype, jnp.float32))


def _held_out(key: Any, count: int, fraction: Any, name: str) -> np.ndarray:
    """Which examples are held out: a share of a random order."""
    check.threefry(key, name)
    if not 0 < fraction < 1:
        raise ValueError(f"{name}: `fraction` has to lie between 0 and 1, not {fraction}.")
    size = round(fraction * count)
    if size < 2 or count - size < 2:
        raise ValueError(
            f"{name}: of {count} examples {size} would be held out (`fraction` {fraction}); each side needs two."
        )
    held = np.zeros(count, bool)
    held[np.asarray(jax.random.permutation(key, count))[:size]] = True
    return held


def _scales(rows: Array, outputs: Array) -> tuple[Array, Array, Array]:
    """Mean and standard deviation of features (of one that does not vary infinite, so that it has no weight), and the
    outputs' mean.
    """
    shift = safe_shift(rows)
    size = jnp.ldexp(jnp.std(jnp.ldexp(rows, shift), axis=0), -shift)
    rounding = 8 * jnp.finfo(rows.dtype).eps * jnp.max(jnp.abs(rows), axis=0)
    return jnp.mean(rows, axis=0), jnp.where(size > rounding, size, jnp.inf), jnp.mean(outputs, axis=0)


def _linear(weights: Array, intercept: Array, rows: Array, outputs: Array) -> LinearSurrogate:
    made = LinearSurrogate(weights, intercept, None)
    return LinearSurrogate(weights, intercept, _fidelity(made(rows), outputs))


def _fidelity(said: Array, right: Array) -> Fidelity:
    shift = safe_shift(right)
    said, right = jnp.ldexp(said, shift), jnp.ldexp(right, shift)
    squares = jnp.sum((right - jnp.mean(right, axis=0)[None]) ** 2, axis=0)
    rest = jnp.sum((right - said) ** 2, axis=0)
    rounding = right.shape[0] * (8 * jnp.finfo(right.dtype).eps * jnp.max(jnp.abs(right), axis=0)) ** 2
    varies = squares > rounding
    explained = jnp.where(varies, 1 - rest / jnp.where(varies, squares, 1), jnp.nan)
    if right.shape[1] == 1:
        return Fidelity(explained, jnp.asarray(jnp.nan), jnp.asarray(jnp.nan))
    classes = jnp.argmax(right, axis=1)
    share = jnp.max(jnp.bincount(classes, length=right.shape[1])) / right.shape[0]
    return Fidelity(explained, jnp.mean(jnp.argmax(said, axis=1) == classes), share)


@functools.partial(jax.jit, static_argnames="steps")
def _lasso(z: Array, y: Array, penalty: Array, steps: int) -> Array:
    """Weights `[D, K]` by coordinate descent, all outputs at once."""
    count, width = z.shape
    gram, products = z.T @ z / count, z.T @ y / count
    eps = jnp.finfo(z.dtype).eps

    def one(j: Array, w: Array) -> Array:
        slope = products[j] - gram[j] @ w + gram[j, j] * w[j]
        size = gram[j, j]
        new = (slope - jnp.sign(slope) * penalty) / jnp.where(size > 0, size, 1)
        return w.at[j].set(jnp.where((size > 0) & (jnp.abs(slope) > penalty), new, 0))

    def sweep(state: Any) -> Any:
        w, number, _ = state
        new = jax.lax.fori_loop(0, width, one, w)
        return new, number + 1, jnp.max(jnp.abs(new - w)) <= 4 * eps * jnp.max(jnp.abs(new))

    start = (jnp.zeros((width, y.shape[1]), z.dtype), 0, jnp.zeros((), bool))
    return jax.lax.while_loop(lambda s: (s[1] < steps) & ~s[2], sweep, start)[0]
