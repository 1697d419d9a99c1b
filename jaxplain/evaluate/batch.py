"""Evaluate a batch: one compiled program for each metric, structure and shape, whatever the parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.program import as_function, check_calls, is_hosted, needs_key, public, with_own_errors, with_points
from jaxplain.program.fast import fast_layout
from jaxplain.program.trace import Compiled
from jaxplain.types import Array, Arrays


@public
def evaluate_batch(
    m: Any,
    x: Arrays,
    attribution: Arrays | None = None,
    *args: Any,
    key: Array | None = None,
    mask: Any = None,
    index: Any = None,
) -> Any:
    """Evaluate a metric on every example of a batch in one compiled call, jitted with the metric itself as an argument.

    The metric says what it takes: `m(x, a, *args)`, `m(key, x, *args)`, `m(a, mask)`, `m(a)`; the rest is ignored, so
    that one call serves all families. An example's value depends neither on the batch it is in nor on the batch's size.

    Args:
        m: A metric for one example, or one over a dataset (`consistency`), which is called on the whole batch with the
            first of `args` as the predictions.
        x: The inputs, `[B, ...]` on every leaf.
        attribution: `[B, ...]`; None for metrics that make explanations themselves.
        *args: Further arguments of the scores, with a leading axis B, or numbers that all examples share.
        key: A threefry key, needed where the metric is random: example i draws from `fold_in(key, index[i])`; a metric
            that randomizes parameters gives all examples the key itself.
        mask: `[B, ...]`, for the metrics of localization.
        index: Global indices of the examples, integers `[B]` from 0 to 2^32 - 1; None counts from 0.

    Returns:
        What the metric returns, with a leading axis B. NaN marks examples for which it is undefined.

    Raises:
        ValueError: An empty batch, lengths that differ, NaN or infinities in the inputs, targets outside the outputs,
            a missing key, mask or attribution.
        TypeError: A metric that is no function, a key that is no threefry key.

    Example:
        >>> from jaxplain.evaluate.faithfulness.deletion import deletion
        >>> x = jnp.array([[1.0, 3.0], [5.0, 1.0]])
        >>> evaluate_batch(deletion(lambda x: x.sum()), x, x).tolist()
        [1.5, 2.0]
    """
    name = "evaluate_batch"
    check.function(m, name, "m", "m(x, attribution, *args)")
    function = as_function(m)
    title = getattr(function, "name", type(function).__name__)
    size = check.batch_length(x, name)
    check.finite(x, name)
    args = tuple(
        batched(value, size, name, f"argument {place + 1} after the `attribution`") for place, value in enumerate(args)
    )
    given: list[Any] = []
    if getattr(function, "needs_input", True):
        given.append(x)
    if getattr(function, "needs_attribution", True):
        given.append(batched(_present(attribution, name, title, "an attribution"), size, name, "the attribution"))
    if getattr(function, "needs_mask", False):
        given.append(batched(_present(mask, name, title, "a mask (`mask=`)"), size, name, "the mask"))
    elif getattr(function, "needs_input", True):
        check_calls(function, x, args)
        given.extend(args)
    if getattr(function, "over_dataset", False):
        return _whole(function, tuple(given[:3]))
    shared = bool(getattr(function, "shared_key", False))
    keys = _keys(function, title, key, index, size, shared)
    return evaluate_rows(function, keys, tuple(given), shared=shared)


def evaluate_rows(m: Any, keys: Array | None, given: tuple[Any, ...], *, shared: bool = False) -> Any:
    """The metric (or explanation) of every row, with as many points at once as fill the device; one compiled call."""
    rows = _evaluate_shared if shared else _evaluate
    m = with_points(m, lambda m, given, keys: rows.lower(m, keys, given), given, keys)
    return with_own_errors(lambda: rows(m, keys, given)) if is_hosted(m) else rows(m, keys, given)


def _present(value: Any, name: str, title: str, what: str) -> Any:
    if value is None:
        raise ValueError(f"{name}: {title} needs {what}.")
    return value


def batched(value: Any, size: int, name: str, what: str) -> Any:
    """Repeat numbers for all examples; require the batch's length of everything else."""

    if check.odd_leaf(value) is not None:
        raise TypeError(
            f"{name}: {what} is {check.short(value)}. Pass an array of numbers; labels that are texts have to be "
            "numbered first."
        )

    check.fitting(value, name, what.replace("`", ""))

    def leaf(array: Any) -> Any:
        if jnp.ndim(array) == 0:
            return jnp.broadcast_to(jnp.asarray(array), (size,))
        if jnp.shape(array)[0] != size:
            raise ValueError(f"{name}: {what} has shape {jnp.shape(array)}, but the batch has {size} examples.")
        return array

    return jax.tree.map(leaf, value)


def _keys(m: Any, title: str, key: Array | None, index: Any, size: int, shared: bool) -> Array | None:
    """The examples' keys, the key itself where all share it, or None where the metric draws nothing."""
    if not needs_key(m):
        return None
    if key is None:
        raise ValueError(
            f"evaluate_batch: {title} is random and needs a key: evaluate_batch(m, ..., key=jax.random.key(0))."
        )
    check.threefry(key, "evaluate_batch")
    if shared:
        return key
    return example_keys(key, check.indices(index, size, "evaluate_batch"))


@jax.jit
def example_keys(key: Array, index: Array) -> Array:
    """The key of each example, folded from its global index."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)


def _mapped(m: Any, keys: Array | None, given: tuple[Any, ...]) -> Any:
    """The metric of every example, in the layout that the backend is fast at."""
    inputs = given if keys is None else (keys, *given)
    return fast_layout(lambda *inputs: jax.vmap(lambda *one: m(*one))(*inputs))(*inputs)


def _mapped_shared(m: Any, key: Array, given: tuple[Any, ...]) -> Any:
    """The metric of every example with one key for all."""
    return fast_layout(lambda key, *inputs: jax.vmap(lambda *one: m(key, *one))(*inputs))(key, *given)


_evaluate, _evaluate_shared = Compiled(_mapped), Compiled(_mapped_shared)


@jax.jit
def _whole(m: Any, given: tuple[Any, ...]) -> Any:
    return m(*given)
