"""A page of a dataset's explanations: what was run, how far to trust it, and the examples that stand out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxplain import check
from jaxplain.dataset import Explanations, as_source, known_arguments
from jaxplain.program import public
from jaxplain.report.page import Section, Table, report

NAME = "explanations_page"

PART = 4096
"""How many explanations are read at once for the means."""


@public
def explanations_page(
    path: str | os.PathLike[str],
    explanations: Explanations,
    *,
    data: Any = None,
    transform: Callable[[Any], Any] | None = None,
    examples: int = 8,
    title: str = "Explanations",
) -> Path:
    """Write one HTML page of what `explain_dataset` wrote to a folder.

    Its tables: the run (method, settings, versions), the scores and completeness gaps, per class where targets are
    known. Its figures: the mean absolute attribution, and the examples with the highest scores; with `data` of images,
    over them.

    Args:
        path: The file to write.
        explanations: From `open_explanations`; an unfinished run is described as far as it is.
        data: The dataset that was explained, to draw its inputs.
        transform: As in `explain_dataset`.
        examples: How many examples are drawn.
        title: The page's title.

    Returns:
        The path. Cost: the explanations are read once, a part at a time.

    Raises:
        ValueError: Nothing is finished, data of another length.

    Example:
        >>> import tempfile, jax.numpy as jnp
        >>> from jaxplain.dataset import explain_dataset
        >>> from jaxplain.explain.gradient.gradient import gradient
        >>> found = explain_dataset(gradient(lambda x: (x**2).sum()), jnp.eye(3), batch_size=2, out="memory")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     explanations_page(f"{folder}/page.html", found.explanations).name
        'page.html'
    """
    check.count(examples, NAME, "examples")
    rows = np.flatnonzero(explanations.finished)
    if rows.size == 0:
        raise ValueError(f"{NAME}: no example is explained yet.")
    sections = [Section("How far to trust it", _trust(explanations, rows))]
    if "target" in explanations and _flat(explanations["target"]):
        sections.append(Section("Classes", _classes(explanations, rows)))
    sections += _pictures(explanations, rows, data, transform, examples)
    return report(path, sections, title=title, facts=_facts(explanations))


def _flat(column: Any) -> bool:
    """Whether a column is one number for each example."""
    return hasattr(column, "shape") and len(column.shape) == 1


def _facts(explanations: Explanations) -> dict[str, Any]:
    settings = explanations.settings
    facts: dict[str, Any] = {"examples": explanations.count, "finished": int(explanations.finished.sum())}
    if not settings:
        return facts
    method = settings["method"]
    facts["method"] = method.get("name") or method["kind"] if isinstance(method, dict) else method
    if isinstance(method, dict):
        plain = {name: value for name, value in method.items() if isinstance(value, bool | int | float | str)}
        facts |= {name: value for name, value in plain.items() if name not in ("name", "kind")}
    facts |= {name: value for name, value in settings["settings"].items() if isinstance(value, str | int)}
    return facts | {f"{name} version": settings["versions"][name] for name in ("jax", "jaxplain", "python")}


def _trust(explanations: Explanations, rows: np.ndarray) -> dict[str, Any]:
    known = {name: explanations[name] for name in explanations if _flat(explanations[name])}
    values = {name: np.asarray(column[rows]) for name, column in known.items() if name != "id"}
    facts: dict[str, Any] = {"explained": len(rows), "not finite": int((~values["finite"]).sum())}
    label = values.get("label", values.get("target"))
    if label is not None and "prediction" in values:
        facts["predicted as the label or target says"] = f"{np.mean(values['prediction'] == label):.1%}"
    if "gap" in values:
        gap = np.abs(values["gap"])
        facts["completeness gap, median"] = float(np.nanmedian(gap))
        facts["completeness gap, 99th percentile"] = float(np.nanpercentile(gap, 99))
        if "baseline_score" in values:
            change = np.abs(values["score"] - values["baseline_score"])
            facts["median change of the score from the baseline"] = float(np.nanmedian(change))
    if "reached" in values:
        facts["tolerance reached"] = f"{values['reached'].mean():.1%}"
    if "steps" in values:
        facts["gradients an example, mean"] = float(values["steps"].mean())
    return facts


def _classes(explanations: Explanations, rows: np.ndarray) -> Table:
    target = np.asarray(explanations["target"][rows])
    columns = [name for name in ("score", "gap") if name in explanations]
    values = {name: np.asarray(explanations[name][rows]) for name in columns}
    table = []
    for k in np.unique(target)[:100]:
        own = target == k
        table.append([int(k), int(own.sum()), *(float(np.nanmean(values[name][own])) for name in columns)])
    heads = ["target", "examples", *(f"mean {name}" for name in columns)]
    return Table(heads, table, "The class that was explained; the first 100.")


def _pictures(explanations: Explanations, rows: np.ndarray, data: Any, transform: Any, examples: int) -> list[Section]:
    """The mean absolute attribution, and the examples with the highest scores, where there is one plain array."""
    from jaxplain import plot

    column = explanations["attribution"]
    if not hasattr(column, "shape") or len(column.shape) not in (2, 3, 4):
        return []
    best = _best(explanations, rows, examples)
    inputs = None if data is None else _inputs(data, transform, best, explanations.count)
    attributions = np.asarray(column[best], np.float32)
    titles = [f"{explanations.ids[np.searchsorted(rows, row)]}" for row in best]
    if len(column.shape) == 2:
        figures = [Section("The strongest features", plot.attribution_bar(np.asarray(column[rows[:PART]], np.float32)))]
        if inputs is not None and np.shape(inputs) == attributions.shape and len(best) > 1:
            figures.append(Section("Values and attributions", plot.summary(inputs, attributions)))
        return figures
    mean = plot.activations({"all examples": _mean_absolute(column, rows)[..., None]})
    if inputs is None or np.ndim(inputs) < 3:
        maps = attributions.sum(axis=-1) if attributions.ndim == 4 else attributions
        figure = plot.activations({f"examples {', '.join(titles)}": np.moveaxis(maps, 0, -1)})
    else:
        figure = plot.heatmaps(_shown(inputs), attributions, titles, limit=examples)
    return [
        Section("Mean absolute attribution", mean, alt="A map of the mean absolute attribution over all examples"),
        Section("Examples with the highest scores", figure, alt="Attributions of the examples with the highest scores"),
    ]


def _best(explanations: Explanations, rows: np.ndarray, examples: int) -> np.ndarray:
    if "score" not in explanations:
        return rows[:examples]
    score = np.asarray(explanations["score"][rows])
    return rows[np.argsort(-np.nan_to_num(score, nan=-np.inf), kind="stable")[:examples]]


def _mean_absolute(column: Any, rows: np.ndarray) -> np.ndarray:
    total = np.zeros(column.shape[1:], np.float64)
    for start in range(0, len(rows), PART):
        total += np.abs(np.asarray(column[rows[start : start + PART]], np.float64)).sum(axis=0)
    mean = total / len(rows)
    return (mean.sum(axis=-1) if mean.ndim == 3 else mean).astype(np.float32)


def _inputs(data: Any, transform: Any, places: np.ndarray, count: int) -> Any:
    source = as_source(data, None, transform)
    if known_arguments(source) is None or source.count != count:
        raise ValueError(
            f"{NAME}: `data` has {source.count} examples and the explanations {count}; pass the arrays that were "
            "explained."
        )
    found = [source.read(int(place), int(place) + 1).x for place in places]
    return np.concatenate(found) if all(isinstance(x, np.ndarray) for x in found) else jax.tree.leaves(found)[0]


def _shown(images: np.ndarray) -> np.ndarray:
    """Images in [0, 1]; other values are shifted and scaled together."""
    low, high = float(np.nanmin(images)), float(np.nanmax(images))
    if low >= 0 and high <= 1:
        return images
    return (images - low) / max(high - low, 1e-12)
