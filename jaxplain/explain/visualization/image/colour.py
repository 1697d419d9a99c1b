"""Colour statistics: channels that are optimised without the correlation that images have."""

from __future__ import annotations

import numpy as np

from jaxplain import check
from jaxplain.program import public
from jaxplain.types import ArrayLike


@public
def colour_matrix(data: ArrayLike) -> np.ndarray:
    """How decorrelated channels mix into those of a dataset: M M^T = covariance of the channels, up to a factor.

    With the eigenvectors V and eigenvalues l of the covariance over all pixels, M = V sqrt(l), divided by the length of
    its longest column. Passed as `colour=` to `pixels`, `fourier` and the others, it makes each parameter move colours
    together as they vary in the data.

    Args:
        data: Images `[N, H, W, C]`, signals `[N, T, C]` or rows `[N, C]`, any number of channels.

    Returns:
        `[C, C]` float32.

    Raises:
        ValueError: Fewer than two axes, no pixels, NaN, or channels that are all constant.

    Example:
        >>> import numpy as np
        >>> matrix = colour_matrix(np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
        >>> (matrix @ matrix.T).round(2).tolist()
        [[1.0, 0.0], [0.0, 0.25]]

    Source: Olah, Mordvintsev and Schubert 2017, "Feature Visualization", "Preconditioning and parameterization".
    """
    array = np.asarray(data)
    if array.ndim < 2 or array.size == 0:
        raise ValueError(f"colour_matrix: `data` has shape {array.shape}; pass images [N, H, W, C], not empty.")
    check.finite(array, "colour_matrix", "data")
    flat = array.reshape(-1, array.shape[-1]).astype(np.float64)
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(flat, rowvar=False, bias=True)))
    if values[-1] <= 0:
        raise ValueError("colour_matrix: every channel of `data` is constant, so there is no colour to learn.")
    # A channel that follows the others exactly keeps a hundredth of its own, so that every colour can be reached.
    root = vectors * np.sqrt(np.maximum(values, 1e-4 * values[-1]))[None, :]
    return (root / np.linalg.norm(root, axis=0).max()).astype(np.float32)
