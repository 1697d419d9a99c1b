"""Where relevance is lost or created on its way from the score to the input, as numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.explain.backward.lrp import Propagation, lrp
from jaxplain.program import Function, as_function, public, setting, shown, total
from jaxplain.program.node import pull_with_flow
from jaxplain.types import Array, Pytree


@shown
class Amplified(NamedTuple):
    """An operation that passed on `factor` times the absolute relevance that it received."""

    path: str
    operation: str
    rule: str
    factor: float


class Balance(Function):
    """How much relevance each operation received and passed on. Made by calling `relevance_balance(...)`.

    paths, operations, rules: of each operation, in the order in which the model runs; received, passed: `[N]`, in units
    of the score; incoming, outgoing: the same with absolute values, `[N]`; start: the relevance of the score; end: the
    sum of the input's. An operation in a `lax.scan` has the sum over turns. Under `vmap` the arrays get a leading axis.
    """

    received: Array
    passed: Array
    incoming: Array
    outgoing: Array
    start: Array
    end: Array
    paths: tuple[str, ...] = setting()
    operations: tuple[str, ...] = setting()
    rules: tuple[str, ...] = setting()

    @property
    def lost(self) -> Array:
        """What each operation received and did not pass on (negative where it created relevance), `[N]`."""
        return self.received - self.passed

    @property
    def unexplained(self) -> Array:
        """What the start has, the end has not, and no operation accounts for: rounding."""
        return self.start - self.end - self.lost.sum(axis=-1)

    def amplified(self, factor: float = 1000.0) -> tuple[Amplified, ...]:
        """The operations that passed on more than `factor` times the absolute relevance that they received.

        A sum over all of the input cannot tell what went wrong: correct relevance of a ReLU network has many times the
        absolute value of the score, gathered over its layers. One operation has less of it, unless what it sums nearly
        cancels, or its rule does not fit what it computes: look at those that are named.

        Args:
            factor: How many times. A layer whose output is a hundredth of its terms passes on a hundred times what it
                receives, rightly: last layers of correct networks reach several hundred where the score is near zero.

        Returns:
            A row for each (`path`, `operation`, `rule`, `factor`), the largest factor first; of one concrete example.

        Raises:
            ValueError: The balance is of a batch, or traced.
        """
        check.positive(factor, "Balance.amplified", "factor")
        if not self._concrete:
            raise ValueError(
                f"Balance.amplified: the balance has shape {jnp.shape(self.received)} or is traced, but names are of "
                "one concrete example. Use `outgoing / incoming`, or jax.tree.map(lambda leaf: leaf[0], balance)."
            )
        ratios = np.asarray(self.outgoing) / np.maximum(np.asarray(self.incoming), np.finfo(np.float32).tiny)
        named = zip(self.paths, self.operations, self.rules, map(float, ratios), strict=True)
        rows = [Amplified(*row) for row in named if row[3] > factor]
        return tuple(sorted(rows, key=lambda row: -row.factor))

    @property
    def _concrete(self) -> bool:
        """Whether it is of one example, and its numbers are known."""
        return jnp.ndim(self.received) == 1 and check.is_concrete(self.received)

    def by_layer(self) -> dict[str, Array]:
        """The sum of what was lost, by path ('' for what belongs to no module)."""
        sums: dict[str, Array] = {}
        for place, path in enumerate(self.paths):
            sums[path] = sums.get(path, jnp.zeros(())) + self.lost[..., place]
        return sums

    def __str__(self) -> str:
        """The operations that lose or create relevance, and those that amplify it, as a table for one example."""
        if not self._concrete:
            return f"Balance of {len(self.paths)} operations, shape {jnp.shape(self.received)}"
        heads, scale = ("layer", "operation", "rule", "received", "passed", "lost"), float(jnp.abs(self.start)) or 1.0
        rows: list[tuple[str, ...]] = [heads]
        for place, (path, operation, rule) in enumerate(zip(self.paths, self.operations, self.rules, strict=True)):
            numbers = [float(values[place]) for values in (self.received, self.passed, self.lost)]
            if abs(numbers[2]) > 1e-5 * scale:
                rows.append((path, operation, rule, *(f"{number:.4g}" for number in numbers)))
        widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
        numbers = [float(value) for value in (self.start, self.end, self.unexplained)]
        total = "start {:.4g}, input {:.4g}, rounding {:.1g}".format(*numbers)
        amplified = [
            f"{row.operation} in {row.path!r} passed on {row.factor:.3g} times what it received (absolute values)"
            for row in self.amplified()
        ]
        return "\n".join([*(_line(row, widths) for row in rows), *amplified, total])

    __repr__ = __str__


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    """Words to the left, numbers to the right."""
    columns = enumerate(zip(cells, widths, strict=True))
    return "  ".join(cell.ljust(width) if column < 3 else cell.rjust(width) for column, (cell, width) in columns)


class RelevanceBalance(Function):
    """Measures the flow of relevance: `(x, *args) -> Balance`. Made by `relevance_balance`."""

    explain: Propagation

    def __call__(self, x: Pytree, *args: Any) -> Balance:
        """Account for the relevance of one example."""
        e = self.explain
        e.check_input(x)
        opened = e.open(x, args)
        rules = e.rules(opened)
        seed = jnp.asarray(e.seed(opened))
        relevance, flow = pull_with_flow(opened, rules, seed)
        nodes = list(flow)
        if not nodes:
            raise ValueError(
                "relevance_balance: no operation of `f` carries relevance from its input; what comparisons and "
                "selections by index decide has no share (is `f` constant, or made of decisions only?)."
            )
        sums = jnp.stack([flow[node] for node in nodes])
        end = total(relevance)
        named = [(node.path, node.name, str(rules.get(node, "first value"))) for node in nodes]
        paths, operations, names = (tuple(column) for column in zip(*named, strict=True))
        received, passed, incoming, outgoing = sums.T
        return Balance(received, passed, incoming, outgoing, seed, end, paths, operations, names)


@public
def relevance_balance(f: Callable[..., Any], rule: Any = None) -> RelevanceBalance:
    """Account for the relevance that `lrp` does not bring to the input: how much was lost or created, by operation.

    For each operation: received - passed = lost. Relevance goes to biases and stabilisers of denominators,
    to constants of the model (a class token, positions, a mask), to the expansion point of a softmax (AttnLRP); it is
    created where the signs are the other way. These sum up: start - sum(lost) = the sum of the input's relevance, but
    for rounding. A model without biases, under epsilon, gamma or z-plus, loses nothing.

    Args:
        f: A score, as in `lrp`; or what `lrp` returns, with no further argument.
        rule: As in `lrp`.

    Returns:
        `(x, *args) -> Balance` with arrays `received`, `passed`, `lost` (`[N]`, in units of the score, one for
        each operation in `paths`, `operations` and `rules`), `start`, `end`, `unexplained`, `by_layer()` and
        `amplified()`, which names what passes on many times what it receives; printed, a table of the operations that
        lose, create or amplify. It works under `jit` and `vmap`. Cost: as `lrp`.

    Raises:
        ValueError, TypeError: As in `lrp`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.explain.backward import relevance
        >>> f = lambda x: jax.nn.relu(x @ jnp.array([1.0, 2.0]) + 1.0)
        >>> balance = relevance_balance(f, relevance.epsilon(1e-6))(jnp.array([1.0, 1.0]))
        >>> float(balance.start), round(float(balance.end), 3), round(float(balance.lost.sum()), 3)
        (4.0, 3.0, 1.0)

    Source: the conservation property of Bach et al. 2015, equation 2.
    """
    if isinstance(f, Propagation):
        if rule is not None:
            raise TypeError("relevance_balance: pass a score and a rule, or what `lrp` returns alone.")
        return RelevanceBalance(f)
    if rule is None:
        raise TypeError("relevance_balance: a rule is needed with a score, as in relevance_balance(f, rule).")
    explain = lrp(f, rule)
    return RelevanceBalance(as_function(explain))
