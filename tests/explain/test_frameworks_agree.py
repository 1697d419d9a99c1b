"""The same network in Linen, NNX, Haiku and Equinox has the same explanations, whatever the framework traces."""

import functools

import jax
import numpy as np
import pytest

pytest.importorskip("equinox", reason="Equinox is not installed; it is part of the test extra")
pytest.importorskip("haiku", reason="Haiku is not installed; it is part of the test extra")

import jaxplain
from shared.four_frameworks import WIDTH, score
from shared.tables import halves

INPUTS = {"transformer": (5, WIDTH), "network": (6, 6, 2)}


def patched(f, framework, body):
    """The linear effect of each token (after attention), or of each place (after the second convolution)."""
    layer, axes = ("attention", 0) if body == "transformer" else ("conv_1", (0, 1))
    if framework == "equinox":  # channels first, and its layers in a dict
        layer, axes = f"layers/{layer}", 0 if axes == 0 else (1, 2)
    return jaxplain.attribution_patching(f, layer, axes=axes)


# (x, other, framework, body) -> what has to be the same
METHODS = {
    "value": lambda f, x, other, *_: f(x, 0),
    "gradient": lambda f, x, other, *_: jaxplain.gradient(f)(x, 0),
    "lrp": lambda f, x, other, *_: jaxplain.lrp(f, jaxplain.relevance.epsilon(1e-6))(x, 0),
    "deep_lift": lambda f, x, other, *_: jaxplain.deep_lift(f, baseline=other)(x, 0),
    "guided_backprop": lambda f, x, other, *_: jaxplain.guided_backprop(f)(x, 0),
    "attribution_patching": lambda f, x, other, *where: patched(f, *where)(x, other, 0),
}


@functools.cache
def found(framework, body):
    """What each method gives, by one compiled program."""
    x, other = np.random.default_rng(1).normal(size=(2, *INPUTS[body])).astype(np.float32)
    f = score(framework, body)

    def explain(x, other):
        return {name: method(f, x, other, framework, body) for name, method in METHODS.items()}

    return jax.tree.map(np.asarray, jax.jit(explain)(x, other))


@pytest.mark.parametrize("body", INPUTS)
@pytest.mark.parametrize("framework", halves(["equinox", "haiku", "nnx"]))
@pytest.mark.sampled(4)
def test_the_framework_makes_no_difference(framework, body):
    wrong = []
    for method in METHODS:
        right, ours = found("linen", body)[method], found(framework, body)[method]
        assert right.shape == ours.shape, method
        error = np.abs(right - ours).max() / np.abs(right).max()
        if not error < 1e-5:
            wrong.append(f"{method}: {error:.1e} of {np.abs(right).max():.2g}")
    assert not wrong


@pytest.mark.slow
def test_linens_own_values_are_explained_completely():
    """What the others are compared with adds up to the change of the score, where the method says so."""
    for body, shape in INPUTS.items():
        x, other = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
        f = score("linen", body)
        total = found("linen", body)["deep_lift"].sum()
        np.testing.assert_allclose(total, f(x, 0) - f(other, 0), rtol=1e-4, atol=1e-5, err_msg=body)
