"""`explain`: a method over a whole dataset, written to a folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from jaxplain.command import parser as options_of
from jaxplain.command import target as target_of
from jaxplain.command import total
from jaxplain.command.asked import Asked, asked, stand_in
from jaxplain.command.kind import Kind, kind
from jaxplain.command.parser import whole_number
from jaxplain.command.place import nearest, require_folder
from jaxplain.command.subject import Subject
from jaxplain.command.value import written

EXAMPLES = """\
examples:
  {program} explain --model tiny.py:build --checkpoint run --data tiny.py:data --out explanations
  {program} explain --model tiny.py:build --checkpoint run --data tiny.py:data --out lrp \
--method lrp --set 'rule=epsilon(1e-6)'
  {program} explain --model tiny.py:build --checkpoint run --data tiny.py:data --out blurred \
--method integrated_gradients --set steps=8 'baseline=blur(2)' --target predicted
  {program} explain --model tiny.py:build --checkpoint run --data tiny.py:data --out cam \
--method grad_cam --set layer=conv
  {program} explain --model tiny.py:build --checkpoint run --data tiny.py:data --out smooth \
--method gradient --wrapper smoothgrad --wrapper-set sigma=0.1 samples=4 --reduce channel_sum
  {program} explain --model tiny.py:build --checkpoint run --data tiny.py:data \
--aggregate moments 'top_k(3)' --aggregate-out global.npz
  {program} explain --list
  {program} explain --list lrp

A setting is a number, a text, a list, True, None, a name or call of the library's own (epsilon(1e-6), blur(2),
mean(data)), or an object of yours: @file.py:name, @file.py:name(3), @groups.npy. `data`, `targets` and `score` stand
for what --data and --model give. An interrupted run goes on with the same command.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    option = parser.add_argument
    options_of.add_model(parser, required=True)
    options_of.add_data(parser, required=True)
    options_of.add_score(parser)
    option("--out", help="the folder to write, or to finish")
    target_of.add_option(parser)
    option("--method", default="integrated_gradients", help="its name, or name(setting=value) (integrated_gradients)")
    option(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="its settings: steps=64 'baseline=blur(3)'",
    )
    option("--wrapper", help="a wrapper around it, such as smoothgrad, or 'smoothgrad(sigma=0.1)'")
    option(
        "--wrapper-set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="the wrapper's settings: sigma=0.1",
    )
    option("--key", type=options_of.seed, default=0, help="seed of random methods (0)")
    option("--batch-size", default="64", help="a number, or 'auto' for the largest that fits (64)")
    option("--reduce", help="channel_sum, top_features(K), group_sum(@groups.npy) or @file.py:name")
    option("--dtype", help="of what is written, such as float16")
    option("--ids", metavar="@FILE.npy", help="[N] numbers or texts by which examples are found again")
    option("--devices", metavar="N", help="spread batches over so many devices, or 'all' (one)")
    total.add_options(parser)
    option("--no-resume", action="store_true", help="refuse a folder that holds a run")
    options_of.add_list(parser, ("method", "wrapper", "score", "aggregate"))
    options_of.add_common(parser)
    parser.set_defaults(command=run)


def run(options: argparse.Namespace) -> None:
    """Explain a dataset as the options say."""
    size, target = batch_size(options.batch_size), target_of.target_of(options.target)
    dtype, reduce = _dtype(options.dtype), reduction(options.reduce)
    aggregate, ids = total.aggregator(options), _ids(options.ids)
    method = checked_method(options.method, options.set)
    wrapper = checked_wrapper(options.wrapper, options.wrapper_set)
    _check_out(options)
    mesh = _mesh(options.devices)
    subject = Subject(options).check()

    import jax

    import jaxplain
    from jaxplain.dataset import explain_dataset

    jaxplain.keep_programs(quiet=True)
    data = subject.data
    e = method.make(subject.score(), given=subject.given)
    target_of.require_targets(subject, target, e)
    e = e if wrapper is None else wrapper.make(e, given=subject.given)
    explained = explain_dataset(
        e,
        data,
        key=jax.random.key(options.key),
        batch_size=size,
        mesh=mesh,
        out=options.out,
        aggregate=aggregate,
        resume=not options.no_resume,
        progress=not options.quiet,
        target=target,
        reduce=reduce,
        dtype=dtype,
        ids=ids,
        transform=subject.transform,
        prepare=subject.prepare,
    )
    found, lines = explained.explanations, []
    if found is not None:
        lines.append(f"{found.count} examples in {options.out}: {', '.join(found)}")
    if aggregate is not None:
        lines.append(total.write(options, explained.aggregate))
    if not options.quiet:
        print("\n".join(lines))


