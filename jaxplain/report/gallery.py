"""A table of examples with their pictures: methods and colours are switched by CSS, the rest is `script`'s."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex

from jaxplain.report.word import clean

COLOURS = {"blue to red": "RdBu_r", "purple to orange": "PuOr_r", "size alone": "Greys"}
"""Scales of colours by name: against the score to for it; the last one takes the size of a value."""

SCALES = {"each map": "own", "each method": "method", "all maps": "shared"}
"""What shares one scale."""

SIDE_BY_SIDE = 3
"""Most methods that are shown beside each other at first."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One column: cells as HTML, what it is sorted by, which order comes first, and the method that it is of.

    `number` says that its cells are single numbers, which are not broken in two.
    """

    title: str
    cells: Sequence[str]
    keys: Sequence[float] | None = None
    first: str = "descending"
    method: int | None = None
    number: bool = False


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Examples as a table. Made by `examples_section`.

    Attributes:
        columns: The first one names the rows.
        methods: Names of the methods, whose columns say which they are of.
        ends: `[methods]`, where a method's scale ends; none where there are no maps.
        classes: Names of the classes that are chosen from; `own` says which each row has.
        right: Whether each row's prediction is right; None where that is not known.
        score, gap: Places of their columns; None where there are none.
    """

    columns: Sequence[Column]
    methods: Sequence[str] = ()
    ends: Sequence[float] = ()
    classes: Sequence[str] = ()
    own: Sequence[int] = ()
    right: Sequence[bool] | None = None
    score: int | None = None
    gap: int | None = None

    def __len__(self) -> int:
        return len(self.columns[0].cells)

    def html(self, number: int, *, interactive: bool) -> str:
        """The tools and the table; `number` tells the galleries of a page apart."""
        filters = self._filters() if interactive and len(self) > 1 else ""
        ends = "".join(f" --end-{k}: '±{end:.3g}';" for k, end in enumerate(self.ends))
        style = f" style=\"{ends.strip()} --end: '±{max(self.ends):.3g}'\"" if self.ends else ""
        heads = "".join(self._head(column, place) for place, column in enumerate(self.columns))
        rows = "\n".join(self._row(row) for row in range(len(self)))
        return (
            f'<div class="gallery"{style}>\n<div class="tools">{self._switches(number)}{filters}</div>\n'
            f'<div class="wide"><table role="table"><thead role="rowgroup"><tr role="row">{heads}</tr></thead>\n'
            f'<tbody role="rowgroup">{rows}</tbody></table></div>\n</div>'
        )

    def _switches(self, number: int) -> str:
        parts = []
        if len(self.methods) > 1:
            choices = [
                *((f"method-{k}", method) for k, method in enumerate(self.methods)),
                ("method-all", "side by side"),
            ]
            first = len(self.methods) if len(self.methods) <= SIDE_BY_SIDE else 0
            parts.append(_radios("Method", f"method-{number}", choices, first))
        if self.ends:
            for legend, kind, names, more in (
                ("Colours", "colours", COLOURS, _BAR),
                ("One scale for", "scale", SCALES, ""),
            ):
                choices = [(f"{kind}-{place}", name) for place, name in enumerate(names)]
                if kind == "scale" and len(self.methods) == 1:
                    choices = [choices[0], choices[2]] if len(self) > 1 else []
                parts += [_radios(legend, f"{kind}-{number}", choices, 0, more)] if choices else []
        return "".join(parts)

    def _filters(self) -> str:
        """What chooses among the rows; hidden until the script is there."""
        controls = []
        if self.classes:
            choices = enumerate(self.classes)
            controls.append(_select("class", "class", [(str(value), name) for value, name in choices]))
        if self.right is not None:
            controls.append(_select("prediction", "right", [("1", "right"), ("0", "wrong")]))
        if self.score is not None:
            controls += [_number("score from", "least", self.score), _number("to", "most", self.score)]
        if self.gap is not None:
            controls.append(_number("|gap| at most", "size", self.gap))
        return (
            f'<fieldset class="filters" hidden><legend>Show</legend>{"".join(controls)}'
            '<button type="button">show all</button> <output aria-live="polite"></output></fieldset>'
        )

    def _head(self, column: Column, place: int) -> str:
        kind = "" if column.method is None else f' class="by by-{column.method}"'
        kind = ' class="bare"' if column.method is None and column.keys is None else kind
        order = "" if column.keys is None or len(self) < 2 else f' data-first="{column.first}" data-column="{place}"'
        return f'<th scope="col" role="columnheader"{kind}{order}>{clean(column.title)}</th>'

    def _row(self, row: int) -> str:
        keys = " ".join("nan" if column.keys is None else _key(column.keys[row]) for column in self.columns)
        own = f' data-class="{int(self.own[row])}"' if self.classes else ""
        right = "" if self.right is None else f' data-right="{int(self.right[row])}"'
        first, *rest = self.columns
        cells = "".join(_cell(column, row) for column in rest)
        return (
            f'<tr role="row" data-keys="{keys}"{own}{right}>'
            f'<th scope="row" role="rowheader">{first.cells[row]}</th>{cells}</tr>'
        )


def _cell(column: Column, row: int) -> str:
    kind = "" if column.method is None else f' class="by by-{column.method}"'
    if column.method is None:
        kind = ' class="seen"' if column.keys is None else ' class="number"' if column.number else ""
    return f'<td role="cell"{kind} data-head="{clean(column.title)}">{column.cells[row]}</td>'


