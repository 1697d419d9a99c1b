"""Which attentions of a model run as one fused operation, and why others do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxplain.program import Function, as_function, html_table, public, setting
from jaxplain.program.fast import CUDNN, Row, attention_rows, implementation, platform_of
from jaxplain.program.trace import look, owner_path, scopes
from jaxplain.types import Pytree


class FusedAttention(NamedTuple):
    """One attention of a model.

    path: the module or scope that it belongs to; heads, queries, keys, features: its sizes for one example (0 where
    they are not known); dtype: of its output; fused: whether it runs as one operation; reason: why not.
    """

    path: str
    heads: int
    queries: int
    keys: int
    features: int
    dtype: str
    fused: bool
    reason: str = ""


class AttentionTable(tuple[FusedAttention, ...]):
    """Attentions in the order in which the model runs; printed, a table."""

    __slots__ = ()

    def __str__(self) -> str:
        """The table as text."""
        rows = [FusedAttention._fields, *(tuple(map(str, row)) for row in self)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return html_table(FusedAttention._fields, self)


class FusedAttentions(Function):
    """Lists the attentions of a function: `(x, *args) -> AttentionTable`. Made by `fused_attentions`."""

    f: Any
    platform: str | None = setting(default=None)

    def __call__(self, x: Pytree, *args: Any) -> AttentionTable:
        """The attentions that a call meets, and what becomes of them."""
        here = platform_of(jax.tree.leaves((self.f, x, args)))
        platform = self.platform or here
        how = implementation(platform)
        program = look(self.f, (x, *args), "fused_attentions").program
        rows = attention_rows(program, how or CUDNN, how is not None and platform == here)
        kept = "" if how is not None else f"on the platform {platform!r} attentions stay as they are written"
        return AttentionTable(_row(row, kept) for row in rows)


def _row(row: Row, kept: str) -> FusedAttention:
    sizes = row.sizes or dict.fromkeys(("heads", "shared", "rows", "keys", "depth"), 0)
    reason = kept or row.reason or ""
    return FusedAttention(
        owner_path(row.stack) or "/".join(scopes(row.stack)),
        sizes["heads"] * sizes["shared"],
        sizes["rows"],
        sizes["keys"],
        sizes["depth"],
        row.dtype,
        not reason,
        reason,
    )


@public
def fused_attentions(f: Callable[..., Any], *, platform: str | None = None) -> FusedAttentions:
    """List the attentions of a model: which run as one fused operation, and why the others do not.

    An attention is softmax(c Q K^T + B) V, found by what it computes, whoever wrote it: in any order of axes, with a
    scale, a bias, masks (a choice of a large negative number, below -9,999, or an addition of one), grouped queries,
    inside loops. On a GPU `explain_batch`, `explain_dataset` and whatever takes a gradient under `jax.jit` compute it
    by cuDNN, in bfloat16 and float16, forwards and backwards. Any derivative by `jvp`, and any beyond the first, is
    that of the attention as it is written; so is everything that looks inside (`capture`, `intervene`, `lrp`,
    `deep_lift`). Outputs and gradients agree to the dtype's rounding with those of the plain form in float32. On other
    platforms nothing changes: there the backend gains nothing by it.

    It stays as it is where its weights or scores are read by anything else or changed (dropout), where its queries,
    keys, values and weights differ in dtype, and where cuDNN does not take it: other dtypes, heads of more than 128
    features or no multiple of 8, odd lengths with a bias or a mask, a bias of more digits than the queries. The GPU
    also tries each once on random numbers. `with jaxplain.program.trace.attention_context("off"):` leaves all as they
    are.

    Args:
        f: A score or any function `f(x, *args)` that JAX can trace.
        platform: 'gpu' to ask what would run there; None for the platform on which a call would run.

    Returns:
        `(x, *args) -> tuple of rows` (`path`, `heads`, `queries`, `keys`, `features`, `dtype`, `fused`, `reason`), in
        the order in which the model runs; printed, a table. Cost: tracing; where attentions are fused, a trial of each.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):  # [T, D]
        ...     with jax.named_scope("attention"):
        ...         return (jax.nn.softmax(x @ x.T / 4) @ x).sum()
        >>> row = fused_attentions(f, platform="gpu")(jnp.ones((6, 16), jnp.bfloat16))[0]
        >>> row.path, row.queries, row.keys, row.features, row.fused
        ('attention', 6, 6, 16, True)
        >>> fused_attentions(f, platform="gpu")(jnp.ones((6, 16)))[0].reason
        'cuDNN takes bfloat16 and float16, and not float32'

    Source: Vaswani et al. 2017, "Attention is all you need", equation 1; Dao et al. 2022, "FlashAttention".
    """
    return FusedAttentions(as_function(f), platform)
