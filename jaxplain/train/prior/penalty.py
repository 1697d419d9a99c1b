"""What all penalties on explanations share: the explanation of one example, as a function of the params."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.program import Function, as_function, needs_key, setting
from jaxplain.program.node import smoothed
from jaxplain.program.trace import dependent, is_literal, trace
from jaxplain.types import Array, Pytree

MADE = "that makes an explanation, `method(params) -> e`"


class Penalty(Function):
    """A penalty of one example, `penalty(params, x, target, key, *inputs) -> scalar`, made of an explanation."""

    method: Any
    weight: Any = 1.0
    smooth: Any = None
    label: Any = None
    name: str = setting(default="penalty")

    def __call__(self, params: Pytree, x: Pytree, target: Pytree, key: Array, *inputs: Any) -> Array:
        """The weight times the penalty, `value`, of one example."""
        values = self.value(params, x, target, key, inputs)
        return self.weight * values.astype(jnp.promote_types(values.dtype, jnp.float32))

    def value(self, params: Pytree, x: Pytree, target: Pytree, key: Array, inputs: tuple[Any, ...]) -> Array:
        """The penalty of one example, without its weight."""
        raise NotImplementedError

    def attribution(self, params: Pytree, x: Pytree, target: Pytree, key: Array, inputs: tuple[Any, ...]) -> Pytree:
        """The explanation of one example by these params."""
        e = as_function(check.made(self.method(params), self.name, "method"))
        if self.smooth is not None:
            e = softened(e, self.smooth, self.name)
        label = target if self.label is None else self.label(target)
        return widened(e(*((key,) if needs_key(e) else ()), x, label, *inputs))

    def explained(self, a: Pytree, params: Pytree, x: Pytree, *rest: Any) -> list[bool]:
        """Which leaves of an explanation count: of integers those that depend on the params, a gradient's being zeros.

        All of them where x is of one kind, and of the map of a layer. Cost where x is not: one more trace.
        """
        moving, count = [check.is_floating(leaf) for leaf in jax.tree.leaves(x)], len(jax.tree.leaves(a))
        if len(moving) != count or all(moving) or not any(moving):
            return [True] * count
        program, _ = trace(lambda params: self.attribution(params, x, *rest), params)
        moved = dependent(program, set(program.jaxpr.invars))
        said = [not is_literal(atom) and atom in moved for atom in program.outputs]
        return [one or other for one, other in zip(moving, said, strict=True)]


def widened(tree: Pytree) -> Pytree:
    """Half precision as float32, in which sums and squares neither overflow nor stop."""
    return jax.tree.map(
        lambda v: v.astype(jnp.promote_types(v.dtype, jnp.float32)) if check.is_floating(v) else v, tree
    )


def common(method: Any, weight: Any, smooth: Any, label: Any, name: str) -> dict[str, Any]:
    """The settings that all penalties have, checked."""
    check.function(method, name, "method", MADE)
    check.one_number(weight, name, "weight", zero=True)
    if smooth is not None:
        check.one_number(smooth, name, "smooth")
    if label is not None:
        check.function(label, name, "label", "(target) -> what the explanation is called with")
    return {
        "method": as_function(method),
        "weight": weight,
        "smooth": smooth,
        "label": None if label is None else as_function(label),
        "name": name,
    }


def chosen(given: Any, like: Pytree, x: Pytree, target: Pytree, name: str, argument: str) -> list[Array]:
    """A mask for each leaf of `like`: an array, or what a function of x and target says, of shapes that fit."""
    masks = given(x, target) if callable(given) else given
    own, wanted = (str(jax.tree.structure(tree)) for tree in (masks, like))
    if own != wanted:
        raise ValueError(f"{name}: `{argument}` has the structure {own}, but the explanation has {wanted}.")
    pairs = list(zip(jax.tree.leaves(masks), jax.tree.leaves(like), strict=True))
    for mask, leaf in pairs:
        given_shape, shape = jnp.shape(mask), jnp.shape(leaf)
        paired = zip(given_shape[::-1], shape[::-1], strict=False)
        if len(given_shape) > len(shape) or any(a not in (1, b) for a, b in paired):
            raise ValueError(
                f"{name}: `{argument}` has shape {given_shape}, but the explanation of one example has {shape}. For "
                f"masks that differ between examples let them travel with the targets: {argument}=lambda x, target: "
                'target["mask"], label=lambda target: target["label"].'
            )
    return [jnp.broadcast_to(jnp.asarray(mask), jnp.shape(leaf)).astype(leaf.dtype) for mask, leaf in pairs]


def as_mask(mask: Any, name: str, argument: str) -> Any:
    """A mask as it is kept: a function as a pytree, arrays checked for values that are finite."""
    if callable(mask):
        return as_function(mask)
    check.arrays(mask, name, argument)
    check.finite(mask, name, argument)
    return mask


class _Softened(Function):
    """A score with softplus(beta z) / beta in the place of ReLU."""

    score: Any
    beta: Any
    name: str = setting(default="penalty")

    def __call__(self, x: Pytree, *args: Any) -> Array:
        leaves = jax.tree.leaves(x)
        moving = [check.is_floating(leaf) for leaf in leaves]

        def of(*values: Array) -> Array:
            given = iter(values)
            merged = [next(given) if move else leaf for move, leaf in zip(moving, leaves, strict=True)]
            return self.score(jax.tree.unflatten(jax.tree.structure(x), merged), *args)

        floating = [jnp.asarray(leaf) for leaf, move in zip(leaves, moving, strict=True) if move]
        return smoothed(of, self.beta, self.name, *floating)(*floating)


def softened(e: Any, beta: Any, name: str) -> Any:
    """An explanation of the same score made smooth, at whatever depth of wrappers the score is."""
    fields = _fields(e)
    if "score" in fields:
        return dataclasses.replace(e, score=_Softened(fields["score"], beta, name))
    inner = {key: value for key, value in fields.items() if _has_score(value)}
    if not inner:
        raise ValueError(
            f"{name}: `smooth` replaces the kinks of the score that is explained, and {check.short(e)} does not say "
            "which that is. Pass an explanation made by a method of jaxplain, or smooth the model itself."
        )
    return dataclasses.replace(e, **{key: softened(value, beta, name) for key, value in inner.items()})


def _fields(value: Any) -> dict[str, Any]:
    """What a function of this library holds, by name; nothing of another one."""
    known = dataclasses.is_dataclass(value) and isinstance(value, Function)
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)} if known else {}


def _has_score(value: Any) -> bool:
    fields = _fields(value)
    return "score" in fields or any(_has_score(part) for part in fields.values())


def checked_call(make: Callable[..., Any], name: str) -> Any:
    """A function of the params that makes a score."""
    return as_function(check.function(make, name, "score", "that makes a score, `score(params) -> f`"))
