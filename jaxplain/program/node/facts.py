"""What is known of the values of a flat program: where they come from, what uses them, which are plain numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxplain.program.node.flat import Flat, Step, Value
from jaxplain.program.node.probe import ELEMENTWISE, PROBES, evaluate, is_elementwise

OUTPUT = -1
"""The user of a value that the program returns."""

MOVES = frozenset((
    "broadcast_in_dim", "reshape", "convert_element_type", "transpose", "copy", "copy_p", "squeeze", "expand_dims",
))  # fmt: skip
"""Operations that give the same numbers in another place or dtype."""


class Group(NamedTuple):
    """Steps (their indices) that mean one operation from `entry` to `output`.

    held: of a normalisation the scales, which are constants to relevance, with the power of sigma that each is.
    """

    kind: str
    name: str
    indices: tuple[int, ...]
    entry: Value
    output: Value
    held: tuple[tuple[Value, int], ...] = ()


class Facts(NamedTuple):
    """A flat program with what is known of its values.

    depends: the values that change with what is explained; producer: the step that makes a value; uses: the steps that
    take it (`OUTPUT` for the program's own outputs); numbers: the values that are one known number everywhere.
    """

    flat: Flat
    depends: set[Value]
    producer: dict[Value, int]
    uses: dict[Value, list[int]]
    numbers: dict[Value, Any]

    @property
    def steps(self) -> list[Step]:
        """The steps of the program."""
        return self.flat.steps

    def source(self, value: Value) -> Step | None:
        """The step that makes a value; None for inputs, constants and literals."""
        index = self.producer.get(value)
        return None if index is None else self.steps[index]

    def stripped(self, value: Value, names: Collection[str] = MOVES) -> Value:
        """The value before the moves that led to it."""
        while (step := self.source(value)) is not None and step.name in names:
            value = step.operands[0]
        return value

    def varying(self, step: Step) -> list[Value]:
        """The operands that change with what is explained, each once."""
        return list(dict.fromkeys(v for v in step.operands if v in self.depends))

    def sole_user(self, value: Value) -> int | None:
        """The one step that takes a value; None where there are several, or the program returns it."""
        users = set(self.uses.get(value, ()))
        return next(iter(users)) if len(users) == 1 and OUTPUT not in users else None

    def constant_along(self, value: Value, axes: Collection[int]) -> bool:
        """Whether a value that does not vary with the input is the same along the given axes."""
        if value.shape == () or value in self.numbers or all(value.shape[axis] == 1 for axis in axes):
            return True
        step = self.source(value)
        if step is None or step.name != "broadcast_in_dim":
            return False
        inner, places = step.operands[0], step.params["broadcast_dimensions"]
        return all(inner.shape[places.index(axis)] == 1 for axis in axes if axis in places)


def learn(flat: Flat, depends: Sequence[bool]) -> Facts:
    """Find out what is known of a program's values, given which of its inputs vary."""
    facts = Facts(flat, {v for v, varies in zip(flat.inputs, depends, strict=True) if varies}, {}, {}, {})
    for value, constant in flat.constants:
        if np.ndim(constant) == 0 and isinstance(constant, np.ndarray | np.generic | int | float):
            facts.numbers[value] = np.asarray(constant)
    for index, step in enumerate(flat.steps):
        for value in step.operands:
            facts.uses.setdefault(value, []).append(index)
            if value.number is not None and value.number.ndim == 0:
                facts.numbers[value] = value.number
        for value in step.results:
            facts.producer[value] = index
        if any(value in facts.depends for value in step.operands):
            facts.depends.update(step.results)
        else:
            facts.numbers.update(_number(step, facts.numbers))
    for value in flat.outputs:
        facts.uses.setdefault(value, []).append(OUTPUT)
    return facts


def _number(step: Step, numbers: dict[Value, Any]) -> dict[Value, Any]:
    """The result of a step whose operands are known numbers."""
    if not all(value in numbers for value in step.operands) or not step.operands:
        return {}
    if step.name in ("broadcast_in_dim", "reshape", "squeeze", "expand_dims"):
        return {step.results[0]: numbers[step.operands[0]]}
    if step.name not in ELEMENTWISE:
        return {}
    with np.errstate(all="ignore"):
        try:
            return {step.results[0]: evaluate(step.equation, [numbers[value] for value in step.operands])}
        except NotImplementedError:
            return {}


def cones(facts: Facts, output: Value, limit: int = 24) -> Iterator[tuple[Value, list[int]]]:
    """Values of which `output` is an elementwise function of nothing else, nearest first, with the steps between.

    Args:
        facts: The program.
        output: A value that varies with the input.
        limit: The most steps that a function may have.
    """
    frontier, inside = {output}, set[int]()
    while len(inside) < limit:
        latest = max(frontier, key=lambda value: facts.producer.get(value, OUTPUT))
        step = facts.source(latest)
        if step is None or latest not in facts.depends or not is_elementwise(step.equation):
            return
        frontier.remove(latest)
        inside.add(facts.producer[latest])
        frontier.update(value for value in step.operands if value not in facts.numbers)
        if any(value not in facts.depends or value.shape != output.shape for value in frontier):
            return
        if len(frontier) == 1:
            yield next(iter(frontier)), sorted(inside)


def probed(facts: Facts, entry: Value, indices: Sequence[int]) -> np.ndarray | None:
    """What an elementwise function gives at `PROBES`; None where it cannot be evaluated."""
    values: dict[Value, Any] = {entry: PROBES}
    result: Any = PROBES
    with np.errstate(all="ignore"):
        for index in indices:
            step = facts.steps[index]
            operands = [values.get(value, facts.numbers.get(value)) for value in step.operands]
            try:
                result = evaluate(step.equation, operands)
            except (NotImplementedError, TypeError):
                return None
            values[step.results[0]] = result
    return np.asarray(result)
