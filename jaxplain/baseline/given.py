"""What a caller gives for a baseline, made fit for one example: its values, and which leaves of the example it moves.

Floating-point leaves always move. An integer, boolean or complex leaf moves where the caller gave that leaf a value (of
a pytree, a row, or what a function returns in its place), by selection and never by arithmetic; else it is held. A
method that needs more than selection (a derivative, or a mixture of x and baseline) refuses a value that differs there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.baseline.selection import DERIVATIVE, differs_text, representable
from jaxplain.program import Function, as_function, is_node, needs_key, public
from jaxplain.types import Array, Pytree, frame_of


class Replacement(NamedTuple):
    """What takes the place of one example. Made by `replacement`.

    values: of x's structure, shapes and dtypes; moves: for each leaf, whether the baseline says what it becomes.
    """

    values: Pytree
    moves: tuple[bool, ...]


class _Keyed(Function):
    """A plain function of `(key, x)`, marked as random."""

    function: Any

    @property
    def needs_key(self) -> bool:
        return True

    def __call__(self, key: Array, x: Pytree) -> Pytree:
        return self.function(key, x)


@public
def as_baseline(baseline: Any) -> Any:
    """Make a pytree of a baseline, so that its arrays are leaves and its code compares by value.

    Args:
        baseline: A number, an array or pytree of x's structure, or a function of `x` or of `(key, x)`: a plain
            function is taken as random exactly if it has two parameters without default.

    Returns:
        The number or arrays as they are, or a callable pytree which says by `needs_key` whether it is random.

    Raises:
        TypeError: A function that takes neither `x` nor `(key, x)`, or something that is no number, array or function.

    Example:
        >>> as_baseline(lambda key, x: x).needs_key
        True
    """
    if not callable(baseline):
        for leaf in jax.tree.leaves(baseline, is_leaf=lambda value: value is None):
            if check.odd_leaf(leaf) is not None:
                kind = "no baseline" if frame_of(leaf) else type(leaf).__name__
                raise TypeError(
                    f"baseline: {check.short(leaf)} is {kind}. Pass a number, an array (or pytree) of "
                    "x's shape, or a function of `x` or of `(key, x)`."
                )
        return baseline
    if hasattr(baseline, "needs_key"):
        return as_function(baseline)
    required = _required(baseline)
    if required > 2:
        raise TypeError(
            f"baseline: the function {baseline!r} needs {required} arguments; it is given `x` or `(key, x)`."
        )
    return _Keyed(as_function(baseline)) if required == 2 else as_function(baseline)


def _required(function: Callable[..., Any]) -> int:
    """How many positional arguments a call cannot do without (1 where Python does not know)."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # some built-in functions carry no signature
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is inspect.Parameter.empty for p in parameters)


def is_background(value: Any, x: Pytree) -> bool:
    """Whether `value` is a set of baselines: x's structure with one more leading axis on every leaf."""
    if callable(value) or str(jax.tree.structure(value)) != str(jax.tree.structure(x)):
        return False
    pairs = zip(jax.tree.leaves(value), jax.tree.leaves(x), strict=True)
    return all(jnp.ndim(v) == jnp.ndim(leaf) + 1 and jnp.shape(v)[1:] == jnp.shape(leaf) for v, leaf in pairs)


def replacement(
    baseline: Any, x: Pytree, key: Array | None = None, *, name: str, argument: str = "baseline"
) -> Replacement:
    """What takes the place of one example in a method that replaces values whole.

    Args:
        baseline: A number, an array or pytree of x's structure whose leaves broadcast to x's, or a function of `x` or
            of `(key, x)` that returns either. A number is for every floating-point leaf; an integer or a boolean also
            for an `x` that is one array of those (token ids). A function holds a leaf by returning x's own. Values may
            be traced.
        x: One example.
        key: Needed where the baseline is random.
        name: The method or metric that asks, for errors.
        argument: What it calls its baseline, for errors.

    Returns:
        Values of x's structure, and which leaves they move. Cost: a copy of `x`, or one call of the function.

    Raises:
        ValueError: A shape or structure that does not fit, NaN or infinities in a concrete baseline, a missing key, a
            value that an integer or boolean leaf cannot hold.

    Example:
        >>> found = replacement({"cat": 0}, {"cat": jnp.array(3)}, name="occlusion")
        >>> int(found.values["cat"]), found.moves
        (0, (True,))
    """
    value = as_baseline(baseline)
    if callable(value):
        value = _drawn(value, x, key, name, argument)
    check.finite(value, name, argument)
    leaves, structure = jax.tree_util.tree_leaves_with_path(x), jax.tree.structure(x)
    if not is_node(value) and jnp.shape(value) == ():
        alone = len(leaves) == 1 and not check.is_floating(value)
        values = [value] * len(leaves)
        moves = tuple(check.is_floating(leaf) or alone for _, leaf in leaves)
    else:
        given = str(jax.tree.structure(value))
        if given != str(structure):
            raise ValueError(
                f"{name}: `{argument}` has the structure {given}, but `x` has {structure}. Pass a scalar, or arrays of "
                "that structure."
            )
        values = jax.tree.leaves(value)
        moves = tuple(check.is_floating(leaf) or v is not leaf for v, (_, leaf) in zip(values, leaves, strict=True))
    fitted = [
        _fitted(v, leaf, argument + jax.tree_util.keystr(path), name, path) if move else leaf
        for v, move, (path, leaf) in zip(values, moves, leaves, strict=True)
    ]
    return Replacement(jax.tree.unflatten(structure, fitted), moves)


