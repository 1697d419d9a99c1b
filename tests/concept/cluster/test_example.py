"""Prototypes and criticisms beside a slow reference; the nearest examples of another class beside brute force."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain.concept import counterfactual_examples, prototypes


def rows(seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, 4)) * 4
    return (centres[np.arange(40) % 3] + rng.normal(size=(40, 4))).astype(np.float32)


def slow(values, k, c, sigma, penalty):
    """The two greedy algorithms, each objective computed anew."""
    alike = np.exp(-((values[:, None] - values[None]) ** 2).sum(-1) / (2 * sigma**2)).astype(float)

    def discrepancy(s):
        return alike.mean() - 2 * alike[:, s].mean() + alike[np.ix_(s, s)].mean()

    chosen, losses = [], []
    for _ in range(k):
        best = min((i for i in range(len(values)) if i not in chosen), key=lambda i: discrepancy([*chosen, i]))
        chosen.append(best)
        losses.append(discrepancy(chosen))
    witness = alike.mean(1) - alike[:, chosen].mean(1)
    critics = []
    for _ in range(c):

        def gain(i):
            picked = [*critics, i]
            return np.abs(witness[picked]).sum() + penalty * np.linalg.slogdet(alike[np.ix_(picked, picked)])[1]

        critics.append(max((i for i in range(len(values)) if i not in chosen + critics), key=gain))
    return chosen, losses, critics, witness


def test_prototypes_and_criticisms_are_those_of_the_slow_reference():
    values = rows()
    for sigma, penalty in ((2.0, 1.0), (4.0, 0.05)):
        found = prototypes(values, k=5, criticisms=4, sigma=sigma, penalty=penalty)
        chosen, losses, critics, witness = slow(values, 5, 4, sigma, penalty)
        assert found.prototypes.tolist() == chosen
        assert found.criticisms.tolist() == critics
        np.testing.assert_allclose(found.discrepancy, losses, atol=1e-5)
        np.testing.assert_allclose(found.witness, witness, atol=1e-5)
    assert len(set(np.asarray(found.prototypes[:3]) % 3)) == 3  # one of each planted group first
    distances = np.linalg.norm(values[:, None] - values[None], axis=-1)[np.triu_indices(40, 1)]
    by_itself, given = prototypes(values), prototypes(values, sigma=float(np.median(distances)))
    assert by_itself.prototypes.tolist() == given.prototypes.tolist()
    assert prototypes(values, criticisms=0).criticisms.shape == (0,)


def test_nearest_unlike_neighbours_are_those_of_brute_force():
    values, asked = rows(), rows(1)[:7]
    labels, own = np.arange(40) % 3, np.arange(7) % 3
    apart = np.linalg.norm(asked[:, None] - values[None], axis=-1)
    for target in (None, 2):
        wanted = own.copy() if target is None else np.where(own == 2, 0, own)
        unlike = (labels[None] != wanted[:, None]) & (True if target is None else labels[None] == target)
        order = np.argsort(np.where(unlike, apart, np.inf), axis=1)[:, :3]
        for batch_size in (3, 64):
            found = counterfactual_examples(values, labels, asked, wanted, k=3, target=target, batch_size=batch_size)
            np.testing.assert_array_equal(found.indices, order)
            np.testing.assert_allclose(found.distance, np.take_along_axis(apart, order, 1), rtol=1e-4)
            np.testing.assert_array_equal(found.label, labels[order])
    few = counterfactual_examples(values[:3], [0, 1, 0], asked[:1], [0], k=3)
    assert few.indices.tolist() == [[1, -1, -1]]
    assert few.label.tolist() == [[1, -1, -1]]
    assert np.isinf(few.distance[0, 1:]).all()


def test_what_has_no_prototypes_or_counterfactuals_is_refused():
    values, labels = rows(), np.arange(40) % 3
    nan = values.copy()
    nan[2, 1] = np.nan
    for call, words in (
        (lambda: prototypes(nan), r"`features` has 1 NaN or infinite values \(the first at index \(2, 1\)\)"),
        (lambda: prototypes(values, k=38), "38 prototypes and 5 criticisms are asked for, but there are 40"),
        (lambda: prototypes(values, k=0), "`k` has to be at least 1, not 0"),
        (lambda: prototypes(np.ones((20, 2))), "all 20 examples are equal"),
        (lambda: prototypes(values, sigma=-1.0), "`sigma` has to be finite and positive"),
        (lambda: counterfactual_examples(values, labels * 0, values, labels * 0), r"for 40 queries \(the first is 0\)"),
        (lambda: counterfactual_examples(values, labels, values, labels, target=7), "no example of class 7"),
        (lambda: counterfactual_examples(values, labels[:3], values, labels), r"`labels` has shape \(3,\)"),
        (lambda: counterfactual_examples(values, labels / 2, values, labels), "pass whole numbers"),
        (lambda: counterfactual_examples(values, labels, values[:, :2], labels), "`features` have 4 values each"),
        (lambda: counterfactual_examples(values, labels, values, labels, k=41), "`k` is 41, but there are 40"),
        (lambda: prototypes(jnp.zeros(3)), r"`features` has shape \(3,\)"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            call()
