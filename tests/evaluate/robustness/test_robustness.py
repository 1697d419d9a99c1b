"""Max sensitivity: closed forms, a slow reference after the paper, transformations, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.evaluate.comparison.control import random_attribution
from jaxplain.evaluate.robustness.sensitivity import max_sensitivity, perturb
from jaxplain.program.function import Function

KEY = jax.random.key(5)
X = jnp.array([0.5, -1.0, 2.0])


def gradient_of_cubes(x):
    return 3 * x**2


def test_the_gradient_of_a_linear_model_never_changes():
    e = jax.grad(lambda x: jnp.array([1.0, -2.0, 0.5]) @ x)
    assert float(max_sensitivity(e, radius=0.3)(KEY, X)) == 0.0


@pytest.mark.parametrize("norm", ["l2", "l1", "linf"])
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.sampled(2)
def test_equals_the_definition_over_the_same_draws(norm, relative):
    order = {"l2": 2, "l1": 1, "linf": np.inf}[norm]
    draws = jax.random.fold_in(KEY, 1)
    centre = np.asarray(gradient_of_cubes(np.asarray(X)))
    changes = []
    for s in range(7):
        moved = np.asarray(perturb(jax.random.fold_in(draws, s), X, 0.2))
        assert (np.abs(moved - np.asarray(X)) <= 0.2 + 1e-6).all()
        changes.append(np.linalg.norm(gradient_of_cubes(moved) - centre, order))
    expected = max(changes) / (np.linalg.norm(centre, order) if relative else 1.0)
    for batch_size in (1, 3, 50):
        m = max_sensitivity(
            gradient_of_cubes, radius=0.2, samples=7, norm=norm, relative=relative, batch_size=batch_size
        )
        np.testing.assert_allclose(m(KEY, X), expected, rtol=1e-5)


def test_approaches_the_known_supremum():
    # e(x) = c x: the farthest corner of the cube is radius * sqrt(n) * c away.
    m = max_sensitivity(lambda x: 5 * x, radius=0.1, samples=3000, batch_size=500, relative=False)
    supremum = 0.1 * np.sqrt(3) * 5
    assert 0.93 * supremum < float(m(KEY, X)) <= supremum * (1 + 1e-5)
    one = max_sensitivity(lambda x: 5 * x, radius=0.1, samples=3000, batch_size=500, norm="linf", relative=False)
    np.testing.assert_allclose(one(KEY, X), 0.5, rtol=0.01)


def test_scale_of_the_explanation_does_not_matter():
    values = [
        float(max_sensitivity(lambda x, c=c: c * gradient_of_cubes(x), radius=0.2)(KEY, X)) for c in (1.0, 1e-30, 1e30)
    ]
    np.testing.assert_allclose(values, values[0], rtol=1e-4)


class Noise(Function):
    """A random explanation that does not look at its input."""

    @property
    def needs_key(self):
        return True

    def __call__(self, key, x):
        return jax.random.normal(key, x.shape)


def test_a_random_explanation_keeps_its_key_so_that_only_the_input_changes():
    assert float(max_sensitivity(Noise(), radius=0.1)(KEY, X)) < 1e-6


def test_the_random_control_is_unstable():
    x = jax.random.normal(jax.random.key(0), (100,))
    value = float(max_sensitivity(random_attribution(), radius=1e-3, samples=20)(KEY, x))
    assert 1.2 < value < 2.0  # |z' - z| / |z| is about the square root of 2


def test_only_floating_leaves_are_perturbed():
    x = {"ids": jnp.array([1, 2]), "mask": jnp.array([True, False]), "values": jnp.array([1.0, 2.0])}

    def e(x):
        return {"ids": x["ids"].astype(float), "mask": x["mask"].astype(float), "values": jnp.ones(2)}

    assert float(max_sensitivity(e, radius=0.5)(KEY, x)) == 0.0
    assert float(max_sensitivity(lambda x: {**e(x), "values": x["values"]}, radius=0.5)(KEY, x)) > 0.0


def test_undefined_is_not_a_number():
    assert np.isnan(max_sensitivity(jnp.zeros_like, radius=0.1)(KEY, X))
    assert float(max_sensitivity(jnp.zeros_like, radius=0.1, relative=False)(KEY, X)) == 0.0
    assert np.isnan(max_sensitivity(lambda x: jnp.where(x > 0.5, jnp.nan, x), radius=0.1)(KEY, X - 1.45))
    assert np.isnan(max_sensitivity(lambda x: x * jnp.nan, radius=0.1)(KEY, X))


@pytest.mark.slow
def test_vmap_equals_a_loop_jit_equals_eager_and_arguments_are_passed_on():
    x = jax.random.normal(jax.random.key(0), (4, 3))
    keys = jax.random.split(jax.random.key(1), 4)
    labels = jnp.arange(4)
    m = max_sensitivity(lambda x, k: jnp.tanh(x) * (x + k), radius=0.1, samples=5, batch_size=2)
    loop = [float(m(*row)) for row in zip(keys, x, labels, strict=True)]
    np.testing.assert_allclose(jax.vmap(m)(keys, x, labels), loop, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(m)(keys[0], x[0], labels[0]), loop[0], rtol=1e-5)
    assert float(jax.vmap(m)(keys, x.at[1:].set(0.0), labels)[0]) == pytest.approx(loop[0], rel=1e-5)


@pytest.mark.slow
def test_bfloat16_and_traced_radius():
    m = max_sensitivity(gradient_of_cubes, radius=0.2)
    value = m(KEY, X.astype(jnp.bfloat16))
    assert value.dtype == jnp.float32
    assert np.isfinite(value)
    np.testing.assert_allclose(value, m(KEY, X), rtol=0.05)
    radii = jax.vmap(lambda r: max_sensitivity(gradient_of_cubes, radius=r)(KEY, X))(jnp.array([0.1, 0.2]))
    np.testing.assert_allclose(radii[1], m(KEY, X), rtol=1e-5)
    assert radii[0] < radii[1]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: max_sensitivity(jnp.sin, radius=0.0), ValueError, "`radius` has to be finite and positive"),
        (lambda: max_sensitivity(jnp.sin, radius=jnp.ones(3)), TypeError, "`radius` has to be a number"),
        (lambda: max_sensitivity(jnp.sin, radius=0.1, samples=0), ValueError, "`samples` has to be at least 1"),
        (lambda: max_sensitivity(jnp.sin, radius=0.1, norm="l3"), ValueError, "'l3'"),
        (lambda: max_sensitivity(None, radius=0.1), TypeError, "`e` has to be a function"),
        (lambda: max_sensitivity(jnp.sin, radius=0.1)(KEY, X * jnp.nan), ValueError, "NaN"),
        (lambda: max_sensitivity(jnp.sin, radius=0.1)(KEY, jnp.arange(3)), TypeError, "int32"),
    ],
)
def test_bad_input_is_named(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_average_and_lipschitz_equal_the_definition_over_the_same_draws():
    draws, centre = jax.random.fold_in(KEY, 1), np.asarray(gradient_of_cubes(np.asarray(X)))
    moved = [np.asarray(perturb(jax.random.fold_in(draws, s), X, 0.2)) for s in range(7)]
    changes = np.array([np.linalg.norm(gradient_of_cubes(m) - centre) for m in moved])
    steps = np.array([np.linalg.norm(m - np.asarray(X)) for m in moved])
    average = jaxplain.evaluate.average_sensitivity(gradient_of_cubes, radius=0.2, samples=7, batch_size=3)
    np.testing.assert_allclose(average(KEY, X), changes.mean() / np.linalg.norm(centre), rtol=1e-5)
    lipschitz = jaxplain.evaluate.local_lipschitz_estimate(gradient_of_cubes, radius=0.2, samples=7)
    np.testing.assert_allclose(lipschitz(KEY, X), (changes / steps).max(), rtol=1e-4)


def test_relative_stabilities_equal_the_definition_and_keep_to_the_class():
    def outputs(x):
        return jnp.array([x[0], 0.55, 0.0]) ** 2

    draws, centre = jax.random.fold_in(KEY, 1), np.asarray(gradient_of_cubes(np.asarray(X)))
    expected = {"input": [], "output": [], "representation": []}
    for s in range(20):
        moved = np.asarray(perturb(jax.random.fold_in(draws, s), X, 0.2))
        if np.argmax(outputs(moved)) != np.argmax(outputs(np.asarray(X))):
            continue
        change = np.linalg.norm((gradient_of_cubes(moved) - centre) / centre)
        inner = (np.exp(moved) - np.exp(np.asarray(X))) / np.exp(np.asarray(X))
        expected["input"].append(change / np.linalg.norm((moved - np.asarray(X)) / np.asarray(X)))
        expected["output"].append(change / np.linalg.norm(outputs(moved) - outputs(X)))
        expected["representation"].append(change / np.linalg.norm(inner))
    assert 0 < len(expected["input"]) < 20
    settings = {"radius": 0.2, "samples": 20, "batch_size": 6, "floor": 1e-9}
    found = {
        "input": jaxplain.evaluate.relative_input_stability(gradient_of_cubes, outputs, **settings),
        "output": jaxplain.evaluate.relative_output_stability(gradient_of_cubes, outputs, **settings),
        "representation": jaxplain.evaluate.relative_representation_stability(
            gradient_of_cubes, jnp.exp, outputs, **settings
        ),
    }
    for kind, m in found.items():
        np.testing.assert_allclose(m(KEY, X), max(expected[kind]), rtol=1e-3)


def test_relative_stability_without_neighbours_of_the_class_is_undefined():
    def never(x):
        return jnp.where(jnp.all(x == X), jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]))

    assert np.isnan(jaxplain.evaluate.relative_input_stability(jnp.sin, never, radius=0.1)(KEY, X))
    zero = jaxplain.evaluate.relative_input_stability(jnp.ones_like, radius=0.1)
    assert float(zero(KEY, X)) == 0.0


@pytest.mark.slow
def test_continuity_by_hand():
    x = jnp.array([[0.0, 1.0, 0.0, 0.0]])
    m = jaxplain.evaluate.continuity(lambda x: 3 * x, steps=1)
    # Shifts -1, 0, 1: two pixels change by one each, by three in the explanation.
    np.testing.assert_allclose(m(x), 6 / np.sqrt(2), rtol=1e-6)
    assert np.isnan(m(jnp.zeros((1, 4))))
    with pytest.raises(ValueError, match="axis 1"):
        m(jnp.zeros(4))
    words = jaxplain.evaluate.continuity(lambda x: x, steps=2, axis=0)
    np.testing.assert_allclose(words(x.T), 2 / np.sqrt(2), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: jaxplain.evaluate.average_sensitivity(None, radius=0.1), TypeError, "average_sensitivity: `e`"),
        (lambda: jaxplain.evaluate.local_lipschitz_estimate(jnp.sin, radius=0.1)(X), TypeError, "needs a key"),
        (lambda: jaxplain.evaluate.relative_output_stability(jnp.sin, None, radius=0.1), TypeError, "`outputs`"),
        (lambda: jaxplain.evaluate.relative_input_stability(jnp.sin, radius=0.1, floor=0.0), ValueError, "`floor`"),
        (lambda: jaxplain.evaluate.continuity(None), TypeError, "`e` has to be a function"),
    ],
)
def test_bad_input_of_the_others_is_named(call, error, text):
    with pytest.raises(error, match=text):
        call()
