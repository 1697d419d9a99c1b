"""Planes in the space of params: along two random directions, or principal ones of a path, or through three points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import Function, public
from jaxplain.train.landscape.filters import NORMALIZATIONS, check_norms, filter_axes, random_directions
from jaxplain.train.landscape.objective import moving, opened
from jaxplain.train.snapshot import Snapshots
from jaxplain.types import Array, Pytree


class Plane(Function):
    """A plane in the space of params, `plane(x, y) -> params`: the origin plus x and y times two directions.

    model: What divides params into what moves and the rest, which is the origin's everywhere.
    origin: The params at (0, 0).
    directions: Two, of the structure of what moves, in float32 or wider.
    path: Coordinates `[S, 2]` of what the plane was laid through, or None.
    explained: `[2]`, the share of the path's variance along each direction, or None.
    """

    model: Any
    origin: Pytree
    directions: tuple[Pytree, Pytree]
    path: Any = None
    explained: Any = None

    def __call__(self, x: Any, y: Any) -> Pytree:
        """The params at one point of the plane."""
        trained, rest = self.model.partition(self.origin)

        def move(leaf: Any, first: Array, second: Array) -> Array:
            step = jnp.asarray(x, first.dtype) * first + jnp.asarray(y, second.dtype) * second
            return (jnp.asarray(leaf, first.dtype) + step).astype(jnp.result_type(leaf))

        return self.model.combine(jax.tree.map(move, trained, *self.directions), rest)

    def coordinates(self, params: Pytree) -> Array:
        """The coordinates `[S, 2]` of the points of the plane nearest to stacked params (a leading axis S)."""
        origin = self.model.partition(self.origin)[0]
        check.same_structure(
            jax.tree.map(lambda a: a[0], self.model.partition(params)[0]), origin, "coordinates", "params", "origin"
        )
        return _nearest(origin, self.directions, self.model.partition(params)[0])


@jax.jit
def _nearest(origin: Pytree, directions: tuple[Pytree, Pytree], trained: Pytree) -> Array:
    """Coordinates `[S, 2]` of the points of a plane nearest to stacked params."""
    rows = flattened(trained) - flattened(stacked(origin))
    basis = jnp.concatenate([flattened(stacked(direction)) for direction in directions])
    return jnp.linalg.solve(basis @ basis.T, basis @ rows.T).T


def stacked(tree: Pytree) -> Pytree:
    """Arrays with a leading axis of length 1."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], tree)


def flattened(trees: Pytree) -> Array:
    """Stacked arrays as rows `[S, P]`, in float32 or wider."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(trees)]
    dtype = jnp.result_type(jnp.float32, *leaves)
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1).astype(dtype) for leaf in leaves], axis=1)


def unflattened(row: Array, like: Pytree) -> Pytree:
    """A row `[P]` with the structure and shapes of `like`, in the row's dtype."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([np.size(leaf) for leaf in leaves])[:-1].tolist()
    parts = jnp.split(row, ends)
    return jax.tree.unflatten(structure, [p.reshape(jnp.shape(v)) for p, v in zip(parts, leaves, strict=True)])


