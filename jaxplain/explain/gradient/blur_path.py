"""Blur integrated gradients: a path on which an image comes into focus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline import blur
from jaxplain.program import (
    RULES,
    Function,
    as_function,
    chunked_sum,
    common_dtype,
    like,
    public,
    quadrature,
    setting,
    value_and_gradient,
    wide_dtype,
)
from jaxplain.types import Array, Pytree


class BlurIntegratedGradients(Function):
    """Integrated gradients from blurred to sharp. Made by `blur_integrated_gradients`."""

    score: Any
    sigma: Any
    axes: tuple[int, ...] = setting(default=(0, 1))
    steps: int = setting(default=50)
    rule: str = setting(default="gauss_legendre")
    batch_size: int | None = setting(default=None, points=True)
    name: str = setting(default="blur_integrated_gradients")
    counted: ClassVar[str] = "steps"

    def __call__(self, x: Pytree, *args: Any) -> Pytree:
        """Explain one example: an attribution of x's structure and dtypes."""
        check.differentiable(x, self.name)
        check.finite(x, self.name)
        check.finite_score(self.score, x, args, self.name)
        leaves, structure = jax.tree.flatten(x)
        moving = [check.is_floating(leaf) for leaf in leaves]
        wide = [jnp.asarray(leaf).astype(wide_dtype(jnp.result_type(leaf))) for leaf in leaves]
        nodes, weights = (jnp.asarray(part, common_dtype(x)) for part in quadrature(self.rule, self.steps))

        def blurred(width: Array) -> list[Array]:
            whole = [value for value, move in zip(wide, moving, strict=True) if move]
            return jax.tree.leaves(blur(width, axes=self.axes)(whole))

        def term(node: tuple[Array, Array]) -> list[Array]:
            width = jnp.maximum((1 - node[0]) * self.sigma, 1e-3)  # narrower Gaussians change nothing
            values, drift = jax.jvp(blurred, (width,), (-self.sigma * node[1],))
            supply = iter(values)
            pairs = zip(leaves, moving, strict=True)
            point = [next(supply).astype(jnp.result_type(leaf)) if move else leaf for leaf, move in pairs]
            _, gradients = value_and_gradient(self.score, jax.tree.unflatten(structure, point), *args, name=self.name)
            slopes = [g for g, move in zip(jax.tree.leaves(gradients), moving, strict=True) if move]
            return [slope.astype(d.dtype) * d for slope, d in zip(slopes, drift, strict=True)]

        parts = chunked_sum(term, (nodes, weights), self.batch_size)
        for part in parts:
            check.finite_scores(part, self.name)
        sums = iter(parts)
        merged = [
            next(sums) if move else jnp.zeros(jnp.shape(leaf), jnp.float32)
            for leaf, move in zip(leaves, moving, strict=True)
        ]
        return like(jax.tree.unflatten(structure, merged), x)


@public
def blur_integrated_gradients(
    f: Callable[..., Any],
    *,
    sigma: float,
    axes: tuple[int, ...] = (0, 1),
    steps: int = 50,
    rule: str = "gauss_legendre",
    batch_size: int | None = None,
) -> BlurIntegratedGradients:
    """Integrate the gradient on the path on which a blurred image comes into focus.

    a_i = integral over t in [0, 1] of df/dx_i(z(t)) dz_i/dt, z(t) the input blurred by a Gaussian of width
    (1 - t) sigma, so that sum_i a_i = f(x) - f(x blurred by sigma). No baseline has to be chosen, and no features
    appear on the way that are not in the image. The path's velocity is differentiated exactly, not by differences.

    Args:
        f: A score, `f(x, *args) -> scalar`.
        sigma: Width of the Gaussian that the path starts from, in pixels (the source uses 50 for 224 x 224).
        axes: The axes that are blurred, counted from the front, as in `baseline.blur`: (0, 1) for `[H, W, C]`, (0,) for
            a signal.
        steps: Number of gradients.
        rule: The quadrature, as in `integrated_gradients`.
        batch_size: How many points of the path are evaluated at once; memory grows with it and not with `steps`. None
            takes what fills the device in `explain_batch` and `explain_dataset`, and 1 elsewhere.

    Returns:
        `e(x, *args) -> attribution` of x's structure and dtypes, in units of the score; integer and boolean leaves are
        held fixed and get zeros. Cost: `steps` forward and backward passes and blurs.

    Raises:
        ValueError: `sigma` is not one positive number, axes that `x` lacks, an unknown rule, `steps` below 1, NaN in a
            concrete `x`.
        TypeError: `x` has no floating-point leaf.

    Example:
        >>> x = jnp.array([0.0, 1.0, 0.0, 0.0])
        >>> a = blur_integrated_gradients(lambda x: x[1] ** 2, sigma=2.0, axes=(0,), steps=20)(x)
        >>> bool(abs(a.sum() - (1 - blur(2.0, axes=(0,))(x)[1] ** 2)) < 1e-3)
        True

    Source: Xu, Venugopalan and Sundararajan 2020, "Attribution in scale and space", equation 5.
    """
    name = "blur_integrated_gradients"
    check.one_number(sigma, name, "sigma")
    blur(1.0, axes=axes)
    check.choice(rule, RULES, name, "rule")
    steps = check.count(steps, name, "steps", least=2 if rule == "trapezoid" else 1)
    score = as_function(check.callable_score(f, name))
    return BlurIntegratedGradients(score, sigma, tuple(axes), steps, rule, check.at_once(batch_size, name))
