"""Look-ups of embeddings by token ids: where relevance, or a gradient, leaves a model whose input is integers.

What was looked up becomes an input of its own: for rules the flat program is cut behind each look-up, for derivatives
the traced one takes the rows in its place. Which token a row belongs to is found by sending the tokens' positions the
way that the tokens go.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.program.node.facts import Facts, learn
from jaxplain.program.node.flat import Flat, Step, Value, flatten, live_steps
from jaxplain.program.node.probe import is_elementwise
from jaxplain.program.trace import Program, Route, loop_parts, picks_by_ids

_MOVED = {
    "broadcast_in_dim": 1, "concatenate": 0, "copy": 1, "dynamic_slice": 1, "dynamic_update_slice": 2, "expand_dims": 1,
    "gather": 1, "pad": 2, "reshape": 1, "rev": 1, "slice": 1, "squeeze": 1, "transpose": 1,
}  # fmt: skip
"""Operations that move values, and how many of their first operands those are (0: all); the others say where to."""
_NOWHERE = -1
"""The position of what is no token: padding, a class token that the model adds."""
_MOST = 2**24
"""Elements of the largest array of positions that is made; masks of long sequences are no ids."""


class Lookup(NamedTuple):
    """Rows of a table picked by the tokens of one input.

    value: the rows; place: of which input the tokens are; positions: of each row's token; row_axes: the axes within a
    row; route: of the equation that picks them; rows: how many the table has; loops: the lengths of the scans that they
    are looked up in, whose turns the first axes of `positions` are.
    """

    value: Value
    place: int
    positions: Any
    row_axes: tuple[int, ...]
    route: Route
    rows: int
    loops: tuple[int, ...] = ()

    def per_token(self, relevance: Any, size: int) -> Any:
        """The relevance of each of `size` tokens: that of the rows that it picked."""
        rows = jnp.sum(relevance, axis=self.row_axes)
        places = jnp.where(self.positions == _NOWHERE, size, self.positions)
        return jnp.zeros(size, rows.dtype).at[places.reshape(-1)].add(rows.reshape(-1), mode="drop")


def cut_at_lookups(
    flat: Flat, tokens: Sequence[int], arguments: Sequence[Any]
) -> tuple[Flat, Flat, list[Lookup], list[Lookup]]:
    """Cut a program behind the look-ups that its integer inputs make.

    Args:
        flat: The program.
        tokens: The places of the integer inputs.
        arguments: The values of its inputs.

    Returns:
        The program before the cut, whose outputs are the values looked up; the program behind it, with one more input
        for each of them; the look-ups; and those that cannot be cut at, as they are in a loop.
    """
    every = find_lookups(flat, tokens, arguments)
    lookups = [lookup for lookup in every if not lookup.loops]
    values = [lookup.value for lookup in lookups]
    rest = [step for step in flat.steps if step.results[0] not in values]
    before = Flat(flat.inputs, flat.constants, live_steps(flat.steps, values), values)
    behind = Flat([*flat.inputs, *values], flat.constants, live_steps(rest, flat.outputs), flat.outputs)
    return before, behind, lookups, [lookup for lookup in every if lookup.loops]


def find_lookups(
    flat: Flat, tokens: Sequence[int], arguments: Sequence[Any], unknown: Collection[int] = ()
) -> list[Lookup]:
    """The look-ups that the integer inputs of a program make: `table[ids]`, and `one_hot(ids) @ table`.

    Args:
        flat: The program.
        tokens: The places of the integer inputs.
        arguments: The values of its inputs, which may be traced.
        unknown: The places of inputs whose values change from turn to turn of a loop.
    """
    facts = learn(flat, [place in tokens or place in unknown for place in range(len(flat.inputs))])
    lookups: list[Lookup] = []
    for place in tokens:
        follow = _Positions(facts, flat.inputs[place], arguments)
        for step in flat.steps:
            follow(step)
            picked = follow.picked(step)
            if picked is not None:
                positions, axes, rows = picked
                lookups.append(Lookup(step.results[0], place, positions, axes, step.route, rows))
            if step.name == "scan":
                lookups += [found._replace(place=place) for found in _in_turns(step, follow)]
    return lookups


def refuse_unread(program: Program, tokens: Collection[int], lookups: Sequence[Lookup], name: str) -> None:
    """Refuse rows that tokens pick in a way that cannot be followed: nobody could say whose they are.

    Such are `ids[i]` with the counter of a loop, look-ups in a branch or a `while`, sorted or hashed ids, and counts of
    ids. Rows that are picked by what tokens only decide (positions behind padding) are held, as is meant there.
    """
    known = {lookup.route for lookup in lookups}
    for site in picks_by_ids(program, tokens):
        *outer, last = site.route
        if known & {(*outer, last), (*outer, last - 1)}:
            continue
        where = f" inside of `{site.inside[-1]}`" if set(site.inside) & {"scan", "while", "cond"} else ""
        raise ValueError(
            f"{name}: tokens of `x` {'are counted' if site.operation == 'count' else 'look up rows of a table'}{where} "
            f"in a way that does not say whose the result is (shape {site.shapes[0]}): by a loop's counter, in a "
            "branch, sorted, hashed or summed. Look them up before, `rows = table[ids]`, and go on from `rows`; or use "
            "a method without derivatives, with `baseline=` an id."
        )


def _in_turns(step: Step, follow: _Positions) -> list[Lookup]:
    """The look-ups in the turns of a scan, by tokens that go into it or that it goes along."""
    loop = loop_parts(step.equation, step.operands)
    given, first = [*loop.constants, *loop.carry, *loop.items], len(loop.constants) + len(loop.carry)
    outer = {place: follow.positions(v) for place, v in enumerate(given) if not len(loop.constants) <= place < first}
    outer = {place: positions for place, positions in outer.items() if positions is not None}
    if not outer:
        return []
    body, turns = flatten(loop.body), loop.settings["length"]
    fixed = [place < len(loop.constants) and follow.is_fixed(value) for place, value in enumerate(given)]
    values = [functools.partial(follow.value, v) if known else None for v, known in zip(given, fixed, strict=True)]
    unknown = [place for place, known in enumerate(fixed) if not known]
    lookups = []
    for place, positions in outer.items():
        each = positions.reshape(turns if place >= first else 1, -1)
        for found in find_lookups(body, [place], values, unknown):
            numpy = np if isinstance(each, np.ndarray) and isinstance(found.positions, np.ndarray) else jnp
            inside = numpy.where(found.positions[None] == _NOWHERE, _NOWHERE, each[:, found.positions])
            whole = numpy.broadcast_to(inside, (turns, *inside.shape[1:]))
            axes, route = tuple(axis + 1 for axis in found.row_axes), (*step.route, 0, *found.route)
            lookups.append(found._replace(positions=whole, row_axes=axes, route=route, loops=(turns, *found.loops)))
    return lookups


class _Positions:
    """The position of the token of one input that each element of a value comes from, for the values that have one."""

    def __init__(self, facts: Facts, token: Value, arguments: Sequence[Any]) -> None:
        self._facts = facts
        self._known: dict[Value, Any] = {token: np.arange(math.prod(token.shape)).reshape(token.shape)}
        self._values: dict[Value, Any] = dict(zip(facts.flat.inputs, arguments, strict=True))
        self._values.update(facts.flat.constants)

    def __call__(self, step: Step) -> None:
        """Follow the tokens through one step, where each result comes from one token."""
        sources = [v for v in step.operands if v in self._facts.depends]
        if not sources or len(step.results) != 1 or not all(v in self._known for v in sources):
            return
        first, (result,) = self._known[sources[0]], step.results
        chooses = step.name == "select_n" and step.operands[0] not in sources
        if step.name == "broadcast_in_dim" and isinstance(first, np.ndarray):
            self._known[result] = _broadcast(first, step)  # a view, as one-hot codes and masks are large
        elif not chooses and is_elementwise(step.equation) and all(_same(self._known[v], first) for v in sources):
            if np.shape(first) == result.shape:
                self._known[result] = first
            elif isinstance(first, np.ndarray) and first.ndim == len(result.shape):  # along axes of length one
                self._known[result] = np.broadcast_to(first, result.shape)
        elif math.prod(result.shape) > _MOST:
            return
        elif chooses:
            data = [self._known.get(v, np.full(v.shape, _NOWHERE)) for v in step.operands[1:]]
            self._known[result] = _evaluated(step, [self.value(step.operands[0]), *data])
        elif step.name in _MOVED:
            self._move(step)

    def _move(self, step: Step) -> None:
        count = _MOVED[step.name] or len(step.operands)
        if any(v in self._facts.depends for v in step.operands[count:]):
            return  # where the values go depends on tokens
        moved = [self._known.get(v, np.full(v.shape, _NOWHERE)) for v in step.operands[:count]]
        where = [self.value(v) for v in step.operands[count:]]
        self._known[step.results[0]] = _evaluated(step, [*moved, *where])

    def positions(self, value: Value) -> Any:
        """The positions of the tokens that a value comes from; None where it comes from none."""
        return self._known.get(value)

    def is_fixed(self, value: Value) -> bool:
        """Whether a value depends on no token."""
        return value not in self._facts.depends

    def picked(self, step: Step) -> tuple[Any, tuple[int, ...], int] | None:
        """Where a step looks up rows of a table: the positions of their tokens, the axes within a row, the table's."""
        if not step.results or not step.results[0].is_floating:
            return None
        if step.name == "gather" and step.operands[0] not in self._facts.depends:
            return self._gathered(step)
        if step.name == "dynamic_slice" and step.operands[0] not in self._facts.depends:
            return self._sliced(step)
        return self._one_hot(step) if step.name == "dot_general" else None

    def _gathered(self, step: Step) -> tuple[Any, tuple[int, ...], int] | None:
        positions, numbers = self._known.get(step.operands[1]), step.params["dimension_numbers"]
        if positions is None:
            return None
        axes = list(range(positions.shape[-1]))  # of the table: a token or a constant says where a row begins
        if len(axes) > 1:
            if not isinstance(positions, np.ndarray):
                return None
            axes = [axis for axis in axes if (positions[..., axis] != _NOWHERE).any()]
        if len(axes) != 1 or step.params["slice_sizes"][numbers.start_index_map[axes[0]]] != 1:
            return None
        table = step.operands[0].shape[numbers.start_index_map[axes[0]]]
        return positions[..., axes[0]], tuple(numbers.offset_dims), table

    def _sliced(self, step: Step) -> tuple[Any, tuple[int, ...], int] | None:
        """One row, picked by one token alone."""
        table, *begins = step.operands
        axes = [axis for axis, begin in enumerate(begins) if begin in self._known]
        if len(axes) != 1 or any(v in self._facts.depends for v in begins if v not in self._known):
            return None
        (axis,) = axes
        if step.params["slice_sizes"][axis] != 1:
            return None
        return self._known[begins[axis]], tuple(range(len(table.shape))), table.shape[axis]

    def _one_hot(self, step: Step) -> tuple[Any, tuple[int, ...], int] | None:
        (contracted, batched) = step.params["dimension_numbers"]
        for side, (picks, table) in enumerate((step.operands, step.operands[::-1])):
            positions = self._known.get(picks)
            if positions is None or table in self._facts.depends or batched[0] or len(contracted[side]) != 1:
                continue
            (axis,) = contracted[side]
            rows = np.take(positions, 0, axis) if isinstance(positions, np.ndarray) else None
            if rows is None or not _constant_along(positions, axis):
                continue
            free, first = len(table.shape) - 1, len(picks.shape) - 1
            axes = range(first, first + free) if side == 0 else range(free)
            return rows, tuple(axes), picks.shape[axis]
        return None

    def value(self, value: Value) -> Any:
        """The value of what depends on no token, computed where somebody asks."""
        if value.number is not None:
            return value.number
        if value not in self._values:
            step = self._facts.source(value)
            assert step is not None
            results = _evaluated(step, [self.value(v) for v in step.operands])
            self._values.update(zip(step.results, results if isinstance(results, list) else [results], strict=True))
        known = self._values[value]
        return known() if isinstance(known, functools.partial) else known  # outside of a loop


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and np.array_equal(a, b)


def _broadcast(positions: np.ndarray, step: Step) -> np.ndarray:
    """Positions of a broadcast value."""
    shape, places = step.results[0].shape, step.params["broadcast_dimensions"]
    sizes = [positions.shape[places.index(axis)] if axis in places else 1 for axis in range(len(shape))]
    return np.broadcast_to(positions.reshape(sizes), shape)


def _constant_along(positions: np.ndarray, axis: int) -> bool:
    return positions.strides[axis] == 0 or bool((np.take(positions, [0], axis) == positions).all())


def _evaluated(step: Step, operands: Sequence[Any]) -> Any:
    """The results of a step (the one, where there is one), as NumPy arrays where nothing is traced."""
    if all(check.is_concrete(v) for v in operands):
        with jax.ensure_compile_time_eval():
            results: list[Any] = [np.asarray(v) for v in step.evaluate(operands)]
    else:
        results = list(step.evaluate(operands))
    return results[0] if len(results) == 1 else results
