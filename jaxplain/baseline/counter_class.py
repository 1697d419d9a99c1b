"""The nearest example of another class as a baseline: what the input would have to be like."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import Function, as_function, is_array, public, wide_dtype
from jaxplain.types import Array, ArrayLike, Arrays, Pytree

_CANDIDATES = 8
"""How many rows are compared exactly, of those that a fast and less exact distance says are nearest."""


class NearestCounterClass(Function):
    """The nearest row of another class. Made by `nearest_counter_class`."""

    data: Any
    labels: Any
    label: Any

    def __call__(self, x: Pytree) -> Pytree:
        """The row, of x's structure."""
        label = check.answered(self.label(x), "nearest_counter_class", "label") if callable(self.label) else self.label
        label = jnp.asarray(label)
        if label.shape != () or not jnp.issubdtype(label.dtype, jnp.integer):
            raise ValueError(
                f"nearest_counter_class: `label` has to be (or return) one integer, not {check.describe(label)}."
            )
        pairs = list(zip(jax.tree.leaves(self.data), jax.tree.leaves(x), strict=True))
        pairs = [(jnp.asarray(rows), jnp.asarray(leaf)) for rows, leaf in pairs if check.is_floating(leaf)]
        other = jnp.asarray(self.labels) != label
        # |row|^2 - 2 row x needs one product of the data with x, and no array of all differences.
        rough = sum(_rough(rows, leaf) for rows, leaf in pairs)
        count = min(_CANDIDATES, other.shape[0])
        _, nearest = jax.lax.top_k(-jnp.where(other, rough, jnp.inf), count)
        exact = sum(_squares(rows[nearest], leaf) for rows, leaf in pairs)
        best = nearest[jnp.argmin(jnp.where(other[nearest], exact, jnp.inf))]
        found = jax.tree.map(lambda rows: jnp.asarray(rows)[best], self.data)
        missing = jnp.logical_not(other.any())  # a traced label may leave no other class: then there is no answer
        return jax.tree.map(lambda row: jnp.where(missing, jnp.nan, row) if check.is_floating(row) else row, found)


def _wide(leaf: Any) -> Array:
    return leaf.astype(wide_dtype(leaf.dtype))


def _squares(rows: Array, leaf: Array) -> Array:
    return jnp.square(_wide(rows) - _wide(leaf)[None]).reshape(rows.shape[0], -1).sum(axis=1)


def _rough(rows: Array, leaf: Array) -> Array:
    flat = _wide(rows).reshape(rows.shape[0], -1)
    centre = flat.mean(axis=0)
    flat, point = flat - centre[None], _wide(leaf).reshape(-1) - centre
    return jnp.square(flat).sum(1) - 2 * jnp.dot(flat, point, precision=jax.lax.Precision.HIGHEST)


@public
def nearest_counter_class(data: Arrays, labels: ArrayLike, label: Any) -> NearestCounterClass:
    """The row of a data set nearest to x that is of another class than x: the contrast that an attribution is read by.

    b = argmin over rows d_n with labels_n != label of sum_i (x_i - d_n,i)^2, over all floating-point leaves.

    Args:
        data: An array or pytree of x's structure with a leading axis N: `[N, ...]`.
        labels: The rows' classes, integers `[N]`: the true ones, or those the model predicts.
        label: The class of x: a function of x that returns an integer (the model's prediction), or an integer, which
            may be traced: `vmap(lambda x, y: integrated_gradients(f, baseline=nearest_counter_class(d, t, y))(x, y))`.

    Returns:
        `b(x) -> baseline`, a row of the data. NaN where a traced label leaves no row of another class.
        Cost: N times the input's size multiplications, and a call of `label`.

    Raises:
        ValueError: No rows, labels that do not fit, no row of another class, NaN and infinities in concrete data.
        TypeError: Labels that are no integers.

    Example:
        >>> b = nearest_counter_class(jnp.array([[0.0], [1.0], [5.0]]), jnp.array([0, 1, 1]), label=0)
        >>> b(jnp.array([0.2])).tolist()
        [1.0]

    Source: Wachter, Mittelstadt and Russell 2018, "Counterfactual explanations without opening the black box", section
    III (nearest possible worlds), restricted to observed ones.
    """
    name = "nearest_counter_class"
    rows = check.batch_length(data, name, "data")
    check.finite(data, name, "data")
    labels = labels if is_array(labels) else np.asarray(labels)
    if not jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        raise TypeError(f"{name}: `labels` has dtype {jnp.result_type(labels)}; it has to hold integers.")
    if jnp.shape(labels) != (rows,):
        raise ValueError(f"{name}: `labels` has shape {jnp.shape(labels)}, but `data` has {rows} rows.")
    if not callable(label) and not (isinstance(label, int) or (is_array(label) and jnp.shape(label) == ())):
        raise TypeError(f"{name}: `label` has to be a function of x or one integer, not {check.short(label)}.")
    function = as_function(label) if callable(label) and not is_array(label) else label
    if check.is_concrete(labels):
        classes = np.unique(np.asarray(labels))
        alone = not callable(function) and check.is_concrete(function) and bool((classes == np.asarray(function)).all())
        if classes.size < 2 and (callable(function) or alone):
            raise ValueError(f"{name}: all rows are of class {classes[0]}, so there is no other class to look in.")
    return NearestCounterClass(data, jnp.asarray(labels), function)
