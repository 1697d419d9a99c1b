"""Reading a training history: overfit, underfit, still learning, unstable, dead or well, and which rule said so."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from jaxplain import check
from jaxplain.program import html_table, public
from jaxplain.train.layer import remarks

Verdict = Literal["diverges", "unstable", "overfits", "still learning", "dead", "underfits", "fits well"]


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found; `str()` gives the sentence.

    Attributes:
        verdict: "diverges", "unstable", "overfits", "still learning", "dead", "underfits" or "fits well".
        rule: The rule that decided, in words and numbers.
        numbers: What was measured, by name.
        remarks: What else is remarkable about the layers, where `fit` recorded them: gradients that vanish or explode,
            dead units, steps that are too small or too large.
    """

    verdict: Verdict
    rule: str
    numbers: Mapping[str, float]
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        also = "".join(f" Also, {remark}." for remark in self.remarks)
        return f"The model {_VERBS[self.verdict]}: {self.rule}.{also}"

    def _repr_html_(self) -> str:
        numbers = ((name.replace("_", " "), f"{value:.4g}") for name, value in self.numbers.items())
        return f"<p>{html.escape(str(self))}</p>" + html_table(("measured", "value"), numbers)


_VERBS = {
    "diverges": "diverges",
    "unstable": "is unstable",
    "overfits": "overfits",
    "still learning": "is still learning",
    "dead": "is dead",
    "underfits": "underfits",
    "fits well": "fits well",
}


@public
def diagnose(
    history: Any,
    *,
    rise: float = 0.1,
    rise_share: float = 0.02,
    gap: float = 0.1,
    loss_gap: float = 1.0,
    progress: float = 0.05,
    good_accuracy: float = 0.9,
    good_loss: float = 0.5,
    jump: float = 0.25,
    dead_share: float = 0.5,
    imbalance: float = 1e3,
) -> Diagnosis:
    """Say in words and numbers how a training run went.

    The rules are asked in this order, and the first that holds decides:

    1. *diverges*: a loss is not finite, or the training loss ended more than `rise` (relative) above where it began.
    2. *unstable*: from one epoch to the next the training loss rose by more than `rise` (relative) and by more than
       `jump` of all it fell over the run.
    3. *dead*: it underfits, as below, and in the last epoch no gradient reached anything, or (where `fit` recorded the
       layers) not one unit of a layer. What has a part of a layer dead, `dead_share` of it, is asked after 5.
    4. *overfits*: the validation loss ended more than `rise` (relative) above its lowest, by more than `rise_share` of
       all it had fallen, while the training loss went on falling since; or the validation accuracy ended more than
       `gap` below the training accuracy (without accuracies: the validation loss ended more than `loss_gap`, relative,
       above the training loss, and that had halved).
    5. *still learning*: in the last quarter of the epochs the lowest loss (validation, else training) fell by more
       than `progress` of all it fell, and by more than it rises from epoch to epoch on average (the noise of a loss
       that stays where it is).
    6. *underfits*: the training accuracy ended below `good_accuracy` (without accuracies: the training loss ended
       above `good_loss` times the first epoch's).
    7. *fits well*: none of these.

    Recorded layers are remarked upon whatever the verdict: a gradient that is `imbalance` times smaller (or larger) at
    the first matrix than at the last (in root mean squares, the median over epochs), dead units, and steps that change
    weights by less than 1e-5 of their size in every epoch or by more than a tenth in most, where about 1e-3 is usual.

    Args:
        history: What `fit` returns: `loss`, `accuracy`, `validation_loss`, `validation_accuracy`, arrays `[E]` (NaN
            accuracies mean a regression, None no validation). Rows after its `epochs` (an early stop) are left out.
            `gradient_norm` and `layers` are read where they are.
        rise: Relative rise of the validation loss above its lowest that counts as overfitting.
        rise_share: Share of the whole fall of the validation loss that its rise has to exceed, so that the noise of a
            loss near zero is not called overfitting.
        gap: Difference of accuracies that counts as overfitting.
        loss_gap: Relative difference of losses that does, where there are no accuracies.
        progress: Share of the whole fall of the loss that counts as going on.
        good_accuracy: Training accuracy that a model with enough capacity reaches.
        good_loss: Share of the first epoch's training loss left that counts as too much.
        jump: Share of the whole fall of the training loss that it may rise between two epochs.
        dead_share: Share of a layer's units without a gradient that counts as dead.
        imbalance: Factor between the gradients of the first and the last layer that counts as vanishing or exploding.

    Returns:
        A `Diagnosis`.

    Raises:
        ValueError: A history without an epoch.

    Example:
        >>> from types import SimpleNamespace
        >>> history = SimpleNamespace(loss=[1.0, 0.5, 0.2, 0.1], accuracy=[0.5, 0.8, 0.97, 0.99],
        ...                           validation_loss=[0.9, 0.6, 0.8, 0.9], validation_accuracy=[0.5, 0.7, 0.7, 0.7])
        >>> diagnosis = diagnose(history)
        >>> diagnosis.verdict
        'overfits'
        >>> print(diagnosis)  # doctest: +NORMALIZE_WHITESPACE
        The model overfits: validation loss rose from 0.6 (epoch 2) to 0.9 while training loss fell from 0.5 to 0.1 (the
        params of epoch 2 were kept).

    Source: the usual update-to-weight ratio is that of the course notes CS231n, Stanford, "Neural Networks Part 3",
    "Ratio of weights:updates"; the thresholds of the other rules are choices made here.
    """
    if not hasattr(history, "loss"):
        raise TypeError(f"diagnose: `history` has to be what `fit` returned as history, not {check.short(history)}.")
    curves = _curves(history)
    numbers = {f"final_{name}": float(curve[-1]) for name, curve in curves.items()}
    numbers["epochs"] = float(len(curves["loss"]))
    layers = getattr(history, "layers", None)
    said: tuple[str, ...] = ()
    if layers is not None:
        said, measured = remarks(layers, len(curves["loss"]), imbalance=imbalance, dead_share=dead_share)
        numbers |= measured
    found = _diverges(curves, rise)
    if found is None:  # the others read curves that are finite
        underfits = _underfits(curves, good_accuracy, good_loss)
        rules: tuple[tuple[Verdict, str] | None, ...] = (
            _unstable(curves, rise, jump),
            underfits and _dead(curves, layers, 1.0),
            _overfits(curves, (rise, rise_share), gap, loss_gap),
            _still_learning(curves, progress),
            underfits and _dead(curves, layers, dead_share),
            underfits,
            ("fits well", _summary(curves)),
        )
        found = next(verdict for verdict in rules if verdict is not None)
    return Diagnosis(*found, numbers=numbers, remarks=said)


