"""A circuit as a picture: its edges between writers, from the input to the output."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxplain import check
from jaxplain.explain.language.circuit.circuits import owners
from jaxplain.internals import Drawing, drawing
from jaxplain.program import public
from jaxplain.types import ArrayLike


@public
def circuit_graph(edges: Sequence[tuple[str, str]], kept: ArrayLike, scores: ArrayLike | None = None) -> Drawing:
    """Draw a circuit as a graph: a box for each writer in it and for the output, an arrow for each pair with an edge.

    Edges into queries, keys and values of one head are one arrow; the box of a head says which it reads by.

    Args:
        edges: The edges of the model, as `edges(f)(x)` lists them.
        kept: `[E]` True for the edges of the circuit.
        scores: Of each edge; the largest of what a box reads is written into it.

    Returns:
        A `Drawing`, with `.svg` and `.dot`, as of `jaxplain.draw`.

    Raises:
        ValueError: An empty circuit, or one of another number of edges.

    Example:
        >>> drawn = circuit_graph([("input", "a"), ("input", "output"), ("a", "output")], [True, False, True])
        >>> [lines[0] for lines in drawn.nodes], drawn.edges
        (['input', 'a', 'output'], ((0, 1), (1, 2)))
    """
    name = "circuit_graph"
    chosen = np.asarray(check.numbers(kept, name, "kept")).astype(bool)
    if chosen.shape != (len(edges),):
        raise ValueError(f"{name}: `kept` has shape {chosen.shape}, but there are {len(edges)} `edges`.")
    if not chosen.any():
        raise ValueError(f"{name}: `kept` holds no edge, so there is nothing to draw.")
    sizes = None if scores is None else np.asarray(check.numbers(scores, name, "scores"), float)
    if sizes is not None and sizes.shape != chosen.shape:
        raise ValueError(f"{name}: `scores` has shape {sizes.shape}, but there are {len(edges)} `edges`.")
    ends = owners(edges)
    places = [int(place) for place in np.flatnonzero(chosen)]
    order = list(dict.fromkeys([writer for writer, _ in edges] + ends))
    names = [n for n in order if any(n in (edges[place][0], ends[place]) for place in places)]
    lines = []
    for node in names:
        into = [place for place in places if ends[place] == node]
        facts = sorted({edges[place][1].removeprefix(node).lstrip("/") for place in into} - {""})
        if sizes is not None and into:
            facts.append(f"{max((sizes[place] for place in into), key=abs):.3g}")
        lines.append((node, ", ".join(facts)) if facts else (node,))
    pairs = {(names.index(edges[place][0]), names.index(ends[place])) for place in places}
    return drawing(lines, sorted(pairs))
