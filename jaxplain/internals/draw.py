"""The graph of a model as text: SVG for pages and notebooks, DOT for graph tools; nothing to install."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxplain import check
from jaxplain.internals.graph import Graph, Node, graph
from jaxplain.internals.layers import Layers
from jaxplain.program import Function, as_function, public, setting
from jaxplain.program.trace import look
from jaxplain.types import Layer, Pytree

BOX, LINE, GAP, CHARACTER = 26, 13, 26, 6.6
"""Height of a box, of a line of text in it, space between boxes, and width of a letter, in pixels."""

FILL = {"module": "#dbe9f6", "operation": "#f2f2f2", "input": "#ffffff", "output": "#ffffff"}


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A model's graph. Made by `draw`; notebooks show it.

    Attributes:
        nodes: For each node its text lines; the first is its name.
        paths: For each node the module's path, '' for the input and the output.
        edges: Pairs of node numbers, from where a value is made to where it is used.
        svg: The picture, a complete SVG document.
        dot: The graph in Graphviz' language, modules inside modules as clusters.
    """

    nodes: tuple[tuple[str, ...], ...]
    paths: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    svg: str
    dot: str

    def _repr_svg_(self) -> str:
        return self.svg

    def __str__(self) -> str:
        """The DOT text."""
        return self.dot


class Draw(Function):
    """Draws the graph of a function: `(x, *args) -> Drawing`. Made by `draw`."""

    f: Any
    depth: int | None = setting(default=None)

    def __call__(self, x: Pytree, *args: Any) -> Drawing:
        """The graph of a call, from shapes alone."""
        view = look(self.f, (x, *args), "draw")
        before, size = len(jax.tree.leaves(view.f)), len(jax.tree.leaves(view.args[0]))
        active = view.program.inputs[len(view.program.constants) :][before : before + size]
        found = graph(view.program, [s.site for s in view.modules()], active, self.depth)
        rows = Layers(self.f)(x, *args)
        shapes = [" ".join("x".join(map(str, leaf.shape)) or "scalar" for leaf in jax.tree.leaves(view.args[0]))]
        calls: dict[str, int] = {}
        texts = []
        for node in found.nodes:
            call = calls.setdefault(node.path, 0) if node.kind == "module" else 0
            calls[node.path] = call + 1
            texts.append(_lines(node, call, rows, shapes[0]))
        paths = tuple(node.path for node in found.nodes)
        return Drawing(tuple(texts), paths, found.edges, _svg(found, texts), _dot(found, texts))


@public
def draw(f: Callable[..., Any], *, depth: int | None = None) -> Draw:
    """Draw a model as a graph: its modules, and which one's output goes into which.

    The graph is read from the traced program, so residual additions and functional operations between modules are in
    it: outside of modules, products, pooling, named activations and places where branches meet are nodes. Parts that
    lead to no output are left out; loops show one turn.

    Args:
        f: A score or any function `f(x, *args)` that JAX can trace. Without modules, its named scopes are drawn.
        depth: How many components of a module's path are shown, 1 for the outermost modules alone; None shows all. A
            module at that depth is one box, with the parameters of all that is inside it.

    Returns:
        `(x, *args) -> Drawing` with `.svg` and `.dot` (`open("model.svg", "w").write(drawing.svg)`). `x` may hold
        shapes (`jax.ShapeDtypeStruct`) alone. Cost: tracing, no model pass.

    Raises:
        ValueError: `depth` below 1.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> def f(x):
        ...     with jax.named_scope("first"):
        ...         y = x @ jnp.ones((3, 3))
        ...     return (x + y).sum()
        >>> drawing = draw(f)(jnp.ones((2, 3)))
        >>> [lines[0] for lines in drawing.nodes], drawing.edges
        (['input', 'first', 'add', 'output'], ((0, 1), (0, 2), (1, 2), (2, 3)))
    """
    return Draw(as_function(f), None if depth is None else check.count(depth, "draw", "depth"))


def drawing(lines: Sequence[tuple[str, ...]], edges: Sequence[tuple[int, int]]) -> Drawing:
    """The drawing of a graph that is given: the lines of each box, in an order in which edges go on, and the edges."""
    kinds = {"input": "input", "output": "output"}
    nodes = tuple(Node(kinds.get(text[0], "module"), text[0], text[0]) for text in lines)
    found = Graph(nodes, tuple(edges))
    paths = tuple(text[0] for text in lines)
    return Drawing(tuple(lines), paths, found.edges, _svg(found, lines), _dot(found, lines))


def _lines(node: Node, call: int, rows: Sequence[Layer], shape: str) -> tuple[str, ...]:
    """A node's name, and below it what it is."""
    if node.kind == "input":
        return ("input", shape)
    if node.kind != "module":
        return (node.name,)
    own = [row for row in rows if row.path.partition(":")[0].partition("[")[0] == node.path]
    inside = sum(row.parameters for row in rows if f"{row.path}/".startswith((f"{node.path}/", f"{node.path}:")))
    facts = []
    if own:
        row = own[min(call, len(own) - 1)]
        facts = [row.operation, "x".join(map(str, row.shape)) or "scalar"]
    if inside and call == 0:
        facts.append(f"{inside:,} parameters")
    return (node.name, ", ".join(facts)) if facts else (node.name,)


