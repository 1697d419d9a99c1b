"""Convolutions in the forms that XLA's CPU backend is fast at.

That backend has one fast kernel: input `b01f` (batch, two spatial axes, features), kernel `01io`, output `b01f`, no
groups. It brings what stands in the outermost program into that layout by itself, but not what stands in a loop, and
there the gradients of convolutions run in a generic kernel that is twenty to thirty times slower. Groups go through a
slow kernel everywhere, and few input or output channels leave most of the fast one idle: a stencil is then quicker
written out, as sums of products that one pass over memory computes.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxplain.program.fast.cores import on_all_cores, on_one_core
from jaxplain.program.fast.stand_in import stand_in
from jaxplain.program.trace import Equation, apart, dtype_of, known_parameters, shape_of
from jaxplain.types import Array

FAST = ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
"""Axes of input (batch, feature, spatial), kernel (output and input feature, spatial) and output (like the input)."""

FEW = 27
"""The most terms (elements of the window times channels) of a written-out sum: a 3x3 window over three channels."""

LARGEST = 64
"""The most elements of a window whose every channel is convolved by itself and that is written out."""

_PARAMETERS = frozenset(
    [
        "window_strides",
        "padding",
        "lhs_dilation",
        "rhs_dilation",
        "dimension_numbers",
        "feature_group_count",
        "batch_group_count",
        "precision",
        "preferred_element_type",
    ]
)
_CHANNELS_LAST = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}

Rule = Callable[..., Any]


def fast_convolution(equation: Equation) -> Rule | None:
    """How to compute an equation `conv_general_dilated` fast; None where it is so already, or unknown."""
    parameters, operand = equation.params, equation.invars[0]
    rank = len(shape_of(operand)) - 2
    if not (
        known_parameters(equation, _PARAMETERS)
        and rank in _CHANNELS_LAST
        and jnp.issubdtype(dtype_of(operand), jnp.floating)
    ):
        return None
    sizes, (*window, inputs, outputs), dimensions, rest = _read(equation)
    grouped = parameters["feature_group_count"] * parameters["batch_group_count"] > 1
    written = _written_out(window, (inputs, outputs), sizes[-1], rest) is not None
    slow = written or grouped or rank == 1 or (rank == 2 and dimensions != FAST)
    if not slow and not on_one_core(sizes, (*window, inputs, outputs), dtype_of(operand), rest):
        return None
    return _between_transposes(functools.partial(_channels_last, **rest), dimensions)


def _read(equation: Equation) -> tuple[list[int], list[int], Any, dict[str, Any]]:
    """Sizes of image and kernel with the channels last, where their axes are, and the other parameters."""
    rest = dict(equation.params)
    image_axes, kernel_axes, _ = dimensions = tuple(rest.pop("dimension_numbers"))
    image, kernel = (shape_of(atom) for atom in equation.invars)
    sizes = [image[axis] for axis in (image_axes[0], *image_axes[2:], image_axes[1])]
    return sizes, [kernel[axis] for axis in (*kernel_axes[2:], kernel_axes[1], kernel_axes[0])], dimensions, rest


def stencil(equation: Equation) -> Rule | None:
    """A convolution over few channels as the sum of products that it is computed by; None for others.

    `fast_convolution` keeps that sum apart from what reads it. This one is for where that is read once.
    """
    if fast_convolution(equation) is None:
        return None
    sizes, (*window, inputs, outputs), dimensions, rest = _read(equation)
    if _written_out(window, (inputs, outputs), sizes[-1], rest) is not _products:
        return None
    return _between_transposes(functools.partial(_products, **rest), dimensions)


def _between_transposes(compute: Rule, dimensions: Any) -> Rule:
    """A convolution by one of inputs and kernels with the channels last."""
    image_axes, kernel_axes, result_axes = dimensions
    order = (result_axes[0], *result_axes[2:], result_axes[1])  # where each axis of the result goes

    def convolution(image: Array, kernel: Array) -> Array:
        result = compute(
            transposed(image, (image_axes[0], *image_axes[2:], image_axes[1])),
            transposed(kernel, (*kernel_axes[2:], kernel_axes[1], kernel_axes[0])),
        )
        return transposed(result, tuple(order.index(axis) for axis in range(result.ndim)))

    return convolution


def _channels_last(image: Array, kernel: Array, **parameters: Any) -> Array:
    """The convolution of `[N, *S, C]` with `[*K, I, O]`, in the form that suits its sizes."""
    *window, inputs, outputs = kernel.shape
    form = _written_out(window, (inputs, outputs), image.shape[-1], parameters)
    if form is not None:
        plain = functools.partial(_library, **parameters)
        # Apart: else XLA computes the sum again in everything that reads it, in a ReLU's derivative for one.
        return stand_in(apart(functools.partial(form, **parameters)), plain)(image, kernel)
    if parameters["feature_group_count"] * parameters["batch_group_count"] > 1:
        return _by_groups(image, kernel, **parameters)
    if len(window) == 1:
        return _along_a_line(image, kernel, **parameters)
    return _library(image, kernel, **parameters)


def _library(image: Array, kernel: Array, **parameters: Any) -> Array:
    settings = {"dimension_numbers": _CHANNELS_LAST[image.ndim - 2], **parameters}

    def plain(image: Array, kernel: Array) -> Array:
        return lax.conv_general_dilated(image, kernel, **settings)

    if on_one_core(image.shape, kernel.shape, image.dtype, parameters):
        return stand_in(functools.partial(on_all_cores, **settings), plain)(image, kernel)
    return plain(image, kernel)


def _written_out(window: Sequence[int], channels: tuple[int, int], features: int, parameters: Any) -> Rule | None:
    """The sum of products that suits a convolution's sizes, if one does."""
    size, (inputs, outputs) = math.prod(window), channels
    if parameters["batch_group_count"] > 1 or set(parameters["lhs_dilation"]) != {1} or size == 1:
        return None  # a window of one element is a product of matrices, and known to be one
    if parameters["feature_group_count"] > 1:
        each = parameters["feature_group_count"] == features
        return _products if each and size <= LARGEST else None
    if size * inputs <= FEW:
        return _products
    if size * outputs <= FEW and set(parameters["window_strides"]) == {1}:
        return _shifts
    return None


