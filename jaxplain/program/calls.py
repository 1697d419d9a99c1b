"""What drivers let the parts of a function look at before it runs: they see the values of whole batches."""

from __future__ import annotations

from typing import Any

import jax

from jaxplain import check
from jaxplain.program.function import Function
from jaxplain.types import Pytree


def check_calls(e: Any, x: Pytree, args: tuple[Any, ...]) -> None:
    """Let every score and baseline inside an explanation or metric look at the concrete arguments it will be given."""
    if not isinstance(e, Function):
        return
    look = getattr(e, "check_call", None)
    if look is not None and all(check.is_concrete(leaf) for leaf in jax.tree.leaves((x, args))):
        look(x, *args)
    for inner in ("score", "explain", "baseline"):
        check_calls(getattr(e, inner, None), x, args)
