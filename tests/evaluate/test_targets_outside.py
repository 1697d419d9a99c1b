"""Labels outside the model's outputs are refused by all that evaluates batches, as by `explain_batch`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import evaluate

WEIGHTS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
X = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
KEY = jax.random.key(0)


def apply(params, batch):
    return jnp.tanh(batch @ params)


F = jaxplain.logit(apply, WEIGHTS)
E = jaxplain.gradient(F)
CALLS = {
    "a score inside": lambda y: evaluate.evaluate_batch(evaluate.deletion(F), X, X, y),
    "an explanation inside": lambda y: evaluate.evaluate_batch(
        evaluate.max_sensitivity(E, radius=0.1), X, X, y, key=KEY
    ),
    "compare": lambda y: evaluate.compare(
        F, {"gradient": jaxplain.gradient}, {"deletion": evaluate.deletion}, (X, y), KEY, samples=10
    ),
    "compare_models": lambda y: evaluate.compare_models(jaxplain.gradient, [(apply, WEIGHTS)] * 2, (X, y)),
}


@pytest.mark.parametrize("wrong", [3, -1, -4])
@pytest.mark.parametrize("call", CALLS)
def test_labels_outside_the_outputs_are_named(call, wrong):
    labels = np.array([0, 1, 2, wrong])
    with pytest.raises(ValueError, match=f"target {wrong} is outside the model's 3 outputs"):
        CALLS[call](labels)
    CALLS[call](np.array([0, 1, 2, 2]))
