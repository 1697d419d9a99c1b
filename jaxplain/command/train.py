"""`train`: fit a model, and keep its parameters, curves and what they say."""

from __future__ import annotations

import argparse
import inspect
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from jaxplain.command import parser as options_of
from jaxplain.command.asked import setting_pairs
from jaxplain.command.kind import kind, kind_of
from jaxplain.command.parser import whole_number
from jaxplain.command.place import require_folder
from jaxplain.command.subject import Subject
from jaxplain.command.value import Waits, written

EXAMPLES = """\
examples:
  {program} train --model tiny.py:build --data tiny.py:data --epochs 2 --out run
  {program} train --model tiny.py:build --data tiny.py:data --epochs 4 --out run --resume
  {program} train --model tiny.py:build --data tiny.py:data --validation 0.25 --patience 2 \
--optimizer 'adam(cosine_decay_schedule(1e-2, 100))' --loss cross_entropy --epochs 3 --batch-size 16 --out longer
  {program} train --list optimizer

It writes to the folder: params (which explain --checkpoint reads), epochs (which --resume goes on from), history.json,
log.csv and learning_curves.png. Further settings of jaxplain.train.fit are set by --set, such as record_layers=True;
--list fit says which there are.
"""

OWN = ("key", "loss", "optimizer", "epochs", "batch_size", "validation", "patience", "checkpoint", "resume", "progress")
CURVES = ("loss", "accuracy", "gradient_norm", "validation_loss", "validation_accuracy")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    option = parser.add_argument
    options_of.add_model(parser, required=True, checkpoint=False)
    options_of.add_data(parser, required=True)
    option("--validation", help="a share of the data such as 0.2, or data of its own, named as --data is")
    option("--optimizer", default="adam(1e-3)", help="one of optax with its settings (adam(1e-3))")
    option(
        "--loss", default="cross_entropy", help="cross_entropy, binary_cross_entropy, squared_error or @FILE.py:NAME"
    )
    option("--epochs", default="10", help="passes over the data (10)")
    option("--batch-size", default="32", help="examples in a step (32)")
    option("--patience", help="stop after so many epochs without a better validation loss")
    option("--key", type=options_of.seed, default=0, help="seed of parameters, order and dropout (0)")
    option("--out", required=True, help="the folder to write")
    option("--resume", action="store_true", help="go on with the run that the folder holds")
    option(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="further settings of jaxplain.train.fit",
    )
    options_of.add_list(parser, ("optimizer", "loss"))
    options_of.add_common(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    """Train as the options say."""
    numbers = _numbers(options)
    optimizer, loss = _value("optimizer", options.optimizer), _value("loss", options.loss)
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(
            f"--optimizer: {options.optimizer} is {type(optimizer).__name__}; write one such as adam(1e-3)."
        )
    further = _further(options.set)
    _check_out(options)
    subject, held_out = Subject(options).check(), _validation(options)

    import jax

    import jaxplain
    from jaxplain.train import diagnose, fit, save

    jaxplain.keep_programs(quiet=True)
    data = _examples(subject)
    data, validation = _split(data, held_out, options.key) if isinstance(held_out, float) else (data, held_out)
    if isinstance(validation, Subject):
        validation = _examples(validation)
    apply, params = subject.untrained
    out = Path(options.out)
    result = fit(
        apply,
        params,
        data,
        key=jax.random.key(options.key),
        loss=loss,
        optimizer=optimizer,
        validation=validation,
        checkpoint=out / "epochs",
        resume=options.resume,
        progress=False if options.quiet else None,
        **numbers,
        **further,
    )
    save(out / "params", result.params, overwrite=True)
    write_history(out, result.history)
    if not options.quiet:
        print(_summary(result.history), diagnose(result.history), sep="\n")
        print(f"in {out}: params (explain --checkpoint {out}), history.json, log.csv, learning_curves.png")


def _numbers(options: argparse.Namespace) -> dict[str, Any]:
    """The whole numbers among the options."""
    found: dict[str, Any] = {
        "epochs": whole_number(options.epochs, "--epochs"),
        "batch_size": whole_number(options.batch_size, "--batch-size"),
    }
    if options.patience is not None:
        if options.validation is None:
            raise ValueError("--patience counts epochs without a better validation loss; pass --validation 0.2 too.")
        found["patience"] = whole_number(options.patience, "--patience")
    return found


def _value(setting: str, text: str) -> Any:
    found = kind(setting)
    assert found is not None
    return written(text, f"--{setting}").read(found, {})


def _further(pairs: list[str]) -> dict[str, Any]:
    """Settings of `fit` that have no option of their own."""
    from jaxplain.program import hold
    from jaxplain.train import fit

    found = setting_pairs(fit, pairs, "--set", 3, {})
    values = {}
    for name, text in found.items():
        if name in OWN:
            raise ValueError(f"--set: `{name}` has an option of its own: --{name.replace('_', '-')}.")
        try:
            values[name] = text.read(kind_of(fit, name), {})
        except Waits as wait:
            raise ValueError(f"--set {name}: `{wait}` is not known here; write @file.py:name.") from None
    hold(inspect.unwrap(fit), values)
    return values


def _check_out(options: argparse.Namespace) -> None:
    path = Path(options.out).expanduser()
    options.out = str(path)
    require_folder(path, "--out")
    there = sorted(file.name for file in path.iterdir()) if path.is_dir() else []
    if there and "epochs" not in there:
        raise FileExistsError(
            f"--out: {path} holds something else ({', '.join(there[:3])}); name a new or empty folder."
        )
    if there and not options.resume:
        raise FileExistsError(f"--out: {path} holds a run; pass --resume to go on with it, or name another folder.")


def _validation(options: argparse.Namespace) -> Any:
    """None, a share of the data, or what is to be read."""
    text = options.validation
    if text is None:
        return None
    try:
        share = float(text)
    except ValueError:
        own = argparse.Namespace(**{**vars(options), "data": text, "model": None})
        return Subject(own).check()
    if not 0 < share < 1:
        raise ValueError(f"--validation: {text} has to lie between 0 and 1, such as 0.2, or name data as --data does.")
    return share


def _examples(subject: Subject) -> Any:
    """Inputs and targets as `fit` takes them."""
    inputs, args = subject.rows()
    if len(args) != 1:
        raise ValueError(
            f"--data: {subject.options.data} gives inputs and {len(args)} further arrays; training needs inputs and "
            "targets."
        )
    return inputs, args[0]


def _split(data: Any, share: float, seed: int) -> tuple[Any, Any]:
    """A part for training and one for validation, drawn by the seed."""
    import jax

    size = len(jax.tree.leaves(data)[0])
    order = np.random.default_rng(seed).permutation(size)
    count = min(max(round(share * size), 1), size - 1)
    if size < 2:
        raise ValueError(f"--validation: {size} example cannot be divided.")
    parts = np.sort(order[count:]), np.sort(order[:count])
    return tuple(jax.tree.map(lambda a, rows=rows: np.asarray(a)[rows], data) for rows in parts)


def write_history(out: Path, history: Any) -> None:
    """Write the curves as JSON, as CSV and as a figure."""
    from jaxplain.plot import learning_curves

    curves = {name: np.asarray(getattr(history, name)) for name in CURVES if getattr(history, name) is not None}
    values = {name: [None if np.isnan(v) else float(v) for v in curve] for name, curve in curves.items()}
    (out / "history.json").write_text(json.dumps(values, indent=1), encoding="utf-8")
    rows = zip(*values.values(), strict=True)
    lines = [",".join(["epoch", *values])]
    lines += [",".join([str(i + 1), *("" if v is None else f"{v:.6g}" for v in row)]) for i, row in enumerate(rows)]
    (out / "log.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    learning_curves(history).savefig(out / "learning_curves.png", dpi=110)


def read_history(folder: str) -> Any:
    """The curves of a training, as `fit` returns them.

    Raises:
        FileNotFoundError, ValueError: There are none.
    """
    path = Path(folder) / "history.json"
    if not path.is_file():
        raise FileNotFoundError(f"--training: there is no {path}; jaxplain train --out {folder} writes it.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        curves = {name: np.array(found[name], float) for name in CURVES if name in found}
        assert "loss" in curves
    except (ValueError, TypeError, AssertionError):
        raise ValueError(f"--training: {path} is no history that jaxplain train wrote.") from None
    return SimpleNamespace(**{name: curves.get(name) for name in CURVES}, epochs=len(curves["loss"]), layers=None)


def _summary(history: Any) -> str:
    """The last values of the curves."""
    words = [
        f"{name.replace('_', ' ')} {float(np.asarray(getattr(history, name))[-1]):.4g}"
        for name in ("loss", "accuracy", "validation_loss", "validation_accuracy")
        if getattr(history, name) is not None and not np.isnan(np.asarray(getattr(history, name))[-1])
    ]
    return f"after {len(np.asarray(history.loss))} epochs: {', '.join(words)}"
