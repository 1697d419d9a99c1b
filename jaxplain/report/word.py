"""Any text as a page can hold it: nothing in it is markup, and nothing in it is hidden."""

from __future__ import annotations

import html
import re
from typing import Any

import numpy as np

from jaxplain import check

_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")
"""Controls, of which a browser drops some, and overrides of the writing direction, which turn what stands beside."""


def clean(text: Any) -> str:
    """A text for an element or a quoted attribute."""
    return html.escape(_UNSEEN.sub(lambda found: f"[U+{ord(found[0]):04X}]", str(text)))


def titles(labels: Any, count: int, names: Any, name: str, argument: str = "labels") -> list[str]:
    """Labels as texts: names of classes where there are some, numbers and texts as they are."""
    if isinstance(labels, str) or not hasattr(labels, "__len__") or len(labels) != count:
        raise ValueError(f"{name}: `{argument}` is {check.short(labels)}, but there are {count} examples.")
    if names is None:
        return [str(label) for label in labels]
    known = np.array([check.count(label, name, argument, least=0) for label in np.asarray(labels)])
    if len(known) and len(names) <= known.max():
        raise ValueError(
            f"{name}: `names` holds {len(names)} names, but there is class {known.max()}; give one name for each "
            "class, from 0."
        )
    return [str(names[label]) for label in known]
