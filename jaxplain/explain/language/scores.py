"""Scores of text: one number from a causal model's outputs `[T, K]` at the positions that predict tokens.

`f(x, positions, tokens, *inputs) -> scalar` for one sequence of ids `x` `[T]`, from a batch-first `apply`. The outputs
at position p predict the token at p + 1. All targets at once are a `jax.vmap` over positions and tokens: the model then
runs once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program import Function, as_function, public
from jaxplain.readout import Select, selector, wide
from jaxplain.score import ModelScore
from jaxplain.types import Array, Pytree

Reading = Callable[[Array, Any, str], Array]


class TextScore(ModelScore):
    """A score of text: `f(x, positions, tokens=None, *inputs) -> scalar`. Made by the functions below."""

    def __call__(self, x: Pytree, positions: Any = None, tokens: Any = None, *inputs: Any) -> Array:
        """Score one sequence; x of the model's input shape without the batch axis; a scalar in float32 or wider."""
        if positions is None:
            raise ValueError(
                f"{self.name}: the positions are missing: f(x, positions, tokens). The outputs at position p predict "
                "the token at p + 1."
            )
        logits = text_outputs(self, x, inputs)
        where = whole_numbers(positions, self.name, "positions")
        rows, valid = _rows(logits, jnp.atleast_1d(where), self.name)
        value = self.reduce(rows, tokens, self.name)
        return value if valid is True else jnp.where(valid, value, jnp.nan)

    def check_call(self, x: Pytree, positions: Any = None, tokens: Any = None, *inputs: Any) -> None:
        """Raise for concrete batched positions and tokens outside the outputs (used by drivers)."""
        row = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), (x, inputs))
        length, size = jax.eval_shape(lambda f, x, inputs: text_outputs(f, x, inputs), self, *row).shape
        if positions is not None and check.is_concrete(positions):
            _position_range(np.asarray(positions), length, self.name)
        if isinstance(self.reduce, _Tokens) and tokens is not None:
            for leaf in jax.tree.leaves(tokens):
                if check.is_concrete(leaf):
                    token_range(np.asarray(leaf), size, self.name)


def text_outputs(score: ModelScore, x: Pytree, inputs: tuple[Any, ...]) -> Array:
    """The outputs of one sequence, `[T, K]` in float32 or wider."""
    outputs = wide(score.outputs(x, *inputs))
    if outputs.ndim != 2:
        raise ValueError(
            f"{score.name}: for one sequence `apply` gave the shape {outputs.shape}; a score of text reads [T, K], one "
            "row of logits for each position. Use jaxplain.logit for a model with one output for a whole sequence."
        )
    return outputs


def whole_numbers(value: Any, name: str, argument: str) -> Array:
    """Require an integer or integers `[n]`, and return them as an array."""
    try:
        array = value if hasattr(value, "dtype") else np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise TypeError(f"{name}: `{argument}` has to be integers, not {check.short(value)}.") from error
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{name}: `{argument}` has to be an integer or integers [n], not {check.short(value)}.")
    if jnp.ndim(array) > 1:
        raise ValueError(
            f"{name}: `{argument}` has shape {jnp.shape(array)}; pass one integer or integers [n]. A batch goes "
            "through `jax.vmap` or `explain_batch`."
        )
    if jnp.shape(array) == (0,):
        raise ValueError(f"{name}: `{argument}` is empty: there is no token to score.")
    return jnp.asarray(array)


def _rows(logits: Array, positions: Array, name: str) -> tuple[Array, Any]:
    """The outputs at some positions `[n, K]`, and whether all of those exist: True, or a traced flag."""
    if check.is_concrete(positions):
        _position_range(np.asarray(positions), logits.shape[0], name)
        return logits[positions], True
    inside = (positions >= 0) & (positions < logits.shape[0])
    return logits.at[positions].get(mode="clip"), jnp.all(inside)


def _position_range(positions: np.ndarray, length: int, name: str) -> None:
    wrong = positions[(positions < 0) | (positions >= length)]
    if wrong.size:
        raise ValueError(
            f"{name}: position {int(wrong.reshape(-1)[0])} is outside the sequence of {length} tokens; positions run "
            f"from 0 to {length - 1} (not back from the end, which may be padding). The outputs at position p predict "
            "the token at p + 1."
        )


def token_range(tokens: np.ndarray, size: int, name: str) -> None:
    """Require that concrete ids lie inside the vocabulary."""
    wrong = tokens[(tokens < 0) | (tokens >= size)]
    if wrong.size:
        raise ValueError(
            f"{name}: token id {int(wrong.reshape(-1)[0])} is outside the vocabulary of {size}; ids run from 0 to "
            f"{size - 1}."
        )


