"""Estimates of activation patching at one layer: a mean gradient on the way, or relevance in place of the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.explain.language.circuit.edges import same_shapes
from jaxplain.explain.language.circuit.held import RULES, checked_rules, hold, refuse_loops, run_held
from jaxplain.internals import cut
from jaxplain.program import Function, public, quadrature, setting, value_and_gradient, widen
from jaxplain.program.node import open_score
from jaxplain.types import Array, Pytree

HOWS = ("integrated", "relevance")


class SiteAttribution(Function):
    """Estimated effects of patching a layer: `(clean, corrupt, *args) -> effects`. Made by `site_attribution`."""

    body: Any
    head: Any
    axes: tuple[int, ...] | None = setting()
    how: str = setting(default="integrated")
    steps: int = setting(default=16)
    rules: tuple[str, ...] = setting(default=RULES)
    name: ClassVar[str] = "site_attribution"

    def __call__(self, clean: Pytree, corrupt: Pytree, *args: Any) -> Array:
        """The estimated change of the score, for each place along the axes."""
        same_shapes(clean, corrupt, self.name)
        last, first = self.body(clean, *args), self.body(corrupt, *args)
        if isinstance(first, tuple):
            raise ValueError(f"{self.name}: {self.body.path!r} holds {len(first)} arrays; pick one, as in 'path[0]'.")
        gradient = self._relevance if self.how == "relevance" else self._mean
        effects = (widen(last) - widen(first)) * widen(gradient(first, last, corrupt, args))
        if self.axes is None:
            return effects.sum()
        kept = [axis % effects.ndim for axis in self.axes if -effects.ndim <= axis < effects.ndim]
        if len(set(kept)) != len(self.axes):
            raise ValueError(
                f"{self.name}: `axes={self.axes}` does not name axes of a layer of shape {effects.shape}, each once."
            )
        summed = jnp.moveaxis(effects, kept, range(len(kept)))
        return summed.sum(axis=tuple(range(len(kept), effects.ndim)))

    def _mean(self, first: Array, last: Array, corrupt: Pytree, args: tuple[Any, ...]) -> Array:
        """The mean gradient on the line from one value of the layer to the other."""
        nodes, weights = quadrature("gauss_legendre", self.steps)

        def at(share: Array) -> Array:
            h = first + share.astype(first.dtype) * (last - first)
            return value_and_gradient(self.head, h, corrupt, *args, name=self.name)[1]

        dtype = widen(first).dtype
        return jnp.tensordot(jnp.asarray(weights, dtype), widen(lax.map(at, jnp.asarray(nodes, dtype))), 1)

    def _relevance(self, first: Array, last: Array, corrupt: Pytree, args: tuple[Any, ...]) -> Array:
        """The propagation coefficient at the layer."""
        opened = open_score(self.head, first, (corrupt, *args), self.name)
        refuse_loops(opened.graph, self.rules, self.name)
        held = hold(opened.graph, self.rules)
        (place,) = opened.moving
        return jax.grad(lambda moved: run_held(opened, [moved], held))(opened.arguments[place])


@public
def site_attribution(
    f: Callable[..., Any],
    path: str,
    how: str = "integrated",
    *,
    axes: Any = None,
    steps: int = 16,
    rules: tuple[str, ...] = RULES,
) -> SiteAttribution:
    """Estimate the effects of activation patching at one layer, in fewer passes than it has places.

    effect_i = sum over the elements of place i of (h(clean) - h(corrupt)) g, where g is, by `how`:

    * `"integrated"`: the mean of df/dh on the line from h(corrupt) to h(clean). Where the layer cuts every path from
      what differs, the effects sum to f(clean) - f(corrupt);
    * `"relevance"` (RelP): the propagation coefficient of LRP's rules, as in `edge_attribution`. Without rules it is
      the gradient, and this is `attribution_patching`.

    Args:
        f: A score, `f(x, *args) -> scalar`.
        path: The layer, as in `split`.
        how: Which estimate.
        axes: As in `activation_patching`.
        steps: Gauss-Legendre points on the line.
        rules: For `"relevance"`: of `"normalization"`, `"softmax"`, `"activation"`, `"product"`.

    Returns:
        `(clean, corrupt, *args) -> effects`, of the layer's lengths along `axes`, in units of the score. Cost: two
        forward passes to the layer, and `steps` (or one) forward and backward passes behind it.

    Raises:
        ValueError: As in `split`; two inputs of different shapes; an unknown `how` or rule.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("same"):
        ...         h = 1 * x
        ...     return (h**2).sum()
        >>> found = site_attribution(f, "same", axes=0)(jnp.array([2.0, 1.0]), jnp.zeros(2))
        >>> [round(float(effect), 3) for effect in found]
        [4.0, 1.0]

    Source: Marks et al. 2024, "Sparse feature circuits", equation 3; Rezaei Jafari et al. 2025, "RelP: faithful and
    efficient circuit discovery via relevance patching", section 3.
    """
    name = "site_attribution"
    check.choice(how, HOWS, name, "how")
    check.count(steps, name, "steps")
    places = None if axes is None else (axes,) if isinstance(axes, int) else axes
    if places is not None and not (isinstance(places, tuple | list) and all(isinstance(a, int) for a in places)):
        raise TypeError(f"{name}: `axes` has to be an integer or a tuple of integers, not {axes!r}.")
    body, head = cut(check.callable_score(f, name), path, "auto", name)
    return SiteAttribution(
        body, head, None if places is None else tuple(places), how, steps, checked_rules(rules, name)
    )
