"""A page of a dataset's explanations: what was run, how far to trust it, and the examples that stand out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxplain import check
from jaxplain.dataset import Explanations, as_source, known_arguments
from jaxplain.program import public
from jaxplain.report.examples import as_gallery, picture_columns
from jaxplain.report.gallery import Gallery
from jaxplain.report.page import Section, Table, report
from jaxplain.report.reading import EXPLANATIONS
from jaxplain.report.word import titles

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
    names: Sequence[Any] | None = None,
    interactive: bool = True,
) -> Path:
    """Write one HTML page of what `explain_dataset` wrote to a folder.

    It says which model, data and method it was, how far to trust the explanations, and shows the examples that stand
    out (of the highest score, wrong, of the largest gap) with their class, prediction, score and pictures, to sort and
    to filter; then the mean absolute attribution, or the strongest features of a table, of all that are finite.

    Args:
        path: The file to write.
        explanations: From `open_explanations`; an unfinished run is described as far as it is.
        data: The dataset that was explained, to draw its inputs.
        transform: As in `explain_dataset`.
        examples: How many examples are drawn.
        title: The page's title.
        names: Names of the classes.
        interactive: As in `report`.

    Returns:
        The path. Cost: the explanations are read once, a part at a time.

    Raises:
        ValueError: Nothing is finished, data of another length, too few names.

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
    parts: dict[str, Any] = {"How far to trust it": _trust(explanations, rows)}
    parts["Examples that stand out"] = _examples(explanations, rows, data, transform, examples, names)
    if "target" in explanations and _flat(explanations["target"]):
        parts["Classes"] = _classes(explanations, rows, names)
    parts |= _means(explanations, rows[_finite(explanations, rows)], data, transform, examples)
    sections = [Section(heading, content, reading=EXPLANATIONS[heading]) for heading, content in parts.items()]
    last = "Settings and versions"
    if explanations.settings:
        sections.append(Section(last, _details(explanations), collapsed=True, reading=EXPLANATIONS[last]))
    return report(path, sections, title=title, facts=_facts(explanations), interactive=interactive)


def _flat(column: Any) -> bool:
    """Whether a column is one number for each example."""
    return hasattr(column, "shape") and len(column.shape) == 1


def _facts(explanations: Explanations) -> dict[str, Any]:
    """Which model, which data and which method, in words."""
    settings, finished = explanations.settings, int(explanations.finished.sum())
    known = "all explained" if finished == explanations.count else f"{finished} of them explained so far"
    if not settings:
        return {"examples": f"{explanations.count:,}, {known}"}
    shapes = {path: f"{kind}{shape}" for path, (shape, kind) in _leaves(settings["data"]).items()}
    inputs = [f"{path.removeprefix('inputs')} {text}".strip() for path, text in shapes.items() if "inputs" in path]
    facts = {
        "model": _model(settings["method"]),
        "data": f"{explanations.count:,} examples of {', '.join(inputs)}, {known}",
    }
    method = settings["method"]
    name = method.get("name") or method["kind"] if isinstance(method, dict) else method
    target = settings["settings"].get("target")
    explained = {None: "of the data's targets", "predicted": "of the predicted class"}.get(target, f"of class {target}")
    return facts | {"method": name, "explained": f"the {_score(method).get('name', 'score')} {explained}"}


def _leaves(data: Mapping[str, Any]) -> dict[str, Any]:
    """What is recorded of the data's arrays: shape and dtype by path."""
    return {path: value for path, value in data.items() if isinstance(value, list | tuple) and len(value) == 2}


def _score(method: Any) -> dict[str, Any]:
    """The score in a method's settings, wherever it is wrapped; empty where there is none of a model."""
    if not isinstance(method, dict):
        return {}
    if "apply" in method:
        return method
    return next((found for part in method.values() if (found := _score(part))), {})


