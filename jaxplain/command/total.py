"""`--aggregate`: what the whole dataset says, folded in the same pass and written as one archive of arrays."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxplain.command.kind import kind
from jaxplain.command.place import require_file
from jaxplain.command.value import written


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of aggregates."""
    option = parser.add_argument
    option(
        "--aggregate",
        nargs="+",
        action="extend",
        default=[],
        metavar="AGGREGATOR",
        help="over all examples: moments 'moments(classes=10)' 'top_k(5)'",
    )
    option("--aggregate-out", metavar="FILE.npz", help="where they are written (OUT.aggregate.npz)")


def aggregator(options: argparse.Namespace) -> Any:
    """The aggregators that the options name as one; None without any.

    Raises:
        ValueError, TypeError: A name, setting or place that is no good.
    """
    texts = options.aggregate
    if not texts:
        if options.aggregate_out is not None:
            raise ValueError("--aggregate-out: there is nothing to write; pass --aggregate, such as moments.")
        return None
    twice = next((text for place, text in enumerate(texts) if text in texts[:place]), None)
    if twice is not None:
        raise ValueError(f"--aggregate: {twice} is named twice.")
    from jaxplain.aggregate import Aggregator, combine

    found, parts = kind("aggregate"), {}
    assert found is not None
    for text in texts:
        part = written(text, "--aggregate").read(found, {})
        if not isinstance(part, Aggregator):
            raise TypeError(
                f"--aggregate: {text} is {type(part).__name__}, no aggregator; write moments, top_k(5) or "
                "@file.py:name."
            )
        parts[text] = part
    _place(options)
    return combine(**parts)


def _place(options: argparse.Namespace) -> None:
    """Find where the archive goes, before anything is computed."""
    if options.aggregate_out is None:
        if options.out is None:
            raise ValueError("--aggregate: pass --aggregate-out FILE.npz, or --out to keep explanations as well.")
        options.aggregate_out = f"{Path(options.out).expanduser().absolute()}.aggregate.npz"
        return
    options.aggregate_out = str(Path(options.aggregate_out).expanduser())
    if Path(options.aggregate_out).suffix != ".npz":
        raise ValueError(f"--aggregate-out: {options.aggregate_out} has to end with .npz.")
    require_file(options.aggregate_out, "--aggregate-out")


def write(options: argparse.Namespace, result: Mapping[str, Any]) -> str:
    """Write what was computed, and say in a line what is there.

    Args:
        options: Those of the command.
        result: The results by what was written for them.
    """
    arrays = _arrays(result)
    np.savez(options.aggregate_out, **arrays)  # type: ignore[arg-type]  # no name is allow_pickle
    return f"{options.aggregate_out}: {', '.join(arrays)}"


def _arrays(result: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Every array of the results by a name: `moments.mean`, by the whole text where two names would be equal."""
    import jax

    plain = {text: _name(text) for text in result}
    names = {text: name if list(plain.values()).count(name) == 1 else text for text, name in plain.items()}
    found = {}
    for text, part in result.items():
        for path, leaf in jax.tree.leaves_with_path(part):
            found[f"{names[text]}{jax.tree_util.keystr(path)}"] = np.asarray(leaf)
    return found


def _name(text: str) -> str:
    """The function's name of a call, `file.py:name` of an object that is referred to."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        return text.strip().lstrip("@")
    return ast.unparse(tree.func) if isinstance(tree, ast.Call) else ast.unparse(tree)
