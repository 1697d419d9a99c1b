"""Finds sites by path: `ResNet/block_3`, `block_3` (the model's name may be left out), `*/conv`, `block/conv:1`.

A site's key is its path, with `:n` for the n-th call where a path is called several times; `[i]` after it picks one of
several arrays. Look-ups of tables that no module has named are `~lookup:0`, `~lookup:1` ...
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from jaxplain.program.trace.sites import LOOKUP, Site


class Selected(NamedTuple):
    """A site by the name of its call (`path` or `path:n`); `leaf` picks one of its arrays, None takes all."""

    call: str
    site: Site
    leaf: int | None = None

    @property
    def key(self) -> str:
        """What the selection is called: the call, and `[leaf]` where one array is picked."""
        return self.call if self.leaf is None else f"{self.call}[{self.leaf}]"


def keyed(sites: Sequence[Site]) -> list[Selected]:
    """Every site with its key."""
    total, seen = Counter(site.path for site in sites), Counter[str]()
    found = []
    for site in sites:
        call = seen[site.path]
        seen[site.path] += 1
        alone = total[site.path] == 1 and site.path != LOOKUP
        found.append(Selected(site.path if alone else f"{site.path}:{call}", site))
    return found


def is_pattern(path: str) -> bool:
    """Whether a path may mean several sites."""
    return any(character in path for character in "*?")


def select(path: str, sites: Sequence[Selected], name: str) -> list[Selected]:
    """The sites that a path or pattern names; none where nothing matches.

    Raises:
        ValueError: A path without wildcards that names several calls, or an array that a site does not have.
    """
    parsed = re.fullmatch(r"(.*?)(?:\[(\d+)\])?", path)
    pattern, leaf = (path, None) if parsed is None else parsed.groups()
    regex = re.compile("".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern))
    found = [s for s in sites if regex.fullmatch(s.key) or regex.fullmatch(s.site.path)]
    found = found or [s for s in sites if any(regex.fullmatch(n) for n in (_short(s.key), _short(s.site.path)) if n)]
    if len(found) > 1 and not is_pattern(path):
        calls = "; ".join(f"{s.key!r}: {contents(s.site)}" for s in found)
        raise ValueError(
            f"{name}: {path!r} is called {len(found)} times ({calls}). Pick one call, as in {found[-1].key!r}, or all "
            f"with a pattern, as in {path + ':*'!r}."
        )
    if leaf is None:
        return found
    for s in found:
        if int(leaf) >= len(s.site.variables):
            raise ValueError(f"{name}: {path!r} asks for array {leaf} of {s.key!r}, which holds {contents(s.site)}.")
    return [Selected(s.call, s.site, int(leaf)) for s in found]


def _short(path: str) -> str:
    """A path without the model's own name."""
    return path.partition("/")[2]


def contents(site: Site) -> str:
    """Shapes and dtypes of a site as an error message says them."""
    arrays = ", ".join(f"{dtype}{list(shape)}" for dtype, shape in zip(site.dtypes, site.shapes, strict=True))
    return arrays if len(site.variables) == 1 else f"({arrays})"


def missing(path: str, sites: Sequence[Selected], name: str) -> ValueError:
    """The error for a path that names nothing: it lists the nearest ones."""
    if not sites:
        return ValueError(
            f"{name}: {path!r} names nothing, for no value in the function has a name. Modules of Flax (Linen, NNX), "
            "Haiku and Equinox are named by themselves; in a plain function put `with jax.named_scope('name'):` around "
            "a part, or name a value with `jax.ad_checkpoint.checkpoint_name(value, 'name')`."
        )
    keys = list(dict.fromkeys(s.key for s in sites))
    last = path.rpartition("/")[2]
    near = difflib.get_close_matches(path, keys, n=4, cutoff=0.4)
    near += [key for key in keys if last and last in key.rpartition("/")[2] and key not in near][:4]
    near = near or keys[:6]
    return ValueError(
        f"{name}: there is no layer {path!r}. The nearest: {', '.join(map(repr, near))}. "
        f"`print(jaxplain.layers(f)(x, ...))` lists all {len(keys)}."
    )
