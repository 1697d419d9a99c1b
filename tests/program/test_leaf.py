"""Names of leaves: one for each leaf of any tree, and files' names that can be undone."""

from typing import NamedTuple

import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxplain.program import escaped, leaves_by_parts, leaves_by_path, unescaped, without_value
from shared.trees import NAMES, trees


class Attention(NamedTuple):
    key: float
    query: float
    value: float


class Only(NamedTuple):
    value: float


@settings(max_examples=300, deadline=None)
@given(trees())
@example({"key": 1.0, "query": 2.0, "value": 3.0})
@example({"a": {"b": 1.0, "value": 2.0}, "a/b": 3.0, "value": 4.0})
@example({"a": Attention(1.0, 2.0, 3.0), "value": Only(4.0)})
@pytest.mark.slow
def test_each_leaf_has_a_name_of_its_own(tree):
    named = leaves_by_parts(tree)
    assert list(named.values()) == jax.tree.leaves(tree)
    short = without_value(named)
    assert len(set(short.values())) == len(named)
    assert len({"/".join(map(escaped, parts)) for parts in named}) == len(named)


@settings(max_examples=500, deadline=None)
@given(st.one_of(NAMES, st.text(st.characters(exclude_categories=()))))
def test_a_file_name_can_be_undone_and_is_no_path(part):
    text = escaped(part)
    assert unescaped(text) == part
    assert text
    assert not set(text) & set("/\\.\0")
    assert not text.startswith("__")
    text.encode()


def test_ordinary_names_stay_as_they_are():
    tree = {"params": {"Dense_0": {"kernel": 1.0}}, "größe 1": [2.0, (3.0,)], "a": Attention(4.0, 5.0, 6.0)}
    paths = ["a/key", "a/query", "a/value", "größe 1/0", "größe 1/1/0", "params/Dense_0/kernel"]
    assert sorted(leaves_by_path(tree)) == paths
    assert ["/".join(map(escaped, parts)) for parts in leaves_by_parts(tree)] == list(leaves_by_path(tree))


def test_the_value_of_a_variable_is_left_out():
    state = nnx.state(nnx.MultiHeadAttention(1, 2, 2, decode=False, rngs=nnx.Rngs(0)))
    names = {parts for parts in leaves_by_parts(state) if parts[0] == "value"}
    assert names == {("value", "kernel"), ("value", "bias")}


def test_two_leaves_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two leaves of the path 'a/b'"):
        leaves_by_path({"a": {"b": 1.0}, "a/b": 2.0})

    class Twice:
        pass

    jax.tree_util.register_pytree_with_keys(
        Twice,
        lambda _: (((jax.tree_util.DictKey(0), np.ones(1)), (jax.tree_util.DictKey("0"), np.ones(1))), None),
        lambda _, children: Twice(),
    )
    with pytest.raises(ValueError, match="two leaves of the name 'x/0'"):
        leaves_by_parts({"x": Twice()})
