"""Transformers compiled from programs, whose circuits are known: `tracr`, an optional extra of the tests."""

from __future__ import annotations

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

LENGTH = 4


class Compiled(NamedTuple):
    """A compiled program.

    model: as tracr assembles it; inputs: every sequence of the vocabulary, as ids; outputs: the directions of the
    residual stream that hold the program's result; score: `(ids, weights) -> weights . outputs`.
    """

    model: Any
    program: Any
    inputs: jax.Array
    outputs: np.ndarray
    score: Any


def programs() -> dict[str, tuple[Any, Any]]:
    """Programs that are compiled, with their vocabularies."""
    from tracr.compiler import lib
    from tracr.rasp import rasp

    tokens = rasp.tokens
    return {
        "share of a token so far": (lib.make_frac_prevs(tokens == "x"), "wxy"),
        "reverse": (lib.make_reverse(tokens), "abc"),
        "sort": (lib.make_sort(tokens, tokens, max_seq_len=LENGTH, min_key=1), (1, 2, 3)),
        "sort distinct": (lib.make_sort_unique(tokens, tokens), (1, 2, 3)),
        "histogram": (lib.make_hist(), "abc"),
        "length": (lib.make_length(), "abc"),
        "balance": (lib.make_pair_balance(tokens, "(", ")"), "()a"),
        "balanced brackets": (lib.make_shuffle_dyck(["()"]), "()a"),
        "sort by frequency": (lib.make_sort_freq(max_seq_len=LENGTH), "abc"),
        "shift": (lib.shift_by(1, tokens), "abc"),
    }


@functools.cache
def compiled(name: str) -> Compiled:
    """Compile a program."""
    from tracr.compiler import compiling

    program, vocabulary = programs()[name]
    model = compiling.compile_rasp_to_model(program, vocab=set(vocabulary), max_seq_len=LENGTH, compiler_bos="BOS")
    every = [model.input_encoder.encode(["BOS", *row]) for row in itertools.product(vocabulary, repeat=LENGTH)]
    places = [i for i, label in enumerate(model.residual_labels) if label.partition(":")[0] == program.label]
    outputs = np.asarray(places)

    def score(ids: jax.Array, weights: jax.Array) -> jax.Array:
        stream = model.forward(model.params, ids[None]).transformer_output.output[0]
        return (stream[1:, outputs] * weights).sum()

    return Compiled(model, program, jnp.asarray(every), outputs, score)
