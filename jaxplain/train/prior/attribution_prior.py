"""Priors on the form of attributions: smooth over neighbouring places, or of few features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.program import public, setting
from jaxplain.train.prior.penalty import Penalty, common
from jaxplain.types import Array, Number, Pytree

FORMS = ("smoothness", "sparsity")


class _AttributionPrior(Penalty):
    """A number of the attribution's form. Made by `attribution_prior`."""

    form: str = setting(default="smoothness")
    axes: tuple[int, ...] | None = setting(default=None)

    def value(self, params: Pytree, x: Pytree, target: Pytree, key: Array, inputs: tuple[Any, ...]) -> Array:
        a = self.attribution(params, x, target, key, inputs)
        counted = self.explained(a, params, x, target, key, inputs)
        leaves = [leaf for leaf, counts in zip(jax.tree.leaves(a), counted, strict=True) if counts]
        if self.form == "sparsity":
            return -_gini(jnp.concatenate([leaf.reshape(-1) for leaf in leaves]))
        parts = [self._variation(leaf) for leaf in leaves]
        return sum(parts[1:], parts[0])

    def _variation(self, a: Array) -> Array:
        axes = tuple(range(max(a.ndim - 1, 1))) if self.axes is None else self.axes
        if not a.ndim or any(not -a.ndim <= axis < a.ndim for axis in axes):
            raise ValueError(
                f"{self.name}: `axes` are {axes}, but the explanation of one example has shape {a.shape}; pass the "
                "axes along which neighbours lie, such as (0, 1) of an image."
            )
        parts = [jnp.sum(jnp.abs(jnp.diff(a, axis=axis))) for axis in axes]
        return sum(parts[1:], parts[0])


def _gini(values: Array) -> Array:
    """The Gini index of absolute values; 0 where all are zero."""
    size = jnp.sort(jnp.abs(values))
    total = jnp.sum(size)
    order = (2 * jnp.arange(1, size.size + 1, dtype=size.dtype) - size.size - 1) / size.size
    return jnp.sum(order * size) / jnp.where(total > 0, total, 1)


@public
def attribution_prior(
    method: Callable[..., Any],
    form: str = "smoothness",
    *,
    axes: tuple[int, ...] | None = None,
    weight: Number = 1.0,
    smooth: float | None = None,
    label: Callable[[Any], Any] | None = None,
) -> Penalty:
    """Ask attributions of one example to be smooth or sparse.

    "smoothness" is their total variation, sum |a_(i+1) - a_i| along each axis; "sparsity" is minus the Gini index of
    their absolute values. The source takes the latter of the mean over a batch; here it is of each example, so that a
    result does not depend on how examples are batched.

    Args:
        method: As in `right_for_the_right_reasons`; the source's is `expected_gradients` with `samples=1`.
        form: "smoothness" or "sparsity".
        axes: Along which neighbours lie, of the explanation of one example; None is all but the last (rows and columns
            of an image `[H, W, C]`), or the only one.
        weight: The penalty's strength.
        smooth: As in `right_for_the_right_reasons`.
        label: As in `right_for_the_right_reasons`.

    Returns:
        `penalty(params, x, target, key, *inputs) -> scalar`. Cost: the explanation and its derivative; a sort for
        sparsity.

    Raises:
        TypeError, ValueError: As `right_for_the_right_reasons`; an unknown form, axes that there are not.

    Example:
        >>> import jax, jax.numpy as jnp, jaxplain
        >>> method = lambda w: jaxplain.gradient(lambda x, target: x @ w)
        >>> penalty = attribution_prior(method)
        >>> float(penalty(jnp.array([1.0, 3.0, 2.0]), jnp.ones(3), 0, jax.random.key(0)))
        3.0

    Source: Erion et al. 2021, "Improving performance of deep learning models with axiomatic attribution priors and
    expected gradients", section "Attribution priors" (pixel and sparsity priors).
    """
    name = "attribution_prior"
    check.choice(form, FORMS, name, "form")
    if axes is not None and (not isinstance(axes, tuple) or not axes or not all(isinstance(a, int) for a in axes)):
        raise TypeError(f"{name}: `axes` has to be a tuple of whole numbers such as (0, 1), not {check.short(axes)}.")
    return _AttributionPrior(**common(method, weight, smooth, label, name), form=form, axes=axes)