def _picked(rows: Array, tokens: Any, name: str, argument: str = "tokens") -> Array:
    """The sum over positions of what the rows `[n, K]` hold for their tokens."""
    if tokens is None:
        raise ValueError(f"{name}: the tokens are missing: f(x, positions, tokens), one token for each position.")
    ids = jnp.atleast_1d(whole_numbers(tokens, name, argument))
    if ids.shape != rows.shape[:1]:
        raise ValueError(
            f"{name}: there are {rows.shape[0]} positions, but {ids.shape[0]} tokens in `{argument}`; pass one token "
            "for each position."
        )
    picked = jnp.take_along_axis(rows, jnp.clip(ids, 0, rows.shape[1] - 1)[:, None], axis=1).sum()
    if check.is_concrete(ids):
        token_range(np.asarray(ids), rows.shape[1], name)
        return picked
    return jnp.where(jnp.all((ids >= 0) & (ids < rows.shape[1])), picked, jnp.nan)


class _Tokens(Function):
    """Base of readings that pick tokens."""


class _Logit(_Tokens):
    def __call__(self, rows: Array, tokens: Any, name: str) -> Array:
        return _picked(rows, tokens, name)


class _LogProbability(_Tokens):
    def __call__(self, rows: Array, tokens: Any, name: str) -> Array:
        return _picked(jax.nn.log_softmax(rows), tokens, name)


class _Contrast(_Tokens):
    """What the rows hold for one token more than for another."""

    def __call__(self, rows: Array, tokens: Any, name: str) -> Array:
        if not isinstance(tokens, tuple | list) or len(tokens) != 2:
            raise TypeError(
                f"{name}: `tokens` has to be a pair (this token, that token) of ids, or of ids [n] for n positions, "
                f"not {check.short(tokens)}."
            )
        return _picked(rows, tokens[0], name, "tokens[0]") - _picked(rows, tokens[1], name, "tokens[1]")


class _Entropy(Function):
    def __call__(self, rows: Array, tokens: Any, name: str) -> Array:
        log = jax.nn.log_softmax(rows)
        # A token of probability 0 (a logit of minus infinity) takes no part, and neither does its derivative.
        return -jnp.sum(jnp.where(jnp.isfinite(log), jnp.exp(log) * jnp.where(jnp.isfinite(log), log, 0.0), 0.0))


class _Divergence(Function):
    """KL of another run's distribution from this one's."""

    def __call__(self, rows: Array, tokens: Any, name: str) -> Array:
        if not hasattr(tokens, "dtype") or not jnp.issubdtype(jnp.result_type(tokens), jnp.floating):
            raise TypeError(
                f"{name}: pass the other run's logits [K], or [n, K] for n positions, in the place of tokens, not "
                f"{check.short(tokens)}."
            )
        other = jnp.atleast_2d(wide(jnp.asarray(tokens)))
        if other.shape != rows.shape:
            raise ValueError(
                f"{name}: the other run's logits have shape {jnp.shape(tokens)}, but the outputs at the positions have "
                f"{rows.shape}."
            )
        log = jax.nn.log_softmax(other)
        there = jnp.isfinite(log)
        gap = jnp.where(there, log, 0.0) - jnp.where(there, jax.nn.log_softmax(rows), 0.0)
        return jnp.sum(jnp.where(there, jnp.exp(log) * gap, 0.0))


def _made(name: str, apply: Callable[..., Any], params: Pytree, select: Select, reduce: Any) -> TextScore:
    return TextScore(as_function(model_function(apply, name)), params, selector(select, name), reduce, name)


def model_function(apply: Any, name: str) -> Any:
    """Require a function of parameters and a batch."""
    if not callable(apply):
        raise TypeError(
            f"{name}: `apply` has to be a function (params, batch) -> outputs, such as a Flax module's `apply`, not "
            f"{type(apply).__name__}. For an NNX model use `apply, params = jaxplain.from_nnx(model)`."
        )
    return apply


@public
def token_logit(apply: Callable[..., Any], params: Pytree, *, select: Select = None) -> TextScore:
    """Score by the logit of a token: f(x, p, k) = z[p, k], summed over several positions.

    Args:
        apply: `apply(params, batch, *inputs) -> logits [B, T, K]`, batch first, as in `jaxplain.logit`.
        params: The model's variables, any pytree; they stay leaves of the score.
        select: Which part of the output holds the logits, as in `jaxplain.logit`: 'logits' for models of
            `transformers`.

    Returns:
        `f(x, positions, tokens, *inputs) -> scalar`. `positions` is the place of the outputs that are read, an integer
        from 0 or integers `[n]`: those at p predict the token at p + 1. `tokens` is the id there, or ids `[n]`, whose
        values are added. Cost: one forward pass.

    Raises:
        ValueError: Concrete positions outside the sequence or ids outside the vocabulary (traced ones give NaN), counts
            that differ, outputs that are not `[B, T, K]`.
        TypeError: `apply` is not callable; positions or tokens that are no integers.

    Example:
        >>> import jax.numpy as jnp
        >>> f = token_logit(lambda table, x: table[x], jnp.array([[1.0, 2.0], [3.0, 4.0]]))
        >>> float(f(jnp.array([0, 1]), 1, 0)), float(f(jnp.array([0, 1]), [0, 1], [1, 1]))
        (3.0, 6.0)
    """
    return _made("token_logit", apply, params, select, _Logit())


