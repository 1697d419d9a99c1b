"""Shares of features: numbers of Python, NumPy and JAX say the same, and what is no share is named."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain import evaluate
from jaxplain.evaluate.removal import part_of_one, parts_of_one, share_of


def score(x):
    return x.sum()


def test_numbers_of_every_kind_are_the_same_share():
    """A float32 of 0.7 is less than 0.7, and still seven features of ten."""
    for value in (0.7, np.float64(0.7), np.float32(0.7), np.array(0.7, np.float32), jnp.float32(0.7)):
        assert part_of_one(value, "m", "share") == 0.7
        assert share_of(part_of_one(value, "m", "share"), 10) == 7
    for values in ([0.1, 0.7], (0.1, 0.7), np.array([0.1, 0.7], np.float32), jnp.array([0.1, 0.7])):
        assert parts_of_one(values, "m", "shares") == (0.1, 0.7)
    assert evaluate.soft_sufficiency(score, fractions=np.linspace(0.25, 0.75, 3)).fractions == (0.25, 0.5, 0.75)
    assert evaluate.f_fidelity(score, fraction=np.float32(0.4)).fraction == 0.4
    assert evaluate.road(score, fractions=np.array([0.7], np.float32)).fractions == (0.7,)


def test_what_is_no_share_is_named():
    for value in (0, 1.5, -0.1, float("nan"), True, np.True_, np.array([0.5])):
        with pytest.raises(ValueError, match="`limit` has to be above 0 and at most 1, not"):
            part_of_one(value, "m", "limit")
    with pytest.raises(ValueError, match="`limit` has to be above 0 and below 1, not 1"):
        part_of_one(1, "m", "limit", whole=False)
    with pytest.raises(TypeError, match="`limit` has to be a number"):
        part_of_one("0.5", "m", "limit")
    for values in ((), np.ones((2, 2))):
        with pytest.raises(ValueError, match="`fractions` have to be one number or more"):
            parts_of_one(values, "m", "fractions")