def _curves(history: Any) -> dict[str, np.ndarray]:
    """The curves that are there, cut after the last epoch that was run."""
    loss = np.asarray(history.loss, float)
    epochs = getattr(history, "epochs", None)
    epochs = len(loss) if epochs is None else int(epochs)
    if loss.ndim != 1 or epochs == 0:
        raise ValueError(f"diagnose: the history of one run with at least an epoch is needed; its losses are {loss}.")
    curves = {"loss": loss[:epochs]}
    for name in ("accuracy", "validation_loss", "validation_accuracy", "gradient_norm"):
        values = getattr(history, name, None)
        if values is not None and not (name.endswith("accuracy") and np.isnan(np.asarray(values, float)).all()):
            curves[name] = np.asarray(values, float)[:epochs]
    return curves


def _diverges(curves: dict[str, np.ndarray], rise: float) -> tuple[Verdict, str] | None:
    for name, what in (("loss", "training loss"), ("validation_loss", "validation loss")):
        values = curves.get(name, np.zeros(1))
        if not np.isfinite(values).all():
            return "diverges", f"{what} is not finite from epoch {int(np.flatnonzero(~np.isfinite(values))[0]) + 1} on"
    first, last = curves["loss"][0], curves["loss"][-1]
    if last - first > rise * abs(first):
        return "diverges", f"training loss rose from {first:.3g} to {last:.3g}"
    return None


def _unstable(curves: dict[str, np.ndarray], rise: float, jump: float) -> tuple[Verdict, str] | None:
    loss = curves["loss"]
    if len(loss) < 2:
        return None
    rises = np.diff(loss)
    worst, fall = int(np.argmax(rises)), loss[0] - loss.min()
    if rises[worst] > rise * abs(loss[worst]) and rises[worst] > jump * fall:
        return "unstable", (
            f"training loss rose from {loss[worst]:.3g} (epoch {worst + 1}) to {loss[worst + 1]:.3g}, by more than "
            f"{jump:.0%} of all it fell; lower the learning rate"
        )
    return None


