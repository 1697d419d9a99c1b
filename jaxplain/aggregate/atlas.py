"""Activation atlas: a map of what a layer says over a dataset, each place with a picture."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.aggregate.unit import given_batches, read_units
from jaxplain.explain.visualization import Settings, template, visualize_directions
from jaxplain.explain.visualization.image import shape_of
from jaxplain.explain.visualization.objective import reading
from jaxplain.program import public, shown
from jaxplain.types import Array, Arrays


@shown
class ActivationAtlas(NamedTuple):
    """A map of a layer's activations.

    images: `[n, ...]`, the picture of each cell that holds enough examples; cells: `[n, 2]`, its row and column;
    counts: `[n]`, how many activations it averages; means: `[n, C]`, their average; values: `[n]`, the objective
    reached; coordinates: `[N, 2]`, where each example lies, in [0, 1]; positions: `[N]`, the flat position in the
    layer at which its activation was taken; grid: cells on a side.
    """

    images: np.ndarray
    cells: np.ndarray
    counts: np.ndarray
    means: np.ndarray
    values: np.ndarray
    coordinates: np.ndarray
    positions: np.ndarray
    grid: int


@public
def activation_atlas(
    f: Callable[..., Any],
    path: str,
    inputs: Arrays,
    *args: Any,
    key: Array,
    image: Any,
    grid: int = 8,
    embedding: str | Callable[[np.ndarray], Any] = "pca",
    least: int = 3,
    power: float = 4.0,
    batch_size: int = 128,
    **settings: Any,
) -> ActivationAtlas:
    """Map what a layer says over a dataset: average activations on a grid of a 2-D embedding, each with its picture.

    Of every example the layer's activation at one random position is taken; all are laid out in the plane, and the
    activations that fall into one cell are averaged. The cell's picture is an input whose layer points in the average's
    direction (`objective.direction` with a power of the cosine); all cells are optimised in one compiled call.

    Args:
        f: As in `top_activations`.
        path: The layer, as in `split`.
        inputs: The dataset, `[N, ...]`, more than two examples.
        *args: As in `top_activations`.
        key: PRNG key of the positions and the pictures.
        image: The parameterisation of the pictures, such as `fourier((28, 28, 1))`.
        grid: Cells on a side.
        embedding: 'pca' (built in), 'umap' (needs umap-learn), 'tsne' (needs scikit-learn), or a function from
            activations `[N, C]` to coordinates `[N, 2]`.
        least: Fewest examples of a cell that gets a picture.
        power: Exponent of the cosine.
        batch_size: Examples evaluated at once.
        **settings: `transforms`, `regularisers`, `optimizer`, `steps`, ... of `activation_maximization`.

    Returns:
        `ActivationAtlas`. Cost: one forward pass over the dataset, and one `activation_maximization` a cell.

    Raises:
        ValueError: As in `top_activations`; no cell with enough examples, an embedding of another shape or not finite.
        ImportError: The embedding's package is not installed.

    Example:
        >>> from jaxplain.explain.visualization.image import pixels
        >>> def f(x):
        ...     with jax.named_scope("double"):
        ...         y = 2 * x
        ...     return y.sum()
        >>> x = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
        >>> atlas = activation_atlas(f, "double", x, key=jax.random.key(0), image=pixels((3,)), grid=2, steps=2)
        >>> atlas.images.shape[1:], int(atlas.counts.sum()) <= 20
        ((3,), True)

    Source: Carter et al. 2019, "Activation Atlas".
    """
    name = "activation_atlas"
    shape_of(image, name)
    check.count(grid, name, "grid")
    check.count(least, name, "least")
    read, made = reading(f, path, name), Settings(template(image, settings))
    found = [
        [np.asarray(part)[np.asarray(batch.mask)] for part in _sampled(read, batch, shared, key)]
        for batch, shared in given_batches(inputs, args, batch_size, name)
    ]
    vectors, positions = (np.concatenate(parts) for parts in zip(*found, strict=True))
    coordinates = _embedded(vectors, embedding)
    cell = np.minimum((coordinates * grid).astype(int), grid - 1) @ np.array([1, grid])
    counts = np.bincount(cell, minlength=grid * grid)
    full = np.flatnonzero(counts >= least)
    if full.size == 0:
        raise ValueError(f"{name}: no cell holds {least} of the {len(vectors)} examples; lower `grid` or `least`.")
    means = np.stack([vectors[cell == number].mean(axis=0) for number in full])
    seen = visualize_directions(made, read, image, jnp.asarray(means), jax.random.fold_in(key, 1), power)
    cells = np.stack([full // grid, full % grid], axis=1)
    return ActivationAtlas(
        np.asarray(seen.image), cells, counts[full], means, np.asarray(seen.value), coordinates, positions, grid
    )


@jax.jit
def _sampled(read: Any, batch: Any, shared: tuple[Any, ...], key: Array) -> tuple[Array, Array]:
    """Each example's activation at a position drawn from its own key."""
    values = read_units(read, batch.inputs, batch.targets, shared)
    flat = values.reshape(values.shape[0], -1, values.shape[-1])

    def one(h: Array, index: Array) -> tuple[Array, Array]:
        position = jax.random.randint(jax.random.fold_in(key, index), (), 0, len(h))
        return h[position], position

    return jax.vmap(one)(flat, jnp.asarray(batch.index))


def _embedded(vectors: np.ndarray, embedding: str | Callable[[np.ndarray], Any]) -> np.ndarray:
    """Coordinates in the unit square; the outermost hundredths are pulled in: no point rules the scale."""
    if len(vectors) < 3:
        raise ValueError(f"activation_atlas: {len(vectors)} examples make no map; pass more.")
    if isinstance(embedding, str):
        check.choice(embedding, tuple(_EMBEDDINGS), "activation_atlas", "embedding")
        embedding = _EMBEDDINGS[embedding]
    coordinates = np.asarray(embedding(vectors), np.float64)
    if coordinates.shape != (len(vectors), 2):
        raise ValueError(
            f"activation_atlas: `embedding` returned shape {coordinates.shape}; it has to be {(len(vectors), 2)}."
        )
    check.finite(coordinates, "activation_atlas", "embedding")
    low, high = np.percentile(coordinates, [1, 99], axis=0)
    return np.clip((coordinates - low[None]) / np.maximum(high - low, 1e-12)[None], 0.0, 1.0)


def principal_components(vectors: np.ndarray) -> np.ndarray:
    """The first two principal components, each with its largest weight positive."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64, keepdims=True)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = np.pad(axes, ((0, max(0, 2 - len(axes))), (0, 0)))[:2]
    axes = axes * np.sign(axes[np.arange(2), np.abs(axes).argmax(axis=1)] + 1e-300)[:, None]
    return centred @ axes.T


def _tsne(vectors: np.ndarray) -> Any:
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ImportError("activation_atlas: 'tsne' needs scikit-learn: `pip install scikit-learn`.") from error
    return TSNE(perplexity=min(30.0, (len(vectors) - 1) / 3), init="pca", random_state=0).fit_transform(vectors)


def _umap(vectors: np.ndarray) -> Any:
    try:
        with warnings.catch_warnings():  # of a part of it that needs TensorFlow
            warnings.simplefilter("ignore", ImportWarning)
            import umap
    except ImportError as error:
        raise ImportError("activation_atlas: 'umap' needs umap-learn: `pip install umap-learn`.") from error
    return umap.UMAP(random_state=0, n_jobs=1).fit_transform(vectors)


_EMBEDDINGS: dict[str, Callable[[np.ndarray], Any]] = {"pca": principal_components, "tsne": _tsne, "umap": _umap}
