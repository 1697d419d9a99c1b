"""A function of token ids as one of the rows that they look up, with its own values and derivatives.

Nothing is rewritten: the traced function runs as it is, with other rows in the place of those that it looks up.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxplain.program.function import Function, setting
from jaxplain.program.node.flat import flatten, widened
from jaxplain.program.node.lookups import Lookup, find_lookups, refuse_unread
from jaxplain.program.trace import LOOKUP, Equation, Program, Route, Site, Tap, View, look, subprograms
from jaxplain.program.trace import run as run_program
from jaxplain.types import Array, Pytree


class LookedUp(NamedTuple):
    """What the tokens of one input look up: an array of rows for each look-up, and whose rows they are."""

    rows: list[Array]
    lookups: list[Lookup]
    first: int

    def per_token(self, attribution: list[Array], x: Pytree) -> Pytree:
        """The sum of an attribution of the rows over each token's, of x's structure."""
        leaves, structure = jax.tree.flatten(x)
        filled: list[Any] = [None] * len(leaves)
        for lookup, part in zip(self.lookups, attribution, strict=True):
            leaf, wide = lookup.place - self.first, part.astype(jnp.promote_types(part.dtype, jnp.float32))
            own = lookup.per_token(wide, jnp.size(leaves[leaf])).reshape(jnp.shape(leaves[leaf]))
            filled[leaf] = own if filled[leaf] is None else filled[leaf] + own
        zeros = [jnp.zeros(jnp.shape(leaf), jnp.float32) for leaf in leaves]
        return jax.tree.unflatten(structure, [zero if a is None else a for a, zero in zip(filled, zeros, strict=True)])

    def token_of(self, x: Pytree) -> list[Array]:
        """For each look-up which token of x (its leaves one after the other) a row is of, -1 for none, `[..., 1]`."""
        sizes = [jnp.size(leaf) for leaf in jax.tree.leaves(x)]
        found = []
        for lookup in self.lookups:
            places = jnp.asarray(lookup.positions)
            own = jnp.where(places < 0, -1, places + sum(sizes[: lookup.place - self.first]))
            found.append(jnp.expand_dims(own, lookup.row_axes))
        return found


def look_up(f: Any, x: Pytree, args: tuple[Any, ...], name: str) -> LookedUp:
    """The rows that the ids of `x` look up in the tables of a score; none where they look up nothing."""
    view, lookups, first = _found(f, x, args, name)
    taps = [Tap(site, str(place), keep=True) for place, site in enumerate(_sites(view, lookups))]
    placed = [(tap.site.route, tap) for tap in taps]
    _, found = run_program(view.program, view.leaves, placed, {}, outputs=False)
    return LookedUp([found[tap.key][0] for tap in taps], lookups, first)


class BehindLookups(Function):
    """A score of the rows that token ids look up: `(rows, x, *args) -> scalar`, with everything else of `x` as it is.

    Made by methods that take derivatives, where what is explained is token ids.
    """

    score: Any
    name: str = setting(default="gradient")

    def __call__(self, rows: list[Array], x: Pytree, *args: Any) -> Array:
        """The score with these rows in the place of those that are looked up."""
        view, lookups, _ = _found(self.score, x, args, self.name)
        taps = [Tap(site, str(place), fed=(True,)) for place, site in enumerate(_sites(view, lookups))]
        feeds = {tap.key: (row,) for tap, row in zip(taps, rows, strict=True)}
        outputs, _ = run_program(view.program, view.leaves, [(tap.site.route, tap) for tap in taps], feeds)
        result: Array = jax.tree.unflatten(view.structure, outputs)
        return result


class AlongLookups(Function):
    """A score of how far each token has come from one set of rows to another: `(shares, x, *args) -> scalar`.

    `shares` are numbers of x's structure; tokens: as `LookedUp.token_of` says.
    """

    behind: Any
    start: list[Array]
    rows: list[Array]
    tokens: list[Array]

    def __call__(self, shares: Pytree, x: Pytree, *args: Any) -> Array:
        """The score at the rows that lie as far on the way."""
        every = jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(shares)])

        def moved(first: Array, last: Array, tokens: Array) -> Array:
            share = jnp.where(tokens < 0, 1, every[tokens]).astype(last.dtype)
            return first + share * (last - first)

        rows = [moved(*parts) for parts in zip(self.start, self.rows, self.tokens, strict=True)]
        result: Array = self.behind(rows, x, *args)
        return result


def _found(f: Any, x: Pytree, args: tuple[Any, ...], name: str) -> tuple[View, list[Lookup], int]:
    x = jax.tree.map(jnp.asarray, x)
    view = look(f, (x, *args), name)
    first, count = len(jax.tree.leaves(view.f)), len(jax.tree.leaves(x))
    values = [widened(leaf) for leaf in view.leaves]
    tokens = range(first, first + count)
    lookups = find_lookups(flatten(view.program), tokens, values)
    refuse_unread(view.program, tokens, lookups, name)
    return view, lookups, first


def _sites(view: View, lookups: list[Lookup]) -> list[Site]:
    sites = []
    for lookup in lookups:
        rows = tuple(_equation(view.program, lookup.route).outvars)
        sites.append(Site(LOOKUP, "lookup", lookup.route, rows, rows, loops=lookup.loops))
    return sites


def _equation(program: Program, route: Route) -> Equation:
    index, *below = route
    equation = program.equations[index]
    return _equation(subprograms(equation)[below[0]], tuple(below[1:])) if below else equation
