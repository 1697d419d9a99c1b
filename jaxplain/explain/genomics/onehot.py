"""Sequences of letters as rows of zeros and ones."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import is_array


def one_hot(x: Any, name: str) -> None:
    """Require a sequence `[L, A]`, of concrete values rows with a single 1, or of zeros where a letter is unknown."""
    check.differentiable(x, name)
    check.finite(x, name)
    if not is_array(x):
        raise TypeError(f"{name}: `x` is a {type(x).__name__}; it has to be one array [L, A] of one-hot letters.")
    if jnp.ndim(x) != 2:
        raise ValueError(
            f"{name}: `x` has shape {jnp.shape(x)}; it has to be one sequence [L, A] of one-hot letters, such as "
            "[L, 4]. A batch is explained by `explain_batch`."
        )
    if check.is_concrete(x):
        known_letters(x, name)


def known_batch(x: Any, name: str) -> None:
    """Look at the letters of a concrete batch `[B, L, A]`; of another shape each example says what is wrong."""
    if getattr(x, "ndim", 0) == 3:
        known_letters(x, name)


def known_letters(x: Any, name: str) -> None:
    """Require rows of concrete sequences `[L, A]`, or of a batch of them, with a single 1 or of zeros."""
    values = np.asarray(x).reshape(-1, jnp.shape(x)[-1])
    wrong = np.flatnonzero(~np.isin(values, (0, 1)).all(axis=1) | (values.sum(axis=1) > 1))
    if wrong.size:
        raise ValueError(
            f"{name}: `x` has {len(wrong)} positions that are no one-hot letters (the first is "
            f"{wrong[0] % jnp.shape(x)[-2]}, "
            f"{values[wrong[0]].tolist()}). Each row has to hold one 1, or zeros where the letter is not known."
        )
