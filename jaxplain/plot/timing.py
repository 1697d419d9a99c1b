"""Times of programs that do the same work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from jaxplain import check
from jaxplain.plot.canvas import NEUTRAL, SERIES, canvas, fitted, open_sides, wrapped
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import plain

MANY_DECADES, MANY_ROWS = 100, 40
"""From where on an axis has only powers of ten, and numbers at both ends of the figure."""


@drawn
def timings(times: Mapping[str, Mapping[str, Sequence[float]]], *, title: str = "") -> Figure:
    """Draw how long programs take as points on a logarithmic axis, with the range over runs as a line.

    Args:
        times: `{work: {program: (median, shortest, longest)}}`, in seconds. The first program of each work is drawn in
            colour and the others' names say how many times as long they take.
        title: What it was measured on.

    Returns:
        A figure, one row a program.

    Raises:
        ValueError: No times, times that are not positive and finite, or not in order.

    Example:
        >>> figure = timings({"gradient": {"ours": (0.1, 0.09, 0.12), "peer": (0.2, 0.2, 0.3)}})
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['gradient', 'ours', 'peer  (2.00 x)']
    """
    rows: list[tuple[str, np.ndarray | None, bool]] = []
    for work, programs in times.items():
        if not isinstance(programs, Mapping):
            raise TypeError(f"timings: `times[{work!r}]` has to be a mapping, not {check.short(programs)}.")
        rows.append((str(work), None, False))
        ours: Any = None
        for name, values in programs.items():
            entry = np.asarray(values, float)
            if entry.shape != (3,) or not np.isfinite(entry).all() or not 0 < entry[1] <= entry[0] <= entry[2]:
                raise ValueError(
                    f"timings: times[{work!r}][{name!r}] has to be (median, shortest, longest), positive seconds, "
                    f"not {values!r}."
                )
            label = str(name) if ours is None else f"{name}  ({entry[0] / ours:.2f} x)"
            rows.append((label, entry, ours is None))
            ours = entry[0] if ours is None else ours
    if not any(entry is not None for _, entry, _ in rows):
        raise ValueError("timings: `times` is empty; pass {work: {program: (median, shortest, longest)}}.")
    figure = canvas(7.5, 0.9 + 0.2 * len(rows), f"{title or 'Times'}: {', '.join(map(str, times))}")
    axes = figure.add_subplot()
    for place, (_, seconds, first) in enumerate(rows):
        if seconds is None:
            axes.axhspan(place - 0.5, place + 0.5, color=NEUTRAL, alpha=0.1, linewidth=0)  # the name of the work
            continue
        colour = SERIES[1] if first else SERIES[0]
        axes.plot(1e3 * seconds[1:], [place, place], color=colour, linewidth=1.2)
        axes.plot(1e3 * seconds[:1], [place], "o", color=colour, markersize=5)
    axes.set_yticks(range(len(rows)), [wrapped(plain(label), 48, 1) for label, _, _ in rows], fontsize=8)
    for text, row in zip(axes.get_yticklabels(), rows, strict=True):
        text.set_fontweight("bold" if row[1] is None else "normal")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xscale("log")
    shortest, longest = axes.get_xlim()
    steps = (1.0, 2.0, 5.0) if longest < MANY_DECADES * shortest else (1.0,)  # more numbers than that run together
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:g}" if not 1000 <= value < 1e6 else f"{value:,.0f}")
    )
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("milliseconds (median, and range over runs)", fontsize=9)
    axes.set_title(fitted(plain(title), 4.5, 10, 3), fontsize=10)
    axes.grid(axis="x", which="both", alpha=0.25, linewidth=0.6)
    open_sides(axes, "top", "right").tick_params(axis="x", labelsize=8, labeltop=len(rows) > MANY_ROWS)
    return figure
