"""A bar on standard error where it is a terminal, or in a notebook; nothing elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

import jax

from jaxplain.program import in_notebook, notebook_bar


@contextlib.contextmanager
def bar(progress: bool, total: int | None, done: int) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of examples that have been finished since.

    Args:
        progress: Whether it is wanted.
        total: Number of examples, None where it is not known.
        done: How many are finished already.
    """
    if not (progress and (sys.stderr.isatty() or in_notebook()) and jax.process_index() == 0):
        yield lambda count: None
        return
    if in_notebook():
        with notebook_bar("explaining", total, done) as show:
            yield _counted(show, done)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task("explaining", total=total, completed=done)
        yield lambda count: shown.advance(task, count)


def _counted(show: Callable[[int, str], None], done: int) -> Callable[[int], None]:
    """A function that adds up what it is called with, and shows that."""

    def add(count: int) -> None:
        nonlocal done
        done += count
        show(done, "explaining")

    return add
