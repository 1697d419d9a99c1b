"""Curves over training: examples learnt and forgotten, and explanations on their way to the last ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxplain.plot.canvas import NEGATIVE, NEUTRAL, RIGHT, canvas, legend, open_sides, series
from jaxplain.plot.caption import drawn
from jaxplain.plot.dynamics.steps import rising, step_axis
from jaxplain.plot.values import batch, plain
from jaxplain.train import LearningDynamics

ANSWERS = ListedColormap(["#e3a5a9", "#a8d5b1"], name="answers")
"""Wrong, right."""


@drawn
def example_dynamics(dynamics: LearningDynamics) -> Figure:
    """Draw when examples were learnt and how often they were forgotten.

    Left: the share of right answers, and the share that is right from there to the end. Middle: every example's answers
    over the checkpoints, green where right, the first learnt on top and those that end wrong below. Right: how many
    examples were forgotten how often.

    Args:
        dynamics: What `jaxplain.train.learning_dynamics` returned.

    Returns:
        A figure with three panels.

    Raises:
        TypeError: No `LearningDynamics`.
        ValueError: It is of no checkpoint or no example.

    Example:
        >>> import numpy as np
        >>> right = np.array([[0, 1], [1, 1]], bool)
        >>> figure = example_dynamics(LearningDynamics(np.array([0, 9]), 1.0 - right, 1 * right, right))
        >>> [axes.get_title() for axes in figure.axes]
        ['right answers', 'each example', 'forgotten']
    """
    right = batch(dynamics.right, "example_dynamics", "dynamics.right", {2: "[S, N]"}) > 0
    steps = rising(dynamics.steps, len(right), "example_dynamics")
    learnt, forgotten = np.asarray(dynamics.learnt), np.asarray(dynamics.forgotten)
    figure = canvas(10.5, 3.2, f"When examples were learnt: {dynamics}")
    curves, each, counts = figure.subplots(1, 3, width_ratios=[1.2, 1.2, 0.8])
    kept = np.mean((learnt[None] >= 0) & (learnt[None] <= steps[:, None]), axis=1)
    curves.plot(steps, right.mean(axis=1), color=NEGATIVE, marker=".", label="right")
    curves.plot(steps, kept, color=RIGHT, marker=".", linestyle="--", label="right from here to the end")
    curves.set_ylim(-0.02, 1.02)
    curves.set_ylabel("share of examples", fontsize=9)
    curves.grid(alpha=0.25, linewidth=0.6)
    curves.legend(fontsize=8, frameon=False)
    step_axis(open_sides(curves), steps)
    order = np.lexsort((forgotten, np.where(learnt < 0, steps[-1] + 1, learnt)))
    each.imshow(right[:, order].T, cmap=ANSWERS, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    _some_steps(each, steps)
    each.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    each.set_ylabel("examples, the first learnt on top", fontsize=9)
    number, share = np.unique(forgotten, return_counts=True)
    counts.bar(number, share, color=NEUTRAL)
    counts.set_xlabel("times forgotten", fontsize=9)
    counts.set_ylabel("examples", fontsize=9)
    counts.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    open_sides(counts).tick_params(labelsize=8)
    for axes, title in zip((curves, each, counts), ("right answers", "each example", "forgotten"), strict=True):
        axes.set_title(title, fontsize=10)
    return figure


def _some_steps(axes: Axes, steps: np.ndarray) -> None:
    """Columns named by their steps, at most eight of them, and no more than their digits leave room for."""
    most = max(2, min(8, len(steps), 32 // (len(str(steps[-1])) + 1)))
    places = np.unique(np.round(np.linspace(0, len(steps) - 1, most)).astype(int))
    axes.set_xticks(places, [str(steps[place]) for place in places], fontsize=7)
    axes.set_xlabel("step of training", fontsize=9)
    axes.tick_params(labelsize=8)


@drawn
def drift_curves(drift: Any, steps: Any) -> Figure:
    """Draw how alike explanations over training are to the last ones, by rank.

    Args:
        drift: `[S]` or `[B, S]` of B examples, what `jaxplain.train.explanation_drift` returns (of a batch by
            `jax.vmap`); or `{method: drift}`.
        steps: `[S]`, those of the snapshots.

    Returns:
        A figure: for each method the mean over examples and its 95 % confidence interval, 1.96 s / sqrt(B). Where an
        explanation is constant, as zero at the start, it has no ranks and is left out.

    Raises:
        ValueError: Wrong shapes, steps that do not rise, nothing but NaN.
        TypeError: No arrays of numbers.

    Example:
        >>> figure = drift_curves({"gradient": [[0.1, 0.6, 1.0], [0.3, 0.8, 1.0]]}, [0, 10, 20])
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['gradient']
    """
    name = "drift_curves"
    named = drift if isinstance(drift, Mapping) else {"": drift}
    if not named:
        raise ValueError(f"{name}: `drift` is empty; pass {{method: [B, S]}}.")
    shapes = {1: "[S]", 2: "[B, S]"}
    tables = {str(k): np.atleast_2d(batch(v, name, "drift", shapes, finite=False)) for k, v in named.items()}
    figure = canvas(5.2, 3.4, f"Rank correlation of explanations over training with the last: {', '.join(tables)}")
    axes = figure.add_subplot()
    for place, (method, table) in enumerate(tables.items()):
        there = rising(steps, table.shape[1], name)
        known = (~np.isnan(table)).sum(axis=0)
        if not known.any() or np.isinf(table).any() or np.nanmax(np.abs(table)) > 1 + 1e-6:
            raise ValueError(f"{name}: `drift` of {method!r} holds no correlations in [-1, 1].")
        count = np.maximum(known, 1)
        mean = np.where(known > 0, np.nansum(table, axis=0) / count, np.nan)
        spread = np.nansum(np.square(table - mean[None]), axis=0) / np.maximum(known - 1, 1)
        half = np.where(known > 1, 1.96 * np.sqrt(spread / count), 0.0)
        look = series(place)
        axes.plot(there, mean, marker=".", label=plain(method), **look)
        axes.fill_between(there, mean - half, mean + half, color=look["color"], alpha=0.18, linewidth=0)
        step_axis(axes, there)
    axes.axhline(0.0, color=NEUTRAL, linewidth=0.8)
    axes.set_ylim(min(-0.05, axes.get_ylim()[0]), 1.05)
    axes.set_ylabel("rank correlation with the last", fontsize=9)
    axes.grid(alpha=0.25, linewidth=0.6)
    open_sides(axes)
    if any(tables):
        legend(figure, axes)
    return figure
