"""Training sets that do not fit at once: block by block, of which only the top examples are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from jaxplain import check
from jaxplain.influence.result import Influence, Top, top_examples
from jaxplain.program import public


@public
def top_over_blocks(method: Callable[..., Any], blocks: Iterable[Any], k: int = 5) -> Top:
    """Pick the k most helpful and harmful of all training examples, attributed one block at a time.

    Args:
        method: `method(block) -> Influence` of the examples of a block, whose values do not rest on the other blocks:
            `lambda block: gradient_similarity(apply, params, block, queries)`, `tracin`, or an influence function whose
            curvature is fixed.
        blocks: Blocks of training examples, such as `jaxplain.data.batches`; the examples are numbered through them.
        k: How many of each kind.

    Returns:
        `Top`, each `[Q, k]`. Cost: that of the method; memory for the values of one block.

    Raises:
        ValueError: No block; blocks for other queries.
        TypeError: A method that returns something else.

    Example:
        >>> import jax.numpy as jnp
        >>> def method(block):
        ...     return Influence(block[None], None, "score", True, "by hand", {})
        >>> top_over_blocks(method, [jnp.array([1.0, -1.0]), jnp.array([3.0])], k=1).helpful.tolist()
        [[2]]
    """
    check.count(k, "top_over_blocks", "k")
    first, best = 0, None
    for block in blocks:
        found = check.function(method, "top_over_blocks", "method", "(block) -> Influence")(block)
        if not isinstance(found, Influence):
            raise TypeError(f"top_over_blocks: `method` returned {check.short(found)}; not an `Influence`.")
        own = top_examples(found, min(k, found.values.shape[1]))
        own = Top(*(np.where(a >= 0, a + first, -1) if i % 2 == 0 else a for i, a in enumerate(own)))
        first += found.values.shape[1]
        best = own if best is None else _merged(best, own, k)
    if best is None:
        raise ValueError("top_over_blocks: `blocks` gave no block.")
    return best


def _merged(one: Top, other: Top, k: int) -> Top:
    """The best of two, ties to the first."""
    if len(one.helpful) != len(other.helpful):
        raise ValueError(f"top_over_blocks: blocks for {len(one.helpful)} and for {len(other.helpful)} queries.")
    parts = []
    for place in (0, 2):
        index, values = (np.concatenate([one[place + i], other[place + i]], axis=1) for i in (0, 1))
        order = np.argsort(-np.abs(values), axis=1, kind="stable")[:, :k]
        parts += [np.take_along_axis(index, order, 1), np.take_along_axis(values, order, 1)]
    return Top(*parts)
