"""The grid of methods and metrics, with controls, several ways of removal, intervals, ranks and costs."""

from __future__ import annotations

import dataclasses
import inspect
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.baseline import as_baseline, mean
from jaxplain.evaluate.batch import batched, evaluate_batch, evaluate_rows, example_keys
from jaxplain.evaluate.comparison.comparison import Comparison
from jaxplain.evaluate.comparison.control import paired_difference, random_attribution
from jaxplain.evaluate.comparison.controls import Blurred, Edges, InputItself
from jaxplain.evaluate.comparison.cost import gradients_used
from jaxplain.evaluate.removal import Faithful
from jaxplain.program import Function, as_function, check_calls, needs_key, public
from jaxplain.types import Array, Pytree

NAME = "compare"


@dataclasses.dataclass(frozen=True)
class _Row:
    """A row of the grid: how to make its explanation from a score, and that explanation."""

    make: Any
    explain: Any
    control: bool


@dataclasses.dataclass(frozen=True)
class _Column:
    """A column of the grid: its metric (or how to make one), and the way of removal."""

    title: str
    metric: Any
    removal: str = ""
    baseline: Any = None


@public
def compare(
    f: Any,
    methods: Mapping[str, Any],
    metrics: Mapping[str, Any],
    data: Any,
    key: Array,
    *,
    mask: Any = None,
    removals: Mapping[str, Any] | None = None,
    blur: float = 1.0,
    confidence: float = 0.95,
    samples: int = 2000,
) -> Comparison:
    """Judge every method by every metric, beside the controls, with at least two ways of removing features.

    The controls are always there: 'random' (white noise), 'input' (x itself) and, for images `[H, W, C]`, 'edges' (an
    edge detector) and a blurred copy of each method. A metric that removes features has a column for each way of
    removal; cells where that is the method's own baseline are marked, since it plays at home there.

    Args:
        f: The score, `f(x, *args) -> scalar`. What it is (logit, probability, log-odds) is your choice, and named in
        the
            result.
        methods: Name to a method `f -> e`, such as `jaxplain.gradient` or
            `functools.partial(jaxplain.integrated_gradients, steps=32)`, or to an explanation made of `f` already.
        metrics: Name to a metric, or to a function that makes one of `f` (`evaluate.deletion`), of an explanation `e`
            (`functools.partial(evaluate.max_sensitivity, radius=0.1)`) or of a `method`
            (`lambda method: evaluate.parameter_randomization(lambda p: method(logit(apply, p)), params)`); which one
            its first parameter's name says. Each has to return one number for each example.
        data: `(x, *args)`, each `[B, ...]`; or a data set with `inputs`, `targets` and, for localization, `truth`.
        key: A threefry key, for random methods, metrics and controls, and for the bootstrap.
        mask: `[B, ...]`, for the metrics of localization.
        removals: Name to baseline; None takes 'zeros' and the 'mean' of the data. Metrics whose baseline is another
            have a column for it too, called 'own'.
        blur: Standard deviation of the blurred copies, in pixels.
        confidence: Nominal coverage of the intervals.
        samples: Resamplings of the bootstrap.

    Returns:
        A `Comparison`: print it, draw it with `jaxplain.plot.comparison`, save it with `.to_csv(path)`, or read its
        arrays. It ranks by means (`mean_rank`) and by medians of standardized scores (`mean_median_rank`, and how far
        the metrics disagree about a row, `rank_spread`). Cost: two runs of each method (the second is timed), and B
        evaluations of each metric for each row.

    Raises:
        ValueError: No methods or metrics, fewer than two removals, a name of a control, lengths that differ, a metric
            that does not return one number for each example.
        TypeError: A metric or method that is none of these, a key that is no threefry key.

    Example:
        >>> from jaxplain.evaluate.faithfulness.deletion import deletion
        >>> x = jnp.array([[1.0, 3.0, 2.0], [5.0, 2.0, 4.0]])
        >>> f = lambda x: (x**2).sum()
        >>> table = compare(f, {"gradient": jax.grad}, {"deletion": deletion}, (x,), jax.random.key(0), samples=20)
        >>> table.methods, table.metrics
        (('gradient', 'random', 'input'), ('deletion (zeros)', 'deletion (mean)'))

    Source: the controls after Samek et al. 2017 and Adebayo et al. 2018; Efron and Tibshirani 1993 for the intervals.
    """
    check.function(f, NAME, "f", "f(x, *args) -> scalar")
    check.threefry(key, NAME)
    x, args, mask = unpacked(data, mask)
    size = check.batch_length(x, NAME)
    check.finite(x, NAME)
    args = tuple(batched(value, size, NAME, f"argument {place + 1} after `x`") for place, value in enumerate(args))
    score = as_function(f)
    check_calls(score, x, args)
    rows = _rows(score, methods, x, blur)
    columns = _columns(score, metrics, removals, x)
    attributions, seconds, gradients = _explained(score, rows, x, args, jax.random.fold_in(key, 0))
    drawn = jax.random.fold_in(key, 1)
    values = np.stack(
        [
            np.stack([_value(column, row, score, drawn, x, attributions[label], args, mask) for column in columns])
            for label, row in rows.items()
        ]
    )
    better = tuple(getattr(_built(column, next(iter(rows.values())), score), "better", None) for column in columns)
    own = np.array([[_plays_at_home(row, column) for column in columns] for row in rows.values()])
    intervals = _intervals(values, jax.random.fold_in(key, 2), confidence, samples)
    return Comparison(
        tuple(rows),
        tuple(row.control for row in rows.values()),
        tuple(f"{column.title} ({column.removal})" if column.removal else column.title for column in columns),
        better,
        str(getattr(f, "name", getattr(f, "__name__", type(f).__name__))),
        values,
        *intervals,
        own,
        seconds,
        gradients,
        confidence,
    )


