"""`--target`: which output is explained, and whether the data's targets can say it."""

from __future__ import annotations

import argparse
from typing import Any

import jax
import numpy as np

from jaxplain.command.parser import whole_number
from jaxplain.command.place import nearest
from jaxplain.command.subject import Subject


def add_option(parser: argparse.ArgumentParser, *, more: str = "") -> None:
    """Add `--target`."""
    words = f"'data' (its targets{more}), 'predicted', or the number of a class or output (data)"
    parser.add_argument("--target", default="data", help=words)


def target_of(text: str) -> Any:
    """None for the data's targets, 'predicted', or a class.

    Raises:
        ValueError: Another text.
    """
    if text in ("data", "predicted"):
        return None if text == "data" else text
    if not text.lstrip("-").isdigit():
        close = nearest(text, ("data", "predicted"))
        raise ValueError(f"--target: {text!r} is no whole number{close}; write data, predicted or a class, such as 0.")
    return whole_number(text, "--target", least=0)


def require_targets(subject: Subject, target: Any, e: Any) -> None:
    """Require that the data's targets name an output of the model, where they are what says it.

    A floating-point target weighs the outputs (a one-hot one picks a class): the values of a regression would do so,
    too, and silently explain another number.

    Args:
        subject: The model, the data and the score.
        target: As `target_of` gives it.
        e: The explanation; one of pairs of inputs has them further behind, and is left alone.

    Raises:
        ValueError: They do not; what to write is said.
    """
    from jaxplain.dataset import known_arguments, takes_target
    from jaxplain.readout import Pick, squared_error

    score = subject.score()
    reduce = getattr(score, "reduce", None)
    if target == "predicted" and getattr(getattr(reduce, "criterion", None), "value", None) is squared_error:
        raise ValueError("--target: squared_error has no predicted class; its targets are those of the data.")
    if target is not None or not isinstance(reduce, Pick) or not takes_target(e):
        return
    args = known_arguments(subject.source) or subject.first.args
    if len(jax.tree.leaves(args[:1])) > 1:
        return
    shapes = jax.eval_shape(lambda x: jax.vmap(score.outputs)(x, *subject.first.args[1:]), subject.sample)
    if args:
        _require_classes(np.asarray(jax.tree.leaves(args[0])[0]), shapes.shape[1:], score.name)
    elif shapes.shape[1:] not in ((), (1,)):
        other = ", ".join(name for name in subject.arrays if name != subject.options.inputs)
        named = f"; --targets NAME takes them from another of its arrays ({other})" if other else ""
        raise ValueError(
            f"--target: {subject.options.data} has no targets{named}. Pass --target predicted, or --target K for "
            f"output K of the {shapes.shape[-1]}."
        )


def _require_classes(values: np.ndarray, outputs: tuple[int, ...], score: str) -> None:
    """Require labels, or one-hot weights, for outputs of a shape."""
    shown, single = f"{values.dtype} {list(values.shape)}", outputs in ((), (1,))
    instead = "pass --score output --target 0 to explain the output, --score 'loss(squared_error)' to explain its error"
    if np.issubdtype(values.dtype, np.integer):
        if single and score in ("logit", "output") and values.size and values.max() == 1:
            raise ValueError(
                f"--score: the model has one output, of which the targets name two classes; {score} has it as it is "
                "by --target 0, and the two classes are scored by --score probability, log_probability or margin."
            )
        return
    column = values.ndim == 1 or values.shape[1:] == (1,)
    if column and np.isin(values, (0, 1)).all():
        raise ValueError(f"--data: the targets are labels as {shown}; make them integers of shape [{len(values)}].")
    if column or score == "output" or (values.size and not (values.min() >= 0 and values.max() <= 1)):
        own = instead if single else instead.replace("--target 0", "--target K").replace("the output,", "output K,")
        raise ValueError(
            f"--data: the targets are numbers ({shown}), but --score {score} takes a class of each: {own}."
        )
