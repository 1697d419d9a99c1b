"""Groups by name: a list of texts wherever groups are taken, the same as their numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.baseline import as_groups

KEY = jax.random.key(0)
X = jnp.array([2.0, 3.0, 1.0])
ROWS = jnp.array([[2.0, 3.0, 1.0], [1.0, 0.0, 2.0], [0.0, 1.0, 1.0]])
NAMES = ["city", "area", "city"]
NUMBERS = np.array([0, 1, 0])


def f(x):
    return x[0] * x[1] + x[2]


def test_names_are_numbered_as_they_come():
    for names in (NAMES, tuple(NAMES), np.array(NAMES), np.array(NAMES, object)):
        found = as_groups(names, "name")
        assert found.numbers.tolist() == [0, 1, 0]
        assert (found.total, found.names) == (2, ("city", "area"))
    nested = as_groups([["a", "b"], ["b", "c"]], "name")
    assert nested.numbers.tolist() == [[0, 1], [1, 2]]
    tree = as_groups({"cat": "city", "num": ["area", "city"]}, "name")
    assert jax.tree.map(lambda leaf: leaf.tolist(), tree.numbers) == {"cat": 0, "num": [1, 0]}
    assert as_groups(NUMBERS, "name").names == ()
    for groups, words in {
        "city": "`groups` is the text 'city'; pass a name for each column",
        ("a", 1): "`groups` mixes names and numbers",
    }.items():
        with pytest.raises(TypeError, match=words):
            as_groups(groups, "name")
    with pytest.raises(ValueError, match=r"`groups` has shape \(2,\), but `x` has shape \(3,\)"):
        jaxplain.feature_ablation(f, groups=["a", "b"])(X)


METHODS = {
    "feature_ablation": lambda g: jaxplain.feature_ablation(f, groups=g),
    "feature_permutation": lambda g: jaxplain.feature_permutation(f, ROWS, groups=g),
    "kernel_shap": lambda g: jaxplain.kernel_shap(f, groups=g),
    "lime": lambda g: jaxplain.lime(f, groups=g, samples=16),
    "owen_values": lambda g: jaxplain.owen_values(f, g),
    "rise": lambda g: jaxplain.rise(f, groups=g, samples=8),
    "shapley_sampling": lambda g: jaxplain.shapley_sampling(f, groups=g, samples=4),
    "shapley_sampling_with_error": lambda g: jaxplain.shapley_sampling_with_error(f, groups=g, samples=4),
    "shapley_values": lambda g: jaxplain.shapley_values(f, groups=g),
    "shapley_interactions": lambda g: jaxplain.shapley_interactions(f, groups=g),
    "permutation_importance": lambda g: jaxplain.aggregate.permutation_importance(f, groups=g, samples=2),
    "partial_dependence": lambda g: jaxplain.aggregate.partial_dependence(f, 1, groups=g),
    "deletion": lambda g: jaxplain.evaluate.deletion(f, groups=g),
    "group_sum": lambda g: jaxplain.dataset.group_sum(g),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_takes_names_for_numbers(name):
    """It is the same object, so it computes the same."""
    one, other = METHODS[name](NAMES), METHODS[name](NUMBERS)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_an_effect_is_asked_by_name():
    one = jaxplain.aggregate.partial_dependence(f, "area", groups=NAMES)(ROWS)
    other = jaxplain.aggregate.partial_dependence(f, 1, groups=NUMBERS)(ROWS)
    np.testing.assert_array_equal(one.score, other.score)
    with pytest.raises(ValueError, match="`feature` is 'town', but the `groups` are 'city', 'area'"):
        jaxplain.aggregate.partial_dependence(f, "town", groups=NAMES)
    with pytest.raises(ValueError, match="`feature` is 'area', but the `groups` have no names"):
        jaxplain.aggregate.partial_dependence(f, "area")


def test_names_stand_for_arrays_of_every_structure():
    """A tuple of texts is a list of names; names of whole arrays in a tuple are arrays themselves."""
    x = [X[:2], X[1:]]

    def total(x):
        return x[0].sum() + 10 * x[1].sum()

    for groups in (["a", "b"], [["a", "b"], ["b", "c"]]):  # as the names of one array
        with pytest.raises(ValueError, match=r"Pass an array for each array of `x` of its .* each as numpy\.array"):
            jaxplain.feature_ablation(total, groups=groups)(x)
    found = jaxplain.feature_ablation(total, groups=[np.array(["a", "b"]), np.array(["b", "c"])])(x)
    assert [leaf.tolist() for leaf in found] == [[2.0, 33.0], [33.0, 10.0]]
    found = jaxplain.feature_ablation(total, groups=[np.array("a"), np.array("b")])(x)
    assert [leaf.tolist() for leaf in found] == [[5.0, 5.0], [40.0, 40.0]]


def test_texts_of_numpy_of_every_dtype_are_names():
    wide = np.array(NAMES, np.dtypes.StringDType())
    for names in (wide, wide.reshape(1, 3), np.array(NAMES, "<U40")):
        assert as_groups(names, "name").numbers.reshape(-1).tolist() == [0, 1, 0]


def test_a_column_without_a_name_is_told():
    for groups in (["a", None], ["a", float("nan")], np.array(["a", None], object), {"x": ["a", None]}, [["a", None]]):
        with pytest.raises(
            TypeError, match=r"^name: `groups` holds .* with names and something else; name every column"
        ):
            as_groups(groups, "name")


def test_columns_of_frames_are_names():
    pd = pytest.importorskip("pandas", reason="the extra [tables] is not installed")
    assert as_groups(pd.Index(NAMES), "name").numbers.tolist() == [0, 1, 0]
    assert as_groups(pd.Series(NAMES), "name").names == ("city", "area")
    for names in (pd.Categorical(NAMES), pd.Series(pd.Categorical(NAMES)), pd.DataFrame([NAMES])):
        assert as_groups(names, "name").numbers.reshape(-1).tolist() == [0, 1, 0]
    with pytest.raises(TypeError, match=r"`groups` holds a pandas series .* with names and something else"):
        as_groups(pd.Series(["a", None]), "name")


def test_a_table_and_segments_of_a_text_name_groups():
    pd = pytest.importorskip("pandas", reason="the extra [tables] is not installed")
    table = jaxplain.data.table(pd.DataFrame({"age": [1.0, 2.0], "city": ["Ulm", "Bonn"]}))
    found = as_groups(table, "name")
    assert (found.numbers.tolist(), found.total, found.names) == ([0, 1, 1], 2, ("age", "city"))
    expected = jaxplain.shapley_values(f, groups=["age", "city", "city"])(X)
    np.testing.assert_array_equal(jaxplain.shapley_values(f, groups=table)(X), expected)
    frame = pd.DataFrame([["a", "b"]], columns=["groups", "names"])  # whose columns are its attributes, too
    assert as_groups(frame, "name").numbers.reshape(-1).tolist() == [0, 1]


def test_segments_of_a_text_name_groups():
    segments = jaxplain.language.segments("one two", [(0, 3), (4, 7)])
    found = as_groups(segments, "name")
    assert (found.numbers.tolist(), found.names) == ([0, 1], tuple(segments.names))
