"""Which settings serve a model: losses over a hyperparameter, or over two of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from jaxplain import check
from jaxplain.plot.canvas import LOW_TO_HIGH, NEGATIVE, NEUTRAL, WRONG, canvas, open_sides, quiet, readable, wrapped
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import batch, number, numbers, plain

NAME = "validation_curve"
VALIDATION = "#d55e00"
NAMED = 16
"""Most settings whose colours the curves' legend names, evenly spread with the least and the largest."""


@drawn
def validation_curve(sweep: Any, *, title: str = "") -> Figure:
    """Draw the losses of many runs over the setting in which they differ, with the best setting and what diverged.

    Args:
        sweep: What `train.hyperparameter_sweep` returns: `settings` `{name: [P]}` of one or two names, and `history`
            with `loss` and, where there was validation, `validation_loss`, `[P, S, E]`.
        title: What it is of.

    Returns:
        A figure. Of one setting: the last training loss and the lowest validation loss over its values, a point for
        each seed and a line through the medians, runs that diverged as crosses at the top; beside it the curves over
        epochs, coloured by the setting. Of two: a map of the medians over seeds of the lowest validation loss (the last
        training loss without validation), the best ringed; where most places of the grid had no run, as in a random
        search, a point for each run.

    Raises:
        ValueError: More than two settings, wrong shapes, counts that do not match.
        TypeError: No sweep, no arrays of numbers.

    Example:
        >>> import numpy as np
        >>> from types import SimpleNamespace
        >>> history = SimpleNamespace(loss=np.array([[[1.0, 0.9]], [[0.9, 0.2]]]), validation_loss=None)
        >>> figure = validation_curve(SimpleNamespace(settings={"learning_rate": [0.01, 0.1]}, history=history))
        >>> figure.axes[0].get_title(), figure.axes[0].get_xlabel()
        ('best: 0.1', 'learning_rate')
    """
    history = getattr(sweep, "history", None)
    if history is None or not hasattr(sweep, "settings") or not hasattr(history, "loss"):
        raise TypeError(f"{NAME}: `sweep` is {check.short(sweep)}; pass what train.hyperparameter_sweep returns.")
    loss = batch(history.loss, NAME, "sweep.history.loss", {3: "[P, S, E]"}, finite=False)
    validation = getattr(history, "validation_loss", None)
    if validation is not None:
        validation = numbers(validation, NAME, "sweep.history.validation_loss", finite=False)
        if validation.shape != loss.shape:
            raise ValueError(
                f"{NAME}: the losses of `sweep.history` differ in shape: {validation.shape}, {loss.shape}."
            )
    points = {str(name): batch(v, NAME, f"sweep.settings[{name!r}]", {1: "[P]"}) for name, v in sweep.settings.items()}
    if not 1 <= len(points) <= 2 or any(len(values) != len(loss) for values in points.values()):
        sizes = {name: len(values) for name, values in points.items()}
        raise ValueError(
            f"{NAME}: `sweep.settings` holds {sizes} values for {len(loss)} runs; draw one or two settings."
        )
    scores = _scores(loss, validation)
    words = f"{title or 'Losses'} of {loss.shape[0]} settings of {' and '.join(points)}, {loss.shape[1]} seeds each"
    what = "training loss" if validation is None else "validation loss"
    if len(points) == 2:
        rows, columns = (len(np.unique(values)) for values in points.values())
        grid = 2 * len(np.unique(np.stack(list(points.values())), axis=1).T) >= rows * columns
        figure = canvas(*((max(6.0, 0.55 * columns + 1), max(4.4, 0.3 * rows + 1)) if grid else (6.0, 4.4)), words)
        (_map if grid else _points)(figure.subplots(), points, scores, what)
    else:
        figure = canvas(9.5, 3.6, words)
        left, right = figure.subplots(1, 2)
        ((name, values),) = points.items()
        _over_setting(left, name, values, loss, validation, scores)
        _over_epochs(right, name, values, loss if validation is None else validation)
        right.set_title(what, fontsize=9)
    if title:
        figure.suptitle(wrapped(plain(title), 15 * int(figure.get_figwidth()), 3), fontsize=10)
    return figure


