"""RISE: the mean of random masks, weighted by the score of the input seen through them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline import Groups, Perturbing, as_baseline, as_groups, features, merged, replaced
from jaxplain.program import as_function, fold_range, public, setting, side_by_side
from jaxplain.types import Array, Pytree


class Rise(Perturbing):
    """Random masks weighted by scores. Made by `rise`."""

    groups: Any = None
    probability: Any = 0.5
    count: int | None = setting(default=None)
    cells: int | tuple[int, ...] = setting(default=7)
    samples: int = setting(default=1000)

    @property
    def needs_key(self) -> bool:
        """Always: the masks are drawn from the key."""
        return True

    def __call__(self, *inputs: Any) -> Pytree:
        """Explain one example, `e(key, x, *args)`: an attribution of x's structure and dtypes."""
        key, x, args = self.take(*inputs)
        absent, moves = self.absent(jax.random.fold_in(key, 1), x)
        parts = None if self.groups is None else features(x, Groups(self.groups, self.count), self.name, moves)
        draws = jax.random.fold_in(key, 0)

        def sample(index: Array) -> tuple[Array, list[Any]]:
            own = jax.random.fold_in(draws, index)
            masks = self._cell_masks(own, x, moves) if parts is None else self._group_masks(own, parts)
            # Features are kept or replaced whole; only cells of floating-point values have edges between.
            seen = _seen(x, absent, masks) if parts is None else replaced(absent, x, [_kept(mask) for mask in masks])
            return self.scored(seen, args), masks

        def fold(carry: tuple[list[Any], Array], index: Array, real: Array) -> tuple[list[Any], Array]:
            sums, finite = carry
            scores, masks = side_by_side(sample, index)
            finite = finite & jnp.isfinite(scores).all()
            weights = jnp.where(real, scores, 0)
            return [
                total if mask is None else total + jnp.tensordot(weights, mask, axes=1)
                for total, mask in zip(sums, masks, strict=True)
            ], finite

        dtype = jax.eval_shape(lambda x: self.scored(x, args), x).dtype
        zeros = [jnp.zeros(jnp.shape(leaf), dtype) for leaf in jax.tree.leaves(x)]
        sums, finite = fold_range(fold, (zeros, jnp.asarray(True)), self.samples, self.batch_size)
        if check.is_concrete(finite) and not bool(finite):
            check.finite_scores(jnp.full((1,), jnp.nan), self.name)
        scale = 1 / (self.samples * self.probability)
        return merged([part * scale if move else None for part, move in zip(sums, moves, strict=True)], x)

    def _group_masks(self, key: Array, parts: Any) -> list[Any]:
        kept = jax.random.bernoulli(key, self.probability, (parts.slots,)).astype(jnp.float32)
        return [None if numbers is None else kept[numbers] for numbers in parts.numbers]

    def _cell_masks(self, key: Array, x: Pytree, moves: tuple[bool, ...]) -> list[Any]:
        leaves = jax.tree_util.tree_leaves_with_path(x)
        return [
            self._leaf_mask(jax.random.fold_in(key, index), leaf, path) if move else None
            for index, ((path, leaf), move) in enumerate(zip(leaves, moves, strict=True))
        ]

    def _leaf_mask(self, key: Array, leaf: Any, path: Any) -> Array:
        """A grid of random cells, shifted by a part of a cell, and interpolated linearly where values can be mixed."""
        cells, shape = self.cells, jnp.shape(leaf)
        if isinstance(cells, int):
            cells = tuple(min(cells, size) for size in (shape[:2] if len(shape) == 3 else shape))
        if len(cells) > len(shape) or any(cell > size for cell, size in zip(cells, shape, strict=False)):
            raise ValueError(
                f"{self.name}: `cells` is {cells}, but `{check.path_text(path)}` has shape {shape}. Pass at most one "
                "cell for each value along an axis, counted from the front."
            )
        # A shift by up to a cell, and the way to the next point, make two points more than cells.
        mask = jax.random.bernoulli(key, self.probability, tuple(cell + 2 for cell in cells)).astype(jnp.float32)
        for axis, (cell, size) in enumerate(zip(cells, shape, strict=False)):
            length = -(-size // cell)
            shift = jax.random.randint(jax.random.fold_in(key, axis), (), 0, length)
            place = (jnp.arange(size) + shift) / length
            place = place if check.is_floating(leaf) else jnp.floor(place)
            weights = jnp.maximum(0, 1 - jnp.abs(place[:, None] - jnp.arange(cell + 2)[None, :]))
            mask = jnp.moveaxis(jnp.tensordot(weights, mask, (1, axis)), 0, axis)
        return jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim)), shape)


