"""The commands, and how they end: 0 for fine, 2 for something wrong in what was passed, 1 for what failed, 130."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from jaxplain.command import failure
from jaxplain.command.parser import PROGRAM, Parser

COMMANDS = {
    "train": "train a model and keep its parameters",
    "explain": "explain a dataset and write it to a folder",
    "evaluate": "judge methods, or explanations that were written, by metrics",
    "report": "one HTML page of explanations, a training or scores",
    "visualize": "figures: attributions over their inputs, what units respond to",
    "layers": "list a model's layers with shapes, parameters and operations",
}

TINY = """\
import numpy as np
from flax import linen as nn

class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), name="conv")(x))
        return nn.Dense(2, name="dense")(x.mean((1, 2)))

def build():
    return Network()

def data():
    x = np.random.default_rng(0).normal(size=(64, 8, 8, 1)).astype(np.float32)
    return x, (x.mean((1, 2, 3)) > 0).astype(np.int32)
"""
"""The file that all examples are about."""

_EPILOG = f"""\
Write a file tiny.py with a model and data:

{"".join(f"    {row}" if row.strip() else row for row in TINY.splitlines(keepends=True))}
and then:

  {PROGRAM} train --model tiny.py:build --data tiny.py:data --epochs 2 --out run
  {PROGRAM} explain --model tiny.py:build --checkpoint run --data tiny.py:data --out explanations
  {PROGRAM} report explanations --data tiny.py:data

build() returns a Linen module as here, (apply, params), an NNX or an Equinox model; package.module:name works as well.
{PROGRAM} COMMAND --help shows each command's options and examples.

exit status: 0 fine; 2 something wrong in what was passed, said before anything is built or read where it can be known;
1 something failed on the way, --traceback shows where; 130 interrupted, the same command (train: and --resume) goes
on. Compiled programs
are kept in the user's cache folder, so that a second run starts sooner; JAX_ENABLE_COMPILATION_CACHE=false keeps none.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; an error is one line on standard error.

    Args:
        arguments: As on the command line, None takes those of the process.

    Returns:
        The exit status: 0; 2 for something wrong in what was passed; 1 for what failed; 130 for an interruption.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    shown, traced = warnings.showwarning, False
    warnings.showwarning = failure.warn  # type: ignore[assignment]
    try:
        options = _parser(arguments).parse_args(arguments)
        traced = options.traceback
        options.command(options)
        sys.stdout.flush()
    except SystemExit as ended:
        return int(ended.code or 0)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has seen enough
    except (Exception, KeyboardInterrupt) as error:
        if traced:
            traceback.print_exception(error)
        print(failure.line(error), file=sys.stderr)
        return failure.status(error)
    finally:
        warnings.showwarning = shown
    return failure.FINE


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; of the commands only that which is asked for brings its options."""
    parser = Parser(prog=PROGRAM, description="Train networks and explain them.", epilog=_EPILOG)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    asked = next((text for text in arguments if not text.startswith("-")), None)
    for name, words in COMMANDS.items():
        own = commands.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.")
        if name == asked:
            module = importlib.import_module(f"jaxplain.command.{name}")
            own.epilog = module.EXAMPLES.format(program=PROGRAM)
            module.add_options(own)
    return parser