def _dot(found: Graph, texts: Sequence[tuple[str, ...]]) -> str:
    lines = ["digraph model {", '  node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=10];']
    lines += _clusters(found, texts, "", list(range(len(found.nodes))), "  ")
    lines += [f"  n{source} -> n{target};" for source, target in found.edges]
    return "\n".join([*lines, "}"])


def _clusters(
    found: Graph, texts: Sequence[tuple[str, ...]], inside: str, members: list[int], indent: str
) -> list[str]:
    """The nodes of a module, those of its divided modules in clusters of their own."""
    lines: list[str] = []
    deeper: dict[str, list[int]] = {}
    for index in members:
        node = found.nodes[index]
        home = node.path.rpartition("/")[0] if node.kind == "module" else node.path
        rest = home.removeprefix(inside).lstrip("/")
        if rest:
            deeper.setdefault(f"{inside}/{rest.partition('/')[0]}".lstrip("/"), []).append(index)
        else:
            label = "\\n".join(part.replace("\\", "\\\\").replace('"', '\\"') for part in texts[index])
            lines.append(f'{indent}n{index} [label="{label}", fillcolor="{FILL[node.kind]}"];')
    for path, nodes in deeper.items():
        name = path.rpartition("/")[2].replace('"', '\\"')
        lines.append(f'{indent}subgraph "cluster_{path}" {{ label="{name}"; color="#999999"; fontname="sans-serif";')
        lines += [*_clusters(found, texts, path, nodes, indent + "  "), f"{indent}}}"]
    return lines


def _svg(found: Graph, texts: Sequence[tuple[str, ...]]) -> str:
    """Boxes in layers from top to bottom; an edge that skips layers bends around at the side of the boxes between."""
    sizes = [(max(len(line) for line in lines) * CHARACTER + 20, BOX + LINE * (len(lines) - 1)) for lines in texts]
    places, width, height = _places(found, sizes)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="sans-serif" font-size="11">',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#666666"/></marker></defs>',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
    ]
    parts += [_edge(places, sizes, source, target) for source, target in found.edges]
    for node, lines, (x, y), (w, h) in zip(found.nodes, texts, places, sizes, strict=True):
        parts.append(
            f'<g><title>{html.escape(node.path or node.name)}</title><rect x="{x - w / 2:.1f}" y="{y:.1f}" '
            f'width="{w:.1f}" height="{h}" rx="5" fill="{FILL[node.kind]}" stroke="#666666"/>'
        )
        for number, line in enumerate(lines):
            style = ' font-weight="bold"' if number == 0 else ' fill="#444444" font-size="10"'
            top = y + 17 + LINE * number
            parts.append(f'<text x="{x:.1f}" y="{top:.1f}" text-anchor="middle"{style}>{html.escape(line)}</text>')
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"])


def _places(found: Graph, sizes: Sequence[tuple[float, float]]) -> tuple[list[tuple[float, float]], float, float]:
    """The middle of each box's upper side, and the size of the picture."""
    rank = [0] * len(found.nodes)
    for target in range(len(found.nodes)):
        before = [rank[source] + 1 for source, end in found.edges if end == target and source < target]
        rank[target] = max(before, default=0 if target == 0 else 1)
    rows: dict[int, list[int]] = {}
    for index, level in enumerate(rank):
        rows.setdefault(level, []).append(index)
    spans = {level: sum(sizes[i][0] for i in row) + GAP * (len(row) - 1) for level, row in rows.items()}
    # Beside the widest row there is room for the edges that go around other rows.
    around = GAP * (1 + sum(rank[b] - rank[a] > 1 for a, b in found.edges) > 0)
    width = max(spans.values()) + 2 * (GAP + around)
    places = [(0.0, 0.0)] * len(found.nodes)
    top = GAP / 2
    for level in sorted(rows):
        left = (width - spans[level]) / 2
        for index in rows[level]:
            places[index] = (left + sizes[index][0] / 2, top)
            left += sizes[index][0] + GAP
        top += max(sizes[index][1] for index in rows[level]) + GAP
    return places, width, top - GAP / 2


def _edge(places: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], source: int, target: int) -> str:
    (x0, y0), (x1, y1) = places[source], places[target]
    y0 += sizes[source][1]
    style = 'fill="none" stroke="#666666" marker-end="url(#arrow)"'
    if y1 - y0 <= GAP + 1 + LINE and y1 > y0:
        middle = (y0 + y1) / 2
        return f'<path d="M{x0:.1f},{y0:.1f} C{x0:.1f},{middle:.1f} {x1:.1f},{middle:.1f} {x1:.1f},{y1:.1f}" {style}/>'
    between = [x + w / 2 for (x, y), (w, _) in zip(places, sizes, strict=True) if min(y0, y1) < y + 1 < max(y0, y1)]
    side = max([x0, x1, *between]) + GAP / 2
    out = f"C{side:.1f},{y0 + GAP / 2:.1f} {side:.1f},{y0 + GAP:.1f} {side:.1f},{y0 + GAP:.1f}"
    back = f"C{side:.1f},{y1 - GAP / 2:.1f} {x1:.1f},{y1 - GAP / 2:.1f} {x1:.1f},{y1:.1f}"
    return f'<path d="M{x0:.1f},{y0:.1f} {out} L{side:.1f},{y1 - GAP:.1f} {back}" {style}/>'
