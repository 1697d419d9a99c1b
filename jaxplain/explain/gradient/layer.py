"""Attributions of hidden layers along a path of inputs: conductance, internal influence. Compositions of `split`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline import as_baseline, refuse_where_moved, resolve, rows_of
from jaxplain.explain.gradient.path import interpolate
from jaxplain.internals import cut
from jaxplain.program import (
    RULES,
    Function,
    chunked_sum,
    common_dtype,
    like,
    needs_key,
    public,
    quadrature,
    setting,
    value_and_gradient,
    widen,
)
from jaxplain.program.node import BehindLookups
from jaxplain.types import Array, Pytree


class LayerPath(Function):
    """An attribution of a layer along a path of inputs. Made by `conductance` and `internal_influence`."""

    body: Any
    head: Any
    baseline: Any
    steps: int = setting(default=32)
    rule: str = setting(default="gauss_legendre")
    batch_size: int | None = setting(default=None, points=True)
    name: str = setting(default="conductance")
    counted: ClassVar[str] = "steps"

    @property
    def needs_key(self) -> bool:
        """Whether the baseline is drawn from a key."""
        return needs_key(self.baseline)

    def check_call(self, x: Pytree, *args: Any) -> None:
        """Let the score look at its concrete arguments, as drivers do."""
        self.body.check_call(x, *args)

    def check_baseline(self, x: Pytree) -> None:
        """Refuse, for a concrete batch, a baseline that moves what has no derivative."""
        refuse_where_moved((self.baseline,), x, self.name)

    def __call__(self, *inputs: Any) -> Pytree:
        """Explain one example: `e(x, *args)`, or `e(key, x, *args)` where the baseline is drawn."""
        key, x, args = (inputs[0], inputs[1], inputs[2:]) if self.needs_key else (None, inputs[0], inputs[1:])
        found = rows_of(self.body.f, x, args, self.name, self.baseline)
        if found is not None:  # ids: the path leads through the rows that they look up
            behind = BehindLookups(self.body.f, self.name)
            body, head = (dataclasses.replace(part, f=behind) for part in (self.body, self.head))
            explain = dataclasses.replace(self, body=body, head=head, baseline=found.baseline)
            return explain(*(inputs[:1] if self.needs_key else ()), found.rows, x, *args)
        check.differentiable(x, self.name)
        check.finite(x, self.name)
        start = resolve(self.baseline, x, key, name=self.name)
        nodes, weights = quadrature(self.rule, self.steps)

        def term(item: tuple[Array, Array]) -> Pytree:
            part = self._at(item[0], start, x, args)
            return jax.tree.map(lambda value: value * item[1].astype(value.dtype), part)

        dtype = common_dtype(x)
        items = jnp.asarray(nodes, dtype), jnp.asarray(weights, dtype)
        sums = _known(chunked_sum(term, items, self.batch_size), start, x)
        return like(sums, jax.eval_shape(self.body, x, *args))

    def _at(self, alpha: Array, start: Pytree, x: Pytree, args: tuple[Any, ...]) -> Pytree:
        """The integrand at one point of the path, in float32 or wider."""

        def layer(alpha: Array) -> Pytree:
            return self.body(interpolate(start, x, alpha), *args)

        h, speed = jax.jvp(layer, (alpha,), (jnp.ones_like(alpha),))
        _, gradients = value_and_gradient(self.head, h, interpolate(start, x, alpha), *args, name=self.name)
        if self.name == "internal_influence":
            return widen(gradients)
        return jax.tree.map(jnp.multiply, widen(gradients), widen(speed))


def _known(sums: Pytree, start: Pytree, x: Pytree) -> Pytree:
    """NaN everywhere where the baseline is: of a linear layer the integrand does not depend on it."""
    floating = [check.is_floating(leaf) for leaf in jax.tree.leaves(x)]
    if all(floating):
        return sums
    values = [leaf for leaf, real in zip(jax.tree.leaves(start), floating, strict=True) if real]
    unknown = jnp.any(jnp.stack([jnp.isnan(leaf).any() for leaf in values]))
    return jax.tree.map(lambda leaf: jnp.where(unknown, jnp.nan, leaf), sums)


@public
def conductance(
    f: Callable[..., Any],
    path: str,
    *,
    baseline: Any = 0.0,
    steps: int = 32,
    rule: str = "gauss_legendre",
    batch_size: int | None = None,
    batch_axis: int | Literal["auto"] | None = "auto",
) -> LayerPath:
    """How much of the change from a baseline's score to the score flows through each unit of a layer.

    c_j = integral over alpha in [0, 1] of df/dh_j dh_j/dalpha along x(alpha) = b + alpha (x - b), where df/dh_j is
    taken with everything that goes around the layer held fixed. Where the layer cuts every way from input to output,
    sum_j c_j = f(x) - f(b), up to the rule's error.

    Args:
        f: A score, `f(x, *args) -> scalar`.
        path: The layer, as in `split`.
        baseline: As in `integrated_gradients`, for the input.
        steps: Number of points on the path.
        rule: As in `integrated_gradients`.
        batch_size: How many points are evaluated at once; memory grows with it and not with `steps`. None takes what
            fills the device in `explain_batch` and `explain_dataset`, and 1 elsewhere.
        batch_axis: As in `split`.

    Returns:
        `e(x, *args) -> attribution` of the layer's shape for one example, in units of the score, summed in float32 or
        wider. Cost: `steps` forward passes with a forward derivative, and backward passes of the part after the layer.

    Raises:
        ValueError: As in `split` and `integrated_gradients`.
        TypeError: `x` or the layer has no floating-point values.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("square"):
        ...         h = x**2
        ...     return (h * jnp.array([1.0, 3.0])).sum()
        >>> [round(float(c), 4) for c in conductance(f, "square")(jnp.array([2.0, 1.0]))]
        [4.0, 3.0]

    Source: Dhamdhere, Sundararajan and Yan 2019, "How important is a neuron?", the total conductance of a hidden unit.
    """
    return _layer_path("conductance", f, path, baseline, steps, rule, batch_size, batch_axis)


@public
def internal_influence(
    f: Callable[..., Any],
    path: str,
    *,
    baseline: Any = 0.0,
    steps: int = 32,
    rule: str = "gauss_legendre",
    batch_size: int | None = None,
    batch_axis: int | Literal["auto"] | None = "auto",
) -> LayerPath:
    """How the score reacts to each unit of a layer, averaged over a path of inputs.

    i_j = integral over alpha in [0, 1] of df/dh_j along x(alpha) = b + alpha (x - b), with everything that goes around
    the layer held fixed: the source's distributional influence for the uniform distribution on the path.

    Args:
        f: As in `conductance`.
        path: As in `conductance`.
        baseline: As in `conductance`.
        steps: As in `conductance`.
        rule: As in `conductance`.
        batch_size: As in `conductance`.
        batch_axis: As in `conductance`.

    Returns:
        `e(x, *args) -> attribution` of the layer's shape for one example, in units of the score per unit of the layer's
        value, summed in float32 or wider. Cost: as `conductance`.

    Raises:
        ValueError, TypeError: As in `conductance`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("double"):
        ...         h = 2 * x
        ...     return (h**2).sum()
        >>> [round(float(i), 4) for i in internal_influence(f, "double")(jnp.array([1.0, -1.0]))]
        [2.0, -2.0]

    Source: Leino et al. 2018, "Influence-directed explanations for deep convolutional networks", equation 1.
    """
    return _layer_path("internal_influence", f, path, baseline, steps, rule, batch_size, batch_axis)


def _layer_path(
    name: str,
    f: Callable[..., Any],
    path: str,
    baseline: Any,
    steps: int,
    rule: str,
    batch_size: int | None,
    batch_axis: int | Literal["auto"] | None,
) -> LayerPath:
    check.choice(rule, RULES, name, "rule")
    body, head = cut(f, path, batch_axis, name)
    steps = check.count(steps, name, "steps", least=2 if rule == "trapezoid" else 1)
    batch_size = check.at_once(batch_size, name)
    return LayerPath(body, head, as_baseline(baseline), steps, rule, batch_size, name)
