"""Numbers of captum 0.9.0's classes for language models, made by `tests/peers/generated_text.py`."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import language
from shared.language import LENGTH, VOCABULARY, WIDTH, decoder

# fmt: off
CAPTUM = {
    "input_x_gradient": [
        [-0.001631, -0.000529, 0.018211, 0.001557, 0.192902], [0.002993, 0.000586, -0.005407, -8.9e-05, -0.054364],
        [-0.003807, -0.000564, 0.003799, 0.000234, 0.047813],
    ],
    "integrated_gradients": [
        [0.003144, 0.001061, 0.018267, 0.000446, 0.276376], [0.002351, -0.000529, -0.000825, -0.000614, -0.026889],
        [-0.00274, 0.000957, -0.000459, 0.001454, 0.0206],
    ],
    "feature_ablation": [
        [-0.002271, 0.000942, 0.005011, 0.001104, 0.258722], [0.002314, -0.000458, 0.000264, -0.000602, -0.025035],
        [-0.002683, 0.000871, -0.000943, 0.001361, 0.019843],
    ],
    "shapley_values": [
        [0.004524, 0.000979, 0.017181, 0.000511, 0.276099], [0.002284, -0.000524, -0.001093, -0.000621, -0.026552],
        [-0.002721, 0.000951, -0.000379, 0.001455, 0.020506],
    ],
}
# fmt: on


def wave(shift, *shape):
    return jnp.asarray(np.sin(shift + 2.3 * np.arange(np.prod(shape))).reshape(shape), jnp.float32)


def waves():
    """The weights of the peer's model."""
    shapes = [(WIDTH, WIDTH)] * 4 + [(WIDTH, 2 * WIDTH), (2 * WIDTH, WIDTH)]
    names = ("q", "k", "v", "o", "up", "down")
    block = {name: wave(3 + i, *shape) for i, (name, shape) in enumerate(zip(names, shapes, strict=True))}
    outer = {"embed": wave(0, VOCABULARY, WIDTH), "position": wave(1, LENGTH, WIDTH)}
    return {**outer, "unembed": wave(2, WIDTH, VOCABULARY), "blocks": [block]}


def absent(x):
    """Token 7 in the place of each of the prompt's: captum leaves what was generated as it is."""
    return jnp.where(jnp.arange(x.shape[0]) < 5, 7, x)


@pytest.mark.parametrize("name", [n if n == "feature_ablation" else pytest.param(n, marks=pytest.mark.slow)
                                  for n in CAPTUM])  # fmt: skip
def test_equals_captum(name):
    method = {
        "input_x_gradient": jaxplain.input_x_gradient,
        "integrated_gradients": functools.partial(jaxplain.integrated_gradients, baseline=absent, steps=64),
        "feature_ablation": functools.partial(jaxplain.feature_ablation, baseline=absent),
        "shapley_values": functools.partial(jaxplain.shapley_values, baseline=absent),
    }[name]
    f = language.token_log_probability(decoder, waves())
    found = language.explain_generation(method, f, [3, 1, 4, 1, 5], [2, 6, 5], longest=7)
    np.testing.assert_allclose(found[:, :5], CAPTUM[name], atol=5e-6)
