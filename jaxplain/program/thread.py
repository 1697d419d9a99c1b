"""Work in another thread, under the settings of JAX that its caller has made for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax

SETTINGS: dict[str, Callable[[Any], contextlib.AbstractContextManager[Any]]] = {
    "jax_enable_x64": jax.enable_x64,
    "jax_default_device": jax.default_device,
    "jax_default_matmul_precision": jax.default_matmul_precision,
    "jax_numpy_dtype_promotion": jax.numpy_dtype_promotion,
    "jax_numpy_rank_promotion": jax.numpy_rank_promotion,
}
"""What a `with` block sets for its own thread alone, by the name of the flag."""


def as_called(act: Callable[[], None]) -> Callable[[], None]:
    """`act`, to be run in another thread as it would run here and now: with 64 bits, a device, a precision."""
    given = {name: getattr(jax.config, name) for name in SETTINGS if hasattr(jax.config, name)}

    def run() -> None:
        with contextlib.ExitStack() as stack:
            for name, value in given.items():
                stack.enter_context(SETTINGS[name](value))
            act()

    return run
