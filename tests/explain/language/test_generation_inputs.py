"""What the score of generated text takes besides the tokens: masks, token types, numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import language
from shared.language import WIDTH, parameters

PARAMS = {**parameters(), "types": jax.random.normal(jax.random.key(9), (2, WIDTH))}
BLOCK = PARAMS["blocks"][0]


def masked(params, ids, mask, types, warmth):
    """Logits of ids with a table of token types, each from what a mask of tokens or of pairs lets it see."""
    length = ids.shape[1]
    h = params["embed"][ids] + params["types"][types] + params["position"][None, :length]
    seen = jnp.tril(jnp.ones((length, length), bool))[None] & (mask if mask.ndim == 3 else mask[:, None]).astype(bool)
    scores = jnp.where(seen, (h @ BLOCK["q"]) @ (h @ BLOCK["k"]).swapaxes(1, 2), -jnp.inf)
    h = h + jax.nn.softmax(scores / warmth[:, None, None]) @ h @ BLOCK["v"]
    return h @ params["unembed"]


F = language.token_logit(masked, PARAMS)
PROMPT, CONTINUATION = [3, 1, 4, 1, 5], [2, 6, 5]
IDS = jnp.array([3, 1, 4, 1, 5, 2, 6])
TYPES = np.array([0, 0, 1, 1, 0, 1, 1])
MASK = np.array([1, 0, 1, 1, 1, 1, 1])
PAIRS = np.tril(np.ones((7, 7), bool)) & ~np.eye(7, k=-2, dtype=bool)


@pytest.mark.parametrize("mask", [MASK, pytest.param(PAIRS, marks=pytest.mark.slow)], ids=["tokens", "pairs"])
@pytest.mark.sampled(2)
def test_they_go_along_with_the_tokens_padded_or_not(mask):
    inputs = (mask, TYPES, 2.0)
    explain = jax.jit(lambda t, y: jaxplain.input_x_gradient(F)(IDS, t, y, *map(jnp.asarray, inputs)))
    for longest in (None, 7):
        found = language.explain_generation(
            jaxplain.input_x_gradient, F, PROMPT, CONTINUATION, inputs=inputs, longest=longest
        )
        assert found.shape == (3, 7)
        for t, token in enumerate(CONTINUATION):
            np.testing.assert_allclose(found[t], explain(4 + t, token), rtol=1e-4, atol=1e-5)
    if mask is MASK:
        assert not np.asarray(found[:, 1]).any()  # nobody sees it


@pytest.mark.slow
def test_each_prompt_has_its_own_and_methods_without_derivatives_take_them_too():
    other = ([2, 2, 7], [1])
    inputs = [(MASK, TYPES, 2.0), (np.array([0, 1, 1]), np.array([1, 0, 1]), 3.0)]
    method = functools.partial(jaxplain.feature_ablation, baseline=0)
    both = language.explain_generation(method, F, [PROMPT, other[0]], [CONTINUATION, other[1]], inputs=inputs)
    alone = language.explain_generation(method, F, *other, inputs=inputs[1], longest=3)
    np.testing.assert_allclose(both[1], alone, rtol=1e-4, atol=1e-5)
    change = F(IDS, 4, 2, *map(jnp.asarray, inputs[0])) - F(IDS.at[2].set(0), 4, 2, *map(jnp.asarray, inputs[0]))
    np.testing.assert_allclose(both[0][0, 2], change, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("inputs", "error", "words"),
    [
        (MASK, TypeError, r"`inputs` has to be a tuple, \(attention_mask,\)"),
        ((MASK[:5], TYPES, 2.0), ValueError, r"`inputs` holds an array of shape \(5,\), but there are 7 tokens"),
        ((PAIRS * 1.0, TYPES, 2.0), TypeError, "what hides a pair that is padding is not known"),
        (("mask", TYPES, 2.0), TypeError, "`inputs` has to hold arrays and numbers"),
    ],
)
def test_what_is_refused(inputs, error, words):
    with pytest.raises(error, match=words):
        language.explain_generation(jaxplain.input_x_gradient, F, PROMPT, CONTINUATION, inputs=inputs)
    with pytest.raises(TypeError, match="`prompt` is a list of 2, so `inputs` has to be one, too"):
        language.explain_generation(jaxplain.input_x_gradient, F, [[1], [2]], [[1], [2]], inputs=MASK)
