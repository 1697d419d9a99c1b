"""The weight matrices of a model, and their singular values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxplain import check
from jaxplain.plot.canvas import (
    DIVERGING,
    NEGATIVE,
    NEUTRAL,
    bare,
    check_percentile,
    colour_bar,
    diverging,
    largest,
    open_sides,
    panels,
    shown,
    wrapped,
)
from jaxplain.plot.caption import drawn
from jaxplain.plot.values import number, numbers, plain
from jaxplain.program import leaves_by_parts


@drawn
def weight_matrices(
    params: Any, *, channel_axis: int = -1, columns: int = 4, percentile: float = 99.5, limit: int = 16
) -> Figure:
    """Draw the weight matrices of a parameter tree: red is positive, blue negative, white zero.

    Args:
        params: A pytree, such as Flax's variables; its floating-point arrays of two axes or more are drawn. One of
            more axes (a convolution's kernel) is read as a matrix with a column for each place of `channel_axis`.
        channel_axis: The axis of output channels of arrays of more than two axes.
        columns: Most matrices in a row.
        percentile: The end of each scale is this percentile of the absolute values that are not zero.
        limit: Most matrices drawn, the first ones; the title says where there are more.

    Returns:
        A figure, each matrix on a scale of its own, its rows downwards.

    Raises:
        ValueError: A tree without a matrix, NaN, settings out of range, an axis that an array has not.
        TypeError: Traced parameters.

    Example:
        >>> import numpy as np
        >>> figure = weight_matrices({"dense": {"kernel": np.eye(3), "bias": np.zeros(3)}})
        >>> figure.axes[0].get_title()
        'dense/kernel\\n3 x 3'
    """
    name = "weight_matrices"
    check.count(columns, name, "columns")
    check_percentile(percentile, name)
    found = [("/".join(parts) or "params", leaf) for parts, leaf in leaves_by_parts(params).items() if _matrix(leaf)]
    if not found:
        raise ValueError(
            f"{name}: `params` holds no floating-point array of two axes or more; pass the parameters of a model."
        )
    count, more = shown(len(found), limit, name, "matrices")
    figure, grid = panels(count, columns, (2.7, 2.5), f"{count} weight matrices: red positive, blue negative")
    for axes, (path, leaf) in zip(grid, found[:count], strict=True):
        values = numbers(leaf, name, f"params at {path}")
        if values.ndim > 2:
            if not -values.ndim <= channel_axis < values.ndim:
                raise ValueError(f"{name}: `channel_axis` is {channel_axis}, but {path} has {values.ndim} axes.")
            values = np.moveaxis(values, channel_axis, -1).reshape(-1, values.shape[channel_axis])
        norm = diverging(largest(values, percentile))
        axes.imshow(values, cmap=DIVERGING, norm=norm, aspect="auto", interpolation="nearest")
        bare(axes).set_title(_title(path, f"\n{' x '.join(map(str, np.shape(leaf)))}"), fontsize=8)
        colour_bar(figure, axes, norm, values=values)
    if more:
        figure.suptitle(more, fontsize=9, color=NEUTRAL)
    return figure


def _title(path: str, below: str) -> str:
    """A path in lines that fit above a panel, and what is said below it."""
    return wrapped(plain(path), 32, 4) + plain(below)


def _matrix(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    if dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        return False
    return check.is_floating(leaf) and np.ndim(leaf) > 1 and np.size(leaf) > 0


@drawn
def singular_values(spectra: Mapping[str, Any], *, columns: int = 4, limit: int = 16) -> Figure:
    """Draw the singular values of weight matrices, largest first, beside what chance would give.

    The dashed line is the largest singular value of independent entries of the same deviation: values above it are
    directions that stand out. A curve that falls at once is a matrix of few directions, whose layer could be narrower.

    Args:
        spectra: What `train.weight_spectra(params)` returns: `{path: Spectrum}`.
        columns: Most matrices in a row.
        limit: Most matrices drawn, the first ones; the title says where there are more.

    Returns:
        A figure, on logarithmic axes where values are positive and span more than a factor of 20.

    Raises:
        ValueError: No spectra, spectra of many runs, NaN.
        TypeError: No spectra, traced ones.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxplain.train import weight_spectra
        >>> figure = singular_values(weight_spectra({"kernel": jnp.diag(jnp.array([4.0, 3.0]))}))
        >>> figure.axes[0].get_title().splitlines()
        ['kernel  2 x 2', 'stable rank 1.56, 0 above chance']
    """
    name = "singular_values"
    if not isinstance(spectra, Mapping) or not all(hasattr(s, "singular_values") for s in spectra.values()):
        raise TypeError(f"{name}: `spectra` is {check.short(spectra)}; pass what train.weight_spectra(params) returns.")
    if not spectra:
        raise ValueError(f"{name}: `spectra` is empty; there is nothing to draw.")
    check.count(columns, name, "columns")
    count, more = shown(len(spectra), limit, name, "matrices")
    figure, grid = panels(count, columns, (2.7, 2.1), f"Singular values of {count} weight matrices")
    for axes, (path, spectrum) in zip(grid, list(spectra.items())[:count], strict=True):
        _spectrum(axes, str(path), spectrum)
    if more:
        figure.suptitle(more, fontsize=9, color=NEUTRAL)
    return figure


def _spectrum(axes: Axes, path: str, spectrum: Any) -> None:
    values = numbers(spectrum.singular_values, "singular_values", f"spectra[{path!r}]")
    if values.ndim != 1:
        raise ValueError(
            f"singular_values: `spectra[{path!r}]` holds values {values.shape}; draw one set of params at a time."
        )
    edge = float(spectrum.edge)
    axes.plot(np.arange(1, len(values) + 1), values, ".-", color=NEGATIVE, linewidth=1, markersize=4)
    axes.axhline(edge, color=NEUTRAL, linewidth=0.9, linestyle="--")
    if values.min() > 0 and values.max() > 20 * values.min():
        axes.set_yscale("log")
    rows, wide = spectrum.shape
    facts = f"stable rank {number(float(spectrum.stable_rank))}, {int(spectrum.outliers)} above chance"
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_title(_title(path, f"  {rows} x {wide}\n{facts}"), fontsize=8)
    axes.grid(alpha=0.25, linewidth=0.6)
    open_sides(axes).tick_params(labelsize=7)
