"""What the families of networks share: activations, and the checks of settings and images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax

from jaxplain import check
from jaxplain.types import Array

Activation = Literal["relu", "gelu"]
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {"relu": jax.nn.relu, "gelu": jax.nn.gelu}


def need_images(x: Array, name: str, multiple: int) -> None:
    """Require `[B, H, W, C]` with sides that a network can halve, or cut into patches, so often."""
    if x.ndim != 4:
        raise ValueError(f"{name}: x has shape {x.shape}; images are [B, H, W, C] (grey ones with C = 1).")
    if min(x.shape[1:3]) < multiple or (name == "transformer" and (x.shape[1] % multiple or x.shape[2] % multiple)):
        what = "sides that are multiples of the patch" if name == "transformer" else "sides of at least 2 per pooling"
        raise ValueError(f"{name}: images of {x.shape[1]}x{x.shape[2]} pixels do not fit; {what} ({multiple}) do.")


def check_settings(name: str, activation: str, dropout: float, **sizes: Any) -> None:
    """Require positive sizes, a known activation and a share of dropout."""
    for argument, size in sizes.items():
        for value in size if isinstance(size, Sequence) else (size,):
            check.count(value, name, argument)
        if isinstance(size, Sequence) and not size:
            raise ValueError(f"{name}: `{argument}` is empty; give at least one width.")
    check.choice(activation, tuple(ACTIVATIONS), name, "activation")
    if not 0 <= dropout < 1:
        raise ValueError(f"{name}: `dropout` has to lie in [0, 1), not {dropout}.")
