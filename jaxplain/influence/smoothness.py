"""Whether a derivative through training can be believed: metasmoothness, and predictions against retraining."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.influence.gradients import all_finite, name_bad_example
from jaxplain.influence.result import Influence
from jaxplain.program import as_function, public
from jaxplain.train import TrainingRun
from jaxplain.types import Array

SMOOTH = 0.9
"""Metasmoothness below which a derivative through training comes with a warning."""


@public
def metasmoothness(
    run: TrainingRun, *, key: Array, step_size: float = 0.5, fraction: float = 0.01, samples: int = 1
) -> Array:
    """Measure how smooth training is in its weights: the agreement in sign of two steps along one direction.

    With D(w) = theta_T(w + h v) - theta_T(w), the mean over parameters of sign D_j(w) sign D_j(w + h v), weighted by
    |D_j(w)| / |D(w)|_1: 1 where parameters go on as they began, 0 where what they do next has nothing to do with it.
    A direction v takes a random share of the examples away: -1 for them, 0 for the others.

    Args:
        run: What `train.training_run` returned.
        key: PRNG key of the directions.
        step_size: h, in weights; both steps together take the examples away at 1/2.
        fraction: The share of examples in a direction; at least one example.
        samples: Directions, over which the mean is taken.

    Returns:
        A number in [-1, 1]. Cost: two trainings a direction, and one.

    Raises:
        ValueError, TypeError: Settings out of range; no `TrainingRun`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxplain.train import training_run, squared_error
        >>> data = (jnp.array([[1.0], [2.0]]), jnp.array([1.0, 0.5]))
        >>> run = training_run(lambda w, x: x @ w, jnp.zeros(1), data, key=jax.random.key(0), loss=squared_error)
        >>> float(metasmoothness(run, key=jax.random.key(0)))
        1.0

    Source: Engstrom et al. 2025, "Optimizing ML training with metagradient descent", definition 2 (empirical
    metasmoothness).
    """
    check.positive(step_size, "metasmoothness", "step_size")
    check.count(samples, "metasmoothness", "samples")
    draws = leave_out(key, samples, run.count, fraction, "metasmoothness").astype(run.data.weights.dtype)
    found = jnp.mean(_metasmoothness(run, draws, jnp.asarray(step_size)))
    name_what_diverged(run, found, "metasmoothness")
    return found


@jax.jit
def _metasmoothness(run: TrainingRun, draws: Array, step_size: Array) -> Array:
    """Of each direction, given by the weights `[S, N]` that are 0 where an example goes."""
    weights = run.data.weights
    places = jnp.concatenate(
        [weights[None], *(weights[None] + k * step_size.astype(weights.dtype) * (draws - 1) for k in (1, 2))]
    )
    ends = jax.lax.map(lambda w: run.model.partition(run(w))[0], places)
    flat = jnp.concatenate([leaf.reshape(len(places), -1) for leaf in jax.tree.leaves(ends)], axis=1)
    count = draws.shape[0]
    first, second = flat[1 : count + 1] - flat[:1], flat[count + 1 :] - flat[1 : count + 1]
    size = jnp.abs(first)
    total = jnp.sum(size, axis=1)
    # An example that changes nothing at all (weight 0) leaves training as smooth as it is.
    return jnp.where(total == 0, 1.0, jnp.sum(size * jnp.sign(first) * jnp.sign(second), axis=1) / total)


def leave_out(key: Array, masks: int, count: int, fraction: float, name: str) -> Array:
    """Masks `[M, N]` of 0 and 1 that each leave out the same number of examples, drawn without replacement."""
    if not 0 < check.one_number(fraction, name, "fraction") < 1:
        raise ValueError(f"{name}: `fraction` is the share of examples left out, above 0 and below 1, not {fraction}.")
    out = max(1, round(fraction * count))
    if out >= count:
        raise ValueError(f"{name}: leaving out {fraction} of {count} training examples leaves none.")
    ranks = jax.vmap(lambda k: jax.random.permutation(k, count))(jax.random.split(key, masks))
    return (ranks >= out).astype(jnp.result_type(float))


@functools.partial(jax.jit, static_argnames=("batch_size",))
def train_all(run: TrainingRun, queries: Any, weights: Array, batch_size: int = 1) -> Array:
    """The query scores after training with each row of weights `[M, N]`: `[M, Q]`, `batch_size` trainings at once."""
    return jax.lax.map(lambda w: queries(run(w)), weights.astype(run.data.weights.dtype), batch_size=batch_size)


def name_what_diverged(run: TrainingRun, result: Any, name: str) -> None:
    """Of trainings that end in NaN, raise an error that names the example whose gradient is not finite at their start.

    Where there is none training itself diverged, as it may of some weights: NaN is its result.
    """
    if not all_finite(result):
        start = run.program().start(run.params, run.key).params
        name_bad_example(run.model, run.loss, start, run.data, name)


def run_checks(
    run: TrainingRun, queries: Any, found: Influence, key: Array, masks: int, fraction: float
) -> dict[str, Any]:
    """Metasmoothness, and correlation and slope of actual on predicted changes of the scores over held-out masks."""
    first, second = jax.random.split(key)
    smooth = float(metasmoothness(run, key=first, fraction=fraction))
    draws = leave_out(second, masks, run.count, fraction, "unrolled").astype(run.data.weights.dtype)
    weights = run.data.weights[None] * draws
    actual = train_all(run, as_function(queries), weights) - found.scores[None]
    predicted = (weights - run.data.weights[None]) @ found.values.T
    # Each query in units of its own largest change, so that all count alike.
    scale = jnp.max(jnp.abs(actual), axis=0, keepdims=True) + jnp.finfo(actual.dtype).tiny
    actual, predicted = (actual / scale).reshape(-1), (predicted / scale).reshape(-1)
    linearity = jnp.corrcoef(actual, predicted)[0, 1]
    slope = jnp.sum(actual * predicted) / jnp.sum(predicted**2)
    if not smooth >= SMOOTH:
        warnings.warn(
            f"unrolled: the run's metasmoothness is {smooth:.2f}, below {SMOOTH}: its derivative is exact, but says "
            f"little of a retraining without some examples (the correlation on {masks} held-out masks is "
            f"{float(linearity):.2f}). A larger batch, a smaller learning rate and smooth activations help.",
            UserWarning,
            stacklevel=4,
        )
    return {
        "metasmoothness": smooth,
        "linearity": float(linearity),
        "slope": float(slope),
        "masks": masks,
        "fraction": fraction,
    }
