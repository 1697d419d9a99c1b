"""Methods that change the backward pass: what they share, and `audit`, which lists what was changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxplain import check
from jaxplain.program import Function, as_function, html_table, public, setting
from jaxplain.program.node import Node, Opened, Rule, open_score, pull
from jaxplain.types import Array, Pytree


class Rewritten(NamedTuple):
    """One node of a model and the rule it was given.

    path: the module or scope that it belongs to; operation: its name (relu, dense, softmax); kind: of the node; rule;
    equations: how many equations of the traced model it stands for; note: what to look at, as where an operation scales
    as a normalisation does and is not known as one (its scale then takes relevance of its own).
    """

    path: str
    operation: str
    kind: str
    rule: str
    equations: int
    note: str = ""


class Backward(Function):
    """Base of methods that pull relevance back by rules of their own."""

    score: Any
    name: str = setting()

    def open(self, x: Pytree, args: tuple[Any, ...]) -> Opened:
        """The traced score as nodes."""
        return open_score(self.score, x, args, self.name)

    def rules(self, opened: Opened) -> dict[Node, Rule]:
        """The nodes that do not keep their own derivative."""
        raise NotImplementedError

    def seed(self, opened: Opened) -> Any:
        """What is pulled back from the score."""
        return 1.0

    def check_input(self, x: Pytree) -> None:
        """Refuse what has no gradient, or is not finite."""
        check.differentiable(x, self.name)
        check.finite(x, self.name)

    def __call__(self, x: Pytree, *args: Any) -> Pytree:
        """Explain one example: an attribution of x's structure and dtypes."""
        self.check_input(x)
        opened = self.open(x, args)
        return opened.restored(pull(opened, self.rules(opened), self.seed(opened)), x)


class Audit(Function):
    """Lists what a method changes: `(x, *args) -> tuple of Rewritten`. Made by `audit`."""

    explain: Any

    def __call__(self, x: Pytree, *args: Any) -> RewrittenTable:
        """What a call would change, from shapes alone."""
        opened: list[Opened] = []
        chosen: list[dict[Node, Rule]] = []

        def look(x: Pytree, args: tuple[Any, ...]) -> Array:
            opened.append(self.explain.open(x, args))
            chosen.append(self.explain.rules(opened[-1]))
            return opened[-1].value()

        jax.eval_shape(look, x, args)
        rules = chosen[-1]
        return RewrittenTable(_row(node, rules[node]) for node in opened[-1].graph.walk() if node in rules)


class RewrittenTable(tuple[Rewritten, ...]):
    """What a method changes, in the order in which the model runs; printed, a table."""

    __slots__ = ()

    def __str__(self) -> str:
        """The table as text."""
        rows = self._rows()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        heads, *rows = self._rows()
        return html_table(heads, rows)

    def _rows(self) -> list[tuple[str, ...]]:
        """The heads, without that of notes where there are none, and a row for each node."""
        columns = Rewritten._fields if any(row.note for row in self) else Rewritten._fields[:-1]
        return [columns, *(tuple(map(str, row[: len(columns)])) for row in self)]


def _row(node: Node, rule: Rule) -> Rewritten:
    return Rewritten(node.path, node.name, node.kind, str(rule), len(node.steps), node.note)


@public
def audit(e: Callable[..., Any]) -> Audit:
    """List which parts of a model a method's rules change: one row for each, nothing hidden.

    For `guided_backprop` and `deconvnet` the rows are the model's ReLUs, functional ones among them; for `lrp` every
    operation that relevance flows through, each with its rule. An operation inside a `lax.scan` is one row.

    Args:
        e: `guided_backprop(f)`, `deconvnet(f)`, `excitation_backprop(f)` or `lrp(f, rule)`.

    Returns:
        `(x, *args) -> tuple of rows` (`path`, `operation`, `kind`, `rule`, `equations`, `note`), in the order in which
        the model runs; printed, a table. A note is on what scales as a normalisation does and is not known as one (a
        product with an inverse root of another value's squares). Cost: tracing, no model pass.

    Raises:
        TypeError: `e` is no method with rules.
        ValueError: As the method raises where it has no rule.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.explain.backward.guided import guided_backprop
        >>> rows = audit(guided_backprop(lambda x: jax.nn.relu(jnp.maximum(x, 0) - 1).sum()))(jnp.ones(3))
        >>> [row.operation for row in rows]
        ['relu', 'relu']
    """
    if not isinstance(e, Backward):
        raise TypeError(
            f"audit: {getattr(e, 'name', type(e).__name__)} changes no backward pass. Pass guided_backprop(f), "
            "deconvnet(f), excitation_backprop(f) or lrp(f, rule)."
        )
    return Audit(as_function(e))
