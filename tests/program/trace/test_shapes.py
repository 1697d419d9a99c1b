"""What depends on shapes alone is computed once a structure and its shapes, and never mistaken for another's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxplain.program import Static
from jaxplain.program.trace.shapes import KEPT, SHAPES, ByShape


@pytest.fixture
def counted():
    calls = []

    def f(*trees):
        calls.append(trees)
        return jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), trees)

    table = ByShape()
    return lambda *trees: table(f, *trees), calls, table


def test_equal_shapes_are_looked_up_and_other_ones_are_not(counted):
    known, calls, _ = counted
    tree = {"w": jnp.ones((2, 3)), "n": np.ones(4, np.int32)}
    assert known(tree) == ({"w": ((2, 3), "float32"), "n": ((4,), "int32")},)
    assert known({"w": jnp.zeros((2, 3)), "n": np.zeros(4, np.int32)}) == known(tree)
    assert len(calls) == 1
    others = [
        {"w": jnp.ones((3, 2)), "n": tree["n"]},
        {"w": jnp.ones((2, 3), jnp.bfloat16), "n": tree["n"]},
        {"w": tree["w"], "n": np.ones(4, np.int16)},
        {"v": tree["w"], "n": tree["n"]},
        {"w": tree["w"], "n": 1.0},
    ]
    for count, other in enumerate(others, start=2):
        assert known(other) == (jax.tree.map(lambda a: (jnp.shape(a), str(jnp.result_type(a))), other),)
        assert known(tree)[0]["w"] == ((2, 3), "float32")
        assert len(calls) == count


def test_code_at_the_address_of_code_that_is_gone_is_other_code(counted):
    known, calls, _ = counted
    for number in range(40):  # a new function often lies where the one before lay
        known(Static(lambda number=number: number), jnp.ones(2))
        assert len(calls) == number + 1


def test_tables_stay_small(counted):
    known, _, table = counted
    for number in range(3 * KEPT):
        known({str(number): 1.0})
    for length in range(1, 3 * SHAPES):
        known(jnp.ones(length))
    assert len(table.known) == KEPT
    assert all(len(shapes) <= SHAPES for shapes in table.known.values())
