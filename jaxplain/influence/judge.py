"""How right an attribution to training examples is: against retrainings, and against the rows that cost nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.influence.rank import rank_correlation, ranks
from jaxplain.influence.result import Influence, checked_queries, masks_of
from jaxplain.influence.retrain import retrain
from jaxplain.influence.similarity import self_influence
from jaxplain.program import public, shown
from jaxplain.train import TrainingRun
from jaxplain.types import Array, ArrayLike


@shown
class DatamodelingScore(NamedTuple):
    """Rank correlation of predictions and retrainings.

    per_query: `[Q]`; mean, worst: over queries; low, high: a bootstrap interval of the mean over the masks; fraction:
    the share of the examples that a mask leaves out; masks: how many there were.
    """

    per_query: Any
    mean: float
    worst: float
    low: float
    high: float
    fraction: float
    masks: int


@shown
class Curve(NamedTuple):
    """What became of the scores as examples were left out, by row: the method beside random, loss and gradient norm.

    steps: how many (or which share of the) examples, `[S]`; rows: name to values `[S]`; beaten: of the other rows those
    that the method does not beat (its area is not better).
    """

    steps: Any
    rows: dict[str, Any]
    areas: dict[str, float]
    beaten: tuple[str, ...]


@public
def linear_datamodeling_score(
    influence: Influence | ArrayLike,
    masks: ArrayLike,
    scores: ArrayLike,
    *,
    samples: int = 1000,
    confidence: float = 0.95,
    key: Array | None = None,
) -> DatamodelingScore:
    """Correlate predictions with retrainings: Spearman's correlation over masks of masks @ values[q] with scores[:, q].

    Args:
        influence: What a method returned, or values `[Q, N]`.
        masks: `[M, N]` of 0 (left out) and 1, none of which the method was fitted on.
        scores: `[M, Q]`, what `retrain(run, masks, queries)` gives.
        samples: Bootstrap draws of the masks.
        confidence: Of the interval.
        key: PRNG key of the bootstrap; None is jax.random.key(0).

    Returns:
        `DatamodelingScore`: per query, mean, worst, interval of the mean. A query whose scores or predictions are all
        alike counts 0. Cost: no model pass.

    Raises:
        ValueError: Shapes that do not fit, fewer than three masks, masks of nothing, NaN.

    Example:
        >>> import jax.numpy as jnp
        >>> masks = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> linear_datamodeling_score(jnp.array([[1.0, 3.0]]), masks, jnp.array([[1.0], [3.0], [4.1]])).mean
        1.0

    Source: Park et al. 2023, "TRAK: attributing model behavior at scale", definition 2.3.
    """
    check.count(samples, "linear_datamodeling_score", "samples")
    if not 0 < check.one_number(confidence, "linear_datamodeling_score", "confidence") < 1:
        raise ValueError(f"linear_datamodeling_score: `confidence` lies between 0 and 1; it is {confidence}.")
    values = values_of(influence, "linear_datamodeling_score")
    masks = np.asarray(masks_of(masks, values.shape[1], "linear_datamodeling_score", "masks"))
    check.finite(scores, "linear_datamodeling_score", "scores")
    actual = np.asarray(scores)
    if actual.shape != (len(masks), len(values)):
        raise ValueError(
            f"linear_datamodeling_score: `scores` has shape {actual.shape}; for {len(masks)} masks and {len(values)} "
            f"queries it has to be ({len(masks)}, {len(values)})."
        )
    if len(masks) < 3:
        raise ValueError(f"linear_datamodeling_score: {len(masks)} `masks` make no rank correlation; pass more.")
    predicted = masks @ values.T
    own = rank_correlation(predicted, actual)
    draw = np.random.default_rng(np.asarray(jax.random.key_data(jax.random.key(0) if key is None else key)).tolist())
    means = []
    for _ in range(samples if len(masks) * len(values) * samples < 2e8 else 100):
        rows = draw.integers(0, len(masks), len(masks))
        means.append(rank_correlation(predicted[rows], actual[rows]).mean())
    # Draws with repeated masks rank worse, by their ties: what is taken is their spread around the mean.
    centred = np.array(means) - np.mean(means) + own.mean()
    low, high = np.quantile(centred, [(1 - confidence) / 2, (1 + confidence) / 2])
    left = float(np.mean(masks == 0))
    low, high = max(float(low), -1.0), min(float(high), 1.0)
    return DatamodelingScore(own, float(own.mean()), float(own.min()), low, high, left, len(masks))


@public
def compare_influence(
    methods: Mapping[str, Any], masks: ArrayLike, scores: ArrayLike, *, costs: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Judge several methods by the same retrainings, and random values beside them.

    Args:
        methods: Name to `Influence` or values `[Q, N]`.
        masks: As in `linear_datamodeling_score`.
        scores: As in `linear_datamodeling_score`.
        costs: Name to what a method took, shown in its row: seconds, gradients, or a mapping of both.

    Returns:
        A row for each method, best first: `method`, `mean`, `worst`, `low`, `high`, `cost`, and `above_random`,
        whether its interval lies above the mean of random values. Cost: no model pass.

    Raises:
        ValueError: As `linear_datamodeling_score`.

    Example:
        >>> import jax.numpy as jnp
        >>> masks = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
        >>> scores = jnp.array([[1.0], [3.0], [4.1]])
        >>> compare_influence({"right": jnp.array([[1.0, 3.0]])}, masks, scores)[0]["method"]
        'right'
    """
    if not isinstance(methods, Mapping) or not methods:
        raise ValueError(f"compare_influence: `methods` is {check.short(methods)}; pass name to `Influence`.")
    if costs is not None and not isinstance(costs, Mapping):
        raise TypeError(f"compare_influence: `costs` is {check.short(costs)}; pass name to what it took.")
    shapes = [values_of(found, "compare_influence", f"methods[{name!r}]").shape for name, found in methods.items()]
    drawn = np.random.default_rng(0).normal(size=shapes[0])
    rows = []
    for name, found in {**methods, "random": drawn}.items():
        score = linear_datamodeling_score(found, masks, scores)
        rows.append({"method": name, **score._asdict(), "cost": (costs or {}).get(name)})
    floor = next(row["mean"] for row in rows if row["method"] == "random")
    return sorted(({**row, "above_random": row["low"] > floor} for row in rows), key=lambda row: -row["mean"])


