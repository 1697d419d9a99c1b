"""Leaves whose values are selected and never computed with: integers, booleans, complex numbers; and who cannot."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check

DERIVATIVE = (
    "only floating-point values have a derivative. Give x's own values there, so that they are held; to explain them, "
    "cut the model at its embedding with `body, head = jaxplain.split(f, path)` and explain `head`, or use a method "
    "that needs no derivative, such as jaxplain.shapley_sampling."
)
MIXTURE = (
    "a soft mask mixes the input with its baseline, which only floating-point values allow. Give x's own values there, "
    "so that they are held, or use a method that replaces values whole: jaxplain.rise with `groups`, "
    "jaxplain.feature_ablation."
)


def differs_text(path: Any, leaf: Any, name: str, argument: str, why: str) -> str:
    """What is wrong with a baseline for a leaf that a method cannot move, and the way out."""
    where = jax.tree_util.keystr(path)
    return f"{name}: `{argument}{where}` differs from `x{where}`, which has dtype {jnp.result_type(leaf)}, and {why}"


def representable(value: Any, leaf: Any, where: str, place: str, name: str) -> None:
    """Require values that a leaf of integers or booleans can hold as they are."""
    dtype, kind = jnp.result_type(leaf), jnp.result_type(value)
    if check.is_concrete(value):
        array = np.asarray(value)
        with np.errstate(all="ignore"):
            fits = bool((array.astype(dtype) == array).all())
    else:
        fits = _width(kind) <= _width(dtype)
    if not fits:
        raise ValueError(
            f"{name}: `{where}` has dtype {kind} and values that `{place}` of dtype {dtype} cannot hold, where values "
            "are replaced and never computed with. Pass values of that dtype, or x's own to hold it."
        )


def _width(dtype: Any) -> int:
    """The place of a dtype's kind in the order in which each holds those before it."""
    kinds = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)
    return [jnp.issubdtype(dtype, kind) for kind in kinds].index(True)
