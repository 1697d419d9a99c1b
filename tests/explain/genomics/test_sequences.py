"""Sequences of nucleotides: what shuffles keep, that all of them are as likely, and contributions in closed form."""

import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain import genomics

KEY = jax.random.key(0)
RANDOM = np.random.default_rng(0)


def encoded(text):
    return np.eye(4, dtype=np.float32)[["ACGT".index(letter) for letter in text]]


def pairs(letters):
    return np.histogram2d(letters[:-1], letters[1:], bins=np.arange(7) - 0.5)[0]


def every_shuffle(letters):
    """By hand: all orders of the letters with the same first letter and the same pairs."""
    wanted = sorted(itertools.pairwise(letters))
    orders = {(letters[0], *order) for order in itertools.permutations(letters[1:])}
    return [order for order in orders if sorted(itertools.pairwise(order)) == wanted]


def shuffles(x, count):
    """`count` draws for each of several sequences."""
    shuffle = jax.jit(jax.vmap(jax.vmap(genomics.dinucleotide_shuffle(), (0, None)), (None, 0)))
    return np.asarray(shuffle(jax.random.split(KEY, count), x))


def test_shuffles_keep_every_pair_and_both_ends():
    rows = [RANDOM.integers(0, 4, 30), RANDOM.integers(0, 2, 30), np.zeros(30, int), np.repeat([3, 1, 2], 10)]
    rows += [np.array([0] * 28 + [1, 2]), RANDOM.choice(5, 30, p=[0.3, 0.2, 0.2, 0.2, 0.1])]
    drawn = shuffles(np.eye(5, 4, dtype=np.float32)[np.stack(rows)], 20)
    assert drawn.dtype == np.float32
    assert np.isin(drawn, (0, 1)).all()
    letters = np.where(drawn.any(axis=-1), drawn.argmax(axis=-1), 4)  # 4 is the unknown letter
    for row, those in zip(rows, letters, strict=True):
        for one in those:
            np.testing.assert_array_equal(pairs(one), pairs(row))
            assert (one[0], one[-1]) == (row[0], row[-1])
    assert len({tuple(one) for one in letters[0]}) == 20


def test_all_shuffles_are_drawn_as_often():
    """By the chi-square of 3000 draws among all orders, which are found by hand."""
    texts = ("ACAGATCAG", "AACAACCTA", "ACGTCATGC")
    drawn = shuffles(np.stack([encoded(text) for text in texts]), 3000)
    for text, those in zip(texts, drawn.argmax(axis=-1).tolist(), strict=True):
        known = every_shuffle(["ACGT".index(letter) for letter in text])
        assert len(known) > 4
        found = collections.Counter(map(tuple, those))
        counts = np.array([found[order] for order in known])
        assert counts.sum() == 3000
        square = ((counts - 3000 / len(known)) ** 2).sum() / (3000 / len(known))
        degrees = len(known) - 1
        assert square < degrees + 4 * (2 * degrees) ** 0.5, (text, counts)


def test_short_sequences_have_one_order():
    for text in ("A", "AC"):
        np.testing.assert_array_equal(genomics.dinucleotide_shuffle()(KEY, encoded(text)), encoded(text))


@pytest.mark.slow
def test_shuffles_are_a_baseline():
    weights = RANDOM.normal(size=(12, 4)).astype(np.float32)
    x = encoded("ACAGATCAGTTC")
    e = jaxplain.expected_gradients(lambda x: (x * weights).sum(), genomics.dinucleotide_shuffle(), samples=4)
    attribution = np.asarray(e(KEY, x))
    assert (attribution[0] == 0).all()  # the first letter is the reference's
    assert np.abs(attribution[1:-1]).max() > 0


def test_mutations_change_the_score_by_what_they_do():
    weights = RANDOM.normal(size=(5, 4)).astype(np.float32)

    def f(x):
        return jnp.tanh((x * weights).sum())

    x = encoded("GATTA")
    expected = np.zeros((5, 4))
    for place, letter in np.ndindex(5, 4):
        other = x.copy()
        other[place] = np.eye(4)[letter]
        expected[place, letter] = np.tanh((other * weights).sum()) - np.tanh((x * weights).sum())
    found = genomics.saturation_mutagenesis(f)(x)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert (np.asarray(found)[x == 1] == 0).all()
    np.testing.assert_allclose(genomics.saturation_mutagenesis(f, batch_size=7)(x), expected, atol=1e-6)


WEIGHTS = RANDOM.normal(size=(6, 36)).astype(np.float32), RANDOM.normal(size=6).astype(np.float32)


def network(x):
    return jax.nn.relu(WEIGHTS[0] @ x.reshape(-1)) @ WEIGHTS[1]


