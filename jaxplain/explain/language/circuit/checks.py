"""Is a circuit all that there is, and is all of it needed: completeness and minimality."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxplain import check
from jaxplain.explain.language.circuit.edges import Patched, _OfPairs, open_pair
from jaxplain.program import as_function, public, setting, shown
from jaxplain.types import Array, Pytree


@shown
class Checks(NamedTuple):
    """What became of a circuit.

    completeness: for each random part K of it |F(C without K) - F(M without K)|, 0 where the circuit breaks as the
    whole model does; minimality: for each edge |F(C) - F(C without it)|, 0 where it is not needed (or not in it).
    """

    completeness: Array
    minimality: Array


class CircuitChecks(_OfPairs):
    """Completeness and minimality: `(key, clean, corrupt, kept, *args) -> Checks`. Made by `circuit_checks`."""

    samples: int = setting(default=10)
    name: ClassVar[str] = "circuit_checks"

    @property
    def needs_key(self) -> bool:
        """Parts of the circuit are drawn."""
        return True

    def __call__(self, key: Array, clean: Pytree, corrupt: Pytree, kept: Array, *args: Any) -> Checks:
        """The checks of one circuit, for one pair of inputs."""
        pair = open_pair(self.f, clean, corrupt, args, self.name, patched="corrupt")
        count, other = len(pair.streams.edges), pair.written(pair.other)
        if jnp.shape(kept) != (count,):
            raise ValueError(f"{self.name}: `kept` has shape {jnp.shape(kept)}, but this model has {count} edges.")
        inside = jnp.asarray(kept).astype(bool)

        def score(edges: Array) -> Array:
            return pair.flow.run(pair.opened.arguments, Patched(pair.streams, other, 1.0 - edges)).score

        parts = jax.random.bernoulli(key, 0.5, (self.samples, count)) & inside[None]
        without = jnp.eye(count, dtype=bool)
        rows = jnp.concatenate([~parts, inside[None] & ~parts, inside[None] & ~without, inside[None]])
        found = lax.map(score, rows, batch_size=len(rows))
        model, circuit, single = jnp.split(found[:-1], [self.samples, 2 * self.samples])
        return Checks(jnp.abs(circuit - model), jnp.abs(found[-1] - single))


@public
def circuit_checks(f: Callable[..., Any], *, samples: int = 10) -> CircuitChecks:
    """Is a circuit complete, and is it minimal?

    F(X) is the score with the edges of X from the clean input and all others from the corrupt one; M are all edges. A
    circuit C is complete where it breaks as the model does: |F(C without K) - F(M without K)| is small for every part K
    of it. It is minimal where every edge is needed: |F(C) - F(C without e)|, here with all else of the circuit kept.

    Args:
        f: As in `edges`.
        samples: How many parts K are drawn, each edge of the circuit with chance 1/2.

    Returns:
        `(key, clean, corrupt, kept, *args) -> Checks(completeness [S], minimality [E])`, in units of the score, `kept`
        as in `circuit_score`. Cost: a forward pass for each edge, two for each part, and three.

    Raises:
        ValueError: As in `circuit_score`.

    Source: Wang et al. 2023, "Interpretability in the wild", section 4.
    """
    check.count(samples, "circuit_checks", "samples")
    return CircuitChecks(as_function(check.callable_score(f, "circuit_checks")), samples)
