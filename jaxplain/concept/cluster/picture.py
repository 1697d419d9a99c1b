"""Places on a map for rows, so that clusters are seen: by principal components, or by t-SNE or UMAP of an extra."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxplain import check
from jaxplain.concept.cluster.maps import NORMS, maps_of, rows_of
from jaxplain.program import public


@public
def cluster_places(attributions: Any, *, how: str = "pca", norm: str = "l2") -> np.ndarray:
    """Lay attributions out on a plane.

    Args:
        attributions: `[N, ...]`, as in `spray`, or the `embedding` of what it returned.
        how: 'pca'; 'tsne' (needs scikit-learn); 'umap' (needs umap-learn).
        norm: As in `spray`.

    Returns:
        `[N, 2]`, always the same for the same attributions. Cost: that of the layout, on the host.

    Raises:
        ImportError: The extra is not installed.
        ValueError, TypeError: As `spray`.

    Example:
        >>> import numpy as np
        >>> cluster_places(np.array([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]]), norm="none").round(2)[:, 0].tolist()
        [0.33, -1.67, 1.33]

    Source: van der Maaten and Hinton 2008; McInnes, Healy and Melville 2018.
    """
    check.choice(how, tuple(_LAYOUTS), "cluster_places", "how")
    check.choice(norm, NORMS, "cluster_places", "norm")
    rows = rows_of(maps_of(attributions, "cluster_places"), norm, "cluster_places").astype(np.float64)
    return np.asarray(_LAYOUTS[how](rows), np.float64)


def _components(rows: np.ndarray) -> np.ndarray:
    """The first two principal components, the largest weight of each positive."""
    centred = rows - rows.mean(axis=0, keepdims=True)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    axes = np.pad(axes, ((0, 2 - len(axes)), (0, 0)))
    sign = np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)])
    return centred @ (axes * np.where(sign == 0, 1, sign)[:, None]).T


def _tsne(rows: np.ndarray) -> Any:
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ImportError("cluster_places: 'tsne' needs scikit-learn: `pip install scikit-learn`.") from error
    return TSNE(perplexity=min(30.0, (len(rows) - 1) / 3), init="pca", random_state=0).fit_transform(rows)


def _umap(rows: np.ndarray) -> Any:
    try:
        with warnings.catch_warnings():  # of a part of it that needs TensorFlow
            warnings.simplefilter("ignore", ImportWarning)
            import umap
    except ImportError as error:
        raise ImportError("cluster_places: 'umap' needs umap-learn: `pip install umap-learn`.") from error
    return umap.UMAP(random_state=0, n_jobs=1).fit_transform(rows)


_LAYOUTS: dict[str, Callable[[np.ndarray], Any]] = {"pca": _components, "tsne": _tsne, "umap": _umap}
