"""Integrated and expected gradients: a slow reference, closed forms, captum's numbers, tolerances and errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.program.integration import RULES, quadrature

FIRST, SECOND = np.sin(np.arange(12.0)).reshape(4, 3), np.cos(np.arange(3.0))
X, BASELINE = np.array([0.5, -1.0, 2.0, 0.25]), np.array([0.1, 0.2, -0.3, 0.4])

CAPTUM = {  # captum 0.9.0, 8 steps; tests/peers/captum_path.py
    "gauss_legendre": [0.027914988, -0.110340816, -0.579251405, -0.061005817],
    "left": [0.03142842, -0.105033054, -0.579310832, -0.061676961],
    "right": [0.024527074, -0.114267243, -0.574671574, -0.059923622],
    "midpoint": [0.027885197, -0.110682211, -0.58037569, -0.061108321],
}


def network(x):
    return jnp.tanh(x @ jnp.asarray(FIRST, x.dtype)) @ jnp.asarray(SECOND, x.dtype)


def slow_gradient(x):
    return FIRST @ (SECOND * (1 - np.tanh(x @ FIRST) ** 2))


def slow(x, baseline, rule, steps):
    """Equation 1 of Sundararajan et al., as a loop in float64."""
    total = np.zeros_like(x)
    for node, weight in zip(*quadrature(rule, steps), strict=True):
        total += weight * slow_gradient(baseline + node * (x - baseline))
    return (x - baseline) * total


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_equals_the_slow_reference(rule):
    e = jaxplain.integrated_gradients(network, baseline=BASELINE, steps=8, rule=rule, batch_size=3)
    np.testing.assert_allclose(e(jnp.asarray(X)), slow(X, BASELINE, rule, 8), atol=1e-6)
    if rule in CAPTUM:
        np.testing.assert_allclose(e(jnp.asarray(X)), CAPTUM[rule], atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("steps", [2, 5, 64])
def test_weights_sum_to_one(rule, steps):
    nodes, weights = quadrature(rule, steps)
    np.testing.assert_allclose(weights.sum(), 1.0, rtol=1e-14)  # captum's trapezoid rule sums to 1 - 1 / steps
    assert (weights > 0).all()
    assert 0 <= nodes[0] < nodes[-1] <= 1


def test_gauss_legendre_is_exact_for_polynomials_and_numpy_agrees():
    nodes, weights = quadrature("gauss_legendre", 5)
    for degree in range(10):
        np.testing.assert_allclose((weights * nodes**degree).sum(), 1 / (degree + 1), rtol=1e-13)
    for steps in (1, 7, 300):
        expected, sizes = np.polynomial.legendre.leggauss(steps)
        nodes, weights = quadrature("gauss_legendre", steps)
        np.testing.assert_allclose(nodes, (expected + 1) / 2, atol=1e-14)
        np.testing.assert_allclose(weights, sizes / 2, rtol=1e-10)


@pytest.mark.slow
def test_closed_forms():
    x = jnp.array([1.0, -2.0, 3.0])
    w = jnp.array([2.0, 0.5, -1.0])
    linear = jaxplain.integrated_gradients(lambda x: x @ w + 7.0, baseline=1.0, steps=1)
    np.testing.assert_allclose(linear(x), (x - 1) * w, rtol=1e-6)
    product = jaxplain.integrated_gradients(lambda x: x[0] * x[1] * x[2], steps=2)  # each gets a third
    np.testing.assert_allclose(product(x), np.full(3, -2.0), rtol=1e-6)
    bend = jaxplain.integrated_gradients(lambda x: jax.nn.relu(x[0] - x[2] + 1.0), steps=2000, batch_size=500)
    np.testing.assert_allclose(bend(x), [0.5, 0.0, -1.5], atol=2e-3)  # relu is 1 for half of the way


@pytest.mark.slow
def test_a_smooth_network_is_complete_to_1e_5_with_32_steps():
    params = [0.5 * jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(6, 32), (32, 32), (32,)])]

    def gelu(x):
        return jax.nn.gelu(jax.nn.gelu(x @ params[0]) @ params[1]) @ params[2]

    x = jax.random.normal(jax.random.key(9), (40, 6))
    found = jaxplain.explain_batch(jaxplain.integrated_gradients_with_gap(gelu, steps=32), x)
    change = jax.vmap(gelu)(x) - gelu(jnp.zeros(6))
    assert float(jnp.median(jnp.abs(found.gap / change))) < 1e-5
    assert found.steps.tolist() == [32] * 40


def test_baselines_of_every_kind_mean_the_same():
    x = jnp.asarray(X, jnp.float32)
    expected = slow(X, np.full(4, 0.5), "gauss_legendre", 8)
    kinds = (0.5, jnp.full(4, 0.5), np.full((1,), 0.5), lambda x: jnp.full_like(x, 0.5))
    for baseline in kinds[:2] + kinds[3:]:
        e = jaxplain.integrated_gradients(network, baseline=baseline, steps=8)
        np.testing.assert_allclose(e(x), expected, atol=1e-6)
    keyed = jaxplain.integrated_gradients(network, baseline=lambda key, x: jnp.full_like(x, 0.5), steps=8)
    assert keyed.needs_key
    np.testing.assert_allclose(keyed(jax.random.key(0), x), expected, atol=1e-6)
    many = jnp.stack([jnp.full(4, 0.5), jnp.asarray(BASELINE, jnp.float32)])
    found = jax.vmap(lambda b: jaxplain.integrated_gradients(network, baseline=b, steps=8)(x))(many)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)
    np.testing.assert_allclose(found[1], slow(X, BASELINE, "gauss_legendre", 8), atol=1e-6)


def relu_network(key, width=64):
    keys = jax.random.split(key, 3)
    first, second = jax.random.normal(keys[0], (6, width)), jax.random.normal(keys[1], (width, width)) / 8
    last, bias = jax.random.normal(keys[2], (width,)), 0.5 * jnp.sin(jnp.arange(width))
    return lambda x: jax.nn.relu(jax.nn.relu(x @ first + bias) @ second - bias) @ last


@pytest.mark.slow
def test_a_tolerance_is_reached_or_said_not_to_be():
    f, x = relu_network(jax.random.key(3)), jax.random.normal(jax.random.key(4), (30, 6))
    e = jaxplain.integrated_gradients_with_gap(f, steps=8, tolerance=1e-3, max_steps=2048)
    found = jaxplain.explain_batch(e, x)
    change = jax.vmap(f)(x) - f(jnp.zeros(6))
    gap = np.abs(np.asarray(found.attribution).sum(1) - np.asarray(change))
    np.testing.assert_allclose(np.abs(found.gap), gap, atol=1e-4)
    assert (gap[found.reached] <= 1e-3 * (np.abs(change) + 1e-3)[found.reached] + 1e-5).all()
    assert found.reached.mean() > 0.9
    assert (gap[~found.reached] > 1e-3 * (np.abs(change) + 1e-3)[~found.reached] - 1e-5).all()
    assert found.steps.min() < found.steps.max()
    reference = jaxplain.explain_batch(jaxplain.integrated_gradients(f, steps=4096, batch_size=512), x)
    fixed = jaxplain.explain_batch(jaxplain.integrated_gradients(f, steps=int(found.steps.mean())), x)
    # The tolerance is relative to each example's change of score, and so is the error that it keeps small.
    error = [float((jnp.abs(a - reference).sum(1) / jnp.abs(change)).mean()) for a in (found.attribution, fixed)]
    assert error[0] <= error[1]  # no worse than a fixed number of as many gradients
    poor = jaxplain.explain_batch(jaxplain.integrated_gradients_with_gap(f, steps=8, tolerance=1e-7, max_steps=16), x)
    assert not poor.reached.all()
    assert (poor.steps <= 16).all()


@pytest.mark.slow
def test_a_plain_call_climbs_to_the_tolerance():
    f, x = relu_network(jax.random.key(3)), jax.random.normal(jax.random.key(4), (6,))
    result = jaxplain.integrated_gradients_with_gap(f, steps=8, tolerance=1e-3, max_steps=2048, batch_size=64)(x)
    assert bool(result.reached)
    assert int(result.steps) in (8, 40, 168, 680, 2728)  # 8, then 4 times as many each time
    same = jaxplain.integrated_gradients(f, steps=8, tolerance=1e-3, max_steps=2048, batch_size=64)(x)
    np.testing.assert_array_equal(same, result.attribution)


def test_the_gap_is_not_hidden():
    e = jaxplain.integrated_gradients_with_gap(lambda x: jnp.exp(3 * x).sum(), steps=2)
    x = jnp.array([1.0, 0.5])
    result = e(x)
    exact = float(jnp.exp(3 * x).sum() - 2)
    np.testing.assert_allclose(float(result.gap), float(result.attribution.sum()) - exact, rtol=1e-4)
    assert abs(float(result.gap)) > 0.01
    assert not bool(result.reached)


@pytest.mark.slow
def test_half_precision_sums_are_wide():
    f = relu_network(jax.random.key(3))

    def half(x):
        return f(x.astype(jnp.bfloat16)).astype(jnp.bfloat16) * 1.0

    x = jnp.linspace(0.5, 1.0, 6).astype(jnp.bfloat16)
    nodes, weights = quadrature("gauss_legendre", 256)
    gradients = [jax.grad(lambda v: half(v).astype(jnp.float32))((x * n).astype(jnp.bfloat16)) for n in nodes]
    exact = np.asarray(x, np.float64) * (weights[:, None] * np.asarray(gradients, np.float64)).sum(0)
    found = jaxplain.integrated_gradients(half, steps=256)(x)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(found, np.float64), exact, rtol=0.01, atol=0.01 * np.abs(exact).max())


@pytest.mark.slow
def test_expected_gradients_average_over_backgrounds():
    background = jnp.array([[0.0, 0.0], [1.0, 2.0], [2.0, 1.0]])
    w, x = jnp.array([3.0, -1.0]), jnp.array([1.0, 1.0])
    e = jaxplain.expected_gradients(lambda x: x @ w, background, samples=3000, batch_size=500)
    found = e(jax.random.key(0), x)
    np.testing.assert_allclose(found, (x - background.mean(0)) * w, atol=0.15)
    square = jaxplain.expected_gradients(lambda x: (x**2).sum(), background[:1], samples=2000, batch_size=500)
    np.testing.assert_allclose(square(jax.random.key(1), x), [1.0, 1.0], atol=1e-5)  # stratified points of the path


def test_expected_gradients_equal_a_loop_over_their_draws():
    background, x, key = jnp.asarray(np.stack([X, BASELINE]), jnp.float32), jnp.ones(4), jax.random.key(5)
    found = jaxplain.expected_gradients(network, background, samples=6, batch_size=4)(key, x)
    total = np.zeros(4)
    for index in range(6):
        draw = jax.random.fold_in(key, index)
        row = int(jax.random.randint(jax.random.fold_in(draw, 0), (), 0, 2))
        alpha = (index + float(jax.random.uniform(jax.random.fold_in(draw, 1)))) / 6
        start = np.asarray(background[row], np.float64)
        total += (1 - start) * slow_gradient(start + alpha * (1 - start)) / 6
    np.testing.assert_allclose(found, total, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"steps": 0}, ValueError, "`steps` has to be at least 1"),
        ({"steps": 1, "rule": "trapezoid"}, ValueError, "at least 2"),
        ({"steps": 2.5}, TypeError, "whole number"),
        ({"rule": "simpson"}, ValueError, "gauss_legendre"),
        ({"tolerance": 0.0}, ValueError, "positive"),
        ({"tolerance": 0.1, "steps": 64, "max_steps": 32}, ValueError, "max_steps"),
        ({"batch_size": 0}, ValueError, "batch_size"),
        ({"floor": -1.0}, ValueError, "floor"),
    ],
)
def test_settings_out_of_range_are_said_when_the_method_is_made(settings, error, text):
    for make in (jaxplain.integrated_gradients, jaxplain.integrated_gradients_with_gap):
        with pytest.raises(error, match=text) as caught:
            make(network, **settings)
        assert make.__name__ in str(caught.value)


def test_a_baseline_of_another_shape_names_both_shapes():
    e = jaxplain.integrated_gradients(network, baseline=jnp.zeros(3))
    for call in (lambda: e(jnp.ones(4)), lambda: jaxplain.explain_batch(e, jnp.ones((2, 4)))):
        with pytest.raises(ValueError, match=r"(?s)integrated_gradients.*\(3,\).*\(4,\)"):
            call()


def test_integers_and_missing_numbers_are_refused():
    images = np.arange(8, dtype=np.uint8).reshape(2, 4)
    with pytest.raises(TypeError, match=r"uint8.*astype"):
        jaxplain.explain_batch(jaxplain.integrated_gradients(network), images)
    with pytest.raises(ValueError, match="empty"):
        jaxplain.explain_batch(jaxplain.integrated_gradients(network), jnp.zeros((0, 4)))
    with pytest.raises(ValueError, match="NaN"):
        jaxplain.explain_batch(jaxplain.integrated_gradients(network), jnp.full((2, 4), jnp.inf))


@pytest.mark.parametrize(
    "make",
    [
        jaxplain.integrated_gradients,
        functools.partial(jaxplain.integrated_gradients, tolerance=1e-2, steps=4, max_steps=16),
        jaxplain.integrated_gradients_with_gap,
        jaxplain.deep_lift,
        functools.partial(jaxplain.guided_integrated_gradients, steps=3),
    ],
)
@pytest.mark.sampled(3)
def test_a_baseline_that_is_the_input_is_a_warning(make):
    rows, f = jnp.array([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]]), lambda x: (x**2).sum()
    with pytest.warns(UserWarning, match="`baseline` equals `x` in every value, so the explanation is zero") as caught:
        make(f)(rows[0])
    with pytest.warns(UserWarning, match="in every value for 2 of 3 examples") as counted:
        jaxplain.explain_batch(make(f), rows)
    with pytest.warns(UserWarning, match="for 3 of 3 examples"):
        jaxplain.explain_batch(make(f, baseline=lambda x: x), rows)
    assert len(caught) == len(counted) == 1
    jaxplain.explain_batch(make(f, baseline=-1.0), rows)  # no warning, which would be an error
    jax.jit(make(f))(rows[0])


def test_methods_inside_of_wrappers_see_other_inputs():
    # Noise is added before the method sees x, and the hidden values of a layer have a baseline of their own shape.
    rows = jnp.zeros((2, 2))
    e = jaxplain.smoothgrad(jaxplain.integrated_gradients(jnp.sum, steps=2), sigma=0.1, samples=2)
    jaxplain.explain_batch(e, rows, key=jax.random.key(0))


@pytest.mark.slow
def test_a_background_that_is_the_input_is_a_warning():
    x, f = jnp.array([1.0, 2.0]), lambda x: (x**2).sum()
    same, key = jnp.stack([x, x]), jax.random.key(0)
    other = jnp.stack([x, x + 1])
    for rows in (same, other):
        for call in (
            lambda rows: jaxplain.deep_shap(f, rows)(x),
            lambda rows: jaxplain.explain_batch(jaxplain.deep_shap(f, rows), other),
            lambda rows: jaxplain.expected_gradients(f, rows, samples=2)(key, x),
            lambda rows: jaxplain.explain_batch(jaxplain.expected_gradients(f, rows, samples=2), other, key=key),
        ):
            if rows is other:
                call(rows)
                continue
            with pytest.warns(UserWarning, match="`baseline` equals `x` in every value.*, so") as caught:
                call(rows)
            assert len(caught) == 1


def test_a_chunk_of_one_point_has_no_axis_of_its_own():
    """XLA for GPUs failed on the difference of an array with such an axis and one without it."""

    def net(params, x):
        return jax.nn.relu(x @ params) @ jnp.ones((4, 2))

    f = jaxplain.logit(net, jnp.ones((6, 4)))
    e = jaxplain.integrated_gradients_with_gap(f, steps=8, tolerance=1e-3, max_steps=2048)
    fixed = jaxplain.integrated_gradients(f, steps=8)
    for method in (e, fixed, jaxplain.smoothgrad(jaxplain.gradient(f), sigma=0.1, samples=4)):
        keys = jax.random.split(jax.random.key(0), 30) if method.needs_key else None
        program = jax.make_jaxpr(
            lambda x, y, method=method, keys=keys: jax.vmap(
                lambda key, x, y: method(x, y) if key is None else method(key, x, y)
            )(keys, x, y)
        )(jnp.ones((30, 6)), jnp.zeros(30, int))
        assert "f32[30,1,6]" in str(program)  # the model's own batch of one
        assert "f32[30,1,1,6]" not in str(program)
