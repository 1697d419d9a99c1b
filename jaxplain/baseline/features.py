"""Features: which values of an input are removed together, and how much an attribution gives to each.

Without `groups` every value is a feature of its own, and of a leaf of shape `[H, W, C]` every pixel with its channels.
Features are numbered in row-major order, leaf after leaf; leaves that are held (integer and boolean ones that the
caller gave no baseline) hold none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import public, wide_dtype
from jaxplain.types import Array, Arrays, Pytree, frame_of


class Groups(NamedTuple):
    """Feature numbers as the caller gave them. Made by `as_groups`.

    total: how many features there are; None without groups, and where their values are traced.
    names: what the groups are called, in the order of their numbers; empty where they were given as numbers.
    """

    numbers: Any
    total: int | None
    names: tuple[str, ...] = ()

    def number_of(self, feature: Any, name: str) -> int:
        """The number of a feature that a caller gave by its number, or by its name where groups have names."""
        if not isinstance(feature, str):
            return check.count(feature, name, "feature", least=0)
        if feature not in self.names:
            known = f"are {', '.join(map(repr, self.names))}" if self.names else "have no names"
            raise ValueError(
                f"{name}: `feature` is {feature!r}, but the `groups` {known}. Pass one of them or a number."
            )
        return self.names.index(feature)


class Features(NamedTuple):
    """The features of one input. Made by `features`.

    numbers: for each leaf that moves the features' numbers, an integer array of its shape; None at those held.
    total: how many features there are, a traced number where traced groups were given.
    slots: a static number that `total` does not exceed.
    """

    numbers: list[Any]
    total: Any
    slots: int


@public
def as_groups(groups: Any, name: str) -> Groups:
    """Check groups when a metric is made, while their values can be read.

    Args:
        groups: None, or integers 0 to n-1, every number present: an array, or a pytree of x's structure. Names in the
            place of numbers (a list of texts, such as `["area", "city", "city"]`) are numbered as they come. What holds
            them as its field `groups`, such as a `jaxplain.data.Table` or `jaxplain.language.segments`, is taken, too.
        name: The metric, for errors.

    Returns:
        The groups, their number n and their names.

    Raises:
        TypeError: Groups that are neither integers nor names.
        ValueError: Negative numbers, or a number between 0 and the largest that no value has.
    """
    if groups is None:
        return Groups(None, None)
    own = _held(groups)
    groups, names = own if own is not None else _numbered(groups, name)
    check.arrays(groups, name, "groups")
    leaves = jax.tree.leaves(groups)
    for leaf in leaves:
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.integer):
            raise TypeError(f"{name}: `groups` has dtype {jnp.result_type(leaf)}; it has to hold integers from 0 up.")
    if not leaves or not all(check.is_concrete(leaf) for leaf in leaves):
        return Groups(groups, None)
    numbers = np.unique(np.concatenate([np.asarray(leaf).reshape(-1) for leaf in leaves]))
    if numbers.size == 0 or numbers[0] < 0:
        raise ValueError(f"{name}: `groups` has to hold at least one number, and none below 0; it holds {numbers[:5]}.")
    missing = np.setdiff1d(np.arange(numbers[-1] + 1), numbers)
    if missing.size:
        raise ValueError(
            f"{name}: `groups` runs up to {numbers[-1]}, but no value is in group {missing[0]}. Number the groups "
            "from 0 without gaps, for example with numpy.unique(groups, return_inverse=True)."
        )
    return Groups(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.int32), groups), int(numbers[-1]) + 1, names)


def _held(groups: Any) -> tuple[Any, tuple[str, ...]] | None:
    """Numbers and names of the groups that a table or the segments of a text hold; None of everything else."""
    if not type(groups).__module__.startswith("jaxplain.") or not (
        hasattr(groups, "groups") and hasattr(groups, "names")
    ):
        return None
    held, names = groups.groups, groups.names
    if isinstance(held, list):  # a name for each column
        numbers = {own: number for number, own in enumerate(dict.fromkeys(held))}
        return np.array([numbers[own] for own in held], np.int32), tuple(numbers)
    return held, tuple(names)


def _numbered(groups: Any, name: str) -> tuple[Any, tuple[str, ...]]:
    """Groups as numbers, and their names where they were given as names: equal names are one group, over all leaves."""
    leaves, structure = jax.tree.flatten(groups, is_leaf=lambda value: _is_odd(value) or _texts(value) is not None)
    texts = [_texts(leaf) for leaf in leaves]
    odd = next((leaf for leaf in leaves if _is_odd(leaf)), None)
    if odd is not None:
        raise TypeError(f"{name}: `groups` holds {check.short(odd)} with names and something else; name every column.")
    if not leaves or all(text is None for text in texts):
        return groups, ()
    if isinstance(groups, str):
        raise TypeError(f"{name}: `groups` is the text {groups!r}; pass a name for each column, a list of texts.")
    if any(text is None for text in texts):
        raise TypeError(f"{name}: `groups` mixes names and numbers; pass one or the other for every value.")
    numbers: dict[str, int] = {}
    for text in texts:
        for own in text.reshape(-1).tolist():  # type: ignore[union-attr]
            numbers.setdefault(own, len(numbers))
    made = [np.vectorize(numbers.__getitem__, otypes=[np.int32])(text) for text in texts]
    return jax.tree.unflatten(structure, made), tuple(numbers)


def _is_odd(value: Any) -> bool:
    """Whether names stand beside something else that is no array, such as None or NaN of a column without a name."""
    if isinstance(value, list | tuple):
        items = list(value)
    elif frame_of(value) is not None and hasattr(value, "to_numpy"):
        items = np.asarray(value.to_numpy(), object).reshape(-1).tolist()
    elif isinstance(value, np.ndarray) and value.dtype == object:
        items = value.reshape(-1).tolist()
    else:
        return False
    odd = [item is None or isinstance(item, float) for item in items]
    return any(odd) and any(isinstance(item, str) for item in items)


def _texts(value: Any) -> np.ndarray | None:
    """Names as an array of texts: a text, a list of them (nested for several axes), an array, columns of a frame."""
    if isinstance(value, str):
        return np.asarray(value)
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "UOT" or value.size == 0:
            return None
        texts = value.tolist()
        return np.array(texts, np.str_) if all(isinstance(item, str) for item in value.reshape(-1).tolist()) else None
    if hasattr(value, "codes") and hasattr(value, "categories"):  # a categorical of pandas
        return _texts(np.asarray(value, object))
    if frame_of(value) is not None and hasattr(value, "to_numpy"):
        return _texts(np.asarray(value.to_numpy(), object))
    if not isinstance(value, list | tuple) or not value:
        return None
    if all(isinstance(item, str) for item in value):
        return np.asarray(value)
    nested = isinstance(value, list) and all(isinstance(item, list | tuple) for item in value)
    rows = [_texts(item) for item in value] if nested else [None]  # a list of arrays is a pytree
    same = all(row is not None for row in rows) and len({row.shape for row in rows if row is not None}) == 1
    return np.stack([row for row in rows if row is not None]) if same else None


@public
def features(x: Pytree, groups: Groups, name: str, moves: Sequence[bool] | None = None) -> Features:
    """Number the features of one input.

    Args:
        x: One example, with at least one leaf that moves.
        groups: From `as_groups`. The numbers have each leaf's shape, or its leading part: `[H, W]` for `[H, W, C]`.
        name: The metric, for errors.
        moves: For each leaf whether its values are replaced, from `replacement`; None for the floating-point leaves.

    Returns:
        The features.

    Raises:
        TypeError: No leaf moves.
        ValueError: Groups whose structure or shape does not fit.
    """
    check.replaceable(x, name, moves)
    leaves = jax.tree_util.tree_leaves_with_path(x)
    moving = [check.is_floating(leaf) for _, leaf in leaves] if moves is None else moves
    if groups.numbers is None:
        return _default(leaves, moving)
    given = _like_x(groups.numbers, x, name, "groups")
    numbers = [
        _numbers(g, leaf, path, name) if move else None
        for g, (path, leaf), move in zip(given, leaves, moving, strict=True)
    ]
    slots = sum(math.prod(jnp.shape(leaf)) for _, leaf in leaves) if groups.total is None else groups.total
    total: Any = groups.total
    if total is None:  # below zero is no feature's number, as one beyond them is none: their values are NaN
        numbers = [None if number is None else jnp.where(number < 0, slots, number) for number in numbers]
        total = 1 + jnp.max(jnp.stack([jnp.max(number) for number in numbers if number is not None]))
    return Features(numbers, total, slots)


def _default(leaves: list[Any], moves: Sequence[bool]) -> Features:
    numbers: list[Any] = []
    total = 0
    for (_, leaf), move in zip(leaves, moves, strict=True):
        shape = jnp.shape(leaf)
        if not move:
            numbers.append(None)
            continue
        own = shape[:2] if len(shape) == 3 else shape
        index = total + jnp.arange(math.prod(own), dtype=jnp.int32).reshape(own)
        numbers.append(_spread(index, shape))
        total += math.prod(own)
    return Features(numbers, total, total)


def _numbers(group: Any, leaf: Any, path: Any, name: str) -> Any:
    shape = jnp.shape(leaf)
    if shape[: jnp.ndim(group)] != jnp.shape(group):
        where = jax.tree_util.keystr(path)
        raise ValueError(
            f"{name}: `groups{where}` has shape {jnp.shape(group)}, but `x{where}` has shape {shape}. Pass one number "
            "for each value, or for each pixel ([H, W])."
        )
    return _spread(jnp.asarray(group), shape)


def _spread(value: Array, shape: tuple[int, ...]) -> Array:
    """Repeat over the trailing axes that `value` lacks."""
    return jnp.broadcast_to(value.reshape(value.shape + (1,) * (len(shape) - value.ndim)), shape)


def _like_x(value: Any, x: Pytree, name: str, argument: str) -> list[Any]:
    """The leaves of a pytree that has to have x's structure."""
    given, wanted = str(jax.tree.structure(value)), str(jax.tree.structure(x))
    if given != wanted:
        each = " of its numbers or names, in a list or tuple of arrays each as numpy.array([...])"
        remedy = f"an array for each array of `x`{each if argument == 'groups' else ''}"
        raise ValueError(f"{name}: `{argument}` has the structure {given}, but `x` has {wanted}. Pass {remedy}.")
    return jax.tree.leaves(value)


