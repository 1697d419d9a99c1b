"""Whether explanations that were written are of these examples and of this model, for what judges them later."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jaxplain.dataset.explanations import Explanations
from jaxplain.dataset.fingerprint import arrays_of, rows_digest
from jaxplain.dataset.ledger import finished_chunks
from jaxplain.dataset.source import Source
from jaxplain.dataset.store import OWN


def other_than(
    folder: str | os.PathLike[str], explanations: Explanations, source: Source, score: Any, size: int
) -> list[str]:
    """What explanations are of that a dataset and a score are not.

    Args:
        folder: Where the explanations are.
        explanations: What was opened there.
        source: The dataset, with random access.
        score: The score with its model's parameters, which are compared by their digests.
        size: How many of the first examples are looked at; all of the chunks that hold them are read.

    Returns:
        A line for each difference, none where there is none that is known. Cost: no model pass.
    """
    chunk, known = explanations.settings["chunk"], explanations.settings["arrays"]
    noted, lines = finished_chunks(Path(folder).expanduser() / OWN), []
    numbers = [number for number in range(-(-size // chunk)) if number in noted]
    for number, rows in source.chunks(chunk, numbers):
        if rows_digest(rows) != noted[number].data:
            first = number * chunk
            lines.append(f"data: the examples {first} to {first + rows.size - 1} are others")
            break
    own = {path: value for path, value in arrays_of(score).items() if path.startswith("params")}
    pairs = [(path, value, known[name]) for path, value in own.items() for name in known if name.endswith(f".{path}")]
    changed = list(dict.fromkeys(path for path, value, there in pairs if value != there))
    if changed:
        lines.append(f"model parameters: {', '.join(changed[:3])}{' ...' if len(changed) > 3 else ''}")
    return lines