@public
def mislabel_curve(
    suspicion: ArrayLike, planted: ArrayLike, *, others: Mapping[str, ArrayLike] | None = None, points: int = 20
) -> Curve:
    """Measure how fast planted wrong labels are found as examples are looked at, the most suspicious first.

    The value at a share is the recall, the share of the planted ones among those looked at.

    Args:
        suspicion: `[N]`, higher is more suspicious: `-self_influence(...)`, or the harm that examples do.
        planted: `[N]`, True where the label was changed.
        others: Further rows by name, such as the loss and the gradient norm of each example.
        points: Shares at which recall is measured, from 1 / points to 1.

    Returns:
        `Curve` with a row for the method, "random" (its expectation) and the others; `areas` hold the area under the
        ROC curve. Cost: no model pass.

    Raises:
        ValueError: Unequal lengths, NaN, nothing planted or everything.

    Example:
        >>> import numpy as np
        >>> curve = mislabel_curve(np.array([3.0, 1.0, 2.0, 0.0]), np.array([True, False, False, False]), points=4)
        >>> curve.rows["method"].tolist(), curve.areas["method"]
        ([1.0, 1.0, 1.0, 1.0], 1.0)

    Source: Koh and Liang 2017, section 5.4; Pruthi et al. 2020, section 4.1.
    """
    check.count(points, "mislabel_curve", "points")
    others = {} if others is None else others
    if not isinstance(others, Mapping):
        raise TypeError(f"mislabel_curve: `others` is {check.short(others)}; pass name to values [N].")
    planted = np.asarray(planted)
    if planted.ndim != 1 or not 0 < np.count_nonzero(planted) < planted.size:
        raise ValueError(f"mislabel_curve: `planted` marks {np.count_nonzero(planted)} of {planted.size} examples.")
    planted = planted.astype(bool)
    shares = np.arange(1, points + 1) / points
    rows, areas = {"random": shares}, {"random": 0.5}
    for name, values in {"method": suspicion, **others}.items():
        check.finite(values, "mislabel_curve", "suspicion" if name == "method" else name)
        value = np.asarray(values, float)
        if value.shape != planted.shape:
            raise ValueError(f"mislabel_curve: `{name}` has shape {value.shape}, but `planted` {planted.shape}.")
        found = np.cumsum(planted[np.argsort(-value, kind="stable")]) / planted.sum()
        rows[name] = found[np.ceil(shares * planted.size).astype(int) - 1]
        place = ranks(value[:, None])[:, 0]
        positive, negative = planted.sum(), (~planted).sum()
        areas[name] = float((place[planted].sum() - positive * (positive - 1) / 2) / (positive * negative))
    beaten = tuple(name for name in rows if name != "method" and areas[name] >= areas["method"])
    return Curve(shares, rows, areas, beaten)