def _scores(loss: np.ndarray, validation: np.ndarray | None) -> np.ndarray:
    """The lowest validation loss, or the last training loss; infinite where a run diverged."""
    finite = np.isfinite(loss).all(axis=-1)
    if validation is None:
        return np.where(finite, loss[..., -1], np.inf)
    finite &= np.isfinite(validation).all(axis=-1)
    return np.where(finite, np.where(np.isfinite(validation), validation, np.inf).min(axis=-1), np.inf)


def _median(scores: np.ndarray) -> np.ndarray:
    """Medians over seeds; infinite ones (runs that diverged) count as the worst."""
    middle = np.sort(scores, axis=1)
    size = scores.shape[1]
    return (middle[:, (size - 1) // 2] + middle[:, size // 2]) / 2


def _over_setting(
    axes: Axes, name: str, values: np.ndarray, loss: np.ndarray, validation: np.ndarray | None, scores: np.ndarray
) -> None:
    broken = ~np.isfinite(scores)
    lines = [("training (last)", NEGATIVE, np.where(broken, np.inf, loss[..., -1]))]
    lines += [] if validation is None else [("validation (lowest)", VALIDATION, scores)]
    order = np.argsort(values, kind="stable")
    for label, colour, own in lines:
        middle = _median(own)[order]
        there = np.isfinite(middle)
        axes.plot(values[order][there], middle[there], "-", color=colour, linewidth=1.6, label=label)
        axes.plot(np.repeat(values, own.shape[1]), np.where(broken, np.nan, own).ravel(), ".", color=colour, alpha=0.6)
    if broken.any():
        top = np.repeat(values, scores.shape[1])[broken.ravel()]
        place: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot(top, np.full(len(top), 0.98), "x", color=WRONG, label=f"diverged ({broken.sum()} runs)", **place)
    medians = _median(scores)
    best = int(np.argmin(medians))
    if np.isfinite(medians[best]):
        axes.axvline(values[best], color=NEUTRAL, linewidth=0.9, linestyle=":", zorder=0)
        axes.set_title(f"best: {number(values[best])}", fontsize=9)
    else:
        axes.set_title("all diverged", fontsize=9, color=WRONG)
    if values.min() > 0 and values.max() > 20 * values.min():
        axes.set_xscale("log")
    drawn = np.concatenate([own[~broken] for _, _, own in lines])
    if drawn.size and drawn.min() > 0 and drawn.max() > 20 * drawn.min():
        axes.set_yscale("log")
    axes.set_xlabel(plain(name), fontsize=9)
    axes.set_ylabel("loss", fontsize=9)
    axes.grid(alpha=0.25, linewidth=0.6)
    open_sides(axes).tick_params(labelsize=8)
    axes.legend(fontsize=8, frameon=False)


def _over_epochs(axes: Axes, name: str, values: np.ndarray, curves: np.ndarray) -> None:
    """Each run's curve, coloured by the rank of its setting; a run that diverged ends where it did."""
    levels, ranks = np.unique(values, return_inverse=True)
    named = set(levels[np.unique(np.round(np.linspace(0, len(levels) - 1, min(len(levels), NAMED))).astype(int))])
    epochs = np.arange(1, curves.shape[-1] + 1)
    marker = "." if len(epochs) <= 12 else None
    for rank, runs, value in zip(ranks, curves, values, strict=True):
        for seed, run in enumerate(runs):
            label = number(value) if seed == 0 and value in named else None
            named -= {value} if label else set()
            colour = LOW_TO_HIGH(rank / max(ranks.max(), 1))
            axes.plot(
                epochs, np.where(np.isfinite(run), run, np.nan), color=colour, linewidth=1, marker=marker, label=label
            )
    finite = curves[np.isfinite(curves)]
    if finite.size and finite.min() > 0 and finite.max() > 20 * finite.min():
        axes.set_yscale("log")
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_xlim(0.5, len(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.25, linewidth=0.6)
    open_sides(axes).tick_params(labelsize=8)
    place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
    axes.legend(fontsize=7, frameon=False, title=plain(name), title_fontsize=7, **place)


def _points(axes: Axes, points: dict[str, np.ndarray], scores: np.ndarray, what: str) -> None:
    """Medians over seeds where their settings lie, the best ringed, what diverged a cross."""
    (down, rows), (right, columns) = points.items()
    medians = _median(scores)
    there = np.isfinite(medians)
    axes.plot(columns[~there], rows[~there], "x", color=WRONG)
    if there.any():
        spread = axes.scatter(columns[there], rows[there], c=medians[there], cmap=LOW_TO_HIGH, s=45)
        bar = axes.figure.colorbar(spread, ax=axes, fraction=0.05, pad=0.03)
        quiet(bar)
        best = int(np.argmin(medians))
        ring: dict[str, Any] = {"markerfacecolor": "none", "markeredgewidth": 2}
        axes.plot(columns[best], rows[best], "o", color="black", markersize=11, **ring)
        words = plain(f"{what}; best: {down} {number(rows[best])}, {right} {number(columns[best])}")
        axes.set_title(wrapped(words, 80, 3), fontsize=9)
    for values, scale in ((columns, axes.set_xscale), (rows, axes.set_yscale)):
        if values.min() > 0 and values.max() > 20 * values.min():
            scale("log")
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_xlabel(plain(right), fontsize=9)
    axes.set_ylabel(plain(down), fontsize=9)
    axes.tick_params(labelsize=8)


def _map(axes: Axes, points: dict[str, np.ndarray], scores: np.ndarray, what: str) -> None:
    """Medians over seeds on the grid of two settings, written into their places."""
    (down, rows), (right, columns) = points.items()
    heights, place = np.unique(rows, return_inverse=True)
    widths, along = np.unique(columns, return_inverse=True)
    table = np.full((len(heights), len(widths)), np.nan)
    for row, column in set(zip(place, along, strict=True)):  # settings that were run twice are further seeds
        table[row, column] = _median(scores[(place == row) & (along == column)].reshape(1, -1))[0]
    finite = np.isfinite(table)
    axes.set_facecolor("#cfcfcf")
    axes.imshow(np.ma.masked_array(table, ~finite), cmap=LOW_TO_HIGH, aspect="auto", interpolation="nearest")
    low, high = (table[finite].min(), table[finite].max()) if finite.any() else (0.0, 1.0)
    for row in range(len(heights)):
        for column in range(len(widths)):
            value = table[row, column]
            share = (value - low) / (high - low) if high > low and np.isfinite(value) else 0.0
            colour = readable(LOW_TO_HIGH(share)) if np.isfinite(value) else "black"
            text = number(value) if np.isfinite(value) else "diverged" if np.isinf(value) else "no run"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    if finite.any():
        lowest = np.unravel_index(np.argmin(np.where(finite, table, np.inf)), table.shape)
        corner = (float(lowest[1]) - 0.48, float(lowest[0]) - 0.46)
        axes.add_patch(Rectangle(corner, 0.96, 0.92, fill=False, edgecolor="black", linewidth=2))
        best = f"best: {down} {number(heights[lowest[0]])}, {right} {number(widths[lowest[1]])}"
        axes.set_title(wrapped(plain(f"{what}; {best}"), 80, 3), fontsize=9)
    axes.set_xticks(range(len(widths)), [number(value) for value in widths], fontsize=8)
    axes.set_yticks(range(len(heights)), [number(value) for value in heights], fontsize=8)
    axes.set_xlabel(plain(right), fontsize=9)
    axes.set_ylabel(plain(down), fontsize=9)
