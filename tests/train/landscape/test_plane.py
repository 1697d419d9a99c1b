"""Planes: principal components of paths that are known, coordinates of params, planes through points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import train

RNG = np.random.default_rng(0)


def square(params):
    return sum((leaf**2).sum() for leaf in jax.tree.leaves(params))


def tree(row):
    """A vector of seven as params."""
    return {"a": row[..., :4].reshape(*row.shape[:-1], 2, 2), "b": row[..., 4:]}


def vector(params):
    return np.concatenate([np.asarray(params["a"]).reshape(-1), np.asarray(params["b"])])


def test_the_principal_plane_is_the_analytic_one():
    """Of gradient descent on a quadratic, w_t = (1 - rate * h)^t w_0 along each axis, and of a path in a plane."""
    with jax.enable_x64(True):
        rates = 1 - 0.3 * np.array([0.1, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
        turn, _ = np.linalg.qr(RNG.normal(size=(7, 7)))
        path = (rates[None] ** np.arange(12)[:, None] * RNG.normal(size=7)) @ turn
        plane = train.principal_plane(square, tree(jnp.asarray(path)))
        middle = path - path.mean(0)
        values, vectors = np.linalg.eigh(middle.T @ middle)
        for found, wanted in zip(plane.directions, vectors.T[::-1], strict=False):
            assert abs(abs(vector(found) @ wanted) - 1) < 1e-10
        np.testing.assert_allclose(plane.explained, values[::-1][:2] / values.sum(), rtol=1e-8)
        directions = np.stack([vector(d) for d in plane.directions])
        np.testing.assert_allclose(plane.path, (path - path[-1]) @ directions.T, atol=1e-12)
        assert (np.take_along_axis(np.asarray(plane.path), np.abs(plane.path).argmax(0)[None], 0) > 0).all()
        jax.tree.map(np.testing.assert_array_equal, plane.origin, tree(path[-1]))
        np.testing.assert_allclose(plane.coordinates(tree(jnp.asarray(path))), plane.path, atol=1e-12)

        within = np.array([[3.0, 0.0], [1.0, 1.0], [0.0, -0.5], [0.0, 0.0]]) @ turn[:2] + turn[3]
        plane = train.principal_plane(square, tree(jnp.asarray(within)))
        np.testing.assert_allclose(plane.explained.sum(), 1.0)
        for row, place in zip(within, plane.path, strict=True):  # the plane holds the path
            np.testing.assert_allclose(vector(plane(*place)), row, atol=1e-12)


def test_coordinates_on_a_plane_whose_axes_are_not_at_right_angles():
    params = tree(RNG.normal(size=7).astype(np.float32))
    plane = train.random_plane(square, params, key=jax.random.key(1), normalization="none")
    places = jnp.array([[0.0, 0.0], [1.0, 0.0], [-0.5, 2.0]])
    points = jax.jit(jax.vmap(lambda place: plane(place[0], place[1])))(places)
    np.testing.assert_allclose(plane.coordinates(points), places, atol=1e-4)
    with pytest.raises(ValueError, match="coordinates: `params"):
        plane.coordinates({"a": points["a"][:, 0], "b": points["b"]})


def test_the_plane_through_three_solutions_holds_them():
    corners = [tree(RNG.normal(size=7).astype(np.float32)) for _ in range(3)]
    plane = train.plane_through(square, *corners)
    for corner, place in zip(corners, plane.path, strict=True):
        np.testing.assert_allclose(vector(plane(*place)), vector(corner), atol=1e-5)
    rows = np.stack([vector(d) for d in plane.directions])
    np.testing.assert_allclose(rows @ rows.T, np.eye(2), atol=1e-6)


def test_what_is_not_trained_stays():
    import flax.linen as nn

    class Normed(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.Dense(2)(nn.BatchNorm(use_running_average=not train)(x))

    module, data = Normed(), (np.ones((4, 3), np.float32), np.array([0, 1, 0, 1]))
    shapes = jax.eval_shape(module.init, jax.random.key(0), data[0])
    variables = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), shapes)
    objective = train.mean_loss(module.apply, variables, data)
    plane = train.random_plane(objective, variables, key=jax.random.key(0))
    moved = plane(1.0, -1.0)
    jax.tree.map(np.testing.assert_array_equal, moved["batch_stats"], variables["batch_stats"])
    assert (
        np.abs(np.asarray(moved["params"]["Dense_0"]["kernel"] - variables["params"]["Dense_0"]["kernel"])).max() > 0.01
    )


REFUSED = {
    "one point": (lambda p: train.principal_plane(square, jnp.ones((1, 3))), "`path` has 1 point, and a plane"),
    "two points": (lambda p: train.principal_plane(square, jnp.eye(2)), "`path` has 2 points"),
    "not stacked": (lambda p: train.principal_plane(square, {"a": jnp.ones(3), "b": jnp.ones(2)}), "stacked along one"),
    "collections": (
        lambda p: train.random_plane(square, {"params": {"w": jnp.ones(2)}, "batch_stats": jnp.ones(2)}, key=p),
        r"holds the collections \['batch_stats', 'params'\], and `objective` is a plain",
    ),
    "numbers": (lambda p: train.principal_plane(square, 3.0), "stacked along one"),
    "a line": (
        lambda p: train.principal_plane(square, jnp.linspace(0, 1, 5)[:, None] * jnp.array([[0.1, 0.7, 3.0]])),
        "lie on one line",
    ),
    "one place": (lambda p: train.principal_plane(square, jnp.ones((4, 3))), "lie on one line"),
    "one param": (lambda p: train.principal_plane(square, jnp.arange(4.0)[:, None]), "lie on one line"),
    "integers in a path": (lambda p: train.principal_plane(square, jnp.ones((4, 3), int)), "dtype int"),
    "NaN in a path": (lambda p: train.principal_plane(square, np.float32([[1], [np.nan], [3]])), "`path` has 1 NaN"),
    "integers": (lambda p: train.random_plane(square, {"w": jnp.ones(3, int)}, key=p), r"\['w'\] has dtype int"),
    "some integers": (lambda p: train.random_plane(square, {"w": 1, "v": 1.0}, key=p), r"\['w'\] has dtype int"),
    "NaN": (lambda p: train.random_plane(square, jnp.array([1.0, jnp.nan]), key=p), "1 NaN or infinite values"),
    "nothing": (lambda p: train.random_plane(square, {}, key=p), "`params` holds no arrays"),
    "a filter of norm zero": (
        lambda p: train.random_plane(
            lambda w: (jnp.ones((2, 4)) @ w["w"]).sum(), {"w": np.float32([[1, 0, 1]] * 4)}, key=p
        ),
        r"`params\['w'\]` cannot scale a direction: 1 of its 3 filters are zero. Pass normalization='layer'",
    ),
    "a layer of norm zero": (
        lambda p: train.random_plane(lambda w: (jnp.ones(4) @ w) ** 2, jnp.zeros(4), key=p, normalization="layer"),
        "it is zero",
    ),
    "no weights": (lambda p: train.random_plane(square, jnp.ones(3), key=p), "none of the params is a weight"),
    "a word": (lambda p: train.random_plane(square, jnp.ones(3), key=p, normalization="unit"), "`normalization` is"),
    "flat": (lambda p: train.random_plane(lambda w: jnp.ones(()), jnp.ones(3), key=p), "does not depend on the params"),
    "several numbers": (lambda p: train.random_plane(lambda w: w, jnp.ones(3), key=p), r"the shapes \[\(3,\)\]"),
    "a whole number": (
        lambda p: train.random_plane(lambda w: (w > 0).sum(), jnp.ones(3), key=p), "a number of dtype int"
    ),
    "no function": (lambda p: train.random_plane(jnp.ones(3), jnp.ones(3), key=p), "`objective` has to be a function"),
    "three on a line": (lambda p: train.plane_through(square, *(k * jnp.ones(3) for k in (1.0, 2.0, 4.0))), "one line"),
    "two alike": (lambda p: train.plane_through(square, jnp.ones(3), jnp.ones(3), jnp.arange(3.0)), "one line"),
    "another structure": (lambda p: train.plane_through(square, jnp.ones(3), jnp.ones(2), jnp.ones(3)), "`second` has"),
}  # fmt: skip


def test_bad_planes_are_refused():
    for call, words in REFUSED.values():
        with pytest.raises((ValueError, TypeError), match=words):
            call(jax.random.key(0))


def test_a_path_may_be_the_snapshots_of_a_run():
    rows = jnp.asarray(RNG.normal(size=(4, 7)).astype(np.float32))
    one, two = (train.principal_plane(square, path) for path in (tree(rows), train.Snapshots(np.arange(4), tree(rows))))
    jax.tree.map(np.testing.assert_array_equal, (one.path, one.origin), (two.path, two.origin))
