"""Attribution of generated text: what each token of a continuation rests on among the tokens before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxplain import check
from jaxplain.baseline import Perturbing
from jaxplain.explain.language.scores import TextScore, token_range
from jaxplain.explain.shapley import Coalitional
from jaxplain.program import as_function, needs_key, public
from jaxplain.program.fast import fast_layout
from jaxplain.program.node import look_up
from jaxplain.program.trace import Compiled
from jaxplain.score import ModelScore
from jaxplain.types import Array

NAME = "explain_generation"
SHORTEST = 16
"""Tokens of the shortest bucket."""
SHARED = 256
"""Tokens up to which all targets share one forward pass, whose values then stay for all: a third of the time for a
third more memory."""


class Row(NamedTuple):
    """One prompt with its continuation.

    ids: `[S]`, all but the last token; prompt: how many of them are the prompt's; targets, others: the tokens that are
    explained, and those that they are held against, both `[T]`; groups: of the tokens, `[S]`, or None; inputs: what the
    score takes besides, numbers and arrays `[S, ...]`.
    """

    ids: np.ndarray
    prompt: int
    targets: np.ndarray
    others: np.ndarray | None
    groups: np.ndarray | None
    inputs: tuple[Any, ...]


@public
def explain_generation(
    method: Callable[..., Any],
    f: Callable[..., Any],
    prompt: Any,
    continuation: Any,
    *,
    against: Any = None,
    groups: Any = None,
    inputs: Any = None,
    key: Array | None = None,
    padding: int = 0,
    longest: int | None = None,
    batch_size: int | None = None,
) -> Any:
    """Explain every token of a continuation by the tokens before it: row t holds what token t rests on.

    Token t is scored by `f(x, p, y_t)`, where x holds the prompt and the continuation and p is the place before token
    t, and `method(f)` explains that: the same as T calls of it. All targets run in one compiled program. Sequences are
    padded on the right to one of three lengths (the longest of the call, rounded up, its half and its quarter, or three
    quarters where a quarter is less than 16 tokens), so that prompts of any lengths compile at most three programs, and
    later calls none that are as long. What is behind a position must not reach it, so the model has to be causal, which
    is looked at in every call.

    Methods without derivatives change the tokens once for all targets: a forward pass of the model serves all T.

    Args:
        method: From a score to an explanation: `jaxplain.input_x_gradient`, or with settings
            `functools.partial(jaxplain.shapley_sampling, baseline=0, samples=16)`. Methods with derivatives explain the
            rows that the ids look up; the others replace ids by those of their `baseline` (an id such as that of a
            mask, ids, or a function that draws some).
        f: A score of text, `f(x, position, token) -> scalar`, such as `token_log_probability(apply, params)`, or
            `contrastive` with `against`.
        prompt: Token ids `[P]`, or a list of B such of any lengths.
        continuation: Token ids `[T]`, or a list of B such.
        against: For `contrastive`: what might have stood in each token's place, ids like `continuation`.
        groups: Tokens that go together (from `segments`), integers `[P + T - 1]` from 0 without gaps, or a list of B
            such; for methods that take `groups`.
        inputs: What `f(x, position, token, *inputs)` takes besides, a tuple (or a list of B such): arrays
            `[P + T - 1, ...]` that go along with the tokens, such as an attention mask or token types, and numbers.
            Arrays are padded by their last row, square masks with hidden columns. They are held, and not explained.
        key: Where the method is random. Example b draws from `fold_in(key, b)`, all of its targets alike.
        padding: The id that fills a sequence up.
        longest: How many tokens the model takes at most, where padding must not go beyond it.
        batch_size: How many targets are explained at once. None is one for methods with derivatives, whose memory is
            then that of one gradient, and all for the others.

    Returns:
        `[T, P + T - 1]` in units of the score, zeros where a token is not before a target; for lists a list of B such.
        Cost: T explanations, and for methods without derivatives one, of the padded length; and two forward passes.

    Raises:
        ValueError: An empty prompt or continuation, lists of different lengths, ids outside the vocabulary, a model
            that is not causal, more tokens than `longest`, a missing key.
        TypeError: Ids that are no integers, `f` that scores whole sequences, a method that explains something else
            than the tokens.

    Example:
        >>> import jax, jax.numpy as jnp, jaxplain
        >>> from jaxplain.explain.language.scores import token_logit
        >>> table = jnp.eye(4)
        >>> f = token_logit(lambda t, x: jnp.cumsum(t[x], axis=1), table)  # how often a token has been there
        >>> explain_generation(jaxplain.input_x_gradient, f, [1, 2, 1], [1, 2]).tolist()
        [[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]]

    Source: teacher forcing as in Sarti et al. 2023, "Inseq: an interpretability toolkit for sequence generation
    models", section 3.
    """
    single = not _is_list(prompt)
    rows = _rows(prompt, continuation, against, groups, inputs, single)
    if isinstance(f, ModelScore) and not isinstance(f, TextScore):
        raise TypeError(
            f"{NAME}: `f` is {f.name}; pass a score of single tokens, f(x, position, token), such as "
            "jaxplain.language.token_log_probability(apply, params)."
        )
    score = as_function(check.callable_score(f, NAME))
    e = as_function(check.made(check.function(method, NAME, "method", "(f) -> explanation")(score), NAME, "method"))
    if needs_key(e):
        if key is None:
            raise ValueError(f"{NAME}: the method is random and needs a key: {NAME}(..., key=jax.random.key(0)).")
        check.threefry(key, NAME)
    lengths = _lengths([row.ids.size for row in rows], longest)
    most = max((int(row.groups.max()) + 1 for row in rows if row.groups is not None), default=None)
    count = batch_size if batch_size is None else check.count(batch_size, NAME, "batch_size")
    _refuse_ids(score, rows[0], rows)
    slots = 1 << (max(row.targets.size for row in rows) - 1).bit_length()
    found = []
    for index, row in enumerate(rows):
        length = next(length for length in lengths if length >= row.ids.size)
        own = jax.random.fold_in(key, index) if needs_key(e) and key is not None else None
        found.append(_explained(e, score, row, (length, slots), own, padding, most, count))
    results = [_read(part, row, index, single) for index, (part, row) in enumerate(zip(found, rows, strict=True))]
    return results[0] if single else results


def _is_list(value: Any) -> bool:
    """Whether sequences were given and not one: a list of arrays, or of lists."""
    return isinstance(value, list | tuple) and any(isinstance(v, list | tuple) or np.ndim(v) > 0 for v in value)


def _rows(prompt: Any, continuation: Any, against: Any, groups: Any, inputs: Any, single: bool) -> list[Row]:
    given = {
        "prompt": prompt, "continuation": continuation, "against": against, "groups": groups, "inputs": inputs
    }  # fmt: skip
    lists: dict[str, Sequence[Any]] = {}
    for argument, value in given.items():
        if value is not None and not single and not isinstance(value, list | tuple):
            raise TypeError(
                f"{NAME}: `prompt` is a list of {len(prompt)}, so `{argument}` has to be one, too, not "
                f"{check.short(value)}."
            )
        lists[argument] = [None] * (1 if single else len(prompt)) if value is None else [value] if single else value
        if len(lists[argument]) != len(lists["prompt"]):
            raise ValueError(
                f"{NAME}: `prompt` holds {len(prompt)} sequences, but `{argument}` holds {len(lists[argument])}."
            )
    return [_row(*parts) for parts in zip(*lists.values(), strict=True)]


def _row(prompt: Any, continuation: Any, against: Any, groups: Any, inputs: Any) -> Row:
    first, targets = _ids(prompt, "prompt"), _ids(continuation, "continuation")
    others = None if against is None else _ids(against, "against")
    if others is not None and others.shape != targets.shape:
        raise ValueError(f"{NAME}: `against` holds {others.size} tokens, but `continuation` holds {targets.size}.")
    ids = np.concatenate([first, targets[:-1]])
    if groups is not None:
        try:
            groups = np.asarray(groups)
        except ValueError as error:  # rows of different lengths
            raise TypeError(f"{NAME}: `groups` has to be integers [S], not {check.short(groups)}.") from error
        if not np.issubdtype(groups.dtype, np.integer):
            raise TypeError(f"{NAME}: `groups` has to hold integers from 0 up, not {check.short(groups)}.")
        if groups.shape != ids.shape:
            raise ValueError(
                f"{NAME}: `groups` has shape {groups.shape}, but there are {ids.size} tokens before the last that is "
                f"explained ({first.size} of the prompt and {targets.size - 1} of the continuation)."
            )
        if np.unique(groups).tolist() != list(range(int(groups.max()) + 1)):
            raise ValueError(f"{NAME}: `groups` has to number the groups from 0 without gaps.")
    return Row(ids, first.size, targets, others, groups, _inputs(inputs, ids.size))


def _inputs(inputs: Any, size: int) -> tuple[Any, ...]:
    """What a score takes besides the tokens, for one prompt."""
    if inputs is None:
        return ()
    if not isinstance(inputs, tuple):
        raise TypeError(f"{NAME}: `inputs` has to be a tuple, (attention_mask,), not {check.short(inputs)}.")
    for leaf in jax.tree.leaves(tuple(inputs)):
        if check.odd_leaf(leaf) is not None or not check.is_concrete(leaf):
            raise TypeError(f"{NAME}: `inputs` has to hold arrays and numbers, not {check.short(leaf)}.")
        shape = np.shape(leaf)
        if shape and shape[0] != size:
            raise ValueError(
                f"{NAME}: `inputs` holds an array of shape {shape}, but there are {size} tokens before the last that "
                f"is explained. Pass arrays [{size}, ...] that go along with them; bind others to the score."
            )
        if shape[1:].count(size) and check.is_floating(leaf) and len(shape) == 2:
            raise TypeError(
                f"{NAME}: `inputs` holds numbers {shape} for pairs of tokens, and what hides a pair that is padding is "
                "not known of them. Pass a mask of booleans (or of 0 and 1 as integers)."
            )
    return jax.tree.map(np.asarray, tuple(inputs))


def _longer(value: np.ndarray, size: int, length: int) -> np.ndarray:
    """An input that goes along with the tokens, of the padded length."""
    if not value.ndim:
        return value
    longer = np.pad(value, [(0, length - size)] + [(0, 0)] * (value.ndim - 1), mode="edge")
    square = value.ndim == 2 and value.shape[1] == size
    return np.pad(longer, [(0, 0), (0, length - size)]) if square else longer


def _ids(value: Any, argument: str) -> np.ndarray:
    if any(not check.is_concrete(leaf) for leaf in jax.tree.leaves(value)):
        raise TypeError(f"{NAME}: `{argument}` is being traced; its length and values decide what is computed.")
    try:
        ids = np.asarray(value)
    except ValueError:
        ids = np.zeros(())
    if ids.size == 0 and ids.ndim == 1:
        raise ValueError(f"{NAME}: `{argument}` holds no tokens (length 0); there has to be one at least.")
    if not np.issubdtype(ids.dtype, np.integer) or ids.ndim != 1:
        raise TypeError(f"{NAME}: `{argument}` has to be token ids, integers [n], not {check.short(value)}.")
    return ids.astype(np.int32)


def _lengths(sizes: list[int], longest: int | None) -> list[int]:
    """The padded lengths: the longest sequence's, rounded up to a power of two or one and a half, and its parts."""
    top = SHORTEST
    while top < max(sizes):
        top = top * 3 // 2 if top & (top - 1) == 0 else top // 3 * 4
    if longest is not None:
        check.count(longest, NAME, "longest")
        if max(sizes) > longest:
            raise ValueError(f"{NAME}: a sequence has {max(sizes)} tokens, but the model takes {longest} at most.")
    last = top if longest is None else min(top, longest)
    return [*[length for length in (top // 4, top // 2, top // 4 * 3) if SHORTEST <= length < last][:2], last]


def _refuse_ids(score: Any, row: Row, rows: list[Row]) -> None:
    """Refuse ids outside the tables that they look up, and targets outside the outputs."""
    target = (row.prompt - 1, _token(row, 0))
    sizes: list[int] = []

    def shapes(score: Any, ids: Array) -> Any:
        sizes.extend(lookup.rows for lookup in look_up(score, ids, (*target, *row.inputs), NAME).lookups)
        return score.outputs(ids, *row.inputs) if isinstance(score, TextScore) else ids

    outputs = jax.eval_shape(shapes, score, jnp.asarray(row.ids))
    for each in rows:
        if sizes:
            token_range(each.ids, max(sizes), NAME)
        for tokens in (each.targets, each.others):
            if tokens is not None and (isinstance(score, TextScore) or sizes):
                token_range(tokens, outputs.shape[-1] if isinstance(score, TextScore) else max(sizes), NAME)


def _token(row: Row, t: int) -> Any:
    """A target as the score takes it: a token, or a pair."""
    pair = [jnp.asarray(tokens[t]) for tokens in (row.targets, row.others) if tokens is not None]
    return pair[0] if len(pair) == 1 else tuple(pair)


def _explained(
    e: Any, score: Any, row: Row, shape: tuple[int, int], key: Any, padding: int, most: int | None, count: int | None
) -> tuple[Array, Array]:
    """Dispatch one row's program: attributions `[slots, length]` for targets, and whether the model is causal."""
    length, slots = shape

    def padded(values: np.ndarray, size: int, fill: int) -> np.ndarray:
        return np.pad(values, (0, size - values.size), constant_values=fill)

    tokens: Any = padded(row.targets, slots, row.targets[-1])
    if row.others is not None:
        tokens = (tokens, padded(row.others, slots, row.others[-1]))
    e, forward = _grouped(e, row, length, most)
    at_once = (slots if forward else 1) if count is None else min(count, slots)
    scalars = np.asarray([row.ids.size, row.prompt, row.targets.size], np.int32)
    inputs = jax.tree.map(lambda value: _longer(value, row.ids.size, length), row.inputs)
    ids, lanes = padded(row.ids, length, padding), np.zeros(at_once, np.int8)
    return _program(e, score, key, ids, scalars, tokens, lanes, inputs)


def _grouped(e: Any, row: Row, length: int, most: int | None) -> tuple[Any, bool]:
    """The explanation whose features are a row's own tokens or groups, padding being part of the last; and whether it
    takes no derivative."""
    if hasattr(e, "unions"):
        raise TypeError(
            f"{NAME}: the groups of {e.name} are of one length. Explain a whole continuation, with "
            "jaxplain.language.sequence_log_probability, or pass `groups` and jaxplain.shapley_values."
        )
    forward = isinstance(e, Coalitional) or (isinstance(e, Perturbing) and e.holds is None)
    if not (forward and hasattr(e, "max_groups")):
        if row.groups is not None:
            raise TypeError(f"{NAME}: {getattr(e, 'name', 'the method')} takes no `groups` here.")
        return e, forward
    if e.groups is not None:
        raise ValueError(f"{NAME}: pass `groups` to {NAME}, one for each prompt, and not to the method.")
    own = np.arange(row.ids.size) if row.groups is None else row.groups
    groups = np.pad(own, (0, length - own.size), mode="edge").astype(np.int32)
    return dataclasses.replace(e, groups=groups, count=None, max_groups=length if most is None else most), forward


def _all_targets(
    e: Any, score: Any, key: Any, ids: Array, sizes: Array, tokens: Any, lanes: Array, inputs: tuple[Any, ...]
) -> Any:
    """The attributions of all targets, and whether what is behind the prompt changes what is said before it."""
    length, slots, (size, prompt, targets) = ids.shape[0], jax.tree.leaves(tokens)[0].shape[0], sizes

    def target(t: Array, ids: Array) -> Array:
        args = (prompt - 1 + t, jax.tree.map(lambda values: values[t], tokens), *inputs)
        result = e(ids, *args) if key is None else e(key, ids, *args)
        result = getattr(result, "attribution", result)
        if not hasattr(result, "shape") or jnp.shape(result) != ids.shape:
            raise TypeError(
                f"{NAME}: the method has to return one number for each token [S], not {check.short(result)}."
            )
        seen = jnp.arange(length) <= args[0]
        return jnp.where(seen, _whole(e, result, size), 0)

    at_once = lanes.shape[0]
    first = jnp.arange(at_once)
    blocks = -(-slots // at_once)
    shape = jax.eval_shape(target, first[0], ids)

    def step(block: Array, found: Array) -> Array:
        part = jax.vmap(target, (0, None))(jnp.minimum(block * at_once + first, targets - 1), _own(ids, block))
        return lax.dynamic_update_slice(found, part, (block * at_once, jnp.zeros((), block.dtype)))

    found = jnp.zeros((blocks * at_once, length), shape.dtype)
    if blocks == 1:
        found = step(jnp.zeros((), jnp.int32), found)
    else:
        found = lax.fori_loop(0, -(-targets // at_once), step, found)
    behind = jnp.arange(length) < prompt
    place, token = prompt - 1, jax.tree.map(lambda values: values[0], tokens)
    # Zeros, or the first token where that is a zero: something else than what stands there.
    other = jnp.where(ids == 0, ids[0], 0)
    # Two calls, of which the compiler may take the first from what was explained.
    ends = [score(row, place, token, *inputs) for row in (ids, jnp.where(behind, ids, other))]
    wide = 3e-2 if ends[0].dtype == jnp.bfloat16 else 1e-3
    return found, ~(jnp.abs(ends[0] - ends[1]) > wide * (1 + jnp.abs(ends[0])))


def _own(ids: Array, turn: Array) -> Array:
    """The ids; for long sequences such that XLA takes nothing that is made of them out of the turns of a loop."""
    return ids if ids.shape[0] <= SHARED else lax.optimization_barrier((ids, turn))[0]


def _whole(e: Any, values: Array, size: Array) -> Array:
    """Values of groups that were divided over the padding, too, put back on the tokens of the last group."""
    if not isinstance(e, Coalitional) or e.groups is None:
        return values
    groups, real = jnp.asarray(e.groups), jnp.arange(values.shape[0]) < size
    counts = jnp.zeros(values.shape[0], values.dtype)
    every, own = counts.at[groups].add(1), counts.at[groups].add(real.astype(values.dtype))
    return values * (every / jnp.maximum(own, 1))[groups]


def _fast(e: Any, score: Any, *arrays: Any) -> Any:
    """All targets in the layout that the backend is fast at."""
    return fast_layout(lambda *arrays: _all_targets(e, score, *arrays))(*arrays)


_program = Compiled(_fast)


def _read(found: tuple[Array, Array], row: Row, index: int, single: bool) -> Array:
    values, causal = found
    if not bool(causal):
        which = "" if single else f" for prompt {index}"
        raise ValueError(
            f"{NAME}: the score of the first token changes with the tokens behind its position{which}, so the model is "
            "not causal (or attends to padding on the right), and what a token rests on cannot be told from what came "
            "after it. Use a causal mask; for an encoder explain a score of the whole sequence with explain_batch."
        )
    return values[: row.targets.size, : row.ids.size]
