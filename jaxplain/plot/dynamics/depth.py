"""Layers and what they know: at which layer predictions are made, and what a lens reads over training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxplain import check
from jaxplain.plot.canvas import NEGATIVE, NEUTRAL, RIGHT, SEQUENTIAL, WRONG, canvas, open_sides, readable, wrapped
from jaxplain.plot.caption import drawn
from jaxplain.plot.dynamics.steps import rising
from jaxplain.plot.table import Cell, Grid, coloured, with_grids
from jaxplain.plot.values import batch, classes, plain, same_length
from jaxplain.train import PredictionDepth

LONGEST = 28
"""Letters of a layer's name below its bar; of a longer one begin and end."""


@drawn
def prediction_depths(found: PredictionDepth, right: Any = None) -> Figure:
    """Draw at which layers predictions are made, and how many probes agree with the model at each.

    Args:
        found: What `jaxplain.train.prediction_depth` returned.
        right: `[Q]`, whether the model is right of each example; then right and wrong are drawn apart.

    Returns:
        A figure with two panels over the layers. The last bar, "none", is of the examples that not even the neighbours
        at the last layer call as the model does.

    Raises:
        TypeError: No `PredictionDepth`.
        ValueError: `right` of another length, or values other than 0 and 1.

    Example:
        >>> import numpy as np
        >>> found = PredictionDepth(np.array([0, 2]), np.array([1, 1]), np.array([[1, 0], [1, 0]]), ("input", "output"))
        >>> [axes.get_title() for axes in prediction_depths(found).axes]
        ['prediction depth', 'probes that agree with the model']
    """
    name = "prediction_depths"
    depth = classes(found.depth, np.size(found.depth), name, "found.depth")
    layers = [plain(layer) for layer in found.layers]
    if depth.max() > len(layers) or np.shape(found.agreement) != (len(layers),):
        raise ValueError(
            f"{name}: `found` has depths up to {depth.max()} and agreements of shape {np.shape(found.agreement)} for "
            f"{len(layers)} layers; pass what train.prediction_depth returned of one model."
        )
    groups = {"": (np.ones(len(depth), bool), NEUTRAL)}
    if right is not None:
        answers = batch(right, name, "right", {1: "[Q]"})
        same_length(answers, depth, name, ("right", "found"))
        if not np.isin(answers, (0, 1)).all():
            raise ValueError(f"{name}: `right` has to be whether each answer is right, 0 or 1.")
        groups = {"right": (answers == 1, RIGHT), "wrong": (answers == 0, WRONG)}
    layers = [wrapped(layer, LONGEST, 1) for layer in layers]
    size = (0.4 * len(layers) + 6.0, 3.0 + 0.04 * max(map(len, layers)))
    figure = canvas(*size, f"Prediction depth: {found}")
    bars, lines = figure.subplots(1, 2)
    below = np.zeros(len(layers) + 1)
    for label, (mine, colour) in groups.items():
        counts = np.bincount(depth[mine], minlength=len(layers) + 1)
        bars.bar(range(len(counts)), counts, bottom=below, color=colour, label=label)
        below = below + counts
    bars.set_xticks(range(len(layers) + 1), [*layers, "none"], rotation=40, ha="right", fontsize=7)
    bars.set_ylabel("examples", fontsize=9)
    if right is not None:
        bars.set_ylim(0, 1.15 * below.max())  # the legend stands above the bars
        bars.legend(fontsize=8, frameon=False, ncols=2, loc="upper left")
    lines.plot(np.asarray(found.agreement), marker="o", markersize=4, color=NEGATIVE)
    lines.set_xticks(range(len(layers)), layers, rotation=40, ha="right", fontsize=7)
    lines.set_ylim(-0.02, 1.02)
    lines.set_ylabel("share of examples", fontsize=9)
    lines.grid(alpha=0.25, linewidth=0.6)
    for axes, title in ((bars, "prediction depth"), (lines, "probes that agree with the model")):
        open_sides(axes).set_title(title, fontsize=10)
    return figure


@drawn
def lens_over_training(outputs: Mapping[str, Any], steps: Any, target: int | None = None) -> Figure:
    """Draw what a lens reads at each layer over training: the probability of one class.

    Args:
        outputs: `{layer: [S, K]}` logits in the order of a run, as `explain_over(lambda p: lens(...), snapshots)(x)`
            gives them for one example; of a sequence pick a position, `{layer: own[:, t]}`.
        steps: `[S]`, those of the snapshots.
        target: The class; None takes the one that the last layer says at the last step.

    Returns:
        A figure, layers by checkpoints, the last layer on top, the darker the more probable.

    Raises:
        ValueError: No layers, wrong shapes, layers of several shapes, a class outside, NaN.
        TypeError: No mapping from layers to arrays of numbers.

    Example:
        >>> import numpy as np
        >>> figure = lens_over_training({"block_0": np.zeros((2, 3)), "block_1": np.eye(2, 3)}, [0, 10])
        >>> figure.axes[0].get_title()
        'probability of class 1'
    """
    name = "lens_over_training"
    if not outputs:
        raise ValueError(f"{name}: `outputs` is empty; pass {{layer: [S, K]}}.")
    layers = {str(k): batch(v, name, f"outputs[{k!r}]", {2: "[S, K]"}) for k, v in outputs.items()}
    shapes = {own.shape for own in layers.values()}
    if len(shapes) > 1:
        raise ValueError(f"{name}: `outputs` holds layers of several shapes: {sorted(shapes)}.")
    logits = np.stack(list(layers.values())[::-1])
    own = rising(steps, logits.shape[1], name)
    chances = np.exp(logits - logits.max(axis=-1, keepdims=True))
    chances /= chances.sum(axis=-1, keepdims=True)
    if target is None:
        target = int(logits[0, -1].argmax())
    if check.count(target, name, "target", least=0) >= logits.shape[-1]:
        raise ValueError(f"{name}: `target` is {target}, but there are {logits.shape[-1]} classes.")
    values = chances[..., target]
    longest = max(map(len, layers))
    figure = canvas(
        max(0.55 * len(own), 1.6) + 0.7 + 0.066 * longest,
        0.3 * len(values) + 1.2,
        f"Probability of class {target} by layer and step",
    )
    axes = figure.subplots()
    axes.imshow(values, cmap=SEQUENTIAL, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    names = [plain(layer) for layer in list(layers)[::-1]]
    written = [[Cell(layer)] for layer in names]
    for (row, column), value in np.ndenumerate(values):
        behind = SEQUENTIAL(value)
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=readable(behind))
        written[row].append(coloured(f"{value:.2f}", behind))
    axes.set_yticks(range(len(values)), names, fontsize=7)
    axes.set_xticks(range(len(own)), [str(step) for step in own], fontsize=7)
    axes.tick_params(length=0)
    axes.set_xlabel("step of training", fontsize=9)
    axes.set_title(f"probability of class {target}", fontsize=9)
    heads = [Cell("layer"), *(Cell(f"step {step}", right=True) for step in own)]
    return with_grids(figure, Grid(heads, written, f"probability of class {target}"))
