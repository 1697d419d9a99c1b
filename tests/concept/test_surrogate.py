"""Global surrogates: the lasso and trees as scikit-learn has them, fidelity, concept read-out."""

import importlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Lasso
from sklearn.tree import DecisionTreeRegressor

from jaxplain import concept

KEY = jax.random.key(0)
X = np.asarray(jax.random.normal(jax.random.key(1), (200, 5))) * np.array([1.0, 2.0, 0.5, 1.0, 3.0], np.float32)


def steps(x):
    """Two outputs that a tree of two questions has exactly."""
    first = jnp.where(x[:, 0] <= 0.3, jnp.where(x[:, 2] <= -0.1, 1.0, 2.0), -1.0)
    return jnp.stack([first, -first], axis=1)


def smooth(x):
    return jnp.stack([2 * x[:, 0] - 0.5 * x[:, 1] + 0.1 * jnp.sin(x[:, 4]), 0.1 * x[:, 3] + 1], axis=1)


def halves():
    """The examples that a surrogate is made of, and those that are held out: a quarter of a permutation."""
    held = np.zeros(200, bool)
    held[np.asarray(jax.random.permutation(KEY, 200))[:50]] = True
    return X[~held], X[held]


def test_agreement_counts_the_examples_with_the_same_largest_output():
    def bent(x):  # the larger output of a third of the examples is not that of any line
        return jnp.stack([jnp.abs(x[:, 0]) - 0.5, 0.1 * x[:, 1]], axis=1)

    found = concept.sparse_surrogate(bent, X, key=KEY, penalty=0.0)
    held = halves()[1]
    same = np.argmax(np.asarray(found(held)), axis=1) == np.argmax(bent(held), axis=1)
    assert 0.3 < same.mean() < 0.95
    np.testing.assert_allclose(found.fidelity.agreement, same.mean(), rtol=1e-6)


def test_a_tree_is_found_with_its_rules_and_is_scikit_learns():
    found = concept.tree_surrogate(steps, X, key=KEY, depth=2)
    np.testing.assert_allclose(found.fidelity.explained, 1, atol=0.1)
    assert found.fidelity.agreement > 0.95
    rows, held = halves()
    peer = DecisionTreeRegressor(max_depth=2, min_samples_leaf=5, random_state=0).fit(rows, np.asarray(steps(rows)))
    np.testing.assert_allclose(found(held), peer.predict(held), rtol=1e-6)
    np.testing.assert_allclose(found(held.reshape(2, 25, 5))[1, 3], peer.predict(held)[28], rtol=1e-6)
    edge = jnp.asarray(found.threshold)[found.feature >= 0]  # a feature at the threshold goes to the left
    at = np.zeros((len(edge), 5), np.float32)
    at[np.arange(len(edge)), np.asarray(found.feature)[np.asarray(found.feature) >= 0]] = edge
    np.testing.assert_allclose(found(at), peer.predict(at), rtol=1e-6)
    text = found.text(["a", "b", "c", "d", "e"])
    assert text.startswith("a <= 0.")
    assert "  c <= -0." in text
    assert len(text.splitlines()) == 7  # two questions, each with both answers, and three leaves
    right = np.argmax(np.asarray(steps(held)), 1)
    assert found.fidelity.share == max(np.mean(right == 0), np.mean(right == 1))


@pytest.mark.slow
def test_the_lasso_is_scikit_learns():
    found = concept.sparse_surrogate(smooth, X, key=KEY, penalty=0.15)
    rows, held = (part.astype(np.float64) for part in halves())
    mean, size = rows.mean(0), rows.std(0)
    targets = np.asarray(smooth(rows), np.float64)
    for output in range(2):
        peer = Lasso(0.15, tol=1e-10).fit((rows - mean) / size, targets[:, output])
        np.testing.assert_allclose(found.weights[:, output], peer.coef_ / size, atol=1e-5)
        np.testing.assert_allclose(found(held)[:, output], peer.predict((held - mean) / size), atol=1e-4)
        score = peer.score((held - mean) / size, np.asarray(smooth(held))[:, output])
        np.testing.assert_allclose(found.fidelity.explained[output], score, atol=1e-4)
    assert (np.asarray(found.weights)[2:, 0] == 0).all()  # few features
    assert (np.asarray(found.weights)[:, 1] == 0).all()  # an output smaller than the penalty has none
    total = found.contributions(held).sum(axis=1) + found.intercept[None]
    np.testing.assert_allclose(total, found(held), atol=1e-5)
    again = concept.sparse_surrogate(smooth, X, key=KEY, penalty=0.15, batch_size=7)
    np.testing.assert_allclose(again.weights, found.weights, atol=1e-6)


