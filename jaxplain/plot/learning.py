"""Learning curves of a training run, with what was read from them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from jaxplain.plot.canvas import NEGATIVE, NEUTRAL, WRONG, canvas, open_sides
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import number, numbers, plain

NAMES = ("loss", "validation_loss", "accuracy", "validation_accuracy", "gradient_norm")


@drawn
def learning_curves(history: Any, diagnosis: Any = None) -> Figure:
    """Draw loss, accuracy and gradient norm over the epochs, with the best epoch and the diagnosis.

    The best epoch is the one with the lowest validation loss, whose parameters `fit` returns; without validation none
    is marked. Losses and norms that stay positive and span more than a factor of 20 are drawn on a logarithmic axis.

    Args:
        history: What `fit` returns as `.history`, or any object or mapping with `loss` and, where they exist,
            `validation_loss`, `accuracy`, `validation_accuracy` and `gradient_norm`: arrays `[E]`, or `[N, E]` of N
            runs (each a thin line, their median thick). Epochs of NaN in everything, after an early stop, are left
            out, and so is an accuracy that is NaN throughout (a regression).
        diagnosis: What `diagnose(history)` returned, or any text to write below the curves.

    Returns:
        A figure with one panel each for loss, accuracy and gradient norm. The first epoch at which a run is no longer
        finite is marked.

    Raises:
        ValueError: No epoch, wrong shapes, lengths that do not match.
        TypeError: No arrays of numbers.

    Example:
        >>> figure = learning_curves({"loss": [1.0, 0.5], "validation_loss": [0.9, 0.6]}, "The model fits well.")
        >>> [axes.get_title() for axes in figure.axes]
        ['loss']
    """
    curves = _curves(history)
    groups = [(name, [key for key in (name, f"validation_{name}") if key in curves]) for name in ("loss", "accuracy")]
    groups += [("gradient norm", [key for key in ("gradient_norm",) if key in curves])]
    groups = [(title, keys) for title, keys in groups if keys]
    # About 0.065 inches a character of the text's 9 points.
    wide = 3.9 * len(groups) + 0.4
    lines = [] if diagnosis is None else textwrap.wrap(str(diagnosis), max(40, int(wide / 0.072)))
    epochs = curves["loss"].shape[1]
    figure = canvas(wide, 3.1 + 0.19 * len(lines), f"Learning curves over {epochs} epochs. {' '.join(lines)}".strip())
    best = _best(curves)
    for axes, (title, keys) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True):
        _panel(axes, title, {key: curves[key] for key in keys}, best)
    if lines:
        figure.supxlabel(plain("\n".join(lines)), fontsize=9, x=0.02, ha="left")
    return figure


def _curves(history: Any) -> dict[str, np.ndarray]:
    """The curves that are there, `[N, E]`, cut after the last epoch that any run reached."""
    entries = history if isinstance(history, Mapping) else {name: getattr(history, name, None) for name in NAMES}
    curves = {}
    for name in NAMES:
        if entries.get(name) is not None:
            values = numbers(entries[name], "learning_curves", f"history.{name}", finite=False)
            if values.ndim not in (1, 2):
                raise ValueError(
                    f"learning_curves: `history.{name}` has shape {values.shape}; it has to be [E] or [N, E]."
                )
            curves[name] = np.atleast_2d(values)
    if "loss" not in curves:
        raise ValueError("learning_curves: `history` has no `loss`; pass the history that `fit` returned.")
    if len({values.shape for values in curves.values()}) > 1:
        shapes = ", ".join(f"{name} {values.shape}" for name, values in curves.items())
        raise ValueError(f"learning_curves: the curves of `history` differ in shape: {shapes}.")
    ran = np.any([~np.isnan(values).all(axis=0) for values in curves.values()], axis=0)
    epochs = int(np.flatnonzero(ran)[-1]) + 1 if ran.any() else ran.size
    return {name: v[:, :epochs] for name, v in curves.items() if not (np.isnan(v).all() and "accuracy" in name)}


def _best(curves: Mapping[str, np.ndarray]) -> int | None:
    """The epoch of the lowest validation loss, of one run."""
    values = curves.get("validation_loss")
    if values is None or len(values) > 1 or np.isnan(values).all():
        return None
    return int(np.nanargmin(values[0]))


def _panel(axes: Axes, title: str, curves: Mapping[str, np.ndarray], best: int | None) -> None:
    for name, runs in curves.items():
        validation = name.startswith("validation")
        colour = "#d55e00" if validation else NEGATIVE
        label = "validation" if validation else "training"
        _lines(axes, runs, colour, label)
        if best is not None and (validation or len(curves) == 1):
            value = runs[0, best]
            axes.axvline(best + 1, color=NEUTRAL, linewidth=0.9, linestyle=":", zorder=0)
            if np.isfinite(value):
                text = f"best: epoch {best + 1} ({number(value)})" if validation else f"best: epoch {best + 1}"
                axes.plot(best + 1, value, "o", color=colour, markersize=6, markerfacecolor="none", label=text)
    everything = np.concatenate([runs.ravel() for runs in curves.values()])
    finite = everything[np.isfinite(everything)]
    if "accuracy" not in title and finite.size and finite.min() > 0 and finite.max() > 20 * finite.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    broken = np.flatnonzero(np.any([~np.isfinite(runs).all(axis=0) for runs in curves.values()], axis=0))
    if broken.size:
        text = f"not finite from epoch {broken[0] + 1} on"
        axes.axvline(broken[0] + 1, color=WRONG, linewidth=1.2, label=text)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_xlim(0.5, everything.size / sum(map(len, curves.values())) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25, linewidth=0.6)
    open_sides(axes).tick_params(labelsize=8)
    if axes.get_legend_handles_labels()[1] != ["training"]:
        axes.legend(fontsize=8, frameon=False)


def _lines(axes: Axes, runs: np.ndarray, colour: str, label: str) -> None:
    epochs = np.arange(1, runs.shape[1] + 1)
    marker = "." if runs.shape[1] <= 12 else None
    if len(runs) > 1:
        axes.plot(epochs, runs.T, color=colour, linewidth=0.7, alpha=0.35, marker=marker)
        # A run that stopped early has no value later on; the median is that of the runs that have one.
        middle = np.full(runs.shape[1], np.nan)
        there = ~np.isnan(runs).all(axis=0)
        middle[there] = np.nanmedian(runs[:, there], axis=0)
        axes.plot(
            epochs, middle, color=colour, linewidth=2, label=f"{label} (median of {len(runs)} runs)", marker=marker
        )
    else:
        axes.plot(epochs, runs[0], color=colour, linewidth=1.6, label=label, marker=marker)