def _products(image: Array, kernel: Array, **parameters: Any) -> Array:
    """Few input channels (or one for each group): the sum over the window of shifted inputs times weights."""
    *window, inputs, outputs = kernel.shape
    dtype, wide = _dtypes(image, parameters)
    padded, taps = _padded_slices(image, window, **parameters)
    groups = parameters["feature_group_count"]
    total: Any = 0
    for offset, start, end, strides in taps:
        piece = lax.slice(padded, start, end, strides).astype(wide)
        weights = kernel[offset].astype(wide).reshape(inputs, *(1,) * (image.ndim - 1), outputs)
        if groups > 1:
            each = jnp.broadcast_to(piece[..., None], (*piece.shape, outputs // groups))
            total += each.reshape(*piece.shape[:-1], outputs) * weights[0]
            continue
        for channel in range(inputs):
            total += lax.slice_in_dim(piece, channel, channel + 1, axis=-1) * weights[channel]
    return total.astype(dtype)


def _shifts(image: Array, kernel: Array, **parameters: Any) -> Array:
    """Few output channels: one product with the weights of the whole window, then the sum of its shifts."""
    *window, inputs, outputs = kernel.shape
    dtype, wide = _dtypes(image, parameters)
    weights = jnp.moveaxis(kernel.reshape(-1, inputs, outputs), 1, 0).reshape(inputs, -1)
    products = lax.dot_general(
        image,
        weights,
        (((image.ndim - 1,), (0,)), ((), ())),
        precision=parameters["precision"],
        preferred_element_type=wide,
    )
    padded, taps = _padded_slices(products, window, **parameters)
    total: Any = 0
    for number, (_, start, end, strides) in enumerate(taps):
        first = number * outputs
        total += lax.slice(padded, (*start[:-1], first), (*end[:-1], first + outputs), strides)
    return total.astype(dtype)


def _dtypes(image: Array, parameters: Any) -> tuple[Any, Any]:
    """The result's dtype, and the one to sum in."""
    dtype = parameters["preferred_element_type"] or image.dtype
    return dtype, jnp.promote_types(jnp.promote_types(image.dtype, dtype), jnp.float32)


def _padded_slices(image: Array, window: Sequence[int], **parameters: Any) -> tuple[Array, list[Any]]:
    """`image` padded, and for every element of the window its offset and the slice of what it meets."""
    edges = [(0, 0, 0), *((low, high, 0) for low, high in parameters["padding"]), (0, 0, 0)]
    # Without the barrier XLA reads the middle of the window from what was padded, and computes that at every element.
    padded = lax.optimization_barrier(lax.pad(image, jnp.zeros((), image.dtype), edges))
    steps, dilation = parameters["window_strides"], parameters["rhs_dilation"]
    counts = [
        max(0, (n - (k - 1) * d - 1) // s + 1)
        for n, k, d, s in zip(padded.shape[1:-1], window, dilation, steps, strict=True)
    ]
    taps = []
    for offset in itertools.product(*map(range, window)):
        start = [o * d for o, d in zip(offset, dilation, strict=True)]
        end = [o + max(0, (n - 1) * s + 1) for o, n, s in zip(start, counts, steps, strict=True)]
        taps.append((offset, (0, *start, 0), (image.shape[0], *end, image.shape[-1]), (1, *steps, 1)))
    return padded, taps


def _by_groups(image: Array, kernel: Array, **parameters: Any) -> Array:
    """Groups of features or of the batch: one convolution after the other."""
    features, batches = parameters["feature_group_count"], parameters["batch_group_count"]
    count = features * batches
    axis = -1 if features > 1 else 0
    one = functools.partial(_channels_last, **{**parameters, "feature_group_count": 1, "batch_group_count": 1})
    parts = lax.map(lambda pair: one(*pair), (_divided(image, count, axis), _divided(kernel, count, -1)))
    return jnp.moveaxis(parts, 0, -2).reshape(*parts.shape[1:-1], -1)


def _divided(value: Array, count: int, axis: int) -> Array:
    """`value` with an axis divided into `count` equal groups, which come first."""
    axis %= value.ndim
    parts = value.reshape(*value.shape[:axis], count, value.shape[axis] // count, *value.shape[axis + 1 :])
    return jnp.moveaxis(parts, axis, 0)


def _along_a_line(image: Array, kernel: Array, **parameters: Any) -> Array:
    """One spatial axis as two, of which the first has length one."""
    more = {
        "window_strides": (1, *parameters["window_strides"]),
        "padding": ((0, 0), *parameters["padding"]),
        "lhs_dilation": (1, *parameters["lhs_dilation"]),
        "rhs_dilation": (1, *parameters["rhs_dilation"]),
    }
    return _library(image[:, None], kernel[None], **{**parameters, **more})[:, 0]


def transposed(value: Array, order: tuple[int, ...]) -> Array:
    """`value` with its axes in that order, without an operation where they are."""
    return value if order == tuple(range(value.ndim)) else lax.transpose(value, order)
