"""What a comparison of methods by metrics found: arrays, text and CSV."""

from __future__ import annotations

import csv
import dataclasses
import os
import warnings

import numpy as np

from jaxplain.program import html_table


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The grid of methods and metrics. Made by `compare`; `print` shows it as text.

    Two schemes rank the rows: `ranks` and `mean_rank` by the means, and `median_ranks`, `mean_median_rank` and
    `rank_spread` by the medians of standardized scores, which is the scheme of LATEC (Klein et al. 2024, "Navigating
    the maze of explainable AI"; clipping and scale after its published code). Metrics disagree: a large spread says
    that a mean rank hides it.

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
        gradients: `[methods]`, operations for one example in units of those of one gradient of the score;
            NaN where it has none.
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
        return _column_ranks(self.mean, self.better)

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

    @property
    def standardized(self) -> np.ndarray:
        """`[methods, metrics, B]`, each column clipped to its middle 95% and brought to [0, 1]: metrics in one unit."""
        flat = np.moveaxis(self.values, 1, 0).reshape(self.values.shape[1], -1)
        columns = []
        for column in flat:
            known = column[np.isfinite(column)]
            low, high = np.quantile(known, [0.025, 0.975]) if known.size else (0.0, 0.0)
            width = high - low
            clipped = np.where(np.isnan(column), np.nan, np.clip(column, low, high)) - low
            columns.append(clipped / width if width > 0 else clipped)
        return np.moveaxis(np.stack(columns).reshape(-1, self.values.shape[0], self.values.shape[2]), 1, 0)

    @property
    def median(self) -> np.ndarray:
        """`[methods, metrics]`, the median of the standardized scores over the examples that are defined."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a cell without any score has no median
            return np.nanmedian(self.standardized, axis=-1)

    @property
    def median_ranks(self) -> np.ndarray:
        """`[methods, metrics]`, as `ranks`, of the medians of the standardized scores: outliers do not decide."""
        return _column_ranks(self.median, self.better)

    @property
    def mean_median_rank(self) -> np.ndarray:
        """`[methods]`, the mean of `median_ranks` over the columns with a direction: LATEC's mean rank."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return np.nanmean(self.median_ranks, axis=1)

    @property
    def rank_spread(self) -> np.ndarray:
        """`[methods]`, the standard deviation of `median_ranks`: how far the metrics disagree about a row."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return np.nanstd(self.median_ranks, axis=1)

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
            "own_baseline", "seconds", "gradients", "median", "median_rank",
        )  # fmt: skip
        ranks, examples = self.ranks, self.values.shape[-1]
        median, median_ranks = self.median, self.median_ranks
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
                        + [float(median[at]), float(median_ranks[at])]
                    )

    def __str__(self) -> str:
        """The grid as text, one line a method, controls below."""
        table = self._rows()
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([*lines, self._note()])

    def _repr_html_(self) -> str:
        heads, *rows = self._rows()
        return html_table(heads, rows, self._note())

    def _rows(self) -> list[list[str]]:
        """The heads, and a row for each method or control."""
        arrows = {"higher": " (higher)", "lower": " (lower)"}
        heads = [metric + arrows.get(way or "", "") for metric, way in zip(self.metrics, self.better, strict=True)]
        table = [["method", "mean rank", "median rank", *heads, "ms", "gradients"]]
        mean_rank, median_rank, spread = self.mean_rank, self.mean_median_rank, self.rank_spread
        for row, method in enumerate(self.methods):
            name = f"[{method}]" if self.control[row] else method
            cells = [self._cell(row, column) for column in range(len(self.metrics))]
            ranks = [f"{mean_rank[row]:.1f}", f"{median_rank[row]:.1f} ±{spread[row]:.1f}"]
            used = "-" if np.isnan(self.gradients[row]) else f"{self.gradients[row]:.3g}"
            table.append([name, *ranks, *cells, f"{1e3 * self.seconds[row]:.3g}", used])
        return table

    def _note(self) -> str:
        return (
            f"score: {self.score}; means over {self.values.shape[-1]} examples with {self.confidence:.0%} bootstrap "
            "intervals; #rank among all rows; median rank: that of medians, ± its standard deviation over metrics; "
            "[controls]; ~ features are removed to the method's own baseline"
        )

    def _cell(self, row: int, column: int) -> str:
        at = row, column
        text = f"{self.mean[at]:.3g} [{self.low[at]:.3g}, {self.high[at]:.3g}]"
        rank = self.ranks[at]
        text += "" if np.isnan(rank) else f" #{rank:g}"
        text += " ~" if self.own_baseline[at] else ""
        return text + (f" ({self.undefined[at]} undefined)" if self.undefined[at] else "")


def _column_ranks(table: np.ndarray, better: tuple[str | None, ...]) -> np.ndarray:
    """Ranks of the rows in each column, 1 for the best; NaN without direction or value."""
    ranks = np.full(table.shape, np.nan)
    for column, way in enumerate(better):
        values = table[:, column] * (-1 if way == "higher" else 1)
        known = ~np.isnan(values)
        if way is not None:
            ranks[known, column] = _ranked(values[known])
    return ranks


def _ranked(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, ties sharing the mean of theirs."""
    below = (values[None, :] < values[:, None]).sum(axis=1)
    equal = (values[None, :] == values[:, None]).sum(axis=1)
    return below + (equal + 1) / 2
