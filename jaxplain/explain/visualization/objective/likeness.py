"""Objectives that compare a layer with that of a given input: inversion, caricature, style."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.explain.visualization.objective.algebra import Objective
from jaxplain.explain.visualization.objective.layer import Direction, OnLayer, reading
from jaxplain.program import public, setting
from jaxplain.types import Array, Arrays, Pytree


class Inversion(OnLayer):
    """How close a layer is to a given value. Made by `inversion`."""

    target: Any = None

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """Minus the relative squared distance."""
        h = self.read(x, *args)
        return -jnp.sum(jnp.square(h - self.target)) / (jnp.sum(jnp.square(self.target)) + 1e-12)


@public
def inversion(f: Callable[..., Any], path: str, x: Arrays, *args: Any) -> Inversion:
    """How close a layer comes to its value for a given input: -|h - h(x)|^2 / |h(x)|^2.

    Args:
        f: As in `channel`.
        path: As in `channel`.
        x: The input whose layer is to be met.
        *args: Further arguments of `f` for that input.

    Returns:
        An objective, 0 at best. Cost: as `channel`; one forward pass when made.

    Raises:
        ValueError: As in `channel`; NaN in a concrete `x`.

    Example:
        >>> import jax
        >>> def f(x):
        ...     with jax.named_scope("double"):
        ...         y = 2 * x
        ...     return y.sum()
        >>> float(inversion(f, "double", jnp.array([1.0, 0.0]))(jnp.array([2.0, 0.0])))
        -1.0

    Source: Mahendran and Vedaldi 2015, "Understanding deep image representations by inverting them", equation 2.
    """
    return Inversion(*_target(f, path, x, args, "inversion"))


@public
def caricature(f: Callable[..., Any], path: str, x: Arrays, *args: Any, power: float = 1.0) -> Direction:
    """A layer pushed further in its own direction: the mean over positions of <h, h(x)> max(cos, 0.1)^power.

    Args:
        f: As in `channel`.
        path: As in `channel`.
        x: The input that is exaggerated.
        *args: Further arguments of `f` for that input.
        power: Exponent of the cosine, zero or more.

    Returns:
        An objective. Cost: as `channel`; one forward pass when made.

    Raises:
        ValueError: As in `channel`; NaN in a concrete `x`, a negative power.

    Example:
        >>> import jax
        >>> def f(x):
        ...     with jax.named_scope("double"):
        ...         y = 2 * x
        ...     return y.sum()
        >>> float(caricature(f, "double", jnp.array([1.0, 0.0]))(jnp.array([3.0, 0.0])))
        12.0

    Source: Olah et al. 2018, "The building blocks of interpretability", caricatures (Lucid).
    """
    check.positive(power, "caricature", "power", zero=True)
    read, kind, target = _target(f, path, x, args, "caricature")
    return Direction(read, kind, target, power)


class Style(Objective):
    """How close the correlations of channels are to given ones. Made by `style`."""

    reads: tuple[Any, ...]
    targets: tuple[Any, ...]
    kind: str = setting(default="style")

    def __call__(self, x: Pytree, *args: Any) -> Array:
        """Minus the mean relative squared distance of the Gram matrices."""
        distances = [
            jnp.sum(jnp.square(gram(read(x, *args)) - target)) / (jnp.sum(jnp.square(target)) + 1e-12)
            for read, target in zip(self.reads, self.targets, strict=True)
        ]
        return -jnp.mean(jnp.stack(distances))


@public
def style(f: Callable[..., Any], paths: str | Sequence[str], x: Arrays, *args: Any) -> Style:
    """How close the correlations between channels come to those of a given input, wherever things are.

    -mean over layers of |G - G(x)|^2 / |G(x)|^2, with G = h^T h / positions, the Gram matrix of the channels.

    Args:
        f: As in `channel`.
        paths: One layer or several.
        x: The input whose style is to be met; of any size that `f` takes.
        *args: Further arguments of `f` for that input.

    Returns:
        An objective, 0 at best. Cost: as `channel`; one forward pass for each layer when made.

    Raises:
        ValueError: As in `channel`; no layers, NaN in a concrete `x`.

    Example:
        >>> import jax
        >>> def f(x):
        ...     with jax.named_scope("double"):
        ...         y = 2 * x
        ...     return y.sum()
        >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0]])
        >>> abs(float(style(f, "double", x)(x[::-1])))
        0.0

    Source: Gatys, Ecker and Bethge 2016, "Image style transfer using convolutional neural networks", equations 3 to 5.
    """
    names = (paths,) if isinstance(paths, str) else tuple(paths)
    if not names:
        raise ValueError("style: `paths` is empty; name at least one layer.")
    found = [_target(f, path, x, args, "style") for path in names]
    return Style(tuple(read for read, _, _ in found), tuple(gram(target) for _, _, target in found))


def gram(h: Array) -> Array:
    """The mean over positions of the products of channels, `[C, C]`."""
    flat = h.reshape(-1, h.shape[-1])
    return flat.T @ flat / flat.shape[0]


def _target(f: Callable[..., Any], path: str, x: Pytree, args: tuple[Any, ...], kind: str) -> tuple[Any, str, Array]:
    check.finite(x, kind)
    read = reading(f, path, kind)
    return read, kind, lax.stop_gradient(read(x, *args))
