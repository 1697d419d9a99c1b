"""Class activation maps along a principal direction of a layer: EigenCAM and Eigen-Grad-CAM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxplain.explain.cam.layer_map import Grid, LayerMap, Resize, layer_map
from jaxplain.internals import Places
from jaxplain.program import public, widen
from jaxplain.types import Array, Pytree


class EigenMap(LayerMap):
    """A layer's values, or their products with gradients, on their first principal direction."""

    def signed(self, h: Array, where: Places, x: Pytree, *args: Any) -> Array:
        """The signed map at the layer's own size."""
        values = where.arrange(widen(h))
        if self.name == "eigen_grad_cam":
            values = values * self.slopes(h, where, x, *args)
        projected = values @ leading_direction(values.reshape(-1, values.shape[-1]))
        largest = projected.reshape(-1)[jnp.argmax(jnp.abs(projected))]
        return jnp.where(largest < 0, -projected, projected)


@jax.custom_jvp
def leading_direction(matrix: Array) -> Array:
    """The first right singular vector `[C]` of a matrix `[P, C]`, of either sign.

    Its derivative exists where the first two singular values differ, whatever the others are (the derivative of a whole
    decomposition is not finite where any two agree, as they do for every channel that is silent).
    """
    return jnp.linalg.svd(matrix, full_matrices=False)[2][0]


@leading_direction.defjvp
def _derivative(primals: tuple[Any], tangents: tuple[Any]) -> tuple[Array, Array]:
    (matrix,), (change,) = primals, tangents
    v = leading_direction(matrix)
    image = matrix @ v
    value = jnp.dot(image, image)
    # M v = value v for M = matrix' matrix; so (value - M) dv = dM v - (v' dM v) v, with dv orthogonal to v.
    right = change.T @ image + matrix.T @ (change @ v)
    right = right - jnp.dot(v, right) * v
    left = value * (jnp.eye(v.size, dtype=v.dtype) + v[:, None] * v[None, :]) - matrix.T @ matrix
    return v, jnp.linalg.solve(left, right)


@public
def eigen_cam(
    f: Callable[..., Any],
    layer: str,
    *,
    relu: bool = True,
    resize: Resize = True,
    normalize: bool = False,
    grid: Grid = None,
    channel_axis: int = -1,
    batch_axis: int | Literal["auto"] | None = "auto",
) -> LayerMap:
    """The layer projected on its first principal direction, whatever the class: L = ReLU(O v).

    O `[places, C]` are the layer's values and v is their first right singular vector; as in the source, O is not
    centred. The sign, which a decomposition leaves open, is that for which the map's value of largest magnitude is
    positive. Where the first two singular values agree, v is not determined.

    Args:
        f: As in `grad_cam`; only its layer matters.
        layer: As in `grad_cam`.
        relu: As in `grad_cam`.
        resize: As in `grad_cam`.
        normalize: As in `grad_cam`.
        grid: As in `grad_cam`.
        channel_axis: As in `grad_cam`.
        batch_axis: As in `split`.

    Returns:
        As `grad_cam`, in units of the layer. Cost: the forward pass up to the layer, and a decomposition.

    Raises:
        ValueError, TypeError: As in `grad_cam`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("features"):
        ...         h = x * jnp.array([[[3.0, 4.0]]])
        ...     return h.sum()
        >>> [round(float(v), 4) for v in eigen_cam(f, "features")(jnp.array([[[1.0], [2.0]]]))[0]]
        [5.0, 10.0]

    Source: Muhammad and Yeasin 2020, "Eigen-CAM: class activation map using principal components", section III.
    """
    return layer_map(EigenMap, "eigen_cam", f, layer, relu, resize, normalize, grid, channel_axis, batch_axis)


@public
def eigen_grad_cam(
    f: Callable[..., Any],
    layer: str,
    *,
    relu: bool = True,
    resize: Resize = True,
    normalize: bool = False,
    grid: Grid = None,
    channel_axis: int = -1,
    batch_axis: int | Literal["auto"] | None = "auto",
) -> LayerMap:
    """EigenCAM of the layer times its gradient, which depends on the class: L = ReLU(O v), O = A * df/dA.

    v is the first right singular vector of O `[places, C]`, and the sign is as in `eigen_cam`: the map shows where the
    class's evidence varies most, and its sign does not tell evidence for from evidence against (`hires_cam` does).

    Args:
        f: As in `grad_cam`.
        layer: As in `grad_cam`.
        relu: As in `grad_cam`.
        resize: As in `grad_cam`.
        normalize: As in `grad_cam`.
        grid: As in `grad_cam`.
        channel_axis: As in `grad_cam`.
        batch_axis: As in `split`.

    Returns:
        As `grad_cam`. Cost: as `grad_cam`, and a decomposition.

    Raises:
        ValueError, TypeError: As in `grad_cam`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("features"):
        ...         h = x * jnp.array([[[3.0, 4.0]]])
        ...     return h[0, 0].sum()
        >>> [round(float(v), 4) for v in eigen_grad_cam(f, "features")(jnp.array([[[1.0], [2.0]]]))[0]]
        [5.0, 0.0]

    Source: Gildenblat et al. 2021, the library pytorch-grad-cam, which names it; the projection is that of Muhammad and
    Yeasin 2020, section III.
    """
    return layer_map(EigenMap, "eigen_grad_cam", f, layer, relu, resize, normalize, grid, channel_axis, batch_axis)
