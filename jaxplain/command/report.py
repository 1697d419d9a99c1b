"""`report`: one HTML page of explanations that were written, or of a training and of scores."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from jaxplain.command import parser as options_of
from jaxplain.command import place
from jaxplain.command.subject import Subject

EXAMPLES = """\
examples:
  {program} report explanations --data tiny.py:data
  {program} report explanations --page page.html --title "Sixty-four images" --examples 4
  {program} report --training run --scores scores.json --page training.html
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    option = parser.add_argument
    option("explanations", nargs="?", help="a folder that `explain` wrote")
    option("--page", help="the file to write (FOLDER.html)")
    option("--examples", type=int, default=8, help="how many examples are drawn (8)")
    option("--title", help="the page's title")
    option("--training", help="a folder that `train` wrote: its curves and what they say")
    option(
        "--scores",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE.json",
        help="tables that `evaluate --out` wrote",
    )
    options_of.add_data(parser, required=False)
    options_of.add_common(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    """Write the page that the options ask for."""
    others = options.training is not None or bool(options.scores)
    if (options.explanations is None) == (not others):
        raise ValueError(
            "report: name a folder that `explain` wrote, or --training RUN and --scores FILE.json, which have a page "
            "of their own."
        )
    print(_sections(options) if others else _explanations(options))


def _explanations(options: argparse.Namespace) -> Path:
    from jaxplain.report import explanations_page

    path = Path(options.explanations)
    found = place.explanations(options.explanations)
    subject = Subject(options).check()
    data = None if options.data is None else subject.data
    if data is not None and (subject.prepare is not None or subject.source.count is None):
        data, _ = subject.rows()
    return explanations_page(
        options.page or f"{path.absolute()}.html",
        found,
        data=data,
        transform=None if subject.prepare is not None else subject.transform,
        examples=options.examples,
        title=options.title or "Explanations",
    )


def _sections(options: argparse.Namespace) -> Path:
    """A page of a training and of scores."""
    from jaxplain.command.train import read_history
    from jaxplain.report import Section, report, training_section

    sections: list[Any] = []
    history = None if options.training is None else read_history(options.training)
    tables = [(path, read_scores(path)) for path in options.scores]
    if history is not None:
        sections.append(training_section(history))
    for path, scores in tables:
        rows = {
            method: {metric: cell["mean"] for metric, cell in row.items()} for method, row in scores["scores"].items()
        }
        words = f"Means over {scores['examples']} examples. " + " ".join(
            f"{name}: {way} is better." for name, way in scores["better"].items() if way
        )
        sections.append(Section(f"Scores of {Path(path).stem}", [words, rows]))
    page = options.page or f"{Path(options.training or options.scores[0]).absolute()}.html"
    return report(page, sections, title=options.title or "Report")


def read_scores(path: str) -> dict[str, Any]:
    """A table that `evaluate` wrote.

    Raises:
        FileNotFoundError, ValueError: There is none.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"--scores: there is no file {path}; jaxplain evaluate --out {path} writes one.")
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        assert {"scores", "better", "examples"} <= found.keys()
    except (ValueError, AssertionError, AttributeError):
        raise ValueError(f"--scores: {path} is no table that jaxplain evaluate --out FILE.json wrote.") from None
    return found
