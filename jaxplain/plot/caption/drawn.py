"""What ties a figure to the function that drew it, and so to the sentence that says how it is read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from jaxplain import check
from jaxplain.plot.caption.sentence import READINGS
from jaxplain.program import public

F = TypeVar("F", bound=Callable[..., Any])


def drawn(function: F) -> F:
    """`public` for a function that draws: what it returns knows which one drew it."""
    checked = public(function)

    @functools.wraps(checked)
    def signed(*args: Any, **settings: Any) -> Any:
        figure = checked(*args, **settings)
        vars(figure)["drawn_by"] = function.__name__  # of frozen ones, too
        return figure

    return signed  # type: ignore[return-value]


@public
def reading(figure: Any) -> str:
    """Say in one sentence how a figure of `jaxplain.plot` is read: its axes, colours and every mark on it.

    Args:
        figure: What any function of `jaxplain.plot` returned.

    Returns:
        The sentence; `report` writes it below the figure.

    Raises:
        TypeError: Anything that none of them drew.

    Example:
        >>> from jaxplain.plot.feature import attribution_bar
        >>> reading(attribution_bar([1.0, -2.0]))[:25]
        'A bar is what one feature'
    """
    kind = getattr(figure, "drawn_by", None)
    if not isinstance(kind, str) or kind not in READINGS:
        raise TypeError(
            f"reading: `figure` has to be what a function of jaxplain.plot returned, not {check.short(figure)}."
        )
    return READINGS[kind]
