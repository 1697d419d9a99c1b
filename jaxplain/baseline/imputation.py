"""Noisy linear imputation: missing pixels become weighted means of their neighbours, solved for all of them at once.

The linear system is never written down: its product with an image is a 3 x 3 stencil, and conjugate gradients on the
device solve it. A preconditioner that adds up corrections on coarser and coarser grids keeps the number of iterations
at about 20 to 60, whatever the size of the image and of its holes.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.program import Function, public, wide_dtype
from jaxplain.types import Array, Arrays, Number, Pytree

_TOLERANCE = 1e-6
"""The energy of the error left, in units of the largest deviation of a known pixel from their mean."""

_MOST_ITERATIONS = 1000
"""Never reached in float32; a bound for values that are not finite."""


@public
def linear_imputation(x: Arrays, missing: Arrays) -> Array:
    """Replace missing pixels by the weighted mean of their neighbours, where neighbours may be missing themselves.

    x_i = sum_j w_ij x_j / sum_j w_ij over the 8 neighbours j of a missing pixel i that lie inside the image, with
    w = 1/6 for the four direct neighbours and 1/12 for the four diagonal ones (they sum to one away from the borders).
    All missing pixels are solved for together, each channel by itself; what they held has no influence.

    Args:
        x: An image `[H, W, C]` or `[H, W]`.
        missing: Which pixels are missing, boolean: `[H, W]`, or of x's shape for a mask of each channel.

    Returns:
        The image, of x's shape and dtype. Known pixels are as they were. The solution is exact to about 1e-5 of the
        range of the known pixels. Where every pixel is missing there is nothing to go by, and all become zero.
        Cost: about 20 to 60 iterations of stencils over the image, and no forward pass.

    Raises:
        ValueError: `x` is no image, or `missing` does not fit it.
        TypeError: `missing` is not boolean.

    Example:
        >>> linear_imputation(jnp.array([[0.0, 9.0, 1.0]]), jnp.array([[False, True, False]])).tolist()
        [[0.0, 0.5, 1.0]]

    Source: Rong et al. 2022, "A consistent and efficient evaluation strategy for attribution methods", section 5.1
    (equation 7) and its appendix on the weights.
    """
    image, hole = _image_and_mask(x, missing, "linear_imputation")
    wide = image.astype(wide_dtype(image.dtype))
    known = jnp.logical_not(hole)
    mean = jnp.where(known, wide, 0).sum((0, 1)) / jnp.maximum(known.sum((0, 1)), 1)
    centred = jnp.where(known, wide - mean[None, None], 0)
    filled = (_solved(centred, hole) + mean[None, None]).astype(image.dtype)
    return jnp.where(hole, filled, image).reshape(jnp.shape(x))


def _image_and_mask(x: Any, missing: Any, name: str) -> tuple[Array, Array]:
    """The image as `[H, W, C]` and the mask as `[H, W, 1]` or `[H, W, C]`."""
    shape = jnp.shape(x)
    if len(shape) not in (2, 3) or not check.is_floating(x):
        raise ValueError(f"{name}: `x` has {check.describe(x)}; it has to be an image [H, W, C] or [H, W] of floats.")
    if jnp.result_type(missing) != jnp.bool_:
        raise TypeError(
            f"{name}: `missing` has dtype {jnp.result_type(missing)}; it has to be boolean (True: missing)."
        )
    if jnp.shape(missing) not in (shape[:2], shape, (*shape[:2], 1)):
        raise ValueError(
            f"{name}: `missing` has shape {jnp.shape(missing)}, but `x` has {shape}. Pass one value for each pixel, "
            f"{shape[:2]}, or for each pixel and channel."
        )
    mask = jnp.asarray(missing).reshape(*shape[:2], -1)
    return jnp.asarray(x).reshape(*shape[:2], -1), mask


@jax.jit
def _solved(centred: Array, hole: Array) -> Array:
    """Solve for the pixels in the hole by preconditioned conjugate gradients; `centred` is zero there."""
    inside = hole.astype(centred.dtype)
    weight = _neighbours(jnp.ones_like(inside))  # the sum of the weights that lie inside the image
    coarse = _coarse_scales(_neighbours(1 - inside) * inside)
    right = _neighbours(centred) * inside
    bound = jnp.square(_TOLERANCE * jnp.abs(centred).max(initial=0))

    def unfinished(state: Any) -> Array:
        return (state[3].max() > bound) & (state[4] < _MOST_ITERATIONS)

    def iterate(state: Any) -> Any:
        value, residual, direction, energy, count = state
        image = (weight * direction - _neighbours(direction)) * inside
        curvature = (direction * image).sum((0, 1))
        length = _ratio(energy, curvature)[None, None]
        value, residual = value + length * direction, residual - length * image
        corrected = _preconditioned(residual, inside, weight, coarse)
        new = (residual * corrected).sum((0, 1))
        return value, residual, corrected + _ratio(new, energy)[None, None] * direction, new, count + 1

    first = _preconditioned(right, inside, weight, coarse)
    start = (jnp.zeros_like(centred), right, first, (right * first).sum((0, 1)), jnp.zeros((), jnp.int32))
    return lax.while_loop(unfinished, iterate, start)[0]


def _ratio(a: Array, b: Array) -> Array:
    """a / b, and 0 for a channel that is solved already."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)


def _framed(image: Array) -> Array:
    return jnp.pad(image, ((1, 1), (1, 1), (0, 0)))


