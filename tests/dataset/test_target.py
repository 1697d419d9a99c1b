"""A target for all: what the data hold in its place stands aside, is refused or stays an input; pairs have no place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import explain_dataset, internals, language

X = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
WEIGHTS = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3)), jnp.float32)
MASK = (np.arange(24).reshape(6, 4) % 3 > 0).astype(np.float32)


def three(params, x, mask=None):
    with jax.named_scope("hidden"):
        hidden = x if mask is None else x * mask
    return jnp.tanh(hidden) @ params


def one(params, x):
    return jnp.tanh(x) @ params[:, :1]


def explained(e, data, **settings):
    return explain_dataset(e, data, out="memory", batch_size=4, progress=False, **settings).explanations


@pytest.mark.parametrize(
    "targets",
    [
        np.linspace(-3, 3, 6).astype(np.float32),
        np.linspace(-3, 3, 6).astype(np.float32)[:, None],
        np.arange(6)[:, None],
        np.arange(6) % 2 == 0,
    ],
    ids=["numbers", "a column", "labels in a column", "booleans"],
)
def test_targets_of_a_regression_stand_aside(targets):
    e = jaxplain.gradient(jaxplain.output(one, WEIGHTS))
    found = explained(e, (X, targets), target=0)
    np.testing.assert_allclose(found["attribution"], jaxplain.explain_batch(e, X, 0), atol=1e-6)
    assert (found["target"] == 0).all()
    assert "label" not in found


def test_one_hot_targets_never_become_an_input():
    e = jaxplain.gradient(jaxplain.logit(three, WEIGHTS))
    predicted = np.asarray(three(WEIGHTS, X)).argmax(-1)
    found = explained(e, (X, np.eye(3, dtype=np.float32)[np.arange(6) % 3]), target="predicted")
    np.testing.assert_allclose(found["attribution"], jaxplain.explain_batch(e, X, predicted), atol=1e-6)


def test_an_input_in_the_place_of_the_targets_is_refused_and_stays_one_behind_none():
    e = jaxplain.gradient(jaxplain.logit(three, WEIGHTS))
    with pytest.raises(ValueError, match=r"float32\[4\] for an example\) is no target for outputs of shape \(3,\)"):
        explained(e, (X, MASK), target="predicted")
    predicted = np.asarray(three(WEIGHTS, X, MASK)).argmax(-1)
    expected = jaxplain.explain_batch(e, X, predicted, MASK)
    for data in ((X, None, MASK), {"inputs": X, "args": (MASK,)}, (X, np.arange(6) % 3, MASK)):
        found = explained(e, data, target="predicted")
        np.testing.assert_allclose(found["attribution"], expected, atol=1e-6)


def test_a_function_without_outputs_keeps_what_is_no_label():
    e = jaxplain.gradient(lambda x, k: (x * k).sum())
    assert (explained(e, (X, np.arange(6)), target=2)["attribution"] == 2).all()
    with pytest.raises(ValueError, match=r"\(inputs, None, it\)"):
        explained(e, (X, MASK), target=2)


def test_pairs_and_places_of_a_text_have_no_place_for_a_target():
    f = jaxplain.logit(three, WEIGHTS)
    e = internals.activation_patching(f, "hidden", axes=0)
    wrapped = jaxplain.smoothgrad(e, sigma=0.1, samples=2)
    for pair, target in ((e, 1), (e, "predicted"), (wrapped, 1)):
        with pytest.raises(ValueError, match=r"activation_patching takes `corrupt`.*\(inputs, corrupt, \.\.\.\)"):
            explained(pair, (X, X[::-1].copy(), np.arange(6) % 3), target=target, key=jax.random.key(0))
    token = jaxplain.feature_ablation(language.token_logit(lambda params, x: jax.nn.one_hot(x, 3) + params[0], WEIGHTS))
    with pytest.raises(ValueError, match="token_logit takes `positions`"):
        explained(token, (np.ones((6, 4), int), np.arange(6) % 4, np.arange(6) % 3), target=1)


def test_one_input_of_a_pair_is_not_changed_alone():
    e = internals.activation_patching(jaxplain.logit(three, WEIGHTS), "hidden", axes=0)
    data = (X, X[::-1].copy(), np.arange(6) % 3)
    for setting in ("transform", "prepare"):
        with pytest.raises(ValueError, match=f"`{setting}` changes the input alone, but activation_patching"):
            explained(e, data, **{setting: lambda x: x / 2})
