"""Integrated gradients to a tolerance: what scores on a grid say about the gradients that a path needs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.explain.gradient.spacing import GRID, SAFETY, enough_steps, joined, ruled, spaced, spacing
from jaxplain.program.integration import RULES, quadrature

PLACES = np.linspace(0.0, 1.0, GRID + 1)


def kinked(rng, count):
    """Piecewise linear functions with many kinks, and their slopes: rows of `count` functions."""
    places, jumps = rng.uniform(size=(count, 60)), rng.normal(size=(count, 60))
    value = lambda t: (jumps[:, None] * np.maximum(t[None, :, None] - places[:, None], 0)).sum(-1)  # noqa: E731
    slope = lambda t: (jumps[:, None] * (t[None, :, None] > places[:, None])).sum(-1)  # noqa: E731
    return value, slope


def test_smooth_paths_are_told_from_kinked_ones():
    value, _ = kinked(np.random.default_rng(0), 50)
    one_kink = np.maximum(PLACES - np.linspace(0.2, 0.8, 50)[:, None], 0)
    waves = np.sin(np.outer(np.linspace(0.5, 20, 50), PLACES) + np.arange(50)[:, None])
    for scores, smooth in ((value(PLACES), False), (one_kink, False), (waves, True), (PLACES[None] ** 3, True)):
        np.testing.assert_array_equal(spacing(scores, np.ones(len(scores))).smooth, smooth)


@pytest.mark.slow
def test_the_error_foretold_is_the_error_of_the_midpoint_rule():
    value, slope = kinked(np.random.default_rng(1), 400)
    bound = np.full(400, 0.02)
    plan = spacing(value(PLACES), bound)
    gaps = []
    for row in range(400):
        points = spaced(row, plan.density[row], int(plan.needed[row]), 1.0, ends=False)
        gaps.append((slope(points.place)[row] * points.weight).sum() - (value(np.ones(1)) - value(np.zeros(1)))[row, 0])
    # The tolerance is SAFETY times the expected error.
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(gaps))), bound[0] / SAFETY, rtol=0.15)


@pytest.mark.parametrize("ends", [False, True])
def test_spaced_points_integrate_lines_exactly_whatever_their_density(ends):
    density = np.random.default_rng(2).uniform(0.3, 2.0, GRID)
    points = spaced(3, density, 17, 0.5, ends=ends)
    assert (points.row == 3).all()
    assert len(points.row) == 17 + ends
    np.testing.assert_allclose([points.weight.sum(), points.weight @ points.place], [0.5, 0.25], rtol=1e-12)
    both = joined([points, ruled(4, np.array([0.5]), np.array([1.0]))])
    assert len(both.row) == 18 + ends


def test_points_are_close_where_the_path_bends():
    scores = np.maximum(PLACES - 0.5, 0) ** 1.0 + 0.02 * np.sin(300 * PLACES) * (PLACES > 0.75)
    plan = spacing(scores[None], np.array([1e-3]))
    inside, outside = plan.density[0][PLACES[:-1] >= 0.75].mean(), plan.density[0][PLACES[1:] <= 0.4].mean()
    assert inside > 2 * outside
    np.testing.assert_allclose(plan.density.mean(), 1.0)


@pytest.mark.slow
def test_a_score_that_is_not_finite_needs_no_more_than_the_rule():
    e = jaxplain.integrated_gradients_with_gap(lambda x: jnp.log(x).sum(), steps=4, tolerance=1e-3)
    found = jaxplain.explain_batch(e, jnp.ones((2, 3)))  # the logarithm of the baseline is minus infinity
    np.testing.assert_array_equal(found.steps, 4)
    assert not found.reached.any()
    assert not e(jnp.ones(3)).reached


@pytest.mark.slow
def test_a_score_that_is_not_finite_on_the_way_takes_no_more_either():
    f = lambda x: jnp.where((x > 0.4) & (x < 0.6), jnp.nan, x).sum()  # noqa: E731
    e = jaxplain.integrated_gradients_with_gap(f, steps=4, tolerance=1e-3)
    found = jaxplain.explain_batch(e, jnp.ones((2, 1)))
    np.testing.assert_array_equal(found.steps, 4)


def relu_network(width=64):
    keys = jax.random.split(jax.random.key(3), 3)
    first, second = jax.random.normal(keys[0], (6, width)), jax.random.normal(keys[1], (width, width)) / 8
    last, bias = jax.random.normal(keys[2], (width,)), 0.5 * jnp.sin(jnp.arange(width))
    return lambda x: jax.nn.relu(jax.nn.relu(x @ first + bias) @ second - bias) @ last


def worst_gap(found):
    change = np.asarray(found.attribution.sum(1) - found.gap)
    return np.percentile(np.abs(np.asarray(found.gap)) / (np.abs(change) + 1e-3), 99)


@pytest.mark.slow
def test_a_fixed_number_of_twice_the_gradients_is_worse_for_the_worst_examples():
    f, x = relu_network(), jax.random.normal(jax.random.key(5), (200, 6))
    e = jaxplain.integrated_gradients_with_gap(f, steps=8, tolerance=1e-2, max_steps=2048)
    found = jaxplain.explain_batch(e, x)
    twice = jaxplain.integrated_gradients_with_gap(f, steps=2 * int(found.steps.mean()))
    assert worst_gap(found) < worst_gap(jaxplain.explain_batch(twice, x))


@pytest.mark.slow
def test_no_example_stops_for_a_gap_that_is_small_by_chance():
    f, x = relu_network(), jax.random.normal(jax.random.key(6), (200, 6))
    reference = jaxplain.explain_batch(jaxplain.integrated_gradients(f, steps=4096, batch_size=512), x)
    change = np.abs(np.asarray(reference.sum(1)))
    found = jaxplain.explain_batch(jaxplain.integrated_gradients_with_gap(f, steps=4, tolerance=1e-2), x)
    error = np.asarray(jnp.abs(found.attribution - reference).sum(1)) / (change + 1e-3)
    assert np.percentile(error[np.asarray(found.reached)], 99) < 0.1


def waves(count=40):
    """Smooth functions, and their slopes: rows of `count` waves of up to two lengths a path."""
    speed, phase = np.linspace(0.5, 12, count)[:, None], np.arange(count)[:, None]
    return lambda t: np.sin(speed * t + phase), lambda t: speed * np.cos(speed * t + phase)


@pytest.mark.parametrize("rule", RULES)
def test_the_steps_foretold_for_a_smooth_path_are_the_fewest_from_which_on_the_rule_is_within_the_bound(rule):
    value, slope = waves()
    change = (value(np.ones(1)) - value(np.zeros(1)))[:, 0]
    first = 2 if rule == "trapezoid" else 1
    rules = [quadrature(rule, n) for n in range(first, GRID + 1)]
    gaps = np.abs([slope(nodes) @ weights - change for nodes, weights in rules])
    for bound in (0.5, 1e-2, 1e-4):
        steps = enough_steps(value(PLACES), np.full(len(change), bound), rule)
        for row, least in enumerate(steps):
            later, before = gaps[least - first :, row], gaps[max(least - first, 1) - 1, row]
            assert (later <= 1.02 * bound + 1e-6).all() or least == GRID
            assert least <= first or before > 0.98 * bound - 1e-6


def test_steps_are_as_many_as_there_are_where_no_number_will_do_and_one_where_none_can():
    noise = np.random.default_rng(4).normal(size=(4, GRID + 1))
    noise[2, 5], noise[3, 0] = np.nan, np.inf
    steps = enough_steps(noise, np.full(4, 1e-6), "gauss_legendre")
    np.testing.assert_array_equal(steps, [GRID, GRID, 1, 1])


@pytest.mark.slow
def test_a_smooth_path_takes_the_rule_and_few_gradients():
    weight = jax.random.normal(jax.random.key(7), (6, 32))
    f = lambda x: jnp.tanh(x @ weight).sum()  # noqa: E731
    x = 0.5 * jax.random.normal(jax.random.key(8), (64, 6))

    def found(**settings):
        return jaxplain.explain_batch(jaxplain.integrated_gradients_with_gap(f, **settings), x)

    few = found(tolerance=1e-2)
    assert few.reached.mean() > 0.95
    assert few.steps.min() == 4
    assert few.steps.mean() < 9
    assert worst_gap(few) <= 1e-2
    assert worst_gap(found(steps=int(few.steps.mean()))) > 2 * worst_gap(few)  # as many gradients, shared out evenly
    assert found(tolerance=1e-2, steps=11).steps.min() == 11


def test_steps_are_32_where_nothing_says_how_many():
    x = jnp.ones((1, 2))
    e = jaxplain.integrated_gradients_with_gap(lambda x: (x**2).sum())
    assert jaxplain.explain_batch(e, x).steps.tolist() == [32]
