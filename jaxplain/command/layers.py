"""`layers`: the table of a model's layers."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from jaxplain.command import parser as options_of
from jaxplain.command.place import nearest, require_file
from jaxplain.command.subject import Subject

EXAMPLES = """\
examples:
  {program} layers --model tiny.py:build --data tiny.py:data
  {program} layers --model tiny.py:build --shape 8,8,1
  {program} layers --model tiny.py:build --data tiny.py:data --out layers.csv

The first column is what layer= and path= of methods take. Parameters, and operations forward and backward, are those of
the layer without the layers inside it, for one example.
"""

COLUMNS = ("path", "operation", "shape", "dtype", "parameters", "forward", "backward", "bytes")
ENDINGS = (".csv", ".json", ".png")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    option = parser.add_argument
    options_of.add_model(parser, required=True)
    options_of.add_data(parser, required=False)
    option("--shape", help="the shape of one input in place of --data, such as 28,28,1")
    option("--input-dtype", default="float32", help="its dtype (float32)")
    option("--select", type=_select, help="the part of the model's output that is followed, such as logits or 0")
    option("--out", help="also write the table: FILE.csv, FILE.json or FILE.png")
    option("--key", type=options_of.seed, default=0, help=argparse.SUPPRESS)
    options_of.add_common(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    """Print the table, and write it where that is asked for."""
    shape = _shape(options)
    _check_out(options.out)
    subject = Subject(options).check()

    import jax

    import jaxplain

    if shape is not None:
        subject.sample = jax.ShapeDtypeStruct((1, *shape), options.input_dtype)
    apply, params = subject.model if options.checkpoint is not None else subject.shapes
    f = jaxplain.output(apply, params, select=options.select)
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), subject.sample)
    table = jaxplain.layers(jax.tree_util.Partial(_outputs, f))(one)
    print(table)
    if options.out is not None:
        _write(Path(options.out), table)


def _select(text: str) -> Any:
    return int(text) if text.isdigit() else text


def _outputs(f: Any, x: Any) -> Any:
    """The model's outputs for one example."""
    return f.outputs(x)


def _shape(options: argparse.Namespace) -> tuple[int, ...] | None:
    if (options.shape is None) == (options.data is None):
        raise ValueError("layers: pass --data, or --shape such as 28,28,1, so that the inputs' shape is known.")
    if options.shape is None:
        return None
    known = ("float32", "float16", "bfloat16", "float64", "int32", "uint8")
    if options.input_dtype not in known:
        raise ValueError(f"--input-dtype: there is no {options.input_dtype!r}{nearest(options.input_dtype, known)}.")
    try:
        return tuple(int(part) for part in options.shape.strip("()").split(",") if part.strip())
    except ValueError:
        raise ValueError(f"--shape: {options.shape!r} has to be whole numbers, such as 28,28,1.") from None


def _check_out(text: str | None) -> None:
    if text is not None and Path(text).suffix not in ENDINGS:
        raise ValueError(f"--out: {text} has to end with {', '.join(ENDINGS)}.")
    if text is not None:
        require_file(text, "--out")


def _write(path: Path, table: Any) -> None:
    if path.suffix == ".png":
        from jaxplain.plot import layer_table

        layer_table(table).savefig(path, dpi=110)
        return
    rows = [{name: getattr(layer, name) for name in COLUMNS} for layer in table]
    if path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows({**row, "shape": "x".join(map(str, row["shape"]))} for row in rows)
