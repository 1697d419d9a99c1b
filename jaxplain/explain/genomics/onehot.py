"""Sequences of letters as rows of zeros and ones."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxplain import check


def one_hot(x: Any, name: str) -> None:
    """Require a sequence `[L, A]`, of concrete values rows with a single 1, or of zeros where a letter is unknown."""
    check.differentiable(x, name)
    check.finite(x, name)
    if jnp.ndim(x) != 2:
        raise ValueError(
            f"{name}: `x` has shape {jnp.shape(x)}; it has to be one sequence [L, A] of one-hot letters, such as "
            "[L, 4]. A batch is explained by `explain_batch`."
        )
    if not check.is_concrete(x):
        return
    values = np.asarray(x)
    wrong = np.flatnonzero(~np.isin(values, (0, 1)).all(axis=1) | (values.sum(axis=1) > 1))
    if wrong.size:
        raise ValueError(
            f"{name}: `x` has {len(wrong)} positions that are no one-hot letters (the first is {wrong[0]}, "
            f"{values[wrong[0]].tolist()}). Each row has to hold one 1, or zeros where the letter is not known."
        )