def unpacked(data: Any, mask: Any) -> tuple[Pytree, tuple[Any, ...], Any]:
    """A data set or `(x, *args)` as (x, args, mask); a set that knows the truth gives the mask."""
    if hasattr(data, "inputs") and hasattr(data, "targets"):
        return data.inputs, (data.targets,), getattr(data, "truth", None) if mask is None else mask
    if not isinstance(data, tuple) or not data:
        raise TypeError(f"{NAME}: `data` has to be (x, *args) or a data set with inputs, not {type(data).__name__}.")
    return data[0], data[1:], mask


def _rows(score: Any, methods: Mapping[str, Any], x: Pytree, sigma: Any) -> dict[str, _Row]:
    if not methods:
        raise ValueError(f"{NAME}: pass at least one method.")
    rows = {}
    for name, method in methods.items():
        check.function(method, NAME, f"methods[{name!r}]", "f -> e, or an explanation")
        made = method if isinstance(method, Function) else method(score)
        check.function(made, NAME, f"methods[{name!r}]", "f -> e whose result can be called")
        fixed = isinstance(method, Function)
        rows[name] = _Row((lambda g, e=method: e) if fixed else method, as_function(made), False)
    controls: dict[str, Any] = {"random": random_attribution(), "input": InputItself()}
    leaves = jax.tree.leaves(x)
    if len(leaves) == 1 and jnp.ndim(leaves[0]) == 4:
        controls["edges"] = Edges()
        controls.update({f"blurred {name}": Blurred(row.explain, sigma) for name, row in rows.items()})
    for name, control in controls.items():
        if name in rows:
            raise ValueError(f"{NAME}: {name!r} is the name of a control; call the method otherwise.")
        rows[name] = _Row(lambda g, e=control: e, control, True)
    return rows


def _columns(score: Any, metrics: Mapping[str, Any], removals: Any, x: Pytree) -> list[_Column]:
    if not metrics:
        raise ValueError(f"{NAME}: pass at least one metric.")
    if removals is None:
        removals = {"zeros": 0.0, "mean": mean(x)}
    if len(removals) < 2:
        raise ValueError(f"{NAME}: `removals` has {len(removals)} entries; one way of removal proves little, pass two.")
    columns = []
    for title, metric in metrics.items():
        check.function(metric, NAME, f"metrics[{title!r}]", "or a metric")
        built = metric if isinstance(metric, Function) else metric(score) if _first(metric) == "f" else metric
        if not (isinstance(built, Faithful) and built.removes):
            columns.append(_Column(title, built))
            continue
        columns.extend(
            _Column(title, dataclasses.replace(built, baseline=as_baseline(baseline)), name, baseline)
            for name, baseline in removals.items()
        )
        if not any(_same(built.baseline, as_baseline(baseline)) for baseline in (0.0, *removals.values())):
            columns.append(_Column(title, built, "own", built.baseline))
    return columns


