"""The table of every public metric, with cheap settings and the laws that each one claims."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

import jaxplain

CLASSES = 3


@dataclass(frozen=True)
class Row:
    """One metric: how to build it from a score and an explanation, and what it claims.

    scale_free: unchanged when the attribution (or the explanation) is multiplied by a positive number.
    faithful: the score on which the true attribution has to outrank a random one; None where that is not claimed.
    dataset: its values depend on the other examples.
    """

    name: str
    build: Callable[[Any, Any], Any]
    scale_free: bool = True
    faithful: str | None = None
    dataset: bool = False


class Scaled(jaxplain.Function):
    """An explanation times a number that is a leaf, so that another number does not compile anew."""

    explain: Any
    factor: Any

    def __call__(self, x: Any, label: Any) -> Any:
        return jax.tree.map(lambda leaf: self.factor * leaf, self.explain(x, label))


class Made(jaxplain.Function):
    """What a method makes of parameters: the gradient of `score` times a factor."""

    factor: Any

    def __call__(self, params: Any) -> Any:
        return Scaled(jaxplain.gradient(jaxplain.logit(network, params)), self.factor)


def network(params: Any, x: Any) -> Any:
    """A batch-first smooth network with positive and negative weights."""
    flat = x.reshape(x.shape[0], -1)
    return jnp.tanh(flat @ params["first"] + 0.1) @ params["last"]


def parameters(features: int, key: int = 0) -> Any:
    one, two = jax.random.split(jax.random.key(key))
    return {"first": jax.random.normal(one, (features, 5)), "last": jax.random.normal(two, (5, CLASSES))}


def _outputs(f: Any) -> Any:
    return lambda x, label: jnp.stack([f(x, k) for k in range(CLASSES)])


PAIRS = jnp.array([[0, 0], [1, 1]])

METRICS = (
    Row("deletion", lambda f, e: jaxplain.evaluate.deletion(f, batch_size=2), faithful="sigmoid"),
    Row(
        "deletion",
        lambda f, e: jaxplain.evaluate.deletion(f, baseline=jaxplain.baseline.uniform_noise(0.0, 0.1), steps=2),
    ),
    Row("insertion", lambda f, e: jaxplain.evaluate.insertion(f), faithful="sigmoid"),
    Row("deletion_curve", lambda f, e: jaxplain.evaluate.deletion_curve(f, groups=PAIRS)),
    Row("insertion_curve", lambda f, e: jaxplain.evaluate.insertion_curve(f)),
    Row("pixel_flipping", lambda f, e: jaxplain.evaluate.pixel_flipping(f, order="lerf")),
    Row("region_perturbation", lambda f, e: jaxplain.evaluate.region_perturbation(f, window=1), faithful="sigmoid"),
    Row("region_perturbation", lambda f, e: jaxplain.evaluate.region_perturbation(f, order="lerf"), faithful="sigmoid"),
    Row("region_perturbation", lambda f, e: jaxplain.evaluate.region_perturbation(f, order="random")),
    Row("selectivity", lambda f, e: jaxplain.evaluate.selectivity(f, window=(1,)), faithful="sigmoid"),
    Row("irof", lambda f, e: jaxplain.evaluate.irof(f, PAIRS)),
    Row(
        "faithfulness_correlation",
        lambda f, e: jaxplain.evaluate.faithfulness_correlation(f, size=2, samples=12, batch_size=5),
        faithful="sigmoid",
    ),
    Row("faithfulness_estimate", lambda f, e: jaxplain.evaluate.faithfulness_estimate(f), faithful="sigmoid"),
    Row("mu_fidelity", lambda f, e: jaxplain.evaluate.mu_fidelity(f, fraction=0.5, samples=12), faithful="sigmoid"),
    Row("sensitivity_n", lambda f, e: jaxplain.evaluate.sensitivity_n(f, sizes=(1, 2), samples=12), faithful="sigmoid"),
    Row("sensitivity_n_curve", lambda f, e: jaxplain.evaluate.sensitivity_n_curve(f, sizes=(1, 2), samples=12)),
    Row("monotonicity", lambda f, e: jaxplain.evaluate.monotonicity(f, tolerance=1e-6), faithful="relu"),
    Row(
        "monotonicity_correlation",
        lambda f, e: jaxplain.evaluate.monotonicity_correlation(
            f, baseline=jaxplain.baseline.uniform_noise(-0.1, 0.1), samples=3
        ),
        faithful="linear",
    ),
    Row("infidelity", lambda f, e: jaxplain.evaluate.infidelity(f, samples=8, batch_size=3), scale_free=False),
    Row(
        "infidelity",
        lambda f, e: jaxplain.evaluate.infidelity(f, perturbation="removal", shares=True, scaled=True, samples=12),
        faithful="linear",
    ),
    Row("road", lambda f, e: jaxplain.evaluate.road(f, fractions=(0.3, 0.6))),
    Row("road", lambda f, e: jaxplain.evaluate.road(f, baseline=0.0, order="lerf", batch_size=2), faithful="sigmoid"),
    Row("road_curve", lambda f, e: jaxplain.evaluate.road_curve(f, fractions=(0.5, 1.0), sigma=0.1)),
    Row("deletion", lambda f, e: jaxplain.evaluate.deletion(f, baseline=jaxplain.evaluate.imputed_baseline(sigma=0.1))),
    Row("average_drop", lambda f, e: jaxplain.evaluate.average_drop(f), faithful="sigmoid"),
    Row("average_increase", lambda f, e: jaxplain.evaluate.average_increase(f), faithful="sigmoid"),
    Row("average_gain", lambda f, e: jaxplain.evaluate.average_gain(f), faithful="sigmoid"),
    Row("effective_complexity", lambda f, e: jaxplain.evaluate.effective_complexity(f, tolerance=0.05)),
    Row("effective_complexity", lambda f, e: jaxplain.evaluate.effective_complexity(tolerance=0.5), scale_free=False),
    Row("sparseness", lambda f, e: jaxplain.evaluate.sparseness()),
    Row("entropy", lambda f, e: jaxplain.evaluate.entropy()),
    Row("completeness", lambda f, e: jaxplain.evaluate.completeness(f), scale_free=False, faithful="linear"),
    Row("non_sensitivity", lambda f, e: jaxplain.evaluate.non_sensitivity(f, threshold=0.5), scale_free=False),
    Row(
        "input_invariance",
        lambda f, e: jaxplain.evaluate.input_invariance(lambda g: jaxplain.gradient(g), f, shift=0.1),
    ),
    Row("implementation_invariance", lambda f, e: jaxplain.evaluate.implementation_invariance(jaxplain.gradient, f, f)),
    Row("symmetry", lambda f, e: jaxplain.evaluate.symmetry(jaxplain.gradient, f, lambda x: x)),
    Row("max_sensitivity", lambda f, e: jaxplain.evaluate.max_sensitivity(e, radius=0.1, samples=4, batch_size=3)),
    Row(
        "average_sensitivity",
        lambda f, e: jaxplain.evaluate.average_sensitivity(e, radius=0.1, samples=4, batch_size=3),
    ),
    Row(
        "local_lipschitz_estimate",
        lambda f, e: jaxplain.evaluate.local_lipschitz_estimate(e, radius=0.1, samples=4),
        scale_free=False,
    ),
    Row("continuity", lambda f, e: jaxplain.evaluate.continuity(e, steps=1), scale_free=False),
    Row(
        "relative_input_stability",
        lambda f, e: jaxplain.evaluate.relative_input_stability(e, _outputs(f), radius=0.01, samples=4),
    ),
    Row(
        "relative_output_stability",
        lambda f, e: jaxplain.evaluate.relative_output_stability(e, _outputs(f), radius=0.01, samples=4),
    ),
    Row(
        "relative_representation_stability",
        lambda f, e: jaxplain.evaluate.relative_representation_stability(e, lambda x, k: x**2, radius=0.01, samples=4),
    ),
    Row(
        "parameter_randomization",
        lambda f, e: jaxplain.evaluate.parameter_randomization(Made(e.factor), f.params, batch_size=1),
    ),
    Row(
        "parameter_randomization_curve",
        lambda f, e: jaxplain.evaluate.parameter_randomization_curve(
            Made(e.factor), f.params, similarity="absolute_spearman", start="bottom", independent=True, batch_size=2
        ),
    ),
    Row(
        "smooth_parameter_randomization",
        lambda f, e: jaxplain.evaluate.smooth_parameter_randomization(Made(e.factor), f.params, sigma=0.1, samples=2),
    ),
    Row(
        "efficient_parameter_randomization",
        lambda f, e: jaxplain.evaluate.efficient_parameter_randomization(Made(e.factor), f.params),
    ),
    Row("random_logit", lambda f, e: jaxplain.evaluate.random_logit(e, classes=CLASSES, similarity="pearson")),
    Row("pointing_game", lambda f, e: jaxplain.evaluate.pointing_game(tolerance=1)),
    Row("attribution_localization", lambda f, e: jaxplain.evaluate.attribution_localization(weighted=True)),
    Row("focus", lambda f, e: jaxplain.evaluate.focus()),
    Row("top_k_intersection", lambda f, e: jaxplain.evaluate.top_k_intersection(2)),
    Row("relevance_mass_accuracy", lambda f, e: jaxplain.evaluate.relevance_mass_accuracy()),
    Row("relevance_rank_accuracy", lambda f, e: jaxplain.evaluate.relevance_rank_accuracy()),
    Row("earth_movers_distance", lambda f, e: jaxplain.evaluate.earth_movers_distance()),
    Row("roc_auc", lambda f, e: jaxplain.evaluate.roc_auc()),
    Row("consistency", lambda f, e: jaxplain.evaluate.consistency(features=1), dataset=True),
    Row("sufficiency", lambda f, e: jaxplain.evaluate.sufficiency(threshold=3.0), scale_free=False, dataset=True),
    Row("symmetric_relevance_gain", lambda f, e: jaxplain.evaluate.symmetric_relevance_gain(f), faithful="sigmoid"),
    Row(
        "f_fidelity",
        lambda f, e: jaxplain.evaluate.f_fidelity(f, fraction=0.5, limit=0.5, samples=6, batch_size=4),
        faithful="sigmoid",
    ),
    Row("f_fidelity", lambda f, e: jaxplain.evaluate.f_fidelity(f, order="lerf", fraction=0.25, samples=4)),
    Row("soft_sufficiency", lambda f, e: jaxplain.evaluate.soft_sufficiency(f, samples=4)),
    Row("soft_comprehensiveness", lambda f, e: jaxplain.evaluate.soft_comprehensiveness(f, samples=4, batch_size=3)),
)

OTHERS = {
    "frechet_bootstrap": "compares two sets",
    "frechet_distance": "compares two sets",
    "compare": "a table",
    "compare_models": "compares models",
    "mechanism_table": "a table",
    "mechanisms": "makes models",
    "random_removal": "makes an input",
    "remove_and_retrain": "a table",
    "edge_attribution": "a control",
    "evaluate_batch": "drives a metric",
    "imputed_baseline": "a baseline",
    "mosaic": "makes an input",
    "paired_difference": "compares scores",
    "pearson": "a similarity",
    "random_attribution": "a control",
    "score_table": "a table",
    "spearman": "a similarity",
    "structural_similarity": "a similarity",
}
"""Public names of `jaxplain.evaluate` that are no metric of the table, and why."""
