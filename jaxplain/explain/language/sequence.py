"""The score of a whole continuation, teacher forced: the prompt is explained, what was generated is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.explain.language.scores import model_function, text_outputs, token_range, whole_numbers
from jaxplain.program import as_function, public
from jaxplain.readout import Select, selector
from jaxplain.score import ModelScore
from jaxplain.types import Array, Pytree


class SequenceScore(ModelScore):
    """The log-probability of a continuation: `f(x, start, tokens, *inputs)`. Made by `sequence_log_probability`."""

    def __call__(self, x: Pytree, start: Any = None, tokens: Any = None, *inputs: Any) -> Array:
        """Score one prompt `[S]`, of whose ids the first `start` count."""
        if tokens is None:
            raise ValueError(f"{self.name}: the continuation is missing: f(x, start, tokens).")
        if jnp.ndim(x) != 1 or not jnp.issubdtype(jnp.result_type(x), jnp.integer):
            raise TypeError(
                f"{self.name}: `x` has {check.describe(x)}; pass the prompt's token ids [S], integers. Gradients are "
                "taken where the ids are looked up."
            )
        given = jnp.atleast_1d(whole_numbers(tokens, self.name, "tokens")).astype(jnp.result_type(x))
        length, count = jnp.shape(x)[0], given.shape[0]
        first = jnp.asarray(length if start is None else start)
        if check.is_concrete(first):
            _start_range(np.asarray(first), length, self.name)
        row = jnp.arange(length + count)
        # By selection, so that it is known which rows of the embedding are the prompt's.
        written = (row >= first) & (row < first + count)
        continued = given.at[row - first].get(mode="clip")
        sequence = jnp.where(written, continued, jnp.pad(jnp.asarray(x), (0, count)))
        log = jax.nn.log_softmax(text_outputs(self, sequence, inputs))
        if check.is_concrete(given):
            token_range(np.asarray(given), log.shape[-1], self.name)
        rows = log.at[first - 1 + jnp.arange(count)].get(mode="clip")
        value = jnp.take_along_axis(rows, jnp.clip(given, 0, log.shape[-1] - 1)[:, None], axis=1).sum()
        inside = (first > 0) & (first <= length) & jnp.all((given >= 0) & (given < log.shape[-1]))
        return jnp.where(inside, value, jnp.nan)

    def check_call(self, x: Pytree, start: Any = None, tokens: Any = None, *inputs: Any) -> None:
        """Raise for concrete batched starts outside the prompts (used by drivers)."""
        if start is not None and check.is_concrete(start):
            _start_range(np.asarray(start), jnp.shape(x)[-1], self.name)


def _start_range(start: np.ndarray, length: int, name: str) -> None:
    wrong = start[(start < 1) | (start > length)]
    if wrong.size:
        raise ValueError(
            f"{name}: `start` is {int(wrong.reshape(-1)[0])}, but the prompt holds {length} tokens: the continuation "
            f"starts at 1 to {length}, behind the prompt's real tokens and before its padding."
        )


@public
def sequence_log_probability(apply: Callable[..., Any], params: Pytree, *, select: Select = None) -> SequenceScore:
    """Score a prompt by the log-probability of what follows it: f(x, s, y) = sum_t log P(y_t | x_<s, y_<t).

    The continuation is teacher forced, and stays as it is when a method changes the prompt: attributions say what of
    the prompt the whole continuation rests on. The model has to be causal: what is behind the continuation (padding)
    is not looked at by the positions that are read.

    Args:
        apply: As in `token_logit`.
        params: As in `token_logit`.
        select: As in `token_logit`.

    Returns:
        `f(x, start, tokens, *inputs) -> scalar`, at most 0, in nats. `x` are the prompt's ids `[S]`; `start` is how
        many of them are real (the rest is padding on the right), None for all; `tokens` are the continuation's ids
        `[n]`. The model runs on `[S + n]` ids, and `inputs` have to fit those. Cost: one forward pass.

    Raises:
        ValueError: A `start` outside the prompt, an empty continuation, ids outside the vocabulary (traced ones give
            NaN), outputs that are not `[B, T, K]`.
        TypeError: As in `token_logit`; a prompt that is no integers `[S]`.

    Example:
        >>> import jax.numpy as jnp
        >>> f = sequence_log_probability(lambda table, x: table[x], jnp.zeros((4, 4)))
        >>> bool(jnp.isclose(f(jnp.array([0, 1]), 2, jnp.array([3, 2])), -2 * jnp.log(4.0)))
        True
    """
    name = "sequence_log_probability"
    return SequenceScore(as_function(model_function(apply, name)), params, selector(select, name), None, name)
