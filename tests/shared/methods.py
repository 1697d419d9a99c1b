"""The table of every public method and wrapper, with cheap settings and the laws that each one claims."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

import jaxplain
from jaxplain.explain.backward import relevance
from jaxplain.program.function import as_function


@dataclass(frozen=True)
class Row:
    """One method: how to build it from a score, whether it is random, and what it claims."""

    name: str
    build: Callable[[Any], Any]
    random: bool = False
    complete: bool = False  # sums to f(x) - f(0) on smooth scores
    linear: bool = False  # e(a f + b g) = a e(f) + b e(g), for the same key
    dummy: bool = True  # features that the score ignores get exactly zero
    symmetric: bool = True  # equal inputs with equal roles get equal attributions
    tolerance: float = 1e-5

    def inputs(self, x: Any, *args: Any, key: int = 0) -> tuple[Any, ...]:
        """What the explanation is called with."""
        return (jax.random.key(key), x, *args) if self.random else (x, *args)

    def explain(self, f: Any, x: Any, *args: Any, key: int = 0) -> Any:
        """Explain in one compiled program, which laws about the same score share."""
        return compiled(as_function(self.build(f)), *self.inputs(x, *args, key=key))

    def eager(self, f: Any, x: Any, *args: Any, key: int = 0) -> Any:
        """Explain without compiling, so that values can be looked at."""
        return self.build(f)(*self.inputs(x, *args, key=key))


@jax.jit
def compiled(e: Any, *inputs: Any) -> Any:
    """Call an explanation, given as an argument."""
    return e(*inputs)


METHODS = (
    Row("gradient", jaxplain.gradient, linear=True),
    Row("saliency", jaxplain.saliency),
    Row("input_x_gradient", jaxplain.input_x_gradient, linear=True),
    Row("integrated_gradients", lambda f: jaxplain.integrated_gradients(f, steps=16), complete=True, linear=True),
    Row(
        "integrated_gradients",
        lambda f: jaxplain.integrated_gradients(f, steps=10, rule="midpoint", batch_size=4, baseline=0.0),
        linear=True,
    ),
    Row(
        "integrated_gradients",
        lambda f: jaxplain.integrated_gradients(f, steps=8, tolerance=1e-4, max_steps=128),
        complete=True,
    ),
    Row(
        "integrated_gradients_with_gap",
        lambda f: _Attribution(jaxplain.integrated_gradients_with_gap(f, steps=16)),
        complete=True,
    ),
    Row(
        "expected_gradients",
        lambda f: jaxplain.expected_gradients(f, 0.0, samples=8, batch_size=3),
        random=True,
        linear=True,
    ),
    Row("lrp", lambda f: jaxplain.lrp(f, relevance.epsilon(1e-6))),
    Row(
        "smoothgrad",
        lambda f: jaxplain.smoothgrad(jaxplain.gradient(f), sigma=0.1, samples=5, batch_size=2),
        random=True,
        linear=True,
        symmetric=False,
    ),
    Row(
        "smoothgrad",
        lambda f: jaxplain.smoothgrad(jaxplain.expected_gradients(f, samples=3), sigma=0.1, samples=3),
        random=True,
        linear=True,
        symmetric=False,
    ),
    Row(
        "smoothgrad_squared",
        lambda f: jaxplain.smoothgrad_squared(jaxplain.gradient(f), sigma=0.1, samples=5),
        random=True,
        symmetric=False,
    ),
    Row(
        "vargrad",
        lambda f: jaxplain.vargrad(jaxplain.gradient(f), sigma=0.1, samples=5, batch_size=2),
        random=True,
        symmetric=False,
    ),
    Row("deep_lift", jaxplain.deep_lift, complete=True),
    Row("deep_shap", lambda f: _FromZeros(as_function(f)), complete=True),
    Row("feature_ablation", lambda f: jaxplain.feature_ablation(f, batch_size=3), linear=True),
    Row("occlusion", lambda f: jaxplain.occlusion(f, window=1), linear=True),
    Row("guided_integrated_gradients", lambda f: jaxplain.guided_integrated_gradients(f, steps=8)),
    Row(
        "blur_integrated_gradients",
        lambda f: jaxplain.blur_integrated_gradients(f, sigma=1.0, axes=(0,), steps=6),
        linear=True,
        symmetric=False,
    ),
    Row("shapley_values", jaxplain.shapley_values, complete=True, linear=True),
    Row("shapley_sampling", lambda f: jaxplain.shapley_sampling(f, samples=5), random=True, complete=True, linear=True),
    Row("kernel_shap", lambda f: jaxplain.kernel_shap(f, samples=16), random=True, complete=True, linear=True),
    Row("lime", lambda f: jaxplain.lime(f, samples=24), random=True, linear=True, dummy=False, symmetric=False),
)


OTHERS = {
    "ablation_cam": "a map of a layer",
    "accentuate": "makes an input",
    "activation_grid": "makes inputs",
    "activation_maximization": "makes an input",
    "activation_patching": "compares two inputs",
    "attribution_patching": "compares two inputs",
    "audit": "lists what a method changes",
    "class_activation_map": "a map of a layer",
    "conductance": "needs a layer",
    "counterfactual": "makes an input",
    "deconv_view": "needs a layer and a unit",
    "deconvnet": "refuses the smooth functions of the laws, as it has a rule for ReLUs alone (test_guided.py)",
    "deep_dream": "makes an input",
    "eigen_cam": "a map of a layer",
    "eigen_grad_cam": "a map of a layer",
    "excitation_backprop": "gives probabilities (test_lrp.py)",
    "explain_batch": "drives a method",
    "extremal_perturbation": "learns a mask",
    "feature_inversion": "makes an input",
    "feature_permutation": "needs a data set of x's structure",
    "fgsm": "makes an input",
    "full_grad": "a map",
    "full_grad_terms": "terms of inputs and biases",
    "grad_cam": "a map of a layer",
    "grad_cam_plus_plus": "a map of a layer",
    "guided_backprop": "as deconvnet",
    "guided_grad_cam": "needs a layer",
    "hires_cam": "a map of a layer",
    "image_regions": "segments an image",
    "integrated_hessians": "explains pairs of features",
    "internal_influence": "needs a layer",
    "layer_cam": "a map of a layer",
    "owen_values": "needs groups",
    "pgd": "makes an input",
    "receptive_field": "needs a layer",
    "relevance_balance": "accounts for what lrp loses",
    "rise": "features without influence get the score's mean",
    "score_cam": "a map of a layer",
    "shapley_interactions": "explains pairs",
    "shapley_sampling_with_error": "returns errors too; its attribution is that of shapley_sampling",
    "xgrad_cam": "a map of a layer",
    "xrai": "explains regions of an image",
}
"""Public names of `jaxplain.explain` that are no method of the table, and why."""


class _FromZeros(jaxplain.Function):
    """Deep SHAP of two baselines of zeros, for inputs of any structure; what is no real number stays."""

    score: Any

    def __call__(self, x: Any, *args: Any) -> Any:
        start = jaxplain.baseline.resolve(0.0, x, name="deep_shap")
        rows = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (2, *jnp.shape(leaf))), start)
        return jaxplain.deep_shap(self.score, rows, batch_size=1)(x, *args)


class _Attribution(jaxplain.Function):
    """The attribution alone of a method that returns more."""

    explain: Any

    @property
    def needs_key(self) -> bool:
        return bool(self.explain.needs_key)

    def __call__(self, *inputs: Any) -> Any:
        return self.explain(*inputs).attribution


def network(key: int = 0, features: int = 4, hidden: int = 8, classes: int = 3) -> Any:
    """Parameters of a small network of two layers."""
    keys = jax.random.split(jax.random.key(key), 3)
    return {
        "first": jax.random.normal(keys[0], (features, hidden)),
        "bias": 0.1 * jax.random.normal(keys[1], (hidden,)),
        "second": jax.random.normal(keys[2], (hidden, classes)),
    }


def smooth(params: Any, x: Any) -> Any:
    """A batch-first smooth network."""
    flat = x.reshape(x.shape[0], -1)
    return jnp.tanh(flat @ params["first"] + params["bias"][None]) @ params["second"]


def rectified(params: Any, x: Any) -> Any:
    """A batch-first piecewise linear network."""
    flat = x.reshape(x.shape[0], -1)
    return jax.nn.relu(flat @ params["first"] + params["bias"][None]) @ params["second"]
