"""A bar in a notebook: one output that is replaced while a run goes on. Widgets, which few have, are not needed."""

from __future__ import annotations

import contextlib
import html
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

SECONDS = 0.2
"""Between two pictures of the bar: each is a message to the browser."""


def in_notebook() -> bool:
    """Whether what is printed here is shown by a notebook: the code runs in a kernel of Jupyter."""
    shell = sys.modules.get("IPython")
    return shell is not None and hasattr(shell.get_ipython(), "kernel")


@contextlib.contextmanager
def notebook_bar(label: str, total: int | None, done: int = 0) -> Iterator[Callable[[int, str], None]]:
    """A function that shows how many of `total` are done, and a text.

    Args:
        label: What goes on.
        total: How many there are, None where it is not known.
        done: How many are done already.
    """
    from IPython.display import display

    latest = (done, label)
    handle = display(_bundle(done, total, label), raw=True, display_id=True)
    drawn = time.monotonic()

    def show(done: int, text: str) -> None:
        nonlocal drawn, latest
        latest = (done, text)
        if time.monotonic() - drawn >= SECONDS:
            handle.update(_bundle(done, total, text), raw=True)
            drawn = time.monotonic()

    try:
        yield show
    finally:
        handle.update(_bundle(latest[0], total, latest[1]), raw=True)


def _bundle(done: int, total: int | None, text: str) -> dict[str, Any]:
    """The bar as HTML, and as a line for what shows no HTML."""
    size = f' value="{done}" max="{total}"' if total else ""
    counted = f"{done:,} of {total:,}" if total else f"{done:,}"
    line = f"{text} ({counted})"
    name = html.escape(line, quote=True)
    bar = f'<progress{size} aria-label="{name}" style="width: 16em; vertical-align: middle"></progress>'
    return {"text/plain": line, "text/html": f'<div class="jaxplain-progress">{bar} {name}</div>'}
