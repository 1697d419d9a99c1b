"""What a comparison of methods by metrics found: arrays, text and CSV."""

from __future__ import annotations

import csv
import dataclasses
import os
import warnings

import numpy as np


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The grid of methods and metrics. Made by `compare`; `print` shows it as text.

    Attributes:
        methods: Names of the rows: the methods, then the controls.
        control: For each row, whether it is a control.
        metrics: Names of the columns; metrics that remove features have one for each way of removal.
        better: 'lower', 'higher' or None for each column.
        score: What the score is.
        values: `[methods, metrics, B]`, NaN where undefined.
        mean: `[methods, metrics]`, over the examples that are defined.
        low: `[methods, metrics]`, lower end of the mean's bootstrap interval; NaN for fewer than two examples.
        high: `[methods, metrics]`, its upper end.
        undefined: `[methods, metrics]`, how many examples are not defined.
        own_baseline: `[methods, metrics]`, whether features are removed to the baseline that the method explains from.
        seconds: `[methods]`, run time for one example, compiled.
        gradients: `[methods]`, operations for one example in units of those of one gradient of the score.
        confidence: The intervals' nominal coverage.
    """

    methods: tuple[str, ...]
    control: tuple[bool, ...]
    metrics: tuple[str, ...]
    better: tuple[str | None, ...]
    score: str
    values: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    undefined: np.ndarray
    own_baseline: np.ndarray
    seconds: np.ndarray
    gradients: np.ndarray
    confidence: float

    @property
    def ranks(self) -> np.ndarray:
        """`[methods, metrics]`, 1 for the best mean, ties sharing the mean rank; NaN without direction or mean."""
        ranks = np.full(self.mean.shape, np.nan)
        for column, better in enumerate(self.better):
            values = self.mean[:, column] * (-1 if better == "higher" else 1)
            known = ~np.isnan(values)
            if better is not None:
                ranks[known, column] = _ranked(values[known])
        return ranks

    @property
    def rank_agreement(self) -> np.ndarray:
        """`[metrics, metrics]`, Spearman's correlation of the rankings of all rows; NaN without direction."""
        ranks = self.ranks
        count = ranks.shape[1]
        agreement = np.full((count, count), np.nan)
        for i in range(count):
            for j in range(count):
                both = ~np.isnan(ranks[:, i]) & ~np.isnan(ranks[:, j])
                u, v = (_ranked(ranks[both, k]) for k in (i, j))
                if both.sum() > 1 and u.std() > 0 and v.std() > 0:
                    agreement[i, j] = np.corrcoef(u, v)[0, 1]
        return agreement

    @property
    def mean_rank(self) -> np.ndarray:
        """`[methods]`, the mean rank over the columns with a direction."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a row without any rank has no mean
            return np.nanmean(self.ranks, axis=1)

    def best(self, metric: str) -> str:
        """The method (no control) that a metric ranks first."""
        column = self.metrics.index(metric)
        rank = np.where(np.asarray(self.control), np.nan, self.ranks[:, column])
        if np.isnan(rank).all():
            raise ValueError(f"best: {metric!r} has no direction, or is undefined for every method.")
        return self.methods[int(np.nanargmin(rank))]

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write one line for each cell of the grid."""
        heads = (
            "method", "control", "metric", "better", "score", "mean", "low", "high", "rank", "examples", "undefined",
            "own_baseline", "seconds", "gradients",
        )  # fmt: skip
        ranks, examples = self.ranks, self.values.shape[-1]
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(heads)
            for row, method in enumerate(self.methods):
                for column, metric in enumerate(self.metrics):
                    at = row, column
                    writer.writerow(
                        [method, self.control[row], metric, self.better[column] or "", self.score]
                        + [float(part[at]) for part in (self.mean, self.low, self.high, ranks)]
                        + [examples, int(self.undefined[at]), bool(self.own_baseline[at])]
                        + [float(self.seconds[row]), float(self.gradients[row])]
                    )

    def __str__(self) -> str:
        """The grid as text, one line a method, controls below."""
        arrows = {"higher": " (higher)", "lower": " (lower)"}
        heads = [metric + arrows.get(way or "", "") for metric, way in zip(self.metrics, self.better, strict=True)]
        table = [["method", "mean rank", *heads, "ms", "gradients"]]
        mean_rank = self.mean_rank
        for row, method in enumerate(self.methods):
            name = f"[{method}]" if self.control[row] else method
            cells = [self._cell(row, column) for column in range(len(self.metrics))]
            table.append(
                [name, f"{mean_rank[row]:.1f}", *cells, f"{1e3 * self.seconds[row]:.3g}", f"{self.gradients[row]:.3g}"]
            )
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table]
        lines.insert(1, "  ".join("-" * width for width in widths))
        lines.append(
            f"score: {self.score}; means over {self.values.shape[-1]} examples with {self.confidence:.0%} bootstrap "
            "intervals; #rank among all rows; [controls]; ~ features are removed to the method's own baseline"
        )
        return "\n".join(lines)

    def _cell(self, row: int, column: int) -> str:
        at = row, column
        text = f"{self.mean[at]:.3g} [{self.low[at]:.3g}, {self.high[at]:.3g}]"
        rank = self.ranks[at]
        text += "" if np.isnan(rank) else f" #{rank:g}"
        text += " ~" if self.own_baseline[at] else ""
        return text + (f" ({self.undefined[at]} undefined)" if self.undefined[at] else "")


def _ranked(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties sharing the mean of theirs."""
    below = (values[None, :] < values[:, None]).sum(axis=1)
    equal = (values[None, :] == values[:, None]).sum(axis=1)
    return below + (equal + 1) / 2
