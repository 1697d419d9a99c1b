"""The options of the commands, and the parser that says mistakes in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from jaxplain.command.failure import WRONG

PROGRAM = "python -m jaxplain"


def _formatter(prog: str) -> argparse.HelpFormatter:
    """Help of one width wherever it is read."""
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=28, width=110)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line on standard error."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        settings = {"formatter_class": _formatter, "allow_abbrev": False, **settings}
        super().__init__(*args, **settings)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, the nearest option or command, and end."""
        self.exit(WRONG, f"error: {self._mended(message)}; {self.prog} --help shows an example.\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As usual, but what is unknown is said with the nearest option of this command."""
        found, rest = super().parse_known_args(args, namespace)
        odd = [text for text in rest if text.startswith("--")]
        if odd:
            from jaxplain.command.place import near

            options = [
                option for action in self._actions for option in action.option_strings if option.startswith("--")
            ]
            close = near(odd[0].partition("=")[0].lstrip("-"), [option.lstrip("-") for option in options])
            nearest = f"; nearest: {', '.join(f'--{name}' for name in close)}" if close else ""
            self.exit(WRONG, f"error: there is no option {odd[0]}{nearest}; {self.prog} --help shows an example.\n")
        return found, rest

    @staticmethod
    def _mended(message: str) -> str:
        """One of argparse's messages without its list of everything."""
        if "invalid choice" not in message:
            return message
        from jaxplain.command.place import nearest

        given = message.partition("invalid choice: '")[2].partition("'")[0]
        known = message.partition("(choose from ")[2].rstrip(")").replace("'", "").split(", ")
        what = message.partition(": invalid")[0]
        return f"{what}: there is no {given!r}{nearest(given, known)}; there are {', '.join(known)}"


class Listing(argparse.Action):
    """`--list [NAME]`: print what can be named and end, whatever else is missing."""

    def __init__(self, *args: Any, kinds: Sequence[str] = (), **settings: Any) -> None:
        settings = {"nargs": "?", "metavar": "NAME", **settings}
        super().__init__(*args, **settings)
        self.kinds = kinds

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        """Print, and end."""
        from jaxplain.command import listing

        try:
            text = listing.listed(values, self.kinds)
        except ValueError as error:
            parser.exit(WRONG, f"error: {error}\n")
        print(text)
        sys.stdout.flush()
        parser.exit(0)


_PLURAL = {"loss": "es"}


def add_list(parser: argparse.ArgumentParser, kinds: Sequence[str]) -> None:
    """Add `--list`."""
    what = ", ".join(
        kind if kind.endswith("s") and kind != "loss" else f"{kind}{_PLURAL.get(kind, 's')}" for kind in kinds
    )
    parser.add_argument("--list", action=Listing, kinds=kinds, help=f"list {what}, or what NAME takes, and end")


def add_model(parser: argparse.ArgumentParser, *, required: bool, checkpoint: bool = True) -> None:
    """Add the options that name a model."""
    option = parser.add_argument
    option(
        "--model",
        required=required,
        metavar="FILE.py:NAME",
        help="a function of no arguments that returns (apply, params), a Linen module, an NNX or an Equinox model",
    )
    if checkpoint:
        option("--checkpoint", help="the parameters: a folder that `train` wrote, or an Orbax checkpoint")
        option("--at", default="", help="the part of the checkpoint that holds them, such as params")


def add_data(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """Add the options that name a dataset."""
    option = parser.add_argument
    option(
        "--data",
        required=required,
        help=".npz, .npy, a folder of images with a subfolder for each class, or FILE.py:NAME",
    )
    option("--inputs", default="inputs", help="name of the inputs in an .npz file (inputs)")
    option("--targets", default="targets", help="name of the targets in an .npz file (targets)")
    option("--transform", metavar="FILE.py:NAME", help="applied to each example's input, in NumPy")
    option("--prepare", metavar="FILE.py:NAME", help="applied to each example's input on the device, in JAX")


def add_score(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a score."""
    option = parser.add_argument
    option("--score", default="logit", help="what of the output is explained: logit, probability, loss, ... (logit)")
    option(
        "--score-set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="its settings: activation=sigmoid",
    )
    option("--select", help="the part of the model's output that is scored, such as logits or 0")


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add what every command takes."""
    parser.add_argument("--quiet", action="store_true", help="no progress, no summary")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")


def whole_number(text: str, option: str, least: int = 1) -> int:
    """A whole number.

    Raises:
        ValueError: Another text, or a smaller number.
    """
    try:
        number = int(text)
    except ValueError:
        raise ValueError(f"{option}: {text!r} is no whole number.") from None
    if number < least:
        raise ValueError(f"{option}: {number} has to be at least {least}.")
    return number


def seed(text: str) -> int:
    """A seed, of which no two are the same: what JAX makes of larger ones is another's.

    Raises:
        ArgumentTypeError: Another text, or a number that does not fit into 32 bits.
    """
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} has to be a whole number from 0 to {2**32 - 1}")
    return int(text)
