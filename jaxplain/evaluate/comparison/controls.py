"""Control explanations: what knows the input but not the model, or has lost the details, to read methods beside."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline import blur
from jaxplain.program import Function, needs_key, public, setting, wide_dtype
from jaxplain.types import Array, Pytree


class InputItself(Function):
    """The input as its own explanation: a = x, zeros at integer leaves."""

    def __call__(self, x: Pytree, *args: Any) -> Pytree:
        """Explain one example."""
        return jax.tree.map(lambda leaf: leaf if check.is_floating(leaf) else jnp.zeros(jnp.shape(leaf)), x)


class Edges(Function):
    """An edge detector on each channel of an image, edges repeated at the border. Made by `edge_attribution`."""

    kind: str = setting(default="sobel")

    def __call__(self, x: Array, *args: Any) -> Array:
        """Explain one image `[H, W, C]`."""
        check.arrays(x, "edge_attribution")
        if not hasattr(x, "dtype"):
            raise TypeError(f"edge_attribution: `x` has to be one array, an image [H, W, C], not {check.short(x)}.")
        check.real(x, "edge_attribution", "x")
        if jnp.ndim(x) != 3:
            raise ValueError(f"edge_attribution: `x` has shape {jnp.shape(x)}; edges are those of an image [H, W, C].")
        image = jnp.pad(jnp.asarray(x).astype(wide_dtype(jnp.result_type(x))), ((1, 1), (1, 1), (0, 0)), mode="edge")
        edges = self._sobel(image) if self.kind == "sobel" else self._laplace(image)
        return edges.astype(jnp.result_type(x))

    @staticmethod
    def _laplace(image: Array) -> Array:
        """The second derivative: the four neighbours less four times the middle."""
        around = image[2:, 1:-1] + image[:-2, 1:-1] + image[1:-1, 2:] + image[1:-1, :-2]
        return around - 4 * image[1:-1, 1:-1]

    @staticmethod
    def _sobel(image: Array) -> Array:
        """The size of the gradient."""
        across = image[:, 2:] - image[:, :-2]
        down = image[2:] - image[:-2]
        horizontal = across[:-2] + 2 * across[1:-1] + across[2:]
        vertical = down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]
        return jnp.sqrt(jnp.square(horizontal) + jnp.square(vertical))


@public
def edge_attribution(kind: str = "sobel") -> Edges:
    """An edge detector in place of an explanation: what a map gets that knows the input and not the model.

    Args:
        kind: "sobel", the size of the gradient by Sobel's filters, sqrt(g_x^2 + g_y^2); or "laplace", the sum of a
            pixel's four neighbours less four times itself (signed).

    Returns:
        `e(x, *args) -> edges` of an image `[H, W, C]`, each channel by itself, edges repeated at the border. The
        `args` are not looked at. Cost: no pass through a model.

    Raises:
        ValueError: Another kind; an input that is no image.

    Example:
        >>> import jax.numpy as jnp
        >>> edge_attribution("laplace")(jnp.zeros((3, 3, 1)).at[1, 1].set(1.0))[1].ravel().tolist()
        [1.0, -4.0, 1.0]

    Source: Adebayo et al. 2018, "Sanity checks for saliency maps", section 5, show edges beside explanations; as
    baselines of a benchmark in Clark, Wilming and Haufe 2024, "XAI-TRIS".
    """
    return Edges(check.choice(kind, ("sobel", "laplace"), "edge_attribution", "kind"))


class Blurred(Function):
    """An explanation blurred by a Gaussian, which keeps where it lies and loses its details."""

    explain: Any
    sigma: Any

    @property
    def needs_key(self) -> bool:
        """Whether the explanation is random."""
        return needs_key(self.explain)

    def __call__(self, *inputs: Any) -> Array:
        """Explain one image."""
        return blur(self.sigma)(self.explain(*inputs))
