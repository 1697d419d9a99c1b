"""On which platform a call will run, as far as that is known while it is traced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax


def platform_of(leaves: Sequence[Any]) -> str:
    """The platform on which a call with these arguments would run, as far as is known while tracing."""
    for leaf in leaves:
        if isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.committed:
            return str(next(iter(leaf.devices())).platform)
    device = getattr(jax.config, "jax_default_device", None)
    if device is None:
        return jax.default_backend()
    return str(getattr(device, "platform", device))
