"""Names of a pytree's leaves, in files and messages."""

from __future__ import annotations

from typing import Any

import jax

from jaxplain.types import Pytree


def leaves_by_parts(tree: Pytree) -> dict[tuple[str, ...], Any]:
    """Leaves by the names on their way; the `value` that NNX puts under each variable is left out."""
    named = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        parts = tuple(_name(part) for part in path)
        named[parts[:-1] if len(parts) > 1 and parts[-1] == "value" else parts] = leaf
    return named


def leaves_by_path(tree: Pytree) -> dict[str, Any]:
    """Leaves by their path, joined by "/"."""
    return {"/".join(parts): leaf for parts, leaf in leaves_by_parts(tree).items()}


def _name(part: Any) -> str:
    for field in ("key", "idx", "name"):
        if hasattr(part, field):
            return str(getattr(part, field))
    return str(part)
