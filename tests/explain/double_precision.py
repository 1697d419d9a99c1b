"""Every method on scores of closed form in float64, as a script: values are right to 1e-13, not to 1e-7."""

from __future__ import annotations

import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np

import jaxplain

KEY = jax.random.key(0)
W = np.array([0.3, -1.7, 2.9, 1.1])
X = np.array([1.1, 0.7, -0.3, 2.3])
B = np.array([0.1, -0.2, 0.3, 0.4])


def linear(x):
    return jnp.asarray(W) @ x


def cubic(x):
    with jax.named_scope("hidden"):
        h = jnp.asarray(W) * x
    return (h**3).sum()


def close(name, value, right, tolerance=1e-13):
    value, right = np.asarray(value), np.asarray(right)
    assert value.dtype == np.float64, (name, value.dtype)
    error = np.abs(value - right).max() / np.abs(right).max()
    assert error < tolerance, (name, error)
    print(name, "exact")


def by_linear_scores():
    right = W * (X - B)
    g = jnp.array([0, 0, 1, 1])
    for name, e in {
        "feature_ablation": jaxplain.feature_ablation(linear, baseline=B),
        "occlusion": jaxplain.occlusion(linear, baseline=B, window=1),
        "shapley_values": jaxplain.shapley_values(linear, baseline=B),
        "shapley_sampling": jaxplain.shapley_sampling(linear, baseline=B, samples=4),
        "owen_values": jaxplain.owen_values(linear, g, baseline=B),
        "kernel_shap": jaxplain.kernel_shap(linear, baseline=B, samples=10),
        "lime": jaxplain.lime(linear, baseline=B, samples=32),
        "expected_gradients": jaxplain.expected_gradients(linear, B, samples=4),
        "smoothgrad": jaxplain.smoothgrad(jaxplain.integrated_gradients(linear, baseline=B), sigma=0.0, samples=3),
        "guided_integrated_gradients": jaxplain.guided_integrated_gradients(linear, baseline=B, steps=7),
        "deep_lift": jaxplain.deep_lift(linear, baseline=B),
    }.items():
        close(name, e(KEY, X) if e.needs_key else e(X), right, 1e-12)
    pairs = jaxplain.shapley_interactions(lambda x: linear(x) ** 2 / 2, baseline=0.0)(X)
    close("shapley_interactions", pairs, np.outer(W * X, W * X) / 2, 1e-12)
    taylor = jaxplain.shapley_interactions(lambda x: linear(x) ** 2 / 2, baseline=0.0, index="taylor")(X)
    right = np.outer(W * X, W * X)
    close("shapley_taylor", taylor, right / 2, 1e-12)
    masks = jaxplain.rise(lambda x: 0 * x.sum() + 1.7, groups=jnp.zeros(4, int), samples=1, probability=1 / 3)
    kept = np.asarray(masks(jax.random.key(5), X))
    close("rise", kept if kept.any() else np.full(4, 5.1), np.full(4, 5.1))


def by_quadrature():
    right = W**3 * (X**3 - B**3)  # each term of the cube is of one value
    attribution = jaxplain.integrated_gradients(cubic, baseline=B, steps=8)(X)
    close("integrated_gradients", attribution, right)
    found = jaxplain.integrated_gradients_with_gap(cubic, baseline=B, steps=8)(X)
    assert abs(float(found.gap)) < 5e-15 * abs(right).max(), found.gap
    print("gap", "exact")
    close("conductance", jaxplain.conductance(cubic, "hidden", baseline=B, steps=8)(X), right)
    # the mean over t of 3 h(t)^2 along h = W (B + t (X - B))
    h, h0 = W * X, W * B
    close(
        "internal_influence",
        jaxplain.internal_influence(cubic, "hidden", baseline=B, steps=8)(X),
        h**2 + h * h0 + h0**2,
    )


def by_rules():
    right = W**3 * (X**3 - B**3)
    for rule, steps in (("midpoint", 4), ("trapezoid", 5), ("left", 4), ("right", 4)):
        nodes, weights = jaxplain.program.quadrature(rule, steps)
        slopes = [3 * W**3 * (B + t * (X - B)) ** 2 for t in nodes]
        close(
            rule,
            jaxplain.integrated_gradients(cubic, baseline=B, steps=steps, rule=rule)(X),
            (X - B) * sum(w * s for w, s in zip(weights, slopes, strict=True)),
        )
    fitted = jaxplain.explain_batch(
        jaxplain.integrated_gradients_with_gap(cubic, baseline=B, tolerance=1e-12, steps=4), X[None]
    )
    close("adaptive", fitted.attribution[0], right, 1e-12)
    assert fitted.gap.dtype == np.float64
    square = lambda x: (jnp.asarray(W) @ x) ** 2  # noqa: E731
    d = W * (X - B)
    own = jaxplain.integrated_hessians(square, baseline=B, steps=6)(X)
    # alpha beta averages 1/4 over the unit square for 2 W_i W_j; the diagonal has the first-order part
    slope = d * (2 * (W @ B) + (W @ (X - B)))
    close("integrated_hessians", own.sum(axis=1) * 1.0, slope, 1e-12)
    e = jaxplain.blur_integrated_gradients(linear, sigma=1.0, axes=(0,), steps=40)
    start = jaxplain.baseline.blur(1.0, axes=(0,))(X)
    close("blur", e(X).sum(), linear(X) - linear(start), 1e-6)  # its path has a kink at sigma -> 0
    assert jaxplain.baseline.blur(1.0, axes=(0,))(X).dtype == np.float64


def by_metrics():
    a = W * X
    close("completeness", 1.0 + jaxplain.evaluate.completeness(linear)(X, a), 1.0)
    scores = [float(W @ np.where(np.isin(np.arange(4), np.argsort(-a)[:k]), 0, X)) for k in range(5)]
    area = (sum(scores) - (scores[0] + scores[-1]) / 2) / 4
    close("deletion", jaxplain.evaluate.deletion(linear)(X, a), area)
    data = np.stack([X, B, X + B])
    curve = jaxplain.aggregate.partial_dependence(linear, 1)(data)
    close("partial_dependence", curve.score, (data @ W).mean() + W[1] * (np.sort(data[:, 1]) - data[:, 1].mean()))
    close("grid", curve.grid, np.sort(data[:, 1]))
    local = jaxplain.aggregate.accumulated_local_effects(linear, 1)(data)
    close("ale", np.diff(local.score), W[1] * np.diff(np.sort(data[:, 1])))
    ice = jaxplain.aggregate.individual_conditional_expectation(linear, 1)(data)
    close("ice", ice.score[0], W @ X + W[1] * (np.sort(data[:, 1]) - X[1]))


def large_scores_are_no_infinities():
    e = jaxplain.shapley_values(lambda x: 1e300 * x[0])
    close("large", e(np.array([2.0, 1.0]))[0], 2e300)


def counterfactuals():
    found = jaxplain.counterfactual(lambda x: x[0] - 1.0, threshold=0.0, steps=300)(np.array([0.0, 0.0]))
    assert found.x.dtype == np.float64
    adversarial = jaxplain.fgsm(linear, epsilon=0.1)(X)
    close("fgsm", np.abs(adversarial - X), np.full(4, 0.1))


if __name__ == "__main__":
    warnings.simplefilter("error")
    for part in sys.argv[1:]:
        globals()[part]()
