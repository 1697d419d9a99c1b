"""Which changes of what code reaches make it another edition, and which do not."""

import collections
import functools
import itertools
import sys
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxplain
from jaxplain.program import reach
from jaxplain.program.function import Static, as_function
from jaxplain.program.reach import edition

OLD, NEW = jnp.array([1.0, 2.0]), jnp.array([5.0, -3.0])
ONE, OTHER = types.SimpleNamespace(w=1), types.SimpleNamespace(w=1)

CYCLE = {"inner": [1]}
CYCLE["inner"].append(CYCLE)

SAME = {
    "number": 1.5, "text": "text", "tuple": (1, 2), "nothing": None, "of JAX": jnp.tanh, "scalar": np.float32(2),
    "key": jax.random.key(3), "containers": {"a": [1, {2}], 3: "b"}, "cycle": CYCLE,
    "named": collections.namedtuple("Pair", "a b")(1, OLD), "Linen": nn.Dense(3), "module": sys, "type": float,
    "NaN": float("nan"), "odd arrays": [np.array(["a"]), np.array([None]), np.zeros((0, 2)), np.ones((2, 2)).T],
}  # fmt: skip


@pytest.mark.parametrize("value", SAME.values(), ids=SAME)
def test_what_did_not_change_is_of_the_same_edition(value):
    f = lambda x: (x, value)  # noqa: E731
    assert [edition(f) for _ in range(3)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (1, True),
        (1, 1.0),
        ("a", "b"),
        ([1, 2], [2, 1]),
        ([1, 2], (1, 2)),
        ({"a": 1}, {"b": 1}),
        ({1: "a"}, {2: "a"}),
        ({1: OLD, "a": 1}, {1: NEW, "a": 1}),
        ({"a": None}, {"a": 0}),
        ({"a": [None, OLD]}, {"a": [OLD, None]}),
        (np.float32(1), np.float32(2)),
        (np.float32(1), np.float64(1)),
        ([OLD, NEW], [NEW, OLD]),
        ([OLD, NEW, OLD], [OLD, NEW, NEW]),
        ([OLD, 3], [3, OLD]),
        ([ONE, OTHER, ONE], [ONE, OTHER, OTHER]),
        ([[1], [1]], [[1], 1]),
        (OLD, np.asarray(OLD)),
        (jnp.sin, jnp.cos),
        (np.ones(2), np.array([1, 2.0])),
        ({1}, {2}),
        (None, False),
        (jax.random.key(0), jax.random.key(1)),
        (functools.partial(jnp.add, 1), functools.partial(jnp.add, 2)),
        (float, int),
        (np, jnp),
        (nn.Dense(2), nn.Dense(3)),
    ],
    ids=itertools.count(),
)
def test_what_changed_is_another_edition(before, after):
    value = before
    f = lambda x: (x, value)  # noqa: E731
    assert edition(f) == 0
    value = after
    second, again = edition(f), edition(f)
    assert second == again != 0
    value = before
    assert edition(f) not in (0, second)


@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_a_large_array_that_is_written_to_is_another(monkeypatch, layout):
    monkeypatch.setattr(reach, "_BYTES", 2**10)
    w = np.zeros((128, 64), np.float32)
    w = w if layout == "rows" else w.T
    f = lambda x: w @ x  # noqa: E731
    assert [edition(f), edition(f)] == [0, 0]
    w += 1
    second = edition(f)
    assert second == edition(f) != 0
    w.flags.writeable = False
    assert edition(f) not in (0, second)


def test_an_object_that_answers_nothing_is_no_error():
    class Odd:
        def __getattr__(self, name):
            raise RuntimeError(name)

    odd = Odd()
    f = lambda x: (x * (odd is not None)).sum()  # noqa: E731
    assert [edition(f), edition(f)] == [0, 0]
    assert jaxplain.explain_batch(jaxplain.gradient(f), np.ones((2, 3), np.float32)).tolist() == [[1.0] * 3] * 2
    odd = Odd()
    assert edition(f) != 0


def test_one_container_in_two_places_is_another_than_two():
    one, two = [1], [1]
    held = [one, one]
    f = lambda x: (x, held)  # noqa: E731
    assert edition(f) == 0
    held[1] = two
    assert edition(f) != 0


def test_another_edition_is_another_structure():
    scale = 1.0
    f = as_function(lambda x: scale * x)
    first = jax.tree.structure(f)
    assert jax.tree.structure(f) == first
    scale = 2.0
    second = jax.tree.structure(f)
    assert second != first
    assert jax.tree.structure(as_function(f.value)) == second
    assert Static("text") == Static("text")
