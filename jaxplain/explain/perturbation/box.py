"""Where a search for another input may go: between bounds, and where a mask lets it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.types import is_concrete


def check_box(low: Any, high: Any, mask: Any, name: str) -> None:
    """Require that bounds, where there are any, are finite and in order, and that a mask's values lie in [0, 1]."""
    for value, argument in ((low, "low"), (high, "high")):
        if value is not None:
            check.finite(value, name, argument)
    if low is not None and high is not None and is_concrete(low) and is_concrete(high):
        check.positive(jnp.asarray(high) - jnp.asarray(low), name, "high - low")
    check.finite(mask, name, "mask")
    for leaf in jax.tree.leaves(mask):
        if is_concrete(leaf) and not ((np.asarray(leaf) >= 0) & (np.asarray(leaf) <= 1)).all():
            raise ValueError(f"{name}: `mask` holds values outside of [0, 1] (0: held, 1: may move).")
