"""What single features of a dictionary are: their strongest examples, what they look for, what they add, how often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxplain import check
from jaxplain.concept import Dictionary
from jaxplain.plot.canvas import NEGATIVE, POSITIVE, bare, canvas, picture, wrapped
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import batch, images, number, plain, texts

NAME = "feature_dashboard"


@drawn
def feature_dashboard(
    dictionary: Dictionary,
    activations: Any,
    inputs: Any,
    *,
    features: Sequence[int] | None = None,
    visualizations: Mapping[int, Any] | None = None,
    logits: Any = None,
    names: Sequence[Any] | None = None,
    k: int = 5,
    limit: int = 6,
) -> Figure:
    """Draw features of a dictionary, a row each: strongest examples, maximal input, logit weights, density of codes.

    Args:
        dictionary: Any of `jaxplain.concept`.
        activations: `[N, ..., D]`, those of `inputs`.
        inputs: Images `[N, H, W]` or `[N, H, W, C]`, or N texts.
        features: Which; None takes those that are active most often.
        visualizations: By feature an input that maximises it, as `activation_maximization(feature_score(...))` makes.
        logits: `[M, K]`, what `concept.logit_weights` returned.
        names: Names of the K outputs.
        k: How many examples.
        limit: Most features drawn.

    Returns:
        A figure; above each example its code, and beside each feature the share of activations in which it is active.

    Raises:
        ValueError: Features that are not there, counts that do not match, NaN.

    Example:
        >>> import jax.numpy as jnp
        >>> class Axes(Dictionary):
        ...     atoms: Any
        ...     def encode(self, h):
        ...         return jnp.maximum(h @ self.atoms.T, 0)
        >>> figure = feature_dashboard(Axes(jnp.eye(2)), jnp.eye(2), np.zeros((2, 4, 4)), k=1)
        >>> [axes.get_title() for axes in figure.axes if axes.get_title()]
        ['1', '1']
    """
    rows = dictionary.checked(activations, NAME, "activations")
    drawn, size = _cells(inputs), dictionary.size
    if len(drawn) != len(rows):
        raise ValueError(f"{NAME}: `inputs` has {len(drawn)} examples, but `activations` has {len(rows)}.")
    codes = np.asarray(dictionary.encode(rows)).reshape(-1, size)
    density = (codes != 0).mean(axis=0)
    chosen = _chosen(features, density, limit)
    weights = None if logits is None else batch(logits, NAME, "logits", {2: "[M, K]"})
    if weights is not None and len(weights) != size:
        raise ValueError(f"{NAME}: `logits` has {len(weights)} rows, but the dictionary has {size} features.")
    heads = None if weights is None else texts(names, weights.shape[1], NAME, "names", "{}")
    top = dictionary.top_examples(rows, min(check.count(k, NAME, "k"), len(rows)))
    extra = [visualizations is not None, weights is not None, True]
    columns = top.examples.shape[1] + sum(extra)
    figure = canvas(1.25 * columns + 0.9, 1.45 * len(chosen) + 0.3, f"{len(chosen)} features of a dictionary of {size}")
    grid: Any = figure.subplots(len(chosen), columns, squeeze=False)
    for row, feature in enumerate(chosen):
        cells = iter(grid[row])
        for index, value in zip(np.asarray(top.examples)[feature], np.asarray(top.values)[feature], strict=True):
            _draw(next(cells), drawn[int(index)] if value > 0 else None, number(value) if value > 0 else "")
        if visualizations is not None:
            made = visualizations.get(feature)
            _draw(next(cells), None if made is None else images(np.asarray(made)[None], NAME, "visualizations")[0], "")
        if weights is not None and heads is not None:
            _bars(next(cells), weights[feature], heads)
        _histogram(next(cells), codes[:, feature], density[feature])
        grid[row, 0].set_ylabel(f"feature {feature}", fontsize=8)
    return figure


def _chosen(features: Sequence[int] | None, density: np.ndarray, limit: int) -> list[int]:
    """Which features are drawn."""
    check.count(limit, NAME, "limit")
    if features is None:
        return [int(i) for i in np.argsort(-density, kind="stable")[:limit]]
    chosen = [check.count(i, NAME, "features", least=0) for i in features]
    wrong = [i for i in chosen if i >= len(density)]
    if wrong or not chosen:
        raise ValueError(f"{NAME}: `features` names {wrong or 'none'}, but the dictionary has 0 to {len(density) - 1}.")
    return chosen[:limit]


def _cells(inputs: Any) -> list[Any]:
    """What each cell shows."""
    if isinstance(inputs, Sequence) and len(inputs) and all(isinstance(item, str) for item in inputs):
        return list(inputs)
    return list(images(inputs, NAME, "inputs"))


def _draw(axes: Axes, cell: Any, title: str) -> None:
    if cell is None:
        bare(axes)
    elif isinstance(cell, str):
        bare(axes).text(0.04, 0.96, plain(cell[:60]), fontsize=6, va="top", wrap=True, transform=axes.transAxes)
    else:
        picture(axes, cell)
    axes.set_title(title, fontsize=7)


def _bars(axes: Axes, values: np.ndarray, heads: Sequence[str]) -> None:
    """The outputs that a feature raises and lowers most."""
    order = np.argsort(-values, kind="stable")
    shown = order if len(order) <= 10 else np.concatenate([order[:4], order[-4:]])
    axes.barh(range(len(shown)), values[shown], color=[POSITIVE if v > 0 else NEGATIVE for v in values[shown]])
    axes.set_yticks(range(len(shown)), [wrapped(heads[i], 16, 1) for i in shown], fontsize=5)
    axes.tick_params(axis="x", labelsize=5)
    axes.invert_yaxis()


def _histogram(axes: Axes, codes: np.ndarray, density: float) -> None:
    """How large the codes are where they are not zero."""
    axes.hist(codes[codes != 0], bins=20, color="tab:gray")
    axes.set_yticks([])
    axes.tick_params(axis="x", labelsize=5)
    axes.set_xlabel(f"active in {100 * density:.3g} %", fontsize=6)
