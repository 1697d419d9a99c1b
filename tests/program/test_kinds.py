"""Every argument of every public function is held against its annotation before anything else is done."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.check import odd_leaf, short
from jaxplain.program import public as held
from jaxplain.program.kinds import KINDS
from shared.bad_calls import publics

KEY = jax.random.key(0)
NAN = float("nan")


def test_every_public_function_holds_its_arguments():
    missing = [public.full for public in publics() if public.parameters and not hasattr(public.function, "__wrapped__")]
    assert missing == []


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        ("bool", [True, np.bool_(False)], ["yes", 1, None, 0.0]),
        ("int", [3, np.int32(3), -1], [True, 1.5, "1", None, np.zeros(2, int)]),
        ("int | None", [3, None], [1.5, "1"]),
        ("float", [1, 1.5, np.float32(2), jnp.asarray(0.5), float("inf")], [True, "1", None, 1j, [1.0], np.ones(2)]),
        ("Number", [1, 1.5, np.ones(2), jnp.ones((2, 3))], [True, "1", None, 1j, [1.0], np.zeros(0), np.array(["a"])]),
        ("str", ["a"], [1, None, b"a"]),
        ("str | os.PathLike[str]", ["a", Path("a")], [1, None, b"a"]),
        ("Callable[..., Any]", [len, lambda: None], ["len", None, 1]),
        ("Mapping[str, Any] | None", [{}, {"a": 1}, None], [[], "a", 1]),
        ("tuple[int, ...]", [(1, 2), (), [1, 2]], [1, "12", (1.5,), (True,)]),
        ("int | tuple[int, ...] | None", [1, (1, 2), None], ["1", (1.5,)]),
        ("Sequence[str]", [["a"], ("a", "b")], ["a", [1], 1]),
        ("Sequence[float]", [[0.5, 1], np.ones(2)], ["a", ["a"], 1.0]),
        ("Sequence[Any]", [["a", 1], np.ones(2)], ["a", 1, None]),
        ("int | Literal['auto'] | None", [1, "auto", None], ["bogus", 1.5]),
        (
            "Arrays",
            [np.ones(2), {"a": jnp.ones(2), "b": 1}, (1.0, 2.0)],
            ["a", None, [1.0], np.array([None]), object()],
        ),
        (
            "ArrayLike",
            [np.ones(2), 1.5, [1, 2], [[1.0], [2.0]], [np.ones(2), np.ones(2)]],
            ["a", None, ["a"], [[1], [2, 3]]],
        ),
        ("Key", [KEY, jax.random.PRNGKey(0)], [None, 0, "a", np.ones(2), jax.random.split(KEY)]),
    ],
)
def test_what_an_annotation_accepts(annotation, good, bad):
    def function(value):
        return None

    function.__annotations__["value"] = annotation
    function = held(function)
    for value in good:
        function(value)
    for value in bad:
        with pytest.raises(TypeError, match=r"function: `value` has to be .*, not "):
            function(value)


def test_numbers_that_are_traced_are_let_through():
    for annotation in ("float", "Number", "Arrays"):

        def function(value):
            return value

        function.__annotations__["value"] = annotation
        assert float(jax.jit(held(function))(1.0)) == 1.0
        assert jax.vmap(held(function))(jnp.arange(3.0)).tolist() == [0, 1, 2]


def test_nan_is_no_number():
    for value in (NAN, np.float32(NAN), jnp.asarray(NAN)):
        with pytest.raises(ValueError, match="smoothgrad: `sigma` is NaN"):
            jaxplain.smoothgrad(lambda x: x, sigma=value)


def test_annotations_without_a_word_are_left_to_the_function():
    def function(first, second, third):
        return third

    function.__annotations__.update(first="Any", second="int | Grid", return_="None")
    assert held(function)(object(), "a", None) is None


def test_names_of_classes_and_of_callables_are_looked_up():
    with pytest.raises(TypeError, match="standardize: `splits` has to be a Splits, not 3"):
        jaxplain.data.standardize(3)
    with pytest.raises(TypeError, match="fit: `loss` has to be a function, not 'ce'"):
        jaxplain.train.fit(lambda p, x: x, {}, (np.ones((2, 1)), np.ones(2, int)), key=KEY, loss="ce")


def test_values_are_shown_short():
    assert short(np.zeros((2, 3))) == "an array of shape (2, 3) and dtype float64"
    assert short("a") == "'a'"
    assert len(short(list(range(1000)))) < 100


def test_leaves_that_are_no_arrays_are_found():
    found = odd_leaf({"a": [1.0, 2.0]})
    assert found is not None
    assert jax.tree_util.keystr(found[0]) == "['a']"
    assert odd_leaf({"a": (1.0, 2.0), "b": None, "key": KEY}) is None
    assert odd_leaf(np.array(["a"]))[1] == "an array of dtype <U1, not of numbers"


def test_every_word_of_the_table_is_text():
    assert all(isinstance(words, str) and callable(accepts) for accepts, words in KINDS.values())


LISTS = {
    "paired_difference": lambda made: jaxplain.evaluate.paired_difference(made([1, 3, 2]), made([0, 1, 1]), key=KEY),
    "pearson": lambda made: jaxplain.evaluate.pearson(made([1.0, 2.0, 3.0]), made([1.0, 2.0, 4.0])),
    "spearman": lambda made: jaxplain.evaluate.spearman(made([1.0, 2.0, 3.0]), made([1.0, 2.0, 4.0])),
    "structural_similarity": lambda made: jaxplain.evaluate.structural_similarity(
        made(np.eye(8).tolist()), made(np.eye(8).tolist()), window=3
    ),
    "mosaic": lambda made: jaxplain.evaluate.mosaic(
        made(np.ones((4, 2, 2, 1)).tolist()), made([True, False, False, True])
    ),
    "frechet_distance": lambda made: jaxplain.evaluate.frechet_distance(
        made([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), made([[1.0, 0.0], [0.0, 1.0], [1.0, 2.0]])
    ),
    "partial_dependence": lambda made: jaxplain.aggregate.partial_dependence(
        lambda x: x.sum(), 0, grid=made([0.0, 1.0])
    )(np.ones((3, 2), np.float32)),
    "cross_entropy": lambda made: jaxplain.train.cross_entropy(jnp.zeros((2, 3)), made([0, 1])),
    "binary_cross_entropy": lambda made: jaxplain.train.binary_cross_entropy(jnp.zeros(2), made([0, 1])),
    "squared_error": lambda made: jaxplain.train.squared_error(jnp.zeros(2), made([0.0, 1.0])),
    "colour_matrix": lambda made: jaxplain.image.colour_matrix(
        made([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    ),
    "nearest_counter_class": lambda made: jaxplain.baseline.nearest_counter_class(
        np.array([[0.0], [1.0]], np.float32), made([0, 1]), 0
    )(np.float32([0.2])),
}


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.sampled(4)
def test_a_list_that_makes_an_array_is_taken_as_one(name):
    for one, other in zip(*(jax.tree.leaves(LISTS[name](made)) for made in (list, np.asarray)), strict=True):
        np.testing.assert_array_equal(one, other)
