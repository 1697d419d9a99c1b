"""Lanczos against `eigh` of whole matrices: largest distinct eigenvalues, their directions, bounds on their errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import train

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)


def network(params, x):
    return jnp.tanh(x @ params["w"] + params["b"][None]) @ params["v"]


def case():
    """A small network in double precision: objective, params and, by `jax.hessian` and by hand, both curvatures."""
    x, y = RNG.normal(size=(7, 3)), np.arange(7) % 3
    params = {"w": RNG.normal(size=(3, 4)), "b": np.ones(4) / 3, "v": RNG.normal(size=(4, 3))}
    objective = train.mean_loss(network, params, (x, y), batch_size=3)
    vector, unravel = jax.flatten_util.ravel_pytree(params)
    by_hand = lambda v: -jnp.mean(jax.nn.log_softmax(network(unravel(v), x))[jnp.arange(7), y])  # noqa: E731
    hessian = jax.jit(jax.hessian(by_hand))(vector)
    jacobian = jax.jit(jax.jacobian(lambda v: network(unravel(v), x)))(vector)
    p = np.asarray(jax.nn.softmax(jax.jit(network)(params, x)))
    middle = np.eye(3) * p[:, None] - p[:, :, None] * p[:, None]
    gauss_newton = np.einsum("nkp,nkl,nlq->pq", jacobian, middle, jacobian) / 7
    return objective, params, {"hessian": hessian, "gauss_newton": gauss_newton}


def test_the_largest_eigenvalues_of_a_network_are_those_of_eigh():
    with jax.enable_x64(True):
        objective, params, matrices = case()
        for kind, matrix in matrices.items():
            values, vectors = np.linalg.eigh(matrix)
            found = train.sharpness(objective, params, 4, key=KEY, curvature=kind)
            np.testing.assert_allclose(found.values, values[::-1][:4], rtol=1e-5, err_msg=kind)
            np.testing.assert_allclose(found.smallest, values[0], atol=1e-9)
            directions = np.concatenate([np.asarray(leaf).reshape(4, -1) for leaf in jax.tree.leaves(found.vectors)], 1)
            np.testing.assert_allclose(np.abs(np.diag(directions @ vectors[:, ::-1][:, :4])), 1, atol=1e-8)


def bowl(matrix, w):
    return 0.5 * w @ matrix @ w


def quadratic(spectrum):
    """A quadratic whose matrix is an argument of its program, so that another spectrum compiles nothing."""
    turn, _ = np.linalg.qr(RNG.normal(size=(len(spectrum), len(spectrum))))
    return jax.tree_util.Partial(bowl, jnp.asarray(turn * np.asarray(spectrum) @ turn.T))


def test_eigenvalues_are_the_distinct_ones():
    with jax.enable_x64(True):
        params = jnp.asarray(RNG.normal(size=6))
        for spectrum in (
            [5.0, 5.0, 5.0, 2.0, 2.0, -1.0],
            [1e6, 1e6, 1.0, 1.0, 1.0, 0.0],
            [-1.0, -2.0, -2.0, -2.0, -3.0, -3.0],
        ):
            found = train.sharpness(quadratic(spectrum), params, 3, key=KEY)
            np.testing.assert_allclose(found.values, sorted(set(spectrum), reverse=True), rtol=1e-5, atol=1e-9)
            np.testing.assert_allclose(found.smallest, min(spectrum), rtol=1e-5, atol=1e-9)
        for spectrum in ([3.0] * 6, [1e6, 1e6, 1e6, 1.0, 1.0, 1.0]):
            with pytest.raises(
                ValueError, match=f"`k` is 3, but the curvature has {len(set(spectrum))} distinct eigen"
            ):
                train.sharpness(quadratic(spectrum), params, 3, key=KEY)


def test_full_reorthogonalisation_holds_over_many_steps():
    with jax.enable_x64(True):
        spectrum = np.concatenate([np.geomspace(1e-6, 1, 70), [50.0, 100.0]])  # where without it copies appear
        found = train.sharpness(quadratic(spectrum), jnp.ones(72), 6, key=KEY, steps=72)
        np.testing.assert_allclose(found.values, np.sort(spectrum)[::-1][:6], rtol=1e-5)


def test_single_precision_and_one_program():
    spectrum = np.linspace(0.1, 9.0, 40)
    objective, params = quadratic(spectrum), jnp.ones(40)
    found = train.sharpness(objective, params, 2, key=KEY)
    np.testing.assert_allclose(found.values, spectrum[::-1][:2], rtol=1e-4)
    assert repr(found).startswith("Sharpness(9 +- ")
    few = jax.jit(lambda params: train.sharpness(objective, params, 2, key=KEY, steps=9))(params)
    assert int(few.steps) == 9
    for value, error in [*zip(few.values, few.error, strict=True), (few.smallest, few.smallest_error)]:
        assert 1e-5 < np.abs(spectrum - float(value)).min() <= float(error)
    straight = train.sharpness(lambda w: (jnp.arange(3.0) * w).sum(), jnp.ones(3), key=KEY)
    assert (float(straight.values[0]), int(straight.steps)) == (0.0, 1)


def test_bad_calls_are_told():
    objective = lambda w: (w**2).sum()  # noqa: E731
    for call, words in {
        lambda: train.sharpness(objective, jnp.ones(3), 4, key=KEY): "`k` is 4, but 3 steps over 3 params",
        lambda: train.sharpness(objective, jnp.ones(9), 4, key=KEY, steps=3): "Pass a smaller `k`, or more `steps`",
        lambda: train.sharpness(
            objective, jnp.ones(3), key=KEY, curvature="gauss_newton"
        ): "Gauss-Newton takes a model",
        lambda: train.sharpness(objective, jnp.ones(3, jnp.bfloat16), key=KEY): "curvature is lost in half precision",
        lambda: train.sharpness(objective, jnp.ones(3, int), key=KEY): "dtype int",
        lambda: train.sharpness(objective, jnp.array([1.0, jnp.inf]), key=KEY): "1 NaN or infinite values",
        lambda: train.sharpness(
            lambda w: jnp.sqrt(w).sum(), jnp.zeros(3), key=KEY
        ): "the curvature at `params` is not finite",
    }.items():
        with pytest.raises((ValueError, TypeError), match=words):
            call()


def test_the_error_is_the_residual_of_each_pair():
    with jax.enable_x64(True):
        turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(6, 6)))
        table = turn @ np.diag([9.0, 5.0, 2.0, 1.0, -1.0, -3.0]) @ turn.T
        found = train.sharpness(lambda w: w @ table @ w / 2, jnp.ones(6), 2, key=jax.random.key(0), steps=4)
        left = np.asarray(found.vectors) @ table - np.asarray(found.values)[:, None] * np.asarray(found.vectors)
        np.testing.assert_allclose(found.error, np.linalg.norm(left, axis=1), rtol=1e-8)
        assert (np.asarray(found.error) > 1e-3).all()  # four steps leave something to see


def test_gauss_newton_weighs_examples():
    """Of a linear model with a squared error it is the Hessian, 2 X' diag(w) X / N, whatever the blocks."""
    with jax.enable_x64(True):
        x = np.random.default_rng(6).normal(size=(5, 3))
        weights = np.array([0.0, 0.5, 2.0, 1.0, 3.0])
        apply = lambda w, x: x @ w  # noqa: E731
        objective = train.mean_loss(
            apply, jnp.zeros(3), (x, np.ones(5), weights), loss=train.squared_error, batch_size=2
        )
        wanted = np.linalg.eigvalsh(2 * (x.T * weights) @ x / 5)[::-1]
        found = train.sharpness(objective, jnp.zeros(3), 3, key=jax.random.key(0), curvature="gauss_newton")
        np.testing.assert_allclose(found.values, wanted, rtol=1e-10)
