"""Sparse feature circuits: which features of which layers make a score, and which make which."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.concept.dictionary import Dictionary, require_reconstruction, require_site
from jaxplain.internals import capture, intervene, split
from jaxplain.program import as_function, public, quadrature, shown
from jaxplain.program.trace import look
from jaxplain.types import Array, Pytree

NAME = "feature_circuit"


@shown
class Nodes(NamedTuple):
    """A layer's nodes: effects of its features `[M]` and of its error, and which features are kept, indices `[n]`."""

    features: Array
    error: Array
    kept: np.ndarray


class FeatureCircuit(NamedTuple):
    """Features that matter to a score, and what flows between them.

    nodes: By layer, in the order of a run. edges: By pair of layers, `[n + 1, m + 1]`: the part of each kept feature's
    effect on the score that goes through each kept feature of the later layer; the last row and column are the errors.
    """

    nodes: dict[str, Nodes]
    edges: dict[tuple[str, str], Array]

    def __repr__(self) -> str:
        kept = ", ".join(
            f"{layer!r}: {len(nodes.kept)} of {len(nodes.features)}" for layer, nodes in self.nodes.items()
        )
        return f"FeatureCircuit({kept}; edges between {len(self.edges)} pairs of layers)"


class _Site(NamedTuple):
    """A layer at the two inputs: codes and error, and how much both move from the patch to the clean one."""

    layer: str
    dictionary: Dictionary
    h: Array
    codes: Array
    error: Array
    code_move: Array
    error_move: Array


@public
def feature_circuit(
    f: Callable[..., Any],
    dictionaries: Mapping[str, Dictionary],
    clean: Pytree,
    *args: Any,
    corrupt: Pytree | None = None,
    threshold: float = 0.1,
    steps: int = 1,
) -> FeatureCircuit:
    """Find the features that a score rests on, and the edges between those of one layer and the next.

    A layer is its dictionary's features and one error, what the dictionary leaves out. A node's effect is, to first
    order, how much the score falls when the node goes from its clean to its patched value: (z - z') dm/dz, with the
    derivative at the clean value, or its mean on the line between them. An edge from feature u to a later d is the part
    of that effect which goes through d and around the layers between them: (z_u - z'_u) dz_d/dz_u dm/dz_d. Features
    whose effect is at least `threshold` of the largest in the circuit are kept. Layers may be the writers of a residual
    stream (`jaxplain.language.edges` lists them), whose edges then are those of that graph, feature by feature.

    Args:
        f: A score, `f(x, *args) -> scalar`.
        dictionaries: By the path of a layer; activations `[..., D]`, effects are summed over the places before D.
        clean: One input.
        *args: The score's other arguments.
        corrupt: Another input of its shape, whose features are the patch; None patches with zeros.
        threshold: Share of the largest absolute effect, from 0 (all that have any) to 1.
        steps: Points on the line; 1 takes the clean value alone.

    Returns:
        `FeatureCircuit(nodes, edges)`, in units of the score. Cost: for each layer a forward and `steps` backward
        passes; for each pair of layers a forward derivative for each kept feature of the first.

    Raises:
        ValueError: No dictionary, one of another layer or model (`site`), inputs of different shapes, settings out of
            range.

    Source: Marks et al. 2024, "Sparse feature circuits: discovering and editing interpretable causal graphs in language
    models", equations 2 to 4 and section 3.2.
    """
    check.count(steps, NAME, "steps")
    check.one_number(threshold, NAME, "threshold", zero=True)
    if threshold > 1:
        raise ValueError(f"{NAME}: `threshold` is a share of the largest effect, from 0 to 1, not {threshold}.")
    if not dictionaries:
        raise ValueError(f"{NAME}: `dictionaries` is empty; pass {{layer: dictionary}}.")
    if corrupt is not None:
        check.same_structure(clean, corrupt, NAME, "clean", "corrupt")
    f = as_function(check.callable_score(f, NAME))
    sites = [_opened(f, layer, one, clean, corrupt, args) for layer, one in _in_order(f, dictionaries, clean, args)]
    slopes = [_slopes(f, site, clean, args, steps) for site in sites]
    effects = [
        (_of_features(s.code_move * g[0]), jnp.sum(s.error_move * g[1])) for s, g in zip(sites, slopes, strict=True)
    ]
    largest = max(float(jnp.max(jnp.abs(features))) for features, _ in effects)
    kept = [np.flatnonzero(np.abs(np.asarray(features)) >= max(threshold * largest, 1e-30)) for features, _ in effects]
    nodes = {s.layer: Nodes(*e, k) for s, e, k in zip(sites, effects, kept, strict=True)}
    edges = {}
    for i, first in enumerate(sites):
        for j in range(i + 1, len(sites)):
            move = _pushed(f, first, sites[j], sites[i + 1 : j], clean, args)
            found = _edges(first, kept[i], kept[j], move, slopes[j])
            edges[first.layer, sites[j].layer] = found
    return FeatureCircuit(nodes, edges)