def test_without_a_penalty_it_is_least_squares_and_one_output_has_no_classes():
    found = concept.sparse_surrogate(lambda x: x @ jnp.array([1.0, 0.0, -2.0, 0.5, 0.0]) + 3, X, key=KEY, penalty=0.0)
    np.testing.assert_allclose(found.weights[:, 0], [1, 0, -2, 0.5, 0], atol=1e-4)
    np.testing.assert_allclose(found.intercept, 3, atol=1e-4)
    assert np.isnan(found.fidelity.agreement)


@pytest.mark.slow
def test_a_readout_of_concepts_explains_what_they_carry():
    rng = np.random.default_rng(0)
    codes = rng.gamma(1.0, size=(200, 4, 3)).astype(np.float32)
    atoms = np.eye(3, 6, dtype=np.float32)
    other = rng.gamma(1.0, size=(200,)).astype(np.float32)
    h = codes @ atoms
    h[:, :, 5] = other[:, None]
    outputs = np.stack([2 * codes.mean(1)[:, 0] - codes.mean(1)[:, 2] + 1, other], axis=1)
    dictionary = concept.NonNegativeDictionary(jnp.asarray(atoms))
    found = concept.concept_readout(dictionary, h, outputs, key=KEY, penalty=0.0)
    np.testing.assert_allclose(found.weights[:, 0], [2, 0, -1], atol=1e-3)
    assert found.fidelity.explained[0] > 0.999  # the first output is a sum of concepts
    assert found.fidelity.explained[1] < 0.1  # the second is in none of them
    ridge = concept.concept_readout(dictionary, h, outputs, key=KEY, penalty=1.0)
    np.testing.assert_allclose(np.abs(ridge.weights[0, 0]), 1, atol=0.3)  # half, of independent codes


def test_scikit_learn_is_asked_for_by_name_where_it_is_absent(monkeypatch):
    real = importlib.import_module

    def absent(name, *rest):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ImportError, match=r"pip install jaxplain\[examples\].*sparse_surrogate"):
        concept.tree_surrogate(steps, X, key=KEY)


def test_bad_calls_are_told():
    dictionary = concept.NonNegativeDictionary(jnp.eye(5))
    for bad, words in {
        lambda: concept.tree_surrogate(steps, X[None], key=KEY): r"has shape \(1, 200, 5\); it has to be \[N, D\]",
        lambda: concept.tree_surrogate(steps, X, key=KEY, depth=0): "`depth` has to be at least 1",
        lambda: concept.sparse_surrogate(smooth, X[:3], key=KEY): "of 3 examples 1 would be held out",
        lambda: concept.sparse_surrogate(smooth, X, key=KEY, fraction=1.0): "`fraction` has to lie between 0 and 1",
        lambda: concept.sparse_surrogate(smooth, X, key=KEY, penalty=-1.0): "`penalty`",
        lambda: concept.sparse_surrogate(lambda x: x[None], X, key=KEY): r"\(200, 'K'\) is needed",
        lambda: concept.sparse_surrogate(lambda x: jnp.log(0 * x), X, key=KEY): "`outputs.x.` has 1000 NaN",
        lambda: concept.sparse_surrogate(smooth, X * np.nan, key=KEY): "`x` has 1000 NaN",
        lambda: concept.concept_readout(dictionary, X, X[:3], key=KEY): r"\(200, 'K'\) is needed",
        lambda: concept.concept_readout(dictionary, X[:, :3], X, key=KEY): r"activations \[..., 5\]",
    }.items():
        with pytest.raises((ValueError, TypeError), match=words):
            bad()


def test_what_was_found_is_said():
    rows = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
    two = lambda x: jnp.stack([2 * x[:, 0], -x[:, 0]], axis=1)  # noqa: E731
    linear = concept.sparse_surrogate(two, rows, key=jax.random.key(0))
    assert re.fullmatch(
        r"LinearSurrogate\(1 of 3 features; explains 1, 1 of each output's variance, agrees on 100.0% "
        r"\(largest class \d\d.\d%\)\)", repr(linear)
    )  # fmt: skip
    tree = concept.tree_surrogate(two, rows, key=jax.random.key(0), depth=2)
    assert repr(tree).startswith("TreeSurrogate(7 nodes, depth 2; explains 0.")
    said = []
    jax.eval_shape(lambda made: said.append(repr(made)), linear)
    assert said == ["LinearSurrogate(? of 3 features; fidelity not known)"]
