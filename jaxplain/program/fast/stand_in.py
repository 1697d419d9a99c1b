"""A faster function in the place of another, with that one's derivative."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxplain.types import Array


def stand_in(fast: Callable[..., Array], plain: Callable[..., Array]) -> Callable[..., Array]:
    """`fast`, whose derivative is that of `plain`, which computes the same.

    The derivative of a program of slices is no form to compute in, and where values tie it may be another one. That of
    the operation which it stands for can be brought into a fast form again.

    Args:
        fast: What is computed: a function of arrays.
        plain: What is differentiated.

    Returns:
        A function of the same arrays. Only the arguments that move cost anything when it is differentiated.
    """

    @jax.custom_jvp
    def call(*args: Array) -> Array:
        return fast(*args)

    @functools.partial(call.defjvp, symbolic_zeros=True)
    def derivative(primals: Any, tangents: Any) -> tuple[Array, Array]:
        moved = [i for i, tangent in enumerate(tangents) if not _is_zero(tangent)]

        def of(*values: Array) -> Array:
            inserted = dict(zip(moved, values, strict=True))
            return plain(*(inserted.get(i, primal) for i, primal in enumerate(primals)))

        _, tangent = jax.jvp(of, tuple(primals[i] for i in moved), tuple(tangents[i] for i in moved))
        return call(*primals), tangent

    return call


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)