def _in_order(f: Any, dictionaries: Mapping[str, Dictionary], x: Any, args: Any) -> list[tuple[str, Dictionary]]:
    """The layers as a run meets them, modules, scopes and look-ups alike: what is inside of one comes before it."""
    view = look(f, (x, *args), NAME)

    def turn(item: tuple[str, Dictionary]) -> tuple[float, ...]:
        first = next(iter(view.select([item[0]]).values()))
        return (*first.site.route, math.inf)

    return sorted(dictionaries.items(), key=turn)


def _opened(f: Any, layer: str, one: Dictionary, clean: Any, corrupt: Any, args: Any) -> _Site:
    """A layer's codes and errors."""
    body, head = split(f, layer)
    require_reconstruction(one, NAME)
    require_site(one.site, head, (clean, *args), NAME)
    h = one.checked(body(clean, *args), NAME, f"activations of {layer!r}")
    codes = one.encode(h)
    error = h - one.decode(codes)
    if corrupt is None:
        return _Site(layer, one, h, codes, error, codes, error)
    other = one.checked(body(corrupt, *args), NAME, f"activations of {layer!r} of `corrupt`")
    there = one.encode(other)
    return _Site(layer, one, h, codes, error, codes - there, error - (other - one.decode(there)))


def _slopes(f: Any, site: _Site, clean: Any, args: Any, steps: int) -> tuple[Array, Array]:
    """The derivatives of the score by codes and error, at the clean values or their mean from the patch to these."""
    _, head = split(f, site.layer)

    def score(codes: Array, error: Array) -> Array:
        return check.scalar(head((site.dictionary.decode(codes) + error).astype(site.h.dtype), clean, *args), NAME)

    slope = jax.grad(score, argnums=(0, 1))
    if steps == 1:
        return slope(site.codes, site.error)
    nodes, weights = (jnp.asarray(part, site.h.dtype) for part in quadrature("gauss_legendre", steps))
    rows = jax.lax.map(
        lambda t: slope(site.codes - (1 - t) * site.code_move, site.error - (1 - t) * site.error_move), nodes
    )
    return jax.tree.map(lambda row: jnp.tensordot(weights, row, 1), rows)


def _of_features(parts: Array) -> Array:
    """Summed over the places."""
    return parts.reshape(-1, parts.shape[-1]).sum(axis=0)


def _pushed(f: Any, first: _Site, last: _Site, between: list[_Site], clean: Any, args: Any) -> Callable[..., Any]:
    """How codes and error of a later layer move with an earlier one's value, those between them held."""
    frozen = {site.layer: site.h for site in between}

    def later(h: Array) -> tuple[Array, Array]:
        run = capture(intervene(f, {first.layer: h, **frozen}), last.layer)
        value = run(clean, *args)[1][last.layer]
        codes = last.dictionary.encode(value)
        return codes, value - last.dictionary.decode(codes)

    return lambda direction: jax.jvp(later, (first.h,), (direction.astype(first.h.dtype),))[1]


def _edges(first: _Site, kept: np.ndarray, later: np.ndarray, push: Callable[..., Any], slope: Any) -> Array:
    """`[n + 1, m + 1]`: what each kept feature and the error of a layer do to the score through a later one's."""
    atoms = jnp.asarray(first.dictionary.atoms)[kept]  # type: ignore[attr-defined]

    def effects(direction: Array) -> Array:
        codes, error = push(direction)
        return jnp.append(_of_features(codes * slope[0])[later], jnp.sum(error * slope[1]))

    moves = jnp.moveaxis(first.code_move[..., kept], -1, 0)
    by_error = effects(first.error_move)[None]
    if not len(kept):
        return by_error
    rows = jax.lax.map(lambda part: effects(part[0][..., None] * part[1]), (moves, atoms))
    return jnp.concatenate([rows, by_error])
