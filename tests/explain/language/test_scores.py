"""Scores of text against NumPy, their sums and differences, and what they refuse."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import language
from shared.language import VOCABULARY, decoder, parameters

PARAMS = parameters()
IDS = jnp.array([3, 1, 4, 1, 5])
LOGITS = np.asarray(decoder(PARAMS, IDS[None])[0], np.float64)
LOG = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))


def made(name, **settings):
    return getattr(language, name)(decoder, PARAMS, **settings)


def test_every_score_is_its_formula():
    other = np.asarray(jax.random.normal(jax.random.key(1), (2, VOCABULARY)), np.float64)
    log_other = other - np.log(np.exp(other).sum(-1, keepdims=True))
    cases = {
        ("token_logit", 2, 7): LOGITS[2, 7],
        ("token_logit", (0, 4), (7, 2)): LOGITS[0, 7] + LOGITS[4, 2],
        ("token_log_probability", 2, 7): LOG[2, 7],
        ("token_log_probability", (1, 2, 3), (4, 1, 5)): LOG[1, 4] + LOG[2, 1] + LOG[3, 5],
        ("entropy", 3, None): -(np.exp(LOG[3]) * LOG[3]).sum(),
        ("entropy", (0, 1), None): -(np.exp(LOG[:2]) * LOG[:2]).sum(),
    }
    for (name, positions, tokens), wanted in cases.items():
        np.testing.assert_allclose(made(name)(IDS, positions, tokens), wanted, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(made("contrastive")(IDS, 4, (2, 9)), LOGITS[4, 2] - LOGITS[4, 9], rtol=1e-5)
    gap = LOG[4, 2] - LOG[4, 9]  # the same of log-probabilities
    np.testing.assert_allclose(made("contrastive")(IDS, 4, (2, 9)), gap, rtol=1e-5)
    two = made("contrastive")(IDS, [0, 4], ([1, 2], [3, 9]))
    np.testing.assert_allclose(two, LOGITS[0, 1] - LOGITS[0, 3] + gap, rtol=1e-5)
    wanted = (np.exp(log_other) * (log_other - LOG[[1, 3]])).sum()
    np.testing.assert_allclose(made("kl_to")(IDS, [1, 3], jnp.asarray(other, jnp.float32)), wanted, rtol=1e-5)
    assert abs(float(made("kl_to")(IDS, 2, decoder(PARAMS, IDS[None])[0, 2]))) < 1e-6


def test_a_continuation_is_scored_behind_the_prompts_real_tokens():
    f, tokens = jax.jit(made("sequence_log_probability")), jnp.array([4, 1, 5])
    wanted = LOG[1, 4] + LOG[2, 1] + LOG[3, 5]
    np.testing.assert_allclose(f(IDS[:2], None, tokens), wanted, rtol=1e-5)
    for padding in (0, 9):  # which is behind what is read
        padded = jnp.concatenate([IDS[:2], jnp.full(6, padding)])
        np.testing.assert_allclose(f(padded, 2, tokens), wanted, rtol=1e-5)
    np.testing.assert_allclose(f(IDS[:2], 2, 4), LOG[1, 4], rtol=1e-5)
    whole = made("token_log_probability")(IDS, [1, 2, 3], tokens)
    np.testing.assert_allclose(whole, wanted, rtol=1e-5)
    # The continuation stays when the prompt's ids there are changed.
    np.testing.assert_allclose(f(IDS.at[2:].set(0), 2, tokens), wanted, rtol=1e-5)


def test_all_targets_at_once_and_other_outputs():
    f = language.token_log_probability(lambda p, x: {"logits": decoder(p, x), "cache": 0}, PARAMS, select="logits")
    found = jax.vmap(f, (None, 0, 0))(IDS, jnp.arange(4), IDS[1:])
    np.testing.assert_allclose(found, [LOG[p, IDS[p + 1]] for p in range(4)], rtol=1e-5)


def test_an_impossible_token_takes_no_part_in_the_entropy():
    f = language.entropy(lambda p, x: p[x], jnp.array([[0.0, 0.0, -jnp.inf]]))
    np.testing.assert_allclose(f(jnp.array([0]), 0), np.log(2), rtol=1e-6)
    g = jax.grad(lambda t: language.entropy(lambda p, x: p[x], t)(jnp.array([0]), 0))(jnp.array([[0.0, 1.0, -jnp.inf]]))
    assert np.isfinite(g).all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: made("token_logit")(IDS, 5, 1), ValueError, "position 5 is outside the sequence of 5 tokens"),
        (lambda: made("token_logit")(IDS, -1, 1), ValueError, "position -1 .*not back from the end"),
        (lambda: made("token_logit")(IDS, 1, 11), ValueError, "token id 11 is outside the vocabulary of 11"),
        (lambda: made("token_logit")(IDS, 1, -1), ValueError, "token id -1 is outside"),
        (lambda: made("token_logit")(IDS, 1, [1, 2]), ValueError, "there are 1 positions, but 2 tokens"),
        (lambda: made("token_logit")(IDS, 1.0, 1), TypeError, "`positions` has to be an integer or integers"),
        (lambda: made("token_logit")(IDS, 1, "a"), TypeError, "`tokens` has to be an integer"),
        (lambda: made("token_logit")(IDS, 1), ValueError, "the tokens are missing"),
        (lambda: made("token_logit")(IDS), ValueError, "the positions are missing"),
        (lambda: made("contrastive")(IDS, 1, 3), TypeError, r"`tokens` has to be a pair \(this token, that token\)"),
        (lambda: made("kl_to")(IDS, 1, 3), TypeError, "pass the other run's logits"),
        (lambda: made("kl_to")(IDS, 1, jnp.zeros(3)), ValueError, r"the other run's logits have shape \(3,\)"),
        (lambda: made("entropy")(IDS, []), TypeError, "`positions` has to be an integer"),
        (lambda: made("sequence_log_probability")(IDS, 2), ValueError, "the continuation is missing"),
        (lambda: made("sequence_log_probability")(IDS, 0, IDS), ValueError, "`start` is 0, but the prompt holds 5"),
        (lambda: made("sequence_log_probability")(IDS, 6, IDS), ValueError, "`start` is 6"),
        (
            lambda: made("sequence_log_probability")(IDS, 2, jnp.zeros(0, int)),
            ValueError,
            "`tokens` is empty: there is no token to score",
        ),
        (lambda: made("sequence_log_probability")(IDS, 2, [12]), ValueError, "token id 12 is outside"),
        (lambda: made("sequence_log_probability")(IDS * 1.0, 2, IDS), TypeError, r"pass the prompt's token ids \[S\]"),
        (lambda: language.token_logit(lambda p, x: p[x][:, 0], PARAMS["embed"])(IDS, 1, 1), ValueError, r"\[T, K\]"),
        (lambda: language.token_logit(None, PARAMS), TypeError, "`apply` has to be a function"),
    ],
)
@pytest.mark.sampled(2)
def test_what_is_refused_says_why(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_drivers_look_at_batches_and_traced_faults_are_nan():
    e = jaxplain.feature_ablation(made("token_logit"), baseline=0)
    rows = jnp.stack([IDS, IDS])
    with pytest.raises(ValueError, match="position 5 is outside"):
        jaxplain.explain_batch(e, rows, jnp.array([1, 5]), jnp.array([1, 1]))
    with pytest.raises(ValueError, match="token id 11 is outside"):
        jaxplain.explain_batch(e, rows, jnp.array([1, 1]), jnp.array([1, 11]))
    f = jax.jit(made("token_logit"))
    assert np.isnan(f(IDS, 5, 1))
    assert np.isnan(f(IDS, 1, 11))
    assert np.isnan(jax.jit(made("sequence_log_probability"))(IDS, 0, IDS))
