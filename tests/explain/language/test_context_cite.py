"""ContextCite on contexts whose answer is known, its optimality, and games over segments."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import language
from shared.language import VOCABULARY, decoder, parameters

KEY = jax.random.key(0)
N, SAMPLES = 40, 64
GROUPS = np.repeat(np.arange(N), 3)
WEIGHTS = np.zeros(N)
WEIGHTS[[3, 17, 31]] = [2.0, -1.0, 0.5]


def parts(x):
    """A score that is linear in which parts (of three tokens) still stand."""
    there = jnp.all(x.reshape(N, 3) == 1, axis=1)
    return jnp.asarray(WEIGHTS, x_dtype()) @ there - 2.0


def x_dtype():
    return jnp.float64 if jax.config.jax_enable_x64 else jnp.float32


def test_the_support_of_a_sparse_linear_context_is_found_and_the_solution_is_optimal():
    with jax.enable_x64(True):
        e = language.context_cite(parts, groups=GROUPS, odds=False, penalty=0.02, samples=SAMPLES)
        found = jax.jit(e)(KEY, jnp.ones(3 * N, jnp.int32))
        draw = jax.random.fold_in(KEY, 0)
        masks = np.array([e.kept(draw, k, N) for k in range(SAMPLES)], np.float64)
        weights, refitted = np.asarray(found.weights), np.asarray(found.refitted)
    assert set(np.flatnonzero(weights)) == {3, 17, 31}
    np.testing.assert_allclose(refitted, WEIGHTS, atol=1e-10)
    # The conditions of Karush, Kuhn and Tucker: slopes equal the penalty on the support, and stay below it elsewhere.
    outcomes = masks @ WEIGHTS - 2
    residual = outcomes - outcomes.mean() - (masks - masks.mean(0)) @ weights
    slopes = (masks - masks.mean(0)).T @ residual / SAMPLES
    support = weights != 0
    np.testing.assert_allclose(slopes[support], 0.02 * np.sign(weights[support]), atol=1e-6)
    assert np.abs(slopes[~support]).max() <= 0.02 + 1e-6
    assert (np.abs(weights) <= np.abs(WEIGHTS) + 1e-6).all()
    np.testing.assert_allclose(found.linearity, 1, atol=0.01)
    np.testing.assert_allclose(np.asarray(found.attribution).reshape(N, 3).sum(1), weights, atol=1e-6)


@pytest.mark.slow
def test_the_log_odds_of_a_continuation_are_modelled_and_their_linearity_is_measured():
    f = language.sequence_log_probability(decoder, parameters())
    prompt, text = jnp.array([3, 1, 4, 1, 5, 9, 2, 6]), jnp.array([5, 3])
    groups = jnp.array([0, 0, 1, 1, 2, 2, 3, 3])
    e = language.context_cite(f, groups=groups, samples=32, unseen=16, penalty=0.0, batch_size=16)
    found = jax.jit(e)(KEY, prompt, None, text)
    draw = jax.random.fold_in(KEY, 0)
    masks = np.array([e.kept(draw, k, 4) for k in range(48)])
    ablated = jnp.where(masks[:, groups], prompt[None], 0)
    log = np.asarray(jax.jit(jax.vmap(f, (0, None, None)))(ablated, 8, text), np.float64)
    odds = log - np.log1p(-np.exp(log))
    design = np.concatenate([masks[:32], np.ones((32, 1))], axis=1)
    solution = np.linalg.lstsq(design, odds[:32], rcond=None)[0]
    np.testing.assert_allclose(found.weights, solution[:4], atol=1e-3)
    np.testing.assert_allclose(found.intercept, solution[4], atol=1e-3)
    ranks = [np.unique(v, return_inverse=True, return_counts=True) for v in (masks[32:] @ solution[:4], odds[32:])]
    spread = [(np.cumsum(c) - (c + 1) / 2)[i] for _, i, c in ranks]
    np.testing.assert_allclose(found.linearity, np.corrcoef(*spread)[0, 1], atol=0.1)


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_shapley_values_over_segments_of_an_additive_model(every):
    """Weight times (value - absent value), for each segment; exact with up to 12, and other games agree."""
    text = "One two. Three! Four five six? " * 2
    offsets = [(i, i + 1) for i in range(len(text))]
    found = language.segments(text, offsets, by="sentence")
    assert len(found.names) == 6
    ids = jnp.array([ord(c) % 7 + 1 for c in text])
    table, place = jnp.arange(8.0) ** 2, jnp.linspace(-1, 1, len(text))
    f = lambda x: (table[x] * place).sum()  # noqa: E731
    wanted = np.bincount(found.groups, (np.asarray(table[ids]) - float(table[2])) * np.asarray(place))
    games = [jaxplain.shapley_values(f, baseline=2, groups=found.groups, batch_size=64)]
    if every:
        settings = {"baseline": 2, "groups": found.groups, "batch_size": 64}
        games = [
            jaxplain.kernel_shap(f, samples=48, **settings),
            language.context_cite(f, odds=False, penalty=0.0, **settings),
            jaxplain.owen_values(f, found.groups, baseline=2, samples=2),
        ]
    for e in games:
        a = jax.jit(e)(KEY, ids) if e.needs_key else jax.jit(e)(ids)
        a = a.attribution if hasattr(a, "attribution") else a
        np.testing.assert_allclose(np.bincount(found.groups, np.asarray(a)), wanted, rtol=1e-3, atol=2e-3)


def test_what_is_refused_says_why():
    with pytest.raises(ValueError, match=r"the score is .* which is no log-probability. Pass `odds=False`"):
        language.context_cite(lambda x: x.sum() + 1.0)(KEY, jnp.array([1, 2]))
    with pytest.raises(ValueError, match="`unseen` has to be at least 2"):
        language.context_cite(parts, unseen=1)
    with pytest.raises(ValueError, match="`penalty` has to be finite and zero or more"):
        language.context_cite(parts, penalty=-1.0)
    with pytest.raises(TypeError, match="it is random and needs a key first"):
        language.context_cite(parts)(jnp.ones(3 * N, jnp.int32))


def test_parts_that_never_vary_have_no_weight():
    f = lambda x: jnp.log(jax.nn.sigmoid(3.0 * (x[0] == 5) - 1.0))  # noqa: E731
    found = jax.jit(language.context_cite(f, samples=3, unseen=4))(KEY, jnp.array([5, VOCABULARY]))
    assert np.isfinite(found.weights).all()