def _key(value: float) -> str:
    """What a row is sorted by, as JavaScript reads it."""
    value = float(value)
    if math.isnan(value):
        return "NaN"
    return ("-" if value < 0 else "") + "Infinity" if math.isinf(value) else f"{value:.7g}"


def _radios(legend: str, name: str, choices: Sequence[tuple[str, str]], first: int, more: str = "") -> str:
    labels = "".join(
        f'<label><input type="radio" name="{name}" class="{kind}"{" checked" * (place == first)}> {clean(word)}</label>'
        for place, (kind, word) in enumerate(choices)
    )
    return f"<fieldset><legend>{legend}</legend>{labels}{more}</fieldset>"


def _select(title: str, by: str, choices: Sequence[tuple[str, str]]) -> str:
    options = "".join(f'<option value="{value}">{clean(name)}</option>' for value, name in choices)
    return f'<label>{title} <select data-by="{by}"><option value="">all</option>{options}</select></label>'


def _number(title: str, by: str, column: int) -> str:
    return f'<label>{title} <input type="number" step="any" data-by="{by}" data-column="{column}"></label>'


_BAR = '<span class="bar">against <i></i> for</span>'


def _steps(name: str) -> list[tuple[float, float, float]]:
    """A scale's colours from end to end, an odd number of them: the middle one is zero's."""
    places = np.linspace(-1, 1, 17)
    places = np.abs(places) if name == "Greys" else (places + 1) / 2
    return [tuple(colormaps[name](place)[:3]) for place in places]


def _filter(place: int, name: str) -> str:
    """A filter that takes red for the value and gives it a scale's colours."""
    red, green, blue = (" ".join(f"{part:.3g}" for part in channel) for channel in zip(*_steps(name), strict=True))
    parts = "".join(
        f'<feFunc{channel} type="table" tableValues="{values}"/>'
        for channel, values in zip("RGB", (red, green, blue), strict=True)
    )
    return (
        f'<filter id="colours-{place}" color-interpolation-filters="sRGB" x="0" y="0" width="1" height="1">'
        '<feColorMatrix values="1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 0 0 0 1 0"/>'
        f"<feComponentTransfer>{parts}</feComponentTransfer></filter>"
    )


FILTERS = (
    '<svg class="filters-of-maps" width="0" height="0" aria-hidden="true">'
    + "".join(_filter(place, name) for place, name in enumerate(COLOURS.values()))
    + "</svg>"
)
"""The scales of colours, once for a page."""


def switches_style(methods: int) -> str:
    """Rules by which the chosen method, colours and scale hold."""
    rules = [f".gallery:has(.method-{k}:checked) .by:not(.by-{k}) {{ display: none; }}" for k in range(methods)]
    for place, name in enumerate(COLOURS.values()):
        stops = ", ".join(to_hex(step) for step in _steps(name))
        own = f"--colours: url(#colours-{place}); --bar: linear-gradient(90deg, {stops});"
        rules.append(f".gallery:has(.colours-{place}:checked) {{ {own} }}" if place else f".gallery {{ {own} }}")
    for place, scale in enumerate(SCALES.values()):
        if scale == "own":
            continue
        chosen = f".gallery:has(.scale-{place}:checked)"
        rules.append(f"{chosen} .map {{ filter: contrast(var(--{scale})) var(--colours); }}")
        if scale == "shared":
            rules.append(f"{chosen} .end::after {{ content: var(--end); }}")
        else:
            rules += [f"{chosen} .by-{k} .end::after {{ content: var(--end-{k}); }}" for k in range(methods)]
    return "\n".join(rules)


def map_html(address: str, shape: tuple[int, int], end: float, ends: tuple[float, float], method: str, alt: str) -> str:
    """A map as an image whose colours CSS gives it; `ends` are its method's and everything's."""
    own, everything = (end / most if most > 0 else 1.0 for most in ends)
    high, wide = shape
    size = f"aspect-ratio: {wide} / {high}; --method: {own:.4g}; --shared: {everything:.4g}"
    return (
        f'<img class="map" alt="{clean(alt)}" data-method="{clean(method)}" data-end="{end:.9g}" loading="lazy" '
        f'decoding="async" style="{size}" src="{address}"><small class="end" data-end="±{end:.3g}"></small>'
    )


def picture_html(address: str, shape: tuple[int, ...], alt: str) -> str:
    """An input beside its maps."""
    size = f"aspect-ratio: {shape[1]} / {shape[0]}"
    return f'<img class="input" alt="{clean(alt)}" loading="lazy" decoding="async" style="{size}" src="{address}">'


def bars_html(names: Sequence[str], values: Any, inputs: Any, most: int = 5) -> str:
    """The strongest features of one example as a list with bars, longest for the strongest."""
    strongest = np.argsort(-np.abs(values), kind="stable")[:most]
    end = float(np.abs(values).max()) or 1.0
    lines = []
    for k in strongest:
        own = "" if inputs is None else f" = {float(inputs[k]):.3g}"
        kind = "for" if values[k] >= 0 else "against"
        wide = f"width: {abs(float(values[k])) / end * 6:.2f}rem"
        # Isolated: beside a name from right to left a number would have its sign behind it.
        head = f"<bdi>{clean(names[k])}</bdi>{own}"
        bar = f'<i class="{kind}" style="{wide}"></i> {float(values[k]):+.3g}'
        lines.append(f"<li><span>{head}</span> <span>{bar}</span></li>")
    return f'<ul class="bars">{"".join(lines)}</ul>'
