"""Robustness: does the explanation stay where the input hardly changes?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxplain import check
from jaxplain.evaluate.metric import Metric
from jaxplain.program import as_function, chunked, map_floating, needs_key, public, setting, side_by_side, wide_dtype
from jaxplain.types import Array, Pytree

NORMS = ("l2", "l1", "linf")


class Around(Metric):
    """Base of the metrics that explain an input and its neighbours: `m(key, x, *args)`."""

    takes: ClassVar[tuple[str, ...]] = ("x", "*args")
    explain: Any
    radius: Any
    samples: int = setting(default=10)
    norm: str = setting(default="l2")
    batch_size: int | None = setting(default=None, points=True)
    name: str = setting(default="max_sensitivity")

    @property
    def needs_key(self) -> bool:
        """Always: the perturbations are drawn from the key."""
        return True

    def take(self, *inputs: Any) -> tuple[Array, Array, Pytree, tuple[Any, ...]]:
        """Check a call, and return the explanation's key, the draws' key, x and the further arguments."""
        key = check.needed_key(inputs, self.name, "m(key, x, *args)")
        if len(inputs) < 2:
            raise TypeError(f"{self.name}: it explains an input: m(key, x, *args).")
        x, *args = inputs[1:]
        check.differentiable(x, self.name)
        check.finite(x, self.name)
        return jax.random.fold_in(key, 0), jax.random.fold_in(key, 1), x, tuple(args)


class Sensitivity(Around):
    """The change of an explanation around an input. Made by the functions below."""

    relative: bool = setting(default=True)
    mean: bool = setting(default=False)
    per_distance: bool = setting(default=False)

    def __call__(self, *inputs: Any) -> Array:
        """Judge the explanation of one example: `m(key, x, *args)`."""
        own, draws, x, args = self.take(*inputs)
        centre = explained(self.explain, own, x, args, self.name)

        def change(index: Array) -> Array:
            point = perturb(jax.random.fold_in(draws, index), x, self.radius)
            moved = explained(self.explain, own, point, args, self.name)
            value = size([b - a for a, b in zip(centre, moved, strict=True)], self.norm)
            return value / size(moves(x, point), self.norm) if self.per_distance else value

        def fold(carry: Array, chunk: Array, mask: Array) -> Array:
            changes = jnp.where(mask, side_by_side(change, chunk), 0.0)
            return carry + changes.sum() if self.mean else jnp.maximum(carry, changes.max())

        scale = size(centre, self.norm)
        found = chunked(fold, jnp.zeros((), scale.dtype), jnp.arange(self.samples), self.batch_size)
        found = found / self.samples if self.mean else found
        return jnp.where(scale > 0, found / jnp.where(scale > 0, scale, 1.0), jnp.nan) if self.relative else found


def explained(e: Any, key: Any, x: Pytree, args: tuple[Any, ...], name: str) -> list[Array]:
    """The leaves of an explanation, in float32 or wider; a random one gets this key at every point."""
    a = e(key, x, *args) if needs_key(e) else e(x, *args)
    a = check.explanation(check.answered(a, "an explanation", "e"), x, name)
    check.real_leaves(a, name, "e(x)")
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(a)]
    return [leaf.astype(wide_dtype(leaf.dtype)) for leaf in leaves]


def moves(x: Pytree, point: Pytree) -> list[Array]:
    """How far each floating-point leaf has moved."""
    pairs = zip(jax.tree.leaves(x), jax.tree.leaves(point), strict=True)
    wide = [(jnp.asarray(a), jnp.asarray(b)) for a, b in pairs if check.is_floating(a)]
    return [b.astype(wide_dtype(b.dtype)) - a.astype(wide_dtype(a.dtype)) for a, b in wide]


def perturb(key: Array, x: Pytree, radius: Any) -> Pytree:
    """Add U(-radius, radius) to every value of the floating-point leaves, each leaf from a key of its own."""
    number = iter(range(len(jax.tree.leaves(x))))

    def shift(leaf: Any) -> Array:
        leaf = jnp.asarray(leaf)
        wide = wide_dtype(leaf.dtype)
        noise = jax.random.uniform(jax.random.fold_in(key, next(number)), leaf.shape, wide, -1.0, 1.0)
        return (leaf.astype(wide) + radius * noise).astype(leaf.dtype)

    return map_floating(shift, x)


def size(leaves: list[Array], norm: str) -> Array:
    """The norm of all values together; scaled by the largest, so that squares neither overflow nor vanish."""
    values = jnp.concatenate([jnp.abs(leaf).reshape(-1) for leaf in leaves])
    largest = values.max()
    if norm == "linf":
        return largest
    if norm == "l1":
        return values.sum()
    return largest * jnp.sqrt(jnp.sum(jnp.square(values / jnp.where(largest > 0, largest, 1.0))))


@public
def max_sensitivity(
    e: Callable[..., Any],
    *,
    radius: float,
    samples: int = 10,
    norm: str = "l2",
    relative: bool = True,
    batch_size: int | None = None,
) -> Sensitivity:
    """How much an explanation changes at most around an input: max_s |e(x + d_s) - e(x)| / |e(x)|; lower is better.

    The perturbations d_s are uniform in the cube |d|_inf <= radius; the maximum over samples is a lower bound of the
    source's maximum over the ball. The source's definition has no divisor; libraries in use divide by |e(x)|, as here
    unless `relative=False`. A random explanation gets one key at all points, so that only the
    input changes. A constant explanation has sensitivity 0: read this beside a faithfulness metric.

    Args:
        e: An explanation, `e(x, *args)` or, if random, `e(key, x, *args)`.
        radius: Half the width of the cube, in units of the input.
        samples: How many perturbations.
        norm: 'l2', 'l1' or 'linf', over all values of the attribution.
        relative: Whether to divide by |e(x)|; then NaN where e(x) is zero everywhere.
        batch_size: How many perturbed inputs are explained at once; memory grows with it and not with `samples`. None
            takes what fills the device in `evaluate_batch`, and 1 elsewhere.

    Returns:
        `m(key, x, *args) -> sensitivity`, one number, at least 0, without unit (in units of `e` if not `relative`).
        Floating-point leaves are perturbed, the others held fixed; sample s draws from a key of its own, so the
        result does not depend on `batch_size`. Cost: `samples` + 1 explanations.

    Raises:
        ValueError: `radius` not one positive number, `samples` or `batch_size` below 1, an unknown norm, NaN or
            infinities in a concrete `x`.
        TypeError: `x` has no floating-point leaf, `e` is no function.

    Example:
        >>> m = max_sensitivity(lambda x: 2 * jnp.ones_like(x), radius=0.1)
        >>> float(m(jax.random.key(0), jnp.array([1.0, 3.0])))
        0.0

    Source: Yeh et al. 2019, "On the (in)fidelity and sensitivity of explanations", Definition 3.1.
    """
    return _sensitivity("max_sensitivity", e, radius, samples, norm, batch_size, relative=bool(relative))


def _sensitivity(
    name: str, e: Any, radius: Any, samples: int, norm: str, batch_size: int | None, **kind: Any
) -> Sensitivity:
    return Sensitivity(**around(name, e, radius, samples, norm, batch_size), **kind)


def around(name: str, e: Any, radius: Any, samples: int, norm: str, batch_size: int | None) -> dict[str, Any]:
    """Check what all metrics around an input are given, as fields of `Around`."""
    if not callable(e):
        raise TypeError(f"{name}: `e` has to be an explanation e(x, *args), not {type(e).__name__}.")
    return {
        "explain": as_function(e),
        "radius": check.one_number(radius, name, "radius"),
        "samples": check.count(samples, name, "samples"),
        "norm": check.choice(norm, NORMS, name, "norm"),
        "batch_size": check.at_once(batch_size, name),
        "name": name,
    }


@public
def average_sensitivity(
    e: Callable[..., Any],
    *,
    radius: float,
    samples: int = 10,
    norm: str = "l2",
    relative: bool = True,
    batch_size: int | None = None,
) -> Sensitivity:
    """How much an explanation changes on average around an input: mean_s |e(x + d_s) - e(x)| / |e(x)|; lower is better.

    Args:
        e: As in `max_sensitivity`.
        radius: As in `max_sensitivity`.
        samples: As in `max_sensitivity`.
        norm: As in `max_sensitivity`.
        relative: As in `max_sensitivity`.
        batch_size: As in `max_sensitivity`.

    Returns:
        `m(key, x, *args) -> sensitivity`, as in `max_sensitivity`, of which it is a lower bound on the same draws.
        Cost: `samples` + 1 explanations.

    Raises:
        ValueError, TypeError: As in `max_sensitivity`.

    Example:
        >>> m = average_sensitivity(lambda x: 2 * jnp.ones_like(x), radius=0.1)
        >>> float(m(jax.random.key(0), jnp.array([1.0, 3.0])))
        0.0

    Source: Yeh et al. 2019, Definition 3.1, with the mean in the maximum's place; Bhatt, Weller and Moura 2020.
    """
    return _sensitivity("average_sensitivity", e, radius, samples, norm, batch_size, relative=bool(relative), mean=True)


@public
def local_lipschitz_estimate(
    e: Callable[..., Any], *, radius: float, samples: int = 10, norm: str = "l2", batch_size: int | None = None
) -> Sensitivity:
    """The steepest change of an explanation around an input: max_s |e(x + d_s) - e(x)| / |d_s|; lower is better.

    A lower bound of the local Lipschitz constant; it tends to it as `samples` grow and `radius` shrinks.

    Args:
        e: As in `max_sensitivity`.
        radius: As in `max_sensitivity`.
        samples: As in `max_sensitivity`.
        norm: As in `max_sensitivity`, for both differences.
        batch_size: As in `max_sensitivity`.

    Returns:
        `m(key, x, *args) -> estimate`, one number, at least 0, in units of `e` per unit of the input.
        Cost: `samples` + 1 explanations.

    Raises:
        ValueError, TypeError: As in `max_sensitivity`.

    Example:
        >>> m = local_lipschitz_estimate(lambda x: 5 * x, radius=0.5)
        >>> round(float(m(jax.random.key(0), jnp.array([1.0, 3.0]))), 4)
        5.0

    Source: Alvarez-Melis and Jaakkola 2018, "On the robustness of interpretability methods", equation 2.
    """
    return _sensitivity(
        "local_lipschitz_estimate", e, radius, samples, norm, batch_size, relative=False, per_distance=True
    )
