"""`evaluate`: metrics over methods, or over explanations that were written; a table beside its controls."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxplain.command import parser as options_of
from jaxplain.command import place
from jaxplain.command import target as target_of
from jaxplain.command.asked import Asked, asked, stand_in
from jaxplain.command.explain import checked_method
from jaxplain.command.kind import kind
from jaxplain.command.parser import whole_number
from jaxplain.command.subject import Subject
from jaxplain.command.value import Waits, written

EXAMPLES = """\
examples:
  {program} evaluate --model tiny.py:build --checkpoint run --data tiny.py:data --examples 8 \
--method gradient 'integrated_gradients(steps=8)' --metric 'deletion(steps=8)' sparseness --out scores.json
  {program} evaluate explanations lrp --model tiny.py:build --checkpoint run --data tiny.py:data --examples 8 \
--metric sparseness 'deletion(steps=8)' --out folders.csv
  {program} evaluate --model tiny.py:build --checkpoint run --data tiny.py:data --examples 8 \
--method gradient --metric 'max_sensitivity(radius=0.1, samples=4)' --removal zeros 'blur(2)'
  {program} evaluate --list
  {program} evaluate --list deletion

Methods are judged beside random attributions, the input itself and, for images, edges and blurred maps, with two ways
of removing features; folders beside random attributions.
"""

ENDINGS = (".csv", ".json")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    option = parser.add_argument
    option("explanations", nargs="*", help="folders that `explain` wrote, of the same data; or pass --method")
    options_of.add_model(parser, required=True)
    options_of.add_data(parser, required=True)
    options_of.add_score(parser)
    target_of.add_option(parser, more=", without any what the model predicts")
    many: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    option("--method", **many, metavar="METHOD", help="methods: gradient 'lrp(epsilon_plus)'")
    option("--metric", **many, metavar="METRIC", help="metrics: sparseness 'deletion(steps=16)'")
    option("--removal", **many, metavar="BASELINE", help="at least two ways to remove features (zeros 'mean(data)')")
    option("--mask", help="where the object is, for localization: @masks.npy, [N, ...]")
    option("--examples", default="64", help="how many of the first examples, or 'all' (64)")
    option("--key", type=options_of.seed, default=0, help="seed (0)")
    option("--out", help="also write the table: FILE.json or FILE.csv")
    options_of.add_list(parser, ("metric", "method"))
    options_of.add_common(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    """Judge as the options say."""
    if bool(options.method) == bool(options.explanations):
        raise ValueError("evaluate: name either folders that `explain` wrote, or methods by --method.")
    if not options.metric:
        raise ValueError("evaluate: pass --metric, such as --metric sparseness deletion; --list lists them.")
    count = None if options.examples == "all" else whole_number(options.examples, "--examples")
    if options.out is not None and Path(options.out).suffix not in ENDINGS:
        raise ValueError(f"--out: {options.out} has to end with .json or .csv.")
    if options.out is not None:
        place.require_file(options.out, "--out")
    target = target_of.target_of(options.target)
    if target is not None and options.explanations:
        raise ValueError("--target: the folders say what was explained; it is for methods (--method).")
    methods = {text: checked_method(text) for text in options.method}
    metrics = {
        text: checked_metric(text, folders=bool(options.explanations), mask=options.mask) for text in options.metric
    }
    removals = _removals(options.removal)
    mask = None if options.mask is None else written(options.mask, "--mask").read(kind_of_mask(), {})
    folders = _opened(options.explanations)
    subject = Subject(options).check()

    import jaxplain

    jaxplain.keep_programs(quiet=True)
    if folders:
        table = _of_folders(subject, folders, metrics, count)
    else:
        table = _of_methods(subject, methods, metrics, removals, mask, count, target)
    print(table)
    if options.out is not None:
        write_scores(Path(options.out), table)


def kind_of_mask() -> Any:
    """A mask is an array."""
    from jaxplain.command.kind import Kind

    return Kind({}, strict=True, example="@masks.npy")


def checked_metric(text: str, *, folders: bool, mask: str | None) -> Asked:
    """A metric with its settings checked."""
    import jaxplain

    found = asked(text, "metric", "--metric")
    if folders and found.first in ("e", "method", "make"):
        raise ValueError(f"--metric: {text} explains again; name methods by --method in the place of folders.")
    stand_ins = {
        "f": (stand_in(),),
        "e": (jaxplain.gradient(stand_in()),),
        "method": (jaxplain.gradient, stand_in()),
        "make": (lambda params: jaxplain.gradient(stand_in()),),
    }
    made = found.check(*stand_ins.get(found.first, ()))
    if getattr(made, "needs_mask", False) and (mask is None or folders):
        where = "over methods (--method) " if folders else ""
        raise ValueError(f"--metric: {text} is judged {where}by where the object is: --mask @masks.npy, [N, ...].")
    return found


def _removals(texts: list[str]) -> dict[str, Any] | None:
    """Ways of removal that were read, or texts that wait for the data."""
    if not texts:
        return None
    if len(texts) < 2:
        raise ValueError(f"--removal: {texts[0]} alone proves little; pass two, such as zeros 'mean(data)'.")
    return {text: _removal(text, {}) for text in texts}


def _removal(text: str, given: Any) -> Any:
    found = kind("baseline")
    assert found is not None
    try:
        return written(text, "--removal").read(found, given)
    except Waits:
        return text


def _opened(folders: list[str]) -> dict[str, Any]:
    """The folders by their names."""
    if not folders:
        return {}
    twice = next((folder for place, folder in enumerate(folders) if folder in folders[:place]), None)
    if twice is not None:
        raise ValueError(f"evaluate: the folder {twice} is named twice.")
    names = [Path(folder).name for folder in folders]
    names = folders if len(set(names)) < len(names) else names
    return {name: place.explanations(folder) for name, folder in zip(names, folders, strict=True)}


def _of_folders(subject: Subject, folders: Mapping[str, Any], metrics: Mapping[str, Asked], count: int | None) -> Any:
    """A table of attributions that were written."""
    import jax

    from jaxplain.dataset import other_than
    from jaxplain.evaluate import score_table

    x, args = subject.rows(count)
    size = len(jax.tree.leaves(x)[0])
    for name, found in folders.items():
        if found.count != subject.source.count:
            raise ValueError(f"--data: there are {subject.source.count} examples, but {name} explains {found.count}.")
    score = subject.score()
    for folder, (name, found) in zip(subject.options.explanations, folders.items(), strict=True):
        lines = other_than(folder, found, subject.source, score, size)
        if lines:
            raise ValueError(
                f"evaluate: {name} explains something else than --model, --checkpoint and --data name, which differs "
                f"in {'; '.join(lines)}. Name those that it was explained with."
            )
    targets = [np.asarray(found["target"][:size]) for found in folders.values() if "target" in found]
    if any(not np.array_equal(targets[0], other) for other in targets[1:]):
        raise ValueError("evaluate: the folders explain different targets; evaluate each by itself.")
    args = (targets[0], *args[1:]) if targets else args
    made = {
        name: one.make(*((score,) if one.first == "f" else ()), given=subject.given) for name, one in metrics.items()
    }
    attributions = {name: _attributions(found, x, size, name) for name, found in folders.items()}
    return score_table(attributions, made, x, *args, key=jax.random.key(subject.options.key))


def _attributions(found: Any, x: Any, size: int, name: str) -> Any:
    import jax

    values = jax.tree.map(lambda column: np.asarray(column[:size]), found["attribution"])
    if isinstance(values, np.ndarray) and np.shape(x) == (*values.shape, 1):
        values = values[..., None]  # a map of images of one channel
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(values)], [np.shape(leaf) for leaf in jax.tree.leaves(x)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"evaluate: {name} holds attributions of shape {shapes[0][0]}, but the inputs have {shapes[1][0]}; metrics "
            "need a number for each value: explain again without --reduce, by a method of the input."
        )
    return values


def _of_methods(
    subject: Subject,
    methods: Mapping[str, Asked],
    metrics: Mapping[str, Asked],
    removals: Any,
    mask: Any,
    count: Any,
    target: Any,
) -> Any:
    """A table of methods beside the controls."""
    import jax

    from jaxplain.evaluate import compare

    x, args = subject.rows(count)
    size, given = len(jax.tree.leaves(x)[0]), subject.given
    if removals is not None:
        removals = {name: _removal(name, given) if isinstance(v, str) else v for name, v in removals.items()}
    _require_one_input(subject, methods)
    args = _arguments(subject, x, args, target)
    if mask is not None and len(mask) < size:
        raise ValueError(f"--mask: {len(mask)} masks for {size} examples.")
    return compare(
        subject.score(),
        {name: lambda f, one=one: one.make(f, given=given) for name, one in methods.items()},
        {name: as_compare_takes(one, subject) for name, one in metrics.items()},
        (x, *args),
        jax.random.key(subject.options.key),
        mask=None if mask is None else mask[:size],
        removals=removals,
    )


def _require_one_input(subject: Subject, methods: Mapping[str, Asked]) -> None:
    """Refuse methods of pairs: metrics judge what was said of one input, for which they would take the other one."""
    from jaxplain.dataset import takes_target

    for name, one in methods.items():
        if not takes_target(one.make(subject.score(), given=subject.given)):
            raise ValueError(
                f"--method: {name} compares two inputs, but metrics judge the attribution of one; `jaxplain explain` "
                "runs it, and jaxplain.language has its own checks of circuits."
            )


def _arguments(subject: Subject, x: Any, args: tuple[Any, ...], target: Any) -> tuple[Any, ...]:
    """What methods are called with behind x: the data's targets, or what the model predicts without any."""
    from jaxplain import gradient
    from jaxplain.dataset import with_target
    from jaxplain.program import check_calls

    target = "predicted" if target is None and not args else target
    e = gradient(subject.score())
    target_of.require_targets(subject, target, e)
    if target is not None:
        return with_target(e, x, args, target)
    check_calls(e, x, args)
    return args


