"""The table of methods and metrics, with a row for the random control."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.evaluate.batch import batched, evaluate_batch, example_keys
from jaxplain.evaluate.comparison.control import PairedDifference, paired_difference, random_attribution
from jaxplain.program import as_function, html_table, public
from jaxplain.types import Array, Arrays, Pytree

CONTROL = "random"


@dataclasses.dataclass(frozen=True)
class ScoreTable:
    """Scores of methods under metrics, beside the random control. Made by `score_table`; `print` shows it as text.

    Attributes:
        methods: Names of the rows; the last is 'random', the control.
        metrics: Names of the columns.
        better: 'lower', 'higher' or None for each metric.
        values: `[methods, metrics, B]`, one score for each example, NaN where undefined.
        mean: `[methods, metrics]`, over the examples that are defined; NaN where none is.
        undefined: `[methods, metrics]`, how many examples are not.
        difference: `[methods, metrics]`, the mean of method - control over examples defined for both; NaN in its row.
        low: `[methods, metrics]`, lower end of the difference's bootstrap interval.
        high: `[methods, metrics]`, its upper end.
        confidence: The interval's nominal coverage.
    """

    methods: tuple[str, ...]
    metrics: tuple[str, ...]
    better: tuple[str | None, ...]
    values: np.ndarray
    mean: np.ndarray
    undefined: np.ndarray
    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    confidence: float

    def verdict(self, method: str, metric: str) -> str:
        """'better' or 'worse' than the control, 'differs' for a metric without direction, else 'undecided'."""
        row, column = self.methods.index(method), self.metrics.index(metric)
        low, high, better = self.low[row, column], self.high[row, column], self.better[column]
        if not (low > 0 or high < 0):
            return "undecided"
        if better is None:
            return "differs"
        return "better" if (low > 0) == (better == "higher") else "worse"

    def __str__(self) -> str:
        """The table as text, one line a method."""
        rows = self._rows()
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([*lines, self._note()])

    def _repr_html_(self) -> str:
        heads, *body = self._rows()
        return html_table(heads, body, self._note())

    def _rows(self) -> list[list[str]]:
        """The heads, and a row for each method."""
        title = [f"{name} ({better} is better)" if better else name for name, better in self._columns()]
        body = [[name, *(self._cell(name, metric) for metric in self.metrics)] for name in self.methods]
        return [["method", *title], *body]

    def _note(self) -> str:
        return (
            f"mean over {self.values.shape[-1]} examples; difference to '{CONTROL}' with its {self.confidence:.0%} "
            "bootstrap interval, * better than the control, ! worse"
        )

    def _columns(self) -> list[tuple[str, str | None]]:
        return list(zip(self.metrics, self.better, strict=True))

    def _cell(self, method: str, metric: str) -> str:
        row, column = self.methods.index(method), self.metrics.index(metric)
        text = f"{self.mean[row, column]:.4g}"
        if method != CONTROL:
            mark = {"better": " *", "worse": " !"}.get(self.verdict(method, metric), "")
            interval = f"[{self.low[row, column]:.3g}, {self.high[row, column]:.3g}]"
            text += f"  {self.difference[row, column]:+.3g} {interval}{mark}"
        missing = self.undefined[row, column]
        return text + (f" ({missing} undefined)" if missing else "")


@public
def score_table(
    attributions: Mapping[str, Pytree],
    metrics: Mapping[str, Any],
    x: Arrays,
    *args: Any,
    key: Array,
    confidence: float = 0.95,
    samples: int = 10_000,
) -> ScoreTable:
    """Score the attributions of several methods by several metrics, beside attributions drawn at random.

    Every method meets the same draws of a random metric (example i of the batch draws from a key folded from i), so
    differences to the control are paired. Each metric is one compiled program for all methods.

    Args:
        attributions: Method name to attributions of the whole batch, `[B, ...]`. The name 'random' is the control's.
        metrics: Metric name to a metric of attributions, `m(x, attribution, *args)`; or, for a metric that makes
            explanations itself such as `max_sensitivity`, a mapping of every method's name, and 'random', to that
            method's own metric, `m(key, x, *args)`.
        x: The batch, `[B, ...]` on every leaf.
        *args: Further arguments of the scores, with a leading axis B; numbers are shared by all examples.
        key: A threefry key, for the control, for random metrics and for the bootstrap.
        confidence: Nominal coverage of the intervals.
        samples: Resamplings of the bootstrap, as in `paired_difference`.

    Returns:
        A `ScoreTable`. Cost: B * (methods + 1) evaluations of each metric.

    Raises:
        ValueError: Lengths that differ from the batch, no metrics, a method called 'random', a per-method metric that
            lacks a method, a metric that does not return one number for each example.
        TypeError: A metric that is no function, or a key that is no threefry key.

    Example:
        >>> from jaxplain.evaluate.faithfulness.deletion import deletion
        >>> x = jnp.array([[1.0, 3.0, 2.0], [5.0, 2.0, 4.0]])
        >>> table = score_table({"input": x}, {"deletion": deletion(lambda x: x.sum())}, x, key=jax.random.key(0))
        >>> table.methods, table.mean.shape, table.better
        (('input', 'random'), (2, 1), ('lower',))
    """
    name = "score_table"
    size = check.batch_length(x, name)
    check.threefry(key, name)
    check.finite(x, name)
    args = tuple(batched(value, size, name, f"argument {place + 1} after `x`") for place, value in enumerate(args))
    if CONTROL in attributions or not metrics:
        raise ValueError(
            f"{name}: {'pass at least one metric' if not metrics else f'{CONTROL!r} is the name of the control'}."
        )
    rows = {
        label: batched(value, size, name, f"the attribution `attributions[{label!r}]`")
        for label, value in attributions.items()
    }
    folded = example_keys(jax.random.fold_in(key, 0), jnp.arange(size))
    rows[CONTROL] = jax.vmap(random_attribution())(folded, x)
    drawn = jax.random.fold_in(key, 1)
    values = np.stack(
        [
            np.stack([_column(_metric(m, label, title), drawn, x, a, args, title) for title, m in metrics.items()])
            for label, a in rows.items()
        ]
    )
    better = tuple(getattr(_metric(m, CONTROL, title), "better", None) for title, m in metrics.items())
    return _compared(tuple(rows), tuple(metrics), better, values, jax.random.fold_in(key, 2), confidence, samples)


def _metric(metric: Any, label: str, title: str) -> Any:
    """A row's metric, as a callable pytree."""
    if isinstance(metric, Mapping):
        if label not in metric:
            raise ValueError(
                f"score_table: the metric {title!r} is given for each method, but not for {label!r}; it has "
                f"{sorted(metric)}. The control's explanation is `jaxplain.evaluate.random_attribution()`."
            )
        metric = metric[label]
    if not callable(metric):
        raise TypeError(f"score_table: the metric {title!r} is {type(metric).__name__}, not a function.")
    return as_function(metric)