@public
def leave_out_curve(
    run: TrainingRun,
    queries: Any,
    influence: Influence,
    *,
    counts: Sequence[int] = (1, 4, 16),
    key: Array | None = None,
    batch_size: int = 1,
) -> Curve:
    """Train again without the examples that raise each query's score most: the better chosen, the more it falls.

    The value at a count is the mean over queries of score(without) - score(all).

    Args:
        run: What `train.training_run` returned.
        queries: `queries(params) -> scores [Q]`, those that `influence` is of.
        influence: What a method returned, `[Q, N]`.
        counts: How many examples are left out.
        key: PRNG key of the random row; None is jax.random.key(0).
        batch_size: Trainings side by side.

    Returns:
        `Curve` with rows "method", "random", "loss" and "gradient_norm" (of the training examples at the run's end: the
        largest are left out). `areas` are means over the counts: the lower, the better. Cost: Q trainings a count, and
        three.

    Raises:
        ValueError: Counts out of range, values of another shape.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.train import training_run, squared_error
        >>> data = (jnp.array([[1.0], [2.0]]), jnp.array([1.0, 0.5]))
        >>> run = training_run(lambda w, x: x @ w, jnp.zeros(1), data, key=jax.random.key(0), loss=squared_error)
        >>> found = Influence(jnp.array([[0.1, 0.3]]), None, "score", True, "by hand", {})
        >>> sorted(leave_out_curve(run, lambda w: w, found, counts=(1,)).rows)
        ['gradient_norm', 'loss', 'method', 'random']

    Source: Ilyas and Engstrom 2025, section 4; the rows beside it are those of Park et al. 2023, section 4.
    """
    sizes, orders, base = _removals(run, queries, influence, counts, key, "leave_out_curve")
    left = _without(run, queries, orders, sizes, batch_size)
    rows = {name: np.mean(scores - base[None], axis=1) for name, scores in left.items()}
    areas = {name: float(row.mean()) for name, row in rows.items()}
    beaten = tuple(name for name in rows if name != "method" and areas[name] <= areas["method"])
    return Curve(np.asarray(sizes), rows, areas, beaten)


@public
def counterfactual_curve(
    run: TrainingRun,
    queries: Any,
    influence: Influence,
    *,
    counts: Sequence[int] = (1, 4, 16),
    threshold: float = 0.0,
    key: Array | None = None,
    batch_size: int = 1,
) -> Curve:
    """Measure how few examples turn an answer: the share of queries whose score falls below a threshold without them.

    Only queries that stand above the threshold count: with `log_odds` or a margin, at 0, those whose answer is right.

    Args:
        run: As in `leave_out_curve`.
        queries: As in `leave_out_curve`; a score that is above `threshold` where the answer holds.
        influence: As in `leave_out_curve`.
        counts: As in `leave_out_curve`.
        threshold: In units of the score.
        key: As in `leave_out_curve`.
        batch_size: As in `leave_out_curve`.

    Returns:
        `Curve` with the rows of `leave_out_curve`; the higher, the better. Cost: as there.

    Raises:
        ValueError: As `leave_out_curve`; no query above the threshold.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.train import training_run, squared_error
        >>> data = (jnp.array([[1.0], [2.0]]), jnp.array([1.0, 0.5]))
        >>> run = training_run(lambda w, x: x @ w, jnp.zeros(1), data, key=jax.random.key(0), loss=squared_error)
        >>> found = Influence(jnp.array([[0.1, 0.3]]), None, "score", True, "by hand", {})
        >>> counterfactual_curve(run, lambda w: w, found, counts=(1,)).rows["method"].tolist()
        [0.0]

    Source: Ilyas et al. 2022, "Datamodels", section 4.1 (data support).
    """
    sizes, orders, base = _removals(run, queries, influence, counts, key, "counterfactual_curve")
    above = base > threshold
    if not above.any():
        raise ValueError(f"counterfactual_curve: no query's score is above the `threshold` {threshold}.")
    left = _without(run, queries, orders, sizes, batch_size)
    rows = {name: np.mean(scores[:, above] <= threshold, axis=1) for name, scores in left.items()}
    areas = {name: float(row.mean()) for name, row in rows.items()}
    beaten = tuple(name for name in rows if name != "method" and areas[name] >= areas["method"])
    return Curve(np.asarray(sizes), rows, areas, beaten)