@public
def random_plane(objective: Callable[..., Any], params: Pytree, *, key: Array, normalization: str = "filter") -> Plane:
    """Lay a plane through params along two Gaussian directions, scaled as the weights they move.

    Filter normalisation: each filter of a direction (what makes one output of a layer) gets the norm of the weights'
    filter, d <- d / |d| * |w|, so that scaling a ReLU layer by c and the next by 1 / c, which changes no output,
    changes no picture. Which axes count filters is read from the traced model. Biases and scales of normalisations do
    not move (the source's code has that as its option `biasbn`).

    Args:
        objective: What the landscape is of: `mean_loss(apply, params, data)`, or any function `params -> scalar`.
        params: The centre of the picture.
        key: PRNG key; each direction and leaf draws from a key of its own.
        normalization: "filter", "layer" (by the norm of a whole weight) or "none" (independent normal numbers in every
            trained leaf).

    Returns:
        `Plane` with `plane(x, y) -> params`: at (1, 0) each filter moved by its own length. Cost: one trace.

    Raises:
        TypeError: Integer params, an objective that is no function.
        ValueError: NaN in the params, no weights, filters of norm zero, an objective that is no number of the params.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> w = jnp.array([[3.0, 0.0], [4.0, 1.0]])
        >>> plane = random_plane(lambda w: (jnp.ones(2) @ w).sum(), w, key=jax.random.key(0))
        >>> jnp.linalg.norm(plane(1.0, 0.0) - w, axis=0).round(4).tolist()
        [5.0, 1.0]

    Source: Li et al. 2018, "Visualizing the loss landscape of neural nets", section 4 (filter-wise normalization).
    """
    name = "random_plane"
    check.choice(normalization, NORMALIZATIONS, name, "normalization")
    check.threefry(key, name)
    objective, model = opened(objective, params, name)
    trained = model.partition(params)[0]
    axes = filter_axes(objective, model, params)
    check_norms(trained, axes, normalization, name)
    return Plane(model, params, random_directions(key, trained, axes, normalization))


@public
def principal_plane(objective: Callable[..., Any], path: Pytree) -> Plane:
    """Lay a plane through the end of a path, along the two principal components of its points.

    The plane that holds most of the path's variance. Directions are of length 1 (coordinates are distances between
    params), each with the sign that makes its largest coordinate along the path positive.

    Args:
        objective: As in `random_plane`; it says which of the params move.
        path: Params along training, stacked: a pytree with a leading axis S, at least 3, or what `fit(snapshots=)`
            returned as `.snapshots`.

    Returns:
        `Plane` with the last params as origin, the path's coordinates `[S, 2]`, and the shares of its variance. Cost:
        one singular value decomposition, O(S^2 P), and memory for three copies of the path.

    Raises:
        TypeError: Integer params.
        ValueError: Fewer than three points, points on one line, NaN.

    Example:
        >>> import jax.numpy as jnp
        >>> path = jnp.array([[4.0, 0.0, 7.0], [0.0, 1.0, 7.0], [0.0, 0.0, 7.0]])
        >>> plane = principal_plane(lambda w: (w**2).sum(), path)
        >>> float(plane.explained.sum().round(4)), plane(0.0, 0.0).tolist()
        (1.0, [0.0, 0.0, 7.0])

    Source: Li et al. 2018, "Visualizing the loss landscape of neural nets", section 7.2.
    """
    name = "principal_plane"
    path = path.params if isinstance(path, Snapshots) else path
    check.arrays(path, name, "path")
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(path)}
    if len(lengths) != 1 or lengths == {()}:
        raise ValueError(
            f"{name}: `path` has to be params stacked along one first axis, but its leaves have the lengths "
            f"{sorted(lengths)}. Stack them: jax.tree.map(lambda *a: jnp.stack(a), *steps)."
        )
    if (count := lengths.pop()[0]) < 3:
        raise ValueError(
            f"{name}: `path` has {count} point{'s' * (count != 1)}, and a plane takes at least 3. Keep more steps of "
            "training, or look along the line between two solutions: interpolation(objective, first, second)."
        )
    check.finite(path, name, "path")
    end = jax.tree.map(lambda leaf: leaf[-1], path)
    objective, model = opened(objective, end, name, "path")
    trained = moving(model, path, name, "path")
    directions, coordinates, explained, off_line = _principal(trained)
    if check.is_concrete(off_line) and not bool(off_line):
        raise ValueError(
            f"{name}: the points of `path` lie on one line (or are all the same), so that there is no second principal "
            "direction. Look along the line instead: interpolation(objective, first, second)."
        )
    return Plane(model, end, directions, coordinates, explained)