def _dead(curves: dict[str, np.ndarray], layers: Any, dead_share: float) -> tuple[Verdict, str] | None:
    epochs = len(curves["loss"])
    if "gradient_norm" in curves and curves["gradient_norm"][-1] == 0:
        return "dead", f"the gradient was zero in epoch {epochs}, so that no step changes what the loss is made of"
    if layers is None:
        return None
    dead, units = np.asarray(layers.dead, float)[epochs - 1], np.array(layers.units, float)
    worst = int(np.argmax(dead / units))
    if dead[worst] < dead_share * units[worst]:
        return None
    return "dead", (
        f"{int(dead[worst])} of {int(units[worst])} units of {layers.names[worst]} got no gradient in epoch {epochs}; "
        "start anew with a lower learning rate, other initial biases, or an activation that is nowhere flat"
    )


def _overfits(
    curves: dict[str, np.ndarray], rises: tuple[float, float], gap: float, loss_gap: float
) -> tuple[Verdict, str] | None:
    if "validation_loss" not in curves:
        return None
    loss, validation = curves["loss"], curves["validation_loss"]
    best = int(np.argmin(validation))
    up, fall = validation[-1] - validation[best], validation[0] - validation[best]
    if up > rises[0] * validation[best] and up > rises[1] * fall and loss[-1] < loss[best]:
        return "overfits", (
            f"validation loss rose from {validation[best]:.3g} (epoch {best + 1}) to {validation[-1]:.3g} while "
            f"training loss fell from {loss[best]:.3g} to {loss[-1]:.3g} (the params of epoch {best + 1} were kept)"
        )
    if "accuracy" in curves and "validation_accuracy" in curves:
        train, test = curves["accuracy"][-1], curves["validation_accuracy"][-1]
        if train - test > gap:
            return "overfits", f"training accuracy is {train:.1%}, but validation accuracy {test:.1%}"
    elif validation[-1] > (1 + loss_gap) * loss[-1] and loss[-1] < 0.5 * loss[0]:
        return "overfits", f"training loss is {loss[-1]:.3g}, but validation loss {validation[-1]:.3g}"
    return None


def _still_learning(curves: dict[str, np.ndarray], progress: float) -> tuple[Verdict, str] | None:
    name = "validation_loss" if "validation_loss" in curves else "loss"
    what, curve = name.replace("_", " ") if name != "loss" else "training loss", curves[name]
    if len(curve) < 2:
        return "still learning", "one epoch shows no trend"
    late = max(1, len(curve) // 4)
    before, lowest = curve[:-late].min(), curve.min()
    fall, noise = curve[0] - lowest, np.maximum(np.diff(curve), 0).mean()
    if fall > 0 and (before - lowest) > max(progress * fall, noise):
        share = (before - lowest) / fall
        return "still learning", (
            f"{share:.0%} of the fall of the {what} (from {curve[0]:.3g} to {lowest:.3g}) came in the last {late} of "
            f"{len(curve)} epochs"
        )
    return None


def _underfits(curves: dict[str, np.ndarray], good_accuracy: float, good_loss: float) -> tuple[Verdict, str] | None:
    loss = curves["loss"]
    if "accuracy" in curves:
        accuracy = curves["accuracy"][-1]
        if accuracy < good_accuracy:
            return (
                "underfits",
                f"it learns no more at training accuracy {accuracy:.1%} (below {good_accuracy:.0%})",
            )
    elif loss[-1] > good_loss * loss[0]:
        return "underfits", (
            f"it learns no more at training loss {loss[-1]:.3g}, above {good_loss:.0%} of the first epoch's "
            f"{loss[0]:.3g}"
        )
    return None


def _summary(curves: dict[str, np.ndarray]) -> str:
    parts = [f"training loss {curves['loss'][-1]:.3g}"]
    if "validation_loss" in curves:
        parts.append(f"validation loss {curves['validation_loss'][-1]:.3g}")
    if "accuracy" in curves:
        parts.append(f"training accuracy {curves['accuracy'][-1]:.1%}")
    if "validation_accuracy" in curves:
        parts.append(f"validation accuracy {curves['validation_accuracy'][-1]:.1%}")
    return ", ".join(parts) + "; no rule for diverging, overfitting, still learning or underfitting holds"