def values_of(influence: Any, name: str, argument: str = "influence") -> np.ndarray:
    """The values `[Q, N]` of what a method returned, or as they are given."""
    values = influence.values if isinstance(influence, Influence) else influence
    check.arrays(values, name, argument)
    if np.ndim(values) != 2:
        raise ValueError(f"{name}: `{argument}` has shape {np.shape(values)}; its values have to be [Q, N].")
    check.finite(values, name, argument)
    return np.asarray(values, np.float64)


def _removals(run: TrainingRun, queries: Any, influence: Any, counts: Any, key: Any, name: str) -> Any:
    """Checked counts; the order of removal `[Q, N]` by each row; the scores after training on all, `[Q]`."""
    counts = [check.count(count, name, "counts") for count in np.atleast_1d(np.asarray(counts)).tolist()]
    if not counts or max(counts) >= run.count:
        raise ValueError(f"{name}: `counts` {counts} leave none of {run.count} training examples.")
    values = values_of(influence, name)
    size = checked_queries(queries, run.params, name)
    if values.shape != (size, run.count):
        raise ValueError(f"{name}: `influence` has shape {values.shape}; it has to be ({size}, {run.count}).")
    params = jax.jit(lambda run: run())(run)
    losses = _losses(run, params)
    norms = -np.asarray(self_influence(run.model, params, (run.data.inputs, run.data.targets), loss=run.loss))
    drawn = np.asarray(jax.random.normal(jax.random.key(0) if key is None else key, values.shape))
    keep = {"method": values, "random": drawn}
    keep |= {row: np.tile(value[None], (size, 1)) for row, value in (("loss", losses), ("gradient_norm", norms))}
    orders = {row: np.argsort(-value, axis=1, kind="stable") for row, value in keep.items()}
    return counts, orders, np.asarray(queries(params))


@jax.jit
def _all_losses(run: TrainingRun, params: Any) -> Array:
    outputs = run.model(params, *run.data.inputs)
    return jax.vmap(run.loss)(outputs, run.data.targets)


def _losses(run: TrainingRun, params: Any) -> np.ndarray:
    return np.asarray(_all_losses(run, params))


def _without(
    run: TrainingRun, queries: Any, orders: dict[str, np.ndarray], sizes: list[int], batch_size: int
) -> dict[str, np.ndarray]:
    """By row, each query's score after training without the first of its order, `[S, Q]`: all as one program."""
    weights = np.ones((len(orders), len(sizes), *next(iter(orders.values())).shape), bool)  # [rows, S, Q, N]
    for row, order in zip(weights, orders.values(), strict=True):
        for size, kept in zip(sizes, row, strict=True):
            np.put_along_axis(kept, order[:, :size], False, axis=1)
    distinct, back = np.unique(weights.reshape(-1, run.count), axis=0, return_inverse=True)
    scores = retrain(run, jnp.asarray(distinct) * run.data.weights[None], queries, batch_size=batch_size)
    places = back.reshape(weights.shape[:3]), np.arange(weights.shape[2])
    return dict(zip(orders, np.asarray(scores)[places], strict=True))