@jax.jit
def _principal(trained: Pytree) -> tuple[tuple[Pytree, Pytree], Array, Array, Array]:
    """Directions, coordinates from the last point `[S, 2]`, shares of variance `[2]`, and whether there are
    two directions: what is less than the rounding of the params along the path is none."""
    rows = flattened(trained)
    _, sizes, directions = jnp.linalg.svd(rows - jnp.mean(rows, axis=0, keepdims=True), full_matrices=False)
    # Of one param there is one component.
    sizes = jnp.concatenate([sizes, jnp.zeros(1, sizes.dtype)])
    directions = jnp.concatenate([directions, jnp.zeros_like(directions[:1])])[:2]
    coordinates = (rows - rows[-1:]) @ directions.T
    largest = jnp.take_along_axis(coordinates, jnp.argmax(jnp.abs(coordinates), axis=0)[None], axis=0)
    sign = jnp.where(largest < 0, -1, 1).astype(rows.dtype)
    eps = max(jnp.finfo(leaf.dtype).eps for leaf in jax.tree.leaves(trained))
    rounding = eps * len(rows) ** 0.5 * jnp.max(jnp.linalg.norm(rows, axis=1))
    explained = jnp.square(sizes[:2] / sizes[0]) / jnp.sum(jnp.square(sizes / sizes[0]))
    first, second = (unflattened(row, jax.tree.map(lambda leaf: leaf[0], trained)) for row in directions * sign.T)
    return (first, second), coordinates * sign, explained, sizes[1] > 2 * rounding


@public
def plane_through(objective: Callable[..., Any], first: Pytree, second: Pytree, third: Pytree) -> Plane:
    """Lay the plane through three solutions: origin at the first, one direction to the second, the other across.

    Args:
        objective: As in `random_plane`; it says which of the params move.
        first: Params of one solution, the origin.
        second: Params of another, on the first axis.
        third: Params of a third, such as the bend of `mode_connectivity`.

    Returns:
        `Plane` with directions of length 1 at a right angle, and the three points as its path. Cost: no model pass.

    Raises:
        TypeError: Integer params.
        ValueError: Params of another structure, on one line, or with NaN.

    Example:
        >>> import jax.numpy as jnp
        >>> corners = jnp.zeros(3), jnp.array([2.0, 0.0, 0.0]), jnp.array([1.0, 1.0, 0.0])
        >>> plane_through(lambda w: (w**2).sum(), *corners).path.tolist()
        [[0.0, 0.0], [2.0, 0.0], [1.0, 1.0]]

    Source: Garipov et al. 2018, "Loss surfaces, mode connectivity, and fast ensembling of DNNs", section 1, footnote.
    """
    name = "plane_through"
    _, model = opened(objective, first, name, "first")
    trained = moving(model, first, name, "first")
    for argument, other in (("second", second), ("third", third)):
        check.same_structure(moving(model, other, name, argument), trained, name, argument, "first")
        check.finite(other, name, argument)
    directions, path, off_line = _triangle(*(model.partition(params)[0] for params in (first, second, third)))
    if check.is_concrete(off_line) and not bool(off_line):
        raise ValueError(
            f"{name}: `first`, `second` and `third` lie on one line (or two of them are the same), so that no plane is "
            "determined. Look along the line instead: interpolation(objective, first, second)."
        )
    return Plane(model, first, directions, path)


@jax.jit
def _triangle(first: Pytree, second: Pytree, third: Pytree) -> tuple[tuple[Pytree, Pytree], Array, Array]:
    """Directions, the corners' coordinates `[3, 2]`, and whether the corners determine a plane."""
    corners = [flattened(stacked(tree))[0] for tree in (first, second, third)]
    along, across = corners[1] - corners[0], corners[2] - corners[0]
    length = jnp.linalg.norm(along)
    unit = along / length
    rest = across - (across @ unit) * unit
    height, zero = jnp.linalg.norm(rest), jnp.zeros_like(length)
    eps = max(jnp.finfo(jnp.result_type(leaf)).eps for leaf in jax.tree.leaves(first))
    least = 4 * eps * jnp.max(jnp.stack([jnp.linalg.norm(corner) for corner in corners]))
    path = jnp.stack([jnp.stack([zero, zero]), jnp.stack([length, zero]), jnp.stack([across @ unit, height])])
    off_line = (length > least) & (height > least)  # False of NaN, too
    return (unflattened(unit, first), unflattened(rest / height, first)), path, off_line
