"""Random pytrees with awkward names, for tests of what is written to files."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

AWKWARD = ["", "value", "key", "0", "1", "/", "a/b", "a", "b", "a.b", ".", "..", "%", "%2F", "\\", "a\\b", "__x", "_"]
AWKWARD += [
    "c",
    "zarr.json",
    "x.__lock",
    "é",
    "e\u0301",
    "\U0001f600",
    "\n",
    " ",
    "\0",
    "attribution",
    "d",
    "_METADATA",
]
NAMES = st.one_of(st.sampled_from(AWKWARD), st.text(max_size=4))


class Pair(NamedTuple):
    value: object
    key: object


class Single(NamedTuple):
    value: object


def trees(leaves=None, most: int = 8):
    """Dictionaries with awkward keys (texts or numbers), tuples, lists and named tuples, at least one leaf."""
    leaves = st.floats(-9, 9) if leaves is None else leaves

    def containers(inner):
        return st.one_of(
            st.dictionaries(NAMES, inner, min_size=1, max_size=3),
            st.dictionaries(st.integers(0, 12), inner, min_size=1, max_size=3),
            st.lists(inner, min_size=1, max_size=3),
            st.tuples(inner, inner),
            st.builds(Pair, inner, inner),
            st.builds(Single, inner),
        )

    return st.recursive(leaves, containers, max_leaves=most)