def checked_method(text: str, pairs: Any = (), option: str = "--method") -> Asked:
    """The method that a text names, with every setting checked that can be."""
    found = asked(text, "method", option, pairs, "--set")
    found.check(stand_in())
    return found


def checked_wrapper(text: str | None, pairs: Any) -> Asked | None:
    """The wrapper that a text names, with its settings checked."""
    if text is None:
        if pairs:
            raise ValueError(f"--wrapper-set: {pairs[0]!r} is for a wrapper; pass --wrapper, such as smoothgrad.")
        return None
    import jaxplain

    found = asked(text, "wrapper", "--wrapper", pairs, "--wrapper-set")
    found.check(jaxplain.gradient(stand_in()))
    return found


def batch_size(text: str) -> Any:
    """A number of examples, or 'auto'."""
    return text if text == "auto" else whole_number(text, "--batch-size")


def _dtype(text: str | None) -> str | None:
    """The name of a floating-point dtype."""
    if text is None:
        return None
    known = ("float16", "bfloat16", "float32", "float64")
    if text not in known:
        raise ValueError(f"--dtype: there is no {text!r}{nearest(text, known)}; write one of {', '.join(known)}.")
    return text


def reduction(text: str | None) -> Any:
    """What is kept of an attribution."""
    if text is None:
        return None
    name, colon, number = text.partition(":")
    if name == "top_features" and colon and number:
        text = f"top_features({whole_number(number, '--reduce top_features')})"
    if text == "top_features":
        raise ValueError("--reduce: 'top_features' has to be top_features(K), or channel_sum or top_features:K.")
    found = kind("reduce")
    assert found is not None
    value = written(text, "--reduce").read(found, {})
    if not callable(value):
        raise TypeError(f"--reduce: {text} is {type(value).__name__}, no function of an attribution.")
    return value


def _ids(text: str | None) -> Any:
    """Numbers or texts by which examples are found again."""
    if text is None:
        return None
    value = written(text, "--ids").read(Kind({}, strict=True, special=False, example="@ids.npy"), {})
    if not hasattr(value, "shape") and not isinstance(value, list | tuple):
        raise TypeError(f"--ids: {text} is {type(value).__name__}; write @ids.npy, @data.npz:ids or @file.py:name.")
    return np.asarray(value)


def _mesh(text: str | None) -> Any:
    """Devices over which batches are spread; None is one."""
    if text is None:
        return None
    import jax

    here = jax.devices()
    number = len(here) if text == "all" else whole_number(text, "--devices")
    if number > len(here):
        platform = here[0].platform
        raise ValueError(f"--devices: {number} were asked for, but there are {len(here)} ({platform}).")
    return jax.make_mesh((number,), ("data",), devices=here[:number])


def _check_out(options: argparse.Namespace) -> None:
    """Refuse a folder that could not be written, before anything is computed."""
    if options.out is None:
        if not options.aggregate:
            raise ValueError("explain: pass --out FOLDER, or --aggregate with --aggregate-out FILE.npz.")
        kept = {"reduce": options.reduce, "dtype": options.dtype, "ids": options.ids, "no-resume": options.no_resume}
        for name, value in kept.items():
            if value:
                raise ValueError(
                    f"--{name}: it is about the explanations that --out keeps; pass --out, or leave it out."
                )
        return
    path = Path(options.out).expanduser()
    require_folder(path, "--out")
    if not path.is_dir() or not any(path.iterdir()):
        return
    if not (path / "zarr.json").exists():
        raise FileExistsError(f"--out: {path} holds something that is no run of explain; name a new or empty folder.")
    if options.no_resume:
        raise FileExistsError(
            f"explain_dataset: {path} holds a run. Leave out --no-resume to finish it, or name another."
        )
