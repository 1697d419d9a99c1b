"""How a table's rows are parametrized over the laws that hold for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def every(table: Sequence[Any]) -> pytest.MarkDecorator:
    """Each row, by its name and number."""
    return pytest.mark.parametrize("row", table, ids=[f"{row.name}-{i}" for i, row in enumerate(table)])


def alternate(table: Sequence[Any], first: int, each: int = 2) -> pytest.MarkDecorator:
    """Each row, those between every second (`each`) one slow: a law that compiles a program a row, with another's
    the other way.

    So each row meets half of such laws in the quick suite, each law half of the rows, and the slow tests the rest.
    """
    rows = [
        pytest.param(row, id=f"{row.name}-{i}", marks=[pytest.mark.slow] if (i + first) % each else [])
        for i, row in enumerate(table)
    ]
    return pytest.mark.parametrize("row", rows)


def halves(values: Sequence[Any]) -> list[Any]:
    """Values of which every second one is left to the slow tests."""
    return [pytest.param(v, marks=[pytest.mark.slow] if i % 2 else []) for i, v in enumerate(values)]