def _model(method: Any) -> str:
    """A model as a run knows it: the function that applies it, and its params."""
    score = _score(method)
    if score:
        apply = score["apply"]
        name = apply.get("kind", "a function") if isinstance(apply, dict) else str(apply)
        return f"{name}, params: {score.get('params') or 'none'}"
    function = method.get("score") if isinstance(method, dict) else None
    return str(function) if isinstance(function, str) else "a function that is not a score of a model"


def _details(explanations: Explanations) -> dict[str, Any]:
    """What a run needs to be made again: the method's settings, and versions."""
    settings = explanations.settings
    method = settings["method"]
    facts: dict[str, Any] = {}
    if isinstance(method, dict):
        plain = {name: value for name, value in method.items() if isinstance(value, bool | int | float | str)}
        facts |= {name: value for name, value in plain.items() if name not in ("name", "kind")}
    facts |= {name: value for name, value in settings["settings"].items() if isinstance(value, str | int)}
    return facts | {f"{name} version": settings["versions"][name] for name in ("jax", "jaxplain", "python")}


def _finite(explanations: Explanations, rows: np.ndarray) -> np.ndarray:
    """Which of these examples have an attribution without NaN and infinities."""
    return np.asarray(explanations["finite"][rows], bool) if "finite" in explanations else np.ones(len(rows), bool)


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


def _classes(explanations: Explanations, rows: np.ndarray, names: Any) -> Table:
    target = np.asarray(explanations["target"][rows])
    columns = [name for name in ("score", "gap") if name in explanations]
    values = {name: np.asarray(explanations[name][rows]) for name in columns}
    known = np.unique(target)[:100]
    table = []
    for k, word in zip(known, titles(known, len(known), names, NAME, "target"), strict=True):
        own = target == k
        table.append([word, int(own.sum()), *(float(np.nanmean(values[name][own])) for name in columns)])
    heads = ["class", "examples", *(f"mean {name}" for name in columns)]
    return Table(heads, table, "The class that was explained; the first 100.")


def _examples(
    explanations: Explanations, rows: np.ndarray, data: Any, transform: Any, examples: int, names: Any
) -> Gallery:
    """The examples that stand out, with all that is known of each."""
    places, why = _standing_out(explanations, rows, examples)
    for k in np.flatnonzero(~_finite(explanations, places)):
        why[k] += "; not finite, what is NaN or infinite is drawn as 0 (of an input, as its darkest pixel)"
    known = {name: np.asarray(explanations[name][places]) for name in explanations if _flat(explanations[name])}
    words: dict[str, list[str] | None] = {"labels": None, "predicted": None}
    numbers: dict[str, np.ndarray] = {name: known[name].astype(float) for name in ("score", "gap") if name in known}
    true = _true(explanations)
    for argument, name in (("labels", true), ("predicted", "prediction")):
        if name in known and known[name].dtype.kind in "iu":
            words[argument] = titles(known[name], len(places), names, NAME, name)
        elif name in known:
            numbers[name] = known[name].astype(float)
    columns, ends = _pictures(explanations, places, data, transform)
    ids = [str(explanations.ids[place]) for place in np.searchsorted(rows, places)]
    more = {"why it is here": why}
    if "target" in known and true != "target" and known["target"].dtype.kind in "iu":
        more["explained class"] = titles(known["target"], len(places), names, NAME, "target")
    methods = [column.title for column in columns if column.method is not None]
    return as_gallery(ids, columns, methods=methods, ends=ends, numbers=numbers, words=more, names=names, **words)


def _true(explanations: Explanations) -> str:
    """The name of the true classes: labels, or the data's targets where those were explained."""
    chosen = explanations.settings["settings"].get("target") if explanations.settings else None
    return "label" if "label" in explanations else "target" if chosen is None else ""


