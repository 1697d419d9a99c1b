"""Where a slope is infinite and nothing moves, there is no share; where the score itself is NaN, that is said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain

X = jnp.array([0.0, 0.25, 1.0])
ROOTS = {
    "sqrt": lambda x: jnp.sqrt(x).sum(),
    "power": lambda x: (x**0.3).sum(),
    "powers": lambda x: (x ** jnp.array([0.5, 1.0, 2.0])).sum(),
    "cbrt": lambda x: jnp.cbrt(x).sum(),
    "norm of rows": lambda x: jnp.linalg.norm(jnp.stack([x, 2 * x], 1), axis=1).sum(),
    "behind a ReLU": lambda x: jnp.sqrt(jax.nn.relu(x - 0.5)).sum(),
    "entropy": lambda x: jax.scipy.special.entr(x).sum(),
    "xlogy": lambda x: jax.scipy.special.xlogy(x, x).sum(),
    "spread of a constant row": lambda x: jnp.std(jnp.stack([0 * x, x]), axis=1).sum(),
}


@pytest.mark.parametrize("name", ROOTS)
@pytest.mark.sampled(3)
def test_deep_lift_gives_what_does_not_move_no_share_and_is_complete(name):
    f = ROOTS[name]
    a = jaxplain.deep_lift(f)(X)
    np.testing.assert_allclose(a.sum(), f(X) - f(0 * X), rtol=1e-5, atol=1e-6)
    assert a[0] == 0
    batch = jaxplain.explain_batch(jaxplain.deep_lift(f), jnp.stack([X, X[::-1]]))
    np.testing.assert_allclose(batch[0], a, rtol=1e-5, atol=1e-6)
    assert np.isfinite(batch).all()


@pytest.mark.parametrize("name", ["sqrt", "power", "cbrt"])
def test_path_methods_do_too(name):
    f = ROOTS[name]
    for e in (jaxplain.integrated_gradients(f, steps=64), jaxplain.integrated_gradients_with_gap(f, steps=64)):
        a = getattr(e(X), "attribution", e(X))
        assert a[0] == 0
        assert np.isfinite(a).all()
    a = jaxplain.expected_gradients(f, samples=8)(jax.random.key(0), X)
    assert a[0] == 0
    assert np.isfinite(a).all()


def test_the_slope_of_a_share_stays_where_there_is_one():
    e = jaxplain.integrated_gradients(lambda x: (jnp.exp(x) * jnp.array([1.0, 2.0])).sum(), steps=16)
    slopes = jnp.diag(jax.jacobian(e)(jnp.array([0.0, 1.0])))  # of exp(x) - 1, also where x is the baseline
    np.testing.assert_allclose(slopes, [1, 2 * np.e], rtol=1e-5)


@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
def test_a_score_that_is_nan_at_the_baseline_is_refused(rule):
    f = lambda x: (x / jnp.linalg.norm(x)) @ jnp.array([1.0, 2.0, 3.0])  # noqa: E731
    with pytest.raises(ValueError, match=r"deep_lift: the score `f` is NaN.*Check f\(x\) and f\(baseline\)"):
        jaxplain.deep_lift(f, rule=rule)(X)
    with pytest.raises(ValueError, match=r"deep_shap: the score `f` is NaN"):
        jaxplain.deep_shap(f, jnp.stack([jnp.ones(3), jnp.zeros(3)]), rule=rule)(X)
    a = jaxplain.deep_lift(f, rule=rule, baseline=1.0)(X)
    np.testing.assert_allclose(a.sum(), f(X) - f(jnp.ones(3)), rtol=1e-5)
