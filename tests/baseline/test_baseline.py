"""Baselines: what is accepted, what comes out, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain.baseline import (
    as_baseline,
    blur,
    gaussian_noise,
    is_background,
    mean,
    replacement,
    resolve,
    sample,
    uniform_noise,
    zeros,
)

TREE = {"ids": jnp.array([3, 4]), "mask": jnp.array([True, False]), "values": jnp.ones((2, 3), jnp.bfloat16)}


def test_a_scalar_fills_floating_leaves_and_keeps_the_others():
    b = resolve(0.5, TREE, name="deletion")
    assert b["values"].dtype == jnp.bfloat16
    assert (b["values"] == 0.5).all()
    assert (b["ids"] == TREE["ids"]).all()
    assert b["ids"].dtype == TREE["ids"].dtype
    assert (b["mask"] == TREE["mask"]).all()


def test_a_lower_rank_array_is_broadcast():
    b = resolve(jnp.arange(3.0), jnp.zeros((2, 3)), name="deletion")
    np.testing.assert_array_equal(b, [[0, 1, 2], [0, 1, 2]])


def test_traced_values_and_vmap_over_baselines():
    x = jnp.zeros((2, 2))
    b = jax.jit(jax.vmap(lambda value: resolve(value, x, name="deletion")))(jnp.array([1.0, 2.0]))
    np.testing.assert_array_equal(b, np.broadcast_to(np.array([1.0, 2.0])[:, None, None], (2, 2, 2)))


def test_functions_of_x_and_of_key_and_x():
    x = jnp.arange(3.0)
    np.testing.assert_array_equal(resolve(lambda x: 2 * x, x, name="deletion"), [0, 2, 4])
    keyed = as_baseline(lambda key, x: x + jax.random.normal(key, x.shape))
    assert keyed.needs_key
    assert not getattr(as_baseline(jnp.zeros_like), "needs_key", False)
    with pytest.raises(ValueError, match="a key has to be passed before `x`"):
        resolve(keyed, x, name="deletion")
    assert resolve(keyed, x, jax.random.key(0), name="deletion").shape == (3,)
    with pytest.raises(TypeError, match="needs 3 arguments"):
        as_baseline(lambda a, b, c: a)


def test_bad_baselines_are_named():
    x = jnp.zeros((28, 28, 1))
    text = (
        r"integrated_gradients: `baseline` has shape \(3,\), which does not broadcast to `x` of shape \(28, 28, 1\). "
        "Pass a scalar, or an array of x's shape."
    )
    with pytest.raises(ValueError, match=text):
        resolve(jnp.zeros(3), x, name="integrated_gradients")
    with pytest.raises(ValueError, match="NaN or infinite"):
        resolve(jnp.nan, x, name="deletion")
    with pytest.raises(ValueError, match="structure"):
        resolve([0.0, 1.0], x, name="deletion")
    with pytest.raises(TypeError, match="str"):
        as_baseline("mean")
    with pytest.raises(TypeError, match="NoneType"):
        as_baseline(None)


@pytest.mark.parametrize("make", [lambda: uniform_noise(-1.0, 1.0), lambda: gaussian_noise(0.5)])
def test_noise_differs_by_leaf_and_key_and_repeats(make):
    x = {"a": jnp.zeros(4), "b": jnp.zeros(4)}
    one, again, other = (resolve(make(), x, jax.random.key(k), name="deletion") for k in (0, 0, 1))
    assert (one["a"] == again["a"]).all()
    assert (one["a"] != one["b"]).all()
    assert (one["a"] != other["a"]).all()


def test_noise_has_the_stated_moments():
    x = jnp.full((20_000,), 2.0)
    u = uniform_noise(-1.0, 3.0)(jax.random.key(0), x)
    np.testing.assert_allclose([u.mean(), u.std()], [1.0, 4 / np.sqrt(12)], atol=0.03)
    assert u.min() >= -1
    assert u.max() < 3
    g = gaussian_noise(0.5)(jax.random.key(0), x)
    np.testing.assert_allclose([g.mean(), g.std()], [2.0, 0.5], atol=0.02)


def test_mean_and_sample_of_data():
    data = {"ids": np.array([[1], [2]]), "values": np.array([[1.0, 2.0], [3.0, 6.0]], np.float32)}
    x = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), data)
    b = resolve(mean(data), x, name="deletion")
    np.testing.assert_array_equal(b["values"], [2, 4])
    assert b["ids"] == x["ids"]
    rows = jax.vmap(lambda k: replacement(sample(data), x, k, name="deletion").values)(
        jax.random.split(jax.random.key(0), 40)
    )
    whole = np.concatenate([rows["ids"], rows["values"]], axis=1).tolist()
    assert {tuple(row) for row in whole} == {(1, 1.0, 2.0), (2, 3.0, 6.0)}
    with pytest.raises(ValueError, match="empty"):
        mean(np.zeros((0, 2)))
    assert mean(np.array([[0], [255]], np.uint8))(None).tolist() == [127.5]


def test_blur_is_the_normalised_gaussian_and_keeps_constants():
    image = jax.random.normal(jax.random.key(0), (5, 6, 2))
    rows, columns = (np.exp(-0.5 * ((np.arange(n)[:, None] - np.arange(n)) / 1.3) ** 2) for n in (5, 6))
    rows, columns = rows / rows.sum(1, keepdims=True), columns / columns.sum(1, keepdims=True)
    np.testing.assert_allclose(blur(1.3)(image), np.einsum("ij,kl,jlc->ikc", rows, columns, image), atol=1e-5)
    np.testing.assert_allclose(blur(2.0)(jnp.ones((4, 4, 3), jnp.bfloat16)).astype(jnp.float32), 1.0, atol=1e-2)
    np.testing.assert_allclose(blur(1.3, axes=(0,))(image), np.einsum("ij,jlc->ilc", rows, image), atol=1e-5)
    with pytest.raises(ValueError, match="no axis 1"):
        blur(1.0)(jnp.ones(3))
    with pytest.raises(ValueError, match="sigma"):
        blur(0.0)


def test_backgrounds_have_one_more_axis():
    assert is_background(jnp.zeros((5, 3)), jnp.zeros(3))
    assert not is_background(jnp.zeros((3,)), jnp.zeros(3))
    assert not is_background(0.0, jnp.zeros(3))
    assert not is_background(zeros(), jnp.zeros(3))


def test_factories_are_pytrees_that_compile_once():
    traces = []

    @jax.jit
    def run(b, x):
        traces.append(1)
        return resolve(b, x, name="deletion")

    for value in (1.0, 2.0):
        assert (run(mean(jnp.full((2, 3), value)), jnp.zeros(3)) == value).all()
    assert len(traces) == 1
    assert len(jax.tree.leaves(sample(jnp.ones((2, 3))))) == 1


def test_bounds_are_checked():
    with pytest.raises(ValueError, match="below `high`"):
        uniform_noise(1.0, 1.0)
    with pytest.raises(ValueError, match="pass one number"):
        gaussian_noise(jnp.ones(3))
