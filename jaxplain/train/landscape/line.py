"""From one solution to another: along the straight line, and along a curve that is trained to keep the loss low."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxplain import check
from jaxplain.program import Function, chunked_map, public
from jaxplain.readout import cross_entropy
from jaxplain.train.fit import SGD, fit
from jaxplain.train.landscape.objective import mean_loss, moving, opened
from jaxplain.train.trainable import as_trainable
from jaxplain.types import Array, Pytree


class Interpolation(NamedTuple):
    """The loss on the way from one solution to another.

    position: `[P]`, from 0 (the first) to 1 (the second).
    loss: `[P]`, in units of the loss.
    barrier: How far the loss rises at most above the straight line between its values at the two ends, at least 0.
    bend: The params that the curve bends towards, or None of a straight line.
    """

    position: Any
    loss: Any
    barrier: Any
    bend: Pytree = None

    def __repr__(self) -> str:
        ends = self.loss[0], self.loss[-1]
        if not all(check.is_concrete(value) for value in (*ends, self.barrier)):
            return f"Interpolation({jnp.shape(self.loss)[0]} points)"
        low, high = (float(end) for end in ends)
        return f"Interpolation({len(self.loss)} points, {low:.3g} to {high:.3g}, barrier {float(self.barrier):.3g})"


def between(t: Any, first: Pytree, second: Pytree, model: Any, bend: Pytree = None) -> Pytree:
    """The params at a place of the line (with a bend: of the quadratic Bezier curve) between two solutions.

    What is not trained but has floating-point values, such as running averages, goes along the straight line; the rest
    is the first's.
    """
    (a, rest), (b, other) = model.partition(first), model.partition(second)
    if bend is None:
        return model.combine(_mixed((1 - t, t), (a, b)), _mixed((1 - t, t), (rest, other)))
    weights = (1 - t) ** 2, 2 * t * (1 - t), t**2
    return model.combine(_mixed(weights, (a, bend, b)), _mixed((1 - t, t), (rest, other)))


def _mixed(weights: tuple[Any, ...], trees: tuple[Pytree, ...]) -> Pytree:
    """A weighted sum, in float32 or wider, in the dtype of the first."""

    def mix(*leaves: Any) -> Any:
        if not check.is_floating(leaves[0]):
            return leaves[0]
        dtype = jnp.promote_types(jnp.result_type(leaves[0]), jnp.float32)
        parts = [jnp.asarray(w, dtype) * jnp.asarray(leaf, dtype) for w, leaf in zip(weights, leaves, strict=True)]
        return sum(parts[1:], parts[0]).astype(jnp.result_type(leaves[0]))

    return jax.tree.map(mix, *trees)


@public
def interpolation(
    objective: Callable[..., Any],
    first: Pytree,
    second: Pytree,
    *,
    points: int = 25,
    batch_size: int | None = None,
) -> Interpolation:
    """Evaluate the loss along the straight line between two solutions, theta = (1 - t) first + t second.

    The barrier is sup_t L(t) - ((1 - t) L(0) + t L(1)) over the points; two solutions whose barrier is about 0 are
    linearly connected. Running averages are interpolated, too, so that both ends are the solutions themselves.

    Args:
        objective: `mean_loss(apply, params, data)`, or any function `params -> scalar`.
        first: Params of one solution (or of the start of training).
        second: Params of another.
        points: How many, the ends counted, at least 2.
        batch_size: As in `loss_surface`.

    Returns:
        `Interpolation`. Cost: one evaluation of the objective for each point.

    Raises:
        TypeError: Integer params, an objective that is no function.
        ValueError: Params of different structures, NaN, too few points.

    Example:
        >>> import jax.numpy as jnp
        >>> found = interpolation(lambda w: (1 - w**2) ** 2, jnp.array(-1.0), jnp.array(1.0), points=3)
        >>> found.loss.tolist(), float(found.barrier)
        ([0.0, 1.0, 0.0], 1.0)

    Source: Goodfellow et al. 2015, "Qualitatively characterizing neural network optimization problems"; the
    barrier is that of Entezari et al. 2022, "The role of permutation invariance in linear mode connectivity of neural
    networks".
    """
    name = "interpolation"
    check.count(points, name, "points", 2)
    batch_size = check.at_once(batch_size, name)
    objective, model = opened(objective, first, name, "first")
    _same(model, first, second, name)
    return _along(objective, model, first, second, None, points=points, batch_size=batch_size)


def _same(model: Any, first: Pytree, second: Pytree, name: str) -> None:
    moving(model, second, name, "second")
    check.same_structure(second, first, name, "second", "first")
    check.finite(second, name, "second")


@functools.partial(jax.jit, static_argnames=("points", "batch_size"))
def _along(
    objective: Any, model: Any, first: Pytree, second: Pytree, bend: Pytree, *, points: int, batch_size: int | None
) -> Interpolation:
    position = jnp.linspace(0, 1, points)
    loss = chunked_map(lambda t: objective(between(t, first, second, model, bend)), position, batch_size)
    position = position.astype(loss.dtype)
    barrier = jnp.max(loss - ((1 - position) * loss[0] + position * loss[-1]))
    whole = None if bend is None else between(0.5, first, second, model, bend)
    if whole is not None:  # with the running averages of the middle
        whole = model.combine(bend, model.partition(whole)[1])
    return Interpolation(position, loss, jnp.maximum(barrier, 0), whole)


class _Curve(Function):
    """A model whose trained params are the bend of a curve; in training it runs at a random place of the curve."""

    model: Any
    first: Pytree
    second: Pytree

    def __call__(self, params: Pytree, *inputs: Any) -> Any:
        """Run the model in the middle of the curve."""
        return self.model(between(0.5, self.first, self.second, self.model, params), *inputs)

    def train(self, params: Pytree, inputs: tuple[Any, ...], key: Array) -> tuple[Any, Pytree]:
        """Run the model, in evaluation mode, at a place drawn evenly from the curve, one for the whole batch."""
        place = jax.random.uniform(key)
        return self.model(between(place, self.first, self.second, self.model, params), *inputs), params

    def partition(self, params: Pytree) -> tuple[Pytree, Pytree]:
        """The bend, and nothing."""
        return params, ()

    def combine(self, trained: Pytree, rest: Pytree) -> Pytree:
        """The bend again."""
        return trained

    def reseed(self, params: Pytree, key: Array) -> Pytree:
        """No random state: the bend as it is."""
        return params


@public
def mode_connectivity(
    apply: Callable[..., Any],
    first: Pytree,
    second: Pytree,
    data: Any,
    *,
    key: Array,
    loss: Callable[[Any, Any], Any] = cross_entropy,
    optimizer: optax.GradientTransformation = SGD,
    epochs: int = 10,
    batch_size: int = 32,
    points: int = 25,
) -> Interpolation:
    """Train a curve between two solutions along which the loss stays low, and evaluate it.

    The curve is quadratic, phi(t) = (1 - t)^2 first + 2 t (1 - t) bend + t^2 second. The bend starts half way between
    the solutions, and each step of training moves it down the loss of one batch at one t drawn evenly from 0 to 1. The
    model runs in evaluation mode; running averages go along the straight line (the source measures them anew).

    Args:
        apply: As in `fit`.
        first: Params of one solution.
        second: Params of another.
        data: `(inputs, targets)` arrays `[N, ...]`, as in `fit`; the loss is evaluated on them, too.
        key: PRNG key of the run.
        loss: As in `fit`.
        optimizer: As in `fit`.
        epochs: Passes over the data.
        batch_size: Examples in a step.
        points: Of the curve at which the loss is evaluated, the ends counted.

    Returns:
        `Interpolation` along the curve, with `bend`, params with which `plane_through(objective, first, second, bend)`
        holds the curve. Cost: that of `fit`, and one forward pass over the data for each point.

    Raises:
        TypeError: Integer params, batches from the host.
        ValueError: Params of different structures, NaN, as `fit`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x, y = jnp.ones((4, 1)), jnp.zeros(4, int)
        >>> apply = lambda w, x: x * w
        >>> ends = jnp.array([[1.0, 0.0]]), jnp.array([[2.0, 1.0]])
        >>> mode_connectivity(apply, *ends, (x, y), key=jax.random.key(0), epochs=1, points=3).bend.shape
        (1, 2)

    Source: Garipov et al. 2018, "Loss surfaces, mode connectivity, and fast ensembling of DNNs", section 3.
    """
    name = "mode_connectivity"
    check.count(points, name, "points", 2)
    model = as_trainable(apply)
    moving(model, first, name, "first")
    check.finite(first, name, "first")
    objective = mean_loss(apply, first, data, loss=loss)
    _same(model, first, second, name)
    middle = model.partition(between(0.5, first, second, model))[0]
    found = fit(
        _Curve(model, first, second), middle, data, key=key, loss=loss, optimizer=optimizer, epochs=epochs,
        batch_size=batch_size,
    )  # fmt: skip
    return _along(objective, model, first, second, found.params, points=points, batch_size=None)
