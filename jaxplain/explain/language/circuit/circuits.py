"""Circuits: which edges to keep, and how faithful what is kept is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain import check
from jaxplain.explain.language.circuit.edges import Patched, _OfPairs, open_pair
from jaxplain.program import as_function, public, setting, shown
from jaxplain.types import Array, ArrayLike, Pytree

FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""The sizes of circuits in the MIB benchmark."""


def owners(edges: Sequence[tuple[str, str]]) -> list[str]:
    """For each edge the writer that its reader belongs to; the output's own name where there is none."""
    writers = {writer for writer, _ in edges}

    def owner(reader: str) -> str:
        parts = reader.split("/")
        names = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
        return next((name for name in names if name in writers), reader)

    return [owner(reader) for _, reader in edges]


def _checked(edges: Any, scores: Any, count: Any, name: str) -> np.ndarray:
    found = np.abs(np.asarray(check.numbers(scores, name, "scores"), np.float64))
    if found.shape != (len(edges),):
        raise ValueError(f"{name}: `scores` has shape {found.shape}, but there are {len(edges)} `edges`.")
    if not np.isfinite(found).all():
        raise ValueError(f"{name}: `scores` holds NaN or infinite values.")
    check.count(count, name, "count")
    return found


@public
def greedy_circuit(edges: Sequence[tuple[str, str]], scores: ArrayLike, count: int) -> np.ndarray:
    """Grow a circuit from the output: again and again the largest edge into what is already in it.

    Args:
        edges: The edges of the model, as `edges(f)(x)` lists them.
        scores: The score of each; sizes count, not signs.
        count: How many edges are taken, at most.

    Returns:
        `[E]` True for the edges of the circuit; every one leads to the output.

    Raises:
        ValueError: Scores of another number than the edges, or that are not finite.

    Example:
        >>> greedy_circuit([("input", "a"), ("input", "output"), ("a", "output")], [5.0, 1.0, 2.0], 2).tolist()
        [True, False, True]

    Source: Hanna, Pezzelle and Belinkov 2024, "Have faith in faithfulness", section 2.
    """
    sizes, ends = _checked(edges, scores, count, "greedy_circuit"), owners(edges)
    writers = {writer for writer, _ in edges}
    inside = {end for end in ends if end not in writers}
    kept = np.zeros(len(edges), bool)
    for _ in range(min(count, len(edges))):
        open_edges = [e for e in range(len(edges)) if not kept[e] and ends[e] in inside]
        if not open_edges:
            break
        best = max(open_edges, key=lambda e: sizes[e])
        kept[best] = True
        inside.add(edges[best][0])
    return kept


@public
def threshold_circuit(edges: Sequence[tuple[str, str]], scores: ArrayLike, count: int) -> np.ndarray:
    """Take the largest edges, without those that lead nowhere or come from nowhere.

    Args:
        edges: As in `greedy_circuit`.
        scores: As in `greedy_circuit`.
        count: How many edges are taken before those are left out.

    Returns:
        `[E]` True for the edges of the circuit: each is on a path from a writer that reads nothing to the output.

    Raises:
        ValueError: As in `greedy_circuit`.

    Example:
        >>> threshold_circuit([("input", "a"), ("input", "output"), ("a", "output")], [5.0, 3.0, 2.0], 2).tolist()
        [False, True, False]

    Source: Syed, Rager and Conmy 2023, "Attribution patching outperforms automated circuit discovery", section 3.
    """
    sizes, ends = _checked(edges, scores, count, "threshold_circuit"), owners(edges)
    kept = np.zeros(len(edges), bool)
    kept[np.argsort(-sizes, kind="stable")[:count]] = True
    reading, writing = set(ends), {writer for writer, _ in edges}
    while True:
        reached = {ends[int(e)] for e in np.flatnonzero(kept)}
        starts = {edges[int(e)][0] for e in np.flatnonzero(kept)}
        good = [
            (ends[e] in starts or ends[e] not in writing) and (edges[e][0] in reached or edges[e][0] not in reading)
            for e in range(len(edges))
        ]
        if not (kept & ~np.asarray(good)).any():
            return kept
        kept &= np.asarray(good)


