"""Through which values everything that a value depends on has to pass: where a group of steps begins."""

from __future__ import annotations

from jaxplain.program.node.facts import OUTPUT, Facts
from jaxplain.program.node.flat import Value


class Dominance:
    """Through which value everything that a value depends on has to pass."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.above: dict[Value, Value | None] = {v: None for v in facts.flat.inputs if v in facts.depends}
        self.depth: dict[Value | None, int] = {None: 0, **dict.fromkeys(self.above, 1)}
        for step in facts.steps:
            varying = facts.varying(step)
            if varying:
                nearest: Value | None = varying[0]
                for value in varying[1:]:
                    nearest = self.common(nearest, value)
                for value in step.results:
                    self.above[value] = nearest
                    self.depth[value] = self.depth[nearest] + 1

    def common(self, a: Value | None, b: Value | None) -> Value | None:
        """The nearest value that both come from; None where there is none."""
        while a is not b:
            if self.depth[a] < self.depth[b]:
                a, b = b, a
            assert a is not None
            a = self.above[a]
        return a

    def region(self, entry: Value | None, output: Value) -> tuple[Value, list[int]] | None:
        """The steps from `entry` to `output`; the entry moves on until nothing inside is used outside."""
        for _ in range(8):
            if entry is None:
                return None
            inside = self.between(entry, output)
            made = [value for index in inside for value in self.facts.steps[index].results if value is not output]
            leaking = [value for value in made if not set(self.facts.uses.get(value, ())) <= set(inside)]
            if not leaking:
                return entry, inside
            entry = leaking[-1]
        return None

    def between(self, entry: Value, output: Value) -> list[int]:
        """The steps that lead from one value to another."""
        after, last = {entry}, self.facts.producer[output]
        indices = []
        for index in range(self.facts.producer.get(entry, OUTPUT) + 1, last + 1):
            if after.intersection(self.facts.steps[index].operands):
                after.update(self.facts.steps[index].results)
                indices.append(index)
        needed, kept = {output}, []
        for index in reversed(indices):
            if needed.intersection(self.facts.steps[index].results):
                needed.update(self.facts.steps[index].operands)
                kept.append(index)
        return kept[::-1]
