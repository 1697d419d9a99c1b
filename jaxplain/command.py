"""The command line: `python -m jaxplain explain ...` and `python -m jaxplain report ...`, thin over the functions."""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxplain
from jaxplain.dataset import channel_sum, explain_dataset, open_explanations, top_features
from jaxplain.models import from_nnx
from jaxplain.train import as_trainable, load

SCORES = ("logit", "probability", "log_probability", "margin", "output")

_EXAMPLES = """\
--model names a function of no arguments that returns (apply, params), a Linen module or an NNX model;
its parameters are replaced by those of --checkpoint (an Orbax checkpoint), in evaluation mode.
--data is an .npz file (arrays 'inputs' and, as there are, 'targets'), an .npy file, a folder of images
with a subfolder for each class, or package.module:function that returns what explain_dataset takes.

python -m jaxplain explain --model my.models:build --checkpoint run/params --data test.npz
    --transform my.models:preprocess --target predicted --method integrated_gradients --set steps=64
    --batch-size auto --out explanations
python -m jaxplain explain ... --method gradient --wrapper smoothgrad --wrapper-set sigma=0.1 --key 0
python -m jaxplain report explanations --page explanations.html --data test.npz
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; errors in what was passed are said in one line.

    Args:
        arguments: As on the command line, None takes those of the process.

    Returns:
        The exit status: 0, or 2 for an error.
    """
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except (ValueError, TypeError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jaxplain", epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="{explain,report}")
    _explain_options(commands.add_parser("explain", help="explain a dataset and write it to a folder"))
    page = commands.add_parser("report", help="one HTML page of explanations that were written")
    page.add_argument("explanations", help="the folder")
    page.add_argument("--page", help="the file to write (FOLDER.html)")
    page.add_argument("--examples", type=int, default=8, help="how many examples are drawn (8)")
    page.add_argument("--title", default="Explanations")
    _data_options(page, required=False)
    page.set_defaults(command=report_command)
    return parser


def _data_options(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument("--data", required=required, help=".npz, .npy, a folder of images, or package.module:function")
    parser.add_argument("--inputs", default="inputs", help="name of the inputs in an .npz file (inputs)")
    parser.add_argument("--targets", default="targets", help="name of the targets in an .npz file (targets)")
    parser.add_argument("--transform", metavar="MODULE:FUNCTION", help="applied to each example's input, in NumPy")


def _explain_options(parser: argparse.ArgumentParser) -> None:
    _data_options(parser, required=True)
    option = parser.add_argument
    option("--model", required=True, metavar="MODULE:FUNCTION", help="returns (apply, params) or a Flax module")
    option("--checkpoint", help="an Orbax checkpoint with the parameters")
    option("--at", default="", help="the part of the checkpoint that holds them, such as params")
    option("--out", required=True, help="the folder to write, or to finish")
    option("--target", default="data", help="'data' (its targets), 'predicted', or the number of a class (data)")
    option("--method", default="integrated_gradients", help="a method of jaxplain (integrated_gradients)")
    option("--set", nargs="+", default=[], metavar="NAME=VALUE", help="its settings, such as steps=64")
    option("--wrapper", help="a wrapper around it, such as smoothgrad")
    option("--wrapper-set", nargs="+", default=[], metavar="NAME=VALUE", help="the wrapper's settings: sigma=0.1")
    option("--score", default="logit", choices=SCORES, help="what of the output is explained (logit)")
    option("--select", help="the part of the model's output that is scored, such as logits")
    option("--key", type=int, default=0, help="seed of random methods (0)")
    option("--batch-size", default="64", help="a number, or 'auto' for the largest that fits (64)")
    option("--reduce", help="channel_sum, or top_features:K")
    option("--dtype", help="of what is written, such as float16")
    option("--prepare", metavar="MODULE:FUNCTION", help="applied to each example's input on the device, in JAX")
    option("--no-resume", action="store_true", help="refuse a folder that holds a run")
    option("--quiet", action="store_true", help="no progress, no summary")
    parser.set_defaults(command=explain_command)


def explain_command(options: argparse.Namespace) -> None:
    """Explain a dataset as the options say."""
    jaxplain.keep_programs(quiet=options.quiet)
    data, transform = load_data(options), None if options.transform is None else named(options.transform)
    prepare = None if options.prepare is None else named(options.prepare)
    e = explanation(options, *model(options, data, transform, prepare))
    size: Any = options.batch_size
    size = size if size == "auto" else _number(size, "--batch-size")
    target = {"data": None, "predicted": "predicted"}.get(options.target, options.target)
    if target not in (None, "predicted"):
        target = _number(target, "--target")
    found = explain_dataset(
        e,
        data,
        key=jax.random.key(options.key),
        batch_size=size,
        out=options.out,
        resume=not options.no_resume,
        progress=not options.quiet,
        target=target,
        reduce=_reduction(options.reduce),
        dtype=options.dtype,
        transform=transform,
        prepare=prepare,
    ).explanations
    if not options.quiet:
        assert found is not None
        print(f"{found.count} examples in {options.out}: {', '.join(found)}")


def report_command(options: argparse.Namespace) -> None:
    """Write the page of a folder."""
    from jaxplain.report import explanations_page

    data = None if options.data is None else load_data(options)
    transform = None if options.transform is None else named(options.transform)
    path = Path(options.explanations)
    page = options.page or f"{path.absolute()}.html"
    print(
        explanations_page(
            page,
            open_explanations(path),
            data=data,
            transform=transform,
            examples=options.examples,
            title=options.title,
        )
    )


def named(text: str) -> Any:
    """What `package.module:name` names; the module is imported.

    Raises:
        ValueError: A text of another form, or a name that the module lacks.
        ImportError: No such module.
    """
    module, _, name = text.partition(":")
    if not module or not name:
        raise ValueError(f"{text!r} has to be package.module:name.")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{text!r}: {module} has no {name}.")
        found = getattr(found, part)
    return found


def load_data(options: argparse.Namespace) -> Any:
    """The dataset that the options name."""
    text, path = options.data, Path(options.data)
    if path.suffix == ".npz":
        from jaxplain.data import load_npz

        if not path.is_file():
            raise FileNotFoundError(f"there is no file at {path}.")
        with np.load(path, allow_pickle=False) as file:
            targets = options.targets if options.targets in file.files or options.targets != "targets" else None
        return load_npz(path, inputs=options.inputs, targets=targets)
    if path.suffix == ".npy":
        return np.load(path, mmap_mode="r")
    if path.is_dir():
        from jaxplain.data import load_image_folder

        return load_image_folder(path)
    if ":" in text:
        return named(text)()
    raise FileNotFoundError(
        f"--data: {text} is no .npz or .npy file, no folder of images and not package.module:function."
    )


def model(options: argparse.Namespace, data: Any, transform: Any, prepare: Any) -> tuple[Any, Any]:
    """The model's function in evaluation mode, and its parameters, from the checkpoint where there is one."""
    built = named(options.model)()
    if isinstance(built, tuple) and len(built) == 2:
        apply, params = built
    elif hasattr(built, "init") and hasattr(built, "apply"):
        if options.checkpoint is None:
            raise ValueError(f"{options.model} is a Linen module without parameters; pass --checkpoint.")
        apply, params = built.apply, _shapes(built, data, transform, prepare)
    else:
        apply, params = from_nnx(built)
    if options.checkpoint is not None:
        params = load(options.checkpoint, params, at=options.at)
    return as_trainable(apply), params


def _shapes(module: Any, data: Any, transform: Any, prepare: Any) -> Any:
    """The shapes of a Linen module's variables, from the first example."""
    from jaxplain.dataset import as_source, first_rows

    _, rows = first_rows(as_source(data, None, transform))
    seen = (lambda x: x) if prepare is None else jax.vmap(prepare)
    return jax.eval_shape(lambda x: module.init(jax.random.key(0), seen(x)), rows.x)


def explanation(options: argparse.Namespace, apply: Any, params: Any) -> Any:
    """The method, around the score, inside the wrapper."""
    score = getattr(jaxplain, options.score)(apply, params, select=options.select)
    e = _method(options.method, "--method")(score, **_settings(options.set, "--set"))
    if options.wrapper is not None:
        e = _method(options.wrapper, "--wrapper")(e, **_settings(options.wrapper_set, "--wrapper-set"))
    return e


def _method(name: str, option: str) -> Callable[..., Any]:
    known = sorted(n for n in jaxplain.__all__ if getattr(jaxplain, n).__module__.startswith("jaxplain.explain."))
    if name not in known:
        raise ValueError(f"{option}: there is no {name!r}; there are {', '.join(known)}.")
    return getattr(jaxplain, name)


def _settings(pairs: Sequence[str], option: str) -> dict[str, Any]:
    """Settings as Python reads them; what it does not read is a text."""
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"{option}: {pair!r} has to be name=value.")
        try:
            settings[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            settings[name] = value
    return settings


def _reduction(text: str | None) -> Any:
    if text is None:
        return None
    name, _, number = text.partition(":")
    if name == "channel_sum" and not number:
        return channel_sum()
    if name == "top_features" and number:
        return top_features(_number(number, "--reduce top_features"))
    raise ValueError(f"--reduce: {text!r} has to be channel_sum or top_features:K.")


def _number(text: str, option: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{option}: {text!r} is no whole number.") from None
