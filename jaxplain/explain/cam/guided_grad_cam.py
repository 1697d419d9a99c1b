"""Guided Grad-CAM: the fine detail of guided backpropagation where Grad-CAM is positive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from jaxplain.explain.backward import guided_backprop
from jaxplain.explain.cam.cam import grad_cam
from jaxplain.explain.cam.layer_map import Grid
from jaxplain.internals import masked_input
from jaxplain.program import Function, public, setting
from jaxplain.types import Pytree


class GuidedGradCam(Function):
    """The product of both. Made by `guided_grad_cam`."""

    explain: Any
    map: Any
    channel_axis: int = setting(default=-1)

    def __call__(self, x: Pytree, *args: Any) -> Pytree:
        """Explain one example: an attribution of x's structure and dtypes."""
        attribution = self.explain(x, *args)
        return masked_input(attribution, self.map(x, *args), self.channel_axis)


@public
def guided_grad_cam(
    f: Callable[..., Any],
    layer: str,
    *,
    grid: Grid = None,
    channel_axis: int = -1,
    batch_axis: int | Literal["auto"] | None = "auto",
) -> GuidedGradCam:
    """Guided backpropagation times Grad-CAM, interpolated to the input: a = guided * ReLU(sum_k w_k A_k).

    Args:
        f: As in `guided_backprop`.
        layer: As in `grad_cam`.
        grid: As in `grad_cam`.
        channel_axis: As in `grad_cam`.
        batch_axis: As in `split`.

    Returns:
        `e(x, *args) -> attribution` of x's structure and dtypes, of token ids a number each, as of both methods; leaves
        that do not have the map's axes keep guided backpropagation's. Cost: two forward and two backward passes.

    Raises:
        ValueError: As in `guided_backprop` (a function without ReLUs) and `grad_cam`.
        TypeError: As in `grad_cam`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("features"):
        ...         h = jax.nn.relu(x)
        ...     return h.sum()
        >>> guided_grad_cam(f, "features")(jnp.array([[[2.0], [-1.0]]])).tolist()
        [[[2.0], [0.0]]]

    Source: Selvaraju et al. 2017, "Grad-CAM", section 3.2.
    """
    cam = grad_cam(f, layer, grid=grid, channel_axis=channel_axis, batch_axis=batch_axis)
    return GuidedGradCam(guided_backprop(f), cam, channel_axis)