def _neighbours(image: Array) -> Array:
    """The weighted sum of each pixel's neighbours, zero outside: the square stencil (1, 2, 1) x (1, 2, 1) / 12."""
    framed = _framed(image)
    rows = framed[:-2] + 2 * framed[1:-1] + framed[2:]
    square = rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]
    return (square - 4 * image) / 12


def _coarser(image: Array) -> Array:
    """Halve an image by the transpose of bilinear interpolation: the stencil (1, 3, 3, 1) x (1, 3, 3, 1) / 16."""
    framed = _framed(jnp.pad(image, ((0, image.shape[0] % 2), (0, image.shape[1] % 2), (0, 0))))
    rows = framed[:-3:2] + 3 * framed[1:-2:2] + 3 * framed[2:-1:2] + framed[3::2]
    return (rows[:, :-3:2] + 3 * rows[:, 1:-2:2] + 3 * rows[:, 2:-1:2] + rows[:, 3::2]) / 16


def _coarse_scales(ground: Array) -> list[Array]:
    """For each coarser grid, the inverse energy of its interpolation functions.

    A function spread over a hole has an energy of about one in two dimensions, whatever its size; each known pixel
    inside its reach adds the weights (`ground`) by which the missing pixels are tied to it.
    """
    scales = []
    while max(ground.shape[:2]) > 1:
        ground = _coarser(ground)
        scales.append(1 / (ground + 1))
    return scales


def _preconditioned(residual: Array, inside: Array, weight: Array, coarse: list[Array]) -> Array:
    """Add up what every grid says the error is: D_0^-1 r + sum_l P_l D_l^-1 P_l^T r, symmetric and positive."""
    levels = [residual]
    for _ in coarse:
        levels.append(_coarser(levels[-1]))
    total = jnp.zeros_like(levels[-1])
    for finer, here, scale in zip(levels[-2::-1], levels[:0:-1], coarse[::-1], strict=True):
        (total,) = jax.linear_transpose(_coarser, finer)(total + scale * here)
    return (residual / jnp.where(weight > 0, weight, 1) + total) * inside


class LinearImputation(Function):
    """Imputes given pixels and adds noise to them. Made by `noisy_linear_imputation`."""

    missing: Any
    sigma: Any

    @property
    def needs_key(self) -> bool:
        """Always: the noise is drawn from the key."""
        return True

    def __call__(self, key: Array, x: Pytree) -> Pytree:
        """The example with its missing pixels imputed, of x's structure and dtypes."""
        leaves, structure = jax.tree.flatten(x)
        masks = [self.missing] * len(leaves)
        if str(jax.tree.structure(self.missing)) == str(structure):
            masks = jax.tree.leaves(self.missing)
        filled = [
            imputed(jax.random.fold_in(key, index), leaf, mask, self.sigma) if check.is_floating(leaf) else leaf
            for index, (leaf, mask) in enumerate(zip(leaves, masks, strict=True))
        ]
        return jax.tree.unflatten(structure, filled)


@public
def imputed(key: Array, x: Arrays, missing: Arrays, sigma: float) -> Array:
    """`linear_imputation` with noise N(0, sigma^2) on the missing pixels: noisy linear imputation of one image."""
    filled = linear_imputation(x, missing)
    noise = sigma * jax.random.normal(key, filled.shape, wide_dtype(filled.dtype))
    hole = missing[..., None] if jnp.ndim(missing) < filled.ndim else missing
    return jnp.where(hole, (filled + noise).astype(filled.dtype), filled)


@public
def noisy_linear_imputation(missing: Arrays, *, sigma: Number = 0.01) -> LinearImputation:
    """The input with some of its pixels replaced by the mean of their neighbours and a little noise.

    b_i = sum_j w_ij b_j / sum_j w_ij + sigma z_i at the missing pixels, z ~ N(0, 1), b_i = x_i elsewhere; see
    `linear_imputation`. The pixels that were there can hardly be told from the result, so that a model is not shown
    images unlike those it was trained on, and where pixels are missing gives no hint of the class.

    Args:
        missing: Which pixels are missing, boolean: `[H, W]`, or of x's shape, or a pytree of x's structure. May be
            traced, for example under `vmap` over masks.
        sigma: Standard deviation of the noise, in units of the input; the source uses 0.01 for images in [0, 1].

    Returns:
        `b(key, x) -> baseline` of x's structure. Cost: as `linear_imputation`.

    Raises:
        ValueError: `sigma` is not one number of zero or more, or a mask that does not fit.
        TypeError: A mask that is not boolean.

    Example:
        >>> b = noisy_linear_imputation(jnp.array([[False, True, False]]), sigma=0.0)
        >>> b(jax.random.key(0), jnp.array([[0.0, 9.0, 1.0]])).tolist()
        [[0.0, 0.5, 1.0]]

    Source: Rong et al. 2022, "A consistent and efficient evaluation strategy for attribution methods", section 5.1.
    """
    name = "noisy_linear_imputation"
    if jnp.shape(sigma) != ():
        raise ValueError(f"{name}: `sigma` has shape {jnp.shape(sigma)}; pass one number, in units of the input.")
    for leaf in jax.tree.leaves(missing):
        if jnp.result_type(leaf) != jnp.bool_:
            raise TypeError(f"{name}: `missing` has dtype {jnp.result_type(leaf)}; it has to be boolean.")
    return LinearImputation(missing, check.positive(sigma, name, "sigma", zero=True))
