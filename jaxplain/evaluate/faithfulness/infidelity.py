"""Infidelity: how far an attribution is from predicting the score's change under perturbations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.baseline import attribution_leaves
from jaxplain.evaluate.removal import Faithful, Task, settings
from jaxplain.program import chunked_map, public, setting, total, wide_dtype
from jaxplain.types import Array, Pytree

PERTURBATIONS = ("noise", "removal", "square")

SLOPES = (
    "only floating-point values have a slope. Pass shares=True with an attribution in units of the score, or x's own "
    "values there, so that they are held."
)


class Infidelity(Faithful):
    """The mean squared error of the predicted changes. Made by `infidelity`."""

    sigma: Any = 0.2
    perturbation: str = setting(default="noise")
    side: int = setting(default=4)
    shares: bool = setting(default=False)
    scaled: bool = setting(default=False)
    samples: int = setting(default=100)

    @property
    def draws(self) -> bool:
        """Always: the perturbations are drawn."""
        return True

    @property
    def removes(self) -> bool:
        """Whether another baseline is another way of removal."""
        return self.perturbation != "noise"

    @property
    def holds(self) -> str | None:
        """Slopes are of floating-point values; shares are of whatever is removed."""
        return None if self.shares else SLOPES

    def __call__(self, *inputs: Any) -> Array:
        """Judge one attribution: `m(key, x, attribution, *args)`."""
        task = Task(self, inputs)
        whole = task.score(task.x)
        slopes = [value for value, _ in attribution_leaves(task.attribution, task.x, task.given.numbers, self.name)]

        def point(sample: Array) -> tuple[Array, Array]:
            key = jax.random.fold_in(task.key, sample)
            if self.perturbation == "noise":
                moved = self._noisy(key, task)
                return self._product(slopes, task.x, moved), whole - task.score(moved)
            chosen, worth = self._chosen(key, task)
            moved = task.replaced(chosen)
            return (worth if self.shares else self._product(slopes, task.x, moved)), whole - task.score(moved)

        predicted, change = chunked_map(point, jnp.arange(self.samples), self.batch_size)
        if self.scaled:
            square = jnp.sum(predicted**2)
            predicted = predicted * jnp.where(
                square > 0, jnp.sum(predicted * change) / jnp.where(square > 0, square, 1.0), 0
            )
        return task.known(jnp.mean(jnp.square(predicted - change)))

    def _noisy(self, key: Array, task: Task) -> Pytree:
        leaves, structure = jax.tree.flatten(task.x)
        moved = []
        for index, leaf in enumerate(leaves):
            if check.is_floating(leaf):
                wide = wide_dtype(jnp.result_type(leaf))
                noise = jax.random.normal(jax.random.fold_in(key, index), jnp.shape(leaf), wide)
                leaf = (jnp.asarray(leaf, wide) - self.sigma * noise).astype(jnp.result_type(leaf))
            moved.append(leaf)
        return jax.tree.unflatten(structure, moved)

    def _chosen(self, key: Array, task: Task) -> tuple[list[Any], Array]:
        """Which values are removed (booleans for each leaf), and the attribution of the features they belong to."""
        relevance = jnp.where(task.valid, task.relevance, 0.0)
        if self.perturbation == "removal":
            chosen = jax.random.bernoulli(key, 0.5, (task.parts.slots,)) & task.valid
            return task.values(chosen), jnp.sum(jnp.where(chosen, relevance, 0.0))
        shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(task.x)]
        if len(shapes) != 1 or len(shapes[0]) not in (2, 3):
            raise ValueError(f"{self.name}: a square needs one image [H, W] or [H, W, C], but `x` has shapes {shapes}.")
        (shape,) = shapes
        inside = jnp.ones(shape[:2], bool)
        for axis, length in enumerate(shape[:2]):
            side = min(self.side, length)
            start = jax.random.randint(jax.random.fold_in(key, axis), (), 0, length - side + 1)
            along = (jnp.arange(length) >= start) & (jnp.arange(length) < start + side)
            inside = inside & jnp.expand_dims(along, 1 - axis)
        mask = jnp.broadcast_to(inside.reshape(inside.shape + (1,) * (len(shape) - 2)), shape)
        index = jnp.arange(inside.size).reshape(inside.shape)
        return [mask], jnp.sum(jnp.where(inside, relevance[index], 0.0))

    def _product(self, slopes: list[Array], x: Pytree, moved: Pytree) -> Array:
        """The perturbation times the attribution, a map's value counting for each of its pixel's channels."""
        products = []
        pairs = zip(jax.tree.leaves(x), jax.tree.leaves(moved), strict=True)
        for slope, (old, new) in zip(slopes, [p for p in pairs if check.is_floating(p[0])], strict=True):
            wide = wide_dtype(jnp.result_type(old))
            difference = jnp.asarray(old, wide) - jnp.asarray(new, wide)
            products.append(difference * slope.reshape(slope.shape + (1,) * (difference.ndim - slope.ndim)))
        return total(products)


@public
def infidelity(
    f: Callable[..., Any],
    *,
    perturbation: str = "noise",
    sigma: float = 0.2,
    side: int = 4,
    shares: bool = False,
    scaled: bool = False,
    samples: int = 100,
    baseline: Any = 0.0,
    batch_size: int | None = None,
    groups: Any = None,
) -> Infidelity:
    """How badly an attribution predicts the score: mean_s (I_s . a - (f(x) - f(x - I_s)))^2; lower is better.

    The perturbations I are 'noise' (N(0, sigma^2) in every value), 'removal' (each feature replaced by the baseline
    with probability 1/2) or 'square' (one square of an image replaced). The source reads the attribution as slopes, in
    units of the score per unit of the input, as a gradient is. With `shares=True` it is read as shares of the score, as
    integrated gradients or Shapley values are: the prediction is then the sum over the removed features of a_i, which
    is I . a for a divided by x - b.

    Args:
        f: As in `deletion`.
        perturbation: 'noise', 'removal' or 'square'.
        sigma: Standard deviation of the noise, in units of the input.
        side: Side of the square, in pixels; places are uniform among those where it fits whole.
        shares: Whether the attribution holds shares of the score; not with 'noise'.
        scaled: Whether the attribution is first multiplied by the one factor that fits best,
            mean((I . a)(f(x) - f(x - I))) / mean((I . a)^2); then a factor on the attribution does not matter, nor
            its sign.
        samples: How many perturbations.
        baseline: As in `deletion`, for 'removal' and 'square'.
        batch_size: How many perturbed inputs are scored at once; memory grows with it and not with `samples`. None
            takes what fills the device in `evaluate_batch`, and 1 elsewhere.
        groups: As in `deletion`, for 'removal'. A map `[H, W]` of slopes counts for every channel.

    Returns:
        `m(key, x, attribution, *args) -> infidelity`, one number, at least 0, in squared units of the score; 0 for the
        gradient of a linear score. Cost: `samples` + 1 forward passes.

    Raises:
        ValueError, TypeError: As in `deletion`; an unknown perturbation, `sigma` not positive, shares of noise, a
            square in anything but one array `[H, W]` or `[H, W, C]`, a call without key.

    Example:
        >>> w = jnp.array([1.0, -3.0, 2.0])
        >>> m = infidelity(lambda x: w @ x)
        >>> float(m(jax.random.key(0), jnp.ones(3), w)) < 1e-9
        True

    Source: Yeh et al. 2019, "On the (in)fidelity and sensitivity of explanations", Definition 2.1, and section 2.3 for
    the perturbations; the scaling is that of its experiments.
    """
    name = "infidelity"
    check.choice(perturbation, PERTURBATIONS, name, "perturbation")
    if shares and perturbation == "noise":
        raise ValueError(
            f"{name}: `shares` are of features that are removed; with perturbation='noise' pass slopes (the gradient), "
            "or use perturbation='removal'."
        )
    if perturbation == "square" and groups is not None:
        raise ValueError(f"{name}: a square removes pixels, not `groups`; use perturbation='removal' for those.")
    return Infidelity(
        **settings(name, f, baseline, groups, batch_size),
        sigma=check.one_number(sigma, name, "sigma"),
        perturbation=perturbation,
        side=check.count(side, name, "side"),
        shares=bool(shares),
        scaled=bool(scaled),
        samples=check.count(samples, name, "samples"),
    )