@public
def attribution_leaves(
    attribution: Arrays, x: Arrays, groups: Any, name: str, moves: Sequence[bool] | None = None
) -> list[tuple[Any, Any]]:
    """Pairs (attribution, leaf of x) over the leaves that move, shapes checked and attributions widened.

    Without `moves` those are x's floating-point leaves.

    An attribution has its leaf's shape, or its spatial shape `[H, W]` (a map), or that of its groups.
    """
    given = _like_x(attribution, x, name, "attribution")
    leaves = jax.tree_util.tree_leaves_with_path(x)
    numbers = [None] * len(leaves) if groups is None else jax.tree.leaves(groups)
    moving = [check.is_floating(leaf) for _, leaf in leaves] if moves is None else moves
    pairs = []
    for value, (path, leaf), number, move in zip(given, leaves, numbers, moving, strict=True):
        if not move:
            continue
        shape, where = jnp.shape(leaf), jax.tree_util.keystr(path)
        check.real(value, name, f"attribution{where}")
        allowed = [shape] + ([shape[:2]] if len(shape) == 3 else []) + ([] if number is None else [jnp.shape(number)])
        if jnp.shape(value) not in allowed:
            raise ValueError(
                f"{name}: `attribution{where}` has shape {jnp.shape(value)}, but `x{where}` has shape {shape}. Pass "
                f"one of shape {' or '.join(map(str, dict.fromkeys(allowed)))}; for a batch use jax.vmap."
            )
        pairs.append((jnp.asarray(value).astype(wide_dtype(jnp.result_type(value))), leaf))
    return pairs