def _column(metric: Any, key: Array, x: Pytree, attribution: Pytree, args: tuple[Any, ...], title: str) -> np.ndarray:
    value = evaluate_batch(metric, x, attribution, *args, key=key)
    shape, size = jax.tree.map(jnp.shape, value), check.batch_length(x, "score_table")
    if shape != (size,):
        raise ValueError(
            f"score_table: for {size} examples the metric {title!r} returned {shape}; it has to return one "
            "number for each (a curve has its area in `deletion` and `insertion`)."
        )
    return np.asarray(value, np.float32)


def _compared(
    methods: tuple[str, ...],
    metrics: tuple[str, ...],
    better: tuple[str | None, ...],
    values: np.ndarray,
    key: Array,
    confidence: float,
    samples: int,
) -> ScoreTable:
    """Means, counts and differences to the last row."""
    undefined = np.isnan(values).sum(axis=-1)
    defined = values.shape[-1] - undefined
    total = np.where(np.isnan(values), 0.0, values).sum(axis=-1, dtype=np.float64)
    mean = np.where(defined > 0, total / np.maximum(defined, 1), np.nan)
    nothing = PairedDifference(float("nan"), float("nan"), float("nan"), 0, 0)
    pairs = [
        [
            nothing
            if row == len(methods) - 1
            else paired_difference(values[row, c], values[-1, c], key=key, confidence=confidence, samples=samples)
            for c in range(len(metrics))
        ]
        for row in range(len(methods))
    ]
    difference, low, high = (
        np.array([[getattr(p, part) for p in row] for row in pairs]) for part in ("mean", "low", "high")
    )
    return ScoreTable(methods, metrics, better, values, mean, undefined, difference, low, high, confidence)
