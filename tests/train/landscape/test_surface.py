"""Surfaces of quadratic losses are the analytic ones, whatever the plane and however many points at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import train

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def regression():
    """Mean of (x w - y)^2 / 2 over seven examples: its objective, Hessian, minimum and least value."""
    x, y = RNG.normal(size=(7, 5)), RNG.normal(size=7)
    objective = train.mean_loss(
        lambda w, x: x @ w, np.zeros(5), (x, y), loss=lambda output, target: 0.5 * (output - target) ** 2, batch_size=3
    )
    hessian, minimum = x.T @ x / 7, np.linalg.lstsq(x, y)[0]
    return objective, hessian, minimum, 0.5 * np.mean((x @ minimum - y) ** 2)


def test_the_surface_of_a_quadratic_is_the_analytic_one():
    with jax.enable_x64(True):
        objective, hessian, minimum, least = regression()
        path = RNG.normal(size=(6, 5))
        planes = train.random_plane(objective, path[-1], key=KEY), train.principal_plane(objective, path)
        for plane in planes:
            surface = train.loss_surface(objective, plane, x=np.linspace(-1, 2, 4), y=[-0.5, 0.0, 3.0])
            first, second = (np.asarray(d) for d in plane.directions)
            for j, y in enumerate(surface.y):
                for i, x in enumerate(surface.x):
                    away = np.asarray(path[-1]) + x * first + y * second - minimum
                    np.testing.assert_allclose(surface.loss[j, i], least + 0.5 * away @ hessian @ away, rtol=1e-9)
        at_once = train.loss_surface(objective, plane, x=surface.x, y=surface.y, batch_size=5)
        np.testing.assert_allclose(at_once.loss, surface.loss, rtol=1e-12)


def test_the_default_grid_covers_the_path():
    path = jnp.array([[4.0, 0.0, 1.0], [0.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
    objective = lambda w: (w**2).sum()  # noqa: E731
    surface = train.loss_surface(objective, train.principal_plane(objective, path))
    assert surface.loss.shape == (25, 25)
    for places, along in ((surface.x, surface.path[:, 0]), (surface.y, surface.path[:, 1])):
        extent = along.max() - along.min()
        np.testing.assert_allclose(
            [places[0], places[-1]], [along.min() - extent / 4, along.max() + extent / 4], rtol=1e-5
        )
    plane = train.random_plane(lambda w: (jnp.ones(3) @ w) ** 2, jnp.ones(3), key=KEY)
    surface = train.loss_surface(lambda w: (jnp.ones(3) @ w) ** 2, plane)
    assert (surface.x[0], surface.x[12], surface.x[-1]) == (-1, 0, 1)
    np.testing.assert_allclose(surface.loss[12, 12], 9.0, rtol=1e-6)  # the centre is a point of the grid
    assert repr(surface).startswith("Surface(25 x 25, ")


def test_what_is_not_finite_stays_and_is_counted():
    objective = lambda w: jnp.log(w).sum()  # noqa: E731
    plane = train.plane_through(objective, jnp.array([1.0, 1.0]), jnp.array([2.0, 1.0]), jnp.array([1.0, 2.0]))
    surface = train.loss_surface(objective, plane, x=[-3.0, 0.0], y=[0.0, 1.0])
    assert np.isnan(np.asarray(surface.loss)).tolist() == [[True, False], [True, False]]
    assert repr(surface) == "Surface(2 x 2, 0 to 0.693, 2 not finite)"


def test_a_surface_is_traced_as_a_whole():
    objective = lambda w: (w**2).sum()  # noqa: E731
    path = jnp.array([[4.0, 0.0, 1.0], [0.0, 1.0, 2.0], [0.0, 0.0, 0.0]])
    product = lambda w: (jnp.arange(1.0, 4.0) @ w) ** 2  # noqa: E731

    def of(path):
        planes = train.principal_plane(objective, path), train.random_plane(product, path[0], key=KEY)
        return [train.loss_surface(product, plane).loss for plane in planes]

    for traced, found in zip(jax.jit(of)(path), of(path), strict=True):
        np.testing.assert_allclose(traced, found, rtol=1e-5, atol=1e-4)


def test_bad_grids_are_refused():
    objective = lambda w: (w**2).sum()  # noqa: E731
    plane = train.plane_through(objective, jnp.zeros(2), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]))
    for bad, words in {
        "falls": ({"x": [1.0, 0.0]}, "`x` has to hold at least two rising coordinates"),
        "one": ({"y": [1.0]}, "`y` has to hold at least two rising"),
        "NaN": ({"y": [0.0, np.nan]}, "`y` has 1 NaN"),
        "a table": ({"x": [[0.0, 1.0]]}, "`x` has to hold"),
        "size": ({"batch_size": 0}, "`batch_size` has to be at least 1"),
    }.values():
        with pytest.raises(ValueError, match=words):
            train.loss_surface(objective, plane, **bad)
    with pytest.raises(TypeError, match="`plane` has to be a Plane"):
        train.loss_surface(objective, jnp.ones(2))