def _standing_out(explanations: Explanations, rows: np.ndarray, examples: int) -> tuple[np.ndarray, list[str]]:
    """Half of them of the highest score, then wrong ones, then those of the largest gap; and why each is there."""
    values = {n: np.asarray(explanations[n][rows]) for n in ("score", "gap") if n in explanations}
    order = {
        n: np.argsort(-np.nan_to_num(v if n == "score" else np.abs(v), nan=-np.inf), kind="stable")
        for n, v in values.items()
    }
    highest = order.get("score", np.arange(len(rows)))
    true = _true(explanations)
    wrong = np.zeros(len(rows), bool)
    if true in explanations and _flat(explanations[true]) and "prediction" in explanations:
        said = explanations["prediction"]
        wrong = np.asarray(said[rows]) != np.asarray(explanations[true][rows]) if _flat(said) else wrong
    word = "highest score" if "score" in order else "the first ones"
    quarter = examples // 4
    chosen: dict[int, str] = dict.fromkeys(highest[: examples - 2 * quarter].tolist(), word)
    for reason, candidates in (("wrong", highest[wrong[highest]]), ("largest gap", order.get("gap", highest[:0]))):
        fresh = [int(k) for k in candidates if int(k) not in chosen][:quarter]
        chosen |= dict.fromkeys(fresh, reason)
    rest = [int(k) for k in highest if int(k) not in chosen][: examples - len(chosen)]
    chosen |= dict.fromkeys(rest, word)
    return rows[list(chosen)], list(chosen.values())


def _pictures(
    explanations: Explanations, places: np.ndarray, data: Any, transform: Any
) -> tuple[list[Any], list[float]]:
    """Columns of inputs and attributions, where these are one plain array of a kind that is drawn."""
    inputs = None if data is None else _inputs(data, transform, places, explanations.count)
    column = explanations["attribution"]
    if not hasattr(column, "shape") or len(column.shape) not in (2, 3, 4):
        return [], []
    found = np.asarray(column[places], np.float64)
    finite = np.where(np.isfinite(found), found, 0.0)
    given, byte = None, False
    if isinstance(inputs, np.ndarray) and _drawable(inputs):
        given, byte = inputs.astype(np.float64), inputs.dtype == np.uint8
        given = given if given.ndim == 2 else _filled(given)
    return picture_columns(given, {"attribution": finite}, len(places), None, 64, byte)


def _drawable(inputs: np.ndarray) -> bool:
    """Whether inputs are rows of a table or images, all of real numbers of any precision."""
    known = inputs.ndim in (2, 3) or (inputs.ndim == 4 and inputs.shape[-1] in (1, 3, 4))
    return known and (check.is_floating(inputs) or inputs.dtype.kind in "iub")


def _filled(images: np.ndarray) -> np.ndarray:
    """Images in which what is not finite is as dark as the darkest pixel, which leaves the others as they are."""
    known = np.isfinite(images)
    return np.where(known, images, images[known].min() if known.any() else 0.0)


def _means(explanations: Explanations, rows: np.ndarray, data: Any, transform: Any, examples: int) -> dict[str, Any]:
    """The mean absolute attribution of maps, or the strongest features of a table; nothing where no example is left."""
    from jaxplain import plot

    column = explanations["attribution"]
    if rows.size == 0 or not hasattr(column, "shape") or len(column.shape) not in (2, 3, 4):
        return {}
    if len(column.shape) > 2:
        shown, ends = picture_columns(None, {"attribution": _mean_absolute(column, rows)[None]}, 1, None, 64)
        none: dict[str, Any] = {"labels": None, "predicted": None, "numbers": {}}
        return {"Mean absolute attribution": as_gallery(["all"], shown, methods=["attribution"], ends=ends, **none)}
    first = rows[:PART]
    parts: dict[str, Any] = {"The strongest features": plot.attribution_bar(np.asarray(column[first], np.float32))}
    some = first[: max(examples, 200)]
    inputs = None if data is None else _inputs(data, transform, some, explanations.count)
    if inputs is not None and np.shape(inputs) == (len(some), column.shape[1]) and len(some) > 1:
        parts["Values and attributions"] = plot.summary(inputs, np.asarray(column[some], np.float32))
    return parts


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