def resolve(baseline: Any, x: Pytree, key: Array | None = None, *, name: str) -> Pytree:
    """The baseline of one example in a method that differentiates: integer, boolean and complex leaves are x's own.

    Args:
        baseline: As in `replacement`.
        x: One example.
        key: Needed where the baseline is random.
        name: The method or metric that asks, for errors.

    Returns:
        A pytree like `x`. Cost: as `replacement`.

    Raises:
        ValueError: As in `replacement`; a concrete value that differs from x's at a leaf without derivative. Where
            either is traced, floating-point leaves become NaN then.

    Example:
        >>> resolve(0.5, {"image": jnp.ones(2), "token": jnp.array(3)}, name="conductance")["image"].tolist()
        [0.5, 0.5]
    """
    return held(replacement(baseline, x, key, name=name).values, x, name)


def held(values: Pytree, x: Pytree, name: str, argument: str = "baseline", why: str = DERIVATIVE) -> Pytree:
    """Require that values leave the leaves of `x` as they are that hold no floating-point numbers.

    Args:
        values: Of x's structure, or rows of it.
        x: One example.
        name: The method, for errors.
        argument: What it calls the values, for errors.
        why: Why it cannot replace such leaves, and the way out: `DERIVATIVE` or `MIXTURE`.

    Returns:
        The values; NaN in floating-point leaves where traced ones differ.

    Raises:
        ValueError: Concrete values that differ.
    """
    pairs = list(zip(jax.tree_util.tree_leaves_with_path(x), jax.tree.leaves(values), strict=True))
    differs = []
    for (path, leaf), value in pairs:
        if check.is_floating(leaf) or value is leaf:
            continue
        if check.is_concrete(leaf) and check.is_concrete(value):
            if not np.array_equal(np.broadcast_to(leaf, jnp.shape(value)), value):
                raise ValueError(differs_text(path, leaf, name, argument, why))
        else:
            differs.append(jnp.any(jnp.not_equal(*jnp.broadcast_arrays(leaf, value))))
    if not differs:
        return values
    wrong = jnp.any(jnp.stack(differs))  # cannot be raised while tracing, and must not pass for held
    return jax.tree.map(lambda v: jnp.where(wrong, jnp.nan, v) if check.is_floating(v) else v, values)


def like_rows(data: Pytree, x: Pytree, name: str, argument: str) -> Pytree:
    """Rows of x's structure with x's dtypes at the leaves whose values are only selected (integers, booleans)."""
    pairs = zip(jax.tree_util.tree_leaves_with_path(x), jax.tree.leaves(data), strict=True)
    fitted = []
    for (path, leaf), rows in pairs:
        if not check.is_floating(leaf):
            representable(rows, leaf, argument + jax.tree_util.keystr(path), check.path_text(path), name)
            rows = jnp.asarray(rows).astype(jnp.result_type(leaf))
        fitted.append(jnp.asarray(rows))
    return jax.tree.unflatten(jax.tree.structure(x), fitted)


def _drawn(function: Any, x: Pytree, key: Array | None, name: str, argument: str) -> Pytree:
    if not needs_key(function):
        return function(x)
    if key is None:
        raise ValueError(
            f"{name}: `{argument}` is random (a function of `(key, x)`), so a key has to be passed before `x`."
        )
    return function(key, x)


_EACH_ITS_OWN = (
    " One baseline for each example goes along with it: explain_batch(lambda x, b, *args: method(f, baseline=b)"
    "(x, *args), X, baselines, *args)."
)


def _fitted(value: Any, leaf: Any, where: str, name: str, path: Any) -> Array:
    """A baseline's value at one leaf, in the leaf's shape and dtype."""
    shape, target = jnp.shape(value), jnp.shape(leaf)
    fits = len(shape) <= len(target) and all(
        size in (1, wanted) for size, wanted in zip(shape[::-1], target[::-1], strict=False)
    )
    if not fits:
        raise ValueError(
            f"{name}: `{where}` has shape {shape}, which does not broadcast to `{check.path_text(path)}` of shape "
            f"{target}. Pass a scalar, or an array of x's shape.{_EACH_ITS_OWN if shape[1:] == target else ''}"
        )
    if not check.is_floating(leaf):
        representable(value, leaf, where, check.path_text(path), name)
    return jnp.broadcast_to(jnp.asarray(value).astype(jnp.result_type(leaf)), target)