class CircuitCurve(_OfPairs):
    """The scores of growing circuits: `(clean, corrupt, scores, *args) -> [K]`. Made by `circuit_curve`."""

    fractions: tuple[float, ...] = setting(default=FRACTIONS)
    name: ClassVar[str] = "circuit_curve"

    def __call__(self, clean: Pytree, corrupt: Pytree, scores: Array, *args: Any) -> Array:
        """The score with the largest edges kept, for each fraction, and before them with none."""
        pair = open_pair(self.f, clean, corrupt, args, self.name, patched="corrupt")
        count = len(pair.streams.edges)
        if jnp.shape(scores) != (count,):
            raise ValueError(f"{self.name}: `scores` has shape {jnp.shape(scores)}, but this model has {count} edges.")
        rank = jnp.argsort(jnp.argsort(-jnp.abs(scores)))
        other = pair.written(pair.other)

        def score(size: Array) -> Array:
            return pair.flow.run(pair.opened.arguments, Patched(pair.streams, other, 1.0 * (rank >= size))).score

        sizes = [0, *(int(np.floor(fraction * count + 1e-9)) for fraction in self.fractions)]
        return lax.map(score, jnp.asarray(sizes), batch_size=len(sizes))


@public
def circuit_curve(f: Callable[..., Any], *, fractions: tuple[float, ...] = FRACTIONS) -> CircuitCurve:
    """The scores of circuits of the largest edges, from none to all, for one pair of inputs.

    Args:
        f: As in `edges`.
        fractions: The sizes of the circuits, in shares of all edges, ascending; those of the MIB benchmark.

    Returns:
        `(clean, corrupt, scores, *args) -> [1 + K]`: first with no edge (all from the corrupt input), then for each
        fraction with the edges of the largest scores `[E]` in size. Average over a dataset before `circuit_areas`.
        Cost: two forward passes, and one for each size.

    Raises:
        ValueError: As in `circuit_score`; fractions that do not ascend within [0, 1].
    """
    score = as_function(check.callable_score(f, "circuit_curve"))
    return CircuitCurve(score, _shares(fractions, "circuit_curve"))


def _shares(fractions: Any, name: str) -> tuple[float, ...]:
    """Require shares that ascend within [0, 1]."""
    values = np.asarray(check.numbers(fractions, name, "fractions"))
    real = values.ndim == 1 and len(values) > 0 and values.dtype.kind in "fiu"
    if not real or not (np.diff(values) > 0).all() or values[0] < 0 or not values[-1] <= 1:
        raise ValueError(f"{name}: `fractions` has to be numbers that ascend within [0, 1], not {fractions!r}.")
    return tuple(float(value) for value in values)


@shown
class Areas(NamedTuple):
    """How faithful circuits are over their sizes.

    faithfulness: of each size, 1 as the whole model, 0 as none of it; cpr: the area under it (larger is better); cmd:
    the area between it and 1 (smaller is better).
    """

    faithfulness: np.ndarray
    cpr: float
    cmd: float


@public
def circuit_areas(curve: ArrayLike, whole: float, *, fractions: tuple[float, ...] = FRACTIONS) -> Areas:
    """The faithfulness of circuits, and the two areas by which the MIB benchmark compares methods.

    faithfulness_k = (m_k - m_0) / (m_1 - m_0), with m_0 the score without any edge and m_1 of the whole model; CPR is
    its area over the sizes k, CMD that of |1 - faithfulness|, by the trapezoid rule.

    Args:
        curve: `[1 + K]`, as `circuit_curve` gives it, or its mean over a dataset.
        whole: The score of the whole model, or its mean.
        fractions: As in `circuit_curve`.

    Returns:
        `Areas(faithfulness, cpr, cmd)`. Faithfulness is NaN where the whole model scores as nothing does.

    Raises:
        ValueError: A curve of another length.

    Example:
        >>> areas = circuit_areas([0.0, 1.0, 2.0], 2.0, fractions=(0.5, 1.0))
        >>> areas.faithfulness.tolist(), areas.cpr, areas.cmd
        ([0.5, 1.0], 0.375, 0.125)

    Source: Mueller et al. 2025, "MIB: a mechanistic interpretability benchmark", section 3.
    """
    values = np.asarray(check.numbers(curve, "circuit_areas", "curve"), float)
    sizes = np.asarray(_shares(fractions, "circuit_areas"))
    check.one_number(abs(whole), "circuit_areas", "whole", zero=True)
    if values.shape != (len(sizes) + 1,):
        raise ValueError(
            f"circuit_areas: `curve` has shape {values.shape}, but {len(sizes)} fractions need {len(sizes) + 1}."
        )
    span = float(whole) - values[0]
    faithful = (values[1:] - values[0]) / span if span else np.full(len(sizes), np.nan)
    return Areas(faithful, float(np.trapezoid(faithful, sizes)), float(np.trapezoid(np.abs(1 - faithful), sizes)))
