"""Short names of what is computed: of arrays and of traced programs, equal for equal ones."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxplain.program.trace.compat import Program, is_literal, literal_value, open_program, subprograms

ADDRESS = re.compile(r" at 0x[0-9a-f]+|\bid=\d+|0x[0-9a-f]{6,}")
"""Places in memory, in the text of a program."""


def digest(*parts: Any) -> str:
    """A short hexadecimal name of bytes."""
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        total.update(part)
    return total.hexdigest()


def array_digest(leaf: Any) -> str:
    """Shape, dtype and values of an array."""
    if hasattr(leaf, "dtype") and jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return digest(*array_parts(whole_value(leaf)))


def array_parts(values: np.ndarray) -> tuple[bytes, Any]:
    """What an array is, and its bytes, not copied."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return str((values.shape, str(values.dtype))).encode(), flat.view(np.uint8).data if flat.size else b""


def whole_value(leaf: Any) -> np.ndarray:
    """The value of an array on the host, fetched from other processes where it is spread over them."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
    return np.asarray(leaf)


def program_digest(closed: Any) -> str:
    """What a traced program computes: every operation, setting and constant, whatever it is called."""
    text = ADDRESS.sub("", str(closed))
    values = [array_digest(value) for value in _constants(open_program(closed))]
    return digest(text.encode(), *(value.encode() for value in values))


def _constants(program: Program) -> Iterator[Any]:
    """The arrays written into a program and those inside it."""
    yield from program.constants
    for equation in program.equations:
        yield from (literal_value(a) for a in equation.invars if is_literal(a) and np.ndim(literal_value(a)))
        for inner in subprograms(equation):
            yield from _constants(inner)
