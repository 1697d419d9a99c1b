"""Values of training examples as players of a game: what a score gains by them, over all coalitions or drawn ones."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxplain import check
from jaxplain.influence.result import Influence, better_when_higher, checked_queries
from jaxplain.influence.smoothness import name_what_diverged, train_all
from jaxplain.program import as_function, public
from jaxplain.train import TrainingRun
from jaxplain.types import Array

EXACT = 12  # most examples of which all coalitions are trained


@public
def data_shapley(
    run: TrainingRun, queries: Any, *, samples: int | None = None, key: Array | None = None, batch_size: int = 1
) -> Influence:
    """Compute Shapley values of training examples: the mean gain of a score as example i joins, over all orders.

    v(S) is the score after training on the examples of S alone (weights 0 for the others, batches as they are). The
    values sum to v(all) - v(empty).

    Args:
        run: What `train.training_run` returned.
        queries: `queries(params) -> scores [Q]`.
        samples: Random orders; None is all coalitions, for at most 12 examples.
        key: PRNG key of the orders.
        batch_size: Trainings side by side.

    Returns:
        `Influence` with values `[Q, N]`, in units of the score, and checks `standard_error` `[Q, N]` (0 where exact),
        `empty` (v of no example) `[Q]`. Cost: 2^N trainings, or `samples` times N.

    Raises:
        ValueError: No `samples` for more than 12 examples, no `key` with `samples`; and as `retrain`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.train import training_run, squared_error
        >>> data = (jnp.array([[1.0], [2.0]]), jnp.array([1.0, 0.5]))
        >>> run = training_run(lambda w, x: x @ w, jnp.zeros(1), data, key=jax.random.key(0), loss=squared_error)
        >>> found = data_shapley(run, lambda w: w)
        >>> bool(jnp.allclose(found.values.sum(1), found.scores - found.checks["empty"]))
        True

    Source: Ghorbani and Zou 2019, "Data Shapley: equitable valuation of data for machine learning", equation 1.
    """
    return _semivalue(run, queries, (1.0, 1.0), samples, key, batch_size, "data_shapley")


@public
def beta_shapley(
    run: TrainingRun,
    queries: Any,
    *,
    alpha: float = 16.0,
    beta: float = 1.0,
    samples: int | None = None,
    key: Array | None = None,
    batch_size: int = 1,
) -> Influence:
    """Compute Beta(alpha, beta)-Shapley values: gains weighted by the size of the coalition that is joined.

    The weight of one coalition of s examples is B(s + beta, N - 1 - s + alpha) / B(alpha, beta): large alpha dwells on
    small coalitions, alpha = beta = 1 is Shapley's. The values do not sum to v(all) - v(empty).

    Args:
        run: As in `data_shapley`.
        queries: As in `data_shapley`.
        alpha: Positive.
        beta: Positive.
        samples: As in `data_shapley`.
        key: As in `data_shapley`.
        batch_size: As in `data_shapley`.

    Returns:
        As `data_shapley`.

    Raises:
        ValueError: As `data_shapley`; `alpha` or `beta` that is not positive.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.train import training_run, squared_error
        >>> data = (jnp.array([[1.0], [2.0]]), jnp.array([1.0, 0.5]))
        >>> run = training_run(lambda w, x: x @ w, jnp.zeros(1), data, key=jax.random.key(0), loss=squared_error)
        >>> beta_shapley(run, lambda w: w, alpha=4.0).values.shape
        (1, 2)

    Source: Kwon and Zou 2022, "Beta Shapley: a unified and noise-reduced data valuation framework", equation 5.
    """
    for name, value in (("alpha", alpha), ("beta", beta)):
        check.positive(value, "beta_shapley", name)
    return _semivalue(run, queries, (alpha, beta), samples, key, batch_size, "beta_shapley")


@public
def banzhaf(
    run: TrainingRun, queries: Any, *, samples: int | None = None, key: Array | None = None, batch_size: int = 1
) -> Influence:
    """Compute Banzhaf values: the mean gain of a score as example i joins, over all sets of the others alike.

    From drawn sets by maximum sample reuse: the mean score of the sets with i minus that of those without. The values
    do not sum to v(all) - v(empty).

    Args:
        run: As in `data_shapley`.
        queries: As in `data_shapley`.
        samples: Random sets, of which each example is in one half; None is all of them, for at most 12 examples.
        key: PRNG key of the sets.
        batch_size: Trainings side by side.

    Returns:
        As `data_shapley`. Cost: 2^N trainings, or `samples`.

    Raises:
        ValueError: As `data_shapley`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.train import training_run, squared_error
        >>> data = (jnp.array([[1.0], [2.0]]), jnp.array([1.0, 0.5]))
        >>> run = training_run(lambda w, x: x @ w, jnp.zeros(1), data, key=jax.random.key(0), loss=squared_error)
        >>> banzhaf(run, lambda w: w).values.shape
        (1, 2)

    Source: Wang and Jia 2023, "Data Banzhaf: a robust data valuation framework for machine learning", equations 3, 9.
    """
    count = _checked(run, queries, samples, key, batch_size, "banzhaf")
    if samples is None:
        masks = _all_masks(count)
    else:
        assert key is not None
        masks = np.asarray(jax.random.bernoulli(key, 0.5, (samples, count)), float)
        for example in np.flatnonzero((masks.sum(0) == 0) | (masks.sum(0) == samples)):
            raise ValueError(f"banzhaf: all or none of {samples} `samples` hold example {example}; draw more.")
    utilities, ends = _utilities(run, queries, masks, batch_size, "banzhaf")
    inside, outside = masks.sum(0), (1 - masks).sum(0)
    means = utilities.T @ masks / inside[None], utilities.T @ (1 - masks) / outside[None]
    squares = (utilities**2).T @ masks / inside[None], (utilities**2).T @ (1 - masks) / outside[None]
    spread = sum(
        np.maximum(square - mean**2, 0) / np.maximum(size - 1, 1)[None]
        for mean, square, size in zip(means, squares, (inside, outside), strict=True)
    )
    error = np.zeros_like(means[0]) if samples is None else np.sqrt(spread)
    return _influence(queries, means[0] - means[1], error, ends, samples, "banzhaf")


@public
def data_out_of_bag(
    run: TrainingRun, queries: Any, *, samples: int = 100, key: Array, batch_size: int = 1
) -> tuple[Array, Array]:
    """Value each training example by how well models do on it that were trained on bootstrap samples without it.

    Args:
        run: What `train.training_run` returned.
        queries: Scores of the training examples themselves, in their order: `query_scores(apply, training_data)`,
            `params -> [N]`.
        samples: Bootstrap samples; each leaves an example out with probability about 0.37.
        key: PRNG key of the samples.
        batch_size: Trainings side by side.

    Returns:
        The mean score of each example where it was out, `[N]` (NaN where it never was), and its standard error, `[N]`.
        Cost: `samples` trainings.

    Raises:
        ValueError: Queries that are not one for each training example.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.influence import query_scores
        >>> from jaxplain.train import training_run, squared_error
        >>> data, apply = (jnp.array([[1.0], [2.0]]), jnp.array([1.0, 0.5])), lambda w, x: x @ w
        >>> run = training_run(apply, jnp.zeros(1), data, key=jax.random.key(0), loss=squared_error)
        >>> scores = query_scores(apply, data, squared_error)
        >>> data_out_of_bag(run, scores, samples=8, key=jax.random.key(1))[0].shape
        (2,)

    Source: Kwon and Zou 2023, "Data-OOB: out-of-bag estimate as a simple and efficient data value", equation 3.
    """
    check.count(samples, "data_out_of_bag", "samples", least=2)
    count = _checked(run, queries, samples, key, batch_size, "data_out_of_bag")
    if checked_queries(queries, run.params, "data_out_of_bag") != count:
        raise ValueError(f"data_out_of_bag: `queries` has to score the {count} training examples, in their order.")
    draws = np.asarray(jax.random.randint(key, (samples, count), 0, count))
    counts = np.stack([np.bincount(row, minlength=count) for row in draws]).astype(float)
    scores, _ = _utilities(run, queries, counts, batch_size, "data_out_of_bag")
    out = (counts == 0).sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(counts == 0, scores, 0).sum(0) / out
        spread = np.where(counts == 0, (scores - mean[None]) ** 2, 0).sum(0) / (out - 1)
        return jnp.asarray(mean), jnp.asarray(np.sqrt(spread / out))


def _checked(run: TrainingRun, queries: Any, samples: int | None, key: Any, batch_size: int, name: str) -> int:
    check.count(batch_size, name, "batch_size")
    checked_queries(queries, run.params, name)
    if samples is None:
        if run.count > EXACT:
            raise ValueError(
                f"{name}: {run.count} training examples have 2^{run.count} coalitions; pass `samples=` and `key=`."
            )
    else:
        check.count(samples, name, "samples", least=2)
        if key is None:
            raise ValueError(f"{name}: `samples` are drawn and need `key=`, such as jax.random.key(0).")
    return run.count


def _utilities(
    run: TrainingRun, queries: Any, masks: np.ndarray, batch_size: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """The scores after training on each set, `[M, Q]`, and on none and on all examples, `[2, Q]`: as one program.

    A set that comes up again is trained once. The run's own weights hold in all.
    """
    ends = np.stack([np.zeros(run.count), np.ones(run.count)])
    distinct, back = np.unique(np.concatenate([ends, masks]), axis=0, return_inverse=True)
    weights = jnp.asarray(distinct, run.data.weights.dtype) * run.data.weights[None]
    found = train_all(run, as_function(queries), weights, min(batch_size, len(distinct)))
    name_what_diverged(run, found, name)
    scores = np.asarray(found, np.float64)[back.reshape(-1)]
    return scores[2:], scores[:2]


def _all_masks(count: int) -> np.ndarray:
    """All coalitions `[2^N, N]`; row m holds the bits of m."""
    return (np.arange(2**count)[:, None] >> np.arange(count)[None] & 1).astype(float)


def _size_weight(size: int, count: int, alpha: float, beta: float) -> float:
    """The weight of one coalition of a size that is joined: B(s + beta, N - 1 - s + alpha) / B(alpha, beta)."""

    def log_beta(a: float, b: float) -> float:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

    return math.exp(log_beta(size + beta, count - 1 - size + alpha) - log_beta(alpha, beta))


def _semivalue(
    run: TrainingRun, queries: Any, kind: tuple[float, float], samples: Any, key: Any, batch_size: int, name: str
) -> Influence:
    count = _checked(run, queries, samples, key, batch_size, name)
    weight = np.array([_size_weight(size, count, *kind) for size in range(count)])
    if samples is None:
        masks = _all_masks(count)
        utilities, ends = _utilities(run, queries, masks, batch_size, name)
        columns = []
        for example in range(count):
            without = np.flatnonzero(masks[:, example] == 0)
            gains = utilities[without + 2**example] - utilities[without]
            columns.append(weight[masks[without].sum(1).astype(int)] @ gains)
        values = np.stack(columns, axis=1)
        return _influence(queries, values, np.zeros_like(values), ends, samples, name)
    orders = np.stack([np.asarray(jax.random.permutation(k, count)) for k in jax.random.split(key, samples)])
    places = np.argsort(orders, axis=1)
    masks = (places[:, None, :] < np.arange(count + 1)[None, :, None]).reshape(-1, count).astype(float)
    utilities, ends = _utilities(run, queries, masks, batch_size, name)
    gains = np.diff(utilities.reshape(samples, count + 1, -1), axis=1)  # [S, place, Q]
    # At a place s an order draws one of C(N - 1, s) coalitions, and each example with probability 1 / N.
    share = weight * np.array([count * math.comb(count - 1, size) for size in range(count)])
    draws = np.take_along_axis(gains * share[None, :, None], places[:, :, None], axis=1)  # [S, N, Q]
    error = draws.std(axis=0, ddof=1) / math.sqrt(samples)
    return _influence(queries, draws.mean(axis=0).T, error.T, ends, samples, name)


def _influence(
    queries: Any, values: np.ndarray, error: np.ndarray, ends: np.ndarray, samples: Any, name: str
) -> Influence:
    checks = {"standard_error": jnp.asarray(error), "empty": jnp.asarray(ends[0]), "samples": samples}
    return Influence(jnp.asarray(values), jnp.asarray(ends[1]), "score", better_when_higher(queries), name, checks)
