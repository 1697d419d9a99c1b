"""Convolutions on all cores, where XLA's CPU backend would compute them on one.

Before jaxlib 0.12 that backend gives most convolutions in two dimensions to a library which shares out the output
features, 64 at a time: with no more of them than that, one core computes and the others wait. What is longer after the
convolution than before it goes to the backend's own kernel instead, which shares out everything. So one row more than
needed is computed there, and cut off. Measured on two cores with jaxlib 0.10.2: 1.1 to 1.8 times as fast.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxplain.program.trace import CONVOLVES_ON_ONE_CORE
from jaxplain.types import Array

SHARED = 64
"""The output features of which the library makes one piece of work."""

UNSHARED = 16
"""Input and output features up to which the backend's own kernel is used in any case, and output features up to which
it is no faster."""

LEAST = 96
"""The fewest products for one element of the result with which the kernel is fast."""

MOST = 1 / 8
"""The largest share of the rows that may be computed in vain."""


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def on_one_core(image: Sequence[int], kernel: Sequence[int], dtype: Any, parameters: Any) -> bool:
    """Whether a convolution of `[N, *S, C]` with `[*K, I, O]` is left to one core and worth more."""
    *window, inputs, outputs = kernel
    ones = {*parameters["window_strides"], *parameters["lhs_dilation"]}
    return (
        CONVOLVES_ON_ONE_CORE
        and cores() > 1
        and len(window) == 2
        and dtype == jnp.float32
        and parameters["preferred_element_type"] in (None, jnp.float32)
        and ones == {1}
        and parameters["feature_group_count"] == parameters["batch_group_count"] == 1
        and UNSHARED < outputs <= SHARED
        and math.prod(window) * inputs >= LEAST
        and _in_vain(image, kernel, parameters) is not None
    )


def on_all_cores(image: Array, kernel: Array, *, dimension_numbers: Any, **parameters: Any) -> Array:
    """That convolution, with some rows or columns computed beyond the last and cut off."""
    found = _in_vain(image.shape, kernel.shape, parameters)
    if found is None:
        raise ValueError(f"A convolution of {image.shape} with {kernel.shape} is not to be lengthened.")
    axis, more, length = found
    padding = [list(edges) for edges in parameters["padding"]]
    padding[axis][1] += more
    longer = lax.conv_general_dilated(
        image, kernel, dimension_numbers=dimension_numbers, **{**parameters, "padding": padding}
    )
    return lax.slice_in_dim(longer, 0, length, axis=axis + 1)


def _in_vain(image: Sequence[int], kernel: Sequence[int], parameters: Any) -> tuple[int, int, int] | None:
    """The spatial axis to lengthen, by how much, and its length; None where that is dear or the result is longer."""
    axes = []
    for axis, ((low, high), dilation) in enumerate(zip(parameters["padding"], parameters["rhs_dilation"], strict=True)):
        size = image[axis + 1]
        length = size + low + high - (kernel[axis] - 1) * dilation
        axes.append((axis, size + 1 - length, length))
    if any(length < 1 or more < 1 for _, more, length in axes):
        return None
    best = min(axes, key=lambda entry: entry[1] / entry[2])
    return best if best[1] <= MOST * best[2] else None
