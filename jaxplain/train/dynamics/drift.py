"""How far explanations are from those of the end, at every snapshot."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.evaluate import spearman
from jaxplain.program import public
from jaxplain.types import Array, Arrays


@public
def explanation_drift(attributions: Arrays) -> Array:
    """Compare the explanations of one example over training with the last one, by rank.

    drift[s] = Spearman(a_s, a_S) over all values of an explanation, signed; 1 is the order of the end.

    Args:
        attributions: Of one example `[S, ...]`, a row for each checkpoint, as `explain_over(method, snapshots)(x)`
            gives them; a pytree's leaves are ranked together. Of a batch `[B, S, ...]` take `jax.vmap`.

    Returns:
        `[S]`, correlations in [-1, 1], the last one 1; NaN where an explanation is constant, as zero is. Cost: S
        sorts.

    Raises:
        TypeError: Complex explanations, or none.
        ValueError: Fewer than two checkpoints, explanations of one value, a constant last one (NaN where it is
            traced), leaves of several lengths, NaN.

    Example:
        >>> import jax.numpy as jnp
        >>> explanation_drift(jnp.array([[1.0, 2.0, 3.0], [2.0, 1.0, 3.0], [3.0, 2.0, 1.0]])).tolist()
        [-1.0, -0.5, 1.0]

    Source: the measure of Spearman 1904; over training here.
    """
    name = "explanation_drift"
    count = check.batch_length(attributions, name, "attributions")
    check.real_leaves(attributions, name, "attributions")
    check.finite(attributions, name, "attributions")
    rows = jnp.concatenate([jnp.reshape(leaf, (count, -1)) for leaf in _leaves(attributions)], axis=1)
    if count < 2 or rows.shape[1] < 2:
        raise ValueError(
            f"{name}: `attributions` has {count} checkpoints of {rows.shape[1]} values; ranks need two of each. Pass "
            "[S, ...], of a batch by jax.vmap(explanation_drift)(attributions)."
        )
    if check.is_concrete(rows) and bool(jnp.all(rows[-1] == rows[-1, 0])):
        raise ValueError(
            f"{name}: the last of the `attributions` is constant, so that its values have no ranks to compare with."
        )
    return _with_last(rows)


@jax.jit
def _with_last(rows: Array) -> Array:
    return jax.lax.map(lambda row: spearman(row, rows[-1]), rows)


def _leaves(tree: Any) -> list[Array]:
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    common = jnp.result_type(jnp.float32, *leaves)
    return [leaf.astype(common) for leaf in leaves]
