"""Training the translators of a tuned lens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxplain import check
from jaxplain.explain import language
from jaxplain.program import Function, public
from jaxplain.train.fit import fit
from jaxplain.types import Array, Arrays


class _Divergences(Function):
    """The divergences of a lens, as a model of its translators: `(translators, rows) -> [B, L]`."""

    read: Any

    def __call__(self, params: Any, rows: Any) -> Array:
        return jax.vmap(lambda row: self.read.divergences(params, row))(rows)


def _sum(outputs: Array, target: Array) -> Array:
    """The loss of one example: what is left to the model, over its layers."""
    return outputs.sum() + 0 * target.sum()


@public
def tuned_lens(
    f: Callable[..., Any],
    paths: Any,
    rows: Arrays,
    *,
    key: Array,
    optimizer: optax.GradientTransformation | None = None,
    epochs: int = 10,
    batch_size: int = 32,
) -> dict[str, Any]:
    """Train the translators of `jaxplain.language.lens(f, paths, "tuned")`.

    For each layer but the last an affine map h + h W + b, starting from the identity, that minimises the divergence
    KL(model || lens) at all positions; the model itself stays as it is.

    Args:
        f: As in `lens`, of one example, with logits `[..., K]`.
        paths: As in `lens`.
        rows: Examples `[N, ...]`.
        key: Of the order of examples.
        optimizer: An optax transformation; None is `optax.adam(1e-3)`.
        epochs: Passes over the rows.
        batch_size: Examples in a step.

    Returns:
        Translators, `{path: {"weight": [D, D], "bias": [D]}}`. Cost: a forward and a backward pass for each example
        and epoch, and what follows the last layer for each layer.

    Raises:
        ValueError, TypeError: As in `lens` and `fit`.

    Source: Belrose et al. 2023, "Eliciting latent predictions from transformers with the tuned lens", equation 4.
    """
    read = language.lens(f, paths)
    count = check.batch_length(rows, "tuned_lens", "rows")
    start = read.start(jax.tree.map(lambda leaf: leaf[0], rows))
    if not start:
        raise ValueError(f"tuned_lens: {paths!r} is one layer, the last, which needs no translator.")
    done = fit(
        _Divergences(read),
        start,
        (rows, jnp.zeros((count, 1))),
        key=key,
        loss=_sum,
        optimizer=optax.adam(1e-3) if optimizer is None else optimizer,
        epochs=epochs,
        batch_size=batch_size,
        progress=False,
    )
    return dict(done.params)