def _first(function: Any) -> str:
    """The name of a function's first positional parameter; empty without one."""
    parameters = inspect.signature(function).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names[0] if names else ""


def _built(column: _Column, row: _Row, score: Any) -> Any:
    """A row's metric."""
    metric = column.metric
    if isinstance(metric, Function):
        return metric
    word = _first(metric)
    if word == "x":
        return as_function(metric)
    if word in ("e", "method", "make"):
        return as_function(metric(row.explain if word == "e" else row.make))
    if word == "":
        return as_function(metric())
    raise TypeError(
        f"{NAME}: the first parameter of the metric {column.title!r} is {word!r}; a function that makes metrics names "
        "it `f`, `e` or `method`, a metric itself `x`."
    )


def _explained(
    score: Any, rows: Mapping[str, _Row], x: Pytree, args: tuple[Any, ...], key: Array
) -> tuple[dict[str, Pytree], np.ndarray, np.ndarray]:
    """The attributions of every row, seconds for each example and gradients used for each."""
    size = check.batch_length(x, NAME)
    keys = example_keys(key, jnp.arange(size))
    one = jax.tree.map(lambda leaf: leaf[0], (x, args))
    attributions, seconds, gradients = {}, [], []
    for label, row in rows.items():
        own = keys if needs_key(row.explain) else None
        jax.block_until_ready(evaluate_rows(row.explain, own, (x, *args)))
        start = time.perf_counter()
        attributions[label] = jax.block_until_ready(evaluate_rows(row.explain, own, (x, *args)))
        seconds.append((time.perf_counter() - start) / size)
        inputs = (one[0], *one[1])
        gradients.append(gradients_used(score, row.explain, inputs, None if own is None else own[0]))
    return attributions, np.array(seconds), np.array(gradients)


def _value(
    column: _Column,
    row: _Row,
    score: Any,
    key: Array,
    x: Pytree,
    attribution: Pytree,
    args: tuple[Any, ...],
    mask: Any,
) -> np.ndarray:
    value = evaluate_batch(_built(column, row, score), x, attribution, *args, key=key, mask=mask)
    size = check.batch_length(x, NAME)
    if jax.tree.map(jnp.shape, value) != (size,):
        raise ValueError(
            f"{NAME}: for {size} examples the metric {column.title!r} returned {jax.tree.map(jnp.shape, value)}; it "
            "has to return one number for each (a curve has its area in `deletion` and `insertion`)."
        )
    return np.asarray(value, np.float32)


def _same(a: Any, b: Any) -> bool:
    """Whether two baselines are the same: equal code and equal arrays."""
    if str(jax.tree.structure(a)) != str(jax.tree.structure(b)):
        return False
    return all(np.array_equal(u, v) for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def _plays_at_home(row: _Row, column: _Column) -> bool:
    """Whether a column removes features to the baseline that the row's method (or what it wraps) explains from."""
    if row.control or not column.removal:
        return False
    e = row.explain
    while e is not None:
        if hasattr(e, "baseline") and _same(as_baseline(e.baseline), as_baseline(column.baseline)):
            return True
        e = getattr(e, "explain", None)
    return False


def _intervals(
    values: np.ndarray, key: Array, confidence: float, samples: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, lower and upper end of its interval, and how many examples are undefined."""
    nothing = np.zeros(values.shape[-1])
    found = [
        [paired_difference(cell, nothing, key=key, confidence=confidence, samples=samples) for cell in row]
        for row in values
    ]
    parts = ("mean", "low", "high", "undefined")
    mean, low, high, undefined = (np.array([[getattr(c, part) for c in row] for row in found]) for part in parts)
    return mean, low, high, undefined
