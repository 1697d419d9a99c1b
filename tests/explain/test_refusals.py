"""What used to pass without a word: wrapped scores, complex attributions, indices that repeat draws, wrong warnings."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import evaluate

KEY = jax.random.key(0)
X = jnp.array([1.0, -2.0, 3.0])
BATCH = jnp.stack([X, 2 * X])


def score(x):
    with jax.named_scope("layer"):
        h = x * 2.0
    return (h**2).sum()


def test_wrappers_refuse_a_score_and_take_everything_that_explains():
    wrappers = (jaxplain.smoothgrad, jaxplain.smoothgrad_squared, jaxplain.vargrad)
    for wrapper in wrappers:
        e = wrapper(score, sigma=0.1, samples=2)
        with pytest.raises(TypeError, match=f"{wrapper.__name__}: `e` returned one number .* jaxplain.gradient"):
            e(KEY, X)
        with pytest.raises(TypeError, match="returned one number"):
            jaxplain.explain_batch(e, BATCH, key=KEY)
        with pytest.raises(TypeError, match="returned one number"):
            wrapper(lambda x: score(x["b"]), sigma=0.1, samples=2)(KEY, {"a": jnp.array(1.0), "b": X})
    for metric in (
        evaluate.max_sensitivity(score, radius=0.1),
        evaluate.relative_input_stability(score, radius=0.1),
    ):
        with pytest.raises(TypeError, match="returned one number"):
            metric(KEY, X)
    assert jaxplain.smoothgrad(jaxplain.gradient(score), sigma=0.0, samples=2)(KEY, X).tolist() == [8, -16, 24]
    assert jaxplain.smoothgrad(jax.grad(lambda x: x**2), sigma=0.0, samples=2)(KEY, jnp.array(3.0)) == 6
    layer = jaxplain.conductance(score, "layer", steps=2)
    np.testing.assert_allclose(jaxplain.smoothgrad(layer, sigma=0.0, samples=2)(KEY, X), [4, 16, 36], rtol=1e-6)

    def image_score(x):
        with jax.named_scope("features"):
            h = jax.nn.relu(x)
        return h.sum()

    image = jax.random.normal(KEY, (4, 4, 2))
    maps = jaxplain.smoothgrad(jaxplain.grad_cam(image_score, "features"), sigma=0.0, samples=2)(KEY, image)
    assert maps.shape == (4, 4)


def test_metrics_refuse_complex_attributions():
    a, mask = X + 1j, jnp.array([True, False, True])
    calls = [
        lambda: evaluate.infidelity(score)(KEY, X, a),
        lambda: evaluate.deletion(score)(X, a),
        lambda: evaluate.completeness(score)(X, a),
        lambda: evaluate.sparseness()(a),
        lambda: evaluate.entropy()(a),
        lambda: evaluate.effective_complexity()(a),
        lambda: evaluate.pointing_game()(a, mask),
        lambda: evaluate.roc_auc()(a, mask),
        lambda: evaluate.relevance_rank_accuracy()(a, mask),
        lambda: evaluate.consistency()(BATCH, BATCH + 1j, jnp.array([0, 1])),
        lambda: evaluate.max_sensitivity(lambda x: x + 1j, radius=0.1)(KEY, X),
        lambda: evaluate.random_logit(lambda x, k: x + 1j, classes=2)(KEY, X, 0),
        lambda: evaluate.average_drop(score)(X, a),
        lambda: evaluate.evaluate_batch(evaluate.deletion(score), BATCH, BATCH + 1j),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"is complex .* neither order nor sign"):
            call()


def test_indices_are_whole_and_never_repeat_draws():
    e = jaxplain.smoothgrad(jaxplain.gradient(score), sigma=0.1, samples=2)
    metric = evaluate.infidelity(score, samples=2)
    runs = (
        lambda index: jaxplain.explain_batch(e, BATCH, key=KEY, index=index),
        lambda index: evaluate.evaluate_batch(metric, BATCH, BATCH, key=KEY, index=index),
    )
    for run in runs:
        for index in ([0.2, 0.7], jnp.array([0.0, 1.0]), [True, False]):
            with pytest.raises(TypeError, match=r"`index` has dtype .*; pass whole numbers"):
                run(index)
        for index in ([1, 2**32 + 1], [-1, 0], np.array([0, 2**40])):
            with pytest.raises(ValueError, match=r"`index` runs from .* Number the examples from 0 to 2\*\*32 - 1"):
                run(index)
        with pytest.raises(ValueError, match=r"`index` has shape \(3,\), but the batch has 2 examples"):
            run([0, 1, 2])
    same = jnp.stack([X, X])
    high = jaxplain.explain_batch(e, same, key=KEY, index=[2**31 + 1, 1])
    assert (high[0] != high[1]).any()
    np.testing.assert_array_equal(
        jaxplain.explain_batch(e, same, key=KEY, index=[5, 2**32 - 1])[0],
        jaxplain.explain_batch(e, same, key=KEY, index=jnp.array([5, 7]))[0],
    )


@pytest.mark.slow
def test_zero_by_construction_is_said_only_where_it_is_zero():
    """Of the norm at 0 there is no derivative: what differentiates gives NaN, what compares scores gives zero."""
    zero = jnp.zeros(3)
    differentiate = {
        "integrated_gradients": jaxplain.integrated_gradients(jnp.linalg.norm, steps=2),
        "expected_gradients": jaxplain.expected_gradients(jnp.linalg.norm, jnp.zeros((2, 3)), samples=2),
        "deep_lift": jaxplain.deep_lift(jnp.linalg.norm),
    }
    compare = {
        "feature_ablation": jaxplain.feature_ablation(jnp.linalg.norm),
        "occlusion": jaxplain.occlusion(jnp.linalg.norm, window=1),
        "shapley_values": jaxplain.shapley_values(jnp.linalg.norm),
    }
    for name, e in {**differentiate, **compare}.items():
        single = lambda e=e: e(KEY, zero) if e.needs_key else e(zero)  # noqa: E731
        batch = lambda e=e: jaxplain.explain_batch(e, zero[None], key=KEY)  # noqa: E731
        for run in (single, batch) if name in ("integrated_gradients", "feature_ablation") else (single,):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found = run()
            texts = [str(entry.message) for entry in caught]
            assert any("equals `x` in every value" in text for text in texts), (name, texts)
            says_zero = any("zero by construction" in text for text in texts)
            assert says_zero == (name in compare), (name, texts)
            assert not says_zero or (found == 0).all()
    assert jnp.isnan(jaxplain.gradient(jnp.linalg.norm)(zero)).all()
