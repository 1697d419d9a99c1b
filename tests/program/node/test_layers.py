"""Layers in one form: scales are folded into weights, whatever moves the outputs before the bias."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxplain

GENERATOR = np.random.default_rng(0)
KERNEL, SCALE = GENERATOR.normal(size=(2, 2, 1, 3)).astype(np.float32), np.array([2.0, -1.0, 0.5], np.float32)
BIAS, HEAD = GENERATOR.normal(size=(2, 12)).astype(np.float32)
X = GENERATOR.normal(size=(3, 3, 1)).astype(np.float32)


def convolved(x, kernel):
    return lax.conv_general_dilated(x[None], kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.slow
def test_a_scale_is_folded_where_places_and_features_become_one_axis():
    """As of a convolution with a scale, flattened before its bias."""
    moves = {
        "flattened": lambda z: z.reshape(12),
        "turned and flattened": lambda z: z.transpose(0, 3, 1, 2).reshape(12),
    }
    for name, move in moves.items():
        scaled = lambda x, move=move: jax.nn.relu(move(convolved(x, KERNEL) * SCALE[None, None, None]) + BIAS) @ HEAD  # noqa: E731
        folded = lambda x, move=move: jax.nn.relu(move(convolved(x, KERNEL * SCALE[None, None, None])) + BIAS) @ HEAD  # noqa: E731
        for rule in (jaxplain.relevance.gamma(0.3), jaxplain.relevance.z_plus()):
            found, right = (jaxplain.lrp(f, rule)(jnp.asarray(X)) for f in (scaled, folded))
            np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-6, err_msg=name)
