"""Any text as a page can hold it: nothing in it is markup, and nothing in it is hidden."""

from __future__ import annotations

import html
import re
from collections import Counter
from typing import Any

import numpy as np

from jaxplain import check

_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")
"""Controls, of which a browser drops some, and overrides of the writing direction, which turn what stands beside."""


def clean(text: Any) -> str:
    """A text for an element or a quoted attribute."""
    return html.escape(_UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", str(text)))


def titles(labels: Any, count: int, names: Any, name: str, argument: str = "labels") -> list[str]:
    """Labels as texts: names of classes where there are some, numbers (whole ones as such) and texts as they are."""
    if isinstance(labels, str) or not hasattr(labels, "__len__") or len(labels) != count:
        raise ValueError(f"{name}: `{argument}` is {check.short(labels)}, but there are {count} examples.")
    items = list(np.asarray(labels)) if hasattr(labels, "dtype") else list(labels)
    if any(np.ndim(item) for item in items):
        raise ValueError(
            f"{name}: `{argument}` has shape {np.shape(labels)}; it has to be [B], one class or text for each example "
            "(of scores, `scores.argmax(-1)`)."
        )
    if names is None:
        return [_whole(item) for item in items]
    known = np.array([check.count(item, name, argument, least=0) for item in items])
    if len(known) and len(names) <= known.max():
        raise ValueError(
            f"{name}: `names` holds {len(names)} names, but there is class {known.max()}; give one name for each "
            "class, from 0."
        )
    texts = told_apart(names)
    return [texts[item] for item in known]


def told_apart(names: Any) -> list[str]:
    """Names of classes, those that several classes have with the number of the class."""
    texts = [str(name) for name in names]
    times = Counter(texts)
    return [f"{text} (class {place})" if times[text] > 1 else text for place, text in enumerate(texts)]


def comparable(labels: Any, predicted: Any, name: str) -> tuple[Any, Any]:
    """Both of one form: beside numbers True and False are 1 and 0; texts beside numbers are refused."""
    rows = [_row(value, name, argument) for argument, value in (("labels", labels), ("predicted", predicted))]
    kinds = [{_kind(item) for item in row.ravel()} for row in rows]
    if kinds[0] & kinds[1]:
        return labels, predicted
    if "text" in kinds[0] | kinds[1]:
        raise ValueError(
            f"{name}: `labels` is {check.short(labels)}, but `predicted` {check.short(predicted)}; both have to be "
            "of one form. Pass numbers of classes as both, and `names`, or texts as both."
        )
    return tuple(row.astype(int) if row.dtype == bool else row for row in rows)  # type: ignore[return-value]


def _row(value: Any, name: str, argument: str) -> np.ndarray:
    """One class or text for each example, as an array; what shape it has `titles` looks at."""
    try:
        row = np.asarray(value)
    except ValueError:  # rows of different lengths
        row = np.zeros(())
    if row.ndim == 0:
        raise ValueError(
            f"{name}: `{argument}` is {check.short(value)}; it has to be [B], one class or text for each example."
        )
    return row


def _kind(item: Any) -> str:
    return "text" if isinstance(item, str) else "truth" if isinstance(item, bool | np.bool_) else "number"


def _whole(item: Any) -> str:
    """A label as text; 1.0 is class 1."""
    whole = (isinstance(item, float) or hasattr(item, "dtype")) and not isinstance(item, str | np.bool_)
    whole = whole and check.is_floating(item) and float(item).is_integer()
    return str(int(item) if whole else item)
