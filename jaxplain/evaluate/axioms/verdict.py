"""Which methods pass which mechanisms."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.evaluate.axioms.mechanism import Mechanism, mechanisms
from jaxplain.evaluate.batch import evaluate_rows, example_keys
from jaxplain.program import as_function, html_table, needs_key, public
from jaxplain.types import Array

NAME = "mechanism_table"


@dataclasses.dataclass(frozen=True)
class MechanismTable:
    """What methods make of models whose mechanism is known. Made by `mechanism_table`; `print` shows it as text.

    Attributes:
        methods: Names of the rows.
        mechanisms: Names of the columns.
        questions: What each column asks.
        error: `[methods, mechanisms]`, the mean error over the inputs that judge something (`Mechanism.error`); NaN
            where the method refuses the model, or explains any of its inputs by NaN or infinity.
        passes: `[methods, mechanisms]`, whether the error is at most the tolerance.
        refusals: (method, mechanism) to what a method that does not take a model says.
        tolerance: The largest error that passes.
    """

    methods: tuple[str, ...]
    mechanisms: tuple[str, ...]
    questions: tuple[str, ...]
    error: np.ndarray
    passes: np.ndarray
    refusals: dict[tuple[str, str], str]
    tolerance: float

    def __str__(self) -> str:
        """The table as text, one line a method."""
        rows = self._rows()
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([*lines, *self._notes()])

    def _repr_html_(self) -> str:
        heads, *rows = self._rows()
        return html_table(heads, rows, "; ".join(self._notes()))

    def _rows(self) -> list[list[str]]:
        """The heads, and a row for each method."""
        rows = [["method", *self.mechanisms, "passed"]]
        for row, method in enumerate(self.methods):
            cells = [self._cell(row, column) for column in range(len(self.mechanisms))]
            rows.append([method, *cells, f"{self.passes[row].sum()} of {len(self.mechanisms)}"])
        return rows

    def _notes(self) -> list[str]:
        """What each column asks, and who refuses it."""
        lines = [f"{name}: {question}" for name, question in zip(self.mechanisms, self.questions, strict=True)]
        lines += [f"{method} refuses {name}: {words}" for (method, name), words in self.refusals.items()]
        return [*lines, f"mean error of each; at most {self.tolerance:g} passes"]

    def _cell(self, row: int, column: int) -> str:
        if (self.methods[row], self.mechanisms[column]) in self.refusals:
            return "refused"
        if np.isnan(self.error[row, column]):
            return "undefined"
        return f"{'pass' if self.passes[row, column] else 'FAIL'} {self.error[row, column]:.2g}"


@public
def mechanism_table(
    methods: Mapping[str, Any],
    key: Array,
    *,
    samples: int = 64,
    pairs: int = 3,
    tolerance: float = 0.02,
) -> MechanismTable:
    """Judge methods on models whose mechanism is known: which pass, which fail.

    No method passes everything, since what the models ask contradicts itself: a method that gives a feature what the
    score loses without it cannot see two that cancel. What a method fails at says what it must not be asked.

    Args:
        methods: Name to a method `f -> e`, such as `jaxplain.gradient` or
            `functools.partial(jaxplain.integrated_gradients, baseline=1.0)`.
        key: A threefry key, for the models, their inputs and random methods.
        samples: Inputs of each model, as in `mechanisms`.
        pairs: Features of each kind, as in `mechanisms`.
        tolerance: The largest mean error that passes, from 0 up.

    Returns:
        A `MechanismTable`: print it, or read its arrays. A method that refuses a model (`ValueError`, `TypeError`) has
        the words in `refusals`, and does not pass. Cost: 5 `samples` explanations by each method.

    Raises:
        ValueError, TypeError: No methods, one that is no function or makes none, and as in `mechanisms`.

    Example:
        >>> table = mechanism_table({"gradient": jax.grad}, jax.random.key(0), samples=8)
        >>> table.passes.tolist()  # it knows what does nothing, and no values
        [[False, False, True, True, False]]

    Source: as `mechanisms`.
    """
    check.threefry(key, NAME)
    if not isinstance(methods, Mapping) or not methods:
        raise ValueError(f"{NAME}: `methods` has to be a dictionary of at least one method, name to f -> e.")
    for name, method in methods.items():
        check.function(method, NAME, f"methods[{name!r}]", "f -> e, such as jaxplain.gradient")
    tolerance = float(check.one_number(tolerance, NAME, "tolerance", zero=True))
    made = mechanisms(jax.random.fold_in(key, 0), samples=samples, pairs=pairs)
    refusals: dict[tuple[str, str], str] = {}
    error = np.full((len(methods), len(made)), np.nan)
    for row, (name, method) in enumerate(methods.items()):
        for column, mechanism in enumerate(made):
            try:
                found = _explained(method, mechanism, jax.random.fold_in(key, 1), f"methods[{name!r}]")
            except _Refused as refusal:
                refusals[name, mechanism.name] = str(refusal)
                continue
            error[row, column] = _mean_error(mechanism, found)
    names, questions = tuple(m.name for m in made), tuple(m.question for m in made)
    return MechanismTable(tuple(methods), names, questions, error, error <= tolerance, refusals, tolerance)


def _mean_error(mechanism: Mechanism, attribution: np.ndarray) -> float:
    """The mean over the inputs that judge something; NaN where the attribution of any input has NaN or infinity."""
    if not np.isfinite(attribution).all():
        return np.nan
    errors = mechanism.error(attribution)
    return float(errors[~np.isnan(errors)].mean()) if (~np.isnan(errors)).any() else np.nan


class _Refused(Exception):
    """A method does not take a model."""


def _explained(method: Any, mechanism: Mechanism, key: Array, argument: str) -> np.ndarray:
    """The attributions of a mechanism's inputs, `[B, D]`."""
    try:
        made = method(mechanism.score)
    except (TypeError, ValueError) as refusal:
        raise _Refused(refusal) from refusal
    e = as_function(check.made(made, NAME, argument))
    x = jnp.asarray(mechanism.inputs)
    keys = example_keys(key, jnp.arange(len(x))) if needs_key(e) else None
    try:
        found = evaluate_rows(e, keys, (x,))
    except (TypeError, ValueError) as refusal:
        raise _Refused(refusal) from refusal
    if jax.tree.map(jnp.shape, found) != x.shape:
        raise ValueError(
            f"{NAME}: for inputs of shape {x.shape} `{argument}` explains by {jax.tree.map(jnp.shape, found)}; pass "
            "methods that give every feature a number."
        )
    return np.asarray(found)