@pytest.mark.slow
def test_hypothetical_contributions_are_multipliers_less_those_of_the_reference():
    x, reference = encoded("GATTACATC"), encoded("GTATACTTC")
    first, second = WEIGHTS
    z, z0 = first @ x.ravel(), first @ reference.ravel()
    slope = np.where(z == z0, 0, (np.maximum(z, 0) - np.maximum(z0, 0)) / np.where(z == z0, 1, z - z0))
    m = ((second * slope) @ first).reshape(9, 4)
    expected = m - (m * reference).sum(axis=1, keepdims=True)
    one = genomics.hypothetical_contributions(network, baseline=reference)(x)
    np.testing.assert_allclose(one, expected, atol=1e-5)
    assert (x * np.asarray(one)).sum() == pytest.approx(float(network(x) - network(reference)), abs=1e-5)


def test_hypothetical_contributions_of_a_square_are_mean_gradients():
    x, reference = encoded("GATT"), encoded("TTAG")
    # f = sum_i w_i x_i^2: the mean gradient from b to x is w (x + b)
    weights = RANDOM.normal(size=(4, 4)).astype(np.float32)
    m = weights * (x + reference)
    settings = {"baseline": reference, "method": "integrated_gradients", "steps": 2}
    found = genomics.hypothetical_contributions(lambda x: (weights * x**2).sum(), **settings)(x)
    np.testing.assert_allclose(found, m - (m * reference).sum(axis=1, keepdims=True), atol=1e-6)


@pytest.mark.slow
def test_references_are_drawn_or_given_and_contributions_add_up():
    x = encoded("ACAGATCAG")
    e = genomics.hypothetical_contributions(network, samples=5)
    found = np.asarray(jax.jit(e)(KEY, x))
    shuffle = genomics.dinucleotide_shuffle()
    references = jnp.stack([shuffle(jax.random.fold_in(KEY, index), x) for index in range(5)])
    gap = float(network(x)) - float(np.mean([network(reference) for reference in references]))
    assert (x * found).sum() == pytest.approx(gap, abs=1e-5)
    same = genomics.hypothetical_contributions(network, baseline=references)(x)
    np.testing.assert_allclose(same, found, atol=1e-5)
    contributions = np.asarray(jaxplain.deep_shap(network, references)(x)).sum(axis=1)
    np.testing.assert_allclose((x * found).sum(axis=1), contributions, atol=1e-5)


def test_a_batch_of_what_is_no_sequence_is_refused():
    """Probabilities of letters, and letters before positions."""
    x = np.stack([encoded("GATTAC")] * 2)
    x[1, 2] = 0.25

    def f(x):
        return x.sum()

    settings = {"out": "memory", "progress": False}
    for e in (
        genomics.saturation_mutagenesis(f),
        genomics.hypothetical_contributions(f, baseline=0.25),
        jaxplain.expected_gradients(f, genomics.dinucleotide_shuffle(), samples=2),
    ):
        with pytest.raises(ValueError, match=r"1 positions that are no one-hot letters .the first is 2"):
            jaxplain.explain_batch(e, x, key=KEY)
        with pytest.raises(ValueError, match="no one-hot letters"):
            jaxplain.explain_batch(e, x[:1].swapaxes(1, 2), key=KEY)
        with pytest.raises(ValueError, match="no one-hot letters"):
            jaxplain.explain_dataset(e, x[1:], key=KEY, **settings)


@pytest.mark.parametrize("make", [dict, list])
def test_several_arrays_and_batches_of_another_rank_are_refused(make):
    """Also where a driver looks at the batch before each example does."""
    x = np.stack([encoded("GATTAC")] * 2)
    several = {"dict": {"a": x}, "list": [x]}[make.__name__]
    for e in (
        genomics.saturation_mutagenesis(network),
        genomics.hypothetical_contributions(network, baseline=0.25),
        genomics.hypothetical_contributions(network),
    ):
        with pytest.raises(TypeError, match=r"`x` is .*; it has to be one array \[L, A\]"):
            jaxplain.explain_batch(e, several, key=KEY)
        for other in (x[:, 0], x[:, 0, 0]):
            with pytest.raises(ValueError, match="it has to be one sequence"):
                jaxplain.explain_batch(e, other, key=KEY)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: genomics.dinucleotide_shuffle()(KEY, encoded("ACGT").T[:, :3] * 0.5),
            "3 positions that are no one-hot",
        ),
        (lambda: genomics.dinucleotide_shuffle()(KEY, np.zeros((2, 4, 4), np.float32)), "has to be one sequence"),
        (lambda: genomics.dinucleotide_shuffle()(KEY, np.eye(20, dtype=np.float32)), "an alphabet of 20 letters"),
        (lambda: genomics.dinucleotide_shuffle()(KEY, np.eye(4, dtype=int)), "has dtype int"),
        (lambda: genomics.saturation_mutagenesis(network)(np.full((6, 4), 0.25)), "no one-hot letters"),
        (lambda: genomics.saturation_mutagenesis(network)(encoded("GATTAC") * np.nan), "NaN"),
        (lambda: genomics.hypothetical_contributions(network)(encoded("GATTAC")), "needs a key"),
        (lambda: genomics.hypothetical_contributions(network, method="lrp"), "`method` is 'lrp'"),
        (lambda: genomics.hypothetical_contributions(network, samples=0), "`samples` has to be at least 1"),
    ],
)
def test_what_is_no_sequence_is_refused(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