@public
def feature_sums(attribution: Pytree, x: Pytree, groups: Groups, parts: Features, name: str) -> Array:
    """The signed sum of an attribution over each feature's values, in float32 or wider.

    Args:
        attribution: Of x's structure; a leaf may be a map `[H, W]` for `[H, W, C]`, or have the shape of its groups.
        x: The example.
        groups: The caller's groups.
        parts: The example's features.
        name: The metric, for errors.

    Returns:
        `[slots]`, feature by feature; slots beyond the number of features are -inf.

    Raises:
        ValueError: An attribution whose structure or shape does not fit.
    """
    moves = [number is not None for number in parts.numbers]
    pairs = attribution_leaves(attribution, x, groups.numbers, name, moves)
    numbers = [number for number in parts.numbers if number is not None]
    if groups.numbers is None:
        sums = [a.reshape(-1) if a.ndim != 3 else a.sum(axis=-1).reshape(-1) for a, _ in pairs]
        return jnp.concatenate(sums)
    total = jnp.zeros(parts.slots, jnp.float32)
    for (a, _), number in zip(pairs, numbers, strict=True):
        own = number[(..., *(0,) * (number.ndim - a.ndim))]  # a map stands for all of a pixel's channels
        total = total + jax.ops.segment_sum(a.reshape(-1), own.reshape(-1), parts.slots)
    return jnp.where(jnp.arange(parts.slots) < parts.total, total, -jnp.inf)
