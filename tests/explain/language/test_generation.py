"""Attribution of generated text: T calls of the method in one program, whatever the lengths and the padding."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import language
from jaxplain.explain.language import generation
from shared.language import VOCABULARY, behind_embedding, decoder, parameters

PARAMS = parameters()
F = language.token_log_probability(decoder, PARAMS)
PROMPT, CONTINUATION = [3, 1, 4, 1, 5], [2, 6, 5]
IDS = jnp.array(PROMPT + CONTINUATION[:-1])
KEY = jax.random.key(0)
OWN = jax.random.fold_in(KEY, 0)
partial = functools.partial
explain = partial(language.explain_generation, key=KEY)
METHODS = {
    "input_x_gradient": jaxplain.input_x_gradient,
    "integrated_gradients": partial(jaxplain.integrated_gradients, steps=4, baseline=2),
    "smoothgrad": lambda f: jaxplain.smoothgrad(jaxplain.gradient(f), sigma=0.1, samples=2),
    "lrp": lambda f: jaxplain.lrp(f, jaxplain.relevance.attn_lrp()),
    "feature_ablation": partial(jaxplain.feature_ablation, baseline=0),
    "occlusion": partial(jaxplain.occlusion, window=1, baseline=0),
    "rise": partial(jaxplain.rise, samples=8, baseline=0, cells=99),
    "shapley_sampling": partial(jaxplain.shapley_sampling, samples=4, baseline=0),
    "kernel_shap": partial(jaxplain.kernel_shap, samples=80, baseline=0),
    "lime": partial(jaxplain.lime, samples=64, baseline=0),
}
QUICK = ("input_x_gradient",)


@jax.jit
def single(e, *args):
    """One call of an explanation, for the whole sequence: what comes later has no part in it."""
    return e(OWN, IDS, *args) if e.needs_key else e(IDS, *args)


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in METHODS])
def test_it_is_a_call_for_each_target_and_padding_changes_nothing(name):
    method = METHODS[name]
    found = explain(method, F, PROMPT, CONTINUATION)
    assert found.shape == (3, 7)
    e = method(F)
    if hasattr(e, "max_groups"):  # their draws depend on how groups are given
        e = method(F, groups=jnp.arange(7)) if name == "feature_ablation" else None
    for t, token in enumerate(CONTINUATION) if e is not None else ():
        alone = single(e, 4 + t, token)
        np.testing.assert_allclose(found[t, : 5 + t], alone[: 5 + t], atol=1e-5, rtol=1e-4)
        assert not np.asarray(found[t, 5 + t :]).any()
    if name == "smoothgrad":  # its noise is drawn for the padded length
        return
    exact = explain(method, F, PROMPT, CONTINUATION, longest=7)  # not padded at all
    np.testing.assert_allclose(found, exact, atol=2e-5)
    batched = explain(method, F, [PROMPT, PROMPT * 4], [CONTINUATION, [1]])
    np.testing.assert_allclose(found, batched[0], atol=2e-5)
    assert batched[1].shape == (1, 20)


def test_gradients_are_those_of_the_embedding():
    rows = PARAMS["embed"][IDS]
    found = explain(METHODS["input_x_gradient"], F, PROMPT, CONTINUATION)

    def scores(h):
        return jax.nn.log_softmax(behind_embedding(PARAMS, h[None])[0])[jnp.arange(4, 7), jnp.array(CONTINUATION)]

    np.testing.assert_allclose(found, (jax.jit(jax.jacrev(scores))(rows) * rows[None]).sum(-1), atol=1e-5)


def test_contrastive_is_the_difference_of_two():
    foils = [7, 0, 9]
    for name in QUICK:
        both = explain(METHODS[name], language.contrastive(decoder, PARAMS), PROMPT, CONTINUATION, against=foils)
        e = METHODS[name](language.token_logit(decoder, PARAMS))
        for t in range(3):
            apart = [single(e, 4 + t, k) for k in (CONTINUATION[t], foils[t])]
            np.testing.assert_allclose(both[t], jnp.where(jnp.arange(7) < 5 + t, apart[0] - apart[1], 0), atol=1e-5)


@pytest.mark.slow
def test_games_of_groups_add_up_and_are_those_of_the_sequence():
    groups = np.array([0, 0, 1, 1, 1, 2, 3])
    method = partial(jaxplain.shapley_values, baseline=0)
    found = explain(method, F, PROMPT, CONTINUATION, groups=groups)
    alone = jaxplain.shapley_values(F, baseline=0, groups=groups)
    for t, token in enumerate(CONTINUATION):
        np.testing.assert_allclose(found[t], jnp.where(jnp.arange(7) < 5 + t, alone(IDS, 4 + t, token), 0), atol=1e-5)
        np.testing.assert_allclose(found[t].sum(), F(IDS, 4 + t, token) - F(0 * IDS, 4 + t, token), atol=1e-5)
    ablated = explain(METHODS["feature_ablation"], F, PROMPT, CONTINUATION, groups=groups)
    alone = jaxplain.feature_ablation(F, baseline=0, groups=groups)(IDS, 6, 5)
    np.testing.assert_allclose(ablated[2], alone, atol=1e-5)


@pytest.mark.slow
def test_32_prompts_of_different_lengths_compile_three_programs_at_most():
    draw = np.random.default_rng(0)
    sizes = draw.permutation(np.arange(2, 34))
    prompts = [draw.integers(1, VOCABULARY, size).tolist() for size in sizes]
    continuations = [draw.integers(1, VOCABULARY, 1 + size % 3).tolist() for size in sizes]
    before = generation._program.plain._cache_size()
    found = explain(METHODS["input_x_gradient"], F, prompts, continuations)
    assert generation._program.plain._cache_size() - before <= 3
    assert [a.shape for a in found] == [(1 + s % 3, s + s % 3) for s in sizes]
    compiled = generation._program.plain._cache_size()
    other = language.token_log_probability(decoder, parameters(1))
    again = explain(METHODS["input_x_gradient"], other, prompts[::-1], continuations[::-1])
    assert generation._program.plain._cache_size() == compiled
    assert not np.allclose(again[-1], found[0])


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.cpu
def test_the_memory_of_many_targets_is_that_of_one_gradient():
    length = 1024
    params = parameters(depth=4, length=length)
    e = jaxplain.input_x_gradient(language.token_log_probability(decoder, params))
    ids, tokens, sizes = np.zeros(length, np.int32), np.zeros(32, np.int32), np.array([length, 1000, 24], np.int32)
    ours = jax.jit(generation._fast).lower(e, e.score, None, ids, sizes, tokens, np.zeros(1, np.int8), ()).compile()

    def bare(params, h, position):
        return jax.nn.log_softmax(behind_embedding(params, h[None])[0])[position, 3]

    one = jax.jit(jax.grad(bare, 1)).lower(params, params["position"], 3).compile()
    used = [c.memory_analysis() for c in (ours, one)]
    ours, one = (u.temp_size_in_bytes + u.output_size_in_bytes for u in used)
    assert ours <= 1.2 * one


def leaks(params, ids):
    """Every position sees all tokens."""
    return behind_embedding(params, params["embed"][ids] + params["embed"][ids].mean(axis=1, keepdims=True))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: explain(jaxplain.gradient, F, PROMPT, []), ValueError, r"`continuation` holds no tokens \(length 0\)"),
        (lambda: explain(jaxplain.gradient, F, [], [1]), ValueError, "`prompt` holds no tokens"),
        (lambda: explain(jaxplain.gradient, F, [1.5, 2.0], [1]), TypeError, "`prompt` has to be token ids"),
        (
            lambda: explain(jaxplain.gradient, F, [1, 11], [1]),
            ValueError,
            "token id 11 is outside the vocabulary of 11",
        ),
        (lambda: explain(jaxplain.gradient, F, [1, -1], [1]), ValueError, "token id -1 is outside"),
        (lambda: explain(jaxplain.gradient, F, [1, 2], [12]), ValueError, "token id 12 is outside the vocabulary"),
        (lambda: explain(jaxplain.gradient, F, [[1], [2]], [[1]]), ValueError, "`prompt` holds 2 .* holds 1"),
        (lambda: explain(jaxplain.gradient, F, [[1], [2]], 1), TypeError, "`continuation` has to be one, too"),
        (lambda: explain(jaxplain.gradient, F, [1, 2], [1], longest=1), ValueError, "has 2 tokens, but .* takes 1"),
        (lambda: explain(jaxplain.gradient, F, [1, 2], [1], groups=[0, 1]), TypeError, "gradient takes no `groups`"),
        (
            lambda: explain(METHODS["lime"], F, [1, 2], [1], groups=[0, 1, 1]),
            ValueError,
            r"`groups` has shape \(3,\), but there are 2 tokens",
        ),
        (lambda: explain(METHODS["lime"], F, [1, 2], [1], groups=[0, 2]), ValueError, "without gaps"),
        (
            lambda: explain(lambda f: jaxplain.owen_values(f, jnp.array([0, 1])), F, [1, 2], [1]),
            TypeError,
            "the groups of owen_values are of one length",
        ),
        (
            lambda: explain(lambda f: jaxplain.shapley_interactions(f, groups=None), F, [1, 2], [1], longest=2),
            TypeError,
            "has to return one number for each token",
        ),
        (lambda: explain(METHODS["lime"], F, [1], [1], key=None), ValueError, "is random and needs a key"),
        (lambda: explain(jaxplain.gradient, F, [1, 2], [1], against=[1, 2]), ValueError, "`against` holds 2 tokens"),
        (lambda: explain(None, F, [1], [1]), TypeError, "`method` has to be a function"),
        (
            lambda: explain(jaxplain.gradient, language.sequence_log_probability(decoder, PARAMS), [1], [1]),
            TypeError,
            "pass a score of single tokens",
        ),
        (
            lambda: explain(jaxplain.gradient, language.token_logit(leaks, PARAMS), PROMPT, CONTINUATION),
            ValueError,
            "the model is not causal",
        ),
    ],
)
def test_what_is_refused_says_why(call, error, words):
    with pytest.raises(error, match=words):
        call()
