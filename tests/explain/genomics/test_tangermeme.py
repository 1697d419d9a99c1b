"""The same figures as tangermeme 1.6.0 on torch 2.14.1, made by `tests/peers/tangermeme_numbers.py`."""

import jax
import numpy as np

from jaxplain import deep_shap, genomics

MUTATIONS = [
    [0.0, -0.49766, -0.2545, -0.18952],
    [-0.02694, 0.0, -0.07947, -0.05812],
    [0.0, 0.1963, 0.10351, -0.31768],
    [-0.15628, -0.21695, 0.0, -0.10806],
    [0.0, -0.2999, -0.00744, 0.27298],
    [-0.23343, -0.18341, 0.10018, 0.0],
    [0.11097, 0.0, -0.25571, -0.22966],
    [0.0, 0.12303, 0.14686, 0.07646],
]
HYPOTHETICAL = [
    [0.0, -0.19911, -0.39325, -0.30428],
    [0.13732, 0.11521, -0.00539, -0.05169],
    [-0.09319, 0.10896, 0.02417, -0.22608],
    [-0.13727, 0.03752, 0.20311, 0.12227],
    [-0.08214, -0.08951, 0.11213, 0.23388],
    [0.0, 0.01139, -0.02528, -0.05748],
    [0.06952, 0.0, -0.09882, -0.08537],
    [0.0, 0.0621, 0.10322, 0.06446],
]
ACTUAL = [0.0, 0.11521, -0.09319, 0.20311, -0.08214, -0.05748, 0.0, 0.0]


def waves(*shape, step):
    return np.sin(step * np.arange(1, np.prod(shape) + 1)).reshape(shape).astype(np.float32)


def encoded(text):
    return np.eye(4, dtype=np.float32)[["ACGT".index(letter) for letter in text]]


def network(x):
    """A convolution over five positions, a dense layer and an output, with ReLU between."""
    names = ("NCH", "OIH", "NCH")
    h = jax.lax.conv_general_dilated(x.T[None], waves(3, 4, 5, step=1), (1,), "VALID", dimension_numbers=names)[0]
    h = jax.nn.relu(h + 0.1 * waves(3, step=4)[:, None]).reshape(12)
    h = jax.nn.relu(waves(5, 12, step=2) @ h + 0.1 * waves(5, step=5))
    return (waves(1, 5, step=3) @ h + 0.1 * waves(1, step=6))[0]


def test_the_figures_are_those_of_tangermeme():
    x, references = encoded("ACAGATCA"), np.stack([encoded("AGATCACA"), encoded("ATCAGACA")])
    np.testing.assert_allclose(network(x), 0.06019, atol=1e-5)
    np.testing.assert_allclose(genomics.saturation_mutagenesis(network)(x), MUTATIONS, atol=2e-5)
    found = np.asarray(genomics.hypothetical_contributions(network, baseline=references)(x))
    np.testing.assert_allclose(found, HYPOTHETICAL, atol=2e-5)
    np.testing.assert_allclose((found * x).sum(axis=1), ACTUAL, atol=2e-5)
    np.testing.assert_allclose(np.asarray(deep_shap(network, references)(x)).sum(axis=1), ACTUAL, atol=2e-5)
