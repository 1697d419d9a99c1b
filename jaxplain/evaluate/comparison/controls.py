"""Control explanations: what knows the input but not the model, or has lost the details, to read methods beside."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline import blur
from jaxplain.program import Function, needs_key, wide_dtype
from jaxplain.types import Array, Pytree


class InputItself(Function):
    """The input as its own explanation: a = x, zeros at integer leaves."""

    def __call__(self, x: Pytree, *args: Any) -> Pytree:
        """Explain one example."""
        return jax.tree.map(lambda leaf: leaf if check.is_floating(leaf) else jnp.zeros(jnp.shape(leaf)), x)


class Edges(Function):
    """An edge detector: the size of Sobel's gradient of each channel of an image, edges repeated at the border."""

    def __call__(self, x: Array, *args: Any) -> Array:
        """Explain one image `[H, W, C]`."""
        image = jnp.pad(jnp.asarray(x).astype(wide_dtype(jnp.result_type(x))), ((1, 1), (1, 1), (0, 0)), mode="edge")
        across = image[:, 2:] - image[:, :-2]
        down = image[2:] - image[:-2]
        horizontal = across[:-2] + 2 * across[1:-1] + across[2:]
        vertical = down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]
        return jnp.sqrt(jnp.square(horizontal) + jnp.square(vertical)).astype(jnp.result_type(x))


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
