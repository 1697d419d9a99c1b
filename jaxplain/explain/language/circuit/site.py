"""Estimates of activation patching at one layer: a mean gradient on the way, or relevance in place of the gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.baseline import tokens_alone
from jaxplain.explain.language.circuit.edges import same_shapes
from jaxplain.explain.language.circuit.estimate import held_rules
from jaxplain.explain.language.circuit.held import RULES, checked_rules, hold, refuse_loops, run_held
from jaxplain.explain.language.circuit.sweep import place_numbers
from jaxplain.internals import cut
from jaxplain.program import Function, public, quadrature, setting, value_and_gradient, widen
from jaxplain.program.node import BehindLookups, Opened, Value, look_up, open_score, widened
from jaxplain.program.trace import find_attentions
from jaxplain.types import Array, Pytree

HOWS = ("integrated", "relevance", "gim", "attention")


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
        kept = self._kept(first)
        if self.how == "attention":
            return _through_weights(self.head, first, last, kept, (corrupt, *args), self.name)
        gradient = self._mean if self.how == "integrated" else self._relevance
        return _summed((widen(last) - widen(first)) * widen(gradient(first, last, corrupt, args)), kept)

    def _kept(self, value: Array) -> tuple[int, ...]:
        """The axes whose places are told apart, from the front."""
        own = self.axes or ()
        kept = [axis % value.ndim for axis in own if -value.ndim <= axis < value.ndim]
        if len(set(kept)) != len(own):
            raise ValueError(
                f"{self.name}: `axes={self.axes}` does not name axes of a layer of shape {value.shape}, each once."
            )
        return tuple(kept)

    def _mean(self, first: Array, last: Array, corrupt: Pytree, args: tuple[Any, ...]) -> Array:
        """The mean gradient on the line from one value of the layer to the other."""
        nodes, weights = quadrature("gauss_legendre", self.steps)

        def at(share: Array) -> Array:
            h = first + share.astype(first.dtype) * (last - first)
            return value_and_gradient(self.head, h, corrupt, *args, name=self.name)[1]

        dtype = widen(first).dtype
        return jnp.tensordot(jnp.asarray(weights, dtype), widen(lax.map(at, jnp.asarray(nodes, dtype))), 1)

    def _relevance(self, first: Array, last: Array, corrupt: Pytree, args: tuple[Any, ...]) -> Array:
        """The propagation coefficient at the layer, where all that follows the input is a factor of its own."""
        score: Any = _Behind(self.head)
        moving: Any = (first, corrupt)
        if tokens_alone(corrupt):
            turned = _Turned(self.head)
            rows = look_up(turned, corrupt, (first, *args), self.name).rows
            score, moving = _BehindRows(BehindLookups(turned, self.name), corrupt), (first, rows)
        opened = open_score(score, moving, args, self.name)
        rules = held_rules(self.how, self.rules)
        refuse_loops(opened.graph, rules, self.name)
        held = hold(opened.graph, rules)
        here, *rest = (opened.arguments[place] for place in opened.moving)
        return jax.grad(lambda moved: run_held(opened, [moved, *rest], held))(here)


class _Behind(Function):
    """What is behind a layer, as a function of the layer and the input together."""

    head: Any

    def __call__(self, pair: tuple[Array, Pytree], *args: Any) -> Array:
        return self.head(*pair, *args)


class _Turned(Function):
    """The same with the input first."""

    head: Any

    def __call__(self, x: Pytree, layer: Array, *args: Any) -> Array:
        return self.head(layer, x, *args)


class _BehindRows(Function):
    """The same of the rows that token ids look up around the layer."""

    behind: Any
    ids: Any

    def __call__(self, pair: tuple[Array, Any], *args: Any) -> Array:
        return self.behind(pair[1], self.ids, pair[0], *args)


def _summed(effects: Array, kept: Sequence[int]) -> Array:
    """The sum over all but the axes that are kept, in their order."""
    ordered = jnp.moveaxis(effects, kept, range(len(kept)))
    return ordered.sum(axis=tuple(range(len(kept), effects.ndim)))


def _through_weights(
    head: Any, first: Array, last: Array, kept: Sequence[int], args: tuple[Any, ...], name: str
) -> Array:
    """Difference times gradient with the attention weights that a layer makes held, and their own change times theirs.

    What makes the weights is the layer alone: other attentions that it goes through on its way are held, too.
    """
    opened = open_score(head, first, args, name)
    made = _weights_of(opened, name)

    def run(moved: Array, held: dict[Value, Any], steps: Sequence[Any] = ()) -> tuple[Array, list[Any]]:
        graph, at = opened.graph, {value: widened(constant) for value, constant in opened.graph.flat.constants}
        at.update(zip(graph.flat.inputs, opened.arguments, strict=True))
        at[graph.flat.inputs[opened.moving[0]]] = moved
        weights: dict[Value, Any] = {}
        for node in graph.nodes:
            results = node.evaluate([at[v] for v in node.active], [at[v] for v in node.fixed])
            at.update(zip(node.outputs, results, strict=True))
            for place, value in enumerate(made):
                if value in node.outputs:
                    weights[value] = at[value]
                    at[value] = held.get(value, at[value]) + (steps[place] if steps else 0)
        (output,) = graph.flat.outputs
        return jnp.asarray(at.get(output, output.number)), [weights[value] for value in made]

    here = opened.arguments[opened.moving[0]]
    there = last.astype(here.dtype)
    before = run(here, {})[1]
    held = dict(zip(made, before, strict=True))
    slope = jax.grad(lambda moved: run(moved, held)[0])(here)
    slopes = jax.grad(lambda steps: run(here, {}, steps)[0])([jnp.zeros_like(weights) for weights in before])
    numbers = place_numbers(here, kept)

    def effect(place: Array) -> Array:
        after = run(jnp.where(numbers == place, there, here), held)[1]
        return sum(((a - b) * g).sum() for a, b, g in zip(after, before, slopes, strict=True))

    shape = tuple(here.shape[axis] for axis in kept)
    found = lax.map(effect, jnp.arange(math.prod(shape))).reshape(shape)
    return found + _summed((there - here) * slope, kept)


def _weights_of(opened: Opened, name: str) -> list[Value]:
    """The attention weights that what is explained makes, on ways through no other attention's weights."""
    graph = opened.graph
    every = {attention.weights.value for attention in find_attentions(graph.flat.steps)}
    reached, made = {graph.flat.inputs[place] for place in opened.moving}, list[Value]()
    for node in graph.nodes:
        if reached.intersection(node.active):
            made += [value for value in node.outputs if value in every]
            reached.update(value for value in node.outputs if value not in every)
    if not made:
        raise ValueError(
            f"{name}: no attention weights are made of this layer, so there are none to compute anew. "
            "`attribution_patching` is the estimate by the gradient alone."
        )
    return made


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
      the gradient, and this is `attribution_patching`;
    * `"gim"` (GIM): the gradient with its interactions modified, as in `edge_attribution`;
    * `"attention"` (AtP* for queries and keys, `"*~queries"` and `"*~keys"`): the gradient with the attention weights
      held that are made of the layer; and how those change when they are computed anew, times their gradient. A
      saturated softmax has no gradient, and its change is not hidden so.

    Args:
        f: A score, `f(x, *args) -> scalar`.
        path: The layer, as in `split`.
        how: Which estimate.
        axes: As in `activation_patching`.
        steps: Gauss-Legendre points on the line.
        rules: For `"relevance"`: of `"normalization"`, `"softmax"`, `"activation"`, `"product"`.

    Returns:
        `(clean, corrupt, *args) -> effects`, of the layer's lengths along `axes`, in units of the score. Cost: two
        forward passes to the layer, and `steps` (or one) forward and backward passes behind it; two for `"attention"`,
        and the way from the layer to the attention weights for each place.

    Raises:
        ValueError: As in `split`; two inputs of different shapes; an unknown `how` or rule; `"attention"` at a layer
            that makes no attention weights.

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
    efficient circuit discovery via relevance patching", section 3; Kramar et al. 2024, "AtP*", section 3.1; Edin et al.
    2025, "GIM: improved interpretability for large language models", section 4.
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
