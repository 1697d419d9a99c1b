"""Concept vectors against closed forms, scikit-learn and each other; what is refused of what they are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain.concept import concept_similarity, concept_vectors


@pytest.fixture
def double():
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


def gaussians(count=60, size=5, seed=0):
    """Two classes with a shared covariance and unequal numbers."""
    rng = np.random.default_rng(seed)
    turn = rng.normal(size=(size, size))
    labels = np.arange(count) < count // 3
    return rng.normal(size=(count, size)) @ turn + labels[:, None] * rng.normal(size=size), labels


def cosine(a, b):
    a, b = np.ravel(a), np.ravel(b)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_lda_and_ridge_are_the_closed_form(double):
    rows, labels = gaussians()
    first, second = rows[labels], rows[~labels]
    inside = (len(first) - 1) * np.cov(first.T) + (len(second) - 1) * np.cov(second.T)
    right = np.linalg.solve(inside / (len(rows) - 2), first.mean(0) - second.mean(0))
    for settings in ({"how": "lda"}, {"how": "ridge", "penalty": 1e-10}, {"how": "ridge", "penalty": 0.0}):
        found = concept_vectors(rows, labels, **settings)
        assert abs(cosine(found.vectors[0], right) - 1) < 1e-6, settings
        np.testing.assert_allclose(np.linalg.norm(found.vectors[0]), 1)
    lda = concept_vectors(rows, labels, how="lda")
    # the border lies half-way between the means
    np.testing.assert_allclose(lda.vectors[0] @ (first.mean(0) + second.mean(0)) / 2 + lda.biases[0], 0, atol=1e-12)
    mean = concept_vectors(rows, labels, how="mean")
    assert abs(cosine(mean.vectors[0], first.mean(0) - second.mean(0)) - 1) < 1e-12


@pytest.mark.parametrize("shape", [(40, 6), (12, 30)], ids=["more examples", "more values"])
@pytest.mark.sampled(2)
def test_penalised_fits_are_those_of_scikit_learn(double, shape):
    from sklearn.linear_model import LogisticRegression, Ridge

    rng = np.random.default_rng(1)
    labels = np.arange(shape[0]) % 3 == 0
    rows = rng.normal(size=shape) + labels[:, None] * 0.7
    signs = np.where(labels, 1.0, -1.0)
    scatter = ((rows - rows.mean(0)) ** 2).sum()
    for penalty in (0.03, 1.0):
        alpha = penalty * scatter / shape[1]
        peers = {
            "ridge": Ridge(alpha=alpha, tol=1e-12).fit(rows, signs),
            "logistic": LogisticRegression(C=1 / alpha, tol=1e-12, max_iter=10_000).fit(rows, labels),
        }
        for how, peer in peers.items():
            weights, offset = np.ravel(peer.coef_), float(np.ravel(peer.intercept_)[0])
            found = concept_vectors(rows, labels, how=how, penalty=penalty)
            assert abs(cosine(found.vectors[0], weights) - 1) < 1e-6, (how, penalty)
            np.testing.assert_allclose(found.biases[0], offset / np.linalg.norm(weights), rtol=1e-3, err_msg=how)


def test_lda_of_more_values_than_examples_is_the_damped_closed_form(double):
    rows, labels = gaussians(count=12, size=30)
    first, second = rows[labels], rows[~labels]
    pooled = ((len(first) - 1) * np.cov(first.T) + (len(second) - 1) * np.cov(second.T)) / (len(rows) - 2)
    right = np.linalg.solve(pooled + 0.05 * np.trace(pooled) / 30 * np.eye(30), first.mean(0) - second.mean(0))
    found = concept_vectors(rows, labels, how="lda", penalty=0.05)
    assert abs(cosine(found.vectors[0], right) - 1) < 1e-9
    least = np.linalg.pinv(rows - rows.mean(0)) @ np.where(labels, 1.0, -1.0)
    assert abs(cosine(concept_vectors(rows, labels, penalty=0.0).vectors[0], least) - 1) < 1e-6


@pytest.mark.slow
def test_many_concepts_are_one_program_and_do_not_know_each_other():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(90, 2, 3)).astype(np.float32)
    labels = np.zeros((7, 90), int)
    for number, row in enumerate(labels):  # of unequal sizes, so that most are filled up
        order = rng.permutation(90)
        row[order[: 4 + number]], row[order[20 : 30 - number]] = 1, -1
    for how, settings in (("ridge", {}), ("lda", {"penalty": 0.1}), ("mean", {}), ("logistic", {"steps": 8})):
        whole = concept_vectors(rows, labels, how=how, **settings)
        assert whole.vectors.shape == (7, 2, 3)
        pieces = concept_vectors(rows, labels, how=how, batch_size=3, **settings)
        alone = concept_vectors(rows, labels[4], how=how, **settings)
        np.testing.assert_allclose(pieces.vectors, whole.vectors, atol=2e-5, err_msg=how)
        np.testing.assert_allclose(pieces.accuracy, whole.accuracy, err_msg=how)
        np.testing.assert_allclose(alone.vectors[0], whole.vectors[4], atol=2e-5, err_msg=how)
        np.testing.assert_allclose(alone.accuracy[0], whole.accuracy[4], err_msg=how)


def test_accuracy_is_of_examples_that_the_fit_has_not_seen():
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(60, 200)).astype(np.float32)
    labels = np.stack([rng.permutation(60) < 30 for _ in range(40)])
    found = concept_vectors(noise, labels)
    told = np.einsum("cd,nd->cn", found.vectors, noise) + found.biases[:, None]
    assert ((told > 0) == labels).all()  # all that it has seen, since there are more values than examples
    assert abs(float(found.accuracy.mean()) - 0.5) < 0.05
    easy = concept_vectors(noise + 3 * labels[0][:, None].astype(np.float32), labels[0])
    assert easy.accuracy[0] == 1
    assert np.isnan(concept_vectors(noise, labels[0], fraction=0.0).accuracy[0])
    assert "accuracy on held-out examples 1.00" in repr(easy)


def test_held_out_examples_are_spread_and_never_all():
    from jaxplain.concept.vector.labels import held_out

    assert held_out(8, 0.25).tolist() == [2, 6]
    assert held_out(2, 0.25).tolist() == [1]
    for size in range(2, 12):
        for fraction in (0.01, 0.25, 0.5, 0.99):
            places = held_out(size, fraction)
            assert 1 <= len(set(places.tolist())) == len(places) < size
            assert places.max() < size


def test_names_and_forms_of_labels():
    rows, labels = gaussians(seed=4)
    by_name = concept_vectors(rows, {"a": labels, "b": ~labels}, how="mean")
    assert by_name.names == ("a", "b")
    np.testing.assert_allclose(by_name.vectors[0], -by_name.vectors[1], rtol=1e-5)
    signs = np.where(labels, 1, -1)
    np.testing.assert_array_equal(concept_vectors(rows, signs, how="mean").vectors, by_name.vectors[:1])
    left = signs.copy()
    left[-5:] = 0
    np.testing.assert_allclose(
        concept_vectors(rows, left, how="mean").vectors,
        concept_vectors(rows[:-5], signs[:-5], how="mean").vectors, rtol=1e-5,
    )  # fmt: skip
    flattened = jax.tree.map(lambda leaf: leaf, by_name)
    assert flattened.names == ("a", "b")


def test_entangled_concepts_are_warned_of():
    lines = np.array([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, -2.0]])
    with pytest.warns(UserWarning, match=r"1 pairs .* '0' and '1' \(cosine 0\.99\)"):
        cosines = concept_similarity(lines)
    np.testing.assert_allclose(np.diag(cosines), 1, rtol=1e-6)
    np.testing.assert_allclose(cosines[0, 1], 0.9 / np.hypot(0.9, 0.1), rtol=1e-6)
    concept_similarity(lines, threshold=1.0)
    concept_similarity(lines, threshold=0.999)


ROWS, LABELS = gaussians()
ONE = np.full(60, -1)
ONE[3] = 1
NAN = ROWS.copy()
NAN[7, 2], NAN[9, 0] = np.nan, np.inf
REFUSED = {
    "one example": (lambda: concept_vectors(ROWS, {"dot": ONE}), r"concept 'dot' has 1 example\(s\) \(1 or True\)"),
    "no negatives": (lambda: concept_vectors(ROWS, LABELS.astype(int)), r"concept '0' has 0 example\(s\) without it"),
    "constant": (lambda: concept_vectors(np.ones((60, 4)), LABELS), "`activations` are constant: all 60"),
    "NaN": (lambda: concept_vectors(NAN, LABELS), r"has 2 NaN or infinite values \(the first at index \(7, 2\)\)"),
    "another number": (lambda: concept_vectors(ROWS, LABELS[:-1]), r"`concepts` has shape \(1, 59\), but there are 60"),
    "numbers": (lambda: concept_vectors(ROWS, np.arange(60)), "58 values other than 1, -1 and 0"),
    "no rows": (lambda: concept_vectors(ROWS[:, 0], LABELS), r"`activations` has shape \(60,\)"),
    "several arrays": (lambda: concept_vectors({"a": ROWS}, LABELS), "pass one array|an array of numbers"),
    "no mapping": (lambda: concept_vectors(ROWS, {}), "`concepts` is empty"),
    "singular": (lambda: concept_vectors(np.tile(ROWS, (1, 20)), LABELS, how="lda"), "60 examples for 100 values"),
    "equal means": (
        lambda: concept_vectors(np.tile(np.array([[1.0], [2.0]]), (4, 1)), np.arange(8) // 2 % 2 == 0, how="mean"),
        "1 of 1 concepts have no direction",
    ),
    "a constant unit": (
        lambda: concept_vectors(np.pad(ROWS, ((0, 0), (0, 1))), LABELS, how="lda"),
        "a unit is constant or a copy",
    ),
    "how": (lambda: concept_vectors(ROWS, LABELS, how="svm"), "`how` is 'svm'; it has to be one of 'ridge'"),
    "penalty": (lambda: concept_vectors(ROWS, LABELS, penalty=-1.0), "`penalty` has to be finite and zero or more"),
    "fraction": (lambda: concept_vectors(ROWS, LABELS, fraction=1.0), r"`fraction` has to lie in \[0, 1\)"),
    "traced": (lambda: jax.jit(concept_vectors)(ROWS, LABELS), "`concepts` is being traced"),
    "no direction": (lambda: concept_similarity(jnp.zeros((2, 3))), "a vector of length 0"),
    "a flat array": (lambda: concept_similarity(jnp.zeros(3)), r"pass ConceptVectors or an array \[C, ...\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_fitted_is_refused(name):
    call, words = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=words):
        call()
