"""`visualize`: PNG files of attributions over their inputs, and of what units of a model respond to."""

from __future__ import annotations

import argparse
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from jaxplain.command import parser as options_of
from jaxplain.command import place
from jaxplain.command.asked import setting_pairs, stand_in
from jaxplain.command.kind import kind, kind_of
from jaxplain.command.parser import whole_number
from jaxplain.command.subject import Subject
from jaxplain.command.value import Waits, called, written

EXAMPLES = """\
examples:
  {program} visualize explanations --data tiny.py:data --out figures --examples 4 --overlay
  {program} visualize --model tiny.py:build --checkpoint run --data tiny.py:data --out units \
--unit conv:0 conv:3 --class 1 --set steps=8
  {program} visualize --model tiny.py:build --checkpoint run --data tiny.py:data --out more \
--objective 'channel(conv, 2) + 0.5 * score(1)' --image 'fourier((8, 8, 1), decay=1.5)' \
--set steps=8 'transforms=[jitter(1)]' 'regularisers=[total_variation(0.1)]'
  {program} visualize --list image
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    option = parser.add_argument
    many: dict[str, Any] = {"nargs": "+", "action": "extend", "default": []}
    option("explanations", nargs="?", help="a folder that `explain` wrote; or pass --model")
    option("--out", required=True, help="the folder to write")
    option("--examples", default="8", help="how many examples are drawn, those with the highest scores (8)")
    option("--overlay", action="store_true", help="draw attributions over the greyed inputs")
    options_of.add_model(parser, required=False)
    options_of.add_data(parser, required=True)
    options_of.add_score(parser)
    option("--unit", **many, metavar="LAYER:INDEX", help="channels of layers, as `layers` lists them")
    option("--class", dest="classes", **many, metavar="K", help="classes of the model")
    option("--objective", **many, metavar="OBJECTIVE", help="objectives: 'neuron(dense, 3)', 'channel(conv, 2)'")
    option("--image", help="how the input is made (fourier for images, vector for rows)")
    option("--set", **many, metavar="NAME=VALUE", help="settings of activation_maximization: steps=128")
    option("--key", type=options_of.seed, default=0, help="seed (0)")
    options_of.add_list(parser, ("objective", "image", "transforms", "regularisers"))
    options_of.add_common(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    """Draw as the options say."""
    units = [*options.unit, *options.classes, *options.objective]
    if bool(units) == (options.explanations is not None):
        raise ValueError("visualize: name a folder that `explain` wrote, or units: --unit LAYER:INDEX, --class K.")
    out = Path(options.out)
    place.require_folder(out, "--out")
    count = whole_number(options.examples, "--examples")
    files = _units(options, out) if units else _examples(options, out, count)
    if not options.quiet:
        print("\n".join(map(str, files)))


def _examples(options: argparse.Namespace, out: Path, count: int) -> list[Path]:
    """The explanations of a folder over their inputs."""
    found = place.explanations(options.explanations)
    subject = Subject(options).check()
    rows = np.flatnonzero(found.finished)
    if not rows.size:
        raise ValueError(f"visualize: nothing in {options.explanations} is explained yet.")
    attributions = found["attribution"]
    if not hasattr(attributions, "shape"):
        raise ValueError(
            f"visualize: {options.explanations} holds attributions of several arrays; draw them in Python."
        )
    inputs = np.asarray(subject.rows()[0])
    if subject.source.count != found.count:
        raise ValueError(f"--data: there are {subject.source.count} examples, but {found.count} were explained.")
    known = np.asarray(found["finite"][rows], bool) if "finite" in found else np.ones(len(rows), bool)
    finite = known & _finite(inputs[rows])
    ids = {row: str(found.ids[place]) for place, row in enumerate(rows)}
    _say_left_out([ids[row] for row in rows[~finite]], found.count - len(rows), found.count)
    if not finite.any():
        raise ValueError(f"visualize: no example of {options.explanations} is finite, in its input and attribution.")
    best = _best(found, rows[finite])[:count]
    labels = [ids[row] for row in best]
    return [_save(_drawn(inputs[best], np.asarray(attributions[best], np.float32), labels, options), out, "examples")]


def _best(found: Any, rows: np.ndarray) -> np.ndarray:
    """The rows by their scores, the highest first; those without any are the last."""
    if "score" not in found:
        return rows
    scores = np.asarray(found["score"][rows], np.float64)
    return rows[np.argsort(np.where(np.isfinite(scores), -scores, np.inf), kind="stable")]


def _finite(values: np.ndarray) -> np.ndarray:
    """Which rows have neither NaN nor infinities."""
    flat = values.reshape(len(values), -1)
    return np.asarray(np.isfinite(flat.astype(np.float64)).all(axis=1))


def _say_left_out(odd: list[str], missing: int, count: int) -> None:
    """Warn of the examples that cannot be drawn: one with NaN would blank or mis-scale the others."""
    if odd:
        shown = ", ".join(odd[:5]) + (", ..." if len(odd) > 5 else "")
        warnings.warn(
            f"visualize: {len(odd)} of {count} examples have NaN or infinities in input or attribution and are left "
            f"out (ids {shown}).",
            RuntimeWarning,
            stacklevel=2,
        )
    if missing:
        warnings.warn(
            f"visualize: {missing} of {count} examples are not explained yet and are left out; explain goes on with "
            "the same command.",
            RuntimeWarning,
            stacklevel=2,
        )


def _drawn(inputs: np.ndarray, attributions: np.ndarray, labels: list[str], options: argparse.Namespace) -> Any:
    from jaxplain import plot

    if inputs.ndim in (3, 4) and attributions.ndim >= 3:
        low, high = float(inputs.min()), float(inputs.max())
        shown = inputs if low >= 0 and high <= 1 else (inputs - low) / max(high - low, 1e-12)
        return plot.heatmaps(shown, attributions, labels, overlay=options.overlay, limit=len(inputs))
    if inputs.shape == attributions.shape and inputs.ndim == 2:
        return plot.attribution_bar(attributions)
    raise ValueError(
        f"visualize: inputs of shape {inputs.shape[1:]} with attributions of shape {attributions.shape[1:]} have no "
        "figure here; images and rows of numbers have."
    )


def _units(options: argparse.Namespace, out: Path) -> list[Path]:
    """What units respond to: an input made for each."""
    if options.model is None:
        raise ValueError("visualize: units need a model: --model FILE.py:NAME, and its --checkpoint.")
    objectives = {label: written(text, "--objective") for label, text in _objectives(options).items()}
    for one in objectives.values():
        _read(one, "objective", {})
    image = None if options.image is None else written(options.image, "--image")
    if image is not None:
        _read(image, "image", {})
    settings = _settings(options.set, {})
    subject = Subject(options).check()

    import jax

    import jaxplain
    from jaxplain.plot import samples

    jaxplain.keep_programs(quiet=True)
    given, key = subject.given, jax.random.key(options.key)
    own = _own_image(subject) if image is None else _read(image, "image", given)
    settings = _settings(options.set, given)
    files, made, names = [], [], _file_names([*objectives, "all"])
    for label, one in objectives.items():
        e = jaxplain.activation_maximization(_read(one, "objective", given), image=own, **settings)
        made.append(np.asarray(e(key).image))
        files.append(_save(samples(made[-1][None], [label], columns=1), out, names[label]))
    if len(made) > 1:
        files.append(_save(samples(np.stack(made), list(objectives)), out, "all"))
    return files


def _objectives(options: argparse.Namespace) -> dict[str, str]:
    """The objectives as calls, by what is written beside their pictures."""
    found = {}
    for text in options.unit:
        layer, colon, index = text.rpartition(":")
        if not colon or not layer or not index.isdigit():
            raise ValueError(f"--unit: {text!r} has to be LAYER:INDEX, such as conv:3; `layers` lists the layers.")
        found[text] = f"channel({layer!r}, {index})"
    for text in options.classes:
        found[f"class {text}"] = f"score({whole_number(text, '--class', least=0)})"
    return found | {text: text for text in options.objective}


def _read(text: Any, setting: str, given: Any) -> Any:
    found = kind(setting)
    assert found is not None
    try:
        return text.read(found, given)
    except Waits:
        return None


def _settings(pairs: list[str], given: Any) -> dict[str, Any]:
    """Settings of `activation_maximization`, as far as they can be read."""
    import jaxplain

    function = jaxplain.activation_maximization
    texts, values = setting_pairs(function, pairs, "--set", 1, {}), {}
    for name, text in texts.items():
        if name == "image":
            raise ValueError("--set: `image` has an option of its own: --image.")
        try:
            value = text.read(kind_of(function, name), given)
        except Waits:
            continue
        values[name] = tuple(value) if isinstance(value, list) else value
    if not given and len(values) == len(texts):
        called(function, {"objective": stand_in(), "image": jaxplain.image.pixels((2, 2, 1)), **values}, "--set")
    return values


def _own_image(subject: Subject) -> Any:
    """A parameterisation for inputs of the shape that the model takes."""
    import jax

    from jaxplain.explain.visualization import image

    leaves = jax.tree.leaves(subject.sample)
    shape = np.shape(leaves[0])[1:]
    if len(leaves) != 1 or not np.issubdtype(leaves[0].dtype, np.floating):
        raise ValueError("visualize: inputs are made for models of one floating-point array; pass --image otherwise.")
    return image.fourier(shape, low=None, high=None) if len(shape) == 3 else image.vector(shape)


def _file_names(labels: list[str]) -> dict[str, str]:
    """A file's name for each label, none twice: signs and all that is not of letters and digits fall away."""
    found: dict[str, str] = {}
    for label in reversed(labels):  # the last one, of all together, keeps its own
        plain = name = re.sub(r"[^A-Za-z0-9]+", "_", label).strip("_")[:60] or "figure"
        number = 1
        while name.lower() in map(str.lower, found.values()):
            number += 1
            name = f"{plain}_{number}"
        found.setdefault(label, name)
    return found


def _save(figure: Any, out: Path, name: str) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{name}.png"
    figure.savefig(path, dpi=110)
    return path
