"""What must not matter to a dictionary: batches, another call; keys and judging beside components and chance."""

import inspect

import jax
import numpy as np
import pytest

import jaxplain
from jaxplain import concept
from shared.dictionary_calls import (
    CALLS,
    DICTIONARY,
    HEAD,
    KEY,
    LABELS,
    PARAMS,
    QUICK,
    ROWS,
    SITE,
    H,
    X,
    apply,
    equal,
    takes,
)  # fmt: skip

FAMILY = ("dictionary.", "surrogate")
ELSEWHERE = {"concept_curves", "judge_dictionary", "layer_site", "match_atoms", "stability"}
"""What judges any dictionary has tests of its own."""


def test_every_public_function_of_this_family_is_in_the_sweep():
    public = {
        name
        for name in concept.__all__
        if inspect.isfunction(getattr(concept, name))
        and getattr(concept, name).__module__.removeprefix("jaxplain.concept.").startswith(FAMILY)
    }
    assert set(CALLS) == public - ELSEWHERE


def sweep(names):
    """Of each function whether another call, batches and keys matter as they should; how many were compared."""
    compared = 0
    for name in names:
        right = CALLS[name]()
        equal(CALLS[name](), right, f"{name} again", bits=True)
        compared += 1
        if takes(name, "batch_size"):
            equal(CALLS[name](batch_size=4), right, f"{name}, in batches")
            compared += 1
        if takes(name, "key"):
            one = CALLS[name](key=jax.random.key(7))
            equal(CALLS[name](key=jax.random.key(7)), one, f"{name}, the same key", bits=True)
            compared += 1
    return compared


def test_what_must_not_matter_does_not_in_a_sample():
    assert sweep(sorted(QUICK)) == 6


@pytest.mark.slow
def test_what_must_not_matter_does_not():
    assert sweep(sorted(set(CALLS) - QUICK)) == 29


@pytest.mark.slow
def test_one_row_is_coded_as_in_any_batch_and_any_axes():
    for one in (
        DICTIONARY,
        concept.principal_components(ROWS, 2),
        concept.k_means(ROWS, 2, key=KEY),
        concept.random_directions(ROWS, 2, key=KEY),
    ):
        whole = one.encode(H)
        assert whole.shape == (*H.shape[:-1], 2)
        np.testing.assert_allclose(one.encode(H[2, 3, 4]), whole[2, 3, 4], atol=1e-5)
        np.testing.assert_allclose(one.encode(ROWS).reshape(whole.shape), whole, atol=1e-5)
        assert one.decode(whole).shape == H.shape


@pytest.mark.slow
def test_all_are_judged_alike_and_deletion_tells_them_from_chance():
    made = {
        "factors": concept.non_negative_dictionary(ROWS, 2, site=SITE),
        "components": concept.principal_components(ROWS, 2, site=SITE),
        "directions": concept.random_directions(ROWS, 2, key=KEY, site=SITE),
        "means": concept.k_means(ROWS, 2, key=KEY, site=SITE),
    }
    explained = {name: float(concept.judge_dictionary(d, H).variance_explained) for name, d in made.items()}
    assert explained["components"] >= max(explained.values())  # no two directions explain more
    assert explained["factors"] > explained["directions"]
    assert explained["factors"] > explained["means"] > 0
    density = concept.judge_dictionary(made["means"], H).l0
    np.testing.assert_allclose(density, 1.0, rtol=1e-6)
    for insertion in (False, True):
        curves = concept.concept_curves(made, HEAD, H, X, LABELS, key=KEY, steps=2, insertion=insertion)
        assert set(curves.scores) >= set(made)
        whole = np.mean([HEAD(h, x, label) for h, x, label in zip(H, X, LABELS, strict=True)])
        for name in made:
            if not insertion:  # begins at the score itself
                np.testing.assert_allclose(curves.scores[name][0], whole, rtol=1e-4, err_msg=name)
            assert np.isfinite(curves.scores[name]).all()
    top = made["factors"].top_examples(H, 3)
    assert top.values.shape == (2, 3)
    other = jaxplain.split(jaxplain.logit(apply, jax.tree.map(lambda a: 2 * a, PARAMS)), "layer")[1]
    with pytest.raises(ValueError, match="the dictionary describes the layer 'layer' of a model"):
        made["factors"].importance(other, H[0], X[0], 0)