@public
def token_log_probability(apply: Callable[..., Any], params: Pytree, *, select: Select = None) -> TextScore:
    """Score by the log-probability of a token: f(x, p, k) = log softmax(z[p])[k], summed over several positions.

    With the positions and tokens of a continuation that is part of `x` this is its log-probability, teacher forced,
    and the attribution counts what its own earlier tokens do; `sequence_log_probability` counts the prompt alone.

    Args:
        apply: As in `token_logit`.
        params: As in `token_logit`.
        select: As in `token_logit`.

    Returns:
        `f(x, positions, tokens, *inputs) -> scalar`, at most 0, in nats. Cost: one forward pass.

    Raises:
        ValueError, TypeError: As in `token_logit`.

    Example:
        >>> import jax.numpy as jnp
        >>> f = token_log_probability(lambda table, x: table[x], jnp.zeros((2, 4)))
        >>> bool(jnp.isclose(f(jnp.array([0, 1]), 1, 3), -jnp.log(4.0)))
        True
    """
    return _made("token_log_probability", apply, params, select, _LogProbability())


@public
def contrastive(apply: Callable[..., Any], params: Pytree, *, select: Select = None) -> TextScore:
    """Score by how much more a token is preferred than another: f(x, p, (k, j)) = z[p, k] - z[p, j].

    Which is the difference of their log-probabilities, too. Its attribution by a method that is linear in the score is
    the difference of two: why this token rather than that one.

    Args:
        apply: As in `token_logit`.
        params: As in `token_logit`.
        select: As in `token_logit`.

    Returns:
        `f(x, positions, tokens, *inputs) -> scalar` in logits, where `tokens` is a pair (this, that) of ids, or of ids
        `[n]` for n positions. Cost: one forward pass.

    Raises:
        ValueError: As in `token_logit`.
        TypeError: As in `token_logit`; `tokens` that is no pair.

    Example:
        >>> import jax.numpy as jnp
        >>> f = contrastive(lambda table, x: table[x], jnp.array([[1.0, 2.0], [3.0, 7.0]]))
        >>> float(f(jnp.array([0, 1]), 1, (1, 0)))
        4.0

    Source: Yin and Neubig 2022, "Interpreting language models with contrastive explanations", section 3.
    """
    return _made("contrastive", apply, params, select, _Contrast())


@public
def entropy(apply: Callable[..., Any], params: Pytree, *, select: Select = None) -> TextScore:
    """Score by how undecided the model is: f(x, p) = - sum_k P_k log P_k with P = softmax(z[p]).

    Args:
        apply: As in `token_logit`.
        params: As in `token_logit`.
        select: As in `token_logit`.

    Returns:
        `f(x, positions, tokens=None, *inputs) -> scalar`, between 0 and log K, in nats, summed over several positions;
        `tokens` is not read. Cost: one forward pass.

    Raises:
        ValueError, TypeError: As in `token_logit`, for positions.

    Example:
        >>> import jax.numpy as jnp
        >>> f = entropy(lambda table, x: table[x], jnp.zeros((2, 4)))
        >>> bool(jnp.isclose(f(jnp.array([0, 1]), 1), jnp.log(4.0)))
        True
    """
    return _made("entropy", apply, params, select, _Entropy())


@public
def kl_to(apply: Callable[..., Any], params: Pytree, *, select: Select = None) -> TextScore:
    """Score by how far the predictions are from another run's: f(x, p, other) = KL(softmax(other) || softmax(z[p])).

    The other run may be that of the same model on another input, or of another model: only its logits matter.

    Args:
        apply: As in `token_logit`.
        params: As in `token_logit`.
        select: As in `token_logit`.

    Returns:
        `f(x, positions, other, *inputs) -> scalar`, at least 0, in nats, summed over several positions. `other` are the
        other run's logits at the positions, `[K]` or `[n, K]`. Cost: one forward pass.

    Raises:
        ValueError: As in `token_logit`, for positions; logits of another shape.
        TypeError: As in `token_logit`; `other` that is no array of floating-point numbers.

    Example:
        >>> import jax.numpy as jnp
        >>> f = kl_to(lambda table, x: table[x], jnp.array([[0.0, 0.0], [1.0, 0.0]]))
        >>> float(f(jnp.array([0, 1]), 0, jnp.zeros(2)))
        0.0
    """
    return _made("kl_to", apply, params, select, _Divergence())
