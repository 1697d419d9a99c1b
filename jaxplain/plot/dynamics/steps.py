"""What figures over training share: the steps of checkpoints, as numbers, as an axis, and those that are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from jaxplain import check
from jaxplain.plot.values import numbers


def rising(steps: Any, size: int, name: str) -> np.ndarray:
    """Whole numbers, one for each of `size` checkpoints, each larger than the one before."""
    array = numbers(steps, name, "steps")
    if array.shape != (size,):
        raise ValueError(f"{name}: `steps` has shape {array.shape}, but there are {size} checkpoints.")
    if (array != np.round(array)).any() or (np.diff(array) <= 0).any():
        raise ValueError(f"{name}: `steps` has to be rising whole numbers, not {check.short(array.tolist())}.")
    return array.astype(int)


def chosen(count: int, columns: int, name: str) -> np.ndarray:
    """Which of `count` checkpoints are drawn: all, or evenly spread ones with the first and the last."""
    columns = check.count(columns, name, "columns", least=2)
    return np.unique(np.round(np.linspace(0, count - 1, min(columns, count))).astype(int))


def step_axis(axes: Axes, steps: np.ndarray) -> None:
    """An axis of steps, logarithmic from the first one on where they span more than a factor of 50."""
    first = steps[steps > 0]
    if first.size > 2 and first[-1] > 50 * first[0]:
        axes.set_xscale("symlog", linthresh=float(first[0]))
        axes.set_xlim(steps[0] - 0.15 * first[0], 1.2 * steps[-1])  # the margins of a linear axis would reach below 0
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    elif len(steps) == 1:
        axes.set_xticks(steps)
    axes.set_xlabel("step of training", fontsize=9)
    axes.tick_params(labelsize=8)