def as_compare_takes(one: Asked, subject: Subject) -> Any:
    """A metric as `compare` takes it: the name of its first argument says what it is made of."""
    given = subject.given
    if one.first == "f":
        return lambda f: one.make(f, given=given)
    if one.first == "e":
        return lambda e: one.make(e, given=given)
    if one.first == "make":
        return lambda method: one.make(lambda params: method(subject.score(params)), given=given)
    if one.first == "method":
        return lambda method: one.make(method, subject.score(), given=given)
    return one.make(given=given)


def write_scores(path: Path, table: Any) -> None:
    """Write a table as JSON (a number for each method and metric) or as CSV (a line for each)."""
    cells = {
        method: {
            metric: {
                name: _number(getattr(table, name)[row, column])
                for name in ("mean", "low", "high", "undefined")
                if hasattr(table, name)
            }
            for column, metric in enumerate(table.metrics)
        }
        for row, method in enumerate(table.methods)
    }
    if path.suffix == ".json":
        better = dict(zip(table.metrics, table.better, strict=True))
        found = {"examples": int(table.values.shape[-1]), "better": better, "scores": cells}
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")
        return
    if hasattr(table, "to_csv"):
        table.to_csv(path)
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("method", "metric", "better", "mean", "low", "high", "undefined"))
        for method, row in cells.items():
            for (metric, cell), better in zip(row.items(), table.better, strict=True):
                writer.writerow((method, metric, better or "", *cell.values()))


def _number(value: Any) -> Any:
    value = float(value)
    return None if np.isnan(value) else value