def _kept(mask: Any) -> Any:
    return None if mask is None else mask > 0


def _seen(x: Pytree, absent: Pytree, masks: list[Any]) -> Pytree:
    """The baseline where a mask is 0 and x where it is 1, a mixture between; leaves without a mask stay."""

    def mixed(leaf: Any, other: Any, mask: Any) -> Any:
        if mask is None:
            return leaf
        if not check.is_floating(leaf):
            return jnp.where(mask > 0, leaf, other)
        return (other + mask * (leaf - other)).astype(jnp.result_type(leaf))

    leaves, structure = jax.tree.flatten(x)
    return jax.tree.unflatten(structure, list(map(mixed, leaves, jax.tree.leaves(absent), masks)))


@public
def rise(
    f: Callable[..., Any],
    *,
    cells: int | tuple[int, ...] = 7,
    groups: Any = None,
    probability: float = 0.5,
    samples: int = 1000,
    baseline: Any = 0,
    batch_size: int | None = None,
) -> Rise:
    """Average random masks, weighted by the score of the input behind them: a_i = 1/(n p) sum_s f(x_s) M_s,i.

    x_s = M_s x + (1 - M_s) b. A mask is a coarse grid of cells, each 1 with probability p and else 0, interpolated
    linearly and shifted at random by a part of a cell, so that E[M_i] = p everywhere. With as many cells as values, or
    with `groups`, they are independent, and a_i - a_j tends to (1 - p) (w_i x_i - w_j x_j) for a linear score and the
    baseline 0. All a_i share the score's mean: differences say something, and a value without influence does not get
    zero. (Unlike the source, whose grid is stretched a little beyond the image, cells are exactly ceil(H / h) long.)

    Args:
        f: A score, `f(x, *args) -> scalar`; the source takes a probability.
        cells: How many cells the grid has, for each axis from the front (`(7, 7)`; later axes share their mask), or one
            number for H and W of a leaf of three axes and for every axis of other leaves.
        groups: Take these features as the cells, as in `feature_ablation`.
        probability: p, how likely a cell is kept, in (0, 1).
        samples: How many masks; errors fall as 1 / sqrt(samples).
        baseline: What is behind the masks, as in `feature_ablation`; cells of integer and boolean leaves have no edges,
            their values are kept or replaced whole.
        batch_size: How many masks are evaluated at once; memory grows with it and not with `samples`. None takes what
            fills the device in `explain_batch` and `explain_dataset`, and 1 elsewhere.

    Returns:
        `e(key, x, *args) -> attribution` of x's structure, in units of the score. Cost: `samples` forward passes.

    Raises:
        ValueError: A probability outside (0, 1), more cells than values, settings below 1, groups or a baseline that do
            not fit, NaN or infinities in a concrete `x` or in its scores.
        TypeError: As in `feature_ablation`.

    Example:
        >>> e = rise(lambda x: 4 * x[0], cells=2, samples=2000, batch_size=500)
        >>> a = e(jax.random.key(0), jnp.ones(2))
        >>> bool(abs(a[0] - a[1] - 2) < 0.2)
        True

    Source: Petsiuk, Das and Saenko 2018, "RISE: randomized input sampling for explanation of black-box models",
    equation 6 and section 3.2.
    """
    name = "rise"
    check.one_number(probability, name, "probability")
    if check.is_concrete(probability) and not probability < 1:
        raise ValueError(f"{name}: `probability` is {probability}; it has to lie between 0 and 1.")
    given = as_groups(groups, name)
    grid = (
        check.count(cells, name, "cells")
        if isinstance(cells, int)
        else tuple(check.count(cell, name, "cells") for cell in cells)
    )
    return Rise(
        as_function(check.callable_score(f, name)),
        as_baseline(baseline),
        check.at_once(batch_size, name),
        name,
        given.numbers,
        probability,
        given.total,
        grid,
        check.count(samples, name, "samples"),
    )
