"""The distribution of a model's parameters."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxplain import check
from jaxplain.plot.canvas import NEGATIVE, NEUTRAL, WRONG, fitted, open_sides, panels, shown
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import number, numbers, plain


@drawn
def parameter_histograms(params: Any, *, columns: int = 4, bins: int = 40, limit: int = 24) -> Figure:
    """Draw a histogram of every floating-point array of a parameter tree, with its mean and standard deviation.

    Args:
        params: A pytree, such as Flax's variables; integers, booleans and keys are left out.
        columns: Most histograms in a row.
        bins: Bars of a histogram.
        limit: Most arrays drawn, the first ones; the title says where there are more.

    Returns:
        A figure. NaN and infinite parameters are counted in red.

    Raises:
        ValueError: A tree without floating-point arrays, settings out of range.
        TypeError: Traced parameters.

    Example:
        >>> import numpy as np
        >>> figure = parameter_histograms({"dense": {"kernel": np.ones((3, 2)), "bias": np.zeros(2)}})
        >>> figure.axes[0].get_title().splitlines()[0]
        'dense/bias  [2]'
    """
    leaves = [(path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params) if _is_parameter(leaf)]
    if not leaves:
        raise ValueError(
            "parameter_histograms: `params` holds no floating-point arrays; pass the parameters of a model."
        )
    check.count(columns, "parameter_histograms", "columns")
    check.count(bins, "parameter_histograms", "bins")
    count, more = shown(len(leaves), limit, "parameter_histograms", "arrays")
    figure, grid = panels(count, columns, (2.7, 1.9), f"Histograms of {count} arrays of parameters")
    for axes, (path, leaf) in zip(grid, leaves[:count], strict=True):
        name = jax.tree_util.keystr(path, simple=True, separator="/") or "params"
        values = numbers(leaf, "parameter_histograms", name, finite=False)
        shape = f"  {list(np.shape(leaf))}"
        _histogram(axes, values.ravel(), fitted(plain(name) + shape, 2.5, 8, 3), bins)
    if more:
        figure.suptitle(more, fontsize=9, color=NEUTRAL)
    return figure


def _is_parameter(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    if dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        return False
    return (dtype is not None or isinstance(leaf, float)) and check.is_floating(leaf) and np.size(leaf) > 0


def _histogram(axes: Axes, values: np.ndarray, title: str, bins: int) -> None:
    finite = values[np.isfinite(values)]
    if finite.size:
        title += f"\nmean {number(finite.mean())}, sd {number(finite.std())}"
        if np.ptp(finite) > 1e-9 * np.abs(finite).max():
            axes.hist(finite, bins=bins, color=NEGATIVE)
            axes.axvline(0, color=NEUTRAL, linewidth=0.8, linestyle=":")
            axes.locator_params(axis="x", nbins=5)
        else:
            # Equal values have no range to divide; one bar of no particular width says where they all are.
            axes.bar([0], [finite.size], width=0.2, color=NEGATIVE)
            axes.set_xlim(-1, 1)
            axes.set_xticks([0], [f"all {number(finite[0])}"])
    axes.set_title(title, fontsize=8)
    if finite.size < values.size:
        axes.set_xlabel(f"{values.size - finite.size} NaN or infinite", fontsize=8, color=WRONG)
    open_sides(axes).tick_params(labelsize=7)
    axes.locator_params(axis="y", nbins=4)
